// @ts-check
// The chat worker: owns the Runner (wasm), answers one call at a time, and brings the student back when the
// device is lost. It is started from a blob: URL (see understudy.js), so it lives under the page's own policy
// and cannot connect anywhere; the wasm bytes and the students come to it by message.

import { isAborted, notify, post, prepareDevice, reader, serve, stopped } from "./worker-base.js";

/** @typedef {import("./worker-base.js").Call} Call */

/** Bytes that are hashed at a time. */
const PIECE = 4 * 2 ** 20;

/** @type {any} */ let glue = null;
/** @type {any} */ let runner = null;
/** @type {any} */ let runnerOptions = {};
/** The open student, kept for a rebuild. @type {{ blob: Blob, context?: number, cache?: string, template?: string } | null} */ let source = null;

/** What is attached to it, in order, for a rebuild. @type {{ bytes: Uint8Array, config?: string, scale: number }[]} */ let adapters = [];

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
    return runner.plan(reader(call.args.blob, call), call.args.blob.size, { context: call.args.context, cache: call.args.cache });
  },

  async open(call) {
    const { blob, context, cache, template } = call.args;
    const info = await openStudent(call, blob, { context, cache, template });
    source = { blob, context: info.context, cache: info.cache_type, template };
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

  async saveState() {
    return new Blob([await runner.saveState()]);
  },

  async restoreState(call) {
    return runner.restoreState(new Uint8Array(await call.args.blob.arrayBuffer()));
  },

  async logits(call) {
    return runner.logits(Uint32Array.from(call.args.ids));
  },

  async tokenize(call) {
    return runner.tokenize(call.args.text, call.args.options ?? {});
  },

  async count(call) {
    return runner.count(call.args.messages, call.args.options ?? {});
  },

  async prompt(call) {
    return runner.prompt(call.args.messages, call.args.options ?? {});
  },

  /** SHA-256 of the open student's file, in hexadecimal digits. */
  async sha256(call) {
    const blob = source?.blob;
    if (!blob) throw new Error("no student is open");
    const hash = new glue.Sha256();
    for (let at = 0; at < blob.size; at += PIECE) {
      if (isAborted(call)) {
        hash.free();
        throw stopped();
      }
      hash.update(new Uint8Array(await blob.slice(at, at + PIECE).arrayBuffer()));
    }
    return hash.hex();
  },

  async measure() {
    return { counts: runner.counts(), memory: runner.memory() };
  },

  /** Test hook: loses the device as a driver reset would. */
  async destroyDevice() {
    runner.destroyDevice();
  },

  async close() {
    source = null;
    adapters = [];
    runner.close();
  },
};

/** @param {Call} call @param {Blob} blob @param {{ context?: number, cache?: string, template?: string }} options */
function openStudent(call, blob, options) {
  return runner.open(reader(blob, call), blob.size, options, (/** @type {number} */ loaded, /** @type {number} */ total, /** @type {string} */ phase) => {
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
  /** @type {Seen} */ const sent = (call.sent ??= { content: "", reasoning: "", calls: [], logprobs: [] });
  /** @type {Seen} */ const seen = { content: "", reasoning: "", calls: [], logprobs: [] };
  const length = (/** @type {Seen} */ { content, reasoning, calls, logprobs }) => content.length + reasoning.length + calls.length + logprobs.length;
  let catchingUp = length(sent) > 0;
  return runner.chat(request, (/** @type {any} */ delta) => {
    const { prompt, tokens, ...more } = delta;
    if (prompt) post({ id: call.id, prompt });
    seen.content += more.content;
    seen.reasoning += more.reasoning;
    seen.calls.push(...more.calls);
    seen.logprobs.push(...more.logprobs);
    if (!catchingUp) {
      send(call.id, more, tokens);
    } else {
      const same = sent.content.startsWith(seen.content) && sent.reasoning.startsWith(seen.reasoning);
      const past = seen.content.startsWith(sent.content) && seen.reasoning.startsWith(sent.reasoning) &&
        seen.calls.length >= sent.calls.length && seen.logprobs.length >= sent.logprobs.length;
      if (past) {
        catchingUp = false;
        const rest = (/** @type {keyof Seen} */ part) => /** @type {any} */ (seen[part].slice(sent[part].length));
        send(call.id, { content: rest("content"), reasoning: rest("reasoning"), calls: rest("calls"), logprobs: rest("logprobs") }, tokens);
      } else if (!same) {
        catchingUp = false;
        post({ id: call.id, restart: true });
        send(call.id, seen, tokens);
      }
    }
    if (!catchingUp) call.sent = seen;
    return isAborted(call);
  });
}

/**
 * What was told of an answer: text, and whatever goes with it.
 * @typedef {{ content: string, reasoning: string, calls: any[], logprobs: any[] }} Seen
 */

/** @param {number} id @param {Seen} delta @param {number} tokens */
function send(id, delta, tokens) {
  if (delta.content || delta.reasoning || delta.calls.length > 0 || delta.logprobs.length > 0) post({ id, delta: { ...delta, tokens } });
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
    await runner.open(reader(source.blob, again), source.blob.size, { context: source.context, cache: source.cache, template: source.template }, (/** @type {number} */ loaded, /** @type {number} */ total, /** @type {string} */ phase) => {
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

// In the middle of an answer the test hook does not wait for its turn.
serve(perform, (data, busy) => {
  if (data.type !== "destroyDevice" || !busy) return false;
  runner.destroyDevice();
  post({ id: data.id, result: undefined });
  return true;
});
