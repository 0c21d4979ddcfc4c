// @ts-check
// Chat completions and completions: their settings, their shapes, and streams of their chunks.
import { UnderstudyError, aborted } from "./errors.js";

/**
 * What a choice has come to, for the parts of a chunk that count. @typedef {{ calls: number, characters: number }} Progress
 * @typedef {{ id: string, object: string, chunk: string, request: (body: any) => any, choice: (result: any) => any,
 *   piece: (delta: any, progress: Progress) => any }} Shape
 */

const MOST_CHOICES = 128;
const SEEDS = 2 ** 32;

/** @param {string} what @param {string} hint */
const refused = (what, hint) => new UnderstudyError("bad-request", `The request cannot be served: ${what}.`, hint);

/** Settings that the engine knows by the same name. */
const PASSED = ["temperature", "top_k", "typical_p", "top_p", "min_p", "seed", "stop", "response_format", "presence_penalty", "frequency_penalty", "repeat_last_n",
  "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers", "logit_bias", "tools", "tool_choice"];
const KNOWN = new Set([...PASSED, "messages", "prompt", "model", "user", "n", "max_tokens", "max_completion_tokens", "repeat_penalty", "repetition_penalty",
  "logprobs", "top_logprobs", "enable_thinking", "chat_template_kwargs", "ignore_eos", "stream_options", "store", "metadata"]);
/** Settings of other servers that change nothing with these values, and are not served with any other. */
const OFF = { parallel_tool_calls: [true], echo: [false], best_of: [1] };

/** @param {any} body */
function settings(body) {
  for (const [name, value] of Object.entries(body)) {
    const off = /** @type {any} */ (OFF)[name];
    if (value == null || (off ? off.includes(value) : KNOWN.has(name))) continue;
    throw refused(`${name} is not known here`, "Leave this setting out and send again.");
  }
  const all = {
    ...Object.fromEntries(PASSED.map((name) => [name, body[name]])),
    max_tokens: body.max_tokens ?? body.max_completion_tokens,
    repeat_penalty: body.repeat_penalty ?? body.repetition_penalty,
    enable_thinking: body.enable_thinking ?? body.chat_template_kwargs?.enable_thinking,
    ignore_end: body.ignore_eos,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value != null));
}

/** @param {any} content */
function textOf(content) {
  if (typeof content === "string") return content;
  if (Array.isArray(content) && content.every((part) => part?.type === "text" && typeof part.text === "string")) return content.map((part) => part.text).join("");
  throw refused("a message's content must be text", "Send text only.");
}

/** A message as the engine takes it. @param {any} message */
export function messageOf({ role, content, tool_calls, tool_call_id, name }) {
  const calls = Array.isArray(tool_calls) && tool_calls.length > 0;
  return {
    role: role === "developer" ? "system" : String(role),
    content: content == null && calls ? "" : textOf(content),
    ...(calls ? { tool_calls } : {}),
    ...(role === "tool" ? { tool_call_id, ...(name == null ? {} : { name }) } : {}),
  };
}

/** @type {Shape} */
export const CHAT = {
  id: "chatcmpl", object: "chat.completion", chunk: "chat.completion.chunk",
  request(body) {
    if (!Array.isArray(body.messages) || body.messages.length === 0) {
      throw refused("messages must be a list with at least one message", "Add a message and send again.");
    }
    const { logprobs = false, top_logprobs } = body;
    if (typeof (logprobs ?? false) !== "boolean") throw refused("logprobs is true or false; how many alternatives are told is top_logprobs", "Correct the setting and send again.");
    if (!logprobs && top_logprobs != null) throw refused("top_logprobs goes with logprobs: true", "Correct the setting and send again.");
    return { ...settings(body), ...(logprobs ? { logprobs: top_logprobs ?? 0 } : {}), messages: body.messages.map(messageOf) };
  },
  choice: ({ content, reasoning, calls, logprobs, finish_reason }) => ({
    message: {
      role: "assistant", content: calls.length > 0 && !content ? null : content,
      ...(reasoning ? { reasoning_content: reasoning } : {}),
      ...(calls.length > 0 ? { tool_calls: calls } : {}),
    },
    logprobs: logprobs ? { content: logprobs, refusal: null } : null,
    finish_reason,
  }),
  piece({ content, reasoning, calls = [], logprobs = [] }, progress) {
    const tool_calls = calls.map((/** @type {any} */ call) => ({ index: progress.calls++, ...call }));
    return {
      delta: { ...(content ? { content } : {}), ...(reasoning ? { reasoning_content: reasoning } : {}), ...(calls.length > 0 ? { tool_calls } : {}) },
      ...(logprobs.length > 0 ? { logprobs: { content: logprobs, refusal: null } } : {}),
    };
  },
};

/** Log-probabilities as completions have them. @param {any[]} list @param {Progress} progress */
function legacy(list, progress) {
  const text_offset = list.map(({ bytes }) => {
    const begin = progress.characters;
    // A character begins with every byte that does not go on with one.
    progress.characters += bytes.filter((/** @type {number} */ byte) => (byte & 0xc0) !== 0x80).length;
    return begin;
  });
  const top = list.map(({ top_logprobs }) => {
    /** @type {Record<string, number>} */ const all = {};
    // Of two tokens with the same text the likelier one counts.
    for (const { token, logprob } of top_logprobs) all[token] ??= logprob;
    return all;
  });
  return { tokens: list.map(({ token }) => token), token_logprobs: list.map(({ logprob }) => logprob), top_logprobs: top, text_offset };
}

/** @type {Shape} */
export const TEXT = {
  id: "cmpl", object: "text_completion", chunk: "text_completion",
  request(body) {
    if (typeof body.prompt !== "string") throw refused("prompt must be text", "Pass a prompt and send again.");
    for (const name of ["tools", "tool_choice", "top_logprobs"]) {
      if (body[name] != null) throw refused(`${name} goes with messages`, "Leave this setting out and send again.");
    }
    const { logprobs } = body;
    return { ...settings(body), ...(logprobs == null || logprobs === false ? {} : { logprobs }), prompt: body.prompt };
  },
  choice: ({ content, logprobs, finish_reason }) => ({ text: content, logprobs: logprobs ? legacy(logprobs, { calls: 0, characters: 0 }) : null, finish_reason }),
  piece: ({ content, logprobs = [] }, progress) => ({ text: content ?? "", ...(logprobs.length > 0 ? { logprobs: legacy(logprobs, progress) } : {}) }),
};

/** The requests of a body: one for each choice, with seeds one after another. @param {Shape} shape @param {any} body @returns {any[]} */
function requests(shape, body) {
  const { n } = body;
  if (n != null && !(Number.isInteger(n) && n >= 1 && n <= MOST_CHOICES)) {
    throw refused(`n is a whole number from 1 to ${MOST_CHOICES}`, "Correct the setting and send again.");
  }
  const request = shape.request(body);
  if ((n ?? 1) === 1) return [request];
  const seed = request.seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
  const after = (/** @type {number} */ i) => (seed < SEEDS && seed + i >= SEEDS ? seed + i - SEEDS : seed + i);
  return Array.from({ length: n }, (_, i) => ({ ...request, seed: after(i) }));
}

/** What is told of the choices together. @param {any[]} results */
function extras(results) {
  const sum = (/** @type {(result: any) => number} */ of) => results.reduce((all, result) => all + of(result), 0);
  const { prompt_tokens, cached_tokens } = results[0].usage;
  const completion_tokens = sum(({ usage }) => usage.completion_tokens);
  const prompt_ms = sum(({ timings }) => timings.prompt_ms);
  const predicted_ms = sum(({ timings }) => timings.predicted_ms);
  return {
    usage: { prompt_tokens, cached_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens, prompt_tokens_details: { cached_tokens } },
    timings: {
      prompt_ms, predicted_ms,
      prompt_per_second: sum(({ timings }) => timings.prompt_ms * timings.prompt_per_second) / prompt_ms,
      predicted_per_second: sum(({ timings }) => timings.predicted_ms * timings.predicted_per_second) / predicted_ms,
    },
    context: results[results.length - 1].context,
    ids: results.flatMap(({ ids }) => ids),
  };
}

/** @param {Shape} shape @param {any} student */
const stamp = (shape, student) => ({
  id: `${shape.id}-${crypto.randomUUID()}`, object: shape.object, created: Math.floor(Date.now() / 1000), model: student.details.name,
});

/** A signal of our own that ends with the caller's. @param {AbortSignal} [signal] */
function control(signal) {
  const own = new AbortController();
  const abort = () => own.abort();
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort, { once: true });
  return { own, release: () => signal?.removeEventListener("abort", abort) };
}

/**
 * All choices of a body, asked for at once, so that they are answered one behind the other and share their prompt's work.
 * @param {any} student @param {Shape} shape @param {any} body @param {AbortSignal} signal @param {(index: number) => any} [listeners]
 * @returns {Promise<any>[]}
 */
function ask(student, shape, body, signal, listeners = () => ({})) {
  const answers = requests(shape, body).map((request, index) => student.generate(request, { signal, ...listeners(index) }));
  // Whoever waits hears of the first failure; those of the others are the same or its consequence.
  for (const answer of answers) answer.catch(() => {});
  return answers;
}

/** @param {any} student @param {any} body @param {any} options @param {Shape} shape */
export function create(student, body, options, shape) {
  const { stream = false, signal = options?.signal, ...rest } = body ?? {};
  if (stream) return new CompletionStream(student, shape, rest, signal);
  return (async () => {
    const { own, release } = control(signal);
    try {
      const results = await Promise.all(ask(student, shape, rest, own.signal));
      if (signal?.aborted) throw aborted();
      return { ...stamp(shape, student), choices: results.map((result, index) => ({ index, ...shape.choice(result) })), ...extras(results) };
    } catch (error) {
      own.abort();
      throw error;
    } finally {
      release();
    }
  })();
}

/**
 * A streamed answer: an async iterator of chunks. The last chunk of each choice carries its finish_reason, the last of all usage,
 * timings and context. `stop()` ends it early with what there is; leaving the loop ends it too; an aborted signal throws "aborted".
 * After a lost device the answer goes on by itself; should it come out differently, one chunk has `restart: true`,
 * and everything before it of this choice is to be forgotten.
 */
class CompletionStream {
  stopped = false;
  /** @type {(() => void) | null} */ wake = null;

  /** @param {any} student @param {Shape} shape @param {any} body @param {AbortSignal} [signal] */
  constructor(student, shape, body, signal) {
    /** @type {any[]} */ this.chunks = [];
    this.done = false;
    /** @type {any} The first choice. */ this.result = null;
    const { own, release } = control(signal);
    this.control = own;
    const head = { ...stamp(shape, student), object: shape.chunk };
    const push = (/** @type {any} */ chunk) => {
      this.chunks.push(chunk);
      this.wake?.();
    };
    /** @type {Progress[]} */ const progress = [];
    const piece = (/** @type {number} */ index, /** @type {any} */ delta, /** @type {any} */ finish = null) => {
      progress[index] ??= { calls: 0, characters: 0 };
      return { ...head, choices: [{ index, ...shape.piece(delta, progress[index]), finish_reason: finish }] };
    };
    const listeners = (/** @type {number} */ index) => ({
      onDelta: (/** @type {any} */ delta) => push({ ...piece(index, delta), tokens: delta.tokens }),
      onPrompt: (/** @type {number[]} */ [processed, total]) => push({ ...piece(index, {}), prompt_progress: { processed, total } }),
      onRestart: () => {
        delete progress[index];
        push({ ...piece(index, {}), restart: true });
      },
    });
    (async () => {
      /** @type {any[]} */ const results = [];
      try {
        const answers = ask(student, shape, body, own.signal, listeners);
        for (const answer of answers) {
          const result = await answer;
          if (signal?.aborted) throw aborted();
          this.result ??= result;
          const isLast = results.push(result) === answers.length || result.finish_reason === "abort";
          push({ ...piece(results.length - 1, {}, result.finish_reason), ...(isLast ? extras(results) : {}) });
          if (isLast) break;
        }
      } catch (error) {
        const known = UnderstudyError.from(error);
        own.abort();
        if (known.code === "aborted" && this.stopped && !signal?.aborted) push(piece(results.length, {}, "abort"));
        else push(known);
      }
      release();
      this.done = true;
      this.wake?.();
    })();
  }

  /** Ends the answer early and keeps what there is. */
  stop() {
    this.stopped = true;
    this.control.abort();
  }

  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        while (this.chunks.length > 0) {
          const chunk = this.chunks.shift();
          if (chunk instanceof UnderstudyError) throw chunk;
          yield chunk;
        }
        if (this.done) return;
        await new Promise((resolve) => (this.wake = () => resolve(undefined)));
      }
    } finally {
      if (!this.done) this.stop();
    }
  }
}
