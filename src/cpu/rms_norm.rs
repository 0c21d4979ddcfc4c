//! Twin of `shaders/rms_norm.wgsl`.

/// y\[t, :\] = x\[t, :\] gain / sqrt(mean(x\[t, :\]^2) + epsilon); x and y `(T, D)`, gain `(D)`.
///
/// Source: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019).
pub fn rms_norm(x: &[f32], gain: &[f32], epsilon: f32, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(gain.len()).zip(y.chunks_exact_mut(gain.len())) {
        let squares: f32 = super::dot(x, x);
        let scale = 1.0 / (squares / gain.len() as f32 + epsilon).sqrt();
        for i in 0..gain.len() {
            y[i] = x[i] * gain[i] * scale;
        }
    }
}

/// y\[t, :\] += factor norm(x\[t, :\]): a norm behind a part of a layer.
pub fn add_rms_norm(x: &[f32], gain: &[f32], epsilon: f32, factor: f32, y: &mut [f32]) {
    let mut normed = vec![0.0; x.len()];
    rms_norm(x, gain, epsilon, &mut normed);
    super::add_scaled(y, factor, &normed);
}
