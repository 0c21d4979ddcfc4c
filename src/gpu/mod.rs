//! wgpu only: the device, the kernels, and the engine that runs a plan on them.

pub mod carried;
pub mod cases;
pub mod device;
pub mod engine;
pub mod kernels;
pub mod pairs;
pub mod pipelines;
pub mod training;
pub mod weights;

pub use device::{Gpu, GpuOptions, Tier, View};
pub use engine::Engine;
pub use training::Training;

use bytemuck::{Pod, Zeroable};

/// What changes from token to token; the Rust side of `shaders/lib/state.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub struct State {
    /// Rows already in the KV cache before this step.
    pub position: u32,
    /// Rows of this step.
    pub rows: u32,
    /// The row whose logits are wanted.
    pub head_row: u32,
    /// Random draws made so far.
    pub draw: u32,
    /// Seed of the draws.
    pub seed: u32,
    /// 0 = as many as the sampler holds.
    pub top_k: u32,
    /// 0 = greedy.
    pub temperature: f32,
    /// Probability of the head that is kept.
    pub top_p: f32,
    /// Least fraction of the first token's probability.
    pub min_p: f32,
    /// Probability of the most typical tokens that are kept.
    pub typical_p: f32,
}
