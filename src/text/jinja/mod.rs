//! Jinja as the Hugging Face libraries run chat templates: `trim_blocks`, `lstrip_blocks`, loop controls, Python's values and
//! their methods, none of which changes a value.
//!
//! A template comes with a file, and is not to be trusted: steps, depth, and the memory of everything that it builds are
//! bounded here. That is why this room has an engine of its own: the known ones bound steps, and let one expression, such as a
//! text that doubles itself, take all memory.

mod filters;
mod lexer;
mod methods;
mod parser;
mod run;
mod value;

use super::date::Date;
use crate::error::{Error, Result};

/// Steps that a template may take: the longest real ones need some thousands per message.
const MAX_STEPS: usize = 3_000_000;

/// Bytes that all values together may take, those that are dropped again included.
const MAX_BYTES: usize = 256 << 20;

/// Longest text, the prompt included, in bytes: far more than any context holds.
const MAX_TEXT: usize = 16 << 20;

/// Most items of a list.
const MAX_ITEMS: usize = 1 << 20;

/// Why a template ends early.
#[derive(Debug)]
enum Stop {
    /// The template is broken, or asks for what it may not have.
    Failed(String),
    /// The template itself refuses the messages, in its own words.
    Refused(String),
}

impl Stop {
    fn failed(what: impl Into<String>) -> Self {
        Self::Failed(what.into())
    }
}

type Outcome<T> = std::result::Result<T, Stop>;

/// What is left of the bounds.
struct Budget {
    steps: usize,
    bytes: usize,
}

impl Budget {
    fn new() -> Self {
        Self {
            steps: MAX_STEPS,
            bytes: MAX_BYTES,
        }
    }

    fn steps(&mut self, steps: usize) -> Outcome<()> {
        self.steps = self
            .steps
            .checked_sub(steps)
            .ok_or_else(|| Stop::failed(format!("it takes more than {MAX_STEPS} steps")))?;
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Outcome<()> {
        self.bytes = self
            .bytes
            .checked_sub(bytes)
            .ok_or_else(|| Stop::failed(format!("it takes more than {} MiB", MAX_BYTES >> 20)))?;
        Ok(())
    }

    /// Asks for a list of so many items before it is made.
    fn items(&mut self, items: usize) -> Outcome<()> {
        if items > MAX_ITEMS {
            return Err(Stop::failed(format!("it builds a list of more than {MAX_ITEMS} items")));
        }
        self.spend(24 * items + 32)
    }

    /// Asks for a text of so many bytes before it is made.
    fn text(&mut self, bytes: usize) -> Outcome<()> {
        if bytes > MAX_TEXT {
            return Err(Stop::failed(format!(
                "it builds a text of more than {} MiB",
                MAX_TEXT >> 20
            )));
        }
        self.spend(bytes)
    }
}

/// A template that was read.
pub(super) struct Program {
    nodes: Vec<parser::Node>,
    /// Whether it asks if there is a clock.
    asks_for_clock: bool,
}

fn error((line, stop): (usize, Stop)) -> Error {
    let what = match stop {
        Stop::Failed(what) => format!("line {line}: {what}"),
        Stop::Refused(what) => what,
    };
    Error::Template {
        what: what.chars().take(300).collect(),
    }
}

impl Program {
    /// Errors: [`Error::Template`], with the line.
    pub(super) fn parse(source: &str) -> Result<Self> {
        // One line end at the end is not part of the template.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let source = source.strip_suffix('\n').unwrap_or(&source);
        Ok(Self {
            nodes: parser::parse(source).map_err(error)?,
            asks_for_clock: source.contains("strftime_now is"),
        })
    }

    /// What the template writes, with `names` defined.
    pub(super) fn render(&self, names: &[(&str, serde_json::Value)], date: Option<Date>) -> Result<String> {
        let hides_clock = date.is_none() && self.asks_for_clock;
        run::run(&self.nodes, names, date, hides_clock).map_err(error)
    }
}

/// White space as Python sees it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}
