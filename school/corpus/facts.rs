//! Everyday facts from the tables.

use super::Turn;
use super::outside::DONT_KNOW;
use super::pen::{Pen, an, cap};
use super::talk::put;

pub(super) fn opposite(pen: &mut Pen) -> Vec<Turn> {
    let pairs = pen.text.tables.pairs("opposites", " ");
    let draw = |pen: &mut Pen| {
        let (a, b) = *pen.pick(&pairs);
        // "light" has two opposites; only dark is asked for and given.
        let (a, b) = if a == "light" || b == "light" {
            ("dark", "light")
        } else {
            (a, b)
        };
        if pen.chance(0.5) { (a, b) } else { (b, a) }
    };
    let (a, b) = draw(pen);
    let shown = match pen.below(6) {
        0 => format!("'{a}'"),
        1 => format!("\"{a}\""),
        _ => a.to_owned(),
    };
    let asks = put(
        "[what is the opposite of X|opposite of X|the opposite of X|what's the opposite of X|give me the opposite of X|what is the contrary of X|tell me the opposite of X|which word is the opposite of X|X. what is the opposite|not X but|antonym of X]",
        &shown,
    );
    let mut turns = vec![pen.ask(&asks, format!("The opposite of {a} is **{b}**."))];
    while pen.chance(0.3) {
        let (a, b) = draw(pen);
        turns.push(pen.ask(
            &put(
                "[and of X|and X|and the opposite of X|what about X|now X|X|and for X]",
                a,
            ),
            format!("The opposite of {a} is **{b}**."),
        ));
    }
    turns
}

pub(super) fn colour(pen: &mut Pen) -> Vec<Turn> {
    if pen.chance(0.2) {
        let (two, c) = pen.entry("mixed colours");
        let (mut a, mut b) = two.split_once(", ").expect("two colours");
        if pen.chance(0.5) {
            (a, b) = (b, a);
        }
        return vec![pen.ask(
            &format!("[what do {a} and {b} make|mix {a} and {b}|what colour do you get from {a} and {b}|what happens when i mix {a} and {b}|{a} and {b} make|what is {a} plus {b}|which color do {a} and {b} make]"),
            format!("{} and {b} make **{c}**.", cap(a)),
        )];
    }
    let mut turns = Vec::new();
    for i in 0..*pen.pick(&[1, 1, 1, 2]) {
        let (thing, c) = pen.entry("colours of things");
        let bare = ["an ", "a ", "the "]
            .iter()
            .find_map(|article| thing.strip_prefix(article))
            .unwrap_or(thing);
        let asks = if i == 0 {
            format!(
                "[what [colour|color] is {thing}|which [colour|color] is {thing}|what [colour|color] does {thing} have|the [colour|color] of {thing}|what is the [colour|color] of {thing}|tell me the [colour|color] of {thing}|what [colour|color] is {bare}]"
            )
        } else {
            format!("[and {thing}|what about {thing}|and what about {thing}|and {bare}|{thing}]")
        };
        turns.push(pen.ask(&asks, format!("{} is **{c}**.", cap(thing))));
    }
    turns
}

/// How capitals are asked for.
pub(super) const CAPITAL: &str = "[what is the capital of X|capital of X|what's the capital of X|which city is the capital of X|the capital of X|tell me the capital of X|name the capital of X|do you know the capital of X|what is X's capital]";

fn capital(pen: &mut Pen) -> Vec<Turn> {
    let mut turns = Vec::new();
    for i in 0..*pen.pick(&[1, 1, 1, 2, 3]) {
        let asks = if i == 0 {
            CAPITAL
        } else {
            "[and of X|and X|what about X|and the capital of X|and what about X]"
        };
        // Countries outside the table are asked for as well, so that the model learns where its table ends.
        turns.push(if pen.chance(0.6) {
            let (country, city) = pen.entry("capitals");
            pen.ask(&put(asks, country), format!("The capital of {country} is **{city}**."))
        } else {
            let country = pen.word("capitals that are not known");
            pen.ask(&put(asks, country), DONT_KNOW)
        });
    }
    turns
}

/// Kinds that take no article.
const MASS: [&str; 3] = ["drink", "colour", "sport"];

pub(super) fn fact(pen: &mut Pen) -> Vec<Turn> {
    match pen.below(14) {
        0 | 1 => capital(pen),
        2 => {
            let (a, sound) = pen.entry("sounds");
            vec![pen.ask(
                &format!("[what does {0} say|what sound does {0} make|what noise does {0} make|which sound does the {a} make|how does {0} sound|what does the {a} say|the sound of {0}]", an(a)),
                format!("{} says **{sound}**.", cap(&an(a))),
            )]
        }
        3 => {
            let mut turns = Vec::new();
            for i in 0..*pen.pick(&[1, 1, 2]) {
                let (a, n) = pen.entry("legs");
                let asks = if i == 0 {
                    format!(
                        "[how many legs does {0} have|how many legs has {0}|number of legs of {0}|how many legs does the {a} have]",
                        an(a)
                    )
                } else {
                    format!("[and {0}|what about {0}|and the {a}|{0}]", an(a))
                };
                let who = cap(&an(a));
                let says = match (n, a) {
                    ("0", "octopus") => format!("{who} has **no** legs, but 8 arms."),
                    ("0", _) => format!("{who} has **no** legs."),
                    _ => format!("{who} has **{n}** legs."),
                };
                turns.push(pen.ask(&asks, says));
            }
            turns
        }
        4 => {
            let (a, baby) = pen.entry("babies");
            vec![pen.ask(
                &format!("[what is a baby {a} called|what is the baby of {0}|how do you call a baby {a}|what do you call a young {a}|a baby {a} is called|the young of {0}|what is the child of {0}|name of a baby {a}]", an(a)),
                format!("A baby {a} is called a **{baby}**."),
            )]
        }
        5 => {
            let (a, n) = pen.entry("sides");
            let says = if n == "0" {
                "A circle has **no** sides: it is round.".to_owned()
            } else {
                format!("{} has **{n}** sides.", cap(&an(a)))
            };
            vec![pen.ask(
                &format!(
                    "[how many sides does {0} have|how many sides has {0}|number of sides of {0}]",
                    an(a)
                ),
                says,
            )]
        }
        6 | 7 => {
            let (what, n) = pen.entry("how many");
            let (a, b) = what.split_once(", ").expect("things, in what");
            vec![pen.ask(
                &format!("[how many {a} are in {b}|how many {a} does {b} have|how many {a} has {b}|{a} in {b}|how many {a} are there in {b}|how many {a} in {b}]"),
                format!("There are **{n}** {a} in {b}."),
            )]
        }
        8 => {
            let (a, many) = pen.entry("plurals");
            vec![pen.ask(
                &format!("[what is the plural of {a}|plural of {a}|the plural of {a}|one {a}, two|how do you say more than one {a}|one {a}, many]"),
                format!("One {a}, two **{many}**."),
            )]
        }
        9 => {
            let kinds = pen.text.tables.sections("a ");
            let kind = *pen.pick(&kinds);
            let w = pen.word(&format!("a {kind}"));
            let mass = MASS.contains(&kind);
            let shown = if mass { w.to_owned() } else { an(w) };
            let asks = if matches!(kind, "fruit" | "vegetable") && pen.chance(0.5) {
                format!(
                    "[is {shown} a fruit or a vegetable|is {shown} a vegetable or a fruit|fruit or vegetable: {w}|{w}: fruit or vegetable]"
                )
            } else {
                format!(
                    "[what is {shown}|what kind of thing is {shown}|what sort of thing is {shown}|do you know what {shown} is]"
                )
            };
            vec![pen.ask(
                &asks,
                format!("{} is {}.", cap(&shown), an(kind).replace(kind, &format!("**{kind}**"))),
            )]
        }
        10 => {
            let table = pen.text.tables.list("by size");
            let (a, b) = loop {
                let (a, b) = (pen.below(table.len()), pen.below(table.len()));
                if a != b {
                    break (a, b);
                }
            };
            let (x, y, small, big) = (an(&table[a]), an(&table[b]), an(&table[a.min(b)]), an(&table[a.max(b)]));
            vec![if pen.chance(0.5) {
                pen.ask(&format!("[which is bigger, {x} or {y}|what is bigger, {x} or {y}|who is bigger, {x} or {y}|is {x} bigger than {y}]"), format!("{} is bigger than {small}.", cap(&big)))
            } else {
                pen.ask(
                    &format!("[which is smaller, {x} or {y}|what is smaller, {x} or {y}|is {x} smaller than {y}]"),
                    format!("{} is smaller than {big}.", cap(&small)),
                )
            }]
        }
        11 => {
            let pairs = pen.text.tables.pairs("rhymes", " ");
            let (a, b) = *pen.pick(&pairs);
            let a = if pen.chance(0.5) { a } else { b };
            // One answer per word: the first that the table gives.
            let rhyme = pairs
                .iter()
                .find_map(|(x, y)| {
                    if *x == a {
                        Some(*y)
                    } else if *y == a {
                        Some(*x)
                    } else {
                        None
                    }
                })
                .unwrap_or(b);
            vec![pen.ask(
                &format!("[what rhymes with {a}|a rhyme for {a}|which word rhymes with {a}|give me a rhyme for {a}|rhyme {a}|find a rhyme for {a}|a word that rhymes with {a}]"),
                format!("{} rhymes with **{rhyme}**.", cap(a)),
            )]
        }
        _ => {
            let text = pen.text;
            let fact = pen.pick(&text.facts);
            vec![pen.ask(&fact.asks, fact.says.as_str())]
        }
    }
}
