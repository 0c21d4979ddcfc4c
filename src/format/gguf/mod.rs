//! The GGUF container: a header, typed metadata, a table of tensors, and the tensors' bytes.
//!
//! ```text
//! magic "GGUF" | version u32 | tensors u64 | keys u64
//! keys    x (name: string | type u32 | value)
//! tensors x (name: string | dims u32 | dim u64 x dims | ggml type u32 | offset u64)
//! padding to the alignment, then every tensor at its offset, each padded to the alignment
//! ```
//! A student may be split over several such files: see [`Gguf::read`].
//!
//! All numbers are little-endian; a string is a u64 length and that many bytes of UTF-8, without a final zero.
//! Source: `docs/gguf.md` of the ggml project.

mod metadata;
mod reader;
mod split;
mod writer;

pub use metadata::{Array, Metadata, Value};
pub use split::part_names;
pub use writer::Writer;

use super::blocks::BlockType;
use super::source::Source;
use crate::error::Result;

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// Where tensors start when the file does not say otherwise, in bytes: every offset is a multiple of it.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// The key under which a file names its own alignment.
pub const ALIGNMENT_KEY: &str = "general.alignment";

/// Bytes that a tensor's name stays below, as in ggml (`GGML_MAX_NAME`).
pub const MAX_TENSOR_NAME: usize = 64;

/// What [`Gguf::parse`] made of a prefix.
#[derive(Clone, Debug)]
pub enum Parsed {
    /// The prefix held everything up to the tensors' bytes.
    Done(Gguf),
    /// Call again with a prefix of at least this many bytes; never more than the file has.
    NeedMore(u64),
}

/// What a GGUF file says about itself; the tensors' bytes stay where they are.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// 2 or 3; the two differ only in that 3 may be big-endian, which is refused here.
    pub version: u32,
    /// Keys and values, in the file's order.
    pub metadata: Metadata,
    /// Tensors, in the file's order. Their names differ, and their bytes lie inside the file without overlapping.
    pub tensors: Vec<TensorInfo>,
    /// In bytes, a power of two.
    pub alignment: u64,
    /// Where the first tensor may start, in bytes from the start of the file.
    pub data_offset: u64,
    /// Bytes of the whole file.
    pub size: u64,
    /// Indices into `tensors`, ordered by name.
    by_name: Vec<u32>,
}

/// Where one tensor lies and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Shorter than [`MAX_TENSOR_NAME`] bytes.
    pub name: String,
    /// One to four sizes, none zero, in GGUF's order: the innermost (columns) first.
    pub shape: Vec<u64>,
    /// ggml's number for the type, known by name but perhaps not decoded here: see [`TensorInfo::block_type`].
    pub block_type: u32,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes, without padding.
    pub bytes: u64,
}

impl TensorInfo {
    /// The type, if this program decodes it.
    ///
    /// # Errors
    /// `Unsupported`, naming the type.
    pub fn block_type(&self) -> Result<BlockType> {
        BlockType::from_ggml(self.block_type)
    }

    /// Weights in a row. The reader has checked that they fit 32 bits.
    pub fn columns(&self) -> usize {
        self.shape.first().map_or(1, |&columns| columns as usize)
    }

    /// Rows: the product of all sizes but the first, 1 for a vector. The reader has checked that they fit 32 bits.
    pub fn rows(&self) -> usize {
        self.shape.iter().skip(1).product::<u64>() as usize
    }
}

impl Gguf {
    /// Parses what a prefix of a file of `size` bytes holds.
    ///
    /// `Ok(NeedMore(n))` asks for a prefix of at least `n` bytes, `n <= size`. Each request at least doubles the prefix,
    /// so that starting over costs no more than a constant factor in all. Memory stays below the size of the file
    /// plus 64 MiB: counts are compared with the bytes at hand before anything is allocated.
    ///
    /// # Errors
    /// `NotGguf`, `GgufVersion`, `Truncated`, `Malformed` or `Unsupported`; see each for what the user can do.
    pub fn parse(prefix: &[u8], size: u64) -> Result<Parsed> {
        reader::parse(prefix, size)
    }

    /// Parses a whole file that is in memory.
    ///
    /// # Errors
    /// As [`Gguf::parse`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        match Self::parse(bytes, bytes.len() as u64)? {
            Parsed::Done(gguf) => Ok(gguf),
            Parsed::NeedMore(_) => unreachable!("a prefix as long as the file leaves nothing to ask for"),
        }
    }

    /// Reads the header of a student from `source`; where it is split, the headers of all its parts, as one.
    ///
    /// Parts may be files of their own ([`Source::files`]) or lie one after another in one file, in any order. The offsets of
    /// the tensors count from the start of the source.
    ///
    /// # Errors
    /// As [`Gguf::parse`]; `Parts` where one is missing, comes twice, or is of another student; whatever `source` says.
    pub async fn read<S: Source>(source: &S) -> Result<Self> {
        split::read(source).await
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let at = self
            .by_name
            .binary_search_by(|&i| self.tensors[i as usize].name.as_str().cmp(name))
            .ok()?;
        self.tensors.get(*self.by_name.get(at)? as usize)
    }
}
