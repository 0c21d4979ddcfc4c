//! A training step on the GPU, Burn's graph over the runner's shaders, against the kit's oracle and against the CPU's.

use crate::kit;
use crate::trainer::{Sequence, apart, floats, init_pairs, objective, sequences, shape};
use pollster::block_on;
use understudy::cpu::loss::Teacher;
use understudy::cpu::trainer::{AdamW, Example, Shape};
use understudy::distill::gpu::GpuTrainer;
use understudy::format::Gguf;
use understudy::format::adapter::Pair;
use understudy::format::source::Bytes;
use understudy::gpu::training::{Memory, Room};
use understudy::gpu::{Gpu, GpuOptions};
use understudy::model::Plan;

/// A device as training wants it, or the name of the test that is skipped.
fn meet(test: &str) -> Option<Gpu> {
    let options = GpuOptions {
        subgroups: true,
        all_features: true,
        ..GpuOptions::default()
    };
    crate::gpu::meet(test, options)
}

fn plan(file: &[u8]) -> Plan {
    Plan::new(&Gguf::from_bytes(file).unwrap()).unwrap()
}

fn trainer(gpu: &Gpu, file: &[u8], shape: &Shape, room: Room) -> GpuTrainer {
    let source = Bytes(file.to_vec());
    block_on(GpuTrainer::new(gpu, plan(file), &source, 64, shape, 1, room, |_| Ok(()))).unwrap()
}

const ROOM: Room = Room { rows: 128, named: 8 };

fn teachers<'a>(s: &'a Sequence, kind: &str) -> Vec<Teacher<'a>> {
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

/// One accumulated batch of both sequences, side by side or one after the other; the mean loss.
fn batch(trainer: &mut GpuTrainer, sequences: &[Sequence], kind: &str, together: bool) -> f64 {
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
        let stats = block_on(trainer.accumulate(some, &objective(kind), 1.0 / count as f64)).unwrap();
        sum += stats.iter().flatten().map(|s| f64::from(s[0])).sum::<f64>();
    }
    sum / count as f64
}

fn start(trainer: &mut GpuTrainer, start: &std::collections::HashMap<String, Vec<u8>>, zero_b: bool) {
    let mut pairs = block_on(trainer.read(Memory::Values)).unwrap();
    init_pairs(pairs.iter_mut(), start, zero_b);
    trainer.set_pairs(&pairs);
}

fn halves(pairs: &[Pair]) -> Vec<(String, Vec<f32>)> {
    pairs
        .iter()
        .flat_map(|pair| {
            let base = pair.base.strip_suffix(".weight").unwrap();
            [
                (format!("{base}.lora_a"), pair.a.clone()),
                (format!("{base}.lora_b"), pair.b.clone()),
            ]
        })
        .collect()
}

#[test]
fn losses_gradients_and_curves_are_the_oracles_on_the_gpu() {
    let name = "losses_gradients_and_curves_are_the_oracles_on_the_gpu";
    let Some(kit) = kit::kit_dir() else {
        return kit::skip(name);
    };
    let Some(gpu) = meet(name) else { return };
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(kit.join("oracle/expected.json")).unwrap()).unwrap();
    let sequences = sequences(&kit);
    let (mut worst, mut combinations, mut curves) = ([0.0_f64; 5], 0, 0);
    for (model, kinds) in expected["results"].as_object().unwrap() {
        let file = std::fs::read(kit.join(format!("models/{model}.gguf"))).unwrap();
        let family = model.split('-').next().unwrap();
        let first = kit::read_safetensors(&kit.join(format!("oracle/{family}-lora-init.safetensors")));
        let mut trainer = trainer(&gpu, &file, &shape(8, 16.0), ROOM);
        for (kind, row) in kinds.as_object().unwrap() {
            start(&mut trainer, &first, false);
            let (ours, theirs) = (
                batch(&mut trainer, &sequences, kind, true),
                row["loss"].as_f64().unwrap(),
            );
            worst[0] = worst[0].max((ours - theirs).abs() / theirs);
            let gradient = halves(&block_on(trainer.read(Memory::Gradient)).unwrap());
            for (key, values) in &gradient {
                let norm = values.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                let theirs = row["grad_norms"][key].as_f64().unwrap();
                worst[1] = worst[1].max((norm - theirs).abs() / theirs);
            }
            if let Some(name) = row["grads_file"].as_str() {
                let whole = kit::read_safetensors(&kit.join("oracle").join(name));
                for (key, values) in &gradient {
                    worst[2] = worst[2].max(apart(values, &floats(&whole[key])));
                }
            }
            combinations += 1;
            let Some(curve) = row["train_adamw"]["losses"]
                .as_array()
                .filter(|_| kind == "ce" || kind == "topk_tail")
            else {
                continue;
            };
            start(&mut trainer, &first, true);
            let adam = AdamW {
                rate: 1e-3,
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                decay: 0.01,
                clip: None,
            };
            let state: std::collections::HashMap<_, _> = block_on(trainer.state())
                .unwrap()
                .into_iter()
                .map(|(name, values)| {
                    let kept = if name.ends_with(".a") || name.ends_with(".b") {
                        values
                    } else {
                        vec![0.0; values.len()]
                    };
                    (name, kept)
                })
                .collect();
            assert!(trainer.set_state(&state, 0));
            for (i, theirs) in curve.iter().enumerate() {
                let ours = batch(&mut trainer, &sequences, kind, true);
                let theirs = theirs.as_f64().unwrap();
                worst[3] = worst[3].max((ours - theirs).abs() / theirs);
                if i + 1 < curve.len() {
                    block_on(trainer.step(&adam)).unwrap();
                }
            }
            curves += 1;
            if kind == "ce" && model.ends_with("Q8_0") {
                let whole = kit::read_safetensors(&kit.join(format!("oracle/{model}-ce-after10.safetensors")));
                for (key, values) in halves(&block_on(trainer.read(Memory::Values)).unwrap()) {
                    let error = apart(&values, &floats(&whole[&key]));
                    if key.ends_with("lora_a") {
                        worst[4] = worst[4].max(error);
                    } else {
                        // B has moved by ten steps of 1e-3 from zero, where Adam divides small gradients by themselves.
                        assert!(error < 1e-2, "{model} {key}: {error}");
                    }
                }
            }
        }
    }
    println!(
        "{combinations} combinations, {curves} curves; loss, norms, gradients, curves, pairs: {}",
        worst.map(|w| format!("{w:.1e}")).join(", ")
    );
    assert_eq!(combinations, 78);
    assert!(curves >= 4, "{curves}");
    assert!(worst.iter().all(|w| *w < 1e-4), "{worst:?}");
}
