//! `distill MODEL.gguf TRACES.jsonl OUT.gguf [options]`: teaches a student from teacher traces and writes the adapter. On the
//! CPU; on the GPU where it was built with `--features teach`.
//!
//! ```text
//! --requests FILE      the requests of a batch output
//! --steps 60           --batch 8          rows a step
//! --rate 0.003         --seed 1           --longest 512     tokens a row
//! --rank 16            --alpha 32         --layers N        only the last N
//! --modules a,b        of attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down
//! --ce 0.3             weight of the teacher's words beside its probabilities; 1 is words alone
//! --divergence fkl     or rkl, jsd:0.5, skew:0.1
//! --reasoning keep     or strip, or a number of characters
//! --hold-out 0.1       part of the rows that is only measured
//! --engine E           cpu or gpu
//! --teacher NAME       who wrote the traces, for the adapter's provenance
//! ```

mod common;

use common::{Arguments, Failure, Files, open_files};
use understudy::distill::lesson::{Desk, Lesson, Reasoning};
use understudy::distill::session::{Session, Settings, paired_interval};
use understudy::format::provenance::Provenance;
use understudy::student::Header;
use understudy::traces::{Importer, Options};

fn main() {
    common::run(|| {
        let known = [
            "requests",
            "steps",
            "batch",
            "rate",
            "seed",
            "longest",
            "rank",
            "alpha",
            "layers",
            "modules",
            "ce",
            "divergence",
            "reasoning",
            "hold-out",
            "teacher",
            "engine",
        ];
        let arguments = Arguments::parse(&known, &[])?;
        let [model, traces, out] = arguments.positional("MODEL.gguf TRACES.jsonl OUT.gguf")?;
        let source = open_files(model)?;
        let mut header = pollster::block_on(Header::read(&source, None, None))?;
        header.plan.settle_factors(header.plan.config.context);
        let longest = arguments
            .number("longest")?
            .unwrap_or(512)
            .min(header.plan.config.context);
        let mut desk = Desk::new(&header.tokenizer, &header.template, longest);
        desk.reasoning = reasoning(arguments.value("reasoning").unwrap_or("keep"))?;
        let lessons = lessons(&desk, traces, arguments.value("requests"))?;

        let default = Settings::default();
        let rank = arguments.number("rank")?.unwrap_or(default.rank);
        let (divergence, mix) = divergence(arguments.value("divergence").unwrap_or("fkl"))?;
        let settings = Settings {
            steps: arguments.number("steps")?.unwrap_or(default.steps),
            batch: arguments.number("batch")?.unwrap_or(default.batch),
            rate: arguments.number("rate")?.unwrap_or(default.rate),
            rank,
            alpha: arguments.number("alpha")?.unwrap_or(2.0 * rank as f32),
            layers: arguments.number("layers")?.unwrap_or(0),
            modules: arguments
                .value("modules")
                .map(|list| list.split(',').map(|m| m.trim().to_owned()).collect())
                .unwrap_or_default(),
            ce: arguments.number("ce")?.unwrap_or(default.ce),
            divergence,
            mix,
            hold_out: arguments.number("hold-out")?.unwrap_or(default.hold_out),
            seed: arguments.number("seed")?.unwrap_or(default.seed),
            ..default
        };
        let name = Provenance::from_metadata(&header.gguf.metadata).name;
        let mut session = pollster::block_on(session(&header, &source, lessons, settings, arguments.value("engine")))?;
        let (taught, apart) = session.rows();
        println!("{taught} rows to teach from, {apart} kept apart");
        let before = pollster::block_on(session.measure())?;
        let begun = std::time::Instant::now();
        let mut tokens = 0;
        while let Some(step) = pollster::block_on(session.advance())? {
            tokens += step.tokens;
            if step.step % 5 == 1 || step.step == step.steps {
                println!(
                    "step {:>4}  loss {:.4}  cross-entropy {:.4}  gradient {:.3}  {} of {} tokens trained",
                    step.step, step.loss, step.ce, step.gradient, step.trained, step.tokens
                );
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{tokens} tokens in {seconds:.1} s: {:.0} a second",
            tokens as f64 / seconds
        );
        let after = pollster::block_on(session.measure())?;
        if after.rows > 0 {
            println!(
                "held-out rows: cross-entropy {:.4} -> {:.4} nats per token, top token right {:.1} % -> {:.1} %",
                before.ce,
                after.ce,
                100.0 * before.top1,
                100.0 * after.top1
            );
        }
        if let Some((mean, low, high)) = paired_interval(&before.per_row, &after.per_row, 1) {
            let noise = if low <= 0.0 && high >= 0.0 {
                ": within noise"
            } else {
                ""
            };
            println!("change per row {mean:+.4}, 95 % of redraws from {low:+.4} to {high:+.4}{noise}");
        }
        let taught = format!("{} taught", name.as_deref().unwrap_or("A student"));
        let adapter = pollster::block_on(session.adapter(&taught, name.as_deref(), arguments.value("teacher")))?;
        let bytes = adapter.to_gguf();
        std::fs::write(out, &bytes)?;
        println!("{out}: {} matrices, {} bytes", adapter.pairs.len(), bytes.len());
        Ok(())
    });
}

#[cfg(not(feature = "teach"))]
async fn session(
    header: &Header,
    source: &Files,
    lessons: Vec<Lesson>,
    settings: Settings,
    engine: Option<&str>,
) -> Result<Session, Failure> {
    match engine.unwrap_or("cpu") {
        "cpu" => Ok(Session::new(header.plan.clone(), source, lessons, settings).await?),
        "gpu" => Err("training on the GPU is in builds with --features teach".into()),
        _ => Err("--engine takes cpu or gpu".into()),
    }
}

#[cfg(feature = "teach")]
async fn session(
    header: &Header,
    source: &Files,
    lessons: Vec<Lesson>,
    settings: Settings,
    engine: Option<&str>,
) -> Result<Session, Failure> {
    use understudy::distill::gpu::GpuTrainer;
    use understudy::distill::room::Needs;
    use understudy::distill::session::Sorted;
    use understudy::distill::student::share;
    use understudy::distill::trainer::Trainer;
    use understudy::gpu::training::Room;
    use understudy::gpu::{Gpu, GpuOptions};
    let plan = header.plan.clone();
    match engine.unwrap_or("gpu") {
        "cpu" => Ok(Session::new(plan, source, lessons, settings).await?),
        "gpu" => {
            let options = GpuOptions {
                subgroups: true,
                all_features: true,
                ..GpuOptions::default()
            };
            let gpu = Gpu::meet(&options).await?;
            let sorted = Sorted::new(lessons, settings.hold_out)?;
            let needs = Needs::new(&plan, &settings, &sorted, gpu.available_bytes());
            needs.check()?;
            println!("{}. {}", gpu.words(), needs.words());
            let room = Room {
                rows: needs.tokens,
                named: sorted.named(),
            };
            let (shape, device, longest) = (settings.shape(), share(&gpu)?, sorted.longest());
            let made = GpuTrainer::new(
                &gpu,
                &device,
                plan,
                source,
                longest,
                &shape,
                settings.seed,
                room,
                |_| Ok(()),
            );
            Ok(Session::with(Trainer::Gpu(Box::new(made.await?)), sorted, settings)?)
        }
        _ => Err("--engine takes cpu or gpu".into()),
    }
}

fn lessons(desk: &Desk, traces: &str, requests: Option<&str>) -> Result<Vec<Lesson>, Failure> {
    let mut importer = Importer::new(Options::default());
    let mut rows = Vec::new();
    for path in requests.into_iter().chain([traces]) {
        rows.extend(importer.push(&std::fs::read(path)?)?);
        rows.extend(importer.end_file()?);
    }
    let report = importer.finish();
    for sentence in report.sentences() {
        println!("{sentence}");
    }
    let (mut lessons, mut tally) = (Vec::new(), understudy::traces::align::Tally::default());
    for row in &rows {
        match desk.lesson(row)? {
            Ok(lesson) => {
                tally.add(&lesson.tally);
                lessons.push(lesson);
            }
            Err(unfit) => println!("line {}: {}", row.line, unfit.sentence()),
        }
    }
    let trained: usize = lessons.iter().map(Lesson::trained).sum();
    let tokens: usize = lessons.iter().map(|l| l.tokens.len()).sum();
    println!(
        "{} lessons, {tokens} tokens, {trained} of them trained, {} with probabilities",
        lessons.len(),
        tally.soft
    );
    Ok(lessons)
}

/// The divergence's name in the settings, and its number.
fn divergence(text: &str) -> Result<(String, f32), Failure> {
    let number = |text: &str| {
        text.parse::<f32>()
            .map_err(|_| Failure::from(format!("'{text}' is not a number")))
    };
    Ok(match text.split_once(':') {
        None if text == "fkl" => ("forward-kl".into(), 0.5),
        None if text == "rkl" => ("reverse-kl".into(), 0.5),
        Some(("jsd", beta)) => ("jsd".into(), number(beta)?),
        Some(("skew", lambda)) => ("skew-kl".into(), number(lambda)?),
        _ => return Err(Failure::from("--divergence takes fkl, rkl, jsd:BETA or skew:LAMBDA")),
    })
}

fn reasoning(text: &str) -> Result<Reasoning, Failure> {
    Ok(match text {
        "keep" => Reasoning::Keep,
        "strip" => Reasoning::Strip,
        number => Reasoning::Shorten(
            number
                .parse()
                .map_err(|_| Failure::from("--reasoning takes keep, strip or a number of characters"))?,
        ),
    })
}
