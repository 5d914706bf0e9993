//! How a call of gemm_quant is made and judged.

use super::Tiles;
use crate::Dtype;
use crate::gemm::{self, Activation, Along, Matrix, Precision, Vector};
use crate::gemm_quant::{Activations, Algorithm, Buffers, Config, Problem};
use crate::quantize;
use crate::reference::gemm::{Inputs, Output, reference, rounded};
use crate::reference::quantize as tokens;
use crate::reference::weights::decode;
use crate::verify::Subject;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::packed;
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like};
use crate::weights::{Format, Scales};

use Dtype::{F16, F32};

/// The product of the decoded weights, as gemm has it.
pub fn decoded(problem: &Problem) -> gemm::Problem {
    let Problem { m, n, k, a, d, bias, activation, gated, residual, inputs, .. } = *problem;
    let epilogue = gemm::Epilogue { scale: None, bias, activation, gate: gated.then_some(0), residual };
    gemm::Problem { m, n, k, trans_b: true, a, b: Matrix::new(a.dtype), d, epilogue, inputs, ..Default::default() }
}

/// a as the product takes it.
pub fn taken_activations(problem: &Problem, a: &[f64]) -> Vec<f64> {
    let (format, power_of_two) = match problem.activations {
        Activations::Float => return a.to_vec(),
        Activations::Int8 => (quantize::Format::Int8, false),
        Activations::Fp8 => (quantize::Format::E4m3, false),
        Activations::Fp8Power => (quantize::Format::E4m3, true),
    };
    let (rows, k) = (problem.m, problem.k);
    let of = quantize::Problem { rows, cols: k, format, power_of_two, ..Default::default() };
    let tokens::Output { codes, scales } = tokens::reference(&of, a);
    let (group, groups) = (tokens::group(&of, k), k.div_ceil(tokens::group(&of, k)));
    let value = |i: usize| {
        tokens::value(format, codes[i / k * of.words() * 4 + i % k]) * scales[i / k * groups + i % k / group]
    };
    (0..rows * k).map(value).collect()
}

/// A product whose b is packed.
pub(super) struct Packed {
    pub format: Format,
    pub algorithm: Algorithm,
    pub lanes: u32,
    /// Products are integer dots.
    pub int8: bool,
}

impl Packed {
    /// What the sizes of small ones follow from: they see several groups and blocks of scales.
    pub fn tiles(&self, sizes: [usize; 3], tile: [u32; 3], parts: u32, products: usize) -> Tiles {
        let Packed { format, algorithm, lanes, int8 } = *self;
        let [rows, columns, tile_k] = tile.map(|size| size as usize);
        let (whole, turn) = match algorithm {
            Algorithm::Vector => {
                let step = format.step(if lanes > 1 || int8 { 32 } else { 128 }) as usize;
                (step, step * lanes as usize)
            }
            _ => (tile_k, tile_k),
        };
        let whole = if matches!(format.scales, Scales::K | Scales::K6) { 256 } else { whole };
        let columns = if format.scales == Scales::Block { columns.max(128) } else { columns };
        let turn = turn.max(format.group as usize / 2);
        Tiles { sizes, tile: [rows, columns, tile_k], whole, turn, parts: parts as usize, products }
    }
}

/// The Problem of these sizes.
fn smaller(problem: &Problem, [m, n, k]: [usize; 3]) -> Problem {
    let of = |matrix: Matrix, cols| Matrix { layout: laid(matrix.layout, [1, 1, m], cols), ..matrix };
    let mut format = problem.format;
    if format.order > 0 {
        // With a group that is not full, if the Problem has one.
        let groups = |k: usize| k.div_ceil(format.group.max(1) as usize) as u32;
        format.order = groups(k) + format.order.saturating_sub(groups(problem.k)).min(1);
    }
    Problem {
        m,
        n,
        k,
        format,
        a: of(problem.a, k),
        d: of(problem.d, n),
        bias: problem.bias.map(|bias| Vector { offset: bias.offset % 8, ..bias }),
        residual: problem.residual.map(|residual| of(residual, n)),
        ..*problem
    }
}

/// The last row of a is large, where there is an activation: its exponentials overflow.
fn loud(problem: &Problem, values: &mut Values) {
    let last = problem.m.saturating_sub(1) * problem.k;
    let factor = if problem.activation == Activation::None { 1.0 } else { 64.0 };
    values.entry("a").and_modify(|a| a[last..].iter_mut().for_each(|v| *v *= factor));
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let matrix = |Matrix { dtype, layout }, cols| Rows::new::<3>(layout, [1, 1, self.m], cols, dtype);
        let products = 1 + usize::from(self.gated);
        let vector = |Vector { dtype, along, offset }| {
            Rows::flat(offset, products * if along == Along::Rows { self.m } else { self.n }, dtype)
        };
        let [codes, scales] = packed::args(&self.format, self.rows(), self.k);
        let mut args = vec![Arg::read("a", matrix(self.a, self.k)), codes, scales];
        args.extend(self.bias.map(|bias| Arg::read("bias", vector(bias))));
        args.extend(self.residual.map(|residual| Arg::read("residual", matrix(residual, self.n))));
        args.push(Arg::write("d", matrix(self.d, self.n)));
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "codes" => packed::codes(&self.format, len, random),
            "scales" => packed::scales(&self.format, self.rows(), self.k, random),
            _ => random.outliers(len),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("a"), bound.get("codes"), bound.get("scales"), bound.get("d"));
        bound.with(buffers, [("bias", Buffers::bias), ("residual", Buffers::residual), ("scratch", Buffers::scratch)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let Problem { n, k, gated, .. } = *self;
        let [codes, scales] = ["codes", "scales"].map(|name| packed::words(&values[name]));
        let plain = decoded(self);
        let [bias, residual] = ["bias", "residual"].map(|name| values.get(name).map(Vec::as_slice));
        let exact = decode::<f64>(&self.format, self.rows(), k, &codes, &scales);
        let inputs = Inputs { a: &values["a"], bias, residual, ..Inputs::default() };
        let split = |w: &[f64]| (w[..n * k].to_vec(), gated.then(|| w[n * k..].to_vec()));
        let (b, b2) = split(&exact);
        let Output { d: oracle, mag } = reference::<f64>(&plain, &Inputs { b: &b, b2: b2.as_deref(), ..inputs });
        let halves = self.a.dtype != F32 || self.inputs == Precision::F16;
        let stored = decode::<f32>(&self.format, self.rows(), k, &codes, &scales);
        let taken: Vec<f64> = stored.into_iter().map(|w| if halves { F16.round(w) } else { w }).collect();
        let (b, b2) = split(&taken);
        let a = rounded(&plain, &taken_activations(self, &values["a"]));
        let low = reference::<f32>(&plain, &Inputs { a: &a, b: &b, b2: b2.as_deref(), ..inputs }).d;
        vec![("d", Rule::Rows { cols: n, dtype: self.d.dtype, oracle, low, mag })]
    }

    fn inner(&self) -> Vec<Box<dyn Subject>> {
        self.quantize().map(|inner| Box::new(inner) as Box<dyn Subject>).into_iter().collect()
    }

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let int8 = self.activations == Activations::Int8;
        let products = 1 + usize::from(self.gated);
        let [lanes, parts] = [config.lanes, config.parts];
        let packed = Packed { format: self.format, algorithm: config.algorithm, lanes, int8 };
        let tiles = packed.tiles([self.m, self.n, self.k], config.tile, parts, products);
        // Params tell of the epilogue: calls by these shaders may have another.
        let mut other = smaller(self, [like(self.m, 9), like(self.n, 9), tiles.k(33)]);
        other.activation = Activation::Silu;
        if self.bias.is_some() || self.residual.is_some() {
            other.bias = Some(Vector { dtype: Dtype::Bf16, along: Along::Rows, offset: 2 });
            other.residual = Some(Matrix::new(Dtype::Bf16));
        }
        let small = tiles.small().map(|sizes| smaller(self, sizes)).chain([other]);
        let all = small::and_own(small, self, self.flops() / 2.0);
        all.into_iter().map(|telling| telling.set(loud)).collect()
    }
}
