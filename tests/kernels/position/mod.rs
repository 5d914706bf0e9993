pub mod position_encoding;
pub mod rope;
