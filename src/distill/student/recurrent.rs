//! Recurrent layers in Burn's graph.
//!
//! A state is carried from chunk to chunk of the tokens; inside a chunk all tokens are computed at once, as matrix products over
//! (token, token). Equal to the recurrence of the CPU's twins up to the order of the sums.

use super::{Rows, Student, beside};
use crate::model::{Mixing, Recurrent, VectorId};
use burn::tensor::{Tensor, TensorData, activation};

/// Tokens of a chunk of a selective state space: sums of logarithms of decays stay short enough for f32.
const SCANNED: usize = 64;
/// Tokens of a chunk of the delta rule: powers of a matrix of overlaps of keys, whose entries grow with its size, stay small.
const CORRECTED: usize = 16;
/// Stands for the logarithm of zero.
const LOW: f32 = -1e30;

/// ln(1 + exp(a)).
fn softplus(a: Tensor<3>) -> Tensor<3> {
    activation::relu(a.clone()) + a.abs().neg().exp().log1p()
}

/// What a chunk of tokens needs of its decays, all `(B, H, ...)`.
struct Decays {
    /// exp of the sum from the chunk's beginning, `(B, H, C, 1)`.
    from_start: Tensor<4>,
    /// exp of the sum to the chunk's end, `(B, H, C, 1)`.
    to_end: Tensor<4>,
    /// exp of the sum from behind token s to token t, 0 for s > t, `(B, H, C, C)`.
    between: Tensor<4>,
    /// exp of the whole sum, `(B, H, 1, 1)`.
    whole: Tensor<4>,
}

impl Decays {
    /// Of logarithms `(B, H, C, 1)`.
    fn new(logs: Tensor<4>) -> Self {
        let [_, _, c, _] = logs.dims();
        let square = |below: f32, above: f32| {
            let values: Vec<f32> = (0..c * c)
                .map(|at| if at % c <= at / c { below } else { above })
                .collect();
            let plain = Tensor::from_data(TensorData::new(values, [1, 1, c, c]), &logs.clone().device().inner());
            beside(&logs, &plain)
        };
        let [b, h, ..] = logs.dims();
        let sums = square(1.0, 0.0).expand([b, h, c, c]).matmul(logs.clone());
        let last = sums.clone().narrow(2, c - 1, 1);
        Self {
            between: (sums.clone() - sums.clone().transpose() + square(0.0, LOW)).exp(),
            to_end: (last.clone() - sums.clone()).exp(),
            from_start: sums.exp(),
            whole: last.exp(),
        }
    }
}

impl Student {
    fn shape(&self) -> &Recurrent {
        self.training.plan().recurrent()
    }

    /// The short convolution of `mixed` `(B T, projection)`, `(B T, channels)`: see [`crate::cpu::short_conv`].
    pub(super) fn short_conv(
        &self,
        mixed: Tensor<2>,
        weights: VectorId,
        bias: Option<VectorId>,
        rows: Rows,
    ) -> Tensor<2> {
        let shape = self.shape();
        let (channels, taps) = (shape.channels, shape.taps);
        let gated = shape.mixing == Mixing::ShortConv;
        let columns = |first: usize| mixed.clone().narrow(1, first, channels);
        let u = if gated {
            columns(0) * columns(2 * channels)
        } else {
            columns(shape.convolved())
        };
        let u = u.reshape([rows.examples, rows.positions, channels]);
        let before = Tensor::zeros([rows.examples, taps - 1, channels], &u.device());
        let padded: Tensor<3> = Tensor::cat(vec![before, u], 1);
        let weights = beside(&padded, &self.vectors[&weights]).reshape([channels, taps]);
        let tap = |j: usize| {
            let w = weights.clone().narrow(1, j, 1).reshape([1, 1, channels]);
            padded.clone().narrow(1, j, rows.positions) * w
        };
        let mut sum = (1..taps).fold(tap(0), |sum, j| sum + tap(j));
        if let Some(bias) = bias {
            sum = sum + beside(&padded, &self.vectors[&bias]).reshape([1, 1, channels]);
        }
        let sum = sum.reshape([rows.count(), channels]);
        if gated {
            columns(channels) * sum
        } else {
            activation::silu(sum)
        }
    }

    /// What the state makes of `convolved` `(B T, channels)`, steered by `mixed`: `(B T, inner)`.
    pub(super) fn scan(&self, convolved: Tensor<2>, mixed: Tensor<2>, params: VectorId, rows: Rows) -> Tensor<2> {
        let shape = self.shape();
        let params = beside(&convolved, &self.vectors[&params]);
        match shape.mixing {
            Mixing::DeltaNet => self.delta_net(convolved, mixed, params, rows),
            Mixing::Mamba2 | Mixing::ShortConv => self.mamba2(convolved, mixed, params, rows),
        }
    }

    /// Columns `[first, first + heads width)` as `(B, heads, T, width)`.
    fn headed_columns(&self, x: &Tensor<2>, first: usize, heads: usize, width: usize, rows: Rows) -> Tensor<4> {
        x.clone()
            .narrow(1, first, heads * width)
            .reshape([rows.examples, rows.positions, heads, width])
            .swap_dims(1, 2)
    }

    /// A selective state space: [`crate::cpu::mamba2`]. Inside a chunk y = (C Bᵀ between) (dt x) + from_start C Sᵀ, and
    /// S = whole S + (to_end dt x)ᵀ B.
    ///
    /// Source: Dao and Gu, "Transformers are SSMs" (2024), section 6.
    fn mamba2(&self, xbc: Tensor<2>, mixed: Tensor<2>, params: Tensor<1>, rows: Rows) -> Tensor<2> {
        let Recurrent {
            heads,
            head_dim,
            groups,
            state,
            ..
        } = *self.shape();
        let (inner, each) = (self.shape().inner(), heads / groups);
        let param = |i: usize| params.clone().narrow(0, i * heads, heads);
        let steering = mixed
            .narrow(1, self.shape().steering(), heads)
            .reshape([rows.examples, rows.positions, heads]);
        let dt = softplus(steering + param(0).reshape([1, 1, heads]));
        let logs = dt.clone() * param(1).reshape([1, 1, heads]);
        // (B, T, heads) as (B, heads, T, 1)
        let column = |x: Tensor<3>| -> Tensor<4> { x.swap_dims(1, 2).unsqueeze_dim(3) };
        let (dt, logs) = (column(dt), column(logs));
        let x = self.headed_columns(&xbc, 0, heads, head_dim, rows);
        // Each group's B and C for all of its heads.
        let shared = |first: usize| {
            let one = self.headed_columns(&xbc, first, groups, state, rows);
            let some: Tensor<5> = one.unsqueeze_dim(2);
            some.repeat_dim(2, each)
                .reshape([rows.examples, heads, rows.positions, state])
        };
        let (b, c) = (shared(inner), shared(inner + groups * state));
        let fed = x.clone() * dt;
        let mut carried = Tensor::zeros([rows.examples, heads, head_dim, state], &x.device());
        let mut all = Vec::new();
        for first in (0..rows.positions).step_by(SCANNED) {
            let count = SCANNED.min(rows.positions - first);
            let part = |x: &Tensor<4>| x.clone().narrow(2, first, count);
            let (fed, b, c) = (part(&fed), part(&b), part(&c));
            let decays = Decays::new(part(&logs));
            let inside = (c.clone().matmul(b.clone().transpose()) * decays.between).matmul(fed.clone());
            all.push(inside + c.matmul(carried.clone().transpose()) * decays.from_start);
            carried = carried * decays.whole + (fed * decays.to_end).transpose().matmul(b);
        }
        let y = Tensor::cat(all, 2) + x * param(2).reshape([1, heads, 1, 1]);
        y.swap_dims(1, 2).reshape([rows.count(), inner])
    }

    /// The gated delta rule: [`crate::cpu::delta_net`]. Inside a chunk the corrections D solve (1 + M) D = beta (V - from_start K Sᵀ) with
    /// M = beta (K Kᵀ between) below the diagonal; then Y = (Q Kᵀ between) D + from_start Q Sᵀ, and S = whole S + (to_end D)ᵀ K.
    ///
    /// Source: Yang, Kautz and Hatamizadeh, "Gated Delta Networks" (2024), section 3.3.
    fn delta_net(&self, qkv: Tensor<2>, mixed: Tensor<2>, params: Tensor<1>, rows: Rows) -> Tensor<2> {
        let Recurrent {
            heads,
            head_dim,
            groups,
            state,
            ..
        } = *self.shape();
        let steering = |i: usize| {
            let first = self.shape().steering() + i * heads;
            let columns = mixed.clone().narrow(1, first, heads);
            columns.reshape([rows.examples, rows.positions, heads])
        };
        let param = |i: usize| params.clone().narrow(0, i * heads, heads).reshape([1, 1, heads]);
        let column = |x: Tensor<3>| -> Tensor<4> { x.swap_dims(1, 2).unsqueeze_dim(3) };
        let beta = column(activation::sigmoid(steering(0)));
        let logs = column(softplus(steering(1) + param(0)) * param(1));
        // Value head h takes key head h modulo their count. The epsilon is the one that the networks were trained with.
        let unit = |first: usize| {
            let x = self.headed_columns(&qkv, first, groups, state, rows);
            let squares = x.clone().powi_scalar(2).sum_dim(3);
            let x = x * squares.add_scalar(1e-6).sqrt().recip();
            if groups == heads {
                x
            } else {
                Tensor::cat(vec![x; heads / groups], 1)
            }
        };
        let q = unit(0).mul_scalar(1.0 / (state as f32).sqrt());
        let k = unit(groups * state);
        let v = self.headed_columns(&qkv, 2 * groups * state, heads, head_dim, rows);
        let mut carried = Tensor::zeros([rows.examples, heads, head_dim, state], &v.device());
        let mut all = Vec::new();
        for first in (0..rows.positions).step_by(CORRECTED) {
            let count = CORRECTED.min(rows.positions - first);
            let part = |x: &Tensor<4>| x.clone().narrow(2, first, count);
            let (q, k, v, beta) = (part(&q), part(&k), part(&v), part(&beta));
            let decays = Decays::new(part(&logs));
            let overlaps = k.clone().matmul(k.clone().transpose()) * decays.between.clone();
            // -M: below the diagonal alone.
            let below: Vec<f32> = (0..count * count)
                .map(|at| if at % count < at / count { -1.0 } else { 0.0 })
                .collect();
            let below = Tensor::from_data(
                TensorData::new(below, [1, 1, count, count]),
                &v.clone().device().inner(),
            );
            let mut power = overlaps * beta.clone() * beside(&v, &below);
            let seen = k.clone().matmul(carried.clone().transpose()) * decays.from_start.clone();
            // (1 + M)^-1 = (1 - M)(1 + M^2)(1 + M^4)...: M to the count is zero.
            let mut corrections = (v - seen) * beta;
            let mut reached = 1;
            loop {
                corrections = corrections.clone() + power.clone().matmul(corrections);
                reached *= 2;
                if reached >= count {
                    break;
                }
                power = power.clone().matmul(power);
            }
            let inside = (q.clone().matmul(k.clone().transpose()) * decays.between).matmul(corrections.clone());
            all.push(inside + q.matmul(carried.clone().transpose()) * decays.from_start);
            carried = carried * decays.whole + (corrections * decays.to_end).transpose().matmul(k);
        }
        Tensor::cat(all, 2)
            .swap_dims(1, 2)
            .reshape([rows.count(), heads * head_dim])
    }

    /// Norm and gate of what the state made: [`crate::cpu::gated_norm`].
    pub(super) fn gated_norm(&self, scanned: Tensor<2>, mixed: Tensor<2>, gain: VectorId) -> Tensor<2> {
        let shape = self.shape();
        let (inner, width) = (shape.inner(), crate::cpu::gated_norm::norm_width(shape));
        let [rows, _] = scanned.dims();
        let gate = activation::silu(mixed.narrow(1, shape.gate(), inner));
        let runs = |x: Tensor<2>| -> Tensor<3> { x.reshape([rows, inner / width, width]) };
        let values = &self.vectors[&gain];
        if shape.mixing == Mixing::Mamba2 {
            let normed = self.scaled(runs(scanned * gate), Tensor::ones([width], &values.device()));
            let normed = normed.reshape([rows, inner]);
            let gain = beside(&normed, values).reshape([1, inner]);
            normed * gain
        } else {
            self.scaled(runs(scanned), values.clone()).reshape([rows, inner]) * gate
        }
    }
}
