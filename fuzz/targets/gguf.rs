//! Any bytes as a GGUF file: its header, its plan, its tokenizer and its template.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::format::Gguf;
use understudy::model::Plan;
use understudy::text::template::Template;
use understudy::text::tokenizer::Tokenizer;

fuzz_target!(|bytes: &[u8]| {
    // A prefix is read as the file is: in growing pieces.
    let _ = Gguf::parse(&bytes[..bytes.len() / 2], bytes.len() as u64);
    let Ok(gguf) = Gguf::from_bytes(bytes) else { return };
    let _ = Plan::new(&gguf);
    if let Ok(tokenizer) = Tokenizer::from_metadata(&gguf.metadata) {
        let _ = tokenizer.encode("Hello, world", true, true);
        let _ = Template::from_metadata(&gguf.metadata, &tokenizer).behind_an_answer();
    }
});
