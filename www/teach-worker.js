// @ts-check
// The teach worker: owns the Teacher (wasm), reads traces into it, runs the training between calls, keeps checkpoints,
// and goes on from the last one when the device is lost. Started from a blob: URL like the chat worker, under the
// same policy; everything it needs comes to it by message.

import { zipSync } from "../vendor/fflate.js";
import { Shelf } from "./shelf.js";
import { isAborted, isCrash, notify, post, prepareDevice, reader, serve, serveWaiting, stopped } from "./worker-base.js";

/** @typedef {import("./worker-base.js").Call} Call */

const PIECE = 1 << 20;

/** @type {any} */ let glue = null;
/** @type {any} */ let teacher = null;
/** @type {any} */ let deviceOptions = {};
/** The student that is taught. @type {Blob} */ let student;
/** Positions that it answers with. @type {number | undefined} */ let context;

/** The traces as they were read, for reading them again. @type {{ files: File[], options: any } | null} */ let traces = null;

/**
 * The training under way. `checkpoint` is the last one as bytes, whether or not it could be kept in storage.
 * @typedef {{ settings: any, generic: any[], every: number, measure: number, keep?: { folder: string, about?: any },
 *   prepared: any, step: number, curve: any[], checkpoint: Blob | null, kept: boolean, full?: boolean }} Training
 */
/** @type {Training | null} */ let training = null;

let pausing = false;
let savingSoon = false;

/** A moment for messages. */
const moment = () => new Promise((resolve) => setTimeout(resolve));

/** @param {Call} call */
const progressOf = (call) => (/** @type {number} */ loaded, /** @type {number} */ total, /** @type {string} */ phase) => {
  if (call.id < 0) notify("progress", { progress: { loaded, total, phase } });
  else post({ id: call.id, progress: { loaded, total, phase } });
};

/** Calls that the worker makes to itself. @type {Call} */
const OWN = { id: -1, type: "own", args: {} };

/** @param {Call} call */
async function readTraces(call) {
  const { files, options } = /** @type {NonNullable<typeof traces>} */ (traces);
  const total = files.reduce((sum, { size }) => sum + size, 0);
  const progress = progressOf(call);
  let loaded = 0;
  teacher.begin(options);
  for (const file of files) {
    for (let at = 0; at < file.size; at += PIECE) {
      const piece = await reader(file, call)(at, PIECE);
      teacher.push(piece);
      loaded += piece.length;
      progress(loaded, total, "traces");
      await moment();
    }
    teacher.endFile(file.name);
  }
  return teacher.finish();
}

/** Uploads, compiles, measures; and goes on from a checkpoint where there is one. @param {Call} call */
async function prepare(call) {
  const now = /** @type {Training} */ (training);
  now.prepared = await teacher.prepare(now.settings, now.generic, progressOf(call));
  now.step = now.checkpoint ? await teacher.resume(new Uint8Array(await now.checkpoint.arrayBuffer())) : 0;
  now.curve = now.curve.filter(({ step }) => step <= now.step);
  return now.prepared;
}

/** What a page that opens again needs to go on. @param {Training} now */
const record = ({ settings, curve, keep, step }) => JSON.stringify({
  format: 1, settings, step, curve, files: traces?.files.map(({ name, size }) => ({ name, size })), read: traces?.options, about: keep?.about ?? {},
});

/** Keeps the traces themselves, so that the training can go on in a page that opens again. @param {Training} now */
async function keepTraces(now) {
  if (!now.keep || !traces) return;
  const shelf = new Shelf(now.keep.folder);
  try {
    await shelf.clear();
    for (const [number, file] of traces.files.entries()) await shelf.write(`traces-${number}`, file);
    now.kept = true;
  } catch (/** @type {any} */ error) {
    notify("not-kept", { message: `The traces were not copied into this browser: ${error.message}`, hint: "Training goes on; if this page is closed, it cannot be continued." });
  }
}

async function saveCheckpoint() {
  const now = /** @type {Training} */ (training);
  savingSoon = false;
  const checkpoint = new Blob([await teacher.checkpoint()]);
  now.checkpoint = checkpoint;
  let kept = false;
  if (now.keep && now.kept) {
    const shelf = new Shelf(now.keep.folder);
    try {
      // The record first: a curve that is longer than the checkpoint is cut to it, a shorter one would have a gap.
      await shelf.write("training.json", record(now));
      await shelf.write("checkpoint", checkpoint);
      kept = true;
      now.full = false;
    } catch (/** @type {any} */ error) {
      // Said once, not at every checkpoint that follows.
      if (!now.full) notify("not-kept", { message: `The checkpoint of step ${now.step} was not kept: ${error.message}`, hint: `Training goes on, and nothing is lost while this page stays open. ${error.hint}` });
      now.full = true;
    }
  }
  notify("checkpoint", { step: now.step, checkpoint, curve: now.curve, kept });
}

/** @type {Record<string, (call: Call) => Promise<any>>} */
const work = {
  async start(call) {
    glue = await import(call.args.glue);
    await glue.default({ module_or_path: call.args.wasm });
    deviceOptions = await prepareDevice(call.args.options);
    ({ student, context } = call.args);
    teacher = await glue.Teacher.create(deviceOptions);
    const info = await teacher.open(reader(student, call), student.size, context);
    return { device: teacher.device(), student: info };
  },

  async movedTo(call) {
    student = call.args.student;
  },

  async read(call) {
    training = null;
    traces = { files: call.args.files, options: call.args.options };
    try {
      return await readTraces(call);
    } catch (error) {
      traces = null;
      throw error;
    }
  },

  async preview(call) {
    return teacher.preview(call.args.row);
  },

  async defaults() {
    return teacher.defaults();
  },

  async plan(call) {
    return teacher.plan(call.args.settings);
  },

  /** After a crash, in a new worker: everything as it was at the last checkpoint. */
  async restore(call) {
    traces = call.args.traces;
    training = call.args.training;
    if (traces) await readTraces(call);
    if (training) await prepare(call);
  },

  /** Begins a training. */
  async begin(call) {
    const { settings, generic, every, measure, keep, checkpoint = null, curve = [] } = call.args;
    /** @type {Training} */
    const now = { settings, generic, every, measure, keep, prepared: null, step: 0, curve, checkpoint, kept: checkpoint !== null };
    training = now;
    const prepared = await prepare(call);
    if (!now.kept) {
      await keepTraces(now);
      // A page that is closed before the first steps are kept goes on from here.
      await saveCheckpoint();
    }
    return { prepared, step: now.step, curve: now.curve };
  },

  /** Goes on with it until its last step, or until it is told to pause. Calls that come in are answered between steps. */
  async run(call) {
    const now = /** @type {Training} */ (training);
    pausing = false;
    while (now.step < now.settings.steps && !pausing) {
      if (isAborted(call)) throw stopped();
      const begun = performance.now();
      const report = await teacher.step();
      now.step = report.step;
      report.ms = performance.now() - begun;
      const last = now.step === now.settings.steps;
      if (last || now.step % now.measure === 0) report.held_out = await teacher.measure();
      now.curve.push(report);
      post({ id: call.id, step: report });
      if (last || savingSoon || now.step % now.every === 0) await saveCheckpoint();
      await moment();
      await serveWaiting(perform);
    }
    if (pausing && now.step % now.every !== 0) await saveCheckpoint();
    return { step: now.step, finished: now.step >= now.settings.steps };
  },

  async verdict() {
    return teacher.verdict();
  },

  async insight(call) {
    return teacher.insight(call.args.row);
  },

  async heldOutPrompts(call) {
    return teacher.heldOutPrompts(call.args.count);
  },

  async sampleIds(call) {
    return teacher.sampleIds(call.args.count);
  },

  async logits(call) {
    return teacher.logits(Uint32Array.from(call.args.ids));
  },

  async export(call) {
    const { gguf, peft, card } = await teacher.export(call.args.about);
    if (!peft) return { gguf: new Blob([gguf]), peft: null, card };
    const files = { "adapter_config.json": [new TextEncoder().encode(peft.config), { level: 6 }], "adapter_model.safetensors": [peft.weights, { level: 0 }] };
    return { gguf: new Blob([gguf]), peft: new Blob([zipSync(files, {})], { type: "application/zip" }), card };
  },

  async memory() {
    return teacher.memory();
  },

  /** Test hook: loses the device as a driver reset would. */
  async destroyDevice() {
    teacher.destroyDevice();
  },
};

function isLost() {
  try {
    return teacher?.deviceLost() === true;
  } catch {
    return false;
  }
}

/** A new device, the same student and traces on it, and the training as it was at its last checkpoint. @param {any} reason */
async function rebuild(reason) {
  notify("device-lost", { message: reason.message, hint: "The student is set up again; the training then goes on from its last checkpoint." });
  try {
    teacher.free?.();
  } catch {
    // The lost teacher may still be borrowed by its last call; a new one takes its place all the same.
  }
  deviceOptions = await prepareDevice(deviceOptions);
  teacher = await glue.Teacher.create(deviceOptions);
  await teacher.open(reader(student, OWN), student.size, context);
  if (traces) await readTraces(OWN);
  if (training?.prepared) await prepare(OWN);
  notify("device-rebuilt", { device: teacher.device(), step: training?.step, curve: training?.curve });
}

/** @param {Call} call */
async function perform(call) {
  let failures = 0;
  let reached = -1;
  for (;;) {
    try {
      if (isAborted(call)) throw stopped();
      return await work[call.type](call);
    } catch (/** @type {any} */ error) {
      const lost = !isCrash(error) && (error?.code === "device-lost" || isLost());
      // A device that is lost again before the training came further is not worth a third try.
      failures = training && training.step > reached ? 1 : failures + 1;
      reached = training?.step ?? reached;
      if (!lost || failures > 2 || call.type === "start") throw error;
      await rebuild(error);
      if (call.type === "destroyDevice") return;
    }
  }
}

serve(perform, (data, busy) => {
  if (data.type === "pause") pausing = true;
  else if (data.type === "save") savingSoon = training !== null;
  else if (data.type === "destroyDevice" && busy) {
    teacher.destroyDevice();
    post({ id: data.id, result: undefined });
  } else return false;
  return true;
});
