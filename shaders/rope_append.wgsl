// rope_append: q = rope(norm(q)), K cache <- rope(norm(k)), V cache <- v, at positions state.position + t
// qkv (state.rows, STRIDE) f32 = HEADS query heads | KV_HEADS keys | KV_HEADS values, each HEAD wide; q (rows, HEADS HEAD);
// caches (positions, KV_HEADS) heads as `lib/append` keeps them; RING: position p lies at p mod RING, where it is not 0.
// turns (context, ROTARY / 2) of (cos, sin), made on the host in f64: shader sines are not exact for large angles.
// NEOX: pairs (i, i + ROTARY / 2), else (2 i, 2 i + 1).
// QK_NORM: 1 RMS norm of each head with q_gain or k_gain (HEAD); 2 the same behind the rotation, which keeps lengths, so that
// only the gain moves; 3 of all query heads together, and of all key heads, with gains for each element.
// ROTARY 0: nothing is turned. Workgroup: one head of one row; thread: elements.
override STRIDE: u32;
override HEADS: u32;
override KV_HEADS: u32;
override HEAD: u32;
override ROTARY: u32;
override NEOX: bool = false;
override GATED: bool = false; // each query head is followed by its gate, as wide as itself
override QK_NORM: u32 = 0u;
override RING: u32 = 0u;
override EPS: f32 = 0.0;
override WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> qkv: array<f32>;
@group(0) @binding(1) var<storage, read> gains: array<f32>; // those of q, then those of k
@group(0) @binding(2) var<storage, read> turns: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> q: array<f32>;
@group(0) @binding(4) var<storage, read_write> k_cache: array<cached>;
@group(0) @binding(5) var<storage, read_write> v_cache: array<cached>;
@group(0) @binding(6) var<storage, read> state: State;

fn keep(is_key: bool, at: u32, word: cached) {
    if (is_key) {
        k_cache[at] = word;
    } else {
        v_cache[at] = word;
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = workgroup.x;
    let t = workgroup.y;
    if (t >= state.rows) {
        return;
    }
    let source = t * STRIDE + (head + select(0u, min(head, HEADS), GATED)) * HEAD;
    let position = state.position + t;
    var place = position;
    if (RING > 0u) {
        place = position % max(RING, 1u); // a constant 0 would not compile
    }
    if (head >= HEADS + KV_HEADS) {
        let to = place * KV_HEADS + head - HEADS - KV_HEADS;
        for (var i = lane; i < HEAD; i += WG) {
            append(false, to, i, qkv[source + i]);
        }
        close(false, to, lane);
        return;
    }
    let is_key = head >= HEADS;
    var scale = 1.0;
    var gain = select(0u, HEAD, is_key);
    if (QK_NORM > 0u) {
        var first = source;
        var count = HEAD;
        if (QK_NORM == 3u) {
            first = t * STRIDE + select(0u, HEADS * HEAD, is_key);
            count = select(HEADS, KV_HEADS, is_key) * HEAD;
            gain = head * HEAD;
        }
        var squares = 0.0;
        for (var i = lane; i < count; i += WG) {
            squares += qkv[first + i] * qkv[first + i];
        }
        scale = inverseSqrt(workgroup_sum(vec4<f32>(squares), lane).x / f32(count) + EPS);
    }
    var to = (t * HEADS + head) * HEAD;
    if (is_key) {
        to = place * KV_HEADS + head - HEADS;
    }
    for (var pair = lane; pair < HEAD / 2u; pair += WG) {
        // Beyond the rotary part the pairs are neighbours and are not turned.
        let turned = pair < ROTARY / 2u;
        let first = select(2u * pair, pair, NEOX && turned);
        let second = select(2u * pair + 1u, pair + ROTARY / 2u, NEOX && turned);
        var a = qkv[source + first] * scale;
        var b = qkv[source + second] * scale;
        if (QK_NORM == 1u || QK_NORM == 3u) {
            a *= gains[gain + first];
            b *= gains[gain + second];
        }
        if (turned) {
            let turn = turns[position * (ROTARY / 2u) + pair];
            let a0 = a;
            a = a0 * turn.x - b * turn.y;
            b = a0 * turn.y + b * turn.x;
        }
        if (QK_NORM == 2u) {
            a *= gains[gain + first];
            b *= gains[gain + second];
        }
        if (is_key) {
            append(true, to, first, a);
            append(true, to, second, b);
        } else {
            q[to + first] = a;
            q[to + second] = b;
        }
    }
    if (is_key) {
        close(true, to, lane);
    }
}
