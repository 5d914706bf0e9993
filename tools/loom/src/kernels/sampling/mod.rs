//! Choosing tokens, described.

mod sample;
