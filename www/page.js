// @ts-check
// The page: wires the student, the conversation and what stands beside it together.
import { Understudy, UnderstudyError, joined } from "./understudy.js";
import { Counter, at, hideCandidate, probe, showCandidate, showClaims, showDevice, showStudent, showStudents } from "./panels.js";
import { AdapterList } from "./adapter-list.js";
import { ChatList } from "./chat-list.js";
import { ChatStore } from "./chat-store.js";
import { fromList } from "./chats.js";
import { Conversation, grow } from "./conversation.js";
import { Drawers } from "./drawers.js";
import { make } from "./chat-view.js";
import { Recall } from "./recall.js";
import { TeachView } from "./teach/teach.js";
import { complain, loading, notice, say } from "./notices.js";
import { TABLES, choose, chosen, dress, size, t } from "./words.js";
import { Attachments } from "./attachments.js";
import { Eraser } from "./erase.js";
import { Personas } from "./personas.js";
import { promptView } from "./prompt-view.js";
import { Offline } from "./offline.js";
import * as memory from "./memory.js";
import * as store from "./store.js";

dress();
const prompt = /** @type {HTMLTextAreaElement} */ (at("prompt"));
const fileInput = /** @type {HTMLInputElement} */ (at("file"));
const keepBox = /** @type {HTMLInputElement} */ (at("keep"));
const counter = new Counter();

/** Switches for tests and for the curious, in the address's fragment, which no server sees: #gpu=off, #gpu=on */
const flags = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

// --------------------------------------------------------------------------------- what survives a reload

const DEFAULTS = { system: "", temperature: "0.7", top_k: "40", top_p: "0.95", min_p: "0.05", max_tokens: "", seed: "", context: "", engine: "auto", thinking: true, keep: true };
const saved = memory.recall();
/** @type {Record<string, any>} */
const settings = { ...DEFAULTS, ...saved.settings };
let lastStudent = typeof saved.student === "string" ? saved.student : "";
/** @type {boolean | undefined} */ let chatsOpen = typeof saved.chatsOpen === "boolean" ? saved.chatsOpen : undefined;
prompt.value = typeof saved.draft === "string" ? saved.draft : "";

const save = memory.keeper(() => ({ settings, student: lastStudent, draft: prompt.value, chat: talk.chat.nodes.length > 0 ? talk.chat.id : "", chatsOpen }));

const PHASES = ["engine", "download", "header", "weights", "pipelines"];
const onProgress = (/** @type {any} */ { phase, loaded, total }) => {
  const words = t(PHASES.includes(phase) ? `phase.${phase}` : "phase.loading");
  loading(total && phase !== "pipelines" ? t("phase.amount", { words, loaded: size(loaded), total: size(total) }) : words, total ? loaded / total : undefined);
};

// ------------------------------------------------------------------------------------------------- students

/** @type {any} */ let engine = null;
/** @type {any} */ let student = null;
/** @type {Blob | null} */ let studentBlob = null;
let openKey = "";
/** Settles when what is being opened is open, or has failed. */
let opening = Promise.resolve();
/** @type {AbortController | null} */ let openControl = null;
/** @type {any[]} */ let bundled = [];
/** @type {Map<string, { bytes: number, part: number, control: AbortController }>} */ const saving = new Map();

Object.defineProperty(window, "understudy", {
  value: Object.freeze({
    Understudy, UnderstudyError,
    get student() {
      return student;
    },
    get engine() {
      return engine;
    },
    get teaching() {
      return teach.teaching;
    },
  }),
});

/** @returns {import("./understudy.js").EngineOptions} */
const engineOptions = () => ({ gpu: { off: "off", on: "on" }[/** @type {string} */ (flags.gpu ?? settings.engine)] ?? "auto", subgroups: flags.subgroups !== "off", onProgress });
const context = () => (Number(settings.context) > 0 ? Number(settings.context) : undefined);

/** One opening after the other, whatever asks for it. @template T @param {() => Promise<T>} act @returns {Promise<T>} */
function inTurn(act) {
  const run = opening.then(act);
  opening = run.then(() => {}, () => {});
  return run;
}

async function startEngine() {
  const fresh = await Understudy.start(engineOptions());
  fresh.addEventListener("notice", (event) => heed(/** @type {CustomEvent} */ (event).detail));
  return fresh;
}

/** What the engine reports by itself. @param {any} detail */
function heed({ kind, message, hint, progress, device, names, uri }) {
  if (kind === "progress") return onProgress(progress);
  if (kind === "requests") return counter.add(names);
  if (kind === "blocked") return counter.refuse(uri);
  if (kind === "device-lost") notice("warning", message, { hint: hint || t("device.lost.hint"), foreign: true, code: "device-lost" });
  if (kind === "engine-crashed") notice("warning", message, { hint, code: "crashed", foreign: true });
  if (kind === "engine-failed") notice("error", message, { hint, code: "crashed", foreign: true });
  if (kind === "device-rebuilt" || kind === "engine-restarted") {
    loading();
    notice("good", message, { foreign: true });
    if (device) showDevice(device);
  }
}

/** Where the open student came from, in words. */
let openFrom = "";

/** The open student once more, with chats written out by the general template. */
function openGenerally() {
  return inTurn(async () => {
    if (!engine || !studentBlob) return;
    await adopt(await engine.open(studentBlob, { context: context(), template: "general", onProgress }), studentBlob, openKey, openFrom);
  }).catch(complain);
}

/** @param {any} opened @param {Blob} blob @param {string} key @param {string} from */
async function adopt(opened, blob, key, from) {
  const before = student?.adapters ?? [];
  student = opened;
  studentBlob = blob;
  openKey = key;
  lastStudent = key;
  const info = student.info();
  showStudent(info, student.device);
  showClaims(student, from);
  openFrom = from;
  at("thinking-row").hidden = !info.thinks;
  document.documentElement.dataset.ready = "true";
  counter.start();
  loading();
  hideCandidate();
  say(t("ready"));
  save();
  talk.meter.measure();
  // The list first: what it shows as open must not wait for adapters to come back.
  at("students").querySelector("[aria-current]")?.removeAttribute("aria-current");
  const listed = listStudents();
  await adapters.adopted(blob, key, before);
  if (talk.chat.nodes.length > 0) await recall.restore();
  teach.studentOpened();
  return listed;
}

/**
 * Opens a file that the person chose. Whatever goes wrong, the student that is open stays open.
 * @param {Blob} blob @param {string} name @param {string} key @param {string} from
 */
function openBlob(blob, name, key, from) {
  return inTurn(async () => {
    openControl = new AbortController();
    const { signal } = openControl;
    let fits = true;
    try {
      if (!engine) throw new UnderstudyError("no-device", t("engine.off"), t("engine.off.hint"));
      loading(t("phase.header"));
      const plan = await engine.plan(blob, { context: context(), signal });
      fits = plan.fits;
      showCandidate(plan, name, { onCancel: () => (fits ? openControl?.abort() : hideCandidate()) });
      if (!fits) throw new UnderstudyError("does-not-fit", t("opened.not", { name }), [plan.words, plan.suggestion].filter(Boolean).join(" "));
      await adopt(await engine.open(blob, { context: context(), signal, onProgress }), blob, key, from);
      return true;
    } catch (error) {
      const known = UnderstudyError.from(error);
      if (fits) hideCandidate();
      if (known.code === "adapter" && student) await attach(blob, name);
      else if (known.code === "aborted") say(t("opened.not.said"));
      else notice("error", known.message, { hint: `${known.hint}${student ? ` ${t("opened.stays", { name: student.info().name })}` : ""}`, code: known.code, foreign: true }).dataset.file = name;
      return false;
    } finally {
      loading();
      openControl = null;
    }
  });
}

const adapters = new AdapterList({ student: () => student, say, complain, notice, keeps: () => keepBox.checked });

const recall = new Recall({ student: () => student, print: () => adapters.owner?.print, busy: () => talk.answering !== null, keeps: () => keepBox.checked });

const teach = new TeachView({
  student: () => student, blob: () => studentBlob, key: () => openKey, inTurn, notice, complain, say, counter, adapters,
  openKey: (key) => openEntry({ name: key.slice(5), label: bundled.find(({ file }) => file === key.slice(5))?.name ?? key.slice(5), bundled: key.startsWith("site:") }),
});

/** Lays an adapter beside the open student. @param {Blob} blob @param {string} name */
async function attach(blob, name) {
  try {
    const adapter = await adapters.attachFile(blob, name);
    say(t("adapter.attached", { name: adapter.name, student: student.info().name }));
  } catch (error) {
    const known = UnderstudyError.from(error);
    notice("error", known.message, { hint: known.hint, code: known.code, foreign: true }).dataset.file = name;
  }
}

/** @param {File} file */
async function openFile(file) {
  const name = store.cleanName(file.name);
  drawers.close();
  if (await openBlob(file, file.name, `file:${name}`, t("opened.from.file", { name: file.name }))) {
    if (keepBox.checked) keep(file, name);
  }
}

/** Keeps a copy in this browser while the chat already goes on. @param {File} file @param {string} name */
async function keep(file, name) {
  saving.get(name)?.control.abort();
  const entry = { bytes: file.size, part: 0, control: new AbortController() };
  saving.set(name, entry);
  listStudents();
  store.persist();
  let shown = 0;
  try {
    const { blob, kept, why } = await store.save(name, { size: file.size, stream: file.stream() }, {
      signal: entry.control.signal,
      onProgress(loaded) {
        entry.part = file.size ? loaded / file.size : 1;
        if (performance.now() - shown > 250) listStudents();
        if (performance.now() - shown > 250) shown = performance.now();
      },
    });
    if (!kept) {
      notice("warning", t("notKept", { name }), { hint: t("notKept.hint", { why: why ?? "" }), code: "not-kept" });
    } else if (openKey === `file:${name}` && studentBlob === file) {
      openKey = lastStudent = `kept:${name}`;
      studentBlob = blob;
      student.movedTo(blob).catch(() => {});
      teach.studentMoved(blob);
    }
  } catch (/** @type {any} */ error) {
    if (error?.code !== "aborted") notice("warning", t("notKept", { name }), { hint: t("notKept.plain"), code: "not-kept" });
  }
  if (saving.get(name) === entry) saving.delete(name);
  save();
  listStudents();
}

async function listStudents() {
  const { available, students } = await store.list();
  const entries = [
    ...bundled.map(({ file, name, bytes }) => ({ name: file, label: name ?? file, bytes, bundled: true })),
    ...students.filter(({ name }) => !saving.has(name)).map(({ name, bytes }) => ({ name, label: name, bytes, bundled: false })),
    ...[...saving].map(([name, { bytes, part }]) => ({ name, label: name, bytes, bundled: false, saving: part })),
  ];
  showStudents(entries, openKey, { onOpen: openEntry, onDelete: deleteEntry });
  const kept = students.reduce((sum, { bytes }) => sum + bytes, 0);
  at("students-words").textContent = !available
    ? t("kept.blocked")
    : students.length ? t("kept.words", { n: students.length, size: size(kept), room: size(await store.room()) }) : t("kept.none");
}

/** @param {Pick<import("./panels.js").Entry, "name" | "label" | "bundled">} entry */
async function openEntry({ name, bundled: fromSite, label }) {
  drawers.close();
  if (fromSite) {
    try {
      counter.add([new URL(`students/${name}`, document.baseURI).href]);
      const blob = await Understudy.blob(`students/${name}`, { onProgress });
      await openBlob(blob, label, `site:${name}`, t("opened.from.page"));
    } catch (error) {
      loading();
      complain(error);
    }
    return;
  }
  const blob = await store.find(name);
  if (!blob) {
    notice("error", t("gone", { name }), { hint: t("gone.hint"), code: "io" });
    return listStudents();
  }
  await openBlob(blob, name, `kept:${name}`, t("opened.from.storage", { name }));
}

/** @param {import("./panels.js").Entry} entry */
async function deleteEntry({ name }) {
  const busy = saving.get(name);
  if (busy) return busy.control.abort();
  try {
    // The open student goes on: what it is made of is on the device. A copy in memory serves a rebuild.
    if (openKey === `kept:${name}` && studentBlob) {
      const copy = new Blob([await studentBlob.arrayBuffer()]);
      studentBlob = copy;
      await student.movedTo(copy);
      await teach.studentMoved(copy);
      openKey = `file:${name}`;
      lastStudent = "";
    }
    await store.remove(name);
    say(t("deleted", { name }));
  } catch {
    notice("error", t("deleted.not", { name }), { hint: t("deleted.not.hint"), code: "io" });
  }
  save();
  listStudents();
}

/** The same student again, after a setting that only counts when loading. @param {boolean} newEngine */
function reopen(newEngine) {
  return inTurn(async () => {
    if (!studentBlob || !student) return;
    const before = engine;
    try {
      loading(t("phase.weights"));
      const next = newEngine ? await startEngine() : engine;
      try {
        const attached = student.adapters;
        const opened = await next.open(studentBlob, { context: context(), onProgress });
        for (const { blob, config, scale } of attached) await opened.attach(config ? { config, weights: blob } : blob, { scale });
        engine = next;
        student = opened;
        await adapters.moved(attached, opened.adapters);
        if (newEngine) before.close();
      } catch (error) {
        if (newEngine) next.close();
        throw error;
      }
      const info = student.info();
      showStudent(info, student.device);
      say(t("ready.context", { n: info.context }));
      talk.meter.measure();
    } catch (error) {
      complain(error);
    } finally {
      loading();
    }
  });
}

async function boot() {
  loading(t("starting"));
  await store.tidy();
  const kept = lastStudent.startsWith("kept:") ? await store.find(lastStudent.slice(5)) : null;
  const starting = startEngine();
  starting.catch(() => {});
  const listing = Understudy.blob("students/students.json").then(async (blob) => {
    bundled = JSON.parse(await blob.text());
    suggest(bundled[0]?.prompts ?? []);
    listStudents();
  });
  listing.catch(() => {});
  try {
    let blob = /** @type {Blob | null} */ (kept);
    let key = lastStudent;
    let from = t("opened.from.storage", { name: lastStudent.slice(5) });
    if (!blob) {
      await listing;
      blob = await Understudy.blob(`students/${bundled[0].file}`, { onProgress });
      key = `site:${bundled[0].file}`;
      from = t("opened.from.page");
    }
    engine = await starting;
    showDevice(engine.device);
    await adopt(await engine.open(blob, { context: context(), onProgress }), blob, key, from);
  } catch (error) {
    engine ??= await starting.catch(() => null);
    if (engine) showDevice(engine.device);
    loading();
    lastStudent = "";
    complain(error);
    say(t("opened.none"));
  }
}

// ----------------------------------------------------------------------------------------------------- chat

/** @param {string} name */
function numberOf(name) {
  const text = String(settings[name]).trim();
  return text === "" || !Number.isFinite(Number(text)) ? undefined : Number(text);
}

const chats = new ChatStore();
const attachments = new Attachments({ student: () => student, opening: () => opening, changed: () => talk.meter.measure() });
const talk = new Conversation(chats, {
  attachments,
  student: () => student, opening: () => opening, system: () => settings.system, remember: save,
  request: () => ({
    ...Object.fromEntries(["temperature", "top_k", "top_p", "min_p", "max_tokens", "seed"].map((name) => [name, numberOf(name)])),
    ...(student.info().thinks ? { enable_thinking: Boolean(settings.thinking) } : {}),
  }),
  changed: () => list.refresh(), recall, general: openGenerally,
});
const list = new ChatList(chats, {
  current: () => talk.chat,
  open: (id) => {
    drawers.close();
    talk.open(id).then(() => list.draw());
  },
  renamed: (chat) => talk.renamed(chat),
  removed: (id) => talk.removed(id),
});
const drawers = new Drawers({ chatsOpen, onChats: (open) => {
  chatsOpen = open;
  save();
} });

/** @param {string[]} prompts */
function suggest(prompts) {
  at("suggestions").replaceChildren(...prompts.slice(0, 4).map((text) => {
    const button = /** @type {HTMLButtonElement} */ (make("button", "suggestion", text));
    button.type = "button";
    button.addEventListener("click", () => talk.send(text));
    return button;
  }));
}

// -------------------------------------------------------------------------------------------------- controls

const send = () => talk.send(prompt.value.trim(), attachments);
promptView({
  student: () => student, messages: () => talk.messages(prompt.value.trim(), attachments.files),
  options: () => (student.info().thinks ? { enable_thinking: Boolean(settings.thinking) } : {}),
});
at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
    event.preventDefault();
    send();
  }
});
prompt.addEventListener("input", () => {
  grow();
  save();
  talk.meter.measure();
});
at("stop").addEventListener("click", () => {
  say(t("stopping"));
  talk.answering?.stop();
});
at("new-chat").addEventListener("click", () => talk.begin());

at("open-file").addEventListener("click", () => fileInput.click());
fileInput.addEventListener("change", () => {
  const files = [...(fileInput.files ?? [])];
  if (files.length > 0) openFile(/** @type {File} */ (joined(files)));
  fileInput.value = "";
});

/** Files dragged over the page, and nothing else. @param {DragEvent} event */
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
let depth = 0;
addEventListener("dragenter", (event) => {
  if (!carriesFiles(event) || ++depth <= 0) return;
  at("drop-words").textContent = t(teach.visible ? "drop.traces" : "drop.chat");
  at("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (carriesFiles(event) && --depth <= 0) at("drop").hidden = true;
});
addEventListener("dragover", (event) => {
  if (carriesFiles(event)) event.preventDefault();
});
addEventListener("drop", (event) => {
  depth = 0;
  at("drop").hidden = true;
  if (!carriesFiles(event)) return;
  event.preventDefault();
  const files = [...(event.dataTransfer?.files ?? [])];
  if (teach.visible && !files.some(({ name }) => name.endsWith(".gguf"))) return void teach.take(files);
  isModel(files).then((is) => {
    if (is) openFile(/** @type {File} */ (joined(files)));
    else if (files.length > 0) attachments.take(files);
  });
});

/** GGUF files say so in their first bytes, whatever they are called. @param {File[]} files */
async function isModel(files) {
  if (files.some(({ name }) => /\.gguf$/i.test(name))) return true;
  return files.length > 0 && (await files[0].slice(0, 4).text().catch(() => "")) === "GGUF";
}

function showSettings() {
  for (const name of ["system", "temperature", "top_k", "top_p", "min_p", "max_tokens", "seed", "context", "engine"]) {
    /** @type {HTMLInputElement} */ (at(name)).value = settings[name];
  }
  /** @type {HTMLInputElement} */ (at("thinking")).checked = Boolean(settings.thinking);
  keepBox.checked = Boolean(settings.keep);
}

at("settings").addEventListener("input", (event) => {
  const field = /** @type {HTMLInputElement} */ (event.target);
  if (!(field.id in settings)) return;
  settings[field.id] = field.type === "checkbox" ? field.checked : field.value;
  save();
  if (field.id === "system") talk.meter.measure();
});
at("settings").addEventListener("change", (event) => {
  const field = /** @type {HTMLInputElement} */ (event.target);
  if (field.id === "context") reopen(false);
  if (field.id === "engine") reopen(true);
});
at("reset").addEventListener("click", () => {
  const reload = settings.context !== DEFAULTS.context;
  const swap = settings.engine !== DEFAULTS.engine;
  Object.assign(settings, DEFAULTS, { system: settings.system, keep: settings.keep });
  showSettings();
  save();
  if (reload || swap) reopen(swap);
});
new Personas({ settings, apply: (values) => {
  Object.assign(settings, values);
  showSettings();
  save();
  talk.meter.measure();
} });
const language = /** @type {HTMLSelectElement} */ (at("language"));
language.replaceChildren(new Option(t("set.language.auto"), ""), ...Object.entries(TABLES).map(([name, table]) => {
  const option = new Option(table.name, name);
  option.lang = name;
  return option;
}));
language.value = chosen();
language.addEventListener("change", () => {
  choose(language.value);
  if (talk.answering || teach.busy) say(t("set.language.later"));
  else location.reload();
});
keepBox.addEventListener("change", () => {
  settings.keep = keepBox.checked;
  save();
});
at("probe").addEventListener("click", () => probe());

// ----------------------------------------------------------------------------------------------------- start

/** The chat that was open last; what an older page kept is taken over once, whichever tab comes first. */
async function bringChats() {
  await memory.alone("understudy-take-over", async () => {
    const old = fromList(memory.recall().messages);
    if (!old) return;
    try {
      await chats.save(old);
      if (!chats.trouble) memory.taken();
    } catch {
      // The storage is full: the old chat stays where it was, and is shown all the same.
    }
    if (talk.chat.nodes.length === 0) await talk.become(old);
  });
  if (typeof saved.chat === "string" && saved.chat) await talk.resume(saved.chat);
  await list.refresh();
}

new Eraser({ chats, stop: async () => {
  talk.answering?.stop();
  talk.forgetAll();
  await teach.reset(true);
} });
showSettings();
talk.draw();
grow();
if (!matchMedia("(max-width: 60rem)").matches) prompt.focus();
bringChats();
const offline = new Offline({ busy: () => talk.answering !== null || teach.busy, counter });
inTurn(boot).then(() => offline.start());
