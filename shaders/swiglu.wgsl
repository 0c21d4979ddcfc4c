// swiglu: y[t, i] = act(gate) up with (gate, up) = x[t, 2 i .. 2 i + 2], act as in lib/gate    (prefill)
// x (state.rows, IN) f32 pairs, y (state.rows, OUT) f32; WIDTH results a row.
// Workgroup: 64 results of one row; thread: one result. f32, no sums.
// Preconditions: IN >= 2 WIDTH, OUT >= WIDTH. In decode this is the GATE epilogue of matvec.
override IN: u32;
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
    y[t * OUT + i] = gate(x[t * IN + 2u * i]) * x[t * IN + 2u * i + 1u];
}
