//! SentencePiece BPE: of all neighbours that together are a token, the pair with the highest score is joined first.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

/// The character that stands for a space.
const SPACE: char = '\u{2581}';

pub(super) struct Spm {
    scores: Vec<f32>,
    /// The tokens `<0x00>` to `<0xFF>`, for characters that no token holds.
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
    space_prefix: bool,
}

/// The byte that a token like `<0x0A>` stands for.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// A run of the text that is one token or one character; runs are chained, so that joining is cheap.
struct Run {
    begin: usize,
    end: usize,
    before: Option<usize>,
    after: Option<usize>,
}

/// Two neighbours that could be joined.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when the pair was found: if they differ now, one of them has been joined elsewhere.
    length: usize,
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pair {
    /// The highest score first, then the leftmost.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl Spm {
    pub(super) fn new(
        scores: Vec<f32>,
        by_text: &HashMap<String, u32>,
        unknown: Option<u32>,
        space_prefix: bool,
    ) -> Self {
        let bytes = (0..=255u8)
            .map(|byte| by_text.get(&format!("<0x{byte:02X}>")).copied())
            .collect();
        Self {
            scores,
            bytes,
            unknown,
            space_prefix,
        }
    }

    pub(super) fn encode(&self, text: &str, after_special: bool, by_text: &HashMap<String, u32>, ids: &mut Vec<u32>) {
        let mut escaped = String::with_capacity(text.len() + 3);
        if self.space_prefix && after_special {
            escaped.push(SPACE);
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));

        let mut runs: Vec<Run> = Vec::new();
        for (begin, character) in escaped.char_indices() {
            let i = runs.len();
            if let Some(last) = runs.last_mut() {
                last.after = Some(i);
            }
            runs.push(Run {
                begin,
                end: begin + character.len_utf8(),
                before: i.checked_sub(1),
                after: None,
            });
        }
        let mut heap = BinaryHeap::new();
        let consider = |heap: &mut BinaryHeap<Pair>, runs: &[Run], left: Option<usize>, right: Option<usize>| {
            let (Some(left), Some(right)) = (left, right) else {
                return;
            };
            let joined = &escaped[runs[left].begin..runs[right].end];
            if let Some(&id) = by_text.get(joined) {
                heap.push(Pair {
                    score: self.scores[id as usize],
                    left,
                    right,
                    length: joined.len(),
                });
            }
        };
        for i in 1..runs.len() {
            consider(&mut heap, &runs, Some(i - 1), Some(i));
        }
        while let Some(Pair {
            left, right, length, ..
        }) = heap.pop()
        {
            // A run that was joined into its left neighbour is empty.
            let stale = runs[left].begin == runs[left].end
                || runs[right].begin == runs[right].end
                || runs[right].end - runs[left].begin != length
                || runs[left].after != Some(right);
            if stale {
                continue;
            }
            runs[left].end = runs[right].end;
            runs[right].begin = runs[right].end;
            let after = runs[right].after;
            runs[left].after = after;
            if let Some(after) = after {
                runs[after].before = Some(left);
            }
            consider(&mut heap, &runs, runs[left].before, Some(left));
            consider(&mut heap, &runs, Some(left), after);
        }
        let mut at = if runs.is_empty() { None } else { Some(0) };
        while let Some(i) = at {
            let run = &escaped[runs[i].begin..runs[i].end];
            match by_text.get(run) {
                Some(&id) => ids.push(id),
                // Only single characters can be without a token.
                None => {
                    for byte in run.bytes() {
                        ids.extend(self.bytes[usize::from(byte)].or(self.unknown));
                    }
                }
            }
            at = runs[i].after;
        }
    }
}
