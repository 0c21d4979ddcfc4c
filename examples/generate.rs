//! `generate MODEL.gguf PROMPT [--max-tokens N] [--greedy] [--engine gpu|cpu] [--raw] [--seed N] [--temperature T]`:
//! answers a prompt as a chat message, or goes on with it as it is (`--raw`), and prints the text as it comes.

mod common;

use common::{Arguments, open};
use std::io::Write;
use std::time::Instant;
use understudy::model::Sampling;
use understudy::student::{Event, Prompt, Request};
use understudy::text::template::Message;

fn main() {
    common::run(|| {
        let arguments = Arguments::parse(
            &[
                "max-tokens",
                "engine",
                "seed",
                "temperature",
                "top-k",
                "top-p",
                "typical-p",
                "min-p",
                "context",
            ],
            &["greedy", "raw"],
        )?;
        let [model, prompt] = arguments.positional("MODEL.gguf PROMPT")?;
        let mut student = open(model, arguments.value("engine"), arguments.number("context")?)?;
        let default = Sampling::default();
        let sampling = if arguments.flag("greedy") {
            Sampling::GREEDY
        } else {
            Sampling {
                temperature: arguments.number("temperature")?.unwrap_or(default.temperature),
                top_k: arguments.number("top-k")?.unwrap_or(default.top_k),
                top_p: arguments.number("top-p")?.unwrap_or(default.top_p),
                typical_p: arguments.number("typical-p")?.unwrap_or(default.typical_p),
                min_p: arguments.number("min-p")?.unwrap_or(default.min_p),
                seed: arguments.number("seed")?.unwrap_or(default.seed),
            }
        };
        let prompt = if arguments.flag("raw") {
            Prompt::Text(prompt.into())
        } else {
            Prompt::Messages(vec![Message {
                role: "user".into(),
                content: prompt.into(),
                reasoning_content: None,
            }])
        };
        let request = Request {
            prompt,
            sampling,
            max_tokens: Some(arguments.number("max-tokens")?.unwrap_or(256)),
            ..Request::chat(Vec::new())
        };
        let mut started = Instant::now();
        let answer = pollster::block_on(student.generate(&request, |event| {
            match event {
                Event::Prompt(..) | Event::Token(..) | Event::Call(_) => {}
                Event::Text {
                    content,
                    reasoning,
                    tokens,
                } => {
                    if tokens == 1 {
                        started = Instant::now();
                    }
                    print!("{reasoning}{content}");
                    // A closed pipe ends the printing, not the program.
                    let _ = std::io::stdout().flush();
                }
            }
            false
        }))?;
        println!();
        let seconds = started.elapsed().as_secs_f64();
        let decoded = answer.ids.len().saturating_sub(1);
        eprintln!(
            "{} prompt tokens, {} answered ({}), {:.1} tokens/s",
            answer.prompt_tokens,
            answer.ids.len(),
            answer.finish_name(),
            decoded as f64 / seconds.max(1e-9)
        );
        Ok(())
    });
}
