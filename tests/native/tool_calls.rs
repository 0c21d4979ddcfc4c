//! Calls of tools in answers: every way of writing, any cut of the stream, and what only looks like a call.

use serde_json::{Value, json};
use understudy::text::tool_calls::{ToolCall, ToolCalls};

fn tools() -> Value {
    json!([
        { "type": "function", "function": { "name": "get_weather", "parameters": { "properties": {
            "place": { "type": "string" }, "days": { "type": "integer" } } } } },
        { "type": "function", "function": { "name": "now", "parameters": {} } },
    ])
}

/// Pushes `text` in pieces of `size` characters.
fn read(text: &str, size: usize) -> (String, Vec<ToolCall>) {
    let mut parser = ToolCalls::new(&tools());
    let (mut content, mut calls) = (String::new(), Vec::new());
    let characters: Vec<char> = text.chars().collect();
    for piece in characters.chunks(size) {
        let delta = parser.push(&piece.iter().collect::<String>());
        content.push_str(&delta.content);
        calls.extend(delta.calls);
    }
    let delta = parser.finish();
    content.push_str(&delta.content);
    calls.extend(delta.calls);
    (content, calls)
}

/// The same for any cut.
fn read_all(text: &str) -> (String, Vec<ToolCall>) {
    let whole = read(text, usize::MAX >> 1);
    for size in [1, 2, 3, 5, 8, 13] {
        assert_eq!(read(text, size), whole, "{text:?} by {size}");
    }
    whole
}

#[test]
fn every_way_of_writing_is_read() {
    /// What is written, what of it is content, and the calls in it.
    type Case<'t> = (&'t str, &'t str, &'t [(&'t str, Value)]);
    let weather = json!({ "place": "Bern", "days": 3 });
    let one: &[(&str, Value)] = &[("get_weather", weather.clone())];
    let two: &[(&str, Value)] = &[("get_weather", weather.clone()), ("now", json!({}))];
    let cases: [Case; 30] = [
        (
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Bern\", \"days\": 3}}\n</tool_call>",
            "",
            one,
        ),
        (
            "I look.\n<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Bern\", \"days\": 3}}</tool_call>\n<tool_call>{\"name\": \"now\"}</tool_call>\n",
            "I look.",
            two,
        ),
        (
            "<tool_call>{\"name\": \"get_weather\", \"arguments\": \"{\\\"place\\\": \\\"Bern\\\", \\\"days\\\": 3}\"}</tool_call>",
            "",
            one,
        ),
        // The end is missing, the call is whole.
        (
            "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Bern\", \"days\": 3}}",
            "",
            one,
        ),
        (
            "<tool_call>\n<function=get_weather>\n<parameter=place>\nBern\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
            "",
            one,
        ),
        (
            "<function=get_weather><parameter=place>Bern</parameter><parameter=days>3</parameter></function>",
            "",
            one,
        ),
        (
            "<function=get_weather>{\"place\": \"Bern\", \"days\": 3}</function>",
            "",
            one,
        ),
        (
            "{\"name\": \"get_weather\", \"parameters\": {\"place\": \"Bern\", \"days\": 3}}",
            "",
            one,
        ),
        (
            "\n {\"type\": \"function\", \"name\": \"get_weather\", \"parameters\": {\"place\": \"Bern\", \"days\": 3}} ",
            "",
            one,
        ),
        (
            "{\"function\": {\"name\": \"get_weather\", \"arguments\": {\"place\": \"Bern\", \"days\": 3}}}",
            "",
            one,
        ),
        (
            "<|python_tag|>{\"name\": \"get_weather\", \"parameters\": {\"place\": \"Bern\", \"days\": 3}}",
            "",
            one,
        ),
        (
            "<|python_tag|>{\"name\": \"get_weather\", \"parameters\": {\"place\": \"Bern\", \"days\": 3}}; {\"name\": \"now\", \"parameters\": {}}",
            "",
            two,
        ),
        ("<|python_tag|>get_weather.call(place=\"Bern\", days=3)", "", one),
        (
            "[TOOL_CALLS] [{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Bern\", \"days\": 3}}]",
            "",
            one,
        ),
        (
            "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Bern\", \"days\": 3}}, {\"name\": \"now\", \"arguments\": {}}]",
            "",
            two,
        ),
        (
            "[TOOL_CALLS]get_weather[ARGS]{\"place\": \"Bern\", \"days\": 3}",
            "",
            one,
        ),
        (
            "[TOOL_CALLS]get_weather[ARGS]{\"place\": \"Bern\", \"days\": 3}[TOOL_CALLS]now[ARGS]{}",
            "",
            two,
        ),
        (
            "<|tool_call_start|>[get_weather(place=\"Bern\", days=3)]<|tool_call_end|>",
            "",
            one,
        ),
        (
            "<|tool_call_start|>[get_weather(place='Bern', days=3), now()]<|tool_call_end|>Let me see.",
            "Let me see.",
            two,
        ),
        (
            "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Bern\", \"days\": 3}}]",
            "",
            one,
        ),
        (
            "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Bern\", \"days\": 3}}]<|/tool_call|>",
            "",
            one,
        ),
        (
            "Sure.\n```tool_code\nget_weather(place=\"Bern\", days=3)\n```",
            "Sure.",
            one,
        ),
        (
            "```tool_code\nprint(get_weather(place=\"Bern\", days=3))\n```\n",
            "",
            one,
        ),
        (
            "```tool_call\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Bern\", \"days\": 3}}\n```",
            "",
            one,
        ),
        (
            "<start_function_call>call:get_weather{place:<escape>Bern<escape>,days:3}<end_function_call>",
            "",
            one,
        ),
        (
            "<|tool_call>call:get_weather{place:<|\"|>Bern<|\"|>,days:3}<tool_call|>",
            "",
            one,
        ),
        (
            "Sure.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"place\": \"Bern\", \"days\": 3}<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "Sure.",
            two,
        ),
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"place\": \"Bern\", \"days\": 3}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "",
            two,
        ),
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"place\": \"Bern\", \"days\": 3}",
            "",
            one,
        ),
        (
            "<function_calls>get_weather(place=\"Bern\", days=3)\nnow()</function_calls>",
            "",
            two,
        ),
    ];
    for (text, content, expected) in cases {
        let (said, calls) = read_all(text);
        assert_eq!(said, content, "{text}");
        let read: Vec<(&str, Value)> = calls
            .iter()
            .map(|call| (call.name.as_str(), serde_json::from_str(&call.arguments).unwrap()))
            .collect();
        assert_eq!(read, expected, "{text}");
        for (i, call) in calls.iter().enumerate() {
            assert_eq!(call.id, format!("call{i:05}"));
        }
    }
}

#[test]
fn the_shape_is_that_of_chat_completions() {
    let (_, calls) = read_all(
        "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {\"b\": 1, \"a\": [true, null]}, \"id\": \"abcdefghi\"}]",
    );
    assert_eq!(
        calls[0].to_json(),
        json!({ "id": "abcdefghi", "type": "function",
            "function": { "name": "now", "arguments": "{\"b\":1,\"a\":[true,null]}" } })
    );
}

#[test]
fn arguments_of_every_kind_come_through() {
    let (_, calls) = read_all(
        "<|tool_call_start|>[f(a=-1.5e3, b=[1, 'x', (2, None)], c={'k': True, \"m\": {}}, d=\"q\\\"\\n\\u00e9\\\\\", e='''it's''')]<|tool_call_end|>",
    );
    assert_eq!(
        serde_json::from_str::<Value>(&calls[0].arguments).unwrap(),
        json!({ "a": -1500.0, "b": [1, "x", [2, null]], "c": { "k": true, "m": {} }, "d": "q\"\né\\", "e": "it's" })
    );
    // Where the way of writing has no quotes, the definition tells texts from numbers.
    let (_, calls) = read_all(
        "<tool_call><function=get_weather><parameter=place>\n3\n</parameter><parameter=days>3</parameter>\
         <parameter=other>{\"a\": [1]}</parameter><parameter=more>line\nline</parameter></function></tool_call>",
    );
    assert_eq!(
        serde_json::from_str::<Value>(&calls[0].arguments).unwrap(),
        json!({ "place": "3", "days": 3, "other": { "a": [1] }, "more": "line\nline" })
    );
    // The end of a call inside of a text is not its end.
    let (content, calls) =
        read_all("<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": \"</tool_call> \\\" ]}\"}}</tool_call>!");
    assert_eq!((content.as_str(), calls.len()), ("!", 1));
}

#[test]
fn what_only_looks_like_a_call_is_text() {
    for text in [
        "",
        "  plain words  \n",
        "a < b, a <tool, <tool_cal and [TOOL_CALL] or ```tool\ncode",
        "<tool_call>not json</tool_call> and on",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": {",
        "<tool_call>",
        "<tool_call><function=f><parameter=a>1</function></tool_call>",
        "<function=",
        "{\"title\": \"a\", \"name\": 1}",
        "{\"name\": \"Ada\", \"age\": 36}",
        "{\"name\": \"unknown_tool\", \"parameters\": {}}",
        "{}",
        "{",
        "Here: {\"name\": \"now\", \"parameters\": {}}",
        "[TOOL_CALLS] are marks",
        "[TOOL_CALLS][1, 2]",
        "<|tool_call|>soon",
        "<|tool_call_start|>f(1)<|tool_call_end|>",
        "<|tool_call_start|>[f(a=)]<|tool_call_end|>",
        "<|python_tag|>import math\nprint(math.pi)",
        "```tool_code\nimport os\n```",
        "```tool_code\nunknown(a=1)\n```",
        "```python\nnow()\n```",
        "<start_function_call>call:now{a:}<end_function_call>",
        "<｜tool▁calls▁begin｜>now<｜tool▁calls▁end｜>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>3<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>",
        "<|tool_call_start|>[f(a=[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    ] {
        let (content, calls) = read_all(text);
        assert_eq!(content, text);
        assert!(calls.is_empty(), "{text}");
    }
    // A call behind what looked like one.
    let (content, calls) = read_all("<tool_call>oops <tool_call>{\"name\": \"now\"}</tool_call>");
    assert_eq!((content.as_str(), calls.len()), ("<tool_call>oops", 1));
}

#[test]
fn text_is_not_held_back_without_need() {
    let mut parser = ToolCalls::new(&tools());
    assert_eq!(parser.push("Hello there").content, "Hello there");
    assert_eq!(parser.push(" <").content, "");
    assert_eq!(parser.push("b> and").content, " <b> and");
    assert_eq!(parser.push(" {\"name\"").content, " {\"name\"");
    // Plain JSON is known by its first key.
    let mut parser = ToolCalls::new(&tools());
    assert_eq!(parser.push("{\"n").content, "");
    assert_eq!(parser.push("o\": 1").content, "{\"no\": 1");
}

#[test]
fn any_cut_of_any_mix_gives_the_same() {
    let words = [
        "<tool_call>",
        "</tool_call>",
        "{\"name\": \"now\", \"arguments\": {}}",
        "{",
        "}",
        "\"",
        "\\",
        "[TOOL_CALLS]",
        "[",
        "]",
        "<function=now>",
        "</function>",
        "<parameter=a>",
        "</parameter>",
        "<|tool_call_start|>",
        "<|tool_call_end|>",
        "now(a=1)",
        "<|tool_call|>",
        "<|/tool_call|>",
        "```tool_code\n",
        "\n```",
        "<|python_tag|>",
        " ",
        "\n",
        "word",
        "é🙂",
        "<",
        "call:now{a:1}",
        "<|tool_call>",
        "<tool_call|>",
        "<escape>",
        "\"name\": \"now\"",
        "[ARGS]{}",
        "now",
    ];
    let mut state = 5u32;
    let mut draw = |n: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % n
    };
    let mut found = 0;
    for _ in 0..4000 {
        let text: String = (0..1 + draw(9)).map(|_| words[draw(words.len())]).collect();
        let (content, calls) = read_all(&text);
        found += calls.len();
        // Nothing is made up, and only calls and white space beside them are taken away.
        assert!(content.len() <= text.len());
        if calls.is_empty() && !text.contains("<|/tool_call|>") {
            assert_eq!(content, text);
        }
    }
    assert!(found > 50, "{found} calls");
}
