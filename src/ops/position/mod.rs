//! Positions of tokens.

pub(crate) mod frequencies;
pub mod position_encoding;
pub mod rope;
mod tile;
