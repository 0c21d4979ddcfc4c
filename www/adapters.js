// @ts-check
// The adapters kept in this browser: what was learned here, and adapter files that a person opened. Each has a record
// with the student that it belongs to, so that it comes back with that student.
import { Shelf } from "./shelf.js";

/**
 * @typedef {{ id: string, name: string, student: { print: string, name: string, key: string }, made: string, attached: boolean,
 *   scale: number, bytes: number, taught: boolean }} Kept
 */

const shelf = new Shelf("adapters");
const PARTS = [".gguf", ".zip", ".card.json", ".json"];

/**
 * What tells one student's file from another without reading gigabytes: its size and both of its ends.
 * @param {Blob} blob
 */
export async function fingerprint(blob) {
  const END = 1 << 20;
  const ends = await new Blob([String(blob.size), blob.slice(0, END), blob.slice(Math.max(END, blob.size - END))]).arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", ends));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @returns {Promise<Kept[]>} Newest first. */
export async function list() {
  const names = (await shelf.names()).filter((name) => name.endsWith(".json") && !name.endsWith(".card.json"));
  const all = await Promise.all(names.map((name) => shelf.json(name)));
  return all.filter((kept) => kept?.id && kept.student).sort((a, b) => String(b.made).localeCompare(String(a.made)));
}

/**
 * @param {{ name: string, student: Kept["student"], scale?: number, taught: boolean }} about
 * @param {{ gguf: Blob, peft?: Blob | null, card?: any }} files
 */
export async function keep({ name, student, scale = 1, taught }, { gguf, peft, card }) {
  const id = `${Date.now().toString(36)}-${crypto.randomUUID().slice(0, 8)}`;
  /** @type {Kept} */ const kept = { id, name, student, made: new Date().toISOString(), attached: true, scale, bytes: gguf.size, taught };
  try {
    await shelf.write(`${id}.gguf`, gguf);
    if (peft) await shelf.write(`${id}.zip`, peft);
    if (card) await shelf.write(`${id}.card.json`, JSON.stringify(card, null, 2));
    // The record last: an adapter is listed when all of it is there.
    await shelf.write(`${id}.json`, JSON.stringify(kept));
  } catch (error) {
    await remove(id);
    throw error;
  }
  return kept;
}

/** One change after the other: two at once would write the same file. */
let changes = Promise.resolve();

/** Remembers whether an adapter is attached, and at what scale. @param {Kept} kept @param {Partial<Kept>} change */
export function update(kept, change) {
  Object.assign(kept, change);
  changes = changes.then(async () => {
    // One that was deleted meanwhile stays deleted.
    if (await shelf.read(`${kept.id}.gguf`)) await shelf.write(`${kept.id}.json`, JSON.stringify(kept)).catch(() => {});
  });
  return changes;
}

/** @param {string} id @param {".gguf" | ".zip" | ".card.json"} part */
export const file = (id, part) => shelf.read(id + part);

/** @param {string} id */
export async function remove(id) {
  await changes;
  for (const part of PARTS.toReversed()) await shelf.remove(id + part);
}
