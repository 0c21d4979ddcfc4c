//! Distillation: what a student is trained towards, and how.
//!
//! - [`objective`]: the loss of a token, as settings.
//! - [`lesson`]: a row of traces as the student's tokens, with what is trained and what the teacher thought.
//! - [`reading`]: files of traces, piece by piece, into lessons; [`room`]: what teaching takes on a device.
//! - [`session`]: a training step by step, with measures, checkpoints and the adapter.
//! - [`trainer`]: what computes it, the CPU or the GPU.
//! - [`schedule`]: step sizes, the order of rows, and which are kept apart.
//! - with the feature `teach`: [`gpu`], a training step on the GPU; [`student`], the layers as Burn's graph; [`ops`], the frozen
//!   linear step as an operation of it.
//! - the loss itself and its gradient: [`crate::cpu::loss`]; a whole step: [`crate::cpu::trainer`]. They are the twins of what the GPU does.

#[cfg(feature = "teach")]
pub mod gpu;
pub mod lesson;
pub mod objective;
#[cfg(feature = "teach")]
pub mod ops;
pub mod reading;
pub mod room;
pub mod schedule;
pub mod session;
#[cfg(feature = "teach")]
pub mod student;
pub mod trainer;

pub use objective::{Divergence, Objective, Tail};
