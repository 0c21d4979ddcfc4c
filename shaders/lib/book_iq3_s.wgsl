// IQ3_S: 1, 3, 5, 7, 9, 11, 13, 15, and the same below zero, as signed bytes.
fn book() -> vec4<u32> {
    return vec4<u32>(0x07050301u, 0x0f0d0b09u, 0xf9fbfdffu, 0xf1f3f5f7u);
}
