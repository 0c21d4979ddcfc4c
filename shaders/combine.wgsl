// combine: y[t, h, :] = sum_s parts[t, h, s, :] exp(m_s - M) / sum_s l_s exp(m_s - M), M = max_s m_s
// parts (state.rows, HEADS, SPLITS, HEAD) f32 and marks (rows, HEADS, SPLITS) of (m, l) from `attend`; y (rows, HEADS HEAD).
// Thread: 4 elements of one head of one row. f32 sums. A split that saw nothing has l = 0 and a very low m: it weighs 0.
override HEADS: u32;
override HEAD: u32;
override SPLITS: u32;

@group(0) @binding(0) var<storage, read> parts: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> marks: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> state: State;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quarter = HEAD / 4u;
    let i = 64u * workgroup.x + lane;
    let t = workgroup.y;
    if (t >= state.rows || i >= HEADS * quarter) {
        return;
    }
    let base = (t * HEADS + i / quarter) * SPLITS;
    var maximum = marks[base].x;
    for (var s = 1u; s < SPLITS; s += 1u) {
        maximum = max(maximum, marks[base + s].x);
    }
    var sum = vec4<f32>();
    var total = 0.0;
    for (var s = 0u; s < SPLITS; s += 1u) {
        let weight = exp(marks[base + s].x - maximum);
        sum += weight * parts[(base + s) * quarter + i % quarter];
        total += weight * marks[base + s].y;
    }
    y[t * HEADS * quarter + i] = sum / total;
}
