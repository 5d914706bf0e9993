//! Formats of packed weights by name, and their options in case files.

use tileloom::weights::{Code, Format, Scales};

use crate::case::{Fault, Options};

pub use tileloom::verify::packed::*;

/// Formats by the names of checkpoints.
pub const FORMATS: [(&str, Format); 16] = [
    ("q4_0", Format::Q4_0),
    ("q4_1", Format::Q4_1),
    ("q5_0", Format::Q5_0),
    ("q5_1", Format::Q5_1),
    ("q8_0", Format::Q8_0),
    ("iq4_nl", Format::IQ4_NL),
    ("mxfp4", Format::MXFP4),
    ("q4_k", Format::Q4_K),
    ("q5_k", Format::Q5_K),
    ("q6_k", Format::Q6_K),
    ("int8", Format::INT8),
    ("fp8", Format::FP8),
    ("gptq", Format::GPTQ),
    ("gptq in order of groups", Format { group: 32, order: 5, ..Format::GPTQ }),
    ("nf4", Format::NF4),
    ("nf4 across rows", Format::NF4_FLAT),
];

/// The options of a format, and the n that its words do not tell.
///
/// # Errors
/// What is wrong with one.
pub fn options(options: &mut Options, format: &mut Option<Format>, n: &mut usize) -> Result<(), Fault> {
    let Some(Format { code, scales, group, interleave, .. }) = format else { return Ok(()) };
    let codes: Vec<_> = Code::ALL.iter().map(|&code| (code.name(), code)).collect();
    let kinds: Vec<_> = Scales::ALL.iter().map(|&scales| (scales.name(), scales)).collect();
    options.word("code", code, &codes)?;
    options.word("scales_kind", scales, &kinds)?;
    let mut sizes = [*group as usize, *interleave as usize];
    for (name, size) in ["group", "interleave"].into_iter().zip(&mut sizes) {
        options.value(name, size)?;
    }
    (*group, *interleave) = (sizes[0] as u32, sizes[1] as u32);
    options.value("n", n)
}
