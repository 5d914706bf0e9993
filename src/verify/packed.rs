//! Packed weights of tests: their two buffers as arguments, random ones, and formats by name.

use super::call::Arg;
use super::image::{Number, Rows};
use super::random::Random;
use crate::Dtype;
use crate::weights::{Code, Format, Packed, Scales};

/// Both buffers of a matrix `[n, k]`.
pub fn args(format: &Format, n: usize, k: usize) -> [Arg; 2] {
    let words = |name, bytes: u64| Arg::read(name, Rows::flat(0, (bytes / 4) as usize, Number::U32));
    [words("codes", format.code_bytes(n, k)), words("scales", format.scale_bytes(n, k))]
}

/// Random words of codes: padding has some, too.
pub fn codes(format: &Format, len: usize, random: &mut Random) -> Vec<f64> {
    let mut word = || random.word() as u32;
    let one = |word: u32| match format.code {
        // No NaN.
        Code::E4m3 => u32::from_le_bytes(word.to_le_bytes().map(|byte| if byte & 0x7f == 0x7f { 0x7e } else { byte })),
        _ => word,
    };
    (0..len).map(|_| f64::from(one(word()))).collect()
}

/// Random words of scales of `[n, k]`; those of rows of padding are NaN.
pub fn scales(format: &Format, n: usize, k: usize, random: &mut Random) -> Vec<f64> {
    let mut all = order(format, k, random);
    let half = |random: &mut Random, size: f64| {
        let bytes = Dtype::F16.encode(&[(random.uniform() - 0.5) * size, 0.0]);
        u32::from(bytes[0]) | u32::from(bytes[1]) << 8
    };
    let halves = |random: &mut Random| half(random, 0.1) | half(random, 0.1) << 16;
    let float = |random: &mut Random| ((random.uniform() - 0.5) as f32 * 0.1).to_bits();
    let bytes = |random: &mut Random, from: usize, to: usize| {
        u32::from_le_bytes(std::array::from_fn(|_| (from + random.below(to - from)) as u8))
    };
    if format.by_matrix() {
        let len = format.scale_bytes(n, k) as usize / 4;
        all.extend((0..len).map(|_| float(random)));
        return all.into_iter().map(f64::from).collect();
    }
    let (words, wide) = (format.scale_words(k) as usize, format.interleave as usize);
    let groups = format.groups(k) as usize;
    for i in 0..format.rows(n) as usize * words {
        let (row, word) = (i / wide / words * wide + i % wide, i / wide % words);
        let value = match format.scales {
            _ if row >= n => u32::MAX,
            Scales::HalfZero if word >= groups.div_ceil(2) => bytes(random, 1, 17),
            Scales::Float => float(random),
            Scales::Exponent => bytes(random, 118, 126),
            Scales::K if !word.is_multiple_of(4) => random.word() as u32,
            Scales::K => half(random, 0.01) | half(random, 0.01) << 16,
            Scales::K6 if word < k.div_ceil(256) * 4 => random.word() as u32,
            Scales::K6 => half(random, 0.01) | half(random, 0.01) << 16,
            _ => halves(random),
        };
        all.push(value);
    }
    all.into_iter().map(f64::from).collect()
}

/// What precedes the scales: columns in a random order, each group as full as it may be.
fn order(format: &Format, k: usize, random: &mut Random) -> Vec<u32> {
    let mut all = vec![0; format.order_words(k) as usize];
    if format.order == 0 {
        return all;
    }
    let packed = format.packed_k(k) as usize;
    // Places by groups of `group`, of which the last ones of some hold nothing.
    let (group, groups) = (format.group as usize, format.order as usize);
    let mut places: Vec<usize> = (0..groups * group).collect();
    while places.len() > k {
        let g = random.below(groups);
        if let Some(last) = places.iter().rposition(|place| place / group == g) {
            places.remove(last);
        }
    }
    all[..packed].fill(u32::MAX);
    let mut columns: Vec<usize> = (0..k).collect();
    for i in (1..k).rev() {
        columns.swap(i, random.below(i + 1));
    }
    for (&place, &column) in places.iter().zip(&columns) {
        all[place] = column as u32;
        all[packed + column] = place as u32;
    }
    all
}

/// Words of a buffer, of their numbers.
pub fn words(values: &[f64]) -> Vec<u32> {
    values.iter().map(|&value| value as u32).collect()
}

/// The packed weights `[n, k]` of these words.
pub fn packed(format: Format, n: usize, k: usize, codes: &[f64], scales: &[f64]) -> Packed {
    Packed { format, n, k, codes: words(codes), scales: words(scales) }
}
