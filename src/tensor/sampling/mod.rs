//! Choosing tokens.

mod sample;

pub use sample::SampleOptions;
