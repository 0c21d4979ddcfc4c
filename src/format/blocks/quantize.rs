//! Weights to blocks: what an exported or merged student is stored with.
//!
//! F16, Q8_0 and Q4_0 round as ggml's reference does. The K types choose the scale and the minimum of each group by
//! least squares: for a trial scale every weight gets its nearest quant; for these quants the scale (and the minimum)
//! with the least weighted squared error has a closed form; the best of some trials is kept. An error counts more
//! where the weight is large, as its square (Q6_K) or as its magnitude beside the group's (Q4_K).

use super::{BlockType, quantize_f16, quantize_q4_0, quantize_q8_0};

/// Weights in a block of the K family.
const LEN: usize = 256;

/// Whether [`quantize`] writes this type.
pub fn can_quantize(block_type: BlockType) -> bool {
    use BlockType as T;
    matches!(block_type, T::F32 | T::F16 | T::Q8_0 | T::Q4_0 | T::Q4_K | T::Q6_K)
}

/// Encodes whole blocks.
///
/// # Panics
/// If `values` are not whole blocks or not finite, or the type cannot be written: see [`can_quantize`].
pub fn quantize(block_type: BlockType, values: &[f32]) -> Vec<u8> {
    assert!(
        block_type.row_bytes(values.len()).is_some(),
        "{} values are not whole blocks of {}",
        values.len(),
        block_type.name()
    );
    assert!(
        values.iter().all(|value| value.is_finite()),
        "a weight that is not finite has no quant"
    );
    match block_type {
        BlockType::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        BlockType::F16 => quantize_f16(values),
        BlockType::Q8_0 => quantize_q8_0(values),
        BlockType::Q4_0 => quantize_q4_0(values),
        BlockType::Q4_K => values.chunks_exact(LEN).flat_map(q4_k).collect(),
        BlockType::Q6_K => values.chunks_exact(LEN).flat_map(q6_k).collect(),
        other => panic!("{} is read but not written", other.name()),
    }
}

/// The scale `s` with the least `sum w (x - s q)^2` for quants `q` in `-32..=31`, over trial scales.
fn symmetric_scale(x: &[f32]) -> f32 {
    let peak = x.iter().fold(0.0_f32, |m, &v| if v.abs() > m.abs() { v } else { m });
    if peak.abs() < 1e-15 {
        return 0.0;
    }
    let (mut best, mut least) = (0.0, f32::INFINITY);
    for trial in -12..=12 {
        // The value of largest magnitude lies at about -32: that end reaches one step further.
        let inverse = -(32.0 + 0.1 * trial as f32) / peak;
        let (mut xq, mut qq) = (0.0_f32, 0.0_f32);
        let quant = |v: f32| (v * inverse).round().clamp(-32.0, 31.0);
        for &v in x {
            let (q, w) = (quant(v), v * v);
            xq += w * v * q;
            qq += w * q * q;
        }
        if qq == 0.0 {
            continue;
        }
        let scale = xq / qq;
        let error: f32 = x.iter().map(|&v| v * v * (v - scale * quant(v)).powi(2)).sum();
        if error < least {
            (best, least) = (scale, error);
        }
    }
    best
}

/// `ql 128 | qh 64 | scales 16 i8 | d f16`; see [`super::k`] for the places of the bits.
fn q6_k(x: &[f32]) -> Vec<u8> {
    let mut scales = [0.0_f32; 16];
    for (scale, group) in scales.iter_mut().zip(x.chunks_exact(16)) {
        *scale = symmetric_scale(group);
    }
    let peak = scales
        .iter()
        .fold(0.0_f32, |m, &v| if v.abs() > m.abs() { v } else { m });
    let mut bytes = vec![0u8; 210];
    if peak == 0.0 {
        return bytes;
    }
    let d = half::f16::from_f32(peak / -128.0);
    bytes[208..210].copy_from_slice(&d.to_le_bytes());
    let d = d.to_f32();
    if d == 0.0 {
        // Weights too small for an f16 scale are zero.
        return bytes;
    }
    for (g, group) in x.chunks_exact(16).enumerate() {
        let whole = (scales[g] / d).round().clamp(-128.0, 127.0) as i8;
        bytes[192 + g] = whole as u8;
        let scale = d * f32::from(whole);
        let (half, quarter, first) = (g / 8, g % 8 / 2, 16 * (g % 2));
        for (i, &v) in group.iter().enumerate() {
            let q = if scale == 0.0 {
                32
            } else {
                ((v / scale).round().clamp(-32.0, 31.0) + 32.0) as u8
            };
            bytes[64 * half + 32 * (quarter % 2) + first + i] |= (q & 15) << (4 * (quarter / 2));
            bytes[128 + 32 * half + first + i] |= (q >> 4) << (2 * quarter);
        }
    }
    bytes
}

/// Scale and minimum `(s, m)`, both at least 0, with a small `sum w (x - (s q - m))^2` for quants `q` in `0..=15`.
fn scale_and_min(x: &[f32]) -> (f32, f32) {
    // A minimum above zero cannot be stored: then it is zero.
    let low = x.iter().fold(0.0_f32, |m, &v| m.min(v));
    let high = x.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v));
    if high - low < 1e-15 {
        return (0.0, -low);
    }
    let mean_square = x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32;
    let weight = |v: f32| mean_square.sqrt() + v.abs();
    // Where all weights are alike no fit is unique; the plain range is exact then.
    let plain = (high - low) / 15.0;
    let missed = |v: f32| weight(v) * (v - (plain * ((v - low) / plain).round().clamp(0.0, 15.0) + low)).powi(2);
    let (mut best, mut least) = ((plain, -low), x.iter().map(|&v| missed(v)).sum::<f32>());
    for trial in -1..=20 {
        let inverse = (14.0 + 0.1 * trial as f32) / (high - low);
        let quant = |v: f32| ((v - low) * inverse).round().clamp(0.0, 15.0);
        let (mut w0, mut wq, mut wqq, mut wx, mut wxq) = (0.0_f32, 0.0_f32, 0.0_f32, 0.0_f32, 0.0_f32);
        for &v in x {
            let (q, w) = (quant(v), weight(v));
            w0 += w;
            wq += w * q;
            wqq += w * q * q;
            wx += w * v;
            wxq += w * v * q;
        }
        let determinant = w0 * wqq - wq * wq;
        if determinant <= 0.0 {
            continue;
        }
        let mut scale = (w0 * wxq - wx * wq) / determinant;
        let mut min = (wq * wxq - wqq * wx) / determinant;
        if min < 0.0 {
            min = 0.0;
            scale = wxq / wqq;
        }
        let error: f32 = x
            .iter()
            .map(|&v| weight(v) * (v - (scale * quant(v) - min)).powi(2))
            .sum();
        if scale >= 0.0 && error < least {
            (best, least) = ((scale, min), error);
        }
    }
    best
}

/// `d f16 | dmin f16 | scales 12 | qs 128`; see [`super::k`] for the places of the bits.
fn q4_k(x: &[f32]) -> Vec<u8> {
    let mut groups = [(0.0_f32, 0.0_f32); 8];
    for (pair, group) in groups.iter_mut().zip(x.chunks_exact(32)) {
        *pair = scale_and_min(group);
    }
    let most = |pick: fn(&(f32, f32)) -> f32| groups.iter().map(pick).fold(0.0_f32, f32::max);
    let d = half::f16::from_f32(most(|g| g.0) / 63.0);
    let dmin = half::f16::from_f32(most(|g| g.1) / 63.0);
    let mut bytes = vec![0u8; 144];
    bytes[0..2].copy_from_slice(&d.to_le_bytes());
    bytes[2..4].copy_from_slice(&dmin.to_le_bytes());
    let (d, dmin) = (d.to_f32(), dmin.to_f32());
    let whole = |v: f32, unit: f32| {
        if unit == 0.0 {
            0
        } else {
            (v / unit).round().clamp(0.0, 63.0) as u8
        }
    };
    for (g, group) in x.chunks_exact(32).enumerate() {
        let (sc, mn) = (whole(groups[g].0, d), whole(groups[g].1, dmin));
        if g < 4 {
            bytes[4 + g] |= sc;
            bytes[8 + g] |= mn;
        } else {
            bytes[8 + g] |= sc & 15 | mn << 4;
            bytes[g] |= sc >> 4 << 6;
            bytes[4 + g] |= mn >> 4 << 6;
        }
        let (scale, min) = (d * f32::from(sc), dmin * f32::from(mn));
        for (i, &v) in group.iter().enumerate() {
            let q = if scale == 0.0 {
                0
            } else {
                ((v + min) / scale).round().clamp(0.0, 15.0) as u8
            };
            bytes[16 + 32 * (g / 2) + i] |= q << (4 * (g % 2));
        }
    }
    bytes
}
