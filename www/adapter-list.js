// @ts-check
// The adapters in the panel: those attached to the open student, each with switch and scale, and those kept in this browser.
import * as store from "./adapters.js";
import { make } from "./chat-view.js";
import { at } from "./panels.js";
import { number, size, t } from "./words.js";

/** @param {string} label @param {string} spoken @param {() => void} act */
function button(label, spoken, act) {
  const node = /** @type {HTMLButtonElement} */ (make("button", "plain", label));
  node.type = "button";
  node.setAttribute("aria-label", spoken);
  node.addEventListener("click", act);
  return node;
}

/** Hands a file to the person. @param {Blob} blob @param {string} name */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A file name made of a name that a person gave. @param {string} name */
export const fileName = (name) => name.trim().toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "") || "adapter";

/** @typedef {import("./adapters.js").Kept} Kept */

export class AdapterList {
  /**
   * @param {{ student: () => any, say: (text: string) => void, complain: (error: any) => any,
   *   notice: (kind: string, message: string, more?: any) => HTMLElement, keeps: () => boolean }} host
   */
  constructor(host) {
    this.host = host;
    /** Which kept record an attached adapter came from. @type {Map<any, Kept>} */ this.origin = new Map();
    /** What the open student is known by. @type {Kept["student"] | null} */ this.owner = null;
  }

  /**
   * A student was opened: what belongs to it comes back, and what the one before had is not lost without a word.
   * @param {Blob} blob @param {string} key @param {any[]} before The adapters that were attached to the student before it.
   */
  async adopted(blob, key, before) {
    const student = this.host.student();
    const { name } = student.info();
    const left = before.filter((adapter) => !this.origin.has(adapter)).map((adapter) => adapter.name);
    const resting = before.filter((adapter) => this.origin.has(adapter)).map((adapter) => adapter.name);
    this.origin.clear();
    this.owner = { print: await store.fingerprint(blob).catch(() => ""), name, key };
    /** @type {string[]} */ const back = [];
    for (const kept of await store.list()) {
      if (!kept.attached || kept.student.print !== this.owner.print) continue;
      const adapter = await this.attachKept(kept, true);
      if (adapter) back.push(kept.name);
    }
    const away = resting.filter((name) => !back.includes(name));
    if (left.length > 0) this.host.notice("warning", t("adapter.detached", { n: left.length, names: left.join(", ") }), { hint: t("adapter.detached.hint"), code: "detached" });
    if (away.length > 0) this.host.notice("good", t("adapter.away", { n: away.length, names: away.join(", ") }), { hint: t("adapter.away.hint") });
    if (back.length > 0) this.host.say(t("ready.with", { names: back.join(", ") }));
    return this.show();
  }

  /** @param {Blob} blob @param {string} name The name of the file it was read from. */
  async attachFile(blob, name) {
    const student = this.host.student();
    const adapter = await student.attach(blob);
    if (this.host.keeps() && this.owner) {
      try {
        this.origin.set(adapter, await store.keep({ name: adapter.name, student: this.owner, taught: false }, { gguf: blob }));
      } catch (/** @type {any} */ error) {
        this.host.notice("warning", t("adapter.notKept", { name, why: error.message }), { hint: error.hint, code: "not-kept" });
      }
    }
    await this.show();
    return adapter;
  }

  /** What was learned here: attached, and kept. @param {string} name @param {{ gguf: Blob, peft: Blob | null, card: any }} files @param {any} adapter as it is attached already */
  async keepTaught(name, files, adapter) {
    if (!this.owner) throw new Error("no student is open");
    adapter.details.name = name;
    const kept = await store.keep({ name, student: this.owner, taught: true }, files);
    this.origin.set(adapter, kept);
    await this.show();
    return kept;
  }

  /** @param {Kept} kept @param {boolean} [quiet] */
  async attachKept(kept, quiet = false) {
    try {
      const blob = await store.file(kept.id, ".gguf");
      if (!blob) throw Object.assign(new Error(t("gone", { name: kept.name })), { code: "io", hint: t("gone.hint") });
      const adapter = await this.host.student().attach(blob, { scale: kept.scale });
      adapter.details.name = kept.name;
      this.origin.set(adapter, kept);
      await store.update(kept, { attached: true });
      if (!quiet) this.host.say(t("adapter.attached", { name: kept.name, student: this.host.student().info().name }));
      if (!quiet) await this.show();
      return adapter;
    } catch (error) {
      this.host.complain(error);
      return null;
    }
  }

  /** @param {any} adapter */
  async detach(adapter) {
    const kept = this.origin.get(adapter);
    await adapter.detach();
    this.origin.delete(adapter);
    if (kept) await store.update(kept, { attached: false });
    this.host.say(t(kept ? "adapter.released.kept" : "adapter.released", { name: adapter.name }));
  }

  /** @param {any} adapter @param {number} scale */
  async scale(adapter, scale) {
    await adapter.setScale(scale);
    const kept = this.origin.get(adapter);
    if (kept) await store.update(kept, { scale });
  }

  /** The same adapters on the same student, which was opened anew. @param {any[]} before @param {any[]} after */
  moved(before, after) {
    before.forEach((adapter, number) => {
      const kept = this.origin.get(adapter);
      this.origin.delete(adapter);
      if (!kept || !after[number]) return;
      after[number].details.name = kept.name;
      this.origin.set(after[number], kept);
    });
    return this.show();
  }

  async show() {
    at("adapters").replaceChildren(...(this.host.student()?.adapters ?? []).map((/** @type {any} */ adapter, /** @type {number} */ index) => this.attachedItem(adapter, index)));
    const kept = await store.list().catch(() => []);
    const focused = document.activeElement?.getAttribute("data-key");
    at("kept-adapters").replaceChildren(...kept.map((entry) => this.keptItem(entry)));
    at("kept-adapters-title").hidden = kept.length === 0;
    if (focused) /** @type {HTMLElement | null} */ (at("kept-adapters").querySelector(`[data-key="${CSS.escape(focused)}"]`))?.focus();
  }

  /** @param {any} adapter @param {number} index */
  attachedItem(adapter, index) {
    const item = make("li");
    const id = `adapter-${index}`;
    const label = make("label", "name", adapter.name);
    label.setAttribute("for", id);
    const { rank, matrices, parameters } = adapter.details;
    const detail = make("span", "quiet", t("adapter.words", { rank, n: matrices, numbers: parameters }));
    const slider = /** @type {HTMLInputElement} */ (make("input"));
    Object.assign(slider, { type: "range", id, min: "0", max: "1.5", step: "0.05", value: String(adapter.scale) });
    const shown = make("output", "quiet");
    shown.setAttribute("for", id);
    const power = /** @type {HTMLInputElement} */ (make("input", "switch"));
    power.type = "checkbox";
    power.setAttribute("role", "switch");
    power.setAttribute("aria-label", t("adapter.on", { name: adapter.name }));
    let last = adapter.scale || 1;
    const words = () => {
      const scale = Number(slider.value);
      power.checked = scale > 0;
      shown.textContent = scale === 0 ? t("adapter.off") : `${number(Math.round(100 * scale))} %`;
    };
    const set = () => {
      words();
      last = Number(slider.value) || last;
      this.scale(adapter, Number(slider.value)).catch(this.host.complain);
    };
    words();
    slider.addEventListener("input", words);
    slider.addEventListener("change", set);
    power.addEventListener("change", () => {
      slider.value = power.checked ? String(last) : "0";
      set();
    });
    const remove = button(t("adapter.detach"), t("adapter.detach.label", { name: adapter.name }), () => this.detach(adapter).then(() => this.show(), this.host.complain));
    item.append(label, detail, slider, shown, power, remove);
    return item;
  }

  /** @param {Kept} kept */
  keptItem(kept) {
    const item = make("li");
    const text = make("div", "entry");
    const here = kept.student.print === this.owner?.print;
    const attached = [...this.origin.values()].some(({ id }) => id === kept.id);
    text.append(make("span", "name", kept.name), make("span", "quiet", t(kept.taught ? "adapter.taught" : "adapter.from", { size: size(kept.bytes), student: kept.student.name })));
    item.append(text);
    if (attached) item.append(make("span", "mark", t("adapter.mark")));
    else if (here) item.append(button(t("adapter.attach"), t("adapter.attach.label", { name: kept.name }), () => this.attachKept(kept)));
    item.append(button(t("save"), t("adapter.save.label", { name: kept.name }), async () => {
      const blob = await store.file(kept.id, ".gguf");
      if (blob) download(blob, `${fileName(kept.name)}.gguf`);
    }));
    const erase = button(t("delete"), t("entry.delete.label", { name: kept.name }), () => this.confirm(item, kept));
    item.append(erase);
    for (const node of item.querySelectorAll("button")) node.dataset.key = `${node.textContent} ${kept.id}`;
    return item;
  }

  /** Deleting cannot be undone, so it is asked once more, in the same place. @param {HTMLElement} item @param {Kept} kept */
  confirm(item, kept) {
    const text = make("div", "entry");
    text.append(make("span", "name", t("adapter.delete", { name: kept.name })), make("span", "quiet", t("adapter.delete.words")));
    const yes = button(t("delete"), t("adapter.delete.yes", { name: kept.name }), async () => {
      try {
        const attached = [...this.origin].find(([, { id }]) => id === kept.id)?.[0];
        if (attached) await this.detach(attached);
        await store.remove(kept.id);
        this.host.say(t("deleted", { name: kept.name }));
      } catch (error) {
        this.host.complain(error);
      }
      await this.show();
    });
    const no = button(t("keep"), t("adapter.delete.no", { name: kept.name }), () => this.show());
    item.replaceChildren(text, yes, no);
    no.focus();
  }
}
