//! Runs a plan on the GPU.
//!
//! Everything is made when a student is opened: buffers, bind groups, pipelines, and two lists of dispatches, one for a
//! single row (decode) and one for a chunk of rows (prefill). A token is then one encoder, one pass, one submission: the
//! position, the token and the draw live in one small buffer that the `sample` kernel itself moves on, so several tokens
//! can be in flight before the first is read back, four bytes each.

mod sampler;
mod state;

use self::sampler::Sampler;
use super::State;
use super::carried::{Carried, RING};
use super::cases::{lora_constants, recurrent};
use super::device::{Gpu, Mapping};
use super::kernels::{Kernel, Kinds};
use super::pipelines::Pipelines;
use super::weights::{Part, Weights};
use crate::cpu::gated_norm::norm_width;
use crate::error::{Error, Result};
use crate::format::BlockType;
use crate::format::repack::groups;
use crate::format::source::Source;
use crate::model::lora::{Parts, Stack};
use crate::model::sampler::BROKEN;
use crate::model::{
    Activation, Adjustment, CacheType, Linear, MatrixId, Mixing, OPENING, Plan, QkNorm, RopeStyle, Sampling, Slot, Step,
};
use std::collections::{HashMap, VecDeque};

/// Rows of a prefill chunk.
pub const CHUNK: usize = 256;

/// Decode steps that are submitted before the oldest is read back.
const IN_FLIGHT: usize = 3;

/// Parts into which decode cuts the positions of the cache.
const SPLITS: usize = 8;

/// Workgroup memory that WebGPU promises.
const WORKGROUP_BYTES: usize = 16 << 10;

/// One dispatch, ready to encode.
struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    grid: [u32; 3],
    /// Which axis of the grid counts rows, and how many rows one workgroup takes.
    rows: Option<(usize, usize)>,
}

/// A student on a device.
pub struct Engine {
    gpu: Gpu,
    context: usize,
    tokens: wgpu::Buffer,
    logits: wgpu::Buffer,
    state: wgpu::Buffer,
    decode: Vec<Dispatch>,
    prefill: Vec<Dispatch>,
    head: Vec<Dispatch>,
    sampler: Sampler,
    ring: Vec<wgpu::Buffer>,
    next_in_ring: usize,
    in_flight: VecDeque<Mapping>,
    /// Rows in the cache once everything submitted has run.
    submitted: usize,
    /// Positions that were ever run since the last beginning at 0: a ring has kept the last of them.
    written: usize,
    maker: Maker,
}

/// Adapters on the device.
struct Attached {
    rank: usize,
    /// One factor per rank.
    scales: wgpu::Buffer,
    /// z of the linear step that runs, `(rows, parts, rank)`.
    z: wgpu::Buffer,
    changes: HashMap<MatrixId, Beside>,
}

/// What is beside one matrix.
#[derive(Clone)]
struct Beside {
    /// A, among the maker's weights.
    a: usize,
    b: wgpu::Buffer,
    parts: Parts,
}

/// Makes dispatches: all that they share.
struct Maker {
    gpu: Gpu,
    plan: Plan,
    pipelines: Pipelines,
    weights: Vec<Weights>,
    vectors: Vec<wgpu::Buffer>,
    slots: HashMap<Slot, wgpu::Buffer>,
    tokens: wgpu::Buffer,
    state: wgpu::Buffer,
    normed: wgpu::Buffer,
    query: wgpu::Buffer,
    parts: wgpu::Buffer,
    marks: wgpu::Buffer,
    /// One table for each of the plan's.
    turns: Vec<wgpu::Buffer>,
    /// Bound where a kernel has a binding that this use of it does not read.
    unused: wgpu::Buffer,
    cache_type: CacheType,
    caches: Vec<(wgpu::Buffer, wgpu::Buffer)>,
    carried: Carried,
    /// Positions of each cache that is a ring; 0 where it holds the whole context.
    rings: Vec<usize>,
    attached: Option<Attached>,
}

/// Workgroup width for rows of `groups` groups: as many lanes as there is work for, a power of two.
///
/// Hardware wants at least a subgroup; software adapters run lanes one after another and pay for each barrier.
pub fn lanes(gpu: &Gpu, groups: usize) -> u32 {
    let most = if gpu.is_software() { 8 } else { 64 };
    groups.next_power_of_two().clamp(4, most) as u32
}

/// Query heads and query rows of one `attend` workgroup, so that queries, results and scores fit in workgroup memory.
pub fn attend_tile(heads: usize, kv_heads: usize, head_dim: usize, width: usize, most_rows: usize) -> (usize, usize) {
    let shared = heads / kv_heads;
    let bytes = |group: usize, rows: usize| 4 * group * rows * (2 * head_dim + width + 3);
    let group = (1..=shared)
        .rev()
        .find(|g| shared.is_multiple_of(*g) && bytes(*g, 1) <= WORKGROUP_BYTES)
        .unwrap_or(1);
    let mut rows = 1;
    while 2 * rows <= most_rows && bytes(group, 2 * rows) <= WORKGROUP_BYTES {
        rows *= 2;
    }
    (group, rows)
}

impl Maker {
    /// Floats between rows of a slot: whole groups of eight.
    fn stride(&self, slot: Slot) -> usize {
        8 * groups(self.plan.width(slot))
    }

    fn dispatch(
        &mut self,
        kernel: Kernel,
        weights: Option<usize>,
        constants: &[(&'static str, f64)],
        buffers: &[&wgpu::Buffer],
        grid: [u32; 3],
        rows: Option<(usize, usize)>,
    ) -> Dispatch {
        let kinds = Kinds {
            weights: weights.map(|matrix| self.weights[matrix].block_type),
            cache: kernel.uses_cache().then_some(self.cache_type),
        };
        Dispatch {
            pipeline: self.pipelines.get(kernel, kinds, constants),
            bind_group: self.gpu.bind(kernel, buffers),
            grid,
            rows,
        }
    }

    /// What adapters add to a matrix: the change, the rank, z and the factors.
    fn beside(&self, matrix: MatrixId) -> Option<(Beside, usize, wgpu::Buffer, wgpu::Buffer)> {
        let attached = self.attached.as_ref()?;
        let beside = attached.changes.get(&matrix)?.clone();
        Some((beside, attached.rank, attached.z.clone(), attached.scales.clone()))
    }

    /// The lists of dispatches for one row and for many.
    fn body(&mut self) -> (Vec<Dispatch>, Vec<Dispatch>) {
        let (mut decode, mut prefill) = (Vec::new(), Vec::new());
        for step in &self.plan.body.clone() {
            self.step(step, false, &mut decode);
            self.step(step, true, &mut prefill);
        }
        (decode, prefill)
    }

    /// The dispatches of one step, for a chunk of rows or for one row.
    fn step(&mut self, step: &Step, many: bool, list: &mut Vec<Dispatch>) {
        let config = self.plan.config.clone();
        let (state, unused) = (self.state.clone(), self.unused.clone());
        let epsilon = f64::from(config.norm_epsilon);
        let gelu = f64::from(u8::from(config.activation == Activation::Gelu));
        match step {
            Step::Embed { table, factor } => {
                let (tokens, x) = (self.tokens.clone(), self.slots[&Slot::Hidden].clone());
                for part in 0..self.weights[*table].parts.len() {
                    let w = &self.weights[*table];
                    let p = &w.parts[part];
                    let constants = [
                        ("GROUPS", w.groups as f64),
                        ("ROW_WORDS", w.row_words as f64),
                        ("ROW", p.row as f64),
                        ("COUNT", p.count as f64),
                        ("FACTOR", f64::from(*factor)),
                        ("WG", f64::from(lanes(&self.gpu, w.groups))),
                    ];
                    let buffer = p.buffer.clone();
                    let buffers = [&tokens, &buffer, &x, &state];
                    list.push(self.dispatch(
                        Kernel::Embed,
                        Some(*table),
                        &constants,
                        &buffers,
                        [1, 1, 1],
                        Some((0, 1)),
                    ));
                }
            }
            Step::Linear(Linear {
                norm,
                input,
                matrix,
                bias,
                output,
                first,
                step,
                add,
                gate,
                factor,
                cap,
            }) => {
                let x = self.slots[input].clone();
                let y = self.slots[output].clone();
                let gain = norm.map(|id| self.vectors[id].clone());
                let bias_buffer = bias.map_or(unused.clone(), |id| self.vectors[id].clone());
                let beside = self.beside(*matrix);
                let adapted = beside.as_ref().map(|(beside, rank, ..)| (*rank, beside.parts));
                let (lora_b, lora_z) = beside
                    .as_ref()
                    .map_or((unused.clone(), unused.clone()), |(beside, _, z, _)| {
                        (beside.b.clone(), z.clone())
                    });
                if !many {
                    if let Some((beside, rank, z, scales)) = &beside {
                        // z = s (A norm(x)), all tensors of the matrix at once.
                        let w = &self.weights[beside.a];
                        let rows = w.rows;
                        let constants = [
                            ("GROUPS", w.groups as f64),
                            ("COLUMNS", w.columns as f64),
                            ("ROW_WORDS", w.row_words as f64),
                            ("ROW", 0.0),
                            ("COUNT", rows as f64),
                            ("NORM", f64::from(u8::from(norm.is_some()))),
                            ("SCALED", 1.0),
                            ("RANK", *rank as f64),
                            ("EPS", epsilon),
                            ("WG", f64::from(lanes(&self.gpu, w.groups))),
                        ];
                        let grid = [rows.div_ceil(4) as u32, 1, 1];
                        let buffer = w.parts[0].buffer.clone();
                        let gain = gain.as_ref().unwrap_or(&unused);
                        let buffers = [&x, &buffer, gain, scales, &unused, &unused, z, &state];
                        let a = beside.a;
                        list.push(self.dispatch(Kernel::Matvec, Some(a), &constants, &buffers, grid, None));
                    }
                    for part in 0..self.weights[*matrix].parts.len() {
                        let w = &self.weights[*matrix];
                        let p = &w.parts[part];
                        let constants = [
                            ("GROUPS", w.groups as f64),
                            ("COLUMNS", w.columns as f64),
                            ("ROW_WORDS", w.row_words as f64),
                            ("ROW", p.row as f64),
                            ("COUNT", p.count as f64),
                            ("FIRST", *first as f64),
                            ("STEP", *step as f64),
                            ("NORM", f64::from(u8::from(norm.is_some()))),
                            ("BIAS", f64::from(u8::from(bias.is_some()))),
                            ("ADD", f64::from(u8::from(*add))),
                            ("GATE", f64::from(u8::from(*gate))),
                            ("GELU", gelu),
                            ("FACTOR", f64::from(*factor)),
                            ("CAP", cap.map_or(0.0, f64::from)),
                            ("EPS", epsilon),
                            ("WG", f64::from(lanes(&self.gpu, w.groups))),
                        ];
                        let constants = with_adapters(&constants, adapted);
                        let grid = fold(
                            p.count.div_ceil(4),
                            self.gpu.limits().max_compute_workgroups_per_dimension,
                        );
                        let buffer = p.buffer.clone();
                        let gain = gain.as_ref().unwrap_or(&unused);
                        let buffers = [&x, &buffer, gain, &bias_buffer, &lora_b, &lora_z, &y, &state];
                        list.push(self.dispatch(Kernel::Matvec, Some(*matrix), &constants, &buffers, grid, None));
                    }
                    return;
                }
                let x = match gain {
                    Some(gain) => {
                        let g = groups(config.hidden);
                        let constants = [
                            ("GROUPS", g as f64),
                            ("COLUMNS", config.hidden as f64),
                            ("EPS", epsilon),
                            ("WG", f64::from(lanes(&self.gpu, 2 * g))),
                        ];
                        let normed = self.normed.clone();
                        let buffers = [&x, &gain, &normed, &state];
                        list.push(self.dispatch(Kernel::RmsNorm, None, &constants, &buffers, [1, 1, 1], Some((0, 1))));
                        normed
                    }
                    None => x,
                };
                let (matmul, tall, wide) = Kernel::matmul(self.gpu.is_software());
                let tile = Some((1, tall as usize));
                let (target, stride) = if *gate {
                    (self.slots[&Slot::GateUp].clone(), self.stride(Slot::GateUp))
                } else {
                    (y, self.stride(*output))
                };
                if let Some((beside, rank, z, scales)) = &beside {
                    let w = &self.weights[beside.a];
                    let rows = w.rows;
                    let constants = [
                        ("GROUPS", w.groups as f64),
                        ("ROW_WORDS", w.row_words as f64),
                        ("ROW", 0.0),
                        ("COUNT", rows as f64),
                        ("STRIDE", rows as f64),
                        ("SCALED", 1.0),
                        ("RANK", *rank as f64),
                    ];
                    let grid = [(rows as u32).div_ceil(wide), 1, 1];
                    let buffer = w.parts[0].buffer.clone();
                    let buffers = [&x, &buffer, scales, &unused, &unused, z, &state];
                    let a = beside.a;
                    list.push(self.dispatch(matmul, Some(a), &constants, &buffers, grid, tile));
                }
                for part in 0..self.weights[*matrix].parts.len() {
                    let w = &self.weights[*matrix];
                    let p = &w.parts[part];
                    let constants = [
                        ("GROUPS", w.groups as f64),
                        ("ROW_WORDS", w.row_words as f64),
                        ("ROW", p.row as f64),
                        ("COUNT", p.count as f64),
                        ("FIRST", *first as f64),
                        ("STEP", *step as f64),
                        ("STRIDE", stride as f64),
                        ("BIAS", f64::from(u8::from(bias.is_some()))),
                        ("ADD", f64::from(u8::from(*add))),
                        ("FACTOR", f64::from(*factor)),
                    ];
                    let constants = with_adapters(&constants, adapted);
                    let grid = [(p.count as u32).div_ceil(wide), 1, 1];
                    let buffer = p.buffer.clone();
                    let buffers = [&x, &buffer, &bias_buffer, &lora_b, &lora_z, &target, &state];
                    list.push(self.dispatch(matmul, Some(*matrix), &constants, &buffers, grid, tile));
                }
                if *gate {
                    self.step(&Step::Swiglu, true, list);
                }
            }
            Step::Swiglu => {
                let constants = [
                    ("IN", self.stride(Slot::GateUp) as f64),
                    ("OUT", self.stride(Slot::FeedForward) as f64),
                    ("WIDTH", config.feed_forward as f64),
                    ("GELU", gelu),
                ];
                let (x, y) = (
                    self.slots[&Slot::GateUp].clone(),
                    self.slots[&Slot::FeedForward].clone(),
                );
                let grid = [config.feed_forward.div_ceil(64) as u32, 1, 1];
                list.push(self.dispatch(Kernel::Swiglu, None, &constants, &[&x, &y, &state], grid, Some((1, 1))));
            }
            Step::AddNorm { gain, factor } => {
                let g = groups(config.hidden);
                let constants = [
                    ("GROUPS", g as f64),
                    ("COLUMNS", config.hidden as f64),
                    ("EPS", epsilon),
                    ("ADD", 1.0),
                    ("FACTOR", f64::from(*factor)),
                    ("WG", f64::from(lanes(&self.gpu, 2 * g))),
                ];
                let (x, y) = (self.slots[&Slot::Branch].clone(), self.slots[&Slot::Hidden].clone());
                let gain = self.vectors[*gain].clone();
                let buffers = [&x, &gain, &y, &state];
                list.push(self.dispatch(Kernel::RmsNorm, None, &constants, &buffers, [1, 1, 1], Some((0, 1))));
            }
            Step::RopeAppend { cache, gains, rope } => {
                let constants = [
                    ("STRIDE", self.stride(Slot::Qkv) as f64),
                    ("HEADS", config.heads as f64),
                    ("KV_HEADS", config.kv_heads as f64),
                    ("HEAD", config.head_dim as f64),
                    ("ROTARY", rope.map_or(0.0, |_| config.rotary as f64)),
                    ("NEOX", f64::from(u8::from(config.rope_style == RopeStyle::Halves))),
                    ("GATED", f64::from(u8::from(config.gated))),
                    ("QK_NORM", qk_norm_constant(config.qk_norm)),
                    ("RING", self.rings[*cache] as f64),
                    ("EPS", epsilon),
                    ("WG", f64::from(lanes(&self.gpu, config.head_dim / 2))),
                ];
                let qkv = self.slots[&Slot::Qkv].clone();
                let turns = rope.map_or(unused.clone(), |rope| self.turns[rope].clone());
                let gains = gains.map_or(unused, |id| self.vectors[id].clone());
                let (k, v) = self.caches[*cache].clone();
                let query = self.query.clone();
                let grid = [(config.heads + 2 * config.kv_heads) as u32, 1, 1];
                let buffers = [&qkv, &gains, &turns, &query, &k, &v, &state];
                list.push(self.dispatch(Kernel::RopeAppend, None, &constants, &buffers, grid, Some((1, 1))));
            }
            Step::Attend { cache } => {
                let width = if self.gpu.is_software() { 16 } else { 32 };
                let (group, rows) = attend_tile(
                    config.heads,
                    config.kv_heads,
                    config.head_dim,
                    width,
                    if many { 8 } else { 1 },
                );
                let splits = if many { 1 } else { SPLITS };
                let constants = [
                    ("HEADS", config.heads as f64),
                    ("KV_HEADS", config.kv_heads as f64),
                    ("HEAD", config.head_dim as f64),
                    ("GROUP", group as f64),
                    ("QUERIES", rows as f64),
                    ("SPLITS", splits as f64),
                    ("SCALE", f64::from(config.attention_scale)),
                    ("CAP", config.attention_cap.map_or(0.0, f64::from)),
                    ("WINDOW", self.plan.caches[*cache].window.map_or(0.0, |n| n as f64)),
                    ("RING", self.rings[*cache] as f64),
                    ("WG", width as f64),
                ];
                let (k, v) = self.caches[*cache].clone();
                let (query, parts, marks) = (self.query.clone(), self.parts.clone(), self.marks.clone());
                let grid = [(config.heads / group) as u32, splits as u32, 1];
                let buffers = [&query, &k, &v, &parts, &marks, &state];
                list.push(self.dispatch(Kernel::Attend, None, &constants, &buffers, grid, Some((2, rows))));
                let constants = [
                    ("HEADS", config.heads as f64),
                    ("HEAD", config.head_dim as f64),
                    ("SPLITS", splits as f64),
                ];
                let y = self.slots[&Slot::Attended].clone();
                let grid = [(config.query_width() / 4).div_ceil(64) as u32, 1, 1];
                let buffers = [&parts, &marks, &y, &state];
                list.push(self.dispatch(Kernel::Combine, None, &constants, &buffers, grid, Some((1, 1))));
            }
            Step::SigmoidGate => {
                let constants = [
                    ("IN", self.stride(Slot::Qkv) as f64),
                    ("OUT", self.stride(Slot::Attended) as f64),
                    ("WIDTH", config.query_width() as f64),
                    ("HEAD", config.head_dim as f64),
                ];
                let (qkv, y) = (self.slots[&Slot::Qkv].clone(), self.slots[&Slot::Attended].clone());
                let grid = [config.query_width().div_ceil(64) as u32, 1, 1];
                let buffers = [&qkv, &y, &state];
                list.push(self.dispatch(Kernel::SigmoidGate, None, &constants, &buffers, grid, Some((1, 1))));
            }
            Step::ShortConv { cell, weights, bias } => {
                let shape = *self.plan.recurrent();
                let constants = recurrent::conv_constants(&shape, bias.is_some(), RING);
                let taps = self.vectors[*weights].clone();
                let bias = bias.map_or(unused, |id| self.vectors[id].clone());
                let carry = self.carried.cell(*cell).conv.clone();
                let (x, y) = (self.slots[&Slot::Mixed].clone(), self.slots[&Slot::Convolved].clone());
                let grid = [shape.channels.div_ceil(64) as u32, 1, 1];
                let buffers = [&x, &taps, &bias, &carry, &y, &state];
                list.push(self.dispatch(Kernel::ShortConv, None, &constants, &buffers, grid, None));
            }
            Step::Scan { cell, params } => {
                let shape = *self.plan.recurrent();
                // Software runs lanes one after another and pays for each barrier.
                let width = if self.gpu.is_software() { 8 } else { 64 };
                let kernel = match shape.mixing {
                    Mixing::DeltaNet => Kernel::DeltaNet,
                    Mixing::Mamba2 | Mixing::ShortConv => Kernel::Mamba2,
                };
                let constants = recurrent::scan_constants(&shape, RING, width);
                let params = self.vectors[*params].clone();
                let carry = self.carried.cell(*cell).scan.clone();
                let [x, projection, y] =
                    [Slot::Convolved, Slot::Mixed, Slot::Scanned].map(|slot| self.slots[&slot].clone());
                let grid = recurrent::scan_grid(&shape, width);
                let buffers = [&x, &projection, &params, &carry, &y, &state];
                list.push(self.dispatch(kernel, None, &constants, &buffers, grid, None));
            }
            Step::GatedNorm { gain } => {
                let shape = *self.plan.recurrent();
                let width = norm_width(&shape);
                let length = self.plan.vectors[*gain].len();
                let wg = lanes(&self.gpu, width.div_ceil(4));
                let constants = recurrent::norm_constants(&shape, length, config.norm_epsilon, wg);
                let gain = self.vectors[*gain].clone();
                let (projection, y) = (self.slots[&Slot::Mixed].clone(), self.slots[&Slot::Scanned].clone());
                let grid = [(shape.inner() / width) as u32, 1, 1];
                let buffers = [&projection, &gain, &y, &state];
                list.push(self.dispatch(Kernel::GatedNorm, None, &constants, &buffers, grid, Some((1, 1))));
            }
        }
    }
}

/// What `rope_append` calls a way to norm q and k.
pub fn qk_norm_constant(qk_norm: QkNorm) -> f64 {
    match qk_norm {
        QkNorm::None => 0.0,
        QkNorm::Head => 1.0,
        QkNorm::HeadTurned => 2.0,
        QkNorm::Whole => 3.0,
    }
}

/// A of a change as weights: rows of whole groups, padded with zeros.
fn a_weights(gpu: &Gpu, a: &[f32], rows: usize, columns: usize) -> Weights {
    let width = 8 * groups(columns);
    let mut padded = vec![0.0f32; rows * width];
    for (from, to) in a.chunks_exact(columns).zip(padded.chunks_exact_mut(width)) {
        to[..columns].copy_from_slice(from);
    }
    Weights {
        block_type: BlockType::F32,
        rows,
        columns,
        groups: groups(columns),
        row_words: width,
        parts: vec![Part {
            buffer: gpu.storage_of("adapter", &padded),
            row: 0,
            count: rows,
        }],
    }
}

/// The overrides of a product with those of its adapters behind.
fn with_adapters(constants: &[(&'static str, f64)], adapted: Option<(usize, Parts)>) -> Vec<(&'static str, f64)> {
    let mut all = constants.to_vec();
    if let Some((rank, parts)) = adapted {
        all.push(("LORA", 1.0));
        all.extend(lora_constants(rank, &parts));
    }
    all
}

/// A one-dimensional grid of `n` workgroups, folded where it exceeds what one dimension may have.
fn fold(n: usize, limit: u32) -> [u32; 3] {
    let rows = n.div_ceil(limit as usize).max(1);
    [n.div_ceil(rows) as u32, rows as u32, 1]
}

impl Engine {
    /// Uploads the weights of `plan` from `source` and makes everything that a token needs.
    ///
    /// `context` positions of cache in `cache_type`; `progress` gets the bytes read so far. Errors: what the device refuses, and what the
    /// source cannot read.
    pub async fn load<S: Source>(
        gpu: &Gpu,
        plan: Plan,
        source: &S,
        context: usize,
        cache_type: CacheType,
        mut progress: impl FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        gpu.scoped(async || Self::build(gpu, plan, source, context, cache_type, &mut progress).await)
            .await
    }

    async fn build<S: Source>(
        gpu: &Gpu,
        plan: Plan,
        source: &S,
        context: usize,
        cache_type: CacheType,
        progress: &mut impl FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        let config = plan.config.clone();
        let limit = gpu
            .limits()
            .max_storage_buffer_binding_size
            .min(gpu.limits().max_buffer_size);
        let weights: Result<Vec<Weights>> = plan
            .matrices
            .iter()
            .map(|matrix| Weights::allocate(gpu, matrix, limit))
            .collect();
        let mut vectors = Vec::with_capacity(plan.vectors.len());
        for vector in &plan.vectors {
            let mut values = vector.read(source).await?;
            values.resize(values.len().next_multiple_of(8), 0.0);
            vectors.push(gpu.storage_of("vector", &values));
        }
        let turns = plan.turns(source, context).await?;
        let chunk = CHUNK.min(context);
        let rows_of =
            |label: &str, width: usize, rows: usize| gpu.storage(label, 4 * (8 * groups(width) * rows) as u64);
        let slots: HashMap<Slot, wgpu::Buffer> = [
            Slot::Hidden,
            Slot::Qkv,
            Slot::Attended,
            Slot::GateUp,
            Slot::FeedForward,
            Slot::Mixed,
            Slot::Convolved,
            Slot::Scanned,
            Slot::Logits,
            Slot::Branch,
        ]
        .into_iter()
        .filter(|slot| !slot.is_optional() || plan.writes(*slot))
        .map(|slot| {
            let rows = if slot == Slot::Logits { 1 } else { chunk };
            (slot, rows_of("slot", plan.width(slot), rows))
        })
        .collect();
        let positions: Vec<usize> = plan.caches.iter().map(|c| c.positions(chunk, context)).collect();
        let rings = positions.iter().map(|n| if *n < context { *n } else { 0 });
        let splits = chunk.max(SPLITS);
        let carried = Carried::new(gpu, config.recurrent.as_ref(), plan.cells);
        let mut maker = Maker {
            gpu: gpu.clone(),
            plan,
            pipelines: Pipelines::new(gpu),
            weights: weights?,
            vectors,
            tokens: gpu.storage("tokens", 4 * chunk as u64),
            state: gpu.storage("state", size_of::<State>() as u64),
            normed: rows_of("normed", config.hidden, chunk),
            query: rows_of("query", config.query_width(), chunk),
            parts: rows_of("parts", config.query_width(), splits),
            marks: gpu.storage("marks", 8 * (config.heads * splits) as u64),
            turns: turns.iter().map(|table| gpu.storage_of("turns", table)).collect(),
            unused: gpu.storage("unused", 32),
            rings: rings.collect(),
            cache_type,
            caches: positions
                .iter()
                .map(|n| 4 * (n * config.kv_heads * cache_type.head_words(config.head_dim)) as u64)
                .map(|bytes| (gpu.storage("keys", bytes), gpu.storage("values", bytes)))
                .collect(),
            carried,
            slots,
            attached: None,
        };
        let (decode, prefill) = maker.body();
        let mut head = Vec::new();
        for step in &maker.plan.head.clone() {
            maker.step(step, false, &mut head);
        }
        let logits = maker.slots[&Slot::Logits].clone();
        let (tokens, state) = (maker.tokens.clone(), maker.state.clone());
        let sampler = Sampler::new(&mut maker);
        // The driver compiles the pipelines while the file is read.
        let mut read = 0;
        for (matrix, weights) in maker.plan.matrices.iter().zip(&maker.weights) {
            let mut count = |bytes: u64| {
                read += bytes;
                progress(read)
            };
            weights.fill(gpu, matrix, source, &mut count).await?;
        }
        Ok(Self {
            gpu: gpu.clone(),
            context,
            tokens,
            logits,
            state,
            decode,
            prefill,
            head,
            sampler,
            ring: (0..IN_FLIGHT).map(|_| gpu.staging(4)).collect(),
            next_in_ring: 0,
            in_flight: VecDeque::new(),
            submitted: 0,
            written: 0,
            maker,
        })
    }

    /// The plan that is run.
    pub fn plan(&self) -> &Plan {
        &self.maker.plan
    }

    /// Lays adapters beside the weights; an empty stack takes them away. What is in the cache was made without them.
    ///
    /// Errors: what the device refuses; the adapters that were attached stay then.
    pub async fn attach(&mut self, stack: &Stack) -> Result<()> {
        self.settle().await?;
        let gpu = self.gpu.clone();
        let own = self.maker.plan.matrices.len();
        let attached = gpu
            .scoped(async || {
                if stack.is_empty() {
                    return Ok(None);
                }
                let mut weights = Vec::new();
                let mut changes = HashMap::new();
                let mut widest = 0;
                for change in &stack.changes {
                    let columns = self.maker.plan.matrices[change.matrix].columns;
                    let rows = change.parts.count * stack.rank;
                    widest = widest.max(rows);
                    let a = a_weights(&gpu, &change.a, rows, columns);
                    let beside = Beside {
                        a: own + weights.len(),
                        b: gpu.storage_of("adapter", &change.b),
                        parts: change.parts,
                    };
                    weights.push(a);
                    changes.insert(change.matrix, beside);
                }
                let chunk = CHUNK.min(self.context);
                let attached = Attached {
                    rank: stack.rank,
                    scales: gpu.storage_of("scales", &stack.scales),
                    z: gpu.storage("z", 4 * (chunk * widest) as u64),
                    changes,
                };
                Ok(Some((attached, weights)))
            })
            .await?;
        let before = (self.maker.weights.split_off(own), self.maker.attached.take());
        self.maker.attached = attached.map(|(attached, weights)| {
            self.maker.weights.extend(weights);
            attached
        });
        let maker = &mut self.maker;
        match gpu.scoped(async || Ok(maker.body())).await {
            Ok((decode, prefill)) => (self.decode, self.prefill) = (decode, prefill),
            Err(error) => {
                // The lists go on as they were, and so must what a new scale is written to.
                self.maker.weights.truncate(own);
                self.maker.weights.extend(before.0);
                self.maker.attached = before.1;
                return Err(error);
            }
        }
        Ok(())
    }

    /// New factors of the attached adapters, [`Stack::scales`]: a small write, and the next token has them.
    pub fn set_scales(&mut self, scales: &[f32]) {
        if let Some(attached) = &self.maker.attached {
            self.gpu.write(&attached.scales, 0, bytemuck::cast_slice(scales));
        }
    }

    /// The device that it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Positions that the cache holds.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Pipelines that were made for this student.
    pub fn pipelines(&self) -> usize {
        self.maker.pipelines.len()
    }

    /// Dispatches of one decoded token.
    pub fn dispatches_per_token(&self) -> usize {
        self.decode.len() + self.head.len() + self.sampler.dispatches()
    }

    fn encode(&self, pass: &mut wgpu::ComputePass<'_>, list: &[&[Dispatch]], rows: usize) {
        let mut count = 0;
        for dispatch in list.iter().copied().flatten() {
            let mut grid = dispatch.grid;
            if let Some((axis, tile)) = dispatch.rows {
                grid[axis] = rows.div_ceil(tile) as u32;
            }
            pass.set_pipeline(&dispatch.pipeline);
            pass.set_bind_group(0, &dispatch.bind_group, &[]);
            pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
            count += 1;
        }
        self.gpu.count_dispatches(count);
    }

    /// One submission: the lists in one pass, and with `draws` the sampler behind them and the token to a staging buffer.
    fn submit(&self, lists: &[&[Dispatch]], rows: usize, draws: bool) {
        let mut encoder = self.gpu.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            self.encode(&mut pass, lists, rows);
            if draws && self.sampler.row().is_none() {
                self.encode(&mut pass, &self.sampler.lists(), 1);
            }
        }
        if let (true, Some(row)) = (draws, self.sampler.row()) {
            // Nothing is copied inside of a pass.
            let bytes = 4 * self.maker.plan.config.vocabulary as u64;
            encoder.copy_buffer_to_buffer(&self.logits, 0, row, 0, bytes);
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            self.encode(&mut pass, &self.sampler.lists(), 1);
        }
        if draws {
            encoder.copy_buffer_to_buffer(&self.tokens, 0, &self.ring[self.next_in_ring], 0, 4);
        }
        self.gpu.submit(encoder);
    }

    fn read_token_later(&mut self) {
        let mapping = self.gpu.map(&self.ring[self.next_in_ring], 4);
        self.in_flight.push_back(mapping);
        self.next_in_ring = (self.next_in_ring + 1) % self.ring.len();
        self.sampler
            .read_row_later(&self.gpu, self.maker.plan.config.vocabulary);
    }

    async fn oldest_token(&mut self) -> Result<u32> {
        let mapping = self
            .in_flight
            .pop_front()
            .expect("a token is in flight when one is awaited");
        let bytes = self.gpu.finish(mapping).await?;
        self.sampler.take_row(&self.gpu).await?;
        let token = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if token == BROKEN {
            return Err(Error::NotFinite);
        }
        if token as usize >= self.maker.plan.config.vocabulary {
            return Err(Error::Device {
                what: "the sampler answered with a token that does not exist".into(),
            });
        }
        Ok(token)
    }

    /// Waits for everything in flight and forgets it: before anything else may write the state.
    pub async fn settle(&mut self) -> Result<()> {
        while let Some(mapping) = self.in_flight.pop_front() {
            self.gpu.finish(mapping).await?;
        }
        self.sampler.take_row(&self.gpu).await
    }

    fn write_state(&self, state: State) {
        self.gpu.write(&self.state, 0, bytemuck::bytes_of(&state));
    }

    /// From here on only tokens whose bit is set in `mask`, `(V + 31) / 32` words, are drawn; `None`: any token. A mask
    /// holds for every token in flight, so one that changes from token to token wants one in flight ([`Engine::decode`]).
    pub async fn allow(&mut self, mask: Option<&[u32]>) -> Result<()> {
        self.sampler.allow(&self.gpu, &mut self.maker, mask).await
    }

    /// From here on these logits are moved before a token is drawn, each id at most once; an empty list moves none. It holds
    /// for every token in flight, as a mask does.
    pub async fn adjust(&mut self, list: &[Adjustment]) -> Result<()> {
        self.sampler.adjust(&self.gpu, &mut self.maker, list).await
    }

    /// Whether the logits that a token is drawn from are read back with it, as they are before they are moved. It keeps one
    /// token in flight.
    pub async fn keep_logits(&mut self, on: bool) -> Result<()> {
        self.settle().await?;
        self.sampler.keep_logits(&self.gpu, &self.maker, on).await
    }

    /// The logits `(V)` of the last token that was drawn, where they are kept.
    pub fn kept_logits(&self) -> &[f32] {
        self.sampler.kept()
    }

    /// The most tokens, up to `most` that are known to be the same, from which it can go on.
    pub fn resume(&self, most: usize) -> usize {
        let tokens = self.maker.carried.resume(most);
        let chunk = CHUNK.min(self.context);
        if self.written <= tokens + self.maker.plan.rewind(chunk, self.context) {
            tokens
        } else {
            0
        }
    }

    /// Runs `tokens` from `position` on, which [`Engine::resume`] gave, and draws the token that follows them.
    ///
    /// `progress` is told the rows done so far; its error stops the work between chunks.
    pub async fn prefill(
        &mut self,
        tokens: &[u32],
        position: usize,
        sampling: Sampling,
        draw: u32,
        mut progress: impl FnMut(usize) -> Result<()>,
    ) -> Result<u32> {
        assert!(
            !tokens.is_empty() && position + tokens.len() <= self.context,
            "the caller checked the prompt"
        );
        self.settle().await?;
        let typical = sampling.typical_p < 1.0;
        self.sampler.typical(&self.gpu, &mut self.maker, typical).await?;
        let chunk = CHUNK.min(self.context);
        let carries = !self.maker.carried.is_empty();
        self.maker.carried.go_to(&self.gpu, position);
        // What recurrent layers carry is kept in front of the last tokens, which run by themselves.
        let opening = if carries { OPENING } else { 0 };
        let cut = tokens.len().saturating_sub(opening);
        let mut done = 0;
        while done < tokens.len() {
            let end = if done < cut { cut } else { tokens.len() };
            let rows = &tokens[done..end.min(done + chunk)];
            let at = position + done;
            let last = done + rows.len() == tokens.len();
            if done == cut {
                self.maker.carried.keep(&self.gpu, at);
            }
            self.gpu.write(&self.tokens, 0, bytemuck::cast_slice(rows));
            self.write_state(State {
                position: at as u32,
                rows: rows.len() as u32,
                head_row: rows.len() as u32 - 1,
                draw,
                seed: sampling.seed,
                top_k: sampling.top_k,
                temperature: sampling.temperature,
                top_p: sampling.top_p,
                min_p: sampling.min_p,
                typical_p: sampling.typical_p,
            });
            let body = if rows.len() == 1 { &self.decode } else { &self.prefill };
            if last {
                self.submit(&[body, &self.head], rows.len(), true);
            } else {
                self.submit(&[body], rows.len(), false);
            }
            self.maker.carried.ran(at, rows.len());
            done += rows.len();
            progress(done)?;
        }
        self.submitted = position + tokens.len();
        self.written = if position == 0 {
            self.submitted
        } else {
            self.written.max(self.submitted)
        };
        self.read_token_later();
        self.oldest_token().await
    }

    /// Runs the last drawn token and draws the next. Further steps are submitted meanwhile, up to `most` tokens ahead in
    /// all, so that the device does not wait for the host; [`Engine::settle`] drops what was not wanted.
    pub async fn decode(&mut self, most: usize) -> Result<u32> {
        let most = if self.sampler.row().is_some() { 1 } else { most };
        while self.in_flight.len() < IN_FLIGHT.min(most.max(1)) && self.submitted < self.context {
            self.submit(&[&self.decode, &self.head], 1, true);
            self.read_token_later();
            self.maker.carried.ran(self.submitted, 1);
            self.submitted += 1;
            self.written = self.written.max(self.submitted);
        }
        assert!(!self.in_flight.is_empty(), "the caller stops at the end of the context");
        self.oldest_token().await
    }

    /// Logits `(T, V)` after each of `tokens`, from an empty cache, by prefill.
    pub async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.logits_in_chunks(tokens, CHUNK).await
    }

    /// As [`Engine::logits`], with chunks of at most `chunk` tokens.
    pub async fn logits_in_chunks(&mut self, tokens: &[u32], chunk: usize) -> Result<Vec<f32>> {
        self.settle().await?;
        self.maker.carried.forget();
        let chunk = CHUNK.min(self.context).min(chunk);
        let mut all = Vec::with_capacity(tokens.len() * self.maker.plan.config.vocabulary);
        for (i, rows) in tokens.chunks(chunk).enumerate() {
            self.gpu.write(&self.tokens, 0, bytemuck::cast_slice(rows));
            let mut state = State {
                position: (i * chunk) as u32,
                rows: rows.len() as u32,
                ..State::default()
            };
            self.write_state(state);
            let body = if rows.len() == 1 { &self.decode } else { &self.prefill };
            self.submit(&[body], rows.len(), false);
            for row in 0..rows.len() {
                state.head_row = row as u32;
                self.write_state(state);
                self.submit(&[&self.head], 1, false);
                all.extend(self.read_logits().await?);
            }
        }
        Ok(all)
    }

    /// Logits `(V)` after one more token at `position`, which is 0 or follows what was run before, by the decode path.
    pub async fn logits_at(&mut self, token: u32, position: usize) -> Result<Vec<f32>> {
        self.settle().await?;
        self.maker.carried.forget();
        self.gpu.write(&self.tokens, 0, bytemuck::bytes_of(&token));
        self.write_state(State {
            position: position as u32,
            rows: 1,
            ..State::default()
        });
        self.submit(&[&self.decode, &self.head], 1, false);
        self.read_logits().await
    }

    async fn read_logits(&self) -> Result<Vec<f32>> {
        let bytes = self
            .gpu
            .read(&self.logits, 4 * self.maker.plan.config.vocabulary as u64)
            .await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}
