//! The chat template: messages to the text that the student was trained on.

use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::format::gguf::Metadata;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, context};
use serde::{Deserialize, Serialize};

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
    /// Today, for templates that mention it: this room has no clock.
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

/// Steps that a template may take: the longest real ones need some thousands per message.
const FUEL: u64 = 5_000_000;

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
        if self.source.len() > MAX_SOURCE {
            return Err(Error::Template {
                what: format!("it has {} bytes", self.source.len()),
            });
        }
        let mut environment = Environment::new();
        // As the Hugging Face libraries set Jinja up.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(100);
        environment.add_function(
            "raise_exception",
            |text: String| -> std::result::Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
            },
        );
        let date = options.date.clone().unwrap_or_default();
        environment.add_function("strftime_now", move |_format: String| date.clone());
        let source = strip_generation_blocks(&self.source);
        let failed = |error: minijinja::Error| {
            let mut what = error.to_string();
            // What a template itself refuses says it best in its own words.
            if let Some(detail) = error.detail() {
                what = detail.to_string();
            }
            Error::Template {
                what: what.chars().take(300).collect(),
            }
        };
        environment.add_template("chat", &source).map_err(failed)?;
        let template = environment.get_template("chat").map_err(failed)?;
        let values = context! {
            messages => messages,
            add_generation_prompt => options.add_generation_prompt,
            bos_token => self.bos,
            eos_token => self.eos,
        };
        // Unsaid options stay undefined: templates ask `is defined`.
        let thinking = options
            .enable_thinking
            .map(|on| context! { enable_thinking => on })
            .unwrap_or_default();
        let tools = options
            .tools
            .as_ref()
            .map(|tools| context! { tools => tools })
            .unwrap_or_default();
        let date = options
            .date
            .as_ref()
            .map(|date| context! { date_string => date })
            .unwrap_or_default();
        template
            .render(context! { ..values, ..context! { ..thinking, ..context! { ..tools, ..date } } })
            .map_err(failed)
    }
}

/// `{% generation %}` marks what is trained on; it is no Jinja, and says nothing about the text.
fn strip_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let Some(length) = rest[at..].find("%}") else { break };
        let tag = &rest[at..at + length + 2];
        let word = tag[2..length].trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        if matches!(word, "generation" | "endgeneration") {
            // The tag goes, its trimming stays: an empty comment trims the same way.
            out.push_str(&rest[..at]);
            out.push_str(if tag[2..].starts_with('-') { "{#-" } else { "{#" });
            out.push_str(if tag.ends_with("-%}") { "-#}" } else { "#}" });
        } else {
            out.push_str(&rest[..at + length + 2]);
        }
        rest = &rest[at + length + 2..];
    }
    out.push_str(rest);
    out
}
