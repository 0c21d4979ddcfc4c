// Q4_1: a word of nibbles a group, then a word (d, m) of two f16 for each 32 weights. weight = d q + m.
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let q = w[row + group];
    let dm = unpack2x16float(w[row + GROUPS + (group >> 2u)]);
    return mat2x4<f32>(dm.x * nibbles(q) + dm.y, dm.x * nibbles(q >> 16u) + dm.y);
}
