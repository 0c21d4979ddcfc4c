// Q6_K: a word of low nibbles a group, a word of upper bit pairs for two groups; then, for each 256 weights, four words
// of signed scales (one for each 16 weights) and a word whose lower half is the f16 scale d. weight = (d scale)(q - 32).
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let q = w[row + group];
    let upper = w[row + GROUPS + (group >> 1u)] >> (16u * (group & 1u));
    let at = row + GROUPS + GROUPS / 2u + 5u * (group >> 5u);
    let run = (group >> 1u) & 15u;
    let scale = bitcast<i32>(w[at + (run >> 2u)] << (24u - 8u * (run & 3u))) >> 24u;
    let d = unpack2x16float(w[at + 4u]).x * f32(scale);
    return mat2x4<f32>(
        d * (nibbles(q) + upper_pairs(upper) - 32.0),
        d * (nibbles(q >> 16u) + upper_pairs(upper >> 8u) - 32.0),
    );
}
