//! The fit plan: what a student will take, computed before anything is allocated.

use super::plan::{Cache, Plan, Slot};
use crate::error::{Error, Result, human_bytes};
use crate::format::BlockType;
use crate::format::repack::{Layout, row_words};

/// How the numbers of a KV cache are kept. Sums are f32 whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CacheType {
    /// As they were computed.
    #[default]
    F32,
    /// Rounded to f16, two in a word; beyond its range, to its largest number.
    F16,
    /// Blocks of 32 numbers of a head as signed bytes q with an f32 scale d = max |x| / 127: x = d q. The last block of a head
    /// may be shorter.
    Q8,
}

impl CacheType {
    /// Every type, the widest first.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8];

    /// Its name in options and sentences.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
        }
    }

    /// The type that an option names; `None` is `auto`: the widest that fits.
    ///
    /// Errors: [`Error::Request`] for any other word.
    pub fn from_option(name: Option<&str>) -> Result<Option<Self>> {
        match name {
            None | Some("auto") => Ok(None),
            Some(name) => match Self::ALL.into_iter().find(|t| t.name() == name) {
                None => Err(Error::Request {
                    what: "cache is auto, f32, f16 or q8".into(),
                }),
                found => Ok(found),
            },
        }
    }

    /// 32-bit words of a head of `head_dim` numbers at one position; 4 divides `head_dim`. Q8: bytes, then scales.
    pub fn head_words(self, head_dim: usize) -> usize {
        match self {
            Self::F32 => head_dim,
            Self::F16 => head_dim / 2,
            Self::Q8 => head_dim / 4 + head_dim.div_ceil(32),
        }
    }
}

/// Bytes that a student takes on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// Weights, as the device holds them.
    pub weights: u64,
    /// Keys and values of the whole context.
    pub cache: u64,
    /// Activations of a chunk, rotary tables, logits, what recurrent layers carry.
    pub scratch: u64,
    /// What the device offers (an estimate: no browser tells).
    pub available: u64,
    /// Positions of the cache.
    pub context: usize,
    /// How the cache is kept.
    pub cache_type: CacheType,
    /// Bytes that a position takes in all caches that hold the whole context.
    pub position: u64,
}

impl Fit {
    /// Computes what `plan` takes with a cache of `context` positions, `copies` copies of what recurrent layers carry, and chunks
    /// of `chunk` rows.
    pub fn new(
        plan: &Plan,
        context: usize,
        chunk: usize,
        cache_type: CacheType,
        copies: usize,
        available: u64,
    ) -> Self {
        let c = &plan.config;
        let matrices: u64 = plan
            .matrices
            .iter()
            .map(|m| 4 * m.rows as u64 * row_words(m.block_type, m.columns) as u64)
            .sum();
        let vectors: u64 = plan.vectors.iter().map(|v| 4 * v.len() as u64).sum();
        let pair = 8 * (c.kv_heads * cache_type.head_words(c.head_dim)) as u64;
        let positions = |cache: &Cache| cache.positions(chunk, context);
        let cache = pair * plan.caches.iter().map(positions).sum::<usize>() as u64;
        let whole = plan.caches.iter().filter(|cache| positions(cache) == context).count();
        let optional = [Slot::Branch, Slot::Mixed, Slot::Convolved, Slot::Scanned];
        let row: u64 = [
            Slot::Hidden,
            Slot::Hidden,
            Slot::Qkv,
            Slot::Attended,
            Slot::GateUp,
            Slot::FeedForward,
        ]
        .into_iter()
        .chain(optional.into_iter().filter(|slot| plan.writes(*slot)))
        .map(|slot| 4 * plan.width(slot) as u64)
        .sum::<u64>()
            + 8 * c.query_width() as u64;
        let table = 4 * (c.ropes.len() * context * c.rotary) as u64;
        let carried = c.recurrent.map_or(0, |r| 4 * (r.conv_carry() + r.scan_carry()) as u64);
        let carried = carried * (plan.cells * copies) as u64;
        let scratch = chunk as u64 * row + table + 8 * c.vocabulary as u64 + carried;
        Self {
            weights: matrices + vectors,
            cache,
            scratch,
            available,
            context,
            cache_type,
            position: pair * whole as u64,
        }
    }

    /// The plan with the cache in `asked`, or else in the widest type with which all of `context` fits; in the narrowest where
    /// none does. `fit` plans for one type, and shortens the context where one layer's cache is too large for the device.
    pub fn choose(asked: Option<CacheType>, context: usize, fit: impl Fn(CacheType) -> Self) -> Self {
        let types = match asked {
            Some(one) => vec![one],
            None => CacheType::ALL.to_vec(),
        };
        let mut last = fit(types[0]);
        for narrower in &types[1..] {
            if last.fits() && last.context == context {
                break;
            }
            last = fit(*narrower);
        }
        last
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.cache + self.scratch
    }

    /// Whether it fits.
    pub fn fits(&self) -> bool {
        self.total() <= self.available
    }

    /// The longest context, in steps of 256, that would fit instead; 0 if the weights alone are too much.
    pub fn longest_context(&self) -> usize {
        // What is left of the caches without them does not grow with the context.
        let rings = self.cache.saturating_sub(self.position * self.context as u64);
        let free = self.available.saturating_sub(self.weights + self.scratch + rings);
        ((free / self.position.max(1)) as usize).min(self.context) / 256 * 256
    }

    /// The plan in one sentence with its numbers.
    pub fn words(&self) -> String {
        format!(
            "{} in all: {} of weights, {} of cache for {} tokens in {}, {} of scratch; the device offers about {}.",
            human_bytes(self.total()),
            human_bytes(self.weights),
            human_bytes(self.cache),
            self.context,
            self.cache_type.name(),
            human_bytes(self.scratch),
            human_bytes(self.available)
        )
    }

    /// What would fit instead, in a sentence.
    pub fn suggestion(&self) -> String {
        match self.longest_context() {
            0 => format!(
                "The weights alone take {}: choose a smaller student or one with fewer bits per weight.",
                human_bytes(self.weights)
            ),
            n => format!("Open it with a context of {n} tokens or fewer, or choose a smaller quantization."),
        }
    }

    /// [`Error::DoesNotFit`] unless it fits.
    pub fn check(&self) -> Result<()> {
        if self.fits() {
            return Ok(());
        }
        Err(Error::DoesNotFit {
            needed: self.total(),
            available: self.available,
            suggestion: self.suggestion(),
        })
    }
}

/// The matrices of one block type: what they take in the file, and as the GPU has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The type.
    pub block_type: BlockType,
    /// Matrices; those of several tensors count once.
    pub matrices: usize,
    /// Bytes in the file.
    pub file: u64,
    /// Bytes on the GPU.
    pub device: u64,
}

impl Held {
    /// What `plan` holds of each block type, in the order of the types' numbers.
    pub fn of(plan: &Plan) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for matrix in &plan.matrices {
            let file = (matrix.rows * matrix.row_bytes()) as u64;
            let device = 4 * matrix.rows as u64 * row_words(matrix.block_type, matrix.columns) as u64;
            match all.iter_mut().find(|held| held.block_type == matrix.block_type) {
                Some(held) => {
                    held.matrices += 1;
                    held.file += file;
                    held.device += device;
                }
                None => all.push(Self {
                    block_type: matrix.block_type,
                    matrices: 1,
                    file,
                    device,
                }),
            }
        }
        all.sort_by_key(|held| held.block_type.ggml());
        all
    }

    /// Whether the GPU has the type in another, wider layout.
    pub fn is_widened(&self) -> bool {
        Layout::widens(self.block_type)
    }

    /// The row in one sentence with its numbers.
    pub fn words(&self) -> String {
        let name = self.block_type.name();
        let (file, device) = (human_bytes(self.file), human_bytes(self.device));
        match Layout::of(self.block_type) {
            layout if self.is_widened() => format!(
                "{name}: {file} in the file, {device} on the GPU, where it is written as {} (the same numbers).",
                layout.words()
            ),
            _ => format!("{name}: {file} in the file, {device} on the GPU."),
        }
    }
}
