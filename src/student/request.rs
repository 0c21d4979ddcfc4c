//! What is asked of a student, and what comes of it.

use crate::model::logprobs::Logprob;
#[cfg(doc)]
use crate::model::logprobs::MOST_TOP;
use crate::model::{Penalties, Sampling};
use crate::text::grammar::Format;
use crate::text::stream::Delta;
use crate::text::template::Message;
use crate::text::tokenizer::Tokenizer;
use crate::text::tool_calls::{self, ToolCall, ToolCalls};
use crate::text::tools::Tools;
use serde_json::Value;

/// What to answer.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// A chat, written out by the template.
    Messages(Vec<Message>),
    /// The same with calls of tools and their results, as [`tools::messages`] gives them.
    ///
    /// [`tools::messages`]: crate::text::tools::messages
    Json(Vec<Value>),
    /// Text to go on with, after the beginning-of-text token where the student has one.
    Text(String),
}

/// One generation.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to answer.
    pub prompt: Prompt,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens of the answer; `None`: what the context leaves.
    pub max_tokens: Option<usize>,
    /// Strings that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Told to the template of a thinking student.
    pub enable_thinking: Option<bool>,
    /// Today as `2026-11-24`, for templates that mention it: this crate reads no clock.
    pub date: Option<String>,
    /// Go on after an end token; for tests of long continuations.
    pub ignore_end: bool,
    /// The form that the answer has. An answer with [`Finish::Stop`] has it, unless a stop string cut it. The reasoning is free:
    /// the form begins behind it, and unless `enable_thinking` asks for it a student that need not reason does not.
    pub format: Option<Format>,
    /// What moves logits before a token is chosen.
    pub penalties: Penalties,
    /// How likely each token was, beside so many others: at most [`MOST_TOP`].
    pub logprobs: Option<usize>,
    /// What the student may call.
    pub tools: Option<Tools>,
}

impl Request {
    /// A chat with the default sampling.
    pub fn chat(messages: Vec<Message>) -> Self {
        Self {
            prompt: Prompt::Messages(messages),
            sampling: Sampling::default(),
            max_tokens: None,
            stop: Vec::new(),
            enable_thinking: None,
            date: None,
            ignore_end: false,
            format: None,
            penalties: Penalties::default(),
            logprobs: None,
            tools: None,
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The student was done, or a stop string came.
    Stop,
    /// The limit of tokens or the end of the context.
    Length,
    /// The caller stopped it.
    Abort,
}

impl Finish {
    /// The name that the chat-completions format uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Abort => "abort",
        }
    }
}

/// What comes out of a generation while it runs.
pub enum Event<'a> {
    /// Rows of the prompt that are done, of how many.
    Prompt(usize, usize),
    /// New text; either part may be empty while a character or a stop string is incomplete.
    Text {
        /// Part of the answer.
        content: &'a str,
        /// Part of the reasoning in front of it.
        reasoning: &'a str,
        /// Tokens drawn so far.
        tokens: usize,
    },
    /// How likely the next token of the answer or of its reasoning was, where that is asked for, with what ids stand for; its text
    /// comes behind.
    Token(&'a Logprob, &'a Tokenizer),
    /// A call of a tool is complete.
    Call(&'a ToolCall),
}

/// A finished generation.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The answer.
    pub content: String,
    /// The reasoning in front of it, without its tags.
    pub reasoning: String,
    /// Calls of tools beside it.
    pub calls: Vec<ToolCall>,
    /// How likely each token was, where that was asked for; the end token is left out.
    pub logprobs: Vec<Logprob>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens that were still in the cache.
    pub cached_tokens: usize,
    /// Every drawn token, the end token included.
    pub ids: Vec<u32>,
    /// Positions of the context that are in use.
    pub used: usize,
}

impl Answer {
    /// Takes what came, calls apart where they are read, and tells of it; `last`: nothing will follow. Whether to stop.
    pub(super) fn take(
        &mut self,
        delta: &Delta,
        calls: &mut Option<ToolCalls>,
        last: bool,
        event: &mut impl FnMut(Event) -> bool,
    ) -> bool {
        let mut read = tool_calls::Delta::default();
        let content = match calls {
            None => &delta.content,
            Some(calls) => {
                read = calls.push(&delta.content);
                if last {
                    let rest = calls.finish();
                    read.content.push_str(&rest.content);
                    read.calls.extend(rest.calls);
                }
                &read.content
            }
        };
        self.content.push_str(content);
        self.reasoning.push_str(&delta.reasoning);
        let text = Event::Text {
            content,
            reasoning: &delta.reasoning,
            tokens: self.ids.len(),
        };
        let is_empty = content.is_empty() && delta.reasoning.is_empty();
        let mut stops = !(last && is_empty) && event(text);
        for call in &read.calls {
            stops |= event(Event::Call(call));
        }
        self.calls.extend(read.calls);
        stops
    }

    /// Why it ended, by the name that the chat-completions format uses.
    pub fn finish_name(&self) -> &'static str {
        match self.finish {
            Finish::Stop if !self.calls.is_empty() => "tool_calls",
            finish => finish.name(),
        }
    }
}
