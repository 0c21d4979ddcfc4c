//! Answers and prompts, as the worker asks for them.

use super::{Runner, from_js, now, to_js, whole};
use crate::error::{Error, Result};
use crate::model::logprobs::Logprob;
use crate::model::{Dry, Penalties, Sampling};
use crate::student::{Event, Prompt, Request, Student};
use crate::text::grammar::Format;
use crate::text::tokenizer::Tokenizer;
use crate::text::tool_calls::ToolCall;
use crate::text::tools::{self, Tools};
use js_sys::Function;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use wasm_bindgen::prelude::*;

/// Today as the user's clock has it, `2026-11-24`.
fn today() -> String {
    let date = js_sys::Date::new_0();
    format!(
        "{:04}-{:02}-{:02}",
        date.get_full_year(),
        date.get_month() + 1,
        date.get_date()
    )
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// What a chat's prompt depends on besides its messages.
#[derive(Deserialize, Default)]
#[serde(default)]
struct PromptOptions {
    tools: Value,
    tool_choice: Value,
    enable_thinking: Option<bool>,
}

/// Names and meanings are those of the chat-completions format, and beyond it llama.cpp's.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ChatRequest {
    messages: Option<Vec<Value>>,
    prompt: Option<String>,
    max_tokens: Option<f64>,
    temperature: Option<f32>,
    top_k: Option<f64>,
    typical_p: Option<f32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    seed: Option<f64>,
    repeat_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    /// -1: all tokens of prompt and answer.
    repeat_last_n: Option<f64>,
    dry_multiplier: Option<f32>,
    dry_base: Option<f32>,
    dry_allowed_length: Option<f64>,
    dry_penalty_last_n: Option<f64>,
    dry_sequence_breakers: Option<Vec<String>>,
    /// Token ids, as text, to biases.
    logit_bias: BTreeMap<String, f32>,
    /// How many alternatives are told beside each token.
    logprobs: Option<f64>,
    stop: Option<OneOrMany>,
    enable_thinking: Option<bool>,
    ignore_end: bool,
    /// As in the chat-completions format, with two types more ([`Format::from_json`]).
    response_format: Value,
    tools: Value,
    tool_choice: Value,
}

/// A number of last tokens; -1 for all of them.
fn last_n(value: Option<f64>, name: &str, default: Option<usize>) -> Result<Option<usize>> {
    match value {
        None => Ok(default),
        Some(-1.0) => Ok(None),
        Some(n) => whole(Some(n), name, 1e9)
            .map(|n| n.map(|n| n as usize))
            .map_err(|_| Error::Request {
                what: format!("{name} is a whole number from -1, which stands for all"),
            }),
    }
}

fn prompt_of(messages: &[Value]) -> Result<Prompt> {
    Ok(Prompt::Json(tools::messages(messages)?))
}

impl ChatRequest {
    fn sampling(&self) -> Result<Sampling> {
        let default = Sampling::default();
        Ok(Sampling {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_k: whole(self.top_k, "top_k", 1e9)?.map_or(default.top_k, |n| n as u32),
            typical_p: self.typical_p.unwrap_or(default.typical_p),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            // The worker gives a random seed where the user gave none: chance is not this crate's business.
            seed: whole(self.seed, "seed", f64::from(u32::MAX))?.map_or(default.seed, |n| n as u32),
        })
    }

    fn penalties(&self) -> Result<Penalties> {
        let default = Penalties::default();
        let dry = default.dry;
        let bias = self.logit_bias.iter().map(|(id, &bias)| match id.parse() {
            Ok(id) => Ok((id, bias)),
            Err(_) => Err(Error::Request {
                what: "the keys of logit_bias are token ids".into(),
            }),
        });
        Ok(Penalties {
            repeat: self.repeat_penalty.unwrap_or(default.repeat),
            presence: self.presence_penalty.unwrap_or(default.presence),
            frequency: self.frequency_penalty.unwrap_or(default.frequency),
            last_n: last_n(self.repeat_last_n, "repeat_last_n", default.last_n)?,
            dry: Dry {
                multiplier: self.dry_multiplier.unwrap_or(dry.multiplier),
                base: self.dry_base.unwrap_or(dry.base),
                allowed_length: whole(self.dry_allowed_length, "dry_allowed_length", 1e6)?
                    .map_or(dry.allowed_length, |n| n as usize),
                last_n: last_n(self.dry_penalty_last_n, "dry_penalty_last_n", dry.last_n)?,
                breakers: self.dry_sequence_breakers.clone().unwrap_or(dry.breakers),
            },
            bias: bias.collect::<Result<_>>()?,
        })
    }

    fn read(self) -> Result<Request> {
        let (sampling, penalties) = (self.sampling()?, self.penalties()?);
        let prompt = match (self.messages, self.prompt) {
            (Some(messages), None) => prompt_of(&messages)?,
            (None, Some(text)) => Prompt::Text(text),
            _ => {
                return Err(Error::Request {
                    what: "it needs either messages or a prompt".into(),
                });
            }
        };
        Ok(Request {
            prompt,
            sampling,
            max_tokens: whole(self.max_tokens, "max_tokens", 1e9)?.map(|n| n as usize),
            stop: match self.stop {
                None => Vec::new(),
                Some(OneOrMany::One(stop)) => vec![stop],
                Some(OneOrMany::Many(stops)) => stops,
            },
            enable_thinking: self.enable_thinking,
            date: Some(today()),
            ignore_end: self.ignore_end,
            format: Format::from_json(&self.response_format)?,
            penalties,
            logprobs: whole(self.logprobs, "top_logprobs", 20.0)?.map(|n| n as usize),
            tools: Tools::from_json(&self.tools, &self.tool_choice)?,
        })
    }
}

/// A token with ln p, and what else was likely.
#[derive(Clone, Serialize)]
struct TokenWords {
    token: String,
    bytes: Vec<u8>,
    logprob: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<Vec<TokenWords>>,
}

impl TokenWords {
    fn new(tokenizer: &Tokenizer, id: u32, logprob: f32) -> Self {
        let bytes = match tokenizer.piece(id) {
            [] => tokenizer.token_text(id).unwrap_or_default().as_bytes(),
            piece => piece,
        };
        Self {
            token: String::from_utf8_lossy(bytes).into_owned(),
            bytes: bytes.to_vec(),
            logprob,
            top_logprobs: None,
        }
    }

    fn with_others(tokenizer: &Tokenizer, of: &Logprob) -> Self {
        let other = |&(id, logprob): &(u32, f32)| Self::new(tokenizer, id, logprob);
        Self {
            top_logprobs: Some(of.top.iter().map(other).collect()),
            ..Self::new(tokenizer, of.id, of.logprob)
        }
    }
}

#[derive(Serialize, Default)]
struct Delta<'a> {
    content: &'a str,
    reasoning: &'a str,
    calls: Vec<Value>,
    logprobs: Vec<TokenWords>,
    tokens: usize,
    /// Rows of the prompt that are done, of how many; only before the first token.
    prompt: Option<(usize, usize)>,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    cached_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

#[derive(Serialize)]
struct Timings {
    prompt_ms: f64,
    predicted_ms: f64,
    prompt_per_second: f64,
    predicted_per_second: f64,
}

#[derive(Serialize)]
struct ContextUse {
    used: usize,
    size: usize,
}

#[derive(Serialize)]
struct ChatResult<'a> {
    content: &'a str,
    reasoning: &'a str,
    calls: Vec<Value>,
    /// Every token of the answer but the end, where that was asked for.
    logprobs: Option<Vec<TokenWords>>,
    finish_reason: &'static str,
    usage: Usage,
    timings: Timings,
    context: ContextUse,
    ids: &'a [u32],
}

#[wasm_bindgen]
impl Runner {
    /// One generation; `on_delta` returns `true` to stop it.
    pub async fn chat(&self, request: JsValue, on_delta: Option<Function>) -> std::result::Result<JsValue, JsValue> {
        let request = from_js::<ChatRequest>(request)?.read()?;
        let started = now();
        let (mut first, mut drawn) = (started, 0);
        let (mut told, mut waiting) = (Vec::new(), Vec::new());
        let tell = |event: Event| {
            let mut delta = Delta {
                tokens: drawn,
                ..Delta::default()
            };
            match event {
                Event::Prompt(done, all) => delta.prompt = Some((done, all)),
                Event::Token(logprob, tokenizer) => {
                    let words = TokenWords::with_others(tokenizer, logprob);
                    told.push(words.clone());
                    waiting.push(words);
                    return false;
                }
                Event::Call(call) => delta.calls.push(call.to_json()),
                Event::Text {
                    content,
                    reasoning,
                    tokens,
                } => {
                    if tokens == 1 {
                        first = now();
                    }
                    drawn = tokens;
                    (delta.content, delta.reasoning, delta.tokens) = (content, reasoning, tokens);
                    delta.logprobs = std::mem::take(&mut waiting);
                }
            }
            match (&on_delta, to_js(&delta)) {
                (Some(function), Ok(delta)) => function
                    .call1(&JsValue::NULL, &delta)
                    .is_ok_and(|stop| stop.is_truthy()),
                _ => false,
            }
        };
        let (answer, size) = self
            .with_student(async |student| {
                let answer = student.generate(&request, tell).await?;
                Ok((answer, student.context()))
            })
            .await?;
        let ended = now();
        let (prompt_ms, predicted_ms) = ((first - started).max(0.001), (ended - first).max(0.001));
        let drawn = answer.ids.len();
        let result = ChatResult {
            content: &answer.content,
            reasoning: &answer.reasoning,
            calls: answer.calls.iter().map(ToolCall::to_json).collect(),
            logprobs: request.logprobs.map(|_| told),
            finish_reason: answer.finish_name(),
            usage: Usage {
                prompt_tokens: answer.prompt_tokens,
                cached_tokens: answer.cached_tokens,
                completion_tokens: drawn,
                total_tokens: answer.prompt_tokens + drawn,
            },
            timings: Timings {
                prompt_ms,
                predicted_ms,
                prompt_per_second: 1000.0 * (answer.prompt_tokens - answer.cached_tokens) as f64 / prompt_ms,
                // The first token belongs to the prompt's time.
                predicted_per_second: 1000.0 * drawn.saturating_sub(1) as f64 / predicted_ms,
            },
            context: ContextUse {
                used: answer.used,
                size,
            },
            ids: &answer.ids,
        };
        Ok(to_js(&result)?)
    }

    /// The prompt that the template makes of these messages, to the letter.
    pub fn prompt(&self, messages: JsValue, options: JsValue) -> std::result::Result<String, JsValue> {
        let text = |student: &Student, prompt: &Prompt, tools: Option<&Tools>, thinking| {
            student.prompt_text(prompt, tools, thinking, Some(&today()))
        };
        Ok(self.with_prompt(messages, options, text)?)
    }

    /// Tokens that these messages would take as a prompt.
    pub fn count(&self, messages: JsValue, options: JsValue) -> std::result::Result<usize, JsValue> {
        let count = |student: &Student, prompt: &Prompt, tools: Option<&Tools>, thinking| {
            let (ids, _) = student.prompt_tokens(prompt, tools, thinking, Some(&today()))?;
            Ok(ids.len())
        };
        Ok(self.with_prompt(messages, options, count)?)
    }
}

impl Runner {
    fn with_prompt<T>(
        &self,
        messages: JsValue,
        options: JsValue,
        work: impl FnOnce(&Student, &Prompt, Option<&Tools>, Option<bool>) -> Result<T>,
    ) -> Result<T> {
        let prompt = prompt_of(&from_js::<Vec<Value>>(messages)?)?;
        let options: PromptOptions = from_js(options)?;
        let tools = Tools::from_json(&options.tools, &options.tool_choice)?;
        let student = self.student.borrow();
        let student = student.as_ref().ok_or(Error::NoStudent)?;
        work(student, &prompt, tools.as_ref(), options.enable_thinking)
    }
}
