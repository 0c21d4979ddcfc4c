// What changes from token to token: the one small buffer that every kernel reads, so that no bind group is ever remade.
// `gpu::State` is its Rust side; a test compares the two layouts.
struct State {
    position: u32,    // rows already in the KV cache before this step
    rows: u32,        // rows of this step: 1 in decode, up to the chunk in prefill
    head_row: u32,    // the row whose logits are wanted
    draw: u32,        // random draws made so far
    seed: u32,
    top_k: u32,       // 0 = as many as the sampler holds
    temperature: f32, // 0 = greedy
    top_p: f32,
    min_p: f32,
    typical_p: f32,
}
