//! Any text as a chat template, on a chat with reasoning and a call.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use understudy::text::template::{RenderOptions, Template};

fuzz_target!(|source: &str| {
    let messages = [
        json!({ "role": "system", "content": "Be kind." }),
        json!({ "role": "user", "content": "What is the time?" }),
        json!({ "role": "assistant", "content": null, "reasoning_content": "I look.", "tool_calls": [
            { "id": "call00000", "type": "function", "function": { "name": "now", "arguments": { "zone": "UTC", "n": [1, 2.5] } } }
        ] }),
        json!({ "role": "tool", "content": "noon", "tool_call_id": "call00000" }),
    ];
    let options = RenderOptions {
        add_generation_prompt: true,
        enable_thinking: Some(true),
        tools: Some(json!([{ "type": "function", "function": { "name": "now", "parameters": {} } }])),
        date: Some("2026-11-24".into()),
        ..RenderOptions::default()
    };
    let _ = Template::from_source(source, "<s>", "</s>").render_json(&messages, &options);
});
