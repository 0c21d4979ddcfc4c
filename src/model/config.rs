//! Hyper-parameters, read once from the file's metadata into a checked type.
//!
//! What tells one architecture from another is data: [`Traits`] say what its name alone decides, the metadata say the rest,
//! and [`Config`] is what the plan and the engines read. docs/FORMATS.md lists the keys.

use super::{Mixing, Recurrent};
use crate::error::{Error, Result};
use crate::format::gguf::{Array, Gguf, Metadata, Value};

/// Architectures that the plan knows, by their `general.architecture`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 2 and 3, Mistral, SmolLM 1 and 2, and other files of the same shape.
    Llama,
    /// Qwen 2 and 2.5: Llama with biases on q, k and v.
    Qwen2,
    /// Qwen 3: Llama with an RMS norm on each query and key head.
    Qwen3,
    /// Gemma 2: norms on both sides, capped logits, every other layer sees a window only.
    Gemma2,
    /// Gemma 3: as Gemma 2 with q and k norms instead of caps, and a rotary base of its own for windowed layers.
    Gemma3,
    /// SmolLM 3: Llama with every fourth layer unrotated.
    SmolLm3,
    /// Phi 3, 3.5, 4 and 4-mini: fused matrices, partial rotation, longrope.
    Phi3,
    /// Granite 3 and dense 4: Llama with four multipliers.
    Granite,
    /// OLMo 2 and 3: norms behind, q and k normed over their whole width.
    Olmo2,
    /// Ernie 4.5, dense.
    Ernie45,
    /// Hunyuan, dense: q and k normed behind the rotation.
    Hunyuan,
    /// Exaone 4: norms behind, q and k norms.
    Exaone4,
    /// LFM2: short convolutions, and attention in some layers.
    Lfm2,
    /// Granite 4 hybrid, dense: Mamba 2, and attention without positions in some layers; Granite's multipliers.
    GraniteHybrid,
    /// Qwen 3.5, dense: gated delta nets, and gated attention in every fourth layer.
    Qwen35,
}

/// What the name of an architecture alone decides.
struct Traits {
    name: &'static str,
    rope_style: RopeStyle,
    qk_norm: QkNorm,
    norms: Norms,
    activation: Activation,
    fused: bool,
    mixing: Option<Mixing>,
    gated: bool,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 15] = [
        Self::Llama,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma2,
        Self::Gemma3,
        Self::SmolLm3,
        Self::Phi3,
        Self::Granite,
        Self::Olmo2,
        Self::Ernie45,
        Self::Hunyuan,
        Self::Exaone4,
        Self::Lfm2,
        Self::GraniteHybrid,
        Self::Qwen35,
    ];

    /// The names that this program knows, for messages.
    pub const KNOWN: &'static str = "the architectures llama (Llama, Mistral, SmolLM2), qwen2, qwen3, gemma2, gemma3, \
                                     smollm3, phi3, granite, olmo2, ernie4_5, hunyuan-dense, exaone4, lfm2, \
                                     granitehybrid and qwen35";

    fn traits(self) -> Traits {
        use RopeStyle::{Halves, Pairs};
        let plain = |name, rope_style| Traits {
            name,
            rope_style,
            qk_norm: QkNorm::None,
            norms: Norms::Before,
            activation: Activation::Silu,
            fused: false,
            mixing: None,
            gated: false,
        };
        match self {
            Self::Llama => plain("llama", Pairs),
            Self::SmolLm3 => plain("smollm3", Pairs),
            Self::Granite => plain("granite", Pairs),
            Self::Ernie45 => plain("ernie4_5", Pairs),
            Self::Qwen2 => plain("qwen2", Halves),
            Self::Qwen3 => Traits {
                qk_norm: QkNorm::Head,
                ..plain("qwen3", Halves)
            },
            Self::Hunyuan => Traits {
                qk_norm: QkNorm::HeadTurned,
                ..plain("hunyuan-dense", Halves)
            },
            Self::Phi3 => Traits {
                fused: true,
                ..plain("phi3", Halves)
            },
            Self::Gemma2 => Traits {
                norms: Norms::Both,
                activation: Activation::Gelu,
                ..plain("gemma2", Halves)
            },
            Self::Gemma3 => Traits {
                qk_norm: QkNorm::Head,
                norms: Norms::Both,
                activation: Activation::Gelu,
                ..plain("gemma3", Halves)
            },
            Self::Olmo2 => Traits {
                qk_norm: QkNorm::Whole,
                norms: Norms::After,
                ..plain("olmo2", Halves)
            },
            Self::Exaone4 => Traits {
                qk_norm: QkNorm::Head,
                norms: Norms::After,
                ..plain("exaone4", Halves)
            },
            Self::Lfm2 => Traits {
                qk_norm: QkNorm::Head,
                mixing: Some(Mixing::ShortConv),
                ..plain("lfm2", Halves)
            },
            Self::GraniteHybrid => Traits {
                mixing: Some(Mixing::Mamba2),
                ..plain("granitehybrid", Pairs)
            },
            Self::Qwen35 => Traits {
                qk_norm: QkNorm::Head,
                mixing: Some(Mixing::DeltaNet),
                gated: true,
                ..plain("qwen35", Halves)
            },
        }
    }

    /// The name that the file uses.
    pub fn name(self) -> &'static str {
        self.traits().name
    }

    /// The tensor of the norm in front of a layer's feed-forward part.
    pub fn feed_forward_norm(self) -> &'static str {
        match self {
            Self::Qwen35 => "post_attention_norm",
            _ => "ffn_norm",
        }
    }

    /// The tensor of the norm in front of the head.
    pub fn output_norm(self) -> &'static str {
        match self {
            Self::Lfm2 => "token_embd_norm",
            _ => "output_norm",
        }
    }

    fn from_name(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|known| known.name() == name);
        // Names are short; a hostile one is cut so that the message stays a sentence.
        known.ok_or_else(|| Error::unsupported(format!("the architecture \"{}\"", short(name)), Self::KNOWN))
    }
}

/// Which elements of a head are turned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// Neighbours (2 i, 2 i + 1): Llama files, whose q and k rows the converter permuted for it.
    Pairs,
    /// Halves (i, i + n / 2): Qwen files.
    Halves,
}

/// Where the RMS norms of a layer's two parts stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// In front of each part.
    Before,
    /// Behind each part, before it is added to the residual stream.
    After,
    /// On both sides.
    Both,
}

impl Norms {
    /// Whether there is one in front.
    pub fn before(self) -> bool {
        self != Self::After
    }

    /// Whether there is one behind.
    pub fn after(self) -> bool {
        self != Self::Before
    }
}

/// How queries and keys are normed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Not at all.
    None,
    /// Each head by itself, in front of the rotation.
    Head,
    /// Each head by itself, behind the rotation.
    HeadTurned,
    /// All query heads together and all key heads together, in front of the rotation.
    Whole,
}

/// What the gate of the feed-forward part goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// a / (1 + exp(-a)).
    Silu,
    /// The Gaussian error linear unit, by its tanh formula.
    Gelu,
}

/// A table of rotations: how the angles of the pairs follow from positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub base: f32,
    /// Angles are divided by this (linear scaling; with a ramp only those of slow pairs). 1 = none.
    pub scale: f32,
    /// YaRN: pairs up to the first number keep their angles, from the second on these are divided; between, both are mixed.
    pub ramp: Option<(f32, f32)>,
    /// Cosine and sine are multiplied by this: q k grows by its square.
    pub magnitude: f32,
    /// Whether the file's divisors of the frequencies (`rope_freqs`, `rope_factors_*`) belong to this table.
    pub divided: bool,
}

/// What mixes positions in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mixer {
    /// Attention with a KV cache.
    Attention(Attention),
    /// What [`Config::recurrent`] says.
    Recurrent,
}

/// An attention layer's own part of the shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attention {
    /// A row sees this many positions, its own included; `None`: all in front.
    pub window: Option<usize>,
    /// Which of [`Config::ropes`] turns q and k; `None`: they are not turned.
    pub rope: Option<usize>,
}

/// The shape of a student. Every field is checked against the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which network.
    pub architecture: Architecture,
    /// Transformer blocks.
    pub layers: usize,
    /// Blocks of the file: behind the layers there may be some that guess further tokens, which are not run.
    pub blocks: usize,
    /// D, the width of the residual stream.
    pub hidden: usize,
    /// F, the width of the feed-forward part.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads of the attention layers; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; a multiple of 4.
    pub head_dim: usize,
    /// V, tokens in the vocabulary (rows of the embedding).
    pub vocabulary: usize,
    /// Positions that the student was trained on.
    pub context: usize,
    /// Positions before its context was stretched; `context` where it was not.
    pub original_context: usize,
    /// The epsilon of every RMS norm.
    pub norm_epsilon: f32,
    /// Elements of a head that are turned; even, at most `head_dim`.
    pub rotary: usize,
    /// Which elements are turned together.
    pub rope_style: RopeStyle,
    /// The tables of rotations; at least one.
    pub ropes: Vec<Rope>,
    /// What mixes positions, layer by layer.
    pub mixers: Vec<Mixer>,
    /// The shape of recurrent layers, where it has any.
    pub recurrent: Option<Recurrent>,
    /// Attention is gated: each query head is followed by its gate.
    pub gated: bool,
    /// Where the norms of a layer stand.
    pub norms: Norms,
    /// How queries and keys are normed.
    pub qk_norm: QkNorm,
    /// What the gate goes through.
    pub activation: Activation,
    /// The file keeps q, k and v in one tensor, and gate and up in another.
    pub fused: bool,
    /// Rows of the embedding are multiplied by this.
    pub embedding_scale: f32,
    /// What a layer's part adds to the residual stream is multiplied by this.
    pub residual_scale: f32,
    /// q k is multiplied by this.
    pub attention_scale: f32,
    /// c: scores s become c tanh(s / c) in front of the softmax.
    pub attention_cap: Option<f32>,
    /// Logits are multiplied by this.
    pub logit_scale: f32,
    /// c: logits z become c tanh(z / c).
    pub logit_cap: Option<f32>,
}

/// A hostile name, cut so that a message stays a sentence.
fn short(name: &str) -> String {
    name.chars().take(40).collect()
}

/// The key heads of the layers that have any, which must agree.
fn attending(all: Vec<usize>) -> Result<Option<usize>> {
    let mut some = all.into_iter().filter(|n| *n > 0);
    let first = some.next();
    if some.any(|n| Some(n) != first) {
        return Err(Error::unsupported(
            "attention layers that differ in their key heads",
            "layers of one shape",
        ));
    }
    Ok(first)
}

/// The keys of one architecture: `name.suffix`.
struct Keys<'a> {
    metadata: &'a Metadata,
    name: &'a str,
}

impl Keys<'_> {
    fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.name)
    }

    /// A whole number from 1 to `limit`, if it is there.
    fn count(&self, suffix: &str, limit: u64) -> Result<Option<usize>> {
        let full = self.key(suffix);
        if self.metadata.get(&full).is_none() {
            return Ok(None);
        }
        match self.metadata.u64(&full) {
            Some(n) if n >= 1 && n <= limit => Ok(Some(n as usize)),
            _ => Err(Error::malformed(format!(
                "{full} is not a whole number from 1 to {limit}"
            ))),
        }
    }

    fn required<T>(&self, suffix: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::malformed(format!("{} is missing", self.key(suffix))))
    }

    /// Whole numbers up to `limit`, one for each layer: the file has one for all, or an array. An array may hold zeros.
    fn per_layer(&self, suffix: &str, layers: usize, limit: u64) -> Result<Option<Vec<usize>>> {
        let full = self.key(suffix);
        if !matches!(self.metadata.get(&full), Some(Value::Array(_))) {
            return Ok(self.count(suffix, limit)?.map(|n| vec![n; layers]));
        }
        let numbers: Option<Vec<usize>> = self.metadata.integers(&full).and_then(|all| {
            all.into_iter()
                .map(|n| usize::try_from(n).ok().filter(|n| *n as u64 <= limit))
                .collect()
        });
        match numbers {
            Some(numbers) if numbers.len() == layers => Ok(Some(numbers)),
            _ => Err(Error::malformed(format!(
                "{full} does not hold a whole number up to {limit} for each of {layers} layers"
            ))),
        }
    }

    /// As [`Keys::per_layer`], where all layers must agree.
    fn uniform(&self, suffix: &str, layers: usize, limit: u64) -> Result<Option<usize>> {
        let Some(all) = self.per_layer(suffix, layers, limit)? else {
            return Ok(None);
        };
        if all.iter().any(|n| *n != all[0]) || all[0] == 0 {
            return Err(Error::unsupported(
                format!("layers that differ in {suffix}"),
                "layers of one shape",
            ));
        }
        Ok(Some(all[0]))
    }

    fn number(&self, suffix: &str) -> Option<f32> {
        self.metadata.f32(&self.key(suffix))
    }

    /// A number above zero; absent, and zero, stand for `None`.
    fn positive(&self, suffix: &str) -> Result<Option<f32>> {
        match self.number(suffix) {
            Some(value) if !(value.is_finite() && value >= 0.0) => Err(Error::malformed(format!(
                "{} is not a positive number",
                self.key(suffix)
            ))),
            other => Ok(other.filter(|value| *value > 0.0)),
        }
    }

    /// A cap: `default` where the file has none, and none where it says zero.
    fn cap(&self, suffix: &str, default: Option<f32>) -> Result<Option<f32>> {
        let cap = self.positive(suffix)?;
        Ok(if self.number(suffix).is_none() { default } else { cap })
    }

    /// The main table of rotations for `rotary` turned elements.
    ///
    /// Sources: Peng et al., "YaRN" (2023), and llama.cpp for what its keys mean.
    fn rope(&self, rotary: usize, original_context: usize) -> Result<Rope> {
        let base = self.number("rope.freq_base").unwrap_or(10_000.0);
        if !(base.is_finite() && base >= 1.0) {
            return Err(Error::malformed("its rotary base is not a number of at least 1"));
        }
        // Old files keep the factor under another name; both write 0 for none.
        let scale = [self.number("rope.scaling.factor"), self.number("rope.scale_linear")]
            .into_iter()
            .flatten()
            .find(|factor| *factor != 0.0)
            .unwrap_or(1.0);
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::malformed("its rope scaling factor is not a positive number"));
        }
        let mut rope = Rope {
            base,
            scale,
            ramp: None,
            magnitude: self.positive("rope.scaling.attn_factor")?.unwrap_or(1.0),
            divided: true,
        };
        match self.metadata.str(&self.key("rope.scaling.type")) {
            None | Some("linear") => {}
            Some("none") => rope.scale = 1.0,
            Some("longrope") if scale == 1.0 => {}
            Some("yarn") => {
                if let Some(key) = ["yarn_ext_factor", "yarn_attn_factor"]
                    .into_iter()
                    .find(|key| self.number(&format!("rope.scaling.{key}")).is_some_and(|n| n != 1.0))
                {
                    return Err(Error::unsupported(
                        format!("rope scaling with {key}"),
                        "YaRN without it",
                    ));
                }
                let fast = self.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0);
                let slow = self.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0);
                // The pair that turns round `turns` times over the original context.
                let pair = |turns: f32| {
                    let length = original_context as f32 / (turns * 2.0 * std::f32::consts::PI);
                    rotary as f32 * length.ln() / (2.0 * base.ln())
                };
                let (low, high) = (pair(fast).floor().max(0.0), pair(slow).ceil());
                rope.ramp = Some((low, high.min(rotary as f32 - 1.0)));
                let growth = |weight: f32| 1.0 + 0.1 * weight * scale.max(1.0).ln();
                rope.magnitude *= match self.number("rope.scaling.yarn_log_multiplier") {
                    Some(all) if all != 0.0 => growth(1.0) / growth(all),
                    _ => growth(1.0),
                };
                let numbers = [rope.magnitude, low, high];
                if numbers.iter().any(|n| !n.is_finite()) || rope.magnitude <= 0.0 {
                    return Err(Error::malformed("its rope scaling gives angles that are not numbers"));
                }
            }
            Some(other) => {
                return Err(Error::unsupported(
                    format!("rope scaling of the kind \"{}\" by {scale}", short(other)),
                    "none, linear, yarn, and longrope without a factor of its own",
                ));
            }
        }
        Ok(rope)
    }

    /// Which layers are recurrent: those that the file says, those without key heads, or all but each fourth (another
    /// interval where the file has it).
    fn recurrent(&self, layers: usize, blocks: usize) -> Result<Vec<bool>> {
        let listed = self.key("attention.recurrent_layers");
        match self.metadata.get(&listed) {
            Some(Value::Array(Array::Bool(list))) if list.len() == layers || list.len() == blocks => {
                return Ok(list[..layers].to_vec());
            }
            Some(_) => {
                return Err(Error::malformed(format!(
                    "{listed} does not hold a truth value for each of {layers} layers"
                )));
            }
            None => {}
        }
        let heads = "attention.head_count_kv";
        if let (Some(Value::Array(_)), Some(all)) = (
            self.metadata.get(&self.key(heads)),
            self.per_layer(heads, layers, 1024)?,
        ) {
            return Ok(all.into_iter().map(|heads| heads == 0).collect());
        }
        let interval = self.count("full_attention_interval", 1024)?.unwrap_or(4);
        Ok((1..=layers).map(|layer| layer % interval != 0).collect())
    }

    /// Which layers see a window only, and its length: those that the file's pattern says, or all but each `period`th (0: all).
    fn windows(&self, layers: usize, period: usize, default: Option<usize>) -> Result<(Vec<bool>, Option<usize>)> {
        let suffix = "attention.sliding_window";
        // 0 stands for none.
        let window = match self.metadata.u64(&self.key(suffix)) {
            Some(0) => None,
            _ => self.count(suffix, 1 << 40)?.or(default),
        };
        if window.is_none() {
            return Ok((vec![false; layers], None));
        }
        let pattern = "attention.sliding_window_pattern";
        let local = match self.metadata.get(&self.key(pattern)) {
            Some(Value::Array(array)) => {
                let local = match array {
                    Array::Bool(local) => Some(local.clone()),
                    // Some converters write 1 and 0.
                    other => other
                        .integers()
                        .map(|all| all.into_iter().map(|n| n != 0).collect::<Vec<bool>>()),
                };
                local.filter(|local| local.len() == layers).ok_or_else(|| {
                    Error::malformed(format!(
                        "{} does not hold a truth value for each of {layers} layers",
                        self.key(pattern)
                    ))
                })?
            }
            _ => {
                let period = self.metadata.u64(&self.key(pattern)).map_or(period, |n| n as usize);
                let is_local = |layer: usize| period == 0 || layer % period + 1 < period;
                (0..layers).map(is_local).collect()
            }
        };
        Ok((local, window))
    }
}

impl Config {
    /// Reads the hyper-parameters of a GGUF file.
    ///
    /// Errors: [`Error::Unsupported`] for another architecture or a variant that changes the mathematics,
    /// [`Error::Malformed`] for a missing or impossible value.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let metadata = &gguf.metadata;
        let name = metadata
            .str("general.architecture")
            .ok_or_else(|| Error::malformed("it names no architecture"))?;
        let architecture = Architecture::from_name(name)?;
        if let Some(kind) = metadata.str("general.type")
            && kind != "model"
        {
            return Err(Error::unsupported(
                format!("a file of the kind \"{}\"", short(kind)),
                "files that hold a whole model",
            ));
        }
        if metadata.u64("split.count").is_some_and(|parts| parts > 1) {
            return Err(Error::unsupported(
                "one part of a file that was split",
                "whole files: join the parts first",
            ));
        }
        let keys = Keys { metadata, name };
        let Traits {
            rope_style,
            qk_norm,
            norms,
            activation,
            fused,
            mixing,
            gated,
            ..
        } = architecture.traits();
        if metadata
            .u64(&keys.key("expert_count"))
            .is_some_and(|experts| experts > 0)
        {
            return Err(Error::unsupported("a mixture of experts", "dense students"));
        }
        let required = |suffix: &str, limit: u64| keys.required(suffix, keys.count(suffix, limit)?);
        let blocks = required("block_count", 1024)?;
        let ahead = metadata.u64(&keys.key("nextn_predict_layers")).unwrap_or(0);
        if ahead >= blocks as u64 {
            return Err(Error::malformed("it has blocks that guess ahead, and none besides"));
        }
        let layers = blocks - ahead as usize;
        let hidden = required("embedding_length", 1 << 16)?;
        let uniform = |suffix: &str, limit: u64| keys.uniform(suffix, layers, limit);
        let feed_forward = keys.required("feed_forward_length", uniform("feed_forward_length", 1 << 20)?)?;
        let heads = keys.required("attention.head_count", uniform("attention.head_count", 1024)?)?;
        // Where some layers are recurrent, they have no key heads.
        let kv_heads = match keys.per_layer("attention.head_count_kv", layers, 1024)? {
            Some(all) if mixing.is_some() => attending(all)?.unwrap_or(heads),
            _ => uniform("attention.head_count_kv", 1024)?.unwrap_or(heads),
        };
        if heads % kv_heads != 0 {
            return Err(Error::malformed(format!(
                "{heads} query heads cannot share {kv_heads} key heads"
            )));
        }
        let head_dim = match keys.count("attention.key_length", 4096)? {
            Some(n) => n,
            None if hidden % heads == 0 => hidden / heads,
            None => {
                return Err(Error::malformed(format!(
                    "{hidden} columns cannot be cut into {heads} heads"
                )));
            }
        };
        if keys
            .count("attention.value_length", 4096)?
            .is_some_and(|n| n != head_dim)
        {
            return Err(Error::unsupported(
                "keys and values of different widths",
                "heads of one width",
            ));
        }
        if head_dim % 4 != 0 || head_dim > 512 {
            return Err(Error::unsupported(
                format!("heads {head_dim} wide"),
                "widths that 4 divides, up to 512",
            ));
        }
        if heads * head_dim % 8 != 0 {
            return Err(Error::unsupported(
                format!("{heads} heads of {head_dim} elements"),
                "heads whose widths add up to a multiple of 8",
            ));
        }
        let rotary = keys.count("rope.dimension_count", 4096)?.unwrap_or(head_dim);
        if rotary > head_dim || rotary % 2 != 0 {
            return Err(Error::malformed(format!(
                "{rotary} of {head_dim} elements of a head cannot be turned"
            )));
        }
        let embedding = gguf
            .tensor("token_embd.weight")
            .ok_or_else(|| Error::malformed("it has no token embedding"))?;
        let norm_epsilon = keys.required(
            "attention.layer_norm_rms_epsilon",
            keys.number("attention.layer_norm_rms_epsilon"),
        )?;
        if !(norm_epsilon.is_finite() && (0.0..1.0).contains(&norm_epsilon)) {
            return Err(Error::malformed("the epsilon of its norms is not a small number"));
        }
        let context = required("context_length", 1 << 28)?;
        let original_context = keys
            .count("rope.scaling.original_context_length", 1 << 28)?
            .unwrap_or(context);
        let rope = keys.rope(rotary, original_context)?;
        // The norm would take the magnitude away again, and no kernel does it in that order.
        if qk_norm == QkNorm::HeadTurned && rope.magnitude != 1.0 {
            return Err(Error::unsupported(
                format!("rope scaling with an attention factor in the architecture {name}"),
                "rope scaling without one",
            ));
        }
        let mut config = Self {
            architecture,
            layers,
            blocks,
            hidden,
            feed_forward,
            heads,
            kv_heads,
            head_dim,
            vocabulary: embedding.rows(),
            context,
            original_context,
            norm_epsilon,
            rotary,
            rope_style,
            ropes: vec![rope],
            mixers: Vec::new(),
            recurrent: None,
            gated,
            norms,
            qk_norm,
            activation,
            fused,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            attention_scale: 1.0 / (head_dim as f32).sqrt(),
            attention_cap: None,
            logit_scale: 1.0,
            logit_cap: None,
        };
        config.own(&keys)?;
        if let Some(mixing) = mixing {
            let recurs = keys.recurrent(layers, blocks)?;
            for (mixer, _) in config.mixers.iter_mut().zip(recurs).filter(|(_, recurs)| *recurs) {
                *mixer = Mixer::Recurrent;
            }
            if config.mixers.contains(&Mixer::Recurrent) {
                config.recurrent = Some(Recurrent::from_metadata(metadata, name, mixing, hidden)?);
            }
        }
        Ok(config)
    }

    /// What only some architectures have: multipliers, caps, windows, layers that are not turned.
    fn own(&mut self, keys: &Keys) -> Result<()> {
        let layers = self.layers;
        let plain = Rope {
            scale: 1.0,
            ramp: None,
            magnitude: 1.0,
            divided: false,
            ..self.ropes[0]
        };
        // The table of layers that see all positions, and that of layers that see a window.
        let (mut global, mut local) = (Some(0), Some(0));
        let mut turned = vec![true; layers];
        let mut windows = (vec![false; layers], None);
        match self.architecture {
            Architecture::Qwen2
            | Architecture::Qwen3
            | Architecture::Ernie45
            | Architecture::Hunyuan
            | Architecture::Lfm2
            | Architecture::Qwen35 => {}
            // Where these have windows, they are on every layer (Mistral 0.1, Phi 3).
            Architecture::Llama | Architecture::Phi3 => windows = keys.windows(layers, 0, None)?,
            Architecture::SmolLm3 => turned = (1..=layers).map(|layer| layer % 4 != 0).collect(),
            Architecture::Granite | Architecture::GraniteHybrid => {
                self.embedding_scale = keys.positive("embedding_scale")?.unwrap_or(1.0);
                self.residual_scale = keys.positive("residual_scale")?.unwrap_or(1.0);
                self.attention_scale = keys.positive("attention.scale")?.unwrap_or(self.attention_scale);
                // Logits are divided by this one.
                self.logit_scale = 1.0 / keys.positive("logit_scale")?.unwrap_or(1.0);
                // The file says by this key that positions are not encoded at all.
                if keys.metadata.bool(&keys.key("rope.scaling.finetuned")) == Some(false) {
                    turned.fill(false);
                }
            }
            Architecture::Gemma2 | Architecture::Gemma3 => {
                self.embedding_scale = (self.hidden as f32).sqrt();
                // The largest ones scale by the width that a head would have had.
                let largest = if self.architecture == Architecture::Gemma2 {
                    46
                } else {
                    62
                };
                if layers == largest {
                    self.attention_scale = 1.0 / ((self.hidden / self.heads) as f32).sqrt();
                }
                if self.architecture == Architecture::Gemma2 {
                    self.attention_cap = keys.cap("attn_logit_softcapping", Some(50.0))?;
                    self.logit_cap = keys.cap("final_logit_softcapping", Some(30.0))?;
                    windows = keys.windows(layers, 2, Some(4096))?;
                } else {
                    self.logit_cap = keys.cap("final_logit_softcapping", None)?;
                    windows = keys.windows(layers, 6, None)?;
                    let base = keys.positive("rope.freq_base_swa")?.unwrap_or(10_000.0);
                    self.ropes.push(Rope { base, ..plain });
                    local = Some(1);
                }
            }
            Architecture::Olmo2 => {
                windows = keys.windows(layers, 4, None)?;
                // Only layers that see everything have their context stretched.
                self.ropes.push(plain);
                local = Some(1);
            }
            Architecture::Exaone4 => {
                windows = keys.windows(layers, 4, None)?;
                // Where some layers see a window, the others are not turned.
                if windows.1.is_some() {
                    global = None;
                }
            }
        }
        let (is_local, window) = windows;
        self.mixers = (0..layers)
            .map(|layer| {
                let (window, rope) = if is_local[layer] {
                    (window, local)
                } else {
                    (None, global)
                };
                Mixer::Attention(Attention {
                    // A window beyond the context hides nothing.
                    window: window.filter(|window| *window < self.context),
                    rope: rope.filter(|_| turned[layer]),
                })
            })
            .collect();
        Ok(())
    }

    /// Columns of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Columns of all query heads together with their gates.
    pub fn gated_width(&self) -> usize {
        self.query_width() * if self.gated { 2 } else { 1 }
    }

    /// Columns of all key heads together (and of all value heads).
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// (cos, sin) of each position and turned pair by table `rope`, `(positions, rotary / 2, 2)` row-major.
    ///
    /// The angle of pair i at position p is `p base^(-2 i / rotary) / (scale factor_i)`, where YaRN's ramp spares the fast pairs the
    /// scale; computed in f64: shader sines are not exact for large angles. `factors` are the file's divisors, `(rotary / 2)`.
    /// Sources: Su et al., "RoFormer" (2021); Peng et al., "YaRN" (2023); the factors are Llama 3's or longrope's.
    pub fn turns(&self, rope: usize, positions: usize, factors: Option<&[f32]>) -> Vec<f32> {
        let pairs = self.rotary / 2;
        let rope = &self.ropes[rope];
        let factors = factors.filter(|_| rope.divided);
        let frequencies: Vec<f64> = (0..pairs)
            .map(|i| {
                let exponent = -2.0 * i as f64 / self.rotary as f64;
                let factor = factors.map_or(1.0, |f| f64::from(f[i]));
                let whole = f64::from(rope.base).powf(exponent) / factor;
                let divided = whole / f64::from(rope.scale);
                let spared = rope.ramp.map_or(0.0, |(low, high)| {
                    let (low, high) = (f64::from(low), f64::from(high));
                    1.0 - ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0)
                });
                whole * spared + divided * (1.0 - spared)
            })
            .collect();
        let magnitude = f64::from(rope.magnitude);
        let mut turns = Vec::with_capacity(positions * pairs * 2);
        for position in 0..positions {
            for frequency in &frequencies {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                turns.extend([(magnitude * cos) as f32, (magnitude * sin) as f32]);
            }
        }
        turns
    }
}
