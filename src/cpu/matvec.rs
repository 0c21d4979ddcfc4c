//! Twin of `shaders/matvec.wgsl`.

use super::{Lora, Weights, dot, rms_norm::rms_norm, swiglu::activate};
use crate::model::Activation;

/// What a matrix product does besides multiplying.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fused<'a> {
    /// Gain and epsilon of an RMS norm of x in front.
    pub norm: Option<(&'a [f32], f32)>,
    /// Added to the result, `(N)`.
    pub bias: Option<&'a [f32]>,
    /// Add to y instead of replacing it.
    pub add: bool,
    /// Rows are (gate, up) pairs; y gets act(gate) up.
    pub gate: Option<Activation>,
    /// Results are multiplied by this, the bias included; `None`: 1.
    pub factor: Option<f32>,
    /// c: results y become c tanh(y / c).
    pub cap: Option<f32>,
    /// Result n is multiplied by number n, modulo their count.
    pub scale: Option<&'a [f32]>,
    /// What adapters add.
    pub lora: Option<Lora<'a>>,
}

/// y\[first + step n\] = cap(factor (scale (W h + B z) + bias)) (+ y), h = norm(x) or x; W `(N, K)`, x `(K)`.
pub fn matvec(w: &Weights, x: &[f32], fused: Fused, first: usize, step: usize, y: &mut [f32]) {
    let mut normed = Vec::new();
    let x = match fused.norm {
        Some((gain, epsilon)) => {
            normed.resize(x.len(), 0.0);
            rms_norm(x, gain, epsilon, &mut normed);
            &normed
        }
        None => x,
    };
    let mut row = vec![0.0; w.columns];
    let mut gate = 0.0;
    for n in 0..w.rows {
        w.row(n, &mut row);
        let mut value = dot(&row, x);
        if let Some(lora) = fused.lora {
            value += lora.row(0, n);
        }
        if let Some(scale) = fused.scale {
            value *= scale[n % scale.len()];
        }
        if let Some(bias) = fused.bias {
            value += bias[n];
        }
        value *= fused.factor.unwrap_or(1.0);
        if let Some(cap) = fused.cap {
            value = cap * (value / cap).tanh();
        }
        if let Some(activation) = fused.gate {
            if n % 2 == 0 {
                gate = value;
            } else {
                y[(first + n) / 2] = activate(activation, gate) * value;
            }
        } else if fused.add {
            y[first + step * n] += value;
        } else {
            y[first + step * n] = value;
        }
    }
}
