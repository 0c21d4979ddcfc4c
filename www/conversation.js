// @ts-check
// The chat that is open: what is sent, answered, changed and kept of it.
import { add, merge, newChat, path, promptOf, show, takeLast, versions } from "./chats.js";
import { ChatView } from "./chat-view.js";
import { UnderstudyError } from "./errors.js";
import { Meter } from "./meter.js";
import { complain, notice, offer, say } from "./notices.js";
import { at } from "./panels.js";
import { rate, t } from "./words.js";

/** @typedef {import("./chats.js").Chat} Chat */
/** @typedef {import("./chats.js").Message} Message */

/** How often a growing answer is written to the store, in ms. */
const KEEP_EVERY = 2000;

const prompt = /** @type {HTMLTextAreaElement} */ (at("prompt"));

export function grow() {
  prompt.style.height = "auto";
  prompt.style.height = `${Math.min(prompt.scrollHeight, innerHeight * 0.4)}px`;
}

export class Conversation {
  /**
   * @param {import("./chat-store.js").ChatStore} store
   * @param {{ attachments: import("./attachments.js").Attachments, student: () => any, opening: () => Promise<any>, request: () => any, system: () => string, remember: () => void, changed: () => void, recall: import("./recall.js").Recall, general: () => any }} host
   *   `request`: the settings of a request; `remember`: the draft or the open chat is another; `changed`: the list of chats is.
   */
  constructor(store, host) {
    this.store = store;
    this.host = host;
    this.chat = newChat();
    /** @type {{ stop: () => void } | null} */ this.answering = null;
    /** Other tabs deleted it: it is not written again before the person says so. */
    this.gone = false;
    /** Gives the lock on the open chat back. */
    this.release = () => {};
    this.claimed = "";
    this.troubled = false;
    /** One write after the other. */
    this.writing = Promise.resolve();
    this.view = new ChatView({
      root: at("messages"), welcome: at("welcome"), say,
      onRegenerate: () => this.regenerate(), onContinue: () => this.goOn(),
      onEdit: (node, text) => this.edit(node, text), onVersion: (node, step) => this.turn(node, step),
    });
    this.meter = new Meter({ student: host.student, busy: () => this.answering !== null, messages: () => this.messages(prompt.value.trim(), host.attachments.files) });
    store.addEventListener("change", (event) => this.heed(/** @type {CustomEvent} */ (event).detail));
  }

  // ----------------------------------------------------------------------------------------------- which chat it is

  draw() {
    this.view.render(path(this.chat), (node) => this.place(node));
  }

  /** @param {Message} node */
  place(node) {
    const all = versions(this.chat, node);
    return { at: all.indexOf(node) + 1, of: all.length };
  }

  /** Shows a chat; what was being answered is stopped and kept. @param {Chat} chat */
  become(chat) {
    this.answering?.stop();
    this.chat = chat;
    this.gone = false;
    this.draw();
    say("");
    this.host.remember();
    this.meter.measure();
    return this.claim();
  }

  /** The chat that was open when the page was closed. @param {string} id */
  async resume(id) {
    const chat = await this.store.get(id);
    if (!chat || this.chat.nodes.length > 0 || this.answering) return;
    const elsewhere = await this.become(chat);
    // A question that was on its way then goes back into the box.
    if (elsewhere || this.answering || path(this.chat).at(-1)?.role !== "user") return;
    this.view.pop();
    this.takeBack();
  }

  /** Says so where another tab has this chat open too. @returns {Promise<boolean>} */
  async claim() {
    const name = `understudy-chat-${this.chat.id}`;
    if (name === this.claimed) return false;
    this.release();
    this.claimed = "";
    if (!navigator.locks || this.chat.nodes.length === 0) return false;
    this.claimed = name;
    const { held = [] } = await navigator.locks.query().catch(() => ({ held: [] }));
    const elsewhere = held.some((lock) => lock.name === name);
    if (elsewhere) notice("warning", t("chats.openElsewhere"), { hint: t("chats.openElsewhere.hint"), code: "open-elsewhere" });
    let ended = false;
    /** @type {(value?: any) => void} */ let end = () => {};
    this.release = () => {
      ended = true;
      end();
    };
    navigator.locks.request(name, { mode: "shared" }, () => (ended ? undefined : new Promise((resolve) => (end = resolve)))).catch(() => {});
    return elsewhere;
  }

  /** @param {string} id */
  async open(id) {
    if (id === this.chat.id && !this.gone && this.chat.nodes.length > 0) return;
    const chat = await this.store.get(id);
    if (!chat) return void notice("error", t("gone", { name: t("chats.untitled") }), { code: "io" });
    this.become(chat);
    prompt.focus();
  }

  begin() {
    const before = this.chat;
    this.host.recall.forget();
    this.become(newChat());
    if (before.nodes.length > 0) offer(t("newChat.notice"), [t("newChat.back"), () => this.open(before.id)]);
    prompt.focus();
    this.host.changed();
  }

  /** A chat got another name. @param {Chat} chat */
  async renamed(chat) {
    if (chat.id === this.chat.id) {
      Object.assign(this.chat, { title: chat.title, named: chat.named });
      await this.keep();
    } else await this.store.save(chat).catch(complain);
  }

  /** A chat was deleted in this tab. @param {string} id */
  removed(id) {
    // What the student has read may be of that chat.
    this.host.recall.forget();
    if (id === this.chat.id) this.become(newChat());
  }

  /** Nothing is left of any chat. */
  forgetAll() {
    this.host.attachments.put([]);
    prompt.value = "";
    this.host.recall.forget();
    this.become(newChat());
  }

  /** Another tab wrote or deleted a chat. @param {{ id: string, removed?: boolean, erased?: boolean }} news */
  async heed({ id, removed = false, erased = false }) {
    if (erased) return;
    this.host.changed();
    if (id !== this.chat.id) return;
    if (removed) {
      this.gone = true;
      notice("warning", t("chats.goneElsewhere"), { code: "gone-elsewhere", action: [t("chats.goneElsewhere.keep"), () => {
        this.gone = false;
        this.keep();
      }] });
      return;
    }
    if (this.answering) return;
    const stored = await this.store.get(id);
    if (!stored || this.answering || id !== this.chat.id) return;
    const leaf = this.chat.leaf;
    this.adopt(merge(this.chat, stored));
    // What was written below the last message that is shown here is shown too, once it has its answer.
    if (leaf) {
      show(this.chat, leaf);
      for (let last = path(this.chat).at(-1); last && last.id !== leaf && (last.role === "user" || last.broken); last = path(this.chat).at(-1)) this.chat.leaf = last.parent;
    }
    this.gone = false;
    this.redraw();
    this.meter.measure();
  }

  /** Takes over what a joined chat has more; messages that are on the screen stay the same objects. @param {Chat} joined @returns {boolean} was there more? */
  adopt(joined) {
    const before = this.chat.nodes.length;
    const mine = new Map(this.chat.nodes.map((node) => [node.id, node]));
    this.chat.nodes = joined.nodes.map((node) => {
      const known = mine.get(node.id);
      return known ? Object.assign(known, node) : node;
    });
    Object.assign(this.chat, { title: joined.title, changed: joined.changed, ...(joined.named ? { named: joined.named } : {}) });
    return this.chat.nodes.length > before;
  }

  /** Draws again, unless the person is changing a message there. */
  redraw() {
    if (!document.querySelector(".edit-form")) this.draw();
  }

  /** Writes the chat. @param {string[]} [without] messages that were taken back */
  keep(without = []) {
    const { chat } = this;
    if (this.gone || chat.nodes.length === 0) return this.writing;
    chat.changed = Date.now();
    const snapshot = structuredClone(chat);
    this.writing = this.writing.then(async () => {
      try {
        const kept = await this.store.save(snapshot, { without });
        if (chat === this.chat && !this.answering && this.adopt(merge(chat, kept))) this.redraw();
        this.troubled = false;
        this.host.changed();
      } catch (/** @type {any} */ error) {
        if (this.troubled) return;
        this.troubled = true;
        notice("warning", t("chats.notSaved"), { hint: t(error?.name === "QuotaExceededError" ? "chats.full" : "chats.failed"), code: "chat-not-saved" });
      }
    });
    return this.writing;
  }

  // ------------------------------------------------------------------------------------------------ what is sent

  /** The conversation as the student reads it. @param {string} [draft] @param {import("./chats.js").Attached[]} [files] that go with it */
  messages(draft = "", files = []) {
    const system = this.host.system().trim();
    return [
      ...(system ? [{ role: "system", content: system }] : []),
      ...path(this.chat).map((node) => ({ role: node.role, content: promptOf(node) })),
      ...(draft || files.length > 0 ? [{ role: "user", content: promptOf({ content: draft, files }) }] : []),
    ];
  }

  /** @param {string} text @param {import("./attachments.js").Attachments} [attached] */
  send(text, attached) {
    if ((!text && !attached?.files.length) || this.answering) return;
    const files = attached?.give() ?? [];
    prompt.value = "";
    grow();
    const first = this.chat.nodes.length === 0;
    const node = add(this.chat, { role: "user", content: text, ...(files.length > 0 ? { files } : {}) });
    this.view.follow = true;
    this.view.add(node, this.place(node));
    this.keep();
    if (first) this.claim();
    this.host.remember();
    this.answer();
  }

  isFree() {
    if (this.answering) notice("warning", t("busy"), { hint: t("busy.hint"), code: "busy" });
    return !this.answering;
  }

  regenerate() {
    const last = path(this.chat).at(-1);
    if (last?.role !== "assistant" || !this.isFree()) return;
    this.chat.leaf = last.parent;
    this.view.pop();
    this.answer({ instead: last });
    prompt.focus();
  }

  /** A changed question begins another version of the chat from there on. @param {Message} node @param {string} text */
  edit(node, text) {
    if (!this.isFree()) return false;
    const before = this.chat.leaf;
    this.chat.leaf = node.parent;
    const changed = add(this.chat, { role: "user", content: text, ...(node.files ? { files: node.files } : {}) });
    this.draw();
    this.keep();
    this.answer({ before: { leaf: before, node: changed } });
    prompt.focus();
    return true;
  }

  /** @param {Message} node @param {number} step */
  turn(node, step) {
    if (!this.isFree()) return;
    const all = versions(this.chat, node);
    const next = all[all.findIndex(({ id }) => id === node.id) + step];
    if (!next) return;
    show(this.chat, next.id);
    this.draw();
    this.keep();
    this.meter.measure();
    const turn = at("messages").querySelector(`[data-id="${CSS.escape(next.id)}"]`);
    turn?.scrollIntoView({ block: "nearest" });
    /** @type {HTMLElement | null} */ (turn?.querySelector(`.pager .${step < 0 ? "earlier" : "later"}:enabled`) ?? turn?.querySelector(".pager button:enabled"))?.focus();
  }

  /** Gives a question that got no answer back to the person. */
  takeBack() {
    const question = path(this.chat).at(-1);
    if (question?.role !== "user") return;
    takeLast(this.chat);
    prompt.value = prompt.value.trim() ? `${question.content}\n\n${prompt.value}` : question.content;
    if (question.files) this.host.attachments.put([...question.files, ...this.host.attachments.files]);
    grow();
    if (this.chat.nodes.length > 0) this.keep([question.id]);
    else this.forget();
  }

  /** A chat without a message is no chat. */
  forget() {
    const { id } = this.chat;
    this.writing = this.writing.then(() => this.store.remove(id)).then(() => this.host.changed(), () => {});
  }

  // -------------------------------------------------------------------------------------------------- the answer

  /**
   * Asks the student to answer what is shown. `instead`: the answer that comes back if there is none; `before`: what was shown
   * before a question was changed. @param {{ instead?: Message, before?: { leaf: string | null, node: Message } }} [from]
   */
  async answer({ instead, before } = {}) {
    const { chat } = this;
    const asked = this.messages();
    const reply = add(chat, { role: "assistant", content: "", reasoning: "", broken: true });
    const part = this.view.add(reply);
    const { known, last, stopped, first, begun } = await this.stream(reply, part, asked);
    const empty = !reply.content && !reply.reasoning;
    if (!known) {
      delete reply.broken;
      reply.stats = {
        ms: (first || performance.now()) - begun, tokens: last?.usage?.completion_tokens ?? 0,
        perSecond: last?.timings?.predicted_per_second ?? 0, finish: last?.finish ?? "stop",
      };
      if (empty) reply.content = t("empty");
    }
    if (chat !== this.chat) {
      // Another chat is open by now: this one is kept as it is.
      if (empty && known) {
        chat.nodes = chat.nodes.filter((node) => node !== reply);
        chat.leaf = reply.parent;
      }
      reply.changed = Date.now();
      await this.store.save(structuredClone(chat), { without: empty && known ? [reply.id] : [] }).catch(() => {});
      this.host.changed();
      return this.settle();
    }
    if (known && empty) {
      takeLast(chat);
      if (instead) chat.leaf = instead.id;
      else if (before) {
        chat.nodes = chat.nodes.filter((node) => node !== before.node);
        chat.leaf = before.leaf;
        prompt.value = prompt.value.trim() ? `${before.node.content}\n\n${prompt.value}` : before.node.content;
        grow();
      }
      if (instead || before) this.draw();
      else {
        this.view.pop();
        this.view.pop();
        this.takeBack();
      }
      this.keep([reply.id, ...(before ? [before.node.id] : [])]);
    } else {
      reply.changed = Date.now();
      part.finish();
      if (this.place(reply).of > 1) this.draw();
      this.keep();
    }
    this.report(known, stopped, last, reply);
    this.settle();
  }

  /** Makes the last answer longer, from where it ended: the student writes on under a form that begins with what is there. */
  async goOn() {
    const reply = path(this.chat).at(-1);
    if (reply?.role !== "assistant" || !this.isFree()) return;
    if (!reply.content) return this.regenerate();
    const { chat } = this;
    const old = reply.content;
    const asked = this.messages().slice(0, -1);
    this.view.pop();
    const part = this.view.add(reply, this.place(reply));
    part.update();
    const { known, last, stopped } = await this.stream(reply, part, asked, old);
    if (!known) {
      delete reply.broken;
      reply.stats = { ...(reply.stats ?? { ms: 0, tokens: 0, perSecond: 0 }), tokens: last?.usage?.completion_tokens ?? 0, perSecond: last?.timings?.predicted_per_second ?? 0, finish: last?.finish ?? "stop" };
    }
    reply.changed = Date.now();
    if (chat === this.chat) {
      part.finish();
      this.keep();
      this.report(known, stopped, last, reply);
    } else await this.store.save(structuredClone(chat)).catch(() => {});
    this.settle();
  }

  /**
   * Streams an answer into a message. Never throws: `known` is what went wrong.
   * @param {Message} reply @param {any} part @param {any[]} messages @param {string} [onward] the text that is there already
   */
  async stream(reply, part, messages, onward) {
    const { host, chat } = this;
    let stopped = false;
    /** @type {any} */ let stream = null;
    /** @type {() => void} */ let giveUp = () => {};
    const stopping = new Promise((resolve) => (giveUp = () => resolve(undefined)));
    this.answering = {
      stop() {
        stopped = true;
        giveUp();
        stream?.stop();
      },
    };
    this.working(true);
    const begun = performance.now();
    let first = 0;
    let thoughtFrom = 0;
    let kept = begun;
    /** @type {any} */ let last = null;
    /** @type {UnderstudyError | null} */ let known = null;
    const heard = { content: "", reasoning: "" };
    try {
      if (!host.student()) say(t("answer.waits"));
      await Promise.race([host.opening(), stopping]);
      if (stopped) throw new UnderstudyError("aborted", t("stopped"));
      const student = host.student();
      if (!student) throw new UnderstudyError("no-student", t("noStudent"), t("noStudent.hint"));
      say(t("answering"));
      const form = onward ? { response_format: { type: "regex", regex: `${literal(onward)}(?s:.*)` }, ...(student.info().thinks ? { enable_thinking: false } : {}) } : {};
      stream = student.chat.completions.create({ ...host.request(), messages, ...form, stream: true });
      for await (const chunk of stream) {
        const { delta, finish_reason: finish } = chunk.choices[0];
        if (chunk.prompt_progress) part.reading(chunk.prompt_progress);
        if (chunk.restart) heard.content = heard.reasoning = "";
        if (!first && (delta.content || delta.reasoning_content)) first = performance.now();
        if (delta.reasoning_content) thoughtFrom ||= performance.now();
        if (delta.content && heard.reasoning && !reply.thought) reply.thought = Math.round(performance.now() - thoughtFrom);
        heard.content += delta.content ?? "";
        heard.reasoning += delta.reasoning_content ?? "";
        // What is written once more up to where it ended is not shown twice.
        if (!onward || heard.content.length >= onward.length) reply.content = heard.content;
        if (!onward) reply.reasoning = heard.reasoning;
        part.update();
        if (chunk.tokens && chunk.tokens % 8 === 0) this.meter.pace(chunk.tokens, first);
        if (finish) last = { finish, ...chunk };
        if (reply.content && performance.now() - kept > KEEP_EVERY && chat === this.chat) {
          kept = performance.now();
          reply.changed = Date.now();
          this.keep();
        }
      }
      if (!reply.content && !reply.reasoning && (stopped || last?.finish === "abort")) throw new UnderstudyError("aborted", t("stopped"));
    } catch (error) {
      known = UnderstudyError.from(error);
    }
    if (!reply.reasoning) delete reply.reasoning;
    return { known, last, stopped, first, begun };
  }

  /** @param {UnderstudyError | null} known @param {boolean} stopped @param {any} last @param {Message} reply */
  report(known, stopped, last, reply) {
    if (last?.context && reply.stats) this.meter.show(last.context.used, last.context.size, t("stats.rate", { rate: rate(reply.stats.perSecond) }));
    if (known && known.code !== "aborted") {
      say("");
      if (known.code !== "template" || this.host.student()?.info().template !== "file") return void complain(known);
      // The file's own template fails on this chat: the general one may do.
      return void notice("error", known.message, { hint: known.hint, code: known.code, foreign: true, action: [t("template.general"), this.host.general] });
    }
    const full = last?.finish === "length" && last.context && last.context.used + 1 >= last.context.size;
    if (full) notice("warning", t("context.full"), { hint: t("context.full.hint"), code: "context-full" });
    say(t(known || stopped ? "stopped" : full ? "context.full.said" : last?.finish === "length" ? "answer.limit" : "answer.done"));
    if (!known && last?.context) this.host.recall.soon(last.context.used);
  }

  settle() {
    this.answering = null;
    this.working(false);
    this.host.remember();
    this.meter.measure();
  }

  /** @param {boolean} busy */
  working(busy) {
    const focused = document.activeElement;
    at("send").hidden = busy;
    at("stop").hidden = !busy;
    at("messages").setAttribute("aria-busy", String(busy));
    if (focused === at("send") || focused === at("stop")) prompt.focus();
  }
}

/** A text as an expression that only it matches. @param {string} text */
const literal = (text) => text.replace(/[\\^$.*+?()[\]{}|\/#&~<>@%-]/g, "\\$&");
