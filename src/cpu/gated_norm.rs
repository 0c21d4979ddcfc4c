//! Twin of `shaders/gated_norm.wgsl`.

use super::dot;
use super::swiglu::silu;
use crate::model::{Mixing, Recurrent};

/// norm(y silu(z)) gain (Mamba2) or norm(y) gain silu(z) (DeltaNet), in place; norm(h) = h / sqrt(mean(h^2) + epsilon).
///
/// A norm goes over the columns of a group (Mamba2) or of a head (DeltaNet). y `(T, inner)`; projection `(T, projection)` holds z;
/// gain `(inner)` (Mamba2) or `(head_dim)` (DeltaNet).
///
/// Sources: Dao and Gu, "Transformers are SSMs" (2024); Yang, Kautz and Hatamizadeh, "Gated Delta Networks" (2024).
pub fn gated_norm(shape: &Recurrent, projection: &[f32], gain: &[f32], epsilon: f32, y: &mut [f32]) {
    let inner = shape.inner();
    let width = norm_width(shape);
    let gate_first = shape.mixing == Mixing::Mamba2;
    let rows = projection.chunks_exact(shape.projection());
    for (projection, y) in rows.zip(y.chunks_exact_mut(inner)) {
        let z = &projection[shape.gate()..shape.gate() + inner];
        for (run, y) in y.chunks_exact_mut(width).enumerate() {
            let first = run * width;
            if gate_first {
                y.iter_mut().zip(&z[first..]).for_each(|(y, z)| *y *= silu(*z));
            }
            let scale = 1.0 / (dot(y, y) / width as f32 + epsilon).sqrt();
            for (i, y) in y.iter_mut().enumerate() {
                *y *= scale * gain[(first + i) % gain.len()];
                if !gate_first {
                    *y *= silu(z[first + i]);
                }
            }
        }
    }
}

/// Columns that a norm goes over.
pub fn norm_width(shape: &Recurrent) -> usize {
    match shape.mixing {
        Mixing::Mamba2 => shape.inner() / shape.groups,
        Mixing::ShortConv | Mixing::DeltaNet => shape.head_dim,
    }
}
