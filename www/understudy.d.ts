/** Types of the Understudy JavaScript API (understudy.js). */

export type Code =
  | "not-gguf" | "gguf-version" | "truncated-file" | "malformed-file" | "unsupported" | "tokenizer" | "template"
  | "does-not-fit" | "prompt-too-long" | "bad-request" | "no-device" | "device-lost" | "device" | "busy" | "aborted"
  | "no-student" | "io" | "adapter" | "crashed" | "internal";

/** Everything that is thrown: a stable code, a sentence, and a sentence saying what to do next. */
export class UnderstudyError extends Error {
  constructor(code: Code, message: string, hint?: string);
  readonly code: Code;
  readonly hint: string;
  /** Whatever was thrown, as one of these. */
  static from(error: unknown): UnderstudyError;
}

export type Source = File | Blob | URL | string;

export interface Progress {
  /** What is happening: the engine or the student is fetched, or the student is read and prepared. */
  phase: "engine" | "download" | "header" | "weights" | "pipelines";
  /** Bytes so far, and in all where that is known. */
  loaded: number;
  total?: number;
}

export interface EngineOptions {
  /** Where the site's files are: the folder that holds www/ and wasm/. Default: beside this module. */
  assets?: string | URL;
  /** Download through the hidden loader frame. Default: when the page's own policy has connect-src 'none'. */
  loader?: boolean;
  /** "off" uses the CPU engine. Default "auto". */
  gpu?: "auto" | "off";
  /** false leaves this feature unused even where the device has it. */
  subgroups?: boolean;
  f16?: boolean;
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

export interface OpenOptions {
  /** Tokens of context to make room for. Default: what the student was trained with and the device has room for. */
  context?: number;
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
  fits: boolean;
  /** The plan in a sentence. */
  words: string;
  /** What would fit, where this does not. */
  suggestion?: string | null;
  block_types: Record<string, number>;
  provenance: Provenance;
}

export interface Info extends Plan {
  vocabulary: number;
  layers: number;
  template: "file" | "default";
  thinks: boolean;
  device: string;
}

export interface Message {
  role: "system" | "developer" | "user" | "assistant";
  content: string | { type: "text"; text: string }[];
}

export interface Sampling {
  max_tokens?: number;
  max_completion_tokens?: number;
  /** 0 takes the likeliest token every time. */
  temperature?: number;
  top_k?: number;
  top_p?: number;
  min_p?: number;
  seed?: number;
  stop?: string | string[];
  enable_thinking?: boolean;
  /** Goes on after the student's end token, until max_tokens. */
  ignore_eos?: boolean;
  /** Accepted for the sake of other clients, and ignored. */
  model?: string;
  signal?: AbortSignal;
}

export type FinishReason = "stop" | "length" | "abort";

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
  /** The generated tokens. */
  ids: number[];
}

interface Stamp<O extends string> {
  id: string;
  object: O;
  created: number;
  model: string;
}

export interface ChatCompletion extends Stamp<"chat.completion">, Extras {
  choices: [{ index: 0; message: { role: "assistant"; content: string; reasoning_content?: string }; logprobs: null; finish_reason: FinishReason }];
}

export interface ChatCompletionChunk extends Stamp<"chat.completion.chunk">, Partial<Extras> {
  choices: [{ index: 0; delta: { content?: string; reasoning_content?: string }; finish_reason: FinishReason | null }];
  /** Tokens generated so far. */
  tokens?: number;
  /** Before the first token: how much of the prompt has been read. */
  prompt_progress?: { processed: number; total: number };
  /** After a lost device the answer came out differently: forget what came before this chunk. */
  restart?: true;
}

export interface Completion extends Stamp<"text_completion">, Extras {
  choices: [{ index: 0; text: string; logprobs: null; finish_reason: FinishReason }];
}

export interface CompletionChunk extends Stamp<"text_completion">, Partial<Extras> {
  choices: [{ index: 0; text: string; finish_reason: FinishReason | null }];
  tokens?: number;
  restart?: true;
}

export interface CompletionStream<C> extends AsyncIterable<C> {
  /** Ends the answer early and keeps what there is: the last chunk has finish_reason "abort". */
  stop(): void;
}

export interface ChatBody extends Sampling {
  messages: Message[];
}

/** A raw continuation: no template, only the beginning-of-sequence token where the student has one. */
export interface TextBody extends Sampling {
  prompt: string;
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
  /** Logits after each token, row-major (tokens, vocabulary). Nothing is added to `ids`. */
  logits(ids: ArrayLike<number>, options?: { signal?: AbortSignal }): Promise<Float32Array>;
  tokenize(text: string, options?: { add_special?: boolean; parse_special?: boolean; signal?: AbortSignal }): Promise<Uint32Array>;
  /** Tokens that this chat would take as a prompt. */
  count(messages: Message[], options?: { signal?: AbortSignal }): Promise<number>;
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
