// @ts-check
// The panel beside the chat: the plan of a file, the students kept here, and the three claims.
import { make } from "./chat-view.js";
import { dress } from "./markdown.js";
import { language, number, parameters, size, t } from "./words.js";

/** @param {string} id */
export const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @param {HTMLElement} list @param {[string, string | Node | undefined][]} rows */
function facts(list, rows) {
  list.replaceChildren(...rows.flatMap(([term, value]) => {
    const cell = make("dd", value ? "" : "silent");
    cell.append(value || t("fact.silent"));
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
    const text = [thing.organization, thing.name].filter(Boolean).join(" / ") || thing.repo_url || t("fact.unnamed");
    holder.append(named(text, thing.repo_url));
  });
  return holder;
}

/** The hash of the student's file, which is worked out when it is asked for: the whole file is read. @param {any} student */
function hashOf(student) {
  const holder = make("span", "hash");
  const button = /** @type {HTMLButtonElement} */ (make("button", "plain", t("fact.sha.go")));
  button.type = "button";
  button.id = "sha256";
  button.addEventListener("click", async () => {
    button.disabled = true;
    const hash = await student.sha256().catch((/** @type {any} */ error) => error);
    holder.replaceChildren(typeof hash === "string" ? make("code", "", hash) : english(make("span", "", hash.message)));
  });
  holder.append(button);
  return holder;
}

/** @param {any} student @param {string} from */
export function showClaims(student, from) {
  const info = student.info();
  const made = info.provenance ?? {};
  facts(at("provenance"), [
    [t("fact.name"), made.name],
    [t("fact.author"), made.author],
    [t("fact.organization"), made.organization],
    [t("fact.licence"), made.license ? named(made.license, made.license_link) : undefined],
    [t("fact.madeFrom"), several(made.base_models)],
    [t("fact.taughtWith"), several(made.datasets)],
    [t("fact.distilled"), made.distilled],
    [t("fact.quantizedBy"), made.quantized_by],
    [t("fact.languages"), made.languages?.join(", ")],
    [t("fact.address"), made.url ? named(made.url, made.url) : undefined],
    [t("fact.description"), made.description],
    [t("fact.sha"), hashOf(student)],
  ]);
  const blocks = Object.entries(info.block_types ?? {}).map(([type, count]) => t("fact.block", { n: parameters(Number(count)), type })).join(", ");
  facts(at("openness"), [
    [t("fact.openedFrom"), from],
    [t("fact.architecture"), t("fact.architecture.words", { name: info.architecture, n: info.layers, parameters: parameters(info.parameters) })],
    [t("fact.weights"), blocks],
    [t("fact.onGpu"), info.repacked?.join(" ") || undefined],
    [t("fact.vocabulary"), t("tokens", { n: info.vocabulary })],
    [t("fact.template"), t(info.template === "file" ? "fact.template.own" : "fact.template.general")],
    .../** @type {string[]} */ (info.warnings ?? []).map((warning) => /** @type {[string, string]} */ ([t("fact.warning"), warning])),
  ]);
}

/** What the engine says is English in every language. @param {HTMLElement} node */
function english(node) {
  if (language !== "en") node.lang = "en";
  return node;
}

/** @param {any} info @param {{ words: string, kind: string, notes: string[] }} device */
export function showStudent(info, device) {
  at("student-name").textContent = info.name;
  at("student-words").textContent = info.words;
  english(at("student-words"));
  at("current").textContent = info.name;
  showDevice(device);
}

/** @param {{ words: string, kind: string, notes: string[] }} device */
export function showDevice({ words, kind, notes = [] }) {
  const lead = kind !== "cpu" ? "" : notes.some((note) => note.includes("CPU engine")) ? "device.slow" : "device.cpu";
  at("device").replaceChildren(make("span", "", lead ? t(lead, { words }) : words), ...notes.map((note) => english(make("span", "note", note))));
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
    [t("plan.weights"), size(plan.weights_bytes)],
    [t("plan.cache", { n: plan.context }), size(plan.cache_bytes)],
    [t("plan.scratch"), size(plan.scratch_bytes)],
    [t("plan.offer"), size(plan.available_bytes)],
  ]);
  const close = /** @type {HTMLButtonElement} */ (make("button", "plain", t(plan.fits ? "cancel" : "close")));
  close.type = "button";
  close.addEventListener("click", onCancel);
  box.replaceChildren(make("p", "name", plan.name || name), english(make("p", plan.fits ? "quiet" : "warning", [plan.words, plan.suggestion].filter(Boolean).join(" "))), rows, close);
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
    const detail = entry.saving !== undefined ? t("entry.saving", { part: 100 * entry.saving }) : entry.bundled ? t("entry.bundled", { size: size(entry.bytes) }) : size(entry.bytes);
    text.append(make("span", "name", entry.label), make("span", "quiet", detail));
    item.append(text);
    /** @param {string} label @param {string} spoken @param {() => void} act */
    const button = (label, spoken, act) => {
      const node = /** @type {HTMLButtonElement} */ (make("button", "plain", label));
      node.type = "button";
      node.setAttribute("aria-label", t(spoken, { name: entry.label }));
      node.dataset.key = `${label} ${key}`;
      node.addEventListener("click", act);
      item.append(node);
    };
    if (entry.saving !== undefined) {
      button(t("cancel"), "entry.notKeep.label", () => onDelete(entry));
    } else {
      if (key === open) {
        item.setAttribute("aria-current", "true");
        item.append(make("span", "mark", t("entry.current")));
      } else button(t("entry.open"), "entry.open.label", () => onOpen(entry));
      if (!entry.bundled) button(t("delete"), "entry.delete.label", () => onDelete(entry));
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
    /**
     * Addresses that the policy refused; the browser lists them as requests too, though nothing left. And the frame that registers the
     * service worker, which is shown with what that fetched. @type {Set<string>}
     */
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
  excuse(address) {
    this.refused.add(address);
  }

  /** @param {string} address */
  refuse(address) {
    this.blocked++;
    this.refused.add(address);
    this.show();
  }

  show() {
    at("requests-count").textContent = number(this.names.length);
    // What an address itself could carry out of here.
    at("bytes-sent").textContent = number(this.names.reduce((sum, name) => sum + new TextEncoder().encode(name).length, 0));
    at("blocked-count").textContent = number(this.blocked);
    at("requests-list").replaceChildren(...this.names.slice(-20).map((name) => make("li", "", name)));
  }
}

/** Tries the usual ways out, to this page's own server, and says what became of each. */
export async function probe() {
  const target = new URL("probe", document.baseURI).href;
  /** @type {[string, () => Promise<string>][]} */
  const ways = [
    [t("way.fetch"), () => fetch(target).then(() => "claims.sent", () => "claims.refused")],
    [t("way.xhr"), () => new Promise((resolve) => {
      const request = new XMLHttpRequest();
      request.onload = () => resolve("claims.sent");
      request.onerror = () => resolve("claims.refused");
      request.open("GET", target);
      request.send();
    })],
    [t("way.socket"), () => new Promise((resolve) => {
      try {
        const socket = new WebSocket(target.replace(/^http/, "ws"));
        socket.onopen = () => resolve("claims.sent");
        socket.onerror = () => resolve("claims.refused");
      } catch {
        resolve("claims.refused");
      }
    })],
    [t("way.picture"), () => new Promise((resolve) => {
      const image = new Image();
      image.onload = () => resolve("claims.sent");
      image.onerror = () => resolve("claims.refused");
      image.src = target;
    })],
    [t("way.beacon"), () => new Promise((resolve) => {
      const timer = setTimeout(() => resolve("claims.sent"), 500);
      document.addEventListener("securitypolicyviolation", () => {
        clearTimeout(timer);
        resolve("claims.refused");
      }, { once: true });
      navigator.sendBeacon(target, "x");
    })],
    [t("way.peer"), async () => ("RTCPeerConnection" in window && window.RTCPeerConnection ? "claims.sent" : "claims.missing")],
  ];
  const list = at("probe-results");
  list.replaceChildren();
  for (const [name, attempt] of ways) {
    const outcome = await attempt();
    list.append(make("li", outcome === "claims.sent" ? "bad" : "good", `${name}: ${t(outcome)}`));
  }
}
