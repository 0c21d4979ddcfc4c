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
