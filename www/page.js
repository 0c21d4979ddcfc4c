// @ts-check
// The page: wires the student, the conversation and the panel together.
import { Understudy, UnderstudyError, joined } from "./understudy.js";
import { ChatView, make } from "./chat-view.js";
import { Counter, at, hideCandidate, probe, showCandidate, showClaims, showDevice, showStudent, showStudents } from "./panels.js";
import { AdapterList } from "./adapter-list.js";
import { Recall } from "./recall.js";
import { TeachView } from "./teach/teach.js";
import { counted, rate, size, whole } from "./format.js";
import * as store from "./store.js";

/** @typedef {import("./chat-view.js").Message} Message */

const prompt = /** @type {HTMLTextAreaElement} */ (at("prompt"));
const fileInput = /** @type {HTMLInputElement} */ (at("file"));
const keepBox = /** @type {HTMLInputElement} */ (at("keep"));
const counter = new Counter();

/** Switches for tests and for the curious, in the address's fragment, which no server sees: #gpu=off, #gpu=on */
const flags = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

// --------------------------------------------------------------------------------- what survives a reload

const DEFAULTS = { system: "", temperature: "0.7", top_k: "40", top_p: "0.95", min_p: "0.05", max_tokens: "", seed: "", context: "", engine: "auto", thinking: true, keep: true };
const MEMORY = "understudy.page";

const saved = (() => {
  try {
    return JSON.parse(localStorage.getItem(MEMORY) ?? "{}");
  } catch {
    return {};
  }
})();
/** @type {Record<string, any>} */
const settings = { ...DEFAULTS, ...saved.settings };
/** @type {Message[]} */
let messages = Array.isArray(saved.messages) ? saved.messages.filter((/** @type {any} */ m) => typeof m?.content === "string" && (m.role === "user" || m.role === "assistant")) : [];
let lastStudent = typeof saved.student === "string" ? saved.student : "";
prompt.value = typeof saved.draft === "string" ? saved.draft : "";

let saveTimer = 0;
function save(soon = 300) {
  clearTimeout(saveTimer);
  saveTimer = setTimeout(() => {
    try {
      localStorage.setItem(MEMORY, JSON.stringify({ settings, messages, student: lastStudent, draft: prompt.value }));
    } catch {
      // Blocked or full: the chat then lasts until the page is closed.
    }
  }, soon);
}
addEventListener("pagehide", () => {
  clearTimeout(saveTimer);
  try {
    localStorage.setItem(MEMORY, JSON.stringify({ settings, messages, student: lastStudent, draft: prompt.value }));
  } catch {
    // As above.
  }
});

// -------------------------------------------------------------------------------------- words to the person

const say = (/** @type {string} */ text) => (at("status").textContent = text);

/** @param {string} kind @param {string} message @param {{ hint?: string, code?: string, action?: [string, () => void] }} [more] */
function notice(kind, message, { hint = "", code = "", action } = {}) {
  const box = make("div", `notice ${kind}`);
  box.dataset.code = code;
  const words = make("p");
  words.append(make("strong", "", message), hint ? ` ${hint}` : "");
  if (code) words.append(" ", make("code", "", code));
  box.append(words);
  const button = (/** @type {string} */ label, /** @type {() => void} */ act) => {
    const node = /** @type {HTMLButtonElement} */ (make("button", "plain", label));
    node.type = "button";
    node.addEventListener("click", () => {
      box.remove();
      act();
      prompt.focus();
    });
    box.append(node);
  };
  if (action) button(action[0], action[1]);
  button("Close", () => {});
  const others = [...at("notices").children];
  for (const other of others) if (other.querySelector("p")?.textContent === words.textContent) other.remove();
  if (others.length > 3) others[0].remove();
  at("notices").append(box);
  return box;
}

/** @param {any} error */
const complain = (error) => {
  const { code, message, hint } = UnderstudyError.from(error);
  return notice("error", message, { hint, code });
};

/** @param {string} [words] @param {number} [part] */
function loading(words, part) {
  const bar = /** @type {HTMLProgressElement} */ (at("loading-bar"));
  at("loading").hidden = words === undefined;
  if (words === undefined) return;
  at("loading-words").textContent = words;
  if (part === undefined || !Number.isFinite(part)) bar.removeAttribute("value");
  else bar.value = part;
}

const PHASES = { engine: "Fetching the engine", download: "Fetching the student", header: "Reading the file", weights: "Loading the student", pipelines: "Preparing the student" };
const onProgress = (/** @type {any} */ { phase, loaded, total }) => {
  const amount = total && phase !== "pipelines" ? `, ${size(loaded)} of ${size(total)}` : "";
  loading(`${/** @type {any} */ (PHASES)[phase] ?? "Loading"}${amount}`, total ? loaded / total : undefined);
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
  if (kind === "device-lost") notice("warning", message, { hint: hint || "The student is being loaded again; the chat then goes on where it was.", code: "device-lost" });
  if (kind === "engine-crashed") notice("warning", message, { hint, code: "crashed" });
  if (kind === "engine-failed") notice("error", message, { hint, code: "crashed" });
  if (kind === "device-rebuilt" || kind === "engine-restarted") {
    loading();
    notice("good", message);
    if (device) showDevice(device);
  }
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
  showClaims(info, from);
  at("thinking-row").hidden = !info.thinks;
  document.documentElement.dataset.ready = "true";
  counter.start();
  loading();
  hideCandidate();
  say("Ready.");
  save();
  measure();
  // The list first: what it shows as open must not wait for adapters to come back.
  at("students").querySelector("[aria-current]")?.removeAttribute("aria-current");
  const listed = listStudents();
  await adapters.adopted(blob, key, before);
  if (messages.length > 0) await recall.restore();
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
      if (!engine) throw new UnderstudyError("no-device", "The engine is not running.", "Reload the page.");
      loading("Reading the file");
      const plan = await engine.plan(blob, { context: context(), signal });
      fits = plan.fits;
      showCandidate(plan, name, { onCancel: () => (fits ? openControl?.abort() : hideCandidate()) });
      if (!fits) throw new UnderstudyError("does-not-fit", `${name} was not opened.`, [plan.words, plan.suggestion].filter(Boolean).join(" "));
      await adopt(await engine.open(blob, { context: context(), signal, onProgress }), blob, key, from);
      return true;
    } catch (error) {
      const known = UnderstudyError.from(error);
      if (fits) hideCandidate();
      if (known.code === "adapter" && student) await attach(blob, name);
      else if (known.code === "aborted") say("Not opened.");
      else notice("error", known.message, { hint: `${known.hint}${student ? ` ${student.info().name} stays open.` : ""}`, code: known.code }).dataset.file = name;
      return false;
    } finally {
      loading();
      openControl = null;
    }
  });
}

const adapters = new AdapterList({ student: () => student, say, complain, notice, keeps: () => keepBox.checked });

const recall = new Recall({ student: () => student, print: () => adapters.owner?.print, busy: () => answering !== null, keeps: () => keepBox.checked });

const teach = new TeachView({
  student: () => student, blob: () => studentBlob, key: () => openKey, inTurn, notice, complain, say, counter, adapters,
  openKey: (key) => openEntry({ name: key.slice(5), label: bundled.find(({ file }) => file === key.slice(5))?.name ?? key.slice(5), bundled: key.startsWith("site:") }),
});

/** Lays an adapter beside the open student. @param {Blob} blob @param {string} name */
async function attach(blob, name) {
  try {
    const adapter = await adapters.attachFile(blob, name);
    say(`${adapter.name} is attached to ${student.info().name}.`);
  } catch (error) {
    const known = UnderstudyError.from(error);
    notice("error", known.message, { hint: known.hint, code: known.code }).dataset.file = name;
  }
}

/** @param {File} file */
async function openFile(file) {
  const name = store.cleanName(file.name);
  closePanel();
  if (await openBlob(file, file.name, `file:${name}`, `a file on this computer, ${file.name}`)) {
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
      notice("warning", `${name} was not kept.`, { hint: `${why} It can be used until this page is closed.`, code: "not-kept" });
    } else if (openKey === `file:${name}` && studentBlob === file) {
      openKey = lastStudent = `kept:${name}`;
      studentBlob = blob;
      student.movedTo(blob).catch(() => {});
      teach.studentMoved(blob);
    }
  } catch (/** @type {any} */ error) {
    if (error?.code !== "aborted") notice("warning", `${name} was not kept.`, { hint: "It can be used until this page is closed.", code: "not-kept" });
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
    ? "This browser's storage is blocked, so nothing is kept. Students can be used until the page is closed."
    : students.length ? `${counted(students.length, "student")}, ${size(kept)}, room for ${size(await store.room())} more.` : "Students that you open are kept in this browser, on this machine.";
}

/** @param {Pick<import("./panels.js").Entry, "name" | "label" | "bundled">} entry */
async function openEntry({ name, bundled: fromSite, label }) {
  closePanel();
  if (fromSite) {
    try {
      counter.add([new URL(`students/${name}`, document.baseURI).href]);
      const blob = await Understudy.blob(`students/${name}`, { onProgress });
      await openBlob(blob, label, `site:${name}`, "this page; it comes with it");
    } catch (error) {
      loading();
      complain(error);
    }
    return;
  }
  const blob = await store.find(name);
  if (!blob) {
    notice("error", `${name} is no longer there.`, { hint: "Open the file again.", code: "io" });
    return listStudents();
  }
  await openBlob(blob, name, `kept:${name}`, `this browser's storage, ${name}`);
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
    say(`${name} was deleted.`);
  } catch {
    notice("error", `${name} could not be deleted.`, { hint: "Try again in a moment.", code: "io" });
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
      loading("Loading the student");
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
      say(`Ready, with a context of ${whole(info.context)} tokens.`);
      measure();
    } catch (error) {
      complain(error);
    } finally {
      loading();
    }
  });
}

async function boot() {
  loading("Starting");
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
    let from = `this browser's storage, ${lastStudent.slice(5)}`;
    if (!blob) {
      await listing;
      blob = await Understudy.blob(`students/${bundled[0].file}`, { onProgress });
      key = `site:${bundled[0].file}`;
      from = "this page; it comes with it";
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
    say("No student is open. Open a GGUF file to go on.");
  }
}

// ----------------------------------------------------------------------------------------------------- chat

const view = new ChatView({ root: at("messages"), welcome: at("welcome"), say, onRegenerate: regenerate });
/** @type {{ stop: () => void } | null} */ let answering = null;

/** @param {string[]} prompts */
function suggest(prompts) {
  at("suggestions").replaceChildren(...prompts.slice(0, 4).map((text) => {
    const button = /** @type {HTMLButtonElement} */ (make("button", "suggestion", text));
    button.type = "button";
    button.addEventListener("click", () => {
      prompt.value = text;
      send();
    });
    return button;
  }));
}

/** @param {string} name */
function numberOf(name) {
  const text = String(settings[name]).trim();
  return text === "" || !Number.isFinite(Number(text)) ? undefined : Number(text);
}

const request = () => ({
  messages: [...(settings.system.trim() ? [{ role: "system", content: settings.system }] : []), ...messages.map(({ role, content }) => ({ role, content }))],
  ...Object.fromEntries(["temperature", "top_k", "top_p", "min_p", "max_tokens", "seed"].map((name) => [name, numberOf(name)])),
  ...(student.info().thinks ? { enable_thinking: Boolean(settings.thinking) } : {}),
});

function send() {
  const text = prompt.value.trim();
  if (!text || answering) return;
  prompt.value = "";
  grow();
  const message = /** @type {Message} */ ({ role: "user", content: text });
  messages.push(message);
  view.follow = true;
  view.add(message);
  save();
  answer();
}

function regenerate() {
  if (answering || messages.at(-1)?.role !== "assistant") return;
  messages.pop();
  view.pop();
  answer();
  prompt.focus();
}

/** Gives a question that got no answer back to the person. */
function takeBack() {
  const question = messages.at(-1);
  if (question?.role !== "user") return;
  messages.pop();
  view.pop();
  prompt.value = prompt.value.trim() ? `${question.content}\n\n${prompt.value}` : question.content;
  grow();
}

async function answer() {
  const reply = /** @type {Message} */ ({ role: "assistant", content: "", reasoning: "" });
  const part = view.add(reply);
  let stopped = false;
  /** @type {any} */ let stream = null;
  /** @type {() => void} */ let giveUp = () => {};
  const stopping = new Promise((resolve) => (giveUp = () => resolve(undefined)));
  answering = {
    stop() {
      stopped = true;
      giveUp();
      stream?.stop();
    },
  };
  working(true);
  const begun = performance.now();
  let first = 0;
  /** @type {any} */ let last = null;
  try {
    if (!student) say("The answer starts as soon as the student is loaded.");
    await Promise.race([opening, stopping]);
    if (stopped) throw new UnderstudyError("aborted", "Stopped.");
    if (!student) throw new UnderstudyError("no-student", "No student is open.", "Open a GGUF file, then send again.");
    say("Answering.");
    stream = student.chat.completions.create({ ...request(), stream: true });
    for await (const chunk of stream) {
      const { delta, finish_reason: finish } = chunk.choices[0];
      if (chunk.prompt_progress) part.reading(chunk.prompt_progress);
      if (chunk.restart) reply.content = reply.reasoning = "";
      if (!first && (delta.content || delta.reasoning_content)) first = performance.now();
      reply.content += delta.content ?? "";
      reply.reasoning += delta.reasoning_content ?? "";
      part.update();
      if (chunk.tokens && chunk.tokens % 8 === 0) pace(chunk.tokens, first);
      if (finish) last = { finish, ...chunk };
    }
    const empty = !reply.content && !reply.reasoning;
    if (empty && (stopped || last?.finish === "abort")) throw new UnderstudyError("aborted", "Stopped.");
    reply.stats = {
      ms: (first || performance.now()) - begun, tokens: last?.usage?.completion_tokens ?? 0,
      perSecond: last?.timings?.predicted_per_second ?? 0, finish: last?.finish ?? "stop",
    };
    if (empty) reply.content = "*The student gave an empty answer.*";
    if (last?.context) showMeter(last.context.used, last.context.size, `${rate(reply.stats.perSecond)} tokens/s`);
    const full = last?.finish === "length" && last.context.used + 1 >= last.context.size;
    if (full) notice("warning", "The context is full, so the answer ends here.", { hint: "Start a new chat, or set a longer context.", code: "context-full" });
    say(stopped ? "Stopped." : full ? "The context is full." : last?.finish === "length" ? "The answer reached its limit." : "Answer finished.");
    finish();
    if (last?.context) recall.soon(last.context.used);
  } catch (error) {
    const known = UnderstudyError.from(error);
    if (reply.content || reply.reasoning) {
      reply.broken = true;
      finish();
    } else {
      view.pop();
      takeBack();
    }
    if (known.code === "aborted") say("Stopped.");
    else {
      say("");
      complain(known);
    }
  }
  answering = null;
  working(false);
  save();
  measure();

  function finish() {
    messages.push(reply);
    part.finish();
  }
}

/** @param {boolean} busy */
function working(busy) {
  const focused = document.activeElement;
  at("send").hidden = busy;
  at("stop").hidden = !busy;
  at("messages").setAttribute("aria-busy", String(busy));
  if (focused === at("send") || focused === at("stop")) prompt.focus();
}

// ------------------------------------------------------------------------------------------------- the meter

/** @param {number} used @param {number} total @param {string} [more] */
function showMeter(used, total, more = "") {
  const bar = /** @type {HTMLMeterElement} */ (at("meter-bar"));
  bar.max = total;
  bar.low = total * 0.7;
  bar.high = total * 0.9;
  bar.optimum = 0;
  bar.value = Math.min(used, total);
  const over = used >= total ? ", full: shorten the message or start a new chat" : "";
  at("meter-words").textContent = `${whole(used)} of ${whole(total)} tokens${over}${more ? `, ${more}` : ""}`;
}

/** @param {number} tokens @param {number} since */
function pace(tokens, since) {
  const bar = /** @type {HTMLMeterElement} */ (at("meter-bar"));
  const perSecond = (tokens - 1) / Math.max(0.001, (performance.now() - since) / 1000);
  at("meter-words").textContent = `${whole(Math.min(bar.max, measured + tokens))} of ${whole(bar.max)} tokens, ${rate(perSecond)} tokens/s`;
  bar.value = Math.min(bar.max, measured + tokens);
}

let measured = 0;
let measureTimer = 0;
/** Counts what the chat and the draft take, when the student has a moment. */
function measure() {
  clearTimeout(measureTimer);
  measureTimer = setTimeout(async () => {
    if (!student || answering) return;
    const draft = prompt.value.trim();
    const asked = student;
    const { messages: all } = request();
    const list = draft ? [...all, { role: "user", content: draft }] : all;
    try {
      const used = list.length ? await student.count(list) : 0;
      if (asked !== student || answering) return;
      measured = used;
      showMeter(used, student.info().context);
    } catch {
      // A template may refuse a half-made chat; the meter then waits for the answer.
    }
  }, 250);
}

// -------------------------------------------------------------------------------------------------- controls

function grow() {
  prompt.style.height = "auto";
  prompt.style.height = `${Math.min(prompt.scrollHeight, innerHeight * 0.4)}px`;
}

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
  measure();
});
at("stop").addEventListener("click", () => {
  say("Stopping.");
  answering?.stop();
});
at("new-chat").addEventListener("click", () => {
  const before = messages;
  answering?.stop();
  recall.forget();
  messages = [];
  view.render(messages);
  if (before.length > 0) {
    const offer = notice("good", "A new chat.", {
      action: ["Bring the last one back", () => {
        answering?.stop();
        messages = before;
        view.render(messages);
        save();
        measure();
      }],
    });
    setTimeout(() => offer.remove(), 20_000);
  }
  say("");
  prompt.focus();
  save();
  measure();
});

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
  at("drop-words").textContent = teach.visible ? "Drop trace files to teach from them" : "Drop the GGUF file to open it";
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
  if (teach.visible && !files.some(({ name }) => name.endsWith(".gguf"))) teach.take(files);
  else if (files.length > 0) openFile(/** @type {File} */ (joined(files)));
});

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
  if (field.id === "system") measure();
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
keepBox.addEventListener("change", () => {
  settings.keep = keepBox.checked;
  save();
});
at("probe").addEventListener("click", () => probe());

// The panel is a drawer on narrow screens.
const narrow = matchMedia("(max-width: 60rem)");
const panel = at("panel");
const toggle = at("panel-toggle");
function arrange(open = false) {
  const drawer = narrow.matches;
  panel.classList.toggle("open", drawer && open);
  panel.inert = drawer && !open;
  for (const node of document.querySelectorAll("main")) node.inert = drawer && open;
  toggle.setAttribute("aria-expanded", String(drawer && open));
  toggle.textContent = drawer && open ? "Close" : "Student";
}
function closePanel() {
  if (narrow.matches && panel.classList.contains("open")) {
    arrange(false);
    toggle.focus();
  }
}
toggle.addEventListener("click", () => arrange(!panel.classList.contains("open")));
narrow.addEventListener("change", () => arrange(false));
addEventListener("keydown", (event) => {
  if (event.key === "Escape") closePanel();
});

// ----------------------------------------------------------------------------------------------------- start

showSettings();
arrange();
// A question that was on its way when the page was closed goes back into the box.
if (messages.at(-1)?.role === "user") {
  const question = /** @type {Message} */ (messages.pop());
  prompt.value ||= question.content;
}
view.render(messages);
grow();
if (!narrow.matches) prompt.focus();
inTurn(boot);
