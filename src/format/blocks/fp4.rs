//! Four-bit floating point numbers (E2M1) under a scale that is a floating point number of a byte.
//!
//! ```text
//! MXFP4  17 bytes   e | qs 16         y = 2^(e - 128) book\[q\]   32 weights; byte i: weight i low, weight i + 16 high
//! NVFP4  36 bytes   d 4 | qs 4 x 8    y = d / 2 book\[q\]         4 runs of 16; byte i of a run: weight i low, i + 8 high
//! ```
//! The book holds E2M1 doubled, so that it is whole; the scale is halved. Sources: the OCP's Microscaling Formats (MX)
//! specification 1.0; ggml's `dequantize_row_mxfp4` and `dequantize_row_nvfp4`.

/// E2M1 times two: a sign, two bits of exponent, one of fraction.
pub(in crate::format) const BOOK_FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 2^(e - 128), also where that is below the normal numbers.
pub(in crate::format) fn exponent_scale(e: u8) -> f32 {
    f32::from_bits(match e {
        0 | 1 => 0x0020_0000 << e,
        e => u32::from(e - 1) << 23,
    })
}

/// Half of an E4M3 without sign (bias 7; the upper bit does not count). 0x7f, which is not a number, counts as 0.
pub(in crate::format) fn mini_scale(byte: u8) -> f32 {
    let (exponent, fraction) = (byte >> 3 & 15, byte & 7);
    match (byte, exponent) {
        (0x7f, _) => 0.0,
        (_, 0) => f32::from(fraction) / 1024.0,
        (_, e) => f32::from(8 + fraction) * f32::from_bits((u32::from(e) + 116) << 23),
    }
}

pub(super) fn mxfp4(bytes: &[u8], out: &mut [f32]) {
    for (block, y) in bytes.chunks_exact(17).zip(out.chunks_exact_mut(32)) {
        let d = exponent_scale(block[0]);
        for (i, &q) in block[1..].iter().enumerate() {
            y[i] = d * f32::from(BOOK_FP4[usize::from(q & 15)]);
            y[i + 16] = d * f32::from(BOOK_FP4[usize::from(q >> 4)]);
        }
    }
}

pub(super) fn nvfp4(bytes: &[u8], out: &mut [f32]) {
    for (block, y) in bytes.chunks_exact(36).zip(out.chunks_exact_mut(64)) {
        let (scales, qs) = block.split_at(4);
        for (run, y) in y.chunks_exact_mut(16).enumerate() {
            let d = mini_scale(scales[run]);
            for (i, &q) in qs[8 * run..8 * run + 8].iter().enumerate() {
                y[i] = d * f32::from(BOOK_FP4[usize::from(q & 15)]);
                y[i + 8] = d * f32::from(BOOK_FP4[usize::from(q >> 4)]);
            }
        }
    }
}
