// @ts-check
// From a training to an adapter that is kept: exported, read back, compared in the chat's own engine, and only then "saved".
import { download, fileName } from "../adapter-list.js";
import { make } from "../chat-view.js";
import { size } from "../format.js";
import { at } from "../panels.js";

const SAMPLE = 48;
/** Two engines, other kernels, perhaps f16 sums: far below what a different adapter would give. */
const CLOSE = 1e-4;

/** Mean squared difference over mean square. @param {Float32Array} mine @param {Float32Array} theirs */
export function distance(mine, theirs) {
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
export async function attachChecked(student, teaching, gguf) {
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

/** @param {string} name @param {{ gguf: Blob, peft: Blob, card: any }} files */
export function offer(name, { gguf, peft, card }) {
  const base = fileName(name);
  /** @type {[string, string, Blob][]} */
  const files = [
    ["Adapter for llama.cpp", `${base}.gguf`, gguf],
    ["PEFT folder", `${base}-peft.zip`, peft],
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
