// @ts-check
// A worker as its page sees it: started from a blob: URL, called, listened to, ended.
import { UnderstudyError, aborted } from "./errors.js";

/** The text of the worker's blob: URL. Ways out that no policy covers are taken away before anything is imported. */
const workerText = (/** @type {string} */ url) => `
for (const name of ["RTCPeerConnection", "webkitRTCPeerConnection", "RTCDataChannel"]) {
  try { delete self[name]; } catch {}
  if (name in self) Object.defineProperty(self, name, { value: undefined });
}
import(${JSON.stringify(url)}).catch((error) => postMessage({ event: "failed", message: String(error) }));
`;

/**
 * What a caller may listen to while a call runs: any message { id, [name]: value } of the worker goes to the listener of
 * that name. @typedef {{ signal?: AbortSignal, transfer?: Transferable[], listeners?: Record<string, (value: any) => void> }} CallOptions
 */

export class Bridge {
  /**
   * @param {string} name @param {string} code The address of the worker's module.
   * @param {{ onEvent: (data: any) => void, onCrash: (detail?: string) => void }} on
   */
  constructor(name, code, { onEvent, onCrash }) {
    this.name = name;
    this.code = code;
    this.onEvent = onEvent;
    this.onCrash = onCrash;
    /** @type {Worker | null} */ this.worker = null;
    /** @type {Map<number, any>} */ this.calls = new Map();
    this.next = 1;
  }

  get running() {
    return this.worker !== null;
  }

  async boot() {
    const url = URL.createObjectURL(new Blob([workerText(this.code)], { type: "text/javascript" }));
    const worker = new Worker(url, { type: "module", name: this.name });
    this.worker = worker;
    await new Promise((resolve, reject) => {
      const failed = (/** @type {string} */ why) => reject(new UnderstudyError("internal", `The engine's worker did not start: ${why}.`, "Reload the page."));
      worker.onerror = (event) => failed(event.message || "its script could not be run");
      worker.onmessage = ({ data }) => (data.event === "hello" ? resolve(undefined) : failed(data.message));
    }).finally(() => URL.revokeObjectURL(url));
    worker.onmessage = ({ data }) => this.receive(data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.onCrash(event.message);
    };
  }

  /** @param {any} data */
  receive(data) {
    if (data.event) return this.onEvent(data);
    const call = this.calls.get(data.id);
    if (!call) return;
    if ("result" in data || "error" in data) {
      this.calls.delete(data.id);
      call.tidy();
      if (data.error) call.reject(new UnderstudyError(data.error.code, data.error.message, data.error.hint));
      else call.resolve(data.result);
      if (data.error?.code === "crashed") this.onCrash(data.error.detail);
      return;
    }
    for (const [name, value] of Object.entries(data)) call.listeners[name]?.(value);
  }

  /** A message that gets no answer. @param {string} type @param {object} [more] */
  tell(type, more = {}) {
    this.worker?.postMessage({ type, ...more });
  }

  /** @param {string} type @param {any} args @param {CallOptions} [options] @returns {Promise<any>} */
  async call(type, args, { signal, transfer = [], listeners = {} } = {}) {
    if (signal?.aborted) throw aborted();
    const worker = this.worker;
    if (!worker) throw new UnderstudyError("crashed", "The engine is not running.", "Reload the page.");
    const id = this.next++;
    // Seen by the worker even while wasm keeps its thread busy.
    const flag = globalThis.crossOriginIsolated ? new SharedArrayBuffer(4) : undefined;
    return new Promise((resolve, reject) => {
      const stop = () => {
        if (flag) Atomics.store(new Int32Array(flag), 0, 1);
        worker.postMessage({ type: "abort", target: id });
      };
      signal?.addEventListener("abort", stop, { once: true });
      this.calls.set(id, { resolve, reject, listeners, tidy: () => signal?.removeEventListener("abort", stop) });
      worker.postMessage({ id, type, args, flag }, transfer);
    });
  }

  /** Ends the worker; what was asked of it fails with this error. @param {UnderstudyError} error */
  end(error) {
    this.worker?.terminate();
    this.worker = null;
    for (const call of this.calls.values()) {
      call.tidy();
      call.reject(error);
    }
    this.calls.clear();
  }
}
