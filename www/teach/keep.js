// @ts-check
// From a training to an adapter that is kept: exported, read back, compared in the chat's own engine, and only then "saved".
import { download, fileName } from "../adapter-list.js";
import { make } from "../chat-view.js";
import { size } from "../format.js";
import { at } from "../panels.js";
import { Teaching } from "../teaching.js";
import { UnderstudyError } from "../understudy.js";
import { FOLDER } from "./unfinished.js";

const SAMPLE = 48;
/** Two engines, other kernels, perhaps f16 sums: far below what a different adapter would give. */
const CLOSE = 1e-4;

/** Mean squared difference over mean square. @param {Float32Array} mine @param {Float32Array} theirs */
function distance(mine, theirs) {
  if (mine.length !== theirs.length || mine.length === 0) return Infinity;
  let apart = 0;
  let all = 0;
  for (let at = 0; at < mine.length; at++) {
    apart += (mine[at] - theirs[at]) ** 2;
    all += theirs[at] ** 2;
  }
  return apart / Math.max(all, 1e-30);
}

/**
 * Attaches an exported adapter to the chat's student and makes sure that it says there what it was trained to say.
 * @param {any} student @param {any} teaching @param {Blob} gguf @returns {Promise<any>} the attached adapter
 */
async function attachChecked(student, teaching, gguf) {
  const ids = await teaching.sampleIds(SAMPLE);
  const trained = await teaching.logits(ids);
  const others = student.adapters.map((/** @type {any} */ adapter) => [adapter, adapter.scale]);
  const adapter = await student.attach(gguf, { scale: 1 });
  try {
    for (const [other] of others) await other.setScale(0);
    const apart = distance(await student.logits(ids), trained);
    if (!(apart < CLOSE)) {
      throw Object.assign(new Error(`The adapter does not do in the chat what it did in training (the logits differ by ${apart.toExponential(1)} of their size).`), {
        code: "export-differs", hint: "It was not saved. The training is still here: try again, or go on with it.",
      });
    }
  } catch (error) {
    await adapter.detach();
    throw error;
  } finally {
    for (const [other, scale] of others) await other.setScale(scale);
  }
  return adapter;
}

/** @param {string} name @param {{ gguf: Blob, peft: Blob | null, card: any }} files */
function offer(name, { gguf, peft, card }) {
  const base = fileName(name);
  /** @type {[string, string, Blob][]} */
  const files = [
    ["Adapter for llama.cpp", `${base}.gguf`, gguf],
    // Not every student's matrices have names in PEFT's layout.
    .../** @type {[string, string, Blob][]} */ (peft ? [["PEFT folder", `${base}-peft.zip`, peft]] : []),
    ["Run card", `${base}-card.json`, new Blob([JSON.stringify(card, null, 2)], { type: "application/json" })],
  ];
  at("keep-files").replaceChildren(...files.map(([label, file, blob]) => {
    const button = /** @type {HTMLButtonElement} */ (make("button", "file", label));
    button.type = "button";
    button.append(" ", make("small", "", `${file}, ${size(blob.size)}`));
    button.addEventListener("click", () => download(blob, file));
    return button;
  }));
  at("keep-files").hidden = false;
}

const FIELDS = ["adapter-name", "teacher-name", "teacher-terms"];
const field = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (at(id));

/** The last step of the view: a name, what the user states about the teacher, and the adapter. */
export class Keeper {
  /**
   * @param {import("./teach.js").Host} host
   * @param {{ teaching: () => Teaching, pupil: () => { name: string } | null, isOpen: () => boolean }} from
   */
  constructor(host, from) {
    this.host = host;
    this.from = from;
    this.button = /** @type {HTMLButtonElement} */ (at("keep-adapter"));
    at("keep-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.keep();
    });
  }

  /** There is something to keep. @param {string} name a proposal */
  ready(name) {
    field("adapter-name").value ||= name;
    at("keep-words").textContent = "";
    at("keep-files").hidden = true;
    this.button.disabled = false;
  }

  clear() {
    for (const id of FIELDS) field(id).value = "";
  }

  async keep() {
    const { host } = this;
    const teaching = this.from.teaching();
    const say = (/** @type {string} */ text) => (at("keep-words").textContent = text);
    const [name, teacher, terms] = FIELDS.map((id) => field(id).value.trim());
    const base = this.from.pupil()?.name ?? "the student";
    if (!name) return;
    this.button.disabled = true;
    try {
      if (!this.from.isOpen()) throw new UnderstudyError("no-student", `${base} is not open in the chat.`, "Open it again, then keep the adapter: it is checked there first.");
      say("Writing the adapter and reading it back.");
      const base_sha256 = await host.student().sha256();
      const files = await teaching.export({ name, base, base_sha256, ...(teacher ? { teacher } : {}), ...(terms ? { terms } : {}) });
      say("Comparing what it does in the chat with what it did in training.");
      const adapter = await host.inTurn(() => attachChecked(host.student(), teaching, files.gguf));
      offer(name, files);
      await this.store(name, base, files, adapter, say);
      host.say(`${name} is attached.`);
    } catch (error) {
      say("Not saved.");
      host.complain(error);
      this.button.disabled = false;
    }
  }

  /** @param {string} name @param {string} base @param {{ gguf: Blob, peft: Blob | null, card: any }} files @param {any} adapter @param {(text: string) => void} say */
  async store(name, base, files, adapter, say) {
    const { adapters, notice } = this.host;
    try {
      await adapters.keepTaught(name, files, adapter);
      await Teaching.forget(FOLDER);
      say(`${name} is saved in this browser and attached to ${base}. It agrees with the training. Its scale is in the panel.`);
    } catch (/** @type {any} */ error) {
      await adapters.show();
      say(`${name} is attached to ${base} and agrees with the training, but this browser could not keep it. Take its files away before you close the page.`);
      notice("warning", `${name} was not kept. ${error.message}`, { hint: error.hint, code: "not-kept" });
    }
  }
}
