//! The steps of recurrent layers.
//!
//! ```text
//! Linear     mixed     = Win norm(x)
//! ShortConv  convolved = conv(mixed), with what it carries
//! Scan       scanned   = the state's results       (Mamba2, DeltaNet)
//! GatedNorm  scanned   = norm and gate of scanned  (Mamba2, DeltaNet)
//! Linear     x        += Wout (convolved or scanned)
//! ```

use super::{Builder, Slot, Step, VectorId};
use crate::error::{Error, Result};
use crate::format::BlockType;
use crate::format::gguf::TensorInfo;
use crate::model::{Config, Mixing};

impl Builder<'_> {
    /// The mixing part of a recurrent layer.
    pub(super) fn recurrent(&mut self, config: &Config, layer: usize) -> Result<()> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let shape = config.recurrent.expect("recurrent layers have a shape");
        let (inner, heads) = (shape.inner(), shape.heads);
        let cell = self.cells;
        self.cells += 1;
        let norm = self.norm_before(config, &name("attn_norm.weight"))?;
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
        self.projection(norm, &projected, config.hidden, Slot::Mixed)?;
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
        self.residual(
            config,
            &name(output),
            inner,
            source,
            &name("post_attention_norm.weight"),
        )
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
