//! `cargo xtask school`: makes tokenizer, student, teacher, traces and marks again, from a seed.
//!
//! ```text
//! school tokenizer                        -> WORK/tokenizer.json
//! train.py student                        -> WORK/student/weights.safetensors
//! school prune                            -> WORK/tokenizer-student.json          (only tokens that it has seen)
//! grow.py student -> teacher              -> WORK/teacher-first/start.safetensors (computes what the student does)
//! train.py teacher --start                -> WORK/teacher-first/weights.safetensors
//! train.py teacher --start --practice     -> WORK/teacher-second                 (more of what was hardest)
//! train.py teacher --start                -> WORK/teacher-third
//! mean.py first, second, third            -> WORK/teacher-mean
//! train.py teacher --start --average      -> WORK/teacher-fourth
//! mean.py mean, fourth                    -> WORK/teacher/weights.safetensors
//! school export, eval, read               -> WORK/*.gguf, WORK/*.txt
//! school traces                           -> WORK/traces/
//! distill.py                              -> WORK/taught.safetensors, marked again
//! ```
//! Training goes on where it was interrupted. What is made lies in WORK (`school/.work`); who likes it copies it to
//! `school/models` and `www/samples`.

use crate::{Places, run, setup};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is asked for.
pub struct Wish {
    /// The seed of text and weights.
    pub seed: String,
    /// Minutes of training: the student, the teacher, and each of the teacher's later courses.
    pub minutes: [String; 3],
    /// Where everything is put.
    pub work: PathBuf,
}

/// The programs of the school.
struct Rooms<'a> {
    places: &'a Places,
    python: PathBuf,
    school: PathBuf,
}

impl<'a> Rooms<'a> {
    fn open(places: &'a Places, profile: &str) -> Result<Self> {
        let python = setup::python(places)?;
        run::check(
            run::tool("cargo")
                .args(["build", "--package", "understudy-school", "--profile", profile])
                .current_dir(&places.root),
        )?;
        let folder = if profile == "dev" { "debug" } else { profile };
        let school = places.target.join(folder).join("school");
        Ok(Self { places, python, school })
    }

    fn python(&self, script: &str, words: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.python);
        command
            .arg(Path::new("school/train").join(script))
            .args(words)
            .current_dir(&self.places.root);
        run::check(command.env("PYTHONDONTWRITEBYTECODE", "1"))
    }

    fn train(&self, recipe: &str, work: &Path, seed: &str, more: &[&str]) -> Result<()> {
        let (work, school) = (text(work)?, text(&self.school)?);
        let mut words = vec![recipe, "--work", work, "--school", school, "--seed", seed];
        words.extend(more);
        self.python("train.py", &words)
    }

    fn school(&self, words: &[&str]) -> Result<()> {
        run::check(Command::new(&self.school).args(words).current_dir(&self.places.root))
    }

    /// Runs it and keeps what it prints.
    fn told(&self, words: &[&str], into: &Path) -> Result<()> {
        let told = run::listen(Command::new(&self.school).args(words).current_dir(&self.places.root))?;
        fs::write(into, &told.text)?;
        if !told.success {
            bail!("school {} failed", words.join(" "));
        }
        Ok(())
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not a name that programs can be told", path.display()))
}

const STUDENT: &str = "school/recipes/student.json";
const TEACHER: &str = "school/recipes/teacher.json";

/// Everything.
pub fn make(places: &Places, wish: &Wish) -> Result<()> {
    let rooms = Rooms::open(places, "release")?;
    let seed = wish.seed.as_str();
    let work = wish.work.as_path();
    let at = |name: &str| work.join(name);
    fs::create_dir_all(at("teacher-first"))?;
    let tokenizer = at("tokenizer.json");
    rooms.school(&["tokenizer", text(&tokenizer)?, "--seed", seed])?;
    rooms.train(
        STUDENT,
        &at("student"),
        seed,
        &["--minutes", &wish.minutes[0], "--batch", "4096"],
    )?;
    let (student, start) = (at("student/weights.safetensors"), at("teacher-first/start.safetensors"));
    rooms.python("grow.py", &[STUDENT, text(&student)?, TEACHER, text(&start)?])?;
    // Another part of the text each time, so that the teacher sees nothing twice.
    let course = |name: &str, minutes: &str, from: &Path, before: &str, first: &str, more: &[&str]| {
        let earlier = at(&format!("{before}/training.json"));
        let mut words = vec!["--minutes", minutes, "--batch", "4096", "--first", first];
        words.extend(["--start", text(from)?, "--earlier", text(&earlier)?]);
        words.extend(more);
        rooms.train(TEACHER, &at(name), seed, &words)
    };
    let weights = |name: &str| at(&format!("{name}/weights.safetensors"));
    let mean = |name: &str, parts: &[(&str, &str)]| {
        let shares: Vec<String> = parts
            .iter()
            .map(|(share, folder)| Ok(format!("{share}:{}", text(&at(folder))?)))
            .collect::<Result<_>>()?;
        let (work, school) = (at(name), text(&rooms.school)?);
        let mut words = vec![TEACHER, "--work", text(&work)?, "--school", school, "--seed", seed];
        words.extend(shares.iter().map(String::as_str));
        rooms.python("mean.py", &words)
    };
    course("teacher-first", &wish.minutes[1], &start, "student", "1000000000", &[])?;
    // Later courses start from trained weights: smaller rates that fall from early on, and hardly any weight on what people
    // write, which is guessed as well as it can be.
    let rates = |rate: &'static str, embedding: &'static str, tail: &'static str| {
        let quiet = [
            "--quiet",
            "0.02",
            "--rate",
            rate,
            "--embedding-rate",
            embedding,
            "--tail",
            tail,
        ];
        quiet.to_vec()
    };
    let later = wish.minutes[2].as_str();
    let second = [rates("0.01", "0.002", "0.85"), vec!["--practice"]].concat();
    course(
        "teacher-second",
        later,
        &weights("teacher-first"),
        "teacher-first",
        "2000000000",
        &second,
    )?;
    let third = rates("0.012", "0.0025", "0.8");
    course(
        "teacher-third",
        later,
        &weights("teacher-second"),
        "teacher-second",
        "3000000000",
        &third,
    )?;
    let three = [
        ("0.15", "teacher-first"),
        ("0.4", "teacher-second"),
        ("0.45", "teacher-third"),
    ];
    mean("teacher-mean", &three)?;
    let fourth = [
        rates("0.01", "0.002", "0.7"),
        vec!["--practice", "0.5", "--average", "0.99"],
    ]
    .concat();
    course(
        "teacher-fourth",
        later,
        &weights("teacher-mean"),
        "teacher-third",
        "6000000000",
        &fourth,
    )?;
    mean("teacher", &[("0.5", "teacher-mean"), ("0.5", "teacher-fourth")])?;
    // The student's file spells with tokens that the student has seen: what it never saw, no adapter could teach it.
    let seen = at("tokenizer-student.json");
    rooms.school(&["prune", text(&tokenizer)?, text(&seen)?, "--seed", seed])?;
    for (who, recipe, tokenizer) in [("student", STUDENT, &seen), ("teacher", TEACHER, &tokenizer)] {
        let (weights, training) = (
            at(&format!("{who}/weights.safetensors")),
            at(&format!("{who}/training.json")),
        );
        let plain = at(&format!("{who}-F32.gguf"));
        rooms.school(&[
            "export",
            recipe,
            text(&weights)?,
            text(tokenizer)?,
            text(&plain)?,
            "--type",
            "F32",
        ])?;
        rooms.school(&["check", text(&plain)?, text(&training)?])?;
        for kind in ["F16", "Q8_0", "Q6_K", "Q4_K"] {
            let file = at(&format!("{who}-{kind}.gguf"));
            rooms.school(&[
                "export",
                recipe,
                text(&weights)?,
                text(tokenizer)?,
                text(&file)?,
                "--type",
                kind,
                "--training",
                text(&training)?,
            ])?;
            rooms.told(
                &["eval", text(&file)?, "--persona", who, "--failures", "60"],
                &at(&format!("{who}-{kind}.txt")),
            )?;
        }
        rooms.told(
            &["read", text(&at(&format!("{who}-Q8_0.gguf")))?],
            &at(&format!("{who}-answers.md")),
        )?;
    }
    rooms.school(&["traces", text(&at("teacher-Q8_0.gguf"))?, text(&at("traces"))?])?;
    let (traces, taught) = (at("traces/desk-sharegpt.jsonl"), at("taught.safetensors"));
    rooms.python(
        "distill.py",
        &[
            STUDENT,
            text(&student)?,
            text(&traces)?,
            "--tokenizer",
            text(&seen)?,
            "--out",
            text(&taught)?,
        ],
    )?;
    let file = at("taught-Q8_0.gguf");
    rooms.school(&["export", STUDENT, text(&taught)?, text(&seen)?, text(&file)?])?;
    rooms.told(&["eval", text(&file)?, "--failures", "60"], &at("taught.txt"))
}

/// A few steps of training on a network of its own, and the file that comes of it: what the tests do.
pub fn few_steps(places: &Places) -> Result<()> {
    let rooms = Rooms::open(places, "dev")?;
    let recipe = "school/recipes/tiny.json";
    let work = places.target.join("school-steps");
    fs::create_dir_all(&work)?;
    let tokenizer = work.join("tokenizer.json");
    rooms.school(&["tokenizer", text(&tokenizer)?, "--vocab", "1024"])?;
    let more = [
        "--tokenizer",
        text(&tokenizer)?,
        "--fresh",
        "--steps",
        "40",
        "--batch",
        "2048",
        "--shard",
        "1200",
        "--no-compile",
        "--no-ruler",
        "--device",
        "cpu",
        "--report",
        "0",
    ];
    rooms.train(recipe, &work, "1", &more)?;
    let told: serde_json::Value = serde_json::from_slice(&fs::read(work.join("training.json"))?)?;
    let losses: Vec<f64> = told["loss"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| row[2].as_f64())
        .collect();
    let (Some(first), Some(last)) = (losses.first(), losses.last()) else {
        bail!("the trainer told no loss");
    };
    println!("loss {first} -> {last}");
    // From the logarithm of the vocabulary, 6.9, to where the commonest words are known.
    if !(*first > 6.0 && *last < 0.8 * first) {
        bail!("the loss did not fall as it should: {first} -> {last}");
    }
    let (weights, file) = (work.join("weights.safetensors"), work.join("crumb.gguf"));
    let (training, words) = (work.join("training.json"), text(&file)?);
    rooms.school(&[
        "export",
        recipe,
        text(&weights)?,
        text(&tokenizer)?,
        words,
        "--training",
        text(&training)?,
    ])?;
    // It opens in the runner, and in f32 computes there what it did in the trainer.
    rooms.school(&["eval", words, "--each", "0", "--failures", "0", "--loss", "20"])?;
    rooms.school(&[
        "export",
        recipe,
        text(&weights)?,
        text(&tokenizer)?,
        words,
        "--type",
        "F32",
    ])?;
    rooms.school(&["check", words, text(&training)?])
}
