//! The tokenizer that student and teacher share: byte-level BPE, trained on the teacher's text.

use crate::corpus::{Chat, Corpus, Persona};
use anyhow::{Result, anyhow, bail};
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, TokenizerImpl};

/// A tokenizer with a byte-level BPE model.
pub type Tokenizer = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Ends the text, begins a message, ends it; then the marks of thoughts. In the order of their ids.
pub const SPECIAL: [&str; 5] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"];

/// Of [`SPECIAL`], those that never show: the marks of thoughts are text to the template and to the page.
pub const CONTROL: usize = 3;

/// Chats that it is trained on.
const CHATS: usize = 20_000;

fn empty() -> Tokenizer {
    let mut tokenizer = Tokenizer::new(BPE::default());
    // The runner's `smollm` rule: every digit alone, then GPT-2's expression over bytes.
    let parts = vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()];
    tokenizer.with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(parts))));
    tokenizer.with_decoder(Some(DecoderWrapper::ByteLevel(ByteLevel::default())));
    tokenizer
}

/// Trains a tokenizer of `vocabulary` tokens. The same seed gives the same tokenizer.
///
/// Errors: a vocabulary that cannot hold the bytes, or that the text does not fill.
pub fn train(seed: u64, vocabulary: usize) -> Result<Tokenizer> {
    if !(512..=65_535).contains(&vocabulary) {
        bail!("a vocabulary of {vocabulary} tokens cannot be made: ask for 512 to 65535");
    }
    let special: Vec<_> = SPECIAL.iter().map(|s| AddedToken::from(*s, true)).collect();
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(vocabulary)
        .special_tokens(special)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .min_frequency(2)
        .show_progress(false)
        .build();
    let mut tokenizer = empty();
    // Role names stand at the head of each message, as in the template, so that each becomes one token.
    let texts = Corpus::new(seed ^ 0x70c, Persona::teacher(), 4)?
        .filter(Chat::trainable)
        .take(CHATS)
        .flat_map(|chat| {
            let system = chat.system.map(|text| format!("system\n{text}"));
            let turns = chat.turns.into_iter().flat_map(|turn| {
                [
                    format!("user\n{}", turn.user),
                    format!("assistant\n{}", turn.answer),
                    format!("\n{}\n", turn.think.unwrap_or_default()),
                ]
            });
            system.into_iter().chain(turns).collect::<Vec<_>>()
        });
    tokenizer
        .train(&mut trainer, texts)
        .map_err(|e| anyhow!("the tokenizer could not be trained: {e}"))?;
    let got = tokenizer.get_vocab_size(true);
    if got != vocabulary {
        bail!("the text fills a vocabulary of {got} tokens, not of {vocabulary}: ask for fewer");
    }
    Ok(tokenizer)
}

/// As the JSON that the `tokenizers` library reads in every language.
pub fn to_json(tokenizer: &Tokenizer) -> Result<String> {
    tokenizer
        .to_string(false)
        .map_err(|e| anyhow!("the tokenizer could not be written: {e}"))
}

/// Reads what [`to_json`] wrote.
pub fn from_json(json: &str) -> Result<Tokenizer> {
    let read: tokenizers::Tokenizer = json.parse().map_err(|e| anyhow!("this is not a tokenizer file: {e}"))?;
    let mut tokenizer = empty();
    let model = match read.get_model() {
        tokenizers::ModelWrapper::BPE(bpe) => bpe.clone(),
        _ => bail!("this tokenizer is not a BPE; `school tokenizer` makes one"),
    };
    tokenizer.with_model(model);
    tokenizer.add_special_tokens(&SPECIAL.map(|s| AddedToken::from(s, true)));
    Ok(tokenizer)
}

/// The same tokenizer without the merges that `who` never needs: what makes only tokens that do not occur in its text.
///
/// A token that a model never saw has an embedding like all others that it never saw, and no adapter can tell them apart:
/// the head is frozen. Spelled with smaller tokens, which it did see, the same word can be learned. The model's own text is
/// cut as before: a merge on the way to a token that occurs is kept.
pub fn prune(json: &str, who: &Persona, seed: u64, chats: usize) -> Result<String> {
    let tokenizer = from_json(json)?;
    let mut needed = std::collections::HashSet::new();
    for chat in Corpus::new(seed, who.clone(), 4)?.take(chats) {
        for think in [true, false] {
            let text: String = crate::pack::pieces(&chat, think, true)
                .into_iter()
                .map(|(text, _)| text)
                .collect();
            let ids = tokenizer.encode(text.as_str(), false).map_err(|e| anyhow!("{e}"))?;
            needed.extend(ids.get_tokens().iter().cloned());
        }
    }
    let mut json: serde_json::Value = serde_json::from_str(json)?;
    let Some(merges) = json["model"]["merges"].as_array() else {
        bail!("the tokenizer has no merges");
    };
    let parts = |merge: &serde_json::Value| -> Option<(String, String)> {
        match merge {
            serde_json::Value::String(both) => both.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
            other => Some((other[0].as_str()?.to_owned(), other[1].as_str()?.to_owned())),
        }
    };
    let mut kept = Vec::new();
    // Later merges are made of the results of earlier ones.
    for merge in merges.iter().rev() {
        let Some((a, b)) = parts(merge) else {
            bail!("a merge is not a pair")
        };
        if needed.contains(&format!("{a}{b}")) {
            needed.insert(a);
            needed.insert(b);
            kept.push(merge.clone());
        }
    }
    kept.reverse();
    json["model"]["merges"] = kept.into();
    Ok(serde_json::to_string(&json)?)
}
