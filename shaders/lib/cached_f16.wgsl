// KV cache in f16, as attend reads it: two numbers a word. `unpack2x16float` is core WGSL: shader-f16 is not needed.
alias cached = vec2<u32>;

fn halves4(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn key4(head: u32, i: u32) -> vec4<f32> {
    return halves4(k_cache[head * (HEAD / 4u) + i]);
}

fn value4(head: u32, i: u32) -> vec4<f32> {
    return halves4(v_cache[head * (HEAD / 4u) + i]);
}
