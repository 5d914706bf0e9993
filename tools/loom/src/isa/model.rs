//! The estimate: how long a trip through the main loop occupies each pipe of a SIMD, and what share of the peak is left.
//!
//! A roofline of issue slots. Per pipe, clocks of one trip and subgroup: instructions times the clocks that each takes
//! ([`Pipes`](super::targets::Pipes)); bytes of workgroup memory by its rate, two lanes of a bank never in each other's way. The longest pipe is the
//! limit, and useful clocks (those that the products alone would take at the peak) over its clocks are the share. So it is an
//! upper bound. Not in it: latency and too few subgroups to hide it, barriers, bank conflicts, caches (global memory costs
//! compute-bound loops nothing), instructions outside of the main loop, tiles that are not whole, power limits.
//!
//! Where the Problem is bound by memory (bytes over DRAM's rate against operations over the peak), or a shader has next to no
//! products, the share is that of DRAM's rate: the bytes that the main loop asks for, as if none came from a cache.
//! A loop within the main loop that was not unrolled is counted once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::program::{Counts, Kind, Space};
use super::targets::{Isa, Target};

/// The share of a peak, at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// In per cent.
    pub at_most: u32,
    /// Of which peak: `matrix`, `f32` or `dram`.
    pub of: String,
    /// The pipe that is the limit.
    pub limit: String,
    /// Clocks of a trip, by pipe; a baseline does without.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub clocks: BTreeMap<String, u32>,
}

/// Which peak a Problem can come close to.
pub fn bound_by_memory(target: &Target, flops: f64, bytes: f64) -> bool {
    let pipes = &target.pipes;
    bytes / pipes.dram >= flops / (2.0 * pipes.peak)
}

/// The estimate of these instructions, for a subgroup of so many invocations; none where nothing is known to compare with.
pub fn estimate(target: &Target, counts: &Counts, subgroup: u32, by_memory: bool) -> Option<Estimate> {
    let pipes = &target.pipes;
    let scale = f64::from(subgroup) / pipes.lanes;
    let n = |kind: Kind| f64::from(counts.of(kind));
    let share = |clocks: f64| clocks * scale;
    let int = n(Kind::Int) + if target.isa == Isa::Nak { 0.0 } else { n(Kind::Move) };
    let bytes = |space: Space, least: f64| -> f64 {
        let each = |(kind, n): (&Kind, &u32)| match kind {
            Kind::Load(own, bytes) | Kind::Store(own, bytes) if *own == space => {
                f64::from(*n) * f64::from(*bytes).max(least)
            }
            Kind::Atomic(own) if *own == space => f64::from(*n) * 4.0,
            _ => 0.0,
        };
        counts.0.iter().map(each).sum()
    };
    // Shuffles of AMD are moves with an operand of other lanes, or go through the LDS as NVIDIA's through shared memory.
    let shuffles = if target.isa == Isa::Aco { 0.0 } else { 4.0 * n(Kind::Shuffle) };
    let workgroup = (bytes(Space::Workgroup, 4.0) + shuffles) * f64::from(subgroup) / pipes.workgroup;
    let matrix = n(Kind::Matrix) * pipes.matrix;
    let fma = n(Kind::Fma) * pipes.fma;
    let float = n(Kind::Float) * pipes.float;
    let ints = int * pipes.int + n(Kind::Convert) * pipes.convert;
    let special = n(Kind::Special) * pipes.special;
    let memory = bytes(Space::Global, 1.0) * f64::from(subgroup) / pipes.dram;
    let mut clocks = BTreeMap::new();
    if pipes.shared {
        let shuffles = if target.isa == Isa::Aco { n(Kind::Shuffle) * pipes.int } else { 0.0 };
        clocks.insert("vector", share(matrix + fma + float + ints + special + shuffles));
        clocks.insert("scalar", n(Kind::Scalar) + n(Kind::Branch));
    } else {
        clocks.insert("issue", share(f64::from(counts.total())));
        clocks.insert("int", share(ints));
        clocks.insert("f32", share(fma + float));
        clocks.insert("matrix", share(matrix));
        clocks.insert("special", share(special));
    }
    clocks.insert("workgroup memory", workgroup);
    // What the peak is of: products, or bytes.
    let products = n(Kind::Fma) >= 0.1 * f64::from(counts.total());
    let (of, useful) = match () {
        () if by_memory && memory > 0.0 => ("dram", memory),
        () if matrix > 0.0 => ("matrix", share(matrix)),
        () if products => ("f32", n(Kind::Fma) * f64::from(subgroup) / pipes.peak),
        () => ("dram", memory),
    };
    if of == "dram" {
        clocks.insert("dram", memory);
    }
    clocks.retain(|_, clocks| *clocks > 0.0);
    let (limit, longest) = clocks.iter().max_by(|a, b| a.1.total_cmp(b.1))?;
    (useful > 0.0).then(|| Estimate {
        at_most: (100.0 * useful / longest).round() as u32,
        of: of.into(),
        limit: (*limit).into(),
        clocks: clocks.iter().map(|(pipe, clocks)| (pipe.to_string(), clocks.round() as u32)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::targets::TARGETS;
    use super::*;

    fn of(target: &str, counts: &[(&str, u32)], subgroup: u32, by_memory: bool) -> Estimate {
        let target = TARGETS.iter().find(|own| own.name == target).unwrap();
        let counts = counts.iter().map(|(kind, n)| (kind.parse().unwrap(), *n)).collect();
        estimate(target, &Counts(counts), subgroup, by_memory).unwrap()
    }

    #[test]
    fn limits_are_named() {
        let tile = [("matrix", 8), ("workgroup load 8", 32), ("workgroup store 16", 2), ("int", 14), ("scalar", 15)];
        let found = of("amd:navi31", &tile, 64, false);
        // 8 WMMA of 32 clocks and 14 of two; 256 and 32 bytes of 64 lanes at 64 per clock.
        assert_eq!((found.clocks["vector"], found.clocks["workgroup memory"]), (284, 288));
        assert_eq!((found.limit.as_str(), found.of.as_str(), found.at_most), ("workgroup memory", "matrix", 89));
        let product = [("fma", 256), ("workgroup load 16", 32), ("int", 10), ("move", 4)];
        let found = of("nvidia:0x192", &product, 32, false);
        assert_eq!(
            (found.limit.as_str(), found.clocks["workgroup memory"], found.at_most),
            ("workgroup memory", 512, 50)
        );
        // f32 at a clock per 64 invocations of RDNA3 is the peak.
        assert_eq!(of("amd:navi31", &[("fma", 100)], 64, false).at_most, 100);
        assert_eq!(of("amd:navi21", &[("fma", 100)], 64, false).at_most, 100);
        assert_eq!(of("amd:vega20", &[("fma", 100)], 64, false).at_most, 100);
        assert_eq!(of("nvidia:0x164", &[("fma", 100)], 32, false).at_most, 100);
    }

    #[test]
    fn bytes_are_held_against_dram() {
        let row = [("global load 16", 4), ("float", 16), ("int", 8)];
        let found = of("amd:navi31", &row, 64, true);
        assert_eq!((found.of.as_str(), found.limit.as_str(), found.at_most), ("dram", "dram", 100));
        let row = [("global load 2", 1), ("float", 16), ("int", 60)];
        let found = of("amd:navi31", &row, 64, true);
        assert_eq!((found.of.as_str(), found.limit.as_str(), found.at_most), ("dram", "vector", 47));
        let target = TARGETS.iter().find(|own| own.name == "amd:navi31").unwrap();
        assert!(bound_by_memory(target, 1e6, 1e6) && !bound_by_memory(target, 1e12, 1e6));
    }
}
