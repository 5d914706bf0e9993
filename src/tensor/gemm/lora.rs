//! Products with adapters of low rank on tensors.

use crate::gemm::Activation;
use crate::lora::{self, Buffers, Problem};
use crate::norm::Vector;
use crate::{Batch, Element, ErrorKind, Result, Tensor, lora_backward};

const OP: &str = "lora";

/// Options of [`Tensor::lora`].
#[derive(Debug, Clone, Copy)]
pub struct LoraOptions<'a, T> {
    /// Multiplies the product of low rank.
    pub scale: f32,
    /// The adapter of each row; without it, adapter 0. A row whose adapter does not exist has none.
    pub adapter: Option<&'a Tensor<i32>>,
    /// `[n]`, added before the activation.
    pub bias: Option<&'a Tensor<T>>,
    /// Applied to the sum.
    pub activation: Activation,
}

impl<T> Default for LoraOptions<'_, T> {
    fn default() -> Self {
        LoraOptions { scale: 1.0, adapter: None, bias: None, activation: Activation::None }
    }
}

/// Gradients of a [`Tensor::lora`] without activation.
#[derive(Debug, Clone)]
pub struct LoraGradients<T> {
    /// Of x, in its shape.
    pub x: Tensor<T>,
    /// Of a, in its shape.
    pub a: Tensor<f32>,
    /// Of b, in its shape.
    pub b: Tensor<f32>,
}

impl<T: Element> Tensor<T> {
    /// `act(x W^T + scale (x A^T) B^T + bias)` of `x [.., k]`, `weight [n, k]`, `a [adapters, r, k]`, `b [adapters, n, r]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`lora::prepare`](crate::lora::prepare) and [`Batch::submit`].
    pub fn lora(
        &self,
        weight: &Tensor<T>,
        a: &Tensor<T>,
        b: &Tensor<T>,
        options: &LoraOptions<T>,
    ) -> Result<Tensor<T>> {
        let mut batch = self.context().batch();
        let y = batch.lora(self, weight, a, b, options)?;
        batch.submit()?;
        Ok(y)
    }
}

impl Batch {
    /// [`Tensor::lora`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn lora<T: Element>(
        &mut self,
        x: &Tensor<T>,
        weight: &Tensor<T>,
        a: &Tensor<T>,
        b: &Tensor<T>,
        options: &LoraOptions<T>,
    ) -> Result<Tensor<T>> {
        let (problem, shape) = self.low_rank(x, weight, [a, b], options)?;
        let y = self.context().allocate(OP, &shape, None)?;
        let mut buffers = Buffers::new(x.buffer(), weight.buffer(), a.buffer(), b.buffer(), y.buffer());
        if let Some(adapter) = options.adapter {
            buffers = buffers.adapter(adapter.buffer());
        }
        if let Some(bias) = options.bias {
            buffers = buffers.bias(bias.buffer());
        }
        let dispatch = lora::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(y)
    }

    /// Gradients of a [`Tensor::lora`] without activation by that of its result, `dy`.
    ///
    /// # Errors
    /// As there.
    pub fn lora_backward<T: Element>(
        &mut self,
        x: &Tensor<T>,
        weight: &Tensor<T>,
        a: &Tensor<T>,
        b: &Tensor<T>,
        dy: &Tensor<T>,
        options: &LoraOptions<T>,
    ) -> Result<LoraGradients<T>> {
        let (problem, shape) = self.low_rank(x, weight, [a, b], options)?;
        self.own(OP, "dy", dy)?;
        if *dy.shape() != shape[..] {
            return Err(ErrorKind::shape("dy", dy.shape(), format!("{shape:?}")).of(OP));
        }
        let lora::Backward { dx, factors } = lora::backward(&problem)?;
        let context = self.context().clone();
        let gradients = LoraGradients {
            x: context.allocate(OP, x.shape(), None)?,
            a: context.allocate(OP, a.shape(), None)?,
            b: context.allocate(OP, b.shape(), None)?,
        };
        if let Some(dx) = dx {
            let mut of_x = Buffers::new(dy.buffer(), weight.buffer(), b.buffer(), a.buffer(), gradients.x.buffer());
            if let Some(adapter) = options.adapter {
                of_x = of_x.adapter(adapter.buffer());
            }
            self.push(lora::prepare(context.kernels(), &dx, of_x)?);
        }
        let (da, db) = (gradients.a.buffer(), gradients.b.buffer());
        let mut of_factors = lora_backward::Buffers::new(x.buffer(), dy.buffer(), a.buffer(), b.buffer(), da, db);
        if let Some(adapter) = options.adapter {
            of_factors = of_factors.adapter(adapter.buffer());
        }
        self.push(lora_backward::prepare(context.kernels(), &factors, of_factors)?);
        Ok(gradients)
    }

    /// The Problem of these tensors, and the shape of its result.
    fn low_rank<T: Element>(
        &self,
        x: &Tensor<T>,
        weight: &Tensor<T>,
        [a, b]: [&Tensor<T>; 2],
        options: &LoraOptions<T>,
    ) -> Result<(Problem, Vec<usize>)> {
        let LoraOptions { scale, adapter, bias, activation } = *options;
        for (arg, tensor) in [("x", x), ("weight", weight), ("a", a), ("b", b)] {
            self.own(OP, arg, tensor)?;
        }
        let shape = |arg, have: &[usize], expected: String| Err(ErrorKind::shape(arg, have, expected).of(OP));
        let Some((&k, rows)) = x.shape().split_last() else { return shape("x", x.shape(), "[.., k]".into()) };
        let m = rows.iter().fold(1usize, |all, &size| all.saturating_mul(size));
        let &[n, w_k] = weight.shape() else { return shape("weight", weight.shape(), format!("[n, {k}]")) };
        let &[adapters, rank, a_k] = a.shape() else { return shape("a", a.shape(), format!("[adapters, r, {k}]")) };
        if w_k != k {
            return shape("weight", weight.shape(), format!("[n, {k}]"));
        }
        if a_k != k {
            return shape("a", a.shape(), format!("[adapters, r, {k}]"));
        }
        if *b.shape() != [adapters, n, rank] {
            return shape("b", b.shape(), format!("{:?}", [adapters, n, rank]));
        }
        if let Some(adapter) = adapter {
            self.own(OP, "adapter", adapter)?;
            if adapter.len() != m {
                return shape("adapter", adapter.shape(), format!("one for each of {m} rows"));
            }
        }
        if let Some(bias) = bias {
            self.own(OP, "bias", bias)?;
            if *bias.shape() != [n] {
                return shape("bias", bias.shape(), format!("[{n}]"));
            }
        }
        let of = T::DTYPE;
        let problem = Problem {
            m,
            n,
            k,
            rank,
            adapters,
            scale,
            adapter: adapter.map(|_| 0),
            x: of,
            weight: of,
            a: of,
            b: of,
            y: of,
            bias: bias.map(|_| Vector::of(of)),
            activation,
            ..Problem::default()
        };
        Ok((problem, rows.iter().copied().chain([n]).collect()))
    }
}
