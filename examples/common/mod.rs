//! What the examples share: arguments, files, and errors with their hints.
#![allow(dead_code, reason = "each example uses a part")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use understudy::error::{Error, Result};
use understudy::format::gguf::part_names;
use understudy::format::source::{Joined, Source, changed};
use understudy::gpu::{Gpu, GpuOptions};
use understudy::student::Student;

/// Why an example ends early.
pub type Failure = Box<dyn std::error::Error>;

/// Runs an example; an error is printed with what to do next, and ends the process with 1.
pub fn run(body: impl FnOnce() -> std::result::Result<(), Failure>) {
    if let Err(failure) = body() {
        eprintln!("{failure}");
        if let Some(error) = failure.downcast_ref::<Error>() {
            eprintln!("[{}] {}", error.code(), error.hint());
        }
        std::process::exit(1);
    }
}

/// `--name value` options, `--name` flags, and the rest.
pub struct Arguments {
    values: HashMap<String, String>,
    flags: Vec<String>,
    rest: Vec<String>,
}

impl Arguments {
    /// Reads the process's arguments; only these options and flags are known.
    pub fn parse(values: &[&str], flags: &[&str]) -> std::result::Result<Self, Failure> {
        let mut parsed = Self {
            values: HashMap::new(),
            flags: Vec::new(),
            rest: Vec::new(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix("--") {
                Some(name) if values.contains(&name) => {
                    let value = arguments.next().ok_or(format!("--{name} needs a value"))?;
                    parsed.values.insert(name.into(), value);
                }
                Some(name) if flags.contains(&name) => parsed.flags.push(name.into()),
                Some(name) => return Err(format!("--{name} is not known; known: {values:?} {flags:?}").into()),
                None => parsed.rest.push(argument),
            }
        }
        Ok(parsed)
    }

    /// The positional arguments, as many as `usage` names.
    pub fn positional<const N: usize>(&self, usage: &str) -> std::result::Result<[&str; N], Failure> {
        let rest: Vec<&str> = self.rest.iter().map(String::as_str).collect();
        rest.try_into().map_err(|_| format!("arguments: {usage}").into())
    }

    /// An option's value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// An option's number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> std::result::Result<Option<T>, Failure> {
        match self.value(name) {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| format!("--{name} is not a number").into()),
        }
    }

    /// Whether a flag was given.
    pub fn flag(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag == name)
    }
}

/// A file on disk.
pub struct FileSource {
    file: RefCell<File>,
    size: u64,
}

impl FileSource {
    /// Opens a file.
    pub fn open(path: &str) -> Result<Self> {
        let io = |e: std::io::Error| Error::Io { what: e.to_string() };
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        Ok(Self {
            file: RefCell::new(file),
            size,
        })
    }
}

impl Source for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let io = |e: std::io::Error| Error::Io { what: e.to_string() };
        let mut file = self.file.borrow_mut();
        file.seek(SeekFrom::Start(offset)).map_err(io)?;
        if file.metadata().map_err(io)?.len() != self.size {
            return Err(changed());
        }
        let mut bytes = vec![0; length.min(self.size.saturating_sub(offset) as usize)];
        file.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }
}

/// A student's file, or all parts of a split one.
pub type Files = Joined<FileSource>;

/// Opens a student's file; of a split one any part, which finds the others beside it by their names.
pub fn open_files(path: &str) -> Result<Files> {
    let names = part_names(path).unwrap_or_else(|| vec![path.to_owned()]);
    // A part that is missing is named by the reader, together with the others.
    let there = |name: &&String| *name == path || std::path::Path::new(name).exists();
    let files: Result<Vec<_>> = names.iter().filter(there).map(|name| FileSource::open(name)).collect();
    Ok(Joined(files?))
}

/// Opens a student on the GPU, or on the CPU if `engine` is `cpu` or there is no GPU. The KV cache stays in f32, so that
/// numbers can be compared.
pub fn open(path: &str, engine: Option<&str>, context: Option<usize>) -> std::result::Result<Student, Failure> {
    let source = open_files(path)?;
    let gpu = match engine {
        Some("cpu") => None,
        Some("gpu") => Some(pollster::block_on(Gpu::meet(&options()))?),
        None => match pollster::block_on(Gpu::meet(&options())) {
            Ok(gpu) => Some(gpu),
            Err(error) => {
                eprintln!("{error} {}", error.hint());
                None
            }
        },
        Some(_) => return Err("--engine is gpu or cpu".into()),
    };
    Ok(pollster::block_on(Student::open(
        &source,
        gpu.as_ref(),
        context,
        |_, _| Ok(()),
    ))?)
}

fn options() -> GpuOptions {
    GpuOptions {
        subgroups: true,
        ..GpuOptions::default()
    }
}
