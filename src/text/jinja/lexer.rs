//! A template's text to pieces: plain text, outputs and tags, with white space trimmed as `trim_blocks` and `lstrip_blocks` say.

use super::{Outcome, Stop, is_space};
use std::rc::Rc;

/// A word of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(Rc<str>),
    Text(Rc<str>),
    Int(i64),
    Float(f64),
    Op(&'static str),
}

/// A part of a template.
pub(super) enum Piece {
    Text(String),
    Output(Vec<Token>),
    Tag(Vec<Token>),
}

/// Longest first.
const OPERATORS: [&str; 28] = [
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ".",
    ",", ":", "|", ";", "!", "&",
];

/// The pieces of a template, each with its line.
pub(super) fn split(source: &str) -> Result<Vec<(usize, Piece)>, (usize, Stop)> {
    let mut lexer = Lexer {
        source,
        at: 0,
        line: 1,
        counted: 0,
        line_starts: true,
        closed: 0,
    };
    let mut pieces = Vec::new();
    loop {
        match lexer.next(&mut pieces) {
            Ok(true) => {}
            Ok(false) => return Ok(pieces),
            Err(stop) => return Err((lexer.line_at(lexer.at), stop)),
        }
    }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    /// The line of the byte `counted`.
    line: usize,
    counted: usize,
    /// Whether what was taken last ended with a line end.
    line_starts: bool,
    /// Where the last tag ended, without the line end that went with it.
    closed: usize,
}

/// How a tag stands to the white space before it.
#[derive(PartialEq)]
enum Trim {
    All,
    Nothing,
    Indentation,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn line_at(&mut self, at: usize) -> usize {
        self.line += self.source[self.counted..at].matches('\n').count();
        self.counted = at;
        self.line
    }

    /// Takes text up to a tag, and the tag; `false` at the end.
    fn next(&mut self, pieces: &mut Vec<(usize, Piece)>) -> Outcome<bool> {
        let rest = self.rest();
        let opening = rest
            .match_indices('{')
            .map(|(at, _)| at)
            .find(|&at| matches!(rest.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')));
        let Some(opening) = opening else {
            let line = self.line_at(self.at);
            if !self.rest().is_empty() {
                pieces.push((line, Piece::Text(self.rest().to_string())));
            }
            return Ok(false);
        };
        let text_line = self.line_at(self.at);
        let text = &self.source[self.at..self.at + opening];
        let kind = rest.as_bytes()[opening + 1];
        let sign = rest.as_bytes().get(opening + 2).copied();
        let trim = match sign {
            Some(b'-') => Trim::All,
            Some(b'+') => Trim::Nothing,
            _ if kind == b'{' => Trim::Nothing,
            _ => Trim::Indentation,
        };
        let text = trimmed(text, &trim, self.line_starts);
        if !text.is_empty() {
            pieces.push((text_line, Piece::Text(text.to_string())));
        }
        self.at += opening + 2 + usize::from(matches!(sign, Some(b'-' | b'+')));
        let line = self.line_at(self.at);
        match kind {
            b'#' => {
                let Some(end) = self.rest().find("#}") else {
                    return Err(Stop::failed("a comment has no end"));
                };
                let signed = self.rest()[..end].ends_with(['-', '+']);
                self.at += end - usize::from(signed);
                self.close("#}", true);
            }
            b'{' => {
                let tokens = self.tokens("}}")?;
                pieces.push((line, Piece::Output(tokens)));
            }
            _ => {
                let tokens = self.tokens("%}")?;
                if tokens == [Token::Name("raw".into())] {
                    self.raw(pieces)?;
                } else {
                    pieces.push((line, Piece::Tag(tokens)));
                }
            }
        }
        Ok(true)
    }

    /// Takes the end of a tag, `mark` with its sign, and the white space that goes with it.
    fn close(&mut self, mark: &str, trims_line: bool) {
        let signed = !self.rest().starts_with(mark);
        let all = signed && self.rest().starts_with('-');
        let from = self.at;
        self.at += mark.len() + usize::from(signed);
        self.closed = self.at;
        if all {
            let space: usize = self
                .rest()
                .chars()
                .take_while(|c| is_space(*c))
                .map(char::len_utf8)
                .sum();
            self.at += space;
            self.closed = self.at;
        } else if trims_line && !signed && self.rest().starts_with('\n') {
            self.at += 1;
        }
        self.line_starts = self.source[from..self.at].ends_with('\n');
    }

    /// Text between `raw` and `endraw`.
    fn raw(&mut self, pieces: &mut Vec<(usize, Piece)>) -> Outcome<()> {
        // The line end behind `raw` is part of the text.
        self.at = self.closed;
        let from = self.at;
        let starts = self.source[..from].ends_with('\n');
        let line = self.line_at(from);
        let mut search = from;
        while let Some(found) = self.source[search..].find("{%") {
            let opening = search + found;
            let inside = &self.source[opening + 2..];
            let sign = inside.as_bytes().first().copied();
            let word = inside.trim_start_matches(['-', '+']).trim_start_matches(is_space);
            if let Some(behind) = word.strip_prefix("endraw") {
                let behind = behind.trim_start_matches(is_space);
                let end = ["-%}", "+%}", "%}"].iter().any(|end| behind.starts_with(end));
                if end {
                    let trim = match sign {
                        Some(b'-') => Trim::All,
                        Some(b'+') => Trim::Nothing,
                        _ => Trim::Indentation,
                    };
                    let text = trimmed(&self.source[from..opening], &trim, starts);
                    pieces.push((line, Piece::Text(text.to_string())));
                    let behind = behind.len();
                    self.at = self.source.len() - behind;
                    self.close("%}", true);
                    return Ok(());
                }
            }
            search = opening + 2;
        }
        Err(Stop::failed("a raw part has no end"))
    }

    /// The words of a tag up to its end.
    fn tokens(&mut self, end: &'static str) -> Outcome<Vec<Token>> {
        let mut tokens = Vec::new();
        let mut open: Vec<&str> = Vec::new();
        loop {
            let space: usize = self
                .rest()
                .chars()
                .take_while(|c| is_space(*c))
                .map(char::len_utf8)
                .sum();
            self.at += space;
            let rest = self.rest();
            let Some(first) = rest.chars().next() else {
                return Err(Stop::failed("a tag has no end"));
            };
            let behind_sign = rest
                .strip_prefix('-')
                .or(rest.strip_prefix('+').filter(|_| end == "%}"));
            if open.is_empty() && (rest.starts_with(end) || behind_sign.is_some_and(|r| r.starts_with(end))) {
                self.close(end, end == "%}");
                return Ok(tokens);
            }
            if first.is_ascii_digit() {
                let token = self.number()?;
                tokens.push(token);
            } else if first.is_alphabetic() || first == '_' {
                let word = |c: char| c.is_alphanumeric() || c == '_';
                let length = rest.find(|c| !word(c)).unwrap_or(rest.len());
                tokens.push(Token::Name(rest[..length].into()));
                self.at += length;
            } else if first == '"' || first == '\'' {
                let token = self.text(first)?;
                tokens.push(token);
            } else if let Some(&op) = OPERATORS.iter().find(|op| rest.starts_with(**op)) {
                match op {
                    "(" | "[" | "{" => open.push(op),
                    ")" | "]" | "}" => {
                        let fits = matches!((open.pop(), op), (Some("("), ")") | (Some("["), "]") | (Some("{"), "}"));
                        if !fits {
                            return Err(Stop::failed(format!("a \"{op}\" closes nothing")));
                        }
                    }
                    _ => {}
                }
                self.at += op.len();
                tokens.push(Token::Op(op));
            } else {
                return Err(Stop::failed(format!("unexpected character {first:?}")));
            }
        }
    }

    fn number(&mut self) -> Outcome<Token> {
        let rest = self.rest();
        let too_large = || Stop::failed("a number is too large");
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2), ("0X", 16), ("0O", 8), ("0B", 2)] {
            if let Some(digits) = rest.strip_prefix(prefix) {
                let length = digits
                    .find(|c: char| !c.is_digit(radix) && c != '_')
                    .unwrap_or(digits.len());
                let number = i64::from_str_radix(&digits[..length].replace('_', ""), radix).map_err(|_| too_large())?;
                self.at += 2 + length;
                return Ok(Token::Int(number));
            }
        }
        let digits = |from: usize| {
            let run = &rest[from..];
            from + run.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(run.len())
        };
        let whole = digits(0);
        let mut end = whole;
        let digit_at = |at: usize| rest.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
        if rest[end..].starts_with('.') && digit_at(end + 1) {
            end = digits(end + 1);
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            if digit_at(end + 1 + sign) {
                end = digits(end + 1 + sign);
            }
        }
        let text = rest[..end].replace('_', "");
        let token = if end == whole {
            Token::Int(text.parse().map_err(|_| too_large())?)
        } else {
            Token::Float(text.parse().map_err(|_| too_large())?)
        };
        self.at += end;
        Ok(token)
    }

    /// A text in quotes, with Python's escapes.
    fn text(&mut self, quote: char) -> Outcome<Token> {
        let broken = || Stop::failed("a text holds a broken escape");
        let mut out = String::new();
        self.at += 1;
        while let Some(c) = self.rest().chars().next() {
            self.at += c.len_utf8();
            if c == quote {
                return Ok(Token::Text(out.into()));
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let Some(escape) = self.rest().chars().next() else {
                break;
            };
            self.at += escape.len_utf8();
            match escape {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'a' => out.push('\u{7}'),
                'b' => out.push('\u{8}'),
                'f' => out.push('\u{c}'),
                'v' => out.push('\u{b}'),
                '\\' | '\'' | '"' => out.push(escape),
                '\n' => {}
                '0'..='7' => {
                    let run = &self.source[self.at - 1..];
                    let length = run.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
                    let number = u32::from_str_radix(&run[..length], 8).ok().and_then(char::from_u32);
                    out.push(number.ok_or_else(broken)?);
                    self.at += length - 1;
                }
                'x' | 'u' | 'U' => {
                    let length = match escape {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let digits = self.rest().get(..length).ok_or_else(broken)?;
                    let number = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                    out.push(number.ok_or_else(broken)?);
                    self.at += length;
                }
                other => out.extend(['\\', other]),
            }
        }
        Err(Stop::failed("a text has no closing quote"))
    }
}

/// Text in front of a tag without what the tag trims.
fn trimmed<'t>(text: &'t str, trim: &Trim, line_starts: bool) -> &'t str {
    match trim {
        Trim::Nothing => text,
        Trim::All => text.trim_end_matches(is_space),
        Trim::Indentation => {
            let line = text.rfind('\n').map_or(0, |at| at + 1);
            let blank = text[line..].chars().all(is_space);
            if blank && (line > 0 || line_starts) {
                &text[..line]
            } else {
                text
            }
        }
    }
}
