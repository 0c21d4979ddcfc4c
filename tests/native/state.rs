//! Saved conversations: what is restored goes on as if it had never been away, and nothing else is taken for one.

use crate::gpu::meet;
use crate::kit;
use crate::logits::reference;
use understudy::format::adapter::{Adapter, Pair};
use understudy::format::gguf::Metadata;
use understudy::format::source::Bytes;
use understudy::gpu::{Gpu, GpuOptions};
use understudy::model::chance::Numbers;
use understudy::model::{CacheType, OPENING, Sampling};
use understudy::student::{Answer, Engine, OpenOptions, Prompt, Request, Student};

/// The CPU, and lavapipe where there is one.
fn devices(test: &str) -> Vec<Option<Gpu>> {
    let mut devices = vec![None];
    devices.extend(meet(test, GpuOptions::default()).map(Some));
    devices
}

fn open(file: &[u8], gpu: Option<&Gpu>, context: usize, cache: CacheType) -> Student {
    let options = OpenOptions {
        context: Some(context),
        cache: Some(cache),
    };
    pollster::block_on(Student::open(&Bytes(file.to_vec()), gpu, options, |_, _| Ok(()))).unwrap()
}

fn answer(student: &mut Student, text: &str) -> Answer {
    let request = Request {
        prompt: Prompt::Text(text.into()),
        sampling: Sampling::GREEDY,
        max_tokens: Some(9),
        ignore_end: true,
        ..Request::chat(Vec::new())
    };
    pollster::block_on(student.generate(&request, |_| false)).unwrap()
}

fn save(student: &mut Student) -> Vec<u8> {
    pollster::block_on(student.save_state()).unwrap()
}

fn restore(student: &mut Student, bytes: &[u8]) -> Result<usize, String> {
    pollster::block_on(student.restore_state(bytes)).map_err(|error| {
        assert_eq!((error.code(), error.hint().is_empty()), ("state", false));
        error.to_string()
    })
}

/// Logits after one more token at `position`, bit for bit.
fn logits(student: &mut Student, position: usize) -> Vec<u32> {
    let logits = match student.engine() {
        Engine::Cpu(engine) => engine.logits_at(7, position).to_vec(),
        Engine::Gpu(engine) => pollster::block_on(engine.logits_at(7, position)).unwrap(),
    };
    logits.into_iter().map(f32::to_bits).collect()
}

/// Students with whole caches, with rings that have gone round, and with each kind of recurrent layer.
#[test]
fn a_restored_conversation_goes_on_as_if_it_had_never_been_away() {
    let test = "a_restored_conversation_goes_on_as_if_it_had_never_been_away";
    let mut numbers = Numbers(3);
    let begun: String = (0..450).map(|_| char::from(b'a' + numbers.below(26) as u8)).collect();
    for (name, cache) in [
        ("llama32-Q8_0", CacheType::F32),
        ("llama32-Q8_0", CacheType::F16),
        ("gemma3k-Q8_0", CacheType::Q8),
        ("lfm2-Q8_0", CacheType::F32),
        ("granite4h-Q8_0", CacheType::F32),
        ("qwen35-Q8_0", CacheType::Q8),
    ] {
        let Some((file, _)) = reference(name) else {
            return kit::skip(test);
        };
        for gpu in devices(test) {
            let new = || open(&file, gpu.as_ref(), 1000, cache);
            let mut student = new();
            let first = answer(&mut student, &begun);
            assert!(first.used > 300, "{name}: {} tokens, rings have gone round", first.used);
            let bytes = save(&mut student);
            let mut other = new();
            assert_eq!(restore(&mut other, &bytes), Ok(first.used), "{name}");
            println!(
                "{name}, GPU {}: {} tokens in {} bytes",
                gpu.is_some(),
                first.used,
                bytes.len()
            );
            // The same bytes once more: nothing was lost on the way.
            assert!(save(&mut other) == bytes, "{name}");

            // On with the conversation itself, to the bit.
            let mut third = new();
            restore(&mut third, &bytes).unwrap();
            assert_eq!(
                logits(&mut third, first.used),
                logits(&mut student, first.used),
                "{name}"
            );

            // Once more from inside the conversation: from where the copies of recurrent layers are, else from the last token.
            let again = answer(&mut other, &begun);
            let known = if other.plan().cells > 0 { OPENING } else { 1 };
            assert_eq!(again.cached_tokens, first.prompt_tokens - known, "{name}");
            assert_eq!(again.ids, first.ids, "{name}");
        }
    }
}

/// A chat's second turn: none of what both turns share is run again.
#[test]
fn a_second_turn_after_a_restart_is_not_read_again() {
    let file = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/school/models/understudy-pip.gguf"
    ))
    .unwrap();
    for gpu in devices("a_second_turn_after_a_restart_is_not_read_again") {
        let new = || open(&file, gpu.as_ref(), 512, CacheType::F32);
        let mut student = new();
        let first = answer(&mut student, "Hello! Who are you?");
        let bytes = save(&mut student);
        let so_far = format!("Hello! Who are you?{}", first.content);
        let expected = answer(&mut student, &format!("{so_far} What can you do?"));
        let mut other = new();
        restore(&mut other, &bytes).unwrap();
        let got = answer(&mut other, &format!("{so_far} What can you do?"));
        assert_eq!((got.cached_tokens, &got.ids), (expected.cached_tokens, &expected.ids));
        assert!(got.cached_tokens >= first.prompt_tokens);
        assert_eq!(
            answer(&mut new(), &format!("{so_far} What can you do?")).ids,
            expected.ids
        );
    }
}

#[test]
fn a_state_that_belongs_elsewhere_is_refused() {
    let test = "a_state_that_belongs_elsewhere_is_refused";
    let (Some((file, _)), Some((twin, _))) = (reference("llama32-Q8_0"), reference("llama32-Q4_0")) else {
        return kit::skip(test);
    };
    for gpu in devices(test) {
        let gpu = gpu.as_ref();
        let mut student = open(&file, gpu, 256, CacheType::F16);
        let error = pollster::block_on(student.save_state()).unwrap_err();
        assert!(error.to_string().contains("no conversation yet"));
        let first = answer(&mut student, "Once upon a time");
        let bytes = save(&mut student);

        let refused = |student: &mut Student, bytes: &[u8], why: &str| {
            let error = restore(student, bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        refused(&mut open(&twin, gpu, 256, CacheType::F16), &bytes, "another student");
        refused(&mut open(&file, gpu, 255, CacheType::F16), &bytes, "opened otherwise");
        refused(&mut open(&file, gpu, 256, CacheType::Q8), &bytes, "opened otherwise");
        if gpu.is_some() {
            refused(&mut open(&file, None, 256, CacheType::F16), &bytes, "opened otherwise");
        }
        refused(&mut student, &bytes[..bytes.len() - 1], "length");
        refused(&mut student, &[bytes.clone(), vec![0; 4]].concat(), "length");
        refused(&mut student, &bytes[..40], "ends early");
        refused(&mut student, b"GGUF", "ends early");
        refused(&mut student, &[b'x'; 400], "no saved conversation");
        let mut newer = bytes.clone();
        newer[8] = 2;
        refused(&mut student, &newer, "another version");
        // What was known is still known.
        assert_eq!(
            answer(&mut student, "Once upon a time").cached_tokens,
            first.prompt_tokens - 1
        );

        // Adapters and their scales count.
        let mut numbers = Numbers(5);
        let pair = Pair {
            base: "blk.0.attn_q.weight".into(),
            rank: 4,
            rows: 256,
            columns: 256,
            a: numbers.vector(4 * 256),
            b: numbers.vector(256 * 4),
        };
        let adapter = |pair: Pair| Adapter {
            architecture: "llama".into(),
            alpha: 4.0,
            pairs: vec![pair],
            metadata: Metadata::default(),
        };
        pollster::block_on(student.attach(adapter(pair.clone()), 0.5)).unwrap();
        refused(&mut student, &bytes, "other adapters");
        let changed = answer(&mut student, "Once upon a time");
        let bytes = save(&mut student);
        let mut other = open(&file, gpu, 256, CacheType::F16);
        refused(&mut other, &bytes, "other adapters");
        let mut wrong = pair.clone();
        wrong.b[3] += 1.0;
        pollster::block_on(other.attach(adapter(wrong), 0.5)).unwrap();
        refused(&mut other, &bytes, "other adapters");
        pollster::block_on(other.detach(0)).unwrap();
        pollster::block_on(other.attach(adapter(pair), 1.0)).unwrap();
        refused(&mut other, &bytes, "other adapters");
        pollster::block_on(other.set_adapter_scale(0, 0.5)).unwrap();
        assert_eq!(restore(&mut other, &bytes), Ok(changed.used));
    }
}
