// @ts-check
// What the teaching did: on rows that it never saw, on generic rows, and in the student's own words.
import { make } from "../chat-view.js";
import { whole } from "../format.js";
import { at } from "../panels.js";
import { short } from "./curves.js";
import { percent } from "./tokens.js";

const ANSWERS = 4;
const LONGEST = 160;

/** @param {{ mean: number, low: number, high: number } | null | undefined} change */
const interval = (change) => (change ? `${change.mean > 0 ? "+" : ""}${short(change.mean)} (95 %: ${short(change.low)} to ${short(change.high)})` : "too few rows to say");

/** @param {string} name @param {string} before @param {string} after @param {string} change @param {string} [word] */
function line(name, before, after, change, word = "") {
  const row = make("tr");
  const head = make("th", "", name);
  head.setAttribute("scope", "row");
  row.append(head, make("td", "", before), make("td", "", after));
  const cell = make("td", "", change);
  if (word) cell.append(" ", make("span", `verdict-word ${word === "within noise" ? "noise" : word === "better" ? "good" : "bad"}`, word));
  row.append(cell);
  return row;
}

/** Less is better. @param {any} change @param {boolean} noise */
const word = (change, noise) => (!change ? "" : noise ? "within noise" : change.mean < 0 ? "better" : "worse");

/** @param {string} caption @param {HTMLElement[]} rows */
function table(caption, rows) {
  const holder = make("div", "scroll");
  holder.tabIndex = 0;
  holder.setAttribute("role", "region");
  holder.setAttribute("aria-label", caption);
  const node = make("table", "verdict-table");
  const head = make("tr");
  for (const title of ["", "Before", "After", "Change"]) {
    const cell = make(title ? "th" : "td", "", title);
    if (title) cell.setAttribute("scope", "col");
    head.append(cell);
  }
  const top = make("thead");
  top.append(head);
  const body = make("tbody");
  body.append(...rows);
  node.append(make("caption", "", caption), top, body);
  holder.append(node);
  return holder;
}

/** @param {any} verdict */
export function showVerdict({ held_out: held, forgetting, sentences }) {
  const { before, after } = held;
  const rows = [line("Loss, nats per token", short(before.ce), short(after.ce), interval(held.change), word(held.change, held.within_noise))];
  if (before.kl != null && after.kl != null) rows.push(line("KL to the teacher", short(before.kl), short(after.kl), interval(held.kl_change)));
  rows.push(line("Same first choice as the teacher", percent(before.top1), percent(after.top1), ""));
  const generic = [
    line("Loss, nats per token", short(forgetting.before.ce), short(forgetting.after.ce), interval(forgetting.change), word(forgetting.change, forgetting.within_noise)),
    line("KL from the student before", "0", short(forgetting.kl_to_base) || "0", ""),
  ];
  at("verdict").replaceChildren(
    ...sentences.map((/** @type {string} */ sentence, /** @type {number} */ number) => make("p", number === 0 ? "lead" : "", sentence)),
    table(`Held-out rows: ${whole(after.rows)} that were never taught`, rows),
    table(`Forgetting: ${whole(forgetting.after.rows)} everyday rows`, generic),
  );
}

/**
 * Base and taught student side by side, on prompts that were held out. The draft adapter lies beside the open student only
 * while it answers; the chat waits for one answer at most.
 * @param {{ prompts: { messages: any[], answer: string }[], student: any, gguf: Blob, inTurn: (act: () => Promise<any>) => Promise<any>, current: () => boolean }} options
 */
export async function sideBySide({ prompts, student, gguf, inTurn, current }) {
  const root = at("answers");
  const title = make("h4", "", "In the student's words");
  title.id = "answers-title";
  const status = make("p", "quiet", "The student answers held-out prompts, without and with what it learned.");
  status.setAttribute("role", "status");
  const list = make("div", "pairs");
  root.replaceChildren(title, status, list);
  /** @param {any[]} messages @param {number} scale */
  const answer = (messages, scale) => inTurn(async () => {
    if (!current()) return null;
    const others = student.adapters.map((/** @type {any} */ adapter) => [adapter, adapter.scale]);
    const draft = await student.attach(gguf, { scale });
    try {
      for (const [adapter] of others) await adapter.setScale(0);
      const { choices: [{ message, finish_reason: finish }] } = await student.chat.completions.create({ messages, temperature: 0, max_tokens: LONGEST });
      const thoughts = message.reasoning_content ? `(thinking: ${message.reasoning_content.trim()})\n` : "";
      return `${thoughts}${message.content.trim()}${finish === "length" ? " …" : ""}` || "(an empty answer)";
    } finally {
      await draft.detach();
      for (const [adapter, scale] of others) await adapter.setScale(scale);
    }
  });
  for (const { messages, answer: wanted } of prompts.slice(0, ANSWERS)) {
    const pair = make("article", "pair");
    pair.append(make("p", "pair-prompt", messages.at(-1)?.content ?? ""));
    const cells = make("div", "pair-cells");
    pair.append(cells);
    /** @param {string} name @param {string} text */
    const cell = (name, text) => {
      const box = make("div", "pair-cell");
      const body = make("p", "", text);
      box.append(make("h5", "", name), body);
      cells.append(box);
      return body;
    };
    const base = cell("Before", "…");
    const taught = cell("Taught", "…");
    cell("Teacher", wanted);
    list.append(pair);
    for (const [body, scale] of /** @type {[HTMLElement, number][]} */ ([[base, 0], [taught, 1]])) {
      const text = await answer(messages, scale);
      if (text === null) {
        pair.remove();
        status.textContent = "Another student is open in the chat, so that there is nothing to compare with.";
        return;
      }
      body.textContent = text;
      body.parentElement?.classList.toggle("same", text === wanted.trim());
    }
  }
  status.textContent = prompts.length ? "Held-out prompts, answered greedily: without the adapter, with it, and by the teacher." : "No prompt was held out.";
}
