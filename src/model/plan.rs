//! One token as a list of steps. The plan is data: `cpu::engine` and `gpu::engine` both execute it.
//!
//! A layer of the plan, in the words of the kernels:
//!
//! ```text
//! Linear  qkv      = Wqkv norm(x) (+ bias)      one step if q, k and v share a block type
//! Rope    q, cache = rope(q), rope(k), v        (with q and k norms where the student has them)
//! Attend  attended = softmax(q K) V
//! Linear  x       += Wo attended
//! Linear  ffn      = silu(Wgate norm(x)) Wup norm(x)
//! Linear  x       += Wdown ffn
//! ```
//!
//! Where a norm stands behind a part, its last product goes to a slot of its own, and one step more adds the normed rows:
//!
//! ```text
//! Linear  branch   = Wo attended
//! AddNorm x       += norm(branch)
//! ```

mod recurrent;

use super::Recurrent;
use super::config::{Architecture, Attention, Config, Mixer, QkNorm};
use crate::error::{Error, Result};
use crate::format::BlockType;
use crate::format::gguf::{Gguf, TensorInfo};
use crate::format::source::Source;
use std::collections::HashSet;

/// Index into [`Plan::matrices`].
pub type MatrixId = usize;
/// Index into [`Plan::vectors`].
pub type VectorId = usize;
/// Index into [`Plan::caches`].
pub type CacheId = usize;

/// Where a step reads or writes its rows of activations, `(rows, width)` f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The residual stream, D wide.
    Hidden,
    /// q | k | v before the rotation.
    Qkv,
    /// The attention's result, all query heads.
    Attended,
    /// (gate, up) pairs, 2 F wide.
    GateUp,
    /// act(gate) up, F wide.
    FeedForward,
    /// What a part of a layer adds, before the norm behind it, D wide.
    Branch,
    /// What a recurrent layer projects its rows to.
    Mixed,
    /// What its convolution makes of them.
    Convolved,
    /// What its state makes of those.
    Scanned,
    /// One row of V.
    Logits,
}

/// A weight matrix as the engines hold it: rows of one block type, from one or more tensors of the file.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// The tensors whose rows it has.
    pub tensors: Vec<TensorInfo>,
    /// Rows alternate between the tensors (gate, up, gate, up, ...) instead of following one another.
    pub interleaved: bool,
    /// Block type of every row.
    pub block_type: BlockType,
    /// N, results.
    pub rows: usize,
    /// K, inputs.
    pub columns: usize,
}

/// A vector of f32: a norm's gain or a bias, from zero or more tensors one after another.
#[derive(Debug, Clone)]
pub struct Vector {
    /// Each part: its tensor, or zeros where the file has none, and its length.
    pub parts: Vec<(Option<TensorInfo>, usize)>,
}

impl Vector {
    /// Elements.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|(_, n)| n).sum()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the vector's values.
    pub async fn read<S: Source>(&self, source: &S) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.len());
        for (tensor, length) in &self.parts {
            match tensor {
                None => values.resize(values.len() + length, 0.0),
                Some(tensor) => {
                    let bytes = read_weights(source, tensor, 0, tensor.bytes as usize).await?;
                    let start = values.len();
                    values.resize(start + length, 0.0);
                    crate::format::blocks::dequantize(tensor.block_type()?, &bytes, &mut values[start..]);
                }
            }
        }
        Ok(values)
    }
}

/// Reads `length` bytes of a tensor, whole blocks, from `offset` bytes into it, and refuses numbers that are not finite.
async fn read_weights<S: Source>(source: &S, tensor: &TensorInfo, offset: u64, length: usize) -> Result<Vec<u8>> {
    let bytes = source.read_exact(tensor.offset + offset, length).await?;
    if !crate::format::blocks::is_finite(tensor.block_type()?, &bytes) {
        return Err(Error::malformed(format!(
            "the tensor {} holds weights that are not finite numbers",
            tensor.name
        )));
    }
    Ok(bytes)
}

/// output\[first + step n\] (+)= factor (W norm(input) + bias), capped.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Gain of the RMS norm in front, if any.
    pub norm: Option<VectorId>,
    /// What is multiplied.
    pub input: Slot,
    /// W, `(N, K)`.
    pub matrix: MatrixId,
    /// Added to each row, if any.
    pub bias: Option<VectorId>,
    /// Where the results go.
    pub output: Slot,
    /// Column of the first result.
    pub first: usize,
    /// Distance between results: 2 when only the gates or only the ups are written.
    pub step: usize,
    /// Added to what is there (the residual stream), instead of replacing it.
    pub add: bool,
    /// W's rows are (gate, up) pairs, and act(gate) up is written, by [`Config::activation`].
    pub gate: bool,
    /// Results are multiplied by this, the bias included.
    pub factor: f32,
    /// c: results y become c tanh(y / c). Only in the head.
    pub cap: Option<f32>,
}

impl Linear {
    /// output = W input: what the steps of a layer vary.
    fn new(input: Slot, matrix: MatrixId, output: Slot) -> Self {
        Self {
            norm: None,
            input,
            matrix,
            bias: None,
            output,
            first: 0,
            step: 1,
            add: false,
            gate: false,
            factor: 1.0,
            cap: None,
        }
    }
}

/// One step of a token (or of a chunk of tokens: the steps are the same).
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Hidden = factor E\[token\].
    Embed {
        /// E, `(V, D)`.
        table: MatrixId,
        /// Rows are multiplied by this.
        factor: f32,
    },
    /// A matrix product.
    Linear(Linear),
    /// FeedForward = act(gate) up from [`Slot::GateUp`]: only when gate and up differ in block type.
    Swiglu,
    /// Hidden += factor norm(Branch).
    AddNorm {
        /// Gain of the RMS norm.
        gain: VectorId,
        /// Results are multiplied by this.
        factor: f32,
    },
    /// Rotates q and k, keeps q, and appends k and v to a cache.
    RopeAppend {
        /// Which of [`Plan::caches`].
        cache: CacheId,
        /// Gains of the q norm, then of the k norm, by [`Config::qk_norm`]: `(2 head_dim)`, or `(heads + kv_heads) head_dim`.
        gains: Option<VectorId>,
        /// Which of [`Config::ropes`]; `None`: q and k are not turned.
        rope: Option<usize>,
    },
    /// Attended = softmax(q K scale) V, causal, over the window of the cache.
    Attend {
        /// Which of [`Plan::caches`].
        cache: CacheId,
    },
    /// Attended *= sigmoid(gate), with the gates behind the queries of [`Slot::Qkv`].
    SigmoidGate,
    /// Convolved = the short convolution of Mixed.
    ShortConv {
        /// Number of the recurrent layer.
        cell: usize,
        /// Taps, `(channels, taps)`.
        weights: VectorId,
        /// Added to each channel, if any.
        bias: Option<VectorId>,
    },
    /// Scanned = the results of a recurrent state.
    Scan {
        /// Number of the recurrent layer.
        cell: usize,
        /// dt's bias | a | d, or alpha's bias | a, each `(heads)`.
        params: VectorId,
    },
    /// Scanned = its gated norm, in place.
    GatedNorm {
        /// Gain of the norm.
        gain: VectorId,
    },
}

impl Slot {
    /// Whether there are plans without it.
    pub fn is_optional(self) -> bool {
        matches!(self, Self::Branch | Self::Mixed | Self::Convolved | Self::Scanned)
    }
}

/// Keys and values of one attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// A row sees this many positions, its own included; `None`: all in front.
    pub window: Option<usize>,
}

impl Cache {
    /// Positions that an engine keeps which runs chunks of up to `chunk` rows in a context of `context`.
    ///
    /// A chunk is appended before any of its rows looks, so a ring holds what the first row sees and the whole chunk.
    pub fn positions(self, chunk: usize, context: usize) -> usize {
        self.window.map_or(context, |window| (window - 1 + chunk).min(context))
    }
}

/// Divisors of the rotary frequencies that a file may have, `(rotary / 2)` each.
#[derive(Debug, Clone)]
pub enum Factors {
    /// One set for every context (Llama 3).
    Always(Vector),
    /// longrope: one for contexts up to the original one, one for longer ones.
    ByContext {
        /// Up to the original context.
        short: Vector,
        /// Beyond.
        long: Vector,
    },
}

/// Everything that an engine needs to allocate and to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The student's shape.
    pub config: Config,
    /// Weight matrices.
    pub matrices: Vec<Matrix>,
    /// Gains and biases.
    pub vectors: Vec<Vector>,
    /// Steps of the body, for every row.
    pub body: Vec<Step>,
    /// The last step, for the row whose logits are wanted.
    pub head: Vec<Step>,
    /// The KV caches, one for each attention layer.
    pub caches: Vec<Cache>,
    /// Recurrent layers.
    pub cells: usize,
    /// Divisors of the rotary frequencies, if the file has them.
    pub factors: Option<Factors>,
}

impl Plan {
    /// Works the plan out from a parsed file, and checks every tensor's shape.
    ///
    /// Errors: as [`Config::from_gguf`]; [`Error::Malformed`] for a missing or misshapen tensor;
    /// [`Error::Unsupported`] for a block type or a tensor of a layer that is not known.
    pub fn new(gguf: &Gguf) -> Result<Self> {
        let config = Config::from_gguf(gguf)?;
        Builder {
            gguf,
            used: HashSet::new(),
            matrices: Vec::new(),
            vectors: Vec::new(),
            body: Vec::new(),
            caches: Vec::new(),
            cells: 0,
        }
        .build(config)
    }

    /// The divisors of the rotary frequencies for a student that is opened with `context` positions.
    pub fn rope_factors(&self, context: usize) -> Option<&Vector> {
        match self.factors.as_ref()? {
            Factors::Always(vector) => Some(vector),
            Factors::ByContext { short, long } => Some(if context > self.config.original_context {
                long
            } else {
                short
            }),
        }
    }

    /// Takes the divisors of a student that is opened with `context` positions, whatever lengths are run: a student is taught
    /// with the angles that it has when it answers.
    pub fn settle_factors(&mut self, context: usize) {
        if let Some(vector) = self.rope_factors(context) {
            self.factors = Some(Factors::Always(vector.clone()));
        }
    }

    /// Every table of [`Config::ropes`] for `context` positions, with the file's divisors.
    pub async fn turns<S: Source>(&self, source: &S, context: usize) -> Result<Vec<Vec<f32>>> {
        let factors = match self.rope_factors(context) {
            Some(vector) => Some(vector.read(source).await?),
            None => None,
        };
        let table = |rope| self.config.turns(rope, context, factors.as_deref());
        Ok((0..self.config.ropes.len()).map(table).collect())
    }

    /// How many positions an engine may be set back that runs chunks of up to `chunk` rows: beyond, a ring has lost what
    /// the windows of the first rows see.
    pub fn rewind(&self, chunk: usize, context: usize) -> usize {
        let is_ring = |cache: &Cache| cache.positions(chunk, context) < context;
        if self.caches.iter().any(is_ring) {
            chunk
        } else {
            context
        }
    }

    /// Whether a step of the body writes to `slot`.
    pub fn writes(&self, slot: Slot) -> bool {
        self.body.iter().any(|step| match step {
            Step::Linear(Linear { output, .. }) => *output == slot,
            Step::ShortConv { .. } => slot == Slot::Convolved,
            Step::Scan { .. } => slot == Slot::Scanned,
            _ => false,
        })
    }

    /// The shape of recurrent layers, whose steps are in the plan.
    pub fn recurrent(&self) -> &Recurrent {
        self.config
            .recurrent
            .as_ref()
            .expect("a plan with recurrent steps has their shape")
    }

    /// Columns of a slot.
    pub fn width(&self, slot: Slot) -> usize {
        let c = &self.config;
        match slot {
            Slot::Hidden | Slot::Branch => c.hidden,
            Slot::Qkv => c.gated_width() + 2 * c.kv_width(),
            Slot::Attended => c.query_width(),
            Slot::GateUp => 2 * c.feed_forward,
            Slot::FeedForward => c.feed_forward,
            Slot::Mixed => c.recurrent.map_or(0, |r| r.projection()),
            Slot::Convolved => c.recurrent.map_or(0, |r| r.channels),
            Slot::Scanned => c.recurrent.map_or(0, |r| r.inner()),
            Slot::Logits => c.vocabulary,
        }
    }

    /// Weights in all matrices and vectors together.
    pub fn parameters(&self) -> u64 {
        let matrices: u64 = self.matrices.iter().map(|m| m.rows as u64 * m.columns as u64).sum();
        let vectors: u64 = self.vectors.iter().map(|v| v.len() as u64).sum();
        matrices + vectors
    }
}

impl Matrix {
    /// Bytes of one row as the file has it.
    pub fn row_bytes(&self) -> usize {
        self.block_type
            .row_bytes(self.columns)
            .expect("the plan checked the columns")
    }

    /// Reads rows `first .. first + count` as the file has them, in this matrix's order.
    pub async fn read_rows<S: Source>(&self, source: &S, first: usize, count: usize) -> Result<Vec<u8>> {
        let row = self.row_bytes();
        if self.interleaved {
            let n = self.tensors.len();
            assert!(
                first.is_multiple_of(n) && count.is_multiple_of(n),
                "interleaved rows are read in whole turns"
            );
            let mut parts = Vec::with_capacity(n);
            for tensor in &self.tensors {
                parts.push(read_weights(source, tensor, (first / n * row) as u64, count / n * row).await?);
            }
            let mut bytes = Vec::with_capacity(count * row);
            for i in 0..count / n {
                for part in &parts {
                    bytes.extend_from_slice(&part[i * row..(i + 1) * row]);
                }
            }
            return Ok(bytes);
        }
        let mut bytes = Vec::with_capacity(count * row);
        let (mut at, end, mut tensor_first) = (first, first + count, 0);
        for tensor in &self.tensors {
            let tensor_end = tensor_first + tensor.rows();
            if at < end && at < tensor_end {
                let take = end.min(tensor_end) - at;
                let offset = ((at - tensor_first) * row) as u64;
                bytes.extend(read_weights(source, tensor, offset, take * row).await?);
                at += take;
            }
            tensor_first = tensor_end;
        }
        Ok(bytes)
    }
}

/// Tensors that one matrix merges at most: what adapters tell apart.
const MERGED: usize = 3;

/// Neighbours among tensors of one product that share a block type: one matrix.
struct Run {
    block_type: BlockType,
    first: usize,
    tensors: Vec<TensorInfo>,
    biases: Vec<(String, usize)>,
}

struct Builder<'a> {
    gguf: &'a Gguf,
    used: HashSet<&'a str>,
    matrices: Vec<Matrix>,
    vectors: Vec<Vector>,
    body: Vec<Step>,
    caches: Vec<Cache>,
    cells: usize,
}

impl<'a> Builder<'a> {
    fn find(&mut self, name: &str) -> Option<&'a TensorInfo> {
        let tensor = self.gguf.tensor(name)?;
        self.used.insert(&tensor.name);
        Some(tensor)
    }

    /// A tensor of `rows` by `columns`, which must be there.
    fn matrix_tensor(&mut self, name: &str, rows: usize, columns: usize) -> Result<(TensorInfo, BlockType)> {
        let tensor = self
            .find(name)
            .ok_or_else(|| Error::malformed(format!("the tensor {name} is missing")))?;
        if tensor.columns() != columns || tensor.rows() != rows {
            return Err(Error::malformed(format!(
                "{name} is {} by {} and should be {rows} by {columns}",
                tensor.rows(),
                tensor.columns()
            )));
        }
        Ok((tensor.clone(), tensor.block_type()?))
    }

    fn vector_part(&mut self, name: &str, length: usize) -> Result<Option<TensorInfo>> {
        let Some(tensor) = self.find(name) else { return Ok(None) };
        if tensor.rows() != 1 || tensor.columns() != length {
            return Err(Error::malformed(format!("{name} should have {length} elements")));
        }
        tensor.block_type()?;
        Ok(Some(tensor.clone()))
    }

    fn gain(&mut self, name: &str, length: usize) -> Result<VectorId> {
        let tensor = self
            .vector_part(name, length)?
            .ok_or_else(|| Error::malformed(format!("the tensor {name} is missing")))?;
        Ok(self.push_vector(vec![(Some(tensor), length)]))
    }

    fn push_vector(&mut self, parts: Vec<(Option<TensorInfo>, usize)>) -> VectorId {
        self.vectors.push(Vector { parts });
        self.vectors.len() - 1
    }

    fn push_matrix(&mut self, tensors: Vec<TensorInfo>, interleaved: bool, block_type: BlockType) -> MatrixId {
        let rows = tensors.iter().map(TensorInfo::rows).sum();
        let columns = tensors[0].columns();
        self.matrices.push(Matrix {
            tensors,
            interleaved,
            block_type,
            rows,
            columns,
        });
        self.matrices.len() - 1
    }

    /// A bias over the parts of a merged matrix, or none where no part has one.
    fn bias(&mut self, names: &[(String, usize)]) -> Result<Option<VectorId>> {
        let mut parts = Vec::new();
        for (name, length) in names {
            parts.push((self.vector_part(name, *length)?, *length));
        }
        Ok(if parts.iter().any(|(tensor, _)| tensor.is_some()) {
            Some(self.push_vector(parts))
        } else {
            None
        })
    }

    fn layer(&mut self, config: &Config, layer: usize) -> Result<()> {
        match &config.mixers[layer] {
            Mixer::Attention(attention) => self.attention(config, layer, *attention)?,
            Mixer::Recurrent => self.recurrent(config, layer)?,
        }
        self.feed_forward(config, layer)
    }

    /// The norm in front of a part of a layer, where there is one.
    fn norm_before(&mut self, config: &Config, name: &str) -> Result<Option<VectorId>> {
        if !config.norms.before() {
            return Ok(None);
        }
        self.gain(name, config.hidden).map(Some)
    }

    fn attention(&mut self, config: &Config, layer: usize, attention: Attention) -> Result<()> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let norm = self.norm_before(config, &name("attn_norm.weight"))?;
        let (q, kv) = (config.query_width(), config.kv_width());
        let parts: &[(&str, usize)] = if config.fused {
            &[("qkv", q + 2 * kv)]
        } else {
            &[("q", config.gated_width()), ("k", kv), ("v", kv)]
        };
        let parts: Vec<_> = parts
            .iter()
            .map(|(part, width)| (name(&format!("attn_{part}")), *width))
            .collect();
        self.projection(norm, &parts, config.hidden, Slot::Qkv)?;

        let widths = match config.qk_norm {
            QkNorm::None => None,
            QkNorm::Head | QkNorm::HeadTurned => Some([config.head_dim; 2]),
            QkNorm::Whole => Some([q, kv]),
        };
        let gains = match widths {
            Some([q_width, k_width]) => {
                let q = self.vector_part(&name("attn_q_norm.weight"), q_width)?;
                let k = self.vector_part(&name("attn_k_norm.weight"), k_width)?;
                if q.is_none() || k.is_none() {
                    return Err(Error::malformed(format!("layer {layer} lacks its query or key norm")));
                }
                Some(self.push_vector(vec![(q, q_width), (k, k_width)]))
            }
            None => None,
        };
        self.caches.push(Cache {
            window: attention.window,
        });
        let cache = self.caches.len() - 1;
        self.body.push(Step::RopeAppend {
            cache,
            gains,
            rope: attention.rope,
        });
        self.body.push(Step::Attend { cache });
        if config.gated {
            self.body.push(Step::SigmoidGate);
        }
        self.residual(
            config,
            &name("attn_output"),
            q,
            Slot::Attended,
            &name("post_attention_norm.weight"),
        )
    }

    /// output = W norm(Hidden) for tensors `(name, rows)` one behind another; neighbours of one block type are one matrix.
    fn projection(
        &mut self,
        norm: Option<VectorId>,
        parts: &[(String, usize)],
        columns: usize,
        output: Slot,
    ) -> Result<()> {
        let mut first = 0;
        let mut runs: Vec<Run> = Vec::new();
        for (name, width) in parts {
            let (tensor, block_type) = self.matrix_tensor(&format!("{name}.weight"), *width, columns)?;
            let bias = (format!("{name}.bias"), *width);
            match runs.last_mut() {
                Some(run) if run.block_type == block_type && run.tensors.len() < MERGED => {
                    run.tensors.push(tensor);
                    run.biases.push(bias);
                }
                _ => runs.push(Run {
                    block_type,
                    first,
                    tensors: vec![tensor],
                    biases: vec![bias],
                }),
            }
            first += width;
        }
        for run in runs {
            let bias = self.bias(&run.biases)?;
            let matrix = self.push_matrix(run.tensors, false, run.block_type);
            self.body.push(Step::Linear(Linear {
                norm,
                bias,
                first: run.first,
                ..Linear::new(Slot::Hidden, matrix, output)
            }));
        }
        Ok(())
    }

    fn feed_forward(&mut self, config: &Config, layer: usize) -> Result<()> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let norm = config.architecture.feed_forward_norm();
        let norm = self.norm_before(config, &name(&format!("{norm}.weight")))?;
        let ((gate, gate_type), (up, up_type)) = if config.fused {
            let fused = name("ffn_up.weight");
            let (both, block_type) = self.matrix_tensor(&fused, 2 * config.feed_forward, config.hidden)?;
            let [gate, up] = halves(&both);
            ((gate, block_type), (up, block_type))
        } else {
            (
                self.matrix_tensor(&name("ffn_gate.weight"), config.feed_forward, config.hidden)?,
                self.matrix_tensor(&name("ffn_up.weight"), config.feed_forward, config.hidden)?,
            )
        };
        if gate_type == up_type {
            let matrix = self.push_matrix(vec![gate, up], true, gate_type);
            self.body.push(Step::Linear(Linear {
                norm,
                gate: true,
                ..Linear::new(Slot::Hidden, matrix, Slot::FeedForward)
            }));
        } else {
            for (first, tensor, block_type) in [(0, gate, gate_type), (1, up, up_type)] {
                let matrix = self.push_matrix(vec![tensor], false, block_type);
                self.body.push(Step::Linear(Linear {
                    norm,
                    first,
                    step: 2,
                    ..Linear::new(Slot::Hidden, matrix, Slot::GateUp)
                }));
            }
            self.body.push(Step::Swiglu);
        }
        self.residual(
            config,
            &name("ffn_down"),
            config.feed_forward,
            Slot::FeedForward,
            &name("post_ffw_norm.weight"),
        )
    }

    /// Hidden += W input (+ bias), through the norm `behind` where the student has one.
    fn residual(&mut self, config: &Config, name: &str, columns: usize, input: Slot, behind: &str) -> Result<()> {
        let rows = config.hidden;
        let (tensor, block_type) = self.matrix_tensor(&format!("{name}.weight"), rows, columns)?;
        let bias = self.bias(&[(format!("{name}.bias"), rows)])?;
        let matrix = self.push_matrix(vec![tensor], false, block_type);
        if !config.norms.after() {
            self.body.push(Step::Linear(Linear {
                bias,
                add: true,
                factor: config.residual_scale,
                ..Linear::new(input, matrix, Slot::Hidden)
            }));
            return Ok(());
        }
        let gain = self.gain(behind, rows)?;
        self.body.push(Step::Linear(Linear {
            bias,
            ..Linear::new(input, matrix, Slot::Branch)
        }));
        self.body.push(Step::AddNorm {
            gain,
            factor: config.residual_scale,
        });
        Ok(())
    }

    fn build(mut self, config: Config) -> Result<Plan> {
        let (table, table_type) = self.matrix_tensor("token_embd.weight", config.vocabulary, config.hidden)?;
        let table = self.push_matrix(vec![table], false, table_type);
        self.body.push(Step::Embed {
            table,
            factor: config.embedding_scale,
        });
        for layer in 0..config.layers {
            self.layer(&config, layer)?;
        }
        let norm = self.gain(&format!("{}.weight", config.architecture.output_norm()), config.hidden)?;
        // Without a head of its own the student reuses its embedding ("tied").
        let matrix = if self.gguf.tensor("output.weight").is_some() {
            let (output, block_type) = self.matrix_tensor("output.weight", config.vocabulary, config.hidden)?;
            self.push_matrix(vec![output], false, block_type)
        } else {
            table
        };
        let head = Linear {
            norm: Some(norm),
            factor: config.logit_scale,
            cap: config.logit_cap,
            ..Linear::new(Slot::Hidden, matrix, Slot::Logits)
        };
        let factors = self.factors(config.rotary / 2)?;
        // A tensor of a layer that no step reads would change the mathematics: say so instead of ignoring it.
        // (Old converters left the rotary frequencies behind; they follow from the base.)
        for tensor in &self.gguf.tensors {
            let ahead = block(&tensor.name).is_some_and(|n| (config.layers..config.blocks).contains(&n));
            let known = ahead || self.used.contains(tensor.name.as_str()) || tensor.name.ends_with("rot_embd");
            if !known && tensor.name.starts_with("blk.") {
                let name: String = tensor.name.chars().take(60).collect();
                return Err(Error::unsupported(
                    format!("the tensor \"{name}\""),
                    Architecture::KNOWN,
                ));
            }
        }
        Ok(Plan {
            config,
            matrices: self.matrices,
            vectors: self.vectors,
            body: self.body,
            head: vec![Step::Linear(head)],
            caches: self.caches,
            cells: self.cells,
            factors,
        })
    }

    fn factors(&mut self, pairs: usize) -> Result<Option<Factors>> {
        let mut vector = |name: &str| {
            Ok::<_, Error>(self.vector_part(name, pairs)?.map(|tensor| Vector {
                parts: vec![(Some(tensor), pairs)],
            }))
        };
        let always = vector("rope_freqs.weight")?;
        let by_context = (
            vector("rope_factors_short.weight")?,
            vector("rope_factors_long.weight")?,
        );
        match (always, by_context) {
            (None, (None, None)) => Ok(None),
            (Some(always), (None, None)) => Ok(Some(Factors::Always(always))),
            (None, (Some(short), Some(long))) => Ok(Some(Factors::ByContext { short, long })),
            _ => Err(Error::malformed("its rotary factors are incomplete, or there twice")),
        }
    }
}

/// The number of the block that a tensor belongs to.
fn block(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// The upper and the lower half of a tensor's rows, as tensors of the same name.
fn halves(tensor: &TensorInfo) -> [TensorInfo; 2] {
    let rows = tensor.rows() / 2;
    let bytes = tensor.bytes / 2;
    [0, 1].map(|half| TensorInfo {
        shape: vec![tensor.columns() as u64, rows as u64],
        offset: tensor.offset + half * bytes,
        bytes,
        ..tensor.clone()
    })
}
