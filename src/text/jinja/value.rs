//! What a template computes with: Python's values, immutable, each with its depth and size, so that nothing grows unseen.

use super::{Budget, Outcome, Stop};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;

/// How deep values may be nested, and how much one may hold, counted in bytes of text and parts, shared parts as often as they
/// occur: what is printed or compared is no longer than that.
const MAX_DEPTH: usize = 150;
pub(super) const MAX_SIZE: usize = 16 << 20;

/// Most keys of a map that are no texts.
const MAX_OTHER_KEYS: usize = 256;

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing, and the sentence that says what is missing.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    Seq(Rc<Seq>),
    Map(Rc<Map>),
    Namespace(Rc<RefCell<BTreeMap<Rc<str>, Value>>>),
    Loop(Rc<Loop>),
    Macro(Rc<super::parser::Macro>, Sight),
    Function(Rc<str>),
    Method(Rc<(Value, Rc<str>)>),
}

/// The frames that a macro sees.
#[derive(Debug, Clone)]
pub(super) enum Sight {
    /// So many of those that are there, from the outermost.
    First(usize),
    /// Those that were there when it was made.
    Copy(Rc<Vec<BTreeMap<Rc<str>, Value>>>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SeqKind {
    List,
    Tuple,
    /// What a filter gives out one by one: true even where it is empty.
    Iterator,
}

#[derive(Debug)]
pub(super) struct Seq {
    pub(super) kind: SeqKind,
    pub(super) items: Vec<Value>,
    weight: Weight,
}

#[derive(Debug)]
pub(super) struct Map {
    pub(super) entries: Vec<(Value, Value)>,
    weight: Weight,
}

#[derive(Debug, Clone, Copy)]
struct Weight {
    depth: usize,
    size: usize,
}

#[derive(Debug)]
pub(super) struct Loop {
    pub(super) index: usize,
    pub(super) items: Rc<Vec<Value>>,
    pub(super) depth: usize,
    /// The loop in the list of loops that call themselves.
    pub(super) recursion: Option<usize>,
    pub(super) changed: Rc<RefCell<Option<Value>>>,
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Str(text.into())
    }

    /// A list. Errors: it would be too deep or too large.
    pub(super) fn seq(kind: SeqKind, items: Vec<Value>, budget: &mut Budget) -> Outcome<Self> {
        budget.items(items.len())?;
        let weight = Weight::of(items.iter())?;
        Ok(Self::Seq(Rc::new(Seq { kind, items, weight })))
    }

    pub(super) fn list(items: Vec<Value>, budget: &mut Budget) -> Outcome<Self> {
        Self::seq(SeqKind::List, items, budget)
    }

    /// A map; of equal keys the last value counts, at the place of the first.
    pub(super) fn map(pairs: Vec<(Value, Value)>, budget: &mut Budget) -> Outcome<Self> {
        budget.items(2 * pairs.len())?;
        let mut entries: Vec<(Value, Value)> = Vec::with_capacity(pairs.len());
        let mut others = 0;
        // Beyond a few entries a tree finds what is there already.
        let mut texts: BTreeMap<Rc<str>, usize> = BTreeMap::new();
        for (key, value) in pairs {
            let found = match &key {
                Value::Str(text) => texts.get(text).copied(),
                Value::Seq(_) | Value::Map(_) | Value::Namespace(_) => {
                    return Err(Stop::failed(format!("{} cannot be a key", key.a_kind())));
                }
                other => {
                    // They are searched for one by one, here and in comparisons: no template needs many.
                    others += 1;
                    if others > MAX_OTHER_KEYS {
                        return Err(Stop::failed("it makes a dict of too many keys that are no texts"));
                    }
                    budget.steps(entries.len() / 8)?;
                    entries.iter().position(|(k, _)| k.equals(other))
                }
            };
            match found {
                Some(at) => entries[at].1 = value,
                None => {
                    if let Value::Str(text) = &key {
                        texts.insert(text.clone(), entries.len());
                    }
                    entries.push((key, value));
                }
            }
        }
        let weight = Weight::of(entries.iter().flat_map(|(k, v)| [k, v]))?;
        Ok(Self::Map(Rc::new(Map { entries, weight })))
    }

    /// A value of JSON.
    pub(super) fn from_json(value: &serde_json::Value, budget: &mut Budget) -> Outcome<Self> {
        Ok(match value {
            serde_json::Value::Null => Self::None,
            serde_json::Value::Bool(flag) => Self::Bool(*flag),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(number) => Self::Int(number),
                None => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Self::text(text),
            serde_json::Value::Array(items) => {
                let items = items.iter().map(|item| Self::from_json(item, budget));
                let items = items.collect::<Outcome<_>>()?;
                Self::list(items, budget)?
            }
            serde_json::Value::Object(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, value)| Ok((Self::text(key), Self::from_json(value, budget)?)));
                let entries = entries.collect::<Outcome<_>>()?;
                Self::map(entries, budget)?
            }
        })
    }

    fn weight(&self) -> Weight {
        match self {
            Self::Seq(seq) => seq.weight,
            Self::Map(map) => map.weight,
            Self::Str(text) => Weight {
                depth: 0,
                size: 1 + text.len(),
            },
            _ => Weight { depth: 0, size: 1 },
        }
    }

    /// Bytes of text and parts, shared parts as often as they occur.
    pub(super) fn size(&self) -> usize {
        self.weight().size
    }

    /// What Python calls the kind of value.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Seq(seq) => match seq.kind {
                SeqKind::List => "list",
                SeqKind::Tuple => "tuple",
                SeqKind::Iterator => "generator",
            },
            Self::Map(_) => "dict",
            Self::Namespace(_) => "Namespace",
            Self::Loop(_) => "LoopContext",
            Self::Macro(..) => "Macro",
            Self::Function(_) | Self::Method(_) => "function",
        }
    }

    /// The kind with its article, for messages.
    pub(super) fn a_kind(&self) -> String {
        let kind = self.kind();
        let article = if kind.starts_with(['i', 'U']) { "an" } else { "a" };
        format!("{article} {kind}")
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(flag) => *flag,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::Seq(seq) => seq.kind == SeqKind::Iterator || !seq.items.is_empty(),
            Self::Map(map) => !map.entries.is_empty(),
            _ => true,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// An integer; truth values count as 0 and 1.
    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Bool(flag) => Some((*flag).into()),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            other => other.as_int().map(|number| number as f64),
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    /// An entry of a map by its text.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Map(map) => map
                .entries
                .iter()
                .find(|(k, _)| k.as_str() == Some(key))
                .map(|(_, v)| v),
            _ => None,
        }
    }

    /// Python's `==`.
    pub(super) fn equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::Undefined(_), Self::Undefined(_)) | (Self::None, Self::None) => true,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Seq(a), Self::Seq(b)) => {
                Rc::ptr_eq(a, b)
                    || a.kind == b.kind
                        && a.items.len() == b.items.len()
                        && a.items.iter().zip(&b.items).all(|(a, b)| a.equals(b))
            }
            (Self::Map(a), Self::Map(b)) => {
                if Rc::ptr_eq(a, b) || a.entries.len() != b.entries.len() {
                    return Rc::ptr_eq(a, b);
                }
                // Most keys are texts; the few others are searched for.
                let texts: BTreeMap<&str, &Value> =
                    b.entries.iter().filter_map(|(k, v)| Some((k.as_str()?, v))).collect();
                a.entries.iter().all(|(key, value)| match key.as_str() {
                    Some(text) => texts.get(text).is_some_and(|v| v.equals(value)),
                    None => b.entries.iter().any(|(k, v)| k.equals(key) && v.equals(value)),
                })
            }
            (Self::Namespace(a), Self::Namespace(b)) => Rc::ptr_eq(a, b),
            _ => match (self.as_int(), other.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => matches!((self.as_float(), other.as_float()), (Some(a), Some(b)) if a == b),
            },
        }
    }

    /// Python's order. Errors: the two have none.
    pub(super) fn order(&self, other: &Value) -> Outcome<Ordering> {
        match (self, other) {
            (Self::Str(a), Self::Str(b)) => Ok(a.cmp(b)),
            (Self::Seq(a), Self::Seq(b)) if a.kind == b.kind => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b) {
                        return a.order(b);
                    }
                }
                Ok(a.items.len().cmp(&b.items.len()))
            }
            _ => {
                if let (Some(a), Some(b)) = (self.as_int(), other.as_int()) {
                    return Ok(a.cmp(&b));
                }
                let order = match (self.as_float(), other.as_float()) {
                    (Some(a), Some(b)) => a.partial_cmp(&b),
                    _ => None,
                };
                order.ok_or_else(|| Stop::failed(format!("{} and {} have no order", self.a_kind(), other.a_kind())))
            }
        }
    }

    /// Python's `str`. It is no longer than the value's size allows.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Str(text) => text.to_string(),
            Self::Undefined(_) => String::new(),
            other => {
                let mut out = String::new();
                other.write_repr(&mut out);
                out
            }
        }
    }

    /// Python's `repr`.
    pub(super) fn repr(&self) -> String {
        let mut out = String::new();
        self.write_repr(&mut out);
        out
    }

    fn write_repr(&self, out: &mut String) {
        match self {
            Self::Undefined(_) => out.push_str("Undefined"),
            Self::None => out.push_str("None"),
            Self::Bool(flag) => out.push_str(if *flag { "True" } else { "False" }),
            Self::Int(number) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "{number}");
            }
            Self::Float(number) => out.push_str(&float(*number)),
            Self::Str(text) => quote(text, out),
            Self::Seq(seq) => {
                let (open, close) = match seq.kind {
                    SeqKind::Tuple => ('(', ')'),
                    _ => ('[', ']'),
                };
                out.push(open);
                for (i, item) in seq.items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    item.write_repr(out);
                }
                if seq.kind == SeqKind::Tuple && seq.items.len() == 1 {
                    out.push(',');
                }
                out.push(close);
            }
            Self::Map(map) => {
                out.push('{');
                for (i, (key, value)) in map.entries.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    key.write_repr(out);
                    out.push_str(": ");
                    value.write_repr(out);
                }
                out.push('}');
            }
            // A namespace may hold itself: its parts are not shown.
            Self::Namespace(_) => out.push_str("<Namespace>"),
            Self::Loop(state) => {
                let _ = write!(out, "<LoopContext {}/{}>", state.index + 1, state.items.len());
            }
            Self::Macro(definition, _) => {
                let _ = write!(out, "<Macro '{}'>", definition.name);
            }
            Self::Function(name) => {
                let _ = write!(out, "<function {name}>");
            }
            Self::Method(method) => {
                let _ = write!(out, "<method {}>", method.1);
            }
        }
    }
}

impl Weight {
    fn of<'v>(parts: impl Iterator<Item = &'v Value>) -> Outcome<Self> {
        let mut weight = Self { depth: 0, size: 1 };
        for part in parts {
            let part = part.weight();
            weight.depth = weight.depth.max(part.depth);
            weight.size += part.size;
            if weight.size > MAX_SIZE {
                return Err(Stop::failed(format!("it builds a value of more than {MAX_SIZE} bytes")));
            }
        }
        weight.depth += 1;
        if weight.depth > MAX_DEPTH {
            return Err(Stop::failed("it nests values too deep"));
        }
        Ok(weight)
    }
}

/// A float as Python writes it: the shortest digits that are read back as the same, with an exponent where it is far from 1.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let text = format!("{number}");
    if text.contains('.') { text } else { text + ".0" }
}

/// A text as Python quotes it.
fn quote(text: &str, out: &mut String) {
    let mark = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(mark);
    for c in text.chars() {
        let code = c as u32;
        // Writing to a string cannot fail.
        let _ = match c {
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            '\\' => write!(out, "\\\\"),
            c if c == mark => write!(out, "\\{c}"),
            _ if code < 0x20 || (0x7f..0xa1).contains(&code) || code == 0xad => write!(out, "\\x{code:02x}"),
            '\u{1680}'
            | '\u{2000}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}'
            | '\u{205f}'..='\u{206f}'
            | '\u{3000}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{feff}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                write!(out, "\\u{code:04x}")
            }
            _ => write!(out, "{c}"),
        };
    }
    out.push(mark);
}
