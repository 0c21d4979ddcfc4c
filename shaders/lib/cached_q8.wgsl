// KV cache in q8, as attend reads it: HEAD / 4 words of signed bytes a head, then an f32 scale for each 32 numbers. x = d q.
alias cached = u32;

fn head_at(head: u32) -> u32 {
    return head * (HEAD / 4u + (HEAD + 31u) / 32u);
}

fn key4(head: u32, i: u32) -> vec4<f32> {
    let at = head_at(head);
    return bitcast<f32>(k_cache[at + HEAD / 4u + i / 8u]) * signed_bytes(k_cache[at + i]);
}

fn value4(head: u32, i: u32) -> vec4<f32> {
    let at = head_at(head);
    return bitcast<f32>(v_cache[at + HEAD / 4u + i / 8u]) * signed_bytes(v_cache[at + i]);
}
