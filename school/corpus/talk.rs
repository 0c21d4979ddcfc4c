//! Small talk, the model itself, the page and its ideas, and what was said earlier in the chat.

use super::pen::{NUMBER, ORDINAL, Pen, an, cap};
use super::text::Asked;
use super::{Turn, facts, sums};

const WHAT: &str = "[what is X|what's X|whats X|what are X|explain X|please explain X|can you explain X|could you explain X to me|tell me about X|tell me something about X|what does X mean|what do you mean by X|define X|what do you know about X|describe X|i do not understand X|i don't get X|how would you explain X|X?|what exactly is X|give me a definition of X|in short, what is X|do you know what X is|do you know X|what about X|and what is X|i want to know about X|i heard about X. what is it|someone said X. what does that mean|explain X simply|explain X like i am five|what is X in simple words|can you tell me what X is|can you tell me about X|help me understand X|talk about X|how does X work|what is meant by X|what is X for|why do people talk about X|what is the meaning of X|teach me about X|say something about X|a question about X|so what is X|remind me what X is]";
const MORE: &str = "[tell me more|more|more please|can you say more|go on|why does it matter|why does that matter|and|really|say more about it|what else|explain more|can you tell me more about it|more about that|why|how so|interesting, go on|continue|anything else|is there more|what more can you say|please go on|can you explain that further|give me more detail|keep going|ok, and then|tell me more about that]";

fn answer(pen: &mut Pen, asked: &'static Asked) -> Turn {
    let says = match &asked.lead {
        Some(lead) if pen.who.teacher => lead.clone(),
        _ => pen.pick(&asked.says).clone(),
    };
    pen.ask(&asked.asks, says)
}

pub(super) fn small_talk(pen: &mut Pen) -> Vec<Turn> {
    let text = pen.text;
    let asked = pen.pick(&text.small_talk);
    vec![answer(pen, asked)]
}

pub(super) fn hello(pen: &mut Pen) -> Vec<Turn> {
    let text = pen.text;
    vec![answer(pen, &text.small_talk[0])]
}

/// A little exchange between two others.
pub(super) fn filler(pen: &mut Pen) -> Vec<Turn> {
    let text = pen.text;
    let asked = pen.pick(&text.small_talk[5..20]);
    vec![answer(pen, asked)]
}

/// The first questions of `asked.txt` are about the model itself.
const ABOUT_ITSELF: usize = 20;

pub(super) fn identity(pen: &mut Pen) -> Vec<Turn> {
    let text = pen.text;
    let asked = pen.pick(&text.asked[..ABOUT_ITSELF]);
    vec![answer(pen, asked)]
}

pub(super) fn asked(pen: &mut Pen) -> Vec<Turn> {
    let text = pen.text;
    let asked = pen.pick(&text.asked[ABOUT_ITSELF..]);
    vec![answer(pen, asked)]
}

/// Ideas that are compared: their places in `topics.txt`, and their names.
const COMPARED: [(usize, &str); 3] = [(2, "distillation"), (5, "quantization"), (6, "fine-tuning")];
const DIFFERENT: &str = "[and how is it different from X|how is that different from X|what is the difference to X|is it the same as X|is that the same as X|how does it compare with X|and X, is that the same|how does it differ from X|how is it different from X]";

pub(super) fn topic(pen: &mut Pen) -> Vec<Turn> {
    let text = pen.text;
    let i = pen.below(text.topics.len());
    let topic = &text.topics[i];
    let name = pen.say(&topic.names);
    let mut turns = vec![pen.ask(&pick_pattern(WHAT, &name), topic.says.as_str())];
    let compared = COMPARED.iter().find(|(place, _)| *place == i);
    let mut again = MORE.to_owned();
    if let Some((_, this)) = compared
        && pen.chance(0.4)
    {
        let others: Vec<_> = COMPARED.iter().filter(|(place, _)| *place != i).collect();
        let (j, that) = **pen.pick(&others);
        let pair = if i < j {
            format!("{this} and {that}")
        } else {
            format!("{that} and {this}")
        };
        let says = difference(pen, &pair);
        turns.push(pen.ask(&pick_pattern(DIFFERENT, that), says));
        again = format!("tell me more about {this}");
    }
    if pen.chance(0.35) {
        turns.push(pen.ask(&again, topic.more.as_str()));
        if pen.chance(0.1) {
            turns.push(pen.ask(MORE, "That is all I know about it. A larger student knows more."));
        }
    }
    turns
}

/// `X` of a pattern replaced by a name; the alternatives stay open.
fn pick_pattern(pattern: &str, name: &str) -> String {
    pattern.split(' ').map(|w| slot(w, name)).collect::<Vec<_>>().join(" ")
}

/// The word `X` inside a piece like `[X|a`: letters around it make it another word.
fn slot(piece: &str, name: &str) -> String {
    let mut out = String::new();
    let bytes = piece.as_bytes();
    for (i, c) in piece.char_indices() {
        let alone = |j: Option<&u8>| j.is_none_or(|b| !b.is_ascii_alphanumeric());
        if c == 'X' && alone(i.checked_sub(1).and_then(|j| bytes.get(j))) && alone(bytes.get(i + 1)) {
            out.push_str(name);
        } else {
            out.push(c);
        }
    }
    out
}

pub(super) fn put(pattern: &str, name: &str) -> String {
    pick_pattern(pattern, name)
}

fn difference(pen: &mut Pen, pair: &str) -> String {
    let text = pen.text;
    let head = match pair {
        "distillation and quantization" => "what is the difference between distillation and quantization|",
        "distillation and fine-tuning" => "what is the difference between distillation and fine-tuning|",
        _ => "what is the difference between fine-tuning and quantization|",
    };
    let found = text.asked.iter().find(|a| a.asks.starts_with(&format!("[{head}")));
    found.map_or_else(|| panic!("asked.txt lacks '{head}'"), |a| a.says[0].clone())
}

/// Sections of `tables.txt` that name kinds of things.
const KINDS: [&str; 10] = [
    "fruit",
    "vegetable",
    "animal",
    "drink",
    "tool",
    "vehicle",
    "instrument",
    "colour",
    "shape",
    "sport",
];

fn plural(pen: &mut Pen, kind: &str) -> String {
    match kind {
        "colour" => (*pen.pick(&["colours", "colors"])).to_owned(),
        other => format!("{other}s"),
    }
}

/// Names things, and answers "and the second one?".
pub(super) fn naming(pen: &mut Pen) -> Vec<Turn> {
    let kind = *pen.pick(&KINDS);
    let section = format!("a {kind}");
    let many = plural(pen, kind);
    let n = *pen.pick(&[3, 3, 3, 2, 4, 1]);
    let items = pen.words(&section, n);
    if n == 1 {
        let mut turns = vec![pen.ask(
            &format!(
                "[name {0}|tell me {0}|give me {0}|say {0}|name one {kind}|an example of {0}]",
                an(kind)
            ),
            format!("**{}**", cap(items[0])),
        )];
        if pen.chance(0.4) {
            let others: Vec<_> = pen
                .text
                .tables
                .list(&section)
                .iter()
                .filter(|x| *x != items[0])
                .collect();
            let other = cap(pen.pick(&others).as_str());
            turns.push(pen.ask(
                "[another one|and another|one more|another|and one more|next one]",
                format!("**{other}**"),
            ));
        }
        return turns;
    }
    let num = if pen.chance(0.5) {
        n.to_string()
    } else {
        NUMBER[n].to_owned()
    };
    let listed: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(i, x)| format!("{}. {x}", i + 1))
        .collect();
    let mut turns = vec![pen.ask(
        &format!("[name {num} {many}|give me {num} {many}|tell me {num} {many}|list {num} {many}|say {num} {many}|can you name {num} {many}|{num} {many}, please|what are {num} {many}]"),
        listed.join("\n"),
    )];
    for _ in 0..*pen.pick(&[0, 1, 1, 2]) {
        turns.push(which_one(pen, &items));
    }
    turns
}

/// A question about one of the things that were just listed.
fn which_one(pen: &mut Pen, items: &[&str]) -> Turn {
    let i = pen.below(items.len());
    if pen.chance(0.2) {
        let last = items[items.len() - 1];
        return pen.ask(
            "[what was the last one|and the last one|which one was last|the last one]",
            format!("The last one is **{last}**."),
        );
    }
    let place = ORDINAL[i];
    pen.ask(
        &format!("[what was the {place} one|and the {place} one|the {place} one|which was the {place}|number {0}|what is number {0}|say the {place} one again|what about the {place}|the {place}, please]", i + 1),
        format!("The {place} one is **{}**.", items[i]),
    )
}

/// Keeps what it was told.
pub(super) fn remember(pen: &mut Pen) -> Vec<Turn> {
    match pen.below(6) {
        0 | 1 => {
            let n = pen.name();
            let mut turns = vec![pen.ask_exact(
                &format!("[My name is {n}.|my name is {n}|I am {n}.|I'm {n}|Hi, I am {n}.|Hello, my name is {n}.|call me {n}|Please call me {n}.|hi, i'm {n}|You can call me {n}.]"),
                format!("Nice to meet you, {n}!"),
            )];
            if pen.chance(0.4) {
                turns.extend(between(pen));
            }
            turns.push(pen.ask(
                "[what is my name|what's my name|do you remember my name|who am i|do you know my name|what was my name|can you say my name|tell me my name]",
                format!("Your name is **{n}**."),
            ));
            turns
        }
        2 => {
            let kind = *pen.pick(&["colour", "fruit", "animal", "drink", "sport", "instrument"]);
            let w = pen.word(&format!("a {kind}"));
            let mut turns = vec![pen.ask_exact(
                &format!("[My favourite {kind} is {w}.|my favourite {kind} is {w}|I like the {kind} {w} best.|The {kind} I like most is {w}.]"),
                format!("{} is a fine {kind}.", cap(w)),
            )];
            if pen.chance(0.3) {
                turns.extend(between(pen));
            }
            turns.push(pen.ask(
                &format!("[what is my favourite {kind}|which {kind} do i like|which {kind} do i like best|do you remember my favourite {kind}|what's my favourite {kind}]"),
                format!("Your favourite {kind} is **{w}**."),
            ));
            turns
        }
        3 => {
            let kind = *pen.pick(&KINDS);
            let items = pen.words(&format!("a {kind}"), 3);
            let line = items.join(", ");
            let mut turns = vec![pen.ask_exact(
                &format!("[Remember these words: {line}|Remember: {line}.|remember {line}|Keep these words in mind: {line}.|My list is {line}.|I need to buy: {line}|Remember this list: {line}]"),
                format!("I will remember: {line}."),
            )];
            if pen.chance(0.3) {
                turns.extend(between(pen));
            }
            turns.push(if pen.chance(0.5) {
                which_one(pen, &items)
            } else {
                pen.ask(
                    "[which words were they|what was my list|what did i ask you to remember|tell me the list|what was on the list|repeat the list|what should you remember]",
                    format!("Your list:\n- {}", items.join("\n- ")),
                )
            });
            turns
        }
        4 => {
            let (n, thing) = (pen.name(), pen.word("a animal"));
            let other = pen.name();
            let mut turns = vec![pen.ask_exact(
                &format!("[My {thing} is called {n}.|I have {} named {n}.|my {thing}'s name is {n}|The name of my {thing} is {n}.]", an(thing)),
                format!("{n} is a nice name for {}.", an(thing)),
            )];
            if pen.chance(0.3) {
                turns.push(pen.ask_exact(&format!("[And my friend is {other}.|My friend is called {other}.]"), format!("Greetings to {other}!")));
            }
            turns.push(pen.ask(
                &format!("[what is my {thing} called|what is the name of my {thing}|what is my {thing}'s name|do you remember my {thing}'s name]"),
                format!("Your {thing} is called **{n}**."),
            ));
            turns
        }
        _ if pen.chance(0.5) => {
            vec![pen.ask("[what is my name|what's my name|do you know my name|who am i|tell me my name]", "You have not told me your name yet.")]
        }
        _ => vec![pen.ask("[what is my favourite colour|what is my favourite animal|where do i live|how old am i|what did i say|what do i like]", "You have not told me that yet.")],
    }
}

fn between(pen: &mut Pen) -> Vec<Turn> {
    match pen.below(5) {
        0 => sums::sum(pen),
        1 => facts::opposite(pen),
        2 => facts::colour(pen),
        3 => topic(pen),
        _ => filler(pen),
    }
}
