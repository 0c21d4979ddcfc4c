// Q5_0: a word of nibbles a group, a word of fifth bits for 32 weights, then their f16 scales. weight = d (q - 16).
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let q = w[row + group];
    let fifth = w[row + GROUPS + (group >> 2u)] >> (8u * (group & 3u));
    let d = half_at(row + GROUPS + GROUPS / 4u, group >> 2u);
    return mat2x4<f32>(
        d * (nibbles(q) + fifth_bits(fifth) - 16.0),
        d * (nibbles(q >> 16u) + fifth_bits(fifth >> 4u) - 16.0),
    );
}
