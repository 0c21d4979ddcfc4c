//! Twin of `shaders/matmul_back.wgsl`.

use super::{Weights, add_scaled};

/// dx\[t, :\] += sum_n dy\[t, n\] W\[n, :\] + sum_j dz\[t, j\] A\[j, :\]; dy `(T, N)`, W `(N, K)`, dx `(T, K)`; the pairs'
/// A `(J, K)` and dz `(T, J)`, if there are any.
pub fn matmul_back(w: &Weights, dy: &[f32], pairs: Option<(&[f32], &[f32])>, dx: &mut [f32]) {
    let k = w.columns;
    let mut row = vec![0.0; k];
    for n in 0..w.rows {
        // Each weight row is decoded once for all rows of dy.
        w.row(n, &mut row);
        for (dy, dx) in dy.chunks_exact(w.rows).zip(dx.chunks_exact_mut(k)) {
            if dy[n] != 0.0 {
                add_scaled(dx, dy[n], &row);
            }
        }
    }
    if let Some((a, dz)) = pairs {
        let wide = a.len() / k;
        for (dz, dx) in dz.chunks_exact(wide).zip(dx.chunks_exact_mut(k)) {
            for (j, a) in a.chunks_exact(k).enumerate() {
                add_scaled(dx, dz[j], a);
            }
        }
    }
}
