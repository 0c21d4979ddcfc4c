// @ts-check
// A folder in this browser's private file system, for page and workers. A file is written under another name and then
// put in its place, so that whatever happens in between, its place holds the whole old file or the whole new one.

const DRAFT = ".part";

/** A write that failed, with what the person can do. @param {any} error */
const failure = (error) => Object.assign(new Error(error?.name === "QuotaExceededError" ? "This browser's storage is full." : "This browser's storage cannot be written."), {
  code: "not-kept",
  hint: error?.name === "QuotaExceededError" ? "Delete a student or an adapter that is kept here to make room." : "Allow this site to keep data, then try again.",
});

export class Shelf {
  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }

  /** @param {boolean} create */
  async folder(create) {
    return (await navigator.storage.getDirectory()).getDirectoryHandle(this.name, { create });
  }

  /** @param {string} name @param {Blob | string} content */
  async write(name, content) {
    try {
      const folder = await this.folder(true);
      const handle = await folder.getFileHandle(name + DRAFT, { create: true });
      const out = await handle.createWritable();
      try {
        await out.write(content);
        await out.close();
        await /** @type {any} */ (handle).move(name);
      } catch (error) {
        await out.abort().catch(() => {});
        await folder.removeEntry(name + DRAFT).catch(() => {});
        throw error;
      }
    } catch (error) {
      throw failure(error);
    }
  }

  /** @param {string} name @returns {Promise<File | null>} */
  async read(name) {
    try {
      return await (await (await this.folder(false)).getFileHandle(name)).getFile();
    } catch {
      return null;
    }
  }

  /** @param {string} name @returns {Promise<any>} null where there is none, or none that can be read. */
  async json(name) {
    try {
      return JSON.parse((await (await this.read(name))?.text()) ?? "null");
    } catch {
      return null;
    }
  }

  /** @returns {Promise<string[]>} */
  async names() {
    try {
      const names = [];
      for await (const name of /** @type {any} */ (await this.folder(false)).keys()) if (!name.endsWith(DRAFT) && !name.endsWith(".crswap")) names.push(name);
      return names.sort();
    } catch {
      return [];
    }
  }

  /** @param {string} name */
  async remove(name) {
    try {
      await (await this.folder(false)).removeEntry(name);
    } catch {
      // It is not there, which is what was wanted.
    }
  }

  async clear() {
    try {
      await (await navigator.storage.getDirectory()).removeEntry(this.name, { recursive: true });
    } catch {
      // It is not there, or a file of it is open elsewhere: then it is written over later.
    }
  }
}
