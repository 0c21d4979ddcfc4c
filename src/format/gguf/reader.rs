//! The reader: a cursor over a prefix of the file. No count, length or offset is believed before it is checked.

use super::{
    ALIGNMENT_KEY, Array, DEFAULT_ALIGNMENT, Gguf, MAGIC, MAX_TENSOR_NAME, Metadata, Parsed, TensorInfo, Value,
};
use crate::error::{Error, Result};
use crate::format::blocks::{ggml_block, unsupported_type};

/// Most keys of a file. Real files have some dozens.
const MAX_KEYS: u64 = 1 << 16;

/// Most tensors of a file. Real files have some hundreds.
const MAX_TENSORS: u64 = 1 << 16;

/// Longest key, as GGUF's specification says.
const MAX_KEY: u64 = 65_535;

/// Largest alignment that is believed; files use 32.
const MAX_ALIGNMENT: u64 = 1 << 16;

/// Bytes that a string or a number array may take, so that one value cannot fill the memory of a browser.
const MAX_VALUE: u64 = 256 << 20;

/// Bytes that texts may take in memory beyond what they take in the file: a `String` is 24 bytes where the file has 8,
/// and a byte that is not UTF-8 becomes three. Two million texts fit; the largest vocabularies have under one.
const MAX_GROWTH: u64 = 32 << 20;

/// Why a cursor stopped.
enum Stop {
    /// The prefix is too short: this many bytes would do.
    More(u64),
    /// The file is wrong.
    Wrong(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Wrong(error)
    }
}

type Step<T> = std::result::Result<T, Stop>;

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    size: u64,
    /// What is left of [`MAX_GROWTH`].
    growth: u64,
}

impl<'a> Cursor<'a> {
    /// Pays for memory beyond the file's own bytes, before it is allocated.
    fn grow(&mut self, bytes: u64) -> Step<()> {
        let left = self.growth.checked_sub(bytes);
        self.growth = left.ok_or_else(|| Error::malformed("its texts would take far more memory than the file"))?;
        Ok(())
    }

    /// The next `length` bytes, if the file can have them and the prefix does.
    fn take(&mut self, length: u64) -> Step<&'a [u8]> {
        let end = (self.at as u64)
            .checked_add(length)
            .ok_or_else(|| Error::malformed("a length overflows"))?;
        if end > self.size {
            return Err(Error::Truncated {
                needed: end,
                size: self.size,
            }
            .into());
        }
        // Within the file's size; within the prefix the cast is exact.
        match self.bytes.get(self.at..usize::try_from(end).unwrap_or(usize::MAX)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(Stop::More(end)),
        }
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    fn u32(&mut self) -> Step<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Step<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn string_bytes(&mut self) -> Step<&'a [u8]> {
        let length = self.u64()?;
        if length > MAX_VALUE {
            // Longer than the file is the usual case, and the clearer message.
            let needed = (self.at as u64).saturating_add(length);
            return Err(if needed > self.size {
                Error::Truncated {
                    needed,
                    size: self.size,
                }
                .into()
            } else {
                Error::malformed(format!("a text of {length} bytes")).into()
            });
        }
        self.take(length)
    }

    /// Text; bytes that are not UTF-8 become U+FFFD, as they would on the screen.
    fn string(&mut self) -> Step<String> {
        let bytes = self.string_bytes()?;
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Ok(text.to_owned());
        }
        // Three bytes for each in the worst case, and twice that while the text grows.
        self.grow(6 * bytes.len() as u64)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn numbers<T, const N: usize>(&mut self, count: u64, from: fn([u8; N]) -> T) -> Step<Vec<T>> {
        let bytes = count
            .checked_mul(N as u64)
            .filter(|&bytes| bytes <= MAX_VALUE.max(self.size))
            .ok_or_else(|| Error::malformed(format!("an array of {count} elements")))?;
        if bytes > MAX_VALUE {
            return Err(Error::malformed(format!("an array of {count} elements")).into());
        }
        let bytes = self.take(bytes)?;
        Ok(bytes
            .chunks_exact(N)
            .map(|chunk| {
                let mut out = [0; N];
                out.copy_from_slice(chunk);
                from(out)
            })
            .collect())
    }

    fn value(&mut self) -> Step<Value> {
        let kind = self.u32()?;
        Ok(match kind {
            0 => Value::U8(self.array::<1>()?[0]),
            1 => Value::I8(i8::from_le_bytes(self.array()?)),
            2 => Value::U16(u16::from_le_bytes(self.array()?)),
            3 => Value::I16(i16::from_le_bytes(self.array()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.array()?)),
            6 => Value::F32(f32::from_le_bytes(self.array()?)),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            8 => Value::String(self.string()?),
            9 => Value::Array(self.elements()?),
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            other => return Err(Error::malformed(format!("metadata of the unknown type {other}")).into()),
        })
    }

    fn elements(&mut self) -> Step<Array> {
        let kind = self.u32()?;
        let count = self.u64()?;
        Ok(match kind {
            0 => Array::U8(self.numbers(count, |b: [u8; 1]| b[0])?),
            1 => Array::I8(self.numbers(count, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(count, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(count, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(count, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(count, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(count, f32::from_le_bytes)?),
            7 => Array::Bool(self.numbers(count, |b: [u8; 1]| b[0] != 0)?),
            8 => {
                // Each text takes at least its length's eight bytes: they must be there before the vector is.
                let least = count
                    .checked_mul(8)
                    .ok_or_else(|| Error::malformed("an array of texts overflows"))?;
                let needed = (self.at as u64).saturating_add(least);
                if needed > self.size {
                    return Err(Error::Truncated {
                        needed,
                        size: self.size,
                    }
                    .into());
                }
                if needed > self.bytes.len() as u64 {
                    return Err(Stop::More(needed));
                }
                self.grow((size_of::<String>() as u64).saturating_sub(8) * count)?;
                let mut texts = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    texts.push(self.string()?);
                }
                Array::String(texts)
            }
            9 => return Err(Error::malformed("an array of arrays").into()),
            10 => Array::U64(self.numbers(count, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(count, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(count, f64::from_le_bytes)?),
            other => return Err(Error::malformed(format!("an array of the unknown type {other}")).into()),
        })
    }

    fn tensor(&mut self) -> Step<TensorInfo> {
        let name = self.string_bytes()?;
        if name.is_empty() || name.len() >= MAX_TENSOR_NAME {
            return Err(Error::malformed(format!("a tensor's name has {} bytes", name.len())).into());
        }
        let name = String::from_utf8_lossy(name).into_owned();
        let dims = self.u32()?;
        if !(1..=4).contains(&dims) {
            return Err(Error::malformed(format!("the tensor {name} has {dims} dimensions")).into());
        }
        let mut shape = Vec::with_capacity(4);
        for _ in 0..dims {
            shape.push(self.u64()?);
        }
        let block_type = self.u32()?;
        let offset = self.u64()?;
        let odd = || Error::malformed(format!("the tensor {name} has an impossible shape"));
        let columns = *shape.first().ok_or_else(odd)?;
        let rows = shape
            .iter()
            .skip(1)
            .try_fold(1u64, |n, &size| n.checked_mul(size))
            .ok_or_else(odd)?;
        if shape.contains(&0) || columns > u64::from(u32::MAX) || rows > u64::from(u32::MAX) {
            return Err(odd().into());
        }
        let (len, bytes) = ggml_block(block_type).ok_or_else(|| unsupported_type(block_type))?;
        if columns % len as u64 != 0 {
            return Err(Error::malformed(format!("the tensor {name} has rows that are not whole blocks")).into());
        }
        let bytes = (columns / len as u64)
            .checked_mul(bytes as u64)
            .and_then(|row| row.checked_mul(rows))
            .filter(|&bytes| bytes <= i64::MAX as u64)
            .ok_or_else(odd)?;
        Ok(TensorInfo {
            name,
            shape,
            block_type,
            offset,
            bytes,
        })
    }
}

/// What people most often have instead of the file that they wanted, by its first bytes.
fn looks_like(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.trim_ascii_start();
    let begins = |text: &str| start.len() >= text.len() && start[..text.len()].eq_ignore_ascii_case(text.as_bytes());
    if begins("<!doctype html") || begins("<html") {
        Some("a web page, perhaps a site's error message")
    } else if begins("version ") && bytes.windows(7).take(200).any(|w| w == b"git-lfs") {
        Some("a pointer of Git LFS: fetch the file itself")
    } else if bytes.starts_with(&[0x1f, 0x8b]) {
        Some("a gzip archive: unpack it first")
    } else if bytes.starts_with(b"PK") {
        Some("a zip archive: unpack it first")
    } else if bytes.starts_with(&[0xfd, b'7', b'z', b'X', b'Z']) {
        Some("an xz archive: unpack it first")
    } else if bytes.starts_with(b"FUGG") {
        Some("one for big-endian machines")
    } else if bytes.iter().take(64).all(|byte| *byte == 0) {
        Some("a file of zeros, perhaps an unfinished download")
    } else {
        None
    }
}

/// See [`Gguf::parse`].
pub(super) fn parse(prefix: &[u8], size: u64) -> Result<Parsed> {
    let mut cursor = Cursor {
        bytes: prefix,
        at: 0,
        size,
        growth: MAX_GROWTH,
    };
    match file(&mut cursor) {
        Ok(gguf) => Ok(Parsed::Done(gguf)),
        Err(Stop::Wrong(error)) => Err(error),
        // At least twice the prefix, so that starting over stays cheap in all; never more than the file has.
        Err(Stop::More(needed)) => Ok(Parsed::NeedMore(needed.max(2 * prefix.len() as u64).min(size))),
    }
}

fn file(cursor: &mut Cursor) -> Step<Gguf> {
    let size = cursor.size;
    if size < 4 {
        return Err(Error::NotGguf {
            looks_like: (size == 0).then_some("an empty file"),
        }
        .into());
    }
    if cursor.array::<4>()? != MAGIC {
        return Err(Error::NotGguf {
            looks_like: looks_like(cursor.bytes),
        }
        .into());
    }
    let version = cursor.u32()?;
    if !(2..=3).contains(&version) {
        return Err(if (2..=3).contains(&version.swap_bytes()) {
            Error::unsupported("the byte order of big-endian machines", "little-endian files").into()
        } else {
            Error::GgufVersion { version }.into()
        });
    }
    let tensor_count = cursor.u64()?;
    let key_count = cursor.u64()?;
    if key_count > MAX_KEYS || tensor_count > MAX_TENSORS {
        return Err(Error::malformed(format!("it promises {key_count} keys and {tensor_count} tensors")).into());
    }

    let mut metadata = Metadata::default();
    for _ in 0..key_count {
        let key = cursor.string_bytes()?;
        if key.is_empty() || key.len() as u64 > MAX_KEY {
            return Err(Error::malformed(format!("a key has {} bytes", key.len())).into());
        }
        let key = String::from_utf8_lossy(key).into_owned();
        let value = cursor.value()?;
        if metadata.contains(&key) {
            let key: String = key.chars().take(60).collect();
            return Err(Error::malformed(format!("the key {key} comes twice")).into());
        }
        metadata.insert(key, value);
    }
    let alignment = match metadata.get(ALIGNMENT_KEY) {
        None => DEFAULT_ALIGNMENT,
        Some(Value::U32(n)) if n.is_power_of_two() && u64::from(*n) <= MAX_ALIGNMENT => u64::from(*n),
        Some(_) => return Err(Error::malformed("its alignment is not a power of two up to 65536").into()),
    };

    let mut tensors = Vec::new();
    for _ in 0..tensor_count {
        tensors.push(cursor.tensor()?);
    }
    let data_offset = (cursor.at as u64).next_multiple_of(alignment);
    let mut spans = Vec::with_capacity(tensors.len());
    for tensor in &mut tensors {
        if tensor.offset % alignment != 0 {
            return Err(Error::malformed(format!("the tensor {} is not aligned", tensor.name)).into());
        }
        let offset = data_offset.checked_add(tensor.offset);
        let end = offset.and_then(|offset| offset.checked_add(tensor.bytes));
        let (Some(offset), Some(end)) = (offset, end) else {
            return Err(Error::malformed(format!("the tensor {} lies beyond any file", tensor.name)).into());
        };
        if end > size {
            return Err(Error::Truncated { needed: end, size }.into());
        }
        tensor.offset = offset;
        spans.push((offset, end));
    }
    spans.sort_unstable();
    if spans.windows(2).any(|pair| pair[1].0 < pair[0].1) {
        return Err(Error::malformed("two tensors share bytes").into());
    }
    let by_name = order(&tensors).map_err(|name| Error::malformed(format!("the tensor {name} comes twice")))?;
    Ok(Gguf {
        version,
        metadata,
        tensors,
        alignment,
        data_offset,
        size,
        by_name,
    })
}

/// Indices of tensors ordered by name; the name of one that comes twice is the error.
pub(super) fn order(tensors: &[TensorInfo]) -> std::result::Result<Vec<u32>, String> {
    let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
    let name_of = |i: &u32| tensors[*i as usize].name.as_str();
    by_name.sort_by(|a, b| name_of(a).cmp(name_of(b)));
    match by_name.windows(2).find(|pair| name_of(&pair[0]) == name_of(&pair[1])) {
        Some(pair) => Err(name_of(&pair[0]).to_owned()),
        None => Ok(by_name),
    }
}
