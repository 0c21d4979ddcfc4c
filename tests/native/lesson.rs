//! Rows of traces as lessons of the bundled student: what is trained, and what the teacher thought of it.

use std::cell::OnceCell;
use understudy::distill::lesson::{Desk, Lesson, Reasoning, Unfit};
use understudy::distill::schedule::{Order, Schedule, held_out};
use understudy::format::Gguf;
use understudy::text::template::Template;
use understudy::text::tokenizer::Tokenizer;
use understudy::traces::{Importer, Options};

thread_local! {
    static WORDS: OnceCell<(Tokenizer, Template)> = const { OnceCell::new() };
}

/// With the tokenizer and template of the bundled student.
fn with_words<T>(work: impl FnOnce(&Tokenizer, &Template) -> T) -> T {
    WORDS.with(|cell| {
        let (tokenizer, template) = cell.get_or_init(|| {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/school/models/understudy-pip.gguf");
            let gguf = Gguf::from_bytes(&std::fs::read(path).unwrap()).unwrap();
            let tokenizer = Tokenizer::from_metadata(&gguf.metadata).unwrap();
            let template = Template::from_metadata(&gguf.metadata, &tokenizer);
            (tokenizer, template)
        });
        work(tokenizer, template)
    })
}

fn lessons(lines: &str, longest: usize, reasoning: Reasoning) -> Vec<Result<Lesson, Unfit>> {
    let mut importer = Importer::new(Options::default());
    let mut rows = importer.push(lines.as_bytes()).unwrap();
    rows.extend(importer.end_file().unwrap());
    with_words(|tokenizer, template| {
        let mut desk = Desk::new(tokenizer, template, longest);
        desk.reasoning = reasoning;
        rows.iter().map(|row| desk.lesson(row).unwrap()).collect()
    })
}

fn lesson(line: &str) -> Lesson {
    lessons(line, 512, Reasoning::Keep).remove(0).unwrap()
}

/// The text of what is trained, runs apart from each other by a bar.
fn trained(lesson: &Lesson) -> String {
    let mut out = String::new();
    let mut last = 0;
    for (t, target) in lesson.targets.iter().enumerate() {
        if target.is_some() {
            assert_eq!(
                *target,
                Some(lesson.tokens[t + 1]),
                "a target is the token that follows"
            );
            if last != t && !out.is_empty() {
                out.push('|');
            }
            out.push_str(&lesson.text[lesson.spans[t + 1].clone()]);
            last = t + 1;
        }
    }
    out
}

#[test]
fn only_the_teachers_words_and_their_end_are_trained() {
    let one = lesson(
        r#"{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"2+2?"},{"role":"assistant","content":"It is 4."}]}"#,
    );
    assert_eq!(
        one.text,
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\nIt is 4.<|im_end|>\n"
    );
    assert_eq!(trained(&one), "It is 4.<|im_end|>");
    // What the spans say is what the tokens spell.
    let whole: String = one.spans.iter().map(|s| &one.text[s.clone()]).collect();
    assert_eq!(whole, one.text);

    let two = lesson(
        r#"{"conversations":[{"from":"human","value":"hi"},{"from":"gpt","value":"hello"},{"from":"human","value":"bye"},{"from":"gpt","value":"so long"}]}"#,
    );
    assert_eq!(trained(&two), "hello<|im_end|>|so long<|im_end|>");
    let masked = lesson(
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":0},{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}"#,
    );
    assert_eq!(trained(&masked), "d<|im_end|>");
    let plain = lesson(r#"{"prompt":"Capital of France?","completion":" Paris."}"#);
    assert!(
        trained(&plain).ends_with("Paris.<|im_end|>") || trained(&plain).ends_with("Paris."),
        "{}",
        trained(&plain)
    );
    assert!(!trained(&plain).contains("Capital"));
}

#[test]
fn reasoning_is_kept_stripped_or_shortened() {
    let line = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","reasoning_content":"First one thing. Then another thing.","content":"a"}]}"#;
    let inline = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"<think>\nFirst one thing. Then another thing.\n</think>\n\na"}]}"#;
    assert_eq!(lesson(line).tokens, lesson(inline).tokens);
    let of = |reasoning| trained(lessons(line, 512, reasoning)[0].as_ref().unwrap());
    assert_eq!(
        of(Reasoning::Keep),
        "<think>\nFirst one thing. Then another thing.\n</think>\n\na<|im_end|>"
    );
    assert_eq!(of(Reasoning::Strip), "a<|im_end|>");
    assert_eq!(
        of(Reasoning::Shorten(24)),
        "<think>\nThen another thing.\n</think>\n\na<|im_end|>"
    );
    // The template takes the reasoning of earlier turns out, and the answer there is trained all the same.
    let earlier = lesson(
        r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","reasoning_content":"hm","content":"a"},{"role":"user","content":"r"},{"role":"assistant","content":"b"}]}"#,
    );
    assert!(!earlier.text.contains("hm"));
    assert!(trained(&earlier).ends_with("b<|im_end|>"));
}

#[test]
fn probabilities_lie_beside_their_tokens() {
    // The teacher's tokens are the student's here: cut the answer with its tokenizer.
    let answer = "The code is **PL-2**.";
    let (pieces, ids) = with_words(|tokenizer, _| {
        let ids = tokenizer.encode(answer, false, false).unwrap();
        (
            ids.iter().map(|id| tokenizer.piece(*id).to_vec()).collect::<Vec<_>>(),
            ids,
        )
    });
    let marks: Vec<serde_json::Value> = pieces
        .iter()
        .map(|piece| {
            let text = String::from_utf8(piece.clone()).unwrap();
            let of =
                |text: &str, p: f64| serde_json::json!({"token": text, "logprob": p.ln(), "bytes": text.as_bytes()});
            let mut mark = of(&text, 0.9);
            // A token that the student has, and one that it has not.
            mark["top_logprobs"] =
                serde_json::json!([of(&text, 0.9), of(" the", 0.05), of("\u{1f9ff}\u{1f9ff}", 0.01)]);
            mark
        })
        .collect();
    let row = serde_json::json!({"messages": [{"role": "user", "content": "Which code?"}], "choices": [{"index": 0,
        "message": {"role": "assistant", "content": answer}, "logprobs": {"content": marks}, "finish_reason": "stop"}]});
    let mut lines = vec![
        serde_json::json!({"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "Which code?"}]}}).to_string(),
    ];
    lines.push(serde_json::json!({"custom_id": "r1", "response": {"status_code": 200, "body": {"choices": row["choices"]}}, "error": null}).to_string());
    let lesson = lessons(&lines.join("\n"), 512, Reasoning::Keep).remove(0).unwrap();
    assert_eq!(trained(&lesson), format!("{answer}<|im_end|>"));
    let first = lesson.targets.iter().position(Option::is_some).unwrap();
    for (i, id) in ids.iter().enumerate() {
        let (soft, logprobs) = lesson.soft[first + i].as_ref().expect("the teacher spoke of it");
        assert_eq!(lesson.targets[first + i], Some(*id));
        let own = soft
            .iter()
            .position(|other| other == id)
            .expect("the token itself is among them");
        let most = if pieces[i] == b" the" { 0.95f32 } else { 0.9 };
        assert!((logprobs[own] - most.ln()).abs() < 1e-4, "{}", logprobs[own].exp());
        // The one that the student does not have is left to the tail.
        assert_eq!(soft.len(), if pieces[i] == b" the" { 1 } else { 2 });
    }
    assert!(lesson.soft[first + ids.len()].is_none(), "nothing was said of the end");
    assert_eq!(lesson.tally.soft, ids.len());
    assert!((lesson.tally.unmapped() - 0.01).abs() < 1e-3);
}

#[test]
fn long_rows_are_cut_and_empty_ones_refused() {
    let line = r#"{"messages":[{"role":"user","content":"Count."},{"role":"assistant","content":"1, 2, 3, 4, 5, 6, 7, 8, 9, 10"}]}"#;
    let whole = lesson(line);
    let cut = lessons(line, 24, Reasoning::Keep).remove(0).unwrap();
    assert_eq!((cut.tokens.len(), cut.cut), (24, whole.tokens.len() - 24));
    assert_eq!(cut.tokens, whole.tokens[..24]);
    assert_eq!(cut.targets[23], None);
    assert!(cut.trained() > 0 && cut.trained() < whole.trained());
    assert_eq!(lessons(line, 6, Reasoning::Keep).remove(0), Err(Unfit::NothingTrained));
    assert!(Unfit::NothingTrained.sentence().len() > 20);
}

#[test]
fn steps_rise_and_fall_and_rows_come_once_a_pass() {
    let schedule = Schedule::new(1e-3, 100);
    assert_eq!(schedule.warm_up, 5);
    assert!((schedule.rate(4) - 1e-3).abs() < 1e-9 && schedule.rate(0) < 3e-4);
    assert!((1..100).all(|s| s < 5 || schedule.rate(s) <= schedule.rate(s - 1) + 1e-9));
    assert!((schedule.rate(99) - 1e-4).abs() < 2e-6);
    assert!(Schedule::new(1.0, 1).rate(0) > 0.0);

    let drawn: Vec<usize> = Order::new(7, 3).take(21).collect();
    for pass in drawn.chunks(7) {
        let mut sorted = pass.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6]);
    }
    assert_eq!(drawn, Order::new(7, 3).take(21).collect::<Vec<_>>());
    assert_ne!(drawn[..7], drawn[7..14]);
    assert_ne!(drawn, Order::new(7, 4).take(21).collect::<Vec<_>>());
    assert_eq!(Order::new(0, 1).next(), None);

    let apart = (0..10_000u64)
        .filter(|i| held_out(i.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0.1))
        .count();
    assert!((900..1100).contains(&apart), "{apart}");
    assert!(!(0..1000u64).any(|i| held_out(i, 0.0)) && (0..1000u64).all(|i| held_out(i, 1.0)));
}
