//! Answers in a form: random schemas, expressions and grammars on the bundled student; what is refused; what it costs.

use crate::gpu::meet;
use crate::kit;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use understudy::format::Gguf;
use understudy::format::source::Bytes;
use understudy::gpu::{Gpu, GpuOptions};
use understudy::model::Sampling;
use understudy::student::{Answer, Engine, Event, Finish, Request, Student};
use understudy::text::grammar::{Constraint, Format, Vocabulary};
use understudy::text::template::Message;
use understudy::text::tokenizer::Tokenizer;

fn open(gpu: Option<&Gpu>) -> Student {
    let file = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/school/models/understudy-pip.gguf"
    ))
    .expect("the bundled student is in school/models/");
    pollster::block_on(Student::open(&Bytes(file), gpu, None, |_, _| Ok(()))).unwrap()
}

fn ask(text: &str, format: Format) -> Request {
    let message = Message {
        role: "user".into(),
        content: text.into(),
        reasoning_content: None,
    };
    Request {
        sampling: Sampling::GREEDY,
        format: Some(format),
        ..Request::chat(vec![message])
    }
}

fn answer(student: &mut Student, request: &Request) -> Answer {
    pollster::block_on(student.generate(request, |_| false)).unwrap()
}

/// Numbers of a seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % n
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    fn value(&mut self) -> Value {
        match self.below(5) {
            0 => json!(self.below(2) == 0),
            1 => Value::Null,
            2 => json!(self.below(2000) as i64 - 1000),
            3 => json!(["a", 1, null]),
            _ => json!(*self.one(&["red", "green \"blue\"", "ä€😀", "", "two words"])),
        }
    }

    /// A schema of which every value is short.
    fn schema(&mut self, depth: u32) -> Value {
        match self.below(if depth == 0 { 7 } else { 12 }) {
            0 => json!({ "type": "boolean" }),
            1 => json!({ "type": "null" }),
            2 => {
                let low = self.below(1000) as i64 - 500;
                let high = low + self.below(900) as i64;
                json!({ "type": "integer", "minimum": low, "maximum": high })
            }
            3 => {
                let least = self.below(3);
                json!({ "type": "string", "minLength": least, "maxLength": least + self.below(8) })
            }
            4 => {
                let pattern = self.one(&[
                    "^[a-z]{2,5}$",
                    "^[0-9]{3}-[0-9]{2}$",
                    "^(yes|no|maybe)$",
                    "^#[0-9a-f]{6}$",
                ]);
                json!({ "type": "string", "pattern": pattern })
            }
            5 => {
                let values: Vec<Value> = (0..1 + self.below(4)).map(|_| self.value()).collect();
                json!({ "enum": values })
            }
            6 => json!({ "const": self.value() }),
            7 | 8 => {
                let least = self.below(3);
                json!({ "type": "array", "items": self.schema(depth - 1), "minItems": least, "maxItems": least + self.below(3) })
            }
            9 => {
                let any: Vec<Value> = (0..2 + self.below(2)).map(|_| self.schema(depth - 1)).collect();
                json!({ "anyOf": any })
            }
            _ => self.object(depth - 1),
        }
    }

    fn object(&mut self, depth: u32) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for name in ["name", "age", "is_open", "tags", "x"] {
            if self.below(2) == 0 {
                continue;
            }
            properties.insert(name.into(), self.schema(depth));
            if self.below(3) > 0 {
                required.push(name);
            }
        }
        json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
    }
}

/// Whether `value` is what `schema` describes; knows the keywords that [`Chance::schema`] writes.
fn is_valid(schema: &Value, value: &Value) -> bool {
    schema
        .as_object()
        .unwrap()
        .iter()
        .all(|(keyword, of)| match keyword.as_str() {
            "type" => match of.as_str().unwrap() {
                "boolean" => value.is_boolean(),
                "null" => value.is_null(),
                // 4.0 is an integer to JSON Schema.
                "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
                "string" => value.is_string(),
                "array" => value.is_array(),
                "object" => value.is_object(),
                other => panic!("{other} is not known"),
            },
            "minimum" => value.as_f64() >= of.as_f64(),
            "maximum" => value.as_f64() <= of.as_f64(),
            "minLength" => value
                .as_str()
                .is_some_and(|s| s.chars().count() as u64 >= of.as_u64().unwrap()),
            "maxLength" => value
                .as_str()
                .is_some_and(|s| s.chars().count() as u64 <= of.as_u64().unwrap()),
            "pattern" => regex::Regex::new(of.as_str().unwrap())
                .unwrap()
                .is_match(value.as_str().unwrap_or("\0")),
            "enum" => of.as_array().unwrap().contains(value),
            "const" => of == value,
            "items" => value
                .as_array()
                .is_some_and(|items| items.iter().all(|item| is_valid(of, item))),
            "minItems" => value
                .as_array()
                .is_some_and(|items| items.len() as u64 >= of.as_u64().unwrap()),
            "maxItems" => value
                .as_array()
                .is_some_and(|items| items.len() as u64 <= of.as_u64().unwrap()),
            "anyOf" => of.as_array().unwrap().iter().any(|schema| is_valid(schema, value)),
            "properties" => value.as_object().is_some_and(|object| {
                object
                    .iter()
                    .all(|(name, value)| of.get(name).is_some_and(|schema| is_valid(schema, value)))
            }),
            "required" => of
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "additionalProperties" => true,
            other => panic!("{other} is not known"),
        })
}

#[test]
fn two_hundred_random_schemas_are_kept() {
    let mut student = open(None);
    let mut chance = Chance(2026);
    let started = Instant::now();
    let (mut finished, mut tokens) = (0, 0);
    for case in 0..200u32 {
        let schema = if case % 4 == 0 {
            chance.schema(2)
        } else {
            chance.object(u32::from(case % 3 == 0))
        };
        let mut request = ask(
            "Make JSON with the keys name and age: age 31, name Nora",
            Format::JsonSchema(schema.clone()),
        );
        request.max_tokens = Some(150);
        if case % 2 == 1 {
            request.sampling = Sampling {
                temperature: 1.0,
                seed: case,
                ..Sampling::default()
            };
        }
        let answer = pollster::block_on(student.generate(&request, |_| false))
            .unwrap_or_else(|error| panic!("case {case}: {error}\n{schema}"));
        tokens += answer.ids.len();
        match answer.finish {
            Finish::Stop => {
                finished += 1;
                let value: Value = serde_json::from_str(&answer.content)
                    .unwrap_or_else(|error| panic!("case {case}: {error}\n{schema}\n{}", answer.content));
                assert!(is_valid(&schema, &value), "case {case}\n{schema}\n{value}");
            }
            Finish::Length => println!("case {case} does not end: {schema}\n{}", answer.content),
            Finish::Abort => panic!("nobody stopped it"),
        }
    }
    println!("{finished} of 200 ended, {tokens} tokens, {:?}", started.elapsed());
    assert!(finished >= 195, "only {finished} of 200 answers came to their end");
}

#[test]
fn the_device_writes_the_same_in_a_form_and_makes_nothing_for_a_token() {
    let name = "the_device_writes_the_same_in_a_form_and_makes_nothing_for_a_token";
    let Some(gpu) = meet(name, GpuOptions::default()) else {
        return;
    };
    let (mut on_cpu, mut on_gpu) = (open(None), open(Some(&gpu)));
    let mut chance = Chance(7);
    let mut plain = ask("Hello! Who are you?", Format::JsonObject);
    plain.format = None;
    plain.max_tokens = Some(12);
    let free = answer(&mut on_gpu, &plain).ids;
    for _ in 0..5 {
        let schema = chance.object(2);
        let mut request = ask("Tell me about Nora, in JSON.", Format::JsonSchema(schema.clone()));
        request.max_tokens = Some(120);
        let (a, b) = (answer(&mut on_cpu, &request), answer(&mut on_gpu, &request));
        println!("{}", b.content);
        assert_eq!(a.ids, b.ids, "{schema}");
        let mut sampled = request.clone();
        sampled.sampling = Sampling {
            seed: 5,
            ..Sampling::default()
        };
        let value = answer(&mut on_gpu, &sampled);
        if value.finish == Finish::Stop {
            assert!(is_valid(&schema, &serde_json::from_str(&value.content).unwrap()));
        }
    }
    // Nothing of the form is left behind.
    assert_eq!(answer(&mut on_gpu, &plain).ids, free);
    let request = ask("Three digits.", Format::Regex("[0-9]{30}".into()));
    let (mut before, mut used) = (gpu.counts(), None);
    let dispatches = match on_gpu.engine() {
        Engine::Gpu(engine) => engine.dispatches_per_token() as u64,
        Engine::Cpu(_) => panic!("it was opened on the device"),
    };
    let mut from = 0;
    pollster::block_on(on_gpu.generate(&request, |event| {
        if let Event::Text { tokens, .. } = event {
            if tokens == 2 {
                (before, from) = (gpu.counts(), tokens);
            } else if tokens > from && from > 0 {
                used = Some((gpu.counts() - before, (tokens - from) as u64));
            }
        }
        false
    }))
    .unwrap();
    let (used, tokens) = used.expect("there are more than two tokens");
    println!("{tokens} tokens: {used:?}");
    assert_eq!((used.buffers, used.bind_groups, used.pipelines), (0, 0, 0));
    // One token in flight, and nothing beside its own submission.
    assert_eq!((used.submissions, used.dispatches), (tokens, tokens * dispatches));
}

#[test]
fn expressions_and_grammars_hold() {
    let mut student = open(None);
    let regex = "[0-9]{3}-(north|south)( [a-z]{1,4}){2}";
    let found = answer(&mut student, &ask("Hello!", Format::Regex(regex.into())));
    assert_eq!(found.finish, Finish::Stop);
    assert!(
        regex::Regex::new(&format!("^(?:{regex})$"))
            .unwrap()
            .is_match(&found.content),
        "{}",
        found.content
    );

    let lark = "start: sum\nsum: NUMBER (\" + \" NUMBER){2}\nNUMBER: /[1-9][0-9]?/\n";
    let found = answer(&mut student, &ask("What is 7 plus 8?", Format::Grammar(lark.into())));
    assert_eq!(found.finish, Finish::Stop);
    assert_eq!(
        found.content.split(" + ").filter(|n| n.parse::<u32>().is_ok()).count(),
        3,
        "{}",
        found.content
    );

    let found = answer(
        &mut student,
        &ask(
            "Make JSON with the keys name and age: age 31, name Nora",
            Format::JsonObject,
        ),
    );
    println!("{} {:?}", found.content, found.finish);
    if found.finish == Finish::Stop {
        assert!(serde_json::from_str::<Value>(&found.content).unwrap().is_object());
    }
}

#[test]
fn an_answer_that_is_cut_in_its_form_says_so() {
    let mut student = open(None);
    let schema = json!({ "type": "object", "properties": { "name": { "type": "string", "minLength": 5, "maxLength": 9 } },
        "required": ["name"], "additionalProperties": false });
    let mut request = ask("Who are you?", Format::JsonSchema(schema));
    let whole = answer(&mut student, &request);
    assert_eq!(whole.finish, Finish::Stop);
    request.max_tokens = Some(whole.ids.len() - 1);
    assert_eq!(answer(&mut student, &request).finish, Finish::Length);
    request.max_tokens = Some(3);
    let cut = answer(&mut student, &request);
    assert_eq!((cut.finish, cut.ids.len()), (Finish::Length, 3));
    assert!(serde_json::from_str::<Value>(&cut.content).is_err());
}

#[test]
fn the_reasoning_is_free_and_the_form_begins_behind_it() {
    let mut student = open(None);
    assert!(student.template().thinks());
    let schema =
        json!({ "type": "array", "items": { "type": "string", "maxLength": 8 }, "minItems": 1, "maxItems": 3 });
    let mut request = ask(
        "Sort these words: pear, apple, melon",
        Format::JsonSchema(schema.clone()),
    );
    let without = answer(&mut student, &request);
    assert_eq!((without.reasoning.as_str(), without.finish), ("", Finish::Stop));
    assert!(
        is_valid(&schema, &serde_json::from_str(&without.content).unwrap()),
        "{}",
        without.content
    );
    request.enable_thinking = Some(true);
    let with = answer(&mut student, &request);
    println!("{} | {}", with.reasoning, with.content);
    assert!(!with.reasoning.is_empty());
    if with.finish == Finish::Stop {
        assert!(
            is_valid(&schema, &serde_json::from_str(&with.content).unwrap()),
            "{}",
            with.content
        );
    } else {
        assert_eq!(with.finish, Finish::Length);
    }
}

#[test]
fn a_form_that_cannot_be_had_is_refused() {
    let mut student = open(None);
    let deep = (0..100).fold(
        json!({ "type": "null" }),
        |inner, _| json!({ "type": "array", "items": inner }),
    );
    for format in [
        Format::JsonSchema(json!({ "type": "strin" })),
        Format::JsonSchema(json!({ "type": "object", "dependentSchemas": {}, "uniqueItems": true })),
        Format::JsonSchema(json!({ "type": "array", "uniqueItems": true })),
        Format::JsonSchema(json!({ "type": "integer", "minimum": 5, "maximum": 1 })),
        Format::JsonSchema(json!({ "enum": [] })),
        Format::JsonSchema(json!({ "$ref": "https://schemas.test/x" })),
        Format::JsonSchema(json!(3)),
        Format::JsonSchema(json!(false)),
        Format::JsonSchema(deep),
        Format::Regex("(".into()),
        Format::Regex("(".repeat(5000)),
        Format::Grammar("start: nothing_of_this_name".into()),
        Format::Grammar("(((".into()),
        Format::Grammar(String::new()),
    ] {
        let mut request = ask("Hello!", format.clone());
        request.max_tokens = Some(4);
        let error = match pollster::block_on(student.generate(&request, |_| false)) {
            Ok(answer) => panic!("{format:?} gave {:?}", answer.content),
            Err(error) => error,
        };
        println!("{error} {}", error.hint());
        assert_eq!(error.code(), "format", "{format:?}");
        assert!(error.to_string().len() < 300 && error.to_string().ends_with('.'));
    }
    // The student is as it was.
    let mut request = ask("Hello!", Format::JsonObject);
    request.format = None;
    assert!(answer(&mut student, &request).content.starts_with("Hello!"));
}

#[test]
fn no_control_token_is_ever_allowed_in_a_form() {
    let student = open(None);
    let tokenizer = student.tokenizer();
    let started = Instant::now();
    let vocabulary = Vocabulary::new(tokenizer, student.plan().config.vocabulary).unwrap();
    println!(
        "{} tokens were made ready in {:?}",
        tokenizer.vocab_size(),
        started.elapsed()
    );
    let allowed = |mask: &[u32], id: u32| mask[id as usize / 32] & (1 << (id % 32)) != 0;
    let mut constraint = Constraint::new(&vocabulary, &Format::JsonObject).unwrap();
    let text = r#"{"name": "Nora <|im_end|>", "list": [1, 2.5, {"a": null}], "said": "ä \"€\" 😀"}"#;
    let ids = tokenizer.encode(text, false, false).unwrap();
    let mut spent = Duration::ZERO;
    for (i, &id) in ids.iter().enumerate() {
        let started = Instant::now();
        let mask = constraint.mask().unwrap().to_vec();
        spent += started.elapsed();
        assert!(allowed(&mask, id), "token {i} of {text}");
        for other in 0..tokenizer.vocab_size() as u32 {
            assert!(
                !allowed(&mask, other) || !tokenizer.is_control(other),
                "{:?}",
                tokenizer.token_text(other)
            );
            assert!(!allowed(&mask, other) || !tokenizer.is_end(other));
        }
        let complete = constraint.advance(id).unwrap();
        assert_eq!(complete, i + 1 == ids.len());
    }
    println!("a mask takes {:?}", spent / ids.len() as u32);
    // What is complete lets ends come, and nothing else.
    let mask = constraint.mask().unwrap();
    assert!((0..32 * mask.len() as u32).all(|id| allowed(mask, id) == tokenizer.is_end(id)));
}

#[test]
fn the_vocabularies_of_known_students_spell_json() {
    let Some(kit) = kit::kit_dir() else {
        kit::skip("the_vocabularies_of_known_students_spell_json");
        return;
    };
    for name in [
        "gemma-4",
        "llama-bpe",
        "qwen2",
        "deepseek-llm",
        "falcon",
        "phi-3",
        "llama-spm",
    ] {
        let bytes = kit::unxz(&kit.join(format!("vocab/ggml-vocab-{name}.gguf.xz")));
        let gguf = pollster::block_on(Gguf::read(&Bytes(bytes))).unwrap();
        let tokenizer = Tokenizer::from_metadata(&gguf.metadata).unwrap();
        // Rows of padding are common.
        let rows = tokenizer.vocab_size() + 40;
        let started = Instant::now();
        let vocabulary = Vocabulary::new(&tokenizer, rows).unwrap();
        let ready = started.elapsed();
        let mut constraint = Constraint::new(&vocabulary, &Format::JsonObject).unwrap();
        let text = r#"{"name": "Nora O'Neill, 31 <b>", "list": [1, 2.5e-3, {"a": null}], "said": "ä \"€\"\n😀 नमस्ते"}"#;
        let (mut rest, mut steps, mut spent, mut longest) = (text.as_bytes(), 0, Duration::ZERO, Duration::ZERO);
        let mut complete = false;
        while !rest.is_empty() {
            let started = Instant::now();
            let mask = constraint.mask().unwrap().to_vec();
            let took = started.elapsed();
            (steps, spent, longest) = (steps + 1, spent + took, longest.max(took));
            let allowed = (0..32 * mask.len() as u32).filter(|id| mask[*id as usize / 32] & (1 << (id % 32)) != 0);
            let next = allowed
                .inspect(|&id| assert!(!tokenizer.is_control(id) && !tokenizer.is_end(id), "{name}: {id}"))
                .filter(|&id| rest.starts_with(tokenizer.plain(id)))
                .max_by_key(|&id| tokenizer.plain(id).len())
                .unwrap_or_else(|| panic!("{name}: nothing spells {:?}", String::from_utf8_lossy(rest)));
            rest = &rest[tokenizer.plain(next).len()..];
            complete = constraint.advance(next).unwrap();
        }
        assert!(complete, "{name}");
        println!(
            "{name}: {rows} rows made ready in {ready:?}; {steps} masks, {:?} each, the longest {longest:?}",
            spent / steps
        );
    }
}

#[test]
fn the_shape_of_a_request_is_that_of_chat_completions() {
    let schema = json!({ "type": "boolean" });
    let of = |value: Value| Format::from_json(&value);
    assert_eq!(of(Value::Null), Ok(None));
    assert_eq!(of(json!({ "type": "text" })), Ok(None));
    assert_eq!(of(json!({ "type": "json_object" })), Ok(Some(Format::JsonObject)));
    let whole = json!({ "type": "json_schema", "json_schema": { "name": "x", "strict": true, "schema": schema } });
    assert_eq!(of(whole), Ok(Some(Format::JsonSchema(schema))));
    assert_eq!(
        of(json!({ "type": "regex", "regex": "a+" })),
        Ok(Some(Format::Regex("a+".into())))
    );
    assert_eq!(
        of(json!({ "type": "grammar", "grammar": "start: \"a\"" })),
        Ok(Some(Format::Grammar("start: \"a\"".into())))
    );
    for wrong in [
        json!({ "type": "json_schema" }),
        json!({ "type": "regex" }),
        json!({ "type": "xml" }),
        json!("json"),
    ] {
        assert_eq!(of(wrong).unwrap_err().code(), "format");
    }
}
