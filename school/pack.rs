//! Chats to rows of tokens: what the trainer reads.

use crate::corpus::rng::Rng;
use crate::corpus::{Chat, Corpus, Persona};
use crate::tokenizer::Tokenizer;
use anyhow::{Result, anyhow, bail};
use std::io::Write;

/// How much it matters to predict a token: not at all, a little (what people write, and the frame), fully (answers).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Weight {
    /// Not trained.
    None = 0,
    /// A tenth.
    Quiet = 1,
    /// Whole.
    Full = 2,
}

/// The text of a chat as the template writes it, in pieces with their weights.
///
/// Thoughts stay only in the last turn, as the template keeps them; an answer that had thoughts and lost them is not
/// trained, for the model must not learn to answer without them. `think`: whether the last turn is to think where it can.
/// `mark_empty`: whether it then says by an empty mark that it does not, as the template does when thinking is off.
pub fn pieces(chat: &Chat, think: bool, mark_empty: bool) -> Vec<(String, Weight)> {
    let mut out = Vec::new();
    let mut message = |role: &str, parts: Vec<(String, Weight)>| {
        out.push((format!("<|im_start|>{role}\n"), Weight::Quiet));
        out.extend(parts);
        out.push(("\n".to_owned(), Weight::Quiet));
    };
    if let Some(system) = &chat.system {
        message("system", vec![(format!("{system}<|im_end|>"), Weight::Quiet)]);
    }
    let last = chat.turns.len().saturating_sub(1);
    for (i, turn) in chat.turns.iter().enumerate() {
        message("user", vec![(format!("{}<|im_end|>", turn.user), Weight::Quiet)]);
        let answer = format!("{}<|im_end|>", turn.answer);
        let parts = match &turn.think {
            Some(_) if i < last => vec![(answer, Weight::None)],
            Some(thoughts) if think => vec![(format!("<think>\n{thoughts}\n</think>\n\n{answer}"), Weight::Full)],
            Some(_) => vec![
                ("<think>\n\n</think>\n\n".to_owned(), Weight::None),
                (answer, Weight::Full),
            ],
            None if i == last && mark_empty => vec![
                ("<think>\n\n</think>\n\n".to_owned(), Weight::None),
                (answer, Weight::Full),
            ],
            None => vec![(answer, Weight::Full)],
        };
        message("assistant", parts);
    }
    out
}

/// Ids of the pieces, and how much each matters.
pub fn encode(tokenizer: &Tokenizer, pieces: &[(String, Weight)]) -> Result<(Vec<u16>, Vec<u8>)> {
    let text: String = pieces.iter().map(|(text, _)| text.as_str()).collect();
    let whole = tokenizer
        .encode(text.as_str(), false)
        .map_err(|e| anyhow!("a chat could not be cut into tokens: {e}"))?;
    let mut ends = Vec::with_capacity(pieces.len());
    let mut end = 0;
    for (text, weight) in pieces {
        end += text.len();
        ends.push((end, *weight));
    }
    let mut at = 0;
    let mut weights = Vec::with_capacity(whole.len());
    for (begin, _) in whole.get_offsets() {
        while at + 1 < ends.len() && *begin >= ends[at].0 {
            at += 1;
        }
        weights.push(ends[at].1 as u8);
    }
    Ok((whole.get_ids().iter().map(|id| *id as u16).collect(), weights))
}

/// Rows of `length + 1` tokens with several chats each.
#[derive(Default)]
struct Row {
    ids: Vec<u16>,
    weights: Vec<u8>,
    positions: Vec<u16>,
    chats: Vec<u16>,
}

/// Rows that wait for chats that fit; a few dozen leave about one percent unused.
const OPEN: usize = 24;

/// What a shard is made of.
#[derive(Clone, Debug)]
pub struct Shard {
    /// The text's seed.
    pub seed: u64,
    /// Whose text.
    pub who: Persona,
    /// Chats that are drawn; those with a kept question are left out.
    pub chats: usize,
    /// The number of the first.
    pub first: u64,
    /// Tokens of a row, without the one behind it.
    pub length: usize,
    /// Whether only chats with kept questions are wanted: the ruler instead of the lesson.
    pub kept: bool,
    /// Whether the skills have the shares of the second course.
    pub practice: bool,
}

/// Writes a shard: a line of JSON with `rows` and `width`, then ids, weights, positions and chats as u16,
/// `(rows, width)` each. Returns rows and tokens.
pub fn write(shard: &Shard, tokenizer: &Tokenizer, out: &mut impl Write) -> Result<(usize, usize)> {
    if !(32..=8192).contains(&shard.length) || shard.chats == 0 {
        bail!(
            "a shard of {} chats in rows of {} tokens cannot be made: rows have 32 to 8192 tokens",
            shard.chats,
            shard.length
        );
    }
    let width = shard.length + 1;
    let longest = if shard.length > 512 { 16 } else { 4 };
    let corpus = Corpus::new(shard.seed, shard.who.clone(), longest)?.practice(shard.practice);
    let mut rng = Rng::new(shard.seed ^ 0xbac4, shard.first);
    let (mut rows, mut open): (Vec<Row>, Vec<Row>) = (Vec::new(), Vec::new());
    let mut tokens = 0;
    for i in 0..shard.chats as u64 {
        let chat = corpus.chat(shard.first + i);
        let (think, mark) = (rng.chance(0.65), rng.chance(0.12));
        if chat.trainable() == shard.kept {
            continue;
        }
        let (mut ids, mut weights) = encode(tokenizer, &pieces(&chat, think, mark))?;
        ids.truncate(width);
        weights.truncate(width);
        tokens += ids.len();
        let place = match open.iter().position(|row| row.ids.len() + ids.len() <= width) {
            Some(place) => place,
            None => {
                if open.len() == OPEN {
                    let fullest = (0..OPEN).max_by_key(|i| open[*i].ids.len()).unwrap_or(0);
                    rows.push(open.swap_remove(fullest));
                }
                open.push(Row::default());
                open.len() - 1
            }
        };
        let row = &mut open[place];
        let number = row.chats.last().map_or(1, |n| n + 1);
        // The first token of a chat must not be asked of the chat before it.
        weights[0] = Weight::None as u8;
        row.positions.extend(0..ids.len() as u16);
        row.chats.extend(std::iter::repeat_n(number, ids.len()));
        row.ids.extend(ids);
        row.weights.extend(weights);
    }
    rows.extend(open);
    rng.shuffle(&mut rows);
    writeln!(out, "{}", serde_json::json!({"rows": rows.len(), "width": width}))?;
    let mut wide = |pick: &dyn Fn(&Row) -> Vec<u16>| -> Result<()> {
        for row in &rows {
            let mut values = pick(row);
            values.resize(width, 0);
            out.write_all(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())?;
        }
        Ok(())
    };
    wide(&|row| row.ids.clone())?;
    wide(&|row| row.weights.iter().map(|w| u16::from(*w)).collect())?;
    wide(&|row| row.positions.clone())?;
    wide(&|row| row.chats.clone())?;
    Ok((rows.len(), tokens))
}
