//! Where the bytes of a file come from: ranges, so that a file is never whole in memory.

use crate::error::{Error, Result};

/// A file that is read by ranges: on disk, in the browser's storage, or in memory.
#[allow(
    async_fn_in_trait,
    reason = "one thread owns a student; its futures never need to be Send"
)]
pub trait Source {
    /// Bytes in the file.
    fn size(&self) -> u64;

    /// Reads `length` bytes from `offset`; fewer only at the end of the file.
    ///
    /// Errors: [`Error::Io`] when the file cannot be read any more.
    async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>>;

    /// As [`Source::read`], and a short answer is [`Error::Truncated`].
    async fn read_exact(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let bytes = self.read(offset, length).await?;
        if bytes.len() == length {
            Ok(bytes)
        } else {
            Err(Error::Truncated {
                needed: offset.saturating_add(length as u64),
                size: self.size(),
            })
        }
    }
}

/// A file in memory.
#[derive(Debug, Clone)]
pub struct Bytes(
    /// The whole file.
    pub Vec<u8>,
);

impl Source for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let end = start.saturating_add(length).min(self.0.len());
        Ok(self.0[start..end].to_vec())
    }
}
