//! Activations in 8 bits, by their definition.

use crate::quantize::{Along, Format, GROUP, Problem};

/// What quantize gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[lines, 4 words]`: bytes.
    pub codes: Vec<u8>,
    /// `[lines, groups]`; NaN for a group that holds what is not finite.
    pub scales: Vec<f64>,
}

/// The value of a code before its scale; NaN where it is none.
pub fn value(format: Format, code: u8) -> f64 {
    if format == Format::Int8 {
        return f64::from(code as i8);
    }
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f64::from(code & 7));
    let magnitude = match exponent {
        0 => mantissa / 512.0,
        15 if mantissa == 7.0 => f64::NAN,
        _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    };
    if code & 128 == 0 { magnitude } else { -magnitude }
}

/// The code whose value is nearest to `v`, of two the one with the even code.
pub fn code(format: Format, v: f64) -> u8 {
    if format == Format::Int8 {
        return v.round_ties_even().clamp(-127.0, 127.0) as i8 as u8;
    }
    // Values rise with their codes: `below` is the last that is not above |v|, so that it or the next is nearest.
    let (mut below, mut above) = (0, 127);
    while above - below > 1 {
        let middle = (below + above) / 2;
        if value(format, middle) <= v.abs() { below = middle } else { above = middle }
    }
    let far = |code| (value(format, code) - v.abs()).abs();
    let next = above < 127 && (far(above) < far(below) || (far(above) == far(below) && above & 1 == 0));
    (if next { above } else { below }) | if v.is_sign_negative() { 128 } else { 0 }
}

/// The scale of a group whose largest magnitude this is, in f64.
pub fn scale(problem: &Problem, largest: f64) -> f64 {
    let exact = match problem.format {
        Format::Int8 => largest / 127.0,
        Format::E4m3 => largest / 448.0,
    };
    let scale = match problem.power_of_two && exact > 0.0 {
        true => {
            let below = 2f64.powi(exact.log2().floor() as i32);
            if below < exact { 2.0 * below } else { below }
        }
        false => exact,
    };
    if scale < f64::from(f32::MIN_POSITIVE) { 0.0 } else { scale }
}

/// The elements of each line of `x`, contiguous `[rows, cols]`.
pub fn lines(problem: &Problem, x: &[f64]) -> Vec<Vec<f64>> {
    let Problem { rows, cols, along, .. } = *problem;
    match along {
        Along::Rows => (0..rows).map(|r| x[r * cols..(r + 1) * cols].to_vec()).collect(),
        Along::Columns => (0..cols).map(|c| (0..rows).map(|r| x[r * cols + c]).collect()).collect(),
    }
}

/// Elements that share a scale.
pub fn group(problem: &Problem, len: usize) -> usize {
    if problem.format == Format::Int8 { len.max(1) } else { GROUP }
}

/// Scales and codes; each code is by the scale in f64.
pub fn reference(problem: &Problem, x: &[f64]) -> Output {
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for line in lines(problem, x) {
        let begin = codes.len();
        for group in line.chunks(group(problem, line.len())) {
            let finite = group.iter().all(|v| v.is_finite());
            let largest = group.iter().fold(0f64, |m, v| m.max(v.abs()));
            let scale = if finite { scale(problem, largest) } else { f64::NAN };
            scales.push(scale);
            codes.extend(group.iter().map(|v| if scale > 0.0 { code(problem.format, v / scale) } else { 0 }));
        }
        codes.resize(begin + 4 * problem.words(), 0);
    }
    Output { codes, scales }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "FP8 Formats for Deep Learning" (Micikevicius et al., 2022), table 1.
    #[test]
    fn e4m3_by_the_table() {
        let of = |code| value(Format::E4m3, code);
        assert_eq!(
            [0x7e, 0x08, 0x07, 0x01, 0x00, 0x38, 0xc4].map(of),
            [448.0, 2f64.powi(-6), 0.875 * 2f64.powi(-6), 2f64.powi(-9), 0.0, 1.0, -3.0]
        );
        assert!(of(0x7f).is_nan() && of(0xff).is_nan());
        let to = |v| code(Format::E4m3, v);
        // Ties: 1.0625 between 1 and 1.125, 1.1875 between 1.125 and 1.25, half a step of 2^-9.
        assert_eq!([1.0625, 1.1875, 2f64.powi(-10), 1e9, -448.0].map(to), [0x38, 0x3a, 0x00, 0x7e, 0xfe]);
        for below in 0..126 {
            let (first, second) = (of(below), of(below + 1));
            let (middle, even) = (0.5 * (first + second), below + (below & 1));
            let near = [first, 0.999 * middle + 0.001 * first, middle, 0.999 * middle + 0.001 * second, second];
            assert_eq!(near.map(to), [below, below, even, below + 1, below + 1]);
        }
    }

    #[test]
    fn by_hand() {
        let problem = Problem { rows: 2, cols: 3, ..Problem::default() };
        let out = reference(&problem, &[127.0, -63.5, 0.5, 0.0, 0.0, 0.0]);
        assert_eq!(out, Output { codes: vec![127, 192, 0, 0, 0, 0, 0, 0], scales: vec![1.0, 0.0] });
        let columns = Problem { along: Along::Columns, format: Format::E4m3, power_of_two: true, ..problem };
        let out = reference(&columns, &[448.0, 900.0, f64::NAN, 1.0, -3.0, 1.0]);
        assert_eq!((out.scales[0], out.scales[1], out.scales[2].is_nan()), (1.0, 4.0, true));
        assert_eq!(out.codes, [0x7e, 0x38, 0, 0, 0x76, 0xb4, 0, 0, 0, 0, 0, 0]);
    }
}
