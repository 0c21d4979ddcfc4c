//! The twins: every kernel of `shaders/`, in Rust, under the same name; and the engine that runs a plan with them.
//!
//! A twin is the shader read aloud: it is the oracle of the kernel tests, the known answer of the start-up self-test, and
//! the fallback where there is no WebGPU.

pub mod adamw;
pub mod adjust;
pub mod attend;
pub mod cache;
pub mod carried;
pub mod combine;
pub mod delta_net;
pub mod embed;
pub mod engine;
pub mod gated_norm;
pub mod grad_norm;
pub mod lora_back;
pub mod lora_grad;
pub mod loss;
pub mod mamba2;
pub mod matmul;
pub mod matmul_back;
pub mod matvec;
pub mod rms_norm;
pub mod rope_append;
pub mod sample;
pub mod short_conv;
pub mod sigmoid_gate;
pub mod swiglu;
pub mod trainer;

use crate::format::{BlockType, blocks};
use crate::model::lora::Parts;

/// A weight matrix `(rows, columns)` in the blocks of its file.
#[derive(Debug, Clone)]
pub struct Weights {
    /// Block type of every row.
    pub block_type: BlockType,
    /// N, results.
    pub rows: usize,
    /// K, inputs.
    pub columns: usize,
    /// The rows, one after another.
    pub bytes: Vec<u8>,
}

impl Weights {
    /// Decodes row `row` into `out` `(columns)`.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let bytes = self
            .block_type
            .row_bytes(self.columns)
            .expect("columns were checked when the plan was made");
        blocks::dequantize(self.block_type, &self.bytes[row * bytes..(row + 1) * bytes], out);
    }
}

/// What adapters add to a product: B z, where every tensor of a merged matrix has a z of its own.
#[derive(Debug, Clone, Copy)]
pub struct Lora<'a> {
    /// B, `(N, r)`.
    pub b: &'a [f32],
    /// z = s (A h), `(T, parts, r)`.
    pub z: &'a [f32],
    /// r.
    pub rank: usize,
    /// Which rows belong to which tensor.
    pub parts: Parts,
}

impl Lora<'_> {
    /// What is added to result `n` of row `t`.
    fn row(&self, t: usize, n: usize) -> f32 {
        let z = self.rank * (self.parts.count * t + self.parts.part(n));
        let b = self.rank * n;
        dot(&self.b[b..b + self.rank], &self.z[z..z + self.rank])
    }
}

/// Dot product in eight running sums, which a compiler turns into SIMD (it may not reorder one sum by itself).
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// to += factor from.
fn add_scaled(to: &mut [f32], factor: f32, from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += factor * from;
    }
}
