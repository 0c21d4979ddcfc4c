// IQ4_NL: a word of nibbles a group, then f16 scales of 32 weights each. weight = d book[q].
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let q = w[row + group];
    let d = half_at(row + GROUPS, group >> 2u);
    return mat2x4<f32>(d * look_up16(book(), q), d * look_up16(book(), q >> 16u));
}
