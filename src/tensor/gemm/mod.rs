//! The matrix product on tensors.

pub(super) mod grouped_gemm;
pub(super) mod grouped_gemm_backward;
pub(super) mod lora;

use crate::error::Checked;
use crate::gemm::{self, Activation, Along, Buffers, Epilogue, Matrix, Precision, Problem, Vector};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "gemm";

/// Options of [`Tensor::matmul`].
#[derive(Debug, Clone, Copy)]
pub struct MatmulOptions<'a, T> {
    /// The last two axes of the left side are swapped.
    pub trans_a: bool,
    /// The last two axes of the right side are swapped.
    pub trans_b: bool,
    /// Multiplies the product.
    pub alpha: f32,
    /// `[n]`, added before the activation.
    pub bias: Option<&'a Tensor<T>>,
    /// Applied to the sum of product and bias.
    pub activation: Activation,
    /// A second right side, of the shape of the first: the activated product of the first is multiplied by its own.
    pub gate: Option<&'a Tensor<T>>,
    /// Of the result's shape, added last.
    pub residual: Option<&'a Tensor<T>>,
    /// What both sides may be rounded to.
    pub inputs: Precision,
}

impl<T> Default for MatmulOptions<'_, T> {
    fn default() -> Self {
        MatmulOptions {
            trans_a: false,
            trans_b: false,
            alpha: 1.0,
            bias: None,
            activation: Activation::None,
            gate: None,
            residual: None,
            inputs: Precision::Exact,
        }
    }
}

impl<T: Element> Tensor<T> {
    /// `[.., m, k] x [.., k, n]`; axes before the last two are equal, or those of `b` are absent (it is shared by
    /// all), or 1.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`gemm::prepare`](crate::gemm::prepare) and [`Batch::submit`].
    pub fn matmul(&self, b: &Tensor<T>, options: &MatmulOptions<T>) -> Result<Tensor<T>> {
        let mut batch = self.context().batch();
        let d = batch.matmul(self, b, options)?;
        batch.submit()?;
        Ok(d)
    }
}

/// Gradients of a plain [`Tensor::matmul`].
#[derive(Debug, Clone)]
pub struct MatmulGradients<T> {
    /// Of the left side, in its shape.
    pub a: Tensor<T>,
    /// Of the right side, in its shape.
    pub b: Tensor<T>,
    /// `[n]`: of a bias per column.
    pub bias: Tensor<f32>,
}

impl Batch {
    /// [`Tensor::matmul`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn matmul<T: Element>(
        &mut self,
        a: &Tensor<T>,
        b: &Tensor<T>,
        options: &MatmulOptions<T>,
    ) -> Result<Tensor<T>> {
        let MatmulOptions { activation, bias, gate, residual, .. } = *options;
        self.own(OP, "a", a)?;
        self.own(OP, "b", b)?;
        let (mut problem, shape) = plain(a, b, options).map_err(|kind| kind.of(OP))?;
        let bias_shape = [problem.n.saturating_mul(if gate.is_some() { 2 } else { 1 })];
        for (arg, tensor, want) in
            [("bias", bias, &bias_shape[..]), ("b2", gate, b.shape()), ("residual", residual, &shape)]
        {
            if let Some(tensor) = tensor {
                self.own(OP, arg, tensor)?;
                same(arg, tensor, want).map_err(|kind| kind.of(OP))?;
            }
        }
        let vector = Vector { dtype: T::DTYPE, along: Along::Columns, offset: 0 };
        problem.epilogue = Epilogue {
            bias: bias.map(|_| vector),
            activation,
            gate: gate.map(|_| 0),
            residual: residual.map(|_| Matrix::new(T::DTYPE)),
            ..Epilogue::default()
        };
        let d = self.context().allocate(OP, &shape, None)?;
        let mut buffers = Buffers::new(a.buffer(), b.buffer(), d.buffer());
        if let Some(bias) = bias {
            buffers = buffers.bias(bias.buffer());
        }
        if let Some(gate) = gate {
            buffers = buffers.b2(gate.buffer());
        }
        if let Some(residual) = residual {
            buffers = buffers.residual(residual.buffer());
        }
        let dispatch = gemm::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(d)
    }

    /// Gradients of a plain [`Tensor::matmul`] by that of its result, `dd`.
    ///
    /// # Errors
    /// As there.
    pub fn matmul_backward<T: Element>(
        &mut self,
        a: &Tensor<T>,
        b: &Tensor<T>,
        dd: &Tensor<T>,
        options: &MatmulOptions<T>,
    ) -> Result<MatmulGradients<T>> {
        for (arg, tensor) in [("a", a), ("b", b), ("dd", dd)] {
            self.own(OP, arg, tensor)?;
        }
        let (problem, shape) = plain(a, b, options).map_err(|kind| kind.of(OP))?;
        same("dd", dd, &shape).map_err(|kind| kind.of(OP))?;
        let gradient = gemm::backward(&problem)?;
        let context = self.context().clone();
        let (da, db) = (context.allocate(OP, a.shape(), None)?, context.allocate(OP, b.shape(), None)?);
        let dbias = context.allocate(OP, &[problem.n], None)?;
        let one = context.upload(&[1f32], &[1])?;
        let of_a = if problem.trans_a { (b, dd) } else { (dd, b) };
        let of_b = if problem.trans_b { (dd, a) } else { (a, dd) };
        for (problem, (x, y), d) in [(gradient.da, of_a, &da), (gradient.db, of_b, &db)] {
            let buffers = Buffers::new(x.buffer(), y.buffer(), d.buffer());
            self.push(gemm::prepare(context.kernels(), &problem, buffers)?);
        }
        let buffers = Buffers::new(one.buffer(), dd.buffer(), dbias.buffer());
        self.push(gemm::prepare(context.kernels(), &gradient.dbias, buffers)?);
        Ok(MatmulGradients { a: da, b: db, bias: dbias })
    }
}

/// Refuses a tensor of another shape.
fn same<T: Element>(arg: &'static str, tensor: &Tensor<T>, want: &[usize]) -> Checked {
    match tensor.shape() == want {
        true => Ok(()),
        false => Err(ErrorKind::shape(arg, tensor.shape(), format!("{want:?}"))),
    }
}

/// The axes before the last two, and the last two.
fn axes<'a, T: Element>(arg: &'static str, tensor: &'a Tensor<T>, trans: bool) -> Checked<(&'a [usize], [usize; 2])> {
    match tensor.shape() {
        [outer @ .., x, y] => Ok((outer, if trans { [*y, *x] } else { [*x, *y] })),
        shape => Err(ErrorKind::shape(arg, shape, "at least two axes")),
    }
}

/// The product without its epilogue, and the shape of its result. Rows of all batches are those of one matrix where b is
/// shared.
fn plain<T: Element>(a: &Tensor<T>, b: &Tensor<T>, options: &MatmulOptions<T>) -> Checked<(Problem, Vec<usize>)> {
    let (trans_a, trans_b) = (options.trans_a, options.trans_b);
    let (outer, [m, k]) = axes("a", a, trans_a)?;
    let (b_outer, [b_k, n]) = axes("b", b, trans_b)?;
    let shared = b_outer.iter().all(|&size| size == 1);
    if b_k != k || !(shared || b_outer == outer) {
        return Err(ErrorKind::shape("b", b.shape(), format!("k of {k}, and {outer:?} or nothing before")));
    }
    let batch = outer.iter().fold(1usize, |n, &size| n.saturating_mul(size));
    let MatmulOptions { alpha, inputs, .. } = *options;
    let of = Problem { trans_a, trans_b, alpha, inputs, ..Problem::new(m, n, k, T::DTYPE) };
    let problem = match (shared, trans_a) {
        (true, false) => Problem { m: batch.saturating_mul(m), ..of },
        (true, true) => {
            Problem { batch: [1, batch], b: Matrix::strided(T::DTYPE, 0, [0, 0, if trans_b { k } else { n }]), ..of }
        }
        (false, _) => Problem { batch: [1, batch], ..of },
    };
    Ok((problem, outer.iter().copied().chain([m, n]).collect()))
}
