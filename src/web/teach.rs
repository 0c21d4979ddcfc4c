//! The facade of the teach worker: traces in, steps and reports out. Built with the feature `teach` alone.

mod words;

use super::{CreateOptions, JsSource, Working, device_words, from_js, meet, now, pause, to_js};
use crate::cpu::trainer as on_cpu;
use crate::distill::gpu::GpuTrainer;
use crate::distill::lesson::{Lesson, Reasoning};
use crate::distill::reading::{Read, Reading};
use crate::distill::room::Needs;
use crate::distill::schedule::held_out;
use crate::distill::session::{Measure, Session, Settings, Sorted, StepReport, checkpoint_settings, paired_interval};
use crate::distill::student::share;
use crate::distill::trainer::Trainer;
use crate::error::{Error, Result};
use crate::format::adapter::{Adapter, Base};
use crate::format::gguf::Value;
use crate::format::provenance::Provenance;
use crate::format::source::Source;
use crate::gpu::Gpu;
use crate::gpu::training::Room;
use crate::student::Header;
use crate::text::template::Message;
use burn::tensor::Device;
use js_sys::{Function, Object, Reflect, Uint8Array};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use wasm_bindgen::prelude::*;
use words::{
    About, BeginOptions, Change, FileWords, Forgetting, HeldOut, Origin, Piece, PlanWords, Prepared, Preview, Question,
    ReportWords, StepWords, StudentThinks, StudentWords, Verdict,
};

type Answer = std::result::Result<JsValue, JsValue>;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// What Burn registers in static constructors must be registered once, and by somebody: a linker that sees nobody do it
/// runs all of them again on each exported call.
#[wasm_bindgen(start)]
pub fn start() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Ordering::Relaxed) {
        // Safety: the linker makes this function, it takes nothing, and it is called once.
        unsafe { __wasm_call_ctors() };
    }
}

/// Tokens of a row in memory and time that are never exceeded, whatever the student's context.
const LONGEST: usize = 1024;
/// Bytes of GPU memory that are assumed where training runs on the CPU.
const CPU_BYTES: u64 = 2 << 30;
/// Alternatives of a token that are shown.
const SHOWN: usize = 5;

/// A training under way.
struct Course {
    session: Session,
    before: Measure,
    generic: Vec<Lesson>,
    generic_before: Measure,
    reports: Vec<StepReport>,
}

/// The open student.
struct Open {
    source: JsSource,
    header: Header,
    reading: Option<Reading>,
    read: Option<Read>,
    course: Option<Course>,
}

/// The teacher's side of the page: one device, at most one student, one training at a time.
#[wasm_bindgen]
pub struct Teacher {
    gpu: Option<Gpu>,
    /// Burn's name for the device.
    device: RefCell<Option<Device>>,
    notes: Vec<String>,
    open: RefCell<Option<Open>>,
    working: Cell<bool>,
}

fn nothing_read() -> Error {
    Error::Request {
        what: "no traces were read yet".into(),
    }
}

fn nothing_prepared() -> Error {
    Error::Request {
        what: "no training was prepared yet".into(),
    }
}

fn change(before: &[f64], after: &[f64]) -> (Option<Change>, bool) {
    match paired_interval(before, after, 1) {
        // One row tells nothing of others.
        Some((mean, low, high)) if before.len() > 1 => (Some(Change { mean, low, high }), low <= 0.0 && high >= 0.0),
        _ => (None, true),
    }
}

impl Open {
    fn read(&self) -> Result<&Read> {
        self.read.as_ref().ok_or_else(nothing_read)
    }

    fn course(&mut self) -> Result<&mut Course> {
        self.course.as_mut().ok_or_else(nothing_prepared)
    }

    fn longest(&self) -> usize {
        self.header.plan.config.context.min(LONGEST)
    }

    /// Lessons of chats that are not traces.
    fn lessons_of(&self, chats: &[Vec<Message>]) -> Result<Vec<Lesson>> {
        let mut reading = Reading::new(&self.header, self.longest(), Reasoning::Keep);
        for chat in chats {
            let mut line = json!({ "messages": chat }).to_string();
            line.push('\n');
            reading.push(&self.header, line.as_bytes())?;
        }
        reading.end_file(&self.header, "")?;
        Ok(reading.finish().lessons)
    }

    fn preview(&self, row: usize, part: f64, logits: Option<&[f32]>) -> Answer {
        let read = self.read()?;
        let lesson = read.lessons.get(row).ok_or_else(|| Error::Request {
            what: format!("there is no row {row}"),
        })?;
        let tokenizer = &self.header.tokenizer;
        let word = |id: u32| String::from_utf8_lossy(tokenizer.piece(id)).into_owned();
        let width = logits.map_or(0, |all| all.len() / lesson.tokens.len().max(1));
        let mut pieces = Vec::with_capacity(lesson.tokens.len());
        for (t, span) in lesson.spans.iter().enumerate() {
            let known = t.checked_sub(1).filter(|at| lesson.targets[*at].is_some());
            let soft = known.and_then(|at| lesson.soft[at].as_ref());
            let p = soft.and_then(|(ids, logprobs)| {
                let at = ids.iter().position(|id| *id == lesson.tokens[t])?;
                Some(f64::from(logprobs[at]).exp())
            });
            let top = soft.map(|(ids, logprobs)| best(ids.iter().copied().zip(logprobs.iter().copied()), word));
            let student = known.zip(logits).map(|(at, all)| {
                let row = &all[at * width..(at + 1) * width];
                let most = row.iter().copied().fold(f32::MIN, f32::max);
                let sum: f64 = row.iter().map(|z| f64::from(z - most).exp()).sum();
                let whole = most + sum.ln() as f32;
                StudentThinks {
                    p: f64::from(row[lesson.tokens[t] as usize] - whole).exp(),
                    top: best((0..).zip(row.iter().map(|z| z - whole)), word),
                }
            });
            let text = lesson.text.get(span.clone()).unwrap_or_default();
            pieces.push(Piece {
                // A token may end inside a letter: the text of its bytes is shown with the next one.
                text,
                trained: known.is_some(),
                p,
                top,
                student,
            });
        }
        Ok(to_js(&Preview {
            origin: Origin {
                file: lesson.origin.0,
                line: lesson.origin.1,
            },
            held_out: held_out(lesson.fingerprint, part),
            pieces,
        })?)
    }
}

/// The likeliest tokens with their probabilities.
fn best(all: impl Iterator<Item = (u32, f32)>, word: impl Fn(u32) -> String) -> Vec<(String, f64)> {
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(SHOWN + 1);
    for (id, logprob) in all {
        if top.len() < SHOWN || top.last().is_some_and(|last| logprob > last.1) {
            let at = top.partition_point(|known| known.1 >= logprob);
            top.insert(at, (id, logprob));
            top.truncate(SHOWN);
        }
    }
    top.into_iter()
        .map(|(id, logprob)| (word(id), f64::from(logprob).exp()))
        .collect()
}

#[wasm_bindgen]
impl Teacher {
    /// Meets the device: WebGPU whose kernels answer as known, else the CPU. An adapter in software is passed over, unless
    /// `gpu` is "on".
    pub async fn create(options: JsValue) -> std::result::Result<Teacher, JsValue> {
        let options: CreateOptions = from_js(options)?;
        let mut notes = Vec::new();
        let forced = options.gpu.as_deref() == Some("on");
        let gpu = meet(&options, true, &mut notes).await.filter(|gpu| {
            let slower = gpu.is_software() && !forced;
            if slower {
                notes.push(
                    "The adapter computes on the CPU itself: the CPU engine teaches several times as fast.".into(),
                );
            }
            !slower
        });
        Ok(Self {
            gpu,
            device: RefCell::new(None),
            notes,
            open: RefCell::new(None),
            working: Cell::new(false),
        })
    }

    /// The device in words and numbers.
    pub fn device(&self) -> Answer {
        Ok(to_js(&device_words(self.gpu.as_ref(), &self.notes))?)
    }

    /// Whether the device is lost.
    #[wasm_bindgen(js_name = deviceLost)]
    pub fn device_lost(&self) -> bool {
        self.gpu.as_ref().is_some_and(|gpu| gpu.lost().is_some())
    }

    /// Loses the device on purpose, to test what follows.
    #[wasm_bindgen(js_name = destroyDevice)]
    pub fn destroy_device(&self) {
        if let Some(gpu) = &self.gpu {
            gpu.destroy();
        }
    }

    /// Takes what is open out for a call that waits, and puts it back whatever happens.
    async fn with<T>(&self, work: impl AsyncFnOnce(&mut Open) -> Result<T>) -> Result<T> {
        let _working = Working::begin(&self.working)?;
        if let Some(gpu) = &self.gpu {
            gpu.check()?;
        }
        let mut open = self.open.borrow_mut().take().ok_or(Error::NoStudent)?;
        let result = work(&mut open).await;
        *self.open.borrow_mut() = Some(open);
        result
    }

    fn now_with<T>(&self, work: impl FnOnce(&mut Open) -> Result<T>) -> Result<T> {
        let _working = Working::begin(&self.working)?;
        let mut open = self.open.try_borrow_mut().map_err(|_| Error::Busy)?;
        work(open.as_mut().ok_or(Error::NoStudent)?)
    }

    /// Opens a student's file: its header alone; weights are read when a training is prepared. `context`: the positions that it
    /// answers with; by default those that it was trained with.
    pub async fn open(&self, read: Function, size: f64, context: Option<u32>) -> Answer {
        let source = JsSource {
            read,
            size: size as u64,
        };
        let mut header = Header::read(&source, self.gpu.as_ref(), Some(256)).await?;
        let context = context.map_or(header.plan.config.context, |n| n as usize);
        header.plan.settle_factors(context);
        let words = StudentWords {
            name: Provenance::from_metadata(&header.gguf.metadata).name,
            architecture: header.plan.config.architecture.name(),
            parameters: header.plan.parameters() as f64,
            layers: header.plan.config.layers,
            context_trained: header.plan.config.context,
        };
        let _working = Working::begin(&self.working)?;
        *self.open.borrow_mut() = Some(Open {
            source,
            header,
            reading: None,
            read: None,
            course: None,
        });
        Ok(to_js(&words)?)
    }

    /// Begins to read traces; what was read before is forgotten.
    pub fn begin(&self, options: JsValue) -> std::result::Result<(), JsValue> {
        let options: BeginOptions = from_js(options)?;
        let reasoning = match &options.reasoning {
            Some(words) => words.read()?,
            None => Reasoning::Keep,
        };
        Ok(self.now_with(|open| {
            let longest = options
                .longest
                .map_or(LONGEST, |n| n as usize)
                .clamp(16, open.longest());
            open.read = None;
            open.reading = Some(Reading::new(&open.header, longest, reasoning));
            Ok(())
        })?)
    }

    /// The next bytes of the file at hand.
    pub fn push(&self, bytes: &[u8]) -> std::result::Result<(), JsValue> {
        Ok(self.now_with(|open| {
            let reading = open.reading.as_mut().ok_or_else(nothing_read)?;
            reading.push(&open.header, bytes)
        })?)
    }

    /// The file at hand has come to its end.
    #[wasm_bindgen(js_name = endFile)]
    pub fn end_file(&self, name: &str) -> std::result::Result<(), JsValue> {
        Ok(self.now_with(|open| {
            let reading = open.reading.as_mut().ok_or_else(nothing_read)?;
            reading.end_file(&open.header, name)
        })?)
    }

    /// All files were read: what was understood of them.
    pub fn finish(&self) -> Answer {
        let words = self.now_with(|open| {
            let read = open.reading.take().ok_or_else(nothing_read)?.finish();
            let words = report_words(&read)?;
            open.read = Some(read);
            Ok(words)
        })?;
        Ok(words)
    }

    /// A row as it is taught.
    pub fn preview(&self, row: usize) -> Answer {
        let _working = Working::begin(&self.working)?;
        let open = self.open.borrow();
        let open = open.as_ref().ok_or(Error::NoStudent)?;
        open.preview(row, Settings::default().hold_out, None)
    }

    /// Sound settings for the student and the traces at hand.
    pub fn defaults(&self) -> Answer {
        let settings = self.now_with(|open| {
            let rows = open.read()?.lessons.len();
            Ok(Settings::sound(rows))
        })?;
        Ok(to_js(&settings)?)
    }

    fn available(&self) -> u64 {
        self.gpu.as_ref().map_or(CPU_BYTES, Gpu::available_bytes)
    }

    /// What a training with these settings takes.
    pub fn plan(&self, settings: JsValue) -> Answer {
        let settings: Settings = from_js(settings)?;
        settings.check()?;
        settings.shape().check()?;
        let words = self.now_with(|open| {
            let read = open.read()?;
            let sorted = Sorted::new(read.lessons.clone(), settings.hold_out)?;
            let needs = Needs::new(&open.header.plan, &settings, &sorted, self.available());
            let rows = sorted.taught.len().max(1);
            let mean = sorted.taught.iter().map(|l| l.tokens.len()).sum::<usize>() as f64 / rows as f64;
            Ok(PlanWords {
                fits: needs.fits(),
                words: needs.words(),
                suggestion: (!needs.fits()).then(|| needs.suggestion()),
                total_bytes: needs.total() as f64,
                available_bytes: needs.available as f64,
                micro_batch: needs.tokens / needs.longest,
                items: needs.items.iter().map(|(name, bytes)| (*name, *bytes as f64)).collect(),
                tokens_per_step: mean * settings.batch as f64,
                taught: sorted.taught.len(),
                apart: sorted.apart.len(),
            })
        })?;
        Ok(to_js(&words)?)
    }

    /// Uploads the frozen weights, makes what a step needs, and measures the student as it is: on rows that are held out,
    /// and on `generic` chats that the traces are not about.
    pub async fn prepare(&self, settings: JsValue, generic: JsValue, progress: Option<Function>) -> Answer {
        let settings: Settings = from_js(settings)?;
        let generic: Vec<Vec<Message>> = from_js(generic)?;
        settings.check()?;
        let tell = |loaded: u64, total: u64, phase: &str| -> Result<()> {
            let Some(function) = &progress else { return Ok(()) };
            let (loaded, total) = ((loaded as f64).into(), (total as f64).into());
            let stop = function.call3(&JsValue::NULL, &loaded, &total, &phase.into());
            if stop.is_ok_and(|stop| stop.is_truthy()) {
                return Err(Error::Aborted);
            }
            Ok(())
        };
        let words = self
            .with(async |open| {
                // What a training before this one holds goes first.
                open.course = None;
                let generic = open.lessons_of(&generic)?;
                let sorted = Sorted::new(open.read()?.lessons.clone(), settings.hold_out)?;
                let plan = open.header.plan.clone();
                let needs = Needs::new(&plan, &settings, &sorted, self.available());
                needs.check()?;
                let longest_generic = generic.iter().map(|l| l.tokens.len()).max().unwrap_or(0);
                let context = sorted.longest().max(longest_generic);
                let size = open.source.size();
                let trainer = match &self.gpu {
                    Some(gpu) => {
                        if self.device.borrow().is_none() {
                            *self.device.borrow_mut() = Some(share(gpu)?);
                        }
                        let device = self.device.borrow().clone().ok_or(Error::NoStudent)?;
                        let room = Room {
                            rows: needs.tokens,
                            named: sorted.named(),
                        };
                        let report = |loaded| tell(loaded, size, "weights");
                        let shape = settings.shape();
                        let made = GpuTrainer::new(
                            gpu,
                            &device,
                            plan,
                            &open.source,
                            context,
                            &shape,
                            settings.seed,
                            room,
                            report,
                        );
                        Trainer::Gpu(Box::new(made.await?))
                    }
                    None => {
                        tell(0, size, "weights")?;
                        let shape = settings.shape();
                        let made = on_cpu::Trainer::new(plan, &open.source, context, &shape, settings.seed);
                        Trainer::Cpu(Box::new(made.await?))
                    }
                };
                let mut session = Session::with(trainer, sorted, settings.clone())?;
                // The first step compiles what all others use: here, under a progress bar.
                tell(0, 1, "pipelines")?;
                session.warm_up().await?;
                tell(1, 1, "pipelines")?;
                let whole = (session.rows().1 + generic.len()) as u64;
                tell(0, whole, "measure")?;
                let before = session.measure().await?;
                if !before.ce.is_finite() {
                    return Err(Error::NotFinite);
                }
                tell(session.rows().1 as u64, whole, "measure")?;
                let generic_before = session.measure_rows(&generic).await?;
                tell(whole, whole, "measure")?;
                let (taught, apart) = session.rows();
                let words = to_js(&Prepared {
                    taught,
                    apart,
                    before: &before,
                    generic_before: &generic_before,
                })?;
                open.course = Some(Course {
                    session,
                    before,
                    generic,
                    generic_before,
                    reports: Vec::new(),
                });
                Ok(words)
            })
            .await?;
        Ok(words)
    }

    /// The next step, or `undefined` when all were done.
    pub async fn step(&self) -> Answer {
        let begun = now();
        let report = self
            .with(async |open| {
                let course = open.course()?;
                let report = course.session.advance().await?;
                course.reports.extend(report);
                Ok(report)
            })
            .await?;
        // A worker that only computes would never hear that it is to pause.
        pause().await;
        match report {
            None => Ok(JsValue::UNDEFINED),
            Some(report) => Ok(to_js(&StepWords {
                report,
                memory_bytes: self.device_bytes(),
                milliseconds: now() - begun,
            })?),
        }
    }

    /// Rows that are held out, as the student is now.
    pub async fn measure(&self) -> Answer {
        let measure = self.with(async |open| open.course()?.session.measure().await).await?;
        Ok(to_js(&measure)?)
    }

    /// What came of it so far.
    pub async fn verdict(&self) -> Answer {
        let words = self
            .with(async |open| {
                let Course {
                    session,
                    before,
                    generic,
                    generic_before,
                    ..
                } = open.course()?;
                let after = session.measure().await?;
                let generic_after = session.measure_rows(generic).await?;
                let kl_to_base = session.away_from_base(generic).await?;
                let (gain, within_noise) = change(&before.per_row, &after.per_row);
                let (kl_change, _) = change(&before.kl_per_row, &after.kl_per_row);
                let (loss, generic_noise) = change(&generic_before.per_row, &generic_after.per_row);
                let sentences = sentences(
                    before,
                    &after,
                    within_noise,
                    generic_before,
                    &generic_after,
                    generic_noise,
                );
                to_js(&Verdict {
                    held_out: HeldOut {
                        before,
                        after: &after,
                        change: gain,
                        within_noise,
                        kl_change,
                    },
                    forgetting: Forgetting {
                        before: generic_before,
                        after: &generic_after,
                        kl_to_base,
                        change: loss,
                        within_noise: generic_noise,
                    },
                    sentences,
                })
            })
            .await?;
        Ok(words)
    }

    /// A row as it is taught, and beside each token what the student as it is now thinks.
    pub async fn insight(&self, row: usize) -> Answer {
        let logits = self
            .with(async |open| {
                let lesson = open.read()?.lessons.get(row).cloned();
                let tokens = lesson.map(|lesson| lesson.tokens).ok_or_else(|| Error::Request {
                    what: format!("there is no row {row}"),
                })?;
                open.course()?.session.trainer().logits(&tokens).await
            })
            .await?;
        let open = self.open.borrow();
        let open = open.as_ref().ok_or(Error::NoStudent)?;
        let part = open
            .course
            .as_ref()
            .map_or(Settings::default().hold_out, |c| c.session.settings().hold_out);
        open.preview(row, part, Some(&logits))
    }

    /// Questions of rows that are held out, with the teacher's answers.
    #[wasm_bindgen(js_name = heldOutPrompts)]
    pub fn held_out_prompts(&self, count: usize) -> Answer {
        let questions = self.now_with(|open| {
            let part = open
                .course
                .as_ref()
                .map_or(Settings::default().hold_out, |c| c.session.settings().hold_out);
            let asked = open.read()?.questions(part, count);
            let message = |turn: &crate::traces::Turn| Message {
                role: turn.role.as_str().into(),
                content: turn.content.clone(),
                reasoning_content: turn.reasoning.clone(),
            };
            Ok(asked
                .into_iter()
                .map(|asked| Question {
                    messages: asked.turns.iter().map(message).collect(),
                    answer: asked.answer.clone(),
                })
                .collect::<Vec<_>>())
        })?;
        Ok(to_js(&questions)?)
    }

    /// Everything to go on from here.
    pub async fn checkpoint(&self) -> std::result::Result<Vec<u8>, JsValue> {
        Ok(self
            .with(async |open| open.course()?.session.checkpoint().await)
            .await?)
    }

    /// Goes on from a checkpoint of the same student, traces and settings; steps that were done.
    pub async fn resume(&self, checkpoint: Vec<u8>) -> std::result::Result<usize, JsValue> {
        Ok(self
            .with(async |open| {
                let course = open.course()?;
                course.session.resume(&checkpoint)?;
                Ok(course.session.done())
            })
            .await?)
    }

    /// What a checkpoint is of.
    #[wasm_bindgen(js_name = checkpointSettings)]
    pub fn checkpoint_settings(checkpoint: &[u8]) -> Answer {
        let (settings, step) = checkpoint_settings(checkpoint)?;
        Ok(to_js(&json!({ "settings": settings, "step": step }))?)
    }

    /// Logits `(T, V)` after each of `ids`, with what the student has learned.
    pub async fn logits(&self, ids: Vec<u32>) -> std::result::Result<Vec<f32>, JsValue> {
        Ok(self
            .with(async |open| {
                let most = open.longest();
                let vocabulary = open.header.plan.config.vocabulary;
                if ids.is_empty() || ids.len() > most || ids.iter().any(|id| *id as usize >= vocabulary) {
                    return Err(Error::Request {
                        what: format!("it needs 1 to {most} ids of the student's vocabulary"),
                    });
                }
                open.course()?.session.trainer().logits(&ids).await
            })
            .await?)
    }

    /// Ids of a row, at most `count`: to compare logits by.
    #[wasm_bindgen(js_name = sampleIds)]
    pub fn sample_ids(&self, count: usize) -> std::result::Result<Vec<u32>, JsValue> {
        Ok(self.now_with(|open| open.sample_ids(count))?)
    }

    /// What was learned, as files: read again and compared before it is handed out.
    pub async fn export(&self, about: JsValue) -> Answer {
        let about: About = from_js(about)?;
        let exported = self
            .with(async |open| {
                let ids = open.sample_ids(48)?;
                let card = open.card(&about)?;
                let shape = &open.header.plan.config;
                let base = Base {
                    architecture: shape.architecture.name().into(),
                    heads: shape.heads,
                    kv_heads: shape.kv_heads,
                };
                let name = about.base.clone().unwrap_or_else(|| "the base student".into());
                let session = &mut open.course()?.session;
                let mut adapter = session
                    .adapter(&about.name, about.base.as_deref(), about.teacher.as_deref())
                    .await?;
                adapter
                    .metadata
                    .insert("understudy.training.card", Value::String(card.to_string()));
                if let Some(sha) = &about.base_sha256 {
                    adapter
                        .metadata
                        .insert("understudy.base.sha256", Value::String(sha.clone()));
                }
                if let Some(terms) = &about.terms {
                    adapter
                        .metadata
                        .insert("understudy.provenance.terms", Value::String(terms.clone()));
                }
                let trained = session.trainer().logits(&ids).await?;
                let bytes = adapter.to_gguf();
                let again = Adapter::from_gguf(&bytes)?;
                // Some matrices of some students have no name of their own there; the GGUF has all of them.
                let peft = match adapter.to_peft(&base, &name) {
                    Err(Error::Adapter { .. }) => None,
                    files => Some(files?),
                };
                let other = match &peft {
                    Some((config, weights)) => Some(Adapter::from_peft(config, weights, &base)?),
                    None => None,
                };
                for read in [Some(&again), other.as_ref()].into_iter().flatten() {
                    session.trainer().put(read)?;
                    let logits = session.trainer().logits(&ids).await?;
                    if logits != trained {
                        session.trainer().put(&adapter)?;
                        return Err(Error::ExportDiffers);
                    }
                }
                session.trainer().put(&adapter)?;
                Ok((bytes, peft, card.to_string()))
            })
            .await?;
        let (bytes, peft_files, card) = exported;
        let set = |object: &Object, key: &str, value: &JsValue| {
            // Setting a property of a fresh object cannot fail.
            let _ = Reflect::set(object, &key.into(), value);
        };
        let result = Object::new();
        if let Some((config, weights)) = peft_files {
            let peft = Object::new();
            set(&peft, "config", &config.into());
            set(&peft, "weights", &Uint8Array::from(weights.as_slice()).into());
            set(&result, "peft", &peft);
        }
        set(&result, "gguf", &Uint8Array::from(bytes.as_slice()).into());
        set(&result, "card", &js_sys::JSON::parse(&card)?);
        Ok(result.into())
    }

    fn device_bytes(&self) -> f64 {
        let burn = self
            .device
            .borrow()
            .as_ref()
            .map_or(0, crate::distill::student::reserved);
        self.gpu.as_ref().map_or(0.0, |gpu| gpu.counts().bytes as f64) + burn as f64
    }

    /// Bytes of wasm memory, and of the device's.
    pub fn memory(&self) -> Answer {
        let memory: js_sys::WebAssembly::Memory = wasm_bindgen::memory().unchecked_into();
        let length = Reflect::get(&memory.buffer(), &"byteLength".into())
            .ok()
            .and_then(|n| n.as_f64());
        Ok(to_js(&json!({ "wasm": length, "device": self.device_bytes() }))?)
    }
}

impl Open {
    fn sample_ids(&self, count: usize) -> Result<Vec<u32>> {
        let read = self.read()?;
        let part = self
            .course
            .as_ref()
            .map_or(Settings::default().hold_out, |c| c.session.settings().hold_out);
        let lesson = read
            .lessons
            .iter()
            .find(|l| held_out(l.fingerprint, part))
            .or(read.lessons.first())
            .ok_or_else(nothing_read)?;
        Ok(lesson.tokens.iter().copied().take(count.max(1)).collect())
    }

    /// The run card: what was taught, from what, how, and what came of it.
    fn card(&self, about: &About) -> Result<serde_json::Value> {
        let read = self.read()?;
        let course = self.course.as_ref().ok_or_else(nothing_prepared)?;
        let (taught, apart) = course.session.rows();
        let (tokens, trained) = read.tokens();
        let files: Vec<_> = read
            .names
            .iter()
            .zip(&read.report.files)
            .map(|(name, file)| json!({ "name": name, "rows": file.rows, "rejected": file.rejected }))
            .collect();
        Ok(json!({
            "name": about.name,
            "base": { "name": about.base, "sha256": about.base_sha256,
                "architecture": self.header.plan.config.architecture.name() },
            "teacher": { "name": about.teacher, "terms": about.terms },
            "traces": { "sha256": read.sha256, "files": files, "rows": read.report.rows, "taught": taught, "held_out": apart,
                "tokens": tokens, "trained_tokens": trained },
            "settings": course.session.settings(),
            "before": course.before,
            "generic_before": course.generic_before,
            "curve": course.reports,
            "made_with": concat!("Understudy ", env!("CARGO_PKG_VERSION")),
        }))
    }
}

fn report_words(read: &Read) -> Result<JsValue> {
    let (tokens, trained) = read.tokens();
    let tally = read.tally();
    let files = read
        .names
        .iter()
        .zip(&read.report.files)
        .map(|(name, file)| FileWords {
            name,
            lines: file.lines,
            rows: file.rows,
            rejected: file.rejected,
            format: file.format(),
            unreadable: file.unreadable.as_deref(),
        })
        .collect();
    let mut sentences = read.report.sentences();
    let cut_rows = read.lessons.iter().filter(|l| l.cut > 0).count();
    if read.refused_count > 0 {
        sentences.push(format!(
            "{} of them cannot be taught to this student; the list says why.",
            read.refused_count
        ));
    }
    if cut_rows > 0 {
        sentences.push(format!(
            "{cut_rows} rows are longer than the student can be taught at a time and were cut."
        ));
    }
    to_js(&ReportWords {
        sentences,
        files,
        rows: read.report.rows,
        rejected: read.report.rejected,
        listed: &read.report.listed,
        lessons: read.lessons.len(),
        unfit: &read.refused,
        unfit_count: read.refused_count,
        tokens,
        trained,
        cut_rows,
        longest: read.lessons.iter().map(|l| l.tokens.len()).max().unwrap_or(0),
        soft_tokens: tally.soft,
        coverage: tally.soft as f64 / trained.max(1) as f64,
        mass: tally.mapped / tally.paired.max(1) as f64,
        picture: read.report.picture(30),
        traces_sha256: &read.sha256,
    })
}

fn sentences(
    before: &Measure,
    after: &Measure,
    noise: bool,
    generic_before: &Measure,
    generic_after: &Measure,
    generic_noise: bool,
) -> Vec<String> {
    let percent = |part: f64| format!("{:.0} %", 100.0 * part);
    let mut all = Vec::new();
    if before.rows > 0 {
        let loss = format!("{:.3} to {:.3} nats per token", before.ce, after.ce);
        all.push(match (after.ce < before.ce, noise) {
            (_, true) => format!("On rows that it was not taught the loss went from {loss}: within noise."),
            (true, false) => format!("It learned: on rows that it was not taught the loss fell from {loss}."),
            (false, false) => format!("It got worse: on rows that it was not taught the loss rose from {loss}."),
        });
        all.push(format!(
            "Its first choice is the teacher's token {} of the time; before it was {}.",
            percent(after.top1),
            percent(before.top1)
        ));
    }
    if generic_before.rows > 0 {
        let loss = format!("{:.3} to {:.3}", generic_before.ce, generic_after.ce);
        all.push(match (generic_after.ce > generic_before.ce, generic_noise) {
            (_, true) => format!("On everyday questions nothing was forgotten that could be told from noise ({loss})."),
            (true, false) => format!("It forgot something: the loss on everyday questions rose from {loss}. A lower scale or fewer steps forget less."),
            (false, false) => format!("Everyday questions did not suffer: the loss went from {loss}."),
        });
    }
    all
}
