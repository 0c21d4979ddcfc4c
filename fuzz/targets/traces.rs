//! Any bytes as a file of teacher traces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::traces::import::{Importer, Options, read};

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, Options::default()).map(|(rows, _)| rows);
    // The same in two pieces gives the same rows.
    let mut importer = Importer::new(Options::default());
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut rows = Vec::new();
    for step in [importer.push(first), importer.push(second), importer.end_file()] {
        match step {
            Ok(more) => rows.extend(more),
            Err(_) => return,
        }
    }
    if let Ok(whole) = whole {
        assert_eq!(whole, rows);
    }
});
