//! SHA-256 of a file as it is read, piece by piece: what names a student in its card.

use sha2::{Digest, Sha256 as Hash};
use wasm_bindgen::prelude::*;

/// A hash under way.
#[wasm_bindgen]
#[derive(Default)]
pub struct Sha256(Hash);

#[wasm_bindgen]
impl Sha256 {
    /// Of nothing so far.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all of them, in 64 hexadecimal digits.
    pub fn hex(self) -> String {
        format!("{:x}", self.0.finalize())
    }
}
