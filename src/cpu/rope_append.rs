//! Twin of `shaders/rope_append.wgsl`.

use super::cache::Rows;
use super::rms_norm::rms_norm;
use crate::model::{QkNorm, RopeStyle};

/// The shape of an attention layer.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Elements of a head that are turned; 0: none.
    pub rotary: usize,
    /// Which elements are turned together.
    pub style: RopeStyle,
    /// How queries and keys are normed.
    pub qk_norm: QkNorm,
    /// Each query head is followed by its gate, which is left to `sigmoid_gate`.
    pub gated: bool,
}

/// q = rope(norm(q)), K cache <- rope(norm(k)), V cache <- v, from `position` on; norm and rope in the order of `qk_norm`.
///
/// qkv `(T, q | k | v)`, where `gated` with a gate behind each head of q; gains: q's, then k's, `(2 head_dim)` or `((heads + kv_heads) head_dim)`; turns `(context, rotary / 2, 2)`;
/// q `(T, heads head_dim)`; caches of P kv_heads rows, where position p lies at p mod P.
pub fn rope_append(
    shape: Heads,
    position: usize,
    qkv: &[f32],
    gains: &[f32],
    epsilon: f32,
    turns: &[f32],
    q: &mut [f32],
    k_cache: &mut Rows,
    v_cache: &mut Rows,
) {
    let positions = k_cache.len() / shape.kv_heads;
    rope(
        shape,
        position,
        qkv,
        gains,
        epsilon,
        turns,
        q,
        |is_key, t, head, values| {
            let row = (position + t) % positions * shape.kv_heads + head;
            let cache = if is_key { &mut *k_cache } else { &mut *v_cache };
            cache.put(row, values);
        },
    );
}

/// The same, where `keep(is it a key, t, KV head, values)` gets what would go to the caches.
pub fn rope(
    shape: Heads,
    position: usize,
    qkv: &[f32],
    gains: &[f32],
    epsilon: f32,
    turns: &[f32],
    q: &mut [f32],
    mut keep: impl FnMut(bool, usize, usize, &[f32]),
) {
    let Heads {
        heads,
        kv_heads,
        head_dim,
        rotary,
        style,
        qk_norm,
        gated,
    } = shape;
    let step = if gated { 2 } else { 1 };
    let stride = (step * heads + 2 * kv_heads) * head_dim;
    let mut head_values = vec![0.0; head_dim];
    for (t, row) in qkv.chunks_exact(stride).enumerate() {
        let at = position + t;
        let (mut q_row, mut k_row) = (Vec::new(), Vec::new());
        if qk_norm == QkNorm::Whole {
            let (q, k) = row[..(heads + kv_heads) * head_dim].split_at(heads * head_dim);
            let (q_gain, k_gain) = gains.split_at(q.len());
            q_row.resize(q.len(), 0.0);
            k_row.resize(k.len(), 0.0);
            rms_norm(q, q_gain, epsilon, &mut q_row);
            rms_norm(k, k_gain, epsilon, &mut k_row);
        }
        let (queries, others) = row.split_at(step * heads * head_dim);
        let queries = queries.chunks_exact(head_dim).step_by(step);
        for (head, values) in queries.chain(others.chunks_exact(head_dim)).enumerate() {
            if head >= heads + kv_heads {
                keep(false, t, head - heads - kv_heads, values);
                continue;
            }
            let is_key = head >= heads;
            let gain = || {
                if is_key {
                    &gains[head_dim..2 * head_dim]
                } else {
                    &gains[..head_dim]
                }
            };
            match qk_norm {
                QkNorm::Head => rms_norm(values, gain(), epsilon, &mut head_values),
                QkNorm::None | QkNorm::HeadTurned => head_values.copy_from_slice(values),
                QkNorm::Whole => {
                    let (row, first) = if is_key { (&k_row, head - heads) } else { (&q_row, head) };
                    head_values.copy_from_slice(&row[first * head_dim..][..head_dim]);
                }
            }
            for pair in 0..rotary / 2 {
                let (first, second) = match style {
                    RopeStyle::Halves => (pair, pair + rotary / 2),
                    RopeStyle::Pairs => (2 * pair, 2 * pair + 1),
                };
                let turn = (at * (rotary / 2) + pair) * 2;
                let (cos, sin) = (turns[turn], turns[turn + 1]);
                let (a, b) = (head_values[first], head_values[second]);
                head_values[first] = a * cos - b * sin;
                head_values[second] = a * sin + b * cos;
            }
            if qk_norm == QkNorm::HeadTurned {
                let turned = head_values.clone();
                rms_norm(&turned, gain(), epsilon, &mut head_values);
            }
            if is_key {
                keep(true, t, head - heads, &head_values);
            } else {
                let to = (t * heads + head) * head_dim;
                q[to..to + head_dim].copy_from_slice(&head_values);
            }
        }
    }
}
