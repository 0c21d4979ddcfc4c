//! Distillation: what a student is trained towards, and how.
//!
//! - [`objective`]: the loss of a token, as settings.
//! - [`lesson`]: a row of traces as the student's tokens, with what is trained and what the teacher thought.
//! - [`session`]: a training step by step, with measures, checkpoints and the adapter.
//! - [`schedule`]: step sizes, the order of rows, and which are kept apart.
//! - the loss itself and its gradient: [`crate::cpu::loss`]; a whole step: [`crate::cpu::trainer`]. They are the twins of what the GPU does.

pub mod lesson;
pub mod objective;
pub mod schedule;
pub mod session;

pub use objective::{Divergence, Objective, Tail};
