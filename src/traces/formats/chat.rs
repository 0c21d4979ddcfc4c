//! Conversations: `messages` as the OpenAI API has them, content in parts, tool calls, and ShareGPT's `conversations`.

use super::{Context, Draft, Format, labels, list, needed, text};
use crate::traces::json::{Tape, View};
use crate::traces::reasoning;
use crate::traces::validate::{Note, Reason};
use crate::traces::{Layout, Role, ToolCall, Turn};
use serde_json::{Value, json};

/// A row with `messages`.
pub(super) fn messages(line: View<'_>, context: &mut Context) -> Result<Draft, Reason> {
    let (mut turns, raw) = turns(line, "messages", context)?;
    add_system(&mut turns, line, context)?;
    Ok(Draft {
        tools: tools(line, context)?,
        labels: labels::of_row(line)?,
        raw,
        ..Draft::new(Format::Messages, Layout::Chat, turns)
    })
}

/// A row with `conversations`.
pub(super) fn conversations(line: View<'_>, context: &mut Context) -> Result<Draft, Reason> {
    let field = if line.get("conversations").is_some() {
        "conversations"
    } else {
        "conversation"
    };
    let (mut turns, raw) = turns(line, field, context)?;
    add_system(&mut turns, line, context)?;
    Ok(Draft {
        tools: tools(line, context)?,
        labels: labels::of_row(line)?,
        raw,
        ..Draft::new(Format::ShareGpt, Layout::Chat, turns)
    })
}

/// A list of messages: the turns, and what the last answer was before reasoning was told from it.
pub(super) fn turns(
    object: View<'_>,
    field: &'static str,
    context: &mut Context,
) -> Result<(Vec<Turn>, Option<String>), Reason> {
    let mut turns = Vec::new();
    let mut raw = None;
    for item in list(object, field)?.into_iter().flatten() {
        if !item.is_object() {
            return Err(Reason::Field {
                field,
                wanted: "a list of objects, each with a role and content",
            });
        }
        let read = message(item, None, context)?;
        if read.turns.last().is_some_and(|turn| turn.role == Role::Assistant) {
            raw = read.raw;
        }
        turns.extend(read.turns);
    }
    Ok((turns, raw))
}

/// A `system` field beside the list, where the list has no system turn of its own.
pub(super) fn add_system(turns: &mut Vec<Turn>, object: View<'_>, context: &mut Context) -> Result<(), Reason> {
    if turns.first().is_some_and(|turn| turn.role == Role::System) {
        return Ok(());
    }
    let Some(system) = object.get("system") else {
        return Ok(());
    };
    let system = content(Some(system), "system", context)?.text;
    if !system.is_empty() {
        turns.insert(0, Turn::new(Role::System, system));
    }
    Ok(())
}

/// Tool definitions: `tools`, also as a string of JSON, or the older `functions`.
pub(super) fn tools(object: View<'_>, context: &mut Context) -> Result<Option<Value>, Reason> {
    if let Some(tools) = object.get("tools") {
        let wanted = Reason::Field {
            field: "tools",
            wanted: "a list of tool definitions",
        };
        let value = match tools.text() {
            Some(text) if text.trim().is_empty() => return Ok(None),
            Some(text) => parse(text, context)?.ok_or(wanted.clone())?,
            None => tools.to_value(&mut context.budget)?,
        };
        return match value {
            Value::Array(list) if list.is_empty() => Ok(None),
            Value::Array(_) => Ok(Some(value)),
            _ => Err(wanted),
        };
    }
    let Some(functions) = list(object, "functions")? else {
        return Ok(None);
    };
    let mut all = Vec::new();
    for function in functions {
        all.push(json!({"type": "function", "function": function.to_value(&mut context.budget)?}));
    }
    Ok((!all.is_empty()).then_some(Value::Array(all)))
}

/// JSON inside a string, if it is that and an object or a list.
fn parse(text: &str, context: &mut Context) -> Result<Option<Value>, Reason> {
    if !text.trim_start().starts_with(['{', '[']) {
        return Ok(None);
    }
    let mut tape = Tape::default();
    match tape.parse_text(text) {
        Ok(value) => value.to_value(&mut context.budget).map(Some),
        Err(_) => Ok(None),
    }
}

/// Some messages become several turns: a user's message may hold results of tools.
pub(super) struct Message {
    pub(super) turns: Vec<Turn>,
    /// Its text before reasoning was told from it, where that differs.
    pub(super) raw: Option<String>,
}

/// One message; `role` where it does not name its own.
pub(super) fn message(item: View<'_>, role: Option<Role>, context: &mut Context) -> Result<Message, Reason> {
    // ShareGPT says `from` and `value` where the API says `role` and `content`.
    let sharegpt = item.get("from").is_some();
    let (role_field, content_field) = if sharegpt {
        ("from", "value")
    } else {
        ("role", "content")
    };
    let (role, is_call) = match (text(item, role_field)?, role) {
        (Some(name), _) => self::role(name)?,
        (None, Some(role)) => (role, false),
        (None, None) => {
            return Err(Reason::Field {
                field: role_field,
                wanted: "the name of a role",
            });
        }
    };
    let Content {
        text: mut said,
        reasoning: mut thought,
        mut calls,
        results,
    } = content(item.get(content_field), content_field, context)?;
    if is_call {
        calls.extend(calls_in_text(&said, context)?);
        said.clear();
    }
    let mut turn = Turn::new(role, "");
    let mut raw = None;
    if role == Role::Assistant {
        calls.extend(calls_in_fields(item, context)?);
        for field in ["reasoning_content", "reasoning", "thinking"] {
            // Some responses hold an object of settings under one of these names.
            let given = item
                .get(field)
                .and_then(View::text)
                .filter(|text| !text.trim().is_empty());
            thought = thought.or(given.map(str::to_string));
        }
        match thought {
            Some(thought) => {
                turn.reasoning = Some(thought.trim().to_string());
                // Servers that tell reasoning from content leave the line ends between them in the content.
                let start = said.len() - said.trim_start().len();
                said.drain(..start);
            }
            None => {
                let split = reasoning::split(&said);
                if split.found {
                    turn.reasoning = split.reasoning.map(|range| said[range].to_string());
                    let rest = said[split.content].to_string();
                    raw = Some(std::mem::replace(&mut said, rest));
                }
            }
        }
        turn.train = trained(item)?;
        if said.is_empty() && calls.is_empty() && text(item, "refusal").is_ok_and(|r| r.is_some()) {
            return Err(Reason::Refusal);
        }
    }
    turn.content = said;
    turn.tool_calls = calls;
    turn.tool_call_id = text(item, "tool_call_id").unwrap_or_default().map(str::to_string);
    turn.name = text(item, "name").unwrap_or_default().map(str::to_string);
    let mut turns = results;
    // A message that was nothing but results of tools has become their turns.
    if turns.is_empty() || !turn.content.is_empty() || !turn.tool_calls.is_empty() {
        turns.push(turn);
    }
    Ok(Message { turns, raw })
}

/// The role behind a name, and whether the message is a tool call by its role.
fn role(name: &str) -> Result<(Role, bool), Reason> {
    Ok(match name {
        "system" | "developer" => (Role::System, false),
        "user" | "human" => (Role::User, false),
        "assistant" | "gpt" | "chatgpt" | "model" | "bing" | "bard" => (Role::Assistant, false),
        "tool" | "function" | "observation" | "function_response" | "tool_response" | "ipython" => (Role::Tool, false),
        "function_call" | "tool_call" => (Role::Assistant, true),
        _ => return Err(Reason::UnknownRole),
    })
}

/// Whether a turn is trained: `weight` 0 and `train` false say no.
fn trained(item: View<'_>) -> Result<bool, Reason> {
    let flag = item.get("train").and_then(View::bool).unwrap_or(true);
    let Some(weight) = item.get("weight") else {
        return Ok(flag);
    };
    match weight.number() {
        Some(weight) if (0.0..=1.0).contains(&weight) => Ok(flag && weight > 0.0),
        _ => Err(Reason::Field {
            field: "weight",
            wanted: "0 or 1",
        }),
    }
}

/// What a content field holds.
#[derive(Default)]
pub(super) struct Content {
    pub(super) text: String,
    pub(super) reasoning: Option<String>,
    calls: Vec<ToolCall>,
    results: Vec<Turn>,
}

/// A string, a list of parts, or nothing.
pub(super) fn content(value: Option<View<'_>>, field: &'static str, context: &mut Context) -> Result<Content, Reason> {
    let mut out = Content::default();
    let Some(value) = value else { return Ok(out) };
    if let Some(text) = value.text() {
        out.text = text.to_string();
        return Ok(out);
    }
    let parts = value.items().ok_or(Reason::Field {
        field,
        wanted: "a string or a list of parts",
    })?;
    for part in parts {
        if let Some(text) = part.text() {
            out.text.push_str(text);
            continue;
        }
        if !part.is_object() {
            return Err(Reason::Field {
                field,
                wanted: "a string or a list of parts",
            });
        }
        match needed(part, "type")? {
            "text" | "output_text" | "input_text" => out.text.push_str(needed(part, "text")?),
            "thinking" | "reasoning" => {
                let thought = text(part, "thinking")?
                    .or(text(part, "text")?)
                    .unwrap_or_default()
                    .trim();
                if !thought.is_empty() {
                    let all = out.reasoning.get_or_insert_default();
                    if !all.is_empty() {
                        all.push('\n');
                    }
                    all.push_str(thought);
                }
            }
            // Reasoning that the provider shows to nobody.
            "redacted_thinking" => {}
            "tool_use" => out.calls.push(ToolCall {
                id: text(part, "id")?.map(str::to_string),
                name: needed(part, "name")?.to_string(),
                arguments: arguments(part.get("input"), context)?,
            }),
            "tool_result" => {
                // One level only: a result holds text, not results.
                let said = match part.get("content") {
                    Some(inner) if inner.text().is_none() => parts_text(inner, context)?,
                    Some(inner) => inner.text().unwrap_or_default().to_string(),
                    None => String::new(),
                };
                let mut turn = Turn::new(Role::Tool, said);
                turn.tool_call_id = text(part, "tool_use_id")?.map(str::to_string);
                out.results.push(turn);
            }
            _ => context.notes.push(Note::PartDropped),
        }
    }
    Ok(out)
}

/// The text of a list of parts, whatever else it holds.
fn parts_text(parts: View<'_>, context: &mut Context) -> Result<String, Reason> {
    let mut out = String::new();
    for part in parts.items().into_iter().flatten() {
        match part.get("text").and_then(View::text).or(part.text()) {
            Some(text) => out.push_str(text),
            None => context.notes.push(Note::PartDropped),
        }
    }
    Ok(out)
}

/// `tool_calls`, or the older `function_call`.
fn calls_in_fields(item: View<'_>, context: &mut Context) -> Result<Vec<ToolCall>, Reason> {
    let mut calls = Vec::new();
    for call in list(item, "tool_calls")?.into_iter().flatten() {
        let function = call.get("function").unwrap_or(call);
        calls.push(ToolCall {
            id: text(call, "id")?.map(str::to_string),
            ..named_call(function, context)?
        });
    }
    if let Some(call) = item.get("function_call") {
        calls.push(named_call(call, context)?);
    }
    Ok(calls)
}

fn named_call(function: View<'_>, context: &mut Context) -> Result<ToolCall, Reason> {
    Ok(ToolCall {
        id: None,
        name: needed(function, "name")?.to_string(),
        arguments: arguments(function.get("arguments"), context)?,
    })
}

/// Arguments as the object that templates want, whether they were written as one or as a string of JSON.
fn arguments(value: Option<View<'_>>, context: &mut Context) -> Result<Value, Reason> {
    let Some(value) = value else { return Ok(json!({})) };
    match value.text() {
        Some(text) if text.trim().is_empty() => Ok(json!({})),
        Some(text) => Ok(parse(text, context)?.unwrap_or_else(|| text.into())),
        None => value.to_value(&mut context.budget),
    }
}

/// A turn whose text is a call, or a list of calls.
fn calls_in_text(said: &str, context: &mut Context) -> Result<Vec<ToolCall>, Reason> {
    let wanted = Reason::Field {
        field: "value",
        wanted: "a tool call as JSON with a name and arguments",
    };
    let mut tape = Tape::default();
    let value = tape.parse_text(said).map_err(|_| wanted.clone())?;
    if value.is_object() {
        return Ok(vec![named_call(value, context)?]);
    }
    value
        .items()
        .ok_or(wanted)?
        .map(|call| named_call(call, context))
        .collect()
}
