//! RoPE on tensors.

use crate::rope::{self, Angles, Axes, Buffers, Frequencies, Heads, Positions, Problem, Style};
use crate::{Batch, Element, ErrorKind, Layout, Result, Tensor};

const OP: &str = "rope";

/// Options of [`Tensor::rope`].
#[derive(Debug, Clone, Copy)]
pub struct RopeOptions<'a> {
    /// One per pair that is rotated: `rotary_dim` is twice as many.
    pub frequencies: &'a Frequencies,
    /// Which elements make a pair.
    pub style: Style,
    /// Tensors are `[batch, seq, heads, head_dim]` rather than `[batch, heads, seq, head_dim]`.
    pub tokens_first: bool,
    /// Where tokens are.
    pub positions: RopePositions<'a>,
    /// By which of a token's positions a pair turns.
    pub axes: Axes,
    /// Turn the other way, as gradients do.
    pub inverse: bool,
}

impl<'a> RopeOptions<'a> {
    /// Style half, heads first, positions from 0.
    pub const fn new(frequencies: &'a Frequencies) -> Self {
        RopeOptions {
            frequencies,
            style: Style::Half,
            tokens_first: false,
            positions: RopePositions::Offset(0),
            axes: Axes::One,
            inverse: false,
        }
    }
}

/// Where tokens are: counted from an offset, or `[batch, seq]` (`[axes, batch, seq]` of several axes).
#[derive(Debug, Clone, Copy)]
pub enum RopePositions<'a> {
    /// Token `s` of each sequence is at this position plus `s`.
    Offset(i64),
    /// Positions that may be negative.
    Signed(&'a Tensor<i32>),
    /// Positions from 0 on.
    Unsigned(&'a Tensor<u32>),
}

impl<T: Element> Tensor<T> {
    /// Rotary position embedding.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for a tensor without four axes or positions of another shape, and those of
    /// [`rope::prepare`](crate::rope::prepare) and [`Batch::submit`].
    pub fn rope(&self, options: &RopeOptions) -> Result<Tensor<T>> {
        let mut batch = self.context().batch();
        let y = batch.rope(self, options)?;
        batch.submit()?;
        Ok(y)
    }
}

impl Batch {
    /// [`Tensor::rope`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn rope<T: Element>(&mut self, x: &Tensor<T>, options: &RopeOptions) -> Result<Tensor<T>> {
        let y = self.context().allocate(OP, x.shape(), None)?;
        self.record_rope([x, &y], None, options)?;
        Ok(y)
    }

    /// Of q and k by the same positions, in one dispatch; k may have fewer heads.
    ///
    /// # Errors
    /// As [`Tensor::rope`].
    pub fn rope_qk<T: Element>(
        &mut self,
        q: &Tensor<T>,
        k: &Tensor<T>,
        options: &RopeOptions,
    ) -> Result<(Tensor<T>, Tensor<T>)> {
        let q_out = self.context().allocate(OP, q.shape(), None)?;
        let k_out = self.context().allocate(OP, k.shape(), None)?;
        self.record_rope([q, &q_out], Some([k, &k_out]), options)?;
        Ok((q_out, k_out))
    }

    fn record_rope<T: Element>(
        &mut self,
        q: [&Tensor<T>; 2],
        k: Option<[&Tensor<T>; 2]>,
        options: &RopeOptions,
    ) -> Result<()> {
        self.own(OP, "q", q[0])?;
        let &[batch, n1, n2, head_dim] = q[0].shape() else {
            return Err(ErrorKind::shape("q", q[0].shape(), "four axes").of(OP));
        };
        let first = options.tokens_first;
        let (heads, seq) = if first { (n2, n1) } else { (n1, n2) };
        let of = |heads| if first { Heads::bshd(heads, seq, head_dim) } else { Heads::new(heads) };
        let mut buffers = Buffers::new(q[0].buffer(), q[1].buffer());
        let mut k_heads = None;
        if let Some([k, k_out]) = k {
            self.own(OP, "k", k)?;
            let n = k.shape().get(if first { 2 } else { 1 }).copied().unwrap_or(0);
            let want = if first { [batch, seq, n, head_dim] } else { [batch, n, seq, head_dim] };
            if k.shape() != want {
                let expected = format!("{want:?}, with heads of its own number");
                return Err(ErrorKind::shape("k", k.shape(), expected).of(OP));
            }
            k_heads = Some(of(n));
            buffers = buffers.k(k.buffer()).k_out(k_out.buffer());
        }
        let (layout, of_tokens) = (Layout::default(), [options.axes.count(), batch, seq]);
        let positions = match options.positions {
            RopePositions::Offset(offset) => Positions::Offset(offset),
            RopePositions::Signed(tensor) => {
                buffers = buffers.positions(self.positions(OP, tensor, of_tokens)?);
                Positions::Buffer { signed: true, layout }
            }
            RopePositions::Unsigned(tensor) => {
                buffers = buffers.positions(self.positions(OP, tensor, of_tokens)?);
                Positions::Buffer { signed: false, layout }
            }
        };
        let problem = Problem {
            batch,
            seq,
            head_dim,
            rotary_dim: 2 * options.frequencies.per_pair.len(),
            q: of(heads),
            k: k_heads,
            x: T::DTYPE,
            y: T::DTYPE,
            style: options.style,
            inverse: options.inverse,
            positions,
            axes: options.axes,
            angles: Angles::Frequencies(options.frequencies.clone()),
        };
        let dispatch = rope::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(())
    }
}
