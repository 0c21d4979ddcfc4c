//! Pipelines, made once: one for each kernel, types of weights and cache, and set of sizes.

use super::device::Gpu;
use super::kernels::{Kernel, Kinds, compose};
use std::collections::HashMap;

type Key = (Kernel, Kinds, Vec<(&'static str, u64)>);

/// The pipelines of one device.
pub struct Pipelines {
    gpu: Gpu,
    modules: HashMap<(Kernel, Kinds), wgpu::ShaderModule>,
    pipelines: HashMap<Key, wgpu::ComputePipeline>,
}

impl Pipelines {
    /// No pipeline yet.
    pub fn new(gpu: &Gpu) -> Self {
        Self {
            gpu: gpu.clone(),
            modules: HashMap::new(),
            pipelines: HashMap::new(),
        }
    }

    /// The pipeline of a kernel with these overrides; made at first, then reused.
    pub fn get(
        &mut self,
        kernel: Kernel,
        kinds: impl Into<Kinds>,
        constants: &[(&'static str, f64)],
    ) -> wgpu::ComputePipeline {
        let kinds = kinds.into();
        let key = (
            kernel,
            kinds,
            constants.iter().map(|(name, value)| (*name, value.to_bits())).collect(),
        );
        if let Some(pipeline) = self.pipelines.get(&key) {
            return pipeline.clone();
        }
        let gpu = &self.gpu;
        let module = self.modules.entry((kernel, kinds)).or_insert_with(|| {
            gpu.shader(
                kernel.name(),
                compose(kernel, kinds, gpu.tier(), cfg!(target_family = "wasm")),
            )
        });
        let pipeline = gpu.pipeline(kernel, module, constants);
        self.pipelines.insert(key, pipeline.clone());
        pipeline
    }

    /// Pipelines made.
    pub fn len(&self) -> usize {
        self.pipelines.len()
    }

    /// Whether none was made.
    pub fn is_empty(&self) -> bool {
        self.pipelines.is_empty()
    }
}
