// The four signed bytes of `bits`, lowest first.
fn signed_bytes(bits: u32) -> vec4<f32> {
    let high = bitcast<vec4<i32>>(vec4<u32>(bits) << vec4<u32>(24u, 16u, 8u, 0u));
    return vec4<f32>(high >> vec4<u32>(24u));
}
