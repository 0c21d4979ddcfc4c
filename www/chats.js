// @ts-check
// What a chat is: a tree of messages, of which one path is shown. Editing a question or asking for an answer again adds a
// branch; nothing is written over. Pure: no storage, no elements. The formats of exported files are in docs/FORMATS.md.

/** @typedef {{ name: string, text: string, tokens?: number }} Attached A text file that goes into the prompt. */
/**
 * @typedef {{ id: string, parent: string | null, made: number, changed?: number, role: "user" | "assistant", content: string,
 *   reasoning?: string, thought?: number, stats?: import("./chat-view.js").Stats, broken?: boolean, files?: Attached[] }} Message
 * `made` and `changed` in ms since 1970, `thought` is how long the reasoning took, in ms.
 */
/** @typedef {{ version: number, id: string, title: string, named?: number, created: number, changed: number, leaf: string | null, nodes: Message[] }} Chat `named`: when a person gave the title. */

/** The newest form of a chat that this page writes and reads. */
export const VERSION = 1;

const LONGEST_TITLE = 60;

/** Thrown for what cannot be read; `reason` is a key of the page's words. */
export class Unreadable extends Error {
  /** @param {string} reason */
  constructor(reason) {
    super(reason);
    this.reason = reason;
  }
}

/** @returns {Chat} */
export const newChat = () => ({ version: VERSION, id: crypto.randomUUID(), title: "", created: Date.now(), changed: Date.now(), leaf: null, nodes: [] });

/** The messages that are shown, from the first to the last. @param {Chat} chat @returns {Message[]} */
export function path(chat) {
  const byId = new Map(chat.nodes.map((node) => [node.id, node]));
  const found = [];
  for (let at = byId.get(chat.leaf ?? ""); at; at = byId.get(at.parent ?? "")) found.push(at);
  return found.reverse();
}

/** The versions of a message, oldest first. @param {Chat} chat @param {Message} node */
export const versions = (chat, node) => chat.nodes.filter(({ parent, role }) => parent === node.parent && role === node.role).sort((a, b) => a.made - b.made);

/** Adds a message behind the last one that is shown. @param {Chat} chat @param {Omit<Message, "id" | "parent" | "made">} message */
export function add(chat, message) {
  /** @type {Message} */ const node = { id: crypto.randomUUID(), parent: chat.leaf, made: Date.now(), ...message };
  chat.nodes.push(node);
  chat.leaf = node.id;
  if (!chat.title && node.role === "user") chat.title = titleOf(node.content || (node.files?.[0]?.name ?? ""));
  return node;
}

/** Shows a message and the newest of what came after it. @param {Chat} chat @param {string} id */
export function show(chat, id) {
  for (;;) {
    const next = chat.nodes.filter(({ parent }) => parent === id).sort((a, b) => b.made - a.made)[0];
    if (!next) break;
    id = next.id;
  }
  chat.leaf = id;
}

/** Takes the last message away again. @param {Chat} chat @returns {Message | undefined} */
export function takeLast(chat) {
  const last = path(chat).at(-1);
  if (!last) return undefined;
  chat.nodes = chat.nodes.filter(({ id }) => id !== last.id);
  chat.leaf = last.parent;
  if (chat.nodes.length === 0 && !chat.named) chat.title = "";
  return last;
}

/** @param {string} text */
export function titleOf(text) {
  const line = text.trim().split("\n", 1)[0].replace(/\s+/g, " ");
  return line.length > LONGEST_TITLE ? `${Array.from(line).slice(0, LONGEST_TITLE - 1).join("")}…` : line;
}

/** What the student reads of a message: its words, then its files, each fenced. @param {Pick<Message, "content" | "files">} node */
export function promptOf({ content, files = [] }) {
  const parts = files.map(({ name, text }) => {
    const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
    const fence = "`".repeat(longest + 1);
    return `${name}:\n${fence}\n${text}${text.endsWith("\n") ? "" : "\n"}${fence}`;
  });
  return [content, ...parts].filter(Boolean).join("\n\n");
}

/**
 * Two states of one chat, as two tabs may have written them: every message of both, each in its newer form. What is shown
 * is what `mine` shows. @param {Chat} mine @param {Chat} theirs @returns {Chat}
 */
export function merge(mine, theirs) {
  const nodes = new Map(theirs.nodes.map((node) => [node.id, node]));
  for (const node of mine.nodes) {
    const other = nodes.get(node.id);
    if (!other || (node.changed ?? node.made) >= (other.changed ?? other.made)) nodes.set(node.id, node);
  }
  const namer = (theirs.named ?? 0) > (mine.named ?? 0) ? theirs : mine;
  return {
    ...mine, title: namer.title || theirs.title, ...(namer.named ? { named: namer.named } : {}),
    created: Math.min(mine.created, theirs.created), changed: Math.max(mine.changed, theirs.changed),
    nodes: [...nodes.values()], leaf: mine.leaf !== null && nodes.has(mine.leaf) ? mine.leaf : theirs.leaf,
  };
}

/** Does the chat hold every one of these words, in its title or in a message? @param {Chat} chat @param {string} search */
export function matches(chat, search) {
  const words = search.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const text = [chat.title, ...chat.nodes.flatMap(({ content, reasoning = "", files = [] }) => [content, reasoning, ...files.map(({ name }) => name)])].join("\n").toLocaleLowerCase();
  return words.every((word) => text.includes(word));
}

// ------------------------------------------------------------------------------------------- what comes from outside

const isText = (/** @type {any} */ value) => typeof value === "string";
const isTime = (/** @type {any} */ value) => Number.isFinite(value) && value >= 0;
const isId = (/** @type {any} */ value) => isText(value) && value.length > 0 && value.length <= 100;

/** A message with the fields that we know, or null. @param {any} raw @returns {Message | null} */
function readMessage(raw) {
  if (!isId(raw?.id) || !isText(raw.content) || !["user", "assistant"].includes(raw.role) || !(raw.parent === null || isId(raw.parent))) return null;
  const { id, parent, role, content } = raw;
  const { ms, tokens, perSecond, finish } = raw.stats ?? {};
  const files = Array.isArray(raw.files) ? raw.files.filter((/** @type {any} */ file) => isText(file?.name) && isText(file.text)) : [];
  return {
    id, parent, role, content, made: isTime(raw.made) ? raw.made : 0,
    ...(isTime(raw.changed) ? { changed: raw.changed } : {}),
    ...(isText(raw.reasoning) && raw.reasoning ? { reasoning: raw.reasoning } : {}),
    ...(isTime(raw.thought) ? { thought: raw.thought } : {}),
    ...(isTime(ms) && isTime(tokens) && isTime(perSecond) && isText(finish) ? { stats: { ms, tokens, perSecond, finish } } : {}),
    ...(raw.broken === true ? { broken: true } : {}),
    ...(files.length > 0 ? { files: files.map((/** @type {any} */ { name, text, tokens }) => ({ name, text, ...(isTime(tokens) ? { tokens } : {}) })) } : {}),
  };
}

/**
 * A chat as it was stored or exported, checked: a tree whose every message leads to its beginning. Throws {@link Unreadable}.
 * @param {any} raw @returns {Chat}
 */
export function readChat(raw) {
  if (raw === null || typeof raw !== "object" || !isId(raw.id) || !Array.isArray(raw.nodes)) throw new Unreadable("chats.broken");
  if (!(raw.version >= 1)) throw new Unreadable("chats.broken");
  if (raw.version > VERSION) throw new Unreadable("chats.newer");
  const nodes = raw.nodes.map(readMessage);
  if (nodes.some((/** @type {Message | null} */ node) => node === null)) throw new Unreadable("chats.broken");
  const byId = new Map(nodes.map((/** @type {Message} */ node) => [node.id, node]));
  if (byId.size !== nodes.length) throw new Unreadable("chats.broken");
  // Each message is followed to its beginning once; what was seen on the way need not be followed again.
  const rooted = new Set();
  for (const node of nodes) {
    const way = [];
    for (let at = node; at && !rooted.has(at.id); at = byId.get(at.parent)) {
      if (at.parent !== null && !byId.has(at.parent)) throw new Unreadable("chats.broken");
      if (way.push(at.id) > nodes.length) throw new Unreadable("chats.broken");
    }
    for (const id of way) rooted.add(id);
  }
  /** @type {Chat} */ const chat = {
    version: VERSION, id: raw.id, title: isText(raw.title) ? raw.title.slice(0, 200) : "", ...(isTime(raw.named) ? { named: raw.named } : {}),
    created: isTime(raw.created) ? raw.created : 0, changed: isTime(raw.changed) ? raw.changed : 0, leaf: null, nodes,
  };
  if (byId.has(raw.leaf)) chat.leaf = raw.leaf;
  else if (nodes.length > 0) show(chat, nodes.filter((/** @type {Message} */ { parent }) => parent === null)[0].id);
  chat.title ||= titleOf(path(chat).find(({ role }) => role === "user")?.content ?? "");
  return chat;
}

/** What an older page kept: one list of messages. @param {any} list @returns {Chat | null} */
export function fromList(list) {
  if (!Array.isArray(list)) return null;
  const chat = newChat();
  for (const raw of list) {
    const message = readMessage({ ...raw, id: "x", parent: null });
    if (!message) continue;
    const { id: _, parent: __, made: ___, ...rest } = message;
    add(chat, rest);
  }
  return chat.nodes.length > 0 ? chat : null;
}

// ------------------------------------------------------------------------------------------------------------ files

/** @param {Chat[]} chats */
export const toJson = (chats) => JSON.stringify({ understudy: "chats", version: VERSION, exported: new Date().toISOString(), chats }, null, 1);

const HEADS = { user: "## You", assistant: "## Student" };

/** The path that is shown. A line that would be taken for one of our headings gets a backslash in front. @param {Chat} chat */
export function toMarkdown(chat) {
  const guard = (/** @type {string} */ text) => text.replace(/^(\\*)(?=(?:## (?:You|Student)|> Thoughts)\s*$)/gm, "$1\\");
  const parts = path(chat).map((node) => {
    const thoughts = node.reasoning ? `> Thoughts\n${node.reasoning.split("\n").map((line) => `> ${line}`).join("\n")}\n\n` : "";
    return `${HEADS[node.role]}\n\n${thoughts}${guard(promptOf(node))}\n`;
  });
  return [`# ${chat.title || "Chat"}\n`, ...parts].join("\n");
}

/** @param {string} text @returns {Chat} */
function fromMarkdown(text) {
  const chat = newChat();
  const [head, ...rest] = text.replace(/\r\n?/g, "\n").split(/^(?=## (?:You|Student)[ \t]*$)/m);
  for (const part of rest) {
    const role = part.startsWith(HEADS.user) ? "user" : "assistant";
    let body = part.slice(part.indexOf("\n") + 1).replace(/^\n+|\n+$/g, "");
    let reasoning = "";
    const thoughts = /^> Thoughts\n((?:> ?.*(?:\n|$))+)/.exec(body);
    if (thoughts && role === "assistant") {
      reasoning = thoughts[1].replace(/\n$/, "").split("\n").map((line) => line.replace(/^> ?/, "")).join("\n");
      body = body.slice(thoughts[0].length).replace(/^\n+/, "");
    }
    const content = body.replace(/^\\(\\*)(?=(?:## (?:You|Student)|> Thoughts)\s*$)/gm, "$1");
    add(chat, { role, content, ...(reasoning ? { reasoning } : {}) });
  }
  if (chat.nodes.length === 0) throw new Unreadable("chats.unknown");
  chat.title = /^# (.+)$/m.exec(head)?.[1].trim().slice(0, 200) || chat.title;
  return chat;
}

/**
 * The chats of a file that a person chose, and how many of it could not be read. Throws {@link Unreadable} where none can.
 * @param {string} text @returns {{ chats: Chat[], lost: number }}
 */
export function fromFile(text) {
  const bare = text.replace(/^\ufeff/, "");
  if (!/^\s*[{[]/.test(bare)) return { chats: [fromMarkdown(bare)], lost: 0 };
  /** @type {any} */ let file;
  try {
    file = JSON.parse(bare);
  } catch {
    throw new Unreadable("chats.cut");
  }
  if (Array.isArray(file?.messages) || Array.isArray(file)) {
    const chat = fromList(file.messages ?? file);
    if (!chat) throw new Unreadable("chats.unknown");
    return { chats: [chat], lost: 0 };
  }
  if (file?.understudy !== "chats") throw new Unreadable("chats.unknown");
  if (file.version > VERSION) throw new Unreadable("chats.newer");
  if (!Array.isArray(file.chats)) throw new Unreadable("chats.broken");
  const chats = [];
  for (const raw of file.chats) {
    try {
      chats.push(readChat(raw));
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
    }
  }
  if (chats.length === 0 && file.chats.length > 0) throw new Unreadable("chats.broken");
  return { chats, lost: file.chats.length - chats.length };
}
