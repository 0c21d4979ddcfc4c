//! The kit's models against llama.cpp's logits: CPU and GPU, prefill and decode.

use crate::gpu::meet;
use crate::kit;
use understudy::cpu::engine as cpu;
use understudy::error::Result;
use understudy::format::gguf::Gguf;
use understudy::format::source::Bytes;
use understudy::gpu::{Gpu, GpuOptions, engine as gpu};
use understudy::model::{CacheType, Plan, Sampling};
use understudy::student::Engine;

/// Files of the kit that this version runs: its architectures, in its block types.
const MODELS: [&str; 38] = [
    "llama32-F16",
    "llama32-Q4_0",
    "llama32-Q4_1",
    "llama32-Q5_0",
    "llama32-Q5_1",
    "llama32-Q8_0",
    "llama32-Q4_K_M",
    "llama32-Q5_K_M",
    "llama32-Q6_K",
    "llama32-Q2_K",
    "llama32-Q3_K_M",
    "llama32-IQ3_S",
    "llama32-IQ4_NL",
    "llama32-IQ4_XS",
    "llama32-MXFP4",
    "llama32-NVFP4",
    "llama32-Q1_0",
    "llama32-Q2_0",
    "llama32-TQ1_0",
    "llama32-TQ2_0",
    "mistral-Q8_0",
    "qwen2-Q4_0",
    "qwen2-Q4_K_M",
    "qwen2-Q8_0",
    "qwen3-Q4_K_M",
    "qwen3-Q8_0",
    "smollm2-Q4_0",
    "smollm2-Q8_0",
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
];
const MORE: [&str; 4] = ["smollm2-Q4_K_M", "lfm2-Q8_0", "granite4h-Q8_0", "qwen35-Q8_0"];

/// Most error, relative to the largest logit where that is above 1: the references are f32 over dequantized weights, and so are we; sums differ in order only.
pub fn tolerance(name: &str) -> f32 {
    match name {
        // ggml looks its GELU up in a table of f16.
        "gemma2-Q8_0" | "gemma3k-Q8_0" => 1.2e-3,
        // Its random states amplify the order of sums: the kit's own two references differ by 9e-5.
        "qwen35-Q8_0" => 2e-4,
        _ => 1e-4,
    }
}

/// Positions that a student is opened with. The references of longrope use the factors of contexts up to the original one.
const CONTEXT: usize = 2048;

/// An engine without a tokenizer, which logits do not need.
pub fn open(file: Vec<u8>, gpu: Option<&Gpu>, cache: CacheType) -> Result<Engine> {
    let plan = Plan::new(&Gguf::from_bytes(&file)?)?;
    let source = Bytes(file);
    let progress = |_| Ok(());
    pollster::block_on(async {
        Ok(match gpu {
            Some(gpu) => Engine::Gpu(Box::new(
                gpu::Engine::load(gpu, plan, &source, CONTEXT, cache, progress).await?,
            )),
            None => Engine::Cpu(Box::new(
                cpu::Engine::load(plan, &source, CONTEXT, cache, progress).await?,
            )),
        })
    })
}

pub fn prefill(engine: &mut Engine, ids: &[u32]) -> Vec<f32> {
    match engine {
        Engine::Cpu(engine) => engine.logits(ids),
        Engine::Gpu(engine) => pollster::block_on(engine.logits(ids)).unwrap(),
    }
}

/// Logits of `ids` from `first` on, token by token.
pub fn decode(engine: &mut Engine, ids: &[u32], first: usize) -> Vec<f32> {
    let mut all = Vec::new();
    for (position, id) in ids.iter().enumerate().skip(first) {
        match engine {
            Engine::Cpu(engine) => all.extend_from_slice(engine.logits_at(*id, position)),
            Engine::Gpu(engine) => all.extend(pollster::block_on(engine.logits_at(*id, position)).unwrap()),
        }
    }
    all
}

pub struct Reference {
    pub ids: Vec<u32>,
    pub logits: Vec<f32>,
}

pub fn reference(name: &str) -> Option<(Vec<u8>, Reference)> {
    let kit = kit::kit_dir()?;
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(kit.join("refs/manifest.json")).unwrap()).unwrap();
    let row = manifest
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["file"] == format!("{name}.gguf"))
        .unwrap_or_else(|| panic!("{name} is in the manifest"));
    let numbers = |key: &str| {
        row[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_u64().unwrap() as u32)
            .collect::<Vec<_>>()
    };
    let ids = [numbers("tokens"), numbers("deq_greedy")].concat();
    let (shape, logits) = kit::read_npy_f32(&kit.join(format!("refs/{name}.npy")));
    assert_eq!(shape, [ids.len(), 512]);
    Some((
        std::fs::read(kit.join(format!("models/{name}.gguf"))).unwrap(),
        Reference { ids, logits },
    ))
}

pub fn worst(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let scale = expected.iter().fold(1.0f32, |most, v| most.max(v.abs()));
    actual
        .iter()
        .zip(expected)
        .map(|(a, b)| {
            if (a - b).is_finite() {
                (a - b).abs() / scale
            } else {
                f32::INFINITY
            }
        })
        .fold(0.0, f32::max)
}

/// Logits of the rows behind the first 42 tokens, which go in six chunks of 7; the rest goes token by token.
fn after_sevens(engine: &mut Engine, ids: &[u32]) -> Vec<f32> {
    for (i, chunk) in ids[..42].chunks(7).enumerate() {
        match engine {
            Engine::Cpu(engine) => {
                engine.begin(7 * i, Sampling::GREEDY, 0);
                engine.extend(chunk, false);
            }
            Engine::Gpu(engine) => {
                pollster::block_on(engine.prefill(chunk, 7 * i, Sampling::GREEDY, 0, |_| Ok(()))).unwrap();
            }
        }
    }
    decode(engine, ids, 42)
}

fn check(test: &str, gpu: Option<&Gpu>) {
    let mut wrong = Vec::new();
    for name in MODELS.iter().chain(&MORE) {
        let Some((file, reference)) = reference(name) else {
            kit::skip(test);
            return;
        };
        let mut engine = open(file, gpu, CacheType::F32).unwrap_or_else(|error| panic!("{name}: {error}"));
        let Reference { ids, logits } = &reference;
        let prefill = worst(&prefill(&mut engine, ids), logits);
        let decode = worst(&decode(&mut engine, ids, 0), logits);
        let in_sevens = worst(&after_sevens(&mut engine, ids), &logits[42 * 512..]);
        println!("{name}: prefill {prefill:.1e}, decode {decode:.1e}, in chunks of 7 {in_sevens:.1e}");
        let most = tolerance(name);
        if prefill > most || decode > most || in_sevens > most {
            wrong.push(format!("{name}: {prefill:.1e}, {decode:.1e}, {in_sevens:.1e}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn cpu_agrees_with_the_kit() {
    check("cpu_agrees_with_the_kit", None);
}

#[test]
fn gpu_agrees_with_the_kit_on_default_limits() {
    let options = GpuOptions {
        default_limits: true,
        ..GpuOptions::default()
    };
    let Some(gpu) = meet("gpu_agrees_with_the_kit_on_default_limits", options) else {
        return;
    };
    check("gpu_agrees_with_the_kit_on_default_limits", Some(&gpu));
}

#[test]
fn gpu_agrees_with_the_kit_with_subgroups() {
    let options = GpuOptions {
        subgroups: true,
        ..GpuOptions::default()
    };
    let Some(gpu) = meet("gpu_agrees_with_the_kit_with_subgroups", options) else {
        return;
    };
    check("gpu_agrees_with_the_kit_with_subgroups", Some(&gpu));
}
