// @ts-check
// The students kept in this browser, in the origin's private file system. Every function copes with storage that is
// blocked or full: the student is then usable until the page is closed, and the caller is told that it was not kept.
import { t } from "./words.js";

const FOLDER = "students";
const PART = ".part";

/** @param {boolean} create */
async function folder(create) {
  const root = await navigator.storage.getDirectory();
  return root.getDirectoryHandle(FOLDER, { create });
}

/** A name that the file system takes, and that a person still knows. @param {string} name */
export function cleanName(name) {
  const base = name.split(/[\\/]/).pop() ?? "";
  const clean = base.replace(/[\u0000-\u001f\u007f"*:<>?|]/g, "_").replace(/^\.+/, "").slice(-120);
  return clean || "student.gguf";
}

/** @returns {Promise<{ available: boolean, students: { name: string, bytes: number, file: File }[] }>} */
export async function list() {
  try {
    const students = [];
    for await (const [name, handle] of /** @type {any} */ (await folder(true)).entries()) {
      if (handle.kind !== "file" || name.endsWith(PART) || name.endsWith(".crswap")) continue;
      const file = await handle.getFile();
      students.push({ name, bytes: file.size, file });
    }
    students.sort((a, b) => a.name.localeCompare(b.name));
    return { available: true, students };
  } catch {
    return { available: false, students: [] };
  }
}

/** Removes what an interrupted save left behind. */
export async function tidy() {
  try {
    const dir = await folder(false);
    for await (const name of /** @type {any} */ (dir).keys()) if (name.endsWith(PART)) await dir.removeEntry(name);
  } catch {
    // Nothing to tidy, or nothing to tidy with.
  }
}

/** @param {string} name */
export async function find(name) {
  try {
    return await (await (await folder(false)).getFileHandle(name)).getFile();
  } catch {
    return null;
  }
}

/** @param {string} name */
export async function remove(name) {
  await (await folder(false)).removeEntry(name);
}

/** Free room as the browser states it, in bytes. */
export async function room() {
  try {
    const { quota = 0, usage = 0 } = await navigator.storage.estimate();
    return Math.max(0, quota - usage);
  } catch {
    return 0;
  }
}

/** Asks the browser not to clear this site's files when space runs short. */
export async function persist() {
  try {
    return (await navigator.storage.persisted()) || (await navigator.storage.persist());
  } catch {
    return false;
  }
}

/**
 * Saves a stream under a name. Always returns a usable Blob, unless the stream itself breaks: `kept` says whether it
 * will be there next time, and `why` (a sentence) why not.
 * @param {string} name @param {{ size?: number, stream: ReadableStream<Uint8Array> }} source
 * @param {{ onProgress?: (loaded: number, total?: number) => void, signal?: AbortSignal }} [options]
 * @returns {Promise<{ blob: Blob, kept: boolean, why?: string }>}
 */
export async function save(name, { size, stream }, { onProgress, signal } = {}) {
  const part = name + PART;
  /** @type {FileSystemWritableFileStream | null} */ let out = null;
  let why = "";
  try {
    if (size !== undefined && (await room()) < size) why = t("store.noRoom");
    else out = await (await (await folder(true)).getFileHandle(part, { create: true })).createWritable();
  } catch {
    why = t("store.blocked");
  }
  /** @type {BlobPart[]} */ const rest = [];
  let loaded = 0;
  let written = 0;
  const reader = stream.getReader();
  try {
    for (;;) {
      if (signal?.aborted) throw Object.assign(new Error("Stopped."), { code: "aborted" });
      const { done, value } = await reader.read();
      if (done) break;
      const piece = /** @type {Uint8Array<ArrayBuffer>} */ (value);
      if (out) {
        try {
          await out.write(piece);
          written += piece.byteLength;
        } catch {
          // Full in the middle of it: what is on disk serves until the page is closed, the rest stays in memory.
          why = t("store.full");
          await out.close();
          out = null;
        }
      }
      if (!out) rest.push(new Blob([piece]));
      loaded += piece.byteLength;
      onProgress?.(loaded, size);
    }
    await out?.close();
  } catch (error) {
    await reader.cancel().catch(() => {});
    await out?.abort().catch(() => {});
    await remove(part).catch(() => {});
    throw error;
  }
  if (!out) {
    const start = written > 0 ? await find(part) : null;
    return { blob: new Blob(start ? [start.slice(0, written), ...rest] : rest), kept: false, why };
  }
  try {
    const handle = await (await folder(true)).getFileHandle(part);
    await /** @type {any} */ (handle).move(name);
    return { blob: await handle.getFile(), kept: true };
  } catch {
    const blob = await find(part);
    if (!blob) throw Object.assign(new Error("The saved file could not be read back."), { code: "io" });
    return { blob, kept: false, why: t("store.unplaced") };
  }
}
