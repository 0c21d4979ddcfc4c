//! Weights on the device: read in slices, repacked, and cut by rows where a matrix exceeds what one binding may hold.

use super::device::Gpu;
use crate::error::{Error, Result};
use crate::format::BlockType;
use crate::format::repack::{groups, repack_row, row_words};
use crate::format::source::Source;
use crate::model::Matrix;

/// Bytes that are read from the file at a time: this, twice over, is all of a file that is ever in memory.
const SLICE: usize = 4 << 20;

/// A run of rows in one buffer.
pub struct Part {
    /// The repacked rows.
    pub buffer: wgpu::Buffer,
    /// First row, counted in the whole matrix.
    pub row: usize,
    /// Rows.
    pub count: usize,
}

/// A matrix on the device.
pub struct Weights {
    /// Block type of every row.
    pub block_type: BlockType,
    /// N.
    pub rows: usize,
    /// K.
    pub columns: usize,
    /// ceil(K / 8).
    pub groups: usize,
    /// Words of a repacked row.
    pub row_words: usize,
    /// The rows, in one part unless they exceed the binding limit.
    pub parts: Vec<Part>,
}

impl Weights {
    /// Makes the buffers of a matrix, empty.
    ///
    /// `limit` is the most bytes that a part may have (the device's binding limit). Errors: [`Error::Unsupported`] for rows
    /// so long that four of them exceed it.
    pub fn allocate(gpu: &Gpu, matrix: &Matrix, limit: u64) -> Result<Self> {
        let words = row_words(matrix.block_type, matrix.columns);
        // Whole workgroups of four rows, so that a part of (gate, up) pairs never cuts a pair.
        let most = usize::try_from(limit / (4 * words as u64)).unwrap_or(usize::MAX) / 4 * 4;
        if most == 0 {
            return Err(Error::unsupported(
                format!("rows of {} weights", matrix.columns),
                "rows that fit in one binding of this device",
            ));
        }
        let part = |row: usize| {
            let count = most.min(matrix.rows - row);
            Part {
                buffer: gpu.storage("weights", 4 * (count * words) as u64),
                row,
                count,
            }
        };
        Ok(Self {
            block_type: matrix.block_type,
            rows: matrix.rows,
            columns: matrix.columns,
            groups: groups(matrix.columns),
            row_words: words,
            parts: (0..matrix.rows).step_by(most).map(part).collect(),
        })
    }

    /// Reads the matrix from `source`, slice by slice, and uploads it; `progress` is told the bytes of each slice.
    pub async fn fill<S: Source>(
        &self,
        gpu: &Gpu,
        matrix: &Matrix,
        source: &S,
        progress: &mut impl FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let row_bytes = matrix.row_bytes();
        let slice = (SLICE / row_bytes.max(4 * self.row_words)).max(4) / 4 * 4;
        let mut repacked = Vec::new();
        for part in &self.parts {
            for at in (0..part.count).step_by(slice) {
                let rows = slice.min(part.count - at);
                let bytes = matrix.read_rows(source, part.row + at, rows).await?;
                repacked.resize(rows * self.row_words, 0);
                for (from, to) in bytes
                    .chunks_exact(row_bytes)
                    .zip(repacked.chunks_exact_mut(self.row_words))
                {
                    repack_row(matrix.block_type, matrix.columns, from, to);
                }
                gpu.write(
                    &part.buffer,
                    4 * (at * self.row_words) as u64,
                    bytemuck::cast_slice(&repacked),
                );
                progress(bytes.len() as u64)?;
            }
        }
        Ok(())
    }
}
