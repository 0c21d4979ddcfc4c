// The bench in headless Chromium: `node tests/e2e/bench.mjs --json FILE`, through the page and its JavaScript API.
import { execFileSync } from "node:child_process";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KIT, ROOT, stage } from "./page.js";

const PROMPT = 128;
const DECODED = 32;
const folder = join(tmpdir(), "understudy-bench");
const random = (type) => join(folder, `random-135M-${type}.gguf`);
if (!existsSync(random("Q4_0")) || !existsSync(random("Q8_0"))) {
  execFileSync("cargo", ["run", "--release", "--quiet", "--example", "bench", "--", "--write", folder], { cwd: ROOT, stdio: "inherit" });
}
const students = [
  ["stories260K Q8_0", KIT && join(KIT, "models", "stories260K-ffn192-Q8_0.gguf")],
  ["bundled", join(ROOT, "school", "models", "understudy-pip.gguf")],
  ["random 135M Q4_0", random("Q4_0")],
  ["random 135M Q8_0", random("Q8_0")],
].filter(([, path]) => path);

const rows = [];
for (const [name, path] of students) {
  // A fresh browser each time: wasm memory never shrinks, and its peak is one of the numbers.
  const site = await stage();
  const page = await site.open({ hash: "" });
  page.setDefaultTimeout(600_000);
  const row = (measure, unit, value) => rows.push({ runner: "page", student: name, measure, unit, value });
  await page.evaluate(() => {
    const input = Object.assign(document.createElement("input"), { type: "file", id: "bench-file" });
    document.body.append(input);
  });
  await page.setInputFiles("#bench-file", path);
  const loaded = await page.evaluate(async () => {
    const file = document.querySelector("#bench-file").files[0];
    const { Understudy } = window.understudy;
    const started = performance.now();
    const student = (window.bench = await Understudy.load(file, { context: 512 }));
    const seconds = (performance.now() - started) / 1000;
    return { seconds, memory: (await student.measure()).memory };
  });
  // The time includes starting a worker of its own: about a second on a software adapter.
  row("load", "MB/s", statSync(path).size / 1e6 / loaded.seconds);
  row("wasm memory after load", "MiB", loaded.memory / 2 ** 20);
  const timed = await page.evaluate(async ({ prompt, decoded }) => {
    const student = window.bench;
    // A prompt of at least `prompt` tokens whatever the vocabulary.
    const text = "a b c d e f g h i j ".repeat(Math.ceil(prompt / 10)).slice(0, 2 * prompt);
    const run = () => student.completions.create({ prompt: text, max_tokens: decoded, temperature: 0, ignore_eos: true });
    await run();
    const before = await student.measure();
    const other = await student.completions.create({ prompt: `z ${text}`, max_tokens: decoded, temperature: 0, ignore_eos: true });
    const after = await student.measure();
    const used = Object.fromEntries(Object.entries(after.counts).map(([key, value]) => [key, value - before.counts[key]]));
    return { timings: other.timings, usage: other.usage, used };
  }, { prompt: PROMPT, decoded: DECODED });
  row("prefill", "tokens/s", timed.timings.prompt_per_second);
  row("decode", "tokens/s", timed.timings.predicted_per_second);
  // One submission is the prefill's; everything else is decoding.
  row("submissions a token", "count", timed.used.submissions / DECODED);
  row("bind groups a token", "count", timed.used.bind_groups / DECODED);
  row("buffers a token", "count", timed.used.buffers / DECODED);
  console.error(`${name}: ${JSON.stringify(timed)}`);
  await site.close();
}
const at = process.argv.indexOf("--json");
if (at > 0) writeFileSync(process.argv[at + 1], JSON.stringify(rows, null, 2));
else console.log(JSON.stringify(rows, null, 2));
