//! Packed matrices against decoders of the checkpoints that they were packed from.

use super::*;
use crate::Dtype;
use crate::reference::weights::{checkpoint, decode};

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Any bytes: of scales infinite, NaN and subnormal ones among them.
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.word() as u8).collect()
    }
}

/// Tensors of a checkpoint, so that a source can be made of them more than once.
struct Tensors {
    kind: &'static str,
    main: Vec<u8>,
    scales: Vec<u8>,
    zeros: Vec<u8>,
    g_idx: Option<Vec<u8>>,
    zero_offset: u32,
}

impl Tensors {
    fn random(format: &Format, kind: &'static str, n: usize, k: usize, random: &mut Random) -> Tensors {
        let groups = format.groups(k) as usize;
        let (main, scales, zeros) = match kind {
            "int8" => (n * k, 4 * n, 0),
            "int8 of f16" => (n * k, 2 * n, 0),
            "fp8" => (n * k, 4 * n.div_ceil(128) * k.div_ceil(128), 0),
            "nf4" => ((n * k).div_ceil(2), 4 * (n * k).div_ceil(64), 0),
            "gptq" => (4 * k.div_ceil(8) * n, 2 * groups * n, 4 * groups * n.div_ceil(8)),
            "awq" => (4 * k * n.div_ceil(8), 2 * groups * n, 4 * groups * n.div_ceil(8)),
            _ => {
                let (bytes, of) = format.ggml_block().unwrap();
                (n * k / of * bytes, 0, 0)
            }
        };
        let [main, scales, zeros] = [main, scales, zeros].map(|len| random.bytes(len));
        Tensors { kind, main, scales, zeros, g_idx: None, zero_offset: 1 }
    }

    fn source<'a>(&'a self, main: Data<'a>) -> Source<'a> {
        let Tensors { kind, scales, zeros, g_idx, zero_offset, .. } = self;
        match *kind {
            "int8" => Source::Int8 { weight: main, scale: scales, dtype: Dtype::F32 },
            "int8 of f16" => Source::Int8 { weight: main, scale: scales, dtype: Dtype::F16 },
            "fp8" => Source::Fp8 { weight: main, scale: scales },
            "nf4" => Source::Nf4 { weight: main, absmax: scales },
            "gptq" => {
                let (g_idx, zero_offset) = (g_idx.as_deref(), *zero_offset);
                Source::Gptq { qweight: main, qzeros: zeros, scales, g_idx, zero_offset }
            }
            "awq" => Source::Awq { qweight: main, qzeros: zeros, scales },
            _ => Source::Ggml(main),
        }
    }
}

/// Bits of the values, NaN alike.
fn bits(values: Vec<f64>) -> Vec<u64> {
    values.into_iter().map(|v| if v.is_nan() { u64::MAX } else { v.to_bits() }).collect()
}

/// Packs in both ways, from memory and from a reader, and holds what it decodes to against the checkpoint.
fn hold(format: Format, n: usize, k: usize, tensors: &Tensors) -> Packed {
    let what = format!("{} [{n}, {k}] {format:?}", tensors.kind);
    let packed = format.pack(&what, n, k, tensors.source((&tensors.main).into())).unwrap();
    let source = tensors.source((&tensors.main).into());
    let expected = bits(checkpoint::<f64>(&format, n, k, &source));
    assert_eq!(bits(decode::<f64>(&format, n, k, &packed.codes, &packed.scales)), expected, "{what}");
    let expected = bits(checkpoint::<f32>(&format, n, k, &source));
    assert_eq!(bits(decode::<f32>(&format, n, k, &packed.codes, &packed.scales)), expected, "{what}");
    // Bytes come in pieces of any size.
    struct Pieces<'a>(&'a [u8]);
    impl std::io::Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let len = buffer.len().min(997).min(self.0.len());
            buffer[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }
    let [mut codes, mut scales] = [&packed.codes, &packed.scales].map(|words| vec![u32::MAX; words.len()]);
    let mut reader = Pieces(&tensors.main);
    let source = tensors.source(Data::Read(&mut reader));
    format.pack_into(&what, [n, k], source, &mut codes, &mut scales).unwrap();
    assert!(codes == packed.codes && scales == packed.scales, "{what}: read in pieces");
    packed
}

/// What is unpacked is what was packed.
fn back(packed: &Packed, tensors: &Tensors) {
    let unpacked = packed.unpack("w").unwrap();
    let bytes = |name: &str| unpacked.tensors.iter().find(|tensor| tensor.name == name).map(|tensor| &tensor.bytes);
    let format = packed.format;
    match tensors.kind {
        "gptq" => {
            assert_eq!(unpacked.zero_offset, 1);
            // Where k is no multiple of 8, the rest of the last words is nobody's.
            if packed.k.is_multiple_of(8) {
                assert_eq!(bytes("qweight"), Some(&tensors.main), "{format:?}");
            }
            assert_eq!(bytes("scales"), Some(&tensors.scales), "{format:?}");
            assert_eq!(bytes("g_idx"), tensors.g_idx.as_ref(), "{format:?}");
        }
        "fp8" | "int8" => assert_eq!(bytes("scale"), Some(&tensors.scales), "{format:?}"),
        "nf4" => assert_eq!(bytes("absmax"), Some(&tensors.scales), "{format:?}"),
        _ => {}
    }
    if let Some(weight) = bytes("weight") {
        let mut main = tensors.main.clone();
        // The second half of the last byte may be nobody's.
        if tensors.kind == "nf4" && !(packed.n * packed.k).is_multiple_of(2) {
            *main.last_mut().unwrap() &= 0xf0;
        }
        assert!(*weight == main, "{format:?}");
    }
}

fn both(format: Format) -> [Format; 2] {
    [1, 8].map(|interleave| Format { interleave, ..format })
}

#[test]
fn ggml_packs_to_what_it_was() {
    let mut random = Random(1);
    for format in Format::GGML.into_iter().flat_map(both) {
        for (n, k) in [(1, 256), (8, 512), (13, 768), (129, 1280)] {
            let tensors = Tensors::random(&format, "ggml", n, k, &mut random);
            back(&hold(format, n, k, &tensors), &tensors);
        }
        if format.ggml_block().unwrap().1 == 32 {
            let tensors = Tensors::random(&format, "ggml", 11, 96, &mut random);
            back(&hold(format, 11, 96, &tensors), &tensors);
        }
    }
}

#[test]
fn others_pack_to_what_they_were() {
    let mut random = Random(2);
    for (n, k) in [(1, 1), (3, 43), (9, 64), (130, 257), (17, 1091)] {
        for (kind, format) in
            [("int8", Format::INT8), ("int8 of f16", Format::INT8), ("fp8", Format::FP8), ("nf4", Format::nf4(k))]
        {
            for format in both(format) {
                let tensors = Tensors::random(&format, kind, n, k, &mut random);
                back(&hold(format, n, k, &tensors), &tensors);
            }
        }
    }
    for (n, k, group) in [(8, 64, 32), (16, 256, 128), (24, 384, 384), (11, 72, 32), (1, 8, 8), (9, 77, 32)] {
        for format in both(Format { group, ..Format::GPTQ }) {
            for kind in ["gptq", "awq"] {
                let tensors = Tensors::random(&format, kind, n, k, &mut random);
                let packed = hold(format, n, k, &tensors);
                if kind == "gptq" {
                    back(&packed, &tensors);
                }
            }
        }
    }
}

#[test]
fn columns_are_sorted_by_group() {
    let mut random = Random(3);
    for (n, k, groups, uneven) in [(8, 128, 4, false), (13, 64, 8, false), (9, 96, 3, true), (8, 64, 5, true)] {
        // A group's columns lie anywhere; where they are uneven, those of group 1 are most, of the last none.
        let mut g_idx: Vec<u32> = (0..k).map(|c| (c * groups / k) as u32).collect();
        for c in (1..k).rev() {
            g_idx.swap(c, random.word() as usize % (c + 1));
        }
        if uneven {
            g_idx.iter_mut().for_each(|g| *g = if *g + 1 == groups as u32 { 1 } else { *g });
        }
        let g_idx: Vec<u8> = g_idx.iter().flat_map(|g| g.to_le_bytes()).collect();
        let format = Format::gptq("w", k, groups, None, Some(&g_idx)).unwrap();
        assert!(format.order >= groups as u32, "{format:?}");
        for format in both(format) {
            let of = Format { order: 0, group: k.div_ceil(groups) as u32, ..format };
            let mut tensors = Tensors::random(&of, "gptq", n, k, &mut random);
            tensors.g_idx = Some(g_idx.clone());
            let packed = hold(format, n, k, &tensors);
            if !uneven {
                back(&packed, &tensors);
            }
            // What is unpacked decodes to the same, whatever its groups.
            let unpacked = packed.unpack("w").unwrap();
            let [qweight, qzeros, scales, g_idx] = &unpacked.tensors[..] else { panic!("four tensors") };
            let source = Source::Gptq {
                qweight: (&qweight.bytes).into(),
                qzeros: &qzeros.bytes,
                scales: &scales.bytes,
                g_idx: Some(&g_idx.bytes),
                zero_offset: unpacked.zero_offset,
            };
            let again = bits(checkpoint::<f64>(&format, n, k, &source));
            assert_eq!(again, bits(decode::<f64>(&format, n, k, &packed.codes, &packed.scales)));
        }
    }
    // Groups in their order need none; that of the whole matrix is one.
    let in_order: Vec<u8> = (0..64u32).flat_map(|c| (c / 16).to_le_bytes()).collect();
    assert_eq!(Format::gptq("w", 64, 4, None, Some(&in_order)).unwrap(), Format { group: 16, ..Format::GPTQ });
    assert_eq!(Format::gptq("w", 64, 4, None, None).unwrap(), Format { group: 16, ..Format::GPTQ });
    assert_eq!(Format::gptq("w", 72, 1, None, None).unwrap(), Format { group: 72, ..Format::GPTQ });
    // Four and a half groups of 16, and groups of 20 of which only a g_idx can tell.
    assert_eq!(Format::gptq("w", 72, 5, Some(16), None).unwrap(), Format { group: 16, ..Format::GPTQ });
    let error = Format::gptq("w", 72, 4, Some(20), None).unwrap_err().to_string();
    assert_eq!(error, "weights: tensor `w`: groups of 20 of 72 columns, which are no multiple of 8, need a g_idx");
    // Groups of 20 columns are padded to 24.
    assert_eq!(Format::gptq("w", 40, 2, None, None).unwrap(), Format { group: 24, order: 2, ..Format::GPTQ });
}

#[test]
fn edges_of_scales() {
    // f16 infinity, NaN, the least subnormal, the largest finite: by every format with f16 in front of its blocks.
    for half in [0x7c00u16, 0xfc00, 0x7e01, 0x0001, 0x7bff, 0x8000] {
        for format in [Format::Q4_0, Format::Q5_0, Format::Q8_0, Format::IQ4_NL, Format::Q4_1, Format::Q4_K] {
            let (bytes, of) = format.ggml_block().unwrap();
            let mut tensors = Tensors::random(&format, "ggml", 2, of, &mut Random(half.into()));
            for row in 0..2 {
                tensors.main[row * bytes..][..2].copy_from_slice(&half.to_le_bytes());
            }
            hold(format, 2, of, &tensors);
        }
    }
    for e in [0, 1, 2, 127, 254, 255] {
        let mut tensors = Tensors::random(&Format::MXFP4, "ggml", 1, 32, &mut Random(e));
        tensors.main[0] = e as u8;
        hold(Format::MXFP4, 1, 32, &tensors);
    }
    // Stored zeros of 15 and an offset of 1 are 16; without an offset 15.
    let format = Format { group: 32, ..Format::GPTQ };
    let mut tensors = Tensors::random(&format, "gptq", 8, 32, &mut Random(4));
    (tensors.zeros, tensors.scales) = (vec![0xff; 4], [0, 0x3c].repeat(8));
    let found = hold(format, 8, 32, &tensors);
    assert_eq!(found.scales[8], 16);
    tensors.zero_offset = 0;
    assert_eq!(hold(format, 8, 32, &tensors).scales[8], 15);
}

/// Sizes of real models: a packed matrix is at most 5 % larger than its tensors.
#[test]
fn packed_is_hardly_larger() {
    for (n, k) in
        [(4096, 4096usize), (14336, 4096), (4096, 14336), (49152, 576), (576, 1536), (151936, 896), (192, 576)]
    {
        for format in Format::GGML.into_iter().flat_map(both) {
            let (bytes, of) = format.ggml_block().unwrap();
            if k.is_multiple_of(of) {
                let (file, packed) = ((n * k / of * bytes) as u64, format.code_bytes(n, k) + format.scale_bytes(n, k));
                assert!(packed * 100 <= file * 105, "{format:?} [{n}, {k}]: {packed} of {file}");
            }
        }
        let groups = |group: u32| k.div_ceil(group as usize);
        for format in [32, 64, 128].map(|group| Format { group, ..Format::GPTQ }) {
            // Columns that are sorted fill their groups; the order of columns, 4 (k + k) bytes, is little of many rows.
            let sorted = k.is_multiple_of(format.group as usize) && n >= 512;
            let sorted = if sorted { groups(format.group) as u32 } else { 0 };
            for order in [0, sorted] {
                let format = Format { order, ..format };
                let file = n * k / 2 + groups(format.group) * (2 * n + n / 2) + if order > 0 { 4 * k } else { 0 };
                let packed = format.code_bytes(n, k) + format.scale_bytes(n, k);
                assert!(packed * 100 <= file as u64 * 105, "{format:?} [{n}, {k}]: {packed} of {file}");
            }
        }
        for (format, file) in [
            (Format::INT8, n * k + 2 * n),
            (Format::FP8, n * k + 4 * n.div_ceil(128) * k.div_ceil(128)),
            (Format::nf4(k), n * k / 2 + n * k / 16),
        ] {
            let packed = format.code_bytes(n, k) + format.scale_bytes(n, k);
            assert!(packed * 100 <= file as u64 * 105, "{format:?} [{n}, {k}]: {packed} of {file}");
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let q4_0 =
        |n, k, bytes: &[u8]| Format::Q4_0.pack("blk.0.w", n, k, Source::Ggml(bytes.into())).unwrap_err().to_string();
    let bytes = vec![0u8; 18 * 2 * 3];
    assert_eq!(q4_0(3, 64, &bytes[..100]), "weights: tensor `blk.0.w`: its data has 100 bytes, its shape takes 108");
    assert!(q4_0(3, 63, &bytes).contains("k of 63 is no multiple of 32"));
    assert!(q4_0(0, 64, &bytes).contains("0 rows of 64"));
    assert!(q4_0(1 << 20, 1 << 20, &bytes).contains("more words than a shader can count"));
    let mut short = &bytes[..50];
    let error = Format::Q4_0.pack("w", 3, 64, Source::Ggml(Data::Read(&mut short))).unwrap_err().to_string();
    assert_eq!(error, "weights: tensor `w`: its data end after 50 bytes, its shape takes 108");
    assert!(Format::Q4_K.pack("w", 1, 128, Source::Ggml((&bytes).into())).unwrap_err().to_string().contains("256"));
    let error = Format::INT8.pack("w", 1, 8, Source::Ggml((&bytes).into())).unwrap_err().to_string();
    assert!(error.contains("a GGML block does not give"), "{error}");
    let scale = [0; 8];
    let int8 = Source::Int8 { weight: Data::Bytes(&bytes[..16]), scale: &scale, dtype: Dtype::F32 };
    let error = Format::INT8.pack("w", 3, 8, int8).unwrap_err().to_string();
    assert_eq!(error, "weights: tensor `w`: scale has 8 bytes, its shape takes 12");

    let g_idx: Vec<u8> = (0..8u32).flat_map(|c| (if c == 5 { 7 } else { c % 2 }).to_le_bytes()).collect();
    let error = Format::gptq("w", 8, 2, None, Some(&g_idx)).unwrap_err().to_string();
    assert_eq!(error, "weights: tensor `w`: g_idx[5] is 7, there are 2 groups");
    let format = Format { group: 8, order: 2, ..Format::GPTQ };
    let (word, scales) = ([0u8; 32], [0u8; 4]);
    let gptq = |g_idx, zeros: &'static [u8]| Source::Gptq {
        qweight: Data::Bytes(&word[..4]),
        qzeros: zeros,
        scales: &scales,
        g_idx,
        zero_offset: 1,
    };
    let error = format.pack("w", 1, 8, gptq(Some(&g_idx), &[0; 8])).unwrap_err().to_string();
    assert!(error.contains("g_idx[5] is 7, there are 2 groups"), "{error}");
    let error = Format { order: 0, ..format }.pack("w", 1, 8, gptq(None, &[0; 8])).unwrap_err().to_string();
    assert!(error.contains("2 groups of 8 columns are not those of k 8"), "{error}");
    let error = format.pack("w", 1, 8, gptq(None, &[0; 4])).unwrap_err().to_string();
    assert!(error.contains("qzeros has 4 bytes, its shape takes 8"), "{error}");
    let error = Format { order: 0, ..format }.pack("w", 1, 17, gptq(None, &[0; 8])).unwrap_err().to_string();
    assert!(error.contains("2 groups of 8 columns are not those of k 17"), "{error}");
    let mut buffers = [[0u32; 8]; 2];
    let [codes, scales] = &mut buffers;
    let error = Format::Q4_0.pack_into("w", [3, 64], Source::Ggml((&bytes).into()), codes, scales).unwrap_err();
    assert!(error.to_string().contains("codes and scales have 8 and 8 words, not [64, 8]"), "{error}");
}

#[test]
fn nested_scales() {
    let code: Vec<u8> = (0..256).flat_map(|i| (i as f32 / 256.0).to_le_bytes()).collect();
    let nested: Vec<u8> = [2.0f32, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut absmax = vec![0u8; 257];
    (absmax[0], absmax[256]) = (128, 64);
    let found = Dtype::F32.decode(&nested_absmax("w", &absmax, &code, &nested, 0.25).unwrap());
    // 0.5 * 2 + 0.25, 0 + 0.25, 0.25 * 4 + 0.25.
    assert_eq!([found[0], found[1], found[256]], [1.25, 0.25, 1.25]);
    assert!(nested_absmax("w", &absmax, &code, &nested[..4], 0.0).unwrap_err().to_string().contains("takes 8"));
}

#[test]
fn plain_weights_are_packed_with_their_error_told() {
    let (n, k) = (11, 160);
    let mut random = Random(9);
    // Sums of uniform values: nearly normal; a row of zeros, a row with one weight, a row far from 0.
    let mut uniform = || (random.word() >> 40) as f64 / (1u64 << 24) as f64;
    let mut weights: Vec<f64> = (0..n * k).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect();
    weights[k..2 * k].fill(0.0);
    weights[2 * k..3 * k].fill(0.0);
    weights[2 * k + 5] = -3.0;
    weights[3 * k..4 * k].iter_mut().for_each(|w| *w += 20.0);
    for dtype in [Dtype::F32, Dtype::F16] {
        let mut bytes = dtype.encode(&weights);
        bytes.truncate(n * k * dtype.bytes() as usize);
        let stored = dtype.decode(&bytes);
        // The root mean square of errors, at most.
        for (format, most) in [
            (Format::INT8, 0.03),
            (Format::Q8_0, 0.03),
            (Format { group: 64, ..Format::Q8_0 }, 0.03),
            (Format::Q4_0, 0.4),
            (Format::Q4_1, 0.11),
            (Format { group: 64, ..Format::Q4_1 }, 0.13),
        ] {
            for format in both(format) {
                let (packed, loss) = format.quantize("w", n, k, (&bytes).into(), dtype).unwrap();
                let found = decode::<f64>(&format, n, k, &packed.codes, &packed.scales);
                let errors: Vec<f64> = found.iter().zip(&stored).map(|(a, b)| (a - b).abs()).collect();
                let max = errors.iter().copied().fold(0.0, f64::max);
                let rms = (errors.iter().map(|e| e * e).sum::<f64>() / (n * k) as f64).sqrt();
                assert!((loss.max - max).abs() < 1e-12 && (loss.rms - rms).abs() < 1e-12, "{loss:?}, not {max} {rms}");
                assert!(loss.rms < most, "{format:?}: {loss:?}");
                assert!(found[k..2 * k].iter().all(|&w| w == 0.0), "{format:?}: a row of zeros");
                assert!((found[2 * k + 5] + 3.0).abs() < 2e-3, "{format:?}: {}", found[2 * k + 5]);
                if format.name().is_some() {
                    packed.unpack("w").unwrap();
                }
            }
        }
    }
    let mut bad = weights.clone();
    bad[3 * k + 7] = f64::INFINITY;
    let error = |format: Format, weights: &[f64]| {
        let bytes = Dtype::F32.encode(weights);
        format.quantize("w", n, k, (&bytes).into(), Dtype::F32).unwrap_err().to_string()
    };
    assert_eq!(error(Format::Q4_0, &bad), "weights: tensor `w`: weight [3, 7] is inf");
    bad[3 * k + 7] = 1e9;
    assert!(error(Format::Q4_0, &bad).contains("weights [3, 0..] have a scale that f16 cannot hold"));
    assert!(error(Format::Q4_K, &weights).contains("k of 160 is no multiple of 256"));
    assert!(error(Format::NF4_FLAT, &weights).contains("plain weights are not packed into"));
}
