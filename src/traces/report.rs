//! What a user is told about their traces: what was read, what was rejected and why, and what the traces are about.
//!
//! A report is bounded: a file of a million bad lines lists the first few hundred and counts the rest.

use super::import::characters;
use super::teacher::Part;
use super::validate::Reason;
use super::{Format, Labels, Role, Row};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Rejected lines that are listed one by one.
pub const LISTED: usize = 200;

/// Different words that are counted at a time.
const MOST_WORDS: usize = 1 << 15;

/// A line that gave no row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Which file, counted from zero.
    pub file: usize,
    /// Which line of it, counted from one.
    pub line: usize,
    /// [`Reason::code`].
    pub code: &'static str,
    /// The reason in a sentence.
    pub sentence: String,
}

/// How often something was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How often.
    pub count: usize,
    /// A sentence about it, from its first time.
    pub sentence: String,
    /// File of the first time, counted from zero.
    pub file: usize,
    /// Line of the first time, counted from one.
    pub line: usize,
}

/// One file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Lines that are not blank, or elements of an array.
    pub lines: usize,
    /// Rows kept. The rows of a joined batch count where their outputs stand.
    pub rows: usize,
    /// Rows rejected.
    pub rejected: usize,
    /// Rows kept by their shape.
    pub formats: BTreeMap<Format, usize>,
    /// Whether the file is one JSON array, so that its line numbers count elements.
    pub is_array: bool,
    /// Why the file could not be read at all.
    pub unreadable: Option<String>,
}

impl FileReport {
    /// The shape that most of its rows have.
    pub fn format(&self) -> Option<Format> {
        let most = self.formats.values().max()?;
        self.formats
            .iter()
            .find(|(_, count)| *count == most)
            .map(|(format, _)| *format)
    }
}

/// Turns of the rows that were kept, by who speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Turns {
    /// System turns.
    pub system: usize,
    /// The user's.
    pub user: usize,
    /// The assistant's.
    pub assistant: usize,
    /// Results of tools.
    pub tool: usize,
    /// Those of the assistant's that are trained.
    pub trained: usize,
}

/// Characters of the rows that were kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Characters {
    /// Of turns that are not trained.
    pub context: usize,
    /// Of trained turns, without their reasoning.
    pub answers: usize,
    /// Of the reasoning of trained turns.
    pub reasoning: usize,
}

/// How much the traces tell of the teacher's probabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SoftLabels {
    /// Rows that have any.
    pub rows: usize,
    /// Rows of which only token ids are known.
    pub rows_by_id: usize,
    /// Tokens of the teacher.
    pub tokens: usize,
    /// Tokens with at least two alternatives, the token itself among them.
    pub soft_tokens: usize,
    /// Alternatives of those tokens in all.
    pub alternatives: usize,
    /// Sum over those tokens of the probability that their alternatives have together.
    pub mass: f64,
    /// Bytes of trained text in all, reasoning included.
    pub bytes: usize,
    /// Bytes of it that teacher tokens spell.
    pub covered_bytes: usize,
}

impl SoftLabels {
    /// Part of the trained text that has soft labels, from 0 to 1.
    pub fn coverage(&self) -> f64 {
        self.covered_bytes as f64 / self.bytes.max(1) as f64
    }

    /// Mean number of alternatives of the tokens that have some.
    pub fn mean_alternatives(&self) -> f64 {
        self.alternatives as f64 / self.soft_tokens.max(1) as f64
    }

    /// Mean probability that the alternatives of a token have together.
    pub fn mean_mass(&self) -> f64 {
        self.mass / self.soft_tokens.max(1) as f64
    }
}

/// Rows whose length lies within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// Least length in characters.
    pub from: usize,
    /// First length that is too long.
    pub to: usize,
    /// How many rows.
    pub rows: usize,
}

/// What the traces are about, in a picture small enough to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Picture {
    /// The content words that most prompts hold, each with the number of prompts. Beyond some ten thousand different words
    /// the counts of rare ones are estimates from below.
    pub words: Vec<(String, usize)>,
    /// Lengths of the contexts.
    pub contexts: Vec<Bin>,
    /// Lengths of the answers, reasoning included.
    pub answers: Vec<Bin>,
}

/// Everything about an import.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Lines or elements that were read and were not blank.
    pub lines: usize,
    /// Rows kept.
    pub rows: usize,
    /// Rows rejected.
    pub rejected: usize,
    /// The files.
    pub files: Vec<FileReport>,
    /// Why rows were rejected, by [`Reason::code`].
    pub reasons: BTreeMap<&'static str, Count>,
    /// The first rejected lines.
    pub listed: Vec<Listed>,
    /// What is remarkable about rows that were kept, by [`super::Note::code`].
    pub notes: BTreeMap<&'static str, Count>,
    /// Rows kept by the shape of their text.
    pub formats: BTreeMap<Format, usize>,
    /// Rows kept by the shape of their soft labels.
    pub labels: BTreeMap<Labels, usize>,
    /// Turns.
    pub turns: Turns,
    /// Characters.
    pub characters: Characters,
    /// Soft labels.
    pub soft: SoftLabels,
    #[serde(skip)]
    words: Words,
    #[serde(skip)]
    contexts: Histogram,
    #[serde(skip)]
    answers: Histogram,
}

impl Report {
    /// The picture, with at most `words` words.
    pub fn picture(&self, words: usize) -> Picture {
        Picture {
            words: self.words.most(words),
            contexts: self.contexts.bins(),
            answers: self.answers.bins(),
        }
    }

    /// The report in a few sentences, the most important first.
    pub fn sentences(&self) -> Vec<String> {
        let mut out = Vec::new();
        let rows = |count: usize| format!("{count} {}", if count == 1 { "row" } else { "rows" });
        out.push(match (self.rows, self.rejected) {
            (0, 0) => "There are no rows: the file is empty.".to_string(),
            (0, rejected) => format!("No row can be used: {} rejected.", rows(rejected)),
            (kept, 0) => format!("{} read, none rejected.", rows(kept)),
            (kept, rejected) => format!("{} read, {} rejected.", rows(kept), rows(rejected)),
        });
        for (i, file) in self.files.iter().enumerate() {
            if let Some(why) = &file.unreadable {
                out.push(format!("File {} could not be read. {why}", i + 1));
            }
        }
        // What came first in the files often explains the rest: the first line of a file that is one JSON object, say.
        for counts in [&self.reasons, &self.notes] {
            let mut counts: Vec<_> = counts.values().collect();
            counts.sort_by_key(|count| (count.file, count.line));
            out.extend(
                counts
                    .iter()
                    .map(|count| format!("{}: {}", rows(count.count), count.sentence)),
            );
        }
        if self.soft.rows > 0 {
            let alternatives = match self.soft.soft_tokens {
                0 => "without alternatives".to_string(),
                _ => format!("with {:.1} alternatives per token", self.soft.mean_alternatives()),
            };
            out.push(format!(
                "Soft labels cover {:.0} % of the text to learn, {alternatives}.",
                self.soft.coverage() * 100.0
            ));
        }
        out
    }

    /// The report about a file.
    pub(super) fn file(&mut self, file: usize) -> &mut FileReport {
        if self.files.len() <= file {
            self.files.resize(file + 1, FileReport::default());
        }
        &mut self.files[file]
    }

    /// Counts a line.
    pub(super) fn read(&mut self, file: usize) {
        self.lines += 1;
        self.file(file).lines += 1;
    }

    /// Counts a rejected row.
    pub(super) fn reject(&mut self, file: usize, line: usize, reason: &Reason) {
        self.rejected += 1;
        self.file(file).rejected += 1;
        count(&mut self.reasons, reason.code(), (file, line), || reason.to_string());
        if self.listed.len() < LISTED {
            self.listed.push(Listed {
                file,
                line,
                code: reason.code(),
                sentence: reason.to_string(),
            });
        }
    }

    /// Counts a row that is kept.
    pub(super) fn add(&mut self, row: &Row) {
        self.rows += 1;
        let file = self.file(row.file);
        file.rows += 1;
        *file.formats.entry(row.format).or_default() += 1;
        *self.formats.entry(row.format).or_default() += 1;
        if let Some(labels) = row.labels {
            *self.labels.entry(labels).or_default() += 1;
        }
        for note in &row.notes {
            count(&mut self.notes, note.code(), (row.file, row.line), || note.to_string());
        }
        for turn in &row.turns {
            *match turn.role {
                Role::System => &mut self.turns.system,
                Role::User => &mut self.turns.user,
                Role::Assistant => &mut self.turns.assistant,
                Role::Tool => &mut self.turns.tool,
            } += 1;
            self.turns.trained += usize::from(turn.train);
        }
        let (context, answers, reasoning) = characters(&row.turns);
        self.characters.context += context;
        self.characters.answers += answers;
        self.characters.reasoning += reasoning;
        self.contexts.add(context);
        self.answers.add(answers + reasoning);
        let prompts = row.turns.iter().filter(|turn| turn.role == Role::User);
        self.words.add(prompts.map(|turn| turn.content.as_str()));
        self.add_soft(row);
    }

    fn add_soft(&mut self, row: &Row) {
        let soft = &mut self.soft;
        for turn in row.trained() {
            soft.bytes += turn.content.len() + turn.reasoning.as_ref().map_or(0, String::len);
        }
        let Some(teacher) = &row.teacher else { return };
        soft.rows += 1;
        soft.rows_by_id += usize::from(teacher.spans.is_empty());
        soft.tokens += teacher.len();
        for token in 0..teacher.len() {
            let alternatives = teacher.alternatives(token).len();
            if alternatives >= 2 {
                soft.soft_tokens += 1;
                soft.alternatives += alternatives;
                soft.mass += f64::from(teacher.mass(token));
            }
        }
        let parts = teacher
            .spans
            .iter()
            .filter(|span| matches!(span.part, Part::Content | Part::Reasoning));
        soft.covered_bytes += parts.map(|span| span.bytes.len()).sum::<usize>();
    }
}

fn count(
    counts: &mut BTreeMap<&'static str, Count>,
    code: &'static str,
    (file, line): (usize, usize),
    sentence: impl FnOnce() -> String,
) {
    counts
        .entry(code)
        .or_insert_with(|| Count {
            count: 0,
            sentence: sentence(),
            file,
            line,
        })
        .count += 1;
}

/// Lengths by powers of two.
#[derive(Debug, Clone, Default, PartialEq)]
struct Histogram(Vec<usize>);

impl Histogram {
    /// Lengths below this share the first bin.
    const FIRST: usize = 32;

    fn add(&mut self, length: usize) {
        let bin = (length / Self::FIRST).checked_ilog2().map_or(0, |log| log as usize + 1);
        if self.0.len() <= bin {
            self.0.resize(bin + 1, 0);
        }
        self.0[bin] += 1;
    }

    /// From the first bin to the last that has rows, empty ones between them included.
    fn bins(&self) -> Vec<Bin> {
        let first = self.0.iter().position(|rows| *rows > 0).unwrap_or(0);
        let bins = self.0.iter().enumerate().skip(first);
        bins.map(|(bin, rows)| Bin {
            from: if bin == 0 { 0 } else { Self::FIRST << (bin - 1) },
            to: Self::FIRST << bin,
            rows: *rows,
        })
        .collect()
    }
}

/// Counts in how many prompts a word stands, with bounded memory: when there are too many different words, the rarest are
/// forgotten, so that a count can only be too low.
#[derive(Debug, Clone, Default, PartialEq)]
struct Words(BTreeMap<String, usize>);

impl Words {
    fn add<'a>(&mut self, prompts: impl Iterator<Item = &'a str>) {
        let mut seen = BTreeSet::new();
        for prompt in prompts {
            each_word(prompt, &mut |word| {
                if seen.len() < MOST_WORDS && !seen.contains(word) {
                    seen.insert(word.to_string());
                }
            });
        }
        for word in seen {
            *self.0.entry(word).or_default() += 1;
        }
        let mut floor = 1;
        while self.0.len() > MOST_WORDS {
            self.0.retain(|_, count| *count > floor);
            floor += 1;
        }
    }

    fn most(&self, words: usize) -> Vec<(String, usize)> {
        let mut all: Vec<_> = self.0.iter().map(|(word, count)| (word.clone(), *count)).collect();
        // Equal counts keep the order of the alphabet.
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all.truncate(words);
        all
    }
}

/// Words that say nothing about a subject.
const STOP: &str = " about after all also and any are because been before being both but can could did does doing don \
each else few for from get give had has have having her here him his how into its just know let like make many may me \
more most much must not now off once only other our out over own please said same see she should some such tell than \
that the their them then there these they this those through too under until use using very want was were what when \
where which while who whom whose why will with without would write you your yours ";

/// Gives the content words of a text in lower case: runs of letters of three to thirty characters that are not stop words,
/// and pairs of neighbours where a script writes no spaces.
fn each_word(text: &str, each: &mut impl FnMut(&str)) {
    let mut word = String::new();
    let mut length = 0;
    let mut last: Option<char> = None;
    for character in text.chars().chain(std::iter::once(' ')) {
        if is_unspaced(character) {
            if let Some(last) = last {
                each(&String::from_iter([last, character]));
            }
            last = Some(character);
        } else {
            last = None;
            // A long run is no word, and need not be held.
            if character.is_alphabetic() {
                length += 1;
                if length <= 30 {
                    word.extend(character.to_lowercase());
                }
                continue;
            }
        }
        if (3..=30).contains(&length) && !STOP.contains(&format!(" {word} ")) {
            each(&word);
        }
        word.clear();
        length = 0;
    }
}

/// Scripts that write words without spaces between them: Chinese characters, Japanese kana, Thai, Lao, Khmer, Burmese.
fn is_unspaced(character: char) -> bool {
    matches!(character,
        '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}
