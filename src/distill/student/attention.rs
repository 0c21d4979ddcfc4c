//! Rotation and attention in Burn's graph.

use super::{Rows, Student, beside, times};
use crate::model::config::Config;
use crate::model::{QkNorm, RopeStyle, VectorId};
use burn::tensor::{Device, Tensor, TensorData, activation};

/// Stands for minus infinity in front of a softmax.
const LOW: f32 = -1e30;

/// What depends on the number of positions alone.
#[derive(Clone)]
pub(super) struct Positions {
    /// For each table cosines and sines, `(1, T, 1, rotary / 2)`.
    turns: Vec<[Tensor<4>; 2]>,
    /// For each window: 0 where a query sees a key, else very low, `(1, 1, G T, T)` for the G query heads of a key head.
    masks: Vec<(Option<usize>, Tensor<4>)>,
}

impl Positions {
    /// For `count` positions; `turns`: (cos, sin) of each position and pair, table by table.
    pub(super) fn new(
        config: &Config,
        turns: &[Vec<f32>],
        windows: impl Iterator<Item = Option<usize>>,
        count: usize,
        device: &Device,
    ) -> Self {
        let (pairs, shared) = (config.rotary / 2, config.heads / config.kv_heads);
        let angles = |table: &Vec<f32>, i: usize| {
            let half: Vec<f32> = (0..count * pairs).map(|at| table[2 * at + i]).collect();
            Tensor::from_data(TensorData::new(half, [1, count, 1, pairs]), device)
        };
        let mut masks: Vec<(Option<usize>, Tensor<4>)> = Vec::new();
        for window in windows {
            if masks.iter().any(|(known, _)| *known == window) {
                continue;
            }
            let sees = |t: usize, j: usize| j <= t && window.is_none_or(|window| t - j < window);
            let row = |t: usize| (0..count).map(move |j| if sees(t, j) { 0.0 } else { LOW });
            let mask: Vec<f32> = (0..shared).flat_map(|_| (0..count).flat_map(row)).collect();
            let mask = Tensor::from_data(TensorData::new(mask, [1, 1, shared * count, count]), device);
            masks.push((window, mask));
        }
        Self {
            turns: turns.iter().map(|table| [angles(table, 0), angles(table, 1)]).collect(),
            masks,
        }
    }

    /// Who sees whom in layers with this window.
    pub(super) fn mask(&self, window: Option<usize>) -> &Tensor<4> {
        let known = self.masks.iter().find(|(known, _)| *known == window);
        &known.expect("every window of the plan has its mask").1
    }
}

impl Student {
    /// q, k (normed and turned) and v, each `(B, T, heads, head_dim)`; where attention is gated the gates, `(B T, query width)`.
    pub(super) fn turned(
        &self,
        qkv: Tensor<2>,
        gains: Option<VectorId>,
        rope: Option<usize>,
        positions: &Positions,
        rows: Rows,
    ) -> ([Tensor<4>; 3], Option<Tensor<2>>) {
        let c = &self.config;
        let (q, kv, d) = (c.query_width(), c.kv_width(), c.head_dim);
        let columns = |first: usize, width: usize| qkv.clone().narrow(1, first, width);
        let (queries, gates) = if c.gated {
            let both = columns(0, 2 * q).reshape([rows.count(), c.heads, 2, d]);
            let half = |i: usize| both.clone().narrow(2, i, 1).reshape([rows.count(), q]);
            (half(0), Some(half(1)))
        } else {
            (columns(0, q), None)
        };
        let keys = columns(c.gated_width(), kv);
        // Gains of q, then of k.
        let gain = |at: QkNorm, first: usize, width: usize| {
            let values = gains.filter(|_| c.qk_norm == at).map(|id| &self.vectors[&id]);
            values.map(|values| values.clone().narrow(0, first, width))
        };
        let whole = |x: Tensor<2>, first: usize, width: usize| match gain(QkNorm::Whole, first, width) {
            Some(gain) => self.scaled(x, gain),
            None => x,
        };
        let heads = |x: Tensor<2>, width: usize| x.reshape([rows.examples, rows.positions, width / d, d]);
        let normed = |x: Tensor<4>, which: usize, at: QkNorm| match gain(at, which * d, d) {
            Some(gain) => self.scaled(x, gain),
            None => x,
        };
        let turn = |x: Tensor<4>, which: usize| {
            let x = normed(x, which, QkNorm::Head);
            let x = match rope {
                Some(table) => self.rotated(x, &positions.turns[table]),
                None => x,
            };
            normed(x, which, QkNorm::HeadTurned)
        };
        let all = [
            turn(heads(whole(queries, 0, q), q), 0),
            turn(heads(whole(keys, q, kv), kv), 1),
            heads(columns(c.gated_width() + kv, kv), kv),
        ];
        (all, gates)
    }

    /// Each pair of a head turned by its angle.
    fn rotated(&self, x: Tensor<4>, [cos, sin]: &[Tensor<4>; 2]) -> Tensor<4> {
        let c = &self.config;
        let [b, t, heads, width] = x.dims();
        let pairs = c.rotary / 2;
        let (cos, sin) = (beside(&x, cos), beside(&x, sin));
        let (rest, turned) = if c.rotary < width {
            let rest = x.clone().narrow(3, c.rotary, width - c.rotary);
            (Some(rest), x.narrow(3, 0, c.rotary))
        } else {
            (None, x)
        };
        let (first, second) = match c.rope_style {
            RopeStyle::Halves => (turned.clone().narrow(3, 0, pairs), turned.narrow(3, pairs, pairs)),
            RopeStyle::Pairs => {
                let both = turned.reshape([b, t, heads, pairs, 2]);
                let half = |i: usize| both.clone().narrow(4, i, 1).reshape([b, t, heads, pairs]);
                (half(0), half(1))
            }
        };
        let new_first = first.clone() * cos.clone() - second.clone() * sin.clone();
        let new_second = second * cos + first * sin;
        let turned = match c.rope_style {
            RopeStyle::Halves => Tensor::cat(vec![new_first, new_second], 3),
            RopeStyle::Pairs => {
                let stacked: Tensor<5> = Tensor::stack(vec![new_first, new_second], 4);
                stacked.reshape([b, t, heads, c.rotary])
            }
        };
        match rest {
            Some(rest) => Tensor::cat(vec![turned, rest], 3),
            None => turned,
        }
    }

    /// softmax(cap(scale q k) + mask) v, `(B T, query width)`. Query heads that share a key head lie below one another, so that keys
    /// and values are never repeated.
    pub(super) fn attend(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: &Tensor<4>, rows: Rows) -> Tensor<2> {
        let c = &self.config;
        let (b, t, d) = (rows.examples, rows.positions, c.head_dim);
        let shared = c.heads / c.kv_heads;
        let q = times(
            q.swap_dims(1, 2).reshape([b, c.kv_heads, shared * t, d]),
            c.attention_scale,
        );
        let (k, v) = (k.swap_dims(1, 2), v.swap_dims(1, 2));
        let mask = beside(&q, mask);
        let scores = q.matmul(k.transpose());
        let scores = match c.attention_cap {
            Some(cap) => scores.div_scalar(cap).tanh().mul_scalar(cap),
            None => scores,
        };
        activation::softmax(scores + mask, 3)
            .matmul(v)
            .reshape([b, c.heads, t, d])
            .swap_dims(1, 2)
            .reshape([b * t, c.heads * d])
    }
}
