// KV cache in f32, as attend reads it. `head` counts heads of positions, `i` quarters of a head.
alias cached = vec4<f32>;

fn key4(head: u32, i: u32) -> vec4<f32> {
    return k_cache[head * (HEAD / 4u) + i];
}

fn value4(head: u32, i: u32) -> vec4<f32> {
    return v_cache[head * (HEAD / 4u) + i];
}
