// rms_norm: y[t, :] = x[t, :] gain / sqrt(mean(x[t, :]^2) + EPS)                                     (prefill)
// x, y (state.rows, 8 GROUPS) f32, gain (8 GROUPS) f32; COLUMNS of the 8 GROUPS are real, the padding is 0.
// ADD: the result is multiplied by FACTOR and added to y: a norm behind a part of a layer (decode too).
// Workgroup: one row; thread: groups of 8 columns. f32 sums.
override GROUPS: u32;
override COLUMNS: u32;
override EPS: f32 = 0.0;
override ADD: bool = false;
override FACTOR: f32 = 1.0;
override WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (workgroup.x >= state.rows) {
        return;
    }
    let row = 2u * GROUPS * workgroup.x;
    var squares = 0.0;
    for (var i = lane; i < 2u * GROUPS; i += WG) {
        squares += dot(x[row + i], x[row + i]);
    }
    let scale = inverseSqrt(workgroup_sum(vec4<f32>(squares), lane).x / f32(COLUMNS) + EPS);
    for (var i = lane; i < 2u * GROUPS; i += WG) {
        let normed = x[row + i] * gain[i] * scale;
        if (ADD) {
            y[row + i] += FACTOR * normed;
        } else {
            y[row + i] = normed;
        }
    }
}
