//! How large the steps are, which rows come when, and which are kept apart.

use crate::model::chance::Numbers;

/// The step size over a training: up in a straight line, then down on a cosine to a tenth.
///
/// Source of the shape: Loshchilov and Hutter, "SGDR" (2017), one cycle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The largest step size.
    pub peak: f32,
    /// Steps in all.
    pub steps: usize,
    /// Steps on the way up.
    pub warm_up: usize,
}

impl Schedule {
    /// With the usual warm-up: 5 % of the steps, at least 3.
    pub fn new(peak: f32, steps: usize) -> Self {
        Self {
            peak,
            steps,
            warm_up: (steps / 20).max(3).min(steps),
        }
    }

    /// The step size of step `step`, counted from 0.
    pub fn rate(&self, step: usize) -> f32 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f32 / self.warm_up as f32;
        }
        let left = (self.steps - self.warm_up).max(1);
        let part = ((step - self.warm_up) as f32 / left as f32).min(1.0);
        self.peak * (0.1 + 0.45 * (1.0 + (std::f32::consts::PI * part).cos()))
    }
}

/// Whether a row is kept apart to measure by: decided by what it says, so that a repeated row is on one side only.
///
/// `part` of all rows, nearly.
pub fn held_out(fingerprint: u64, part: f64) -> bool {
    // Mixed once more: the low bits of a byte-wise hash follow its last bytes.
    let mut z = fingerprint;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 <= part - f64::EPSILON
}

/// The order of rows: passes over all of them, each shuffled by the seed.
#[derive(Debug, Clone)]
pub struct Order {
    rows: usize,
    seed: u64,
    pass: u64,
    left: Vec<usize>,
}

impl Order {
    /// Of `rows` rows.
    pub fn new(rows: usize, seed: u64) -> Self {
        Self {
            rows,
            seed,
            pass: 0,
            left: Vec::new(),
        }
    }

    /// Passes that were begun.
    pub fn passes(&self) -> u64 {
        self.pass
    }
}

impl Iterator for Order {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.rows == 0 {
            return None;
        }
        if self.left.is_empty() {
            self.left = (0..self.rows).collect();
            let mut numbers = Numbers(self.seed ^ self.pass.wrapping_mul(0xd134_2543_de82_ef95));
            self.pass += 1;
            for i in (1..self.rows).rev() {
                self.left.swap(i, numbers.below(i + 1));
            }
        }
        self.left.pop()
    }
}
