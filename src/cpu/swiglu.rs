//! Twin of `shaders/swiglu.wgsl`.

/// a / (1 + exp(-a)), the sigmoid-weighted linear unit.
pub fn silu(a: f32) -> f32 {
    a / (1.0 + (-a).exp())
}

/// y\[t, i\] = silu(x\[t, 2 i\]) x\[t, 2 i + 1\]; x `(T, 2 F)`, y `(T, F)`.
///
/// Source: Shazeer, "GLU Variants Improve Transformer" (2020).
pub fn swiglu(x: &[f32], y: &mut [f32]) {
    for (pair, y) in x.chunks_exact(2).zip(y) {
        *y = silu(pair[0]) * pair[1];
    }
}
