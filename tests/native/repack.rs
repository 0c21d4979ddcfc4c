//! Repacked rows decode to the very numbers of their blocks.

use crate::kit;
use understudy::format::blocks::is_finite;
use understudy::format::repack::{groups, repack_row, row_words, weights8};
use understudy::format::{BlockType, Gguf, dequantize};
use understudy::gpu::cases::{Numbers, weights};
use understudy::model::memory::{Fit, Held};
use understudy::model::{CacheType, Plan};

#[test]
fn repacked_rows_decode_to_the_same_bits() {
    for block_type in BlockType::ALL {
        let columns = match block_type.block_len() {
            // Not whole groups.
            1 => 172,
            // Three blocks: an odd number of scales, so that words are not full.
            n => 3 * n,
        };
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

/// Random blocks, any scale: what a file may hold, not what a sensible one does.
#[test]
fn any_bytes_repack_to_the_same_numbers() {
    for block_type in BlockType::ALL {
        let columns = 256;
        let mut numbers = Numbers(7);
        let mut words = vec![0; row_words(block_type, columns)];
        let (mut expected, mut same) = (vec![0.0; columns], 0);
        for _ in 0..40 {
            let row: Vec<u8> = (0..block_type.row_bytes(columns).unwrap())
                .map(|_| numbers.bits() as u8)
                .collect();
            if !is_finite(block_type, &row) {
                continue;
            }
            repack_row(block_type, columns, &row, &mut words);
            dequantize(block_type, &row, &mut expected);
            for (group, eight) in expected.chunks_exact(8).enumerate() {
                let actual = weights8(block_type, groups(columns), &words, group);
                assert_eq!(
                    actual.map(f32::to_bits),
                    <[f32; 8]>::try_from(eight).unwrap().map(f32::to_bits),
                    "{block_type:?}"
                );
                assert!(actual.iter().all(|v| v.is_finite()), "{block_type:?}");
            }
            same += 1;
        }
        println!("{block_type:?}: {same} of 40 random rows are finite, and decode to the same bits");
    }
}

#[test]
fn weights_that_are_not_finite_are_seen() {
    for block_type in BlockType::ALL {
        let columns = 256;
        let good = weights(&mut Numbers(3), block_type, 1, columns).bytes;
        assert!(is_finite(block_type, &good), "{block_type:?}");
        let mut numbers = Numbers(5);
        let (mut seen, mut broken) = (0, 0);
        // Any byte of a block changed: what the check says is what the decoder makes of it.
        for _ in 0..400 {
            let mut bytes = good.clone();
            let at = (numbers.bits() % bytes.len() as u64) as usize;
            for byte in &mut bytes[at..(at + 2).min(good.len())] {
                *byte |= 0x7f;
            }
            let mut values = vec![0.0; columns];
            dequantize(block_type, &bytes, &mut values);
            let finite = values.iter().all(|v| v.is_finite());
            seen += usize::from(!is_finite(block_type, &bytes));
            broken += usize::from(!finite);
            assert!(finite || !is_finite(block_type, &bytes), "{block_type:?} at {at}");
        }
        println!("{block_type:?}: {broken} of 400 changes broke a weight, {seen} were refused");
        assert!(seen >= broken);
    }
    // The two whose scale is no f16 at one place.
    let same = |block_type: BlockType, block: &[u8]| {
        let mut values = vec![0.0; block_type.block_len()];
        dequantize(block_type, block, &mut values);
        let finite = values.iter().all(|v| v.is_finite());
        assert_eq!(is_finite(block_type, block), finite, "{block_type:?} {block:?}");
    };
    for e in 0..=255 {
        let mut block = [0x77; 17];
        block[0] = e;
        same(BlockType::MXFP4, &block);
    }
    for d in (0..=u16::MAX).step_by(61).chain([0x7bff, 0x7c00, 0xfc00, 0x7fff]) {
        let mut block = [0; 56];
        for (i, byte) in [49, 51, 53, 55].into_iter().enumerate() {
            block[byte] = ((d >> (4 * i) & 15) << 4) as u8;
        }
        same(BlockType::IQ1_M, &block);
    }
}

#[test]
fn the_report_is_what_the_fit_counts() {
    let Some(kit) = kit::kit_dir() else {
        return kit::skip("the_report_is_what_the_fit_counts");
    };
    for name in ["llama32-TQ1_0", "llama32-IQ3_S", "llama32-Q3_K_M", "llama32-MXFP4"] {
        let bytes = std::fs::read(kit.join(format!("models/{name}.gguf"))).unwrap();
        let plan = Plan::new(&Gguf::from_bytes(&bytes).unwrap()).unwrap();
        let held = Held::of(&plan);
        let vectors: usize = plan.vectors.iter().map(|v| 4 * v.len()).sum();
        let device: u64 = held.iter().map(|h| h.device).sum();
        assert_eq!(
            device + vectors as u64,
            Fit::new(&plan, 64, 64, CacheType::F32, 2, 0).weights,
            "{name}"
        );
        for held in &held {
            println!("{name}: {}", held.words());
            // Rows are rounded up to 16 bytes, which counts in rows this short; beyond that only what is said to be wider is.
            let most = if held.is_widened() { 1.9 } else { 1.2 };
            assert!(
                held.device as f64 <= most * held.file as f64,
                "{name}: {}",
                held.words()
            );
        }
    }
}
