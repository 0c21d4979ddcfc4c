//! `bench [--json FILE] [--write FOLDER]`: what decoding, prefill and loading cost on this machine, on the GPU and on the CPU
//! engine, for a small trained model of the kit, the bundled student, and random students of SmolLM2-135M's shape.
//! `--write` only writes the random students into a folder, for the bench in the browser.

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
use understudy::student::{Engine, Student};

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

fn main() {
    common::run(|| {
        let arguments = Arguments::parse(&["json", "write"], &[])?;
        if let Some(folder) = arguments.value("write") {
            write_random(Path::new(folder))?;
            return Ok(());
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let kit = std::env::var_os("UNDERSTUDY_KIT").map_or(root.join("../shared/kit"), PathBuf::from);
        let mut students = vec![("bundled".to_string(), root.join("school/models/understudy-pip.gguf"))];
        let stories = kit.join("models/stories260K-ffn192-Q8_0.gguf");
        if stories.exists() {
            students.insert(0, ("stories260K Q8_0".into(), stories));
        } else {
            eprintln!("the kit is absent: stories260K is not measured");
        }
        students.extend(write_random(&std::env::temp_dir().join("understudy-bench"))?);
        let gpu = pollster::block_on(Gpu::meet(&GpuOptions {
            subgroups: true,
            ..GpuOptions::default()
        }));
        match &gpu {
            Ok(gpu) => eprintln!("{}", gpu.words()),
            Err(error) => eprintln!("{error} Only the CPU engine is measured."),
        }
        let mut rows = Vec::new();
        for (name, path) in &students {
            if let Ok(gpu) = &gpu {
                rows.extend(measure(name, "native GPU", path, Some(gpu))?);
            }
            rows.extend(measure(name, "native CPU", path, None)?);
        }
        let text = serde_json::to_string_pretty(&rows)?;
        match arguments.value("json") {
            Some(file) => std::fs::write(file, text)?,
            None => println!("{text}"),
        }
        Ok(())
    });
}
