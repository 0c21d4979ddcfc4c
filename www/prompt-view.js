// @ts-check
// The prompt, exactly as the student reads it: the messages in the student's own template.
import { complain, say } from "./notices.js";
import { at } from "./panels.js";
import { t } from "./words.js";

/** @param {{ student: () => any, messages: () => any[], options: () => any }} from `messages` with the draft, as it would be sent. */
export function promptView({ student, messages, options }) {
  const dialog = /** @type {HTMLDialogElement} */ (at("prompt-dialog"));
  at("show-prompt").addEventListener("click", async () => {
    const list = messages();
    if (!student() || list.length === 0) return void say(t(student() ? "prompt.empty" : "noStudent"));
    try {
      const [text, tokens] = await Promise.all([student().prompt(list, options()), student().count(list)]);
      at("prompt-text").textContent = text;
      at("prompt-words").textContent = t("prompt.words", { name: student().info().name, tokens: t("tokens", { n: tokens }) });
      dialog.showModal();
      at("prompt-text").focus();
    } catch (error) {
      complain(error);
    }
  });
  at("prompt-close").addEventListener("click", () => dialog.close());
  at("prompt-copy").addEventListener("click", async () => {
    const done = await navigator.clipboard.writeText(at("prompt-text").textContent ?? "").then(() => true, () => false);
    at("prompt-copied").textContent = t(done ? "copied.said" : "copied.not");
  });
  dialog.addEventListener("close", () => (at("prompt-copied").textContent = ""));
}
