//! A training from the first step to the adapter: what is taught, measured, kept and continued.
//!
//! A session owns the trainer and the lessons. It goes step by step at the caller's pace, so that a worker can pause, stop
//! or keep a checkpoint between any two steps; a session that is continued from a checkpoint goes the same way as one that
//! was never interrupted.

use super::lesson::Lesson;
use super::schedule::{Order, Schedule, held_out};
use super::{Divergence, Objective};
use crate::cpu::loss::{Loss, Teacher};
use crate::cpu::trainer::{AdamW, Example, Shape, Trainer};
use crate::error::{Error, Result};
use crate::format::adapter::Adapter;
use crate::format::gguf::Value;
use crate::format::source::Source;
use crate::model::Plan;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What a person may set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Steps of the optimizer.
    pub steps: usize,
    /// Rows of a step.
    pub batch: usize,
    /// Largest step size.
    pub rate: f32,
    /// r.
    pub rank: usize,
    /// s = alpha / r.
    pub alpha: f32,
    /// Only the last so many layers; 0: all.
    pub layers: usize,
    /// Which of the seven matrices; empty: all.
    pub modules: Vec<String>,
    /// Weight of the teacher's words beside its probabilities.
    pub ce: f32,
    /// `forward-kl`, `reverse-kl`, `jsd` or `skew-kl`.
    pub divergence: String,
    /// beta of `jsd`, lambda of `skew-kl`.
    pub mix: f32,
    /// Longest gradient; 0: not clipped.
    pub clip: f32,
    /// Pull towards zero.
    pub decay: f32,
    /// Part of the rows that is only measured.
    pub hold_out: f64,
    /// Of the pairs' first numbers and the order of rows.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            steps: 60,
            batch: 8,
            rate: 3e-3,
            rank: 16,
            alpha: 32.0,
            layers: 0,
            modules: Vec::new(),
            ce: 0.3,
            divergence: "forward-kl".into(),
            mix: 0.5,
            clip: 1.0,
            decay: 0.0,
            hold_out: 0.1,
            seed: 1,
        }
    }
}

impl Settings {
    /// The loss. Errors: [`Error::Request`] for what is outside its range.
    pub fn objective(&self) -> Result<Objective> {
        let divergence = match self.divergence.as_str() {
            "forward-kl" => Divergence::ForwardKl,
            "reverse-kl" => Divergence::ReverseKl,
            "jsd" => Divergence::Jsd { beta: self.mix },
            "skew-kl" => Divergence::SkewKl { lambda: self.mix },
            other => {
                return Err(Error::Request {
                    what: format!("the divergence is forward-kl, reverse-kl, jsd or skew-kl, not '{other}'"),
                });
            }
        };
        let objective = Objective {
            ce: self.ce,
            divergence,
            ..Objective::default()
        };
        objective.check()?;
        Ok(objective)
    }

    fn check(&self) -> Result<()> {
        let range = |ok: bool, what: &str| {
            if ok {
                Ok(())
            } else {
                Err(Error::Request { what: what.into() })
            }
        };
        range(
            (1..=100_000).contains(&self.steps),
            "steps are a number from 1 to 100000",
        )?;
        range(
            (1..=1024).contains(&self.batch),
            "rows of a step are a number from 1 to 1024",
        )?;
        range(
            self.rate > 0.0 && self.rate <= 1.0,
            "the step size is above 0 and at most 1",
        )?;
        range(
            (0.0..=0.9).contains(&self.hold_out),
            "the part that is held out is from 0 to 0.9",
        )?;
        range(
            self.clip >= 0.0 && self.clip.is_finite(),
            "the longest gradient is 0 or more",
        )?;
        range(
            (0.0..=1.0).contains(&self.decay),
            "the pull towards zero is from 0 to 1",
        )
    }
}

/// What a checkpoint says beside its numbers.
#[derive(Serialize, Deserialize)]
struct State {
    settings: Settings,
    step: usize,
    care: f32,
    changes: usize,
    /// Of all rows in their order; as text, because JSON's numbers end at 2^53 for many readers.
    rows: String,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepReport {
    /// Its number, from 1.
    pub step: usize,
    /// How many there are.
    pub steps: usize,
    /// What was minimized, mean per trained token.
    pub loss: f64,
    /// Cross-entropy of the teacher's tokens, mean, in nats.
    pub ce: f64,
    /// Divergence from the teacher where it gave probabilities, mean, in nats; 0 where it gave none.
    pub divergence: f64,
    /// Step size.
    pub rate: f32,
    /// Length of the gradient before it was clipped.
    pub gradient: f32,
    /// Tokens that were run.
    pub tokens: usize,
    /// Tokens that were trained.
    pub trained: usize,
    /// Passes over the rows that were begun.
    pub passes: u64,
    /// The gradient was not finite: nothing was changed, and the step size is halved from here on.
    pub skipped: bool,
}

/// How well the student does on rows that it is not taught.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Measure {
    /// Rows.
    pub rows: usize,
    /// Trained tokens in them.
    pub tokens: usize,
    /// Cross-entropy, mean per token, in nats.
    pub ce: f64,
    /// How often the likeliest token is the teacher's.
    pub top1: f64,
    /// Mean cross-entropy of each row: two of these lists, row by row, tell gain from noise.
    pub per_row: Vec<f64>,
}

/// A training.
pub struct Session {
    trainer: Trainer,
    settings: Settings,
    objective: Objective,
    schedule: Schedule,
    order: Order,
    taught: Vec<Lesson>,
    apart: Vec<Lesson>,
    step: usize,
    /// Factor on the step size: halved by each step that had to be skipped.
    care: f32,
}

impl Session {
    /// Reads the frozen weights and sorts the lessons: those held out are measured only.
    ///
    /// Errors: settings outside their ranges, no lesson to teach from, what the source cannot read.
    pub async fn new<S: Source>(plan: Plan, source: &S, lessons: Vec<Lesson>, settings: Settings) -> Result<Self> {
        settings.check()?;
        let objective = settings.objective()?;
        let (mut apart, mut taught): (Vec<_>, Vec<_>) = lessons
            .into_iter()
            .partition(|l| held_out(l.fingerprint, settings.hold_out));
        // Few rows may all fall on one side; something is needed to teach from, and something to measure by.
        if taught.is_empty() && apart.len() > 1 {
            taught = apart.split_off(apart.len() / 2);
        }
        if apart.is_empty() && taught.len() > 3 && settings.hold_out > 0.0 {
            apart.extend(taught.pop());
        }
        if taught.is_empty() {
            return Err(Error::Request {
                what: "there is no row to teach from".into(),
            });
        }
        let longest = taught.iter().chain(&apart).map(|l| l.tokens.len()).max().unwrap_or(1);
        let shape = Shape {
            rank: settings.rank,
            alpha: settings.alpha,
            last_layers: (settings.layers > 0).then_some(settings.layers),
            modules: settings.modules.clone(),
        };
        Ok(Self {
            trainer: Trainer::new(plan, source, longest, &shape, settings.seed).await?,
            schedule: Schedule::new(settings.rate, settings.steps),
            order: Order::new(taught.len(), settings.seed),
            objective,
            settings,
            taught,
            apart,
            step: 0,
            care: 1.0,
        })
    }

    /// Steps that were done.
    pub fn done(&self) -> usize {
        self.step
    }

    /// Whether all steps were done.
    pub fn is_finished(&self) -> bool {
        self.step >= self.settings.steps
    }

    /// Rows to teach from, and rows that are only measured.
    pub fn rows(&self) -> (usize, usize) {
        (self.taught.len(), self.apart.len())
    }

    /// What was set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Rows of the next step.
    fn batch(&mut self) -> Vec<usize> {
        let count = self.settings.batch.min(self.taught.len().max(1) * 4);
        self.order.by_ref().take(count).collect()
    }

    /// The next step; `None` when all were done.
    pub fn advance(&mut self) -> Option<StepReport> {
        if self.is_finished() {
            return None;
        }
        let rows = self.batch();
        let trained: usize = rows.iter().map(|i| self.taught[*i].trained()).sum();
        let tokens = rows.iter().map(|i| self.taught[*i].tokens.len()).sum();
        self.trainer.zero();
        let mut sum = Loss::default();
        for i in &rows {
            let lesson = &self.taught[*i];
            let teachers = teachers(lesson);
            let one = self.trainer.accumulate(
                &example(lesson, &teachers),
                &self.objective,
                1.0 / trained.max(1) as f64,
            );
            sum.total += one.total;
            sum.ce += one.ce;
            sum.divergence += one.divergence;
        }
        let rate = self.care * self.schedule.rate(self.step);
        let adam = AdamW {
            rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            decay: self.settings.decay,
            clip: (self.settings.clip > 0.0).then_some(self.settings.clip),
        };
        let gradient = self.trainer.step(&adam);
        let skipped = !gradient.is_finite();
        if skipped {
            self.care *= 0.5;
        }
        self.step += 1;
        let n = trained.max(1) as f64;
        Some(StepReport {
            step: self.step,
            steps: self.settings.steps,
            loss: sum.total / n,
            ce: sum.ce / n,
            divergence: sum.divergence / n,
            rate,
            gradient,
            tokens,
            trained,
            passes: self.order.passes(),
            skipped,
        })
    }

    /// Measures the rows that are held out, as the student is now.
    pub fn measure(&self) -> Measure {
        let mut measure = Measure::default();
        let (mut sum, mut right) = (0.0, 0);
        for lesson in &self.apart {
            let logits = self.trainer.logits(&lesson.tokens);
            let width = logits.len() / lesson.tokens.len();
            let (mut row_sum, mut count) = (0.0, 0);
            for (t, target) in lesson.targets.iter().enumerate() {
                let Some(target) = target else { continue };
                let row = &logits[t * width..(t + 1) * width];
                let most = row.iter().copied().fold(f32::MIN, f32::max);
                let total: f64 = row.iter().map(|v| f64::from(v - most).exp()).sum();
                row_sum += total.ln() - f64::from(row[*target as usize] - most);
                right += usize::from(row[*target as usize] == most);
                count += 1;
            }
            measure.per_row.push(row_sum / f64::from(count.max(1)));
            measure.tokens += count as usize;
            sum += row_sum;
        }
        measure.rows = self.apart.len();
        measure.ce = sum / measure.tokens.max(1) as f64;
        measure.top1 = right as f64 / measure.tokens.max(1) as f64;
        measure
    }

    /// What was trained, with what is known of it as metadata.
    pub fn adapter(&self, name: &str, base: Option<&str>, teacher: Option<&str>) -> Adapter {
        let mut adapter = self.trainer.adapter();
        let mut set = |key: &str, value: Value| {
            adapter.metadata.insert(key, value);
        };
        set("general.name", Value::String(name.into()));
        if let Some(base) = base {
            set("general.base_model.count", Value::U32(1));
            set("general.base_model.0.name", Value::String(base.into()));
        }
        if let Some(teacher) = teacher {
            set("understudy.provenance.teacher", Value::String(teacher.into()));
        }
        set("understudy.training.steps", Value::U32(self.step as u32));
        set("understudy.training.rows", Value::U32(self.taught.len() as u32));
        set(
            "understudy.training.settings",
            Value::String(serde_json::to_string(&self.settings).unwrap_or_default()),
        );
        adapter
    }

    /// Everything that a later session needs to go on from here, as a safetensors file.
    pub fn checkpoint(&self) -> Vec<u8> {
        let state = self.trainer.state();
        let bytes: Vec<(String, Vec<u8>)> = state
            .iter()
            .map(|(name, values)| (name.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let views = bytes.iter().map(|(name, bytes)| {
            let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes).expect("the length is the bytes'");
            (name.as_str(), view)
        });
        let state = State {
            settings: self.settings.clone(),
            step: self.step,
            care: self.care,
            changes: self.trainer.steps(),
            rows: self.fingerprint().to_string(),
        };
        // One key: several would be written in an order that changes from run to run.
        let about = HashMap::from([("training".to_owned(), serde_json::to_string(&state).unwrap_or_default())]);
        safetensors::serialize(views, Some(about)).expect("the names differ")
    }

    /// Goes on from a checkpoint of the same student, rows and settings.
    ///
    /// Errors: [`Error::Malformed`] for bytes that are no checkpoint, [`Error::Request`] for one of another training. The
    /// session is as before then.
    pub fn resume(&mut self, checkpoint: &[u8]) -> Result<()> {
        let broken = |what: &str| Error::malformed(format!("the checkpoint {what}"));
        let (_, head) = SafeTensors::read_metadata(checkpoint).map_err(|e| broken(&format!("cannot be read: {e}")))?;
        let file = SafeTensors::deserialize(checkpoint).map_err(|e| broken(&format!("cannot be read: {e}")))?;
        let about = head.metadata().as_ref().and_then(|about| about.get("training"));
        let about = about.ok_or_else(|| broken("says nothing of its training"))?;
        let State {
            settings,
            step,
            care,
            changes,
            rows,
        } = serde_json::from_str(about).map_err(|_| broken("says things of its training that cannot be read"))?;
        if settings != self.settings || rows != self.fingerprint().to_string() {
            return Err(Error::Request {
                what: "the checkpoint is of other rows or settings".into(),
            });
        }
        if step > self.settings.steps || changes > step || !(care > 0.0 && care <= 1.0) {
            return Err(broken("counts steps that there are not"));
        }
        let mut state = HashMap::new();
        for (name, tensor) in file.tensors() {
            if tensor.dtype() != Dtype::F32 {
                return Err(broken("holds other numbers"));
            }
            let values: Vec<f32> = tensor
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            state.insert(name, values);
        }
        if !self.trainer.set_state(&state, changes) {
            return Err(Error::Request {
                what: "the checkpoint is of another student".into(),
            });
        }
        self.step = step;
        self.care = care;
        self.order = Order::new(self.taught.len(), self.settings.seed);
        for _ in 0..step {
            self.batch();
        }
        Ok(())
    }

    /// A number of all rows in their order.
    fn fingerprint(&self) -> u64 {
        self.taught
            .iter()
            .chain(&self.apart)
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, lesson| {
                (hash ^ lesson.fingerprint).wrapping_mul(0x0100_0000_01b3)
            })
    }
}

/// What the teacher left for each position of a lesson.
fn teachers(lesson: &Lesson) -> Vec<Teacher<'_>> {
    let mut list = Vec::with_capacity(lesson.soft.len());
    for soft in &lesson.soft {
        list.push(match soft {
            Some((ids, logprobs)) => Teacher::Sparse { ids, logprobs },
            None => Teacher::Text,
        });
    }
    list
}

fn example<'a>(lesson: &'a Lesson, teachers: &'a [Teacher<'a>]) -> Example<'a> {
    Example {
        tokens: &lesson.tokens,
        targets: &lesson.targets,
        teachers,
    }
}

/// The mean of the differences of two lists, and the interval that holds it with 95 % by drawing rows again
/// (Efron, "Bootstrap methods", 1979): where it spans 0, the difference is within noise.
pub fn paired_interval(before: &[f64], after: &[f64], seed: u64) -> Option<(f64, f64, f64)> {
    let n = before.len();
    if n == 0 || n != after.len() {
        return None;
    }
    let differences: Vec<f64> = before.iter().zip(after).map(|(b, a)| a - b).collect();
    let mean = |list: &mut dyn Iterator<Item = f64>| list.sum::<f64>() / n as f64;
    let mut state = seed;
    let mut draw = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        differences[((z ^ (z >> 31)) % n as u64) as usize]
    };
    let mut means: Vec<f64> = (0..2000).map(|_| mean(&mut (0..n).map(|_| draw()))).collect();
    means.sort_by(f64::total_cmp);
    Some((mean(&mut differences.iter().copied()), means[49], means[1949]))
}
