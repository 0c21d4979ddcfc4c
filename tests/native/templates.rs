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

#[test]
fn templates_that_mean_harm_are_errors_within_bounds() {
    let doubling = |set: &str| format!("{{% set ns = namespace(s={set}) %}}{{% for i in range(60) %}}");
    let text = doubling("'ab'");
    let cases: Vec<String> = vec![
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ i * j }}{% endfor %}{% endfor %}".into(),
        "{{ 'x' * 10**9 }}".into(),
        "{{ ('x' * 10**6) * 10**6 }}".into(),
        "{{ ([0] * 10**5) * 10**5 }}".into(),
        "{{ [1, 2] * 9223372036854775807 }}".into(),
        "{{ range(10**12) }}".into(),
        "{{ 10 ** 30 }}".into(),
        "{{ 9223372036854775807 + 1 }}".into(),
        format!("{text}{{% set ns.s = ns.s + ns.s %}}{{% endfor %}}"),
        format!("{text}{{% set ns.s = ns.s ~ ns.s %}}{{% endfor %}}"),
        format!("{text}{{% set ns.s = [ns.s, ns.s] %}}{{% endfor %}}{{{{ ns.s }}}}"),
        format!("{text}{{% set ns.s = {{'a': ns.s, 'b': ns.s}} %}}{{% endfor %}}{{{{ ns.s | tojson }}}}"),
        format!("{}{{% set ns.s = ns.s + ns.s %}}{{% endfor %}}", doubling("[1]")),
        "{% set ns = namespace(s=[]) %}{% for i in range(99999) %}{% set ns.s = [ns.s] %}{% endfor %}".into(),
        format!("{{% set a = 'ab' %}}{}", "{% set a = a ~ a %}".repeat(60)),
        "{{ range(99999) | join('x' * 9999) }}".into(),
        "{{ ('a' * 99999).replace('a', 'b' * 9999) }}".into(),
        "{{ 'a'.ljust(10**12) }}".into(),
        "{{ 'a'.center(2**62) }}".into(),
        "{{ 'a' | center(2**62) }}".into(),
        "{{ '1'.zfill(10**15) }}".into(),
        "{{ '%999999999d' % 1 }}".into(),
        "{{ '{:>999999999}'.format(1) }}".into(),
        "{{ ('\\n' * 10**6) | indent(199, true, true) }}".into(),
        "{{ ([[[[1] * 100] * 100] * 10]) | tojson(indent=199) }}".into(),
        "{{ [1] | batch(10**12) | list }}".into(),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(),
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}".into(),
        "{% for m in [1] recursive %}{{ loop([1]) }}{% endfor %}".into(),
        format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(50_000)),
        format!("{{{{ {}1 }}}}", "1 if 0 else ".repeat(50_000)),
        "{% if 1 %}".repeat(50_000),
        "{% set l = range(99999) | list %}{% for i in range(99999) %}{{ -1 in l }}{% endfor %}".into(),
        "{% set l = range(99999) | list %}{% for i in range(99999) %}{{ (l | sort)[0] }}{% endfor %}".into(),
        "{% set a = 'a' * 9999999 %}{% for i in range(99999) %}{{ a.find('b') }}{% endfor %}".into(),
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ [ns] | tojson }}".into(),
        "{% include 'chat' %}".into(),
        "{{ messages.append(1) }}".into(),
        "{{ ''.__class__.__mro__ }}".into(),
    ];
    for source in cases {
        let shown: String = source.chars().take(60).collect();
        let template = Template::from_source(&source, "", "");
        let (result, largest) = crate::format::watch(|| template.render_json(&[], &RenderOptions::default()));
        let error = result.expect_err(&shown);
        println!("{shown}: {error}");
        assert!(
            matches!(&error, Error::Template { what } if what.starts_with("line 1: ")),
            "{shown}: {error}"
        );
        assert!(!error.hint().is_empty());
        assert!(largest <= 64 << 20, "{shown} reserved {largest} bytes");
    }
}

#[test]
fn a_failure_names_its_line() {
    for (source, line, what) in [
        (
            "a\nb\n{{ messages[0].content.nothing() }}\n",
            3,
            "has no attribute 'nothing'",
        ),
        ("{% if true %}\n\n{% for %}", 3, "unexpected the end of the tag"),
        ("\n{{ nobody.name }}", 2, "'nobody' is undefined"),
        ("\n\n\n{% endif %}", 4, "\"endif\""),
        ("{# open", 1, "no end"),
        ("\n{{ 'open }}", 2, "no closing quote"),
        ("\n{{ messages | no_such }}", 2, "the filter \"no_such\""),
        ("\n{{ messages is no_such }}", 2, "the test \"no_such\""),
        ("\n{{ 1 + 'a' }}", 2, "does not go with an int and a str"),
    ] {
        let messages = [serde_json::json!({ "role": "user", "content": "Hi" })];
        let error = Template::from_source(source, "", "").render_json(&messages, &RenderOptions::default());
        let Err(Error::Template { what: said }) = error else {
            panic!("{source}: {error:?}")
        };
        assert!(
            said.starts_with(&format!("line {line}: ")) && said.contains(what),
            "{source}: {said}"
        );
    }
}

#[test]
fn templates_tell_what_metadata_does_not() {
    let behind = |name: &str| Template::from_source(&data(&format!("{name}.jinja")), "<s>", "</s>").behind_an_answer();
    for (name, end) in [
        ("chatml", "<|im_end|>\n"),
        ("llama3", "<|eot_id|>"),
        ("qwen3", "<|im_end|>\n"),
        ("gemma", "<end_of_turn>\n"),
        ("phi3", "<|end|>\n</s>"),
        ("phi4-mini", "<|end|></s>"),
        ("mistral", "</s>"),
        ("granite", "<|end_of_text|>\n"),
        ("smollm3", "<|im_end|>\n"),
        ("lfm2", "<|im_end|>\n"),
        ("hunyuan", "<｜hy_place▁holder▁no▁2｜>"),
        ("exaone", "[|endofturn|]\n"),
        ("deepseek", "<｜end▁of▁sentence｜>"),
        ("olmo", "</s>"),
    ] {
        assert_eq!(behind(name).as_deref(), Some(end), "{name}");
    }
    let tags = |source: &str| Template::from_source(source, "", "").thinking_tags();
    assert_eq!(tags("[THINK]{{ x }}[/THINK]"), ("[THINK]", "[/THINK]"));
    assert_eq!(tags("plain"), ("<think>", "</think>"));
    assert!(Template::from_source(&data("qwen3.jinja"), "", "").thinks());
}

#[test]
fn a_file_with_odd_text_opens_with_warnings_and_answers_by_the_general_template() {
    use understudy::format::source::Bytes;
    use understudy::model::Sampling;
    use understudy::student::{Request, Student};
    use understudy::text::template::Message;

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("school/models/understudy-pip.gguf");
    let mut file = std::fs::read(path).unwrap();
    let mut change = |from: &str, to: &str| {
        let at = file
            .windows(from.len())
            .position(|part| part == from.as_bytes())
            .unwrap();
        file[at..at + to.len()].copy_from_slice(to.as_bytes());
    };
    // Values of the same length, so that nothing else moves.
    change("smollm", "smell?");
    change("endfor", "endfoo");
    let mut student = pollster::block_on(Student::open(&Bytes(file), None, None, |_, _| Ok(()))).unwrap();
    println!("{:?}", student.warnings());
    assert_eq!(student.warnings().len(), 2);
    assert!(student.warnings()[0].contains("smell?") && student.warnings()[1].contains("line "));
    let request = Request {
        sampling: Sampling::GREEDY,
        max_tokens: Some(3),
        ..Request::chat(vec![Message {
            role: "user".into(),
            content: "Hello!".into(),
            reasoning_content: None,
        }])
    };
    let error = pollster::block_on(student.generate(&request, |_| false)).unwrap_err();
    assert_eq!(error.code(), "template");
    student.use_general_template();
    let answer = pollster::block_on(student.generate(&request, |_| false)).unwrap();
    assert!(!answer.ids.is_empty() && student.template().is_default());
}
