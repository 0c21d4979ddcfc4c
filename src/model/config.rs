//! Hyper-parameters, read once from the file's metadata into a checked type.

use crate::error::{Error, Result};
use crate::format::gguf::Gguf;
use super::{Mixing, Recurrent};

/// Architectures that the plan knows, by their `general.architecture`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 2 and 3, Mistral, SmolLM 1 and 2, and other files of the same shape.
    Llama,
    /// Qwen 2 and 2.5: Llama with biases on q, k and v.
    Qwen2,
    /// Qwen 3: Llama with an RMS norm on each query and key head.
    Qwen3,
    /// LFM2: short convolutions, and attention in some layers.
    Lfm2,
    /// Qwen 3.5: gated delta nets, and gated attention in every fourth layer.
    Qwen35,
}

impl Architecture {
    /// The names that this program knows, for messages.
    pub const KNOWN: &'static str = "the architectures llama (Llama, Mistral, SmolLM2), qwen2 and qwen3";

    /// The name that the file uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Lfm2 => "lfm2",
            Self::Qwen35 => "qwen35",
        }
    }

    fn from_name(name: &str) -> Result<Self> {
        match name {
            "llama" => Ok(Self::Llama),
            "qwen2" => Ok(Self::Qwen2),
            "qwen3" => Ok(Self::Qwen3),
            "lfm2" => Ok(Self::Lfm2),
            "qwen35" => Ok(Self::Qwen35),
            // Names are short; a hostile one is cut so that the message stays a sentence.
            other => Err(Error::unsupported(
                format!("the architecture \"{}\"", other.chars().take(40).collect::<String>()),
                Self::KNOWN,
            )),
        }
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

/// The shape of a student. Every field is checked against the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which network.
    pub architecture: Architecture,
    /// Transformer blocks.
    pub layers: usize,
    /// D, the width of the residual stream.
    pub hidden: usize,
    /// F, the width of the feed-forward part.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; a multiple of 4.
    pub head_dim: usize,
    /// V, tokens in the vocabulary (rows of the embedding).
    pub vocabulary: usize,
    /// Positions that the student was trained on.
    pub context: usize,
    /// The epsilon of every RMS norm.
    pub norm_epsilon: f32,
    /// The base of the rotary frequencies.
    pub rope_base: f32,
    /// Positions are divided by this (linear rope scaling; 1 = none).
    pub rope_scale: f32,
    /// Elements of a head that are turned; even, at most `head_dim`.
    pub rotary: usize,
    /// Which elements are turned together.
    pub rope_style: RopeStyle,
    /// The shape of recurrent layers, where it has any.
    pub recurrent: Option<Recurrent>,
    /// Which layers are recurrent.
    pub recurs: Vec<bool>,
    /// Whether attention is gated: each query head is followed by its gate.
    pub gated: bool,
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
                format!("a file of the kind \"{}\"", kind.chars().take(40).collect::<String>()),
                "files that hold a whole model",
            ));
        }
        if metadata.u64("split.count").is_some_and(|parts| parts > 1) {
            return Err(Error::unsupported(
                "one part of a file that was split",
                "whole files: join the parts first",
            ));
        }
        let key = |suffix: &str| format!("{name}.{suffix}");
        let count = |suffix: &str, limit: u64| -> Result<Option<usize>> {
            let full = key(suffix);
            if metadata.get(&full).is_none() {
                return Ok(None);
            }
            match metadata.u64(&full) {
                Some(n) if n >= 1 && n <= limit => Ok(Some(n as usize)),
                _ => Err(Error::malformed(format!(
                    "{full} is not a whole number from 1 to {limit}"
                ))),
            }
        };
        let required = |suffix: &str, limit: u64| -> Result<usize> {
            count(suffix, limit)?.ok_or_else(|| Error::malformed(format!("{} is missing", key(suffix))))
        };
        let number = |suffix: &str| metadata.f32(&key(suffix));

        if let Some(experts) = metadata.u64(&key("expert_count"))
            && experts > 0
        {
            return Err(Error::unsupported("a mixture of experts", "dense students"));
        }
        let layers = required("block_count", 1024)?;
        let hidden = required("embedding_length", 1 << 16)?;
        let feed_forward = required("feed_forward_length", 1 << 20)?;
        let heads = required("attention.head_count", 1024)?;
        // Some architectures list the key heads of every layer: none where it is recurrent.
        let listed = metadata.integers(&key("attention.head_count_kv"));
        let recurs = match (architecture, &listed) {
            (Architecture::Lfm2, Some(listed)) => listed.iter().map(|n| *n == 0).collect(),
            (Architecture::Qwen35, _) => match metadata.bools(&key("attention.recurrent_layers")) {
                Some(list) => list.to_vec(),
                None => {
                    let interval = count("full_attention_interval", 1024)?.unwrap_or(4);
                    (0..layers).map(|layer| (layer + 1) % interval != 0).collect()
                }
            },
            _ => vec![false; layers],
        };
        if recurs.len() != layers {
            return Err(Error::malformed("it does not tell the kind of each layer"));
        }
        let recurrent = match architecture {
            Architecture::Lfm2 => Some(Recurrent::from_metadata(metadata, name, Mixing::ShortConv, hidden)?),
            Architecture::Qwen35 => Some(Recurrent::from_metadata(metadata, name, Mixing::DeltaNet, hidden)?),
            _ => None,
        };
        let kv_heads = match &listed {
            Some(listed) => listed.iter().copied().max().unwrap_or(1).max(1) as usize,
            None => count("attention.head_count_kv", 1024)?.unwrap_or(heads),
        };
        if heads % kv_heads != 0 {
            return Err(Error::malformed(format!(
                "{heads} query heads cannot share {kv_heads} key heads"
            )));
        }
        let head_dim = match count("attention.key_length", 4096)? {
            Some(n) => n,
            None if hidden % heads == 0 => hidden / heads,
            None => {
                return Err(Error::malformed(format!(
                    "{hidden} columns cannot be cut into {heads} heads"
                )));
            }
        };
        if count("attention.value_length", 4096)?.is_some_and(|n| n != head_dim) {
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
        let rotary = count("rope.dimension_count", 4096)?.unwrap_or(head_dim);
        if rotary > head_dim || rotary % 2 != 0 {
            return Err(Error::malformed(format!(
                "{rotary} of {head_dim} elements of a head cannot be turned"
            )));
        }
        let embedding = gguf
            .tensor("token_embd.weight")
            .ok_or_else(|| Error::malformed("it has no token embedding"))?;
        let norm_epsilon = number("attention.layer_norm_rms_epsilon")
            .ok_or_else(|| Error::malformed(format!("{} is missing", key("attention.layer_norm_rms_epsilon"))))?;
        if !(norm_epsilon.is_finite() && (0.0..1.0).contains(&norm_epsilon)) {
            return Err(Error::malformed("the epsilon of its norms is not a small number"));
        }
        let rope_base = number("rope.freq_base").unwrap_or(10_000.0);
        if !(rope_base.is_finite() && rope_base >= 1.0) {
            return Err(Error::malformed("its rotary base is not a number of at least 1"));
        }
        let rope_scale = match metadata.str(&key("rope.scaling.type")) {
            None | Some("none") => number("rope.scale_linear").unwrap_or(1.0),
            Some("linear") => number("rope.scaling.factor").unwrap_or(1.0),
            Some(other) => {
                let other: String = other.chars().take(40).collect();
                return Err(Error::unsupported(
                    format!("rope scaling of the kind \"{other}\""),
                    "none and linear",
                ));
            }
        };
        if !(rope_scale.is_finite() && rope_scale > 0.0) {
            return Err(Error::malformed("its rope scaling factor is not a positive number"));
        }
        Ok(Self {
            architecture,
            layers,
            hidden,
            feed_forward,
            heads,
            kv_heads,
            head_dim,
            vocabulary: embedding.rows(),
            context: required("context_length", 1 << 28)?,
            norm_epsilon,
            rope_base,
            rope_scale,
            rotary,
            rope_style: match architecture {
                Architecture::Llama => RopeStyle::Pairs,
                _ => RopeStyle::Halves,
            },
            recurrent,
            recurs,
            gated: architecture == Architecture::Qwen35,
        })
    }

    /// Columns of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Columns of all key heads together (and of all value heads).
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// (cos, sin) of each position and turned pair, `(positions, rotary / 2, 2)` row-major.
    ///
    /// The angle of pair i at position p is `p base^(-2 i / rotary) / (scale factor_i)`, computed in f64: shader sines
    /// are not exact for large angles. `factors` are the file's `rope_freqs.weight`, `(rotary / 2)`.
    /// Source: Su et al., "RoFormer" (2021); the factors are Llama 3's frequency scaling.
    pub fn turns(&self, positions: usize, factors: Option<&[f32]>) -> Vec<f32> {
        let pairs = self.rotary / 2;
        let frequencies: Vec<f64> = (0..pairs)
            .map(|i| {
                let exponent = -2.0 * i as f64 / self.rotary as f64;
                let factor = factors.map_or(1.0, |f| f64::from(f[i]));
                f64::from(self.rope_base).powf(exponent) / (f64::from(self.rope_scale) * factor)
            })
            .collect();
        let mut turns = Vec::with_capacity(positions * pairs * 2);
        for position in 0..positions {
            for frequency in &frequencies {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                turns.extend([cos as f32, sin as f32]);
            }
        }
        turns
    }
}
