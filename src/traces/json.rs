//! One line of JSON as a flat list of nodes.
//!
//! A tree of values costs some eighty bytes for each `0` of `[0,0,…]`, so a hostile line of 16 MiB would become more than
//! half a gigabyte. Here every value is one node of sixteen bytes, strings without escapes stay where they are in the line,
//! and the list is used again for the next line. The parsing itself is `serde_json`'s, with its limit on depth.

use super::validate::{Looks, Reason};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use std::fmt;

/// A value. Containers say where they end, so that they can be stepped over.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Node {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    /// A string as it stands in the line.
    Plain {
        at: u32,
        len: u32,
    },
    /// A string that had escapes, in `Tape::unescaped`.
    Unescaped {
        at: u32,
        len: u32,
    },
    Array {
        end: u32,
    },
    /// Keys and values in turn.
    Object {
        end: u32,
    },
}

/// The nodes of one line.
#[derive(Debug, Default)]
pub(super) struct Tape {
    nodes: Vec<Node>,
    unescaped: String,
}

/// Longest line that node offsets can address.
pub(super) const MAX_SOURCE: usize = 1 << 30;

impl Tape {
    /// Parses one line, forgetting the one before.
    ///
    /// # Errors
    /// [`Reason::NotUtf8`], [`Reason::TooDeep`] or [`Reason::NotJson`] with what the line looks like instead.
    pub(super) fn parse<'a>(&'a mut self, line: &'a [u8]) -> Result<View<'a>, Reason> {
        assert!(line.len() <= MAX_SOURCE, "the splitter holds lines to its cap");
        let source = std::str::from_utf8(line).map_err(|_| Reason::NotUtf8)?;
        self.parse_text(source).map_err(|error| reason(source, &error))
    }

    /// The same for text that is known to be UTF-8, such as a string inside a line.
    pub(super) fn parse_text<'a>(&'a mut self, source: &'a str) -> Result<View<'a>, serde_json::Error> {
        self.nodes.clear();
        self.unescaped.clear();
        let mut deserializer = serde_json::Deserializer::from_str(source);
        Fill {
            tape: self,
            base: source.as_ptr() as usize,
        }
        .deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(View {
            tape: self,
            source,
            at: 0,
        })
    }

    /// Bytes that are reserved.
    pub(super) fn capacity(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.unescaped.capacity()
    }

    /// Gives memory back that only an unusually long line needed.
    pub(super) fn relax(&mut self) {
        const KEPT: usize = 4 << 20;
        if self.capacity() > KEPT {
            *self = Self::default();
        }
    }

    fn open(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

/// Puts what the parser finds onto the tape.
struct Fill<'t> {
    tape: &'t mut Tape,
    /// Address of the line's first byte: a borrowed string lies behind it.
    base: usize,
}

impl<'de> DeserializeSeed<'de> for Fill<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fill<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        self.tape.nodes.push(Node::Null);
        Ok(())
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.tape.nodes.push(Node::Bool(value));
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.tape.nodes.push(Node::Unsigned(value));
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.tape.nodes.push(Node::Signed(value));
        Ok(())
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.tape.nodes.push(Node::Float(value));
        Ok(())
    }
    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<(), E> {
        self.tape.nodes.push(Node::Plain {
            at: (value.as_ptr() as usize - self.base) as u32,
            len: value.len() as u32,
        });
        Ok(())
    }
    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        let at = self.tape.unescaped.len() as u32;
        self.tape.unescaped.push_str(value);
        self.tape.nodes.push(Node::Unescaped {
            at,
            len: value.len() as u32,
        });
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { tape, base } = self;
        let opened = tape.open(Node::Array { end: 0 });
        while items.next_element_seed(Fill { tape: &mut *tape, base })?.is_some() {}
        tape.nodes[opened] = Node::Array {
            end: tape.nodes.len() as u32,
        };
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Self { tape, base } = self;
        let opened = tape.open(Node::Object { end: 0 });
        while entries.next_key_seed(Fill { tape: &mut *tape, base })?.is_some() {
            entries.next_value_seed(Fill { tape: &mut *tape, base })?;
        }
        tape.nodes[opened] = Node::Object {
            end: tape.nodes.len() as u32,
        };
        Ok(())
    }
}

/// One value of a parsed line.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    tape: &'a Tape,
    source: &'a str,
    at: usize,
}

impl<'a> View<'a> {
    fn node(self) -> Node {
        self.tape.nodes[self.at]
    }

    fn to(self, at: usize) -> Self {
        Self { at, ..self }
    }

    /// Where the next value starts.
    fn after(self) -> usize {
        match self.node() {
            Node::Array { end } | Node::Object { end } => end as usize,
            _ => self.at + 1,
        }
    }

    pub(super) fn is_null(self) -> bool {
        self.node() == Node::Null
    }

    pub(super) fn is_object(self) -> bool {
        matches!(self.node(), Node::Object { .. })
    }

    /// The string, if it is one.
    pub(super) fn text(self) -> Option<&'a str> {
        match self.node() {
            Node::Plain { at, len } => Some(&self.source[at as usize..(at + len) as usize]),
            Node::Unescaped { at, len } => Some(&self.tape.unescaped[at as usize..(at + len) as usize]),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub(super) fn number(self) -> Option<f64> {
        match self.node() {
            Node::Unsigned(n) => Some(n as f64),
            Node::Signed(n) => Some(n as f64),
            Node::Float(n) => Some(n),
            _ => None,
        }
    }

    /// The number, if it is one that a token id can be.
    pub(super) fn id(self) -> Option<u32> {
        match self.node() {
            Node::Unsigned(n) => u32::try_from(n).ok(),
            _ => None,
        }
    }

    pub(super) fn bool(self) -> Option<bool> {
        match self.node() {
            Node::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The values of an array.
    pub(super) fn items(self) -> Option<impl Iterator<Item = View<'a>> + Clone> {
        let Node::Array { end } = self.node() else { return None };
        let mut at = self.at + 1;
        Some(std::iter::from_fn(move || {
            (at < end as usize).then(|| {
                let item = self.to(at);
                at = item.after();
                item
            })
        }))
    }

    /// The keys and values of an object.
    pub(super) fn entries(self) -> Option<impl Iterator<Item = (&'a str, View<'a>)>> {
        let Node::Object { end } = self.node() else { return None };
        let mut at = self.at + 1;
        Some(std::iter::from_fn(move || {
            (at < end as usize).then(|| {
                let (key, value) = (self.to(at), self.to(at + 1));
                at = value.after();
                (key.text().unwrap_or_default(), value)
            })
        }))
    }

    /// The value behind a key; `null` counts as absent. Of a key that is written twice the last one counts.
    pub(super) fn get(self, key: &str) -> Option<View<'a>> {
        let found = self.entries()?.filter(|(k, _)| *k == key).last()?.1;
        (!found.is_null()).then_some(found)
    }

    /// The same value as a tree of its own. `budget` holds how many nodes may still become trees.
    ///
    /// # Errors
    /// [`Reason::TooManyValues`] when the budget is spent.
    pub(super) fn to_value(self, budget: &mut usize) -> Result<serde_json::Value, Reason> {
        use serde_json::Value;
        *budget = budget.checked_sub(1).ok_or(Reason::TooManyValues)?;
        Ok(match self.node() {
            Node::Null => Value::Null,
            Node::Bool(value) => value.into(),
            Node::Unsigned(n) => n.into(),
            Node::Signed(n) => n.into(),
            Node::Float(n) => n.into(),
            Node::Plain { .. } | Node::Unescaped { .. } => self.text().unwrap_or_default().into(),
            Node::Array { .. } => {
                let items = self.items().into_iter().flatten();
                Value::Array(items.map(|item| item.to_value(budget)).collect::<Result<_, _>>()?)
            }
            Node::Object { .. } => {
                let mut map = serde_json::Map::new();
                for (key, value) in self.entries().into_iter().flatten() {
                    map.insert(key.into(), value.to_value(budget)?);
                }
                Value::Object(map)
            }
        })
    }
}

/// What a line that is not JSON looks like, so that the sentence about it helps.
fn reason(source: &str, error: &serde_json::Error) -> Reason {
    let message = error.to_string();
    if message.starts_with("recursion limit") {
        return Reason::TooDeep;
    }
    let start = source.trim_start();
    // Where the parser stopped, give or take the length of a name.
    let before = source.split_inclusive('\n').take(error.line().saturating_sub(1));
    let at = before.map(str::len).sum::<usize>() + error.column();
    let near = &source.as_bytes()[at.saturating_sub(10).min(source.len())..(at + 10).min(source.len())];
    let is_near = |name: &[u8]| near.windows(name.len()).any(|window| window == name);
    let looks = if start.starts_with('<') {
        Looks::Html
    } else if start.starts_with("//") || start.starts_with('#') {
        Looks::Comment
    } else if start.starts_with("{'") || start.starts_with("['") {
        Looks::SingleQuotes
    } else if message.starts_with("number out of range") || is_near(b"NaN") || is_near(b"Inf") {
        Looks::NotFinite
    } else if message.starts_with("control character") {
        Looks::ControlCharacter
    } else if message.starts_with("trailing comma") {
        Looks::TrailingComma
    } else if start.starts_with('{') && message.starts_with("trailing characters") {
        Looks::Several
    } else if error.classify() == Category::Eof {
        Looks::Unfinished
    } else if start.starts_with(char::is_alphanumeric) && start.contains([',', ';', '\t']) {
        Looks::Table
    } else {
        Looks::Text
    };
    Reason::NotJson {
        looks,
        column: error.column(),
    }
}
