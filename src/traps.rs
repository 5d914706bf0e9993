//! Known traps: what drivers and compilers are publicly known to get wrong in compute shaders, and what this crate does
//! about it. [`TRAPS`] is the table; `docs/TRAPS.md` is printed from it.
//!
//! The environment overrides the table, for those who report bugs: `TILELOOM_TRAPS="off:matrices,force:shuffles"` uses
//! cooperative matrices although the table says that they are wrong on this adapter, and leaves shuffles although it does
//! not. Words are those of [`Avoid`], or `all`; later ones win. It is read once per process. **`off` can crash**: llvmpipe
//! with cooperative matrices at a subgroup width of 4 panics in `request_device`, at 16 the driver itself crashes.

use std::fmt;
use std::sync::OnceLock;

use crate::caps::{Vendor, is_software};
use crate::config::{Field, words};

words! {
    /// What kernels leave alone on some adapters.
    pub enum Avoid {
        /// Cooperative matrices. The feature is not even requested.
        Matrices = "matrices",
        /// Workgroups of 32 invocations.
        Workgroup32 = "workgroup-32",
        /// Shuffles among neighbours, by the driver's word on the least size of a subgroup.
        Shuffles = "shuffles",
        /// Sums and maxima by subgroup operations: workgroup memory takes their place.
        Reductions = "reductions",
        /// A subgroup size that is taken for that of every pipeline.
        FixedSubgroup = "fixed-subgroup",
        /// `f16` in storage: tensors are held as pairs in u32.
        NativeF16 = "native-f16",
        /// Bindings of 2 GiB and more.
        LargeBindings = "large-bindings",
        /// More than 65,535 rounds of the loops of an invocation.
        LongLoops = "long-loops",
    }
}

impl fmt::Display for Avoid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Trap {
    /// What is done about it.
    pub act: Act,
    /// The adapters, drivers or compilers that it was seen on.
    pub place: &'static str,
    /// What goes wrong.
    pub what: &'static str,
    /// How this crate avoids it, or what is left to its users.
    pub how: &'static str,
    /// Public threads that tell of it: `owner/repository#number` of GitHub, `mesa/mesa` of Mesa's GitLab, `dawn` of Dawn; none where it was seen in
    /// this repository.
    pub threads: &'static [&'static str],
    /// Tests that fail where it is not avoided: file and name.
    pub guards: &'static [(&'static str, &'static str)],
}

/// What is done about a trap.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// Something is left alone on some adapters.
    Avoid(Avoid, On),
    /// A rule that all kernels keep on every adapter.
    Always,
    /// It is up to the program, or to its user.
    Tell,
}

/// The adapters of a row.
#[derive(Debug, Clone, Copy)]
pub struct On(fn(&Facts) -> bool);

/// What the adapters of a row are known by.
pub(crate) struct Facts<'a> {
    pub name: &'a str,
    /// Name and version.
    pub driver: &'a str,
    pub vendor: Vendor,
    pub backend: wgpu::Backend,
    pub device_type: wgpu::DeviceType,
    pub subgroup: (u32, u32),
}

impl Facts<'_> {
    /// Whether the name has one of `words`, which are in lower case.
    fn named(&self, words: &[&str]) -> bool {
        words.iter().any(|word| has(self.name, word))
    }

    /// The first row of the table that has `what` left alone on this adapter.
    pub fn avoid(&self, what: Avoid) -> Option<&'static Trap> {
        TRAPS.iter().find(|trap| matches!(trap.act, Act::Avoid(left, On(on)) if left == what && on(self)))
    }
}

/// Whether `text` has `word`, whatever the case.
fn has(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether this is llvmpipe of a Mesa before `version` (year, quarter), or of one that does not tell.
pub(crate) fn mesa_before(vendor: Vendor, driver: &str, version: (u32, u32)) -> bool {
    let told = || {
        let mut parts = driver.split("Mesa ").nth(1)?.split(['.', '-', ' ']).map(|part| part.parse().ok());
        Some((parts.next()??, parts.next()??))
    };
    vendor == Vendor::Mesa && told().is_none_or(|have| have < version)
}

const TURING: [&str; 16] = [
    "rtx 20",
    "gtx 16",
    "quadro rtx",
    "tesla t4",
    "titan rtx",
    "t400",
    "t500",
    "t550",
    "t600",
    "t1000",
    "t1200",
    "t2000",
    "mx450",
    "mx550",
    "tu10",
    "tu11",
];

/// Panther Lake and Wildcat Lake.
const XE3: [&str; 7] = ["xe3", "panther lake", "(ptl)", "arc(tm) b390", "arc(tm) b370", "wildcat lake", "(wcl)"];

const CAPS: &str = "src/caps.rs";
const TABLE: &str = "src/traps.rs";
const SHADERS: &str = "tests/shaders/main.rs";
const COMPOSED: (&str, &str) = (SHADERS, "what_the_lists_hold_composes_on_every_preset");
const BROKEN: (&str, &str) = (SHADERS, "broken_rules_are_found");
const DXC: (&str, &str) = ("tools/compilers/dxc.py", "check");
const METAL: (&str, &str) = ("tools/compilers/metal.py", "check");
const PROBED: (&str, &str) = ("tests/kernels/context.rs", "the probe proves cooperative matrices");
const SUBGROUPS: (&str, &str) = ("tests/kernels/subgroups.rs", "runs of neighbours lie in one subgroup, in order");
const CHECKED: (&str, &str) = ("tools/loom/src/kernels/gemm/mod.rs", "checked modules give the same bits");
const DENIED: (&str, &str) = (TABLE, "cooperative_matrices_are_denied_where_drivers_break");

/// All known traps that touch these kernels: first what is left alone, then rules for all adapters, then advice.
pub const TRAPS: &[Trap] = &[
    Trap {
        act: Act::Avoid(Avoid::Matrices, On(|f| f.vendor == Vendor::Mesa && f.subgroup != (8, 8))),
        place: "llvmpipe, but at a subgroup width of 8",
        what: "cooperative matrices crash: at width 4 request_device panics, at 16 the driver goes down",
        how: "the feature is not requested",
        threads: &[],
        guards: &[DENIED],
    },
    Trap {
        act: Act::Avoid(Avoid::Matrices, On(|f| f.vendor == Vendor::Nvidia && !f.named(&["ada"]) && f.named(&TURING))),
        place: "NVIDIA Turing, KHR_cooperative_matrix",
        what: "cooperative matrices give wrong results or lose the device on some drivers",
        how: "the feature is not requested",
        threads: &["ggml-org/llama.cpp#19075", "ggml-org/llama.cpp#19290"],
        guards: &[DENIED],
    },
    Trap {
        act: Act::Avoid(Avoid::Matrices, On(|f| f.vendor == Vendor::Intel && f.named(&XE3))),
        place: "Intel Xe3 (Panther Lake, Wildcat Lake), Mesa's ANV",
        what: "cooperative loads from workgroup memory all give the tile at offset 0",
        how: "the feature is not requested, whatever the driver",
        threads: &["mesa/mesa#15932", "tracel-ai/cubecl#1444"],
        guards: &[DENIED],
    },
    Trap {
        act: Act::Avoid(Avoid::Workgroup32, On(|f| f.backend == wgpu::Backend::Metal)),
        place: "Apple's compiler",
        what: "rows 4 to 7 of matrices of 8 x 8 are corrupted in kernels that are bounded to 32 threads, as naga bounds them",
        how: "no Config has workgroups of 32 invocations; 64 are right",
        threads: &["tracel-ai/cubecl#1636", "tracel-ai/cubek#645"],
        guards: &[(SHADERS, "no_workgroup_of_32_on_metal"), (CAPS, "no_workgroup_of_32_on_metal")],
    },
    Trap {
        act: Act::Avoid(Avoid::Shuffles, On(|f| f.backend == wgpu::Backend::Metal)),
        place: "Metal",
        what: "wgpu reports subgroups of 4 to 64 whatever the GPU",
        how: "no shuffle goes by that: sums of few lanes go through workgroup memory",
        threads: &["gfx-rs/wgpu#9876"],
        guards: &[(CAPS, "shuffles_go_by_the_least_subgroup")],
    },
    Trap {
        act: Act::Avoid(Avoid::Shuffles, On(|f| !matches!(f.backend, wgpu::Backend::Vulkan | wgpu::Backend::Metal))),
        place: "Direct3D 12, GL, browsers",
        what: "which lanes are neighbours is the driver's own; not tried on anything but Vulkan",
        how: "as on Metal",
        threads: &["gpuweb/gpuweb#4963"],
        guards: &[(CAPS, "shuffles_go_by_the_least_subgroup")],
    },
    Trap {
        act: Act::Avoid(Avoid::Reductions, On(|f| f.vendor == Vendor::Intel && f.backend == wgpu::Backend::Metal)),
        place: "Intel UHD 630 on Metal",
        what: "sums over a subgroup (simd_sum) are wrong",
        how: "on Intel GPUs under Metal all sums go through workgroup memory",
        threads: &["KhronosGroup/MoltenVK#2757"],
        guards: &[(TABLE, "what_is_avoided_where")],
    },
    Trap {
        act: Act::Avoid(Avoid::FixedSubgroup, On(|f| f.vendor == Vendor::Intel)),
        place: "Intel",
        what: "subgroups vary by pipeline from 8 to 32, and are not always full",
        how: "no size is taken for granted; sums are right with inactive lanes",
        threads: &[
            "ggml-org/llama.cpp#17297",
            "ggml-org/llama.cpp#18831",
            "IGCIT/Intel-GPU-Community-Issue-Tracker-IGCIT#1402",
        ],
        guards: &[(CAPS, "shuffles_go_by_the_least_subgroup"), SUBGROUPS],
    },
    Trap {
        act: Act::Avoid(Avoid::NativeF16, On(|f| is_software(f.device_type, f.vendor))),
        place: "adapters in software",
        what: "native f16 is slow: it is converted one by one in a library call, pairs in words by one instruction",
        how: "f16 is held in words",
        threads: &[],
        guards: &[(CAPS, "f16_is_native_where_that_is_no_slower")],
    },
    Trap {
        act: Act::Avoid(Avoid::NativeF16, On(|f| f.vendor == Vendor::Nvidia && has(f.driver, "nvk"))),
        place: "NVIDIA, Mesa's NVK",
        what: "native f16 is slow: each is loaded by itself where buffers are checked, pairs by words",
        how: "f16 is held in words",
        threads: &[],
        guards: &[(CAPS, "f16_is_native_where_that_is_no_slower")],
    },
    Trap {
        act: Act::Avoid(Avoid::LargeBindings, On(|f| f.backend != wgpu::Backend::Metal)),
        place: "Vulkan and Direct3D 12 drivers that index by 32 bits with a sign",
        what: "what lies past 2 GiB in a binding is lost without a word, although the driver reports 4 GiB",
        how: "bindings end below 2 GiB, whatever the limit says: products and gathers go in pieces, the rest is refused",
        threads: &["gfx-rs/wgpu#2361", "gfx-rs/wgpu#8105"],
        guards: &[(TABLE, "bindings_end_below_two_gib")],
    },
    Trap {
        act: Act::Avoid(Avoid::LongLoops, On(|f| mesa_before(f.vendor, f.driver, (26, 2)))),
        place: "llvmpipe of Mesa 22.3, and of versions to 26.1 that were not tried",
        what: "the loops of an invocation end after 65,535 rounds without a word",
        how: "rounds are counted, and the work is split or refused",
        threads: &[],
        guards: &[
            (CAPS, "only_old_mesa_cuts_loops_short"),
            ("tests/shaders/softmax.rs", "long_rows_are_split_where_the_driver_cuts_loops_short"),
        ],
    },
    Trap {
        act: Act::Always,
        place: "AMD's driver for Windows, up to RDNA2",
        what: "subgroupShuffleXor of vectors of f16 is wrong",
        how: "only f32 is shuffled",
        threads: &["ggml-org/llama.cpp#19921"],
        guards: &[COMPOSED, BROKEN],
    },
    Trap {
        act: Act::Always,
        place: "Qualcomm Adreno",
        what: "cooperative matrices are wrong where tiles are filled by the invocation's number in its subgroup",
        how: "tiles are filled by the number in the workgroup",
        threads: &["Tencent/ncnn#6972"],
        guards: &[COMPOSED, BROKEN, PROBED],
    },
    Trap {
        act: Act::Always,
        place: "AMD (old Windows drivers, RADV by version), Intel",
        what: "subgroups have another width than was asked for or told",
        how: "no width is asked for; a subgroup's number and width are read in the shader and clamped; every path by subgroups \
              has a twin without",
        threads: &["ggml-org/ggml#1619", "ggml-org/llama.cpp#16339"],
        guards: &[SUBGROUPS, (CAPS, "shuffles_go_by_the_least_subgroup")],
    },
    Trap {
        act: Act::Always,
        place: "AMD Radeon RX 5700 XT, Vulkan on Windows",
        what: "workgroup memory is zeroed by the driver without a barrier, over what the shader has written",
        how: "zeroing is off, and memory is written before it is read",
        threads: &["gfx-rs/wgpu#4591"],
        guards: &[CHECKED],
    },
    Trap {
        act: Act::Always,
        place: "Metal",
        what: "a barrier is lost where one invocation writes workgroup memory, all read it and leave",
        how: "kernels have that shape where they must; a test of it runs on every adapter",
        threads: &["gfx-rs/wgpu#3181", "gfx-rs/wgpu#4500", "KhronosGroup/MoltenVK#2711"],
        guards: &[("tests/kernels/barriers.rs", "what one invocation writes, all read")],
    },
    Trap {
        act: Act::Always,
        place: "Metal and others",
        what: "tanh of a large value is NaN",
        how: "no shader calls tanh: it is written by an exponential that cannot overflow",
        threads: &["gpuweb/gpuweb#4458", "apache/tvm#16438"],
        guards: &[COMPOSED, BROKEN, ("tests/kernels/gemm/mod.rs", "functions over their range")],
    },
    Trap {
        act: Act::Always,
        place: "llvmpipe, where the CPU has no instruction for it: vectors of 512 bits without AVX-512",
        what: "round takes ties away from zero, and not to even",
        how: "no shader calls round: the lowest bits of a sum with 2^23 are the nearest integer",
        threads: &[],
        guards: &[COMPOSED, BROKEN, ("tests/kernels/rows/quantize.rs", "worked out")],
    },
    Trap {
        act: Act::Always,
        place: "compilers with fast maths",
        what: "infinity and NaN are assumed away: a test for them is dropped, infinity times 0 is 0",
        how: "minus infinity is a parameter, is known by its bits, and takes no part in arithmetic that counts",
        threads: &["pygfx/wgpu-py#620"],
        guards: &[
            ("tools/loom/src/kernels/rows/softmax.rs", "extreme scores"),
            ("tools/loom/src/kernels/rows/softmax.rs", "a finite mask hides nothing"),
        ],
    },
    Trap {
        act: Act::Always,
        place: "NVIDIA, Vulkan",
        what: "more workgroups per dimension are reported than a dispatch may have",
        how: "a dimension has at most 65,535; more fold into the next",
        threads: &["tracel-ai/cubecl#1388"],
        guards: &[
            ("src/args.rs", "grids_fold_evenly"),
            ("tools/loom/src/kernels/rows/softmax.rs", "more than 65,535 workgroups"),
        ],
    },
    Trap {
        act: Act::Always,
        place: "Metal",
        what: "bindings of 4 GiB and more are addressed wrongly past that",
        how: "no binding has 4 GiB on any adapter",
        threads: &["gfx-rs/wgpu#10305"],
        guards: &[(TABLE, "bindings_end_below_two_gib")],
    },
    Trap {
        act: Act::Always,
        place: "Vulkan drivers",
        what: "the bounds that naga adds to loops crash compilers, or make bad code",
        how: "modules have none by default; with all checks on they must give the same bits",
        threads: &["gfx-rs/wgpu#7743"],
        guards: &[CHECKED],
    },
    Trap {
        act: Act::Always,
        place: "naga 30, HLSL",
        what: "a subgroup's builtins in a struct have no value where no argument is one of them by itself, and DXC refuses the shader",
        how: "the composed entry point has such an argument, too",
        threads: &[],
        guards: &[COMPOSED, BROKEN, DXC],
    },
    Trap {
        act: Act::Always,
        place: "naga 30, HLSL",
        what: "zeros such as u32() are defined twice where a name for the type has a zero, too",
        how: "what a Problem lacks is read as a variable without a value",
        threads: &[],
        guards: &[DXC],
    },
    Trap {
        act: Act::Always,
        place: "naga 30, Metal, with runtime checks",
        what: "the number in the workgroup, in a struct, is called by its old name where naga had to rename it",
        how: "it is called `invocation`, which nothing else is",
        threads: &[],
        guards: &[COMPOSED, BROKEN, METAL],
    },
    Trap {
        act: Act::Always,
        place: "naga 30, Metal",
        what: "two dot4I8Packed of one factor in a function define it twice",
        how: "a function has at most one",
        threads: &[],
        guards: &[COMPOSED, BROKEN, METAL],
    },
    Trap {
        act: Act::Tell,
        place: "AMD integrated GPUs under Windows (Radeon 860M, Adrenalin 26.3), Vulkan",
        what: "the driver crashes the process while wgpu lists adapters and asks for their cooperative matrices",
        how: "no library can catch it: leave Vulkan out, by WGPU_BACKEND=dx12 or an instance with Backends::DX12 alone",
        threads: &["GPUOpen-Drivers/AMDVLK#422", "ggml-org/llama.cpp#22750"],
        guards: &[],
    },
    Trap {
        act: Act::Tell,
        place: "Qualcomm Adreno",
        what: "a compute pass after a render pass in one command buffer crashes",
        how: "record kernels into an encoder of their own",
        threads: &["dawn#1564"],
        guards: &[],
    },
    Trap {
        act: Act::Tell,
        place: "Qualcomm Adreno 6xx, 8xx",
        what: "results are right on the first run only, or large kernels lose the device",
        how: "run `loom check` there before you ship",
        threads: &["google-ai-edge/LiteRT#8065", "mlc-ai/web-llm#836", "ggml-org/llama.cpp#23558"],
        guards: &[],
    },
    Trap {
        act: Act::Tell,
        place: "Arm Mali-G715, G720",
        what: "products of matrices are wrong for all dtypes",
        how: "run `loom check` there before you ship",
        threads: &["ggml-org/llama.cpp#23241", "google-ai-edge/LiteRT-LM#2202"],
        guards: &[],
    },
    Trap {
        act: Act::Always,
        place: "Metal",
        what: "an index at run time into a local vector reads 0 in large kernels (one of 29,000 lines)",
        how: "no half of a word is picked by an index, and a kernel has less than 4000 lines of Metal's language; vectors of four and arrays still are indexed at run time",
        threads: &["Genesis-Embodied-AI/quadrants#835"],
        guards: &[COMPOSED, BROKEN],
    },
    Trap {
        act: Act::Tell,
        place: "Metal on a Radeon Pro W5700X",
        what: "nested loops are wrong",
        how: "kernels have them: run `loom check` there before you ship",
        threads: &["gfx-rs/wgpu#5067"],
        guards: &[],
    },
    Trap {
        act: Act::Tell,
        place: "AMD Radeon RX 5700",
        what: "kernels under register pressure write wrong values or hang",
        how: "no chosen Config spills on the GPUs of `loom isa`, but RDNA1 is none of them",
        threads: &["GPUOpen-Drivers/AMD-Gfx-Drivers#59"],
        guards: &[],
    },
    Trap {
        act: Act::Tell,
        place: "WARP (Microsoft Basic Render Driver)",
        what: "workgroup barriers do not hold; shaders of some versions of DXC are rejected or hang",
        how: "it is no reference: do not call a kernel wrong, or right, by it",
        threads: &["gfx-rs/wgpu#7904", "gfx-rs/wgpu#8368", "gfx-rs/wgpu#9554"],
        guards: &[],
    },
    Trap {
        act: Act::Tell,
        place: "Direct3D 12 with FXC",
        what: "the optimiser miscompiles",
        how: "give wgpu DXC (`Dx12Compiler`)",
        threads: &["dawn#1203"],
        guards: &[],
    },
    Trap {
        act: Act::Tell,
        place: "Direct3D 12 with DXC",
        what: "old versions crash on chained dot4add_i8packed; with Intel's driver nested loops were wrong",
        how: "ship a recent DXC where gemm_quant has activations of int8",
        threads: &["gfx-rs/wgpu#7651", "microsoft/DirectXShaderCompiler#7400", "gpuweb/cts#3063"],
        guards: &[],
    },
    Trap {
        act: Act::Tell,
        place: "Raspberry Pi 4 (V3D), GL",
        what: "the results of a plain loop are wrong",
        how: "use Vulkan",
        threads: &["gfx-rs/wgpu#1583"],
        guards: &[],
    },
];

/// What the environment says against the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overrides {
    off: u16,
    forced: u16,
}

impl Overrides {
    /// The variable of the environment that they are read from.
    pub const VARIABLE: &'static str = "TILELOOM_TRAPS";

    /// With `what` left alone nowhere.
    pub const fn off(self, what: Avoid) -> Overrides {
        let bit = 1 << what as u16;
        Overrides { off: self.off | bit, forced: self.forced & !bit }
    }

    /// With `what` left alone everywhere.
    pub const fn force(self, what: Avoid) -> Overrides {
        let bit = 1 << what as u16;
        Overrides { off: self.off & !bit, forced: self.forced | bit }
    }

    /// Whether `what` is left alone, if the environment has a say in it.
    pub const fn of(self, what: Avoid) -> Option<bool> {
        let bit = 1 << what as u16;
        if self.forced & bit != 0 {
            return Some(true);
        }
        if self.off & bit != 0 { Some(false) } else { None }
    }

    /// Of a text such as `off:matrices,force:shuffles`, and the parts of it that are not understood.
    pub fn parse(text: &str) -> (Overrides, Vec<&str>) {
        let (mut overrides, mut unknown) = (Overrides::default(), Vec::new());
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (verb, word) = part.split_once(':').unwrap_or((part, ""));
            let all = if word == "all" { Avoid::ALL.to_vec() } else { Avoid::parse(word).into_iter().collect() };
            match verb {
                "off" | "force" if !all.is_empty() => {
                    for what in all {
                        overrides = if verb == "off" { overrides.off(what) } else { overrides.force(what) };
                    }
                }
                _ => unknown.push(part),
            }
        }
        (overrides, unknown)
    }

    /// Those of the environment, which is read once; what is not understood is logged as a warning.
    pub(crate) fn of_environment() -> Overrides {
        static READ: OnceLock<Overrides> = OnceLock::new();
        *READ.get_or_init(|| {
            let text = std::env::var_os(Self::VARIABLE).unwrap_or_default();
            let text = text.to_string_lossy();
            let (overrides, unknown) = Self::parse(&text);
            let words: Vec<_> = Avoid::ALL.iter().map(|what| what.name()).collect();
            for part in unknown {
                log::warn!(
                    "{}: `{part}` is not known; known are off:WORD and force:WORD, where WORD is all, {}",
                    Self::VARIABLE,
                    words.join(", ")
                );
            }
            overrides
        })
    }
}

/// As they are parsed; nothing where there are none.
impl fmt::Display for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = Avoid::ALL.iter().filter_map(|&what| Some((what, self.of(what)?)));
        for (i, (what, forced)) in said.enumerate() {
            write!(f, "{}{}:{what}", if i > 0 { "," } else { "" }, if forced { "force" } else { "off" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Caps;
    use crate::caps::presets;

    fn preset(name: &str) -> Caps {
        presets().into_iter().find(|caps| caps.name == name).unwrap()
    }

    fn avoided(caps: &Caps) -> String {
        caps.avoided().map(|(what, _)| what.name()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_avoided_where() {
        let named = |name: &str, caps: Caps| Caps { name: name.into(), ..caps };
        let turing = named("NVIDIA GeForce RTX 2080 Ti", preset("NVIDIA"));
        let uhd = Caps { vendor: Vendor::Intel, ..preset("Apple") };
        for (caps, expected) in [
            (turing, "matrices large-bindings"),
            (named("NVIDIA RTX 2000 Ada Generation", preset("NVIDIA")), "large-bindings"),
            (preset("NVIDIA on NVK"), "native-f16 large-bindings"),
            (named("Intel(R) Arc(TM) B390 Graphics (PTL)", preset("Intel")), "matrices fixed-subgroup large-bindings"),
            (preset("Intel Xe2"), "fixed-subgroup large-bindings"),
            (preset("Apple"), "workgroup-32 shuffles"),
            (uhd, "workgroup-32 shuffles reductions fixed-subgroup"),
            (preset("Apple on Honeykrisp"), "large-bindings"),
            (preset("AMD"), "large-bindings"),
            (preset("AMD on DX12"), "shuffles large-bindings"),
            (preset("Qualcomm"), "large-bindings"),
            (preset("Mali"), "large-bindings"),
            (preset("WARP"), "shuffles native-f16 large-bindings"),
            (preset("SwiftShader"), "native-f16 large-bindings"),
            (preset("lavapipe, Mesa 26"), "native-f16 large-bindings"),
            (preset("lavapipe, Mesa 22"), "native-f16 large-bindings long-loops"),
            (preset("llvmpipe GL"), "matrices shuffles native-f16 large-bindings long-loops"),
            (preset("WebGPU baseline"), "shuffles large-bindings"),
        ] {
            assert_eq!(avoided(&caps), expected, "{caps}");
        }
    }

    #[test]
    fn cooperative_matrices_are_denied_where_drivers_break() {
        for (name, vendor, width, denied) in [
            ("llvmpipe (LLVM 21, 256 bits)", 0x10005, 8, false),
            ("llvmpipe (LLVM 21, 128 bits)", 0x10005, 4, true),
            ("llvmpipe (LLVM 21, 512 bits)", 0x10005, 16, true),
            ("NVIDIA GeForce RTX 2080", 0x10de, 32, true),
            ("NVIDIA T1200 Laptop GPU", 0x10de, 32, true),
            ("NVIDIA GeForce RTX 2070 (NVK TU106)", 0x10de, 32, true),
            ("NVIDIA GeForce RTX 4090", 0x10de, 32, false),
            ("NVIDIA RTX 2000 Ada Generation", 0x10de, 32, false),
            ("Intel(R) Graphics (PTL)", 0x8086, 16, true),
            ("Intel(R) Arc(tm) B390 Graphics", 0x8086, 16, true),
            ("Intel(R) Graphics (WCL)", 0x8086, 16, true),
            ("Intel(R) Arc(tm) B580 Graphics (BMG G21)", 0x8086, 16, false),
        ] {
            let info = wgpu::AdapterInfo {
                name: name.into(),
                vendor,
                subgroup_min_size: width,
                subgroup_max_size: width,
                ..wgpu::AdapterInfo::new(wgpu::DeviceType::Cpu, wgpu::Backend::Vulkan)
            };
            let denied_with = |overrides| crate::caps::deny_coop(&info, overrides).is_some();
            assert_eq!(denied_with(Overrides::default()), denied, "{name}");
            assert!(!denied_with(Overrides::default().off(Avoid::Matrices)), "{name}");
            assert!(denied_with(Overrides::default().force(Avoid::Matrices)), "{name}");
        }
    }

    #[test]
    fn bindings_end_below_two_gib() {
        let two = i32::MAX as u64;
        for mut caps in presets() {
            assert_eq!(caps.binding_bytes(), caps.limits.max_storage_buffer_binding_size.min(two), "{}", caps.name);
            caps.limits.max_storage_buffer_binding_size = 1 << 40;
            let metal = caps.backend == wgpu::Backend::Metal;
            let four = u32::MAX as u64;
            assert_eq!(caps.binding_bytes(), if metal { four } else { two }, "{}", caps.name);
            let with = |overrides| Caps { overrides, ..caps.clone() }.binding_bytes();
            let none = Overrides::default();
            assert_eq!([with(none.off(Avoid::LargeBindings)), with(none.force(Avoid::LargeBindings))], [four, two]);
        }
    }

    #[test]
    fn the_environment_wins() {
        let none = Overrides::default();
        let with = |name: &str, overrides| Caps { overrides, ..preset(name) };
        let nvidia = |overrides| with("NVIDIA", overrides);
        assert_eq!(nvidia(none).least_subgroup(), Some(32));
        assert_eq!(nvidia(none.force(Avoid::Shuffles)).least_subgroup(), None);
        assert_eq!(nvidia(none.force(Avoid::FixedSubgroup)).trusted_subgroup_size(), None);
        assert!(!nvidia(none.force(Avoid::NativeF16)).prefers_native_f16(true));
        assert!(with("lavapipe, Mesa 26", none.off(Avoid::NativeF16)).prefers_native_f16(true));
        assert_eq!(nvidia(none.force(Avoid::LongLoops)).loop_rounds(), Some(65_535));
        assert_eq!(with("lavapipe, Mesa 22", none.off(Avoid::LongLoops)).loop_rounds(), None);
        assert!(nvidia(none.force(Avoid::Workgroup32)).check_wg_size(32).is_err());
        assert!(with("Apple", none.off(Avoid::Workgroup32)).check_wg_size(32).is_ok());
        // Pure: the same Caps choose the same.
        let problem = crate::softmax::Problem { rows: 4096, cols: 512, ..Default::default() };
        let reduce = |caps: &Caps| crate::softmax::choose(caps, &problem).unwrap().to_string();
        let metal = Caps { vendor: Vendor::Intel, ..preset("Apple") };
        assert!(reduce(&preset("Apple")).contains("reduce=subgroup"), "{}", reduce(&preset("Apple")));
        assert!(reduce(&metal).contains("reduce=tree"), "{}", reduce(&metal));
        let forced = Caps { overrides: none.force(Avoid::Reductions), ..preset("Apple") };
        assert_eq!(reduce(&forced), reduce(&metal));
    }

    #[test]
    fn overrides_are_parsed_and_printed() {
        let parsed = |text| {
            let (overrides, unknown) = Overrides::parse(text);
            (overrides.to_string(), unknown.join(" "))
        };
        let of = |overrides: &str, unknown: &str| (overrides.to_string(), unknown.to_string());
        assert_eq!(parsed(""), of("", ""));
        assert_eq!(parsed(" off:matrices , force:shuffles,"), of("off:matrices,force:shuffles", ""));
        assert_eq!(parsed("force:shuffles,off:shuffles"), of("off:shuffles", ""));
        assert_eq!(
            parsed("off:matrixes,matrices,off:,off,on:shuffles,Force:all,off:workgroup-32"),
            of("off:workgroup-32", "off:matrixes matrices off: off on:shuffles Force:all")
        );
        let (mut all, _) = Overrides::parse("force:all,off:native-f16");
        for &what in Avoid::ALL {
            assert_eq!(all.of(what), Some(what != Avoid::NativeF16), "{what}");
            assert_eq!(Overrides::default().of(what), None, "{what}");
        }
        all = Overrides::parse(&all.to_string()).0.off(Avoid::Matrices);
        assert_eq!(all.of(Avoid::Matrices), Some(false));
    }

    #[test]
    fn rows_are_whole() {
        for trap in TRAPS {
            let texts = [trap.place, trap.what, trap.how];
            assert!(texts.iter().all(|text| !text.is_empty() && !text.contains(['|', '\n'])), "{trap:?}");
            // Without a public thread it was seen here, and is avoided.
            assert!(!trap.threads.is_empty() || !matches!(trap.act, Act::Tell), "{trap:?}");
            assert_eq!(trap.guards.is_empty(), matches!(trap.act, Act::Tell), "{trap:?}");
        }
        for &what in Avoid::ALL {
            assert!(TRAPS.iter().any(|trap| matches!(trap.act, Act::Avoid(left, _) if left == what)), "{what}");
        }
    }
}
