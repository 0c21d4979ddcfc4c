// Q5_K: as Q4_K, with a word of fifth bits for each 32 weights between the nibbles and the scales.
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let q = w[row + group];
    let fifth = w[row + GROUPS + (group >> 2u)] >> (8u * (group & 3u));
    let at = row + GROUPS + GROUPS / 4u + 5u * (group >> 5u);
    let dm = unpack2x16float(w[at]);
    let run = (group >> 2u) & 7u;
    let pair = w[at + 1u + (run >> 1u)] >> (16u * (run & 1u));
    let d = dm.x * f32(pair & 0xffu);
    let m = dm.y * f32((pair >> 8u) & 0xffu);
    return mat2x4<f32>(
        d * (nibbles(q) + fifth_bits(fifth)) - m,
        d * (nibbles(q >> 16u) + fifth_bits(fifth >> 4u)) - m,
    );
}
