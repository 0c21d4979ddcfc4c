//! Rewriting what was given: case, lists, JSON with the keys asked for, small edits, echoes.

use super::Turn;
use super::pen::Pen;

/// Some words from the tables, as a phrase.
fn phrase(pen: &mut Pen) -> String {
    match pen.below(4) {
        0 => {
            let n = pen.range(2, 4) as usize;
            pen.words("words", n).join(" ")
        }
        1 => format!("the {} {}", pen.word("a colour"), pen.word("a animal")),
        2 => format!(
            "{} {} the {}",
            pen.name(),
            pen.pick(&["likes", "sees", "has", "wants", "finds"]),
            pen.word("a animal")
        ),
        _ => format!("the {} and the {}", pen.word("a animal"), pen.word("a tool")),
    }
}

pub(super) fn case(pen: &mut Pen) -> Vec<Turn> {
    let text = if pen.chance(0.4) {
        pen.word("words").to_owned()
    } else {
        phrase(pen)
    };
    if pen.chance(0.65) {
        return vec![pen.ask_exact(
            &format!("[write {text} in capitals|write in capitals: {text}|{text} in capital letters|upper case: {text}|uppercase {text}|turn {text} into capitals|put in capitals: {text}|write in upper case: {text}|make this upper case: {text}|in capital letters: {text}]"),
            text.to_uppercase(),
        )];
    }
    let loud = text.to_uppercase();
    vec![pen.ask_exact(
        &format!("[write {loud} in lower case|{loud} in small letters|lowercase {loud}|lower case: {loud}|put in lower case: {loud}|write in small letters: {loud}|make this lower case: {loud}]"),
        text.to_lowercase(),
    )]
}

/// Sections that lists are made of.
const LISTED: [&str; 8] = [
    "a fruit",
    "a animal",
    "a tool",
    "a drink",
    "a shape",
    "a vehicle",
    "names",
    "a sport",
];

pub(super) fn list(pen: &mut Pen) -> Vec<Turn> {
    let section = *pen.pick(&LISTED);
    let n = pen.range(2, 5) as usize;
    let items = pen.words(section, n);
    let line = items.join(", ");
    let turn = match pen.below(6) {
        0 | 1 => pen.ask_exact(
            &format!("[make a list of {line}|make a list: {line}|write as a list: {line}|put these in a list: {line}|bullet list: {line}|list these: {line}|make bullets: {line}|turn this into a list: {line}|as bullet points: {line}]"),
            format!("- {}", items.join("\n- ")),
        ),
        2 => {
            let numbered: Vec<_> = items.iter().enumerate().map(|(i, x)| format!("{}. {x}", i + 1)).collect();
            pen.ask_exact(&format!("[number these: {line}|make a numbered list: {line}|numbered list: {line}|write as a numbered list: {line}|number the items: {line}]"), numbered.join("\n"))
        }
        3 => {
            let bullets = format!("- {}", items.join("\n- "));
            pen.ask_exact(&format!("[write this in one line:\n{bullets}|put this on one line:\n{bullets}|as one line:\n{bullets}]"), line)
        }
        4 => {
            let back: Vec<_> = items.iter().rev().copied().collect();
            pen.ask_exact(&format!("[reverse the order: {line}|write in reverse order: {line}|turn the order around: {line}|from the last to the first: {line}]"), back.join(", "))
        }
        _ => {
            let sep = *pen.pick(&[" and ", " or ", " - ", " / "]);
            let word = sep.trim();
            pen.ask_exact(&format!("[join with '{word}': {line}|put '{word}' between: {line}|connect with '{word}': {line}]"), items.join(sep))
        }
    };
    vec![turn]
}

/// A record: its keys, its values as JSON and as words.
fn record(pen: &mut Pen) -> Vec<(&'static str, String, String)> {
    let n = pen.name();
    let text = |w: &str| (format!("\"{w}\""), w.to_owned());
    let number = |v: i64| (v.to_string(), v.to_string());
    let mut fields = vec![("name", text(n))];
    let age = pen.range(2, 90);
    fields.push(("age", number(age)));
    let (_, city) = pen.entry("capitals");
    fields.push(("city", text(city)));
    let colour = pen.word("a colour");
    fields.push(("colour", text(colour)));
    let animal = pen.word("a animal");
    fields.push(("animal", text(animal)));
    let fruit = pen.word("a fruit");
    fields.push(("fruit", text(fruit)));
    let sport = pen.word("a sport");
    fields.push(("sport", text(sport)));
    let count = pen.range(2, 4) as usize;
    let mut chosen = vec![fields[0].clone()];
    chosen.extend(pen.sample(&fields[1..], count - 1));
    if pen.chance(0.3) {
        pen.shuffle(&mut chosen);
    }
    chosen
        .into_iter()
        .map(|(key, (json, word))| (key, json, word))
        .collect()
}

pub(super) fn json(pen: &mut Pen) -> Vec<Turn> {
    let fields = record(pen);
    let object = |fields: &[(&str, String, String)]| {
        let parts: Vec<_> = fields
            .iter()
            .map(|(key, value, _)| format!("\"{key}\": {value}"))
            .collect();
        format!("{{{}}}", parts.join(", "))
    };
    let keys: Vec<_> = fields.iter().map(|(key, ..)| *key).collect();
    let keys = match keys.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    };
    let plain: Vec<_> = fields.iter().map(|(key, _, word)| format!("{key} {word}")).collect();
    let plain = plain.join(", ");
    let turn = match pen.below(5) {
        0 | 1 => {
            // The values in another order than the keys that are asked for.
            let mut mixed = fields.clone();
            pen.shuffle(&mut mixed);
            let mixed: Vec<_> = mixed.iter().map(|(key, _, word)| format!("{key} {word}")).collect();
            let mixed = mixed.join(", ");
            pen.ask_exact(
                &format!("[make JSON with the keys {keys}: {mixed}|JSON with {keys}: {mixed}|write JSON with the keys {keys}: {mixed}|as JSON, keys {keys}: {mixed}|give me JSON with {keys} from this: {mixed}]"),
                object(&fields),
            )
        }
        2 => pen.ask_exact(&format!("[write as JSON: {plain}|as JSON: {plain}|JSON: {plain}|make JSON of this: {plain}|turn this into JSON: {plain}]"), object(&fields)),
        3 => {
            let (n, age) = (pen.name(), pen.range(2, 90));
            let line = match pen.below(3) {
                0 => format!("{n} is {age} years old"),
                1 => format!("{n} is {age}"),
                _ => format!("{n}, {age} years"),
            };
            pen.ask_exact(&format!("[write as JSON: {line}|as JSON: {line}|JSON: {line}|make JSON of this: {line}|give me JSON: {line}]"), format!("{{\"name\": \"{n}\", \"age\": {age}}}"))
        }
        _ => {
            let i = pen.below(fields.len());
            let (key, _, word) = &fields[i];
            let object = object(&fields);
            pen.ask_exact(&format!("[what is the {key} in {object}|read the {key} from {object}|{object} - what is the {key}|give me the {key}: {object}]"), format!("The {key} is **{word}**."))
        }
    };
    vec![turn]
}

pub(super) fn edit(pen: &mut Pen) -> Vec<Turn> {
    let (n, verb) = (pen.name(), *pen.pick(&["likes", "sees", "has", "wants", "finds"]));
    let (a, b) = {
        let two = pen.words("a animal", 2);
        (two[0], two[1])
    };
    let colour = pen.word("a colour");
    let text = format!("{n} {verb} the {colour} {a}.");
    let turn = match pen.below(6) {
        0 => pen.ask_exact(&format!("[replace {a} with {b}: {text}|change {a} to {b}: {text}|put {b} in place of {a}: {text}|write {b} instead of {a}: {text}]"), text.replace(a, b)),
        1 => {
            let other = loop {
                let other = pen.name();
                if other != n {
                    break other;
                }
            };
            pen.ask_exact(&format!("[replace {n} with {other}: {text}|change {n} to {other}: {text}|change the name to {other}: {text}]"), text.replace(n, other))
        }
        2 => pen.ask_exact(&format!("[leave out {colour}: {text}|remove the word {colour}: {text}|delete {colour}: {text}|take out {colour}: {text}]"), text.replace(&format!("{colour} "), "")),
        3 => {
            let w = pen.word("words");
            let k = pen.range(2, 5) as usize;
            pen.ask_exact(&format!("[write {w} {k} times|repeat {w} {k} times|say {w} {k} times|{k} times {w}, please]"), vec![w; k].join(" "))
        }
        4 => {
            let words = phrase(pen);
            let first: Vec<_> = words.split(' ').collect();
            let i = pen.below(2);
            let (word, found) = if i == 0 { ("first", first[0]) } else { ("last", first[first.len() - 1]) };
            pen.ask_exact(&format!("[what is the {word} word of: {words}|the {word} word of: {words}|give me the {word} word: {words}]"), format!("The {word} word is **{found}**."))
        }
        _ => pen.ask_exact(&format!("[make it a question: {n} {verb} the {a}|turn into a question: {n} {verb} the {a}|ask this: {n} {verb} the {a}]"), format!("Does {n} {} the {a}?", if verb == "has" { "have" } else { &verb[..verb.len() - 1] })),
    };
    vec![turn]
}

pub(super) fn echo(pen: &mut Pen) -> Vec<Turn> {
    if pen.chance(0.3) {
        let w = pen.word("words");
        return vec![pen.ask_exact(
            &format!("[make {w} bold|write {w} in bold|bold: {w}|put {w} in bold]"),
            format!("**{w}**"),
        )];
    }
    let line = phrase(pen);
    let user = pen.say(&format!("[Say: {line}|say {line}|Repeat after me: {line}|repeat: {line}|Repeat this: {line}|Please say {line}.|Write: {line}|write {line}]"));
    vec![Turn {
        user,
        think: None,
        answer: line,
    }]
}
