//! Where the rows of a tensor argument lie inside its binding.

use crate::ErrorKind;
use crate::compose::{Storage, Strides};
use crate::error::Checked;

/// An element offset and `N` outer strides in elements; the innermost axis has stride 1.
///
/// Without strides the tensor is contiguous. The offset counts from the start of the binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout<const N: usize> {
    /// The first element, counted from the start of the binding.
    pub offset: usize,
    /// Distances of neighbours along each outer axis, in elements; `None` is contiguous.
    pub strides: Option<[usize; N]>,
}

impl<const N: usize> Default for Layout<N> {
    fn default() -> Self {
        Layout { offset: 0, strides: None }
    }
}

impl<const N: usize> Layout<N> {
    /// Contiguous, starting at element `offset`.
    pub const fn at(offset: usize) -> Self {
        Layout { offset, strides: None }
    }

    /// Strided, starting at element `offset`.
    pub const fn strided(offset: usize, strides: [usize; N]) -> Self {
        Layout { offset, strides: Some(strides) }
    }

    /// The element at which row `row` starts, for outer sizes `sizes` (row-major) and inner size `inner`.
    pub fn row_start(&self, sizes: [usize; N], inner: usize, row: usize) -> usize {
        let strides = self.strides.unwrap_or_else(|| contiguous(sizes, inner));
        let mut rest = row;
        let mut start = self.offset;
        for axis in (0..N).rev() {
            start += rest % sizes[axis] * strides[axis];
            rest /= sizes[axis];
        }
        start
    }

    /// Resolves against outer sizes `sizes` and inner size `inner`.
    pub(crate) fn view(&self, arg: &'static str, sizes: [usize; N], inner: usize) -> Checked<View<N>> {
        let strides = self.strides.unwrap_or_else(|| contiguous(sizes, inner));
        let empty = inner == 0 || sizes.contains(&0);
        let mut last = self.offset as u128;
        if !empty {
            last = last.saturating_add(inner as u128 - 1);
            for axis in 0..N {
                last = last.saturating_add((sizes[axis] as u128 - 1) * strides[axis] as u128);
            }
            if last > u32::MAX as u128 {
                return Err(ErrorKind::IndexOverflow { arg, last });
            }
        }
        Ok(View { offset: self.offset, strides, sizes, inner, end: if empty { 0 } else { last as u64 + 1 } })
    }
}

fn contiguous<const N: usize>(sizes: [usize; N], inner: usize) -> [usize; N] {
    let mut strides = [0; N];
    let mut next = inner;
    for axis in (0..N).rev() {
        strides[axis] = next;
        next = next.saturating_mul(sizes[axis]);
    }
    strides
}

/// A resolved [`Layout`]: every index that a shader computes from it is below `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View<const N: usize> {
    pub offset: usize,
    pub strides: [usize; N],
    pub sizes: [usize; N],
    pub inner: usize,
    /// One past the last element, 0 when there is none.
    pub end: u64,
}

impl<const N: usize> View<N> {
    /// Whether offset, strides and inner size are all multiples of `n`.
    pub fn multiple_of(&self, n: usize) -> bool {
        self.offset.is_multiple_of(n)
            && self.inner.is_multiple_of(n)
            && (0..N).all(|a| self.sizes[a] <= 1 || self.strides[a].is_multiple_of(n))
    }

    /// Offset and strides as a shader parameter, the strides of the last axes in the last places.
    pub fn params(&self) -> Strides {
        let mut all = [self.offset as u32, 0, 0, 0];
        for axis in 0..N {
            all[4 - N + axis] = self.stride(axis);
        }
        all
    }

    /// [`params`](Self::params) of what lies from index `from` of an axis on.
    pub fn params_from(&self, axis: usize, from: usize) -> Strides {
        let mut all = self.params();
        // In bounds of a view that has this index.
        all[0] = all[0].wrapping_add((from as u32).wrapping_mul(self.stride(axis)));
        all
    }

    /// The same view with three axes, those in front of size 1.
    pub fn padded(&self) -> View<3> {
        let pad = |axes: [usize; N], front| std::array::from_fn(|i| if i + N < 3 { front } else { axes[i + N - 3] });
        let (strides, sizes) = (pad(self.strides, 0), pad(self.sizes, 1));
        View { offset: self.offset, strides, sizes, inner: self.inner, end: self.end }
    }

    /// A stride as a shader parameter; that of an axis of size 1 is never multiplied by more than 0.
    pub fn stride(&self, axis: usize) -> u32 {
        if self.sizes[axis] <= 1 { 0 } else { self.strides[axis] as u32 }
    }

    /// Whether both have the same rows, wherever they start.
    pub fn same_rows(&self, other: &View<N>) -> bool {
        let strides = |view: &View<N>| std::array::from_fn::<_, N, _>(|axis| view.stride(axis));
        self.sizes == other.sizes && self.inner == other.inner && strides(self) == strides(other)
    }

    /// Whether rows follow each other without a gap.
    pub fn is_contiguous(&self) -> bool {
        let whole = contiguous(self.sizes, self.inner);
        (0..N).all(|axis| self.sizes[axis] <= 1 || self.strides[axis] == whole[axis])
    }

    /// Whether two rows of this view share an element (an output must not).
    pub fn overlaps_itself(&self) -> bool {
        let mut axes: Vec<_> = (0..N).filter(|&a| self.sizes[a] > 1).collect();
        axes.sort_by_key(|&a| self.strides[a]);
        let mut reach = self.inner as u128;
        for axis in axes {
            if (self.strides[axis] as u128) < reach {
                return true;
            }
            reach += (self.sizes[axis] as u128 - 1) * self.strides[axis] as u128;
        }
        false
    }

    /// Refuses an output whose rows overlap.
    pub fn apart(self, arg: &'static str) -> Checked<Self> {
        match self.end > 0 && self.overlaps_itself() {
            false => Ok(self),
            true => {
                let View { strides, sizes, inner, .. } = self;
                Err(ErrorKind::invalid(
                    arg,
                    format!("rows overlap: strides {strides:?} for sizes {sizes:?} and {inner} columns"),
                ))
            }
        }
    }

    /// Whether two views, of elements of one size, share no element because, modulo one of the strides, each keeps to a
    /// range of its own: the case of a fused QKV buffer.
    pub fn interleaves(&self, other: &View<N>) -> bool {
        if self.end == 0 || other.end == 0 {
            return false;
        }
        let long = |view: &View<N>, axis: usize| view.sizes[axis] > 1;
        // Elements from the first one on, modulo `step`. Both ends fit in u32.
        let reach = |view: &View<N>, step: u64| {
            let inner = (0..N).filter(|&axis| long(view, axis) && !(view.strides[axis] as u64).is_multiple_of(step));
            view.inner as u64 + inner.map(|a| (view.sizes[a] as u64 - 1) * view.strides[a] as u64).sum::<u64>()
        };
        let steps = (0..N).filter(|&axis| long(self, axis)).map(|axis| self.strides[axis] as u64);
        steps.filter(|&step| step > 0).any(|step| {
            // From the start of `self` on to that of `other`, around.
            let shift = (other.offset as u64 % step + step - self.offset as u64 % step) % step;
            shift >= reach(self, step) && step - shift >= reach(other, step)
        })
    }
}

/// The product of sizes as u64, and `u64::MAX` where it is more: what no buffer and no grid holds.
macro_rules! product {
    ($($size:expr),+ $(,)?) => { 1u64$(.saturating_mul($crate::layout::Size::wide($size)))+ };
}

pub(crate) use product;

/// `size` rounded up to a multiple of `unit`, or `u64::MAX`.
pub(crate) fn padded(size: impl Size, unit: u64) -> u64 {
    size.wide().checked_next_multiple_of(unit).unwrap_or(u64::MAX)
}

/// A size or a count: of 32 bits on some targets, and multiplied as one of 64.
pub(crate) trait Size {
    fn wide(self) -> u64;
}

impl Size for usize {
    fn wide(self) -> u64 {
        self as u64
    }
}

impl Size for u32 {
    fn wide(self) -> u64 {
        self.into()
    }
}

impl Size for u64 {
    fn wide(self) -> u64 {
        self
    }
}

/// `[n0, n1, n2]` with a product of `rows`, where `dims` are the last two and divide it.
pub(crate) fn split_rows(rows: usize, [n1, n2]: [usize; 2]) -> [usize; 3] {
    [rows.checked_div(n1.saturating_mul(n2)).unwrap_or(0), n1, n2]
}

/// Chunks of the longest row.
pub(crate) fn chunks(cols: usize, vec: u32) -> u32 {
    let phase = usize::from(vec == 2);
    let chunks = cols.saturating_add(phase).div_ceil(vec.max(1) as usize).max(1);
    u32::try_from(chunks).unwrap_or(u32::MAX)
}

/// Elements per chunk of the `output`, held so, where all of `tensors` are read and written by the same chunks; and
/// whether rows of a packed output share words.
pub(crate) fn chunking(tensors: &[&View<3>], output: &View<3>, storage: Storage) -> (u32, bool) {
    let vec = match storage {
        _ if tensors.iter().all(|view| view.multiple_of(4)) => 4,
        storage if storage.packed() => 2,
        _ => 1,
    };
    (vec, vec == 2 && !output.multiple_of(2))
}

/// Refuses dims that do not divide the rows.
pub(crate) fn rows_divide(rows: usize, [n1, n2]: [usize; 2]) -> Checked {
    let (arg, reason) = match n1.checked_mul(n2) {
        None | Some(0) => ("dims", format!("[{n1}, {n2}]: sizes must be at least 1 and their product fit a usize")),
        Some(inner) if !rows.is_multiple_of(inner) => {
            ("rows", format!("{rows} rows are not a multiple of dims {n1} * {n2}"))
        }
        Some(_) => return Ok(()),
    };
    Err(ErrorKind::InvalidProblem { arg, reason })
}

/// Refuses sizes that a shader's u32 could not count past.
pub(crate) fn sizes_fit<const N: usize>(sizes: [(&'static str, usize); N]) -> Checked {
    match sizes.into_iter().find(|&(_, n)| n > u32::MAX as usize / 2) {
        None => Ok(()),
        Some((arg, n)) => Err(ErrorKind::invalid(arg, format!("{n} is more than 2^31 - 1"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(layout: Layout<3>, sizes: [usize; 3], inner: usize) -> View<3> {
        layout.view("x", sizes, inner).unwrap()
    }

    #[test]
    fn contiguous_strides_and_end() {
        let v = view(Layout::at(5), [2, 3, 4], 10);
        assert_eq!(v.strides, [120, 40, 10]);
        assert_eq!(v.end, 5 + 240);
        assert!(!v.overlaps_itself());
        assert_eq!(view(Layout::at(5), [2, 0, 4], 10).end, 0);
    }

    #[test]
    fn indices_past_u32_are_refused() {
        let error = Layout::<1>::default().view("x", [65536], 65537).unwrap_err();
        assert!(matches!(error, ErrorKind::IndexOverflow { arg: "x", last: 4295032831, .. }), "{error}");
        assert!(Layout::<1>::default().view("x", [65536], 65536).is_ok());
    }

    #[test]
    fn overlap_within_and_between() {
        assert!(view(Layout::strided(0, [0, 0, 9]), [1, 1, 2], 10).overlaps_itself());
        assert!(!view(Layout::strided(0, [0, 0, 10]), [1, 1, 2], 10).overlaps_itself());
        let q = view(Layout::strided(0, [0, 0, 30]), [1, 1, 7], 10);
        let k = view(Layout::strided(10, [0, 0, 30]), [1, 1, 7], 10);
        let shifted = view(Layout::strided(5, [0, 0, 30]), [1, 1, 7], 10);
        assert!(q.interleaves(&k) && k.interleaves(&q));
        assert!(!q.interleaves(&shifted) && !q.interleaves(&q));
    }

    #[test]
    fn views_of_a_fused_projection_interleave() {
        // Tokens of [q: 4 | k: 2 | v: 2] heads of 8: heads `first..first + n` of 2 batches of 5 tokens.
        let fused = |first: usize, n| view(Layout::strided(8 * first, [320, 8, 64]), [2, n, 5], 8);
        let (q, k) = (fused(0, 4), fused(4, 2));
        assert!(q.interleaves(&k) && k.interleaves(&q));
        assert!(!q.interleaves(&fused(3, 2)) && !q.interleaves(&q));
        // The last head is the next token's first.
        assert!(!q.interleaves(&fused(7, 2)));
        // [batch, q and k heads, seq, d]: apart within a batch's stride.
        let stacked = |first: usize, n| view(Layout::strided(40 * first, [240, 40, 8]), [2, n, 5], 8);
        assert!(stacked(0, 4).interleaves(&stacked(4, 2)));
    }
}
