// @ts-check
// The settings of a training: three simple questions, and the rest behind "More".
import { make } from "../chat-view.js";
import { size, whole } from "../format.js";
import { at } from "../panels.js";

/**
 * @typedef {{ name: string, label: string, why: string, type?: "number" | "select", min?: number, max?: number, step?: number | "any", choices?: [string, string][] }} Field
 * @type {Field[]}
 */
const FIELDS = [
  { name: "batch", label: "Rows per step", why: "more make each step steadier and slower", min: 1, max: 512, step: 1 },
  { name: "rate", label: "Learning rate", why: "the largest step size; too large forgets, too small learns nothing", min: 1e-7, max: 1, step: "any" },
  { name: "rank", label: "Rank", why: "how much the adapter can hold: r of LoRA", min: 1, max: 256, step: 1 },
  { name: "alpha", label: "Alpha", why: "the adapter acts with alpha / rank", min: 0.1, max: 1024, step: "any" },
  { name: "layers", label: "Layers", why: "only the last so many; 0 teaches all, fewer take less memory", min: 0, max: 512, step: 1 },
  { name: "divergence", label: "Divergence", why: "how the distance from the teacher's probabilities is measured", type: "select",
    choices: [["forward-kl", "Forward KL: cover all that the teacher would say"], ["reverse-kl", "Reverse KL: keep to what it says most"], ["jsd", "Jensen-Shannon: between the two"], ["skew-kl", "Skewed KL: forward, but calmer"]] },
  { name: "ce", label: "Weight of the text", why: "0 learns from probabilities alone, 1 from the teacher's words alone", min: 0, max: 1, step: 0.05 },
  { name: "mix", label: "Mix", why: "beta of Jensen-Shannon, lambda of the skewed KL", min: 0, max: 1, step: 0.05 },
  { name: "clip", label: "Clip", why: "longest gradient of a step; 0 does not clip", min: 0, max: 1000, step: "any" },
  { name: "decay", label: "Weight decay", why: "pulls what was learned towards nothing", min: 0, max: 1, step: "any" },
  { name: "hold_out", label: "Held out", why: "part of the rows that is never taught, only measured", min: 0.01, max: 0.5, step: 0.01 },
  { name: "seed", label: "Seed", why: "the same seed teaches in the same way", min: 0, max: 4294967295, step: 1 },
];
const MODULES = [["attn_q", "queries"], ["attn_k", "keys"], ["attn_v", "values"], ["attn_output", "attention output"], ["ffn_gate", "gate"], ["ffn_up", "up"], ["ffn_down", "down"]];

/** @param {string} label @param {string} why @param {HTMLElement} control @param {string} [name] */
function labelled(label, why, control, name) {
  const box = /** @type {HTMLLabelElement} */ (make("label", name));
  box.htmlFor = control.id;
  box.append(label, " ", make("small", "", why), control);
  return box;
}

/** @param {Field} field */
function control({ name, type, min, max, step, choices }) {
  if (type === "select") {
    const select = /** @type {HTMLSelectElement} */ (make("select"));
    for (const [value, words] of choices ?? []) select.append(new Option(words, value));
    return Object.assign(select, { id: `set-${name}` });
  }
  const input = /** @type {HTMLInputElement} */ (make("input"));
  return Object.assign(input, { type: "number", id: `set-${name}`, min: String(min), max: String(max), step: String(step), required: true, inputMode: "decimal" });
}

export class SettingsForm {
  /** @param {HTMLFormElement} form @param {{ onChange: () => void, onReasoning: (reasoning: "keep" | "strip" | number) => void, onStart: () => void }} on */
  constructor(form, { onChange, onReasoning, onStart }) {
    this.form = form;
    /** @type {any} */ this.defaults = null;
    /** @type {any} */ this.settings = null;
    /** Rows that would be taught, as the plan says. */
    this.taught = 0;
    this.steps = /** @type {HTMLInputElement} */ (make("input"));
    this.strength = /** @type {HTMLSelectElement} */ (make("select"));
    this.reasoning = /** @type {HTMLSelectElement} */ (make("select"));
    this.length = /** @type {HTMLInputElement} */ (make("input"));
    this.shorten = labelled("Characters of reasoning to keep", "its end is kept, from a sentence's beginning", Object.assign(this.length, { id: "reasoning-length" }));
    this.effort = make("small", "");
    this.build();
    form.addEventListener("input", (event) => {
      const { id } = /** @type {HTMLElement} */ (event.target);
      if (id.startsWith("reasoning")) return;
      if (id === "set-strength") this.field("rate").value = String(Number((this.defaults.rate * Number(this.strength.value)).toPrecision(4)));
      this.take();
      this.words();
      onChange();
    });
    form.addEventListener("change", (event) => {
      const { id } = /** @type {HTMLElement} */ (event.target);
      if (!id.startsWith("reasoning")) return;
      this.words();
      onReasoning(this.kept());
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      onStart();
    });
  }

  build() {
    Object.assign(this.steps, { type: "number", id: "set-steps", min: "1", max: "100000", step: "1", required: true, inputMode: "numeric" });
    this.strength.id = "set-strength";
    for (const [value, words] of [["0.3", "Gently: learns less, forgets less"], ["1", "As usual"], ["3", "Strongly: learns more, may forget"]]) this.strength.append(new Option(words, value));
    const own = new Option("As set below", "own");
    own.hidden = true;
    this.strength.append(own);
    this.reasoning.id = "reasoning";
    for (const [value, words] of [["keep", "Learn it"], ["strip", "Leave it out: learn answers only"], ["short", "Shorten it"]]) this.reasoning.append(new Option(words, value));
    Object.assign(this.length, { type: "number", min: "1", max: "100000", step: "1", value: "400", inputMode: "numeric" });
    this.shorten.hidden = true;
    const steps = labelled("How long", "steps of the optimizer", this.steps);
    steps.append(this.effort);
    const more = make("details", "wide more");
    const fields = make("div", "teach-form");
    fields.append(...FIELDS.map((field) => labelled(field.label, field.why, control(field), field.type === "select" ? "wide" : "")));
    const modules = make("fieldset", "wide");
    modules.append(make("legend", "", "Matrices that get an adapter"));
    for (const [name, words] of MODULES) {
      const box = /** @type {HTMLInputElement} */ (make("input"));
      Object.assign(box, { type: "checkbox", id: `module-${name}`, checked: true });
      const label = /** @type {HTMLLabelElement} */ (make("label", "check"));
      label.htmlFor = box.id;
      label.append(box, ` ${words}`);
      modules.append(label);
    }
    const reset = /** @type {HTMLButtonElement} */ (make("button", "plain wide", "Back to the defaults"));
    reset.type = "button";
    reset.addEventListener("click", () => {
      this.show(this.defaults);
      this.form.dispatchEvent(new Event("input"));
    });
    fields.append(modules, reset);
    more.append(make("summary", "", "More"), fields);
    this.form.replaceChildren(steps, labelled("How strongly", "how much each step changes", this.strength), labelled("The teacher's reasoning", "where the traces have any", this.reasoning), this.shorten, more);
  }

  /** @param {string} name */
  field(name) {
    return /** @type {HTMLInputElement} */ (at(`set-${name}`));
  }

  /** @param {any} settings @param {any} [defaults] */
  show(settings, defaults = settings) {
    this.defaults = defaults;
    this.settings = structuredClone(settings);
    this.steps.value = String(settings.steps);
    for (const { name } of FIELDS) this.field(name).value = String(typeof settings[name] === "number" ? Number(settings[name].toPrecision(6)) : settings[name]);
    for (const [name] of MODULES) /** @type {HTMLInputElement} */ (at(`module-${name}`)).checked = settings.modules.length === 0 || settings.modules.includes(name);
    this.words();
  }

  /** From the form to the settings. */
  take() {
    const { settings } = this;
    settings.steps = Number(this.steps.value);
    for (const { name, type } of FIELDS) settings[name] = type === "select" ? this.field(name).value : Number(this.field(name).value);
    const chosen = MODULES.map(([name]) => name).filter((name) => /** @type {HTMLInputElement} */ (at(`module-${name}`)).checked);
    settings.modules = chosen.length === MODULES.length ? [] : chosen;
    return settings;
  }

  /** What is left open by the form itself, in a sentence; empty if nothing is. */
  complaint() {
    if (!this.form.checkValidity()) return "A setting is out of its range; it is marked.";
    if (MODULES.every(([name]) => !(/** @type {HTMLInputElement} */ (at(`module-${name}`)).checked))) return "Choose at least one matrix that gets an adapter.";
    return "";
  }

  kept() {
    return this.reasoning.value === "short" ? Math.max(1, Number(this.length.value) || 1) : /** @type {"keep" | "strip"} */ (this.reasoning.value);
  }

  words() {
    const rate = Number(this.field("rate").value);
    const match = [...this.strength.options].find(({ value }) => value !== "own" && Math.abs(this.defaults.rate * Number(value) - rate) <= 1e-3 * rate);
    this.strength.value = match?.value ?? "own";
    this.shorten.hidden = this.reasoning.value !== "short";
    const rows = this.steps.valueAsNumber * Number(this.field("batch").value);
    const passes = rows / Math.max(1, this.taught);
    this.effort.textContent = this.taught && Number.isFinite(passes) ? `each row is seen ${passes < 1.5 ? "about once" : `about ${whole(passes)} times`}` : "";
  }
}

/** @param {any} plan */
export function showPlan(plan) {
  const box = at("teach-plan");
  const parts = make("dl", "facts");
  parts.append(...plan.items.flatMap((/** @type {[string, number]} */ [name, bytes]) => [make("dt", "", name), make("dd", "", size(bytes))]));
  const all = make("details");
  all.append(make("summary", "", "Memory, part by part"), parts);
  const words = make("p", plan.fits ? "" : "warning", plan.words);
  box.replaceChildren(words);
  if (!plan.fits && plan.suggestion) box.append(make("p", "suggestion-words", plan.suggestion));
  box.append(make("p", "quiet", `${whole(plan.taught)} rows are taught, ${whole(plan.apart)} are held out and only measured; ${whole(plan.tokens_per_step)} tokens a step at most.`), all);
}
