//! How calls of the family `sampling` are made and judged.

pub mod sample;
