// Q4_K: a word of nibbles a group; then, for each 256 weights, a word (d, dmin) of two f16 and four words of
// (scale, minimum) bytes for eight runs of 32. weight = (d scale) q - dmin minimum.
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let q = w[row + group];
    let at = row + GROUPS + 5u * (group >> 5u);
    let dm = unpack2x16float(w[at]);
    let run = (group >> 2u) & 7u;
    let pair = w[at + 1u + (run >> 1u)] >> (16u * (run & 1u));
    let d = dm.x * f32(pair & 0xffu);
    let m = dm.y * f32((pair >> 8u) & 0xffu);
    return mat2x4<f32>(d * nibbles(q) - m, d * nibbles(q >> 16u) - m);
}
