// @ts-check
// Personas: a system prompt and settings of sampling under a name, kept in this browser and shared as a file.
import { download, fileName } from "./adapter-list.js";
import { alone } from "./memory.js";
import { notice, say } from "./notices.js";
import { at } from "./panels.js";
import { t } from "./words.js";

const NAME = "understudy.personas";
const VERSION = 1;

/** The settings that belong to a persona, and what they may be. @type {Record<string, (value: any) => boolean>} */
const FIELDS = {
  system: (value) => typeof value === "string",
  temperature: (value) => inRange(value, 0, 2),
  top_k: (value) => inRange(value, 0, 1e9),
  top_p: (value) => inRange(value, 0, 1),
  min_p: (value) => inRange(value, 0, 1),
  max_tokens: (value) => value === "" || inRange(value, 1, 1e9),
  thinking: (value) => typeof value === "boolean",
};

/** @param {any} value @param {number} least @param {number} most */
const inRange = (value, least, most) => (typeof value === "string" || typeof value === "number") && String(value).trim() !== "" && Number(value) >= least && Number(value) <= most;

/** @typedef {{ name: string, settings: Record<string, any> }} Persona */

/** @param {any} raw @returns {Persona | null} */
function read(raw) {
  const name = typeof raw?.name === "string" ? raw.name.trim().slice(0, 80) : "";
  const given = raw?.settings;
  if (!name || given === null || typeof given !== "object" || typeof given.system !== "string") return null;
  const known = Object.entries(FIELDS).filter(([field]) => field in given);
  if (known.some(([field, fits]) => !fits(given[field]))) return null;
  return { name, settings: Object.fromEntries(known.map(([field]) => [field, typeof given[field] === "number" ? String(given[field]) : given[field]])) };
}

/** @returns {Persona[]} */
function all() {
  try {
    const list = JSON.parse(localStorage.getItem(NAME) ?? "[]");
    return Array.isArray(list) ? list.map(read).filter((persona) => persona !== null) : [];
  } catch {
    return [];
  }
}

/** What was kept last, where the browser keeps nothing. @type {Persona[] | null} */
let unkept = null;
const personas = () => unkept ?? all();

/** @param {(list: Persona[]) => Persona[]} change */
async function update(change) {
  await alone("understudy-personas", async () => {
    const list = change(personas()).sort((a, b) => a.name.localeCompare(b.name));
    try {
      localStorage.setItem(NAME, JSON.stringify(list));
      unkept = null;
    } catch {
      unkept = list;
      notice("warning", t("persona.notKept"), { hint: t("persona.notKept.hint"), code: "not-kept" });
    }
  });
}

export class Personas {
  /** @param {{ settings: Record<string, any>, apply: (settings: Record<string, any>) => void }} host */
  constructor(host) {
    this.host = host;
    this.select = /** @type {HTMLSelectElement} */ (at("persona"));
    this.field = /** @type {HTMLInputElement} */ (at("persona-name"));
    const file = /** @type {HTMLInputElement} */ (at("persona-file"));
    this.select.addEventListener("change", () => this.choose());
    at("persona-save").addEventListener("click", () => this.save());
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) {
        event.preventDefault();
        this.save();
      }
    });
    at("persona-share").addEventListener("click", () => this.share());
    at("persona-delete").addEventListener("click", () => this.remove());
    at("persona-import").addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      if (file.files?.[0]) this.take(file.files[0]);
      file.value = "";
    });
    addEventListener("storage", ({ key }) => {
      if (key === NAME) this.draw(this.select.value);
    });
    this.draw("");
  }

  /** @param {string} chosen */
  draw(chosen) {
    const none = document.createElement("option");
    none.value = "";
    none.textContent = t("persona.none");
    this.select.replaceChildren(none, ...personas().map(({ name }) => {
      const option = document.createElement("option");
      option.value = option.textContent = name;
      return option;
    }));
    this.select.value = personas().some(({ name }) => name === chosen) ? chosen : "";
    for (const id of ["persona-share", "persona-delete"]) /** @type {HTMLButtonElement} */ (at(id)).disabled = this.select.value === "";
  }

  get chosen() {
    return personas().find(({ name }) => name === this.select.value);
  }

  choose() {
    const persona = this.chosen;
    this.draw(this.select.value);
    this.field.value = persona?.name ?? "";
    if (!persona) return;
    this.host.apply(persona.settings);
    say(t("persona.applied", { name: persona.name }));
  }

  async save() {
    const name = this.field.value.trim();
    const persona = read({ name, settings: Object.fromEntries(Object.keys(FIELDS).map((field) => [field, this.host.settings[field]])) });
    if (!name) return this.field.focus();
    if (!persona) return void notice("error", t("persona.bad"), { hint: t("persona.bad.hint"), code: "persona" });
    await update((list) => [...list.filter((other) => other.name !== name), persona]);
    this.draw(name);
    say(t("persona.saved", { name }));
  }

  async remove() {
    const persona = this.chosen;
    if (!persona) return;
    await update((list) => list.filter(({ name }) => name !== persona.name));
    this.draw("");
    this.field.value = "";
    this.select.focus();
    notice("good", t("deleted", { name: persona.name }), { action: [t("undo"), async () => {
      await update((list) => [...list.filter(({ name }) => name !== persona.name), persona]);
      this.draw(persona.name);
    }] });
  }

  share() {
    const persona = this.chosen;
    if (persona) download(new Blob([JSON.stringify({ understudy: "persona", version: VERSION, ...persona }, null, 1)], { type: "application/json" }), `${fileName(persona.name)}.persona.json`);
  }

  /** @param {File} file */
  async take(file) {
    /** @type {any} */ let raw = null;
    try {
      raw = JSON.parse(await file.text());
    } catch {
      // Said below.
    }
    const refuse = (/** @type {string} */ hint) => notice("error", t("chats.notImported", { name: file.name }), { hint, code: "persona" });
    if (raw?.understudy !== "persona") return void refuse(t("persona.unknown"));
    if (raw.version > VERSION) return void refuse(t("chats.newer"));
    const persona = read(raw);
    if (!persona) return void refuse(t("persona.damaged"));
    // A name that is taken is not written over.
    let { name } = persona;
    for (let count = 2; personas().some((other) => other.name === name); count++) name = `${persona.name} ${count}`;
    await update((list) => [...list, { ...persona, name }]);
    this.draw(name);
    this.choose();
  }
}
