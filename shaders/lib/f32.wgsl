// F32: eight words a group.
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let at = row + 8u * group;
    return mat2x4<f32>(
        bitcast<vec4<f32>>(vec4<u32>(w[at], w[at + 1u], w[at + 2u], w[at + 3u])),
        bitcast<vec4<f32>>(vec4<u32>(w[at + 4u], w[at + 5u], w[at + 6u], w[at + 7u])),
    );
}
