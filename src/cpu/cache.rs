//! Keys or values of one layer, in any [`CacheType`], word for word as a device has them.

use crate::model::CacheType;

/// Numbers of a block of [`CacheType::Q8`] that share a scale.
const BLOCK: usize = 32;

/// Blocks whose largest number is below this are zeros: 127 / max is then finite in f32 everywhere.
const TINY: f32 = 1.0e-30;

/// Rows of `head_dim` numbers, one for each KV head of each position: position p's head h is row p kv_heads + h.
#[derive(Debug, Clone)]
pub struct Rows {
    cache_type: CacheType,
    head_dim: usize,
    words: Vec<u32>,
}

impl Rows {
    /// `count` rows of zeros.
    pub fn new(cache_type: CacheType, head_dim: usize, count: usize) -> Self {
        Self {
            cache_type,
            head_dim,
            words: vec![0; count * cache_type.head_words(head_dim)],
        }
    }

    /// Rows of these numbers, `(rows, head_dim)`.
    pub fn of(cache_type: CacheType, head_dim: usize, values: &[f32]) -> Self {
        let mut rows = Self::new(cache_type, head_dim, values.len() / head_dim);
        for (row, values) in values.chunks_exact(head_dim).enumerate() {
            rows.put(row, values);
        }
        rows
    }

    /// Rows of the same kind with these words.
    pub fn with_words(&self, words: Vec<u32>) -> Self {
        Self { words, ..*self }
    }

    /// The words, [`CacheType::head_words`] a row.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The words, to be written over.
    pub fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.words.len() / self.cache_type.head_words(self.head_dim)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Keeps `values`, `(head_dim)`, as row `row`.
    pub fn put(&mut self, row: usize, values: &[f32]) {
        let width = self.cache_type.head_words(self.head_dim);
        let words = &mut self.words[row * width..(row + 1) * width];
        match self.cache_type {
            CacheType::F32 => bytemuck::cast_slice_mut(words).copy_from_slice(values),
            CacheType::F16 => {
                let half = |v: f32| u32::from(half::f16::from_f32(v.clamp(-65504.0, 65504.0)).to_bits());
                for (word, pair) in words.iter_mut().zip(values.chunks_exact(2)) {
                    *word = half(pair[0]) | half(pair[1]) << 16;
                }
            }
            CacheType::Q8 => {
                let (quants, scales) = words.split_at_mut(self.head_dim / 4);
                let blocks = quants.chunks_mut(BLOCK / 4).zip(values.chunks(BLOCK));
                for ((quants, values), scale) in blocks.zip(scales) {
                    let most = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
                    let (d, inverse) = if most > TINY {
                        (most / 127.0, 127.0 / most)
                    } else {
                        (0.0, 0.0)
                    };
                    *scale = d.to_bits();
                    for (word, four) in quants.iter_mut().zip(values.chunks_exact(4)) {
                        let byte = |i: usize| u32::from((four[i] * inverse).round_ties_even() as i8 as u8) << (8 * i);
                        *word = byte(0) | byte(1) | byte(2) | byte(3);
                    }
                }
            }
        }
    }

    /// Row `row`, `(head_dim)`: as it lies there in f32, else written to `scratch`.
    pub fn get<'a>(&'a self, row: usize, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        let width = self.cache_type.head_words(self.head_dim);
        let words = &self.words[row * width..(row + 1) * width];
        scratch.clear();
        match self.cache_type {
            CacheType::F32 => return bytemuck::cast_slice(words),
            CacheType::F16 => {
                scratch.extend(words.iter().flat_map(|word| {
                    [*word as u16, (*word >> 16) as u16].map(|bits| half::f16::from_bits(bits).to_f32())
                }))
            }
            CacheType::Q8 => {
                let (quants, scales) = words.split_at(self.head_dim / 4);
                for (quants, scale) in quants.chunks(BLOCK / 4).zip(scales) {
                    let d = f32::from_bits(*scale);
                    let bytes = quants.iter().flat_map(|word| word.to_le_bytes());
                    scratch.extend(bytes.map(|byte| d * f32::from(byte as i8)));
                }
            }
        }
        scratch
    }

    /// All rows, `(rows, head_dim)`.
    pub fn values(&self) -> Vec<f32> {
        let mut scratch = Vec::new();
        let rows = 0..self.len();
        rows.flat_map(|row| self.get(row, &mut scratch).to_vec()).collect()
    }
}
