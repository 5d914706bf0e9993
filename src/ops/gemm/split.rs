//! A product whose bindings are too large for the device, as several: batches, rows or columns are halved, and each half
//! binds what it reaches.

use super::{Along, Buffers, Config, Matrix, Problem, Vector, Views, choose};
use crate::layout::View;
use crate::ops::Plan;
use crate::{Binding, Caps, Dtype, Layout};

/// A product and its memory.
pub(super) struct Piece<'a> {
    pub problem: Problem,
    pub buffers: Buffers<'a>,
}

impl<'a> Piece<'a> {
    /// The pieces that the device can bind, in the order in which they run; nothing where the product needs none, or where
    /// halving does not help.
    pub fn pieces(self, caps: &Caps, views: &Views, config: &Config) -> Option<Vec<Piece<'a>>> {
        match self.largest(views, config) <= caps.limits.max_storage_buffer_binding_size {
            true => None,
            false => self.halved(caps, views, config),
        }
    }

    /// Bytes of the largest binding.
    fn largest(&self, views: &Views, config: &Config) -> u64 {
        let reaches = self.problem.reaches(views).into_iter().filter_map(|(.., reach)| reach);
        reaches.map(|reach| reach.bytes()).fold(self.problem.scratch(views, config), u64::max)
    }

    fn halved(self, caps: &Caps, views: &Views, config: &Config) -> Option<Vec<Piece<'a>>> {
        let limit = caps.limits.max_storage_buffer_binding_size;
        let Problem { batch: [b0, b1], m, n, .. } = self.problem;
        let before = self.largest(views, config);
        // Columns in fours, rows in the largest tile.
        [(b0, 1), (b1, 1), (m, 16), (n, 32)].into_iter().enumerate().find_map(|(axis, (size, step))| {
            let half = (size / 2).next_multiple_of(step);
            if half == 0 || half >= size {
                return None;
            }
            let mut all = Vec::new();
            for (from, len) in [(0, half), (half, size - half)] {
                let piece = self.part(caps, views, axis, from, len)?;
                let views = piece.problem.resolve().ok()?;
                choose::check(&piece.problem, &views, caps, config).ok()?;
                match piece.largest(&views, config) {
                    bytes if bytes <= limit => all.push(piece),
                    // An axis that leaves what a binding must reach as it is does not help.
                    bytes if bytes >= before => return None,
                    _ => all.extend(piece.halved(caps, &views, config)?),
                }
            }
            Some(all)
        })
    }

    /// `len` from `from` on of a batch axis (0, 1), of the rows (2) or of the columns (3) of d, each binding starting as
    /// late as the device allows.
    fn part(&self, caps: &Caps, views: &Views, axis: usize, from: usize, len: usize) -> Option<Piece<'a>> {
        let Piece { mut problem, mut buffers } = *self;
        let [b0, b1] = &mut problem.batch;
        *[b0, b1, &mut problem.m, &mut problem.n][axis] = len;
        (problem.trans_a, problem.trans_b) = (views.trans_a, views.trans_b);
        let align = u64::from(caps.limits.min_storage_buffer_offset_alignment.max(4));
        // Where a matrix starts, in a binding moved on as far as may be. `rows`, `columns`: its strides along those of d.
        let start = |view: &View<3>, [rows, columns]: [usize; 2], dtype: Dtype, binding: &mut Binding<'a>| {
            let [s0, s1, _] = view.strides;
            let offset = view.offset + from * [s0, s1, rows, columns][axis];
            let bytes = offset as u64 * dtype.bytes() / align * align;
            *binding = binding.after(bytes);
            offset - (bytes / dtype.bytes()) as usize
        };
        let place = |matrix: &mut Matrix, view: &View<3>, strides: [usize; 2], binding: &mut Binding<'a>| {
            matrix.layout = Layout::strided(start(view, strides, matrix.dtype, binding), view.strides);
        };
        let Views { a, b, d, .. } = views;
        let of_b = if views.trans_b { [0, b.strides[2]] } else { [0, 1] };
        place(&mut problem.a, a, if views.trans_a { [1, 0] } else { [a.strides[2], 0] }, &mut buffers.a);
        place(&mut problem.b, b, of_b, &mut buffers.b);
        place(&mut problem.d, d, [d.strides[2], 1], &mut buffers.d);
        let Problem { b: Matrix { dtype, .. }, c, epilogue, .. } = &mut problem;
        if let (Some(view), Some(offset), Some(binding)) = (&views.b2, &mut epilogue.gate, &mut buffers.b2) {
            *offset = start(view, of_b, *dtype, binding);
        }
        for (view, matrix, binding) in
            [(&views.c, c, &mut buffers.c), (&views.residual, &mut epilogue.residual, &mut buffers.residual)]
        {
            if let (Some(view), Some(matrix), Some(binding)) = (view, matrix, binding) {
                place(matrix, view, [view.strides[2], 1], binding);
            }
        }
        for Vector { along, offset, .. } in [&mut epilogue.bias, &mut epilogue.scale].into_iter().flatten() {
            if axis == if *along == Along::Rows { 2 } else { 3 } {
                *offset += from;
            }
        }
        // The values of b2 lie behind all of those of b.
        let gated_bias = axis > 1 && epilogue.gate.is_some() && epilogue.bias.is_some();
        (!gated_bias).then_some(Piece { problem, buffers })
    }
}
