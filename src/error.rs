//! The one error type. Each variant is told apart by what the user can do next; none holds the user's text.

use std::fmt;

/// Everything that can go wrong on data that is not ours. A broken promise of our own code is an `assert!` instead.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// The bytes do not start like the file that was expected.
    NotGguf {
        /// What they look like instead, if that is known.
        looks_like: Option<&'static str>,
    },
    /// A GGUF of a version that this reader does not know.
    GgufVersion {
        /// The version that the file names.
        version: u32,
    },
    /// The file ends before what its own header promises.
    Truncated {
        /// Bytes that the header asks for.
        needed: u64,
        /// Bytes that the file has.
        size: u64,
    },
    /// The file contradicts itself or breaks its format.
    Malformed {
        /// What was found, in a few words.
        what: String,
    },
    /// The files are not all the parts of one split student.
    Parts {
        /// What was found.
        what: String,
    },
    /// The file is sound, and uses something that this program does not know.
    Unsupported {
        /// What was found.
        what: String,
        /// What is known instead.
        known: String,
    },
    /// The tokenizer's metadata cannot be used.
    Tokenizer {
        /// What was found.
        what: String,
    },
    /// The student computes numbers that are not finite.
    NotFinite,
    /// The chat template failed.
    Template {
        /// What the template engine said.
        what: String,
    },
    /// Weights, cache and scratch exceed what the device offers.
    DoesNotFit {
        /// Bytes needed.
        needed: u64,
        /// Bytes available.
        available: u64,
        /// What would fit.
        suggestion: String,
    },
    /// The prompt has more tokens than the context holds.
    PromptTooLong {
        /// Tokens in the prompt.
        tokens: usize,
        /// Tokens that the context holds.
        context: usize,
    },
    /// A request with a setting outside its range.
    Request {
        /// Which setting, and its range.
        what: String,
    },
    /// The form that an answer is to have cannot be had: a schema, an expression or a grammar.
    Format {
        /// What was found; it may name a keyword of the schema.
        what: String,
    },
    /// An adapter that cannot be used, here or with this student.
    Adapter {
        /// What was found.
        what: String,
    },
    /// A saved conversation that cannot be gone on with.
    State {
        /// What was found.
        what: String,
    },
    /// No usable GPU.
    NoDevice {
        /// Why.
        what: String,
    },
    /// The GPU went away in the middle of work.
    DeviceLost {
        /// What the driver said.
        what: String,
    },
    /// The GPU refused an allocation or an operation.
    Device {
        /// What the driver said.
        what: String,
    },
    /// A generation is already running on this student.
    Busy,
    /// The caller stopped the work.
    Aborted,
    /// No student is open.
    NoStudent,
    /// An adapter that was read again does not do what was trained.
    ExportDiffers,
    /// Reading a file failed.
    Io {
        /// What the system said.
        what: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Shorthand for [`Error::Malformed`].
    pub fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed { what: what.into() }
    }

    /// Shorthand for [`Error::Unsupported`].
    pub fn unsupported(what: impl Into<String>, known: impl Into<String>) -> Self {
        Self::Unsupported {
            what: what.into(),
            known: known.into(),
        }
    }

    /// A stable, machine-readable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotGguf { .. } => "not-gguf",
            Self::GgufVersion { .. } => "gguf-version",
            Self::Truncated { .. } => "truncated-file",
            Self::Malformed { .. } => "malformed-file",
            Self::Parts { .. } => "split-file",
            Self::Unsupported { .. } => "unsupported",
            Self::Tokenizer { .. } => "tokenizer",
            Self::NotFinite => "not-finite",
            Self::Template { .. } => "template",
            Self::DoesNotFit { .. } => "does-not-fit",
            Self::PromptTooLong { .. } => "prompt-too-long",
            Self::Request { .. } => "bad-request",
            Self::Format { .. } => "format",
            Self::Adapter { .. } => "adapter",
            Self::State { .. } => "state",
            Self::NoDevice { .. } => "no-device",
            Self::DeviceLost { .. } => "device-lost",
            Self::Device { .. } => "device",
            Self::Busy => "busy",
            Self::Aborted => "aborted",
            Self::NoStudent => "no-student",
            Self::ExportDiffers => "export-differs",
            Self::Io { .. } => "io",
        }
    }

    /// One sentence: what the user can do next.
    pub fn hint(&self) -> String {
        match self {
            Self::NotGguf { .. } => "Choose a file in the GGUF format; its name usually ends in .gguf.".into(),
            Self::GgufVersion { .. } => {
                "Convert the file to GGUF version 3 with a current converter, or download a newer copy.".into()
            }
            Self::Truncated { .. } => {
                "The download was probably interrupted: fetch the file again and compare its size.".into()
            }
            Self::Malformed { .. } => "The file is damaged or was written by a faulty tool: fetch it again.".into(),
            Self::Parts { .. } => {
                "Open all parts of the student together: their names end in -00001-of-00003.gguf and so on.".into()
            }
            Self::Unsupported { known, .. } => format!("Choose a student of a kind that is known here: {known}."),
            Self::Tokenizer { .. } => "Choose a file whose tokenizer is complete; a newer conversion often is.".into(),
            Self::NotFinite => "Its weights are damaged: fetch the file again, or open another student.".into(),
            Self::Template { .. } => {
                "Start a new chat with plain alternating messages, or open the student with the general template."
                    .into()
            }
            Self::DoesNotFit { suggestion, .. } => suggestion.clone(),
            Self::PromptTooLong { .. } => {
                "Shorten the message, start a new chat, or open the student with a longer context.".into()
            }
            Self::Request { .. } => "Correct the setting and send again.".into(),
            Self::Format { .. } => {
                "Correct the schema, the expression or the grammar, or ask for a simpler form of answer.".into()
            }
            Self::Adapter { .. } => {
                "Choose an adapter that was made for this very student, as a GGUF file or a PEFT folder.".into()
            }
            Self::State { .. } => "Nothing is lost: the conversation is read once more when you send.".into(),
            Self::NoDevice { .. } => {
                "The slower CPU engine can take over; for speed, use a browser with WebGPU switched on.".into()
            }
            Self::DeviceLost { .. } => "The student is being loaded again; the chat then goes on where it was.".into(),
            Self::Device { .. } => "Close other tabs that use the GPU, or open a smaller student.".into(),
            Self::Busy => "Wait for the answer to finish, or stop it first.".into(),
            Self::Aborted => "Send again when you like; nothing was lost.".into(),
            Self::NoStudent => "Open a student first.".into(),
            Self::ExportDiffers => {
                "Nothing was saved: export again, and if it happens again train again with a lower step size.".into()
            }
            Self::Io { .. } => "Check that the file still exists and may be read, then open it again.".into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGguf { looks_like: None } => f.write_str("This is not a GGUF file."),
            Self::NotGguf {
                looks_like: Some(other),
            } => write!(f, "This is not a GGUF file: it looks like {other}."),
            Self::GgufVersion { version } => {
                write!(f, "This file is GGUF version {version}; versions 2 and 3 are known.")
            }
            Self::Truncated { needed, size } => {
                write!(
                    f,
                    "The file ends early: its header asks for {needed} bytes and it has {size}."
                )
            }
            Self::Malformed { what } => write!(f, "The file is damaged: {what}."),
            Self::Parts { what } => write!(f, "A split student's parts do not fit together: {what}."),
            Self::Unsupported { what, known } => write!(f, "This student uses {what}; known here: {known}."),
            Self::Tokenizer { what } => write!(f, "The file's tokenizer cannot be used: {what}."),
            Self::NotFinite => f.write_str("The student computes numbers that are not finite."),
            Self::Template { what } => write!(f, "The chat template failed: {what}."),
            Self::DoesNotFit { needed, available, .. } => write!(
                f,
                "This student does not fit: it needs {} and the device offers {}.",
                human_bytes(*needed),
                human_bytes(*available)
            ),
            Self::PromptTooLong { tokens, context } => {
                write!(f, "The prompt has {tokens} tokens and the context holds {context}.")
            }
            Self::Request { what } => write!(f, "The request cannot be served: {what}."),
            Self::Format { what } => write!(f, "The form asked of the answer cannot be had: {what}."),
            Self::Adapter { what } => write!(f, "The adapter cannot be used: {what}."),
            Self::State { what } => write!(f, "The saved conversation cannot be used: {what}."),
            Self::NoDevice { what } => write!(f, "No GPU can be used here: {what}."),
            Self::DeviceLost { what } => write!(f, "The GPU was lost: {what}."),
            Self::Device { what } => write!(f, "The GPU refused the work: {what}."),
            Self::Busy => f.write_str("The student is already answering."),
            Self::Aborted => f.write_str("Stopped."),
            Self::NoStudent => f.write_str("No student is open."),
            Self::ExportDiffers => f.write_str("The adapter was read again and does not do what was trained."),
            Self::Io { what } => write!(f, "The file could not be read: {what}."),
        }
    }
}

impl std::error::Error for Error {}

/// A byte count as people read it, in powers of 1024: `1.5 GiB`, `640 KiB`, `12 bytes`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 10.0 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}
