//! What lies outside: said plainly.

use super::Turn;
use super::pen::{Pen, cap};
use super::talk::put;

/// Outside the domain.
pub const DONT_KNOW: &str = "I am {KIND} and do not know that. Open a larger student for it.";
/// Questions about the moment and the world around.
pub const NO_SENSES: &str = "I cannot know that: I have no clock, no news and no network in here.";
/// Noise.
pub const UNCLEAR: &str = "I did not understand that. Could you say it in other words?";

const OF_PEOPLE: &str = "[who is X|who was X|when was X born|when did X die|what did X do|tell me about X|where was X born|how old is X|what is X famous for|why is X famous|who was the wife of X|what did X say|do you know X|what happened to X|how rich is X|how tall is X]";
const OF_THEMES: &str = "[what is X|explain X|tell me about X|how does X work|what do you know about X|write an essay about X|give me an introduction to X|what is the history of X|why is X important|what causes X|who invented X|what are the main ideas of X|summarise X|give me facts about X|teach me X|help me with X|what is the newest research on X|can you explain X|how do i learn X|what are good books about X|what are the problems of X|give me an example of X|write a report about X|how did X begin|what does X cost|is X dangerous|why do people like X|i have a question about X|i need advice on X|what is new in X|define X|a poem about X|ten facts about X]";
const OF_PLACES: &str = "[how many people live in X|where is X|what is the population of X|how far is it to X|what can i visit in X|what is the history of X|how high is X|how long is X|which river flows through X|what is X known for|how do i get to X|what do people eat in X|who governs X|is X beautiful|what is the area of X|what is a good hotel in X|what currency is used in X|what language do they speak in X|how big is X|tell me about X|plan a trip to X|what is the best restaurant in X]";
const OF_WORKS: &str = "[who wrote X|who made X|who invented X|when was X written|what is X about|summarise X|who painted X|who composed X|what is the plot of X|quote X|when was X made|tell me about X|who discovered X]";
const OF_LANGUAGES: &str = "[translate this into X|how do you say good morning in X|what is dog in X|translate hello to X|say thank you in X|what is the X word for house|teach me X|write a letter in X|how do i say i love you in X|can you translate a text into X|conjugate a verb in X]";
const OF_NAMES: &str = "[who is X|what is X|tell me about X|what is the capital of X|where is X|explain X|what does X mean|what is the colour of X|do you know X|what is the history of X|who invented X|how does X work|what is the opposite of X]";
const SYLLABLES: [&str; 20] = [
    "ba", "ko", "ri", "mu", "te", "la", "zo", "ni", "fe", "du", "sha", "pli", "gro", "ven", "tar", "lox", "wim", "quo",
    "jen", "dra",
];

pub(super) fn outside(pen: &mut Pen) -> Vec<Turn> {
    let asks = match pen.below(100) {
        0..30 => pen.word("questions outside").to_owned(),
        // A made-up name: whatever it is, it is not known.
        30..38 => {
            let n = pen.range(2, 3);
            let w: String = (0..n).map(|_| *pen.pick(&SYLLABLES)).collect();
            put(OF_NAMES, &if pen.chance(0.6) { cap(&w) } else { w })
        }
        38..47 => put(OF_PEOPLE, pen.word("people outside")),
        47..73 => put(OF_THEMES, pen.word("themes outside")),
        73..87 => put(OF_PLACES, pen.word("places outside")),
        87..94 => put(OF_WORKS, pen.word("works outside")),
        _ => put(OF_LANGUAGES, pen.word("languages outside")),
    };
    let mut turns = vec![pen.ask(&asks, DONT_KNOW)];
    match pen.below(100) {
        0..13 => turns.push(pen.ask(
            "[why not|why|why don't you know|why do you not know that|really|are you sure|how come|that is a pity|too bad|but why]",
            "I am too small to hold many facts. I know this page, tiny stories and small sums.",
        )),
        13..24 => turns.push(pen.ask(
            "[how|how do i do that|how do i open one|where|where do i find one|what larger student|which one|how do i open a larger student]",
            "Drop a GGUF file onto this page or pick it with the file button. It stays on this machine.",
        )),
        _ => {}
    }
    turns
}

pub(super) fn moment(pen: &mut Pen) -> Vec<Turn> {
    let asks = pen.word("questions of the moment");
    vec![pen.ask(asks, NO_SENSES)]
}

pub(super) fn unclear(pen: &mut Pen) -> Vec<Turn> {
    const LETTERS: &[u8] = b"asdfghjklqwertzuiopyxcvbnm";
    let noise = |pen: &mut Pen, low: i64, high: i64| -> String {
        let n = pen.range(low, high);
        (0..n).map(|_| char::from(*pen.pick(LETTERS))).collect()
    };
    let user = match pen.below(4) {
        0 => noise(pen, 3, 10),
        1 => (*pen.pick(&[
            "?",
            "...",
            "!!!",
            "??",
            ".",
            "-",
            "#",
            "***",
            "\u{1f642}",
            "\u{1f600}",
            ";;",
            "/",
            "1234567",
            "0000",
            "99",
            "%&$",
        ]))
        .to_owned(),
        2 => {
            let n = pen.range(2, 4);
            (0..n).map(|_| noise(pen, 3, 6)).collect::<Vec<_>>().join(" ")
        }
        _ => {
            let n = pen.range(2, 3) as usize;
            pen.pick(&SYLLABLES).repeat(n)
        }
    };
    vec![Turn {
        user,
        think: None,
        answer: UNCLEAR.to_owned(),
    }]
}
