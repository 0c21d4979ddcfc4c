//! Twin of `shaders/short_conv.wgsl`.

use super::swiglu::silu;
use crate::model::{Mixing, Recurrent};

/// A causal depthwise convolution: y\[t, c\] = silu(bias\[c\] + sum_j w\[c, j\] u\[t - taps + 1 + j, c\]).
///
/// x `(T, projection)`, of which u are the convolved columns; w `(channels, taps)`, oldest first; bias `(channels)`;
/// y `(T, channels)`. LFM2's x is B | C | X instead, u = B X, and y = C sum. carry `(taps - 1, channels)` is u of the tokens before,
/// and then of the last tokens.
///
/// Sources: Dao and Gu, "Transformers are SSMs" (2024), for the convolution in front of a state; Liquid AI's LFM2 for the gates.
pub fn short_conv(shape: &Recurrent, x: &[f32], w: &[f32], bias: Option<&[f32]>, carry: &mut [f32], y: &mut [f32]) {
    let Recurrent { channels, taps, .. } = *shape;
    let gated = shape.mixing == Mixing::ShortConv;
    let rows = x.chunks_exact(shape.projection());
    for (x, y) in rows.zip(y.chunks_exact_mut(channels)) {
        for c in 0..channels {
            let u = if gated {
                x[c] * x[2 * channels + c]
            } else {
                x[shape.convolved() + c]
            };
            let w = &w[c * taps..(c + 1) * taps];
            let mut sum = bias.map_or(0.0, |bias| bias[c]);
            for j in 0..taps - 1 {
                sum += w[j] * carry[j * channels + c];
            }
            sum += w[taps - 1] * u;
            for j in 0..taps - 2 {
                carry[j * channels + c] = carry[(j + 1) * channels + c];
            }
            carry[(taps - 2) * channels + c] = u;
            y[c] = if gated { x[channels + c] * sum } else { silu(sum) };
        }
    }
}
