// @ts-check
// Markdown of an answer as safe elements. Raw HTML is shown as text, pictures as their address, and a link says where
// it leads. Two walls: the renderer makes no dangerous element, and the sanitizer would remove one.
// @ts-ignore: served beside this folder by the build
import { Marked } from "../vendor/marked.js";
// @ts-ignore
import DOMPurify from "../vendor/purify.js";
import { t } from "./words.js";

/** @param {string} text */
const escape = (text) => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

const marked = new Marked({ gfm: true, breaks: true });
marked.use({
  renderer: {
    html: (/** @type {any} */ { text }) => escape(text),
    image: (/** @type {any} */ { href, text }) => `<span class="picture">[${escape(t("picture"))}: ${escape(text ? `${text}, ${href}` : href)}]</span>`,
    checkbox: (/** @type {any} */ { checked }) => (checked ? "[x] " : "[ ] "),
  },
});

const TAGS = ["p", "br", "hr", "strong", "em", "del", "code", "pre", "blockquote", "ul", "ol", "li", "a", "span",
  "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"];

/** @param {string} html */
function sanitize(html) {
  const fragment = DOMPurify.sanitize(html, {
    ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ["href", "start", "align", "class"], ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false,
    ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i, RETURN_DOM_FRAGMENT: true,
  });
  for (const link of fragment.querySelectorAll("a")) dress(link);
  for (const pre of fragment.querySelectorAll("pre")) {
    pre.tabIndex = 0;
    const copy = document.createElement("button");
    copy.type = "button";
    copy.className = "copy-code plain";
    copy.textContent = t("copy");
    copy.setAttribute("aria-label", t("copy.code"));
    const frame = document.createElement("div");
    frame.className = "code";
    pre.replaceWith(frame);
    frame.append(pre, copy);
  }
  for (const table of fragment.querySelectorAll("table")) {
    const frame = document.createElement("div");
    frame.className = "scroll";
    frame.tabIndex = 0;
    table.replaceWith(frame);
    frame.append(table);
  }
  // Headings of an answer stand below those of the page.
  for (const heading of fragment.querySelectorAll("h1, h2")) {
    const lower = document.createElement("h3");
    lower.append(...heading.childNodes);
    heading.replaceWith(lower);
  }
  return fragment;
}

/** A link that leaves: never followed by itself, its address in sight. @param {HTMLAnchorElement} link */
export function dress(link) {
  const address = link.getAttribute("href");
  if (!address) return void link.replaceWith(...link.childNodes);
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  const shown = address.replace(/^(?:https?:\/\/|mailto:)/i, "");
  if ((link.textContent ?? "").replace(/^(?:https?:\/\/|mailto:)/i, "") !== shown) {
    const note = document.createElement("span");
    note.className = "address";
    note.textContent = ` (${shown})`;
    link.append(note);
  }
}

/** An answer that grows: only the blocks that changed are made again. */
export class Answer {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {{ raw: string, nodes: ChildNode[] }[]} */ this.blocks = [];
  }

  /** @param {string} text */
  show(text) {
    const tokens = marked.lexer(text);
    let same = 0;
    while (same < this.blocks.length && same < tokens.length && this.blocks[same].raw === tokens[same].raw) same++;
    for (const block of this.blocks.splice(same)) for (const node of block.nodes) node.remove();
    for (const token of tokens.slice(same)) {
      const fragment = sanitize(marked.parser([token]));
      const nodes = [...fragment.childNodes];
      this.root.append(fragment);
      this.blocks.push({ raw: token.raw, nodes });
    }
  }
}
