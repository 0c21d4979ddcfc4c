//! Quantized weights: which formats are known, and how each becomes `f32` again.
//!
//! A tensor's row is cut into blocks of `block_len` weights, `block_bytes` each; blocks never cross rows. The decoders
//! agree bit for bit with ggml's `dequantize_row_*`; they are the reference for the shaders in `shaders/lib` and for
//! [`repack`](super::repack), not the fast path.

mod coded;
mod finite;
mod fp4;
mod grids;
mod k;
mod legacy;
mod plain;
mod quantize;
mod ternary;
mod types;

pub(super) use coded::{BOOK_IQ4, Coded};
pub use finite::is_finite;
pub(super) use fp4::{BOOK_FP4, exponent_scale, mini_scale};

pub use legacy::{quantize_q4_0, quantize_q8_0};
pub use plain::quantize_f16;
pub use quantize::{can_quantize, quantize};
pub(super) use ternary::Ternary;
pub(super) use types::unsupported_type;
pub use types::{BlockType, ggml_block, ggml_name};

/// Decodes whole blocks into `out`, in the order of the weights.
///
/// # Panics
/// If `out` is not whole blocks, or `bytes` is not exactly as long as those blocks: the reader has checked both.
pub fn dequantize(block_type: BlockType, bytes: &[u8], out: &mut [f32]) {
    let needed = block_type.row_bytes(out.len());
    assert_eq!(
        Some(bytes.len()),
        needed,
        "{} bytes for {} weights",
        block_type.name(),
        out.len()
    );
    match block_type {
        BlockType::F32 => plain::f32(bytes, out),
        BlockType::F16 => plain::f16(bytes, out),
        BlockType::BF16 => plain::bf16(bytes, out),
        BlockType::Q4_0 => legacy::q4_0(bytes, out),
        BlockType::Q4_1 => legacy::q4_1(bytes, out),
        BlockType::Q5_0 => legacy::q5_0(bytes, out),
        BlockType::Q5_1 => legacy::q5_1(bytes, out),
        BlockType::Q8_0 => legacy::q8_0(bytes, out),
        BlockType::Q2_K => k::q2_k(bytes, out),
        BlockType::Q4_K => k::q4_k(bytes, out),
        BlockType::Q5_K => k::q5_k(bytes, out),
        BlockType::Q6_K => k::q6_k(bytes, out),
        BlockType::Q3_K
        | BlockType::IQ1_S
        | BlockType::IQ1_M
        | BlockType::IQ2_XXS
        | BlockType::IQ2_XS
        | BlockType::IQ2_S
        | BlockType::IQ3_XXS
        | BlockType::IQ3_S
        | BlockType::IQ4_XS => coded::decode(block_type, bytes, out),
        BlockType::IQ4_NL => coded::iq4_nl(bytes, out),
        BlockType::MXFP4 => fp4::mxfp4(bytes, out),
        BlockType::NVFP4 => fp4::nvfp4(bytes, out),
        BlockType::Q1_0 | BlockType::Q2_0 | BlockType::TQ1_0 | BlockType::TQ2_0 => {
            ternary::decode(block_type, bytes, out);
        }
    }
}

/// The f16 at `bytes[at..at + 2]`, as f32. Every block stores its scales so.
fn half_at(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
