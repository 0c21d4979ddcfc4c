//! Byte-level BPE over the `tokenizers` crate: the text is cut by the file's pre-tokenizer, each byte of a cut becomes a
//! printable character, and neighbours are joined by the rank of their merge.

use super::wrong;
use crate::error::{Error, Result};
use std::collections::HashMap;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{Model, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

/// The cuts of GPT-2.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// The cuts of Llama 3: numbers in threes, line ends with what precedes them.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The cuts of Qwen 2: as Llama 3, numbers digit by digit.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The cuts of Qwen 3.5: as Qwen 2, with combining marks among the letters.
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The cuts of Mistral's Tekken: words end where capitals begin again, numbers digit by digit.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// A single digit or other number.
const DIGIT: &str = r"\p{N}";
/// The cuts of DeepSeek Coder, each a pass over what the one before has cut.
const DEEPSEEK_CODER: [&str; 5] = [
    r"[\r\n]",
    r"\s?\p{L}+",
    r"\s?\p{P}+",
    r"[\x{4e00}-\x{9fa5}\x{0800}-\x{4e00}\x{ac00}-\x{d7ff}]+",
    DIGIT,
];
/// The cuts of Falcon: punctuation first, digits in threes last.
const FALCON: [&str; 3] = [r"[\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"];
/// The cuts that llama.cpp makes where a file does not say which.
const DEFAULT: [&str; 4] = [r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"];

/// Names that `tokenizer.ggml.pre` may have, for messages.
const KNOWN: &str =
    "the pre-tokenizers gpt-2, llama-bpe, qwen2, qwen35, smollm, tekken, deepseek-coder, falcon and their like";

pub(super) struct Bpe {
    model: BPE,
    cuts: Vec<Split>,
    bytes: ByteLevel,
}

/// The patterns of a pre-tokenizer in order, whether whole words go before merges, and whether BOS comes first by default.
fn rules(name: &str) -> Result<(&'static [&'static str], bool, bool)> {
    Ok(match name {
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jina-en" | "jina-es" | "jina-de" | "jina-v2-es" | "jina-v2-de"
        | "gigachat" | "a.x-4.0" | "mellum" | "modern-bert" | "exaone4" | "jais" | "trillion" | "granite-docling" => {
            (&[GPT2], false, false)
        }
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2" => {
            (&[LLAMA3], true, true)
        }
        "dbrx" | "smaug-bpe" => (&[LLAMA3], false, false),
        "qwen2" | "deepseek-r1-qwen" | "megrez" | "kormo" | "f2llmv2" | "stablelm2" | "hunyuan" | "grok-2"
        | "solar-open" => (&[QWEN2], false, false),
        "qwen35" => (&[QWEN35], false, false),
        "tekken" => (&[TEKKEN], true, true),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
            (&[DIGIT, GPT2], false, false)
        }
        "deepseek-coder" => (&DEEPSEEK_CODER, false, false),
        "falcon" => (&FALCON, false, false),
        "default" => (&DEFAULT, false, false),
        other => {
            let other: String = other.chars().take(40).collect();
            return Err(Error::unsupported(format!("the pre-tokenizer \"{other}\""), KNOWN));
        }
    })
}

impl Bpe {
    /// Builds the model; also says whether BOS comes in front of a text by default.
    pub(super) fn new(name: &str, by_text: &HashMap<String, u32>, merges: &[String]) -> Result<(Self, bool)> {
        let (patterns, ignore_merges, adds_bos) = rules(name)?;
        let vocabulary: Vocab = by_text.iter().map(|(text, &id)| (text.clone(), id)).collect();
        // A merge is two tokens with a space between; the space inside a token is never a plain one. Merges of unknown
        // parts can never apply, and the crate would refuse the whole list for them.
        let merges: Merges = merges
            .iter()
            .filter_map(|merge| {
                let space = merge.char_indices().skip(1).find(|(_, c)| *c == ' ')?.0;
                let (left, right) = (&merge[..space], &merge[space + 1..]);
                let known = by_text.contains_key(left)
                    && by_text.contains_key(right)
                    && by_text.contains_key(&format!("{left}{right}"));
                known.then(|| (left.to_string(), right.to_string()))
            })
            .collect();
        let model = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .ignore_merges(ignore_merges)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let cuts = patterns
            .iter()
            .map(|pattern| {
                let pattern = SplitPattern::Regex((*pattern).to_string());
                Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(|e| wrong(e.to_string()))
            })
            .collect::<Result<_>>()?;
        Ok((
            Self {
                model,
                cuts,
                bytes: ByteLevel::new(false, false, false),
            },
            adds_bos,
        ))
    }

    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let failed = |error: tokenizers::Error| wrong(error.to_string());
        let mut cut = PreTokenizedString::from(text);
        for rule in &self.cuts {
            rule.pre_tokenize(&mut cut).map_err(failed)?;
        }
        self.bytes.pre_tokenize(&mut cut).map_err(failed)?;
        cut.tokenize(|part| self.model.tokenize(part.get())).map_err(failed)?;
        for (_, _, tokens) in cut.get_splits(OffsetReferential::Original, OffsetType::None) {
            ids.extend(tokens.iter().flatten().map(|token| token.id));
        }
        Ok(())
    }
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
