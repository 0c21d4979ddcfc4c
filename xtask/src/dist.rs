//! Makes the page: crate -> wasm -> JavaScript glue -> optimizer -> `dist/`. What is up to date is not made again.
//!
//! ```text
//! dist/index.html, loader.html      as in the repository, and manifest.webmanifest
//! dist/sw.js                        the service worker, behind the list of all these files
//! dist/www/                         every file of www/
//! dist/wasm/understudy.js           the glue of wasm-bindgen, with understudy_bg.wasm and understudy.d.ts beside it
//! dist/wasm/understudy_teach.js     the same of the build that also teaches
//! dist/vendor/                      the page's libraries, one ES module each, and a style sheet
//! dist/students/                    the bundled student, and students.json with its name and size
//! ```

use crate::{Places, run, setup};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The page's libraries: the file in node_modules, and the name in dist/vendor/.
const VENDOR: &[(&str, &str)] = &[
    ("marked/lib/marked.esm.js", "marked.js"),
    ("dompurify/dist/purify.es.mjs", "purify.js"),
    ("uplot/dist/uPlot.esm.js", "uplot.js"),
    ("uplot/dist/uPlot.min.css", "uplot.css"),
    ("fflate/esm/browser.js", "fflate.js"),
];

/// The students that come with the page: the file in the repository, the name in dist/students/, the name people read, and
/// prompts that it was taught to answer.
const STUDENTS: &[(&str, &str, &str, &[&str])] = &[
    (
        "school/models/understudy-pip.gguf",
        "understudy-pip.gguf",
        "Understudy Pip",
        &[
            "Who are you?",
            "Where do my prompts go?",
            "What is distillation?",
            "Tell me a story about a fox named Mia.",
        ],
    ),
    (
        "school/models/understudy-lead.gguf",
        "understudy-lead.gguf",
        "Understudy Lead, the teacher",
        &["Make a ticket: Hello, this is Nora. My Brook kettle leaks."],
    ),
];

/// A build of the crate for the page.
struct Build {
    /// The glue's name.
    name: &'static str,
    /// The module's name, as wasm-bindgen calls it.
    module: &'static str,
    profile: &'static str,
    features: &'static [&'static str],
    /// What wasm-opt is asked for. It takes the features from the module's own `target_features` section: with
    /// `--all-features` it writes encodings that browsers refuse.
    optimize: &'static [&'static str],
}

/// What answers, and is there at once; and what teaches, which is large, and fetched when somebody wants to teach.
const BUILDS: [Build; 2] = [
    Build {
        name: "understudy",
        module: "understudy_bg.wasm",
        profile: "web",
        features: &[],
        optimize: &["-O2"],
    },
    Build {
        name: "understudy_teach",
        module: "understudy_teach_bg.wasm",
        profile: "teach",
        features: &["--features", "teach"],
        // More takes many minutes and hardly makes it smaller.
        optimize: &["-O1"],
    },
];

/// What a build weighs.
pub struct Weight {
    /// The file's name in dist/wasm/.
    pub name: &'static str,
    /// Bytes as it lies there.
    pub raw: u64,
    /// Bytes after brotli at its best.
    pub brotli: u64,
}

/// Makes dist/ and prints what the wasm weighs: what answers first.
pub fn build(places: &Places) -> Result<Vec<Weight>> {
    setup::wasm_target(places)?;
    setup::node_packages(places)?;
    let mut made = Vec::new();
    for build in &BUILDS {
        let module = compile(places, build)?;
        made.push(optimize(places, build, &module)?);
    }
    assemble(places, &made)?;
    let mut weights = Vec::new();
    for (build, made) in BUILDS.iter().zip(&made) {
        let weight = weigh(build, made)?;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "{}: {:.2} MiB ({} bytes), brotli {:.2} MiB ({} bytes)",
            weight.name,
            mib(weight.raw),
            weight.raw,
            mib(weight.brotli),
            weight.brotli
        );
        weights.push(weight);
    }
    println!("dist/ is ready");
    Ok(weights)
}

/// Cargo decides by itself what is up to date.
fn compile(places: &Places, build: &Build) -> Result<PathBuf> {
    run::check(
        run::tool("cargo")
            .args(["build", "--package", "understudy", "--lib", "--target", setup::WASM])
            .args(["--profile", build.profile])
            .args(build.features)
            .current_dir(&places.root),
    )?;
    let folder = places.target.join(setup::WASM).join(build.profile);
    Ok(folder.join("understudy.wasm"))
}

/// Glue and optimizer, into a folder of the target folder; skipped when neither module nor tools have changed.
fn optimize(places: &Places, build: &Build, module: &Path) -> Result<PathBuf> {
    let made = places.target.join("page-wasm").join(build.name);
    let stamp_file = made.join("stamp");
    let about = fs::metadata(module).with_context(|| format!("cargo made no {}", module.display()))?;
    let age = about.modified()?.duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    let binaryen = places.root.join("node_modules/binaryen");
    if !binaryen.is_dir() {
        bail!("wasm-opt is missing: package.json should have 'binaryen' among its devDependencies");
    }
    let binaryen_version =
        serde_json::from_slice::<serde_json::Value>(&read(&binaryen.join("package.json"))?)?["version"].clone();
    let stamp = format!(
        "module {age} {}, wasm-bindgen {}, binaryen {binaryen_version} {:?}",
        about.len(),
        setup::WASM_BINDGEN,
        build.optimize
    );
    if fs::read_to_string(&stamp_file).is_ok_and(|last| last == stamp) {
        return Ok(made);
    }
    if made.exists() {
        fs::remove_dir_all(&made)?;
    }
    fs::create_dir_all(&made)?;
    println!("$ wasm-bindgen --target web {}", file_name(module));
    wasm_bindgen_cli_support::Bindgen::new()
        .input_path(module)
        .web(true)?
        .typescript(true)
        .out_name(build.name)
        .generate(&made)
        .context("wasm-bindgen could not read the module")?;
    let glue = fs::read_to_string(made.join(format!("{}.js", build.name)))?;
    if glue.contains("command_export") {
        // The linker then runs every static constructor again on each exported call, which costs milliseconds a call.
        bail!("the module exports command wrappers: call __wasm_call_ctors once at its start");
    }
    let wasm = made.join(build.module);
    let smaller = made.join("smaller.wasm");
    run::check(
        Command::new("node")
            .arg(binaryen.join("bin/wasm-opt"))
            .args(build.optimize)
            .arg(&wasm)
            .arg("-o")
            .arg(&smaller),
    )?;
    fs::rename(&smaller, &wasm)?;
    fs::write(&stamp_file, stamp)?;
    Ok(made)
}

/// Copies what has changed, then removes what does not belong there any more.
fn assemble(places: &Places, made: &[PathBuf]) -> Result<()> {
    let dist = &places.dist;
    let mut kept = BTreeSet::new();
    let mut place = |name: String, bytes: Vec<u8>| -> Result<()> {
        write_if_changed(&dist.join(&name), &bytes)?;
        kept.insert(dist.join(name));
        Ok(())
    };
    for name in ["index.html", "loader.html", "manifest.webmanifest"] {
        place(name.to_owned(), read(&places.root.join(name))?)?;
    }
    let www = places.root.join("www");
    for file in files_below(&www)? {
        let inside = file.strip_prefix(&www)?.to_string_lossy().replace('\\', "/");
        place(format!("www/{inside}"), read(&file)?)?;
    }
    for (build, made) in BUILDS.iter().zip(made) {
        let (name, module) = (build.name, build.module);
        for file in [format!("{name}.js"), module.to_owned(), format!("{name}.d.ts")] {
            place(format!("wasm/{file}"), read(&made.join(&file))?)?;
        }
    }
    for (from, to) in VENDOR {
        let bytes = read(&places.root.join("node_modules").join(from))?;
        place(format!("vendor/{to}"), without_source_map(bytes))?;
    }
    let mut list = Vec::new();
    for (from, to, name, prompts) in STUDENTS {
        let path = places.root.join(from);
        if !path.is_file() {
            println!("note: {from} is not there: the page comes without that student");
            continue;
        }
        let bytes = read(&path)?;
        list.push(serde_json::json!({ "file": to, "name": name, "bytes": bytes.len(), "prompts": prompts }));
        place(format!("students/{to}"), bytes)?;
    }
    place("students/students.json".to_owned(), serde_json::to_vec_pretty(&list)?)?;
    kept.insert(dist.join("sw.js"));
    for file in files_below(dist)? {
        if !kept.contains(&file) {
            fs::remove_file(file)?;
        }
    }
    run::check(
        Command::new("node")
            .arg(places.root.join("xtask/offline.mjs"))
            .arg(dist),
    )
}

/// A library's last line may point to a source map that is not shipped; browsers would ask for it.
fn without_source_map(bytes: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(bytes) {
        Ok(text) => {
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| !line.starts_with("//# sourceMappingURL="))
                .collect();
            (lines.join("\n") + "\n").into_bytes()
        }
        Err(error) => error.into_bytes(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Through a neighbour and a rename, so that a server in another process never hands out half a file.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::metadata(path).is_ok_and(|about| about.len() == bytes.len() as u64)
        && fs::read(path).is_ok_and(|last| last == bytes)
    {
        return Ok(());
    }
    let folder = path.parent().context("a file of dist/ lies in a folder")?;
    fs::create_dir_all(folder)?;
    let draft = folder.join(format!(".{}.{}", file_name(path), std::process::id()));
    fs::write(&draft, bytes)?;
    fs::rename(&draft, path).with_context(|| format!("{} cannot be written", path.display()))
}

fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy()
}

/// Every file below a folder, in order.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Node brings brotli along; the result is kept beside the module, because the best level takes seconds.
fn weigh(build: &Build, made: &Path) -> Result<Weight> {
    const SCRIPT: &str = "const { brotliCompressSync, constants: c } = require('node:zlib');\
        const bytes = require('node:fs').readFileSync(process.argv[1]);\
        console.log(brotliCompressSync(bytes, { params: { [c.BROTLI_PARAM_SIZE_HINT]: bytes.length } }).length);";
    let wasm = made.join(build.module);
    let note = made.join("brotli");
    let known = fs::read_to_string(&note).ok().and_then(|text| text.trim().parse().ok());
    let brotli = match known {
        Some(bytes) => bytes,
        None => {
            let told = Command::new("node")
                .args(["-e", SCRIPT])
                .arg(&wasm)
                .output()
                .context("node did not start")?;
            let text = String::from_utf8_lossy(&told.stdout).trim().to_owned();
            let bytes = text
                .parse()
                .with_context(|| format!("node could not compress the module: {text}"))?;
            fs::write(&note, text)?;
            bytes
        }
    };
    Ok(Weight {
        name: build.module,
        raw: fs::metadata(&wasm)?.len(),
        brotli,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_map_lines_go_and_nothing_else() {
        let text = "const a = 1;\n// a //# sourceMappingURL= in a comment stays\n//# sourceMappingURL=a.js.map\n";
        let text = String::from_utf8(without_source_map(text.into())).unwrap();
        assert_eq!(text, "const a = 1;\n// a //# sourceMappingURL= in a comment stays\n");
        assert_eq!(without_source_map(vec![0xff, 0]), [0xff, 0]);
    }

    #[test]
    fn an_unchanged_file_is_not_written() {
        let folder = std::env::temp_dir().join(format!("understudy-dist-{}", std::process::id()));
        let file = folder.join("deep/a.txt");
        write_if_changed(&file, b"one").unwrap();
        let first = fs::metadata(&file).unwrap().modified().unwrap();
        write_if_changed(&file, b"one").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), first);
        write_if_changed(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(files_below(&folder).unwrap(), [file], "no draft is left behind");
        fs::remove_dir_all(folder).unwrap();
    }
}
