//! Marks: what a model answers, greedily and in the runner itself, to questions that were kept from training.

use crate::corpus::rng::Rng;
use crate::corpus::text::TEXT;
use crate::corpus::{self, Chat, Corpus, DESK, Persona, SKILLS, Skill, Turn};
use crate::pack::{self, Weight};
use anyhow::{Result, anyhow, bail};
use std::collections::BTreeMap;
use std::sync::Mutex;
use understudy::format::adapter::Adapter;
use understudy::format::source::Bytes;
use understudy::model::Sampling;
use understudy::student::{Prompt, Request, Student};
use understudy::text::template::Message;

/// The row of chats that begin with a system prompt to be obeyed.
const SYSTEMS: &str = "system prompts";

/// Right answers of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Right ones.
    pub right: usize,
    /// All.
    pub asked: usize,
}

impl Mark {
    /// In percent.
    pub fn percent(self) -> f64 {
        100.0 * self.right as f64 / self.asked.max(1) as f64
    }
}

/// A wrong answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The skill.
    pub skill: &'static str,
    /// The last question.
    pub question: String,
    /// What was wanted.
    pub wanted: String,
    /// What came.
    pub got: String,
}

/// All marks: by family and by skill.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// Families, in the order of [`SKILLS`].
    pub families: Vec<(&'static str, Mark)>,
    /// Skills.
    pub skills: BTreeMap<&'static str, Mark>,
    /// What was wrong.
    pub failures: Vec<Failure>,
}

/// A model that is open on the CPU engine.
pub struct Open(Student);

impl Open {
    /// Opens the bytes of a GGUF file.
    pub fn new(file: &[u8]) -> Result<Self> {
        let source = Bytes(file.to_vec());
        let student =
            pollster::block_on(Student::open(&source, None, None, |_, _| Ok(()))).map_err(|e| anyhow!("{e}"))?;
        Ok(Self(student))
    }

    /// The same with an adapter beside it.
    pub fn with(file: &[u8], adapter: Option<&Adapter>) -> Result<Self> {
        let mut open = Self::new(file)?;
        if let Some(adapter) = adapter {
            pollster::block_on(open.0.attach(adapter.clone(), 1.0)).map_err(|e| anyhow!("{e}"))?;
        }
        Ok(open)
    }

    /// The student inside.
    pub fn student(&mut self) -> &mut Student {
        &mut self.0
    }

    /// The greedy answer, and the thoughts before it.
    pub fn answer(&mut self, messages: Vec<Message>, thinking: Option<bool>) -> Result<(String, String)> {
        let request = Request {
            sampling: Sampling::GREEDY,
            max_tokens: Some(400),
            enable_thinking: thinking,
            ..Request::chat(messages)
        };
        let answer = pollster::block_on(self.0.generate(&request, |_| false)).map_err(|e| anyhow!("{e}"))?;
        Ok((answer.content.trim().to_owned(), answer.reasoning.trim().to_owned()))
    }

    /// Mean loss (nats per token) of the answers in chats with a kept question.
    pub fn loss(&mut self, who: &Persona, seed: u64, chats: usize) -> Result<f64> {
        let corpus = Corpus::new(seed ^ 0x10_55, who.clone(), 4)?;
        let mut rng = Rng::new(seed, 7);
        let (mut total, mut tokens) = (0.0_f64, 0usize);
        for chat in corpus.filter(|chat| !chat.trainable()).take(chats) {
            let pieces = pack::pieces(&chat, rng.chance(0.65), rng.chance(0.12));
            let text: String = pieces.iter().map(|(text, _)| text.as_str()).collect();
            let ids = self
                .0
                .tokenizer()
                .encode(&text, false, true)
                .map_err(|e| anyhow!("{e}"))?;
            if ids.len() > self.0.context() {
                continue;
            }
            // Which pieces the tokens lie in, by the bytes that they stand for.
            let mut ends: Vec<(usize, Weight)> = Vec::new();
            for (text, weight) in &pieces {
                ends.push((ends.last().map_or(0, |e| e.0) + text.len(), *weight));
            }
            let vocabulary = self.0.plan().config.vocabulary;
            let logits = pollster::block_on(self.0.logits(&ids)).map_err(|e| anyhow!("{e}"))?;
            let (mut at, mut piece) = (0, 0);
            for (i, id) in ids.iter().enumerate() {
                while piece + 1 < ends.len() && at >= ends[piece].0 {
                    piece += 1;
                }
                at += self
                    .0
                    .tokenizer()
                    .token_text(*id)
                    .filter(|t| crate::tokenizer::SPECIAL.contains(t))
                    .map_or_else(|| self.0.tokenizer().piece(*id).len(), str::len);
                if i > 0 && ends[piece].1 == Weight::Full {
                    let row = &logits[(i - 1) * vocabulary..i * vocabulary];
                    total -= log_softmax(row, *id as usize);
                    tokens += 1;
                }
            }
        }
        Ok(total / tokens.max(1) as f64)
    }
}

/// Natural logarithm of the probability of `id`.
pub fn log_softmax(row: &[f32], id: usize) -> f64 {
    let most = row.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
    let sum: f64 = row.iter().map(|v| f64::from(v - most).exp()).sum();
    f64::from(row[id] - most) - sum.ln()
}

/// The messages of a chat up to its last question.
pub fn messages(system: Option<&str>, turns: &[Turn]) -> Vec<Message> {
    let message = |role: &str, text: &str| Message {
        role: role.to_owned(),
        content: text.to_owned(),
        reasoning_content: None,
    };
    let mut out: Vec<_> = system.map(|text| message("system", text)).into_iter().collect();
    for (i, turn) in turns.iter().enumerate() {
        out.push(message("user", &turn.user));
        if i + 1 < turns.len() {
            out.push(message("assistant", &turn.answer));
        }
    }
    out
}

/// The rule of a skill: most answers are determined to the letter; small talk may take any answer of its list, things
/// may be chosen freely, and a story must be whole and keep to what was asked for.
pub fn right(skill: &str, question: &str, wanted: &str, got: &str, who: &Persona) -> bool {
    if got == wanted {
        return true;
    }
    match skill {
        "story" => corpus::story_keeps_to(question, got) && wanted.len() > 120,
        "small talk" | "greeting" => TEXT.small_talk.iter().any(|asked| {
            let says: Vec<String> = asked.says.iter().map(|text| who.fill(text)).collect();
            says.iter().any(|s| s == wanted) && says.iter().any(|s| s == got)
        }),
        "naming" => {
            let things = |text: &str| -> Vec<String> {
                text.lines()
                    .map(|line| {
                        line.trim_start_matches(|c: char| c.is_numeric() || ". *".contains(c))
                            .trim_end_matches('*')
                            .to_lowercase()
                    })
                    .collect()
            };
            let (mut chosen, wanted) = (things(got), things(wanted));
            let kind = TEXT.tables.sections("a ").into_iter().find(|kind| {
                wanted
                    .iter()
                    .all(|w| TEXT.tables.list(&format!("a {kind}")).contains(w))
            });
            let known = kind.is_some_and(|kind| {
                chosen
                    .iter()
                    .all(|w| TEXT.tables.list(&format!("a {kind}")).contains(w))
            });
            chosen.sort_unstable();
            chosen.dedup();
            known && chosen.len() == wanted.len()
        }
        _ => false,
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Order {
    /// Kept questions of every skill.
    pub each: usize,
    /// The only family that is wanted; without a name all of them.
    pub only: Option<String>,
    /// The text's seed.
    pub seed: u64,
    /// What the model learned since, laid beside it.
    pub adapter: Option<Adapter>,
}

/// Asks kept questions of every skill. The desk is asked of everybody.
///
/// Errors: a family that there is not; a file that is no model.
pub fn mark(file: &[u8], who: &Persona, order: &Order, threads: usize) -> Result<Marks> {
    let Order {
        each,
        only,
        seed,
        adapter,
    } = order;
    let (each, seed) = (*each, *seed);
    let wanted = |family: &str| only.as_ref().is_none_or(|only| only == family);
    let work: Vec<&'static Skill> = SKILLS.iter().chain(DESK).filter(|s| wanted(s.family)).collect();
    if work.is_empty() && !wanted(SYSTEMS) {
        bail!("there is no family '{}'", only.as_deref().unwrap_or_default());
    }
    let todo = Mutex::new(work.clone());
    let done = Mutex::new((BTreeMap::new(), Vec::new()));
    let teacher = Persona::teacher();
    std::thread::scope(|scope| -> Result<()> {
        let one = || -> Result<()> {
            let mut model = Open::with(file, adapter.as_ref())?;
            loop {
                let next = todo.lock().expect("no thread panics").pop();
                let Some(skill) = next else { return Ok(()) };
                let whose = if skill.family == corpus::TRANSFER {
                    &teacher
                } else {
                    who
                };
                let mut mark = Mark::default();
                let mut failures = Vec::new();
                for turns in corpus::kept(skill, whose, seed, each) {
                    let last = turns.last().expect("a maker makes turns");
                    let (got, _) = model.answer(messages(None, &turns), None)?;
                    mark.asked += 1;
                    if right(skill.name, &last.user, &last.answer, &got, who) {
                        mark.right += 1;
                    } else {
                        failures.push(Failure {
                            skill: skill.name,
                            question: last.user.clone(),
                            wanted: last.answer.clone(),
                            got,
                        });
                    }
                }
                let mut done = done.lock().expect("no thread panics");
                done.0.insert(skill.name, mark);
                done.1.extend(failures);
            }
        };
        let handles: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(one)).collect();
        for handle in handles {
            handle.join().map_err(|_| anyhow!("a marking thread broke off"))??;
        }
        Ok(())
    })?;
    let (mut skills, mut failures) = done.into_inner().expect("no thread panics");
    // System prompts: whole chats of their own.
    let mut model = Open::new(file)?;
    let mut mark = Mark::default();
    let chats = Corpus::new(seed ^ 0x575, who.clone(), 4)?.filter(|c| c.skill == "system prompt" && !c.trainable());
    for Chat { system, turns, .. } in chats.take(if wanted(SYSTEMS) { each } else { 0 }) {
        let last = turns.last().expect("a maker makes turns");
        let (got, _) = model.answer(messages(system.as_deref(), &turns), None)?;
        mark.asked += 1;
        if got == last.answer {
            mark.right += 1;
        } else {
            failures.push(Failure {
                skill: "system prompt",
                question: format!("[{}] {}", system.unwrap_or_default(), last.user),
                wanted: last.answer.clone(),
                got,
            });
        }
    }
    if wanted(SYSTEMS) {
        skills.insert("system prompt", mark);
    }
    let mut families: Vec<(&'static str, Mark)> = Vec::new();
    for skill in work {
        let here = skills.get(skill.name).copied().unwrap_or_default();
        match families.iter_mut().find(|(family, _)| *family == skill.family) {
            Some((_, sum)) => {
                sum.right += here.right;
                sum.asked += here.asked;
            }
            None => families.push((skill.family, here)),
        }
    }
    if wanted(SYSTEMS) {
        let before_desk = families.len() - usize::from(families.last().is_some_and(|(f, _)| *f == corpus::TRANSFER));
        families.insert(before_desk, (SYSTEMS, mark));
    }
    Ok(Marks {
        families,
        skills,
        failures,
    })
}

/// The table of one or two models as Markdown.
pub fn table(names: &[&str], marks: &[&Marks]) -> String {
    let mut out = format!("| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for (i, (family, _)) in marks[0].families.iter().enumerate() {
        let cells: Vec<_> = marks
            .iter()
            .map(|m| {
                let mark = m.families[i].1;
                format!("{:.1} % ({} of {})", mark.percent(), mark.right, mark.asked)
            })
            .collect();
        out += &format!("| {family} | {} |\n", cells.join(" | "));
    }
    out
}

/// Questions whose greedy answers are printed for reading: phrased by hand, not by the grammar.
pub const READ: [&str; 40] = [
    "Hello!",
    "Who are you?",
    "What can you do?",
    "Who made you?",
    "Where do my prompts go?",
    "How can I check that?",
    "What is distillation?",
    "What is quantization?",
    "What is a GGUF file?",
    "What is the KV cache for?",
    "How do I teach you?",
    "What are the limits of a small student?",
    "Tell me a story about a fox named Mia.",
    "Tell me a story about a robot who wants a star map.",
    "What is 47 + 38?",
    "83 - 27",
    "What is 7 times 8?",
    "Mia has 6 boxes with 7 apples each and gives 5 away. How many apples are left?",
    "What is 512 * 23?",
    "Sort 42, 7, 93, 18",
    "Sort these words: pear, apple, melon",
    "Which is bigger, 71 or 17?",
    "How many minutes are 3 hours?",
    "What day is 3 days after Friday?",
    "What time is 5 hours after 9 o'clock?",
    "Write the red fox in capitals",
    "Reverse the word water",
    "How many letters are in garden?",
    "Make JSON with the keys name and age: age 31, name Nora",
    "Make a list of hammer, saw, spoon",
    "Replace dog with cat: Tom sees the brown dog.",
    "What is the capital of Italy?",
    "What is the capital of Peru?",
    "What is the opposite of early?",
    "What colour is a lemon?",
    "Name three animals",
    "Who was Napoleon?",
    "What time is it?",
    "Write me a Python function.",
    "asdf qwer",
];

/// Answers to [`READ`].
pub fn read_aloud(file: &[u8]) -> Result<Vec<(String, String, String)>> {
    let mut model = Open::new(file)?;
    let ask = |q: &&str| {
        let turn = Turn {
            user: (*q).to_owned(),
            think: None,
            answer: String::new(),
        };
        model
            .answer(messages(None, &[turn]), None)
            .map(|(answer, thoughts)| ((*q).to_owned(), thoughts, answer))
    };
    READ.iter().map(ask).collect()
}

/// Tokens of a chat's beginning, for the traces.
pub fn prompt_ids(student: &Student, messages: &[Message], thinking: Option<bool>) -> Result<Vec<u32>> {
    let prompt = Prompt::Messages(messages.to_vec());
    student
        .prompt_tokens(&prompt, None, thinking, None)
        .map(|(ids, _)| ids)
        .map_err(|e| anyhow!("{e}"))
}

/// The largest difference between the runner's logits and the trainer's, `{"ids": [..], "top": [[id, logit], ..]}`.
pub fn compare_logits(file: &[u8], told: &serde_json::Value) -> Result<f32> {
    let mut model = Open::new(file)?;
    let numbers = |list: &serde_json::Value| -> Vec<f64> {
        list.as_array()
            .into_iter()
            .flatten()
            .filter_map(serde_json::Value::as_f64)
            .collect()
    };
    let ids: Vec<u32> = numbers(&told["ids"]).into_iter().map(|id| id as u32).collect();
    let top: Vec<Vec<f64>> = told["top"].as_array().into_iter().flatten().map(numbers).collect();
    if ids.is_empty() || top.is_empty() || top.iter().any(|pair| pair.len() != 2) {
        return Err(anyhow!("the trainer told no logits to compare with"));
    }
    let logits = pollster::block_on(model.student().logits(&ids)).map_err(|e| anyhow!("{e}"))?;
    let last = &logits[logits.len() - model.student().plan().config.vocabulary..];
    let differences = top
        .iter()
        .map(|pair| (last.get(pair[0] as usize).copied().unwrap_or(f32::NAN) - pair[1] as f32).abs());
    Ok(differences.fold(
        0.0,
        |worst: f32, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) },
    ))
}
