// IQ1_S and IQ1_M: eight times (-1, 0, 1), less and plus an eighth: -9, -1, 7, none, -7, 1, 9, none, as signed bytes.
fn book() -> vec2<u32> {
    return vec2<u32>(0x0007fff7u, 0x000901f9u);
}
