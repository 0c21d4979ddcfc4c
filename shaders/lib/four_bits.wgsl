// Codes of 4 bits into a book (IQ3, IQ4_XS): a word of nibbles a group; then, for each 256 weights, two words of signed scales
// (one for each 32 weights) and d in f32. weight = (d scale) book[code].
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let q = w[row + group];
    let at = row + GROUPS + 3u * (group >> 5u);
    let run = (group >> 2u) & 7u;
    let scale = bitcast<i32>(w[at + (run >> 2u)] << (24u - 8u * (run & 3u))) >> 24u;
    let d = bitcast<f32>(w[at + 2u]) * f32(scale);
    return mat2x4<f32>(d * look_up16(book(), q), d * look_up16(book(), q >> 16u));
}
