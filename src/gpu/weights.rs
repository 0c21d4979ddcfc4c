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
    /// Reads a matrix from `source` and uploads it; `progress` is told the bytes of each slice.
    ///
    /// `limit` is the most bytes that a part may have (the device's binding limit).
    pub async fn upload<S: Source>(
        gpu: &Gpu,
        matrix: &Matrix,
        source: &S,
        limit: u64,
        progress: &mut impl FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        let words = row_words(matrix.block_type, matrix.columns);
        let row_bytes = matrix.row_bytes();
        // Whole workgroups of four rows, so that a part of (gate, up) pairs never cuts a pair.
        let most = usize::try_from(limit / (4 * words as u64)).unwrap_or(usize::MAX) / 4 * 4;
        if most == 0 {
            return Err(Error::unsupported(
                format!("rows of {} weights", matrix.columns),
                "rows that fit in one binding of this device",
            ));
        }
        let mut parts = Vec::new();
        let mut repacked = Vec::new();
        for part_row in (0..matrix.rows).step_by(most) {
            let count = most.min(matrix.rows - part_row);
            let buffer = gpu.storage("weights", 4 * (count * words) as u64);
            let slice = (SLICE / row_bytes.max(4 * words)).max(4) / 4 * 4;
            for at in (0..count).step_by(slice) {
                let rows = slice.min(count - at);
                let bytes = matrix.read_rows(source, part_row + at, rows).await?;
                repacked.resize(rows * words, 0);
                for (from, to) in bytes.chunks_exact(row_bytes).zip(repacked.chunks_exact_mut(words)) {
                    repack_row(matrix.block_type, matrix.columns, from, to);
                }
                gpu.write(&buffer, 4 * (at * words) as u64, bytemuck::cast_slice(&repacked));
                progress(bytes.len() as u64)?;
            }
            parts.push(Part {
                buffer,
                row: part_row,
                count,
            });
        }
        Ok(Self {
            block_type: matrix.block_type,
            rows: matrix.rows,
            columns: matrix.columns,
            groups: groups(matrix.columns),
            row_words: words,
            parts,
        })
    }
}
