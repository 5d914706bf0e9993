//! Ops on elements and columns; and steps whose invocations each have an element, a word, a vector or a code of their own.

pub mod activation;
pub mod activation_backward;
pub mod axpby;
mod clear;
pub mod column_sums;
pub mod dropout;
mod join;
mod pair;
mod tile;

pub(crate) use clear::{Clear, clear};

use crate::ops::prelude::*;

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

impl Config {
    /// The one Config; `has_f16` where some tensor is f16.
    pub(crate) fn of(caps: &Caps, has_f16: bool) -> Config {
        Config { wg_size: caps.most_invocations().min(64), native_f16: caps.prefers_native_f16(has_f16) }
    }

    /// The first thing that does not fit this device.
    pub(crate) fn check(&self, caps: &Caps, has_f16: bool) -> Result<(), Misfit> {
        caps.check_wg_size(self.wg_size)?;
        caps.check_native_f16(self.native_f16, has_f16)
    }
}
