//! The tree of a template, run.

use super::parser::{Arguments, Expr, For, Kind, Macro, Node, Post, Target};
use super::value::{Loop, SeqKind, Sight, Value};
use super::{Budget, MAX_TEXT, Outcome, Stop, filters, methods};
use crate::text::date::Date;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How deep evaluation may go, macros and recursive loops included.
const MAX_DEPTH: usize = 220;

/// Most numbers that `range` gives, as in Jinja's sandbox.
const MAX_RANGE: i64 = 100_000;

type Frame = BTreeMap<Rc<str>, Value>;

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// Evaluated arguments of a call.
#[derive(Default)]
pub(super) struct Given {
    pub(super) list: Vec<Value>,
    pub(super) named: Vec<(Rc<str>, Value)>,
}

impl Given {
    /// Argument number `at`, or the one that is called `name`.
    pub(super) fn get(&self, at: usize, name: &str) -> Option<&Value> {
        self.list
            .get(at)
            .or_else(|| self.named.iter().find(|(n, _)| &**n == name).map(|(_, v)| v))
    }

    pub(super) fn need(&self, at: usize, name: &str) -> Outcome<&Value> {
        self.get(at, name)
            .ok_or_else(|| Stop::failed(format!("the argument \"{name}\" is missing")))
    }

    pub(super) fn text(&self, at: usize, name: &str) -> Outcome<&str> {
        let value = self.need(at, name)?;
        value
            .as_str()
            .ok_or_else(|| Stop::failed(format!("\"{name}\" must be a str, not {}", value.a_kind())))
    }

    /// An integer argument, where it is given and not none.
    pub(super) fn int(&self, at: usize, name: &str) -> Outcome<Option<i64>> {
        match self.get(at, name) {
            None | Some(Value::None) => Ok(None),
            Some(value) => value
                .as_int()
                .map(Some)
                .ok_or_else(|| Stop::failed(format!("\"{name}\" must be an int, not {}", value.a_kind()))),
        }
    }

    pub(super) fn flag(&self, at: usize, name: &str) -> Option<bool> {
        self.get(at, name).map(Value::is_true)
    }
}

pub(super) struct Run {
    pub(super) budget: Budget,
    frames: Vec<Frame>,
    out: String,
    line: usize,
    depth: usize,
    date: Option<Date>,
    /// The template asks whether there is a clock, and there is none.
    hides_clock: bool,
    /// Loops that may call themselves, from the outermost.
    recursive: Vec<Rc<For>>,
    /// Every namespace, to be emptied at the end: they can hold each other in a circle.
    namespaces: Vec<Rc<RefCell<Frame>>>,
}

impl Drop for Run {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            namespace.take();
        }
    }
}

/// Runs a template.
pub(super) fn run(
    nodes: &[Node],
    names: &[(&str, serde_json::Value)],
    date: Option<Date>,
    hides_clock: bool,
) -> Result<String, (usize, Stop)> {
    let mut run = Run {
        budget: Budget::new(),
        frames: vec![Frame::new(), Frame::new()],
        out: String::new(),
        line: 1,
        depth: 0,
        date,
        hides_clock,
        recursive: Vec::new(),
        namespaces: Vec::new(),
    };
    // What the caller brings does not count.
    let mut all = Budget {
        steps: usize::MAX,
        bytes: usize::MAX,
    };
    for (name, value) in names {
        let value = Value::from_json(value, &mut all).map_err(|stop| (1, stop))?;
        run.frames[0].insert((*name).into(), value);
    }
    match run.nodes(nodes) {
        Ok(_) => Ok(std::mem::take(&mut run.out)),
        Err(stop) => Err((run.line, stop)),
    }
}

/// Functions that every template knows.
const FUNCTIONS: [&str; 5] = ["range", "dict", "namespace", "raise_exception", "strftime_now"];

pub(super) fn undefined(name: &str) -> Value {
    let name: String = name.chars().take(60).collect();
    Value::Undefined(format!("'{name}' is undefined").into())
}

fn missing<T>(value: &Value) -> Outcome<T> {
    Err(Stop::failed(match value {
        Value::Undefined(what) => what.to_string(),
        other => format!("{} cannot be used so", other.a_kind()),
    }))
}

impl Run {
    fn nodes(&mut self, nodes: &[Node]) -> Outcome<Flow> {
        for node in nodes {
            self.line = node.line;
            self.budget.steps(1)?;
            let flow = self.node(&node.kind)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn write(&mut self, text: &str) -> Outcome<()> {
        if self.out.len() + text.len() > MAX_TEXT {
            return Err(Stop::failed(format!("it writes more than {} MiB", MAX_TEXT >> 20)));
        }
        self.budget.spend(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    /// Goes one level down; what is returned must be given to `up`.
    fn down(&mut self) -> Outcome<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Stop::failed("it calls itself too deep"));
        }
        Ok(())
    }

    fn node(&mut self, kind: &Kind) -> Outcome<Flow> {
        self.down()?;
        let flow = self.node_inside(kind)?;
        self.depth -= 1;
        Ok(flow)
    }

    fn node_inside(&mut self, kind: &Kind) -> Outcome<Flow> {
        match kind {
            Kind::Text(text) => self.write(text)?,
            Kind::Output(expr) => {
                let value = self.eval(expr)?;
                let text = self.show(&value)?;
                self.write(&text)?;
            }
            Kind::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.eval(condition)?.is_true() {
                        return self.nodes(body);
                    }
                }
                return self.nodes(otherwise);
            }
            Kind::For(definition) => {
                let items = self.eval(&definition.items)?;
                self.for_each(definition, &items, 0)?;
            }
            Kind::Set(target, expr) => {
                let value = self.eval(expr)?;
                self.assign(target, value)?;
            }
            Kind::SetBlock(target, filters, body) => {
                let text = self.capture(|run| run.scope(body))?;
                let value = self.posts(Value::text(&text), filters)?;
                self.assign(target, value)?;
            }
            Kind::With(pairs, body) => {
                let mut values = Vec::new();
                for (target, expr) in pairs {
                    values.push((target, self.eval(expr)?));
                }
                self.frames.push(Frame::new());
                for (target, value) in values {
                    self.assign(target, value)?;
                }
                let flow = self.nodes(body)?;
                self.frames.pop();
                return Ok(flow);
            }
            Kind::Macro(definition) => {
                let value = Value::Macro(definition.clone(), Sight::First(self.frames.len()));
                self.set(&definition.name, value)?;
            }
            Kind::Call(call, body) => {
                let seen: usize = self.frames.iter().map(BTreeMap::len).sum();
                self.budget.spend(64 * seen)?;
                let caller = Value::Macro(body.clone(), Sight::Copy(Rc::new(self.frames.clone())));
                let Expr::Post(base, posts) = call else {
                    return Err(Stop::failed("\"call\" needs a call"));
                };
                let Some((Post::Call(arguments), before)) = posts.split_last() else {
                    return Err(Stop::failed("\"call\" needs a call"));
                };
                let callee = self.eval(base)?;
                let callee = self.posts(callee, before)?;
                let mut given = self.given(arguments)?;
                given.named.push(("caller".into(), caller));
                let value = self.call(&callee, given)?;
                let text = self.show(&value)?;
                self.write(&text)?;
            }
            Kind::Filter(filters, body) => {
                let text = self.capture(|run| run.scope(body))?;
                let value = self.posts(Value::text(&text), filters)?;
                let text = self.show(&value)?;
                self.write(&text)?;
            }
            Kind::Scope(body) => self.scope(body)?,
            Kind::Break => return Ok(Flow::Break),
            Kind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    /// Runs nodes whose names are not seen outside.
    fn scope(&mut self, body: &[Node]) -> Outcome<()> {
        self.frames.push(Frame::new());
        self.nodes(body)?;
        self.frames.pop();
        Ok(())
    }

    fn capture(&mut self, body: impl FnOnce(&mut Self) -> Outcome<()>) -> Outcome<String> {
        let outside = std::mem::take(&mut self.out);
        body(self)?;
        Ok(std::mem::replace(&mut self.out, outside))
    }

    fn for_each(&mut self, definition: &Rc<For>, items: &Value, depth: usize) -> Outcome<()> {
        let mut items = self.items(items)?;
        if let Some(condition) = &definition.condition {
            let mut kept = Vec::new();
            for item in items.iter() {
                self.budget.steps(1)?;
                self.frames.push(Frame::new());
                self.assign(&definition.target, item.clone())?;
                if self.eval(condition)?.is_true() {
                    kept.push(item.clone());
                }
                self.frames.pop();
            }
            items = Rc::new(kept);
        }
        if items.is_empty() {
            return self.scope(&definition.otherwise);
        }
        let recursion = definition.recursive.then_some(self.recursive.len());
        if definition.recursive {
            self.recursive.push(definition.clone());
        }
        let changed = Rc::new(RefCell::new(None));
        // As in Jinja2, what counts for `else` is whether a body was run to its end.
        let mut completed = false;
        for index in 0..items.len() {
            self.budget.steps(1)?;
            let mut frame = Frame::new();
            let state = Loop {
                index,
                items: items.clone(),
                depth,
                recursion,
                changed: changed.clone(),
            };
            frame.insert("loop".into(), Value::Loop(Rc::new(state)));
            self.frames.push(frame);
            self.assign(&definition.target, items[index].clone())?;
            let flow = self.nodes(&definition.body)?;
            self.frames.pop();
            completed |= flow == Flow::Next;
            if flow == Flow::Break {
                break;
            }
        }
        if definition.recursive {
            self.recursive.pop();
        }
        if !completed {
            self.scope(&definition.otherwise)?;
        }
        Ok(())
    }

    /// What a loop goes over.
    pub(super) fn items(&mut self, value: &Value) -> Outcome<Rc<Vec<Value>>> {
        let items = match value {
            Value::Undefined(_) => Vec::new(),
            Value::Seq(seq) => seq.items.clone(),
            Value::Map(map) => map.entries.iter().map(|(key, _)| key.clone()).collect(),
            Value::Str(text) => {
                // Each character becomes a text of its own.
                self.budget.items(text.chars().count())?;
                self.budget.spend(24 * text.len())?;
                text.chars().map(|c| Value::text(c.encode_utf8(&mut [0; 4]))).collect()
            }
            other => return Err(Stop::failed(format!("{} cannot be gone over", other.a_kind()))),
        };
        self.budget.spend(16 * items.len())?;
        Ok(Rc::new(items))
    }

    fn set(&mut self, name: &Rc<str>, value: Value) -> Outcome<()> {
        if let Some(frame) = self.frames.last_mut() {
            frame.insert(name.clone(), value);
        }
        self.budget.spend(64)
    }

    fn assign(&mut self, target: &Target, value: Value) -> Outcome<()> {
        match target {
            Target::Name(name) => self.set(name, value),
            Target::Tuple(targets) => {
                let items = self.items(&value)?;
                if items.len() != targets.len() {
                    return Err(Stop::failed(format!(
                        "{} values do not go into {} names",
                        items.len(),
                        targets.len()
                    )));
                }
                for (target, item) in targets.iter().zip(items.iter()) {
                    self.assign(target, item.clone())?;
                }
                Ok(())
            }
            Target::Attribute(name, attribute) => match self.name(name) {
                Value::Namespace(namespace) => {
                    self.budget.spend(64)?;
                    namespace.borrow_mut().insert(attribute.clone(), value);
                    Ok(())
                }
                _ => Err(Stop::failed("only attributes of a namespace can be set")),
            },
        }
    }

    fn name(&self, name: &Rc<str>) -> Value {
        if let Some(value) = self.frames.iter().rev().find_map(|frame| frame.get(name)) {
            return value.clone();
        }
        // Without a date, templates that ask first bring one of their own; the others get an empty one.
        let hidden = self.hides_clock && &**name == "strftime_now";
        if FUNCTIONS.contains(&&**name) && !hidden {
            return Value::Function(name.clone());
        }
        undefined(name)
    }

    pub(super) fn show(&mut self, value: &Value) -> Outcome<String> {
        self.budget.spend(2 * value.size())?;
        let text = value.show();
        self.budget.text(text.len())?;
        Ok(text)
    }

    pub(super) fn text(&mut self, text: String) -> Outcome<Value> {
        self.budget.text(text.len())?;
        Ok(Value::Str(text.into()))
    }

    fn eval(&mut self, expr: &Expr) -> Outcome<Value> {
        self.budget.steps(1)?;
        match expr {
            Expr::Const(value) => return Ok(value.clone()),
            Expr::Name(name) => return Ok(self.name(name)),
            _ => {}
        }
        self.down()?;
        let value = self.eval_inside(expr)?;
        self.depth -= 1;
        Ok(value)
    }

    fn all(&mut self, exprs: &[Expr]) -> Outcome<Vec<Value>> {
        exprs.iter().map(|expr| self.eval(expr)).collect()
    }

    fn eval_inside(&mut self, expr: &Expr) -> Outcome<Value> {
        match expr {
            Expr::Const(value) => Ok(value.clone()),
            Expr::Name(name) => Ok(self.name(name)),
            Expr::List(items) => {
                let items = self.all(items)?;
                Value::list(items, &mut self.budget)
            }
            Expr::Tuple(items) => {
                let items = self.all(items)?;
                Value::seq(SeqKind::Tuple, items, &mut self.budget)
            }
            Expr::Dict(pairs) => {
                let mut entries = Vec::new();
                for (key, value) in pairs {
                    entries.push((self.eval(key)?, self.eval(value)?));
                }
                Value::map(entries, &mut self.budget)
            }
            Expr::Chain(first, rest) => {
                let mut value = self.eval(first)?;
                for (op, expr) in rest {
                    let right = self.eval(expr)?;
                    value = self.operate(op, value, right)?;
                }
                Ok(value)
            }
            Expr::Concat(parts) => {
                let mut text = String::new();
                for part in parts {
                    let value = self.eval(part)?;
                    let part = self.show(&value)?;
                    self.budget.text(text.len() + part.len())?;
                    text.push_str(&part);
                }
                self.text(text)
            }
            Expr::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                for (op, expr) in rest {
                    let right = self.eval(expr)?;
                    if !self.compare(op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::And(parts) | Expr::Or(parts) => {
                // The value that decides is the result.
                let stops_at = matches!(expr, Expr::Or(_));
                let mut value = Value::None;
                for part in parts {
                    value = self.eval(part)?;
                    if value.is_true() == stops_at {
                        break;
                    }
                }
                Ok(value)
            }
            Expr::Not(inner) => Ok(Value::Bool(!self.eval(inner)?.is_true())),
            Expr::Negative(inner) => match self.eval(inner)? {
                Value::Float(number) => Ok(Value::Float(-number)),
                value => match value.as_int().map(i64::checked_neg) {
                    Some(number) => number
                        .map(Value::Int)
                        .ok_or_else(|| Stop::failed("a number is too large")),
                    None => missing(&value),
                },
            },
            Expr::Positive(inner) => {
                let value = self.eval(inner)?;
                if value.as_float().is_some() {
                    Ok(value)
                } else {
                    missing(&value)
                }
            }
            Expr::If(parts) => {
                if self.eval(&parts.0)?.is_true() {
                    self.eval(&parts.1)
                } else {
                    match &parts.2 {
                        Some(otherwise) => self.eval(otherwise),
                        None => Ok(Value::Undefined("the inline if has no else".into())),
                    }
                }
            }
            Expr::Post(base, posts) => {
                let value = self.eval(base)?;
                self.posts(value, posts)
            }
        }
    }

    fn posts(&mut self, mut value: Value, posts: &[Post]) -> Outcome<Value> {
        for post in posts {
            self.budget.steps(1)?;
            value = match post {
                Post::Attribute(name) => self.attribute(&value, name)?,
                Post::Item(expr) => {
                    let key = self.eval(expr)?;
                    self.item(&value, &key)?
                }
                Post::Slice(bounds) => {
                    let mut numbers = [None; 3];
                    for (number, bound) in numbers.iter_mut().zip(bounds) {
                        if let Some(bound) = bound {
                            let given = self.eval(bound)?;
                            *number = match given {
                                Value::None => None,
                                other => match other.as_int() {
                                    Some(n) => Some(n),
                                    None => return Err(Stop::failed("a slice needs whole numbers")),
                                },
                            };
                        }
                    }
                    self.slice(&value, numbers)?
                }
                Post::Call(arguments) => {
                    let given = self.given(arguments)?;
                    self.call(&value, given)?
                }
                Post::Filter(name, arguments) => {
                    let given = self.given(arguments)?;
                    filters::filter(self, name, value, &given)?
                }
                Post::Test(name, arguments, negated) => {
                    let given = self.given(arguments)?;
                    Value::Bool(filters::test(self, name, &value, &given)? != *negated)
                }
            };
        }
        Ok(value)
    }

    fn given(&mut self, arguments: &Arguments) -> Outcome<Given> {
        let mut given = Given {
            list: self.all(&arguments.list)?,
            named: Vec::new(),
        };
        if let Some(spread) = &arguments.spread {
            let value = self.eval(spread)?;
            given.list.extend(self.items(&value)?.iter().cloned());
        }
        for (name, expr) in &arguments.named {
            given.named.push((name.clone(), self.eval(expr)?));
        }
        if let Some(spread) = &arguments.spread_named {
            match self.eval(spread)? {
                Value::Map(map) => {
                    self.budget.spend(32 * map.entries.len())?;
                    for (key, value) in &map.entries {
                        if let Value::Str(key) = key {
                            given.named.push((key.clone(), value.clone()));
                        }
                    }
                }
                other => return missing(&other),
            }
        }
        Ok(given)
    }

    /// `value.name`.
    pub(super) fn attribute(&mut self, value: &Value, name: &Rc<str>) -> Outcome<Value> {
        if methods::is_method(value, name) {
            return Ok(Value::Method(Rc::new((value.clone(), name.clone()))));
        }
        let found = match value {
            Value::Undefined(_) => return missing(value),
            Value::Map(map) => {
                self.budget.steps(map.entries.len() / 16)?;
                value.get(name).cloned()
            }
            Value::Namespace(namespace) => namespace.borrow().get(name).cloned(),
            Value::Loop(state) => loop_attribute(state, name),
            Value::Macro(definition, _) if &**name == "name" => Some(Value::Str(definition.name.clone())),
            _ => None,
        };
        Ok(found.unwrap_or_else(|| {
            let name: String = name.chars().take(60).collect();
            let owner = match value {
                Value::Map(_) => "dict object",
                Value::Namespace(_) => "namespace object",
                other => other.kind(),
            };
            Value::Undefined(format!("'{owner}' has no attribute '{name}'").into())
        }))
    }

    /// `value[key]`.
    pub(super) fn item(&mut self, value: &Value, key: &Value) -> Outcome<Value> {
        let at = |length: usize| {
            let index = key.as_int()?;
            let index = if index < 0 {
                index.checked_add(length as i64)?
            } else {
                index
            };
            usize::try_from(index).ok().filter(|&index| index < length)
        };
        let found = match value {
            Value::Undefined(_) => return missing(value),
            Value::Seq(seq) => at(seq.items.len()).map(|index| seq.items[index].clone()),
            Value::Str(text) if key.as_int().is_some() => {
                self.budget.steps(text.len() / 16)?;
                let index = at(text.chars().count());
                let found = index.and_then(|index| text.chars().nth(index));
                found.map(|c| Value::text(c.encode_utf8(&mut [0; 4])))
            }
            Value::Map(map) => {
                self.budget.steps(map.entries.len() / 16)?;
                map.entries.iter().find(|(k, _)| k.equals(key)).map(|(_, v)| v.clone())
            }
            _ => None,
        };
        match (found, key) {
            (Some(found), _) => Ok(found),
            // What is no entry may be an attribute.
            (None, Value::Str(name)) => self.attribute(value, name),
            _ => Ok(Value::Undefined(
                format!(
                    "{} object has no element {}",
                    value.kind(),
                    key.repr().chars().take(60).collect::<String>()
                )
                .into(),
            )),
        }
    }

    fn slice(&mut self, value: &Value, [from, to, step]: [Option<i64>; 3]) -> Outcome<Value> {
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err(Stop::failed("a slice's step is zero"));
        }
        let indices = |length: usize| -> Vec<usize> {
            let length = length as i64;
            let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
            let place = |bound: Option<i64>, default: i64| match bound {
                None => default,
                Some(n) if n < 0 => n.saturating_add(length).clamp(low, high),
                Some(n) => n.clamp(low, high),
            };
            let begin = place(from, if step > 0 { low } else { high });
            let end = place(to, if step > 0 { high } else { low });
            let mut all = Vec::new();
            let mut at = begin;
            while if step > 0 { at < end } else { at > end } {
                all.push(at as usize);
                at = at.saturating_add(step);
            }
            all
        };
        match value {
            // The common case needs no list of characters.
            Value::Str(text) if step == 1 => {
                let length = text.chars().count() as i64;
                self.budget.spend(text.len())?;
                let place = |bound: Option<i64>, default: i64| {
                    let bound = bound.unwrap_or(default);
                    let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
                    bound.clamp(0, length) as usize
                };
                let (begin, end) = (place(from, 0), place(to, length));
                let text: String = text.chars().skip(begin).take(end.saturating_sub(begin)).collect();
                self.text(text)
            }
            Value::Str(text) => {
                self.budget.items(text.chars().count())?;
                let characters: Vec<char> = text.chars().collect();
                let text = indices(characters.len()).into_iter().map(|i| characters[i]).collect();
                self.text(text)
            }
            Value::Seq(seq) => {
                self.budget.spend(8 * seq.items.len())?;
                let items = indices(seq.items.len()).into_iter().map(|i| seq.items[i].clone());
                let kind = if seq.kind == SeqKind::Tuple {
                    SeqKind::Tuple
                } else {
                    SeqKind::List
                };
                Value::seq(kind, items.collect(), &mut self.budget)
            }
            other => missing(other),
        }
    }

    fn compare(&mut self, op: &str, left: &Value, right: &Value) -> Outcome<bool> {
        self.budget.steps(left.size().min(right.size()) / 16)?;
        Ok(match op {
            "==" => left.equals(right),
            "!=" => !left.equals(right),
            "in" => self.contains(left, right)?,
            "not in" => !self.contains(left, right)?,
            _ => {
                if left.is_undefined() {
                    return missing(left);
                }
                if right.is_undefined() {
                    return missing(right);
                }
                let order = left.order(right)?;
                match op {
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    _ => order.is_ge(),
                }
            }
        })
    }

    pub(super) fn contains(&mut self, part: &Value, whole: &Value) -> Outcome<bool> {
        self.budget.steps(whole.size() / 16)?;
        match whole {
            Value::Undefined(_) => Ok(false),
            Value::Str(text) => match part {
                Value::Str(part) => Ok(text.contains(&**part)),
                other => Err(Stop::failed(format!("{} cannot be in a str", other.a_kind()))),
            },
            Value::Seq(seq) => {
                self.budget.steps(seq.items.len() * (1 + part.size() / 16))?;
                Ok(seq.items.iter().any(|item| item.equals(part)))
            }
            Value::Map(map) => Ok(map.entries.iter().any(|(key, _)| key.equals(part))),
            other => Err(Stop::failed(format!("nothing can be in {}", other.a_kind()))),
        }
    }

    fn operate(&mut self, op: &str, left: Value, right: Value) -> Outcome<Value> {
        if left.is_undefined() {
            return missing(&left);
        }
        if right.is_undefined() && !(op == "%" && left.as_str().is_some()) {
            return missing(&right);
        }
        let too_large = || Stop::failed("a number is too large");
        let no_zero = || Stop::failed("division by zero");
        if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
            let whole = |number: Option<i64>| number.map(Value::Int).ok_or_else(too_large);
            return match op {
                "+" => whole(a.checked_add(b)),
                "-" => whole(a.checked_sub(b)),
                "*" => whole(a.checked_mul(b)),
                "/" if b == 0 => Err(no_zero()),
                "/" => Ok(Value::Float(a as f64 / b as f64)),
                "//" | "%" if b == 0 => Err(no_zero()),
                // Python rounds down, and a remainder has the sign of the divisor.
                "//" => whole(
                    a.checked_div(b)
                        .map(|q| q - i64::from(a % b != 0 && (a < 0) != (b < 0))),
                ),
                "%" => whole(
                    a.checked_rem(b)
                        .map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
                ),
                _ if b < 0 => Ok(Value::Float((a as f64).powf(b as f64))),
                _ => whole(u32::try_from(b).ok().and_then(|b| a.checked_pow(b))),
            };
        }
        if let (Some(a), Some(b)) = (left.as_float(), right.as_float()) {
            return match op {
                "+" => Ok(Value::Float(a + b)),
                "-" => Ok(Value::Float(a - b)),
                "*" => Ok(Value::Float(a * b)),
                "/" | "//" | "%" if b == 0.0 => Err(no_zero()),
                "/" => Ok(Value::Float(a / b)),
                "//" => Ok(Value::Float((a / b).floor())),
                "%" => Ok(Value::Float(a - b * (a / b).floor())),
                _ => Ok(Value::Float(a.powf(b))),
            };
        }
        match (op, &left, &right) {
            ("+", Value::Str(a), Value::Str(b)) => {
                self.budget.text(a.len() + b.len())?;
                self.text([&**a, &**b].concat())
            }
            ("+", Value::Seq(a), Value::Seq(b)) if a.kind == b.kind => {
                self.budget.items(a.items.len() + b.items.len())?;
                Value::seq(a.kind, [&a.items[..], &b.items[..]].concat(), &mut self.budget)
            }
            ("*", Value::Str(_) | Value::Seq(_), _) | ("*", _, Value::Str(_) | Value::Seq(_)) => {
                let (what, count) = if right.as_int().is_some() {
                    (&left, &right)
                } else {
                    (&right, &left)
                };
                let Some(count) = count.as_int() else {
                    return Err(Stop::failed(format!("{} cannot be multiplied so", what.a_kind())));
                };
                let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
                match what {
                    Value::Seq(seq) => {
                        let length = seq.items.len().saturating_mul(count);
                        self.budget.items(length)?;
                        let again = std::iter::repeat_n(&seq.items, if length == 0 { 0 } else { count });
                        let items = again.flatten().cloned().collect();
                        Value::seq(seq.kind, items, &mut self.budget)
                    }
                    other => {
                        let text = other.as_str().unwrap_or_default();
                        self.budget.text(text.len().saturating_mul(count))?;
                        let text = if text.is_empty() {
                            String::new()
                        } else {
                            text.repeat(count)
                        };
                        self.text(text)
                    }
                }
            }
            ("%", Value::Str(format), _) => methods::percent(self, format, &right),
            _ => Err(Stop::failed(format!(
                "\"{op}\" does not go with {} and {}",
                left.a_kind(),
                right.a_kind()
            ))),
        }
    }

    pub(super) fn call(&mut self, callee: &Value, given: Given) -> Outcome<Value> {
        self.budget.steps(1)?;
        match callee {
            Value::Method(method) => methods::call(self, &method.0, &method.1, &given),
            Value::Function(name) => self.function(name, given),
            Value::Macro(definition, frames) => self.call_macro(definition, frames, given),
            Value::Loop(state) => {
                let Some(definition) = state.recursion.and_then(|at| self.recursive.get(at)).cloned() else {
                    return Err(Stop::failed("only a recursive loop can be called"));
                };
                let items = given.need(0, "items")?.clone();
                self.down()?;
                let depth = state.depth + 1;
                let text = self.capture(|run| run.for_each(&definition, &items, depth))?;
                self.depth -= 1;
                self.text(text)
            }
            other => missing(other),
        }
    }

    fn call_macro(&mut self, definition: &Rc<Macro>, sight: &Sight, mut given: Given) -> Outcome<Value> {
        self.down()?;
        // A macro sees what was around it where it was written, not where it is called.
        let hidden = match sight {
            Sight::First(count) => self.frames.split_off((*count).min(self.frames.len())),
            Sight::Copy(frames) => {
                let seen: usize = frames.iter().map(BTreeMap::len).sum();
                self.budget.spend(64 * seen)?;
                std::mem::replace(&mut self.frames, frames.to_vec())
            }
        };
        self.frames.push(Frame::new());
        let mut list = std::mem::take(&mut given.list).into_iter();
        for (name, default) in &definition.parameters {
            let named = given.named.iter().position(|(n, _)| n == name);
            let value = match (list.next(), named) {
                (Some(value), _) => value,
                (None, Some(at)) => given.named.swap_remove(at).1,
                (None, None) => match default {
                    Some(default) => self.eval(default)?,
                    None => Value::Undefined(format!("the parameter '{name}' was not given").into()),
                },
            };
            self.set(name, value)?;
        }
        let rest = Value::seq(SeqKind::Tuple, list.collect(), &mut self.budget)?;
        self.set(&"varargs".into(), rest)?;
        let mut named = Vec::new();
        for (name, value) in given.named {
            if &*name == "caller" {
                self.set(&name, value)?;
            } else {
                named.push((Value::Str(name), value));
            }
        }
        let named = Value::map(named, &mut self.budget)?;
        self.set(&"kwargs".into(), named)?;
        let text = self.capture(|run| run.nodes(&definition.body).map(|_| ()))?;
        match sight {
            Sight::First(_) => {
                self.frames.pop();
                self.frames.extend(hidden);
            }
            Sight::Copy(_) => self.frames = hidden,
        }
        self.depth -= 1;
        self.text(text)
    }

    fn function(&mut self, name: &str, given: Given) -> Outcome<Value> {
        match name {
            "range" => {
                let number = |at: usize| -> Outcome<i64> {
                    let value = given.need(at, "stop")?;
                    value
                        .as_int()
                        .ok_or_else(|| Stop::failed("a range needs whole numbers"))
                };
                let (from, to) = if given.list.len() > 1 {
                    (number(0)?, number(1)?)
                } else {
                    (0, number(0)?)
                };
                let step = if given.list.len() > 2 { number(2)? } else { 1 };
                if step == 0 {
                    return Err(Stop::failed("a range's step is zero"));
                }
                let span = if step > 0 {
                    to.saturating_sub(from)
                } else {
                    from.saturating_sub(to)
                };
                let width = step.unsigned_abs();
                let count = span.max(0) as u64;
                let count = count / width + u64::from(!count.is_multiple_of(width));
                if count > MAX_RANGE as u64 {
                    return Err(Stop::failed(format!("a range has more than {MAX_RANGE} numbers")));
                }
                let items = (0..count as i64).map(|i| Value::Int(from + i * step)).collect();
                Value::list(items, &mut self.budget)
            }
            "dict" | "namespace" => {
                let mut entries = Vec::new();
                match given.list.first() {
                    None => {}
                    Some(Value::Map(map)) => entries.extend(map.entries.iter().cloned()),
                    Some(other) => {
                        for pair in self.items(other)?.iter() {
                            let pair = self.items(pair)?;
                            let [key, value] = &pair[..] else {
                                return Err(Stop::failed("a dict is made of pairs"));
                            };
                            entries.push((key.clone(), value.clone()));
                        }
                    }
                }
                entries.extend(given.named.into_iter().map(|(name, value)| (Value::Str(name), value)));
                if name == "dict" {
                    return Value::map(entries, &mut self.budget);
                }
                self.budget.spend(64 * (entries.len() + 1))?;
                let entries = entries.into_iter().filter_map(|(key, value)| match key {
                    Value::Str(key) => Some((key, value)),
                    _ => None,
                });
                let namespace = Rc::new(RefCell::new(entries.collect()));
                self.namespaces.push(namespace.clone());
                Ok(Value::Namespace(namespace))
            }
            "raise_exception" => {
                let message = given.need(0, "message")?.clone();
                Err(Stop::Refused(self.show(&message)?))
            }
            _ => {
                let format = given.text(0, "format")?;
                self.budget.text(format.len().saturating_mul(16))?;
                let text = self.date.map(|date| date.format(format)).unwrap_or_default();
                self.text(text)
            }
        }
    }
}

fn loop_attribute(state: &Rc<Loop>, name: &str) -> Option<Value> {
    let length = state.items.len();
    let number = |n: usize| Some(Value::Int(n as i64));
    match name {
        "index" => number(state.index + 1),
        "index0" => number(state.index),
        "revindex" => number(length - state.index),
        "revindex0" => number(length - state.index - 1),
        "first" => Some(Value::Bool(state.index == 0)),
        "last" => Some(Value::Bool(state.index + 1 == length)),
        "length" => number(length),
        "depth" => number(state.depth + 1),
        "depth0" => number(state.depth),
        "previtem" => Some(match state.index.checked_sub(1) {
            Some(before) => state.items[before].clone(),
            None => Value::Undefined("there is no previous item".into()),
        }),
        "nextitem" => Some(match state.items.get(state.index + 1) {
            Some(next) => next.clone(),
            None => Value::Undefined("there is no next item".into()),
        }),
        _ => None,
    }
}
