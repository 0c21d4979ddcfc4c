// short_conv: y[t, c] = silu(bias[c] + sum_j w[c, j] u[t - TAPS + 1 + j, c]), u = x[:, FIRST + c]            (recurrent layers)
// GATED (LFM2): x = B | C | X, each CHANNELS wide; u = B X, and y = C sum instead of silu(bias + sum).
// x (state.rows, STRIDE) f32, w (CHANNELS, TAPS) oldest first, bias (CHANNELS), y (state.rows, OUT).
// carry (RING, TAPS - 1, CHANNELS): the last u of the tokens before. n tokens leave theirs in slot n mod RING, so that a step
// reads slot position, writes slot position + rows, and the steps before it can be gone back to; before the first token u is 0.
// Workgroup: 64 channels; thread: one channel, its rows in order. f32 sums. A causal depthwise convolution.
override STRIDE: u32;
override FIRST: u32 = 0u;
override OUT: u32;
override CHANNELS: u32;
override TAPS: u32;
override RING: u32 = 1u;
override GATED: bool = false;
override BIAS: bool = false;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> carry: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> state: State;

/// u of row `at - (TAPS - 1)` of this step: the first TAPS - 1 come from the tokens before.
fn entry(at: u32, c: u32) -> f32 {
    if (at < TAPS - 1u) {
        let slot = state.position % RING;
        return select(carry[(slot * (TAPS - 1u) + at) * CHANNELS + c], 0.0, state.position == 0u);
    }
    let row = (at - (TAPS - 1u)) * STRIDE;
    if (GATED) {
        return x[row + c] * x[row + 2u * CHANNELS + c];
    }
    return x[row + FIRST + c];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let c = 64u * workgroup.x + lane;
    if (c >= CHANNELS) {
        return;
    }
    for (var t = 0u; t < state.rows; t += 1u) {
        var sum = 0.0;
        if (BIAS) {
            sum = bias[c];
        }
        for (var j = 0u; j < TAPS; j += 1u) {
            sum += w[c * TAPS + j] * entry(t + j, c);
        }
        if (GATED) {
            y[t * OUT + c] = x[t * STRIDE + CHANNELS + c] * sum;
        } else {
            y[t * OUT + c] = sum / (1.0 + exp(-sum));
        }
    }
    // Ascending: where both slots are one, an entry is read before it is overwritten.
    let slot = (state.position + state.rows) % RING;
    for (var j = 0u; j < TAPS - 1u; j += 1u) {
        carry[(slot * (TAPS - 1u) + j) * CHANNELS + c] = entry(state.rows + j, c);
    }
}
