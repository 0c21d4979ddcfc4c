// matmul_direct: what `matmul` computes, for adapters that compute on the CPU                        (prefill, training)
// y[t, FIRST + STEP n] = FACTOR (sum_k x[t, k] W[n, k] + bias[n]) (+ y); shapes, LORA and SCALED as in matmul.
// There workgroup memory is ordinary memory and a barrier a switch of all threads: nothing is shared here.
// Workgroup: a tile of 16 rows t and 2 WG columns n; thread: two columns, so that every weight that it decodes meets 16 rows,
// and every x that it reads two columns.
// f32 sums in the order of k.
override GROUPS: u32;
override ROW_WORDS: u32;
override ROW: u32;
override COUNT: u32;
override FIRST: u32 = 0u;
override STEP: u32 = 1u;
override STRIDE: u32;
override BIAS: bool = false;
override ADD: bool = false;
override SCALED: bool = false;
override LORA: bool = false;
override FACTOR: f32 = 1.0;
override WG: u32 = 32u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> w: array<u32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> lora_b: array<f32>;
@group(0) @binding(4) var<storage, read> lora_z: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let t0 = 16u * workgroup.y;
    let n0 = 2u * (WG * workgroup.x + lane);
    if (t0 >= state.rows || n0 >= COUNT) {
        return;
    }
    // Rows and columns behind the last are read as the last, and not written.
    let last = state.rows - 1u;
    var at: array<u32, 16>;
    for (var i = 0u; i < 16u; i += 1u) {
        at[i] = 2u * GROUPS * min(t0 + i, last);
    }
    let second = min(n0 + 1u, COUNT - 1u);
    var sum: array<vec2<f32>, 16>;
    for (var g = 0u; g < GROUPS; g += 1u) {
        let a = weights8(n0 * ROW_WORDS, g);
        let b = weights8(second * ROW_WORDS, g);
        for (var i = 0u; i < 16u; i += 1u) {
            let low = x[at[i] + 2u * g];
            let high = x[at[i] + 2u * g + 1u];
            sum[i] += vec2<f32>(dot(low, a[0]) + dot(high, a[1]), dot(low, b[0]) + dot(high, b[1]));
        }
    }
    for (var c = 0u; c < 2u && n0 + c < COUNT; c += 1u) {
        let n = n0 + c;
        for (var i = 0u; i < 16u; i += 1u) {
            let t = t0 + i;
            if (t < state.rows) {
                var value = sum[i][c];
                if (LORA) {
                    let b = RANK * (ROW + n);
                    let z = RANK * (PARTS * t + lora_part(ROW + n));
                    for (var r = 0u; r < RANK; r += 1u) {
                        value += lora_b[b + r] * lora_z[z + r];
                    }
                }
                if (SCALED) {
                    value *= bias[(ROW + n) % RANK];
                }
                if (BIAS) {
                    value += bias[ROW + n];
                }
                value *= FACTOR;
                let to = t * STRIDE + FIRST + STEP * (ROW + n);
                if (ADD) {
                    y[to] += value;
                } else {
                    y[to] = value;
                }
            }
        }
    }
}
