//! `template TEMPLATE MESSAGES.json [--no-generation-prompt] [--bos TEXT] [--eos TEXT] [--thinking on|off]`: prints the
//! prompt that a chat template makes of messages. TEMPLATE is a Jinja file, or a GGUF file whose own template is used.

mod common;

use common::{Arguments, open_files};
use understudy::format::source::Source;
use understudy::student::Header;
use understudy::text::template::{Message, RenderOptions, Template};

fn main() {
    common::run(|| {
        let arguments = Arguments::parse(&["bos", "eos", "thinking"], &["no-generation-prompt"])?;
        let [template, messages] = arguments.positional("TEMPLATE MESSAGES.json")?;
        let messages: Vec<Message> = serde_json::from_slice(&std::fs::read(messages)?)?;
        let source = open_files(template)?;
        let start = pollster::block_on(source.read(0, 4))?;
        let template = if start == b"GGUF" {
            pollster::block_on(Header::read(&source, None, None))?.template
        } else {
            let text = std::fs::read_to_string(template)?;
            let or_empty = |name| arguments.value(name).unwrap_or_default();
            Template::from_source(&text, or_empty("bos"), or_empty("eos"))
        };
        let options = RenderOptions {
            add_generation_prompt: !arguments.flag("no-generation-prompt"),
            enable_thinking: arguments.value("thinking").map(|v| v == "on"),
            ..RenderOptions::default()
        };
        print!("{}", template.render(&messages, &options)?);
        Ok(())
    });
}
