//! What a trained token is compared with, and how the comparison is weighed.
//!
//! p is the teacher's distribution, q the student's. Sources: Hinton, Vinyals, Dean 2015 (forward KL with a temperature);
//! Agarwal et al. 2024 (generalized Jensen-Shannon); Ko et al. 2024 (skewed KL).

use crate::error::{Error, Result};

/// How far q is from p.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Divergence {
    /// KL(p || q) = sum p log(p / q): q must cover all that p does.
    ForwardKl,
    /// KL(q || p) = sum q log(q / p): q must not do what p does not.
    ReverseKl,
    /// beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q. As the trainers have it, 0 means the forward
    /// and 1 the reverse KL, which are its limits after division.
    Jsd {
        /// In 0..=1.
        beta: f32,
    },
    /// KL(p || m) with m = lambda p + (1 - lambda) q: forward KL that never grows without bound.
    SkewKl {
        /// In 0..1; 0 is the forward KL.
        lambda: f32,
    },
}

/// What becomes of the probability outside a teacher's most likely tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tail {
    /// One more bucket: all other tokens together, on both sides.
    #[default]
    Bucket,
    /// Both sides are made to sum to one over the teacher's tokens.
    Renormalized,
    /// Only the teacher is; the student keeps its whole vocabulary.
    TeacherRenormalized,
}

/// The loss of a token: `ce` times the cross-entropy of the teacher's token, and `1 - ce` times a divergence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// Weight of the cross-entropy, in 0..=1. Where the teacher left only text it counts alone.
    pub ce: f32,
    /// The divergence.
    pub divergence: Divergence,
    /// Divides both sides' logits, for whole distributions only; the divergence is multiplied by its square.
    pub temperature: f32,
    /// For teachers that left only their most likely tokens.
    pub tail: Tail,
}

impl Default for Objective {
    /// Off-policy traces with probabilities: forward KL over the teacher's tokens and the tail, and some cross-entropy.
    fn default() -> Self {
        Self {
            ce: 0.3,
            divergence: Divergence::ForwardKl,
            temperature: 1.0,
            tail: Tail::Bucket,
        }
    }
}

impl Objective {
    /// Checks the settings. Errors: [`Error::Request`] for numbers outside their ranges.
    pub fn check(&self) -> Result<()> {
        let range = |ok: bool, what: &str| {
            if ok {
                Ok(())
            } else {
                Err(Error::Request { what: what.into() })
            }
        };
        range(
            (0.0..=1.0).contains(&self.ce),
            "the weight of the cross-entropy is a number from 0 to 1",
        )?;
        range(
            (0.05..=20.0).contains(&self.temperature),
            "the temperature of a loss is a number from 0.05 to 20",
        )?;
        match self.divergence {
            Divergence::Jsd { beta } => range((0.0..=1.0).contains(&beta), "beta is a number from 0 to 1"),
            Divergence::SkewKl { lambda } => {
                range((0.0..1.0).contains(&lambda), "lambda is a number from 0 to below 1")
            }
            Divergence::ForwardKl | Divergence::ReverseKl => Ok(()),
        }
    }
}
