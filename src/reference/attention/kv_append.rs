//! New keys and values into a cache, by its definition.

use crate::kv_append::{Cache, Problem};
use crate::norm as norms;
use crate::quantize::Format;
use crate::reference::{Real, norm, quantize, rope};
use crate::rope::Heads;

/// What is read besides the vectors.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// Weights of the norm, `[head_dim]`, or per head `[heads, head_dim]`.
    pub weight: Option<&'a [f64]>,
    /// Biases, as the weights.
    pub bias: Option<&'a [f64]>,
    /// `[axes, tokens]`.
    pub positions: Option<&'a [i64]>,
    /// cos and sin, `[max_pos, rotary_dim / 2]`.
    pub tables: Option<[&'a [f64]; 2]>,
}

/// Vectors `[tokens, heads, dim]` as they are stored, but for rounding; and `mag`, one per vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// `[tokens, heads, dim]`.
    pub values: Vec<f64>,
    /// One per vector.
    pub mag: Vec<f64>,
}

/// `[a, b, c]` as `[b, a, c]`.
fn swapped(x: &[f64], [a, b, c]: [usize; 3]) -> Vec<f64> {
    let at = |i: usize| {
        let (row, col) = (i / c, i % c);
        (row % a * b + row / a) * c + col
    };
    (0..a * b * c).map(|i| x[at(i)]).collect()
}

/// Vectors of k or q, `[tokens, heads, head_dim]`: normed, then rotated, as far as the Problem asks for it.
pub fn turned<R: Real>(problem: &Problem, heads: usize, x: &[f64], inputs: &Inputs) -> Vectors {
    let Problem { tokens, head_dim: dim, .. } = *problem;
    let most = |row: &[f64]| row.iter().fold(0f64, |m, v| m.max(v.abs()));
    let mut x = swapped(x, [tokens, heads, dim]);
    let mut mag: Vec<f64> = x.chunks(dim).map(most).collect();
    if let Some(of) = &problem.norm {
        let own = |all: Option<&[f64]>, head: usize| {
            let from = if of.per_head { head * dim } else { 0 };
            all.map(|all| all[from..][..dim].to_vec())
        };
        let rows = norms::Problem {
            rows: tokens,
            cols: dim,
            eps: of.eps,
            weight_offset: of.weight_offset,
            ..norms::Problem::of(of.kind)
        };
        for head in 0..heads {
            let (weight, bias) = (own(inputs.weight, head), own(inputs.bias, head));
            let range = head * tokens * dim..(head + 1) * tokens * dim;
            let given =
                norm::Inputs { x: &x[range.clone()], residual: None, weight: weight.as_deref(), bias: bias.as_deref() };
            let out = norm::reference::<R>(&rows, &given);
            x[range].copy_from_slice(&out.y);
            mag[head * tokens..(head + 1) * tokens].copy_from_slice(&out.mag);
        }
    }
    if let Some(of) = problem.rope() {
        let of = rope_of(of, heads);
        let out = rope::reference::<R>(&of, heads, &x, inputs.positions, inputs.tables);
        let turned = out.mag.into_iter().zip(&mag).map(|(turned, own)| turned.max(2.0 * own * factor(&of)));
        (x, mag) = if problem.norm.is_some() { (out.y, turned.collect()) } else { (out.y, turned.collect()) };
    }
    Vectors { values: swapped(&x, [heads, tokens, dim]), mag: swapped(&mag, [heads, tokens, 1]) }
}

fn rope_of(of: crate::rope::Problem, heads: usize) -> crate::rope::Problem {
    crate::rope::Problem { q: Heads::new(heads), ..of }
}

/// What multiplies cos and sin.
fn factor(of: &crate::rope::Problem) -> f64 {
    match &of.angles {
        crate::rope::Angles::Frequencies(frequencies) => frequencies.attention_factor.abs(),
        crate::rope::Angles::Tables { .. } => 1.0,
    }
}

/// The place of each token in the cache, `page * page_size + place`; none where its slot does not exist.
pub fn places(problem: &Problem, slots: &[i64]) -> Vec<Option<usize>> {
    let all = problem.pages * problem.page_size;
    slots.iter().map(|&slot| usize::try_from(slot).ok().filter(|&slot| slot < all)).collect()
}

/// Scale and codes of a vector; a cache of floats has none.
pub fn quantized(cache: Cache, row: &[f64]) -> Option<(f64, Vec<f64>)> {
    let format = format(cache)?;
    if row.iter().any(|v| !v.is_finite()) {
        return Some((f64::NAN, vec![0.0; row.len()]));
    }
    let most = row.iter().fold(0f64, |m, v| m.max(v.abs()));
    let scale = quantize::scale(&crate::quantize::Problem { format, ..Default::default() }, most);
    let code = |v: &f64| if scale > 0.0 { byte(cache, quantize::code(format, v / scale)) } else { 0.0 };
    Some((scale, row.iter().map(code).collect()))
}

/// What codes of a cache are.
pub fn format(cache: Cache) -> Option<Format> {
    match cache {
        Cache::Float(_) => None,
        Cache::Int8 => Some(Format::Int8),
        Cache::E4m3 => Some(Format::E4m3),
    }
}

/// A code as a number: of int8 with its sign.
pub fn byte(cache: Cache, code: u8) -> f64 {
    if cache == Cache::Int8 { f64::from(code as i8) } else { f64::from(code) }
}

/// What a code stands for, without its scale.
pub fn worth(cache: Cache, code: f64) -> f64 {
    format(cache).map_or(code, |format| quantize::value(format, code as i64 as u8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;
    use crate::kv_append::{Norm, Rotation};
    use crate::norm::Kind;
    use crate::rope::{Angles, Axes, Frequencies, Style};
    use approx::assert_relative_eq;

    #[test]
    fn slots_in_all_their_bits() {
        let problem = Problem { pages: 3, page_size: 4, ..Problem::default() };
        let found = places(&problem, &[0, 11, 12, -1, 1 << 32, i64::MIN, 5]);
        assert_eq!(found, [Some(0), Some(11), None, None, None, None, Some(5)]);
    }

    #[test]
    fn codes_by_hand() {
        let (scale, codes) = quantized(Cache::Int8, &[-254.0, 1.0, 127.0]).unwrap();
        assert_eq!((scale, &codes[..]), (2.0, &[-127.0, 0.0, 64.0][..]));
        let (scale, codes) = quantized(Cache::E4m3, &[448.0, -1.0]).unwrap();
        assert_eq!((scale, &codes[..]), (1.0, &[f64::from(0x7e), f64::from(0xb8)][..]));
        assert_eq!(worth(Cache::E4m3, 0xb8.into()), -1.0);
        assert_eq!(quantized(Cache::Int8, &[0.0; 2]), Some((0.0, vec![0.0; 2])));
        let (scale, codes) = quantized(Cache::Int8, &[1.0, f64::NAN]).unwrap();
        assert!(scale.is_nan() && codes == [0.0; 2]);
        assert_eq!(quantized(Cache::Float(crate::Dtype::F32), &[1.0]), None);
    }

    #[test]
    fn normed_then_rotated() {
        // Two tokens of two heads; rows [3, 4] have a root of the mean square of sqrt(12.5).
        let angles = Angles::Frequencies(Frequencies { per_pair: vec![1.0], attention_factor: 1.0 });
        let (positions, style, axes) = (Layout::default(), Style::Half, Axes::One);
        let rotation = Rotation { rotary_dim: 2, style, signed: true, positions, axes, angles };
        let norm = Norm { eps: 0.0, q_weight: Some(0), ..Norm::of(Kind::Rms) };
        let problem =
            Problem { tokens: 2, head_dim: 2, norm: Some(norm), rotation: Some(rotation), ..Problem::default() };
        let inputs = Inputs { weight: Some(&[1.0, 2.0]), positions: Some(&[0, 1]), ..Inputs::default() };
        let out = turned::<f64>(&problem, 2, &[3.0, 4.0, 3.0, -4.0, 6.0, 8.0, 1.0, 1.0], &inputs).values;
        let (s, c, r) = (1f64.sin(), 1f64.cos(), 12.5f64.sqrt());
        let (a, b) = (3.0 / r, 8.0 / r);
        let want = [a, b, a, -b, a * c - b * s, b * c + a * s, c - 2.0 * s, 2.0 * c + s];
        for (have, want) in out.iter().zip(want) {
            assert_relative_eq!(*have, want, max_relative = 1e-12);
        }
        let heads = Norm { per_head: true, ..norm };
        let inputs = Inputs { weight: Some(&[1.0, 1.0, 5.0, 5.0]), ..Inputs::default() };
        let alone = Problem { norm: Some(heads), rotation: None, ..problem };
        let out = turned::<f64>(&alone, 2, &[2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 3.0, 3.0], &inputs).values;
        assert_eq!(out, [1.0, 1.0, 5.0, 5.0, 1.0, 1.0, 5.0, 5.0]);
    }
}
