// @ts-check
// Erases everything that this page keeps in this browser, after asking.
import { deleteDatabase } from "./chat-store.js";
import { make } from "./chat-view.js";
import * as adapters from "./adapters.js";
import { complain, notice } from "./notices.js";
import { at } from "./panels.js";
import { Teaching } from "./teaching.js";
import * as memory from "./memory.js";
import * as store from "./store.js";
import { size, t } from "./words.js";

const OURS = /^understudy[.-]/;

/** Everything in this site's private files: students, adapters, trainings, and whatever a part of the page puts there. */
async function eraseFiles() {
  /** @type {any} */ let root;
  try {
    root = await navigator.storage.getDirectory();
  } catch {
    return; // Blocked: then there is nothing in it.
  }
  const names = [];
  for await (const name of root.keys()) names.push(name);
  for (const name of names) await root.removeEntry(name, { recursive: true });
}

function eraseMemory() {
  for (const kind of ["localStorage", "sessionStorage"]) {
    try {
      const place = /** @type {any} */ (globalThis)[kind];
      for (const name of Object.keys(place)) if (OURS.test(name)) place.removeItem(name);
    } catch {
      // Blocked: then there is nothing in it.
    }
  }
}

async function eraseCaches() {
  if (!("caches" in globalThis)) return;
  for (const name of await caches.keys()) if (OURS.test(name)) await caches.delete(name);
  const here = new URL("./", document.baseURI).href;
  for (const registration of (await navigator.serviceWorker?.getRegistrations()) ?? []) if (registration.scope === here) await registration.unregister();
}

export class Eraser {
  /** @param {{ chats: import("./chat-store.js").ChatStore, stop: () => Promise<void> }} host `stop` ends answers and trainings, and forgets what is on the screen. */
  constructor(host) {
    this.host = host;
    const dialog = /** @type {HTMLDialogElement} */ (at("erase-dialog"));
    at("erase").addEventListener("click", () => this.ask(dialog));
    at("erase-no").addEventListener("click", () => dialog.close());
    at("erase-yes").addEventListener("click", () => this.erase(dialog));
    host.chats.addEventListener("change", (event) => {
      if (!(/** @type {CustomEvent} */ (event).detail.erased)) return;
      this.end();
      notice("warning", t("erase.elsewhere"), { hint: t("erase.elsewhere.hint"), code: "erased", action: [t("erase.reload"), () => location.reload()] });
    });
  }

  /** @param {HTMLDialogElement} dialog */
  async ask(dialog) {
    const { chats, broken } = await this.host.chats.all().catch(() => ({ chats: [], broken: [] }));
    const { students } = await store.list();
    const kept = await adapters.list().catch(() => []);
    const training = await Teaching.kept("teaching").catch(() => null);
    const lines = [
      t("erase.chats", { n: chats.length + broken.length }),
      t("erase.students", { n: students.length, size: size(students.reduce((sum, { bytes }) => sum + bytes, 0)) }),
      t("erase.adapters", { n: kept.length, size: size(kept.reduce((sum, { bytes }) => sum + bytes, 0)) }),
      ...(training ? [t("erase.training", { name: training.about.name })] : []),
      t("erase.settings"), t("erase.page"),
    ];
    at("erase-list").replaceChildren(...lines.map((line) => make("li", "", line)));
    at("erase-offline").hidden = navigator.onLine;
    dialog.showModal();
    at("erase-no").focus();
  }

  /** Nothing of this tab is written any more. */
  async end() {
    memory.end();
    await this.host.chats.end();
    await this.host.stop();
  }

  /** @param {HTMLDialogElement} dialog */
  async erase(dialog) {
    dialog.close();
    try {
      this.host.chats.tell({ erased: true });
      await this.end();
      const parts = await Promise.allSettled([eraseFiles(), deleteDatabase().catch(() => {}), eraseCaches()]);
      eraseMemory();
      const failed = parts.find(({ status }) => status === "rejected");
      if (failed) throw Object.assign(new Error(t("erase.not")), { code: "io", hint: t("erase.not.hint") });
      if (navigator.onLine) location.reload();
      else notice("good", t("erase.done"), { hint: t("erase.done.hint"), code: "erased" });
    } catch (error) {
      complain(error);
    }
  }
}
