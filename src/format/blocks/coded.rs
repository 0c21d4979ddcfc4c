//! Blocks of 256 weights whose quants are codes: a code is looked up in a book of small integers, and one scale per block
//! times a small integer scale per run of 16 or 32 weights stands in front.
//!
//! ```text
//! Q3_K     110 bytes   hmask 32 | qs 64 | scales 12 | d f16              y = (d (sc - 32)) (q - 4)       runs of 16
//! IQ1_S     50 bytes   d f16 | qs 32 | qh 8 u16                          y = (d (2 sc + 1)) (g ± 1/8)    runs of 32
//! IQ1_M     56 bytes   qs 32 | qh 16 | scales 4 u16                      y = (d (2 sc + 1)) (g ± 1/8)    runs of 16
//! IQ2_XXS   66 bytes   d f16 | 8 x (4 codes u8 | signs, sc u32)          y = (d (sc + 1/2) / 4) ±g       runs of 32
//! IQ2_XS    74 bytes   d f16 | 32 x (code 9, signs 7) | scales 8         y = (d (sc + 1/2) / 4) ±g       runs of 16
//! IQ2_S     82 bytes   d f16 | qs 32 | signs 32 | qh 8 | scales 8        y = (d (sc + 1/2) / 4) ±g       runs of 16
//! IQ3_XXS   98 bytes   d f16 | qs 64 | 8 x (signs, sc u32)               y = (d (sc + 1/2) / 2) ±g       runs of 32
//! IQ3_S    110 bytes   d f16 | qs 64 | qh 8 | signs 32 | scales 4        y = (d (2 sc + 1)) ±g           runs of 32
//! IQ4_XS   136 bytes   d f16 | scales_h u16 | scales_l 4 | qs 128        y = (d (sc - 32)) book\[q\]     runs of 32
//! IQ4_NL    18 bytes   d f16 | qs 16 (32 weights, no runs)               y = d book\[q\]
//! ```
//! g is what the type's grid ([`super::grids`]) says: a code there stands for eight weights (four in IQ3). A sign bit that
//! is set means minus. Seven bits of signs stand for eight: the eighth makes their number even.
//!
//! All of these are one shape, [`Coded`], once the grid is looked up. Every product of it is exact in f32: d has 11 bits, a
//! scale at most 6, a value of a book at most 7. So it does not matter in which order ggml multiplies, and a factor of
//! a power of two may move from the scale to d.

use super::{BlockType, grids, half_at};

/// The values of IQ4_NL and IQ4_XS. Source: `kvalues_iq4nl` in ggml's `ggml-common.h`.
pub(in crate::format) const BOOK_IQ4: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

// In books with signs the upper half of the codes is negative.
const BOOK_Q3: [i8; 8] = [-4, -3, -2, -1, 0, 1, 2, 3];
/// 8 (g - 1/8) and 8 (g + 1/8) for g of -1, 0 and 1; two codes are not used.
const BOOK_IQ1: [i8; 8] = [-9, -1, 7, 0, -7, 1, 9, 0];
const BOOK_IQ2: [i8; 8] = [8, 25, 43, 0, -8, -25, -43, 0];
const BOOK_IQ3_XXS: [i8; 16] = [4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62];
const BOOK_IQ3_S: [i8; 16] = [1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15];

/// A block as codes: weight i is (d scales\[i / 16\]) book\[codes\[i\]\].
pub(in crate::format) struct Coded {
    /// The block's scale, with what the type multiplies it by.
    pub d: f32,
    /// A scale for each run of 16 weights; in runs of 32 two neighbours are equal.
    pub scales: [i8; 16],
    /// Places in the type's [`Coded::book`].
    pub codes: [u8; 256],
}

/// The eight signs that seven bits stand for.
fn even_signs(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | ((seven.count_ones() as u8 & 1) << 7)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Eight codes of three bits: two of `pattern`, and the bit of `flags` above them.
fn put_three(codes: &mut [u8], pattern: u16, flags: u8) {
    for (i, code) in codes.iter_mut().enumerate() {
        *code = (pattern >> (2 * i) & 3) as u8 | (flags >> i & 1) << 2;
    }
}

/// Four codes of four bits: three of `pattern`, and the bit of `signs` above them.
fn put_four(codes: &mut [u8], pattern: u16, signs: u8) {
    for (i, code) in codes.iter_mut().enumerate() {
        *code = (pattern >> (3 * i) & 7) as u8 | (signs >> i & 1) << 3;
    }
}

/// A nibble of a run of nibbles, low halves first.
fn nibble(bytes: &[u8], at: usize) -> u8 {
    bytes[at / 2] >> (4 * (at % 2)) & 15
}

impl Coded {
    /// The eight or sixteen values that codes of a type stand for.
    pub fn book(block_type: BlockType) -> &'static [i8] {
        match block_type {
            BlockType::Q3_K => &BOOK_Q3,
            BlockType::IQ1_S | BlockType::IQ1_M => &BOOK_IQ1,
            BlockType::IQ2_XXS | BlockType::IQ2_XS | BlockType::IQ2_S => &BOOK_IQ2,
            BlockType::IQ3_XXS => &BOOK_IQ3_XXS,
            BlockType::IQ3_S => &BOOK_IQ3_S,
            BlockType::IQ4_XS => &BOOK_IQ4,
            other => panic!("{} has no codes", other.name()),
        }
    }

    /// Reads a block of one of this family's types of 256 weights.
    pub fn read(block_type: BlockType, block: &[u8]) -> Self {
        let mut codes = [0u8; 256];
        // 2 sc + 1, of a scale of up to 4 bits.
        let odd = |sc: u8| (2 * sc + 1) as i8;
        match block_type {
            BlockType::Q3_K => {
                let (hmask, rest) = block.split_at(32);
                let (qs, scales) = rest.split_at(64);
                for (i, code) in codes.iter_mut().enumerate() {
                    let (half, quarter, at) = (i / 128, i % 128 / 32, i % 32);
                    *code = qs[32 * half + at] >> (2 * quarter) & 3 | (hmask[at] >> (i / 32) & 1) << 2;
                }
                let scale = |g: usize| {
                    let low = scales[g % 8] >> (4 * (g / 8)) & 15;
                    let high = scales[8 + g % 4] >> (2 * (g / 4)) & 3;
                    (low | high << 4) as i8 - 32
                };
                Self {
                    d: half_at(block, 108),
                    scales: std::array::from_fn(scale),
                    codes,
                }
            }
            BlockType::IQ1_S => {
                let (qs, qh) = block[2..].split_at(32);
                for (i, codes) in codes.chunks_exact_mut(8).enumerate() {
                    let high = u16_at(qh, 2 * (i / 4));
                    let index = usize::from(qs[i]) | usize::from(high >> (3 * (i % 4)) & 7) << 8;
                    put_three(codes, grids::IQ1[index], if high & 0x8000 == 0 { 255 } else { 0 });
                }
                Self {
                    d: half_at(block, 0) / 8.0,
                    scales: std::array::from_fn(|g| odd((u16_at(qh, 2 * (g / 2)) >> 12 & 7) as u8)),
                    codes,
                }
            }
            BlockType::IQ1_M => {
                let (qs, rest) = block.split_at(32);
                let (qh, scales) = rest.split_at(16);
                for (i, codes) in codes.chunks_exact_mut(8).enumerate() {
                    let high = nibble(qh, i);
                    let index = usize::from(qs[i]) | usize::from(high & 7) << 8;
                    put_three(codes, grids::IQ1[index], if high & 8 == 0 { 255 } else { 0 });
                }
                // The four upper nibbles of the scales are the block's f16, lowest first.
                let d = (0..4).fold(0, |bits, i| bits | u16_at(scales, 2 * i) >> 12 << (4 * i));
                Self {
                    d: half::f16::from_bits(d).to_f32() / 8.0,
                    scales: std::array::from_fn(|g| odd((u16_at(scales, 2 * (g / 4)) >> (3 * (g % 4)) & 7) as u8)),
                    codes,
                }
            }
            BlockType::IQ2_XXS => {
                let runs = &block[2..];
                let tail = |run: usize| u32_at(runs, 8 * run + 4);
                for (i, codes) in codes.chunks_exact_mut(8).enumerate() {
                    let index = usize::from(runs[8 * (i / 4) + i % 4]);
                    put_three(codes, grids::IQ2_XXS[index], even_signs(tail(i / 4) >> (7 * (i % 4))));
                }
                Self {
                    d: half_at(block, 0) / 8.0,
                    scales: std::array::from_fn(|g| odd((tail(g / 2) >> 28) as u8)),
                    codes,
                }
            }
            BlockType::IQ2_XS => {
                let (qs, scales) = block[2..].split_at(64);
                for (i, codes) in codes.chunks_exact_mut(8).enumerate() {
                    let code = u16_at(qs, 2 * i);
                    put_three(
                        codes,
                        grids::IQ2_XS[usize::from(code & 511)],
                        even_signs(u32::from(code >> 9)),
                    );
                }
                Self {
                    d: half_at(block, 0) / 8.0,
                    scales: std::array::from_fn(|g| odd(nibble(scales, g))),
                    codes,
                }
            }
            BlockType::IQ2_S => {
                let (qs, rest) = block[2..].split_at(32);
                let (signs, rest) = rest.split_at(32);
                let (qh, scales) = rest.split_at(8);
                for (i, codes) in codes.chunks_exact_mut(8).enumerate() {
                    let index = usize::from(qs[i]) | usize::from(qh[i / 4] >> (2 * (i % 4)) & 3) << 8;
                    put_three(codes, grids::IQ2_S[index], signs[i]);
                }
                Self {
                    d: half_at(block, 0) / 8.0,
                    scales: std::array::from_fn(|g| odd(nibble(scales, g))),
                    codes,
                }
            }
            BlockType::IQ3_XXS => {
                let (qs, tails) = block[2..].split_at(64);
                let tail = |run: usize| u32_at(tails, 4 * run);
                for (i, codes) in codes.chunks_exact_mut(4).enumerate() {
                    let signs = even_signs(tail(i / 8) >> (7 * (i % 8 / 2))) >> (4 * (i % 2));
                    put_four(codes, grids::IQ3_XXS[usize::from(qs[i])], signs);
                }
                Self {
                    d: half_at(block, 0) / 4.0,
                    scales: std::array::from_fn(|g| odd((tail(g / 2) >> 28) as u8)),
                    codes,
                }
            }
            BlockType::IQ3_S => {
                let (qs, rest) = block[2..].split_at(64);
                let (qh, rest) = rest.split_at(8);
                let (signs, scales) = rest.split_at(32);
                for (i, codes) in codes.chunks_exact_mut(4).enumerate() {
                    let index = usize::from(qs[i]) | usize::from(qh[i / 8] >> (i % 8) & 1) << 8;
                    put_four(codes, grids::IQ3_S[index], nibble(signs, i));
                }
                Self {
                    d: half_at(block, 0),
                    scales: std::array::from_fn(|g| odd(nibble(scales, g / 2))),
                    codes,
                }
            }
            BlockType::IQ4_XS => {
                let high = u16_at(block, 2);
                for (i, code) in codes.iter_mut().enumerate() {
                    let at = 8 + 16 * (i / 32) + i % 16;
                    *code = block[at] >> (4 * (i % 32 / 16)) & 15;
                }
                let scale = |run: usize| (nibble(&block[4..8], run) | ((high >> (2 * run) & 3) as u8) << 4) as i8 - 32;
                Self {
                    d: half_at(block, 0),
                    scales: std::array::from_fn(|g| scale(g / 2)),
                    codes,
                }
            }
            other => panic!("{} has no codes", other.name()),
        }
    }
}

pub(super) fn decode(block_type: BlockType, bytes: &[u8], out: &mut [f32]) {
    let book = Coded::book(block_type);
    let blocks = bytes.chunks_exact(block_type.block_bytes());
    for (block, y) in blocks.zip(out.chunks_exact_mut(256)) {
        let coded = Coded::read(block_type, block);
        for (g, y) in y.chunks_exact_mut(16).enumerate() {
            let scale = coded.d * f32::from(coded.scales[g]);
            for (y, &code) in y.iter_mut().zip(&coded.codes[16 * g..]) {
                *y = scale * f32::from(book[usize::from(code)]);
            }
        }
    }
}

pub(super) fn iq4_nl(bytes: &[u8], out: &mut [f32]) {
    for (block, y) in bytes.chunks_exact(18).zip(out.chunks_exact_mut(32)) {
        let d = half_at(block, 0);
        for (i, &q) in block[2..].iter().enumerate() {
            y[i] = d * f32::from(BOOK_IQ4[usize::from(q & 15)]);
            y[i + 16] = d * f32::from(BOOK_IQ4[usize::from(q >> 4)]);
        }
    }
}
