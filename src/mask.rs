//! Masks of scores: what softmax and attention have in common.

use crate::args::{Element, Reach};
use crate::compose::Shader;
use crate::error::Checked;
use crate::layout::View;
use crate::{Dtype, Layout};

/// A mask, broadcast to `x` by strides of 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mask {
    /// What it holds.
    pub kind: MaskKind,
    /// Where it lies, in its own elements: strides of `n0, n1, n2`. Without strides it has the shape of
    /// `x` (bits: with rows padded to words).
    pub layout: Layout<3>,
    /// One value for all columns of a row: the mask's last axis is 1.
    pub broadcast_cols: bool,
}

impl Mask {
    /// A mask of the shape of `x`, contiguous.
    pub const fn new(kind: MaskKind) -> Mask {
        Mask { kind, layout: Layout { offset: 0, strides: None }, broadcast_cols: false }
    }

    /// One `[n2, cols]` mask for all of `n0` and `n1`, contiguous.
    pub const fn shared(kind: MaskKind, cols: usize) -> Mask {
        let row = kind.row(cols);
        Mask { kind, layout: Layout { offset: 0, strides: Some([0, 0, row]) }, broadcast_cols: false }
    }
}

impl Mask {
    /// The layout with its strides written out, for scores `[sizes, cols]`.
    fn strided(&self, sizes: [usize; 3], cols: usize) -> Layout<3> {
        let row = self.kind.row(self.cols(cols));
        let next = sizes[2].saturating_mul(row);
        let contiguous = [sizes[1].saturating_mul(next), next, row];
        Layout::strided(self.layout.offset, self.layout.strides.unwrap_or(contiguous))
    }

    /// Columns of the mask where the scores have `cols`.
    fn cols(&self, cols: usize) -> usize {
        if self.broadcast_cols { 1 } else { cols }
    }

    /// Its view, for scores `[sizes, cols]`.
    pub(crate) fn view(&self, sizes: [usize; 3], cols: usize) -> Checked<MaskView> {
        let view = self.strided(sizes, cols).view("mask", sizes, self.cols(cols))?;
        Ok(MaskView { kind: self.kind, view, step: u32::from(!self.broadcast_cols) })
    }

    /// The element that belongs to column `col` of row `row` of scores `[sizes, cols]`.
    pub(crate) fn index(&self, sizes: [usize; 3], cols: usize, row: usize, col: usize) -> usize {
        self.strided(sizes, cols).row_start(sizes, cols, row) + if self.broadcast_cols { 0 } else { col }
    }
}

/// A resolved [`Mask`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaskView {
    pub kind: MaskKind,
    pub view: View<3>,
    /// The distance of neighbouring columns: 0 where one value is for all.
    pub step: u32,
}

impl MaskView {
    /// What a kernel reaches of it.
    pub fn reach(&self) -> Reach {
        self.view.of(self.kind)
    }
}

/// `dims` of a softmax Problem, and the strides of a contiguous mask of shape `mask` that is broadcast to
/// `x` by NumPy's rules; the last axis of both is `cols`. `None` if the shapes do not fit, or if the
/// axes before the last two alternate between broadcast and not more often than two row axes hold.
pub fn broadcast(kind: MaskKind, mask: &[usize], x: &[usize]) -> Option<([usize; 2], Mask)> {
    let (cols, x_rows) = x.split_last()?;
    if mask.len() > x.len() {
        return None;
    }
    let mut padded = vec![1; x.len() - mask.len()];
    padded.extend_from_slice(mask);
    let (&mask_cols, mask_rows) = padded.split_last()?;
    let fits = |have: usize, want: usize| have == want || have == 1;
    if !fits(mask_cols, *cols) || !mask_rows.iter().zip(x_rows).all(|(&m, &x)| fits(m, x)) {
        return None;
    }
    let mut stride = kind.row(mask_cols);
    // From the inside: (size, stride) of row axes, the innermost kept for `causal`, the others merged.
    let mut axes: Vec<(usize, usize)> = Vec::new();
    for (i, (&m, &n)) in mask_rows.iter().zip(x_rows).rev().enumerate() {
        let own = if m == 1 { 0 } else { stride };
        stride = stride.saturating_mul(m);
        let merges = axes.len() > 1;
        match axes.last_mut() {
            _ if n == 1 && i > 0 => {}
            Some((size, step)) if merges && size.checked_mul(*step) == Some(own) => *size = size.saturating_mul(n),
            _ => axes.push((n, own)),
        }
    }
    if axes.len() > 3 {
        return None;
    }
    axes.resize(3, (1, 0));
    let layout = Layout::strided(0, [axes[2].1, axes[1].1, axes[0].1]);
    Some(([axes[1].0, axes[0].0], Mask { kind, layout, broadcast_cols: mask_cols == 1 && *cols != 1 }))
}

/// A contiguous mask of shape `mask`, broadcast to the scores `[batch, heads, seq_q, seq_kv]` by NumPy's rules.
/// `None` if the shapes do not fit.
pub fn broadcast_scores(kind: MaskKind, mask: &[usize], scores: [usize; 4]) -> Option<Mask> {
    let mut own = [1; 4];
    own.get_mut(4usize.checked_sub(mask.len())?..)?.copy_from_slice(mask);
    if !own.iter().zip(&scores).all(|(&m, &n)| m == n || m == 1) {
        return None;
    }
    let mut stride = kind.row(own[3]);
    let mut strides = [0; 3];
    for axis in (0..3).rev() {
        strides[axis] = if own[axis] == 1 { 0 } else { stride };
        stride = stride.saturating_mul(own[axis]);
    }
    Some(Mask { kind, layout: Layout::strided(0, strides), broadcast_cols: own[3] == 1 && scores[3] != 1 })
}

/// What a mask holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MaskKind {
    /// Added to the scaled score; minus infinity hides it.
    Additive(Dtype),
    /// One byte per element, 0 hides (`torch.bool`, NumPy's `bool`).
    Bytes,
    /// Bit `i % 32` of word `i / 32`, 0 hides.
    Bits,
}

impl MaskKind {
    /// Elements of a row of `cols`: rows of bits are padded to words.
    pub(crate) const fn row(self, cols: usize) -> usize {
        match self {
            MaskKind::Bits => cols.div_ceil(32).saturating_mul(32),
            _ => cols,
        }
    }

    /// Bits of one element.
    fn bits(self) -> u64 {
        match self {
            MaskKind::Additive(dtype) => 8 * dtype.bytes(),
            MaskKind::Bytes => 8,
            MaskKind::Bits => 1,
        }
    }

    /// As shaders call it; see [`MaskKind::CODES`].
    fn code(self) -> u32 {
        match self {
            MaskKind::Additive(Dtype::F32) => 0,
            MaskKind::Additive(Dtype::F16) => 1,
            MaskKind::Additive(Dtype::Bf16) => 2,
            MaskKind::Bytes => 3,
            MaskKind::Bits => 4,
        }
    }

    /// The kinds by their names in shaders.
    const CODES: [(&str, MaskKind); 5] = [
        ("MASK_F32", MaskKind::Additive(Dtype::F32)),
        ("MASK_F16", MaskKind::Additive(Dtype::F16)),
        ("MASK_BF16", MaskKind::Additive(Dtype::Bf16)),
        ("MASK_BYTES", MaskKind::Bytes),
        ("MASK_BITS", MaskKind::Bits),
    ];
}

impl From<MaskKind> for Element {
    fn from(kind: MaskKind) -> Element {
        Element { bits: kind.bits(), dtype: None }
    }
}

impl Shader {
    /// The mask of slot `slot`, or none: `HAS_MASK`, and `mask_bias` of one element.
    pub(crate) fn mask(self, slot: u32, kind: Option<MaskKind>) -> Shader {
        let shader = self.flag("HAS_MASK", kind.is_some());
        let shader = match kind {
            Some(kind) => shader
                .constants(MaskKind::CODES.map(|(name, kind)| (name, kind.code())))
                .constant("MASK_KIND", kind.code())
                .reads(slot, "mask", "u32"),
            None => shader,
        };
        shader.import_if(kind.is_some(), "mask_bias")
    }
}
