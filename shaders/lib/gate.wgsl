// What a gate goes through: silu(a) = a / (1 + exp(-a)), or with GELU a / 2 (1 + tanh(sqrt(2 / pi) (a + 0.044715 a^3))).
override GELU: bool = false;

fn gate(a: f32) -> f32 {
    if (GELU) {
        // tanh is 1 in f32 from 10 on; some devices overflow in it further out.
        let inner = clamp(0.79788456 * a * (1.0 + 0.044715 * a * a), -10.0, 10.0);
        return 0.5 * a * (1.0 + tanh(inner));
    }
    return a / (1.0 + exp(-a));
}
