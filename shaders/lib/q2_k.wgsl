// Q2_K: a word of 2-bit quants for two groups; then, for each 256 weights, a word (d, dmin) of two f16 and four words of
// bytes (scale low, minimum high) for sixteen runs of 16. weight = (d scale) q - dmin minimum.
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let q = w[row + (group >> 1u)] >> (16u * (group & 1u));
    let at = row + GROUPS / 2u + 5u * (group >> 5u);
    let dm = unpack2x16float(w[at]);
    let run = (group >> 1u) & 15u;
    let both = w[at + 1u + (run >> 2u)] >> (8u * (run & 3u));
    let d = dm.x * f32(both & 15u);
    let m = dm.y * f32((both >> 4u) & 15u);
    return mat2x4<f32>(d * vec4<f32>(pairs(q)) - m, d * vec4<f32>(pairs(q >> 8u)) - m);
}
