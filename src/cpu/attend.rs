//! Twin of `shaders/attend.wgsl`.

use super::{dot, rope_append::Heads};

/// Stands for minus infinity, as in the shader.
pub const LOW: f32 = -1.0e30;

/// For each query row and head, over each split of the positions: sum_j exp(s_j - m) v_j, and (m, l).
///
/// `tile` positions are the unit of a split. q `(T, heads head_dim)`, caches `(context, kv_heads head_dim)`, parts
/// `(T, heads, splits, head_dim)`, marks `(T, heads, splits, 2)`. `queries` rows share the same split borders.
///
/// Source: the running softmax of Milakov and Gimelshein (2018), split as in Dao et al., "Flash-Decoding" (2023).
pub fn attend(
    shape: Heads,
    position: usize,
    splits: usize,
    tile: usize,
    queries: usize,
    q: &[f32],
    k_cache: &[f32],
    v_cache: &[f32],
    parts: &mut [f32],
    marks: &mut [f32],
) {
    let Heads {
        heads,
        kv_heads,
        head_dim,
        ..
    } = shape;
    let rows = q.len() / (heads * head_dim);
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut weights = Vec::new();
    for t in 0..rows {
        // The borders of the splits follow from the last row of this row's tile of queries.
        let seen = position + (t / queries * queries + queries - 1).min(rows - 1) + 1;
        let run = seen.div_ceil(tile).div_ceil(splits) * tile;
        for head in 0..heads {
            let kv_head = head / (heads / kv_heads);
            let query = &q[(t * heads + head) * head_dim..][..head_dim];
            for split in 0..splits {
                let begin = (split * run).min(seen);
                let end = (begin + run).min(position + t + 1).max(begin);
                let of = |j: usize| (j * kv_heads + kv_head) * head_dim..(j * kv_heads + kv_head + 1) * head_dim;
                weights.clear();
                weights.extend((begin..end).map(|j| scale * dot(query, &k_cache[of(j)])));
                let maximum = weights.iter().copied().fold(LOW, f32::max);
                let at = (t * heads + head) * splits + split;
                let part = &mut parts[at * head_dim..(at + 1) * head_dim];
                part.fill(0.0);
                let mut total = 0.0;
                for (score, j) in weights.iter().zip(begin..end) {
                    let weight = (score - maximum).exp();
                    total += weight;
                    for (sum, value) in part.iter_mut().zip(&v_cache[of(j)]) {
                        *sum += weight * value;
                    }
                }
                marks[2 * at] = maximum;
                marks[2 * at + 1] = total;
            }
        }
    }
}
