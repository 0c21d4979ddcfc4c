//! Twin of `shaders/matmul.wgsl`.

use super::{Weights, dot};

/// y\[t, first + step n\] = sum_k x\[t, k\] W\[n, k\] + bias\[n\] (+ y); x `(T, K)`, W `(N, K)`, y `(T, stride)`.
pub fn matmul(
    w: &Weights,
    x: &[f32],
    bias: Option<&[f32]>,
    add: bool,
    first: usize,
    step: usize,
    stride: usize,
    y: &mut [f32],
) {
    let mut row = vec![0.0; w.columns];
    for n in 0..w.rows {
        // Each weight row is decoded once for all rows of x.
        w.row(n, &mut row);
        for (t, x) in x.chunks_exact(w.columns).enumerate() {
            let value = dot(&row, x) + bias.map_or(0.0, |b| b[n]);
            let at = t * stride + first + step * n;
            if add {
                y[at] += value;
            } else {
                y[at] = value;
            }
        }
    }
}
