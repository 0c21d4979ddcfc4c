// Adapters in the page: the kit's, by the API and by the file picker. Skipped by name where the kit is absent.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { KIT, ask, model, needsKit, openFile, readNpy, stage } from "./page.js";

const lora = (name) => join(KIT, "lora", name);

describe("adapters", needsKit(), () => {
  let site, page;
  before(async () => {
    site = await stage();
    page = await site.open();
    await page.uncheck("#keep");
  });
  after(() => site?.close());

  test("change the logits as the reference says, at any scale, and survive a lost device", async (t) => {
    assert.equal(await openFile(page, model("qwen2-Q8_0.gguf")), "");
    const rows = JSON.parse(readFileSync(lora("manifest.json"), "utf8")).filter((row) => row.model === "qwen2-Q8_0.gguf");
    const bytes = Array.from(readFileSync(lora("qwen2-lora-r8-f32.gguf")));
    const ids = [...rows[0].tokens, ...rows[0].greedy];
    const plain = await page.evaluate(async (ids) => Array.from(await window.understudy.student.logits(ids)), ids);
    await page.evaluate(async (bytes) => {
      window.adapter = await window.understudy.student.attach(new Uint8Array(bytes), { scale: 0.25 });
    }, bytes);
    for (const lost of [false, true]) {
      for (const row of rows) {
        const ids = [...row.tokens, ...row.greedy];
        if (lost) await page.evaluate(() => window.understudy.student.destroyDevice());
        const got = await page.evaluate(async ({ ids, scale }) => {
          await window.adapter.setScale(scale);
          return Array.from(await window.understudy.student.logits(ids));
        }, { ids, scale: row.scale });
        const want = readNpy(lora(row.logits));
        assert.equal(got.length, want.data.length);
        const worst = got.reduce((most, value, i) => Math.max(most, Number.isNaN(value) ? Infinity : Math.abs(value - want.data[i])), 0);
        t.diagnostic(`scale ${row.scale}${lost ? ", after a lost device" : ""}: max abs error ${worst.toExponential(2)}`);
        assert.ok(worst < 2e-4);
      }
    }
    const again = await page.evaluate(async (ids) => {
      await window.adapter.detach();
      return { left: window.understudy.student.adapters.length, logits: Array.from(await window.understudy.student.logits(ids)) };
    }, ids);
    assert.equal(again.left, 0);
    assert.deepEqual(again.logits, plain);
  });

  test("are opened like a student, listed with a scale, and taken away", async () => {
    assert.equal(await openFile(page, model("qwen2-Q8_0.gguf")), "");
    const words = () => page.evaluate(() => window.understudy.student.chat.completions.create({ messages: [{ role: "user", content: "Hello" }], max_tokens: 8, temperature: 0 }).then((result) => Array.from(result.ids)));
    const plain = await words();
    await page.setInputFiles("#file", lora("qwen2-lora-r8-f16.gguf"));
    await page.waitForSelector("#adapters li");
    assert.match(await page.locator("#adapters li").innerText(), /rank 8 on 14 matrices/);
    assert.match(await page.locator("#status").innerText(), /is attached/);
    const changed = await words();
    assert.notDeepEqual(changed, plain);
    await page.fill("#adapters input", "0");
    await page.dispatchEvent("#adapters input", "change");
    await page.waitForFunction(() => window.understudy.student.adapters[0].scale === 0);
    assert.match(await page.locator("#adapters output").innerText(), /off/);
    assert.deepEqual(await words(), plain);
    await page.click("#adapters button");
    await page.waitForFunction(() => document.querySelectorAll("#adapters li").length === 0);
    assert.deepEqual(await words(), plain);
    assert.deepEqual(page.problems, []);
  });

  test("for another student are refused in a sentence, and nothing changes", async () => {
    const page = await site.open();
    const before = await page.evaluate(() => window.understudy.student.info().name);
    await page.setInputFiles("#file", lora("llama32-lora-r8-f32.gguf"));
    const notice = page.locator('.notice.error[data-code="adapter"]');
    await notice.waitFor();
    assert.match(await notice.innerText(), /architecture llama.*Choose an adapter/s);
    assert.equal(await page.evaluate(() => window.understudy.student.info().name), before);
    assert.equal(await page.locator("#adapters li").count(), 0);
    const code = await page.evaluate(() => window.understudy.student.attach(new Uint8Array([1, 2, 3])).then(() => "attached", (error) => error.code));
    assert.equal(code, "not-gguf");
    assert.ok((await ask(page, "Hello.")).length > 0);
    await page.context().close();
  });
});
