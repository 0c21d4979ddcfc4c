//! What computes a training: the CPU, one example at a time, or the GPU, several side by side. Both give the same numbers.

use super::Objective;
#[cfg(feature = "teach")]
use super::gpu::GpuTrainer;
#[cfg(feature = "teach")]
use super::room::bucket;
use crate::cpu;
use crate::cpu::loss::{Loss, Teacher};
use crate::cpu::trainer::{AdamW, Example};
use crate::error::{Error, Result};
use crate::format::adapter::Adapter;
#[cfg(feature = "teach")]
use crate::format::adapter::Pair;
use std::collections::HashMap;

/// Of a trained token: loss, cross-entropy, divergence, and 1 where the likeliest token is the wanted one.
pub type Stats = [f32; 4];

/// Both trainers.
pub enum Trainer {
    /// Without a device.
    Cpu(Box<cpu::trainer::Trainer>),
    /// On a device.
    #[cfg(feature = "teach")]
    Gpu(Box<GpuTrainer>),
}

/// Groups of examples that fit side by side into `room` tokens, as numbers of examples: rows of like length together, so
/// that little is filled up.
#[cfg(feature = "teach")]
fn groups(examples: &[Example], room: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|i| examples[*i].tokens.len());
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for i in order {
        // The last of a group is its longest.
        let length = bucket(examples[i].tokens.len());
        match groups.last_mut() {
            Some(group) if (group.len() + 1) * length <= room => group.push(i),
            _ => groups.push(vec![i]),
        }
    }
    groups
}

impl Trainer {
    /// Gradients back to zero.
    pub fn zero(&mut self) {
        match self {
            Self::Cpu(trainer) => trainer.zero(),
            #[cfg(feature = "teach")]
            Self::Gpu(trainer) => trainer.zero(),
        }
    }

    /// Adds the gradients of examples, each trained token weighing `weight`; stats of the trained tokens of each.
    ///
    /// Errors: a lost device.
    pub async fn accumulate(
        &mut self,
        examples: &[Example<'_>],
        objective: &Objective,
        weight: f64,
    ) -> Result<Vec<Vec<Stats>>> {
        match self {
            Self::Cpu(trainer) => {
                let each = examples.iter().map(|e| trainer.accumulate_stats(e, objective, weight));
                Ok(each.map(|losses| losses.into_iter().map(stats).collect()).collect())
            }
            #[cfg(feature = "teach")]
            Self::Gpu(trainer) => {
                let mut all = vec![Vec::new(); examples.len()];
                for group in groups(examples, trainer.room().rows) {
                    let some: Vec<Example> = group.iter().map(|i| examples[*i]).collect();
                    let found = trainer.accumulate(&some, objective, weight).await?;
                    group.into_iter().zip(found).for_each(|(i, stats)| all[i] = stats);
                }
                Ok(all)
            }
        }
    }

    /// Stats of the trained tokens of examples; nothing is trained.
    ///
    /// Errors: a lost device.
    pub async fn measure(&mut self, examples: &[Example<'_>], objective: &Objective) -> Result<Vec<Vec<Stats>>> {
        match self {
            Self::Cpu(trainer) => {
                let each = examples.iter().map(|e| trainer.measure_stats(e, objective));
                Ok(each.map(|losses| losses.into_iter().map(stats).collect()).collect())
            }
            #[cfg(feature = "teach")]
            Self::Gpu(trainer) => {
                let mut all = vec![Vec::new(); examples.len()];
                for group in groups(examples, trainer.room().rows) {
                    let some: Vec<Example> = group.iter().map(|i| examples[*i]).collect();
                    let found = trainer.measure(&some, objective).await?;
                    group.into_iter().zip(found).for_each(|(i, stats)| all[i] = stats);
                }
                Ok(all)
            }
        }
    }

    /// KL(student as it was || student as it is) at the trained tokens of examples, as the third of their stats.
    ///
    /// Errors: a lost device.
    pub async fn away_from_base(&mut self, examples: &[Example<'_>]) -> Result<Vec<Vec<Stats>>> {
        match self {
            Self::Cpu(trainer) => {
                let mut all = Vec::with_capacity(examples.len());
                let objective = Objective {
                    ce: 0.0,
                    ..Objective::default()
                };
                for example in examples {
                    let base = trainer.base_logits(example.tokens);
                    let width = base.len() / example.tokens.len().max(1);
                    let teachers: Vec<Teacher> = base.chunks_exact(width.max(1)).map(Teacher::Dense).collect();
                    let beside = Example {
                        teachers: &teachers,
                        ..*example
                    };
                    let losses = trainer.measure_stats(&beside, &objective);
                    all.push(losses.into_iter().map(stats).collect());
                }
                Ok(all)
            }
            #[cfg(feature = "teach")]
            Self::Gpu(trainer) => {
                let mut all = vec![Vec::new(); examples.len()];
                for group in groups(examples, trainer.room().rows) {
                    let some: Vec<Example> = group.iter().map(|i| examples[*i]).collect();
                    let found = trainer.away_from_base(&some).await?;
                    group.into_iter().zip(found).for_each(|(i, stats)| all[i] = stats);
                }
                Ok(all)
            }
        }
    }

    /// Logits `(T, V)` after each token, with what was learned.
    ///
    /// Errors: a lost device.
    pub async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        match self {
            Self::Cpu(trainer) => Ok(trainer.logits(tokens)),
            #[cfg(feature = "teach")]
            Self::Gpu(trainer) => trainer.logits(tokens, true).await,
        }
    }

    /// One step of the optimizer; the length of the gradient before it was clipped. A step whose gradient is not finite
    /// changes nothing.
    ///
    /// Errors: a lost device.
    pub async fn step(&mut self, adam: &AdamW) -> Result<f32> {
        match self {
            Self::Cpu(trainer) => Ok(trainer.step(adam)),
            #[cfg(feature = "teach")]
            Self::Gpu(trainer) => trainer.step(adam).await,
        }
    }

    /// Steps that changed something.
    pub fn steps(&self) -> usize {
        match self {
            Self::Cpu(trainer) => trainer.steps(),
            #[cfg(feature = "teach")]
            Self::Gpu(trainer) => trainer.steps(),
        }
    }

    /// What was trained, as an adapter.
    ///
    /// Errors: a lost device.
    pub async fn adapter(&self) -> Result<Adapter> {
        match self {
            Self::Cpu(trainer) => Ok(trainer.adapter()),
            #[cfg(feature = "teach")]
            Self::Gpu(trainer) => trainer.adapter().await,
        }
    }

    /// Puts an adapter's pairs in the place of those that are trained.
    ///
    /// Errors: [`Error::Adapter`] where it is made of others.
    pub fn put(&mut self, adapter: &Adapter) -> Result<()> {
        let misfit = || Error::Adapter {
            what: "it is made of other matrices than those that are trained".into(),
        };
        let find = |base: &str, sizes: (usize, usize, usize)| {
            let pair = adapter.pairs.iter().find(|pair| pair.base == base);
            pair.filter(|pair| (pair.rank, pair.rows, pair.columns) == sizes)
                .ok_or_else(misfit)
        };
        match self {
            Self::Cpu(trainer) => {
                for trained in &mut trainer.pairs {
                    let own = &trained.pair;
                    trained.pair = find(&own.base, (own.rank, own.rows, own.columns))?.clone();
                }
            }
            #[cfg(feature = "teach")]
            Self::Gpu(trainer) => {
                let rank = trainer.rank();
                let pairs: Result<Vec<Pair>> = trainer
                    .names()
                    .iter()
                    .map(|named| find(&named.target.base, (rank, named.target.rows, named.target.columns)).cloned())
                    .collect();
                trainer.set_pairs(&pairs?);
            }
        }
        Ok(())
    }

    /// The pairs and the optimizer's memory, by name.
    ///
    /// Errors: a lost device.
    pub async fn state(&self) -> Result<Vec<(String, Vec<f32>)>> {
        match self {
            Self::Cpu(trainer) => Ok(trainer.state()),
            #[cfg(feature = "teach")]
            Self::Gpu(trainer) => trainer.state().await,
        }
    }

    /// Takes a state back, after `steps` steps that changed something. `false`, and nothing is changed, where names or
    /// sizes differ.
    pub fn set_state(&mut self, state: &HashMap<String, Vec<f32>>, steps: usize) -> bool {
        match self {
            Self::Cpu(trainer) => trainer.set_state(state, steps),
            #[cfg(feature = "teach")]
            Self::Gpu(trainer) => trainer.set_state(state, steps),
        }
    }
}

fn stats((loss, top): (Loss, bool)) -> Stats {
    [
        loss.total as f32,
        loss.ce as f32,
        loss.divergence as f32,
        f32::from(u8::from(top)),
    ]
}
