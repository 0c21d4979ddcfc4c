//! Answers in a form: JSON, JSON of a schema, text of a regular expression or of a grammar.
//!
//! The `llguidance` crate reads schemas and grammars, and says for each state which tokens may follow. Here it meets the
//! student's vocabulary: plain text by its bytes, the tokens that end an answer where the form is complete, and no other
//! control token ever. What comes out is a mask of bits that both samplers know.

use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use std::sync::Arc;

/// The form of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// An object in JSON.
    JsonObject,
    /// JSON that a JSON Schema describes.
    JsonSchema(Value),
    /// Text that a regular expression matches from end to end.
    Regex(String),
    /// Text of a grammar, as Lark writes them.
    Grammar(String),
}

/// Longest token that a constrained answer may hold, in bytes: the tree of tokens has no room for more than 1024.
const MAX_TOKEN: usize = 256;

/// Most bytes of all tokens: what the tree of tokens can count.
const MAX_TREE: usize = 4_000_000;

/// How deep a schema, an expression or a grammar may be nested: their readers recurse.
const MAX_DEPTH: usize = 64;

/// How JSON is written where a schema has no `x-guidance` of its own: a space or none behind a comma and a colon, and no
/// other white space. Where any is allowed, a small student may go on with lines and spaces for ever.
fn layout() -> Value {
    json!({ "item_separator": ",\\x20?", "key_separator": ":\\x20?", "whitespace_flexible": false })
}

fn wrong(what: impl Into<String>) -> Error {
    Error::Format { what: what.into() }
}

/// What the crate says, in one short line without the stop of a sentence.
fn said(error: impl std::fmt::Display) -> Error {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default().trim_end_matches(['.', ':']);
    wrong(line.chars().filter(|c| !c.is_control()).take(200).collect::<String>())
}

impl Format {
    /// From the `response_format` of the chat-completions format: `{"type": "json_object"}`, or `json_schema` with
    /// `{"json_schema": {"schema": ..}}`; beside these `regex` with `regex` and `grammar` with `grammar`. `text` is `None`.
    ///
    /// Errors: [`Error::Format`].
    pub fn from_json(value: &Value) -> Result<Option<Self>> {
        let text = |key: &str| {
            let text = value.get(key).and_then(Value::as_str).map(str::to_string);
            text.ok_or_else(|| wrong(format!("a response_format of the type {key} has its text in \"{key}\"")))
        };
        match value.get("type").and_then(Value::as_str) {
            _ if value.is_null() => Ok(None),
            Some("text") => Ok(None),
            Some("json_object") => Ok(Some(Self::JsonObject)),
            Some("json_schema") => {
                let schema = value.get("json_schema").and_then(|outer| outer.get("schema"));
                match schema.or_else(|| value.get("schema")) {
                    Some(schema) => Ok(Some(Self::JsonSchema(schema.clone()))),
                    None => Err(wrong(
                        "a response_format of the type json_schema has its schema in json_schema.schema",
                    )),
                }
            }
            Some("regex") => Ok(Some(Self::Regex(text("regex")?))),
            Some("grammar") => Ok(Some(Self::Grammar(text("grammar")?))),
            _ => Err(wrong(
                "the type of response_format is text, json_object, json_schema, regex or grammar",
            )),
        }
    }

    fn grammar(&self) -> Result<TopLevelGrammar> {
        match self {
            Self::JsonObject => schema_grammar(json!({ "type": "object" })),
            Self::JsonSchema(schema) => schema_grammar(schema.clone()),
            Self::Regex(text) => {
                check_depth(text)?;
                Ok(TopLevelGrammar::from_regex(text))
            }
            Self::Grammar(text) => {
                check_depth(text)?;
                Ok(TopLevelGrammar::from_lark(text.clone()))
            }
        }
    }
}

/// The grammar of a schema, laid out as above.
fn schema_grammar(mut schema: Value) -> Result<TopLevelGrammar> {
    fn deep(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left == 0 || items.iter().any(|item| deep(item, left - 1)),
            Value::Object(entries) => left == 0 || entries.values().any(|item| deep(item, left - 1)),
            _ => false,
        }
    }
    if deep(&schema, MAX_DEPTH) {
        return Err(wrong(format!("the schema is nested deeper than {MAX_DEPTH}")));
    }
    match &mut schema {
        Value::Object(entries) => {
            entries.entry("x-guidance").or_insert_with(layout);
        }
        // A schema may be `true`: any JSON.
        Value::Bool(true) => schema = json!({ "x-guidance": layout() }),
        _ => return Err(wrong("a schema is an object")),
    }
    Ok(TopLevelGrammar::from_json_schema(schema))
}

/// An upper bound of the nesting: brackets that are open at once, those in texts and classes included.
fn check_depth(text: &str) -> Result<()> {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > MAX_DEPTH {
        return Err(wrong(format!("its brackets are nested deeper than {MAX_DEPTH}")));
    }
    Ok(())
}

/// A student's tokens as constraints need them: made once for a student, when a form is first asked for.
pub struct Vocabulary {
    factory: ParserFactory,
    /// Bits of the tokens that a constrained answer may hold: plain text and ends.
    plain: Vec<u32>,
    /// Bits of all tokens but the ends.
    open: Vec<u32>,
}

fn set(bits: &mut [u32], id: u32) {
    bits[id as usize / 32] |= 1 << (id % 32);
}

impl Vocabulary {
    /// The tokens of `tokenizer`, with masks for `rows` logits.
    ///
    /// Errors: [`Error::Format`] where the vocabulary is too large, or has no token that ends an answer.
    pub fn new(tokenizer: &Tokenizer, rows: usize) -> Result<Self> {
        let count = tokenizer.vocab_size();
        assert!(count <= rows, "the header was checked");
        let ends = tokenizer.ends();
        if ends.is_empty() {
            return Err(wrong("this student has no token that ends an answer"));
        }
        let (mut plain, mut open) = (vec![0; rows.div_ceil(32)], vec![0; rows.div_ceil(32)]);
        let mut words = Vec::with_capacity(count);
        for id in 0..count as u32 {
            let is_end = tokenizer.is_end(id);
            let bytes = tokenizer.plain(id);
            // No UTF-8 holds 0xff, with which the tree marks special tokens.
            let fits = !is_end && !bytes.is_empty() && bytes.len() <= MAX_TOKEN && !bytes.contains(&0xff);
            if fits || is_end {
                set(&mut plain, id);
            }
            if !is_end {
                set(&mut open, id);
            }
            words.push(if fits { bytes.to_vec() } else { Vec::new() });
        }
        if words.iter().map(Vec::len).sum::<usize>() > MAX_TREE {
            return Err(wrong("this student's vocabulary is too large for answers in a form"));
        }
        let trie = TokTrie::from(&TokRxInfo::new(count as u32, ends[0]), &words).with_eos_tokens(ends);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices).map_err(said)?;
        factory.quiet();
        // Long errors hold the grammar and the text so far.
        factory.limits_mut().verbose_errors = false;
        Ok(Self { factory, plain, open })
    }
}

/// A form while an answer grows in it.
pub struct Constraint {
    matcher: Matcher,
    plain: Vec<u32>,
    open: Vec<u32>,
    mask: Vec<u32>,
}

impl Constraint {
    /// The beginning of an answer in the form of `format`.
    ///
    /// Errors: [`Error::Format`] where it cannot be read, holds what is not known, or no answer can have it.
    pub fn new(vocabulary: &Vocabulary, format: &Format) -> Result<Self> {
        let parser = vocabulary.factory.create_parser(format.grammar()?).map_err(said)?;
        let matcher = Matcher::new(Ok(parser));
        let mut constraint = Self {
            matcher,
            plain: vocabulary.plain.clone(),
            open: vocabulary.open.clone(),
            mask: vec![0; vocabulary.plain.len()],
        };
        constraint.mask()?;
        Ok(constraint)
    }

    /// Bits of the tokens that may come next, `(V + 31) / 32` words, the lowest bit first: never none.
    ///
    /// Errors: [`Error::Format`] where the form has become too complex, or cannot be gone on with in this vocabulary.
    pub fn mask(&mut self) -> Result<&[u32]> {
        let found = self.matcher.compute_mask_or_eos().map_err(said)?;
        // Its words may be fewer or more: the embedding may have rows beyond the vocabulary, and the crate adds a bit.
        self.mask.fill(0);
        for ((word, found), plain) in self.mask.iter_mut().zip(found.as_slice()).zip(&self.plain) {
            *word = found & plain;
        }
        if self.mask.iter().all(|word| *word == 0) {
            return Err(wrong("no token of this student goes on with it"));
        }
        Ok(&self.mask)
    }

    /// Bits of the tokens that may come while the student still reasons: all but the ends.
    pub fn open(&self) -> &[u32] {
        &self.open
    }

    /// Takes the token that was chosen. Whether the answer is complete, so that nothing but an end could follow.
    pub fn advance(&mut self, token: u32) -> Result<bool> {
        self.matcher.consume_token(token).map_err(said)?;
        let reason = self.matcher.stop_reason();
        if !reason.is_ok() {
            return Err(wrong(format!("it became too complex ({reason})")));
        }
        Ok(self.matcher.is_stopped())
    }
}
