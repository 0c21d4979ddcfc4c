// The page as the tests see it. Ids that tests rely on, and that the page therefore keeps:
//   #prompt the message box      #send #stop            #messages the conversation (.turn.user, .turn.assistant .body)
//   #regenerate on the newest answer only               #new-chat     #status short words     #notices .notice[data-code]
//   #open-file the button, #file the input behind it    #students the list     #candidate the plan of a chosen file
//   #system #temperature #top_k #top_p #min_p #max_tokens #seed #context #engine inside #settings
//   #claims the three claims (#requests-count #bytes-sent #blocked-count #probe)     #device     #meter
//   #show-teach #show-chat the views     #adapters attached, each with a scale and a switch     #kept-adapters the kept ones
//   in #teach: #trace-files #sample-traces #report-facts #preview #teach-form #start-teaching #run-pause #run-stop #run-numbers #verdict
//   #answers #insight #keep-form #adapter-name #keep-adapter #keep-words #keep-files #continue-go #continue-drop
//   #chats-toggle #chats #chat-search #chat-list #chat-menu (data-act) #import-chats #export-chats #chat-file
//   #offline-words #offline-rest; html[data-offline] once the page works without the network
// html[data-ready] is set once a student is open; window.understudy = { Understudy, student, engine, teaching }.
// Switches in the address's fragment: #gpu=off (CPU engine), &subgroups=off.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { serve } from "./server.mjs";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
export const DIST = process.env.UNDERSTUDY_DIST ?? join(ROOT, "dist");
export const KIT = [process.env.UNDERSTUDY_KIT, join(ROOT, "..", "shared", "kit")].find((path) => path && existsSync(join(path, "models")));

const FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--disable-quic",
  "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** Options of a test that needs the kit: skipped by name where it is absent, and a failure where CI is set. */
export function needsKit() {
  if (KIT) return {};
  if (process.env.CI) return {};
  return { skip: "UNDERSTUDY_KIT is not set and the kit is not beside the checkout" };
}

export const model = (name) => {
  assert.ok(KIT, "the kit is needed: set UNDERSTUDY_KIT");
  return join(KIT, "models", name);
};

export const launch = (more = []) => chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: false, args: [...FLAGS, ...more],
});

/** One browser and one server for a file of tests. */
export async function stage({ flags = [], dist = DIST } = {}) {
  assert.ok(existsSync(join(dist, "index.html")), `${dist} is not built: run cargo xtask build`);
  const [server, browser] = [await serve(dist), await launch(flags)];
  return {
    server, browser,
    /**
     * A fresh profile. Without a service worker, unless `serviceWorkers: "allow"` asks for it: it fetches the page's files when the student
     * is ready, among the requests that most tests count.
     * @param {{ hash?: string, prepare?: (page: import("playwright-core").Page) => any, wait?: boolean } & import("playwright-core").BrowserContextOptions} [options]
     */
    async open({ hash = "", prepare, wait = true, context: given, ...options } = {}) {
      const context = given ?? (await browser.newContext({ viewport: { width: 1280, height: 860 }, serviceWorkers: "block", ...options }));
      const page = await context.newPage();
      page.setDefaultTimeout(Number(process.env.PATIENCE ?? 120_000));
      page.problems = [];
      page.on("pageerror", (error) => page.problems.push(error.message));
      await prepare?.(page);
      await page.goto(`${server.origin}/${hash}`);
      if (wait) await page.waitForSelector("html[data-ready]");
      return page;
    },
    async close() {
      await browser.close();
      await server.close();
    },
  };
}

/** Types a message, sends it and waits for the answer's end. Returns the answer's text. */
export async function ask(page, text) {
  const before = await page.locator(".turn.assistant").count();
  await page.fill("#prompt", text);
  await page.press("#prompt", "Enter");
  return answered(page, before + 1);
}

/** Waits until there are `count` finished answers. */
export async function answered(page, count) {
  await page.waitForFunction((n) => document.querySelectorAll(".turn.assistant .foot").length === n && document.getElementById("messages").ariaBusy === "false", count);
  return page.locator(".turn.assistant .body").last().innerText();
}

/** Opens a file by the picker and waits for success or an error about it. Returns the notice's code, or "". */
export async function openFile(page, file, { quick = false } = {}) {
  const name = typeof file === "string" ? file.split("/").pop() : file.name;
  await page.evaluate(() => (window.before = window.understudy.student));
  await page.setInputFiles("#file", file);
  await page.waitForFunction((name) => window.understudy.student !== window.before || [...document.querySelectorAll(".notice.error")].some((n) => n.dataset.file === name), name,
    quick ? { polling: 20 } : {});
  const notice = page.locator(`.notice.error[data-file="${name}"]`);
  return (await notice.count()) ? notice.last().getAttribute("data-code") : "";
}

/** Texts whose contrast with what lies behind them is below 4.5. @returns {Promise<string[]>} */
export function poorContrast(page) {
  return page.evaluate(() => {
    const parse = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (node) => {
      for (; node; node = node.parentElement) {
        const colour = parse(getComputedStyle(node).backgroundColor);
        if (colour.length === 3 || colour[3] === 1) return colour;
      }
      return [255, 255, 255];
    };
    const poor = [];
    for (const node of document.querySelectorAll("body *")) {
      if (![...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()) || !node.checkVisibility({ visibilityProperty: true })) continue;
      const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
      const ratio = (a + 0.05) / (b + 0.05);
      if (ratio < 4.5) poor.push(`${node.tagName}.${node.className} ${ratio.toFixed(2)} ${node.textContent.slice(0, 30)}`);
    }
    return poor;
  });
}

/** A float32 .npy file of two dimensions. */
export function readNpy(path) {
  const bytes = readFileSync(path);
  const start = 10 + bytes.readUInt16LE(8);
  const shape = /'shape': \((\d+), (\d+)\)/.exec(bytes.toString("latin1", 10, start));
  assert.ok(bytes.toString("latin1", 10, start).includes("'<f4'"), "float32 expected");
  const data = new Float32Array(bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length));
  return { rows: Number(shape[1]), columns: Number(shape[2]), data };
}
