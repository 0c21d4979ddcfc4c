//! Students that are split over several files: `NAME-00001-of-00003.gguf` and so on.
//!
//! Each part is a GGUF file with tensors of its own. The keys `split.no` (from 0) and `split.count` say which part of how many
//! it is, `split.tensors.count` how many tensors all of them have together; every other key is in part 0 only.
//! Source: `gguf-split` of the llama.cpp project.

use super::reader::order;
use super::{Gguf, MAGIC, Parsed, Value};
use crate::error::{Error, Result};
use crate::format::source::Source;

/// Bytes of the first look at a file, and at a part behind another: those have few keys.
const FIRST_LOOK: u64 = 1 << 20;
const NEXT_LOOK: u64 = 1 << 16;

/// Most parts that are believed: real students have some dozens.
const MOST_PARTS: u64 = 4096;

const COUNT_KEY: &str = "split.count";

fn wrong(what: String) -> Error {
    Error::Parts { what }
}

/// The names of all parts, given the name (or path) of one; `None` if it is not named like a part.
pub fn part_names(name: &str) -> Option<Vec<String>> {
    let stem = name.strip_suffix(".gguf")?;
    let (stem, count) = stem.rsplit_once("-of-")?;
    let (stem, number) = stem.rsplit_once('-')?;
    let five = |text: &str| {
        let digits = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u32>().ok().filter(|&n| digits && n > 0)
    };
    let (number, last) = (five(number)?, five(count)?);
    (number <= last).then(|| (1..=last).map(|n| format!("{stem}-{n:05}-of-{count}.gguf")).collect())
}

/// See [`Gguf::read`].
pub(super) async fn read<S: Source>(source: &S) -> Result<Gguf> {
    let mut parts = Vec::new();
    let mut start = 0;
    for size in source.files() {
        let end = start + size;
        loop {
            let gguf = header(source, start, end - start).await?;
            let next = next_header(source, &gguf, start, end).await?;
            parts.push((start, gguf));
            match next {
                Some(next) if (parts.len() as u64) < MOST_PARTS => start = next,
                _ => break,
            }
        }
        start = end;
    }
    let size = source.size();
    join(parts, size)
}

/// The header that starts at `start` and may count on `size` bytes.
async fn header<S: Source>(source: &S, start: u64, size: u64) -> Result<Gguf> {
    let look = if start == 0 { FIRST_LOOK } else { NEXT_LOOK };
    let mut prefix = source.read_exact(start, size.min(look) as usize).await?;
    loop {
        match Gguf::parse(&prefix, size)? {
            Parsed::Done(gguf) => return Ok(gguf),
            Parsed::NeedMore(n) => {
                let have = prefix.len() as u64;
                assert!(
                    n > have && n <= size,
                    "the reader asks for more, and for no more than there is"
                );
                prefix.extend(source.read_exact(start + have, (n - have) as usize).await?);
            }
        }
    }
}

/// Where another GGUF file follows the one that starts at `start`: behind its last tensor, with or without padding.
async fn next_header<S: Source>(source: &S, gguf: &Gguf, start: u64, end: u64) -> Result<Option<u64>> {
    let last = gguf.tensors.iter().map(|tensor| tensor.offset + tensor.bytes).max();
    let last = last.unwrap_or(gguf.data_offset);
    for at in [last.next_multiple_of(gguf.alignment), last] {
        let at = start + at;
        if at + 4 <= end && source.read_exact(at, 4).await? == MAGIC {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// The parts, each with where it starts, as one file of `size` bytes.
fn join(mut parts: Vec<(u64, Gguf)>, size: u64) -> Result<Gguf> {
    let count_of = |gguf: &Gguf| gguf.metadata.u64(COUNT_KEY).unwrap_or(1);
    if parts.len() == 1 && parts.iter().all(|(_, gguf)| count_of(gguf) <= 1) {
        return match parts.pop() {
            Some((_, gguf)) => Ok(gguf),
            None => unreachable!("there is one"),
        };
    }
    let count = parts.iter().map(|(_, gguf)| count_of(gguf)).max().unwrap_or(0);
    let mut numbered = Vec::with_capacity(parts.len());
    for (start, gguf) in parts {
        match (count_of(&gguf), gguf.metadata.u64("split.no")) {
            (n, _) if n <= 1 => return Err(wrong("a file is among them that is no part of a split student".into())),
            (n, _) if n != count => return Err(wrong(format!("one is of {n} parts and another of {count}"))),
            (_, Some(number)) if number < count && count <= MOST_PARTS => numbered.push((number, start, gguf)),
            _ => return Err(wrong(format!("one has no number among its {count} parts"))),
        }
    }
    numbered.sort_by_key(|part| part.0);
    if let Some(pair) = numbered.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(wrong(format!("part {} of {count} is there twice", pair[0].0 + 1)));
    }
    if (numbered.len() as u64) < count {
        let is_there = |number: &u64| numbered.binary_search_by_key(number, |part| part.0).is_ok();
        let missing: Vec<String> = (0..count)
            .filter(|n| !is_there(n))
            .map(|n| (n + 1).to_string())
            .collect();
        let list = match missing.as_slice() {
            [one] => format!("part {one} of {count} is missing"),
            [all @ .., last] if all.len() < 4 => format!("parts {} and {last} of {count} are missing", all.join(", ")),
            many => format!(
                "parts {} and {} others of {count} are missing",
                many[..4].join(", "),
                many.len() - 4
            ),
        };
        return Err(wrong(list));
    }
    let promised = numbered
        .iter()
        .find_map(|(_, _, gguf)| gguf.metadata.u64("split.tensors.count"));
    let mut parts = numbered.into_iter();
    let Some((_, start, mut whole)) = parts.next() else {
        return Err(wrong("there is none".into()));
    };
    for tensor in &mut whole.tensors {
        tensor.offset += start;
    }
    for (_, start, gguf) in parts {
        whole.tensors.extend(gguf.tensors.into_iter().map(|mut tensor| {
            tensor.offset += start;
            tensor
        }));
    }
    if let Some(promised) = promised.filter(|&n| n != whole.tensors.len() as u64) {
        return Err(wrong(format!(
            "together they have {} tensors and should have {promised}",
            whole.tensors.len()
        )));
    }
    whole.by_name = order(&whole.tensors).map_err(|name| wrong(format!("the tensor {name} is in two of them")))?;
    whole.size = size;
    // What is joined is no part any more.
    whole.metadata.insert(COUNT_KEY, Value::U16(1));
    Ok(whole)
}
