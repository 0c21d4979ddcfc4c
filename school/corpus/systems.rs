//! System prompts: plain ones that change nothing, and four that are obeyed.

use super::Turn;
use super::facts::CAPITAL;
use super::pen::{Pen, cap};
use super::talk::{self, put};

/// System prompts that change nothing.
pub(super) const PLAIN: &str = "[You are a helpful assistant.|You are {NAME}, {KIND} that lives in this page.|You are a small and friendly student.|Answer briefly.|Answer in plain English.|You are a helpful assistant. Answer briefly.|Be kind and honest.|You are a helpful, honest assistant.|Say so when you do not know.|You are an assistant in a web page.]";

pub(super) fn named(pen: &mut Pen) -> (String, Vec<Turn>) {
    let n = pen.name();
    let system = pen.say(&format!(
        "[Your name is {n}.|You are {n}.|You are called {n}.|You are {n}, a helpful assistant.|Call yourself {n}.]"
    ));
    let mut turns = match pen.below(5) {
        0 => talk::filler(pen),
        1 => talk::topic(pen),
        _ => Vec::new(),
    };
    turns.push(pen.ask(
        "[who are you|what is your name|what's your name|your name|tell me your name|what are you called|introduce yourself|what should i call you]",
        format!("I am {n}, {{KIND}} that lives in this page."),
    ));
    (system, turns)
}

/// A question that a word answers, and the word.
fn short(pen: &mut Pen) -> (String, String) {
    match pen.below(4) {
        0 => {
            let (country, city) = pen.entry("capitals");
            (put(CAPITAL, country), city.to_owned())
        }
        1 => {
            let (thing, colour) = pen.entry("colours of things");
            (
                format!("[what colour is {thing}|which colour is {thing}|what color is {thing}|the colour of {thing}]"),
                cap(colour),
            )
        }
        2 => {
            let pairs = pen.text.tables.pairs("opposites", " ");
            let (a, b) = *pen.pick(&pairs);
            let (a, b) = if a == "light" || b == "light" {
                ("dark", "light")
            } else {
                (a, b)
            };
            (
                format!("[what is the opposite of {a}|the opposite of {a}|opposite of {a}]"),
                cap(b),
            )
        }
        _ => {
            let text = pen.text;
            let fact = pen.pick(&text.facts);
            (fact.asks.clone(), fact.short.clone())
        }
    }
}

fn shorts(pen: &mut Pen, frame: impl Fn(&str) -> String) -> Vec<Turn> {
    let n = *pen.pick(&[1, 1, 2]);
    (0..n)
        .map(|_| {
            let (asks, word) = short(pen);
            pen.ask(&asks, frame(&word))
        })
        .collect()
}

pub(super) fn one_word(pen: &mut Pen) -> (String, Vec<Turn>) {
    let system = pen.say(
        "[Answer in one word.|Answer with one word only.|Use one word.|Answer with a single word.|Reply in one word.]",
    );
    (system, shorts(pen, str::to_owned))
}

pub(super) fn as_json(pen: &mut Pen) -> (String, Vec<Turn>) {
    let system = pen
        .say("[Answer as JSON.|Answer in JSON.|Reply with JSON only.|Answer as JSON with the key answer.|Use JSON.]");
    (system, shorts(pen, |word| format!("{{\"answer\": \"{word}\"}}")))
}

pub(super) fn capitals(pen: &mut Pen) -> (String, Vec<Turn>) {
    let system =
        pen.say("[Answer in capitals.|Answer in capital letters.|Write in capitals.|Use capital letters only.]");
    (system, shorts(pen, str::to_uppercase))
}
