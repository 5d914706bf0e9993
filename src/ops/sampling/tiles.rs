//! Rows of tokens in parts, as the kernels of this family share them out.

use crate::ops::prelude::*;

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup, a power of two of at most 256.
        pub wg_size: u32,
        /// Elements of a row that a workgroup takes.
        pub part: u32,
    }
}

/// Elements of a part at most: so many limbs of a weight add up in a word.
const MOST_PART: u32 = 1 << 18;
/// Parts of a row at most: so many limbs of 24 bits add up in a word.
pub(super) const MOST_PARTS: u32 = 255;

/// Invocations of a workgroup, elements of a part at least, and workgroups that keep the adapter busy. Not measured but on lavapipe.
struct Tiles {
    wg_size: u32,
    part: u32,
    workgroups: u32,
}

const fn tiles(class: Class) -> Tiles {
    match class {
        Class::Software => Tiles { wg_size: 8, part: 4096, workgroups: 8 },
        Class::Integrated => Tiles { wg_size: 256, part: 2048, workgroups: 256 },
        Class::Discrete => Tiles { wg_size: 256, part: 2048, workgroups: 1024 },
    }
}

/// What parts are chosen by.
pub(super) struct Parts {
    pub rows: u32,
    pub vocab: usize,
    /// Elements per chunk.
    pub vec: u32,
}

impl Parts {
    /// So many parts, or as few more as whole chunks allow.
    pub fn split(&self, caps: &Caps, parts: u32) -> Config {
        let most = caps.most_invocations().clamp(1, 256);
        let wg_size = tiles(caps.class()).wg_size.min(1 << most.ilog2());
        let part = (self.vocab as u64).div_ceil(parts.max(1).into()).clamp(1, MOST_PART.into()) as u32;
        Config { wg_size, part: part.next_multiple_of(self.vec) }
    }

    /// As many parts as keep the adapter busy, and more where its driver cuts long loops short: `rounds` of so many.
    pub fn choose(&self, caps: &Caps, rounds: impl Fn(u32) -> Rounds) -> Config {
        let Tiles { part, workgroups, .. } = tiles(caps.class());
        let most = u32::try_from(self.vocab.div_ceil(part as usize)).unwrap_or(u32::MAX);
        let parts = workgroups.div_ceil(self.rows.max(1)).min(most).clamp(1, MOST_PARTS);
        self.split(caps, caps.parts(parts, MOST_PARTS, rounds))
    }
}

impl Config {
    /// Parts of a row.
    pub(super) fn parts(&self, vocab: usize) -> u32 {
        u32::try_from(vocab.div_ceil(self.part.max(1) as usize)).unwrap_or(u32::MAX).max(1)
    }

    pub(super) fn check(&self, caps: &Caps, vocab: usize, vec: u32) -> Result<(), Misfit> {
        let Config { wg_size, part } = *self;
        caps.check_wg_size(wg_size)?;
        let divides = wg_size.is_power_of_two() && wg_size <= 256;
        Misfit::unless(divides, "wg_size must be a power of two of at most 256", wg_size)?;
        Misfit::unless(part > 0, "part must be at least 1", part)?;
        Misfit::at_most("part", part, MOST_PART)?;
        Misfit::unless(part.is_multiple_of(vec), "part must be whole chunks", part)?;
        Misfit::at_most("parts", self.parts(vocab), MOST_PARTS)
    }
}

/// The file that takes a chunk apart.
pub(super) fn lanes(vec: u32) -> &'static str {
    if vec == 4 { "sampling_lanes4" } else { "sampling_lanes1" }
}
