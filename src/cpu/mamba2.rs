//! Twin of `shaders/mamba2.wgsl`.

use super::dot;
use crate::model::Recurrent;

/// ln(1 + exp(a)).
pub fn softplus(a: f32) -> f32 {
    a.max(0.0) + (-a.abs()).exp().ln_1p()
}

/// A selective state space, per head and token: S = exp(dt a) S + dt x Bᵀ, y = S C + d x, with dt = softplus(dt' + bias).
///
/// xbc `(T, channels)` = x | B | C; projection `(T, projection)` holds dt'; params `(3, heads)` = bias | a | d, with a below 0;
/// carry `(heads, head_dim, state)` is S before and then after; y `(T, inner)`.
///
/// Source: Dao and Gu, "Transformers are SSMs" (2024).
pub fn mamba2(shape: &Recurrent, xbc: &[f32], projection: &[f32], params: &[f32], carry: &mut [f32], y: &mut [f32]) {
    let Recurrent {
        heads,
        head_dim,
        groups,
        state,
        ..
    } = *shape;
    let inner = shape.inner();
    let rows = xbc
        .chunks_exact(shape.channels)
        .zip(projection.chunks_exact(shape.projection()));
    for ((xbc, projection), y) in rows.zip(y.chunks_exact_mut(inner)) {
        for head in 0..heads {
            let dt = softplus(projection[shape.steering() + head] + params[head]);
            let decay = (dt * params[heads + head]).exp();
            let skip = params[2 * heads + head];
            let b = inner + head / (heads / groups) * state;
            let c = b + groups * state;
            let (b, c) = (&xbc[b..b + state], &xbc[c..c + state]);
            for row in head * head_dim..(head + 1) * head_dim {
                let s = &mut carry[row * state..(row + 1) * state];
                let x = xbc[row];
                for (s, b) in s.iter_mut().zip(b) {
                    *s = decay * *s + dt * x * b;
                }
                y[row] = dot(s, c) + skip * x;
            }
        }
    }
}
