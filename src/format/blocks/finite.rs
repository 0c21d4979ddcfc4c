//! Whether weights are finite, seen from their scales: cheap enough to look at every block that is read.

use super::BlockType;

/// Where the f16 scales of a block stand, in bytes.
fn scales(block_type: BlockType) -> &'static [usize] {
    match block_type {
        BlockType::Q4_0
        | BlockType::Q5_0
        | BlockType::Q8_0
        | BlockType::IQ1_S
        | BlockType::IQ2_XXS
        | BlockType::IQ2_XS
        | BlockType::IQ2_S
        | BlockType::IQ3_XXS
        | BlockType::IQ3_S
        | BlockType::IQ4_NL
        | BlockType::IQ4_XS
        | BlockType::Q1_0
        | BlockType::Q2_0 => &[0],
        BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4_K | BlockType::Q5_K => &[0, 2],
        BlockType::Q2_K => &[80, 82],
        BlockType::Q3_K => &[108],
        BlockType::Q6_K => &[208],
        BlockType::TQ1_0 => &[52],
        BlockType::TQ2_0 => &[64],
        BlockType::F32 | BlockType::F16 | BlockType::BF16 | BlockType::IQ1_M | BlockType::MXFP4 | BlockType::NVFP4 => {
            &[]
        }
    }
}

/// Whether every weight of `bytes`, whole blocks, is a finite number.
///
/// A block whose scale is not finite is refused also where its quants are zeros: nothing that writes blocks means that.
pub fn is_finite(block_type: BlockType, bytes: &[u8]) -> bool {
    let mut blocks = bytes.chunks_exact(block_type.block_bytes());
    let halves = |exponent: u16| {
        let (words, _) = bytes.as_chunks::<2>();
        // No early end: most weights are finite, and without one a compiler turns this into SIMD.
        !words
            .iter()
            .fold(false, |bad, &w| bad | (u16::from_le_bytes(w) & exponent == exponent))
    };
    match block_type {
        BlockType::F32 => {
            let (words, _) = bytes.as_chunks::<4>();
            let broken = |w| u32::from_le_bytes(w) & 0x7f80_0000 == 0x7f80_0000;
            !words.iter().fold(false, |bad, &w| bad | broken(w))
        }
        BlockType::F16 => halves(0x7c00),
        BlockType::BF16 => halves(0x7f80),
        // The upper nibbles of four words are the f16, the last of them its sign and most of its exponent.
        BlockType::IQ1_M => blocks.all(|b| b[55] & 0x70 != 0x70 || b[53] & 0xc0 != 0xc0),
        // From 253 on the largest quant lies beyond f32.
        BlockType::MXFP4 => blocks.all(|b| b[0] < 253),
        BlockType::NVFP4 => true,
        _ => blocks.all(|b| scales(block_type).iter().all(|&at| b[at + 1] & 0x7c != 0x7c)),
    }
}
