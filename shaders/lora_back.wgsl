// lora_back: dz[t, RANK p + j] = scales[j] sum_n dy[t, n] B[n, j] over the rows n of tensor p              (training)
// dy (state.rows, COUNT) f32, B (COUNT, RANK) f32, scales (RANK), dz (state.rows, PARTS RANK) f32; lib/lora says which
// rows are a tensor's.
// Workgroup: four rows t; thread: elements of dz, so that neighbours read neighbouring B. f32 sums in the order of n.
override COUNT: u32;
override WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> lora_b: array<f32>;
@group(0) @binding(2) var<storage, read> scales: array<f32>;
@group(0) @binding(3) var<storage, read_write> dz: array<f32>;
@group(0) @binding(4) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let t0 = 4u * workgroup.x;
    if (t0 >= state.rows) {
        return;
    }
    let last = state.rows - 1u;
    let at = COUNT * min(vec4<u32>(t0, t0 + 1u, t0 + 2u, t0 + 3u), vec4<u32>(last));
    let wide = PARTS * RANK;
    for (var e = lane; e < wide; e += WG) {
        let j = e % RANK;
        let rows = lora_rows(e / RANK, COUNT);
        var sum = vec4<f32>();
        for (var n = rows.x; n < rows.y; n += TURN) {
            sum += lora_b[RANK * n + j] * vec4<f32>(dy[at.x + n], dy[at.y + n], dy[at.z + n], dy[at.w + n]);
        }
        for (var i = 0u; i < 4u; i += 1u) {
            if (t0 + i < state.rows) {
                dz[wide * (t0 + i) + e] = scales[j] * sum[i];
            }
        }
    }
}
