//! Twin of `shaders/delta_net.wgsl`.

use super::mamba2::softplus;
use super::{add_scaled, dot};
use crate::model::Recurrent;

/// The gated delta rule, per value head and token: S = exp(g) S, S += beta (v - S k) kᵀ, y = S q / sqrt(state).
///
/// g = a softplus(alpha + bias) and beta = sigmoid(beta'); q and k are divided by their lengths. qkv `(T, channels)` = q | k | v;
/// value head h takes key head h modulo their count, the order of GGUF files; projection `(T, projection)` holds beta' and alpha;
/// params `(2, heads)` = bias | a, with a below 0; carry `(heads, head_dim, state)` is S before and then after; y `(T, inner)`.
///
/// Source: Yang, Kautz and Hatamizadeh, "Gated Delta Networks" (2024), equation 10.
pub fn delta_net(shape: &Recurrent, qkv: &[f32], projection: &[f32], params: &[f32], carry: &mut [f32], y: &mut [f32]) {
    let Recurrent {
        heads,
        head_dim,
        groups,
        state,
        ..
    } = *shape;
    let rows = qkv
        .chunks_exact(shape.channels)
        .zip(projection.chunks_exact(shape.projection()));
    for ((qkv, projection), y) in rows.zip(y.chunks_exact_mut(shape.inner())) {
        let beta_first = shape.steering();
        for head in 0..heads {
            let alpha = projection[beta_first + heads + head];
            let decay = (params[heads + head] * softplus(alpha + params[head])).exp();
            let beta = 1.0 / (1.0 + (-projection[beta_first + head]).exp());
            let q = head % groups * state;
            let k = q + groups * state;
            let (q, k) = (&qkv[q..q + state], &qkv[k..k + state]);
            // The epsilon of the lengths is the one that the networks were trained with.
            let scale = |a: &[f32]| 1.0 / (dot(a, a) + 1e-6).sqrt();
            let (q_scale, k_scale) = (scale(q) / (state as f32).sqrt(), scale(k));
            for row in head * head_dim..(head + 1) * head_dim {
                let s = &mut carry[row * state..(row + 1) * state];
                s.iter_mut().for_each(|s| *s *= decay);
                let v = qkv[2 * groups * state + row];
                let delta = beta * (v - k_scale * dot(s, k));
                add_scaled(s, delta * k_scale, k);
                y[row] = q_scale * dot(s, q);
            }
        }
    }
}
