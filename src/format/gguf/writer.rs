//! The writer: a GGUF version 3 file in memory, for adapters, merged students and tests.

use super::{ALIGNMENT_KEY, Array, DEFAULT_ALIGNMENT, MAGIC, MAX_TENSOR_NAME, Metadata, Value};
use crate::format::blocks::BlockType;

/// Collects metadata and tensors, and writes them out as one file.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    metadata: Metadata,
    tensors: Vec<(String, Vec<u64>, BlockType, Vec<u8>)>,
}

impl Writer {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    pub fn set(&mut self, key: impl Into<String>, value: Value) -> &mut Self {
        self.metadata.insert(key, value);
        self
    }

    /// Adds a tensor: its shape in GGUF's order (columns first), and its rows in blocks.
    ///
    /// # Panics
    /// If the name is empty, taken, or as long as [`MAX_TENSOR_NAME`]; if the bytes are not what the shape asks for.
    pub fn tensor(
        &mut self,
        name: impl Into<String>,
        shape: &[u64],
        block_type: BlockType,
        bytes: Vec<u8>,
    ) -> &mut Self {
        let name = name.into();
        // What our reader would refuse is not written.
        assert!(
            !name.is_empty() && name.len() < MAX_TENSOR_NAME,
            "a tensor's name of {} bytes",
            name.len()
        );
        assert!(
            self.tensors.iter().all(|(other, ..)| *other != name),
            "two tensors named {name}"
        );
        assert!(
            (1..=4).contains(&shape.len()) && !shape.contains(&0),
            "a tensor of shape {shape:?}"
        );
        let rows: u64 = shape[1..].iter().product();
        let row = block_type.row_bytes(shape[0] as usize).expect("rows are whole blocks");
        assert_eq!(
            bytes.len() as u64,
            rows * row as u64,
            "bytes of a tensor of shape {shape:?}"
        );
        self.tensors.push((name, shape.to_vec(), block_type, bytes));
        self
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let alignment = self.metadata.u64(ALIGNMENT_KEY).unwrap_or(DEFAULT_ALIGNMENT) as usize;
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in self.metadata.iter() {
            put_string(&mut out, key);
            out.extend(value.type_id().to_le_bytes());
            put_value(&mut out, value);
        }
        let mut offset = 0usize;
        for (name, shape, block_type, bytes) in &self.tensors {
            put_string(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            for size in shape {
                out.extend(size.to_le_bytes());
            }
            out.extend(block_type.ggml().to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset = (offset + bytes.len()).next_multiple_of(alignment);
        }
        for (_, _, _, bytes) in &self.tensors {
            out.resize(out.len().next_multiple_of(alignment), 0);
            out.extend(bytes);
        }
        // ggml pads behind the last tensor too.
        out.resize(out.len().next_multiple_of(alignment), 0);
        out
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => out.push(*v),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::String(v) => put_string(out, v),
        Value::Array(v) => put_array(out, v),
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    out.extend(array.type_id().to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => out.extend(v),
        Array::I8(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::U16(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I16(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::U32(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I32(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::F32(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::Bool(v) => v.iter().for_each(|x| out.push(u8::from(*x))),
        Array::String(v) => v.iter().for_each(|x| put_string(out, x)),
        Array::U64(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I64(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::F64(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
    }
}
