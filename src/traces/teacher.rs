//! What a teacher said about its tokens: ids, bytes, log-probabilities, alternatives.

use super::validate::Reason;
use serde::Serialize;
use std::ops::Range;

/// How a teacher's tokens are laid beside a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// By their bytes, where [`Teacher::spans`] says.
    #[default]
    Bytes,
    /// Only ids are known: they are the tokens of the last trained turn, from its first. Needs a student with the same
    /// tokenizer.
    Answer,
    /// Only ids are known: they are the last tokens of the whole row as the template writes it.
    RowEnd,
    /// The ids are the whole row, from its first token; the text is for reading only.
    Row,
}

/// Which part of a turn a [`Span`] spells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// [`super::Turn::reasoning`].
    Reasoning,
    /// [`super::Turn::content`].
    Content,
}

/// A run of the teacher's bytes that spells a part of a turn, from that part's first byte on.
///
/// A teacher's text and a turn differ: tags around reasoning, end tokens and white space belong to the teacher's text alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Index of the turn.
    pub turn: usize,
    /// Which part of it.
    pub part: Part,
    /// Bytes of [`Teacher::text`].
    pub bytes: Range<usize>,
}

/// Bytes of a token, as far as its trace tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelled<'a> {
    Known(&'a [u8]),
    /// Part of a character, and the trace shows U+FFFD instead.
    Damaged,
    /// Only an id.
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Known,
    Damaged,
    Absent,
}

/// Bytes inside one of the two long byte strings of a [`Teacher`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bytes {
    at: u32,
    len: u32,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
struct TokenEntry {
    id: Option<u32>,
    logprob: Option<f32>,
    bytes: Bytes,
    alternatives_end: u32,
}

#[derive(Debug, Clone, PartialEq)]
struct AlternativeEntry {
    id: Option<u32>,
    logprob: f32,
    bytes: Bytes,
}

/// One token of the teacher's text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Token<'a> {
    /// Its id in the teacher's vocabulary.
    pub id: Option<u32>,
    /// Its bytes.
    pub bytes: Option<&'a [u8]>,
    /// Natural log of the probability that the teacher gave it; never above 0.
    pub logprob: Option<f32>,
}

/// One token that the teacher could have written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alternative<'a> {
    /// Its id in the teacher's vocabulary.
    pub id: Option<u32>,
    /// Its bytes.
    pub bytes: Option<&'a [u8]>,
    /// Natural log of its probability; never above 0.
    pub logprob: f32,
}

/// A teacher's tokens with their log-probabilities and alternatives, in a few flat lists: a row may hold thousands of
/// tokens with dozens of alternatives each.
///
/// The alternatives of a token are sorted by falling log-probability and contain the token itself where its log-probability
/// is known. Their probabilities sum to at most 1.01: what is above 1 is rounding, what is missing to 1 is the tail.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Teacher {
    /// The name that the trace gives the teacher.
    pub model: Option<String>,
    /// The temperature that the answer was drawn with, where the trace says so.
    pub temperature: Option<f32>,
    /// Whether the probabilities are those after temperature, top-k and the like, and not the model's own.
    pub after_sampling: bool,
    /// How the tokens lie beside the row.
    pub placement: Placement,
    /// Which bytes spell which parts of the row, in the order of the text. Empty unless the placement is by bytes.
    pub spans: Vec<Span>,
    text: Vec<u8>,
    tokens: Vec<TokenEntry>,
    alternative_text: Vec<u8>,
    alternatives: Vec<AlternativeEntry>,
}

/// A log-probability may exceed 0 by this much: rounding in half precision.
const ABOVE_ZERO: f64 = 1e-3;

/// The probabilities of a token's alternatives may sum to this much.
const MOST_MASS: f64 = 1.01;

/// Log-probabilities below this are probabilities of zero; providers write -9999 for "not among what was kept".
pub const LEAST_LOGPROB: f32 = -10_000.0;

impl Teacher {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// A token.
    ///
    /// # Panics
    /// Unless `token < self.len()`.
    pub fn token(&self, token: usize) -> Token<'_> {
        let entry = &self.tokens[token];
        Token {
            id: entry.id,
            bytes: entry.bytes.of(&self.text),
            logprob: entry.logprob,
        }
    }

    /// The tokens in order.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = Token<'_>> {
        (0..self.len()).map(|token| self.token(token))
    }

    /// What the teacher could have written in place of a token, the likeliest first; often with the token itself.
    ///
    /// # Panics
    /// Unless `token < self.len()`.
    pub fn alternatives(&self, token: usize) -> impl ExactSizeIterator<Item = Alternative<'_>> {
        self.alternatives[self.alternative_range(token)]
            .iter()
            .map(|entry| Alternative {
                id: entry.id,
                bytes: entry.bytes.of(&self.alternative_text),
                logprob: entry.logprob,
            })
    }

    /// Probability of all alternatives of a token together; 0 if there is none, at most 1.01.
    ///
    /// # Panics
    /// Unless `token < self.len()`.
    pub fn mass(&self, token: usize) -> f32 {
        let range = self.alternative_range(token);
        self.alternatives[range]
            .iter()
            .map(|a| f64::from(a.logprob).exp())
            .sum::<f64>() as f32
    }

    /// Bytes of all tokens in a row, those of unknown bytes left out.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Bytes of each token: what [`super::align`] takes. Tokens of unknown bytes have none.
    pub fn pieces(&self) -> Vec<&[u8]> {
        self.tokens().map(|token| token.bytes.unwrap_or_default()).collect()
    }

    /// The largest id that is named, to be compared with a vocabulary.
    pub fn largest_id(&self) -> Option<u32> {
        let tokens = self.tokens.iter().filter_map(|t| t.id);
        tokens.chain(self.alternatives.iter().filter_map(|a| a.id)).max()
    }

    /// Bytes that this value takes in memory, nearly.
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + self.text.capacity()
            + self.alternative_text.capacity()
            + self.tokens.capacity() * size_of::<TokenEntry>()
            + self.alternatives.capacity() * size_of::<AlternativeEntry>()
            + self.spans.capacity() * size_of::<Span>()
    }

    fn alternative_range(&self, token: usize) -> Range<usize> {
        let start = match token {
            0 => 0,
            _ => self.tokens[token - 1].alternatives_end as usize,
        };
        start..self.tokens[token].alternatives_end as usize
    }

    /// Begins a token; alternatives follow, then [`Teacher::close`].
    pub(super) fn open(&mut self, id: Option<u32>, bytes: Spelled<'_>, logprob: Option<f64>) -> Result<(), Reason> {
        let logprob = logprob.map(|l| checked(l, self.len())).transpose()?;
        let bytes = Bytes::put(bytes, &mut self.text);
        self.tokens.push(TokenEntry {
            id,
            logprob,
            bytes,
            alternatives_end: self.alternatives.len() as u32,
        });
        Ok(())
    }

    /// Adds an alternative of the token that is open.
    pub(super) fn add(&mut self, id: Option<u32>, bytes: Spelled<'_>, logprob: f64) -> Result<(), Reason> {
        let logprob = checked(logprob, self.len().saturating_sub(1))?;
        let bytes = Bytes::put(bytes, &mut self.alternative_text);
        self.alternatives.push(AlternativeEntry { id, logprob, bytes });
        Ok(())
    }

    /// Ends a token: its alternatives are completed by itself, merged where they repeat, sorted and added up.
    pub(super) fn close(&mut self) -> Result<(), Reason> {
        let Some(token) = self.tokens.last().cloned() else {
            return Ok(());
        };
        let number = self.len() - 1;
        let start = token.alternatives_end as usize;
        let spelled = token.bytes.of(&self.text);
        if let Some(logprob) = token.logprob.filter(|_| token.id.is_some() || spelled.is_some()) {
            let listed = self.alternatives[start..].iter().any(|a| match (a.id, token.id) {
                (Some(a), Some(b)) => a == b,
                _ => spelled.is_some() && a.bytes.of(&self.alternative_text) == spelled,
            });
            if !listed {
                let bytes = match token.bytes.kind {
                    Kind::Known => Bytes::put(Spelled::Known(spelled.unwrap_or_default()), &mut self.alternative_text),
                    _ => token.bytes,
                };
                self.alternatives.push(AlternativeEntry {
                    id: token.id,
                    logprob,
                    bytes,
                });
            }
        }
        self.merge(start);
        self.alternatives[start..].sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
        self.tokens[number].alternatives_end = self.alternatives.len() as u32;
        let mass: f64 = self.alternatives[start..]
            .iter()
            .map(|a| f64::from(a.logprob).exp())
            .sum();
        if mass > MOST_MASS {
            return Err(Reason::MassOverOne {
                token: number,
                mass: mass as f32,
            });
        }
        Ok(())
    }

    /// Merges alternatives that are listed twice: of one id, or of the same bytes where there are no ids. The same
    /// log-probability twice is a repetition; two different ones are two tokens of one spelling, and add up.
    fn merge(&mut self, start: usize) {
        let text = &self.alternative_text;
        let mut list: Vec<AlternativeEntry> = self.alternatives.drain(start..).collect();
        list.sort_by(|a, b| {
            let key = |e: &AlternativeEntry| (e.id, e.bytes.kind as u8);
            key(a)
                .cmp(&key(b))
                .then_with(|| match a.id {
                    None => a.bytes.of(text).cmp(&b.bytes.of(text)),
                    Some(_) => std::cmp::Ordering::Equal,
                })
                .then(b.logprob.total_cmp(&a.logprob))
        });
        for next in list {
            if let Some(last) = self.alternatives[start..].last_mut() {
                if next.id.is_some() && next.id == last.id {
                    continue;
                }
                let spelled = next.bytes.of(text);
                if next.id.is_none() && last.id.is_none() && spelled.is_some() && spelled == last.bytes.of(text) {
                    if next.logprob != last.logprob {
                        last.logprob = log_add(last.logprob, next.logprob).min(0.0);
                    }
                    continue;
                }
            }
            self.alternatives.push(next);
        }
    }

    /// Whether the bytes of every token are known.
    pub(super) fn is_spelled(&self) -> bool {
        self.tokens.iter().all(|t| t.bytes.kind == Kind::Known)
    }

    /// Whether there are tokens of which only the id is known, or not even that.
    pub(super) fn has_absent(&self) -> bool {
        self.tokens.iter().any(|t| t.bytes.kind == Kind::Absent)
    }

    /// Whether any id is known.
    pub(super) fn has_ids(&self) -> bool {
        self.tokens.iter().any(|t| t.id.is_some()) || self.alternatives.iter().any(|a| a.id.is_some())
    }

    /// Finds the bytes of damaged tokens in `text`, which the tokens should spell. Where several in a row share a
    /// character, the last one gets all of its bytes: such a run is then aligned as one.
    ///
    /// `false` if the known tokens do not stand in `text`.
    pub(super) fn repair(&mut self, text: &[u8]) -> bool {
        let mut out: Vec<u8> = Vec::with_capacity(text.len());
        let mut found = Vec::with_capacity(self.tokens.len());
        let mut next = 0;
        while let Some(entry) = self.tokens.get(next) {
            let at = out.len();
            if entry.bytes.kind == Kind::Absent {
                return false;
            }
            if let Some(bytes) = entry.bytes.of(&self.text) {
                // Behind the end of the text there may be an end token.
                if at < text.len() && !text[at..].starts_with(bytes) {
                    return false;
                }
                out.extend_from_slice(bytes);
                found.push(Bytes::known(at, bytes.len()));
                next += 1;
                continue;
            }
            let run = self.tokens[next..]
                .iter()
                .take_while(|t| t.bytes.kind == Kind::Damaged)
                .count();
            let rest = text.get(at..).unwrap_or_default();
            // Enough of what follows to know it again.
            let mut needle = Vec::new();
            for entry in &self.tokens[next + run..] {
                match entry.bytes.of(&self.text) {
                    Some(bytes) if needle.len() < 64 => needle.extend_from_slice(bytes),
                    _ => break,
                }
            }
            let needle = &needle[..needle.len().min(64)];
            let window = &rest[..rest.len().min(run * 32 + 64)];
            let gap = if needle.is_empty() {
                rest.len()
            } else {
                match (1..window.len().max(1)).find(|from| window[*from..].starts_with(needle)) {
                    Some(from) => from,
                    // Only an end token follows, which the text does not have.
                    None if next + run + 1 == self.tokens.len() => rest.len(),
                    None => return false,
                }
            };
            if gap == 0 {
                return false;
            }
            out.extend_from_slice(&rest[..gap]);
            found.extend(std::iter::repeat_n(Bytes::known(at, 0), run - 1));
            found.push(Bytes::known(at, gap));
            next += run;
        }
        for (entry, bytes) in self.tokens.iter_mut().zip(found) {
            entry.bytes = bytes;
        }
        self.text = out;
        true
    }
}

impl Bytes {
    fn put(bytes: Spelled<'_>, into: &mut Vec<u8>) -> Self {
        let at = into.len() as u32;
        let (len, kind) = match bytes {
            Spelled::Known(bytes) => {
                into.extend_from_slice(bytes);
                (bytes.len() as u32, Kind::Known)
            }
            Spelled::Damaged => (0, Kind::Damaged),
            Spelled::Absent => (0, Kind::Absent),
        };
        Self { at, len, kind }
    }

    fn known(at: usize, len: usize) -> Self {
        Self {
            at: at as u32,
            len: len as u32,
            kind: Kind::Known,
        }
    }

    fn of(self, text: &[u8]) -> Option<&[u8]> {
        (self.kind == Kind::Known).then(|| &text[self.at as usize..(self.at + self.len) as usize])
    }
}

/// A log-probability that can be one.
fn checked(logprob: f64, token: usize) -> Result<f32, Reason> {
    if logprob.is_nan() {
        return Err(Reason::NotANumber { token });
    }
    if logprob > ABOVE_ZERO {
        return Err(Reason::LogprobOverZero { token });
    }
    Ok(logprob.clamp(f64::from(LEAST_LOGPROB), 0.0) as f32)
}

/// ln(e^a + e^b).
pub(super) fn log_add(a: f32, b: f32) -> f32 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    (f64::from(high) + (f64::from(low) - f64::from(high)).exp().ln_1p()) as f32
}
