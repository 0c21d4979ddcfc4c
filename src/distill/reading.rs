//! Files of traces, read piece by piece into lessons for one student. Rows are not kept, but for some that are shown.

use super::lesson::{Desk, Lesson, Reasoning, Unfit};
use super::schedule::held_out;
use crate::error::Result;
use crate::student::Header;
use crate::traces::align::{ByteMap, Tally};
use crate::traces::report::{LISTED, Report};
use crate::traces::{Importer, Options, Role, Row, Turn};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::rc::Rc;

/// Rows whose turns are kept, to ask the student the same questions.
const SHOWN: usize = 400;

/// A row that is no lesson.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Which file, counted from zero.
    pub file: usize,
    /// Which line of it.
    pub line: usize,
    /// Why.
    pub sentence: &'static str,
}

/// A question that the teacher answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// [`Lesson::fingerprint`].
    pub fingerprint: u64,
    /// The turns in front of the answer.
    pub turns: Vec<Turn>,
    /// The answer, without reasoning.
    pub answer: String,
}

/// Traces on their way in.
pub struct Reading {
    map: Rc<ByteMap>,
    /// What is done with reasoning.
    reasoning: Reasoning,
    /// Longest row, in tokens.
    longest: usize,
    importer: Importer,
    hash: Sha256,
    lessons: Vec<Lesson>,
    asked: Vec<Asked>,
    refused: Vec<Refused>,
    refused_count: usize,
    /// Names of the files, in order.
    names: Vec<String>,
}

/// What was read.
#[derive(Debug, Clone)]
pub struct Read {
    /// The rows.
    pub report: Report,
    /// What of them is taught.
    pub lessons: Vec<Lesson>,
    /// Some of the questions.
    pub asked: Vec<Asked>,
    /// Rows that are no lesson, the first of them.
    pub refused: Vec<Refused>,
    /// All rows that are no lesson.
    pub refused_count: usize,
    /// Names of the files.
    pub names: Vec<String>,
    /// SHA-256 of the files' bytes one after another, as hexadecimal digits.
    pub sha256: String,
}

impl Reading {
    /// For a student; rows of at most `longest` tokens.
    pub fn new(header: &Header, longest: usize, reasoning: Reasoning) -> Self {
        let desk = Desk::new(&header.tokenizer, &header.template, longest);
        Self {
            map: desk.map(),
            reasoning,
            longest,
            importer: Importer::new(Options::default()),
            hash: Sha256::new(),
            lessons: Vec::new(),
            asked: Vec::new(),
            refused: Vec::new(),
            refused_count: 0,
            names: Vec::new(),
        }
    }

    fn take(&mut self, header: &Header, rows: Vec<Row>) -> Result<()> {
        let mut desk = Desk::with(&header.tokenizer, &header.template, self.longest, self.map.clone());
        desk.reasoning = self.reasoning;
        for row in &rows {
            match desk.lesson(row)? {
                Ok(lesson) => {
                    if self.asked.len() < SHOWN {
                        self.asked.extend(asked(row, lesson.fingerprint));
                    }
                    self.lessons.push(lesson);
                }
                Err(unfit) => self.refuse(row, unfit),
            }
        }
        Ok(())
    }

    fn refuse(&mut self, row: &Row, unfit: Unfit) {
        self.refused_count += 1;
        if self.refused.len() < LISTED {
            self.refused.push(Refused {
                file: row.file,
                line: row.line,
                sentence: unfit.sentence(),
            });
        }
    }

    /// The next bytes of the file at hand.
    ///
    /// Errors: what the template and the tokenizer refuse, and what the importer cannot hold.
    pub fn push(&mut self, header: &Header, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        let rows = self.importer.push(bytes)?;
        self.take(header, rows)
    }

    /// The file at hand has come to its end.
    ///
    /// Errors: as [`Reading::push`].
    pub fn end_file(&mut self, header: &Header, name: &str) -> Result<()> {
        let rows = self.importer.end_file()?;
        self.names.push(name.to_owned());
        self.take(header, rows)
    }

    /// All files were read.
    pub fn finish(self) -> Read {
        let digest = self.hash.finalize();
        Read {
            report: self.importer.finish(),
            lessons: self.lessons,
            asked: self.asked,
            refused: self.refused,
            refused_count: self.refused_count,
            names: self.names,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// The question of a row, where its last turn is the only answer that is trained.
fn asked(row: &Row, fingerprint: u64) -> Option<Asked> {
    let (last, before) = row.turns.split_last()?;
    let is_question = before.last().is_some_and(|turn| turn.role == Role::User);
    (last.role == Role::Assistant && is_question && !last.content.is_empty()).then(|| Asked {
        fingerprint,
        turns: before.to_vec(),
        answer: last.content.clone(),
    })
}

impl Read {
    /// How much of the teacher's probabilities could be used.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.lessons.iter().for_each(|lesson| tally.add(&lesson.tally));
        tally
    }

    /// Tokens in all, and those that are trained.
    pub fn tokens(&self) -> (usize, usize) {
        let tokens = self.lessons.iter().map(|l| l.tokens.len()).sum();
        (tokens, self.lessons.iter().map(Lesson::trained).sum())
    }

    /// Questions whose rows are held out, at most `count`; if none is, any.
    pub fn questions(&self, part: f64, count: usize) -> Vec<&Asked> {
        let apart: Vec<&Asked> = self
            .asked
            .iter()
            .filter(|asked| held_out(asked.fingerprint, part))
            .take(count)
            .collect();
        if apart.is_empty() {
            self.asked.iter().take(count).collect()
        } else {
            apart
        }
    }
}
