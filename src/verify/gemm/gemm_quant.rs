//! How a call of gemm_quant is made and judged.

use crate::Dtype;
use crate::gemm::{self, Along, Matrix, Precision, Vector};
use crate::gemm_quant::{Activations, Buffers, Problem};
use crate::quantize;
use crate::reference::gemm::{Inputs, Output, reference, rounded};
use crate::reference::quantize as tokens;
use crate::reference::weights::decode;
use crate::verify::call::{Arg, Bound, Describe, Rule, Values};
use crate::verify::image::Rows;
use crate::verify::packed;
use crate::verify::random::Random;

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
}
