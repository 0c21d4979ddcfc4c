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
import { CHAT, TEXT, create, messageOf } from "./completions.js";
import { BASE, collect, download } from "./download.js";
import { UnderstudyError, closed } from "./errors.js";
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
    this.chat = { completions: { create: (/** @type {any} */ body, /** @type {any} */ options) => create(this, body, options, CHAT) } };
    this.completions = { create: (/** @type {any} */ body, /** @type {any} */ options) => create(this, body, options, TEXT) };
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

  /** SHA-256 of the student's file, in hexadecimal digits: the whole file is read for it, once. @param {{ signal?: AbortSignal }} [options] @returns {Promise<string>} */
  sha256({ signal } = {}) {
    this.hashed ??= this.ask("sha256", {}, { signal }).catch((/** @type {any} */ error) => {
      this.hashed = null;
      throw error;
    });
    return this.hashed;
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

  /** Tokens of a chat as a prompt. @param {any[]} messages @param {any} [options] tools, tool_choice, enable_thinking, signal */
  async count(messages, { signal, ...options } = {}) {
    return this.ask("count", { messages: messages.map(messageOf), options }, { signal });
  }

  /** The prompt of a chat, to the letter. @param {any[]} messages @param {any} [options] tools, tool_choice, enable_thinking, signal */
  async prompt(messages, { signal, ...options } = {}) {
    return this.ask("prompt", { messages: messages.map(messageOf), options }, { signal });
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
    return Teaching.start({ ...this.engine.options, signal: undefined, onProgress: undefined, ...options, assets: this.engine.base, student: this.blob, pupil: this });
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
