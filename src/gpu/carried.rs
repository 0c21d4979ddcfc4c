//! What recurrent layers carry from token to token, and how a student goes back to an earlier token.
//!
//! The state after n tokens lies in slot n mod RING: each step reads one slot and writes another, so that tokens in flight
//! that were not wanted have not overwritten the states of those that were. One copy more keeps the states in front of a
//! prompt's last tokens: what begins the same again goes on from there.

use super::device::Gpu;
use crate::error::Result;
use crate::model::Recurrent;
use crate::model::state::Words;

/// Slots that steps take turns with: as many as there may be tokens in flight.
pub const RING: usize = 3;

/// Copies in all: those of the ring, and the kept one.
pub const COPIES: usize = RING + 1;

/// What one layer carries.
pub struct Cell {
    /// The last inputs of the convolution, `(RING, taps - 1, channels)`.
    pub conv: wgpu::Buffer,
    /// The states, `(RING, heads, head_dim, state)`.
    pub scan: wgpu::Buffer,
    /// The kept slot of each: a device copies between two buffers only.
    kept: [wgpu::Buffer; 2],
}

/// What all recurrent layers carry, and after how many tokens each slot was written.
pub struct Carried {
    cells: Vec<Cell>,
    /// Bytes of a slot of `conv` and of `scan`.
    bytes: [u64; 2],
    ring: [Option<usize>; RING],
    kept: Option<usize>,
}

impl Carried {
    /// Nothing seen yet, in `layers` recurrent layers.
    pub fn new(gpu: &Gpu, shape: Option<&Recurrent>, layers: usize) -> Self {
        let bytes = shape.map_or([0, 0], |shape| {
            [4 * shape.conv_carry() as u64, 4 * shape.scan_carry() as u64]
        });
        Self {
            cells: (0..layers)
                .map(|_| Cell {
                    conv: gpu.storage("convolved", RING as u64 * bytes[0]),
                    scan: gpu.storage("states", RING as u64 * bytes[1]),
                    kept: bytes.map(|n| gpu.storage("kept", n)),
                })
                .collect(),
            bytes,
            ring: [None; RING],
            kept: None,
        }
    }

    /// Whether there is any recurrent layer.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// What recurrent layer number `cell` carries.
    pub fn cell(&self, cell: usize) -> &Cell {
        &self.cells[cell]
    }

    /// The most tokens, up to `most`, after which the states are known.
    pub fn resume(&self, most: usize) -> usize {
        if self.is_empty() {
            return most;
        }
        let known = self.ring.iter().chain([&self.kept]).flatten();
        known.copied().filter(|n| *n <= most).max().unwrap_or(0)
    }

    /// Makes the next step find the states after `tokens` tokens, which [`Carried::resume`] gave. Kernels know by themselves
    /// that nothing is carried to the first token.
    pub fn go_to(&mut self, gpu: &Gpu, tokens: usize) {
        if self.is_empty() {
            return;
        }
        // States of more tokens are those of others than will follow.
        for known in self.ring.iter_mut().chain([&mut self.kept]) {
            *known = known.filter(|n| *n <= tokens);
        }
        let slot = tokens % RING;
        if tokens > 0 && self.ring[slot] != Some(tokens) {
            assert_eq!(self.kept, Some(tokens), "the caller asked which states are known");
            self.copy(gpu, slot, true);
            self.ring[slot] = Some(tokens);
        }
    }

    /// A step of `rows` rows after `position` tokens was submitted.
    pub fn ran(&mut self, position: usize, rows: usize) {
        self.ring[(position + rows) % RING] = Some(position + rows);
    }

    /// Keeps a copy of the states after `tokens` tokens, which the step before has left.
    pub fn keep(&mut self, gpu: &Gpu, tokens: usize) {
        if !self.is_empty() && tokens > 0 {
            self.copy(gpu, tokens % RING, false);
            self.kept = Some(tokens);
        }
    }

    /// After how many tokens a copy is kept that goes with the states after `tokens`; 0: none does.
    pub fn kept(&self, tokens: usize) -> usize {
        self.kept.filter(|kept| *kept <= tokens).unwrap_or(0)
    }

    /// Appends the states after `tokens` tokens, which [`Carried::resume`] gave, then the kept ones.
    pub async fn save(&mut self, gpu: &Gpu, tokens: usize, out: &mut Vec<u8>) -> Result<()> {
        self.go_to(gpu, tokens);
        for cell in &self.cells {
            for (ring, bytes) in [&cell.conv, &cell.scan].into_iter().zip(self.bytes) {
                if bytes == 0 {
                    continue;
                }
                let all = gpu.read(ring, RING as u64 * bytes).await?;
                let at = (tokens % RING) * bytes as usize;
                out.extend(&all[at..at + bytes as usize]);
            }
        }
        if self.kept(tokens) > 0 {
            for (kept, bytes) in self.cells.iter().flat_map(|cell| cell.kept.iter().zip(self.bytes)) {
                if bytes > 0 {
                    out.extend(gpu.read(kept, bytes).await?);
                }
            }
        }
        Ok(())
    }

    /// Makes the next step find the saved states after `tokens` tokens, with the kept ones after `kept` (0: none).
    pub fn restore(&mut self, gpu: &Gpu, tokens: usize, kept: usize, words: &mut Words<'_>) {
        self.forget();
        if self.is_empty() {
            return;
        }
        for cell in &self.cells {
            for (ring, bytes) in [&cell.conv, &cell.scan].into_iter().zip(self.bytes) {
                let at = (tokens % RING) as u64 * bytes;
                gpu.write(ring, at, words.take(bytes as usize / 4));
            }
        }
        self.ring[tokens % RING] = Some(tokens);
        if kept > 0 {
            for (copy, bytes) in self.cells.iter().flat_map(|cell| cell.kept.iter().zip(self.bytes)) {
                gpu.write(copy, 0, words.take(bytes as usize / 4));
            }
            self.kept = Some(kept);
        }
    }

    /// Forgets all: what runs next is not the conversation that was known.
    pub fn forget(&mut self) {
        self.ring = [None; RING];
        self.kept = None;
    }

    /// Copies every layer's slot to its kept copy, or back.
    fn copy(&self, gpu: &Gpu, slot: usize, back: bool) {
        let mut encoder = gpu.encoder();
        for cell in &self.cells {
            for ((ring, kept), bytes) in [&cell.conv, &cell.scan].into_iter().zip(&cell.kept).zip(self.bytes) {
                let at = slot as u64 * bytes;
                match (bytes, back) {
                    (0, _) => {}
                    (_, false) => encoder.copy_buffer_to_buffer(ring, at, kept, 0, bytes),
                    (_, true) => encoder.copy_buffer_to_buffer(kept, 0, ring, at, bytes),
                }
            }
        }
        gpu.submit(encoder);
    }
}
