//! Unigram: of all ways to write a text in tokens, the one whose scores add up to most. In front of it stands SentencePiece's
//! normalizer, which the file brings as a table.

use std::collections::HashMap;

/// The character that stands for a space.
const SPACE: &str = "\u{2581}";

/// Longest token that a text is searched for, in bytes; so that a hostile vocabulary costs no more than a long one.
const MAX_TOKEN: usize = 512;

/// Longest text that a character is replaced with; the longest in use has 33 bytes.
const MAX_REPLACEMENT: usize = 256;

/// How much less likely than the least likely token an unknown character is.
const UNKNOWN_PENALTY: f64 = 10.0;

/// A token as the search needs it.
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) id: u32,
    pub(super) score: f64,
}

pub(super) struct Unigram {
    /// Sorted by text, so that the tokens with a common beginning are neighbours.
    pieces: Vec<Piece>,
    unknown: u32,
    unknown_score: f64,
    normalizer: Normalizer,
}

/// What is done to spaces, and to characters that have another form.
pub(super) struct Normalizer {
    pub(super) space_prefix: bool,
    pub(super) merge_spaces: bool,
    pub(super) table: Option<Table>,
}

/// SentencePiece's compiled table: a double array of the texts that are replaced, and what replaces them, each ended by a zero.
pub(super) struct Table {
    nodes: Vec<u32>,
    replacements: Vec<u8>,
}

impl Table {
    /// `None` where the bytes contradict themselves.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        if !length.is_multiple_of(4) || length == 0 || length >= rest.len() {
            return None;
        }
        let (nodes, replacements) = rest.split_at(length);
        let nodes = nodes
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        // Behind every replacement comes a zero.
        replacements.ends_with(&[0]).then(|| Self {
            nodes,
            replacements: replacements.to_vec(),
        })
    }

    /// The longest beginning of `text` that is replaced: its bytes, and what replaces it.
    fn replace(&self, text: &[u8]) -> Option<(usize, &[u8])> {
        let base = |node: u32| (node >> 10) << ((node & (1 << 9)) >> 6);
        let mut at = base(*self.nodes.first()?);
        let mut found = None;
        for (i, &byte) in text.iter().enumerate().take_while(|(_, byte)| **byte != 0) {
            at ^= u32::from(byte);
            let Some(&node) = self.nodes.get(at as usize) else {
                break;
            };
            if node & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            at ^= base(node);
            if node >> 8 & 1 == 1 {
                let Some(&leaf) = self.nodes.get(at as usize) else {
                    break;
                };
                found = Some((i + 1, leaf & !(1 << 31)));
            }
        }
        let (length, begin) = found?;
        let replacement = self.replacements.get(begin as usize..)?;
        let end = replacement.iter().take(MAX_REPLACEMENT).position(|byte| *byte == 0)?;
        Some((length, &replacement[..end]))
    }
}

impl Normalizer {
    fn normalize(&self, text: &str) -> String {
        let mut out = Vec::with_capacity(text.len() + 3);
        let mut in_word = false;
        let mut prefixed = false;
        let mut take = |bytes: &[u8]| {
            for &byte in bytes {
                if byte != b' ' {
                    if !in_word && (self.merge_spaces || self.space_prefix && !prefixed) {
                        out.extend_from_slice(SPACE.as_bytes());
                        prefixed = true;
                    }
                    in_word = true;
                    out.push(byte);
                } else {
                    in_word = false;
                    if !self.merge_spaces {
                        out.extend_from_slice(SPACE.as_bytes());
                    }
                }
            }
        };
        let mut at = 0;
        while let Some(character) = text[at..].chars().next() {
            let replaced = self
                .table
                .as_ref()
                .and_then(|table| table.replace(&text.as_bytes()[at..]));
            // A table that ends inside a character is not followed.
            match replaced.filter(|(length, _)| text.is_char_boundary(at + length)) {
                Some((length, replacement)) => {
                    take(replacement);
                    at += length;
                }
                None => {
                    take(character.encode_utf8(&mut [0; 4]).as_bytes());
                    at += character.len_utf8();
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

impl Unigram {
    /// `pieces`: the tokens that a text may hold; `least`: the lowest score of a normal one.
    pub(super) fn new(mut pieces: Vec<Piece>, unknown: u32, least: f64, normalizer: Normalizer) -> Self {
        pieces.retain(|piece| !piece.text.is_empty() && piece.text.len() <= MAX_TOKEN);
        pieces.sort_by(|a, b| a.text.cmp(&b.text).then(a.id.cmp(&b.id)));
        pieces.dedup_by(|b, a| a.text == b.text);
        Self {
            pieces,
            unknown,
            unknown_score: least - UNKNOWN_PENALTY,
            normalizer,
        }
    }

    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let text = self.normalizer.normalize(text);
        let bytes = text.as_bytes();
        // For each place the best way there: the last token, where it begins, and the sum of scores.
        let mut best: Vec<Option<(u32, usize, f64)>> = vec![None; bytes.len() + 1];
        for (begin, character) in text.char_indices() {
            let so_far = if begin == 0 {
                0.0
            } else {
                best[begin].map_or(f64::NEG_INFINITY, |(_, _, sum)| sum)
            };
            let mut offer = |end: usize, id: u32, score: f64| {
                let sum = so_far + score;
                if best[end].is_none_or(|(_, _, other)| sum > other) {
                    best[end] = Some((id, begin, sum));
                }
            };
            let mut whole = false;
            // The tokens that begin with what was read so far are a range of the sorted list.
            let mut range = &self.pieces[..];
            for end in begin + 1..=bytes.len().min(begin + MAX_TOKEN) {
                let (at, byte) = (end - begin - 1, bytes[end - 1]);
                let from = range.partition_point(|p| p.text.as_bytes().get(at).is_none_or(|b| *b < byte));
                let to = range.partition_point(|p| p.text.as_bytes().get(at).is_none_or(|b| *b <= byte));
                range = &range[from..to];
                let Some(first) = range.first() else { break };
                if first.text.len() == at + 1 {
                    whole |= at + 1 == character.len_utf8();
                    offer(end, first.id, first.score);
                }
            }
            if !whole {
                offer(begin + character.len_utf8(), self.unknown, self.unknown_score);
            }
        }
        let begin_of_ids = ids.len();
        let mut at = bytes.len();
        let mut after_unknown = false;
        while let Some((id, begin, _)) = best[at] {
            // Unknown characters side by side are one unknown token.
            if !(after_unknown && id == self.unknown) {
                ids.push(id);
            }
            after_unknown = id == self.unknown;
            at = begin;
        }
        ids[begin_of_ids..].reverse();
    }
}

/// The pieces of a vocabulary: `offered` says which tokens a text may hold, and with what score.
pub(super) fn pieces(by_text: &HashMap<String, u32>, mut offered: impl FnMut(u32) -> Option<f64>) -> Vec<Piece> {
    let piece = |(text, &id): (&String, &u32)| {
        offered(id).map(|score| Piece {
            text: text.clone(),
            id,
            score,
        })
    };
    by_text.iter().filter_map(piece).collect()
}
