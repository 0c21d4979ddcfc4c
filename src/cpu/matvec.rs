//! Twin of `shaders/matvec.wgsl`.

use super::{Lora, Weights, dot, rms_norm::rms_norm, swiglu::silu};

/// What a matrix product does besides multiplying.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fused<'a> {
    /// Gain and epsilon of an RMS norm of x in front.
    pub norm: Option<(&'a [f32], f32)>,
    /// Added to the result, `(N)`.
    pub bias: Option<&'a [f32]>,
    /// Add to y instead of replacing it.
    pub add: bool,
    /// Rows are (gate, up) pairs; y gets silu(gate) up.
    pub gate: bool,
    /// Result n is multiplied by number n, modulo their count.
    pub scale: Option<&'a [f32]>,
    /// What adapters add.
    pub lora: Option<Lora<'a>>,
}

/// y\[first + step n\] = scale (W h + B z) + bias (+ y), h = norm(x) or x; W `(N, K)`, x `(K)`.
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
        if fused.gate {
            if n % 2 == 0 {
                gate = value;
            } else {
                y[(first + n) / 2] = silu(gate) * value;
            }
        } else if fused.add {
            y[first + step * n] += value;
        } else {
            y[first + step * n] = value;
        }
    }
}
