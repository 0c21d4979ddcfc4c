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

    /// Bytes of each of the files that it is made of, one after another: one, unless it says otherwise.
    fn files(&self) -> Vec<u64> {
        vec![self.size()]
    }

    /// Reads `length` bytes from `offset`; fewer only at the end of the file.
    ///
    /// Errors: [`Error::Io`] when the file cannot be read any more.
    async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>>;

    /// As [`Source::read`], and a short answer is an error: [`Error::Truncated`] where the file never had the bytes,
    /// [`Error::Io`] where it had them when it was opened.
    async fn read_exact(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let bytes = self.read(offset, length).await?;
        if bytes.len() == length {
            Ok(bytes)
        } else if offset.saturating_add(length as u64) <= self.size() {
            Err(changed())
        } else {
            Err(Error::Truncated {
                needed: offset.saturating_add(length as u64),
                size: self.size(),
            })
        }
    }
}

/// The error for a file that is not what it was when it was opened.
pub fn changed() -> Error {
    Error::Io {
        what: "it changed while it was read".into(),
    }
}

/// Several files one after another: the parts of a split student.
pub struct Joined<S>(
    /// The files, in any order.
    pub Vec<S>,
);

impl<S: Source> Source for Joined<S> {
    fn size(&self) -> u64 {
        self.files().iter().sum()
    }

    fn files(&self) -> Vec<u64> {
        self.0.iter().flat_map(Source::files).collect()
    }

    async fn read(&self, mut offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for file in &self.0 {
            let size = file.size();
            if offset < size && bytes.len() < length {
                // A read that crosses from one file into the next takes all that the first has left.
                let wanted = (length - bytes.len()).min(usize::try_from(size - offset).unwrap_or(usize::MAX));
                let read = file.read_exact(offset, wanted).await?;
                if bytes.is_empty() {
                    bytes = read;
                } else {
                    bytes.extend(read);
                }
                offset = 0;
            } else {
                offset = offset.saturating_sub(size);
            }
        }
        Ok(bytes)
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
