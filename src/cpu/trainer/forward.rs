//! The frozen student, and the plan forwards: with the engine's own twins in its own order, so that without pairs the numbers
//! are the runner's, bit for bit.

use super::attention::Turned;
use super::{Trained, Trainer};
use crate::cpu::attend::{Scores, attend};
use crate::cpu::cache;
use crate::cpu::rope_append::{Heads, rope};
use crate::cpu::{Weights, combine, embed, matmul, rms_norm, swiglu};
use crate::cpu::{delta_net, gated_norm, mamba2, short_conv, sigmoid_gate};
use crate::error::Result;
use crate::format::source::Source;
use crate::model::{CacheId, CacheType, Linear, MatrixId, Mixing, Plan, Slot, Step};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// The residual stream of all rows, `(T, D)`.
pub(super) type Hidden = Rc<Vec<f32>>;

/// The weights, and the plan cut into parts.
pub(super) struct Frozen {
    pub plan: Plan,
    matrices: Vec<Weights>,
    pub vectors: Vec<Vec<f32>>,
    /// One table for each of the plan's.
    turns: Vec<Vec<f32>>,
    /// Steps of each part: they begin at the residual stream and end where it is added to.
    pub parts: Vec<Range<usize>>,
}

/// Activations of all rows by slot, and the rotated q, k and v at hand. A copy shares whatever is not written to later.
#[derive(Default, Clone)]
pub(super) struct Rows {
    slots: HashMap<Slot, Rc<Vec<f32>>>,
    pub turned: Rc<Turned>,
}

impl Rows {
    fn begin(hidden: Hidden) -> Self {
        Self {
            slots: HashMap::from([(Slot::Hidden, hidden)]),
            turned: Rc::default(),
        }
    }

    /// What is in a slot that was written.
    pub fn get(&self, slot: Slot) -> &[f32] {
        &self.slots[&slot]
    }

    fn set(&mut self, slot: Slot, values: Vec<f32>) {
        self.slots.insert(slot, Rc::new(values));
    }

    /// A slot to write to, `length` numbers: zeros where nothing is.
    fn edit(&mut self, slot: Slot, length: usize) -> &mut Vec<f32> {
        let values = Rc::make_mut(self.slots.entry(slot).or_default());
        values.resize(length, 0.0);
        values
    }
}

/// The steps of each part of a plan's body, behind the embedding.
fn parts(plan: &Plan) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut first = 1;
    for (i, step) in plan.body.iter().enumerate() {
        let ends = match step {
            Step::AddNorm { .. } => true,
            Step::Linear(linear) => linear.output == Slot::Hidden,
            _ => false,
        };
        if ends {
            parts.push(first..i + 1);
            first = i + 1;
        }
    }
    parts
}

impl Frozen {
    /// Reads the weights, for rows of at most `context` tokens.
    pub async fn read<S: Source>(plan: Plan, source: &S, context: usize) -> Result<Self> {
        let mut matrices = Vec::with_capacity(plan.matrices.len());
        for matrix in &plan.matrices {
            matrices.push(Weights {
                block_type: matrix.block_type,
                rows: matrix.rows,
                columns: matrix.columns,
                bytes: matrix.read_rows(source, 0, matrix.rows).await?,
            });
        }
        let mut vectors = Vec::with_capacity(plan.vectors.len());
        for vector in &plan.vectors {
            vectors.push(vector.read(source).await?);
        }
        Ok(Self {
            turns: plan.turns(source, context).await?,
            parts: parts(&plan),
            plan,
            matrices,
            vectors,
        })
    }

    /// The first part with a matrix that `is_trained`.
    pub fn first_part(&self, is_trained: impl Fn(MatrixId) -> bool) -> usize {
        let has = |part: &Range<usize>| {
            self.plan.body[part.clone()]
                .iter()
                .any(|step| matches!(step, Step::Linear(linear) if is_trained(linear.matrix)))
        };
        self.parts.iter().position(has).unwrap_or(self.parts.len())
    }

    pub fn weights(&self, matrix: MatrixId) -> &Weights {
        &self.matrices[matrix]
    }

    /// The shape of a layer's attention, and its table of rotations.
    pub fn heads(&self, rope: Option<usize>) -> (Heads, &[f32]) {
        let c = &self.plan.config;
        let heads = Heads {
            heads: c.heads,
            kv_heads: c.kv_heads,
            head_dim: c.head_dim,
            rotary: rope.map_or(0, |_| c.rotary),
            style: c.rope_style,
            gated: c.gated,
            qk_norm: c.qk_norm,
        };
        (heads, rope.map_or(&[], |rope| &self.turns[rope]))
    }

    pub fn scores(&self, cache: CacheId) -> Scores {
        let c = &self.plan.config;
        Scores {
            scale: c.attention_scale,
            cap: c.attention_cap,
            window: self.plan.caches[cache].window,
        }
    }

    /// What a linear step multiplies: x, or its norm.
    pub fn normed<'a>(&self, linear: &Linear, x: &'a [f32]) -> Cow<'a, [f32]> {
        match linear.norm {
            Some(id) => {
                let mut h = vec![0.0; x.len()];
                rms_norm::rms_norm(x, &self.vectors[id], self.plan.config.norm_epsilon, &mut h);
                Cow::Owned(h)
            }
            None => Cow::Borrowed(x),
        }
    }
}

impl Trainer {
    /// What leaves the last part; `entering` is told what enters each.
    pub(super) fn forward(&self, tokens: &[u32], mut entering: impl FnMut(usize, &Hidden)) -> Hidden {
        let plan = &self.frozen.plan;
        let Step::Embed { table, factor } = &plan.body[0] else {
            unreachable!("a body begins with the embedding")
        };
        let mut hidden = vec![0.0; tokens.len() * plan.config.hidden];
        embed::embed(self.frozen.weights(*table), tokens, *factor, &mut hidden);
        let mut hidden = Rc::new(hidden);
        for (number, part) in self.frozen.parts.iter().enumerate() {
            entering(number, &hidden);
            let mut rows = Rows::begin(hidden);
            for step in &plan.body[part.clone()] {
                self.run(step, tokens.len(), &mut rows);
            }
            hidden = rows
                .slots
                .remove(&Slot::Hidden)
                .expect("a part has its residual stream");
        }
        hidden
    }

    /// A part run again: what was there before each of its steps. The last is not run.
    pub(super) fn tape(&self, part: usize, hidden: Hidden) -> Vec<Rows> {
        let count = hidden.len() / self.frozen.plan.config.hidden;
        let steps = &self.frozen.plan.body[self.frozen.parts[part].clone()];
        let mut tape = vec![Rows::begin(hidden)];
        for step in &steps[..steps.len() - 1] {
            let mut rows = tape[tape.len() - 1].clone();
            self.run(step, count, &mut rows);
            tape.push(rows);
        }
        tape
    }

    fn run(&self, step: &Step, count: usize, rows: &mut Rows) {
        let plan = &self.frozen.plan;
        let vectors = &self.frozen.vectors;
        let c = &plan.config;
        match step {
            Step::Embed { .. } => unreachable!("the embedding is in front of the parts"),
            Step::Linear(linear) => self.linear(linear, count, rows),
            Step::Swiglu => {
                let mut y = vec![0.0; count * c.feed_forward];
                swiglu::swiglu(rows.get(Slot::GateUp), c.activation, &mut y);
                rows.set(Slot::FeedForward, y);
            }
            Step::AddNorm { gain, factor } => {
                let branch = rows.slots[&Slot::Branch].clone();
                let hidden = rows.edit(Slot::Hidden, branch.len());
                rms_norm::add_rms_norm(&branch, &vectors[*gain], c.norm_epsilon, *factor, hidden);
            }
            Step::RopeAppend { gains, rope: table, .. } => {
                let (heads, turns) = self.frozen.heads(*table);
                let gains = gains.map_or([].as_slice(), |id| &vectors[id]);
                let mut turned = Turned::zeros(&heads, count);
                let Turned { query, keys, values } = &mut turned;
                let qkv = rows.get(Slot::Qkv);
                rope(
                    heads,
                    0,
                    qkv,
                    gains,
                    c.norm_epsilon,
                    turns,
                    query,
                    |is_key, t, head, from| {
                        let to = (t * heads.kv_heads + head) * heads.head_dim;
                        let all = if is_key { &mut *keys } else { &mut *values };
                        all[to..to + heads.head_dim].copy_from_slice(from);
                    },
                );
                rows.turned = Rc::new(turned);
            }
            Step::Attend { cache } => {
                let heads = self.frozen.heads(None).0;
                let Turned { query, keys, values } = &*rows.turned;
                let mut sums = vec![0.0; query.len()];
                let mut marks = vec![0.0; 2 * count * c.heads];
                let scores = self.frozen.scores(*cache);
                let [keys, values] = [keys, values].map(|rows| cache::Rows::of(CacheType::F32, c.head_dim, rows));
                attend(heads, scores, 0, 1, 1, 1, query, &keys, &values, &mut sums, &mut marks);
                let mut y = vec![0.0; query.len()];
                combine::combine(1, c.head_dim, &sums, &marks, &mut y);
                rows.set(Slot::Attended, y);
            }
            Step::SigmoidGate => {
                let qkv = rows.slots[&Slot::Qkv].clone();
                let (stride, width) = (plan.width(Slot::Qkv), c.query_width());
                let y = rows.edit(Slot::Attended, count * width);
                sigmoid_gate::sigmoid_gate(&qkv, stride, c.head_dim, width, y);
            }
            Step::ShortConv { weights, bias, .. } => {
                let shape = plan.recurrent();
                let bias = bias.map(|id| vectors[id].as_slice());
                let mut carry = vec![0.0; shape.conv_carry()];
                let mut y = vec![0.0; count * shape.channels];
                let x = rows.get(Slot::Mixed);
                short_conv::short_conv(shape, x, &vectors[*weights], bias, &mut carry, &mut y);
                rows.set(Slot::Convolved, y);
            }
            Step::Scan { params, .. } => {
                let shape = plan.recurrent();
                let mut carry = vec![0.0; shape.scan_carry()];
                let mut y = vec![0.0; count * shape.inner()];
                let scan = match shape.mixing {
                    Mixing::DeltaNet => delta_net::delta_net,
                    Mixing::Mamba2 | Mixing::ShortConv => mamba2::mamba2,
                };
                let (x, projection) = (rows.get(Slot::Convolved), rows.get(Slot::Mixed));
                scan(shape, x, projection, &vectors[*params], &mut carry, &mut y);
                rows.set(Slot::Scanned, y);
            }
            Step::GatedNorm { gain } => {
                let shape = plan.recurrent();
                let projection = rows.slots[&Slot::Mixed].clone();
                let y = rows.edit(Slot::Scanned, count * shape.inner());
                gated_norm::gated_norm(shape, &projection, &vectors[*gain], c.norm_epsilon, y);
            }
        }
    }

    /// A gated step leaves its (gate, up) pairs in [`Slot::GateUp`] besides: backwards they are needed.
    fn linear(&self, linear: &Linear, count: usize, rows: &mut Rows) {
        let c = &self.frozen.plan.config;
        let h = self.frozen.normed(linear, rows.get(linear.input));
        let product = self.product(linear, &h);
        if linear.gate {
            let mut y = vec![0.0; count * c.feed_forward];
            swiglu::swiglu(&product, c.activation, &mut y);
            rows.set(Slot::GateUp, product);
            rows.set(linear.output, y);
            return;
        }
        let width = self.frozen.plan.width(linear.output);
        let n = product.len() / count;
        let y = rows.edit(linear.output, count * width);
        for (y, product) in y.chunks_exact_mut(width).zip(product.chunks_exact(n)) {
            let places = y[linear.first..].iter_mut().step_by(linear.step);
            for (y, value) in places.zip(product) {
                *y = if linear.add { *y + value } else { *value };
            }
        }
    }

    /// factor (W h + s B (A h) + bias), `(T, N)`.
    fn product(&self, linear: &Linear, h: &[f32]) -> Vec<f32> {
        let w = self.frozen.weights(linear.matrix);
        let count = h.len() / w.columns;
        let mut y = vec![0.0; count * w.rows];
        matmul::matmul(w, h, matmul::Fused::default(), 0, 1, w.rows, &mut y);
        for trained in self.beside(linear.matrix) {
            trained.add(self.scale, h, w.rows, &mut y);
        }
        if let Some(bias) = linear.bias {
            let bias = &self.frozen.vectors[bias];
            for y in y.chunks_exact_mut(w.rows) {
                y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            }
        }
        if linear.factor != 1.0 {
            y.iter_mut().for_each(|y| *y *= linear.factor);
        }
        y
    }

    fn beside(&self, matrix: MatrixId) -> impl Iterator<Item = &Trained> {
        self.pairs.iter().filter(move |trained| trained.matrix() == matrix)
    }

    /// Logits of the rows `chosen`, `(chosen, V)`.
    pub(super) fn head(&self, hidden: &[f32], chosen: &[usize]) -> Vec<f32> {
        let linear = self.frozen.head_step();
        let d = self.frozen.plan.config.hidden;
        let rows: Vec<f32> = chosen
            .iter()
            .flat_map(|t| hidden[t * d..(t + 1) * d].iter().copied())
            .collect();
        let mut logits = self.product(linear, &self.frozen.normed(linear, &rows));
        if let Some(cap) = linear.cap {
            logits.iter_mut().for_each(|z| *z = cap * (*z / cap).tanh());
        }
        logits
    }
}

impl Frozen {
    /// The head's only step.
    pub fn head_step(&self) -> &Linear {
        match &self.plan.head[0] {
            Step::Linear(linear) => linear,
            _ => unreachable!("the head is one linear step"),
        }
    }
}
