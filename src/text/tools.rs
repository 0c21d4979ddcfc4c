//! Tools of a request in the chat-completions format: what is checked, how a template shows them, and how a call is forced.

use super::template::{RenderOptions, Template};
use super::tool_calls::{ToolCalls, is_name, mark_in_front};
use crate::error::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::io;

/// Most tools of a request.
const MAX_TOOLS: usize = 128;

/// What the student may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tools {
    /// Their definitions, `[{"type": "function", "function": {"name": .., "parameters": ..}}]`.
    pub definitions: Value,
    /// Whether it has to.
    pub choice: ToolChoice,
}

/// Whether the student has to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// It decides.
    Auto,
    /// Any of the tools.
    Required,
    /// This one.
    Named(String),
}

fn wrong(what: impl Into<String>) -> Error {
    Error::Request { what: what.into() }
}

fn name_of(definition: &Value) -> Option<&str> {
    definition.pointer("/function/name").and_then(Value::as_str)
}

impl Tools {
    /// From `tools` and `tool_choice`; `None` where there are no tools, or none may be called.
    ///
    /// Errors: [`Error::Request`].
    pub fn from_json(tools: &Value, choice: &Value) -> Result<Option<Self>> {
        let empty = Vec::new();
        let list = match tools {
            Value::Null => &empty,
            Value::Array(list) => list,
            _ => return Err(wrong("tools is a list of functions")),
        };
        if list.len() > MAX_TOOLS {
            return Err(wrong(format!("tools are at most {MAX_TOOLS}")));
        }
        let mut names = Vec::new();
        for tool in list {
            let is_function = tool.get("type").is_none_or(|kind| kind == "function");
            let Some(name) = name_of(tool).filter(|name| is_function && is_name(name)) else {
                return Err(wrong(
                    "a tool is {\"type\": \"function\", \"function\": {\"name\": .., \"parameters\": ..}}, and its name has letters, digits and _ - . only",
                ));
            };
            if tool
                .pointer("/function/parameters")
                .is_some_and(|p| !p.is_object() && !p.is_null())
            {
                return Err(wrong("the parameters of a tool are a JSON Schema, an object"));
            }
            if names.contains(&name) {
                return Err(wrong("two tools have the same name"));
            }
            names.push(name);
        }
        let choice = match choice {
            Value::Null => ToolChoice::Auto,
            Value::String(word) if word == "auto" => ToolChoice::Auto,
            Value::String(word) if word == "none" => return Ok(None),
            Value::String(word) if word == "required" => ToolChoice::Required,
            other => match name_of(other).or_else(|| other.get("name").and_then(Value::as_str)) {
                Some(name) if names.contains(&name) => ToolChoice::Named(name.into()),
                Some(_) => return Err(wrong("tool_choice names a function that is not among the tools")),
                None => {
                    return Err(wrong(
                        "tool_choice is auto, none, required or {\"type\": \"function\", \"function\": {\"name\": ..}}",
                    ));
                }
            },
        };
        if list.is_empty() {
            if choice != ToolChoice::Auto {
                return Err(wrong("tool_choice asks for a call, and there are no tools"));
            }
            return Ok(None);
        }
        Ok(Some(Self {
            definitions: tools.clone(),
            choice,
        }))
    }
}

/// Messages of the chat-completions format as templates take them: contents are texts, arguments of calls objects.
///
/// Errors: [`Error::Request`].
pub fn messages(list: &[Value]) -> Result<Vec<Value>> {
    list.iter().map(message).collect()
}

fn message(value: &Value) -> Result<Value> {
    let role = value.get("role").and_then(Value::as_str).unwrap_or_default();
    if !["system", "user", "assistant", "tool"].contains(&role) {
        return Err(wrong("the role of a message is system, user, assistant or tool"));
    }
    let calls = match value.get("tool_calls") {
        None | Some(Value::Null) => &[],
        Some(Value::Array(calls)) if role == "assistant" => calls.as_slice(),
        Some(_) => return Err(wrong("tool_calls is a list, in a message of the assistant")),
    };
    let content = match value.get("content") {
        Some(Value::String(text)) => text.as_str(),
        None | Some(Value::Null) if !calls.is_empty() => "",
        _ => return Err(wrong("a message's content is text")),
    };
    let mut message = json!({ "role": role, "content": content });
    if let Some(reasoning @ Value::String(_)) = value.get("reasoning_content") {
        message["reasoning_content"] = reasoning.clone();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.iter().map(call).collect::<Result<Value>>()?;
    }
    if role == "tool" && !value.get("tool_call_id").is_some_and(Value::is_string) {
        return Err(wrong("a message of the role tool has a tool_call_id"));
    }
    for key in ["tool_call_id", "name"] {
        if let Some(text @ Value::String(_)) = value.get(key) {
            message[key] = text.clone();
        }
    }
    Ok(message)
}

fn call(value: &Value) -> Result<Value> {
    let Some(name) = name_of(value).filter(|name| is_name(name)) else {
        return Err(wrong("a call of tool_calls has function.name and function.arguments"));
    };
    let arguments = match value.pointer("/function/arguments") {
        None | Some(Value::Null) => Some(Map::new()),
        Some(Value::Object(arguments)) => Some(arguments.clone()),
        Some(Value::String(text)) if text.trim().is_empty() => Some(Map::new()),
        Some(Value::String(text)) => serde_json::from_str(text).ok(),
        Some(_) => None,
    };
    let Some(arguments) = arguments else {
        return Err(wrong("the arguments of a call are an object in JSON"));
    };
    let id = value.get("id").and_then(Value::as_str).unwrap_or_default();
    Ok(json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } }))
}

fn calls_of(message: &Value) -> &[Value] {
    message
        .get("tool_calls")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// How many calls there are in messages.
pub fn count(messages: &[Value]) -> usize {
    messages.iter().map(|message| calls_of(message).len()).sum()
}

/// The same with every call's arguments as text.
fn with_texts(messages: &[Value]) -> Vec<Value> {
    let mut messages = messages.to_vec();
    let calls = messages
        .iter_mut()
        .filter_map(|message| message.get_mut("tool_calls")?.as_array_mut());
    for call in calls.flatten() {
        if let Some(arguments) = call.pointer_mut("/function/arguments") {
            *arguments = spaced(arguments).into();
        }
    }
    messages
}

/// Whether an object was written as Python writes it, which no student was trained on.
fn holds_python(text: &str, messages: &[Value]) -> bool {
    let calls = messages.iter().flat_map(calls_of);
    let mut keys = calls.filter_map(|call| call.pointer("/function/arguments")?.as_object()?.keys().next());
    keys.any(|key| text.contains(&format!("{{'{key}':")))
}

/// JSON with a space behind commas and colons, as students were trained on it.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

fn spaced(value: &Value) -> String {
    let mut out = Vec::new();
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced));
    written.expect("a value is written to memory");
    String::from_utf8(out).expect("JSON is text")
}

/// The same with calls in the contents, as most students write them.
fn with_written_calls(messages: &[Value]) -> Vec<Value> {
    let write = |call: &Value| {
        let function = &call["function"];
        let call = spaced(&json!({ "name": function["name"], "arguments": function["arguments"] }));
        format!("<tool_call>\n{call}\n</tool_call>")
    };
    let mut messages = messages.to_vec();
    for message in &mut messages {
        let mut parts: Vec<String> = calls_of(message).iter().map(write).collect();
        let content = message["content"].as_str().unwrap_or_default();
        if !content.is_empty() {
            parts.insert(0, content.to_string());
        }
        message["content"] = parts.join("\n").into();
    }
    without_calls(&messages)
}

fn without_calls(messages: &[Value]) -> Vec<Value> {
    let mut messages = messages.to_vec();
    for message in messages.iter_mut().filter_map(Value::as_object_mut) {
        message.shift_remove("tool_calls");
    }
    messages
}

/// What the template writes. Most take a call's arguments as an object, some as text: what works is found out.
fn write(template: &Template, messages: &[Value], options: &RenderOptions) -> Result<String> {
    match template.render_json(messages, options) {
        Ok(text) if !holds_python(&text, messages) => Ok(text),
        other if count(messages) == 0 => other,
        other => template.render_json(&with_texts(messages), options).or(other),
    }
}

/// The prompt of messages that [`messages`] gave.
///
/// Errors: [`Error::Template`], and [`Error::Request`] where the template leaves tools, calls or their results out.
pub fn render(template: &Template, messages: &[Value], options: &RenderOptions) -> Result<String> {
    let text = write(template, messages, options)?;
    let ignores = |messages: &[Value], options: &RenderOptions| {
        write(template, messages, options).is_ok_and(|other| other == text)
    };
    let refuse = |what: &str| {
        Err(wrong(format!(
            "this student's chat template leaves {what} out, so it would never see them; open a student that was trained with tools"
        )))
    };
    if count(messages) > 0 && ignores(&without_calls(messages), options) {
        // Some templates show how calls are written, and take them as part of what was said.
        return if template.mentions("<tool_call>") {
            render(template, &with_written_calls(messages), options)
        } else {
            refuse("calls of tools")
        };
    }
    if options.tools.is_some() {
        let without = RenderOptions {
            tools: None,
            ..options.clone()
        };
        if ignores(messages, &without) {
            return refuse("tools");
        }
    }
    if messages.iter().any(|message| message["role"] == "tool") {
        let without: Vec<Value> = messages.iter().filter(|m| m["role"] != "tool").cloned().collect();
        if ignores(&without, options) {
            return refuse("what tools answered");
        }
    }
    Ok(text)
}

/// How an answer begins that has to be a call, and the form of what follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Forced {
    /// What opens the call: it becomes the end of the prompt.
    pub opening: String,
    /// A JSON Schema of the call.
    pub schema: Value,
    /// What would close the brackets of `opening`.
    pub closing: &'static str,
}

const PROBE: &str = "quixotic";

/// How a call is forced out of a student whose calls are JSON: its template is asked to write one, and what stands in front of it opens
/// the answer.
///
/// Errors: [`Error::Request`] where calls are written in another way, and what the template says.
pub fn force(template: &Template, tools: &Tools, options: &RenderOptions) -> Result<Forced> {
    let arguments = json!({ "rocinante": 1 });
    let probe = json!({ "id": "call00000", "type": "function", "function": { "name": PROBE, "arguments": arguments } });
    let user = json!({ "role": "user", "content": "?" });
    let chat = [
        user,
        json!({ "role": "assistant", "content": "", "tool_calls": [probe] }),
    ];
    let told = |add_generation_prompt: bool| RenderOptions {
        add_generation_prompt,
        tools: Some(tools.definitions.clone()),
        ..options.clone()
    };
    let no_way =
        || wrong("this student does not write calls as JSON, so that none can be forced; use the tool_choice auto");
    let text = render(template, &chat, &told(false))?;
    let (begin, end, value) = call_in(&text).ok_or_else(no_way)?;
    let front = &text[..begin];
    let opening = match mark_in_front(front) {
        Some(at) => front[at..].to_string(),
        // The call is all of the answer.
        None if render(template, &chat[..1], &told(true))?.trim_end() == front.trim_end() => String::new(),
        None => return Err(no_way()),
    };
    let closing = if text[end..].trim_start().starts_with(']') && opening.trim_end().ends_with('[') {
        "]"
    } else {
        ""
    };
    // What is forced must be read as a call.
    let mut parser = ToolCalls::new(&json!([{ "function": { "name": PROBE } }]));
    let mut read = parser.push(&format!("{opening}{value}{closing}")).calls;
    read.extend(parser.finish().calls);
    if !matches!(read.as_slice(), [call] if call.name == PROBE) {
        return Err(no_way());
    }
    let functions = tools.definitions.as_array().map_or(&[] as &[Value], Vec::as_slice);
    let wanted = functions.iter().filter(|tool| match &tools.choice {
        ToolChoice::Named(name) => name_of(tool) == Some(name),
        _ => true,
    });
    let mut schemas: Vec<Value> = wanted
        .map(|tool| {
            let parameters = tool.pointer("/function/parameters").filter(|p| p.is_object());
            let parameters = parameters.cloned().unwrap_or_else(|| json!({ "type": "object" }));
            shape(&value, name_of(tool).unwrap_or_default(), &parameters, &arguments)
        })
        .collect();
    let schema = match schemas.len() {
        1 => schemas.remove(0),
        _ => json!({ "anyOf": schemas }),
    };
    Ok(Forced {
        opening,
        schema,
        closing,
    })
}

/// The outermost JSON object in `text` that is the probe's call: where it begins and ends.
fn call_in(text: &str) -> Option<(usize, usize, Value)> {
    const FAR: usize = 200;
    let name = text.rfind(PROBE)?;
    let from = text.floor_char_boundary(name.saturating_sub(FAR));
    text[from..name].match_indices('{').find_map(|(at, _)| {
        let begin = from + at;
        let mut values = serde_json::Deserializer::from_str(&text[begin..]).into_iter::<Value>();
        let value = values.next()?.ok().filter(Value::is_object)?;
        let end = begin + values.byte_offset();
        (end > name).then_some((begin, end, value))
    })
}

/// The schema of objects that are like the probe's call, for another function.
fn shape(value: &Value, name: &str, parameters: &Value, arguments: &Value) -> Value {
    match value {
        _ if value == arguments => parameters.clone(),
        Value::Object(entries) => {
            let properties: Map<String, Value> = entries
                .iter()
                .map(|(key, value)| (key.clone(), shape(value, name, parameters, arguments)))
                .collect();
            let required: Vec<&String> = entries.keys().collect();
            json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
        }
        Value::String(text) if text == PROBE => json!({ "const": name }),
        other => json!({ "const": other }),
    }
}
