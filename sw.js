// The service worker: the page without the network, and the second wall around it. The build writes the list of its files in front of
// this text (xtask/offline.mjs): every file's path, its size and its SHA-256.
//
// What it fetches is on that list, is asked for without a query, and without a word of what a page told it; what it hands out is
// compared with the list again. Everything else is refused and counted. The one exception is the loader frame that was made for an
// address which a person gave. docs/PRIVACY.md says what this closes.
"use strict";

const { files } = self.BUILD;
const ROOT = new URL("./", self.location.href);
const CACHE = "understudy-files";
/** Fetched at the installation this many at a time. */
const ABREAST = 4;

/** Files lie under their hash, so that a new version fetches what has changed and nothing else. */
const key = (file) => new URL(`by-hash/${file.hash.replaceAll("/", "_")}`, ROOT).href;

const ask = (path, more) => fetch(new URL(path, ROOT), { credentials: "omit", referrerPolicy: "no-referrer", redirect: "error", ...more });

const matches = async (bytes, file) => {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return btoa(String.fromCharCode(...digest)) === file.hash;
};

/** What the policy in a page's markup cannot say of other files: shown in a frame they can do nothing. */
function headers(path, file, type) {
  const all = {
    "Content-Type": type, "Content-Length": String(file.bytes), "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
  };
  return path.endsWith(".html") ? all : { ...all, "Content-Security-Policy": "default-src 'none'; sandbox" };
}

const dress = (path, file, body, type) => new Response(body, { headers: headers(path, file, type) });
const typeOf = (response) => response.headers.get("content-type") ?? "application/octet-stream";

/** Fetches a file, whole and checked, and keeps it. */
async function bring(cache, path) {
  const file = files[path];
  if (await cache.match(key(file))) return;
  const response = await ask(path, { cache: "no-cache", integrity: `sha256-${file.hash}` });
  if (!response.ok) throw new Error(`${path}: the server answered ${response.status}`);
  await cache.put(key(file), dress(path, file, await response.arrayBuffer(), typeOf(response)));
}

/** @param {string[]} paths @param {() => void} [each] */
async function bringAll(paths, each) {
  const cache = await caches.open(CACHE);
  const waiting = [...paths];
  await Promise.all(Array.from({ length: ABREAST }, async () => {
    for (let path = waiting.shift(); path !== undefined; path = waiting.shift()) {
      await bring(cache, path);
      each?.(path);
    }
  }));
}

/** The file at a path of the list: from the cache, if it is what the list says, else from the server. */
async function hand(path, event) {
  const file = files[path];
  const cache = await caches.open(CACHE);
  const kept = await cache.match(key(file));
  if (kept) {
    const bytes = await kept.arrayBuffer();
    if (await matches(bytes, file)) return dress(path, file, bytes, typeOf(kept));
    await cache.delete(key(file));
  }
  const response = await ask(path);
  if (!response.ok || !response.body) return response;
  const type = typeOf(response);
  const copy = response.clone();
  event.waitUntil((async () => {
    const bytes = await copy.arrayBuffer();
    if (await matches(bytes, file)) await cache.put(key(file), dress(path, file, bytes, type));
  })().catch(() => {}));
  return dress(path, file, response.body, type);
}

async function refuse(url) {
  for (const client of await clients.matchAll({ type: "window" })) client.postMessage({ understudy: "refused", url: url.href });
  return new Response("Refused: this is not a file of this page.\n", { status: 403, headers: { "Content-Type": "text/plain; charset=utf-8", "Content-Security-Policy": "default-src 'none'; sandbox" } });
}

/** Was the asking frame made for an address that a person gave? */
async function mayLeave(event) {
  const client = event.clientId ? await clients.get(event.clientId) : undefined;
  return client !== undefined && client.url === new URL("loader.html#address", ROOT).href;
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  const inside = url.origin === ROOT.origin && url.pathname.startsWith(ROOT.pathname);
  const path = inside ? decodeURIComponent(url.pathname.slice(ROOT.pathname.length)) || "index.html" : "";
  event.respondWith((async () => {
    // The page itself opens whatever was written behind its address; nothing of that goes to the server.
    const opens = request.mode === "navigate" && request.destination === "document" && path === "index.html";
    if (request.method === "GET" && Object.hasOwn(files, path) && (opens || !url.search)) return hand(path, event);
    if (await mayLeave(event)) return fetch(request);
    return refuse(url);
  })());
});

self.addEventListener("install", (event) => event.waitUntil(bringAll(Object.keys(files).filter((path) => files[path].first))));

self.addEventListener("activate", (event) => event.waitUntil((async () => {
  const cache = await caches.open(CACHE);
  const known = new Set(Object.values(files).map(key));
  for (const request of await cache.keys()) if (!known.has(request.url)) await cache.delete(request);
  await clients.claim();
})()));

/** The files of the list that are not here yet. */
async function missing() {
  const cache = await caches.open(CACHE);
  const here = new Set((await cache.keys()).map(({ url }) => url));
  return Object.keys(files).filter((path) => !here.has(key(files[path])));
}

const tasks = {
  async state() {
    const paths = await missing();
    return { here: Object.keys(files).length - paths.length, missing: paths.length, bytes: paths.reduce((sum, path) => sum + files[path].bytes, 0) };
  },
  async rest(port) {
    await bringAll(await missing(), (path) => port.postMessage({ fetched: files[path].bytes }));
    return tasks.state();
  },
  /** A new version takes over when a person says so, and no other tab is in the middle of something. */
  async takeOver() {
    const tabs = (await clients.matchAll({ type: "window", includeUncontrolled: true })).filter(({ frameType }) => frameType === "top-level").length;
    if (tabs > 1) return { tabs };
    await self.skipWaiting();
    return { tabs };
  },
};

self.addEventListener("message", (event) => {
  const task = Object.hasOwn(tasks, event.data?.task) ? tasks[event.data.task] : null;
  const port = event.ports[0];
  if (!task || !port) return;
  event.waitUntil(task(port).then((done) => port.postMessage({ done }), (error) => port.postMessage({ error: String(error.message ?? error) })));
});
