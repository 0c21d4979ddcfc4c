//! Starting other programs: one place for names, for what is shown, and for what is kept.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// A program by its plain name. Cargo is the one that started us; npm is a script with an ending of its own on Windows.
pub fn tool(name: &str) -> Command {
    match name {
        "cargo" => Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
        "npm" if cfg!(windows) => Command::new("npm.cmd"),
        _ => Command::new(name),
    }
}

/// The first file of that name in PATH.
pub fn in_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// The command as a person would type it.
fn words(command: &Command) -> String {
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    std::iter::once(name)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs it with its output shown; a failure is an error.
pub fn check(command: &mut Command) -> Result<()> {
    println!("$ {}", words(command));
    let status = command
        .status()
        .with_context(|| format!("'{}' did not start", words(command)))?;
    if !status.success() {
        bail!("'{}' failed ({status})", words(command));
    }
    Ok(())
}

/// What a program printed and how it ended.
pub struct Told {
    /// Standard output and error together, in the order of arrival.
    pub text: String,
    /// Whether it ended with 0.
    pub success: bool,
}

/// Runs it with its output both shown and kept, so that its own summary can be read afterwards.
pub fn listen(command: &mut Command) -> Result<Told> {
    println!("$ {}", words(command));
    if std::io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("'{}' did not start", words(command)))?;
    let kept = Arc::new(Mutex::new(String::new()));
    let readers = [
        child.stdout.take().map(|pipe| copy_lines(pipe, Arc::clone(&kept))),
        child.stderr.take().map(|pipe| copy_lines(pipe, Arc::clone(&kept))),
    ];
    let status = child.wait()?;
    for reader in readers.into_iter().flatten() {
        // A reader only fails when our own output is closed; there is nobody left to tell then.
        let _ = reader.join();
    }
    let text = kept.lock().map(|text| text.clone()).unwrap_or_default();
    Ok(Told {
        text,
        success: status.success(),
    })
}

/// Line by line, because the two pipes share one screen.
fn copy_lines(pipe: impl Read + Send + 'static, kept: Arc<Mutex<String>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let mut screen = std::io::stdout().lock();
            let _ = screen.write_all(&line).and_then(|()| screen.flush());
            if let Ok(mut kept) = kept.lock() {
                kept.push_str(&String::from_utf8_lossy(&line));
            }
            line.clear();
        }
    })
}
