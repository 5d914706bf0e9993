//! Quantised weights in case files: the tensors of a `format`, as checkpoints hold them, read and written.

use safetensors::Dtype as Stored;
use tileloom::Dtype;
use tileloom::weights::{self, Format, Packed, Source};

use crate::case::{Case, Fault, Reader, Tensor, bad_shape};

/// The words of option `format`.
pub const NAMES: [&str; 15] = [
    "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl", "mxfp4", "q4_k", "q5_k", "q6_k", "int8", "fp8", "gptq", "awq",
    "nf4",
];

/// Whether a case has weights in a format.
pub fn given(reader: &Reader) -> bool {
    reader.format().is_some_and(|format| NAMES.contains(&format))
}

/// The weights W `[n, k]` of a case, packed; `k` where the op's other tensors tell it, else it is that of option `dim`, or of the tensors.
/// Options `interleave` (8) and, of gptq and awq, `group` (k / rows of scales) are those of the [`Format`].
///
/// # Errors
/// What is missing, or does not fit.
pub fn read(reader: &mut Reader, k: Option<usize>) -> Result<Packed, Fault> {
    let Some(name) = reader.format().filter(|format| NAMES.contains(format)) else {
        let value = reader.format().unwrap_or_default().to_string();
        return Err(Fault::BadOption { name: "format", value, expected: NAMES.join(" or ") });
    };
    let interleave: u32 = reader.option("interleave", 8)?;
    let dim: Option<usize> = reader.option("dim", None)?;
    let told = k.or(dim).filter(|&k| k > 0);
    let fault = |error: tileloom::Error| Fault::Weights(error.to_string());
    let packed = |format: Format, n: usize, k: usize, source: Source| {
        if let Some(told) = told.filter(|&told| told != k) {
            return Err(Fault::Weights(format!("the rows of weights have {k} elements, not {told}")));
        }
        Format { interleave, ..format }.pack("weight", n, k, source).map_err(fault)
    };
    match name {
        "int8" => {
            let weight = stored(reader, "weight", &[Stored::I8], "I8 [n, k]")?;
            let [n, k] = matrix("weight", weight, "[n, k]")?;
            let scale = stored(reader, "scale", &[Stored::F32, Stored::F16], "F32 or F16 [n]")?;
            let dtype = if scale.dtype == Stored::F16 { Dtype::F16 } else { Dtype::F32 };
            packed(Format::INT8, n, k, Source::Int8 { weight: (&weight.data).into(), scale: &scale.data, dtype })
        }
        "fp8" => {
            let weight = stored(reader, "weight", &[Stored::U8, Stored::F8_E4M3], "U8 [n, k]")?;
            let [n, k] = matrix("weight", weight, "[n, k]")?;
            let scale = stored(reader, "scale", &[Stored::F32], "F32 [ceil(n / 128), ceil(k / 128)]")?;
            packed(Format::FP8, n, k, Source::Fp8 { weight: (&weight.data).into(), scale: &scale.data })
        }
        "nf4" => {
            let weight = stored(reader, "weight", &[Stored::U8], "U8 [ceil(n k / 2)]")?;
            let absmax = stored(reader, "absmax", &[Stored::F32], "F32 [ceil(n k / 64)]")?;
            let Some(k) = told else {
                let expected = "the columns of the weights, which nf4 does not tell".into();
                return Err(Fault::BadOption { name: "dim", value: "none".into(), expected });
            };
            // The last nibble may be nobody's.
            let nibbles = 2 * weight.data.len();
            let n = if nibbles.is_multiple_of(k) { nibbles / k } else { nibbles.saturating_sub(1) / k };
            packed(Format::nf4(k), n, k, Source::Nf4 { weight: (&weight.data).into(), absmax: &absmax.data })
        }
        "gptq" | "awq" => {
            let expected = if name == "awq" { "I32 [k, n / 8]" } else { "I32 [k / 8, n]" };
            let qweight = stored(reader, "qweight", &[Stored::I32], expected)?;
            let [rows, cols] = matrix("qweight", qweight, expected)?;
            let qzeros = stored(reader, "qzeros", &[Stored::I32], "I32 [groups, n / 8]")?;
            let scales = stored(reader, "scales", &[Stored::F16], "F16 [groups, n]")?;
            let [groups, n] = matrix("scales", scales, "[groups, n]")?;
            let group: Option<usize> = reader.option("group", None)?;
            let g_idx = match name {
                "gptq" if reader.optional("g_idx").is_some() => {
                    Some(stored(reader, "g_idx", &[Stored::I32], "I32 [k]")?)
                }
                _ => None,
            };
            let (eights, n_words) = if name == "awq" { (rows, n.div_ceil(8)) } else { (8 * rows, n) };
            if cols != n_words {
                return Err(bad_shape("qweight", qweight, format!("{expected}, n of scales is {n}")));
            }
            // Of eights of columns the last ones may be nobody's.
            let k = told.or(g_idx.map(|g_idx| g_idx.data.len() / 4)).unwrap_or(eights);
            if if name == "awq" { k != rows } else { k.div_ceil(8) != rows } {
                return Err(bad_shape("qweight", qweight, format!("{expected}, k is {k}")));
            }
            let order = g_idx.map(|g_idx| &g_idx.data[..]);
            let format = Format::gptq("weight", k, groups, group, order).map_err(fault)?;
            let (qzeros, scales) = (&qzeros.data[..], &scales.data[..]);
            let qweight = (&qweight.data).into();
            if name == "awq" {
                return packed(format, n, k, Source::Awq { qweight, qzeros, scales });
            }
            let zero_offset: u32 = reader.option("zero_offset", 1)?;
            if zero_offset > 1 {
                let (value, expected) = (zero_offset.to_string(), "0 or 1".into());
                return Err(Fault::BadOption { name: "zero_offset", value, expected });
            }
            packed(format, n, k, Source::Gptq { qweight, qzeros, scales, g_idx: order, zero_offset })
        }
        _ => {
            let format = Format::ggml(name).expect("the other names are GGML's");
            let (bytes, of) = format.ggml_block().expect("GGML has blocks");
            let weight = stored(reader, "weight", &[Stored::U8], "U8 [n, bytes of a row]")?;
            let [n, row] = matrix("weight", weight, "[n, bytes of a row]")?;
            if !row.is_multiple_of(bytes) {
                return Err(bad_shape("weight", weight, format!("[n, a multiple of {bytes}, the bytes of a block]")));
            }
            packed(format, n, row / bytes * of, Source::Ggml((&weight.data).into()))
        }
    }
}

/// The case with the tensors and options that [`read`] makes these weights of.
///
/// # Panics
/// For a format that no checkpoint has.
pub fn write(case: Case, packed: &Packed) -> Case {
    let Packed { format, k, .. } = packed;
    let name = format.name().expect("a format of checkpoints");
    let unpacked = packed.unpack("weight").unwrap_or_else(|error| panic!("{error}"));
    let mut case = case.option("format", name).option("interleave", format.interleave).option("dim", k);
    if name == "gptq" {
        case = case.option("zero_offset", unpacked.zero_offset).option("group", format.group);
    }
    let stored = |stored| match stored {
        weights::Stored::U8 => Stored::U8,
        weights::Stored::I8 => Stored::I8,
        weights::Stored::I32 => Stored::I32,
        weights::Stored::F16 => Stored::F16,
        weights::Stored::F32 => Stored::F32,
    };
    unpacked.tensors.into_iter().fold(case, |case, tensor| {
        case.tensor(tensor.name, Tensor { dtype: stored(tensor.stored), shape: tensor.shape, data: tensor.bytes })
    })
}

/// A tensor of one of these dtypes.
fn stored<'a>(
    reader: &mut Reader<'a>,
    name: &'static str,
    dtypes: &[Stored],
    expected: &'static str,
) -> Result<&'a Tensor, Fault> {
    let tensor = reader.tensor(name, expected)?;
    match dtypes.contains(&tensor.dtype) {
        true => Ok(tensor),
        false => Err(Fault::BadDtype { name: name.into(), have: tensor.dtype.to_string(), expected }),
    }
}

fn matrix(name: &str, tensor: &Tensor, expected: &str) -> Result<[usize; 2], Fault> {
    tensor.shape[..].try_into().map_err(|_| bad_shape(name, tensor, expected))
}

/// Words of a buffer as the numbers of an argument.
pub fn numbers(words: &[u32]) -> Vec<f64> {
    words.iter().map(|&word| word.into()).collect()
}

pub use tileloom::verify::packed::packed;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::{self, FORMATS};
    use crate::random::Random;
    use tileloom::reference::weights::decode;

    /// What is written is read again: the same format, where the group of sorted columns is one that checkpoints have, and the same
    /// values.
    #[test]
    fn cases_come_back() {
        for (i, (name, format)) in FORMATS.into_iter().enumerate() {
            for interleave in [1, 8] {
                let format = Format { interleave, ..format };
                let (n, k) = (
                    11,
                    if name == "nf4 across rows" {
                        101
                    } else if format.order > 0 {
                        140
                    } else {
                        512
                    },
                );
                let random = &mut Random::new(i as u64);
                let words = |bytes: u64| (bytes / 4) as usize;
                let codes = packed::codes(&format, words(format.code_bytes(n, k)), random);
                let first = super::packed(format, n, k, &codes, &packed::scales(&format, n, k, random));
                let case = write(Case::new("vq_lookup"), &first);
                let mut reader = Reader::new(&case);
                let again = read(&mut reader, None).unwrap_or_else(|fault| panic!("{name}: {fault}"));
                assert_eq!((again.format, again.n, again.k), (format, n, k), "{name}");
                let bits = |packed: &Packed| -> Vec<u64> {
                    let values = decode::<f64>(&packed.format, n, k, &packed.codes, &packed.scales);
                    values.into_iter().map(f64::to_bits).collect()
                };
                assert!(bits(&first) == bits(&again), "{name}");
            }
        }
    }

    #[test]
    fn awq_is_read() {
        // Nibbles 0 to 7 are columns 0 2 4 6 1 3 5 7; the zero of column 2 is 3, by nibble 1.
        let words = |shape: &[usize], words: &[u32]| {
            let data = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            Tensor { dtype: Stored::I32, shape: shape.to_vec(), data }
        };
        let case = Case::new("vq_lookup")
            .option("format", "awq")
            .tensor("qweight", words(&[8, 1], &[0x7654_3210; 8]))
            .tensor("qzeros", words(&[1, 1], &[0x30]))
            .tensor("scales", Tensor::values(Dtype::F16, &[1, 8], &[1.0; 8]));
        let Packed { format, n, k, codes, scales } = read(&mut Reader::new(&case), None).unwrap();
        let found = decode::<f64>(&format, n, k, &codes, &scales);
        assert_eq!([n, k], [8, 8]);
        assert_eq!([found[0], found[8], found[16], found[24]], [0.0, 4.0, -2.0, 5.0]);
    }

    #[test]
    fn faults_name_what_is_wrong() {
        let bytes = |shape: &[usize]| Tensor {
            dtype: Stored::U8,
            shape: shape.to_vec(),
            data: vec![0; shape.iter().product()],
        };
        let fault = |case: &Case| read(&mut Reader::new(case), None).unwrap_err().to_string();
        let q4_0 = |shape: &[usize]| Case::new("vq_lookup").option("format", "q4_0").tensor("weight", bytes(shape));
        assert!(fault(&q4_0(&[3, 20])).contains("a multiple of 18"), "{}", fault(&q4_0(&[3, 20])));
        assert!(fault(&q4_0(&[60])).contains("[n, bytes of a row]"));
        assert!(fault(&q4_0(&[3, 18]).option("interleave", 4)).contains("words of 1 or 8 rows"));
        assert!(fault(&q4_0(&[3, 18]).option("dim", 64)).contains("have 32 elements, not 64"));
        let nf4 = Case::new("vq_lookup").option("format", "nf4").tensor("weight", bytes(&[8]));
        let nf4 = nf4.tensor("absmax", Tensor::values(Dtype::F32, &[1], &[1.0]));
        assert!(fault(&nf4).contains("which nf4 does not tell"), "{}", fault(&nf4));
        assert!(fault(&nf4.option("dim", 7)).contains("its data has 8 bytes"));
        assert!(fault(&Case::new("vq_lookup").option("format", "q3_k")).contains("q4_0 or q4_1"));
    }
}
