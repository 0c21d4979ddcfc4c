//! Seeded mutations of files, templates and tokenizers, 100,000 in all: no panic, bounded memory, bounded time. Without a seed
//! of chance: a case that fails fails again. The targets in `fuzz/` go further, for as long as one lets them.

use crate::format::watch;
use std::time::{Duration, Instant};
use understudy::format::BlockType;
use understudy::format::blocks::quantize_q8_0;
use understudy::format::gguf::{Array, Gguf, Metadata, Value, Writer};
use understudy::format::source::Bytes;
use understudy::model::{Plan, Sampling};
use understudy::student::{Prompt, Request, Student};
use understudy::text::template::{Message, RenderOptions, Template};
use understudy::text::tokenizer::Tokenizer;

const FILES: usize = 40_000;
const TEMPLATES: usize = 30_000;
const TOKENIZERS: usize = 2_500;
const TEXTS: usize = 12;
const STATES: usize = 20_000;

/// Longest that one case may take, on a busy machine.
const LONGEST: Duration = Duration::from_secs(20);

/// A xorshift generator: the same cases on every machine.
struct Chance(u64);

impl Chance {
    fn draw(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }

    fn pick<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        &list[self.draw(list.len())]
    }

    fn range(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let begin = self.draw(length + 1);
        begin..(begin + self.draw(most)).min(length)
    }
}

/// Runs a case within its bounds.
fn hold<T>(name: &str, size: usize, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let (result, largest) = watch(work);
    assert!(largest <= size + (64 << 20), "{name} reserved {largest} bytes at once");
    assert!(begin.elapsed() < LONGEST, "{name} took {:?}", begin.elapsed());
    result
}

fn small_file() -> Vec<u8> {
    let mut file = Writer::new();
    for (key, value) in [
        ("general.architecture", Value::String("llama".into())),
        ("llama.block_count", Value::U32(1)),
        ("llama.embedding_length", Value::U32(32)),
        ("llama.feed_forward_length", Value::U32(64)),
        ("llama.attention.head_count", Value::U32(2)),
        ("llama.context_length", Value::U64(64)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("gemma4".into())),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
        (
            "tokenizer.chat_template",
            Value::String("{{ messages[0].content }}".into()),
        ),
        ("some.doubles", Value::Array(Array::F64(vec![1.0, 2.0]))),
    ] {
        file.set(key, value);
    }
    let texts = |list: &[&str]| Value::Array(Array::String(list.iter().map(|s| (*s).to_string()).collect()));
    file.set("tokenizer.ggml.tokens", texts(&["a", "b", "ab", "<s>"]));
    file.set("tokenizer.ggml.merges", texts(&["a b"]));
    file.set("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1, 1, 1, 3])));
    let zeros = vec![0.0; 32 * 4];
    file.tensor("token_embd.weight", &[32, 4], BlockType::Q8_0, quantize_q8_0(&zeros));
    file.tensor("output_norm.weight", &[32], BlockType::F32, vec![0; 128]);
    file.to_bytes()
}

/// Bytes with one to four changes: bits, odd numbers, pieces cut out, doubled or cut off.
fn mutate(chance: &mut Chance, base: &[u8]) -> Vec<u8> {
    let odd: [&[u8]; 10] = [
        &[0],
        &[0xff],
        &[0xff; 4],
        &[0xff; 8],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0, 0, 0, 0, 0x80],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[9, 0, 0, 0],
        &[8, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f],
        &[0, 0, 0, 4],
    ];
    let mut bytes = base.to_vec();
    for _ in 0..1 + chance.draw(4) {
        let length = bytes.len();
        match chance.draw(7) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(chance.draw(length)) {
                    *byte ^= 1 << chance.draw(8);
                }
            }
            2 | 3 => {
                let at = chance.draw(length);
                for (byte, new) in bytes[at..].iter_mut().zip(*chance.pick(&odd)) {
                    *byte = *new;
                }
            }
            4 => drop(bytes.drain(chance.range(length, 40))),
            5 => {
                let part = bytes[chance.range(length, 40)].to_vec();
                let at = chance.draw(length);
                bytes.splice(at..at, part);
            }
            _ => bytes.truncate(chance.draw(length)),
        }
    }
    bytes
}

/// Saved conversations, of which half of the changes fall on the first 200 bytes: all that is no number of a cache.
#[test]
fn mutated_states_end_in_an_error_or_are_gone_on_with() {
    let file = Bytes(crate::random::llama(64, 64, 1, 300));
    let mut student = pollster::block_on(Student::open(&file, None, Some(64), |_, _| Ok(()))).unwrap();
    let request = Request {
        prompt: Prompt::Text("once upon".into()),
        sampling: Sampling::GREEDY,
        max_tokens: Some(3),
        ignore_end: true,
        ..Request::chat(Vec::new())
    };
    let answer = |student: &mut Student| pollster::block_on(student.generate(&request, |_| false));
    answer(&mut student).unwrap();
    let base = pollster::block_on(student.save_state()).unwrap();
    let mut chance = Chance(0x5eed_0004);
    let (mut restored, mut refused) = (0, 0);
    for case in 0..STATES {
        let head = if chance.draw(2) == 0 {
            base.len().min(200)
        } else {
            base.len()
        };
        let mut bytes = mutate(&mut chance, &base[..head]);
        bytes.extend(&base[head..]);
        hold(&format!("state {case}"), bytes.len(), || {
            match pollster::block_on(student.restore_state(&bytes)) {
                Err(error) => {
                    assert_eq!(error.code(), "state");
                    refused += 1;
                }
                // Numbers of a cache may be any; what they make of an answer is an answer, or numbers that are not finite.
                Ok(tokens) => {
                    assert!(tokens <= 64);
                    if let Err(error) = answer(&mut student) {
                        assert_eq!(error.code(), "not-finite");
                    }
                    restored += 1;
                }
            }
        });
    }
    println!("{restored} of {STATES} states were gone on with");
    assert!(restored > 100 && refused > 10_000);
}

#[test]
fn mutated_files_end_in_an_error_or_are_read() {
    let base = small_file();
    let mut chance = Chance(0x5eed_0001);
    let mut read = 0;
    for case in 0..FILES {
        let bytes = mutate(&mut chance, &base);
        let ok = hold(&format!("file {case}"), bytes.len(), || {
            match Gguf::from_bytes(&bytes) {
                Err(error) => {
                    assert!(!error.hint().is_empty() && !error.to_string().is_empty());
                    false
                }
                Ok(gguf) => {
                    // What is read is used as an opening would.
                    let _ = Plan::new(&gguf);
                    if let Ok(tokenizer) = Tokenizer::from_metadata(&gguf.metadata) {
                        let _ = tokenizer.encode("ab a", true, true);
                        let _ = Template::from_metadata(&gguf.metadata, &tokenizer).check();
                    }
                    true
                }
            }
        });
        read += usize::from(ok);
    }
    println!("{read} of {FILES} mutated files were read");
    assert!(read > FILES / 100 && read < FILES);
}

#[test]
fn mutated_templates_end_in_an_error_or_a_prompt() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates");
    let mut sources: Vec<(String, Vec<char>)> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "jinja"))
        .map(|entry| {
            (
                entry.path().display().to_string(),
                std::fs::read_to_string(entry.path()).unwrap().chars().collect(),
            )
        })
        .collect();
    sources.sort();
    let words = [
        "{%",
        "%}",
        "{{",
        "}}",
        "{#",
        "#}",
        "-",
        "(",
        ")",
        "[",
        "]",
        "'",
        "\"",
        "\\",
        "|",
        ".",
        ",",
        ":",
        "~",
        "+",
        "*",
        "**",
        "//",
        "%",
        "==",
        " in ",
        " is ",
        " not ",
        " if ",
        " else ",
        "{% endif %}",
        "{% endfor %}",
        "{% for x in range(999) %}",
        "{% if messages %}",
        "{% set ns = namespace(s='a') %}",
        "{% set ns.s = ns.s + ns.s %}",
        "{% macro f() %}{{ f() }}{% endmacro %}",
        "{{ f() }}",
        "{% raw %}",
        "{% endraw %}",
        "{% generation %}",
        "messages",
        "loop",
        "loop(messages)",
        " recursive ",
        "| tojson",
        "| join(messages)",
        "| list",
        "| indent(99)",
        "| sort",
        "* 10**9",
        "range(10**12)",
        "namespace",
        "content",
        ".format(",
        "'%s' %",
        "[::-1]",
        "| map('upper')",
        "| selectattr('role')",
        "none",
        "-1",
        "1e308",
        "é🙂",
        "\0",
        "{% break %}",
        "{% set x = [x, x] %}",
    ];
    let message = |role: &str, content: &str| Message {
        role: role.into(),
        content: content.into(),
        reasoning_content: None,
    };
    let chat = [
        message("system", "Be kind."),
        message("user", "Hi"),
        message("assistant", "<think>a</think>Ho"),
        message("user", "Bye"),
    ];
    let options = RenderOptions {
        add_generation_prompt: true,
        date: Some("2026-11-24".into()),
        ..RenderOptions::default()
    };
    let mut chance = Chance(0x5eed_0002);
    let mut written = 0;
    for case in 0..TEMPLATES {
        let whole = &chance.pick(&sources).1;
        // Parts of long templates, so that a case is quick and its middle is met too.
        let mut source: Vec<char> = if chance.draw(4) == 0 {
            whole.clone()
        } else {
            whole[chance.range(whole.len(), 900)].to_vec()
        };
        for _ in 0..chance.draw(6) {
            let length = source.len();
            match chance.draw(4) {
                0 => drop(source.drain(chance.range(length, 30))),
                1 => {
                    let part = source[chance.range(length, 60)].to_vec();
                    let at = chance.draw(length + 1);
                    source.splice(at..at, part);
                }
                _ => {
                    let at = chance.draw(length + 1);
                    source.splice(at..at, chance.pick(&words).chars());
                }
            }
        }
        let source: String = source.into_iter().collect();
        let ok = hold(
            &format!("template {case}"),
            source.len(),
            || match Template::from_source(&source, "<s>", "</s>").render(&chat, &options) {
                Ok(_) => true,
                Err(error) => {
                    assert_eq!(error.code(), "template", "{error}");
                    false
                }
            },
        );
        written += usize::from(ok);
    }
    println!("{written} of {TEMPLATES} mutated templates wrote a prompt");
    assert!(written > TEMPLATES / 100 && written < TEMPLATES);
}

#[test]
fn mutated_tokenizers_end_in_an_error_or_in_tokens() {
    let parts = [
        "a",
        "b",
        "ab",
        "ba",
        "\u{2581}",
        "Ġ",
        "Ċ",
        " ",
        "\n",
        "1",
        "é",
        "🙂",
        "<s>",
        "</s>",
        "<0x61>",
        "<0xC3>",
        "<|im_end|>",
        "",
        "ÿ",
        "\0",
    ];
    let mut chance = Chance(0x5eed_0003);
    let (mut loaded, mut cases) = (0, 0);
    for number in 0..TOKENIZERS {
        let mut metadata = Metadata::default();
        let family = *chance.pick(&["gpt2", "gpt2", "llama", "llama", "t5", "gemma4"]);
        metadata.insert("tokenizer.ggml.model", Value::String(family.into()));
        let pre = *chance.pick(&["gpt-2", "gemma4", "smollm", "deepseek-coder", "no-such", "sarvam-moe"]);
        metadata.insert("tokenizer.ggml.pre", Value::String(pre.into()));
        let text = |chance: &mut Chance| -> String { (0..1 + chance.draw(3)).map(|_| *chance.pick(&parts)).collect() };
        let count = 1 + chance.draw(60);
        let tokens: Vec<String> = (0..count)
            .map(|_| {
                if chance.draw(2) == 0 {
                    (*chance.pick(&parts)).to_string()
                } else {
                    text(&mut chance)
                }
            })
            .collect();
        let merges = (0..chance.draw(60)).map(|_| match chance.draw(8) {
            0 => text(&mut chance),
            _ => format!("{} {}", chance.pick(&tokens), chance.pick(&tokens)),
        });
        let merges: Vec<String> = merges.collect();
        metadata.insert("tokenizer.ggml.merges", Value::Array(Array::String(merges)));
        metadata.insert("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
        let odd = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            0.0,
            -0.0,
        ];
        let scores: Vec<f32> = (0..count)
            .map(|_| {
                if chance.draw(9) == 0 {
                    *chance.pick(&odd)
                } else {
                    -(chance.draw(100) as f32) / 7.0
                }
            })
            .collect();
        metadata.insert("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
        let length = if chance.draw(20) == 0 { chance.draw(80) } else { count };
        let kinds: Vec<i32> = (0..length)
            .map(|_| {
                if chance.draw(3) == 0 {
                    chance.draw(9) as i32 - 1
                } else {
                    1
                }
            })
            .collect();
        metadata.insert("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
        for name in ["bos", "eos", "eot", "unknown", "fim_pad"] {
            if chance.draw(2) == 0 {
                let id = if chance.draw(9) == 0 {
                    u32::MAX
                } else {
                    chance.draw(70) as u32
                };
                metadata.insert(format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
            }
        }
        for name in [
            "add_bos_token",
            "add_eos_token",
            "add_space_prefix",
            "remove_extra_whitespaces",
        ] {
            if chance.draw(2) == 0 {
                metadata.insert(format!("tokenizer.ggml.{name}"), Value::Bool(chance.draw(2) == 0));
            }
        }
        if family == "t5" && chance.draw(2) == 0 {
            let bytes = (0..chance.draw(200)).map(|i| if i % 4 > 1 { 0 } else { chance.draw(256) as u8 });
            let mut bytes: Vec<u8> = bytes.collect();
            bytes.push(0);
            metadata.insert("tokenizer.ggml.precompiled_charsmap", Value::Array(Array::U8(bytes)));
        }
        let tokenizer = hold(&format!("tokenizer {number}"), 0, || {
            Tokenizer::from_metadata(&metadata)
        });
        let Ok(mut tokenizer) = tokenizer else {
            cases += TEXTS;
            continue;
        };
        loaded += 1;
        tokenizer.end_with(&text(&mut chance));
        for _ in 0..TEXTS {
            cases += 1;
            let text: String = (0..chance.draw(30)).map(|_| *chance.pick(&parts)).collect();
            let (special, parse) = (chance.draw(2) == 0, chance.draw(2) == 0);
            hold(&format!("a text of tokenizer {number}"), 0, || {
                let ids = tokenizer.encode(&text, special, parse).unwrap();
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                tokenizer.decode(&ids);
            });
        }
    }
    println!("{loaded} of {TOKENIZERS} tokenizers loaded, {cases} texts");
    assert_eq!(FILES + TEMPLATES + cases, 100_000);
    assert!(loaded > TOKENIZERS / 4);
}
