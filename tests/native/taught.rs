//! Every architecture is taught on the GPU: forwards what the trainer computes is what the runner computes, backwards what the CPU's
//! trainer computes, whose gradients `teaching` compares with slopes of the loss.

use crate::gpu_trainer::{lesson, meet, plan, stirred, trainer_of, with_examples};
use crate::kit;
use crate::oracle::{apart, shape};
use crate::teaching::exchanged;
use pollster::block_on;
use understudy::cpu::trainer::Trainer;
use understudy::distill::Objective;
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
        println!(
            "{model}: {} pairs; logits {forwards:.1e} from the runner's, gradients {backwards:.1e} from the CPU's",
            pairs.len()
        );
        if forwards > 1e-4 || backwards > 1e-4 {
            failed.push(format!("{model}: logits {forwards:.1e}, gradients {backwards:.1e}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
