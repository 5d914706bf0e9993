//! A product whose bindings are too large for the device, as several: batches, rows or columns are halved, and each half
//! binds what it reaches.

use super::prepare::Product;
use super::{Along, Operand, Problem, Vector, Views};
use crate::ops::Plan;
use crate::{Binding, Caps, Layout};

impl<'a> Product<'a> {
    /// The pieces that the device can bind, in the order in which they run; nothing where the product needs none, or where
    /// halving does not help.
    pub fn pieces(&self, caps: &Caps) -> Option<Vec<Product<'a>>> {
        match self.largest() <= caps.binding_bytes() {
            true => None,
            false => self.halves(caps),
        }
    }

    /// Bytes of the largest binding.
    fn largest(&self) -> u64 {
        let operands = self.views.all().into_iter().flatten();
        let bytes = operands.map(|operand| operand.view.of(operand.dtype).bytes());
        let bytes = bytes.fold(self.problem.scratch(&self.views, &self.config), u64::max);
        self.weights.map_or(bytes, |weights| {
            bytes.max(weights.code_bytes(&self.problem)).max(weights.scale_bytes(&self.problem))
        })
    }

    fn halves(&self, caps: &Caps) -> Option<Vec<Product<'a>>> {
        let Problem { batch: [b0, b1], m, n, .. } = self.problem;
        // Columns in fours, rows in the largest tile; rows of packed weights by whole blocks of scales.
        let columns = if self.weights.is_some() { 128 } else { 32 };
        [(b0, 1), (b1, 1), (m, 16), (n, columns)].into_iter().enumerate().find_map(|(axis, (size, step))| {
            let half = (size / 2).next_multiple_of(step);
            if half == 0 || half >= size {
                return None;
            }
            let mut all = Vec::new();
            for (from, len) in [(0, half), (half, size - half)] {
                let piece = self.part(caps, axis, from, len)?;
                match piece.largest() {
                    bytes if bytes <= caps.binding_bytes() => all.push(piece),
                    // An axis that leaves what a binding must reach as it is does not help.
                    bytes if bytes >= self.largest() => return None,
                    _ => all.extend(piece.halves(caps)?),
                }
            }
            Some(all)
        })
    }

    /// `len` from `from` on of a batch axis (0, 1), of the rows (2) or of the columns (3) of d, each binding starting as
    /// late as the device allows; nothing where the Config does not fit it.
    fn part(&self, caps: &Caps, axis: usize, from: usize, len: usize) -> Option<Product<'a>> {
        let Product { mut problem, views, config, mut buffers, mut weights } = *self;
        let Problem { batch: [b0, b1], m, n, a, b, d, c, epilogue, trans_a, trans_b, .. } = &mut problem;
        *[b0, b1, m, n][axis] = len;
        (*trans_a, *trans_b) = (views.trans_a, views.trans_b);
        let align = u64::from(caps.limits.min_storage_buffer_offset_alignment.max(4));
        // The layout of a part, whose binding is moved on as far as may be; `rows`, `columns`: strides along those of d.
        let part = |Operand { view, dtype }: Operand, [rows, columns]: [usize; 2], binding: &mut Binding<'a>| {
            let offset = view.offset + from * [view.strides[0], view.strides[1], rows, columns][axis];
            let bytes = offset as u64 * dtype.bytes() / align * align;
            *binding = binding.after(bytes);
            Layout::strided(offset - (bytes / dtype.bytes()) as usize, view.strides)
        };
        let row = |operand: Operand| operand.view.strides[2];
        let of_a = if views.trans_a { [1, 0] } else { [row(views.a), 0] };
        let of_b = if views.trans_b { [0, row(views.b)] } else { [0, 1] };
        a.layout = part(views.a, of_a, &mut buffers.a);
        match &mut weights {
            // Tokens are words, of which the view of a says nothing.
            Some(weights) if axis == 2 && weights.tokens() => return None,
            Some(weights) if axis == 3 => {
                let [codes, scales] = weights.skip(from, align);
                buffers.b = buffers.b.after(codes);
                buffers.b2 = buffers.b2.map(|scales_of| scales_of.after(scales));
            }
            Some(_) => {}
            None => b.layout = part(views.b, of_b, &mut buffers.b),
        }
        d.layout = part(views.d, [row(views.d), 1], &mut buffers.d);
        if let (None, Some(operand), Some(offset), Some(binding)) =
            (weights, views.b2, &mut epilogue.gate, &mut buffers.b2)
        {
            *offset = part(operand, of_b, binding).offset;
        }
        for (operand, matrix, binding) in
            [(views.c, c, &mut buffers.c), (views.residual, &mut epilogue.residual, &mut buffers.residual)]
        {
            if let (Some(operand), Some(matrix), Some(binding)) = (operand, matrix, binding) {
                matrix.layout = part(operand, [row(operand), 1], binding);
            }
        }
        // A matrix of packed weights holds both products.
        if weights.is_some() && axis == 3 && epilogue.gate.is_some() {
            return None;
        }
        // Where gated, the bias of b2 lies behind all of that of b.
        if axis > 1 && epilogue.gate.is_some() && epilogue.bias.is_some() {
            return None;
        }
        for Vector { along, offset, .. } in [&mut epilogue.bias, &mut epilogue.scale].into_iter().flatten() {
            *offset += if axis == if *along == Along::Rows { 2 } else { 3 } { from } else { 0 };
        }
        let views = Views { packed: views.packed, ..problem.resolve().ok()? };
        match weights {
            Some(weights) => weights.check(&problem, &views, caps).ok()?,
            None => problem.check(&views, caps, &config).ok()?,
        }
        Some(Product { problem, views, config, buffers, weights })
    }
}
