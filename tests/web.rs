//! In headless Chromium: the kernels on its WebGPU, both engines on the bundled student, errors as JavaScript sees them.
#![cfg(target_family = "wasm")]

use understudy::error::Error;
use understudy::format::BlockType;
use understudy::format::source::Bytes;
use understudy::gpu::kernels::Kinds;
use understudy::gpu::{Gpu, GpuOptions, cases};
use understudy::model::{CacheType, Sampling};
use understudy::student::{Prompt, Request, Student};
use understudy::text::template::Message;
use wasm_bindgen::JsValue;
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

const BUNDLED: &[u8] = include_bytes!("../school/models/understudy-pip.gguf");

async fn meet() -> Gpu {
    // The flags of webdriver.json give Chromium a software adapter: without one these tests fail, they do not pass.
    Gpu::meet(&GpuOptions::default()).await.expect("an adapter")
}

async fn answer(gpu: Option<&Gpu>) -> String {
    let mut student = Student::open(&Bytes(BUNDLED.to_vec()), gpu, Some(256), |_, _| Ok(()))
        .await
        .expect("the bundled student opens");
    let message = Message {
        role: "user".into(),
        content: "Hello! Who are you?".into(),
        reasoning_content: None,
    };
    let request = Request {
        prompt: Prompt::Messages(vec![message]),
        sampling: Sampling::GREEDY,
        max_tokens: Some(24),
        ..Request::chat(Vec::new())
    };
    student.generate(&request, |_| false).await.expect("it answers").content
}

#[wasm_bindgen_test]
async fn kernels_answer_as_known_in_the_browser() {
    let gpu = meet().await;
    console_log!("{}", gpu.words());
    let weights = BlockType::ALL.map(|t| Kinds::from(Some(t)));
    let kinds = [weights.as_slice(), &CacheType::ALL.map(Kinds::from)].concat();
    assert_eq!(cases::self_test(&gpu, &kinds).await, Ok(()));
}

#[wasm_bindgen_test]
async fn kernels_answer_as_known_on_default_limits() {
    let gpu = Gpu::meet(&GpuOptions {
        default_limits: true,
        ..GpuOptions::default()
    })
    .await
    .expect("an adapter");
    let [first, second] = [BlockType::Q8_0, BlockType::Q4_K].map(|t| Some(t).into());
    let kinds = [first, second, CacheType::F32.into(), CacheType::Q8.into()];
    assert_eq!(cases::self_test(&gpu, &kinds).await, Ok(()));
}

#[wasm_bindgen_test]
async fn both_engines_write_the_same_text() {
    let gpu = meet().await;
    let on_gpu = answer(Some(&gpu)).await;
    assert!(!on_gpu.is_empty());
    assert_eq!(on_gpu, answer(None).await);
}

#[wasm_bindgen_test]
fn errors_carry_code_and_hint() {
    let value: JsValue = Error::PromptTooLong { tokens: 9, context: 8 }.into();
    let get = |key: &str| {
        js_sys::Reflect::get(&value, &key.into())
            .ok()
            .and_then(|v| v.as_string())
    };
    assert_eq!(get("code").as_deref(), Some("prompt-too-long"));
    assert!(get("hint").is_some_and(|hint| hint.ends_with('.')));
    assert!(get("message").is_some_and(|message| message.contains('9')));
}

#[cfg(feature = "teach")]
#[path = "shared/oracle.rs"]
mod oracle;

/// A training on the GPU beside one on the CPU: losses, gradients, steps of the optimizer.
#[cfg(feature = "teach")]
mod teach {
    use super::BUNDLED;
    use super::oracle::{self, apart, safetensors};
    use understudy::cpu::loss::Teacher;
    use understudy::cpu::trainer::{AdamW, Example, Shape, Trainer, initial};
    use understudy::distill::gpu::GpuTrainer;
    use understudy::distill::student::share;
    use understudy::distill::{Divergence, Objective, Tail};
    use understudy::format::Gguf;
    use understudy::format::source::Bytes;
    use understudy::gpu::training::{Memory, Room};
    use understudy::gpu::{Gpu, GpuOptions, cases};
    use understudy::model::Plan;
    use wasm_bindgen_test::{console_log, wasm_bindgen_test};

    #[wasm_bindgen_test]
    async fn the_gpu_trains_as_the_cpu_does_in_the_browser() {
        // Tests are started without the module's own start.
        understudy::web::teach::start();
        let options = GpuOptions {
            all_features: true,
            ..GpuOptions::default()
        };
        let gpu = Gpu::meet(&options).await.expect("an adapter");
        let answers = cases::teach::known_answers(&[understudy::format::BlockType::Q8_0]);
        assert_eq!(cases::run_all(&gpu, &answers).await, Ok(()));
        let source = Bytes(BUNDLED.to_vec());
        let plan = || Plan::new(&Gguf::from_bytes(BUNDLED).expect("a GGUF file")).expect("a plan");
        let shape = Shape {
            rank: 8,
            alpha: 16.0,
            last_layers: Some(2),
            modules: Vec::new(),
        };
        let room = Room { rows: 32, named: 4 };
        let device = share(&gpu).expect("Burn takes the device");
        let mut on_gpu = GpuTrainer::new(&gpu, &device, plan(), &source, 16, &shape, 1, room, |_| Ok(()))
            .await
            .expect("the device answers");
        let mut on_cpu = Trainer::new(plan(), &source, 16, &shape, 1)
            .await
            .expect("the device answers");
        let mut pairs = on_gpu.read(Memory::Values).await.expect("the device answers");
        for (i, (pair, trained)) in pairs.iter_mut().zip(&mut on_cpu.pairs).enumerate() {
            pair.b = initial(i as u64, "stirred", pair.rank, pair.rows);
            trained.pair = pair.clone();
        }
        on_gpu.set_pairs(&pairs);
        let tokens: Vec<Vec<u32>> = vec![
            (0..14).map(|t| 9 + 31 * t).collect(),
            (0..9).map(|t| 5 + 17 * t).collect(),
        ];
        let targets: Vec<Vec<Option<u32>>> = tokens
            .iter()
            .map(|row| (1..=row.len()).map(|t| row.get(t).copied().filter(|_| t > 3)).collect())
            .collect();
        let named: Vec<Vec<[u32; 2]>> = tokens
            .iter()
            .map(|row| row.iter().map(|t| [t + 1, t + 31]).collect())
            .collect();
        let teachers: Vec<Vec<Teacher>> = named
            .iter()
            .map(|row| {
                let each = row.iter().map(|ids| Teacher::Sparse {
                    ids,
                    logprobs: &[-1.5, -0.4],
                });
                each.collect()
            })
            .collect();
        let examples: Vec<Example> = (0..2)
            .map(|i| Example {
                tokens: &tokens[i],
                targets: &targets[i],
                teachers: &teachers[i],
            })
            .collect();
        let objective = Objective {
            ce: 0.3,
            divergence: Divergence::Jsd { beta: 0.5 },
            tail: Tail::Bucket,
            ..Objective::default()
        };
        let adam = AdamW {
            rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            decay: 0.0,
            clip: Some(1.0),
        };
        for step in 0..3 {
            on_gpu.zero();
            on_cpu.zero();
            let stats = on_gpu
                .accumulate(&examples, &objective, 0.05)
                .await
                .expect("the device answers");
            let ours: f64 = stats.iter().flatten().map(|s| f64::from(s[0])).sum();
            let theirs: f64 = examples
                .iter()
                .map(|e| on_cpu.accumulate(e, &objective, 0.05).total)
                .sum();
            let mut worst: f64 = 0.0;
            for (pair, trained) in on_gpu
                .read(Memory::Gradient)
                .await
                .expect("the device answers")
                .iter()
                .zip(&on_cpu.pairs)
            {
                worst = worst.max(apart(&pair.a, &trained.gradient[0]));
                worst = worst.max(apart(&pair.b, &trained.gradient[1]));
            }
            console_log!("step {step}: loss {ours:.5} and {theirs:.5}, gradients {worst:.1e} apart");
            assert!((ours - theirs).abs() < 1e-4 * theirs && worst < 1e-4);
            let (a, b) = (
                on_gpu.step(&adam).await.expect("the device answers"),
                on_cpu.step(&adam),
            );
            assert!((a - b).abs() < 1e-4 * b);
        }
    }

    const MODEL: &[u8] = include_bytes!("data/oracle/llama32-Q4_0.gguf");
    const INPUTS: &[u8] = include_bytes!("data/oracle/inputs.safetensors");
    const START: &[u8] = include_bytes!("data/oracle/llama32-lora-init.safetensors");
    const GRADIENT: &[u8] = include_bytes!("data/oracle/llama32-Q4_0-jsd_0.5-grads.safetensors");
    const EXPECTED: &str = include_str!("data/oracle/llama32-Q4_0.json");

    /// Thirteen losses with the length of every gradient, one gradient as a whole, and ten steps of AdamW, as PyTorch has them.
    #[wasm_bindgen_test]
    async fn losses_gradients_and_a_curve_are_the_oracles_in_the_browser() {
        understudy::web::teach::start();
        let options = GpuOptions {
            all_features: true,
            ..GpuOptions::default()
        };
        let gpu = Gpu::meet(&options).await.expect("an adapter");
        let device = share(&gpu).expect("Burn takes the device");
        let plan = Plan::new(&Gguf::from_bytes(MODEL).expect("a GGUF file")).expect("a plan");
        let (source, shape) = (Bytes(MODEL.to_vec()), oracle::shape(8, 16.0));
        let room = Room { rows: 64, named: 8 };
        let mut trainer = GpuTrainer::new(&gpu, &device, plan, &source, 64, &shape, 1, room, |_| Ok(()))
            .await
            .expect("the device answers");
        let sequences = oracle::sequences(&safetensors(INPUTS));
        let (first, gradient) = (safetensors(START), safetensors(GRADIENT));
        let mut pairs = trainer.read(Memory::Values).await.expect("the device answers");
        let expected: serde_json::Value = serde_json::from_str(EXPECTED).expect("JSON");
        let (mut worst, mut kinds) = ([0.0_f64; 4], 0);
        for (kind, row) in expected.as_object().expect("an object") {
            oracle::init_pairs(pairs.iter_mut(), &first, false);
            trainer.set_pairs(&pairs);
            let theirs = row["loss"].as_f64().expect("a number");
            let ours = oracle::batch(&mut trainer, &sequences, kind, true).await;
            worst[0] = worst[0].max((ours - theirs).abs() / theirs);
            for pair in trainer.read(Memory::Gradient).await.expect("the device answers") {
                let base = pair.base.strip_suffix(".weight").expect("a weight");
                for (half, values) in [("lora_a", &pair.a), ("lora_b", &pair.b)] {
                    let key = format!("{base}.{half}");
                    let norm = values.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                    let theirs = row["grad_norms"][&key].as_f64().expect("a number");
                    worst[1] = worst[1].max((norm - theirs).abs() / theirs);
                    if kind == "jsd_0.5" {
                        worst[2] = worst[2].max(apart(values, &oracle::floats(&gradient[&key])));
                    }
                }
            }
            kinds += 1;
        }
        // The curve starts with B = 0, and with an optimizer that remembers nothing: no step was made so far.
        oracle::init_pairs(pairs.iter_mut(), &first, true);
        trainer.set_pairs(&pairs);
        let adam = AdamW {
            rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            decay: 0.01,
            clip: None,
        };
        let curve = expected["ce"]["train_adamw"].as_array().expect("a list");
        for (step, theirs) in curve.iter().enumerate() {
            let ours = oracle::batch(&mut trainer, &sequences, "ce", true).await;
            let theirs = theirs.as_f64().expect("a number");
            worst[3] = worst[3].max((ours - theirs).abs() / theirs);
            if step + 1 < curve.len() {
                trainer.step(&adam).await.expect("the device answers");
            }
        }
        let words = worst.map(|w| format!("{w:.1e}")).join(", ");
        console_log!("{kinds} losses, norms, a gradient, a curve of {}: {words}", curve.len());
        assert_eq!((kinds, curve.len()), (13, 11));
        assert!(worst.iter().all(|w| *w < 1e-4), "{words}");
    }
}
