// @ts-check
// The conversation on the screen. Knows elements, not engines.
import { Answer } from "./markdown.js";
import { rate, seconds, t } from "./words.js";

/** @typedef {{ ms: number, tokens: number, perSecond: number, finish: string }} Stats */
/** @typedef {import("./chats.js").Message} Message */
/** How many versions of a message there are, and which one is shown, from 1. @typedef {{ at: number, of: number }} Place */

/** @param {string} tag @param {string} [name] @param {string} [text] */
export function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** @param {string} label @param {string} spoken @param {() => void} act @param {string} [name] */
function button(label, spoken, act, name = "plain") {
  const node = /** @type {HTMLButtonElement} */ (make("button", name, label));
  node.type = "button";
  node.setAttribute("aria-label", spoken);
  node.addEventListener("click", act);
  return node;
}

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

export class ChatView {
  /**
   * @param {{ root: HTMLElement, welcome: HTMLElement, say: (text: string) => void, onRegenerate: () => void, onContinue: () => void,
   *   onEdit: (node: Message, text: string) => boolean, onVersion: (node: Message, step: number) => void }} parts
   */
  constructor({ root, welcome, say, ...on }) {
    this.root = root;
    this.welcome = welcome;
    this.say = say;
    this.on = on;
    this.follow = true;
    root.addEventListener("scroll", () => (this.follow = root.scrollHeight - root.scrollTop - root.clientHeight < 60), { passive: true });
    root.addEventListener("click", async (event) => {
      const pressed = event.target instanceof Element ? event.target.closest("button") : null;
      if (pressed?.classList.contains("copy-code")) this.copied(pressed, pressed.parentElement?.querySelector("pre")?.textContent ?? "");
    });
  }

  /** @param {Element} button @param {string} text */
  async copied(button, text) {
    const label = button.textContent;
    const done = await copy(text);
    this.say(t(done ? "copied.said" : "copied.not"));
    if (!done) return;
    button.textContent = t("copied");
    setTimeout(() => (button.textContent = label), 1500);
  }

  /** @param {Message[]} messages @param {(node: Message) => Place} place */
  render(messages, place) {
    for (const node of [...this.root.querySelectorAll(".turn")]) node.remove();
    this.welcome.hidden = messages.length > 0;
    for (const message of messages) this.add(message, place(message)).finish();
    this.follow = true;
    this.scroll();
  }

  /** Takes the newest turn away again. */
  pop() {
    this.root.querySelector(".turn:last-of-type")?.remove();
    this.welcome.hidden = this.root.querySelector(".turn") !== null;
    this.mark();
  }

  /** @param {Message} message @param {Place} [place] */
  add(message, place = { at: 1, of: 1 }) {
    this.welcome.hidden = true;
    const turn = make("article", `turn ${message.role}`);
    turn.setAttribute("aria-label", t(message.role === "user" ? "you" : "student"));
    turn.dataset.id = message.id;
    this.root.append(turn);
    const view = message.role === "user" ? this.question(turn, message, place) : this.answer(turn, message, place);
    this.mark();
    this.scroll();
    return view;
  }

  /** The versions of a message, to step through. @param {Message} message @param {Place} place */
  pager(message, { at, of }) {
    if (of < 2) return [];
    const box = make("span", "pager");
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", t("version.label"));
    const step = (/** @type {string} */ sign, /** @type {string} */ spoken, /** @type {number} */ by, /** @type {boolean} */ none) => {
      const node = button(sign, t(spoken), () => this.on.onVersion(message, by), `plain ${by < 0 ? "earlier" : "later"}`);
      node.disabled = none;
      return node;
    };
    box.append(step("‹", "version.earlier", -1, at === 1), make("span", "stats", t("version", { n: at, all: of })), step("›", "version.later", 1, at === of));
    return [box];
  }

  /** @param {HTMLElement} turn @param {Message} message @param {Place} place */
  question(turn, message, place) {
    const body = make("div", "body", message.content);
    body.dir = "auto";
    body.hidden = !message.content;
    turn.append(body);
    const files = make("div", "files");
    for (const { name, text, tokens } of message.files ?? []) {
      const file = make("details", "file");
      const summary = make("summary");
      summary.append(make("bdi", "", name), tokens === undefined ? "" : `, ${t("tokens", { n: tokens })}`);
      const content = make("pre", "", text);
      content.tabIndex = 0;
      content.dir = "auto";
      file.append(summary, content);
      files.append(file);
    }
    if (files.childElementCount > 0) turn.append(files);
    const foot = make("div", "tools");
    const copying = button(t("copy"), t("copy.question"), () => this.copied(copying, message.content), "plain copy");
    foot.append(...this.pager(message, place), button(t("edit"), t("edit.label"), () => this.edit(turn, message), "plain edit"), copying);
    turn.append(foot);
    return { reading() {}, update() {}, finish() {} };
  }

  /** The message as a field, in its place. @param {HTMLElement} turn @param {Message} message */
  edit(turn, message) {
    if (turn.querySelector("form")) return;
    const parts = /** @type {HTMLElement[]} */ ([...turn.children].filter((part) => !(/** @type {HTMLElement} */ (part).hidden)));
    const form = document.createElement("form");
    form.className = "edit-form";
    const field = /** @type {HTMLTextAreaElement} */ (make("textarea"));
    field.value = message.content;
    field.dir = "auto";
    field.rows = Math.min(12, message.content.split("\n").length + 1);
    field.spellcheck = false;
    field.setAttribute("writingsuggestions", "false");
    field.setAttribute("aria-label", t("edit.field"));
    const send = /** @type {HTMLButtonElement} */ (make("button", "primary", t("edit.send")));
    const row = make("div", "row");
    const close = () => {
      form.remove();
      for (const part of parts) part.hidden = false;
      /** @type {HTMLElement | null} */ (turn.querySelector(".edit"))?.focus();
    };
    row.append(send, button(t("cancel"), t("cancel"), close));
    form.append(field, make("p", "quiet", t("edit.hint")), row);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (text || message.files) this.on.onEdit(message, text);
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.preventDefault();
        close();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === field) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    for (const part of parts) part.hidden = true;
    turn.append(form);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  /** @param {HTMLElement} turn @param {Message} message @param {Place} place */
  answer(turn, message, place) {
    const thoughts = /** @type {HTMLDetailsElement} */ (make("details", "thoughts"));
    const summary = make("summary", "", t("thinking"));
    const thoughtText = make("div", "thought-text");
    thoughtText.dir = "auto";
    thoughts.append(summary, thoughtText);
    thoughts.hidden = true;
    const waiting = make("p", "waiting", t("reading"));
    const body = make("div", "body");
    body.dir = "auto";
    turn.append(thoughts, waiting, body);
    const markdown = new Answer(body);
    let asked = false;
    const draw = () => {
      asked = false;
      waiting.hidden = Boolean(message.content || message.reasoning);
      thoughts.hidden = !message.reasoning;
      if (message.reasoning && thoughtText.textContent !== message.reasoning) thoughtText.textContent = message.reasoning;
      summary.textContent = message.thought ? t("thought.for", { time: seconds(message.thought) }) : t(message.content ? "thoughts" : "thinking");
      markdown.show(message.content);
      this.scroll();
    };
    return {
      /** @param {{ processed: number, total: number }} progress */
      reading({ processed, total }) {
        if (total > 64) waiting.textContent = t("reading.part", { done: processed, total });
      },
      update() {
        if (!asked) requestAnimationFrame(draw);
        asked = true;
      },
      finish: () => {
        draw();
        waiting.hidden = true;
        const foot = make("div", "foot");
        const copying = button(t("copy"), t("copy.answer"), () => this.copied(copying, message.content), "plain copy");
        foot.append(...this.pager(message, place), copying);
        if (message.broken) foot.append(make("span", "stats", t("stats.broken")));
        else if (message.stats) foot.append(make("span", "stats", describe(message.stats)));
        if (message.broken || ["length", "abort"].includes(message.stats?.finish ?? "")) foot.dataset.open = "true";
        turn.append(foot);
        this.mark();
        this.scroll();
      },
    };
  }

  /** The last answer, and only it, can be made again, or made longer where it was cut off. */
  mark() {
    for (const id of ["regenerate", "continue-answer"]) this.root.querySelector(`#${id}`)?.remove();
    const turns = this.root.querySelectorAll(".turn");
    const foot = /** @type {HTMLElement | null} */ (turns[turns.length - 1]?.querySelector(".foot"));
    if (!foot) return;
    const again = button(t("regenerate"), t("regenerate"), () => this.on.onRegenerate());
    again.id = "regenerate";
    foot.querySelector(".copy")?.after(again);
    if (foot.dataset.open !== "true") return;
    const more = button(t("continue"), t("continue.label"), () => this.on.onContinue());
    more.id = "continue-answer";
    again.after(more);
  }

  scroll() {
    if (this.follow) this.root.scrollTop = this.root.scrollHeight;
  }
}

/** @param {Stats} stats */
function describe({ ms, tokens, perSecond, finish }) {
  const parts = [t("tokens", { n: tokens }), t("stats.rate", { rate: rate(perSecond) }), t("stats.first", { time: seconds(ms) })];
  if (finish === "length") parts.push(t("stats.length"));
  if (finish === "abort") parts.push(t("stats.stopped"));
  return parts.join(", ");
}
