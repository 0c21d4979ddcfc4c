//! A student: a file, its tokenizer and template, and an engine that runs its plan. What examples and page both use.

mod state;

use crate::cpu;
use crate::error::{Error, Result};
use crate::format::adapter::Adapter;
use crate::format::source::Source;
use crate::format::{BlockType, Gguf};
use crate::gpu::{self, Gpu};
use crate::model::lora::Stack;
use crate::model::memory::Fit;
use crate::model::sampler::BROKEN;
use crate::model::state::{Print, student_print};
use crate::model::{CacheType, Plan, Sampling};
use crate::text::grammar::{Constraint, Format, Vocabulary};
use crate::text::stream::Stream;
use crate::text::template::{Message, RenderOptions, Template};
use crate::text::tokenizer::Tokenizer;
use std::collections::BTreeMap;

/// The longest context that is opened unless the caller asks for another.
pub const DEFAULT_CONTEXT: usize = 4096;

/// What a 32-bit wasm memory may hold in weights and cache when the CPU engine takes over.
const CPU_BYTES: u64 = 3 << 30;

/// Where a plan is run.
pub enum Engine {
    /// On the CPU, with the twins.
    Cpu(Box<cpu::engine::Engine>),
    /// On a device.
    Gpu(Box<gpu::Engine>),
}

impl Engine {
    /// From here on only tokens whose bit is set in `mask` are drawn; `None`: any token.
    async fn allow(&mut self, mask: Option<&[u32]>) -> Result<()> {
        match self {
            Self::Cpu(engine) => {
                engine.allow(mask);
                Ok(())
            }
            Self::Gpu(engine) => engine.allow(mask).await,
        }
    }
}

/// How a student is opened. A context alone says as much: `Some(2048).into()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// Positions wanted; by default the student's own, at most [`DEFAULT_CONTEXT`].
    pub context: Option<usize>,
    /// How the KV cache is kept; by default in the widest type with which the context fits.
    pub cache: Option<CacheType>,
}

impl From<Option<usize>> for OpenOptions {
    fn from(context: Option<usize>) -> Self {
        Self { context, cache: None }
    }
}

/// What is known of a file before its weights are read.
pub struct Header {
    /// The parsed header.
    pub gguf: Gguf,
    /// The plan of a token.
    pub plan: Plan,
    /// Text to tokens.
    pub tokenizer: Tokenizer,
    /// Messages to text.
    pub template: Template,
    /// What it will take.
    pub fit: Fit,
    /// What its user should know, in sentences: most often nothing.
    pub warnings: Vec<String>,
}

/// An open student.
pub struct Student {
    gguf: Gguf,
    tokenizer: Tokenizer,
    template: Template,
    warnings: Vec<String>,
    fit: Fit,
    engine: Engine,
    /// What tells its file from others.
    print: Print,
    /// Tokens whose keys and values are in the cache, in order.
    cached: Vec<u32>,
    /// Attached adapters with their scales, in the order of attaching.
    adapters: Vec<(Adapter, f32)>,
    /// Its tokens as forms of answers need them, once one was asked for.
    vocabulary: Option<Vocabulary>,
}

/// What to answer.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// A chat, written out by the template.
    Messages(Vec<Message>),
    /// Text to go on with, after the beginning-of-text token where the student has one.
    Text(String),
}

/// One generation.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to answer.
    pub prompt: Prompt,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens of the answer; `None`: what the context leaves.
    pub max_tokens: Option<usize>,
    /// Strings that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Told to the template of a thinking student.
    pub enable_thinking: Option<bool>,
    /// Today as `2026-11-24`, for templates that mention it: this crate reads no clock.
    pub date: Option<String>,
    /// Go on after an end token; for tests of long continuations.
    pub ignore_end: bool,
    /// The form that the answer has. An answer with [`Finish::Stop`] has it, unless a stop string cut it. The reasoning is free:
    /// the form begins behind it, and unless `enable_thinking` asks for it a student that need not reason does not.
    pub format: Option<Format>,
}

impl Request {
    /// A chat with the default sampling.
    pub fn chat(messages: Vec<Message>) -> Self {
        Self {
            prompt: Prompt::Messages(messages),
            sampling: Sampling::default(),
            max_tokens: None,
            stop: Vec::new(),
            enable_thinking: None,
            date: None,
            ignore_end: false,
            format: None,
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The student was done, or a stop string came.
    Stop,
    /// The limit of tokens or the end of the context.
    Length,
    /// The caller stopped it.
    Abort,
}

impl Finish {
    /// The name that the chat-completions format uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Abort => "abort",
        }
    }
}

/// What comes out of a generation while it runs.
pub enum Event<'a> {
    /// Rows of the prompt that are done, of how many.
    Prompt(usize, usize),
    /// New text; either part may be empty while a character or a stop string is incomplete.
    Text {
        /// Part of the answer.
        content: &'a str,
        /// Part of the reasoning in front of it.
        reasoning: &'a str,
        /// Tokens drawn so far.
        tokens: usize,
    },
}

/// A finished generation.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The answer.
    pub content: String,
    /// The reasoning in front of it, without its tags.
    pub reasoning: String,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens that were still in the cache.
    pub cached_tokens: usize,
    /// Every drawn token, the end token included.
    pub ids: Vec<u32>,
    /// Positions of the context that are in use.
    pub used: usize,
}

impl Header {
    /// Reads and checks everything but the weights.
    ///
    /// `gpu`: the device it would be opened on. Errors: whatever makes the file unusable; not that it does not fit, which `fit`
    /// tells.
    pub async fn read<S: Source>(source: &S, gpu: Option<&Gpu>, options: impl Into<OpenOptions>) -> Result<Self> {
        let options = options.into();
        let gguf = Gguf::read(source).await?;
        if gguf.metadata.str("general.type") == Some("adapter") {
            return Err(Error::Adapter {
                what: "this file is an adapter, not a student: open the student that it was made for, then attach it"
                    .into(),
            });
        }
        let plan = Plan::new(&gguf)?;
        let mut tokenizer = Tokenizer::from_metadata(&gguf.metadata)?;
        // Padding rows of the embedding beyond the vocabulary are common; a vocabulary beyond the embedding is not usable.
        if tokenizer.vocab_size() > plan.config.vocabulary {
            return Err(Error::malformed(format!(
                "its vocabulary has {} tokens and its embedding {} rows",
                tokenizer.vocab_size(),
                plan.config.vocabulary
            )));
        }
        let template = Template::from_metadata(&gguf.metadata, &tokenizer);
        let mut warnings = tokenizer.warnings().to_vec();
        match template.check() {
            Err(Error::Template { what }) => warnings.push(format!("The file's chat template cannot be used: {what}.")),
            Err(other) => return Err(other),
            // What ends a turn is often said by the template alone.
            Ok(()) => tokenizer.end_with(&template.behind_an_answer().unwrap_or_default()),
        }
        let trained = plan.config.context;
        let wanted = options
            .context
            .unwrap_or(trained.min(DEFAULT_CONTEXT))
            .clamp(1, trained.max(1));
        let fit = Fit::choose(options.cache, wanted, |cache_type| match gpu {
            Some(gpu) => {
                // One layer's keys are one binding; so is the rotary table.
                let binding = gpu
                    .limits()
                    .max_storage_buffer_binding_size
                    .min(gpu.limits().max_buffer_size);
                let c = &plan.config;
                let row = 4 * (c.kv_heads * cache_type.head_words(c.head_dim)).max(c.rotary) as u64;
                let context = wanted.min((binding / row.max(1)) as usize).max(1);
                Fit::new(
                    &plan,
                    context,
                    gpu::engine::CHUNK.min(context),
                    cache_type,
                    gpu::carried::COPIES,
                    gpu.available_bytes(),
                )
            }
            None => {
                let (chunk, copies) = (cpu::engine::CHUNK, cpu::carried::COPIES);
                let mut fit = Fit::new(&plan, wanted, chunk, cache_type, copies, CPU_BYTES);
                // The CPU engine keeps the blocks as the file has them.
                fit.weights = gguf.tensors.iter().map(|t| t.bytes).sum();
                fit
            }
        });
        Ok(Self {
            gguf,
            plan,
            tokenizer,
            template,
            fit,
            warnings,
        })
    }
}

impl Student {
    /// Opens a student on `gpu`, or on the CPU without one.
    ///
    /// `progress(bytes read, bytes in all)` may stop the work with an error. Errors: what [`Header::read`] finds;
    /// [`Error::DoesNotFit`] before anything is allocated; what the device refuses.
    pub async fn open<S: Source>(
        source: &S,
        gpu: Option<&Gpu>,
        options: impl Into<OpenOptions>,
        mut progress: impl FnMut(u64, u64) -> Result<()>,
    ) -> Result<Self> {
        let Header {
            gguf,
            plan,
            tokenizer,
            template,
            fit,
            warnings,
        } = Header::read(source, gpu, options).await?;
        fit.check()?;
        let print = student_print(source).await?;
        let total: u64 = plan.matrices.iter().map(|m| (m.row_bytes() * m.rows) as u64).sum();
        let report = |read: u64| progress(read.min(total), total);
        let engine = match gpu {
            Some(gpu) => {
                let engine = gpu::Engine::load(gpu, plan, source, fit.context, fit.cache_type, report).await;
                // A device that refuses memory says so in its own words; the user needs ours.
                let engine = engine.map_err(|error| match error {
                    Error::Device { what } if what.to_lowercase().contains("memory") => Error::DoesNotFit {
                        needed: fit.total(),
                        available: fit.available,
                        suggestion: fit.suggestion(),
                    },
                    other => other,
                })?;
                Engine::Gpu(Box::new(engine))
            }
            None => Engine::Cpu(Box::new(
                cpu::engine::Engine::load(plan, source, fit.context, fit.cache_type, report).await?,
            )),
        };
        Ok(Self {
            gguf,
            tokenizer,
            template,
            warnings,
            fit,
            engine,
            print,
            cached: Vec::new(),
            adapters: Vec::new(),
            vocabulary: None,
        })
    }

    /// The file's header.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Messages to text.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// What its user should know, in sentences: most often nothing.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Writes chats out with the general template that fits the vocabulary, instead of the file's own.
    pub fn use_general_template(&mut self) {
        self.template = Template::general(&self.tokenizer);
    }

    /// What it takes.
    pub fn fit(&self) -> &Fit {
        &self.fit
    }

    /// Its plan.
    pub fn plan(&self) -> &Plan {
        match &self.engine {
            Engine::Cpu(engine) => engine.plan(),
            Engine::Gpu(engine) => engine.plan(),
        }
    }

    /// The engine, for measurements and tests.
    pub fn engine(&mut self) -> &mut Engine {
        self.cached.clear();
        &mut self.engine
    }

    /// Lays an adapter beside the weights at the scale `scale` (1: as trained), and gives its number.
    ///
    /// Errors: [`Error::Adapter`] where it was made for another student, [`Error::Request`] for a scale that is not finite, and
    /// what the device refuses. What was attached before stays then.
    pub async fn attach(&mut self, adapter: Adapter, scale: f32) -> Result<usize> {
        check_scale(scale)?;
        self.adapters.push((adapter, scale));
        let laid = self.lay().await;
        if laid.is_err() {
            self.adapters.pop();
        }
        laid.map(|()| self.adapters.len() - 1)
    }

    /// Takes adapter number `k` away; later ones move up.
    pub async fn detach(&mut self, k: usize) -> Result<()> {
        self.check_adapter(k)?;
        let taken = self.adapters.remove(k);
        let laid = self.lay().await;
        if laid.is_err() {
            self.adapters.insert(k, taken);
        }
        laid
    }

    /// Sets the scale of adapter number `k`: nothing is loaded again.
    pub async fn set_adapter_scale(&mut self, k: usize, scale: f32) -> Result<()> {
        self.check_adapter(k)?;
        check_scale(scale)?;
        self.adapters[k].1 = scale;
        let stack = self.stack()?;
        // Keys and values in the cache are those of the old scale.
        self.cached.clear();
        match &mut self.engine {
            Engine::Cpu(engine) => engine.set_scales(&stack.scales),
            Engine::Gpu(engine) => {
                engine.settle().await?;
                engine.set_scales(&stack.scales);
            }
        }
        Ok(())
    }

    /// The attached adapters with their scales.
    pub fn adapters(&self) -> &[(Adapter, f32)] {
        &self.adapters
    }

    fn check_adapter(&self, k: usize) -> Result<()> {
        if k < self.adapters.len() {
            return Ok(());
        }
        Err(Error::Request {
            what: format!("there is no adapter number {k}: {} are attached", self.adapters.len()),
        })
    }

    fn stack(&self) -> Result<Stack> {
        let list: Vec<(&Adapter, f32)> = self.adapters.iter().map(|(adapter, scale)| (adapter, *scale)).collect();
        Stack::new(self.plan(), &list)
    }

    async fn lay(&mut self) -> Result<()> {
        let stack = self.stack()?;
        self.cached.clear();
        match &mut self.engine {
            Engine::Cpu(engine) => engine.attach(stack),
            Engine::Gpu(engine) => engine.attach(&stack).await?,
        }
        Ok(())
    }

    /// Positions of its context.
    pub fn context(&self) -> usize {
        self.fit.context
    }

    /// Logits `(T, V)` after each of `ids`; no token is added in front.
    pub async fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.check_ids(ids)?;
        self.cached.clear();
        match &mut self.engine {
            Engine::Cpu(engine) => Ok(engine.logits(ids)),
            Engine::Gpu(engine) => engine.logits(ids).await,
        }
    }

    /// As [`Student::logits`], one token at a time: the path that decoding takes.
    pub async fn logits_by_decode(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.check_ids(ids)?;
        self.cached.clear();
        let mut all = Vec::new();
        for (position, id) in ids.iter().enumerate() {
            match &mut self.engine {
                Engine::Cpu(engine) => all.extend_from_slice(engine.logits_at(*id, position)),
                Engine::Gpu(engine) => all.extend(engine.logits_at(*id, position).await?),
            }
        }
        Ok(all)
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        if ids.len() > self.context() {
            return Err(Error::PromptTooLong {
                tokens: ids.len(),
                context: self.context(),
            });
        }
        let vocabulary = self.plan().config.vocabulary;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
            return Err(Error::Request {
                what: format!("token {id} is not below the vocabulary's {vocabulary}"),
            });
        }
        Ok(())
    }

    /// The tokens of a prompt, and whether the template has already opened the student's reasoning.
    pub fn prompt_tokens(
        &self,
        prompt: &Prompt,
        enable_thinking: Option<bool>,
        date: Option<&str>,
    ) -> Result<(Vec<u32>, bool)> {
        match prompt {
            Prompt::Text(text) => Ok((self.tokenizer.encode(text, true, false)?, false)),
            Prompt::Messages(messages) => {
                let options = RenderOptions {
                    add_generation_prompt: true,
                    enable_thinking,
                    date: date.map(str::to_string),
                    ..RenderOptions::default()
                };
                let text = self.template.render(messages, &options)?;
                let mut ids = self.tokenizer.encode(&text, false, true)?;
                // Templates write the beginning of text themselves; where one does not, the tokenizer's rule decides.
                if let (true, Some(bos)) = (self.tokenizer.adds_bos(), self.tokenizer.bos())
                    && ids.first() != Some(&bos)
                {
                    ids.insert(0, bos);
                }
                let (open, _) = self.template.thinking_tags();
                Ok((ids, text.trim_end().ends_with(open)))
            }
        }
    }

    /// Answers a request. `event` hears of progress and text, and stops the answer by returning `true`.
    ///
    /// Errors: [`Error::PromptTooLong`], [`Error::Request`], [`Error::Template`], and what the device does. The student
    /// stays usable after all of them but a lost device.
    pub async fn generate(&mut self, request: &Request, mut event: impl FnMut(Event) -> bool) -> Result<Answer> {
        check_sampling(&request.sampling)?;
        let mut form = request
            .format
            .as_ref()
            .map(|format| self.constraint(format))
            .transpose()?;
        let thinking = match request.enable_thinking {
            None if form.is_some() => Some(false),
            asked => asked,
        };
        let (mut ids, mut in_think) = self.prompt_tokens(&request.prompt, thinking, request.date.as_deref())?;
        if form.is_some() && thinking == Some(true) && !in_think && self.template.thinks() {
            // A form has no place for the tag that opens the reasoning, so the prompt opens it.
            ids.extend(self.tokenizer.encode(self.template.thinking_tags().0, false, true)?);
            in_think = true;
        }
        let context = self.context();
        if ids.is_empty() {
            return Err(Error::Request {
                what: "the prompt is empty".into(),
            });
        }
        // At least one token must find room behind the prompt.
        if ids.len() >= context {
            return Err(Error::PromptTooLong {
                tokens: ids.len(),
                context,
            });
        }
        self.check_ids(&ids)?;
        let most = request.max_tokens.unwrap_or(usize::MAX).min(context - ids.len());
        if most == 0 {
            return Err(Error::Request {
                what: "max_tokens is 0".into(),
            });
        }

        // Keys and values of a common beginning are still there; the last token is always run, for its logits.
        let common = self
            .cached
            .iter()
            .zip(&ids)
            .take_while(|(a, b)| a == b)
            .count()
            .min(ids.len() - 1);
        // Caches of windowed layers forget, and what recurrent layers carry is known after some tokens only.
        let common = match &self.engine {
            Engine::Cpu(engine) => engine.resume(common),
            Engine::Gpu(engine) => engine.resume(common),
        };
        self.cached.clear();
        let mask = match &mut form {
            None => None,
            Some(form) if in_think => Some(form.open()),
            Some(form) => Some(form.mask()?),
        };
        self.engine.allow(mask).await?;
        let mut aborted = false;
        let rows = ids.len() - common;
        let first = match &mut self.engine {
            Engine::Cpu(engine) => {
                engine.begin(common, request.sampling, 0);
                let mut drawn = 0;
                let mut done = 0;
                for chunk in engine.chunks(&ids[common..]) {
                    aborted |= event(Event::Prompt(done, rows));
                    if aborted {
                        break;
                    }
                    done += chunk.len();
                    drawn = engine.extend(chunk, done == rows).unwrap_or(0);
                    pause().await;
                }
                drawn
            }
            Engine::Gpu(engine) => {
                let tell = |done| {
                    if event(Event::Prompt(done, rows)) {
                        Err(Error::Aborted)
                    } else {
                        Ok(())
                    }
                };
                match engine.prefill(&ids[common..], common, request.sampling, 0, tell).await {
                    Err(Error::Aborted) => {
                        aborted = true;
                        0
                    }
                    other => other?,
                }
            }
        };
        let mut answer = Answer {
            content: String::new(),
            reasoning: String::new(),
            finish: Finish::Abort,
            prompt_tokens: ids.len(),
            cached_tokens: common,
            ids: Vec::new(),
            used: ids.len(),
        };
        if aborted {
            return Ok(answer);
        }

        if first == BROKEN {
            return Err(Error::NotFinite);
        }
        let mut stream = Stream::new(&request.stop, in_think).with_tags(self.template.thinking_tags());
        let mut token = first;
        loop {
            answer.ids.push(token);
            // A form lets an end come only where it is complete.
            if (!request.ignore_end || form.is_some()) && self.tokenizer.is_end(token) {
                answer.finish = Finish::Stop;
                break;
            }
            let delta = stream.push(self.tokenizer.piece(token));
            answer.content.push_str(&delta.content);
            answer.reasoning.push_str(&delta.reasoning);
            let tokens = answer.ids.len();
            if event(Event::Text {
                content: &delta.content,
                reasoning: &delta.reasoning,
                tokens,
            }) {
                answer.finish = Finish::Abort;
                break;
            }
            if delta.stopped {
                answer.finish = Finish::Stop;
                break;
            }
            if let Some(form) = &mut form {
                if in_think {
                    in_think = stream.is_reasoning();
                    if !delta.content.is_empty() {
                        return Err(Error::Format {
                            what: "the token that closed the reasoning began the answer as well".into(),
                        });
                    }
                } else if form.advance(token)? {
                    answer.finish = Finish::Stop;
                    break;
                }
            }
            if answer.ids.len() == most {
                answer.finish = Finish::Length;
                break;
            }
            let mut ahead = most - answer.ids.len();
            if let Some(form) = &mut form {
                // What may come depends on what came: one token in flight.
                ahead = 1;
                if !in_think {
                    self.engine.allow(Some(form.mask()?)).await?;
                }
            }
            token = match &mut self.engine {
                Engine::Cpu(engine) => {
                    pause().await;
                    match engine.decode() {
                        BROKEN => return Err(Error::NotFinite),
                        token => token,
                    }
                }
                Engine::Gpu(engine) => engine.decode(ahead).await?,
            };
        }
        if let Engine::Gpu(engine) = &mut self.engine {
            engine.settle().await?;
        }
        self.engine.allow(None).await?;
        let rest = stream.finish();
        if !rest.content.is_empty() || !rest.reasoning.is_empty() {
            answer.content.push_str(&rest.content);
            answer.reasoning.push_str(&rest.reasoning);
            let tokens = answer.ids.len();
            event(Event::Text {
                content: &rest.content,
                reasoning: &rest.reasoning,
                tokens,
            });
        }
        // The last drawn token was never run: its keys and values are not in the cache.
        self.cached = ids;
        self.cached.extend_from_slice(&answer.ids[..answer.ids.len() - 1]);
        answer.used = self.cached.len();
        Ok(answer)
    }

    /// The beginning of an answer in a form; the student's tokens are made ready when one is first asked for.
    fn constraint(&mut self, format: &Format) -> Result<Constraint> {
        let vocabulary = match self.vocabulary.take() {
            Some(vocabulary) => vocabulary,
            None => Vocabulary::new(&self.tokenizer, self.plan().config.vocabulary)?,
        };
        let constraint = Constraint::new(&vocabulary, format);
        self.vocabulary = Some(vocabulary);
        constraint
    }

    /// How many weights each block type holds, by name.
    pub fn block_types(&self) -> BTreeMap<&'static str, u64> {
        block_types(&self.gguf)
    }
}

fn check_scale(scale: f32) -> Result<()> {
    if scale.is_finite() {
        return Ok(());
    }
    Err(Error::Request {
        what: "an adapter's scale is a number, usually from 0 to 1.5".into(),
    })
}

/// Lets other work of the thread go on between pieces of CPU work.
async fn pause() {
    #[cfg(target_family = "wasm")]
    crate::web::pause().await;
}

/// How many weights each block type of a file holds, by name.
pub fn block_types(gguf: &Gguf) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for tensor in &gguf.tensors {
        let name = tensor.block_type().map_or("other", BlockType::name);
        *counts.entry(name).or_insert(0) += tensor.columns() as u64 * tensor.rows() as u64;
    }
    counts
}

fn check_sampling(sampling: &Sampling) -> Result<()> {
    let range = |ok: bool, what: &str| {
        if ok {
            Ok(())
        } else {
            Err(Error::Request { what: what.into() })
        }
    };
    range(
        (0.0..=100.0).contains(&sampling.temperature),
        "temperature is a number from 0 to 100",
    )?;
    range((0.0..=1.0).contains(&sampling.top_p), "top_p is a number from 0 to 1")?;
    range((0.0..=1.0).contains(&sampling.min_p), "min_p is a number from 0 to 1")
}
