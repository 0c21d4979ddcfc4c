//! A training step on the CPU: the plan forwards, then the plan backwards, step by step. The oracle of the GPU's training.
//!
//! Weights are frozen; what is trained are pairs A `(r, K)`, B `(N, r)` beside them (Hu et al., "LoRA", 2021):
//! `y = W h + s B (A h)`. Backwards, with dy given:
//!
//! ```text
//! dB += s dy (A h)^T     dz = s B^T dy     dA += dz h^T     dh = W^T dy + A^T dz
//! ```
//! The forward pass keeps the input of every step; a step is run again where its inside is needed. Sums are f32, losses f64.

pub use super::adamw::AdamW;
use super::adamw::adamw;
use super::loss::{self, Loss, Teacher};
use super::matmul_back::matmul_back;
use super::rope_append::{Heads, rope};
use super::swiglu::silu;
use super::{Weights, add_scaled, dot, embed, matmul, rms_norm};
use crate::distill::Objective;
use crate::error::{Error, Result};
use crate::format::adapter::{Adapter, MODULES, Pair};
use crate::format::gguf::Metadata;
use crate::format::source::Source;
use crate::model::chance::Numbers;
use crate::model::lora::Parts;
use crate::model::{Linear, MatrixId, Plan, RopeStyle, Slot, Step};
use std::collections::HashMap;

/// A trained pair with its gradient and the optimizer's memory.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The pair; `base` is the tensor that it changes.
    pub pair: Pair,
    /// Gradient of A, then of B.
    pub gradient: [Vec<f32>; 2],
    moments: [[Vec<f32>; 2]; 2],
    matrix: MatrixId,
    part: usize,
}

/// A row of tokens with what is trained on it.
#[derive(Debug, Clone, Copy)]
pub struct Example<'a> {
    /// The tokens, T.
    pub tokens: &'a [u32],
    /// For each position the token that should follow it, where that is trained, `(T)`.
    pub targets: &'a [Option<u32>],
    /// What the teacher left for each position, `(T)`.
    pub teachers: &'a [Teacher<'a>],
}

/// Which pairs are trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// r.
    pub rank: usize,
    /// s = alpha / r.
    pub alpha: f32,
    /// Only the last so many layers; `None`: all.
    pub last_layers: Option<usize>,
    /// Of [`MODULES`], by GGUF's names; empty: all seven.
    pub modules: Vec<String>,
}

impl Shape {
    /// Errors: [`Error::Request`] for a rank of zero or modules that are not known.
    pub fn check(&self) -> Result<()> {
        let request = |what: String| Error::Request { what };
        if self.rank == 0 || self.rank > 1024 || !self.alpha.is_finite() {
            return Err(request(
                "the rank is a number from 1 to 1024, and alpha is finite".into(),
            ));
        }
        match self
            .modules
            .iter()
            .find(|m| MODULES.iter().all(|(known, _)| known != m))
        {
            Some(module) => Err(request(format!("there is no matrix '{module}' in a layer"))),
            None => Ok(()),
        }
    }

    /// The first layer that is trained.
    pub fn first_layer(&self, plan: &Plan) -> usize {
        let layers = plan.config.layers;
        layers - self.last_layers.unwrap_or(layers).min(layers)
    }

    /// Whether a matrix of a layer is trained.
    pub fn wants(&self, module: &str) -> bool {
        self.modules.is_empty() || self.modules.iter().any(|m| m == module)
    }
}

/// A student in training.
pub struct Trainer {
    plan: Plan,
    matrices: Vec<Weights>,
    vectors: Vec<Vec<f32>>,
    turns: Vec<f32>,
    context: usize,
    scale: f32,
    alpha: f32,
    /// The pairs, in the order of the plan.
    pub pairs: Vec<Trained>,
    steps: i32,
}

/// Activations of all rows, by slot; and the rotated q and k of the layer at hand.
#[derive(Default, Clone)]
struct Rows {
    slots: HashMap<Slot, Vec<f32>>,
    query: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Trainer {
    /// Reads the frozen weights. Rows of at most `context` tokens; A is drawn from `seed`, B is zero.
    ///
    /// Errors: what the source cannot read; [`Error::Request`] for a rank of zero or modules that are not known.
    pub async fn new<S: Source>(plan: Plan, source: &S, context: usize, shape: &Shape, seed: u64) -> Result<Self> {
        shape.check()?;
        plan.teachable()?;
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
        let factors = match plan.rope_factors(context) {
            Some(vector) => Some(vector.read(source).await?),
            None => None,
        };
        let first_layer = shape.first_layer(&plan);
        let mut pairs = Vec::new();
        for (matrix, about) in plan.matrices.iter().enumerate() {
            for (part, tensor) in about.tensors.iter().enumerate() {
                let Some((layer, module)) = layer_and_module(&tensor.name) else {
                    continue;
                };
                if layer < first_layer || !shape.wants(module) {
                    continue;
                }
                let (rows, columns, rank) = (tensor.rows(), tensor.columns(), shape.rank);
                let a = initial(seed, &tensor.name, rank, columns);
                let zeros = |n: usize| vec![0.0; n];
                let both = || [zeros(rank * columns), zeros(rows * rank)];
                pairs.push(Trained {
                    pair: Pair {
                        base: tensor.name.clone(),
                        rank,
                        rows,
                        columns,
                        a,
                        b: zeros(rows * rank),
                    },
                    gradient: both(),
                    moments: [both(), both()],
                    matrix,
                    part,
                });
            }
        }
        Ok(Self {
            turns: plan.config.turns(0, context, factors.as_deref()),
            plan,
            matrices,
            vectors,
            context,
            scale: shape.alpha / shape.rank as f32,
            alpha: shape.alpha,
            pairs,
            steps: 0,
        })
    }

    /// What was trained, as an adapter.
    pub fn adapter(&self) -> Adapter {
        Adapter {
            architecture: self.plan.config.architecture.name().to_owned(),
            alpha: self.alpha,
            metadata: Metadata::default(),
            pairs: self.pairs.iter().map(|trained| trained.pair.clone()).collect(),
        }
    }

    /// The pairs and the optimizer's memory, by name.
    pub fn state(&self) -> Vec<(String, Vec<f32>)> {
        let mut all = Vec::new();
        for trained in &self.pairs {
            let base = &trained.pair.base;
            let [means, squares] = &trained.moments;
            for (half, values, i) in [("a", &trained.pair.a, 0), ("b", &trained.pair.b, 1)] {
                all.push((format!("{base}.{half}"), values.clone()));
                all.push((format!("{base}.{half}.mean"), means[i].clone()));
                all.push((format!("{base}.{half}.square"), squares[i].clone()));
            }
        }
        all
    }

    /// Steps that changed something.
    pub fn steps(&self) -> usize {
        self.steps as usize
    }

    /// Takes a state back, after `steps` steps that changed something. `false`, and nothing is changed, where names or sizes differ.
    pub fn set_state(&mut self, state: &HashMap<String, Vec<f32>>, steps: usize) -> bool {
        let own = self.state();
        let fits = |(name, values): &(String, Vec<f32>)| state.get(name).is_some_and(|v| v.len() == values.len());
        if own.len() != state.len() || !own.iter().all(fits) {
            return false;
        }
        for trained in &mut self.pairs {
            let base = trained.pair.base.clone();
            let [means, squares] = &mut trained.moments;
            for (half, values, i) in [("a", &mut trained.pair.a, 0), ("b", &mut trained.pair.b, 1)] {
                values.clone_from(&state[&format!("{base}.{half}")]);
                means[i].clone_from(&state[&format!("{base}.{half}.mean")]);
                squares[i].clone_from(&state[&format!("{base}.{half}.square")]);
            }
        }
        self.steps = steps as i32;
        true
    }

    /// Gradients back to zero.
    pub fn zero(&mut self) {
        for trained in &mut self.pairs {
            trained.gradient.iter_mut().for_each(|g| g.fill(0.0));
        }
    }

    /// Logits `(T, V)` after each token.
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let (_, rows) = self.forward(tokens);
        let all: Vec<usize> = (0..tokens.len()).collect();
        self.head(&rows, &all).1
    }

    /// Adds the gradients of an example, each trained token weighing `weight`; gives the sum of its losses.
    ///
    /// `weight` is one over the trained tokens of the whole step, whatever examples these lie in.
    ///
    /// # Panics
    /// If the row is longer than the context or ids are outside the vocabulary: whoever made the batch has checked it.
    pub fn accumulate(&mut self, example: &Example, objective: &Objective, weight: f64) -> Loss {
        sum(&self.accumulate_stats(example, objective, weight))
    }

    /// As [`Trainer::accumulate`]: each trained token's loss, and whether the wanted token is the likeliest.
    pub fn accumulate_stats(&mut self, example: &Example, objective: &Objective, weight: f64) -> Vec<(Loss, bool)> {
        let count = example.tokens.len();
        assert!(
            count <= self.context,
            "a row of {count} tokens for a context of {}",
            self.context
        );
        let (tape, end) = self.forward(example.tokens);
        let (trained, losses, d_logits) = self.losses(&end, example, objective, weight);
        if !trained.is_empty() {
            let d_hidden = self.head_back(&end, &trained, &d_logits);
            self.backward(&tape, d_hidden);
        }
        losses
    }

    /// Each trained token's loss, and whether the wanted token is the likeliest; nothing is trained.
    pub fn measure_stats(&self, example: &Example, objective: &Objective) -> Vec<(Loss, bool)> {
        let (_, end) = self.forward(example.tokens);
        self.losses(&end, example, objective, 0.0).1
    }

    /// The sum of an example's losses; nothing is trained.
    pub fn measure(&self, example: &Example, objective: &Objective) -> Loss {
        sum(&self.measure_stats(example, objective))
    }

    /// Logits `(T, V)` of the student as it was.
    pub fn base_logits(&mut self, tokens: &[u32]) -> Vec<f32> {
        let scale = std::mem::take(&mut self.scale);
        let logits = self.logits(tokens);
        self.scale = scale;
        logits
    }

    /// Trained positions, their losses, and the gradient over their logits.
    fn losses(
        &self,
        end: &Rows,
        example: &Example,
        objective: &Objective,
        weight: f64,
    ) -> (Vec<usize>, Vec<(Loss, bool)>, Vec<f32>) {
        let trained: Vec<usize> = (0..example.tokens.len())
            .filter(|t| example.targets[*t].is_some())
            .collect();
        let (_, logits) = self.head(end, &trained);
        let vocabulary = self.plan.config.vocabulary;
        let mut d_logits = vec![0.0f32; logits.len()];
        let mut losses = Vec::with_capacity(trained.len());
        for (i, t) in trained.iter().enumerate() {
            let row = &logits[i * vocabulary..(i + 1) * vocabulary];
            let mut gradient = vec![0.0; vocabulary];
            let target = example.targets[*t].unwrap_or_default();
            let one = loss::loss(row, target, example.teachers[*t], objective, weight, &mut gradient);
            let top = row.iter().all(|z| *z <= row[target as usize]);
            losses.push((one, top));
            for (to, from) in d_logits[i * vocabulary..(i + 1) * vocabulary].iter_mut().zip(&gradient) {
                *to = *from as f32;
            }
        }
        (trained, losses, d_logits)
    }

    /// One step of the optimizer; gives the length of the gradient before it was clipped. A step whose gradient is not
    /// finite changes nothing.
    pub fn step(&mut self, adam: &AdamW) -> f32 {
        let squares: f64 = self.gradients().map(|g| f64::from(*g).powi(2)).sum();
        let norm = squares.sqrt() as f32;
        if !norm.is_finite() {
            return norm;
        }
        self.steps += 1;
        let numbers = adam.step(self.steps, norm);
        for trained in &mut self.pairs {
            let Trained {
                pair,
                gradient,
                moments: [means, squares],
                ..
            } = trained;
            for (i, values) in [&mut pair.a, &mut pair.b].into_iter().enumerate() {
                adamw(&numbers, values, &gradient[i], &mut means[i], &mut squares[i]);
            }
        }
        norm
    }

    fn gradients(&self) -> impl Iterator<Item = &f32> {
        self.pairs.iter().flat_map(|trained| trained.gradient.iter().flatten())
    }

    fn shape(&self) -> Heads {
        let c = &self.plan.config;
        Heads {
            heads: c.heads,
            kv_heads: c.kv_heads,
            head_dim: c.head_dim,
            rotary: c.rotary,
            style: c.rope_style,
            gated: false,
            qk_norm: c.qk_norm,
        }
    }

    /// Activations before each step, and behind the last.
    fn forward(&self, tokens: &[u32]) -> (Vec<Rows>, Rows) {
        let mut rows = Rows::default();
        let mut tape = Vec::with_capacity(self.plan.body.len());
        for step in &self.plan.body {
            tape.push(rows.clone());
            self.run(step, tokens, &mut rows);
        }
        (tape, rows)
    }

    fn run(&self, step: &Step, tokens: &[u32], rows: &mut Rows) {
        let count = tokens.len();
        let c = &self.plan.config;
        match step {
            Step::Embed { table, factor } => {
                let mut hidden = vec![0.0; count * c.hidden];
                embed::embed(&self.matrices[*table], tokens, *factor, &mut hidden);
                rows.slots.insert(Slot::Hidden, hidden);
            }
            Step::Linear(Linear {
                input,
                output,
                first,
                step: distance,
                add,
                gate,
                ..
            }) => {
                let (_, product) = self.product(step, &rows.slots[input]);
                let n = product.len() / count;
                let width = self.plan.width(*output);
                let y = rows.slots.entry(*output).or_default();
                y.resize(count * width, 0.0);
                for t in 0..count {
                    for i in 0..n {
                        let value = product[t * n + i];
                        if *gate {
                            if i % 2 == 1 {
                                y[t * width + i / 2] = silu(product[t * n + i - 1]) * value;
                            }
                            continue;
                        }
                        let at = &mut y[t * width + first + distance * i];
                        *at = if *add { *at + value } else { value };
                    }
                }
            }
            Step::Swiglu => {
                let mut y = vec![0.0; count * c.feed_forward];
                super::swiglu::swiglu(&rows.slots[&Slot::GateUp], c.activation, &mut y);
                rows.slots.insert(Slot::FeedForward, y);
            }
            Step::AddNorm { .. } => unreachable!("no plan that is taught has a norm behind a part"),
            Step::RopeAppend { gains, .. } => {
                rows.query = vec![0.0; count * c.query_width()];
                rows.keys = vec![0.0; count * c.kv_width()];
                rows.values = vec![0.0; count * c.kv_width()];
                let gains = gains.map_or([].as_slice(), |id| &self.vectors[id]);
                let qkv = &rows.slots[&Slot::Qkv];
                let (q, k, v) = (&mut rows.query, &mut rows.keys, &mut rows.values);
                rope(
                    self.shape(),
                    0,
                    qkv,
                    gains,
                    c.norm_epsilon,
                    &self.turns,
                    q,
                    |is_key, t, head, from| {
                        let to = (t * c.kv_heads + head) * c.head_dim;
                        let all = if is_key { &mut *k } else { &mut *v };
                        all[to..to + c.head_dim].copy_from_slice(from);
                    },
                );
            }
            Step::Attend { .. } => {
                let mut y = vec![0.0; count * c.query_width()];
                self.attention(
                    count,
                    |t, head, weights| {
                        let at = (t * c.heads + head) * c.head_dim;
                        for (j, weight) in weights.iter().enumerate() {
                            let v = self.kv(j, head);
                            for i in 0..c.head_dim {
                                y[at + i] += weight * rows.values[v + i];
                            }
                        }
                    },
                    rows,
                );
                rows.slots.insert(Slot::Attended, y);
            }
            Step::SigmoidGate | Step::ShortConv { .. } | Step::Scan { .. } | Step::GatedNorm { .. } => {
                unreachable!("the trainer refuses what it cannot teach")
            }
        }
    }

    /// Where the key or value of position `j` begins that query head `head` reads.
    fn kv(&self, j: usize, head: usize) -> usize {
        let c = &self.plan.config;
        (j * c.kv_heads + head / (c.heads / c.kv_heads)) * c.head_dim
    }

    /// Softmax weights of each row and head over the positions that it sees.
    fn attention(&self, count: usize, mut with: impl FnMut(usize, usize, &[f32]), rows: &Rows) {
        let c = &self.plan.config;
        let scale = 1.0 / (c.head_dim as f32).sqrt();
        for t in 0..count {
            for head in 0..c.heads {
                let q = &rows.query[(t * c.heads + head) * c.head_dim..][..c.head_dim];
                let mut weights: Vec<f32> = (0..=t)
                    .map(|j| scale * dot(q, &rows.keys[self.kv(j, head)..][..c.head_dim]))
                    .collect();
                let most = weights.iter().copied().fold(f32::MIN, f32::max);
                weights.iter_mut().for_each(|w| *w = (*w - most).exp());
                let sum: f32 = weights.iter().sum();
                weights.iter_mut().for_each(|w| *w /= sum);
                with(t, head, &weights);
            }
        }
    }

    /// norm(x) of a linear step, and the product with bias and pairs, `(T, N)`.
    fn product(&self, step: &Step, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let Step::Linear(Linear { norm, matrix, bias, .. }) = step else {
            unreachable!("only linear steps multiply")
        };
        let w = &self.matrices[*matrix];
        let h = match norm {
            Some(id) => {
                let mut h = vec![0.0; x.len()];
                rms_norm::rms_norm(x, &self.vectors[*id], self.plan.config.norm_epsilon, &mut h);
                h
            }
            None => x.to_vec(),
        };
        let count = h.len() / w.columns;
        let mut y = vec![0.0; count * w.rows];
        let fused = matmul::Fused {
            bias: bias.map(|id| self.vectors[id].as_slice()),
            ..matmul::Fused::default()
        };
        matmul::matmul(w, &h, fused, 0, 1, w.rows, &mut y);
        let parts = Parts::of(&self.plan.matrices[*matrix]);
        for trained in self.pairs.iter().filter(|trained| trained.matrix == *matrix) {
            let pair = &trained.pair;
            for t in 0..count {
                let z = down(pair, &h[t * w.columns..(t + 1) * w.columns]);
                for n in (0..w.rows).filter(|n| parts.part(*n) == trained.part) {
                    let own = parts.own(n);
                    y[t * w.rows + n] += self.scale * dot(&pair.b[own * pair.rank..(own + 1) * pair.rank], &z);
                }
            }
        }
        (h, y)
    }

    /// Normed hidden rows `chosen`, and their logits.
    fn head(&self, rows: &Rows, chosen: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let d = self.plan.config.hidden;
        let x: Vec<f32> = chosen
            .iter()
            .flat_map(|t| rows.slots[&Slot::Hidden][t * d..(t + 1) * d].iter().copied())
            .collect();
        self.product(&self.plan.head[0], &x)
    }

    fn head_back(&self, rows: &Rows, chosen: &[usize], d_logits: &[f32]) -> Vec<f32> {
        let Step::Linear(Linear { norm, matrix, .. }) = &self.plan.head[0] else {
            unreachable!("the head is one linear step")
        };
        let d = self.plan.config.hidden;
        let hidden = &rows.slots[&Slot::Hidden];
        let mut d_hidden = vec![0.0; hidden.len()];
        let dh = self.through(*matrix, d_logits, chosen.len());
        for (i, t) in chosen.iter().enumerate() {
            let (x, dh) = (&hidden[t * d..(t + 1) * d], &dh[i * d..(i + 1) * d]);
            let to = &mut d_hidden[t * d..(t + 1) * d];
            match norm {
                Some(id) => norm_back(x, &self.vectors[*id], self.plan.config.norm_epsilon, dh, to),
                None => to.iter_mut().zip(dh).for_each(|(to, dh)| *to += dh),
            }
        }
        d_hidden
    }

    /// dh = W^T dy, `(T, K)`.
    fn through(&self, matrix: MatrixId, dy: &[f32], count: usize) -> Vec<f32> {
        let w = &self.matrices[matrix];
        let mut dh = vec![0.0; count * w.columns];
        matmul_back(w, dy, None, &mut dh);
        dh
    }

    fn backward(&mut self, tape: &[Rows], d_hidden: Vec<f32>) {
        let count = d_hidden.len() / self.plan.config.hidden;
        let mut d: HashMap<Slot, Vec<f32>> = HashMap::from([(Slot::Hidden, d_hidden)]);
        let (mut d_query, mut d_keys, mut d_values) = (Vec::new(), Vec::new(), Vec::new());
        let body = self.plan.body.clone();
        let c = self.plan.config.clone();
        for (i, step) in body.iter().enumerate().rev() {
            let before = &tape[i];
            match step {
                Step::Embed { .. } => {}
                Step::Linear(Linear {
                    norm,
                    input,
                    matrix,
                    output,
                    first,
                    step: distance,
                    add,
                    gate,
                    ..
                }) => {
                    let (h, product) = self.product(step, &before.slots[input]);
                    let n = product.len() / count;
                    let width = self.plan.width(*output);
                    let d_output = d.entry(*output).or_insert_with(|| vec![0.0; count * width]);
                    let mut dy = vec![0.0; count * n];
                    for t in 0..count {
                        for i in 0..n {
                            if *gate {
                                let out = d_output[t * width + i / 2];
                                let (gate, up) = (product[t * n + i / 2 * 2], product[t * n + i / 2 * 2 + 1]);
                                dy[t * n + i] = if i % 2 == 0 {
                                    out * up * silu_slope(gate)
                                } else {
                                    out * silu(gate)
                                };
                                continue;
                            }
                            let at = &mut d_output[t * width + first + distance * i];
                            dy[t * n + i] = *at;
                            // What was replaced has no further part in the result; what was added to goes on.
                            if !*add {
                                *at = 0.0;
                            }
                        }
                    }
                    if *gate {
                        d_output.fill(0.0);
                    }
                    let dh = self.linear_back(*matrix, &h, &dy, count);
                    let k = self.matrices[*matrix].columns;
                    let x = &before.slots[input];
                    let to = d.entry(*input).or_insert_with(|| vec![0.0; x.len()]);
                    for t in 0..count {
                        let (x, dh, to) = (
                            &x[t * k..(t + 1) * k],
                            &dh[t * k..(t + 1) * k],
                            &mut to[t * k..(t + 1) * k],
                        );
                        match norm {
                            Some(id) => norm_back(x, &self.vectors[*id], c.norm_epsilon, dh, to),
                            None => add_scaled(to, 1.0, dh),
                        }
                    }
                }
                Step::Swiglu => {
                    let x = &before.slots[&Slot::GateUp];
                    let out = d.remove(&Slot::FeedForward).unwrap_or_default();
                    let to = d.entry(Slot::GateUp).or_insert_with(|| vec![0.0; x.len()]);
                    for (i, out) in out.iter().enumerate() {
                        let (gate, up) = (x[2 * i], x[2 * i + 1]);
                        to[2 * i] += out * up * silu_slope(gate);
                        to[2 * i + 1] += out * silu(gate);
                    }
                }
                Step::Attend { .. } => {
                    let out = d.remove(&Slot::Attended).unwrap_or_default();
                    d_query = vec![0.0; count * c.query_width()];
                    d_keys = vec![0.0; count * c.kv_width()];
                    d_values = vec![0.0; count * c.kv_width()];
                    let scale = 1.0 / (c.head_dim as f32).sqrt();
                    self.attention(
                        count,
                        |t, head, weights| {
                            let at = (t * c.heads + head) * c.head_dim;
                            let out = &out[at..at + c.head_dim];
                            let dp: Vec<f32> = (0..weights.len())
                                .map(|j| dot(out, &before.values[self.kv(j, head)..][..c.head_dim]))
                                .collect();
                            let mean: f32 = dp.iter().zip(weights).map(|(d, w)| d * w).sum();
                            for (j, weight) in weights.iter().enumerate() {
                                let kv = self.kv(j, head);
                                let ds = scale * weight * (dp[j] - mean);
                                add_scaled(&mut d_values[kv..kv + c.head_dim], *weight, out);
                                add_scaled(&mut d_query[at..at + c.head_dim], ds, &before.keys[kv..kv + c.head_dim]);
                                add_scaled(&mut d_keys[kv..kv + c.head_dim], ds, &before.query[at..at + c.head_dim]);
                            }
                        },
                        before,
                    );
                }
                Step::AddNorm { .. } => unreachable!("no plan that is taught has a norm behind a part"),
                Step::RopeAppend { gains, .. } => {
                    let qkv = &before.slots[&Slot::Qkv];
                    let gains = gains.map(|id| self.vectors[id].as_slice());
                    let back = self.rope_back(qkv, gains, &d_query, &d_keys, &d_values);
                    d.insert(Slot::Qkv, back);
                }
                Step::SigmoidGate | Step::ShortConv { .. } | Step::Scan { .. } | Step::GatedNorm { .. } => {
                    unreachable!("the trainer refuses what it cannot teach")
                }
            }
        }
    }

    /// Gradients of the pairs beside a matrix, and dh, `(T, K)`.
    fn linear_back(&mut self, matrix: MatrixId, h: &[f32], dy: &[f32], count: usize) -> Vec<f32> {
        let mut dh = self.through(matrix, dy, count);
        let (n, k) = (self.matrices[matrix].rows, self.matrices[matrix].columns);
        let parts = Parts::of(&self.plan.matrices[matrix]);
        let scale = self.scale;
        for trained in self.pairs.iter_mut().filter(|trained| trained.matrix == matrix) {
            let Trained {
                pair, gradient, part, ..
            } = trained;
            let r = pair.rank;
            let [da, db] = gradient;
            for t in 0..count {
                let h = &h[t * k..(t + 1) * k];
                let z = down(pair, h);
                let mut dz = vec![0.0; r];
                for row in (0..n).filter(|row| parts.part(*row) == *part) {
                    let d = scale * dy[t * n + row];
                    let own = parts.own(row);
                    add_scaled(&mut db[own * r..(own + 1) * r], d, &z);
                    add_scaled(&mut dz, d, &pair.b[own * r..(own + 1) * r]);
                }
                for (j, dz) in dz.iter().enumerate() {
                    add_scaled(&mut da[j * k..(j + 1) * k], *dz, h);
                    add_scaled(&mut dh[t * k..(t + 1) * k], *dz, &pair.a[j * k..(j + 1) * k]);
                }
            }
        }
        dh
    }

    /// Back through the rotation (which is turned the other way) and the norms of q and k.
    fn rope_back(&self, qkv: &[f32], gains: Option<&[f32]>, dq: &[f32], dk: &[f32], dv: &[f32]) -> Vec<f32> {
        let Heads {
            heads,
            kv_heads,
            head_dim,
            rotary,
            style,
            ..
        } = self.shape();
        let mut d = vec![0.0; qkv.len()];
        let stride = (heads + 2 * kv_heads) * head_dim;
        for (t, (x, d)) in qkv.chunks_exact(stride).zip(d.chunks_exact_mut(stride)).enumerate() {
            for (head, (x, d)) in x.chunks_exact(head_dim).zip(d.chunks_exact_mut(head_dim)).enumerate() {
                if head >= heads + kv_heads {
                    let from = (t * kv_heads + head - heads - kv_heads) * head_dim;
                    d.copy_from_slice(&dv[from..from + head_dim]);
                    continue;
                }
                let is_key = head >= heads;
                let mut turned = if is_key {
                    dk[(t * kv_heads + head - heads) * head_dim..][..head_dim].to_vec()
                } else {
                    dq[(t * heads + head) * head_dim..][..head_dim].to_vec()
                };
                for pair in 0..rotary / 2 {
                    let (first, second) = match style {
                        RopeStyle::Halves => (pair, pair + rotary / 2),
                        RopeStyle::Pairs => (2 * pair, 2 * pair + 1),
                    };
                    let turn = (t * (rotary / 2) + pair) * 2;
                    let (cos, sin) = (self.turns[turn], self.turns[turn + 1]);
                    let (a, b) = (turned[first], turned[second]);
                    turned[first] = a * cos + b * sin;
                    turned[second] = b * cos - a * sin;
                }
                match gains {
                    Some(gains) => {
                        let gain = if is_key { &gains[head_dim..] } else { &gains[..head_dim] };
                        norm_back(x, gain, self.plan.config.norm_epsilon, &turned, d);
                    }
                    None => d.copy_from_slice(&turned),
                }
            }
        }
        d
    }
}

fn sum(losses: &[(Loss, bool)]) -> Loss {
    let mut sum = Loss::default();
    for (one, _) in losses {
        sum.total += one.total;
        sum.ce += one.ce;
        sum.divergence += one.divergence;
    }
    sum
}

/// A h, `(r)`.
fn down(pair: &Pair, h: &[f32]) -> Vec<f32> {
    pair.a.chunks_exact(pair.columns).map(|a| dot(a, h)).collect()
}

/// d silu(a) / da.
fn silu_slope(a: f32) -> f32 {
    let s = 1.0 / (1.0 + (-a).exp());
    s * (1.0 + a * (1.0 - s))
}

/// Adds to `dx` what `dy` asks of x through y = x gain / rms(x):
/// dx = (gain dy) / rms - x sum(gain dy x) / (D rms^3).
fn norm_back(x: &[f32], gain: &[f32], epsilon: f32, dy: &[f32], dx: &mut [f32]) {
    let inverse = 1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt();
    let along: f32 = (0..x.len()).map(|i| gain[i] * dy[i] * x[i]).sum();
    let back = along * inverse.powi(3) / x.len() as f32;
    for i in 0..x.len() {
        dx[i] += gain[i] * dy[i] * inverse - x[i] * back;
    }
}

/// Layer and module of a tensor that may be trained.
pub fn layer_and_module(name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let module = rest.strip_suffix(".weight")?;
    MODULES.iter().find(|(gguf, _)| *gguf == module)?;
    Some((layer.parse().ok()?, module))
}

/// A of a new pair: evenly from -1/sqrt(K) to 1/sqrt(K), from the seed and the tensor's name alone.
pub fn initial(seed: u64, name: &str, rank: usize, columns: usize) -> Vec<f32> {
    // Begun at a hash of the name (FNV-1a), so that no pair depends on which others there are.
    let begin = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64 ^ seed, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    let bound = 1.0 / (columns as f32).sqrt();
    let mut numbers = Numbers(begin);
    (0..rank * columns).map(|_| bound * numbers.signed()).collect()
}
