//! A row of traces as a student meets it: its own template writes it, its own tokenizer cuts it, and each token that the
//! teacher wrote is a target.
//!
//! Where a turn of the teacher begins and ends is found by writing the conversation up to there: what the template writes
//! in front of an answer is not trained, and of what it writes behind only the token that ends the turn. A template that
//! changes earlier turns (many take their reasoning out) is followed as far as the two texts agree.

use crate::error::Result;
use crate::text::template::{RenderOptions, Template};
use crate::text::tokenizer::Tokenizer;
use crate::traces::align::{ByteMap, Student, Tally, Target, align, align_ids};
use crate::traces::{Layout, Part, Placement, Row, Turn};
use serde_json::{Value as Json, json};
use std::ops::Range;
use std::rc::Rc;

/// What is done with the teacher's reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reasoning {
    /// It is learned.
    #[default]
    Keep,
    /// It is left out: only answers are learned.
    Strip,
    /// Only so many characters of it are kept, from its end backwards to a line's or a sentence's beginning.
    Shorten(usize),
}

/// A lesson.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    /// The student's tokens, T.
    pub tokens: Vec<u32>,
    /// For each position the token that should follow it, where that is trained, `(T)`.
    pub targets: Vec<Option<u32>>,
    /// For each position what the teacher thought of the token that follows, `(T)`: ids with log-probabilities.
    pub soft: Vec<Option<(Vec<u32>, Vec<f32>)>>,
    /// Bytes of the text that each token stands for, `(T)`; for pictures of what is trained.
    pub spans: Vec<Range<usize>>,
    /// The text.
    pub text: String,
    /// Tokens that did not fit.
    pub cut: usize,
    /// How much of the teacher's probabilities could be used.
    pub tally: Tally,
    /// File and line of the row.
    pub origin: (usize, usize),
    /// [`Row::fingerprint`].
    pub fingerprint: u64,
}

impl Lesson {
    /// Tokens that are trained.
    pub fn trained(&self) -> usize {
        self.targets.iter().flatten().count()
    }
}

/// Why a row is no lesson for this student.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// No turn of the teacher is left in what the template writes, or in what fits.
    NothingTrained,
    /// The row is token ids of another vocabulary.
    OtherTokens,
    /// The tokens do not spell the text: the tokenizer changes it.
    Respelled,
}

impl Unfit {
    /// A sentence.
    pub fn sentence(&self) -> &'static str {
        match self {
            Self::NothingTrained => "nothing that the teacher wrote is left after the template and the longest row",
            Self::OtherTokens => "it is token ids of a vocabulary that this student does not have",
            Self::Respelled => "this student's tokenizer changes its text, so that its tokens cannot be laid beside it",
        }
    }
}

/// What makes lessons of rows.
pub struct Desk<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a Template,
    map: Rc<ByteMap>,
    /// Longest row, in tokens.
    pub longest: usize,
    /// What is done with reasoning.
    pub reasoning: Reasoning,
}

/// Number of a turn, and the bytes of the text that the template writes for it.
type TrainedTurn = (usize, Range<usize>);

impl<'a> Desk<'a> {
    /// For a student's tokenizer and template; rows of at most `longest` tokens.
    pub fn new(tokenizer: &'a Tokenizer, template: &'a Template, longest: usize) -> Self {
        let ids = 0..tokenizer.vocab_size() as u32;
        let plain = ids.filter(|id| !tokenizer.is_control(*id));
        let map = ByteMap::new(plain.map(|id| (id, tokenizer.piece(id))));
        Self::with(tokenizer, template, longest, Rc::new(map))
    }

    /// As [`Desk::new`], with the map of another desk of the same student: it is made of the whole vocabulary.
    pub fn with(tokenizer: &'a Tokenizer, template: &'a Template, longest: usize, map: Rc<ByteMap>) -> Self {
        Self {
            map,
            tokenizer,
            template,
            longest,
            reasoning: Reasoning::default(),
        }
    }

    /// Which bytes are which token.
    pub fn map(&self) -> Rc<ByteMap> {
        self.map.clone()
    }

    /// The lesson of a row; the inner result says why a row is none.
    ///
    /// Errors: what the template and the tokenizer refuse.
    pub fn lesson(&self, row: &Row) -> Result<std::result::Result<Lesson, Unfit>> {
        let mut turns = row.turns.clone();
        for turn in &mut turns {
            turn.reasoning = turn.reasoning.take().and_then(|text| self.shortened(text));
        }
        if row.layout == Layout::Tokens {
            return Ok(self.of_ids(row));
        }
        let (text, trained) = match row.layout {
            Layout::Plain => {
                let mut text = String::new();
                let mut trained = Vec::new();
                for (i, turn) in turns.iter().enumerate() {
                    let begin = text.len();
                    text.push_str(&turn.content);
                    if turn.train {
                        trained.push((i, begin..text.len()));
                    }
                }
                (text, trained)
            }
            _ => self.written(&turns, row.tools.as_ref())?,
        };
        let parse_special = row.layout == Layout::Chat;
        let mut tokens = self.tokenizer.encode(&text, false, parse_special)?;
        let mut added = 0;
        if let (true, Some(bos)) = (self.tokenizer.adds_bos(), self.tokenizer.bos())
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
            added = 1;
        }
        let Some(mut spans) = self.spans(&text, &tokens[added..]) else {
            return Ok(Err(Unfit::Respelled));
        };
        if added == 1 {
            spans.insert(0, 0..0);
        }
        // A turn that came to its end ends with a token that says so; plain formats have it only where the file's rules do.
        let last_ended = turns.last().is_some_and(|turn| turn.train && turn.ended);
        let has_end = trained.last().is_some_and(|(_, range)| {
            tokens
                .iter()
                .zip(&spans)
                .any(|(id, s)| s.start >= range.start && self.tokenizer.is_end(*id))
        });
        if let (true, false, Some(end)) = (last_ended, has_end, self.tokenizer.eot().or(self.tokenizer.eos())) {
            tokens.push(end);
            spans.push(text.len()..text.len());
        }
        let mut is_trained = vec![false; tokens.len()];
        for (turn, range) in &trained {
            for t in 0..tokens.len() {
                let inside =
                    spans[t].start >= range.start && (spans[t].end <= range.end || self.tokenizer.is_end(tokens[t]));
                if !inside || spans[t].is_empty() && t + 1 < tokens.len() {
                    continue;
                }
                if self.tokenizer.is_end(tokens[t]) {
                    is_trained[t] |= turns[*turn].ended;
                    break;
                }
                is_trained[t] = true;
            }
        }
        let mut lesson = Lesson {
            targets: vec![None; tokens.len()],
            soft: vec![None; tokens.len()],
            spans,
            text,
            cut: 0,
            tally: Tally::default(),
            origin: (row.file, row.line),
            fingerprint: row.fingerprint(),
            tokens,
        };
        for t in 1..lesson.tokens.len() {
            if is_trained[t] {
                lesson.targets[t - 1] = Some(lesson.tokens[t]);
            }
        }
        self.lay_teacher(row, &turns, &trained, &mut lesson);
        Ok(self.fitted(lesson))
    }

    fn shortened(&self, text: String) -> Option<String> {
        match self.reasoning {
            Reasoning::Keep => Some(text),
            Reasoning::Strip => None,
            Reasoning::Shorten(most) => {
                let count = text.chars().count();
                if count <= most {
                    return Some(text);
                }
                let rest: String = text.chars().skip(count - most).collect();
                let begin = rest.find(['\n', '.']).map_or(0, |at| at + 1);
                Some(rest[begin..].trim_start().to_owned()).filter(|rest| !rest.is_empty())
            }
        }
    }

    /// The text of a conversation, and the bytes of each trained turn from its first to the end of what the template
    /// writes for it.
    fn written(&self, turns: &[Turn], tools: Option<&Json>) -> Result<(String, Vec<TrainedTurn>)> {
        let messages: Vec<Json> = turns.iter().map(message).collect();
        let write = |count: usize, prompt: bool| {
            let options = RenderOptions {
                add_generation_prompt: prompt,
                tools: tools.cloned(),
                ..RenderOptions::default()
            };
            self.template.render_json(&messages[..count], &options)
        };
        let text = write(turns.len(), false)?;
        let mut trained = Vec::new();
        for (i, _) in turns.iter().enumerate().filter(|(_, turn)| turn.train) {
            let before = common(&write(i, true)?, &text);
            let behind = common(&write(i + 1, false)?, &text);
            if behind > before {
                trained.push((i, before..behind));
            }
        }
        Ok((text, trained))
    }

    /// Bytes of `text` that each token stands for; `None` where the tokens spell another text.
    fn spans(&self, text: &str, tokens: &[u32]) -> Option<Vec<Range<usize>>> {
        let bytes = text.as_bytes();
        let mut at = 0;
        let mut spans = Vec::with_capacity(tokens.len());
        for id in tokens {
            let piece: &[u8] = if self.tokenizer.is_control(*id) {
                self.tokenizer.token_text(*id)?.as_bytes()
            } else {
                self.tokenizer.piece(*id)
            };
            // SentencePiece puts a space in front that the text does not have.
            let length = if bytes[at..].starts_with(piece) {
                piece.len()
            } else {
                let rest = piece.strip_prefix(b" ").filter(|rest| bytes[at..].starts_with(rest))?;
                rest.len()
            };
            spans.push(at..at + length);
            at += length;
        }
        (at == bytes.len()).then_some(spans)
    }

    /// What the teacher thought, laid beside the student's tokens.
    fn lay_teacher(&self, row: &Row, turns: &[Turn], trained: &[TrainedTurn], lesson: &mut Lesson) {
        let Some(teacher) = &row.teacher else { return };
        let put = |targets: Vec<Target>, first: usize, lesson: &mut Lesson| {
            for target in targets {
                if let Target::Soft { token, ids, logprobs } = target
                    && let Some(position) = (first + token).checked_sub(1)
                    && lesson.targets.get(position).is_some_and(Option::is_some)
                {
                    lesson.soft[position] = Some((ids, logprobs));
                }
            }
        };
        match teacher.placement {
            Placement::Bytes => {
                let text = lesson.text.clone();
                for span in &teacher.spans {
                    let Some((_, range)) = trained.iter().find(|(turn, _)| *turn == span.turn) else {
                        continue;
                    };
                    let said = match span.part {
                        Part::Content => Some(turns[span.turn].content.as_str()),
                        Part::Reasoning => turns[span.turn].reasoning.as_deref(),
                    };
                    // Shortened reasoning is not what the teacher's tokens spell.
                    let Some(said) = said.filter(|said| !said.is_empty()) else {
                        continue;
                    };
                    let inside = &text[range.clone()];
                    let found = match span.part {
                        Part::Content => inside.rfind(said),
                        Part::Reasoning => inside.find(said),
                    };
                    let Some(at) = found.map(|at| range.start + at) else {
                        continue;
                    };
                    if teacher
                        .text()
                        .get(span.bytes.clone())
                        .is_none_or(|theirs| !said.as_bytes().starts_with(theirs))
                    {
                        continue;
                    }
                    let pieces: Vec<&[u8]> = lesson.spans.iter().map(|s| &text.as_bytes()[s.clone()]).collect();
                    let student = Student {
                        ids: &lesson.tokens,
                        pieces: &pieces,
                    };
                    let aligned = align(teacher, span.bytes.clone(), &student, at..at + said.len(), &self.map);
                    lesson.tally.add(&aligned.tally);
                    put(aligned.targets, 0, lesson);
                }
            }
            Placement::Answer | Placement::RowEnd | Placement::Row => {
                let count = teacher.len();
                let first = match teacher.placement {
                    Placement::Row => 0,
                    Placement::RowEnd => lesson.tokens.len().saturating_sub(count),
                    _ => trained
                        .last()
                        .and_then(|(_, range)| {
                            lesson
                                .spans
                                .iter()
                                .position(|s| s.start >= range.start && !s.is_empty())
                        })
                        .unwrap_or(0),
                };
                let run = first..(first + count).min(lesson.tokens.len());
                let ids = lesson.tokens[run.clone()].to_vec();
                if let Some(aligned) = align_ids(teacher, 0..ids.len(), &ids, self.tokenizer.vocab_size()) {
                    lesson.tally.add(&aligned.tally);
                    put(aligned.targets, run.start, lesson);
                }
            }
        }
    }

    /// A row that is the teacher's own tokens.
    fn of_ids(&self, row: &Row) -> std::result::Result<Lesson, Unfit> {
        let teacher = row.teacher.as_ref().ok_or(Unfit::OtherTokens)?;
        let ids: Option<Vec<u32>> = teacher.tokens().map(|token| token.id).collect();
        let tokens = ids.ok_or(Unfit::OtherTokens)?;
        if tokens.iter().any(|id| *id as usize >= self.tokenizer.vocab_size()) {
            return Err(Unfit::OtherTokens);
        }
        let text = self.tokenizer.decode(&tokens);
        let mut lesson = Lesson {
            targets: tokens.iter().skip(1).copied().map(Some).chain([None]).collect(),
            soft: vec![None; tokens.len()],
            spans: vec![0..0; tokens.len()],
            text,
            cut: 0,
            tally: Tally::default(),
            origin: (row.file, row.line),
            fingerprint: row.fingerprint(),
            tokens,
        };
        if let Some(aligned) = align_ids(teacher, 0..teacher.len(), &lesson.tokens, self.tokenizer.vocab_size()) {
            lesson.tally.add(&aligned.tally);
            for target in aligned.targets {
                if let Target::Soft { token, ids, logprobs } = target
                    && token > 0
                {
                    lesson.soft[token - 1] = Some((ids, logprobs));
                }
            }
        }
        self.fitted(lesson)
    }

    /// Cuts what is too long, and refuses what has nothing left.
    fn fitted(&self, mut lesson: Lesson) -> std::result::Result<Lesson, Unfit> {
        lesson.cut = lesson.tokens.len().saturating_sub(self.longest);
        if lesson.cut > 0 {
            let longest = self.longest;
            lesson.tokens.truncate(longest);
            lesson.targets.truncate(longest);
            lesson.soft.truncate(longest);
            lesson.spans.truncate(longest);
            // The token behind the cut is gone, so nothing predicts it.
            if let Some(last) = lesson.targets.last_mut() {
                *last = None;
            }
            if let Some(last) = lesson.soft.last_mut() {
                *last = None;
            }
        }
        if lesson.trained() == 0 {
            return Err(Unfit::NothingTrained);
        }
        Ok(lesson)
    }
}

/// A turn in the words of chat templates.
fn message(turn: &Turn) -> Json {
    let mut message = json!({"role": turn.role.as_str(), "content": turn.content});
    if let Some(reasoning) = &turn.reasoning {
        message["reasoning_content"] = json!(reasoning);
    }
    if !turn.tool_calls.is_empty() {
        let calls = turn.tool_calls.iter().map(|call| {
            json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
        });
        message["tool_calls"] = calls.collect();
    }
    for (key, value) in [("tool_call_id", &turn.tool_call_id), ("name", &turn.name)] {
        if let Some(value) = value {
            message[key] = json!(value);
        }
    }
    message
}

/// Bytes that two texts begin with alike, whole characters.
fn common(a: &str, b: &str) -> usize {
    a.chars()
        .zip(b.chars())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a.len_utf8())
        .sum()
}
