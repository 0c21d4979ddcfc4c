// @ts-check
// The conversation on the screen. Knows elements, not engines.
import { Answer } from "./markdown.js";
import { counted, rate, seconds, whole } from "./format.js";

/** @typedef {{ ms: number, tokens: number, perSecond: number, finish: string }} Stats */
/** @typedef {{ role: "user" | "assistant", content: string, reasoning?: string, stats?: Stats, broken?: boolean }} Message */

/** @param {string} tag @param {string} [name] @param {string} [text] */
export function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
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
  /** @param {{ root: HTMLElement, welcome: HTMLElement, say: (text: string) => void, onRegenerate: () => void }} parts */
  constructor({ root, welcome, say, onRegenerate }) {
    this.root = root;
    this.welcome = welcome;
    this.say = say;
    this.follow = true;
    root.addEventListener("scroll", () => (this.follow = root.scrollHeight - root.scrollTop - root.clientHeight < 60), { passive: true });
    root.addEventListener("click", async (event) => {
      const button = event.target instanceof Element ? event.target.closest("button") : null;
      if (!button) return;
      if (button.id === "regenerate") onRegenerate();
      if (button.classList.contains("copy-code")) {
        this.copied(button, button.parentElement?.querySelector("pre")?.textContent ?? "");
      }
    });
  }

  /** @param {Element} button @param {string} text */
  async copied(button, text) {
    const label = button.textContent;
    const done = await copy(text);
    this.say(done ? "Copied." : "The browser did not allow copying; select the text instead.");
    if (!done) return;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1500);
  }

  /** @param {Message[]} messages */
  render(messages) {
    for (const node of [...this.root.querySelectorAll(".turn")]) node.remove();
    this.welcome.hidden = messages.length > 0;
    for (const message of messages) this.add(message).finish();
    this.follow = true;
    this.scroll();
  }

  /** Takes the newest turn away again. */
  pop() {
    this.root.querySelector(".turn:last-of-type")?.remove();
    this.welcome.hidden = this.root.querySelector(".turn") !== null;
    this.mark();
  }

  /** @param {Message} message */
  add(message) {
    this.welcome.hidden = true;
    const turn = make("article", `turn ${message.role}`);
    turn.setAttribute("aria-label", message.role === "user" ? "You" : "Student");
    this.root.append(turn);
    const view = message.role === "user" ? this.question(turn, message) : this.answer(turn, message);
    this.mark();
    this.scroll();
    return view;
  }

  /** @param {HTMLElement} turn @param {Message} message */
  question(turn, message) {
    turn.append(make("div", "body", message.content));
    return { reading() {}, update() {}, finish() {} };
  }

  /** @param {HTMLElement} turn @param {Message} message */
  answer(turn, message) {
    const thoughts = /** @type {HTMLDetailsElement} */ (make("details", "thoughts"));
    const summary = make("summary", "", "Thinking");
    const thoughtText = make("div", "thought-text");
    thoughts.append(summary, thoughtText);
    thoughts.hidden = true;
    const waiting = make("p", "waiting", "Reading the prompt");
    const body = make("div", "body");
    turn.append(thoughts, waiting, body);
    const markdown = new Answer(body);
    let asked = false;
    const draw = () => {
      asked = false;
      waiting.hidden = Boolean(message.content || message.reasoning);
      thoughts.hidden = !message.reasoning;
      if (message.reasoning && thoughtText.textContent !== message.reasoning) thoughtText.textContent = message.reasoning;
      summary.textContent = message.content ? "Thoughts" : "Thinking";
      markdown.show(message.content);
      this.scroll();
    };
    return {
      /** @param {{ processed: number, total: number }} progress */
      reading({ processed, total }) {
        if (total > 64) waiting.textContent = `Reading the prompt, ${whole(processed)} of ${counted(total, "token")}`;
      },
      update() {
        if (!asked) requestAnimationFrame(draw);
        asked = true;
      },
      finish: () => {
        draw();
        waiting.hidden = true;
        const foot = make("div", "foot");
        const button = /** @type {HTMLButtonElement} */ (make("button", "plain copy", "Copy"));
        button.type = "button";
        button.setAttribute("aria-label", "Copy this answer");
        button.addEventListener("click", () => this.copied(button, message.content));
        foot.append(button);
        if (message.broken) foot.append(make("span", "stats", "broke off"));
        else if (message.stats) foot.append(make("span", "stats", describe(message.stats)));
        turn.append(foot);
        this.mark();
        this.scroll();
      },
    };
  }

  /** The last answer, and only it, can be made again. */
  mark() {
    this.root.querySelector("#regenerate")?.remove();
    const turns = this.root.querySelectorAll(".turn");
    const foot = turns[turns.length - 1]?.querySelector(".foot");
    if (!foot) return;
    const button = /** @type {HTMLButtonElement} */ (make("button", "plain", "Regenerate"));
    button.type = "button";
    button.id = "regenerate";
    foot.firstElementChild?.after(button);
  }

  scroll() {
    if (this.follow) this.root.scrollTop = this.root.scrollHeight;
  }
}

/** @param {Stats} stats */
function describe({ ms, tokens, perSecond, finish }) {
  const parts = [counted(tokens, "token"), `${rate(perSecond)} tokens/s`, `first after ${seconds(ms)}`];
  if (finish === "length") parts.push("cut off at the limit");
  if (finish === "abort") parts.push("stopped");
  return parts.join(", ");
}
