//! The tokenizer, built in memory from a file's metadata.
//!
//! Three families: byte-pair encoding ([`bpe`], over the `tokenizers` crate), SentencePiece's ([`spm`], which merges by score;
//! the crate merges by rank and cannot express it) and Unigram ([`unigram`]; the crate's takes control tokens for words, and its
//! reader of SentencePiece's tables trusts them). Around all: special tokens, which are cut out of a text first.

mod bpe;
mod cuts;
mod spm;
mod unigram;

use super::template::THINKING;
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
    Unigram(unigram::Unigram),
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
    /// White space behind a special token belongs to it: the early Phi 3 files, whose metadata cannot say so.
    strips_behind: bool,
    warnings: Vec<String>,
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
const OTHER_ENDS: [&str; 12] = [
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
    "[e~[",
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
        let mut warnings = Vec::new();
        let flag = |name: &str| metadata.bool(&format!("tokenizer.ggml.{name}"));
        let scores = || -> Result<&[f32]> {
            let scores = metadata
                .f32s("tokenizer.ggml.scores")
                .ok_or_else(|| wrong("it has no scores"))?;
            if scores.len() != texts.len() {
                return Err(wrong(format!("{} tokens have {} scores", texts.len(), scores.len())));
            }
            Ok(scores)
        };
        let unknown = metadata
            .u32("tokenizer.ggml.unknown_token_id")
            .filter(|&id| (id as usize) < texts.len());
        let (model, default_bos) = match family {
            "gpt2" | "gemma4" => {
                let name = if family == "gemma4" {
                    family
                } else {
                    metadata.str("tokenizer.ggml.pre").unwrap_or_default()
                };
                let rules = cuts::rules(name).or_else(|| {
                    warnings.push(unknown_cuts(name));
                    cuts::rules("default")
                });
                let rules = rules.ok_or_else(|| wrong("its cuts are not known"))?;
                let merges = metadata
                    .strings("tokenizer.ggml.merges")
                    .ok_or_else(|| wrong("it has no merges"))?;
                let model = bpe::Bpe::new(&rules, &by_text, merges)?;
                (Model::Bpe(Box::new(model)), rules.adds_bos)
            }
            "llama" => {
                let prefix = flag("add_space_prefix").unwrap_or(true);
                (
                    Model::Spm(spm::Spm::new(scores()?.to_vec(), &by_text, unknown, prefix)),
                    true,
                )
            }
            "t5" => (
                Model::Unigram(unigram_model(metadata, scores()?, &kinds, &by_text)?),
                false,
            ),
            other => {
                let other = shown(other);
                return Err(Error::unsupported(
                    if other == "bert" {
                        "a WordPiece tokenizer (bert), which belongs to models that do not write".to_string()
                    } else {
                        format!("the tokenizer \"{other}\"")
                    },
                    "the tokenizers gpt2 and gemma4 (byte pairs), llama (SentencePiece) and t5 (Unigram)",
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
        let unigram = matches!(model, Model::Unigram(_)) && texts.len() > 1;
        let default_eos = if spm { Some(2) } else { unigram.then_some(1) };
        let (bos, eos) = (id("bos").or(spm.then_some(1)), id("eos").or(default_eos));
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
        // Converters of Gemma 4 wrote that it has no BOS; it was trained with one.
        let add_bos = flag("add_bos_token")
            .filter(|_| family != "gemma4")
            .unwrap_or(default_bos);
        let add_eos = flag("add_eos_token").unwrap_or(unigram);
        let name = metadata.str("general.name").unwrap_or_default().to_lowercase();
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
            strips_behind: ["phi-3", "phi3"].iter().any(|phi| name.contains(phi)),
            warnings,
        })
    }

    /// What a reader of this file should know: sentences, most often none.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Takes a control token for one that ends an answer: what the chat template has behind one. A text of which it is not
    /// the beginning changes nothing.
    pub fn end_with(&mut self, text: &str) {
        let text = text.trim_start();
        if let Some(id) = self.special_at(text.as_bytes(), true)
            && self.kinds[id as usize] == Kind::Control
            && Some(id) != self.bos
            && self.pieces[id as usize].is_empty()
            && let Err(at) = self.ends.binary_search(&id)
        {
            self.ends.insert(at, id);
        }
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
                    let text = self.texts[id as usize].as_str();
                    at += text.len();
                    if self.strips_behind && !["<unk>", "<s>", "<|endoftext|>"].contains(&text) {
                        at += bytes[at..]
                            .iter()
                            .take_while(|b| matches!(b, b' ' | b'\t'..=b'\r'))
                            .count();
                    }
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
            Model::Bpe(bpe) => bpe.encode(text, &self.by_text, ids),
            Model::Unigram(unigram) => {
                unigram.encode(text, ids);
                Ok(())
            }
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

    /// The tokens that end an answer, ascending.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The bytes of a token that is plain text: none for control tokens, and none for those of a file's own making, but for
    /// runs of white space. What they spell can be spelled with others.
    pub fn plain(&self, id: u32) -> &[u8] {
        let piece = self.piece(id);
        match self.kinds.get(id as usize) {
            Some(Kind::Normal | Kind::Byte) => piece,
            Some(Kind::UserDefined) if piece.iter().all(u8::is_ascii_whitespace) => piece,
            _ => &[],
        }
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

/// A name from a file as a message may show it.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(40).collect()
}

fn unknown_cuts(name: &str) -> String {
    let name = shown(name);
    let what = if name.is_empty() {
        "The file does not name its pre-tokenizer".to_string()
    } else {
        format!("The file's pre-tokenizer \"{name}\" is not known here")
    };
    format!("{what}: its text is cut by general rules, and answers may be worse than they could be.")
}

fn unigram_model(
    metadata: &Metadata,
    scores: &[f32],
    kinds: &[Kind],
    by_text: &HashMap<String, u32>,
) -> Result<unigram::Unigram> {
    let flag = |name: &str| metadata.bool(&format!("tokenizer.ggml.{name}")).unwrap_or(false);
    let table = match metadata.integers("tokenizer.ggml.precompiled_charsmap") {
        None => None,
        Some(bytes) => {
            let bytes: Vec<u8> = bytes.iter().map(|&byte| byte as u8).collect();
            let table = unigram::Table::parse(&bytes);
            Some(table.ok_or_else(|| wrong("its table of characters contradicts itself"))?)
        }
    };
    let score = |id: u32| f64::from(scores[id as usize]);
    let pieces = unigram::pieces(by_text, |id| match kinds[id as usize] {
        Kind::Normal | Kind::Unused => Some(score(id)),
        Kind::UserDefined => Some(0.0),
        _ => None,
    });
    if pieces.iter().any(|piece| !piece.score.is_finite()) {
        return Err(wrong("a score is not a finite number"));
    }
    let least = (0..kinds.len() as u32)
        .filter(|&id| kinds[id as usize] == Kind::Normal)
        .map(score)
        .fold(f64::MAX, f64::min);
    let normalizer = unigram::Normalizer {
        space_prefix: flag("add_space_prefix"),
        merge_spaces: flag("remove_extra_whitespaces"),
        table,
    };
    let unknown = metadata.u32("tokenizer.ggml.unknown_token_id").unwrap_or(2);
    if unknown as usize >= kinds.len() {
        return Err(wrong("its unknown token is not in its list"));
    }
    Ok(unigram::Unigram::new(pieces, unknown, least.min(1e30), normalizer))
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
        Kind::Control if THINKING.iter().any(|(open, close)| text == *open || text == *close) => text.into(),
        Kind::Control | Kind::Unknown | Kind::Unused => Vec::new(),
        Kind::UserDefined => text.into(),
        Kind::Byte => spm::byte_of(text).map_or_else(|| text.into(), |byte| vec![byte]),
        Kind::Normal => match model {
            Model::Bpe(bpe) if !bpe.is_plain_text() => bpe::bytes_of(text),
            _ => text.replace('\u{2581}', " ").into_bytes(),
        },
    }
}
