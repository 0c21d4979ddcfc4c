//! Known answers: for each kernel a case of seeded inputs and what its CPU twin makes of them.
//!
//! The tests run these with awkward shapes; when a device is first met, [`self_test`] runs small ones, and a device whose
//! answers are wrong gets the plainer kernels, or the CPU, instead of gibberish.

pub mod recurrent;
pub mod teach;

use super::State;
use super::device::Gpu;
use super::kernels::{Access, Kernel, Kinds};
use super::pipelines::Pipelines;
use crate::cpu::attend::Scores;
use crate::cpu::cache::Rows;
use crate::cpu::matvec::Fused;
use crate::cpu::rope_append::Heads;
use crate::cpu::{self, Weights};
use crate::error::{Error, Result};
use crate::format::BlockType;
use crate::format::repack::{groups, repack_row, row_words};
pub use crate::model::chance::Numbers;
use crate::model::lora::Parts;
use crate::model::{Activation, Adjustment, CacheType, QkNorm, RopeStyle, Sampling};

/// A buffer of a case: what goes in, and what the twin says should come out.
pub struct Binding {
    /// Contents before.
    pub input: Vec<u8>,
    /// Contents after, where the kernel writes; `None` where the case does not look.
    pub expected: Option<Expected>,
}

/// What should come out of a buffer.
pub enum Expected {
    /// Numbers, within [`Case::tolerance`].
    F32(Vec<f32>),
    /// Rows of a KV cache: their numbers within [`Case::tolerance`], whatever their words.
    Rows(Rows),
    /// Exactly these words.
    Words(Vec<u32>),
}

/// One run of one kernel.
pub struct Case {
    /// Which.
    pub kernel: Kernel,
    /// What its matrix and its cache hold.
    pub kinds: Kinds,
    /// Its overrides.
    pub constants: Vec<(&'static str, f64)>,
    /// Its buffers in order.
    pub bindings: Vec<Binding>,
    /// Its grid.
    pub grid: [u32; 3],
    /// Most normalised mean squared error: sum (a - b)^2 / sum b^2.
    pub tolerance: f64,
}

/// The default tolerance for f32 sums.
pub const NMSE: f64 = 1e-7;
/// Most error of numbers that were rounded into a cache. Device and twin may differ in the last bit of what they round, and WGSL
/// leaves open how f16 rounds: a step of f16 is at most 2^-11 of a number, and (2^-11)^2 = 2.4e-7 of its square. A step of q8 that
/// one number of 128 takes the other way is 1.5e-6 of all squares; if all were cut off instead of rounded, it would be 1e-4.
fn rounded(cache_type: CacheType) -> f64 {
    match cache_type {
        CacheType::F32 => NMSE,
        CacheType::F16 => 1e-6,
        CacheType::Q8 => 1e-5,
    }
}

/// What stands behind each output: a kernel that writes there is wrong.
const SENTINEL: f32 = 7.25;
const SENTINELS: usize = 8;

/// Rows of random blocks: random quants, and scales near `1 / 64` so that sums stay moderate.
pub fn weights(numbers: &mut Numbers, block_type: BlockType, rows: usize, columns: usize) -> Weights {
    let row = block_type.row_bytes(columns).expect("cases have whole blocks");
    let mut bytes: Vec<u8> = (0..row * rows).map(|_| numbers.bits() as u8).collect();
    let half = |value: f32| half::f16::from_f32(value).to_le_bytes();
    let (scale, small) = (half(1.0 / 64.0), half(-1.0 / 32.0));
    let (tiny, tinier) = (half(1.0 / 1024.0), half(1.0 / 16384.0));
    for block in bytes.chunks_exact_mut(block_type.block_bytes()) {
        match block_type {
            BlockType::F32 => block.copy_from_slice(&numbers.signed().to_le_bytes()),
            BlockType::F16 => block.copy_from_slice(&half::f16::from_f32(numbers.signed()).to_le_bytes()),
            BlockType::BF16 => block.copy_from_slice(&half::bf16::from_f32(numbers.signed()).to_le_bytes()),
            BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q8_0 => block[..2].copy_from_slice(&scale),
            BlockType::Q4_1 | BlockType::Q5_1 => {
                block[..2].copy_from_slice(&scale);
                block[2..4].copy_from_slice(&small);
            }
            BlockType::Q4_K | BlockType::Q5_K => {
                block[..2].copy_from_slice(&tiny);
                block[2..4].copy_from_slice(&tiny);
            }
            BlockType::Q6_K => block[208..].copy_from_slice(&half(1.0 / 2048.0)),
            BlockType::Q2_K => {
                block[80..82].copy_from_slice(&tiny);
                block[82..].copy_from_slice(&tiny);
            }
            BlockType::Q3_K => block[108..].copy_from_slice(&tiny),
            BlockType::IQ4_XS => block[..2].copy_from_slice(&tinier),
            BlockType::IQ1_S | BlockType::Q1_0 | BlockType::Q2_0 => block[..2].copy_from_slice(&scale),
            BlockType::IQ2_XXS
            | BlockType::IQ2_XS
            | BlockType::IQ2_S
            | BlockType::IQ3_XXS
            | BlockType::IQ3_S
            | BlockType::IQ4_NL => block[..2].copy_from_slice(&tiny),
            // Its f16 lies in the upper nibbles of four words; 0x2400 is 1 / 64.
            BlockType::IQ1_M => {
                for (at, nibble) in [(49, 0), (51, 0), (53, 4), (55, 2)] {
                    block[at] = block[at] & 15 | nibble << 4;
                }
            }
            BlockType::MXFP4 => block[0] = 120 + block[0] % 4,
            BlockType::NVFP4 => block[..4].iter_mut().for_each(|byte| *byte = *byte & 7 | 8),
            BlockType::TQ1_0 => block[52..].copy_from_slice(&scale),
            BlockType::TQ2_0 => block[64..].copy_from_slice(&scale),
        }
    }
    Weights {
        block_type,
        rows,
        columns,
        bytes,
    }
}

fn bytes<T: bytemuck::Pod>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

fn read<T: bytemuck::Pod>(values: &[T]) -> Binding {
    let mut input = bytes(values);
    input.resize(input.len().max(32), 0);
    Binding { input, expected: None }
}

fn write_f32(before: &[f32], expected: Vec<f32>) -> Binding {
    let mut input = before.to_vec();
    input.resize(expected.len(), 0.0);
    input.extend([SENTINEL; SENTINELS]);
    let mut expected = expected;
    expected.extend([SENTINEL; SENTINELS]);
    Binding {
        input: bytes(&input),
        expected: Some(Expected::F32(expected)),
    }
}

fn state(position: usize, rows: usize) -> Binding {
    read(&[State {
        position: position as u32,
        rows: rows as u32,
        ..State::default()
    }])
}

fn packed(weights: &Weights) -> Binding {
    let words = row_words(weights.block_type, weights.columns);
    let row = weights.bytes.len() / weights.rows;
    let mut out = vec![0u32; words * weights.rows];
    for (from, to) in weights.bytes.chunks_exact(row).zip(out.chunks_exact_mut(words)) {
        repack_row(weights.block_type, weights.columns, from, to);
    }
    read(&out)
}

/// Rows `(T, columns)` with each row filled up to whole groups of eight.
fn padded(values: &[f32], columns: usize) -> Vec<f32> {
    let stride = 8 * groups(columns);
    values
        .chunks_exact(columns)
        .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, stride - columns)))
        .collect()
}

fn activation(gelu: bool) -> Activation {
    if gelu { Activation::Gelu } else { Activation::Silu }
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// A case of `embed`: `rows` tokens from a table `(vocabulary, columns)`, of which the part from `row` on is bound.
/// With `row`, rows are multiplied by 3 as well.
pub fn embed(seed: u64, block_type: BlockType, vocabulary: usize, columns: usize, rows: usize, row: usize) -> Case {
    let factor = if row > 0 { 3.0 } else { 1.0 };
    let mut numbers = Numbers(seed);
    let table = weights(&mut numbers, block_type, vocabulary, columns);
    let tokens: Vec<u32> = (0..rows).map(|_| (numbers.bits() % vocabulary as u64) as u32).collect();
    let mut x = vec![0.0; rows * columns];
    cpu::embed::embed(&table, &tokens, factor, &mut x);
    let before = vec![0.5; rows * 8 * groups(columns)];
    let mut expected = padded(&x, columns);
    // A part writes the rows of its own tokens and no others.
    for (t, token) in tokens.iter().enumerate() {
        if (*token as usize) < row {
            expected[t * 8 * groups(columns)..(t + 1) * 8 * groups(columns)].fill(0.5);
        }
    }
    let bytes_per_row = table.bytes.len() / vocabulary;
    let part = Weights {
        rows: vocabulary - row,
        bytes: table.bytes[row * bytes_per_row..].to_vec(),
        ..table
    };
    Case {
        kernel: Kernel::Embed,
        kinds: Some(block_type).into(),
        constants: vec![
            ("GROUPS", groups(columns) as f64),
            ("ROW_WORDS", row_words(block_type, columns) as f64),
            ("ROW", row as f64),
            ("COUNT", (vocabulary - row) as f64),
            ("FACTOR", f64::from(factor)),
            ("WG", 16.0),
        ],
        bindings: vec![
            read(&tokens),
            packed(&part),
            write_f32(&before, expected),
            state(0, rows),
        ],
        grid: [rows as u32, 1, 1],
        tolerance: NMSE,
    }
}

/// What a case of `matvec` does besides multiplying.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras {
    /// RMS norm in front.
    pub norm: bool,
    /// Bias behind.
    pub bias: bool,
    /// Added to y.
    pub add: bool,
    /// act(gate) up of pairs of rows.
    pub gate: bool,
    /// The gate is a GELU.
    pub gelu: bool,
    /// Results are multiplied by 0.3.
    pub factor: bool,
    /// Results are capped at 1.5.
    pub cap: bool,
    /// Results two apart from 1 on.
    pub spread: bool,
    /// Multiplied by one of 8 factors in turn.
    pub scaled: bool,
    /// Adapters of this rank beside the matrix; 0: none.
    pub rank: usize,
    /// The matrix is two tensors in turn; else three, one after another.
    pub turn: bool,
}

/// Adapters of a case.
struct Beside {
    b: Vec<f32>,
    z: Vec<f32>,
    rank: usize,
    parts: Parts,
}

impl Beside {
    fn twin(&self) -> cpu::Lora<'_> {
        cpu::Lora {
            b: &self.b,
            z: &self.z,
            rank: self.rank,
            parts: self.parts,
        }
    }

    fn constants(lora: Option<&Self>, scale: Option<&[f32]>) -> Vec<(&'static str, f64)> {
        let mut all = vec![("LORA", flag(lora.is_some())), ("SCALED", flag(scale.is_some()))];
        match lora {
            Some(lora) => all.extend(lora_constants(lora.rank, &lora.parts)),
            None => all.push(("RANK", scale.map_or(8, <[f32]>::len) as f64)),
        }
        all
    }
}

/// The overrides of `lib/lora.wgsl`.
pub fn lora_constants(rank: usize, parts: &Parts) -> [(&'static str, f64); 5] {
    let bound = |i: usize| parts.bounds[i].min(u32::MAX as usize) as f64;
    [
        ("RANK", rank as f64),
        ("PARTS", parts.count as f64),
        ("TURN", parts.turn as f64),
        ("BOUND1", bound(0)),
        ("BOUND2", bound(1)),
    ]
}

/// Factors and adapters that a case asks for.
fn adapters(numbers: &mut Numbers, extras: Extras, tokens: usize, rows: usize) -> (Option<Vec<f32>>, Option<Beside>) {
    let scale = extras.scaled.then(|| numbers.vector(8));
    let lora = (extras.rank > 0).then(|| {
        let parts = if extras.turn {
            Parts {
                count: 2,
                turn: 2,
                bounds: [rows / 2, usize::MAX],
            }
        } else {
            Parts {
                count: 3,
                turn: 1,
                bounds: [rows / 3, rows / 2],
            }
        };
        Beside {
            b: numbers.vector(rows * extras.rank),
            z: numbers.vector(tokens * parts.count * extras.rank),
            rank: extras.rank,
            parts,
        }
    });
    (scale, lora)
}

/// A case of `matvec`: `(rows, columns)` times one row, with a workgroup of `lanes`.
pub fn matvec(seed: u64, block_type: BlockType, rows: usize, columns: usize, extras: Extras, lanes: u32) -> Case {
    let mut numbers = Numbers(seed);
    let w = weights(&mut numbers, block_type, rows, columns);
    let x = numbers.vector(columns);
    let gain = numbers.vector(columns);
    let bias = numbers.vector(rows);
    let (first, step) = if extras.spread { (1, 2) } else { (0, 1) };
    let before = numbers.vector(if extras.gate { rows / 2 } else { first + step * rows });
    let epsilon = 1e-5;
    let mut y = before.clone();
    let (scale, lora) = adapters(&mut numbers, extras, 1, rows);
    let fused = Fused {
        norm: extras.norm.then_some((gain.as_slice(), epsilon)),
        bias: extras.bias.then_some(bias.as_slice()),
        add: extras.add,
        gate: extras.gate.then_some(activation(extras.gelu)),
        factor: extras.factor.then_some(0.3),
        cap: extras.cap.then_some(1.5),
        scale: scale.as_deref(),
        lora: lora.as_ref().map(Beside::twin),
    };
    cpu::matvec::matvec(&w, &x, fused, first, step, &mut y);
    let factors = scale.as_ref().unwrap_or(&bias);
    let mut constants = Beside::constants(lora.as_ref(), scale.as_deref());
    Case {
        kernel: Kernel::Matvec,
        kinds: Some(block_type).into(),
        constants: {
            constants.extend([
                ("GROUPS", groups(columns) as f64),
                ("COLUMNS", columns as f64),
                ("ROW_WORDS", row_words(block_type, columns) as f64),
                ("ROW", 0.0),
                ("COUNT", rows as f64),
                ("FIRST", first as f64),
                ("STEP", step as f64),
                ("NORM", flag(extras.norm)),
                ("BIAS", flag(extras.bias)),
                ("ADD", flag(extras.add)),
                ("GATE", flag(extras.gate)),
                ("GELU", flag(extras.gelu)),
                ("FACTOR", if extras.factor { f64::from(0.3f32) } else { 1.0 }),
                ("CAP", if extras.cap { 1.5 } else { 0.0 }),
                ("EPS", f64::from(epsilon)),
                ("WG", f64::from(lanes)),
            ]);
            constants
        },
        bindings: vec![
            read(&padded(&x, columns)),
            packed(&w),
            read(&padded(&gain, columns)),
            read(factors),
            read(lora.as_ref().map_or(&bias, |l| &l.b)),
            read(lora.as_ref().map_or(&bias, |l| &l.z)),
            write_f32(&before, y),
            state(3, 1),
        ],
        grid: [rows.div_ceil(4).div_ceil(2) as u32, 2, 1],
        tolerance: NMSE,
    }
}

/// A case of `matmul`: `(rows, columns)` times `tokens` rows.
pub fn matmul(seed: u64, block_type: BlockType, tokens: usize, rows: usize, columns: usize, extras: Extras) -> Case {
    let mut numbers = Numbers(seed);
    let w = weights(&mut numbers, block_type, rows, columns);
    let x = numbers.vector(tokens * columns);
    let bias = numbers.vector(rows);
    let (first, step) = if extras.spread { (1, 2) } else { (0, 1) };
    let stride = first + step * rows + 3;
    let before = numbers.vector(tokens * stride);
    let mut y = before.clone();
    let (scale, lora) = adapters(&mut numbers, extras, tokens, rows);
    let fused = cpu::matmul::Fused {
        bias: extras.bias.then_some(bias.as_slice()),
        add: extras.add,
        factor: extras.factor.then_some(0.3),
        scale: scale.as_deref(),
        lora: lora.as_ref().map(Beside::twin),
    };
    cpu::matmul::matmul(&w, &x, fused, first, step, stride, &mut y);
    let factors = scale.as_ref().unwrap_or(&bias);
    let mut constants = Beside::constants(lora.as_ref(), scale.as_deref());
    Case {
        kernel: Kernel::Matmul,
        kinds: Some(block_type).into(),
        constants: {
            constants.extend([
                ("GROUPS", groups(columns) as f64),
                ("ROW_WORDS", row_words(block_type, columns) as f64),
                ("ROW", 0.0),
                ("COUNT", rows as f64),
                ("FIRST", first as f64),
                ("STEP", step as f64),
                ("STRIDE", stride as f64),
                ("BIAS", flag(extras.bias)),
                ("ADD", flag(extras.add)),
                ("FACTOR", if extras.factor { f64::from(0.3f32) } else { 1.0 }),
            ]);
            constants
        },
        bindings: vec![
            read(&padded(&x, columns)),
            packed(&w),
            read(factors),
            read(lora.as_ref().map_or(&bias, |l| &l.b)),
            read(lora.as_ref().map_or(&bias, |l| &l.z)),
            write_f32(&before, y),
            state(0, tokens),
        ],
        grid: [rows.div_ceil(64) as u32, tokens.div_ceil(32) as u32, 1],
        tolerance: NMSE,
    }
}

/// The same case for the version without workgroup memory.
pub fn direct(case: Case) -> Case {
    let (kernel, tall, wide) = Kernel::matmul(true);
    let number = |name: &str| {
        case.constants
            .iter()
            .find(|(n, _)| *n == name)
            .map_or(0.0, |(_, value)| *value) as u32
    };
    let state: Vec<u32> = bytemuck::pod_collect_to_vec(&case.bindings[6].input);
    Case {
        kernel,
        grid: [number("COUNT").div_ceil(wide), state[1].div_ceil(tall), 1],
        ..case
    }
}

/// A case of `rms_norm` on `(rows, columns)`; `add`: added to y times this.
pub fn rms_norm(seed: u64, rows: usize, columns: usize, add: Option<f32>, lanes: u32) -> Case {
    let mut numbers = Numbers(seed);
    let x = numbers.vector(rows * columns);
    let gain = numbers.vector(columns);
    let epsilon = 1e-5;
    let before = match add {
        Some(_) => numbers.vector(x.len()),
        None => vec![0.0; x.len()],
    };
    let mut y = before.clone();
    match add {
        Some(factor) => cpu::rms_norm::add_rms_norm(&x, &gain, epsilon, factor, &mut y),
        None => cpu::rms_norm::rms_norm(&x, &gain, epsilon, &mut y),
    }
    let expected = padded(&y, columns);
    Case {
        kernel: Kernel::RmsNorm,
        kinds: Kinds::default(),
        constants: vec![
            ("GROUPS", groups(columns) as f64),
            ("COLUMNS", columns as f64),
            ("EPS", f64::from(epsilon)),
            ("ADD", flag(add.is_some())),
            ("FACTOR", f64::from(add.unwrap_or(1.0))),
            ("WG", f64::from(lanes)),
        ],
        bindings: vec![
            read(&padded(&x, columns)),
            read(&padded(&gain, columns)),
            write_f32(&padded(&before, columns), expected),
            state(0, rows),
        ],
        grid: [rows as u32 + 1, 1, 1],
        tolerance: NMSE,
    }
}

/// A case of `swiglu` on `(rows, 2 width)`.
pub fn swiglu(seed: u64, rows: usize, width: usize, gelu: bool) -> Case {
    let mut numbers = Numbers(seed);
    let x: Vec<f32> = numbers.vector(rows * 2 * width).iter().map(|v| 8.0 * v).collect();
    let mut y = vec![0.0; rows * width];
    cpu::swiglu::swiglu(&x, activation(gelu), &mut y);
    let stride = 8 * groups(width);
    Case {
        kernel: Kernel::Swiglu,
        kinds: Kinds::default(),
        constants: vec![
            ("IN", 2.0 * width as f64),
            ("OUT", stride as f64),
            ("WIDTH", width as f64),
            ("GELU", flag(gelu)),
        ],
        bindings: vec![read(&x), write_f32(&[], padded(&y, width)), state(0, rows)],
        grid: [width.div_ceil(64) as u32, rows as u32, 1],
        tolerance: NMSE,
    }
}

fn turns(positions: usize, rotary: usize) -> Vec<f32> {
    (0..positions * rotary / 2)
        .flat_map(|i| {
            let (sin, cos) = (0.37 * i as f32).sin_cos();
            [cos, sin]
        })
        .collect()
}

/// A case of `rope_append`: `rows` rows from `position` on, into a ring of `ring` positions (0: the whole context).
pub fn rope_append(
    seed: u64,
    shape: Heads,
    position: usize,
    rows: usize,
    ring: usize,
    cache_type: CacheType,
    lanes: u32,
) -> Case {
    let Heads {
        heads,
        kv_heads,
        head_dim,
        rotary,
        style,
        gated,
        qk_norm,
    } = shape;
    let mut numbers = Numbers(seed);
    let width = (heads * if gated { 2 } else { 1 } + 2 * kv_heads) * head_dim;
    let qkv = numbers.vector(rows * width);
    let gains = numbers.vector((heads + kv_heads) * head_dim);
    let context = position + rows + 1;
    let turns = turns(context, rotary);
    let epsilon = 1e-6;
    let mut q = vec![0.0; rows * heads * head_dim];
    let positions = if ring > 0 { ring } else { context };
    let mut k = Rows::new(cache_type, head_dim, positions * kv_heads);
    let mut v = k.clone();
    cpu::rope_append::rope_append(shape, position, &qkv, &gains, epsilon, &turns, &mut q, &mut k, &mut v);
    let cache = |rows: Rows| Binding {
        input: vec![0; 4 * rows.words().len()],
        expected: Some(Expected::Rows(rows)),
    };
    Case {
        kernel: Kernel::RopeAppend,
        kinds: cache_type.into(),
        constants: vec![
            ("STRIDE", width as f64),
            ("HEADS", heads as f64),
            ("KV_HEADS", kv_heads as f64),
            ("HEAD", head_dim as f64),
            ("ROTARY", rotary as f64),
            ("NEOX", flag(style == RopeStyle::Halves)),
            ("GATED", flag(gated)),
            ("QK_NORM", super::engine::qk_norm_constant(qk_norm)),
            ("RING", ring as f64),
            ("EPS", f64::from(epsilon)),
            ("WG", f64::from(lanes)),
        ],
        bindings: vec![
            read(&qkv),
            read(&gains),
            read(&turns),
            write_f32(&[], q),
            cache(k),
            cache(v),
            state(position, rows),
        ],
        grid: [(heads + 2 * kv_heads) as u32, rows as u32, 1],
        tolerance: rounded(cache_type),
    }
}

/// A case of `attend`: `rows` rows from `position` on, in tiles of `queries` rows, over `splits`. Where a row sees a window only,
/// the caches are rings that just hold what the rows see.
pub fn attend(
    seed: u64,
    shape: Heads,
    scores: Scores,
    position: usize,
    rows: usize,
    splits: usize,
    group: usize,
    queries: usize,
    cache_type: CacheType,
) -> Case {
    let Heads {
        heads,
        kv_heads,
        head_dim,
        ..
    } = shape;
    let width = 16;
    let mut numbers = Numbers(seed);
    let q: Vec<f32> = numbers
        .vector(rows * heads * head_dim)
        .iter()
        .map(|v| 3.0 * v)
        .collect();
    let context = position + rows + 3;
    let ring = scores.window.map_or(0, |window| window + rows - 1);
    let positions = if ring > 0 { ring } else { context };
    let [k, v] = [(); 2].map(|()| Rows::of(cache_type, head_dim, &numbers.vector(positions * kv_heads * head_dim)));
    let mut parts = vec![0.0; rows * heads * splits * head_dim];
    let mut marks = vec![0.0; rows * heads * splits * 2];
    cpu::attend::attend(
        shape, scores, position, splits, width, queries, &q, &k, &v, &mut parts, &mut marks,
    );
    Case {
        kernel: Kernel::Attend,
        kinds: cache_type.into(),
        constants: vec![
            ("HEADS", heads as f64),
            ("KV_HEADS", kv_heads as f64),
            ("HEAD", head_dim as f64),
            ("GROUP", group as f64),
            ("QUERIES", queries as f64),
            ("SPLITS", splits as f64),
            ("SCALE", f64::from(scores.scale)),
            ("CAP", f64::from(scores.cap.unwrap_or(0.0))),
            ("WINDOW", scores.window.unwrap_or(0) as f64),
            ("RING", ring as f64),
            ("WG", width as f64),
        ],
        bindings: vec![
            read(&q),
            read(k.words()),
            read(v.words()),
            write_f32(&[], parts),
            write_f32(&[], marks),
            state(position, rows),
        ],
        grid: [(heads / group) as u32, splits as u32, rows.div_ceil(queries) as u32],
        tolerance: NMSE,
    }
}

/// A case of `combine`: `rows` rows of `heads` heads from `splits`, one of which saw nothing.
pub fn combine(seed: u64, rows: usize, heads: usize, head_dim: usize, splits: usize) -> Case {
    let mut numbers = Numbers(seed);
    let parts = numbers.vector(rows * heads * splits * head_dim);
    let marks: Vec<f32> = (0..rows * heads * splits)
        .flat_map(|i| {
            if splits > 1 && i % splits == splits - 1 {
                [cpu::attend::LOW, 0.0]
            } else {
                [6.0 * numbers.signed(), 2.0 + numbers.signed()]
            }
        })
        .collect();
    let mut y = vec![0.0; rows * heads * head_dim];
    cpu::combine::combine(splits, head_dim, &parts, &marks, &mut y);
    Case {
        kernel: Kernel::Combine,
        kinds: Kinds::default(),
        constants: vec![
            ("HEADS", heads as f64),
            ("HEAD", head_dim as f64),
            ("SPLITS", splits as f64),
        ],
        bindings: vec![read(&parts), read(&marks), write_f32(&[], y), state(0, rows)],
        grid: [(heads * head_dim / 4).div_ceil(64) as u32, rows as u32, 1],
        tolerance: NMSE,
    }
}

/// A case of `sample` over `vocabulary` logits, `ties` of which are equal to others.
pub fn sample(seed: u64, vocabulary: usize, sampling: Sampling, draw: u32, ties: bool) -> Case {
    sample_allowed(seed, vocabulary, None, sampling, draw, ties)
}

/// A case of `sample` where, with `allowed`, about one token of so many may be drawn.
pub fn sample_allowed(
    seed: u64,
    vocabulary: usize,
    allowed: Option<usize>,
    sampling: Sampling,
    draw: u32,
    ties: bool,
) -> Case {
    let mut numbers = Numbers(seed);
    let mut logits: Vec<f32> = numbers.vector(vocabulary).iter().map(|v| 6.0 * v).collect();
    if ties {
        // Few distinct values: the order of equals decides.
        for value in &mut logits {
            *value = value.round();
        }
    }
    let mask: Option<Vec<u32>> = allowed.map(|one_of| {
        let mut mask = vec![0u32; vocabulary.div_ceil(32)];
        // One is allowed for sure.
        mask[vocabulary / 64] |= 1 << (vocabulary / 2 % 32);
        for (i, value) in numbers.vector(vocabulary).iter().enumerate() {
            if (value.to_bits() as usize).is_multiple_of(one_of) {
                mask[i / 32] |= 1 << (i % 32);
            }
        }
        mask
    });
    let token = cpu::sample::sample_allowed(&logits, mask.as_deref(), &sampling, draw);
    let before = State {
        position: 11,
        rows: 5,
        head_row: 4,
        draw,
        seed: sampling.seed,
        top_k: sampling.top_k,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        typical_p: sampling.typical_p,
    };
    let after = State {
        position: 16,
        rows: 1,
        head_row: 0,
        draw: draw + 1,
        ..before
    };
    Case {
        kernel: Kernel::Sample,
        kinds: Kinds::default(),
        constants: vec![
            ("VOCABULARY", vocabulary as f64),
            ("MASKED", f64::from(u8::from(mask.is_some()))),
            ("TYPICAL", f64::from(u8::from(sampling.typical_p < 1.0))),
        ],
        bindings: vec![
            read(&logits),
            read(&mask.unwrap_or_else(|| vec![0])),
            Binding {
                input: bytes(&[0u32, 99]),
                expected: Some(Expected::Words(vec![token, 99])),
            },
            Binding {
                input: bytes(&[before]),
                expected: Some(Expected::Words(bytemuck::pod_collect_to_vec(bytemuck::bytes_of(
                    &after,
                )))),
            },
        ],
        grid: [1, 1, 1],
        tolerance: 0.0,
    }
}

/// A case of `adjust`: `count` of `vocabulary` logits are moved.
pub fn adjust(seed: u64, vocabulary: usize, count: usize) -> Case {
    let mut numbers = Numbers(seed);
    let logits: Vec<f32> = numbers.vector(vocabulary).iter().map(|v| 6.0 * v).collect();
    let amounts = numbers.vector(3 * count);
    let list: Vec<Adjustment> = (0..count)
        .map(|i| Adjustment {
            // 7 shares no factor with the sizes of the tests: ids come once.
            id: (7 * i % vocabulary) as u32,
            bias: amounts[3 * i],
            repeat: 1.0 + amounts[3 * i + 1].abs(),
            minus: 4.0 * amounts[3 * i + 2],
        })
        .collect();
    let mut moved = logits.clone();
    cpu::adjust::adjust(&mut moved, &list);
    let mut words = vec![count as u32, 0, 0, 0];
    words.extend_from_slice(bytemuck::cast_slice(&list));
    Case {
        kernel: Kernel::Adjust,
        kinds: Kinds::default(),
        constants: Vec::new(),
        bindings: vec![write_f32(&logits, moved), read(&words)],
        grid: [1, 1, 1],
        tolerance: NMSE,
    }
}

/// sum (a - b)^2 / sum b^2; infinite where `a` is not finite.
pub fn nmse(actual: &[f32], expected: &[f32]) -> f64 {
    let mut error = 0.0;
    let mut power = 0.0;
    for (a, b) in actual.iter().zip(expected) {
        error += (f64::from(*a) - f64::from(*b)).powi(2);
        power += f64::from(*b).powi(2);
    }
    if error.is_finite() {
        error / power.max(1e-30)
    } else {
        f64::INFINITY
    }
}

/// Runs a case; the error of the worst output, or what was wrong in words.
pub async fn run(gpu: &Gpu, pipelines: &mut Pipelines, case: &Case) -> Result<f64> {
    let wrong = |what: String| Error::Device {
        what: format!("the kernel {} {what}", case.kernel.name()),
    };
    let pipeline = pipelines.get(case.kernel, case.kinds, &case.constants);
    let buffers: Vec<_> = case.bindings.iter().map(|b| gpu.storage_of("case", &b.input)).collect();
    let group = gpu.bind(case.kernel, &buffers.iter().collect::<Vec<_>>());
    let mut encoder = gpu.encoder();
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(case.grid[0], case.grid[1], case.grid[2]);
    }
    gpu.submit(encoder);
    let mut worst: f64 = 0.0;
    for (i, binding) in case.bindings.iter().enumerate() {
        let Some(expected) = &binding.expected else { continue };
        assert_eq!(
            case.kernel.bindings()[i],
            Access::Write,
            "a case looks at what its kernel writes"
        );
        let actual = gpu.read(&buffers[i], binding.input.len() as u64).await?;
        match expected {
            Expected::Words(words) => {
                let actual: Vec<u32> = bytemuck::pod_collect_to_vec(&actual);
                if actual[..words.len()] != words[..] {
                    return Err(wrong(format!("answered {:?}, not {words:?}", &actual[..words.len()])));
                }
            }
            Expected::Rows(rows) => {
                let words = bytemuck::pod_collect_to_vec(&actual[..4 * rows.words().len()]);
                worst = worst.max(nmse(&rows.with_words(words).values(), &rows.values()));
            }
            Expected::F32(values) => {
                let actual: Vec<f32> = bytemuck::pod_collect_to_vec(&actual);
                if actual[values.len() - SENTINELS..values.len()] != [SENTINEL; SENTINELS] {
                    return Err(wrong("wrote behind its output".into()));
                }
                worst = worst.max(nmse(&actual[..values.len()], values));
            }
        }
    }
    if worst > case.tolerance {
        return Err(wrong(format!(
            "is off by {worst:.1e} where {:.0e} is allowed",
            case.tolerance
        )));
    }
    Ok(worst)
}

/// Runs a small known-answer case of every kernel that answers need, with what reads the weights and the caches of `kinds`.
///
/// Errors: the first wrong answer, in words.
pub async fn self_test(gpu: &Gpu, kinds: &[Kinds]) -> Result<()> {
    run_all(gpu, &chat_answers(gpu, kinds)).await
}

/// Runs cases until one fails.
///
/// Errors: the first wrong answer, in words.
pub async fn run_all(gpu: &Gpu, cases: &[Case]) -> Result<()> {
    gpu.scoped(async || {
        let mut pipelines = Pipelines::new(gpu);
        for case in cases {
            run(gpu, &mut pipelines, case).await?;
        }
        Ok(())
    })
    .await
}

/// A small case of each kernel that answers need.
fn chat_answers(gpu: &Gpu, kinds: &[Kinds]) -> Vec<Case> {
    let shape = Heads {
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        rotary: 16,
        style: RopeStyle::Halves,
        gated: false,
        qk_norm: QkNorm::Head,
    };
    let plain = Scores {
        scale: 0.25,
        cap: None,
        window: None,
    };
    let windowed = Scores {
        cap: Some(20.0),
        window: Some(7),
        ..plain
    };
    let lanes = super::engine::lanes(gpu, 64);
    let mut cases = vec![
        rms_norm(1, 2, 64, None, lanes),
        swiglu(2, 2, 40, false),
        swiglu(9, 1, 40, true),
        combine(6, 2, 4, 16, 3),
        sample(
            7,
            300,
            Sampling {
                seed: 5,
                ..Sampling::default()
            },
            3,
            false,
        ),
        sample(8, 300, Sampling::GREEDY, 0, true),
        sample_allowed(9, 300, Some(20), Sampling::default(), 1, false),
        sample(
            11,
            300,
            Sampling {
                typical_p: 0.6,
                ..Sampling::default()
            },
            2,
            false,
        ),
        adjust(12, 300, 70),
    ];
    for cache_type in kinds.iter().filter_map(|kinds| kinds.cache) {
        cases.push(rope_append(3, shape, 5, 2, 0, cache_type, lanes));
        cases.push(attend(4, shape, plain, 20, 1, 4, 2, 1, cache_type));
        cases.push(attend(5, shape, plain, 3, 9, 1, 2, 4, cache_type));
        cases.push(attend(10, shape, windowed, 20, 5, 1, 2, 4, cache_type));
    }
    cases.extend(recurrent::known_answers(lanes));
    for (i, block_type) in kinds.iter().filter_map(|kinds| kinds.weights).enumerate() {
        let seed = 100 + i as u64;
        cases.push(embed(seed, block_type, 5, 256, 3, 0));
        cases.push(matvec(
            seed,
            block_type,
            6,
            512,
            Extras {
                norm: true,
                ..Extras::default()
            },
            lanes,
        ));
        let many = matmul(
            seed,
            block_type,
            5,
            9,
            256,
            Extras {
                add: true,
                ..Extras::default()
            },
        );
        cases.push(if gpu.is_software() { direct(many) } else { many });
    }
    cases
}
