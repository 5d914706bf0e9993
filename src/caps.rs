//! [`Caps`]: what an adapter and its device can do, as plain facts.

use std::fmt;

use crate::error::Checked;
use crate::rounds::Rounds;
use crate::traps::{self, Avoid, Facts, Overrides};
use crate::{ErrorKind, Misfit};

/// Facts of an adapter and of the device made from it. All fields are public, so that a test can
/// build one by hand; [`presets`] mimics common GPUs.
#[derive(Debug, Clone, PartialEq)]
pub struct Caps {
    /// The adapter's name.
    pub name: String,
    /// Driver name and version as the adapter reports them.
    pub driver: String,
    /// The API that wgpu uses.
    pub backend: wgpu::Backend,
    /// Discrete, integrated, CPU or another.
    pub device_type: wgpu::DeviceType,
    /// Who made the GPU.
    pub vendor: Vendor,
    /// Limits of the *device*.
    pub limits: wgpu::Limits,
    /// `SHADER_F16`.
    pub f16: bool,
    /// Bytes of immediates, 0 where the device has none.
    pub immediate_bytes: u32,
    /// Subgroup operations in compute shaders, where the device has them.
    pub subgroup: Option<Subgroup>,
    /// Cooperative-matrix shapes that the device offers, where [`Avoid::Matrices`] does not hold.
    pub coop: Vec<CoopShape>,
    /// Why shapes that the adapter lists are not in `coop`.
    pub coop_denied: Option<&'static str>,
    /// Whether `Kernels::probe` has seen every shape of `coop` compute right results. `choose` goes by it; new `Kernels`
    /// do not, they probe for themselves.
    pub coop_probed: bool,
    /// Timestamp queries at pass boundaries.
    pub timestamps: bool,
    /// wgpu's pipeline cache.
    pub pipeline_cache: bool,
    /// What the environment says against the table of [`traps`]; [`Kernels`](crate::Kernels) go by the environment alone.
    pub overrides: Overrides,
    /// Configs do not depend on the batch: [`KernelsOptions::batch_invariant`](crate::KernelsOptions::batch_invariant), no fact of a device.
    pub batch_invariant: bool,
}

/// The range of subgroup sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subgroup {
    /// The smallest size.
    pub min: u32,
    /// The largest size.
    pub max: u32,
}

impl Subgroup {
    /// The size, where every pipeline has the same.
    pub fn fixed(self) -> Option<u32> {
        (self.min == self.max).then_some(self.min)
    }
}

/// One cooperative-matrix multiply: `[m, k] x [k, n]`, in `ab` type, accumulated in `acc` type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CoopShape {
    /// Rows of the product.
    pub m: u32,
    /// Columns of the product.
    pub n: u32,
    /// Columns of the left matrix, rows of the right one.
    pub k: u32,
    /// Type of both factors.
    pub ab: CoopScalar,
    /// Type of the product.
    pub acc: CoopScalar,
}

impl CoopShape {
    /// The square sizes that WGSL can name here.
    fn is_square(self) -> bool {
        self.m == self.n && self.n == self.k && (self.m == 8 || self.m == 16)
    }
}

/// Element types of cooperative matrices that kernels use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CoopScalar {
    /// `f16`.
    F16,
    /// `f32`.
    F32,
}

/// Invocations of a workgroup that kernels may have on any device; each that runs compute shaders has more.
pub(crate) const LEAST_INVOCATIONS: u32 = 64;

/// Who made the GPU, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// AMD.
    Amd,
    /// Apple.
    Apple,
    /// Arm (Mali).
    Arm,
    /// Intel.
    Intel,
    /// NVIDIA.
    Nvidia,
    /// Qualcomm (Adreno).
    Qualcomm,
    /// llvmpipe, lavapipe: Mesa on the CPU.
    Mesa,
    /// Google's renderer on the CPU.
    SwiftShader,
    /// WARP.
    Microsoft,
    /// Another one.
    Unknown,
}

/// What the tables of Configs are looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The shader runs on the CPU.
    Software,
    /// A GPU that shares the memory of the CPU, or an unknown one.
    Integrated,
    /// A GPU with memory of its own.
    Discrete,
}

/// The adapters that a row of a table of Configs is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adapters {
    class: Class,
    /// Those of any vendor, where there is none.
    vendor: Option<Vendor>,
}

impl Class {
    /// All adapters of this class.
    pub(crate) const fn any(self) -> Adapters {
        Adapters { class: self, vendor: None }
    }

    /// Those of one vendor.
    pub(crate) const fn of(self, vendor: Vendor) -> Adapters {
        Adapters { class: self, vendor: Some(vendor) }
    }
}

/// Whether shaders run on the CPU.
pub(crate) fn is_software(device_type: wgpu::DeviceType, vendor: Vendor) -> bool {
    device_type == wgpu::DeviceType::Cpu || matches!(vendor, Vendor::Mesa | Vendor::SwiftShader | Vendor::Microsoft)
}

impl Caps {
    /// The facts of `adapter` and of `device`, which was made from it.
    pub fn of(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Caps {
        let (caps, has_coop) = Self::of_device(adapter.get_info(), device);
        Caps { coop: if has_coop { coop_shapes(adapter) } else { Vec::new() }, ..caps }
    }

    /// These facts as far as they hold on `device`: what it is, is its own word; what it lacks is left out; its cooperative
    /// matrices are still to be probed.
    pub(crate) fn on(self, device: &wgpu::Device) -> Caps {
        let (own, has_coop) = Self::of_device(device.adapter_info(), device);
        Caps {
            limits: self.limits.or_worse_values_from(&own.limits),
            f16: self.f16 && own.f16,
            immediate_bytes: self.immediate_bytes.min(own.immediate_bytes),
            subgroup: self.subgroup.and(own.subgroup),
            coop: self.coop.into_iter().filter(|shape| has_coop && shape.is_square()).collect(),
            timestamps: self.timestamps && own.timestamps,
            pipeline_cache: self.pipeline_cache && own.pipeline_cache,
            ..own
        }
    }

    /// The facts of `device`, whose adapter is `info`, without the shapes of cooperative matrices; and whether it has any.
    fn of_device(info: wgpu::AdapterInfo, device: &wgpu::Device) -> (Caps, bool) {
        let features = device.features();
        let limits = device.limits();
        let vendor = Vendor::of(&info);
        let subgroup = features
            .contains(wgpu::Features::SUBGROUP)
            .then_some(Subgroup { min: info.subgroup_min_size, max: info.subgroup_max_size });
        let offers_coop = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        let overrides = Overrides::of_environment();
        let coop_denied = if offers_coop { deny_coop(&info, overrides) } else { None };
        let caps = Caps {
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            name: info.name,
            backend: info.backend,
            device_type: info.device_type,
            vendor,
            f16: features.contains(wgpu::Features::SHADER_F16),
            immediate_bytes: if features.contains(wgpu::Features::IMMEDIATES) { limits.max_immediate_size } else { 0 },
            subgroup,
            coop: Vec::new(),
            coop_denied,
            coop_probed: false,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            pipeline_cache: features.contains(wgpu::Features::PIPELINE_CACHE),
            limits,
            overrides,
            batch_invariant: false,
        };
        (caps, offers_coop && coop_denied.is_none())
    }

    /// The features of `adapter` that kernels make use of, for your own `request_device`. Cooperative
    /// matrices are among them only where they are safe to ask for ([`traps`]); they are experimental in wgpu,
    /// so that `experimental_features` must be enabled beside them.
    pub fn wanted_features(adapter: &wgpu::Adapter) -> wgpu::Features {
        use wgpu::Features as F;
        let mut wanted = F::SHADER_F16 | F::SUBGROUP | F::IMMEDIATES | F::TIMESTAMP_QUERY | F::PIPELINE_CACHE;
        if deny_coop(&adapter.get_info(), Overrides::of_environment()).is_none() {
            wanted |= F::EXPERIMENTAL_COOPERATIVE_MATRIX;
        }
        adapter.features() & wanted
    }

    /// A device with [`wanted_features`](Self::wanted_features) and all that the adapter allows of limits.
    pub fn device_descriptor(adapter: &wgpu::Adapter) -> wgpu::DeviceDescriptor<'static> {
        let required_features = Self::wanted_features(adapter);
        let experimental = required_features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        wgpu::DeviceDescriptor {
            label: Some("tileloom"),
            required_features,
            required_limits: adapter.limits(),
            // SAFETY: the only experimental feature is that of cooperative matrices; kernels use them only
            // after `Kernels::probe` has seen right results, and not where the table of traps leaves them.
            experimental_features: if experimental {
                unsafe { wgpu::ExperimentalFeatures::enabled() }
            } else {
                wgpu::ExperimentalFeatures::disabled()
            },
            ..Default::default()
        }
    }

    /// Refuses a device with less than all kernels take for granted: one of WebGL has no compute shaders at all.
    pub(crate) fn check_device(&self) -> Checked {
        let l = &self.limits;
        let all = [
            ("max_compute_invocations_per_workgroup", l.max_compute_invocations_per_workgroup, LEAST_INVOCATIONS),
            ("max_compute_workgroup_size_x", l.max_compute_workgroup_size_x, LEAST_INVOCATIONS),
            ("max_compute_workgroup_storage_size", l.max_compute_workgroup_storage_size, 4 * LEAST_INVOCATIONS),
            ("max_compute_workgroups_per_dimension", l.max_compute_workgroups_per_dimension, 1),
            ("max_storage_buffers_per_shader_stage", l.max_storage_buffers_per_shader_stage, 1),
        ];
        match all.into_iter().find(|&(_, have, need)| have < need) {
            Some((limit, have, need)) => Err(ErrorKind::DeviceTooSmall { limit, have, need }),
            None => Ok(()),
        }
    }

    /// Invocations of a workgroup in one dimension, at most: naga takes no more than 2^14.
    pub fn most_invocations(&self) -> u32 {
        self.limits.max_compute_invocations_per_workgroup.min(self.limits.max_compute_workgroup_size_x).min(1 << 14)
    }

    /// Refuses a workgroup of no or of too many invocations, and one of 32 where these are avoided.
    pub(crate) fn check_wg_size(&self, wg_size: u32) -> Result<(), Misfit> {
        Misfit::unless(wg_size > 0, "wg_size must be at least 1", wg_size)?;
        let corrupted = wg_size == 32 && self.avoids(Avoid::Workgroup32);
        Misfit::unless(!corrupted, "wg_size must not be 32 on this adapter (Metal)", wg_size)?;
        Misfit::at_most("wg_size", wg_size, self.most_invocations())
    }

    /// Whether f16 tensors are better held natively. By the compilers of Mesa: RADV makes the same loads of both, and rounds
    /// native ones by one instruction when they are stored (norm of 4096 columns 354 instructions for 650); NVK (Ada) loads
    /// native ones one by one (attention's decode 224 loads for 112, 3499 instructions for 2889; a turn of gemm_vector 204 for
    /// 144; norm 651 for 737, with half the loads and stores). Vectors of four words are split there, too.
    pub(crate) fn prefers_native_f16(&self, has_f16: bool) -> bool {
        has_f16 && self.f16 && !self.avoids(Avoid::NativeF16)
    }

    /// Whether kernels leave `what` alone on this adapter: by the table of [`traps`], unless `overrides` say otherwise.
    pub fn avoids(&self, what: Avoid) -> bool {
        self.overrides.of(what).unwrap_or_else(|| self.facts().avoid(what).is_some())
    }

    /// What kernels leave alone on this adapter, and why.
    pub fn avoided(&self) -> impl Iterator<Item = (Avoid, &'static str)> {
        let why = |what| self.facts().avoid(what).map_or(Overrides::VARIABLE, |trap| trap.what);
        Avoid::ALL.iter().filter(|&&what| self.avoids(what)).map(move |&what| (what, why(what)))
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            name: &self.name,
            driver: &self.driver,
            vendor: self.vendor,
            backend: self.backend,
            device_type: self.device_type,
            subgroup: self.subgroup.map_or((0, 0), |subgroup| (subgroup.min, subgroup.max)),
        }
    }

    /// Bytes of the largest storage binding that is safe here: the device's limit, but less than 4 GiB, and less than 2 GiB
    /// under [`Avoid::LargeBindings`].
    pub fn binding_bytes(&self) -> u64 {
        let limit = self.limits.max_storage_buffer_binding_size;
        match limit > i32::MAX as u64 && self.avoids(Avoid::LargeBindings) {
            true => i32::MAX as u64,
            false => limit.min(u32::MAX.into()),
        }
    }

    /// Refuses native f16 where the device has none, or the Problem.
    pub(crate) fn check_native_f16(&self, native_f16: bool, has_f16: bool) -> Result<(), Misfit> {
        let fits = !native_f16 || (self.f16 && has_f16);
        Misfit::unless(fits, "native_f16 needs SHADER_F16 and an f16 tensor", native_f16)
    }

    /// The row of the Config tables that this adapter goes by.
    pub fn class(&self) -> Class {
        match self.device_type {
            _ if is_software(self.device_type, self.vendor) => Class::Software,
            wgpu::DeviceType::DiscreteGpu => Class::Discrete,
            _ => Class::Integrated,
        }
    }

    /// The first row of `table` that is for this adapter, else the first of all: rows of a vendor come before those of any.
    pub(crate) fn row<'a, T>(&self, table: &'a [T], adapters: impl Fn(&T) -> Adapters) -> &'a T {
        let fits = |row: &&T| {
            let Adapters { class, vendor } = adapters(row);
            class == self.class() && vendor.is_none_or(|vendor| vendor == self.vendor)
        };
        table.iter().find(fits).unwrap_or(&table[0])
    }

    /// The subgroup size, where it is one size and the driver's word on it can be trusted.
    pub fn trusted_subgroup_size(&self) -> Option<u32> {
        let size = self.subgroup?.fixed().filter(|&size| size > 0)?;
        let trusted = self.backend == wgpu::Backend::Vulkan && !self.avoids(Avoid::FixedSubgroup);
        trusted.then_some(size)
    }

    /// The least size of a subgroup, where the driver's word on it can be trusted: so many invocations of a workgroup, from a
    /// multiple of it on, lie in one subgroup, in order. A power of two of them, at most this, may shuffle among themselves,
    /// whatever sizes pipelines get and whether or not their last subgroup is full.
    ///
    /// Vulkan gives each pipeline a size from the least to the greatest, a power of two. It does not tie lanes to
    /// `local_invocation_index`, but in workgroups of one dimension, as all are here, drivers number both alike; the kernel
    /// tests look whether this one does.
    pub fn least_subgroup(&self) -> Option<u32> {
        let least = self.subgroup?.min;
        (least.is_power_of_two() && !self.avoids(Avoid::Shuffles)).then_some(least)
    }

    /// Size of a cooperative matrix of f16 with f32 sums, and the widest subgroup, where such matrices are known to work.
    pub(crate) fn coop_f16(&self) -> Option<(u32, u32)> {
        let fits = |s: &&CoopShape| s.ab == CoopScalar::F16 && s.acc == CoopScalar::F32;
        let shape = self.coop.iter().filter(fits).max_by_key(|s| s.m)?;
        // Metal's simdgroups are 32 wide on every GPU that has matrices.
        let width = match self.backend {
            wgpu::Backend::Metal => self.subgroup.map(|_| 32),
            _ => self.subgroup.map(|subgroup| subgroup.max),
        };
        width.filter(|_| self.coop_probed && self.f16).map(|width| (shape.m, width))
    }

    /// Whether this is llvmpipe of a Mesa before `version` (year, quarter), or of one that does not tell.
    pub(crate) fn mesa_before(&self, version: (u32, u32)) -> bool {
        traps::mesa_before(self.vendor, &self.driver, version)
    }

    /// Refuses subgroup operations over whole workgroups where the device has none, or they are avoided.
    pub(crate) fn check_reductions(&self) -> Result<(), Misfit> {
        Misfit::unless(self.subgroup.is_some(), "the device must have subgroups", 0u32)?;
        Misfit::unless(!self.avoids(Avoid::Reductions), "sums over subgroups are wrong on this adapter", 0u32)
    }

    /// Rounds that all loops of an invocation may take together, where the driver leaves loops without a word
    /// after more: llvmpipe of Mesa 22.3 does so after 65,535, that of 26.2 does not, and versions between, or
    /// unknown, are taken for old ones.
    pub fn loop_rounds(&self) -> Option<u32> {
        self.avoids(Avoid::LongLoops).then_some(65_535)
    }

    /// Refuses more rounds than this driver takes.
    pub(crate) fn check_rounds(&self, rounds: Rounds) -> Result<(), Misfit> {
        let what = "rounds of an invocation's loops, which this driver cuts short";
        self.loop_rounds().map_or(Ok(()), |limit| Misfit::at_most(what, rounds.count(), limit))
    }

    /// The fewest parts from `least` to `most` in each of which this driver takes the rounds; else `most`.
    pub(crate) fn parts(&self, least: u32, most: u32, rounds: impl Fn(u32) -> Rounds) -> u32 {
        let mut parts = least.max(1);
        while parts < most && self.check_rounds(rounds(parts)).is_err() {
            parts = parts.saturating_add(parts.div_ceil(8)).min(most);
        }
        parts
    }

    /// A name for report rows: adapter, backend, driver.
    pub fn label(&self) -> String {
        format!("{} ({:?}, {})", self.name, self.backend, self.driver)
    }
}

impl fmt::Display for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let l = &self.limits;
        writeln!(f, "{}", self.label())?;
        writeln!(f, "  type            {:?}, {:?}, class {:?}", self.device_type, self.vendor, self.class())?;
        writeln!(
            f,
            "  workgroup       {} invocations, {} bytes, {} workgroups per dimension",
            l.max_compute_invocations_per_workgroup,
            l.max_compute_workgroup_storage_size,
            l.max_compute_workgroups_per_dimension
        )?;
        writeln!(
            f,
            "  bindings        {} storage buffers of {} bytes, offsets in steps of {}",
            l.max_storage_buffers_per_shader_stage,
            l.max_storage_buffer_binding_size,
            l.min_storage_buffer_offset_alignment
        )?;
        match self.subgroup {
            Some(s) if self.trusted_subgroup_size().is_some() => writeln!(f, "  subgroup        {}", s.min)?,
            Some(s) if self.least_subgroup().is_some() => writeln!(f, "  subgroup        {} to {}", s.min, s.max)?,
            Some(s) => writeln!(f, "  subgroup        {} to {}, not trusted", s.min, s.max)?,
            None => writeln!(f, "  subgroup        none")?,
        }
        writeln!(f, "  f16             {}", if self.f16 { "native" } else { "packed in u32" })?;
        writeln!(f, "  immediates      {} bytes", self.immediate_bytes)?;
        write!(f, "  coop. matrices  ")?;
        match (self.coop_denied, self.coop.is_empty()) {
            (Some(reason), _) => write!(f, "denied: {reason}")?,
            (None, true) => write!(f, "none")?,
            (None, false) => {
                for (i, s) in self.coop.iter().enumerate() {
                    let sep = if i == 0 { "" } else { ", " };
                    write!(f, "{sep}{}x{}x{} {:?} to {:?}", s.m, s.n, s.k, s.ab, s.acc)?;
                }
                write!(f, "{}", if self.coop_probed { "" } else { " (not probed)" })?;
            }
        }
        writeln!(f)?;
        write!(f, "  timestamps      {}", if self.timestamps { "yes" } else { "no" })?;
        for (what, why) in self.avoided() {
            write!(f, "\n  avoided         {what}: {why}")?;
        }
        if self.overrides != Overrides::default() {
            write!(f, "\n  {:<16}{}", Overrides::VARIABLE, self.overrides)?;
        }
        Ok(())
    }
}

impl Vendor {
    fn of(info: &wgpu::AdapterInfo) -> Vendor {
        let text = format!("{} {} {}", info.name, info.driver, info.driver_info).to_lowercase();
        for (word, vendor) in [
            ("llvmpipe", Vendor::Mesa),
            ("swiftshader", Vendor::SwiftShader),
            ("basic render driver", Vendor::Microsoft),
            ("apple", Vendor::Apple),
            ("adreno", Vendor::Qualcomm),
            ("mali", Vendor::Arm),
        ] {
            if text.contains(word) {
                return vendor;
            }
        }
        // PCI ids; wgpu's GL backend derives them from the renderer's name.
        match info.vendor {
            0x1002 | 0x1022 => Vendor::Amd,
            0x106b => Vendor::Apple,
            0x10de => Vendor::Nvidia,
            0x13b5 => Vendor::Arm,
            0x1414 => Vendor::Microsoft,
            0x1ae0 => Vendor::SwiftShader,
            0x5143 => Vendor::Qualcomm,
            0x8086 => Vendor::Intel,
            0x10005 => Vendor::Mesa,
            _ if text.contains("nvidia") || text.contains("nvk") => Vendor::Nvidia,
            _ if text.contains("radeon") || text.contains("radv") => Vendor::Amd,
            _ if text.contains("intel") => Vendor::Intel,
            _ => Vendor::Unknown,
        }
    }
}

/// Why cooperative matrices must not even be requested on this adapter.
pub(crate) fn deny_coop(info: &wgpu::AdapterInfo, overrides: Overrides) -> Option<&'static str> {
    let facts = Facts {
        name: &info.name,
        driver: &format!("{} {}", info.driver, info.driver_info),
        vendor: Vendor::of(info),
        backend: info.backend,
        device_type: info.device_type,
        subgroup: (info.subgroup_min_size, info.subgroup_max_size),
    };
    match overrides.of(Avoid::Matrices) {
        Some(forced) => forced.then_some(Overrides::VARIABLE),
        None => facts.avoid(Avoid::Matrices).map(|trap| trap.what),
    }
}

fn coop_shapes(adapter: &wgpu::Adapter) -> Vec<CoopShape> {
    let scalar = |t| match t {
        wgpu::CooperativeScalarType::F16 => Some(CoopScalar::F16),
        wgpu::CooperativeScalarType::F32 => Some(CoopScalar::F32),
        _ => None,
    };
    let mut shapes: Vec<CoopShape> = Vec::new();
    for p in adapter.cooperative_matrix_properties() {
        let (Some(ab), Some(acc)) = (scalar(p.ab_type), scalar(p.cr_type)) else {
            continue;
        };
        let shape = CoopShape { m: p.m_size, n: p.n_size, k: p.k_size, ab, acc };
        if shape.is_square() && !p.saturating_accumulation && !shapes.contains(&shape) {
            shapes.push(shape);
        }
    }
    shapes
}

/// Caps that mimic kinds of adapters, for tests of `choose` and of composed shaders.
///
/// Each is what the kind typically reports through wgpu, none is a particular product. [`Kernels`](crate::Kernels) that
/// are given one use what the device has of it, and probe cooperative matrices themselves.
pub fn presets() -> Vec<Caps> {
    use wgpu::{Backend, DeviceType};
    let baseline = Caps {
        name: "WebGPU baseline".into(),
        driver: "preset".into(),
        backend: Backend::BrowserWebGpu,
        device_type: DeviceType::Other,
        vendor: Vendor::Unknown,
        limits: wgpu::Limits::default(),
        f16: false,
        immediate_bytes: 0,
        subgroup: None,
        coop: Vec::new(),
        coop_denied: None,
        coop_probed: false,
        timestamps: false,
        pipeline_cache: false,
        overrides: Overrides::default(),
        batch_invariant: false,
    };
    let limits = |invocations: u32, workgroup_bytes: u32, immediates: u32| wgpu::Limits {
        max_compute_invocations_per_workgroup: invocations,
        max_compute_workgroup_size_x: invocations,
        max_compute_workgroup_size_y: invocations,
        max_compute_workgroup_storage_size: workgroup_bytes,
        max_storage_buffers_per_shader_stage: 16,
        max_storage_buffer_binding_size: (2 << 30) - 4,
        max_buffer_size: 4 << 30,
        max_immediate_size: immediates,
        ..wgpu::Limits::default()
    };
    let gpu = |name: &str, vendor, backend, device_type, subgroup: (u32, u32), limits: wgpu::Limits| Caps {
        name: name.into(),
        vendor,
        backend,
        device_type,
        f16: true,
        immediate_bytes: limits.max_immediate_size,
        subgroup: Some(Subgroup { min: subgroup.0, max: subgroup.1 }),
        timestamps: true,
        pipeline_cache: backend == Backend::Vulkan,
        limits,
        ..baseline.clone()
    };
    let coop = |size, ab, acc| CoopShape { m: size, n: size, k: size, ab, acc };
    use CoopScalar::{F16, F32};
    let matrices = |caps| Caps { coop: vec![coop(16, F16, F16), coop(16, F16, F32)], coop_probed: true, ..caps };
    let driven = |driver: &str, caps| Caps { driver: driver.into(), ..caps };
    let vulkan =
        |name, vendor, device_type, subgroup, limits| gpu(name, vendor, Backend::Vulkan, device_type, subgroup, limits);
    let (discrete, integrated) = (DeviceType::DiscreteGpu, DeviceType::IntegratedGpu);
    // RADV, NVK, Honeykrisp, Turnip: what Mesa 26.2 says of GPUs that its shims put in their place. RDNA3 and 4 differ in
    // nothing that is chosen by, nor do Turing, Ampere, Ada and Blackwell on NVK.
    let (radv, nvk) = ("radv Mesa 26.2.6", "NVK Mesa 26.2.6");
    let amd = |name, device_type, subgroup| {
        driven(radv, vulkan(name, Vendor::Amd, device_type, subgroup, limits(1024, 65536, 256)))
    };
    let nvidia = |name| matrices(vulkan(name, Vendor::Nvidia, discrete, (32, 32), limits(1024, 49152, 256)));
    vec![
        Caps {
            coop: vec![coop(8, F32, F32), coop(8, F16, F16), coop(8, F16, F32)],
            coop_probed: true,
            ..gpu("Apple", Vendor::Apple, Backend::Metal, integrated, (4, 64), limits(1024, 32768, 4096))
        },
        matrices(amd("AMD", discrete, (32, 64))),
        gpu("AMD on DX12", Vendor::Amd, Backend::Dx12, discrete, (32, 64), limits(1024, 32768, 128)),
        amd("AMD RDNA2", discrete, (32, 64)),
        amd("AMD Vega", discrete, (64, 64)),
        matrices(amd("AMD RDNA3.5 APU", integrated, (32, 64))),
        nvidia("NVIDIA"),
        driven(nvk, nvidia("NVIDIA on NVK")),
        vulkan("Intel", Vendor::Intel, integrated, (8, 32), limits(1024, 65536, 256)),
        vulkan("Intel Xe2", Vendor::Intel, discrete, (16, 32), limits(1024, 65536, 256)),
        vulkan("Apple on Honeykrisp", Vendor::Apple, integrated, (32, 32), limits(1024, 32768, 256)),
        Caps { f16: false, ..vulkan("Qualcomm", Vendor::Qualcomm, integrated, (64, 128), limits(2048, 32768, 256)) },
        vulkan("Mali", Vendor::Arm, integrated, (16, 16), limits(1024, 32768, 256)),
        Caps {
            coop: vec![coop(8, F16, F16), coop(8, F16, F32)],
            coop_probed: true,
            driver: "llvmpipe Mesa 26.2.6 (LLVM 19.1.7)".into(),
            ..gpu("lavapipe, Mesa 26", Vendor::Mesa, Backend::Vulkan, DeviceType::Cpu, (8, 8), limits(1024, 32768, 256))
        },
        Caps {
            driver: "llvmpipe Mesa 22.3.6 (LLVM 15.0.6)".into(),
            ..gpu("lavapipe, Mesa 22", Vendor::Mesa, Backend::Vulkan, DeviceType::Cpu, (8, 8), limits(1024, 32768, 256))
        },
        Caps {
            f16: false,
            ..gpu("SwiftShader", Vendor::SwiftShader, Backend::Vulkan, DeviceType::Cpu, (4, 4), limits(256, 32768, 256))
        },
        Caps {
            driver: "4.5 (Core Profile) Mesa 22.3.6".into(),
            f16: false,
            subgroup: None,
            timestamps: false,
            ..gpu("llvmpipe GL", Vendor::Mesa, Backend::Gl, DeviceType::Cpu, (4, 128), limits(1024, 32768, 256))
        },
        gpu("WARP", Vendor::Microsoft, Backend::Dx12, DeviceType::Cpu, (4, 128), limits(1024, 32768, 128)),
        baseline,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_mesa_cuts_loops_short() {
        let short: Vec<_> = presets().into_iter().filter(|caps| caps.loop_rounds().is_some()).collect();
        assert_eq!(short.iter().map(|caps| &caps.name).collect::<Vec<_>>(), ["lavapipe, Mesa 22", "llvmpipe GL"]);
        assert_eq!(short[0].check_rounds(Rounds::plain(65_534u32)), Ok(()));
        assert!(short[0].check_rounds(Rounds::plain(65_535u32)).is_err());
        let parts = |turns: u64| short[0].parts(1, 1000, |parts| Rounds::plain(turns.div_ceil(parts.into()) + 7));
        assert_eq!([0, 65_527, 65_528, 131_055, 1 << 40].map(parts), [1, 1, 2, 3, 1000]);
        let of = |driver: &str| Caps { driver: driver.into(), ..short[0].clone() }.loop_rounds().is_some();
        assert_eq!(["Mesa 26.1.9", "Mesa 26.2.0-devel (git)", "a fork"].map(of), [true, false, true]);
    }

    #[test]
    fn no_workgroup_of_32_on_metal() {
        for caps in presets() {
            let metal = caps.backend == wgpu::Backend::Metal;
            assert_eq!(
                [31, 32, 64].map(|wg_size| caps.check_wg_size(wg_size).is_ok()),
                [true, !metal, true],
                "{}",
                caps.name
            );
        }
    }

    #[test]
    fn a_device_without_compute_is_refused() {
        for caps in presets() {
            assert!(caps.check_device().is_ok(), "{caps}");
            let caps = Caps { limits: wgpu::Limits::downlevel_webgl2_defaults(), ..caps };
            let refused = caps.check_device().unwrap_err().to_string();
            let told = "the device is too small: its limit max_compute_invocations_per_workgroup is 0, kernels need 64";
            assert!(refused.starts_with(told), "{refused}");
        }
    }

    #[test]
    fn shuffles_go_by_the_least_subgroup() {
        let of = |name: &str| presets().into_iter().find(|caps| caps.name == name).unwrap();
        for (name, least, fixed) in [
            ("AMD", Some(32), None),
            ("AMD Vega", Some(64), Some(64)),
            ("NVIDIA", Some(32), Some(32)),
            ("Intel", Some(8), None),
            ("lavapipe, Mesa 26", Some(8), Some(8)),
            ("Apple", None, None),
            ("AMD on DX12", None, None),
            ("WebGPU baseline", None, None),
        ] {
            let caps = of(name);
            assert_eq!((caps.least_subgroup(), caps.trusted_subgroup_size()), (least, fixed), "{name}");
        }
        let odd = Caps { subgroup: Some(Subgroup { min: 12, max: 12 }), ..of("NVIDIA") };
        assert_eq!(odd.least_subgroup(), None);
        let fixed = Caps { subgroup: Some(Subgroup { min: 16, max: 16 }), ..of("Intel") };
        assert_eq!((fixed.least_subgroup(), fixed.trusted_subgroup_size()), (Some(16), None));
    }

    #[test]
    fn f16_is_native_where_that_is_no_slower() {
        for caps in presets() {
            let native = caps.f16 && caps.class() != Class::Software && caps.name != "NVIDIA on NVK";
            assert_eq!(caps.prefers_native_f16(true), native, "{}", caps.name);
            assert!(!caps.prefers_native_f16(false), "{}", caps.name);
        }
    }

    #[test]
    fn presets_print_and_have_a_class() {
        for caps in presets() {
            let text = caps.to_string();
            assert!(text.contains(&caps.name) && text.contains("workgroup"), "{text}");
        }
        let class = |name: &str| presets().iter().find(|c| c.name == name).unwrap().class();
        assert_eq!(class("SwiftShader"), Class::Software);
        assert_eq!(class("llvmpipe GL"), Class::Software);
        assert_eq!(class("NVIDIA"), Class::Discrete);
        assert_eq!(class("Apple"), Class::Integrated);
        assert_eq!(class("AMD RDNA3.5 APU"), Class::Integrated);
    }
}
