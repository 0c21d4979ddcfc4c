//! The types of the KV cache: whole students in each of them, rings, and which one is chosen.

use crate::gpu::{meet, tiers};
use crate::kit;
use crate::logits::{decode, open, prefill, reference, worst};
use understudy::cpu::cache::Rows;
use understudy::format::BlockType;
use understudy::format::gguf::Gguf;
use understudy::format::source::Bytes;
use understudy::gpu::{Gpu, GpuOptions};
use understudy::model::chance::Numbers;
use understudy::model::memory::Fit;
use understudy::model::random::random_student;
use understudy::model::{CacheType, Plan, Sampling};
use understudy::student::{Engine, Header, OpenOptions, Request, Student};
use understudy::text::template::Message;

/// The CPU, and lavapipe on each tier.
fn devices(test: &str) -> Vec<Option<Gpu>> {
    let mut devices = vec![None];
    devices.extend(tiers().into_iter().filter_map(|options| meet(test, options).map(Some)));
    devices
}

/// Most error against the f32 references, relative to the largest logit. A number of a cache is off by at most 2^-12 of itself in
/// f16, and by 1/254 of the largest of its block in q8. Seen on these students, whose weights are random, so that what a layer gets
/// wrong the next ones do not mend: 9e-4 and 2.7e-2.
fn tolerance(cache: CacheType) -> f32 {
    match cache {
        CacheType::F32 => 1e-4,
        CacheType::F16 => 2e-3,
        CacheType::Q8 => 5e-2,
    }
}

#[test]
fn whole_students_agree_with_the_kit() {
    let test = "whole_students_agree_with_the_kit";
    // Heads of 64, 128 and 64 in rings; a student whose other layers are recurrent; partly turned heads.
    for name in [
        "llama32-Q8_0",
        "qwen3-Q8_0",
        "gemma2-Q8_0",
        "lfm2-Q8_0",
        "phi4mini-Q8_0",
    ] {
        let Some((file, reference)) = reference(name) else {
            return kit::skip(test);
        };
        for cache in [CacheType::F16, CacheType::Q8] {
            let mut answers = Vec::new();
            for gpu in devices(test) {
                let mut engine = open(file.clone(), gpu.as_ref(), cache).unwrap();
                let many = prefill(&mut engine, &reference.ids);
                let one_by_one = decode(&mut engine, &reference.ids, 0);
                let errors = [&many, &one_by_one].map(|logits| worst(logits, &reference.logits));
                println!(
                    "{name} in {}, GPU {}: {:.1e} and {:.1e}",
                    cache.name(),
                    gpu.is_some(),
                    errors[0],
                    errors[1]
                );
                assert!(
                    errors.iter().all(|e| *e <= tolerance(cache)),
                    "{name} in {}",
                    cache.name()
                );
                // It was rounded, and not by nothing.
                assert!(errors[0] > 1e-6);
                answers.push(many);
            }
            // Engines round alike, so they are nearer to one another than to f32.
            for other in &answers[1..] {
                let apart = worst(other, &answers[0]);
                println!("{name} in {}: engines {apart:.1e} apart", cache.name());
                assert!(apart <= tolerance(cache) / 4.0);
            }
        }
    }
}

/// Windows of 16 in rings that go round several times, in each type: chunks as row by row, and set back.
#[test]
fn rings_hold_what_windows_see_in_each_type() {
    let test = "rings_hold_what_windows_see_in_each_type";
    let Some((file, _)) = reference("gemma3k-Q8_0") else {
        return kit::skip(test);
    };
    let mut numbers = Numbers(11);
    let ids: Vec<u32> = (0..330).map(|_| numbers.below(512) as u32).collect();
    for cache in [CacheType::F16, CacheType::Q8] {
        for gpu in devices(test) {
            let options = OpenOptions {
                context: Some(400),
                cache: Some(cache),
            };
            let open = || {
                pollster::block_on(Student::open(
                    &Bytes(file.clone()),
                    gpu.as_ref(),
                    options,
                    |_, _| Ok(()),
                ))
            };
            let mut student = open().unwrap();
            let many = pollster::block_on(student.logits(&ids)).unwrap();
            let one_by_one = pollster::block_on(student.logits_by_decode(&ids)).unwrap();
            let apart = worst(&many, &one_by_one);
            println!("{} GPU {}: {apart:.1e}", cache.name(), gpu.is_some());
            assert!(apart <= tolerance(cache));
            // Back by less than a chunk, and on with another token: as a student that never saw the rest.
            let at = 330 - 40;
            let logits = |engine: &mut Engine| match engine {
                Engine::Cpu(engine) => engine.logits_at(7, at).to_vec(),
                Engine::Gpu(engine) => pollster::block_on(engine.logits_at(7, at)).unwrap(),
            };
            let back = logits(student.engine());
            let mut fresh = open().unwrap();
            pollster::block_on(fresh.logits_by_decode(&ids[..at])).unwrap();
            assert_eq!(back, logits(fresh.engine()));
        }
    }
}

#[test]
fn the_widest_type_that_fits_is_chosen() {
    let test = "the_widest_type_that_fits_is_chosen";
    let Some((file, _)) = reference("llama32-Q8_0") else {
        return kit::skip(test);
    };
    let plan = Plan::new(&Gguf::from_bytes(&file).unwrap()).unwrap();
    let of = |cache: CacheType, available: u64| Fit::new(&plan, 2048, 256, cache, 2, available);
    let sizes = CacheType::ALL.map(|cache| of(cache, u64::MAX).cache);
    // Heads of 64: 256, 128 and 72 bytes.
    assert_eq!([sizes[1] * 2, sizes[2] * 32], [sizes[0], sizes[0] * 9]);
    for (at, cache) in CacheType::ALL.into_iter().enumerate() {
        let total = of(cache, 0).total();
        let choose = |asked, available| Fit::choose(asked, 2048, |cache| of(cache, available));
        let chosen = choose(None, total);
        assert_eq!((chosen.cache_type, chosen.fits()), (cache, true));
        assert!(chosen.words().contains(&format!("for 2048 tokens in {}", cache.name())));
        // What is asked for is what is planned, whether it fits or not.
        assert_eq!(choose(Some(cache), 0).cache_type, cache);
        let narrower = choose(None, total - 1);
        assert_eq!(narrower.cache_type, CacheType::ALL[(at + 1).min(2)]);
        assert_eq!(narrower.fits(), at < 2);
    }
    for (word, cache) in [
        ("auto", None),
        ("f16", Some(CacheType::F16)),
        ("q8", Some(CacheType::Q8)),
    ] {
        assert_eq!(CacheType::from_option(Some(word)), Ok(cache));
    }
    assert_eq!(CacheType::from_option(Some("q4")).unwrap_err().code(), "bad-request");

    // A device whose bindings hold the whole context in f16 only, and then in q8 only.
    let Some(gpu) = meet(test, GpuOptions::default()) else {
        return;
    };
    // Four KV heads of 64: their keys, and not the table of rotations, are the largest binding that grows with the context.
    let file = random_student(256, 256, 1, 4, 4, 300, BlockType::Q8_0);
    let layer = 2048 * 4 * 4 * CacheType::F16.head_words(64) as u64;
    for (limit, cache, context) in [
        (2 * layer, CacheType::F32, 2048),
        (layer, CacheType::F16, 2048),
        (layer - 4, CacheType::Q8, 2048),
        (layer / 4, CacheType::Q8, 2048 * 128 / (4 * 72)),
    ] {
        let small = gpu.with_binding_limit(limit);
        let header = pollster::block_on(Header::read(&Bytes(file.clone()), Some(&small), None)).unwrap();
        assert_eq!((header.fit.cache_type, header.fit.context), (cache, context), "{limit}");
    }
}

#[test]
fn the_plan_counts_what_is_allocated_in_each_type() {
    let test = "the_plan_counts_what_is_allocated_in_each_type";
    let Some(gpu) = meet(test, GpuOptions::default()) else {
        return;
    };
    let Some((file, _)) = reference("qwen3-Q8_0") else {
        return kit::skip(test);
    };
    for cache in CacheType::ALL {
        let options = OpenOptions {
            context: None,
            cache: Some(cache),
        };
        let before = gpu.counts();
        let student =
            pollster::block_on(Student::open(&Bytes(file.clone()), Some(&gpu), options, |_, _| Ok(()))).unwrap();
        let allocated = (gpu.counts() - before).bytes;
        let planned = student.fit().total();
        println!("{}: {allocated} bytes of {planned} planned", cache.name());
        assert!(allocated <= planned + planned / 50 && planned <= allocated + allocated / 50);
    }
}

/// What rounding may do at worst, and its corners.
#[test]
fn rows_come_back_as_near_as_their_type_says() {
    let mut numbers = Numbers(5);
    for head_dim in [8, 20, 64, 80, 256] {
        let values: Vec<f32> = numbers.vector(5 * head_dim).iter().map(|v| 3.0 * v).collect();
        assert_eq!(Rows::of(CacheType::F32, head_dim, &values).values(), values);
        let halves = Rows::of(CacheType::F16, head_dim, &values).values();
        assert!(
            halves
                .iter()
                .zip(&values)
                .all(|(a, b)| (a - b).abs() <= b.abs() / 2048.0)
        );
        let bytes = Rows::of(CacheType::Q8, head_dim, &values).values();
        for (row, back) in values.chunks(head_dim).zip(bytes.chunks(head_dim)) {
            for (block, back) in row.chunks(32).zip(back.chunks(32)) {
                let most = block.iter().fold(0.0f32, |most, v| most.max(v.abs()));
                let off = block.iter().zip(back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off <= most / 253.0, "{off} of {most}");
            }
        }
    }
    let odd = [1e6, -1e6, 0.0, 65504.0, f32::MIN_POSITIVE, 1e-31, -0.0, 2.0];
    let halves = Rows::of(CacheType::F16, 8, &odd).values();
    assert_eq!(halves[..2], [65504.0, -65504.0]);
    assert_eq!(Rows::of(CacheType::Q8, 8, &[1e-31; 8]).values(), [0.0; 8]);
    assert!(
        Rows::of(CacheType::Q8, 8, &[3e38; 8])
            .values()
            .iter()
            .all(|v| v.is_finite())
    );
}

/// A trained student says in each type what it says in f32.
#[test]
fn the_bundled_student_gives_its_ten_answers_in_each_type() {
    let model = |name: &str| std::fs::read(format!("{}/school/models/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&model("understudy-pip.answers.json")).unwrap();
    let file = Bytes(model("understudy-pip.gguf"));
    for cache in [CacheType::F16, CacheType::Q8] {
        let options = OpenOptions {
            context: Some(1024),
            cache: Some(cache),
        };
        let mut student = pollster::block_on(Student::open(&file, None, options, |_, _| Ok(()))).unwrap();
        for case in &cases {
            let message = Message {
                role: "user".into(),
                content: case["prompt"].as_str().unwrap().into(),
                reasoning_content: None,
            };
            let request = Request {
                sampling: Sampling::GREEDY,
                max_tokens: Some(400),
                ..Request::chat(vec![message])
            };
            let answer = pollster::block_on(student.generate(&request, |_| false)).unwrap();
            let same = answer.content.trim() == case["answer"].as_str().unwrap();
            println!("{} {same}: {}", cache.name(), case["prompt"]);
            assert!(same, "{}", answer.content);
        }
    }
}
