//! One layer of the plan in Burn's graph.

use super::attention::Positions;
use super::{Rows, Student, beside, times, widened};
use crate::distill::ops::{Frozen, frozen};
use crate::model::{Activation, Linear, Slot, Step, VectorId};
use burn::tensor::{Tensor, activation};
use std::collections::HashMap;

/// What the steps of a layer hand to one another.
struct Slots {
    hidden: Tensor<2>,
    others: HashMap<Slot, Vec<Tensor<2>>>,
}

impl Slots {
    /// Puts columns behind those that are there.
    fn put(&mut self, slot: Slot, columns: Tensor<2>) {
        self.others.entry(slot).or_default().push(columns);
    }

    /// Each part of a slot, which is empty then.
    fn parts(&mut self, slot: Slot) -> Vec<Tensor<2>> {
        self.others.remove(&slot).unwrap_or_default()
    }

    /// All columns of a slot, which is empty then.
    fn take(&mut self, slot: Slot) -> Tensor<2> {
        let mut parts = self.parts(slot);
        match parts.len() {
            0 => unreachable!("{slot:?} is written in front of what reads it"),
            1 => parts.remove(0),
            _ => Tensor::cat(parts, 1),
        }
    }

    /// All columns of a slot, for others to read too.
    fn read(&mut self, slot: Slot) -> Tensor<2> {
        let all = self.take(slot);
        self.put(slot, all.clone());
        all
    }
}

impl Student {
    /// x gain / rms(x) over the last dimension.
    pub(super) fn normed<const D: usize>(&self, x: Tensor<D>, gain: VectorId) -> Tensor<D> {
        self.scaled(x, self.vectors[&gain].clone())
    }

    /// As [`Student::normed`], with the gain's values.
    pub(super) fn scaled<const D: usize>(&self, x: Tensor<D>, gain: Tensor<1>) -> Tensor<D> {
        let squares = x.clone().powi_scalar(2).mean_dim(D - 1);
        let inverse = squares.add_scalar(self.config.norm_epsilon).sqrt().recip();
        let gain = beside(&x, &gain);
        x * inverse * gain.unsqueeze()
    }

    /// What leaves a layer that `hidden`, `(B T, D)`, enters.
    pub(super) fn layer(
        &self,
        steps: &[Step],
        hidden: Tensor<2>,
        positions: &Positions,
        rows: Rows,
        on: bool,
    ) -> Tensor<2> {
        let mut slots = Slots {
            hidden,
            others: HashMap::new(),
        };
        let mut turned: Option<[Tensor<4>; 3]> = None;
        let mut gates: Option<Tensor<2>> = None;
        for step in steps {
            match step {
                Step::Embed { .. } => unreachable!("the embedding is in front of the layers"),
                Step::Linear(linear) => self.linear(linear, &mut slots, on),
                Step::Swiglu => {
                    let parts: Result<[Tensor<2>; 2], _> = slots.parts(Slot::GateUp).try_into();
                    let Ok([gate, up]) = parts else {
                        unreachable!("gate and up come in front of their product")
                    };
                    let product = self.activated(gate) * up;
                    slots.put(Slot::FeedForward, product);
                }
                Step::AddNorm { gain, factor } => {
                    let branch = self.normed(slots.take(Slot::Branch), *gain);
                    slots.hidden = slots.hidden + times(branch, *factor);
                }
                Step::RopeAppend { gains, rope, .. } => {
                    let (all, gate) = self.turned(slots.take(Slot::Qkv), *gains, *rope, positions, rows);
                    (turned, gates) = (Some(all), gate);
                }
                Step::Attend { cache } => {
                    let [q, k, v] = turned.take().expect("the rotation comes in front of attention");
                    let window = self.training.plan().caches[*cache].window;
                    let attended = self.attend(q, k, v, positions.mask(window), rows);
                    slots.put(Slot::Attended, attended);
                }
                Step::SigmoidGate => {
                    let gates = gates.take().expect("gates come with the queries");
                    let gated = slots.take(Slot::Attended) * activation::sigmoid(gates);
                    slots.put(Slot::Attended, gated);
                }
                Step::ShortConv { weights, bias, .. } => {
                    let convolved = self.short_conv(slots.read(Slot::Mixed), *weights, *bias, rows);
                    slots.put(Slot::Convolved, convolved);
                }
                Step::Scan { params, .. } => {
                    let convolved = slots.take(Slot::Convolved);
                    let scanned = self.scan(convolved, slots.read(Slot::Mixed), *params, rows);
                    slots.put(Slot::Scanned, scanned);
                }
                Step::GatedNorm { gain } => {
                    let scanned = slots.take(Slot::Scanned);
                    let normed = self.gated_norm(scanned, slots.take(Slot::Mixed), *gain);
                    slots.put(Slot::Scanned, normed);
                }
            }
        }
        slots.hidden
    }

    fn linear(&self, linear: &Linear, slots: &mut Slots, on: bool) {
        let x = match linear.input {
            Slot::Hidden => slots.hidden.clone(),
            other => slots.take(other),
        };
        let x = linear.norm.map_or_else(|| x.clone(), |id| self.normed(x.clone(), id));
        let step = Frozen {
            training: self.training.clone(),
            matrix: linear.matrix,
            bias: linear.bias,
            on,
        };
        let y = times(frozen(widened(x), &step), linear.factor);
        if linear.gate {
            let [rows, columns] = y.dims();
            let pairs = y.reshape([rows, columns / 2, 2]);
            let half = |i: usize| pairs.clone().narrow(2, i, 1).reshape([rows, columns / 2]);
            let product = self.activated(half(0)) * half(1);
            slots.put(linear.output, product);
        } else if linear.output == Slot::Hidden {
            slots.hidden = slots.hidden.clone() + y;
        } else {
            slots.put(linear.output, y);
        }
    }

    /// What the gate of the feed-forward part goes through.
    fn activated(&self, a: Tensor<2>) -> Tensor<2> {
        match self.config.activation {
            Activation::Silu => activation::silu(a),
            Activation::Gelu => activation::gelu_approximate(a),
        }
    }
}
