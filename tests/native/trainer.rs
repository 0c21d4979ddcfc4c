//! A training step on the CPU against the kit's oracle: losses, every gradient, the optimizer's curves; finite differences
//! through the whole network; and what must not change.

use crate::kit;
use crate::oracle::{Sequence, apart, floats, init_pairs, objective, sequences, shape, teachers};
use std::collections::HashMap;
use understudy::cpu::loss::Teacher;
use understudy::cpu::trainer::{AdamW, Example, Shape, Trainer, initial};
use understudy::distill::Objective;
use understudy::format::Gguf;
use understudy::format::source::Bytes;
use understudy::model::Plan;
use understudy::student::Student;

fn trainer(file: &[u8], shape: &Shape) -> Trainer {
    let plan = Plan::new(&Gguf::from_bytes(file).unwrap()).unwrap();
    pollster::block_on(Trainer::new(plan, &Bytes(file.to_vec()), 64, shape, 1)).unwrap()
}

/// One accumulated batch of both sequences; the mean loss.
fn batch(trainer: &mut Trainer, sequences: &[Sequence], kind: &str) -> f64 {
    let count: usize = sequences.iter().map(|s| s.targets.iter().flatten().count()).sum();
    trainer.zero();
    let mut sum = 0.0;
    for s in sequences {
        let teachers = teachers(s, kind);
        let example = Example {
            tokens: &s.tokens,
            targets: &s.targets,
            teachers: &teachers,
        };
        sum += trainer.accumulate(&example, &objective(kind), 1.0 / count as f64).total;
    }
    sum / count as f64
}

fn init(trainer: &mut Trainer, start: &HashMap<String, Vec<u8>>, zero_b: bool) {
    init_pairs(trainer.pairs.iter_mut().map(|trained| &mut trained.pair), start, zero_b);
}

#[test]
fn losses_gradients_and_curves_are_the_oracles() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("losses_gradients_and_curves_are_the_oracles");
    };
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(kit.join("oracle/expected.json")).unwrap()).unwrap();
    let sequences = sequences(&kit::read_safetensors(&kit.join("oracle/inputs.safetensors")));
    let (mut worst, mut curves) = ([0.0_f64; 6], 0);
    for (model, kinds) in expected["results"].as_object().unwrap() {
        let file = std::fs::read(kit.join(format!("models/{model}.gguf"))).unwrap();
        let start = kit::read_safetensors(&kit.join(format!(
            "oracle/{}-lora-init.safetensors",
            model.split('-').next().unwrap()
        )));
        let mut trainer = trainer(&file, &shape(8, 16.0));
        assert_eq!(trainer.pairs.len(), 14);
        for (kind, row) in kinds.as_object().unwrap() {
            init(&mut trainer, &start, false);
            let (ours, theirs) = (batch(&mut trainer, &sequences, kind), row["loss"].as_f64().unwrap());
            worst[0] = worst[0].max((ours - theirs).abs() / theirs);
            for trained in &trainer.pairs {
                let base = trained.pair.base.strip_suffix(".weight").unwrap();
                for (half, gradient) in ["lora_a", "lora_b"].iter().zip(&trained.gradient) {
                    let key = format!("{base}.{half}");
                    let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                    let theirs = row["grad_norms"][&key].as_f64().unwrap();
                    worst[1] = worst[1].max((norm - theirs).abs() / theirs);
                    let first: Vec<f32> = row["grad_first8"][&key]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|v| v.as_f64().unwrap() as f32)
                        .collect();
                    // Eight numbers may be small beside the rest of their tensor: the tensor's mean is the measure.
                    let mean = theirs / (gradient.len() as f64).sqrt();
                    for (a, b) in gradient.iter().zip(&first) {
                        assert!(
                            f64::from(a - b).abs() < 1e-3 * mean + 1e-4 * f64::from(b.abs()),
                            "{model} {kind} {key}: {a} is not {b}"
                        );
                    }
                }
            }
            if let Some(name) = row["grads_file"].as_str() {
                let whole = kit::read_safetensors(&kit.join("oracle").join(name));
                for trained in &trainer.pairs {
                    let base = trained.pair.base.strip_suffix(".weight").unwrap();
                    for (half, gradient) in ["lora_a", "lora_b"].iter().zip(&trained.gradient) {
                        worst[2] = worst[2].max(apart(gradient, &floats(&whole[&format!("{base}.{half}")])));
                    }
                }
            }
            // Curves cost ten steps each: all of one model in the full run, some of the others.
            for (tag, about) in row
                .as_object()
                .unwrap()
                .iter()
                .filter(|(key, _)| key.starts_with("train_"))
            {
                if !(model == "qwen2-Q8_0" || matches!(kind.as_str(), "ce" | "topk_tail")) {
                    continue;
                }
                let number = |key: &str| about["opt"][key].as_f64().map(|v| v as f32);
                let betas = about["opt"]["betas"].as_array().unwrap();
                let adam = AdamW {
                    rate: number("lr").unwrap(),
                    beta1: betas[0].as_f64().unwrap() as f32,
                    beta2: betas[1].as_f64().unwrap() as f32,
                    epsilon: number("eps").unwrap(),
                    decay: number("weight_decay").unwrap(),
                    clip: number("clip"),
                };
                let mut fresh = self::trainer(&file, &shape(8, 16.0));
                init(&mut fresh, &start, true);
                let losses = about["losses"].as_array().unwrap();
                for (step, theirs) in losses.iter().enumerate() {
                    let (ours, theirs) = (batch(&mut fresh, &sequences, kind), theirs.as_f64().unwrap());
                    // Steps of 2e-2 overshoot: a rounding grows three- to fivefold with each, in f64 against f32 as well. The
                    // first steps must agree; what follows only must not run away.
                    let calm = tag == "train_adamw";
                    let at = if calm { 3 } else { 5 };
                    if calm || step < 4 {
                        worst[at] = worst[at].max((ours - theirs).abs() / theirs);
                    } else {
                        assert!(
                            ours < 2.0 * theirs + 0.5,
                            "{model} {kind} {tag}: {ours} beside {theirs}"
                        );
                    }
                    if step + 1 < losses.len() {
                        let norm = f64::from(fresh.step(&adam));
                        let theirs = about["grad_norms"][step].as_f64().unwrap();
                        if calm || step < 4 {
                            worst[4] = worst[4].max((norm - theirs).abs() / theirs);
                        }
                    }
                }
                curves += 1;
                if tag == "train_adamw" && kind == "ce" && model.ends_with("Q8_0") {
                    let after = kit::read_safetensors(&kit.join(format!("oracle/{model}-ce-after10.safetensors")));
                    for trained in &fresh.pairs {
                        let base = trained.pair.base.strip_suffix(".weight").unwrap();
                        let (a, b) = (&after[&format!("{base}.lora_a")], &after[&format!("{base}.lora_b")]);
                        assert!(apart(&trained.pair.a, &floats(a)) < 1e-4);
                        // B has moved by ten steps of 1e-3 from zero, where Adam divides small gradients by themselves.
                        assert!(apart(&trained.pair.b, &floats(b)) < 1e-2, "{model} {base}");
                    }
                }
            }
        }
    }
    println!(
        "{curves} curves; relative errors of losses, norms, gradients, curves, their norms, and the first steps of overshooting ones: {}",
        worst.map(|w| format!("{w:.1e}")).join(", ")
    );
    assert!(worst[..4].iter().all(|w| *w < 1e-4) && worst[4] < 1e-3 && worst[5] < 1e-3);
}

#[test]
fn gradients_are_finite_differences_through_the_network() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("gradients_are_finite_differences_through_the_network");
    };
    let sequences = &sequences(&kit::read_safetensors(&kit.join("oracle/inputs.safetensors")))[1..];
    // Qwen 3 adds norms on q and k, Mistral another rotation's shape.
    for model in ["qwen3-Q8_0", "mistral-Q8_0", "smollm2-Q4_K_M"] {
        let file = std::fs::read(kit.join(format!("models/{model}.gguf"))).unwrap();
        let mut trainer = trainer(&file, &shape(4, 8.0));
        for (i, trained) in trainer.pairs.iter_mut().enumerate() {
            let name = format!("b{i}");
            trained.pair.b = initial(3, &name, trained.pair.rows, 4)
                .iter()
                .map(|v| 0.1 * v)
                .collect();
        }
        batch(&mut trainer, sequences, "ce");
        let gradients: Vec<_> = trainer.pairs.iter().map(|t| t.gradient.clone()).collect();
        let mut checked = 0;
        for p in (0..trainer.pairs.len()).step_by(2) {
            for half in 0..2 {
                // The direction of the gradient itself: a difference that rounding cannot hide.
                let g = &gradients[p][half];
                let length = g.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                if length < 1e-4 {
                    continue;
                }
                let step = 0.02;
                let mut at = |sign: f64| {
                    let keep = trainer.pairs[p].pair.clone();
                    let values = if half == 0 {
                        &mut trainer.pairs[p].pair.a
                    } else {
                        &mut trainer.pairs[p].pair.b
                    };
                    for (value, g) in values.iter_mut().zip(g) {
                        *value += (sign * step * f64::from(*g) / length) as f32;
                    }
                    let loss = batch(&mut trainer, sequences, "ce");
                    trainer.pairs[p].pair = keep;
                    loss
                };
                let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
                assert!(
                    (slope - length).abs() < 2e-2 * length + 1e-4,
                    "{model} {} {half}: {slope} and {length}",
                    trainer.pairs[p].pair.base
                );
                checked += 1;
            }
        }
        println!("{model}: {checked} directions");
        assert!(checked >= 8);
    }
}

#[test]
fn training_changes_the_adapter_and_nothing_else() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("training_changes_the_adapter_and_nothing_else");
    };
    let sequences = sequences(&kit::read_safetensors(&kit.join("oracle/inputs.safetensors")));
    let file = std::fs::read(kit.join("models/llama32-Q4_0.gguf")).unwrap();
    let mut student = pollster::block_on(Student::open(&Bytes(file.clone()), None, Some(64), |_, _| Ok(()))).unwrap();
    let ids = &sequences[0].tokens;
    let base = pollster::block_on(student.logits(ids)).unwrap();
    let mut trainer = trainer(&file, &shape(8, 16.0));
    // With B = 0 it is the base; the two engines add in another order, so not bit for bit between them.
    let worst = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let before = trainer.logits(ids);
    assert!(worst(&before, &base) < 2e-5);
    let adam = AdamW {
        rate: 5e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        decay: 0.0,
        clip: Some(1.0),
    };
    let first = batch(&mut trainer, &sequences, "mix");
    trainer.step(&adam);
    for _ in 0..5 {
        batch(&mut trainer, &sequences, "mix");
        trainer.step(&adam);
    }
    let last = batch(&mut trainer, &sequences, "mix");
    assert!(last < 0.97 * first, "{first} -> {last}");
    // Exported, written, read and attached, it gives what was trained.
    let trained = trainer.logits(ids);
    assert!(worst(&trained, &before) > 0.05);
    let adapter = understudy::format::adapter::Adapter::from_gguf(&trainer.adapter().to_gguf()).unwrap();
    pollster::block_on(student.attach(adapter, 1.0)).unwrap();
    assert!(worst(&trained, &pollster::block_on(student.logits(ids)).unwrap()) < 1e-4);
    pollster::block_on(student.detach(0)).unwrap();
    assert_eq!(base, pollster::block_on(student.logits(ids)).unwrap());
    // Gradients that are not finite change nothing.
    let keep: Vec<_> = trainer.pairs.iter().map(|t| t.pair.clone()).collect();
    trainer.pairs[3].gradient[0][0] = f32::NAN;
    assert!(!trainer.step(&adam).is_finite());
    assert!(trainer.pairs.iter().zip(&keep).all(|(t, k)| t.pair == *k));
}

#[test]
fn masked_rows_change_nothing_and_seeds_repeat() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("masked_rows_change_nothing_and_seeds_repeat");
    };
    let file = std::fs::read(kit.join("models/qwen2-Q8_0.gguf")).unwrap();
    let tokens: Vec<u32> = (5..17).collect();
    let run = |targets: &[Option<u32>], shape: &Shape| {
        let mut trainer = trainer(&file, shape);
        trainer.pairs.iter_mut().for_each(|t| t.pair.b.fill(0.01));
        let teachers = vec![Teacher::Text; tokens.len()];
        let example = Example {
            tokens: &tokens,
            targets,
            teachers: &teachers,
        };
        let loss = trainer.accumulate(&example, &Objective::default(), 0.25).total;
        let names: Vec<String> = trainer.pairs.iter().map(|t| t.pair.base.clone()).collect();
        (
            loss,
            trainer.pairs.into_iter().map(|t| t.gradient).collect::<Vec<_>>(),
            names,
        )
    };
    let all = shape(4, 4.0);
    let mut targets = vec![None; tokens.len()];
    assert_eq!(run(&targets, &all).0, 0.0);
    assert!(run(&targets, &all).1.iter().flatten().flatten().all(|g| *g == 0.0));
    targets[5] = Some(40);
    let (loss, gradients, _) = run(&targets, &all);
    assert!(loss > 0.0 && gradients.iter().flatten().flatten().any(|g| *g != 0.0));
    assert_eq!(run(&targets, &all).1, gradients);
    // What lies behind the last trained token is not looked at.
    let fewer = Shape {
        last_layers: Some(1),
        modules: vec!["attn_q".into(), "ffn_down".into()],
        ..all
    };
    assert_eq!(
        run(&targets, &fewer).2,
        ["blk.1.attn_q.weight", "blk.1.ffn_down.weight"]
    );
    let plan = || Plan::new(&Gguf::from_bytes(&file).unwrap()).unwrap();
    for wrong in [
        shape(0, 1.0),
        Shape {
            modules: vec!["attn_x".into()],
            ..shape(4, 4.0)
        },
    ] {
        let refused = pollster::block_on(Trainer::new(plan(), &Bytes(file.clone()), 8, &wrong, 1))
            .err()
            .unwrap();
        assert_eq!(refused.code(), "bad-request");
    }
}

#[test]
fn a_session_goes_on_from_its_checkpoint() {
    use pollster::block_on;
    use understudy::distill::lesson::Lesson;
    use understudy::distill::session::{Session, Settings, paired_interval};
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("a_session_goes_on_from_its_checkpoint");
    };
    let file = std::fs::read(kit.join("models/qwen2-Q4_0.gguf")).unwrap();
    let lessons: Vec<Lesson> = (0..9u32)
        .map(|i| {
            let tokens: Vec<u32> = (0..10).map(|t| 3 + (i * 7 + t * 5) % 90).collect();
            Lesson {
                targets: (1..=10).map(|t| tokens.get(t).copied().filter(|_| t > 4)).collect(),
                soft: (0..10)
                    .map(|t| (t == 6).then(|| (vec![tokens[7], 2], vec![-0.1, -3.0])))
                    .collect(),
                spans: vec![0..0; 10],
                text: String::new(),
                cut: 0,
                tally: Default::default(),
                origin: (0, i as usize),
                fingerprint: u64::from(i) * 0x9e37_79b9,
                tokens,
            }
        })
        .collect();
    let settings = Settings {
        steps: 6,
        batch: 3,
        rank: 4,
        alpha: 8.0,
        hold_out: 0.3,
        ..Settings::default()
    };
    let open = |lessons: &[Lesson], settings: &Settings| {
        let plan = Plan::new(&Gguf::from_bytes(&file).unwrap()).unwrap();
        block_on(Session::new(
            plan,
            &Bytes(file.clone()),
            lessons.to_vec(),
            settings.clone(),
        ))
    };
    let mut whole = open(&lessons, &settings).unwrap();
    let (taught, apart) = whole.rows();
    assert!(taught + apart == 9 && taught >= 4 && apart >= 1);
    let before = block_on(whole.measure()).unwrap();
    let curve: Vec<_> = std::iter::from_fn(|| block_on(whole.advance()).unwrap()).collect();
    assert!(
        curve.len() == 6
            && whole.is_finished()
            && curve
                .iter()
                .all(|s| !s.skipped && s.gradient > 0.0 && s.divergence >= 0.0)
    );
    // Interrupted after two steps, and continued in another session: the same curve, number for number.
    let mut first = open(&lessons, &settings).unwrap();
    for _ in 0..2 {
        block_on(first.advance()).unwrap();
    }
    let kept = block_on(first.checkpoint()).unwrap();
    let mut second = open(&lessons, &settings).unwrap();
    second.resume(&kept).unwrap();
    assert_eq!(second.done(), 2);
    let rest: Vec<_> = std::iter::from_fn(|| block_on(second.advance()).unwrap()).collect();
    assert_eq!(rest[..], curve[2..]);
    assert_eq!(block_on(second.checkpoint()), block_on(whole.checkpoint()));
    let after = block_on(second.measure()).unwrap();
    assert_eq!(after.rows, apart);
    assert!(after.ce != before.ce && after.per_row.len() == apart);
    // What does not belong is refused, and the session stays as it was.
    let state = block_on(second.checkpoint());
    let other = Settings {
        seed: 2,
        ..settings.clone()
    };
    assert_eq!(
        open(&lessons, &other).unwrap().resume(&kept).unwrap_err().code(),
        "bad-request"
    );
    assert_eq!(
        open(&lessons[1..], &settings)
            .unwrap()
            .resume(&kept)
            .unwrap_err()
            .code(),
        "bad-request"
    );
    for cut in [0, 7, 100, kept.len() - 3] {
        assert!(second.resume(&kept[..cut]).is_err());
    }
    assert_eq!(block_on(second.checkpoint()), state);
    let adapter = block_on(second.adapter("A name", Some("A base"), Some("A teacher"))).unwrap();
    assert_eq!(adapter.metadata.str("general.base_model.0.name"), Some("A base"));
    assert!(open(&[], &settings).is_err());
    for wrong in [
        Settings {
            steps: 0,
            ..settings.clone()
        },
        Settings {
            rate: f32::NAN,
            ..settings.clone()
        },
        Settings {
            divergence: "x".into(),
            ..settings.clone()
        },
        Settings {
            hold_out: 1.0,
            ..settings.clone()
        },
    ] {
        assert_eq!(open(&lessons, &wrong).err().unwrap().code(), "bad-request");
    }
    let (mean, low, high) = paired_interval(&[1.0, 2.0, 3.0, 1.5], &[0.5, 1.4, 2.6, 1.0], 1).unwrap();
    assert!((mean + 0.5).abs() < 1e-9 && low <= mean && mean <= high && high < 0.0);
    assert_eq!(paired_interval(&[1.0], &[], 1), None);
}
