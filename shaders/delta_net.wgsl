// delta_net: S = e^g S, S += beta (v - S k) k^T, y = S q / sqrt(KEY), g = a softplus(alpha + dt_bias), per head, token after token
// qkv (state.rows, STRIDE) f32 = q (KEY_HEADS KEY) | k (KEY_HEADS KEY) | v (HEADS HEAD), q and k divided by their lengths here;
// value head h takes key head h mod KEY_HEADS. beta' and alpha (HEADS each) at columns BETA and ALPHA of projection
// (state.rows, IN), beta = sigmoid(beta'); params = dt_bias | a, each (HEADS); y (state.rows, OUT).
// carry (RING, HEADS, HEAD, KEY): S after n tokens is in slot n mod RING; before the first token S is 0.
// Workgroup: WG / LANES rows of S of one head; thread: every LANES-th group of 4 of a row's KEY, in registers, rows in order.
// f32; S k, S q, k q and the lengths are summed over S as it was, so that a token has one barrier. Preconditions: 4 LANES divides
// KEY, KEY <= 32 LANES, 4 divides HEAD and STRIDE. Yang, Kautz and Hatamizadeh, "Gated Delta Networks" (2024), eq. 10.
override STRIDE: u32;
override IN: u32;
override BETA: u32;
override ALPHA: u32;
override OUT: u32;
override HEADS: u32;
override HEAD: u32;
override KEY_HEADS: u32;
override KEY: u32;
override LANES: u32 = 1u;
override RING: u32 = 1u;
override WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> projection: array<f32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;
@group(0) @binding(3) var<storage, read_write> carry: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> state: State;

// Two turns, so that one barrier a token is enough.
var<workgroup> products: array<vec4<f32>, 2 * WG>;
var<workgroup> lengths: array<f32, 2 * WG>;

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
    let mine = KEY / (4u * LANES);
    let slot = HEADS * HEAD * (KEY / 4u);
    let q_first = (head % KEY_HEADS) * (KEY / 4u);
    let k_first = q_first + KEY_HEADS * (KEY / 4u);
    let v_first = 2u * KEY_HEADS * KEY + row;
    let from_slot = (state.position % RING) * slot + row * (KEY / 4u) + lane;
    var s: array<vec4<f32>, 8>;
    for (var j = 0u; j < mine; j += 1u) {
        s[j] = select(carry[from_slot + j * LANES], vec4<f32>(), state.position == 0u);
    }
    for (var t = 0u; t < state.rows; t += 1u) {
        let raw = projection[t * IN + ALPHA + head] + params[head];
        let decay = exp(params[HEADS + head] * (max(raw, 0.0) + log(1.0 + exp(-abs(raw)))));
        let beta = 1.0 / (1.0 + exp(-projection[t * IN + BETA + head]));
        let at = t * (STRIDE / 4u);
        let v = qkv[at + v_first / 4u][v_first % 4u];
        var sums = vec4<f32>(); // S k, S q, k q, k k
        var qq = 0.0;
        for (var j = 0u; j < mine; j += 1u) {
            let q = qkv[at + q_first + lane + j * LANES];
            let k = qkv[at + k_first + lane + j * LANES];
            sums += vec4<f32>(dot(s[j], k), dot(s[j], q), dot(k, q), dot(k, k));
            qq += dot(q, q);
        }
        if (LANES > 1u) {
            let turn = (t % 2u) * WG;
            products[turn + index] = sums;
            lengths[turn + index] = qq;
            workgroupBarrier();
            sums = vec4<f32>();
            qq = 0.0;
            for (var i = 0u; i < LANES; i += 1u) {
                sums += products[turn + index - lane + i];
                qq += lengths[turn + index - lane + i];
            }
        }
        // The epsilon of the lengths is the one that the networks were trained with.
        let k_scale = inverseSqrt(sums.w + 1e-6);
        let q_scale = inverseSqrt(qq + 1e-6) * inverseSqrt(f32(KEY));
        let delta = beta * (v - decay * k_scale * sums.x) * k_scale;
        for (var j = 0u; j < mine; j += 1u) {
            s[j] = decay * s[j] + delta * qkv[at + k_first + lane + j * LANES];
        }
        if (lane == 0u && p < HEAD) {
            y[t * OUT + row] = q_scale * (decay * sums.y + delta * sums.z);
        }
    }
    if (p < HEAD) {
        let to = ((state.position + state.rows) % RING) * slot + row * (KEY / 4u) + lane;
        for (var j = 0u; j < mine; j += 1u) {
            carry[to + j * LANES] = s[j];
        }
    }
}
