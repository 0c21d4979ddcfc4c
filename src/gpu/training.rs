//! What training does on the device besides Burn's part: the frozen matrices with the trained pairs beside them, forwards
//! and backwards; the head with the loss; the optimizer.
//!
//! Everything here works on views of buffers, whoever owns them. Weights are read, repacked and multiplied exactly as for
//! answers.

use super::device::{Gpu, View};
use super::kernels::{Kernel, loss_constants};
pub use super::pairs::{Memory, Named};
use super::pairs::{Pairs, Place};
use super::pipelines::Pipelines;
use super::weights::Weights;
use super::{State, cases};
use crate::cpu::adamw::AdamStep;
use crate::cpu::loss::LossRow;
use crate::cpu::trainer::Shape;
use crate::distill::Objective;
use crate::error::{Error, Result};
use crate::format::BlockType;
use crate::format::adapter::Pair;
use crate::format::repack::{groups, row_words};
use crate::format::source::Source;
use crate::model::{Linear, MatrixId, Plan, Step, VectorId};
use std::collections::HashMap;
use std::sync::Mutex;

/// Numbers that one workgroup of `grad_norm` adds up.
const RUN: usize = 4096;
/// Threads of kernels without workgroup memory.
const WG: u32 = 32;
/// Bytes of logits that are computed at a time.
const CHUNK_BYTES: usize = 32 << 20;

/// A dispatch: pipeline, bind group, grid.
type Dispatch = (wgpu::ComputePipeline, wgpu::BindGroup, [u32; 3]);

/// What is made once for a matrix.
struct Prepared {
    /// For each part of the weights: forwards and backwards.
    parts: Vec<[wgpu::ComputePipeline; 2]>,
    pairs: Option<PairPipelines>,
}

/// What is made once for the pairs of a matrix.
struct PairPipelines {
    z: wgpu::ComputePipeline,
    dz: wgpu::ComputePipeline,
    grad_a: wgpu::ComputePipeline,
    grad_b: wgpu::ComputePipeline,
}

/// What a training needs room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Most rows of activations at a time: tokens of a micro-batch.
    pub rows: usize,
    /// Most tokens that a teacher names.
    pub named: usize,
}

/// A row's loss, cross-entropy, divergence, and 1 where the likeliest token is the wanted one.
pub type Stats = [f32; 4];

/// Whole distributions to compare with.
pub enum Dense<'a> {
    /// None: the teacher left its likeliest tokens, or text.
    None,
    /// Its logits, `(n, V)`.
    Logits(&'a [f32]),
    /// The hidden rows that the same head makes its logits of, `(n, D)`.
    Hidden(&'a View),
}

/// Rows of the head and what is known of them.
pub struct Marked<'a> {
    /// One per row.
    pub rows: &'a [LossRow],
    /// `(n, named)`.
    pub ids: &'a [u32],
    /// `(n, named)`.
    pub logprobs: &'a [f32],
}

/// The frozen student, its pairs, and scratch.
pub struct Training {
    gpu: Gpu,
    plan: Plan,
    weights: Vec<Weights>,
    /// Gains and biases, on the device and here.
    vectors: Vec<(wgpu::Buffer, Vec<f32>)>,
    prepared: HashMap<MatrixId, Prepared>,
    pipelines: Mutex<Pipelines>,
    pairs: Pairs,
    room: Room,
    /// State buffers by their number of rows: shapes are few and come again.
    states: Mutex<HashMap<usize, wgpu::Buffer>>,
    tokens: wgpu::Buffer,
    z: wgpu::Buffer,
    dz: wgpu::Buffer,
    unused: wgpu::Buffer,
    adam: wgpu::Buffer,
    sums: wgpu::Buffer,
    head: Head,
}

/// Scratch of the head.
struct Head {
    /// Rows of logits at a time.
    chunk: usize,
    logits: wgpu::Buffer,
    teacher: Mutex<Option<wgpu::Buffer>>,
    rows: wgpu::Buffer,
    ids: wgpu::Buffer,
    logprobs: wgpu::Buffer,
    stats: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl Training {
    /// Uploads the frozen weights and makes everything that a step needs. A is drawn from `seed`, B is zero.
    ///
    /// `progress` is told the bytes read so far. Errors: what the device refuses, what the source cannot read;
    /// [`Error::Device`] where a kernel answers wrongly.
    pub async fn load<S: Source>(
        gpu: &Gpu,
        plan: Plan,
        source: &S,
        shape: &Shape,
        seed: u64,
        room: Room,
        mut progress: impl FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        shape.check()?;
        let mut types: Vec<BlockType> = plan.matrices.iter().map(|m| m.block_type).collect();
        types.sort_by_key(|t| *t as u32);
        types.dedup();
        cases::run_all(gpu, &cases::teach::known_answers(&types)).await?;
        gpu.scoped(async || Self::build(gpu, plan, source, shape, seed, room, &mut progress).await)
            .await
    }

    async fn build<S: Source>(
        gpu: &Gpu,
        plan: Plan,
        source: &S,
        shape: &Shape,
        seed: u64,
        room: Room,
        progress: &mut impl FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        let limit = gpu
            .limits()
            .max_storage_buffer_binding_size
            .min(gpu.limits().max_buffer_size);
        let weights: Result<Vec<Weights>> = plan
            .matrices
            .iter()
            .map(|matrix| Weights::allocate(gpu, matrix, limit))
            .collect();
        let weights = weights?;
        let mut vectors = Vec::with_capacity(plan.vectors.len());
        for vector in &plan.vectors {
            let values = vector.read(source).await?;
            let mut padded = values.clone();
            padded.resize(values.len().next_multiple_of(8), 0.0);
            vectors.push((gpu.storage_of("vector", &padded), values));
        }
        let pairs = Pairs::new(gpu, &plan, shape, seed);
        if 4 * pairs.floats as u64 > limit {
            return Err(Error::unsupported(
                format!("an adapter of {} numbers", pairs.floats),
                "adapters that fit in one binding of this device: a lower rank, or fewer layers",
            ));
        }
        let widest = pairs.places.values().map(|p| p.parts.count).max().unwrap_or(1) * pairs.padded;
        let mut pipelines = Pipelines::new(gpu);
        let mut prepared = HashMap::new();
        for step in plan.body.iter().chain(&plan.head) {
            if let Step::Linear(Linear { matrix, bias, .. }) = step {
                let place = pairs.places.get(matrix);
                let (matmul, ..) = Kernel::matmul(gpu.is_software());
                let made = prepare(
                    &mut pipelines,
                    matmul,
                    &weights[*matrix],
                    bias.is_some(),
                    place,
                    pairs.padded,
                );
                prepared.insert(*matrix, made);
            }
        }
        let vocabulary = plan.config.vocabulary;
        let chunk = (CHUNK_BYTES.min(limit as usize) / (4 * vocabulary) / 16 * 16)
            .clamp(16, room.rows.next_multiple_of(16).max(16));
        let rows = room.rows.next_multiple_of(16);
        let named = room.named.max(1).next_multiple_of(4);
        let head = Head {
            chunk,
            logits: gpu.storage("logits", (4 * chunk * vocabulary) as u64),
            teacher: Mutex::new(None),
            rows: gpu.storage("loss rows", (16 * rows) as u64),
            ids: gpu.storage("teacher's ids", (4 * rows * named) as u64),
            logprobs: gpu.storage("teacher's logprobs", (4 * rows * named) as u64),
            stats: gpu.storage("stats", (16 * rows) as u64),
            staging: gpu.staging((16 * rows) as u64),
        };
        let mut read = 0;
        for (matrix, weights) in plan.matrices.iter().zip(&weights) {
            let mut count = |bytes: u64| {
                read += bytes;
                progress(read)
            };
            weights.fill(gpu, matrix, source, &mut count).await?;
        }
        Ok(Self {
            gpu: gpu.clone(),
            weights,
            vectors,
            prepared,
            pipelines: Mutex::new(pipelines),
            room: Room { rows: room.rows, named },
            states: Mutex::new(HashMap::new()),
            tokens: gpu.storage("tokens", 4 * room.rows as u64),
            z: gpu.storage("z", (4 * room.rows * widest) as u64),
            dz: gpu.storage("dz", (4 * room.rows * widest) as u64),
            unused: gpu.storage("unused", 32),
            adam: gpu.storage("adam", size_of::<AdamStep>() as u64),
            sums: gpu.storage("sums", 4 * pairs.floats.div_ceil(RUN) as u64),
            pairs,
            head,
            plan,
        })
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The student's plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What there is room for.
    pub fn room(&self) -> Room {
        self.room
    }

    /// The trained pairs, in the order of the plan.
    pub fn names(&self) -> &[Named] {
        &self.pairs.names
    }

    /// Whether pairs lie beside a matrix.
    pub fn is_trained(&self, matrix: MatrixId) -> bool {
        self.pairs.places.contains_key(&matrix)
    }

    /// A gain's or a bias's values.
    pub fn vector(&self, id: VectorId) -> &[f32] {
        &self.vectors[id].1
    }

    fn state(&self, rows: usize) -> View {
        let mut states = self.states.lock().expect("no thread panics while it holds the states");
        let buffer = states.entry(rows).or_insert_with(|| {
            self.gpu.storage_of(
                "state",
                &[State {
                    rows: rows as u32,
                    ..State::default()
                }],
            )
        });
        View::whole(buffer)
    }

    /// One submission.
    fn run(&self, list: &[Dispatch]) {
        let mut encoder = self.gpu.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (pipeline, group, grid) in list {
                pass.set_pipeline(pipeline);
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
            }
        }
        self.gpu.count_dispatches(list.len());
        self.gpu.submit(encoder);
    }

    /// Rows of the embedding, `(T, 8 groups)`, into `x`.
    pub fn embed(&self, tokens: &[u32], x: &View) {
        let Some(Step::Embed { table, .. }) = self.plan.body.first() else {
            unreachable!("a plan begins with the embedding")
        };
        self.gpu.write(&self.tokens, 0, bytemuck::cast_slice(tokens));
        let w = &self.weights[*table];
        let state = self.state(tokens.len());
        let mut list = Vec::new();
        for part in &w.parts {
            let constants = [
                ("GROUPS", w.groups as f64),
                ("ROW_WORDS", w.row_words as f64),
                ("ROW", part.row as f64),
                ("COUNT", part.count as f64),
                ("WG", 32.0),
            ];
            let pipeline = self.pipeline(Kernel::Embed, Some(w.block_type), &constants);
            let views = [
                View::whole(&self.tokens),
                View::whole(&part.buffer),
                x.clone(),
                state.clone(),
            ];
            let group = self.gpu.bind_views(Kernel::Embed, &views);
            list.push((pipeline, group, [tokens.len() as u32, 1, 1]));
        }
        self.run(&list);
    }

    fn pipeline(
        &self,
        kernel: Kernel,
        block_type: Option<BlockType>,
        constants: &[(&'static str, f64)],
    ) -> wgpu::ComputePipeline {
        let mut pipelines = self
            .pipelines
            .lock()
            .expect("no thread panics while it holds the pipelines");
        pipelines.get(kernel, block_type, constants)
    }

    /// y = W x (+ bias) + s B (A x); x `(rows, 8 groups)`, y `(rows, N)`. `on`: with what was learned.
    pub fn product(&self, matrix: MatrixId, bias: Option<VectorId>, on: bool, x: &View, y: &View, rows: usize) {
        let mut list = Vec::new();
        self.push_product(matrix, bias, on, x, y, rows, &mut list);
        self.run(&list);
    }

    fn push_product(
        &self,
        matrix: MatrixId,
        bias: Option<VectorId>,
        on: bool,
        x: &View,
        y: &View,
        rows: usize,
        list: &mut Vec<Dispatch>,
    ) {
        let (w, prepared) = (&self.weights[matrix], &self.prepared[&matrix]);
        let (state, unused) = (self.state(rows), View::whole(&self.unused));
        let (mut b, mut z) = (unused.clone(), unused.clone());
        if let Some(pipelines) = &prepared.pairs {
            let place = &self.pairs.places[&matrix];
            self.push_z(pipelines, place, on, x, rows, list);
            (b, z) = (self.pairs.b(Memory::Values, place), View::whole(&self.z));
        }
        let bias = bias.map_or_else(|| unused.clone(), |id| View::whole(&self.vectors[id].0));
        for (part, pipelines) in w.parts.iter().zip(&prepared.parts) {
            let views = [
                x.clone(),
                View::whole(&part.buffer),
                bias.clone(),
                b.clone(),
                z.clone(),
                y.clone(),
                state.clone(),
            ];
            let (kernel, tall, wide) = Kernel::matmul(self.gpu.is_software());
            let group = self.gpu.bind_views(kernel, &views);
            let grid = [(part.count as u32).div_ceil(wide), (rows as u32).div_ceil(tall), 1];
            list.push((pipelines[0].clone(), group, grid));
        }
    }

    /// z = s (A x), into the scratch.
    fn push_z(
        &self,
        pipelines: &PairPipelines,
        place: &Place,
        on: bool,
        x: &View,
        rows: usize,
        list: &mut Vec<Dispatch>,
    ) {
        let unused = View::whole(&self.unused);
        let views = [
            x.clone(),
            self.pairs.a(Memory::Values, place),
            View::whole(if on { &self.pairs.scales } else { &self.pairs.silent }),
            unused.clone(),
            unused,
            View::whole(&self.z),
            self.state(rows),
        ];
        let (kernel, tall, wide) = Kernel::matmul(self.gpu.is_software());
        let columns = (place.parts.count * self.pairs.padded) as u32;
        let grid = [columns.div_ceil(wide), (rows as u32).div_ceil(tall), 1];
        list.push((pipelines.z.clone(), self.gpu.bind_views(kernel, &views), grid));
    }

    /// dx = W^T dy + A^T dz, and the gradients of the pairs; x and dx `(rows, 8 groups)`, dy `(rows, N)`.
    pub fn product_back(&self, matrix: MatrixId, x: &View, dy: &View, dx: &View, rows: usize) {
        let mut list = Vec::new();
        if let Some(pipelines) = &self.prepared[&matrix].pairs {
            let place = &self.pairs.places[&matrix];
            self.push_z(pipelines, place, true, x, rows, &mut list);
            let state = self.state(rows);
            let (z, dz) = (View::whole(&self.z), View::whole(&self.dz));
            let b = self.pairs.b(Memory::Values, place);
            let wide = place.parts.count * self.pairs.padded;
            let scales = View::whole(&self.pairs.scales);
            let views = [dy.clone(), b, scales, dz.clone(), state.clone()];
            let group = self.gpu.bind_views(Kernel::LoraBack, &views);
            list.push((pipelines.dz.clone(), group, [rows.div_ceil(4) as u32, 1, 1]));
            let views = [dy.clone(), z, self.pairs.b(Memory::Gradient, place), state.clone()];
            let group = self.gpu.bind_views(Kernel::LoraGrad, &views);
            let tiles = self.pairs.padded / 4 * place.rows.div_ceil(4);
            list.push((pipelines.grad_b.clone(), group, [(tiles as u32).div_ceil(WG), 1, 1]));
            let views = [dz, x.clone(), self.pairs.a(Memory::Gradient, place), state];
            let group = self.gpu.bind_views(Kernel::LoraGrad, &views);
            let tiles = place.stride / 4 * wide.div_ceil(4);
            list.push((pipelines.grad_a.clone(), group, [(tiles as u32).div_ceil(WG), 1, 1]));
        }
        self.push_back(matrix, dy, dx, rows, &mut list);
        self.run(&list);
    }

    fn push_back(&self, matrix: MatrixId, dy: &View, dx: &View, rows: usize, list: &mut Vec<Dispatch>) {
        let (w, prepared) = (&self.weights[matrix], &self.prepared[&matrix]);
        let unused = View::whole(&self.unused);
        let (a, dz) = match self.pairs.places.get(&matrix) {
            Some(place) => (self.pairs.a(Memory::Values, place), View::whole(&self.dz)),
            None => (unused.clone(), unused),
        };
        let grid = [(w.groups as u32).div_ceil(WG), rows.div_ceil(16) as u32, 1];
        for (part, pipelines) in w.parts.iter().zip(&prepared.parts) {
            let views = [
                dy.clone(),
                View::whole(&part.buffer),
                a.clone(),
                dz.clone(),
                dx.clone(),
                self.state(rows),
            ];
            let group = self.gpu.bind_views(Kernel::MatmulBack, &views);
            list.push((pipelines[1].clone(), group, grid));
        }
    }

    fn head_matrix(&self) -> MatrixId {
        match self.plan.head.as_slice() {
            [Step::Linear(Linear { matrix, .. })] => *matrix,
            _ => unreachable!("the head is one linear step"),
        }
    }

    /// Losses of the normed hidden rows `h` `(n, 8 groups)`, chunk by chunk; what they ask of `h` goes to `dh`.
    ///
    /// Errors: a lost device.
    pub async fn head_loss(
        &self,
        h: &View,
        dh: Option<&View>,
        marked: &Marked<'_>,
        dense: Dense<'_>,
        objective: &Objective,
    ) -> Result<Vec<Stats>> {
        let (n, matrix) = (marked.rows.len(), self.head_matrix());
        let (vocabulary, named) = (self.plan.config.vocabulary, self.room.named);
        assert!(
            n <= self.room.rows,
            "{n} rows where there is room for {}",
            self.room.rows
        );
        assert!(marked.ids.len() == n * named && marked.logprobs.len() == n * named);
        let (head, row) = (&self.head, 4 * 8 * self.weights[matrix].groups);
        self.gpu.write(&head.rows, 0, bytemuck::cast_slice(marked.rows));
        self.gpu.write(&head.ids, 0, bytemuck::cast_slice(marked.ids));
        self.gpu.write(&head.logprobs, 0, bytemuck::cast_slice(marked.logprobs));
        let is_dense = !matches!(dense, Dense::None);
        let mut constants = vec![("VOCABULARY", vocabulary as f64), ("WG", f64::from(self.loss_lanes()))];
        constants.extend(loss_constants(objective, named, is_dense));
        if let Some(cap) = self.plan.config.logit_cap {
            let of_head = matches!(dense, Dense::Hidden(_));
            constants.extend([
                ("CAP", f64::from(cap)),
                ("TEACHER_CAPPED", f64::from(u8::from(of_head))),
            ]);
        }
        let pipeline = self.pipeline(Kernel::Loss, None, &constants);
        let (logits, unused) = (View::whole(&head.logits), View::whole(&self.unused));
        let teacher = if is_dense { self.teacher() } else { unused };
        for first in (0..n).step_by(head.chunk) {
            let count = head.chunk.min(n - first);
            let part = |view: &View, row: usize| view.part((first * row) as u64, (count * row) as u64);
            let mut list = Vec::new();
            match dense {
                Dense::None => {}
                Dense::Logits(values) => {
                    let chunk = &values[first * vocabulary..(first + count) * vocabulary];
                    self.gpu.write(&teacher.buffer, 0, bytemuck::cast_slice(chunk));
                }
                Dense::Hidden(hidden) => {
                    self.push_product(matrix, None, true, &part(hidden, row), &teacher, count, &mut list);
                }
            }
            self.push_product(matrix, None, true, &part(h, row), &logits, count, &mut list);
            let views = [
                logits.clone(),
                part(&View::whole(&head.rows), 16),
                part(&View::whole(&head.ids), 4 * named),
                part(&View::whole(&head.logprobs), 4 * named),
                teacher.clone(),
                part(&View::whole(&head.stats), 16),
                self.state(count),
            ];
            let group = self.gpu.bind_views(Kernel::Loss, &views);
            list.push((pipeline.clone(), group, [count as u32, 1, 1]));
            if let Some(dh) = dh {
                self.push_back(matrix, &logits, &part(dh, row), count, &mut list);
            }
            self.run(&list);
        }
        let bytes = (16 * n) as u64;
        let mut encoder = self.gpu.encoder();
        encoder.copy_buffer_to_buffer(&head.stats, 0, &head.staging, 0, bytes);
        self.gpu.submit(encoder);
        let bytes = self.gpu.finish(self.gpu.map(&head.staging, bytes)).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    fn loss_lanes(&self) -> u32 {
        // Software runs lanes one after another, and pays for each barrier.
        if self.gpu.is_software() { 8 } else { 64 }
    }

    fn teacher(&self) -> View {
        let mut teacher = self
            .head
            .teacher
            .lock()
            .expect("no thread panics while it holds the buffer");
        let size = (4 * self.head.chunk * self.plan.config.vocabulary) as u64;
        View::whole(teacher.get_or_insert_with(|| self.gpu.storage("teacher's logits", size)))
    }

    /// Logits `(n, V)` of normed hidden rows.
    pub async fn head_logits(&self, h: &View, n: usize) -> Result<Vec<f32>> {
        let matrix = self.head_matrix();
        let row = 4 * 8 * self.weights[matrix].groups;
        let mut all = Vec::with_capacity(n * self.plan.config.vocabulary);
        for first in (0..n).step_by(self.head.chunk) {
            let count = self.head.chunk.min(n - first);
            let part = h.part((first * row) as u64, (count * row) as u64);
            self.product(matrix, None, true, &part, &View::whole(&self.head.logits), count);
            let bytes = (4 * count * self.plan.config.vocabulary) as u64;
            let bytes = self.gpu.read(&self.head.logits, bytes).await?;
            all.extend(bytemuck::pod_collect_to_vec::<u8, f32>(&bytes));
        }
        if let Some(cap) = self.plan.config.logit_cap {
            all.iter_mut().for_each(|z| *z = cap * (*z / cap).tanh());
        }
        Ok(all)
    }

    /// Gradients back to zero.
    pub fn zero(&self) {
        let mut encoder = self.gpu.encoder();
        encoder.clear_buffer(self.pairs.buffer(Memory::Gradient), 0, None);
        self.gpu.submit(encoder);
    }

    /// Length of the gradient over all pairs.
    pub async fn gradient_norm(&self) -> Result<f32> {
        let count = self.pairs.floats;
        let constants = [
            ("COUNT", count as f64),
            ("RUN", RUN as f64),
            ("WG", f64::from(self.loss_lanes())),
        ];
        let pipeline = self.pipeline(Kernel::GradNorm, None, &constants);
        let views = [
            View::whole(self.pairs.buffer(Memory::Gradient)),
            View::whole(&self.sums),
        ];
        let group = self.gpu.bind_views(Kernel::GradNorm, &views);
        let runs = count.div_ceil(RUN);
        self.run(&[(pipeline, group, [runs as u32, 1, 1])]);
        let bytes = self.gpu.read(&self.sums, 4 * runs as u64).await?;
        let sums: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        Ok(sums[..runs].iter().map(|s| f64::from(*s)).sum::<f64>().sqrt() as f32)
    }

    /// One step of the optimizer.
    pub fn adam(&self, numbers: &AdamStep) {
        self.gpu.write(&self.adam, 0, bytemuck::bytes_of(numbers));
        let count = self.pairs.floats;
        // Lines of the grid, below what one of its dimensions may have.
        let line = (count as u32).min(1 << 20).next_multiple_of(64);
        let constants = [("COUNT", count as f64), ("LINE", f64::from(line)), ("WG", 64.0)];
        let pipeline = self.pipeline(Kernel::Adamw, None, &constants);
        let views = [
            View::whole(self.pairs.buffer(Memory::Values)),
            View::whole(self.pairs.buffer(Memory::Gradient)),
            View::whole(self.pairs.buffer(Memory::Means)),
            View::whole(self.pairs.buffer(Memory::Squares)),
            View::whole(&self.adam),
        ];
        let group = self.gpu.bind_views(Kernel::Adamw, &views);
        self.run(&[(pipeline, group, [line / 64, (count as u32).div_ceil(line), 1])]);
    }

    /// The pairs as they are; `which` chooses what is read.
    pub async fn read(&self, which: Memory) -> Result<Vec<Pair>> {
        let buffer = self.pairs.buffer(which);
        let bytes = self.gpu.read(buffer, 4 * self.pairs.floats as u64).await?;
        Ok(self.pairs.unpack(&bytemuck::pod_collect_to_vec::<u8, f32>(&bytes)))
    }

    /// Writes one half-and-half list, in the order of [`Training::names`].
    pub fn write(&self, which: Memory, pairs: &[(&[f32], &[f32])]) {
        let values = self.pairs.pack(pairs);
        self.gpu
            .write(self.pairs.buffer(which), 0, bytemuck::cast_slice(&values));
    }
}

/// The pipelines of a matrix: they depend on its sizes alone.
fn prepare(
    pipelines: &mut Pipelines,
    matmul: Kernel,
    w: &Weights,
    bias: bool,
    place: Option<&Place>,
    padded: usize,
) -> Prepared {
    let lora = |constants: &mut Vec<(&'static str, f64)>| {
        if let Some(place) = place {
            constants.push(("LORA", 1.0));
            constants.extend(cases::lora_constants(padded, &place.parts));
        }
    };
    let mut parts = Vec::new();
    for part in &w.parts {
        let sizes = [
            ("GROUPS", w.groups as f64),
            ("ROW_WORDS", w.row_words as f64),
            ("ROW", part.row as f64),
            ("COUNT", part.count as f64),
            ("STRIDE", w.rows as f64),
        ];
        let mut forward = sizes.to_vec();
        forward.push(("BIAS", f64::from(u8::from(bias))));
        lora(&mut forward);
        let mut back = sizes.to_vec();
        back.extend([("ADD", f64::from(u8::from(part.row > 0))), ("WG", f64::from(WG))]);
        // The pairs' share is added once.
        if part.row == 0 {
            lora(&mut back);
        }
        parts.push([
            pipelines.get(matmul, Some(w.block_type), &forward),
            pipelines.get(Kernel::MatmulBack, Some(w.block_type), &back),
        ]);
    }
    let pairs = place.map(|place| {
        let wide = place.parts.count * padded;
        let z = [
            ("GROUPS", groups(place.columns) as f64),
            ("ROW_WORDS", row_words(BlockType::F32, place.columns) as f64),
            ("ROW", 0.0),
            ("COUNT", wide as f64),
            ("STRIDE", wide as f64),
            ("SCALED", 1.0),
            ("RANK", padded as f64),
        ];
        let mut dz = vec![("COUNT", place.rows as f64), ("WG", f64::from(WG))];
        let grad = |count: usize, width: usize, wide: usize, pick: bool| {
            let mut constants = vec![
                ("COUNT", count as f64),
                ("WIDTH", width as f64),
                ("WIDE", wide as f64),
                ("PICK", f64::from(u8::from(pick))),
                ("WG", f64::from(WG)),
            ];
            constants.extend(cases::lora_constants(padded, &place.parts));
            constants
        };
        dz.extend(cases::lora_constants(padded, &place.parts));
        PairPipelines {
            z: pipelines.get(matmul, Some(BlockType::F32), &z),
            dz: pipelines.get(Kernel::LoraBack, None, &dz),
            grad_a: pipelines.get(Kernel::LoraGrad, None, &grad(wide, place.stride, place.stride, false)),
            grad_b: pipelines.get(Kernel::LoraGrad, None, &grad(place.rows, padded, wide, true)),
        }
    });
    Prepared { parts, pairs }
}
