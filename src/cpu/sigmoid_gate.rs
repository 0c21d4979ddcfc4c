//! Twin of `shaders/sigmoid_gate.wgsl`.

/// y\[t, i\] = y\[t, i\] sigmoid(x\[t, first + i\]), in place; x `(T, stride)`, y `(T, width)`.
///
/// Source: Qiu et al., "Gated Attention for Large Language Models" (2025).
pub fn sigmoid_gate(x: &[f32], stride: usize, first: usize, width: usize, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(stride).zip(y.chunks_exact_mut(width)) {
        for (y, gate) in y.iter_mut().zip(&x[first..first + width]) {
            *y /= 1.0 + (-gate).exp();
        }
    }
}
