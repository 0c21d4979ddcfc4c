// @ts-check
// The Teach view: from traces to an adapter, one step after the other.
import { fingerprint } from "../adapters.js";
import { counted, size } from "../format.js";
import { at } from "../panels.js";
import { Teaching } from "../teaching.js";
import { Understudy, UnderstudyError } from "../understudy.js";
import { Keeper } from "./keep.js";
import { Preview, showReport } from "./report.js";
import { SettingsForm, showPlan } from "./settings.js";
import { FOLDER, Unfinished, claimFolder } from "./unfinished.js";
import { showVerdict, sideBySide } from "./verdict.js";

/**
 * What the page lends to this view. @typedef {{ student: () => any, blob: () => Blob | null, key: () => string,
 *   inTurn: (act: () => Promise<any>) => Promise<any>, notice: (kind: string, message: string, more?: any) => HTMLElement,
 *   complain: (error: any) => HTMLElement, say: (text: string) => void, counter: import("../panels.js").Counter,
 *   adapters: import("../adapter-list.js").AdapterList, openKey: (key: string) => Promise<void> }} Host
 */

const INSIGHT_ROWS = 50;

/** @type {Record<string, string[]>} */
const SAMPLES = {
  soft: ["desk-requests.jsonl", "desk-batch.jsonl"],
  text: ["desk-sharegpt.jsonl"],
  thoughts: ["desk-reasoning.jsonl"],
};

/** @param {string} id */
const button = (id) => /** @type {HTMLButtonElement} */ (at(id));

export class TeachView {
  /** @param {Host} host */
  constructor(host) {
    this.host = host;
    /** @type {Teaching | null} */ this.teaching = null;
    /** @type {Promise<Teaching> | null} */ this.starting = null;
    /** Whom this teaching is about. @type {{ name: string, key: string, print: string } | null} */ this.pupil = null;
    /** @type {any} */ this.report = null;
    /** @type {import("../teaching.js").Run | null} */ this.run = null;
    /** @type {import("./progress.js").Progress | null} */ this.progress = null;
    /** Takes a training back that is still warming up. */
    this.cancel = new AbortController();
    this.continued = false;
    this.form = new SettingsForm(/** @type {HTMLFormElement} */ (at("teach-form")), {
      onChange: () => this.replan(),
      onReasoning: () => this.reread(),
      onStart: () => this.begin(),
    });
    this.preview = new Preview(at("preview"), {
      title: "What is learned, row by row", id: "preview-title", hint: "Marked tokens are learned. Point at one, or use the arrow keys, to see what the teacher thought.",
      fetch: (row) => /** @type {Teaching} */ (this.teaching).preview(row), fail: host.complain,
    });
    this.insight = new Preview(at("insight"), {
      title: "Where the student still differs", id: "insight-title", hint: "The stronger a token is marked, the further the taught student is from the teacher there.",
      fetch: (row) => /** @type {Teaching} */ (this.teaching).insight(row), fail: host.complain,
    });
    this.keeper = new Keeper(host, { teaching: () => /** @type {Teaching} */ (this.teaching), pupil: () => this.pupil, isOpen: () => this.isPupilOpen() });
    this.unfinished = new Unfinished(host, { busy: () => this.run !== null, label: (text) => this.label(text), goOn: (kept) => this.goOn(kept) });
    this.wire();
  }

  wire() {
    const files = /** @type {HTMLInputElement} */ (at("trace-files"));
    at("choose-traces").addEventListener("click", () => files.click());
    files.addEventListener("change", () => {
      if (files.files?.length) this.take([...files.files]);
      files.value = "";
    });
    at("sample-traces").addEventListener("click", () => this.takeSamples());
    at("show-chat").addEventListener("click", () => this.show(false));
    at("show-teach").addEventListener("click", () => this.show(true));
    at("run-pause").addEventListener("click", () => (this.run?.state === "paused" ? this.run.resume() : this.run?.pause()));
    at("run-stop").addEventListener("click", () => (this.run?.state === "preparing" ? this.cancel.abort() : this.run?.stop()));
    at("teach-again").addEventListener("click", () => this.reset(true));
  }

  get visible() {
    return !at("teach").hidden;
  }

  /** @param {boolean} teach */
  show(teach) {
    document.body.dataset.view = teach ? "teach" : "chat";
    at("teach").hidden = !teach;
    at("messages").hidden = at("composer").hidden = at("new-chat").hidden = teach;
    at("show-teach").toggleAttribute("aria-current", teach);
    at("show-chat").toggleAttribute("aria-current", !teach);
    for (const id of ["show-teach", "show-chat"]) if (at(id).hasAttribute("aria-current")) at(id).setAttribute("aria-current", "page");
    if (teach) at("teach").focus({ preventScroll: true });
  }

  /** Is a training between its first and its last step? */
  get busy() {
    return this.run !== null && !["finished", "stopped", "failed"].includes(this.run.state);
  }

  /** @param {string} id @param {boolean} [move] */
  reveal(id, move = true) {
    const section = at(id);
    section.hidden = false;
    if (!move) return;
    const heading = section.querySelector("h3");
    heading?.focus({ preventScroll: true });
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    section.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
  }

  /** @param {string[]} ids */
  hide(...ids) {
    for (const id of ids) at(id).hidden = true;
  }

  /** Nothing of traces and settings may change under a training. @param {boolean} settled */
  settle(settled) {
    for (const id of ["teach-traces", "teach-settings"]) at(id).inert = settled;
  }

  /** @param {string} [words] @param {number} [part] */
  loading(words, part) {
    at("reading").hidden = words === undefined;
    if (words === undefined) return;
    at("reading-words").textContent = words;
    const bar = /** @type {HTMLProgressElement} */ (at("reading-bar"));
    if (part === undefined || !Number.isFinite(part)) bar.removeAttribute("value");
    else bar.value = part;
  }

  /** @param {any} progress */
  onProgress({ phase, loaded, total }) {
    const words = /** @type {Record<string, string>} */ ({ engine: "Fetching the trainer, once", download: "Fetching the sample traces", traces: "Reading the traces" })[phase] ?? "Preparing";
    this.loading(`${words}, ${size(loaded)}${total ? ` of ${size(total)}` : ""}`, total ? loaded / total : undefined);
  }

  // ------------------------------------------------------------------------------------------ the trainer

  /** The trainer for the open student; made when it is first needed. @returns {Promise<Teaching>} */
  async trainer() {
    const student = this.host.student();
    const blob = this.host.blob();
    if (!student || !blob) throw new UnderstudyError("no-student", "No student is open, so there is nobody to teach.", "Open a student, then choose the traces again.");
    const print = await fingerprint(blob);
    if (this.teaching && !this.teaching.closed && this.pupil?.print === print) return this.teaching;
    if (this.busy) throw new UnderstudyError("busy", `${this.pupil?.name} is being taught.`, "Stop that training first.");
    this.teaching?.close();
    this.teaching = null;
    this.starting ??= (async () => {
      const module = await import("./progress.js");
      const { Curves, addStyle } = await import("./curves.js");
      addStyle();
      this.progress ??= new module.Progress(new Curves(at("curves")));
      this.host.counter.add(["wasm/understudy_teach_bg.wasm", "www/teach-worker.js", "www/worker-base.js", "www/shelf.js", "vendor/fflate.js"].map((path) => new URL(path, document.baseURI).href));
      const teaching = await student.teaching({ onProgress: (/** @type {any} */ progress) => this.onProgress(progress) });
      teaching.addEventListener("notice", (/** @type {any} */ event) => this.heed(event.detail));
      return teaching;
    })().finally(() => (this.starting = null));
    this.teaching = await this.starting;
    this.pupil = { name: student.info().name, key: this.host.key(), print };
    return this.teaching;
  }

  /** What the trainer says by itself. @param {any} detail */
  heed({ kind, message, hint, names, uri, progress }) {
    const { notice, counter } = this.host;
    if (kind === "progress") this.progress?.warming(progress);
    if (kind === "blocked") counter.refuse(uri);
    if (kind === "requests") counter.add(names);
    if (kind === "device-lost" || kind === "engine-crashed") notice("warning", message, { hint, code: kind === "device-lost" ? kind : "crashed" });
    if (kind === "not-kept") notice("warning", message, { hint, code: kind });
    if (kind === "engine-failed") notice("error", message, { hint, code: "crashed" });
    if (kind === "device-rebuilt" || kind === "engine-restarted") {
      notice("good", message);
      if (this.run) this.progress?.show(this.run, null);
    }
  }

  // ------------------------------------------------------------------------------------------------ traces

  async takeSamples() {
    const names = SAMPLES[/** @type {HTMLSelectElement} */ (at("sample-kind")).value];
    button("sample-traces").disabled = true;
    try {
      const files = [];
      for (const name of names) {
        const address = `www/samples/${name}`;
        this.host.counter.add([new URL(address, document.baseURI).href]);
        files.push(new File([await Understudy.blob(address, { onProgress: (/** @type {any} */ progress) => this.onProgress(progress) })], name));
      }
      await this.take(files);
    } catch (error) {
      this.host.complain(error);
    } finally {
      this.loading();
      button("sample-traces").disabled = false;
    }
  }

  /** @param {File[]} files */
  async take(files) {
    if (this.busy) return void this.host.notice("warning", `${this.pupil?.name} is being taught.`, { hint: "Stop that training first, then drop the traces again.", code: "busy" });
    this.hide("teach-report", "teach-settings", "teach-run", "teach-verdict", "teach-keep");
    this.run = null;
    this.files = files;
    await this.read(true);
  }

  /** @param {boolean} fresh */
  async read(fresh) {
    const files = /** @type {File[]} */ (this.files);
    at("traces-words").textContent = "";
    try {
      this.loading("Getting ready to read the traces");
      const teaching = await this.trainer();
      this.report = await teaching.read(files, { reasoning: fresh ? "keep" : this.form.kept(), onProgress: (progress) => this.onProgress(progress) });
      this.loading();
      at("traces-words").textContent = `${files.map(({ name }) => name).join(", ")}: ${size(files.reduce((sum, file) => sum + file.size, 0))}, read for ${this.pupil?.name}.`;
      await this.showReport(fresh);
    } catch (error) {
      this.loading();
      at("traces-words").textContent = "The traces were not read.";
      this.hide("teach-report", "teach-settings");
      this.host.complain(error);
    }
  }

  reread() {
    if (!this.busy && this.files) return this.read(false);
  }

  /** @param {boolean} fresh */
  async showReport(fresh) {
    const { report, host } = this;
    const teaching = /** @type {Teaching} */ (this.teaching);
    showReport(report);
    at("preview").hidden = report.lessons === 0;
    if (report.lessons === 0) {
      this.reveal("teach-report");
      this.hide("teach-settings");
      return void host.notice("error", "There is nothing to teach from in these traces.", { hint: "The reasons are listed in the report. Choose other files, or use the sample traces.", code: "no-lessons" });
    }
    await this.preview.show(Array.from({ length: report.lessons }, (_, row) => row), report.files);
    const defaults = await teaching.defaults();
    this.form.show(fresh ? defaults : { ...this.form.settings }, defaults);
    this.reveal("teach-report", fresh);
    this.reveal("teach-settings", false);
    await this.replan();
  }

  // ----------------------------------------------------------------------------------------------- settings

  /** The memory plan of the settings as they stand; the newest question wins. */
  async replan() {
    const start = button("start-teaching");
    const complaint = this.form.complaint();
    if (complaint) {
      start.disabled = true;
      at("teach-plan").replaceChildren(Object.assign(document.createElement("p"), { className: "warning", textContent: complaint }));
      return;
    }
    const asked = (this.planned = {});
    try {
      const plan = await /** @type {Teaching} */ (this.teaching).plan(this.form.settings);
      if (asked !== this.planned) return;
      this.form.taught = plan.taught;
      this.form.words();
      showPlan(plan);
      start.disabled = !plan.fits || this.busy;
    } catch (error) {
      if (asked !== this.planned) return;
      start.disabled = true;
      const { message, hint } = UnderstudyError.from(error);
      at("teach-plan").replaceChildren(Object.assign(document.createElement("p"), { className: "warning", textContent: `${message} ${hint}` }));
    }
  }

  // ----------------------------------------------------------------------------------------------- training

  begin() {
    if (this.busy || this.form.complaint()) return;
    this.follow(structuredClone(this.form.settings));
  }

  /** @param {any} settings @param {{ checkpoint: Blob, curve: any[] }} [resume] */
  async follow(settings, resume) {
    const teaching = /** @type {Teaching} */ (this.teaching);
    const progress = /** @type {import("./progress.js").Progress} */ (this.progress);
    this.hide("teach-verdict", "teach-keep");
    this.unfinished.hide();
    this.settle(true);
    at("insight").hidden = true;
    this.cancel = new AbortController();
    const release = await claimFolder();
    if (!release) this.host.notice("warning", "This training is not kept: it lasts as long as this page stays open.", { hint: "Another page of this browser may be teaching; stop it there to have yours kept.", code: "not-kept" });
    const keep = release ? { folder: FOLDER, about: this.pupil } : undefined;
    const run = teaching.run(settings, { keep, resume, signal: this.cancel.signal, onProgress: (now) => progress.warming(now) });
    this.run = run;
    let prepared = /** @type {any} */ (null);
    const draw = () => {
      progress.show(run, prepared);
      this.mark();
    };
    run.addEventListener("change", draw);
    progress.before = null;
    progress.warming({ phase: "weights", loaded: 0, total: 0 });
    draw();
    this.reveal("teach-run");
    try {
      prepared = await run.prepared;
      draw();
      for await (const _ of run) draw();
      draw();
      await this.judge();
    } catch (error) {
      if (this.teaching !== teaching) return;
      const { code } = UnderstudyError.from(error);
      if (code === "aborted") this.hide("teach-run");
      else this.host.complain(error);
      progress.show(run, prepared);
      this.settle(false);
      this.replan();
    } finally {
      release?.();
    }
    this.mark();
  }

  /** Which view does what is seen from the other one. */
  mark() {
    const last = this.run?.reports.at(-1)?.step ?? 0;
    this.label(!this.busy ? "" : this.run?.state === "paused" ? "paused" : `${Math.round((100 * last) / Math.max(1, this.run?.settings.steps))} %`);
  }

  /** What the way into this view says beside its name. @param {string} text */
  label(text) {
    const more = at("teach-state");
    const words = text && `, ${text}`;
    if (more.textContent !== words) more.textContent = words;
  }

  // ------------------------------------------------------------------------------------------------ verdict

  async judge() {
    const { host } = this;
    const teaching = /** @type {Teaching} */ (this.teaching);
    const run = this.run;
    this.progress?.say("Measuring what was learned and what was forgotten.");
    this.progress?.bar(undefined);
    const verdict = await teaching.verdict();
    this.progress?.show(/** @type {any} */ (run), null);
    showVerdict(verdict);
    at("answers").replaceChildren();
    this.settle(false);
    if (this.continued) at("teach-settings").inert = true;
    this.replan();
    this.keeper.ready(`${this.report.files[0].name.replace(/\.[^.]*$/, "").replace(/[-_]+/g, " ")}, ${counted(run?.reports.at(-1)?.step ?? 0, "step")}`);
    this.reveal("teach-keep", false);
    this.reveal("teach-verdict");
    try {
      await this.showInsight();
      const prompts = await teaching.heldOutPrompts(8);
      const { gguf } = await teaching.export({ name: "Draft" });
      await sideBySide({ prompts, student: host.student(), gguf, inTurn: host.inTurn, current: () => this.isPupilOpen() && this.run === run });
    } catch (error) {
      if (this.teaching === teaching) host.complain(error);
    }
  }

  isPupilOpen() {
    return this.host.adapters.owner?.print === this.pupil?.print;
  }

  async showInsight() {
    const teaching = /** @type {Teaching} */ (this.teaching);
    const rows = [];
    for (let row = 0; row < this.report.lessons && rows.length < INSIGHT_ROWS; row++) if ((await teaching.preview(row)).held_out) rows.push(row);
    at("insight").hidden = rows.length === 0;
    if (rows.length > 0) await this.insight.show(rows, this.report.files);
  }

  /** From the beginning. @param {boolean} forget */
  async reset(forget) {
    this.teaching?.close();
    this.teaching = this.pupil = this.report = this.run = null;
    this.files = undefined;
    this.continued = false;
    this.settle(false);
    this.hide("teach-report", "teach-settings", "teach-run", "teach-verdict", "teach-keep");
    at("traces-words").textContent = "";
    this.keeper.clear();
    this.mark();
    if (forget) await Teaching.forget(FOLDER);
    at("teach").scrollTop = 0;
    at("choose-traces").focus();
  }

  /** A student was opened in the chat. What is being taught goes on; what was only read belongs to the student before. */
  async studentOpened() {
    const owner = this.host.adapters.owner;
    at("teach-title").textContent = `Teach ${owner?.name ?? "the student"}`;
    if (this.teaching && !this.busy && this.pupil && this.pupil.print !== owner?.print && at("teach-verdict").hidden) await this.reset(false);
    this.unfinished.offer();
  }

  /** The open student's file is read from elsewhere from now on. @param {Blob} blob */
  async studentMoved(blob) {
    if (this.teaching && !this.teaching.closed && this.isPupilOpen()) await this.teaching.movedTo(blob).catch(() => {});
  }

  /** A training that was broken off goes on. @param {any} kept */
  async goOn(kept) {
    try {
      this.files = kept.files;
      this.loading("Getting ready to go on");
      const teaching = await this.trainer();
      this.report = await teaching.read(kept.files, { ...kept.read, onProgress: (progress) => this.onProgress(progress) });
      at("traces-words").textContent = `${kept.files.map((/** @type {File} */ { name }) => name).join(", ")}, as they were kept.`;
      this.continued = true;
      await this.showReport(true);
      this.form.show(kept.settings, await teaching.defaults());
    } finally {
      this.loading();
    }
    this.follow(kept.settings, { checkpoint: kept.checkpoint, curve: kept.curve });
  }
}
