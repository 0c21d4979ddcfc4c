//! Adapters laid beside a plan: for each matrix that is changed, all A stacked and all B side by side.
//!
//! Several adapters become one of their summed ranks: `y += B (s * (A x))`, where s holds each adapter's factor for its
//! own ranks. A change of scale then rewrites s and nothing else.

use super::plan::{Linear, Matrix, MatrixId, Plan, Step};
use crate::error::{Error, Result};
use crate::format::adapter::Adapter;

/// Ranks are padded to whole groups of this many, with zeros.
const GROUP: usize = 8;

/// What is added to one matrix of the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The matrix.
    pub matrix: MatrixId,
    /// How the matrix is made of tensors; each has its own A.
    pub parts: Parts,
    /// A, `(parts r, K)`: part after part, adapter after adapter inside.
    pub a: Vec<f32>,
    /// B, `(N, r)`, rows in the matrix's own order.
    pub b: Vec<f32>,
}

/// All adapters that are attached.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stack {
    /// r: the ranks of all adapters, padded.
    pub rank: usize,
    /// s, `(r)`.
    pub scales: Vec<f32>,
    /// The matrices that are changed.
    pub changes: Vec<Change>,
    /// Where each adapter's ranks begin.
    begins: Vec<usize>,
}

/// How a merged matrix is made of tensors: what `lib/lora.wgsl` is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Tensors.
    pub count: usize,
    /// Rows alternate between so many tensors; 1 where they follow one another.
    pub turn: usize,
    /// First rows of the second and the third tensor.
    pub bounds: [usize; 2],
}

impl Parts {
    /// Of a matrix of one tensor.
    pub const ONE: Self = Self {
        count: 1,
        turn: 1,
        bounds: [usize::MAX; 2],
    };

    /// Of a matrix. Plans merge at most three tensors.
    pub fn of(matrix: &Matrix) -> Self {
        let count = matrix.tensors.len();
        assert!(count <= 3, "{count} tensors in one matrix");
        let mut bounds = [usize::MAX; 2];
        let mut first = 0;
        for (bound, tensor) in bounds.iter_mut().zip(&matrix.tensors).take(count - 1) {
            first += tensor.rows();
            *bound = first;
        }
        Self {
            count,
            turn: if matrix.interleaved { count } else { 1 },
            bounds,
        }
    }

    /// The tensor that a row belongs to.
    pub fn part(&self, row: usize) -> usize {
        if self.turn > 1 {
            return row % self.turn;
        }
        usize::from(row >= self.bounds[0]) + usize::from(row >= self.bounds[1])
    }

    /// The row's number in its own tensor.
    pub fn own(&self, row: usize) -> usize {
        if self.turn > 1 {
            return row / self.turn;
        }
        match self.part(row) {
            0 => row,
            part => row - self.bounds[part - 1],
        }
    }
}

impl Stack {
    /// Lays `adapters`, each with the user's scale, beside `plan`.
    ///
    /// Errors: [`Error::Adapter`] where one was made for another architecture, names a matrix that the student does not have or
    /// that cannot be changed, or has other sizes.
    pub fn new(plan: &Plan, adapters: &[(&Adapter, f32)]) -> Result<Self> {
        let mismatch = |what: String| Error::Adapter { what };
        let architecture = plan.config.architecture.name();
        // Only matrices of linear steps in the body: a tied head is also the embedding.
        let linear: Vec<MatrixId> = plan
            .body
            .iter()
            .filter_map(|step| match step {
                Step::Linear(Linear { matrix, .. }) => Some(*matrix),
                _ => None,
            })
            .collect();
        // A fused tensor of the file may be several parts of its matrix: each with its first row in the tensor.
        let find = |name: &str| {
            linear.iter().find_map(|id| {
                let mut first = 0;
                let mut parts = Vec::new();
                for (part, tensor) in plan.matrices[*id].tensors.iter().enumerate() {
                    if tensor.name == name {
                        parts.push((part, first));
                        first += tensor.rows();
                    }
                }
                (!parts.is_empty()).then_some((*id, parts, first))
            })
        };
        let mut begins = Vec::new();
        let mut rank = 0;
        for (adapter, _) in adapters {
            if adapter.architecture != architecture {
                return Err(mismatch(format!(
                    "it was made for the architecture {}, and this student is {architecture}",
                    adapter.architecture
                )));
            }
            begins.push(rank);
            rank += adapter.pairs.iter().map(|pair| pair.rank).max().unwrap_or(0);
        }
        let rank = rank.next_multiple_of(GROUP);
        let mut stack = Self {
            rank,
            scales: vec![0.0; rank],
            changes: Vec::new(),
            begins,
        };
        for (k, (adapter, scale)) in adapters.iter().enumerate() {
            stack.set_scale(adapter, k, *scale);
            for pair in &adapter.pairs {
                let (id, parts, rows) = find(&pair.base).ok_or_else(|| {
                    mismatch(format!(
                        "it changes {}, which this student does not have or which cannot be changed",
                        pair.base
                    ))
                })?;
                let matrix = &plan.matrices[id];
                if (rows, matrix.columns) != (pair.rows, pair.columns) {
                    return Err(mismatch(format!(
                        "its {} is for a matrix of {} by {}, and this student's is {} by {}",
                        pair.base, pair.rows, pair.columns, rows, matrix.columns
                    )));
                }
                let at = match stack.changes.iter().position(|change| change.matrix == id) {
                    Some(at) => at,
                    None => {
                        let parts = Parts::of(matrix);
                        stack.changes.push(Change {
                            matrix: id,
                            parts,
                            a: vec![0.0; parts.count * rank * matrix.columns],
                            b: vec![0.0; matrix.rows * rank],
                        });
                        stack.changes.len() - 1
                    }
                };
                let change = &mut stack.changes[at];
                let begin = stack.begins[k];
                // Pairs of a lower rank than their adapter's highest: the shared factor is of the highest, so theirs differs.
                let highest = adapter.pairs.iter().map(|pair| pair.rank).max().unwrap_or(pair.rank);
                let factor = adapter.scale(pair.rank, 1.0) / adapter.scale(highest, 1.0);
                let columns = matrix.columns;
                for (part, first_row) in parts {
                    let first = (part * rank + begin) * columns;
                    change.a[first..first + pair.rank * columns].copy_from_slice(&pair.a);
                    for row in (0..matrix.rows).filter(|row| change.parts.part(*row) == part) {
                        let own = first_row + change.parts.own(row);
                        for j in 0..pair.rank {
                            change.b[row * rank + begin + j] = factor * pair.b[own * pair.rank + j];
                        }
                    }
                }
            }
        }
        Ok(stack)
    }

    /// Sets the scale of adapter number `k`, which is `adapter`.
    pub fn set_scale(&mut self, adapter: &Adapter, k: usize, scale: f32) {
        let highest = adapter.pairs.iter().map(|pair| pair.rank).max().unwrap_or(0);
        let begin = self.begins[k];
        self.scales[begin..begin + highest].fill(adapter.scale(highest.max(1), scale));
    }

    /// Whether nothing is attached.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What is added to a matrix, if anything.
    pub fn change(&self, matrix: MatrixId) -> Option<&Change> {
        self.changes.iter().find(|change| change.matrix == matrix)
    }
}
