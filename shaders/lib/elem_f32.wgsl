// KV cache elements in f32.
alias elem = f32;
alias elem4 = vec4<f32>;
