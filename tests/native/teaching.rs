//! Every architecture on the CPU's trainer: without pairs it is the runner bit for bit, with them its loss is the runner's, and
//! its gradients are the slopes of the loss.

use crate::kit;
use crate::oracle::shape;
use std::collections::BTreeMap;
use understudy::cpu::engine::Engine;
use understudy::cpu::loss::Teacher;
use understudy::cpu::trainer::recurrent::{delta_net_back, gated_norm_back, mamba2_back, short_conv_back};
use understudy::cpu::trainer::{Example, Shape, Trainer, targets};
use understudy::cpu::{delta_net, gated_norm, mamba2, short_conv};
use understudy::distill::Objective;
use understudy::format::Gguf;
use understudy::format::gguf::{Array, Value, Writer};
use understudy::format::source::Bytes;
use understudy::model::chance::Numbers;
use understudy::model::lora::Stack;
use understudy::model::{CacheType, Mixer, Mixing, Plan, Recurrent};

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
const SHORT: usize = 20;
/// More than a chunk of the runner's with a window, so that its rings have gone round.
const LONG: usize = 81;

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
    pollster::block_on(Trainer::new(plan(file), &Bytes(file.to_vec()), LONG, shape, 1)).unwrap()
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
fn row(length: usize) -> (Vec<u32>, Vec<Option<u32>>) {
    let mut numbers = Numbers(11);
    let tokens: Vec<u32> = (0..length).map(|_| numbers.below(512) as u32).collect();
    let targets = (0..length)
        .map(|t| (t > 2).then_some(tokens[(t + 1) % length]))
        .collect();
    (tokens, targets)
}

/// The mean loss of a row; and its gradient, where that is wanted.
fn mean_loss(trainer: &mut Trainer, length: usize, backwards: bool) -> f64 {
    let (tokens, targets) = row(length);
    let count = targets.iter().flatten().count() as f64;
    let teachers = vec![Teacher::Text; length];
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

/// The mean cross-entropy of a row by logits.
fn cross_entropy(logits: &[f32], targets: &[Option<u32>]) -> f64 {
    let rows = logits.chunks_exact(logits.len() / targets.len()).zip(targets);
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
    let (tokens, targets) = row(LONG);
    let mut worst = 0.0f64;
    for (name, file) in students {
        let source = Bytes(file.clone());
        let load = Engine::load(plan(&file), &source, LONG, CacheType::F32, |_| Ok(()));
        let mut engine = pollster::block_on(load).unwrap();
        let base = engine.logits(&tokens);
        assert_eq!(trainer(&file, &shape(2, 4.0)).logits(&tokens), base, "{name}");
        let mut trained = trained(&file);
        assert_eq!(trained.base_logits(&tokens), base, "{name}");
        // What is trained is the runner's with the adapter beside it.
        engine.attach(Stack::new(engine.plan(), &[(&trained.adapter(), 1.0)]).unwrap());
        let ours = mean_loss(&mut trained, LONG, false);
        let theirs = cross_entropy(&engine.logits(&tokens), &targets);
        let moved = (theirs - cross_entropy(&base, &targets)).abs();
        worst = worst.max((ours - theirs).abs() / theirs);
        assert!((ours - theirs).abs() <= 1e-6 * theirs, "{name}: {ours} and {theirs}");
        assert!(moved > 1e-3, "{name}: the pairs change the loss by {moved}");
    }
    println!("losses are off by {worst:.1e} at most");
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
        let loss = mean_loss(trainer, SHORT, false);
        for (trained, keep) in trainer.pairs.iter_mut().zip(keep) {
            trained.pair = keep;
        }
        loss
    };
    (at(1.0) - at(-1.0)) / (2.0 * f64::from(step))
}

/// What the gradients say of such a slope.
fn along(gradients: &[[Vec<f32>; 2]], directions: &[(Half, Vec<f32>)]) -> f64 {
    let of = |(at, direction): &(Half, Vec<f32>)| {
        let gradient = gradients[at.pair][at.half].iter().zip(direction);
        gradient.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum::<f64>()
    };
    directions.iter().map(of).sum()
}

/// The directions that are looked at: for every kind of layer and module, along a half and for its largest entry.
///
/// Along a half all entries count, with their signs by the gradient's and their sizes by chance: a wrong entry is not made up
/// for by another, and the slope is far above what rounding hides. The last is a direction of all pairs at once, by chance alone.
fn directions(trainer: &Trainer, plan: &Plan) -> Vec<(String, Vec<(Half, Vec<f32>)>)> {
    // The lowest of each kind: most lies between it and the loss.
    let mut chosen: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for (i, trained) in trainer.pairs.iter().enumerate() {
        let (layer, module) = trained.pair.base[4..].split_once('.').unwrap();
        chosen.entry((kind(plan, layer.parse().unwrap()), module)).or_insert(i);
    }
    let mut numbers = Numbers(7);
    let mut all = Vec::new();
    for ((kind, module), pair) in chosen {
        for half in 0..2 {
            let at = Half { pair, half };
            let g = &trainer.pairs[pair].gradient[half];
            let along = g.iter().map(|g| g.signum() * (1.0 + 0.5 * numbers.signed())).collect();
            let largest = (0..g.len()).max_by(|a, b| g[*a].abs().total_cmp(&g[*b].abs())).unwrap();
            let mut one = vec![0.0; g.len()];
            one[largest] = 1.0;
            all.push((format!("{kind}: {module}, half {half}"), vec![(at, along)]));
            all.push((
                format!("{kind}: {module}, half {half}, entry {largest}"),
                vec![(at, one)],
            ));
        }
    }
    let halves = (0..trainer.pairs.len()).flat_map(|pair| [0, 1].map(|half| Half { pair, half }));
    let whole = halves.map(|at| (at, numbers.vector(trainer.pairs[at.pair].gradient[at.half].len())));
    all.push(("all pairs".into(), whole.collect()));
    all
}

/// Compares gradients with slopes, for the students that `which` picks.
///
/// Losses are f32 sums: their last digits, about 1e-6, over twice the step are what a slope per unit of length is off by; what a
/// difference leaves of the curvature is below 2e-3 of the slope. Qwen 3.5's random states bend much more (a step of 0.01 is off by
/// 15 %), so that there the step is shorter and the curvature is taken out (Richardson). A direction by chance has a small
/// slope and bends little: there the step is longer.
fn compare(test: &str, which: impl Fn(&Plan) -> bool) {
    let Some(students) = students() else {
        return kit::skip(test);
    };
    for (name, file) in students {
        let plan = plan(&file);
        if !which(&plan) {
            continue;
        }
        let mut trainer = trained(&file);
        mean_loss(&mut trainer, SHORT, true);
        let gradients: Vec<_> = trainer.pairs.iter().map(|t| t.gradient.clone()).collect();
        let directions = directions(&trainer, &plan);
        let (mut worst, count) = (0.0f64, directions.len());
        for (what, directions) in directions {
            let length = directions.iter().flat_map(|d| &d.1).map(|d| d * d).sum::<f32>().sqrt();
            let expected = along(&gradients, &directions);
            let mut found = |step: f32| slope(&mut trainer, &directions, step / length);
            let (found, rounding) = if directions.len() > 1 {
                (found(0.03), 0.5e-6 / 0.03)
            } else if name.starts_with("qwen35") {
                ((4.0 * found(0.003) - found(0.006)) / 3.0, 0.5e-6 / 0.003)
            } else {
                (found(0.01), 0.5e-6 / 0.01)
            };
            let off = (found - expected).abs();
            worst = worst.max(off / expected.abs());
            assert!(
                off < 5e-3 * expected.abs() + rounding * f64::from(length),
                "{name}, {what}: the slope is {found}, the gradient says {expected}"
            );
        }
        println!("{name}: {count} directions, off by {worst:.1e} at most");
    }
}

#[test]
fn gradients_are_slopes_where_layers_attend() {
    compare("gradients_are_slopes_where_layers_attend", |plan| {
        plan.config.recurrent.is_none()
    });
}

#[test]
fn gradients_are_slopes_where_layers_recur() {
    compare("gradients_are_slopes_where_layers_recur", |plan| {
        plan.config.recurrent.is_some()
    });
}

/// Slopes of sum(w y) over some inputs, beside what was worked out: y from the twin, in f32.
fn check_slopes(
    what: &str,
    inputs: &mut [Vec<f32>],
    gradients: &[Vec<f32>],
    y: impl Fn(&[Vec<f32>]) -> Vec<f32>,
    w: &[f32],
) {
    let mut numbers = Numbers(13);
    for i in 0..inputs.len() {
        let direction: Vec<f32> = gradients[i]
            .iter()
            .map(|g| g.signum() * (1.0 + 0.5 * numbers.signed()))
            .collect();
        let expected: f64 = gradients[i].iter().zip(&direction).map(|(g, d)| f64::from(g * d)).sum();
        let mut at = |step: f32| {
            let keep = inputs[i].clone();
            inputs[i].iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d);
            let sum: f64 = y(inputs).iter().zip(w).map(|(y, w)| f64::from(y * w)).sum();
            inputs[i] = keep;
            sum
        };
        let found = (at(1e-3) - at(-1e-3)) / 2e-3;
        assert!(expected > 0.1, "{what}, input {i}: something is asked of it");
        assert!(
            (found - expected).abs() < 2e-3 * expected,
            "{what}, input {i}: the slope is {found}, the gradient says {expected}"
        );
    }
}

/// Shapes that no student of the kit has: several groups of B and C, other taps, heads that share keys.
#[test]
fn recurrent_steps_are_gone_back_through_alone() {
    let shape = |mixing, taps, heads, head_dim, groups, state| {
        let inner = heads * head_dim;
        Recurrent {
            mixing,
            channels: if heads == 0 { 8 } else { inner + 2 * groups * state },
            taps,
            heads,
            head_dim,
            groups,
            state,
        }
    };
    let count = 11;
    for shape in [
        shape(Mixing::ShortConv, 2, 0, 0, 0, 0),
        shape(Mixing::ShortConv, 5, 0, 0, 0, 0),
        shape(Mixing::Mamba2, 4, 4, 4, 2, 8),
        shape(Mixing::Mamba2, 2, 6, 8, 1, 4),
        shape(Mixing::DeltaNet, 4, 4, 4, 2, 8),
        shape(Mixing::DeltaNet, 3, 2, 8, 2, 4),
    ] {
        let mut numbers = Numbers(3);
        let what = format!("{:?} of {} taps", shape.mixing, shape.taps);
        let projection = numbers.vector(count * shape.projection());
        let taps = numbers.vector(shape.channels * shape.taps);
        let bias = (shape.mixing == Mixing::Mamba2).then(|| numbers.vector(shape.channels));
        let w = numbers.vector(count * shape.channels);
        let convolve = |x: &[Vec<f32>]| {
            let (mut y, mut carry) = (vec![0.0; w.len()], vec![0.0; shape.conv_carry()]);
            short_conv::short_conv(&shape, &x[0], &taps, bias.as_deref(), &mut carry, &mut y);
            y
        };
        let mut d_x = vec![0.0; projection.len()];
        short_conv_back(&shape, &projection, &taps, bias.as_deref(), &w, &mut d_x);
        check_slopes(
            &format!("{what}, convolution"),
            &mut [projection.clone()],
            &[d_x],
            convolve,
            &w,
        );
        if shape.mixing == Mixing::ShortConv {
            continue;
        }

        let mixed = numbers.vector(count * shape.channels);
        let mut params = numbers.vector(3 * shape.heads);
        params[shape.heads..2 * shape.heads]
            .iter_mut()
            .for_each(|a| *a = -0.5 - a.abs());
        let w = numbers.vector(count * shape.inner());
        type Scan = fn(&Recurrent, &[f32], &[f32], &[f32], &mut [f32], &mut [f32]);
        type Back = fn(&Recurrent, &[f32], &[f32], &[f32], &[f32], &mut [f32], &mut [f32]);
        let (scan, back): (Scan, Back) = match shape.mixing {
            Mixing::Mamba2 => (mamba2::mamba2, mamba2_back),
            _ => (delta_net::delta_net, delta_net_back),
        };
        let results = |x: &[Vec<f32>]| {
            let (mut y, mut carry) = (vec![0.0; w.len()], vec![0.0; shape.scan_carry()]);
            scan(&shape, &x[0], &x[1], &params, &mut carry, &mut y);
            y
        };
        let (mut d_mixed, mut d_projection) = (vec![0.0; mixed.len()], vec![0.0; projection.len()]);
        back(
            &shape,
            &mixed,
            &projection,
            &params,
            &w,
            &mut d_mixed,
            &mut d_projection,
        );
        let mut inputs = [mixed, projection.clone()];
        check_slopes(
            &format!("{what}, scan"),
            &mut inputs,
            &[d_mixed, d_projection],
            results,
            &w,
        );

        let gain = numbers.vector(if shape.mixing == Mixing::Mamba2 {
            shape.inner()
        } else {
            shape.head_dim
        });
        let before = numbers.vector(count * shape.inner());
        let results = |x: &[Vec<f32>]| {
            let mut y = x[0].clone();
            gated_norm::gated_norm(&shape, &x[1], &gain, 1e-5, &mut y);
            y
        };
        let (mut dy, mut d_projection) = (w.clone(), vec![0.0; projection.len()]);
        gated_norm_back(&shape, &projection, &gain, 1e-5, &before, &mut dy, &mut d_projection);
        let mut inputs = [before, projection];
        check_slopes(
            &format!("{what}, gated norm"),
            &mut inputs,
            &[dy, d_projection],
            results,
            &w,
        );
    }
}

#[test]
fn the_seven_matrices_are_found_wherever_a_layer_has_them() {
    let Some(students) = students() else {
        return kit::skip("the_seven_matrices_are_found_wherever_a_layer_has_them");
    };
    for (name, file) in &students {
        let plan = plan(file);
        let names = |modules: &[&str], last_layers| -> Vec<String> {
            let shape = Shape {
                modules: modules.iter().map(|m| (*m).to_owned()).collect(),
                last_layers,
                ..shape(2, 4.0)
            };
            targets(&plan, &shape).into_iter().map(|target| target.base).collect()
        };
        let c = &plan.config;
        let recurrent = c.mixers.iter().filter(|mixer| **mixer == Mixer::Recurrent).count();
        let (feed_forward, attention) = if c.fused { (2, 2) } else { (3, 4) };
        let expected = c.layers * feed_forward + (c.layers - recurrent) * attention;
        assert_eq!(names(&[], None).len(), expected, "{name}");
        if c.fused {
            assert_eq!(names(&["attn_k"], Some(1)), ["blk.1.attn_qkv.weight"]);
            assert_eq!(names(&["ffn_gate"], Some(1)), ["blk.1.ffn_up.weight"]);
            // Changed as a whole: the student's own rows, gate above up.
            let up = targets(&plan, &shape(2, 4.0))
                .into_iter()
                .find(|t| t.base.contains("ffn_up"));
            assert_eq!(up.unwrap().rows, 2 * c.feed_forward);
        }
    }
    // Where the taught layers have none of what is wanted there is nothing to teach.
    let (_, file) = students.last().unwrap();
    let nothing = Shape {
        modules: vec!["attn_q".into()],
        last_layers: Some(1),
        ..shape(2, 4.0)
    };
    let source = Bytes(file.clone());
    let refused = pollster::block_on(Trainer::new(plan(file), &source, SHORT, &nothing, 1));
    assert_eq!(refused.err().unwrap().code(), "bad-request");
}
