//! The trained pairs on the device: where they lie, and the way from there to an adapter's halves and back.
//!
//! Pairs lie stacked as `matmul` wants them: for a matrix of several tensors all A one after another, `(parts r, K)`, and one B,
//! `(N, r)`, ranks padded to eight and rows of A to whole groups; all of them in one buffer, with gradient and the optimizer's
//! memory in three more of the same layout. What is padded, or not trained, is zero and has a zero gradient, so that it
//! stays zero.

use super::device::{Gpu, View};
use crate::cpu::trainer::{Shape, Target, initial, targets};
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
    /// Which rows share an A: those of a tensor of the file.
    pub parts: Parts,
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
    /// What it changes.
    pub target: Target,
    /// Its A among those of the matrix.
    part: usize,
    /// For each row of the tensor its row in the matrix.
    places: Vec<usize>,
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
        let (mut names, mut places, mut floats) = (Vec::new(), HashMap::new(), 0);
        for target in targets(plan, shape) {
            let (about, fused) = (&plan.matrices[target.matrix], target.parts.len() > 1);
            places.entry(target.matrix).or_insert_with(|| {
                let parts = if fused { Parts::ONE } else { Parts::of(about) };
                let stride = 8 * groups(about.columns);
                let a = floats;
                let b = (a + parts.count * padded * stride).next_multiple_of(ALIGN);
                floats = (b + about.rows * padded).next_multiple_of(ALIGN);
                Place {
                    parts,
                    rows: about.rows,
                    columns: about.columns,
                    stride,
                    a,
                    b,
                }
            });
            names.push(Named {
                places: target.places(plan),
                part: if fused { 0 } else { target.parts[0] },
                target,
            });
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
                let a = initial(seed, &named.target.base, shape.rank, named.target.columns);
                (a, vec![0.0; named.target.rows * shape.rank])
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

    /// Where each row of a pair's A, and of its B, lies.
    fn rows(&self, named: &Named) -> (Vec<usize>, Vec<usize>) {
        let place = &self.places[&named.target.matrix];
        let a = (0..self.rank)
            .map(|j| place.a + (named.part * self.padded + j) * place.stride)
            .collect();
        let b = named.places.iter().map(|n| place.b + n * self.padded).collect();
        (a, b)
    }

    /// Halves, in the order of the names, as they lie.
    pub fn pack(&self, pairs: &[(&[f32], &[f32])]) -> Vec<f32> {
        let mut values = vec![0.0; self.floats];
        for (named, (a, b)) in self.names.iter().zip(pairs) {
            let (a_rows, b_rows) = self.rows(named);
            for (row, from) in a_rows.iter().zip(a.chunks_exact(named.target.columns)) {
                values[*row..row + named.target.columns].copy_from_slice(from);
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
                base: named.target.base.clone(),
                rank: self.rank,
                rows: named.target.rows,
                columns: named.target.columns,
                a: a.iter()
                    .flat_map(|at| values[*at..at + named.target.columns].iter().copied())
                    .collect(),
                b: b.iter()
                    .flat_map(|at| values[*at..at + self.rank].iter().copied())
                    .collect(),
            }
        };
        self.names.iter().map(one).collect()
    }
}
