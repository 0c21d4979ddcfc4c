//! What teaching takes on a device, computed before anything is allocated; and how many rows go side by side.

use super::session::{Settings, Sorted};
use crate::cpu::trainer::targets;
use crate::error::{Error, Result, human_bytes};
use crate::format::repack::{groups, row_words};
use crate::model::{Plan, Slot};

/// Tokens that go side by side at the most: more would gain nothing and cost memory.
const MOST_TOKENS: usize = 2048;

/// Bytes that may be taken before fewer rows go side by side: what a browser tab with a graphics card of its own can spare.
const MODEST: u64 = 1_100_000_000;

/// Bytes that teaching takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// What takes them, and how many.
    pub items: Vec<(&'static str, u64)>,
    /// Tokens side by side: those of a micro-batch.
    pub tokens: usize,
    /// Tokens of the longest row, filled up.
    pub longest: usize,
    /// What the device offers (an estimate: no browser tells).
    pub available: u64,
}

/// Positions that a row is filled up to: few different numbers, so that shapes come again.
pub fn bucket(length: usize) -> usize {
    match length {
        0..=128 => length.next_multiple_of(16).max(16),
        129..=512 => length.next_multiple_of(32),
        _ => length.next_multiple_of(64),
    }
}

/// Numbers of all pairs, padded as the device holds them.
pub fn pair_numbers(plan: &Plan, settings: &Settings) -> u64 {
    let rank = settings.rank.next_multiple_of(8) as u64;
    let mut matrices: Vec<_> = targets(plan, &settings.shape()).iter().map(|t| t.matrix).collect();
    matrices.dedup();
    matrices
        .iter()
        .map(|matrix| {
            let matrix = &plan.matrices[*matrix];
            let columns = 8 * groups(matrix.columns) as u64;
            rank * (matrix.tensors.len() as u64 * columns + matrix.rows as u64)
        })
        .sum()
}

impl Needs {
    /// With `tokens` side by side, rows of at most `longest` tokens.
    fn with(plan: &Plan, settings: &Settings, tokens: usize, longest: usize, available: u64) -> Self {
        let c = &plan.config;
        let weights: u64 = plan
            .matrices
            .iter()
            .map(|m| 4 * m.rows as u64 * row_words(m.block_type, m.columns) as u64)
            .sum();
        let rows = tokens as u64;
        let entered = 4 * rows * (c.layers as u64 + 1) * c.hidden as u64;
        // Forwards and backwards of one layer: Burn keeps what each operation read, and its gradient beside it.
        let widths =
            6 * c.hidden + 5 * plan.width(Slot::Qkv) + 3 * plan.width(Slot::Attended) + 6 * plan.width(Slot::GateUp);
        // Recurrent layers: their projections, and matrices over the tokens of a chunk.
        let recurrent = c.recurrent.map_or(0, |shape| {
            6 * (plan.width(Slot::Mixed) + plan.width(Slot::Convolved) + plan.width(Slot::Scanned))
                + 8 * 64 * shape.heads
        });
        let widths = widths.max(recurrent + 6 * c.hidden + 6 * plan.width(Slot::GateUp));
        let attention = 5 * 4 * rows * (c.heads * longest) as u64;
        let chunk = (32u64 << 20)
            .min(4 * c.vocabulary as u64 * rows)
            .max(64 * c.vocabulary as u64);
        Self {
            items: vec![
                ("frozen weights", weights),
                (
                    "pairs, their gradient and the optimizer",
                    4 * 4 * pair_numbers(plan, settings),
                ),
                ("what enters each layer", entered),
                ("the inside of one layer", 4 * rows * widths as u64),
                ("attention of one layer", attention),
                ("logits of a chunk", chunk),
            ],
            tokens,
            longest,
            available,
        }
    }

    /// The most rows side by side that fit, for the lessons at hand.
    pub fn new(plan: &Plan, settings: &Settings, lessons: &Sorted, available: u64) -> Self {
        let longest = bucket(lessons.longest());
        let most = (settings.batch * longest).clamp(longest, MOST_TOKENS.max(longest));
        let mut tokens = most;
        loop {
            let needs = Self::with(plan, settings, tokens, longest, available);
            let half = (tokens / 2).max(longest);
            if needs.total() <= available.min(MODEST) || half == tokens {
                return needs;
            }
            tokens = half;
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.items.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Whether it fits.
    pub fn fits(&self) -> bool {
        self.total() <= self.available
    }

    /// In one sentence with its numbers.
    pub fn words(&self) -> String {
        format!(
            "Teaching takes about {} on the device, {} tokens side by side; it offers about {}.",
            human_bytes(self.total()),
            self.tokens,
            human_bytes(self.available)
        )
    }

    /// What would fit instead.
    pub fn suggestion(&self) -> String {
        "Teach fewer layers, choose a lower rank, cut rows shorter, or take a smaller student.".into()
    }

    /// [`Error::DoesNotFit`] unless it fits.
    pub fn check(&self) -> Result<()> {
        if self.fits() {
            return Ok(());
        }
        Err(Error::DoesNotFit {
            needed: self.total(),
            available: self.available,
            suggestion: self.suggestion(),
        })
    }
}
