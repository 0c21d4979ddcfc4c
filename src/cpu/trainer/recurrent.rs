//! Backwards through recurrent layers: the twins' formulas, exactly, from the last token to the first.
//!
//! The rows of a state never meet, so they are gone through one by one: a row's states after every token, `(T, state)`, are all
//! that is kept at a time (256 KiB for 512 tokens and states 128 wide), and each is computed anew from the layer's inputs.

use super::derivatives::{norm_back, sigmoid, silu_slope};
use crate::cpu::gated_norm::norm_width;
use crate::cpu::mamba2::softplus;
use crate::cpu::swiglu::silu;
use crate::cpu::{add_scaled, dot};
use crate::model::{Mixing, Recurrent};

/// Back through [`short_conv`](crate::cpu::short_conv::short_conv) from zeros: adds to d_x `(T, projection)` what dy `(T, channels)` asks.
pub fn short_conv_back(shape: &Recurrent, x: &[f32], w: &[f32], bias: Option<&[f32]>, dy: &[f32], d_x: &mut [f32]) {
    let Recurrent { channels, taps, .. } = *shape;
    let gated = shape.mixing == Mixing::ShortConv;
    let stride = shape.projection();
    let count = x.len() / stride;
    let mut u = vec![0.0; count];
    let mut du = vec![0.0; count];
    for c in 0..channels {
        let w = &w[c * taps..(c + 1) * taps];
        for (u, x) in u.iter_mut().zip(x.chunks_exact(stride)) {
            *u = if gated {
                x[c] * x[2 * channels + c]
            } else {
                x[shape.convolved() + c]
            };
        }
        du.fill(0.0);
        for t in 0..count {
            // Tap j sees the token at t + 1 + j - taps.
            let first = (taps - 1).saturating_sub(t);
            let seen = t + 1 + first - taps..t + 1;
            let mut sum = bias.map_or(0.0, |bias| bias[c]);
            for (u, w) in u[seen.clone()].iter().zip(&w[first..]) {
                sum += w * u;
            }
            let dy = dy[t * channels + c];
            let d_sum = if gated {
                let gate = t * stride + channels + c;
                d_x[gate] += dy * sum;
                dy * x[gate]
            } else {
                dy * silu_slope(sum)
            };
            for (du, w) in du[seen].iter_mut().zip(&w[first..]) {
                *du += w * d_sum;
            }
        }
        for ((du, x), d_x) in du.iter().zip(x.chunks_exact(stride)).zip(d_x.chunks_exact_mut(stride)) {
            if gated {
                d_x[c] += du * x[2 * channels + c];
                d_x[2 * channels + c] += du * x[c];
            } else {
                d_x[shape.convolved() + c] += du;
            }
        }
    }
}

/// Back through [`mamba2`](crate::cpu::mamba2::mamba2) from a state of zeros: adds to d_xbc `(T, channels)` and to d_projection
/// `(T, projection)` what dy `(T, inner)` asks.
///
/// With dS what is asked of the state after a token: dS += dy C; dx = dy d + dt dS B, dB = dt x dS, dC = dy S,
/// d dt = x dS B + a exp(dt a) dS S'; dS' = exp(dt a) dS, where S' is the state before it.
pub fn mamba2_back(
    shape: &Recurrent,
    xbc: &[f32],
    projection: &[f32],
    params: &[f32],
    dy: &[f32],
    d_xbc: &mut [f32],
    d_projection: &mut [f32],
) {
    let Recurrent {
        heads,
        head_dim,
        groups,
        state,
        ..
    } = *shape;
    let (inner, stride) = (shape.inner(), shape.projection());
    let count = xbc.len() / shape.channels;
    let mut states = vec![0.0; (count + 1) * state];
    for head in 0..heads {
        let a = params[heads + head];
        let skip = params[2 * heads + head];
        let raw = |t: usize| projection[t * stride + shape.steering() + head] + params[head];
        let steps: Vec<f32> = (0..count).map(|t| softplus(raw(t))).collect();
        let decays: Vec<f32> = steps.iter().map(|dt| (dt * a).exp()).collect();
        let mut d_steps = vec![0.0; count];
        let b_first = inner + head / (heads / groups) * state;
        let of_b = |t: usize| t * shape.channels + b_first..t * shape.channels + b_first + state;
        let of_c = |t: usize| {
            let b = of_b(t);
            b.start + groups * state..b.end + groups * state
        };
        for row in head * head_dim..(head + 1) * head_dim {
            for t in 0..count {
                let (before, after) = states[t * state..(t + 2) * state].split_at_mut(state);
                let push = steps[t] * xbc[t * shape.channels + row];
                for ((after, before), b) in after.iter_mut().zip(before).zip(&xbc[of_b(t)]) {
                    *after = decays[t] * *before + push * b;
                }
            }
            let mut ds = vec![0.0; state];
            for t in (0..count).rev() {
                let (before, after) = states[t * state..(t + 2) * state].split_at(state);
                let x = xbc[t * shape.channels + row];
                let (dy, dt) = (dy[t * inner + row], steps[t]);
                add_scaled(&mut ds, dy, &xbc[of_c(t)]);
                add_scaled(&mut d_xbc[of_c(t)], dy, after);
                let along = dot(&ds, &xbc[of_b(t)]);
                d_xbc[t * shape.channels + row] += dy * skip + dt * along;
                add_scaled(&mut d_xbc[of_b(t)], dt * x, &ds);
                d_steps[t] += x * along + a * decays[t] * dot(&ds, before);
                ds.iter_mut().for_each(|ds| *ds *= decays[t]);
            }
        }
        for (t, d_step) in d_steps.iter().enumerate() {
            d_projection[t * stride + shape.steering() + head] += d_step * sigmoid(raw(t));
        }
    }
}

/// Back through [`delta_net`](crate::cpu::delta_net::delta_net) from a state of zeros: adds to d_qkv `(T, channels)` and to
/// d_projection `(T, projection)` what dy `(T, inner)` asks.
///
/// With q and k the divided ones, S' = exp(g) S'' the decayed state before a token, e = v - S' k and dS what is asked of the state
/// after it: dS += dy q, dq = dy S; u = dS k, dk = beta e dS - beta u S', dv = beta u, d beta = u e; dS' = dS - beta u k,
/// d exp(g) = dS' S'', dS'' = exp(g) dS'.
pub fn delta_net_back(
    shape: &Recurrent,
    qkv: &[f32],
    projection: &[f32],
    params: &[f32],
    dy: &[f32],
    d_qkv: &mut [f32],
    d_projection: &mut [f32],
) {
    let Recurrent {
        heads,
        head_dim,
        groups,
        state,
        channels,
        ..
    } = *shape;
    let (inner, stride, steering) = (shape.inner(), shape.projection(), shape.steering());
    let count = qkv.len() / channels;
    // All q and k divided by their lengths (q by sqrt(state) besides), `(T, 2 groups, state)`, and what is asked of them.
    let wide = 2 * groups * state;
    let root = (state as f32).sqrt();
    let inverse = |a: &[f32]| 1.0 / (dot(a, a) + 1e-6).sqrt();
    let factor = |part: usize| if part < groups { 1.0 / root } else { 1.0 };
    let mut units = vec![0.0; count * wide];
    for (qkv, units) in qkv.chunks_exact(channels).zip(units.chunks_exact_mut(wide)) {
        let parts = qkv[..wide].chunks_exact(state).zip(units.chunks_exact_mut(state));
        for (part, (from, to)) in parts.enumerate() {
            add_scaled(to, factor(part) * inverse(from), from);
        }
    }
    let mut d_units = vec![0.0; count * wide];
    let mut states = vec![0.0; (count + 1) * state];
    let mut decayed = vec![0.0; state];
    for head in 0..heads {
        let of_q = |t: usize| {
            let first = t * wide + head % groups * state;
            first..first + state
        };
        let of_k = |t: usize| {
            let q = of_q(t);
            q.start + groups * state..q.end + groups * state
        };
        let (a, bias) = (params[heads + head], params[head]);
        let raw = |t: usize| projection[t * stride + steering + heads + head] + bias;
        let decays: Vec<f32> = (0..count).map(|t| (a * softplus(raw(t))).exp()).collect();
        let betas: Vec<f32> = (0..count)
            .map(|t| sigmoid(projection[t * stride + steering + head]))
            .collect();
        let (mut d_decays, mut d_betas) = (vec![0.0; count], vec![0.0; count]);
        let mut errors = vec![0.0; count];
        for row in head * head_dim..(head + 1) * head_dim {
            let v = wide + row;
            for t in 0..count {
                let (before, after) = states[t * state..(t + 2) * state].split_at_mut(state);
                let k = &units[of_k(t)];
                after
                    .iter_mut()
                    .zip(before)
                    .for_each(|(s, before)| *s = decays[t] * *before);
                errors[t] = qkv[t * channels + v] - dot(after, k);
                add_scaled(after, betas[t] * errors[t], k);
            }
            let mut ds = vec![0.0; state];
            for t in (0..count).rev() {
                let (before, after) = states[t * state..(t + 2) * state].split_at(state);
                let k = &units[of_k(t)];
                let dy = dy[t * inner + row];
                add_scaled(&mut ds, dy, &units[of_q(t)]);
                add_scaled(&mut d_units[of_q(t)], dy, after);
                let along = dot(&ds, k);
                decayed
                    .iter_mut()
                    .zip(before)
                    .for_each(|(s, before)| *s = decays[t] * before);
                add_scaled(&mut d_units[of_k(t)], betas[t] * errors[t], &ds);
                add_scaled(&mut d_units[of_k(t)], -betas[t] * along, &decayed);
                d_qkv[t * channels + v] += betas[t] * along;
                d_betas[t] += along * errors[t];
                add_scaled(&mut ds, -betas[t] * along, k);
                d_decays[t] += dot(&ds, before);
                ds.iter_mut().for_each(|ds| *ds *= decays[t]);
            }
        }
        for t in 0..count {
            let at = t * stride + steering + head;
            d_projection[at] += d_betas[t] * betas[t] * (1.0 - betas[t]);
            d_projection[at + heads] += d_decays[t] * decays[t] * a * sigmoid(raw(t));
        }
    }
    let rows = qkv.chunks_exact(channels).zip(d_qkv.chunks_exact_mut(channels));
    for ((qkv, d_qkv), d_units) in rows.zip(d_units.chunks_exact(wide)) {
        let parts = qkv[..wide]
            .chunks_exact(state)
            .zip(d_qkv[..wide].chunks_exact_mut(state));
        for ((part, (x, dx)), du) in parts.enumerate().zip(d_units.chunks_exact(state)) {
            // u = f x / |x|: dx = f (du / |x| - x (x du) / |x|^3).
            let one = inverse(x);
            add_scaled(dx, factor(part) * one, du);
            add_scaled(dx, -factor(part) * dot(x, du) * one.powi(3), x);
        }
    }
}

/// Back through [`gated_norm`](crate::cpu::gated_norm::gated_norm): y `(T, inner)` is what stood there before it; dy becomes what is
/// asked of y, and d_projection `(T, projection)` gets what is asked of z.
pub fn gated_norm_back(
    shape: &Recurrent,
    projection: &[f32],
    gain: &[f32],
    epsilon: f32,
    y: &[f32],
    dy: &mut [f32],
    d_projection: &mut [f32],
) {
    let (inner, stride) = (shape.inner(), shape.projection());
    let width = norm_width(shape);
    let gate_first = shape.mixing == Mixing::Mamba2;
    let rows = projection
        .chunks_exact(stride)
        .zip(d_projection.chunks_exact_mut(stride));
    let results = y.chunks_exact(inner).zip(dy.chunks_exact_mut(inner));
    for ((projection, d_projection), (y, dy)) in rows.zip(results) {
        let gates = shape.gate()..shape.gate() + inner;
        let (z, dz) = (&projection[gates.clone()], &mut d_projection[gates]);
        for first in (0..inner).step_by(width) {
            let run = first..first + width;
            let (z, dz, y, dy) = (&z[run.clone()], &mut dz[run.clone()], &y[run.clone()], &mut dy[run]);
            let gain = &gain[first % gain.len()..][..width];
            let mut d_normed = vec![0.0; width];
            if gate_first {
                let gated: Vec<f32> = y.iter().zip(z).map(|(y, z)| y * silu(*z)).collect();
                norm_back(&gated, gain, epsilon, dy, &mut d_normed);
                for i in 0..width {
                    dz[i] += d_normed[i] * y[i] * silu_slope(z[i]);
                    dy[i] = d_normed[i] * silu(z[i]);
                }
            } else {
                let scale = 1.0 / (dot(y, y) / width as f32 + epsilon).sqrt();
                for i in 0..width {
                    dz[i] += dy[i] * y[i] * scale * gain[i] * silu_slope(z[i]);
                    dy[i] *= silu(z[i]);
                }
                norm_back(y, gain, epsilon, dy, &mut d_normed);
                dy.copy_from_slice(&d_normed);
            }
        }
    }
}
