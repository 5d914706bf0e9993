//! How a call of gemm is made and judged.

pub mod gemm_quant;
pub mod grouped_gemm;
pub mod grouped_gemm_backward;
pub mod lora;
pub mod lora_backward;

use crate::gemm::{Activation, Algorithm, Along, Buffers, Config, Epilogue, Matrix, Problem, Vector};
use crate::reference::gemm::{Inputs, Output, reference, rounded};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::small::{self, laid, like};
use crate::{Dtype, Layout};

/// Arguments that a Problem may ask for.
pub const OPTIONAL: [&str; 5] = ["b2", "c", "residual", "bias", "scale"];

/// Multiply-adds of a small call, at most.
const WORK: usize = 2_000_000;

/// What the sizes of small products follow from.
struct Tiles {
    /// m, n and k.
    sizes: [usize; 3],
    /// Rows, columns and k that a workgroup has at a time.
    tile: [usize; 3],
    /// k is a multiple of this in every call, or in none.
    whole: usize,
    /// k of a turn of the longest loop.
    turn: usize,
    /// Parts of k.
    parts: usize,
    /// Products of each m, n and k.
    products: usize,
}

impl Tiles {
    /// m, n and k of small products: several tiles of d and turns along k, in one call or in two; many turns; one row or column, if
    /// there are few.
    fn small(&self) -> impl Iterator<Item = [usize; 3]> + use<> {
        let Tiles { sizes: [m, n, _], tile: [tile_m, tile_n, _], turn, parts, products, .. } = *self;
        let (rows, columns) = (like(m, tile_m + 1), like(n, tile_n + 1));
        let (few, less) = (like(m, 9), like(n, 9));
        let turns = self.k((2 * turn).max(32) + 1);
        let many = (16 * turn * parts.max(1)).max(256).min(WORK / (few * less * products).max(1));
        let mut all = match rows * columns * turns * products <= WORK {
            true => vec![[rows, columns, turns]],
            false => vec![[rows, less, turns], [few, columns, turns]],
        };
        all.push([few, less, self.k(many + 1)]);
        match m <= n {
            true if m <= 16 => all.push([m.min(1), columns, turns]),
            false if n <= 16 => all.push([rows, n.min(1), turns]),
            _ => {}
        }
        all.into_iter()
    }

    /// The least k from `small` on that is like that of the product: with the same remainder by 8, whole tiles or not, and
    /// some for each part.
    fn k(&self, small: usize) -> usize {
        let Tiles { sizes: [.., k], tile: [.., tile_k], whole, parts, .. } = *self;
        let (parts, whole) = (parts.max(1), whole.max(1));
        let alike = |&own: &usize| {
            let part = own.div_ceil(parts).next_multiple_of(tile_k.max(4));
            own % 8 == k % 8 && own.is_multiple_of(whole) == k.is_multiple_of(whole) && own.div_ceil(part) == parts
        };
        (small..k).find(alike).unwrap_or(k)
    }
}

/// The Problem of these sizes.
fn smaller(problem: &Problem, batch: [usize; 2], [m, n, k]: [usize; 3]) -> Problem {
    // Shaders know nothing of an alpha of 0, with which nothing is told of the product.
    let alpha = if problem.alpha == 0.0 { 0.5 } else { problem.alpha };
    let mut own = Problem { m, n, k, batch, alpha, ..*problem };
    // The stride of an axis that has no second batch may be anything.
    let spread = |strides: [usize; 3]| {
        std::array::from_fn(
            |axis| if problem.batch.get(axis).is_some_and(|&size| size <= 1) { 8 } else { strides[axis] },
        )
    };
    let of = |Matrix { dtype, layout }, (sizes, cols)| {
        let layout = Layout { strides: layout.strides.map(spread), ..layout };
        Matrix { dtype, layout: laid(layout, sizes, cols) }
    };
    let vector = |vector: Vector| Vector { offset: vector.offset % 8, ..vector };
    own.a = of(own.a, own.a_sizes());
    own.b = of(own.b, own.b_sizes());
    own.d = of(own.d, own.d_sizes());
    own.c = own.c.map(|c| of(c, own.d_sizes()));
    let Epilogue { scale, bias, gate, residual, .. } = problem.epilogue;
    own.epilogue = Epilogue {
        scale: scale.map(vector),
        bias: bias.map(vector),
        gate: gate.map(|offset| offset % 8),
        residual: residual.map(|residual| of(residual, own.d_sizes())),
        ..problem.epilogue
    };
    own
}

/// The last row of a is large, where there is an activation: its exponentials overflow.
fn loud(problem: &Problem, values: &mut Values) {
    let Problem { m, k, trans_a, .. } = *problem;
    if problem.epilogue.activation != Activation::None {
        let last = |i: usize| if trans_a { i % m + 1 == m } else { i / k % m + 1 == m };
        let a = values.get_mut("a").into_iter().flatten().enumerate();
        a.filter(|(i, _)| last(*i)).for_each(|(_, v)| *v *= 16.0);
    }
    hidden(problem, values);
}

/// What has no part is NaN.
fn hidden(problem: &Problem, values: &mut Values) {
    let product = problem.alpha == 0.0 || problem.k == 0;
    for name in ["a", "b", "b2", "scale"].into_iter().filter(|_| product).chain((problem.beta == 0.0).then_some("c")) {
        values.entry(name).and_modify(|all| all.fill(f64::NAN));
    }
}

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

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let [rows, columns, k] = config.tile.map(|size| size as usize);
        let vector = config.algorithm == Algorithm::Vector;
        let batch = self.batch.map(|size| size.min(2));
        let gate = self.epilogue.gate;
        let tiles = Tiles {
            sizes: [self.m, self.n, self.k],
            tile: if vector && self.m > self.n { [columns, rows, k] } else { [rows, columns, k] },
            whole: k,
            turn: if vector { k * config.lanes as usize } else { k },
            parts: config.parts as usize,
            products: batch[0] * batch[1] * (1 + usize::from(gate.is_some())),
        };
        // Batches, and what the epilogue is told of by Params: calls by these shaders may have them.
        let small =
            (0..).zip(tiles.small()).map(|(i, sizes)| smaller(self, if i == 0 { batch } else { [2, 2] }, sizes));
        let mut other = smaller(self, [1, 2], [like(self.m, 9), like(self.n, 9), tiles.k(33)]);
        other.epilogue.activation = Activation::Silu;
        let Epilogue { scale, bias, residual, .. } = self.epilogue;
        if self.c.or(residual).is_some() || bias.or(scale).is_some() {
            let vector = |along, offset| Some(Vector { dtype: Dtype::Bf16, along, offset });
            (other.alpha, other.beta) = (0.5, -1.5);
            other.c = gate.is_none().then_some(Matrix::new(Dtype::F16));
            other.epilogue.scale = vector(Along::Columns, 1);
            other.epilogue.bias = vector(Along::Rows, 2);
            other.epilogue.residual = Some(Matrix::new(Dtype::Bf16));
        }
        // Neither a nor b has a part.
        let without = Problem { alpha: 0.0, ..smaller(self, [1, 1], [like(self.m, 9), like(self.n, 9), tiles.k(33)]) };
        let mut all = small::and_own(small.chain([other, without]), self, self.flops() / 2.0);
        for (i, telling) in all.iter_mut().enumerate() {
            telling.set = Some(if i == 0 || telling.problem == other { loud } else { hidden });
        }
        all
    }
}
