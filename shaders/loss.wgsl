// loss: what a row of logits costs beside its teacher; the gradient takes the logits' place                (training)
// z (state.rows, VOCABULARY) f32; rows: target, tokens that the teacher names, weight, log of what it leaves; ids, logprobs
// (state.rows, K); teacher (state.rows, VOCABULARY): its logits, DENSE. stats (state.rows): loss, cross-entropy, divergence, top.
//   loss = CE (lse z - z_y) + (1 - CE) T^2 sum_b D(p_b, q_b) over the named tokens b and one bucket for all others
//   dz_j = weight ((1/T) ([named] g_j + [other] g_r q_j / q_r - q_j G)), g_b = dD / d log q_b, G = sum g_b (see cpu::loss)
// CAP: logits are CAP tanh(z / CAP) first, where it is not 0, and dz is times 1 - (logit / CAP)^2; the teacher's too where TEACHER_CAPPED.
// Workgroup: one row, once for the maximum, once for the sums, once for the gradient; thread: every WG-th token. f32 sums.
override VOCABULARY: u32;
override K: u32 = 1u;
override DENSE: bool = false;
// 0 forward KL, 1 reverse KL, 2 Jensen-Shannon with beta MIX, 3 skewed KL with lambda MIX
override DIVERGENCE: u32 = 0u;
override MIX: f32 = 0.5;
override CE: f32 = 1.0;
override TEMPERATURE: f32 = 1.0;
// 0 one bucket for all others, 1 both sides renormalised, 2 the teacher alone
override TAIL: u32 = 0u;
override CAP: f32 = 0.0;
override TEACHER_CAPPED: bool = false;
override WG: u32 = 64u;

struct Row {
    wanted: u32,
    count: u32,
    weight: f32,
    left: f32,
}

@group(0) @binding(0) var<storage, read_write> z: array<f32>;
@group(0) @binding(1) var<storage, read> rows: array<Row>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read> logprobs: array<f32>;
@group(0) @binding(4) var<storage, read> teacher: array<f32>;
@group(0) @binding(5) var<storage, read_write> stats: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> state: State;

// Stands for a logit that is not looked at: its exponential is 0.
const LOW: f32 = -1e30;
// No bucket is less likely than this.
const FLOOR: f32 = -16.0;

var<workgroup> named: array<f32, K>;
var<workgroup> peaks: array<f32, WG>;

fn workgroup_max(value: f32, lane: u32) -> f32 {
    peaks[lane] = value;
    workgroupBarrier();
    for (var width = WG / 2u; width > 0u; width = width / 2u) {
        if (lane < width) {
            peaks[lane] = max(peaks[lane], peaks[lane + width]);
        }
        workgroupBarrier();
    }
    let most = peaks[0];
    workgroupBarrier();
    return most;
}

// log(exp(a) + exp(b))
fn log_add(a: f32, b: f32) -> f32 {
    let most = max(a, b);
    return most + log(exp(a - most) + exp(b - most));
}

// A logit of a head with a cap. The hyperbolic tangent of large numbers is not a number on some devices.
fn capped(z: f32) -> f32 {
    if (CAP > 0.0) {
        return CAP * tanh(clamp(z / CAP, -10.0, 10.0));
    }
    return z;
}

// How a capped logit moves with what was capped.
fn slope(logit: f32) -> f32 {
    if (CAP > 0.0) {
        return 1.0 - (logit / CAP) * (logit / CAP);
    }
    return 1.0;
}

fn teachers(at: u32) -> f32 {
    if (TEACHER_CAPPED) {
        return capped(teacher[at]);
    }
    return teacher[at];
}

// A bucket's share of the divergence, and its derivative by log q.
fn bucket(log_p: f32, log_q: f32) -> vec2<f32> {
    let p = exp(log_p);
    let q = exp(log_q);
    switch (DIVERGENCE) {
        case 1u: {
            return vec2<f32>(q * (log_q - log_p), q * (log_q - log_p + 1.0));
        }
        case 2u: {
            let log_m = log_add(log(MIX) + log_p, log(1.0 - MIX) + log_q);
            let theirs = (1.0 - MIX) * q * (log_q - log_m);
            return vec2<f32>(MIX * p * (log_p - log_m) + theirs, theirs);
        }
        case 3u: {
            let log_m = log_add(log(MIX) + log_p, log(1.0 - MIX) + log_q);
            return vec2<f32>(p * (log_p - log_m), -p * (1.0 - MIX) * exp(log_q - log_m));
        }
        default: {
            return vec2<f32>(p * (log_p - log_q), -p);
        }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let r = workgroup.x + workgroup.y * 65535u;
    if (r >= state.rows) {
        return;
    }
    let row = rows[r];
    let first = VOCABULARY * r;
    let zy = capped(z[first + row.wanted]);
    let ce = select(CE, 1.0, row.count == 0u);
    let rest = 1.0 - ce;

    if (CAP > 0.0) {
        // The wanted logit was read before its lane caps it.
        storageBarrier();
        for (var j = lane; j < VOCABULARY; j += WG) {
            z[first + j] = capped(z[first + j]);
        }
        storageBarrier();
    }
    var most = LOW;
    for (var j = lane; j < VOCABULARY; j += WG) {
        most = max(most, z[first + j]);
    }
    most = workgroup_max(most, lane);

    if (DENSE) {
        var theirs = LOW;
        for (var j = lane; j < VOCABULARY; j += WG) {
            theirs = max(theirs, teachers(first + j));
        }
        theirs = workgroup_max(theirs, lane);
        var sums = vec4<f32>();
        for (var j = lane; j < VOCABULARY; j += WG) {
            let own = z[first + j] - most;
            sums += vec4<f32>(exp(own), exp(own / TEMPERATURE), exp((teachers(first + j) - theirs) / TEMPERATURE), 0.0);
        }
        let logs = log(workgroup_sum(sums, lane).xyz);
        var shares = vec4<f32>();
        for (var j = lane; j < VOCABULARY; j += WG) {
            let log_q = (z[first + j] - most) / TEMPERATURE - logs.y;
            let log_p = (teachers(first + j) - theirs) / TEMPERATURE - logs.z;
            shares += vec4<f32>(bucket(log_p, log_q), 0.0, 0.0);
        }
        let total = workgroup_sum(shares, lane).xy;
        for (var j = lane; j < VOCABULARY; j += WG) {
            let own = z[first + j] - most;
            let log_q = own / TEMPERATURE - logs.y;
            let log_p = (teachers(first + j) - theirs) / TEMPERATURE - logs.z;
            let change = TEMPERATURE * (bucket(log_p, log_q).y - exp(log_q) * total.y);
            z[first + j] = slope(z[first + j]) * row.weight * (ce * exp(own - logs.x) + rest * change);
        }
        storageBarrier();
        if (lane == 0u) {
            z[first + row.wanted] -= slope(zy) * row.weight * ce;
            let cross = most + logs.x - zy;
            let divergence = select(TEMPERATURE * TEMPERATURE * total.x, 0.0, row.count == 0u);
            stats[r] = vec4<f32>(ce * cross + rest * divergence, cross, divergence, f32(zy == most));
        }
        return;
    }

    // What the teacher names is put aside, so that the sum over z is the sum over all others: exact where 1 - sum cancels.
    for (var k = lane; k < row.count; k += WG) {
        named[k] = z[first + ids[K * r + k]];
    }
    storageBarrier();
    workgroupBarrier();
    for (var k = lane; k < row.count; k += WG) {
        z[first + ids[K * r + k]] = LOW;
    }
    storageBarrier();
    var sums = vec4<f32>();
    for (var j = lane; j < VOCABULARY; j += WG) {
        sums.x += exp(z[first + j] - most);
    }
    for (var k = lane; k < row.count; k += WG) {
        sums.y += exp(named[k] - most);
    }
    sums = workgroup_sum(sums, lane);
    let whole = most + log(sums.x + sums.y);
    let known = most + log(max(sums.y, 1e-37));
    let over = select(whole, known, TAIL == 1u);
    var shares = vec4<f32>();
    for (var k = lane; k < row.count; k += WG) {
        shares += vec4<f32>(bucket(logprobs[K * r + k], named[k] - over), 0.0, 0.0);
    }
    var total = workgroup_sum(shares, lane).xy;
    // The bucket of all others. At its floor it no longer depends on the logits.
    var others = 0.0;
    if (TAIL == 0u && row.count > 0u && row.count < VOCABULARY) {
        let log_q = select(LOW, most + log(sums.x) - whole, sums.x > 0.0);
        var tail = bucket(row.left, max(log_q, FLOOR));
        if (log_q < FLOOR) {
            tail.y = 0.0;
        }
        total += tail;
        others = tail.y * exp(-max(log_q, FLOOR));
    }
    let along = select(total.y, 0.0, TAIL == 1u);
    let factor = row.weight * (ce + rest * (others - along));
    for (var j = lane; j < VOCABULARY; j += WG) {
        z[first + j] = slope(z[first + j]) * factor * exp(z[first + j] - whole);
    }
    storageBarrier();
    for (var k = lane; k < row.count; k += WG) {
        let own = bucket(logprobs[K * r + k], named[k] - over).y;
        let q = exp(named[k] - whole);
        let back = total.y * select(q, exp(named[k] - known), TAIL == 1u);
        z[first + ids[K * r + k]] = slope(named[k]) * row.weight * (ce * q + rest * (own - back));
    }
    storageBarrier();
    if (lane == 0u) {
        z[first + row.wanted] -= slope(zy) * row.weight * ce;
        let cross = whole - zy;
        stats[r] = vec4<f32>(ce * cross + rest * total.x, cross, total.x, f32(zy == most));
    }
}
