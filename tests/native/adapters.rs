//! Adapters: the kit's logits with llama.cpp's adapters attached, both file formats there and back, live scales, and what
//! does not fit.

use crate::gpu::meet;
use crate::kit;
use understudy::error::Error;
use understudy::format::adapter::{Adapter, Base, Pair, interleave};
use understudy::format::gguf::{Metadata, Value};
use understudy::format::source::Bytes;
use understudy::gpu::{Gpu, GpuOptions};
use understudy::student::Student;

fn open(file: &[u8], gpu: Option<&Gpu>) -> Student {
    pollster::block_on(Student::open(&Bytes(file.to_vec()), gpu, Some(64), |_, _| Ok(()))).unwrap()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |w: f32, d| if d.is_nan() { f32::INFINITY } else { w.max(d) })
}

fn devices(test: &str) -> Vec<Option<Gpu>> {
    let mut devices = vec![None];
    for options in [
        GpuOptions::default(),
        GpuOptions {
            subgroups: true,
            ..GpuOptions::default()
        },
    ] {
        devices.extend(meet(test, options).map(Some));
    }
    devices
}

fn numbers(row: &serde_json::Value, key: &str) -> Vec<u32> {
    row[key]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_u64().unwrap() as u32)
        .collect()
}

#[test]
fn logits_with_the_kits_adapters() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("logits_with_the_kits_adapters");
    };
    let manifest: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(kit.join("lora/manifest.json")).unwrap()).unwrap();
    assert!(manifest.len() >= 12);
    for gpu in devices("logits_with_the_kits_adapters") {
        for row in &manifest {
            let text = |key: &str| row[key].as_str().unwrap();
            let scale = row["scale"].as_f64().unwrap() as f32;
            let ids = [numbers(row, "tokens"), numbers(row, "greedy")].concat();
            let (shape, expected) = kit::read_npy_f32(&kit.join("lora").join(text("logits")));
            assert_eq!(shape[0], ids.len());
            let mut student = open(
                &std::fs::read(kit.join("models").join(text("model"))).unwrap(),
                gpu.as_ref(),
            );
            let bytes = std::fs::read(kit.join("lora").join(text("adapter"))).unwrap();
            let adapter = Adapter::from_gguf(&bytes).unwrap();
            let plain = pollster::block_on(student.logits(&ids)).unwrap();
            pollster::block_on(student.attach(adapter, scale)).unwrap();
            let together = pollster::block_on(student.logits(&ids)).unwrap();
            let one_by_one = pollster::block_on(student.logits_by_decode(&ids)).unwrap();
            let (a, b) = (worst(&together, &expected), worst(&one_by_one, &expected));
            println!(
                "{} {} at {scale}: {a:.2e} together, {b:.2e} one by one",
                text("model"),
                text("adapter")
            );
            // The adapter moves logits by up to 9; sums differ in order only, through matrices of its size.
            assert!(a < 2e-4 && b < 2e-4);
            pollster::block_on(student.detach(0)).unwrap();
            assert_eq!(plain, pollster::block_on(student.logits(&ids)).unwrap());
        }
    }
}

#[test]
fn scales_are_live_and_adapters_add_up() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("scales_are_live_and_adapters_add_up");
    };
    let file = std::fs::read(kit.join("models/qwen2-Q8_0.gguf")).unwrap();
    let adapter = Adapter::from_gguf(&std::fs::read(kit.join("lora/qwen2-lora-r8-f32.gguf")).unwrap()).unwrap();
    let ids: Vec<u32> = (1..30).collect();
    for gpu in devices("scales_are_live_and_adapters_add_up") {
        let mut student = open(&file, gpu.as_ref());
        let run = |student: &mut Student| pollster::block_on(student.logits(&ids)).unwrap();
        let base = run(&mut student);
        pollster::block_on(student.attach(adapter.clone(), 0.5)).unwrap();
        let half = run(&mut student);
        pollster::block_on(student.set_adapter_scale(0, 1.0)).unwrap();
        let whole = run(&mut student);
        assert!(worst(&half, &whole) > 0.1);
        // Twice at a half is once at one.
        pollster::block_on(student.set_adapter_scale(0, 0.5)).unwrap();
        assert!(worst(&half, &run(&mut student)) == 0.0);
        assert_eq!(pollster::block_on(student.attach(adapter.clone(), 0.5)).unwrap(), 1);
        assert!(worst(&whole, &run(&mut student)) < 1e-4);
        pollster::block_on(student.set_adapter_scale(1, -0.5)).unwrap();
        assert!(worst(&base, &run(&mut student)) < 1e-4);
        pollster::block_on(student.detach(0)).unwrap();
        pollster::block_on(student.set_adapter_scale(0, 0.0)).unwrap();
        assert_eq!(base, run(&mut student));
        // Nothing that was asked wrongly changes anything.
        assert!(matches!(
            pollster::block_on(student.set_adapter_scale(3, 1.0)),
            Err(Error::Request { .. })
        ));
        assert!(matches!(
            pollster::block_on(student.set_adapter_scale(0, f32::NAN)),
            Err(Error::Request { .. })
        ));
        assert!(matches!(
            pollster::block_on(student.detach(1)),
            Err(Error::Request { .. })
        ));
        assert_eq!(base, run(&mut student));
    }
}

#[test]
fn both_formats_there_and_back() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("both_formats_there_and_back");
    };
    for (name, architecture) in [("llama32", "llama"), ("qwen2", "qwen2")] {
        let read = |kind: &str| {
            Adapter::from_gguf(&std::fs::read(kit.join(format!("lora/{name}-lora-r8-{kind}.gguf"))).unwrap()).unwrap()
        };
        let adapter = read("f32");
        assert_eq!((adapter.architecture.as_str(), adapter.alpha), (architecture, 16.0));
        assert!(adapter.pairs.iter().all(|pair| pair.rank == 8));
        let halves = read("f16");
        for (a, b) in adapter.pairs.iter().zip(&halves.pairs) {
            assert_eq!((&a.base, a.rows, a.columns), (&b.base, b.rows, b.columns));
            assert!(worst(&a.a, &b.a) < 1e-3 && worst(&a.b, &b.b) < 1e-3);
        }
        assert_eq!(Adapter::from_gguf(&adapter.to_gguf()).unwrap().pairs, adapter.pairs);
        let base = Base {
            architecture: architecture.into(),
            heads: 4,
            kv_heads: 2,
        };
        let (config, weights) = adapter.to_peft(&base, "a base").unwrap();
        let again = Adapter::from_peft(&config, &weights, &base).unwrap();
        assert_eq!((&again.pairs, again.alpha), (&adapter.pairs, adapter.alpha));
        if architecture == "llama" {
            // In PEFT's order the rows of q are others, and of v the same.
            let plain = Base {
                architecture: "qwen2".into(),
                ..base
            };
            let other = Adapter::from_peft(&config, &weights, &plain).unwrap();
            let differ = |part: &str| {
                adapter
                    .pairs
                    .iter()
                    .zip(&other.pairs)
                    .any(|(a, b)| a.base.contains(part) && a.b != b.b)
            };
            assert!(differ("attn_q") && differ("attn_k") && !differ("attn_v") && !differ("ffn_up"));
        }
    }
}

fn small(base: &str, rank: usize, rows: usize, columns: usize) -> Pair {
    Pair {
        base: base.into(),
        rank,
        rows,
        columns,
        a: (0..rank * columns).map(|i| i as f32 * 0.01).collect(),
        b: (0..rows * rank).map(|i| i as f32 * 0.02 - 0.1).collect(),
    }
}

fn adapter(pairs: Vec<Pair>) -> Adapter {
    Adapter {
        architecture: "qwen2".into(),
        alpha: 4.0,
        metadata: Metadata::default(),
        pairs,
    }
}

#[test]
fn rotary_rows_change_places_and_back() {
    let rows: Vec<f32> = (0..16).map(|i| i as f32).collect();
    // Two heads of four rows, rank 2: halves (0, 1 | 2, 3) to partners (0, 2, 1, 3).
    let beside = interleave(&rows, 2, 2, true).unwrap();
    let expected = [0., 1., 4., 5., 2., 3., 6., 7., 8., 9., 12., 13., 10., 11., 14., 15.];
    assert_eq!(beside, expected);
    assert_eq!(interleave(&beside, 2, 2, false).unwrap(), rows);
    assert!(interleave(&rows, 2, 3, true).is_err());
    assert!(interleave(&rows, 2, 0, true).is_err());
}

#[test]
fn peft_settings_that_change_the_factor_are_kept() {
    let base = Base {
        architecture: "qwen2".into(),
        heads: 2,
        kv_heads: 1,
    };
    let made = adapter(vec![small("blk.0.attn_v.weight", 4, 6, 8)]);
    let (config, weights) = made.to_peft(&base, "b").unwrap();
    let edit = |key: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(&config).unwrap();
        json[key] = value;
        Adapter::from_peft(&json.to_string(), &weights, &base)
    };
    // rsLoRA: alpha / sqrt(r) instead of alpha / r.
    let rooted = edit("use_rslora", true.into()).unwrap();
    let factor = |a: &Adapter| a.scale(4, 1.0) * a.pairs[0].b[1];
    assert!((factor(&rooted) / factor(&made) - 2.0).abs() < 1e-6);
    let own = edit("alpha_pattern", serde_json::json!({"v_proj": 12.0})).unwrap();
    assert!((factor(&own) / factor(&made) - 3.0).abs() < 1e-6);
    for (key, value) in [
        ("use_dora", serde_json::json!(true)),
        ("bias", "all".into()),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("peft_type", "IA3".into()),
        ("lora_alpha", serde_json::json!(-1)),
    ] {
        let error = edit(key, value).unwrap_err();
        assert_eq!(error.code(), "adapter", "{error}");
    }
    assert!(Adapter::from_peft("{", &weights, &base).is_err());
    assert!(Adapter::from_peft(&config, &weights[..20], &base).is_err());
}

#[test]
fn what_does_not_fit_is_said() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("what_does_not_fit_is_said");
    };
    let file = std::fs::read(kit.join("models/qwen2-Q8_0.gguf")).unwrap();
    let mut student = open(&file, None);
    let ids: Vec<u32> = (1..9).collect();
    let before = pollster::block_on(student.logits(&ids)).unwrap();
    let mut try_it = |adapter: Adapter, says: &str| {
        let error = pollster::block_on(student.attach(adapter, 1.0)).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.hint().contains("adapter"));
        assert!(student.adapters().is_empty());
        assert_eq!(before, pollster::block_on(student.logits(&ids)).unwrap());
    };
    let llama = Adapter::from_gguf(&std::fs::read(kit.join("lora/llama32-lora-r8-f32.gguf")).unwrap()).unwrap();
    try_it(llama, "architecture llama");
    try_it(adapter(vec![small("blk.0.attn_q.weight", 4, 6, 8)]), "6 by 8");
    try_it(adapter(vec![small("blk.99.attn_q.weight", 4, 64, 64)]), "blk.99");
    try_it(adapter(vec![small("token_embd.weight", 4, 512, 64)]), "token_embd");

    let says = |bytes: &[u8], says: &str| {
        let error = Adapter::from_gguf(bytes).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    };
    says(&file, "is a student");
    says(&adapter(Vec::new()).to_gguf(), "no pair");
    let mut broken = small("blk.0.attn_q.weight", 4, 6, 8);
    broken.b[3] = f32::NAN;
    says(&adapter(vec![broken]).to_gguf(), "not finite");
    let mut half = adapter(vec![small("blk.0.attn_q.weight", 4, 6, 8)]).to_gguf();
    let at = half.windows(6).position(|w| w == b"lora_b").unwrap();
    half[at + 5] = b'c';
    says(&half, "no half");
    let mut kind = adapter(vec![small("blk.0.attn_q.weight", 4, 6, 8)]);
    kind.metadata.insert("general.name", Value::String("a name".into()));
    let bytes = kind.to_gguf();
    assert_eq!(
        Adapter::from_gguf(&bytes).unwrap().metadata.str("general.name"),
        Some("a name")
    );
    for cut in [0, 10, 100, bytes.len() - 1] {
        assert!(Adapter::from_gguf(&bytes[..cut]).is_err());
    }
}

#[test]
fn peft_has_the_names_of_each_architecture() {
    let pair = |part: &str| Pair {
        base: format!("blk.1.{part}.weight"),
        rank: 2,
        rows: 8,
        columns: 4,
        a: (0..8).map(|i| i as f32).collect(),
        b: (0..16).map(|i| 0.5 * i as f32).collect(),
    };
    for (architecture, names) in [
        (
            "phi3",
            &[("attn_qkv", "self_attn.qkv_proj"), ("ffn_up", "mlp.gate_up_proj")][..],
        ),
        (
            "lfm2",
            &[
                ("attn_output", "self_attn.out_proj"),
                ("ffn_gate", "feed_forward.w1"),
                ("ffn_up", "feed_forward.w3"),
            ],
        ),
        ("granitehybrid", &[("ffn_down", "shared_mlp.output_linear")]),
        ("olmo2", &[("ffn_up", "mlp.up_proj")]),
    ] {
        let base = Base {
            architecture: architecture.into(),
            heads: 2,
            kv_heads: 2,
        };
        let adapter = Adapter {
            architecture: architecture.into(),
            alpha: 4.0,
            metadata: Metadata::default(),
            pairs: names.iter().map(|(gguf, _)| pair(gguf)).collect(),
        };
        let (config, weights) = adapter.to_peft(&base, "a base").unwrap();
        for (_, module) in names {
            let name = format!("base_model.model.model.layers.1.{module}.lora_A.weight");
            assert!(
                String::from_utf8_lossy(&weights).contains(&name),
                "{architecture}: {name}"
            );
        }
        let mut again = Adapter::from_peft(&config, &weights, &base).unwrap().pairs;
        again.sort_by_key(|pair| names.iter().position(|(gguf, _)| pair.base.contains(gguf)));
        assert_eq!(again, adapter.pairs, "{architecture}");
        // Granite's gate and up are one tensor there.
        let gate = Adapter {
            pairs: vec![pair("ffn_gate")],
            ..adapter
        };
        let has_gate = !matches!(architecture, "phi3" | "granitehybrid");
        assert_eq!(gate.to_peft(&base, "a base").is_ok(), has_gate, "{architecture}");
    }
}
