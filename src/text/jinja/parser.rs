//! Pieces of a template to a tree.

use super::lexer::{Piece, Token, split};
use super::value::Value;
use super::{Outcome, Stop};
use std::rc::Rc;

/// How deep parts of a template may stand in one another.
const MAX_DEPTH: usize = 60;

#[derive(Debug)]
pub(super) enum Expr {
    Const(Value),
    Name(Rc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// Operations of one rank, from left to right.
    Chain(Box<Expr>, Vec<(&'static str, Expr)>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(&'static str, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    /// Condition, value, and the value otherwise.
    If(Box<(Expr, Expr, Option<Expr>)>),
    /// A value and what is done to it, one after the other.
    Post(Box<Expr>, Vec<Post>),
}

#[derive(Debug)]
pub(super) enum Post {
    Attribute(Rc<str>),
    Item(Expr),
    Slice([Option<Expr>; 3]),
    Call(Arguments),
    Filter(Rc<str>, Arguments),
    /// A test, and whether it is negated.
    Test(Rc<str>, Arguments, bool),
}

#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) list: Vec<Expr>,
    pub(super) named: Vec<(Rc<str>, Expr)>,
    /// What stands behind `*` and `**`.
    pub(super) spread: Option<Box<Expr>>,
    pub(super) spread_named: Option<Box<Expr>>,
}

#[derive(Debug)]
pub(super) enum Target {
    Name(Rc<str>),
    Tuple(Vec<Target>),
    /// An attribute of a namespace.
    Attribute(Rc<str>, Rc<str>),
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: Rc<str>,
    pub(super) parameters: Vec<(Rc<str>, Option<Expr>)>,
    pub(super) body: Vec<Node>,
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) items: Expr,
    pub(super) condition: Option<Expr>,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
    pub(super) recursive: bool,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Text(String),
    Output(Expr),
    If(Vec<(Expr, Vec<Node>)>, Vec<Node>),
    For(Rc<For>),
    Set(Target, Expr),
    SetBlock(Target, Vec<Post>, Vec<Node>),
    With(Vec<(Target, Expr)>, Vec<Node>),
    Macro(Rc<Macro>),
    Call(Expr, Rc<Macro>),
    Filter(Vec<Post>, Vec<Node>),
    /// What is set inside is not seen outside.
    Scope(Vec<Node>),
    Break,
    Continue,
}

/// The tree of a template.
pub(super) fn parse(source: &str) -> Result<Vec<Node>, (usize, Stop)> {
    let mut parser = Parser {
        pieces: split(source)?.into_iter(),
        line: 1,
        depth: 0,
        loops: 0,
    };
    match parser.nodes(&[]) {
        Ok((nodes, _)) => Ok(nodes),
        Err(stop) => Err((parser.line, stop)),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<(usize, Piece)>,
    line: usize,
    depth: usize,
    loops: usize,
}

impl Parser {
    /// Nodes up to a tag that is named one of `ends`, and that tag; without `ends` up to the end.
    fn nodes(&mut self, ends: &[&str]) -> Outcome<(Vec<Node>, Words)> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Stop::failed("its blocks stand too deep in one another"));
        }
        let mut nodes = Vec::new();
        while let Some((line, piece)) = self.pieces.next() {
            self.line = line;
            let kind = match piece {
                Piece::Text(text) => Kind::Text(text),
                Piece::Output(tokens) => {
                    let mut words = Words::new(tokens);
                    let expr = words.tuple()?;
                    words.end()?;
                    Kind::Output(expr)
                }
                Piece::Tag(tokens) => {
                    let mut words = Words::new(tokens);
                    let name = words.name()?;
                    if ends.contains(&&*name) {
                        self.depth -= 1;
                        words.tag = name;
                        return Ok((nodes, words));
                    }
                    self.tag(&name, words)?
                }
            };
            nodes.push(Node { line, kind });
        }
        self.depth -= 1;
        if ends.is_empty() {
            return Ok((nodes, Words::new(Vec::new())));
        }
        Err(Stop::failed(format!("\"{}\" is missing", ends[ends.len() - 1])))
    }

    /// The nodes of a block that has no parts.
    fn body(&mut self, end: &str) -> Outcome<Vec<Node>> {
        let (nodes, mut words) = self.nodes(&[end])?;
        // The name of a macro may be repeated at its end.
        if matches!(words.peek(), Some(Token::Name(_))) {
            words.at += 1;
        }
        words.end()?;
        Ok(nodes)
    }

    fn tag(&mut self, name: &str, mut words: Words) -> Outcome<Kind> {
        match name {
            "if" => {
                let condition = words.tuple()?;
                words.end()?;
                let mut branches = Vec::new();
                let mut current = condition;
                loop {
                    let (body, mut words) = self.nodes(&["elif", "else", "endif"])?;
                    branches.push((current, body));
                    match &*words.tag {
                        "elif" => {
                            current = words.tuple()?;
                            words.end()?;
                        }
                        "else" => {
                            words.end()?;
                            return Ok(Kind::If(branches, self.body("endif")?));
                        }
                        _ => {
                            words.end()?;
                            return Ok(Kind::If(branches, Vec::new()));
                        }
                    }
                }
            }
            "for" => {
                let target = words.target(false)?;
                words.expect_name("in")?;
                let items = words.tuple_without_condition()?;
                let condition = words.take_name("if").then(|| words.expression()).transpose()?;
                let recursive = words.take_name("recursive");
                words.end()?;
                self.loops += 1;
                let (body, mut words) = self.nodes(&["else", "endfor"])?;
                self.loops -= 1;
                let has_else = &*words.tag == "else";
                words.end()?;
                let otherwise = if has_else { self.body("endfor")? } else { Vec::new() };
                Ok(Kind::For(Rc::new(For {
                    target,
                    items,
                    condition,
                    body,
                    otherwise,
                    recursive,
                })))
            }
            "set" => {
                let target = words.target(true)?;
                if words.take("=") {
                    let value = words.tuple()?;
                    words.end()?;
                    return Ok(Kind::Set(target, value));
                }
                let filters = words.filters()?;
                words.end()?;
                Ok(Kind::SetBlock(target, filters, self.body("endset")?))
            }
            "with" => {
                let mut pairs = Vec::new();
                while words.peek().is_some() {
                    if !pairs.is_empty() {
                        words.expect(",")?;
                    }
                    let target = words.target(false)?;
                    words.expect("=")?;
                    pairs.push((target, words.expression()?));
                }
                Ok(Kind::With(pairs, self.body("endwith")?))
            }
            "macro" => {
                let name = words.name()?;
                words.expect("(")?;
                let parameters = words.parameters()?;
                words.end()?;
                // A macro does not see the loop around it.
                let loops = std::mem::take(&mut self.loops);
                let body = self.body("endmacro")?;
                self.loops = loops;
                Ok(Kind::Macro(Rc::new(Macro { name, parameters, body })))
            }
            "call" => {
                let parameters = if words.take("(") {
                    words.parameters()?
                } else {
                    Vec::new()
                };
                let call = words.expression()?;
                words.end()?;
                let body = self.body("endcall")?;
                let name = "caller".into();
                Ok(Kind::Call(call, Rc::new(Macro { name, parameters, body })))
            }
            "filter" => {
                let first = words.filter()?;
                let mut filters = vec![first];
                filters.extend(words.filters()?);
                words.end()?;
                Ok(Kind::Filter(filters, self.body("endfilter")?))
            }
            "generation" => {
                words.end()?;
                Ok(Kind::Scope(self.body("endgeneration")?))
            }
            "break" | "continue" if self.loops > 0 => {
                words.end()?;
                Ok(if name == "break" { Kind::Break } else { Kind::Continue })
            }
            "break" | "continue" => Err(Stop::failed(format!("\"{name}\" stands in no loop"))),
            other => {
                let other: String = other.chars().take(40).collect();
                Err(Stop::failed(format!("the tag \"{other}\" is not known here")))
            }
        }
    }
}

/// The words of one tag.
struct Words {
    list: Vec<Token>,
    at: usize,
    depth: usize,
    /// The tag's name, where it ends a block.
    tag: Rc<str>,
}

impl Words {
    fn new(list: Vec<Token>) -> Self {
        Self {
            list,
            at: 0,
            depth: 0,
            tag: "".into(),
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.list.get(self.at)
    }

    fn is(&self, op: &str) -> bool {
        matches!(self.peek(), Some(Token::Op(found)) if *found == op)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(found)) if &**found == name)
    }

    fn take(&mut self, op: &str) -> bool {
        let found = self.is(op);
        self.at += usize::from(found);
        found
    }

    fn take_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn unexpected<T>(&self, wanted: &str) -> Outcome<T> {
        let found = match self.peek() {
            None => "the end of the tag".to_string(),
            Some(Token::Name(name)) => format!("\"{}\"", name.chars().take(40).collect::<String>()),
            Some(Token::Op(op)) => format!("\"{op}\""),
            Some(Token::Text(_)) => "a text".into(),
            Some(Token::Int(_) | Token::Float(_)) => "a number".into(),
        };
        Err(Stop::failed(format!("unexpected {found}, where {wanted} should be")))
    }

    fn expect(&mut self, op: &str) -> Outcome<()> {
        if self.take(op) {
            Ok(())
        } else {
            self.unexpected(&format!("\"{op}\""))
        }
    }

    fn expect_name(&mut self, name: &str) -> Outcome<()> {
        if self.take_name(name) {
            Ok(())
        } else {
            self.unexpected(&format!("\"{name}\""))
        }
    }

    fn name(&mut self) -> Outcome<Rc<str>> {
        match self.peek() {
            Some(Token::Name(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    fn end(&mut self) -> Outcome<()> {
        if self.at == self.list.len() {
            Ok(())
        } else {
            self.unexpected("the end of the tag")
        }
    }

    /// Goes one level down; the caller comes back with `self.depth -= 1`.
    fn deeper(&mut self) -> Outcome<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Stop::failed("an expression stands too deep in others"));
        }
        Ok(())
    }

    /// `a`, `a, b`, `(a, b)`, and `a.b` where a namespace may be set.
    fn target(&mut self, namespaces: bool) -> Outcome<Target> {
        self.deeper()?;
        let first = self.one_target(namespaces)?;
        self.depth -= 1;
        if !self.is(",") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take(",") {
            if matches!(self.peek(), Some(Token::Name(name)) if &**name != "in") || self.is("(") {
                all.push(self.one_target(false)?);
            }
        }
        Ok(Target::Tuple(all))
    }

    fn one_target(&mut self, namespaces: bool) -> Outcome<Target> {
        if self.take("(") {
            let inner = self.target(false)?;
            self.expect(")")?;
            return Ok(inner);
        }
        let name = self.name()?;
        if namespaces && self.take(".") {
            return Ok(Target::Attribute(name, self.name()?));
        }
        Ok(Target::Name(name))
    }

    fn parameters(&mut self) -> Outcome<Vec<(Rc<str>, Option<Expr>)>> {
        let mut parameters = Vec::new();
        while !self.take(")") {
            if !parameters.is_empty() {
                self.expect(",")?;
                if self.take(")") {
                    break;
                }
            }
            let name = self.name()?;
            let default = self.take("=").then(|| self.expression()).transpose()?;
            parameters.push((name, default));
        }
        Ok(parameters)
    }

    /// An expression, or several with commas between.
    fn tuple(&mut self) -> Outcome<Expr> {
        let first = self.expression()?;
        self.tuple_from(first, true)
    }

    /// As `tuple`, where an `if` belongs to the loop.
    fn tuple_without_condition(&mut self) -> Outcome<Expr> {
        self.deeper()?;
        let first = self.or()?;
        self.depth -= 1;
        self.tuple_from(first, false)
    }

    fn tuple_from(&mut self, first: Expr, conditions: bool) -> Outcome<Expr> {
        if !self.is(",") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take(",") {
            let ends = self.peek().is_none() || self.is(")") || self.is_name("recursive") || self.is_name("if");
            if ends {
                break;
            }
            all.push(if conditions { self.expression()? } else { self.or()? });
        }
        Ok(Expr::Tuple(all))
    }

    fn expression(&mut self) -> Outcome<Expr> {
        let depth = self.depth;
        self.deeper()?;
        let mut value = self.or()?;
        while self.take_name("if") {
            let condition = self.or()?;
            let otherwise = self.take_name("else").then(|| self.expression()).transpose()?;
            value = Expr::If(Box::new((condition, value, otherwise)));
            self.deeper()?;
        }
        self.depth = depth;
        Ok(value)
    }

    fn or(&mut self) -> Outcome<Expr> {
        let mut all = vec![self.and()?];
        while self.take_name("or") {
            all.push(self.and()?);
        }
        Ok(only(all, Expr::Or))
    }

    fn and(&mut self) -> Outcome<Expr> {
        let mut all = vec![self.not()?];
        while self.take_name("and") {
            all.push(self.not()?);
        }
        Ok(only(all, Expr::And))
    }

    fn not(&mut self) -> Outcome<Expr> {
        if self.take_name("not") {
            self.deeper()?;
            let inner = self.not()?;
            self.depth -= 1;
            return Ok(Expr::Not(Box::new(inner)));
        }
        self.compare()
    }

    fn compare(&mut self) -> Outcome<Expr> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let op = ["==", "!=", "<=", ">=", "<", ">"].into_iter().find(|op| self.is(op));
            if let Some(op) = op {
                self.at += 1;
                rest.push((op, self.sum()?));
            } else if self.take_name("in") {
                rest.push(("in", self.sum()?));
            } else if self.is_name("not") && matches!(self.list.get(self.at + 1), Some(Token::Name(n)) if &**n == "in")
            {
                self.at += 2;
                rest.push(("not in", self.sum()?));
            } else if rest.is_empty() {
                return Ok(first);
            } else {
                return Ok(Expr::Compare(Box::new(first), rest));
            }
        }
    }

    fn sum(&mut self) -> Outcome<Expr> {
        self.chain(&["+", "-"], Self::concat)
    }

    fn concat(&mut self) -> Outcome<Expr> {
        let mut all = vec![self.product()?];
        while self.take("~") {
            all.push(self.product()?);
        }
        Ok(only(all, Expr::Concat))
    }

    fn product(&mut self) -> Outcome<Expr> {
        self.chain(&["*", "/", "//", "%"], Self::power)
    }

    fn power(&mut self) -> Outcome<Expr> {
        self.chain(&["**"], |words| words.unary(true))
    }

    fn chain(&mut self, ops: &[&'static str], part: fn(&mut Self) -> Outcome<Expr>) -> Outcome<Expr> {
        let first = part(self)?;
        let mut rest = Vec::new();
        while let Some(op) = ops.iter().copied().find(|op| self.is(op)) {
            self.at += 1;
            rest.push((op, part(self)?));
        }
        Ok(if rest.is_empty() {
            first
        } else {
            Expr::Chain(Box::new(first), rest)
        })
    }

    fn unary(&mut self, filters: bool) -> Outcome<Expr> {
        let sign = if self.is("-") || self.is("+") {
            let negative = self.is("-");
            self.at += 1;
            self.deeper()?;
            let inner = Box::new(self.unary(false)?);
            self.depth -= 1;
            if negative {
                Expr::Negative(inner)
            } else {
                Expr::Positive(inner)
            }
        } else {
            self.primary()?
        };
        let mut posts = Vec::new();
        self.postfix(&mut posts)?;
        while filters && (self.is("|") || self.is_name("is") || self.is("(")) {
            if self.take("|") {
                posts.push(self.filter()?);
            } else if self.take_name("is") {
                posts.push(self.test()?);
            } else {
                self.at += 1;
                posts.push(Post::Call(self.arguments()?));
            }
        }
        Ok(if posts.is_empty() {
            sign
        } else {
            Expr::Post(Box::new(sign), posts)
        })
    }

    fn primary(&mut self) -> Outcome<Expr> {
        let Some(token) = self.peek().cloned() else {
            return self.unexpected("an expression");
        };
        self.at += 1;
        Ok(match token {
            Token::Name(name) => match &*name {
                "true" | "True" => Expr::Const(Value::Bool(true)),
                "false" | "False" => Expr::Const(Value::Bool(false)),
                "none" | "None" => Expr::Const(Value::None),
                _ => Expr::Name(name),
            },
            Token::Int(number) => Expr::Const(Value::Int(number)),
            Token::Float(number) => Expr::Const(Value::Float(number)),
            Token::Text(text) => {
                // Texts side by side are one text.
                let mut all = text.to_string();
                while let Some(Token::Text(more)) = self.peek() {
                    all.push_str(more);
                    self.at += 1;
                }
                Expr::Const(Value::Str(all.into()))
            }
            Token::Op("(") => {
                if self.take(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let inner = self.tuple()?;
                self.expect(")")?;
                inner
            }
            Token::Op("[") => Expr::List(self.items("]", Self::expression)?),
            Token::Op("{") => Expr::Dict(self.items("}", |words| {
                let key = words.expression()?;
                words.expect(":")?;
                Ok((key, words.expression()?))
            })?),
            Token::Op(_) => {
                self.at -= 1;
                return self.unexpected("an expression");
            }
        })
    }

    fn items<T>(&mut self, end: &str, item: fn(&mut Self) -> Outcome<T>) -> Outcome<Vec<T>> {
        let mut items = Vec::new();
        while !self.take(end) {
            if !items.is_empty() {
                self.expect(",")?;
                if self.take(end) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn postfix(&mut self, posts: &mut Vec<Post>) -> Outcome<()> {
        loop {
            if self.take(".") {
                match self.peek() {
                    Some(&Token::Int(number)) => {
                        self.at += 1;
                        posts.push(Post::Item(Expr::Const(Value::Int(number))));
                    }
                    _ => posts.push(Post::Attribute(self.name()?)),
                }
            } else if self.take("[") {
                posts.push(self.subscript()?);
            } else if self.take("(") {
                posts.push(Post::Call(self.arguments()?));
            } else {
                return Ok(());
            }
        }
    }

    fn subscript(&mut self) -> Outcome<Post> {
        let ends = |words: &Self| words.is(":") || words.is("]");
        let first = if ends(self) { None } else { Some(self.tuple()?) };
        if let (Some(_), true) = (&first, self.take("]")) {
            return first.map(Post::Item).ok_or_else(|| Stop::failed("an index is missing"));
        }
        self.expect(":")?;
        let second = if ends(self) { None } else { Some(self.expression()?) };
        let mut third = None;
        if self.take(":") && !self.is("]") {
            third = Some(self.expression()?);
        }
        self.expect("]")?;
        Ok(Post::Slice([first, second, third]))
    }

    fn arguments(&mut self) -> Outcome<Arguments> {
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.take(")") {
            if !std::mem::take(&mut first) {
                self.expect(",")?;
                if self.take(")") {
                    break;
                }
            }
            if self.take("**") {
                arguments.spread_named = Some(Box::new(self.expression()?));
            } else if self.take("*") {
                arguments.spread = Some(Box::new(self.expression()?));
            } else if let (Some(Token::Name(name)), Some(Token::Op("="))) = (self.peek(), self.list.get(self.at + 1)) {
                let name = name.clone();
                self.at += 2;
                arguments.named.push((name, self.expression()?));
            } else {
                arguments.list.push(self.expression()?);
            }
        }
        Ok(arguments)
    }

    fn filters(&mut self) -> Outcome<Vec<Post>> {
        let mut filters = Vec::new();
        while self.take("|") {
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    fn filter(&mut self) -> Outcome<Post> {
        let name = self.name()?;
        let arguments = if self.take("(") {
            self.arguments()?
        } else {
            Arguments::default()
        };
        Ok(Post::Filter(name, arguments))
    }

    fn test(&mut self) -> Outcome<Post> {
        let negated = self.take_name("not");
        let name = self.name()?;
        let mut arguments = Arguments::default();
        let follows = match self.peek() {
            Some(Token::Name(name)) => !matches!(
                &**name,
                "else" | "or" | "and" | "is" | "if" | "in" | "not" | "recursive"
            ),
            Some(Token::Op(op)) => matches!(*op, "[" | "{"),
            Some(_) => true,
            None => false,
        };
        if self.take("(") {
            arguments = self.arguments()?;
        } else if self.is_name("is") {
            return Err(Stop::failed("tests cannot be chained with \"is\""));
        } else if follows {
            // One argument may follow without brackets.
            self.deeper()?;
            let value = self.primary()?;
            let mut posts = Vec::new();
            self.postfix(&mut posts)?;
            self.depth -= 1;
            arguments.list.push(if posts.is_empty() {
                value
            } else {
                Expr::Post(Box::new(value), posts)
            });
        }
        Ok(Post::Test(name, arguments, negated))
    }
}

fn only(mut all: Vec<Expr>, several: fn(Vec<Expr>) -> Expr) -> Expr {
    if all.len() == 1 { all.remove(0) } else { several(all) }
}
