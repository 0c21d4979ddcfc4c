//! Tiny stories: someone wants something, something is in the way, somebody helps. And questions about them.

use super::Turn;
use super::pen::{Pen, an};

const KINDS: [&str; 18] = [
    "cat", "dog", "fox", "mouse", "rabbit", "bear", "owl", "duck", "frog", "robot", "girl", "boy", "hen", "goat",
    "lion", "bee", "pig", "horse",
];
const TRAIT: [&str; 8] = ["small", "brave", "shy", "curious", "kind", "quiet", "clever", "young"];

/// What is wanted, where it was, what stood in the way, how it was reached.
const GOALS: [(&str, &str, &str, &str); 16] = [
    (
        "kite",
        "in a tall tree",
        "The tree was too high",
        "climbed on a box and pulled the string",
    ),
    (
        "red ball",
        "at the bottom of a well",
        "The well was too deep",
        "let down a rope with a hook",
    ),
    (
        "boat",
        "on the other side of the river",
        "The river was too wide",
        "crossed on the old bridge",
    ),
    (
        "book",
        "on the highest shelf",
        "The shelf was too high",
        "stood on a chair",
    ),
    (
        "key",
        "under a big stone",
        "The stone was too heavy",
        "pushed it away together",
    ),
    (
        "lamp",
        "in a dark cave",
        "The cave was too dark",
        "walked in hand in hand",
    ),
    (
        "apple",
        "at the top of the hill",
        "The hill was too steep",
        "went up slowly, step by step",
    ),
    (
        "drum",
        "behind a locked door",
        "The door was locked",
        "found the key under the mat",
    ),
    (
        "cake",
        "in the house of a neighbour",
        "The neighbour looked cross",
        "asked politely",
    ),
    (
        "bell",
        "in the old tower",
        "The stairs were too long",
        "rested on each floor",
    ),
    (
        "shell",
        "deep in the sand",
        "The sand was too hot",
        "waited until the evening",
    ),
    (
        "hat",
        "far out in the field",
        "The wind was too strong",
        "waited until the wind slept",
    ),
    (
        "pot of honey",
        "in a hollow tree",
        "The bees were awake",
        "came back at night, when the bees slept",
    ),
    (
        "map",
        "in an old box",
        "The box was stuck",
        "pulled at the lid together",
    ),
    (
        "flower",
        "behind a thick hedge",
        "The hedge had thorns",
        "found a gap near the gate",
    ),
    (
        "song",
        "in the heart of the forest",
        "The forest was too loud",
        "listened until it was quiet",
    ),
];
const ENDING: [&str; 6] = [
    "Then they shared it and laughed.",
    "That night N slept well.",
    "N was happy all day.",
    "From that day on the two were friends.",
    "N said thank you and smiled.",
    "They came back the next day and played again.",
];
const OPENING: [&str; 3] = ["Once there was", "Long ago there was", "In a small village there was"];
const ASK: &str = "[tell me a story|tell me a tiny story|a story please|can you tell me a story|tell a story|write a story|write a short story|i want a story|story|make up a story|tell me a short story|story time|please tell me a story|give me a story]";

struct Story {
    kind: &'static str,
    name: &'static str,
    helper_kind: &'static str,
    helper: &'static str,
    goal: &'static str,
    place: &'static str,
    text: String,
    asked: Turn,
}

fn other<'a>(pen: &mut Pen, not: &str, mut draw: impl FnMut(&mut Pen) -> &'a str) -> &'a str {
    loop {
        let found = draw(pen);
        if found != not {
            return found;
        }
    }
}

fn tell(pen: &mut Pen) -> Story {
    let kind = *pen.pick(&KINDS);
    let name = pen.name();
    let helper = other(pen, name, |pen| pen.name());
    let helper_kind = other(pen, kind, |pen| *pen.pick(&KINDS));
    let (goal, place, trouble, way) = *pen.pick(&GOALS);
    let (nature, opening, ending) = (
        *pen.pick(&TRAIT),
        *pen.pick(&OPENING),
        pen.pick(&ENDING).replace('N', name),
    );
    let mut asks = ASK.to_owned();
    match pen.below(100) {
        0..30 => asks += &format!(" about {}", an(kind)),
        30..45 => asks += &format!(" about {} [named|called] {name}", an(kind)),
        45..58 => {
            asks += &format!(
                " about {} [named|called|with the name] {name} who [wants|looks for|needs] {}",
                an(kind),
                an(goal)
            )
        }
        58..66 => asks += &format!(" about {} and {}", an(kind), an(goal)),
        66..74 => asks += &format!(" about {}", an(goal)),
        74..80 => asks += &format!(" about {name}"),
        _ => {}
    }
    let text = format!(
        "{opening} {} named {name}. {name} wanted {}. It was {place}. {trouble}, and {name} was sad. Then {} named {helper} came by. The two {way}. Now {name} had the {goal}. {ending}",
        an(&format!("{nature} {kind}")),
        an(goal),
        an(helper_kind),
    );
    let asked = if pen.chance(0.5) {
        pen.ask_exact(&asks, text.as_str())
    } else {
        pen.ask(&asks, text.as_str())
    };
    Story {
        kind,
        name,
        helper_kind,
        helper,
        goal,
        place,
        text,
        asked,
    }
}

pub(super) fn story(pen: &mut Pen) -> Vec<Turn> {
    let Story {
        kind,
        name: n,
        helper_kind,
        helper,
        goal,
        place,
        text,
        asked,
    } = tell(pen);
    let _ = text;
    let mut turns = vec![asked];
    for _ in 0..*pen.pick(&[0, 0, 0, 1, 1, 2]) {
        turns.push(match pen.below(6) {
            0 => pen.ask(&format!("[what was the name of the {kind}|what was the {kind} called|who was the story about|what was the {kind}'s name|who is the {kind}]"), format!("The {kind} was called **{n}**.")),
            1 => pen.ask(&format!("[what did {n} want|what was {n} looking for|what did the {kind} want]"), format!("{n} wanted **{}**.", an(goal))),
            2 => pen.ask(&format!("[who helped {n}|who helped|who came by|who helped the {kind}|who was the friend]"), format!("The {helper_kind} named **{helper}** helped.")),
            3 => pen.ask(&format!("[where was the {goal}|where was it|where did they find it]"), format!("It was **{place}**.")),
            4 => pen.ask(
                "[make it shorter|shorter please|tell it in one sentence|in one sentence|sum it up|what was it about|summarise it|the short version]",
                format!("{n} the {kind} wanted {}, and {helper} the {helper_kind} helped.", an(goal)),
            ),
            _ => pen.ask("[that is a nice story|nice story|i like that story|thank you for the story|that was nice|good story|lovely]", "Thank you! I have more small ones."),
        });
    }
    if pen.chance(0.12) {
        let next = tell(pen);
        turns.push(pen.ask("[another one|another story|one more|one more story please|tell me another one|and another story|a different one]", next.text));
    }
    turns
}

/// Whether `text` is a whole story about whom and what `question` asks for: the rule of the evaluation.
pub fn keeps_to(question: &str, text: &str) -> bool {
    let whole = OPENING.iter().any(|o| text.starts_with(o)) && text.ends_with('.') && text.matches(". ").count() >= 6;
    let low = question.to_lowercase();
    let body = text.to_lowercase();
    let asked_for = |list: &mut dyn Iterator<Item = &str>| {
        list.filter(|w| {
            low.split(|c: char| !c.is_alphanumeric())
                .collect::<Vec<_>>()
                .join(" ")
                .contains(&format!(" {} ", w.to_lowercase()))
                || low
                    .trim_end_matches(['?', '.', '!', ' '])
                    .ends_with(&format!(" {}", w.to_lowercase()))
        })
        .all(|w| body.contains(&w.to_lowercase()))
    };
    whole
        && asked_for(&mut KINDS.iter().copied())
        && asked_for(&mut GOALS.iter().map(|g| g.0))
        && asked_for(&mut super::text::TEXT.tables.list("names").iter().map(String::as_str))
}
