//! Twin of `shaders/lora_grad.wgsl`.

use super::add_scaled;
use crate::model::lora::Parts;

/// g\[i, :\] += sum_t a\[t, i\] b\[t, part(i), :\]; a `(T, N)`, g `(N, width)`; b `(T, parts, width)`, or `(T, width)` where
/// there are no `parts`.
pub fn lora_grad(a: &[f32], b: &[f32], count: usize, width: usize, parts: Option<&Parts>, g: &mut [f32]) {
    let wide = width * parts.map_or(1, |parts| parts.count);
    for (a, b) in a.chunks_exact(count).zip(b.chunks_exact(wide)) {
        for i in 0..count {
            let first = width * parts.map_or(0, |parts| parts.part(i));
            add_scaled(&mut g[i * width..(i + 1) * width], a[i], &b[first..first + width]);
        }
    }
}
