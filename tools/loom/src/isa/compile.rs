//! Compiles WGSL as wgpu's Vulkan backend does, and asks the driver what it made of it:
//! `VK_KHR_pipeline_executable_properties`.
//!
//! The device is one that wgpu opens, with its extensions and features, robust buffer access among them. wgpu offers no way
//! to ask about a pipeline, so pipelines are made beside it: naga's SPIR-V with the options of wgpu-hal 30 for trusted modules
//! without zeroed workgroup memory, bindings numbered from 0 in each group, subgroups of varying size.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd};

use ash::vk;
use tileloom::Caps;
use tileloom::wgpu::naga::back::{self, spv};
use tileloom::wgpu::naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy, Layouter};
use tileloom::wgpu::naga::valid::{
    Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator,
};
use tileloom::wgpu::naga::{self, AddressSpace, ImageClass, Module, ShaderStage, TypeInner};
use tileloom::wgpu::{self, hal};

/// What a driver tells of a pipeline.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    pub entry: String,
    /// Bytes of workgroup memory that the shader declares.
    pub workgroup_bytes: u32,
    /// Invocations of a subgroup.
    pub subgroup: u32,
    /// By the driver's own names.
    pub statistics: BTreeMap<String, f64>,
    /// Texts by the driver's own names; `stdout` is what it printed meanwhile.
    pub texts: BTreeMap<String, String>,
}

/// The device of a target, and what wgpu makes of it.
pub struct Compiler {
    pub caps: Caps,
    device: ash::Device,
    asked: ash::khr::pipeline_executable_properties::Device,
    /// wgpu's, which keep `device` alive.
    _open: hal::OpenDevice<hal::api::Vulkan>,
    printed: Printed,
    robust: bool,
}

impl Compiler {
    /// On the first adapter that wgpu sees. `any` asks for all that a foreign shader may use, too; without `robust`, pipelines
    /// do without the bounds checks of buffers that wgpu always asks for.
    ///
    /// # Errors
    /// What is not there.
    pub fn open(any: bool, robust: bool) -> Result<Compiler, String> {
        let printed = Printed::new()?;
        let adapter = crate::gpu::adapters().into_iter().next().ok_or("wgpu sees no adapter")?;
        let descriptor = Caps::device_descriptor(&adapter);
        let (device, _queue) =
            pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| format!("no device: {error}"))?;
        let mut caps = Caps::of(&adapter, &device);
        // Nothing runs here, so that no probe could tell.
        caps.coop_probed = true;
        let mut features = descriptor.required_features;
        if any {
            use wgpu::Features as F;
            let more = F::SUBGROUP_BARRIER | F::SHADER_I16 | F::SHADER_INT64 | F::SHADER_F16 | F::SHADER_FLOAT32_ATOMIC;
            features |= adapter.features() & more;
        }
        // SAFETY: the adapter is not destroyed.
        let own = unsafe { adapter.as_hal::<hal::api::Vulkan>() }.ok_or("the adapter is not one of Vulkan")?;
        let told = ash::khr::pipeline_executable_properties::NAME;
        let robustness = ash::ext::pipeline_robustness::NAME;
        for name in std::iter::once(told).chain((!robust).then_some(robustness)) {
            if !own.physical_device_capabilities().supports_extension(name) {
                return Err(format!("the driver lacks {}", name.to_string_lossy()));
            }
        }
        let mut info =
            vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
        let mut robustness_info = vk::PhysicalDevicePipelineRobustnessFeaturesEXT::default().pipeline_robustness(true);
        // SAFETY: the features are the adapter's; the callback adds extensions that are supported.
        let open = unsafe {
            own.open_with_callback(
                features,
                &descriptor.required_limits,
                &wgpu::MemoryHints::default(),
                Some(Box::new(|args| {
                    args.extensions.push(told);
                    *args.create_info = std::mem::take(args.create_info).push_next(&mut info);
                    if !robust {
                        args.extensions.push(robustness);
                        *args.create_info = std::mem::take(args.create_info).push_next(&mut robustness_info);
                    }
                })),
            )
        };
        let open = open.map_err(|error| format!("no device that tells about pipelines: {error}"))?;
        let instance = own.shared_instance().raw_instance();
        let device = open.device.raw_device().clone();
        let asked = ash::khr::pipeline_executable_properties::Device::new(instance, &device);
        Ok(Compiler { caps, device, asked, _open: open, printed, robust })
    }

    /// Compiles an entry point, the only one if none is named.
    ///
    /// # Errors
    /// What naga or the driver says.
    pub fn compile(&mut self, source: &str, entry: Option<&str>) -> Result<Compiled, String> {
        let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
        let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
        validator.subgroup_stages(ShaderStages::all()).subgroup_operations(SubgroupOperationSet::all());
        let info = validator.validate(&module).map_err(|error| error.emit_to_string(source))?;
        let of_compute = |entry: &&naga::EntryPoint| entry.stage == ShaderStage::Compute;
        let entries: Vec<_> = module.entry_points.iter().filter(of_compute).map(|entry| entry.name.clone()).collect();
        let entry = match (entry, &entries[..]) {
            (Some(name), all) if all.iter().any(|own| own == name) => name.to_string(),
            (None, [only]) => only.clone(),
            (_, all) => return Err(format!("an entry point must be named, one of: {}", all.join(", "))),
        };
        let chosen = Some((ShaderStage::Compute, entry.as_str()));
        let constants = back::PipelineConstants::default();
        let (module, info) = back::pipeline_constants::process_overrides(&module, &info, chosen, &constants)
            .map_err(|error| error.to_string())?;
        let mut compiled = Compiled { workgroup_bytes: workgroup_bytes(&module)?, entry, ..Compiled::default() };
        self.pipeline(&module, &info, &mut compiled)?;
        Ok(compiled)
    }

    fn pipeline(&mut self, module: &Module, info: &ModuleInfo, out: &mut Compiled) -> Result<(), String> {
        let bindings = Bindings::of(module)?;
        let options = options(bindings.map);
        let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: out.entry.clone() };
        let words =
            spv::write_vec(module, info, &options, Some(&pipeline)).map_err(|error| format!("no SPIR-V: {error}"))?;
        let told = |what: &str, result: vk::Result| format!("{what}: {result}");
        let device = &self.device;
        let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
            | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        let entry = CString::new(out.entry.as_str()).map_err(|error| error.to_string())?;
        self.printed.take()?;
        // SAFETY: the module is valid, and its layout follows from its own bindings. What is made here lives until the process
        // ends, and is used by this thread only.
        unsafe {
            let sets: Result<Vec<_>, _> = bindings
                .sets
                .iter()
                .map(|set| {
                    device
                        .create_descriptor_set_layout(&vk::DescriptorSetLayoutCreateInfo::default().bindings(set), None)
                })
                .collect();
            let sets = sets.map_err(|result| told("no set layout", result))?;
            let ranges = [vk::PushConstantRange::default()
                .stage_flags(vk::ShaderStageFlags::COMPUTE)
                .size(bindings.immediate_bytes.next_multiple_of(4))];
            let mut layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            if bindings.immediate_bytes > 0 {
                layout = layout.push_constant_ranges(&ranges);
            }
            let layout = device.create_pipeline_layout(&layout, None).map_err(|result| told("no layout", result))?;
            let shader = device
                .create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&words), None)
                .map_err(|result| told("no module", result))?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(shader)
                .name(&entry);
            let off = vk::PipelineRobustnessBufferBehaviorEXT::DISABLED;
            let mut unchecked = vk::PipelineRobustnessCreateInfoEXT::default()
                .storage_buffers(off)
                .uniform_buffers(off)
                .vertex_inputs(off);
            let mut create = vk::ComputePipelineCreateInfo::default().flags(flags).layout(layout).stage(stage);
            if !self.robust {
                create = create.push_next(&mut unchecked);
            }
            let made = device.create_compute_pipelines(vk::PipelineCache::null(), &[create], None);
            let pipeline = made.map_err(|(_, result)| told("no pipeline", result))?[0];
            let asked = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let executables = self
                .asked
                .get_pipeline_executable_properties(&asked)
                .map_err(|result| told("no executables", result))?;
            for (i, executable) in executables.iter().enumerate() {
                out.subgroup = executable.subgroup_size;
                let asked = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(i as u32);
                let statistics = self
                    .asked
                    .get_pipeline_executable_statistics(&asked)
                    .map_err(|result| told("no statistics", result))?;
                for statistic in statistics {
                    use vk::PipelineExecutableStatisticFormatKHR as Format;
                    let value = match statistic.format {
                        Format::FLOAT64 => statistic.value.f64,
                        Format::INT64 => statistic.value.i64 as f64,
                        Format::BOOL32 => f64::from(statistic.value.b32),
                        _ => statistic.value.u64 as f64,
                    };
                    out.statistics.insert(text(statistic.name_as_c_str()), value);
                }
                out.texts.extend(self.texts(&asked));
            }
            device.destroy_pipeline(pipeline, None);
            device.destroy_shader_module(shader, None);
            device.destroy_pipeline_layout(layout, None);
            sets.into_iter().for_each(|set| device.destroy_descriptor_set_layout(set, None));
        }
        let printed = self.printed.take()?;
        if !printed.is_empty() {
            out.texts.insert("stdout".into(), printed);
        }
        Ok(())
    }

    /// The internal representations; those that a driver does not give are left out.
    fn texts(&self, asked: &vk::PipelineExecutableInfoKHR) -> BTreeMap<String, String> {
        let get = self.asked.fp().get_pipeline_executable_internal_representations_khr;
        let mut count = 0;
        // SAFETY: first the number, then the sizes, then the texts, each in memory of what was told before.
        unsafe {
            let _ = get(self.device.handle(), asked, &mut count, std::ptr::null_mut());
            let mut all = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            let _ = get(self.device.handle(), asked, &mut count, all.as_mut_ptr());
            let mut memory: Vec<Vec<u8>> = all.iter().map(|one| vec![0; one.data_size + 1]).collect();
            for (one, memory) in all.iter_mut().zip(&mut memory) {
                one.p_data = memory.as_mut_ptr().cast();
            }
            let _ = get(self.device.handle(), asked, &mut count, all.as_mut_ptr());
            let text = |bytes: &[u8]| {
                let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
                String::from_utf8_lossy(&bytes[..end]).into_owned()
            };
            let named = all.iter().zip(&memory);
            named.map(|(one, bytes)| (self::text(one.name_as_c_str()), text(bytes))).collect()
        }
    }
}

fn text(name: Result<&CStr, std::ffi::FromBytesUntilNulError>) -> String {
    name.map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

/// As wgpu-hal has them for a trusted module, in `Device::compile_stage`.
fn options(binding_map: spv::BindingMap) -> spv::Options<'static> {
    let unchecked = BoundsCheckPolicy::Unchecked;
    spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
        capabilities: None,
        bounds_check_policies: BoundsCheckPolicies {
            index: unchecked,
            buffer: unchecked,
            image_load: unchecked,
            binding_array: unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        ray_query_initialization_tracking: false,
        use_storage_input_output_16: false,
        emit_int_div_checks: false,
        binding_map,
        ..spv::Options::default()
    }
}

/// Bytes of all workgroup variables, each rounded up to 16.
fn workgroup_bytes(module: &Module) -> Result<u32, String> {
    let layouter = layouter(module)?;
    let variables = module.global_variables.iter().map(|(_, variable)| variable);
    let shared = variables.filter(|variable| variable.space == AddressSpace::WorkGroup);
    Ok(shared.map(|variable| layouter[variable.ty].size.next_multiple_of(16)).sum())
}

fn layouter(module: &Module) -> Result<Layouter, String> {
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|error| error.to_string())?;
    Ok(layouter)
}

/// What a pipeline layout is made of.
struct Bindings {
    sets: Vec<Vec<vk::DescriptorSetLayoutBinding<'static>>>,
    map: spv::BindingMap,
    immediate_bytes: u32,
}

impl Bindings {
    fn of(module: &Module) -> Result<Bindings, String> {
        let layouter = layouter(module)?;
        let mut immediate_bytes = 0;
        let mut all = Vec::new();
        for (_, variable) in module.global_variables.iter() {
            if variable.space == AddressSpace::Immediate {
                immediate_bytes = layouter[variable.ty].size;
            }
            let Some(binding) = variable.binding else { continue };
            let kind = match (variable.space, &module.types[variable.ty].inner) {
                (AddressSpace::Storage { .. }, _) => vk::DescriptorType::STORAGE_BUFFER,
                (AddressSpace::Uniform, _) => vk::DescriptorType::UNIFORM_BUFFER,
                (_, TypeInner::Sampler { .. }) => vk::DescriptorType::SAMPLER,
                (_, TypeInner::Image { class: ImageClass::Storage { .. }, .. }) => vk::DescriptorType::STORAGE_IMAGE,
                (_, TypeInner::Image { .. }) => vk::DescriptorType::SAMPLED_IMAGE,
                _ => {
                    return Err(format!(
                        "binding {} of group {} is of a kind that this does not know",
                        binding.binding, binding.group
                    ));
                }
            };
            all.push((binding, kind));
        }
        all.sort_by_key(|(binding, _)| (binding.group, binding.binding));
        let groups = all.last().map_or(0, |(binding, _)| binding.group + 1);
        let mut sets = vec![Vec::new(); groups as usize];
        let mut map = spv::BindingMap::default();
        for (binding, kind) in all {
            let set: &mut Vec<vk::DescriptorSetLayoutBinding> = &mut sets[binding.group as usize];
            let number = set.len() as u32;
            set.push(
                vk::DescriptorSetLayoutBinding::default()
                    .binding(number)
                    .descriptor_type(kind)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE),
            );
            let to = spv::BindingInfo { descriptor_set: binding.group, binding: number, binding_array_size: None };
            map.insert(binding, to);
        }
        Ok(Bindings { sets, map, immediate_bytes })
    }
}

/// What drivers print to stdout, kept apart from our own words.
struct Printed {
    file: File,
    own: File,
}

impl Printed {
    fn new() -> Result<Printed, String> {
        let error = || format!("stdout: {}", std::io::Error::last_os_error());
        // SAFETY: descriptors that are made here, each owned once.
        unsafe {
            let file = libc::memfd_create(c"stdout".as_ptr(), 0);
            let own = libc::dup(libc::STDOUT_FILENO);
            if file < 0 || own < 0 {
                return Err(error());
            }
            let printed = Printed { file: File::from_raw_fd(file), own: File::from_raw_fd(own) };
            if libc::dup2(printed.file.as_raw_fd(), libc::STDOUT_FILENO) < 0 {
                return Err(error());
            }
            Ok(printed)
        }
    }

    /// What was printed since the last time.
    fn take(&mut self) -> Result<String, String> {
        let mut bytes = Vec::new();
        // SAFETY: flushes every stream of C.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        let mut read = || -> std::io::Result<()> {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.read_to_end(&mut bytes)?;
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0)).map(|_| ())
        };
        read().map_err(|error| format!("stdout: {error}"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Compiler {
    /// A line to the stdout that this process was started with.
    ///
    /// # Errors
    /// Those of stdout.
    pub fn say(&mut self, line: &str) -> Result<(), String> {
        writeln!(self.printed.own, "{line}").map_err(|error| format!("stdout: {error}"))
    }
}
