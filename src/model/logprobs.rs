//! Log-probabilities of tokens, as the student itself gives them.

/// Most alternatives that are told beside a drawn token.
pub const MOST_TOP: usize = 20;

/// How likely a drawn token was, and what else was likely.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprob {
    /// The token.
    pub id: u32,
    /// ln p of it, in nats.
    pub logprob: f32,
    /// The likeliest tokens with theirs, likeliest first; equals by id.
    pub top: Vec<(u32, f32)>,
}

impl Logprob {
    /// Of token `id` and the `top` likeliest in the row `logits` `(V)`.
    ///
    /// p is softmax(logits): the student's own distribution, before temperature, filters, penalties, biases and forms.
    pub fn of(logits: &[f32], id: u32, top: usize) -> Self {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&l| f64::from(l - highest).exp()).sum();
        let logprob = |id: u32| (f64::from(logits[id as usize] - highest) - sum.ln()) as f32;
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        let order = |&a: &u32, &b: &u32| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b));
        let top = top.min(ids.len());
        if top > 0 && top < ids.len() {
            ids.select_nth_unstable_by(top - 1, order);
        }
        ids.truncate(top);
        ids.sort_unstable_by(order);
        Self {
            id,
            logprob: logprob(id),
            top: ids.into_iter().map(|id| (id, logprob(id))).collect(),
        }
    }
}
