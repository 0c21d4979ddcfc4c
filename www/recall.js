// @ts-check
// What the student has read of the conversation, kept in this browser, so that after a reload it need not read it again.
// Nothing depends on it: where it cannot be kept, or no longer fits, the conversation is read once more.
import { Shelf } from "./shelf.js";

const shelf = new Shelf("conversations");

/** Bytes that are kept at the most, of all students together. */
const MOST = 256 * 2 ** 20;

/** How long nothing must have been asked before it is kept. */
const IDLE = 3000;

export class Recall {
  timer = 0;
  /** Grows with every conversation: what was begun for an older one is not kept. */
  turn = 0;

  /**
   * @param {{ student: () => any, print: () => string | undefined, busy: () => boolean, keeps: () => boolean }} host
   *   `print` is what tells the open student's file from others.
   */
  constructor(host) {
    this.host = host;
  }

  /** An answer has ended: when nothing else is asked, what is known by now is kept. @param {number} used tokens of it */
  soon(used) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.keep(used).catch(() => {}), IDLE);
  }

  /** @param {number} used */
  async keep(used) {
    const { turn } = this;
    const [student, print] = [this.host.student(), this.host.print()];
    if (!student || !print || this.host.busy() || !this.host.keeps()) return;
    const { cache_bytes: bytes, context } = student.info();
    if ((bytes / context) * used > MOST) return;
    const state = await student.saveState();
    if (turn !== this.turn || state.size > MOST) return;
    const others = (await shelf.names()).filter((name) => name !== print);
    const sizes = await Promise.all(others.map(async (name) => (await shelf.read(name))?.size ?? 0));
    if (sizes.reduce((sum, size) => sum + size, state.size) > MOST) for (const name of others) await shelf.remove(name);
    await shelf.write(print, state);
    if (turn !== this.turn) await shelf.remove(print);
  }

  /** A student was opened, and its adapters are back: it knows again what it knew. */
  async restore() {
    const print = this.host.print();
    const state = print && (await shelf.read(print));
    // One that was kept with other adapters or another context does not fit; the next one takes its place.
    if (state) await this.host.student().restoreState(state).catch(() => {});
  }

  /** The conversation is over: nothing of it stays. */
  forget() {
    this.turn++;
    clearTimeout(this.timer);
    return shelf.clear();
  }
}
