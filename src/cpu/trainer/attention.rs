//! Backwards through attention: the softmax over the positions that a row sees, caps, the rotation, norms of q and k, the gate.

use super::derivatives::{cap_slope, norm_back, sigmoid};
use crate::cpu::attend::Scores;
use crate::cpu::rope_append::Heads;
use crate::cpu::{add_scaled, dot};
use crate::model::{QkNorm, RopeStyle};

/// The rotated queries and keys, and the values, of all rows; or their gradients.
#[derive(Debug, Default)]
pub(super) struct Turned {
    /// `(T, heads head_dim)`.
    pub query: Vec<f32>,
    /// `(T, kv_heads head_dim)`.
    pub keys: Vec<f32>,
    /// `(T, kv_heads head_dim)`.
    pub values: Vec<f32>,
}

impl Turned {
    /// Of `count` rows.
    pub fn zeros(heads: &Heads, count: usize) -> Self {
        let kv = vec![0.0; count * heads.kv_heads * heads.head_dim];
        Self {
            query: vec![0.0; count * heads.heads * heads.head_dim],
            keys: kv.clone(),
            values: kv,
        }
    }
}

/// What dy `(T, heads head_dim)` asks of queries, keys and values through `attend` and `combine`.
///
/// With weights p = softmax(s), s = cap(scale q k): ds = p (dp - sum p dp), dp = dy v, times the slope of the cap.
pub(super) fn attend_back(heads: &Heads, scores: &Scores, at: &Turned, dy: &[f32]) -> Turned {
    let Heads {
        heads: queries,
        kv_heads,
        head_dim,
        ..
    } = *heads;
    let count = dy.len() / (queries * head_dim);
    let mut d = Turned::zeros(heads, count);
    let (mut capped, mut weights) = (Vec::new(), Vec::new());
    for t in 0..count {
        let seen = scores.window.map_or(0, |window| (t + 1).saturating_sub(window))..t + 1;
        for head in 0..queries {
            let own = (t * queries + head) * head_dim..(t * queries + head + 1) * head_dim;
            let of = |j: usize| {
                let first = (j * kv_heads + head / (queries / kv_heads)) * head_dim;
                first..first + head_dim
            };
            let (q, dy) = (&at.query[own.clone()], &dy[own.clone()]);
            capped.clear();
            capped.extend(seen.clone().map(|j| {
                let score = scores.scale * dot(q, &at.keys[of(j)]);
                scores.cap.map_or(score, |cap| cap * (score / cap).tanh())
            }));
            let most = capped.iter().copied().fold(f32::MIN, f32::max);
            weights.clear();
            weights.extend(capped.iter().map(|s| (s - most).exp()));
            let sum: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|w| *w /= sum);
            let dp: Vec<f32> = seen.clone().map(|j| dot(dy, &at.values[of(j)])).collect();
            let mean = dot(&dp, &weights);
            for (i, j) in seen.clone().enumerate() {
                let slope = scores.cap.map_or(1.0, |cap| cap_slope(cap, capped[i]));
                let ds = scores.scale * slope * weights[i] * (dp[i] - mean);
                add_scaled(&mut d.values[of(j)], weights[i], dy);
                add_scaled(&mut d.query[own.clone()], ds, &at.keys[of(j)]);
                add_scaled(&mut d.keys[of(j)], ds, q);
            }
        }
    }
    d
}

/// Turns the pairs of a head's elements by `turns`, (cos, sin) of each, or back.
fn turn(values: &mut [f32], turns: &[f32], style: RopeStyle, back: bool) {
    let pairs = turns.len() / 2;
    for (pair, turn) in turns.chunks_exact(2).enumerate() {
        let (first, second) = match style {
            RopeStyle::Halves => (pair, pair + pairs),
            RopeStyle::Pairs => (2 * pair, 2 * pair + 1),
        };
        let (cos, sin) = (turn[0], if back { -turn[1] } else { turn[1] });
        let (a, b) = (values[first], values[second]);
        values[first] = a * cos - b * sin;
        values[second] = a * sin + b * cos;
    }
}

/// Adds to d_qkv `(T, q | k | v)` what d asks through `rope_append`. A rotation is gone back by turning the other way: its
/// transpose is that, magnitudes included.
pub(super) fn rope_back(
    heads: &Heads,
    qkv: &[f32],
    gains: &[f32],
    epsilon: f32,
    turns: &[f32],
    d: &Turned,
    d_qkv: &mut [f32],
) {
    let Heads {
        heads: queries,
        kv_heads,
        head_dim,
        rotary,
        style,
        qk_norm,
        gated,
    } = *heads;
    let step = if gated { 2 } else { 1 };
    let (q_width, kv_width) = (queries * head_dim, kv_heads * head_dim);
    let keys_first = step * q_width;
    let stride = keys_first + 2 * kv_width;
    for (t, (x, d_x)) in qkv.chunks_exact(stride).zip(d_qkv.chunks_exact_mut(stride)).enumerate() {
        let turns = &turns[(t * rotary).min(turns.len())..((t + 1) * rotary).min(turns.len())];
        let kv = t * kv_width..(t + 1) * kv_width;
        for (is_key, first, step, dy) in [
            (false, 0, step, &d.query[t * q_width..(t + 1) * q_width]),
            (true, keys_first, 1, &d.keys[kv.clone()]),
        ] {
            let mut dy = dy.to_vec();
            for (head, dy) in dy.chunks_exact_mut(head_dim).enumerate() {
                let place = first + step * head * head_dim;
                let place = place..place + head_dim;
                let gain = || {
                    if is_key {
                        &gains[head_dim..2 * head_dim]
                    } else {
                        &gains[..head_dim]
                    }
                };
                if qk_norm == QkNorm::HeadTurned {
                    let mut turned = x[place.clone()].to_vec();
                    turn(&mut turned, turns, style, false);
                    let mut before = vec![0.0; head_dim];
                    norm_back(&turned, gain(), epsilon, dy, &mut before);
                    dy.copy_from_slice(&before);
                }
                turn(dy, turns, style, true);
                match qk_norm {
                    QkNorm::Head => norm_back(&x[place.clone()], gain(), epsilon, dy, &mut d_x[place]),
                    QkNorm::None | QkNorm::HeadTurned => add_scaled(&mut d_x[place], 1.0, dy),
                    QkNorm::Whole => {}
                }
            }
            if qk_norm == QkNorm::Whole {
                let place = first..first + dy.len();
                let gain = if is_key { &gains[q_width..] } else { &gains[..q_width] };
                norm_back(&x[place.clone()], gain, epsilon, &dy, &mut d_x[place]);
            }
        }
        add_scaled(&mut d_x[stride - kv_width..], 1.0, &d.values[kv]);
    }
}

/// Back through `sigmoid_gate`: y `(T, width)` is what stood there before it; dy becomes what is asked of y, and d_x `(T, stride)`
/// gets what is asked of the gates.
pub(super) fn sigmoid_gate_back(
    x: &[f32],
    stride: usize,
    head_dim: usize,
    width: usize,
    y: &[f32],
    dy: &mut [f32],
    d_x: &mut [f32],
) {
    let rows = x.chunks_exact(stride).zip(d_x.chunks_exact_mut(stride));
    let results = y.chunks_exact(width).zip(dy.chunks_exact_mut(width));
    for ((x, d_x), (y, dy)) in rows.zip(results) {
        for i in 0..width {
            // A head's gates lie behind its queries.
            let gate = i / head_dim * 2 * head_dim + head_dim + i % head_dim;
            let s = sigmoid(x[gate]);
            d_x[gate] += dy[i] * y[i] * s * (1.0 - s);
            dy[i] *= s;
        }
    }
}
