//! Tokenizers against llama.cpp's cases, templates, and the stream.

use crate::kit;
use understudy::error::Error;
use understudy::format::gguf::{Array, Gguf, Metadata, Value};
use understudy::text::stream::Stream;
use understudy::text::template::{Message, RenderOptions, Template};
use understudy::text::tokenizer::Tokenizer;

/// The kit's vocabularies whose pre-tokenizers are known.
const VOCABULARIES: [(&str, Option<&str>); 7] = [
    ("gpt-2", None),
    ("llama-bpe", None),
    ("qwen2", None),
    ("qwen2", Some("qwen35")),
    ("llama-spm", None),
    ("refact", None),
    ("starcoder", None),
];

#[test]
fn tokenizers_agree_with_the_kit() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("tokenizers_agree_with_the_kit");
    };
    let mut failures = Vec::new();
    for (file, other_pre) in VOCABULARIES {
        let bytes = kit::unxz(&kit.join(format!("vocab/ggml-vocab-{file}.gguf.xz")));
        let mut metadata = Gguf::from_bytes(&bytes).unwrap().metadata;
        let name = other_pre.unwrap_or(file);
        if let Some(pre) = other_pre {
            metadata.insert("tokenizer.ggml.pre", Value::String(pre.into()));
        }
        let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
        let read = |ending: &str| {
            String::from_utf8(std::fs::read(kit.join(format!("vocab/ggml-vocab-{name}.gguf.{ending}"))).unwrap())
                .unwrap()
        };
        let (inputs, outputs) = (read("inp"), read("out"));
        let inputs: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
        let mut passed = 0;
        for (input, output) in inputs.iter().zip(outputs.lines()) {
            let expected: Vec<u32> = output.split_whitespace().map(|n| n.parse().unwrap()).collect();
            let actual = tokenizer.encode(input, false, false).unwrap();
            if actual == expected {
                passed += 1;
            } else {
                failures.push(format!("{name}: {input:?} gave {actual:?}, not {expected:?}"));
            }
            // What was cut up is put together again (a SentencePiece text comes back with its space in front).
            let text = tokenizer.decode(&actual);
            assert_eq!(
                text.strip_prefix(if file == "llama-spm" { " " } else { "" })
                    .unwrap_or(&text),
                *input
            );
        }
        println!("{name}: {passed} of {} cases", inputs.len());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn strings(list: &[&str]) -> Value {
    Value::Array(Array::String(list.iter().map(|s| (*s).to_string()).collect()))
}

/// A byte-level tokenizer with a few words.
fn small(pre: &str) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.insert("tokenizer.ggml.model", Value::String("gpt2".into()));
    metadata.insert("tokenizer.ggml.pre", Value::String(pre.into()));
    let tokens = [
        "a",
        "b",
        "1",
        "2",
        "Ġ",
        "ab",
        "12",
        "<|im_start|>",
        "<|im_end|>",
        "<tool>",
        "Ċ",
        "<think>",
    ];
    metadata.insert("tokenizer.ggml.tokens", strings(&tokens));
    metadata.insert(
        "tokenizer.ggml.token_type",
        Value::Array(Array::I32(vec![1, 1, 1, 1, 1, 1, 1, 3, 3, 4, 1, 4])),
    );
    metadata.insert("tokenizer.ggml.merges", strings(&["a b", "1 2"]));
    metadata.insert("tokenizer.ggml.eos_token_id", Value::U32(8));
    metadata
}

#[test]
fn smollm_cuts_digits_one_by_one() {
    let smollm = Tokenizer::from_metadata(&small("smollm")).unwrap();
    assert_eq!(smollm.encode("ab12", false, false), Ok(vec![5, 2, 3]));
    let gpt2 = Tokenizer::from_metadata(&small("gpt-2")).unwrap();
    assert_eq!(gpt2.encode("ab12", false, false), Ok(vec![5, 6]));
}

#[test]
fn special_tokens_are_parsed_only_when_asked() {
    let tokenizer = Tokenizer::from_metadata(&small("gpt-2")).unwrap();
    assert_eq!(tokenizer.encode("a<|im_end|>b", false, true), Ok(vec![0, 8, 1]));
    assert!(!tokenizer.encode("a<|im_end|>b", false, false).unwrap().contains(&8));
    // User-defined tokens match in any case.
    assert_eq!(tokenizer.encode("a<tool>b", false, false), Ok(vec![0, 9, 1]));
    assert!(tokenizer.is_end(8) && !tokenizer.is_end(0));
    assert!(tokenizer.piece(8).is_empty());
    assert_eq!(tokenizer.piece(9), b"<tool>");
    assert_eq!(tokenizer.piece(4), b" ");
}

#[test]
fn broken_tokenizers_are_errors() {
    type Change = fn(&mut Metadata);
    let changes: [(&str, Change); 6] = [
        ("no tokens", |m| m.insert("tokenizer.ggml.tokens", strings(&[]))),
        ("tokens of numbers", |m| {
            m.insert("tokenizer.ggml.tokens", Value::Array(Array::U32(vec![1])))
        }),
        ("types missing", |m| {
            m.insert("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1])))
        }),
        ("unknown family", |m| {
            m.insert("tokenizer.ggml.model", Value::String("rwkv".into()))
        }),
        ("unknown cuts", |m| {
            m.insert("tokenizer.ggml.pre", Value::String("none-such".into()))
        }),
        ("no scores", |m| {
            m.insert("tokenizer.ggml.model", Value::String("llama".into()))
        }),
    ];
    for (name, change) in changes {
        let mut metadata = small("gpt-2");
        change(&mut metadata);
        let error = Tokenizer::from_metadata(&metadata)
            .err()
            .unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(["tokenizer", "unsupported"].contains(&error.code()), "{name}: {error}");
    }
}

fn message(role: &str, content: &str) -> Message {
    Message {
        role: role.into(),
        content: content.into(),
        reasoning_content: None,
    }
}

fn prompt() -> RenderOptions {
    RenderOptions {
        add_generation_prompt: true,
        ..RenderOptions::default()
    }
}

#[test]
fn a_file_without_a_template_gets_one_that_fits_its_tokens() {
    let metadata = small("gpt-2");
    let template = Template::from_metadata(&metadata, &Tokenizer::from_metadata(&metadata).unwrap());
    assert!(template.is_default() && template.thinks());
    let text = template.render(&[message("user", "ab")], &prompt()).unwrap();
    assert_eq!(text, "<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn templates_may_use_what_real_ones_use() {
    let cases = [
        (
            "{% for m in messages %}{{ m.content.strip().upper() }}{% endfor %}",
            "HELLO",
        ),
        (
            "{% for m in messages %}{{ m['content'].split('l')[0] }}{% endfor %}",
            "  He",
        ),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "1",
        ),
        (
            "{% if messages[0].role == 'user' and messages[1:] | length == 0 %}yes{% endif %}",
            "yes",
        ),
        (
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% endfor %}.",
            ".",
        ),
        ("{% generation %}{{ messages[0].role }}{% endgeneration %}", "user"),
        ("{% if messages[0].content is string %}text{% endif %}", "text"),
        ("{% if tools is defined %}tools{% else %}none{% endif %}", "none"),
        (
            "{% if enable_thinking is defined and not enable_thinking %}off{% else %}on{% endif %}",
            "on",
        ),
        ("{{ {'a': [1, 2]} | tojson }}", "{\"a\":[1,2]}"),
        ("{{ strftime_now('%d') }}", ""),
        ("{% if messages[0].content.startswith('  He') %}so{% endif %}", "so"),
    ];
    for (source, expected) in cases {
        let template = Template::from_source(source, "<s>", "</s>");
        let text = template.render(&[message("user", "  Hello ")], &prompt());
        let text = text.unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(text.replace(", ", ",").replace(": ", ":"), expected, "{source}");
    }
}

#[test]
fn a_template_that_fails_or_does_not_end_is_an_error() {
    for source in [
        "{% for m in messages %}",
        "{{ raise_exception('Only users may speak.') }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ i * j }}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ messages[0].content.no_such_method() }}",
    ] {
        let error = Template::from_source(source, "", "")
            .render(&[message("user", "x")], &prompt())
            .unwrap_err();
        assert!(matches!(error, Error::Template { .. }), "{source}: {error}");
        println!("{error}");
    }
}

/// Pushes `bytes` in pieces of `size` and collects everything.
fn collect(bytes: &[u8], size: usize, stops: &[String], in_think: bool) -> (String, String, bool) {
    let mut stream = Stream::new(stops, in_think);
    let (mut content, mut reasoning, mut stopped) = (String::new(), String::new(), false);
    for piece in bytes.chunks(size) {
        let delta = stream.push(piece);
        content.push_str(&delta.content);
        reasoning.push_str(&delta.reasoning);
        stopped |= delta.stopped;
    }
    let delta = stream.finish();
    content.push_str(&delta.content);
    reasoning.push_str(&delta.reasoning);
    (content, reasoning, stopped)
}

#[test]
fn any_cut_of_any_bytes_streams_to_the_same_text() {
    let stops = ["STOP".to_string(), "\n\nUser:".to_string()];
    let texts: [&[u8]; 8] = [
        "plain words".as_bytes(),
        "Grüße, 你好, 🙂🙃 and é".as_bytes(),
        b"bad \xff\xfe bytes \xe4\xbd end \xf0\x9f",
        "<think>\nfirst\n</think>\n\nsecond STOP third".as_bytes(),
        "  <think>one</think>two".as_bytes(),
        "a < b and <thin ice".as_bytes(),
        "almost STO\n\nUser".as_bytes(),
        "".as_bytes(),
    ];
    for text in texts {
        for in_think in [false, true] {
            let whole = collect(text, text.len().max(1), &stops, in_think);
            for size in 1..8 {
                assert_eq!(
                    collect(text, size, &stops, in_think),
                    whole,
                    "{:?} by {size}",
                    String::from_utf8_lossy(text)
                );
            }
        }
    }
    assert_eq!(collect(texts[1], 1, &[], false).0, String::from_utf8_lossy(texts[1]));
    assert_eq!(collect(texts[2], 1, &[], false).0, String::from_utf8_lossy(texts[2]));
    assert_eq!(
        collect(texts[3], 3, &stops, false),
        ("second ".into(), "first\n".into(), true)
    );
    assert_eq!(collect(texts[4], 1, &[], false), ("two".into(), "one".into(), false));
    assert_eq!(
        collect(b"deep</think>flat", 2, &[], true),
        ("flat".into(), "deep".into(), false)
    );
}

#[test]
fn nothing_is_held_back_without_need() {
    let mut stream = Stream::new(&["STOP".to_string()], false);
    assert_eq!(stream.push(b"go on").content, "go on");
    assert_eq!(stream.push(b" ST").content, " ");
    assert_eq!(stream.push(b"ART").content, "START");
}
