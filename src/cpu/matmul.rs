//! Twin of `shaders/matmul.wgsl`.

use super::{Lora, Weights, dot};

/// What a matrix product does besides multiplying.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fused<'a> {
    /// Added to each row of the result, `(N)`.
    pub bias: Option<&'a [f32]>,
    /// Add to y instead of replacing it.
    pub add: bool,
    /// Results are multiplied by this, the bias included; `None`: 1.
    pub factor: Option<f32>,
    /// Column n is multiplied by number n, modulo their count.
    pub scale: Option<&'a [f32]>,
    /// What adapters add.
    pub lora: Option<Lora<'a>>,
}

/// y\[t, first + step n\] = factor (scale\[n\] (sum_k x\[t, k\] W\[n, k\] + (B z)\[t, n\]) + bias\[n\]) (+ y); x `(T, K)`,
/// W `(N, K)`, y `(T, stride)`.
pub fn matmul(w: &Weights, x: &[f32], fused: Fused, first: usize, step: usize, stride: usize, y: &mut [f32]) {
    let mut row = vec![0.0; w.columns];
    for n in 0..w.rows {
        // Each weight row is decoded once for all rows of x.
        w.row(n, &mut row);
        for (t, x) in x.chunks_exact(w.columns).enumerate() {
            let mut value = dot(&row, x) + fused.lora.map_or(0.0, |lora| lora.row(t, n));
            value *= fused.scale.map_or(1.0, |scale| scale[n % scale.len()]);
            value += fused.bias.map_or(0.0, |bias| bias[n]);
            value *= fused.factor.unwrap_or(1.0);
            let at = t * stride + first + step * n;
            if fused.add {
                y[at] += value;
            } else {
                y[at] = value;
            }
        }
    }
}
