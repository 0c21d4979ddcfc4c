//! The tokenizer, built in memory from a file's metadata.
//!
//! Two families: byte-level BPE ([`bpe`], over the `tokenizers` crate) and SentencePiece BPE ([`spm`], which merges by score;
//! the crate merges by rank and cannot express it). Around both: special tokens, which are cut out of a text first.

mod bpe;
mod spm;

use crate::error::{Error, Result};
use crate::format::gguf::Metadata;
use std::collections::HashMap;

/// Most tokens of a vocabulary; the largest in use has about 260,000.
const MAX_VOCABULARY: usize = 1 << 20;

/// What a token is, by the numbers of `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

enum Model {
    Bpe(Box<bpe::Bpe>),
    Spm(spm::Spm),
}

/// Text to token ids and back.
pub struct Tokenizer {
    texts: Vec<String>,
    kinds: Vec<Kind>,
    pieces: Vec<Vec<u8>>,
    by_text: HashMap<String, u32>,
    /// Special tokens by their first byte, longest first.
    specials: HashMap<u8, Vec<u32>>,
    model: Model,
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    ends: Vec<u32>,
    add_bos: bool,
    add_eos: bool,
}

/// Tokens that end a turn, whatever a file takes them for. Source of the three lists: what llama.cpp takes for ends.
const TURN_ENDS: [&str; 11] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];

/// Tokens that end a text, a message or a call of a tool.
const OTHER_ENDS: [&str; 11] = [
    "</s>",
    "<eos>",
    "[EOS]",
    "<turn|>",
    "<|eom_id|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<|tool_response>",
    "< EOT >",
];

/// Tokens that fill a gap or part files in training on code; the metadata may name others of each sort.
const CODE_ENDS: [(&str, &[&str]); 3] = [
    ("fim_pad", &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    (
        "fim_rep",
        &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    ),
    ("fim_sep", &["<|file_sep|>"]),
];

fn wrong(what: impl Into<String>) -> Error {
    Error::Tokenizer { what: what.into() }
}

impl Tokenizer {
    /// Builds the tokenizer of a file.
    ///
    /// Errors: [`Error::Tokenizer`] when metadata is missing or contradicts itself, [`Error::Unsupported`] for a family or a
    /// pre-tokenizer that is not known.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let family = metadata
            .str("tokenizer.ggml.model")
            .ok_or_else(|| wrong("the file has none"))?;
        let texts = metadata
            .strings("tokenizer.ggml.tokens")
            .ok_or_else(|| wrong("it has no list of tokens"))?
            .to_vec();
        if texts.is_empty() || texts.len() > MAX_VOCABULARY {
            return Err(wrong(format!("it has {} tokens", texts.len())));
        }
        let mut kinds: Vec<Kind> = match metadata.integers("tokenizer.ggml.token_type") {
            None => vec![Kind::Normal; texts.len()],
            Some(types) if types.len() == texts.len() => types.iter().map(|&n| kind(n)).collect(),
            Some(types) => return Err(wrong(format!("{} tokens have {} types", texts.len(), types.len()))),
        };
        let mut by_text = HashMap::with_capacity(texts.len());
        for (id, text) in texts.iter().enumerate() {
            // Of equal tokens the first counts.
            by_text.entry(text.clone()).or_insert(id as u32);
        }
        let (model, default_bos) = match family {
            "gpt2" => {
                let name = metadata.str("tokenizer.ggml.pre").unwrap_or("default");
                let merges = metadata
                    .strings("tokenizer.ggml.merges")
                    .ok_or_else(|| wrong("it has no merges"))?;
                let (bpe, adds_bos) = bpe::Bpe::new(name, &by_text, merges)?;
                (Model::Bpe(Box::new(bpe)), adds_bos)
            }
            "llama" => {
                let scores = metadata
                    .f32s("tokenizer.ggml.scores")
                    .ok_or_else(|| wrong("it has no scores"))?;
                if scores.len() != texts.len() {
                    return Err(wrong(format!("{} tokens have {} scores", texts.len(), scores.len())));
                }
                let unknown = metadata
                    .u32("tokenizer.ggml.unknown_token_id")
                    .filter(|&id| (id as usize) < texts.len());
                let prefix = metadata.bool("tokenizer.ggml.add_space_prefix").unwrap_or(true);
                (
                    Model::Spm(spm::Spm::new(scores.to_vec(), &by_text, unknown, prefix)),
                    true,
                )
            }
            other => {
                let other: String = other.chars().take(40).collect();
                return Err(Error::unsupported(
                    format!("the tokenizer \"{other}\""),
                    "the tokenizers gpt2 (byte-level BPE) and llama (SentencePiece)",
                ));
            }
        };
        let id = |name: &str| {
            metadata
                .u32(&format!("tokenizer.ggml.{name}_token_id"))
                .filter(|&id| (id as usize) < texts.len())
        };
        // Old SentencePiece files leave the two unsaid.
        let spm = matches!(model, Model::Spm(_)) && texts.len() > 2;
        let (bos, eos) = (id("bos").or(spm.then_some(1)), id("eos").or(spm.then_some(2)));
        let eot = id("eot").or_else(|| TURN_ENDS.iter().find_map(|name| by_text.get(*name).copied()));
        let mut ends: Vec<u32> = [eos, eot, id("eom")].into_iter().flatten().collect();
        ends.extend(ends_by_name(&id, &by_text, &mut kinds));
        ends.sort_unstable();
        ends.dedup();
        let pieces = texts
            .iter()
            .zip(&kinds)
            .map(|(text, &kind)| piece(&model, text, kind))
            .collect();
        let mut specials: HashMap<u8, Vec<u32>> = HashMap::new();
        for (id, (text, kind)) in texts.iter().zip(&kinds).enumerate() {
            if let (Kind::Control | Kind::UserDefined | Kind::Unknown, Some(&first)) = (kind, text.as_bytes().first()) {
                specials.entry(first).or_default().push(id as u32);
            }
        }
        for ids in specials.values_mut() {
            ids.sort_by_key(|&id| (std::cmp::Reverse(texts[id as usize].len()), id));
        }
        let flag = |name: &str| metadata.bool(&format!("tokenizer.ggml.{name}"));
        let add_bos = flag("add_bos_token").unwrap_or(default_bos);
        let add_eos = flag("add_eos_token").unwrap_or(false);
        Ok(Self {
            texts,
            kinds,
            pieces,
            by_text,
            specials,
            model,
            bos,
            eos,
            eot,
            ends,
            add_bos,
            add_eos,
        })
    }

    /// The ids of a text.
    ///
    /// `add_special`: BOS in front and EOS behind, as the file's rules say. `parse_special`: control tokens written out in
    /// the text become those tokens; otherwise they are plain text (user-defined tokens match in any case).
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        if let (true, true, Some(bos)) = (add_special, self.add_bos, self.bos) {
            ids.push(bos);
        }
        // SentencePiece puts a space in front of a text that begins, or that follows a special token.
        let mut after_special = true;
        let mut begin = 0;
        let mut at = 0;
        let bytes = text.as_bytes();
        while at < bytes.len() {
            match self.special_at(&bytes[at..], parse_special) {
                Some(id) => {
                    self.encode_plain(&text[begin..at], after_special, &mut ids)?;
                    ids.push(id);
                    after_special = true;
                    at += self.texts[id as usize].len();
                    begin = at;
                }
                None => at += 1,
            }
        }
        self.encode_plain(&text[begin..], after_special, &mut ids)?;
        if let (true, true, Some(eos)) = (add_special, self.add_eos, self.eos) {
            ids.push(eos);
        }
        Ok(ids)
    }

    /// The longest special token that these bytes start with.
    fn special_at(&self, bytes: &[u8], parse_special: bool) -> Option<u32> {
        let candidates = self.specials.get(bytes.first()?)?;
        candidates.iter().copied().find(|&id| {
            (parse_special || self.kinds[id as usize] == Kind::UserDefined)
                && bytes.starts_with(self.texts[id as usize].as_bytes())
        })
    }

    fn encode_plain(&self, text: &str, after_special: bool, ids: &mut Vec<u32>) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        match &self.model {
            Model::Bpe(bpe) => bpe.encode(text, ids),
            Model::Spm(spm) => {
                spm.encode(text, after_special, &self.by_text, ids);
                Ok(())
            }
        }
    }

    /// The bytes that a token adds to the visible text; none for control tokens.
    pub fn piece(&self, id: u32) -> &[u8] {
        self.pieces.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// A token as the file writes it, control tokens included.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).map(String::as_str)
    }

    /// The visible text of ids; bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.piece(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Tokens in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.texts.len()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token that ends a turn.
    pub fn eot(&self) -> Option<u32> {
        self.eot
    }

    /// Whether a token ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// Whether the file's rules put BOS in front of a text.
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether a token is a control token.
    pub fn is_control(&self, id: u32) -> bool {
        self.kinds.get(id as usize) == Some(&Kind::Control)
    }

    /// The id of a token as the file writes it.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.by_text.get(text).copied()
    }
}

/// The ends that go by their names. Files often take them for plain or user-defined tokens: they become control tokens, so
/// that no text can hold one by accident.
fn ends_by_name(id: &impl Fn(&str) -> Option<u32>, by_text: &HashMap<String, u32>, kinds: &mut [Kind]) -> Vec<u32> {
    let has = |name: &str| by_text.contains_key(name);
    let mut ends = Vec::new();
    for name in TURN_ENDS.iter().chain(&OTHER_ENDS) {
        let Some(&end) = by_text.get(*name) else { continue };
        match *name {
            // Where messages also end in a return or a call, this one only parts them, and is seen.
            "<|end|>"
                if has("<|return|>") && has("<|call|>")
                    || has("<|flush|>") && (has("<|call|>") || has("<|calls|>")) =>
            {
                kinds[end as usize] = Kind::UserDefined;
            }
            // Gemma 4 has it for the tag of HTML.
            "</s>" if has("<|tool_response>") => kinds[end as usize] = Kind::Normal,
            _ => {
                kinds[end as usize] = Kind::Control;
                ends.push(end);
            }
        }
    }
    for (key, names) in CODE_ENDS {
        if let Some(end) = id(key) {
            ends.push(end);
        } else if let Some(&end) = names.iter().find_map(|name| by_text.get(*name)) {
            kinds[end as usize] = Kind::Control;
            ends.push(end);
        }
    }
    ends
}

fn kind(number: i64) -> Kind {
    match number {
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        6 => Kind::Byte,
        _ => Kind::Normal,
    }
}

/// The visible bytes of a token.
fn piece(model: &Model, text: &str, kind: Kind) -> Vec<u8> {
    match kind {
        // The tags around reasoning must be seen by the stream, whatever a file takes them for.
        Kind::Control if text == "<think>" || text == "</think>" => text.into(),
        Kind::Control | Kind::Unknown | Kind::Unused => Vec::new(),
        Kind::UserDefined => text.into(),
        Kind::Byte => spm::byte_of(text).map_or_else(|| text.into(), |byte| vec![byte]),
        Kind::Normal => match model {
            Model::Bpe(_) => bpe::bytes_of(text),
            Model::Spm(_) => text.replace('\u{2581}', " ").into_bytes(),
        },
    }
}
