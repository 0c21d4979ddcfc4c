//! The K family: blocks of 256 weights in eight or sixteen groups, each group with a small integer scale of its own.
//!
//! ```text
//! Q2_K   84 bytes   scales 16 | qs 64 | d f16 | dmin f16         y = (d sc) q - (dmin mn)   groups of 16, q of 2 bits
//! Q4_K  144 bytes   d f16 | dmin f16 | scales 12 | qs 128            y = (d sc) q - (dmin mn)   groups of 32, q of 4 bits
//! Q5_K  176 bytes   d f16 | dmin f16 | scales 12 | qh 32 | qs 128    y = (d sc) q - (dmin mn)   groups of 32, q of 5 bits
//! Q6_K  210 bytes   ql 128 | qh 64 | scales 16 i8 | d f16            y = (d sc) (q - 32)        groups of 16, q of 6 bits
//! ```
//! Q3_K has codes and scales only, and is decoded with the [coded](super::coded) types.
//!
//! Q2_K: byte `g` of `scales` holds sc of group `g` in its low half and mn in its high half. Two halves of 128 weights;
//! in each, bits `2 t`, `2 t + 1` of byte `i` of that half's 32 bytes of `qs` are weight `i` of quarter `t`.
//!
//! Q4_K, Q5_K: bytes `32 p .. 32 p + 32` of `qs` hold group `2 p` in their low halves and group `2 p + 1` in their high
//! halves; bit `g` of byte `i` of `qh` is the fifth bit of weight `i` of group `g`. `scales` packs eight pairs (sc, mn)
//! of 6 bits each: see [`scale_min`].
//!
//! Q6_K: two halves of 128 weights. In each, weight `i` of quarter `t` takes its low 4 bits from byte
//! `32 (t % 2) + i` of that half's 64 bytes of `ql` (low half of the byte for quarters 0 and 1, high for 2 and 3), and its
//! upper 2 bits from bits `2 t`, `2 t + 1` of byte `i` of that half's 32 bytes of `qh`.

use super::half_at;

/// Weights in a block of this family.
const LEN: usize = 256;

/// Scale and minimum of group `g` (0..8), 6 bits each, out of 12 bytes.
///
/// ```text
/// byte      0..4                    4..8                    8..12
/// bits 0-5  sc of groups 0..4       mn of groups 0..4       low: sc & 15 of groups 4..8
/// bits 6-7  sc >> 4 of groups 4..8  mn >> 4 of groups 4..8  high: mn & 15 of groups 4..8
/// ```
fn scale_min(scales: &[u8], g: usize) -> (u8, u8) {
    if g < 4 {
        (scales[g] & 63, scales[g + 4] & 63)
    } else {
        (
            scales[g + 4] & 15 | scales[g - 4] >> 6 << 4,
            scales[g + 4] >> 4 | scales[g] >> 6 << 4,
        )
    }
}

pub(super) fn q2_k(bytes: &[u8], out: &mut [f32]) {
    for (block, y) in bytes.chunks_exact(84).zip(out.chunks_exact_mut(LEN)) {
        let (scales, qs) = block[..80].split_at(16);
        let (d, dmin) = (half_at(block, 80), half_at(block, 82));
        for (g, y) in y.chunks_exact_mut(16).enumerate() {
            let (half, quarter, first) = (g / 8, g % 8 / 2, 16 * (g % 2));
            let (scale, min) = (d * f32::from(scales[g] & 15), dmin * f32::from(scales[g] >> 4));
            for (i, y) in y.iter_mut().enumerate() {
                let q = qs[32 * half + first + i] >> (2 * quarter) & 3;
                *y = scale * f32::from(q) - min;
            }
        }
    }
}

pub(super) fn q4_k(bytes: &[u8], out: &mut [f32]) {
    for (block, y) in bytes.chunks_exact(144).zip(out.chunks_exact_mut(LEN)) {
        let (d, dmin) = (half_at(block, 0), half_at(block, 2));
        let (scales, qs) = block[4..].split_at(12);
        for (g, y) in y.chunks_exact_mut(32).enumerate() {
            let (sc, mn) = scale_min(scales, g);
            let (scale, min) = (d * f32::from(sc), dmin * f32::from(mn));
            for i in 0..32 {
                let q = qs[32 * (g / 2) + i] >> (4 * (g % 2)) & 15;
                y[i] = scale * f32::from(q) - min;
            }
        }
    }
}

pub(super) fn q5_k(bytes: &[u8], out: &mut [f32]) {
    for (block, y) in bytes.chunks_exact(176).zip(out.chunks_exact_mut(LEN)) {
        let (d, dmin) = (half_at(block, 0), half_at(block, 2));
        let (scales, rest) = block[4..].split_at(12);
        let (qh, qs) = rest.split_at(32);
        for (g, y) in y.chunks_exact_mut(32).enumerate() {
            let (sc, mn) = scale_min(scales, g);
            let (scale, min) = (d * f32::from(sc), dmin * f32::from(mn));
            for i in 0..32 {
                let low = qs[32 * (g / 2) + i] >> (4 * (g % 2)) & 15;
                let high = qh[i] >> g & 1;
                y[i] = scale * f32::from(low | high << 4) - min;
            }
        }
    }
}

pub(super) fn q6_k(bytes: &[u8], out: &mut [f32]) {
    for (block, y) in bytes.chunks_exact(210).zip(out.chunks_exact_mut(LEN)) {
        let (ql, rest) = block.split_at(128);
        let (qh, rest) = rest.split_at(64);
        let (scales, d) = (&rest[..16], half_at(rest, 16));
        // Sixteen groups of 16 weights: eight to each half, two to each quarter of a half.
        for (g, y) in y.chunks_exact_mut(16).enumerate() {
            let (half, quarter, first) = (g / 8, g % 8 / 2, 16 * (g % 2));
            let scale = d * f32::from(scales[g] as i8);
            for (i, y) in y.iter_mut().enumerate() {
                let low = ql[64 * half + 32 * (quarter % 2) + first + i] >> (4 * (quarter / 2)) & 15;
                let high = qh[32 * half + first + i] >> (2 * quarter) & 3;
                *y = scale * (i32::from(low | high << 4) - 32) as f32;
            }
        }
    }
}
