// attend: for each query row, over a split of the positions: sum_j exp(s_j - m) v_j, m = max s_j, l = sum_j exp(s_j - m),
// s_j = SCALE q . k_j for j <= the row's own position (causal by index; no mask tensor); CAP: CAP tanh(s_j / CAP) instead;
// WINDOW: only the last WINDOW positions, the row's own included; RING: position j lies at j mod RING. 0 = none of it.
// q (state.rows, HEADS HEAD) f32; caches (positions, KV_HEADS) heads as `lib/cached` reads them; parts (rows, HEADS, SPLITS, HEAD) f32 and
// marks (rows, HEADS, SPLITS) of (m, l). `combine` joins the splits.
// Workgroup: GROUP query heads that share a KV head, QUERIES rows, one split: keys and values are read once for all of them.
// Thread: in turn a position (scores), a row (maximum and sum), an element of the results. f32 sums, running maximum.
// Preconditions: GROUP divides HEADS / KV_HEADS; HEAD is a multiple of 4; 2 QUERIES GROUP HEAD + ... fit in 16 KiB.
override HEADS: u32;
override KV_HEADS: u32;
override HEAD: u32;
override GROUP: u32;
override QUERIES: u32;
override SPLITS: u32;
override SCALE: f32 = 1.0;
override CAP: f32 = 0.0;
override WINDOW: u32 = 0u;
override RING: u32 = 0u;
override WG: u32 = 32u;

const LOW: f32 = -1.0e30; // stands for minus infinity, which WGSL may assume never to occur

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k_cache: array<cached>;
@group(0) @binding(2) var<storage, read> v_cache: array<cached>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> marks: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read> state: State;

var<workgroup> queries: array<vec4<f32>, QUERIES * GROUP * HEAD / 4u>;
var<workgroup> results: array<vec4<f32>, QUERIES * GROUP * HEAD / 4u>;
var<workgroup> scores: array<f32, QUERIES * GROUP * WG>;
var<workgroup> maxima: array<f32, QUERIES * GROUP>;
var<workgroup> totals: array<f32, QUERIES * GROUP>;
var<workgroup> factors: array<f32, QUERIES * GROUP>;

fn place(j: u32) -> u32 {
    if (RING > 0u) {
        return j % max(RING, 1u); // a constant 0 would not compile
    }
    return j;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let t0 = workgroup.z * QUERIES;
    if (t0 >= state.rows) {
        return;
    }
    let head0 = workgroup.x * GROUP;
    let kv_head = head0 / (HEADS / KV_HEADS);
    let quarter = HEAD / 4u;
    let rows = QUERIES * GROUP;
    let last_row = state.rows - 1u;

    // Positions that any of these rows may see, cut into SPLITS runs of whole tiles.
    let seen = state.position + min(t0 + QUERIES - 1u, last_row) + 1u;
    var low = 0u;
    if (WINDOW > 0u) {
        low = max(state.position + t0 + 1u, WINDOW) - WINDOW;
    }
    let tiles = (seen - low + WG - 1u) / WG;
    let run = (tiles + SPLITS - 1u) / SPLITS * WG;
    let begin = low + workgroup.y * run;
    let end = min(begin + run, seen);

    for (var i = lane; i < rows * quarter; i += WG) {
        let row = i / quarter;
        let t = min(t0 + row / GROUP, last_row);
        queries[i] = q[(t * HEADS + head0 + row % GROUP) * quarter + i % quarter] * SCALE;
        results[i] = vec4<f32>();
    }
    for (var row = lane; row < rows; row += WG) {
        maxima[row] = LOW;
        totals[row] = 0.0;
    }
    workgroupBarrier();

    for (var j0 = begin; j0 < end; j0 += WG) {
        let j = j0 + lane;
        let key = place(j) * KV_HEADS + kv_head;
        for (var row = 0u; row < rows; row += 1u) {
            var score = LOW;
            let own = state.position + t0 + row / GROUP;
            if (j < end && j <= own && (WINDOW == 0u || j + WINDOW > own)) {
                score = 0.0;
                for (var i = 0u; i < quarter; i += 1u) {
                    score += dot(queries[row * quarter + i], key4(key, i));
                }
                if (CAP > 0.0) {
                    score = CAP * tanh(clamp(score / CAP, -10.0, 10.0));
                }
            }
            scores[row * WG + lane] = score;
        }
        workgroupBarrier();
        for (var row = lane; row < rows; row += WG) {
            var maximum = maxima[row];
            for (var i = 0u; i < WG; i += 1u) {
                maximum = max(maximum, scores[row * WG + i]);
            }
            var total = 0.0;
            for (var i = 0u; i < WG; i += 1u) {
                let score = scores[row * WG + i];
                // A masked score must weigh nothing even when the whole tile is masked and LOW is the maximum.
                let weight = select(exp(score - maximum), 0.0, score <= LOW);
                scores[row * WG + i] = weight;
                total += weight;
            }
            let factor = exp(maxima[row] - maximum);
            factors[row] = factor;
            totals[row] = totals[row] * factor + total;
            maxima[row] = maximum;
        }
        workgroupBarrier();
        let count = min(WG, end - j0);
        for (var i = lane; i < rows * quarter; i += WG) {
            let row = i / quarter;
            var result = results[i] * factors[row];
            for (var n = 0u; n < count; n += 1u) {
                result += scores[row * WG + n] * value4(place(j0 + n) * KV_HEADS + kv_head, i % quarter);
            }
            results[i] = result;
        }
        workgroupBarrier();
    }

    for (var i = lane; i < rows * quarter; i += WG) {
        let row = i / quarter;
        let t = t0 + row / GROUP;
        if (t <= last_row) {
            let head = head0 + row % GROUP;
            parts[((t * HEADS + head) * SPLITS + workgroup.y) * quarter + i % quarter] = results[i];
        }
    }
    for (var row = lane; row < rows; row += WG) {
        let t = t0 + row / GROUP;
        if (t <= last_row) {
            marks[(t * HEADS + head0 + row % GROUP) * SPLITS + workgroup.y] = vec2<f32>(maxima[row], totals[row]);
        }
    }
}
