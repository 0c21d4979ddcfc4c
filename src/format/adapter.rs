//! Low-rank adapters (LoRA): the change that training made, as a file of its own.
//!
//! A pair `A (r, K)`, `B (N, r)` changes a matrix `W (N, K)` to `W + s (alpha / r) B A`; `s` is the user's scale.
//! Two formats hold pairs: llama.cpp's GGUF adapter, and PEFT's folder of `adapter_config.json` and
//! `adapter_model.safetensors`. In both, A and B lie rows first. They name the matrices differently, and files converted
//! for some architectures hold the rows of q and k in another order: see [`interleave`].

use super::blocks::{BlockType, dequantize};
use super::gguf::{Gguf, Metadata, Value, Writer};
use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// The change of one matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The matrix in the base's file, `blk.0.attn_q.weight`.
    pub base: String,
    /// r.
    pub rank: usize,
    /// N, results of the matrix.
    pub rows: usize,
    /// K, inputs of the matrix.
    pub columns: usize,
    /// A, `(r, K)`.
    pub a: Vec<f32>,
    /// B, `(N, r)`.
    pub b: Vec<f32>,
}

/// An adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Architecture of the base, as GGUF names it.
    pub architecture: String,
    /// Over the rank it scales every pair.
    pub alpha: f32,
    /// Everything else that the file says: name, provenance, run card.
    pub metadata: Metadata,
    /// The pairs, by the names of their matrices.
    pub pairs: Vec<Pair>,
}

/// What must be known of the base to read or write PEFT's order and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Its architecture, as GGUF names it.
    pub architecture: String,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
}

/// The seven matrices of a layer: GGUF's name and PEFT's.
pub const MODULES: [(&str, &str); 7] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// As [`MODULES`], under the names that the layers of an architecture have in transformers.
///
/// What a file of ours has in two tensors and transformers in one (Granite 4's gate and up) has no name.
fn modules(architecture: &str) -> &'static [(&'static str, &'static str)] {
    match architecture {
        "phi3" => &[
            ("attn_qkv", "self_attn.qkv_proj"),
            ("attn_output", "self_attn.o_proj"),
            ("ffn_up", "mlp.gate_up_proj"),
            ("ffn_down", "mlp.down_proj"),
        ],
        "lfm2" => &[
            ("attn_q", "self_attn.q_proj"),
            ("attn_k", "self_attn.k_proj"),
            ("attn_v", "self_attn.v_proj"),
            ("attn_output", "self_attn.out_proj"),
            ("ffn_gate", "feed_forward.w1"),
            ("ffn_up", "feed_forward.w3"),
            ("ffn_down", "feed_forward.w2"),
        ],
        "granitehybrid" => &[
            ("attn_q", "self_attn.q_proj"),
            ("attn_k", "self_attn.k_proj"),
            ("attn_v", "self_attn.v_proj"),
            ("attn_output", "self_attn.o_proj"),
            ("ffn_down", "shared_mlp.output_linear"),
        ],
        _ => &MODULES,
    }
}

/// Before the name of a layer in PEFT's files.
const PREFIX: &str = "base_model.model.model.layers.";

fn unsupported(what: impl Into<String>) -> Error {
    Error::Adapter { what: what.into() }
}

impl Adapter {
    /// The factor of `B A` at the user's scale `s`, for a pair of rank `rank`.
    pub fn scale(&self, rank: usize, s: f32) -> f32 {
        // llama.cpp: no alpha, no division.
        if self.alpha == 0.0 {
            s
        } else {
            s * self.alpha / rank as f32
        }
    }

    /// Reads a GGUF adapter.
    ///
    /// Errors: what [`Gguf::from_bytes`] finds; [`Error::Adapter`] for a file that is no LoRA, has a tensor that is no half
    /// of a pair, or halves that do not fit each other.
    pub fn from_gguf(bytes: &[u8]) -> Result<Self> {
        let gguf = Gguf::from_bytes(bytes)?;
        let text = |key: &str| gguf.metadata.str(key);
        if text("general.type") != Some("adapter") {
            return Err(unsupported("this GGUF file is a student, not an adapter"));
        }
        match text("adapter.type") {
            Some("lora") => {}
            other => {
                return Err(unsupported(format!(
                    "adapters of the type '{}' are not known, only 'lora'",
                    other.unwrap_or("none")
                )));
            }
        }
        let architecture = text("general.architecture").unwrap_or_default().to_owned();
        let alpha = gguf.metadata.f32("adapter.lora.alpha").unwrap_or(0.0);
        if !alpha.is_finite() || alpha < 0.0 {
            return Err(unsupported(format!("its alpha is {alpha}")));
        }
        let mut halves: BTreeMap<String, [Half; 2]> = BTreeMap::new();
        for tensor in &gguf.tensors {
            if tensor.name.ends_with("_norm.weight") {
                continue;
            }
            let (base, half) = match (tensor.name.strip_suffix(".lora_a"), tensor.name.strip_suffix(".lora_b")) {
                (Some(base), _) => (base, 0),
                (_, Some(base)) => (base, 1),
                _ => {
                    return Err(unsupported(format!(
                        "it holds {}, which is no half of a pair",
                        tensor.name
                    )));
                }
            };
            let (rows, columns) = (tensor.rows(), tensor.columns());
            let begin = tensor.offset as usize;
            let mut values = vec![0.0; rows * columns];
            dequantize(
                tensor.block_type()?,
                &bytes[begin..begin + tensor.bytes as usize],
                &mut values,
            );
            halves.entry(base.to_owned()).or_default()[half] = Some((rows, columns, values));
        }
        let mut pairs = Vec::with_capacity(halves.len());
        for (base, [a, b]) in halves {
            pairs.push(pair(base, a, b)?);
        }
        Self {
            architecture,
            alpha,
            metadata: gguf.metadata,
            pairs,
        }
        .checked()
    }

    /// Reads PEFT's two files for a base.
    ///
    /// Errors: [`Error::Adapter`] for settings that a GGUF adapter cannot express (DoRA, trained biases or whole modules)
    /// and for tensors that belong to no known matrix; [`Error::Malformed`] where a file is not what its name says.
    pub fn from_peft(config: &str, weights: &[u8], base: &Base) -> Result<Self> {
        let config: Json = serde_json::from_str(config)
            .map_err(|e| Error::malformed(format!("adapter_config.json is not JSON: {e}")))?;
        if config["peft_type"].as_str() != Some("LORA") {
            return Err(unsupported(format!(
                "its PEFT type is {}, only LORA is known",
                config["peft_type"]
            )));
        }
        for key in ["use_dora", "fan_in_fan_out", "lora_bias"] {
            if config[key].as_bool() == Some(true) {
                return Err(unsupported(format!("it was trained with {key}")));
            }
        }
        if config["bias"].as_str().is_some_and(|bias| bias != "none") {
            return Err(unsupported("it holds trained biases"));
        }
        if config["modules_to_save"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
        {
            return Err(unsupported("it replaces whole modules (modules_to_save)"));
        }
        let alpha = config["lora_alpha"].as_f64().unwrap_or(8.0) as f32;
        if !alpha.is_finite() || alpha <= 0.0 {
            return Err(unsupported(format!("its alpha is {alpha}")));
        }
        let rooted = config["use_rslora"].as_bool() == Some(true);
        let file = SafeTensors::deserialize(weights)
            .map_err(|e| Error::malformed(format!("adapter_model.safetensors cannot be read: {e}")))?;
        let mut halves: BTreeMap<String, [Half; 2]> = BTreeMap::new();
        for (name, tensor) in file.tensors() {
            let (matrix, half) = peft_matrix(&name, &base.architecture).ok_or_else(|| {
                unsupported(format!(
                    "it changes {name}, which is none of the seven matrices of a layer"
                ))
            })?;
            let &[rows, columns] = tensor.shape() else {
                return Err(unsupported(format!("{name} is not a matrix")));
            };
            halves.entry(matrix).or_default()[half] = Some((rows, columns, floats(&name, &tensor)?));
        }
        let pattern = |key: &str, matrix: &str| -> Option<f32> {
            let of_matrix = |(gguf, _): &&(&str, &str)| matrix.ends_with(&format!(".{gguf}.weight"));
            let module = modules(&base.architecture).iter().find(of_matrix)?.1;
            let named = config[key].as_object()?.iter().find(|(name, _)| {
                let name = name.trim_start_matches('^').trim_start_matches(".*");
                module.ends_with(name) || name.ends_with(module)
            })?;
            named.1.as_f64().map(|v| v as f32)
        };
        let mut pairs = Vec::with_capacity(halves.len());
        for (matrix, [a, b]) in halves {
            let mut pair = pair(matrix, a, b)?;
            if has_neighbours(&base.architecture) {
                let heads = if pair.base.contains("attn_q") {
                    base.heads
                } else if pair.base.contains("attn_k") {
                    base.kv_heads
                } else {
                    0
                };
                if heads > 0 {
                    pair.b = interleave(&pair.b, pair.rank, heads, true)?;
                }
            }
            // One alpha holds for the whole file; what differs from it goes into B.
            let own = pattern("alpha_pattern", &pair.base).unwrap_or(alpha);
            let root = if rooted { (pair.rank as f32).sqrt() } else { 1.0 };
            let factor = own * root / alpha;
            if factor != 1.0 {
                pair.b.iter_mut().for_each(|v| *v *= factor);
            }
            pairs.push(pair);
        }
        let mut metadata = Metadata::default();
        if let Some(name) = config["base_model_name_or_path"].as_str() {
            metadata.insert("general.base_model.0.name", Value::String(name.to_owned()));
        }
        Self {
            architecture: base.architecture.clone(),
            alpha,
            metadata,
            pairs,
        }
        .checked()
    }

    fn checked(self) -> Result<Self> {
        if self.pairs.is_empty() {
            return Err(unsupported("it changes nothing: it holds no pair"));
        }
        for pair in &self.pairs {
            if pair.a.iter().chain(&pair.b).any(|v| !v.is_finite()) {
                return Err(unsupported(format!("{} holds numbers that are not finite", pair.base)));
            }
        }
        Ok(self)
    }

    /// As a GGUF adapter, weights in f32.
    pub fn to_gguf(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        for (key, value) in self.metadata.iter() {
            writer.set(key, value.clone());
        }
        writer
            .set("general.type", Value::String("adapter".into()))
            .set("general.architecture", Value::String(self.architecture.clone()))
            .set("adapter.type", Value::String("lora".into()))
            .set("adapter.lora.alpha", Value::F32(self.alpha));
        for pair in &self.pairs {
            let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
            let shape_a = [pair.columns as u64, pair.rank as u64];
            let shape_b = [pair.rank as u64, pair.rows as u64];
            writer.tensor(
                format!("{}.lora_a", pair.base),
                &shape_a,
                BlockType::F32,
                bytes(&pair.a),
            );
            writer.tensor(
                format!("{}.lora_b", pair.base),
                &shape_b,
                BlockType::F32,
                bytes(&pair.b),
            );
        }
        writer.to_bytes()
    }

    /// As PEFT's `adapter_config.json` and `adapter_model.safetensors`.
    ///
    /// Errors: [`Error::Adapter`] for pairs of different ranks or of matrices that PEFT's layout has no name for.
    pub fn to_peft(&self, base: &Base, base_name: &str) -> Result<(String, Vec<u8>)> {
        let rank = self.pairs.first().map_or(0, |pair| pair.rank);
        if self.pairs.iter().any(|pair| pair.rank != rank) {
            return Err(unsupported("its pairs have different ranks"));
        }
        let mut targets = Vec::new();
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for pair in &self.pairs {
            let named = pair.base.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
            let found = named.and_then(|(layer, part)| {
                let part = part.strip_suffix(".weight")?;
                let all = modules(&self.architecture);
                let module = all.iter().find(|(gguf, _)| *gguf == part)?.1;
                Some((layer, module))
            });
            let (layer, module) = found.ok_or_else(|| unsupported(format!("PEFT has no name for {}", pair.base)))?;
            let short = module.rsplit('.').next().unwrap_or(module);
            if !targets.contains(&short) {
                targets.push(short);
            }
            let heads = match short {
                "q_proj" => base.heads,
                "k_proj" => base.kv_heads,
                _ => 0,
            };
            let turned = if has_neighbours(&base.architecture) && heads > 0 {
                interleave(&pair.b, pair.rank, heads, false)?
            } else {
                pair.b.clone()
            };
            let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
            let name = |half: &str| format!("{PREFIX}{layer}.{module}.{half}.weight");
            tensors.push((name("lora_A"), vec![pair.rank, pair.columns], bytes(&pair.a)));
            tensors.push((name("lora_B"), vec![pair.rows, pair.rank], bytes(&turned)));
        }
        let views = tensors.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the shapes are those of the pairs");
            (name.as_str(), view)
        });
        let weights = safetensors::serialize(views, None).expect("the tensors have different names");
        let alpha = if self.alpha == 0.0 { rank as f32 } else { self.alpha };
        let config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_name, "r": rank,
            "lora_alpha": alpha, "lora_dropout": 0.0, "bias": "none", "target_modules": targets, "fan_in_fan_out": false,
            "inference_mode": true, "init_lora_weights": true, "use_rslora": false, "use_dora": false,
            "modules_to_save": null, "rank_pattern": {}, "alpha_pattern": {}
        });
        let config = serde_json::to_string_pretty(&config).expect("it is JSON");
        Ok((config, weights))
    }
}

/// A half as it was read: rows, columns, values.
type Half = Option<(usize, usize, Vec<f32>)>;

fn pair(base: String, a: Half, b: Half) -> Result<Pair> {
    let (Some((rank, columns, a)), Some((rows, rank_b, b))) = (a, b) else {
        return Err(unsupported(format!("{base} has only one half of its pair")));
    };
    if rank != rank_b || rank == 0 {
        return Err(unsupported(format!(
            "the halves of {base} have the ranks {rank} and {rank_b}"
        )));
    }
    Ok(Pair {
        base,
        rank,
        rows,
        columns,
        a,
        b,
    })
}

/// GGUF's name of a matrix and which half it is, from PEFT's name of a tensor.
fn peft_matrix(name: &str, architecture: &str) -> Option<(String, usize)> {
    // Some writers leave the name of the adapter in, some the outer model out.
    let name = name.replace(".default.weight", ".weight");
    let at = name.find("layers.")?;
    let (layer, rest) = name[at + "layers.".len()..].split_once('.')?;
    layer.parse::<u32>().ok()?;
    let (module, half) = match (rest.strip_suffix(".lora_A.weight"), rest.strip_suffix(".lora_B.weight")) {
        (Some(module), _) => (module, 0),
        (_, Some(module)) => (module, 1),
        _ => return None,
    };
    let gguf = modules(architecture).iter().find(|(_, peft)| *peft == module)?.0;
    Some((format!("blk.{layer}.{gguf}.weight"), half))
}

fn floats(name: &str, tensor: &TensorView) -> Result<Vec<f32>> {
    let kind = match tensor.dtype() {
        Dtype::F32 => BlockType::F32,
        Dtype::F16 => BlockType::F16,
        Dtype::BF16 => BlockType::BF16,
        other => return Err(unsupported(format!("{name} holds numbers of the type {other:?}"))),
    };
    let mut values = vec![0.0; tensor.shape().iter().product()];
    dequantize(kind, tensor.data(), &mut values);
    Ok(values)
}

/// Whether converters put rotary partners of this architecture side by side. (Ernie 4.5 has them so from the start.)
fn has_neighbours(architecture: &str) -> bool {
    matches!(architecture, "llama" | "granite" | "granitehybrid" | "smollm3")
}

/// Rows of a `(heads d, r)` matrix between the two orders of rotary pairs. PEFT keeps the halves of a head apart (row i
/// turns with row i + d/2); files converted for some architectures keep partners side by side (2 i with 2 i + 1).
/// `together`: from apart to side by side; else back.
///
/// Errors: [`Error::Adapter`] if the rows are not whole heads of even width.
pub fn interleave(values: &[f32], rank: usize, heads: usize, together: bool) -> Result<Vec<f32>> {
    let rows = values.len() / rank.max(1);
    if heads == 0 || !rows.is_multiple_of(2 * heads) {
        return Err(unsupported(format!("{rows} rows are not {heads} heads")));
    }
    let d = rows / heads;
    let mut out = vec![0.0; values.len()];
    for head in 0..heads {
        for i in 0..d / 2 {
            for half in 0..2 {
                let apart = head * d + half * (d / 2) + i;
                let beside = head * d + 2 * i + half;
                let (from, to) = if together { (apart, beside) } else { (beside, apart) };
                out[to * rank..(to + 1) * rank].copy_from_slice(&values[from * rank..(from + 1) * rank]);
            }
        }
    }
    Ok(out)
}
