//! What is wrong with a line, and what a row must be to be kept.

use super::formats::{Draft, Scope};
use super::import::Options;
use super::reasoning;
use super::teacher::{Part, Placement, Span, Teacher};
use super::{Layout, Role, Row, Turn};
use serde::Serialize;
use std::fmt;

/// What a line that is not JSON looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Looks {
    /// A web page, perhaps an error page that was saved in place of the file.
    Html,
    /// Comma-separated or tab-separated values.
    Table,
    /// A comment.
    Comment,
    /// Single quotes where JSON has double ones.
    SingleQuotes,
    /// `NaN`, `Infinity`, or a number beyond what a number can be.
    NotFinite,
    /// A control character inside a string that is not written as an escape.
    ControlCharacter,
    /// A comma behind the last item.
    TrailingComma,
    /// Several values on one line.
    Several,
    /// The value goes on beyond the line: JSON over several lines, or a file that was cut off.
    Unfinished,
    /// Anything else.
    Text,
}

/// Why a line gives no row. The sentence is for the user and quotes nothing of their text.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// Longer than the cap.
    TooLong {
        /// How long.
        bytes: u64,
        /// The cap.
        cap: usize,
    },
    /// Not UTF-8.
    NotUtf8,
    /// Not JSON.
    NotJson {
        /// What it looks like.
        looks: Looks,
        /// Where the parser stopped, counted from one.
        column: usize,
    },
    /// Nested deeper than any trace.
    TooDeep,
    /// JSON, and no object.
    NotObject,
    /// Something behind the array that should be the whole file.
    AfterArray,
    /// An object of none of the known shapes.
    UnknownShape,
    /// A field that holds the wrong kind of value.
    Field {
        /// The field.
        field: &'static str,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A role that nobody plays.
    UnknownRole,
    /// Roles out of order.
    RoleOrder {
        /// What is out of order.
        why: &'static str,
    },
    /// An answer without text and without tool calls.
    EmptyAnswer,
    /// The teacher refused.
    Refusal,
    /// No answer to learn from.
    NothingToTrain,
    /// An answer whose question is not there.
    NoPrompt,
    /// The teacher reported an error in place of an answer.
    TeacherFailed {
        /// The HTTP status, if there is one.
        status: Option<u16>,
    },
    /// Several generations, none of them marked as correct and complete.
    Unverified {
        /// How many.
        generations: usize,
    },
    /// A `custom_id` that came before.
    DuplicateId,
    /// A request that no output answers.
    Unanswered,
    /// An output whose request never came.
    Unasked,
    /// More batch rows wait for their other halves than are held.
    PendingFull {
        /// The cap in bytes.
        cap: usize,
    },
    /// Tool definitions or arguments larger than any real ones.
    TooManyValues,
    /// Lists that should have one entry per token have different lengths.
    Counts {
        /// Tokens.
        tokens: usize,
        /// Entries of the other list.
        logprobs: usize,
    },
    /// A log-probability that is not a number.
    NotANumber {
        /// Which token, counted from zero.
        token: usize,
    },
    /// A log-probability above 0: a probability above 1.
    LogprobOverZero {
        /// Which token, counted from zero.
        token: usize,
    },
    /// Alternatives whose probabilities sum to more than 1.01.
    MassOverOne {
        /// Which token, counted from zero.
        token: usize,
        /// Their sum.
        mass: f32,
    },
    /// Bytes of a token that are not bytes.
    NotBytes {
        /// Which token, counted from zero.
        token: usize,
    },
    /// The teacher's tokens do not spell the answer.
    NotSpelled,
    /// A token id that the vocabulary does not have.
    UnknownId {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
}

impl Reason {
    /// A stable name to count by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too-long",
            Self::NotUtf8 => "not-utf8",
            Self::NotJson { looks, .. } => match looks {
                Looks::Html => "looks-like-html",
                Looks::Table => "looks-like-csv",
                Looks::Comment => "comment",
                Looks::SingleQuotes => "single-quotes",
                Looks::NotFinite => "not-finite",
                Looks::ControlCharacter => "control-character",
                Looks::TrailingComma => "trailing-comma",
                Looks::Several => "several-values",
                Looks::Unfinished => "unfinished",
                Looks::Text => "not-json",
            },
            Self::TooDeep => "too-deep",
            Self::NotObject => "not-object",
            Self::AfterArray => "after-array",
            Self::UnknownShape => "unknown-shape",
            Self::Field { .. } => "bad-field",
            Self::UnknownRole => "unknown-role",
            Self::RoleOrder { .. } => "role-order",
            Self::EmptyAnswer => "empty-answer",
            Self::Refusal => "refusal",
            Self::NothingToTrain => "nothing-to-train",
            Self::NoPrompt => "no-prompt",
            Self::TeacherFailed { .. } => "teacher-failed",
            Self::Unverified { .. } => "unverified",
            Self::DuplicateId => "duplicate-id",
            Self::Unanswered => "unanswered",
            Self::Unasked => "unasked",
            Self::PendingFull { .. } => "pending-full",
            Self::TooManyValues => "too-many-values",
            Self::Counts { .. } => "counts",
            Self::NotANumber { .. } => "not-a-number",
            Self::LogprobOverZero { .. } => "logprob-over-zero",
            Self::MassOverOne { .. } => "mass-over-one",
            Self::NotBytes { .. } => "not-bytes",
            Self::NotSpelled => "not-spelled",
            Self::UnknownId { .. } => "unknown-id",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes, cap } => write!(
                f,
                "The line has {}; lines of up to {} are read.",
                crate::error::human_bytes(*bytes),
                crate::error::human_bytes(*cap as u64)
            ),
            Self::NotUtf8 => f.write_str("The line is not UTF-8 text."),
            Self::NotJson { looks, column } => match looks {
                Looks::Html => f.write_str("The line looks like HTML and not like JSON: an error page may have been saved."),
                Looks::Table => f.write_str("The line is not JSON; it looks like CSV. Export the table as JSON Lines."),
                Looks::Comment => f.write_str("The line is a comment; JSON has none."),
                Looks::SingleQuotes => f.write_str("The line has single quotes where JSON has double quotes."),
                Looks::NotFinite => write!(f, "A number at column {column} is not finite; JSON has no NaN or Infinity."),
                Looks::ControlCharacter => {
                    write!(f, "The line is not JSON: a control character at column {column} is not escaped.")
                }
                Looks::TrailingComma => write!(f, "The line is not JSON: a comma too many before column {column}."),
                Looks::Several => write!(
                    f,
                    "Several JSON values stand on one line, the second at column {column}: write one object per line."
                ),
                Looks::Unfinished => f.write_str(
                    "The JSON goes on beyond the end of the line: write one object per line, or fetch a file that was cut off again.",
                ),
                Looks::Text => write!(f, "The line is not JSON: the error is at column {column}."),
            },
            Self::TooDeep => f.write_str("The JSON is nested too deeply for a trace."),
            Self::NotObject => f.write_str("The line is JSON and not an object; a row is an object."),
            Self::AfterArray => f.write_str("Text follows the end of the JSON array and was not read."),
            Self::UnknownShape => f.write_str(
                "The object has none of the known shapes: no messages, conversations, choices, instruction, prompt or text.",
            ),
            Self::Field { field, wanted } => write!(f, "The field \"{field}\" should hold {wanted}."),
            Self::UnknownRole => {
                f.write_str("A message has an unknown role; known are system, developer, user, assistant and tool.")
            }
            Self::RoleOrder { why } => write!(f, "The roles are out of order: {why}."),
            Self::EmptyAnswer => f.write_str("An answer is empty: it has neither text nor tool calls."),
            Self::Refusal => f.write_str("The teacher refused to answer."),
            Self::NothingToTrain => f.write_str("There is nothing to train on: no answer of the teacher."),
            Self::NoPrompt => f.write_str(
                "The answer is here and its prompt is not: add the request file, or rows that hold the messages too.",
            ),
            Self::TeacherFailed { status: Some(status) } => {
                write!(f, "The teacher reported an error (status {status}) and no answer.")
            }
            Self::TeacherFailed { status: None } => f.write_str("The teacher reported an error and no answer."),
            Self::Unverified { generations } => write!(
                f,
                "None of the {generations} generations is marked as complete and correct."
            ),
            Self::DuplicateId => f.write_str("A request with this custom_id came before."),
            Self::Unanswered => f.write_str("No output answers this request: add the batch output file."),
            Self::Unasked => f.write_str("The request of this output is missing: add the batch request file."),
            Self::PendingFull { cap } => write!(
                f,
                "More than {} of batch rows wait for their other halves: add smaller parts, each request file first.",
                crate::error::human_bytes(*cap as u64)
            ),
            Self::TooManyValues => f.write_str("The tool definitions or arguments are too large."),
            Self::Counts { tokens, logprobs } => {
                write!(f, "There are {tokens} tokens and {logprobs} entries of log-probabilities.")
            }
            Self::NotANumber { token } => write!(f, "A log-probability of token {token} is not a number."),
            Self::LogprobOverZero { token } => write!(f, "A log-probability of token {token} is over 0."),
            Self::MassOverOne { token, mass } => {
                write!(f, "The probabilities at token {token} sum to {mass:.3}, which is over 1.")
            }
            Self::NotBytes { token } => write!(f, "The bytes of token {token} are not numbers from 0 to 255."),
            Self::NotSpelled => f.write_str("The teacher's tokens do not spell the answer."),
            Self::UnknownId { id, vocabulary } => {
                write!(f, "Token id {id} is beyond the vocabulary of {vocabulary}.")
            }
        }
    }
}

/// What is remarkable about a row that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// An image, a sound or a file was left out.
    PartDropped,
    /// A system turn stands behind the first turn; many templates refuse that.
    SystemLater,
    /// Two turns of one role follow each other.
    SameRoleTwice,
    /// Turns behind the last answer were left out.
    TurnsAfterAnswer,
    /// The answer stopped at a length limit: its end is not to be learned.
    CutShort,
    /// The prompt holds marks of a chat template, so it was written for the teacher's.
    TemplateInPrompt,
    /// The teacher's tokens cover only the beginning of the answer.
    LabelsPartial,
    /// The teacher's tokens are known by id only: useful to a student with the same tokenizer.
    LabelsByIdOnly,
    /// The teacher's tokens could not be laid beside the answer, and were left out.
    LabelsLeftOut,
    /// The probabilities are those after sampling settings, not the model's own.
    LabelsAfterSampling,
}

impl Note {
    /// A stable name to count by.
    pub fn code(self) -> &'static str {
        match self {
            Self::PartDropped => "part-dropped",
            Self::SystemLater => "system-later",
            Self::SameRoleTwice => "same-role-twice",
            Self::TurnsAfterAnswer => "turns-after-answer",
            Self::CutShort => "cut-short",
            Self::TemplateInPrompt => "template-in-prompt",
            Self::LabelsPartial => "labels-partial",
            Self::LabelsByIdOnly => "labels-by-id-only",
            Self::LabelsLeftOut => "labels-left-out",
            Self::LabelsAfterSampling => "labels-after-sampling",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PartDropped => "An image or another part that is not text was left out.",
            Self::SystemLater => "A system message stands in the middle; many students' templates refuse that.",
            Self::SameRoleTwice => "Two messages of one role follow each other.",
            Self::TurnsAfterAnswer => "Messages behind the last answer were left out.",
            Self::CutShort => "The answer stopped at a length limit, so its end is not learned.",
            Self::TemplateInPrompt => {
                "The prompt holds marks of a chat template, which the student reads as plain text."
            }
            Self::LabelsPartial => "The teacher's log-probabilities cover only the beginning of the answer.",
            Self::LabelsByIdOnly => {
                "The log-probabilities name token ids only: a student with the teacher's tokenizer can use them."
            }
            Self::LabelsLeftOut => {
                "The log-probabilities could not be laid beside the answer; the row is used as text."
            }
            Self::LabelsAfterSampling => {
                "The probabilities are those after temperature and top-k, not the teacher's own."
            }
        })
    }
}

/// Makes a row of a draft, or says why not.
pub(super) fn check(draft: Draft, options: &Options, file: usize, line: usize) -> Result<Row, Reason> {
    let Draft {
        format,
        layout,
        mut turns,
        tools,
        labels,
        raw,
        mut notes,
    } = draft;
    if layout == Layout::Chat {
        roles(&turns, &mut notes)?;
    }
    // Chat or text, an answer must say something; a row of ids may have no text at all.
    if layout != Layout::Tokens {
        for turn in turns.iter().filter(|turn| turn.train) {
            if turn.content.trim().is_empty() && turn.tool_calls.is_empty() {
                return Err(Reason::EmptyAnswer);
            }
        }
    }
    // The first token of a row is predicted by nothing.
    if layout == Layout::Tokens && labels.as_ref().is_none_or(|soft| soft.teacher.len() < 2) {
        return Err(Reason::NothingToTrain);
    }
    match turns.iter().rposition(|turn| turn.train) {
        None if options.keep_prompts && turns.last().is_some_and(|turn| turn.role != Role::Assistant) => {}
        None => return Err(Reason::NothingToTrain),
        Some(last) => {
            if last + 1 < turns.len() {
                turns.truncate(last + 1);
                notes.push(Note::TurnsAfterAnswer);
            }
        }
    }
    if turns.iter().any(|turn| turn.train && !turn.ended) {
        notes.push(Note::CutShort);
    }
    if layout == Layout::Plain && turns.iter().any(|turn| !turn.train && has_marks(&turn.content)) {
        notes.push(Note::TemplateInPrompt);
    }
    let kind = labels.as_ref().map(|soft| soft.labels);
    let mut teacher = None;
    if let Some(soft) = labels {
        let mut told = soft.teacher;
        if told.after_sampling {
            notes.push(Note::LabelsAfterSampling);
        }
        match place(&mut told, &turns, raw.as_deref(), soft.scope) {
            Ok(Some(Note::LabelsLeftOut)) => notes.push(Note::LabelsLeftOut),
            Err(Reason::NotSpelled) if options.keep_misspelled => notes.push(Note::LabelsLeftOut),
            Err(reason) => return Err(reason),
            Ok(note) => {
                notes.extend(note);
                teacher = Some(told);
            }
        }
    }
    notes.sort_unstable();
    notes.dedup();
    Ok(Row {
        turns,
        layout,
        tools,
        labels: kind.filter(|_| teacher.is_some()),
        teacher,
        format,
        file,
        line,
        custom_id: None,
        notes,
    })
}

/// Whether every id that a teacher names is in a vocabulary of that size.
///
/// # Errors
/// [`Reason::UnknownId`] with the largest id that is not.
pub fn check_ids(teacher: &Teacher, vocabulary: usize) -> Result<(), Reason> {
    match teacher.largest_id() {
        Some(id) if id as usize >= vocabulary => Err(Reason::UnknownId { id, vocabulary }),
        _ => Ok(()),
    }
}

/// Roles in an order that a conversation can have.
fn roles(turns: &[Turn], notes: &mut Vec<Note>) -> Result<(), Reason> {
    let mut before: Option<Role> = None;
    for (i, turn) in turns.iter().enumerate() {
        let why = match (turn.role, before) {
            (Role::Assistant, None | Some(Role::System)) if !turns[..i].iter().any(|t| t.role == Role::User) => {
                Some("the assistant speaks before the user")
            }
            (Role::Tool, Some(Role::Assistant | Role::Tool)) => None,
            (Role::Tool, _) => Some("a tool answers without having been called"),
            _ => None,
        };
        if let Some(why) = why {
            return Err(Reason::RoleOrder { why });
        }
        if turn.role == Role::System && i > 0 {
            notes.push(Note::SystemLater);
        } else if before == Some(turn.role) && turn.role != Role::Tool {
            notes.push(Note::SameRoleTwice);
        }
        before = Some(turn.role);
    }
    Ok(())
}

/// Marks with which chat templates begin a turn.
fn has_marks(text: &str) -> bool {
    [
        "<|im_start|>",
        "<|start_header_id|>",
        "<start_of_turn>",
        "[INST]",
        "<|user|>",
        "<|start|>",
        "<\u{ff5c}User\u{ff5c}>",
    ]
    .iter()
    .any(|mark| text.contains(mark))
}

/// Lays the teacher's tokens beside the turns.
fn place(teacher: &mut Teacher, turns: &[Turn], raw: Option<&str>, scope: Scope) -> Result<Option<Note>, Reason> {
    let by_id = |teacher: &mut Teacher, placement| {
        teacher.placement = placement;
        Ok(Some(if teacher.has_ids() {
            Note::LabelsByIdOnly
        } else {
            Note::LabelsLeftOut
        }))
    };
    match scope {
        Scope::RowEnd => return by_id(teacher, Placement::RowEnd),
        Scope::Row => return by_id(teacher, Placement::Row),
        Scope::Answer if teacher.has_absent() => return by_id(teacher, Placement::Answer),
        Scope::Rendering if teacher.has_absent() => return by_id(teacher, Placement::Row),
        Scope::Answer | Scope::Rendering => {}
    }
    let Some((turn, said)) = turns.iter().enumerate().rfind(|(_, turn)| turn.train) else {
        return Ok(Some(Note::LabelsLeftOut));
    };
    if !teacher.is_spelled() && !teacher.repair(raw.unwrap_or(&said.content).as_bytes()) {
        return Ok(Some(Note::LabelsLeftOut));
    }
    // An answer that was cut off may end within a character.
    let text = match std::str::from_utf8(teacher.text()) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&teacher.text()[..error.valid_up_to()]).unwrap_or_default(),
    };
    let found = match scope {
        Scope::Rendering => in_rendering(text, turns),
        _ => {
            let before: String = match turns[..turn] {
                [ref prompt] => prompt.content.clone(),
                _ => String::new(),
            };
            in_answer(text, turn, said, &before)
        }
    };
    match found {
        Some((spans, partial)) => {
            teacher.spans = spans;
            Ok(partial.then_some(Note::LabelsPartial))
        }
        // Calls are written in the teacher's own way, which the student's template will not repeat.
        None if !said.tool_calls.is_empty() || scope == Scope::Rendering => Ok(Some(Note::LabelsLeftOut)),
        None => Err(Reason::NotSpelled),
    }
}

/// Finds an answer in what the tokens spell: `(spans, whether they end before the answer does)`.
fn in_answer(text: &str, turn: usize, said: &Turn, before: &str) -> Option<(Vec<Span>, bool)> {
    if text.is_empty() {
        return None;
    }
    let content = said.content.as_str();
    let span = |part, bytes| Span { turn, part, bytes };
    let split = reasoning::split(text);
    if split.found {
        let mut spans = Vec::new();
        let thought = split.reasoning.clone();
        spans.extend(
            thought
                .filter(|range| said.reasoning.as_deref() == Some(&text[range.clone()]))
                .map(|range| span(Part::Reasoning, range)),
        );
        if let Some((range, partial)) = beginning(text, split.content.start, content) {
            spans.push(span(Part::Content, range));
            return Some((spans, partial));
        }
        if split.content.is_empty() && !spans.is_empty() {
            return Some((spans, true));
        }
    }
    let white = text.len() - text.trim_start().len();
    for from in [0, white] {
        if let Some((range, partial)) = beginning(text, from, content) {
            return Some((vec![span(Part::Content, range)], partial));
        }
    }
    // Some engines repeat the prompt in front of the answer.
    if before.is_empty() || !text.starts_with(before) {
        return None;
    }
    beginning(text, before.len(), content).map(|(range, partial)| (vec![span(Part::Content, range)], partial))
}

/// Where `content` stands from `from` on: whole with at most scaffolding behind it, or its beginning up to the end of `text`.
fn beginning(text: &str, from: usize, content: &str) -> Option<(std::ops::Range<usize>, bool)> {
    let rest = text.get(from..)?;
    if content.is_empty() {
        return None;
    }
    if let Some(behind) = rest.strip_prefix(content) {
        return is_scaffolding(behind).then(|| (from..from + content.len(), false));
    }
    (!rest.is_empty() && content.starts_with(rest)).then_some((from..text.len(), true))
}

/// White space, or a short mark such as an end token.
fn is_scaffolding(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || (text.len() <= 64 && text.starts_with(['<', '[']))
}

/// Finds the trained turns in a whole row as a template wrote it, from the last one backwards.
fn in_rendering(text: &str, turns: &[Turn]) -> Option<(Vec<Span>, bool)> {
    let mut spans = Vec::new();
    let mut limit = text.len();
    for (index, turn) in turns.iter().enumerate().rev() {
        if turn.content.is_empty() {
            continue;
        }
        let at = match text[..limit].rfind(&turn.content) {
            Some(at) => at,
            // Looking on for earlier turns would search the whole text once for each.
            None => break,
        };
        let end = at + turn.content.len();
        // Behind an answer there is nothing but marks, up to the next turn; else these letters stood there by chance.
        if turn.train && !is_scaffolding(&text[end..limit]) {
            break;
        }
        limit = at;
        if !turn.train {
            continue;
        }
        spans.push(Span {
            turn: index,
            part: Part::Content,
            bytes: at..end,
        });
        // Templates drop the reasoning of earlier turns, and looking for what is not there would cost each time.
        let thought = turn
            .reasoning
            .as_deref()
            .filter(|_| spans.len() == 1)
            .unwrap_or_default();
        let Some(at) = text[..limit].rfind(thought).filter(|_| !thought.is_empty()) else {
            continue;
        };
        spans.push(Span {
            turn: index,
            part: Part::Reasoning,
            bytes: at..at + thought.len(),
        });
        limit = at;
    }
    spans.reverse();
    (!spans.is_empty()).then_some((spans, false))
}
