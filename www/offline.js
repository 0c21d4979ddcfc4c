// @ts-check
// The page without the network. The service worker is registered from a frame, because this page's policy lets no worker with an
// address begin here. A new version is announced, and comes when the person says so.
import { notice } from "./notices.js";
import { at } from "./panels.js";
import { number, size, t } from "./words.js";

/** How long the student has the machine for itself before its page is fetched once more, in ms. */
const PATIENCE = 1000;

/** @returns {Promise<void>} */
function register() {
  return new Promise((resolve, reject) => {
    const frame = document.createElement("iframe");
    frame.hidden = true;
    frame.title = t("offline");
    frame.setAttribute("aria-hidden", "true");
    frame.referrerPolicy = "no-referrer";
    frame.src = new URL("loader.html#offline", document.baseURI).href;
    const end = (/** @type {() => void} */ act) => {
      clearTimeout(timer);
      removeEventListener("message", hear);
      frame.remove();
      act();
    };
    const timer = setTimeout(() => end(() => reject(new Error("no answer"))), 20_000);
    const hear = (/** @type {MessageEvent} */ event) => {
      if (event.source !== frame.contentWindow || event.data?.understudy !== "offline") return;
      end(() => (event.data.error ? reject(new Error(event.data.error)) : resolve()));
    };
    addEventListener("message", hear);
    document.body.append(frame);
  });
}

/** @param {ServiceWorker} worker @param {string} task @param {(bytes: number) => void} [onFetched] @returns {Promise<any>} */
function tell(worker, task, onFetched) {
  return new Promise((resolve, reject) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => {
      if (data.fetched !== undefined) return onFetched?.(data.fetched);
      port1.close();
      if (data.error) reject(new Error(data.error));
      else resolve(data.done);
    };
    worker.postMessage({ task }, [port2]);
  });
}

export class Offline {
  /** @param {{ busy: () => boolean, counter: import("./panels.js").Counter }} host `busy`: an answer or a training is under way. */
  constructor(host) {
    this.host = host;
    this.announced = false;
    at("offline-rest").addEventListener("click", () => this.rest());
    navigator.serviceWorker?.addEventListener("message", ({ data }) => {
      if (data?.understudy === "refused") host.counter.refuse(data.url);
    });
  }

  /** Called once, when the student is ready. */
  async start() {
    const { serviceWorker } = navigator;
    if (!serviceWorker || !isSecureContext) return this.words(t("offline.cannot"));
    this.words(t("offline.preparing"));
    try {
      if (!(await serviceWorker.getRegistration())) {
        await new Promise((resolve) => setTimeout(resolve, PATIENCE));
        for (const name of ["loader.html", "loader.html#offline"]) this.host.counter.excuse(new URL(name, document.baseURI).href);
        await register();
      }
      const registration = await serviceWorker.getRegistration();
      if (!registration) return this.words(t("offline.not"));
      // A first installation that fails leaves nothing behind; the page then goes on without it.
      const first = registration.active ? null : registration.installing;
      first?.addEventListener("statechange", () => first.state === "redundant" && this.words(t("offline.not")));
      this.watch(registration);
      await serviceWorker.ready;
      await this.state();
      document.documentElement.dataset.offline = "ready";
    } catch {
      this.words(t("offline.not"));
    }
  }

  /** @param {string} text */
  words(text) {
    at("offline-words").textContent = text;
  }

  async state() {
    const { active } = await navigator.serviceWorker.ready;
    if (!active) return;
    const { here, missing, bytes } = await tell(active, "state");
    at("offline-count").textContent = number(here);
    this.words(t(missing > 0 ? "offline.chat" : "offline.all"));
    at("offline-rest").hidden = missing === 0;
    at("offline-rest").textContent = t("offline.rest", { size: size(bytes) });
    this.left = bytes;
  }

  /** Fetches what is not needed for a chat as well. */
  async rest() {
    const { active } = await navigator.serviceWorker.ready;
    if (!active) return;
    const all = this.left ?? 0;
    let done = 0;
    /** @type {HTMLButtonElement} */ (at("offline-rest")).disabled = true;
    try {
      await tell(active, "rest", (bytes) => {
        done += bytes;
        this.words(t("offline.fetching", { part: number(Math.floor((100 * done) / Math.max(1, all))) }));
      });
    } catch {
      notice("error", t("offline.broke"), { hint: t("offline.broke.hint"), code: "io" });
    }
    /** @type {HTMLButtonElement} */ (at("offline-rest")).disabled = false;
    await this.state();
  }

  /** @param {ServiceWorkerRegistration} registration */
  watch(registration) {
    const look = () => {
      if (registration.waiting && registration.active) this.announce(registration);
    };
    registration.addEventListener("updatefound", () => registration.installing?.addEventListener("statechange", look));
    registration.installing?.addEventListener("statechange", look);
    look();
  }

  /** @param {ServiceWorkerRegistration} registration */
  announce(registration) {
    if (this.announced) return;
    this.announced = true;
    notice("good", t("update"), { hint: t("update.hint"), code: "update", action: [t("update.now"), () => this.takeOver(registration)] });
  }

  /** @param {ServiceWorkerRegistration} registration */
  async takeOver({ waiting }) {
    this.announced = false;
    const again = () => notice("warning", t("update.waits"), { hint: t("update.waits.hint"), code: "update", action: [t("update.now"), () => this.takeOver(/** @type {any} */ ({ waiting }))] });
    if (!waiting) return;
    if (this.host.busy()) return void again();
    const taken = new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
    const { tabs } = await tell(waiting, "takeOver");
    if (tabs > 1) return void notice("warning", t("update.tabs", { n: tabs - 1 }), { hint: t("update.tabs.hint"), code: "update", action: [t("update.now"), () => this.takeOver(/** @type {any} */ ({ waiting }))] });
    await taken;
    location.reload();
  }
}
