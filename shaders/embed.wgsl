// embed: x[t, :] = FACTOR E[tokens[t], :]
// E (rows of this part, 8 GROUPS) in any block format; x (rows, 8 GROUPS) f32. A table beyond the binding limit comes in
// parts: each dispatch writes only the tokens of its rows ROW .. ROW + COUNT.
// Workgroup: one row; thread: groups of 8 columns. Nothing is summed.
// Preconditions: tokens[t] < vocabulary for t < state.rows.
override GROUPS: u32;
override ROW_WORDS: u32;
override ROW: u32;
override COUNT: u32;
override FACTOR: f32 = 1.0;
override WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> tokens: array<u32>;
@group(0) @binding(1) var<storage, read> w: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let t = workgroup.x;
    if (t >= state.rows) {
        return;
    }
    let token = tokens[t];
    if (token < ROW || token >= ROW + COUNT) {
        return;
    }
    for (var g = lane; g < GROUPS; g += WG) {
        let values = weights8((token - ROW) * ROW_WORDS, g);
        x[2u * (t * GROUPS + g)] = values[0] * FACTOR;
        x[2u * (t * GROUPS + g) + 1u] = values[1] * FACTOR;
    }
}
