//! A GGUF file (ggml-org/ggml, docs/gguf.md): its metadata, and where the bytes of its tensors lie.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use crate::Result;

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Value>),
}

/// A tensor: `rows` of `cols` elements.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// GGML's type, as in `q4_1`.
    pub kind: &'static str,
    pub rows: usize,
    pub cols: usize,
    bytes: Range<usize>,
}

/// A file in memory.
pub struct Gguf {
    file: Vec<u8>,
    meta: HashMap<String, Value>,
    tensors: HashMap<String, Tensor>,
}

/// GGML's types that are read here, by number: name, elements and bytes of a block.
const TYPES: [(u32, &str, u64, u64); 12] = [
    (0, "f32", 1, 4),
    (1, "f16", 1, 2),
    (2, "q4_0", 32, 18),
    (3, "q4_1", 32, 20),
    (6, "q5_0", 32, 22),
    (7, "q5_1", 32, 24),
    (8, "q8_0", 32, 34),
    (12, "q4_k", 256, 144),
    (13, "q5_k", 256, 176),
    (14, "q6_k", 256, 210),
    (20, "iq4_nl", 32, 18),
    (39, "mxfp4", 32, 17),
];

impl Gguf {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, and at which byte.
    pub fn open(path: &Path) -> Result<Gguf> {
        let told = |reason: String| format!("{}: {reason}", path.display());
        let file = std::fs::read(path).map_err(|error| told(error.to_string()))?;
        Ok(parse(file).map_err(told)?)
    }

    /// A value of the metadata.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.meta.get(key)
    }

    /// A whole number of the metadata.
    pub fn int(&self, key: &str) -> Result<usize> {
        match self.get(key) {
            Some(&Value::Int(value)) if value >= 0 => Ok(value as usize),
            other => Err(format!("`{key}` is {other:?} in the file, not a whole number").into()),
        }
    }

    /// A number of the metadata.
    pub fn float(&self, key: &str) -> Result<f64> {
        match self.get(key) {
            Some(&Value::Float(value)) => Ok(value),
            other => Err(format!("`{key}` is {other:?} in the file, not a number").into()),
        }
    }

    /// A text of the metadata; where there is none, it is empty.
    pub fn text(&self, key: &str) -> &str {
        if let Some(Value::Text(text)) = self.get(key) { text } else { "" }
    }

    /// A list of the metadata; where there is none, it is empty.
    pub fn list(&self, key: &str) -> &[Value] {
        if let Some(Value::List(list)) = self.get(key) { list } else { &[] }
    }

    /// Names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor and its bytes.
    pub fn tensor(&self, name: &str) -> Result<(&Tensor, &[u8])> {
        let tensor = self.tensors.get(name).ok_or_else(|| format!("the file has no tensor `{name}`"))?;
        Ok((tensor, &self.file[tensor.bytes.clone()]))
    }
}

/// What is read next.
struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

type Read<T> = std::result::Result<T, String>;

impl<'a> Cursor<'a> {
    fn take(&mut self, len: u64) -> Read<&'a [u8]> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let bytes = end.and_then(|end| self.file.get(self.at..end));
        let bytes = bytes.ok_or_else(|| format!("it ends at byte {}, within a value", self.file.len()))?;
        self.at += bytes.len();
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        Ok(self.take(N as u64)?.try_into().expect("N bytes"))
    }

    fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Read<String> {
        let len = self.u64()?;
        Ok(String::from_utf8_lossy(self.take(len)?).into_owned())
    }

    fn value(&mut self, kind: u32, depth: u32) -> Read<Value> {
        Ok(match kind {
            0 => Value::Int(self.array::<1>()?[0].into()),
            1 => Value::Int((self.array::<1>()?[0] as i8).into()),
            2 => Value::Int(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Int(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Int(self.u32()?.into()),
            5 => Value::Int(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            10 | 11 => Value::Int(self.u64()? as i64),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            9 if depth < 4 => {
                let (kind, len) = (self.u32()?, self.u64()?);
                Value::List((0..len).map(|_| self.value(kind, depth + 1)).collect::<Read<_>>()?)
            }
            _ => return Err(format!("it has a value of type {kind} at byte {}", self.at)),
        })
    }
}

fn parse(file: Vec<u8>) -> Read<Gguf> {
    let mut cursor = Cursor { file: &file, at: 0 };
    if cursor.take(4)? != b"GGUF" {
        return Err("it is no GGUF file".into());
    }
    let version = cursor.u32()?;
    if ![2, 3].contains(&version) {
        return Err(format!("it is GGUF of version {version}, not 2 or 3"));
    }
    let (count, values) = (cursor.u64()?, cursor.u64()?);
    let mut meta = HashMap::new();
    for _ in 0..values {
        let (key, kind) = (cursor.text()?, cursor.u32()?);
        meta.insert(key, cursor.value(kind, 0)?);
    }
    let mut told = Vec::new();
    for _ in 0..count {
        let (name, axes) = (cursor.text()?, cursor.u32()?);
        if axes > 4 {
            return Err(format!("tensor `{name}` has {axes} axes"));
        }
        let shape = (0..axes).map(|_| cursor.u64()).collect::<Read<Vec<_>>>()?;
        told.push((name, shape, cursor.u32()?, cursor.u64()?));
    }
    let alignment = match meta.get("general.alignment") {
        Some(&Value::Int(value)) if (value as u64).is_power_of_two() => value as u64,
        _ => 32,
    };
    let data = (cursor.at as u64).checked_next_multiple_of(alignment).ok_or("its alignment is past its end")?;
    let mut tensors = HashMap::new();
    for (name, shape, number, offset) in told {
        let Some(&(_, kind, of, block)) = TYPES.iter().find(|(known, ..)| *known == number) else {
            return Err(format!("tensor `{name}` has GGML's type {number}, for which tileloom has no format"));
        };
        let cols = shape.first().copied().unwrap_or(1);
        let rows = shape.iter().skip(1).fold(1u64, |rows, &size| rows.saturating_mul(size));
        let start = data.saturating_add(offset);
        let end = start.saturating_add((cols / of).saturating_mul(block).saturating_mul(rows));
        if end > file.len() as u64 || !cols.is_multiple_of(of) {
            return Err(format!("tensor `{name}` of {rows} rows of {cols} in {kind} does not fit into the file"));
        }
        let (rows, cols, bytes) = (rows as usize, cols as usize, start as usize..end as usize);
        tensors.insert(name, Tensor { kind, rows, cols, bytes });
    }
    Ok(Gguf { meta, tensors, file })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    /// Two values and a tensor `w` of three rows of 64 in this type.
    fn file(kind: u32) -> Vec<u8> {
        let mut file = [&b"GGUF"[..], &3u32.to_le_bytes(), &1u64.to_le_bytes(), &2u64.to_le_bytes()].concat();
        file.extend([text("eps"), 6u32.to_le_bytes().to_vec(), 0.5f32.to_le_bytes().to_vec()].concat());
        file.extend([text("words"), 9u32.to_le_bytes().to_vec(), 8u32.to_le_bytes().to_vec()].concat());
        file.extend([2u64.to_le_bytes().to_vec(), text("one"), text("two")].concat());
        file.extend([text("w"), 2u32.to_le_bytes().to_vec(), 64u64.to_le_bytes().to_vec()].concat());
        file.extend([&3u64.to_le_bytes()[..], &kind.to_le_bytes(), &0u64.to_le_bytes()].concat());
        let start = file.len().next_multiple_of(32);
        file.resize(start + 3 * 40, 7);
        file
    }

    #[test]
    fn a_file_is_read() {
        let gguf = parse(file(3)).unwrap();
        assert_eq!(gguf.float("eps").unwrap(), 0.5);
        assert_eq!(gguf.list("words"), [Value::Text("one".into()), Value::Text("two".into())]);
        let (tensor, bytes) = gguf.tensor("w").unwrap();
        assert_eq!((tensor.kind, tensor.rows, tensor.cols, bytes), ("q4_1", 3, 64, &[7; 120][..]));
        assert!(gguf.int("eps").unwrap_err().to_string().contains("`eps` is Some(Float(0.5))"));
    }

    #[test]
    fn faults_are_told() {
        let fault = |file: &[u8]| parse(file.to_vec()).err().expect("a fault");
        assert!(fault(b"GGML").contains("no GGUF file"));
        assert!(fault(&file(3)[..60]).contains("ends at byte 60"));
        assert!(fault(&file(30)).contains("`w` has GGML's type 30"));
        let mut short = file(3);
        short.pop();
        assert!(fault(&short).contains("`w` of 3 rows of 64 in q4_1 does not fit"));
    }
}
