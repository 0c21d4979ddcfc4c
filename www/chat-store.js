// @ts-check
// The chats kept in this browser, in IndexedDB: one record for each, written in one transaction that reads what another tab may
// have written meanwhile and joins both. Where the browser has no storage for this site, chats last until the page is closed.
import { Unreadable, merge, readChat } from "./chats.js";

/** @typedef {import("./chats.js").Chat} Chat */

const NAME = "understudy";
const VERSION = 1;
const STORE = "chats";

/** @param {IDBRequest | IDBOpenDBRequest} request @returns {Promise<any>} */
const result = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

export class ChatStore extends EventTarget {
  constructor() {
    super();
    /** Why nothing is kept: a key of the page's words, or "". */
    this.trouble = "";
    /** What is kept without storage. @type {Map<string, any>} */ this.memory = new Map();
    /** Set when everything was erased: nothing is written any more. */
    this.ended = false;
    try {
      this.channel = new BroadcastChannel("understudy-chats");
      this.channel.onmessage = ({ data }) => this.dispatchEvent(new CustomEvent("change", { detail: data }));
    } catch {
      this.channel = null;
    }
  }

  /** @returns {Promise<IDBDatabase | null>} */
  open() {
    return (this.opening ??= (async () => {
      try {
        const request = indexedDB.open(NAME, VERSION);
        request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
        const database = await result(request);
        // Another tab erases, or runs a newer page: it must not wait for this one.
        database.onversionchange = () => {
          database.close();
          this.opening = Promise.resolve(null);
          this.trouble = "chats.elsewhere";
        };
        return database;
      } catch (/** @type {any} */ error) {
        this.trouble = error?.name === "VersionError" ? "chats.newerStore" : "chats.blocked";
        return null;
      }
    })());
  }

  /** @template T @param {IDBTransactionMode} mode @param {(store: IDBObjectStore) => Promise<T>} act @returns {Promise<T>} */
  async within(mode, act) {
    const database = /** @type {IDBDatabase} */ (await this.open());
    const transaction = database.transaction(STORE, mode);
    const ended = new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(undefined);
      transaction.onabort = () => reject(transaction.error ?? new DOMException("The transaction was given up.", "AbortError"));
    });
    ended.catch(() => {});
    let value;
    try {
      value = await act(transaction.objectStore(STORE));
    } catch (error) {
      try {
        transaction.abort();
      } catch {
        // It has ended already.
      }
      throw error;
    }
    await ended;
    return value;
  }

  /** @param {object} news */
  tell(news) {
    this.channel?.postMessage(news);
  }

  /**
   * Every chat that can be read, newest first, and the records that cannot.
   * @returns {Promise<{ chats: Chat[], broken: any[] }>}
   */
  async all() {
    const records = (await this.open()) ? await this.within("readonly", (store) => result(store.getAll())) : [...this.memory.values()];
    /** @type {Chat[]} */ const chats = [];
    /** @type {any[]} */ const broken = [];
    for (const record of records) {
      try {
        chats.push(readChat(record));
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        broken.push(record);
      }
    }
    chats.sort((a, b) => b.changed - a.changed);
    return { chats, broken };
  }

  /** @param {string} id @returns {Promise<Chat | null>} null where there is none, or none that can be read. */
  async get(id) {
    try {
      return readChat((await this.open()) ? await this.within("readonly", (store) => result(store.get(id))) : this.memory.get(id));
    } catch {
      return null;
    }
  }

  /**
   * Writes a chat, joined with what is there under its id. A record that cannot be read is never written over.
   * @param {Chat} chat @param {{ without?: string[] }} [options] Messages that were taken back. @returns {Promise<Chat>} as it is kept now
   */
  async save(chat, { without = [] } = {}) {
    const join = (/** @type {any} */ stored) => {
      const joined = stored === undefined ? chat : merge(chat, readChat(stored));
      return { ...joined, nodes: joined.nodes.filter(({ id }) => !without.includes(id)) };
    };
    if (this.ended) return chat;
    if (!(await this.open())) {
      const kept = join(this.memory.get(chat.id));
      this.memory.set(chat.id, structuredClone(kept));
      return kept;
    }
    const kept = await this.within("readwrite", async (store) => {
      const joined = join(await result(store.get(chat.id)));
      await result(store.put(joined));
      return joined;
    });
    this.tell({ id: chat.id });
    return kept;
  }

  /** @param {string} id @returns {Promise<any>} the record, so that it can be put back */
  async remove(id) {
    const inMemory = this.memory.get(id);
    this.memory.delete(id);
    if (!(await this.open())) return inMemory;
    const record = await this.within("readwrite", async (store) => {
      const found = await result(store.get(id));
      await result(store.delete(id));
      return found;
    });
    this.tell({ id, removed: true });
    return record ?? inMemory;
  }

  /** Puts a removed record back as it was. @param {any} record */
  async restore(record) {
    if (await this.open()) await this.within("readwrite", (store) => result(store.put(record)));
    else this.memory.set(record.id, record);
    this.tell({ id: record.id });
  }

  /** Ends the connection, so that the database can be deleted. */
  async end() {
    this.ended = true;
    (await this.open())?.close();
    this.opening = Promise.resolve(null);
    this.memory.clear();
  }
}

/** Deletes the database; resolves when it is gone. */
export const deleteDatabase = () => result(indexedDB.deleteDatabase(NAME));
