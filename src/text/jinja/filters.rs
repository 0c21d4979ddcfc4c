//! Filters and tests: Jinja's own, and JSON as the Hugging Face libraries write it.

use super::methods::{self, join, pad, strip};
use super::run::{Given, Run, undefined};
use super::value::{SeqKind, Value, float};
use super::{MAX_TEXT, Outcome, Stop, is_space};
use std::cmp::Ordering;
use std::fmt::Write;
use std::rc::Rc;

/// Widest indentation of JSON, and of a text.
const MAX_INDENT: usize = 200;

pub(super) fn filter(run: &mut Run, name: &str, value: Value, given: &Given) -> Outcome<Value> {
    // Filters look at all of the value.
    run.budget.steps(value.size() / 64)?;
    match name {
        "tojson" => to_json(run, &value, given),
        "string" => {
            let text = run.show(&value)?;
            run.text(text)
        }
        "safe" => Ok(value),
        "trim" => {
            let text = run.show(&value)?;
            let characters = match given.get(0, "chars") {
                None | Some(Value::None) => None,
                Some(_) => Some(given.text(0, "chars")?),
            };
            Ok(Value::text(strip(&text, characters, true, true)))
        }
        "upper" | "lower" | "title" | "capitalize" => {
            let text = run.show(&value)?;
            run.text(match name {
                "upper" => text.to_uppercase(),
                "lower" => text.to_lowercase(),
                "capitalize" => methods::capitalize(&text),
                _ => title(&text),
            })
        }
        "replace" => {
            let text = run.show(&value)?;
            methods::replace(
                run,
                &text,
                given.text(0, "old")?,
                given.text(1, "new")?,
                given.int(2, "count")?,
            )
        }
        "escape" | "e" | "forceescape" => {
            let mut text = run.show(&value)?;
            for (from, to) in [
                ("&", "&amp;"),
                ("<", "&lt;"),
                (">", "&gt;"),
                ("'", "&#39;"),
                ("\"", "&#34;"),
            ] {
                run.budget.text(text.len() * 6)?;
                text = text.replace(from, to);
            }
            run.text(text)
        }
        "indent" => {
            let text = run.show(&value)?;
            let with = match given.get(0, "width") {
                Some(Value::Str(text)) if text.len() <= MAX_INDENT => text.to_string(),
                None => " ".repeat(4),
                Some(width) => {
                    let width = width.as_int().and_then(|n| usize::try_from(n).ok());
                    let width = width.filter(|n| *n <= MAX_INDENT);
                    " ".repeat(width.ok_or_else(|| Stop::failed("its indentation is too wide"))?)
                }
            };
            let (first, blank) = (
                given.flag(1, "first").unwrap_or(false),
                given.flag(2, "blank").unwrap_or(false),
            );
            let lines = text.matches('\n').count();
            run.budget.text(text.len() + (lines + 1) * with.len())?;
            let mut out = String::new();
            for (i, line) in text.split('\n').enumerate() {
                if i > 0 {
                    out.push('\n');
                }
                if if i == 0 { first } else { blank || !line.is_empty() } {
                    out.push_str(&with);
                }
                out.push_str(line);
            }
            run.text(out)
        }
        "center" => {
            let text = run.show(&value)?;
            pad(run, &text, given.int(0, "width")?.or(Some(80)), ' ', 0)
        }
        "truncate" => truncate(run, &value, given),
        "wordcount" => {
            let text = run.show(&value)?;
            let words = text
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .filter(|word| !word.is_empty());
            Ok(Value::Int(words.count() as i64))
        }
        "format" => {
            let text = run.show(&value)?;
            if given.named.is_empty() {
                let values = Value::seq(SeqKind::Tuple, given.list.clone(), &mut run.budget)?;
                return methods::percent(run, &text, &values);
            }
            let pairs = given
                .named
                .iter()
                .map(|(name, value)| (Value::Str(name.clone()), value.clone()));
            let values = Value::map(pairs.collect(), &mut run.budget)?;
            methods::percent(run, &text, &values)
        }
        "urlencode" => {
            let text = run.show(&value)?;
            run.budget.text(3 * text.len())?;
            let mut out = String::new();
            for byte in text.bytes() {
                if byte.is_ascii_alphanumeric() || b"_.-~/".contains(&byte) {
                    out.push(byte as char);
                } else {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "%{byte:02X}");
                }
            }
            run.text(out)
        }
        "default" | "d" => {
            let missing = value.is_undefined() || given.flag(1, "boolean") == Some(true) && !value.is_true();
            if missing {
                Ok(given
                    .get(0, "default_value")
                    .cloned()
                    .unwrap_or_else(|| Value::text("")))
            } else {
                Ok(value)
            }
        }
        "length" | "count" => match &value {
            Value::Str(text) => Ok(Value::Int(text.chars().count() as i64)),
            Value::Seq(seq) => Ok(Value::Int(seq.items.len() as i64)),
            Value::Map(map) => Ok(Value::Int(map.entries.len() as i64)),
            Value::Undefined(_) => Ok(Value::Int(0)),
            other => Err(Stop::failed(format!("{} has no length", other.a_kind()))),
        },
        "int" => {
            let default = given.get(0, "default").cloned().unwrap_or(Value::Int(0));
            Ok(match &value {
                Value::Float(number) if number.is_finite() && number.abs() < 9e18 => Value::Int(*number as i64),
                Value::Str(text) => {
                    let text = text.trim_matches(is_space).replace('_', "");
                    let whole = text.parse::<i64>().ok();
                    let float = || text.parse::<f64>().ok().filter(|n| n.abs() < 9e18).map(|n| n as i64);
                    whole.or_else(float).map_or(default, Value::Int)
                }
                other => other.as_int().map_or(default, Value::Int),
            })
        }
        "float" => {
            let default = given.get(0, "default").cloned().unwrap_or(Value::Float(0.0));
            Ok(match &value {
                Value::Str(text) => text.trim_matches(is_space).parse().map_or(default, Value::Float),
                other => other.as_float().map_or(default, Value::Float),
            })
        }
        "abs" => match &value {
            Value::Float(number) => Ok(Value::Float(number.abs())),
            other => {
                let number = other.as_int().and_then(i64::checked_abs);
                number
                    .map(Value::Int)
                    .ok_or_else(|| Stop::failed("only numbers have an absolute value"))
            }
        },
        "round" => {
            let number = value
                .as_float()
                .ok_or_else(|| Stop::failed("only numbers can be rounded"))?;
            let common = given
                .get(1, "method")
                .is_none_or(|method| method.as_str() == Some("common"));
            if value.as_int().is_some() && common {
                return Ok(value);
            }
            let places = given.int(0, "precision")?.unwrap_or(0).clamp(-20, 20) as i32;
            let factor = 10f64.powi(places);
            Ok(Value::Float(
                match given.get(1, "method").and_then(Value::as_str).unwrap_or("common") {
                    "ceil" => (number * factor).ceil() / factor,
                    "floor" => (number * factor).floor() / factor,
                    _ if places >= 0 => format!("{number:.*}", places as usize).parse().unwrap_or(number),
                    _ => (number * factor).round_ties_even() / factor,
                },
            ))
        }
        "items" => match &value {
            Value::Undefined(_) => Value::list(Vec::new(), &mut run.budget),
            Value::Map(_) => methods::call(run, &value, "items", &Given::default()),
            other => Err(Stop::failed(format!("{} has no items", other.a_kind()))),
        },
        "dictsort" => {
            let pairs = methods::call(run, &value, "items", &Given::default())?;
            let pairs = run.items(&pairs)?;
            let by_value = given.get(1, "by").and_then(Value::as_str) == Some("value");
            let cased = given.flag(0, "case_sensitive").unwrap_or(false);
            let key = |pair: &Value| match pair {
                Value::Seq(seq) => folded(&seq.items[usize::from(by_value)], cased),
                other => other.clone(),
            };
            let sorted = sort(run, &pairs, key, given.flag(2, "reverse").unwrap_or(false))?;
            Value::list(sorted, &mut run.budget)
        }
        "attr" => {
            let name = given.text(0, "name")?;
            match &value {
                Value::Map(_) => Ok(undefined(name)),
                other => run.attribute(other, &name.into()),
            }
        }
        _ => filter_items(run, name, value, given),
    }
}

/// Filters of what can be gone over.
fn filter_items(run: &mut Run, name: &str, value: Value, given: &Given) -> Outcome<Value> {
    match name {
        "list" | "first" | "last" | "join" | "reverse" | "sort" | "unique" | "min" | "max" | "sum" | "map"
        | "select" | "reject" | "selectattr" | "rejectattr" | "batch" | "slice" | "groupby" => {}
        other => {
            let other: String = other.chars().take(40).collect();
            return Err(Stop::failed(format!("the filter \"{other}\" is not known here")));
        }
    }
    if let ("reverse", Value::Str(text)) = (name, &value) {
        return run.text(text.chars().rev().collect());
    }
    // Of what is false there is nothing to choose from.
    let chooses = matches!(name, "map" | "select" | "reject" | "selectattr" | "rejectattr");
    if chooses && !value.is_true() {
        return iterator(run, Vec::new());
    }
    let items = run.items(&value)?;
    run.budget.steps(items.len())?;
    let attribute = match name {
        "join" => given.get(1, "attribute").cloned(),
        "sort" => given.get(2, "attribute").cloned(),
        "min" | "max" | "unique" => given.get(1, "attribute").cloned(),
        "sum" | "groupby" => given.get(0, "attribute").cloned(),
        _ => None,
    };
    let keys = match &attribute {
        None | Some(Value::None) => items.clone(),
        Some(path) => {
            let keys: Outcome<Vec<Value>> = items.iter().map(|item| follow(run, item, path)).collect();
            Rc::new(keys?)
        }
    };
    let cased = match name {
        "sort" => given.flag(1, "case_sensitive"),
        _ => given.flag(0, "case_sensitive"),
    };
    let cased = cased.unwrap_or(false);
    match name {
        "list" => Value::list(items.to_vec(), &mut run.budget),
        "first" | "last" => {
            let found = if name == "first" { items.first() } else { items.last() };
            Ok(found
                .cloned()
                .unwrap_or_else(|| Value::Undefined("there is no item in an empty list".into())))
        }
        "join" => {
            let between = match given.get(0, "d") {
                None => String::new(),
                Some(value) => run.show(value)?,
            };
            join(run, &keys, &between)
        }
        "reverse" => iterator(run, items.iter().rev().cloned().collect()),
        "sort" => {
            let pairs = pairs(run, &items, &keys)?;
            let sorted = sort(
                run,
                &pairs,
                |pair| folded(part(pair, 1), cased),
                given.flag(0, "reverse").unwrap_or(false),
            )?;
            let sorted = sorted.iter().map(|pair| part(pair, 0).clone()).collect();
            Value::list(sorted, &mut run.budget)
        }
        "unique" => {
            let mut kept: Vec<(Value, Value)> = Vec::new();
            for (item, key) in items.iter().zip(keys.iter()) {
                run.budget.steps(kept.len() / 8)?;
                let key = folded(key, cased);
                if !kept.iter().any(|(_, other)| other.equals(&key)) {
                    kept.push((item.clone(), key));
                }
            }
            iterator(run, kept.into_iter().map(|(item, _)| item).collect())
        }
        "min" | "max" => {
            let mut best: Option<(usize, Value)> = None;
            for (i, key) in keys.iter().enumerate() {
                let key = folded(key, cased);
                let wanted = if name == "min" {
                    Ordering::Less
                } else {
                    Ordering::Greater
                };
                let better = match &best {
                    None => true,
                    Some((_, other)) => key.order(other)? == wanted,
                };
                if better {
                    best = Some((i, key));
                }
            }
            Ok(best.map_or_else(
                || Value::Undefined("there is no item in an empty list".into()),
                |(i, _)| items[i].clone(),
            ))
        }
        "sum" => {
            let mut sum = given.get(1, "start").cloned().unwrap_or(Value::Int(0));
            for key in keys.iter() {
                let whole = sum
                    .as_int()
                    .zip(key.as_int())
                    .and_then(|(a, b)| a.checked_add(b))
                    .map(Value::Int);
                let float = || sum.as_float().zip(key.as_float()).map(|(a, b)| Value::Float(a + b));
                sum = whole
                    .or_else(float)
                    .ok_or_else(|| Stop::failed("only numbers can be summed"))?;
            }
            Ok(sum)
        }
        "map" => {
            let mut out = Vec::with_capacity(items.len());
            let path = given
                .named
                .iter()
                .find(|(n, _)| &**n == "attribute")
                .map(|(_, v)| v.clone());
            let default = given
                .named
                .iter()
                .find(|(n, _)| &**n == "default")
                .map(|(_, v)| v.clone());
            for item in items.iter() {
                run.budget.steps(1)?;
                out.push(match &path {
                    Some(path) => {
                        let found = follow(run, item, path)?;
                        match &default {
                            Some(default) if found.is_undefined() => default.clone(),
                            _ => found,
                        }
                    }
                    None => {
                        let name = given.text(0, "filter")?;
                        let rest = Given {
                            list: given.list[1..].to_vec(),
                            named: given.named.clone(),
                        };
                        filter(run, name, item.clone(), &rest)?
                    }
                });
            }
            iterator(run, out)
        }
        "select" | "reject" | "selectattr" | "rejectattr" => {
            let attributes = name.ends_with("attr");
            let wanted = name.starts_with("select");
            let path = if attributes {
                Some(given.need(0, "attribute")?.clone())
            } else {
                None
            };
            let skip = usize::from(attributes);
            let (test_name, rest) = match given.list.get(skip) {
                None => (None, Given::default()),
                Some(test) => {
                    let rest = Given {
                        list: given.list[skip + 1..].to_vec(),
                        named: Vec::new(),
                    };
                    let name = test.as_str().ok_or_else(|| Stop::failed("a test is named by a str"))?;
                    (Some(name), rest)
                }
            };
            let mut out = Vec::new();
            for item in items.iter() {
                run.budget.steps(1)?;
                let tested = match &path {
                    Some(path) => follow(run, item, path)?,
                    None => item.clone(),
                };
                let holds = match test_name {
                    None => tested.is_true(),
                    Some(name) => test(run, name, &tested, &rest)?,
                };
                if holds == wanted {
                    out.push(item.clone());
                }
            }
            iterator(run, out)
        }
        "batch" | "slice" => {
            let count = given.int(0, "count")?.unwrap_or(0);
            let count = usize::try_from(count).ok().filter(|n| (1..=100_000).contains(n));
            let count = count.ok_or_else(|| Stop::failed(format!("\"{name}\" needs a count from 1 to 100000")))?;
            let fill = given.get(1, "fill_with").filter(|value| !matches!(value, Value::None));
            let mut parts: Vec<Vec<Value>> = if name == "batch" {
                items.chunks(count).map(<[Value]>::to_vec).collect()
            } else {
                let (each, more) = (items.len() / count, items.len() % count);
                let begin = |i: usize| i * each + i.min(more);
                (0..count).map(|i| items[begin(i)..begin(i + 1)].to_vec()).collect()
            };
            if let Some(fill) = fill {
                run.budget.spend(16 * count)?;
                let longest = if name == "batch" {
                    count
                } else {
                    items.len().div_ceil(count)
                };
                for part in &mut parts {
                    part.resize(longest.max(part.len()), fill.clone());
                }
            }
            let parts: Outcome<Vec<Value>> = parts
                .into_iter()
                .map(|part| Value::list(part, &mut run.budget))
                .collect();
            iterator(run, parts?)
        }
        _ => {
            let pairs = pairs(run, &items, &keys)?;
            let sorted = sort(run, &pairs, |pair| folded(part(pair, 1), false), false)?;
            let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
            for pair in &sorted {
                let (item, key) = (part(pair, 0), part(pair, 1));
                match groups.last_mut() {
                    Some((last, group)) if folded(last, false).equals(&folded(key, false)) => group.push(item.clone()),
                    _ => groups.push((key.clone(), vec![item.clone()])),
                }
            }
            let mut out = Vec::new();
            for (key, group) in groups {
                let group = Value::list(group, &mut run.budget)?;
                out.push(Value::seq(SeqKind::Tuple, vec![key, group], &mut run.budget)?);
            }
            Value::list(out, &mut run.budget)
        }
    }
}

fn iterator(run: &mut Run, items: Vec<Value>) -> Outcome<Value> {
    Value::seq(SeqKind::Iterator, items, &mut run.budget)
}

fn pairs(run: &mut Run, items: &[Value], keys: &[Value]) -> Outcome<Rc<Vec<Value>>> {
    let pair =
        |(item, key): (&Value, &Value)| Value::seq(SeqKind::Tuple, vec![item.clone(), key.clone()], &mut run.budget);
    let pairs: Outcome<Vec<Value>> = items.iter().zip(keys).map(pair).collect();
    pairs.map(Rc::new)
}

fn part(pair: &Value, at: usize) -> &Value {
    match pair {
        Value::Seq(seq) => seq.items.get(at).unwrap_or(pair),
        other => other,
    }
}

/// A text without case, unless case counts.
fn folded(value: &Value, cased: bool) -> Value {
    match value {
        Value::Str(text) if !cased => Value::Str(text.to_lowercase().into()),
        other => other.clone(),
    }
}

/// A stable sort. Errors: two keys have no order.
fn sort(run: &mut Run, items: &[Value], key: impl Fn(&Value) -> Value, reverse: bool) -> Outcome<Vec<Value>> {
    let size: usize = items.iter().map(Value::size).sum();
    run.budget.spend(2 * size)?;
    run.budget
        .steps((size / 16).saturating_mul(items.len().max(1).ilog2() as usize + 1))?;
    let mut keyed: Vec<(Value, Value)> = items.iter().map(|item| (key(item), item.clone())).collect();
    let mut failed = None;
    keyed.sort_by(|(a, _), (b, _)| {
        let order = a.order(b).unwrap_or_else(|stop| {
            failed.get_or_insert(stop);
            Ordering::Equal
        });
        if reverse { order.reverse() } else { order }
    });
    match failed {
        Some(stop) => Err(stop),
        None => Ok(keyed.into_iter().map(|(_, item)| item).collect()),
    }
}

/// An attribute by its path, `a.b.0`.
fn follow(run: &mut Run, item: &Value, path: &Value) -> Outcome<Value> {
    let Some(path) = path.as_str() else {
        return run.item(item, path);
    };
    let mut value = item.clone();
    for name in path.split('.') {
        run.budget.steps(1)?;
        let key = name.parse().map_or_else(|_| Value::text(name), Value::Int);
        value = run.item(&value, &key)?;
    }
    Ok(value)
}

fn truncate(run: &mut Run, value: &Value, given: &Given) -> Outcome<Value> {
    let text = run.show(value)?;
    let most = usize::try_from(given.int(0, "length")?.unwrap_or(255)).unwrap_or(0);
    let kill = given.flag(1, "killwords").unwrap_or(false);
    let end = match given.get(2, "end") {
        None => "...",
        Some(_) => given.text(2, "end")?,
    };
    let leeway = usize::try_from(given.int(3, "leeway")?.unwrap_or(5)).unwrap_or(0);
    let length = text.chars().count();
    if length <= most.saturating_add(leeway) {
        return run.text(text);
    }
    let room = most.saturating_sub(end.chars().count());
    let cut: String = text.chars().take(room).collect();
    let cut = if kill {
        &*cut
    } else {
        cut.rsplit_once(' ').map_or(&*cut, |(before, _)| before)
    };
    run.text(format!("{cut}{end}"))
}

/// Jinja's `title`, which is not Python's: a capital behind spaces, hyphens and opening brackets.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = !(is_space(c) || "-({[<".contains(c));
    }
    out
}

pub(super) fn test(run: &mut Run, name: &str, value: &Value, given: &Given) -> Outcome<bool> {
    let whole = || {
        value
            .as_int()
            .ok_or_else(|| Stop::failed(format!("\"{name}\" needs a whole number")))
    };
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => matches!(value, Value::None),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "boolean" => matches!(value, Value::Bool(_)),
        "string" => value.as_str().is_some(),
        "mapping" => matches!(value, Value::Map(_)),
        "sequence" => match value {
            Value::Seq(seq) => seq.kind != SeqKind::Iterator,
            other => matches!(other, Value::Str(_) | Value::Map(_) | Value::Undefined(_)),
        },
        "iterable" => matches!(
            value,
            Value::Seq(_) | Value::Str(_) | Value::Map(_) | Value::Undefined(_)
        ),
        "number" => value.as_float().is_some(),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "callable" => matches!(
            value,
            Value::Macro(..) | Value::Function(_) | Value::Method(_) | Value::Loop(_) | Value::Undefined(_)
        ),
        "odd" => whole()? % 2 != 0,
        "even" => whole()? % 2 == 0,
        "divisibleby" => {
            let by = given.int(0, "num")?.filter(|by| *by != 0);
            let by = by.ok_or_else(|| Stop::failed("division by zero"))?;
            whole()?.checked_rem(by).unwrap_or(0) == 0
        }
        "lower" | "upper" => {
            let text = run.show(value)?;
            let other = if name == "lower" {
                text.to_lowercase()
            } else {
                text.to_uppercase()
            };
            text == other && text.chars().any(char::is_alphabetic)
        }
        "sameas" => {
            let other = given.need(0, "other")?;
            value.kind() == other.kind() && value.equals(other)
        }
        "eq" | "equalto" | "==" | "ne" | "!=" => {
            let other = given.need(0, "other")?;
            run.budget.steps(value.size().min(other.size()) / 16)?;
            value.equals(other) != matches!(name, "ne" | "!=")
        }
        "lt" | "lessthan" | "<" => value.order(given.need(0, "other")?)?.is_lt(),
        "le" | "<=" => value.order(given.need(0, "other")?)?.is_le(),
        "gt" | "greaterthan" | ">" => value.order(given.need(0, "other")?)?.is_gt(),
        "ge" | ">=" => value.order(given.need(0, "other")?)?.is_ge(),
        "in" => run.contains(value, given.need(0, "seq")?)?,
        "filter" | "test" | "escaped" => false,
        other => {
            let other: String = other.chars().take(40).collect();
            return Err(Stop::failed(format!("the test \"{other}\" is not known here")));
        }
    })
}

/// How `json.dumps` was asked to write.
struct Json {
    /// What each level is indented with.
    indent: Option<String>,
    comma: String,
    colon: String,
    ascii: bool,
    sorted: bool,
    out: String,
}

fn to_json(run: &mut Run, value: &Value, given: &Given) -> Outcome<Value> {
    run.budget.spend(2 * value.size())?;
    let indent = match given.get(1, "indent") {
        None | Some(Value::None) => None,
        Some(Value::Str(text)) if text.len() <= MAX_INDENT => Some(text.to_string()),
        Some(width) => {
            let width = width.as_int().map(|n| usize::try_from(n).unwrap_or(0));
            let width = width.filter(|n| *n <= MAX_INDENT);
            Some(" ".repeat(width.ok_or_else(|| Stop::failed("its indentation is too wide"))?))
        }
    };
    let (mut comma, mut colon) = (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string());
    if let Some(separators @ Value::Seq(_)) = given.get(2, "separators") {
        let texts = (part(separators, 0).as_str(), part(separators, 1).as_str());
        let (Some(a), Some(b)) = texts else {
            return Err(Stop::failed("separators are two str"));
        };
        if a.len() + b.len() > MAX_INDENT {
            return Err(Stop::failed("its separators are too long"));
        }
        (comma, colon) = (a.into(), b.into());
    }
    let mut json = Json {
        indent,
        comma,
        colon,
        ascii: given.flag(0, "ensure_ascii").unwrap_or(false),
        sorted: given.flag(3, "sort_keys").unwrap_or(false),
        out: String::new(),
    };
    json.write(value, 0)?;
    run.text(json.out)
}

impl Json {
    fn line(&mut self, level: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            for _ in 0..level {
                self.out.push_str(indent);
            }
        }
    }

    fn write(&mut self, value: &Value, level: usize) -> Outcome<()> {
        if self.out.len() > MAX_TEXT {
            return Err(Stop::failed("it writes JSON that is too long"));
        }
        match value {
            Value::None => self.out.push_str("null"),
            Value::Bool(flag) => self.out.push_str(if *flag { "true" } else { "false" }),
            Value::Int(number) => {
                // Writing to a string cannot fail.
                let _ = write!(self.out, "{number}");
            }
            Value::Float(number) => self.out.push_str(&json_float(*number)),
            Value::Str(text) => self.quote(text),
            Value::Seq(seq) if seq.kind != SeqKind::Iterator => {
                self.out.push('[');
                for (i, item) in seq.items.iter().enumerate() {
                    if i > 0 {
                        self.out.push_str(&self.comma);
                    }
                    self.line(level + 1);
                    self.write(item, level + 1)?;
                }
                if !seq.items.is_empty() {
                    self.line(level);
                }
                self.out.push(']');
            }
            Value::Map(map) => {
                self.out.push('{');
                let mut entries: Vec<&(Value, Value)> = map.entries.iter().collect();
                if self.sorted {
                    entries.sort_by(|(a, _), (b, _)| a.order(b).unwrap_or(Ordering::Equal));
                }
                for (i, (key, value)) in entries.into_iter().enumerate() {
                    if i > 0 {
                        self.out.push_str(&self.comma);
                    }
                    self.line(level + 1);
                    match key {
                        Value::Str(key) => self.quote(key),
                        Value::None => self.out.push_str("\"null\""),
                        Value::Bool(flag) => self.out.push_str(if *flag { "\"true\"" } else { "\"false\"" }),
                        Value::Int(_) | Value::Float(_) => {
                            let key = key.show();
                            self.quote(&key);
                        }
                        other => return Err(Stop::failed(format!("{} cannot be a key of JSON", other.a_kind()))),
                    }
                    self.out.push_str(&self.colon);
                    self.write(value, level + 1)?;
                }
                if !map.entries.is_empty() {
                    self.line(level);
                }
                self.out.push('}');
            }
            other => return Err(Stop::failed(format!("{} cannot be written as JSON", other.a_kind()))),
        }
        Ok(())
    }

    fn quote(&mut self, text: &str) {
        let out = &mut self.out;
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 || self.ascii && (c as u32) > 0x7e => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// A float as Python's JSON has it.
fn json_float(number: f64) -> String {
    match number {
        n if n.is_nan() => "NaN".into(),
        n if n.is_infinite() => if n > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        n => float(n),
    }
}
