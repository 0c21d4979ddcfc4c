// Teaching as a person does it in the page: traces in, report, preview, settings, training, verdict, an adapter that is kept;
// and what may go wrong on the way. With the bundled student, its small sample traces, and nothing else.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { DIST, answered, poorContrast, stage } from "./page.js";

const SLOW = { timeout: 600_000 };
/** On a software adapter the CPU engine is the quicker one; what is about the page and not about the device uses it. */
const QUICK = { hash: "#gpu=off" };
const sample = (name, rows) => readFileSync(join(DIST, "www", "samples", name), "utf8").split("\n").slice(0, rows).join("\n");
const file = (name, text) => ({ name, mimeType: "application/jsonl", buffer: Buffer.from(text) });

/** Two dozen rows with the teacher's probabilities: requests, and the answers to them. */
const soft = () => [file("few-requests.jsonl", sample("desk-requests.jsonl", 24)), file("few-batch.jsonl", sample("desk-batch.jsonl", 24))];
const text = (rows = 24) => [file("few.jsonl", sample("desk-sharegpt.jsonl", rows))];

const shown = (page, id) => page.waitForSelector(`#${id}:not([hidden])`, SLOW);

/** Opens the Teach view and drops files into it, as far as the settings. */
async function read(page, files) {
  await page.click("#show-teach");
  await page.setInputFiles("#trace-files", files);
  await shown(page, "teach-settings");
  await page.waitForFunction(() => !document.getElementById("start-teaching").disabled, null, SLOW);
}

/** @param {Record<string, string>} settings by the ids of their fields */
async function set(page, settings) {
  await page.evaluate(() => (document.querySelector("#teach-form details").open = true));
  for (const [name, value] of Object.entries(settings)) await page.fill(`#set-${name}`, value);
  await page.waitForFunction(() => !document.getElementById("start-teaching").disabled, null, SLOW);
}

const tile = (page, root, term) => page.locator(`#${root} .tile`, { hasText: term }).locator("dd").first().innerText();
const stepOf = async (page) => Number((await tile(page, "run-numbers", "Step")).split(" ")[0].replace(",", ""));
const reach = (page, step) => page.waitForFunction((step) => {
  const reports = [...document.querySelectorAll("#run-numbers .tile")].find((tile) => tile.textContent.startsWith("Step"))?.querySelector("dd").textContent ?? "0";
  return Number(reports.split(" ")[0].replace(",", "")) >= step;
}, step, SLOW);

describe("teaching", () => {
  let site;
  before(async () => (site = await stage()));
  after(() => site.close());

  test("takes a new user from traces to an adapter that is kept, without a request", SLOW, async (t) => {
    const page = await site.open();
    await read(page, soft());
    assert.equal(await tile(page, "report-facts", "Rows"), "24");
    assert.equal(await tile(page, "report-facts", "Rejected"), "0");
    assert.ok(parseFloat(await tile(page, "report-facts", "Soft labels")) > 40);
    assert.match(await page.locator("#report-words").innerText(), /24/);

    // The preview, by mouse and by keyboard.
    const trained = page.locator("#preview .token.trained");
    assert.ok((await trained.count()) > 10);
    await page.locator('#preview .token.trained[aria-label*="probability"]').first().hover();
    assert.match(await page.locator("#preview .token-detail").innerText(), /the teacher gives it .* %/);
    await trained.first().focus();
    await page.keyboard.press("ArrowRight");
    assert.equal(await page.evaluate(() => document.activeElement.dataset.number), await trained.nth(1).getAttribute("data-number"));
    await page.click("#preview button:has-text('Next')");
    await page.waitForFunction(() => document.querySelector("#preview .quiet").textContent.startsWith("Row 2 of"));

    // A plan that cannot be, and one that can.
    await set(page, { steps: "8", batch: "4", hold_out: "0.2" });
    assert.match(await page.locator("#teach-plan").innerText(), /rows are taught/);
    await page.fill("#set-steps", "0");
    await page.waitForFunction(() => document.getElementById("start-teaching").disabled);
    assert.match(await page.locator("#teach-plan").innerText(), /out of its range/);
    await set(page, { steps: "8" });

    const requests = site.server.requests.length;
    const connections = site.server.connections;
    await page.click("#start-teaching");
    await shown(page, "teach-verdict");
    assert.match(await tile(page, "run-numbers", "Step"), /^8 of 8/);
    assert.equal(await page.locator("#curves .curve:visible").count(), 4);
    const reports = await page.evaluate(() => window.understudy.teaching.current.reports.map(({ step, loss, held_out: held }) => ({ step, loss, ce: held?.ce })));
    assert.deepEqual(reports.map(({ step }) => step), [1, 2, 3, 4, 5, 6, 7, 8]);
    const { held_out: held } = await page.evaluate(() => window.understudy.teaching.lastVerdict);
    t.diagnostic(`held-out loss ${held.before.ce.toFixed(3)} before, ${held.after.ce.toFixed(3)} after`);
    assert.ok(held.after.ce < held.before.ce, "the held-out loss falls");
    assert.ok(reports.at(-1).loss < reports[0].loss, "the training loss falls");
    assert.match(await page.locator("#verdict").innerText(), /Held-out rows: \d+ that were never taught.*Forgetting: \d+ everyday rows/s);

    // Side by side, and token by token.
    await page.waitForFunction(() => /answered greedily/.test(document.querySelector("#answers .quiet")?.textContent ?? ""), null, SLOW);
    assert.ok((await page.locator("#answers .pair").count()) >= 1);
    assert.equal(await page.evaluate(() => window.understudy.student.adapters.length), 0, "the draft does not stay");
    await page.locator("#insight .token.trained").first().hover();
    assert.match(await page.locator("#insight .token-detail").innerText(), /the student/);

    // Kept, attached, and checked.
    await page.fill("#adapter-name", "Desk, briefly");
    await page.fill("#teacher-name", "Understudy Lead");
    await page.fill("#teacher-terms", "MIT OR Apache-2.0");
    await page.click("#keep-adapter");
    await page.waitForFunction(() => /is saved|Not saved/.test(document.getElementById("keep-words").textContent), null, SLOW);
    assert.match(await page.locator("#keep-words").innerText(), /Desk, briefly is saved .* agrees with the training/);
    assert.match(await page.locator("#adapters li").innerText(), /Desk, briefly/);
    assert.deepEqual(site.server.requests.slice(requests), [], "no request during all of it");
    assert.equal(site.server.connections, connections);

    // Files to take away.
    const saved = {};
    for (const button of await page.locator("#keep-files button").all()) {
      const [download] = await Promise.all([page.waitForEvent("download"), button.click()]);
      saved[download.suggestedFilename()] = readFileSync(await download.path());
    }
    assert.deepEqual(Object.keys(saved), ["desk-briefly.gguf", "desk-briefly-peft.zip", "desk-briefly-card.json"]);
    assert.equal(saved["desk-briefly.gguf"].toString("latin1", 0, 4), "GGUF");
    assert.equal(saved["desk-briefly-peft.zip"].toString("latin1", 0, 2), "PK");
    for (const name of ["adapter_config.json", "adapter_model.safetensors"]) assert.ok(saved["desk-briefly-peft.zip"].includes(name), name);
    assert.match(saved["desk-briefly-card.json"].toString(), /Understudy Lead/);

    // In the chat, on and off.
    await page.click("#show-chat");
    await page.fill("#prompt", "Hello.");
    await page.press("#prompt", "Enter");
    assert.ok((await answered(page, 1)).length > 0);
    const scale = () => page.evaluate(() => window.understudy.student.adapters[0].scale);
    await page.click("#adapters .switch");
    await page.waitForFunction(() => window.understudy.student.adapters[0].scale === 0);
    await page.click("#adapters .switch");
    await page.waitForFunction(() => window.understudy.student.adapters[0].scale === 1);
    await page.fill("#adapters input[type=range]", "1.5");
    await page.dispatchEvent("#adapters input[type=range]", "change");
    await page.waitForFunction(() => window.understudy.student.adapters[0].scale === 1.5);
    await page.waitForFunction(() => import("/www/adapters.js").then(({ list }) => list()).then(([kept]) => kept?.scale === 1.5));

    // It is there again after a reload, at its scale; detached it stays in the list; another student does not get it.
    await page.reload();
    await page.waitForSelector("#adapters li");
    assert.equal(await scale(), 1.5);
    await page.click("#adapters button:has-text('Detach')");
    await page.waitForFunction(() => document.querySelectorAll("#adapters li").length === 0);
    await page.click("#kept-adapters button:has-text('Attach')");
    await page.waitForSelector("#adapters li");
    await page.click("#students button:has-text('Open')");
    await page.waitForFunction(() => /Lead/.test(document.getElementById("current").textContent));
    await page.waitForFunction(() => [...document.querySelectorAll(".notice")].some((node) => /Desk, briefly stays with the student before/.test(node.textContent)));
    assert.equal(await page.locator("#adapters li").count(), 0);
    await page.click("#students button:has-text('Open')");
    await page.waitForSelector("#adapters li");
    await page.click("#kept-adapters button:has-text('Delete')");
    await page.click("#kept-adapters button:has-text('Keep')");
    await page.click("#kept-adapters button:has-text('Delete')");
    await page.click("#kept-adapters button:has-text('Delete')");
    await page.waitForFunction(() => document.querySelectorAll("#kept-adapters li").length === 0 && document.querySelectorAll("#adapters li").length === 0);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("pauses, goes on, chats meanwhile, and goes on after the page was closed in the middle of it", SLOW, async () => {
    const page = await site.open(QUICK);
    await read(page, text());
    await set(page, { steps: "400", batch: "2" });
    await page.click("#start-teaching");
    await reach(page, 2);
    await page.click("#run-pause");
    await page.waitForFunction(() => document.getElementById("run-pause").textContent === "Go on", null, SLOW);
    assert.match(await page.locator("#run-words").innerText(), /Paused after step/);
    assert.match(await page.locator("#show-teach").innerText(), /paused/);
    const paused = await stepOf(page);
    await page.click("#show-chat");
    await page.fill("#prompt", "Hello.");
    await page.press("#prompt", "Enter");
    await answered(page, 1);
    await page.click("#show-teach");
    assert.equal(await stepOf(page), paused, "paused is paused");
    await page.click("#run-pause");
    // Chat while it trains.
    await page.click("#show-chat");
    await page.fill("#prompt", "What is 2 + 3?");
    await page.press("#prompt", "Enter");
    assert.ok((await answered(page, 2)).length > 0);
    await page.click("#show-teach");
    await reach(page, paused + 6);
    const context = page.context();
    await page.close({ runBeforeUnload: false });

    const again = await site.open({ ...QUICK, context });
    await again.waitForFunction(() => /unfinished/.test(document.getElementById("show-teach").textContent), null, SLOW);
    await again.click("#show-teach");
    const words = await again.locator("#continue-go").innerText();
    assert.match(words, /^Continue the training from step \d+$/);
    const from = Number(words.match(/\d+/)[0]);
    assert.ok(from >= paused, `${from} is at or behind the checkpoint of the pause, ${paused}`);
    await again.click("#continue-go");
    await reach(again, from + 2);
    const steps = await again.evaluate(() => window.understudy.teaching.current.reports.map(({ step }) => step));
    assert.deepEqual(steps, steps.map((_, at) => at + 1), "one curve from the first step on");
    await again.click("#run-stop");
    await shown(again, "teach-verdict");
    assert.match(await again.locator("#run-words").innerText(), /Stopped after step \d+/);
    await again.click("#teach-again");
    await again.waitForFunction(() => document.getElementById("teach-run").hidden);
    await again.reload();
    await again.waitForSelector("html[data-ready]");
    assert.equal(await again.locator("#continue").isVisible(), false, "what was thrown away is not offered again");
    assert.deepEqual([...page.problems, ...again.problems], []);
    await context.close();
  });

  /** Six steps by the API, and what is done after the third. */
  const curve = (page, what) => page.evaluate(async ({ rows, what }) => {
    const teaching = await window.understudy.student.teaching();
    const kinds = [];
    teaching.addEventListener("notice", ({ detail }) => kinds.push(detail.kind));
    await teaching.read(new File([rows], "few.jsonl"));
    const generic = [[{ role: "user", content: "Hello." }, { role: "assistant", content: "Hello!" }]];
    const run = teaching.run({ ...(await teaching.defaults()), steps: 6, batch: 2 }, { every: 2, measure: 6, generic });
    let done = false;
    for await (const { step } of run) {
      if (step !== 3 || done) continue;
      done = true;
      if (what === "loss") await teaching.destroyDevice();
      if (what === "crash") teaching.crash("a test");
    }
    teaching.close();
    return { kinds, state: run.state, reports: run.reports.map(({ step, loss }) => [step, loss]) };
  }, { rows: sample("desk-sharegpt.jsonl", 12), what });

  for (const [name, what, options, kinds] of [
    ["the device was lost", "loss", {}, ["device-lost", "device-rebuilt"]],
    ["the trainer crashed", "crash", QUICK, ["engine-crashed", "engine-restarted"]],
  ]) {
    test(`goes on with the same curve after ${name} in the middle of it`, SLOW, async () => {
      const page = await site.open(options);
      const calm = await curve(page, "");
      const rough = await curve(page, what);
      assert.equal(rough.state, "finished");
      for (const kind of kinds) assert.ok(rough.kinds.includes(kind), rough.kinds.join());
      assert.deepEqual(rough.reports.map(([step]) => step), [1, 2, 3, 4, 5, 6]);
      for (const [at, [, loss]] of rough.reports.entries()) assert.ok(Math.abs(loss - calm.reports[at][1]) <= 1e-3 * calm.reports[at][1], `step ${at + 1}: ${loss} and ${calm.reports[at][1]}`);
      await page.context().close();
    });
  }

  test("says in the page that a device was lost, and trains on", SLOW, async () => {
    const page = await site.open();
    await read(page, text(16));
    await set(page, { steps: "12", batch: "2" });
    await page.click("#start-teaching");
    await reach(page, 2);
    await page.evaluate(() => window.understudy.teaching.destroyDevice());
    await page.waitForSelector('.notice[data-code="device-lost"]');
    await shown(page, "teach-verdict");
    const steps = await page.evaluate(() => window.understudy.teaching.current.reports.map(({ step }) => step));
    assert.deepEqual(steps, Array.from({ length: 12 }, (_, at) => at + 1));
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("is one call for a developer", SLOW, async () => {
    const page = await site.open(QUICK);
    const result = await page.evaluate(async (rows) => {
      const { student } = window.understudy;
      const distillation = student.distill(new Blob([rows]), { settings: { steps: 4, batch: 2 }, about: { name: "By call" } });
      const steps = [];
      for await (const { step, loss } of distillation) steps.push([step, loss]);
      const adapter = await student.attach(distillation.adapter);
      const ids = await student.tokenize("Hello");
      const logits = await student.logits(ids);
      await adapter.detach();
      const wrong = await (async () => {
        for await (const _ of student.distill(/** @type {any} */ ("not a file")));
      })().catch((error) => error.code);
      return { steps, rows: distillation.report.lessons, verdict: Object.keys(distillation.verdict), name: adapter.name, finite: logits.every(Number.isFinite), wrong };
    }, sample("desk-sharegpt.jsonl", 12));
    assert.deepEqual(result.steps.map(([step]) => step), [1, 2, 3, 4]);
    assert.ok(result.steps.every(([, loss]) => Number.isFinite(loss)));
    assert.equal(result.rows, 12);
    assert.ok(result.verdict.includes("held_out") && result.verdict.includes("forgetting"));
    assert.equal(result.finite, true);
    assert.equal(result.wrong, "bad-request");
    await page.context().close();
  });

  test("lists bad lines with their reasons and teaches from the good ones", SLOW, async () => {
    const page = await site.open(QUICK);
    await read(page, [file("mixed.jsonl", `${sample("desk-sharegpt.jsonl", 6)}\nthis is not JSON\n{"messages":[{"role":"user","content":"no answer"}]}\n${sample("desk-sharegpt.jsonl", 12).split("\n").slice(6).join("\n")}`)]);
    assert.equal(await tile(page, "report-facts", "Rows"), "12");
    assert.equal(await tile(page, "report-facts", "Rejected"), "2");
    await page.click("#report-lists summary");
    const list = await page.locator("#report-lists li").allInnerTexts();
    assert.match(list[0], /^line 7 .*JSON/);
    assert.match(list[1], /^line 8 /);
    await page.context().close();
  });

  test("says what is wrong with files that teach nothing, and goes on", SLOW, async () => {
    const page = await site.open(QUICK);
    await page.click("#show-teach");
    for (const [name, files] of [
      ["empty", [file("empty.jsonl", "")]],
      ["a picture", [{ name: "picture.jsonl", mimeType: "image/png", buffer: Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0, 0, 13, 255, 254, 0]) }]],
      ["requests without their answers", [file("requests.jsonl", sample("desk-requests.jsonl", 5))]],
      ["JSON of another kind", [file("other.jsonl", '{"price": 3}\n{"price": 4}\n')]],
    ]) {
      await page.setInputFiles("#trace-files", files);
      const notice = page.locator(".notice.error");
      await notice.first().waitFor(SLOW);
      assert.match(await notice.first().innerText(), /nothing to teach from.*(Choose|sample)/s, name);
      assert.equal(await page.locator("#teach-settings").isVisible(), false, name);
      assert.ok(!/undefined|NaN|null/.test(await page.locator("#teach-report").innerText()), name);
      await notice.first().locator("button").click();
    }
    await page.setInputFiles("#trace-files", text(8));
    await shown(page, "teach-settings");
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("trains on when the disk is full, and says so once", SLOW, async () => {
    const page = await site.open(QUICK);
    await read(page, text(16));
    await set(page, { steps: "400", batch: "2" });
    await page.click("#start-teaching");
    await reach(page, 1);
    const devtools = await page.context().newCDPSession(page);
    await devtools.send("Storage.overrideQuotaForOrigin", { origin: site.server.origin, quotaSize: 1 });
    await page.waitForSelector('.notice[data-code="not-kept"]', SLOW);
    assert.match(await page.locator('.notice[data-code="not-kept"]').innerText(), /checkpoint of step \d+ was not kept: .*full.*Training goes on/s);
    const step = await stepOf(page);
    await reach(page, step + 8);
    assert.equal(await page.locator('.notice[data-code="not-kept"]').count(), 1);
    await devtools.send("Storage.overrideQuotaForOrigin", { origin: site.server.origin });
    await page.click("#run-stop");
    await shown(page, "teach-verdict");
    await page.context().close();
  });

  test("fits any width, is readable, and names every control", SLOW, async () => {
    const page = await site.open(QUICK);
    await read(page, soft());
    await set(page, { steps: "3", batch: "2" });
    await page.click("#start-teaching");
    await shown(page, "teach-verdict");
    await page.waitForFunction(() => /answered greedily/.test(document.querySelector("#answers .quiet")?.textContent ?? ""), null, SLOW);
    await page.evaluate(() => document.querySelectorAll("details").forEach((node) => (node.open = true)));
    await page.evaluate(() => document.querySelector("#insight .token.trained").focus());
    const found = await page.evaluate(() => {
      const named = (node) => (node.ariaLabel || node.labels?.[0]?.textContent || node.textContent || "").trim();
      return {
        nameless: [...document.querySelectorAll("button, input, select, textarea, meter, progress")].filter((node) => !named(node) && !node.title).map((node) => node.outerHTML),
        doubles: [...document.querySelectorAll("[id]")].map((node) => node.id).filter((id, at, all) => all.indexOf(id) !== at),
      };
    });
    assert.deepEqual(found, { nameless: [], doubles: [] });
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      assert.deepEqual(await poorContrast(page), [], colorScheme);
    }
    for (const width of [320, 375, 768, 1280]) {
      await page.setViewportSize({ width, height: 740 });
      await page.waitForTimeout(200);
      const over = await page.evaluate(() => {
        const teach = document.getElementById("teach");
        return [document.documentElement.scrollWidth - innerWidth, teach.scrollWidth - teach.clientWidth];
      });
      assert.ok(over.every((by) => by <= 0), `${width} px: ${over}`);
    }
    await page.context().close();
  });
});
