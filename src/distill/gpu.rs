//! Training on the GPU: [`Student`]'s graph, the head and the loss in chunks, the optimizer. What [`crate::cpu::trainer`] does
//! for one example at a time, for several side by side.

use super::Objective;
use super::ops::{crossing, primitive};
use super::room::bucket;
use super::student::{Rows, Student};
use crate::cpu::adamw::AdamW;
use crate::cpu::loss::{LossRow, Teacher, prepare};
use crate::cpu::trainer::{Example, Shape};
use crate::error::Result;
use crate::format::adapter::{Adapter, Pair};
use crate::format::gguf::Metadata;
use crate::format::source::Source;
use crate::gpu::training::{Dense, Marked, Memory, Named, Room, Stats};
use crate::gpu::{Gpu, Training};
use crate::model::Plan;
use burn::tensor::{Device, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

/// A student in training on a device.
pub struct GpuTrainer {
    student: Student,
    device: Device,
    shape: Shape,
    steps: i32,
}

/// Examples laid side by side.
struct Batch {
    tokens: Vec<u32>,
    rows: Rows,
    /// Trained positions, of all examples; filled up to whole tiles.
    chosen: Vec<usize>,
    marks: Vec<LossRow>,
    ids: Vec<u32>,
    logprobs: Vec<f32>,
    /// Trained positions of each example.
    counts: Vec<usize>,
    dense: Option<Vec<f32>>,
}

impl GpuTrainer {
    /// Uploads the frozen weights; `device` is Burn's name for `gpu` ([`super::student::share`]). Rows of at most `context` tokens; A is drawn from
    /// `seed`, B is zero. `progress` is told the bytes read so far.
    ///
    /// Errors: what the device refuses, what the source cannot read, [`crate::error::Error::Request`] for a shape that cannot be.
    pub async fn new<S: Source>(
        gpu: &Gpu,
        device: &Device,
        plan: Plan,
        source: &S,
        context: usize,
        shape: &Shape,
        seed: u64,
        room: Room,
        progress: impl FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        let factors = match plan.rope_factors(context) {
            Some(vector) => Some(vector.read(source).await?),
            None => None,
        };
        let table = |rope| plan.config.turns(rope, bucket(context), factors.as_deref());
        let turns = (0..plan.config.ropes.len()).map(table).collect();
        let room = Room {
            rows: room.rows.max(bucket(context)),
            ..room
        };
        let training = Training::load(gpu, plan, source, shape, seed, room, progress).await?;
        Ok(Self {
            student: Student::new(Arc::new(training), device.clone(), turns),
            device: device.clone(),
            shape: shape.clone(),
            steps: 0,
        })
    }

    fn training(&self) -> &Training {
        self.student.training()
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        self.training().gpu()
    }

    /// Most tokens side by side.
    pub fn room(&self) -> Room {
        self.training().room()
    }

    /// r.
    pub fn rank(&self) -> usize {
        self.shape.rank
    }

    /// The trained pairs, in their order.
    pub fn names(&self) -> &[Named] {
        self.training().names()
    }

    fn batch(&self, examples: &[Example], objective: &Objective, weight: f32) -> Batch {
        let longest = examples.iter().map(|e| e.tokens.len()).max().unwrap_or(0);
        let rows = Rows {
            examples: examples.len(),
            positions: bucket(longest),
        };
        let named = self.room().named;
        assert!(rows.count() <= self.room().rows, "the batch fits into its room");
        let mut batch = Batch {
            tokens: vec![0; rows.count()],
            rows,
            chosen: Vec::new(),
            marks: Vec::new(),
            ids: Vec::new(),
            logprobs: Vec::new(),
            counts: Vec::new(),
            dense: None,
        };
        for (b, example) in examples.iter().enumerate() {
            let first = b * rows.positions;
            batch.tokens[first..first + example.tokens.len()].copy_from_slice(example.tokens);
            let before = batch.chosen.len();
            for (t, target) in example.targets.iter().enumerate() {
                let Some(target) = target else { continue };
                batch.chosen.push(first + t);
                let (mut ids, mut logprobs) = (vec![0; named], vec![0.0; named]);
                let teacher = example.teachers[t];
                if let Teacher::Dense(logits) = teacher {
                    batch.dense.get_or_insert_default().extend(logits);
                }
                let mark = prepare(*target, teacher, objective, weight, &mut ids, &mut logprobs);
                batch.marks.push(mark);
                batch.ids.extend(ids);
                batch.logprobs.extend(logprobs);
            }
            batch.counts.push(batch.chosen.len() - before);
        }
        // Whole tiles, so that shapes come again; what fills up weighs nothing.
        let count = batch.chosen.len().next_multiple_of(16).max(16);
        batch.chosen.resize(count, rows.count() - 1);
        batch.marks.resize(count, LossRow::default());
        batch.ids.resize(count * named, 0);
        batch.logprobs.resize(count * named, 0.0);
        if let Some(dense) = &mut batch.dense {
            dense.resize(count * self.training().plan().config.vocabulary, 0.0);
        }
        batch
    }

    /// Stats of the trained positions of each example.
    fn shared_out(batch: &Batch, stats: Vec<Stats>) -> Vec<Vec<Stats>> {
        let mut left = stats.into_iter();
        batch.counts.iter().map(|n| left.by_ref().take(*n).collect()).collect()
    }

    async fn loss(
        &self,
        batch: &Batch,
        h: &Tensor<2>,
        dh: Option<&Tensor<2>>,
        objective: &Objective,
        base: Option<&Tensor<2>>,
    ) -> Result<Vec<Stats>> {
        self.gpu().check()?;
        let h = primitive(h);
        let second = dh.map_or_else(|| h.clone(), primitive);
        let third = base.map_or_else(|| h.clone(), primitive);
        let crossing = crossing(&h.client, [&h.handle, &second.handle, &third.handle]);
        let [h, second, third] = &crossing.views;
        let marked = Marked {
            rows: &batch.marks,
            ids: &batch.ids,
            logprobs: &batch.logprobs,
        };
        let dense = match (&batch.dense, base) {
            (_, Some(_)) => Dense::Hidden(third),
            (Some(values), _) => Dense::Logits(values),
            _ => Dense::None,
        };
        self.training()
            .head_loss(h, dh.is_some().then_some(second), &marked, dense, objective)
            .await
    }

    /// Adds the gradients of examples side by side, each trained token weighing `weight`; stats of their trained tokens.
    ///
    /// Errors: a lost device, a refused allocation; the gradients are worth nothing then.
    ///
    /// # Panics
    /// If the examples are larger than the room: whoever made the batch has checked it.
    pub async fn accumulate(
        &mut self,
        examples: &[Example<'_>],
        objective: &Objective,
        weight: f64,
    ) -> Result<Vec<Vec<Stats>>> {
        let gpu = self.gpu().clone();
        gpu.scoped(async || {
            let batch = self.batch(examples, objective, weight as f32);
            let mut entered = self.student.forward(&batch.tokens, batch.rows, true);
            let Some(hidden) = entered.pop() else {
                unreachable!("something leaves the last layer")
            };
            let leaf = hidden.autodiff().require_grad();
            let h = self.student.headed(leaf.clone(), &batch.chosen);
            let dh: Tensor<2> = Tensor::empty(h.dims(), &self.device);
            let stats = self
                .loss(&batch, &h.clone().inner(), Some(&dh), objective, None)
                .await?;
            let d = Student::back(&leaf, h, dh);
            self.student.backward(&entered, d, batch.rows);
            Ok(Self::shared_out(&batch, stats))
        })
        .await
    }

    /// Stats of the trained tokens of examples side by side; nothing is trained.
    pub async fn measure(&mut self, examples: &[Example<'_>], objective: &Objective) -> Result<Vec<Vec<Stats>>> {
        let gpu = self.gpu().clone();
        gpu.scoped(async || {
            let batch = self.batch(examples, objective, 0.0);
            let hidden = self.student.last(&batch.tokens, batch.rows, true);
            let h = self.student.headed(hidden, &batch.chosen);
            let stats = self.loss(&batch, &h, None, objective, None).await?;
            Ok(Self::shared_out(&batch, stats))
        })
        .await
    }

    /// KL(student as it was || student as it is) at the trained tokens of examples side by side, in nats.
    pub async fn away_from_base(&mut self, examples: &[Example<'_>]) -> Result<Vec<Vec<Stats>>> {
        let gpu = self.gpu().clone();
        gpu.scoped(async || {
            let objective = Objective {
                ce: 0.0,
                ..Objective::default()
            };
            let mut batch = self.batch(examples, &objective, 0.0);
            batch.marks.iter_mut().for_each(|mark| mark.count = 1);
            let base = self.student.last(&batch.tokens, batch.rows, false);
            let base = self.student.headed(base, &batch.chosen);
            let hidden = self.student.last(&batch.tokens, batch.rows, true);
            let h = self.student.headed(hidden, &batch.chosen);
            let stats = self.loss(&batch, &h, None, &objective, Some(&base)).await?;
            Ok(Self::shared_out(&batch, stats))
        })
        .await
    }

    /// Logits `(T, V)` after each token; `on`: with what was learned.
    pub async fn logits(&mut self, tokens: &[u32], on: bool) -> Result<Vec<f32>> {
        let gpu = self.gpu().clone();
        gpu.scoped(async || {
            let rows = Rows {
                examples: 1,
                positions: bucket(tokens.len()),
            };
            let mut padded = tokens.to_vec();
            padded.resize(rows.count(), 0);
            let hidden = self.student.last(&padded, rows, on);
            let chosen: Vec<usize> = (0..tokens.len()).collect();
            let h = self.student.headed(hidden, &chosen);
            self.gpu().check()?;
            let h = primitive(&h);
            let crossing = crossing(&h.client, [&h.handle]);
            self.training().head_logits(&crossing.views[0], tokens.len()).await
        })
        .await
    }

    /// Gradients back to zero.
    pub fn zero(&mut self) {
        self.training().zero();
    }

    /// One step of the optimizer; the length of the gradient before it was clipped. A step whose gradient is not finite
    /// changes nothing.
    pub async fn step(&mut self, adam: &AdamW) -> Result<f32> {
        let norm = self.training().gradient_norm().await?;
        if norm.is_finite() {
            self.steps += 1;
            self.training().adam(&adam.step(self.steps, norm));
        }
        Ok(norm)
    }

    /// Steps that changed something.
    pub fn steps(&self) -> usize {
        self.steps as usize
    }

    /// The pairs, or what is kept of each of their numbers.
    pub async fn read(&self, which: Memory) -> Result<Vec<Pair>> {
        self.training().read(which).await
    }

    /// Puts pairs in the place of those that are trained, in their order.
    pub fn set_pairs(&mut self, pairs: &[Pair]) {
        let halves: Vec<(&[f32], &[f32])> = pairs.iter().map(|p| (p.a.as_slice(), p.b.as_slice())).collect();
        self.training().write(Memory::Values, &halves);
    }

    /// What was trained, as an adapter.
    pub async fn adapter(&self) -> Result<Adapter> {
        Ok(Adapter {
            architecture: self.training().plan().config.architecture.name().to_owned(),
            alpha: self.shape.alpha,
            metadata: Metadata::default(),
            pairs: self.read(Memory::Values).await?,
        })
    }

    /// The pairs and the optimizer's memory, by name: as [`crate::cpu::trainer::Trainer::state`] has them.
    pub async fn state(&self) -> Result<Vec<(String, Vec<f32>)>> {
        let values = self.read(Memory::Values).await?;
        let means = self.read(Memory::Means).await?;
        let squares = self.read(Memory::Squares).await?;
        let mut all = Vec::new();
        for ((value, mean), square) in values.into_iter().zip(means).zip(squares) {
            let base = value.base;
            all.push((format!("{base}.a"), value.a));
            all.push((format!("{base}.a.mean"), mean.a));
            all.push((format!("{base}.a.square"), square.a));
            all.push((format!("{base}.b"), value.b));
            all.push((format!("{base}.b.mean"), mean.b));
            all.push((format!("{base}.b.square"), square.b));
        }
        Ok(all)
    }

    /// Takes a state back, after `steps` steps that changed something. `false`, and nothing is changed, where names or
    /// sizes differ.
    pub fn set_state(&mut self, state: &HashMap<String, Vec<f32>>, steps: usize) -> bool {
        let names = self.training().names().to_vec();
        let half = |base: &str, half: &str, what: &str| state.get(&format!("{base}.{half}{what}"));
        let rank = self.shape.rank;
        let fits = |named: &Named, what: &str| {
            half(&named.target.base, "a", what).is_some_and(|v| v.len() == rank * named.target.columns)
                && half(&named.target.base, "b", what).is_some_and(|v| v.len() == rank * named.target.rows)
        };
        let kinds = [
            ("", Memory::Values),
            (".mean", Memory::Means),
            (".square", Memory::Squares),
        ];
        let all_fit = names
            .iter()
            .all(|named| kinds.iter().all(|(what, _)| fits(named, what)));
        if state.len() != 6 * names.len() || !all_fit {
            return false;
        }
        for (what, memory) in kinds {
            let halves: Vec<(&[f32], &[f32])> = names
                .iter()
                .filter_map(|named| {
                    let (a, b) = (
                        half(&named.target.base, "a", what)?,
                        half(&named.target.base, "b", what)?,
                    );
                    Some((a.as_slice(), b.as_slice()))
                })
                .collect();
            self.training().write(memory, &halves);
        }
        self.steps = steps as i32;
        true
    }
}
