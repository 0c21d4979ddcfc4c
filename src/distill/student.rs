//! The student in training: the plan's layers as Burn's graph.
//!
//! Forwards only what enters each layer is kept. Backwards a layer is run again with that as the leaf of a graph of its
//! own, and what it asks of its entrance goes on to the layer in front ("recomputation"): memory holds one layer's inside,
//! whatever the depth. Linear steps are [`super::ops`]; norms, rotation, attention and the gate are Burn's.
//!
//! Rows lie as `(B T, width)`: B examples of T positions each, filled up behind their ends. Attention is causal, so that
//! what fills up never reaches what is real.

use super::ops::{Frozen, crossing, frozen, primitive};
use crate::error::Result;
use crate::gpu::{Gpu, Training};
use crate::model::config::Config;
use crate::model::{Linear, RopeStyle, Slot, Step, VectorId};
use burn::tensor::{Device, Tensor, TensorData, activation};
use std::collections::HashMap;
use std::sync::Arc;

/// Stands for minus infinity in front of a softmax.
const LOW: f32 = -1e30;

/// Examples side by side: B of T positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rows {
    /// B.
    pub examples: usize,
    /// T.
    pub positions: usize,
}

impl Rows {
    /// B T.
    pub fn count(self) -> usize {
        self.examples * self.positions
    }
}

/// What depends on the number of positions alone.
#[derive(Clone)]
struct Positions {
    /// Cosines and sines, `(1, T, 1, rotary / 2)`.
    cos: Tensor<4>,
    sin: Tensor<4>,
    /// 0 where a query sees a key, else very low: `(1, 1, G T, T)` for the G query heads of a key head.
    mask: Tensor<4>,
}

/// The layers on a device that Burn shares.
pub struct Student {
    training: Arc<Training>,
    device: Device,
    config: Config,
    layers: Vec<Vec<Step>>,
    /// (cos, sin) of every position and pair.
    turns: Vec<f32>,
    gains: HashMap<VectorId, Tensor<1>>,
    positions: HashMap<usize, Positions>,
}

/// Lets Burn work on the device. Once per device: Burn counts each as one of its own.
///
/// Errors: [`crate::error::Error::Device`] where Burn refuses it.
pub fn share(gpu: &Gpu) -> Result<Device> {
    use burn::tensor::wgpu::{MemoryConfiguration, WgpuSetup};
    let handles = gpu.handles();
    let setup = WgpuSetup {
        instance: handles.instance,
        adapter: handles.adapter,
        device: handles.device,
        queue: handles.queue,
        backend: handles.backend,
    };
    let device = Device::wgpu_options()
        .setup(setup)
        // The one way that browsers have; elsewhere too, so that what is tested is what ships.
        .memory_config(MemoryConfiguration::ExclusivePages)
        .init()
        .map_err(|error| crate::error::Error::Device {
            what: format!("it cannot be shared with the trainer: {error:?}")
                .chars()
                .take(200)
                .collect(),
        })?;
    // Burn answers errors of the shared device with a panic.
    gpu.watch();
    Ok(device)
}

impl Student {
    /// The layers of a loaded training, rows of at most `context` positions.
    pub fn new(training: Arc<Training>, device: Device, factors: Option<&[f32]>, context: usize) -> Self {
        let plan = training.plan();
        let mut layers: Vec<Vec<Step>> = Vec::new();
        let mut before = Slot::Hidden;
        for step in &plan.body {
            let (begins, output) = match step {
                Step::Embed { .. } => continue,
                Step::Linear(Linear { output, .. }) => (before == Slot::Hidden && *output == Slot::Qkv, *output),
                Step::Swiglu => (false, Slot::FeedForward),
                Step::AddNorm { .. } => unreachable!("no plan that is taught has a norm behind a part"),
                Step::RopeAppend { .. } => (false, Slot::Qkv),
                Step::Attend { .. } => (false, Slot::Attended),
                Step::SigmoidGate | Step::ShortConv { .. } | Step::Scan { .. } | Step::GatedNorm { .. } => {
                    unreachable!("the trainer refuses what it cannot teach")
                }
            };
            if begins {
                layers.push(Vec::new());
            }
            before = output;
            if let Some(layer) = layers.last_mut() {
                layer.push(step.clone());
            }
        }
        let gain = |id: VectorId| {
            let values = training.vector(id).to_vec();
            let length = values.len();
            (id, Tensor::from_data(TensorData::new(values, [length]), &device))
        };
        let gains = plan
            .body
            .iter()
            .chain(&plan.head)
            .filter_map(|step| match step {
                Step::Linear(Linear { norm, .. }) => *norm,
                Step::RopeAppend { gains, .. } => *gains,
                _ => None,
            })
            .map(gain)
            .collect();
        Self {
            config: plan.config.clone(),
            turns: plan.config.turns(0, context, factors),
            layers,
            gains,
            positions: HashMap::new(),
            device,
            training,
        }
    }

    /// The device's side of it.
    pub fn training(&self) -> &Arc<Training> {
        &self.training
    }

    /// Layers.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    fn positions(&mut self, count: usize) -> Positions {
        if let Some(known) = self.positions.get(&count) {
            return known.clone();
        }
        let c = &self.config;
        let (pairs, shared) = (c.rotary / 2, c.heads / c.kv_heads);
        let half = |i: usize| -> Vec<f32> { (0..count * pairs).map(|at| self.turns[2 * at + i]).collect() };
        let angles = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [1, count, 1, pairs]), &self.device);
        let row = |t: usize| (0..count).map(move |j| if j <= t { 0.0 } else { LOW });
        let mask: Vec<f32> = (0..shared).flat_map(|_| (0..count).flat_map(row)).collect();
        let made = Positions {
            cos: angles(half(0)),
            sin: angles(half(1)),
            mask: Tensor::from_data(TensorData::new(mask, [1, 1, shared * count, count]), &self.device),
        };
        self.positions.insert(count, made.clone());
        made
    }

    /// Hidden rows of tokens, `(B T, D)`.
    fn embed(&self, tokens: &[u32]) -> Tensor<2> {
        let width = self.config.hidden.next_multiple_of(8);
        let hidden: Tensor<2> = Tensor::empty([tokens.len(), width], &self.device);
        let buffer = primitive(&hidden);
        if self.training.gpu().lost().is_none() {
            let crossing = crossing(&buffer.client, [&buffer.handle]);
            self.training.embed(tokens, &crossing.views[0]);
        }
        hidden.narrow(1, 0, self.config.hidden)
    }

    /// What enters each layer, and what leaves the last: `depth + 1` tensors `(B T, D)`. `on`: with what was learned.
    pub fn forward(&mut self, tokens: &[u32], rows: Rows, on: bool) -> Vec<Tensor<2>> {
        assert_eq!(tokens.len(), rows.count(), "a token for each position");
        let positions = self.positions(rows.positions);
        let mut hidden = self.embed(tokens);
        let mut all = Vec::with_capacity(self.layers.len() + 1);
        for layer in &self.layers {
            all.push(hidden.clone());
            hidden = self.layer(layer, hidden, &positions, rows, on);
        }
        all.push(hidden);
        all
    }

    /// As [`Student::forward`], but only what leaves the last layer.
    pub fn last(&mut self, tokens: &[u32], rows: Rows, on: bool) -> Tensor<2> {
        let positions = self.positions(rows.positions);
        let mut hidden = self.embed(tokens);
        for layer in &self.layers {
            hidden = self.layer(layer, hidden, &positions, rows, on);
        }
        hidden
    }

    /// Normed rows `chosen` of what left the last layer: what the head reads.
    pub fn headed(&self, hidden: Tensor<2>, chosen: &[usize]) -> Tensor<2> {
        let Some(Step::Linear(Linear { norm, .. })) = self.training.plan().head.first() else {
            unreachable!("the head is one linear step")
        };
        let indices: Vec<i32> = chosen.iter().map(|t| *t as i32).collect();
        let count = indices.len();
        let device = hidden.device();
        let indices = Tensor::from_data(TensorData::new(indices, [count]), &device);
        let hidden = hidden.select(0, indices);
        widened(match norm {
            Some(id) => self.normed(hidden, *id),
            None => hidden,
        })
    }

    /// What `d`, asked of `output`'s rows, asks of the leaf `input`: the graph between them is used up.
    pub fn back(input: &Tensor<2>, output: Tensor<2>, d: Tensor<2>) -> Tensor<2> {
        let mut gradients = (output * d.autodiff()).sum().backward();
        input
            .grad_remove(&mut gradients)
            .expect("the leaf is part of the graph")
    }

    /// Back through all layers that are trained, or lie behind one that is; the pairs' gradients are added up.
    pub fn backward(&mut self, entered: &[Tensor<2>], d: Tensor<2>, rows: Rows) {
        let positions = self.positions(rows.positions);
        let first = self.layers.iter().position(|layer| self.is_trained(layer));
        let Some(first) = first else { return };
        let mut d = d;
        for i in (first..self.layers.len()).rev() {
            let leaf = entered[i].clone().autodiff().require_grad();
            let out = self.layer(&self.layers[i], leaf.clone(), &positions, rows, true);
            d = Self::back(&leaf, out, d);
        }
    }

    fn is_trained(&self, layer: &[Step]) -> bool {
        layer
            .iter()
            .any(|step| matches!(step, Step::Linear(Linear { matrix, .. }) if self.training.is_trained(*matrix)))
    }

    /// x gain / rms(x) over the last dimension.
    fn normed<const D: usize>(&self, x: Tensor<D>, gain: VectorId) -> Tensor<D> {
        self.scaled(x, self.gains[&gain].clone())
    }

    fn scaled<const D: usize>(&self, x: Tensor<D>, gain: Tensor<1>) -> Tensor<D> {
        let squares = x.clone().powi_scalar(2).mean_dim(D - 1);
        let inverse = squares.add_scalar(self.config.norm_epsilon).sqrt().recip();
        let gain = if x.is_autodiff() { gain.autodiff() } else { gain };
        x * inverse * gain.unsqueeze()
    }

    fn layer(&self, steps: &[Step], hidden: Tensor<2>, positions: &Positions, rows: Rows, on: bool) -> Tensor<2> {
        let c = &self.config;
        let mut hidden = hidden;
        let mut qkv: Vec<Tensor<2>> = Vec::new();
        let mut turned: Option<[Tensor<4>; 3]> = None;
        let mut attended: Option<Tensor<2>> = None;
        let (mut gate, mut up) = (None, None);
        let mut forward: Option<Tensor<2>> = None;
        for step in steps {
            match step {
                Step::Embed { .. } => unreachable!("the embedding is in front of the layers"),
                Step::AddNorm { .. } => unreachable!("no plan that is taught has a norm behind a part"),
                Step::Linear(Linear {
                    norm,
                    input,
                    matrix,
                    bias,
                    output,
                    first,
                    gate: gated,
                    ..
                }) => {
                    let x = match input {
                        Slot::Hidden => hidden.clone(),
                        Slot::Attended => attended.take().expect("attention comes in front of its projection"),
                        Slot::FeedForward => forward.take().expect("the gate comes in front of the last product"),
                        _ => unreachable!("no linear step reads {input:?}"),
                    };
                    let x = norm.map_or_else(|| x.clone(), |id| self.normed(x.clone(), id));
                    let frozen_step = Frozen {
                        training: self.training.clone(),
                        matrix: *matrix,
                        bias: *bias,
                        on,
                    };
                    let y = frozen(widened(x), &frozen_step);
                    match output {
                        Slot::Hidden => hidden = hidden + y,
                        Slot::Qkv => qkv.push(y),
                        Slot::GateUp if *first == 0 => gate = Some(y),
                        Slot::GateUp => up = Some(y),
                        Slot::FeedForward if *gated => {
                            let pairs = y.reshape([rows.count(), c.feed_forward, 2]);
                            let half = |i: usize| pairs.clone().narrow(2, i, 1).reshape([rows.count(), c.feed_forward]);
                            forward = Some(activation::silu(half(0)) * half(1));
                        }
                        _ => unreachable!("no linear step writes {output:?}"),
                    }
                }
                Step::Swiglu => {
                    let (Some(gate), Some(up)) = (gate.take(), up.take()) else {
                        unreachable!("gate and up come in front of their product")
                    };
                    forward = Some(activation::silu(gate) * up);
                }
                Step::RopeAppend { gains, .. } => {
                    let all = if qkv.len() == 1 {
                        qkv.remove(0)
                    } else {
                        Tensor::cat(std::mem::take(&mut qkv), 1)
                    };
                    turned = Some(self.turned(all, *gains, positions, rows));
                }
                Step::Attend { .. } => {
                    let [q, k, v] = turned.take().expect("the rotation comes in front of attention");
                    attended = Some(self.attend(q, k, v, positions, rows));
                }
                Step::SigmoidGate | Step::ShortConv { .. } | Step::Scan { .. } | Step::GatedNorm { .. } => {
                    unreachable!("the trainer refuses what it cannot teach")
                }
            }
        }
        hidden
    }

    /// q, k (normed and turned) and v, each `(B, T, heads, head_dim)`.
    fn turned(&self, qkv: Tensor<2>, gains: Option<VectorId>, positions: &Positions, rows: Rows) -> [Tensor<4>; 3] {
        let c = &self.config;
        let (q, kv) = (c.query_width(), c.kv_width());
        let heads = |first: usize, width: usize| {
            qkv.clone()
                .narrow(1, first, width)
                .reshape([rows.examples, rows.positions, width / c.head_dim, c.head_dim])
        };
        let turn = |x: Tensor<4>, which: usize| {
            let x = match gains {
                // Gains of q, then of k.
                Some(id) => {
                    let gain = self.gains[&id].clone().narrow(0, which * c.head_dim, c.head_dim);
                    self.scaled(x, gain)
                }
                None => x,
            };
            self.rotated(x, positions)
        };
        [turn(heads(0, q), 0), turn(heads(q, kv), 1), heads(q + kv, kv)]
    }

    /// Each pair of a head turned by its angle.
    fn rotated(&self, x: Tensor<4>, positions: &Positions) -> Tensor<4> {
        let c = &self.config;
        let [b, t, heads, width] = x.dims();
        let pairs = c.rotary / 2;
        let (cos, sin) = if x.is_autodiff() {
            (positions.cos.clone().autodiff(), positions.sin.clone().autodiff())
        } else {
            (positions.cos.clone(), positions.sin.clone())
        };
        let (rest, turned) = if c.rotary < width {
            let rest = x.clone().narrow(3, c.rotary, width - c.rotary);
            (Some(rest), x.narrow(3, 0, c.rotary))
        } else {
            (None, x)
        };
        let (first, second) = match c.rope_style {
            RopeStyle::Halves => (turned.clone().narrow(3, 0, pairs), turned.narrow(3, pairs, pairs)),
            RopeStyle::Pairs => {
                let both = turned.reshape([b, t, heads, pairs, 2]);
                let half = |i: usize| both.clone().narrow(4, i, 1).reshape([b, t, heads, pairs]);
                (half(0), half(1))
            }
        };
        let new_first = first.clone() * cos.clone() - second.clone() * sin.clone();
        let new_second = second * cos + first * sin;
        let turned = match c.rope_style {
            RopeStyle::Halves => Tensor::cat(vec![new_first, new_second], 3),
            RopeStyle::Pairs => {
                let stacked: Tensor<5> = Tensor::stack(vec![new_first, new_second], 4);
                stacked.reshape([b, t, heads, c.rotary])
            }
        };
        match rest {
            Some(rest) => Tensor::cat(vec![turned, rest], 3),
            None => turned,
        }
    }

    /// softmax(q k / sqrt(head_dim)) v, causal, `(B T, query width)`. Query heads that share a key head lie below one another,
    /// so that keys and values are never repeated.
    fn attend(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, positions: &Positions, rows: Rows) -> Tensor<2> {
        let c = &self.config;
        let (b, t, d) = (rows.examples, rows.positions, c.head_dim);
        let shared = c.heads / c.kv_heads;
        let q = q
            .swap_dims(1, 2)
            .reshape([b, c.kv_heads, shared * t, d])
            .mul_scalar(1.0 / (d as f32).sqrt());
        let (k, v) = (k.swap_dims(1, 2), v.swap_dims(1, 2));
        let mask = if q.is_autodiff() {
            positions.mask.clone().autodiff()
        } else {
            positions.mask.clone()
        };
        let weights = activation::softmax(q.matmul(k.transpose()) + mask, 3);
        weights
            .matmul(v)
            .reshape([b, c.heads, t, d])
            .swap_dims(1, 2)
            .reshape([b * t, c.heads * d])
    }
}

/// Filled up with zeros to whole groups of eight columns, as the shaders want rows.
fn widened(x: Tensor<2>) -> Tensor<2> {
    let [rows, columns] = x.dims();
    let more = columns.next_multiple_of(8) - columns;
    if more == 0 {
        return x;
    }
    let zeros = Tensor::zeros([rows, more], &x.device());
    Tensor::cat(vec![x, zeros], 1)
}

/// Bytes that Burn holds on a device.
pub fn reserved(device: &Device) -> u64 {
    device.memory_pool_usage().map_or(0, |usage| usage.bytes_reserved)
}
