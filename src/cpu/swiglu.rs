//! Twin of `shaders/swiglu.wgsl`.

use crate::model::Activation;

/// a / (1 + exp(-a)), the sigmoid-weighted linear unit.
pub fn silu(a: f32) -> f32 {
    a / (1.0 + (-a).exp())
}

/// a / 2 (1 + tanh(sqrt(2 / pi) (a + 0.044715 a^3))), the Gaussian error linear unit by its tanh formula.
///
/// Source: Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016).
pub fn gelu(a: f32) -> f32 {
    const ROOT: f32 = 0.797_884_6; // sqrt(2 / pi)
    0.5 * a * (1.0 + (ROOT * a * (1.0 + 0.044_715 * a * a)).tanh())
}

/// What a gate goes through.
pub fn activate(activation: Activation, a: f32) -> f32 {
    match activation {
        Activation::Silu => silu(a),
        Activation::Gelu => gelu(a),
    }
}

/// y\[t, i\] = act(x\[t, 2 i\]) x\[t, 2 i + 1\]; x `(T, 2 F)`, y `(T, F)`.
///
/// Source: Shazeer, "GLU Variants Improve Transformer" (2020).
pub fn swiglu(x: &[f32], activation: Activation, y: &mut [f32]) {
    for (pair, y) in x.chunks_exact(2).zip(y) {
        *y = activate(activation, pair[0]) * pair[1];
    }
}
