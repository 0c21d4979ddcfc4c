//! Texts that break sequences (DRY), as the tokens of a student: a text may begin and end in the middle of tokens.

use super::tokenizer::Tokenizer;
use crate::error::Result;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Most bytes of a text that are looked at.
const MAX_TEXT: usize = 40;

/// Most tokens behind the one that a text begins in.
const MAX_TAIL: usize = 20;

/// For each token that one of `texts` begins in, the tokens that may follow until it is whole: none where the token holds all of it.
///
/// Errors: those of [`Tokenizer::encode`].
pub fn breakers(tokenizer: &Tokenizer, texts: &[String]) -> Result<BTreeMap<u32, Vec<Vec<u32>>>> {
    let mut found: BTreeMap<u32, Vec<Vec<u32>>> = BTreeMap::new();
    for text in texts {
        let text = &text[..text.floor_char_boundary(MAX_TEXT)];
        if text.is_empty() {
            continue;
        }
        // What is left of the text is cut once, not for each token that it begins in.
        let mut tails: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for id in 0..tokenizer.vocab_size() as u32 {
            let bytes = match tokenizer.piece(id) {
                [] => tokenizer.token_text(id).unwrap_or_default().as_bytes(),
                piece => piece,
            };
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.entry(id).or_default().push(Vec::new());
                continue;
            }
            // The token ends with a beginning of the text.
            for taken in (1..text.len().min(bytes.len() + 1)).filter(|&n| text.is_char_boundary(n)) {
                if !bytes.ends_with(&text.as_bytes()[..taken]) {
                    continue;
                }
                if let Entry::Vacant(place) = tails.entry(taken) {
                    let mut tail = tokenizer.encode(&text[taken..], false, false)?;
                    tail.truncate(MAX_TAIL);
                    place.insert(tail);
                }
                let known = found.entry(id).or_default();
                if !known.contains(&tails[&taken]) {
                    known.push(tails[&taken].clone());
                }
            }
        }
    }
    Ok(found)
}
