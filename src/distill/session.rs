//! A training from the first step to the adapter: what is taught, measured, kept and continued.
//!
//! A session owns the trainer and the lessons. It goes step by step at the caller's pace, so that a worker can pause, stop
//! or keep a checkpoint between any two steps; a session that is continued from a checkpoint goes the same way as one that
//! was never interrupted.

use super::lesson::Lesson;
use super::schedule::{Order, Schedule, held_out};
use super::trainer::{Stats, Trainer};
use super::{Divergence, Objective};
use crate::cpu::loss::Teacher;
use crate::cpu::trainer::{self as on_cpu, AdamW, Example, Shape};
use crate::error::{Error, Result};
use crate::format::adapter::Adapter;
use crate::format::gguf::Value;
use crate::format::source::Source;
use crate::model::Plan;
use crate::model::chance::Numbers;
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
    /// Sound settings for so many rows.
    pub fn sound(rows: usize) -> Self {
        let default = Self::default();
        let batch = default.batch.min(rows.max(1));
        Self {
            // Six passes: what counts is how often each row is seen (docs/LOG.md).
            steps: (6 * rows).div_ceil(batch).clamp(20, 400),
            batch,
            ..default
        }
    }

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

    /// Which pairs are trained.
    pub fn shape(&self) -> Shape {
        Shape {
            rank: self.rank,
            alpha: self.alpha,
            last_layers: (self.layers > 0).then_some(self.layers),
            modules: self.modules.clone(),
        }
    }

    /// Errors: [`Error::Request`] for numbers outside their ranges.
    pub fn check(&self) -> Result<()> {
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

fn broken(what: &str) -> Error {
    Error::malformed(format!("the checkpoint {what}"))
}

impl State {
    fn read(checkpoint: &[u8]) -> Result<Self> {
        let (_, head) = SafeTensors::read_metadata(checkpoint).map_err(|e| broken(&format!("cannot be read: {e}")))?;
        let about = head.metadata().as_ref().and_then(|about| about.get("training"));
        let about = about.ok_or_else(|| broken("says nothing of its training"))?;
        serde_json::from_str(about).map_err(|_| broken("says things of its training that cannot be read"))
    }
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
    /// Forward KL from the teacher where it left probabilities, mean per token, in nats.
    pub kl: Option<f64>,
    /// Mean cross-entropy of each row: two of these lists, row by row, tell gain from noise.
    pub per_row: Vec<f64>,
    /// Mean KL of each row that has one.
    pub kl_per_row: Vec<f64>,
}

/// Lessons sorted: what is taught, and what is only measured by.
#[derive(Debug, Clone, Default)]
pub struct Sorted {
    /// To teach from.
    pub taught: Vec<Lesson>,
    /// Held out.
    pub apart: Vec<Lesson>,
}

impl Sorted {
    /// Sorts by what rows say, so that the same row always falls on the same side.
    ///
    /// Errors: [`Error::Request`] where no lesson is left to teach from.
    pub fn new(lessons: Vec<Lesson>, part: f64) -> Result<Self> {
        let (mut apart, mut taught): (Vec<_>, Vec<_>) =
            lessons.into_iter().partition(|l| held_out(l.fingerprint, part));
        // Few rows may all fall on one side; something is needed to teach from, and something to measure by.
        if taught.is_empty() && apart.len() > 1 {
            taught = apart.split_off(apart.len() / 2);
        }
        if apart.is_empty() && taught.len() > 3 && part > 0.0 {
            apart.extend(taught.pop());
        }
        if taught.is_empty() {
            return Err(Error::Request {
                what: "there is no row to teach from".into(),
            });
        }
        Ok(Self { taught, apart })
    }

    fn all(&self) -> impl Iterator<Item = &Lesson> {
        self.taught.iter().chain(&self.apart)
    }

    /// Tokens of the longest row.
    pub fn longest(&self) -> usize {
        self.all().map(|l| l.tokens.len()).max().unwrap_or(1)
    }

    /// The most tokens that the teacher names in one place.
    pub fn named(&self) -> usize {
        let soft = self.all().flat_map(|l| l.soft.iter().flatten());
        soft.map(|(ids, _)| ids.len()).max().unwrap_or(0)
    }

    /// A number of all rows in their order.
    fn fingerprint(&self) -> u64 {
        self.all().fold(0xcbf2_9ce4_8422_2325, |hash: u64, lesson| {
            (hash ^ lesson.fingerprint).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// A training.
pub struct Session {
    trainer: Trainer,
    settings: Settings,
    objective: Objective,
    schedule: Schedule,
    order: Order,
    lessons: Sorted,
    step: usize,
    /// Factor on the step size: halved by each step that had to be skipped.
    care: f32,
}

impl Session {
    /// A training on the CPU: reads the frozen weights and sorts the lessons.
    ///
    /// Errors: settings outside their ranges, no lesson to teach from, what the source cannot read.
    pub async fn new<S: Source>(plan: Plan, source: &S, lessons: Vec<Lesson>, settings: Settings) -> Result<Self> {
        settings.check()?;
        let lessons = Sorted::new(lessons, settings.hold_out)?;
        let context = lessons.longest();
        let trainer = on_cpu::Trainer::new(plan, source, context, &settings.shape(), settings.seed).await?;
        Self::with(Trainer::Cpu(Box::new(trainer)), lessons, settings)
    }

    /// A training with a trainer that was made for these settings and lessons.
    ///
    /// Errors: settings outside their ranges.
    pub fn with(trainer: Trainer, lessons: Sorted, settings: Settings) -> Result<Self> {
        settings.check()?;
        Ok(Self {
            trainer,
            schedule: Schedule::new(settings.rate, settings.steps),
            order: Order::new(lessons.taught.len(), settings.seed),
            objective: settings.objective()?,
            settings,
            lessons,
            step: 0,
            care: 1.0,
        })
    }

    /// What computes it.
    pub fn trainer(&mut self) -> &mut Trainer {
        &mut self.trainer
    }

    /// What it teaches from, and what it is measured by.
    pub fn lessons(&self) -> &Sorted {
        &self.lessons
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
        (self.lessons.taught.len(), self.lessons.apart.len())
    }

    /// What was set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Rows of the next step.
    fn batch(&mut self) -> Vec<usize> {
        let count = self.settings.batch.min(self.lessons.taught.len().max(1) * 4);
        self.order.by_ref().take(count).collect()
    }

    /// The next step; `None` when all were done.
    ///
    /// Errors: a lost device; the session is worth nothing then but for its last checkpoint.
    pub async fn advance(&mut self) -> Result<Option<StepReport>> {
        if self.is_finished() {
            return Ok(None);
        }
        let rows = self.batch();
        let lessons: Vec<&Lesson> = rows.iter().map(|i| &self.lessons.taught[*i]).collect();
        let trained: usize = lessons.iter().map(|lesson| lesson.trained()).sum();
        let tokens = lessons.iter().map(|lesson| lesson.tokens.len()).sum();
        self.trainer.zero();
        let weight = 1.0 / trained.max(1) as f64;
        let mut sum = Sum::default();
        let teachers: Vec<Vec<Teacher>> = lessons.iter().map(|lesson| teachers(lesson)).collect();
        let examples: Vec<Example> = lessons.iter().zip(&teachers).map(|(l, t)| example(l, t)).collect();
        for (row, stats) in self
            .trainer
            .accumulate(&examples, &self.objective, weight)
            .await?
            .iter()
            .enumerate()
        {
            sum.add(lessons[row], stats);
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
        let gradient = self.trainer.step(&adam).await?;
        let skipped = !gradient.is_finite();
        if skipped {
            self.care *= 0.5;
        }
        self.step += 1;
        Ok(Some(StepReport {
            step: self.step,
            steps: self.settings.steps,
            loss: sum.total / sum.tokens.max(1) as f64,
            ce: sum.ce / sum.tokens.max(1) as f64,
            divergence: sum.divergence / sum.soft.max(1) as f64,
            rate,
            gradient,
            tokens,
            trained,
            passes: self.order.passes(),
            skipped,
        }))
    }

    /// A step on the shortest rows that changes nothing: what is compiled and allocated once is then there.
    ///
    /// Errors: as [`Session::advance`].
    pub async fn warm_up(&mut self) -> Result<()> {
        let mut rows: Vec<&Lesson> = self.lessons.taught.iter().collect();
        rows.sort_by_key(|lesson| lesson.tokens.len());
        rows.truncate(2);
        let teachers: Vec<Vec<Teacher>> = rows.iter().map(|lesson| teachers(lesson)).collect();
        let examples: Vec<Example> = rows.iter().zip(&teachers).map(|(l, t)| example(l, t)).collect();
        self.trainer.accumulate(&examples, &self.objective, 0.0).await?;
        self.trainer.zero();
        Ok(())
    }

    /// Measures the rows that are held out, as the student is now.
    pub async fn measure(&mut self) -> Result<Measure> {
        measure(&mut self.trainer, &self.lessons.apart).await
    }

    /// Measures other rows.
    pub async fn measure_rows(&mut self, lessons: &[Lesson]) -> Result<Measure> {
        measure(&mut self.trainer, lessons).await
    }

    /// KL(student as it was || student as it is) of some rows, mean per token, in nats.
    pub async fn away_from_base(&mut self, lessons: &[Lesson]) -> Result<f64> {
        let teachers: Vec<Vec<Teacher>> = lessons.iter().map(teachers).collect();
        let examples: Vec<Example> = lessons.iter().zip(&teachers).map(|(l, t)| example(l, t)).collect();
        let stats = self.trainer.away_from_base(&examples).await?;
        let all: Vec<f64> = stats.iter().flatten().map(|s| f64::from(s[2])).collect();
        Ok(all.iter().sum::<f64>() / all.len().max(1) as f64)
    }

    /// What was trained, with what is known of it as metadata.
    pub async fn adapter(&self, name: &str, base: Option<&str>, teacher: Option<&str>) -> Result<Adapter> {
        let mut adapter = self.trainer.adapter().await?;
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
        set("understudy.training.rows", Value::U32(self.lessons.taught.len() as u32));
        set(
            "understudy.training.settings",
            Value::String(serde_json::to_string(&self.settings).unwrap_or_default()),
        );
        Ok(adapter)
    }

    /// Everything that a later session needs to go on from here, as a safetensors file.
    pub async fn checkpoint(&self) -> Result<Vec<u8>> {
        let state = self.trainer.state().await?;
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
            rows: self.lessons.fingerprint().to_string(),
        };
        // One key: several would be written in an order that changes from run to run.
        let about = HashMap::from([("training".to_owned(), serde_json::to_string(&state).unwrap_or_default())]);
        Ok(safetensors::serialize(views, Some(about)).expect("the names differ"))
    }

    /// Goes on from a checkpoint of the same student, rows and settings.
    ///
    /// Errors: [`Error::Malformed`] for bytes that are no checkpoint, [`Error::Request`] for one of another training. The
    /// session is as before then.
    pub fn resume(&mut self, checkpoint: &[u8]) -> Result<()> {
        let file = SafeTensors::deserialize(checkpoint).map_err(|e| broken(&format!("cannot be read: {e}")))?;
        let State {
            settings,
            step,
            care,
            changes,
            rows,
        } = State::read(checkpoint)?;
        if settings != self.settings || rows != self.lessons.fingerprint().to_string() {
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
        self.order = Order::new(self.lessons.taught.len(), self.settings.seed);
        for _ in 0..step {
            self.batch();
        }
        Ok(())
    }
}

/// What a checkpoint is of: its settings, and the steps that were done.
///
/// Errors: [`Error::Malformed`] for bytes that are no checkpoint.
pub fn checkpoint_settings(checkpoint: &[u8]) -> Result<(Settings, usize)> {
    let state = State::read(checkpoint)?;
    Ok((state.settings, state.step))
}

/// Sums over trained tokens.
#[derive(Default)]
struct Sum {
    total: f64,
    ce: f64,
    divergence: f64,
    tokens: usize,
    soft: usize,
    top: usize,
}

impl Sum {
    fn add(&mut self, lesson: &Lesson, stats: &[Stats]) {
        let soft = lesson
            .targets
            .iter()
            .zip(&lesson.soft)
            .filter(|(target, _)| target.is_some());
        for ((_, soft), [total, ce, divergence, top]) in soft.zip(stats) {
            self.total += f64::from(*total);
            self.ce += f64::from(*ce);
            self.tokens += 1;
            self.top += usize::from(*top == 1.0);
            if soft.is_some() {
                self.divergence += f64::from(*divergence);
                self.soft += 1;
            }
        }
    }
}

async fn measure(trainer: &mut Trainer, lessons: &[Lesson]) -> Result<Measure> {
    // Whatever is trained, rows are measured by cross-entropy and forward KL.
    let objective = Objective::default();
    let teachers: Vec<Vec<Teacher>> = lessons.iter().map(teachers).collect();
    let examples: Vec<Example> = lessons.iter().zip(&teachers).map(|(l, t)| example(l, t)).collect();
    let (mut measure, mut whole) = (Measure::default(), Sum::default());
    for (lesson, stats) in lessons.iter().zip(trainer.measure(&examples, &objective).await?) {
        let mut row = Sum::default();
        row.add(lesson, &stats);
        whole.add(lesson, &stats);
        measure.per_row.push(row.ce / row.tokens.max(1) as f64);
        if row.soft > 0 {
            measure.kl_per_row.push(row.divergence / row.soft as f64);
        }
    }
    measure.rows = lessons.len();
    measure.tokens = whole.tokens;
    measure.ce = whole.ce / whole.tokens.max(1) as f64;
    measure.top1 = whole.top as f64 / whole.tokens.max(1) as f64;
    measure.kl = (whole.soft > 0).then(|| whole.divergence / whole.soft as f64);
    Ok(measure)
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
    let mut numbers = Numbers(seed);
    let mut draw = || differences[numbers.below(n)];
    let mut means: Vec<f64> = (0..2000).map(|_| mean(&mut (0..n).map(|_| draw()))).collect();
    means.sort_by(f64::total_cmp);
    Some((mean(&mut differences.iter().copied()), means[49], means[1949]))
}
