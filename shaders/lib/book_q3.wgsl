// Q3_K: -4 to 3, as signed bytes.
fn book() -> vec2<u32> {
    return vec2<u32>(0xfffefdfcu, 0x03020100u);
}
