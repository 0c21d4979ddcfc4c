//! `bench [--json FILE] [--write FOLDER] [--only answers|forms|training|memory]`: what decoding, prefill and loading cost on this machine, on the GPU and on the CPU
//! engine, for a small trained model of the kit, the bundled student, and random students of SmolLM2-135M's shape.
//! `--write` only writes the random students into a folder, for the bench in the browser. Built with `--features teach` it
//! measures training too, beside prefill of the same length; `--only memory` measures what a step of a student of Qwen2.5-0.5B's
//! shape takes (minutes on a software adapter). Rows are said on stderr as they come.

mod common;

use common::{Arguments, Failure, FileSource};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;
use understudy::format::BlockType;
use understudy::format::source::Source;
use understudy::gpu::{Gpu, GpuOptions};
use understudy::model::Sampling;
use understudy::model::random::random_student;
use understudy::student::{Engine, Header, Student};
use understudy::text::grammar::{Constraint, Format, Vocabulary};

/// Tokens of the prompt, and tokens decoded behind it.
const PROMPT: usize = 128;
const DECODED: usize = 32;

/// The random students: SmolLM2-135M's shape in two block types.
fn write_random(folder: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    std::fs::create_dir_all(folder)?;
    let mut written = Vec::new();
    for block_type in [BlockType::Q4_0, BlockType::Q8_0] {
        let path = folder.join(format!("random-135M-{}.gguf", block_type.name()));
        if !path.exists() {
            std::fs::write(&path, random_student(576, 1536, 30, 9, 3, 49_152, block_type))?;
        }
        written.push((format!("random 135M {}", block_type.name()), path));
    }
    Ok(written)
}

fn measure(name: &str, runner: &str, path: &Path, gpu: Option<&Gpu>) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    let mut row = |measure: &str, unit: &str, value: f64| {
        rows.push(json!({ "runner": runner, "student": name, "measure": measure, "unit": unit, "value": value }));
    };
    let source = FileSource::open(&path.to_string_lossy())?;
    let started = Instant::now();
    let mut student = pollster::block_on(Student::open(&source, gpu, Some(512), |_, _| Ok(())))?;
    row(
        "load",
        "MB/s",
        source.size() as f64 / 1e6 / started.elapsed().as_secs_f64(),
    );
    let vocabulary = student.plan().config.vocabulary as u32;
    let ids: Vec<u32> = (0..PROMPT as u32).map(|i| (i * 7 + 3) % vocabulary.min(400)).collect();
    let layers = student.plan().config.layers;
    match student.engine() {
        Engine::Gpu(engine) => pollster::block_on(async {
            // Once to compile what the driver compiles late, once to measure.
            let mut seconds = f64::INFINITY;
            for _ in 0..2 {
                let started = Instant::now();
                engine.prefill(&ids, 0, Sampling::GREEDY, 0, |_| Ok(())).await?;
                seconds = seconds.min(started.elapsed().as_secs_f64());
            }
            row("prefill", "tokens/s", PROMPT as f64 / seconds);
            engine.decode(1).await?;
            let before = engine.gpu().counts();
            let started = Instant::now();
            for i in 0..DECODED {
                engine.decode(DECODED - i).await?;
            }
            row("decode", "tokens/s", DECODED as f64 / started.elapsed().as_secs_f64());
            let used = engine.gpu().counts() - before;
            let each = |n: u64| n as f64 / DECODED as f64;
            row("dispatches a token", "count", each(used.dispatches));
            row(
                "dispatches a layer",
                "count",
                (each(used.dispatches) - 3.0) / layers as f64,
            );
            row("submissions a token", "count", each(used.submissions));
            row("bind groups a token", "count", each(used.bind_groups));
            row("buffers a token", "count", each(used.buffers));
            engine.settle().await?;
            Ok::<(), Failure>(())
        })?,
        Engine::Cpu(engine) => {
            engine.begin(0, Sampling::GREEDY, 0);
            let started = Instant::now();
            for (i, chunk) in ids.chunks(understudy::cpu::engine::CHUNK).enumerate() {
                engine.extend(chunk, (i + 1) * understudy::cpu::engine::CHUNK >= PROMPT);
            }
            row("prefill", "tokens/s", PROMPT as f64 / started.elapsed().as_secs_f64());
            let started = Instant::now();
            for _ in 0..DECODED {
                engine.decode();
            }
            row("decode", "tokens/s", DECODED as f64 / started.elapsed().as_secs_f64());
        }
    }
    Ok(rows)
}

/// What a form costs beside a token: the mask of the tokens that may come, and taking the one that came.
fn form(name: &str, path: &Path) -> Result<Vec<Value>, Failure> {
    let source = FileSource::open(&path.to_string_lossy())?;
    let header = pollster::block_on(Header::read(&source, None, None))?;
    let started = Instant::now();
    let vocabulary = Vocabulary::new(&header.tokenizer, header.plan.config.vocabulary)?;
    let ready = started.elapsed().as_secs_f64();
    let schema = json!({ "type": "object", "required": ["name", "age", "tags"], "additionalProperties": false, "properties": {
        "name": { "type": "string" },
        "age": { "type": "integer", "minimum": 0, "maximum": 150 },
        "tags": { "type": "array", "items": { "enum": ["red", "green", "blue"] } },
    }});
    let answer = r#"{"name": "Nora of the long shore", "age": 31, "tags": ["green", "blue", "green"]}"#;
    let ids = header.tokenizer.encode(answer, false, false)?;
    let started = Instant::now();
    let turns = 50;
    for _ in 0..turns {
        let mut constraint = Constraint::new(&vocabulary, &Format::JsonSchema(schema.clone()))?;
        for id in &ids {
            constraint.mask()?;
            constraint.advance(*id)?;
        }
    }
    let each = started.elapsed().as_secs_f64() / (turns * ids.len()) as f64;
    let row = |measure: &str, unit: &str, value: f64| json!({ "runner": "native CPU", "student": name, "measure": measure, "unit": unit, "value": value });
    Ok(vec![
        row("vocabulary for forms", "ms", 1e3 * ready),
        row("mask of a form", "us/token", 1e6 * each),
    ])
}

/// Training beside prefill.
#[cfg(feature = "teach")]
mod teach {
    use super::*;
    use understudy::cpu::adamw::AdamW;
    use understudy::cpu::loss::Teacher;
    use understudy::cpu::trainer::Example;
    use understudy::distill::Objective;
    use understudy::distill::gpu::GpuTrainer;
    use understudy::distill::session::Settings;
    use understudy::distill::student::{reserved, share};
    use understudy::gpu::training::Room;

    /// A device, and the bytes of its buffers that are ours and Burn's.
    struct Desk {
        gpu: Gpu,
        trainer: GpuTrainer,
        device: burn::tensor::Device,
        tokens: Vec<u32>,
    }

    impl Desk {
        fn open(path: &Path, length: usize) -> Result<Self, Failure> {
            let gpu = pollster::block_on(Gpu::meet(&GpuOptions {
                subgroups: true,
                all_features: true,
                ..GpuOptions::default()
            }))?;
            let source = FileSource::open(&path.to_string_lossy())?;
            let header = pollster::block_on(Header::read(&source, None, None))?;
            let (device, shape) = (share(&gpu)?, Settings::default().shape());
            let room = Room {
                rows: length,
                named: 20,
            };
            let made = GpuTrainer::new(&gpu, &device, header.plan, &source, length, &shape, 1, room, |_| Ok(()));
            Ok(Self {
                trainer: pollster::block_on(made)?,
                tokens: (0..length as u32).map(|i| (i * 7 + 3) % 400).collect(),
                gpu,
                device,
            })
        }

        /// One row, every second token trained; seconds of the forward pass with the loss, and of a whole step.
        fn step(&mut self) -> Result<(f64, f64), Failure> {
            let targets: Vec<Option<u32>> = (1..=self.tokens.len())
                .map(|t| self.tokens.get(t).copied().filter(|_| t % 2 == 0))
                .collect();
            let teachers = vec![Teacher::Text; self.tokens.len()];
            let example = Example {
                tokens: &self.tokens,
                targets: &targets,
                teachers: &teachers,
            };
            let objective = Objective::default();
            let adam = AdamW {
                rate: 1e-4,
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                decay: 0.0,
                clip: Some(1.0),
            };
            let started = Instant::now();
            pollster::block_on(self.trainer.measure(&[example], &objective))?;
            let forward = started.elapsed().as_secs_f64();
            let started = Instant::now();
            self.trainer.zero();
            pollster::block_on(self.trainer.accumulate(&[example], &objective, 0.01))?;
            pollster::block_on(self.trainer.step(&adam))?;
            Ok((forward, started.elapsed().as_secs_f64()))
        }

        fn bytes(&self) -> f64 {
            self.gpu.counts().bytes as f64 + reserved(&self.device) as f64
        }
    }

    /// Tokens a second of prefill, of the forward pass and of whole steps, over `length` tokens.
    pub fn measure(name: &str, path: &Path, length: usize, steps: usize) -> Result<Vec<Value>, Failure> {
        let mut desk = Desk::open(path, length)?;
        let source = FileSource::open(&path.to_string_lossy())?;
        let mut student = pollster::block_on(Student::open(&source, Some(&desk.gpu), Some(512), |_, _| Ok(())))?;
        let Engine::Gpu(engine) = student.engine() else {
            return Err("the student was not opened on the device".into());
        };
        let (mut prefill, mut forward, mut step) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
        for _ in 0..=steps {
            let started = Instant::now();
            pollster::block_on(engine.prefill(&desk.tokens, 0, Sampling::GREEDY, 0, |_| Ok(())))?;
            prefill = prefill.min(started.elapsed().as_secs_f64());
            let (f, s) = desk.step()?;
            (forward, step) = (forward.min(f), step.min(s));
        }
        let row = |measure: &str, unit: &str, value: f64| json!({ "runner": "native GPU", "student": name, "measure": measure, "unit": unit, "value": value });
        let rate = |seconds: f64| length as f64 / seconds;
        Ok(vec![
            row("prefill of 256", "tokens/s", rate(prefill)),
            row("training, forward and loss", "tokens/s", rate(forward)),
            row("training, whole step", "tokens/s", rate(step)),
            row("training beside prefill", "ratio", prefill / step),
        ])
    }

    /// Bytes on the device in a step of 512 tokens at rank 16.
    pub fn memory() -> Result<Vec<Value>, Failure> {
        let path = std::env::temp_dir().join("understudy-bench/random-0.5B-Q4_0.gguf");
        if !path.exists() {
            std::fs::write(&path, random_student(896, 4864, 24, 14, 2, 151_936, BlockType::Q4_0))?;
        }
        let mut desk = Desk::open(&path, 512)?;
        let (_, seconds) = desk.step()?;
        let row = |measure: &str, unit: &str, value: f64| json!({ "runner": "native GPU", "student": "random 0.5B Q4_0", "measure": measure, "unit": unit, "value": value });
        Ok(vec![
            row("training of 512, memory", "bytes", desk.bytes()),
            row("training of 512", "tokens/s", 512.0 / seconds),
        ])
    }
}

/// Rows that were measured; each is said at once, since the last may be minutes away.
#[derive(Default)]
struct Rows(Vec<Value>);

impl Rows {
    fn extend(&mut self, rows: Vec<Value>) {
        for row in rows {
            eprintln!(
                "{:<12} {:<20} {:<28} {:>12.3} {}",
                row["runner"].as_str().unwrap_or_default(),
                row["student"].as_str().unwrap_or_default(),
                row["measure"].as_str().unwrap_or_default(),
                row["value"].as_f64().unwrap_or_default(),
                row["unit"].as_str().unwrap_or_default(),
            );
            self.0.push(row);
        }
    }
}

/// Decoding, prefill and loading: the kit's small student, the bundled one, and the random ones in `random`.
fn answers(random: &[(String, PathBuf)], rows: &mut Rows) -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kit = std::env::var_os("UNDERSTUDY_KIT").map_or(root.join("../shared/kit"), PathBuf::from);
    let mut students = vec![("bundled".to_string(), root.join("school/models/understudy-pip.gguf"))];
    let stories = kit.join("models/stories260K-ffn192-Q8_0.gguf");
    if stories.exists() {
        students.insert(0, ("stories260K Q8_0".into(), stories));
    } else {
        eprintln!("the kit is absent: stories260K is not measured");
    }
    students.extend_from_slice(random);
    let gpu = pollster::block_on(Gpu::meet(&GpuOptions {
        subgroups: true,
        ..GpuOptions::default()
    }));
    match &gpu {
        Ok(gpu) => eprintln!("{}", gpu.words()),
        Err(error) => eprintln!("{error} Only the CPU engine is measured."),
    }
    for (name, path) in &students {
        if let Ok(gpu) = &gpu {
            rows.extend(measure(name, "native GPU", path, Some(gpu))?);
        }
        rows.extend(measure(name, "native CPU", path, None)?);
    }
    Ok(())
}

fn main() {
    common::run(|| {
        let arguments = Arguments::parse(&["json", "write", "only"], &[])?;
        if let Some(folder) = arguments.value("write") {
            write_random(Path::new(folder))?;
            return Ok(());
        }
        let only = arguments.value("only");
        let random = write_random(&std::env::temp_dir().join("understudy-bench"))?;
        let mut rows = Rows::default();
        if only.is_none_or(|part| part == "answers") {
            answers(&random, &mut rows)?;
        }
        if only.is_none_or(|part| part == "forms") {
            let pip = Path::new(env!("CARGO_MANIFEST_DIR")).join("school/models/understudy-pip.gguf");
            rows.extend(form("bundled", &pip)?);
        }
        #[cfg(feature = "teach")]
        {
            if only.is_none_or(|part| part == "training") {
                rows.extend(teach::measure(&random[0].0, &random[0].1, 256, 2)?);
            }
            if only == Some("memory") {
                rows.extend(teach::memory()?);
            }
        }
        let text = serde_json::to_string_pretty(&rows.0)?;
        match arguments.value("json") {
            Some(file) => std::fs::write(file, text)?,
            None => println!("{text}"),
        }
        Ok(())
    });
}
