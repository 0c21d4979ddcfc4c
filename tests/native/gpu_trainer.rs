//! A training step on the GPU, Burn's graph over the runner's shaders, against the kit's oracle and against the CPU's.

use crate::kit;
use crate::oracle::{Sequence, apart, floats, init_pairs, sequences, shape};
use pollster::block_on;
use understudy::cpu::loss::Teacher;
use understudy::cpu::trainer::{AdamW, Example, Shape, Trainer, initial};
use understudy::distill::gpu::GpuTrainer;
use understudy::distill::lesson::Lesson;
use understudy::distill::session::{Session, Settings, Sorted};
use understudy::distill::student::{reserved, share};
use understudy::distill::{Divergence, Objective};
use understudy::format::Gguf;
use understudy::format::adapter::{Adapter, Pair};
use understudy::format::source::Bytes;
use understudy::gpu::training::{Memory, Room};
use understudy::gpu::{Gpu, GpuOptions};
use understudy::model::Plan;
use understudy::student::Student;

/// A device as training wants it, or the name of the test that is skipped.
pub(crate) fn meet(test: &str) -> Option<Gpu> {
    let options = GpuOptions {
        subgroups: true,
        all_features: true,
        ..GpuOptions::default()
    };
    crate::gpu::meet(test, options)
}

pub(crate) fn plan(file: &[u8]) -> Plan {
    Plan::new(&Gguf::from_bytes(file).unwrap()).unwrap()
}

fn trainer(gpu: &Gpu, file: &[u8], shape: &Shape, room: Room) -> GpuTrainer {
    trainer_of(gpu, file, shape, room, 64)
}

/// A trainer for rows of up to `context` tokens.
pub(crate) fn trainer_of(gpu: &Gpu, file: &[u8], shape: &Shape, room: Room, context: usize) -> GpuTrainer {
    let source = Bytes(file.to_vec());
    let device = share(gpu).unwrap();
    let mut plan = plan(file);
    plan.settle_factors(plan.config.context);
    let made = GpuTrainer::new(gpu, &device, plan, &source, context, shape, 1, room, |_| Ok(()));
    block_on(made).unwrap()
}

const ROOM: Room = Room { rows: 128, named: 8 };

/// One accumulated batch of both sequences, side by side or one after the other; the mean loss.
fn batch(trainer: &mut GpuTrainer, sequences: &[Sequence], kind: &str, together: bool) -> f64 {
    block_on(crate::oracle::batch(trainer, sequences, kind, together))
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
    let sequences = sequences(&kit::read_safetensors(&kit.join("oracle/inputs.safetensors")));
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
            let Some(curve) = row["train_adamw"]["losses"].as_array() else {
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
    assert_eq!(curves, 52);
    assert!(worst.iter().all(|w| *w < 1e-4), "{worst:?}");
}

/// Seeded tokens, some of them trained, some with probabilities.
pub(crate) fn lesson(seed: u32, length: u32) -> Lesson {
    let tokens: Vec<u32> = (0..length).map(|t| 3 + (seed * 7 + t * (5 + seed % 3)) % 90).collect();
    Lesson {
        targets: (1..=length as usize)
            .map(|t| tokens.get(t).copied().filter(|_| t > 4))
            .collect(),
        soft: (0..length as usize)
            .map(|t| {
                (t % 3 == 0 && t + 1 < length as usize).then(|| (vec![tokens[t + 1], 2, 200], vec![-0.3, -2.0, -4.0]))
            })
            .collect(),
        spans: vec![0..0; length as usize],
        text: String::new(),
        cut: 0,
        tally: Default::default(),
        origin: (0, seed as usize),
        fingerprint: u64::from(seed) * 0x9e37_79b9,
        tokens,
    }
}

fn lessons(count: u32) -> Vec<Lesson> {
    (0..count).map(|i| lesson(i, 9 + i % 5)).collect()
}

pub(crate) fn with_examples<T>(lessons: &[Lesson], work: impl FnOnce(&[Example]) -> T) -> T {
    let teachers: Vec<Vec<Teacher>> = lessons
        .iter()
        .map(|lesson| {
            let soft = lesson.soft.iter().zip(&lesson.targets);
            soft.map(|(soft, target)| match soft {
                Some((ids, logprobs)) if target.is_some() => Teacher::Sparse { ids, logprobs },
                _ => Teacher::Text,
            })
            .collect()
        })
        .collect();
    let examples: Vec<Example> = lessons
        .iter()
        .zip(&teachers)
        .map(|(lesson, teachers)| Example {
            tokens: &lesson.tokens,
            targets: &lesson.targets,
            teachers,
        })
        .collect();
    work(&examples)
}

/// Pairs with something in B, so that every gradient is more than zero.
pub(crate) fn stirred(trainer: &GpuTrainer) -> Vec<Pair> {
    let mut pairs = block_on(trainer.read(Memory::Values)).unwrap();
    for (i, pair) in pairs.iter_mut().enumerate() {
        let (rank, rows) = (pair.rank, pair.rows);
        pair.b = initial(i as u64, "stirred", rank, rows);
    }
    pairs
}

#[test]
fn the_gpu_trains_as_the_cpu_does() {
    let name = "the_gpu_trains_as_the_cpu_does";
    let Some(kit) = kit::kit_dir() else {
        return kit::skip(name);
    };
    let Some(gpu) = meet(name) else { return };
    let lessons = lessons(3);
    let some = |modules: &[&str], last_layers| Shape {
        last_layers,
        modules: modules.iter().map(|m| (*m).to_owned()).collect(),
        ..shape(4, 8.0)
    };
    let whole = shape(4, 8.0);
    for (model, shape) in [
        ("qwen3-Q4_K_M", &whole),
        ("qwen3-Q8_0", &whole),
        ("mistral-Q8_0", &whole),
        ("smollm2-Q4_K_M", &whole),
        ("llama32-Q4_K_M", &whole),
        ("stories260K-plain-F16", &whole),
        ("qwen2-Q4_0", &some(&["attn_q", "attn_v"], None)),
        ("llama32-Q8_0", &some(&["ffn_gate", "ffn_down"], Some(1))),
    ] {
        let file = std::fs::read(kit.join(format!("models/{model}.gguf"))).unwrap();
        let mut on_gpu = trainer(&gpu, &file, shape, ROOM);
        let mut on_cpu = block_on(Trainer::new(plan(&file), &Bytes(file.clone()), 64, shape, 1)).unwrap();
        let pairs = stirred(&on_gpu);
        on_gpu.set_pairs(&pairs);
        for (trained, pair) in on_cpu.pairs.iter_mut().zip(&pairs) {
            assert_eq!(trained.pair.base, pair.base);
            trained.pair = pair.clone();
        }
        let objective = Objective {
            divergence: Divergence::Jsd { beta: 0.4 },
            ..Objective::default()
        };
        on_gpu.zero();
        with_examples(&lessons, |examples| {
            let stats = block_on(on_gpu.accumulate(examples, &objective, 0.1)).unwrap();
            for (example, stats) in examples.iter().zip(stats) {
                let losses = on_cpu.accumulate_stats(example, &objective, 0.1);
                assert_eq!(losses.len(), stats.len());
                for ((loss, top), [total, ce, divergence, first]) in losses.iter().zip(stats) {
                    for (a, b) in [(loss.total, total), (loss.ce, ce), (loss.divergence, divergence)] {
                        assert!(
                            (a - f64::from(b)).abs() < 1e-4 * (1.0 + a.abs()),
                            "{model}: {a} is not {b}"
                        );
                    }
                    assert_eq!(f32::from(u8::from(*top)), first, "{model}");
                }
            }
        });
        let gradient = block_on(on_gpu.read(Memory::Gradient)).unwrap();
        let mut worst: f64 = 0.0;
        for (trained, pair) in on_cpu.pairs.iter().zip(&gradient) {
            worst = worst.max(apart(&pair.a, &trained.gradient[0]));
            worst = worst.max(apart(&pair.b, &trained.gradient[1]));
        }
        println!(
            "{model}: {} pairs, gradients {worst:.1e} from the CPU's",
            gradient.len()
        );
        assert!(worst < 1e-4, "{model}: {worst}");
        let tokens = &lessons[1].tokens;
        let logits = block_on(on_gpu.logits(tokens, true)).unwrap();
        assert!(apart(&logits, &on_cpu.logits(tokens)) < 1e-4, "{model}");
    }
}

#[test]
fn what_must_not_change_does_not() {
    let name = "what_must_not_change_does_not";
    let Some(kit) = kit::kit_dir() else {
        return kit::skip(name);
    };
    let Some(gpu) = meet(name) else { return };
    let file = std::fs::read(kit.join("models/qwen2-Q4_0.gguf")).unwrap();
    let mut trainer = trainer(&gpu, &file, &shape(8, 16.0), ROOM);
    let lessons = lessons(4);
    let objective = Objective::default();
    // B is zero at first: the student is what it was, bit for bit.
    let tokens = lessons[0].tokens.clone();
    let base = block_on(trainer.logits(&tokens, false)).unwrap();
    assert_eq!(block_on(trainer.logits(&tokens, true)).unwrap(), base);
    let pairs = stirred(&trainer);
    trainer.set_pairs(&pairs);
    let own = block_on(trainer.logits(&tokens, true)).unwrap();
    assert_ne!(own, base);
    // A teacher that thinks as the student does asks for nothing.
    let width = own.len() / tokens.len();
    let agreeing: Vec<Teacher> = own.chunks_exact(width).map(Teacher::Dense).collect();
    let example = Example {
        tokens: &tokens,
        targets: &lessons[0].targets,
        teachers: &agreeing,
    };
    trainer.zero();
    let dense = Objective { ce: 0.0, ..objective };
    let stats = block_on(trainer.accumulate(&[example], &dense, 1.0)).unwrap();
    assert!(stats[0].iter().all(|s| s[2].abs() < 1e-5), "{stats:?}");
    assert!(block_on(trainer.step(&ADAM)).unwrap() < 1e-4);
    trainer.set_pairs(&pairs);
    // How examples are laid side by side changes nothing, nor does an example without a trained token.
    let mut gradients = Vec::new();
    let empty = Lesson {
        targets: vec![None; 9],
        ..lesson(50, 9)
    };
    let more = [lessons.clone(), vec![empty]].concat();
    for (lessons, at_a_time) in [(&lessons, 4), (&lessons, 1), (&lessons, 3), (&more, 5)] {
        trainer.zero();
        for some in lessons.chunks(at_a_time) {
            with_examples(some, |examples| {
                block_on(trainer.accumulate(examples, &objective, 0.05))
            })
            .unwrap();
        }
        let pairs = block_on(trainer.read(Memory::Gradient)).unwrap();
        gradients.push(
            pairs
                .iter()
                .flat_map(|p| [p.a.clone(), p.b.clone()].concat())
                .collect::<Vec<f32>>(),
        );
    }
    for other in &gradients[1..] {
        assert!(apart(other, &gradients[0]) < 1e-6, "{}", apart(other, &gradients[0]));
    }
    // Training changes the pairs and nothing else.
    for _ in 0..3 {
        block_on(trainer.step(&ADAM)).unwrap();
    }
    assert_ne!(block_on(trainer.logits(&tokens, true)).unwrap(), own);
    assert_eq!(block_on(trainer.logits(&tokens, false)).unwrap(), base);
    // The head goes through its rows in chunks: one of sixteen rows, and one for all.
    let long: Vec<Lesson> = (0..4).map(|i| lesson(i, 30)).collect();
    let sum = |stats: Vec<Vec<[f32; 4]>>| stats.iter().flatten().map(|s| f64::from(s[1])).sum::<f64>();
    let all = sum(with_examples(&long, |e| block_on(trainer.measure(e, &objective))).unwrap());
    let each: f64 = long
        .iter()
        .map(|one| sum(with_examples(std::slice::from_ref(one), |e| block_on(trainer.measure(e, &objective))).unwrap()))
        .sum();
    assert!((all - each).abs() < 1e-4 * all);
}

const ADAM: AdamW = AdamW {
    rate: 1e-3,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    decay: 0.0,
    clip: Some(1.0),
};

#[test]
fn a_session_on_the_gpu_goes_on_and_its_adapter_does_what_was_trained() {
    let name = "a_session_on_the_gpu_goes_on_and_its_adapter_does_what_was_trained";
    let Some(kit) = kit::kit_dir() else {
        return kit::skip(name);
    };
    let Some(gpu) = meet(name) else { return };
    let file = std::fs::read(kit.join("models/llama32-Q4_K_M.gguf")).unwrap();
    let settings = Settings {
        steps: 8,
        batch: 4,
        rank: 4,
        alpha: 8.0,
        hold_out: 0.3,
        rate: 5e-3,
        ..Settings::default()
    };
    let device = share(&gpu).unwrap();
    let source = Bytes(file.clone());
    let open = || {
        let sorted = Sorted::new(lessons(12), settings.hold_out).unwrap();
        let room = Room {
            rows: 64,
            named: sorted.named(),
        };
        let shape = settings.shape();
        let made = GpuTrainer::new(
            &gpu,
            &device,
            plan(&file),
            &source,
            sorted.longest(),
            &shape,
            settings.seed,
            room,
            |_| Ok(()),
        );
        let trainer = block_on(made).unwrap();
        Session::with(gpu_session(trainer), sorted, settings.clone()).unwrap()
    };
    let mut whole = open();
    block_on(whole.warm_up()).unwrap();
    let before = block_on(whole.measure()).unwrap();
    assert!(before.kl.is_some_and(|kl| kl > 0.0) && before.kl_per_row.len() == before.rows);
    let mut curve = Vec::new();
    let mut held = Vec::new();
    while let Some(report) = block_on(whole.advance()).unwrap() {
        curve.push(report);
        held.push(reserved(&device));
    }
    assert_eq!(curve.len(), 8);
    assert!(curve[7].loss < curve[0].loss, "{curve:?}");
    // Nothing grows from step to step.
    let most = |held: &[u64]| held.iter().copied().max();
    assert!(most(&held[2..]) <= most(&held[..2]), "{held:?}");
    let after = block_on(whole.measure()).unwrap();
    assert_ne!(after.ce, before.ce);
    assert!(block_on(whole.away_from_base(&lessons(2))).unwrap() > 0.0);
    // The same on the CPU, nearly: steps are alike although sums are not added up in the same order.
    let mut on_cpu = block_on(Session::new(plan(&file), &source, lessons(12), settings.clone())).unwrap();
    let cpu_before = block_on(on_cpu.measure()).unwrap();
    assert!((cpu_before.ce - before.ce).abs() < 1e-4 && cpu_before.top1 == before.top1);
    assert!((cpu_before.kl.unwrap() - before.kl.unwrap()).abs() < 1e-4);
    for step in &curve {
        let other = block_on(on_cpu.advance()).unwrap().unwrap();
        assert!((other.loss - step.loss).abs() < 1e-3 * other.loss, "{other:?} {step:?}");
    }
    // Interrupted and continued, on a trainer of its own: the same curve.
    let mut first = open();
    for _ in 0..3 {
        block_on(first.advance()).unwrap();
    }
    let kept = block_on(first.checkpoint()).unwrap();
    let mut second = open();
    second.resume(&kept).unwrap();
    for step in &curve[3..] {
        let other = block_on(second.advance()).unwrap().unwrap();
        assert!(
            (other.loss - step.loss).abs() < 1e-6 * step.loss.max(1.0),
            "{other:?} {step:?}"
        );
    }
    // The CPU goes on from the GPU's checkpoint.
    let mut third = block_on(Session::new(plan(&file), &source, lessons(12), settings.clone())).unwrap();
    third.resume(&kept).unwrap();
    assert!((block_on(third.advance()).unwrap().unwrap().loss - curve[3].loss).abs() < 1e-3);
    // Written, read again, and attached in the runner: what was trained.
    let adapter = block_on(whole.adapter("taught", None, Some("a teacher"))).unwrap();
    let tokens = lessons(1)[0].tokens.clone();
    let trained = block_on(whole.trainer().logits(&tokens)).unwrap();
    let read = Adapter::from_gguf(&adapter.to_gguf()).unwrap();
    whole.trainer().put(&read).unwrap();
    assert_eq!(block_on(whole.trainer().logits(&tokens)).unwrap(), trained);
    let mut student = block_on(Student::open(&source, Some(&gpu), None, |_, _| Ok(()))).unwrap();
    let base = block_on(student.logits(&tokens)).unwrap();
    block_on(student.attach(read, 1.0)).unwrap();
    let runner = block_on(student.logits(&tokens)).unwrap();
    let furthest = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!(
        "runner and trainer differ by {:.1e}, base and trained by {:.1e}",
        furthest(&runner, &trained),
        furthest(&base, &trained)
    );
    assert!(furthest(&runner, &trained) < 1e-4 && furthest(&base, &trained) > 1e-2);
    // Another student's adapter is not put in its place.
    let wrong = Adapter {
        pairs: Vec::new(),
        ..adapter
    };
    assert_eq!(whole.trainer().put(&wrong).unwrap_err().code(), "adapter");
}

fn gpu_session(trainer: GpuTrainer) -> understudy::distill::trainer::Trainer {
    understudy::distill::trainer::Trainer::Gpu(Box::new(trainer))
}

#[test]
fn a_lost_device_is_an_error_and_no_panic() {
    let name = "a_lost_device_is_an_error_and_no_panic";
    let Some(kit) = kit::kit_dir() else {
        return kit::skip(name);
    };
    let Some(gpu) = meet(name) else { return };
    let file = std::fs::read(kit.join("models/qwen2-Q8_0.gguf")).unwrap();
    let mut trainer = trainer(&gpu, &file, &shape(8, 16.0), ROOM);
    let lessons = lessons(2);
    gpu.destroy();
    let result = with_examples(&lessons, |examples| {
        block_on(trainer.accumulate(examples, &Objective::default(), 1.0))
    });
    assert_eq!(result.unwrap_err().code(), "device-lost");
}
