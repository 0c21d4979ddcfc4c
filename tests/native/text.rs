//! Tokenizers against llama.cpp's cases, templates, and the stream.

use crate::kit;
use understudy::error::Error;
use understudy::format::gguf::{Array, Gguf, Metadata, Value};
use understudy::text::stream::Stream;
use understudy::text::template::{Message, RenderOptions, Template};
use understudy::text::tokenizer::Tokenizer;

/// The kit's vocabularies, with another pre-tokenizer where a file stands for two.
const VOCABULARIES: [(&str, Option<&str>); 12] = [
    ("gpt-2", None),
    ("llama-bpe", None),
    ("qwen2", None),
    ("qwen2", Some("qwen35")),
    ("llama-spm", None),
    ("phi-3", None),
    ("deepseek-coder", None),
    ("deepseek-llm", None),
    ("falcon", None),
    ("gemma-4", None),
    ("refact", None),
    ("starcoder", None),
];

#[test]
fn tokenizers_agree_with_the_kit() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("tokenizers_agree_with_the_kit");
    };
    let read = |name: &str, ending: &str| {
        let path = kit.join(format!("vocab/ggml-vocab-{name}.gguf.{ending}"));
        String::from_utf8(std::fs::read(path).unwrap()).unwrap()
    };
    let mut failures = Vec::new();
    let mut all = 0;
    for (file, other_pre) in VOCABULARIES {
        let bytes = kit::unxz(&kit.join(format!("vocab/ggml-vocab-{file}.gguf.xz")));
        let mut metadata = Gguf::from_bytes(&bytes).unwrap().metadata;
        let name = other_pre.unwrap_or(file);
        if let Some(pre) = other_pre {
            metadata.insert("tokenizer.ggml.pre", Value::String(pre.into()));
        }
        let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
        assert!(tokenizer.warnings().is_empty(), "{name}: {:?}", tokenizer.warnings());
        let (inputs, outputs) = (read(name, "inp"), read(name, "out"));
        let inputs: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
        let mut passed = 0;
        for (input, output) in inputs.iter().zip(outputs.lines()) {
            let expected: Vec<u32> = output.split_whitespace().map(|n| n.parse().unwrap()).collect();
            let actual = tokenizer.encode(input, false, false).unwrap();
            // What was cut up is put together again (a SentencePiece text comes back with its space in front).
            let text = tokenizer.decode(&actual);
            let prefix = if ["llama-spm", "phi-3"].contains(&file) {
                " "
            } else {
                ""
            };
            let back = text.strip_prefix(prefix).unwrap_or(&text);
            if actual != expected {
                failures.push(format!("{name}: {input:?} gave {actual:?}, not {expected:?}"));
            } else if back != *input {
                failures.push(format!("{name}: {input:?} came back as {back:?}"));
            } else {
                passed += 1;
            }
        }
        all += passed;
        println!("{name}: {passed} of {} cases", outputs.lines().count());
    }
    // WordPiece belongs to models that do not write: each of its cases counts as the refusal of the file.
    let bytes = kit::unxz(&kit.join("vocab/ggml-vocab-bert-bge.gguf.xz"));
    let refusal = Tokenizer::from_metadata(&Gguf::from_bytes(&bytes).unwrap().metadata)
        .err()
        .unwrap();
    assert_eq!(refusal.code(), "unsupported");
    assert!(refusal.to_string().contains("WordPiece"), "{refusal}");
    let refused = read("bert-bge", "out").lines().count();
    println!("{all} cases pass, {refused} are refused: {refusal}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!((all, refused), (556, 46));
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
fn unknown_cuts_load_with_a_warning() {
    for pre in ["none-such", "", "a name\nof more than forty characters, to be cut"] {
        let tokenizer = Tokenizer::from_metadata(&small(pre)).unwrap();
        println!("{:?}", tokenizer.warnings());
        assert_eq!(tokenizer.warnings().len(), 1);
        assert!(tokenizer.warnings()[0].len() < 200 && !tokenizer.warnings()[0].contains('\n'));
        assert_eq!(tokenizer.encode("ab12", false, false), Ok(vec![5, 6]));
    }
}

/// Names of `tokenizer.ggml.pre` that llama.cpp knows for models that write text.
const PRE_TOKENIZERS: [&str; 76] = [
    "default",
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "minicpm5",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "deepseek-r1",
    "youtu",
    "falcon",
    "mpt",
    "starcoder",
    "gpt-2",
    "phi-2",
    "gigachat",
    "a.x-4.0",
    "mellum",
    "gemma4",
    "sarvam-moe",
    "roberta-bpe",
    "refact",
    "command-r",
    "qwen2",
    "deepseek-r1-qwen",
    "kormo",
    "f2llmv2",
    "qwen35",
    "stablelm2",
    "olmo",
    "dbrx",
    "smaug-bpe",
    "poro-chat",
    "glm4",
    "chatglm-bpe",
    "viking",
    "jais",
    "tekken",
    "smollm",
    "codeshell",
    "bloom",
    "gpt3-finnish",
    "exaone",
    "exaone4",
    "exaone-moe",
    "chameleon",
    "minerva-7b",
    "megrez",
    "gpt-4o",
    "llama4",
    "kanana2",
    "talkie",
    "tiny_aya",
    "cohere2moe",
    "superbpe",
    "trillion",
    "granite-docling",
    "bailingmoe",
    "bailingmoe2",
    "llada-moe",
    "seed-coder",
    "hunyuan",
    "hunyuan-dense",
    "joyai-llm",
    "kimi-k2",
    "grok-2",
    "afmoe",
    "laguna",
    "minimax-m2",
    "solar-open",
    "mellum2",
];

/// A tokenizer with a token for each byte and no merges: how a text is cut shows in its ids alone where pieces are tokens.
fn bytes_and(pre: &str, words: &[&str]) -> Tokenizer {
    let mut tokens: Vec<String> = (0..=0x143u32)
        .filter(|c| (0x21..0x7f).contains(c) || (0xa1..0xad).contains(c) || (0xae..=0x143).contains(c))
        .filter_map(char::from_u32)
        .map(String::from)
        .collect();
    assert_eq!(tokens.len(), 256);
    let mut merges = Vec::new();
    for word in words {
        // Each word is built from its left end.
        let word = word.replace(' ', "Ġ").replace('\n', "Ċ");
        for (at, c) in word.char_indices().skip(1) {
            let joined = &word[..at + c.len_utf8()];
            if !tokens.iter().any(|token| token == joined) {
                merges.push(format!("{} {c}", &word[..at]));
                tokens.push(joined.into());
            }
        }
    }
    let mut metadata = Metadata::default();
    metadata.insert("tokenizer.ggml.model", Value::String("gpt2".into()));
    metadata.insert("tokenizer.ggml.pre", Value::String(pre.into()));
    metadata.insert("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    metadata.insert("tokenizer.ggml.merges", Value::Array(Array::String(merges)));
    Tokenizer::from_metadata(&metadata).unwrap()
}

#[test]
fn every_pre_tokenizer_name_is_known_and_loses_nothing() {
    let texts = [
        "It's 12345 o'clock, HelloWORLD!\r\n\r\n  x\t<y>  ",
        "Grüße, Привет мир 你好世界 こんにちは 안녕 한국어 ไทย 🙂🙂 ｱｲｳ É́",
        "a1b22c333d4444e55555 1,234,567.89 \u{3000}。『x』 if (x==y) { return a[i]; }\n\n\n",
        "",
        " ",
        "\n",
        "\0\u{1}\u{feff}\u{200d}",
    ];
    for pre in PRE_TOKENIZERS {
        let tokenizer = if ["gemma4", "sarvam-moe"].contains(&pre) {
            let bytes: Vec<String> = (0..=255).map(|b| format!("<0x{b:02X}>")).collect();
            let mut metadata = Metadata::default();
            metadata.insert("tokenizer.ggml.model", Value::String("gpt2".into()));
            metadata.insert("tokenizer.ggml.pre", Value::String(pre.into()));
            metadata.insert("tokenizer.ggml.tokens", Value::Array(Array::String(bytes)));
            metadata.insert("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![6; 256])));
            metadata.insert("tokenizer.ggml.merges", strings(&[]));
            Tokenizer::from_metadata(&metadata).unwrap()
        } else {
            bytes_and(pre, &[])
        };
        assert!(tokenizer.warnings().is_empty(), "{pre}: {:?}", tokenizer.warnings());
        for text in texts {
            let ids = tokenizer.encode(text, false, false).unwrap();
            // Plain-text tokenizers write spaces as U+2581.
            assert_eq!(tokenizer.decode(&ids).replace('\u{2581}', " "), text, "{pre}");
        }
    }
}

#[test]
fn families_cut_as_their_rules_say() {
    // Words whose tokens exist only where the cuts leave them whole.
    let words = [
        "HelloWorld",
        "123",
        "1234",
        "12",
        "34",
        "don't",
        " it's",
        "!!\n",
        "/\n",
        "..\n\n",
        " word",
        "a b",
    ];
    let pieces = |pre: &str, text: &str| -> Vec<String> {
        let tokenizer = bytes_and(pre, &words);
        let ids = tokenizer.encode(text, false, false).unwrap();
        ids.iter().map(|&id| tokenizer.decode(&[id])).collect()
    };
    // Digits: all together, in threes, one by one, in threes from the end.
    assert_eq!(pieces("gpt-2", "1234"), ["1234"]);
    assert_eq!(pieces("llama-bpe", "1234"), ["123", "4"]);
    assert_eq!(pieces("qwen2", "1234"), ["1", "2", "3", "4"]);
    assert_eq!(pieces("smollm", "1234"), ["1", "2", "3", "4"]);
    assert_eq!(pieces("superbpe", "12345"), ["12", "34", "5"].map(String::from)); // 12|345
    assert_eq!(pieces("gpt-4o", "1234"), ["123", "4"]);
    assert_eq!(pieces("deepseek-llm", "1234"), ["1234"]);
    assert_eq!(pieces("deepseek-v3", "1234"), ["123", "4"]);
    assert_eq!(pieces("hunyuan-dense", "1234"), ["123", "4"]);
    assert_eq!(pieces("tekken", "1234"), ["1", "2", "3", "4"]);
    // Capitals inside a word part it in the newer ones.
    assert_eq!(pieces("llama-bpe", "HelloWorld"), ["HelloWorld"]);
    assert_eq!(pieces("gpt-4o", "HelloWorld").len(), 6);
    assert_eq!(pieces("tekken", "HelloWorld").len(), 6);
    // Contractions stay with their word in the style of GPT-4o.
    assert_eq!(pieces("gpt-4o", "don't"), ["don't"]);
    assert_ne!(pieces("llama-bpe", "don't"), ["don't"]);
    // Line ends behind punctuation.
    assert_eq!(pieces("qwen2", "!!\n"), ["!!\n"]);
    assert_ne!(pieces("gpt-2", "!!\n"), ["!!\n"]);
    assert_eq!(pieces("gpt-4o", "/\n"), ["/\n"]);
}

/// A Unigram tokenizer as T5 has it.
fn unigram(pieces: &[(&str, f32)]) -> Metadata {
    let mut metadata = Metadata::default();
    let mut tokens = vec!["<pad>", "</s>", "<unk>"];
    let mut scores = vec![0.0; 3];
    let mut kinds = vec![3, 3, 2];
    for &(text, score) in pieces {
        tokens.push(text);
        scores.push(score);
        kinds.push(1);
    }
    metadata.insert("tokenizer.ggml.model", Value::String("t5".into()));
    metadata.insert("tokenizer.ggml.tokens", strings(&tokens));
    metadata.insert("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    metadata.insert("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
    metadata.insert("tokenizer.ggml.add_space_prefix", Value::Bool(true));
    metadata.insert("tokenizer.ggml.remove_extra_whitespaces", Value::Bool(true));
    metadata
}

const PIECES: [(&str, f32); 14] = [
    ("▁", -2.0),
    ("a", -3.0),
    ("b", -3.1),
    ("c", -3.2),
    ("ab", -4.0),
    ("bc", -3.9),
    ("abc", -7.5),
    ("▁a", -3.5),
    ("▁ab", -5.2),
    ("ca", -4.4),
    ("aa", -5.0),
    ("é", -6.0),
    ("aaa", -8.5),
    ("▁▁", -9.0),
];

#[test]
fn unigram_takes_the_likeliest_way() {
    use tokenizers::Model as _;
    let metadata = unigram(&PIECES);
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    // The crate's own search is the oracle, over the same list.
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap();
    let scores = metadata.f32s("tokenizer.ggml.scores").unwrap();
    let list = tokens
        .iter()
        .zip(scores)
        .enumerate()
        .map(|(id, (text, score))| match id {
            0..2 => (format!("\0{id}"), -1e9),
            _ => (text.clone(), f64::from(*score)),
        });
    let oracle = tokenizers::models::unigram::Unigram::from(list.collect(), Some(2), false).unwrap();
    let mut state = 7u32;
    for _ in 0..2000 {
        let text: String = (0..12)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ["a", "b", "c", " ", "é", "x", "aa", "ab"][(state >> 16) as usize % 8]
            })
            .collect();
        // What the normalizer does with spaces: one in front of each word, none elsewhere.
        let normal: String = text.split_whitespace().map(|word| format!("▁{word}")).collect();
        let expected: Vec<u32> = oracle.tokenize(&normal).unwrap().iter().map(|t| t.id).collect();
        assert_eq!(tokenizer.encode(&text, false, false).unwrap(), expected, "{text:?}");
    }
    assert_eq!(
        tokenizer.encode("ab", true, false).unwrap().last(),
        Some(&1),
        "EOS comes behind"
    );
    assert_eq!(
        tokenizer.decode(&tokenizer.encode("ab  ca", false, false).unwrap()),
        " ab ca"
    );
    assert_eq!(tokenizer.encode("", false, false), Ok(vec![]));
    // Control tokens are no words.
    assert!(!tokenizer.encode("</s>", false, false).unwrap().contains(&1));
    assert_eq!(tokenizer.encode("</s>", false, true), Ok(vec![1]));
}

#[test]
fn unigram_follows_a_table_of_characters_and_believes_none() {
    // A double array with one entry, A to "ab": the root's base is 0, node 65 is A and its leaf is node 65 ^ 64 = 1.
    let mut nodes = vec![0u32; 256];
    nodes[65] = 64 << 10 | 1 << 8 | 65;
    nodes[1] = 1 << 31;
    let table = |nodes: &[u32], text: &[u8]| {
        let mut bytes = (nodes.len() as u32 * 4).to_le_bytes().to_vec();
        bytes.extend(nodes.iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend(text);
        bytes
    };
    let with = |bytes: Vec<u8>| {
        let mut metadata = unigram(&PIECES);
        metadata.insert("tokenizer.ggml.precompiled_charsmap", Value::Array(Array::U8(bytes)));
        Tokenizer::from_metadata(&metadata)
    };
    let plain = Tokenizer::from_metadata(&unigram(&PIECES)).unwrap();
    let normal = with(table(&nodes, b"ab\0")).unwrap();
    for (text, same) in [("A", "ab"), ("cAa x", "caba x"), ("é", "é")] {
        assert_eq!(normal.encode(text, false, false), plain.encode(same, false, false));
    }
    for (name, bytes) in [
        ("empty", vec![]),
        ("too long", table(&nodes, b"")),
        ("not ended", table(&nodes, b"ab")),
        ("a wild length", vec![0xff; 64]),
    ] {
        assert_eq!(with(bytes).err().map(|e| e.code()), Some("tokenizer"), "{name}");
    }
    // Nodes that point anywhere.
    for wild in [u32::MAX, 1 << 31 | 65, 0x3ff_ffff << 8 | 65, 0xffff_ff41] {
        let tokenizer = with(table(
            &[vec![wild; 3], vec![wild & 0x7fff_ff00 | 65; 253]].concat(),
            b"ab\0",
        ))
        .unwrap();
        tokenizer.encode("AAA é A", false, false).unwrap();
    }
}

#[test]
fn early_phi_3_takes_white_space_behind_its_special_tokens_for_theirs() {
    let mut metadata = small("gpt-2");
    let plain = Tokenizer::from_metadata(&metadata).unwrap();
    metadata.insert("general.name", Value::String("Phi-3-mini".into()));
    let phi = Tokenizer::from_metadata(&metadata).unwrap();
    assert_eq!(plain.encode("<|im_end|>\n a", false, true), Ok(vec![8, 10, 4, 0]));
    assert_eq!(phi.encode("<|im_end|>\n a", false, true), Ok(vec![8, 0]));
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
fn ends_go_by_their_names_whatever_a_file_takes_them_for() {
    for kind in [1, 3, 4] {
        let mut metadata = small("gpt-2");
        metadata.insert(
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32(vec![1, 1, 1, 1, 1, 1, 1, 3, kind, 4, 1, 4])),
        );
        metadata.insert("tokenizer.ggml.eos_token_id", Value::U32(0));
        let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
        assert_eq!((tokenizer.eos(), tokenizer.eot()), (Some(0), Some(8)));
        assert!(tokenizer.is_end(0) && tokenizer.is_end(8) && tokenizer.is_control(8));
        assert!(tokenizer.piece(8).is_empty());
        // What a user types never ends a turn.
        assert!(!tokenizer.encode("<|im_end|>", false, false).unwrap().contains(&8));
        assert_eq!(tokenizer.encode("<|im_end|>", false, true), Ok(vec![8]));
    }
}

#[test]
fn odd_metadata_loads_without_harm() {
    type Change = fn(&mut Metadata);
    let changes: [(&str, Change); 6] = [
        ("broken merges", |m| {
            let merges = [
                "ab",
                "",
                "a  b",
                " a",
                "a b",
                "b a",
                "a b",
                "abc abc",
                "nosuch token",
                "é b",
                "a é",
            ];
            m.insert("tokenizer.ggml.merges", strings(&merges));
        }),
        ("equal tokens", |m| {
            m.insert("tokenizer.ggml.tokens", strings(&["a"; 12]))
        }),
        ("empty tokens", |m| {
            m.insert("tokenizer.ggml.tokens", strings(&[""; 12]))
        }),
        ("unknown kinds", |m| {
            m.insert("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![-7; 12])));
        }),
        ("ids out of range", |m| {
            for name in ["bos", "eos", "eot", "eom", "unknown", "fim_pad"] {
                m.insert(format!("tokenizer.ggml.{name}_token_id"), Value::U32(u32::MAX));
            }
        }),
        ("a long token", |m| {
            let long = "a".repeat(1 << 20);
            let tokens = ["a", "b", "1", "2", "Ġ", &long, "12", "x", "y", "z", "Ċ", "w"];
            m.insert("tokenizer.ggml.tokens", strings(&tokens));
        }),
    ];
    for (name, change) in changes {
        for family in ["gpt2", "llama"] {
            let mut metadata = small("gpt-2");
            let scores = [0.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0].repeat(2);
            metadata.insert("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
            metadata.insert("tokenizer.ggml.model", Value::String(family.into()));
            change(&mut metadata);
            let tokenizer = Tokenizer::from_metadata(&metadata).unwrap_or_else(|error| panic!("{name}: {error}"));
            for special in [false, true] {
                let ids = tokenizer.encode("ab 12 é🙂<|im_end|>\0", special, special).unwrap();
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "{name}");
                tokenizer.decode(&ids);
            }
            assert!(tokenizer.piece(u32::MAX).is_empty() && !tokenizer.is_end(u32::MAX));
            assert!(tokenizer.token_text(u32::MAX).is_none() && !tokenizer.is_control(u32::MAX));
        }
    }
}

#[test]
fn broken_tokenizers_are_errors() {
    type Change = fn(&mut Metadata);
    let changes: [(&str, Change); 5] = [
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
        (
            "{{ {'a': [1, 'x<\\'é'], 'b': {}} | tojson }}",
            "{\"a\": [1, \"x<'é\"], \"b\": {}}",
        ),
        ("{{ {'a': [1]} | tojson(indent=2) }}", "{\n  \"a\": [\n    1\n  ]\n}"),
        ("{{ {'a': 1} | tojson(ensure_ascii=False) }}", "{\"a\": 1}"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        (
            "{% for m in messages[::-1] %}{{ loop.index0 }}{{ m.role }}{% endfor %}",
            "0user",
        ),
        (
            "{{ 'x</think>y'.split('</think>')[-1] }}{{ ' a\\n'.lstrip().rstrip('\\n') }}",
            "ya",
        ),
        (
            "{% if messages[0].tool_calls is defined or tools is not none and tools %}x{% endif %}y",
            "y",
        ),
        ("{% macro bold(t) %}*{{ t }}*{% endmacro %}{{ bold('a') }}", "*a*"),
        ("{% set t %}\n  in\n{% endset %}{{ t | trim }}", "in"),
        ("  {% if true %}\na\n  {% endif %}\nb\n", "a\nb"),
        ("a\n{%- generation -%}\n b\n{%- endgeneration %}\nc", "abc"),
        ("{% generation %}\n b\n{% endgeneration %}\nc", " b\nc"),
        ("{{ 'a-b'.replace('-', '+') }}{{ 'abc'.count('') }}", "a+b4"),
        (
            "{{ (messages | selectattr('role', 'equalto', 'user') | list)[0].role }}",
            "user",
        ),
        ("{{ raise_exception is defined }}", "True"),
        ("{{ strftime_now('%d') }}", ""),
        ("{% if messages[0].content.startswith('  He') %}so{% endif %}", "so"),
    ];
    for (source, expected) in cases {
        let template = Template::from_source(source, "<s>", "</s>");
        let text = template.render(&[message("user", "  Hello ")], &prompt());
        let text = text.unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(text, expected, "{source}");
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
        "{%}{% generation }",
        "{{ '%99999999d' | format(1) }}",
        "{{ '{:99999999}'.format(1) }}",
        "{{ '{:>{}}'.format('a', 99999999) }}",
        "{{ 'a\\nb' | indent(4000000000) }}",
        "{{ 'a\\nb' | indent(width=4000000000) }}",
        "{{ [1] | tojson(indent=4000000000) }}",
        "{{ [1, 2] | slice(4000000000000) }}",
        "{{ [1, 2] | batch(4000000000000) }}",
        "{{ 'abc' * 1000000000 }}",
        "{{ range(100000000) }}",
        "{% include 'chat' %}",
        "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
        "{% for i in range(90000) %}{{ 'long words that are written again and again' * 100 }}{% endfor %}",
    ] {
        let error = Template::from_source(source, "", "")
            .render(&[message("user", "x")], &prompt())
            .unwrap_err();
        assert!(matches!(error, Error::Template { .. }), "{source}: {error}");
        println!("{error}");
    }
}

#[test]
fn a_template_that_repeats_long_text_is_an_error_wherever_it_puts_it() {
    let long = "words ".repeat(100_000);
    for source in [
        format!("{{% for i in range(90000) %}}{long}{{% endfor %}}"),
        format!("{{% set a %}}{{% for i in range(90000) %}}{long}{{% endfor %}}{{% endset %}}"),
    ] {
        let error = Template::from_source(&source, "", "")
            .render(&[], &prompt())
            .unwrap_err();
        assert!(matches!(error, Error::Template { .. }), "{error}");
    }
}

#[test]
fn dates_come_from_the_options() {
    let render = |source: &str, date: Option<&str>| {
        let options = RenderOptions {
            date: date.map(Into::into),
            ..RenderOptions::default()
        };
        Template::from_source(source, "", "").render(&[], &options)
    };
    let all = "{{ strftime_now('%Y-%m-%d %d %b %Y|%A %B %-d|%a %y %j|%H:%M:%S %I %p %% %Q') }}";
    assert_eq!(
        render(all, Some("2024-02-29T15:04:05Z")).unwrap(),
        "2024-02-29 29 Feb 2024|Thursday February 29|Thu 24 060|15:04:05 03 PM % %Q"
    );
    assert_eq!(
        render("{{ strftime_now('%A %j %I %p') }}", Some("2026-11-24")).unwrap(),
        "Tuesday 328 12 AM"
    );
    // In the way of Llama 3: the caller's date, or the template's own.
    let guarded = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}once{% endif %}";
    assert_eq!(render(guarded, Some("2026-11-24")).unwrap(), "24 Nov 2026");
    assert_eq!(render(guarded, None).unwrap(), "once");
    assert_eq!(render("{{ date_string }}", Some("2026-11-24")).unwrap(), "24 Nov 2026");
    for bad in [
        "",
        "today",
        "2026-13-01",
        "2026-11-24T99:00",
        "2026/11/24",
        "２０２６-11-24",
        "2026-11-24T0é",
    ] {
        assert!(matches!(render("x", Some(bad)), Err(Error::Request { .. })), "{bad}");
    }
}

/// A chat in the ways of the templates that files bring, in words of our own.
#[test]
fn whole_templates_in_the_ways_of_real_ones() {
    let chat = [
        message("system", " Be kind. "),
        message("user", "Hi"),
        Message {
            reasoning_content: Some("hm".into()),
            ..message("assistant", "Ho")
        },
        message("assistant", "<think>\nso\n</think>\n\nHa"),
        message("user", "Bye"),
    ];
    // Thinking students: reasoning of past turns goes, and thinking is switched off by an empty thought.
    let thinking = "\
{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == 'user' and message.content is string %}
        {%- set ns.last = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- set thought = '' %}
    {%- if message.reasoning_content is string %}
        {%- set thought = message.reasoning_content %}
    {%- elif '</think>' in content %}
        {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if thought and loop.index0 > ns.last %}{{- '[' ~ thought ~ ']' }}{% endif %}
    {{- content.strip('\\n') + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}";
    let off = RenderOptions {
        enable_thinking: Some(false),
        ..prompt()
    };
    let text = Template::from_source(thinking, "", "").render(&chat, &off).unwrap();
    assert_eq!(
        text,
        "<|im_start|>system\n Be kind. <|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n\
         <|im_start|>assistant\nHa<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n\
         <think>\n\n</think>\n\n"
    );
    // Headers, with the system's words apart, a date, and tools.
    let headers = "\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = \"\" %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{{- 'Day: ' + strftime_now('%d %b %Y') + '\\n' }}
{%- if tools is not none and tools is defined %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- '\\n' }}
    {%- endfor %}
{%- endif %}
{{- system }}
{{- '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}";
    let options = RenderOptions {
        tools: Some(serde_json::json!([{ "name": "f", "args": [1] }])),
        date: Some("2026-11-24".into()),
        ..RenderOptions::default()
    };
    let text = Template::from_source(headers, "<|begin|>", "")
        .render(&chat[..2], &options)
        .unwrap();
    assert_eq!(
        text,
        "<|begin|><|start_header_id|>system<|end_header_id|>\n\nDay: 24 Nov 2026\n{\n    \"name\": \"f\",\n    \
         \"args\": [\n        1\n    ]\n}\nBe kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    );
    // Brackets around what the user says; turns must alternate.
    let brackets = "\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}
{% for message in rest %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Turns must alternate.') }}{% endif %}
{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}
{% endfor %}";
    let template = Template::from_source(brackets, "<s>", "</s>");
    assert_eq!(
        template.render(&chat[..3], &prompt()).unwrap(),
        "<s>[INST] Hi [/INST]Ho</s>"
    );
    let refusal = template.render(&chat, &prompt()).unwrap_err();
    assert_eq!(
        refusal,
        Error::Template {
            what: "Turns must alternate.".into()
        }
    );
    // Other names for roles, content that may come in parts.
    let turns = "\
{{ bos_token }}
{%- for message in messages -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for part in message['content'] -%}{{ part['text'] }}{%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}";
    assert_eq!(
        Template::from_source(turns, "<bos>", "")
            .render(&chat[1..3], &prompt())
            .unwrap(),
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHo<end_of_turn>\n<start_of_turn>model\n"
    );
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

#[test]
fn stop_strings_that_overlap_each_other_or_a_tag_do_not_depend_on_the_cuts() {
    let stops = [
        "abcd".to_string(),
        "bc".into(),
        "\nfoo".into(),
        "k>x".into(),
        "é!".into(),
    ];
    let words: [&[u8]; 16] = [
        b"abcd",
        b"abc",
        b"bc",
        b"a",
        b"\n",
        b"foo",
        b"<think>",
        b"</think>",
        b"x",
        b" ",
        "é".as_bytes(),
        b"!",
        b"\xc3",
        b"\xf0\x9f",
        b"<",
        b"</thin",
    ];
    // A linear congruential generator: the same cases on every machine.
    let mut state = 1u32;
    let mut draw = |n: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % n
    };
    for _ in 0..3000 {
        let bytes: Vec<u8> = (0..1 + draw(9)).flat_map(|_| words[draw(16)]).copied().collect();
        let stops = &stops[..draw(6)];
        let in_think = draw(2) == 1;
        let whole = collect(&bytes, bytes.len(), stops, in_think);
        for size in [1, 2, 3, 5] {
            assert_eq!(
                collect(&bytes, size, stops, in_think),
                whole,
                "{bytes:?} by {size}, {stops:?}"
            );
        }
        if !in_think && stops.is_empty() && !bytes.contains(&b'<') {
            assert_eq!(whole.0, String::from_utf8_lossy(&bytes));
        }
    }
}
