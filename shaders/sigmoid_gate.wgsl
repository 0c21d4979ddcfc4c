// sigmoid_gate: y[t, h, i] = y[t, h, i] / (1 + exp(-g[t, h, i])), the gate behind gated attention
// x (state.rows, IN) f32 begins with HEAD elements of a query and HEAD elements of its gate g, head after head;
// y (state.rows, OUT) f32, WIDTH = heads HEAD results a row, changed in place.
// Workgroup: 64 results of one row; thread: one result. f32, no sums.
override IN: u32;
override OUT: u32;
override WIDTH: u32;
override HEAD: u32;

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
    let gate = x[t * IN + (2u * (i / HEAD) + 1u) * HEAD + i % HEAD];
    y[t * OUT + i] /= 1.0 + exp(-gate);
}
