// KV cache in f32, as rope_append writes it: each number at once.
alias cached = f32;

fn append(is_key: bool, head: u32, i: u32, value: f32) {
    keep(is_key, head * HEAD + i, value);
}

fn close(is_key: bool, head: u32, lane: u32) {}
