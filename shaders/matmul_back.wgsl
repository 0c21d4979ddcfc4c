// matmul_back: dx[t, k] = sum_n dy[t, n] W[n, k] + sum_j dz[t, j] A[j, k] (+ dx)                 (training)
// What `matmul` sends back. dy (state.rows, STRIDE) f32, read from column ROW on; W: COUNT rows from row ROW of the whole
// matrix, 8 GROUPS columns, any block format; dx (state.rows, 8 GROUPS) f32.
// LORA: the pairs' share is added; dz (state.rows, PARTS RANK), A (PARTS RANK, 8 GROUPS) f32.
// Workgroup: a tile of 16 rows t and WG groups of 8 columns; thread: one group, so that every weight that it decodes
// meets 16 rows. f32 sums in the order of n.
override GROUPS: u32;
override ROW_WORDS: u32;
override ROW: u32;
override COUNT: u32;
override STRIDE: u32;
override ADD: bool = false;
override LORA: bool = false;
override WG: u32 = 32u;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<u32>;
@group(0) @binding(2) var<storage, read> lora_a: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> lora_dz: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let t0 = 16u * workgroup.y;
    let group = WG * workgroup.x + lane;
    if (t0 >= state.rows || group >= GROUPS) {
        return;
    }
    // Rows behind the last are read as the last, and not written.
    let last = state.rows - 1u;
    var at: array<u32, 16>;
    for (var i = 0u; i < 16u; i += 1u) {
        at[i] = min(t0 + i, last);
    }
    var low: array<vec4<f32>, 16>;
    var high: array<vec4<f32>, 16>;
    for (var n = 0u; n < COUNT; n += 1u) {
        let weights = weights8(n * ROW_WORDS, group);
        for (var i = 0u; i < 16u; i += 1u) {
            let d = dy[at[i] * STRIDE + ROW + n];
            low[i] += d * weights[0];
            high[i] += d * weights[1];
        }
    }
    if (LORA) {
        let wide = PARTS * RANK;
        for (var j = 0u; j < wide; j += 1u) {
            let a = 2u * (GROUPS * j + group);
            for (var i = 0u; i < 16u; i += 1u) {
                let d = lora_dz[at[i] * wide + j];
                low[i] += d * lora_a[a];
                high[i] += d * lora_a[a + 1u];
            }
        }
    }
    for (var i = 0u; i < 16u; i += 1u) {
        if (t0 + i < state.rows) {
            let to = 2u * (GROUPS * (t0 + i) + group);
            if (ADD) {
                dx[to] += low[i];
                dx[to + 1u] += high[i];
            } else {
                dx[to] = low[i];
                dx[to + 1u] = high[i];
            }
        }
    }
}
