//! Twin of `shaders/attend.wgsl`.

use super::cache::Rows;
use super::{dot, rope_append::Heads};

/// Stands for minus infinity, as in the shader.
pub const LOW: f32 = -1.0e30;

/// How scores are made of q k, and which positions have one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// q k is multiplied by this.
    pub scale: f32,
    /// c: scores s become c tanh(s / c).
    pub cap: Option<f32>,
    /// A row sees this many positions, its own included; `None`: all in front.
    pub window: Option<usize>,
}

/// For each query row and head, over each split of the positions: sum_j exp(s_j - m) v_j, and (m, l).
///
/// `tile` positions are the unit of a split. q `(T, heads head_dim)`, caches of P kv_heads rows, where position p lies at p mod P; parts `(T, heads, splits, head_dim)`, marks `(T, heads, splits, 2)`. `queries` rows share the same split borders.
///
/// Source: the running softmax of Milakov and Gimelshein (2018), split as in Dao et al., "Flash-Decoding" (2023).
pub fn attend(
    shape: Heads,
    scores: Scores,
    position: usize,
    splits: usize,
    tile: usize,
    queries: usize,
    q: &[f32],
    k_cache: &Rows,
    v_cache: &Rows,
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
    let positions = k_cache.len() / kv_heads;
    let mut weights = Vec::new();
    let mut scratch = Vec::new();
    for t in 0..rows {
        // The borders of the splits follow from the last row of this row's tile of queries.
        let first_row = t / queries * queries;
        let seen = position + (first_row + queries - 1).min(rows - 1) + 1;
        let oldest = |row: usize| {
            scores
                .window
                .map_or(0, |window| (position + row + 1).saturating_sub(window))
        };
        let low = oldest(first_row);
        let run = (seen - low).div_ceil(tile).div_ceil(splits) * tile;
        for head in 0..heads {
            let kv_head = head / (heads / kv_heads);
            let query = &q[(t * heads + head) * head_dim..][..head_dim];
            for split in 0..splits {
                let begin = (low + split * run).min(seen);
                let end = (begin + run).min(position + t + 1);
                let begin = begin.max(oldest(t));
                let end = end.max(begin);
                let of = |j: usize| j % positions * kv_heads + kv_head;
                weights.clear();
                weights.extend((begin..end).map(|j| {
                    let score = scores.scale * dot(query, k_cache.get(of(j), &mut scratch));
                    scores.cap.map_or(score, |cap| cap * (score / cap).tanh())
                }));
                let maximum = weights.iter().copied().fold(LOW, f32::max);
                let at = (t * heads + head) * splits + split;
                let part = &mut parts[at * head_dim..(at + 1) * head_dim];
                part.fill(0.0);
                let mut total = 0.0;
                for (score, j) in weights.iter().zip(begin..end) {
                    let weight = (score - maximum).exp();
                    total += weight;
                    for (sum, value) in part.iter_mut().zip(v_cache.get(of(j), &mut scratch)) {
                        *sum += weight * value;
                    }
                }
                marks[2 * at] = maximum;
                marks[2 * at + 1] = total;
            }
        }
    }
}
