//! The matrix product on tensors.

use crate::gemm::{self, Activation, Along, Buffers, Epilogue, Matrix, Problem, Vector};
use crate::{Batch, Element, Error, ErrorKind, Result, Tensor};

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
    pub activation: Activation,
    /// A second right side, of the shape of the first: the activated product of the first is multiplied by its own.
    pub gate: Option<&'a Tensor<T>>,
    /// Of the result's shape, added last.
    pub residual: Option<&'a Tensor<T>>,
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
    pub a: Tensor<T>,
    pub b: Tensor<T>,
    /// `[n]`: of a bias per column.
    pub bias: Tensor<f32>,
}

/// The last two axes, and the product of those before.
fn matrix(arg: &'static str, shape: &[usize], trans: bool) -> Result<(usize, usize, usize)> {
    match *shape {
        [ref outer @ .., x, y] => {
            let (rows, cols) = if trans { (y, x) } else { (x, y) };
            Ok((outer.iter().fold(1usize, |n, &size| n.saturating_mul(size)), rows, cols))
        }
        _ => Err(Error {
            op: OP,
            kind: ErrorKind::Shape { arg, have: shape.to_vec(), expected: "at least two axes".into() },
        }),
    }
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
        self.own(OP, "a", a)?;
        self.own(OP, "b", b)?;
        let mut problem = plain(a, b, options)?;
        let (_, m, _) = matrix("a", a.shape(), options.trans_a)?;
        let n = problem.n;
        let outer = &a.shape()[..a.shape().len() - 2];
        let shape: Vec<usize> = outer.iter().copied().chain([m, n]).collect();
        let d = self.context().allocate(OP, &shape, None)?;
        let of = Matrix::new(T::DTYPE);
        let vector = Vector { dtype: T::DTYPE, along: Along::Columns, offset: 0 };
        problem.epilogue = Epilogue {
            bias: options.bias.map(|_| vector),
            activation: options.activation,
            gate: options.gate.map(|_| 0),
            residual: options.residual.map(|_| of),
            ..Epilogue::default()
        };
        let mut buffers = Buffers::new(a.buffer(), b.buffer(), d.buffer());
        let same = |arg, tensor: &Tensor<T>, want: &[usize]| match tensor.shape() == want {
            true => Ok(()),
            false => Err(Error {
                op: OP,
                kind: ErrorKind::Shape { arg, have: tensor.shape().to_vec(), expected: format!("{want:?}") },
            }),
        };
        if let Some(bias) = options.bias {
            self.own(OP, "bias", bias)?;
            same("bias", bias, &[if options.gate.is_some() { 2 * n } else { n }])?;
            buffers = buffers.bias(bias.buffer());
        }
        if let Some(gate) = options.gate {
            self.own(OP, "b2", gate)?;
            same("b2", gate, b.shape())?;
            buffers = buffers.b2(gate.buffer());
        }
        if let Some(residual) = options.residual {
            self.own(OP, "residual", residual)?;
            same("residual", residual, &shape)?;
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
        let problem = plain(a, b, options)?;
        let (_, m, _) = matrix("a", a.shape(), options.trans_a)?;
        let want: Vec<usize> = a.shape()[..a.shape().len() - 2].iter().copied().chain([m, problem.n]).collect();
        if dd.shape() != want {
            return Err(Error {
                op: OP,
                kind: ErrorKind::Shape { arg: "dd", have: dd.shape().to_vec(), expected: format!("{want:?}") },
            });
        }
        let gradient = gemm::backward(&problem)?;
        let context = self.context().clone();
        let (da, db) = (context.allocate(OP, a.shape(), None)?, context.allocate(OP, b.shape(), None)?);
        let dbias = context.allocate(OP, &[problem.n], None)?;
        let one = context.upload(&[1f32], &[1])?;
        let (x, y) = if problem.trans_a { (b, dd) } else { (dd, b) };
        self.push(gemm::prepare(context.kernels(), &gradient.da, Buffers::new(x.buffer(), y.buffer(), da.buffer()))?);
        let (x, y) = if problem.trans_b { (dd, a) } else { (a, dd) };
        self.push(gemm::prepare(context.kernels(), &gradient.db, Buffers::new(x.buffer(), y.buffer(), db.buffer()))?);
        let buffers = Buffers::new(one.buffer(), dd.buffer(), dbias.buffer());
        self.push(gemm::prepare(context.kernels(), &gradient.dbias, buffers)?);
        Ok(MatmulGradients { a: da, b: db, bias: dbias })
    }
}

/// The product without its epilogue. Rows of all batches are those of one matrix where b is shared.
fn plain<T: Element>(a: &Tensor<T>, b: &Tensor<T>, options: &MatmulOptions<T>) -> Result<Problem> {
    let (trans_a, trans_b) = (options.trans_a, options.trans_b);
    let (batch, m, k) = matrix("a", a.shape(), trans_a)?;
    let (b_batch, b_k, n) = matrix("b", b.shape(), trans_b)?;
    let outer = |tensor: &Tensor<T>| tensor.shape()[..tensor.shape().len() - 2].to_vec();
    if b_k != k || (b_batch != 1 && outer(a) != outer(b)) {
        let expected = format!("k of {k}, and {:?} or nothing before", outer(a));
        return Err(Error { op: OP, kind: ErrorKind::Shape { arg: "b", have: b.shape().to_vec(), expected } });
    }
    let of = Problem { trans_a, trans_b, alpha: options.alpha, ..Problem::new(m, n, k, T::DTYPE) };
    Ok(match (b_batch == 1, trans_a) {
        (true, false) => Problem { m: batch * m, ..of },
        (true, true) => {
            Problem { batch: [1, batch], b: Matrix::strided(T::DTYPE, 0, [0, 0, if trans_b { k } else { n }]), ..of }
        }
        (false, _) => Problem { batch: [1, batch], ..of },
    })
}
