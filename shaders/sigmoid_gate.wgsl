// sigmoid_gate: y[t, i] = y[t, i] / (1 + exp(-x[t, FIRST + i])), the gate behind gated attention
// x (state.rows, IN) f32, y (state.rows, OUT) f32, changed in place; WIDTH results a row.
// Workgroup: 64 results of one row; thread: one result. f32, no sums.
override IN: u32;
override FIRST: u32;
override OUT: u32;
override WIDTH: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> state: State;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = 64u * workgroup.x + lane;
    let t = workgroup.y;
    if (t >= state.rows || i >= WIDTH) {
        return;
    }
    y[t * OUT + i] /= 1.0 + exp(-x[t * IN + FIRST + i]);
}
