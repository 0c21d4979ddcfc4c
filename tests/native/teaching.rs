//! Every architecture on the CPU's trainer: without pairs it is the runner bit for bit, with them its loss is the runner's, and
//! its gradients are the slopes of the loss.

use crate::kit;
use crate::oracle::shape;
use std::collections::BTreeMap;
use understudy::cpu::engine::Engine;
use understudy::cpu::loss::Teacher;
use understudy::cpu::trainer::{Example, Shape, Trainer};
use understudy::distill::Objective;
use understudy::format::Gguf;
use understudy::format::gguf::{Array, Value, Writer};
use understudy::format::source::Bytes;
use understudy::model::chance::Numbers;
use understudy::model::lora::Stack;
use understudy::model::{Mixer, Plan};

/// One of the kit's students for each architecture and variant, and some whose gate and up differ in block type.
const MODELS: [&str; 20] = [
    "llama32-Q8_0",
    "mistral-Q8_0",
    "smollm2-Q8_0",
    "smollm2-Q4_K_M",
    "qwen2-Q8_0",
    "qwen3-Q8_0",
    "qwen3-Q4_K_M",
    "ernie45-Q8_0",
    "exaone4-Q8_0",
    "gemma2-Q8_0",
    "gemma3k-Q8_0",
    "granite-Q8_0",
    "hunyuan-Q8_0",
    "olmo2-Q8_0",
    "phi3-Q8_0",
    "phi4mini-Q8_0",
    "smollm3-Q8_0",
    "lfm2-Q8_0",
    "granite4h-Q8_0",
    "qwen35-Q8_0",
];

/// Tokens of a row: more than the kit's windows, which are 16.
const LENGTH: usize = 24;

/// The students by name; and granite4h with its two layers exchanged, because in the kit's nothing is trained below its Mamba 2.
fn students() -> Option<Vec<(&'static str, Vec<u8>)>> {
    let kit = kit::kit_dir()?;
    let read = |name: &str| std::fs::read(kit.join(format!("models/{name}.gguf"))).unwrap();
    let mut all: Vec<_> = MODELS.iter().map(|name| (*name, read(name))).collect();
    all.push(("granite4h, exchanged", exchanged(&read("granite4h-Q8_0"))));
    Some(all)
}

/// A granitehybrid student of two layers with these in the other order.
pub(crate) fn exchanged(file: &[u8]) -> Vec<u8> {
    let gguf = Gguf::from_bytes(file).unwrap();
    let mut writer = Writer::new();
    for (key, value) in gguf.metadata.iter() {
        let value = match value {
            Value::Array(Array::I32(heads)) if key.ends_with("head_count_kv") => {
                Value::Array(Array::I32(heads.iter().rev().copied().collect()))
            }
            other => other.clone(),
        };
        writer.set(key, value);
    }
    for tensor in &gguf.tensors {
        let name = match tensor.name.split_at(6.min(tensor.name.len())) {
            ("blk.0.", rest) => format!("blk.1.{rest}"),
            ("blk.1.", rest) => format!("blk.0.{rest}"),
            _ => tensor.name.clone(),
        };
        let bytes = file[tensor.offset as usize..(tensor.offset + tensor.bytes) as usize].to_vec();
        writer.tensor(name, &tensor.shape, tensor.block_type().unwrap(), bytes);
    }
    writer.to_bytes()
}

fn plan(file: &[u8]) -> Plan {
    Plan::new(&Gguf::from_bytes(file).unwrap()).unwrap()
}

fn trainer(file: &[u8], shape: &Shape) -> Trainer {
    pollster::block_on(Trainer::new(plan(file), &Bytes(file.to_vec()), LENGTH, shape, 1)).unwrap()
}

/// A trainer whose B are not zero.
fn trained(file: &[u8]) -> Trainer {
    let mut trainer = trainer(file, &shape(2, 4.0));
    let mut numbers = Numbers(5);
    for trained in &mut trainer.pairs {
        trained.pair.b.iter_mut().for_each(|b| *b = 0.05 * numbers.signed());
    }
    trainer
}

/// A row, and the tokens that should follow: all but the first few are trained.
fn row() -> (Vec<u32>, Vec<Option<u32>>) {
    let mut numbers = Numbers(11);
    let tokens: Vec<u32> = (0..LENGTH).map(|_| numbers.below(512) as u32).collect();
    let targets = (0..LENGTH)
        .map(|t| (t > 2).then_some(tokens[(t + 1) % LENGTH]))
        .collect();
    (tokens, targets)
}

/// The mean loss of the row; and its gradient, where that is wanted.
fn mean_loss(trainer: &mut Trainer, backwards: bool) -> f64 {
    let (tokens, targets) = row();
    let count = targets.iter().flatten().count() as f64;
    let teachers = [Teacher::Text; LENGTH];
    let example = Example {
        tokens: &tokens,
        targets: &targets,
        teachers: &teachers,
    };
    let objective = Objective {
        ce: 1.0,
        ..Objective::default()
    };
    let sum = if backwards {
        trainer.zero();
        trainer.accumulate(&example, &objective, 1.0 / count)
    } else {
        trainer.measure(&example, &objective)
    };
    sum.total / count
}

/// The mean cross-entropy of the row by the runner's logits.
fn cross_entropy(logits: &[f32]) -> f64 {
    let (_, targets) = row();
    let rows = logits.chunks_exact(logits.len() / LENGTH).zip(&targets);
    let losses: Vec<f64> = rows
        .filter_map(|(row, target)| {
            let most = row.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = row.iter().map(|z| f64::from(z - most).exp()).sum();
            target.map(|target| f64::from(most - row[target as usize]) + sum.ln())
        })
        .collect();
    losses.iter().sum::<f64>() / losses.len() as f64
}

#[test]
fn forwards_every_student_is_the_runners() {
    let Some(students) = students() else {
        return kit::skip("forwards_every_student_is_the_runners");
    };
    let (tokens, _) = row();
    for (name, file) in students {
        let load = Engine::load(plan(&file), &Bytes(file.clone()), LENGTH, |_| Ok(()));
        let mut engine = pollster::block_on(load).unwrap();
        let base = engine.logits(&tokens);
        assert_eq!(trainer(&file, &shape(2, 4.0)).logits(&tokens), base, "{name}");
        let mut trained = trained(&file);
        assert_eq!(trained.base_logits(&tokens), base, "{name}");
        // What is trained is the runner's with the adapter beside it.
        engine.attach(Stack::new(engine.plan(), &[(&trained.adapter(), 1.0)]).unwrap());
        let (ours, theirs) = (mean_loss(&mut trained, false), cross_entropy(&engine.logits(&tokens)));
        let moved = (theirs - cross_entropy(&base)).abs();
        println!(
            "{name}: loss {ours:.4}, off by {:.1e}, moved by {moved:.1e}",
            (ours - theirs).abs()
        );
        assert!((ours - theirs).abs() <= 1e-5 * theirs, "{name}: {ours} and {theirs}");
        assert!(moved > 1e-3, "{name}: the pairs change something");
    }
}

/// What a layer is, in words that differ where its steps do.
fn kind(plan: &Plan, layer: usize) -> String {
    match plan.config.mixers[layer] {
        Mixer::Recurrent => "recurrent".to_owned(),
        Mixer::Attention(attention) => format!(
            "attention{}{}",
            if attention.window.is_some() { ", window" } else { "" },
            attention
                .rope
                .map_or(String::from(", not turned"), |rope| format!(", table {rope}"))
        ),
    }
}

/// One half of one pair.
#[derive(Clone, Copy)]
struct Half {
    pair: usize,
    /// 0: A; 1: B.
    half: usize,
}

fn values(trainer: &mut Trainer, at: Half) -> &mut Vec<f32> {
    let pair = &mut trainer.pairs[at.pair].pair;
    if at.half == 0 { &mut pair.a } else { &mut pair.b }
}

/// The slope of the loss along directions of some halves, by central differences of `step`.
fn slope(trainer: &mut Trainer, directions: &[(Half, Vec<f32>)], step: f32) -> f64 {
    let mut at = |sign: f32| {
        let keep: Vec<_> = trainer.pairs.iter().map(|trained| trained.pair.clone()).collect();
        for (half, direction) in directions {
            for (value, d) in values(trainer, *half).iter_mut().zip(direction) {
                *value += sign * step * d;
            }
        }
        let loss = mean_loss(trainer, false);
        for (trained, keep) in trainer.pairs.iter_mut().zip(keep) {
            trained.pair = keep;
        }
        loss
    };
    (at(1.0) - at(-1.0)) / (2.0 * f64::from(step))
}

fn along(gradients: &[[Vec<f32>; 2]], directions: &[(Half, Vec<f32>)]) -> f64 {
    let of = |(at, direction): &(Half, Vec<f32>)| {
        let gradient = gradients[at.pair][at.half].iter().zip(direction);
        gradient.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum::<f64>()
    };
    directions.iter().map(of).sum()
}

#[test]
fn gradients_of_every_student_are_slopes_of_its_loss() {
    let Some(students) = students() else {
        return kit::skip("gradients_of_every_student_are_slopes_of_its_loss");
    };
    for (name, file) in students {
        let mut trainer = trained(&file);
        mean_loss(&mut trainer, true);
        let gradients: Vec<_> = trainer.pairs.iter().map(|t| t.gradient.clone()).collect();
        let plan = plan(&file);
        // The lowest of each kind of layer and module: most lies between it and the loss.
        let mut chosen: BTreeMap<(String, String), usize> = BTreeMap::new();
        for (i, trained) in trainer.pairs.iter().enumerate() {
            let (layer, module) = trained.pair.base.strip_prefix("blk.").unwrap().split_once('.').unwrap();
            let kind = kind(&plan, layer.parse().unwrap());
            chosen.entry((kind, module.to_owned())).or_insert(i);
        }
        let mut numbers = Numbers(7);
        let mut rows = Vec::new();
        for ((kind, module), pair) in &chosen {
            for half in 0..2 {
                let at = Half { pair: *pair, half };
                let g = &gradients[*pair][half];
                let aligned = g.iter().map(|g| g.signum() * (1.0 + 0.5 * numbers.signed())).collect();
                let largest = (0..g.len()).max_by(|a, b| g[*a].abs().total_cmp(&g[*b].abs())).unwrap();
                let mut one = vec![0.0; g.len()];
                one[largest] = 1.0;
                rows.push((format!("{kind} {module} {half} aligned"), vec![(at, aligned)]));
                rows.push((format!("{kind} {module} {half} entry"), vec![(at, one)]));
            }
        }
        let halves = (0..trainer.pairs.len()).flat_map(|pair| [0, 1].map(|half| Half { pair, half }));
        let whole: Vec<(Half, Vec<f32>)> = halves
            .map(|at| (at, numbers.vector(gradients[at.pair][at.half].len())))
            .collect();
        rows.push(("whole".into(), whole));
        for (what, directions) in rows {
            let expected = along(&gradients, &directions);
            let norm = directions.iter().flat_map(|d| &d.1).map(|d| d * d).sum::<f32>().sqrt();
            print!(
                "{name} {what}: {expected:.3e} (per unit {:.1e})",
                expected / f64::from(norm)
            );
            for step in [0.003, 0.01, 0.03, 0.1] {
                let found = slope(&mut trainer, &directions, step / norm);
                print!(" {:.1e}", (found - expected).abs() / expected.abs());
            }
            println!();
        }
    }
}
