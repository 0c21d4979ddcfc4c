// Q4_0: a word of nibbles a group, then f16 scales of 32 weights each. weight = d (q - 8).
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let q = w[row + group];
    let d = half_at(row + GROUPS, group >> 2u);
    return mat2x4<f32>(d * (nibbles(q) - 8.0), d * (nibbles(q >> 16u) - 8.0));
}
