//! The table of kernels: one row per file of `shaders/`, and how a source is composed.

use super::device::Tier;
use crate::distill::{Divergence, Objective, Tail};
use crate::format::BlockType;
use crate::model::CacheType;

/// A kernel: `shaders/<name>.wgsl`, its twin `cpu::<twin>`, its case `cases::<twin>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Token ids to rows.
    Embed,
    /// One row through a matrix: decode.
    Matvec,
    /// Many rows through a matrix: prefill.
    Matmul,
    /// The same without workgroup memory, for software.
    MatmulDirect,
    /// RMS norm of rows: prefill.
    RmsNorm,
    /// act(gate) up: prefill.
    Swiglu,
    /// Rotation of q and k, and the KV cache.
    RopeAppend,
    /// Attention over a split of the positions.
    Attend,
    /// Joins the splits.
    Combine,
    /// A causal depthwise convolution: recurrent layers.
    ShortConv,
    /// A selective state space: recurrent layers.
    Mamba2,
    /// The gated delta rule: recurrent layers.
    DeltaNet,
    /// The gated norm behind a state: recurrent layers.
    GatedNorm,
    /// The gate behind gated attention.
    SigmoidGate,
    /// What moves logits before a token is drawn.
    Adjust,
    /// The next token.
    Sample,
    /// The gradient of rows through a matrix: training.
    MatmulBack,
    /// The gradient between the halves of a pair: training.
    LoraBack,
    /// The gradient of a half of a pair: training.
    LoraGrad,
    /// Loss and gradient of rows of logits: training.
    Loss,
    /// Sums of squares of the gradient: training.
    GradNorm,
    /// A step of the optimizer: training.
    Adamw,
}

/// How a kernel uses a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    Write,
}

use Access::{Read, Write};

impl Kernel {
    /// Every kernel.
    pub const ALL: [Self; 22] = [
        Self::Embed,
        Self::Matvec,
        Self::Matmul,
        Self::MatmulDirect,
        Self::RmsNorm,
        Self::Swiglu,
        Self::RopeAppend,
        Self::Attend,
        Self::Combine,
        Self::ShortConv,
        Self::Mamba2,
        Self::DeltaNet,
        Self::GatedNorm,
        Self::SigmoidGate,
        Self::Adjust,
        Self::Sample,
        Self::MatmulBack,
        Self::LoraBack,
        Self::LoraGrad,
        Self::Loss,
        Self::GradNorm,
        Self::Adamw,
    ];

    /// The file's name without its ending.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Matvec => "matvec",
            Self::Matmul => "matmul",
            Self::MatmulDirect => "matmul_direct",
            Self::RmsNorm => "rms_norm",
            Self::Swiglu => "swiglu",
            Self::RopeAppend => "rope_append",
            Self::Attend => "attend",
            Self::Combine => "combine",
            Self::ShortConv => "short_conv",
            Self::Mamba2 => "mamba2",
            Self::DeltaNet => "delta_net",
            Self::GatedNorm => "gated_norm",
            Self::SigmoidGate => "sigmoid_gate",
            Self::Adjust => "adjust",
            Self::Sample => "sample",
            Self::MatmulBack => "matmul_back",
            Self::LoraBack => "lora_back",
            Self::LoraGrad => "lora_grad",
            Self::Loss => "loss",
            Self::GradNorm => "grad_norm",
            Self::Adamw => "adamw",
        }
    }

    /// The twin's name: two versions of a kernel share one.
    pub fn twin(self) -> &'static str {
        match self {
            Self::MatmulDirect => "matmul",
            other => other.name(),
        }
    }

    /// Many rows through a matrix, as a device does it best; rows and columns of a workgroup's tile.
    pub fn matmul(is_software: bool) -> (Self, u32, u32) {
        if is_software {
            (Self::MatmulDirect, 16, 64)
        } else {
            (Self::Matmul, 32, 64)
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::Embed => include_str!("../../shaders/embed.wgsl"),
            Self::Matvec => include_str!("../../shaders/matvec.wgsl"),
            Self::Matmul => include_str!("../../shaders/matmul.wgsl"),
            Self::MatmulDirect => include_str!("../../shaders/matmul_direct.wgsl"),
            Self::RmsNorm => include_str!("../../shaders/rms_norm.wgsl"),
            Self::Swiglu => include_str!("../../shaders/swiglu.wgsl"),
            Self::RopeAppend => include_str!("../../shaders/rope_append.wgsl"),
            Self::Attend => include_str!("../../shaders/attend.wgsl"),
            Self::Combine => include_str!("../../shaders/combine.wgsl"),
            Self::ShortConv => include_str!("../../shaders/short_conv.wgsl"),
            Self::Mamba2 => include_str!("../../shaders/mamba2.wgsl"),
            Self::DeltaNet => include_str!("../../shaders/delta_net.wgsl"),
            Self::GatedNorm => include_str!("../../shaders/gated_norm.wgsl"),
            Self::SigmoidGate => include_str!("../../shaders/sigmoid_gate.wgsl"),
            Self::Adjust => include_str!("../../shaders/adjust.wgsl"),
            Self::Sample => include_str!("../../shaders/sample.wgsl"),
            Self::MatmulBack => include_str!("../../shaders/matmul_back.wgsl"),
            Self::LoraBack => include_str!("../../shaders/lora_back.wgsl"),
            Self::LoraGrad => include_str!("../../shaders/lora_grad.wgsl"),
            Self::Loss => include_str!("../../shaders/loss.wgsl"),
            Self::GradNorm => include_str!("../../shaders/grad_norm.wgsl"),
            Self::Adamw => include_str!("../../shaders/adamw.wgsl"),
        }
    }

    /// Its bindings in order; the state, where it reads one, comes last.
    pub fn bindings(self) -> &'static [Access] {
        match self {
            Self::Embed => &[Read, Read, Write, Read],
            Self::Matvec => &[Read, Read, Read, Read, Read, Read, Write, Read],
            Self::Matmul | Self::MatmulDirect => &[Read, Read, Read, Read, Read, Write, Read],
            Self::RmsNorm => &[Read, Read, Write, Read],
            Self::Swiglu => &[Read, Write, Read],
            Self::RopeAppend => &[Read, Read, Read, Write, Write, Write, Read],
            Self::Attend => &[Read, Read, Read, Write, Write, Read],
            Self::Combine => &[Read, Read, Write, Read],
            Self::ShortConv | Self::Mamba2 | Self::DeltaNet => &[Read, Read, Read, Write, Write, Read],
            Self::GatedNorm => &[Read, Read, Write, Read],
            Self::SigmoidGate => &[Read, Write, Read],
            Self::Adjust => &[Write, Read],
            Self::Sample => &[Read, Read, Write, Write],
            Self::MatmulBack => &[Read, Read, Read, Read, Write, Read],
            Self::LoraBack => &[Read, Read, Read, Write, Read],
            Self::LoraGrad => &[Read, Read, Write, Read],
            Self::Loss => &[Write, Read, Read, Read, Read, Write, Read],
            Self::GradNorm => &[Read, Write],
            Self::Adamw => &[Write, Read, Write, Write, Read],
        }
    }

    /// Whether it reads a weight matrix, and so is composed with a block decoder.
    pub fn reads_weights(self) -> bool {
        matches!(
            self,
            Self::Embed | Self::Matvec | Self::Matmul | Self::MatmulDirect | Self::MatmulBack
        )
    }

    /// Whether it knows the tensors of a merged matrix, and so is composed with the adapters' fragment.
    pub fn takes_adapters(self) -> bool {
        matches!(
            self,
            Self::Matvec | Self::Matmul | Self::MatmulDirect | Self::MatmulBack | Self::LoraBack | Self::LoraGrad
        )
    }

    /// Whether it applies a gate, and so is composed with that fragment.
    pub fn gates(self) -> bool {
        matches!(self, Self::Matvec | Self::Swiglu)
    }

    /// Whether it sums over its workgroup, and so is composed with one of the reductions.
    pub fn reduces(self) -> bool {
        matches!(
            self,
            Self::Matvec | Self::RmsNorm | Self::RopeAppend | Self::GatedNorm | Self::Loss | Self::GradNorm
        )
    }

    /// Whether it touches the KV cache, and so is composed with how its numbers are kept.
    pub fn uses_cache(self) -> bool {
        matches!(self, Self::RopeAppend | Self::Attend)
    }
}

/// The block decoder of a format: one fragment, with its book in front where it looks values up.
fn decoder(block_type: BlockType) -> [&'static str; 2] {
    const FOUR: &str = include_str!("../../shaders/lib/four_bits.wgsl");
    const THREE: &str = include_str!("../../shaders/lib/three_bits.wgsl");
    const TWO: &str = include_str!("../../shaders/lib/q2_0.wgsl");
    const BOOK_IQ1: &str = include_str!("../../shaders/lib/book_iq1.wgsl");
    const BOOK_IQ2: &str = include_str!("../../shaders/lib/book_iq2.wgsl");
    const BOOK_IQ4: &str = include_str!("../../shaders/lib/book_iq4.wgsl");
    const BOOK_FP4: &str = include_str!("../../shaders/lib/book_fp4.wgsl");
    match block_type {
        BlockType::F32 => ["", include_str!("../../shaders/lib/f32.wgsl")],
        BlockType::F16 => ["", include_str!("../../shaders/lib/f16.wgsl")],
        BlockType::BF16 => ["", include_str!("../../shaders/lib/bf16.wgsl")],
        BlockType::Q4_0 => ["", include_str!("../../shaders/lib/q4_0.wgsl")],
        BlockType::Q4_1 => ["", include_str!("../../shaders/lib/q4_1.wgsl")],
        BlockType::Q5_0 => ["", include_str!("../../shaders/lib/q5_0.wgsl")],
        BlockType::Q5_1 => ["", include_str!("../../shaders/lib/q5_1.wgsl")],
        BlockType::Q8_0 => ["", include_str!("../../shaders/lib/q8_0.wgsl")],
        BlockType::Q2_K => ["", include_str!("../../shaders/lib/q2_k.wgsl")],
        BlockType::Q3_K => [include_str!("../../shaders/lib/book_q3.wgsl"), THREE],
        BlockType::Q4_K => ["", include_str!("../../shaders/lib/q4_k.wgsl")],
        BlockType::Q5_K => ["", include_str!("../../shaders/lib/q5_k.wgsl")],
        BlockType::Q6_K => ["", include_str!("../../shaders/lib/q6_k.wgsl")],
        BlockType::IQ1_S | BlockType::IQ1_M => [BOOK_IQ1, THREE],
        BlockType::IQ2_XXS | BlockType::IQ2_XS | BlockType::IQ2_S => [BOOK_IQ2, THREE],
        BlockType::IQ3_XXS => [include_str!("../../shaders/lib/book_iq3_xxs.wgsl"), FOUR],
        BlockType::IQ3_S => [include_str!("../../shaders/lib/book_iq3_s.wgsl"), FOUR],
        BlockType::IQ4_XS => [BOOK_IQ4, FOUR],
        BlockType::IQ4_NL => [BOOK_IQ4, include_str!("../../shaders/lib/iq4_nl.wgsl")],
        BlockType::MXFP4 => [BOOK_FP4, include_str!("../../shaders/lib/mxfp4.wgsl")],
        BlockType::NVFP4 => [BOOK_FP4, include_str!("../../shaders/lib/nvfp4.wgsl")],
        BlockType::Q1_0 | BlockType::Q2_0 | BlockType::TQ1_0 | BlockType::TQ2_0 => ["", TWO],
    }
}

/// What a kernel reads besides its own source: [`compose`] joins what knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Kinds {
    /// Blocks of its matrix, if it reads one.
    pub weights: Option<BlockType>,
    /// Numbers of the KV cache, if it touches it.
    pub cache: Option<CacheType>,
}

impl Kinds {
    /// What a device that was just met is asked for: what the other kernels are tried with as well.
    pub const FIRST: [Self; 2] = [
        Self {
            weights: Some(BlockType::Q8_0),
            cache: None,
        },
        Self {
            weights: None,
            cache: Some(CacheType::F32),
        },
    ];
}

impl From<Option<BlockType>> for Kinds {
    fn from(weights: Option<BlockType>) -> Self {
        Self { weights, cache: None }
    }
}

impl From<CacheType> for Kinds {
    fn from(cache_type: CacheType) -> Self {
        Self {
            weights: None,
            cache: Some(cache_type),
        }
    }
}

/// How a kernel that appends to the KV cache, or reads it, finds numbers of a type.
fn cache_fragment(kernel: Kernel, cache_type: CacheType) -> &'static str {
    match (kernel, cache_type) {
        (Kernel::RopeAppend, CacheType::F32) => include_str!("../../shaders/lib/append_f32.wgsl"),
        (Kernel::RopeAppend, CacheType::F16) => include_str!("../../shaders/lib/append_f16.wgsl"),
        (Kernel::RopeAppend, CacheType::Q8) => include_str!("../../shaders/lib/append_q8.wgsl"),
        (_, CacheType::F32) => include_str!("../../shaders/lib/cached_f32.wgsl"),
        (_, CacheType::F16) => include_str!("../../shaders/lib/cached_f16.wgsl"),
        (_, CacheType::Q8) => include_str!("../../shaders/lib/cached_q8.wgsl"),
    }
}

/// Joins a kernel's source for a device of `tier`.
///
/// In a browser the directives of extensions come first; native naga knows subgroups without one and refuses it.
pub fn compose(kernel: Kernel, kinds: impl Into<Kinds>, tier: Tier, browser: bool) -> String {
    let kinds = kinds.into();
    assert_eq!(
        kernel.reads_weights(),
        kinds.weights.is_some(),
        "{} and its decoder",
        kernel.name()
    );
    assert_eq!(
        kernel.uses_cache(),
        kinds.cache.is_some(),
        "{} and its cache",
        kernel.name()
    );
    let mut source = String::new();
    if kernel.reduces() && tier.subgroups && browser {
        source.push_str("enable subgroups;\n");
    }
    source.push_str(include_str!("../../shaders/lib/state.wgsl"));
    if let Some(cache_type) = kinds.cache {
        source.push_str(include_str!("../../shaders/lib/bytes.wgsl"));
        source.push_str(cache_fragment(kernel, cache_type));
    }
    if kernel.reduces() {
        source.push_str(if tier.subgroups {
            include_str!("../../shaders/lib/reduce_subgroup.wgsl")
        } else {
            include_str!("../../shaders/lib/reduce_plain.wgsl")
        });
    }
    if kernel.takes_adapters() {
        source.push_str(include_str!("../../shaders/lib/lora.wgsl"));
    }
    if kernel.gates() {
        source.push_str(include_str!("../../shaders/lib/gate.wgsl"));
    }
    if let Some(block_type) = kinds.weights {
        source.push_str(include_str!("../../shaders/lib/bytes.wgsl"));
        source.push_str(include_str!("../../shaders/lib/unpack.wgsl"));
        source.extend(decoder(block_type));
    }
    source.push_str(kernel.source());
    source
}

/// The overrides of `loss` for an objective, beside the sizes; `k` is the most tokens that a teacher names.
pub fn loss_constants(objective: &Objective, k: usize, dense: bool) -> [(&'static str, f64); 7] {
    let (divergence, mix) = match objective.divergence {
        Divergence::ForwardKl | Divergence::Jsd { beta: 0.0 } | Divergence::SkewKl { lambda: 0.0 } => (0, 0.5),
        Divergence::ReverseKl | Divergence::Jsd { beta: 1.0 } => (1, 0.5),
        Divergence::Jsd { beta } => (2, beta),
        Divergence::SkewKl { lambda } => (3, lambda),
    };
    let tail = match objective.tail {
        Tail::Bucket => 0,
        Tail::Renormalized => 1,
        Tail::TeacherRenormalized => 2,
    };
    [
        ("K", k.max(1) as f64),
        ("DENSE", f64::from(u8::from(dense))),
        ("DIVERGENCE", f64::from(divergence)),
        ("MIX", f64::from(mix)),
        ("CE", f64::from(objective.ce)),
        ("TEMPERATURE", f64::from(objective.temperature)),
        ("TAIL", f64::from(tail)),
    ]
}
