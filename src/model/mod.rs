//! What the network is: hyper-parameters, the plan of one token, sampling, memory. Pure: no device, no clock.

pub mod chance;
pub mod config;
pub mod logprobs;
pub mod lora;
pub mod memory;
pub mod penalties;
pub mod plan;
pub mod random;
pub mod recurrent;
pub mod sampler;
pub mod state;

pub use config::{Activation, Architecture, Config, Mixer, QkNorm, RopeStyle};
pub use memory::CacheType;
pub use penalties::{Adjustment, Dry, Penalties};
pub use plan::{Cache, CacheId, Linear, Matrix, MatrixId, Plan, Slot, Step, VectorId};
pub use recurrent::{Mixing, OPENING, Recurrent};
pub use sampler::Sampling;
