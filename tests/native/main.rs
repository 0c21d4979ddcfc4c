//! Every native test in one binary: goldens against the reference kit, twins on a real driver, walls.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod adapters;
mod architectures;
mod cache;
mod format;
mod fuzz;
mod gpu;
#[cfg(feature = "teach")]
mod gpu_trainer;
mod grammar;
mod kernels;
mod kit;
mod lesson;
mod logits;
mod loss;
mod random;
mod recurrent;
mod repack;
mod sampling;
mod shaders;
mod split;
mod state;
mod student;
#[cfg(feature = "teach")]
mod taught;
mod teaching;
mod templates;
mod text;
mod tool_calls;
mod tools;
mod traces;
mod trainer;
mod walls;

#[path = "../shared/oracle.rs"]
mod oracle;
