//! GGUF blocks, rewritten for the GPU: the same bits, so the same numbers, in runs of 32-bit words.
//!
//! Raw blocks are 18, 34 or 210 bytes: no GPU loads them well. A repacked row is a run of words, first the quants of its
//! groups of eight weights, then the upper bits where a format has them, then the scales; `shaders/lib/<format>.wgsl`
//! reads exactly this, and [`weights8`] is that file's twin.

use super::BlockType;
use half::f16;

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
        BlockType::Q4_K => g + 5 * (g / 32),
        BlockType::Q5_K => g + g / 4 + 5 * (g / 32),
        BlockType::Q6_K => g + g / 2 + 5 * (g / 32),
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
    }
}

fn half_at(words: &[u32], index: usize) -> f32 {
    f16::from_bits((words[index / 2] >> (16 * (index % 2))) as u16).to_f32()
}

/// The eight weights of `group` of a repacked row of `groups` groups: the twin of `weights8` in `shaders/lib`.
pub fn weights8(block_type: BlockType, groups: usize, row: &[u32], group: usize) -> [f32; GROUP] {
    let nibble = |i: usize| ((row[group] >> (4 * i)) & 15) as f32;
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
    }
}
