//! Runs every group of tests, goes on after a failure, and adds up.
//!
//! | group  | what it proves                                                                    |
//! |--------|-----------------------------------------------------------------------------------|
//! | lint   | format and clippy, for this machine and for wasm                                  |
//! | native | pure rooms, twins against kernels on lavapipe, goldens, hostile files, and xtask  |
//! | school | a few steps of training, from the text to a file that opens                      |
//! | wasm   | the crate inside headless Chromium                                                |
//! | page   | the page of `dist/`, used as a person would                                       |

use crate::tally::{self, Tally};
use crate::{Places, dist, on_ci, run, school as school_room, setup};
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// How a step ended.
#[derive(Default)]
struct Outcome {
    tally: Tally,
    /// Tests that said `SKIP name: reason`.
    skips: Vec<String>,
    /// Why there is no tally.
    trouble: String,
}

/// A row of the closing table.
struct Row {
    name: &'static str,
    outcome: Outcome,
    time: Duration,
}

/// One thing to run: its heading, its group, and how it ends.
type Step = (&'static str, &'static str, fn(&Places) -> Result<Outcome>);

const STEPS: &[Step] = &[
    ("lint", "cargo fmt", format),
    ("lint", "clippy, this machine", clippy_native),
    ("lint", "clippy, wasm", clippy_wasm),
    ("native", "native tests", native),
    ("native", "documentation examples", doc),
    ("school", "school: a few steps of training", school),
    ("wasm", "wasm tests in headless Chromium", wasm),
    ("page", "page tests in headless Chromium", page),
];

/// True when everything held.
pub fn run(places: &Places, only: Option<&str>) -> Result<bool> {
    if let Some(word) = only
        && !STEPS.iter().any(|(group, _, _)| *group == word)
    {
        bail!("--only takes lint, native, school, wasm or page, not '{word}'");
    }
    if !places.kit.is_dir() {
        println!(
            "note: no reference kit at {}: the tests that need it are skipped by name",
            places.kit.display()
        );
    }
    let mut rows = Vec::new();
    for (group, name, step) in STEPS {
        if only.is_some_and(|word| word != *group) {
            continue;
        }
        println!("\n=== {name} ===");
        let begin = Instant::now();
        let outcome = step(places).unwrap_or_else(|error| {
            println!("{name}: {error:#}");
            let trouble = format!("{error:#}").lines().next().unwrap_or_default().to_owned();
            Outcome {
                tally: Tally {
                    failed: 1,
                    ..Tally::default()
                },
                trouble,
                ..Outcome::default()
            }
        });
        rows.push(Row {
            name,
            outcome,
            time: begin.elapsed(),
        });
    }
    Ok(report(&rows))
}

/// Prints the table, what was skipped by name, and the closing line.
fn report(rows: &[Row]) -> bool {
    println!("\n=== summary ===");
    println!(
        "{:<32} {:>7} {:>7} {:>8} {:>8}",
        "", "passed", "failed", "skipped", "seconds"
    );
    let mut sum = Tally::default();
    for Row { name, outcome, time } in rows {
        let Tally {
            passed,
            failed,
            skipped,
        } = outcome.tally;
        sum += outcome.tally;
        let line = format!(
            "{name:<32} {passed:>7} {failed:>7} {skipped:>8} {:>8.1}  {}",
            time.as_secs_f64(),
            outcome.trouble
        );
        println!("{}", line.trim_end());
    }
    if rows.iter().any(|row| !row.outcome.skips.is_empty()) {
        println!("\nSkipped by name, though their runner counts them as passed:");
        for skip in rows.iter().flat_map(|row| &row.outcome.skips) {
            println!("  {skip}");
        }
    }
    println!("\n{} passed, {} failed", sum.passed, sum.failed);
    sum.failed == 0 && sum.passed > 0
}

/// A command that counts as one test.
fn as_one(command: &mut Command) -> Result<Outcome> {
    run::check(command)?;
    Ok(Outcome {
        tally: Tally {
            passed: 1,
            ..Tally::default()
        },
        ..Outcome::default()
    })
}

/// A runner that prints a summary of its own. One that fails without counting a failure (a compile error, a crash)
/// counts as one; one that ends well without having counted anything does too, unless `may_be_empty`.
fn as_counted(command: &mut Command, may_be_empty: bool) -> Result<Outcome> {
    let told = run::listen(command)?;
    let mut tally = match tally::read(&told.text) {
        Some(tally) => tally,
        None if told.success => bail!("it ended well but its summary was not found"),
        None => bail!("it failed before any test could run"),
    };
    if !told.success && tally.failed == 0 {
        println!("the runner failed though no test did; counted as one failure");
        tally.failed = 1;
    }
    if told.success && tally.passed == 0 && !may_be_empty {
        bail!("it ran no test");
    }
    Ok(Outcome {
        tally,
        skips: tally::skips(&told.text),
        trouble: String::new(),
    })
}

/// What tests are told about their surroundings; see docs/TESTING.md.
fn surroundings<'a>(command: &'a mut Command, places: &Places) -> &'a mut Command {
    command.current_dir(&places.root).env("UNDERSTUDY_KIT", &places.kit);
    if on_ci() {
        command.env("CI", "1");
    }
    command
}

fn cargo(places: &Places, words: &[&str]) -> Command {
    let mut command = run::tool("cargo");
    surroundings(command.args(words), places);
    command
}

fn format(places: &Places) -> Result<Outcome> {
    as_one(&mut cargo(places, &["fmt", "--all", "--check"]))
}

fn clippy_native(places: &Places) -> Result<Outcome> {
    as_one(&mut cargo(
        places,
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--features",
            "teach",
            "--",
            "-D",
            "warnings",
        ],
    ))
}

fn clippy_wasm(places: &Places) -> Result<Outcome> {
    setup::wasm_target(places)?;
    let words = [
        "clippy",
        "--package",
        "understudy",
        "--lib",
        "--test",
        "web",
        "--features",
        "teach",
        "--target",
        setup::WASM,
    ];
    as_one(cargo(places, &words).args(["--", "-D", "warnings"]))
}

fn native(places: &Places) -> Result<Outcome> {
    setup::software_gpu()?;
    // The output of tests that pass is wanted too: it names what they skipped.
    let mut command = if has_nextest() {
        cargo(
            places,
            &[
                "nextest",
                "run",
                "--workspace",
                "--features",
                "teach",
                "--no-fail-fast",
                "--success-output=immediate",
            ],
        )
    } else {
        cargo(
            places,
            &[
                "test",
                "--workspace",
                "--features",
                "teach",
                "--lib",
                "--bins",
                "--tests",
                "--no-fail-fast",
                "--",
                "--show-output",
            ],
        )
    };
    as_counted(setup::with_lavapipe(&mut command), false)
}

fn has_nextest() -> bool {
    run::tool("cargo")
        .args(["nextest", "--version"])
        .output()
        .is_ok_and(|told| told.status.success())
}

fn doc(places: &Places) -> Result<Outcome> {
    as_counted(
        &mut cargo(places, &["test", "--workspace", "--features", "teach", "--doc"]),
        true,
    )
}

/// The trainer's libraries come from a registry and are large: where they cannot be had, that is said by name.
fn school(places: &Places) -> Result<Outcome> {
    if let Err(error) = setup::python(places) {
        let line = format!("SKIP school::few_steps: {error:#}");
        println!("{line}");
        return Ok(Outcome {
            tally: Tally {
                skipped: 1,
                ..Tally::default()
            },
            skips: vec![line],
            ..Outcome::default()
        });
    }
    school_room::few_steps(places)?;
    Ok(Outcome {
        tally: Tally {
            passed: 1,
            ..Tally::default()
        },
        ..Outcome::default()
    })
}

fn wasm(places: &Places) -> Result<Outcome> {
    setup::wasm_target(places)?;
    setup::browser()?;
    let runner = setup::wasm_test_runner(places)?;
    let mut command = cargo(
        places,
        &[
            "test",
            "--package",
            "understudy",
            "--test",
            "web",
            "--features",
            "teach",
            "--profile",
            // The page's own: Burn without optimization is too large for a browser to start.
            "teach",
            "--target",
            setup::WASM,
        ],
    );
    command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner);
    if let Some(driver) = setup::chromedriver() {
        command.env("CHROMEDRIVER", driver);
    }
    if std::env::var_os("WASM_BINDGEN_TEST_TIMEOUT").is_none() {
        // Seconds for the whole file; the runner's own 20 are short for a GPU in software.
        command.env("WASM_BINDGEN_TEST_TIMEOUT", "900");
    }
    as_counted(&mut command, false)
}

fn page(places: &Places) -> Result<Outcome> {
    setup::browser()?;
    dist::build(places)?;
    let files = page_tests(places)?;
    let mut command = Command::new("node");
    // One file at a time: each has a browser with a GPU in software, which takes every core there is.
    command
        .args(["--test", "--test-reporter=spec", "--test-concurrency=1"])
        .args(files);
    surroundings(&mut command, places);
    page_surroundings(&mut command, places);
    as_counted(&mut command, false)
}

/// What a script that drives the page is told.
pub fn page_surroundings(command: &mut Command, places: &Places) {
    command.env("UNDERSTUDY_DIST", &places.dist);
    if let Some(browser) = setup::chromium() {
        command.env("CHROMIUM", browser);
    }
}

/// The files of tests/e2e/ whose names say that they are tests. Named one by one, because what a folder means to
/// node's runner has changed between its versions.
fn page_tests(places: &Places) -> Result<Vec<PathBuf>> {
    let folder = places.root.join("tests/e2e");
    let mut files = if folder.is_dir() {
        dist::files_below(&folder)?
    } else {
        Vec::new()
    };
    files.retain(|file| file.to_string_lossy().ends_with(".test.mjs"));
    if files.is_empty() {
        bail!("tests/e2e/ holds no file that ends in .test.mjs");
    }
    Ok(files)
}
