//! The commands people and CI type: `cargo xtask build | serve | test | bench | school`.
//!
//! Each does its own set-up, so that a machine with only Rust and Node is enough:
//! [`setup`] brings the wasm target, the npm packages and the browser; [`dist`] makes the page;
//! [`serve`] serves it; [`test`] runs every group and adds up; [`bench`] measures; [`school`] trains.

mod bench;
mod dist;
mod run;
mod school;
mod serve;
mod setup;
mod tally;
mod test;

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask build                 make the page in dist/ and print what it weighs
cargo xtask serve [--port P]      build, then serve dist/ on this machine (default port 8080; 0 picks a free one)
cargo xtask test [--only GROUP]   lint, native, school, wasm and page tests; GROUP is one of these five words
cargo xtask bench [--only PART]   measure; PART is native or page
cargo xtask school [--seed N] [--student-minutes M] [--teacher-minutes M] [--practice-minutes M] [--work FOLDER]
                                  make the bundled student, its teacher and its traces again
";

/// Where things are, found once.
pub struct Places {
    /// The repository: the folder of the workspace's Cargo.toml.
    pub root: PathBuf,
    /// Cargo's target folder, wherever the user keeps it.
    pub target: PathBuf,
    /// The page, made by `build`.
    pub dist: PathBuf,
    /// The reference kit (may be absent: the tests that need it then skip by name).
    pub kit: PathBuf,
}

impl Places {
    fn find() -> Result<Self> {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().context("xtask is not inside a workspace")?.to_path_buf();
        let metadata = run::tool("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(&root)
            .output()
            .context("cargo metadata did not start")?;
        if !metadata.status.success() {
            bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&metadata.stderr));
        }
        let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout)?;
        let target = metadata["target_directory"]
            .as_str()
            .context("cargo metadata names no target directory")?;
        let kit = std::env::var_os("UNDERSTUDY_KIT").map_or_else(|| PathBuf::from("../shared/kit"), PathBuf::from);
        let kit = root.join(kit);
        Ok(Self {
            target: PathBuf::from(target),
            dist: root.join("dist"),
            kit: kit.canonicalize().unwrap_or(kit),
            root,
        })
    }
}

/// True on a CI machine, where what is missing is a failure and not a skip.
pub fn on_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "0" && value != "false")
}

/// The value after `--name`, if given; anything left over is an error of the caller.
fn take_option(words: &mut Vec<String>, name: &str) -> Result<Option<String>> {
    let Some(at) = words.iter().position(|word| word == name) else {
        return Ok(None);
    };
    if at + 1 >= words.len() {
        bail!("{name} needs a value\n\n{HELP}");
    }
    words.remove(at);
    Ok(Some(words.remove(at)))
}

fn act() -> Result<bool> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty()
        || words
            .iter()
            .any(|word| word == "--help" || word == "-h" || word == "help")
    {
        print!("{HELP}");
        return Ok(true);
    }
    let command = words.remove(0);
    let port = take_option(&mut words, "--port")?;
    let only = take_option(&mut words, "--only")?;
    let mut school = |name: &str, default: &str| -> Result<String> {
        match take_option(&mut words, name)? {
            Some(_) if command != "school" => bail!("{name} belongs to school\n\n{HELP}"),
            given => Ok(given.unwrap_or_else(|| default.to_owned())),
        }
    };
    let seed = school("--seed", "1")?;
    let minutes = [
        school("--student-minutes", "46")?,
        school("--teacher-minutes", "46")?,
        school("--practice-minutes", "84")?,
    ];
    let work = school("--work", "school/.work")?;
    if let Some(extra) = words.first() {
        bail!("I do not know what to do with '{extra}'\n\n{HELP}");
    }
    if port.is_some() && command != "serve" {
        bail!("--port belongs to serve\n\n{HELP}");
    }
    if only.is_some() && command != "test" && command != "bench" {
        bail!("--only belongs to test and bench\n\n{HELP}");
    }
    let places = Places::find()?;
    match command.as_str() {
        "build" => dist::build(&places).map(|_| true),
        "serve" => {
            let port = port.as_deref().unwrap_or("8080");
            let port: u16 = port.parse().with_context(|| format!("'{port}' is not a port"))?;
            dist::build(&places)?;
            serve::forever(&places.dist, port).map(|()| true)
        }
        "test" => test::run(&places, only.as_deref()),
        "bench" => bench::run(&places, only.as_deref()),
        "school" => {
            let work = places.root.join(work);
            school::make(&places, &school::Wish { seed, minutes, work }).map(|()| true)
        }
        other => bail!("there is no command '{other}'\n\n{HELP}"),
    }
}

fn main() -> ExitCode {
    match act() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
