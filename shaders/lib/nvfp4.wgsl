// NVFP4: a word of nibbles a group, then a byte for each 16 weights: an E4M3 without sign, (8 + m) 2^(e - 10), and m 2^-9 for
// e = 0; half of it counts, because the book is doubled. weight = d book[q].
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let q = w[row + group];
    let byte = w[row + GROUPS + (group >> 3u)] >> (8u * ((group >> 1u) & 3u));
    let e = (byte >> 3u) & 15u;
    let m = (byte & 7u) + select(0u, 8u, e > 0u);
    let d = f32(m) * bitcast<f32>((max(e, 1u) + 116u) << 23u);
    return mat2x4<f32>(d * look_up16(book(), q), d * look_up16(book(), q >> 16u));
}
