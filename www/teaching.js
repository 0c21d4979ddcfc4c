// @ts-check
// Teaching, as the JavaScript API offers it: traces are read, a training runs step by step, a verdict is given, and an
// adapter comes out. It has a worker and a device of its own (teach-worker.js), so that the chat stays usable.

import { Bridge } from "./bridge.js";
import { BASE, collect, download } from "./download.js";
import { UnderstudyError, aborted } from "./errors.js";
import { GENERIC, ownAnswers } from "./generic.js";
import { Shelf } from "./shelf.js";

const over = () => new UnderstudyError("no-student", "This teaching is closed.", "Begin a new one.");

/** @param {any} files @returns {File[]} */
function listOf(files) {
  const all = Array.isArray(files) || (typeof FileList !== "undefined" && files instanceof FileList) ? [...files] : [files];
  if (all.length === 0 || !all.every((file) => file instanceof Blob)) {
    throw new UnderstudyError("bad-request", "Traces are read from Files or Blobs.", "Pass one, or a list of them.");
  }
  return all.map((file, number) => (file instanceof File ? file : new File([file], `traces-${number + 1}.jsonl`)));
}

/**
 * One student being taught. Events: "notice" with detail { kind, message?, hint? }; kinds are listed in understudy.d.ts.
 */
export class Teaching extends EventTarget {
  /** @param {any} options @param {URL} base */
  constructor(options, base) {
    super();
    this.options = options;
    this.base = base;
    /** @type {Blob} */ this.blob = options.student;
    /** The student itself, to be asked before it is taught. @type {any} */ this.pupil = options.pupil;
    /** @type {any} */ this.device = null;
    /** What the student's file says. @type {any} */ this.student = null;
    /** @type {any} */ this.report = null;
    /** @type {{ files: File[], options: any } | null} */ this.traces = null;
    /** What a new worker is told after a crash. @type {any} */ this.training = null;
    /** @type {any} */ this.lastVerdict = null;
    /** @type {Run | null} */ this.current = null;
    /** @type {ArrayBuffer | null} */ this.wasm = null;
    /** @type {Promise<void> | null} */ this.restarting = null;
    this.closed = false;
    this.bridge = new Bridge("understudy-teach", new URL("www/teach-worker.js", base).href, {
      onEvent: (data) => this.hear(data),
      onCrash: (detail) => this.crash(detail),
    });
  }

  /** @param {any} options */
  static async start(options) {
    const base = new URL(options.assets ?? BASE, globalThis.document?.baseURI);
    const teaching = new Teaching(options, base);
    try {
      const file = await download("wasm/understudy_teach_bg.wasm", { ...options, assets: base });
      teaching.wasm = await (await collect(file, (loaded, total) => options.onProgress?.({ phase: "engine", loaded, total }))).arrayBuffer();
      await teaching.boot(options.signal);
      return teaching;
    } catch (error) {
      teaching.close();
      throw UnderstudyError.from(error);
    }
  }

  /** @param {AbortSignal} [signal] */
  async boot(signal) {
    await this.bridge.boot();
    const { gpu = "auto", subgroups } = this.options;
    const glue = new URL("wasm/understudy_teach.js", this.base).href;
    const args = { glue, wasm: this.wasm, options: { gpu, subgroups }, student: this.blob, context: this.pupil?.info().context };
    ({ device: this.device, student: this.student } = await this.bridge.call("start", args, { signal }));
  }

  /** @param {string} kind @param {any} [detail] */
  tell(kind, detail = {}) {
    this.dispatchEvent(new CustomEvent("notice", { detail: { kind, ...detail } }));
  }

  /** What the worker says by itself. @param {any} data */
  hear({ event, ...detail }) {
    if (event === "checkpoint" && this.training) {
      this.training.checkpoint = detail.checkpoint;
      this.training.curve = detail.curve;
    }
    if (event === "device-rebuilt") {
      this.device = detail.device;
      if (detail.curve) this.current?.rewind(detail.curve);
      const where = detail.step === undefined ? "" : ` The training goes on from step ${detail.step}.`;
      return this.tell(event, { ...detail, message: `The device is back and the student is set up again.${where}` });
    }
    this.tell(event, detail);
  }

  /** The worker is beyond use: another takes its place, with everything as it was at the last checkpoint. @param {string} [detail] */
  crash(detail) {
    if (this.closed || this.restarting) return;
    const error = new UnderstudyError("crashed", "The trainer stopped unexpectedly.", "It is started again and goes on from the last checkpoint.");
    this.bridge.end(error);
    this.tell("engine-crashed", { message: error.message, hint: error.hint, detail });
    this.restarting = (async () => {
      await this.boot();
      await this.bridge.call("restore", { traces: this.traces, training: this.training });
      if (this.training) this.current?.rewind(this.training.curve);
    })().then(
      () => {
        this.restarting = null;
        this.tell("engine-restarted", { message: "The trainer runs again." });
      },
      (failure) => {
        this.restarting = null;
        this.bridge.end(error);
        this.tell("engine-failed", { message: failure.message, hint: "Reload the page; the training can be continued there from its last checkpoint." });
      },
    );
  }

  /** @param {string} type @param {any} [args] @param {import("./bridge.js").CallOptions} [options] @returns {Promise<any>} */
  async ask(type, args = {}, options) {
    if (this.closed) throw over();
    while (this.restarting) await this.restarting;
    return this.bridge.call(type, args, options);
  }

  /**
   * Reads traces, in place of those read before. @param {any} files Files or Blobs
   * @param {{ reasoning?: "keep" | "strip" | number, longest?: number, signal?: AbortSignal, onProgress?: (progress: any) => void }} [options]
   */
  async read(files, { reasoning = "keep", longest, signal, onProgress } = {}) {
    const traces = { files: listOf(files), options: { reasoning, ...(longest ? { longest } : {}) } };
    this.traces = this.training = this.report = null;
    const report = await this.ask("read", traces, { signal, listeners: onProgress ? { progress: onProgress } : {} });
    this.traces = traces;
    this.report = report;
    return report;
  }

  /** @param {number} row */
  preview(row) {
    return this.ask("preview", { row });
  }

  defaults() {
    return this.ask("defaults");
  }

  /** @param {any} settings */
  plan(settings) {
    return this.ask("plan", { settings });
  }

  /**
   * Trains. The run is an async iterable of step reports; it prepares itself first (`run.prepared`).
   * @param {any} settings
   * @param {{ generic?: any[], every?: number, measure?: number, keep?: { folder: string, about?: any }, resume?: { checkpoint: Blob, curve?: any[] }, signal?: AbortSignal, onProgress?: (progress: any) => void }} [options]
   */
  run(settings, { generic, every = 5, measure, keep, resume, signal, onProgress } = {}) {
    if (this.closed) throw over();
    if (!this.traces) throw new UnderstudyError("bad-request", "There are no traces to teach from.", "Read traces first.");
    this.current?.stop();
    this.training = {
      settings, generic: generic ?? GENERIC, asks: !generic && Boolean(this.pupil), every, keep, measure: measure ?? Math.max(1, Math.round(settings.steps / 10)),
      prepared: true, step: 0, kept: Boolean(keep), curve: resume?.curve ?? [], checkpoint: resume?.checkpoint ?? null,
    };
    this.lastVerdict = null;
    this.current = new Run(this, this.training, { signal, onProgress });
    return this.current;
  }

  measure() {
    return this.ask("measure");
  }

  async verdict() {
    return (this.lastVerdict = await this.ask("verdict"));
  }

  /** @param {number} row */
  insight(row) {
    return this.ask("insight", { row });
  }

  /** @param {number} count */
  heldOutPrompts(count) {
    return this.ask("heldOutPrompts", { count });
  }

  /** @param {number} count @returns {Promise<Uint32Array>} */
  sampleIds(count) {
    return this.ask("sampleIds", { count });
  }

  /** @param {ArrayLike<number>} ids @returns {Promise<Float32Array>} */
  logits(ids) {
    return this.ask("logits", { ids: Uint32Array.from(ids) });
  }

  /**
   * What was learned, as files. It has been read back and compared before this resolves.
   * @param {{ name?: string, base?: string, base_sha256?: string, teacher?: string, terms?: string }} [about]
   * @returns {Promise<{ gguf: Blob, peft: Blob | null, card: any }>}
   */
  async export(about = {}) {
    const { gguf, peft, card } = await this.ask("export", { about: { name: "Adapter", ...about } });
    return { gguf, peft, card: { curve: this.current?.reports ?? [], verdict: this.lastVerdict, ...card } };
  }

  memory() {
    return this.ask("memory");
  }

  /** The student's file has moved: should it be read again, it is read from here. @param {Blob} blob */
  async movedTo(blob) {
    this.blob = blob;
    await this.ask("movedTo", { student: blob });
  }

  /** For tests: destroys the GPU device of the teaching, as a driver reset would. */
  destroyDevice() {
    return this.ask("destroyDevice");
  }

  close() {
    this.closed = true;
    this.bridge.end(over());
  }

  /** A training that was kept in this browser and not finished with. @param {string} folder */
  static async kept(folder) {
    const shelf = new Shelf(folder);
    const record = await shelf.json("training.json");
    const checkpoint = await shelf.read("checkpoint");
    if (record?.format !== 1 || !checkpoint) return null;
    const files = [];
    for (const [number, { name }] of record.files.entries()) {
      const file = await shelf.read(`traces-${number}`);
      if (!file) return null;
      files.push(new File([file], name));
    }
    return { ...record, files, checkpoint };
  }

  /** @param {string} folder */
  static forget(folder) {
    return new Shelf(folder).clear();
  }
}

/**
 * A training under way: an async iterable of step reports. `pause()` and `resume()` as often as wanted; `stop()` ends it with
 * what was learned so far; leaving the loop pauses it. Event "change" whenever `state` changes.
 */
export class Run extends EventTarget {
  /** @param {Teaching} teaching @param {any} training @param {{ signal?: AbortSignal, onProgress?: (progress: any) => void }} options */
  constructor(teaching, training, { signal, onProgress }) {
    super();
    this.teaching = teaching;
    this.settings = training.settings;
    this.signal = signal;
    this.ending = false;
    /** @type {"preparing" | "training" | "pausing" | "paused" | "finished" | "stopped" | "failed"} */ this.state = "preparing";
    /** Every step so far. @type {any[]} */ this.reports = [];
    /** @type {any[]} */ this.fresh = [];
    /** @type {any} */ this.error = null;
    /** @type {() => void} */ this.wake = () => {};
    const { bridge } = teaching;
    const hide = () => document.visibilityState === "hidden" && bridge.tell("save");
    const abort = () => bridge.tell("pause");
    signal?.addEventListener("abort", abort, { once: true });
    if (training.keep) globalThis.document?.addEventListener("visibilitychange", hide);
    this.tidy = () => {
      signal?.removeEventListener("abort", abort);
      globalThis.document?.removeEventListener("visibilitychange", hide);
    };
    /** Resolves with the measures before training. */
    this.prepared = this.begin(training, { signal, onProgress });
    this.prepared.then(() => this.go(), (error) => this.fail(error));
  }

  /** @param {any} training @param {any} options */
  async begin(training, { signal, onProgress }) {
    if (training.asks) training.generic = await ownAnswers(this.teaching.pupil, { signal });
    training.asks = false;
    const { settings, generic, every, measure, keep, checkpoint, curve } = training;
    const args = { settings, generic, every, measure, keep, ...(checkpoint ? { checkpoint, curve } : {}) };
    const begun = await this.teaching.ask("begin", args, { signal, listeners: onProgress ? { progress: onProgress } : {} });
    this.reports = begun.curve;
    return begun.prepared;
  }

  /** @param {Run["state"]} state */
  turn(state) {
    this.state = state;
    this.dispatchEvent(new Event("change"));
    this.wake();
  }

  /** @param {any} error */
  fail(error) {
    this.error = UnderstudyError.from(error);
    this.tidy();
    this.turn("failed");
  }

  async go() {
    const step = (/** @type {any} */ report) => {
      this.reports.push(report);
      this.fresh.push(report);
      this.wake();
    };
    if (this.state === "stopped") return;
    if (this.signal?.aborted) return this.fail(aborted());
    this.turn("training");
    for (let failures = 0; ;) {
      const before = this.reports.length;
      try {
        const { finished } = await this.teaching.ask("run", {}, { listeners: { step } });
        if (this.signal?.aborted) return this.fail(aborted());
        if (finished || this.ending) {
          this.tidy();
          return this.turn(finished ? "finished" : "stopped");
        }
        return this.turn("paused");
      } catch (/** @type {any} */ error) {
        failures = this.reports.length > before ? 1 : failures + 1;
        // After a crash the next call waits for the new worker and goes on from the last checkpoint.
        if (error.code !== "crashed" || failures > 2 || !this.teaching.restarting) return this.fail(error);
      }
    }
  }

  /** After a rebuild: the curve as it was at the last checkpoint. @param {any[]} curve */
  rewind(curve) {
    this.reports = curve.slice();
    this.fresh = [];
    this.dispatchEvent(new Event("change"));
  }

  pause() {
    if (this.state !== "training") return;
    this.teaching.bridge.tell("pause");
    this.turn("pausing");
  }

  resume() {
    if (this.state === "paused") this.go();
  }

  /** Ends the training early, with what was learned so far. */
  stop() {
    this.ending = true;
    if (this.state === "paused" || this.state === "preparing") {
      this.tidy();
      this.turn("stopped");
    } else if (this.state === "training") this.pause();
  }

  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        while (this.fresh.length > 0) yield this.fresh.shift();
        if (this.state === "failed") throw this.error;
        if (this.state === "finished" || this.state === "stopped") return;
        await new Promise((resolve) => (this.wake = () => resolve(undefined)));
      }
    } finally {
      this.pause();
    }
  }
}

/** A teaching from traces to adapter in one go: an async iterable of step reports, with `result` at its end. */
export class Distillation {
  /** @param {() => Promise<Teaching>} start @param {any} traces @param {any} options */
  constructor(start, traces, options) {
    this.start = start;
    this.traces = traces;
    this.options = options;
    /** @type {any} */ this.report = null;
    /** @type {any} */ this.verdict = null;
    /** @type {{ gguf: Blob, peft: Blob | null, card: any } | null} */ this.result = null;
  }

  /** The GGUF adapter, for `student.attach`. */
  get adapter() {
    return this.result?.gguf ?? null;
  }

  async *[Symbol.asyncIterator]() {
    const { settings, about, reasoning, longest, onReport, ...rest } = this.options;
    const teaching = await this.start();
    try {
      this.report = await teaching.read(this.traces, { reasoning, longest, signal: rest.signal, onProgress: rest.onProgress });
      onReport?.(this.report);
      if (this.report.lessons === 0) throw new UnderstudyError("bad-request", "There is no row to teach from in these traces.", "See report.listed and report.unfit for the reasons.");
      const all = { ...(await teaching.defaults()), ...settings };
      const plan = await teaching.plan(all);
      if (!plan.fits) throw new UnderstudyError("does-not-fit", plan.words, plan.suggestion ?? "Teach fewer layers or a lower rank.");
      yield* teaching.run(all, rest);
      this.verdict = await teaching.verdict();
      this.result = await teaching.export(about);
    } finally {
      teaching.close();
    }
  }
}
