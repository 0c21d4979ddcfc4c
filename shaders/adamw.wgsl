// adamw: one step of the optimizer on every number of the pairs                                            (training)
//   m = b1 m + (1 - b1) f g      v = b2 v + (1 - b2) (f g)^2      p -= rate decay p
//   p -= rate / c1  m / (sqrt(v / c2) + epsilon)                                      (Loshchilov and Hutter, 2019)
// p, g, m, v (COUNT) f32; f is the factor of clipping, c1 = 1 - b1^step, c2 = 1 - b2^step.
// Thread: one number; the grid's rows lie LINE threads apart.
override COUNT: u32;
override LINE: u32;
override WG: u32 = 64u;

struct Step {
    rate: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    decay: f32,
    factor: f32,
    correction1: f32,
    correction2: f32,
}

@group(0) @binding(0) var<storage, read_write> p: array<f32>;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(0) @binding(4) var<storage, read> adam: Step;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) thread: vec3<u32>) {
    let i = LINE * thread.y + thread.x;
    if (thread.x >= LINE || i >= COUNT) {
        return;
    }
    let d = adam.factor * g[i];
    let mean = adam.beta1 * m[i] + (1.0 - adam.beta1) * d;
    let square = adam.beta2 * v[i] + (1.0 - adam.beta2) * d * d;
    m[i] = mean;
    v[i] = square;
    let kept = p[i] - adam.rate * adam.decay * p[i];
    p[i] = kept - adam.rate / adam.correction1 * mean / (sqrt(square / adam.correction2) + adam.epsilon);
}
