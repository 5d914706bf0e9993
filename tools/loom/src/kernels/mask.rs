//! What descriptions of kernels with a mask share.

use tileloom::softmax::{Mask, MaskKind};

use crate::case::{self, Fault, Options, Tensor};
pub use tileloom::verify::mask::Masked;

/// A mask with a layout of its own is a tensor of one axis, as it lies in memory.
///
/// # Errors
/// What is wrong with an option.
pub fn options(mask: &mut Option<Mask>, options: &mut Options) -> Result<(), Fault> {
    let have = mask.unwrap_or(Mask::new(MaskKind::Bytes));
    let (mut layout, mut step, mut bits) =
        (mask.map(|mask| mask.layout), have.broadcast_cols, have.kind == MaskKind::Bits);
    options.value("mask_layout", &mut layout)?;
    options.value("mask_broadcast_cols", &mut step)?;
    options.value("mask_bits", &mut bits)?;
    let kind = if bits { MaskKind::Bits } else { have.kind };
    *mask = layout.map(|layout| Mask { kind, layout, broadcast_cols: step });
    Ok(())
}

/// What a mask of a case holds, where the options say `laid` of it.
///
/// # Errors
/// The tensor's dtype.
pub fn kind(tensor: &Tensor, laid: Option<Mask>) -> Result<MaskKind, Fault> {
    match tensor.float() {
        Some(dtype) => Ok(MaskKind::Additive(dtype)),
        None if tensor.is_boolean() => Ok(laid.map_or(MaskKind::Bytes, |laid| laid.kind)),
        None => {
            let have = tensor.dtype.to_string();
            Err(Fault::BadDtype { name: "mask".into(), have, expected: case::VALUES_OR_BOOLEANS })
        }
    }
}

/// Of a mask that a case has with a layout of its own: whether the tensor is what lies in memory.
///
/// # Errors
/// The tensor's shape.
pub fn check_laid(problem: &impl Masked, tensor: &Tensor) -> Result<(), Fault> {
    match problem.mask_arg().map_or(0, |arg| arg.view.len()) {
        need if tensor.shape == [need] => Ok(()),
        need => Err(case::bad_shape("mask", tensor, format!("[{need}], by `mask_layout`"))),
    }
}
