// The page without the network: what the service worker keeps, how a new version comes, and what it may ask the server for.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { DIST, ROOT, ask, stage } from "./page.js";

const ALLOWED = { hash: "#gpu=off", serviceWorkers: "allow" };
const ready = (page) => page.waitForSelector("html[data-offline]");

/** A copy of dist/ that may be changed. */
function copyOfDist() {
  const folder = mkdtempSync(join(tmpdir(), "understudy-offline-"));
  cpSync(DIST, folder, { recursive: true });
  return folder;
}

/** A new version of the page, as a build would place it. */
function change(folder, path, act) {
  writeFileSync(join(folder, path), act(readFileSync(join(folder, path), "utf8")));
  execFileSync("node", [join(ROOT, "xtask", "offline.mjs"), folder]);
}

/** Browsers and servers are closed whatever a test came to. @param {(site: any) => Promise<void>} act */
const onStage = (act) => async () => {
  const site = await stage();
  try {
    await act(site);
  } finally {
    await site.browser.close();
    await site.server.close().catch(() => {});
  }
};

describe("without the network", () => {
  test("the page opens, chats and keeps its chats after one visit, and asked for listed files only", onStage(async (site) => {
    const page = await site.open(ALLOWED);
    const before = site.server.requests.length;
    await ready(page);
    assert.match(await page.locator("#offline-words").innerText(), /its student work without the network/);
    const list = Object.keys(JSON.parse(readFileSync(join(DIST, "sw.js"), "utf8").split("\n", 1)[0].replace(/^self\.BUILD = |;$/g, "")).files);
    const asked = site.server.requests.slice(before);
    assert.ok(asked.length > 20);
    assert.deepEqual(asked.filter(({ url, method }) => method !== "GET" || !["sw.js", ...list].includes(url.slice(1))), []);
    assert.ok(!asked.some(({ url }) => /understudy-lead|understudy_teach|samples/.test(url)), "what a chat does not need is not fetched");
    await ask(page, "One.");
    const quiet = site.server.requests.length;
    await ask(page, "Two.");
    assert.equal(site.server.requests.length, quiet);
    assert.equal(await page.locator("#requests-count").textContent(), "0");
    await page.waitForTimeout(400);

    await site.server.close();
    await page.context().setOffline(true);
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    assert.equal(await page.evaluate(() => crossOriginIsolated), true);
    assert.equal(await page.locator(".turn.user").count(), 2);
    assert.ok((await ask(page, "Three, alone.")).length > 0);
    await ready(page);
    // A second page, behind another address of the same page.
    const other = await page.context().newPage();
    await other.goto(`${site.server.origin}/index.html?from=elsewhere#gpu=off`);
    await other.waitForSelector("html[data-ready]");
    // What was not fetched is missed in a sentence, and the open student stays.
    await page.locator("#students button", { hasText: "Open" }).first().click();
    await page.waitForSelector(".notice.error");
    assert.match(await page.locator(".notice.error").innerText(), /could not be downloaded.*Check the connection/s);
    await ask(page, "Still here?");
    assert.deepEqual(page.problems, []);
  }));

  test("the rest can be kept too, and then teaches", { timeout: 300_000 }, onStage(async (site) => {
    const page = await site.open(ALLOWED);
    await ready(page);
    assert.match(await page.locator("#offline-rest").innerText(), /MiB/);
    await page.click("#offline-rest");
    await page.waitForFunction(() => document.getElementById("offline-rest").hidden);
    assert.match(await page.locator("#offline-words").innerText(), /All of this page/);
    await site.server.close();
    await page.context().setOffline(true);
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    await page.click("#show-teach");
    await page.selectOption("#sample-kind", "text");
    await page.click("#sample-traces");
    await page.waitForSelector("#teach-settings:not([hidden])", { timeout: 240_000 });
    assert.deepEqual(page.problems, []);
  }));

  test("a file that was changed in the store is not handed out", onStage(async (site) => {
    const page = await site.open(ALLOWED);
    await ready(page);
    const spoiled = await page.evaluate(async () => {
      const cache = await caches.open("understudy-files");
      let count = 0;
      for (const request of await cache.keys()) {
        const kept = await cache.match(request);
        if (!/html/.test(kept.headers.get("content-type"))) continue;
        await cache.put(request, new Response("<!doctype html><title>Spoiled</title>", { headers: kept.headers }));
        count++;
      }
      return count;
    });
    assert.equal(spoiled, 2);
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    assert.equal(await page.title(), "Understudy");
  }));

  test("the frame for a person's address may still leave, and no other", onStage(async (site) => {
    const page = await site.open(ALLOWED);
    await ready(page);
    // Nobody listens there: what matters is who says no.
    const why = await page.evaluate(async () => {
      const { Understudy } = window.understudy;
      const ask = (address) => Understudy.blob(address).then(() => "came", (error) => error.message);
      return [await ask("https://127.0.0.1:9/x.gguf"), await ask("students/none.gguf")];
    });
    assert.doesNotMatch(why[0], /403/);
    assert.match(why[1], /403/);
  }));
});

describe("a new version", () => {
  let folder, site;
  before(async () => {
    folder = copyOfDist();
    site = await stage({ dist: folder });
  });
  after(async () => {
    await site?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test("is announced, waits for the end of an answer and for other tabs, and comes when it is asked for", async () => {
    const page = await site.open(ALLOWED);
    await ready(page);
    change(folder, "www/style.css", (text) => `${text}\n:root { --version: 2; }\n`);
    const version = () => page.evaluate(() => getComputedStyle(document.documentElement).getPropertyValue("--version").trim());
    const before = site.server.requests.length;
    await page.reload();
    await page.waitForSelector('.notice[data-code="update"]');
    assert.deepEqual(site.server.requests.slice(before).map(({ url }) => url), ["/sw.js", "/www/style.css"], "what has not changed is not fetched again");
    assert.equal(await version(), "", "nothing is forced");
    await page.waitForSelector("html[data-ready]");

    // In the middle of an answer it waits.
    await page.fill("#prompt", "Tell me a story about a fox named Mia.");
    await page.press("#prompt", "Enter");
    await page.waitForSelector("#stop:not([hidden])");
    await page.locator('.notice[data-code="update"] button', { hasText: "Use it now" }).click();
    await page.locator('.notice[data-code="update"]', { hasText: "waits" }).waitFor();
    await page.waitForFunction(() => document.querySelectorAll(".turn.assistant .foot").length === 1);

    // Another tab is not broken off either.
    const other = await page.context().newPage();
    await other.goto(`${site.server.origin}/#gpu=off`);
    await other.waitForSelector("html[data-ready]");
    await page.locator('.notice[data-code="update"] button', { hasText: "Use it now" }).click();
    await page.locator('.notice[data-code="update"]', { hasText: "open in 1 other tab" }).waitFor();
    await other.close();
    await page.locator('.notice[data-code="update"] button', { hasText: "Use it now" }).click();
    await page.waitForFunction(() => getComputedStyle(document.documentElement).getPropertyValue("--version").trim() === "2");
    await page.waitForSelector("html[data-ready]");
    assert.equal(await page.locator(".turn.assistant").count(), 1, "the chat is still there");
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test("that arrives damaged is not installed, and the page goes on", async () => {
    const page = await site.open(ALLOWED);
    await ready(page);
    change(folder, "www/style.css", (text) => `${text}\n:root { --version: 3; }\n`);
    // The list says one thing, the file another: as in the middle of an upload.
    writeFileSync(join(folder, "www/style.css"), "body { display: none }");
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    await page.waitForTimeout(1500);
    assert.equal(await page.locator('.notice[data-code="update"]').count(), 0);
    assert.notEqual(await page.evaluate(() => getComputedStyle(document.body).display), "none");
    assert.ok((await ask(page, "Hello.")).length > 0);
    await page.context().close();
  });
});

test("the list holds every file of the page, and no other", () => {
  const { files } = JSON.parse(readFileSync(join(DIST, "sw.js"), "utf8").split("\n", 1)[0].replace(/^self\.BUILD = |;$/g, ""));
  const there = readdirSync(DIST, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(DIST.length + 1).split("\\").join("/")).filter((path) => path !== "sw.js" && !path.endsWith(".d.ts"));
  assert.deepEqual(Object.keys(files).sort(), there.sort());
});
