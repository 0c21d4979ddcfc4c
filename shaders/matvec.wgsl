// matvec: y = FACTOR (W h + bias) (+ y), h = NORM ? x gain / sqrt(mean(x^2) + EPS) : x       for one row x, the decode path
// W: COUNT rows from row ROW of the whole matrix (a matrix beyond the binding limit comes in parts), 8 GROUPS columns, any
// block format; x row state.head_row of (rows, 8 GROUPS), gain (8 GROUPS), bias (N), result n goes to y[FIRST + STEP n].
// GATE: rows come in pairs (gate, up) and y[i] = act(gate_i) up_i, see lib/gate: half as many results.
// CAP: results y become CAP tanh(y / CAP), where it is not 0.
// LORA: B z is added in front of the bias; B (N, RANK), z (parts, RANK), a row takes the z of its tensor: see lib/lora.
// SCALED: results are multiplied by bias[n % RANK], which is how z = s (A h) is made.
// Workgroup: 4 rows, folded over x and y of the grid; thread: groups of 8 columns of all 4 rows. f32 sums; the norm's
// scale is one factor of the whole row, so it is applied to the finished sum. Preconditions: padding columns are 0.
override GROUPS: u32;
override COLUMNS: u32;
override ROW_WORDS: u32;
override ROW: u32;
override COUNT: u32;
override FIRST: u32 = 0u;
override STEP: u32 = 1u;
override NORM: bool = false;
override BIAS: bool = false;
override ADD: bool = false;
override GATE: bool = false;
override SCALED: bool = false;
override LORA: bool = false;
override FACTOR: f32 = 1.0;
override CAP: f32 = 0.0;
override EPS: f32 = 0.0;
override WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> w: array<u32>;
@group(0) @binding(2) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> lora_b: array<f32>;
@group(0) @binding(5) var<storage, read> lora_z: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read> state: State;

fn dot8(row: u32, group: u32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    let values = weights8(row * ROW_WORDS, group);
    return dot(values[0], a) + dot(values[1], b);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = 4u * (workgroup.y * grid.x + workgroup.x);
    if (first >= COUNT) {
        return;
    }
    // The last workgroup may have fewer than 4 rows: it sums its last row again and does not write it.
    let last = COUNT - 1u;
    let rows = min(vec4<u32>(first, first + 1u, first + 2u, first + 3u), vec4<u32>(last));
    let x_row = 2u * GROUPS * state.head_row;
    var sums = vec4<f32>();
    var squares = 0.0;
    for (var g = lane; g < GROUPS; g += WG) {
        var a = x[x_row + 2u * g];
        var b = x[x_row + 2u * g + 1u];
        if (NORM) {
            squares += dot(a, a) + dot(b, b);
            a *= gain[2u * g];
            b *= gain[2u * g + 1u];
        }
        sums += vec4<f32>(dot8(rows.x, g, a, b), dot8(rows.y, g, a, b), dot8(rows.z, g, a, b), dot8(rows.w, g, a, b));
    }
    sums = workgroup_sum(sums, lane);
    if (NORM) {
        let mean = workgroup_sum(vec4<f32>(squares), lane).x / f32(COLUMNS);
        sums *= inverseSqrt(mean + EPS);
    }
    let at = rows + vec4<u32>(ROW);
    if (LORA) {
        let z = RANK * vec4<u32>(lora_part(at.x), lora_part(at.y), lora_part(at.z), lora_part(at.w));
        var added = vec4<f32>();
        for (var j = lane; j < RANK; j += WG) {
            let b = RANK * at + vec4<u32>(j);
            added += vec4<f32>(lora_b[b.x], lora_b[b.y], lora_b[b.z], lora_b[b.w])
                * vec4<f32>(lora_z[z.x + j], lora_z[z.y + j], lora_z[z.z + j], lora_z[z.w + j]);
        }
        sums += workgroup_sum(added, lane);
    }
    if (lane != 0u) {
        return;
    }
    if (SCALED) {
        sums *= vec4<f32>(bias[at.x % RANK], bias[at.y % RANK], bias[at.z % RANK], bias[at.w % RANK]);
    }
    if (BIAS) {
        sums += vec4<f32>(bias[at.x], bias[at.y], bias[at.z], bias[at.w]);
    }
    sums *= FACTOR;
    if (CAP > 0.0) {
        sums = CAP * tanh(clamp(sums / CAP, vec4<f32>(-10.0), vec4<f32>(10.0)));
    }
    if (GATE) {
        let products = vec2<f32>(gate(sums.x), gate(sums.z)) * sums.yw;
        let pair = (ROW + first) / 2u;
        y[pair] = products.x;
        if (first + 2u < COUNT) {
            y[pair + 1u] = products.y;
        }
        return;
    }
    for (var i = 0u; i < 4u; i += 1u) {
        if (first + i < COUNT) {
            let place = FIRST + STEP * (ROW + first + i);
            if (ADD) {
                y[place] += sums[i];
            } else {
                y[place] = sums[i];
            }
        }
    }
}
