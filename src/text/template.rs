//! The chat template: messages to the text that the student was trained on.

use super::date::Date;
use super::jinja::Program;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::format::gguf::Metadata;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Other names that a template asks for, such as `documents`.
    pub names: serde_json::Map<String, Value>,
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
    /// The tags around reasoning, where the student knows some.
    thinking: Option<(&'static str, &'static str)>,
}

/// The tags around reasoning that students are known to write. Which of them a student has is told by its template.
pub(super) const THINKING: [(&str, &str); 5] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
];

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
        let own = metadata
            .str("tokenizer.chat_template")
            .or_else(|| metadata.str("tokenizer.chat_template.default"))
            .filter(|source| !source.trim().is_empty());
        match own {
            Some(source) => Self::new(source, false, tokenizer),
            None => Self::general(tokenizer),
        }
    }

    /// A default that fits a vocabulary: ChatML, the headers of Llama 3, or names in front of lines.
    pub fn general(tokenizer: &Tokenizer) -> Self {
        let has = |name: &str| tokenizer.token_id(name).is_some();
        let source = if has("<|im_start|>") && has("<|im_end|>") {
            CHATML
        } else if has("<|start_header_id|>") && has("<|eot_id|>") {
            HEADERS
        } else {
            PLAIN
        };
        Self::new(source, true, tokenizer)
    }

    fn new(source: &str, is_default: bool, tokenizer: &Tokenizer) -> Self {
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
        let mut template = Self::from_source(source, text(tokenizer.bos()), text(tokenizer.eos()));
        template.is_default = is_default;
        if template.thinking.is_none() && tokenizer.token_id("<think>").is_some() {
            template.thinking = Some(THINKING[0]);
        }
        template
    }

    /// A template from its source and the texts of the tokens that it may mention.
    pub fn from_source(source: &str, bos: &str, eos: &str) -> Self {
        Self {
            source: source.into(),
            bos: bos.into(),
            eos: eos.into(),
            is_default: false,
            thinking: THINKING.into_iter().find(|(open, _)| source.contains(open)),
        }
    }

    /// Whether the file brought none.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// Whether a text stands in its source.
    pub(super) fn mentions(&self, text: &str) -> bool {
        self.source.contains(text)
    }

    /// Whether the student writes its reasoning down.
    pub fn thinks(&self) -> bool {
        self.thinking.is_some()
    }

    /// The tags around the student's reasoning; those of most students where it has none.
    pub fn thinking_tags(&self) -> (&'static str, &'static str) {
        self.thinking.unwrap_or(THINKING[0])
    }

    /// Reads the template without running it.
    ///
    /// Errors: [`Error::Template`], with the line.
    pub fn check(&self) -> Result<()> {
        self.program().map(|_| ())
    }

    /// The text that the template puts behind what the assistant said, where an answer shows it.
    pub fn behind_an_answer(&self) -> Option<String> {
        const ANSWER: &str = "Quixotic";
        let message = |role: &str, content: &str| Message {
            role: role.into(),
            content: content.into(),
            reasoning_content: None,
        };
        let chat = [message("user", "?"), message("assistant", ANSWER)];
        let options = RenderOptions {
            date: Some("2026-01-01".into()),
            ..RenderOptions::default()
        };
        let text = self.render(&chat, &options).ok()?;
        text.rsplit_once(ANSWER).map(|(_, behind)| behind.to_string())
    }

    fn program(&self) -> Result<Program> {
        if self.source.len() > MAX_SOURCE {
            return Err(Error::Template {
                what: format!("it has {} bytes", self.source.len()),
            });
        }
        Program::parse(&self.source)
    }

    /// The prompt of a chat.
    ///
    /// Errors: [`Error::Template`] for a template that does not compile, refuses the messages, or does not end.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String> {
        let messages = serde_json::to_value(messages).map_err(|_| Error::Template {
            what: "the messages cannot be handed over".into(),
        })?;
        self.render_value(messages, options)
    }

    /// As [`Template::render`], for messages with more than text: tool calls and their results.
    pub fn render_json(&self, messages: &[Value], options: &RenderOptions) -> Result<String> {
        self.render_value(Value::Array(messages.to_vec()), options)
    }

    fn render_value(&self, messages: Value, options: &RenderOptions) -> Result<String> {
        let date = match &options.date {
            Some(text) => Some(Date::parse(text).ok_or_else(|| Error::Request {
                what: "the date must look like 2026-11-24 or 2026-11-24T09:30:00".into(),
            })?),
            None => None,
        };
        let program = self.program()?;
        let mut values = vec![
            ("messages", messages),
            ("add_generation_prompt", Value::from(options.add_generation_prompt)),
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
        ];
        // Unsaid options stay undefined: templates ask `is defined`.
        if let Some(on) = options.enable_thinking {
            values.push(("enable_thinking", Value::from(on)));
        }
        if let Some(tools) = &options.tools {
            values.push(("tools", tools.clone()));
        }
        values.extend(options.names.iter().map(|(name, value)| (name.as_str(), value.clone())));
        if let (Some(date), false) = (date, options.names.contains_key("date_string")) {
            // The form that the templates of Llama 3 have in the place of a missing date.
            values.push(("date_string", Value::from(date.format("%d %b %Y"))));
        }
        program.render(&values, date)
    }
}
