// @ts-check
// How much of the context the chat and the draft take.
import { at } from "./panels.js";
import { rate, t } from "./words.js";

const bar = /** @type {HTMLMeterElement} */ (at("meter-bar"));

export class Meter {
  /** @param {{ student: () => any, busy: () => boolean, messages: () => { role: string, content: string }[] }} from `messages` as the draft would be sent. */
  constructor(from) {
    this.from = from;
    this.counted = 0;
    this.timer = 0;
  }

  /** @param {number} used @param {number} total @param {string} [more] */
  show(used, total, more = "") {
    bar.max = total;
    bar.low = total * 0.7;
    bar.high = total * 0.9;
    bar.optimum = 0;
    bar.value = Math.min(used, total);
    const words = t(used >= total ? "meter.full" : "meter.words", { used, total });
    at("meter-words").textContent = more ? `${words}, ${more}` : words;
  }

  /** While an answer is written. @param {number} tokens @param {number} since ms, of the first token */
  pace(tokens, since) {
    const perSecond = (tokens - 1) / Math.max(0.001, (performance.now() - since) / 1000);
    const used = Math.min(bar.max, this.counted + tokens);
    at("meter-words").textContent = `${t("meter.words", { used, total: bar.max })}, ${t("stats.rate", { rate: rate(perSecond) })}`;
    bar.value = used;
  }

  /** Counts, when the student has a moment. */
  measure() {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(async () => {
      const student = this.from.student();
      if (!student || this.from.busy()) return;
      const list = this.from.messages();
      try {
        const used = list.length ? await student.count(list) : 0;
        if (student !== this.from.student() || this.from.busy()) return;
        this.counted = used;
        this.show(used, student.info().context);
      } catch {
        // A template may refuse a half-made chat; the meter then waits for the answer.
      }
    }, 250);
  }
}
