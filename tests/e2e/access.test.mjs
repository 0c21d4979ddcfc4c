// The page for people who read, hear or steer it otherwise: axe-core in every view and state, at two widths, light and dark;
// everything by keyboard; no motion where none is wanted.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { DIST, ROOT, answered, ask, stage } from "./page.js";

const QUICK = { hash: "#gpu=off" };
const SLOW = { timeout: 300_000 };
const AXE = readFileSync(join(ROOT, "node_modules", "axe-core", "axe.min.js"), "utf8");

/** Violations in the page as it is now, as lines. The page's policy forbids inline scripts, so axe comes through the debugger. */
async function violations(page) {
  await page.evaluate(`if (!window.axe) { ${AXE} }`);
  const { violations } = await page.evaluate(() => window.axe.run(document, {
    preload: false, resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  }));
  return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id} ${target.join(" ")}: ${failureSummary.split("\n").slice(1).join(" ").trim()}`));
}

/** Every width and colour scheme in one state of the page. */
async function audit(page, state, found) {
  for (const width of [1280, 360]) {
    await page.setViewportSize({ width, height: 800 });
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      for (const line of await violations(page)) found.push(`${state}, ${width} px, ${colorScheme}: ${line}`);
    }
  }
  await page.setViewportSize({ width: 1280, height: 800 });
}

const openAll = (page, open = true) => page.evaluate((open) => document.querySelectorAll("details").forEach((node) => (node.open = open)), open);

describe("the page for everybody", () => {
  let site;
  before(async () => (site = await stage()));
  after(() => site.close());

  test("axe finds nothing in the chat, in any of its states", SLOW, async () => {
    const page = await site.open(QUICK);
    const found = [];
    await audit(page, "welcome", found);
    await ask(page, "Name three animals");
    await page.click("#regenerate");
    await answered(page, 1);
    await page.locator(".turn.user .edit").click();
    await audit(page, "changing a message", found);
    await page.keyboard.press("Escape");
    await page.evaluate(async () => {
      const { Answer } = await import(new URL("www/markdown.js", document.baseURI).href);
      const body = document.querySelector(".turn.assistant .body");
      body.replaceChildren();
      new Answer(body).show("# Title\n\nText with `code` and [a link](https://example.org/a).\n\n> quoted\n\n```js\nlet a = 1;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- [x] done");
    });
    await page.setInputFiles("#chat-file", { name: "no.json", mimeType: "application/json", buffer: Buffer.from("{}") });
    await page.waitForSelector(".notice.error");
    await page.fill("#chat-search", "animals");
    await audit(page, "an answer, a notice, a search", found);
    await page.fill("#chat-search", "");
    await page.click("#chat-list .more");
    await audit(page, "the menu of a chat", found);
    await page.locator('#chat-menu [data-act="rename"]').click();
    await page.evaluate(() => document.querySelector("#chat-list input").addEventListener("blur", (event) => event.stopImmediatePropagation(), true));
    await audit(page, "renaming a chat", found);
    await page.keyboard.press("Escape");
    await openAll(page);
    await page.click("#probe");
    await page.waitForFunction(() => document.querySelectorAll("#probe-results li").length === 6);
    await audit(page, "everything of the panel", found);
    for (const name of ["panel", "chats"]) {
      await page.setViewportSize({ width: 360, height: 800 });
      await page.click(`#${name}-toggle`);
      for (const line of await violations(page)) found.push(`drawer of ${name}: ${line}`);
      await page.keyboard.press("Escape");
    }
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.fill("#prompt", "Tell me a story about a fox named Mia.");
    await page.press("#prompt", "Enter");
    await page.waitForSelector("#stop:not([hidden])");
    for (const line of await violations(page)) found.push(`answering: ${line}`);
    assert.deepEqual(found, []);
    await page.context().close();
  });

  test("axe finds nothing while the student is taught, from the traces to the adapter", SLOW, async () => {
    const page = await site.open(QUICK);
    const found = [];
    await page.click("#show-teach");
    await audit(page, "teach: nothing yet", found);
    const rows = readFileSync(join(DIST, "www", "samples", "desk-sharegpt.jsonl"), "utf8").split("\n").slice(0, 8);
    await page.setInputFiles("#trace-files", { name: "few.jsonl", mimeType: "application/jsonl", buffer: Buffer.from([...rows, "{ not a row"].join("\n")) });
    await page.waitForSelector("#teach-settings:not([hidden])", SLOW);
    await page.waitForFunction(() => !document.getElementById("start-teaching").disabled, null, SLOW);
    await openAll(page);
    await audit(page, "teach: report and settings", found);
    for (const [name, value] of Object.entries({ steps: "2", batch: "2", hold_out: "0.25" })) await page.fill(`#set-${name}`, value);
    await page.waitForFunction(() => !document.getElementById("start-teaching").disabled, null, SLOW);
    await page.click("#start-teaching");
    await page.waitForSelector("#teach-keep:not([hidden])", SLOW);
    await openAll(page);
    await audit(page, "teach: verdict", found);
    await page.fill("#adapter-name", "A few rows");
    await page.click("#keep-adapter");
    await page.waitForSelector("#keep-files:not([hidden])", SLOW);
    await page.waitForSelector("#kept-adapters li", SLOW);
    await audit(page, "teach: kept", found);
    await page.click("#show-chat");
    await page.locator("#kept-adapters button", { hasText: "Delete" }).click();
    await audit(page, "an adapter about to be deleted", found);
    assert.deepEqual(found, []);
    await page.context().close();
  });

  test("everything of the chats can be done from the keyboard, and the focus is where it was", async () => {
    const page = await site.open(QUICK);
    const focus = () => page.evaluate(() => document.activeElement.dataset.key?.split(" ")[0] ?? (document.activeElement.dataset.act || document.activeElement.id || document.activeElement.getAttribute("aria-label") || document.activeElement.tagName));
    await page.keyboard.type("Hello.");
    await page.keyboard.press("Enter");
    await answered(page, 1);
    await page.focus("#chat-search");
    await page.keyboard.press("Tab");
    assert.equal(await focus(), "open");
    await page.keyboard.press("Tab");
    assert.equal(await focus(), "more");
    await page.keyboard.press("Enter");
    assert.equal(await focus(), "rename");
    await page.keyboard.press("ArrowDown");
    assert.equal(await focus(), "markdown");
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("ArrowUp");
    assert.equal(await focus(), "delete");
    await page.keyboard.press("Escape");
    assert.equal(await focus(), "more");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Enter");
    assert.equal(await focus(), "Name of the chat");
    await page.keyboard.type("Greetings");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector("#chat-list .chat-title")?.textContent === "Greetings");
    await page.waitForFunction(() => document.activeElement.dataset.key?.startsWith("more"));

    // A message is changed, and the versions are stepped through.
    await page.focus(".turn.user .edit");
    await page.keyboard.press("Enter");
    await page.keyboard.type(" And goodbye.");
    await page.keyboard.press("Enter");
    await answered(page, 1);
    await page.focus(".turn.user .earlier");
    await page.keyboard.press("Enter");
    assert.equal(await page.locator(".turn.user .body").innerText(), "Hello.");
    assert.equal(await focus(), "Later version");
    await page.keyboard.press("Enter");
    assert.equal(await page.locator(".turn.user .body").innerText(), "Hello. And goodbye.");

    // Drawers of a narrow screen.
    await page.setViewportSize({ width: 360, height: 700 });
    for (const name of ["chats", "panel"]) {
      await page.focus(`#${name}-toggle`);
      await page.keyboard.press("Enter");
      assert.equal(await page.locator(`#${name}`).isVisible(), true);
      assert.equal(await page.locator("main").evaluate((node) => [...node.children].every((child) => child.inert)), true);
      await page.keyboard.press("Escape");
      assert.equal(await page.locator(`#${name}`).isVisible(), false);
      assert.equal(await focus(), `${name}-toggle`);
    }
    await page.context().close();
  });

  test("nothing moves where motion is not wanted", async () => {
    const page = await site.open({ ...QUICK, reducedMotion: "reduce" });
    await page.fill("#prompt", "Tell me a story about a fox named Mia.");
    await page.press("#prompt", "Enter");
    await page.waitForSelector("#stop:not([hidden])");
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
    const durations = await page.evaluate(() => [...document.querySelectorAll("*")].flatMap((node) => ["", "::before", "::after"].map((part) => getComputedStyle(node, part)))
      .filter(({ animationName, transitionDuration }) => animationName !== "none" || parseFloat(transitionDuration) > 0).length);
    assert.equal(durations, 0);
    await page.context().close();
  });
});
