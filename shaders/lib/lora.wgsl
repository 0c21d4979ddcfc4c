// Which tensor of a merged matrix a row belongs to. Adapters change tensors: q, k and v lie one after another (BOUND1,
// BOUND2: the first rows of the second and the third), gate and up in turn (TURN = 2).
override RANK: u32 = 8u;
override PARTS: u32 = 1u;
override TURN: u32 = 1u;
override BOUND1: u32 = 0xffffffffu;
override BOUND2: u32 = 0xffffffffu;

fn lora_part(row: u32) -> u32 {
    if (TURN > 1u) {
        return row % TURN;
    }
    return u32(row >= BOUND1) + u32(row >= BOUND2);
}

// The rows of tensor `part` among `count`: first, and end; TURN apart.
fn lora_rows(part: u32, count: u32) -> vec2<u32> {
    if (TURN > 1u) {
        return vec2<u32>(part, count);
    }
    let first = array<u32, 3>(0u, BOUND1, BOUND2);
    let end = array<u32, 3>(min(BOUND1, count), min(BOUND2, count), count);
    return vec2<u32>(first[part], end[part]);
}
