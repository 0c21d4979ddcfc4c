// @ts-check
// The panel beside the chat: the plan of a file, the students kept here, and the three claims.
import { make } from "./chat-view.js";
import { dress } from "./markdown.js";
import { counted, parameters, size, whole } from "./format.js";

/** @param {string} id */
export const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @param {HTMLElement} list @param {[string, string | Node | undefined][]} rows */
function facts(list, rows) {
  list.replaceChildren(...rows.flatMap(([term, value]) => {
    const cell = make("dd", value ? "" : "silent");
    cell.append(value || "not stated");
    return [make("dt", "", term), cell];
  }));
}

/** A name from the file, as a link where the file gives an address. @param {string} text @param {string} [address] */
function named(text, address) {
  if (!address || !/^https?:\/\//i.test(address)) return document.createTextNode(text);
  const link = document.createElement("a");
  link.href = address;
  link.textContent = text;
  const holder = make("span");
  holder.append(link);
  dress(link);
  return holder;
}

/** @param {{ name?: string, organization?: string, repo_url?: string }[] | undefined} things */
function several(things) {
  if (!things?.length) return undefined;
  const holder = make("span");
  things.forEach((thing, index) => {
    if (index > 0) holder.append(", ");
    const text = [thing.organization, thing.name].filter(Boolean).join(" / ") || thing.repo_url || "unnamed";
    holder.append(named(text, thing.repo_url));
  });
  return holder;
}

/** @param {any} info @param {string} from */
export function showClaims(info, from) {
  const made = info.provenance ?? {};
  facts(at("provenance"), [
    ["Name", made.name],
    ["Author", made.author],
    ["Organization", made.organization],
    ["Licence", made.license ? named(made.license, made.license_link) : undefined],
    ["Made from", several(made.base_models)],
    ["Taught with", several(made.datasets)],
    ["Distilled", made.distilled],
    ["Quantized by", made.quantized_by],
    ["Languages", made.languages?.join(", ")],
    ["Address", made.url ? named(made.url, made.url) : undefined],
    ["Description", made.description],
  ]);
  const blocks = Object.entries(info.block_types ?? {}).map(([type, count]) => `${parameters(Number(count))} in ${type}`).join(", ");
  facts(at("openness"), [
    ["Opened from", from],
    ["Architecture", `${info.architecture}, ${counted(info.layers, "layer")}, ${parameters(info.parameters)} parameters`],
    ["Weights", blocks],
    ["On the GPU", info.repacked?.join(" ") || undefined],
    ["Vocabulary", counted(info.vocabulary, "token")],
    ["Chat template", info.template === "file" ? "the file's own" : "a general one"],
    .../** @type {string[]} */ (info.warnings ?? []).map((warning) => /** @type {[string, string]} */ (["Warning", warning])),
  ]);
}

/** @param {any} info @param {{ words: string, kind: string, notes: string[] }} device */
export function showStudent(info, device) {
  at("student-name").textContent = info.name;
  at("student-words").textContent = info.words;
  at("current").textContent = info.name;
  showDevice(device);
}

/** @param {{ words: string, kind: string, notes: string[] }} device */
export function showDevice({ words, kind, notes = [] }) {
  const lead = kind !== "cpu" ? "" : notes.some((note) => note.includes("CPU engine")) ? "More slowly than on a GPU: " : "No WebGPU here: the CPU engine has taken over, more slowly. ";
  at("device").replaceChildren(make("span", "", `${lead}${words}`), ...notes.map((note) => make("span", "note", note)));
  at("device").dataset.kind = kind;
}

/**
 * What a chosen file is and whether it fits. @param {any} plan @param {string} name
 * @param {{ onCancel: () => void }} on
 */
export function showCandidate(plan, name, { onCancel }) {
  const box = at("candidate");
  const rows = make("dl", "facts");
  facts(rows, [
    ["Weights", size(plan.weights_bytes)],
    [`Cache for ${whole(plan.context)} tokens`, size(plan.cache_bytes)],
    ["Scratch", size(plan.scratch_bytes)],
    ["Device offers", size(plan.available_bytes)],
  ]);
  const close = /** @type {HTMLButtonElement} */ (make("button", "plain", plan.fits ? "Cancel" : "Close"));
  close.type = "button";
  close.addEventListener("click", onCancel);
  box.replaceChildren(make("p", "name", plan.name || name), make("p", plan.fits ? "quiet" : "warning", [plan.words, plan.suggestion].filter(Boolean).join(" ")), rows, close);
  box.hidden = false;
}

export function hideCandidate() {
  at("candidate").hidden = true;
  at("candidate").replaceChildren();
}

/**
 * @typedef {{ name: string, bytes: number, label: string, bundled: boolean, saving?: number }} Entry
 * @param {Entry[]} entries @param {string} open The key of the one that is open.
 * @param {{ onOpen: (entry: Entry) => void, onDelete: (entry: Entry) => void }} on
 */
export function showStudents(entries, open, { onOpen, onDelete }) {
  const focused = document.activeElement?.getAttribute("data-key");
  at("students").replaceChildren(...entries.map((entry) => {
    const item = make("li");
    const key = `${entry.bundled ? "site" : "kept"}:${entry.name}`;
    const text = make("div", "entry");
    const detail = entry.saving === undefined ? `${size(entry.bytes)}${entry.bundled ? ", comes with this page" : ""}` : `keeping a copy, ${Math.round(entry.saving * 100)} %`;
    text.append(make("span", "name", entry.label), make("span", "quiet", detail));
    item.append(text);
    /** @param {string} label @param {string} spoken @param {() => void} act */
    const button = (label, spoken, act) => {
      const node = /** @type {HTMLButtonElement} */ (make("button", "plain", label));
      node.type = "button";
      node.setAttribute("aria-label", `${spoken} ${entry.label}`);
      node.dataset.key = `${label} ${key}`;
      node.addEventListener("click", act);
      item.append(node);
    };
    if (entry.saving !== undefined) {
      button("Cancel", "Do not keep", () => onDelete(entry));
    } else {
      if (key === open) {
        item.setAttribute("aria-current", "true");
        item.append(make("span", "mark", "open"));
      } else button("Open", "Open", () => onOpen(entry));
      if (!entry.bundled) button("Delete", "Delete", () => onDelete(entry));
    }
    return item;
  }));
  if (focused) /** @type {HTMLElement | null} */ (at("students").querySelector(`[data-key="${CSS.escape(focused)}"]`))?.focus();
}

// ---------------------------------------------------------------------------------- the counter of bytes sent

/** Counts what leaves. Everything that this page and its worker ask for after the student is ready is listed. */
export class Counter {
  constructor() {
    this.since = Infinity;
    /** @type {string[]} */ this.names = [];
    this.blocked = 0;
    /** Addresses that the policy refused; the browser lists them as requests too, though nothing left. @type {Set<string>} */
    this.refused = new Set();
    document.addEventListener("securitypolicyviolation", (event) => this.refuse(event.blockedURI));
    new PerformanceObserver((list) => {
      // Violations are reported a moment after the entry: wait for them.
      const entries = list.getEntries().filter((entry) => entry.startTime >= this.since);
      if (entries.length > 0) setTimeout(() => this.add(entries.map((entry) => entry.name)), 100);
    }).observe({ type: "resource", buffered: true });
    this.show();
  }

  start() {
    if (this.since === Infinity) this.since = performance.now();
  }

  /** @param {string[]} names */
  add(names) {
    this.names.push(...names.filter((name) => !/^(blob|data):/.test(name) && !this.refused.has(name)));
    this.show();
  }

  /** @param {string} address */
  refuse(address) {
    this.blocked++;
    this.refused.add(address);
    this.show();
  }

  show() {
    at("requests-count").textContent = whole(this.names.length);
    // What an address itself could carry out of here.
    at("bytes-sent").textContent = whole(this.names.reduce((sum, name) => sum + new TextEncoder().encode(name).length, 0));
    at("blocked-count").textContent = whole(this.blocked);
    at("requests-list").replaceChildren(...this.names.slice(-20).map((name) => make("li", "", name)));
  }
}

/** Tries the usual ways out, to this page's own server, and says what became of each. */
export async function probe() {
  const target = new URL("probe", document.baseURI).href;
  /** @type {[string, () => Promise<string>][]} */
  const ways = [
    ["fetch", () => fetch(target).then(() => "sent", () => "blocked")],
    ["XMLHttpRequest", () => new Promise((resolve) => {
      const request = new XMLHttpRequest();
      request.onload = () => resolve("sent");
      request.onerror = () => resolve("blocked");
      request.open("GET", target);
      request.send();
    })],
    ["WebSocket", () => new Promise((resolve) => {
      try {
        const socket = new WebSocket(target.replace(/^http/, "ws"));
        socket.onopen = () => resolve("sent");
        socket.onerror = () => resolve("blocked");
      } catch {
        resolve("blocked");
      }
    })],
    ["Picture", () => new Promise((resolve) => {
      const image = new Image();
      image.onload = () => resolve("sent");
      image.onerror = () => resolve("blocked");
      image.src = target;
    })],
    ["Beacon", () => new Promise((resolve) => {
      const timer = setTimeout(() => resolve("sent"), 500);
      document.addEventListener("securitypolicyviolation", () => {
        clearTimeout(timer);
        resolve("blocked");
      }, { once: true });
      navigator.sendBeacon(target, "x");
    })],
    ["Peer connection", async () => ("RTCPeerConnection" in window && window.RTCPeerConnection ? "sent" : "not available")],
  ];
  const list = at("probe-results");
  list.replaceChildren();
  for (const [name, attempt] of ways) {
    const outcome = await attempt();
    list.append(make("li", outcome === "sent" ? "bad" : "good", `${name}: ${outcome}`));
  }
}
