//! Teacher traces: every shape, every way of being wrong, any cut of the bytes, and the alignment's oracle.

use crate::kit;
use serde_json::{Value, json};
use understudy::error::Error;
use understudy::traces::align::{Aligned, ByteMap, Cuts, Group, Student, Target, align, align_ids, groups};
use understudy::traces::import::read;
use understudy::traces::lines::{Piece, Splitter};
use understudy::traces::reasoning;
use understudy::traces::validate::{Looks, check_ids};
use understudy::traces::{
    Format, Importer, Labels, Layout, Note, Options, Part, Placement, Reason, Report, Role, Row, Teacher,
};

// --- helpers -----------------------------------------------------------------------------------------------------------

fn all(bytes: impl AsRef<[u8]>) -> (Vec<Row>, Report) {
    read(bytes.as_ref(), Options::default()).unwrap()
}

/// The only row of a text.
fn one(text: impl AsRef<str>) -> Row {
    let (mut rows, report) = all(text.as_ref());
    assert_eq!((rows.len(), report.rejected), (1, 0), "{}\n{report:#?}", text.as_ref());
    rows.remove(0)
}

/// The code with which the only line of a text is rejected.
fn rejected(text: impl AsRef<[u8]>) -> &'static str {
    let (rows, report) = all(text);
    assert_eq!((rows.len(), report.rejected), (0, 1), "{rows:#?}\n{report:#?}");
    report.listed[0].code
}

/// Roles, contents and which are trained.
fn spoken(row: &Row) -> Vec<(Role, &str, bool)> {
    row.turns
        .iter()
        .map(|t| (t.role, t.content.as_str(), t.train))
        .collect()
}

/// Token ids, bytes and log-probabilities of a token's alternatives, as text to compare with.
fn told(teacher: &Teacher, token: usize) -> String {
    let show = |id: Option<u32>, bytes: Option<&[u8]>, logprob: Option<f32>| {
        let id = id.map_or(String::new(), |id| format!("#{id}"));
        let bytes = bytes.map_or(String::new(), |bytes| format!("{:?}", String::from_utf8_lossy(bytes)));
        format!("{id}{bytes}{}", logprob.map_or(String::new(), |l| format!(" {l:.2}")))
    };
    let own = teacher.token(token);
    let others: Vec<_> = teacher
        .alternatives(token)
        .map(|a| show(a.id, a.bytes, Some(a.logprob)))
        .collect();
    format!("{}: {}", show(own.id, own.bytes, own.logprob), others.join(", "))
}

/// What the spans spell, by turn and part.
fn spelled(row: &Row) -> Vec<(usize, Part, String)> {
    let teacher = row.teacher.as_ref().expect("soft labels");
    let text =
        |span: &understudy::traces::Span| String::from_utf8(teacher.text()[span.bytes.clone()].to_vec()).unwrap();
    teacher
        .spans
        .iter()
        .map(|span| (span.turn, span.part, text(span)))
        .collect()
}

/// A small generator of numbers: the same ones for the same seed, on any machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n.max(1) as u64) as usize
    }
}

// --- fixtures: every shape in one line -----------------------------------------------------------------------------------

const MESSAGES: &str = r#"{"messages":[{"role":"user","content":"2+2?"},{"role":"assistant","content":"4"}]}"#;
const TOOLS: &str = r#"{"messages":[{"role":"user","content":"weather?"},{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Paris\"}"}}]},{"role":"tool","tool_call_id":"c1","content":"18C"},{"role":"assistant","content":"18 C."}],"tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]}"#;
const REASONING: &str =
    r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","reasoning_content":"think","content":"a"}]}"#;
const INLINE: &str =
    r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"<think>\nthink\n</think>\n\na"}]}"#;
const SHAREGPT: &str =
    r#"{"conversations":[{"from":"human","value":"hi"},{"from":"gpt","value":"hello"}],"system":"s"}"#;
const ALPACA: &str = r#"{"instruction":"Translate","input":"chat","output":"cat"}"#;
const COMPLETION: &str = r#"{"prompt":"Capital of France?","completion":"Paris."}"#;
const TEXT: &str = r#"{"text":"raw"}"#;
const OUTPUT: &str = r#"{"custom_id":"r1","response":{"status_code":200,"body":{"choices":[{"index":0,"message":{"role":"assistant","content":"4"},"logprobs":{"content":[{"token":"4","logprob":-0.01,"bytes":[52],"top_logprobs":[{"token":"4","logprob":-0.01,"bytes":[52]},{"token":"5","logprob":-5.1,"bytes":[53]}]}]},"finish_reason":"stop"}]}},"error":null}"#;
const REQUEST: &str = r#"{"custom_id":"r1","method":"POST","url":"/v1/chat/completions","body":{"messages":[{"role":"user","content":"2+2?"}]}}"#;
const VLLM: &str = r#"{"prompt_token_ids":[1,2,3],"prompt_logprobs":[null,{"2":{"logprob":-0.2,"rank":1,"decoded_token":"a"},"9":{"logprob":-1.9,"rank":2,"decoded_token":"b"}},{"3":{"logprob":-0.1,"rank":1,"decoded_token":"c"}}]}"#;
const SGLANG: &str = r#"{"text":"x","meta_info":{"input_top_logprobs":[null,[[-0.2,2,null],[-1.9,9,null]]],"output_top_logprobs":[[[-0.1,3,null]]]}}"#;
const AXOLOTL_1: &str = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"logprobs":[[{"token":"token_id:19","logprob":-0.01},{"token":"token_id:20","logprob":-5.1}]]}"#;
const AXOLOTL_2: &str = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"target_token_ids":[[19,20]],"logprobs":[[-0.01,-5.1]]}"#;
const LLAMA: &str = r#"{"content":" Paris","prompt":"The capital of France is","stop_type":"limit","generation_settings":{"temperature":0.5},"completion_probabilities":[{"id":12366,"token":" Paris","bytes":[32,80,97,114,105,115],"logprob":-0.25,"top_logprobs":[{"id":12366,"token":" Paris","bytes":[32,80,97,114,105,115],"logprob":-0.25},{"id":264,"token":" a","bytes":[32,97],"logprob":-2.5}]}]}"#;

const FIXTURES: [&str; 15] = [
    MESSAGES, TOOLS, REASONING, INLINE, SHAREGPT, ALPACA, COMPLETION, TEXT, OUTPUT, REQUEST, VLLM, SGLANG, AXOLOTL_1,
    AXOLOTL_2, LLAMA,
];

#[test]
fn messages_and_tools() {
    let row = one(MESSAGES);
    assert_eq!(
        (row.format, row.layout, row.line, row.labels),
        (Format::Messages, Layout::Chat, 1, None)
    );
    assert_eq!(
        spoken(&row),
        [(Role::User, "2+2?", false), (Role::Assistant, "4", true)]
    );

    let row = one(TOOLS);
    assert_eq!(row.turns.len(), 4);
    let call = &row.turns[1].tool_calls[0];
    assert_eq!((call.id.as_deref(), call.name.as_str()), (Some("c1"), "get_weather"));
    assert_eq!(
        call.arguments,
        json!({"city": "Paris"}),
        "a string of JSON becomes the object that templates want"
    );
    assert_eq!((row.turns[2].role, row.turns[2].train), (Role::Tool, false));
    assert_eq!(row.turns[2].tool_call_id.as_deref(), Some("c1"));
    assert_eq!(
        row.tools.as_ref().unwrap()[0]["function"]["parameters"]["required"],
        json!(["city"])
    );
    // The same call with its arguments as an object, and without any.
    let object = TOOLS.replace(r#""{\"city\":\"Paris\"}""#, r#"{"city":"Paris"}"#);
    assert_eq!(one(object).turns, row.turns);
    let old = r#"{"messages":[{"role":"user","content":"w"},{"role":"assistant","content":null,"function_call":{"name":"f","arguments":""}},{"role":"function","name":"f","content":"1"},{"role":"assistant","content":"1"}],"functions":[{"name":"f"}]}"#;
    let row = one(old);
    assert_eq!(
        (row.turns[1].tool_calls[0].arguments.clone(), row.turns[2].role),
        (json!({}), Role::Tool)
    );
    assert_eq!(
        row.tools,
        Some(json!([{"type": "function", "function": {"name": "f"}}]))
    );

    // A weight of 0 masks a turn; without any other there is nothing to train.
    let masked = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":0},{"role":"user","content":"c"},{"role":"assistant","content":"d","weight":1},{"role":"user","content":"e"}]}"#;
    let row = one(masked);
    assert_eq!(
        row.turns.iter().map(|t| t.train).collect::<Vec<_>>(),
        [false, false, false, true]
    );
    assert_eq!(row.notes, [Note::TurnsAfterAnswer]);
    assert_eq!(
        rejected(masked.replace("\"weight\":1", "\"weight\":0")),
        "nothing-to-train"
    );

    // Parts: text is joined, an image is left out and said so.
    let parts = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}},{"type":"text","text":"b"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"c"},{"type":"tool_use","id":"t","name":"f","input":{"n":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"5"}]}]},{"role":"assistant","content":"five"}],"system":"s"}"#;
    let row = one(parts);
    assert_eq!(
        spoken(&row),
        [
            (Role::System, "s", false),
            (Role::User, "ab", false),
            (Role::Assistant, "c", true),
            (Role::Tool, "5", false),
            (Role::Assistant, "five", true)
        ]
    );
    assert_eq!(row.turns[2].reasoning.as_deref(), Some("hm"));
    assert_eq!(row.turns[2].tool_calls[0].arguments, json!({"n": 1}));
    assert_eq!(row.notes, [Note::PartDropped]);
}

#[test]
fn reasoning_has_one_form() {
    let (field, inline) = (one(REASONING), one(INLINE));
    assert_eq!(field.turns, inline.turns);
    assert_eq!(field.turns[1].reasoning.as_deref(), Some("think"));
    assert_eq!(field.fingerprint(), inline.fingerprint());
    let open_thoughts = r#"{"system":"s","conversations":[{"from":"user","value":"q"},{"from":"assistant","value":"<|begin_of_thought|>\n\nthink\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\na\n\n<|end_of_solution|>"}]}"#;
    assert_eq!(one(open_thoughts).turns[1..], field.turns);
    let open_router = REASONING.replace("reasoning_content", "reasoning");
    assert_eq!(one(open_router).turns, field.turns);
    let empty = INLINE.replace("\\nthink\\n", "\\n\\n");
    assert_eq!(one(empty).turns[1].reasoning, None);
    // The prompt had opened the tag already.
    assert_eq!(one(INLINE.replace("<think>\\n", "")).turns, field.turns);

    let parts = |text: &str| {
        let split = reasoning::split(text);
        (
            split.reasoning.map(|r| text[r].to_string()),
            text[split.content].to_string(),
        )
    };
    assert_eq!(
        parts("plain </think> talk"),
        (None, "plain </think> talk".into()),
        "only talk about a tag"
    );
    assert_eq!(parts("<think>cut off"), (Some("cut off".into()), String::new()));
    assert_eq!(parts(" [THINK]x[/THINK]y "), (Some("x".into()), "y ".into()));
    assert_eq!(parts("<thinking>x</thinking>\ny"), (Some("x".into()), "y".into()));
    assert_eq!(parts("<reasoning> is a tag"), (None, "<reasoning> is a tag".into()));
    assert_eq!(parts(""), (None, String::new()));
    // An answer that never left its reasoning is no answer.
    assert_eq!(rejected(INLINE.replace("\\n</think>\\n\\na", "")), "empty-answer");
}

#[test]
fn simple_shapes() {
    let row = one(SHAREGPT);
    assert_eq!(row.format, Format::ShareGpt);
    assert_eq!(
        spoken(&row),
        [
            (Role::System, "s", false),
            (Role::User, "hi", false),
            (Role::Assistant, "hello", true)
        ]
    );
    let calls = r#"{"conversations":[{"from":"human","value":"w"},{"from":"function_call","value":"{\"name\":\"f\",\"arguments\":{\"a\":1}}"},{"from":"observation","value":"2"},{"from":"gpt","value":"two"}],"tools":"[{\"name\":\"f\"}]"}"#;
    let row = one(calls);
    assert_eq!(row.turns[1].tool_calls[0].arguments, json!({"a": 1}));
    assert_eq!((row.turns[1].content.as_str(), row.turns[2].role), ("", Role::Tool));
    assert_eq!(row.tools, Some(json!([{"name": "f"}])));

    let row = one(ALPACA);
    assert_eq!(
        spoken(&row),
        [(Role::User, "Translate\n\nchat", false), (Role::Assistant, "cat", true)]
    );
    let history = r#"{"instruction":"c","input":"","output":"d","system":"s","history":[["a","b"]]}"#;
    assert_eq!(
        one(history)
            .turns
            .iter()
            .map(|t| t.content.as_str())
            .collect::<String>(),
        "sabcd"
    );

    let row = one(COMPLETION);
    assert_eq!((row.format, row.layout), (Format::PromptCompletion, Layout::Chat));
    assert_eq!(
        spoken(&row),
        [
            (Role::User, "Capital of France?", false),
            (Role::Assistant, "Paris.", true)
        ]
    );
    let lists = r#"{"prompt":[{"role":"user","content":"a"}],"completion":[{"role":"assistant","content":"b"}]}"#;
    assert_eq!(
        spoken(&one(lists)),
        [(Role::User, "a", false), (Role::Assistant, "b", true)]
    );

    let row = one(TEXT);
    assert_eq!((row.format, row.layout), (Format::Text, Layout::Plain));
    assert_eq!(spoken(&row), [(Role::Assistant, "raw", true)]);

    let generations = r#"{"problem":"p","generations":["x","<think>t</think>y"],"correctness_math_verify":[false,true],"is_reasoning_complete":[true,true],"messages":[]}"#;
    let row = one(generations);
    assert_eq!((row.format, row.turns[1].content.as_str()), (Format::Generations, "y"));
    assert_eq!(
        rejected(generations.replace("[false,true]", "[false,false]")),
        "unverified"
    );

    // A prompt alone is nothing to train on, and all that a student needs who answers himself.
    let prompt = r#"{"prompt":[{"role":"user","content":"a"}]}"#;
    assert_eq!(rejected(prompt), "nothing-to-train");
    let options = Options {
        keep_prompts: true,
        ..Options::default()
    };
    let (rows, _) = read(prompt.as_bytes(), options).unwrap();
    assert_eq!(spoken(&rows[0]), [(Role::User, "a", false)]);
}

#[test]
fn batches_join_in_either_order() {
    let joined = |first: &str, second: &str| {
        let mut importer = Importer::new(Options::default());
        let mut rows = importer.push(first.as_bytes()).unwrap();
        rows.extend(importer.end_file().unwrap());
        rows.extend(importer.push(second.as_bytes()).unwrap());
        rows.extend(importer.end_file().unwrap());
        (rows, importer.finish())
    };
    let (rows, report) = joined(REQUEST, OUTPUT);
    assert_eq!((rows.len(), report.rejected), (1, 0));
    let row = &rows[0];
    assert_eq!(
        (row.format, row.labels, row.file),
        (Format::Batch, Some(Labels::OpenAi), 1)
    );
    assert_eq!(row.custom_id.as_deref(), Some("r1"));
    assert_eq!(spoken(row), [(Role::User, "2+2?", false), (Role::Assistant, "4", true)]);
    let teacher = row.teacher.as_ref().unwrap();
    assert_eq!(told(teacher, 0), r#""4" -0.01: "4" -0.01, "5" -5.10"#);
    assert_eq!(spelled(row), [(1, Part::Content, "4".into())]);

    let (other_way, _) = joined(OUTPUT, REQUEST);
    assert_eq!(other_way[0].file, 0, "a joined row stands where its output stands");
    assert_eq!((&other_way[0].turns, &other_way[0].teacher), (&row.turns, &row.teacher));

    // Halves that stay alone, a teacher's error, a repeated request.
    let failed = r#"{"custom_id":"r2","response":{"status_code":429,"body":{}},"error":null}"#;
    let request_2 = REQUEST.replace("r1", "r2");
    let text = [
        OUTPUT.replace("r1", "r9").as_str(),
        REQUEST,
        REQUEST,
        failed,
        &request_2,
    ]
    .join("\n");
    let (rows, report) = all(text);
    assert!(rows.is_empty());
    let listed: Vec<_> = report.listed.iter().map(|l| (l.line, l.code)).collect();
    assert_eq!(
        listed,
        [
            (3, "duplicate-id"),
            (4, "teacher-failed"),
            (1, "unasked"),
            (2, "unanswered")
        ]
    );

    // What waits is bounded.
    let options = Options {
        max_pending: 4000,
        ..Options::default()
    };
    let many: Vec<_> = (0..50).map(|i| OUTPUT.replace("r1", &format!("n{i}"))).collect();
    let (_, report) = read(many.join("\n").as_bytes(), options).unwrap();
    assert_eq!(
        report.reasons["pending-full"].count + report.reasons["unasked"].count,
        50
    );

    // Anthropic's batches.
    let ask = r#"{"custom_id":"x","params":{"system":"s","messages":[{"role":"user","content":"q"}],"max_tokens":9}}"#;
    let told = r#"{"custom_id":"x","result":{"type":"succeeded","message":{"role":"assistant","content":[{"type":"thinking","thinking":"t"},{"type":"text","text":"a"}],"stop_reason":"max_tokens"}}}"#;
    let (rows, _) = all([ask, told].join("\n"));
    assert_eq!(
        (rows[0].turns[2].content.as_str(), rows[0].turns[2].ended),
        ("a", false)
    );
    assert_eq!(rows[0].notes, [Note::CutShort]);
}

#[test]
fn responses_beside_their_requests() {
    let response = json!({"model": "big", "temperature": 0.7, "logprobs": true, "messages": [{"role": "user", "content": "q"}], "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "one"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "two"}, "finish_reason": "length", "logprobs": {"content": [
            {"token": "two", "bytes": [116, 119, 111], "logprob": -0.5, "top_logprobs": []},
            {"token": "<|im_end|>", "bytes": null, "logprob": -0.1, "top_logprobs": []}]}}]});
    let (rows, report) = all(response.to_string());
    assert_eq!((rows.len(), report.rejected), (2, 0));
    assert_eq!(rows[0].format, Format::ChatResponse);
    assert!(rows[0].teacher.is_none() && rows[0].turns[1].ended && !rows[1].turns[1].ended);
    let teacher = rows[1].teacher.as_ref().unwrap();
    assert_eq!(
        (teacher.model.as_deref(), teacher.temperature),
        (Some("big"), Some(0.7))
    );
    assert_eq!(
        spelled(&rows[1]),
        [(1, Part::Content, "two".into())],
        "the end token is nobody's content"
    );
    assert_eq!(
        told(teacher, 0),
        r#""two" -0.50: "two" -0.50"#,
        "a token is among its own alternatives"
    );

    let mut alone = response.clone();
    alone.as_object_mut().unwrap().remove("messages");
    assert_eq!(rejected(alone.to_string()), "no-prompt");
    let wrapped = json!({"request": {"messages": response["messages"]}, "response": {"body": alone}});
    assert_eq!(all(wrapped.to_string()).0.len(), 2);

    // Reasoning is among the tokens, in tags, and is a part of its own in the turn.
    let tokens = ["<think>", "\nhm", "\n</think>", "\n\n", "ye", "s"];
    let content: Vec<_> = tokens
        .iter()
        .map(|t| json!({"token": t, "logprob": -0.5, "top_logprobs": []}))
        .collect();
    for (said, thought) in [("<think>\nhm\n</think>\n\nyes", Value::Null), ("yes", json!("hm"))] {
        let row = one(
            json!({"messages": [{"role": "user", "content": "q"}], "choices": [{"message": {"content": said, "reasoning_content": thought}, "logprobs": {"content": content}}]})
                .to_string(),
        );
        assert_eq!(
            spelled(&row),
            [(1, Part::Reasoning, "hm".into()), (1, Part::Content, "yes".into())]
        );
    }

    // A text completion that repeats its prompt.
    let echo = r#"{"prompt":"a","choices":[{"text":"a b","logprobs":{"tokens":["a"," b"],"token_logprobs":[null,-0.1],"top_logprobs":[null,{" b":-0.1," c":-3.0}],"text_offset":[0,1]}}]}"#;
    let row = one(echo);
    assert_eq!(
        (row.format, row.layout, row.labels),
        (Format::TextResponse, Layout::Plain, Some(Labels::Completions))
    );
    assert_eq!(spoken(&row), [(Role::User, "a", false), (Role::Assistant, " b", true)]);
    assert_eq!(spelled(&row), [(1, Part::Content, " b".into())]);
    assert_eq!(
        told(row.teacher.as_ref().unwrap(), 1),
        r#"" b" -0.10: " b" -0.10, " c" -3.00"#
    );
}

#[test]
fn engines() {
    let row = one(VLLM);
    assert_eq!(
        (row.format, row.layout, row.labels),
        (Format::Vllm, Layout::Tokens, Some(Labels::Vllm))
    );
    let teacher = row.teacher.as_ref().unwrap();
    assert_eq!(
        (teacher.placement, teacher.len(), row.turns[0].content.as_str()),
        (Placement::Row, 3, "ac")
    );
    assert_eq!(
        (0..3).map(|t| teacher.token(t).id).collect::<Vec<_>>(),
        [Some(1), Some(2), Some(3)]
    );
    assert_eq!(told(teacher, 1), r##"#2"a" -0.20: #2"a" -0.20, #9"b" -1.90"##);
    assert_eq!(row.notes, [Note::LabelsByIdOnly]);
    assert_eq!(check_ids(teacher, 10), Ok(()));
    assert_eq!(check_ids(teacher, 9), Err(Reason::UnknownId { id: 9, vocabulary: 9 }));
    assert_eq!(rejected(VLLM.replace("[1,2,3]", "[1,2]")), "counts");

    // A conversation that vLLM only weighed: the answer is found in the text as the template wrote it.
    let score = |id: u32, text: &str| json!({id.to_string(): {"logprob": -0.5, "rank": 1, "decoded_token": text}});
    let pieces = ["<s>", "user\n", "q", "<e>", "assistant\n", "an", "swer", "<e>"];
    let mut scores: Vec<_> = (0..).zip(pieces).map(|(id, text)| score(id, text)).collect();
    scores[0] = Value::Null;
    let weighed = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "answer"}], "prompt_logprobs": scores, "prompt_token_ids": [0, 1, 2, 3, 4, 5, 6, 7],
        "choices": [{"message": {"role": "assistant", "content": "noise"}, "logprobs": null}]});
    let row = one(weighed.to_string());
    assert_eq!(spelled(&row), [(1, Part::Content, "answer".into())]);
    assert_eq!(spoken(&row)[1], (Role::Assistant, "answer", true));

    // Of several answers each is found in its place, though the last one's text stands in the first prompt too.
    let pieces = ["<s>", "is it 5?\n", "<a>", "n", "o", "<u>", "then?", "<a>", "5", "<e>"];
    let scores: Vec<_> = (0..).zip(pieces).map(|(id, text)| score(id, text)).collect();
    let chat = [
        ("user", "is it 5?"),
        ("assistant", "no"),
        ("user", "then?"),
        ("assistant", "5"),
    ];
    let chat: Vec<_> = chat
        .iter()
        .map(|(role, content)| json!({"role": role, "content": content}))
        .collect();
    let row = one(json!({"messages": chat, "prompt_logprobs": scores}).to_string());
    assert_eq!(
        spelled(&row),
        [(1, Part::Content, "no".into()), (3, Part::Content, "5".into())]
    );
    assert_eq!(row.labels, Some(Labels::Vllm));

    // The entries of `content` without the object around them.
    let bare = r#"{"prompt":"q","completion":"ab","logprobs":[{"token":"ab","logprob":-0.5,"top_logprobs":[{"token":"ab","logprob":-0.5},{"token":"c","logprob":-2.0}]}]}"#;
    let row = one(bare);
    assert_eq!(
        told(row.teacher.as_ref().unwrap(), 0),
        r#""ab" -0.50: "ab" -0.50, "c" -2.00"#
    );
    assert_eq!(row.labels, Some(Labels::OpenAi));

    let row = one(SGLANG);
    assert_eq!(
        (row.format, row.layout, row.labels),
        (Format::Sglang, Layout::Plain, Some(Labels::Sglang))
    );
    let teacher = row.teacher.as_ref().unwrap();
    assert_eq!(
        (teacher.placement, told(teacher, 0).as_str()),
        (Placement::Answer, ": #3 -0.10")
    );
    let texts = r#"{"text":"x y","meta_info":{"finish_reason":{"type":"length"},"output_token_logprobs":[[-0.1,3,"x"],[-0.2,4," y"]],"output_top_logprobs":[[[-0.1,3,"x"],[-3.0,5,"z"]],[[-0.2,4," y"]]]}}"#;
    let row = one(texts);
    assert_eq!(spelled(&row), [(0, Part::Content, "x y".into())]);
    assert!(!row.turns[0].ended);
    assert_eq!(rejected(texts.replace(r#",[[-0.2,4," y"]]]"#, "]")), "counts");

    for line in [AXOLOTL_1, AXOLOTL_2] {
        let row = one(line);
        let teacher = row.teacher.as_ref().unwrap();
        assert_eq!((row.format, teacher.placement), (Format::Messages, Placement::RowEnd));
        assert_eq!(told(teacher, 0), ": #19 -0.01, #20 -5.10");
    }
    assert_eq!(one(AXOLOTL_1).labels, Some(Labels::AxolotlV1));
    assert_eq!(one(AXOLOTL_2).labels, Some(Labels::AxolotlV2));
    assert_eq!(rejected(AXOLOTL_2.replace("[[19,20]]", "[[19]]")), "counts");
    assert_eq!(rejected(AXOLOTL_2.replace("[[19,20]]", "[[19,20],[1,2]]")), "counts");

    let row = one(LLAMA);
    assert_eq!(
        (row.format, row.labels),
        (Format::LlamaServer, Some(Labels::LlamaServer))
    );
    let teacher = row.teacher.as_ref().unwrap();
    assert_eq!(teacher.temperature, Some(0.5));
    assert_eq!(
        told(teacher, 0),
        r##"#12366" Paris" -0.25: #12366" Paris" -0.25, #264" a" -2.50"##
    );
    assert_eq!(row.notes, [Note::CutShort]);
    // Probabilities behind the sampler, in the newer and in the oldest form.
    let sampled = r#"{"content":"ab","prompt":"<|im_start|>user","probs":[{"token":"a","prob":0.5,"top_probs":[{"token":"a","prob":0.5},{"token":"z","prob":0.0}]},{"content":"b","probs":[{"tok_str":"c","prob":0.75},{"tok_str":"b","prob":0.25}]}]}"#;
    let row = one(sampled);
    let teacher = row.teacher.as_ref().unwrap();
    assert!(teacher.after_sampling);
    assert_eq!(
        told(teacher, 0),
        r#""a" -0.69: "a" -0.69"#,
        "a probability of 0 is no alternative"
    );
    assert_eq!(told(teacher, 1), r#""b" -1.39: "c" -0.29, "b" -1.39"#);
    assert_eq!(row.notes, [Note::TemplateInPrompt, Note::LabelsAfterSampling]);
}

// --- bad rows --------------------------------------------------------------------------------------------------------------

#[test]
fn bad_rows_have_a_reason() {
    let chat = |content: &str| {
        format!(r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":{content}}}]}}"#)
    };
    let soft = |tokens: &str| format!(r#"{{"prompt":"q","completion":"ab","logprobs":{{"content":[{tokens}]}}}}"#);
    for (line, code) in [
        ("{SECRET", "not-json"),
        ("\"SECRET\"", "not-object"),
        (r#"{"SECRET":1}"#, "unknown-shape"),
        (r#"{"messages":[{"role":"SECRET","content":"x"}]}"#, "unknown-role"),
        (r#"{"messages":[{"content":"x"}]}"#, "bad-field"),
        (r#"{"messages":"SECRET"}"#, "bad-field"),
        (
            r#"{"messages":[{"role":"assistant","content":"a"},{"role":"user","content":"b"}]}"#,
            "role-order",
        ),
        (
            r#"{"messages":[{"role":"user","content":"a"},{"role":"tool","content":"b"},{"role":"assistant","content":"c"}]}"#,
            "role-order",
        ),
        (&chat("\" \\n\""), "empty-answer"),
        (&chat("null"), "empty-answer"),
        (&chat("null,\"refusal\":\"SECRET\""), "refusal"),
        (&chat("5"), "bad-field"),
        (&chat("\"a\",\"weight\":2"), "bad-field"),
        (
            &soft(r#"{"token":"ab","logprob":0.01,"top_logprobs":[]}"#),
            "logprob-over-zero",
        ),
        (
            &soft(
                r#"{"token":"ab","logprob":-1,"top_logprobs":[{"token":"ab","logprob":-0.1},{"token":"c","logprob":-0.2}]}"#,
            ),
            "mass-over-one",
        ),
        (&soft(r#"{"token":"ab","logprob":NaN,"top_logprobs":[]}"#), "not-finite"),
        (
            &soft(r#"{"token":"ab","logprob":-1e999,"top_logprobs":[]}"#),
            "not-finite",
        ),
        (&soft(r#"{"token":"ab","logprob":"-1","top_logprobs":[]}"#), "bad-field"),
        (&soft(r#"{"token":"ab","logprob":-1,"bytes":[97,256]}"#), "not-bytes"),
        (&soft(r#"{"token":"xy","logprob":-1}"#), "not-spelled"),
        (&soft(r#"{"token":"abc","logprob":-1}"#), "not-spelled"),
        (&soft(r#"{"token":"ab","logprob":-1,"bytes":[97,99]}"#), "not-spelled"),
        (
            r#"{"prompt":"q","completion":"ab","logprobs":{"tokens":["a","b"],"token_logprobs":[-1]}}"#,
            "counts",
        ),
    ] {
        let (rows, report) = all(line);
        assert!(rows.is_empty() && report.rejected == 1, "{line}: {rows:#?}");
        let listed = &report.listed[0];
        assert_eq!(listed.code, code, "{line}: {}", listed.sentence);
        assert!(
            listed.sentence.ends_with('.') && !listed.sentence.contains("SECRET"),
            "{}",
            listed.sentence
        );
        // A bad row costs its neighbours nothing.
        let (rows, report) = all(format!("{MESSAGES}\n{line}\n{TEXT}\n"));
        assert_eq!((rows.len(), report.rejected, report.listed[0].line), (2, 1, 2));
    }
    // A thousandth above 0 is rounding.
    let row = one(soft(r#"{"token":"ab","logprob":0.0005,"top_logprobs":[]}"#));
    assert_eq!(row.teacher.unwrap().token(0).logprob, Some(0.0));
    // What a line looks like.
    for (line, looks) in [
        ("<html></html>", Looks::Html),
        ("prompt,completion", Looks::Table),
        ("# c", Looks::Comment),
        ("{'a':1}", Looks::SingleQuotes),
        ("{\"a\":NaN}", Looks::NotFinite),
        ("{\"a\":-Infinity}", Looks::NotFinite),
        ("{\"a\":1e999}", Looks::NotFinite),
        ("{\"a\":\"\u{1}\"}", Looks::ControlCharacter),
        ("{\"a\":1,}", Looks::TrailingComma),
        ("{\"a\":1}{\"b\":2}", Looks::Several),
        ("{\"a\":", Looks::Unfinished),
        ("hello", Looks::Text),
    ] {
        let sentence = all(line).1.listed[0].sentence.clone();
        let expected = |column| Reason::NotJson { looks, column }.to_string();
        assert!((0..20).any(|column| expected(column) == sentence), "{line}: {sentence}");
    }
}

#[test]
fn whole_files_that_are_no_text() {
    let utf16: Vec<u8> = MESSAGES.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, word) in [
        ([b"\xff\xfe".to_vec(), utf16.clone()].concat(), "UTF-16"),
        (utf16, "UTF-16"),
        (b"\x1f\x8b\x08\x00....".to_vec(), "gzip"),
        (b"PK\x03\x04....".to_vec(), "zip"),
        (b"PAR1....".to_vec(), "Parquet"),
        (b"GGUF....".to_vec(), "GGUF"),
        (vec![0; 100], "binary"),
    ] {
        let mut importer = Importer::new(Options::default());
        let (first, rest) = bytes.split_at(3);
        assert_eq!(importer.push(first), Ok(vec![]));
        let error = importer.push(rest).unwrap_err();
        assert!(
            matches!(&error, Error::Malformed { what } if what.contains(word)),
            "{error}"
        );
        // The rest of it is passed over; the next file is another matter.
        assert_eq!(importer.push(MESSAGES.as_bytes()), Ok(vec![]));
        assert_eq!(importer.end_file(), Ok(vec![]));
        assert!(importer.report().sentences().iter().any(|s| s.contains(word)));
        assert!(importer.push(MESSAGES.as_bytes()).unwrap().is_empty());
        assert_eq!(importer.end_file().unwrap().len(), 1);
    }
    assert_eq!(all("").1.sentences(), ["There are no rows: the file is empty."]);
    assert_eq!(all("x").1.rejected, 1, "a file of one byte is a line");
}

/// What the manifest's sentence means: how many rows, how many rejections.
fn outcome(name: &str, expect: &str) -> (std::ops::RangeInclusive<usize>, std::ops::RangeInclusive<usize>) {
    match name {
        // Rows that help nobody are rejected with the sentence that the manifest calls a warning. The tokens of 58 are bytes
        // of another text than its answer.
        "29-empty-content" | "56-logprobs-token-text-mismatch" | "58-logprobs-partial-utf8" => return (0..=0, 1..=1),
        // A lone carriage return ends no line.
        "05-cr-only" => return (0..=0, 1..=1),
        "14-json-array-file" => return (2..=2, 0..=0),
        "46-csv" => return (0..=0, 2..=2),
        "27-two-systems-mid" | "55-logprobs-len-mismatch" => return (1..=1, 0..=0),
        "15-pretty-printed" => return (0..=0, 2..=100),
        "44-comments" => return (1..=1, 2..=2),
        "08-bad-utf8" => return (1..=1, 1..=1),
        "31-content-parts" | "33-special-token-injection" => return (1..=1, 0..=0),
        "35-duplicate-keys" | "57-logprobs-dup-tokens" | "28-consecutive-same-role" => return (1..=1, 0..=0),
        _ => {}
    }
    let number = expect.split_whitespace().next().and_then(|n| n.parse::<usize>().ok());
    match number {
        Some(rows) if expect.contains("row") => (rows..=rows, if expect.contains("error") { 0..=1 } else { 0..=0 }),
        Some(errors) => (0..=0, errors..=errors),
        None if expect.starts_with("error") || expect.starts_with("clear error") => (0..=0, 1..=1),
        None => (0..=usize::MAX, 0..=usize::MAX),
    }
}

#[test]
fn hostile_traces_end_as_the_manifest_says() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("hostile_traces_end_as_the_manifest_says");
    };
    let manifest: serde_json::Map<String, Value> =
        serde_json::from_slice(&std::fs::read(kit.join("hostile/manifest.json")).unwrap()).unwrap();
    let mut tried = 0;
    for (path, bytes) in kit::untar(&kit::unxz(&kit.join("hostile/jsonl.tar.xz"))) {
        let file = path.rsplit('/').next().unwrap();
        let Some(entry) = manifest.get(&format!("jsonl/{file}")) else {
            continue;
        };
        let (name, expect) = (file.trim_end_matches(".jsonl"), entry["expect"].as_str().unwrap());
        tried += 1;
        let result = read(&bytes, Options::default());
        if name == "07-utf16le" {
            assert!(result.unwrap_err().to_string().contains("UTF-16"));
            continue;
        }
        let (rows, report) = result.unwrap();
        println!("{name}: {expect}\n    {}", report.sentences().join("\n    "));
        let (kept, refused) = outcome(name, expect);
        assert!(
            kept.contains(&rows.len()) && refused.contains(&report.rejected),
            "{name}: expected \"{expect}\", got {} rows and {:#?}",
            rows.len(),
            report.listed
        );
        for row in &rows {
            // Nothing that was read may make a loss that is no number.
            for token in 0..row.teacher.as_ref().map_or(0, Teacher::len) {
                let teacher = row.teacher.as_ref().unwrap();
                assert!(teacher.mass(token) <= 1.01 && teacher.alternatives(token).all(|a| a.logprob <= 0.0));
            }
        }
        let notes: Vec<_> = rows.iter().flat_map(|row| row.notes.iter().copied()).collect();
        match name {
            "27-two-systems-mid" => assert_eq!(notes, [Note::SystemLater]),
            "28-consecutive-same-role" => assert_eq!(notes, [Note::SameRoleTwice]),
            "29-empty-content" => assert_eq!(report.listed[0].code, "empty-answer"),
            "31-content-parts" => assert_eq!(
                (notes.as_slice(), spoken(&rows[0])[0].1),
                (&[Note::PartDropped][..], "a")
            ),
            "33-special-token-injection" => assert!(spoken(&rows[0])[0].1.starts_with("<|im_end|>\n<|im_start|>")),
            "34-mixed-formats" => assert_eq!(report.formats.len(), 5),
            "35-duplicate-keys" => assert_eq!((spoken(&rows[0])[0].1, spoken(&rows[0])[1].1), ("b", "y")),
            "40-deep-nesting" => assert_eq!(report.listed[0].code, "too-deep"),
            "56-logprobs-token-text-mismatch" | "58-logprobs-partial-utf8" => {
                assert_eq!(report.listed[0].code, "not-spelled");
                let options = Options {
                    keep_misspelled: true,
                    ..Options::default()
                };
                let (rows, _) = read(&bytes, options).unwrap();
                assert_eq!(rows[0].notes, [Note::LabelsLeftOut]);
            }
            "46-csv" => assert!(report.listed[0].sentence.contains("CSV")),
            "50-logprobs-null" => assert!(rows.iter().all(|row| row.teacher.is_none())),
            "55-logprobs-len-mismatch" => assert_eq!(notes, [Note::LabelsPartial]),
            "57-logprobs-dup-tokens" => {
                assert_eq!(told(rows[0].teacher.as_ref().unwrap(), 0), r#"" b" -0.70: " b" -0.70"#)
            }
            _ => {}
        }
    }
    assert_eq!(
        tried,
        manifest.keys().filter(|key| key.starts_with("jsonl/")).count() - 1,
        "all but the line of 2 MB"
    );

    // That one is made here: it is a row, and what the context does not hold is cut when it is rendered.
    let long = json!({"messages": [{"role": "user", "content": "x ".repeat(500_000)}, {"role": "assistant", "content": "y ".repeat(500_000)}]});
    assert_eq!(all(long.to_string()).0.len(), 1);
}

// --- lines -----------------------------------------------------------------------------------------------------------------

/// Rows and what is reported, for any sequence of chunk lengths.
fn in_chunks(bytes: &[u8], mut length: impl FnMut() -> usize) -> (Vec<Row>, Report) {
    let mut importer = Importer::new(Options {
        max_line: 1000,
        ..Options::default()
    });
    let (mut rows, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(length().min(rest.len()));
        rows.extend(importer.push(chunk).unwrap());
        rest = behind;
    }
    rows.extend(importer.end_file().unwrap());
    (rows, importer.finish())
}

#[test]
fn any_cut_of_the_bytes_gives_the_same() {
    let long = format!("{{\"text\":\"{}\"}}", "long ".repeat(300));
    let lines = format!(
        "\u{feff}\r\n  {}\r\n\n{{broken\n{long}\nüñ\u{2028}\n{MESSAGES}",
        FIXTURES.join("\r\n")
    );
    let array = format!(" \n[{MESSAGES},\n {INLINE}, [1, {{\"]\": \"}}\\\"\"}}], {long}, ] x");
    for text in [lines, array] {
        let whole = in_chunks(text.as_bytes(), || usize::MAX);
        assert!(whole.0.len() >= 2 && whole.1.rejected >= 2, "{:#?}", whole.1);
        assert_eq!(in_chunks(text.as_bytes(), || 1), whole);
        for cut in 1..text.len() {
            let mut chunks = [cut, usize::MAX].into_iter();
            assert_eq!(
                in_chunks(text.as_bytes(), || chunks.next().unwrap()),
                whole,
                "cut at {cut}"
            );
        }
        let mut dice = Dice(7);
        for _ in 0..100 {
            assert_eq!(in_chunks(text.as_bytes(), || 1 + dice.below(40)), whole);
        }
    }
}

#[test]
fn lines_and_elements_are_numbered() {
    let pieces = |text: &str, cap: usize| {
        let mut out = Vec::new();
        let mut splitter = Splitter::new(cap);
        let mut each = |piece: Piece<'_>| {
            out.push(match piece {
                Piece::Line { number, bytes } => format!("{number} {}", String::from_utf8_lossy(bytes)),
                Piece::TooLong { number, bytes } => format!("{number} of {bytes}"),
                Piece::AfterArray { number } => format!("behind {number}"),
            });
        };
        splitter.push(text.as_bytes(), &mut each).unwrap();
        splitter.finish(&mut each).unwrap();
        (out, splitter.is_array())
    };
    let lines = |list: &[&str]| (list.iter().map(|s| s.to_string()).collect::<Vec<_>>(), false);
    assert_eq!(pieces("a\n\r\n b \r\nc", 9), lines(&["1 a", "3 b", "4 c"]));
    assert_eq!(
        pieces("\n\n  abc\nabcdefghij\nd", 9),
        lines(&["3 abc", "4 of 10", "5 d"])
    );
    assert_eq!(pieces("a\u{2028}b", 9), lines(&["1 a\u{2028}b"]), "U+2028 ends no line");
    let elements = |list: &[&str]| (list.iter().map(|s| s.to_string()).collect::<Vec<_>>(), true);
    assert_eq!(
        pieces("[1, [2,3] ,{\"a\":\"],\\\"\"}]\n", 20),
        elements(&["1 1", "2 [2,3]", "3 {\"a\":\"],\\\"\"}"])
    );
    assert_eq!(pieces("[]", 9), elements(&[]));
    assert_eq!(
        pieces("[1,\"0123456789\",3] x y", 9),
        elements(&["1 1", "2 of 12", "3 3", "behind 3"])
    );
    assert_eq!(
        pieces("[1,{\"a\"", 9),
        elements(&["1 1", "2 {\"a\""]),
        "an array that was cut off"
    );
}

#[test]
fn a_long_line_is_rejected_without_being_held() {
    let chunk = "lorem ipsum ".repeat(87_382);
    let mut importer = Importer::new(Options::default());
    let mut rows = importer.push(MESSAGES.as_bytes()).unwrap();
    rows.extend(
        importer
            .push(b"\n{\"messages\":[{\"role\":\"user\",\"content\":\"")
            .unwrap(),
    );
    let mut most = 0;
    for _ in 0..100 {
        rows.extend(importer.push(chunk.as_bytes()).unwrap());
        most = most.max(importer.capacity());
    }
    rows.extend(
        importer
            .push(b"\"},{\"role\":\"assistant\",\"content\":\"ok\"}]}\n")
            .unwrap(),
    );
    rows.extend(importer.push(MESSAGES.as_bytes()).unwrap());
    rows.extend(importer.end_file().unwrap());
    assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3]);
    let report = importer.finish();
    assert_eq!((report.listed[0].line, report.listed[0].code), (2, "too-long"));
    assert!(most <= 33 << 20, "{most} bytes were held of a line of 100 MB");
}

// --- hostile bytes -----------------------------------------------------------------------------------------------------------

/// The most memory that this process has had, where the system says so.
fn peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? << 10)
}

#[test]
fn a_hostile_line_takes_a_small_multiple_of_its_length() {
    const LENGTH: usize = 4 << 20;
    let before = peak();
    let repeat = |head: &str, body: &str, tail: &str| format!("{head}{}{tail}", body.repeat(LENGTH / body.len()));
    for line in [
        repeat("{\"text\":[0", ",0", "]}"),
        repeat("{\"text\":[[]", ",[]", "]}"),
        repeat("{\"text\":{\"\":0", ",\"\":0", "}}"),
        repeat(
            "{\"messages\":[{\"role\":\"user\",\"content\":\"\"}",
            ",{\"role\":\"user\"}",
            "]}",
        ),
        repeat("{\"prompt\":\"a\",\"completion\":\"b\",\"tools\":[0", ",0", "]}"),
        repeat(
            "{\"text\":\"a\",\"meta_info\":{\"output_top_logprobs\":[[[-9,0]",
            ",[-9,0]",
            "]]}}",
        ),
        repeat(
            "{\"text\":\"a\",\"target_token_ids\":[[0",
            ",0",
            "]],\"logprobs\":[[-9]]}",
        ),
        repeat(
            "{\"text\":\"a\",\"logprobs\":{\"content\":[{\"token\":\"a\",\"bytes\":[97",
            ",97",
            "]}]}}",
        ),
        repeat("{\"text\":\"", "\\n", "\"}"),
        repeat(
            "{\"text\":\"a\",\"logprobs\":{\"content\":[{\"token\":\"a\"}",
            ",{\"token\":\"\u{fffd}\"}",
            "]}}",
        ),
    ] {
        let mut importer = Importer::new(Options::default());
        importer.push(line.as_bytes()).unwrap();
        let rows = importer.end_file().unwrap();
        let held = rows.iter().map(Row::size).sum::<usize>() + importer.capacity();
        assert!(held <= 40 * LENGTH, "{}… became {} MiB", &line[..50], held >> 20);
        drop(importer);
        match (before, peak()) {
            (Some(before), Some(after)) => {
                println!(
                    "{}… took {:.1} times its length",
                    &line[..50],
                    (after - before) as f64 / LENGTH as f64
                );
                assert!(
                    after - before <= 40 * LENGTH,
                    "{}… took {} MiB",
                    &line[..50],
                    (after - before) >> 20
                );
            }
            _ => eprintln!("SKIP the peak of memory: this system does not tell it"),
        }
    }
}

#[test]
fn mutated_traces_never_panic() {
    let seed = FIXTURES.join("\n").into_bytes();
    let array = format!("[{}]", FIXTURES.join(",")).into_bytes();
    let spice: [&[u8]; 16] = [
        b"{", b"}", b"[", b"]", b"\"", b",", b":", b"null", b"-1e308", b"\\u0000", b"\xff", b"\n", b"0", b"true",
        b"\\", b"<think>",
    ];
    let mut dice = Dice(20_261_124);
    let (mut kept, mut refused) = (0, 0);
    for round in 0..3000 {
        let mut bytes = if round % 4 == 0 { array.clone() } else { seed.clone() };
        for _ in 0..1 + dice.below(12) {
            let at = dice.below(bytes.len());
            match dice.below(5) {
                0 => bytes[at] = dice.below(256) as u8,
                1 => {
                    bytes.remove(at);
                }
                2 => {
                    bytes.splice(at..at, spice[dice.below(spice.len())].iter().copied());
                }
                3 => {
                    let to = (at + dice.below(40)).min(bytes.len());
                    bytes.drain(at..to);
                }
                _ => {
                    let from = dice.below(bytes.len());
                    let piece = bytes[from..(from + dice.below(60)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        let mut importer = Importer::new(Options::default());
        let mut rows = Vec::new();
        for chunk in bytes.chunks(1 + dice.below(4000)) {
            match importer.push(chunk) {
                Ok(more) => rows.extend(more),
                Err(error) => assert!(!error.hint().is_empty()),
            }
        }
        rows.extend(importer.end_file().unwrap_or_default());
        let held = rows.iter().map(Row::size).sum::<usize>() + importer.capacity();
        assert!(held <= 30 * bytes.len() + 4096, "{held} bytes of {}", bytes.len());
        for row in &rows {
            let _ = (row.fingerprint(), format!("{:?}", row.notes));
            assert!(row.trained().count() > 0 && row.turns.last().unwrap().train);
            if let Some(teacher) = &row.teacher {
                for span in &teacher.spans {
                    let turn = &row.turns[span.turn];
                    let part = match span.part {
                        Part::Content => turn.content.as_bytes(),
                        Part::Reasoning => turn.reasoning.as_deref().unwrap().as_bytes(),
                    };
                    assert!(
                        part.starts_with(&teacher.text()[span.bytes.clone()]),
                        "a span spells its part"
                    );
                }
                assert!((0..teacher.len()).all(|token| teacher.mass(token) <= 1.01));
            }
        }
        let report = importer.finish();
        serde_json::to_string(&report).unwrap();
        (kept, refused) = (kept + report.rows, refused + report.rejected);
    }
    println!("{kept} rows kept, {refused} rejected");
    assert!(kept > 10_000 && refused > 1000);
}

// --- what teachers spell ---------------------------------------------------------------------------------------------------

/// A row whose answer is spelled by tokens with bytes.
fn soft_row(said: &str, tokens: &[(&str, Option<&[u8]>)]) -> String {
    let content: Vec<_> = tokens
        .iter()
        .map(|(token, bytes)| json!({"token": token, "bytes": bytes, "logprob": -0.5, "top_logprobs": [{"token": token, "bytes": bytes, "logprob": -0.5}]}))
        .collect();
    json!({"prompt": "q", "completion": said, "logprobs": {"content": content}}).to_string()
}

#[test]
fn damaged_characters_are_found_in_the_answer() {
    // "a€b" where an engine shows U+FFFD for the halves of the euro sign, also in its bytes.
    let broken = "\u{fffd}".as_bytes();
    for bytes in [None, Some(broken)] {
        let row = one(soft_row(
            "a€b",
            &[("a", None), ("\u{fffd}", bytes), ("\u{fffd}", bytes), ("b", None)],
        ));
        let teacher = row.teacher.as_ref().unwrap();
        assert_eq!(spelled(&row), [(1, Part::Content, "a€b".into())]);
        assert_eq!(
            teacher.pieces(),
            [&b"a"[..], b"", "€".as_bytes(), b"b"],
            "the last half has all of it"
        );
        let euro = ["a", "€", "b"];
        let ids = [1, 2, 3];
        let map = ByteMap::new([(1, "a"), (2, "€"), (3, "b")]);
        let student = Student {
            ids: &ids,
            pieces: &euro,
        };
        let out = align(teacher, 0..5, &student, 0..5, &map);
        assert!(matches!(&out.targets[1], Target::Chunk { tokens, logprob } if *tokens == (1..2) && *logprob == -1.0));
        assert_eq!((out.tally.soft, out.tally.chunked), (2, 1));
    }
    // Real bytes of halves need no repair.
    let row = one(soft_row(
        "€",
        &[("\u{fffd}", Some(&[226, 130])), ("\u{fffd}", Some(&[172]))],
    ));
    assert_eq!(row.teacher.unwrap().pieces(), [&[226, 130][..], &[172]]);
    // What cannot be found is left out, and the text is kept.
    let row = one(soft_row("other", &[("a", None), ("\u{fffd}", None)]));
    assert_eq!((row.teacher, row.notes), (None, vec![Note::LabelsLeftOut]));
    // An answer of one real U+FFFD.
    let row = one(soft_row("\u{fffd}", &[("\u{fffd}", None)]));
    assert_eq!(row.teacher.unwrap().pieces(), [broken]);
}

// --- alignment --------------------------------------------------------------------------------------------------------------

/// All groups by definition: between neighbours of the offsets at which both sides have a boundary.
fn groups_by_definition(teacher: &[Vec<u8>], student: &[Vec<u8>]) -> Vec<Group> {
    let starts = |pieces: &[Vec<u8>]| -> Vec<usize> {
        (0..=pieces.len())
            .map(|n| pieces[..n].iter().map(Vec::len).sum())
            .collect()
    };
    let (a, b) = (starts(teacher), starts(student));
    let length = *a.last().unwrap();
    let common: Vec<usize> = (0..=length).filter(|at| a.contains(at) && b.contains(at)).collect();
    let within = |starts: &[usize], from: usize, to: usize| {
        let tokens: Vec<usize> = (0..starts.len() - 1)
            .filter(|t| (from..to).contains(&starts[*t]))
            .collect();
        *tokens.first().unwrap()..*tokens.last().unwrap() + 1
    };
    common
        .windows(2)
        .map(|pair| Group {
            teacher: within(&a, pair[0], pair[1]),
            student: within(&b, pair[0], pair[1]),
        })
        .collect()
}

#[test]
fn groups_are_those_of_the_definition() {
    let mut dice = Dice(3);
    for round in 0..20_000 {
        let text: Vec<u8> = (0..1 + dice.below(12)).map(|_| b'a' + dice.below(3) as u8).collect();
        let mut cut = || {
            let (mut pieces, mut rest) = (Vec::new(), text.as_slice());
            while !rest.is_empty() {
                // Tokens without bytes exist; not behind the end, where they would be in no group.
                let (piece, behind) = rest.split_at(dice.below(5).min(rest.len()));
                pieces.push(piece.to_vec());
                rest = behind;
            }
            pieces
        };
        let (teacher, student) = (cut(), cut());
        let all = |pieces: &[Vec<u8>]| Cuts::of(pieces, 0..text.len());
        let found = groups(&all(&teacher), &all(&student));
        assert_eq!(
            found,
            groups_by_definition(&teacher, &student),
            "round {round}: {teacher:?} {student:?}"
        );
        // Every token is in one group, and each group spells the same on both sides.
        assert_eq!(found.iter().map(|g| g.teacher.len()).sum::<usize>(), teacher.len());
        for group in found {
            assert_eq!(teacher[group.teacher].concat(), student[group.student].concat());
        }
    }
    // Windows: what reaches over an edge is left out.
    let cuts = Cuts::of(&["ab", "cd", "ef", ""], 1..6);
    assert_eq!((cuts.first, cuts.bounds), (1, vec![1, 3, 5]));
    let cuts = Cuts::of(&["ab", "cd"], 1..3);
    assert!(cuts.bounds.is_empty());
}

#[test]
fn groups_become_targets() {
    // Teacher: "he" "llo" " wor" "ld" ; student: "hello" " wor" "l" "d" and an end token beyond.
    let content = json!([
        {"token": "he", "logprob": -0.5, "top_logprobs": []},
        {"token": "llo", "logprob": -0.25, "top_logprobs": []},
        {"token": " wor", "logprob": -0.1, "top_logprobs": [{"token": " wor", "logprob": -0.1}, {"token": " x", "logprob": -3.0}, {"token": "??", "logprob": -4.0}]},
        {"token": "ld", "logprob": -0.125, "top_logprobs": []}]);
    let row = one(json!({"prompt": "q", "completion": "hello world", "logprobs": {"content": content}}).to_string());
    let teacher = row.teacher.as_ref().unwrap();
    let vocabulary = ["hello", " wor", "l", "d", " x", " wor"];
    let map = ByteMap::new((0..).zip(vocabulary));
    assert_eq!(
        (map.len(), map.id(b" wor"), map.id(b"he")),
        (5, Some(1), None),
        "the lowest id counts"
    );
    // The student's own tokens stand behind a prompt of three bytes.
    let pieces = ["<s>", "hello", " wor", "l", "d", "<e>"];
    let ids = [9, 0, 5, 2, 3, 8];
    let student = Student {
        ids: &ids,
        pieces: &pieces,
    };
    let span = teacher.spans[0].bytes.clone();
    let out = align(teacher, span.clone(), &student, 3..14, &map);
    let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
    let [
        Target::Chunk {
            tokens: chunk,
            logprob: first,
        },
        Target::Soft {
            token: 2,
            ids: soft,
            logprobs,
        },
        Target::Chunk {
            tokens: last,
            logprob: second,
        },
    ] = out.targets.as_slice()
    else {
        panic!("{:#?}", out.targets);
    };
    assert!(
        close(f64::from(*first), -0.75) && close(f64::from(*second), -0.125) && *chunk == (1..2) && *last == (3..5)
    );
    assert_eq!(
        (soft.as_slice(), logprobs.as_slice()),
        (&[4, 5][..], &[-3.0, -0.1][..]),
        "the chosen id of two"
    );
    assert_eq!((out.tally.soft, out.tally.chunked, out.tally.hard), (1, 3, 0));
    assert!(close(out.tally.unmapped(), (-4.0f64).exp()), "{}", out.tally.unmapped());

    // Less than half of the mass is mapped: plain cross-entropy.
    let poor = content.to_string().replace("-0.1}", "-0.8}").replace("-0.1,", "-0.8,");
    let row = one(format!(
        r#"{{"prompt":"q","completion":"hello world","logprobs":{{"content":{poor}}}}}"#
    ));
    let out = align(row.teacher.as_ref().unwrap(), span.clone(), &student, 3..14, &map);
    assert!(
        matches!(&out.targets[1], Target::Hard { tokens } if *tokens == (2..3)),
        "{:#?}",
        out.targets
    );

    // Another text under the same offsets, a teacher who ended early, and no teacher's token at all.
    let other = Student {
        ids: &ids,
        pieces: &["<s>", "hxllo", " wor", "l", "d", "<e>"],
    };
    let out = align(teacher, span, &other, 3..14, &map);
    assert!(matches!(&out.targets[0], Target::Hard { tokens } if *tokens == (1..2)));
    let out = align(teacher, 0..5, &student, 3..14, &map);
    assert_eq!(out.targets.len(), 2);
    assert!(matches!(&out.targets[1], Target::Hard { tokens } if *tokens == (2..5)));
    let hard = align(teacher, 0..0, &student, 3..14, &map);
    assert!(matches!(hard.targets.as_slice(), [Target::Hard { tokens }] if *tokens == (1..5)));
}

/// Every student token within the window is in exactly one target, whatever the two sides hold.
#[test]
fn targets_have_no_gaps() {
    let mut dice = Dice(11);
    let row = one(soft_row(
        "abcabcab",
        &[("ab", None), ("c", None), ("a", None), ("bca", None), ("b", None)],
    ));
    let teacher = row.teacher.as_ref().unwrap();
    let map = ByteMap::new([(0, "a"), (1, "b"), (2, "c"), (3, "ab")]);
    for _ in 0..2000 {
        let pieces: Vec<Vec<u8>> = (0..dice.below(10))
            .map(|_| b"abcabcab"[..dice.below(4)].to_vec())
            .collect();
        let ids = vec![7; pieces.len()];
        let student = Student {
            ids: &ids,
            pieces: &pieces,
        };
        let total: usize = pieces.iter().map(Vec::len).sum();
        let start = dice.below(total + 1);
        let window = start..start + dice.below(total + 1 - start);
        let (from, to) = (dice.below(8), dice.below(9));
        let out: Aligned = align(teacher, from..to.max(from), &student, window.clone(), &map);
        let mut tokens = Vec::new();
        for target in &out.targets {
            match target {
                Target::Soft { token, .. } => tokens.push(*token),
                Target::Chunk { tokens: range, .. } | Target::Hard { tokens: range } => tokens.extend(range.clone()),
            }
        }
        let ours = Cuts::of(&pieces, window);
        let expected: Vec<usize> = (ours.first..).take(ours.bounds.len().saturating_sub(1)).collect();
        assert_eq!(tokens, expected);
        assert_eq!(out.tally.soft + out.tally.chunked + out.tally.hard, tokens.len());
    }
}

#[test]
fn the_same_tokenizer_aligns_by_id() {
    let row = one(VLLM);
    let teacher = row.teacher.as_ref().unwrap();
    let out = align_ids(teacher, 1..3, &[2, 7], 9).unwrap();
    assert!(
        matches!(&out.targets[0], Target::Soft { token: 0, ids, .. } if ids == &[2]),
        "id 9 is beyond the vocabulary: {:#?}",
        out.targets
    );
    assert!(
        matches!(&out.targets[1], Target::Hard { .. }),
        "another token than the teacher's"
    );
    assert_eq!(align_ids(teacher, 1..3, &[2], 9), None);
}

// --- the report -----------------------------------------------------------------------------------------------------------

#[test]
fn the_report_says_what_was_read() {
    let text = format!(
        "{}\n{{broken\n{}\n{}",
        FIXTURES.join("\n"),
        json!({"prompt": "Which planet is the largest planet?", "completion": "Jupiter. ".repeat(10)}),
        json!({"prompt": "Name a planet with rings; das Größte. 木星是", "completion": "Saturn"})
    );
    let (rows, report) = all(text);
    assert_eq!((report.lines, report.rows, report.rejected), (18, 16, 1));
    assert_eq!(rows.len(), 16);
    assert_eq!(report.formats[&Format::Messages], 6);
    assert_eq!(report.labels.values().sum::<usize>(), 6);
    assert_eq!(report.files.len(), 1);
    assert_eq!(
        (report.files[0].format(), report.files[0].is_array),
        (Some(Format::Messages), false)
    );
    assert_eq!((report.turns.tool, report.turns.trained), (1, 17));
    assert_eq!((report.reasons["not-json"].count, report.listed[0].line), (1, 16));
    assert_eq!((report.soft.rows, report.soft.rows_by_id), (6, 4));
    assert_eq!(report.soft.covered_bytes, 1 + 6, "the batch's 4 and the server's Paris");
    let picture = report.picture(3);
    assert_eq!(picture.words.len(), 3);
    let words = report.picture(100).words;
    assert!(
        words.contains(&("planet".to_string(), 2)),
        "prompts are counted, not mentions: {words:?}"
    );
    assert!(
        words.contains(&("größte".to_string(), 1)) && words.contains(&("木星".to_string(), 1)),
        "{words:?}"
    );
    assert!(!words.iter().any(|(word, _)| word == "the" || word == "which"));
    assert_eq!(picture.answers.iter().map(|bin| bin.rows).sum::<usize>(), 16);
    assert_eq!(
        (picture.answers[0].from, picture.answers[0].to, picture.answers[0].rows),
        (0, 32, 15)
    );
    assert_eq!(
        (picture.answers.last().unwrap().from, picture.answers.last().unwrap().to),
        (64, 128)
    );
    assert_eq!(report.sentences()[0], "16 rows read, 1 row rejected.");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(
        (&json["formats"]["share-gpt"], &json["soft"]["rows"]),
        (&json!(1), &json!(6))
    );
    // A million bad lines are counted, a few hundred listed.
    let (_, report) = all("{\n".repeat(100_000));
    assert_eq!((report.rejected, report.listed.len()), (100_000, 200));
}
