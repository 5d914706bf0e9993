//! Positions of tokens.

pub(super) mod position_encoding;
pub(super) mod rope;
