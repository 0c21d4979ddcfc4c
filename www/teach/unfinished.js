// @ts-check
// A training that was broken off: it is offered again, with its traces, settings and curve, from its last checkpoint.
import { whole } from "../format.js";
import { at } from "../panels.js";
import { Teaching } from "../teaching.js";

/** Where a training is kept, so that a closed page can go on with it. */
export const FOLDER = "teaching";
const LOCK = "understudy-teaching";

/**
 * Only one page at a time keeps its training. Resolves to what gives the place back, or to null while another page has it.
 * @returns {Promise<(() => void) | null>}
 */
export function claimFolder() {
  return new Promise((resolve) => {
    // Without a secure connection there are no locks, and no storage either.
    if (!navigator.locks) return resolve(null);
    navigator.locks.request(LOCK, { ifAvailable: true }, (lock) => (lock ? new Promise((release) => resolve(() => release(undefined))) : resolve(null)));
  });
}

async function isTaken() {
  const { held = [] } = (await navigator.locks?.query()) ?? {};
  return held.some(({ name }) => name === LOCK);
}

export class Unfinished {
  /**
   * @param {import("./teach.js").Host} host
   * @param {{ busy: () => boolean, label: (text: string) => void, goOn: (kept: any) => Promise<void> }} on
   */
  constructor(host, on) {
    this.host = host;
    this.on = on;
    /** @type {any} */ this.kept = null;
    at("continue-go").addEventListener("click", () => this.go());
    at("continue-drop").addEventListener("click", async () => {
      this.hide();
      await Teaching.forget(FOLDER);
      host.say("The training that was broken off is thrown away.");
    });
    this.look();
  }

  async look() {
    if (!(await isTaken())) this.kept = await Teaching.kept(FOLDER);
    this.offer();
  }

  /** Is the student that was being taught the one that is open? */
  get here() {
    return this.host.adapters.owner?.print === this.kept.about.print;
  }

  offer() {
    if (!this.kept || this.on.busy()) return;
    const { step, settings, about, files } = this.kept;
    at("continue-title").textContent = `A training of ${about.name} was broken off`;
    at("continue-words").textContent = `${whole(step)} of ${whole(settings.steps)} steps are done, on ${files.map((/** @type {File} */ { name }) => name).join(", ")}.${this.here ? "" : ` ${about.name} is not open in the chat.`}`;
    at("continue-go").textContent = !this.here ? `Open ${about.name}` : step < settings.steps ? `Continue the training from step ${whole(step)}` : "Look at what was learned";
    at("continue").hidden = false;
    this.on.label("unfinished");
  }

  /** Nothing is offered any more: it goes on, or another one begins. */
  hide() {
    this.kept = null;
    at("continue").hidden = true;
    this.on.label("");
  }

  async go() {
    const { kept, host } = this;
    if (!kept || this.on.busy()) return;
    const { about } = kept;
    if (!this.here) {
      if (/^(site|kept):/.test(about.key)) return host.openKey(about.key);
      return void host.notice("warning", `${about.name} was not kept in this browser.`, { hint: "Open its file again; then the training can be continued.", code: "no-student" });
    }
    at("continue").hidden = true;
    try {
      await this.on.goOn(kept);
    } catch (error) {
      host.complain(error);
      this.offer();
    }
  }
}
