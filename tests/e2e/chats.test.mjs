// Several chats, kept in this browser: their names, branches, files, and what may go wrong with them. On the CPU engine, with
// answers of a few tokens.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { answered, ask, stage } from "./page.js";

const QUICK = { hash: "#gpu=off" };

/** The page with short answers. */
async function short(site, options = {}) {
  const page = await site.open({ ...QUICK, ...options });
  await page.evaluate(() => (document.getElementById("settings").open = true));
  await page.fill("#max_tokens", "6");
  await page.evaluate(() => (document.getElementById("settings").open = false));
  return page;
}

const titles = (page) => page.locator("#chat-list .chat-title").allInnerTexts();
const turns = (page, role) => page.locator(`.turn.${role} .body`).allInnerTexts();
const listed = (page, count) => page.waitForFunction((n) => document.querySelectorAll("#chat-list li").length === n, count);

async function choose(page, title, act) {
  await page.locator("#chat-list li", { hasText: title }).locator(".more").click();
  await page.locator(`#chat-menu [data-act="${act}"]`).click();
}

/** What a click hands to the person as a file. */
async function saved(page, act) {
  const [file] = await Promise.all([page.waitForEvent("download"), act()]);
  return { name: file.suggestedFilename(), text: readFileSync(await file.path(), "utf8") };
}

const importing = (page, name, text) => page.setInputFiles("#chat-file", { name, mimeType: "text/plain", buffer: Buffer.from(text) });

/** What lies in the store. */
const stored = (page) => page.evaluate(() => new Promise((resolve) => {
  const request = indexedDB.open("understudy");
  request.onsuccess = () => {
    const all = request.result.transaction("chats").objectStore("chats").getAll();
    all.onsuccess = () => {
      request.result.close();
      resolve(all.result);
    };
  };
}));

describe("chats", () => {
  let site;
  before(async () => (site = await stage()));
  after(() => site.close());

  test("are kept, found, renamed, opened again, deleted and brought back", async () => {
    const page = await short(site);
    assert.match(await page.locator("#chats-words").innerText(), /kept in this browser/);
    await ask(page, "Tell me about foxes.");
    await page.click("#new-chat");
    await ask(page, "What about herons?");
    await listed(page, 2);
    assert.deepEqual(await titles(page), ["What about herons?", "Tell me about foxes."]);
    assert.match(await page.locator("#chats-words").innerText(), /^2 chats/);

    await page.fill("#chat-search", "FOXES");
    await listed(page, 1);
    assert.match(await page.locator("#chats-words").innerText(), /^1 chat found/);
    await page.fill("#chat-search", "no such word");
    await listed(page, 0);
    await page.fill("#chat-search", "");
    await listed(page, 2);

    await choose(page, "herons", "rename");
    await page.keyboard.type("Birds");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector("#chat-list .chat-title").textContent === "Birds");
    await page.locator("#chat-list .chat-open", { hasText: "foxes" }).click();
    await page.waitForFunction(() => document.querySelector(".turn.user .body").textContent.includes("foxes"));
    assert.equal(await page.locator("#chat-list [aria-current]").innerText().then((text) => text.includes("foxes")), true);

    // The open chat and its place survive a reload.
    await page.waitForTimeout(400);
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    await page.waitForFunction(() => document.querySelector(".turn.user .body")?.textContent.includes("foxes"));
    await listed(page, 2);

    await choose(page, "foxes", "delete");
    await listed(page, 1);
    assert.equal(await page.locator(".turn").count(), 0, "the deleted chat is no longer shown");
    assert.equal((await stored(page)).length, 1);
    await page.click("text=Bring it back");
    await listed(page, 2);
    await page.waitForFunction(() => document.querySelector(".turn.user .body")?.textContent.includes("foxes"));
    assert.equal((await stored(page)).length, 2);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("branch where a message is changed or an answer made again, and every version stays", async () => {
    const page = await short(site);
    await ask(page, "One.");
    await ask(page, "Two.");
    await page.click("#regenerate");
    await answered(page, 2);
    assert.match(await page.locator(".turn.assistant .pager").last().innerText(), /2 of 2/);

    await page.locator(".turn.user .edit").first().click();
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Your message, changed");
    await page.keyboard.press("Escape");
    assert.equal(await page.locator(".edit-form").count(), 0);
    await page.locator(".turn.user .edit").first().click();
    await page.fill(".edit-form textarea", "Another one.");
    await page.keyboard.press("Enter");
    await answered(page, 1);
    assert.deepEqual(await turns(page, "user"), ["Another one."]);
    await page.locator(".turn.user .earlier").click();
    assert.deepEqual(await turns(page, "user"), ["One.", "Two."]);
    assert.match(await page.locator(".turn.user .pager").innerText(), /1 of 2/);
    await page.locator(".turn.user .later").click();
    assert.deepEqual(await turns(page, "user"), ["Another one."]);
    await page.waitForTimeout(300);
    const [chat] = await stored(page);
    assert.equal(chat.nodes.filter(({ role }) => role === "user").length, 3);
    assert.equal(chat.nodes.filter(({ role }) => role === "assistant").length, 4);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("an answer that was cut off goes on from where it ended", async () => {
    const page = await short(site);
    const text = (await ask(page, "Tell me a story about a fox named Mia.")).trim();
    assert.match(await page.locator(".turn.assistant .stats").innerText(), /cut off at the limit/);
    await page.evaluate(() => (document.getElementById("settings").open = true));
    await page.fill("#max_tokens", "40");
    await page.click("#continue-answer");
    const longer = (await answered(page, 1)).trim();
    assert.ok(longer.startsWith(text) && longer.length > text.length, `${JSON.stringify(text)} and ${JSON.stringify(longer)}`);
    assert.equal(await page.locator(".notice.error").count(), 0);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("go out as JSON and as Markdown, and come back the same", async () => {
    const page = await short(site);
    const said = await ask(page, "Line one.\n## You\n\\## Student\n\nLast line.");
    await listed(page, 1);
    const title = (await titles(page))[0];
    const json = await saved(page, () => choose(page, title, "json"));
    const markdown = await saved(page, () => choose(page, title, "markdown"));
    const all = await saved(page, () => page.click("#export-chats"));
    assert.match(json.name, /\.json$/);
    assert.match(markdown.name, /\.md$/);
    assert.deepEqual(JSON.parse(all.text).chats, JSON.parse(json.text).chats);
    const before = await stored(page);

    // The same again changes nothing.
    await importing(page, "all.json", all.text);
    await page.waitForFunction(() => /1 chat was imported/.test(document.getElementById("status").textContent));
    assert.deepEqual(await stored(page), before);

    await choose(page, title, "delete");
    await listed(page, 0);
    await importing(page, "all.json", all.text);
    await listed(page, 1);
    assert.deepEqual(await turns(page, "user"), ["Line one.\n## You\n\\## Student\n\nLast line."]);
    await choose(page, title, "delete");
    await listed(page, 0);
    await importing(page, "chat.md", markdown.text);
    await listed(page, 1);
    await page.waitForSelector(".turn.user");
    assert.deepEqual(await turns(page, "user"), ["Line one.\n## You\n\\## Student\n\nLast line."]);
    assert.equal((await turns(page, "assistant"))[0].trim(), said.trim());
    await page.context().close();
  });

  test("in a file that cannot be read are refused in a sentence, and nothing is lost", async () => {
    const page = await short(site);
    await ask(page, "Mine.");
    await listed(page, 1);
    const good = (id) => ({ version: 1, id, title: id, created: 1, changed: 1, leaf: "b", nodes: [
      { id: "a", parent: null, made: 1, role: "user", content: "A question" }, { id: "b", parent: "a", made: 2, role: "assistant", content: "An answer" }] });
    const file = (chats, version = 1) => JSON.stringify({ understudy: "chats", version, chats });
    const cycle = { ...good("cycle"), nodes: [{ id: "a", parent: "b", made: 1, role: "user", content: "x" }, { id: "b", parent: "a", made: 1, role: "assistant", content: "y" }] };
    for (const [name, text, why] of [
      ["newer.json", file([good("x")], 2), /newer version.*Reload/s],
      ["cut.json", file([good("x")]).slice(0, 80), /damaged or cut off/],
      ["other.json", '{"rows": []}', /holds no chats that this page knows/],
      ["plain.md", "A shopping list.", /holds no chats that this page knows/],
      ["cycle.json", file([cycle]), /do not form a chat/],
    ]) {
      await importing(page, name, text);
      const notice = page.locator('.notice.error[data-code="import"]', { hasText: name });
      await notice.waitFor();
      assert.match(await notice.innerText(), why);
    }
    assert.equal((await stored(page)).length, 1);
    // What can be read of a half-damaged file is taken.
    await importing(page, "half.json", file([good("fine"), { ...good("bad"), nodes: [{ id: "a" }] }, { ...good("tomorrow"), version: 9 }]));
    await page.waitForSelector('.notice.warning[data-code="import"]');
    assert.match(await page.locator('.notice.warning[data-code="import"]').innerText(), /2 chats of the file could not be read/);
    await listed(page, 2);
    assert.deepEqual(await turns(page, "assistant"), ["An answer"]);
    // A list of messages, as programs write it.
    await importing(page, "messages.json", JSON.stringify({ messages: [{ role: "user", content: "Hi" }, { role: "assistant", content: "Ho" }] }));
    await listed(page, 3);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("of an older page are taken over, once", async () => {
    const page = await site.open({ ...QUICK, prepare: (page) => page.addInitScript(() => {
      if (localStorage.getItem("tried")) return;
      localStorage.setItem("tried", "yes");
      localStorage.setItem("understudy.page", JSON.stringify({ settings: { system: "Be brief." }, draft: "half", messages: [
        { role: "user", content: "From before" }, { role: "assistant", content: "An old answer", reasoning: "Old thoughts" }, { role: "odd", content: 3 }] }));
    }) });
    await listed(page, 1);
    assert.deepEqual(await turns(page, "user"), ["From before"]);
    assert.deepEqual(await turns(page, "assistant"), ["An old answer"]);
    assert.equal(await page.inputValue("#prompt"), "half");
    await page.waitForTimeout(500);
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    await listed(page, 1);
    assert.deepEqual(await turns(page, "user"), ["From before"]);
    assert.equal(await page.evaluate(() => "messages" in JSON.parse(localStorage.getItem("understudy.page"))), false);
    assert.equal(await page.inputValue("#system"), "Be brief.");
    await page.context().close();
  });

  test("that are damaged in the store, or from a newer page, stay where they are and can be saved", async () => {
    const page = await short(site);
    await ask(page, "A good one.");
    await listed(page, 1);
    await page.evaluate(() => new Promise((resolve) => {
      const request = indexedDB.open("understudy");
      request.onsuccess = () => {
        const transaction = request.result.transaction("chats", "readwrite");
        transaction.objectStore("chats").put({ id: "torn", version: 1, nodes: "?" });
        transaction.objectStore("chats").put({ id: "later", version: 7, nodes: [], colour: "green" });
        transaction.oncomplete = resolve;
      };
    }));
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    const notice = page.locator('.notice[data-code="chat-unreadable"]');
    await notice.waitFor();
    assert.match(await notice.innerText(), /2 chats cannot be read/);
    await ask(page, "Going on.");
    const file = await saved(page, () => notice.locator("text=Save what is there").click());
    assert.deepEqual(JSON.parse(file.text).map(({ id }) => id).sort(), ["later", "torn"]);
    const ids = (await stored(page)).map(({ id }) => id);
    assert.ok(ids.includes("torn") && ids.includes("later") && ids.length === 3);
    await page.context().close();
  });

  test("last until the page is closed where storage is blocked, and say so", async () => {
    const page = await short(site, { prepare: (page) => page.addInitScript(() => {
      IDBFactory.prototype.open = () => { throw new DOMException("blocked", "SecurityError"); };
      Object.defineProperty(window, "localStorage", { get() { throw new DOMException("blocked", "SecurityError"); } });
    }) });
    assert.match(await page.locator("#chats-words").innerText(), /storage is blocked/);
    await ask(page, "One.");
    await page.click("#new-chat");
    await ask(page, "Two.");
    await listed(page, 2);
    await page.locator("#chat-list .chat-open", { hasText: "One." }).click();
    await page.waitForFunction(() => document.querySelector(".turn.user .body").textContent === "One.");
    assert.match((await saved(page, () => page.click("#export-chats"))).text, /"Two\."/);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("that no longer fit say so, once, and go on", async () => {
    const page = await short(site, { prepare: (page) => page.addInitScript(() => {
      const put = IDBObjectStore.prototype.put;
      IDBObjectStore.prototype.put = function (...given) {
        if (window.full) throw new DOMException("full", "QuotaExceededError");
        return put.apply(this, given);
      };
    }) });
    await ask(page, "Fits.");
    await page.evaluate(() => (window.full = true));
    await ask(page, "Does not fit.");
    const notice = page.locator('.notice[data-code="chat-not-saved"]');
    await notice.waitFor();
    assert.match(await notice.innerText(), /storage is full.*export it/s);
    assert.equal(await page.locator(".turn").count(), 4);
    assert.equal((await stored(page))[0].nodes.length, 2, "what was kept stays as it was");
    await page.evaluate(() => (window.full = false));
    await ask(page, "Fits again.");
    await page.waitForTimeout(300);
    assert.equal((await stored(page))[0].nodes.length, 6);
    await page.context().close();
  });

  test("written in two tabs at once lose nothing, and the tabs tell each other", async () => {
    const first = await short(site);
    await ask(first, "Shared.");
    await first.waitForTimeout(400);
    // The second tab opens with the chat that was open last.
    const second = await site.open({ ...QUICK, context: first.context() });
    await second.waitForSelector('.notice[data-code="open-elsewhere"]');
    await Promise.all([ask(first, "From the first."), ask(second, "From the second.")]);
    await first.waitForTimeout(500);
    const [chat] = await stored(first);
    const said = chat.nodes.map(({ content }) => content);
    assert.ok(said.includes("From the first.") && said.includes("From the second."), said.join(" | "));
    assert.equal(chat.nodes.length, 6);
    // Each tab can step to what the other wrote.
    assert.match(await first.locator(".turn.user .pager").innerText(), /of 2/);
    // A new message of one tab, behind what the other one shows, appears there.
    await second.click("#new-chat");
    await second.locator("#chat-list .chat-open", { hasText: "Shared." }).click();
    await second.waitForSelector(".turn.user");
    const shown = (await turns(second, "user"))[1];
    const writer = (await turns(first, "user"))[1] === shown ? first : null;
    if (writer) {
      await ask(writer, "And on.");
      await second.waitForFunction(() => [...document.querySelectorAll(".turn.user .body")].some(({ textContent }) => textContent === "And on."));
    }
    // Deleted in one tab, it is not written again by the other without a word.
    await choose(first, "Shared.", "delete");
    await second.waitForSelector('.notice[data-code="gone-elsewhere"]');
    await second.waitForTimeout(300);
    assert.equal((await stored(first)).filter(({ title }) => title === "Shared.").length, 0);
    await second.click("text=Keep it");
    await listed(first, 1);
    assert.deepEqual([...first.problems, ...second.problems], []);
    await first.context().close();
  });
});
