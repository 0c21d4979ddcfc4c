//! Derivatives of what the twins compute for one number or one row.

use crate::cpu::dot;
use crate::model::Activation;

/// 1 / (1 + exp(-a)).
pub fn sigmoid(a: f32) -> f32 {
    1.0 / (1.0 + (-a).exp())
}

/// d silu(a) / da.
pub fn silu_slope(a: f32) -> f32 {
    let s = sigmoid(a);
    s * (1.0 + a * (1.0 - s))
}

/// d gelu(a) / da, of the tanh formula.
fn gelu_slope(a: f32) -> f32 {
    const ROOT: f32 = 0.797_884_6; // sqrt(2 / pi)
    let t = (ROOT * a * (1.0 + 0.044_715 * a * a)).tanh();
    0.5 * (1.0 + t) + 0.5 * a * (1.0 - t * t) * ROOT * (1.0 + 3.0 * 0.044_715 * a * a)
}

/// The derivative of what a gate goes through.
pub fn slope(activation: Activation, a: f32) -> f32 {
    match activation {
        Activation::Silu => silu_slope(a),
        Activation::Gelu => gelu_slope(a),
    }
}

/// d (c tanh(x / c)) / dx, by its result.
pub fn cap_slope(cap: f32, capped: f32) -> f32 {
    1.0 - (capped / cap).powi(2)
}

/// Adds to `dx` what `dy` asks of x through y = x gain / rms(x):
/// dx = (gain dy) / rms - x sum(gain dy x) / (D rms^3).
pub fn norm_back(x: &[f32], gain: &[f32], epsilon: f32, dy: &[f32], dx: &mut [f32]) {
    let inverse = 1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt();
    let along: f32 = (0..x.len()).map(|i| gain[i] * dy[i] * x[i]).sum();
    let back = along * inverse.powi(3) / x.len() as f32;
    for i in 0..x.len() {
        dx[i] += gain[i] * dy[i] * inverse - x[i] * back;
    }
}
