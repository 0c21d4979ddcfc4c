//! The school's commands. `school help` lists them; `cargo xtask school` runs them in order.

use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use understudy::format::adapter::Adapter;
use understudy_school::corpus::{self, Chat, Corpus, Persona};
use understudy_school::export::{self, Recipe, Training, block_type, export};
use understudy_school::{eval, pack, tokenizer, traces};

const HELP: &str = "\
school corpus [--persona student|teacher] [--seed N] [--chats N]     prints chats
school coverage [--persona P] [--seed N] [--chats N]                 size of the text, and what it covers
school tokenizer OUT.json [--seed N] [--vocab N]                     trains the tokenizer
school prune TOKENIZER OUT.json [--persona P] [--seed N] [--chats N]  the tokenizer without merges that the persona never needs
school shard RECIPE TOKENIZER OUT|- [--seed N] [--first N] [--chats N] [--row N] [--kept] [--practice]
school export RECIPE WEIGHTS TOKENIZER OUT.gguf [--type T] [--training training.json]
school weights MODEL.gguf OUT.safetensors                            back to what the trainer reads, to go on from a file
school eval MODEL.gguf [--adapter A.gguf] [--persona P] [--each N] [--only FAMILY] [--failures N] [--loss N]
school read MODEL.gguf                                               forty greedy answers
school check MODEL.gguf training.json [--within X]                   the runner's logits against the trainer's
school fix MODEL.gguf OUT.json                                       ten greedy answers, for the tests
school traces TEACHER.gguf FOLDER [--rows N] [--known N] [--apart N] [--seed N]
school rules                                                         the tables of the desk";

fn main() {
    if let Err(error) = run() {
        eprintln!("school: {error:#}");
        std::process::exit(1);
    }
}

/// Words and `--options` of the command line.
struct Words {
    plain: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Words {
    fn read(known: &[&str]) -> Result<Self> {
        let (mut plain, mut options) = (Vec::new(), BTreeMap::new());
        let mut words = std::env::args().skip(2);
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some(flag @ ("kept" | "practice")) => drop(options.insert(flag.to_owned(), "yes".into())),
                Some(name) if known.contains(&name) => drop(options.insert(
                    name.to_owned(),
                    words.next().with_context(|| format!("--{name} needs a value"))?,
                )),
                Some(name) => bail!("there is no --{name} here\n{HELP}"),
                None => plain.push(word),
            }
        }
        Ok(Self { plain, options })
    }

    fn place(&self, i: usize, what: &str) -> Result<&str> {
        self.plain
            .get(i)
            .map(String::as_str)
            .with_context(|| format!("{what} is missing\n{HELP}"))
    }

    fn number(&self, name: &str, default: u64) -> Result<u64> {
        self.options.get(name).map_or(Ok(default), |v| {
            v.parse()
                .with_context(|| format!("--{name} takes a whole number, not '{v}'"))
        })
    }

    fn persona(&self) -> Result<Persona> {
        match self.options.get("persona").map_or("student", String::as_str) {
            "student" => Ok(Recipe::read(include_str!("recipes/student.json"))?.persona),
            "teacher" => Ok(Recipe::read(include_str!("recipes/teacher.json"))?.persona),
            other => bail!("--persona takes student or teacher, not '{other}'"),
        }
    }
}

fn read(path: &str) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{path} cannot be read"))
}

fn text(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))
}

fn run() -> Result<()> {
    let command = std::env::args().nth(1).unwrap_or_default();
    let words = Words::read(&[
        "persona", "seed", "chats", "vocab", "first", "row", "type", "training", "each", "failures", "loss", "rows",
        "apart", "threads", "within", "known", "only", "adapter",
    ])?;
    let seed = words.number("seed", 1)?;
    match command.as_str() {
        "corpus" => {
            for chat in Corpus::new(seed, words.persona()?, 4)?.take(words.number("chats", 12)? as usize) {
                print_chat(&chat);
            }
            Ok(())
        }
        "coverage" => coverage(&words.persona()?, seed, words.number("chats", 100_000)? as usize),
        "tokenizer" => {
            let trained = tokenizer::train(seed, words.number("vocab", 2048)? as usize)?;
            fs::write(words.place(0, "the file to write")?, tokenizer::to_json(&trained)?)?;
            Ok(())
        }
        "prune" => {
            let chats = words.number("chats", 60_000)? as usize;
            let pruned = tokenizer::prune(&text(words.place(0, "the tokenizer")?)?, &words.persona()?, seed, chats)?;
            fs::write(words.place(1, "the file to write")?, pruned)?;
            Ok(())
        }
        "shard" => {
            let recipe = Recipe::read(&text(words.place(0, "the recipe")?)?)?;
            let tokenizer = tokenizer::from_json(&text(words.place(1, "the tokenizer")?)?)?;
            let shard = pack::Shard {
                seed,
                who: recipe.persona,
                chats: words.number("chats", 1000)? as usize,
                first: words.number("first", 0)?,
                length: words.number("row", 256)? as usize,
                kept: words.options.contains_key("kept"),
                practice: words.options.contains_key("practice"),
            };
            let out = words.place(2, "the file to write")?;
            let mut bytes = Vec::new();
            let (rows, tokens) = pack::write(&shard, &tokenizer, &mut bytes)?;
            if out == "-" {
                io::stdout().write_all(&bytes)?;
            } else {
                fs::write(out, bytes)?;
                println!("{rows} rows, {tokens} tokens");
            }
            Ok(())
        }
        "export" => {
            let recipe = Recipe::read(&text(words.place(0, "the recipe")?)?)?;
            let kind = words
                .options
                .get("type")
                .map_or(Ok(recipe.block_type), |t| block_type(t))?;
            let training = words
                .options
                .get("training")
                .map_or_else(|| Ok(Training::default()), |path| told(path))?;
            let (bytes, losses) = export(
                &recipe,
                &read(words.place(1, "the weights")?)?,
                &text(words.place(2, "the tokenizer")?)?,
                kind,
                &training,
            )?;
            for loss in &losses {
                println!(
                    "{:<28} {:<5} relative error {:.5}, largest {:.5}",
                    loss.name,
                    loss.block_type.name(),
                    loss.relative,
                    loss.largest
                );
            }
            let out = words.place(3, "the file to write")?;
            fs::write(out, &bytes)?;
            println!(
                "{out}: {} parameters, {} bytes, SHA-256 {}",
                recipe.shape.parameters(),
                bytes.len(),
                sha256(&bytes)
            );
            Ok(())
        }
        "weights" => {
            let weights = export::weights(&read(words.place(0, "the model")?)?)?;
            fs::write(words.place(1, "the file to write")?, weights)?;
            Ok(())
        }
        "eval" => {
            let (file, who) = (read(words.place(0, "the model")?)?, words.persona()?);
            let threads = words.number(
                "threads",
                std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            )?;
            let order = eval::Order {
                each: words.number("each", 40)? as usize,
                only: words.options.get("only").cloned(),
                seed,
                adapter: match words.options.get("adapter") {
                    Some(path) => Some(Adapter::from_gguf(&read(path)?).map_err(|e| anyhow!("{path}: {e}"))?),
                    None => None,
                },
            };
            let marks = eval::mark(&file, &who, &order, threads as usize)?;
            print!("{}", eval::table(&[&who.name], &[&marks]));
            for (skill, mark) in &marks.skills {
                println!("{skill:<14} {:>3} of {}", mark.right, mark.asked);
            }
            for f in marks.failures.iter().take(words.number("failures", 20)? as usize) {
                println!(
                    "{}: {:?}\n  wanted {:?}\n  got    {:?}",
                    f.skill, f.question, f.wanted, f.got
                );
            }
            let loss = eval::Open::with(&file, order.adapter.as_ref())?.loss(
                &who,
                seed,
                words.number("loss", 400)? as usize,
            )?;
            println!("held-out loss of the answers {loss:.5}, perplexity {:.5}", loss.exp());
            Ok(())
        }
        "read" => {
            for (question, thoughts, answer) in eval::read_aloud(&read(words.place(0, "the model")?)?)? {
                let thoughts = if thoughts.is_empty() {
                    String::new()
                } else {
                    format!("*({thoughts})* ")
                };
                println!("> **{question}** {thoughts}{}\n", answer.replace('\n', " / "));
            }
            Ok(())
        }
        "check" => {
            let within: f32 = words
                .options
                .get("within")
                .map_or(Ok(1e-3), |x| x.parse())
                .context("--within takes a number")?;
            let told: serde_json::Value = serde_json::from_str(&text(words.place(1, "what the trainer told")?)?)?;
            let worst = eval::compare_logits(&read(words.place(0, "the model")?)?, &told["logits"])?;
            println!("largest difference of a logit between trainer and runner: {worst:.6}");
            if worst > within {
                bail!("the file does not compute what was trained: {worst} is more than {within}");
            }
            Ok(())
        }
        "fix" => {
            let rows: Vec<_> = eval::read_aloud(&read(words.place(0, "the model")?)?)?
                .into_iter()
                .step_by(4)
                .map(|(prompt, reasoning, answer)| serde_json::json!({"prompt": prompt, "reasoning": reasoning, "answer": answer}))
                .collect();
            fs::write(
                words.place(1, "the file to write")?,
                serde_json::to_string_pretty(&rows)? + "\n",
            )?;
            Ok(())
        }
        "traces" => {
            let order = traces::Order {
                desk: words.number("rows", 300)? as usize,
                known: words.number("known", 100)? as usize,
                apart: words.number("apart", 80)? as usize,
                seed,
            };
            let made = traces::make(&read(words.place(0, "the teacher")?)?, order)?;
            let folder = words.place(1, "the folder")?;
            fs::create_dir_all(folder)?;
            let rows = made.requests.len();
            for (name, lines) in [
                ("desk-requests.jsonl", &made.requests),
                ("desk-batch.jsonl", &made.outputs),
                ("desk-sharegpt.jsonl", &made.conversations),
                ("desk-reasoning.jsonl", &made.reasoning),
                ("desk-held-out.jsonl", &made.held_out),
            ] {
                let body = lines.join("\n") + "\n";
                println!("{name}: {} rows, {} bytes", lines.len(), body.len());
                fs::write(format!("{folder}/{name}"), body)?;
            }
            println!("the teacher was right in {} of {rows}", made.right);
            Ok(())
        }
        "rules" => {
            print!("{}", corpus::desk_rules());
            Ok(())
        }
        _ => {
            println!("{HELP}");
            if command.is_empty() || command == "help" {
                Ok(())
            } else {
                bail!("there is no command '{command}'")
            }
        }
    }
}

fn print_chat(chat: &Chat) {
    println!("--- {}", chat.skill);
    if let Some(system) = &chat.system {
        println!("system: {system}");
    }
    for turn in &chat.turns {
        println!("user: {}", turn.user);
        if let Some(think) = &turn.think {
            println!("  ({think})");
        }
        println!("assistant: {}", turn.answer);
    }
}

fn coverage(who: &Persona, seed: u64, chats: usize) -> Result<()> {
    let mut exchanges: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut questions, mut answers) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    let (mut bytes, mut turns, mut kept) = (0, 0, 0);
    for chat in Corpus::new(seed, who.clone(), 4)?.take(chats) {
        *exchanges.entry(chat.skill).or_default() += 1;
        kept += usize::from(!chat.trainable());
        for turn in &chat.turns {
            turns += 1;
            bytes += turn.user.len() + turn.answer.len() + turn.think.as_ref().map_or(0, String::len);
            questions.insert(turn.user.clone());
            answers.insert(turn.answer.clone());
        }
    }
    println!(
        "{chats} chats, {turns} exchanges, {bytes} bytes; {} different questions, {} different answers; {kept} chats kept from training",
        questions.len(),
        answers.len()
    );
    for (skill, count) in exchanges {
        println!(
            "{skill:<14} ends {:.1} % of the chats",
            100.0 * count as f64 / chats as f64
        );
    }
    Ok(())
}

/// What the trainer told.
fn told(path: &str) -> Result<Training> {
    let json: serde_json::Value = serde_json::from_str(&text(path)?).with_context(|| format!("{path} is not JSON"))?;
    Ok(Training::read(&json))
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
