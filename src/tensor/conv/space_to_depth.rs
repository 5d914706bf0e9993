//! Blocks of pixels to channels, and back, on tensors.

use super::{picture, shown};
use crate::conv::Order;
use crate::space_to_depth::{self, Buffers, Mode, Packed, Problem};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "space_to_depth";

impl<T: Element> Tensor<T> {
    /// Blocks of pixels of `[n, c, h, w]`, or by `order` `[n, h, w, c]`, to channels; PyTorch's `pixel_unshuffle` is [`Mode::Crd`].
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`space_to_depth::prepare`](crate::space_to_depth::prepare) and [`Batch::submit`].
    pub fn space_to_depth(&self, block: [usize; 2], mode: Mode, order: Order) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.space_to_depth(self, block, mode, order))
    }

    /// The way back, and its gradient; PyTorch's `pixel_shuffle` is [`Mode::Crd`].
    ///
    /// # Errors
    /// As there.
    pub fn depth_to_space(&self, block: [usize; 2], mode: Mode, order: Order) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.depth_to_space(self, block, mode, order))
    }

    /// Blocks of patches `[rows, d]` of pictures whose grids, `[pictures, 2]`, are height and width in patches, to
    /// `[rows / (h w), h w d]` for a block of h x w; 0 behind a grid that is not whole blocks, or too large.
    ///
    /// # Errors
    /// As there.
    pub fn merge_patches(&self, grids: &Tensor<u32>, block: [usize; 2]) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.merge_patches(self, grids, block))
    }

    /// The way back from what [`merge_patches`](Self::merge_patches) has merged, and its gradient.
    ///
    /// # Errors
    /// As there.
    pub fn split_patches(&self, grids: &Tensor<u32>, block: [usize; 2]) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.split_patches(self, grids, block))
    }
}

impl Batch {
    /// [`Tensor::space_to_depth`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn space_to_depth<T: Element>(
        &mut self,
        x: &Tensor<T>,
        block: [usize; 2],
        mode: Mode,
        order: Order,
    ) -> Result<Tensor<T>> {
        self.moved(x, Problem { block, mode, order, ..Problem::default() })
    }

    /// [`Tensor::depth_to_space`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn depth_to_space<T: Element>(
        &mut self,
        x: &Tensor<T>,
        block: [usize; 2],
        mode: Mode,
        order: Order,
    ) -> Result<Tensor<T>> {
        self.moved(x, Problem { block, mode, order, inverse: true, ..Problem::default() })
    }

    /// [`Tensor::merge_patches`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn merge_patches<T: Element>(
        &mut self,
        x: &Tensor<T>,
        grids: &Tensor<u32>,
        block: [usize; 2],
    ) -> Result<Tensor<T>> {
        self.patches(x, grids, block, false)
    }

    /// [`Tensor::split_patches`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn split_patches<T: Element>(
        &mut self,
        x: &Tensor<T>,
        grids: &Tensor<u32>,
        block: [usize; 2],
    ) -> Result<Tensor<T>> {
        self.patches(x, grids, block, true)
    }

    fn moved<T: Element>(&mut self, x: &Tensor<T>, mut problem: Problem) -> Result<Tensor<T>> {
        self.own(OP, "x", x)?;
        let shape = |expected: &str| ErrorKind::shape("x", x.shape(), expected).of(OP);
        let (batch, channels, size) = picture(x.shape(), 2, problem.order).ok_or_else(|| shape("four axes"))?;
        (problem.batch, problem.channels, problem.size) = (batch, channels, size);
        let [block_h, block_w] = problem.block;
        let elements = block_h.saturating_mul(block_w);
        if problem.inverse {
            problem.channels = whole(channels, elements).ok_or_else(|| shape("channels of whole blocks"))?;
            problem.size = [size[0].saturating_mul(block_h), size[1].saturating_mul(block_w)];
        }
        let (channels, size) = match problem.inverse {
            true => (problem.channels, problem.size),
            false => (channels.saturating_mul(elements), problem.deep()),
        };
        let y = shown(2, problem.order, batch, channels, size);
        self.rearranged(x, None, problem, &y)
    }

    fn patches<T: Element>(
        &mut self,
        x: &Tensor<T>,
        grids: &Tensor<u32>,
        block: [usize; 2],
        inverse: bool,
    ) -> Result<Tensor<T>> {
        self.own(OP, "x", x)?;
        self.own(OP, "grids", grids)?;
        let &[pictures, 2] = grids.shape() else {
            return Err(ErrorKind::shape("grids", grids.shape(), "[pictures, 2]").of(OP));
        };
        let &[rows, cols] = x.shape() else {
            return Err(ErrorKind::shape("x", x.shape(), "two axes").of(OP));
        };
        let elements = block[0].saturating_mul(block[1]);
        let Some(divided) = whole(if inverse { cols } else { rows }, elements) else {
            return Err(ErrorKind::shape("x", x.shape(), format!("whole blocks of {elements}")).of(OP));
        };
        let [wide, deep] = match inverse {
            true => [[rows.saturating_mul(elements), divided], [rows, cols]],
            false => [[rows, cols], [divided, cols.saturating_mul(elements)]],
        };
        let problem = Problem {
            channels: wide[1],
            size: [1, wide[0]],
            block,
            inverse,
            packed: Some(Packed { pictures, grids: 0 }),
            order: Order::Nhwc,
            ..Problem::default()
        };
        self.rearranged(x, Some(grids), problem, &if inverse { wide } else { deep })
    }

    fn rearranged<T: Element>(
        &mut self,
        x: &Tensor<T>,
        grids: Option<&Tensor<u32>>,
        problem: Problem,
        shape: &[usize],
    ) -> Result<Tensor<T>> {
        let problem = Problem { x: T::DTYPE, ..problem };
        problem.blocks_fit()?;
        let y = self.context().allocate(OP, shape, None)?;
        let mut buffers = Buffers::new(x.buffer(), y.buffer());
        if let Some(grids) = grids {
            buffers = buffers.grids(grids.buffer());
        }
        let dispatch = space_to_depth::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(y)
    }
}

fn whole(n: usize, parts: usize) -> Option<usize> {
    (parts > 0 && n.is_multiple_of(parts)).then(|| n / parts)
}
