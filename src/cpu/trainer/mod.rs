//! A training step on the CPU: the plan forwards, then the plan backwards, step by step. The oracle of the GPU's training,
//! and what teaches where only the CPU can. It goes through every step that a plan may have.
//!
//! Weights are frozen; what is trained are pairs A `(r, K)`, B `(N, r)` beside them ([`pairs`]). Sums are f32, losses f64.
//!
//! A *part* is a run of steps from the residual stream to what is added to it: the mixing part of a layer, or its feed-forward
//! part ([`forward`]). Forwards, what enters each part is kept, and nothing else: `(2 layers + 1) T D` numbers. Backwards, each
//! part is run again, its steps' inputs are kept, and it is gone through from its end ([`backward`]). Besides those inputs that
//! takes `T` numbers for a row of attention, and `T` rows of one head's state for a recurrent layer ([`recurrent`]).

mod attention;
mod backward;
mod derivatives;
mod forward;
mod optimizer;
mod pairs;
pub mod recurrent;

pub use super::adamw::AdamW;
use super::loss::{self, Loss, Teacher};
use crate::distill::Objective;
use crate::error::{Error, Result};
use crate::format::source::Source;
use crate::model::Plan;
use forward::{Frozen, Hidden};
pub use pairs::{Shape, Target, Trained, initial, targets};

/// Rows that meet the head together: bounds the logits.
const HEAD_ROWS: usize = 64;

/// A row of tokens with what is trained on it.
#[derive(Debug, Clone, Copy)]
pub struct Example<'a> {
    /// The tokens, T.
    pub tokens: &'a [u32],
    /// For each position the token that should follow it, where that is trained, `(T)`.
    pub targets: &'a [Option<u32>],
    /// What the teacher left for each position, `(T)`.
    pub teachers: &'a [Teacher<'a>],
}

/// A student in training.
pub struct Trainer {
    frozen: Frozen,
    context: usize,
    scale: f32,
    alpha: f32,
    /// The pairs, in the order of the plan.
    pub pairs: Vec<Trained>,
    /// The first part that has a pair: gradients go no further.
    lowest: usize,
    steps: i32,
}

impl Trainer {
    /// Reads the frozen weights. Rows of at most `context` tokens; A is drawn from `seed`, B is zero.
    ///
    /// Errors: what the source cannot read; [`Error::Request`] for a rank of zero, modules that are not known, or where no
    /// trained layer has any of them.
    pub async fn new<S: Source>(plan: Plan, source: &S, context: usize, shape: &Shape, seed: u64) -> Result<Self> {
        shape.check()?;
        let pairs: Vec<Trained> = targets(&plan, shape)
            .into_iter()
            .map(|target| Trained::new(target, &plan, shape.rank, seed))
            .collect();
        if pairs.is_empty() {
            return Err(Error::Request {
                what: "the layers that are to be taught have none of these matrices: choose other matrices, or more layers"
                    .into(),
            });
        }
        let frozen = Frozen::read(plan, source, context).await?;
        Ok(Self {
            lowest: frozen.first_part(|matrix| pairs.iter().any(|trained| trained.matrix() == matrix)),
            frozen,
            context,
            scale: shape.alpha / shape.rank as f32,
            alpha: shape.alpha,
            pairs,
            steps: 0,
        })
    }

    /// Logits `(T, V)` after each token.
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let end = self.forward(tokens, |_, _| {});
        let all: Vec<usize> = (0..tokens.len()).collect();
        self.head(&end, &all)
    }

    /// Logits `(T, V)` of the student as it was.
    pub fn base_logits(&mut self, tokens: &[u32]) -> Vec<f32> {
        let scale = std::mem::take(&mut self.scale);
        let logits = self.logits(tokens);
        self.scale = scale;
        logits
    }

    /// Adds the gradients of an example, each trained token weighing `weight`; gives the sum of its losses.
    ///
    /// `weight` is one over the trained tokens of the whole step, whatever examples these lie in.
    ///
    /// # Panics
    /// If the row is longer than the context or ids are outside the vocabulary: whoever made the batch has checked it.
    pub fn accumulate(&mut self, example: &Example, objective: &Objective, weight: f64) -> Loss {
        sum(&self.accumulate_stats(example, objective, weight))
    }

    /// As [`Trainer::accumulate`]: each trained token's loss, and whether the wanted token is the likeliest.
    pub fn accumulate_stats(&mut self, example: &Example, objective: &Objective, weight: f64) -> Vec<(Loss, bool)> {
        let count = example.tokens.len();
        assert!(
            count <= self.context,
            "a row of {count} tokens for a context of {}",
            self.context
        );
        let mut entered = Vec::new();
        let lowest = self.lowest;
        let end = self.forward(example.tokens, |part, hidden| {
            if part >= lowest {
                entered.push(hidden.clone());
            }
        });
        let mut d_hidden = vec![0.0; end.len()];
        let losses = self.losses(&end, example, objective, weight, Some(&mut d_hidden));
        if !losses.is_empty() {
            self.backward(entered, d_hidden);
        }
        losses
    }

    /// Each trained token's loss, and whether the wanted token is the likeliest; nothing is trained.
    pub fn measure_stats(&self, example: &Example, objective: &Objective) -> Vec<(Loss, bool)> {
        let end = self.forward(example.tokens, |_, _| {});
        self.losses(&end, example, objective, 0.0, None)
    }

    /// The sum of an example's losses; nothing is trained.
    pub fn measure(&self, example: &Example, objective: &Objective) -> Loss {
        sum(&self.measure_stats(example, objective))
    }

    /// The losses of the trained positions; `d_hidden` `(T, D)` gets what they ask of what the head reads.
    fn losses(
        &self,
        end: &Hidden,
        example: &Example,
        objective: &Objective,
        weight: f64,
        mut d_hidden: Option<&mut [f32]>,
    ) -> Vec<(Loss, bool)> {
        let trained: Vec<usize> = (0..example.tokens.len())
            .filter(|t| example.targets[*t].is_some())
            .collect();
        let vocabulary = self.frozen.plan.config.vocabulary;
        let mut gradient = vec![0.0; vocabulary];
        let mut losses = Vec::with_capacity(trained.len());
        for chosen in trained.chunks(HEAD_ROWS) {
            let logits = self.head(end, chosen);
            let mut d_logits = vec![0.0f32; logits.len()];
            let rows = logits.chunks_exact(vocabulary);
            for ((t, row), d_row) in chosen.iter().zip(rows).zip(d_logits.chunks_exact_mut(vocabulary)) {
                let target = example.targets[*t].unwrap_or_default();
                gradient.fill(0.0);
                let one = loss::loss(row, target, example.teachers[*t], objective, weight, &mut gradient);
                let top = row.iter().all(|z| *z <= row[target as usize]);
                losses.push((one, top));
                for (to, from) in d_row.iter_mut().zip(&gradient) {
                    *to = *from as f32;
                }
            }
            if let Some(d_hidden) = d_hidden.as_deref_mut() {
                self.frozen.head_back(end, chosen, &logits, d_logits, d_hidden);
            }
        }
        losses
    }
}

fn sum(losses: &[(Loss, bool)]) -> Loss {
    let mut sum = Loss::default();
    for (one, _) in losses {
        sum.total += one.total;
        sum.ce += one.ce;
        sum.divergence += one.divergence;
    }
    sum
}
