//! Repacked rows decode to the very numbers of their blocks.

use understudy::format::repack::{groups, repack_row, row_words, weights8};
use understudy::format::{BlockType, dequantize};
use understudy::gpu::cases::{Numbers, weights};

#[test]
fn repacked_rows_decode_to_the_same_bits() {
    for (block_type, columns) in [
        (BlockType::F32, 20),
        (BlockType::F16, 172),
        (BlockType::BF16, 12),
        (BlockType::Q4_0, 96),
        (BlockType::Q4_1, 32),
        (BlockType::Q5_0, 96),
        (BlockType::Q5_1, 160),
        (BlockType::Q8_0, 96),
        (BlockType::Q4_K, 512),
        (BlockType::Q5_K, 768),
        (BlockType::Q6_K, 512),
    ] {
        let rows = 5;
        let weights = weights(&mut Numbers(columns as u64), block_type, rows, columns);
        let bytes = weights.bytes.len() / rows;
        let mut words = vec![u32::MAX; row_words(block_type, columns)];
        let mut expected = vec![0.0; columns];
        for row in weights.bytes.chunks_exact(bytes) {
            repack_row(block_type, columns, row, &mut words);
            dequantize(block_type, row, &mut expected);
            for group in 0..groups(columns) {
                for (i, value) in weights8(block_type, groups(columns), &words, group).iter().enumerate() {
                    let expected = expected.get(8 * group + i).copied().unwrap_or(0.0);
                    assert_eq!(
                        value.to_bits(),
                        expected.to_bits(),
                        "{block_type:?} weight {}",
                        8 * group + i
                    );
                }
            }
        }
    }
}
