//! Students in several files: the same student, or a sentence that says what is wrong with the parts.

#[path = "../../examples/common/mod.rs"]
mod common;

use crate::gpu::meet;
use understudy::error::{Error, Result};
use understudy::format::gguf::{Value, part_names};
use understudy::format::source::{Bytes, Joined, Source};
use understudy::format::{BlockType, Gguf, Writer};
use understudy::gpu::{Gpu, GpuOptions};
use understudy::model::random::random_student;
use understudy::student::{Header, Student};

fn whole() -> Vec<u8> {
    random_student(64, 128, 2, 2, 1, 300, BlockType::Q4_0)
}

/// Splits a file as `gguf-split` does: all keys in the first part, tensors in turn.
fn split(file: &[u8], count: usize) -> Vec<Writer> {
    let gguf = Gguf::from_bytes(file).unwrap();
    let share = gguf.tensors.len().div_ceil(count);
    (0..count)
        .map(|number| {
            let mut part = Writer::new();
            if number == 0 {
                for (key, value) in gguf.metadata.iter() {
                    part.set(key, value.clone());
                }
            }
            part.set("split.no", Value::U16(number as u16))
                .set("split.count", Value::U16(count as u16))
                .set("split.tensors.count", Value::I32(gguf.tensors.len() as i32));
            for tensor in gguf.tensors.iter().skip(number * share).take(share) {
                let bytes = file[tensor.offset as usize..][..tensor.bytes as usize].to_vec();
                part.tensor(&tensor.name, &tensor.shape, tensor.block_type().unwrap(), bytes);
            }
            part
        })
        .collect()
}

fn files(parts: &[Writer]) -> Vec<Bytes> {
    parts.iter().map(|part| Bytes(part.to_bytes())).collect()
}

const IDS: [u32; 6] = [3, 200, 17, 17, 250, 4];

fn logits<S: Source>(source: &S, gpu: Option<&Gpu>) -> Result<Vec<f32>> {
    let mut student = pollster::block_on(Student::open(source, gpu, None, |_, _| Ok(())))?;
    pollster::block_on(student.logits(&IDS))
}

#[test]
fn parts_are_the_same_student() {
    let file = whole();
    let expected = logits(&Bytes(file.clone()), None).unwrap();
    for count in [1, 2, 3, 5] {
        let mut parts = files(&split(&file, count));
        assert_eq!(logits(&Joined(parts.clone()), None).unwrap(), expected, "{count} parts");
        // In any order, and one behind another in a single file.
        parts.rotate_left(1);
        assert_eq!(
            logits(&Joined(parts.clone()), None).unwrap(),
            expected,
            "{count} parts, turned"
        );
        let one = parts.into_iter().flat_map(|part| part.0).collect();
        assert_eq!(
            logits(&Bytes(one), None).unwrap(),
            expected,
            "{count} parts in one file"
        );
    }
}

#[test]
fn parts_are_the_same_student_on_the_gpu() {
    let Some(gpu) = meet("parts_are_the_same_student_on_the_gpu", GpuOptions::default()) else {
        return;
    };
    let file = whole();
    let expected = logits(&Bytes(file.clone()), Some(&gpu)).unwrap();
    let parts = files(&split(&file, 3));
    assert_eq!(logits(&Joined(parts), Some(&gpu)).unwrap(), expected);
}

fn refusal(parts: Vec<Bytes>) -> Error {
    let error = pollster::block_on(Header::read(&Joined(parts), None, None)).err();
    let error = error.expect("it is refused");
    println!("[{}] {error} {}", error.code(), error.hint());
    error
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let file = whole();
    let three = split(&file, 3);
    let says = |parts: &[&Writer], words: &str| {
        let parts: Vec<Writer> = parts.iter().map(|part| (*part).clone()).collect();
        let error = refusal(files(&parts));
        assert_eq!(error.code(), "split-file");
        assert!(error.to_string().contains(words), "{error}");
        // The same where they lie in one file.
        let one = refusal(vec![Bytes(files(&parts).into_iter().flat_map(|part| part.0).collect())]);
        assert_eq!(one, error);
    };
    let [a, b, c] = [&three[0], &three[1], &three[2]];
    says(&[a, c], "part 2 of 3 is missing");
    says(&[b], "parts 1 and 3 of 3 are missing");
    says(&[&split(&file, 9)[5]], "parts 1, 2, 3, 4 and 4 others of 9 are missing");
    says(&[a, b, c, b], "part 2 of 3 is there twice");
    let two = split(&file, 2);
    says(&[a, b, &two[0]], "one is of ");
    let mut odd = c.clone();
    odd.set("split.no", Value::U16(7));
    says(&[a, b, &odd], "one has no number among its 3 parts");
    let mut more = c.clone();
    more.tensor("output_norm.bias", &[1], BlockType::F32, vec![0; 4]);
    says(&[a, b, &more], "tensors and should have");
    let mut again = a.clone();
    again.set("split.no", Value::U16(1));
    says(&[a, &again, c], "is in two of them");

    // A whole file, twice or among parts.
    let error = refusal(vec![Bytes(file.clone()), Bytes(file.clone())]);
    assert!(error.to_string().contains("no part of a split student"), "{error}");
    let error = refusal(vec![Bytes(a.to_bytes()), Bytes(file.clone())]);
    assert!(error.to_string().contains("no part of a split student"), "{error}");

    // A part that is cut short.
    let mut parts = files(&three);
    let half = parts[1].0.len() - 64;
    parts[1].0.truncate(half);
    assert_eq!(refusal(parts).code(), "truncated-file");
}

#[test]
fn parts_are_found_by_their_names() {
    let names = part_names("models/a-b-00002-of-00003.gguf").unwrap();
    assert_eq!(
        names,
        [
            "models/a-b-00001-of-00003.gguf",
            "models/a-b-00002-of-00003.gguf",
            "models/a-b-00003-of-00003.gguf"
        ]
    );
    for name in [
        "a.gguf",
        "a-00001-of-00003",
        "a-0001-of-00003.gguf",
        "a-00004-of-00003.gguf",
        "a-00000-of-00003.gguf",
        "a-+0001-of-00003.gguf",
    ] {
        assert_eq!(part_names(name), None, "{name}");
    }
}

/// A file that loses its end once its header was read.
struct Shrinking(Bytes, u64);

impl Source for Shrinking {
    fn size(&self) -> u64 {
        self.0.size()
    }

    async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        if offset == 0 {
            return self.0.read(0, length).await;
        }
        let left = self.1.saturating_sub(offset).min(length as u64);
        self.0.read(offset, left as usize).await
    }
}

#[test]
fn a_file_that_changes_is_refused() {
    let file = whole();
    let keeps = file.len() as u64 / 2;
    let error = logits(&Shrinking(Bytes(file), keeps), None).unwrap_err();
    assert_eq!(error.code(), "io");
    assert!(error.to_string().contains("changed while it was read"), "{error}");
}

#[test]
fn examples_find_parts_beside_each_other() {
    let folder = std::env::temp_dir().join(format!("understudy-split-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = whole();
    let names: Vec<_> = (1..=3)
        .map(|n| folder.join(format!("a-{n:05}-of-00003.gguf")))
        .collect();
    for (name, part) in names.iter().zip(split(&file, 3)) {
        std::fs::write(name, part.to_bytes()).unwrap();
    }
    let path = |n: usize| names[n].to_str().unwrap();
    let expected = logits(&Bytes(file), None).unwrap();
    for n in 0..3 {
        assert_eq!(logits(&common::open_files(path(n)).unwrap(), None).unwrap(), expected);
    }
    // A part that grows while the student is open.
    let open = common::open_files(path(0)).unwrap();
    let mut longer = std::fs::read(path(1)).unwrap();
    longer.push(0);
    std::fs::write(path(1), longer).unwrap();
    let error = logits(&open, None).unwrap_err();
    assert!(error.to_string().contains("changed while it was read"), "{error}");
    std::fs::remove_file(path(1)).unwrap();
    let error = logits(&common::open_files(path(0)).unwrap(), None).unwrap_err();
    assert!(error.to_string().contains("part 2 of 3 is missing"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}
