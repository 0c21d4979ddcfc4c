//! `logits MODEL.gguf TOKENS.json OUT.f32 [--adapter A.gguf --scale S] [--engine gpu|cpu] [--decode]`: logits after each token, `(tokens, vocab)`
//! row-major little-endian f32; no token is added in front. TOKENS.json is an array of ids.

mod common;

use common::{Arguments, Failure, open};
use understudy::format::adapter::Adapter;

fn main() {
    common::run(|| {
        let arguments = Arguments::parse(&["engine", "context", "adapter", "scale"], &["decode"])?;
        let [model, tokens, out] = arguments.positional("MODEL.gguf TOKENS.json OUT.f32")?;
        let ids: Vec<u32> = serde_json::from_slice(&std::fs::read(tokens)?)?;
        let mut student = open(model, arguments.value("engine"), Some(ids.len().max(1)))?;
        if let Some(path) = arguments.value("adapter") {
            let scale = arguments.value("scale").unwrap_or("1");
            let scale = scale
                .parse()
                .map_err(|_| Failure::from(format!("--scale takes a number, not '{scale}'")))?;
            let adapter = Adapter::from_gguf(&std::fs::read(path)?)?;
            pollster::block_on(student.attach(adapter, scale))?;
        }
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
