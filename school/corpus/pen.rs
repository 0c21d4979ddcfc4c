//! What the makers of text write with: chance, phrasing, typing slips, and the persona that answers.

use super::rng::Rng;
use super::text::{TEXT, Text};
use super::{Persona, Turn};
use std::ops::{Deref, DerefMut};

/// A maker's pen.
pub struct Pen<'a> {
    rng: Rng,
    /// Who answers.
    pub who: &'a Persona,
    /// The words.
    pub text: &'static Text,
}

impl Deref for Pen<'_> {
    type Target = Rng;
    fn deref(&self) -> &Rng {
        &self.rng
    }
}

impl DerefMut for Pen<'_> {
    fn deref_mut(&mut self) -> &mut Rng {
        &mut self.rng
    }
}

/// Words that people put in front of a question, and behind it.
const BEFORE: [&str; 12] = [
    "Hey, ",
    "Please, ",
    "Ok, ",
    "So, ",
    "Hi! ",
    "Well, ",
    "Um, ",
    "Tell me: ",
    "Hello. ",
    "Quick question: ",
    "Now ",
    "And ",
];
const AFTER: [&str; 5] = [" please", ", please?", " thanks", " then?", " exactly?"];
/// How people end what is no question, and how some end anything.
const STOPS: [&str; 4] = [".", ".", "", "!"];
const ODD_STOPS: [&str; 4] = ["??", "...", "!", " ?"];
const ASKING: [&str; 24] = [
    "what", "who", "where", "when", "why", "how", "which", "is", "are", "do", "does", "can", "could", "will", "may",
    "did", "was", "were", "am", "and what", "and who", "so what", "in short", "what's",
];

impl<'a> Pen<'a> {
    /// A pen for one chat.
    pub fn new(seed: u64, part: u64, who: &'a Persona) -> Self {
        Self {
            rng: Rng::new(seed, part),
            who,
            text: &TEXT,
        }
    }

    /// Expands `[a|b]`, which may nest: one alternative of each is drawn. Then fills in the persona.
    pub fn say(&mut self, pattern: &str) -> String {
        let mut out = String::new();
        self.expand(pattern, &mut out);
        self.who.fill(&out)
    }

    fn expand(&mut self, pattern: &str, out: &mut String) {
        let bytes = pattern.as_bytes();
        let mut at = 0;
        while let Some(open) = pattern[at..].find('[').map(|i| at + i) {
            out.push_str(&pattern[at..open]);
            let (mut depth, mut cuts, mut end) = (0, vec![open], None);
            for (i, byte) in bytes.iter().enumerate().skip(open) {
                match byte {
                    b'[' => depth += 1,
                    b']' => depth -= 1,
                    b'|' if depth == 1 => cuts.push(i),
                    _ => {}
                }
                if depth == 0 {
                    end = Some(i);
                    break;
                }
            }
            let end = end.unwrap_or_else(|| panic!("a bracket is not closed: {pattern}"));
            cuts.push(end);
            let choice = self.below(cuts.len() - 1);
            self.expand(&pattern[cuts[choice] + 1..cuts[choice + 1]], out);
            at = end + 1;
        }
        out.push_str(&pattern[at..]);
    }

    /// A question as people type it: case, punctuation, a word around it, a slip.
    pub fn rough(&mut self, pattern: &str) -> String {
        let mut text = self.say(pattern);
        let x = self.below(1000);
        if x < 550 {
            text = cap(&text.replace(" i ", " I ").replace(" i'm ", " I'm "));
        } else if x < 600 {
            text = text.to_lowercase();
        } else if x < 615 {
            text = text.to_uppercase();
        }
        text = self.pointed(text);
        let x = self.below(100);
        if x < 6 {
            text = format!("{}{text}", self.pick(&BEFORE));
        } else if x < 9 {
            text = format!("{}{}", text.trim_end_matches(['.', '?', '!']), self.pick(&AFTER));
        }
        if self.chance(0.06) { self.slip(&text) } else { text }
    }

    /// A question about letters or values: case and letters stay as they are.
    pub fn exact(&mut self, pattern: &str) -> String {
        let mut text = self.say(pattern);
        if self.chance(0.5) {
            text = cap(&text);
        }
        self.pointed(text)
    }

    fn pointed(&mut self, mut text: String) -> String {
        if text.ends_with(char::is_alphanumeric) {
            let low = text.to_lowercase();
            let question = ASKING
                .iter()
                .any(|word| low.strip_prefix(word).is_some_and(|rest| rest.starts_with([' ', '\''])));
            let x = self.below(100);
            if x < 60 {
                let stop: &&str = if question { &"?" } else { self.pick(&STOPS) };
                text.push_str(stop);
            } else if x < 63 {
                let stop: &&str = self.pick(&ODD_STOPS);
                text.push_str(stop);
            }
        }
        text
    }

    /// One typing slip: a letter doubled, dropped, or swapped with its neighbour.
    fn slip(&mut self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        let spots: Vec<usize> = (1..chars.len().saturating_sub(1))
            .filter(|&i| chars[i - 1..=i + 1].iter().all(|c| c.is_alphabetic()))
            .collect();
        if spots.is_empty() {
            return text.to_owned();
        }
        let i = *self.pick(&spots);
        match self.below(3) {
            0 => chars.insert(i, chars[i]),
            1 => drop(chars.remove(i)),
            _ => chars.swap(i, i + 1),
        }
        chars.into_iter().collect()
    }

    /// One of a section of `tables.txt`.
    pub fn word(&mut self, section: &str) -> &'static str {
        let text = self.text;
        self.pick(text.tables.list(section)).as_str()
    }

    /// Several different entries of a section.
    pub fn words(&mut self, section: &str, count: usize) -> Vec<&'static str> {
        let list: Vec<&'static str> = self.text.tables.list(section).iter().map(String::as_str).collect();
        self.sample(&list, count)
    }

    /// A pair of a section whose entries are `key: value`.
    pub fn entry(&mut self, section: &str) -> (&'static str, &'static str) {
        let pairs = self.text.tables.pairs(section, ": ");
        *self.pick(&pairs)
    }

    /// A person's name.
    pub fn name(&mut self) -> &'static str {
        self.word("names")
    }

    /// An exchange whose question is rough.
    pub fn ask(&mut self, question: &str, answer: impl Into<String>) -> Turn {
        let user = self.rough(question);
        Turn {
            user,
            think: None,
            answer: self.who.fill(&answer.into()),
        }
    }

    /// An exchange whose question keeps its letters.
    pub fn ask_exact(&mut self, question: &str, answer: impl Into<String>) -> Turn {
        let user = self.exact(question);
        Turn {
            user,
            think: None,
            answer: self.who.fill(&answer.into()),
        }
    }
}

impl Turn {
    /// The same with the thoughts that lead to it.
    pub fn thinking(mut self, think: impl Into<String>) -> Self {
        self.think = Some(think.into());
        self
    }
}

/// With a capital at its head.
pub fn cap(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// With its article.
pub fn an(word: &str) -> String {
    let vowel = word.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {word}", if vowel { "an" } else { "a" })
}

/// A number up to twenty in words.
pub const NUMBER: [&str; 21] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];
/// Places in a row.
pub const ORDINAL: [&str; 12] = [
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth",
];
/// The week.
pub const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
/// The year.
pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
