// @ts-check
// What the chat worker and the teach worker have in common: calls answered one after the other, errors as plain
// objects, a device asked for with what it has, and a report of every request.

/** @typedef {{ id: number, type: string, args: any, flag?: SharedArrayBuffer, aborted?: boolean }} Call */

/** @type {Call[]} */ const waiting = [];
/** @type {Call | null} */ let running = null;

/** @param {any} message @param {Transferable[]} [transfer] */
export const post = (message, transfer = []) => self.postMessage(message, { transfer });

/** @param {string} kind @param {object} [more] */
export const notify = (kind, more = {}) => post({ event: kind, ...more });

/** @param {string} code @param {string} message @param {string} hint */
export const fault = (code, message, hint) => Object.assign(new Error(message), { code, hint });

export const stopped = () => fault("aborted", "Stopped.", "Send again when you like; nothing was lost.");

/** Has the caller taken this call back? The shared flag is seen even while wasm keeps this thread busy. @param {Call} call */
export function isAborted(call) {
  return call.aborted === true || (call.flag !== undefined && Atomics.load(new Int32Array(call.flag), 0) === 1);
}

/** Ranges of a file, as the facade asks for them. @param {Blob} blob @param {Call} call */
export function reader(blob, call) {
  return async (/** @type {number} */ offset, /** @type {number} */ length) => {
    if (isAborted(call)) throw stopped();
    try {
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    } catch (error) {
      // The facade makes its own sentence around this reason.
      throw new Error((error instanceof Error ? error.message : String(error)).replace(/\.$/, ""));
    }
  };
}

let wantsSubgroups = false;

/** wgpu does not ask for subgroups in browsers, so they are asked for here. @param {any} options */
export async function prepareDevice(options) {
  const gpu = /** @type {any} */ (navigator).gpu;
  if (options.gpu === "off" || !gpu) return { ...options, subgroups: false };
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  const has = (/** @type {string} */ name) => adapter?.features.has(name) ?? false;
  wantsSubgroups = options.subgroups !== false && has("subgroups");
  const prototype = /** @type {any} */ (self).GPUAdapter?.prototype;
  if (wantsSubgroups && prototype && !prototype.requestDevice.understudy) {
    const requestDevice = prototype.requestDevice;
    prototype.requestDevice = function (/** @type {any} */ descriptor = {}) {
      const features = new Set(descriptor.requiredFeatures ?? []);
      if (wantsSubgroups && this.features.has("subgroups")) features.add("subgroups");
      return requestDevice.call(this, { ...descriptor, requiredFeatures: [...features] });
    };
    prototype.requestDevice.understudy = true;
  }
  // Browsers tell vendor and architecture, which wgpu does not pass on.
  const { vendor = "", architecture = "" } = adapter?.info ?? {};
  return { ...options, subgroups: wantsSubgroups, adapter: [vendor, architecture].filter(Boolean).join(" ") };
}

/** Did wasm itself break? Then nothing of its instance can be used any more. @param {any} error */
export const isCrash = (error) =>
  !error?.code && (error instanceof WebAssembly.RuntimeError || /recursive use of an object|unreachable/.test(String(error?.message ?? error)));

/** Whatever was thrown, as {code, message, hint}. @param {any} error */
export function plain(error) {
  if (error?.code && typeof error.code === "string") return { code: error.code, message: error.message, hint: error.hint ?? "" };
  const message = String(error?.message ?? error);
  return isCrash(error)
    ? { code: "crashed", message: "The engine stopped unexpectedly.", hint: "It is started again by itself; then try once more.", detail: message }
    : { code: "internal", message: `Something went wrong inside the worker: ${message}`, hint: "Reload the page; if it happens again, report it." };
}

/** @param {Call} call @param {(call: Call) => Promise<any>} perform */
async function answer(call, perform) {
  try {
    post({ id: call.id, result: await perform(call) });
  } catch (error) {
    post({ id: call.id, error: isAborted(call) ? plain(stopped()) : plain(error) });
  }
}

/** Answers what has come in meanwhile, for a call that lasts long and has a moment. @param {(call: Call) => Promise<any>} perform */
export async function serveWaiting(perform) {
  while (waiting.length > 0) await answer(/** @type {Call} */ (waiting.shift()), perform);
}

/**
 * Serves calls until the worker ends. `urgent` sees every message first, in the middle of a running call too, and says
 * whether that was all.
 * @param {(call: Call) => Promise<any>} perform @param {(data: any, busy: boolean) => boolean} [urgent]
 */
export function serve(perform, urgent = () => false) {
  const pump = async () => {
    while (!running && waiting.length > 0) {
      running = /** @type {Call} */ (waiting.shift());
      await answer(running, perform);
      running = null;
    }
  };

  self.addEventListener("message", ({ data }) => {
    if (urgent(data, running !== null)) return;
    if (data.type !== "abort") {
      waiting.push(data);
      pump();
      return;
    }
    const at = waiting.findIndex((call) => call.id === data.target);
    if (at >= 0) {
      waiting.splice(at, 1);
      post({ id: data.target, error: plain(stopped()) });
    } else if (running && running.id === data.target) {
      running.aborted = true;
    }
  });

  // Requests made by this worker, for the page's counter. What it is made of is here before the count starts.
  new PerformanceObserver((list) => {
    const names = list.getEntries().map((entry) => entry.name).filter((name) => !/^(blob|data):/.test(name));
    if (names.length > 0) notify("requests", { names });
  }).observe({ type: "resource" });
  self.addEventListener("securitypolicyviolation", (event) => notify("blocked", { directive: event.effectiveDirective, uri: event.blockedURI }));

  post({ event: "hello" });
}
