//! Byte-pair encoding over the `tokenizers` crate: the text is cut by the file's pre-tokenizer, each byte of a piece becomes
//! a printable character, and neighbours are joined by the rank of their merge. Newer tokenizers leave the text as it is, with
//! U+2581 for spaces.

use super::cuts::Rules;
use super::wrong;
use crate::error::Result;
use std::collections::{HashMap, HashSet};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{Model, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

/// The character that stands for a space in tokens that are plain text.
const SPACE: &str = "\u{2581}";

pub(super) struct Bpe {
    model: BPE,
    cuts: Vec<Split>,
    /// The alphabet of bytes; none where tokens are plain text.
    bytes: Option<ByteLevel>,
}

impl Bpe {
    /// Builds the model.
    pub(super) fn new(rules: &Rules, by_text: &HashMap<String, u32>, merges: &[String]) -> Result<Self> {
        let vocabulary: Vocab = by_text.iter().map(|(text, &id)| (text.clone(), id)).collect();
        // A merge is two tokens with a space between; the space inside a token is never a plain one. Merges of unknown
        // parts can never apply, and the crate would refuse the whole list for them. Of equal merges the first counts.
        let mut seen = HashSet::with_capacity(merges.len());
        let merges: Merges = merges
            .iter()
            .filter_map(|merge| {
                let space = merge.char_indices().skip(1).find(|(_, c)| *c == ' ')?.0;
                let (left, right) = (&merge[..space], &merge[space + 1..]);
                let pair = (by_text.get(left)?, by_text.get(right)?);
                let joined = by_text.contains_key(&[left, right].concat());
                (joined && seen.insert(pair)).then(|| (left.to_string(), right.to_string()))
            })
            .collect();
        let model = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .ignore_merges(rules.whole_pieces)
            .byte_fallback(rules.plain_text)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let cuts = rules
            .cuts
            .iter()
            .map(|pattern| {
                let pattern = SplitPattern::Regex((*pattern).to_string());
                Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(|e| wrong(e.to_string()))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            model,
            cuts,
            bytes: (!rules.plain_text).then(|| ByteLevel::new(false, false, false)),
        })
    }

    pub(super) fn is_plain_text(&self) -> bool {
        self.bytes.is_none()
    }

    pub(super) fn encode(&self, text: &str, by_text: &HashMap<String, u32>, ids: &mut Vec<u32>) -> Result<()> {
        let failed = |error: tokenizers::Error| wrong(error.to_string());
        let Some(bytes) = &self.bytes else {
            for piece in line_ends_apart(&text.replace(' ', SPACE)) {
                // Line ends are one token where there is one, whatever the merges say.
                match by_text.get(piece).filter(|_| piece.starts_with('\n')) {
                    Some(&id) => ids.push(id),
                    None => ids.extend(self.model.tokenize(piece).map_err(failed)?.iter().map(|token| token.id)),
                }
            }
            return Ok(());
        };
        let mut cut = PreTokenizedString::from(text);
        for rule in &self.cuts {
            rule.pre_tokenize(&mut cut).map_err(failed)?;
        }
        bytes.pre_tokenize(&mut cut).map_err(failed)?;
        cut.tokenize(|part| self.model.tokenize(part.get())).map_err(failed)?;
        for (_, _, tokens) in cut.get_splits(OffsetReferential::Original, OffsetType::None) {
            ids.extend(tokens.iter().flatten().map(|token| token.id));
        }
        Ok(())
    }
}

/// Runs of line ends and of everything else.
fn line_ends_apart(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let other = |c: char| (c == '\n') != (first == '\n');
        let (piece, behind) = rest.split_at(rest.find(other).unwrap_or(rest.len()));
        rest = behind;
        Some(piece)
    })
}

/// The printable character that stands for a byte: itself where it is printable, else one from 256 on.
fn byte_of(character: char) -> Option<u8> {
    let code = character as u32;
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code as u8),
        // The bytes that are left out above, in order: 0 to 32, 127 to 160, 173.
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 127) as u8),
        0x143 => Some(173),
        _ => None,
    }
}

/// The bytes of a token; a character that stands for no byte is itself.
pub(super) fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(character.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    bytes
}
