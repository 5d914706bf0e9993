//! Gradients of a product are products.

use super::{Matrix, Problem};
use crate::error::Checked;
use crate::layout::{View, product};
use crate::ops::{Plan, named};
use crate::{Dtype, ErrorKind, Layout, Result};

/// Three Problems. Their d is contiguous, in the layout and dtype of what it is the gradient of; call the first
/// with `Buffers::new` in the order that its field tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backward {
    /// Of a. Buffers: (dd, b, da), or with `trans_a` (b, dd, da).
    pub da: Problem,
    /// Of b. Buffers: (a, dd, db), or with `trans_b` (dd, a, db).
    pub db: Problem,
    /// Of a bias per column, f32 `[n]`. Buffers: (one f32 of 1, dd, dbias).
    pub dbias: Problem,
}

/// The gradients of `d = alpha * op(a) op(b) + bias`, where the gradient of d lies as d does. An activation's
/// derivative is yours to multiply in before ([`activation_backward`](crate::activation_backward)). Their d may have another dtype; one
/// of f32 is added to what is there by a `c` that is the view of d, with a `beta` of 1: micro-batches, and what several products share.
/// Their inputs are taken exactly, whatever those of the product may be.
///
/// That of a residual is the gradient of d; that of c is dd times `beta`, where dd has the activation's derivative.
///
/// # Gated products
/// `d = act(alpha a b + bias) (alpha a b2 + bias2)`: with the products `x = alpha a b` and `up = alpha a b2`, kept or made again by this
/// Problem without gate, bias and activation, `activation_backward` (bias, `up`, `up_bias`) gives the gradients of both from that of d, its
/// `dx` and `dup`, and those of the biases in the same call. Then those of the Problem without gate: db of `dx`, db2 the same of `dup`, and da
/// of `dx` with b, to which that of `dup` with b2 is added by a `c` that is its d.
///
/// # Errors
/// Of a problem with a scale or a gate; where batches share a or b, and the rows of the others do not follow
/// each other evenly, so that their sum is no product.
pub fn backward(problem: &Problem) -> Result<Backward> {
    named::<Problem, _>(|| gradients(problem))
}

fn gradients(problem: &Problem) -> Checked<Backward> {
    let invalid = |arg, reason: &str| Err(ErrorKind::invalid(arg, reason));
    if problem.epilogue.scale.is_some() || problem.epilogue.gate.is_some() {
        return invalid("epilogue", "gradients are those of a plain product");
    }
    let views = problem.resolve()?;
    let [view_a, view_b, view_d] = [views.a, views.b, views.d].map(|operand| operand.view);
    let Problem { m, n, k, batch, trans_a, trans_b, alpha, a, b, d, .. } = *problem;
    let plain = Problem { batch, alpha, ..Problem::default() };
    let shared = |view: &View<3>| (0..2).any(|axis| batch[axis] > 1 && view.strides[axis] == 0);
    if shared(&view_a) {
        return invalid("a", "batches share it: the sum of their gradients is no product");
    }
    let like = |matrix: Matrix| Matrix::new(matrix.dtype);
    let da = match trans_a {
        false => Problem { m, n: k, k: n, a: d, b, trans_b: !trans_b, d: like(a), ..plain },
        true => Problem { m: k, n: m, k: n, a: b, trans_a: trans_b, b: d, trans_b: true, d: like(a), ..plain },
    };
    let product = |m: usize, batch: [usize; 2], a: Matrix, d: Matrix| match trans_b {
        false => Problem { m: k, n, k: m, a, trans_a: !trans_a, b: d, d: like(b), batch, ..plain },
        true => Problem { m: n, n: k, k: m, a: d, trans_a: true, b: a, trans_b: trans_a, d: like(b), batch, ..plain },
    };
    let folded = fold(&view_d, d.dtype);
    let rows_of_all = m.saturating_mul(batch[0]).saturating_mul(batch[1]);
    if shared(&view_b) && (0..2).any(|axis| batch[axis] > 1 && view_b.strides[axis] != 0) {
        return invalid("b", "shared along one axis of batches, but not the other: its gradient is no one product");
    }
    let db = match shared(&view_b) {
        false => product(m, batch, a, d),
        true => match (fold(&view_a, a.dtype).filter(|_| !trans_a), folded) {
            (Some(a), Some(d)) => product(rows_of_all, [1, 1], a, d),
            _ => return invalid("b", "batches share it, and rows of a or d do not follow each other evenly"),
        },
    };
    let Some(rows) = folded else {
        return invalid("d", "rows of its batches do not follow each other evenly");
    };
    let one = Matrix { dtype: Dtype::F32, layout: Layout::strided(0, [0, 0, 0]) };
    let f32 = Matrix::new(Dtype::F32);
    let dbias = Problem { m: 1, n, k: rows_of_all, a: one, trans_a: true, b: rows, d: f32, ..Problem::default() };
    Ok(Backward { da, db, dbias })
}

/// The rows of all batches as those of one matrix.
fn fold(view: &View<3>, dtype: Dtype) -> Option<Matrix> {
    let [b0, b1, rows] = view.sizes;
    let [s0, s1, ld] = view.strides;
    let even = (b1 == 1 || s1 as u64 == product!(rows, ld)) && (b0 == 1 || s0 as u64 == product!(b1, rows, ld));
    even.then_some(Matrix { dtype, layout: Layout::strided(view.offset, [0, 0, ld]) })
}
