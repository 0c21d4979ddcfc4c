// KV cache in f16, as rope_append writes it: a head is gathered, then two numbers are packed into a word. Beyond the range of f16
// the packing is undefined, so the largest number stands there.
alias cached = u32;

var<workgroup> gathered: array<f32, HEAD>;

fn append(is_key: bool, head: u32, i: u32, value: f32) {
    gathered[i] = value;
}

fn close(is_key: bool, head: u32, lane: u32) {
    workgroupBarrier();
    for (var i = lane; i < HEAD / 2u; i += WG) {
        let pair = vec2<f32>(gathered[2u * i], gathered[2u * i + 1u]);
        let inside = clamp(pair, vec2<f32>(-65504.0), vec2<f32>(65504.0));
        keep(is_key, head * (HEAD / 2u) + i, pack2x16float(inside));
    }
}
