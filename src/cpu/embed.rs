//! Twin of `shaders/embed.wgsl`.

use super::Weights;

/// x\[t, :\] = factor E\[tokens\[t\], :\]; E `(V, D)`, x `(T, D)`.
pub fn embed(table: &Weights, tokens: &[u32], factor: f32, x: &mut [f32]) {
    for (token, row) in tokens.iter().zip(x.chunks_exact_mut(table.columns)) {
        table.row(*token as usize, row);
        row.iter_mut().for_each(|value| *value *= factor);
    }
}
