//! Small sizes that are like large ones.

use super::call::Telling;
use crate::{Layout, Mask};

/// The size of at least `small` that has the remainder of `size` by 8, or `size` itself where that is smaller.
pub fn like(size: usize, small: usize) -> usize {
    like_by(8, size, small)
}

/// The same with the remainder by another number.
pub fn like_by(by: usize, size: usize, small: usize) -> usize {
    size.min(small - small % by + size % by + if size % by < small % by { by } else { 0 })
}

/// A layout of these sizes with the alignment of another one: its offset and strides have the same remainders by 8.
pub fn laid<const N: usize>(layout: Layout<N>, sizes: [usize; N], cols: usize) -> Layout<N> {
    laid_by(8, layout, sizes, cols)
}

/// The same with the remainders by another number.
pub fn laid_by<const N: usize>(by: usize, layout: Layout<N>, sizes: [usize; N], cols: usize) -> Layout<N> {
    let strides = layout.strides.map(|strides| {
        let mut own = [0; N];
        let mut next = cols;
        for axis in (0..N).rev() {
            own[axis] = if strides[axis] == 0 { 0 } else { next + (strides[axis] + by - next % by) % by };
            next = own[axis].max(next).saturating_mul(sizes[axis]);
        }
        own
    });
    Layout { offset: layout.offset % by, strides }
}

/// A small number of rows, in axes that are 1 or more where those of `rows` and `dims` are.
pub fn rows(rows: usize, [n1, n2]: [usize; 2], most: usize) -> (usize, [usize; 2]) {
    let n0 = rows / (n1 * n2).max(1);
    let inner = [n1.min(2), n2.min(most)];
    let outer = n0.min((most / (inner[0] * inner[1]).max(1)).max(2));
    (outer * inner[0] * inner[1], inner)
}

/// A mask of these scores, broadcast along the same axes.
pub fn mask(mask: Mask, sizes: [usize; 3], cols: usize) -> Mask {
    let mut next = mask.kind.row(if mask.broadcast_cols { 1 } else { cols });
    let strides = mask.layout.strides.map(|strides| {
        let mut own = [0; 3];
        for axis in (0..3).rev() {
            if strides[axis] > 0 {
                own[axis] = next;
                next *= sizes[axis];
            }
        }
        own
    });
    Mask { layout: Layout { offset: mask.layout.offset % 32, strides }, ..mask }
}

/// Elements of a small call, at most.
const MOST: usize = 1 << 20;

/// Multiply-adds of a Problem that is small enough itself.
const WHOLE: f64 = 4e6;

/// Calls of those Problems that have no more than so many elements, each once.
pub fn few<P: PartialEq, const N: usize>(problems: [(usize, P); N]) -> Vec<Telling<P>> {
    each(problems.into_iter().filter(|(elements, _)| *elements <= MOST).map(|(_, problem)| problem))
}

/// Calls of these Problems, each once, and of `own` if it does not take more than [`WHOLE`] multiply-adds.
pub fn and_own<P: Clone + PartialEq>(small: impl IntoIterator<Item = P>, own: &P, work: f64) -> Vec<Telling<P>> {
    each(small.into_iter().chain((work <= WHOLE).then(|| own.clone())))
}

/// A call of each Problem that is not there yet.
fn each<P: PartialEq>(problems: impl Iterator<Item = P>) -> Vec<Telling<P>> {
    let mut all: Vec<Telling<P>> = Vec::new();
    for problem in problems {
        if all.iter().all(|telling| telling.problem != problem) {
            all.push(Telling::new(problem, all.len() as u64 + 1));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_sizes_have_the_same_remainder() {
        assert_eq!([like(4096, 40), like(4095, 40), like(4097, 41), like(4097, 42), like(7, 40)], [40, 47, 41, 49, 7]);
    }

    #[test]
    fn layouts_keep_their_alignment() {
        let from = Layout::strided(19, [1_000_003, 1004]);
        assert_eq!(laid(from, [3, 5], 12), Layout::strided(3, [67, 12]));
        assert_eq!(laid(Layout::<2>::at(17), [3, 5], 12), Layout::at(1));
    }
}
