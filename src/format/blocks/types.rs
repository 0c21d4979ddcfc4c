//! The table of ggml's tensor types: all that have a size, and those that are decoded here.

use crate::error::{Error, Result};

/// A format of weights that this program decodes; its number is ggml's, as it stands in files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(non_camel_case_types)] // ggml's spelling, which is also what file names say
#[allow(missing_docs)] // the layouts are in the heads of `plain`, `legacy`, `k`, `coded`, `fp4` and `ternary`
#[repr(u32)]
pub enum BlockType {
    F32 = 0,
    F16 = 1,
    BF16 = 30,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    IQ1_S = 19,
    IQ1_M = 29,
    IQ2_XXS = 16,
    IQ2_XS = 17,
    IQ2_S = 22,
    IQ3_XXS = 18,
    IQ3_S = 21,
    IQ4_NL = 20,
    IQ4_XS = 23,
    MXFP4 = 39,
    NVFP4 = 40,
    Q1_0 = 41,
    Q2_0 = 42,
    TQ1_0 = 34,
    TQ2_0 = 35,
}

/// ggml's types that have a size: number, name, weights per block, bytes per block. Source: `ggml.h` and `ggml.c`.
const GGML_TYPES: [(u32, &str, usize, usize); 35] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
    (42, "Q2_0", 64, 18),
];

/// Types that ggml once had and removed; a file with one of them is old, and nothing reads it any more.
const REMOVED: [(u32, &str); 8] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

/// Weights and bytes per block of any ggml type that has a size, decoded here or not; `None` for unknown numbers.
pub fn ggml_block(id: u32) -> Option<(usize, usize)> {
    GGML_TYPES.iter().find(|row| row.0 == id).map(|row| (row.2, row.3))
}

/// ggml's name for a type's number, removed types included.
pub fn ggml_name(id: u32) -> Option<&'static str> {
    let current = GGML_TYPES.iter().find(|row| row.0 == id).map(|row| row.1);
    current.or_else(|| REMOVED.iter().find(|row| row.0 == id).map(|row| row.1))
}

/// The error for a type that cannot be used, naming it where ggml has a name.
pub(in crate::format) fn unsupported_type(id: u32) -> Error {
    let what = match ggml_name(id) {
        Some(name) if ggml_block(id).is_none() => format!("weights of the type {name}, which ggml has removed"),
        Some(name) => format!("weights of the type {name}"),
        None => format!("weights of an unknown type (ggml number {id})"),
    };
    let known: Vec<_> = BlockType::ALL.iter().map(|known| known.name()).collect();
    Error::unsupported(what, known.join(", "))
}

impl BlockType {
    /// Every type, in ggml's families: plain, legacy, K, coded by grids and books, FP4, two bits or fewer.
    pub const ALL: [Self; 28] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
        Self::IQ1_S,
        Self::IQ1_M,
        Self::IQ2_XXS,
        Self::IQ2_XS,
        Self::IQ2_S,
        Self::IQ3_XXS,
        Self::IQ3_S,
        Self::IQ4_NL,
        Self::IQ4_XS,
        Self::MXFP4,
        Self::NVFP4,
        Self::Q1_0,
        Self::Q2_0,
        Self::TQ1_0,
        Self::TQ2_0,
    ];

    /// The type with ggml's number `id`.
    ///
    /// # Errors
    /// `Unsupported`, naming the type where ggml has a name for it.
    pub fn from_ggml(id: u32) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.ggml() == id)
            .ok_or_else(|| unsupported_type(id))
    }

    /// ggml's number for this type, as it stands in files.
    pub fn ggml(self) -> u32 {
        self as u32
    }

    fn row(self) -> &'static (u32, &'static str, usize, usize) {
        let row = GGML_TYPES.iter().find(|row| row.0 == self.ggml());
        row.expect("every type that is decoded has a size")
    }

    /// ggml's name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Weights per block: 1, 32, 64, 128 or 256.
    pub fn block_len(self) -> usize {
        self.row().2
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        self.row().3
    }

    /// Bytes of a row of `columns` weights; `None` if that is no multiple of the block, or more than a `usize` holds.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let (_, _, len, bytes) = *self.row();
        if !columns.is_multiple_of(len) {
            return None;
        }
        (columns / len).checked_mul(bytes)
    }
}
