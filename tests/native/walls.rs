//! The walls of the house: pure rooms stay pure, `src/` holds no address, `www/` holds no token id.

use std::path::{Path, PathBuf};

fn files(folder: &str, endings: &[&str]) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, endings: &[&str], out: &mut Vec<(PathBuf, String)>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, endings, out);
            } else if path
                .extension()
                .and_then(|e| e.to_str())
                .is_some_and(|e| endings.contains(&e))
            {
                out.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut out = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), endings, &mut out);
    out
}

/// The lines that are code: what follows `//` is not looked at.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

#[test]
fn pure_rooms_import_no_device_no_clock_and_no_chance() {
    let forbidden = [
        "wgpu",
        "burn",
        "wasm_bindgen",
        "js_sys",
        "web_sys",
        "std::time",
        "Instant",
        "SystemTime",
        "thread_rng",
        "rand::",
    ];
    let mut looked_at = 0;
    for room in ["src/format", "src/text", "src/model", "src/traces"] {
        for (path, text) in files(room, &["rs"]) {
            looked_at += 1;
            for line in code(&text) {
                for word in forbidden {
                    assert!(!line.contains(word), "{} imports {word}: {line}", path.display());
                }
            }
        }
    }
    assert!(looked_at > 10, "the rooms were found");
}

#[test]
fn only_the_gpu_room_knows_wgpu_and_only_the_web_room_knows_the_browser() {
    for (path, text) in files("src", &["rs"]) {
        let room = path
            .strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
            .unwrap()
            .to_str()
            .unwrap()
            .to_string();
        for line in code(&text) {
            // Burn calls its own room so too.
            let own = line
                .replace("burn::backend::wgpu::", "")
                .replace("burn::tensor::wgpu::", "")
                .replace("cubecl::wgpu::", "");
            assert!(room.starts_with("gpu") || !own.contains("wgpu::"), "{room}: {line}");
            assert!(
                room.starts_with("web") || !line.contains("wasm_bindgen::"),
                "{room}: {line}"
            );
        }
    }
}

#[test]
fn sources_hold_no_address() {
    for (path, text) in files("src", &["rs"]).into_iter().chain(files("shaders", &["wgsl"])) {
        assert!(
            !text.contains("http:") && !text.contains("https:"),
            "{} holds an address",
            path.display()
        );
    }
}

#[test]
fn nothing_outside_tests_unwraps() {
    // The lint denies it; this keeps anyone from allowing it away.
    for (path, text) in files("src", &["rs"]) {
        assert!(!text.contains("allow(clippy::unwrap_used"), "{}", path.display());
    }
}
