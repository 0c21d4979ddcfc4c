// MXFP4: a word of nibbles a group, then a byte e for each 32 weights. weight = 2^(e - 128) book[q]; for e = 0 and 1 the scale
// lies below the normal numbers, and counts as 0.
fn weights8(row: u32, group: u32) -> mat2x4<f32> {
    let q = w[row + group];
    let e = (w[row + GROUPS + (group >> 4u)] >> (8u * ((group >> 2u) & 3u))) & 0xffu;
    let d = bitcast<f32>((max(e, 1u) - 1u) << 23u);
    return mat2x4<f32>(d * look_up16(book(), q), d * look_up16(book(), q >> 16u));
}
