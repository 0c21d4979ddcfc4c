// @ts-check
// The Teach view: from traces to an adapter, one step after the other.
import { fingerprint } from "../adapters.js";
import { counted, size, whole } from "../format.js";
import { at } from "../panels.js";
import { Teaching } from "../teaching.js";
import { Understudy, UnderstudyError } from "../understudy.js";
import { attachChecked, offer } from "./keep.js";
import { Preview, showReport } from "./report.js";
import { SettingsForm, showPlan } from "./settings.js";
import { showVerdict, sideBySide } from "./verdict.js";

/** Where a training is kept, so that a closed page can go on with it. */
const FOLDER = "teaching";
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
  /**
   * @param {{ student: () => any, blob: () => Blob | null, key: () => string, inTurn: (act: () => Promise<any>) => Promise<any>,
   *   notice: (kind: string, message: string, more?: any) => HTMLElement, complain: (error: any) => HTMLElement, say: (text: string) => void,
   *   counter: import("../panels.js").Counter, adapters: import("../adapter-list.js").AdapterList, openKey: (key: string) => Promise<void> }} host
   */
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
    /** @type {any} */ this.kept = null;
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
    this.wire();
    this.lookForKept();
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
    at("keep-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.keep();
    });
    at("teach-again").addEventListener("click", () => this.reset(true));
    at("continue-go").addEventListener("click", () => this.goOn());
    at("continue-drop").addEventListener("click", async () => {
      this.kept = null;
      at("continue").hidden = true;
      await Teaching.forget(FOLDER);
      this.host.say("The training that was broken off is thrown away.");
    });
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
    this.hide("teach-verdict", "teach-keep", "continue");
    this.kept = null;
    this.settle(true);
    at("insight").hidden = true;
    this.cancel = new AbortController();
    const run = teaching.run(settings, { keep: { folder: FOLDER, about: this.pupil }, resume, signal: this.cancel.signal, onProgress: (now) => progress.warming(now) });
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
    }
    this.mark();
  }

  /** Which view does what is seen from the other one. */
  mark() {
    const last = this.run?.reports.at(-1)?.step ?? 0;
    const text = !this.busy ? "Teach" : this.run?.state === "paused" ? "Teach, paused" : `Teach, ${Math.round((100 * last) / Math.max(1, this.run?.settings.steps))} %`;
    if (at("show-teach").textContent !== text) at("show-teach").textContent = text;
  }

  // ------------------------------------------------------------------------------------------------ verdict

  async judge() {
    const { host } = this;
    const teaching = /** @type {Teaching} */ (this.teaching);
    const run = this.run;
    this.progress?.say("Measuring what was learned and what was forgotten.");
    const verdict = await teaching.verdict();
    this.progress?.show(/** @type {any} */ (run), null);
    showVerdict(verdict);
    at("answers").replaceChildren();
    this.settle(false);
    if (this.continued) at("teach-settings").inert = true;
    this.replan();
    this.nameIt();
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

  // --------------------------------------------------------------------------------------------------- keep

  nameIt() {
    const name = /** @type {HTMLInputElement} */ (at("adapter-name"));
    name.value ||= `${this.report.files[0].name.replace(/\.[^.]*$/, "").replace(/[-_]+/g, " ")}, ${counted(this.run?.reports.at(-1)?.step ?? 0, "step")}`;
    at("keep-words").textContent = "";
    at("keep-files").hidden = true;
    button("keep-adapter").disabled = false;
  }

  async keep() {
    const { host } = this;
    const teaching = /** @type {Teaching} */ (this.teaching);
    const value = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (at(id)).value.trim();
    const say = (/** @type {string} */ text) => (at("keep-words").textContent = text);
    const name = value("adapter-name");
    if (!name) return;
    button("keep-adapter").disabled = true;
    try {
      if (!this.isPupilOpen()) throw new UnderstudyError("no-student", `${this.pupil?.name} is not open in the chat.`, "Open it again, then keep the adapter: it is checked there first.");
      say("Writing the adapter and reading it back.");
      const { name: base } = /** @type {NonNullable<typeof this.pupil>} */ (this.pupil);
      const files = await teaching.export({ name, base, ...(value("teacher-name") ? { teacher: value("teacher-name") } : {}), ...(value("teacher-terms") ? { terms: value("teacher-terms") } : {}) });
      say("Comparing what it does in the chat with what it did in training.");
      const adapter = await host.inTurn(() => attachChecked(host.student(), teaching, files.gguf));
      offer(name, files);
      try {
        await host.adapters.keepTaught(name, files, adapter);
        await Teaching.forget(FOLDER);
        say(`${name} is saved in this browser and attached to ${base}. It agrees with the training. Its scale is in the panel.`);
      } catch (/** @type {any} */ error) {
        await host.adapters.show();
        say(`${name} is attached to ${base} and agrees with the training, but this browser could not keep it. Take its files away before you close the page.`);
        host.notice("warning", `${name} was not kept. ${error.message}`, { hint: error.hint, code: "not-kept" });
      }
      host.say(`${name} is attached.`);
    } catch (error) {
      say("Not saved.");
      host.complain(error);
      button("keep-adapter").disabled = false;
    }
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
    for (const id of ["adapter-name", "teacher-name", "teacher-terms"]) /** @type {HTMLInputElement} */ (at(id)).value = "";
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
    this.offerKept();
  }

  /** The open student's file is read from elsewhere from now on. @param {Blob} blob */
  async studentMoved(blob) {
    if (this.teaching && !this.teaching.closed && this.isPupilOpen()) await this.teaching.movedTo(blob).catch(() => {});
  }

  // ------------------------------------------------------------------------------------ going on after a break

  async lookForKept() {
    this.kept = await Teaching.kept(FOLDER);
    this.offerKept();
  }

  offerKept() {
    if (!this.kept || this.run) return;
    const { step, settings, about, files } = this.kept;
    const here = this.host.adapters.owner?.print === about.print;
    at("continue-title").textContent = `A training of ${about.name} was broken off`;
    at("continue-words").textContent = `${whole(step)} of ${whole(settings.steps)} steps are done, on ${files.map((/** @type {File} */ { name }) => name).join(", ")}.${here ? "" : ` ${about.name} is not open in the chat.`}`;
    at("continue-go").textContent = here ? (step < settings.steps ? `Continue the training from step ${whole(step)}` : "Look at what was learned") : `Open ${about.name}`;
    at("continue").hidden = false;
    at("show-teach").textContent = "Teach, unfinished";
  }

  async goOn() {
    const kept = this.kept;
    if (!kept || this.busy) return;
    if (this.host.adapters.owner?.print !== kept.about.print) {
      if (/^(site|kept):/.test(kept.about.key)) return this.host.openKey(kept.about.key);
      return void this.host.notice("warning", `${kept.about.name} was not kept in this browser.`, { hint: "Open its file again; then the training can be continued.", code: "no-student" });
    }
    at("continue").hidden = true;
    try {
      this.files = kept.files;
      this.loading("Getting ready to go on");
      const teaching = await this.trainer();
      this.report = await teaching.read(kept.files, { ...kept.read, onProgress: (progress) => this.onProgress(progress) });
      this.loading();
      at("traces-words").textContent = `${kept.files.map((/** @type {File} */ { name }) => name).join(", ")}, as they were kept.`;
      this.continued = true;
      await this.showReport(true);
      this.form.show(kept.settings, await teaching.defaults());
      await this.follow(kept.settings, { checkpoint: kept.checkpoint, curve: kept.curve });
    } catch (error) {
      this.loading();
      this.host.complain(error);
      this.offerKept();
    }
  }
}
