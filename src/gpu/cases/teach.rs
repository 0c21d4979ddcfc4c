//! Cases of the kernels that training needs.

use super::{
    Case, Kernel, Kinds, NMSE, Numbers, flag, groups, lora_constants, packed, padded, read, row_words, state, weights,
    write_f32,
};
use crate::cpu;
use crate::cpu::adamw::{AdamStep, AdamW};
use crate::cpu::loss::{Teacher, prepare};
use crate::distill::{Divergence, Objective, Tail};
use crate::format::BlockType;
use crate::gpu::kernels::loss_constants;
use crate::model::lora::Parts;

/// How a case's matrix is made of tensors: two in turn, or three one after another.
fn parts(rows: usize, turn: bool) -> Parts {
    if turn {
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
    }
}

/// A case of `matmul_back`: `tokens` rows back through `(rows, columns)`; pairs of this `rank` beside the matrix, 0: none.
pub fn matmul_back(
    seed: u64,
    block_type: BlockType,
    tokens: usize,
    rows: usize,
    columns: usize,
    rank: usize,
    add: bool,
) -> Case {
    let mut numbers = Numbers(seed);
    let w = weights(&mut numbers, block_type, rows, columns);
    let dy = numbers.vector(tokens * rows);
    let parts = parts(rows, false);
    let a = numbers.vector(parts.count * rank * columns);
    let dz = numbers.vector(tokens * parts.count * rank);
    let before = numbers.vector(tokens * columns);
    let mut dx = if add { before.clone() } else { vec![0.0; before.len()] };
    let pairs = (rank > 0).then_some((a.as_slice(), dz.as_slice()));
    cpu::matmul_back::matmul_back(&w, &dy, pairs, &mut dx);
    let mut constants = vec![
        ("GROUPS", groups(columns) as f64),
        ("ROW_WORDS", row_words(block_type, columns) as f64),
        ("ROW", 0.0),
        ("COUNT", rows as f64),
        ("STRIDE", rows as f64),
        ("ADD", flag(add)),
        ("LORA", flag(rank > 0)),
        ("WG", 16.0),
    ];
    constants.extend(lora_constants(rank.max(8), &parts));
    Case {
        kernel: Kernel::MatmulBack,
        kinds: Some(block_type).into(),
        constants,
        bindings: vec![
            read(&dy),
            packed(&w),
            read(&padded(&a, columns)),
            read(&dz),
            write_f32(&padded(&before, columns), padded(&dx, columns)),
            state(0, tokens),
        ],
        grid: [groups(columns).div_ceil(16) as u32, tokens.div_ceil(16) as u32, 1],
        tolerance: NMSE,
    }
}

/// A case of `lora_back`.
pub fn lora_back(seed: u64, tokens: usize, rows: usize, rank: usize, turn: bool) -> Case {
    let mut numbers = Numbers(seed);
    let (dy, b) = (numbers.vector(tokens * rows), numbers.vector(rows * rank));
    let (scales, parts) = (numbers.vector(rank), parts(rows, turn));
    let mut dz = vec![0.0; tokens * parts.count * rank];
    cpu::lora_back::lora_back(&dy, &b, &scales, &parts, &mut dz);
    let mut constants = vec![("COUNT", rows as f64), ("WG", 16.0)];
    constants.extend(lora_constants(rank, &parts));
    Case {
        kernel: Kernel::LoraBack,
        kinds: Kinds::default(),
        constants,
        bindings: vec![read(&dy), read(&b), read(&scales), write_f32(&[], dz), state(0, tokens)],
        grid: [tokens.div_ceil(4) as u32, 1, 1],
        tolerance: NMSE,
    }
}

/// A case of `lora_grad`: the gradient of B where `pick`, else of A.
pub fn lora_grad(seed: u64, tokens: usize, count: usize, width: usize, pick: bool, turn: bool) -> Case {
    let mut numbers = Numbers(seed);
    let parts = parts(count, turn);
    let wide = width * if pick { parts.count } else { 1 };
    let (a, b) = (numbers.vector(tokens * count), numbers.vector(tokens * wide));
    let before = numbers.vector(count * width);
    let mut g = before.clone();
    cpu::lora_grad::lora_grad(&a, &b, count, width, pick.then_some(&parts), &mut g);
    let mut constants = vec![
        ("COUNT", count as f64),
        ("WIDTH", width as f64),
        ("WIDE", wide as f64),
        ("PICK", flag(pick)),
        ("WG", 16.0),
    ];
    constants.extend(lora_constants(if pick { width } else { 8 }, &parts));
    Case {
        kernel: Kernel::LoraGrad,
        kinds: Kinds::default(),
        constants,
        bindings: vec![read(&a), read(&b), write_f32(&before, g), state(0, tokens)],
        grid: [(width / 4 * count.div_ceil(4)).div_ceil(16) as u32, 1, 1],
        tolerance: NMSE,
    }
}

/// Which teacher a case of `loss` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its words.
    Text,
    /// Its most likely tokens, of which so many.
    Sparse(usize),
    /// All its logits.
    Dense,
}

/// A case of `loss` over `rows` rows of `vocabulary` logits; the last row has text alone. `cap`: of a head with a cap.
pub fn loss(seed: u64, rows: usize, vocabulary: usize, kind: Kind, objective: Objective, cap: Option<f32>) -> Case {
    let mut numbers = Numbers(seed);
    let capped = |z: f32| cap.map_or(z, |cap| cap * (z / cap).tanh());
    let mut logits: Vec<f32> = numbers.vector(rows * vocabulary).iter().map(|v| 9.0 * v).collect();
    let dense: Vec<f32> = numbers.vector(rows * vocabulary).iter().map(|v| 7.0 * v).collect();
    let k = if let Kind::Sparse(k) = kind { k } else { 1 };
    let (mut about, mut ids, mut logprobs) = (Vec::new(), vec![0u32; rows * k], vec![0.0f32; rows * k]);
    let (mut after, mut stats) = (Vec::new(), Vec::new());
    for r in 0..rows {
        let row: Vec<f32> = logits[r * vocabulary..(r + 1) * vocabulary]
            .iter()
            .map(|z| capped(*z))
            .collect();
        let theirs: Vec<f32> = dense[r * vocabulary..(r + 1) * vocabulary]
            .iter()
            .map(|z| capped(*z))
            .collect();
        let target = (numbers.bits() % vocabulary as u64) as u32;
        // Each token once, among them the one that was said; a little is left for all others.
        let own: Vec<u32> = (0..k as u32)
            .map(|i| (target + i * (vocabulary as u32 / k as u32)) % vocabulary as u32)
            .collect();
        let said: Vec<f32> = (0..k).map(|i| -0.7 - 0.9 * i as f32).collect();
        let teacher = match kind {
            _ if r + 1 == rows => Teacher::Text,
            Kind::Text => Teacher::Text,
            Kind::Sparse(_) => Teacher::Sparse {
                ids: &own,
                logprobs: &said,
            },
            Kind::Dense => Teacher::Dense(&theirs),
        };
        let weight = 0.25;
        let mut gradient = vec![0.0; vocabulary];
        let one = cpu::loss::loss(&row, target, teacher, &objective, weight, &mut gradient);
        let slope = |z: f32| cap.map_or(1.0, |cap| 1.0 - f64::from(z / cap).powi(2));
        after.extend(gradient.iter().zip(&row).map(|(g, z)| (g * slope(*z)) as f32));
        let top = row.iter().all(|z| *z <= row[target as usize]);
        stats.extend([one.total as f32, one.ce as f32, one.divergence as f32, flag(top) as f32]);
        let at = r * k..(r + 1) * k;
        about.push(prepare(
            target,
            teacher,
            &objective,
            weight as f32,
            &mut ids[at.clone()],
            &mut logprobs[at],
        ));
    }
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(&about);
    let mut constants = vec![("VOCABULARY", vocabulary as f64), ("WG", 16.0)];
    constants.extend(loss_constants(&objective, k, kind == Kind::Dense));
    if let Some(cap) = cap {
        constants.extend([("CAP", f64::from(cap)), ("TEACHER_CAPPED", 1.0)]);
    }
    logits.truncate(after.len());
    Case {
        kernel: Kernel::Loss,
        kinds: Kinds::default(),
        constants,
        bindings: vec![
            write_f32(&logits, after),
            read(&words),
            read(&ids),
            read(&logprobs),
            read(&dense),
            write_f32(&[], stats),
            state(0, rows),
        ],
        grid: [rows as u32, 1, 1],
        tolerance: NMSE,
    }
}

/// Objectives of every kind.
pub fn objectives() -> Vec<(Kind, Objective)> {
    let mut all = Vec::new();
    let divergences = [
        Divergence::ForwardKl,
        Divergence::ReverseKl,
        Divergence::Jsd { beta: 0.3 },
        Divergence::Jsd { beta: 0.0 },
        Divergence::Jsd { beta: 1.0 },
        Divergence::SkewKl { lambda: 0.1 },
        Divergence::SkewKl { lambda: 0.0 },
    ];
    for divergence in divergences {
        for tail in [Tail::Bucket, Tail::Renormalized, Tail::TeacherRenormalized] {
            let objective = Objective {
                ce: 0.3,
                divergence,
                tail,
                ..Objective::default()
            };
            all.push((Kind::Sparse(5), objective));
        }
        for (ce, temperature) in [(0.0, 1.0), (0.4, 2.0)] {
            let objective = Objective {
                ce,
                divergence,
                temperature,
                ..Objective::default()
            };
            all.push((Kind::Dense, objective));
        }
    }
    all.push((Kind::Text, Objective::default()));
    all
}

/// A case of `grad_norm`.
pub fn grad_norm(seed: u64, count: usize, run: usize) -> Case {
    let g = Numbers(seed).vector(count);
    let sums = cpu::grad_norm::grad_norm(&g, run);
    let runs = sums.len();
    Case {
        kernel: Kernel::GradNorm,
        kinds: Kinds::default(),
        constants: vec![("COUNT", count as f64), ("RUN", run as f64), ("WG", 16.0)],
        bindings: vec![read(&g), write_f32(&[], sums)],
        grid: [runs as u32, 1, 1],
        tolerance: NMSE,
    }
}

/// A case of `adamw`: the third step of `count` numbers.
pub fn adamw(seed: u64, count: usize) -> Case {
    let mut numbers = Numbers(seed);
    let (p, g, m) = (numbers.vector(count), numbers.vector(count), numbers.vector(count));
    let v: Vec<f32> = numbers.vector(count).iter().map(|v| v * v).collect();
    let adam: AdamStep = AdamW {
        rate: 0.01,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        decay: 0.1,
        clip: Some(1.0),
    }
    .step(3, 4.0);
    let (mut p2, mut m2, mut v2) = (p.clone(), m.clone(), v.clone());
    cpu::adamw::adamw(&adam, &mut p2, &g, &mut m2, &mut v2);
    let line = 48;
    Case {
        kernel: Kernel::Adamw,
        kinds: Kinds::default(),
        constants: vec![("COUNT", count as f64), ("LINE", f64::from(line)), ("WG", 16.0)],
        bindings: vec![
            write_f32(&p, p2),
            read(&g),
            write_f32(&m, m2),
            write_f32(&v, v2),
            read(&[adam]),
        ],
        grid: [line / 16, (count as u32).div_ceil(line), 1],
        tolerance: NMSE,
    }
}

/// A small case of each, for when a device is to train: with the decoders of `block_types`.
pub fn known_answers(block_types: &[BlockType]) -> Vec<Case> {
    let mut cases = vec![
        lora_back(1, 5, 24, 8, false),
        lora_grad(2, 5, 24, 8, true, true),
        lora_grad(3, 5, 16, 32, false, false),
        grad_norm(4, 300, 128),
        adamw(5, 100),
        loss(6, 3, 40, Kind::Sparse(4), Objective::default(), None),
        loss(7, 3, 40, Kind::Sparse(4), Objective::default(), Some(6.0)),
    ];
    for (i, &block_type) in block_types.iter().enumerate() {
        cases.push(matmul_back(100 + i as u64, block_type, 18, 9, 256, 8, false));
    }
    cases
}
