// gated_norm: y = norm(y silu(z)) gain with GATE_FIRST (Mamba 2), else norm(y) gain silu(z) (gated delta nets)  (recurrent layers)
// norm(h) = h / sqrt(mean(h^2) + EPS) over each run of WIDTH columns. y (state.rows, OUT) f32, changed in place; z at column FIRST
// of projection (state.rows, IN); gain (GAIN): one for all runs, or one a run. silu(a) = a / (1 + exp(-a)).
// Workgroup: one run of one row; thread: columns. f32 sums.
override IN: u32;
override FIRST: u32;
override OUT: u32;
override WIDTH: u32;
override GAIN: u32;
override GATE_FIRST: bool = false;
override EPS: f32 = 0.0;
override WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> projection: array<f32>;
@group(0) @binding(1) var<storage, read> gain: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let t = workgroup.y;
    if (t >= state.rows) {
        return;
    }
    let run = workgroup.x * WIDTH;
    var squares = 0.0;
    for (var i = run + lane; i < run + WIDTH; i += WG) {
        var value = y[t * OUT + i];
        if (GATE_FIRST) {
            let z = projection[t * IN + FIRST + i];
            value *= z / (1.0 + exp(-z));
        }
        squares += value * value;
    }
    let scale = inverseSqrt(workgroup_sum(vec4<f32>(squares), lane).x / f32(WIDTH) + EPS);
    for (var i = run + lane; i < run + WIDTH; i += WG) {
        let z = projection[t * IN + FIRST + i];
        y[t * OUT + i] *= scale * gain[i % GAIN] * (z / (1.0 + exp(-z)));
    }
}
