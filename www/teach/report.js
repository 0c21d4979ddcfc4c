// @ts-check
// What was understood of the traces: numbers, refused lines with their reasons, coverage, and single rows.
import { make } from "../chat-view.js";
import { counted, whole } from "../format.js";
import { at } from "../panels.js";
import { TokenView, percent } from "./tokens.js";

/** @param {HTMLElement} list @param {[string, string, string?][]} rows A term, its value, and what it means. */
export function tiles(list, rows) {
  list.replaceChildren(...rows.map(([term, value, meaning]) => {
    const tile = make("div", "tile");
    tile.append(make("dt", "", term), make("dd", "", value));
    if (meaning) tile.append(make("dd", "meaning", meaning));
    return tile;
  }));
}

/** @param {string} title @param {{ file: number, line: number, sentence: string, code?: string }[]} rows @param {number} all @param {{ name: string }[]} files */
function refused(title, rows, all, files) {
  const box = make("details", "refused");
  box.append(make("summary", "", title));
  const list = make("ol");
  for (const { file, line, sentence, code } of rows) {
    const item = make("li");
    item.append(make("span", "where", `${files.length > 1 ? `${files[file]?.name ?? "file"}, ` : ""}line ${whole(line)}`), ` ${sentence}`);
    if (code) item.dataset.code = code;
    list.append(item);
  }
  box.append(list);
  if (all > rows.length) box.append(make("p", "quiet", `The first ${whole(rows.length)} of ${whole(all)} are listed.`));
  return box;
}

/** @param {string} title @param {{ from: number, to: number, rows: number }[]} buckets */
function histogram(title, buckets) {
  const box = make("figure", "histogram");
  const most = Math.max(1, ...buckets.map(({ rows }) => rows));
  const list = make("ul");
  for (const { from, to, rows } of buckets) {
    const item = make("li");
    const range = to > from + 1 ? `${whole(from)} to ${whole(to)}` : whole(from);
    const bar = make("span", "bar");
    bar.style.setProperty("--part", String(rows / most));
    item.append(make("span", "range", range), bar, make("span", "share", whole(rows)));
    list.append(item);
  }
  box.append(make("figcaption", "", title), list);
  return box;
}

/** @param {[string, number][]} words */
function wordPicture(words) {
  const box = make("figure", "words");
  const most = Math.max(1, ...words.map(([, count]) => count));
  const list = make("ul");
  for (const [word, count] of words.slice(0, 40)) {
    const item = make("li", "", word);
    item.style.setProperty("--part", String(Math.sqrt(count / most)));
    item.append(make("span", "share", whole(count)));
    list.append(item);
  }
  box.append(make("figcaption", "", "Frequent words, with how often"), list);
  return box;
}

/** @param {any} report */
export function showReport(report) {
  at("report-words").replaceChildren(...report.sentences.map((/** @type {string} */ sentence) => make("p", "", sentence)));
  const unfit = report.rows - report.lessons;
  tiles(at("report-facts"), [
    ["Rows", whole(report.rows), report.files.length > 1 ? `from ${report.files.length} files` : undefined],
    ["Rejected", whole(report.rejected), report.rejected ? "listed below" : "every line was understood"],
    ["Lessons", whole(report.lessons), unfit > 0 ? `${counted(unfit, "row")} cannot be taught` : "every row can be taught"],
    ["Tokens", whole(report.tokens), `${whole(report.trained)} of them are learned`],
    ["Longest lesson", whole(report.longest), report.cut_rows ? `${counted(report.cut_rows, "row")} cut to fit` : "tokens; none was cut"],
    ["Soft labels", percent(report.coverage), report.coverage > 0 ? "of learned tokens have the teacher's probabilities" : "text only; probabilities teach more"],
    ...(report.coverage > 0 ? [/** @type {[string, string, string]} */ (["Mapped mass", percent(report.mass), "of the teacher's probability falls on tokens that the student has"])] : []),
  ]);
  const lists = at("report-lists");
  lists.replaceChildren();
  for (const { name, unreadable } of report.files) {
    if (unreadable) lists.append(make("p", "warning", `${name}: ${unreadable}`));
  }
  if (report.rejected > 0) lists.append(refused(`${counted(report.rejected, "line")} rejected, with reasons`, report.listed, report.rejected, report.files));
  if (report.unfit.length > 0) lists.append(refused(`${counted(unfit, "row")} that ${unfit === 1 ? "is" : "are"} no lesson for this student`, report.unfit, unfit, report.files));
  at("report-picture").replaceChildren(wordPicture(report.picture.words), histogram("Answers by length", report.picture.answers), histogram("Prompts by length", report.picture.contexts));
  at("report-coverage").hidden = report.rows === 0;
}

/** One row after the other, with what is trained. */
export class Preview {
  /** @param {HTMLElement} root @param {{ title: string, id: string, hint: string, fetch: (row: number) => Promise<any>, fail: (error: any) => void }} options */
  constructor(root, { title, id, hint, fetch, fail }) {
    this.fetch = fetch;
    this.fail = fail;
    this.hint = hint;
    this.row = 0;
    /** @type {number[]} */ this.rows = [];
    /** @type {{ name: string }[]} */ this.files = [];
    const head = make("div", "row preview-head");
    const heading = make("h4", "", title);
    heading.id = id;
    /** @type {(label: string, by: number) => HTMLButtonElement} */
    const step = (label, by) => {
      const node = /** @type {HTMLButtonElement} */ (make("button", "plain", label));
      node.type = "button";
      node.addEventListener("click", () => this.go(this.row + by));
      return node;
    };
    this.back = step("Previous", -1);
    this.next = step("Next", 1);
    this.where = make("span", "quiet");
    this.where.setAttribute("role", "status");
    head.append(heading, this.back, this.where, this.next);
    const body = make("div");
    root.replaceChildren(head, body);
    this.tokens = new TokenView(body, title);
  }

  /** @param {number[]} rows The lessons to look at. @param {{ name: string }[]} files */
  async show(rows, files) {
    this.rows = rows;
    this.files = files;
    await this.go(0);
  }

  /** @param {number} row */
  async go(row) {
    this.row = Math.min(Math.max(0, row), this.rows.length - 1);
    if (this.rows.length === 0) return;
    const asked = this.row;
    try {
      const preview = await this.fetch(this.rows[asked]);
      if (asked !== this.row) return;
      const { file, line } = preview.origin;
      const { files } = this;
      this.where.textContent = `Row ${whole(asked + 1)} of ${whole(this.rows.length)}: ${files.length > 1 ? `${files[file]?.name}, ` : ""}line ${whole(line)}${preview.held_out ? ", held out" : ""}`;
      this.tokens.show(preview.pieces, this.hint);
    } catch (error) {
      this.fail(error);
    }
    this.back.disabled = this.row === 0;
    this.next.disabled = this.row === this.rows.length - 1;
  }
}
