//! Bytes that lie: checkpoints for the packers, tables of measured choices, verdicts. Each is refused or read; nothing panics.
//!
//! `TILELOOM_FUZZ_SECONDS`, `TILELOOM_FUZZ_SEED` and `TILELOOM_FUZZ_CASE` as for the other tests here: each of these takes a tenth of the time.

use std::time::{Duration, Instant};

use fuzz::dice::{Dice, Vary};
use fuzz::gpu::Gpu;
use tileloom::tune::{Entry, Table};
use tileloom::verify::Verdicts;
use tileloom::weights::{Data, Format, Packed, Source, nested_absmax};
use tileloom::{Caps, Dtype, Kernels, KernelsOptions, Op, softmax};

/// Cases until the time is over; says how many, and how many of them were taken.
fn cases(what: &str, mut case: impl FnMut(&mut Dice) -> bool) {
    let of = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect(name));
    if let Ok(text) = std::env::var("TILELOOM_FUZZ_CASE") {
        case(&mut Dice::of(of("TILELOOM_FUZZ_SEED", 1), text.parse().expect("a number")));
        return;
    }
    let (seed, until) = (of("TILELOOM_FUZZ_SEED", 1), of("TILELOOM_FUZZ_SECONDS", 10));
    let until = Instant::now() + Duration::from_secs(until).max(Duration::from_secs(10)) / 10;
    let (mut count, mut taken) = (0u64, 0u64);
    while Instant::now() < until {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&mut Dice::of(seed, count))));
        taken += u64::from(ran.unwrap_or_else(|_| panic!("case {count} of {what}, seed {seed}")));
        count += 1;
    }
    println!("{what}: {count} cases, {taken} taken");
    assert!(taken > count / 50 && taken < count, "{what}: {taken} of {count}"); // neither all nor nothing
}

/// So many bytes, or about so many.
fn bytes(dice: &mut Dice, len: usize) -> Vec<u8> {
    let len = match dice.below(24) {
        0 => dice.below(64),
        1 => len + 1,
        2 => len.saturating_sub(1),
        _ => len,
    };
    let odd = dice.one_in(4);
    (0..len).map(|_| if odd { dice.of_these(&[0, 1, 0x7f, 0x80, 0xff]) } else { dice.word() as u8 }).collect()
}

/// Those of a `g_idx`, most of which there are.
fn groups(dice: &mut Dice, k: usize, groups: usize) -> Vec<u8> {
    let group = |dice: &mut Dice| if dice.one_in(400) { dice.word() as u32 } else { dice.below(groups) as u32 };
    let mut bytes: Vec<u8> = (0..k).flat_map(|_| group(dice).to_le_bytes()).collect();
    if dice.one_in(16) {
        bytes.pop();
    }
    bytes
}

/// A reader that gives a few bytes at a time.
struct Slow<'a>(&'a [u8]);

impl std::io::Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let len = into.len().min(self.0.len()).min(37);
        into[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        Ok(len)
    }
}

const KNOWN: [Format; 5] = [Format::INT8, Format::FP8, Format::GPTQ, Format::NF4, Format::NF4_FLAT];

#[test]
fn packers() {
    cases("packers", |dice| {
        let (n, mut k) = (1 + dice.below(40), 1 + dice.below(300));
        let format = match dice.below(8) {
            0 => Format::any(dice),
            1..4 => dice.of_these(&KNOWN),
            _ => dice.of_these(&Format::GGML),
        };
        if let Some((_, of)) = format.ggml_block().filter(|_| !dice.one_in(16)) {
            k = k.next_multiple_of(of);
        }
        let count = 1 + dice.below(4).min(k - 1);
        let g_idx = dice.one_in(2).then(|| groups(dice, k, count));
        let size = dice.one_in(4).then(|| dice.size());
        // The format that a GPTQ matrix asks for, where it is one.
        let gptq = Format::gptq("w", k, count, size, g_idx.as_deref());
        let (format, count) = match (format, &gptq) {
            (Format::GPTQ, Ok(format)) => (*format, count),
            _ => (format, dice.below(9)),
        };
        let [code, scale] = match format.name() {
            Some("int8") => [n * k, 4 * n],
            Some("fp8") => [n * k, 4 * n.div_ceil(128) * k.div_ceil(128)],
            Some("nf4") => [(n * k).div_ceil(2), 4 * (n * k).div_ceil(64)],
            Some("gptq") => [4 * k.div_ceil(8) * n, 2 * count * n],
            _ => format.ggml_block().map_or([n * k, 4 * n], |(bytes, of)| [n * (k / of) * bytes, 0]),
        };
        let (weight, scale) = (bytes(dice, code), bytes(dice, scale));
        let zeros = bytes(dice, 4 * count * n.div_ceil(8));
        let mut slow = Slow(&weight);
        let data = if dice.one_in(3) { Data::Read(&mut slow) } else { Data::Bytes(&weight) };
        let zero_offset = dice.of_these(&[0, 1, 1, u32::MAX]);
        let source = match format.name() {
            Some("int8") => Source::Int8 { weight: data, scale: &scale, dtype: Dtype::F32 },
            Some("fp8") => Source::Fp8 { weight: data, scale: &scale },
            Some("nf4") => Source::Nf4 { weight: data, absmax: &scale },
            Some("gptq") if dice.one_in(4) => Source::Awq { qweight: data, qzeros: &zeros, scales: &scale },
            Some("gptq") => {
                Source::Gptq { qweight: data, qzeros: &zeros, scales: &scale, g_idx: g_idx.as_deref(), zero_offset }
            }
            _ => Source::Ggml(data),
        };
        match format.pack("w", n, k, source) {
            Ok(packed) => {
                assert_eq!(
                    [packed.codes.len(), packed.scales.len()].map(|len| 4 * len as u64),
                    [format.code_bytes(n, k), format.scale_bytes(n, k)]
                );
                if let Err(error) = packed.unpack("w") {
                    assert!(format.name() == Some("gptq"), "{format:?} is packed and not unpacked: {error}");
                }
                true
            }
            Err(error) => {
                assert!(error.to_string().contains('w') && !error.to_string().contains('\n'), "{error}");
                false
            }
        }
    });
}

#[test]
fn what_has_no_columns_is_not_unpacked() {
    let packed = Packed { format: Format::INT8, n: usize::MAX, k: 0, codes: vec![], scales: vec![] };
    assert!(packed.unpack("w").unwrap_err().to_string().contains("has nothing to pack"));
}

#[test]
fn packed_and_plain() {
    cases("packed and plain matrices", |dice| {
        let format =
            if dice.one_in(3) { Format::any(dice) } else { dice.of_these(&[Format::INT8, Format::Q8_0, Format::Q4_1]) };
        let (n, k) =
            if dice.one_in(8) { (dice.size(), dice.size()) } else { (1 + dice.below(9), 32 * (1 + dice.below(9))) };
        let small = n.checked_mul(k).is_some_and(|elements| elements < 1 << 14);
        let len =
            |dice: &mut Dice, bytes: u64| if small && !dice.one_in(16) { bytes as usize / 4 } else { dice.below(64) };
        let fits =
            small && format.groups(k) > 0 && format.code_bytes(n, k) < 1 << 20 && format.scale_bytes(n, k) < 1 << 20;
        let [codes, scales] = if fits { [format.code_bytes(n, k), format.scale_bytes(n, k)] } else { [0, 0] };
        let [codes, scales] = [codes, scales].map(|bytes| {
            let len = len(dice, bytes);
            (0..len).map(|_| if dice.one_in(4) { dice.below(300) as u32 } else { dice.word() as u32 }).collect()
        });
        let unpacked = Packed { format, n, k, codes, scales }.unpack("w").is_ok();
        let dtype = Dtype::any(dice);
        let plain = bytes(dice, if small { n * k * dtype.bytes() as usize } else { 64 });
        let quantized = small && format.quantize("w", n, k, (&plain).into(), dtype).is_ok();
        let lengths = [dice.below(300), 1024, 4 * dice.below(3)];
        let [absmax, code, nested] = lengths.map(|len| bytes(dice, len));
        let _ = nested_absmax("w", &absmax, &code, &nested, 0.5);
        unpacked || quantized
    });
}

/// Text with some of its bytes changed, lines moved, or its end cut off.
fn damaged(dice: &mut Dice, text: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    for _ in 0..1 + dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(6) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] = dice.of_these(b"\n\t= 0az\xff\0"),
            2 => drop(bytes.drain(at..(at + dice.below(9)).min(bytes.len()))),
            3 => {
                let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
                let (a, b) = (dice.below(lines.len()), dice.below(lines.len()));
                lines.swap(a, b);
                bytes = lines.join(&b'\n');
            }
            4 => bytes.splice(at..at, text[..dice.below(text.len())].iter().copied()).for_each(drop),
            _ if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            _ => {}
        }
    }
    bytes
}

#[test]
fn tables() {
    let gpu = Gpu::open("all");
    let caps = Caps::of(&gpu.adapter, &gpu.device);
    let kernels = Kernels::new(&gpu.device, caps.clone());
    let key = Table::key(&kernels);
    let problem = softmax::Problem { rows: 64, cols: 1024, ..Default::default() };
    let own: Vec<String> = problem.candidates(&caps).unwrap().iter().map(|config| config.to_string()).collect();
    let buffer = &gpu.own[0];
    let buffers = || softmax::Buffers::new(buffer, &gpu.own[1]);
    cases("tables", |dice| {
        let mut table = Table::default();
        for _ in 0..dice.below(5) {
            let config = match dice.below(4) {
                0 => None,
                1 => Some(String::from_utf8_lossy(&damaged(dice, own[0].as_bytes())).into_owned()),
                _ => Some(own[dice.below(own.len())].clone()),
            };
            let (class, sources) = (problem.class(), if dice.one_in(2) { 0 } else { dice.word() });
            let key = if dice.one_in(4) { "another" } else { &key };
            table.insert(key, Entry { op: "softmax".into(), class, config, sources, facts: "3.1 us".into() });
        }
        let read = match dice.one_in(3) {
            true => table.clone(),
            false => Table::from_bytes(&damaged(dice, &table.to_bytes())),
        };
        // What is left is what was there.
        for key in read.keys() {
            for entry in read.entries(key) {
                assert_eq!(table.get(key, &entry.op, &entry.class), Some(entry));
            }
        }
        let some = read.entries(&key).count() > 0;
        let options = KernelsOptions { table: Some(read), ..KernelsOptions::default() };
        let kernels = Kernels::with_options(&gpu.device, caps.clone(), options);
        let dispatch = softmax::prepare(&kernels, &problem, buffers()).unwrap();
        gpu.submit(&dispatch).unwrap();
        some
    });
}

#[test]
fn verdicts() {
    let gpu = Gpu::open("all");
    let kernels = Kernels::new(&gpu.device, Caps::of(&gpu.adapter, &gpu.device));
    let line = |op: &str, config: &str, word: &str| format!("{op}\t{config}\t{:016x}\t{word}\t", 7);
    let whole = Verdicts::new(&kernels).to_bytes();
    let first = whole.split_inclusive(|&byte| byte == b'\n').next().unwrap();
    assert_eq!(Verdicts::from_bytes(&kernels, first).iter().count(), 0);
    cases("verdicts", |dice| {
        let text = String::from_utf8(Verdicts::new(&kernels).to_bytes()).unwrap();
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        let word = dice.of_these(&["right", "banned", "suspect", "running", "again", "none"]);
        lines.insert(2.min(lines.len()), line("softmax", "wg_size=64", word));
        if let Some(end) = lines.last_mut() {
            *end = end.replace('1', "2"); // the number of lines
        }
        let text = lines.join("\n") + "\n";
        let given = if dice.one_in(2) { text.clone().into_bytes() } else { damaged(dice, text.as_bytes()) };
        let read = Verdicts::from_bytes(&kernels, &given);
        let again = Verdicts::from_bytes(&kernels, &read.to_bytes());
        assert_eq!(read.iter().collect::<Vec<_>>().len(), again.iter().count());
        read.iter().count() > 0
    });
}
