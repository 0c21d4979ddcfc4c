//! The trained pairs: which there are, what they add forwards, and their gradients.
//!
//! A pair A `(r, K)`, B `(N, r)` stands beside a frozen W (Hu et al., "LoRA", 2021): `y = W h + s B (A h)`. Backwards, with dy given:
//!
//! ```text
//! dB += s dy (A h)^T     dz = s B^T dy     dA += dz h^T     dh = W^T dy + A^T dz
//! ```

use crate::cpu::{add_scaled, dot};
use crate::error::{Error, Result};
use crate::format::adapter::{MODULES, Pair};
use crate::model::chance::Numbers;
use crate::model::lora::Parts;
use crate::model::{MatrixId, Plan};

/// Which pairs are trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// r.
    pub rank: usize,
    /// s = alpha / r.
    pub alpha: f32,
    /// Only the last so many layers; `None`: all.
    pub last_layers: Option<usize>,
    /// Of [`MODULES`], by GGUF's names; empty: all seven.
    pub modules: Vec<String>,
}

impl Shape {
    /// Errors: [`Error::Request`] for a rank of zero or modules that are not known.
    pub fn check(&self) -> Result<()> {
        let request = |what: String| Error::Request { what };
        if self.rank == 0 || self.rank > 1024 || !self.alpha.is_finite() {
            return Err(request(
                "the rank is a number from 1 to 1024, and alpha is finite".into(),
            ));
        }
        match self
            .modules
            .iter()
            .find(|m| MODULES.iter().all(|(known, _)| known != m))
        {
            Some(module) => Err(request(format!("there is no matrix '{module}' in a layer"))),
            None => Ok(()),
        }
    }

    /// The first layer that is trained.
    pub fn first_layer(&self, plan: &Plan) -> usize {
        let layers = plan.config.layers;
        layers - self.last_layers.unwrap_or(layers).min(layers)
    }

    /// Whether a matrix of a layer is trained.
    pub fn wants(&self, module: &str) -> bool {
        self.modules.is_empty() || self.modules.iter().any(|m| m == module)
    }
}

/// A tensor of the file that is trained, and where its rows lie in the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, `blk.0.attn_q.weight`.
    pub base: String,
    /// N.
    pub rows: usize,
    /// K.
    pub columns: usize,
    /// The matrix of the plan that holds it.
    pub matrix: MatrixId,
    /// Parts of the matrix that are its rows, in order: several where the file keeps matrices fused.
    pub parts: Vec<usize>,
}

impl Target {
    /// For each row of the tensor its row in the matrix.
    pub fn places(&self, plan: &Plan) -> Vec<usize> {
        let matrix = &plan.matrices[self.matrix];
        let parts = Parts::of(matrix);
        let of = |part: &usize| {
            let part = *part;
            (0..matrix.rows).filter(move |row| parts.part(*row) == part)
        };
        self.parts.iter().flat_map(of).collect()
    }
}

/// The tensors that are trained, in the order of the plan: the seven matrices of a layer, of which it may lack some.
///
/// A tensor that holds several of the seven is trained as a whole if one of them is wanted. The projections of recurrent layers
/// are none of the seven.
pub fn targets(plan: &Plan, shape: &Shape) -> Vec<Target> {
    let first_layer = shape.first_layer(plan);
    let mut all: Vec<Target> = Vec::new();
    for (matrix, about) in plan.matrices.iter().enumerate() {
        for (part, tensor) in about.tensors.iter().enumerate() {
            let Some((layer, modules)) = layer_and_modules(plan, &tensor.name) else {
                continue;
            };
            if layer < first_layer || !modules.iter().any(|module| shape.wants(module)) {
                continue;
            }
            match all.last_mut().filter(|last| last.base == tensor.name) {
                Some(fused) => {
                    fused.parts.push(part);
                    fused.rows += tensor.rows();
                }
                None => all.push(Target {
                    base: tensor.name.clone(),
                    rows: tensor.rows(),
                    columns: tensor.columns(),
                    matrix,
                    parts: vec![part],
                }),
            }
        }
    }
    all
}

/// Layer of a tensor, and which of the seven it holds.
fn layer_and_modules<'a>(plan: &Plan, name: &'a str) -> Option<(usize, Vec<&'a str>)> {
    if plan.config.fused {
        for (part, modules) in [
            ("attn_qkv", &["attn_q", "attn_k", "attn_v"][..]),
            ("ffn_up", &["ffn_gate", "ffn_up"]),
        ] {
            let layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
            if let Some((layer, rest)) = layer
                && rest.strip_suffix(".weight") == Some(part)
            {
                return Some((layer.parse().ok()?, modules.to_vec()));
            }
        }
    }
    layer_and_module(name).map(|(layer, module)| (layer, vec![module]))
}

/// Layer and module of a tensor that may be trained.
fn layer_and_module(name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let module = rest.strip_suffix(".weight")?;
    MODULES.iter().find(|(gguf, _)| *gguf == module)?;
    Some((layer.parse().ok()?, module))
}

/// A of a new pair: evenly from -1/sqrt(K) to 1/sqrt(K), from the seed and the tensor's name alone.
pub fn initial(seed: u64, name: &str, rank: usize, columns: usize) -> Vec<f32> {
    // Begun at a hash of the name (FNV-1a), so that no pair depends on which others there are.
    let begin = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64 ^ seed, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    let bound = 1.0 / (columns as f32).sqrt();
    let mut numbers = Numbers(begin);
    (0..rank * columns).map(|_| bound * numbers.signed()).collect()
}

/// A trained pair with its gradient and the optimizer's memory.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The pair; `base` is the tensor that it changes.
    pub pair: Pair,
    /// Gradient of A, then of B.
    pub gradient: [Vec<f32>; 2],
    pub(super) moments: [[Vec<f32>; 2]; 2],
    matrix: MatrixId,
    /// For each row of the tensor its row in the matrix.
    places: Vec<usize>,
}

impl Trained {
    /// A is drawn from `seed`, B is zero.
    pub(super) fn new(target: Target, plan: &Plan, rank: usize, seed: u64) -> Self {
        let places = target.places(plan);
        let Target {
            base,
            rows,
            columns,
            matrix,
            ..
        } = target;
        let zeros = || [vec![0.0; rank * columns], vec![0.0; rows * rank]];
        Self {
            gradient: zeros(),
            moments: [zeros(), zeros()],
            matrix,
            places,
            pair: Pair {
                a: initial(seed, &base, rank, columns),
                b: vec![0.0; rows * rank],
                base,
                rank,
                rows,
                columns,
            },
        }
    }

    /// The matrix of the plan that it changes.
    pub(super) fn matrix(&self) -> MatrixId {
        self.matrix
    }

    /// z = A h of one row, `(r)`.
    fn down(&self, h: &[f32]) -> Vec<f32> {
        self.pair.a.chunks_exact(self.pair.columns).map(|a| dot(a, h)).collect()
    }

    /// y += scale B (A h) in the tensor's rows of the matrix; h `(T, K)`, y `(T, N)` with `n` = N of the matrix.
    pub(super) fn add(&self, scale: f32, h: &[f32], n: usize, y: &mut [f32]) {
        let rank = self.pair.rank;
        for (h, y) in h.chunks_exact(self.pair.columns).zip(y.chunks_exact_mut(n)) {
            let z = self.down(h);
            for (place, b) in self.places.iter().zip(self.pair.b.chunks_exact(rank)) {
                y[*place] += scale * dot(b, &z);
            }
        }
    }

    /// Adds to its gradients, and to dh `(T, K)`, what dy `(T, N)` asks.
    pub(super) fn back(&mut self, scale: f32, h: &[f32], n: usize, dy: &[f32], dh: &mut [f32]) {
        let (rank, columns) = (self.pair.rank, self.pair.columns);
        let rows = h.chunks_exact(columns).zip(dy.chunks_exact(n));
        for ((h, dy), dh) in rows.zip(dh.chunks_exact_mut(columns)) {
            let z = self.down(h);
            let mut dz = vec![0.0; rank];
            let [da, db] = &mut self.gradient;
            let halves = self.pair.b.chunks_exact(rank).zip(db.chunks_exact_mut(rank));
            for (place, (b, db)) in self.places.iter().zip(halves) {
                let d = scale * dy[*place];
                add_scaled(db, d, &z);
                add_scaled(&mut dz, d, b);
            }
            let halves = self.pair.a.chunks_exact(columns).zip(da.chunks_exact_mut(columns));
            for (dz, (a, da)) in dz.iter().zip(halves) {
                add_scaled(da, *dz, h);
                add_scaled(dh, *dz, a);
            }
        }
    }
}
