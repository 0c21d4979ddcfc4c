//! Chat templates against Jinja2's own answers (`tests/data/templates`), and templates that mean harm.

use serde_json::Value;
use std::path::Path;
use understudy::error::Error;
use understudy::text::template::{RenderOptions, Template};

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/templates")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

/// What the templates are told: options of ours, and names that only some of them know.
fn options(told: &Value, date: &str) -> RenderOptions {
    let mut options = RenderOptions {
        date: Some(date.into()),
        ..RenderOptions::default()
    };
    for (name, value) in told.as_object().unwrap() {
        match name.as_str() {
            "add_generation_prompt" => options.add_generation_prompt = value.as_bool().unwrap(),
            "enable_thinking" => options.enable_thinking = value.as_bool(),
            "tools" => options.tools = Some(value.clone()),
            _ => {
                options.names.insert(name.clone(), value.clone());
            }
        }
    }
    options
}

#[test]
fn templates_write_what_jinja2_writes() {
    let cases: Value = serde_json::from_str(&data("cases.json")).unwrap();
    let date = cases["date"].as_str().unwrap();
    let (mut written, mut refused) = (0, 0);
    let mut failures = Vec::new();
    for case in cases["cases"].as_array().unwrap() {
        let (name, chat) = (case["template"].as_str().unwrap(), case["chat"].as_str().unwrap());
        let template = Template::from_source(&data(&format!("{name}.jinja")), "<s>", "</s>");
        let messages = cases["chats"][chat].as_array().unwrap();
        let options = options(&case["options"], date);
        match (template.render_json(messages, &options), case["prompt"].as_str()) {
            (Ok(text), Some(prompt)) if text == prompt => written += 1,
            (Err(Error::Template { what }), None) => {
                // What a template refuses in its own words comes through; Python's errors are in ours.
                match case["refusal"].as_str() {
                    Some(own) => assert_eq!(what, own),
                    None => assert!(what.starts_with("line "), "{what}"),
                }
                refused += 1;
            }
            (Ok(text), Some(prompt)) => {
                let at = text.bytes().zip(prompt.bytes()).take_while(|(a, b)| a == b).count();
                let around = |s: &str| {
                    String::from_utf8_lossy(&s.as_bytes()[at.saturating_sub(60)..s.len().min(at + 60)]).into_owned()
                };
                failures.push(format!(
                    "{name} on {chat}:\n  {:?}\n  {:?}",
                    around(&text),
                    around(prompt)
                ));
            }
            (result, prompt) => failures.push(format!("{name} on {chat}: {result:?}, not {prompt:?}")),
        }
    }
    println!("{written} prompts are the same, {refused} are refused as they should be");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(written + refused >= 80);
}
