//! Tools in requests: what is refused, what templates show, and calls that are read out of answers or forced.

use crate::kit;
use crate::student::{answer, bundled, devices, open, user};
use serde_json::{Value, json};
use std::path::Path;
use understudy::error::Error;
use understudy::format::gguf::Value as Entry;
use understudy::format::source::Bytes;
use understudy::format::{Gguf, Writer};
use understudy::model::Sampling;
use understudy::student::{Event, Finish, Prompt, Request, Student};
use understudy::text::grammar::Format;
use understudy::text::template::{RenderOptions, Template};
use understudy::text::tools::{self, ToolChoice, Tools};

fn template(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/templates/{name}.jinja"));
    std::fs::read_to_string(path).unwrap()
}

/// The bundled student with another chat template.
fn with_template(source: &str) -> Vec<u8> {
    let file = bundled();
    let gguf = Gguf::from_bytes(&file).unwrap();
    let mut copy = Writer::new();
    for (key, value) in gguf.metadata.iter() {
        copy.set(key, value.clone());
    }
    copy.set("tokenizer.chat_template", Entry::String(source.into()));
    for tensor in &gguf.tensors {
        let bytes = file[tensor.offset as usize..][..tensor.bytes as usize].to_vec();
        copy.tensor(&tensor.name, &tensor.shape, tensor.block_type().unwrap(), bytes);
    }
    copy.to_bytes()
}

fn definitions() -> Value {
    json!([
        { "type": "function", "function": { "name": "get_weather", "description": "The weather.", "parameters": {
            "type": "object", "properties": { "place": { "enum": ["Bern", "Oslo"] }, "days": { "type": "integer", "minimum": 1, "maximum": 9 } },
            "required": ["place", "days"], "additionalProperties": false } } },
        { "type": "function", "function": { "name": "now" } },
    ])
}

fn tools(choice: Value) -> Option<Tools> {
    Tools::from_json(&definitions(), &choice).unwrap()
}

fn request(messages: Vec<Value>, choice: Value) -> Request {
    Request {
        prompt: Prompt::Json(tools::messages(&messages).unwrap()),
        tools: tools(choice),
        sampling: Sampling::GREEDY,
        max_tokens: Some(60),
        ..Request::chat(Vec::new())
    }
}

fn question() -> Vec<Value> {
    vec![json!({ "role": "user", "content": "What is the weather in Bern?" })]
}

#[test]
fn tools_and_choices_are_read_or_refused() {
    assert_eq!(Tools::from_json(&Value::Null, &Value::Null), Ok(None));
    assert_eq!(Tools::from_json(&json!([]), &json!("none")), Ok(None));
    assert_eq!(Tools::from_json(&definitions(), &json!("none")), Ok(None));
    let choice = |choice: Value| tools(choice).unwrap().choice;
    assert_eq!(choice(Value::Null), ToolChoice::Auto);
    assert_eq!(choice(json!("required")), ToolChoice::Required);
    let named = json!({ "type": "function", "function": { "name": "now" } });
    assert_eq!(choice(named.clone()), ToolChoice::Named("now".into()));
    let one = |tool: Value| json!([tool]);
    for (list, choice, word) in [
        (json!({}), Value::Null, "list"),
        (one(json!({ "type": "function" })), Value::Null, "name"),
        (
            one(json!({ "type": "web_search", "function": { "name": "f" } })),
            Value::Null,
            "function",
        ),
        (
            one(json!({ "function": { "name": "two words" } })),
            Value::Null,
            "letters",
        ),
        (
            one(json!({ "function": { "name": "f", "parameters": [] } })),
            Value::Null,
            "Schema",
        ),
        (json!([definitions()[1], definitions()[1]]), Value::Null, "same name"),
        (
            json!(vec![json!({ "function": { "name": "f" } }); 129]),
            Value::Null,
            "128",
        ),
        (definitions(), json!("always"), "tool_choice"),
        (definitions(), json!({ "function": { "name": "g" } }), "tool_choice"),
        (json!([]), json!("required"), "tool_choice"),
        (json!([]), named, "tool_choice"),
    ] {
        let Err(Error::Request { what }) = Tools::from_json(&list, &choice) else {
            panic!("{list} {choice} is no request")
        };
        assert!(what.contains(word), "{what}");
    }
}

#[test]
fn messages_are_read_or_refused() {
    let call = json!({ "id": "call00000", "type": "function", "function": { "name": "now", "arguments": "{\"zone\": \"CET\"}" } });
    let read = tools::messages(&[
        json!({ "role": "assistant", "content": null, "tool_calls": [call] }),
        json!({ "role": "tool", "tool_call_id": "call00000", "content": "noon" }),
    ])
    .unwrap();
    assert_eq!(read[0]["content"], "");
    assert_eq!(
        read[0]["tool_calls"][0]["function"]["arguments"],
        json!({ "zone": "CET" })
    );
    assert_eq!(
        read[1],
        json!({ "role": "tool", "content": "noon", "tool_call_id": "call00000" })
    );
    assert_eq!(tools::count(&read), 1);
    for (message, word) in [
        (json!({ "role": "robot", "content": "Hi" }), "role"),
        (json!({ "role": "user" }), "content"),
        (json!({ "role": "assistant", "content": null }), "content"),
        (json!({ "role": "tool", "content": "noon" }), "tool_call_id"),
        (
            json!({ "role": "user", "content": "", "tool_calls": [call] }),
            "assistant",
        ),
        (json!({ "role": "assistant", "tool_calls": [{}] }), "function.name"),
        (
            json!({ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": "[1]" } }] }),
            "object",
        ),
        (
            json!({ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": "{" } }] }),
            "object",
        ),
    ] {
        let Err(Error::Request { what }) = tools::messages(std::slice::from_ref(&message)) else {
            panic!("{message} is no message")
        };
        assert!(what.contains(word), "{what}");
    }
}

#[test]
fn a_template_that_leaves_tools_out_is_said_so() {
    let mut student = open(bundled(), None);
    let error = pollster::block_on(student.generate(&request(question(), Value::Null), |_| false)).unwrap_err();
    assert_eq!(error.code(), "bad-request");
    assert!(error.to_string().contains("leaves tools out"), "{error}");
    let call = json!({ "id": "a", "type": "function", "function": { "name": "now", "arguments": "{}" } });
    let mut chat = question();
    chat.push(json!({ "role": "assistant", "content": "I look.", "tool_calls": [call] }));
    chat.push(json!({ "role": "user", "content": "And?" }));
    let error = pollster::block_on(student.generate(&request(chat, json!("none")), |_| false)).unwrap_err();
    assert!(error.to_string().contains("leaves calls of tools out"), "{error}");
    // A template of roles and contents alone shows what tools answered.
    let plain = Template::from_source(
        "{% for m in messages if m.role != 'tool' %}{{ m.content }}{% endfor %}",
        "",
        "",
    );
    let result = json!({ "role": "tool", "content": "noon", "tool_call_id": "a" });
    let error = tools::render(&plain, &[result], &RenderOptions::default()).unwrap_err();
    assert!(error.to_string().contains("what tools answered"), "{error}");
}

#[test]
fn calls_are_written_as_the_template_wants_their_arguments() {
    let call =
        json!({ "id": "call00000", "type": "function", "function": { "name": "now", "arguments": { "zone": "CET" } } });
    let chat = tools::messages(&[
        json!({ "role": "user", "content": "What time is it?" }),
        json!({ "role": "assistant", "content": null, "tool_calls": [call] }),
        json!({ "role": "tool", "tool_call_id": "call00000", "content": "noon" }),
    ])
    .unwrap();
    let write = |source: &str| tools::render(&Template::from_source(source, "", ""), &chat, &RenderOptions::default());
    let of = |arguments: &str| {
        format!(
            "{{% for m in messages %}}{{{{ m.content }}}}{{% for c in m.tool_calls or [] %}}{{{{ {arguments} }}}}{{% endfor %}}{{% endfor %}}"
        )
    };
    for arguments in [
        // As an object, as a text that is joined, as a text that Python would print as an object.
        "c.function.arguments | tojson",
        "'' + c.function.arguments",
        "c.function.arguments",
    ] {
        let text = write(&of(arguments)).unwrap();
        let json: Value = serde_json::from_str(&text["What time is it?".len()..text.len() - "noon".len()]).unwrap();
        assert_eq!(json, json!({ "zone": "CET" }));
    }
    // A template that shows how calls are written, and takes them as part of what was said.
    let text = write("{# <tool_call> #}{% for m in messages %}[{{ m.content }}]{% endfor %}").unwrap();
    assert_eq!(
        text,
        "[What time is it?][<tool_call>\n{\"name\": \"now\", \"arguments\": {\"zone\": \"CET\"}}\n</tool_call>][noon]"
    );
    let text = write(&template("qwen3")).unwrap();
    assert!(text.contains("<tool_call>\n{\"name\": \"now\", \"arguments\": {\"zone\": \"CET\"}}\n</tool_call>"));
    assert!(text.contains("<tool_response>\nnoon\n</tool_response>"));
}

#[test]
fn calls_are_forced_where_they_are_json() {
    let tools = tools(json!("required")).unwrap();
    let forced = |name: &str| {
        let template = Template::from_source(&template(name), "<s>", "</s>");
        tools::force(&template, &tools, &RenderOptions::default())
    };
    let mut ways = Vec::new();
    for name in [
        "qwen3",
        "llama3",
        "mistral",
        "granite",
        "smollm3",
        "phi4-mini",
        "lfm2",
        "olmo",
        "qwen-coder",
        "exaone",
        "hunyuan",
        "chatml",
        "deepseek",
    ] {
        ways.push((
            name,
            forced(name)
                .map(|forced| (forced.opening, forced.closing))
                .map_err(|error| error.to_string()),
        ));
    }
    for way in &ways {
        println!("{way:?}");
    }
    let schema = forced("llama3").unwrap().schema;
    assert_eq!(
        schema["anyOf"][0]["properties"]["name"],
        json!({ "const": "get_weather" })
    );
    assert_eq!(
        schema["anyOf"][0]["properties"]["parameters"],
        definitions()[0]["function"]["parameters"]
    );
    assert_eq!(
        schema["anyOf"][1]["properties"]["parameters"],
        json!({ "type": "object" })
    );
    let opening = |name: &str| ways.iter().find(|way| way.0 == name).unwrap().1.clone().ok();
    assert_eq!(opening("qwen3"), Some(("<tool_call>\n".into(), "")));
    assert_eq!(opening("llama3"), Some((String::new(), "")));
    assert_eq!(opening("mistral"), Some(("[TOOL_CALLS] [".into(), "]")));
    for other in ["qwen-coder", "lfm2", "olmo", "deepseek", "chatml"] {
        assert_eq!(opening(other), None, "{other}");
    }
}

#[test]
fn a_forced_call_is_one_of_the_tools_with_arguments_of_its_schema() {
    let mut all = Vec::new();
    for gpu in devices("a_forced_call_is_one_of_the_tools_with_arguments_of_its_schema") {
        for name in ["qwen3", "llama3", "mistral"] {
            let mut student = open(with_template(&template(name)), gpu.as_ref());
            for choice in [
                json!("required"),
                json!({ "type": "function", "function": { "name": "get_weather" } }),
            ] {
                let named = choice.is_object();
                let request = request(question(), choice);
                let mut text = String::new();
                let answer = pollster::block_on(student.generate(&request, |event| {
                    if let Event::Text { content, .. } = event {
                        text.push_str(content);
                    }
                    false
                }))
                .unwrap();
                println!("{name}: {:?} {:?}", answer.calls, answer.finish);
                all.push(answer.ids.clone());
                let [call] = answer.calls.as_slice() else {
                    assert_eq!(
                        (answer.finish, named),
                        (Finish::Length, false),
                        "only free arguments need not end"
                    );
                    continue;
                };
                assert_eq!(
                    (answer.finish_name(), answer.content.as_str(), text.as_str()),
                    ("tool_calls", "", "")
                );
                assert_eq!(call.id, "call00000");
                let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
                if call.name == "get_weather" {
                    assert!(["Bern", "Oslo"].contains(&arguments["place"].as_str().unwrap()));
                    assert!((1..=9).contains(&arguments["days"].as_i64().unwrap()));
                } else {
                    assert!(!named && call.name == "now");
                }
            }
        }
    }
    let (cpu, gpu) = all.split_at(6);
    assert!(gpu.is_empty() || cpu == gpu, "both engines write the same");
}

#[test]
fn a_forced_call_can_be_cut_and_cannot_follow_reasoning() {
    let mut student = open(with_template(&template("qwen3")), None);
    let mut asked = request(question(), json!("required"));
    asked.max_tokens = Some(3);
    let cut = answer(&mut student, &asked);
    assert_eq!((cut.finish_name(), cut.calls.len()), ("length", 0));
    assert!(cut.content.starts_with("<tool_call>"), "{}", cut.content);
    asked.enable_thinking = Some(true);
    let error = pollster::block_on(student.generate(&asked, |_| false)).unwrap_err();
    assert!(error.to_string().contains("reasoning"), "{error}");
    let mut asked = request(question(), json!("required"));
    asked.format = Some(Format::JsonObject);
    let error = pollster::block_on(student.generate(&asked, |_| false)).unwrap_err();
    assert!(error.to_string().contains("response_format"), "{error}");
}

/// The student is made to write a text with a call in it; what is told while it grows has no part of the call.
#[test]
fn a_call_in_an_answer_is_told_apart_and_does_not_leak() {
    let mut student = open(with_template(&template("qwen3")), None);
    let call = json!({ "id": "call00000", "type": "function", "function": { "name": "now", "arguments": "{}" } });
    let mut chat = question();
    chat.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] }));
    chat.push(json!({ "role": "tool", "tool_call_id": "call00000", "content": "noon" }));
    let mut asked = request(chat, json!("auto"));
    asked.format = Some(Format::Regex(
        "I look\\. <tool_call>\\{\"name\": \"now\", \"arguments\": \\{\\}\\}</tool_call>( ok)?".into(),
    ));
    let (mut text, mut calls, mut last) = (String::new(), Vec::new(), String::new());
    let got = pollster::block_on(student.generate(&asked, |event| {
        match event {
            Event::Text { content, .. } => text.push_str(content),
            Event::Call(call) => {
                calls.push(call.clone());
                last.clone_from(&text);
            }
            _ => {}
        }
        assert!(!text.contains('<'), "{text}");
        false
    }))
    .unwrap();
    assert_eq!(
        (got.calls.as_slice(), got.content.as_str()),
        (calls.as_slice(), text.as_str())
    );
    assert_eq!((calls[0].name.as_str(), calls[0].arguments.as_str()), ("now", "{}"));
    assert_eq!((last.as_str(), calls[0].id.as_str()), ("I look.", "call00001"));
    assert_eq!(got.finish_name(), "tool_calls");
    // Without tools the same answer is text.
    asked.tools = None;
    let plain = answer(&mut student, &asked);
    assert!(plain.content.contains("<tool_call>") && plain.calls.is_empty());
}

#[test]
fn the_text_of_a_prompt_has_its_very_tokens() {
    let check = |student: &Student, prompt: Prompt, tools: Option<&Tools>| {
        let text = student.prompt_text(&prompt, tools, None, Some("2026-11-24")).unwrap();
        let (ids, _) = student.prompt_tokens(&prompt, tools, None, Some("2026-11-24")).unwrap();
        assert_eq!(student.tokenizer().encode(&text, false, true).unwrap(), ids, "{text}");
        text
    };
    let student = open(with_template(&template("qwen3")), None);
    let asked = request(question(), json!("auto"));
    let text = check(&student, asked.prompt, asked.tools.as_ref());
    assert!(
        text.contains("\"get_weather\"") && text.ends_with("<|im_start|>assistant\n"),
        "{text}"
    );
    let chat = || Prompt::Messages(vec![user("Hello!")]);
    check(&student, chat(), None);
    let Some(kit) = kit::kit_dir() else {
        kit::skip("the_text_of_a_prompt_has_its_very_tokens");
        return;
    };
    for name in ["llama32-Q8_0", "gemma2-Q8_0", "mistral-Q8_0"] {
        let file = Bytes(std::fs::read(kit.join(format!("models/{name}.gguf"))).unwrap());
        let student = pollster::block_on(Student::open(&file, None, Some(64), |_, _| Ok(()))).unwrap();
        println!("{name}: {:?}", check(&student, chat(), None));
        check(&student, Prompt::Text("Hello".into()), None);
    }
}
