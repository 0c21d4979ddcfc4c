//! Twin of `shaders/adjust.wgsl`: it lives in `model::penalties`, because it is part of what an answer is.

pub use crate::model::penalties::adjust;
