//! `tokenize MODEL.gguf STRINGS.json [--special] [--bos]`: prints a JSON array of id arrays, one for each string. Special
//! tokens in the text are parsed only with `--special`; `--bos` adds what the tokenizer adds around a text.

mod common;

use common::{Arguments, FileSource};
use understudy::format::source::Source;
use understudy::format::{Gguf, Parsed};
use understudy::text::tokenizer::Tokenizer;

fn main() {
    common::run(|| {
        let arguments = Arguments::parse(&[], &["special", "bos"])?;
        let [model, strings] = arguments.positional("MODEL.gguf STRINGS.json")?;
        let source = FileSource::open(model)?;
        let mut length = source.size().min(1 << 20);
        let gguf = loop {
            let prefix = pollster::block_on(source.read_exact(0, length as usize))?;
            match Gguf::parse(&prefix, source.size())? {
                Parsed::Done(gguf) => break gguf,
                Parsed::NeedMore(n) => length = n,
            }
        };
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
