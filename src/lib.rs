//! placeholder head, written below
pub mod error;
