// F16: four words a group, two numbers a word. `unpack2x16float` is core WGSL: shader-f16 is not needed.
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let at = row + 4u * group;
    return mat2x4<f32>(
        vec4<f32>(unpack2x16float(w[at]), unpack2x16float(w[at + 1u])),
        vec4<f32>(unpack2x16float(w[at + 2u]), unpack2x16float(w[at + 3u])),
    );
}
