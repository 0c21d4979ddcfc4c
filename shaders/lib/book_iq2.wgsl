// IQ2_XXS, IQ2_XS and IQ2_S: 8, 25, 43, none, and the same below zero, as signed bytes.
fn book() -> vec2<u32> {
    return vec2<u32>(0x002b1908u, 0x00d5e7f8u);
}
