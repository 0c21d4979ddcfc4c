//! Calls of tools in a student's answer, in the shape of the chat-completions format.
//!
//! Students write calls in the way of their training; which way, the answer itself shows:
//!
//! | written | by |
//! |---|---|
//! | `<tool_call>{"name": .., "arguments": {..}}</tool_call>` | Qwen, Hermes, SmolLM3, EXAONE, Granite 4 |
//! | `<tool_call><function=f><parameter=a>..</parameter></function></tool_call>`, also without the outer tags | Qwen Coder, Qwen 3.5 |
//! | `{"name": .., "parameters": {..}}` as the whole answer, or behind `<\|python_tag\|>` | Llama 3 |
//! | `[TOOL_CALLS][{"name": .., "arguments": {..}}]`, `[TOOL_CALLS]f[ARGS]{..}` | Mistral |
//! | `<\|tool_call_start\|>[f(a=1)]<\|tool_call_end\|>` | LFM2 |
//! | `<\|tool_call\|>[{..}]` | Granite 3, Phi 4 mini |
//! | a fence `tool_code` or `tool_call`, `<start_function_call>call:f{..}<end_function_call>`, `<\|tool_call>call:f{..}<tool_call\|>` | Gemma |
//! | `<function_calls>f(a=1)</function_calls>` | OLMo |
//! | `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{..}<｜tool▁call▁end｜><｜tool▁calls▁end｜>`, also `function<｜tool▁sep｜>f` with a fence `json` | DeepSeek |
//!
//! Text around calls goes on at once; what may still become a call is held back; what looked like a call and is none is text.

use serde_json::{Map, Value};

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Nine characters, as some templates demand: the student's own, or `call00000` and on.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments, an object in JSON.
    pub arguments: String,
}

impl ToolCall {
    /// As the chat-completions format has it.
    pub fn to_json(&self) -> Value {
        serde_json::json!({
            "id": self.id,
            "type": "function",
            "function": { "name": self.name, "arguments": self.arguments },
        })
    }
}

/// What is new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Part of the answer beside calls.
    pub content: String,
    /// Calls that are complete.
    pub calls: Vec<ToolCall>,
}

/// How what follows a mark ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ending {
    /// With this text.
    Text(&'static str),
    /// Where brackets are closed again.
    Brackets,
    /// With the answer.
    Answer,
    /// At once: the mark is an empty shell.
    Nothing,
}

/// What begins a call, and how it ends.
const MARKS: [(&str, Ending); 14] = [
    ("<tool_call>", Ending::Text("</tool_call>")),
    ("<function=", Ending::Text("</function>")),
    ("[TOOL_CALLS]", Ending::Brackets),
    ("<|tool_call_start|>", Ending::Text("<|tool_call_end|>")),
    ("<|tool_call|>", Ending::Brackets),
    ("<|/tool_call|>", Ending::Nothing),
    ("<|tool_call>", Ending::Text("<tool_call|>")),
    ("<start_function_call>", Ending::Text("<end_function_call>")),
    ("<function_calls>", Ending::Text("</function_calls>")),
    ("<｜tool▁calls▁begin｜>", Ending::Text("<｜tool▁calls▁end｜>")),
    ("```tool_code\n", Ending::Text("\n```")),
    ("```tool_call\n", Ending::Text("\n```")),
    ("<|python_tag|>", Ending::Answer),
    // The whole answer is one call; only at its beginning.
    ("{", Ending::Brackets),
];
const BARE: usize = MARKS.len() - 1;

/// What stands inside of calls and is a token of its own in some vocabularies.
const INSIDE: [&str; 5] = [
    "[ARGS]",
    "[CALL_ID]",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
];

/// Whether a control token of this text is part of how calls are written, so that [`ToolCalls`] must see it.
pub fn is_part(text: &str) -> bool {
    let is_mark =
        |(mark, ending): &(&str, Ending)| *mark == text || matches!(ending, Ending::Text(end) if *end == text);
    INSIDE.contains(&text) || MARKS.iter().any(is_mark)
}

/// Where the mark begins that opens a call at the end of `text`, white space and an opening bracket behind it.
pub(super) fn mark_in_front(text: &str) -> Option<usize> {
    let text = text.trim_end();
    let text = text.strip_suffix('[').unwrap_or(text).trim_end();
    let marks = MARKS[..BARE].iter().map(|(mark, _)| mark.trim_end());
    marks
        .filter(|mark| text.ends_with(mark))
        .map(|mark| text.len() - mark.len())
        .min()
}

/// Most bytes that are held back for one call.
const MAX_HELD: usize = 1 << 16;

/// How deep arguments may be nested.
const MAX_DEPTH: usize = 64;

/// Takes an answer as it grows.
#[derive(Debug, Clone, Default)]
pub struct ToolCalls {
    tools: Value,
    /// Text that may still become a mark, or white space that goes if a call follows.
    held: String,
    /// The mark that was read, and what is behind it.
    open: Option<(usize, String)>,
    brackets: Brackets,
    /// Characters to be taken, the next one last.
    again: Vec<char>,
    /// Whether anything but white space has gone out.
    begun: bool,
    found: usize,
    /// The number of the first call.
    first: usize,
}

/// Where in brackets and texts a piece of JSON is.
#[derive(Debug, Clone, Copy, Default)]
struct Brackets {
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Brackets {
    /// Takes a character; whether it closes the last bracket.
    fn take(&mut self, c: char) -> bool {
        if self.in_text {
            match c {
                _ if self.escaped => self.escaped = false,
                '\\' => self.escaped = true,
                '"' => self.in_text = false,
                _ => {}
            }
            return false;
        }
        match c {
            '"' => self.in_text = true,
            '[' | '{' => self.depth += 1,
            ']' | '}' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

impl ToolCalls {
    /// `tools`: the definitions that the student was shown, a list in the chat-completions format. They tell calls without a mark
    /// from plain JSON, and texts from numbers where the way of writing does not.
    pub fn new(tools: &Value) -> Self {
        Self {
            tools: tools.clone(),
            ..Self::default()
        }
    }

    /// Numbers the calls without an id of their own from `calls` on: ids are told apart over a whole chat.
    pub fn numbered_from(mut self, calls: usize) -> Self {
        self.first = calls;
        self
    }

    /// Takes more of the answer.
    pub fn push(&mut self, text: &str) -> Delta {
        let mut delta = Delta::default();
        // One character at a time, so that the result does not depend on how tokens cut the text.
        for c in text.chars() {
            self.again.push(c);
            self.take_again(&mut delta);
        }
        delta
    }

    /// Takes the character that is next, and what was taken for a call and is none.
    fn take_again(&mut self, delta: &mut Delta) {
        while let Some(c) = self.again.pop() {
            self.take(c, delta);
        }
    }

    /// What a mark began is text; what is in it may begin a call of its own.
    fn give_up(&mut self, mark: usize, body: &str, delta: &mut Delta) {
        self.held.push_str(MARKS[mark].0);
        self.let_out(self.held.len(), delta);
        self.again.extend(body.chars().rev());
    }

    /// Takes the end of the answer.
    pub fn finish(&mut self) -> Delta {
        let mut delta = Delta::default();
        while let Some((mark, body)) = self.open.take() {
            // A call whose end is missing is still one where it is complete otherwise.
            match self.calls(mark, &body) {
                Some(calls) => self.take_calls(calls, &mut delta),
                None => {
                    self.give_up(mark, &body, &mut delta);
                    self.take_again(&mut delta);
                }
            }
        }
        // White space behind the last call belongs to nobody.
        if self.found == 0 || !self.held.trim().is_empty() {
            self.let_out(self.held.len(), &mut delta);
        }
        self.held.clear();
        delta
    }

    fn let_out(&mut self, bytes: usize, delta: &mut Delta) {
        let out: String = self.held.drain(..bytes).collect();
        self.begun |= !out.trim().is_empty();
        delta.content.push_str(&out);
    }

    fn take_calls(&mut self, calls: Vec<ToolCall>, delta: &mut Delta) {
        self.found += calls.len();
        delta.calls.extend(calls);
        // White space in front of a call belongs to nobody.
        self.held.clear();
    }

    fn take(&mut self, c: char, delta: &mut Delta) {
        match self.open.take() {
            None => {
                self.held.push(c);
                self.look_for_mark(delta);
            }
            Some((mark, mut body)) => {
                body.push(c);
                let closed = self.brackets.take(c);
                self.inside(mark, body, closed, delta);
            }
        }
    }

    fn look_for_mark(&mut self, delta: &mut Delta) {
        let bare_allowed = !self.begun && self.found == 0;
        let marks = &MARKS[..if bare_allowed { MARKS.len() } else { BARE }];
        // The mark that was completed now; of two the longer.
        let complete = (0..marks.len())
            .filter(|&i| self.held.ends_with(marks[i].0) && (i != BARE || self.held.trim() == "{"))
            .max_by_key(|&i| marks[i].0.len());
        if let Some(mark) = complete {
            let text = self.held.len() - marks[mark].0.len();
            self.held.truncate(text);
            // Text before the mark goes out, white space waits for what the mark becomes.
            self.let_out(self.held.trim_end().len(), delta);
            match marks[mark].1 {
                Ending::Nothing => self.held.clear(),
                _ => {
                    self.brackets = Brackets::default();
                    if mark == BARE {
                        self.brackets.take('{');
                    }
                    self.open = Some((mark, String::new()));
                }
            }
            return;
        }
        let longest = |mark: &str| {
            (1..mark.len().min(self.held.len() + 1))
                .rev()
                .find(|&n| mark.is_char_boundary(n) && self.held.ends_with(&mark[..n]))
        };
        let keep = marks.iter().filter_map(|(mark, _)| longest(mark)).max().unwrap_or(0);
        let text = self.held[..self.held.len() - keep].trim_end().len();
        self.let_out(text, delta);
    }

    /// Looks at what is behind a mark, with its newest character.
    fn inside(&mut self, mark: usize, body: String, closed: bool, delta: &mut Delta) {
        let too_long = body.len() > MAX_HELD;
        let done = match MARKS[mark].1 {
            Ending::Text(end) if body.ends_with(end) => {
                let inner = &body[..body.len() - end.len()];
                // The end may stand in a text of the arguments.
                let in_text = self.brackets.in_text && inner.trim_start().starts_with('{');
                (!in_text).then(|| self.calls(mark, inner))
            }
            // The brackets around `ARGS` are no value.
            Ending::Brackets if closed && body.ends_with("[ARGS]") => None,
            Ending::Brackets if closed && body.ends_with("[CALL_ID]") => None,
            Ending::Brackets if closed => Some(self.calls(mark, &body)),
            // What cannot become a call is known early.
            Ending::Brackets if !may_be(mark, &body) => Some(None),
            _ => None,
        };
        match done {
            None if !too_long => self.open = Some((mark, body)),
            Some(Some(calls)) if !calls.is_empty() => self.take_calls(calls, delta),
            _ => self.give_up(mark, &body, delta),
        }
    }

    /// The calls behind a mark; `None` where it holds none.
    fn calls(&self, mark: usize, body: &str) -> Option<Vec<ToolCall>> {
        let body = body.trim();
        let mut calls = Vec::new();
        let mut add = |name: String, arguments: Map<String, Value>, id: Option<String>| {
            let id = id.unwrap_or_else(|| format!("call{:05}", self.first + self.found + calls.len()));
            let arguments = Value::Object(arguments).to_string();
            calls.push(ToolCall { id, name, arguments });
        };
        match MARKS[mark].0 {
            "<function=" => {
                let (name, arguments) = self.tagged(body)?;
                add(name, arguments, None);
            }
            "<tool_call>" if body.starts_with("<function=") => {
                let inner = body.strip_prefix("<function=")?.strip_suffix("</function>")?;
                let (name, arguments) = self.tagged(inner)?;
                add(name, arguments, None);
            }
            "<|tool_call>" | "<start_function_call>" => {
                let (name, arguments) = braced(body)?;
                add(name, arguments, None);
            }
            "<｜tool▁calls▁begin｜>" => {
                for (name, arguments) in deepseek(body)? {
                    add(name, arguments, None);
                }
            }
            "[TOOL_CALLS]" if !body.starts_with(['[', '{']) => {
                let (name, arguments) = body.split_once("[ARGS]")?;
                let (name, id) = name.split_once("[CALL_ID]").unwrap_or((name, ""));
                let arguments: Map<String, Value> = serde_json::from_str(arguments).ok()?;
                let id = Some(id.to_string()).filter(|id| !id.is_empty());
                add(Some(name.trim()).filter(|n| is_name(n))?.into(), arguments, id);
            }
            start => {
                let body = if start == "{" {
                    format!("{{{body}")
                } else {
                    body.to_string()
                };
                if let Ok(value) = serde_json::from_str::<Value>(&body) {
                    let list = match value {
                        Value::Array(list) => list,
                        one => vec![one],
                    };
                    for value in list {
                        let (name, arguments, id) = json_call(value)?;
                        if start == "{" && !self.knows(&name) {
                            return None;
                        }
                        add(name, arguments, id);
                    }
                } else if start == "<|python_tag|>" && body.starts_with('{') {
                    // Several calls have semicolons between.
                    let mut rest = body.as_str();
                    while !rest.is_empty() {
                        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
                        let (name, arguments, id) = json_call(values.next()?.ok()?)?;
                        add(name, arguments, id);
                        rest = rest[values.byte_offset()..].trim_start_matches([';', ' ', '\n']);
                    }
                } else if start != "{" {
                    for (name, arguments) in python_calls(&body)? {
                        // A fence may hold any program: only one that calls what there is counts.
                        if start.starts_with('`') && !self.knows(&name) {
                            return None;
                        }
                        let name = name.strip_suffix(".call").unwrap_or(&name).to_string();
                        add(name, arguments, None);
                    }
                }
            }
        }
        (!calls.is_empty()).then_some(calls)
    }

    fn definition(&self, name: &str) -> Option<&Value> {
        let functions = self
            .tools
            .as_array()?
            .iter()
            .map(|tool| tool.get("function").unwrap_or(tool));
        let mut named = functions.filter(|function| function.get("name").and_then(Value::as_str) == Some(name));
        named.next()
    }

    fn knows(&self, name: &str) -> bool {
        self.definition(name).is_some()
    }

    /// `f><parameter=a>..</parameter>`, or JSON behind the name.
    fn tagged(&self, body: &str) -> Option<(String, Map<String, Value>)> {
        let (name, mut rest) = body.split_once('>')?;
        let name = name.trim();
        if !is_name(name) {
            return None;
        }
        let mut arguments = Map::new();
        rest = rest.trim();
        if rest.starts_with('{') {
            return Some((name.into(), serde_json::from_str(rest).ok()?));
        }
        while !rest.is_empty() {
            let (key, more) = rest.strip_prefix("<parameter=")?.split_once('>')?;
            let (value, more) = more.split_once("</parameter>")?;
            let value = value.strip_prefix('\n').unwrap_or(value);
            let value = value.strip_suffix('\n').unwrap_or(value);
            arguments.insert(key.trim().into(), self.typed(name, key.trim(), value));
            rest = more.trim_start();
        }
        Some((name.into(), arguments))
    }

    /// An argument that was written without quotes: a text where its definition says so, or where it is nothing else.
    fn typed(&self, tool: &str, key: &str, text: &str) -> Value {
        let definition = self
            .definition(tool)
            .and_then(|d| d.pointer("/parameters/properties")?.get(key)?.get("type"));
        if definition.and_then(Value::as_str) == Some("string") {
            return text.into();
        }
        let python = match text.trim() {
            "True" => Some(true.into()),
            "False" => Some(false.into()),
            "None" => Some(Value::Null),
            _ => None,
        };
        let value = python.or_else(|| serde_json::from_str(text).ok());
        value.filter(|value| !value.is_string()).unwrap_or_else(|| text.into())
    }
}

/// Whether what is behind a mark of JSON may still become a call.
fn may_be(mark: usize, body: &str) -> bool {
    let start = body.trim_start();
    match MARKS[mark].0 {
        // The first key says whether it is a call.
        "{" => ["\"name\"", "\"type\"", "\"function\""]
            .iter()
            .any(|key| start.starts_with(key) || key.starts_with(start)),
        "[TOOL_CALLS]" => {
            let end = start.find(['[', '{']).unwrap_or(start.len());
            start.is_empty() || end == 0 || is_name(start[..end].trim())
        }
        _ => start.is_empty() || start.starts_with(['[', '{']),
    }
}

/// Whether a tool may have this name.
pub(super) fn is_name(name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':');
    !name.is_empty() && name.len() <= 256 && name.chars().all(part)
}

/// A call as JSON has it, under the names that students use.
fn json_call(value: Value) -> Option<(String, Map<String, Value>, Option<String>)> {
    let Value::Object(mut object) = value else { return None };
    let id = match object.remove("id") {
        Some(Value::String(id)) if !id.is_empty() => Some(id),
        _ => None,
    };
    let mut object = match object.remove("function") {
        Some(Value::Object(inner)) => inner,
        Some(name @ Value::String(_)) => {
            object.insert("name".into(), name);
            object
        }
        _ => object,
    };
    let name = object
        .remove("name")?
        .as_str()
        .filter(|name| is_name(name))?
        .to_string();
    let arguments = match object.remove("arguments").or_else(|| object.remove("parameters")) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(Value::String(text)) => serde_json::from_str(&text).ok()?,
        Some(_) => return None,
    };
    Some((name, arguments, id))
}

/// `call:f{a:1,b:<escape>text<escape>}`.
fn braced(body: &str) -> Option<(String, Map<String, Value>)> {
    let (name, rest) = body.strip_prefix("call:")?.split_once('{')?;
    let mut reader = Reader { rest, depth: 0 };
    let arguments = reader.map('}', true)?;
    (is_name(name) && reader.rest.trim().is_empty()).then(|| (name.to_string(), arguments))
}

/// `<｜tool▁call▁begin｜>f<｜tool▁sep｜>{..}<｜tool▁call▁end｜>` one behind another; the older `function<｜tool▁sep｜>f`, then a fence.
fn deepseek(body: &str) -> Option<Vec<(String, Map<String, Value>)>> {
    let one = |call: &str| {
        let call = call.trim().strip_suffix("<｜tool▁call▁end｜>").unwrap_or(call.trim());
        let (kind, rest) = call.split_once("<｜tool▁sep｜>")?;
        let (name, arguments) = match rest.split_once("```json") {
            Some((name, fenced)) if kind.trim() == "function" => (name, fenced.trim().strip_suffix("```")?),
            _ => (kind, rest),
        };
        let name = Some(name.trim()).filter(|name| is_name(name))?;
        Some((name.to_string(), serde_json::from_str(arguments.trim()).ok()?))
    };
    let mut calls = body.split("<｜tool▁call▁begin｜>");
    // Nothing stands in front of the first.
    calls.next().filter(|front| front.trim().is_empty())?;
    calls.map(one).collect()
}

/// `[f(a=1), g()]`, also without brackets, line by line, or inside of `print`.
fn python_calls(body: &str) -> Option<Vec<(String, Map<String, Value>)>> {
    let body = body.trim();
    let body = match body.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None => body,
    };
    let mut reader = Reader { rest: body, depth: 0 };
    let mut calls = Vec::new();
    loop {
        reader.skip();
        if reader.rest.is_empty() {
            return Some(calls);
        }
        let mut name = reader.name();
        reader.expect("(")?;
        let printed = name == "print";
        if printed {
            name = reader.name();
            reader.expect("(")?;
        }
        if !is_name(name) {
            return None;
        }
        let arguments = reader.map(')', false)?;
        if printed {
            reader.expect(")")?;
        }
        calls.push((name.to_string(), arguments));
        reader.rest = reader.rest.trim_start().trim_start_matches([',', ';']);
    }
}

/// Values as Python and Gemma write them.
struct Reader<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, text: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, text: &str) -> Option<()> {
        self.take(text).then_some(())
    }

    fn name(&mut self) -> &'t str {
        self.skip();
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        name
    }

    /// `a=1, b=2)` or `a:1,b:2}` up to its end.
    fn map(&mut self, end: char, colons: bool) -> Option<Map<String, Value>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut map = Map::new();
        let end = end.to_string();
        while !self.take(&end) {
            if !map.is_empty() {
                self.expect(",")?;
                if self.take(&end) {
                    break;
                }
            }
            let key = match self.text()? {
                Some(key) => key,
                None => self.name().to_string(),
            };
            if key.is_empty() {
                return None;
            }
            self.expect(if colons { ":" } else { "=" })?;
            map.insert(key, self.value()?);
        }
        self.depth -= 1;
        Some(map)
    }

    /// A text in any of the quotes; the inner `None` where no quote stands here.
    #[allow(clippy::option_option, reason = "no text, and a text that has no end, are different")]
    fn text(&mut self) -> Option<Option<String>> {
        for quote in ["<escape>", "<|\"|>"] {
            if self.take(quote) {
                let (text, rest) = self.rest.split_once(quote)?;
                self.rest = rest;
                return Some(Some(text.to_string()));
            }
        }
        let Some(quote) = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| self.take(quote)) else {
            return Some(None);
        };
        let mut out = String::new();
        loop {
            if let Some(rest) = self.rest.strip_prefix(quote) {
                self.rest = rest;
                return Some(Some(out));
            }
            let c = self.rest.chars().next()?;
            self.rest = &self.rest[c.len_utf8()..];
            if c != '\\' {
                out.push(c);
                continue;
            }
            let escape = self.rest.chars().next()?;
            self.rest = &self.rest[escape.len_utf8()..];
            match escape {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'u' => {
                    let code = u32::from_str_radix(self.rest.get(..4)?, 16).ok()?;
                    out.push(char::from_u32(code)?);
                    self.rest = &self.rest[4..];
                }
                '\n' => {}
                '\\' | '\'' | '"' => out.push(escape),
                other => out.extend(['\\', other]),
            }
        }
    }

    fn value(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = if let Some(text) = self.text()? {
            Value::String(text)
        } else if self.take("{") {
            Value::Object(self.map('}', true)?)
        } else if self.rest.starts_with(['[', '(']) {
            let end = if self.rest.starts_with('[') { "]" } else { ")" };
            self.rest = &self.rest[1..];
            let mut list = Vec::new();
            while !self.take(end) {
                if !list.is_empty() {
                    self.expect(",")?;
                    if self.take(end) {
                        break;
                    }
                }
                list.push(self.value()?);
            }
            Value::Array(list)
        } else {
            let end = self
                .rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '_')));
            let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
            self.rest = rest;
            match word {
                "True" | "true" => true.into(),
                "False" | "false" => false.into(),
                "None" | "null" => Value::Null,
                number => serde_json::from_str(number).ok().filter(Value::is_number)?,
            }
        };
        self.depth -= 1;
        Some(value)
    }
}
