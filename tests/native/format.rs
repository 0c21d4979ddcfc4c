//! GGUF files and blocks against the kit.

use crate::kit;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use understudy::error::{Error, Result};
use understudy::format::blocks::{can_quantize, quantize, quantize_f16, quantize_q4_0, quantize_q8_0};
use understudy::format::gguf::{Array, Value, Writer};
use understudy::format::source::{Bytes, Source};
use understudy::format::{BlockType, Gguf, Parsed, dequantize};
use understudy::model::Sampling;
use understudy::student::{Prompt, Request, Student};
use understudy::text::template::Message;

/// Remembers the largest allocation that one thread asked for: what a hostile file can make us reserve.
struct Watching;

thread_local! {
    static LARGEST: AtomicUsize = const { AtomicUsize::new(0) };
}

unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more.
        let _ = LARGEST.try_with(|largest| largest.fetch_max(layout.size(), Ordering::Relaxed));
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Does some work, and tells the largest allocation that it asked for.
pub fn watch<T>(work: impl FnOnce() -> T) -> (T, usize) {
    LARGEST.with(|largest| largest.store(0, Ordering::Relaxed));
    let result = work();
    (result, LARGEST.with(|largest| largest.load(Ordering::Relaxed)))
}

fn int_type(name: &str) -> Option<BlockType> {
    BlockType::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(name))
}

#[test]
fn blocks_decode_as_ggml_does() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("blocks_decode_as_ggml_does");
    };
    let tensors = kit::read_safetensors(&kit.join("blocks/blocks.safetensors"));
    let mut compared = 0;
    for (name, bytes) in &tensors {
        // `q4_0.q` holds quantized bytes, `q4_0.deq` what ggml makes of them; `rnd` the same of random bytes.
        let Some((block_type, part)) = name.split_once('.') else {
            continue;
        };
        let (Some(block_type), Some(answer)) = (int_type(block_type), part.strip_suffix("deq")) else {
            continue;
        };
        let input = ["q", "bytes", "quant", ""].iter().find_map(|suffix| {
            let key = format!("{}.{answer}{suffix}", name.split_once('.')?.0);
            tensors.get(key.trim_end_matches(['.', '_']))
        });
        let input = input.unwrap_or_else(|| panic!("no bytes for {name}; there are {:?}", tensors.keys()));
        let expected: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let mut actual = vec![0.0; expected.len()];
        dequantize(block_type, input, &mut actual);
        for (i, (a, b)) in actual.iter().zip(&expected).enumerate() {
            let b = f32::from_bits(*b);
            assert!(
                a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
                "{name}[{i}]: {a} is not {b}"
            );
        }
        compared += 1;
    }
    println!("{compared} tensors decode to the same bits");
    assert_eq!(compared, 50, "the kit has two tensors of each quantized type");
}

#[test]
fn quantizers_write_what_ggml_writes() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("quantizers_write_what_ggml_writes");
    };
    let tensors = kit::read_safetensors(&kit.join("blocks/blocks.safetensors"));
    let values: Vec<f32> = tensors["input"]
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let bytes_of = |name: &str| {
        ["q", "bytes", "quant"]
            .iter()
            .find_map(|s| tensors.get(&format!("{name}.{s}")))
            .unwrap()
    };
    assert_eq!(&quantize_q8_0(&values), bytes_of("q8_0"));
    // ggml searches for better 4-bit scales than its reference rounding, which is ours: compare the errors instead.
    let error = |bytes: &[u8]| {
        let mut decoded = vec![0.0; values.len()];
        dequantize(BlockType::Q4_0, bytes, &mut decoded);
        understudy::gpu::cases::nmse(&decoded, &values).sqrt()
    };
    let (ours, theirs) = (error(&quantize_q4_0(&values)), error(bytes_of("q4_0")));
    println!("Q4_0: relative error {ours:.4}, ggml's search {theirs:.4}");
    assert!(ours < 1.15 * theirs);
    let halves = quantize_f16(&values);
    assert_eq!(halves[..2], half::f16::from_f32(values[0]).to_le_bytes());
    // The K types search as ggml does, on another path: what is lost must not be more.
    for (block_type, name) in [(BlockType::Q4_K, "q4_K"), (BlockType::Q6_K, "q6_K")] {
        let error = |bytes: &[u8]| {
            let mut decoded = vec![0.0; values.len()];
            dequantize(block_type, bytes, &mut decoded);
            understudy::gpu::cases::nmse(&decoded, &values).sqrt()
        };
        let (ours, theirs) = (error(&quantize(block_type, &values)), error(bytes_of(name)));
        println!("{name}: relative error {ours:.5}, ggml's {theirs:.5}");
        assert!(ours < 1.05 * theirs);
    }
}

#[test]
fn quantizers_stand_awkward_blocks() {
    let flat = |v: f32| vec![v; 256];
    let mut spike = flat(1e-3);
    spike[17] = -40.0;
    let ramp: Vec<f32> = (0..256).map(|i| i as f32 - 128.0).collect();
    let above: Vec<f32> = (0..256).map(|i| 5.0 + i as f32 / 256.0).collect();
    let tiny: Vec<f32> = ramp.iter().map(|v| v * 1e-9).collect();
    for block_type in BlockType::ALL.into_iter().filter(|t| can_quantize(*t)) {
        for (values, most) in [
            (flat(0.0), 0.0),
            (flat(1.0), 0.02),
            (flat(-1.0), 0.02),
            (spike.clone(), 0.05),
            (ramp.clone(), 0.08),
            (above.clone(), 0.08),
            // Scales are f16: weights this small may become zero, and must not become anything else.
            (tiny.clone(), 1.0),
        ] {
            let mut decoded = vec![f32::NAN; 256];
            dequantize(block_type, &quantize(block_type, &values), &mut decoded);
            let error: f64 = values.iter().zip(&decoded).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let power: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
            let relative = (error / power.max(1e-30)).sqrt();
            assert!(relative <= most, "{}: {relative} of {}", block_type.name(), values[0]);
        }
    }
    for broken in [f32::NAN, f32::INFINITY] {
        let mut values = flat(1.0);
        values[200] = broken;
        assert!(std::panic::catch_unwind(|| quantize(BlockType::Q4_K, &values)).is_err());
    }
}

#[test]
fn what_is_written_is_read_back() {
    let mut file = Writer::new();
    let values = [
        ("a.u8", Value::U8(200)),
        ("a.i8", Value::I8(-3)),
        ("a.u16", Value::U16(60_000)),
        ("a.i16", Value::I16(-30_000)),
        ("a.u32", Value::U32(4_000_000_000)),
        ("a.i32", Value::I32(-2_000_000_000)),
        ("a.f32", Value::F32(1.5)),
        ("a.bool", Value::Bool(true)),
        ("a.string", Value::String("ein Wort, ✓".into())),
        ("a.u64", Value::U64(u64::MAX)),
        ("a.i64", Value::I64(i64::MIN)),
        ("a.f64", Value::F64(-0.1)),
        (
            "a.strings",
            Value::Array(Array::String(vec!["x".into(), String::new()])),
        ),
        ("a.floats", Value::Array(Array::F32(vec![1.0, -2.0]))),
        ("a.flags", Value::Array(Array::Bool(vec![true, false]))),
        ("a.longs", Value::Array(Array::U64(vec![1, 2]))),
    ];
    for (key, value) in &values {
        file.set(*key, value.clone());
    }
    let rows: Vec<f32> = (0..96).map(|i| i as f32).collect();
    file.tensor("first", &[32, 3], BlockType::Q8_0, quantize_q8_0(&rows));
    file.tensor(
        "second",
        &[5],
        BlockType::F32,
        bytemuck::cast_slice(&rows[..5]).to_vec(),
    );
    let bytes = file.to_bytes();
    let gguf = Gguf::from_bytes(&bytes).unwrap();
    for (key, value) in &values {
        assert_eq!(gguf.metadata.get(key), Some(value), "{key}");
    }
    let second = gguf.tensor("second").unwrap();
    assert_eq!(second.offset % 32, 0);
    assert_eq!(
        bytes[second.offset as usize..][..20],
        *bytemuck::cast_slice::<f32, u8>(&rows[..5])
    );
    assert_eq!(
        (
            gguf.tensor("first").unwrap().rows(),
            gguf.tensor("first").unwrap().columns()
        ),
        (3, 32)
    );
}

#[test]
fn a_growing_prefix_gives_the_same_as_the_whole_file() {
    let bytes = understudy::model::random::random_student(64, 128, 2, 1, 1, 300, BlockType::Q4_0);
    let size = bytes.len() as u64;
    let (mut length, mut looks) = (0u64, 0);
    let gguf = loop {
        match Gguf::parse(&bytes[..length as usize], size).unwrap() {
            Parsed::Done(gguf) => break gguf,
            Parsed::NeedMore(n) => {
                assert!(n > length && n <= size);
                length = n;
                looks += 1;
            }
        }
    };
    assert!(looks < 40, "{looks} looks");
    assert_eq!(gguf.tensors, Gguf::from_bytes(&bytes).unwrap().tensors);
    // Every shorter prefix asks for more, and never panics.
    for length in (0..gguf.data_offset.min(20_000)).step_by(7) {
        assert!(
            matches!(Gguf::parse(&bytes[..length as usize], size), Ok(Parsed::NeedMore(_))),
            "{length}"
        );
    }
}

/// What the manifest expects of a file.
fn must_load(expect: &str) -> Option<bool> {
    if expect.starts_with("reject or") || expect.contains("or reject") || expect.contains("no crash") {
        None
    } else if expect.starts_with("reject") {
        Some(false)
    } else if expect.starts_with("load") || expect.starts_with("warn") {
        Some(true)
    } else {
        None
    }
}

async fn open_and_ask(file: Vec<u8>, name: &str) -> Result<String> {
    let opened = Student::open(&Bytes(file), None, None, |_, _| Ok(())).await;
    if [
        "70-nan-f32-weights.gguf",
        "71-nan-q4_0-scale.gguf",
        "72-inf-q8_0-scale.gguf",
    ]
    .contains(&name)
    {
        let error = opened.err().expect("its weights are not finite");
        assert_eq!(error.code(), "malformed-file", "{name}");
        assert!(
            error.to_string().contains("holds weights that are not finite"),
            "{error}"
        );
        println!("{name}: {error}");
        return Ok(String::new());
    }
    let mut student = opened?;
    let message = Message {
        role: "user".into(),
        content: "Hello".into(),
        reasoning_content: None,
    };
    let mut request = Request {
        sampling: Sampling::GREEDY,
        max_tokens: Some(4),
        ..Request::chat(vec![message])
    };
    let answer = student.generate(&request, |_| false).await;
    match (name, answer) {
        // A template that cannot be run is an error of the request; the student itself stays usable.
        ("68-chat-template-bomb.gguf" | "69-chat-template-broken.gguf", Err(error)) => {
            assert_eq!(error.code(), "template", "{name}");
            request.prompt = Prompt::Text("Hello".into());
            student.generate(&request, |_| false).await.map(|a| a.content)
        }
        (_, answer) => answer.map(|a| a.content),
    }
}

#[test]
fn hostile_files_end_in_an_error_or_load() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("hostile_files_end_in_an_error_or_load");
    };
    let manifest: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(kit.join("hostile/manifest.json")).unwrap()).unwrap();
    let files = kit::untar(&kit::unxz(&kit.join("hostile/gguf.tar.xz")));
    let mut tried = 0;
    for (path, bytes) in files {
        let name = path.rsplit('/').next().unwrap().to_string();
        let Some(entry) = manifest.get(&format!("gguf/{name}")) else {
            continue;
        };
        let expect = entry["expect"].as_str().unwrap();
        let size = bytes.len();
        LARGEST.with(|largest| largest.store(0, Ordering::Relaxed));
        let result = pollster::block_on(open_and_ask(bytes, &name));
        let largest = LARGEST.with(|largest| largest.load(Ordering::Relaxed));
        assert!(largest <= size + (64 << 20), "{name} made us reserve {largest} bytes");
        match &result {
            Ok(text) => println!("{name}: loads ({expect}) {text:?}"),
            Err(error) => {
                println!("{name}: [{}] {error} {}", error.code(), error.hint());
                assert!(!error.hint().is_empty() && !error.code().is_empty());
            }
        }
        if let Some(loads) = must_load(expect) {
            assert_eq!(result.is_ok(), loads, "{name}: expected \"{expect}\", got {result:?}");
        }
        tried += 1;
    }
    assert_eq!(tried, 80);
}

#[test]
fn a_source_reads_ranges() {
    let bytes = Bytes(vec![1, 2, 3]);
    assert_eq!(pollster::block_on(bytes.read(1, 10)), Ok(vec![2, 3]));
    assert_eq!(
        pollster::block_on(bytes.read_exact(1, 3)),
        Err(Error::Truncated { needed: 4, size: 3 })
    );
    assert_eq!(pollster::block_on(bytes.read(u64::MAX, 1)), Ok(vec![]));
}

/// A file whose only key holds `value` as its bytes are given, after the type's number.
fn one_key(kind: u32, value: &[u8]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(0u64.to_le_bytes());
    file.extend(1u64.to_le_bytes());
    file.extend(1u64.to_le_bytes());
    file.extend(b"k");
    file.extend(kind.to_le_bytes());
    file.extend(value);
    file
}

#[test]
fn texts_that_would_grow_in_memory_are_refused() {
    let size = 32 << 20;
    // Empty texts take 8 bytes in the file and 24 in memory.
    let mut texts = 8u32.to_le_bytes().to_vec();
    texts.extend((size as u64 / 8).to_le_bytes());
    texts.resize(12 + size, 0);
    // A byte that is not UTF-8 takes three as U+FFFD.
    let mut bad = (size as u64).to_le_bytes().to_vec();
    bad.resize(8 + size, 0xff);
    for file in [one_key(9, &texts), one_key(8, &bad)] {
        LARGEST.with(|largest| largest.store(0, Ordering::Relaxed));
        let error = Gguf::from_bytes(&file).expect_err("it is refused");
        assert_eq!(error.code(), "malformed-file", "{error}");
        let largest = LARGEST.with(|largest| largest.load(Ordering::Relaxed));
        assert!(largest <= file.len() + (64 << 20), "{largest} bytes at once");
    }
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    for name in ["", &"n".repeat(64)] {
        let written = std::panic::catch_unwind(|| {
            Writer::new().tensor(name, &[1], BlockType::F32, vec![0; 4]);
        });
        assert!(written.is_err(), "a name of {} bytes", name.len());
    }
}

/// `bytes` with every weight of the F32 tensor `name` set to `value`.
fn with_weights(mut bytes: Vec<u8>, name: &str, value: f32) -> Vec<u8> {
    let tensor = Gguf::from_bytes(&bytes).unwrap().tensor(name).unwrap().clone();
    let at = tensor.offset as usize;
    for weight in bytes[at..at + tensor.bytes as usize].chunks_exact_mut(4) {
        weight.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    let bytes = understudy::model::random::random_student(64, 128, 2, 1, 1, 300, BlockType::Q4_0);
    let ask = |bytes| pollster::block_on(open_and_ask(bytes, ""));
    // A weight that is none is seen when it is read, and its tensor named.
    let error = ask(with_weights(bytes.clone(), "blk.1.ffn_norm.weight", f32::NAN)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "The file is damaged: the tensor blk.1.ffn_norm.weight holds weights that are not finite numbers."
    );
    // Finite weights may still give numbers that are not.
    let error = ask(with_weights(bytes, "output_norm.weight", 3e38)).unwrap_err();
    assert_eq!(error, Error::NotFinite);
}
