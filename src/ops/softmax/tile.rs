//! Tiles of kernels that reduce each row to a few numbers and then write it: softmax and its backward pass.

use super::{Algorithm, Reduce};
use crate::caps::Class;
use crate::compose::Shader;
use crate::{Caps, Misfit};

/// What is to be tiled: so many rows of so many chunks, through so many storage buffers.
pub(in crate::ops) struct Rows {
    pub rows: usize,
    pub chunks: u32,
    /// Without scratch.
    pub buffers: u32,
}

/// Chunks of the longest row.
pub(in crate::ops) fn chunks(cols: usize, vec: u32) -> u32 {
    let phase = usize::from(vec == 2);
    let chunks = cols.saturating_add(phase).div_ceil(vec.max(1) as usize).max(1);
    u32::try_from(chunks).unwrap_or(u32::MAX)
}

/// A row of a kernel's table: the tiles of one class of adapters.
pub(in crate::ops) struct Row {
    pub class: Class,
    /// Up to so many chunks per row: lanes per row, workgroup size. In ascending order.
    pub registers: &'static [(u32, u32, u32)],
    /// From so many rows on: lanes per row, workgroup size, chunks at a time. In descending order.
    pub online: &'static [(usize, u32, u32, u32)],
    /// Below so many rows of at least `SPLIT_CHUNKS`: workgroup size, chunks at a time.
    pub split: (usize, u32, u32),
}

/// Chunks below which splitting a row does not pay.
const SPLIT_CHUNKS: u32 = 4096;
const MAX_PARTS: u32 = 256;

/// What a Config says of tiles; its fields are documented there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) struct Tile {
    pub algorithm: Algorithm,
    pub wg_size: u32,
    pub lanes: u32,
    pub keep: u32,
    pub reduce: Reduce,
}

/// Every tile of the table that fits, the best first.
pub(in crate::ops) fn candidates(op: &str, caps: &Caps, table: &[Row], of: &Rows) -> Vec<Tile> {
    let row = table.iter().find(|row| row.class == caps.class()).unwrap_or(&table[0]);
    let most = caps.limits.max_compute_invocations_per_workgroup.min(caps.limits.max_compute_workgroup_size_x);

    // Algorithm, workgroup size, lanes, keep.
    let mut tiles = Vec::new();
    if let Some(&(_, lanes, wg_size)) = row.registers.iter().find(|&&(reach, ..)| of.chunks <= reach) {
        tiles.push((Algorithm::Registers, wg_size, lanes, of.chunks.div_ceil(lanes).next_power_of_two()));
    }
    let online = row.online.iter().filter(|&&(rows, ..)| of.rows >= rows);
    tiles.extend(online.map(|&(_, lanes, wg_size, keep)| (Algorithm::Online, wg_size, lanes, keep)));
    let (few, wg_size, keep) = row.split;
    let split = (Algorithm::Split, wg_size, wg_size, keep);
    match of.rows < few && of.chunks >= SPLIT_CHUNKS {
        true => tiles.insert(0, split),
        false => tiles.push(split),
    }
    // The same with one invocation per row: no reduction, no feature.
    tiles.extend(row.online.first().map(|&(_, _, wg_size, keep)| (Algorithm::Online, wg_size, 1, keep)));

    let mut found = Vec::new();
    for (algorithm, wg_size, lanes, keep) in tiles {
        for reduce in [Reduce::None, Reduce::Shuffle, Reduce::Subgroup, Reduce::Tree] {
            let (wg_size, lanes) = (wg_size.min(most), lanes.min(most));
            let tile = Tile { algorithm, wg_size, lanes, keep, reduce };
            match tile.fits(caps, of) {
                Ok(()) if found.contains(&tile) => {}
                Ok(()) => found.push(tile),
                Err(reason) => log::trace!("{op}: {tile:?} dropped: {reason}"),
            }
        }
    }
    if row.class == Class::Software {
        // Whatever waits at a barrier comes last, unless only it keeps more than one core busy.
        let few = of.rows < row.split.0;
        found.sort_by_key(|tile| !few && matches!(tile.reduce, Reduce::Subgroup | Reduce::Tree));
    }
    found
}

impl Tile {
    /// The first thing that does not fit this device.
    pub fn fits(&self, caps: &Caps, of: &Rows) -> Result<(), Misfit> {
        let limits = &caps.limits;
        let most = limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
        let Tile { wg_size, lanes, keep, .. } = *self;
        let whole = lanes == wg_size;
        let subgroup = caps.trusted_subgroup_size();
        let misfit = |what, have, limit| Err(Misfit { what, have, limit });
        let limit = limits.max_storage_buffers_per_shader_stage;
        match (self.algorithm, self.reduce) {
            _ if wg_size == 0 || wg_size > most => misfit("wg_size must be at least 1 and at most", wg_size, most),
            _ if !lanes.is_power_of_two() => misfit("lanes must be a power of two", lanes, wg_size),
            _ if !wg_size.is_multiple_of(lanes) => misfit("lanes must divide wg_size", lanes, wg_size),
            _ if keep == 0 || keep > 1024 => misfit("keep must be at least 1 and at most", keep, 1024),
            (Algorithm::Registers, _) if u64::from(lanes) * u64::from(keep) < u64::from(of.chunks) => {
                misfit("lanes * keep must hold the chunks of a row", lanes * keep, of.chunks)
            }
            (Algorithm::Split, _) if of.buffers == limit => {
                misfit("split needs a storage buffer more", of.buffers + 1, limit)
            }
            (Algorithm::Split, _) if !whole => misfit("split needs lanes to be wg_size", lanes, wg_size),
            (_, Reduce::None) if lanes != 1 => misfit("without a reduction lanes must be", lanes, 1),
            (_, Reduce::Tree | Reduce::Shuffle | Reduce::Subgroup) if lanes == 1 => {
                misfit("a reduction needs lanes of at least", lanes, 2)
            }
            (_, Reduce::Shuffle) if subgroup.is_none_or(|size| lanes > size) => {
                misfit("shuffles need lanes of at most the trusted subgroup size", lanes, subgroup.unwrap_or(0))
            }
            (_, Reduce::Subgroup) if caps.subgroup.is_none() => misfit("subgroup reduction needs SUBGROUP", 0, 1),
            (_, Reduce::Subgroup) if !whole => misfit("subgroup reduction needs lanes to be wg_size", lanes, wg_size),
            _ if self.wg_bytes() > limits.max_compute_workgroup_storage_size => {
                misfit("bytes of workgroup memory", self.wg_bytes(), limits.max_compute_workgroup_storage_size)
            }
            (Algorithm::Registers, _) => Ok(()),
            // Two passes, and rounds within blocks.
            _ => caps.check_rounds(3 * u64::from(self.parts(of).1.div_ceil(lanes))),
        }
    }

    fn wg_bytes(&self) -> u32 {
        match self.reduce {
            Reduce::None | Reduce::Shuffle => 0,
            Reduce::Tree => self.wg_size * 4,
            Reduce::Subgroup => self.wg_size.div_ceil(4) * 4,
        }
    }

    /// Parts per row, and chunks per part, of the two-step algorithm.
    pub fn parts(&self, of: &Rows) -> (u32, u32) {
        if self.algorithm != Algorithm::Split {
            return (1, of.chunks);
        }
        // A part is long enough to be worth a workgroup, and there are at most MAX_PARTS.
        let step = self.lanes.saturating_mul(self.keep).clamp(1, 1 << 20);
        let part = of.chunks.div_ceil(MAX_PARTS).max(step * 4).next_multiple_of(step);
        (of.chunks.div_ceil(part), part)
    }

    pub fn workgroups(&self, of: &Rows) -> u64 {
        match self.algorithm {
            Algorithm::Split => of.rows as u64 * self.parts(of).0 as u64,
            _ => (of.rows as u64).div_ceil((self.wg_size / self.lanes) as u64),
        }
    }

    /// The shader of one step, with the tile's constants and its reduction.
    pub fn shader(&self, stem: &'static str, vec: u32) -> Shader {
        Shader::new(stem, self.wg_size, self.wg_bytes(), vec)
            .constant("LANES", self.lanes)
            .constant("KEEP", self.keep)
            .import(match self.reduce {
                Reduce::None => "reduce_none",
                Reduce::Tree => "reduce_tree",
                Reduce::Shuffle => "reduce_shuffle",
                Reduce::Subgroup => "reduce_subgroup",
            })
    }
}
