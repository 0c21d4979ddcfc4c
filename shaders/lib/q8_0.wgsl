// Q8_0: two words of signed bytes a group, then f16 scales of 32 weights each. weight = d q.
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let at = row + 2u * group;
    let d = half_at(row + 2u * GROUPS, group >> 2u);
    return mat2x4<f32>(d * signed_bytes(w[at]), d * signed_bytes(w[at + 1u]));
}
