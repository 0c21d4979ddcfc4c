//! Runs a plan on the CPU: the oracle of the GPU engine, and the fallback of browsers without WebGPU.

use super::attend::Scores;
use super::cache::Rows;
use super::carried::Carried;
use super::matvec::Fused;
use super::rope_append::{Heads, rope_append};
use super::{Lora, Weights, adjust, attend, combine, embed, matmul, matvec, rms_norm, sample, swiglu};
use super::{delta_net, gated_norm, mamba2, short_conv, sigmoid_gate};
use crate::error::Result;
use crate::format::BlockType;
use crate::format::source::Source;
use crate::model::lora::{Change, Stack};
use crate::model::state::{Mark, Shape, Words};
use crate::model::{Adjustment, CacheType, Linear, MatrixId, Mixing, OPENING, Plan, Sampling, Slot, Step};
use std::collections::HashMap;

/// Bytes that are read from the file at a time.
const SLICE: usize = 4 << 20;

/// Rows of a prefill chunk: bounds the activations.
pub const CHUNK: usize = 64;

/// A student in main memory.
pub struct Engine {
    plan: Plan,
    matrices: Vec<Weights>,
    vectors: Vec<Vec<f32>>,
    /// One table for each of the plan's.
    turns: Vec<Vec<f32>>,
    k_cache: Vec<Rows>,
    v_cache: Vec<Rows>,
    carried: Carried,
    context: usize,
    cache_type: CacheType,
    slots: Slots,
    /// Attached adapters: for each changed matrix its A as weights, and the change.
    changes: HashMap<MatrixId, (Weights, Change)>,
    scales: Vec<f32>,
    position: usize,
    /// Positions that were ever run since the last beginning at 0: a ring has kept the last of them.
    written: usize,
    token: u32,
    draw: u32,
    sampling: Sampling,
    /// Bits of the tokens that may be drawn, where not all may.
    mask: Option<Vec<u32>>,
    /// What moves logits before a token is drawn.
    adjustments: Vec<Adjustment>,
    /// The logits that the last token was drawn from, where they are kept.
    kept: Option<Vec<f32>>,
}

/// Activations, `(rows, width)` each.
#[derive(Default)]
struct Slots {
    hidden: Vec<f32>,
    qkv: Vec<f32>,
    query: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    feed_forward: Vec<f32>,
    mixed: Vec<f32>,
    convolved: Vec<f32>,
    scanned: Vec<f32>,
    branch: Vec<f32>,
    logits: Vec<f32>,
}

impl Slots {
    fn take(&mut self, slot: Slot) -> &mut Vec<f32> {
        match slot {
            Slot::Hidden => &mut self.hidden,
            Slot::Qkv => &mut self.qkv,
            Slot::Attended => &mut self.attended,
            Slot::GateUp => &mut self.gate_up,
            Slot::FeedForward => &mut self.feed_forward,
            Slot::Mixed => &mut self.mixed,
            Slot::Convolved => &mut self.convolved,
            Slot::Scanned => &mut self.scanned,
            Slot::Branch => &mut self.branch,
            Slot::Logits => &mut self.logits,
        }
    }
}

impl Engine {
    /// Reads the weights of `plan` from `source`, for a cache of `context` positions; `progress` gets the bytes read so far.
    pub async fn load<S: Source>(
        plan: Plan,
        source: &S,
        context: usize,
        cache_type: CacheType,
        mut progress: impl FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        let mut read = 0;
        let mut matrices = Vec::with_capacity(plan.matrices.len());
        for matrix in &plan.matrices {
            let row = matrix.row_bytes();
            let turn = if matrix.interleaved { matrix.tensors.len() } else { 1 };
            let count = (SLICE / row).max(1).next_multiple_of(turn);
            let mut bytes = Vec::with_capacity(row * matrix.rows);
            for first in (0..matrix.rows).step_by(count) {
                bytes.extend(matrix.read_rows(source, first, count.min(matrix.rows - first)).await?);
                progress(read + bytes.len() as u64)?;
            }
            read += bytes.len() as u64;
            matrices.push(Weights {
                block_type: matrix.block_type,
                rows: matrix.rows,
                columns: matrix.columns,
                bytes,
            });
        }
        let mut vectors = Vec::with_capacity(plan.vectors.len());
        for vector in &plan.vectors {
            vectors.push(vector.read(source).await?);
        }
        let turns = plan.turns(source, context).await?;
        let (kv_heads, head_dim) = (plan.config.kv_heads, plan.config.head_dim);
        let caches = || -> Vec<Rows> {
            let positions = plan.caches.iter().map(|cache| cache.positions(CHUNK, context));
            let rows = positions.map(|positions| Rows::new(cache_type, head_dim, positions * kv_heads));
            rows.collect()
        };
        Ok(Self {
            carried: Carried::new(plan.config.recurrent.as_ref(), plan.cells),
            k_cache: caches(),
            v_cache: caches(),
            plan,
            matrices,
            vectors,
            turns,
            context,
            cache_type,
            slots: Slots::default(),
            changes: HashMap::new(),
            scales: Vec::new(),
            position: 0,
            written: 0,
            token: 0,
            draw: 0,
            sampling: Sampling::GREEDY,
            mask: None,
            adjustments: Vec::new(),
            kept: None,
        })
    }

    /// Lays adapters beside the weights; an empty stack takes them away. What is in the cache was made without them.
    pub fn attach(&mut self, stack: Stack) {
        self.scales = stack.scales;
        let a_of = |change: Change| {
            let columns = self.plan.matrices[change.matrix].columns;
            let a = Weights {
                block_type: BlockType::F32,
                rows: change.a.len() / columns,
                columns,
                bytes: change.a.iter().flat_map(|v| v.to_le_bytes()).collect(),
            };
            (change.matrix, (a, change))
        };
        self.changes = stack.changes.into_iter().map(a_of).collect();
    }

    /// New factors of the attached adapters, [`Stack::scales`].
    pub fn set_scales(&mut self, scales: &[f32]) {
        self.scales = scales.to_vec();
    }

    /// The plan that is run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Positions that the cache holds.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The most tokens, up to `most` that are known to be the same, from which it can go on.
    pub fn resume(&self, most: usize) -> usize {
        let tokens = self.carried.resume(most, self.position);
        if self.written <= tokens + self.plan.rewind(CHUNK, self.context) {
            tokens
        } else {
            0
        }
    }

    /// How it keeps a conversation.
    pub fn shape(&self) -> Shape {
        Shape::new(&self.plan, self.context, CHUNK, self.cache_type, false)
    }

    /// How far the conversation has come whose first `tokens` tokens are wanted.
    pub fn mark(&self, tokens: usize) -> Mark {
        Mark {
            tokens,
            written: self.written,
            kept: self.carried.kept(tokens),
        }
    }

    /// Appends what it keeps of the first `tokens` tokens, which [`Engine::resume`] gave, as [`Shape`] has it.
    pub fn save(&self, tokens: usize, out: &mut Vec<u8>) {
        let (shape, mark) = (self.shape(), self.mark(tokens));
        for (cache, (k, v)) in self.k_cache.iter().zip(&self.v_cache).enumerate() {
            let held = shape.held(cache, mark);
            out.extend(bytemuck::cast_slice::<u32, u8>(&k.words()[..held]));
            out.extend(bytemuck::cast_slice::<u32, u8>(&v.words()[..held]));
        }
        self.carried.save(tokens, self.position, out);
    }

    /// Takes a conversation up that an engine of this [`Shape`] has saved.
    pub fn restore(&mut self, mark: Mark, mut words: Words<'_>) {
        let shape = self.shape();
        for (cache, (k, v)) in self.k_cache.iter_mut().zip(&mut self.v_cache).enumerate() {
            let held = shape.held(cache, mark);
            words.copy(&mut k.words_mut()[..held]);
            words.copy(&mut v.words_mut()[..held]);
        }
        self.carried.restore(mark.kept, &mut words);
        (self.position, self.written) = (mark.tokens, mark.written);
    }

    /// Sets where the next tokens go, a position that [`Engine::resume`] gave, and how they are drawn; then come
    /// [`Engine::extend`] and [`Engine::decode`].
    pub fn begin(&mut self, position: usize, sampling: Sampling, draw: u32) {
        self.go_to(position);
        self.sampling = sampling;
        self.draw = draw;
    }

    /// From here on only tokens whose bit is set in `mask`, `(V + 31) / 32` words, are drawn; `None`: any token.
    pub fn allow(&mut self, mask: Option<&[u32]>) {
        self.mask = mask.map(<[u32]>::to_vec);
    }

    /// From here on these logits are moved before a token is drawn, each id at most once; an empty list moves none.
    pub fn adjust(&mut self, list: &[Adjustment]) {
        self.adjustments = list.to_vec();
    }

    /// Whether the logits that a token is drawn from are kept, as they are before they are moved.
    pub fn keep_logits(&mut self, on: bool) {
        self.kept = on.then(Vec::new);
    }

    /// The logits `(V)` of the last token that was drawn, where they are kept.
    pub fn kept_logits(&self) -> &[f32] {
        self.kept.as_deref().unwrap_or_default()
    }

    fn go_to(&mut self, position: usize) {
        self.carried.go_to(position, self.position);
        self.position = position;
    }

    /// A prompt's tokens in chunks for [`Engine::extend`]. What recurrent layers carry is kept in front of the last one.
    pub fn chunks<'a>(&self, tokens: &'a [u32]) -> impl Iterator<Item = &'a [u32]> + use<'a> {
        let opening = if self.carried.is_empty() { 0 } else { OPENING };
        let (front, back) = tokens.split_at(tokens.len().saturating_sub(opening));
        front.chunks(CHUNK).chain(back.chunks(CHUNK))
    }

    /// Runs a chunk of at most [`CHUNK`] tokens. `last`: also draws the token that follows them.
    pub fn extend(&mut self, chunk: &[u32], last: bool) -> Option<u32> {
        if last {
            self.carried.keep(self.position);
        }
        self.forward(chunk);
        last.then(|| self.draw_token(chunk.len() - 1))
    }

    /// Runs the last drawn token and draws the next.
    pub fn decode(&mut self) -> u32 {
        self.forward(&[self.token]);
        self.draw_token(0)
    }

    /// Logits `(T, V)` after each of `tokens`, from an empty cache.
    pub fn logits(&mut self, tokens: &[u32]) -> Vec<f32> {
        self.logits_in_chunks(tokens, CHUNK)
    }

    /// As [`Engine::logits`], with chunks of `chunk` tokens.
    pub fn logits_in_chunks(&mut self, tokens: &[u32], chunk: usize) -> Vec<f32> {
        self.go_to(0);
        let mut all = Vec::with_capacity(tokens.len() * self.plan.config.vocabulary);
        for chunk in tokens.chunks(chunk) {
            self.forward(chunk);
            for row in 0..chunk.len() {
                self.head(row);
                all.extend_from_slice(&self.slots.logits);
            }
        }
        all
    }

    /// Logits `(V)` after one more token at `position`, which is 0 or follows what was run before.
    pub fn logits_at(&mut self, token: u32, position: usize) -> &[f32] {
        self.go_to(position);
        self.forward(&[token]);
        self.head(0);
        &self.slots.logits
    }

    fn draw_token(&mut self, row: usize) -> u32 {
        self.head(row);
        if let Some(kept) = &mut self.kept {
            kept.clone_from(&self.slots.logits);
        }
        adjust::adjust(&mut self.slots.logits, &self.adjustments);
        self.token = sample::sample_allowed(&self.slots.logits, self.mask.as_deref(), &self.sampling, self.draw);
        self.draw += 1;
        self.token
    }

    fn head(&mut self, row: usize) {
        let width = self.plan.config.hidden;
        let x = self.slots.hidden[row * width..(row + 1) * width].to_vec();
        let mut y = std::mem::take(&mut self.slots.logits);
        y.resize(self.plan.config.vocabulary, 0.0);
        for step in &self.plan.head {
            let Step::Linear(Linear {
                norm,
                matrix,
                factor,
                cap,
                ..
            }) = step
            else {
                unreachable!("the head is one linear step")
            };
            let norm = norm.map(|id| (self.vectors[id].as_slice(), self.plan.config.norm_epsilon));
            matvec::matvec(
                &self.matrices[*matrix],
                &x,
                Fused {
                    norm,
                    factor: Some(*factor),
                    cap: *cap,
                    ..Fused::default()
                },
                0,
                1,
                &mut y,
            );
        }
        self.slots.logits = y;
    }

    /// The body of the plan for `tokens`, at the cache's end.
    fn forward(&mut self, tokens: &[u32]) {
        let config = &self.plan.config;
        let rows = tokens.len();
        let epsilon = config.norm_epsilon;
        let activation = config.activation;
        let shape = Heads {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            rotary: config.rotary,
            style: config.rope_style,
            gated: config.gated,
            qk_norm: config.qk_norm,
        };
        for step in &self.plan.body {
            match step {
                Step::Embed { table, factor } => {
                    self.slots.hidden.resize(rows * config.hidden, 0.0);
                    embed::embed(&self.matrices[*table], tokens, *factor, &mut self.slots.hidden);
                }
                Step::Linear(Linear {
                    norm,
                    input,
                    matrix,
                    bias,
                    output,
                    first,
                    step,
                    add,
                    gate,
                    factor,
                    cap: _,
                }) => {
                    let w = &self.matrices[*matrix];
                    let norm = norm.map(|id| self.vectors[id].as_slice());
                    let bias = bias.map(|id| self.vectors[id].as_slice());
                    // Input and output are different slots in every plan, so the output may be taken out meanwhile.
                    let mut y = std::mem::take(self.slots.take(*output));
                    let stride = self.plan.width(*output);
                    y.resize(rows * stride, 0.0);
                    let x = self.slots.take(*input).as_slice();
                    let change = self.changes.get(matrix);
                    let mut z = Vec::new();
                    if rows == 1 {
                        let norm = norm.map(|gain| (gain, epsilon));
                        let lora = change.map(|(a, change)| {
                            let scaled = Fused {
                                norm,
                                scale: Some(&self.scales),
                                ..Fused::default()
                            };
                            z.resize(a.rows, 0.0);
                            matvec::matvec(a, x, scaled, 0, 1, &mut z);
                            beside(change, &z, self.scales.len())
                        });
                        let fused = Fused {
                            norm,
                            bias,
                            add: *add,
                            gate: gate.then_some(activation),
                            factor: Some(*factor),
                            lora,
                            ..Fused::default()
                        };
                        matvec::matvec(w, x, fused, *first, *step, &mut y);
                    } else {
                        let mut normed = Vec::new();
                        let x = match norm {
                            Some(gain) => {
                                normed.resize(x.len(), 0.0);
                                rms_norm::rms_norm(x, gain, epsilon, &mut normed);
                                &normed
                            }
                            None => x,
                        };
                        let lora = change.map(|(a, change)| {
                            let scaled = matmul::Fused {
                                scale: Some(&self.scales),
                                ..matmul::Fused::default()
                            };
                            z.resize(rows * a.rows, 0.0);
                            matmul::matmul(a, x, scaled, 0, 1, a.rows, &mut z);
                            beside(change, &z, self.scales.len())
                        });
                        let mut fused = matmul::Fused {
                            bias,
                            add: *add,
                            factor: Some(*factor),
                            lora,
                            ..matmul::Fused::default()
                        };
                        if *gate {
                            let mut pairs = vec![0.0; rows * w.rows];
                            fused.add = false;
                            matmul::matmul(w, x, fused, 0, 1, w.rows, &mut pairs);
                            swiglu::swiglu(&pairs, activation, &mut y);
                        } else {
                            matmul::matmul(w, x, fused, *first, *step, stride, &mut y);
                        }
                    }
                    *self.slots.take(*output) = y;
                }
                Step::Swiglu => {
                    self.slots.feed_forward.resize(rows * config.feed_forward, 0.0);
                    swiglu::swiglu(&self.slots.gate_up, activation, &mut self.slots.feed_forward);
                }
                Step::AddNorm { gain, factor } => {
                    let gain = &self.vectors[*gain];
                    rms_norm::add_rms_norm(&self.slots.branch, gain, epsilon, *factor, &mut self.slots.hidden);
                }
                Step::RopeAppend { cache, gains, rope } => {
                    let gains = gains.map_or([].as_slice(), |id| &self.vectors[id]);
                    let shape = Heads {
                        rotary: rope.map_or(0, |_| config.rotary),
                        ..shape
                    };
                    let turns = rope.map_or([].as_slice(), |rope| &self.turns[rope]);
                    self.slots.query.resize(rows * config.query_width(), 0.0);
                    rope_append(
                        shape,
                        self.position,
                        &self.slots.qkv,
                        gains,
                        epsilon,
                        turns,
                        &mut self.slots.query,
                        &mut self.k_cache[*cache],
                        &mut self.v_cache[*cache],
                    );
                }
                Step::Attend { cache } => {
                    let width = rows * config.query_width();
                    self.slots.attended.resize(width, 0.0);
                    let mut parts = vec![0.0; width];
                    let mut marks = vec![0.0; 2 * rows * config.heads];
                    let (k, v) = (&self.k_cache[*cache], &self.v_cache[*cache]);
                    let scores = Scores {
                        scale: config.attention_scale,
                        cap: config.attention_cap,
                        window: self.plan.caches[*cache].window,
                    };
                    attend::attend(
                        shape,
                        scores,
                        self.position,
                        1,
                        1,
                        1,
                        &self.slots.query,
                        k,
                        v,
                        &mut parts,
                        &mut marks,
                    );
                    combine::combine(1, config.head_dim, &parts, &marks, &mut self.slots.attended);
                }
                Step::SigmoidGate => {
                    sigmoid_gate::sigmoid_gate(
                        &self.slots.qkv,
                        self.plan.width(Slot::Qkv),
                        config.head_dim,
                        config.query_width(),
                        &mut self.slots.attended,
                    );
                }
                Step::ShortConv { cell, weights, bias } => {
                    let shape = self.plan.recurrent();
                    self.slots.convolved.resize(rows * shape.channels, 0.0);
                    short_conv::short_conv(
                        shape,
                        &self.slots.mixed,
                        &self.vectors[*weights],
                        bias.map(|id| self.vectors[id].as_slice()),
                        &mut self.carried.cell(*cell).conv,
                        &mut self.slots.convolved,
                    );
                }
                Step::Scan { cell, params } => {
                    let shape = self.plan.recurrent();
                    self.slots.scanned.resize(rows * shape.inner(), 0.0);
                    let scan = match shape.mixing {
                        Mixing::DeltaNet => delta_net::delta_net,
                        Mixing::Mamba2 | Mixing::ShortConv => mamba2::mamba2,
                    };
                    scan(
                        shape,
                        &self.slots.convolved,
                        &self.slots.mixed,
                        &self.vectors[*params],
                        &mut self.carried.cell(*cell).scan,
                        &mut self.slots.scanned,
                    );
                }
                Step::GatedNorm { gain } => {
                    let gain = &self.vectors[*gain];
                    gated_norm::gated_norm(
                        self.plan.recurrent(),
                        &self.slots.mixed,
                        gain,
                        epsilon,
                        &mut self.slots.scanned,
                    );
                }
            }
        }
        if self.position == 0 {
            self.written = 0;
        }
        self.position += rows;
        self.written = self.written.max(self.position);
    }
}

/// A change with the z of some rows.
fn beside<'a>(change: &'a Change, z: &'a [f32], rank: usize) -> Lora<'a> {
    Lora {
        b: &change.b,
        z,
        rank,
        parts: change.parts,
    }
}
