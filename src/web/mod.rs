//! The one place that knows JavaScript: the facade that the worker calls, and where an [`Error`] becomes an object with a
//! code, a message and a hint.

mod chat;
mod hash;
#[cfg(feature = "teach")]
pub mod teach;

use crate::error::{Error, Result};
use crate::format::adapter::{Adapter, Base};
use crate::format::provenance::Provenance;
use crate::format::source::Source;
use crate::format::{BlockType, Gguf};
use crate::gpu::kernels::Kinds;
use crate::gpu::{Gpu, GpuOptions, Tier, cases};
use crate::model::CacheType;
use crate::model::Plan;
use crate::model::memory::{Fit, Held};
use crate::student::{self, Header, Student, block_types};
use js_sys::{Function, Promise, Reflect, Uint8Array};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn now() -> f64;

    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(callback: &Function, milliseconds: u32);
}

/// Lets the worker hear its messages: an abort must get through while the CPU engine computes.
pub async fn pause() {
    let promise = Promise::new(&mut |resolve, _| set_timeout(&resolve, 0));
    // The promise never rejects.
    let _ = JsFuture::from(promise).await;
}

impl From<Error> for JsValue {
    fn from(error: Error) -> Self {
        let object = js_sys::Error::new(&error.to_string());
        for (key, value) in [("code", error.code()), ("hint", &error.hint())] {
            // Setting a property of a fresh object cannot fail.
            let _ = Reflect::set(&object, &key.into(), &value.into());
        }
        object.into()
    }
}

fn to_js<T: Serialize>(value: &T) -> Result<JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    value
        .serialize(&serializer)
        .map_err(|e| Error::Request { what: e.to_string() })
}

fn from_js<T: for<'de> Deserialize<'de> + Default>(value: JsValue) -> Result<T> {
    if value.is_undefined() || value.is_null() {
        return Ok(T::default());
    }
    serde_wasm_bindgen::from_value(value).map_err(|e| Error::Request { what: e.to_string() })
}

/// A file behind a JavaScript function `(offset, length) -> Promise<Uint8Array>`.
struct JsSource {
    read: Function,
    size: u64,
}

impl Source for JsSource {
    fn size(&self) -> u64 {
        self.size
    }

    async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let io = |value: JsValue| {
            let text = Reflect::get(&value, &"message".into()).ok().and_then(|m| m.as_string());
            Error::Io {
                what: text.unwrap_or_else(|| "the browser gave no reason".into()),
            }
        };
        let promise = self
            .read
            .call2(&JsValue::NULL, &(offset as f64).into(), &(length as f64).into())
            .map_err(io)?;
        let value = JsFuture::from(Promise::resolve(&promise)).await.map_err(io)?;
        let bytes: Uint8Array = value.dyn_into().map_err(|_| Error::Io {
            what: "no bytes came back".into(),
        })?;
        Ok(bytes.to_vec())
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CreateOptions {
    gpu: Option<String>,
    subgroups: bool,
    default_limits: bool,
    /// Vendor and architecture, as the browser tells them.
    adapter: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OpenOptions {
    context: Option<f64>,
    /// `auto`, `f32`, `f16` or `q8`.
    cache: Option<String>,
    /// `general`: chats are written out with the general template instead of the file's own.
    template: Option<String>,
}

impl OpenOptions {
    fn checked(&self) -> Result<student::OpenOptions> {
        Ok(student::OpenOptions {
            context: whole(self.context, "context", 1e9)?.map(|n| n as usize),
            cache: CacheType::from_option(self.cache.as_deref())?,
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenizeOptions {
    add_special: bool,
    parse_special: bool,
}

#[derive(Serialize)]
struct DeviceWords {
    kind: &'static str,
    words: String,
    vendor: String,
    tier: String,
    limits: BTreeMap<&'static str, f64>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct PlanWords {
    name: Option<String>,
    architecture: &'static str,
    parameters: f64,
    weights_bytes: f64,
    cache_bytes: f64,
    scratch_bytes: f64,
    total_bytes: f64,
    available_bytes: f64,
    context: usize,
    context_trained: usize,
    cache_type: &'static str,
    fits: bool,
    words: String,
    suggestion: Option<String>,
    block_types: BTreeMap<&'static str, u64>,
    /// Types that the GPU has in a wider layout, each in a sentence with its bytes.
    repacked: Vec<String>,
    provenance: Provenance,
    vocabulary: usize,
    layers: usize,
    template: &'static str,
    thinks: bool,
    /// What the user should know, in sentences.
    warnings: Vec<String>,
    device: String,
}

#[derive(Serialize)]
struct AdapterWords {
    name: Option<String>,
    rank: usize,
    alpha: f32,
    matrices: usize,
    parameters: f64,
    provenance: Provenance,
    number: usize,
}

/// The engine as the worker sees it: one device, at most one student.
#[wasm_bindgen]
pub struct Runner {
    /// The device with the fullest tier that can still be trusted.
    gpu: RefCell<Option<Gpu>>,
    notes: RefCell<Vec<String>>,
    /// Empty while a call works on it: a second call then gets [`Error::Busy`] instead of waiting inside.
    student: RefCell<Option<Student>>,
    working: Cell<bool>,
    checked: RefCell<Vec<Kinds>>,
}

/// Marks the runner as working until it is dropped.
struct Working<'a>(&'a Cell<bool>);

impl<'a> Working<'a> {
    fn begin(flag: &'a Cell<bool>) -> Result<Self> {
        if flag.replace(true) {
            Err(Error::Busy)
        } else {
            Ok(Self(flag))
        }
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

fn whole(value: Option<f64>, what: &str, most: f64) -> Result<Option<f64>> {
    match value {
        None => Ok(None),
        Some(n) if n.fract() == 0.0 && (0.0..=most).contains(&n) => Ok(Some(n)),
        Some(_) => Err(Error::Request {
            what: format!("{what} is a whole number from 0 to {most}"),
        }),
    }
}

fn plan_words(
    gguf: &Gguf,
    plan: &Plan,
    fit: &Fit,
    template: (bool, bool),
    warnings: &[String],
    device: String,
    on_gpu: bool,
) -> PlanWords {
    let provenance = Provenance::from_metadata(&gguf.metadata);
    PlanWords {
        name: provenance.name.clone(),
        architecture: plan.config.architecture.name(),
        parameters: plan.parameters() as f64,
        weights_bytes: fit.weights as f64,
        cache_bytes: fit.cache as f64,
        scratch_bytes: fit.scratch as f64,
        total_bytes: fit.total() as f64,
        available_bytes: fit.available as f64,
        context: fit.context,
        context_trained: plan.config.context,
        cache_type: fit.cache_type.name(),
        fits: fit.fits(),
        words: fit.words(),
        suggestion: (!fit.fits()).then(|| fit.suggestion()),
        block_types: block_types(gguf),
        repacked: if on_gpu {
            let widened = Held::of(plan).into_iter().filter(Held::is_widened);
            widened.map(|held| held.words()).collect()
        } else {
            Vec::new()
        },
        provenance,
        vocabulary: plan.config.vocabulary,
        layers: plan.config.layers,
        template: if template.0 { "default" } else { "file" },
        thinks: template.1,
        warnings: warnings.to_vec(),
        device,
    }
}

/// The tiers from the fullest that the device was opened with down to the plainest.
fn plainer_tiers(tier: Tier) -> Vec<Tier> {
    let mut tiers = vec![tier, Tier::default()];
    tiers.dedup();
    tiers
}

/// The device with the fullest tier whose kernels answer as known; what was left out goes to `notes`.
async fn trusted(gpu: Gpu, kinds: &[Kinds], notes: &mut Vec<String>) -> Option<Gpu> {
    for tier in plainer_tiers(gpu.tier()) {
        let candidate = if tier == gpu.tier() {
            gpu.clone()
        } else {
            gpu.plainer(tier)
        };
        match cases::self_test(&candidate, kinds).await {
            Ok(()) => return Some(candidate),
            Err(error) => notes.push(format!("With {} the self-test failed: {error}", tier.words())),
        }
    }
    None
}

/// WebGPU with the fullest tier whose known answers are right, or nothing, and why; `all` asks for every feature.
async fn meet(options: &CreateOptions, all: bool, notes: &mut Vec<String>) -> Option<Gpu> {
    if options.gpu.as_deref() == Some("off") {
        notes.push("WebGPU was switched off: the CPU engine has taken over.".into());
        return None;
    }
    let wanted = GpuOptions {
        subgroups: options.subgroups,
        default_limits: options.default_limits,
        all_features: all,
        name: options.adapter.clone().filter(|name| !name.trim().is_empty()),
    };
    match Gpu::meet(&wanted).await {
        Ok(met) => {
            let gpu = trusted(met, &Kinds::FIRST, notes).await;
            if gpu.is_none() {
                notes.push("No kernel variant could be trusted: the CPU engine has taken over.".into());
            }
            gpu
        }
        Err(error) => {
            notes.push(format!("{error} The CPU engine has taken over."));
            None
        }
    }
}

fn words_of(gpu: Option<&Gpu>) -> String {
    match gpu {
        Some(gpu) => format!("WebGPU on {}", gpu.words()),
        None => "CPU (WebAssembly SIMD, one thread)".into(),
    }
}

fn device_words(gpu: Option<&Gpu>, notes: &[String]) -> DeviceWords {
    let mut limits = BTreeMap::new();
    if let Some(gpu) = gpu {
        let l = gpu.limits();
        limits.insert("max_buffer_size", l.max_buffer_size as f64);
        limits.insert(
            "max_storage_buffer_binding_size",
            l.max_storage_buffer_binding_size as f64,
        );
        limits.insert(
            "max_compute_workgroup_storage_size",
            f64::from(l.max_compute_workgroup_storage_size),
        );
        limits.insert(
            "max_compute_invocations_per_workgroup",
            f64::from(l.max_compute_invocations_per_workgroup),
        );
        limits.insert(
            "max_storage_buffers_per_shader_stage",
            f64::from(l.max_storage_buffers_per_shader_stage),
        );
    }
    DeviceWords {
        kind: if gpu.is_some() { "webgpu" } else { "cpu" },
        words: words_of(gpu),
        vendor: gpu.map_or_else(|| "cpu".into(), Gpu::name),
        tier: gpu.map_or("cpu", |gpu| gpu.tier().words()).into(),
        limits,
        notes: notes.to_vec(),
    }
}

#[wasm_bindgen]
impl Runner {
    /// Meets the device: WebGPU with the fullest tier whose known answers are right, else the CPU.
    pub async fn create(options: JsValue) -> std::result::Result<Runner, JsValue> {
        let options: CreateOptions = from_js(options)?;
        let mut notes = Vec::new();
        let gpu = meet(&options, false, &mut notes).await;
        Ok(Self {
            gpu: RefCell::new(gpu),
            notes: RefCell::new(notes),
            student: RefCell::new(None),
            working: Cell::new(false),
            checked: RefCell::new(Kinds::FIRST.to_vec()),
        })
    }

    /// The device, shared.
    fn gpu(&self) -> Option<Gpu> {
        self.gpu.borrow().clone()
    }

    fn device_words(&self) -> String {
        words_of(self.gpu().as_ref())
    }

    /// The device in words and numbers.
    pub fn device(&self) -> std::result::Result<JsValue, JsValue> {
        Ok(to_js(&device_words(self.gpu().as_ref(), &self.notes.borrow()))?)
    }

    /// How often costly calls were made on the device so far.
    pub fn counts(&self) -> std::result::Result<JsValue, JsValue> {
        let mut map = BTreeMap::new();
        if let Some(gpu) = self.gpu() {
            let counts = gpu.counts();
            map.insert("buffers", counts.buffers as f64);
            map.insert("bind_groups", counts.bind_groups as f64);
            map.insert("pipelines", counts.pipelines as f64);
            map.insert("dispatches", counts.dispatches as f64);
            map.insert("submissions", counts.submissions as f64);
        }
        Ok(to_js(&map)?)
    }

    /// Bytes of wasm memory: what was reserved at the most so far, since it never shrinks.
    pub fn memory(&self) -> f64 {
        let memory: js_sys::WebAssembly::Memory = wasm_bindgen::memory().unchecked_into();
        let length = Reflect::get(&memory.buffer(), &"byteLength".into())
            .ok()
            .and_then(|n| n.as_f64());
        length.unwrap_or(0.0)
    }

    /// What a file is and what it would take; nothing is allocated.
    pub async fn plan(&self, read: Function, size: f64, options: JsValue) -> std::result::Result<JsValue, JsValue> {
        let options: OpenOptions = from_js(options)?;
        let checked = options.checked()?;
        let source = JsSource {
            read,
            size: size as u64,
        };
        let header = Header::read(&source, self.gpu().as_ref(), checked).await?;
        let template = (header.template.is_default(), header.template.thinks());
        Ok(to_js(&plan_words(
            &header.gguf,
            &header.plan,
            &header.fit,
            template,
            &header.warnings,
            self.device_words(),
            self.gpu().is_some(),
        ))?)
    }

    /// Opens a student; on an error the one that was open stays open.
    pub async fn open(
        &self,
        read: Function,
        size: f64,
        options: JsValue,
        on_progress: Option<Function>,
    ) -> std::result::Result<JsValue, JsValue> {
        let options: OpenOptions = from_js(options)?;
        let checked = options.checked()?;
        let _working = Working::begin(&self.working)?;
        let source = JsSource {
            read,
            size: size as u64,
        };
        let tell = |loaded: u64, total: u64, phase: &str| -> Result<()> {
            if let Some(function) = &on_progress {
                let answer = function.call3(
                    &JsValue::NULL,
                    &(loaded as f64).into(),
                    &(total as f64).into(),
                    &phase.into(),
                );
                if answer.is_ok_and(|stop| stop.is_truthy()) {
                    return Err(Error::Aborted);
                }
            }
            Ok(())
        };
        tell(0, source.size(), "header")?;
        if let Some(gpu) = self.gpu() {
            // Types of weights and caches that this device has not answered for yet.
            let header = Header::read(&source, Some(&gpu), checked).await?;
            let mut types: Vec<BlockType> = header.plan.matrices.iter().map(|m| m.block_type).collect();
            types.sort_by_key(|t| t.ggml());
            types.dedup();
            let mut kinds: Vec<Kinds> = types.into_iter().map(|t| Some(t).into()).collect();
            kinds.push(header.fit.cache_type.into());
            kinds.retain(|kind| !self.checked.borrow().contains(kind));
            if !kinds.is_empty() {
                let mut notes = Vec::new();
                let candidate = trusted(gpu.clone(), &kinds, &mut notes).await;
                gpu.check()?;
                if candidate.is_none() {
                    notes.push("No kernel variant could be trusted: the CPU engine has taken over.".into());
                }
                self.notes.borrow_mut().extend(notes);
                *self.gpu.borrow_mut() = candidate;
                self.checked.borrow_mut().extend(kinds);
            }
        }
        let gpu = self.gpu();
        let report = |loaded, total| tell(loaded, total, "weights");
        let mut student = Student::open(&source, gpu.as_ref(), checked, report).await?;
        if options.template.as_deref() == Some("general") {
            student.use_general_template();
        }
        *self.student.borrow_mut() = Some(student);
        self.info()
    }

    /// What is open, or `undefined`.
    pub fn info(&self) -> std::result::Result<JsValue, JsValue> {
        let Ok(student) = self.student.try_borrow() else {
            return Err(Error::Busy.into());
        };
        match &*student {
            None => Ok(JsValue::UNDEFINED),
            Some(student) => {
                let template = (student.template().is_default(), student.template().thinks());
                let device = self.device_words();
                Ok(to_js(&plan_words(
                    student.gguf(),
                    student.plan(),
                    student.fit(),
                    template,
                    student.warnings(),
                    device,
                    self.gpu().is_some(),
                ))?)
            }
        }
    }

    /// Takes the student out for a call that waits, and puts it back whatever happens.
    async fn with_student<T>(&self, work: impl AsyncFnOnce(&mut Student) -> Result<T>) -> Result<T> {
        let _working = Working::begin(&self.working)?;
        if let Some(gpu) = self.gpu() {
            gpu.check()?;
        }
        let mut student = self.student.borrow_mut().take().ok_or(Error::NoStudent)?;
        let result = work(&mut student).await;
        *self.student.borrow_mut() = Some(student);
        result
    }

    /// Logits `(T, V)` after each of `ids`, row-major; no token is added in front.
    pub async fn logits(&self, ids: Vec<u32>) -> std::result::Result<Vec<f32>, JsValue> {
        Ok(self.with_student(async |student| student.logits(&ids).await).await?)
    }

    /// What the student knows of the conversation so far, as bytes for `restoreState`.
    #[wasm_bindgen(js_name = saveState)]
    pub async fn save_state(&self) -> std::result::Result<Vec<u8>, JsValue> {
        Ok(self.with_student(async |student| student.save_state().await).await?)
    }

    /// Goes on with a conversation that was saved; gives its number of tokens.
    #[wasm_bindgen(js_name = restoreState)]
    pub async fn restore_state(&self, bytes: Vec<u8>) -> std::result::Result<usize, JsValue> {
        let restored = self.with_student(async |student| student.restore_state(&bytes).await);
        Ok(restored.await?)
    }

    /// Lays an adapter beside the weights: the bytes of a GGUF adapter, or of PEFT's `adapter_model.safetensors` with the text
    /// of its `adapter_config.json`. Gives what it is, with its number.
    pub async fn attach(
        &self,
        bytes: Vec<u8>,
        config: Option<String>,
        scale: f32,
    ) -> std::result::Result<JsValue, JsValue> {
        let words = self
            .with_student(async |student| {
                let adapter = match config {
                    None => Adapter::from_gguf(&bytes)?,
                    Some(config) => {
                        let shape = &student.plan().config;
                        let base = Base {
                            architecture: shape.architecture.name().into(),
                            heads: shape.heads,
                            kv_heads: shape.kv_heads,
                        };
                        Adapter::from_peft(&config, &bytes, &base)?
                    }
                };
                let mut words = AdapterWords {
                    name: adapter.metadata.str("general.name").map(str::to_owned),
                    rank: adapter.pairs.iter().map(|pair| pair.rank).max().unwrap_or(0),
                    alpha: adapter.alpha,
                    matrices: adapter.pairs.len(),
                    parameters: adapter
                        .pairs
                        .iter()
                        .map(|pair| (pair.a.len() + pair.b.len()) as f64)
                        .sum(),
                    provenance: Provenance::from_metadata(&adapter.metadata),
                    number: 0,
                };
                words.number = student.attach(adapter, scale).await?;
                Ok(words)
            })
            .await?;
        Ok(to_js(&words)?)
    }

    /// Takes adapter number `k` away; later ones move up.
    pub async fn detach(&self, k: usize) -> std::result::Result<(), JsValue> {
        Ok(self.with_student(async |student| student.detach(k).await).await?)
    }

    /// Sets the scale of adapter number `k`.
    #[wasm_bindgen(js_name = setAdapterScale)]
    pub async fn set_adapter_scale(&self, k: usize, scale: f32) -> std::result::Result<(), JsValue> {
        Ok(self
            .with_student(async |student| student.set_adapter_scale(k, scale).await)
            .await?)
    }

    /// As `logits`, by the path that decoding takes.
    #[wasm_bindgen(js_name = logitsByDecode)]
    pub async fn logits_by_decode(&self, ids: Vec<u32>) -> std::result::Result<Vec<f32>, JsValue> {
        Ok(self
            .with_student(async |student| student.logits_by_decode(&ids).await)
            .await?)
    }

    /// The ids of a text.
    pub fn tokenize(&self, text: &str, options: JsValue) -> std::result::Result<Vec<u32>, JsValue> {
        let options: TokenizeOptions = from_js(options)?;
        let student = self.student.borrow();
        let student = student.as_ref().ok_or(Error::NoStudent)?;
        Ok(student
            .tokenizer()
            .encode(text, options.add_special, options.parse_special)?)
    }

    /// Loses the device on purpose, to test what follows.
    #[wasm_bindgen(js_name = destroyDevice)]
    pub fn destroy_device(&self) {
        if let Some(gpu) = self.gpu() {
            gpu.destroy();
        }
    }

    /// Whether the device is lost.
    #[wasm_bindgen(js_name = deviceLost)]
    pub fn device_lost(&self) -> bool {
        self.gpu().is_some_and(|gpu| gpu.lost().is_some())
    }

    /// Frees the student.
    pub fn close(&self) -> std::result::Result<(), JsValue> {
        let _working = Working::begin(&self.working)?;
        self.student.borrow_mut().take();
        Ok(())
    }
}
