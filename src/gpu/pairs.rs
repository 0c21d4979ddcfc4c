//! The trained pairs on the device: where they lie, and the way from there to an adapter's halves and back.
//!
//! Pairs lie stacked as `matmul` wants them: for a matrix of several tensors all A one after another, `(parts r, K)`, and one B,
//! `(N, r)`, ranks padded to eight and rows of A to whole groups; all of them in one buffer, with gradient and the optimizer's
//! memory in three more of the same layout. What is padded, or not trained, is zero and has a zero gradient, so that it
//! stays zero.

use super::device::{Gpu, View};
use crate::cpu::trainer::{Shape, initial, layer_and_module};
use crate::format::adapter::Pair;
use crate::format::repack::groups;
use crate::model::lora::Parts;
use crate::model::{MatrixId, Plan};
use std::collections::HashMap;

/// Places of halves of pairs are multiples of so many floats, the alignment of bindings.
const ALIGN: usize = 64;

/// What is kept of each number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The number itself.
    Values,
    /// Its gradient.
    Gradient,
    /// The mean of its gradients.
    Means,
    /// The mean of their squares.
    Squares,
}

/// Where the pairs of a matrix lie.
pub(super) struct Place {
    /// How the matrix is made of tensors, each with an A of its own. A tensor of the file that is fused has one A for all its rows.
    pub parts: Parts,
    /// How its rows lie: as `parts`, but with the halves of a fused tensor told apart.
    order: Parts,
    /// N.
    pub rows: usize,
    /// K.
    pub columns: usize,
    /// Floats of a row of A.
    pub stride: usize,
    /// First float of A, and of B.
    a: usize,
    b: usize,
}

/// A trained pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The tensor that it changes.
    pub base: String,
    /// N of the tensor.
    pub rows: usize,
    /// K of the tensor.
    pub columns: usize,
    matrix: MatrixId,
    part: usize,
}

/// The pairs and the optimizer's memory.
pub(super) struct Pairs {
    /// r.
    rank: usize,
    /// r, padded.
    pub padded: usize,
    /// In the order of the plan.
    pub names: Vec<Named>,
    /// By their matrix.
    pub places: HashMap<MatrixId, Place>,
    /// Of each buffer.
    pub floats: usize,
    values: wgpu::Buffer,
    gradient: wgpu::Buffer,
    means: wgpu::Buffer,
    squares: wgpu::Buffer,
    /// One factor per padded rank: alpha / r.
    pub scales: wgpu::Buffer,
    /// All zero, for the student as it was.
    pub silent: wgpu::Buffer,
}

impl Pairs {
    /// A is drawn from `seed`, B is zero.
    pub fn new(gpu: &Gpu, plan: &Plan, shape: &Shape, seed: u64) -> Self {
        let padded = shape.rank.next_multiple_of(8);
        let first_layer = shape.first_layer(plan);
        let (mut names, mut places, mut floats) = (Vec::new(), HashMap::new(), 0);
        for (matrix, about) in plan.matrices.iter().enumerate() {
            let fused = about.tensors.len() > 1 && about.tensors.iter().all(|t| t.name == about.tensors[0].name);
            let tensors = if fused { &about.tensors[..1] } else { &about.tensors };
            for (part, tensor) in tensors.iter().enumerate() {
                let Some((layer, module)) = layer_and_module(&tensor.name) else {
                    continue;
                };
                if layer >= first_layer && shape.wants(module) {
                    names.push(Named {
                        base: tensor.name.clone(),
                        rows: if fused { about.rows } else { tensor.rows() },
                        columns: tensor.columns(),
                        matrix,
                        part,
                    });
                }
            }
            if names.last().is_some_and(|named| named.matrix == matrix) {
                let (order, stride) = (Parts::of(about), 8 * groups(about.columns));
                let parts = if fused { Parts::ONE } else { order };
                let a = floats;
                let b = (a + parts.count * padded * stride).next_multiple_of(ALIGN);
                floats = (b + about.rows * padded).next_multiple_of(ALIGN);
                let place = Place {
                    parts,
                    order,
                    rows: about.rows,
                    columns: about.columns,
                    stride,
                    a,
                    b,
                };
                places.insert(matrix, place);
            }
        }
        let mut scales = vec![0.0f32; padded];
        scales[..shape.rank].fill(shape.alpha / shape.rank as f32);
        let room = |label: &str| gpu.storage(label, 4 * floats as u64);
        let pairs = Self {
            rank: shape.rank,
            padded,
            places,
            floats,
            values: room("pairs"),
            gradient: room("gradient"),
            means: room("means"),
            squares: room("squares"),
            silent: gpu.storage_of("silent", &vec![0.0f32; padded]),
            scales: gpu.storage_of("scales", &scales),
            names,
        };
        let first: Vec<(Vec<f32>, Vec<f32>)> = pairs
            .names
            .iter()
            .map(|named| {
                let a = initial(seed, &named.base, shape.rank, named.columns);
                (a, vec![0.0; named.rows * shape.rank])
            })
            .collect();
        let views: Vec<(&[f32], &[f32])> = first.iter().map(|(a, b)| (a.as_slice(), b.as_slice())).collect();
        gpu.write(&pairs.values, 0, bytemuck::cast_slice(&pairs.pack(&views)));
        pairs
    }

    /// What holds them.
    pub fn buffer(&self, which: Memory) -> &wgpu::Buffer {
        match which {
            Memory::Values => &self.values,
            Memory::Gradient => &self.gradient,
            Memory::Means => &self.means,
            Memory::Squares => &self.squares,
        }
    }

    fn view(buffer: &wgpu::Buffer, first: usize, count: usize) -> View {
        View::whole(buffer).part(4 * first as u64, 4 * count as u64)
    }

    /// A of a matrix.
    pub fn a(&self, which: Memory, place: &Place) -> View {
        Self::view(
            self.buffer(which),
            place.a,
            place.parts.count * self.padded * place.stride,
        )
    }

    /// B of a matrix.
    pub fn b(&self, which: Memory, place: &Place) -> View {
        Self::view(self.buffer(which), place.b, place.rows * self.padded)
    }

    /// Where row `j` of a pair's A, and row `own` of its B, lie.
    fn rows(&self, named: &Named) -> (Vec<usize>, Vec<usize>) {
        let place = &self.places[&named.matrix];
        let a = (0..self.rank)
            .map(|j| place.a + (named.part * self.padded + j) * place.stride)
            .collect();
        let mut b = vec![0; named.rows];
        for n in (0..place.rows).filter(|n| place.parts.part(*n) == named.part) {
            // Halves of a fused tensor lie one behind the other there.
            let own = if place.parts == place.order {
                place.parts.own(n)
            } else {
                place.order.part(n) * (place.rows / place.order.count) + place.order.own(n)
            };
            b[own] = place.b + n * self.padded;
        }
        (a, b)
    }

    /// Halves, in the order of the names, as they lie.
    pub fn pack(&self, pairs: &[(&[f32], &[f32])]) -> Vec<f32> {
        let mut values = vec![0.0; self.floats];
        for (named, (a, b)) in self.names.iter().zip(pairs) {
            let (a_rows, b_rows) = self.rows(named);
            for (row, from) in a_rows.iter().zip(a.chunks_exact(named.columns)) {
                values[*row..row + named.columns].copy_from_slice(from);
            }
            for (row, from) in b_rows.iter().zip(b.chunks_exact(self.rank)) {
                values[*row..row + self.rank].copy_from_slice(from);
            }
        }
        values
    }

    /// The way back.
    pub fn unpack(&self, values: &[f32]) -> Vec<Pair> {
        let one = |named: &Named| {
            let (a, b) = self.rows(named);
            Pair {
                base: named.base.clone(),
                rank: self.rank,
                rows: named.rows,
                columns: named.columns,
                a: a.iter()
                    .flat_map(|at| values[*at..at + named.columns].iter().copied())
                    .collect(),
                b: b.iter()
                    .flat_map(|at| values[*at..at + self.rank].iter().copied())
                    .collect(),
            }
        };
        self.names.iter().map(one).collect()
    }
}
