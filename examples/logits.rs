//! `logits MODEL.gguf TOKENS.json OUT.f32 [--engine gpu|cpu] [--decode]`: logits after each token, `(tokens, vocab)`
//! row-major little-endian f32; no token is added in front. TOKENS.json is an array of ids.

mod common;

use common::{Arguments, Failure, open};

fn main() {
    common::run(|| {
        let arguments = Arguments::parse(&["engine", "context", "adapter", "scale"], &["decode"])?;
        let [model, tokens, out] = arguments.positional("MODEL.gguf TOKENS.json OUT.f32")?;
        if arguments.value("adapter").is_some() {
            return Err(Failure::from("adapters are not read yet: run without --adapter"));
        }
        let ids: Vec<u32> = serde_json::from_slice(&std::fs::read(tokens)?)?;
        let mut student = open(model, arguments.value("engine"), Some(ids.len().max(1)))?;
        let logits = pollster::block_on(async {
            if arguments.flag("decode") {
                student.logits_by_decode(&ids).await
            } else {
                student.logits(&ids).await
            }
        })?;
        std::fs::write(out, bytemuck::cast_slice(&logits))?;
        Ok(())
    });
}
