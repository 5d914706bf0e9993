//! The GPUs that Mesa's compilers know without having one: names of `tools/drivers compile-for`, and what the estimate
//! takes for granted of each.

use super::program::Program;
use super::{aco, agx, ir3, nak};

/// A compiler, by the text that it prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// AMD, RADV's ACO.
    Aco,
    /// NVIDIA, NVK's NAK.
    Nak,
    /// Apple, Honeykrisp.
    Agx,
    /// Qualcomm, Turnip.
    Ir3,
}

impl Isa {
    /// The blocks of a disassembly.
    pub fn read(self, text: &str) -> Program {
        match self {
            Isa::Aco => aco::read(text),
            Isa::Nak => nak::read(text),
            Isa::Agx => agx::read(text),
            Isa::Ir3 => ir3::read(text),
        }
    }
}

/// What a SIMD (a quarter of an NVIDIA SM, an Apple core's, an Adreno uSPTP) issues: clocks per instruction of a subgroup of
/// `lanes` invocations.
#[derive(Debug, Clone, Copy)]
pub struct Pipes {
    pub lanes: f64,
    /// All vector instructions wait for one pipe, as on AMD; else each pipe works while others do, behind one issue per
    /// clock.
    pub shared: bool,
    /// A product of matrices; 0 where the shader language has none here.
    pub matrix: f64,
    pub fma: f64,
    pub float: f64,
    pub int: f64,
    pub convert: f64,
    pub special: f64,
    /// Bytes per clock that workgroup memory gives this SIMD, when all SIMDs of its core ask.
    pub workgroup: f64,
    /// Bytes per clock of DRAM for this SIMD, when all SIMDs of the GPU ask.
    pub dram: f64,
    /// Multiply-adds of f32 per clock and SIMD at the peak.
    pub peak: f64,
}

/// A GPU.
#[derive(Debug)]
pub struct Target {
    /// As `tools/drivers compile-for` calls it.
    pub name: &'static str,
    pub gpu: &'static str,
    pub isa: Isa,
    /// One of those that stand for their vendor.
    pub quick: bool,
    /// Its cooperative matrices are not used, whatever its driver has: `Caps` knows it by a name that only the GPU has.
    pub denied: bool,
    pub pipes: Pipes,
}

impl Target {
    /// The file of its baseline.
    pub fn file(&self) -> String {
        format!("{}.json", self.name.replace(':', "-"))
    }
}

/// RDNA3: an f32 operation of 64 invocations takes a clock (both halves at once), others two; WMMA 512 multiply-adds per CU
/// and clock. A CU has two SIMDs and 128 bytes of LDS per clock.
const RDNA3: Pipes = Pipes {
    lanes: 64.0,
    shared: true,
    matrix: 32.0,
    fma: 1.0,
    float: 1.0,
    int: 2.0,
    convert: 2.0,
    special: 8.0,
    workgroup: 64.0,
    dram: 960.0 / 2.5 / 192.0,
    peak: 64.0,
};

/// Turing: 16 lanes for f32 beside 16 for integers. An SM has four quarters and 128 bytes of shared memory per clock (64 on
/// Turing).
const TURING: Pipes = Pipes {
    lanes: 32.0,
    shared: false,
    matrix: 32.0,
    fma: 2.0,
    float: 2.0,
    int: 2.0,
    convert: 4.0,
    special: 8.0,
    workgroup: 16.0,
    dram: 448.0 / 1.71 / 184.0,
    peak: 16.0,
};

/// Ampere to Blackwell: 32 lanes for f32, of which 16 (all on Blackwell) do integers. GeForce: HMMA 16 x 8 x 16 with f32 sums
/// in 32 clocks.
const AMPERE: Pipes = Pipes { fma: 1.0, float: 1.0, workgroup: 32.0, dram: 936.0 / 1.7 / 328.0, peak: 32.0, ..TURING };

/// All of them, those of one vendor together, the oldest first. Clock rates and bandwidths are those of the product named.
pub const TARGETS: &[Target] = &[
    Target {
        name: "amd:vega20",
        gpu: "Vega 20 (Radeon VII)",
        isa: Isa::Aco,
        quick: false,
        denied: false,
        // 16 lanes: 64 invocations in four clocks; four SIMDs per CU.
        pipes: Pipes {
            fma: 4.0,
            float: 4.0,
            int: 4.0,
            convert: 4.0,
            special: 16.0,
            matrix: 0.0,
            workgroup: 32.0,
            dram: 1024.0 / 1.75 / 240.0,
            peak: 16.0,
            ..RDNA3
        },
    },
    Target {
        name: "amd:navi21",
        gpu: "RDNA2 (Radeon RX 6900 XT)",
        isa: Isa::Aco,
        quick: false,
        denied: false,
        pipes: Pipes { fma: 2.0, float: 2.0, matrix: 0.0, dram: 512.0 / 2.25 / 160.0, peak: 32.0, ..RDNA3 },
    },
    Target {
        name: "amd:navi31",
        gpu: "RDNA3 (Radeon RX 7900 XTX)",
        isa: Isa::Aco,
        quick: true,
        denied: false,
        pipes: RDNA3,
    },
    Target {
        name: "amd:strix1",
        gpu: "RDNA3.5 (Radeon 890M)",
        isa: Isa::Aco,
        quick: false,
        denied: false,
        pipes: Pipes { dram: 120.0 / 2.9 / 32.0, ..RDNA3 },
    },
    Target {
        name: "amd:gfx1201",
        gpu: "RDNA4 (Radeon RX 9070 XT)",
        isa: Isa::Aco,
        quick: false,
        denied: false,
        pipes: Pipes { matrix: 16.0, dram: 640.0 / 2.97 / 128.0, ..RDNA3 },
    },
    Target {
        name: "nvidia:0x164",
        gpu: "Turing (GeForce RTX 2080)",
        isa: Isa::Nak,
        quick: false,
        denied: true,
        pipes: TURING,
    },
    Target {
        name: "nvidia:0x172",
        gpu: "Ampere (GeForce RTX 3090)",
        isa: Isa::Nak,
        quick: false,
        denied: false,
        pipes: AMPERE,
    },
    Target {
        name: "nvidia:0x192",
        gpu: "Ada (GeForce RTX 4090)",
        isa: Isa::Nak,
        quick: true,
        denied: false,
        pipes: Pipes { dram: 1008.0 / 2.52 / 512.0, ..AMPERE },
    },
    Target {
        name: "nvidia:0x1b2",
        gpu: "Blackwell (GeForce RTX 5090)",
        isa: Isa::Nak,
        quick: false,
        denied: false,
        pipes: Pipes { int: 1.0, dram: 1792.0 / 2.41 / 680.0, ..AMPERE },
    },
    Target {
        name: "apple:m1",
        gpu: "Apple M1",
        isa: Isa::Agx,
        quick: true,
        denied: false,
        // 32 lanes, four SIMDs per core; integers at the rate of f32, 64 bytes of workgroup memory per clock: assumed.
        pipes: Pipes {
            lanes: 32.0,
            shared: true,
            matrix: 0.0,
            fma: 1.0,
            float: 1.0,
            int: 1.0,
            convert: 1.0,
            special: 4.0,
            workgroup: 16.0,
            dram: 68.0 / 1.28 / 32.0,
            peak: 32.0,
        },
    },
    Target {
        name: "adreno:740",
        gpu: "Adreno 740",
        isa: Isa::Ir3,
        quick: true,
        denied: false,
        // Little is published: every vector instruction as long as a multiply-add, workgroup memory a word per lane and
        // clock, 24 SIMDs of 64 lanes.
        pipes: Pipes {
            lanes: 64.0,
            shared: true,
            matrix: 0.0,
            fma: 1.0,
            float: 1.0,
            int: 1.0,
            convert: 1.0,
            special: 4.0,
            workgroup: 256.0,
            dram: 67.0 / 0.68 / 24.0,
            peak: 64.0,
        },
    },
];

/// The targets of these names; without a name the ones that stand for their vendor, or all.
///
/// # Errors
/// The name that is not known.
pub fn named(names: &[String], quick: bool) -> Result<Vec<&'static Target>, String> {
    if names.is_empty() {
        return Ok(TARGETS.iter().filter(|target| target.quick || !quick).collect());
    }
    let known = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let found = TARGETS.iter().find(|target| target.name == name);
        found.ok_or_else(|| format!("target `{name}` is not known, expected one of: {}", known()))
    };
    names.iter().map(find).collect()
}
