// Small readers that the block decoders share. A weight row is a run of 32-bit words in `w`.

// The f16 number at half-word `index`, counted from word `base`.
fn half_at(base: u32, index: u32) -> f32 {
    let pair = unpack2x16float(w[base + (index >> 1u)]);
    return select(pair.x, pair.y, (index & 1u) == 1u);
}

// The four lowest nibbles of `bits`, lowest first.
fn nibbles(bits: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(bits) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u));
}

// The four lowest bits of `bits`, lowest first, each as 0 or 16: the fifth bit of a 5-bit quant.
fn fifth_bits(bits: u32) -> vec4<f32> {
    return vec4<f32>(((vec4<u32>(bits) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u)) << vec4<u32>(4u));
}

// The four lowest 2-bit fields of `bits`, lowest first, each times 16: the upper bits of a 6-bit quant.
fn upper_pairs(bits: u32) -> vec4<f32> {
    return vec4<f32>(((vec4<u32>(bits) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u)) << vec4<u32>(4u));
}

// The four signed bytes of `bits`, lowest first.
fn signed_bytes(bits: u32) -> vec4<f32> {
    let high = bitcast<vec4<i32>>(vec4<u32>(bits) << vec4<u32>(24u, 16u, 8u, 0u));
    return vec4<f32>(high >> vec4<u32>(24u));
}
