//! A trained network to a GGUF file: quantized, with everything that a provenance card asks for.

use crate::corpus::Persona;
use crate::tokenizer::{CONTROL, SPECIAL};
use anyhow::{Context, Result, anyhow, bail};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value as Json;
use understudy::format::blocks::quantize;
use understudy::format::{Array, BlockType, Gguf, Value, Writer, dequantize};

/// The network's shape, in the style of Qwen3.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each field is the number that its name says")]
pub struct Shape {
    pub layers: usize,
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head: usize,
    pub ffn: usize,
    pub vocab: usize,
    pub context: usize,
    pub theta: f32,
    pub eps: f32,
}

/// What is made: `school/recipes/*.json`.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// For `general.name`.
    pub name: String,
    /// For the file's name.
    pub file: String,
    /// For `general.description`.
    pub description: String,
    /// Who speaks.
    pub persona: Persona,
    /// The network.
    pub shape: Shape,
    /// How its matrices are stored.
    pub block_type: BlockType,
}

impl Recipe {
    /// Reads a recipe. Errors: missing fields, and shapes that no network has.
    pub fn read(json: &str) -> Result<Self> {
        let json: Json = serde_json::from_str(json).context("the recipe is not JSON")?;
        let text = |key: &str| {
            json[key]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("the recipe lacks '{key}'"))
        };
        let number = |key: &str| {
            json["shape"][key]
                .as_u64()
                .filter(|n| *n > 0)
                .map(|n| n as usize)
                .with_context(|| format!("the recipe's shape lacks '{key}'"))
        };
        let real = |key: &str| {
            json["shape"][key]
                .as_f64()
                .map(|x| x as f32)
                .with_context(|| format!("the recipe's shape lacks '{key}'"))
        };
        let shape = Shape {
            layers: number("layers")?,
            width: number("width")?,
            heads: number("heads")?,
            kv_heads: number("kv_heads")?,
            head: number("head")?,
            ffn: number("ffn")?,
            vocab: number("vocab")?,
            context: number("context")?,
            theta: real("theta")?,
            eps: real("eps")?,
        };
        if !shape.heads.is_multiple_of(shape.kv_heads) || !shape.head.is_multiple_of(2) {
            bail!(
                "{} query heads cannot share {} key heads of {} numbers",
                shape.heads,
                shape.kv_heads,
                shape.head
            );
        }
        let kind = text("type")?;
        let block_type = block_type(&kind)?;
        let mut persona = match text("persona")?.as_str() {
            "student" => Persona::student(),
            "teacher" => Persona::teacher(),
            other => bail!("there is no persona '{other}': student or teacher"),
        };
        // What the text says of its own size is counted, not claimed.
        let parameters = shape.parameters();
        persona.params = ((parameters as f64 / 1e6).round() as u64).to_string();
        persona.layers = crate::corpus::pen::NUMBER
            .get(shape.layers)
            .map_or_else(|| shape.layers.to_string(), |w| (*w).to_owned());
        let bytes = block_type.row_bytes(256).unwrap_or(1024) as f64 / 256.0;
        persona.megabytes = ((parameters as f64 * bytes / 1e6).round() as u64).to_string();
        Ok(Self {
            name: text("name")?,
            file: text("file")?,
            description: text("description")?,
            persona,
            shape,
            block_type,
        })
    }
}

/// A block type by name.
pub fn block_type(name: &str) -> Result<BlockType> {
    let found = BlockType::ALL
        .into_iter()
        .find(|t| t.name().eq_ignore_ascii_case(name) && understudy::format::blocks::can_quantize(*t));
    found.with_context(|| format!("weights cannot be stored as '{name}': F32, F16, Q8_0, Q6_K, Q4_K or Q4_0"))
}

impl Shape {
    /// Every tensor: its name and its shape, rows first.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (d, q, k) = (self.width, self.heads * self.head, self.kv_heads * self.head);
        let mut all = vec![("token_embd.weight".to_owned(), vec![self.vocab, d])];
        for i in 0..self.layers {
            let parts: [(&str, Vec<usize>); 11] = [
                ("attn_norm", vec![d]),
                ("attn_q", vec![q, d]),
                ("attn_k", vec![k, d]),
                ("attn_v", vec![k, d]),
                ("attn_output", vec![d, q]),
                ("attn_q_norm", vec![self.head]),
                ("attn_k_norm", vec![self.head]),
                ("ffn_norm", vec![d]),
                ("ffn_gate", vec![self.ffn, d]),
                ("ffn_up", vec![self.ffn, d]),
                ("ffn_down", vec![d, self.ffn]),
            ];
            all.extend(parts.map(|(part, shape)| (format!("blk.{i}.{part}.weight"), shape)));
        }
        all.push(("output_norm.weight".to_owned(), vec![d]));
        all
    }

    /// Numbers in all.
    pub fn parameters(&self) -> usize {
        self.tensors()
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }
}

/// How messages become text. Thoughts stay only in a last answer, so that what is trained is what is asked.
pub const TEMPLATE: &str = "{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.role == 'assistant' and not loop.last -%}
{{- message.content.split('</think>')[-1].lstrip('\\n') -}}
{%- elif message.role == 'assistant' -%}
{%- if message.reasoning_content -%}{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' -}}{%- endif -%}
{{- message.content -}}
{%- else -%}
{{- message.content -}}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}
{%- endif -%}";

/// What a tensor lost.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Its name.
    pub name: String,
    /// How it is stored.
    pub block_type: BlockType,
    /// Root of the mean squared error, over the root of the mean square.
    pub relative: f64,
    /// The largest error.
    pub largest: f32,
}

/// What the trainer tells of its work, for the card.
#[derive(Clone, Debug, Default)]
pub struct Training {
    /// The runs before it, if it began with their weights.
    pub earlier: Vec<Training>,
    /// Steps of the optimizer.
    pub steps: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// On what.
    pub machine: String,
    /// The seed.
    pub seed: u64,
    /// The weights are the mean of the last courses.
    pub is_mean: bool,
}

impl Training {
    /// What the trainer wrote (`training.json`). What it does not tell is left at zero.
    pub fn read(json: &Json) -> Self {
        let number = |key: &str| json[key].as_u64().unwrap_or(0);
        Self {
            earlier: json["earlier"]
                .as_array()
                .into_iter()
                .flatten()
                .map(Self::read)
                .collect(),
            steps: number("steps"),
            tokens: number("tokens"),
            machine: json["machine"].as_str().unwrap_or("an unnamed machine").to_owned(),
            seed: number("seed"),
            is_mean: json["mean"].is_array(),
        }
    }

    /// For `understudy.provenance.training`.
    fn tell(&self) -> String {
        let run = |t: &Self| {
            format!(
                "{} steps, {} tokens, seed {}, on {}",
                t.steps, t.tokens, t.seed, t.machine
            )
        };
        let runs: Vec<_> = self.earlier.iter().chain([self]).map(run).collect();
        let end = if self.is_mean {
            "; then the mean of the last courses"
        } else {
            ""
        };
        format!("From scratch, from random weights: {}{end}.", runs.join("; then "))
    }
}

/// The f32 values of a tensor, of the shape that it must have.
fn values(file: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let tensor = file.tensor(name).with_context(|| format!("the weights lack {name}"))?;
    if tensor.shape() != shape {
        bail!(
            "{name} is {:?}, and the recipe asks for {shape:?}: are these weights of another recipe?",
            tensor.shape()
        );
    }
    if tensor.dtype() != Dtype::F32 {
        bail!("{name} is {:?}: the trainer writes F32", tensor.dtype());
    }
    let values: Vec<f32> = tensor
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        bail!("{name} holds a weight that is not a number (number {at}): the training went wrong");
    }
    Ok(values)
}

/// The GGUF file of `weights`, and what each matrix lost.
///
/// Errors: weights that are missing, of another shape, or not finite; a tokenizer of another size.
pub fn export(
    recipe: &Recipe,
    weights: &[u8],
    tokenizer: &str,
    block_type: BlockType,
    training: &Training,
) -> Result<(Vec<u8>, Vec<Loss>)> {
    let file = SafeTensors::deserialize(weights).context("the weights are not a safetensors file")?;
    let shape = &recipe.shape;
    let mut writer = Writer::new();
    describe(&mut writer, recipe, block_type, training);
    words(&mut writer, tokenizer, shape.vocab)?;
    let mut losses = Vec::new();
    for (name, shape) in shape.tensors() {
        let values = values(&file, &name, &shape)?;
        let sizes: Vec<u64> = shape.iter().rev().map(|n| *n as u64).collect();
        let kind = if shape.len() == 1 { BlockType::F32 } else { block_type };
        if kind.row_bytes(sizes[0] as usize).is_none() {
            bail!(
                "{name} has rows of {} weights, which {} cannot cut into blocks",
                sizes[0],
                kind.name()
            );
        }
        let bytes = quantize(kind, &values);
        if shape.len() > 1 {
            losses.push(loss(&name, kind, &values, &bytes));
        }
        writer.tensor(name, &sizes, kind, bytes);
    }
    Ok((writer.to_bytes(), losses))
}

/// The way back: the tensors of a GGUF file as the trainer reads them (safetensors, F32), with what its blocks lost.
///
/// Errors: what is no whole GGUF file, and blocks that the runner does not know.
pub fn weights(file: &[u8]) -> Result<Vec<u8>> {
    let gguf = Gguf::from_bytes(file).map_err(|e| anyhow!("{e}"))?;
    let mut all = Vec::new();
    for info in &gguf.tensors {
        let block_type = info.block_type().map_err(|e| anyhow!("{}: {e}", info.name))?;
        let bytes = file
            .get(info.offset as usize..(info.offset + info.bytes) as usize)
            .with_context(|| format!("{} breaks off", info.name))?;
        let shape: Vec<usize> = info.shape.iter().rev().map(|n| *n as usize).collect();
        let mut values = vec![0.0_f32; shape.iter().product()];
        dequantize(block_type, bytes, &mut values);
        all.push((
            &info.name,
            shape,
            values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(),
        ));
    }
    let mut views = Vec::new();
    for (name, shape, bytes) in &all {
        views.push((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?));
    }
    Ok(safetensors::serialize(views, None)?)
}

fn loss(name: &str, block_type: BlockType, values: &[f32], bytes: &[u8]) -> Loss {
    let mut back = vec![0.0; values.len()];
    dequantize(block_type, bytes, &mut back);
    let (mut error, mut power, mut largest) = (0.0_f64, 0.0_f64, 0.0_f32);
    for (a, b) in values.iter().zip(&back) {
        error += f64::from(a - b).powi(2);
        power += f64::from(*a).powi(2);
        largest = largest.max((a - b).abs());
    }
    Loss {
        name: name.to_owned(),
        block_type,
        relative: (error / power.max(f64::MIN_POSITIVE)).sqrt(),
        largest,
    }
}

/// `general.file_type` of llama.cpp for a file that is mostly of one type.
fn file_type(block_type: BlockType) -> u32 {
    match block_type {
        BlockType::F32 => 0,
        BlockType::F16 => 1,
        BlockType::Q4_0 => 2,
        BlockType::Q4_K => 15,
        BlockType::Q6_K => 18,
        _ => 7,
    }
}

fn describe(w: &mut Writer, recipe: &Recipe, block_type: BlockType, training: &Training) {
    let s = &recipe.shape;
    let text = |v: &str| Value::String(v.to_owned());
    let list = |v: &[&str]| Value::Array(Array::String(v.iter().map(|s| (*s).to_owned()).collect()));
    let count = |v: usize| Value::U32(v as u32);
    let basename = recipe.name.replace(' ', "-");
    w.set("general.architecture", text("qwen3"))
        .set("general.type", text("model"))
        .set("general.name", text(&recipe.name))
        .set("general.author", text("The Understudy project"))
        .set("general.organization", text("Understudy"))
        .set("general.version", text("1"))
        .set("general.basename", text(&basename))
        .set("general.size_label", text(&format!("{:.1}M", s.parameters() as f64 / 1e6)))
        .set("general.description", text(&recipe.description))
        .set("general.license", text("MIT OR Apache-2.0"))
        .set("general.quantized_by", text("The Understudy project (school/export.rs)"))
        .set("general.tags", list(&["text-generation", "chat", "tiny", "understudy"]))
        .set("general.languages", list(&["en"]))
        .set("general.base_model.count", count(0))
        .set("general.dataset.count", count(1))
        .set("general.dataset.0.name", text("Understudy school corpus"))
        .set("general.dataset.0.author", text("The Understudy project"))
        .set("general.dataset.0.organization", text("Understudy"))
        .set("general.dataset.0.description", text("Chats generated by school/corpus from this project's own words. Nothing downloaded, no text of others."))
        .set("general.quantization_version", count(2))
        .set("general.file_type", Value::U32(file_type(block_type)))
        .set("understudy.provenance.made_by", text("cargo xtask school"))
        .set("understudy.provenance.training", text(&training.tell()))
        .set("understudy.provenance.teacher", text("none"))
        .set("understudy.provenance.distilled", Value::Bool(false))
        .set("understudy.provenance.text", text("Generated by this project's school from its own words; no third-party text."))
        .set("qwen3.block_count", count(s.layers))
        .set("qwen3.context_length", count(s.context))
        .set("qwen3.embedding_length", count(s.width))
        .set("qwen3.feed_forward_length", count(s.ffn))
        .set("qwen3.attention.head_count", count(s.heads))
        .set("qwen3.attention.head_count_kv", count(s.kv_heads))
        .set("qwen3.attention.key_length", count(s.head))
        .set("qwen3.attention.value_length", count(s.head))
        .set("qwen3.attention.layer_norm_rms_epsilon", Value::F32(s.eps))
        .set("qwen3.rope.freq_base", Value::F32(s.theta))
        .set("qwen3.vocab_size", count(s.vocab));
}

/// The tokenizer's part of the metadata.
fn words(w: &mut Writer, tokenizer: &str, vocab: usize) -> Result<()> {
    let json: Json = serde_json::from_str(tokenizer).context("the tokenizer is not JSON")?;
    let map = json["model"]["vocab"]
        .as_object()
        .context("the tokenizer has no vocabulary")?;
    if map.len() != vocab {
        bail!("the tokenizer has {} tokens and the recipe {vocab}", map.len());
    }
    let mut tokens = vec![String::new(); vocab];
    for (token, id) in map {
        let id = id
            .as_u64()
            .filter(|id| *id < vocab as u64)
            .context("the tokenizer numbers its tokens in gaps")?;
        tokens[id as usize].clone_from(token);
    }
    let merge = |m: &Json| -> Option<String> {
        match m {
            Json::String(both) => Some(both.clone()),
            Json::Array(two) => Some(format!("{} {}", two.first()?.as_str()?, two.get(1)?.as_str()?)),
            _ => None,
        }
    };
    let merges: Option<Vec<String>> = json["model"]["merges"]
        .as_array()
        .context("the tokenizer has no merges")?
        .iter()
        .map(merge)
        .collect();
    let merges = merges.context("the tokenizer's merges are not pairs")?;
    // llama.cpp's kinds: 1 normal, 3 control, 4 defined by the model's maker.
    let kind = |token: &String| match SPECIAL.iter().position(|s| s == token) {
        Some(i) if i < CONTROL => 3,
        Some(_) => 4,
        None => 1,
    };
    let kinds = tokens.iter().map(kind).collect();
    let id = |token: &str| {
        tokens
            .iter()
            .position(|t| t == token)
            .map(|i| Value::U32(i as u32))
            .with_context(|| format!("the tokenizer lacks {token}"))
    };
    w.set("tokenizer.ggml.model", Value::String("gpt2".into()))
        .set("tokenizer.ggml.pre", Value::String("smollm".into()))
        .set("tokenizer.ggml.eos_token_id", id("<|im_end|>")?)
        .set("tokenizer.ggml.padding_token_id", id("<|endoftext|>")?)
        .set("tokenizer.ggml.add_bos_token", Value::Bool(false))
        .set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)))
        .set("tokenizer.ggml.merges", Value::Array(Array::String(merges)))
        .set("tokenizer.chat_template", Value::String(TEMPLATE.into()))
        .set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    Ok(())
}
