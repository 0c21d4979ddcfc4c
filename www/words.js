// @ts-check
// The words of the page in the language of the person: chosen by a setting, else by the browser's languages. The table of each
// language is in words/; what a table lacks is said in English. Numbers are written as the language writes them.
import { EN } from "./words/en.js";

/** @typedef {{ name: string, dir: "ltr" | "rtl", words: Record<string, string | Partial<Record<Intl.LDMLPluralRule, string>>> }} Table */

/** @type {Record<string, Table>} */
export const TABLES = {
  en: { name: "English", dir: "ltr", words: EN },
};

const MEMORY = "understudy.language";

/** What the person chose, or "" for the browser's choice. */
export function chosen() {
  try {
    const name = localStorage.getItem(MEMORY) ?? "";
    return name in TABLES ? name : "";
  } catch {
    return "";
  }
}

/** @param {string} name */
export function choose(name) {
  try {
    if (name) localStorage.setItem(MEMORY, name);
    else localStorage.removeItem(MEMORY);
  } catch {
    // Not kept: the browser's choice comes back with the next visit.
  }
}

/** @param {readonly string[]} wanted Language tags, the dearest first. */
export const pick = (wanted) => wanted.map((tag) => tag.toLowerCase().split("-", 1)[0]).find((tag) => tag in TABLES) ?? "en";

export const language = chosen() || pick(globalThis.navigator?.languages ?? []);
const table = TABLES[language];
const plural = new Intl.PluralRules(language);

/** @param {number} value @param {Intl.NumberFormatOptions} [options] */
export const number = (value, options) => value.toLocaleString(language, options);

/**
 * A sentence. @param {string} key @param {Record<string, string | number>} [values] Numbers are written as the language writes them.
 * @returns {string}
 */
export function t(key, values = {}) {
  const entry = table.words[key] ?? EN[key];
  if (entry === undefined) throw new Error(`no words for "${key}"`);
  const words = typeof entry === "string" ? entry : entry[plural.select(Number(values.n))] ?? entry.other ?? "";
  return words.replace(/\{(\w+)\}/g, (all, name) => {
    const value = values[name];
    return value === undefined ? all : typeof value === "number" ? number(Math.round(value)) : value;
  });
}

/** Fills in the words of the markup: `data-t` is the text, `data-t-label` the name for assistive technology, `data-t-placeholder` a field's. @param {ParentNode} root */
export function fill(root) {
  for (const node of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-t], [data-t-label], [data-t-placeholder]"))) {
    const { t: text, tLabel, tPlaceholder } = node.dataset;
    if (text) node.textContent = t(text);
    if (tLabel) node.setAttribute("aria-label", t(tLabel));
    if (tPlaceholder) node.setAttribute("placeholder", t(tPlaceholder));
  }
}

/** The whole page, in its language and direction. */
export function dress() {
  document.documentElement.lang = language;
  document.documentElement.dir = table.dir;
  fill(document);
}

// ------------------------------------------------------------------------------------------- numbers with their units

/** Powers of 1024, as the engine words them. @param {number} bytes */
export function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  while (value >= (unit === 0 ? 1024 : 1023.95) && unit + 1 < units.length) {
    value /= 1024;
    unit++;
  }
  const digits = value < 10 && unit > 0 ? 1 : 0;
  return `${number(value, { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${units[unit]}`;
}

/** Parameters: 1.2 million, 135 million, 3.2 billion. @param {number} value */
export function parameters(value) {
  const short = (/** @type {number} */ part, /** @type {number} */ digits) => number(part, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  if (value >= 1e9) return t("number.billion", { n: short(value / 1e9, 1) });
  if (value >= 1e6) return t("number.million", { n: short(value / 1e6, value < 1e7 ? 1 : 0) });
  return number(Math.round(value));
}

/** @param {number} value */
export const rate = (value) => (value < 10 ? number(value, { minimumFractionDigits: 1, maximumFractionDigits: 1 }) : number(Math.round(value)));

/** @param {number} ms */
export function seconds(ms) {
  const digits = ms < 950 ? 2 : 1;
  return `${number(Math.max(0.01, ms / 1000), { minimumFractionDigits: digits, maximumFractionDigits: digits })} s`;
}
