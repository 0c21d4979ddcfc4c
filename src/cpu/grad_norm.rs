//! Twin of `shaders/grad_norm.wgsl`.

/// The sum of squares of each run of `run` numbers.
pub fn grad_norm(g: &[f32], run: usize) -> Vec<f32> {
    g.chunks(run).map(|g| g.iter().map(|v| v * v).sum()).collect()
}
