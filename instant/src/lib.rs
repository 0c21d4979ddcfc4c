//! A clock that always says the same.
//!
//! `llguidance` asks a clock for its own statistics, and in a browser it takes the crate `instant` for it, because the clock of
//! `std` panics there. That crate is no longer maintained, brings code of the browser along, and this project reads no clock
//! outside its facade; nobody looks at the statistics. So the workspace puts this one in its place (`[patch]` in Cargo.toml).

use std::time::Duration;

/// A moment, the same as every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant;

impl Instant {
    /// Now.
    pub fn now() -> Self {
        Self
    }

    /// No time at all.
    pub fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

impl std::ops::Sub for Instant {
    type Output = Duration;

    fn sub(self, _: Self) -> Duration {
        Duration::ZERO
    }
}
