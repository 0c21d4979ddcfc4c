//! GGUF blocks, rewritten for the GPU: the same bits, so the same numbers, in runs of 32-bit words.
//!
//! Raw blocks are 18, 34 or 210 bytes: no GPU loads them well. A repacked row is a run of words, first the quants of its
//! groups of eight weights, then the upper bits where a format has them, then the scales; a file of `shaders/lib` reads
//! exactly this, and [`weights8`] is its twin.
//!
//! Rare types share three layouts of codes instead of having one each: see [`Layout`].

use super::BlockType;
use super::blocks::{BOOK_FP4, BOOK_IQ4, Coded, Ternary, exponent_scale, mini_scale};
use half::f16;

/// What a repacked row looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The type's own bits in another order.
    Own,
    /// Quants of 2 bits, and an f16 scale for each 64 weights: `shaders/lib/q2_0.wgsl`.
    TwoBits,
    /// Codes of 3 bits into a book of 8 values; for each 256 weights sixteen signed scales of a byte and an f32:
    /// `shaders/lib/three_bits.wgsl`.
    ThreeBits,
    /// Codes of 4 bits into a book of 16 values; for each 256 weights eight signed scales of a byte and an f32:
    /// `shaders/lib/four_bits.wgsl`.
    FourBits,
}

impl Layout {
    /// The layout that the GPU has a block type in. Each is lossless: the same numbers, bit for bit.
    pub fn of(block_type: BlockType) -> Self {
        use BlockType as T;
        match block_type {
            T::Q1_0 | T::Q2_0 | T::TQ1_0 | T::TQ2_0 => Self::TwoBits,
            T::Q3_K | T::IQ1_S | T::IQ1_M | T::IQ2_XXS | T::IQ2_XS | T::IQ2_S => Self::ThreeBits,
            T::IQ3_XXS | T::IQ3_S | T::IQ4_XS => Self::FourBits,
            _ => Self::Own,
        }
    }

    /// Whether it is wider than the type's own bits in another order would be.
    pub fn widens(block_type: BlockType) -> bool {
        use BlockType as T;
        Self::of(block_type) != Self::Own && !matches!(block_type, T::Q2_0 | T::Q3_K | T::IQ4_XS)
    }

    /// The layout in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Own => "its own bits",
            Self::TwoBits => "quants of 2 bits",
            Self::ThreeBits => "codes of 3 bits",
            Self::FourBits => "codes of 4 bits",
        }
    }
}

/// Weights in a group: what one shader thread decodes at a time.
pub const GROUP: usize = 8;

/// Groups in a row of `columns` weights; the last one is filled up with zeros.
pub fn groups(columns: usize) -> usize {
    columns.div_ceil(GROUP)
}

/// Words of a repacked row of `columns` weights: a multiple of 4, so that rows start on 16 bytes.
pub fn row_words(block_type: BlockType, columns: usize) -> usize {
    let g = groups(columns);
    let words = match block_type {
        BlockType::F32 => 8 * g,
        BlockType::F16 | BlockType::BF16 => 4 * g,
        BlockType::Q4_0 => g + (g / 4).div_ceil(2),
        BlockType::Q4_1 => g + g / 4,
        BlockType::Q5_0 => g + g / 4 + (g / 4).div_ceil(2),
        BlockType::Q5_1 => g + g / 4 + g / 4,
        BlockType::Q8_0 => 2 * g + (g / 4).div_ceil(2),
        BlockType::Q2_K => g / 2 + 5 * (g / 32),
        BlockType::Q4_K => g + 5 * (g / 32),
        BlockType::Q5_K => g + g / 4 + 5 * (g / 32),
        BlockType::Q6_K => g + g / 2 + 5 * (g / 32),
        BlockType::IQ4_NL => g + (g / 4).div_ceil(2),
        BlockType::MXFP4 => g + (g / 4).div_ceil(4),
        BlockType::NVFP4 => g + g / 8,
        BlockType::Q1_0 | BlockType::Q2_0 | BlockType::TQ1_0 | BlockType::TQ2_0 => g / 2 + (g / 8).div_ceil(2),
        BlockType::Q3_K
        | BlockType::IQ1_S
        | BlockType::IQ1_M
        | BlockType::IQ2_XXS
        | BlockType::IQ2_XS
        | BlockType::IQ2_S => g / 2 + g / 4 + 5 * (g / 32),
        BlockType::IQ3_XXS | BlockType::IQ3_S | BlockType::IQ4_XS => g + 3 * (g / 32),
    };
    words.next_multiple_of(4)
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn half_word(bytes: &[u8]) -> u32 {
    u32::from(u16::from_le_bytes([bytes[0], bytes[1]]))
}

/// Eight small integers as nibbles, lowest first.
fn pack_nibbles(quants: &[u8]) -> u32 {
    quants
        .iter()
        .enumerate()
        .fold(0, |bits, (i, &q)| bits | (u32::from(q & 15) << (4 * i)))
}

/// Sixteen small integers as fields of two bits, lowest first.
fn pack_pairs(quants: &[u8]) -> u32 {
    quants
        .iter()
        .enumerate()
        .fold(0, |bits, (i, &q)| bits | (u32::from(q & 3) << (2 * i)))
}

/// Bit `bit` of 32 small integers, lowest first.
fn pack_bits(quants: &[u8], bit: u32) -> u32 {
    quants
        .iter()
        .enumerate()
        .fold(0, |bits, (i, &q)| bits | (u32::from(q >> bit & 1) << i))
}

/// Four signed bytes as a word.
fn signed_word(bytes: &[i8]) -> u32 {
    u32::from_le_bytes([bytes[0] as u8, bytes[1] as u8, bytes[2] as u8, bytes[3] as u8])
}

/// Puts an f16 into half-word `index` of `words`.
fn put_half(words: &mut [u32], index: usize, half: u32) {
    words[index / 2] |= half << (16 * (index % 2));
}

/// Nibbles of a 32-block: the low halves of 16 bytes are weights 0..16, the high halves 16..32.
fn legacy_nibbles(bytes: &[u8]) -> [u8; 32] {
    let mut quants = [0; 32];
    for i in 0..16 {
        quants[i] = bytes[i] & 15;
        quants[i + 16] = bytes[i] >> 4;
    }
    quants
}

/// Nibbles of a 256-block of Q4_K or Q5_K: each 32 bytes hold 32 weights in their low halves, the next 32 in the high.
fn k_nibbles(bytes: &[u8]) -> [u8; 256] {
    let mut quants = [0; 256];
    for run in 0..4 {
        for i in 0..32 {
            quants[64 * run + i] = bytes[32 * run + i] & 15;
            quants[64 * run + 32 + i] = bytes[32 * run + i] >> 4;
        }
    }
    quants
}

/// The eight (scale, minimum) pairs of 6 bits that Q4_K and Q5_K keep in 12 bytes.
fn k_scales(bytes: &[u8]) -> [(u8, u8); 8] {
    std::array::from_fn(|i| {
        if i < 4 {
            (bytes[i] & 63, bytes[i + 4] & 63)
        } else {
            (
                (bytes[i + 4] & 15) | ((bytes[i - 4] >> 6) << 4),
                (bytes[i + 4] >> 4) | ((bytes[i] >> 6) << 4),
            )
        }
    })
}

/// Rewrites one row.
///
/// `bytes` is the row as the file has it ([`BlockType::row_bytes`] of `columns`), `out` has [`row_words`] words and is
/// overwritten whole.
pub fn repack_row(block_type: BlockType, columns: usize, bytes: &[u8], out: &mut [u32]) {
    assert_eq!(
        Some(bytes.len()),
        block_type.row_bytes(columns),
        "a row of {columns} weights"
    );
    assert_eq!(
        out.len(),
        row_words(block_type, columns),
        "a repacked row of {columns} weights"
    );
    out.fill(0);
    let g = groups(columns);
    match block_type {
        BlockType::F32 => {
            for (to, from) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *to = word(from);
            }
        }
        BlockType::F16 | BlockType::BF16 => {
            for (i, from) in bytes.chunks_exact(2).enumerate() {
                put_half(out, i, half_word(from));
            }
        }
        BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q4_1 | BlockType::Q5_1 => {
            let with_minimum = matches!(block_type, BlockType::Q4_1 | BlockType::Q5_1);
            let with_fifth = matches!(block_type, BlockType::Q5_0 | BlockType::Q5_1);
            let (quants, rest) = out.split_at_mut(g);
            let (fifth, scales) = rest.split_at_mut(if with_fifth { g / 4 } else { 0 });
            for (b, block) in bytes.chunks_exact(block_type.block_bytes()).enumerate() {
                let head = if with_minimum { 4 } else { 2 };
                if with_minimum {
                    scales[b] = word(block);
                } else {
                    put_half(scales, b, half_word(block));
                }
                if with_fifth {
                    fifth[b] = word(&block[head..]);
                }
                let nibbles = legacy_nibbles(&block[head + if with_fifth { 4 } else { 0 }..]);
                for (i, eight) in nibbles.chunks_exact(8).enumerate() {
                    quants[4 * b + i] = pack_nibbles(eight);
                }
            }
        }
        BlockType::Q8_0 => {
            let (quants, scales) = out.split_at_mut(2 * g);
            for (b, block) in bytes.chunks_exact(34).enumerate() {
                put_half(scales, b, half_word(block));
                for (i, four) in block[2..].chunks_exact(4).enumerate() {
                    quants[8 * b + i] = word(four);
                }
            }
        }
        BlockType::Q4_K | BlockType::Q5_K => {
            let with_fifth = block_type == BlockType::Q5_K;
            let (quants, rest) = out.split_at_mut(g);
            let (fifth, scales) = rest.split_at_mut(if with_fifth { g / 4 } else { 0 });
            for (b, block) in bytes.chunks_exact(block_type.block_bytes()).enumerate() {
                let place = &mut scales[5 * b..5 * b + 5];
                place[0] = word(block);
                for (i, (scale, minimum)) in k_scales(&block[4..16]).into_iter().enumerate() {
                    put_half(&mut place[1..], i, u32::from(scale) | (u32::from(minimum) << 8));
                }
                if with_fifth {
                    // Bit r of byte i is the fifth bit of weight i of run r; a word wants one run's 32 weights.
                    for run in 0..8 {
                        fifth[8 * b + run] =
                            (0..32).fold(0, |bits, i| bits | (u32::from((block[16 + i] >> run) & 1) << i));
                    }
                }
                let nibbles = k_nibbles(&block[if with_fifth { 48 } else { 16 }..]);
                for (i, eight) in nibbles.chunks_exact(8).enumerate() {
                    quants[32 * b + i] = pack_nibbles(eight);
                }
            }
        }
        BlockType::Q6_K => {
            let (quants, rest) = out.split_at_mut(g);
            let (upper, scales) = rest.split_at_mut(g / 2);
            for (b, block) in bytes.chunks_exact(210).enumerate() {
                let (low, high) = (&block[..128], &block[128..192]);
                let mut six = [0u8; 256];
                // Two halves of 128 weights; in each, 32 bytes of `high` hold the upper bits of four runs of 32.
                for half in 0..2 {
                    for i in 0..32 {
                        let bits = high[32 * half + i];
                        let (a, c) = (low[64 * half + i], low[64 * half + 32 + i]);
                        six[128 * half + i] = (a & 15) | ((bits & 3) << 4);
                        six[128 * half + 32 + i] = (c & 15) | (((bits >> 2) & 3) << 4);
                        six[128 * half + 64 + i] = (a >> 4) | (((bits >> 4) & 3) << 4);
                        six[128 * half + 96 + i] = (c >> 4) | ((bits >> 6) << 4);
                    }
                }
                for (i, eight) in six.chunks_exact(8).enumerate() {
                    quants[32 * b + i] = pack_nibbles(eight);
                }
                for (i, sixteen) in six.chunks_exact(16).enumerate() {
                    upper[16 * b + i] = sixteen
                        .iter()
                        .enumerate()
                        .fold(0, |bits, (j, &q)| bits | (u32::from(q >> 4) << (2 * j)));
                }
                let place = &mut scales[5 * b..5 * b + 5];
                for (i, four) in block[192..208].chunks_exact(4).enumerate() {
                    place[i] = word(four);
                }
                place[4] = half_word(&block[208..]);
            }
        }
        BlockType::Q2_K => {
            let (quants, scales) = out.split_at_mut(g / 2);
            for (b, block) in bytes.chunks_exact(84).enumerate() {
                let mut two = [0u8; 256];
                // Two halves of 128 weights; in each, 32 bytes hold four runs of 32.
                for (i, q) in two.iter_mut().enumerate() {
                    *q = block[16 + 32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3;
                }
                for (i, sixteen) in two.chunks_exact(16).enumerate() {
                    quants[16 * b + i] = pack_pairs(sixteen);
                }
                let place = &mut scales[5 * b..5 * b + 5];
                place[0] = word(&block[80..]);
                for (i, four) in block[..16].chunks_exact(4).enumerate() {
                    place[1 + i] = word(four);
                }
            }
        }
        BlockType::IQ4_NL | BlockType::MXFP4 => {
            let (quants, scales) = out.split_at_mut(g);
            for (b, block) in bytes.chunks_exact(block_type.block_bytes()).enumerate() {
                let head = if block_type == BlockType::MXFP4 {
                    scales[b / 4] |= u32::from(block[0]) << (8 * (b % 4));
                    1
                } else {
                    put_half(scales, b, half_word(block));
                    2
                };
                for (i, eight) in legacy_nibbles(&block[head..]).chunks_exact(8).enumerate() {
                    quants[4 * b + i] = pack_nibbles(eight);
                }
            }
        }
        BlockType::NVFP4 => {
            let (quants, scales) = out.split_at_mut(g);
            for (b, block) in bytes.chunks_exact(36).enumerate() {
                // 0x7f counts as 0: the shader need not know.
                let scale = |byte: u8| if byte == 0x7f { 0 } else { byte };
                scales[b] = u32::from_le_bytes([scale(block[0]), scale(block[1]), scale(block[2]), scale(block[3])]);
                for (run, eight) in block[4..].chunks_exact(8).enumerate() {
                    quants[8 * b + 2 * run] = pack_nibbles(eight);
                    quants[8 * b + 2 * run + 1] = eight.iter().rev().fold(0, |bits, q| bits << 4 | u32::from(q >> 4));
                }
            }
        }
        BlockType::Q1_0 | BlockType::Q2_0 | BlockType::TQ1_0 | BlockType::TQ2_0 => {
            let (quants, scales) = out.split_at_mut(g / 2);
            let length = block_type.block_len();
            for (b, block) in bytes.chunks_exact(block_type.block_bytes()).enumerate() {
                let ternary = Ternary::read(block_type, block);
                for (i, sixteen) in ternary.quants[..length].chunks_exact(16).enumerate() {
                    quants[length / 16 * b + i] = pack_pairs(sixteen);
                }
                for i in 0..length / 64 {
                    put_half(scales, length / 64 * b + i, u32::from(ternary.d));
                }
            }
        }
        BlockType::Q3_K
        | BlockType::IQ1_S
        | BlockType::IQ1_M
        | BlockType::IQ2_XXS
        | BlockType::IQ2_XS
        | BlockType::IQ2_S => {
            let (pairs, rest) = out.split_at_mut(g / 2);
            let (thirds, scales) = rest.split_at_mut(g / 4);
            for (b, block) in bytes.chunks_exact(block_type.block_bytes()).enumerate() {
                let coded = Coded::read(block_type, block);
                for (i, sixteen) in coded.codes.chunks_exact(16).enumerate() {
                    pairs[16 * b + i] = pack_pairs(sixteen);
                }
                for (i, run) in coded.codes.chunks_exact(32).enumerate() {
                    thirds[8 * b + i] = pack_bits(run, 2);
                }
                let place = &mut scales[5 * b..5 * b + 5];
                for (i, four) in coded.scales.chunks_exact(4).enumerate() {
                    place[i] = signed_word(four);
                }
                place[4] = coded.d.to_bits();
            }
        }
        BlockType::IQ3_XXS | BlockType::IQ3_S | BlockType::IQ4_XS => {
            let (quants, scales) = out.split_at_mut(g);
            for (b, block) in bytes.chunks_exact(block_type.block_bytes()).enumerate() {
                let coded = Coded::read(block_type, block);
                for (i, eight) in coded.codes.chunks_exact(8).enumerate() {
                    quants[32 * b + i] = pack_nibbles(eight);
                }
                // Runs of 32: every other scale tells them all.
                let scale: [i8; 8] = std::array::from_fn(|run| coded.scales[2 * run]);
                scales[3 * b] = signed_word(&scale[..4]);
                scales[3 * b + 1] = signed_word(&scale[4..]);
                scales[3 * b + 2] = coded.d.to_bits();
            }
        }
    }
}

fn half_at(words: &[u32], index: usize) -> f32 {
    f16::from_bits((words[index / 2] >> (16 * (index % 2))) as u16).to_f32()
}

/// The eight weights of `group` of a repacked row of `groups` groups: the twin of `weights8` in `shaders/lib`.
pub fn weights8(block_type: BlockType, groups: usize, row: &[u32], group: usize) -> [f32; GROUP] {
    let code = |i: usize| ((row[group] >> (4 * i)) & 15) as usize;
    let nibble = |i: usize| code(i) as f32;
    let pair = |i: usize| (row[group / 2] >> (16 * (group % 2) + 2 * i)) & 3;
    let byte = |word: u32, i: usize| word.to_le_bytes()[i];
    let fifth = |i: usize| (((row[groups + group / 4] >> (8 * (group % 4) + i)) & 1) << 4) as f32;
    match block_type {
        BlockType::F32 => std::array::from_fn(|i| f32::from_bits(row[8 * group + i])),
        BlockType::F16 => std::array::from_fn(|i| half_at(row, 8 * group + i)),
        BlockType::BF16 => std::array::from_fn(|i| {
            let pair = row[4 * group + i / 2];
            f32::from_bits(if i % 2 == 0 { pair << 16 } else { pair & 0xffff_0000 })
        }),
        BlockType::Q4_0 => {
            let d = half_at(&row[groups..], group / 4);
            std::array::from_fn(|i| d * (nibble(i) - 8.0))
        }
        BlockType::Q4_1 => {
            let dm = &row[groups + group / 4..];
            std::array::from_fn(|i| half_at(dm, 0) * nibble(i) + half_at(dm, 1))
        }
        BlockType::Q5_0 => {
            let d = half_at(&row[groups + groups / 4..], group / 4);
            std::array::from_fn(|i| d * (nibble(i) + fifth(i) - 16.0))
        }
        BlockType::Q5_1 => {
            let dm = &row[groups + groups / 4 + group / 4..];
            std::array::from_fn(|i| half_at(dm, 0) * (nibble(i) + fifth(i)) + half_at(dm, 1))
        }
        BlockType::Q8_0 => {
            let d = half_at(&row[2 * groups..], group / 4);
            std::array::from_fn(|i| d * f32::from(row[2 * group + i / 4].to_le_bytes()[i % 4] as i8))
        }
        BlockType::Q4_K | BlockType::Q5_K => {
            let with_fifth = block_type == BlockType::Q5_K;
            let at = groups + if with_fifth { groups / 4 } else { 0 } + 5 * (group / 32);
            let run = (group / 4) % 8;
            let pair = row[at + 1 + run / 2] >> (16 * (run % 2));
            let d = half_at(&row[at..], 0) * (pair & 0xff) as f32;
            let m = half_at(&row[at..], 1) * ((pair >> 8) & 0xff) as f32;
            std::array::from_fn(|i| d * (nibble(i) + if with_fifth { fifth(i) } else { 0.0 }) - m)
        }
        BlockType::Q6_K => {
            let upper = row[groups + group / 2] >> (16 * (group % 2));
            let at = groups + groups / 2 + 5 * (group / 32);
            let run = (group / 2) % 16;
            let scale = row[at + run / 4].to_le_bytes()[run % 4] as i8;
            let d = half_at(&row[at + 4..], 0) * f32::from(scale);
            std::array::from_fn(|i| d * (nibble(i) + (((upper >> (2 * i)) & 3) << 4) as f32 - 32.0))
        }
        BlockType::Q2_K => {
            let at = groups / 2 + 5 * (group / 32);
            let run = group / 2 % 16;
            let both = byte(row[at + 1 + run / 4], run % 4);
            let d = half_at(&row[at..], 0) * f32::from(both & 15);
            let m = half_at(&row[at..], 1) * f32::from(both >> 4);
            std::array::from_fn(|i| d * pair(i) as f32 - m)
        }
        BlockType::IQ4_NL => {
            let d = half_at(&row[groups..], group / 4);
            std::array::from_fn(|i| d * f32::from(BOOK_IQ4[code(i)]))
        }
        BlockType::MXFP4 => {
            let d = exponent_scale(byte(row[groups + group / 16], group / 4 % 4));
            std::array::from_fn(|i| d * f32::from(BOOK_FP4[code(i)]))
        }
        BlockType::NVFP4 => {
            let d = mini_scale(byte(row[groups + group / 8], group / 2 % 4));
            std::array::from_fn(|i| d * f32::from(BOOK_FP4[code(i)]))
        }
        BlockType::Q1_0 | BlockType::Q2_0 | BlockType::TQ1_0 | BlockType::TQ2_0 => {
            let d = half_at(&row[groups / 2..], group / 8);
            std::array::from_fn(|i| d * (pair(i) as f32 - 1.0))
        }
        BlockType::Q3_K
        | BlockType::IQ1_S
        | BlockType::IQ1_M
        | BlockType::IQ2_XXS
        | BlockType::IQ2_XS
        | BlockType::IQ2_S => {
            let third = |i: usize| (row[groups / 2 + group / 4] >> (8 * (group % 4) + i)) & 1;
            let at = groups / 2 + groups / 4 + 5 * (group / 32);
            let run = group / 2 % 16;
            let scale = byte(row[at + run / 4], run % 4) as i8;
            let d = f32::from_bits(row[at + 4]) * f32::from(scale);
            let book = Coded::book(block_type);
            std::array::from_fn(|i| d * f32::from(book[(pair(i) | third(i) << 2) as usize]))
        }
        BlockType::IQ3_XXS | BlockType::IQ3_S | BlockType::IQ4_XS => {
            let at = groups + 3 * (group / 32);
            let run = group / 4 % 8;
            let scale = byte(row[at + run / 4], run % 4) as i8;
            let d = f32::from_bits(row[at + 2]) * f32::from(scale);
            let book = Coded::book(block_type);
            std::array::from_fn(|i| d * f32::from(book[code(i)]))
        }
    }
}
