//! The chat template: messages to the text that the student was trained on.

use super::date::Date;
use super::jinja::{self, Bounded, failed};
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::format::gguf::Metadata;
use minijinja::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One message of a chat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What was said.
    #[serde(default)]
    pub content: String,
    /// The reasoning in front of it, without its tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
}

/// What a template is told besides the messages.
#[derive(Debug, Clone, Default)]
pub struct RenderOptions {
    /// End with the beginning of the assistant's turn.
    pub add_generation_prompt: bool,
    /// For students that can think: whether they should.
    pub enable_thinking: Option<bool>,
    /// Tool definitions, for templates that list them.
    pub tools: Option<serde_json::Value>,
    /// Today as `2026-11-24`, or with a time, `2026-11-24T09:30:00`, for templates that mention it: this room has no clock.
    pub date: Option<String>,
}

/// A chat template.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    bos: String,
    eos: String,
    is_default: bool,
    thinks: bool,
}

/// Longest template that is compiled, in bytes.
const MAX_SOURCE: usize = 1 << 20;

/// ChatML, where the vocabulary has its marks.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// The header style of Llama 3.
const HEADERS: &str = "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n\
    {{ message.content }}<|eot_id|>{% endfor %}\
    {% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}";

/// For students without any marks: names in front of lines.
const PLAIN: &str = "{{ bos_token }}{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n\
    {% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}";

impl Template {
    /// The template of a file, or a default that fits its vocabulary.
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Self {
        let text = |id: Option<u32>| {
            id.and_then(|id| tokenizer.token_text(id))
                .unwrap_or_default()
                .to_string()
        };
        let own = metadata
            .str("tokenizer.chat_template")
            .or_else(|| metadata.str("tokenizer.chat_template.default"))
            .filter(|source| !source.trim().is_empty());
        let has = |name: &str| tokenizer.token_id(name).is_some();
        let (source, is_default) = match own {
            Some(source) => (source, false),
            None if has("<|im_start|>") && has("<|im_end|>") => (CHATML, true),
            None if has("<|start_header_id|>") && has("<|eot_id|>") => (HEADERS, true),
            None => (PLAIN, true),
        };
        Self {
            thinks: has("<think>") || source.contains("<think>"),
            source: source.to_string(),
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.eos()),
            is_default,
        }
    }

    /// A template from its source and the texts of the tokens that it may mention.
    pub fn from_source(source: &str, bos: &str, eos: &str) -> Self {
        Self {
            source: source.into(),
            bos: bos.into(),
            eos: eos.into(),
            is_default: false,
            thinks: source.contains("<think>"),
        }
    }

    /// Whether the file brought none.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// Whether the student knows `<think>`.
    pub fn thinks(&self) -> bool {
        self.thinks
    }

    /// The prompt of a chat.
    ///
    /// Errors: [`Error::Template`] for a template that does not compile, refuses the messages, or does not end.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String> {
        self.render_value(Value::from_serialize(messages), options)
    }

    /// As [`Template::render`], for messages with more than text: tool calls and their results.
    pub fn render_json(&self, messages: &[serde_json::Value], options: &RenderOptions) -> Result<String> {
        self.render_value(Value::from_serialize(messages), options)
    }

    fn render_value(&self, messages: Value, options: &RenderOptions) -> Result<String> {
        if self.source.len() > MAX_SOURCE {
            return Err(Error::Template {
                what: format!("it has {} bytes", self.source.len()),
            });
        }
        let date = match &options.date {
            Some(text) => Some(Date::parse(text).ok_or_else(|| Error::Request {
                what: "the date must look like 2026-11-24 or 2026-11-24T09:30:00".into(),
            })?),
            None => None,
        };
        let source = jinja::strip_generation_blocks(&self.source);
        let environment = jinja::environment(&source, date);
        let template = environment.template_from_named_str("chat", &source).map_err(failed)?;
        let mut values = BTreeMap::from([
            ("messages", messages),
            ("add_generation_prompt", Value::from(options.add_generation_prompt)),
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
        ]);
        // Unsaid options stay undefined: templates ask `is defined`.
        if let Some(on) = options.enable_thinking {
            values.insert("enable_thinking", Value::from(on));
        }
        if let Some(tools) = &options.tools {
            values.insert("tools", Value::from_serialize(tools));
        }
        if let Some(date) = date {
            // The form that the templates of Llama 3 have in the place of a missing date.
            values.insert("date_string", Value::from(date.format("%d %b %Y")));
        }
        let mut prompt = Bounded::default();
        template.render_captured_to(values, &mut prompt).map_err(failed)?;
        prompt.into_text()
    }
}
