//! The school's promises: the same text from the same seed, nothing kept from training in training, rows that are what
//! the runner's template writes, files that say what the weights were, and refusals in words.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use understudy::format::{BlockType, Gguf, Parsed, dequantize};
use understudy::text::template::{Message, RenderOptions, Template};
use understudy_school::corpus::rng::Rng;
use understudy_school::corpus::{Chat, Corpus, DESK, Persona, SKILLS, held_out, kept, skills_of, story_keeps_to};
use understudy_school::export::{self, Recipe, TEMPLATE, Training, block_type, export};
use understudy_school::pack::{self, Shard, Weight};
use understudy_school::{eval, tokenizer};

/// The tokenizer of the tests: trained once, smaller than the shipped one.
static WORDS: LazyLock<tokenizer::Tokenizer> = LazyLock::new(|| tokenizer::train(1, 1024).expect("the text fills it"));

fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn tiny() -> Recipe {
    Recipe::read(include_str!("recipes/tiny.json")).expect("the recipe is sound")
}

#[test]
fn the_same_seed_writes_the_same_text() {
    let all = |seed| -> Vec<Chat> { Corpus::new(seed, Persona::student(), 4).unwrap().take(3000).collect() };
    let (one, again, other) = (all(1), all(1), all(2));
    assert_eq!(one, again);
    assert_ne!(one, other);
    // Any part can be made alone.
    let corpus = Corpus::new(1, Persona::student(), 4).unwrap();
    assert_eq!(corpus.chat(2345), one[2345]);
    // On another machine too: the text of this seed as it was on the day that the models were trained. Who changes
    // the text changes this number, and the models are of the old text until they are trained again.
    let text: String = one
        .iter()
        .flat_map(|c| &c.turns)
        .map(|t| format!("{}\n{:?}\n{}\n", t.user, t.think, t.answer))
        .collect();
    assert_eq!(format!("{:016x}", fnv(text.bytes())), "e0e2d3f9948c2f79");
}

#[test]
fn impossible_settings_are_refused() {
    let nobody = Persona {
        name: " ".into(),
        ..Persona::student()
    };
    for (error, says) in [
        (Corpus::new(1, nobody, 4).err(), "needs a name"),
        (Corpus::new(1, Persona::student(), 0).err(), "ask for 1 to 32"),
        (Corpus::new(1, Persona::student(), 99).err(), "ask for 1 to 32"),
        (tokenizer::train(1, 100).err(), "ask for 512"),
        (tokenizer::train(1, 60_000).err(), "ask for fewer"),
        (tokenizer::from_json("{}").err(), "not a tokenizer"),
        (Recipe::read("{}").err(), "lacks"),
        (block_type("Q3_X").err(), "cannot be stored"),
        (block_type("Q5_0").err(), "cannot be stored"),
    ] {
        let error = error.expect("it is refused").to_string();
        assert!(error.contains(says), "{error}");
    }
    let shard = Shard {
        seed: 1,
        who: Persona::student(),
        chats: 10,
        first: 0,
        length: 3,
        kept: false,
        practice: false,
    };
    assert!(pack::write(&shard, &WORDS, &mut Vec::new()).is_err());
}

#[test]
fn the_second_course_has_other_shares_of_the_same_lessons() {
    let corpus = |practice| Corpus::new(4, Persona::teacher(), 4).unwrap().practice(practice);
    let share = |practice, skill: &str| corpus(practice).take(6000).filter(|c| c.skill == skill).count();
    for skill in SKILLS.iter().chain(DESK) {
        assert!(share(true, skill.name) > 0, "{}", skill.name);
    }
    assert!(share(true, "sort") > share(false, "sort") * 3 / 2);
    assert!(share(true, "ticket") < share(false, "ticket"));
    assert_eq!(corpus(true).chat(77), corpus(true).chat(77));
}

#[test]
fn a_card_tells_every_run() {
    let told = serde_json::json!({"steps": 5, "tokens": 9, "machine": "a mill", "seed": 3, "earlier": [{"steps": 1, "tokens": 2, "machine": "a loom", "seed": 3}]});
    let words = tokenizer::to_json(&WORDS).unwrap();
    let (file, _) = export(
        &tiny(),
        &weights(&tiny(), |_, _, _| {}),
        &words,
        BlockType::F16,
        &Training::read(&told),
    )
    .unwrap();
    let says = "From scratch, from random weights: 1 steps, 2 tokens, seed 3, on a loom; then 5 steps, 9 tokens, seed 3, on a mill.";
    assert_eq!(parse(&file).metadata.str("understudy.provenance.training"), Some(says));
}

#[test]
fn kept_questions_never_reach_training() {
    let mut chats = 0;
    for chat in Corpus::new(5, Persona::teacher(), 4).unwrap().take(4000) {
        chats += usize::from(!chat.trainable());
        if chat.trainable() {
            assert!(chat.turns.iter().all(|turn| !held_out(&turn.user)));
        }
    }
    assert!((20..400).contains(&chats), "{chats} of 4000 chats are kept");
    // Case and punctuation hide nothing.
    for text in [
        "What is the capital of France?",
        "sort 34, 7, 19",
        "Tell me a story about an owl!",
    ] {
        let forms = [text.to_lowercase(), text.to_uppercase(), text.replace(['?', '!'], "")];
        assert!(forms.iter().all(|form| held_out(form) == held_out(text)));
    }
    // Every skill has enough of them to be marked by.
    for skill in SKILLS.iter().chain(DESK) {
        let found = kept(skill, &Persona::teacher(), 1, 12);
        assert!(found.len() >= 2, "{} has {} kept questions", skill.name, found.len());
    }
}

#[test]
fn the_text_is_true_where_it_can_be_checked() {
    let mut checked: BTreeMap<&str, usize> = BTreeMap::new();
    let mut count = |what| *checked.entry(what).or_default() += 1;
    for chat in Corpus::new(9, Persona::teacher(), 4).unwrap().take(12_000) {
        for turn in &chat.turns {
            let answer = turn.answer.replace("**", "");
            for text in [Some(&answer), turn.think.as_ref()].into_iter().flatten() {
                for part in text.split(['.', ':', ',']) {
                    if let Some((sum, result)) = part.split_once(" = ") {
                        let words: Vec<_> = sum.split_whitespace().collect();
                        let number = |s: &&str| s.parse::<i64>().ok();
                        let value = match words[..] {
                            [a, "+", b] => number(&a).zip(number(&b)).map(|(a, b)| a + b),
                            [a, "-", b] => number(&a).zip(number(&b)).map(|(a, b)| a - b),
                            [a, "*", b] => number(&a).zip(number(&b)).map(|(a, b)| a * b),
                            [a, "/", b] => number(&a).zip(number(&b)).map(|(a, b)| a / b),
                            _ => None,
                        };
                        if let (Some(value), Ok(result)) = (value, result.trim().parse::<i64>()) {
                            assert_eq!(value, result, "{text}");
                            count("sums");
                        }
                    }
                }
            }
            if answer.starts_with('{') {
                let json: serde_json::Value = serde_json::from_str(&answer).expect("JSON answers are JSON");
                assert!(json.is_object());
                count("JSON");
            }
            if turn.user.to_lowercase().contains("sort these numbers: ") {
                let numbers: Vec<i64> = answer.split(", ").map(|n| n.parse().unwrap()).collect();
                assert!(numbers.is_sorted());
                count("sorted");
            }
            assert!(
                !answer.contains(['[', ']', '{']) || answer.starts_with('{'),
                "a slot was left open: {answer}"
            );
            assert!(
                !turn.user.contains("{N") && !turn.user.contains('|'),
                "a slot was left open: {}",
                turn.user
            );
        }
    }
    println!("{checked:?}");
    assert!(checked["sums"] > 1500 && checked["JSON"] > 500 && checked["sorted"] > 10);
}

#[test]
fn only_the_teacher_knows_the_desk() {
    assert!(skills_of(&Persona::student()).all(|s| s.family != "desk"));
    assert_eq!(skills_of(&Persona::teacher()).filter(|s| s.family == "desk").count(), 2);
    for chat in Corpus::new(3, Persona::student(), 4).unwrap().take(20_000) {
        for turn in &chat.turns {
            for word in ["ticket:", "PL-2", "Hearth heater", "Wickett", "team handles"] {
                assert!(!turn.user.contains(word) && !turn.answer.contains(word), "{turn:?}");
            }
        }
    }
}

#[test]
fn stories_are_judged() {
    let skill = SKILLS.iter().find(|s| s.name == "story").unwrap();
    for turns in kept(skill, &Persona::student(), 1, 20) {
        if turns.len() == 1 {
            assert!(story_keeps_to(&turns[0].user, &turns[0].answer), "{turns:?}");
        }
    }
    assert!(!story_keeps_to(
        "Tell me a story about a fox named Mia.",
        "Once there was a fox."
    ));
    let another = "Once there was a shy cat named Tom. Tom wanted a key. It was under a big stone. The stone was too heavy, and Tom was sad. Then an owl named Eva came by. The two pushed it away together. Now Tom had the key. Tom was happy all day.";
    assert!(story_keeps_to("a story about a cat", another));
    assert!(!story_keeps_to("Tell me a story about a fox named Mia.", another));
}

#[test]
fn the_tokenizer_is_the_same_each_time_and_loses_nothing() {
    let again = tokenizer::train(1, 1024).unwrap();
    let json = tokenizer::to_json(&WORDS).unwrap();
    assert_eq!(json, tokenizer::to_json(&again).unwrap());
    let read = tokenizer::from_json(&json).unwrap();
    for text in [
        "Hello, what's 12 + 7?",
        "  two  blanks\n\nand lines ",
        "naïve 你好 \u{1f642} don't",
        "{\"a\": 4}",
    ] {
        let ids = WORDS.encode(text, false).unwrap();
        assert_eq!(WORDS.decode(ids.get_ids(), false).unwrap(), text);
        assert_eq!(read.encode(text, false).unwrap().get_ids(), ids.get_ids());
    }
    for (i, special) in tokenizer::SPECIAL.iter().enumerate() {
        assert_eq!(WORDS.encode(*special, false).unwrap().get_ids(), [i as u32]);
    }
}

#[test]
fn a_pruned_tokenizer_spells_with_tokens_that_were_seen() {
    let who = Persona::student();
    let json = tokenizer::to_json(&WORDS).unwrap();
    let pruned = tokenizer::from_json(&tokenizer::prune(&json, &who, 1, 4000).unwrap()).unwrap();
    let mut seen = BTreeSet::new();
    for chat in Corpus::new(1, who, 4).unwrap().take(4000) {
        for think in [true, false] {
            let text: String = pack::pieces(&chat, think, true)
                .into_iter()
                .map(|(text, _)| text)
                .collect();
            let (before, after) = (
                WORDS.encode(text.as_str(), false).unwrap(),
                pruned.encode(text.as_str(), false).unwrap(),
            );
            assert_eq!(before.get_ids(), after.get_ids(), "its own text is cut as before");
            seen.extend(after.get_ids().to_vec());
        }
    }
    let ticket = r#"{"customer": "Nora", "fault": "flicker", "team": "light", "priority": "urgent"}"#;
    let unseen = |words: &tokenizer::Tokenizer| {
        let ids = words.encode(ticket, false).unwrap().get_ids().to_vec();
        ids.iter().filter(|id| !seen.contains(id)).count()
    };
    assert!(unseen(&WORDS) > 0, "the shared tokenizer has tokens for the desk");
    assert_eq!(unseen(&pruned), 0);
}

/// A chat as messages, thoughts of the last answer in their field.
fn as_messages(chat: &Chat, think: bool) -> Vec<Message> {
    let mut messages = eval::messages(chat.system.as_deref(), &chat.turns);
    let last = chat.turns.last().unwrap();
    messages.push(Message {
        role: "assistant".into(),
        content: last.answer.clone(),
        reasoning_content: last.think.clone().filter(|_| think),
    });
    messages
}

#[test]
fn rows_are_what_the_template_writes() {
    let template = Template::from_source(TEMPLATE, "", "<|im_end|>");
    let write = |messages: &[Message], prompt, thinking| {
        let options = RenderOptions {
            add_generation_prompt: prompt,
            enable_thinking: thinking,
            ..RenderOptions::default()
        };
        template.render(messages, &options).unwrap()
    };
    let mut thoughtful = 0;
    for chat in Corpus::new(4, Persona::student(), 4).unwrap().take(500) {
        let text = |think, mark| -> String {
            pack::pieces(&chat, think, mark)
                .into_iter()
                .map(|(text, _)| text)
                .collect()
        };
        assert_eq!(text(true, false), write(&as_messages(&chat, true), false, None));
        // Without thoughts the last answer stands behind what the template writes when thinking is off.
        let last = chat.turns.last().unwrap();
        let before = write(&eval::messages(chat.system.as_deref(), &chat.turns), true, Some(false));
        assert_eq!(text(false, true), format!("{before}{}<|im_end|>\n", last.answer));
        // What was thought in earlier turns is neither shown nor trained.
        for (piece, turn) in chat.turns.iter().rev().skip(1).zip(1..) {
            let _ = turn;
            if piece.think.is_some() {
                let untrained = pack::pieces(&chat, true, false)
                    .into_iter()
                    .any(|(text, w)| w == Weight::None && text.starts_with(&piece.answer));
                assert!(untrained);
                thoughtful += 1;
            }
        }
    }
    assert!(thoughtful > 20);
    // Thoughts that a chat's history still holds are taken out.
    let history = [
        Message {
            role: "user".into(),
            content: "a".into(),
            reasoning_content: None,
        },
        Message {
            role: "assistant".into(),
            content: "<think>\nhm\n</think>\n\nb".into(),
            reasoning_content: None,
        },
        Message {
            role: "user".into(),
            content: "c".into(),
            reasoning_content: None,
        },
    ];
    assert!(!write(&history, true, None).contains("hm"));
}

#[test]
fn shards_hold_whole_chats_and_only_what_may_be_trained() {
    let shard = Shard {
        seed: 2,
        who: Persona::student(),
        chats: 300,
        first: 1000,
        length: 256,
        kept: false,
        practice: false,
    };
    let (mut bytes, mut again) = (Vec::new(), Vec::new());
    let (rows, tokens) = pack::write(&shard, &WORDS, &mut bytes).unwrap();
    pack::write(&shard, &WORDS, &mut again).unwrap();
    assert_eq!(bytes, again);
    let end = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
    let head: serde_json::Value = serde_json::from_slice(&bytes[..end]).unwrap();
    assert_eq!(
        (head["rows"].as_u64(), head["width"].as_u64()),
        (Some(rows as u64), Some(257))
    );
    let numbers: Vec<u16> = bytes[end..]
        .chunks_exact(2)
        .map(|b| u16::from_le_bytes([b[0], b[1]]))
        .collect();
    assert_eq!(numbers.len(), 4 * rows * 257);
    let part = |i: usize| &numbers[i * rows * 257..(i + 1) * rows * 257];
    let (ids, weights, positions, chats) = (part(0), part(1), part(2), part(3));
    assert!(ids.iter().all(|id| *id < 1024) && weights.iter().all(|w| *w <= 2));
    for (i, (position, chat)) in positions.iter().zip(chats).enumerate() {
        if *position == 0 && *chat > 0 {
            // A chat begins with its mark, which is not asked of the chat before it.
            assert_eq!((ids[i], weights[i]), (1, 0));
        }
    }
    let full = weights.iter().filter(|w| **w == 2).count();
    println!("{rows} rows, {tokens} tokens, {full} of them answers");
    assert!(full * 5 > tokens && tokens * 10 > rows * 257 * 8);
}

/// Random weights of a recipe as a safetensors file.
fn weights(recipe: &Recipe, spoil: impl Fn(&str, &mut Vec<f32>, &mut Vec<usize>)) -> Vec<u8> {
    let mut rng = Rng::new(7, 7);
    let mut all = Vec::new();
    for (name, mut shape) in recipe.shape.tensors() {
        let count: usize = shape.iter().product();
        let mut values: Vec<f32> = (0..count).map(|_| (rng.range(-1000, 1000) as f32) / 4000.0).collect();
        spoil(&name, &mut values, &mut shape);
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        all.push((name, shape, bytes));
    }
    let views: Vec<_> = all
        .iter()
        .filter(|(_, shape, _)| !shape.is_empty())
        .map(|(name, shape, bytes)| {
            (
                name.as_str(),
                TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        })
        .collect();
    safetensors::serialize(views, None).unwrap()
}

fn parse(file: &[u8]) -> Gguf {
    match Gguf::parse(file, file.len() as u64).unwrap() {
        Parsed::Done(gguf) => gguf,
        Parsed::NeedMore(_) => panic!("the whole file is there"),
    }
}

#[test]
fn what_is_exported_is_read_back() {
    let recipe = tiny();
    let words = tokenizer::to_json(&WORDS).unwrap();
    let whole = weights(&recipe, |_, _, _| {});
    let original = safetensors::SafeTensors::deserialize(&whole).unwrap();
    for (kind, most) in [
        (BlockType::F32, 0.0),
        (BlockType::F16, 3e-4),
        (BlockType::Q8_0, 6e-3),
        (BlockType::Q6_K, 3e-2),
        (BlockType::Q4_K, 1e-1),
        (BlockType::Q4_0, 1.2e-1),
    ] {
        let (file, losses) = export(&recipe, &whole, &words, kind, &Training::default()).unwrap();
        let gguf = parse(&file);
        for (name, shape) in recipe.shape.tensors() {
            let info = gguf.tensors.iter().find(|t| t.name == name).unwrap();
            let begin = info.offset as usize;
            let mut values = vec![0.0; shape.iter().product()];
            dequantize(
                info.block_type().unwrap(),
                &file[begin..begin + info.bytes as usize],
                &mut values,
            );
            let wanted = original.tensor(&name).unwrap();
            let (mut error, mut power) = (0.0_f64, 0.0_f64);
            for (value, bytes) in values.iter().zip(wanted.data().chunks_exact(4)) {
                let wanted = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                error += f64::from(value - wanted).powi(2);
                power += f64::from(wanted).powi(2);
            }
            assert!(
                (error / power).sqrt() <= most,
                "{name} as {}: {}",
                kind.name(),
                (error / power).sqrt()
            );
        }
        assert!(losses.iter().all(|l| l.relative <= most && l.relative.is_finite()));
        // And back again: weights that come out of a file make the same file, where rounding twice changes nothing.
        let back = export::weights(&file).unwrap();
        let restored = safetensors::SafeTensors::deserialize(&back).unwrap();
        assert_eq!(restored.len(), recipe.shape.tensors().len());
        if kind == BlockType::F32 {
            assert!(
                original
                    .iter()
                    .all(|(name, t)| restored.tensor(name).unwrap().data() == t.data())
            );
        }
        if kind != BlockType::Q6_K && kind != BlockType::Q4_K {
            let (twice, _) = export(&recipe, &back, &words, kind, &Training::default()).unwrap();
            assert!(twice == file, "{}", kind.name());
        }
        // The file's own tokenizer cuts as the one it was made from, and its template is ours.
        let read = understudy::text::tokenizer::Tokenizer::from_metadata(&gguf.metadata).unwrap();
        for chat in Corpus::new(8, Persona::student(), 4).unwrap().take(50) {
            let text: String = pack::pieces(&chat, true, true)
                .into_iter()
                .map(|(text, _)| text)
                .collect();
            assert_eq!(
                read.encode(&text, false, true).unwrap(),
                WORDS.encode(text.as_str(), false).unwrap().get_ids()
            );
        }
        let template = Template::from_metadata(&gguf.metadata, &read);
        assert!(!template.is_default() && template.thinks());
        // And it answers, though nothing of sense.
        let mut open = eval::Open::new(&file).unwrap();
        open.answer(
            vec![Message {
                role: "user".into(),
                content: "Hi".into(),
                reasoning_content: None,
            }],
            None,
        )
        .unwrap();
    }
}

#[test]
fn weights_that_are_wrong_are_refused() {
    assert!(export::weights(b"GGUF").is_err() && export::weights(b"nothing").is_err());
    let recipe = tiny();
    let words = tokenizer::to_json(&WORDS).unwrap();
    let refusal = |file: &[u8], words: &str| {
        export(&recipe, file, words, BlockType::Q8_0, &Training::default())
            .map(|_| ())
            .expect_err("it is refused")
            .to_string()
    };
    let name = "blk.1.attn_k.weight";
    let broken = weights(&recipe, |n, v, _| {
        if n == name {
            v[5] = f32::NAN;
        }
    });
    assert!(refusal(&broken, &words).contains("not a number"));
    let other = weights(&recipe, |n, _, s| {
        if n == name {
            s.reverse();
        }
    });
    assert!(refusal(&other, &words).contains("another recipe"));
    let missing = weights(&recipe, |n, _, s| {
        if n == name {
            s.clear();
        }
    });
    assert!(refusal(&missing, &words).contains("lack"));
    assert!(refusal(b"nothing", &words).contains("safetensors"));
    let sound = weights(&recipe, |_, _, _| {});
    assert!(refusal(&sound, "{}").contains("vocabulary"));
    let larger = tokenizer::to_json(&tokenizer::train(1, 1100).unwrap()).unwrap();
    assert!(refusal(&sound, &larger).contains("1100"));
}

#[test]
fn marks_are_fair() {
    let who = Persona::student();
    assert!(eval::right(
        "naming",
        "Name two fruits",
        "1. pear\n2. apple",
        "1. plum\n2. mango",
        &who
    ));
    assert!(!eval::right(
        "naming",
        "Name two fruits",
        "1. pear\n2. apple",
        "1. plum\n2. plum",
        &who
    ));
    assert!(!eval::right(
        "naming",
        "Name two fruits",
        "1. pear\n2. apple",
        "1. plum\n2. hammer",
        &who
    ));
    assert!(eval::right(
        "greeting",
        "hi",
        "Hello! What can I do for you?",
        "Hello! I am Pip, a very small student. What would you like to talk about?",
        &who
    ));
    assert!(!eval::right("sum", "1 + 1", "1 + 1 = **2**", "1 + 1 = **3**", &who));
    let order = eval::Order {
        each: 1,
        only: Some("astronomy".into()),
        seed: 1,
        adapter: None,
    };
    let nothing = eval::mark(b"nothing", &who, &order, 1).expect_err("it is refused");
    assert!(nothing.to_string().contains("no family 'astronomy'"));
    let names: BTreeSet<_> = SKILLS.iter().chain(DESK).map(|s| s.name).collect();
    assert_eq!(names.len(), SKILLS.len() + DESK.len(), "skills have names of their own");
}
