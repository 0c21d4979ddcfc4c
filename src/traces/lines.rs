//! Bytes to lines, whatever the sizes of the chunks in which they come.
//!
//! A file of hundreds of megabytes is never held: one line is, and a line beyond the cap is counted to its end and reported
//! by number. A file whose first byte is `[` is one JSON array; its elements are handed out one by one instead of lines.

use super::json::MAX_SOURCE;
use crate::error::{Error, Result};

/// Longest line that is read unless the options say otherwise, in bytes.
pub const MAX_LINE: usize = 16 << 20;

/// What the splitter hands out. Numbers count from one: lines, or elements of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole line without its end, or a whole element. Never blank.
    Line {
        /// Its number.
        number: usize,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// A line or element beyond the cap; its bytes are gone.
    TooLong {
        /// Its number.
        number: usize,
        /// How long it is.
        bytes: u64,
    },
    /// Something follows the array that should be the whole file. Said once.
    AfterArray {
        /// Number of the last element.
        number: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first four bytes tell what kind of file this is.
    Sniffing,
    /// White space only so far.
    Start,
    Lines,
    /// Inside the array. `depth` counts the brackets that are open within an element.
    Array {
        depth: usize,
        in_string: bool,
        escaped: bool,
    },
    /// Behind the array.
    Closed {
        said: bool,
    },
}

/// Cuts a file into lines, or into the elements of an array.
#[derive(Debug)]
pub struct Splitter {
    cap: usize,
    state: State,
    /// The first bytes of the file, until there are enough to sniff.
    head: Vec<u8>,
    /// The line so far, when it began in an earlier chunk.
    buffer: Vec<u8>,
    /// Length of the line so far, also when it is beyond the cap and no longer held.
    length: u64,
    number: usize,
}

impl Splitter {
    /// A splitter for one file. Lines longer than `cap` bytes are not held; the cap itself is held to 1 GiB.
    pub fn new(cap: usize) -> Self {
        Self {
            cap: cap.clamp(1, MAX_SOURCE),
            state: State::Sniffing,
            head: Vec::new(),
            buffer: Vec::new(),
            length: 0,
            number: 1,
        }
    }

    /// Whether the file is one JSON array, so that numbers count elements and not lines.
    pub fn is_array(&self) -> bool {
        matches!(self.state, State::Array { .. } | State::Closed { .. })
    }

    /// Bytes that are reserved.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity() + self.head.capacity()
    }

    /// Takes the next bytes of the file and hands out what they complete.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the first bytes say that the file cannot be text in UTF-8: UTF-16, Parquet, an archive.
    pub fn push(&mut self, bytes: &[u8], each: &mut impl FnMut(Piece<'_>)) -> Result<()> {
        if self.state != State::Sniffing {
            self.feed(bytes, each);
            return Ok(());
        }
        let taken = bytes.len().min(4 - self.head.len());
        self.head.extend_from_slice(&bytes[..taken]);
        if self.head.len() == 4 {
            self.begin(each)?;
            self.feed(&bytes[taken..], each);
        }
        Ok(())
    }

    /// Takes the end of the file: what stands behind the last line end is a line too.
    ///
    /// # Errors
    /// As [`Splitter::push`], for files of fewer than four bytes.
    pub fn finish(&mut self, each: &mut impl FnMut(Piece<'_>)) -> Result<()> {
        if self.state == State::Sniffing {
            self.begin(each)?;
        }
        if matches!(self.state, State::Lines | State::Array { .. }) {
            self.complete(&[], each);
        }
        Ok(())
    }

    /// Looks at the first bytes, then passes them on.
    fn begin(&mut self, each: &mut impl FnMut(Piece<'_>)) -> Result<()> {
        let head = std::mem::take(&mut self.head);
        let other = match head.as_slice() {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("it is UTF-16 text; save it as UTF-8"),
            [first, 0, ..] if *first != 0 => Some("it is UTF-16 text; save it as UTF-8"),
            [0, ..] => Some("it holds binary data and not JSON Lines"),
            [0x1f, 0x8b, ..] => Some("it is compressed with gzip; unpack it first"),
            [0x28, 0xb5, 0x2f, 0xfd] => Some("it is compressed with zstd; unpack it first"),
            [0xfd, b'7', b'z', b'X'] => Some("it is compressed with xz; unpack it first"),
            [b'P', b'K', 3, 4] => Some("it is a zip archive; unpack it first"),
            b"PAR1" => Some("it is a Parquet file; export its rows as JSON Lines"),
            b"GGUF" => Some("it is a GGUF file and holds no traces"),
            _ => None,
        };
        if let Some(what) = other {
            return Err(Error::malformed(what));
        }
        self.state = State::Start;
        self.feed(head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head), each);
        Ok(())
    }

    fn feed(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Sniffing => unreachable!("the first bytes were looked at"),
                State::Start => self.feed_start(bytes),
                State::Lines => self.feed_lines(bytes, each),
                State::Array { .. } => self.feed_array(bytes, each),
                State::Closed { said } => {
                    if !said && !bytes.iter().all(u8::is_ascii_whitespace) {
                        self.state = State::Closed { said: true };
                        each(Piece::AfterArray { number: self.number });
                    }
                    &[]
                }
            };
        }
    }

    fn feed_start<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let blank = bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
        self.number += bytes[..blank].iter().filter(|b| **b == b'\n').count();
        match bytes.get(blank) {
            None => &[],
            Some(b'[') => {
                self.number = 1;
                self.state = State::Array {
                    depth: 0,
                    in_string: false,
                    escaped: false,
                };
                &bytes[blank + 1..]
            }
            Some(_) => {
                self.state = State::Lines;
                &bytes[blank..]
            }
        }
    }

    fn feed_lines<'b>(&mut self, bytes: &'b [u8], each: &mut impl FnMut(Piece<'_>)) -> &'b [u8] {
        match bytes.iter().position(|b| *b == b'\n') {
            Some(end) => {
                self.complete(&bytes[..end], each);
                &bytes[end + 1..]
            }
            None => {
                self.hold(bytes);
                &[]
            }
        }
    }

    /// Follows strings and brackets only as far as needed to see where an element ends; what is wrong inside an element
    /// is the parser's business.
    fn feed_array<'b>(&mut self, bytes: &'b [u8], each: &mut impl FnMut(Piece<'_>)) -> &'b [u8] {
        let State::Array {
            mut depth,
            mut in_string,
            mut escaped,
        } = self.state
        else {
            return bytes;
        };
        for (i, byte) in bytes.iter().enumerate() {
            if in_string {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => in_string = true,
                b'{' | b'[' => depth += 1,
                b']' if depth == 0 => {
                    self.complete(&bytes[..i], each);
                    self.number -= 1;
                    self.state = State::Closed { said: false };
                    return &bytes[i + 1..];
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                b',' if depth == 0 => {
                    self.state = State::Array {
                        depth,
                        in_string,
                        escaped,
                    };
                    self.complete(&bytes[..i], each);
                    return &bytes[i + 1..];
                }
                _ => {}
            }
        }
        self.state = State::Array {
            depth,
            in_string,
            escaped,
        };
        self.hold(bytes);
        &[]
    }

    /// Keeps the part of a line that ends in a later chunk, unless the line is beyond the cap already.
    fn hold(&mut self, part: &[u8]) {
        self.length += part.len() as u64;
        if self.length > self.cap as u64 {
            self.buffer = Vec::new();
        } else {
            self.buffer.extend_from_slice(part);
        }
    }

    /// Hands a line out, of which `last` is the last part.
    fn complete(&mut self, last: &[u8], each: &mut impl FnMut(Piece<'_>)) {
        let number = self.number;
        let length = self.length + last.len() as u64;
        if length > self.cap as u64 {
            each(Piece::TooLong { number, bytes: length });
        } else if self.length == 0 {
            hand_out(number, last, each);
        } else {
            self.buffer.extend_from_slice(last);
            hand_out(number, &self.buffer, each);
        }
        self.buffer.clear();
        self.length = 0;
        self.number += 1;
    }
}

fn hand_out(number: usize, bytes: &[u8], each: &mut impl FnMut(Piece<'_>)) {
    // `\r` of a CRLF goes with the rest of the white space around; a blank line is nobody's row.
    let bytes = bytes.trim_ascii();
    if !bytes.is_empty() {
        each(Piece::Line { number, bytes });
    }
}
