//! A student end to end: generation, its promises per token, memory, and what happens when things go wrong.

use crate::gpu::meet;
use crate::kit;
use std::cell::Cell;
use understudy::error::{Error, Result};
use understudy::format::source::{Bytes, Source};
use understudy::gpu::{Gpu, GpuOptions};
use understudy::model::chance::Numbers;
use understudy::model::{Sampling, Step};
use understudy::student::{Engine, Event, Finish, Header, Prompt, Request, Student};
use understudy::text::template::Message;

pub fn bundled() -> Vec<u8> {
    std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/school/models/understudy-pip.gguf"
    ))
    .expect("the bundled student is in school/models/")
}

pub fn open(file: Vec<u8>, gpu: Option<&Gpu>) -> Student {
    pollster::block_on(Student::open(&Bytes(file), gpu, None, |_, _| Ok(()))).unwrap()
}

pub fn user(text: &str) -> Message {
    Message {
        role: "user".into(),
        content: text.into(),
        reasoning_content: None,
    }
}

pub fn greedy(prompt: Prompt, max_tokens: usize) -> Request {
    Request {
        prompt,
        sampling: Sampling::GREEDY,
        max_tokens: Some(max_tokens),
        ..Request::chat(Vec::new())
    }
}

pub fn answer(student: &mut Student, request: &Request) -> understudy::student::Answer {
    pollster::block_on(student.generate(request, |_| false)).unwrap()
}

/// The devices that a test runs on: the CPU, and lavapipe where there is one.
pub fn devices(test: &str) -> Vec<Option<Gpu>> {
    let mut devices = vec![None];
    if let Some(gpu) = meet(
        test,
        GpuOptions {
            subgroups: true,
            ..GpuOptions::default()
        },
    ) {
        devices.push(Some(gpu));
    }
    devices
}

#[test]
fn decode_costs_one_submission_and_makes_nothing() {
    let Some(gpu) = meet("decode_costs_one_submission_and_makes_nothing", GpuOptions::default()) else {
        return;
    };
    let mut student = open(bundled(), Some(&gpu));
    let layers = student.plan().config.layers;
    let Engine::Gpu(engine) = student.engine() else {
        panic!("it was opened on the device")
    };
    let dispatches = engine.dispatches_per_token();
    pollster::block_on(async {
        engine
            .prefill(&[1, 2, 3, 4, 5], 0, Sampling::GREEDY, 0, |_| Ok(()))
            .await
            .unwrap();
        // One token is drawn with nothing in flight behind it, so that the count is of whole tokens.
        engine.decode(1).await.unwrap();
        let before = gpu.counts();
        let tokens = 10;
        for _ in 0..tokens {
            engine.decode(1).await.unwrap();
        }
        let used = gpu.counts() - before;
        println!("{tokens} tokens: {used:?}, {dispatches} dispatches each, {layers} layers");
        assert_eq!(used.submissions, tokens);
        assert_eq!(used.buffers, 0);
        assert_eq!(used.bind_groups, 0);
        assert_eq!(used.pipelines, 0);
        assert_eq!(used.dispatches, tokens * dispatches as u64);
    });
    // Beside the layers: the embedding, the head, the sampler.
    assert!(
        dispatches <= 8 * layers + 3,
        "{dispatches} dispatches for {layers} layers"
    );
}

#[test]
fn every_kit_student_keeps_to_few_dispatches_a_layer() {
    let Some(gpu) = meet(
        "every_kit_student_keeps_to_few_dispatches_a_layer",
        GpuOptions::default(),
    ) else {
        return;
    };
    let Some(kit) = kit::kit_dir() else {
        kit::skip("every_kit_student_keeps_to_few_dispatches_a_layer");
        return;
    };
    for (name, most) in [
        ("llama32-Q4_K_M", 8),
        ("smollm2-Q4_K_M", 8),
        ("qwen2-Q4_K_M", 8),
        ("qwen3-Q4_K_M", 8),
        ("llama32-Q8_0", 7),
        ("qwen2-Q8_0", 7),
        ("qwen3-Q8_0", 7),
        ("mistral-Q8_0", 7),
    ] {
        let mut student = open(
            std::fs::read(kit.join(format!("models/{name}.gguf"))).unwrap(),
            Some(&gpu),
        );
        let layers = student.plan().config.layers;
        let Engine::Gpu(engine) = student.engine() else {
            panic!("it was opened on the device")
        };
        let dispatches = engine.dispatches_per_token();
        println!("{name}: {dispatches} dispatches for {layers} layers");
        // The embedding, the head and the sampler are the other three.
        assert!(dispatches <= most * layers + 3);
    }
}

#[test]
fn cpu_and_gpu_write_the_same_text() {
    let mut texts = Vec::new();
    for gpu in devices("cpu_and_gpu_write_the_same_text") {
        let mut student = open(bundled(), gpu.as_ref());
        let request = greedy(Prompt::Messages(vec![user("Hello! Who are you?")]), 40);
        texts.push(answer(&mut student, &request).content);
    }
    println!("{texts:?}");
    assert!(!texts[0].is_empty());
    assert!(texts.iter().all(|text| text == &texts[0]));
}

#[test]
fn a_seed_replays_and_tokens_in_flight_change_nothing() {
    for gpu in devices("a_seed_replays_and_tokens_in_flight_change_nothing") {
        let mut student = open(bundled(), gpu.as_ref());
        let sampling = Sampling {
            temperature: 1.2,
            seed: 11,
            ..Sampling::default()
        };
        let request = Request {
            sampling,
            max_tokens: Some(30),
            ignore_end: true,
            ..Request::chat(vec![user("Tell me a story.")])
        };
        let first = answer(&mut student, &request);
        let again = answer(&mut student, &request);
        assert_eq!(first.ids, again.ids);
        // The second time, all of the prompt but its last token was still in the cache.
        assert_eq!(again.cached_tokens, again.prompt_tokens - 1);
        let other = Request {
            sampling: Sampling { seed: 12, ..sampling },
            ..request.clone()
        };
        assert_ne!(answer(&mut student, &other).ids, first.ids);
        // Stopped early with steps in flight, the student answers as before.
        let mut count = 0;
        let stopped = pollster::block_on(student.generate(&request, |event| {
            if matches!(event, Event::Text { .. }) {
                count += 1;
            }
            count == 5
        }))
        .unwrap();
        assert_eq!(stopped.finish, Finish::Abort);
        assert_eq!(stopped.ids[..], first.ids[..5]);
        assert_eq!(answer(&mut student, &request).ids, first.ids);
    }
}

#[test]
fn a_second_turn_reuses_the_cache_and_answers_as_without_it() {
    for gpu in devices("a_second_turn_reuses_the_cache_and_answers_as_without_it") {
        let mut student = open(bundled(), gpu.as_ref());
        let mut messages = vec![user("Hello!")];
        let first = answer(&mut student, &greedy(Prompt::Messages(messages.clone()), 30));
        messages.push(Message {
            role: "assistant".into(),
            content: first.content,
            reasoning_content: None,
        });
        messages.push(user("What can you do?"));
        let request = greedy(Prompt::Messages(messages), 30);
        let second = answer(&mut student, &request);
        assert!(second.cached_tokens > 0);
        let mut fresh = open(bundled(), gpu.as_ref());
        assert_eq!(answer(&mut fresh, &request).ids, second.ids);
    }
}

/// Caches of windowed layers forget: a near beginning is reused, a far one is run again, and answers are the same.
#[test]
fn a_conversation_set_back_answers_as_a_new_one() {
    let test = "a_conversation_set_back_answers_as_a_new_one";
    let Some(kit) = kit::kit_dir() else {
        kit::skip(test);
        return;
    };
    let file = Bytes(std::fs::read(kit.join("models/gemma3k-Q8_0.gguf")).unwrap());
    let mut numbers = Numbers(3);
    let mut letters = |n: usize| -> String { (0..n).map(|_| char::from(b'a' + numbers.below(26) as u8)).collect() };
    let text = letters(330);
    let request = |prompt: String, tokens: usize| Request {
        ignore_end: true,
        ..greedy(Prompt::Text(prompt), tokens)
    };
    for gpu in devices(test) {
        let new = || pollster::block_on(Student::open(&file, gpu.as_ref(), Some(600), |_, _| Ok(()))).unwrap();
        let mut student = new();
        let first = answer(&mut student, &request(text.clone(), 40));
        for kept in [320, 60] {
            let prompt = format!("{}{}", &text[..kept], letters(30));
            let got = answer(&mut student, &request(prompt.clone(), 8));
            println!("{} of {} tokens reused", got.cached_tokens, first.used);
            assert_eq!(got.cached_tokens > 0, kept == 320);
            assert_eq!(got.ids, answer(&mut new(), &request(prompt, 8)).ids);
        }
    }
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_and_nothing_is_lost() {
    for gpu in devices("a_prompt_longer_than_the_context_is_refused_and_nothing_is_lost") {
        let file = Bytes(bundled());
        let mut student = pollster::block_on(Student::open(&file, gpu.as_ref(), Some(64), |_, _| Ok(()))).unwrap();
        let long = greedy(Prompt::Text("word ".repeat(200)), 10);
        let error = pollster::block_on(student.generate(&long, |_| false)).unwrap_err();
        assert!(matches!(error, Error::PromptTooLong { context: 64, .. }), "{error:?}");
        assert!(!error.hint().is_empty());
        // The end of the context ends the answer.
        let request = Request {
            ignore_end: true,
            ..greedy(Prompt::Messages(vec![user("Hi")]), 1000)
        };
        let full = answer(&mut student, &request);
        assert_eq!(full.finish, Finish::Length);
        assert_eq!(full.prompt_tokens + full.ids.len(), 64);
    }
}

#[test]
fn stop_strings_end_an_answer_and_are_not_part_of_it() {
    let mut student = open(bundled(), None);
    let request = greedy(Prompt::Messages(vec![user("Hello! Who are you?")]), 40);
    let whole = answer(&mut student, &request).content;
    let word = whole
        .split_whitespace()
        .nth(2)
        .expect("it says a few words")
        .to_string();
    let stopped = answer(
        &mut student,
        &Request {
            stop: vec![word.clone()],
            ..request
        },
    );
    assert_eq!(stopped.finish, Finish::Stop);
    assert_eq!(stopped.content, whole[..whole.find(&word).unwrap()]);
}

#[test]
fn impossible_settings_are_refused() {
    let mut student = open(bundled(), None);
    for sampling in [
        Sampling {
            temperature: -1.0,
            ..Sampling::default()
        },
        Sampling {
            temperature: f32::NAN,
            ..Sampling::default()
        },
        Sampling {
            top_p: 2.0,
            ..Sampling::default()
        },
        Sampling {
            min_p: -0.5,
            ..Sampling::default()
        },
    ] {
        let request = Request {
            sampling,
            ..Request::chat(vec![user("Hi")])
        };
        let error = pollster::block_on(student.generate(&request, |_| false)).unwrap_err();
        assert_eq!(error.code(), "bad-request");
    }
}

#[test]
fn a_student_that_does_not_fit_is_refused_before_anything_is_allocated() {
    let Some(gpu) = meet("a_student_that_does_not_fit", GpuOptions::default()) else {
        return;
    };
    let header = pollster::block_on(Header::read(&Bytes(bundled()), Some(&gpu), None)).unwrap();
    let mut fit = header.fit;
    assert_eq!(fit.check(), Ok(()));
    fit.available = fit.weights / 2;
    let Err(error) = fit.check() else {
        panic!("half of the weights' bytes are not enough")
    };
    assert_eq!(error.code(), "does-not-fit");
    println!("{error} {}", error.hint());
    fit.available = fit.weights + fit.scratch + fit.cache / 2;
    assert!(fit.longest_context() < fit.context);
    assert!(fit.suggestion().contains("context"));
}

#[test]
fn a_lost_device_is_an_error_and_a_new_one_goes_on() {
    let Some(gpu) = meet("a_lost_device_is_an_error_and_a_new_one_goes_on", GpuOptions::default()) else {
        return;
    };
    let mut student = open(bundled(), Some(&gpu));
    let request = greedy(Prompt::Messages(vec![user("Hello!")]), 20);
    let before = answer(&mut student, &request);
    gpu.destroy();
    let error = pollster::block_on(student.generate(&request, |_| false)).unwrap_err();
    assert_eq!(error.code(), "device-lost");
    let Some(gpu) = meet("a_lost_device_is_an_error_and_a_new_one_goes_on", GpuOptions::default()) else {
        return;
    };
    assert_eq!(answer(&mut open(bundled(), Some(&gpu)), &request).ids, before.ids);
}

/// A source that remembers the largest piece that was asked for at once.
struct Watched {
    bytes: Bytes,
    largest: Cell<usize>,
}

impl Source for Watched {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.largest.set(self.largest.get().max(length));
        self.bytes.read(offset, length).await
    }
}

#[test]
fn a_file_is_read_in_slices() {
    let Some(gpu) = meet("a_file_is_read_in_slices", GpuOptions::default()) else {
        return;
    };
    let source = Watched {
        bytes: Bytes(crate::random::llama(512, 2048, 4, 32_000)),
        largest: Cell::new(0),
    };
    let student = pollster::block_on(Student::open(&source, Some(&gpu), Some(64), |_, _| Ok(()))).unwrap();
    println!("{} bytes in pieces of at most {}", source.size(), source.largest.get());
    assert!(source.size() > 20 << 20);
    assert!(source.largest.get() <= 4 << 20);
    drop(student);
}

#[test]
fn matrices_beyond_the_binding_limit_are_cut_by_rows() {
    let Some(gpu) = meet(
        "matrices_beyond_the_binding_limit_are_cut_by_rows",
        GpuOptions::default(),
    ) else {
        return;
    };
    let file = Bytes(crate::random::llama(256, 512, 2, 3000));
    let ids: Vec<u32> = (0..40).map(|i| (i * 73) % 3000).collect();
    let whole = pollster::block_on(async {
        Student::open(&file, Some(&gpu), Some(64), |_, _| Ok(()))
            .await
            .unwrap()
            .logits(&ids)
            .await
            .unwrap()
    });
    let small = gpu.with_binding_limit(100_000);
    let (parts, prefill, decode) = pollster::block_on(async {
        let mut student = Student::open(&file, Some(&small), Some(64), |_, _| Ok(()))
            .await
            .unwrap();
        let Engine::Gpu(engine) = student.engine() else {
            panic!("it was opened on the device")
        };
        let steps = engine
            .plan()
            .body
            .iter()
            .filter(|s| matches!(s, Step::Linear(_)))
            .count();
        let parts = engine.dispatches_per_token() > 2 * steps;
        (
            parts,
            student.logits(&ids).await.unwrap(),
            student.logits_by_decode(&ids).await.unwrap(),
        )
    });
    assert!(parts, "the limit was small enough to cut");
    assert_eq!(whole, prefill);
    let worst = whole
        .iter()
        .zip(&decode)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst < 1e-4, "decode is off by {worst}");
}

#[test]
fn the_bundled_student_gives_its_ten_answers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/school/models/understudy-pip.answers.json");
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(cases.len(), 10);
    for gpu in devices("the_bundled_student_gives_its_ten_answers") {
        let mut student = open(bundled(), gpu.as_ref());
        for case in &cases {
            let prompt = case["prompt"].as_str().unwrap();
            let got = answer(&mut student, &greedy(Prompt::Messages(vec![user(prompt)]), 400));
            assert_eq!(got.content.trim(), case["answer"].as_str().unwrap(), "{prompt}");
            assert_eq!(got.reasoning.trim(), case["reasoning"].as_str().unwrap(), "{prompt}");
            assert_eq!(got.finish, Finish::Stop);
        }
    }
}
