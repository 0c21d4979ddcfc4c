//! Each kernel against its twin, on every tier that the adapter has, with awkward shapes.

use crate::gpu::{meet, tiers};
use understudy::cpu::attend::Scores;
use understudy::cpu::rope_append::Heads;
use understudy::distill::Objective;
use understudy::format::BlockType;
use understudy::gpu::cases::{self, Case, Extras, recurrent, teach};
use understudy::gpu::kernels::{Kernel, Kinds};
use understudy::gpu::pipelines::Pipelines;
use understudy::model::{CacheType, Mixing, QkNorm, Recurrent, RopeStyle, Sampling};

const BLOCK_TYPES: [BlockType; 28] = BlockType::ALL;

/// Types whose rows are written in another type's layout and read by its decoder: `embed` and one shape of `matvec` will do.
const SHARED: [BlockType; 6] = [
    BlockType::IQ1_M,
    BlockType::IQ2_XXS,
    BlockType::IQ2_S,
    BlockType::Q1_0,
    BlockType::TQ1_0,
    BlockType::TQ2_0,
];

fn is_shared(block_type: BlockType) -> bool {
    SHARED.contains(&block_type)
}

/// Runs the cases on each tier.
fn check(kernel: Kernel, cases: impl Fn() -> Vec<Case>) {
    let mut seen = Vec::new();
    for options in tiers() {
        let Some(gpu) = meet(kernel.name(), options) else {
            return;
        };
        if seen.contains(&gpu.tier()) {
            continue;
        }
        seen.push(gpu.tier());
        let mut pipelines = Pipelines::new(&gpu);
        let mut worst: f64 = 0.0;
        let cases = cases();
        for (i, case) in cases.iter().enumerate() {
            let constants = &case.constants;
            let result = pollster::block_on(gpu.scoped(async || cases::run(&gpu, &mut pipelines, case).await));
            match result {
                Ok(error) => worst = worst.max(error),
                Err(error) => panic!("{} case {i} {:?} {constants:?}: {error}", gpu.words(), case.kinds),
            }
        }
        println!(
            "{}: {} cases on {}, worst NMSE {worst:.1e}",
            kernel.name(),
            cases.len(),
            gpu.tier().words()
        );
    }
}

/// Columns for a block type: awkward where blocks allow it.
fn columns(block_type: BlockType) -> [usize; 2] {
    match block_type.block_len() {
        1 => [172, 20],
        32 => [96, 576],
        64 => [192, 576],
        128 => [384, 640],
        _ => [256, 768],
    }
}

#[test]
fn embed() {
    check(Kernel::Embed, || {
        BLOCK_TYPES
            .iter()
            .flat_map(|&t| {
                [
                    cases::embed(1, t, 7, columns(t)[0], 5, 0),
                    cases::embed(2, t, 9, columns(t)[1], 6, 4),
                ]
            })
            .collect()
    });
}

#[test]
fn matvec() {
    let all = |norm, bias, add, gate, spread| Extras {
        norm,
        bias,
        add,
        gate,
        spread,
        ..Extras::default()
    };
    check(Kernel::Matvec, || {
        let mut list = Vec::new();
        for (i, &t) in BLOCK_TYPES.iter().enumerate() {
            let seed = i as u64;
            let [a, b] = columns(t);
            list.push(cases::matvec(seed, t, 13, a, Extras::default(), 16));
            if is_shared(t) {
                continue;
            }
            list.push(cases::matvec(seed, t, 3, b, all(true, true, false, false, false), 64));
            list.push(cases::matvec(seed, t, 18, b, all(true, false, false, true, false), 8));
        }
        for (seed, rank, turn, gate) in [(70, 8, false, false), (71, 24, true, true), (72, 16, true, false)] {
            let beside = Extras {
                rank,
                turn,
                gate,
                ..all(true, true, false, false, false)
            };
            list.push(cases::matvec(seed, BlockType::Q8_0, 18, 64, beside, 16));
        }
        let scaled = Extras {
            scaled: true,
            norm: true,
            ..Extras::default()
        };
        list.push(cases::matvec(73, BlockType::F32, 24, 96, scaled, 8));
        list.push(cases::matvec(50, BlockType::Q8_0, 1, 32, Extras::default(), 4));
        list.push(cases::matvec(
            51,
            BlockType::Q4_0,
            7,
            2048,
            all(false, true, true, false, false),
            64,
        ));
        list.push(cases::matvec(
            52,
            BlockType::Q4_K,
            5,
            1024,
            all(true, false, false, false, true),
            32,
        ));
        let extras = [
            Extras {
                gelu: true,
                ..all(true, false, false, true, false)
            },
            Extras {
                factor: true,
                ..all(false, true, true, false, false)
            },
            Extras {
                factor: true,
                cap: true,
                ..all(true, false, false, false, false)
            },
        ];
        for (seed, extras) in (54..).zip(extras) {
            list.push(cases::matvec(seed, BlockType::Q8_0, 10, 96, extras, 16));
        }
        list.push(cases::matvec(
            53,
            BlockType::Q6_K,
            514,
            256,
            all(false, false, true, false, false),
            32,
        ));
        list
    });
}

fn matmul_cases() -> Vec<Case> {
    let mut list = Vec::new();
    for (i, &t) in BLOCK_TYPES.iter().enumerate().filter(|(_, t)| !is_shared(**t)) {
        let seed = i as u64;
        let [a, b] = columns(t);
        list.push(cases::matmul(seed, t, 1, 13, a, Extras::default()));
        list.push(cases::matmul(
            seed,
            t,
            37,
            70,
            b,
            Extras {
                bias: true,
                ..Extras::default()
            },
        ));
    }
    for (seed, rank, turn) in [(74, 8, false), (75, 24, true)] {
        let beside = Extras {
            rank,
            turn,
            bias: true,
            add: true,
            ..Extras::default()
        };
        list.push(cases::matmul(seed, BlockType::Q4_0, 35, 66, 96, beside));
    }
    let scaled = Extras {
        scaled: true,
        ..Extras::default()
    };
    list.push(cases::matmul(76, BlockType::F32, 5, 48, 40, scaled));
    let factor = Extras {
        factor: true,
        bias: true,
        add: true,
        ..Extras::default()
    };
    list.push(cases::matmul(77, BlockType::Q8_0, 19, 33, 64, factor));
    list.push(cases::matmul(
        60,
        BlockType::Q8_0,
        64,
        128,
        64,
        Extras {
            add: true,
            ..Extras::default()
        },
    ));
    list.push(cases::matmul(
        61,
        BlockType::Q4_0,
        33,
        65,
        160,
        Extras {
            spread: true,
            ..Extras::default()
        },
    ));
    list
}

#[test]
fn matmul() {
    check(Kernel::Matmul, matmul_cases);
}

#[test]
fn matmul_direct() {
    check(Kernel::MatmulDirect, || {
        matmul_cases().into_iter().map(cases::direct).collect()
    });
}

#[test]
fn rms_norm() {
    check(Kernel::RmsNorm, || {
        vec![
            cases::rms_norm(1, 1, 64, None, 16),
            cases::rms_norm(2, 5, 172, None, 64),
            cases::rms_norm(3, 3, 2048, None, 32),
            cases::rms_norm(4, 2, 4, None, 4),
            cases::rms_norm(5, 3, 172, Some(0.22), 16),
            cases::rms_norm(6, 1, 256, Some(1.0), 32),
        ]
    });
}

#[test]
fn swiglu() {
    check(Kernel::Swiglu, || {
        vec![
            cases::swiglu(1, 1, 172, false),
            cases::swiglu(2, 5, 64, false),
            cases::swiglu(3, 3, 3, false),
            cases::swiglu(4, 3, 67, true),
        ]
    });
}

fn shape(heads: usize, kv_heads: usize, head_dim: usize, rotary: usize, style: RopeStyle) -> Heads {
    normed(heads, kv_heads, head_dim, rotary, style, QkNorm::None)
}

fn normed(heads: usize, kv_heads: usize, head_dim: usize, rotary: usize, style: RopeStyle, qk_norm: QkNorm) -> Heads {
    Heads {
        heads,
        kv_heads,
        head_dim,
        rotary,
        style,
        gated: false,
        qk_norm,
    }
}

fn scores(cap: Option<f32>, window: Option<usize>) -> Scores {
    Scores {
        scale: 0.15,
        cap,
        window,
    }
}

fn gated(shape: Heads) -> Heads {
    Heads { gated: true, ..shape }
}

#[test]
fn rope_append() {
    use RopeStyle::{Halves, Pairs};
    check(Kernel::RopeAppend, || {
        let mut list = Vec::new();
        for kind in CacheType::ALL {
            list.extend([
                cases::rope_append(1, shape(8, 4, 8, 8, Pairs), 0, 1, 0, kind, 4),
                cases::rope_append(2, shape(3, 1, 64, 64, Pairs), 17, 5, 0, kind, 32),
                cases::rope_append(3, normed(4, 2, 128, 128, Halves, QkNorm::Head), 3, 2, 0, kind, 64),
                cases::rope_append(4, shape(2, 2, 96, 32, Halves), 1, 3, 0, kind, 16),
                // Norms behind the rotation and over the whole width; a ring that is gone round; nothing turned.
                cases::rope_append(5, normed(4, 2, 64, 64, Halves, QkNorm::HeadTurned), 9, 3, 0, kind, 32),
                cases::rope_append(6, normed(6, 2, 32, 24, Pairs, QkNorm::Whole), 2, 4, 0, kind, 8),
                cases::rope_append(7, shape(4, 2, 16, 16, Halves), 23, 5, 7, kind, 8),
                cases::rope_append(8, shape(4, 1, 16, 0, Pairs), 2, 3, 0, kind, 8),
                cases::rope_append(9, gated(normed(4, 2, 64, 16, Halves, QkNorm::Head)), 6, 3, 0, kind, 32),
                // Heads that blocks of 32 do not divide, and wide ones.
                cases::rope_append(10, shape(4, 2, 80, 80, Halves), 4, 3, 0, kind, 32),
                cases::rope_append(11, shape(2, 2, 20, 20, Pairs), 4, 3, 5, kind, 8),
                cases::rope_append(12, normed(4, 1, 256, 256, Halves, QkNorm::Head), 7, 3, 0, kind, 64),
            ]);
        }
        list
    });
}

#[test]
fn attend() {
    use RopeStyle::Halves;
    check(Kernel::Attend, || {
        let mut list = Vec::new();
        for kind in CacheType::ALL {
            list.extend([
                // Decode: one row, several splits, some of them empty.
                cases::attend(1, shape(8, 4, 8, 8, Halves), scores(None, None), 0, 1, 8, 2, 1, kind),
                cases::attend(2, shape(3, 1, 64, 64, Halves), scores(None, None), 41, 1, 4, 3, 1, kind),
                cases::attend(
                    3,
                    shape(14, 2, 64, 64, Halves),
                    scores(None, None),
                    130,
                    1,
                    8,
                    7,
                    1,
                    kind,
                ),
                // Prefill: tiles of rows, causal, with a cache in front and a last tile that is not full.
                cases::attend(4, shape(4, 1, 32, 32, Halves), scores(None, None), 0, 21, 1, 4, 4, kind),
                cases::attend(
                    5,
                    shape(4, 2, 128, 128, Halves),
                    scores(None, None),
                    19,
                    5,
                    1,
                    1,
                    2,
                    kind,
                ),
                // Heads that blocks of 32 do not divide, and wide ones.
                cases::attend(
                    12,
                    shape(4, 2, 80, 80, Halves),
                    scores(None, None),
                    50,
                    1,
                    8,
                    2,
                    1,
                    kind,
                ),
                cases::attend(
                    13,
                    shape(4, 2, 96, 96, Halves),
                    scores(None, None),
                    33,
                    9,
                    1,
                    2,
                    4,
                    kind,
                ),
                cases::attend(
                    14,
                    shape(4, 1, 256, 256, Halves),
                    scores(None, None),
                    70,
                    3,
                    1,
                    1,
                    2,
                    kind,
                ),
                cases::attend(
                    15,
                    shape(2, 2, 20, 20, Halves),
                    scores(None, Some(9)),
                    40,
                    5,
                    1,
                    1,
                    2,
                    kind,
                ),
                // Windows over rings, in decode and prefill, from the start and further on; caps.
                cases::attend(
                    6,
                    shape(4, 2, 32, 32, Halves),
                    scores(None, Some(16)),
                    40,
                    1,
                    8,
                    2,
                    1,
                    kind,
                ),
                cases::attend(
                    7,
                    shape(4, 2, 32, 32, Halves),
                    scores(Some(5.0), Some(33)),
                    130,
                    1,
                    2,
                    2,
                    1,
                    kind,
                ),
                cases::attend(
                    8,
                    shape(4, 1, 32, 32, Halves),
                    scores(None, Some(16)),
                    0,
                    37,
                    1,
                    4,
                    4,
                    kind,
                ),
                cases::attend(
                    9,
                    shape(4, 2, 64, 64, Halves),
                    scores(Some(2.0), Some(5)),
                    61,
                    21,
                    1,
                    2,
                    8,
                    kind,
                ),
                cases::attend(
                    10,
                    shape(4, 1, 32, 32, Halves),
                    scores(None, Some(1)),
                    3,
                    9,
                    1,
                    2,
                    4,
                    kind,
                ),
                cases::attend(
                    11,
                    shape(4, 1, 32, 32, Halves),
                    scores(Some(1.0), None),
                    3,
                    9,
                    1,
                    2,
                    4,
                    kind,
                ),
            ]);
        }
        list
    });
}

#[test]
fn combine() {
    check(Kernel::Combine, || {
        vec![
            cases::combine(1, 1, 8, 8, 8),
            cases::combine(2, 5, 3, 64, 1),
            cases::combine(3, 2, 14, 128, 3),
        ]
    });
}

#[test]
fn sample() {
    check(Kernel::Sample, || {
        let mut list = vec![
            cases::sample(1, 512, Sampling::GREEDY, 0, false),
            cases::sample(2, 1000, Sampling::GREEDY, 0, true),
            cases::sample(
                3,
                7,
                Sampling {
                    top_k: 0,
                    ..Sampling::default()
                },
                9,
                false,
            ),
        ];
        for draw in 0..40 {
            let sampling = Sampling {
                temperature: 0.3 + 0.05 * draw as f32,
                top_k: [0, 1, 5, 40, 256][draw as usize % 5],
                typical_p: [1.0, 0.9, 0.3, 0.0][draw as usize % 4],
                top_p: [1.0, 0.9, 0.5][draw as usize % 3],
                min_p: [0.0, 0.05][draw as usize % 2],
                seed: 77,
            };
            list.push(cases::sample(10 + u64::from(draw), 3001, sampling, draw, draw % 4 == 0));
            // From one token alone to nearly all.
            let one_of = [100_000, 40, 3, 1][draw as usize % 4];
            let seed = 60 + u64::from(draw);
            list.push(cases::sample_allowed(
                seed,
                3001,
                Some(one_of),
                sampling,
                draw,
                draw % 5 == 0,
            ));
            list.push(cases::sample_allowed(
                seed,
                100,
                Some(one_of),
                Sampling::GREEDY,
                draw,
                draw % 2 == 0,
            ));
        }
        list
    });
}

#[test]
fn adjust() {
    check(Kernel::Adjust, || {
        vec![
            cases::adjust(1, 300, 0),
            cases::adjust(2, 300, 1),
            cases::adjust(3, 300, 63),
            cases::adjust(4, 1000, 65),
            cases::adjust(5, 3001, 3001),
        ]
    });
}

/// Heads of a state `(head_dim, state)`, with the convolution in front.
fn heads(mixing: Mixing, heads: usize, head_dim: usize, groups: usize, state: usize) -> Recurrent {
    Recurrent {
        mixing,
        channels: heads * head_dim + 2 * groups * state,
        taps: 4,
        heads,
        head_dim,
        groups,
        state,
    }
}

#[test]
fn short_conv() {
    check(Kernel::ShortConv, || {
        let gated = recurrent::small(Mixing::ShortConv);
        let wide = Recurrent {
            channels: 136,
            taps: 5,
            ..gated
        };
        let plain = heads(Mixing::Mamba2, 3, 24, 1, 16);
        let mut list = Vec::new();
        for (i, position) in [0, 1, 2, 6].into_iter().enumerate() {
            // A step of whole turns of the ring reads and writes one slot.
            for rows in [1, 3, 7] {
                let seed = 10 * i as u64 + rows as u64;
                list.push(recurrent::short_conv(seed, gated, position, rows, false, 3));
                list.push(recurrent::short_conv(seed, wide, position, rows, false, 3));
                list.push(recurrent::short_conv(seed, plain, position, rows, true, 3));
                list.push(recurrent::short_conv(seed, plain, position, rows, false, 1));
            }
        }
        list
    });
}

/// Cases of a state: awkward rows of a head, every width of a state, one token and many.
fn scans(mixing: Mixing) -> Vec<Case> {
    vec![
        recurrent::scan(1, heads(mixing, 2, 20, 1, 32), 0, 1, 3, 16),
        recurrent::scan(2, heads(mixing, 2, 20, 2, 32), 4, 1, 3, 64),
        recurrent::scan(3, heads(mixing, 6, 12, 2, 64), 7, 9, 3, 16),
        recurrent::scan(4, heads(mixing, 4, 64, 2, 128), 2, 70, 3, 64),
        recurrent::scan(5, heads(mixing, 2, 36, 1, 256), 3, 5, 1, 16),
        recurrent::scan(6, heads(mixing, 3, 24, 3, 16), 0, 33, 2, 8),
    ]
}

#[test]
fn mamba2() {
    check(Kernel::Mamba2, || scans(Mixing::Mamba2));
}

#[test]
fn delta_net() {
    check(Kernel::DeltaNet, || scans(Mixing::DeltaNet));
}

#[test]
fn gated_norm() {
    check(Kernel::GatedNorm, || {
        vec![
            recurrent::gated_norm(1, heads(Mixing::Mamba2, 2, 20, 1, 32), 1, 16),
            recurrent::gated_norm(2, heads(Mixing::Mamba2, 6, 12, 2, 64), 5, 64),
            recurrent::gated_norm(3, heads(Mixing::DeltaNet, 6, 12, 2, 64), 3, 8),
            recurrent::gated_norm(4, heads(Mixing::DeltaNet, 2, 100, 1, 32), 2, 64),
        ]
    });
}

#[test]
fn sigmoid_gate() {
    check(Kernel::SigmoidGate, || {
        vec![
            recurrent::sigmoid_gate(1, 1, 4, 64),
            recurrent::sigmoid_gate(2, 5, 3, 20),
        ]
    });
}

#[test]
fn matmul_back() {
    check(Kernel::MatmulBack, || {
        let mut list = Vec::new();
        for (i, &t) in BLOCK_TYPES.iter().enumerate().filter(|(_, t)| !is_shared(**t)) {
            let seed = i as u64;
            let [a, b] = columns(t);
            list.push(teach::matmul_back(seed, t, 1, 13, a, 0, false));
            list.push(teach::matmul_back(seed, t, 37, 70, b, 8, true));
        }
        list.push(teach::matmul_back(40, BlockType::Q8_0, 16, 3, 32, 16, false));
        list
    });
}

#[test]
fn lora_back() {
    check(Kernel::LoraBack, || {
        vec![
            teach::lora_back(1, 1, 13, 8, false),
            teach::lora_back(2, 6, 70, 16, true),
            teach::lora_back(3, 33, 100, 32, false),
        ]
    });
}

#[test]
fn lora_grad() {
    check(Kernel::LoraGrad, || {
        vec![
            teach::lora_grad(1, 1, 13, 8, true, false),
            teach::lora_grad(2, 37, 70, 16, true, true),
            teach::lora_grad(3, 37, 48, 176, false, false),
            teach::lora_grad(4, 300, 3, 8, false, false),
        ]
    });
}

#[test]
fn loss() {
    check(Kernel::Loss, || {
        let mut list = Vec::new();
        for (i, (kind, objective)) in teach::objectives().into_iter().enumerate() {
            list.push(teach::loss(i as u64, 3, 67, kind, objective, None));
        }
        let objective = Objective::default();
        list.push(teach::loss(80, 2, 3001, teach::Kind::Sparse(64), objective, None));
        // The teacher names every token: there is no bucket for others.
        list.push(teach::loss(81, 2, 7, teach::Kind::Sparse(7), objective, None));
        // A head with a cap, and a teacher whose logits come out of the same head.
        for (i, (kind, objective)) in teach::objectives().into_iter().step_by(3).enumerate() {
            list.push(teach::loss(90 + i as u64, 3, 67, kind, objective, Some(5.0)));
        }
        list
    });
}

#[test]
fn grad_norm() {
    check(Kernel::GradNorm, || {
        vec![teach::grad_norm(1, 5, 4096), teach::grad_norm(2, 1000, 96)]
    });
}

#[test]
fn adamw() {
    check(Kernel::Adamw, || vec![teach::adamw(1, 1), teach::adamw(2, 500)]);
}

#[test]
fn known_answers_of_training_on_every_tier() {
    for options in tiers() {
        let Some(gpu) = meet("known_answers_of_training", options) else {
            return;
        };
        let result = pollster::block_on(cases::run_all(&gpu, &teach::known_answers(&BLOCK_TYPES)));
        assert_eq!(result, Ok(()), "{}", gpu.words());
    }
}

#[test]
fn self_test_passes_on_every_tier() {
    for options in tiers() {
        let Some(gpu) = meet("self_test", options) else { return };
        let weights = BLOCK_TYPES.iter().map(|t| Kinds::from(Some(*t)));
        let kinds: Vec<Kinds> = weights.chain(CacheType::ALL.map(Kinds::from)).collect();
        let result = pollster::block_on(cases::self_test(&gpu, &kinds));
        assert_eq!(result, Ok(()), "{}", gpu.words());
    }
}

#[test]
fn a_wrong_answer_is_noticed() {
    let Some(gpu) = meet("a_wrong_answer_is_noticed", Default::default()) else {
        return;
    };
    // The same case with another epsilon: the twin's answer is then not what the kernel computes.
    let mut case = cases::rms_norm(1, 2, 64, None, 16);
    for (name, value) in &mut case.constants {
        if *name == "EPS" {
            *value = 0.5;
        }
    }
    let mut pipelines = Pipelines::new(&gpu);
    assert!(pollster::block_on(cases::run(&gpu, &mut pipelines, &case)).is_err());
}
