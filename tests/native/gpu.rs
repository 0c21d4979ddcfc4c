//! The adapter that the GPU tests run on. Absent means a named skip here, and a failure in CI.

use understudy::gpu::{Gpu, GpuOptions};

/// Opens a device, or says which test is skipped.
pub fn meet(test: &str, options: GpuOptions) -> Option<Gpu> {
    match pollster::block_on(Gpu::meet(&options)) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "{test} needs a Vulkan adapter in CI: {error}"
            );
            eprintln!("SKIP {test}: {error}");
            None
        }
    }
}

/// The tiers that are tried: plain, and whatever the adapter has beyond it.
pub fn tiers() -> [GpuOptions; 2] {
    let tier = |subgroups, default_limits| GpuOptions {
        subgroups,
        default_limits,
        ..GpuOptions::default()
    };
    [tier(false, true), tier(true, false)]
}
