//! Students of any shape with random weights: for measurements and tests of size, not of sense.

use crate::format::BlockType;
use crate::format::blocks::{quantize_q4_0, quantize_q8_0};
use crate::format::gguf::{Array, Value, Writer};
use crate::model::chance::Numbers;

/// A file of the llama architecture: `heads` heads of 64, a tied head, every matrix of `block_type` (Q4_0 or Q8_0; the
/// embedding is Q8_0, as quantizers keep it).
pub fn random_student(
    hidden: usize,
    feed_forward: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    vocabulary: usize,
    block_type: BlockType,
) -> Vec<u8> {
    let mut numbers = Numbers(1);
    let mut matrix = |rows: usize, columns: usize, block_type: BlockType| {
        // One row's worth of values, turned by one for each row: random enough for the time that a product takes.
        let scale = 1.0 / (columns as f32).sqrt();
        let mut bytes = Vec::new();
        let pool: Vec<f32> = (0..columns * 64).map(|_| scale * numbers.signed()).collect();
        let row_of = |row: usize| &pool[(row % 64) * columns..(row % 64 + 1) * columns];
        for row in 0..rows {
            bytes.extend(match block_type {
                BlockType::Q4_0 => quantize_q4_0(row_of(row)),
                BlockType::Q8_0 => quantize_q8_0(row_of(row)),
                other => panic!("random students are not made in {}", other.name()),
            });
        }
        bytes
    };
    let mut file = Writer::new();
    let number = |n: usize| Value::U32(n as u32);
    file.set("general.architecture", Value::String("llama".into()))
        .set(
            "general.name",
            Value::String(format!("random {layers} x {hidden} {}", block_type.name())),
        )
        .set("llama.block_count", number(layers))
        .set("llama.context_length", number(2048))
        .set("llama.embedding_length", number(hidden))
        .set("llama.feed_forward_length", number(feed_forward))
        .set("llama.attention.head_count", number(heads))
        .set("llama.attention.head_count_kv", number(kv_heads))
        .set("llama.attention.key_length", number(64))
        .set("llama.attention.value_length", number(64))
        .set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5))
        .set("llama.rope.freq_base", Value::F32(10_000.0))
        .set("tokenizer.ggml.model", Value::String("gpt2".into()))
        .set("tokenizer.ggml.pre", Value::String("gpt-2".into()));
    // The 256 characters of byte-level BPE, then fillers.
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next_free = 0x100;
    let mut tokens: Vec<String> = Vec::with_capacity(vocabulary);
    for byte in 0..256u32 {
        let code = if printable(byte) {
            byte
        } else {
            next_free += 1;
            next_free - 1
        };
        tokens.extend(char::from_u32(code).map(String::from));
    }
    tokens.extend((256..vocabulary).map(|i| format!("filler{i}")));
    tokens.truncate(vocabulary);
    file.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    file.set("tokenizer.ggml.merges", Value::Array(Array::String(Vec::new())));

    let gain = |n: usize| (0..n).flat_map(|_| 1.0f32.to_le_bytes()).collect::<Vec<u8>>();
    let shape = |rows: usize, columns: usize| [columns as u64, rows as u64];
    let table = matrix(vocabulary, hidden, BlockType::Q8_0);
    file.tensor("token_embd.weight", &shape(vocabulary, hidden), BlockType::Q8_0, table);
    file.tensor("output_norm.weight", &[hidden as u64], BlockType::F32, gain(hidden));
    for layer in 0..layers {
        for name in ["attn_norm", "ffn_norm"] {
            let name = format!("blk.{layer}.{name}.weight");
            file.tensor(name, &[hidden as u64], BlockType::F32, gain(hidden));
        }
        for (name, rows, columns) in [
            ("attn_q", 64 * heads, hidden),
            ("attn_k", 64 * kv_heads, hidden),
            ("attn_v", 64 * kv_heads, hidden),
            ("attn_output", hidden, 64 * heads),
            ("ffn_gate", feed_forward, hidden),
            ("ffn_up", feed_forward, hidden),
            ("ffn_down", hidden, feed_forward),
        ] {
            let bytes = matrix(rows, columns, block_type);
            file.tensor(
                format!("blk.{layer}.{name}.weight"),
                &shape(rows, columns),
                block_type,
                bytes,
            );
        }
    }
    file.to_bytes()
}
