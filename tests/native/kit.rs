//! The reference kit: where it is, and its small file formats. Absent means a named skip here, and a failure in CI.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The kit's folder, if it is there.
pub fn kit_dir() -> Option<PathBuf> {
    let path = std::env::var_os("UNDERSTUDY_KIT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/kit"),
        PathBuf::from,
    );
    path.join("README.md").exists().then_some(path)
}

/// Says that a test is skipped for want of the kit; fails in CI, which has it.
pub fn skip(test: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{test} needs the reference kit in CI: set UNDERSTUDY_KIT"
    );
    eprintln!("SKIP {test}: the reference kit is absent");
}

/// A `.npy` file of little-endian f32: its shape and values.
pub fn read_npy_f32(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..6], b"\x93NUMPY");
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    assert!(
        header.contains("'<f4'") && header.contains("'fortran_order': False"),
        "{header}"
    );
    let shape = header.split('(').nth(1).unwrap().split(')').next().unwrap();
    let shape = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    let values = bytes[10 + length..]
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    (shape, values)
}

/// A `.safetensors` file: each tensor's bytes, by name.
pub fn read_safetensors(path: &Path) -> HashMap<String, Vec<u8>> {
    crate::oracle::safetensors(&std::fs::read(path).unwrap())
}

/// An `.xz` file, unpacked by the system's tool.
pub fn unxz(path: &Path) -> Vec<u8> {
    let out = Command::new("xz")
        .arg("-dc")
        .arg(path)
        .output()
        .expect("xz is installed");
    assert!(out.status.success(), "xz -dc {}", path.display());
    out.stdout
}

/// The files of a `.tar` in memory, in order (names up to 100 bytes, which is all that the kit uses).
pub fn untar(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut at = 0;
    while at + 512 <= bytes.len() && bytes[at] != 0 {
        let head = &bytes[at..at + 512];
        let text = |range: std::ops::Range<usize>| {
            let field = &head[range];
            String::from_utf8_lossy(&field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]).into_owned()
        };
        let size = usize::from_str_radix(text(124..136).trim(), 8).unwrap();
        if matches!(head[156], b'0' | 0) {
            files.push((text(0..100), bytes[at + 512..at + 512 + size].to_vec()));
        }
        at += 512 + size.next_multiple_of(512);
    }
    files
}
