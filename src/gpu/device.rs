//! The device: how it is met, what it can do, in words; and when it is lost.
//!
//! Every buffer, bind group and submission of the program goes through [`Gpu`], which counts them: the engine's promise
//! (none of either per token, one submission) is asserted by a test, not by reading.

use super::kernels::{Access, Kernel};
use crate::error::{Error, Result, human_bytes};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What the kernels may use on a device. Plain WGSL is the floor: f32, no subgroups, WebGPU's default limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tier {
    /// Reductions by `subgroupAdd`.
    pub subgroups: bool,
}

impl Tier {
    /// The tier in words.
    pub fn words(self) -> &'static str {
        if self.subgroups { "subgroups" } else { "plain WGSL" }
    }
}

/// What is asked of a device.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// Use subgroups where the device has them.
    pub subgroups: bool,
    /// Ask for no more than WebGPU's default limits, as a test of them.
    pub default_limits: bool,
    /// Everything that the adapter offers, for a library that looks at the adapter to learn what the device can do.
    pub all_features: bool,
    /// What the adapter is called, where the caller knows it better: wgpu does not pass a browser's answer on.
    pub name: Option<String>,
}

/// How often the costly calls were made.
#[derive(Debug, Default)]
struct Counters {
    buffers: AtomicU64,
    bind_groups: AtomicU64,
    pipelines: AtomicU64,
    dispatches: AtomicU64,
    submissions: AtomicU64,
    bytes: AtomicU64,
}

/// A reading of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Buffers created.
    pub buffers: u64,
    /// Bind groups created.
    pub bind_groups: u64,
    /// Pipelines created.
    pub pipelines: u64,
    /// Dispatches encoded.
    pub dispatches: u64,
    /// Submissions to the queue.
    pub submissions: u64,
    /// Bytes of all buffers created, but those that results are read back through.
    pub bytes: u64,
}

impl std::ops::Sub for Counts {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self {
            buffers: self.buffers - before.buffers,
            bind_groups: self.bind_groups - before.bind_groups,
            pipelines: self.pipelines - before.pipelines,
            dispatches: self.dispatches - before.dispatches,
            submissions: self.submissions - before.submissions,
            bytes: self.bytes - before.bytes,
        }
    }
}

/// A part of a buffer, as a kernel sees it.
#[derive(Debug, Clone)]
pub struct View {
    /// The buffer.
    pub buffer: wgpu::Buffer,
    /// First byte; a multiple of 256.
    pub offset: u64,
    /// Bytes; `None`: all that follow.
    pub size: Option<u64>,
}

impl View {
    /// All of a buffer.
    pub fn whole(buffer: &wgpu::Buffer) -> Self {
        Self {
            buffer: buffer.clone(),
            offset: 0,
            size: None,
        }
    }

    /// `size` bytes from byte `offset` of this part on.
    pub fn part(&self, offset: u64, size: u64) -> Self {
        Self {
            buffer: self.buffer.clone(),
            offset: self.offset + offset,
            size: Some(size),
        }
    }
}

struct Shared {
    instance: wgpu::Instance,
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    limits: wgpu::Limits,
    tier: Tier,
    layouts: Vec<(wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
    counters: Counters,
    lost: Arc<Mutex<Option<String>>>,
}

/// One device and its queue. Clones share it.
#[derive(Clone)]
pub struct Gpu(Arc<Shared>);

/// What another library needs to work on the same device.
#[derive(Debug, Clone)]
pub struct Handles {
    /// Where the adapter comes from.
    pub instance: wgpu::Instance,
    /// Where the device comes from.
    pub adapter: wgpu::Adapter,
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// Which of the system's interfaces it is reached by.
    pub backend: wgpu::Backend,
}

/// Shares it. In a browser without threads the handles cannot cross threads, and nothing asks them to.
#[allow(clippy::arc_with_non_send_sync)]
fn share(shared: Shared) -> Gpu {
    Gpu(Arc::new(shared))
}

fn to_device_error(error: wgpu::Error) -> Error {
    // The first lines say what happened; the rest is a trace of labels.
    let text = error.to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(4)
        .collect();
    Error::Device {
        what: lines.join("; ").chars().take(300).collect(),
    }
}

impl Gpu {
    /// Meets the machine's best adapter and opens a device on it.
    ///
    /// Errors: [`Error::NoDevice`] when there is none.
    pub async fn meet(options: &GpuOptions) -> Result<Self> {
        #[cfg(target_family = "wasm")]
        let backends = wgpu::Backends::BROWSER_WEBGPU;
        #[cfg(not(target_family = "wasm"))]
        let backends = wgpu::Backends::VULKAN;
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let no_device = |what: String| Error::NoDevice { what };
        let adapter = instance
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                ..Default::default()
            })
            .await
            .map_err(|_| no_device("the system offers no adapter".into()))?;
        let offered = adapter.features();
        let mut features = wgpu::Features::empty();
        let mut tier = Tier::default();
        if options.subgroups {
            // In a browser wgpu neither reports nor passes this feature on; whoever sets the option there has asked the
            // adapter itself and has added the feature to the request.
            if cfg!(target_family = "wasm") {
                tier.subgroups = true;
            } else if offered.contains(wgpu::Features::SUBGROUP) {
                features |= wgpu::Features::SUBGROUP;
                tier.subgroups = true;
            }
        }
        if options.all_features {
            // Of memory that the host maps nothing is used, and asking for it costs.
            features |= offered.difference(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS);
        }
        let limits = if options.default_limits {
            wgpu::Limits::default()
        } else {
            adapter.limits()
        };
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("understudy"),
                required_features: features,
                required_limits: limits.clone(),
                memory_hints: wgpu::MemoryHints::MemoryUsage,
                experimental_features: if options.all_features {
                    // Safety: they are enabled because the adapter lists them, and none of our kernels uses one.
                    unsafe { wgpu::ExperimentalFeatures::enabled() }
                } else {
                    wgpu::ExperimentalFeatures::disabled()
                },
                ..Default::default()
            })
            .await
            .map_err(|error| no_device(error.to_string().chars().take(200).collect()))?;
        let lost = Arc::new(Mutex::new(None));
        watch(&device, &lost);
        let layouts = Kernel::ALL.iter().map(|kernel| layout(&device, *kernel)).collect();
        let mut info = adapter.get_info();
        if let Some(name) = &options.name {
            info.name.clone_from(name);
        }
        Ok(share(Shared {
            instance,
            adapter,
            device,
            queue,
            info,
            limits,
            tier,
            layouts,
            counters: Counters::default(),
            lost,
        }))
    }

    /// The device's parts, for a library that shares it.
    pub fn handles(&self) -> Handles {
        let s = &self.0;
        Handles {
            instance: s.instance.clone(),
            adapter: s.adapter.clone(),
            device: s.device.clone(),
            queue: s.queue.clone(),
            backend: s.info.backend,
        }
    }

    /// Puts our own listeners for losses and errors back, after a library has put its own in their place.
    pub fn watch(&self) {
        watch(&self.0.device, &self.0.lost);
    }

    /// The same device with plainer kernels: what a failed self-test falls back to.
    pub fn plainer(&self, tier: Tier) -> Self {
        let s = &self.0;
        share(Shared {
            instance: s.instance.clone(),
            adapter: s.adapter.clone(),
            device: s.device.clone(),
            queue: s.queue.clone(),
            info: s.info.clone(),
            limits: s.limits.clone(),
            tier,
            layouts: s.layouts.clone(),
            counters: Counters::default(),
            lost: s.lost.clone(),
        })
    }

    /// The same device as if its bindings held at most `bytes`: to test what larger tensors go through.
    pub fn with_binding_limit(&self, bytes: u64) -> Self {
        let same = self.plainer(self.tier());
        let mut shared = Arc::into_inner(same.0).expect("it was made just now");
        shared.limits.max_storage_buffer_binding_size = bytes;
        share(shared)
    }

    /// What the kernels use.
    pub fn tier(&self) -> Tier {
        self.0.tier
    }

    /// The device's limits.
    pub fn limits(&self) -> &wgpu::Limits {
        &self.0.limits
    }

    /// The adapter's name, or its architecture where a browser hides the name.
    pub fn name(&self) -> String {
        let info = &self.0.info;
        [&info.name, &info.driver, &info.driver_info]
            .into_iter()
            .find(|text| !text.is_empty())
            .cloned()
            .unwrap_or_else(|| "an adapter that does not say its name".into())
    }

    /// Whether the adapter computes on the CPU (lavapipe, SwiftShader).
    pub fn is_software(&self) -> bool {
        let name = self.name().to_lowercase();
        self.0.info.device_type == wgpu::DeviceType::Cpu || name.contains("swiftshader") || name.contains("llvmpipe")
    }

    /// The device in one sentence: name, tier, limits.
    pub fn words(&self) -> String {
        let limits = self.limits();
        format!(
            "{} ({}); {}; buffers up to {}, bindings up to {}",
            self.name(),
            if self.is_software() { "software" } else { "hardware" },
            self.tier().words(),
            human_bytes(limits.max_buffer_size),
            human_bytes(limits.max_storage_buffer_binding_size)
        )
    }

    /// Bytes that may be hoped for. No browser says how much memory a device has; four times the largest buffer is what
    /// drivers commonly offer, and a refused allocation is still caught.
    pub fn available_bytes(&self) -> u64 {
        self.limits().max_buffer_size.saturating_mul(4).min(64 << 30)
    }

    /// Why the device was lost, if it was.
    pub fn lost(&self) -> Option<String> {
        self.0.lost.lock().ok().and_then(|lost| lost.clone())
    }

    /// [`Error::DeviceLost`] if it was.
    pub fn check(&self) -> Result<()> {
        match self.lost() {
            Some(what) => Err(Error::DeviceLost {
                what: what.chars().take(200).collect(),
            }),
            None => Ok(()),
        }
    }

    /// Gives the device up, as if the driver had: for tests of what follows.
    pub fn destroy(&self) {
        self.0.device.destroy();
        if let Ok(mut lost) = self.0.lost.lock() {
            lost.get_or_insert("the device was destroyed".into());
        }
    }

    /// How often the costly calls were made so far.
    pub fn counts(&self) -> Counts {
        let c = &self.0.counters;
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Counts {
            buffers: read(&c.buffers),
            bind_groups: read(&c.bind_groups),
            pipelines: read(&c.pipelines),
            dispatches: read(&c.dispatches),
            submissions: read(&c.submissions),
            bytes: read(&c.bytes),
        }
    }

    /// A zeroed buffer of at least `size` bytes.
    pub fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.0.counters.buffers.fetch_add(1, Ordering::Relaxed);
        // What results are read back through comes and goes.
        if !usage.contains(wgpu::BufferUsages::MAP_READ) {
            self.0.counters.bytes.fetch_add(size, Ordering::Relaxed);
        }
        self.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: size.max(16).next_multiple_of(16),
            usage,
            mapped_at_creation: false,
        })
    }

    /// A storage buffer that the host may write and read back.
    pub fn storage(&self, label: &str, size: u64) -> wgpu::Buffer {
        use wgpu::BufferUsages as Usage;
        self.buffer(label, size, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC)
    }

    /// A storage buffer with these contents.
    pub fn storage_of<T: bytemuck::Pod>(&self, label: &str, values: &[T]) -> wgpu::Buffer {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let buffer = self.storage(label, bytes.len() as u64);
        self.write(&buffer, 0, bytes);
        buffer
    }

    /// Queues a write.
    pub fn write(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        self.0.queue.write_buffer(buffer, offset, bytes);
    }

    /// The bind group of a kernel over whole buffers, in the order of its bindings.
    pub fn bind(&self, kernel: Kernel, buffers: &[&wgpu::Buffer]) -> wgpu::BindGroup {
        let views: Vec<View> = buffers.iter().map(|buffer| View::whole(buffer)).collect();
        self.bind_views(kernel, &views)
    }

    /// The bind group of a kernel over parts of buffers, in the order of its bindings.
    pub fn bind_views(&self, kernel: Kernel, views: &[View]) -> wgpu::BindGroup {
        assert_eq!(
            views.len(),
            kernel.bindings().len(),
            "the bindings of {}",
            kernel.name()
        );
        self.0.counters.bind_groups.fetch_add(1, Ordering::Relaxed);
        let entries: Vec<_> = views
            .iter()
            .enumerate()
            .map(|(i, view)| wgpu::BindGroupEntry {
                binding: i as u32,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &view.buffer,
                    offset: view.offset,
                    size: view.size.and_then(std::num::NonZero::new),
                }),
            })
            .collect();
        self.0.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name()),
            layout: &self.0.layouts[kernel as usize].0,
            entries: &entries,
        })
    }

    pub(super) fn shader(&self, label: &str, source: String) -> wgpu::ShaderModule {
        self.0.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(label),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        })
    }

    pub(super) fn pipeline(
        &self,
        kernel: Kernel,
        module: &wgpu::ShaderModule,
        constants: &[(&str, f64)],
    ) -> wgpu::ComputePipeline {
        self.0.counters.pipelines.fetch_add(1, Ordering::Relaxed);
        self.0.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name()),
            layout: Some(&self.0.layouts[kernel as usize].1),
            module,
            entry_point: Some("main"),
            // Every kernel writes its workgroup memory before it reads it.
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        })
    }

    /// An encoder for one submission.
    pub fn encoder(&self) -> wgpu::CommandEncoder {
        self.0
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Counts `n` encoded dispatches.
    pub(super) fn count_dispatches(&self, n: usize) {
        self.0.counters.dispatches.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// Submits what was encoded.
    pub fn submit(&self, encoder: wgpu::CommandEncoder) {
        self.0.counters.submissions.fetch_add(1, Ordering::Relaxed);
        self.0.queue.submit([encoder.finish()]);
    }

    /// Runs `work` in error scopes: a validation error or a refused allocation becomes an [`Error::Device`].
    pub async fn scoped<T>(&self, work: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
        let memory = self.0.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.0.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = work().await;
        let validation = validation.pop().await;
        let memory = memory.pop().await;
        self.check()?;
        if let Some(error) = memory.or(validation) {
            return Err(to_device_error(error));
        }
        result
    }

    /// A buffer of `size` bytes to read results back through.
    pub fn staging(&self, size: u64) -> wgpu::Buffer {
        self.buffer(
            "staging",
            size,
            wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        )
    }

    /// Asks for the first `size` bytes of a staging buffer; the answer arrives when the work before it is done.
    pub fn map(&self, staging: &wgpu::Buffer, size: u64) -> Mapping {
        let (sender, receiver) = futures_channel::oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, 0..size, move |result| {
            // The receiver is gone when the answer is no longer wanted.
            let _ = sender.send(result.is_ok());
        });
        Mapping {
            receiver,
            staging: staging.clone(),
            size,
        }
    }

    /// Waits for a mapping, copies its bytes out and unmaps.
    pub async fn finish(&self, mapping: Mapping) -> Result<Vec<u8>> {
        #[cfg(not(target_family = "wasm"))]
        if self.0.device.poll(wgpu::PollType::wait_indefinitely()).is_err() {
            return Err(Error::DeviceLost {
                what: "it stopped answering".into(),
            });
        }
        let mapped = mapping.receiver.await.unwrap_or(false);
        self.check()?;
        if !mapped {
            return Err(Error::DeviceLost {
                what: "results could not be read back".into(),
            });
        }
        let bytes = match mapping.staging.get_mapped_range(0..mapping.size) {
            Ok(view) => view.to_vec(),
            Err(_) => {
                return Err(Error::DeviceLost {
                    what: "results could not be read back".into(),
                });
            }
        };
        mapping.staging.unmap();
        Ok(bytes)
    }

    /// Reads `size` bytes of a buffer back; for tests, self-tests and logits, not for decoding.
    pub async fn read(&self, buffer: &wgpu::Buffer, size: u64) -> Result<Vec<u8>> {
        let size = size.next_multiple_of(4);
        let staging = self.staging(size);
        let mut encoder = self.encoder();
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size);
        self.submit(encoder);
        self.finish(self.map(&staging, size)).await
    }
}

/// A readback under way.
pub struct Mapping {
    receiver: futures_channel::oneshot::Receiver<bool>,
    staging: wgpu::Buffer,
    size: u64,
}

/// Risky work runs in error scopes; what escapes them is remembered as a loss, never a panic.
fn watch(device: &wgpu::Device, lost: &Arc<Mutex<Option<String>>>) {
    let mark = lost.clone();
    device.set_device_lost_callback(move |_, message| {
        if let Ok(mut lost) = mark.lock() {
            lost.get_or_insert(if message.is_empty() {
                "the device was closed".into()
            } else {
                message
            });
        }
    });
    let mark = lost.clone();
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        if let Ok(mut lost) = mark.lock() {
            lost.get_or_insert(error.to_string().lines().next().unwrap_or("unknown").into());
        }
    }));
}

fn layout(device: &wgpu::Device, kernel: Kernel) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
    let entries: Vec<_> = kernel
        .bindings()
        .iter()
        .enumerate()
        .map(|(i, access)| wgpu::BindGroupLayoutEntry {
            binding: i as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage {
                    read_only: *access == Access::Read,
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(kernel.name()),
        entries: &entries,
    });
    let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(kernel.name()),
        bind_group_layouts: &[Some(&group)],
        immediate_size: 0,
    });
    (group, pipeline)
}
