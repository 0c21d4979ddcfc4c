//! # Understudy
//!
//! A small *student* language model that lives in a web page: a quantized GGUF file is streamed to the GPU, a static plan
//! decodes it with WebGPU compute shaders, and nothing that is typed or generated leaves the machine.
//!
//! ## One token, from file to screen
//!
//! 1. A [`format::source::Source`] gives ranges of the file. [`format::Gguf`] turns its head into metadata and a list of
//!    tensors, believing no number before it is checked.
//! 2. [`model::Config`] is the student's shape; [`model::Plan`] is one token as a list of steps: data, not code.
//! 3. [`student::Student::open`] streams the tensors slice by slice through [`format::repack`] into GPU buffers
//!    ([`gpu::weights`]), and [`gpu::Engine`] makes every buffer, bind group and pipeline of the plan, once.
//! 4. [`text::template`] writes a chat out as a prompt, [`text::tokenizer`] turns it into ids.
//! 5. Prefill runs the prompt in chunks; then each token is one submission of prepared dispatches, the last of which
//!    draws the next token on the GPU. Four bytes come back.
//! 6. [`text::stream`] turns ids into whole characters, holds stop strings back and tells reasoning from answer.
//! 7. `web` (in the browser) hands the text to the worker, and the page shows it.
//!
//! [`cpu`] holds a twin of every kernel, and an engine that runs the same plan where there is no WebGPU.

pub mod cpu;
pub mod distill;
pub mod error;
pub mod format;
pub mod gpu;
pub mod model;
pub mod student;
pub mod text;
pub mod traces;
#[cfg(target_family = "wasm")]
pub mod web;
