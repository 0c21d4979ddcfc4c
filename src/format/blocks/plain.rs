//! Types without blocks: one weight, one number, little-endian.
//!
//! ```text
//! F32   4 bytes   IEEE 754 binary32
//! F16   2 bytes   IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits
//! BF16  2 bytes   the upper half of a binary32: 1 sign, 8 exponent, 7 fraction bits
//! ```

pub(super) fn f32(bytes: &[u8], out: &mut [f32]) {
    let (words, _) = bytes.as_chunks::<4>();
    for (y, &word) in out.iter_mut().zip(words) {
        *y = f32::from_le_bytes(word);
    }
}

pub(super) fn f16(bytes: &[u8], out: &mut [f32]) {
    let (words, _) = bytes.as_chunks::<2>();
    for (y, &word) in out.iter_mut().zip(words) {
        *y = half::f16::from_le_bytes(word).to_f32();
    }
}

pub(super) fn bf16(bytes: &[u8], out: &mut [f32]) {
    let (words, _) = bytes.as_chunks::<2>();
    for (y, &word) in out.iter_mut().zip(words) {
        *y = f32::from_bits(u32::from(u16::from_le_bytes(word)) << 16);
    }
}

/// `values` as F16, rounded to nearest, ties to even; too large ones become infinite.
pub fn quantize_f16(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|&value| half::f16::from_f32(value).to_le_bytes())
        .collect()
}
