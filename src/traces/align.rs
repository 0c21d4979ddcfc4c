//! Teacher tokens and student tokens over the same bytes, grouped; and what a student can learn from each group.
//!
//! Two tokenizers cut one text in two ways. Where both have a boundary, a group ends. In a group of one token on each side,
//! the teacher's alternatives are the student's too, byte string by byte string; in any other group the two sides agree on
//! the probability of the whole chunk only. What has neither is learned as text.

use super::teacher::{Teacher, log_add};
use std::ops::Range;

/// Where tokens end within a window of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cuts {
    /// The first token that lies within the window as a whole.
    pub first: usize,
    /// Byte offsets from the window's start: where that token begins, then where it and each following token end.
    pub bounds: Vec<usize>,
}

impl Cuts {
    /// The tokens of `pieces` that lie within a window of the bytes that they spell together. A token that reaches over an
    /// edge is left out; so is one without bytes at the window's end, which belongs to what follows.
    pub fn of<P: AsRef<[u8]>>(pieces: &[P], window: Range<usize>) -> Self {
        let mut at = 0;
        let mut cuts = Self {
            first: pieces.len(),
            bounds: Vec::new(),
        };
        for (token, piece) in pieces.iter().enumerate() {
            let start = at;
            at += piece.as_ref().len();
            if start < window.start {
                continue;
            }
            if start >= window.end || at > window.end {
                break;
            }
            if cuts.bounds.is_empty() {
                cuts.first = token;
                cuts.bounds.push(start - window.start);
            }
            cuts.bounds.push(at - window.start);
        }
        cuts
    }
}

/// Tokens of both sides over the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The teacher's tokens.
    pub teacher: Range<usize>,
    /// The student's tokens.
    pub student: Range<usize>,
}

/// The smallest groups that begin and end where both sides have a boundary, in order. A token without bytes belongs to the
/// group that begins where it stands.
pub fn groups(teacher: &Cuts, student: &Cuts) -> Vec<Group> {
    let (a, b) = (&teacher.bounds, &student.bounds);
    let (mut i, mut j) = (0, 0);
    let mut begun: Option<(usize, usize)> = None;
    let mut out = Vec::new();
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                if let Some((from_a, from_b)) = begun {
                    out.push(Group {
                        teacher: teacher.first + from_a..teacher.first + i,
                        student: student.first + from_b..student.first + j,
                    });
                }
                begun = Some((i, j));
                // Boundaries that repeat are those of tokens without bytes: they come after the one that ends the group.
                let at = a[i];
                i += a[i..].iter().take_while(|end| **end == at).count();
                j += b[j..].iter().take_while(|end| **end == at).count();
            }
        }
    }
    out
}

/// From byte strings to a student's ids, made once for a vocabulary.
#[derive(Debug, Clone)]
pub struct ByteMap {
    text: Vec<u8>,
    /// Sorted by their bytes: `(start, length, id)`.
    entries: Vec<(u32, u32, u32)>,
}

impl ByteMap {
    /// A map of the tokens that text can hold; leave control tokens out. Of several ids with the same bytes, the lowest
    /// counts. Tokens without bytes are passed over.
    pub fn new<P: AsRef<[u8]>>(pieces: impl IntoIterator<Item = (u32, P)>) -> Self {
        let mut text = Vec::new();
        let mut entries = Vec::new();
        for (id, piece) in pieces {
            let piece = piece.as_ref();
            if !piece.is_empty() {
                entries.push((text.len() as u32, piece.len() as u32, id));
                text.extend_from_slice(piece);
            }
        }
        let bytes = |entry: &(u32, u32, u32)| &text[entry.0 as usize..(entry.0 + entry.1) as usize];
        entries.sort_by(|a, b| bytes(a).cmp(bytes(b)).then(a.2.cmp(&b.2)));
        entries.dedup_by(|later, first| bytes(later) == bytes(first));
        Self { text, entries }
    }

    /// The id of a byte string.
    pub fn id(&self, bytes: &[u8]) -> Option<u32> {
        let of = |entry: &(u32, u32, u32)| &self.text[entry.0 as usize..(entry.0 + entry.1) as usize];
        let found = self.entries.binary_search_by(|entry| of(entry).cmp(bytes)).ok()?;
        Some(self.entries[found].2)
    }

    /// Number of different byte strings.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What a student learns at one token, or at a chunk of them. Token numbers are the student's.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A distribution over student ids; what their probabilities lack to 1 is one bucket for all the rest.
    Soft {
        /// The token that is predicted.
        token: usize,
        /// Student ids, each once.
        ids: Vec<u32>,
        /// Their log-probabilities by the teacher.
        logprobs: Vec<f32>,
    },
    /// The teacher's log-probability of a chunk, to be met by the student's sum over its tokens.
    Chunk {
        /// The tokens.
        tokens: Range<usize>,
        /// Sum of the teacher's log-probabilities of its own tokens.
        logprob: f32,
    },
    /// Nothing but the tokens themselves: cross-entropy.
    Hard {
        /// The tokens.
        tokens: Range<usize>,
    },
}

/// How much of what a teacher told could be used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Student tokens with a distribution.
    pub soft: usize,
    /// Student tokens in chunks.
    pub chunked: usize,
    /// Student tokens with cross-entropy only.
    pub hard: usize,
    /// Groups of one token on each side that had alternatives.
    pub paired: usize,
    /// Probability of the alternatives of these groups, summed over them.
    pub offered: f64,
    /// The part of it whose byte strings the student has as tokens.
    pub mapped: f64,
}

impl Tally {
    /// Mean probability per paired group that found no student token. What the teacher did not list is not counted.
    pub fn unmapped(&self) -> f64 {
        (self.offered - self.mapped).max(0.0) / self.paired.max(1) as f64
    }

    /// Adds another row's.
    pub fn add(&mut self, other: &Self) {
        self.soft += other.soft;
        self.chunked += other.chunked;
        self.hard += other.hard;
        self.paired += other.paired;
        self.offered += other.offered;
        self.mapped += other.mapped;
    }
}

/// Targets of a run of student tokens, in order and without gaps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Aligned {
    /// What to learn.
    pub targets: Vec<Target>,
    /// How much was used.
    pub tally: Tally,
}

/// A distribution is used if its mapped alternatives have at least this probability.
pub const LEAST_MAPPED: f64 = 0.5;

/// A student's tokens.
#[derive(Debug)]
pub struct Student<'a, P> {
    /// Their ids.
    pub ids: &'a [u32],
    /// Their bytes, one piece per id.
    pub pieces: &'a [P],
}

/// Targets for the student tokens within a window of bytes, from the teacher tokens over `span`, which spells the same.
///
/// `span` counts bytes of [`Teacher::text`], `window` bytes of the student's pieces; both run from the first byte of the same
/// text. The window may be longer than the span, where the teacher's tokens end early. Student tokens that reach over the
/// window's edge are nobody's here.
pub fn align<P: AsRef<[u8]>>(
    teacher: &Teacher,
    span: Range<usize>,
    student: &Student<'_, P>,
    window: Range<usize>,
    map: &ByteMap,
) -> Aligned {
    assert_eq!(
        student.ids.len(),
        student.pieces.len(),
        "each student token has its bytes"
    );
    let pieces = teacher.pieces();
    let ours = Cuts::of(student.pieces, window);
    let all = ours.first..ours.first + ours.bounds.len().saturating_sub(1);
    let mut out = Aligned::default();
    let mut next = all.start;
    for group in groups(&Cuts::of(&pieces, span), &ours) {
        out.hard(next..group.student.start);
        next = group.student.end;
        out.group(teacher, &pieces, &group, student, map);
    }
    out.hard(next..all.end);
    out
}

/// Targets for a student with the teacher's own tokenizer: token by token, alternatives by id. `tokens` of the teacher stand
/// beside all of `student`, whose vocabulary has `vocabulary` ids. Teacher tokens that are another token than the student's,
/// or that no alternative describes, give cross-entropy.
///
/// `None` if the two runs differ in length: the tokenizers or the templates are not the same after all.
pub fn align_ids(teacher: &Teacher, tokens: Range<usize>, student: &[u32], vocabulary: usize) -> Option<Aligned> {
    if tokens.end > teacher.len() || tokens.len() != student.len() {
        return None;
    }
    let mut out = Aligned::default();
    for (token, (theirs, ours)) in tokens.zip(student).enumerate() {
        if teacher.token(theirs).id.is_some_and(|id| id != *ours) {
            out.hard(token..token + 1);
            continue;
        }
        let known = |id: &u32| (*id as usize) < vocabulary;
        out.soft(teacher, theirs, token, |alternative| alternative.id.filter(known));
    }
    Some(out)
}

impl Aligned {
    fn group<P: AsRef<[u8]>>(
        &mut self,
        teacher: &Teacher,
        pieces: &[&[u8]],
        group: &Group,
        student: &Student<'_, P>,
        map: &ByteMap,
    ) {
        let theirs = pieces[group.teacher.clone()].iter().flat_map(|piece| piece.iter());
        let ours = student.pieces[group.student.clone()]
            .iter()
            .flat_map(|piece| piece.as_ref().iter());
        if !theirs.eq(ours) || group.student.is_empty() {
            // The two sides do not hold the same text here: offsets that agree say nothing.
            return self.hard(group.student.clone());
        }
        if let (1, 1) = (group.teacher.len(), group.student.len()) {
            let token = group.student.start;
            let own = student.pieces[token].as_ref();
            return self.soft(teacher, group.teacher.start, token, |alternative| {
                let bytes = alternative.bytes?;
                // Of several ids with these bytes, the one that the student's tokenizer chose.
                if bytes == own {
                    return Some(student.ids[token]);
                }
                map.id(bytes)
            });
        }
        let logprobs = group.teacher.clone().map(|token| teacher.token(token).logprob);
        match logprobs.sum::<Option<f32>>() {
            Some(logprob) => {
                self.tally.chunked += group.student.len();
                self.targets.push(Target::Chunk {
                    tokens: group.student.clone(),
                    logprob,
                });
            }
            None => self.hard(group.student.clone()),
        }
    }

    /// A distribution, if enough of it is mapped.
    fn soft(
        &mut self,
        teacher: &Teacher,
        theirs: usize,
        token: usize,
        id: impl Fn(&super::Alternative<'_>) -> Option<u32>,
    ) {
        let mut found: Vec<(u32, f32)> = Vec::new();
        let (mut offered, mut mapped) = (0.0, 0.0);
        for alternative in teacher.alternatives(theirs) {
            let p = f64::from(alternative.logprob).exp();
            offered += p;
            if let Some(id) = id(&alternative) {
                mapped += p;
                found.push((id, alternative.logprob));
            }
        }
        if offered > 0.0 {
            self.tally.paired += 1;
            self.tally.offered += offered;
            self.tally.mapped += mapped;
        }
        if mapped < LEAST_MAPPED {
            return self.hard(token..token + 1);
        }
        // Two of the teacher's tokens may be one of the student's.
        found.sort_by_key(|(id, _)| *id);
        found.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 = log_add(first.1, later.1).min(0.0);
            }
            same
        });
        self.tally.soft += 1;
        self.targets.push(Target::Soft {
            token,
            ids: found.iter().map(|(id, _)| *id).collect(),
            logprobs: found.iter().map(|(_, logprob)| *logprob).collect(),
        });
    }

    fn hard(&mut self, tokens: Range<usize>) {
        if tokens.is_empty() {
            return;
        }
        self.tally.hard += tokens.len();
        match self.targets.last_mut() {
            Some(Target::Hard { tokens: last }) if last.end == tokens.start => last.end = tokens.end,
            _ => self.targets.push(Target::Hard { tokens }),
        }
    }
}
