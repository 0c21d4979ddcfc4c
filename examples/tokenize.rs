//! `tokenize MODEL.gguf STRINGS.json [--special] [--bos]`: prints a JSON array of id arrays, one for each string. Special
//! tokens in the text are parsed only with `--special`; `--bos` adds what the tokenizer adds around a text.

mod common;

use common::{Arguments, open_files};
use understudy::format::Gguf;
use understudy::text::tokenizer::Tokenizer;

fn main() {
    common::run(|| {
        let arguments = Arguments::parse(&[], &["special", "bos"])?;
        let [model, strings] = arguments.positional("MODEL.gguf STRINGS.json")?;
        let source = open_files(model)?;
        let gguf = pollster::block_on(Gguf::read(&source))?;
        let tokenizer = Tokenizer::from_metadata(&gguf.metadata)?;
        for warning in tokenizer.warnings() {
            eprintln!("{warning}");
        }
        let strings: Vec<String> = serde_json::from_slice(&std::fs::read(strings)?)?;
        let (bos, special) = (arguments.flag("bos"), arguments.flag("special"));
        let ids = strings
            .iter()
            .map(|s| tokenizer.encode(s, bos, special))
            .collect::<Result<Vec<_>, _>>()?;
        println!("{}", serde_json::to_string(&ids)?);
        Ok(())
    });
}
