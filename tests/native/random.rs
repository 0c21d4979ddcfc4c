//! Students of any shape with random weights, written by our own writer: sizes and limits, not sense.

use understudy::format::BlockType;
use understudy::model::random::random_student;

/// A llama-shaped student in Q4_0 and Q8_0.
pub fn llama(hidden: usize, feed_forward: usize, layers: usize, vocabulary: usize) -> Vec<u8> {
    random_student(
        hidden,
        feed_forward,
        layers,
        hidden / 64,
        1,
        vocabulary,
        BlockType::Q4_0,
    )
}
