//! How a call of gemm is made and judged.

pub mod gemm_quant;
pub mod grouped_gemm;
pub mod lora;
pub mod lora_backward;

use crate::Layout;
use crate::gemm::{Along, Buffers, Epilogue, Matrix, Problem, Vector};
use crate::reference::gemm::{Inputs, Output, reference, rounded};
use crate::verify::call::{Arg, Bound, Describe, Rule, Values};
use crate::verify::image::Rows;

/// Arguments that a Problem may ask for.
pub const OPTIONAL: [&str; 5] = ["b2", "c", "residual", "bias", "scale"];

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let Epilogue { scale, bias, gate, residual, .. } = self.epilogue;
        let matrix = |Matrix { dtype, layout }, (sizes, cols)| Rows::new::<3>(layout, sizes, cols, dtype);
        let vector = |Vector { dtype, along, offset }, products| {
            Rows::flat(offset, products * if along == Along::Rows { self.m } else { self.n }, dtype)
        };
        let products = 1 + usize::from(gate.is_some());
        let b2 = |offset| matrix(Matrix { layout: Layout { offset, ..self.b.layout }, ..self.b }, self.b_sizes());
        let inputs = [
            ("a", Some(matrix(self.a, self.a_sizes()))),
            ("b", Some(matrix(self.b, self.b_sizes()))),
            ("b2", gate.map(b2)),
            ("c", self.c.map(|c| matrix(c, self.d_sizes()))),
            ("residual", residual.map(|residual| matrix(residual, self.d_sizes()))),
            ("bias", bias.map(|bias| vector(bias, products))),
            ("scale", scale.map(|scale| vector(scale, 1))),
        ];
        let inputs = inputs.into_iter().filter_map(|(name, view)| Some(Arg::read(name, view?)));
        inputs.chain([Arg::write("d", matrix(self.d, self.d_sizes()))]).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("a"), bound.get("b"), bound.get("d"));
        bound.with(
            buffers,
            [
                ("b2", Buffers::b2),
                ("c", Buffers::c),
                ("residual", Buffers::residual),
                ("bias", Buffers::bias),
                ("scale", Buffers::scale),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    fn flushed(&self) -> Option<Problem> {
        let kept = |factor: f32| if factor.is_subnormal() { 0.0 } else { factor };
        let (alpha, beta) = (kept(self.alpha), kept(self.beta));
        ((alpha, beta) != (self.alpha, self.beta)).then_some(Problem { alpha, beta, ..*self })
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let [b2, c, residual, bias, scale] = OPTIONAL.map(|name| values.get(name).map(Vec::as_slice));
        let inputs = Inputs { a: &values["a"], b: &values["b"], b2, c, residual, bias, scale };
        let Output { d: oracle, mag } = reference::<f64>(self, &inputs);
        let [a, b, gate] = ["a", "b", "b2"].map(|name| rounded(self, values.get(name).map_or(&[], Vec::as_slice)));
        let low = reference::<f32>(self, &Inputs { a: &a, b: &b, b2: b2.and(Some(&gate)), ..inputs }).d;
        vec![("d", Rule::Rows { cols: self.n, dtype: self.d.dtype, oracle, low, mag })]
    }
}
