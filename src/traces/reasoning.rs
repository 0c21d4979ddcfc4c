//! Reasoning in front of an answer, told from the answer by its tags.

use std::ops::Range;

/// Where the two parts lie in a text, as byte ranges without the tags and the white space around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The reasoning, if there is any.
    pub reasoning: Option<Range<usize>>,
    /// The answer: the whole text, if there is no reasoning.
    pub content: Range<usize>,
    /// Whether reasoning was found, be it empty.
    pub found: bool,
}

/// Tags around reasoning, and whether either tag means reasoning even when the other one is missing: an opening tag that
/// the prompt already held, or an answer that was cut off while it still reasoned.
const TAGS: [(&str, &str, bool); 6] = [
    ("<think>", "</think>", true),
    ("<|begin_of_thought|>", "<|end_of_thought|>", true),
    ("[THINK]", "[/THINK]", true),
    ("<thinking>", "</thinking>", false),
    ("<thought>", "</thought>", false),
    ("<reasoning>", "</reasoning>", false),
];

/// Tags that some teachers put around the answer behind their reasoning.
const SOLUTION: (&str, &str) = ("<|begin_of_solution|>", "<|end_of_solution|>");

/// Tells reasoning from answer. A text without tags comes back whole and untouched.
pub fn split(text: &str) -> Split {
    let begin = text.len() - text.trim_start().len();
    for (open, close, alone) in TAGS {
        if text[begin..].starts_with(open) {
            let inside = begin + open.len();
            match text[inside..].find(close) {
                Some(at) => return parts(text, inside..inside + at, inside + at + close.len()),
                // Cut off while it still reasoned: there is no answer.
                None if alone => return parts(text, inside..text.len(), text.len()),
                None => {}
            }
        }
    }
    for (open, close, _) in TAGS.iter().filter(|(_, _, alone)| *alone) {
        if let Some(at) = text.find(close) {
            let (before, after) = (&text[..at], &text[at + close.len()..]);
            // A tag that stands alone on its line; an answer may also just speak about tags.
            if !before.contains(open) && (before.is_empty() || before.ends_with('\n') || after.starts_with('\n')) {
                return parts(text, 0..at, at + close.len());
            }
        }
    }
    Split {
        reasoning: None,
        content: 0..text.len(),
        found: false,
    }
}

fn parts(text: &str, reasoning: Range<usize>, behind: usize) -> Split {
    let reasoning = trim(text, reasoning);
    let mut content = trim(text, behind..text.len());
    if let Some(inside) = text[content.clone()].strip_prefix(SOLUTION.0) {
        let inside = inside.strip_suffix(SOLUTION.1).unwrap_or(inside);
        let start = content.start + SOLUTION.0.len();
        content = trim(text, start..start + inside.len());
    } else {
        // An answer may end in white space that means something; only what follows the closing tag belongs to nobody.
        content.end = text.len();
    }
    Split {
        reasoning: (!reasoning.is_empty()).then_some(reasoning),
        content,
        found: true,
    }
}

fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}
