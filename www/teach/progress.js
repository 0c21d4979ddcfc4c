// @ts-check
// A training under way: what it is doing, how fast, how long still, and its curves.
import { counted, rate, size, whole } from "../format.js";
import { at } from "../panels.js";
import { short } from "./curves.js";
import { tiles } from "./report.js";

const PHASES = { traces: "Reading the traces again", weights: "Setting the student up for teaching", pipelines: "Warming up: preparing the kernels", measure: "Warming up: measuring the student before it is taught" };

/** @param {number} ms */
export function duration(ms) {
  if (ms < 9500) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 90) return counted(seconds, "second");
  if (seconds < 5400) return counted(Math.round(seconds / 60), "minute");
  return `${(seconds / 3600).toFixed(1)} hours`;
}

export class Progress {
  /** @param {import("./curves.js").Curves} curves */
  constructor(curves) {
    this.curves = curves;
    /** @type {any} */ this.before = null;
    this.words = "";
  }

  /** @param {string} text */
  say(text) {
    if (text !== this.words) at("run-words").textContent = text;
    this.words = text;
  }

  /** @param {number | undefined} part */
  bar(part) {
    const bar = /** @type {HTMLProgressElement} */ (at("run-bar"));
    if (part === undefined || !Number.isFinite(part)) bar.removeAttribute("value");
    else bar.value = part;
  }

  /** @param {any} progress */
  warming({ phase, loaded, total }) {
    this.say(`${/** @type {any} */ (PHASES)[phase] ?? "Preparing"}.`);
    this.bar(total ? loaded / total : undefined);
  }

  /** @param {any} run @param {any} prepared */
  show(run, prepared) {
    this.before = prepared?.before ?? this.before;
    const { reports, settings, state } = run;
    const last = reports.at(-1);
    const step = last?.step ?? 0;
    const recent = reports.slice(-8);
    const ms = recent.reduce((/** @type {number} */ sum, /** @type {any} */ report) => sum + report.ms, 0);
    const tokens = recent.reduce((/** @type {number} */ sum, /** @type {any} */ report) => sum + report.tokens, 0);
    const held = reports.findLast((/** @type {any} */ report) => report.held_out)?.held_out ?? this.before;
    const left = recent.length ? ((settings.steps - step) * ms) / recent.length : 0;
    const skipped = reports.filter((/** @type {any} */ report) => report.skipped).length;
    this.curves.show(this.before, reports);
    this.bar(step / settings.steps);
    tiles(at("run-numbers"), [
      ["Step", `${whole(step)} of ${whole(settings.steps)}`, last ? `pass ${whole(last.passes)} over the rows` : "not begun"],
      ["Training loss", short(last?.loss) || "none yet", "nats per token"],
      ["Held-out loss", short(held?.ce) || "none yet", this.before ? `${short(this.before.ce)} before teaching` : ""],
      ["Speed", ms ? `${rate((1000 * tokens) / ms)} tokens/s` : "none yet", ms ? `${duration(ms / recent.length)} a step` : ""],
      ["Time left", state === "finished" || state === "stopped" ? "none" : ms ? duration(left) : "not known yet", ""],
      ["Memory", last?.memory_bytes ? size(last.memory_bytes) : last ? "none" : "not known yet", last && !last.memory_bytes ? "of the device: the CPU engine teaches" : "of the device"],
    ]);
    const words = /** @type {Record<string, string>} */ ({
      training: step === 0 ? "The first step is on its way." : "The student is being taught. The chat can be used meanwhile.",
      pausing: "Pausing after this step.",
      paused: `Paused after step ${whole(step)}.`,
      finished: "Taught.",
      stopped: `Stopped after step ${whole(step)}, with what was learned so far.`,
      failed: "The training broke off.",
    })[state];
    if (words) this.say(skipped ? `${words} ${counted(skipped, "step")} gave no finite gradient and changed nothing; the step size was halved.` : words);
    const pause = /** @type {HTMLButtonElement} */ (at("run-pause"));
    pause.textContent = state === "paused" ? "Go on" : "Pause";
    pause.disabled = state !== "training" && state !== "paused";
    const stop = /** @type {HTMLButtonElement} */ (at("run-stop"));
    stop.textContent = state === "preparing" ? "Cancel" : "Stop here";
    stop.disabled = state === "pausing";
    const over = state === "finished" || state === "stopped" || state === "failed";
    pause.hidden = over;
    stop.hidden = over;
  }
}
