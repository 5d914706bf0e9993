//! The tensors of a GGUF file (ggml-org/ggml, docs/gguf.md): their names, types, shapes, and where their bytes lie.

use std::ops::Range;

/// GGML's types that tensors have, by number: name, elements and bytes of a block.
const TYPES: [(u32, &str, u64, u64); 14] = [
    (0, "f32", 1, 4),
    (1, "f16", 1, 2),
    (2, "q4_0", 32, 18),
    (3, "q4_1", 32, 20),
    (6, "q5_0", 32, 22),
    (7, "q5_1", 32, 24),
    (8, "q8_0", 32, 34),
    (10, "q2_k", 256, 84),
    (11, "q3_k", 256, 110),
    (12, "q4_k", 256, 144),
    (13, "q5_k", 256, 176),
    (14, "q6_k", 256, 210),
    (20, "iq4_nl", 32, 18),
    (39, "mxfp4", 32, 17),
];

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub name: String,
    /// GGML's type, as in `q4_0`; of others its number.
    pub kind: String,
    /// Rows, of all outer axes.
    pub n: usize,
    /// Elements of a row.
    pub k: usize,
    /// Its bytes in the file; empty where the type is not known.
    pub bytes: Range<usize>,
}

struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8], String> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let bytes = end.and_then(|end| self.file.get(self.at..end));
        let bytes =
            bytes.ok_or_else(|| format!("ends at byte {}, {len} more are told at {}", self.file.len(), self.at))?;
        self.at += bytes.len();
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    fn text(&mut self) -> Result<String, String> {
        let len = self.u64()?;
        Ok(String::from_utf8_lossy(self.take(len)?).into_owned())
    }

    /// Skips a value; an integer is given.
    fn value(&mut self, kind: u32, depth: u32) -> Result<Option<u64>, String> {
        match kind {
            0 | 1 | 7 => self.take(1).map(|_| None),
            2 | 3 => self.take(2).map(|_| None),
            4 | 5 => Ok(Some(self.u32()?.into())),
            6 => self.take(4).map(|_| None),
            8 => self.text().map(|_| None),
            10 | 11 => self.u64().map(Some),
            12 => self.take(8).map(|_| None),
            9 if depth < 4 => {
                let (kind, len) = (self.u32()?, self.u64()?);
                for _ in 0..len {
                    self.value(kind, depth + 1)?;
                }
                Ok(None)
            }
            _ => Err(format!("has a value of type {kind} at byte {}", self.at)),
        }
    }
}

/// The tensors of a file.
///
/// # Errors
/// What is wrong with it.
pub fn tensors(file: &[u8]) -> Result<Vec<Tensor>, String> {
    let mut cursor = Cursor { file, at: 0 };
    if cursor.take(4)? != b"GGUF" {
        return Err("is not a GGUF file".into());
    }
    let version = cursor.u32()?;
    if ![2, 3].contains(&version) {
        return Err(format!("is of version {version}, not 2 or 3"));
    }
    let (count, values) = (cursor.u64()?, cursor.u64()?);
    let mut alignment = 32;
    for _ in 0..values {
        let (key, kind) = (cursor.text()?, cursor.u32()?);
        let value = cursor.value(kind, 0)?;
        if key == "general.alignment" {
            alignment = value.filter(|value| value.is_power_of_two()).unwrap_or(alignment);
        }
    }
    let mut told = Vec::new();
    for _ in 0..count {
        let (name, axes) = (cursor.text()?, cursor.u32()?);
        if axes > 4 {
            return Err(format!("has a tensor `{name}` of {axes} axes"));
        }
        let shape = (0..axes).map(|_| cursor.u64()).collect::<Result<Vec<_>, _>>()?;
        told.push((name, shape, cursor.u32()?, cursor.u64()?));
    }
    let data = (cursor.at as u64).checked_next_multiple_of(alignment).ok_or("has an alignment past its end")?;
    let mut tensors = Vec::new();
    for (name, shape, kind, offset) in told {
        let k = shape.first().copied().unwrap_or(1);
        let n = shape.iter().skip(1).fold(1u64, |n, &size| n.saturating_mul(size));
        let known = TYPES.iter().find(|(number, ..)| *number == kind);
        let bytes = match known {
            None => 0..0,
            Some((_, _, of, bytes)) => {
                let start = data.saturating_add(offset);
                let end = start.saturating_add((n.saturating_mul(k) / of).saturating_mul(*bytes));
                if end > file.len() as u64 {
                    return Err(format!("ends at byte {}, tensor `{name}` at {end}", file.len()));
                }
                start as usize..end as usize
            }
        };
        let kind = known.map_or(kind.to_string(), |(_, kind, ..)| (*kind).into());
        tensors.push(Tensor { name, kind, n: n as usize, k: k as usize, bytes });
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use tileloom::verify::random::Random;

    use super::*;

    /// A file of version 3: an alignment of 64, an array of two words, and q4_0 of three rows of 64; and where its data begin.
    fn file() -> (Vec<u8>, usize) {
        let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        let mut file = [&b"GGUF"[..], &3u32.to_le_bytes(), &1u64.to_le_bytes(), &2u64.to_le_bytes()].concat();
        file.extend([text("general.alignment"), 4u32.to_le_bytes().to_vec(), 64u32.to_le_bytes().to_vec()].concat());
        file.extend([text("words"), 9u32.to_le_bytes().to_vec(), 8u32.to_le_bytes().to_vec()].concat());
        file.extend([2u64.to_le_bytes().to_vec(), text("one"), text("two")].concat());
        file.extend([text("blk.0.w"), 2u32.to_le_bytes().to_vec(), 64u64.to_le_bytes().to_vec()].concat());
        file.extend([&3u64.to_le_bytes()[..], &2u32.to_le_bytes(), &0u64.to_le_bytes()].concat());
        let start = file.len().next_multiple_of(64);
        file.resize(start + 3 * 36, 7);
        (file, start)
    }

    #[test]
    fn a_file_is_read() {
        let (mut file, start) = file();
        let expected = Tensor { name: "blk.0.w".into(), kind: "q4_0".into(), n: 3, k: 64, bytes: start..start + 108 };
        assert_eq!(tensors(&file).unwrap(), [expected]);
        file.pop();
        assert!(tensors(&file).unwrap_err().contains("tensor `blk.0.w`"));
        assert!(tensors(&file[..60]).unwrap_err().contains("ends at byte 60"));
        assert!(tensors(b"GGML").unwrap_err().contains("is not a GGUF file"));
    }

    /// Words of the head changed to any value: refused, or read to what is in the file.
    #[test]
    fn files_that_lie() {
        let (file, start) = file();
        let odd = [0, 1, 3, 0x20, 0x80, 0xff];
        let (mut random, mut read) = (Random::new(1), 0);
        for case in 0..200_000 {
            let mut file = file.clone();
            for _ in 0..=random.below(3) {
                let (at, len) = (random.below(start), [1, 1, 4, 8][random.below(4)]);
                let (byte, same) = (odd[random.below(odd.len())], random.below(2) == 0);
                let end = (at + len).min(start);
                file[at..end].iter_mut().for_each(|own| *own = if same { byte } else { random.word() as u8 });
            }
            if random.below(8) == 0 {
                file.truncate(random.below(file.len()));
            }
            match tensors(&file) {
                Ok(told) => {
                    read += 1;
                    for tensor in told {
                        let (start, end) = (tensor.bytes.start, tensor.bytes.end);
                        assert!(start <= end && end <= file.len(), "case {case}: {tensor:?}");
                    }
                }
                Err(fault) => assert!(!fault.is_empty(), "case {case}"),
            }
        }
        assert!((2_000..198_000).contains(&read), "{read}");
    }
}
