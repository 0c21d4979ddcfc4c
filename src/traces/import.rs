//! The way of a line: split, parsed, joined, checked, counted.

use super::formats::{self, Answer, Ask, Draft, Format, Parsed};
use super::json::Tape;
use super::lines::{MAX_LINE, Piece, Splitter};
use super::report::Report;
use super::validate::{self, Reason};
use super::{Row, Turn};
use crate::error::Result;
use std::collections::BTreeMap;

/// What an import accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Longest line, in bytes.
    pub max_line: usize,
    /// Most memory for batch rows that wait for their other half, in bytes.
    pub max_pending: usize,
    /// Whether to keep rows that are a prompt alone, for students that are to answer themselves.
    pub keep_prompts: bool,
    /// Whether to keep, as text, rows whose teacher tokens do not spell their answer; else they are rejected, for the text
    /// and the tokens may have been joined wrongly.
    pub keep_misspelled: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_line: MAX_LINE,
            max_pending: 512 << 20,
            keep_prompts: false,
            keep_misspelled: false,
        }
    }
}

/// One `custom_id` of a batch.
#[derive(Debug, Default)]
struct Pending {
    ask: Option<Box<Ask>>,
    /// Where the request stands.
    file: usize,
    line: usize,
    /// An answer came, be it a bad one.
    settled: bool,
    /// Answers that came before their request, with their file and line.
    answers: Vec<(usize, usize, Answer)>,
}

/// Reads files of traces, chunk by chunk, into checked rows.
///
/// Push each file's bytes, end it, push the next; rows come out as soon as they are complete and are not kept. How the bytes
/// are cut into chunks changes nothing.
#[derive(Debug)]
pub struct Importer {
    options: Options,
    splitter: Splitter,
    tape: Tape,
    pending: BTreeMap<String, Pending>,
    /// Bytes that wait in `pending`.
    held: usize,
    file: usize,
    report: Report,
}

impl Importer {
    /// An import that has read nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            splitter: Splitter::new(options.max_line),
            options,
            tape: Tape::default(),
            pending: BTreeMap::new(),
            held: 0,
            file: 0,
            report: Report::default(),
        }
    }

    /// Takes the next bytes of the file and gives the rows that they complete, in their order.
    ///
    /// # Errors
    /// [`crate::error::Error::Malformed`] when the file is no text in UTF-8. The rest of it is then ignored; end it and go on
    /// with the next.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Row>> {
        self.advance(Some(bytes))
    }

    /// Takes the end of the file and gives the rows that it completes. The next push begins the next file.
    ///
    /// # Errors
    /// As [`Importer::push`], for files of fewer than four bytes.
    pub fn end_file(&mut self) -> Result<Vec<Row>> {
        let rows = self.advance(None);
        self.report.file(self.file).is_array = self.splitter.is_array();
        self.splitter = Splitter::new(self.options.max_line);
        self.file += 1;
        rows
    }

    /// The report so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Ends the import: what still waits for its other half is rejected.
    pub fn finish(mut self) -> Report {
        let mut left = Vec::new();
        for pending in std::mem::take(&mut self.pending).into_values() {
            if pending.ask.is_some() && !pending.settled {
                left.push((pending.file, pending.line, Reason::Unanswered));
            }
            left.extend(
                pending
                    .answers
                    .iter()
                    .map(|(file, line, _)| (*file, *line, Reason::Unasked)),
            );
        }
        left.sort_by_key(|(file, line, _)| (*file, *line));
        for (file, line, reason) in left {
            self.report.reject(file, line, &reason);
        }
        self.report
    }

    /// Bytes that are reserved between two pushes: the line so far, the parser's list, and batch rows that wait. The report
    /// is not counted; it is bounded by itself.
    pub fn capacity(&self) -> usize {
        self.splitter.capacity() + self.tape.capacity() + self.held
    }

    fn advance(&mut self, bytes: Option<&[u8]>) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        if self.report.file(self.file).unreadable.is_some() {
            return Ok(rows);
        }
        // The splitter lends out its lines while the rest of `self` takes them.
        let mut splitter = std::mem::replace(&mut self.splitter, Splitter::new(1));
        let mut each = |piece: Piece<'_>| self.piece(piece, &mut rows);
        let result = match bytes {
            Some(bytes) => splitter.push(bytes, &mut each),
            None => splitter.finish(&mut each),
        };
        self.splitter = splitter;
        if let Err(error) = &result {
            self.report.file(self.file).unreadable = Some(error.to_string());
        }
        result.map(|()| rows)
    }

    fn piece(&mut self, piece: Piece<'_>, rows: &mut Vec<Row>) {
        let (number, parsed) = match piece {
            Piece::Line { number, bytes } => {
                self.report.read(self.file);
                let parsed = self.tape.parse(bytes).and_then(formats::parse);
                self.tape.relax();
                (number, parsed)
            }
            Piece::TooLong { number, bytes } => {
                self.report.read(self.file);
                let cap = self.options.max_line;
                (number, Err(Reason::TooLong { bytes, cap }))
            }
            Piece::AfterArray { number } => (number, Err(Reason::AfterArray)),
        };
        let result = match parsed {
            Ok(Parsed::Rows(drafts)) => {
                for draft in drafts {
                    self.take(draft, None, self.file, number, rows);
                }
                Ok(())
            }
            Ok(Parsed::Request { custom_id, ask }) => self.request(custom_id, ask, number, rows),
            Ok(Parsed::Output { custom_id, answers }) => self.output(custom_id, answers, number, rows),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = result {
            self.report.reject(self.file, number, &reason);
        }
    }

    /// Checks a draft, and keeps or rejects it.
    fn take(&mut self, draft: Draft, custom_id: Option<&str>, file: usize, line: usize, rows: &mut Vec<Row>) {
        match validate::check(draft, &self.options, file, line) {
            Ok(mut row) => {
                row.custom_id = custom_id.map(str::to_string);
                self.report.add(&row);
                rows.push(row);
            }
            Err(reason) => self.report.reject(file, line, &reason),
        }
    }

    fn request(
        &mut self,
        custom_id: String,
        ask: Ask,
        line: usize,
        rows: &mut Vec<Row>,
    ) -> std::result::Result<(), Reason> {
        let size = ask.size() + custom_id.len();
        let pending = self.pending.get(&custom_id);
        if pending.is_some_and(|pending| pending.ask.is_some()) {
            return Err(Reason::DuplicateId);
        }
        // A request whose answers are here frees more than it takes.
        if pending.is_none() {
            self.room_for(size)?;
        }
        self.held += size;
        let mut pending = self.pending.remove(&custom_id).unwrap_or_default();
        for (file, line, answer) in std::mem::take(&mut pending.answers) {
            self.held = self.held.saturating_sub(answer.size() + custom_id.len());
            self.take(
                formats::join(&ask, answer, Format::Batch),
                Some(&custom_id),
                file,
                line,
                rows,
            );
            pending.settled = true;
        }
        pending.ask = Some(Box::new(ask));
        (pending.file, pending.line) = (self.file, line);
        self.pending.insert(custom_id, pending);
        Ok(())
    }

    fn output(
        &mut self,
        custom_id: String,
        answers: std::result::Result<Vec<Answer>, Reason>,
        line: usize,
        rows: &mut Vec<Row>,
    ) -> std::result::Result<(), Reason> {
        let answers = match answers {
            Ok(answers) => answers,
            Err(reason) => {
                self.pending.entry(custom_id).or_default().settled = true;
                return Err(reason);
            }
        };
        let mut pending = self.pending.remove(&custom_id).unwrap_or_default();
        let mut result = Ok(());
        if let Some(ask) = &pending.ask {
            for answer in answers {
                self.take(
                    formats::join(ask, answer, Format::Batch),
                    Some(&custom_id),
                    self.file,
                    line,
                    rows,
                );
            }
            pending.settled = true;
        } else {
            for answer in answers {
                let size = answer.size() + custom_id.len();
                result = self.room_for(size);
                if result.is_err() {
                    pending.settled = true;
                    break;
                }
                self.held += size;
                pending.answers.push((self.file, line, answer));
            }
        }
        self.pending.insert(custom_id, pending);
        result
    }

    fn room_for(&self, size: usize) -> std::result::Result<(), Reason> {
        let cap = self.options.max_pending;
        match self.held.saturating_add(size) > cap {
            true => Err(Reason::PendingFull { cap }),
            false => Ok(()),
        }
    }
}

/// Reads one file that is in memory already: its rows and the report.
///
/// # Errors
/// As [`Importer::push`].
pub fn read(bytes: &[u8], options: Options) -> Result<(Vec<Row>, Report)> {
    let mut importer = Importer::new(options);
    let mut rows = importer.push(bytes)?;
    rows.extend(importer.end_file()?);
    Ok((rows, importer.finish()))
}

/// Lengths of a row in characters: everything that is context, answers, reasoning.
pub(super) fn characters(turns: &[Turn]) -> (usize, usize, usize) {
    let count = |train: bool| {
        let turns = turns.iter().filter(move |turn| turn.train == train);
        turns.map(|turn| turn.content.chars().count()).sum()
    };
    let trained = turns.iter().filter(|turn| turn.train);
    let reasoning = trained
        .filter_map(|turn| turn.reasoning.as_ref())
        .map(|text| text.chars().count());
    (count(false), count(true), reasoning.sum())
}
