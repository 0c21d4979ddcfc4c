//! The loss and its gradient: the kit's thirteen losses, finite differences, and teachers that agree with the student.

use crate::kit;
use understudy::cpu::loss::{Teacher, loss};
use understudy::distill::{Divergence, Objective, Tail};

fn objective(ce: f32, divergence: Divergence, temperature: f32, tail: Tail) -> Objective {
    Objective {
        ce,
        divergence,
        temperature,
        tail,
    }
}

/// The kit's names of losses.
fn named(kind: &str) -> (Objective, bool) {
    let fkl = Divergence::ForwardKl;
    let of = |divergence| (objective(0.0, divergence, 1.0, Tail::Bucket), false);
    match kind {
        "ce" => (objective(1.0, fkl, 1.0, Tail::Bucket), false),
        "fkl" => of(fkl),
        "fkl_T2" => (objective(0.0, fkl, 2.0, Tail::Bucket), false),
        "rkl" => of(Divergence::ReverseKl),
        "topk_tail" => (objective(0.0, fkl, 1.0, Tail::Bucket), true),
        "topk_renorm" => (objective(0.0, fkl, 1.0, Tail::Renormalized), true),
        "topk_teacher_renorm" => (objective(0.0, fkl, 1.0, Tail::TeacherRenormalized), true),
        "mix" => (objective(0.3, fkl, 1.0, Tail::Bucket), true),
        jsd => of(Divergence::Jsd {
            beta: jsd.strip_prefix("jsd_").unwrap().parse().unwrap(),
        }),
    }
}

#[test]
fn losses_are_the_kits() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("losses_are_the_kits");
    };
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    let whole = |bytes: &[u8]| -> Vec<i32> {
        bytes
            .chunks_exact(4)
            .map(|b| i32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    let inputs = kit::read_safetensors(&kit.join("oracle/inputs.safetensors"));
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(kit.join("oracle/expected.json")).unwrap()).unwrap();
    let mut compared = 0;
    for (model, kinds) in expected["results"].as_object().unwrap() {
        let logits = kit::read_safetensors(&kit.join(format!("oracle/{model}-logits.safetensors")));
        for (kind, row) in kinds.as_object().unwrap() {
            let (objective, sparse) = named(kind);
            let (mut sum, mut count) = (0.0, 0);
            for seq in 0..2 {
                let of = |name: &str| &inputs[&format!("seq{seq}.{name}")];
                let student = floats(&logits[&format!("seq{seq}.logits_lora_init")]);
                let (teacher, labels) = (floats(of("teacher_logits")), whole(of("labels")));
                let (ids, logprobs) = (whole(of("topk_ids")), floats(of("topk_logprobs")));
                let ids: Vec<u32> = ids.iter().map(|id| *id as u32).collect();
                let (v, k) = (512, ids.len() / labels.len());
                // The row of a position predicts the next label.
                for t in 0..labels.len() - 1 {
                    if labels[t + 1] < 0 {
                        continue;
                    }
                    let told = if kind == "ce" {
                        Teacher::Text
                    } else if sparse {
                        Teacher::Sparse {
                            ids: &ids[t * k..(t + 1) * k],
                            logprobs: &logprobs[t * k..(t + 1) * k],
                        }
                    } else {
                        Teacher::Dense(&teacher[t * v..(t + 1) * v])
                    };
                    let mut gradient = vec![0.0; v];
                    let z = &student[t * v..(t + 1) * v];
                    sum += loss(z, labels[t + 1] as u32, told, &objective, 1.0, &mut gradient).total;
                    count += 1;
                    // Logits may all move together without any change.
                    assert!(gradient.iter().sum::<f64>().abs() < 1e-9);
                }
            }
            let (ours, theirs) = (sum / f64::from(count), row["loss"].as_f64().unwrap());
            assert!(
                (ours - theirs).abs() < 1e-5 * theirs,
                "{model} {kind}: {ours} is not {theirs}"
            );
            compared += 1;
        }
    }
    println!("{compared} losses within 1e-5");
    assert_eq!(compared, 78);
}

/// Seeded numbers in -2..2.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 40) as f32 / (1u64 << 22) as f32 - 2.0
        })
        .collect()
}

const DIVERGENCES: [Divergence; 7] = [
    Divergence::ForwardKl,
    Divergence::ReverseKl,
    Divergence::Jsd { beta: 0.1 },
    Divergence::Jsd { beta: 0.5 },
    Divergence::Jsd { beta: 0.9 },
    Divergence::SkewKl { lambda: 0.1 },
    Divergence::SkewKl { lambda: 0.0 },
];

/// A teacher's most likely tokens out of its logits.
fn most_likely(teacher: &[f32], k: usize) -> (Vec<u32>, Vec<f32>) {
    let most = teacher.iter().fold(f32::MIN, |m, v| m.max(*v));
    let sum: f64 = teacher.iter().map(|v| f64::from(v - most).exp()).sum();
    let mut ids: Vec<u32> = (0..teacher.len() as u32).collect();
    ids.sort_by(|a, b| teacher[*b as usize].total_cmp(&teacher[*a as usize]));
    ids.truncate(k);
    let logprobs = ids
        .iter()
        .map(|id| (f64::from(teacher[*id as usize] - most) - sum.ln()) as f32)
        .collect();
    (ids, logprobs)
}

#[test]
fn gradients_are_finite_differences() {
    let v = 23;
    let mut worst = 0.0_f64;
    for seed in 1..6 {
        let (student, teacher) = (numbers(seed, v), numbers(100 + seed, v));
        let (ids, logprobs) = most_likely(&teacher, 5);
        for divergence in DIVERGENCES {
            for (temperature, ce, tail, sparse) in [
                (1.0, 0.0, Tail::Bucket, false),
                (2.0, 0.3, Tail::Bucket, false),
                (1.0, 0.3, Tail::Bucket, true),
                (1.0, 0.0, Tail::Renormalized, true),
                (1.0, 0.7, Tail::TeacherRenormalized, true),
            ] {
                let objective = objective(ce, divergence, temperature, tail);
                let told = if sparse {
                    Teacher::Sparse {
                        ids: &ids,
                        logprobs: &logprobs,
                    }
                } else {
                    Teacher::Dense(&teacher)
                };
                let mut gradient = vec![0.0; v];
                loss(&student, 3, told, &objective, 1.0, &mut gradient);
                for j in 0..v {
                    let at = |step: f32| {
                        let mut moved = student.clone();
                        moved[j] += step;
                        (
                            loss(&moved, 3, told, &objective, 1.0, &mut vec![0.0; v]).total,
                            f64::from(moved[j]),
                        )
                    };
                    let ((up, a), (down, b)) = (at(0.01), at(-0.01));
                    let slope = (up - down) / (a - b);
                    let error = (slope - gradient[j]).abs();
                    worst = worst.max(error);
                    assert!(
                        error < 5e-5,
                        "{objective:?} sparse {sparse} at {j}: {slope} and {}",
                        gradient[j]
                    );
                }
            }
        }
    }
    println!("worst difference {worst:.1e}");
}

#[test]
fn a_teacher_that_agrees_asks_for_nothing() {
    let v = 40;
    let student = numbers(7, v);
    for divergence in DIVERGENCES {
        for k in [1, 8, v] {
            let (ids, logprobs) = most_likely(&student, k);
            for tail in [Tail::Bucket, Tail::Renormalized] {
                let objective = objective(0.0, divergence, 1.0, tail);
                let told = Teacher::Sparse {
                    ids: &ids,
                    logprobs: &logprobs,
                };
                let mut gradient = vec![0.0; v];
                let found = loss(&student, 0, told, &objective, 1.0, &mut gradient);
                assert!(found.total.abs() < 1e-6, "{divergence:?} {tail:?} {k}: {found:?}");
                assert!(gradient.iter().all(|g| g.abs() < 1e-6), "{divergence:?} {tail:?} {k}");
            }
        }
        let objective = objective(0.0, divergence, 3.0, Tail::Bucket);
        let mut gradient = vec![0.0; v];
        let found = loss(&student, 0, Teacher::Dense(&student), &objective, 1.0, &mut gradient);
        assert!(found.total.abs() < 1e-9 && gradient.iter().all(|g| g.abs() < 1e-9));
    }
}

#[test]
fn extreme_rows_stay_finite() {
    let v = 12;
    let mut sure = vec![-80.0f32; v];
    sure[4] = 80.0;
    let mut other = vec![-80.0f32; v];
    other[9] = 80.0;
    for divergence in DIVERGENCES {
        for (student, teacher) in [(&sure, &other), (&sure, &sure), (&other, &sure)] {
            let (ids, logprobs) = most_likely(teacher, 3);
            for told in [
                Teacher::Dense(teacher),
                Teacher::Sparse {
                    ids: &ids,
                    logprobs: &logprobs,
                },
                // Probabilities that were rounded up to more than one.
                Teacher::Sparse {
                    ids: &[1, 2],
                    logprobs: &[-0.6, -0.7],
                },
            ] {
                let mut gradient = vec![0.0; v];
                let found = loss(
                    student,
                    4,
                    told,
                    &objective(0.3, divergence, 1.0, Tail::Bucket),
                    1.0,
                    &mut gradient,
                );
                assert!(
                    found.total.is_finite() && gradient.iter().all(|g| g.is_finite()),
                    "{divergence:?} {found:?}"
                );
            }
        }
    }
    for wrong in [
        objective(1.5, Divergence::ForwardKl, 1.0, Tail::Bucket),
        objective(f32::NAN, Divergence::ForwardKl, 1.0, Tail::Bucket),
        objective(0.5, Divergence::ForwardKl, 0.0, Tail::Bucket),
        objective(0.5, Divergence::Jsd { beta: -0.1 }, 1.0, Tail::Bucket),
        objective(0.5, Divergence::SkewKl { lambda: 1.0 }, 1.0, Tail::Bucket),
    ] {
        assert_eq!(wrong.check().unwrap_err().code(), "bad-request");
    }
    assert!(Objective::default().check().is_ok());
}
