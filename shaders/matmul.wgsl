// matmul: y[t, FIRST + STEP n] = FACTOR (sum_k x[t, k] W[n, k] + bias[n]) (+ y)                      (prefill)
// x (state.rows, 8 GROUPS) f32, W: COUNT rows from row ROW of the whole matrix, 8 GROUPS columns, any block format,
// bias (N), y (state.rows, STRIDE) f32.
// LORA: z B^T is added in front of the bias; B (N, RANK), z (state.rows, PARTS, RANK), a column n takes the z of its
// tensor: see lib/lora. SCALED: results are multiplied by bias[n % RANK], which is how z = s (h A^T) is made.
// Workgroup: a tile of 32 rows t and 64 columns n, over k in steps of 32 through 12 KiB of workgroup memory;
// thread (of 64): 4 rows by 8 columns in registers. f32 sums in the order of k.
// Preconditions: padding columns of x and W are 0.
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

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> w: array<u32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> lora_b: array<f32>;
@group(0) @binding(4) var<storage, read> lora_z: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read> state: State;

// [k][t] and [k][n], so that the inner loop reads whole vectors.
var<workgroup> x_tile: array<vec4<f32>, 256>;
var<workgroup> w_tile: array<array<f32, 64>, 32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let t0 = 32u * workgroup.y;
    let n0 = 64u * workgroup.x;
    if (t0 >= state.rows) {
        return;
    }
    let mine_t = lane / 8u;
    let mine_n = lane % 8u;
    var low: array<vec4<f32>, 4>;
    var high: array<vec4<f32>, 4>;
    for (var g0 = 0u; g0 < GROUPS; g0 += 4u) {
        // x: lane = (row quarter, k); each lane gathers 4 rows of one k, four times.
        for (var i = 0u; i < 4u; i += 1u) {
            let slot = lane + 64u * i;
            let k4 = slot / 32u;
            let t = slot % 32u;
            var values = vec4<f32>();
            if (t0 + t < state.rows && 2u * g0 + k4 < 2u * GROUPS) {
                values = x[2u * GROUPS * (t0 + t) + 2u * g0 + k4];
            }
            x_tile[(4u * k4) * 8u + t / 4u][t % 4u] = values.x;
            x_tile[(4u * k4 + 1u) * 8u + t / 4u][t % 4u] = values.y;
            x_tile[(4u * k4 + 2u) * 8u + t / 4u][t % 4u] = values.z;
            x_tile[(4u * k4 + 3u) * 8u + t / 4u][t % 4u] = values.w;
        }
        // W: lane = row n, four groups of 8 columns.
        for (var i = 0u; i < 4u; i += 1u) {
            var values = mat2x4<f32>();
            if (n0 + lane < COUNT && g0 + i < GROUPS) {
                values = weights8((n0 + lane) * ROW_WORDS, g0 + i);
            }
            for (var k = 0u; k < 4u; k += 1u) {
                w_tile[8u * i + k][lane] = values[0][k];
                w_tile[8u * i + 4u + k][lane] = values[1][k];
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k += 1u) {
            let a = x_tile[8u * k + mine_t];
            let n = 8u * mine_n;
            let b = vec4<f32>(w_tile[k][n], w_tile[k][n + 1u], w_tile[k][n + 2u], w_tile[k][n + 3u]);
            let c = vec4<f32>(w_tile[k][n + 4u], w_tile[k][n + 5u], w_tile[k][n + 6u], w_tile[k][n + 7u]);
            low[0] += a.x * b;
            high[0] += a.x * c;
            low[1] += a.y * b;
            high[1] += a.y * c;
            low[2] += a.z * b;
            high[2] += a.z * c;
            low[3] += a.w * b;
            high[3] += a.w * c;
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i += 1u) {
        let t = t0 + 4u * mine_t + i;
        for (var j = 0u; j < 8u; j += 1u) {
            let n = n0 + 8u * mine_n + j;
            if (t < state.rows && n < COUNT) {
                var value = select(high[i][j % 4u], low[i][j % 4u], j < 4u);
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
                let at = t * STRIDE + FIRST + STEP * (ROW + n);
                if (ADD) {
                    y[at] += value;
                } else {
                    y[at] = value;
                }
            }
        }
    }
}
