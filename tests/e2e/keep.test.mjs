// What a person keeps beside the chats: files in the prompt, personas, the prompt as it is; and how all of it is erased.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { ROOT, answered, ask, stage } from "./page.js";

const QUICK = { hash: "#gpu=off" };
const settings = (page) => page.evaluate(() => (document.getElementById("settings").open = true));
const file = (name, content) => ({ name, mimeType: "application/octet-stream", buffer: Buffer.from(content) });
const options = (page) => page.locator("#persona option").allInnerTexts();

describe("what is kept", () => {
  let site;
  before(async () => (site = await stage()));
  after(() => site.close());

  test("text files go into the prompt, counted, and come back with a question that got no answer", async () => {
    const page = await site.open(QUICK);
    await settings(page);
    await page.fill("#max_tokens", "4");
    const text = "Nora is 31.\r\nUse ``` here.\n";
    await page.setInputFiles("#attach-file", [file("note.txt", text), file("picture.png", Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 1]))]);
    await page.waitForSelector("#attached li");
    await page.waitForSelector('.notice[data-code="attach"]');
    assert.match(await page.locator('.notice[data-code="attach"]').innerText(), /picture\.png was not attached.*not a text file/s);
    const counted = Number(/(\d+) tokens/.exec(await page.locator("#attached").innerText())[1]);
    const asked = await page.evaluate(async () => {
      const { student } = window.understudy;
      const create = student.chat.completions.create;
      student.chat.completions.create = (body) => {
        window.sent = body.messages;
        return create(body);
      };
      return (await student.tokenize("note.txt:\n````\nNora is 31.\nUse ``` here.\n````")).length;
    });
    assert.equal(counted, asked);
    await ask(page, "How old?");
    assert.equal(await page.evaluate(() => window.sent.at(-1).content), "How old?\n\nnote.txt:\n````\nNora is 31.\nUse ``` here.\n````");
    assert.equal(await page.locator("#attached li").count(), 0);
    assert.match(await page.locator(".turn.user .file summary").innerText(), /note\.txt, \d+ tokens/);
    // Too long for the context.
    await page.setInputFiles("#attach-file", file("long.txt", "word and another ".repeat(2000)));
    await page.locator('.notice[data-code="attach"]', { hasText: "long.txt" }).waitFor();
    assert.match(await page.locator('.notice[data-code="attach"]', { hasText: "long.txt" }).innerText(), /context holds/);
    // A question that cannot be answered gives its file back.
    await page.setInputFiles("#attach-file", file("again.txt", "A line."));
    await page.waitForSelector("#attached li");
    await page.fill("#temperature", "-1");
    await page.fill("#prompt", "And this?");
    await page.press("#prompt", "Enter");
    await page.waitForSelector('.notice[data-code="bad-request"]');
    assert.match(await page.locator("#attached").innerText(), /again\.txt/);
    assert.equal(await page.inputValue("#prompt"), "And this?");
    await page.click('#attached [aria-label="Remove again.txt"]');
    assert.equal(await page.locator("#attached li").count(), 0);
    // Files survive a reload with their message.
    await page.waitForTimeout(400);
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    await page.waitForSelector(".turn.user .file");
    assert.equal(await page.locator(".turn.user .file pre").textContent(), "Nora is 31.\nUse ``` here.\n");
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("personas are saved, used, shared as a file, imported and brought back", async () => {
    const page = await site.open(QUICK);
    await settings(page);
    await page.fill("#system", "You are terse.");
    await page.fill("#temperature", "0.2");
    await page.fill("#persona-name", "Terse");
    await page.click("#persona-save");
    await page.waitForFunction(() => document.getElementById("persona").value === "Terse");
    const [shared] = await Promise.all([page.waitForEvent("download"), page.click("#persona-share")]);
    assert.equal(shared.suggestedFilename(), "terse.persona.json");
    const content = JSON.parse(readFileSync(await shared.path(), "utf8"));
    assert.deepEqual(content, { understudy: "persona", version: 1, name: "Terse", settings: { system: "You are terse.", temperature: "0.2", top_k: "40", top_p: "0.95", min_p: "0.05", max_tokens: "", thinking: true } });

    await page.fill("#system", "");
    await page.fill("#temperature", "1");
    await page.selectOption("#persona", "");
    await page.selectOption("#persona", "Terse");
    assert.equal(await page.inputValue("#system"), "You are terse.");
    assert.equal(await page.inputValue("#temperature"), "0.2");
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    await settings(page);
    assert.deepEqual(await options(page), ["None", "Terse"]);

    // The same name again takes another; what is wrong is refused in a sentence.
    await page.setInputFiles("#persona-file", file("a.persona.json", JSON.stringify({ ...content, settings: { ...content.settings, temperature: 1.5 } })));
    await page.waitForFunction(() => document.getElementById("persona").value === "Terse 2");
    assert.equal(await page.inputValue("#temperature"), "1.5");
    for (const [name, raw, why] of [
      ["newer.json", { ...content, version: 2 }, /newer version/],
      ["hot.json", { ...content, settings: { ...content.settings, temperature: 9 } }, /out of its range/],
      ["other.json", { understudy: "chats" }, /no persona/],
    ]) {
      await page.setInputFiles("#persona-file", file(name, JSON.stringify(raw)));
      const notice = page.locator('.notice.error[data-code="persona"]', { hasText: name });
      await notice.waitFor();
      assert.match(await notice.innerText(), why);
    }
    await page.click("#persona-delete");
    await page.waitForFunction(() => document.querySelectorAll("#persona option").length === 2);
    await page.click("text=Bring it back");
    await page.waitForFunction(() => document.querySelectorAll("#persona option").length === 3);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("the prompt is shown as the student reads it, with the draft", async () => {
    const page = await site.open(QUICK);
    await page.click("#show-prompt");
    assert.match(await page.locator("#status").innerText(), /no prompt yet/);
    await settings(page);
    await page.fill("#system", "Be brief.");
    await page.fill("#max_tokens", "4");
    const said = (await ask(page, "Who are you?")).trim();
    await page.fill("#prompt", "And now?");
    await page.click("#show-prompt");
    await page.waitForSelector("#prompt-dialog[open]");
    const text = await page.locator("#prompt-text").textContent();
    const places = ["Be brief.", "Who are you?", said, "And now?"].map((words) => text.indexOf(words));
    assert.ok(places.every((at, n) => at >= 0 && (n === 0 || at > places[n - 1])), `${places} in ${text}`);
    const same = await page.evaluate((said) => window.understudy.student.prompt([{ role: "system", content: "Be brief." }, { role: "user", content: "Who are you?" }, { role: "assistant", content: said }, { role: "user", content: "And now?" }]), said);
    assert.equal(text, same);
    assert.match(await page.locator("#prompt-words").innerText(), /Understudy Pip: \d+ tokens/);
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("#prompt-dialog").isVisible(), false);
    assert.equal(await page.evaluate(() => document.activeElement.id), "show-prompt");
    await page.context().close();
  });

  test("how long the student thought is shown, and kept", async () => {
    const page = await site.open(QUICK);
    await page.evaluate(() => {
      const chunk = (delta, finish = null) => ({ choices: [{ index: 0, delta, finish_reason: finish }], ...(finish ? { usage: { completion_tokens: 3 }, timings: { predicted_per_second: 5 } } : {}) });
      window.understudy.student.chat.completions.create = () => ({
        stop() {},
        async *[Symbol.asyncIterator]() {
          yield chunk({ reasoning_content: "Let me see. " });
          await new Promise((resolve) => setTimeout(resolve, 1200));
          yield chunk({ reasoning_content: "Yes." });
          yield chunk({ content: "It is so." });
          yield chunk({}, "stop");
        },
      });
    });
    await ask(page, "Is it so?");
    const summary = await page.locator(".thoughts summary").innerText();
    const took = Number(/^Thought for ([\d.]+) s$/.exec(summary)?.[1]);
    assert.ok(took >= 1.1 && took < 5, summary);
    await page.waitForTimeout(400);
    await page.reload();
    await page.waitForSelector(".thoughts summary");
    assert.equal(await page.locator(".thoughts summary").innerText(), summary);
    await page.context().close();
  });

  test("everything is erased, after asking, and other tabs write nothing any more", async () => {
    const page = await site.open({ ...QUICK, serviceWorkers: "allow" });
    await page.waitForSelector("html[data-offline]");
    await settings(page);
    await page.fill("#max_tokens", "4");
    await page.fill("#persona-name", "Somebody");
    await page.click("#persona-save");
    await ask(page, "A secret.");
    await page.evaluate(async () => {
      localStorage.setItem("another-page", "stays");
      const root = await navigator.storage.getDirectory();
      for (const name of ["students", "adapters", "teaching"]) {
        const handle = await (await root.getDirectoryHandle(name, { create: true })).getFileHandle("x.gguf", { create: true });
        const out = await handle.createWritable();
        await out.write("a secret");
        await out.close();
      }
    });
    // Which chat is open is remembered a moment after it was last changed.
    await page.waitForFunction(() => JSON.parse(localStorage.getItem("understudy.page") ?? "{}").chat);
    const other = await page.context().newPage();
    await other.goto(`${site.server.origin}/#gpu=off`);
    await other.waitForSelector(".turn.user");

    await page.click("#erase");
    await page.waitForSelector("#erase-dialog[open]");
    assert.match(await page.locator("#erase-list").innerText(), /1 chat\n1 student, 8 bytes/);
    assert.equal(await page.evaluate(() => document.activeElement.id), "erase-no");
    await page.keyboard.press("Enter");
    assert.equal(await page.locator(".turn.user").count(), 1, "nothing goes before it was confirmed");
    await page.click("#erase");
    await Promise.all([page.waitForEvent("load"), page.click("#erase-yes")]);
    await page.waitForSelector("html[data-ready]");
    await other.waitForSelector('.notice[data-code="erased"]');
    assert.equal(await other.locator(".turn").count(), 0);
    await other.fill("#prompt", "Written afterwards.");
    await other.waitForTimeout(600);
    await other.close();
    assert.equal(await page.locator(".turn").count(), 0);
    const left = await page.evaluate(async () => {
      const names = [];
      for await (const name of (await navigator.storage.getDirectory()).keys()) names.push(name);
      const chats = await new Promise((resolve) => {
        const request = indexedDB.open("understudy");
        request.onsuccess = () => {
          const all = request.result.transaction("chats").objectStore("chats").getAll();
          all.onsuccess = () => resolve(all.result);
        };
      });
      return { names, chats, memory: JSON.stringify({ ...localStorage, ...sessionStorage }) };
    });
    assert.deepEqual(left.chats, []);
    assert.deepEqual(left.names.filter((name) => name !== "students"), []);
    assert.ok(!/secret|Somebody|afterwards/.test(left.memory), left.memory);
    assert.ok(left.memory.includes("another-page"), "what is not ours stays");
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("a text file that is dropped on the chat is attached, and a chat's work is not lost by it", async () => {
    const page = await site.open(QUICK);
    await page.evaluate(() => {
      const data = new DataTransfer();
      data.items.add(new File(["Dropped words."], "dropped.md"));
      document.body.dispatchEvent(new DragEvent("dragenter", { dataTransfer: data, bubbles: true }));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    });
    await page.waitForSelector("#attached li");
    assert.match(await page.locator("#attached").innerText(), /dropped\.md/);
    await page.context().close();
  });

  test("the student's file is told from others by its SHA-256, which is worked out when it is asked for", async () => {
    const page = await site.open(QUICK);
    await page.evaluate(() => document.querySelectorAll("details").forEach((part) => (part.open = true)));
    await page.click("#sha256");
    const shown = await page.locator("#provenance code").innerText();
    assert.equal(shown, createHash("sha256").update(readFileSync(join(ROOT, "school/models/understudy-pip.gguf"))).digest("hex"));
    await page.context().close();
  });

  test("a template that fails says where, and the general one is offered in its place", async () => {
    const page = await site.open(QUICK);
    await settings(page);
    await page.fill("#max_tokens", "4");
    // The same file with a name that no template knows, as long as the one that it takes the place of.
    const bytes = readFileSync(join(ROOT, "school/models/understudy-pip.gguf"));
    bytes.write("+ message.ruin +", bytes.indexOf("+ message.role +"));
    await page.setInputFiles("#file", file("broken-template.gguf", bytes));
    await page.waitForFunction(() => /broken-template/.test(document.getElementById("openness").textContent), null, { timeout: 60_000 });
    await page.fill("#prompt", "Hello.");
    await page.click("#send");
    const notice = page.locator('.notice[data-code="template"]');
    assert.match(await notice.innerText(), /line \d+/);
    assert.equal(await page.inputValue("#prompt"), "Hello.");
    await notice.locator("text=Use the general template").click();
    await page.waitForFunction(() => /a general one/.test(document.getElementById("openness").textContent), null, { timeout: 60_000 });
    await page.click("#send");
    await answered(page, 1);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
});
