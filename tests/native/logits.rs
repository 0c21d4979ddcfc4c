//! The kit's models against llama.cpp's logits: CPU and GPU, prefill and decode.

use crate::gpu::meet;
use crate::kit;
use understudy::format::source::Bytes;
use understudy::gpu::{Gpu, GpuOptions};
use understudy::student::Student;

/// Files of the kit that this version runs: its architectures, in its block types.
const MODELS: [&str; 28] = [
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
];
const MORE: [&str; 1] = ["smollm2-Q4_K_M"];

/// Most error, relative to the largest logit where that is above 1: the references are f32 over dequantized weights, and so are we; sums differ in order only.
const TOLERANCE: f32 = 1e-4;

struct Reference {
    ids: Vec<u32>,
    logits: Vec<f32>,
}

fn reference(name: &str) -> Option<(Vec<u8>, Reference)> {
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

fn worst(actual: &[f32], expected: &[f32]) -> f32 {
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

fn check(test: &str, gpu: Option<&Gpu>) {
    for name in MODELS.iter().chain(&MORE) {
        let Some((file, reference)) = reference(name) else {
            kit::skip(test);
            return;
        };
        let mut student = pollster::block_on(Student::open(&Bytes(file), gpu, None, |_, _| Ok(()))).unwrap();
        let prefill = worst(
            &pollster::block_on(student.logits(&reference.ids)).unwrap(),
            &reference.logits,
        );
        let decode = worst(
            &pollster::block_on(student.logits_by_decode(&reference.ids)).unwrap(),
            &reference.logits,
        );
        println!("{name}: prefill {prefill:.1e}, decode {decode:.1e}");
        assert!(
            prefill <= TOLERANCE && decode <= TOLERANCE,
            "{name}: prefill {prefill:.1e}, decode {decode:.1e}"
        );
    }
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
