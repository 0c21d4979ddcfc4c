// mamba2: S = exp(dt a) S + dt x B^T, y = S C + d x, dt = softplus(dt' + dt_bias), per head, token after token (recurrent layers)
// xbc (state.rows, STRIDE) f32 = x (HEADS HEAD) | B (GROUPS N) | C (GROUPS N), heads in turn share a group's B and C;
// dt' (HEADS) at column DT of projection (state.rows, IN); params = dt_bias | a | d, each (HEADS); y (state.rows, OUT).
// carry (RING, HEADS, HEAD, N): S after n tokens is in slot n mod RING; before the first token S is 0.
// Workgroup: WG / LANES rows of S of one head; thread: every LANES-th group of 4 of a row's N, in registers, rows in order.
// f32. Preconditions: 4 LANES divides N, N <= 32 LANES, 4 divides HEADS HEAD and STRIDE. Dao and Gu (2024).
override STRIDE: u32;
override IN: u32;
override DT: u32;
override OUT: u32;
override HEADS: u32;
override HEAD: u32;
override GROUPS: u32;
override N: u32;
override LANES: u32 = 1u;
override RING: u32 = 1u;
override WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> xbc: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> projection: array<f32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;
@group(0) @binding(3) var<storage, read_write> carry: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> state: State;

// Two turns, so that one barrier a token is enough.
var<workgroup> sums: array<f32, 2 * WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let tall = WG / LANES;
    let tiles = (HEAD + tall - 1u) / tall;
    let head = workgroup.x / tiles;
    if (head >= HEADS) {
        return;
    }
    let lane = index % LANES;
    let p = (workgroup.x % tiles) * tall + index / LANES;
    // Threads behind the last row repeat it and write nothing.
    let row = head * HEAD + min(p, HEAD - 1u);
    let mine = N / (4u * LANES);
    let slot = HEADS * HEAD * (N / 4u);
    let b_first = (HEADS * HEAD + head / (HEADS / GROUPS) * N) / 4u;
    let c_first = b_first + GROUPS * N / 4u;
    let from_slot = (state.position % RING) * slot + row * (N / 4u) + lane;
    var s: array<vec4<f32>, 8>;
    for (var j = 0u; j < mine; j += 1u) {
        s[j] = select(carry[from_slot + j * LANES], vec4<f32>(), state.position == 0u);
    }
    for (var t = 0u; t < state.rows; t += 1u) {
        let raw = projection[t * IN + DT + head] + params[head];
        let dt = max(raw, 0.0) + log(1.0 + exp(-abs(raw)));
        let decay = exp(dt * params[HEADS + head]);
        let at = t * (STRIDE / 4u);
        let x = xbc[at + row / 4u][row % 4u];
        var sum = 0.0;
        for (var j = 0u; j < mine; j += 1u) {
            let n = at + lane + j * LANES;
            s[j] = decay * s[j] + (dt * x) * xbc[b_first + n];
            sum += dot(s[j], xbc[c_first + n]);
        }
        if (LANES > 1u) {
            let turn = (t % 2u) * WG;
            sums[turn + index] = sum;
            workgroupBarrier();
            sum = 0.0;
            for (var i = 0u; i < LANES; i += 1u) {
                sum += sums[turn + index - lane + i];
            }
        }
        if (lane == 0u && p < HEAD) {
            y[t * OUT + row] = sum + params[2u * HEADS + head] * x;
        }
    }
    if (p < HEAD) {
        let to = ((state.position + state.rows) % RING) * slot + row * (N / 4u) + lane;
        for (var j = 0u; j < mine; j += 1u) {
            carry[to + j * LANES] = s[j];
        }
    }
}
