// KV cache elements in f16 (needs shader-f16); every sum stays in f32.
alias elem = f16;
alias elem4 = vec4<f16>;
