//! Any lines as a vocabulary: the first line picks the family and the cuts, the last is the text, merges hold a space.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::format::{Array, Metadata, Value};
use understudy::text::tokenizer::Tokenizer;

const FAMILIES: [(&str, &str); 8] = [
    ("gpt2", "gpt-2"),
    ("gpt2", "llama-bpe"),
    ("gpt2", "deepseek-llm"),
    ("gpt2", "gpt-4o"),
    ("gpt2", "no-such"),
    ("gemma4", ""),
    ("llama", ""),
    ("t5", ""),
];

fuzz_target!(|input: &str| {
    let mut lines: Vec<&str> = input.split('\n').collect();
    let (Some(text), Some(first)) = (lines.pop(), lines.first().copied()) else { return };
    let pick = first.bytes().next().unwrap_or(0) as usize;
    let (family, pre) = FAMILIES[pick % FAMILIES.len()];
    let (merges, tokens): (Vec<&str>, Vec<&str>) = lines.iter().partition(|line| line.contains(' '));
    let strings = |list: &[&str]| Value::Array(Array::String(list.iter().map(|s| (*s).to_string()).collect()));
    let mut metadata = Metadata::default();
    metadata.insert("tokenizer.ggml.model", Value::String(family.into()));
    metadata.insert("tokenizer.ggml.pre", Value::String(pre.into()));
    metadata.insert("tokenizer.ggml.tokens", strings(&tokens));
    metadata.insert("tokenizer.ggml.merges", strings(&merges));
    // Kinds and scores come from the tokens themselves.
    let kinds = tokens.iter().map(|token| token.len() as i32 % 7).collect();
    metadata.insert("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
    let scores = tokens.iter().enumerate().map(|(i, token)| -(i as f32) / (1.0 + token.len() as f32)).collect();
    metadata.insert("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    metadata.insert("tokenizer.ggml.precompiled_charsmap", Value::Array(Array::U8(first.bytes().collect())));
    let Ok(tokenizer) = Tokenizer::from_metadata(&metadata) else { return };
    for parse_special in [false, true] {
        if let Ok(ids) = tokenizer.encode(text, true, parse_special) {
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            tokenizer.decode(&ids);
        }
    }
});
