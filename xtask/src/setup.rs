//! Brings what is missing: the wasm target, the npm packages, the browser, lavapipe, the wasm test runner.
//! Each function asks first whether the thing is there, so that a second run does nothing and works without a network.

use crate::{Places, on_ci, run};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target of the page.
pub const WASM: &str = "wasm32-unknown-unknown";

/// The one version of wasm-bindgen: of the crate, of the library in here, and of the test runner.
pub const WASM_BINDGEN: &str = "0.2.130";

/// Adds the wasm target to the toolchain unless its standard library lies there already.
pub fn wasm_target(places: &Places) -> Result<()> {
    let asked = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", WASM])
        .current_dir(&places.root)
        .output()
        .context("rustc did not start: is Rust installed?")?;
    if asked.status.success() && Path::new(String::from_utf8_lossy(&asked.stdout).trim()).is_dir() {
        return Ok(());
    }
    run::check(
        Command::new("rustup")
            .args(["target", "add", WASM])
            .current_dir(&places.root),
    )
    .with_context(|| format!("the Rust target {WASM} is missing and could not be added"))
}

/// Installs the packages of package.json unless node_modules holds exactly what the lock file names.
pub fn node_packages(places: &Places) -> Result<()> {
    let manifest = places.root.join("package.json");
    if !manifest.is_file() {
        bail!("there is no package.json: the page's libraries and wasm-opt come from it");
    }
    if run::in_path("node").is_none() {
        bail!("Node.js is missing: install Node.js 20 or newer, with npm");
    }
    let lock_path = places.root.join("package-lock.json");
    let lock = read_json(&lock_path);
    let names_the_same = lock
        .as_ref()
        .is_some_and(|lock| lock_fits_manifest(lock, read_json(&manifest).as_ref()));
    let installed = read_json(&places.root.join("node_modules/.package-lock.json"));
    if let (Some(lock), Some(installed), true) = (&lock, &installed, names_the_same)
        && holds_all(lock, installed)
    {
        return Ok(());
    }
    // On CI the lock file is law; a developer who has just added a package gets it written.
    let verb = if names_the_same || on_ci() { "ci" } else { "install" };
    run::check(
        run::tool("npm")
            .args([verb, "--no-fund", "--no-audit"])
            .current_dir(&places.root),
    )
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Does the lock file's own copy of the wishes equal package.json's?
fn lock_fits_manifest(lock: &Value, manifest: Option<&Value>) -> bool {
    manifest.is_some_and(|manifest| {
        ["dependencies", "devDependencies"]
            .iter()
            .all(|kind| manifest.get(kind) == lock["packages"][""].get(kind))
    })
}

/// Is every package of the lock file installed in the version it names? (`installed` is npm's own note in node_modules.)
fn holds_all(lock: &Value, installed: &Value) -> bool {
    let Some(packages) = lock["packages"].as_object() else {
        return false;
    };
    packages
        .iter()
        .filter(|(place, _)| !place.is_empty())
        .all(|(place, wanted)| {
            let there = &installed["packages"][place];
            there["version"] == wanted["version"] || (there.is_null() && wanted["optional"] == true)
        })
}

/// Something that is no Rust or npm package, and how to see whether it is there.
struct SystemPackage {
    debian: &'static str,
    there: fn() -> bool,
}

/// What the browser groups of the tests need.
pub fn browser() -> Result<()> {
    system(&[
        SystemPackage {
            debian: "chromium",
            there: || chromium().is_some(),
        },
        SystemPackage {
            debian: "chromium-driver",
            there: || chromedriver().is_some(),
        },
    ])
}

/// What the native tests need: a Vulkan device in software, and xz for the kit's archives. Only Linux has lavapipe;
/// elsewhere, and where it cannot be installed, the tests say by name what they skip.
pub fn software_gpu() -> Result<()> {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let outcome = system(&[
        SystemPackage {
            debian: "mesa-vulkan-drivers",
            there: || lavapipe().is_some(),
        },
        SystemPackage {
            debian: "libvulkan1",
            there: vulkan_loader,
        },
        SystemPackage {
            debian: "xz-utils",
            there: || run::in_path("xz").is_some(),
        },
    ]);
    match outcome {
        Err(error) if !on_ci() => {
            println!("note: {error:#}\nnote: going on; tests that need it will be skipped by name");
            Ok(())
        }
        other => other,
    }
}

fn system(wanted: &[SystemPackage]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|package| !(package.there)())
        .map(|package| package.debian)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !may_install() {
        bail!(
            "missing on this machine: {list}. On Debian or Ubuntu: sudo apt-get install {list}; elsewhere install the same \
             programs, and name them by CHROMIUM and CHROMEDRIVER if they are not in PATH"
        );
    }
    let quiet = |words: &[&str]| {
        run::check(
            Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["-q", "-y"])
                .args(words),
        )
    };
    quiet(&["update"]).and_then(|()| {
        let mut words = vec!["install", "--no-install-recommends"];
        words.extend(&missing);
        quiet(&words)
    })?;
    match wanted.iter().find(|package| !(package.there)()) {
        Some(package) => bail!(
            "{} was installed, but what it should bring is not where I look for it",
            package.debian
        ),
        None => Ok(()),
    }
}

/// Room that the trainer's libraries need: what pip fetches, and what it unpacks.
const PYTHON_BYTES: u64 = 10 << 30;

/// A Python with `school/requirements.txt`: `UNDERSTUDY_PYTHON`, or an environment of its own in the target folder.
pub fn python(places: &Places) -> Result<PathBuf> {
    if let Some(python) = std::env::var_os("UNDERSTUDY_PYTHON") {
        return Ok(PathBuf::from(python));
    }
    let home = places.target.join("school-python");
    let python = home.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    let list = places.root.join("school/requirements.txt");
    let wanted = std::fs::read_to_string(&list).with_context(|| format!("{} is missing", list.display()))?;
    let stamp = home.join("stamp");
    if std::fs::read_to_string(&stamp).is_ok_and(|last| last == wanted) {
        return Ok(python);
    }
    if free_bytes(&places.target).is_some_and(|free| free < PYTHON_BYTES) {
        bail!(
            "the trainer's libraries need {} GiB of disk, and there is less",
            PYTHON_BYTES >> 30
        );
    }
    let base = ["python3", "python"]
        .iter()
        .find_map(|name| run::in_path(name))
        .context("there is no Python: install Python 3.10 or later with its venv module")?;
    run::check(Command::new(base).args(["-m", "venv", "--clear"]).arg(&home))?;
    run::check(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-cache-dir",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(&list),
    )?;
    run::check(Command::new(&python).args(["-c", "import torch, numpy, safetensors, tokenizers"]))?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}

/// Free bytes of the disk that holds `folder`, where `df` tells.
fn free_bytes(folder: &Path) -> Option<u64> {
    let told = Command::new("df").arg("-Pk").arg(folder).output().ok()?;
    let text = String::from_utf8(told.stdout).ok()?;
    let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib * 1024)
}

/// Root on a system with apt-get.
fn may_install() -> bool {
    run::in_path("apt-get").is_some()
        && Command::new("id")
            .arg("-u")
            .output()
            .is_ok_and(|told| told.stdout.trim_ascii() == b"0")
}

/// The browser: `CHROMIUM`, or the usual names.
pub fn chromium() -> Option<PathBuf> {
    program("CHROMIUM", &["chromium", "chromium-browser", "google-chrome"])
}

/// Its driver: `CHROMEDRIVER`, or the usual name.
pub fn chromedriver() -> Option<PathBuf> {
    program("CHROMEDRIVER", &["chromedriver"])
}

fn program(variable: &str, names: &[&str]) -> Option<PathBuf> {
    match std::env::var_os(variable) {
        Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
        None => names.iter().find_map(|name| run::in_path(name)),
    }
}

/// The file that points Vulkan at lavapipe, Mesa's software device.
pub fn lavapipe() -> Option<PathBuf> {
    let entries = std::fs::read_dir("/usr/share/vulkan/icd.d").ok()?;
    let files = entries.flatten().map(|entry| entry.path());
    files
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("lvp_icd"))
        })
        .min()
}

/// Lavapipe as the only Vulkan device, unless the caller has chosen one.
pub fn with_lavapipe(command: &mut Command) -> &mut Command {
    if ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"]
        .iter()
        .all(|name| std::env::var_os(name).is_none())
        && let Some(file) = lavapipe()
    {
        // The second name is the one that older loaders know.
        command.env("VK_DRIVER_FILES", &file).env("VK_ICD_FILENAMES", &file);
    }
    command
}

fn vulkan_loader() -> bool {
    let folders = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ];
    folders
        .iter()
        .any(|folder| Path::new(folder).join("libvulkan.so.1").exists())
}

/// The runner of the wasm tests in exactly our version; built once (some minutes) when there is none.
pub fn wasm_test_runner(places: &Places) -> Result<PathBuf> {
    let name = format!("wasm-bindgen-test-runner{}", std::env::consts::EXE_SUFFIX);
    let tools = places.target.join("tools");
    let ours = tools.join("bin").join(&name);
    let fits = |runner: &Path| {
        let told = Command::new(runner).arg("--version").output();
        told.is_ok_and(|told| {
            String::from_utf8_lossy(&told.stdout)
                .split_whitespace()
                .any(|word| word == WASM_BINDGEN)
        })
    };
    if let Some(runner) = std::iter::once(ours.clone())
        .chain(run::in_path(&name))
        .find(|runner| fits(runner))
    {
        return Ok(runner);
    }
    // Without --locked: the lock file inside that package has failed to build.
    let workshop = places.target.join("tools-build");
    run::check(
        run::tool("cargo")
            .args([
                "install",
                "--force",
                "wasm-bindgen-cli",
                "--version",
                WASM_BINDGEN,
                "--root",
            ])
            .arg(&tools)
            .arg("--target-dir")
            .arg(&workshop)
            .current_dir(&places.root),
    )?;
    // What is left of the building is large and of no use.
    let _ = std::fs::remove_dir_all(workshop);
    if fits(&ours) {
        return Ok(ours);
    }
    bail!("wasm-bindgen-test-runner {WASM_BINDGEN} was built but does not say so")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_version_of_wasm_bindgen_everywhere() {
        let pin = format!("\"={WASM_BINDGEN}\"");
        for manifest in [include_str!("../../Cargo.toml"), include_str!("../Cargo.toml")] {
            let pins: Vec<&str> = manifest
                .lines()
                .filter(|line| line.starts_with("wasm-bindgen =") || line.starts_with("wasm-bindgen-cli-support"))
                .collect();
            assert_eq!(pins.len(), 1);
            assert!(pins[0].ends_with(&pin), "{} should end with {pin}", pins[0]);
        }
    }

    #[test]
    fn installed_packages_are_compared_by_version() {
        let lock = json!({"packages": {"": {}, "node_modules/a": {"version": "1.0.0"},
            "node_modules/mac-only": {"version": "2.0.0", "optional": true}}});
        assert!(holds_all(
            &lock,
            &json!({"packages": {"node_modules/a": {"version": "1.0.0"}}})
        ));
        assert!(!holds_all(
            &lock,
            &json!({"packages": {"node_modules/a": {"version": "1.0.1"}}})
        ));
        assert!(!holds_all(&lock, &json!({"packages": {}})));
        assert!(!holds_all(&json!({}), &lock));
    }

    #[test]
    fn a_changed_package_json_is_noticed() {
        let lock = json!({"packages": {"": {"dependencies": {"marked": "18"}}}});
        assert!(lock_fits_manifest(
            &lock,
            Some(&json!({"name": "x", "dependencies": {"marked": "18"}}))
        ));
        assert!(!lock_fits_manifest(
            &lock,
            Some(&json!({"dependencies": {"marked": "18", "b": "1"}}))
        ));
        assert!(!lock_fits_manifest(&lock, None));
    }
}
