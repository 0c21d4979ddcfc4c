//! Strings to tokens and back: the tokenizer and the chat template that a file brings, the stream of an
//! answer, and the form that it is held to.

pub mod breakers;
mod date;
pub mod grammar;
mod jinja;
pub mod stream;
pub mod template;
pub mod tokenizer;
pub mod tool_calls;
pub mod tools;
