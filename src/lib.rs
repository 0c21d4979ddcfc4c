//! temporary head
pub mod cpu;
pub mod error;
pub mod format;
pub mod gpu;
pub mod model;
