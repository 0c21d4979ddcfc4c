//! Every architecture is taught on the GPU: what the trainer computes is what the runner computes, and its gradients are the
//! slopes of its loss.

use crate::gpu_trainer::{lesson, meet, plan, stirred, trainer_of, with_examples};
use crate::kit;
use crate::oracle::{apart, shape};
use crate::teaching::exchanged;
use pollster::block_on;
use understudy::cpu::trainer::{Trainer, initial};
use understudy::distill::Objective;
use understudy::distill::gpu::GpuTrainer;
use understudy::distill::lesson::Lesson;
use understudy::format::adapter::Pair;
use understudy::format::source::Bytes;
use understudy::gpu::training::{Memory, Room};
use understudy::student::Student;

/// One model of each architecture, and of each way in which layers of one differ.
const MODELS: [&str; 13] = [
    "gemma2",
    "gemma3k",
    "smollm3",
    "phi3",
    "phi4mini",
    "granite",
    "olmo2",
    "ernie45",
    "hunyuan",
    "exaone4",
    "lfm2",
    "granite4h",
    "qwen35",
];

/// The sum of the lessons' losses, in f64.
fn loss(trainer: &mut GpuTrainer, lessons: &[Lesson], objective: &Objective) -> f64 {
    let stats = with_examples(lessons, |examples| block_on(trainer.measure(examples, objective))).unwrap();
    stats.iter().flatten().map(|stats| f64::from(stats[0])).sum()
}

fn moved(pairs: &[Pair], along: &[Pair], by: f32) -> Vec<Pair> {
    let sum = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a + by * b).collect();
    let pairs = pairs.iter().zip(along);
    pairs
        .map(|(pair, along)| Pair {
            a: sum(&pair.a, &along.a),
            b: sum(&pair.b, &along.b),
            ..pair.clone()
        })
        .collect()
}

#[test]
fn every_architecture_is_taught_on_the_gpu() {
    let name = "every_architecture_is_taught_on_the_gpu";
    let Some(kit) = kit::kit_dir() else {
        return kit::skip(name);
    };
    let Some(gpu) = meet(name) else { return };
    // One row longer than the windows of the kit's models and the chunks of recurrent layers, filled up beyond its end.
    let lessons = [lesson(1, 70), lesson(2, 21)];
    let room = Room { rows: 160, named: 8 };
    let objective = Objective::default();
    let mut failed = Vec::new();
    let mut files: Vec<(&str, Vec<u8>)> = MODELS
        .iter()
        .map(|model| {
            (
                *model,
                std::fs::read(kit.join(format!("models/{model}-Q8_0.gguf"))).unwrap(),
            )
        })
        .collect();
    let hybrid = files.iter().find(|(model, _)| *model == "granite4h").unwrap();
    files.push(("granite4h, exchanged", exchanged(&hybrid.1)));
    for (model, file) in files {
        let mut trainer = trainer_of(&gpu, &file, &shape(4, 8.0), room, 80);
        let vocabulary = plan(&file).config.vocabulary as u32;
        let tokens: Vec<u32> = (0..80).map(|t| 3 + t * 37 % (vocabulary - 3)).collect();
        let source = Bytes(file.clone());
        let mut student = block_on(Student::open(&source, None, None, |_, _| Ok(()))).unwrap();
        let runner = block_on(student.logits(&tokens)).unwrap();
        let taught = block_on(trainer.logits(&tokens, true)).unwrap();
        let forwards = apart(&taught, &runner);
        // Down a random direction through all pairs, the loss falls as the gradient says.
        let pairs = stirred(&trainer);
        trainer.set_pairs(&pairs);
        trainer.zero();
        with_examples(&lessons, |examples| {
            block_on(trainer.accumulate(examples, &objective, 1.0))
        })
        .unwrap();
        let gradient = block_on(trainer.read(Memory::Gradient)).unwrap();
        let mut settled = plan(&file);
        settled.settle_factors(settled.config.context);
        let mut on_cpu = block_on(Trainer::new(settled, &Bytes(file.clone()), 80, &shape(4, 8.0), 1)).unwrap();
        assert_eq!(on_cpu.pairs.len(), pairs.len(), "{model}");
        for (trained, pair) in on_cpu.pairs.iter_mut().zip(&pairs) {
            trained.pair = pair.clone();
        }
        with_examples(&lessons, |examples| {
            for example in examples {
                on_cpu.accumulate(example, &objective, 1.0);
            }
        });
        let twins = on_cpu.pairs.iter().zip(&gradient);
        let backwards = twins
            .map(|(cpu, gpu)| apart(&gpu.a, &cpu.gradient[0]).max(apart(&gpu.b, &cpu.gradient[1])))
            .fold(0.0, f64::max);
        let along: Vec<Pair> = pairs
            .iter()
            .zip(&gradient)
            .enumerate()
            .map(|(i, (pair, gradient))| {
                // Towards the gradient, half chance: a direction in which the loss changes by more than f32 rounds away.
                let of = |which: &str, values: &[f32], rank: usize, columns: usize| {
                    let norm = values.iter().map(|g| g * g).sum::<f32>().sqrt().max(1e-12);
                    let chance = initial(7 + i as u64, which, rank, columns);
                    let length = chance.iter().map(|c| c * c).sum::<f32>().sqrt();
                    let some = values.iter().zip(chance);
                    some.map(|(g, c)| g / norm + c / length).collect::<Vec<f32>>()
                };
                Pair {
                    a: of("a", &gradient.a, pair.rank, pair.columns),
                    b: of("b", &gradient.b, pair.rank, pair.rows),
                    ..pair.clone()
                }
            })
            .collect();
        let slope: f64 = gradient
            .iter()
            .zip(&along)
            .flat_map(|(g, d)| g.a.iter().zip(&d.a).chain(g.b.iter().zip(&d.b)))
            .map(|(g, d)| f64::from(*g) * f64::from(*d))
            .sum();
        let step = 2e-3;
        let mut at = |by: f32| {
            trainer.set_pairs(&moved(&pairs, &along, by));
            loss(&mut trainer, &lessons, &objective)
        };
        // The fourth-order difference: what is left is the rounding of the loss.
        let measured = (8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step))) / (12.0 * f64::from(step));
        let error = (measured - slope).abs() / slope.abs();
        println!(
            "{model}: {} pairs; logits {forwards:.1e} from the runner's, gradients {backwards:.1e} from the CPU's; slope {slope:.4}, measured {measured:.4}",
            pairs.len()
        );
        if forwards > 1e-4 || backwards > 1e-4 || error > 5e-3 {
            failed.push(format!(
                "{model}: logits {forwards:.1e}, gradients {backwards:.1e}, slope off by {error:.1e}"
            ));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
