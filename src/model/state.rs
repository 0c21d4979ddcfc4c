//! A conversation as bytes: the tokens that an engine has run, and what it keeps of them. What is restored goes on without
//! running them again.
//!
//! Little-endian: the magic, the version, what the state belongs to (the student, the engine's shape, the adapters in force), the
//! tokens, then a body of 32-bit words whose length follows from all that. A reader knows what it belongs to itself, so it compares
//! and believes nothing.

use super::{CacheType, Plan};
use crate::error::{Error, Result};
use crate::format::adapter::Adapter;
use crate::format::source::Source;
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"USTUDY\r\n";
const VERSION: u32 = 1;

/// Bytes of each end of a student's file that tell it from others.
const END: u64 = 1 << 20;

/// SHA-256.
pub type Print = [u8; 32];

/// What tells one student's file from another without reading all of it: its size in decimal digits and both of its ends.
pub async fn student_print<S: Source>(source: &S) -> Result<Print> {
    let size = source.size();
    let mut hash = Sha256::new();
    hash.update(size.to_string());
    hash.update(source.read_exact(0, size.min(END) as usize).await?);
    let second = size.saturating_sub(END).max(size.min(END));
    hash.update(source.read_exact(second, (size - second) as usize).await?);
    Ok(hash.finalize().into())
}

/// What tells one adapter from another: all of its numbers.
pub fn adapter_print(adapter: &Adapter) -> Print {
    let mut hash = Sha256::new();
    hash.update(adapter.alpha.to_le_bytes());
    for pair in &adapter.pairs {
        hash.update(&pair.base);
        hash.update((pair.rank as u64).to_le_bytes());
        hash.update(bytemuck::cast_slice::<f32, u8>(&pair.a));
        hash.update(bytemuck::cast_slice::<f32, u8>(&pair.b));
    }
    hash.finalize().into()
}

/// How an engine keeps a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// On a device, or on the CPU.
    pub on_gpu: bool,
    /// How keys and values are kept.
    pub cache_type: CacheType,
    /// Positions of the context.
    pub context: usize,
    /// 32-bit words of the keys of a position in one cache.
    pub position_words: usize,
    /// Positions of each cache.
    pub caches: Vec<usize>,
    /// Recurrent layers.
    pub cells: usize,
    /// Numbers that each of them carries: of its convolution, and of its state.
    pub carried: [usize; 2],
}

/// How far a conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Tokens that were run.
    pub tokens: usize,
    /// Positions that were ever written: tokens that were not wanted may have been run behind the others.
    pub written: usize,
    /// Tokens after which recurrent layers keep a copy of what they carry; 0: no copy.
    pub kept: usize,
}

/// What a state belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct Owner {
    /// The student's file.
    pub student: Print,
    /// The engine.
    pub shape: Shape,
    /// The adapters in force, with their scales.
    pub adapters: Vec<(Print, f32)>,
}

impl Shape {
    /// The shape of an engine that runs `plan` in chunks of up to `chunk` rows.
    pub fn new(plan: &Plan, context: usize, chunk: usize, cache_type: CacheType, on_gpu: bool) -> Self {
        let c = &plan.config;
        Self {
            on_gpu,
            cache_type,
            context,
            position_words: c.kv_heads * cache_type.head_words(c.head_dim),
            caches: plan
                .caches
                .iter()
                .map(|cache| cache.positions(chunk, context))
                .collect(),
            cells: plan.cells,
            carried: c.recurrent.map_or([0, 0], |r| [r.conv_carry(), r.scan_carry()]),
        }
    }

    /// Words of keys that cache number `cache` holds of a conversation; values are as many. They lie at its beginning: a cache of
    /// the whole context holds the tokens, a ring whatever was written to it.
    pub fn held(&self, cache: usize, mark: Mark) -> usize {
        let positions = self.caches[cache];
        self.position_words
            * if positions < self.context {
                mark.written.min(positions)
            } else {
                mark.tokens
            }
    }

    /// Words of a body: for each cache its keys, then its values; what each recurrent layer carries, then its kept copy.
    fn body(&self, mark: Mark) -> usize {
        let caches: usize = (0..self.caches.len()).map(|cache| 2 * self.held(cache, mark)).sum();
        let copies = 1 + usize::from(mark.kept > 0);
        caches + copies * self.cells * (self.carried[0] + self.carried[1])
    }

    fn bytes(&self) -> Vec<u8> {
        let kind = CacheType::ALL.iter().position(|t| *t == self.cache_type).unwrap_or(0);
        let head = [
            usize::from(self.on_gpu),
            kind,
            self.context,
            self.position_words,
            self.caches.len(),
        ];
        let numbers = head
            .iter()
            .chain(&self.caches)
            .chain([&self.cells])
            .chain(&self.carried);
        numbers.flat_map(|n| (*n as u64).to_le_bytes()).collect()
    }
}

impl Owner {
    fn adapter_bytes(&self) -> Vec<u8> {
        let mut bytes = (self.adapters.len() as u64).to_le_bytes().to_vec();
        for (print, scale) in &self.adapters {
            bytes.extend(print);
            bytes.extend(scale.to_le_bytes());
        }
        bytes
    }

    /// Everything in front of the body, for the engine to go on with. `ids`: the tokens that were run.
    pub fn begin(&self, ids: &[u32], mark: Mark) -> Vec<u8> {
        assert_eq!(ids.len(), mark.tokens, "as many as were run");
        let mut bytes = Vec::with_capacity(4 * (ids.len() + self.shape.body(mark)) + 256);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.student);
        bytes.extend(self.shape.bytes());
        bytes.extend(self.adapter_bytes());
        for number in [mark.tokens, mark.written, mark.kept] {
            bytes.extend((number as u64).to_le_bytes());
        }
        bytes.extend(bytemuck::cast_slice::<u32, u8>(ids));
        bytes
    }

    /// The tokens of a state, its mark, and its body, which has the length that both say.
    ///
    /// Errors: [`Error::State`] for bytes that are no state, or that do not belong here, with what differs.
    pub fn read<'b>(&self, vocabulary: usize, bytes: &'b [u8]) -> Result<(Vec<u32>, Mark, &'b [u8])> {
        let mut left = bytes;
        let mut take = |length: usize| {
            let (taken, rest) = left.split_at_checked(length).ok_or_else(|| state("it ends early"))?;
            left = rest;
            Ok::<_, Error>(taken)
        };
        if take(MAGIC.len())? != MAGIC {
            return Err(state("it is no saved conversation"));
        }
        if take(4)? != VERSION.to_le_bytes() {
            return Err(state("another version of this program has saved it"));
        }
        let shape = self.shape.bytes();
        for (own, what) in [
            (self.student.as_slice(), "it belongs to another student"),
            (
                &shape,
                "the student was opened otherwise: on another engine, with another context or another type of cache",
            ),
            (
                &self.adapter_bytes(),
                "other adapters were attached, or at other scales",
            ),
        ] {
            if take(own.len())? != own {
                return Err(state(what));
            }
        }
        let mut number = || {
            let bytes = take(8)?.try_into().map_err(|_| state("it ends early"))?;
            Ok::<_, Error>(usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX))
        };
        let (tokens, written, kept) = (number()?, number()?, number()?);
        let mark = Mark { tokens, written, kept };
        let sound = (1..=self.shape.context).contains(&tokens)
            && (tokens..=self.shape.context).contains(&written)
            && kept <= tokens
            && (kept == 0 || self.shape.cells > 0);
        if !sound {
            return Err(state("its numbers of tokens contradict one another"));
        }
        let ids: Vec<u32> = bytemuck::pod_collect_to_vec(take(4 * tokens)?);
        if ids.iter().any(|id| *id as usize >= vocabulary) {
            return Err(state("it holds a token that does not exist"));
        }
        if left.len() != 4 * self.shape.body(mark) {
            return Err(state("it does not have the length that it should have"));
        }
        Ok((ids, mark, left))
    }
}

fn state(what: &str) -> Error {
    Error::State { what: what.into() }
}

/// The words of a body, in order.
pub struct Words<'b>(pub &'b [u8]);

impl<'b> Words<'b> {
    /// The bytes of the next `words` words.
    pub fn take(&mut self, words: usize) -> &'b [u8] {
        let (taken, rest) = self.0.split_at(4 * words);
        self.0 = rest;
        taken
    }

    /// The next words.
    pub fn copy<T: bytemuck::Pod>(&mut self, to: &mut [T]) {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(to);
        bytes.copy_from_slice(self.take(bytes.len() / 4));
    }
}
