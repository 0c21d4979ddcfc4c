/** Types of the Understudy JavaScript API (understudy.js). */

export type Code =
  | "not-gguf" | "gguf-version" | "truncated-file" | "malformed-file" | "split-file" | "unsupported" | "tokenizer" | "template"
  | "does-not-fit" | "prompt-too-long" | "bad-request" | "format" | "no-device" | "device-lost" | "device" | "busy" | "aborted" | "state"
  | "no-student" | "io" | "adapter" | "crashed" | "export-differs" | "not-kept" | "internal";

/** Everything that is thrown: a stable code, a sentence, and a sentence saying what to do next. */
export class UnderstudyError extends Error {
  constructor(code: Code, message: string, hint?: string);
  readonly code: Code;
  readonly hint: string;
  /** Whatever was thrown, as one of these. */
  static from(error: unknown): UnderstudyError;
}

/** Of a split student all parts, in any order. */
export type Source = File | Blob | URL | string | (File | Blob)[];

export interface Progress {
  /** What is happening: the engine or the student is fetched, the student is read and prepared, or (when teaching) traces are
   *  read and the untaught student is measured. */
  phase: "engine" | "download" | "header" | "weights" | "pipelines" | "traces" | "measure";
  /** Bytes so far, and in all where that is known. */
  loaded: number;
  total?: number;
}

export interface EngineOptions {
  /** Where the site's files are: the folder that holds www/ and wasm/. Default: beside this module. */
  assets?: string | URL;
  /** Download through the hidden loader frame. Default: when the page's own policy has connect-src 'none'. */
  loader?: boolean;
  /** "off" uses the CPU engine; "on" teaches on a WebGPU adapter in software too, where the CPU engine is faster. Default "auto". */
  gpu?: "auto" | "off" | "on";
  /** false leaves this feature unused even where the device has it. */
  subgroups?: boolean;
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

export interface OpenOptions {
  /** Tokens of context to make room for. Default: what the student was trained with and the device has room for. */
  context?: number;
  /** How keys and values are kept. Default "auto": the widest of f32, f16 and q8 (8 bits) with which the context fits. */
  cache?: "auto" | "f32" | "f16" | "q8";
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

export interface Device {
  kind: "webgpu" | "cpu";
  /** The device in one sentence. */
  words: string;
  vendor: string;
  tier: string;
  limits: Record<string, number>;
  notes: string[];
}

/** What the file says about where it comes from; absent where the file is silent. */
export interface Provenance {
  name?: string;
  author?: string;
  organization?: string;
  license?: string;
  license_link?: string;
  description?: string;
  base_models: { name?: string; organization?: string; repo_url?: string }[];
  datasets: { name?: string; organization?: string; repo_url?: string }[];
  tags: string[];
  languages: string[];
  quantized_by?: string;
  quantization?: string;
  url?: string;
  distilled?: string;
}

/** What a file is and whether it fits, all sizes in bytes. */
export interface Plan {
  name: string;
  architecture: string;
  parameters: number;
  weights_bytes: number;
  cache_bytes: number;
  scratch_bytes: number;
  total_bytes: number;
  available_bytes: number;
  context: number;
  context_trained: number;
  cache_type: "f32" | "f16" | "q8";
  fits: boolean;
  /** The plan in a sentence. */
  words: string;
  /** What would fit, where this does not. */
  suggestion?: string | null;
  /** Weights of each block type. */
  block_types: Record<string, number>;
  /** Block types that the GPU has in a wider layout, each in a sentence with its bytes. */
  repacked: string[];
  provenance: Provenance;
}

export interface Info extends Plan {
  vocabulary: number;
  layers: number;
  template: "file" | "default";
  thinks: boolean;
  device: string;
}

type Content = string | { type: "text"; text: string }[];

export type Message =
  | { role: "system" | "developer" | "user"; content: Content }
  /** `content` may be null beside calls. */
  | { role: "assistant"; content: Content | null; tool_calls?: ToolCall[] }
  | { role: "tool"; tool_call_id: string; content: Content; name?: string };

/** A function that the student may call. */
export interface Tool {
  type: "function";
  function: { name: string; description?: string; parameters?: object };
}

/** `arguments` is an object in JSON, as text. Ids tell the calls of one chat apart. */
export interface ToolCall {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

/** "required", or a function by name: the answer is one call. It can be had of students that write calls as JSON. */
export type ToolChoice = "auto" | "none" | "required" | { type: "function"; function: { name: string } };

/** A token with the natural logarithm of its probability. `bytes` are what it adds to the text: perhaps part
 *  of a character, nothing for a control token. */
export interface TokenLogprob {
  token: string;
  bytes: number[];
  logprob: number;
}

/**
 * Every token of the answer and of its reasoning, but the end. The probability is the student's own, softmax of its logits: before
 * temperature, filters, penalties, biases and forms.
 */
export interface Logprobs {
  content: (TokenLogprob & { top_logprobs: TokenLogprob[] })[];
  refusal: null;
}

/** The same in the shape of completions. `text_offset` counts characters of the answer. */
export interface TextLogprobs {
  tokens: string[];
  token_logprobs: number[];
  top_logprobs: Record<string, number>[];
  text_offset: number[];
}

export type ResponseFormat =
  | { type: "text" }
  | { type: "json_object" }
  | { type: "json_schema"; json_schema: { name?: string; description?: string; strict?: boolean | null; schema: object } }
  /** Matched from end to end; without look-around and back references. */
  | { type: "regex"; regex: string }
  /** In Lark's notation, with a rule `start`. */
  | { type: "grammar"; grammar: string };

export interface Sampling {
  max_tokens?: number;
  max_completion_tokens?: number;
  /** 0 takes the likeliest token every time. */
  temperature?: number;
  /** Filters apply in this order: top_k, typical_p, top_p, min_p. */
  top_k?: number;
  /** 0 to 1; 1 is off. */
  typical_p?: number;
  top_p?: number;
  min_p?: number;
  /** Of `n` choices each has a seed of its own: this one, the next, and so on. */
  seed?: number;
  /** 1 to 128 choices, answered one after another. Default 1. */
  n?: number;
  /** Token ids with what is added to their logits, -100 to 100. */
  logit_bias?: Record<string, number>;
  /** 0.1 to 10; 1 is off. Also as `repetition_penalty`. Penalties see the last tokens of the prompt and of the answer. */
  repeat_penalty?: number;
  repetition_penalty?: number;
  /** -2 to 2; 0 is off. */
  presence_penalty?: number;
  frequency_penalty?: number;
  /** How many of the last tokens the three see; -1 is all. Default 64. */
  repeat_last_n?: number;
  /** DRY: tokens that would go on with a sequence which came before are made less likely. 0 is off. */
  dry_multiplier?: number;
  /** Default 1.75. */
  dry_base?: number;
  /** Sequences shorter than so many tokens may repeat. Default 2. */
  dry_allowed_length?: number;
  /** How many of the last tokens it sees; -1 is all, and the default. */
  dry_penalty_last_n?: number;
  /** Sequences do not reach over these. Default: line ends, colons, quotes and stars. */
  dry_sequence_breakers?: string[];
  stop?: string | string[];
  /**
   * The form of the answer. An answer that ends with finish_reason "stop" has it, unless a string of `stop` cut it; one that
   * ends with "length" is its beginning. A form that cannot be had is an error of code "format".
   */
  response_format?: ResponseFormat;
  enable_thinking?: boolean;
  /** Goes on after the student's end token, until max_tokens. */
  ignore_eos?: boolean;
  /** Accepted for the sake of other clients, and ignored. */
  model?: string;
  signal?: AbortSignal;
}

/** "length": `max_tokens` were drawn, or the context is full (then `context.used` is `context.size - 1`). */
export type FinishReason = "stop" | "length" | "tool_calls" | "abort";

export interface Extras {
  usage: {
    prompt_tokens: number;
    completion_tokens: number;
    total_tokens: number;
    cached_tokens: number;
    prompt_tokens_details: { cached_tokens: number };
  };
  timings: { prompt_ms: number; predicted_ms: number; prompt_per_second: number; predicted_per_second: number };
  context: { used: number; size: number };
  /** The generated tokens, of all choices one behind another. */
  ids: number[];
}

interface Stamp<O extends string> {
  id: string;
  object: O;
  created: number;
  model: string;
}

export interface ChatCompletion extends Stamp<"chat.completion">, Extras {
  choices: {
    index: number;
    /** `content` is null where there is nothing but calls. */
    message: { role: "assistant"; content: string | null; reasoning_content?: string; tool_calls?: ToolCall[] };
    logprobs: Logprobs | null;
    finish_reason: FinishReason;
  }[];
}

export interface ChatCompletionChunk extends Stamp<"chat.completion.chunk">, Partial<Extras> {
  /** One. A call comes whole. */
  choices: {
    index: number;
    delta: { content?: string; reasoning_content?: string; tool_calls?: (ToolCall & { index: number })[] };
    logprobs?: Logprobs;
    finish_reason: FinishReason | null;
  }[];
  /** Tokens generated so far. */
  tokens?: number;
  /** Before the first token: how much of the prompt has been read. */
  prompt_progress?: { processed: number; total: number };
  /** After a lost device the answer came out differently: forget what came of this choice before this chunk. */
  restart?: true;
}

export interface Completion extends Stamp<"text_completion">, Extras {
  choices: { index: number; text: string; logprobs: TextLogprobs | null; finish_reason: FinishReason }[];
}

export interface CompletionChunk extends Stamp<"text_completion">, Partial<Extras> {
  choices: { index: number; text: string; logprobs?: TextLogprobs; finish_reason: FinishReason | null }[];
  tokens?: number;
  restart?: true;
}

export interface CompletionStream<C> extends AsyncIterable<C> {
  /** Ends the answer early and keeps what there is: the last chunk has finish_reason "abort". */
  stop(): void;
}

/** What a chat's prompt depends on besides its messages. */
export interface PromptOptions {
  /** Shown by the student's chat template; one that leaves them out is an error. */
  tools?: Tool[];
  /** Default "auto". With "none" the student is not shown the tools. */
  tool_choice?: ToolChoice;
  enable_thinking?: boolean;
  signal?: AbortSignal;
}

export interface ChatBody extends Sampling, PromptOptions {
  messages: Message[];
  logprobs?: boolean;
  /** 0 to 20 alternatives for each token, with `logprobs: true`. */
  top_logprobs?: number;
}

/** A raw continuation: no template, only the beginning-of-sequence token where the student has one. */
export interface TextBody extends Sampling {
  prompt: string;
  /** 0 to 20 alternatives for each token. */
  logprobs?: number;
}

export interface Notice {
  kind: "device-lost" | "device-rebuilt" | "engine-crashed" | "engine-restarted" | "engine-failed" | "progress" | "requests" | "blocked";
  message?: string;
  hint?: string;
  progress?: Progress;
  device?: Device;
  /** kind "requests": addresses that the worker asked for; kind "blocked": what the policy refused it. */
  names?: string[];
  directive?: string;
  uri?: string;
}

interface Noticing extends EventTarget {
  addEventListener(type: "notice", listener: (event: CustomEvent<Notice>) => void, options?: AddEventListenerOptions): void;
}

/** An adapter that is attached to a student: the change that training made. */
export interface Adapter {
  readonly name: string;
  /** 0 is off, 1 as it was trained. */
  readonly scale: number;
  /** What the file says, and what it holds. */
  readonly details: { name: string; rank: number; alpha: number; matrices: number; parameters: number; provenance: Provenance };
  /** Nothing is loaded again; the next answer has it. */
  setScale(scale: number): Promise<void>;
  detach(): Promise<void>;
}

/** Calls are answered one after the other, in the order in which they were made. */
export interface Student extends Noticing {
  readonly chat: {
    completions: {
      create(body: ChatBody & { stream: true }, options?: { signal?: AbortSignal }): CompletionStream<ChatCompletionChunk>;
      create(body: ChatBody & { stream?: false }, options?: { signal?: AbortSignal }): Promise<ChatCompletion>;
    };
  };
  readonly completions: {
    create(body: TextBody & { stream: true }, options?: { signal?: AbortSignal }): CompletionStream<CompletionChunk>;
    create(body: TextBody & { stream?: false }, options?: { signal?: AbortSignal }): Promise<Completion>;
  };
  /** Calls made on the device so far, and bytes of wasm memory: for measurements. */
  measure(): Promise<{ counts: Record<string, number>; memory: number }>;
  /** Lays an adapter beside the weights: a GGUF adapter, or both files of a PEFT folder. Several add up. */
  attach(source: Source | ArrayBuffer | ArrayBufferView | { config: string | object; weights: Source | ArrayBuffer | ArrayBufferView },
    options?: { scale?: number; signal?: AbortSignal }): Promise<Adapter>;
  readonly adapters: Adapter[];
  /**
   * The conversation so far as the engine knows it: a prompt that begins with it is answered without reading that part again. It
   * takes what the cache takes for its tokens, and serves the same file, opened the same way, with the same adapters at the same scales.
   */
  saveState(): Promise<Blob>;
  /** Resolves to the tokens that are known again; "state" where it belongs elsewhere, and what was known stays then. */
  restoreState(state: Blob): Promise<number>;
  /** Logits after each token, row-major (tokens, vocabulary). Nothing is added to `ids`. */
  logits(ids: ArrayLike<number>, options?: { signal?: AbortSignal }): Promise<Float32Array>;
  tokenize(text: string, options?: { add_special?: boolean; parse_special?: boolean; signal?: AbortSignal }): Promise<Uint32Array>;
  /** Tokens that this chat would take as a prompt. */
  count(messages: Message[], options?: PromptOptions): Promise<number>;
  /** The prompt of this chat to the letter, control tokens included. */
  prompt(messages: Message[], options?: PromptOptions): Promise<string>;
  /** SHA-256 of the student's file, in hexadecimal digits; the whole file is read for it, once. */
  sha256(options?: { signal?: AbortSignal }): Promise<string>;
  /**
   * Teaches this student from a teacher's answers in one go, on a worker and a device of its own; the chat stays usable.
   * Iterate it for step reports; afterwards `adapter` is what was learned, ready for `attach`.
   */
  distill(traces: Traces, options?: DistillOptions): Distillation;
  /** The same, part by part: read, preview, plan, run, verdict, export. */
  teaching(options?: TeachingOptions): Promise<Teaching>;
  info(): Info;
  readonly plan: Info;
  readonly device: Device;
  readonly closed: boolean;
  /** Reads the student from this Blob should the device be lost later on. */
  movedTo(blob: Blob): Promise<void>;
  /** For tests: destroys the GPU device under the student, as a driver reset would. */
  destroyDevice(): Promise<void>;
  close(): Promise<void>;
}

// ----------------------------------------------------------------------------------------------- teaching

/** Teacher traces: files of JSON Lines, in any of the formats that docs/FORMATS.md lists, several formats mixed if need be. */
export type Traces = File | Blob | (File | Blob)[] | FileList;

export interface ReadOptions {
  /** What is done with the teacher's reasoning: learn it, leave it out, or keep so many characters from its end. Default "keep". */
  reasoning?: "keep" | "strip" | number;
  /** Longest lesson in tokens; what is beyond is cut. Default: what the student was trained with and the device has room for. */
  longest?: number;
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

/** What was understood of the traces. */
export interface TraceReport {
  /** The report in words. */
  sentences: string[];
  files: { name: string; lines: number; rows: number; rejected: number; format?: string | null; unreadable?: string | null }[];
  rows: number;
  rejected: number;
  /** Rejected lines with their reasons, 200 at most; `file` is an index into `files`. */
  listed: { file: number; line: number; code: string; sentence: string }[];
  /** Rows that can be taught. */
  lessons: number;
  /** Rows that are no lesson for this student, 200 at most. */
  unfit: { file: number; line: number; sentence: string }[];
  tokens: number;
  /** Tokens that are learned. */
  trained: number;
  cut_rows: number;
  /** Tokens of the longest lesson. */
  longest: number;
  soft_tokens: number;
  /** Share of learned tokens with the teacher's probabilities, 0 to 1. */
  coverage: number;
  /** Mean share of the teacher's probability that falls on tokens which the student has, 0 to 1. */
  mass: number;
  /** What the traces are about: frequent words, and rows by the length of prompts and answers in tokens. */
  picture: { words: [string, number][]; contexts: Bucket[]; answers: Bucket[] };
  traces_sha256: string;
}

interface Bucket {
  from: number;
  to: number;
  rows: number;
}

/** One lesson, token by token. Probabilities are those of the token as it stands there. */
export interface Preview {
  origin: { file: number; line: number };
  /** It is only measured, never taught. */
  held_out: boolean;
  pieces: { text: string; trained: boolean; p: number | null; top: [string, number][] | null; student: { p: number; top: [string, number][] } | null }[];
}

export interface TeachingSettings {
  /** Steps of the optimizer. */
  steps: number;
  /** Rows of a step. */
  batch: number;
  /** Largest learning rate; it warms up to it, then falls. */
  rate: number;
  /** r of LoRA, and alpha: the adapter acts with alpha / rank. */
  rank: number;
  alpha: number;
  /** Only the last so many layers; 0 is all. */
  layers: number;
  /** Which matrices get an adapter; an empty list is all of attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down. */
  modules: string[];
  /** Weight of the teacher's text beside its probabilities, 0 to 1. */
  ce: number;
  divergence: "forward-kl" | "reverse-kl" | "jsd" | "skew-kl";
  /** beta of "jsd", lambda of "skew-kl". */
  mix: number;
  /** Longest gradient of a step; 0 does not clip. */
  clip: number;
  /** Weight decay. */
  decay: number;
  /** Part of the rows that is only measured. */
  hold_out: number;
  seed: number;
}

export interface TeachingPlan {
  fits: boolean;
  words: string;
  /** What would fit, where this does not. */
  suggestion?: string | null;
  total_bytes: number;
  available_bytes: number;
  /** Part by part, in bytes. */
  items: [string, number][];
  micro_batch: number;
  tokens_per_step: number;
  /** Rows that are taught, and rows held out. */
  taught: number;
  apart: number;
}

/** How well the student does on rows: cross-entropy and KL to the teacher in nats per token, agreement with its first choice. */
export interface Measure {
  rows: number;
  tokens: number;
  ce: number;
  kl?: number | null;
  top1: number;
  per_row: number[];
}

export interface TeachingStep {
  /** From 1. */
  step: number;
  steps: number;
  loss: number;
  ce: number;
  divergence: number;
  rate: number;
  /** Norm of the gradient before clipping. */
  gradient: number;
  tokens: number;
  trained: number;
  /** Passes over the rows that were begun. */
  passes: number;
  /** The gradient was not finite: nothing was changed, and the learning rate is halved from here on. */
  skipped: boolean;
  memory_bytes: number;
  /** Milliseconds that the step took. */
  ms: number;
  /** Every few steps: the rows that are not taught. */
  held_out?: Measure;
}

interface Change {
  mean: number;
  low: number;
  high: number;
}

/** What a training did. Changes are means over rows with a bootstrap interval of 95 %; null where rows are too few. */
export interface Verdict {
  sentences: string[];
  held_out: { before: Measure; after: Measure; change: Change | null; within_noise: boolean; kl_change?: Change | null };
  forgetting: { before: Measure; after: Measure; kl_to_base: number; change: Change | null; within_noise: boolean };
}

export interface AdapterFiles {
  /** For `student.attach` and llama.cpp. */
  gguf: Blob;
  /** A zip of adapter_config.json and adapter_model.safetensors; null where the student's matrices have no names there. */
  peft: Blob | null;
  /** Provenance, settings, curve and verdict. */
  card: Record<string, unknown>;
}

export interface AdapterAbout {
  name?: string;
  base?: string;
  base_sha256?: string;
  /** The teacher and its terms, as you state them; they are written into the files. */
  teacher?: string;
  terms?: string;
}

export interface TeachingOptions extends Pick<EngineOptions, "assets" | "loader" | "gpu" | "subgroups" | "signal" | "onProgress"> {}

export interface RunOptions {
  /** Chats on which forgetting is measured; the last message of each is the answer. Default: the student's own
   *  answers to everyday questions, which it is asked first. */
  generic?: { role: string; content: string }[][];
  /** A checkpoint every so many steps, default 5. From it the training goes on after a lost device or a crash. */
  every?: number;
  /** The held-out rows are measured every so many steps. Default: ten times in all. */
  measure?: number;
  /** Keeps traces, settings, curve and checkpoints in a folder of the origin private file system, for `Teaching.kept`. */
  keep?: { folder: string; about?: unknown };
  /** Goes on from a checkpoint of the same student, traces and settings. */
  resume?: { checkpoint: Blob; curve?: TeachingStep[] };
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
}

/**
 * A training under way. Leaving the loop pauses it. After a lost device or a crash it goes on from the last checkpoint, and the
 * steps since then come again. Event "change" whenever `state` changes.
 */
export interface Run extends EventTarget, AsyncIterable<TeachingStep> {
  readonly state: "preparing" | "training" | "pausing" | "paused" | "finished" | "stopped" | "failed";
  /** Every step so far. */
  readonly reports: TeachingStep[];
  /** Resolves after the warm-up, with the measures before teaching. */
  readonly prepared: Promise<{ taught: number; apart: number; before: Measure; generic_before: Measure }>;
  /** After the step that is running. */
  pause(): void;
  resume(): void;
  /** Ends it early, with what was learned so far. */
  stop(): void;
}

export interface TeachingNotice {
  kind: "device-lost" | "device-rebuilt" | "engine-crashed" | "engine-restarted" | "engine-failed" | "checkpoint" | "not-kept" | "progress" | "requests" | "blocked";
  message?: string;
  hint?: string;
  /** kind "checkpoint": of which step, and whether it lies in storage. */
  step?: number;
  checkpoint?: Blob;
  kept?: boolean;
}

/** One student being taught. Calls are answered between steps while a run is under way. */
export interface Teaching extends EventTarget {
  addEventListener(type: "notice", listener: (event: CustomEvent<TeachingNotice>) => void, options?: AddEventListenerOptions): void;
  readonly device: Device;
  /** Reads traces, in place of those read before. Bad lines are listed and skipped. */
  read(traces: Traces, options?: ReadOptions): Promise<TraceReport>;
  /** @param row less than `report.lessons` */
  preview(row: number): Promise<Preview>;
  /** Sound settings for this student and these traces. */
  defaults(): Promise<TeachingSettings>;
  plan(settings: TeachingSettings): Promise<TeachingPlan>;
  run(settings: TeachingSettings, options?: RunOptions): Run;
  /** The held-out rows, as the student is now. */
  measure(): Promise<Measure>;
  verdict(): Promise<Verdict>;
  /** A lesson with what the student as it is now thinks of each token. */
  insight(row: number): Promise<Preview>;
  heldOutPrompts(count: number): Promise<{ messages: { role: string; content: string }[]; answer: string }[]>;
  sampleIds(count: number): Promise<Uint32Array>;
  /** Logits after each token, row-major (tokens, vocabulary), with what was learned. */
  logits(ids: ArrayLike<number>): Promise<Float32Array>;
  /** Written, read back, and compared with the trained student before it resolves; "export-differs" if they differ. */
  export(about?: AdapterAbout): Promise<AdapterFiles>;
  memory(): Promise<{ wasm: number; device: number }>;
  /** Reads the student from this Blob should the device be lost later on. */
  movedTo(blob: Blob): Promise<void>;
  /** For tests: destroys the GPU device of the teaching, as a driver reset would. */
  destroyDevice(): Promise<void>;
  close(): void;
}

export interface DistillOptions extends TeachingOptions, RunOptions, Omit<ReadOptions, "signal" | "onProgress"> {
  /** Over the defaults. */
  settings?: Partial<TeachingSettings>;
  about?: AdapterAbout;
  onReport?: (report: TraceReport) => void;
}

export interface Distillation extends AsyncIterable<TeachingStep> {
  /** After the traces were read. */
  readonly report: TraceReport | null;
  /** After the last step. */
  readonly verdict: Verdict | null;
  readonly result: AdapterFiles | null;
  readonly adapter: Blob | null;
}

/** One worker and one device; holds at most one student. */
export interface Engine extends Noticing {
  readonly device: Device;
  readonly student: Student | null;
  plan(source: Source, options?: OpenOptions): Promise<Plan>;
  /** In place of the student that is open; if it cannot be opened, that one stays. */
  open(source: Source, options?: OpenOptions): Promise<Student>;
  close(): void;
}

export const Understudy: {
  load(source: Source, options?: EngineOptions & OpenOptions): Promise<Student>;
  start(options?: EngineOptions): Promise<Engine>;
  download(address: string | URL, options?: EngineOptions): Promise<{ size?: number; stream: ReadableStream<Uint8Array> }>;
  blob(address: string | URL, options?: EngineOptions): Promise<Blob>;
};

export default Understudy;
