//! The oracle of training, as the kit's files hold it: what the native tests and the browser's tests of it share.
#![allow(clippy::unwrap_used)] // a test fails where its own data is not as it should be

use std::collections::HashMap;
use understudy::cpu::loss::Teacher;
#[cfg(feature = "teach")]
use understudy::cpu::trainer::Example;
use understudy::cpu::trainer::Shape;
use understudy::distill::{Divergence, Objective, Tail};
use understudy::format::adapter::Pair;

/// The tensors of a `.safetensors` file, by name.
pub fn safetensors(bytes: &[u8]) -> HashMap<String, Vec<u8>> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header
        .into_iter()
        .filter(|(name, _)| name != "__metadata__")
        .map(|(name, entry)| {
            let at = |i: usize| 8 + length + entry["data_offsets"][i].as_u64().unwrap() as usize;
            (name, bytes[at(0)..at(1)].to_vec())
        })
        .collect()
}

/// Adapters on every linear of every layer.
pub fn shape(rank: usize, alpha: f32) -> Shape {
    Shape {
        rank,
        alpha,
        last_layers: None,
        modules: Vec::new(),
    }
}

pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn whole(bytes: &[u8]) -> Vec<i32> {
    bytes
        .chunks_exact(4)
        .map(|b| i32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

/// The two sequences of the oracle.
pub struct Sequence {
    pub tokens: Vec<u32>,
    pub targets: Vec<Option<u32>>,
    pub dense: Vec<f32>,
    pub ids: Vec<u32>,
    pub logprobs: Vec<f32>,
}

/// The two sequences of `inputs.safetensors`.
pub fn sequences(inputs: &HashMap<String, Vec<u8>>) -> Vec<Sequence> {
    (0..2)
        .map(|seq| {
            let of = |name: &str| &inputs[&format!("seq{seq}.{name}")];
            let labels = whole(of("labels"));
            Sequence {
                tokens: whole(of("tokens")).iter().map(|t| *t as u32).collect(),
                // The row of a position predicts the next label.
                targets: (1..=labels.len())
                    .map(|t| labels.get(t).filter(|l| **l >= 0).map(|l| *l as u32))
                    .collect(),
                dense: floats(of("teacher_logits")),
                ids: whole(of("topk_ids")).iter().map(|t| *t as u32).collect(),
                logprobs: floats(of("topk_logprobs")),
            }
        })
        .collect()
}

/// The loss that the oracle calls `kind`.
pub fn objective(kind: &str) -> Objective {
    let of = |ce, divergence, temperature, tail| Objective {
        ce,
        divergence,
        temperature,
        tail,
    };
    let fkl = Divergence::ForwardKl;
    match kind {
        "ce" => of(1.0, fkl, 1.0, Tail::Bucket),
        "fkl" | "topk_tail" => of(0.0, fkl, 1.0, Tail::Bucket),
        "fkl_T2" => of(0.0, fkl, 2.0, Tail::Bucket),
        "rkl" => of(0.0, Divergence::ReverseKl, 1.0, Tail::Bucket),
        "topk_renorm" => of(0.0, fkl, 1.0, Tail::Renormalized),
        "topk_teacher_renorm" => of(0.0, fkl, 1.0, Tail::TeacherRenormalized),
        "mix" => of(0.3, fkl, 1.0, Tail::Bucket),
        jsd => of(
            0.0,
            Divergence::Jsd {
                beta: jsd.strip_prefix("jsd_").unwrap().parse().unwrap(),
            },
            1.0,
            Tail::Bucket,
        ),
    }
}

/// What the teacher says about each row of a sequence, in the form that a loss takes.
pub fn teachers<'a>(s: &'a Sequence, kind: &str) -> Vec<Teacher<'a>> {
    let k = s.ids.len() / s.tokens.len();
    let one = |t: usize| match kind {
        "ce" => Teacher::Text,
        kind if kind.starts_with("topk") || kind == "mix" => Teacher::Sparse {
            ids: &s.ids[t * k..(t + 1) * k],
            logprobs: &s.logprobs[t * k..(t + 1) * k],
        },
        _ => Teacher::Dense(&s.dense[t * 512..(t + 1) * 512]),
    };
    (0..s.tokens.len()).map(one).collect()
}

/// The oracle's first numbers.
pub fn init_pairs<'a>(pairs: impl Iterator<Item = &'a mut Pair>, start: &HashMap<String, Vec<u8>>, zero_b: bool) {
    for pair in pairs {
        let base = pair.base.strip_suffix(".weight").unwrap();
        pair.a = floats(&start[&format!("{base}.lora_a")]);
        pair.b = floats(&start[&format!("{base}.lora_b")]);
        if zero_b {
            pair.b.fill(0.0);
        }
    }
}

/// |a - b| / |b|.
pub fn apart(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let of = |it: &mut dyn Iterator<Item = f32>| it.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    of(&mut a.iter().zip(b).map(|(a, b)| a - b)) / of(&mut b.iter().copied()).max(1e-12)
}

/// One batch of `sequences` on the GPU, side by side or one after the other: its gradients are accumulated; the mean loss.
#[cfg(feature = "teach")]
pub async fn batch(
    trainer: &mut understudy::distill::gpu::GpuTrainer,
    sequences: &[Sequence],
    kind: &str,
    together: bool,
) -> f64 {
    let count: usize = sequences.iter().map(|s| s.targets.iter().flatten().count()).sum();
    let teachers: Vec<Vec<Teacher>> = sequences.iter().map(|s| teachers(s, kind)).collect();
    let examples: Vec<Example> = sequences
        .iter()
        .zip(&teachers)
        .map(|(s, teachers)| Example {
            tokens: &s.tokens,
            targets: &s.targets,
            teachers,
        })
        .collect();
    trainer.zero();
    let mut sum = 0.0;
    for some in examples.chunks(if together { 2 } else { 1 }) {
        let stats = trainer
            .accumulate(some, &objective(kind), 1.0 / count as f64)
            .await
            .unwrap();
        sum += stats.iter().flatten().map(|s| f64::from(s[0])).sum::<f64>();
    }
    sum / count as f64
}
