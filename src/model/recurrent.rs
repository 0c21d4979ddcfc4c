//! The shape of recurrent layers: what they carry from token to token instead of keys and values.

use crate::error::{Error, Result};
use crate::format::gguf::Metadata;

/// What recurrent layers carry is kept so many tokens in front of a prompt's end: behind it lies what a template opens the answer
/// with, which the next turn may write otherwise (without the student's reasoning, for one).
pub const OPENING: usize = 16;

/// How the recurrent layers of a student mix its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mixing {
    /// A gated convolution over a few tokens: LFM2.
    ShortConv,
    /// A convolution, then a selective state space: Mamba 2.
    Mamba2,
    /// A convolution, then the gated delta rule: Qwen 3.5.
    DeltaNet,
}

/// The shape of the recurrent layers of a student: one for all of them.
///
/// Columns of the projection in front: ShortConv B | C | X; Mamba2 z | x | B | C | dt; DeltaNet q | k | v | z | beta | alpha.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recurrent {
    /// What they do.
    pub mixing: Mixing,
    /// Columns that are convolved.
    pub channels: usize,
    /// Tokens that a convolution sees, its own included.
    pub taps: usize,
    /// Heads of the state (Mamba2), value heads (DeltaNet); 0 without a state.
    pub heads: usize,
    /// Rows of a head's state: its results.
    pub head_dim: usize,
    /// Groups that share B and C (Mamba2), key heads (DeltaNet).
    pub groups: usize,
    /// Columns of a head's state: B and C (Mamba2), keys (DeltaNet).
    pub state: usize,
}

impl Recurrent {
    /// Reads the shape from the metadata of an architecture called `name`; D is `hidden`.
    ///
    /// Errors: [`Error::Malformed`] for a missing or impossible value, [`Error::Unsupported`] for a shape that the kernels do
    /// not take.
    pub fn from_metadata(metadata: &Metadata, name: &str, mixing: Mixing, hidden: usize) -> Result<Self> {
        let count = |suffix: &str, least: u64, limit: u64| match metadata.u64(&format!("{name}.{suffix}")) {
            Some(n) if (least..=limit).contains(&n) => Ok(n as usize),
            _ => Err(Error::malformed(format!(
                "{name}.{suffix} is not a whole number from {least} to {limit}"
            ))),
        };
        let shape = if mixing == Mixing::ShortConv {
            Self {
                mixing,
                channels: hidden,
                taps: count("shortconv.l_cache", 2, 32)?,
                heads: 0,
                head_dim: 0,
                groups: 0,
                state: 0,
            }
        } else {
            let inner = count("ssm.inner_size", 1, 1 << 20)?;
            let heads = count("ssm.time_step_rank", 1, 1 << 16)?;
            let groups = count("ssm.group_count", 1, 1 << 12)?;
            let state = count("ssm.state_size", 1, 1 << 10)?;
            if inner % heads != 0 || heads % groups != 0 {
                return Err(Error::malformed(format!(
                    "{inner} columns, {heads} heads and {groups} groups of its recurrent layers do not go together"
                )));
            }
            Self {
                mixing,
                channels: inner + 2 * groups * state,
                taps: count("ssm.conv_kernel", 2, 32)?,
                heads,
                head_dim: inner / heads,
                groups,
                state,
            }
        };
        // Rows of activations are read in whole groups of eight; a thread keeps at most 32 numbers of a state.
        let whole = shape.channels.is_multiple_of(8) && shape.inner().is_multiple_of(8);
        let kept = shape.heads == 0 || (shape.state.is_multiple_of(4 * shape.lanes()) && shape.lanes() <= 8);
        let aligned = mixing != Mixing::DeltaNet || shape.head_dim.is_multiple_of(4);
        if !(whole && kept && aligned) {
            return Err(Error::unsupported(
                format!(
                    "recurrent layers of {} columns with states {} by {}",
                    shape.channels, shape.head_dim, shape.state
                ),
                "widths that 8 divides and states up to 256 wide",
            ));
        }
        Ok(shape)
    }

    /// Columns of the result, in front of the projection behind.
    pub fn inner(&self) -> usize {
        match self.mixing {
            Mixing::ShortConv => self.channels,
            Mixing::Mamba2 | Mixing::DeltaNet => self.heads * self.head_dim,
        }
    }

    /// Columns of the projection in front.
    pub fn projection(&self) -> usize {
        match self.mixing {
            Mixing::ShortConv => 3 * self.channels,
            Mixing::Mamba2 => self.inner() + self.channels + self.heads,
            Mixing::DeltaNet => self.channels + self.inner() + 2 * self.heads,
        }
    }

    /// First column of the projection that is convolved.
    pub fn convolved(&self) -> usize {
        match self.mixing {
            Mixing::ShortConv | Mixing::DeltaNet => 0,
            Mixing::Mamba2 => self.inner(),
        }
    }

    /// First column of the projection that gates the result: z.
    pub fn gate(&self) -> usize {
        match self.mixing {
            Mixing::ShortConv | Mixing::Mamba2 => 0,
            Mixing::DeltaNet => self.channels,
        }
    }

    /// First column of the projection that steers the state: dt (Mamba2), beta and behind it alpha (DeltaNet).
    pub fn steering(&self) -> usize {
        self.channels + self.inner()
    }

    /// Threads that share a row of a state.
    pub fn lanes(&self) -> usize {
        self.state.div_ceil(32).next_power_of_two()
    }

    /// Numbers that a convolution carries.
    pub fn conv_carry(&self) -> usize {
        (self.taps - 1) * self.channels
    }

    /// Numbers of a layer's state.
    pub fn scan_carry(&self) -> usize {
        self.heads * self.head_dim * self.state
    }
}
