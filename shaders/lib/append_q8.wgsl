// KV cache in q8, as rope_append writes it: a head is gathered, then each block of 32 numbers (the last may be shorter) is written
// as signed bytes q with d = max |x| / 127, x = d q. A head is HEAD / 4 words of bytes, then a word for each d.
alias cached = u32;

var<workgroup> gathered: array<f32, HEAD>;

fn append(is_key: bool, head: u32, i: u32, value: f32) {
    gathered[i] = value;
}

fn close(is_key: bool, head: u32, lane: u32) {
    workgroupBarrier();
    let at = head * (HEAD / 4u + (HEAD + 31u) / 32u);
    for (var block = lane; block < (HEAD + 31u) / 32u; block += WG) {
        let first = 32u * block;
        let count = min(32u, HEAD - first);
        var most = 0.0;
        for (var i = 0u; i < count; i += 1u) {
            most = max(most, abs(gathered[first + i]));
        }
        var d = 0.0;
        var inverse = 0.0;
        if (most > 1.0e-30) { // below, 127 / most might not be finite
            d = most / 127.0;
            inverse = 127.0 / most;
        }
        keep(is_key, at + HEAD / 4u + block, bitcast<u32>(d));
        for (var i = 0u; i < count; i += 4u) {
            let start = first + i;
            let four = vec4<f32>(gathered[start], gathered[start + 1u], gathered[start + 2u], gathered[start + 3u]);
            let quants = vec4<i32>(clamp(round(four * inverse), vec4<f32>(-127.0), vec4<f32>(127.0)));
            let bytes = (bitcast<vec4<u32>>(quants) & vec4<u32>(255u)) << vec4<u32>(0u, 8u, 16u, 24u);
            keep(is_key, at + start / 4u, bytes.x | bytes.y | bytes.z | bytes.w);
        }
    }
}
