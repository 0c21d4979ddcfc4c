// BF16: four words a group, two numbers a word; a bfloat16 is the upper half of an f32.
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let at = row + 4u * group;
    let words = vec4<u32>(w[at], w[at + 1u], w[at + 2u], w[at + 3u]);
    let even = bitcast<vec4<f32>>(words << vec4<u32>(16u));
    let odd = bitcast<vec4<f32>>(words & vec4<u32>(0xffff0000u));
    return mat2x4<f32>(vec4<f32>(even.x, odd.x, even.y, odd.y), vec4<f32>(even.z, odd.z, even.w, odd.w));
}
