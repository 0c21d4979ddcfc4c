//! Two bits a weight or fewer, under one scale per block and with no book: y = d (q - 1).
//!
//! ```text
//! Q1_0   18 bytes   d f16 | qs 16           128 weights, bit i: 0 for -1, 1 for 1
//! Q2_0   18 bytes   d f16 | qs 16            64 weights, bits 2 i, 2 i + 1: q of 0 to 3
//! TQ1_0  54 bytes   qs 48 | qh 4 | d f16    256 weights, q of 0 to 2, five to a byte as a fraction of 3^5
//! TQ2_0  66 bytes   qs 64 | d f16           256 weights; bits 2 t, 2 t + 1 of byte i of 32: weight i of quarter t
//! ```
//! TQ1_0: a byte holds ceil(256 / 243 n), n of five digits in base 3, highest first. Times 3^k (modulo 256) it begins with
//! digit k, which is the carry of one more multiplication by 3. The first 32 bytes hold 5 x 32 weights, the next 16
//! 5 x 16, the last 4 4 x 4; digit k of byte i is weight i of run k.

use super::BlockType;
use half::f16;

/// A block as quants of two bits.
pub(in crate::format) struct Ternary {
    /// The bits of its f16 scale.
    pub d: u16,
    /// 64, 128 or 256 quants, then zeros.
    pub quants: [u8; 256],
}

impl Ternary {
    /// Reads a block of one of this family's types.
    pub fn read(block_type: BlockType, block: &[u8]) -> Self {
        let mut quants = [0u8; 256];
        let half = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        let d = match block_type {
            BlockType::Q1_0 => {
                for (i, q) in quants[..128].iter_mut().enumerate() {
                    *q = (block[2 + i / 8] >> (i % 8) & 1) << 1;
                }
                half(0)
            }
            BlockType::Q2_0 => {
                for (i, q) in quants[..64].iter_mut().enumerate() {
                    *q = block[2 + i / 4] >> (2 * (i % 4)) & 3;
                }
                half(0)
            }
            BlockType::TQ1_0 => {
                let mut to = quants.iter_mut();
                for (from, run, digits) in [(0, 32, 5), (32, 16, 5), (48, 4, 4)] {
                    for k in 0..digits {
                        for &byte in &block[from..from + run] {
                            let begun = byte.wrapping_mul(3u8.pow(k));
                            if let Some(q) = to.next() {
                                *q = ((u16::from(begun) * 3) >> 8) as u8;
                            }
                        }
                    }
                }
                half(52)
            }
            BlockType::TQ2_0 => {
                for (i, q) in quants.iter_mut().enumerate() {
                    *q = block[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3;
                }
                half(64)
            }
            other => panic!("{} has more than two bits", other.name()),
        };
        Self { d, quants }
    }
}

pub(super) fn decode(block_type: BlockType, bytes: &[u8], out: &mut [f32]) {
    let blocks = bytes.chunks_exact(block_type.block_bytes());
    for (block, y) in blocks.zip(out.chunks_exact_mut(block_type.block_len())) {
        let ternary = Ternary::read(block_type, block);
        let d = f16::from_bits(ternary.d).to_f32();
        for (y, q) in y.iter_mut().zip(ternary.quants) {
            *y = d * f32::from(q as i8 - 1);
        }
    }
}
