// @ts-check
// The JavaScript API. One ES module, which imports only its neighbours:
//
//   const student = await Understudy.load(file, { onProgress, signal });
//   for await (const chunk of student.chat.completions.create({ messages, stream: true })) ...
//
//   for await (const step of student.distill(traces)) ...
//
// Types for editors are in understudy.d.ts. The engine runs in one dedicated worker (worker.js), started from a
// blob: URL so that it lives under the policy of the page that embeds it; teaching has one of its own (teaching.js).

import { Bridge } from "./bridge.js";
import { BASE, collect, download } from "./download.js";
import { UnderstudyError, aborted, closed } from "./errors.js";
import { Distillation, Teaching } from "./teaching.js";

export { UnderstudyError };

// ------------------------------------------------------------------------------------------------- engine

/**
 * One worker with one device. Holds at most one open student; calls are answered one after the other.
 * Events: "notice" with detail { kind, message, hint? }; kinds are listed in understudy.d.ts.
 */
class Engine extends EventTarget {
  /** @param {any} options @param {URL} base */
  constructor(options, base) {
    super();
    this.options = options;
    this.base = base;
    /** @type {any} */ this.device = null;
    /** @type {Student | null} */ this.student = null;
    /** @type {ArrayBuffer | null} */ this.wasm = null;
    /** @type {Promise<void> | null} */ this.restarting = null;
    this.closed = false;
    this.bridge = new Bridge("understudy", new URL("www/worker.js", base).href, {
      onEvent: (data) => this.report(data),
      onCrash: (detail) => this.crash(detail),
    });
  }

  /** @param {any} [options] */
  static async start(options = {}) {
    const base = new URL(options.assets ?? BASE, globalThis.document?.baseURI);
    const engine = new Engine(options, base);
    try {
      const file = await download("wasm/understudy_bg.wasm", { ...options, assets: base });
      engine.wasm = await (await collect(file, (loaded, total) => options.onProgress?.({ phase: "engine", loaded, total }))).arrayBuffer();
      await engine.boot(options.signal);
      return engine;
    } catch (error) {
      engine.close();
      throw UnderstudyError.from(error);
    }
  }

  /** @param {AbortSignal} [signal] */
  async boot(signal) {
    await this.bridge.boot();
    const { gpu = "auto", subgroups } = this.options;
    const glue = new URL("wasm/understudy.js", this.base).href;
    this.device = await this.call("start", { glue, wasm: this.wasm, options: { gpu, subgroups } }, { signal });
  }

  /** @param {any} data */
  report({ event, ...detail }) {
    if (event === "device-rebuilt") this.device = detail.device;
    const words = /** @type {Record<string, object>} */ ({
      "device-lost": { message: detail.message, hint: detail.hint },
      "device-rebuilt": { message: "The GPU is back and the student is loaded again." },
    })[event] ?? {};
    this.dispatchEvent(new CustomEvent("notice", { detail: { kind: event, ...detail, ...words } }));
  }

  /** The worker is beyond use: what was asked of it fails, and another takes its place with the same student. @param {string} [detail] */
  crash(detail) {
    if (this.closed || this.restarting) return;
    const { student } = this;
    const error = new UnderstudyError("crashed", "The engine stopped unexpectedly.", "It is started again by itself; then try once more.");
    this.bridge.end(error);
    this.report({ event: "engine-crashed", message: error.message, hint: error.hint, detail });
    this.restarting = (async () => {
      await this.boot();
      if (!student) return;
      const { context, cache_type: cache, template } = student.details;
      await this.call("open", { blob: student.blob, context, cache, template: template === "default" ? "general" : undefined }, { onProgress: (/** @type {any} */ progress) => this.report({ event: "progress", progress }) }, true);
      for (const { blob, config, scale } of student.attached) await this.call("attach", { blob, config, scale }, {}, true);
    })().then(
      () => {
        this.restarting = null;
        this.report({ event: "engine-restarted", device: this.device, message: "The engine runs again and the student is loaded." });
      },
      (failure) => {
        this.restarting = null;
        this.bridge.end(error);
        this.report({ event: "engine-failed", message: failure.message, hint: "Reload the page." });
      },
    );
  }

  /**
   * @param {string} type @param {any} args
   * @param {{ signal?: AbortSignal, onProgress?: Function, onDelta?: Function, onPrompt?: Function, onRestart?: Function }} [options]
   * @param {boolean} [inRestart]
   * @returns {Promise<any>}
   */
  async call(type, args, { signal, onProgress, onDelta, onPrompt, onRestart } = {}, inRestart = type === "start") {
    if (this.restarting && !inRestart) await this.restarting;
    if (!signal?.aborted && this.closed) throw closed();
    const listeners = Object.fromEntries(Object.entries({ progress: onProgress, delta: onDelta, prompt: onPrompt, restart: onRestart }).filter(([, listener]) => listener));
    return this.bridge.call(type, args, { signal, listeners: /** @type {any} */ (listeners) });
  }

  /** What a file is and whether it would fit, before anything is loaded. @param {any} source @param {any} [options] */
  async plan(source, options = {}) {
    const blob = await this.fetch(source, options);
    return withName(await this.call("plan", { blob, context: options.context, cache: options.cache }, options), blob, source);
  }

  /**
   * Opens a student in place of the one that is open; if it cannot be opened, that one stays. With the option `template: "general"` chats
   * are written out with the general template instead of the file's own.
   * @param {any} source @param {any} [options]
   */
  async open(source, options = {}) {
    const blob = await this.fetch(source, options);
    const { context, cache, template } = options;
    const details = withName(await this.call("open", { blob, context, cache, template }, options), blob, source);
    if (this.student) this.student.closed = true;
    this.student = new Student(this, blob, details);
    return this.student;
  }

  /** @param {any} source @param {any} options @returns {Promise<Blob>} */
  async fetch(source, options) {
    if (source instanceof Blob) return source;
    if (Array.isArray(source) && source.length > 0 && source.every((part) => part instanceof Blob)) return joined(source);
    if (typeof source !== "string" && !(source instanceof URL)) {
      throw new UnderstudyError("bad-request", "A student is opened from a File, a Blob or an address.", "Pass one of these.");
    }
    const got = await download(new URL(source, globalThis.document?.baseURI), { ...this.options, signal: options.signal });
    return collect(got, (loaded, total) => options.onProgress?.({ phase: "download", loaded, total }));
  }

  close() {
    this.closed = true;
    this.bridge.end(closed());
    if (this.student) this.student.closed = true;
    this.student = null;
  }
}

// ------------------------------------------------------------------------------------------------ student

/**
 * The parts of a split student one after another: no byte is copied, and the engine finds where each begins.
 * @param {(File | Blob)[]} parts @returns {Blob}
 */
export function joined(parts) {
  if (parts.length === 1) return parts[0];
  const names = parts.map((part) => (part instanceof File ? part.name : "")).sort();
  return new File(parts, names[0].replace(/-\d{5}-of-\d{5}(?=\.gguf$)/i, ""));
}

/** A file that states no name is called by its own, or by its architecture. @param {any} details @param {Blob} blob @param {any} source */
function withName(details, blob, source) {
  const file = blob instanceof File ? blob.name : source instanceof Blob ? "" : String(source).split(/[?#]/)[0].split("/").pop();
  return { ...details, name: details.name || (file ?? "").replace(/\.gguf$/i, "") || details.architecture };
}

class Student extends EventTarget {
  /** @param {Engine} engine @param {Blob} blob @param {any} details */
  constructor(engine, blob, details) {
    super();
    this.engine = engine;
    this.blob = blob;
    this.details = details;
    this.closed = false;
    this.ownsEngine = false;
    /** @type {Adapter[]} */ this.attached = [];
    engine.addEventListener("notice", (event) => {
      if (!this.closed) this.dispatchEvent(new CustomEvent("notice", { detail: /** @type {CustomEvent} */ (event).detail }));
    });
    this.chat = { completions: { create: (/** @type {any} */ body, /** @type {any} */ options) => this.create(body, options, CHAT) } };
    this.completions = { create: (/** @type {any} */ body, /** @type {any} */ options) => this.create(body, options, TEXT) };
  }

  info() {
    return { ...this.details, device: this.engine.device.words };
  }

  get plan() {
    return this.details;
  }

  get device() {
    return this.engine.device;
  }

  /** @param {string} type @param {any} args @param {any} [options] */
  ask(type, args, options) {
    if (this.closed) return Promise.reject(closed());
    return this.engine.call(type, args, options);
  }

  /** What the engine has done and holds so far: { counts: { dispatches, submissions, buffers, bind_groups, pipelines }, memory } in calls and bytes. */
  measure() {
    return this.ask("measure", {});
  }

  /**
   * Lays an adapter beside the weights; the next answer has it, and nothing is loaded again.
   * @param {any} source a GGUF adapter (Blob, bytes or address), or { config, weights } of a PEFT folder
   * @param {{ scale?: number, signal?: AbortSignal }} [options]
   */
  async attach(source, { scale = 1, signal } = {}) {
    const bytesOf = async (/** @type {any} */ from) =>
      from instanceof ArrayBuffer || ArrayBuffer.isView(from) ? new Blob([/** @type {BlobPart} */ (from)]) : this.engine.fetch(from, { signal });
    const peft = source?.weights !== undefined;
    const config = peft ? (typeof source.config === "string" ? source.config : JSON.stringify(source.config)) : undefined;
    const blob = await bytesOf(peft ? source.weights : source);
    const { number: _, name, ...details } = await this.ask("attach", { blob, config, scale }, { signal });
    const file = blob instanceof File ? blob.name.replace(/\.gguf$/i, "") : "";
    const adapter = new Adapter(this, blob, config, scale, { ...details, name: name || file || "Adapter" });
    this.attached.push(adapter);
    return adapter;
  }

  /** The attached adapters, in order. */
  get adapters() {
    return [...this.attached];
  }

  /** The conversation so far as the engine knows it, for `restoreState`: what it has read need not be read again. @returns {Promise<Blob>} */
  saveState() {
    return this.ask("saveState", {});
  }

  /** @param {Blob} blob @returns {Promise<number>} Tokens that are known again. */
  restoreState(blob) {
    return this.ask("restoreState", { blob });
  }

  /** @param {ArrayLike<number>} ids @param {{ signal?: AbortSignal }} [options] */
  logits(ids, options) {
    return this.ask("logits", { ids: Uint32Array.from(ids) }, options);
  }

  /** @param {string} text @param {any} [options] */
  tokenize(text, { signal, ...options } = {}) {
    return this.ask("tokenize", { text, options }, { signal });
  }

  /** @param {any[]} messages @param {{ signal?: AbortSignal }} [options] */
  count(messages, options) {
    return this.ask("count", { messages: messages.map(({ role, content }) => ({ role, content })) }, options);
  }

  /** @param {any} body @param {any} options @param {Shape} shape */
  create(body, options, shape) {
    const { stream = false, signal = options?.signal, ...rest } = body ?? {};
    if (!stream) {
      return (async () => {
        const result = await this.generate(shape.request(rest), { signal });
        if (signal?.aborted) throw aborted();
        return shape.whole(stamp(shape, this), result);
      })();
    }
    return new CompletionStream(this, shape, rest, signal);
  }

  /** @param {any} request @param {any} options */
  generate(request, options) {
    return this.ask("chat", { request }, options);
  }

  /**
   * Starts to teach this student, on a worker and a device of their own; the chat stays usable.
   * @param {any} [options] @returns {Promise<Teaching>}
   */
  teaching(options = {}) {
    if (this.closed) return Promise.reject(closed());
    return Teaching.start({ ...this.engine.options, signal: undefined, onProgress: undefined, ...options, assets: this.engine.base, student: this.blob });
  }

  /**
   * Teaches from traces in one go: an async iterable of step reports, with `.result` at its end.
   * @param {Blob | Blob[]} traces @param {any} [options]
   */
  distill(traces, options = {}) {
    return new Distillation(() => this.teaching(options), traces, options);
  }

  /** Lets the next rebuild read the same student from elsewhere (its copy in the browser's storage). @param {Blob} blob */
  async movedTo(blob) {
    if (this.closed) return;
    this.blob = blob;
    await this.ask("source", { blob });
  }

  /** For tests: destroys the GPU device under the student, as a driver reset would. */
  destroyDevice() {
    return this.ask("destroyDevice", {});
  }

  async close() {
    if (this.closed) return;
    this.closed = true;
    this.engine.student = null;
    if (this.ownsEngine) this.engine.close();
    else await this.engine.call("close", {});
  }
}

/** An adapter that is attached to a student. */
class Adapter {
  /** @param {Student} student @param {Blob} blob @param {string | undefined} config @param {number} scale @param {any} details */
  constructor(student, blob, config, scale, details) {
    this.student = student;
    this.blob = blob;
    this.config = config;
    this.scale = scale;
    this.details = details;
  }

  get name() {
    return this.details.name;
  }

  /** Its place among the attached ones, which is how the engine numbers them. */
  number() {
    const at = this.student.attached.indexOf(this);
    if (at < 0) throw new UnderstudyError("bad-request", "This adapter is no longer attached.", "Attach it again.");
    return at;
  }

  /** 0 is off, 1 as it was trained. @param {number} scale */
  async setScale(scale) {
    await this.student.ask("scale", { number: this.number(), scale });
    this.scale = scale;
  }

  async detach() {
    const number = this.number();
    await this.student.ask("detach", { number });
    this.student.attached.splice(this.student.attached.indexOf(this), 1);
  }
}

/** @typedef {{ id: string, object: string, request: (body: any) => any, whole: (stamp: any, result: any) => any, piece: (delta: any) => any }} Shape */

const KNOWN = new Set(["messages", "prompt", "model", "user", "n", "max_tokens", "max_completion_tokens", "temperature", "top_k", "top_p", "min_p", "seed",
  "stop", "response_format", "enable_thinking", "chat_template_kwargs", "ignore_eos", "stream_options", "store", "metadata"]);
/** Settings of other servers that mean "off" with these values, and are not served with any other. */
const OFF = { n: [1], frequency_penalty: [0], presence_penalty: [0], repetition_penalty: [1], logprobs: [false], tool_choice: ["none"] };

/** @param {any} body */
function settings(body) {
  for (const [name, value] of Object.entries(body)) {
    const off = /** @type {any} */ (OFF)[name];
    if (value == null || (off ? off.includes(value) : KNOWN.has(name))) continue;
    throw new UnderstudyError("bad-request", `The request cannot be served: ${name} is not known here.`, "Leave this setting out and send again.");
  }
  const { max_tokens = body.max_completion_tokens, temperature, top_k, top_p, min_p, seed, stop, response_format } = body;
  const enable_thinking = body.enable_thinking ?? body.chat_template_kwargs?.enable_thinking;
  const all = { max_tokens, temperature, top_k, top_p, min_p, seed, stop, response_format, enable_thinking, ignore_end: body.ignore_eos };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value != null));
}

/** @param {any} content */
function textOf(content) {
  if (typeof content === "string") return content;
  if (Array.isArray(content) && content.every((part) => part?.type === "text" && typeof part.text === "string")) return content.map((part) => part.text).join("");
  throw new UnderstudyError("bad-request", "The request cannot be served: a message's content must be text.", "Send text only.");
}

/** @param {any} result */
const extras = ({ usage, timings, context, ids }) => ({
  usage: { ...usage, prompt_tokens_details: { cached_tokens: usage.cached_tokens } }, timings, context, ids,
});

/** @type {Shape} */
const CHAT = {
  id: "chatcmpl", object: "chat.completion",
  request(body) {
    if (!Array.isArray(body.messages) || body.messages.length === 0) {
      throw new UnderstudyError("bad-request", "The request cannot be served: messages must be a list with at least one message.", "Add a message and send again.");
    }
    const messages = body.messages.map((/** @type {any} */ { role, content }) => ({ role: role === "developer" ? "system" : String(role), content: textOf(content) }));
    return { ...settings(body), messages };
  },
  whole: (stamp, result) => ({
    ...stamp,
    choices: [{ index: 0, message: { role: "assistant", content: result.content, ...(result.reasoning ? { reasoning_content: result.reasoning } : {}) }, logprobs: null, finish_reason: result.finish_reason }],
    ...extras(result),
  }),
  piece: ({ content, reasoning }) => ({ delta: { ...(content ? { content } : {}), ...(reasoning ? { reasoning_content: reasoning } : {}) } }),
};

/** @type {Shape} */
const TEXT = {
  id: "cmpl", object: "text_completion",
  request(body) {
    if (typeof body.prompt !== "string") throw new UnderstudyError("bad-request", "The request cannot be served: prompt must be text.", "Pass a prompt and send again.");
    return { ...settings(body), prompt: body.prompt };
  },
  whole: (stamp, result) => ({ ...stamp, choices: [{ index: 0, text: result.content, logprobs: null, finish_reason: result.finish_reason }], ...extras(result) }),
  piece: ({ content }) => ({ text: content ?? "" }),
};

/** @param {Shape} shape @param {Student} student */
const stamp = (shape, student) => ({
  id: `${shape.id}-${crypto.randomUUID()}`, object: shape.object, created: Math.floor(Date.now() / 1000), model: student.details.name,
});

/**
 * A streamed answer: an async iterator of chunks. The last chunk carries finish_reason, usage, timings and context.
 * `stop()` ends it early with what there is; leaving the loop ends it too; an aborted signal throws "aborted".
 * After a lost device the answer goes on by itself; should it come out differently, one chunk has `restart: true`,
 * and everything before it is to be forgotten.
 */
class CompletionStream {
  control = new AbortController();
  stopped = false;
  /** @type {(() => void) | null} */ wake = null;

  /** @param {Student} student @param {Shape} shape @param {any} body @param {AbortSignal} [signal] */
  constructor(student, shape, body, signal) {
    /** @type {any[]} */ this.chunks = [];
    this.done = false;
    /** @type {any} */ this.result = null;
    const head = { ...stamp(shape, student), object: shape === CHAT ? "chat.completion.chunk" : shape.object };
    const push = (/** @type {any} */ chunk) => {
      this.chunks.push(chunk);
      this.wake?.();
    };
    const piece = (/** @type {any} */ delta, /** @type {any} */ finish = null) => ({ ...head, choices: [{ index: 0, ...shape.piece(delta), finish_reason: finish }] });
    const abort = () => this.control.abort();
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    (async () => {
      try {
        const result = await student.generate(shape.request(body), {
          signal: this.control.signal,
          onDelta: (/** @type {any} */ delta) => push({ ...piece(delta), tokens: delta.tokens }),
          onPrompt: (/** @type {number[]} */ [processed, total]) => push({ ...piece({}), prompt_progress: { processed, total } }),
          onRestart: () => push({ ...piece({}), restart: true }),
        });
        if (signal?.aborted) throw aborted();
        this.result = result;
        push({ ...piece({}, result.finish_reason), ...extras(result) });
      } catch (error) {
        const known = UnderstudyError.from(error);
        if (known.code === "aborted" && this.stopped && !signal?.aborted) push(piece({}, "abort"));
        else push(known);
      }
      signal?.removeEventListener("abort", abort);
      this.done = true;
      this.wake?.();
    })();
  }

  /** Ends the answer early and keeps what there is. */
  stop() {
    this.stopped = true;
    this.control.abort();
  }

  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        while (this.chunks.length > 0) {
          const chunk = this.chunks.shift();
          if (chunk instanceof UnderstudyError) throw chunk;
          yield chunk;
        }
        if (this.done) return;
        await new Promise((resolve) => (this.wake = () => resolve(undefined)));
      }
    } finally {
      if (!this.done) this.stop();
    }
  }
}

// -------------------------------------------------------------------------------------------- entry point

export const Understudy = {
  /**
   * Starts an engine and opens a student on it. @param {File | Blob | URL | string} source @param {any} [options]
   * @returns {Promise<Student>}
   */
  async load(source, options = {}) {
    const engine = await Engine.start(options);
    try {
      const student = await engine.open(source, options);
      student.ownsEngine = true;
      return student;
    } catch (error) {
      engine.close();
      throw UnderstudyError.from(error);
    }
  },

  /** An engine without a student yet, for pages that change students. @param {any} [options] */
  start: (options) => Engine.start(options),

  download,

  /** A download as one Blob. @param {string | URL} address @param {any} [options] */
  async blob(address, options = {}) {
    return collect(await download(address, options), (loaded, total) => options.onProgress?.({ phase: "download", loaded, total }));
  },
};

export default Understudy;
