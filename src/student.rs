//! A student: a file, its tokenizer and template, and an engine that runs its plan. What examples and page both use.

mod request;
mod state;

pub use self::request::{Answer, Event, Finish, Prompt, Request};

use crate::cpu;
use crate::error::{Error, Result};
use crate::format::adapter::Adapter;
use crate::format::source::Source;
use crate::format::{BlockType, Gguf};
use crate::gpu::{self, Gpu};
use crate::model::logprobs::{Logprob, MOST_TOP};
use crate::model::lora::Stack;
use crate::model::memory::Fit;
use crate::model::sampler::BROKEN;
use crate::model::state::{Print, student_print};
use crate::model::{Adjustment, CacheType, Plan};
use crate::text::breakers::breakers;
use crate::text::grammar::{Constraint, Format, Vocabulary};
use crate::text::stream::Stream;
use crate::text::template::{RenderOptions, Template};
use crate::text::tokenizer::Tokenizer;
use crate::text::tool_calls::{ToolCalls, is_part};
use crate::text::tools::{self, Forced, ToolChoice, Tools};
use serde_json::{Value, json};
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

    /// From here on these logits are moved before a token is drawn.
    async fn adjust(&mut self, list: &[Adjustment]) -> Result<()> {
        match self {
            Self::Cpu(engine) => {
                engine.adjust(list);
                Ok(())
            }
            Self::Gpu(engine) => engine.adjust(list).await,
        }
    }

    /// Whether the logits that a token is drawn from are kept.
    async fn keep_logits(&mut self, on: bool) -> Result<()> {
        match self {
            Self::Cpu(engine) => {
                engine.keep_logits(on);
                Ok(())
            }
            Self::Gpu(engine) => engine.keep_logits(on).await,
        }
    }

    fn kept_logits(&self) -> &[f32] {
        match self {
            Self::Cpu(engine) => engine.kept_logits(),
            Self::Gpu(engine) => engine.kept_logits(),
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

    /// What the template makes of a chat.
    fn rendered(
        &self,
        prompt: &Prompt,
        tools: Option<&Tools>,
        enable_thinking: Option<bool>,
        date: Option<&str>,
    ) -> Result<String> {
        let options = RenderOptions {
            add_generation_prompt: true,
            enable_thinking,
            tools: tools.map(|tools| tools.definitions.clone()),
            date: date.map(str::to_string),
            ..RenderOptions::default()
        };
        match prompt {
            Prompt::Text(text) => Ok(text.clone()),
            Prompt::Messages(messages) if tools.is_none() => self.template.render(messages, &options),
            Prompt::Messages(messages) => {
                let messages: Vec<Value> = messages.iter().map(|message| json!(message)).collect();
                tools::render(&self.template, &messages, &options)
            }
            Prompt::Json(messages) => tools::render(&self.template, messages, &options),
        }
    }

    /// The text of a prompt to the letter, control tokens and a beginning of text that the tokenizer adds included.
    ///
    /// Errors: [`Error::Template`]; [`Error::Request`] where the template leaves out tools, calls or what they answered.
    pub fn prompt_text(
        &self,
        prompt: &Prompt,
        tools: Option<&Tools>,
        enable_thinking: Option<bool>,
        date: Option<&str>,
    ) -> Result<String> {
        let text = self.rendered(prompt, tools, enable_thinking, date)?;
        let bos = self.tokenizer.bos().filter(|_| self.tokenizer.adds_bos());
        let bos = bos.and_then(|id| self.tokenizer.token_text(id)).unwrap_or_default();
        let is_there = !matches!(prompt, Prompt::Text(_)) && text.starts_with(bos);
        Ok(if is_there { text } else { format!("{bos}{text}") })
    }

    /// The tokens of a prompt, and whether the template has already opened the student's reasoning.
    ///
    /// Errors: as [`Student::prompt_text`].
    pub fn prompt_tokens(
        &self,
        prompt: &Prompt,
        tools: Option<&Tools>,
        enable_thinking: Option<bool>,
        date: Option<&str>,
    ) -> Result<(Vec<u32>, bool)> {
        let text = self.rendered(prompt, tools, enable_thinking, date)?;
        if matches!(prompt, Prompt::Text(_)) {
            return Ok((self.tokenizer.encode(&text, true, false)?, false));
        }
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

    /// Answers a request. `event` hears of progress and text, and stops the answer by returning `true`.
    ///
    /// Errors: [`Error::PromptTooLong`], [`Error::Request`], [`Error::Template`], and what the device does. The student
    /// stays usable after all of them but a lost device.
    pub async fn generate(&mut self, request: &Request, mut event: impl FnMut(Event) -> bool) -> Result<Answer> {
        self.check(request)?;
        let (forced, mut calls) = self.calls(request)?;
        let format = forced.as_ref().map(|forced| Format::JsonSchema(forced.schema.clone()));
        let mut form = match request.format.as_ref().or(format.as_ref()) {
            Some(format) => Some(self.constraint(format)?),
            None => None,
        };
        let thinking = match request.enable_thinking {
            None if form.is_some() => Some(false),
            asked => asked,
        };
        let (mut ids, mut in_think) = self.prompt_tokens(
            &request.prompt,
            request.tools.as_ref(),
            thinking,
            request.date.as_deref(),
        )?;
        if let Some(forced) = &forced {
            if in_think || thinking == Some(true) {
                return Err(Error::Request {
                    what: "a call cannot be forced where reasoning comes first: leave enable_thinking off, or use the tool_choice auto".into(),
                });
            }
            ids.extend(self.tokenizer.encode(&forced.opening, false, true)?);
        } else if form.is_some() && thinking == Some(true) && !in_think && self.template.thinks() {
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
        let dry = &request.penalties.dry;
        let texts = if dry.multiplier == 0.0 {
            &[]
        } else {
            dry.breakers.as_slice()
        };
        let breakers = breakers(&self.tokenizer, texts)?;
        let adjustments = |tokens: &[u32]| request.penalties.adjustments(&breakers, tokens);
        self.engine.adjust(&adjustments(&ids)).await?;
        self.engine.keep_logits(request.logprobs.is_some()).await?;
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
            calls: Vec::new(),
            logprobs: Vec::new(),
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
            if let Some(top) = request.logprobs {
                answer.logprobs.push(Logprob::of(self.engine.kept_logits(), token, top));
                event(Event::Token(
                    &answer.logprobs[answer.logprobs.len() - 1],
                    &self.tokenizer,
                ));
            }
            let delta = stream.push(self.visible(token, calls.is_some()));
            if answer.take(&delta, &mut calls, false, &mut event) {
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
            if request.penalties.looks_back() {
                let tokens = [ids.as_slice(), &answer.ids].concat();
                ahead = 1;
                self.engine.adjust(&adjustments(&tokens)).await?;
            }
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
        self.engine.adjust(&[]).await?;
        let mut rest = stream.finish();
        if let (Some(forced), Finish::Stop) = (&forced, answer.finish) {
            rest.content.push_str(forced.closing);
        }
        answer.take(&rest, &mut calls, true, &mut event);
        // The last drawn token was never run: its keys and values are not in the cache.
        self.cached = ids;
        self.cached.extend_from_slice(&answer.ids[..answer.ids.len() - 1]);
        answer.used = self.cached.len();
        Ok(answer)
    }

    /// Refuses settings outside their ranges.
    fn check(&self, request: &Request) -> Result<()> {
        request.sampling.check()?;
        request.penalties.check(self.plan().config.vocabulary)?;
        let refuse = |what: String| Err(Error::Request { what });
        if request.logprobs.is_some_and(|top| top > MOST_TOP) {
            return refuse(format!("top_logprobs is a whole number from 0 to {MOST_TOP}"));
        }
        let is_forced = request
            .tools
            .as_ref()
            .is_some_and(|tools| tools.choice != ToolChoice::Auto);
        if is_forced && request.format.is_some() {
            return refuse("response_format and a tool_choice that forces a call exclude each other".into());
        }
        Ok(())
    }

    /// How a call is forced, where one is, and what reads calls out of the answer, where there are tools.
    fn calls(&self, request: &Request) -> Result<(Option<Forced>, Option<ToolCalls>)> {
        let Some(tools) = &request.tools else {
            return Ok((None, None));
        };
        let told = match &request.prompt {
            Prompt::Json(messages) => tools::count(messages),
            _ => 0,
        };
        let mut calls = ToolCalls::new(&tools.definitions).numbered_from(told);
        if tools.choice == ToolChoice::Auto {
            return Ok((None, Some(calls)));
        }
        let options = RenderOptions {
            date: request.date.clone(),
            ..RenderOptions::default()
        };
        let forced = tools::force(&self.template, tools, &options)?;
        calls.push(&forced.opening);
        Ok((Some(forced), Some(calls)))
    }

    /// The bytes of a token as the readers of an answer want them: marks of calls may be control tokens.
    fn visible(&self, token: u32, reads_calls: bool) -> &[u8] {
        match (self.tokenizer.piece(token), self.tokenizer.token_text(token)) {
            ([], Some(text)) if reads_calls && is_part(text) => text.as_bytes(),
            (piece, _) => piece,
        }
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
