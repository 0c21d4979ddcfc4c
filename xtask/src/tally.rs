//! Reads the closing lines of the test runners and adds them up.

use std::ops::AddAssign;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ran and held.
    pub passed: usize,
    /// Ran and did not hold, or did not come to an end.
    pub failed: usize,
    /// Left out by the runner (ignored, filtered, skipped).
    pub skipped: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Sums every summary line in a runner's output; `None` when there is not one.
pub fn read(output: &str) -> Option<Tally> {
    let mut cargo: Option<Tally> = None;
    let mut next: Option<Tally> = None;
    let mut node: Option<Tally> = None;
    for line in output.lines() {
        let line = plain(line);
        let line = line.trim();
        if let Some(found) = nextest(line) {
            *next.get_or_insert_default() += found;
        } else if let Some(found) = libtest(line) {
            *cargo.get_or_insert_default() += found;
        } else if let Some(found) = node_line(line) {
            *node.get_or_insert_default() += found;
        }
    }
    // nextest runs a test binary once per test and may show what each prints, closing line and all.
    next.or(cargo).or(node)
}

/// The lines by which tests say that they have left something out: `SKIP name: reason`.
pub fn skips(output: &str) -> Vec<String> {
    let lines = output.lines().map(plain);
    let mut found: Vec<String> = lines
        .filter_map(|line| line.trim().strip_prefix("SKIP ").map(|rest| rest.trim().to_owned()))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.1s`
/// (cargo test and wasm-bindgen-test).
fn libtest(line: &str) -> Option<Tally> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, counts) = rest.split_once(". ")?;
    Some(count_pairs(counts, ';'))
}

/// `Summary [   0.5s] 5 tests run: 3 passed (1 slow), 2 failed, 1 timed out, 4 skipped` (cargo nextest).
fn nextest(line: &str) -> Option<Tally> {
    let rest = line.strip_prefix("Summary [")?;
    let (_, counts) = rest.split_once(" run: ")?;
    // What stands in brackets qualifies the number before it and is no number of its own.
    let mut depth = 0;
    let counts: String = counts
        .chars()
        .filter(|&letter| {
            depth += i32::from(letter == '(');
            let keep = depth == 0;
            depth -= i32::from(letter == ')');
            keep
        })
        .collect();
    Some(count_pairs(&counts, ','))
}

/// `3 passed`, `1 timed out`, ... between separators.
fn count_pairs(text: &str, separator: char) -> Tally {
    let mut tally = Tally::default();
    for part in text.split(separator) {
        let Some((count, word)) = part.trim().split_once(' ') else {
            continue;
        };
        let Ok(count) = count.parse::<usize>() else { continue };
        match word.trim() {
            "passed" => tally.passed += count,
            "failed" | "timed out" | "exec failed" => tally.failed += count,
            "ignored" | "skipped" => tally.skipped += count,
            _ => {}
        }
    }
    tally
}

/// `ℹ pass 3` or `# pass 3` (node's runner says each of its counts on a line of its own).
fn node_line(line: &str) -> Option<Tally> {
    let rest = line.strip_prefix("ℹ ").or_else(|| line.strip_prefix("# "))?;
    let (word, count) = rest.split_once(' ')?;
    let count = count.parse().ok()?;
    match word {
        "pass" => Some(Tally {
            passed: count,
            ..Tally::default()
        }),
        "fail" | "cancelled" => Some(Tally {
            failed: count,
            ..Tally::default()
        }),
        "skipped" | "todo" => Some(Tally {
            skipped: count,
            ..Tally::default()
        }),
        _ => None,
    }
}

/// The line without colour codes.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            for code in letters.by_ref() {
                if code.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: usize, failed: usize, skipped: usize) -> Option<Tally> {
        Some(Tally {
            passed,
            failed,
            skipped,
        })
    }

    #[test]
    fn cargo_test_binaries_are_summed() {
        let text = "\
test a ... ok
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
noise
test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out; finished in 0.10s";
        assert_eq!(read(text), tally(4, 2, 1));
    }

    #[test]
    fn wasm_bindgen_test_says_it_like_cargo_test() {
        assert_eq!(
            read("test result: ok. 2 passed; 0 failed; 0 ignored; 0 filtered out; finished in 0.01s"),
            tally(2, 0, 0)
        );
    }

    #[test]
    fn nextest_in_colour_with_remarks() {
        let text = "\u{1b}[32;1m     Summary\u{1b}[0m [   1.2s] \u{1b}[1m7\u{1b}[0m tests run: \u{1b}[1m3\u{1b}[0m passed (1 slow, 1 flaky), 2 failed, 1 timed out, 1 exec failed, 4 skipped";
        assert_eq!(read(text), tally(3, 4, 4));
    }

    #[test]
    fn nextest_that_stopped_early() {
        assert_eq!(
            read("     Summary [   0.1s] 2/9 tests run: 1 passed, 1 failed, 3 skipped"),
            tally(1, 1, 3)
        );
    }

    #[test]
    fn what_nextest_shows_of_its_tests_is_not_counted_again() {
        let text = "PASS a\n    test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.00s\n\
            PASS b\n    test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.00s\n\
            Summary [   0.1s] 2 tests run: 2 passed, 0 skipped";
        assert_eq!(read(text), tally(2, 0, 0));
    }

    #[test]
    fn node_in_both_of_its_voices() {
        let spec =
            "ℹ tests 6\nℹ suites 1\nℹ pass 3\nℹ fail 1\nℹ cancelled 1\nℹ skipped 1\nℹ todo 0\nℹ duration_ms 12.3";
        assert_eq!(read(spec), tally(3, 2, 1));
        assert_eq!(read(&spec.replace('ℹ', "#")), tally(3, 2, 1));
    }

    #[test]
    fn skips_are_named_once() {
        let text = "    SKIP b: no adapter\nSKIP a: no kit\n    SKIP b: no adapter\nok a # SKIP\n";
        assert_eq!(skips(text), ["a: no kit", "b: no adapter"]);
    }

    #[test]
    fn silence_is_not_a_pass() {
        assert_eq!(read("error[E0425]: cannot find value\n"), None);
        assert_eq!(read("test result: ok\nSummary\n# pass many\n"), None);
    }
}
