// lora_grad: g[i, j] += sum_t a[t, i] b[t, RANK part(i) + j]                                              (training)
// The gradient of a pair: of B with a = dy (state.rows, COUNT), b = z (state.rows, PARTS RANK), PICK; of A with
// a = dz (state.rows, COUNT = PARTS RANK), b = h (state.rows, WIDE), without. g (COUNT, WIDTH) f32; WIDTH and WIDE, the
// floats of a row of b, are multiples of 4.
// Thread: four rows i and four columns j. f32 sums in the order of t.
override COUNT: u32;
override WIDTH: u32;
override WIDE: u32;
override PICK: bool = false;
override WG: u32 = 32u;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let columns = WIDTH / 4u;
    let tiles = columns * ((COUNT + 3u) / 4u);
    let tile = WG * workgroup.x + lane;
    if (tile >= tiles) {
        return;
    }
    let j = tile % columns;
    let i0 = 4u * (tile / columns);
    let rows = min(vec4<u32>(i0, i0 + 1u, i0 + 2u, i0 + 3u), vec4<u32>(COUNT - 1u));
    var first = vec4<u32>();
    if (PICK) {
        first = RANK / 4u * vec4<u32>(lora_part(rows.x), lora_part(rows.y), lora_part(rows.z), lora_part(rows.w));
    }
    var sum: array<vec4<f32>, 4>;
    for (var t = 0u; t < state.rows; t += 1u) {
        let at = COUNT * t;
        let beside = WIDE / 4u * t + j;
        if (PICK) {
            sum[0] += a[at + rows.x] * b[beside + first.x];
            sum[1] += a[at + rows.y] * b[beside + first.y];
            sum[2] += a[at + rows.z] * b[beside + first.z];
            sum[3] += a[at + rows.w] * b[beside + first.w];
        } else {
            let values = b[beside];
            sum[0] += a[at + rows.x] * values;
            sum[1] += a[at + rows.y] * values;
            sum[2] += a[at + rows.z] * values;
            sum[3] += a[at + rows.w] * values;
        }
    }
    for (var i = 0u; i < 4u; i += 1u) {
        if (i0 + i < COUNT) {
            g[columns * (i0 + i) + j] += sum[i];
        }
    }
}
