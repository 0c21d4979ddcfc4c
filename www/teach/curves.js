// @ts-check
// The curves of a training, drawn with uPlot. Loaded when somebody teaches.
import uPlot from "../../vendor/uplot.js";
import { make } from "../chat-view.js";

/** @typedef {{ label: string, colour: string, points?: boolean, value: (report: any) => number | null | undefined }} Line */
/** @type {{ title: string, unit: string, log?: boolean, lines: Line[] }[]} */
const CHARTS = [
  { title: "Loss", unit: "what is minimized, and cross-entropy on held-out rows, in nats per token", lines: [
    { label: "training", colour: "--soft", value: ({ loss }) => loss },
    { label: "held out", colour: "--accent", points: true, value: ({ held_out: held }) => held?.ce },
  ] },
  { title: "KL to the teacher", unit: "nats per token, where the traces give probabilities", lines: [
    { label: "training", colour: "--soft", value: ({ step, divergence }) => (step > 0 ? divergence : null) },
    { label: "held out", colour: "--accent", points: true, value: ({ held_out: held }) => held?.kl },
  ] },
  { title: "Learning rate", unit: "step size: it warms up, then falls", lines: [{ label: "rate", colour: "--accent", value: ({ rate }) => rate }] },
  { title: "Gradient norm", unit: "before clipping", lines: [{ label: "norm", colour: "--accent", value: ({ gradient }) => gradient }] },
];

const HEIGHT = 150;

/** A number in few characters. @param {number | null | undefined} value */
export const short = (value) => (value == null || !Number.isFinite(value) ? "" : value === 0 ? "0" : Math.abs(value) < 0.001 ? value.toExponential(1) : Number(value.toPrecision(3)).toString());

/** The colours of the page as a canvas takes them. @param {HTMLElement} root */
function palette(root) {
  const probe = make("span");
  root.append(probe);
  const read = (/** @type {string} */ name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const colours = Object.fromEntries(["--soft", "--accent", "--line", "--ink"].map((name) => [name, read(name)]));
  probe.remove();
  return colours;
}

export class Curves {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {any[]} */ this.reports = [];
    this.asked = false;
    /** @type {{ title: string, lines: Line[], plot: any, values: HTMLElement, holder: HTMLElement, figure: HTMLElement }[]} */ this.charts = [];
    this.build();
    new ResizeObserver(() => this.resize()).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.build());
  }

  build() {
    const colours = palette(this.root);
    this.root.replaceChildren();
    this.charts = CHARTS.map(({ title, unit, lines }) => {
      const figure = make("figure", "curve");
      const caption = make("figcaption");
      const values = make("span", "values");
      caption.append(make("strong", "", title), " ", values, make("small", "", unit));
      const holder = make("div", "plot");
      holder.setAttribute("role", "img");
      figure.append(caption, holder);
      this.root.append(figure);
      const axis = { stroke: colours["--soft"], grid: { stroke: colours["--line"], width: 1 }, ticks: { show: false }, font: "11px system-ui", labelFont: "11px system-ui" };
      const plot = new /** @type {any} */ (uPlot)({
        width: Math.max(120, holder.clientWidth), height: HEIGHT,
        legend: { show: false }, cursor: { show: false }, scales: { x: { time: false } }, padding: [8, 8, 0, 0],
        axes: [
          { ...axis, size: 24, gap: 2, space: 60, values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map((tick) => (Number.isInteger(tick) ? String(tick) : "")) },
          { ...axis, size: 46, gap: 4, space: 28, values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map(short) },
        ],
        series: [{}, ...lines.map(({ label, colour, points }) => ({
          label, stroke: colours[colour], width: points ? 2 : 1.5, spanGaps: true, points: { show: Boolean(points), size: 5, fill: colours[colour] },
        }))],
      }, [[], ...lines.map(() => [])], holder);
      return { title, lines, plot, values, holder, figure };
    });
    this.draw();
  }

  resize() {
    for (const { plot, holder } of this.charts) if (holder.clientWidth > 0 && holder.clientWidth !== plot.width) plot.setSize({ width: holder.clientWidth, height: HEIGHT });
  }

  /** @param {any} before The measure before training. @param {any[]} reports */
  show(before, reports) {
    this.reports = [{ step: 0, held_out: before, loss: null, divergence: null, rate: null, gradient: null }, ...reports];
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  draw() {
    for (const { title, lines, plot, values, holder, figure } of this.charts) {
      const data = lines.map(({ value }) => this.reports.map((report) => value(report) ?? null));
      figure.hidden = title === "KL to the teacher" && data.flat().every((value) => !value);
      plot.setData([this.reports.map(({ step }) => step), ...data]);
      const now = lines.flatMap(({ label, colour }, number) => {
        const last = data[number].findLast((value) => value !== null);
        return last === undefined ? [] : [{ text: `${label} ${short(last)}`, colour }];
      });
      const words = now.map(({ text }) => text).join(", ");
      if (words !== holder.dataset.words) {
        values.replaceChildren(...now.flatMap(({ text, colour }, number) => [number > 0 ? ", " : "", make("span", lines.length > 1 ? `key ${colour.slice(2)}` : "", text)]));
        holder.dataset.words = words;
      }
      holder.setAttribute("aria-label", `${title} over the steps${words ? `; now ${words}` : ""}`);
    }
    this.resize();
  }
}

/** uPlot's own style sheet, from this site. */
export function addStyle() {
  const address = new URL("../../vendor/uplot.css", import.meta.url).href;
  if ([...document.querySelectorAll("link")].some(({ href }) => href === address)) return;
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = address;
  document.head.append(link);
}
