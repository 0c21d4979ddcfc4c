//! The next token from a row of logits. The GPU's `sample` kernel does the same, value for value.

use crate::error::{Error, Result};

/// How the next token is chosen. The filters apply in llama.cpp's order: top-k, typical-p, top-p, min-p, then the temperature.
/// At temperature 0 none of them plays a part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 = always the most likely token (greedy).
    pub temperature: f32,
    /// Keep this many of the most likely tokens; 0 = as many as the sampler holds ([`CANDIDATES`]).
    pub top_k: u32,
    /// Keep the most typical of them with at least this probability; 1 = all.
    ///
    /// Most typical are those whose surprise, -ln p, is nearest to the mean surprise (Meister et al., 2022).
    pub typical_p: f32,
    /// Keep the smallest head of them with at least this probability.
    pub top_p: f32,
    /// Keep those with at least this fraction of the first one's probability.
    pub min_p: f32,
    /// Same seed, same answer.
    pub seed: u32,
}

impl Sampling {
    /// Always the most likely token.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 1,
        typical_p: 1.0,
        top_p: 1.0,
        min_p: 0.0,
        seed: 0,
    };

    /// Refuses what is outside its range.
    ///
    /// Errors: [`Error::Request`], with the setting and its range.
    pub fn check(&self) -> Result<()> {
        within(self.temperature, "temperature", 0.0, 100.0)?;
        within(self.typical_p, "typical_p", 0.0, 1.0)?;
        within(self.top_p, "top_p", 0.0, 1.0)?;
        within(self.min_p, "min_p", 0.0, 1.0)
    }
}

/// Refuses a setting that is not a number from `least` to `most`.
pub(super) fn within(value: f32, name: &str, least: f32, most: f32) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Request {
        what: format!("{name} is a number from {least} to {most}"),
    })
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.7,
            top_k: 40,
            typical_p: 1.0,
            top_p: 0.95,
            min_p: 0.05,
            seed: 0,
        }
    }
}

/// The most tokens that are ever weighed against one another. What lies beyond the 256 most likely is noise.
pub const CANDIDATES: usize = 256;

/// What is drawn where a logit is not finite: no token has this id.
pub const BROKEN: u32 = u32::MAX;

/// Stands for the logit of a token that may not come: below every logit of use, and finite.
const EXCLUDED: f32 = -3.0e38;

/// A number in \[0, 1) from a seed and a count.
///
/// The output permutation of PCG (O'Neill, 2014), twice, over a Weyl sequence: stateless, and the same in WGSL.
pub fn uniform_draw(seed: u32, draw: u32) -> f32 {
    let round = |bits: u32| {
        let bits = bits.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let bits = ((bits >> ((bits >> 28) + 4)) ^ bits).wrapping_mul(277_803_737);
        (bits >> 22) ^ bits
    };
    let bits = round(round(seed ^ draw.wrapping_mul(0x9e37_79b9)));
    (bits >> 8) as f32 / 16_777_216.0
}

/// Draws a token id from `logits` `(V)`. `draw` counts the draws made so far, so that a seed replays.
///
/// Ties go to the lower id. [`BROKEN`] where a logit is not finite.
pub fn sample(logits: &[f32], sampling: &Sampling, draw: u32) -> u32 {
    sample_allowed(logits, None, sampling, draw)
}

/// As [`sample`], of the tokens whose bit is set in `mask`: `(V + 31) / 32` words, the lowest bit first, at least one set.
pub fn sample_allowed(logits: &[f32], mask: Option<&[u32]>, sampling: &Sampling, draw: u32) -> u32 {
    assert!(!logits.is_empty(), "a student has a vocabulary");
    if logits.iter().any(|value| !value.is_finite()) {
        return BROKEN;
    }
    let Some(mask) = mask else {
        return choose(logits, sampling, draw);
    };
    let allowed = |i: usize| mask[i / 32] & (1 << (i % 32)) != 0;
    let left: Vec<f32> = logits
        .iter()
        .enumerate()
        .map(|(i, &value)| if allowed(i) { value } else { EXCLUDED })
        .collect();
    choose(&left, sampling, draw)
}

fn choose(logits: &[f32], sampling: &Sampling, draw: u32) -> u32 {
    if sampling.temperature <= 0.0 {
        let mut best = 0;
        for (i, &value) in logits.iter().enumerate() {
            if value > logits[best] {
                best = i;
            }
        }
        return best as u32;
    }
    let most = CANDIDATES.min(logits.len());
    let kept = if sampling.top_k == 0 {
        most
    } else {
        most.min(sampling.top_k as usize)
    };
    let order = |&a: &u32, &b: &u32| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b));
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    if kept < ids.len() {
        ids.select_nth_unstable_by(kept - 1, order);
        ids.truncate(kept);
    }
    ids.sort_unstable_by(order);
    if sampling.typical_p < 1.0 {
        ids = typical(&ids, logits, sampling.typical_p);
    }
    let kept = ids.len();
    let highest = logits[ids[0] as usize];
    let weight = |id: u32, temperature: f32| ((logits[id as usize] - highest) / temperature).exp();

    let total: f32 = ids.iter().map(|&id| weight(id, 1.0)).sum();
    let (mut count, mut sum) = (0, 0.0);
    while count < kept {
        let probability = weight(ids[count], 1.0);
        let excluded = logits[ids[count] as usize] <= EXCLUDED;
        if count > 0 && (excluded || sum >= sampling.top_p * total || probability < sampling.min_p) {
            break;
        }
        sum += probability;
        count += 1;
    }
    let total: f32 = ids[..count].iter().map(|&id| weight(id, sampling.temperature)).sum();
    let target = uniform_draw(sampling.seed, draw) * total;
    let mut chosen = 0;
    let mut sum = weight(ids[0], sampling.temperature);
    while sum <= target && chosen + 1 < count {
        chosen += 1;
        sum += weight(ids[chosen], sampling.temperature);
    }
    ids[chosen]
}

/// Of `ids`, sorted from the likeliest, the most typical with the probability `share` together, in the same order.
fn typical(ids: &[u32], logits: &[f32], share: f32) -> Vec<u32> {
    // ln of each weight, the first one's is 1; a token that may not come has weight 0 and a finite logarithm.
    let logs: Vec<f32> = ids
        .iter()
        .map(|&id| logits[id as usize] - logits[ids[0] as usize])
        .collect();
    let weights: Vec<f32> = logs.iter().map(|log| log.exp()).collect();
    let total: f32 = weights.iter().sum();
    let surprise = |i: usize| total.ln() - logs[i];
    let mean: f32 = (0..ids.len()).map(|i| weights[i] / total * surprise(i)).sum();
    let distances: Vec<f32> = (0..ids.len()).map(|i| (surprise(i) - mean).abs()).collect();
    let is_kept = |&i: &usize| {
        let nearer = (0..ids.len()).filter(|&j| distances[j] < distances[i] || (distances[j] == distances[i] && j < i));
        nearer.map(|j| weights[j] / total).sum::<f32>() <= share
    };
    (0..ids.len()).filter(is_kept).map(|i| ids[i]).collect()
}
