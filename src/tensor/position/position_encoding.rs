//! Position encodings on tensors.

use crate::position_encoding::{self, Buffers, Encoding, Positions, Problem, Table};
use crate::{Batch, Element, ErrorKind, Layout, Result, Tensor};

const OP: &str = "position_encoding";

/// Options of [`Tensor::add_positions`].
#[derive(Debug, Clone, Copy)]
pub struct PositionOptions<'a, T> {
    /// What is added.
    pub encoding: PositionEncoding<'a, T>,
    /// Multiplies `x` before the encoding is added.
    pub scale: f32,
    /// `[batch, tokens]`, or `[2, batch, tokens]` of pictures; counted from 0 without.
    pub positions: Option<&'a Tensor<i32>>,
}

impl<'a, T> PositionOptions<'a, T> {
    /// Unscaled, positions from 0.
    pub const fn new(encoding: PositionEncoding<'a, T>) -> Self {
        PositionOptions { encoding, scale: 1.0, positions: None }
    }
}

/// What is added.
#[derive(Debug, Clone, Copy)]
pub enum PositionEncoding<'a, T> {
    /// A wave per element.
    Waves(&'a [position_encoding::Wave]),
    /// `[len, dim]`, by position.
    Table(&'a Tensor<T>),
    /// `[len, dim]` each, by column and by row.
    Tables(&'a Tensor<T>, &'a Tensor<T>),
}

impl<T: Element> Tensor<T> {
    /// `scale * x + encoding` of tokens `[batch, seq, dim]`, or of pictures `[batch, rows, cols, dim]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for tensors of other shapes, and those of
    /// [`position_encoding::prepare`](crate::position_encoding::prepare) and [`Batch::submit`].
    pub fn add_positions(&self, options: &PositionOptions<T>) -> Result<Tensor<T>> {
        let mut batch = self.context().batch();
        let y = batch.add_positions(self, options)?;
        batch.submit()?;
        Ok(y)
    }
}

impl Batch {
    /// [`Tensor::add_positions`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn add_positions<T: Element>(&mut self, x: &Tensor<T>, options: &PositionOptions<T>) -> Result<Tensor<T>> {
        self.own(OP, "x", x)?;
        let (batch, rows, cols, dim) = match *x.shape() {
            [batch, seq, dim] => (batch, 1, seq, dim),
            [batch, rows, cols, dim] => (batch, rows, cols, dim),
            _ => return Err(ErrorKind::shape("x", x.shape(), "three axes, or four of pictures").of(OP)),
        };
        let y = self.context().allocate(OP, x.shape(), None)?;
        let mut buffers = Buffers::new(x.buffer(), y.buffer());
        let table = |arg, table: &Tensor<T>| -> Result<Table> {
            self.own(OP, arg, table)?;
            match *table.shape() {
                [len, width] if width == dim => Ok(Table { len, offset: 0 }),
                _ => Err(ErrorKind::shape(arg, table.shape(), format!("[len, {dim}]")).of(OP)),
            }
        };
        let encoding = match options.encoding {
            PositionEncoding::Waves(waves) => Encoding::Waves(waves.to_vec()),
            PositionEncoding::Table(one) => {
                buffers = buffers.table(one.buffer());
                Encoding::Learned { dtype: T::DTYPE, table: table("table", one)?, row_table: None }
            }
            PositionEncoding::Tables(one, other) => {
                buffers = buffers.table(one.buffer()).row_table(other.buffer());
                let row_table = Some(table("row_table", other)?);
                Encoding::Learned { dtype: T::DTYPE, table: table("table", one)?, row_table }
            }
        };
        let mut positions = Positions::default();
        if let Some(tensor) = options.positions {
            positions = Positions::Buffer { signed: true, layout: Layout::default() };
            buffers =
                buffers.positions(self.positions(OP, tensor, [encoding.axes(), batch, rows.saturating_mul(cols)])?);
        }
        let problem = Problem {
            batch,
            rows,
            cols,
            dim,
            x: T::DTYPE,
            y: T::DTYPE,
            scale: options.scale,
            positions,
            encoding,
            ..Problem::default()
        };
        let dispatch = position_encoding::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(y)
    }
}
