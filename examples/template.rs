//! `template TEMPLATE MESSAGES.json [--no-generation-prompt] [--bos TEXT] [--eos TEXT] [--thinking on|off]
//! [--tools TOOLS.json] [--names NAMES.json] [--date 2026-11-24]`: prints the prompt that a chat template makes of messages.
//! TEMPLATE is a Jinja file, or a GGUF file whose own template is used; `--general` takes the general one that fits its
//! vocabulary. NAMES is an object of what else the template asks for.

mod common;

use common::{Arguments, open_files};
use understudy::format::source::Source;
use understudy::student::Header;
use understudy::text::template::{RenderOptions, Template};

fn main() {
    common::run(|| {
        let arguments = Arguments::parse(
            &["bos", "eos", "thinking", "tools", "names", "date"],
            &["no-generation-prompt", "general"],
        )?;
        let [template, messages] = arguments.positional("TEMPLATE MESSAGES.json")?;
        let messages: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(messages)?)?;
        let source = open_files(template)?;
        let start = pollster::block_on(source.read(0, 4))?;
        let template = if start == b"GGUF" {
            let header = pollster::block_on(Header::read(&source, None, None))?;
            for warning in &header.warnings {
                eprintln!("{warning}");
            }
            if arguments.flag("general") {
                Template::general(&header.tokenizer)
            } else {
                header.template
            }
        } else {
            let text = std::fs::read_to_string(template)?;
            let or_empty = |name| arguments.value(name).unwrap_or_default();
            Template::from_source(&text, or_empty("bos"), or_empty("eos"))
        };
        let options = RenderOptions {
            add_generation_prompt: !arguments.flag("no-generation-prompt"),
            enable_thinking: arguments.value("thinking").map(|v| v == "on"),
            tools: match arguments.value("tools") {
                Some(path) => Some(serde_json::from_slice(&std::fs::read(path)?)?),
                None => None,
            },
            names: match arguments.value("names") {
                Some(path) => serde_json::from_slice(&std::fs::read(path)?)?,
                None => serde_json::Map::new(),
            },
            date: arguments.value("date").map(Into::into),
        };
        print!("{}", template.render_json(&messages, &options)?);
        Ok(())
    });
}
