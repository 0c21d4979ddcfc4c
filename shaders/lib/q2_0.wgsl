// Q2_0, and Q1_0, TQ1_0 and TQ2_0 written as it: a word of 2-bit quants for two groups, then f16 scales of 64 weights each.
// weight = d (q - 1).
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let q = w[row + (group >> 1u)] >> (16u * (group & 1u));
    let d = half_at(row + GROUPS / 2u, group >> 3u);
    return mat2x4<f32>(d * (vec4<f32>(pairs(q)) - 1.0), d * (vec4<f32>(pairs(q >> 8u)) - 1.0));
}
