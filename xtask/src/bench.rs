//! Runs both benchmarks and puts their numbers side by side.
//!
//! Each of them is given `--json FILE` and writes an array of rows there:
//! `{ "runner": "native", "student": "stories260K Q8_0", "measure": "decode", "unit": "tokens/s", "value": 123.4 }`.
//! The table has a line per student and measure and a column per runner; `bench.json` in the target folder holds the rows.

use crate::{Places, dist, run, setup, test};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// False when a part that is there has failed; a part that is not there is only named.
pub fn run(places: &Places, only: Option<&str>) -> Result<bool> {
    if let Some(word) = only
        && !["native", "page"].contains(&word)
    {
        bail!("--only takes native or page, not '{word}'");
    }
    std::fs::create_dir_all(&places.target)?;
    let mut rows = Vec::new();
    let mut remarks = Vec::new();
    let mut held = true;
    for (word, part) in [("native", native as fn(&Places) -> Result<Part>), ("page", page)] {
        if only.is_some_and(|only| only != word) {
            continue;
        }
        match part(places) {
            Ok(Part::Measured(found)) => rows.extend(found),
            Ok(Part::Absent(why)) => remarks.push(format!("{word}: not measured, {why}")),
            Err(error) => {
                held = false;
                remarks.push(format!("{word}: failed, {error:#}"));
            }
        }
    }
    let file = places.target.join("bench.json");
    std::fs::write(
        &file,
        serde_json::to_vec_pretty(&json!({ "commit": commit(places), "rows": rows }))?,
    )?;
    println!("\n{}", table(&rows));
    for remark in remarks {
        println!("{remark}");
    }
    println!("The same as JSON: {}", file.display());
    Ok(held)
}

enum Part {
    Measured(Vec<Value>),
    Absent(&'static str),
}

fn native(places: &Places) -> Result<Part> {
    if !places.root.join("examples/bench.rs").is_file() {
        return Ok(Part::Absent("there is no examples/bench.rs"));
    }
    setup::software_gpu()?;
    let file = places.target.join("bench-native.json");
    let mut command = run::tool("cargo");
    command
        .args([
            "run",
            "--release",
            "--package",
            "understudy",
            "--example",
            "bench",
            "--features",
            "teach",
            "--",
            "--json",
        ])
        .arg(&file);
    command.current_dir(&places.root).env("UNDERSTUDY_KIT", &places.kit);
    measure(setup::with_lavapipe(&mut command), &file)
}

fn page(places: &Places) -> Result<Part> {
    let script = places.root.join("tests/e2e/bench.mjs");
    if !script.is_file() {
        return Ok(Part::Absent("there is no tests/e2e/bench.mjs"));
    }
    setup::browser()?;
    let weights = dist::build(places)?;
    let weight = &weights[0];
    let file = places.target.join("bench-page.json");
    let mut command = Command::new("node");
    command.arg(script).arg("--json").arg(&file);
    command.current_dir(&places.root).env("UNDERSTUDY_KIT", &places.kit);
    test::page_surroundings(&mut command, places);
    let Part::Measured(mut rows) = measure(&mut command, &file)? else {
        bail!("the page's bench vanished")
    };
    for (measure, value) in [("wasm size", weight.raw), ("wasm size, brotli", weight.brotli)] {
        rows.push(json!({ "runner": "page", "student": "-", "measure": measure, "unit": "bytes", "value": value }));
    }
    Ok(Part::Measured(rows))
}

/// An old file is removed first, so that only what this run wrote is read.
fn measure(command: &mut Command, file: &Path) -> Result<Part> {
    let _ = std::fs::remove_file(file);
    run::check(command)?;
    let bytes = std::fs::read(file).context("the bench wrote no JSON")?;
    let rows: Vec<Value> = serde_json::from_slice(&bytes).context("the bench's JSON is not an array")?;
    Ok(Part::Measured(rows))
}

fn commit(places: &Places) -> Option<String> {
    let told = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .current_dir(&places.root)
        .output()
        .ok()?;
    told.status
        .success()
        .then(|| String::from_utf8_lossy(&told.stdout).trim().to_owned())
}

/// Markdown: a line per student and measure in the order of first mention, a column per runner.
fn table(rows: &[Value]) -> String {
    let word = |row: &Value, name: &str| row[name].as_str().unwrap_or("?").to_owned();
    let mut runners: Vec<String> = Vec::new();
    let mut lines: Vec<(String, String)> = Vec::new();
    let key = |row: &Value| {
        (
            word(row, "student"),
            format!("{} ({})", word(row, "measure"), word(row, "unit")),
        )
    };
    for row in rows {
        if !runners.contains(&word(row, "runner")) {
            runners.push(word(row, "runner"));
        }
        if !lines.contains(&key(row)) {
            lines.push(key(row));
        }
    }
    let mut text = format!(
        "| student | measure |{}\n",
        runners.iter().map(|name| format!(" {name} |")).collect::<String>()
    );
    text.push_str(&format!("|---|---|{}\n", "---:|".repeat(runners.len())));
    for line in lines {
        text.push_str(&format!("| {} | {} |", line.0, line.1));
        for runner in &runners {
            let found = rows
                .iter()
                .find(|row| key(row) == line && word(row, "runner") == *runner);
            text.push_str(&format!(
                " {} |",
                found.map(|row| number(&row["value"])).unwrap_or_default()
            ));
        }
        text.push('\n');
    }
    text
}

/// As many digits as say something.
fn number(value: &Value) -> String {
    match value.as_f64() {
        None => value.to_string(),
        Some(value) if value.fract() == 0.0 || value.abs() >= 1000.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runners_stand_side_by_side() {
        let row = |runner: &str, student: &str, value: f64| json!({ "runner": runner, "student": student, "measure": "decode", "unit": "tokens/s", "value": value });
        let rows = [
            row("native", "a", 12.345),
            row("native", "b", 1234.6),
            row("page", "a", 3.0),
        ];
        let expected = "\
| student | measure | native | page |
|---|---|---:|---:|
| a | decode (tokens/s) | 12.3 | 3 |
| b | decode (tokens/s) | 1235 |  |
";
        assert_eq!(table(&rows), expected);
    }
}
