//! Distillation: what a student is trained towards, and how.
//!
//! - [`objective`]: the loss of a token, as settings.
//! - the loss itself and its gradient: [`crate::cpu::loss`], the twin of the kernel.

pub mod objective;

pub use objective::{Divergence, Objective, Tail};
