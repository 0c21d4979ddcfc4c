//! The plan backwards: each part is run again, and gone through from its end.

use super::attention::{attend_back, rope_back, sigmoid_gate_back};
use super::derivatives::{cap_slope, norm_back, slope};
use super::forward::{Frozen, Hidden, Rows};
use super::recurrent::{delta_net_back, gated_norm_back, mamba2_back, short_conv_back};
use super::{Trained, Trainer};
use crate::cpu::matmul_back::matmul_back;
use crate::cpu::{add_scaled, swiglu::activate};
use crate::model::{Activation, Linear, MatrixId, Mixing, Slot, Step};
use std::collections::HashMap;

/// What is asked of each slot of a part, `(T, width)`.
///
/// Within a part no column of a slot is written twice, but by steps that change their slot in place: so nothing is set back to
/// zero when the step that wrote it is passed.
struct Gradients {
    slots: HashMap<Slot, Vec<f32>>,
}

impl Gradients {
    /// A slot's gradient to add to, `length` numbers: zeros where nothing was asked yet.
    fn at(&mut self, slot: Slot, length: usize) -> &mut Vec<f32> {
        self.slots.entry(slot).or_insert_with(|| vec![0.0; length])
    }

    /// A slot's gradient, out of the way while others are added to; zeros where nothing was asked.
    fn take(&mut self, slot: Slot, length: usize) -> Vec<f32> {
        self.slots.remove(&slot).unwrap_or_else(|| vec![0.0; length])
    }

    fn put(&mut self, slot: Slot, values: Vec<f32>) {
        self.slots.insert(slot, values);
    }
}

impl Trainer {
    /// Adds the gradients of all pairs: `entered` are what entered the parts from the lowest one with a pair on, `d_hidden` is
    /// what is asked of what left the last.
    pub(super) fn backward(&mut self, entered: Vec<Hidden>, mut d_hidden: Vec<f32>) {
        for (part, hidden) in (self.lowest..self.frozen.parts.len()).zip(entered).rev() {
            let tape = self.tape(part, hidden);
            d_hidden = part_back(&self.frozen, &mut self.pairs, self.scale, part, &tape, d_hidden);
        }
    }
}

/// One part: from what is asked of what left it to what is asked of what entered it.
fn part_back(
    frozen: &Frozen,
    pairs: &mut [Trained],
    scale: f32,
    part: usize,
    tape: &[Rows],
    d_hidden: Vec<f32>,
) -> Vec<f32> {
    let plan = &frozen.plan;
    let c = &plan.config;
    let count = d_hidden.len() / c.hidden;
    let (epsilon, vectors) = (c.norm_epsilon, &frozen.vectors);
    let length = |slot: Slot| count * plan.width(slot);
    let mut d = Gradients {
        slots: HashMap::from([(Slot::Hidden, d_hidden)]),
    };
    let mut d_turned = Default::default();
    for (i, step) in plan.body[frozen.parts[part].clone()].iter().enumerate().rev() {
        let before = &tape[i];
        match step {
            Step::Embed { .. } => unreachable!("the embedding is in front of the parts"),
            Step::Linear(linear) => {
                let h = frozen.normed(linear, before.get(linear.input));
                let n = frozen.weights(linear.matrix).rows;
                let mut dy = if linear.gate {
                    let gates = tape[i + 1].get(Slot::GateUp);
                    gate_back(c.activation, gates, &d.take(linear.output, length(linear.output)))
                } else {
                    let width = plan.width(linear.output);
                    picked(linear, n, width, d.at(linear.output, length(linear.output)))
                };
                dy.iter_mut().for_each(|dy| *dy *= linear.factor);
                let mut dh = frozen.through(linear.matrix, &dy);
                for trained in pairs.iter_mut().filter(|trained| trained.matrix() == linear.matrix) {
                    trained.back(scale, &h, n, &dy, &mut dh);
                }
                let to = d.at(linear.input, length(linear.input));
                match linear.norm {
                    Some(id) => norms_back(before.get(linear.input), &vectors[id], epsilon, &dh, to),
                    None => add_scaled(to, 1.0, &dh),
                }
            }
            Step::Swiglu => {
                let dy = d.take(Slot::FeedForward, length(Slot::FeedForward));
                d.put(Slot::GateUp, gate_back(c.activation, before.get(Slot::GateUp), &dy));
            }
            Step::AddNorm { gain, factor } => {
                let mut dy = d.at(Slot::Hidden, length(Slot::Hidden)).clone();
                dy.iter_mut().for_each(|dy| *dy *= factor);
                let to = d.at(Slot::Branch, length(Slot::Branch));
                norms_back(before.get(Slot::Branch), &vectors[*gain], epsilon, &dy, to);
            }
            Step::SigmoidGate => {
                let mut dy = d.take(Slot::Attended, length(Slot::Attended));
                sigmoid_gate_back(
                    before.get(Slot::Qkv),
                    plan.width(Slot::Qkv),
                    c.head_dim,
                    c.query_width(),
                    before.get(Slot::Attended),
                    &mut dy,
                    d.at(Slot::Qkv, length(Slot::Qkv)),
                );
                d.put(Slot::Attended, dy);
            }
            Step::Attend { cache } => {
                let dy = d.take(Slot::Attended, length(Slot::Attended));
                let heads = frozen.heads(None).0;
                d_turned = attend_back(&heads, &frozen.scores(*cache), &before.turned, &dy);
            }
            Step::RopeAppend { gains, rope, .. } => {
                let (heads, turns) = frozen.heads(*rope);
                let gains = gains.map_or([].as_slice(), |id| &vectors[id]);
                let to = d.at(Slot::Qkv, length(Slot::Qkv));
                rope_back(&heads, before.get(Slot::Qkv), gains, epsilon, turns, &d_turned, to);
            }
            Step::GatedNorm { gain } => {
                let mut dy = d.take(Slot::Scanned, length(Slot::Scanned));
                gated_norm_back(
                    plan.recurrent(),
                    before.get(Slot::Mixed),
                    &vectors[*gain],
                    epsilon,
                    before.get(Slot::Scanned),
                    &mut dy,
                    d.at(Slot::Mixed, length(Slot::Mixed)),
                );
                d.put(Slot::Scanned, dy);
            }
            Step::Scan { params, .. } => {
                let shape = plan.recurrent();
                let dy = d.take(Slot::Scanned, length(Slot::Scanned));
                let scan_back = match shape.mixing {
                    Mixing::DeltaNet => delta_net_back,
                    Mixing::Mamba2 | Mixing::ShortConv => mamba2_back,
                };
                let mut d_convolved = d.take(Slot::Convolved, length(Slot::Convolved));
                scan_back(
                    shape,
                    before.get(Slot::Convolved),
                    before.get(Slot::Mixed),
                    &vectors[*params],
                    &dy,
                    &mut d_convolved,
                    d.at(Slot::Mixed, length(Slot::Mixed)),
                );
                d.put(Slot::Convolved, d_convolved);
            }
            Step::ShortConv { weights, bias, .. } => {
                let dy = d.take(Slot::Convolved, length(Slot::Convolved));
                short_conv_back(
                    plan.recurrent(),
                    before.get(Slot::Mixed),
                    &vectors[*weights],
                    bias.map(|id| vectors[id].as_slice()),
                    &dy,
                    d.at(Slot::Mixed, length(Slot::Mixed)),
                );
            }
        }
    }
    d.take(Slot::Hidden, length(Slot::Hidden))
}

/// What is asked of a linear step's results, `(T, N)`: its columns of the slot.
fn picked(linear: &Linear, n: usize, width: usize, d: &[f32]) -> Vec<f32> {
    d.chunks_exact(width)
        .flat_map(|row| row[linear.first..].iter().step_by(linear.step).take(n).copied())
        .collect()
}

/// What dy `(T, F)` asks of (gate, up) pairs, `(T, 2 F)`, through act(gate) up.
fn gate_back(activation: Activation, pairs: &[f32], dy: &[f32]) -> Vec<f32> {
    let both = pairs.chunks_exact(2).zip(dy);
    both.flat_map(|(pair, dy)| {
        let (gate, up) = (pair[0], pair[1]);
        [dy * up * slope(activation, gate), dy * activate(activation, gate)]
    })
    .collect()
}

/// [`norm_back`] of each row.
fn norms_back(x: &[f32], gain: &[f32], epsilon: f32, dy: &[f32], dx: &mut [f32]) {
    let width = gain.len();
    let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
    for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(width)) {
        norm_back(x, gain, epsilon, dy, dx);
    }
}

impl Frozen {
    /// dh = W^T dy, `(T, K)`.
    fn through(&self, matrix: MatrixId, dy: &[f32]) -> Vec<f32> {
        let w = self.weights(matrix);
        let mut dh = vec![0.0; dy.len() / w.rows * w.columns];
        matmul_back(w, dy, None, &mut dh);
        dh
    }

    /// Adds to d_hidden `(T, D)` what the logits' gradient `(chosen, V)` of the rows `chosen` asks.
    pub fn head_back(
        &self,
        hidden: &[f32],
        chosen: &[usize],
        logits: &[f32],
        mut d_logits: Vec<f32>,
        d_hidden: &mut [f32],
    ) {
        let linear = self.head_step();
        for (dz, z) in d_logits.iter_mut().zip(logits) {
            *dz *= linear.factor * linear.cap.map_or(1.0, |cap| cap_slope(cap, *z));
        }
        let width = self.plan.config.hidden;
        let dh = self.through(linear.matrix, &d_logits);
        for (t, dh) in chosen.iter().zip(dh.chunks_exact(width)) {
            let row = t * width..(t + 1) * width;
            match linear.norm {
                Some(id) => {
                    let (gain, epsilon) = (&self.vectors[id], self.plan.config.norm_epsilon);
                    norm_back(&hidden[row.clone()], gain, epsilon, dh, &mut d_hidden[row]);
                }
                None => add_scaled(&mut d_hidden[row], 1.0, dh),
            }
        }
    }
}
