// @ts-check
// A lesson token by token: what is trained, what the teacher thought, and where the student thinks otherwise.
import { make } from "../chat-view.js";

/** @typedef {{ text: string, trained: boolean, p?: number | null, top?: [string, number][] | null, student?: { p: number, top: [string, number][] } | null }} Piece */

/** White space that would not be seen. @param {string} text */
export const visible = (text) => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣");

/** @param {number} p */
export const percent = (p) => (p >= 0.995 && p < 1 ? `${(100 * p).toFixed(1)} %` : p < 0.001 && p > 0 ? "below 0.1 %" : `${Number((100 * p).toPrecision(p < 0.1 ? 2 : 3))} %`);

/** How far student and teacher are apart on a token: 0 the same, 3 far. @param {Piece} piece */
function distance({ p, student }) {
  if (!student) return 0;
  const apart = Math.abs((p ?? 1) - student.p);
  return apart > 0.6 ? 3 : apart > 0.3 ? 2 : apart > 0.1 ? 1 : 0;
}

/** @param {string} title @param {[string, number][]} top @param {string} chosen */
function column(title, top, chosen) {
  const box = make("div", "alternatives");
  box.append(make("h5", "", title));
  const list = make("ol");
  for (const [text, p] of top.slice(0, 6)) {
    const item = make("li", text === chosen ? "chosen" : "");
    const bar = make("span", "bar");
    bar.style.setProperty("--part", String(p));
    item.append(make("code", "", visible(text)), bar, make("span", "share", percent(p)));
    list.append(item);
  }
  if (top.length === 0) list.append(make("li", "quiet", "no alternatives were given"));
  box.append(list);
  return box;
}

export class TokenView {
  /** @param {HTMLElement} root @param {string} label */
  constructor(root, label) {
    this.text = make("div", "tokens");
    this.text.setAttribute("role", "group");
    this.text.setAttribute("aria-label", label);
    this.detail = make("div", "token-detail");
    this.detail.setAttribute("aria-live", "polite");
    root.append(this.text, this.detail);
    /** @type {Piece[]} */ this.pieces = [];
    this.text.addEventListener("pointerover", (event) => this.point(event.target));
    this.text.addEventListener("focusin", (event) => this.point(event.target));
    this.text.addEventListener("click", (event) => this.point(event.target));
    this.text.addEventListener("keydown", (event) => this.key(event));
  }

  /** @param {Piece[]} pieces @param {string} hint */
  show(pieces, hint) {
    this.pieces = pieces;
    let first = true;
    this.text.replaceChildren(...pieces.map((piece, number) => {
      const node = make("span", `token${piece.trained ? " trained" : ""}${piece.student ? ` apart-${distance(piece)}` : ""}`, piece.text);
      if (piece.trained) {
        // One stop for the Tab key; arrows move inside.
        node.tabIndex = first ? 0 : -1;
        first = false;
        node.dataset.number = String(number);
        node.setAttribute("role", "button");
        node.setAttribute("aria-label", `token ${visible(piece.text)}${piece.p == null ? "" : `, the teacher's probability ${percent(piece.p)}`}`);
      }
      return node;
    }));
    this.detail.replaceChildren(make("p", "quiet", hint));
  }

  /** @param {EventTarget | null} target */
  point(target) {
    const node = target instanceof HTMLElement ? target.closest(".token.trained") : null;
    if (!(node instanceof HTMLElement)) return;
    for (const other of this.text.querySelectorAll(".token.shown")) other.classList.remove("shown");
    node.classList.add("shown");
    const piece = this.pieces[Number(node.dataset.number)];
    const head = make("p");
    head.append(make("code", "", visible(piece.text)), " ", this.words(piece));
    const columns = make("div", "columns");
    if (piece.top) columns.append(column("Teacher", piece.top, piece.text));
    if (piece.student) columns.append(column("Student", piece.student.top, piece.text));
    this.detail.replaceChildren(head, columns);
  }

  /** @param {Piece} piece */
  words({ p, student }) {
    if (student && p != null) return `the teacher gives it ${percent(p)}, the student ${percent(student.p)}.`;
    if (student) return `the teacher wrote it; the student gives it ${percent(student.p)}.`;
    return p == null ? "is learned as the teacher wrote it; the traces give no probability." : `is learned; the teacher gives it ${percent(p)}.`;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const nodes = /** @type {HTMLElement[]} */ ([...this.text.querySelectorAll(".token.trained")]);
    const now = nodes.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const next = /** @type {Record<string, number>} */ ({ ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: nodes.length - 1 })[event.key];
    if (now < 0 || next === undefined || !nodes[next]) return;
    event.preventDefault();
    nodes[now].tabIndex = -1;
    nodes[next].tabIndex = 0;
    nodes[next].focus();
  }
}
