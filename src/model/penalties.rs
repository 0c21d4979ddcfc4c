//! What moves logits before a token is drawn: biases, penalties for what came already, and DRY.
//!
//! The order and the meaning are llama.cpp's: the bias first, then repetition, frequency and presence, then DRY, and only then
//! the filters of [`super::sampler`]. What came are the last tokens of prompt and answer.

use super::sampler::within;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// What one token's logit becomes: l + `bias`; that times `repeat` where it is not above 0, else divided by it; less `minus`.
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Adjustment {
    /// The token.
    pub id: u32,
    /// Added first.
    pub bias: f32,
    /// 1 = off.
    pub repeat: f32,
    /// Taken off last.
    pub minus: f32,
}

/// Penalties and biases of a request; [`Penalties::default`] has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Penalties {
    /// Against tokens that came: positive logits are divided by it, others multiplied. 1 = off.
    pub repeat: f32,
    /// Taken off once where a token came.
    pub presence: f32,
    /// Taken off for each time that a token came.
    pub frequency: f32,
    /// How many of the last tokens these three look at; `None`: all.
    pub last_n: Option<usize>,
    /// Against repeated sequences.
    pub dry: Dry,
    /// What is added to the logits of tokens.
    pub bias: Vec<(u32, f32)>,
}

/// DRY ("don't repeat yourself"): a token that would go on with a sequence of n tokens which came before is made less likely by
/// multiplier base^(n - allowed length), where n is at least the allowed length.
#[derive(Debug, Clone, PartialEq)]
pub struct Dry {
    /// 0 = off.
    pub multiplier: f32,
    /// How fast the penalty grows.
    pub base: f32,
    /// Shorter sequences may repeat.
    pub allowed_length: usize,
    /// How many of the last tokens are looked at; `None`: all.
    pub last_n: Option<usize>,
    /// Sequences do not reach over these texts.
    pub breakers: Vec<String>,
}

/// Texts that break sequences, as tokens: for each token that such a text may begin in, what has to follow it.
pub type Breakers = BTreeMap<u32, Vec<Vec<u32>>>;

/// Most tokens that the penalties look at unless a request says otherwise.
pub const LAST_N: usize = 64;

/// Most texts that break sequences.
const MAX_BREAKERS: usize = 64;

/// Most that DRY takes off: beyond every logit of use, and far from the end of f32.
const MOST: f32 = 1e9;

impl Default for Dry {
    fn default() -> Self {
        Self {
            multiplier: 0.0,
            base: 1.75,
            allowed_length: 2,
            last_n: None,
            breakers: ["\n", ":", "\"", "*"].map(String::from).to_vec(),
        }
    }
}

impl Default for Penalties {
    fn default() -> Self {
        Self {
            repeat: 1.0,
            presence: 0.0,
            frequency: 0.0,
            last_n: Some(LAST_N),
            dry: Dry::default(),
            bias: Vec::new(),
        }
    }
}

fn last(tokens: &[u32], n: Option<usize>) -> &[u32] {
    &tokens[tokens.len() - n.unwrap_or(tokens.len()).min(tokens.len())..]
}

impl Penalties {
    /// Whether nothing is moved.
    pub fn is_off(&self) -> bool {
        self.bias.is_empty() && !self.looks_back()
    }

    /// Whether what is moved depends on the tokens that came.
    pub fn looks_back(&self) -> bool {
        self.counts() || self.dry.multiplier != 0.0
    }

    fn counts(&self) -> bool {
        self.repeat != 1.0 || self.presence != 0.0 || self.frequency != 0.0
    }

    /// Refuses what is outside its range, for a student with so many tokens.
    ///
    /// Errors: [`Error::Request`], with the setting and its range.
    pub fn check(&self, vocabulary: usize) -> Result<()> {
        within(self.repeat, "repeat_penalty", 0.1, 10.0)?;
        within(self.presence, "presence_penalty", -2.0, 2.0)?;
        within(self.frequency, "frequency_penalty", -2.0, 2.0)?;
        within(self.dry.multiplier, "dry_multiplier", 0.0, 100.0)?;
        within(self.dry.base, "dry_base", 1.0, 100.0)?;
        let refuse = |what: String| Err(Error::Request { what });
        if self.dry.allowed_length == 0 {
            return refuse("dry_allowed_length is a whole number from 1".into());
        }
        if self.dry.breakers.len() > MAX_BREAKERS {
            return refuse(format!("dry_sequence_breakers are at most {MAX_BREAKERS} texts"));
        }
        for &(id, bias) in &self.bias {
            within(bias, "a bias of logit_bias", -100.0, 100.0)?;
            if id as usize >= vocabulary {
                return refuse(format!(
                    "logit_bias names token {id}, and this student has {vocabulary}"
                ));
            }
        }
        Ok(())
    }

    /// What is moved behind `tokens`, of prompt and answer: each token at most once, by ascending id.
    pub fn adjustments(&self, breakers: &Breakers, tokens: &[u32]) -> Vec<Adjustment> {
        let mut list: BTreeMap<u32, Adjustment> = BTreeMap::new();
        let mut of = |id: u32, change: &dyn Fn(&mut Adjustment)| {
            change(list.entry(id).or_insert(Adjustment {
                id,
                bias: 0.0,
                repeat: 1.0,
                minus: 0.0,
            }));
        };
        for &(id, bias) in &self.bias {
            of(id, &|entry| entry.bias += bias);
        }
        if self.counts() {
            let mut counts: BTreeMap<u32, f32> = BTreeMap::new();
            for &id in last(tokens, self.last_n) {
                *counts.entry(id).or_default() += 1.0;
            }
            for (id, count) in counts {
                of(id, &|entry| {
                    entry.repeat = self.repeat;
                    entry.minus = count * self.frequency + self.presence;
                });
            }
        }
        for (id, length) in self.dry.repeats(breakers, tokens) {
            let grown = self.dry.base.powf((length - self.dry.allowed_length) as f32);
            of(id, &|entry| entry.minus += (self.dry.multiplier * grown).min(MOST));
        }
        list.into_values().collect()
    }
}

impl Dry {
    /// The tokens that would go on with a sequence which came before, each with the length of the longest one.
    fn repeats(&self, breakers: &Breakers, tokens: &[u32]) -> BTreeMap<u32, usize> {
        let mut found = BTreeMap::new();
        let tokens = last(tokens, self.last_n);
        if self.multiplier == 0.0 || tokens.len() <= self.allowed_length {
            return found;
        }
        // A sequence begins behind the last breaker.
        let longest = behind_a_breaker(breakers, tokens);
        if longest < self.allowed_length {
            return found;
        }
        for (back, &shared) in shared_endings(tokens).iter().enumerate().skip(1) {
            let length = shared.min(longest);
            let next = tokens[tokens.len() - back];
            let breaks = breakers.get(&next).is_some_and(|tails| tails.iter().any(Vec::is_empty));
            if length >= self.allowed_length && !breaks {
                let known = found.entry(next).or_insert(0);
                *known = length.max(*known);
            }
        }
        found
    }
}

/// How many tokens there are behind the last text that breaks sequences.
fn behind_a_breaker(breakers: &Breakers, tokens: &[u32]) -> usize {
    for (at, id) in tokens.iter().enumerate().rev() {
        let behind = &tokens[at + 1..];
        let tails = breakers.get(id).map_or([].as_slice(), Vec::as_slice);
        let whole = tails.iter().filter(|tail| behind.starts_with(tail));
        if let Some(tail) = whole.max_by_key(|tail| tail.len()) {
            return behind.len() - tail.len();
        }
    }
    tokens.len()
}

/// For each n, how many of the last tokens also stand in front of the last n: the Z function of the tokens read backwards.
fn shared_endings(tokens: &[u32]) -> Vec<usize> {
    let n = tokens.len();
    let at = |i: usize| tokens[n - 1 - i];
    let mut shared = vec![0; n];
    // The stretch from `left` to before `right` is known to be like the beginning.
    let (mut left, mut right) = (0, 0);
    for i in 1..n {
        let mut length = if i < right { shared[i - left].min(right - i) } else { 0 };
        while i + length < n && at(length) == at(i + length) {
            length += 1;
        }
        shared[i] = length;
        if i + length > right {
            (left, right) = (i, i + length);
        }
    }
    shared
}

/// Moves logits `(V)`.
pub fn adjust(logits: &mut [f32], list: &[Adjustment]) {
    for entry in list {
        let logit = &mut logits[entry.id as usize];
        let biased = *logit + entry.bias;
        let repeated = if biased <= 0.0 {
            biased * entry.repeat
        } else {
            biased / entry.repeat
        };
        *logit = repeated - entry.minus;
    }
}
