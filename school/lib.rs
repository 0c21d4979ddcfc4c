//! The school: how the student that comes with the page, its teacher and its traces are made.
//!
//! [`corpus`] writes the text, [`tokenizer`] cuts it, [`pack`] makes rows of it for `train/` (Python) to learn from,
//! [`export`] quantizes and writes the GGUF file, [`eval`] marks it with the runner itself, [`traces`] lets the teacher
//! answer. Everything is made again from a seed; nothing is downloaded but the trainer's libraries.

pub mod corpus;
pub mod eval;
pub mod export;
pub mod pack;
pub mod tokenizer;
pub mod traces;
