// The words of the page: every sentence in one table, every language whole, and the page in German.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { ROOT, ask, poorContrast, stage } from "./page.js";

const WWW = join(ROOT, "www");
const table = async (name) => Object.values(await import(pathToFileURL(join(WWW, "words", `${name}.js`)).href))[0];
const text = (entry) => (typeof entry === "string" ? entry : Object.values(entry).join(" "));
const blanks = (entry) => [...new Set(text(entry).match(/\{\w+\}/g) ?? [])].sort();

describe("the words", () => {
  test("are the same sentences in every language, with the same blanks and all forms of number", async () => {
    const en = await table("en");
    for (const name of readdirSync(join(WWW, "words")).map((file) => file.replace(".js", "")).filter((name) => name !== "en")) {
      const words = await table(name);
      assert.deepEqual(Object.keys(words).sort(), Object.keys(en).sort(), name);
      const forms = new Intl.PluralRules(name).resolvedOptions().pluralCategories.toSorted();
      for (const [key, entry] of Object.entries(words)) {
        assert.deepEqual(blanks(entry), blanks(en[key]), `${name}: ${key}`);
        assert.equal(typeof entry, typeof en[key], `${name}: ${key}`);
        if (typeof entry !== "string") assert.deepEqual(Object.keys(entry).sort(), forms, `${name}: ${key}`);
        assert.ok(text(entry).trim().length > 0, `${name}: ${key}`);
      }
    }
  });

  test("are all used, and all that is used is there", async () => {
    const en = await table("en");
    const code = readdirSync(WWW).filter((name) => name.endsWith(".js")).map((name) => readFileSync(join(WWW, name), "utf8")).join("\n");
    const markup = readFileSync(join(ROOT, "index.html"), "utf8");
    const used = new Set([...markup.matchAll(/data-t(?:-label|-placeholder)?="([^"]+)"/g)].map(([, key]) => key));
    for (const [, key] of code.matchAll(/\bt\(\s*"([^"]+)"/g)) used.add(key);
    assert.deepEqual([...used].filter((key) => !(key in en)), [], "not in the table");
    // Keys that are chosen or put together stand in the code as strings of their own.
    const strings = new Set([...code.matchAll(/"([\w.]+)"/g)].map(([, key]) => key));
    assert.deepEqual(Object.keys(en).filter((key) => !used.has(key) && !strings.has(key) && !key.startsWith("phase.")), [], "never said");
  });

  test("stand in the table alone: the markup outside of the Teach view has none of its own", () => {
    const markup = readFileSync(join(ROOT, "index.html"), "utf8");
    const body = markup.slice(markup.indexOf("<body>"), markup.indexOf("</body>"));
    const rest = body.slice(0, body.indexOf('<div id="teach"')) + body.slice(body.indexOf("</main>"));
    const words = rest.replace(/<noscript>.*<\/noscript>/s, "").replace(/<[^>]+>/g, " ").split(/\s+/).filter((word) => /\p{L}{2}/u.test(word));
    assert.deepEqual(words, ["Understudy"]);
  });
});

describe("the page in German", () => {
  let site;
  before(async () => (site = await stage()));
  after(() => site.close());

  test("speaks German where the browser asks for it, with German numbers, and says what is English", async () => {
    const page = await site.open({ hash: "#gpu=off", locale: "de-AT" });
    assert.equal(await page.evaluate(() => document.documentElement.lang), "de");
    assert.equal(await page.evaluate(() => document.documentElement.dir), "ltr");
    assert.equal(await page.locator("#send").innerText(), "Senden");
    assert.equal(await page.getAttribute("#prompt", "placeholder"), "Nachricht schreiben");
    assert.match(await page.locator("#status").innerText(), /^Bereit/);
    await ask(page, "Hello.");
    assert.match(await page.locator(".turn.assistant .stats").innerText(), /Tokens, .* Tokens\/s, das erste nach \d+,\d+ s/);
    await page.waitForFunction(() => /von 1\.024 Tokens/.test(document.getElementById("meter-words").textContent));
    assert.equal(await page.getAttribute("#teach", "lang"), "en");
    assert.equal(await page.getAttribute("#student-words", "lang"), "en");
    await page.evaluate(() => document.querySelectorAll("details").forEach((node) => (node.open = true)));
    assert.deepEqual(await poorContrast(page), []);
    for (const width of [320, 1280]) {
      await page.setViewportSize({ width, height: 700 });
      assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0, `${width} px`);
      const panel = await page.evaluate(() => document.getElementById("panel").scrollWidth - document.getElementById("panel").clientWidth);
      assert.ok(panel <= 0, `the panel at ${width} px`);
    }
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("is chosen by a setting, over the browser's wish, and stays chosen", async () => {
    const page = await site.open({ hash: "#gpu=off" });
    assert.equal(await page.locator("#send").innerText(), "Send");
    await page.evaluate(() => (document.getElementById("settings").open = true));
    assert.deepEqual(await page.locator("#language option").allInnerTexts(), ["As the browser has it", "English", "Deutsch"]);
    await Promise.all([page.waitForEvent("load"), page.selectOption("#language", "de")]);
    await page.waitForSelector("html[data-ready]");
    assert.equal(await page.locator("#send").innerText(), "Senden");
    assert.equal(await page.inputValue("#language"), "de");
    await page.evaluate(() => (document.getElementById("settings").open = true));
    await Promise.all([page.waitForEvent("load"), page.selectOption("#language", "")]);
    await page.waitForSelector("html[data-ready]");
    assert.equal(await page.locator("#send").innerText(), "Send");
    await page.context().close();
  });
});
