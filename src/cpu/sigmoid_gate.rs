//! Twin of `shaders/sigmoid_gate.wgsl`.

/// y\[t, h, i\] = y\[t, h, i\] sigmoid(g\[t, h, i\]), in place: the gate behind gated attention.
///
/// A row of x, `stride` wide, begins with `head_dim` elements of a query and `head_dim` of its gate g, head after head;
/// y `(T, width)` with `width` = heads `head_dim`.
///
/// Source: Qiu et al., "Gated Attention for Large Language Models" (2025).
pub fn sigmoid_gate(x: &[f32], stride: usize, head_dim: usize, width: usize, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(stride).zip(y.chunks_exact_mut(width)) {
        for (pair, y) in x.chunks_exact(2 * head_dim).zip(y.chunks_exact_mut(head_dim)) {
            for (y, gate) in y.iter_mut().zip(&pair[head_dim..]) {
                *y /= 1.0 + (-gate).exp();
            }
        }
    }
}
