//! Recurrent layers: however a prompt is cut, and however often a student goes back, it answers as in one pass.

use crate::gpu::meet;
use crate::kit;
use crate::logits::{reference, tolerance, worst};
use understudy::format::BlockType;
use understudy::format::adapter::{Adapter, Pair};
use understudy::format::gguf::{Array, Gguf, Metadata, Value, Writer};
use understudy::format::source::Bytes;
use understudy::gpu::{Gpu, GpuOptions};
use understudy::model::chance::Numbers;
use understudy::model::{Mixing, OPENING, Plan, Recurrent, Sampling};
use understudy::student::{Answer, Engine, Prompt, Request, Student};

/// Students of the kit with recurrent layers.
const MODELS: [&str; 3] = ["lfm2-Q8_0", "granite4h-Q8_0", "qwen35-Q8_0"];

/// The CPU, and lavapipe where there is one.
fn devices(test: &str) -> Vec<Option<Gpu>> {
    let mut devices = vec![None];
    devices.extend(meet(test, GpuOptions::default()).map(Some));
    devices
}

fn open(file: &[u8], gpu: Option<&Gpu>) -> Student {
    pollster::block_on(Student::open(&Bytes(file.to_vec()), gpu, None, |_, _| Ok(()))).unwrap()
}

/// Runs `ids` from `position` on and draws `count` tokens, with steps in flight that are not wanted.
fn draw(engine: &mut Engine, ids: &[u32], position: usize, count: usize) -> Vec<u32> {
    let mut tokens = Vec::new();
    match engine {
        Engine::Cpu(engine) => {
            engine.begin(position, Sampling::GREEDY, 0);
            let mut left = ids.len();
            for chunk in engine.chunks(ids) {
                left -= chunk.len();
                tokens.extend(engine.extend(chunk, left == 0));
            }
            tokens.extend((1..count).map(|_| engine.decode()));
        }
        Engine::Gpu(engine) => pollster::block_on(async {
            let first = engine.prefill(ids, position, Sampling::GREEDY, 0, |_| Ok(())).await;
            tokens.push(first.unwrap());
            for _ in 1..count {
                tokens.push(engine.decode(100).await.unwrap());
            }
            engine.settle().await.unwrap();
        }),
    }
    tokens
}

fn resume(engine: &Engine, most: usize) -> usize {
    match engine {
        Engine::Cpu(engine) => engine.resume(most),
        Engine::Gpu(engine) => engine.resume(most),
    }
}

#[test]
fn chunks_of_seven_agree_with_the_kit() {
    let test = "chunks_of_seven_agree_with_the_kit";
    for name in MODELS {
        let Some((file, reference)) = reference(name) else {
            return kit::skip(test);
        };
        for gpu in devices(test) {
            let mut student = open(&file, gpu.as_ref());
            let logits = match student.engine() {
                Engine::Cpu(engine) => engine.logits_in_chunks(&reference.ids, 7),
                Engine::Gpu(engine) => pollster::block_on(engine.logits_in_chunks(&reference.ids, 7)).unwrap(),
            };
            let error = worst(&logits, &reference.logits);
            println!("{name} in chunks of 7, GPU {}: {error:.1e}", gpu.is_some());
            assert!(error <= tolerance(name), "{name}: {error:.1e}");
        }
    }
}

#[test]
fn a_token_costs_one_submission_and_eight_dispatches_a_layer() {
    let test = "a_token_costs_one_submission_and_eight_dispatches_a_layer";
    let Some(gpu) = meet(test, GpuOptions::default()) else {
        return;
    };
    for name in MODELS {
        let Some((file, reference)) = reference(name) else {
            return kit::skip(test);
        };
        let before = gpu.counts();
        let mut student = open(&file, Some(&gpu));
        let allocated = (gpu.counts() - before).bytes;
        let (layers, fit) = (student.plan().config.layers, student.fit().total());
        let Engine::Gpu(engine) = student.engine() else {
            panic!("it was opened on the device")
        };
        let dispatches = engine.dispatches_per_token();
        println!("{name}: {dispatches} dispatches for {layers} layers, {allocated} bytes of {fit} planned");
        assert!(dispatches <= 8 * layers + 3, "{name}: {dispatches}");
        assert!(allocated <= fit + fit / 50, "{name}: the plan counts what is carried");
        pollster::block_on(async {
            let prompt = &reference.ids[..20];
            engine
                .prefill(prompt, 0, Sampling::GREEDY, 0, |_| Ok(()))
                .await
                .unwrap();
            let before = gpu.counts();
            for _ in 0..5 {
                engine.decode(1).await.unwrap();
            }
            let used = gpu.counts() - before;
            assert_eq!((used.submissions, used.buffers, used.bind_groups), (5, 0, 0), "{name}");
            assert_eq!(used.dispatches, 5 * dispatches as u64, "{name}");
        });
    }
}

#[test]
fn blocks_that_guess_ahead_are_left_out() {
    let Some((file, reference)) = reference("qwen35-Q8_0") else {
        return kit::skip("blocks_that_guess_ahead_are_left_out");
    };
    let gguf = Gguf::from_bytes(&file).unwrap();
    let mut writer = Writer::new();
    for (key, value) in gguf.metadata.iter() {
        writer.set(key, value.clone());
    }
    writer.set("qwen35.block_count", Value::U32(5));
    writer.set("qwen35.nextn_predict_layers", Value::U32(1));
    let listed = vec![true, true, true, false, false];
    writer.set("qwen35.attention.recurrent_layers", Value::Array(Array::Bool(listed)));
    for tensor in &gguf.tensors {
        let bytes = &file[tensor.offset as usize..][..tensor.bytes as usize];
        writer.tensor(
            &tensor.name,
            &tensor.shape,
            tensor.block_type().unwrap(),
            bytes.to_vec(),
        );
    }
    writer.tensor("blk.4.nextn.enorm.weight", &[8], BlockType::F32, vec![0; 32]);
    let ids = &reference.ids[..4];
    let logits = [&file, &writer.to_bytes()].map(|file| {
        let mut student = open(file, None);
        assert_eq!(student.plan().config.layers, 4);
        pollster::block_on(student.logits(ids)).unwrap()
    });
    assert!(logits[0] == logits[1]);
    // A tensor of a layer that is run is not left out.
    writer.tensor("blk.3.nextn.enorm.weight", &[8], BlockType::F32, vec![0; 32]);
    let refused = Plan::new(&Gguf::from_bytes(&writer.to_bytes()).unwrap()).unwrap_err();
    assert_eq!(refused.code(), "unsupported");
}

#[test]
fn adapters_are_laid_beside_recurrent_layers() {
    let test = "adapters_are_laid_beside_recurrent_layers";
    for (name, matrices) in [
        (
            MODELS[0],
            [
                ("blk.0.shortconv.in_proj.weight", 768, 256),
                ("blk.2.attn_q.weight", 256, 256),
            ],
        ),
        (
            MODELS[1],
            [("blk.0.ssm_in.weight", 1096, 256), ("blk.0.ssm_out.weight", 256, 512)],
        ),
        (
            MODELS[2],
            [("blk.0.ssm_alpha.weight", 4, 256), ("blk.3.attn_q.weight", 512, 256)],
        ),
    ] {
        let Some((file, reference)) = reference(name) else {
            return kit::skip(test);
        };
        let ids = &reference.ids[..12];
        let mut answers = Vec::new();
        for gpu in devices(test) {
            let mut student = open(&file, gpu.as_ref());
            let mut numbers = Numbers(5);
            let pairs = matrices.map(|(base, rows, columns)| Pair {
                base: base.into(),
                rank: 4,
                rows,
                columns,
                a: numbers.vector(4 * columns),
                b: numbers.vector(rows * 4).into_iter().map(|v| 0.02 * v).collect(),
            });
            let adapter = Adapter {
                architecture: student.plan().config.architecture.name().into(),
                alpha: 4.0,
                pairs: pairs.to_vec(),
                metadata: Metadata::default(),
            };
            let plain = pollster::block_on(student.logits(ids)).unwrap();
            pollster::block_on(student.attach(adapter, 1.0)).unwrap();
            let changed = pollster::block_on(student.logits(ids)).unwrap();
            let one_by_one = pollster::block_on(student.logits_by_decode(ids)).unwrap();
            assert!(worst(&changed, &plain) > 0.01, "{name}");
            assert!(worst(&changed, &one_by_one) < 1e-3, "{name}");
            answers.push(changed);
        }
        assert!(answers.iter().all(|a| worst(a, &answers[0]) < 1e-3), "{name}");
    }
}

#[test]
fn impossible_shapes_are_refused() {
    let shape = |changes: &[(&str, u32)], mixing| {
        let mut metadata = Metadata::default();
        let whole = [
            ("shortconv.l_cache", 3),
            ("ssm.conv_kernel", 4),
            ("ssm.inner_size", 128),
            ("ssm.time_step_rank", 4),
            ("ssm.group_count", 2),
            ("ssm.state_size", 32),
        ];
        for (key, value) in whole.iter().chain(changes) {
            metadata.insert(format!("x.{key}"), Value::U32(*value));
        }
        Recurrent::from_metadata(&metadata, "x", mixing, 256).map_err(|error| error.code())
    };
    for mixing in [Mixing::Mamba2, Mixing::DeltaNet] {
        let whole = shape(&[], mixing).unwrap();
        assert_eq!((whole.channels, whole.inner(), whole.scan_carry()), (256, 128, 4096));
        for (key, value, code) in [
            ("ssm.conv_kernel", 1, "malformed-file"),
            ("ssm.inner_size", 0, "malformed-file"),
            ("ssm.time_step_rank", 3, "malformed-file"),
            ("ssm.group_count", 3, "malformed-file"),
            ("ssm.state_size", u32::MAX, "malformed-file"),
            ("ssm.state_size", 30, "unsupported"),
            ("ssm.state_size", 512, "unsupported"),
        ] {
            assert_eq!(shape(&[(key, value)], mixing), Err(code), "{key} {value}");
        }
    }
    assert_eq!(shape(&[], Mixing::ShortConv).unwrap().projection(), 768);
    assert_eq!(
        shape(&[("shortconv.l_cache", 0)], Mixing::ShortConv),
        Err("malformed-file")
    );
}

#[test]
fn going_back_gives_what_a_fresh_run_gives() {
    let test = "going_back_gives_what_a_fresh_run_gives";
    for name in MODELS {
        let Some((file, reference)) = reference(name) else {
            return kit::skip(test);
        };
        let ids = &reference.ids;
        let mut long_answers = Vec::new();
        for gpu in devices(test) {
            let mut student = open(&file, gpu.as_ref());
            let engine = student.engine();
            // An answer, of which the last token is not run; what is in flight behind it does not count.
            let answer = draw(engine, &ids[..20], 0, 5);
            let so_far = [&ids[..20], &answer[..4]].concat();
            assert_eq!(resume(engine, 24), 24, "{name}");
            let next = draw(engine, &ids[20..30], 24, 6);
            // Back in front of the prompt's last tokens: here, where it went on.
            assert_eq!(resume(engine, 33), 24, "{name}");
            assert_eq!(
                draw(engine, &ids[20..30], 24, 6),
                next,
                "{name}: the last tokens once more"
            );
            // In front of that, nothing is known but the start.
            assert_eq!(resume(engine, 23), 0, "{name}");
            let whole = [&so_far, &ids[20..30]].concat();
            assert_eq!(draw(engine, &whole, 0, 6), next, "{name}: from the start");
            // A prompt of more than one chunk.
            let long: Vec<u32> = ids.iter().copied().cycle().take(300).collect();
            long_answers.push(draw(engine, &long, 0, 6));
            let kept = 300 - OPENING;
            assert_eq!(resume(engine, 299), kept, "{name}");
            let again = draw(engine, &long[kept..], kept, 6);
            assert_eq!(Some(&again), long_answers.last(), "{name}: the long prompt");
        }
        assert!(long_answers.iter().all(|answer| *answer == long_answers[0]), "{name}");
    }
}

#[test]
fn prompts_that_begin_alike_are_answered_as_by_a_fresh_student() {
    let test = "prompts_that_begin_alike_are_answered_as_by_a_fresh_student";
    let request = |text: &str| Request {
        prompt: Prompt::Text(text.into()),
        sampling: Sampling::GREEDY,
        max_tokens: Some(8),
        ignore_end: true,
        ..Request::chat(Vec::new())
    };
    let answer = |student: &mut Student, text: &str| -> Answer {
        pollster::block_on(student.generate(&request(text), |_| false)).unwrap()
    };
    for name in MODELS {
        let Some((file, _)) = reference(name) else {
            return kit::skip(test);
        };
        for gpu in devices(test) {
            let mut student = open(&file, gpu.as_ref());
            let begun = "The rain in the mountains falls on the trees and on the houses.";
            let longer = format!("{begun} The snow does so too.");
            let first = answer(&mut student, begun);
            let again = answer(&mut student, begun);
            assert_eq!(again.ids, first.ids, "{name}");
            assert_eq!(again.cached_tokens, again.prompt_tokens - OPENING, "{name}");
            let second = answer(&mut student, &longer);
            assert!(second.cached_tokens >= first.prompt_tokens - OPENING, "{name}");
            let other = answer(&mut student, "12345");
            assert_eq!(other.cached_tokens, 0, "{name}");
            for (text, expected) in [(longer.as_str(), second), ("12345", other)] {
                let fresh = answer(&mut open(&file, gpu.as_ref()), text);
                assert_eq!(fresh.ids, expected.ids, "{name}: {text}");
            }
        }
    }
}
