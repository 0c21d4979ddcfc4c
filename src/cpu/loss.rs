//! The loss of one trained token and its gradient over the student's logits, in f64: the oracle of the kernel.
//!
//! One form holds all divergences. Buckets b are the tokens that the teacher names, and one for all others together
//! (none where it names the whole vocabulary). Each divergence is a sum over buckets, and needs of the student only
//! `log q_b`. With `g_b` the derivative by it and `G = sum g_b`, the gradient over logit j is
//!
//! ```text
//! dL/dz_j = (1/T) ( [j named] g_j + [j other] g_r q_j / q_r - q_j G )
//! ```

use crate::distill::{Divergence, Objective, Tail};
use bytemuck::{Pod, Zeroable};

/// What the teacher left for a token.
#[derive(Debug, Clone, Copy)]
pub enum Teacher<'a> {
    /// Only the token itself.
    Text,
    /// All logits, `(V)`.
    Dense(&'a [f32]),
    /// Its most likely tokens with their log-probabilities.
    Sparse {
        /// Ids, each once.
        ids: &'a [u32],
        /// Natural logarithms of probabilities.
        logprobs: &'a [f32],
    },
}

/// Parts of a token's loss, before their weights.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// What was minimized.
    pub total: f64,
    /// Cross-entropy of the token, in nats.
    pub ce: f64,
    /// The divergence, in nats, times the temperature's square.
    pub divergence: f64,
}

/// What the kernel is told of a row beside the teacher's tokens.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Default, Pod, Zeroable)]
pub struct LossRow {
    /// The token that the teacher said.
    pub wanted: u32,
    /// Tokens that it names; anything but 0 where it left all logits; 0 where it left only text.
    pub count: u32,
    /// What the row's gradient is multiplied by.
    pub weight: f32,
    /// Logarithm of the probability that it leaves to all other tokens.
    pub left: f32,
}

/// A row as the kernel takes it: the teacher's tokens go to `ids` and `logprobs` (both of the same length, at least
/// theirs), normalised as the objective's tail wants it.
pub fn prepare(
    target: u32,
    teacher: Teacher,
    objective: &Objective,
    weight: f32,
    ids: &mut [u32],
    logprobs: &mut [f32],
) -> LossRow {
    let mut row = LossRow {
        wanted: target,
        weight,
        ..LossRow::default()
    };
    match teacher {
        Teacher::Text => {}
        Teacher::Dense(_) => row.count = 1,
        Teacher::Sparse {
            ids: named,
            logprobs: said,
        } => {
            let sum = log_sum_exp(said.iter().map(|v| f64::from(*v)));
            // Rounded probabilities may sum to a little over one.
            let off = if objective.tail != Tail::Bucket || sum > 0.0 {
                sum
            } else {
                0.0
            };
            row.count = named.len() as u32;
            row.left = (-sum.min(0.0).exp_m1()).max(0.0).ln().max(FLOOR) as f32;
            ids[..named.len()].copy_from_slice(named);
            for (to, said) in logprobs.iter_mut().zip(said) {
                *to = (f64::from(*said) - off) as f32;
            }
        }
    }
    row
}

/// No bucket is less likely than this: `log` of what f32 still tells from nothing beside one.
const FLOOR: f64 = -16.0;

/// `log(sum exp x)` of some numbers.
fn log_sum_exp(x: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = x.clone().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + x.map(|v| (v - most).exp()).sum::<f64>().ln()
}

/// A bucket's share of the divergence and its derivative by `log q`.
fn bucket(divergence: Divergence, log_p: f64, log_q: f64) -> (f64, f64) {
    let (p, q) = (log_p.exp(), log_q.exp());
    match divergence {
        Divergence::ForwardKl => (p * (log_p - log_q), -p),
        Divergence::ReverseKl => (q * (log_q - log_p), q * (log_q - log_p + 1.0)),
        Divergence::Jsd { beta: 0.0 } => bucket(Divergence::ForwardKl, log_p, log_q),
        Divergence::Jsd { beta: 1.0 } => bucket(Divergence::ReverseKl, log_p, log_q),
        Divergence::Jsd { beta } => {
            let b = f64::from(beta);
            let log_m = log_sum_exp([b.ln() + log_p, (1.0 - b).ln() + log_q].into_iter());
            let share = b * p * (log_p - log_m) + (1.0 - b) * q * (log_q - log_m);
            (share, (1.0 - b) * q * (log_q - log_m))
        }
        Divergence::SkewKl { lambda } => {
            let l = f64::from(lambda);
            let log_m = if l == 0.0 {
                log_q
            } else {
                log_sum_exp([l.ln() + log_p, (1.0 - l).ln() + log_q].into_iter())
            };
            (p * (log_p - log_m), -p * (1.0 - l) * (log_q - log_m).exp())
        }
    }
}

/// The loss of the token `target` for `logits` `(V)`; its gradient, times `weight`, is added to `gradient` `(V)`.
///
/// # Panics
/// If ids are not below V or lists differ in length: whoever made the batch has checked them.
pub fn loss(
    logits: &[f32],
    target: u32,
    teacher: Teacher,
    objective: &Objective,
    weight: f64,
    gradient: &mut [f64],
) -> Loss {
    let z = |j: usize| f64::from(logits[j]);
    let all = 0..logits.len();
    let whole = log_sum_exp(all.clone().map(z));
    let ce = whole - z(target as usize);
    let share = if matches!(teacher, Teacher::Text) {
        1.0
    } else {
        f64::from(objective.ce)
    };
    if share > 0.0 {
        for j in all.clone() {
            gradient[j] += weight * share * (z(j) - whole).exp();
        }
        gradient[target as usize] -= weight * share;
    }
    let rest = weight * (1.0 - share);
    let divergence = match teacher {
        Teacher::Text => 0.0,
        Teacher::Dense(teacher) => {
            let t = f64::from(objective.temperature);
            let q_sum = log_sum_exp(all.clone().map(|j| z(j) / t));
            let p_sum = log_sum_exp(all.clone().map(|j| f64::from(teacher[j]) / t));
            let log_q = |j: usize| z(j) / t - q_sum;
            let shares: Vec<(f64, f64)> = all
                .clone()
                .map(|j| bucket(objective.divergence, f64::from(teacher[j]) / t - p_sum, log_q(j)))
                .collect();
            let sum: f64 = shares.iter().map(|s| s.1).sum();
            for j in all {
                // (1 / T) of the chain rule times T^2 of the loss.
                gradient[j] += rest * t * (shares[j].1 - log_q(j).exp() * sum);
            }
            t * t * shares.iter().map(|s| s.0).sum::<f64>()
        }
        Teacher::Sparse { ids, logprobs } => {
            assert_eq!(ids.len(), logprobs.len(), "a log-probability for each id");
            let named = || ids.iter().map(|id| *id as usize);
            let named_z = log_sum_exp(named().map(z));
            let mut log_p: Vec<f64> = logprobs.iter().map(|v| f64::from(*v)).collect();
            let p_sum = log_sum_exp(log_p.iter().copied());
            // Rounded probabilities may sum to a little over one.
            if objective.tail != Tail::Bucket || p_sum > 0.0 {
                log_p.iter_mut().for_each(|v| *v -= p_sum);
            }
            let over = if objective.tail == Tail::Renormalized {
                named_z
            } else {
                whole
            };
            let shares: Vec<(f64, f64)> = named()
                .zip(&log_p)
                .map(|(j, log_p)| bucket(objective.divergence, *log_p, z(j) - over))
                .collect();
            let mut sum: f64 = shares.iter().map(|s| s.1).sum();
            let mut value: f64 = shares.iter().map(|s| s.0).sum();
            if objective.tail == Tail::Bucket {
                // The others' logarithm from their own logits, exact where 1 - sum would cancel.
                let mut is_named = vec![false; logits.len()];
                named().for_each(|j| is_named[j] = true);
                let others = log_sum_exp(all.clone().filter(|j| !is_named[*j]).map(z)) - whole;
                let left = (-p_sum.min(0.0).exp_m1()).max(0.0).ln();
                if others > f64::NEG_INFINITY {
                    let (v, g) = bucket(objective.divergence, left.max(FLOOR), others.max(FLOOR));
                    // A bucket at its floor no longer depends on the logits.
                    let g = if others < FLOOR { 0.0 } else { g };
                    value += v;
                    sum += g;
                    for j in all.clone().filter(|j| !is_named[*j]) {
                        gradient[j] += rest * g * (z(j) - whole - others).exp();
                    }
                }
            }
            for (j, share) in named().zip(&shares) {
                gradient[j] += rest * share.1;
            }
            if objective.tail == Tail::Renormalized {
                for j in named() {
                    gradient[j] -= rest * sum * (z(j) - named_z).exp();
                }
            } else {
                for j in all {
                    gradient[j] -= rest * sum * (z(j) - whole).exp();
                }
            }
            value
        }
    };
    Loss {
        total: share * ce + (1.0 - share) * divergence,
        ce,
        divergence,
    }
}
