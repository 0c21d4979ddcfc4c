//! Twin of `shaders/sample.wgsl`: the sampler itself lives in `model::sampler`, because it is part of what a student is.

pub use crate::model::sampler::{sample, sample_allowed};
