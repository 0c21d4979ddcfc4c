//! Twin of `shaders/combine.wgsl`.

/// y\[t, h, :\] = sum_s parts\[t, h, s, :\] exp(m_s - M) / sum_s l_s exp(m_s - M), M = max_s m_s.
///
/// parts `(T heads, splits, head_dim)`, marks `(T heads, splits, 2)`, y `(T heads, head_dim)`.
pub fn combine(splits: usize, head_dim: usize, parts: &[f32], marks: &[f32], y: &mut [f32]) {
    for (row, y) in y.chunks_exact_mut(head_dim).enumerate() {
        let marks = &marks[2 * row * splits..2 * (row + 1) * splits];
        let maximum = marks.chunks_exact(2).map(|m| m[0]).fold(f32::MIN, f32::max);
        let mut total = 0.0;
        y.fill(0.0);
        for split in 0..splits {
            let weight = (marks[2 * split] - maximum).exp();
            total += weight * marks[2 * split + 1];
            let part = &parts[(row * splits + split) * head_dim..][..head_dim];
            for (y, part) in y.iter_mut().zip(part) {
                *y += weight * part;
            }
        }
        for y in y {
            *y /= total;
        }
    }
}
