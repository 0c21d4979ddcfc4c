//! The text: seeded chats, every word of them written by this project.
//!
//! [`Corpus`] streams chats; the same settings give the same chats on every machine. The question side is varied on
//! purpose (phrasings, case, punctuation, typing slips), the answer side is not: a small network learns one crisp answer
//! to many questions, and blurs many answers into none.

mod desk;
mod facts;
mod outside;
pub mod pen;
mod rewriting;
pub mod rng;
mod skills;
mod stories;
mod sums;
mod systems;
mod talk;
pub mod text;

use anyhow::{Result, bail};
use pen::Pen;

/// One exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What the person writes.
    pub user: String,
    /// The thoughts before the answer, where there are any.
    pub think: Option<String>,
    /// The answer.
    pub answer: String,
}

/// Several exchanges, and what they are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// The first message, if there is one.
    pub system: Option<String>,
    /// The exchanges.
    pub turns: Vec<Turn>,
    /// The skill of the last exchange.
    pub skill: &'static str,
}

/// Who answers: what the texts call `{NAME}`, `{KIND}` and so on.
#[derive(Clone, Debug, PartialEq)]
pub struct Persona {
    /// `{NAME}`
    pub name: String,
    /// `{KIND}`: "a very small student", "a small teacher".
    pub kind: String,
    /// `{PARAMS}`: millions of parameters.
    pub params: String,
    /// `{MB}`: megabytes of its file.
    pub megabytes: String,
    /// `{LAYERS}`
    pub layers: String,
    /// Whether it is the teacher: it knows the desk, and says the `lead` lines.
    pub teacher: bool,
}

impl Persona {
    /// The student.
    pub fn student() -> Self {
        Self {
            name: "Pip".into(),
            kind: "a very small student".into(),
            params: "5".into(),
            megabytes: "6".into(),
            layers: "6".into(),
            teacher: false,
        }
    }

    /// The teacher.
    pub fn teacher() -> Self {
        Self {
            name: "Lead".into(),
            kind: "a small teacher".into(),
            params: "18".into(),
            megabytes: "19".into(),
            layers: "6".into(),
            teacher: true,
        }
    }

    /// `text` with its slots filled.
    pub fn fill(&self, text: &str) -> String {
        if !text.contains('{') {
            return text.to_owned();
        }
        let name = self.name.to_lowercase();
        [
            ("{NAME}", self.name.as_str()),
            ("{name}", &name),
            ("{KIND}", &self.kind),
            ("{PARAMS}", &self.params),
            ("{MB}", &self.megabytes),
            ("{LAYERS}", &self.layers),
        ]
        .iter()
        .fold(text.to_owned(), |text, (slot, word)| text.replace(slot, word))
    }
}

type Maker = fn(&mut Pen) -> Vec<Turn>;
type SystemMaker = fn(&mut Pen) -> (String, Vec<Turn>);

/// A kind of exchange: its name in tables, its family there, its share of the text, and its maker.
pub struct Skill {
    /// Its name.
    pub name: &'static str,
    /// The row of the evaluation that it counts in.
    pub family: &'static str,
    share: u32,
    make: Maker,
}

/// Families whose answers are rules or small calculations.
pub const DETERMINISTIC: [&str; 8] = [
    "arithmetic",
    "word problems",
    "counting",
    "comparison",
    "units",
    "dates",
    "spelling",
    "rewriting",
];
/// Families of talk.
pub const TALK: [&str; 3] = ["small talk", "identity", "page ideas"];
/// What the teacher was taught and the student was not.
pub const TRANSFER: &str = "desk";

const fn skill(name: &'static str, family: &'static str, share: u32, make: Maker) -> Skill {
    Skill {
        name,
        family,
        share,
        make,
    }
}

/// What both models learn. The page and its ideas weigh most: that is what a visitor asks first.
pub const SKILLS: &[Skill] = &[
    skill("small talk", "small talk", 60, talk::small_talk),
    skill("greeting", "small talk", 15, talk::hello),
    skill("identity", "identity", 50, talk::identity),
    skill("asked", "page ideas", 80, talk::asked),
    skill("topic", "page ideas", 120, talk::topic),
    skill("story", "stories", 70, stories::story),
    skill("sum", "arithmetic", 60, sums::sum),
    skill("product", "arithmetic", 30, sums::product),
    skill("too much", "arithmetic", 10, sums::too_big),
    skill("word problem", "word problems", 60, sums::word_problem),
    skill("sequence", "counting", 25, skills::sequence),
    skill("count things", "counting", 25, skills::count_things),
    skill("compare", "comparison", 25, skills::compare),
    skill("sort", "comparison", 35, skills::sort),
    skill("unit", "units", 35, skills::unit),
    skill("calendar", "dates", 35, skills::calendar),
    skill("clock", "dates", 15, skills::clock),
    skill("spell", "spelling", 45, skills::spell),
    skill("case", "rewriting", 25, rewriting::case),
    skill("list", "rewriting", 30, rewriting::list),
    skill("json", "rewriting", 35, rewriting::json),
    skill("edit", "rewriting", 30, rewriting::edit),
    skill("echo", "rewriting", 15, rewriting::echo),
    skill("fact", "facts", 60, facts::fact),
    skill("opposite", "facts", 20, facts::opposite),
    skill("colour", "facts", 20, facts::colour),
    skill("naming", "references", 30, talk::naming),
    skill("remember", "references", 40, talk::remember),
    skill("outside", "outside", 100, outside::outside),
    skill("moment", "outside", 12, outside::moment),
    skill("unclear", "outside", 8, outside::unclear),
];

/// What only the teacher learns.
pub const DESK: &[Skill] = &[
    skill("ticket", TRANSFER, 110, desk::ticket),
    skill("rule", TRANSFER, 30, desk::rule),
];

/// Shares of a second course ([`Corpus::practice`]): where marks were lowest after the first, there is more of it, and
/// less of what was already known. Skills that are not named keep their share.
const PRACTICE: [(&str, u32); 25] = [
    ("greeting", 20),
    ("identity", 70),
    ("topic", 90),
    ("story", 40),
    ("sum", 80),
    ("product", 70),
    ("word problem", 70),
    ("sequence", 50),
    ("count things", 45),
    ("compare", 60),
    ("sort", 90),
    ("unit", 60),
    ("calendar", 90),
    ("clock", 60),
    ("spell", 110),
    ("case", 60),
    ("json", 25),
    ("echo", 40),
    ("fact", 80),
    ("opposite", 30),
    ("colour", 40),
    ("remember", 35),
    ("outside", 80),
    ("moment", 25),
    ("ticket", 60),
];

/// System prompts that are obeyed; each makes the whole chat.
pub const SYSTEMS: &[(&str, SystemMaker)] = &[
    ("a name", systems::named),
    ("one word", systems::one_word),
    ("JSON", systems::as_json),
    ("capitals", systems::capitals),
];

/// Every skill that a persona has.
pub fn skills_of(who: &Persona) -> impl Iterator<Item = &'static Skill> {
    SKILLS.iter().chain(DESK.iter().filter(|_| who.teacher))
}

/// A stream of chats.
#[derive(Clone, Debug)]
pub struct Corpus {
    seed: u64,
    who: Persona,
    longest: usize,
    practice: bool,
    next: u64,
}

impl Corpus {
    /// Chats for `who`, of at most `longest` exchanges drawn together (an exchange may bring a follow-up of its own).
    ///
    /// Errors: a persona without a name or kind, and lengths that no chat can have.
    pub fn new(seed: u64, who: Persona, longest: usize) -> Result<Self> {
        if who.name.trim().is_empty() || who.kind.trim().is_empty() {
            bail!("a persona needs a name and a kind: the texts speak of both");
        }
        if !(1..=32).contains(&longest) {
            bail!("a chat of at most {longest} exchanges cannot be made: ask for 1 to 32");
        }
        Ok(Self {
            seed,
            who,
            longest,
            practice: false,
            next: 0,
        })
    }

    /// The same lessons in the shares of the second course, for who has had the first.
    pub fn practice(self, practice: bool) -> Self {
        Self { practice, ..self }
    }

    /// The chat of number `index`: each is drawn from a stream of its own, so that any part can be made alone.
    pub fn chat(&self, index: u64) -> Chat {
        let mut pen = Pen::new(self.seed, index, &self.who);
        let x = pen.below(1000);
        if x < 60 {
            let (_, make) = SYSTEMS[pen.below(SYSTEMS.len())];
            let (system, turns) = make(&mut pen);
            return Chat {
                system: Some(system),
                turns,
                skill: "system prompt",
            };
        }
        let system = (x < 140).then(|| pen.say(systems::PLAIN));
        let mut turns = if pen.chance(0.08) {
            talk::hello(&mut pen)
        } else {
            Vec::new()
        };
        let count = if self.longest > 4 {
            pen.range(self.longest as i64 / 2, self.longest as i64) as usize
        } else {
            *pen.pick(&[1, 1, 1, 2, 2, 3, 4])
        };
        let mut skill = "greeting";
        for _ in 0..count.min(self.longest) {
            let drawn = draw(&mut pen, self.practice);
            turns.extend((drawn.make)(&mut pen));
            skill = drawn.name;
        }
        Chat { system, turns, skill }
    }
}

fn draw(pen: &mut Pen, practice: bool) -> &'static Skill {
    let share = |s: &Skill| {
        let other = PRACTICE.iter().find(|(name, _)| practice && *name == s.name);
        other.map_or(s.share, |(_, share)| *share)
    };
    let total: u32 = skills_of(pen.who).map(share).sum();
    let mut x = pen.below(total as usize) as u32;
    let who = pen.who;
    skills_of(who)
        .find(|s| {
            let here = x < share(s);
            x = x.wrapping_sub(if here { 0 } else { share(s) });
            here
        })
        .expect("the shares add up to their sum")
}

impl Iterator for Corpus {
    type Item = Chat;

    fn next(&mut self) -> Option<Chat> {
        let chat = self.chat(self.next);
        self.next += 1;
        Some(chat)
    }
}

/// One question in fifty never reaches training, whatever chat it stands in. The hash (FNV-1a) looks past case and
/// punctuation, so that no spelling of a kept question is trained on either.
pub fn held_out(question: &str) -> bool {
    let plain = plain(question);
    let hash = plain.trim().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    plain.len() >= 12 && hash % 50 == 0
}

/// A question without case and punctuation.
fn plain(question: &str) -> String {
    let letters = question.chars().filter(|c| c.is_alphanumeric() || *c == ' ');
    letters.flat_map(char::to_lowercase).collect()
}

impl Chat {
    /// Whether training may see it: none of its questions is kept.
    pub fn trainable(&self) -> bool {
        self.turns.iter().all(|turn| !held_out(&turn.user))
    }
}

/// What one skill makes from a stream of its own.
pub fn drawn(skill: &Skill, who: &Persona, seed: u64, part: u64) -> Vec<Turn> {
    (skill.make)(&mut Pen::new(seed, part, who))
}

/// An exchange of what both models learn, with an answer that does not depend on who answers; else nothing.
pub fn known(teacher: &Persona, seed: u64, part: u64) -> Vec<Turn> {
    let skill = &SKILLS[part as usize % SKILLS.len()];
    let (one, other) = (
        drawn(skill, teacher, seed, part),
        drawn(skill, &Persona::student(), seed, part),
    );
    if one == other { one } else { Vec::new() }
}

pub use desk::rules as desk_rules;
pub use stories::keeps_to as story_keeps_to;

/// Exchanges of one skill whose last question was kept from training, drawn until `count` are found.
pub fn kept(skill: &'static Skill, who: &Persona, seed: u64, count: usize) -> Vec<Vec<Turn>> {
    let mut found = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for part in 0..400_000 {
        if found.len() == count {
            break;
        }
        let mut pen = Pen::new(seed ^ 0x5eed_0000_0000, part, who);
        let turns = (skill.make)(&mut pen);
        let last = turns.last().map(|turn| turn.user.clone()).unwrap_or_default();
        // Only the last question is judged; it must be one that training has not seen, and each only once in any spelling.
        if held_out(&last) && seen.insert(plain(&last)) {
            found.push(turns);
        }
    }
    found
}
