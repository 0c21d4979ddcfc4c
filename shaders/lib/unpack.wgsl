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

// The four lowest 2-bit fields of `bits`, lowest first.
fn pairs(bits: u32) -> vec4<u32> {
    return (vec4<u32>(bits) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u);
}

// The four lowest bits of `bits`, lowest first, each as 0 or 4: the third bit of a 3-bit code.
fn third_bits(bits: u32) -> vec4<u32> {
    return ((vec4<u32>(bits) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u)) << vec4<u32>(2u);
}

// Byte `k` (0..4) of each word of `words`, with its sign.
fn signed_byte(words: vec4<u32>, k: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(words << (vec4<u32>(24u) - 8u * k)) >> vec4<u32>(24u));
}

// Books are functions and not constants: naga (30) cannot order the types of a module with a constant vector and an array whose
// length is an override, as matvec has.
//
// What a book of eight signed bytes says for codes below 8. Selections, because an array that is indexed by data lies in slow
// memory on some devices.
fn look_up8(book: vec2<u32>, codes: vec4<u32>) -> vec4<f32> {
    let words = select(vec4<u32>(book.x), vec4<u32>(book.y), (codes & vec4<u32>(4u)) != vec4<u32>(0u));
    return signed_byte(words, codes & vec4<u32>(3u));
}

// The same for a book of sixteen and the four lowest nibbles of `bits`.
fn look_up16(book: vec4<u32>, bits: u32) -> vec4<f32> {
    let codes = (vec4<u32>(bits) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    let odd = (codes & vec4<u32>(4u)) != vec4<u32>(0u);
    let low = select(vec4<u32>(book.x), vec4<u32>(book.y), odd);
    let high = select(vec4<u32>(book.z), vec4<u32>(book.w), odd);
    let words = select(low, high, codes >= vec4<u32>(8u));
    return signed_byte(words, codes & vec4<u32>(3u));
}
