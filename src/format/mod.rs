//! Bytes to typed facts and back: files in the GGUF format and the quantized blocks inside them.
//!
//! This room is pure. It opens no file and knows no device: callers hand it bytes, and get facts or an
//! [`Error`](crate::error::Error). Every file is taken for hostile until its numbers agree with its size.
//!
//! - [`gguf`]: the container. [`Gguf::parse`] reads a growing prefix, [`Writer`] writes a whole file.
//! - [`blocks`]: the weights. [`BlockType`] names a quantization, [`dequantize`] decodes it.
//! - [`adapter`]: the change that training made, as llama.cpp and PEFT write it.
//! - [`repack`]: the same blocks as words that a GPU loads well.

pub mod adapter;
pub mod blocks;
pub mod gguf;
pub mod provenance;
pub mod repack;
pub mod source;

pub use blocks::{BlockType, dequantize};
pub use gguf::{Array, Gguf, Metadata, Parsed, TensorInfo, Value, Writer};
