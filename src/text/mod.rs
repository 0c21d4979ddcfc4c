//! Strings to tokens and back: the tokenizer and the chat template that a file brings, and the stream of an answer.

mod date;
mod jinja;
pub mod stream;
pub mod template;
pub mod tokenizer;
pub mod tool_calls;
