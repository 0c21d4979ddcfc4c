//! ggml's first family: blocks of 32 weights with one scale, and one offset in the `_1` types.
//!
//! ```text
//! Q4_0  18 bytes   d f16 | qs 16                    y = d (q - 8)       q of 4 bits
//! Q4_1  20 bytes   d f16 | m f16 | qs 16            y = d q + m         q of 4 bits
//! Q5_0  22 bytes   d f16 | qh u32 | qs 16           y = d (q - 16)      q of 5 bits
//! Q5_1  24 bytes   d f16 | m f16 | qh u32 | qs 16   y = d q + m         q of 5 bits
//! Q8_0  34 bytes   d f16 | qs 32                    y = d q             q of 8 bits, signed
//! ```
//! Byte `i` of `qs` in the 4- and 5-bit types holds weight `i` in its low half and weight `i + 16` in its high half.
//! Bit `i` of `qh` is the fifth bit of weight `i`.

use super::half_at;

/// Weights in a block of this family.
const LEN: usize = 32;

pub(super) fn q4_0(bytes: &[u8], out: &mut [f32]) {
    for (block, y) in bytes.chunks_exact(18).zip(out.chunks_exact_mut(LEN)) {
        let d = half_at(block, 0);
        let qs = &block[2..];
        for i in 0..16 {
            y[i] = (i32::from(qs[i] & 15) - 8) as f32 * d;
            y[i + 16] = (i32::from(qs[i] >> 4) - 8) as f32 * d;
        }
    }
}

pub(super) fn q4_1(bytes: &[u8], out: &mut [f32]) {
    for (block, y) in bytes.chunks_exact(20).zip(out.chunks_exact_mut(LEN)) {
        let (d, m) = (half_at(block, 0), half_at(block, 2));
        let qs = &block[4..];
        for i in 0..16 {
            y[i] = f32::from(qs[i] & 15) * d + m;
            y[i + 16] = f32::from(qs[i] >> 4) * d + m;
        }
    }
}

/// The two 5-bit weights of byte `i`, from `qh` (its bits `i` and `i + 16`) and `qs`.
fn five_bits(qh: &[u8], qs: &[u8], i: usize) -> (u8, u8) {
    let high = u32::from_le_bytes([qh[0], qh[1], qh[2], qh[3]]) >> i;
    let first = (high & 1) as u8;
    let second = (high >> 16 & 1) as u8;
    (qs[i] & 15 | first << 4, qs[i] >> 4 | second << 4)
}

pub(super) fn q5_0(bytes: &[u8], out: &mut [f32]) {
    for (block, y) in bytes.chunks_exact(22).zip(out.chunks_exact_mut(LEN)) {
        let d = half_at(block, 0);
        let (qh, qs) = block[2..].split_at(4);
        for i in 0..16 {
            let (first, second) = five_bits(qh, qs, i);
            y[i] = (i32::from(first) - 16) as f32 * d;
            y[i + 16] = (i32::from(second) - 16) as f32 * d;
        }
    }
}

pub(super) fn q5_1(bytes: &[u8], out: &mut [f32]) {
    for (block, y) in bytes.chunks_exact(24).zip(out.chunks_exact_mut(LEN)) {
        let (d, m) = (half_at(block, 0), half_at(block, 2));
        let (qh, qs) = block[4..].split_at(4);
        for i in 0..16 {
            let (first, second) = five_bits(qh, qs, i);
            y[i] = f32::from(first) * d + m;
            y[i + 16] = f32::from(second) * d + m;
        }
    }
}

pub(super) fn q8_0(bytes: &[u8], out: &mut [f32]) {
    for (block, y) in bytes.chunks_exact(34).zip(out.chunks_exact_mut(LEN)) {
        let d = half_at(block, 0);
        for (y, &q) in y.iter_mut().zip(&block[2..]) {
            *y = f32::from(q as i8) * d;
        }
    }
}

/// `values` as Q8_0 blocks, with ggml's reference rounding (`quantize_row_q8_0_ref`): the scale is the largest magnitude
/// over 127, quants round half away from zero against the scale before it is rounded to f16.
///
/// # Panics
/// If `values` are not whole blocks of 32.
pub fn quantize_q8_0(values: &[f32]) -> Vec<u8> {
    assert!(
        values.len().is_multiple_of(LEN),
        "Q8_0 takes blocks of 32 weights, got {}",
        values.len()
    );
    let mut bytes = Vec::with_capacity(values.len() / LEN * 34);
    for block in values.chunks_exact(LEN) {
        let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let d = largest / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        bytes.extend(half::f16::from_f32(d).to_le_bytes());
        bytes.extend(block.iter().map(|value| (value * inverse).round() as i8 as u8));
    }
    bytes
}

/// `values` as Q4_0 blocks, with ggml's reference rounding (`quantize_row_q4_0_ref`): the weight of largest magnitude,
/// whatever its sign, becomes quant 0 (that is, -8); the others round half up and stop at 15.
///
/// # Panics
/// If `values` are not whole blocks of 32.
pub fn quantize_q4_0(values: &[f32]) -> Vec<u8> {
    assert!(
        values.len().is_multiple_of(LEN),
        "Q4_0 takes blocks of 32 weights, got {}",
        values.len()
    );
    let mut bytes = Vec::with_capacity(values.len() / LEN * 18);
    for block in values.chunks_exact(LEN) {
        // The first of several equal magnitudes decides the sign, as in ggml.
        let largest = block.iter().fold(
            0.0_f32,
            |largest, &value| if value.abs() > largest.abs() { value } else { largest },
        );
        let d = largest / -8.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        let quant = |value: f32| ((value * inverse + 8.5) as u8).min(15);
        bytes.extend(half::f16::from_f32(d).to_le_bytes());
        bytes.extend((0..16).map(|i| quant(block[i]) | quant(block[i + 16]) << 4));
    }
    bytes
}
