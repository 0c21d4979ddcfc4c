//! The template engine as chat templates expect it, kept from running without end.

use super::date::Date;
use crate::error::{Error, Result};
use minijinja::value::{Kwargs, Rest, StringInput};
use minijinja::{Environment, ErrorKind, State, UndefinedBehavior, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io;

/// Steps that a template may take: the longest real ones need some thousands per message.
const FUEL: u64 = 5_000_000;

/// Bytes that plain text between tags may come to where it is repeated: one step may write a long stretch of it.
const MAX_PLAIN: u64 = 1 << 30;

/// Longest prompt that is written, in bytes: far more than any context holds.
const MAX_OUTPUT: usize = 32 << 20;

/// Widest indentation, in spaces.
const MAX_INDENT: usize = 200;

/// Jinja as the Hugging Face libraries set it up, with an end to what a template may do.
///
/// Steps, depth, and the length of what is written are bounded. What a single expression may build in memory is bounded only
/// as far as the engine does it: it stops strings at 100 MB, and not lists that are multiplied.
pub(super) fn environment(source: &str, date: Option<Date>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_unknown_method_callback(call_method);
    let longest = source.split(['{', '}']).map(str::len).max().unwrap_or(0).max(1) as u64;
    environment.set_fuel(Some(FUEL.min(MAX_PLAIN / longest)));
    environment.set_recursion_limit(100);
    environment.add_filter("tojson", to_json);
    environment.add_filter("format", format);
    environment.add_filter("indent", indent);
    // No chat needs these two, and a large count makes them reserve memory that is not there.
    environment.remove_filter("batch");
    environment.remove_filter("slice");
    environment.add_function("raise_exception", |text: String| -> Outcome<Value> { refused(text) });
    match date {
        Some(date) => environment.add_function("strftime_now", move |format: String| date.format(&format)),
        // Without a date, templates that ask first bring one of their own; the others get an empty one.
        None if source.contains("strftime_now is") => {}
        None => environment.add_function("strftime_now", |_format: String| String::new()),
    }
    environment
}

/// What the engine's functions return.
type Outcome<T> = std::result::Result<T, minijinja::Error>;

fn refused<T>(what: impl Into<String>) -> Outcome<T> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, what.into()))
}

/// The engine's error as ours. What a template itself refuses says it best in its own words.
pub(super) fn failed(error: minijinja::Error) -> Error {
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    let what = match (error.kind(), cause, error.detail()) {
        (ErrorKind::WriteFailure, Some(cause), _) => cause,
        (_, _, Some(detail)) => detail.to_string(),
        _ => error.to_string(),
    };
    Error::Template {
        what: what.chars().take(300).collect(),
    }
}

/// The prompt while it is written; refuses to grow without end.
#[derive(Default)]
pub(super) struct Bounded(Vec<u8>);

impl Bounded {
    pub(super) fn into_text(self) -> Result<String> {
        String::from_utf8(self.0).map_err(|_| Error::Template {
            what: "it does not write text".into(),
        })
    }
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("it writes more than {MAX_OUTPUT} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Python's methods of strings, lists and maps, less what would not end.
fn call_method(state: &State, value: &Value, method: &str, arguments: &[Value]) -> Outcome<Value> {
    match (method, value.as_str()) {
        ("count", Some(text)) if arguments.first().and_then(Value::as_str) == Some("") => {
            Ok(Value::from(text.chars().count() + 1))
        }
        ("format", Some(text)) if !is_modest(text) => refused("its format is too wide"),
        _ => unknown_method_callback(state, value, method, arguments),
    }
}

/// The engine's filter `format`, without widths that it cannot take.
fn format(state: &State, text: &Value, arguments: Rest<Value>) -> Outcome<Value> {
    if !text.as_str().is_none_or(is_modest) {
        return refused("its format is too wide");
    }
    minijinja::filters::format(state, text, arguments)
}

/// Whether a format asks for no width of more than three digits, and for none that comes from elsewhere.
fn is_modest(format: &str) -> bool {
    !format.contains("*")
        && !format
            .split(|c: char| !c.is_ascii_digit())
            .any(|digits| digits.len() > 3)
}

/// The engine's filter `indent`, for indentations that a page could show.
fn indent(
    text: StringInput<'_>,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    named: Kwargs,
) -> Outcome<Value> {
    let wide = named.has("width") && named.peek::<usize>("width")? > MAX_INDENT;
    if wide || width.is_some_and(|width| width > MAX_INDENT) {
        return refused("its indentation is too wide");
    }
    minijinja::filters::indent(text, width, first, blank, named)
}

/// JSON as Python writes it, which is how students saw their tools: a space behind commas and colons, nothing escaped for HTML.
fn to_json(value: &Value, indent: Option<usize>, named: Kwargs) -> Outcome<Value> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => named.get::<Option<usize>>("indent")?,
    };
    // Text stays as it is in any case.
    named.get::<Option<bool>>("ensure_ascii")?;
    named.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent {
        Some(width) if width > MAX_INDENT => return refused("its indentation is too wide"),
        Some(width) => {
            let spaces = " ".repeat(width);
            let layout = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, layout))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, OneLine)),
    };
    if written.is_err() {
        return refused("a value cannot be written as JSON");
    }
    Ok(Value::from(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Python's layout of JSON on one line.
struct OneLine;

impl OneLine {
    fn comma<W: ?Sized + io::Write>(writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
}

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        Self::comma(writer, first)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        Self::comma(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// `{% generation %}` marks what is trained on; it is no Jinja, and says nothing about the text.
pub(super) fn strip_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let Some(length) = rest[at + 2..].find("%}").map(|end| end + 2) else {
            break;
        };
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
