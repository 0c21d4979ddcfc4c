// @ts-check
// Words to the person: a short one at the composer, a notice above the conversation, and the bar of what is being loaded.
import { make } from "./chat-view.js";
import { UnderstudyError } from "./errors.js";
import { at } from "./panels.js";
import { language, t } from "./words.js";

/** @param {string} text */
export const say = (text) => (at("status").textContent = text);

/**
 * @param {string} kind @param {string} message
 * @param {{ hint?: string, code?: string, action?: [string, () => void], foreign?: boolean }} [more] `foreign`: the engine's own English.
 */
export function notice(kind, message, { hint = "", code = "", action, foreign = false } = {}) {
  const box = make("div", `notice ${kind}`);
  box.dataset.code = code;
  const words = make("p");
  if (foreign && language !== "en") {
    words.lang = "en";
    words.dir = "ltr";
  }
  words.append(make("strong", "", message), hint ? ` ${hint}` : "");
  if (code) words.append(" ", make("code", "", code));
  box.append(words);
  const button = (/** @type {string} */ label, /** @type {() => void} */ act) => {
    const node = /** @type {HTMLButtonElement} */ (make("button", "plain", label));
    node.type = "button";
    node.addEventListener("click", () => {
      box.remove();
      act();
      at("prompt").focus();
    });
    box.append(node);
  };
  if (action) button(action[0], action[1]);
  button(t("close"), () => {});
  const others = [...at("notices").children];
  for (const other of others) if (other.querySelector("p")?.textContent === words.textContent) other.remove();
  if (others.length > 3) others[0].remove();
  at("notices").append(box);
  return box;
}

/** A notice that goes by itself after 20 seconds. @param {string} message @param {[string, () => void]} action */
export function offer(message, action) {
  const box = notice("good", message, { action });
  setTimeout(() => box.remove(), 20_000);
  return box;
}

/** @param {any} error */
export function complain(error) {
  const { code, message, hint } = UnderstudyError.from(error);
  return notice("error", message, { hint, code, foreign: true });
}

/** @param {string} [words] @param {number} [part] */
export function loading(words, part) {
  const bar = /** @type {HTMLProgressElement} */ (at("loading-bar"));
  at("loading").hidden = words === undefined;
  if (words === undefined) return;
  at("loading-words").textContent = words;
  if (part === undefined || !Number.isFinite(part)) bar.removeAttribute("value");
  else bar.value = part;
}
