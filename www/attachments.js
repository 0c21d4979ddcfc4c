// @ts-check
// Text files that go into the prompt with the next message: read, counted, listed above the message box.
import { make } from "./chat-view.js";
import { promptOf } from "./chats.js";
import { notice } from "./notices.js";
import { at } from "./panels.js";
import { size, t } from "./words.js";

/** @typedef {import("./chats.js").Attached} Attached */

const LARGEST = 4 * 1024 * 1024;

/** The text of a file, or null where it is none. @param {Blob} file */
async function textOf(file) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()).replace(/\r\n?/g, "\n");
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}

export class Attachments {
  /** @param {{ student: () => any, opening: () => Promise<any>, changed: () => void }} host */
  constructor(host) {
    this.host = host;
    /** @type {Attached[]} */ this.files = [];
    const input = /** @type {HTMLInputElement} */ (at("attach-file"));
    at("attach").addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      if (input.files?.length) this.take([...input.files]);
      input.value = "";
    });
  }

  /** @param {File[]} files */
  async take(files) {
    for (const file of files) {
      const refuse = (/** @type {string} */ hint) => notice("error", t("attach.not", { name: file.name }), { hint, code: "attach" });
      if (file.size > LARGEST) {
        refuse(t("attach.tooLarge", { size: size(LARGEST) }));
        continue;
      }
      const text = await textOf(file);
      if (text === null) {
        refuse(t("attach.noText"));
        continue;
      }
      /** @type {Attached} */ const entry = { name: file.name, text };
      const { tokens, context } = await this.count(entry);
      if (tokens !== undefined && tokens >= context) {
        refuse(t("attach.tooLong", { tokens: t("tokens", { n: tokens }), context }));
        continue;
      }
      this.files.push({ ...entry, ...(tokens === undefined ? {} : { tokens }) });
      this.draw();
    }
    at("prompt").focus();
  }

  /** What a file takes of the student's context. @param {Attached} entry @returns {Promise<{ tokens?: number, context: number }>} */
  async count(entry) {
    await this.host.opening();
    const student = this.host.student();
    try {
      return { tokens: (await student.tokenize(promptOf({ content: "", files: [entry] }))).length, context: student.info().context };
    } catch {
      return { context: Infinity };
    }
  }

  /** Gives the files away, with the message. */
  give() {
    const { files } = this;
    this.put([]);
    return files;
  }

  /** @param {Attached[]} files */
  put(files) {
    this.files = files;
    this.draw();
  }

  draw() {
    at("attached").replaceChildren(...this.files.map((file) => {
      const item = make("li");
      const remove = /** @type {HTMLButtonElement} */ (make("button", "plain", "×"));
      remove.type = "button";
      remove.setAttribute("aria-label", t("attach.remove", { name: file.name }));
      remove.addEventListener("click", () => {
        this.put(this.files.filter((other) => other !== file));
        at("prompt").focus();
      });
      const name = make("bdi", "name", file.name);
      item.append(name, " ", make("span", "quiet", file.tokens === undefined ? "" : t("tokens", { n: file.tokens })), remove);
      return item;
    }));
    at("attached").hidden = this.files.length === 0;
    this.host.changed();
  }
}
