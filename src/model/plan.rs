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

use super::config::{Architecture, Config};
use crate::error::{Error, Result};
use crate::format::BlockType;
use crate::format::gguf::{Gguf, TensorInfo};
use crate::format::source::Source;
use std::collections::HashSet;

/// Index into [`Plan::matrices`].
pub type MatrixId = usize;
/// Index into [`Plan::vectors`].
pub type VectorId = usize;

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
    /// silu(gate) up, F wide.
    FeedForward,
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

/// One step of a token (or of a chunk of tokens: the steps are the same).
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Hidden = E\[token\].
    Embed {
        /// E, `(V, D)`.
        table: MatrixId,
    },
    /// output\[first + step n\] (+)= W norm(input) + bias.
    Linear {
        /// Gain of the RMS norm in front, if any.
        norm: Option<VectorId>,
        /// What is multiplied.
        input: Slot,
        /// W, `(N, K)`.
        matrix: MatrixId,
        /// Added to each row, if any.
        bias: Option<VectorId>,
        /// Where the results go.
        output: Slot,
        /// Column of the first result.
        first: usize,
        /// Distance between results: 2 when only the gates or only the ups are written.
        step: usize,
        /// Added to what is there (the residual stream), instead of replacing it.
        add: bool,
        /// W's rows are (gate, up) pairs, and silu(gate) up is written.
        gate: bool,
    },
    /// FeedForward = silu(gate) up from [`Slot::GateUp`]: only when gate and up differ in block type.
    Swiglu,
    /// Rotates q and k, keeps q, and appends k and v to the layer's cache.
    RopeAppend {
        /// Which cache.
        layer: usize,
        /// Gains of the q norm, then of the k norm, `(2 head_dim)`.
        gains: Option<VectorId>,
    },
    /// Attended = softmax(q K / sqrt(head_dim)) V, causal.
    Attend {
        /// Which cache.
        layer: usize,
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
    /// Divisors of the rotary frequencies, if the file has them, `(rotary / 2)`.
    pub rope_factors: Option<Vector>,
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
        }
        .build(config)
    }

    /// Columns of a slot.
    pub fn width(&self, slot: Slot) -> usize {
        let c = &self.config;
        match slot {
            Slot::Hidden => c.hidden,
            Slot::Qkv => c.query_width() + 2 * c.kv_width(),
            Slot::Attended => c.query_width(),
            Slot::GateUp => 2 * c.feed_forward,
            Slot::FeedForward => c.feed_forward,
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

/// Neighbours among q, k and v that share a block type: one matrix.
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
        let name = |part: &str| format!("blk.{layer}.{part}");
        let norm = self.gain(&name("attn_norm.weight"), config.hidden)?;

        // q, k and v in one matrix as far as neighbours share a block type.
        let mut first = 0;
        let mut groups: Vec<Run> = Vec::new();
        for (part, width) in [
            ("q", config.query_width()),
            ("k", config.kv_width()),
            ("v", config.kv_width()),
        ] {
            let (tensor, block_type) =
                self.matrix_tensor(&name(&format!("attn_{part}.weight")), width, config.hidden)?;
            let bias = (name(&format!("attn_{part}.bias")), width);
            match groups.last_mut() {
                Some(run) if run.block_type == block_type => {
                    run.tensors.push(tensor);
                    run.biases.push(bias);
                }
                _ => groups.push(Run {
                    block_type,
                    first,
                    tensors: vec![tensor],
                    biases: vec![bias],
                }),
            }
            first += width;
        }
        for Run {
            block_type,
            first,
            tensors,
            biases,
        } in groups
        {
            let bias = self.bias(&biases)?;
            let matrix = self.push_matrix(tensors, false, block_type);
            self.body.push(Step::Linear {
                norm: Some(norm),
                input: Slot::Hidden,
                matrix,
                bias,
                output: Slot::Qkv,
                first,
                step: 1,
                add: false,
                gate: false,
            });
        }

        let gains = if config.architecture == Architecture::Qwen3 {
            let q = self.vector_part(&name("attn_q_norm.weight"), config.head_dim)?;
            let k = self.vector_part(&name("attn_k_norm.weight"), config.head_dim)?;
            if q.is_none() || k.is_none() {
                return Err(Error::malformed(format!("layer {layer} lacks its query or key norm")));
            }
            Some(self.push_vector(vec![(q, config.head_dim), (k, config.head_dim)]))
        } else {
            None
        };
        self.body.push(Step::RopeAppend { layer, gains });
        self.body.push(Step::Attend { layer });
        self.residual(
            &name("attn_output"),
            config.hidden,
            config.query_width(),
            Slot::Attended,
        )?;

        let norm = self.gain(&name("ffn_norm.weight"), config.hidden)?;
        let (gate, gate_type) = self.matrix_tensor(&name("ffn_gate.weight"), config.feed_forward, config.hidden)?;
        let (up, up_type) = self.matrix_tensor(&name("ffn_up.weight"), config.feed_forward, config.hidden)?;
        let linear = |matrix, output, first, step, gate| Step::Linear {
            norm: Some(norm),
            input: Slot::Hidden,
            matrix,
            bias: None,
            output,
            first,
            step,
            add: false,
            gate,
        };
        if gate_type == up_type {
            let matrix = self.push_matrix(vec![gate, up], true, gate_type);
            self.body.push(linear(matrix, Slot::FeedForward, 0, 1, true));
        } else {
            let gate = self.push_matrix(vec![gate], false, gate_type);
            let up = self.push_matrix(vec![up], false, up_type);
            self.body.push(linear(gate, Slot::GateUp, 0, 2, false));
            self.body.push(linear(up, Slot::GateUp, 1, 2, false));
            self.body.push(Step::Swiglu);
        }
        self.residual(&name("ffn_down"), config.hidden, config.feed_forward, Slot::FeedForward)
    }

    /// Hidden += W input (+ bias).
    fn residual(&mut self, name: &str, rows: usize, columns: usize, input: Slot) -> Result<()> {
        let (tensor, block_type) = self.matrix_tensor(&format!("{name}.weight"), rows, columns)?;
        let bias = self.bias(&[(format!("{name}.bias"), rows)])?;
        let matrix = self.push_matrix(vec![tensor], false, block_type);
        self.body.push(Step::Linear {
            norm: None,
            input,
            matrix,
            bias,
            output: Slot::Hidden,
            first: 0,
            step: 1,
            add: true,
            gate: false,
        });
        Ok(())
    }

    fn build(mut self, config: Config) -> Result<Plan> {
        let (table, table_type) = self.matrix_tensor("token_embd.weight", config.vocabulary, config.hidden)?;
        let table = self.push_matrix(vec![table], false, table_type);
        self.body.push(Step::Embed { table });
        for layer in 0..config.layers {
            self.layer(&config, layer)?;
        }
        let norm = self.gain("output_norm.weight", config.hidden)?;
        // Without a head of its own the student reuses its embedding ("tied").
        let matrix = if self.gguf.tensor("output.weight").is_some() {
            let (output, block_type) = self.matrix_tensor("output.weight", config.vocabulary, config.hidden)?;
            self.push_matrix(vec![output], false, block_type)
        } else {
            table
        };
        let head = vec![Step::Linear {
            norm: Some(norm),
            input: Slot::Hidden,
            matrix,
            bias: None,
            output: Slot::Logits,
            first: 0,
            step: 1,
            add: false,
            gate: false,
        }];
        let rope_factors = self
            .vector_part("rope_freqs.weight", config.rotary / 2)?
            .map(|tensor| Vector {
                parts: vec![(Some(tensor), config.rotary / 2)],
            });
        // A tensor of a layer that no step reads would change the mathematics: say so instead of ignoring it.
        // (Old converters left the rotary frequencies behind; they follow from the base.)
        for tensor in &self.gguf.tensors {
            let known = self.used.contains(tensor.name.as_str()) || tensor.name.ends_with("rot_embd");
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
            head,
            rope_factors,
        })
    }
}
