//! Twin of `shaders/adamw.wgsl`.

use bytemuck::{Pod, Zeroable};

/// AdamW (Loshchilov and Hutter, 2019).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Step size.
    pub rate: f32,
    /// Decay of the mean gradient.
    pub beta1: f32,
    /// Decay of the mean square.
    pub beta2: f32,
    /// Keeps the division finite.
    pub epsilon: f32,
    /// Pull towards zero.
    pub decay: f32,
    /// Longest gradient, over all pairs together.
    pub clip: Option<f32>,
}

/// One step's numbers: what the shader is told.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct AdamStep {
    /// Step size.
    pub rate: f32,
    /// Decay of the mean gradient.
    pub beta1: f32,
    /// Decay of the mean square.
    pub beta2: f32,
    /// Keeps the division finite.
    pub epsilon: f32,
    /// Pull towards zero.
    pub decay: f32,
    /// What the gradient is multiplied by, so that it is not too long.
    pub factor: f32,
    /// 1 - beta1^step.
    pub correction1: f32,
    /// 1 - beta2^step.
    pub correction2: f32,
}

impl AdamW {
    /// The numbers of step `step`, counted from 1, for a gradient of length `norm`.
    pub fn step(&self, step: i32, norm: f32) -> AdamStep {
        AdamStep {
            rate: self.rate,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            decay: self.decay,
            factor: self.clip.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0)),
            correction1: 1.0 - self.beta1.powi(step),
            correction2: 1.0 - self.beta2.powi(step),
        }
    }
}

/// Moves the numbers `p` along their gradient `g`; `m` and `v` are the optimizer's memory.
pub fn adamw(adam: &AdamStep, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    for i in 0..p.len() {
        let d = adam.factor * g[i];
        m[i] = adam.beta1 * m[i] + (1.0 - adam.beta1) * d;
        v[i] = adam.beta2 * v[i] + (1.0 - adam.beta2) * d * d;
        p[i] -= adam.rate * adam.decay * p[i];
        p[i] -= adam.rate / adam.correction1 * m[i] / ((v[i] / adam.correction2).sqrt() + adam.epsilon);
    }
}
