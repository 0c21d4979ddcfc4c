//! Pipelines, made once: one for each kernel, block type and set of sizes.

use super::device::Gpu;
use super::kernels::{Kernel, compose};
use crate::format::BlockType;
use std::collections::HashMap;

type Key = (Kernel, Option<BlockType>, Vec<(&'static str, u64)>);

/// The pipelines of one device.
pub struct Pipelines {
    gpu: Gpu,
    modules: HashMap<(Kernel, Option<BlockType>), wgpu::ShaderModule>,
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
        block_type: Option<BlockType>,
        constants: &[(&'static str, f64)],
    ) -> wgpu::ComputePipeline {
        let key = (
            kernel,
            block_type,
            constants.iter().map(|(name, value)| (*name, value.to_bits())).collect(),
        );
        if let Some(pipeline) = self.pipelines.get(&key) {
            return pipeline.clone();
        }
        let gpu = &self.gpu;
        let module = self.modules.entry((kernel, block_type)).or_insert_with(|| {
            gpu.shader(
                kernel.name(),
                compose(kernel, block_type, gpu.tier(), cfg!(target_family = "wasm")),
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
