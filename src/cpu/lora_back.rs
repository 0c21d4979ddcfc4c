//! Twin of `shaders/lora_back.wgsl`.

use super::add_scaled;
use crate::model::lora::Parts;

/// dz\[t, p, :\] = scales sum_n dy\[t, n\] B\[n, :\] over the rows n of tensor p; dy `(T, N)`, B `(N, r)`, scales `(r)`,
/// dz `(T, parts, r)`.
pub fn lora_back(dy: &[f32], b: &[f32], scales: &[f32], parts: &Parts, dz: &mut [f32]) {
    let rank = scales.len();
    let rows = b.len() / rank;
    dz.fill(0.0);
    for (dy, dz) in dy.chunks_exact(rows).zip(dz.chunks_exact_mut(parts.count * rank)) {
        for n in 0..rows {
            let p = parts.part(n);
            add_scaled(&mut dz[p * rank..(p + 1) * rank], dy[n], &b[n * rank..(n + 1) * rank]);
        }
        for (j, value) in dz.iter_mut().enumerate() {
            *value *= scales[j % rank];
        }
    }
}
