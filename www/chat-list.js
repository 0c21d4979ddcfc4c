// @ts-check
// The chats beside the conversation: found, named, deleted and brought back, saved as files and read from them.
import { download, fileName } from "./adapter-list.js";
import { make } from "./chat-view.js";
import { Unreadable, fromFile, matches, toJson, toMarkdown } from "./chats.js";
import { notice, offer, say } from "./notices.js";
import { at } from "./panels.js";
import { language, size, t } from "./words.js";

/** @typedef {import("./chats.js").Chat} Chat */

const LARGEST = 64 * 1024 * 1024;

export class ChatList {
  /**
   * @param {import("./chat-store.js").ChatStore} store
   * @param {{ current: () => Chat, open: (id: string) => void, renamed: (chat: Chat) => void, removed: (id: string) => void }} on
   */
  constructor(store, on) {
    this.store = store;
    this.on = on;
    /** @type {Chat[]} */ this.chats = [];
    /** What the menu is open for. @type {{ chat: Chat, button: HTMLElement } | null} */ this.asked = null;
    this.told = false;
    const search = /** @type {HTMLInputElement} */ (at("chat-search"));
    search.addEventListener("input", () => this.draw());
    at("export-chats").addEventListener("click", () => this.exportAll());
    const file = /** @type {HTMLInputElement} */ (at("chat-file"));
    at("import-chats").addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      if (file.files?.length) this.take([...file.files]);
      file.value = "";
    });
    const menu = at("chat-menu");
    menu.addEventListener("click", (event) => this.act(event.target instanceof Element ? (event.target.closest("button")?.dataset.act ?? "") : ""));
    menu.addEventListener("toggle", (event) => this.asked?.button.setAttribute("aria-expanded", String(/** @type {ToggleEvent} */ (event).newState === "open")));
    menu.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const items = [...menu.querySelectorAll("button")];
      items[(items.indexOf(/** @type {any} */ (document.activeElement)) + step + items.length) % items.length].focus();
    });
  }

  /** Reads the store again. */
  async refresh() {
    try {
      const { chats, broken } = await this.store.all();
      this.chats = chats;
      if (broken.length > 0 && !this.told) {
        this.told = true;
        notice("warning", t("chats.unreadable", { n: broken.length }), {
          hint: t("chats.unreadable.hint"), code: "chat-unreadable",
          action: [t("chats.unreadable.save"), () => download(new Blob([JSON.stringify(broken, null, 1)], { type: "application/json" }), "understudy-unreadable.json")],
        });
      }
    } catch {
      this.chats = [];
    }
    this.draw();
  }

  draw() {
    const focused = document.activeElement?.getAttribute("data-key");
    const search = /** @type {HTMLInputElement} */ (at("chat-search")).value.trim();
    const found = this.chats.filter((chat) => matches(chat, search));
    at("chat-list").replaceChildren(...found.map((chat) => this.item(chat)));
    at("chats-words").textContent = this.store.trouble ? t(this.store.trouble)
      : search ? t("chats.found", { n: found.length })
      : this.chats.length > 0 ? t("chats.count", { n: this.chats.length }) : t("chats.none");
    /** @type {HTMLButtonElement} */ (at("export-chats")).disabled = this.chats.length === 0;
    if (focused) /** @type {HTMLElement | null} */ (at("chat-list").querySelector(`[data-key="${CSS.escape(focused)}"]`))?.focus();
  }

  /** @param {Chat} chat */
  item(chat) {
    const item = make("li");
    item.dataset.id = chat.id;
    const title = chat.title || t("chats.untitled");
    const open = /** @type {HTMLButtonElement} */ (make("button", "chat-open"));
    open.type = "button";
    open.dataset.key = `open ${chat.id}`;
    const name = make("span", "chat-title", title);
    name.dir = "auto";
    open.append(name, make("span", "quiet", new Date(chat.changed).toLocaleDateString(language, { day: "numeric", month: "short", year: "numeric" })));
    if (this.on.current().id === chat.id) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => this.on.open(chat.id));
    const more = /** @type {HTMLButtonElement} */ (make("button", "plain more", "⋯"));
    more.type = "button";
    more.dataset.key = `more ${chat.id}`;
    more.setAttribute("aria-label", t("chats.more", { title }));
    more.setAttribute("aria-expanded", "false");
    more.setAttribute("aria-controls", "chat-menu");
    more.addEventListener("click", () => this.menu(chat, more));
    item.append(open, more);
    return item;
  }

  /** @param {Chat} chat @param {HTMLElement} button */
  menu(chat, button) {
    const menu = at("chat-menu");
    this.asked?.button.setAttribute("aria-expanded", "false");
    this.asked = { chat, button };
    menu.showPopover();
    const from = button.getBoundingClientRect();
    const box = menu.getBoundingClientRect();
    menu.style.left = `${Math.max(8, Math.min(from.left, innerWidth - box.width - 8))}px`;
    menu.style.top = `${from.bottom + box.height + 8 > innerHeight ? Math.max(8, from.top - box.height) : from.bottom}px`;
    menu.querySelector("button")?.focus();
  }

  /** @param {string} name */
  act(name) {
    const { chat, button } = this.asked ?? {};
    if (!chat || !button || !name) return;
    at("chat-menu").hidePopover();
    button.focus();
    const base = fileName(chat.title || t("chats.untitled"));
    if (name === "json") download(new Blob([toJson([chat])], { type: "application/json" }), `${base}.json`);
    if (name === "markdown") download(new Blob([toMarkdown(chat)], { type: "text/markdown" }), `${base}.md`);
    if (name === "rename") this.rename(chat);
    if (name === "delete") this.remove(chat);
  }

  /** The name as a field, in its place. @param {Chat} chat */
  rename(chat) {
    const item = at("chat-list").querySelector(`li[data-id="${CSS.escape(chat.id)}"]`);
    if (!item) return;
    const field = /** @type {HTMLInputElement} */ (make("input"));
    field.value = chat.title;
    field.maxLength = 200;
    field.dir = "auto";
    field.setAttribute("aria-label", t("chats.name"));
    let ended = false;
    const end = async (/** @type {boolean} */ keep) => {
      if (ended) return;
      ended = true;
      const title = field.value.trim();
      if (keep && title && title !== chat.title) await this.on.renamed({ ...chat, title, named: Date.now() });
      await this.refresh();
      /** @type {HTMLElement | null} */ (at("chat-list").querySelector(`[data-key="${CSS.escape(`more ${chat.id}`)}"]`))?.focus();
    };
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault();
      end(event.key === "Enter");
    });
    field.addEventListener("blur", () => end(true));
    item.replaceChildren(field);
    field.focus();
    field.select();
  }

  /** @param {Chat} chat */
  async remove(chat) {
    try {
      const record = await this.store.remove(chat.id);
      this.on.removed(chat.id);
      await this.refresh();
      offer(t("chats.deleted", { title: chat.title || t("chats.untitled") }), [t("undo"), async () => {
        await this.store.restore(record ?? chat);
        await this.refresh();
        this.on.open(chat.id);
      }]);
      (/** @type {HTMLElement | null} */ (at("chat-list").querySelector("button")) ?? at("chat-search")).focus();
    } catch {
      notice("error", t("deleted.not", { name: chat.title }), { hint: t("deleted.not.hint"), code: "io" });
    }
  }

  exportAll() {
    const day = new Date().toISOString().slice(0, 10);
    download(new Blob([toJson(this.chats)], { type: "application/json" }), `understudy-chats-${day}.json`);
  }

  /** @param {File[]} files */
  async take(files) {
    let count = 0;
    let lost = 0;
    let last = "";
    for (const file of files) {
      const refuse = (/** @type {string} */ hint) => notice("error", t("chats.notImported", { name: file.name }), { hint, code: "import" });
      if (file.size > LARGEST) {
        refuse(t("chats.tooLarge", { size: size(LARGEST) }));
        continue;
      }
      try {
        const read = fromFile(await file.text());
        lost += read.lost;
        for (const chat of read.chats) {
          await this.store.save(chat);
          last = chat.id;
          count++;
        }
      } catch (error) {
        refuse(error instanceof Unreadable ? t(error.reason) : t("chats.full"));
      }
    }
    await this.refresh();
    if (count > 0) {
      say(t("chats.imported", { n: count }));
      this.on.open(last);
    }
    if (lost > 0) notice("warning", t("chats.lost", { n: lost }), { code: "import" });
  }
}
