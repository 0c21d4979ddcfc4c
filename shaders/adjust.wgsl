// adjust: moves the logits of some tokens before `sample` looks at them: biases, penalties, DRY
// logits (VOCABULARY) f32, changed in place; list: list[0].x = how many entries there are, then for each (id, bias, repeat, minus),
// the last three as bits of f32. l + bias; that times repeat where it is not above 0, else divided by it; less minus.
// An id comes once, so no two threads meet. One workgroup of 64; a thread takes every 64th entry.
@group(0) @binding(0) var<storage, read_write> logits: array<f32>;
@group(0) @binding(1) var<storage, read> list: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    for (var i = lane; i < list[0].x; i += 64u) {
        let entry = list[i + 1u];
        let biased = logits[entry.x] + bitcast<f32>(entry.y);
        let repeat = bitcast<f32>(entry.z);
        logits[entry.x] = select(biased / repeat, biased * repeat, biased <= 0.0) - bitcast<f32>(entry.w);
    }
}
