// grad_norm: sums[i] = sum g^2 over the i-th run of RUN numbers                                            (training)
// g (COUNT) f32, zeros behind it; sums (ceil(COUNT / RUN)) f32. The host adds the runs up in f64.
// Workgroup: one run; thread: every WG-th number of it. f32 sums.
override COUNT: u32;
override RUN: u32 = 4096u;
override WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let run = workgroup.x;
    let end = min(RUN * (run + 1u), COUNT);
    var squares = 0.0;
    for (var i = RUN * run + lane; i < end; i += WG) {
        squares += g[i] * g[i];
    }
    let sum = workgroup_sum(vec4<f32>(squares), lane).x;
    if (lane == 0u) {
        sums[run] = sum;
    }
}
