// @ts-check
// Downloads: the page's own files and students by address, through the hidden loader frame where the page may not connect.
import { UnderstudyError, aborted } from "./errors.js";

/** The site's files lie beside this module's folder. */
export const BASE = new URL("../", import.meta.url);

/**
 * The hidden frame that may connect, for pages whose own policy forbids it. It is made when first needed and
 * removed when its last download has ended.
 */
class Loader {
  /** @param {URL} base @param {boolean} elsewhere */
  constructor(base, elsewhere) {
    this.url = new URL(elsewhere ? "loader.html#address" : "loader.html#site", base);
    /** @type {HTMLIFrameElement | null} */ this.frame = null;
    /** @type {Promise<Window> | null} */ this.ready = null;
    this.active = 0;
  }

  open() {
    return (this.ready ??= new Promise((resolve, reject) => {
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "Downloads";
      frame.setAttribute("aria-hidden", "true");
      frame.referrerPolicy = "no-referrer";
      frame.src = this.url.href;
      const fail = () => {
        removeEventListener("message", hello);
        this.remove();
        reject(new UnderstudyError("io", "The loader frame did not answer.", "Reload the page."));
      };
      const timer = setTimeout(fail, 20_000);
      const hello = (/** @type {MessageEvent} */ event) => {
        if (event.source !== frame.contentWindow || event.data?.understudy !== "loader-ready") return;
        clearTimeout(timer);
        removeEventListener("message", hello);
        resolve(/** @type {Window} */ (frame.contentWindow));
      };
      addEventListener("message", hello);
      this.frame = frame;
      (document.body ?? document.documentElement).append(frame);
    }));
  }

  remove() {
    this.frame?.remove();
    this.frame = this.ready = null;
  }

  /** @param {string} url @param {AbortSignal} [signal] @returns {Promise<{ size?: number, stream: ReadableStream<Uint8Array> }>} */
  async get(url, signal) {
    this.active++;
    const done = () => {
      if (--this.active === 0) setTimeout(() => this.active === 0 && this.remove(), 500);
    };
    try {
      const frame = await this.open();
      const { port1: port, port2 } = new MessageChannel();
      signal?.addEventListener("abort", () => port.postMessage("abort"), { once: true });
      const next = () => new Promise((resolve) => (port.onmessage = ({ data }) => resolve(data)));
      const answer = next();
      frame.postMessage({ url }, this.url.origin, [port2]);
      const first = await answer;
      if (first.error) throw new Error(first.error);
      const body = first.stream?.getReader();
      const read = body ? () => body.read() : async () => {
        const piece = next();
        port.postMessage("next");
        const { error, ...rest } = await piece;
        if (error) throw new Error(error);
        return rest;
      };
      const stream = new ReadableStream({
        async pull(controller) {
          try {
            const { done: end, value } = await read();
            if (!end) return controller.enqueue(value);
            controller.close();
          } catch (error) {
            controller.error(signal?.aborted ? aborted() : error);
          }
          done();
        },
        cancel() {
          port.postMessage("abort");
          done();
        },
      });
      return { size: first.size, stream };
    } catch (error) {
      done();
      throw error;
    }
  }
}

/** @type {Map<string, Loader>} */ const loaders = new Map();

/** Does the page's own policy forbid connections? Then downloads go through the loader frame. */
function pageMayConnect() {
  if (typeof document === "undefined") return true;
  for (const meta of document.querySelectorAll("meta[http-equiv]")) {
    const policy = /** @type {HTMLMetaElement} */ (meta);
    if (/^content-security-policy$/i.test(policy.httpEquiv) && /connect-src\s+'none'/.test(policy.content)) return false;
  }
  return true;
}

/**
 * Opens a download. @param {string | URL} address
 * @param {{ signal?: AbortSignal, assets?: string | URL, loader?: boolean }} [options]
 * @returns {Promise<{ size?: number, stream: ReadableStream<Uint8Array> }>}
 */
export async function download(address, { signal, assets = BASE, loader = !pageMayConnect() } = {}) {
  const base = new URL(assets, globalThis.document?.baseURI);
  const url = new URL(address, base);
  try {
    if (signal?.aborted) throw aborted();
    if (loader) {
      const key = `${base.href} ${url.origin === base.origin}`;
      if (!loaders.has(key)) loaders.set(key, new Loader(base, url.origin !== base.origin));
      return await /** @type {Loader} */ (loaders.get(key)).get(url.href, signal);
    }
    const response = await fetch(url, { signal, referrerPolicy: "no-referrer" });
    if (!response.ok || !response.body) throw new Error(`the server answered ${response.status} ${response.statusText}`.trim());
    const packed = response.headers.has("content-encoding");
    return { size: packed ? undefined : Number(response.headers.get("content-length")) || undefined, stream: response.body };
  } catch (error) {
    if (signal?.aborted) throw aborted();
    if (error instanceof UnderstudyError) throw error;
    const name = url.pathname.split("/").pop() || url.host;
    throw new UnderstudyError("io", `${name} could not be downloaded: ${error instanceof Error ? error.message : error}.`,
      "Check the connection and the address, then try again.");
  }
}

/**
 * A stream as one Blob, counting. @param {{ size?: number, stream: ReadableStream<Uint8Array> }} source
 * @param {(loaded: number, total: number | undefined) => void} [onProgress]
 */
export async function collect({ size, stream }, onProgress) {
  let loaded = 0;
  const counted = stream.pipeThrough(new TransformStream({
    transform(piece, controller) {
      loaded += piece.byteLength;
      onProgress?.(loaded, size);
      controller.enqueue(piece);
    },
  }));
  try {
    return await new Response(counted).blob();
  } catch (error) {
    if (error instanceof UnderstudyError) throw error;
    throw new UnderstudyError("io", `The download broke off after ${loaded} bytes.`, "Check the connection, then try again.");
  }
}
