//! Positions of tokens.

pub mod position_encoding;
pub mod rope;
