// @ts-check
// The chat worker: owns the Runner (wasm), answers one call at a time, and brings the student back when the
// device is lost. It is started from a blob: URL (see understudy.js), so it lives under the page's own policy
// and cannot connect anywhere; the wasm bytes and the students come to it by message.

/** @typedef {{ id: number, type: string, args: any, flag?: SharedArrayBuffer, aborted?: boolean }} Call */

/** @type {any} */ let glue = null;
/** @type {any} */ let runner = null;
/** @type {any} */ let runnerOptions = {};
/** The open student, kept for a rebuild. @type {{ blob: Blob, context?: number } | null} */ let source = null;

/** What is attached to it, in order, for a rebuild. @type {{ bytes: Uint8Array, config?: string, scale: number }[]} */ let adapters = [];

/** @type {Call[]} */ const waiting = [];
/** @type {Call | null} */ let running = null;

/** @param {any} message @param {Transferable[]} [transfer] */
const post = (message, transfer = []) => self.postMessage(message, { transfer });

/** @param {string} kind @param {object} [more] */
const notify = (kind, more = {}) => post({ event: kind, ...more });

/** @param {string} code @param {string} message @param {string} hint */
const fault = (code, message, hint) => Object.assign(new Error(message), { code, hint });

const stopped = () => fault("aborted", "Stopped.", "Send again when you like; nothing was lost.");

/** Has the caller taken this call back? The shared flag is seen even while wasm keeps this thread busy. @param {Call} call */
function isAborted(call) {
  return call.aborted === true || (call.flag !== undefined && Atomics.load(new Int32Array(call.flag), 0) === 1);
}

/** Ranges of a file, as the facade asks for them. @param {Blob} blob @param {Call} call */
function reader(blob, call) {
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

/** wgpu does not ask for subgroups in browsers, so they are asked for here. @param {any} options */
async function prepareDevice(options) {
  const gpu = /** @type {any} */ (navigator).gpu;
  if (options.gpu === "off" || !gpu) return { ...options, subgroups: false, f16: false };
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  const has = (/** @type {string} */ name) => adapter?.features.has(name) ?? false;
  const subgroups = options.subgroups !== false && has("subgroups");
  const prototype = /** @type {any} */ (self).GPUAdapter?.prototype;
  if (subgroups && prototype && !prototype.requestDevice.understudy) {
    const requestDevice = prototype.requestDevice;
    prototype.requestDevice = function (/** @type {any} */ descriptor = {}) {
      const features = new Set(descriptor.requiredFeatures ?? []);
      if (runnerOptions.subgroups && this.features.has("subgroups")) features.add("subgroups");
      return requestDevice.call(this, { ...descriptor, requiredFeatures: [...features] });
    };
    prototype.requestDevice.understudy = true;
  }
  // Browsers tell vendor and architecture, which wgpu does not pass on.
  const { vendor = "", architecture = "" } = adapter?.info ?? {};
  return { ...options, subgroups, f16: options.f16 !== false && has("shader-f16"), adapter: [vendor, architecture].filter(Boolean).join(" ") };
}

/** @type {Record<string, (call: Call) => Promise<any>>} */
const work = {
  async start(call) {
    glue = await import(call.args.glue);
    await glue.default({ module_or_path: call.args.wasm });
    runnerOptions = await prepareDevice(call.args.options);
    runner = await glue.Runner.create(runnerOptions);
    return runner.device();
  },

  async plan(call) {
    return runner.plan(reader(call.args.blob, call), call.args.blob.size, { context: call.args.context });
  },

  async open(call) {
    const { blob, context } = call.args;
    const info = await openStudent(call, blob, context);
    source = { blob, context: info.context };
    adapters = [];
    return info;
  },

  /** The same student from a better place: its copy in the browser's storage. */
  async source(call) {
    if (source) source.blob = call.args.blob;
  },

  async chat(call) {
    // A seed of our own makes an interrupted answer come out the same when it is run again.
    const request = { ...call.args.request };
    request.seed ??= crypto.getRandomValues(new Uint32Array(1))[0];
    return answer(call, request);
  },

  async attach(call) {
    const { blob, config, scale } = call.args;
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const words = await runner.attach(bytes, config, scale);
    adapters.push({ bytes, config, scale });
    return words;
  },

  async detach(call) {
    await runner.detach(call.args.number);
    adapters.splice(call.args.number, 1);
  },

  async scale(call) {
    await runner.setAdapterScale(call.args.number, call.args.scale);
    adapters[call.args.number].scale = call.args.scale;
  },

  async logits(call) {
    return runner.logits(Uint32Array.from(call.args.ids));
  },

  async tokenize(call) {
    return runner.tokenize(call.args.text, call.args.options ?? {});
  },

  async count(call) {
    return runner.count(call.args.messages);
  },

  async measure() {
    return { counts: runner.counts(), memory: runner.memory() };
  },

  /** Test hook: loses the device as a driver reset would. In the middle of an answer it does not wait for its turn. */
  async destroyDevice() {
    runner.destroyDevice();
  },

  async close() {
    source = null;
    adapters = [];
    runner.close();
  },
};

/** @param {Call} call @param {Blob} blob @param {number | undefined} context */
function openStudent(call, blob, context) {
  return runner.open(reader(blob, call), blob.size, { context }, (/** @type {number} */ loaded, /** @type {number} */ total, /** @type {string} */ phase) => {
    post({ id: call.id, progress: { loaded, total, phase } });
  });
}

/**
 * One answer. What was already sent to the page is remembered in `call`, so that a second run after a lost device
 * continues where the first one broke off; should the second run differ, the page is told to start over.
 * @param {any} call @param {any} request
 */
async function answer(call, request) {
  call.request = request;
  const sent = (call.sent ??= { content: "", reasoning: "" });
  const seen = { content: "", reasoning: "" };
  let catchingUp = sent.content.length + sent.reasoning.length > 0;
  return runner.chat(request, (/** @type {any} */ delta) => {
    if (delta.prompt) post({ id: call.id, prompt: delta.prompt });
    seen.content += delta.content ?? "";
    seen.reasoning += delta.reasoning ?? "";
    if (catchingUp) {
      const same = sent.content.startsWith(seen.content) && sent.reasoning.startsWith(seen.reasoning);
      const past = seen.content.startsWith(sent.content) && seen.reasoning.startsWith(sent.reasoning);
      if (past) {
        catchingUp = false;
        send(call.id, seen.content.slice(sent.content.length), seen.reasoning.slice(sent.reasoning.length), delta.tokens);
      } else if (!same) {
        catchingUp = false;
        post({ id: call.id, restart: true });
        send(call.id, seen.content, seen.reasoning, delta.tokens);
      }
    } else {
      send(call.id, delta.content ?? "", delta.reasoning ?? "", delta.tokens);
    }
    if (!catchingUp) Object.assign(sent, seen);
    return isAborted(call);
  });
}

/** @param {number} id @param {string} content @param {string} reasoning @param {number} tokens */
function send(id, content, reasoning, tokens) {
  if (content || reasoning) post({ id, delta: { content, reasoning, tokens } });
}

/** A new device, and the same student on it. @param {Call} call @param {any} reason */
async function rebuild(call, reason) {
  notify("device-lost", { message: reason.message, hint: reason.hint });
  try {
    runner.free?.();
  } catch {
    // The lost runner may still be borrowed by its last call; a new one takes its place all the same.
  }
  runnerOptions = await prepareDevice(runnerOptions);
  runner = await glue.Runner.create(runnerOptions);
  const device = runner.device();
  if (source) {
    const again = { id: -1, type: "open", args: {} };
    await runner.open(reader(source.blob, again), source.blob.size, { context: source.context }, (/** @type {number} */ loaded, /** @type {number} */ total, /** @type {string} */ phase) => {
      notify("progress", { progress: { loaded, total, phase } });
    });
    for (const { bytes, config, scale } of adapters) await runner.attach(bytes, config, scale);
  }
  notify("device-rebuilt", { device });
}

const REPLAYED = new Set(["open", "plan", "chat", "logits", "attach", "detach", "scale"]);

/** @param {Call} call */
async function perform(call) {
  for (let attempt = 0; ; attempt++) {
    try {
      if (isAborted(call)) throw stopped();
      const seeded = /** @type {any} */ (call).request;
      return await (seeded ? answer(call, seeded) : work[call.type](call));
    } catch (/** @type {any} */ error) {
      const lost = error?.code === "device-lost" || (REPLAYED.has(call.type) && runner && isLost());
      if (!lost || attempt >= 2) throw error;
      await rebuild(call, error);
      if (!REPLAYED.has(call.type)) throw error;
    }
  }
}

function isLost() {
  try {
    return runner.deviceLost();
  } catch {
    return false;
  }
}

/** Whatever was thrown, as {code, message, hint}. @param {any} error */
function plain(error) {
  if (error?.code && typeof error.code === "string") return { code: error.code, message: error.message, hint: error.hint ?? "" };
  const message = String(error?.message ?? error);
  const crashed = error instanceof WebAssembly.RuntimeError || /recursive use of an object|unreachable/.test(message);
  return crashed
    ? { code: "crashed", message: "The engine stopped unexpectedly.", hint: "It is started again by itself; then try once more.", detail: message }
    : { code: "internal", message: `Something went wrong inside the worker: ${message}`, hint: "Reload the page; if it happens again, report it." };
}

async function pump() {
  if (running) return;
  while (waiting.length > 0) {
    const call = /** @type {Call} */ (waiting.shift());
    running = call;
    try {
      const result = await perform(call);
      post({ id: call.id, result });
    } catch (error) {
      post({ id: call.id, error: isAborted(call) ? plain(stopped()) : plain(error) });
    }
    running = null;
  }
}

self.addEventListener("message", ({ data }) => {
  if (data.type === "abort") {
    const at = waiting.findIndex((call) => call.id === data.target);
    if (at >= 0) {
      waiting.splice(at, 1);
      post({ id: data.target, error: plain(stopped()) });
    } else if (running && running.id === data.target) {
      running.aborted = true;
    }
    return;
  }
  if (data.type === "destroyDevice" && running) {
    runner.destroyDevice();
    return post({ id: data.id });
  }
  waiting.push(data);
  pump();
});

// Requests made by this worker, for the page's counter. Modules and wasm are here before the count starts.
new PerformanceObserver((list) => {
  const names = list.getEntries().map((entry) => entry.name).filter((name) => !/^(blob|data):/.test(name));
  if (names.length > 0) notify("requests", { names });
}).observe({ type: "resource" });
self.addEventListener("securitypolicyviolation", (event) => notify("blocked", { directive: event.effectiveDirective, uri: event.blockedURI }));

post({ event: "hello" });
