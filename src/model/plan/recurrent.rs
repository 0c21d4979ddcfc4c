//! The steps of recurrent layers.
//!
//! ```text
//! Linear     mixed     = Win norm(x)
//! ShortConv  convolved = conv(mixed), with what it carries
//! Scan       scanned   = the state's results       (Mamba2, DeltaNet)
//! GatedNorm  scanned   = norm and gate of scanned  (Mamba2, DeltaNet)
//! Linear     x        += Wout (convolved or scanned)
//! ```

use super::{Builder, Run, Slot, Step, VectorId};
use crate::error::{Error, Result};
use crate::format::BlockType;
use crate::format::gguf::TensorInfo;
use crate::model::{Mixing, Recurrent};

/// Tensors that one matrix may merge: what adapters tell apart.
const MERGED: usize = 3;

impl Builder<'_> {
    /// The mixing part of recurrent layer number `cell`, which is layer `layer` of the student; D is `hidden`.
    pub(super) fn recurrent(&mut self, shape: &Recurrent, hidden: usize, layer: usize, cell: usize) -> Result<()> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (inner, heads) = (shape.inner(), shape.heads);
        let norm = self.gain(&name("attn_norm.weight"), hidden)?;
        let (projected, conv) = match shape.mixing {
            Mixing::ShortConv => (vec![("shortconv.in_proj", shape.projection())], "shortconv.conv"),
            Mixing::Mamba2 => (vec![("ssm_in", shape.projection())], "ssm_conv1d"),
            Mixing::DeltaNet => (
                vec![
                    ("attn_qkv", shape.channels),
                    ("attn_gate", inner),
                    ("ssm_beta", heads),
                    ("ssm_alpha", heads),
                ],
                "ssm_conv1d",
            ),
        };
        let projected: Vec<_> = projected.into_iter().map(|(part, width)| (name(part), width)).collect();
        self.projection(norm, &projected, hidden, Slot::Mixed)?;
        let weights = self.numbers(&[(name(&format!("{conv}.weight")), shape.channels * shape.taps)])?;
        let bias = self.bias(&[(name(&format!("{conv}.bias")), shape.channels)])?;
        self.body.push(Step::ShortConv { cell, weights, bias });
        let (output, source) = if shape.mixing == Mixing::ShortConv {
            ("shortconv.out_proj", Slot::Convolved)
        } else {
            let mut params = vec![(name("ssm_dt.bias"), heads), (name("ssm_a"), heads)];
            let mut gain = shape.head_dim;
            if shape.mixing == Mixing::Mamba2 {
                params.push((name("ssm_d"), heads));
                gain = inner;
            }
            let params = self.numbers(&params)?;
            let gain = self.numbers(&[(name("ssm_norm.weight"), gain)])?;
            self.body.push(Step::Scan { cell, params });
            self.body.push(Step::GatedNorm { gain });
            ("ssm_out", Slot::Scanned)
        };
        self.residual(&name(output), hidden, inner, source)
    }

    /// output = W norm(Hidden) for tensors `(name, rows)` one behind another; neighbours of one block type are one matrix.
    fn projection(&mut self, norm: VectorId, parts: &[(String, usize)], columns: usize, output: Slot) -> Result<()> {
        let mut first = 0;
        let mut runs: Vec<Run> = Vec::new();
        for (name, width) in parts {
            let (tensor, block_type) = self.matrix_tensor(&format!("{name}.weight"), *width, columns)?;
            let bias = (format!("{name}.bias"), *width);
            match runs.last_mut() {
                Some(run) if run.block_type == block_type && run.tensors.len() < MERGED => {
                    run.tensors.push(tensor);
                    run.biases.push(bias);
                }
                _ => runs.push(Run {
                    block_type,
                    first,
                    tensors: vec![tensor],
                    biases: vec![bias],
                }),
            }
            first += width;
        }
        for run in runs {
            let bias = self.bias(&run.biases)?;
            let matrix = self.push_matrix(run.tensors, false, run.block_type);
            self.body.push(Step::Linear {
                norm: Some(norm),
                input: Slot::Hidden,
                matrix,
                bias,
                output,
                first: run.first,
                step: 1,
                add: false,
                gate: false,
            });
        }
        Ok(())
    }

    /// The numbers of tensors `(name, elements)` of whatever shape, one behind another; all must be there.
    fn numbers(&mut self, parts: &[(String, usize)]) -> Result<VectorId> {
        let mut vector = Vec::new();
        for (name, length) in parts {
            let tensor = self
                .find(name)
                .ok_or_else(|| Error::malformed(format!("the tensor {name} is missing")))?;
            if tensor.rows().checked_mul(tensor.columns()) != Some(*length) {
                return Err(Error::malformed(format!("{name} should have {length} elements")));
            }
            plain(tensor)?;
            vector.push((Some(tensor.clone()), *length));
        }
        Ok(self.push_vector(vector))
    }
}

/// Rows of a few numbers cannot be cut into blocks.
fn plain(tensor: &TensorInfo) -> Result<()> {
    match tensor.block_type()? {
        BlockType::F32 | BlockType::F16 | BlockType::BF16 => Ok(()),
        other => Err(Error::unsupported(
            format!("small tensors in {}", other.name()),
            "F32, F16 and BF16 there",
        )),
    }
}
