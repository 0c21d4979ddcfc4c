//! What architectures vary: tables of rotations against numbers worked out elsewhere, windows and their rings, refusals.

use crate::gpu::meet;
use crate::kit;
use understudy::error::Error;
use understudy::format::adapter::{Adapter, Pair};
use understudy::format::gguf::{Array, Metadata, Value, Writer};
use understudy::format::source::Bytes;
use understudy::format::{BlockType, Gguf};
use understudy::model::chance::Numbers;
use understudy::model::lora::Stack;
use understudy::model::memory::Fit;
use understudy::model::{CacheType, Config, Mixer, Plan, Sampling};
use understudy::{cpu, gpu};

/// A header with these keys of its own, besides the sizes: `layers` layers of 4 heads 16 wide.
fn header(architecture: &str, layers: u32, own: &[(&str, Value)]) -> Gguf {
    let mut file = Writer::new();
    let key = |suffix: &str| format!("{architecture}.{suffix}");
    file.set("general.architecture", Value::String(architecture.into()));
    for (suffix, value) in [
        ("block_count", layers),
        ("context_length", 8192),
        ("embedding_length", 64),
        ("feed_forward_length", 96),
        ("attention.head_count", 4),
    ] {
        file.set(key(suffix), Value::U32(value));
    }
    file.set(key("attention.layer_norm_rms_epsilon"), Value::F32(1e-5));
    for (suffix, value) in own {
        file.set(key(suffix), value.clone());
    }
    file.tensor("token_embd.weight", &[64, 8], BlockType::F32, vec![0; 4 * 64 * 8]);
    Gguf::from_bytes(&file.to_bytes()).unwrap()
}

fn config(architecture: &str, layers: u32, own: &[(&str, Value)]) -> Config {
    Config::from_gguf(&header(architecture, layers, own)).unwrap()
}

fn refusal(architecture: &str, own: &[(&str, Value)]) -> Error {
    Config::from_gguf(&header(architecture, 2, own)).unwrap_err()
}

fn text(value: &str) -> Value {
    Value::String(value.into())
}

/// Compares (position, pair, cos, sin) with a table.
fn compare(config: &Config, factors: Option<&[f32]>, expected: &[(usize, usize, f32, f32)]) {
    let positions = expected.iter().map(|(p, ..)| p + 1).max().unwrap();
    let table = config.turns(0, positions, factors);
    for (position, pair, cos, sin) in expected {
        let at = 2 * (position * config.rotary / 2 + pair);
        let off = (table[at] - cos).abs().max((table[at + 1] - sin).abs());
        assert!(off < 2e-6, "position {position}, pair {pair}: off by {off}");
    }
}

#[test]
fn linear_scaling_divides_positions() {
    let own = [
        ("rope.freq_base", Value::F32(1e6)),
        ("rope.scaling.type", text("linear")),
        ("rope.scaling.factor", Value::F32(8.0)),
    ];
    let expected = [
        (8, 0, 0.540_302_3, 0.841_471),
        (100, 3, 0.997_530_5, 0.070_234_8),
        (1999, 7, 0.999_999, 0.001_405_1),
    ];
    let config_of = config("llama", 2, &own);
    assert_eq!(config_of.rotary, 16);
    compare(&config_of, None, &expected);
    // llama.cpp takes a factor without a kind as linear, and none as none.
    compare(&config("llama", 2, &[own[0].clone(), own[2].clone()]), None, &expected);
    let none = [own[0].clone(), ("rope.scaling.type", text("none")), own[2].clone()];
    compare(&config("llama", 2, &none), None, &[(1, 0, 0.540_302_3, 0.841_471)]);
}

/// Numbers from the formulas of Peng et al., written out in Python in f64: 64 turned elements, factor 4, 1024 positions
/// before; the ramp goes from pair 5 to pair 18, and the attention factor is 0.1 ln 4 + 1.
#[test]
fn yarn_spares_fast_pairs() {
    let own = [
        ("attention.key_length", Value::U32(64)),
        ("attention.value_length", Value::U32(64)),
        ("rope.scaling.type", text("yarn")),
        ("rope.scaling.factor", Value::F32(4.0)),
        ("rope.scaling.original_context_length", Value::U32(1024)),
    ];
    let config_of = config("qwen2", 2, &own);
    assert_eq!(config_of.ropes[0].ramp, Some((5.0, 18.0)));
    compare(
        &config_of,
        None,
        &[
            (1, 0, 0.615_204_1, 0.958_123_6),
            (5, 7, 0.946_243_2, 0.633_325_1),
            (777, 8, 0.170_972_3, 1.125_72),
            (777, 9, 0.761_430_7, 0.846_581_6),
            (777, 12, -0.556_715_4, 0.993_249_7),
            (3000, 15, -0.393_956, -1.068_305),
            (3000, 20, -0.817_525_8, 0.792_545_6),
            (4095, 31, 1.128_035_3, 0.154_962_4),
        ],
    );
    // A multiplier of the logarithm weakens the attention factor: (0.1 ln 40 + 1) / (0.07 ln 40 + 1).
    let mut weaker = own.to_vec();
    weaker[3].1 = Value::F32(40.0);
    weaker.push(("rope.scaling.yarn_log_multiplier", Value::F32(0.7)));
    assert!((config("qwen2", 2, &weaker).ropes[0].magnitude - 1.087_954_6).abs() < 1e-6);
}

/// The same for longrope: 8 turned elements, 2048 positions before and 8192 now.
#[test]
fn longrope_divides_each_pair_and_grows_attention() {
    let own = [
        ("rope.dimension_count", Value::U32(8)),
        ("rope.scaling.attn_factor", Value::F32(1.087_114_6)),
        ("rope.scaling.original_context_length", Value::U32(2048)),
    ];
    let config = config("phi3", 2, &own);
    compare(
        &config,
        Some(&[1.0, 1.05, 1.2, 1.4]),
        &[
            (3, 0, -1.076_235_3, 0.153_413_6),
            (100, 1, -1.081_788_2, -0.107_482_8),
            (1500, 2, 1.084_721_1, -0.072_099_5),
            (2047, 3, 0.117_886_5, 1.080_703_9),
        ],
    );
    compare(
        &config,
        Some(&[1.0, 2.5, 9.0, 30.0]),
        &[
            (100, 1, -0.710_585_5, -0.822_731_1),
            (1500, 2, -0.104_062_5, 1.082_122_5),
            (2047, 3, 1.084_585, 0.074_119_9),
        ],
    );
}

#[test]
fn longrope_is_chosen_by_the_context() {
    let Some((_, plan)) = student("phi4mini", "longrope_is_chosen_by_the_context") else {
        return;
    };
    let name = |context: usize| plan.rope_factors(context).unwrap().parts[0].0.clone().unwrap().name;
    assert_eq!(name(2048), "rope_factors_short.weight");
    assert_eq!(name(2049), "rope_factors_long.weight");
}

/// (window, table) of each layer.
fn layers(config: &Config) -> Vec<(Option<usize>, Option<usize>)> {
    let of = |mixer: &Mixer| match mixer {
        Mixer::Attention(a) => (a.window, a.rope),
        #[allow(unreachable_patterns, reason = "there may be other kinds of layers")]
        _ => panic!("only attention here"),
    };
    config.mixers.iter().map(of).collect()
}

#[test]
fn layers_see_windows_by_pattern() {
    let window = |n: u32| ("attention.sliding_window", Value::U32(n));
    let all = |n: usize, layer: (Option<usize>, Option<usize>)| vec![layer; n];
    let (full, local) = ((None, Some(0)), (Some(512), Some(1)));
    assert_eq!(layers(&config("llama", 2, &[])), all(2, full));
    assert_eq!(
        layers(&config("llama", 2, &[window(512)])),
        all(2, (Some(512), Some(0)))
    );
    // 0 is none, and a window of the whole context hides nothing.
    assert_eq!(layers(&config("phi3", 2, &[window(0)])), all(2, full));
    assert_eq!(layers(&config("phi3", 2, &[window(8192)])), all(2, full));
    assert_eq!(
        layers(&config("gemma2", 4, &[])),
        [(Some(4096), Some(0)), full, (Some(4096), Some(0)), full]
    );
    assert_eq!(
        layers(&config("gemma3", 7, &[window(512)])),
        [local, local, local, local, local, full, local]
    );
    let pattern = Value::Array(Array::Bool(vec![false, true, true]));
    let own = [window(512), ("attention.sliding_window_pattern", pattern)];
    assert_eq!(layers(&config("gemma3", 3, &own)), [full, local, local]);
    let pattern = Value::Array(Array::I32(vec![1, 0, 1]));
    let own = [window(512), ("attention.sliding_window_pattern", pattern)];
    assert_eq!(layers(&config("gemma3", 3, &own)), [local, full, local]);
    let own = [window(512), ("attention.sliding_window_pattern", Value::U32(2))];
    assert_eq!(layers(&config("gemma3", 3, &own)), [local, full, local]);
    // OLMo 3 stretches only the layers that see everything.
    let own = [
        window(512),
        ("rope.scaling.type", text("yarn")),
        ("rope.scaling.factor", Value::F32(8.0)),
    ];
    let olmo = config("olmo2", 4, &own);
    assert_eq!(layers(&olmo), [local, local, local, full]);
    assert!(olmo.ropes[0].ramp.is_some() && olmo.ropes[1].ramp.is_none() && olmo.ropes[1].magnitude == 1.0);
    // Layers that are not turned.
    assert_eq!(layers(&config("smollm3", 5, &[]))[2..], [full, (None, None), full]);
    let turned = (Some(512), Some(0));
    assert_eq!(
        layers(&config("exaone4", 4, &[window(512)])),
        [turned, turned, turned, (None, None)]
    );
    let unturned = [("rope.scaling.finetuned", Value::Bool(false))];
    assert_eq!(layers(&config("granite", 2, &unturned)), all(2, (None, None)));
}

#[test]
fn arrays_of_equal_numbers_are_one_number() {
    let array = |numbers: &[i32]| Value::Array(Array::I32(numbers.to_vec()));
    let own = |numbers: &[i32]| [("attention.head_count_kv", array(numbers))];
    assert_eq!(config("llama", 2, &own(&[2, 2])).kv_heads, 2);
    assert_eq!(refusal("llama", &own(&[2, 4])).code(), "unsupported");
    for hostile in [vec![2], vec![2, -2], vec![2, 1 << 30], vec![0, 0]] {
        let code = refusal("llama", &own(&hostile)).code();
        assert!(["malformed-file", "unsupported"].contains(&code), "{hostile:?}: {code}");
    }
}

#[test]
fn what_would_change_the_mathematics_is_refused() {
    let f = Value::F32;
    for (architecture, own, what) in [
        ("llama", vec![("expert_count", Value::U32(8))], "mixture of experts"),
        ("llama", vec![("rope.scaling.type", text("dynamic"))], "dynamic"),
        (
            "llama",
            vec![("rope.scaling.type", text("longrope")), ("rope.scaling.factor", f(4.0))],
            "longrope",
        ),
        (
            "qwen3",
            vec![
                ("rope.scaling.type", text("yarn")),
                ("rope.scaling.yarn_ext_factor", f(0.5)),
            ],
            "yarn_ext_factor",
        ),
        (
            "hunyuan-dense",
            vec![("rope.scaling.attn_factor", f(1.2))],
            "hunyuan-dense",
        ),
        ("gemma3n", vec![], "gemma3n"),
    ] {
        let error = refusal(architecture, &own);
        assert_eq!(error.code(), "unsupported");
        assert!(error.to_string().contains(what), "{error}");
    }
    for own in [
        vec![("rope.scaling.type", text("yarn")), ("rope.freq_base", f(1.0))],
        vec![("rope.scaling.factor", f(f32::NAN))],
        vec![("attention.sliding_window", Value::U64(1 << 50))],
        vec![("rope.scaling.attn_factor", f(-1.0))],
    ] {
        assert_eq!(refusal("llama", &own).code(), "malformed-file", "{own:?}");
    }
}

fn student(name: &str, test: &str) -> Option<(Bytes, Plan)> {
    let Some(kit) = kit::kit_dir() else {
        kit::skip(test);
        return None;
    };
    let file = std::fs::read(kit.join(format!("models/{name}-Q8_0.gguf"))).unwrap();
    let plan = Plan::new(&Gguf::from_bytes(&file).unwrap()).unwrap();
    Some((Bytes(file), plan))
}

fn tokens(count: usize) -> Vec<u32> {
    let mut numbers = Numbers(11);
    (0..count).map(|_| numbers.below(512) as u32).collect()
}

fn off(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Windows of 16 in a context of 512: rings of 79 positions on the CPU and of 271 on the GPU, gone round several times.
#[test]
fn rings_hold_what_windows_see() {
    let test = "rings_hold_what_windows_see";
    let ids = tokens(420);
    let device = meet(test, Default::default());
    for name in ["gemma3k", "gemma2"] {
        let Some((file, plan)) = student(name, test) else {
            return;
        };
        let load = || cpu::engine::Engine::load(plan.clone(), &file, 512, CacheType::F32, |_| Ok(()));
        let mut engine = pollster::block_on(load()).unwrap();
        // Row by row nothing but the window itself is ever needed: this is the oracle.
        let mut expected = Vec::new();
        for (position, id) in ids.iter().enumerate() {
            expected.extend_from_slice(engine.logits_at(*id, position));
        }
        // What was run can be taken back as far as a chunk, not further.
        assert_eq!(engine.resume(420), 420);
        assert_eq!(engine.resume(420 - 64), 420 - 64);
        assert_eq!(engine.resume(420 - 65), 0);
        let other = engine.logits_at(7, 420 - 64).to_vec();
        let chunks = engine.logits(&ids);
        let error = off(&chunks, &expected);
        println!("{name}: chunks of 64 off by {error:.1e}");
        assert!(error < 1e-4);
        let mut fresh = pollster::block_on(load()).unwrap();
        let short = [&ids[..420 - 64], &[7]].concat();
        let error = off(&other, &fresh.logits(&short)[(420 - 64) * 512..]);
        assert!(error < 1e-4, "set back: {error:.1e}");

        let Some(device) = &device else { continue };
        pollster::block_on(async {
            let load = gpu::Engine::load(device, plan.clone(), &file, 512, CacheType::F32, |_| Ok(()));
            let mut engine = load.await.unwrap();
            let error = off(&engine.logits(&ids).await.unwrap(), &expected);
            println!("{name}: chunks of 256 off by {error:.1e}");
            assert!(error < 1.2e-3);
            engine
                .prefill(&ids[..400], 0, Sampling::GREEDY, 0, |_| Ok(()))
                .await
                .unwrap();
            for position in 400..405 {
                let logits = engine.logits_at(ids[position], position).await.unwrap();
                let error = off(&logits, &expected[position * 512..(position + 1) * 512]);
                assert!(error < 1.2e-3, "decode behind chunks: {error:.1e}");
            }
        });
    }
}

/// Five rings of 16 - 1 + 256 positions and one layer that sees everything; and what is suggested instead fits.
#[test]
fn rings_are_counted_as_rings() {
    let Some((_, plan)) = student("gemma3k", "rings_are_counted_as_rings") else {
        return;
    };
    let fit = |context: usize, available: u64| Fit::new(&plan, context, 256.min(context), CacheType::F32, 2, available);
    let whole = fit(2048, u64::MAX);
    let position = 2 * 4 * 64;
    assert_eq!(whole.cache, position * (5 * 271 + 2048));
    let tight = fit(2048, whole.total() - 1000 * position);
    let most = tight.longest_context();
    assert_eq!(most, 1024);
    assert!(!tight.fits() && fit(most, tight.available).fits());
}

/// Where a norm stands behind a part, it takes a dispatch of its own; nothing else does.
#[test]
fn a_norm_behind_a_part_takes_one_dispatch() {
    let test = "a_norm_behind_a_part_takes_one_dispatch";
    let Some(device) = meet(test, Default::default()) else {
        return;
    };
    for (name, each) in [
        ("ernie45", 7),
        ("granite", 7),
        ("hunyuan", 7),
        ("phi3", 7),
        ("phi4mini", 7),
        ("smollm3", 7),
        ("exaone4", 9),
        ("gemma2", 9),
        ("gemma3k", 9),
        ("olmo2", 9),
    ] {
        let Some((file, plan)) = student(name, test) else {
            return;
        };
        let layers = plan.config.layers;
        let engine =
            pollster::block_on(gpu::Engine::load(&device, plan, &file, 64, CacheType::F32, |_| Ok(()))).unwrap();
        // The embedding, the head and the sampler are the other three.
        assert_eq!(engine.dispatches_per_token(), each * layers + 3, "{name}");
    }
}

/// An adapter of a fused tensor changes each half by its own rows.
#[test]
fn adapters_of_fused_tensors_reach_both_halves() {
    let Some((file, plan)) = student("phi3", "adapters_of_fused_tensors_reach_both_halves") else {
        return;
    };
    let mut numbers = Numbers(5);
    let mut pair = |base: &str, rows: usize| Pair {
        base: base.into(),
        rank: 4,
        rows,
        columns: 256,
        a: numbers.vector(4 * 256),
        b: numbers.vector(4 * rows),
    };
    let adapter = Adapter {
        architecture: "phi3".into(),
        alpha: 4.0,
        metadata: Metadata::default(),
        pairs: vec![pair("blk.0.ffn_up.weight", 512), pair("blk.1.attn_qkv.weight", 768)],
    };
    let stack = Stack::new(&plan, &[(&adapter, 1.0)]).unwrap();
    let change = &stack.changes[0];
    let up = &adapter.pairs[0];
    // Matrix row 2 i is gate row i, 2 i + 1 is up row i, which the file keeps behind all gates.
    for (row, own) in [(0, 0), (1, 256), (2, 1), (511, 511)] {
        assert_eq!(
            change.b[row * stack.rank..row * stack.rank + 4],
            up.b[own * 4..own * 4 + 4]
        );
    }
    for part in 0..2 {
        let first = part * stack.rank * 256;
        assert_eq!(change.a[first..first + 4 * 256], up.a);
    }
    let mut engine =
        pollster::block_on(cpu::engine::Engine::load(plan, &file, 64, CacheType::F32, |_| Ok(()))).unwrap();
    let before = engine.logits(&tokens(5));
    engine.attach(stack);
    assert!(off(&before, &engine.logits(&tokens(5))) > 1e-3);
}
