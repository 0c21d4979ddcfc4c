//! Teacher traces: from the bytes of uploaded files to checked rows.
//!
//! 1. [`lines`] cuts bytes into lines, or a JSON array into elements, whatever the sizes of the chunks.
//! 2. `json` parses a line into a flat list of nodes; [`formats`] tells which shape it has and reads turns and soft labels
//!    out of it; [`reasoning`] tells reasoning from answer, so that every way of writing it becomes one.
//! 3. [`validate`] keeps a row or says in a sentence why not, and lays the teacher's tokens beside the answer by bytes.
//! 4. [`import`] walks a line through all of this, joins batch outputs with their requests, and adds to the [`report`].
//! 5. [`align`] groups the teacher's tokens with a student's by byte offsets. Later rooms call it, once the student's
//!    template and tokenizer have turned a row into tokens.
//!
//! A bad line is data, not an error: it is listed with its number and skipped. An [`crate::error::Error`] means that a whole
//! file cannot be read as text.

pub mod align;
pub mod formats;
pub mod import;
mod json;
pub mod lines;
pub mod reasoning;
pub mod report;
pub mod teacher;
pub mod validate;

pub use formats::{Format, Labels};
pub use import::{Importer, Options};
pub use report::Report;
pub use teacher::{Alternative, Part, Placement, Span, Teacher, Token};
pub use validate::{Note, Reason};

use serde::Serialize;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The instructions around the conversation; also what some APIs call the developer.
    System,
    /// The one who asks.
    User,
    /// The teacher, whose turns the student learns.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// Its name in chat templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolCall {
    /// The id that its result names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name of the function.
    pub name: String,
    /// Its arguments: an object wherever they are JSON, as chat templates want them; a string otherwise.
    pub arguments: serde_json::Value,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said, without reasoning and its tags. Never parsed for special tokens.
    pub content: String,
    /// The reasoning in front of it, without tags and surrounding white space; never empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The calls that the turn ends with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// For a tool's turn: which call it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The speaker's name, or the tool's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether the student learns this turn.
    pub train: bool,
    /// Whether the turn came to its end: the end-of-turn token of a turn that was cut off is not to be learned.
    pub ended: bool,
}

impl Turn {
    /// A turn of plain text; an assistant's is trained.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            reasoning: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
            train: role == Role::Assistant,
            ended: true,
        }
    }

    /// Bytes that this value takes in memory, nearly. Tool calls are counted roughly.
    pub fn size(&self) -> usize {
        fn value(json: &serde_json::Value) -> usize {
            size_of::<serde_json::Value>()
                + match json {
                    serde_json::Value::String(text) => text.capacity(),
                    serde_json::Value::Array(items) => items.iter().map(value).sum(),
                    serde_json::Value::Object(map) => map.iter().map(|(k, v)| k.capacity() + value(v)).sum(),
                    _ => 0,
                }
        }
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        size_of::<Self>()
            + self.content.capacity()
            + text(&self.reasoning)
            + text(&self.tool_call_id)
            + text(&self.name)
            + self
                .tool_calls
                .iter()
                .map(|call| size_of::<ToolCall>() + call.name.capacity() + text(&call.id) + value(&call.arguments))
                .sum::<usize>()
    }
}

/// How the text of a row becomes the student's tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A conversation: the student's chat template writes it out.
    #[default]
    Chat,
    /// Plain text: the contents of the turns follow each other with nothing in between.
    Plain,
    /// The teacher's token ids are the row; only a student with the same tokenizer can learn it.
    Tokens,
}

/// A checked row of traces.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The conversation. At least one turn is trained, and the last trained turn is the last turn; a row without any
    /// trained turn is a prompt alone, and comes only where [`Options::keep_prompts`] asks for it.
    pub turns: Vec<Turn>,
    /// How it becomes tokens.
    pub layout: Layout,
    /// The tools that the teacher could call, as a JSON list in the shape that chat templates take.
    pub tools: Option<serde_json::Value>,
    /// What the teacher said about its tokens, where the trace has that and it fits.
    pub teacher: Option<Teacher>,
    /// The shape that the row came in.
    pub format: Format,
    /// The shape that the teacher's probabilities came in.
    pub labels: Option<Labels>,
    /// Which file, counted from zero.
    pub file: usize,
    /// Which line of it, counted from one; of a file that is one array, which element. For a joined row: that of the output.
    pub line: usize,
    /// The id that a batch file gives the row.
    pub custom_id: Option<String>,
    /// What is remarkable about it.
    pub notes: Vec<Note>,
}

impl Row {
    /// The turns that the student learns.
    pub fn trained(&self) -> impl Iterator<Item = &Turn> {
        self.turns.iter().filter(|turn| turn.train)
    }

    /// Bytes that this value takes in memory, nearly; tool definitions are not counted.
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + self.turns.iter().map(Turn::size).sum::<usize>()
            + self.teacher.as_ref().map_or(0, Teacher::size)
    }

    /// A number that depends on what is said and on nothing else (64-bit FNV-1a): equal rows of two files agree, so that
    /// a row that is held out stays held out wherever it is repeated.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325;
        let mut take = |bytes: &[u8]| {
            // The length first, so that two fields cannot pass for one.
            for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        for turn in &self.turns {
            take(turn.role.as_str().as_bytes());
            take(turn.content.as_bytes());
            take(turn.reasoning.as_deref().unwrap_or_default().as_bytes());
            for call in &turn.tool_calls {
                take(call.name.as_bytes());
                take(call.arguments.to_string().as_bytes());
            }
        }
        if let (Layout::Tokens, Some(teacher)) = (self.layout, &self.teacher) {
            for token in teacher.tokens() {
                take(&token.id.unwrap_or(u32::MAX).to_le_bytes());
            }
        }
        hash
    }
}
