//! `inspect FILE.gguf [--tensors]`: what a file says of itself, its plan, and what it will take.

mod common;

use common::{Arguments, open_files};
use understudy::error::human_bytes;
use understudy::format::{Array, Gguf, Value};
use understudy::gpu::carried::COPIES;
use understudy::model::memory::{Fit, Held};
use understudy::model::{CacheType, Plan};
use understudy::student::{DEFAULT_CONTEXT, block_types};
use understudy::text::template::Template;
use understudy::text::tokenizer::Tokenizer;

/// A value in a line; long ones are cut.
fn show(value: &Value) -> String {
    let text = match value {
        Value::String(text) => format!("{text:?}"),
        Value::Array(Array::String(items)) => format!("{} strings, first {:?}", items.len(), items.first()),
        other => format!("{other:?}"),
    };
    if text.chars().count() > 100 {
        text.chars().take(100).chain("...".chars()).collect()
    } else {
        text
    }
}

fn main() {
    common::run(|| {
        let arguments = Arguments::parse(&[], &["tensors"])?;
        let [path] = arguments.positional("FILE.gguf")?;
        let source = open_files(path)?;
        let gguf = pollster::block_on(Gguf::read(&source))?;
        println!(
            "GGUF version {}, {}, {} tensors",
            gguf.version,
            human_bytes(gguf.size),
            gguf.tensors.len()
        );
        for (key, value) in gguf.metadata.iter() {
            println!("  {key} = {}", show(value));
        }
        for (name, weights) in block_types(&gguf) {
            println!("{weights} weights in {name}");
        }
        if arguments.flag("tensors") {
            for tensor in &gguf.tensors {
                println!("  {} {:?} {:?}", tensor.name, tensor.shape, tensor.block_type);
            }
        }
        match Tokenizer::from_metadata(&gguf.metadata) {
            Ok(tokenizer) => {
                for warning in tokenizer.warnings() {
                    println!("{warning}");
                }
                if let Err(error) = Template::from_metadata(&gguf.metadata, &tokenizer).check() {
                    println!("{error}");
                }
            }
            Err(error) => println!("{error}"),
        }
        // A file that this program cannot run is still inspected: its error comes last.
        let plan = Plan::new(&gguf)?;
        println!(
            "{} parameters; {} steps a token",
            plan.parameters(),
            plan.body.len() + plan.head.len()
        );
        for held in Held::of(&plan) {
            println!("{}", held.words());
        }
        let context = plan.config.context.min(DEFAULT_CONTEXT);
        println!(
            "{}",
            Fit::new(&plan, context, 256, CacheType::F32, COPIES, u64::MAX)
                .words()
                .replace("16777216 TiB", "any amount")
        );
        Ok(())
    });
}
