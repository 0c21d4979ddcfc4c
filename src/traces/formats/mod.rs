//! The shapes that traces come in, told apart line by line.
//!
//! A row's text and its soft labels are found apart from each other: any shape of text may carry any shape of labels.

mod chat;
mod engines;
mod labels;
mod openai;
mod simple;

use super::json::View;
use super::teacher::Teacher;
use super::validate::{Note, Reason};
use super::{Layout, Turn};
use serde::Serialize;

pub(super) use openai::{Answer, Ask, join};

/// The shape of a row's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A `messages` list.
    Messages,
    /// A chat completion beside its messages.
    ChatResponse,
    /// A text completion beside its prompt, or without one.
    TextResponse,
    /// A batch output that was joined with its request.
    Batch,
    /// ShareGPT: a `conversations` list of `from` and `value`.
    ShareGpt,
    /// Alpaca: `instruction`, `input`, `output`.
    Alpaca,
    /// `prompt` and `completion`.
    PromptCompletion,
    /// `text`.
    Text,
    /// `problem` and several `generations`, with marks of which are correct.
    Generations,
    /// A completion of llama.cpp's server.
    LlamaServer,
    /// A generation of SGLang.
    Sglang,
    /// Token ids with vLLM's `prompt_logprobs`.
    Vllm,
}

impl Format {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "OpenAI messages",
            Self::ChatResponse => "chat completion responses",
            Self::TextResponse => "text completion responses",
            Self::Batch => "batch output",
            Self::ShareGpt => "ShareGPT conversations",
            Self::Alpaca => "Alpaca instructions",
            Self::PromptCompletion => "prompt and completion",
            Self::Text => "plain text",
            Self::Generations => "verified generations",
            Self::LlamaServer => "llama.cpp server",
            Self::Sglang => "SGLang",
            Self::Vllm => "vLLM prompt log-probabilities",
        }
    }
}

/// The shape of a row's soft labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    /// `logprobs.content` with `top_logprobs`.
    OpenAi,
    /// `logprobs.tokens`, `token_logprobs`, `top_logprobs` of text completions.
    Completions,
    /// `completion_probabilities` or `probs`.
    LlamaServer,
    /// `prompt_logprobs`.
    Vllm,
    /// `meta_info` with `output_top_logprobs` or `input_top_logprobs`.
    Sglang,
    /// A `logprobs` list of lists of objects.
    AxolotlV1,
    /// `target_token_ids` beside a `logprobs` list of lists of numbers.
    AxolotlV2,
}

impl Labels {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI log-probabilities",
            Self::Completions => "completions log-probabilities",
            Self::LlamaServer => "llama.cpp probabilities",
            Self::Vllm => "vLLM prompt log-probabilities",
            Self::Sglang => "SGLang log-probabilities",
            Self::AxolotlV1 => "axolotl log-probabilities (v1)",
            Self::AxolotlV2 => "axolotl log-probabilities (v2)",
        }
    }
}

/// What a list of soft labels runs along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The tokens of the last answer.
    Answer,
    /// The tokens of the whole conversation as the teacher's template wrote it.
    Rendering,
    /// The last tokens of the row, by id.
    RowEnd,
    /// Every token of the row, by id.
    Row,
}

/// Soft labels that are not laid beside their text yet.
#[derive(Debug, Clone)]
pub(super) struct Soft {
    pub(super) labels: Labels,
    pub(super) teacher: Teacher,
    pub(super) scope: Scope,
}

/// A row that is read and not checked yet.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) format: Format,
    pub(super) layout: Layout,
    pub(super) turns: Vec<Turn>,
    pub(super) tools: Option<serde_json::Value>,
    pub(super) labels: Option<Soft>,
    /// What the last answer was before reasoning was told from it, where that differs.
    pub(super) raw: Option<String>,
    pub(super) notes: Vec<Note>,
}

impl Draft {
    fn new(format: Format, layout: Layout, turns: Vec<Turn>) -> Self {
        Self {
            format,
            layout,
            turns,
            tools: None,
            labels: None,
            raw: None,
            notes: Vec::new(),
        }
    }
}

/// What a line turned out to be.
pub(super) enum Parsed {
    /// One row, or several where a response holds several choices.
    Rows(Vec<Draft>),
    /// Half of a batch row.
    Request { custom_id: String, ask: Ask },
    /// The other half.
    Output {
        custom_id: String,
        answers: Result<Vec<Answer>, Reason>,
    },
}

/// Most JSON values of one line that are kept as they are: tool definitions and arguments.
const MOST_VALUES: usize = 1 << 16;

/// What accompanies the reading of one line.
struct Context {
    notes: Vec<Note>,
    budget: usize,
}

/// Reads a line.
///
/// # Errors
/// Why it is no row: an unknown shape, a field of the wrong kind, log-probabilities that cannot be.
pub(super) fn parse(line: View<'_>) -> Result<Parsed, Reason> {
    if !line.is_object() {
        return Err(Reason::NotObject);
    }
    let has = |key: &str| line.get(key).is_some();
    let context = &mut Context {
        notes: Vec::new(),
        budget: MOST_VALUES,
    };
    if has("custom_id") && (has("body") || has("params")) {
        return openai::request(line, context);
    }
    if has("custom_id") && (has("response") || has("result") || has("error")) {
        return openai::output(line, context);
    }
    let mut drafts = if has("choices") || (has("request") && has("response")) {
        openai::response(line, context)?
    } else {
        vec![row(line, context)?]
    };
    for draft in &mut drafts {
        draft.notes.extend_from_slice(&context.notes);
    }
    Ok(Parsed::Rows(drafts))
}

/// Reads a line that is a row by itself.
fn row(line: View<'_>, context: &mut Context) -> Result<Draft, Reason> {
    let has = |key: &str| line.get(key).is_some();
    let is_text = |key: &str| line.get(key).is_some_and(|value| value.text().is_some());
    if has("problem") && has("generations") {
        simple::generations(line)
    } else if has("messages") {
        chat::messages(line, context)
    } else if has("conversations") || has("conversation") {
        chat::conversations(line, context)
    } else if is_text("content")
        && ["completion_probabilities", "probs", "tokens_predicted"]
            .iter()
            .any(|k| has(k))
    {
        engines::llama_server(line)
    } else if has("meta_info") && has("text") {
        engines::sglang(line)
    } else if has("prompt_logprobs") && !has("completion") {
        engines::vllm(line)
    } else if has("instruction") {
        simple::alpaca(line, context)
    } else if has("prompt") {
        simple::prompt(line, context)
    } else if has("question") && (has("answer") || has("response")) {
        simple::question(line, context)
    } else if has("text") {
        simple::plain(line)
    } else {
        Err(Reason::UnknownShape)
    }
}

/// A string field that may be absent.
fn text<'a>(object: View<'a>, field: &'static str) -> Result<Option<&'a str>, Reason> {
    object
        .get(field)
        .map(|value| {
            value.text().ok_or(Reason::Field {
                field,
                wanted: "a string",
            })
        })
        .transpose()
}

/// A list field that may be absent.
fn list<'a>(object: View<'a>, field: &'static str) -> Result<Option<impl Iterator<Item = View<'a>> + Clone>, Reason> {
    object
        .get(field)
        .map(|value| {
            value.items().ok_or(Reason::Field {
                field,
                wanted: "a list",
            })
        })
        .transpose()
}

/// A string field that must be there.
fn needed<'a>(object: View<'a>, field: &'static str) -> Result<&'a str, Reason> {
    text(object, field)?.ok_or(Reason::Field {
        field,
        wanted: "a string",
    })
}
