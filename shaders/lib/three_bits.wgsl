// Codes of 3 bits into a book (Q3_K, IQ1, IQ2): a word of lower bit pairs for two groups, a word of third bits for 32 weights;
// then, for each 256 weights, four words of signed scales (one for each 16 weights) and d in f32. weight = (d scale) book[code].
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let low = w[row + (group >> 1u)] >> (16u * (group & 1u));
    let third = w[row + GROUPS / 2u + (group >> 2u)] >> (8u * (group & 3u));
    let at = row + GROUPS / 2u + GROUPS / 4u + 5u * (group >> 5u);
    let run = (group >> 1u) & 15u;
    let scale = bitcast<i32>(w[at + (run >> 2u)] << (24u - 8u * (run & 3u))) >> 24u;
    let d = bitcast<f32>(w[at + 4u]) * f32(scale);
    return mat2x4<f32>(
        d * look_up8(book(), pairs(low) | third_bits(third)),
        d * look_up8(book(), pairs(low >> 8u) | third_bits(third >> 4u)),
    );
}
