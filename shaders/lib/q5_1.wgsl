// Q5_1: a word of nibbles a group, a word of fifth bits for 32 weights, then a word (d, m) each. weight = d q + m.
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let q = w[row + group];
    let fifth = w[row + GROUPS + (group >> 2u)] >> (8u * (group & 3u));
    let dm = unpack2x16float(w[row + GROUPS + GROUPS / 4u + (group >> 2u)]);
    return mat2x4<f32>(
        dm.x * (nibbles(q) + fifth_bits(fifth)) + dm.y,
        dm.x * (nibbles(q >> 16u) + fifth_bits(fifth >> 4u)) + dm.y,
    );
}
