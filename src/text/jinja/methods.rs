//! Python's methods of texts, lists and maps, and its two ways of formatting.

use super::run::{Given, Run};
use super::value::{SeqKind, Value, float};
use super::{MAX_ITEMS, Outcome, Stop, is_space};
use std::rc::Rc;

/// Widest padding that a format may ask for.
const MAX_WIDTH: usize = 100_000;

const TEXT_METHODS: [&str; 41] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];
const MAP_METHODS: [&str; 5] = ["copy", "get", "items", "keys", "values"];
const LIST_METHODS: [&str; 3] = ["copy", "count", "index"];
/// Methods that would change a value: they are there, and refused, as in Jinja's immutable sandbox.
const CHANGING: [&str; 13] = [
    "append",
    "clear",
    "extend",
    "fromkeys",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
    "__setitem__",
];

pub(super) fn is_method(value: &Value, name: &str) -> bool {
    match value {
        Value::Str(_) => TEXT_METHODS.contains(&name),
        Value::Map(_) => {
            MAP_METHODS.contains(&name)
                || ["pop", "popitem", "update", "clear", "setdefault", "fromkeys"].contains(&name)
        }
        Value::Seq(seq) if seq.kind == SeqKind::List => LIST_METHODS.contains(&name) || CHANGING.contains(&name),
        Value::Seq(_) => ["count", "index"].contains(&name),
        Value::Loop(_) => ["cycle", "changed"].contains(&name),
        _ => false,
    }
}

pub(super) fn call(run: &mut Run, value: &Value, name: &str, given: &Given) -> Outcome<Value> {
    match value {
        Value::Str(text) => text_method(run, text, name, given),
        _ if CHANGING.contains(&name) => Err(Stop::failed(format!(
            "\"{name}\" would change a value, which a template may not"
        ))),
        Value::Map(map) => {
            run.budget.spend(32 * map.entries.len())?;
            match name {
                "get" => {
                    run.budget.steps(map.entries.len() / 16)?;
                    let key = given.need(0, "key")?;
                    let found = map.entries.iter().find(|(k, _)| k.equals(key)).map(|(_, v)| v.clone());
                    Ok(found
                        .or_else(|| given.get(1, "default").cloned())
                        .unwrap_or(Value::None))
                }
                "items" => {
                    let mut pairs = Vec::with_capacity(map.entries.len());
                    for (key, value) in &map.entries {
                        pairs.push(Value::seq(
                            SeqKind::Tuple,
                            vec![key.clone(), value.clone()],
                            &mut run.budget,
                        )?);
                    }
                    Value::list(pairs, &mut run.budget)
                }
                "keys" => Value::list(
                    map.entries.iter().map(|(key, _)| key.clone()).collect(),
                    &mut run.budget,
                ),
                "values" => Value::list(
                    map.entries.iter().map(|(_, value)| value.clone()).collect(),
                    &mut run.budget,
                ),
                _ => Ok(value.clone()),
            }
        }
        Value::Seq(seq) => {
            if name == "copy" {
                return Ok(value.clone());
            }
            let item = given.need(0, "value")?;
            run.budget.steps(seq.items.len() * (1 + item.size() / 16))?;
            if name == "count" {
                let count = seq.items.iter().filter(|other| other.equals(item)).count();
                return Ok(Value::Int(count as i64));
            }
            let at = seq.items.iter().position(|other| other.equals(item));
            at.map(|at| Value::Int(at as i64))
                .ok_or_else(|| Stop::failed("the list does not hold the value that is searched for"))
        }
        Value::Loop(state) if name == "cycle" => {
            if given.list.is_empty() {
                return Err(Stop::failed("\"cycle\" needs values"));
            }
            Ok(given.list[state.index % given.list.len()].clone())
        }
        Value::Loop(state) => {
            let now = Value::seq(SeqKind::Tuple, given.list.clone(), &mut run.budget)?;
            let before = state.changed.replace(Some(now.clone()));
            Ok(Value::Bool(before.is_none_or(|before| !before.equals(&now))))
        }
        _ => Err(Stop::failed(format!("\"{name}\" cannot be called"))),
    }
}

fn number(n: usize) -> Value {
    Value::Int(n as i64)
}

/// The place of a byte, counted in characters.
fn place(text: &str, at: Option<usize>) -> Value {
    at.map_or(Value::Int(-1), |at| number(text[..at].chars().count()))
}

/// The part of a text that `start` and `end` leave, and how many characters are before it; `None` if it begins beyond the end.
fn part<'t>(text: &'t str, given: &Given, at: usize) -> Outcome<Option<(usize, &'t str)>> {
    let (start, end) = (given.int(at, "start")?, given.int(at + 1, "end")?);
    if start.is_none() && end.is_none() {
        return Ok(Some((0, text)));
    }
    let length = text.chars().count() as i64;
    let clamp = |n: i64| if n < 0 { n.saturating_add(length).max(0) } else { n };
    let (from, to) = (clamp(start.unwrap_or(0)), clamp(end.unwrap_or(length)).min(length));
    if from > length || from > to {
        return Ok(None);
    }
    let byte = |n: i64| text.char_indices().nth(n as usize).map_or(text.len(), |(at, _)| at);
    Ok(Some((from as usize, &text[byte(from)..byte(to)])))
}

/// Python's `strip` of given characters, or of white space.
pub(super) fn strip<'t>(text: &'t str, characters: Option<&str>, left: bool, right: bool) -> &'t str {
    let goes = |c: char| characters.map_or_else(|| is_space(c), |all| all.contains(c));
    let text = if left { text.trim_start_matches(goes) } else { text };
    if right { text.trim_end_matches(goes) } else { text }
}

fn texts(run: &mut Run, parts: Vec<&str>) -> Outcome<Value> {
    run.budget.items(parts.len())?;
    run.budget.spend(parts.iter().map(|part| part.len() + 64).sum())?;
    let parts = parts.into_iter().map(Value::text).collect();
    Value::list(parts, &mut run.budget)
}

/// Python's `split` at white space.
fn split_words(text: &str, most: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        if words.len() == most {
            words.push(rest);
            break;
        }
        let end = rest.find(is_space).unwrap_or(rest.len());
        words.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(is_space);
    }
    words
}

fn rsplit_words(text: &str, most: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        if words.len() == most {
            words.push(rest);
            break;
        }
        let begin = rest
            .rfind(is_space)
            .map_or(0, |at| at + rest[at..].chars().next().map_or(1, char::len_utf8));
        words.push(&rest[begin..]);
        rest = rest[..begin].trim_end_matches(is_space);
    }
    words.reverse();
    words
}

/// Python's `title`: a capital where no letter is before.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

pub(super) fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters.as_str().to_lowercase().chars()).collect()
}

/// Replaces up to `most` times; the length is known before it is built.
pub(super) fn replace(run: &mut Run, text: &str, from: &str, to: &str, most: Option<i64>) -> Outcome<Value> {
    let most = most.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    run.budget.steps(text.len() / 16)?;
    let count = text.matches(from).take(most).count();
    run.budget.text(text.len() + count.saturating_mul(to.len()))?;
    run.text(text.replacen(from, to, most))
}

/// Joins values with a text between.
pub(super) fn join(run: &mut Run, items: &[Value], between: &str) -> Outcome<Value> {
    let mut out = String::new();
    for (i, item) in items.iter().enumerate() {
        run.budget.steps(1)?;
        let item = run.show(item)?;
        let more = item.len() + if i > 0 { between.len() } else { 0 };
        if out.len() + more > super::MAX_TEXT {
            return Err(Stop::failed("it joins a text that is too long"));
        }
        if i > 0 {
            out.push_str(between);
        }
        out.push_str(&item);
    }
    run.text(out)
}

/// Pads to a width: `side` is -1 for text at the left, 1 at the right, 0 in the middle.
pub(super) fn pad(run: &mut Run, text: &str, width: Option<i64>, fill: char, side: i8) -> Outcome<Value> {
    let width = usize::try_from(width.unwrap_or(0).max(0)).unwrap_or(usize::MAX);
    run.budget
        .text(width.saturating_mul(fill.len_utf8()).saturating_add(text.len()))?;
    let missing = width.saturating_sub(text.chars().count());
    let left = match side {
        -1 => 0,
        1 => missing,
        // Python puts the odd one at the left where the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    let fill = |n: usize| std::iter::repeat_n(fill, n);
    let text = fill(left).chain(text.chars()).chain(fill(missing - left)).collect();
    run.text(text)
}

fn fill_of(given: &Given) -> Outcome<char> {
    match given.get(1, "fillchar") {
        None => Ok(' '),
        Some(value) => {
            let mut characters = value.as_str().unwrap_or_default().chars();
            match (characters.next(), characters.next()) {
                (Some(c), None) => Ok(c),
                _ => Err(Stop::failed("padding is one character")),
            }
        }
    }
}

fn text_method(run: &mut Run, text: &Rc<str>, name: &str, given: &Given) -> Outcome<Value> {
    // Every method looks at the whole text, and makes little more of it.
    run.budget.steps(text.len() / 64)?;
    run.budget.spend(text.len())?;
    let optional = |at: usize, name: &str| match given.get(at, name) {
        None | Some(Value::None) => Ok(None),
        Some(_) => given.text(at, name).map(Some),
    };
    let most = |at: usize| -> Outcome<usize> {
        let given = given.int(at, "maxsplit")?.unwrap_or(-1);
        // Of more parts than a list may have there is no need: one too many is refused.
        Ok(usize::try_from(given).unwrap_or(usize::MAX).min(MAX_ITEMS + 1))
    };
    let all = |test: fn(char) -> bool| Ok(Value::Bool(!text.is_empty() && text.chars().all(test)));
    match name {
        "upper" => run.text(text.to_uppercase()),
        "lower" | "casefold" => run.text(text.to_lowercase()),
        "title" => run.text(title(text)),
        "capitalize" => run.text(capitalize(text)),
        "swapcase" => {
            let swap = |c: char| -> String {
                if c.is_uppercase() {
                    c.to_lowercase().collect()
                } else {
                    c.to_uppercase().collect()
                }
            };
            run.text(text.chars().map(swap).collect())
        }
        "strip" | "lstrip" | "rstrip" => {
            let characters = optional(0, "chars")?;
            Ok(Value::text(strip(text, characters, name != "rstrip", name != "lstrip")))
        }
        "split" | "rsplit" => {
            let most = most(1)?;
            let parts = match optional(0, "sep")? {
                None if name == "split" => split_words(text, most),
                None => rsplit_words(text, most),
                Some("") => return Err(Stop::failed("the separator is empty")),
                Some(by) if name == "split" => text.splitn(most.saturating_add(1), by).collect(),
                Some(by) => {
                    let mut parts: Vec<&str> = text.rsplitn(most.saturating_add(1), by).collect();
                    parts.reverse();
                    parts
                }
            };
            texts(run, parts)
        }
        "splitlines" => {
            let keep = given.flag(0, "keepends").unwrap_or(false);
            let mut lines = Vec::new();
            let mut rest: &str = text;
            let ends = |c: char| {
                matches!(
                    c,
                    '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
                )
            };
            while !rest.is_empty() && lines.len() <= MAX_ITEMS {
                let at = rest.find(ends).unwrap_or(rest.len());
                let end = rest[at..].chars().next().map_or(0, char::len_utf8);
                let end = if rest[at..].starts_with("\r\n") { 2 } else { end };
                lines.push(&rest[..if keep { at + end } else { at }]);
                rest = &rest[at + end..];
            }
            texts(run, lines)
        }
        "partition" | "rpartition" => {
            let by = given.text(0, "sep")?;
            if by.is_empty() {
                return Err(Stop::failed("the separator is empty"));
            }
            let found = if name == "partition" {
                text.split_once(by)
            } else {
                text.rsplit_once(by)
            };
            let parts = match found {
                Some((before, behind)) => [before, by, behind],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            let parts = parts.into_iter().map(Value::text).collect();
            Value::seq(SeqKind::Tuple, parts, &mut run.budget)
        }
        "replace" => replace(
            run,
            text,
            given.text(0, "old")?,
            given.text(1, "new")?,
            given.int(2, "count")?,
        ),
        "removeprefix" => Ok(Value::text(text.strip_prefix(given.text(0, "prefix")?).unwrap_or(text))),
        "removesuffix" => Ok(Value::text(text.strip_suffix(given.text(0, "suffix")?).unwrap_or(text))),
        "startswith" | "endswith" => {
            let Some((_, text)) = part(text, given, 1)? else {
                return Ok(Value::Bool(false));
            };
            let fits = |part: &Value| match part.as_str() {
                Some(part) if name == "startswith" => Ok(text.starts_with(part)),
                Some(part) => Ok(text.ends_with(part)),
                None => Err(Stop::failed(format!("\"{name}\" needs a str or a tuple of str"))),
            };
            match given.need(0, "prefix")? {
                Value::Seq(seq) if seq.kind == SeqKind::Tuple => {
                    for item in &seq.items {
                        if fits(item)? {
                            return Ok(Value::Bool(true));
                        }
                    }
                    Ok(Value::Bool(false))
                }
                other => fits(other).map(Value::Bool),
            }
        }
        "find" | "index" | "rfind" | "rindex" | "count" => {
            let what = given.text(0, "sub")?;
            let part = part(text, given, 1)?;
            if name == "count" {
                let count = part.map_or(0, |(_, part)| part.matches(what).count());
                return Ok(number(count));
            }
            let found = part.map(|(before, part)| {
                let at = if name.starts_with('r') {
                    part.rfind(what)
                } else {
                    part.find(what)
                };
                (before, place(part, at))
            });
            match found {
                Some((before, Value::Int(at))) if at >= 0 => Ok(Value::Int(before as i64 + at)),
                _ if name.ends_with("find") => Ok(Value::Int(-1)),
                _ => Err(Stop::failed("the text does not hold what is searched for")),
            }
        }
        "join" => {
            let items = run.items(given.need(0, "iterable")?)?;
            if let Some(other) = items.iter().find(|item| item.as_str().is_none()) {
                return Err(Stop::failed(format!("only str can be joined, not {}", other.a_kind())));
            }
            join(run, &items, text)
        }
        "center" => pad(run, text, given.int(0, "width")?, fill_of(given)?, 0),
        "ljust" => pad(run, text, given.int(0, "width")?, fill_of(given)?, -1),
        "rjust" => pad(run, text, given.int(0, "width")?, fill_of(given)?, 1),
        "zfill" => {
            let (sign, digits) = match text.chars().next() {
                Some('+' | '-') => text.split_at(1),
                _ => ("", &**text),
            };
            let width = given
                .int(0, "width")?
                .map(|width| width.saturating_sub(sign.len() as i64));
            let padded = pad(run, digits, width, '0', 1)?;
            let padded = format!("{sign}{}", padded.as_str().unwrap_or_default());
            run.text(padded)
        }
        "expandtabs" => {
            let size = given.int(0, "tabsize")?.unwrap_or(8).clamp(0, 100);
            replace(run, text, "\t", &" ".repeat(size as usize), None)
        }
        "isdigit" | "isdecimal" | "isnumeric" => all(char::is_numeric),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isspace" => all(is_space),
        "isascii" => Ok(Value::Bool(text.is_ascii())),
        "isupper" | "islower" => {
            let upper = name == "isupper";
            let wrong = |c: char| if upper { c.is_lowercase() } else { c.is_uppercase() };
            let right = |c: char| if upper { c.is_uppercase() } else { c.is_lowercase() };
            Ok(Value::Bool(text.chars().any(right) && !text.chars().any(wrong)))
        }
        "istitle" => Ok(Value::Bool(
            text.chars().any(char::is_alphabetic) && title(text) == **text,
        )),
        "format" => format(run, text, given),
        _ => Err(Stop::failed(format!("a str has no method \"{name}\""))),
    }
}

/// `{:<8.3f}` and the like, between the braces behind the colon.
fn spec(run: &mut Run, value: &Value, spec: &str) -> Outcome<String> {
    let broken = || Stop::failed("a format cannot be read");
    if spec.is_empty() {
        return run.show(value);
    }
    let mut rest: &str = spec;
    let is_align = |c: char| matches!(c, '<' | '>' | '^' | '=');
    let mut characters = rest.chars();
    let (first, second) = (characters.next(), characters.next());
    let (mut fill, mut align) = (' ', None);
    if let (Some(c), Some(a)) = (first, second.filter(|c| is_align(*c))) {
        (fill, align) = (c, Some(a));
        rest = &rest[c.len_utf8() + 1..];
    } else if let Some(a) = first.filter(|c| is_align(*c)) {
        align = Some(a);
        rest = &rest[1..];
    }
    let mut sign = "";
    if let Some(more) = rest.strip_prefix('+') {
        (sign, rest) = ("+", more);
    } else if let Some(more) = rest.strip_prefix('-') {
        rest = more;
    }
    if let Some(more) = rest.strip_prefix('0') {
        if align.is_none() {
            (fill, align) = ('0', Some('='));
        }
        rest = more;
    }
    let mut digits = || -> Outcome<Option<usize>> {
        let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let found = &rest[..length];
        rest = &rest[length..];
        if found.is_empty() {
            return Ok(None);
        }
        found
            .parse()
            .ok()
            .filter(|n| *n <= MAX_WIDTH)
            .map(Some)
            .ok_or_else(broken)
    };
    let width = digits()?.unwrap_or(0);
    let commas = rest.starts_with(',');
    let mut rest = rest.trim_start_matches(',');
    let mut precision = None;
    if let Some(more) = rest.strip_prefix('.') {
        let length = more.find(|c: char| !c.is_ascii_digit()).unwrap_or(more.len());
        let number: usize = more[..length].parse().map_err(|_| broken())?;
        precision = Some(number.min(300));
        rest = &more[length..];
    }
    let is_number = value.as_float().is_some() && !matches!(value, Value::Bool(_));
    let body = match rest {
        "" | "s" if !is_number => {
            let text = run.show(value)?;
            precision.map_or(text.clone(), |n| text.chars().take(n).collect())
        }
        "d" | "" if value.as_int().is_some() => value.as_int().unwrap_or(0).to_string(),
        "x" if value.as_int().is_some_and(|n| n >= 0) => format!("{:x}", value.as_int().unwrap_or(0)),
        "f" | "F" | "%" | "" => {
            let number = value.as_float().ok_or_else(broken)?;
            match rest {
                "%" => format!("{:.*}%", precision.unwrap_or(6), number * 100.0),
                "" if precision.is_none() => float(number),
                _ => format!("{number:.*}", precision.unwrap_or(6)),
            }
        }
        _ => return Err(broken()),
    };
    let body = if commas { with_commas(&body) } else { body };
    let body = if is_number && !body.starts_with('-') {
        format!("{sign}{body}")
    } else {
        body
    };
    let align = align.unwrap_or(if is_number { '>' } else { '<' });
    if align == '=' {
        let (sign, digits) = match body.chars().next() {
            Some('+' | '-') => body.split_at(1),
            _ => ("", &*body),
        };
        let padded = pad(run, digits, Some(width.saturating_sub(sign.len()) as i64), fill, 1)?;
        return Ok(format!("{sign}{}", padded.as_str().unwrap_or_default()));
    }
    let side = match align {
        '<' => -1,
        '>' => 1,
        _ => 0,
    };
    let padded = if side == 0 {
        // A format puts the odd one at the right.
        let missing = width.saturating_sub(body.chars().count());
        let left = pad(run, &body, Some((body.chars().count() + missing / 2) as i64), fill, 1)?;
        pad(run, left.as_str().unwrap_or_default(), Some(width as i64), fill, -1)?
    } else {
        pad(run, &body, Some(width as i64), fill, side)?
    };
    Ok(padded.as_str().unwrap_or_default().to_string())
}

fn with_commas(number: &str) -> String {
    let end = number.find('.').unwrap_or(number.len());
    let begin = usize::from(number.starts_with('-'));
    let mut out = number[..begin].to_string();
    for (i, c) in number[begin..end].char_indices() {
        if i > 0 && (end - begin - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out + &number[end..]
}

/// Python's `str.format`.
fn format(run: &mut Run, format: &str, given: &Given) -> Outcome<Value> {
    let broken = || Stop::failed("a format cannot be read");
    let mut out = String::new();
    let mut next = 0;
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        run.budget.steps(1)?;
        out.push_str(&rest[..at]);
        let mark = &rest[at..at + 1];
        rest = &rest[at + 1..];
        if let Some(more) = rest.strip_prefix(mark) {
            out.push_str(mark);
            rest = more;
            continue;
        }
        if mark == "}" {
            return Err(broken());
        }
        let end = rest.find('}').ok_or_else(broken)?;
        let (field, layout) = rest[..end].split_once(':').unwrap_or((&rest[..end], ""));
        let (field, conversion) = field.split_once('!').unwrap_or((field, ""));
        rest = &rest[end + 1..];
        let name_end = field.find(['.', '[']).unwrap_or(field.len());
        let (name, mut path) = field.split_at(name_end);
        let mut value = if name.is_empty() {
            next += 1;
            given.list.get(next - 1)
        } else if let Ok(index) = name.parse::<usize>() {
            given.list.get(index)
        } else {
            given.named.iter().find(|(n, _)| &**n == name).map(|(_, v)| v)
        }
        .cloned()
        .ok_or_else(|| Stop::failed("a format asks for a value that is not given"))?;
        while !path.is_empty() {
            if let Some(more) = path.strip_prefix('.') {
                let end = more.find(['.', '[']).unwrap_or(more.len());
                value = run.attribute(&value, &more[..end].into())?;
                path = &more[end..];
            } else {
                let (key, more) = path[1..].split_once(']').ok_or_else(broken)?;
                let key = key.parse().map_or_else(|_| Value::text(key), Value::Int);
                value = run.item(&value, &key)?;
                path = more;
            }
        }
        if conversion == "r" {
            run.budget.spend(2 * value.size())?;
            value = Value::Str(value.repr().into());
        }
        let text = spec(run, &value, layout)?;
        run.budget.text(out.len() + text.len())?;
        out.push_str(&text);
    }
    out.push_str(rest);
    run.text(out)
}

/// Python's `%` with a text at its left.
pub(super) fn percent(run: &mut Run, format: &str, right: &Value) -> Outcome<Value> {
    let broken = || Stop::failed("a format cannot be read");
    let given: Vec<Value> = match right {
        Value::Seq(seq) if seq.kind == SeqKind::Tuple => seq.items.clone(),
        other => vec![other.clone()],
    };
    let mut values = given.iter();
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, behind)) = rest.split_once('%') {
        run.budget.steps(1)?;
        out.push_str(before);
        rest = behind;
        if let Some(more) = rest.strip_prefix('%') {
            out.push('%');
            rest = more;
            continue;
        }
        let mut value = None;
        if let Some(more) = rest.strip_prefix('(') {
            let (key, more) = more.split_once(')').ok_or_else(broken)?;
            value = Some(run.item(right, &Value::text(key))?);
            rest = more;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(broken)?;
        let (flags, kind) = (&rest[..end], rest.as_bytes()[end]);
        rest = &rest[end + 1..];
        let value = match value {
            Some(value) => value,
            None => values
                .next()
                .cloned()
                .ok_or_else(|| Stop::failed("a format asks for a value that is not given"))?,
        };
        let flags = flags.trim_start_matches(' ');
        let (left, flags) = flags.strip_prefix('-').map_or((false, flags), |rest| (true, rest));
        let layout = match kind {
            b's' => format!("{}{flags}s", if left { "<" } else { ">" }),
            b'r' => format!("{}{flags}", if left { "<" } else { ">" }),
            b'd' | b'i' if value.as_float().is_some() => format!("{}{flags}d", if left { "<" } else { "" }),
            b'f' | b'F' if value.as_float().is_some() => format!("{}{flags}f", if left { "<" } else { "" }),
            b'x' if value.as_int().is_some() => format!("{}{flags}x", if left { "<" } else { "" }),
            _ => return Err(broken()),
        };
        let value = match (kind, &value) {
            (b's', Value::Str(_)) => value,
            (b's', other) => Value::Str(run.show(other)?.into()),
            (b'r', other) => {
                run.budget.spend(2 * other.size())?;
                Value::Str(other.repr().into())
            }
            (b'd' | b'i', Value::Float(number)) => Value::Int(*number as i64),
            (b'd' | b'i' | b'x', Value::Bool(flag)) => Value::Int((*flag).into()),
            _ => value,
        };
        let text = spec(run, &value, &layout)?;
        run.budget.text(out.len() + text.len())?;
        out.push_str(&text);
    }
    let may_be_left = matches!(right, Value::Map(_)) || matches!(right, Value::Seq(seq) if seq.kind == SeqKind::List);
    if values.next().is_some() && !may_be_left {
        return Err(Stop::failed("a format leaves values over"));
    }
    out.push_str(rest);
    run.text(out)
}
