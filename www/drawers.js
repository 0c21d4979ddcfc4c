// @ts-check
// What stands beside the conversation: the chats in front of it and the panel behind it. On narrow screens each of the two is a
// drawer that covers the conversation, and only one is open.
import { at } from "./panels.js";
import { t } from "./words.js";

const NARROW = matchMedia("(max-width: 60rem)");
const ROOMY = matchMedia("(min-width: 75rem)");

/** @typedef {"panel" | "chats"} Name */

export class Drawers {
  /** @param {{ chatsOpen: boolean | undefined, onChats: (open: boolean) => void }} options `chatsOpen` as the person left it. */
  constructor({ chatsOpen, onChats }) {
    /** @type {Name | null} */ this.open = null;
    this.chats = chatsOpen ?? ROOMY.matches;
    this.onChats = onChats;
    for (const name of /** @type {Name[]} */ (["panel", "chats"])) at(`${name}-toggle`).addEventListener("click", () => this.toggle(name));
    NARROW.addEventListener("change", () => this.arrange(null));
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.defaultPrevented) this.close();
    });
    this.arrange(null);
  }

  /** @param {Name} name */
  toggle(name) {
    if (NARROW.matches) return this.arrange(this.open === name ? null : name);
    if (name !== "chats") return;
    this.chats = !this.chats;
    this.onChats(this.chats);
    this.arrange(null);
  }

  /** @param {Name | null} open */
  arrange(open) {
    const drawer = NARROW.matches;
    this.open = drawer ? open : null;
    for (const name of /** @type {Name[]} */ (["panel", "chats"])) {
      const shown = drawer ? open === name : name === "panel" || this.chats;
      const node = at(name);
      node.classList.toggle("open", drawer && shown);
      node.hidden = name === "chats" && !shown;
      node.inert = !shown;
      at(`${name}-toggle`).setAttribute("aria-expanded", String(shown));
    }
    // What is in the main part, not that part itself: a page has one, whatever covers it.
    for (const node of document.querySelectorAll("main > *")) /** @type {HTMLElement} */ (node).inert = this.open !== null;
    at("panel-toggle").textContent = t(this.open === "panel" ? "close" : "panel");
  }

  /** Closes the open drawer, if there is one, and puts the focus back. */
  close() {
    if (!this.open) return;
    const toggle = at(`${this.open}-toggle`);
    this.arrange(null);
    toggle.focus();
  }
}
