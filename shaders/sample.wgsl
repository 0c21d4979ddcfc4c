// sample: draws the next token and advances the state, so that decode steps chain without the host
// logits (VOCABULARY) f32; tokens[0] <- the drawn id; state: position += rows, rows = 1, head_row = 0, draw += 1.
// temperature 0: the highest logit, the lowest id among equals. Else: the top_k highest (at most 256; by a radix select of
// four 8-bit digits), sorted; with TYPICAL the most typical with probability typical_p; the smallest head with probability
// top_p; those of at least min_p times the first; then a draw at the temperature. The order of the filters is llama.cpp's.
// MASKED: only tokens whose bit is set in mask ((V + 31) / 32 words, lowest bit first; at least one) are drawn.
// One workgroup of 256. Sums in f32 in the order of the sort, so the result does not depend on timing.
override VOCABULARY: u32;
override MASKED: bool = false;
override TYPICAL: bool = false;

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> mask: array<u32>;
@group(0) @binding(2) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(3) var<storage, read_write> state: State;

const LANES: u32 = 256u;
const BROKEN: u32 = 0xffffffffu; // answered when a logit is not finite
const EXCLUDED: f32 = -3.0e38; // stands for the logit of a token that may not come

var<workgroup> values: array<f32, 256>;
var<workgroup> ids: array<u32, 256>;
var<workgroup> counts: array<atomic<u32>, 256>;
var<workgroup> weights: array<f32, 256>;
var<workgroup> distances: array<f32, 256>;
var<workgroup> taken: atomic<u32>;
var<workgroup> prefix: u32;
var<workgroup> wanted: u32;
var<workgroup> is_greedy: u32;
var<workgroup> broken: atomic<u32>;

// Maps floats to unsigned integers of the same order.
fn key_of(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

// Whether (a, i) comes before (b, j): higher values first, then lower ids.
fn before(a: f32, i: u32, b: f32, j: u32) -> bool {
    return a > b || (a == b && i < j);
}

// A number in [0, 1) from a seed and a count (the PCG output permutation over a Weyl sequence).
fn uniform_draw(seed: u32, draw: u32) -> f32 {
    var bits = (seed ^ (draw * 0x9e3779b9u)) * 747796405u + 2891336453u;
    bits = ((bits >> ((bits >> 28u) + 4u)) ^ bits) * 277803737u;
    bits = (bits >> 22u) ^ bits;
    // A second round: neighbouring draws must not share their upper bits.
    bits = bits * 747796405u + 2891336453u;
    bits = ((bits >> ((bits >> 28u) + 4u)) ^ bits) * 277803737u;
    bits = (bits >> 22u) ^ bits;
    return f32(bits >> 8u) / 16777216.0;
}

// The logit of a token, as the mask leaves it.
fn logit(i: u32) -> f32 {
    if (MASKED && (mask[i / 32u] & (1u << (i % 32u))) == 0u) {
        return EXCLUDED;
    }
    return logits[i];
}

fn finish(token: u32) {
    tokens[0] = token;
    state.position += state.rows;
    state.rows = 1u;
    state.head_row = 0u;
    state.draw += 1u;
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    let temperature = state.temperature;
    if (lane == 0u) {
        atomicStore(&broken, 0u);
        is_greedy = select(0u, 1u, temperature <= 0.0);
        prefix = 0u;
        wanted = select(min(state.top_k, min(LANES, VOCABULARY)), min(LANES, VOCABULARY), state.top_k == 0u);
        atomicStore(&taken, 0u);
    }

    // The highest logit of all: the whole answer when greedy.
    var best = logit(min(lane, VOCABULARY - 1u));
    var best_id = min(lane, VOCABULARY - 1u);
    for (var i = lane + LANES; i < VOCABULARY; i += LANES) {
        let value = logit(i);
        if (value > best) {
            best = value;
            best_id = i;
        }
    }
    values[lane] = best;
    ids[lane] = best_id;
    workgroupBarrier();
    // By bits: a compiler may assume that numbers which are not finite do not occur.
    for (var i = lane; i < VOCABULARY; i += LANES) {
        if ((bitcast<u32>(logits[i]) & 0x7f800000u) == 0x7f800000u) {
            atomicStore(&broken, 1u);
        }
    }
    workgroupBarrier();
    for (var width = 128u; width > 0u; width = width / 2u) {
        if (lane < width && before(values[lane + width], ids[lane + width], values[lane], ids[lane])) {
            values[lane] = values[lane + width];
            ids[lane] = ids[lane + width];
        }
        workgroupBarrier();
    }
    if (workgroupUniformLoad(&is_greedy) == 1u) {
        if (lane == 0u) {
            finish(select(ids[0], BROKEN, atomicLoad(&broken) == 1u));
        }
        return;
    }

    // The key of the wanted-th highest logit, digit by digit from the top.
    var digits = 0u;
    for (var shift = 24i; shift >= 0i; shift -= 8i) {
        atomicStore(&counts[lane], 0u);
        let known = workgroupUniformLoad(&prefix);
        for (var i = lane; i < VOCABULARY; i += LANES) {
            let key = key_of(logit(i));
            if ((key & digits) == known) {
                atomicAdd(&counts[(key >> u32(shift)) & 255u], 1u);
            }
        }
        workgroupBarrier();
        if (lane == 0u) {
            var digit = 255u;
            loop {
                let here = atomicLoad(&counts[digit]);
                if (here >= wanted || digit == 0u) {
                    break;
                }
                wanted -= here;
                digit -= 1u;
            }
            prefix |= digit << u32(shift);
        }
        digits |= 255u << u32(shift);
        workgroupBarrier();
    }
    let threshold = workgroupUniformLoad(&prefix);
    let equals = workgroupUniformLoad(&wanted);

    // Everything above the threshold, in any order; of those equal to it, the lowest ids.
    values[lane] = EXCLUDED;
    ids[lane] = 0xffffffffu;
    workgroupBarrier();
    let slice = (VOCABULARY + LANES - 1u) / LANES;
    let begin = min(lane * slice, VOCABULARY);
    let end = min(begin + slice, VOCABULARY);
    var mine = 0u;
    for (var i = begin; i < end; i += 1u) {
        let key = key_of(logit(i));
        if (key > threshold) {
            let at = min(atomicAdd(&taken, 1u), LANES - 1u);
            values[at] = logit(i);
            ids[at] = i;
        } else if (key == threshold) {
            mine += 1u;
        }
    }
    atomicStore(&counts[lane], mine);
    workgroupBarrier();
    let above = atomicLoad(&taken);
    var rank = 0u;
    for (var i = 0u; i < lane; i += 1u) {
        rank += atomicLoad(&counts[i]);
    }
    for (var i = begin; i < end && rank < equals; i += 1u) {
        if (key_of(logit(i)) == threshold) {
            values[min(above + rank, LANES - 1u)] = logit(i);
            ids[min(above + rank, LANES - 1u)] = i;
            rank += 1u;
        }
    }
    workgroupBarrier();

    // Bitonic sort of the 256 places.
    for (var size = 2u; size <= LANES; size = size * 2u) {
        for (var step = size / 2u; step > 0u; step = step / 2u) {
            let other = lane ^ step;
            if (other > lane) {
                let ordered = before(values[lane], ids[lane], values[other], ids[other]);
                if (ordered != ((lane & size) == 0u)) {
                    let value = values[lane];
                    values[lane] = values[other];
                    values[other] = value;
                    let id = ids[lane];
                    ids[lane] = ids[other];
                    ids[other] = id;
                }
            }
            workgroupBarrier();
        }
    }

    var kept = min(above + equals, LANES);
    var total = 0.0;
    if (TYPICAL) {
        // Each lane finds out whether its token stays; counts say which do.
        weights[lane] = exp(values[lane] - values[0]);
        workgroupBarrier();
        for (var i = 0u; i < kept; i += 1u) {
            total += weights[i];
        }
        var mean = 0.0;
        for (var i = 0u; i < kept; i += 1u) {
            mean += weights[i] / total * (log(total) - (values[i] - values[0]));
        }
        let distance = abs(log(total) - (values[lane] - values[0]) - mean);
        distances[lane] = distance;
        workgroupBarrier();
        var nearer = 0.0;
        for (var i = 0u; i < kept; i += 1u) {
            if (distances[i] < distance || (distances[i] == distance && i < lane)) {
                nearer += weights[i] / total;
            }
        }
        atomicStore(&counts[lane], select(0u, 1u, nearer <= state.typical_p));
        workgroupBarrier();
    }

    if (lane != 0u) {
        return;
    }
    if (TYPICAL) {
        let sorted = kept;
        kept = 0u;
        for (var i = 0u; i < sorted; i += 1u) {
            if (atomicLoad(&counts[i]) == 1u) {
                values[kept] = values[i];
                ids[kept] = ids[i];
                kept += 1u;
            }
        }
    }
    let highest = values[0];
    total = 0.0;
    for (var i = 0u; i < kept; i += 1u) {
        total += exp(values[i] - highest);
    }
    var count = 0u;
    var sum = 0.0;
    while (count < kept) {
        let probability = exp(values[count] - highest);
        let excluded = MASKED && values[count] <= EXCLUDED;
        if (count > 0u && (excluded || sum >= state.top_p * total || probability < state.min_p)) {
            break;
        }
        sum += probability;
        count += 1u;
    }
    total = 0.0;
    for (var i = 0u; i < count; i += 1u) {
        total += exp((values[i] - highest) / temperature);
    }
    let target_sum = uniform_draw(state.seed, state.draw) * total;
    var chosen = 0u;
    sum = exp((values[0] - highest) / temperature);
    while (sum <= target_sum && chosen + 1u < count) {
        chosen += 1u;
        sum += exp((values[chosen] - highest) / temperature);
    }
    finish(select(ids[chosen], BROKEN, atomicLoad(&broken) == 1u));
}
