//! The student in training: the plan's layers as Burn's graph.
//!
//! Forwards only what enters each layer is kept. Backwards a layer is run again with that as the leaf of a graph of its
//! own, and what it asks of its entrance goes on to the layer in front ("recomputation"): memory holds one layer's inside,
//! whatever the depth. Linear steps are [`super::ops`]; norms, rotation, attention and the gate are Burn's.
//!
//! Rows lie as `(B T, width)`: B examples of T positions each, filled up behind their ends. Attention is causal, so that
//! what fills up never reaches what is real.

mod attention;
mod layer;
mod recurrent;

use super::ops::{crossing, primitive};
use crate::error::Result;
use crate::gpu::{Gpu, Training};
use crate::model::config::Config;
use crate::model::{Linear, Slot, Step, VectorId};
use attention::Positions;
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::HashMap;
use std::sync::Arc;

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

/// The layers on a device that Burn shares.
pub struct Student {
    training: Arc<Training>,
    device: Device,
    config: Config,
    layers: Vec<Vec<Step>>,
    /// (cos, sin) of every position and pair, table by table.
    turns: Vec<Vec<f32>>,
    /// Gains, and the small weights of recurrent layers.
    vectors: HashMap<VectorId, Tensor<1>>,
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
    /// The layers of a loaded training; `turns`: a table of rotations for each of [`Config::ropes`].
    pub fn new(training: Arc<Training>, device: Device, turns: Vec<Vec<f32>>) -> Self {
        let plan = training.plan();
        let mut layers: Vec<Vec<Step>> = Vec::new();
        let mut before = Slot::Hidden;
        for step in &plan.body {
            let (begins, output) = match step {
                Step::Embed { .. } => continue,
                Step::Linear(Linear { output, .. }) => {
                    let mixes = matches!(output, Slot::Qkv | Slot::Mixed);
                    (before == Slot::Hidden && mixes, *output)
                }
                Step::AddNorm { .. } => (false, Slot::Hidden),
                Step::Swiglu => (false, Slot::FeedForward),
                Step::RopeAppend { .. } => (false, Slot::Qkv),
                Step::Attend { .. } | Step::SigmoidGate => (false, Slot::Attended),
                Step::ShortConv { .. } => (false, Slot::Convolved),
                Step::Scan { .. } | Step::GatedNorm { .. } => (false, Slot::Scanned),
            };
            if begins {
                layers.push(Vec::new());
            }
            before = output;
            if let Some(layer) = layers.last_mut() {
                layer.push(step.clone());
            }
        }
        let tensor = |id: VectorId| {
            let values = training.vector(id).to_vec();
            let length = values.len();
            (id, Tensor::from_data(TensorData::new(values, [length]), &device))
        };
        let vectors = plan
            .body
            .iter()
            .chain(&plan.head)
            .flat_map(|step| match step {
                Step::Linear(Linear { norm, .. }) => vec![*norm],
                Step::RopeAppend { gains, .. } => vec![*gains],
                Step::AddNorm { gain, .. } | Step::GatedNorm { gain } => vec![Some(*gain)],
                Step::ShortConv { weights, bias, .. } => vec![Some(*weights), *bias],
                Step::Scan { params, .. } => vec![Some(*params)],
                Step::Embed { .. } | Step::Swiglu | Step::Attend { .. } | Step::SigmoidGate => Vec::new(),
            })
            .flatten()
            .map(tensor)
            .collect();
        Self {
            config: plan.config.clone(),
            turns,
            layers,
            vectors,
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
        let windows = self.training.plan().caches.iter().map(|cache| cache.window);
        let made = Positions::new(&self.config, &self.turns, windows, count, &self.device);
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
        let hidden = hidden.narrow(1, 0, self.config.hidden);
        times(hidden, self.config.embedding_scale)
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
        let Some(Step::Linear(Linear { norm, factor, .. })) = self.training.plan().head.first() else {
            unreachable!("the head is one linear step")
        };
        let indices: Vec<i32> = chosen.iter().map(|t| *t as i32).collect();
        let count = indices.len();
        let device = hidden.device();
        let indices = Tensor::from_data(TensorData::new(indices, [count]), &device);
        let hidden = hidden.select(0, indices);
        let hidden = match norm {
            Some(id) => self.normed(hidden, *id),
            None => hidden,
        };
        // The head's factor: it has no bias, so that its rows may be multiplied instead of its results.
        widened(times(hidden, *factor))
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
}

/// x by a number, which mostly is 1.
fn times<const D: usize>(x: Tensor<D>, factor: f32) -> Tensor<D> {
    if factor == 1.0 { x } else { x.mul_scalar(factor) }
}

/// A constant as part of the graph that `x` is part of, if any.
fn beside<const D: usize, const E: usize>(x: &Tensor<D>, constant: &Tensor<E>) -> Tensor<E> {
    if x.is_autodiff() {
        constant.clone().autodiff()
    } else {
        constant.clone()
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
