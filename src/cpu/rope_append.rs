//! Twin of `shaders/rope_append.wgsl`.

use super::rms_norm::rms_norm;
use crate::model::RopeStyle;

/// The shape of an attention layer.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Elements of a head that are turned.
    pub rotary: usize,
    /// Which elements are turned together.
    pub style: RopeStyle,
    /// Each query head is followed by its gate, which is left to `sigmoid_gate`.
    pub gated: bool,
}

/// q = rope(norm(q)), K cache <- rope(norm(k)), V cache <- v, from `position` on.
///
/// qkv `(T, q | k | v)`, with gates between the heads of q where the shape says so; gains: q's, then k's `(2 head_dim)` with the norm's epsilon; turns `(context, rotary / 2, 2)`;
/// q `(T, heads head_dim)`; caches `(context, kv_heads head_dim)`.
pub fn rope_append(
    shape: Heads,
    position: usize,
    qkv: &[f32],
    gains: Option<(&[f32], f32)>,
    turns: &[f32],
    q: &mut [f32],
    k_cache: &mut [f32],
    v_cache: &mut [f32],
) {
    let Heads {
        heads,
        kv_heads,
        head_dim,
        rotary,
        style,
        gated,
    } = shape;
    let step = if gated { 2 } else { 1 };
    let stride = (step * heads + 2 * kv_heads) * head_dim;
    let mut head_values = vec![0.0; head_dim];
    for (t, row) in qkv.chunks_exact(stride).enumerate() {
        let at = position + t;
        let (queries, others) = row.split_at(step * heads * head_dim);
        let queries = queries.chunks_exact(head_dim).step_by(step);
        for (head, values) in queries.chain(others.chunks_exact(head_dim)).enumerate() {
            if head >= heads + kv_heads {
                let to = (at * kv_heads + head - heads - kv_heads) * head_dim;
                v_cache[to..to + head_dim].copy_from_slice(values);
                continue;
            }
            let is_key = head >= heads;
            match gains {
                Some((gains, epsilon)) => {
                    let gain = if is_key { &gains[head_dim..] } else { &gains[..head_dim] };
                    rms_norm(values, gain, epsilon, &mut head_values);
                }
                None => head_values.copy_from_slice(values),
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
            if is_key {
                let to = (at * kv_heads + head - heads) * head_dim;
                k_cache[to..to + head_dim].copy_from_slice(&head_values);
            } else {
                let to = (t * heads + head) * head_dim;
                q[to..to + head_dim].copy_from_slice(&head_values);
            }
        }
    }
}
