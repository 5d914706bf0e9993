//! What wgpu 30 has naga write for Direct3D 12 and Metal: its options, its numbers of bindings, with and without runtime checks.
//! Other compilers take it from files (`tools/compilers`).

use std::collections::{HashMap, HashSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use naga::ShaderStage::Compute;
use naga::back::hlsl::{self, ShaderModel};
use naga::back::msl;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::ModuleInfo;
use naga::{Module, ResourceBinding};
use serde_json::json;
use tileloom::compose::{PARAMS_BINDING, Shader};

/// A shader that naga has validated.
pub struct Valid<'a> {
    pub module: &'a Module,
    pub info: &'a ModuleInfo,
    pub shader: &'a Shader,
    /// Params are immediates.
    pub immediates: bool,
}

/// Access of a binding; `None` of a uniform buffer.
type Writable = Option<bool>;

impl Valid<'_> {
    /// The bindings in the order in which wgpu counts them.
    fn bindings(&self) -> Vec<(ResourceBinding, Writable)> {
        let mut all: Vec<_> = self.shader.bindings().iter().map(|b| (b.binding, Some(b.writable))).collect();
        if !self.immediates && self.shader.params_bytes() > 0 {
            all.push((PARAMS_BINDING, None));
        }
        all.sort();
        all.into_iter().map(|(binding, writable)| (ResourceBinding { group: 0, binding }, writable)).collect()
    }

    fn immediate_bytes(&self) -> u32 {
        if self.immediates { self.shader.params_bytes() } else { 0 }
    }

    /// The text, and what naga calls the entry point in it. As `create_pipeline_layout` and `load_shader` of wgpu-hal's
    /// `dx12/device.rs`.
    pub fn hlsl(&self, shader_model: ShaderModel, checked: bool) -> (String, String) {
        let [mut cbv, mut srv, mut uav] = [hlsl::BindTarget::default(); 3];
        let mut immediates_target = None;
        if self.immediate_bytes() > 0 {
            immediates_target = Some(cbv);
            cbv.register += 1;
            cbv.space += 1;
        }
        let mut binding_map = hlsl::BindingMap::default();
        for (binding, writable) in self.bindings() {
            let next = match writable {
                None => &mut cbv,
                Some(false) => &mut srv,
                Some(true) => &mut uav,
            };
            binding_map.insert(binding, *next);
            next.register += 1;
        }
        let options = hlsl::Options {
            shader_model,
            binding_map,
            fake_missing_bindings: false,
            special_constants_binding: Some(cbv),
            immediates_target,
            zero_initialize_workgroup_memory: checked,
            restrict_indexing: checked,
            force_loop_bounding: checked,
            ..Default::default()
        };
        let pipeline = hlsl::PipelineOptions { entry_point: Some((Compute, self.shader.stem().into())) };
        let mut text = String::new();
        let mut told = hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(self.module, self.info, None)
            .unwrap_or_else(|e| panic!("{}: {e}", self.shader.stem()));
        let mut zeros = HashSet::new();
        for zero in text.lines().filter(|line| line.contains(" ZeroValue") && line.ends_with('{')) {
            assert!(zeros.insert(zero), "{}: `{zero}` is there twice", self.shader.stem());
        }
        let entry = told.entry_point_names.pop().expect("an entry point");
        (text, entry.unwrap_or_else(|e| panic!("{}: {e}", self.shader.stem())))
    }

    /// As `create_pipeline_layout` and `load_shader` of wgpu-hal's `metal/device.rs`.
    pub fn msl(&self, lang_version: (u8, u8), checked: bool) -> String {
        let mut resources = msl::EntryPointResources::default();
        let mut next = 0;
        let mut slot = || (next, next += 1).0;
        if self.immediate_bytes() > 0 {
            resources.immediates_buffer = Some(slot());
        }
        for (binding, writable) in self.bindings() {
            let mutable = writable == Some(true);
            resources
                .resources
                .insert(binding, msl::BindTarget { buffer: Some(slot()), mutable, ..Default::default() });
        }
        if !self.shader.bindings().is_empty() {
            resources.sizes_buffer = Some(slot());
        }
        let policy = if checked { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
        let options = msl::Options {
            lang_version,
            fake_missing_bindings: false,
            spirv_cross_compatibility: false,
            per_entry_point_map: [(self.shader.stem().to_string(), resources)].into(),
            bounds_check_policies: BoundsCheckPolicies {
                index: policy,
                buffer: policy,
                image_load: policy,
                binding_array: BoundsCheckPolicy::Unchecked,
            },
            zero_initialize_workgroup_memory: checked,
            force_loop_bounding: checked,
            emit_int_div_checks: checked,
            ..Default::default()
        };
        let pipeline = msl::PipelineOptions {
            entry_point: Some((Compute, self.shader.stem().into())),
            vertex_pulling_transform: true,
            ..Default::default()
        };
        msl::write_string(self.module, self.info, &options, &pipeline)
            .unwrap_or_else(|e| panic!("{}: {e}", self.shader.stem()))
            .0
    }
}

/// Of the language versions that wgpu's Metal backend may ask for one before and one from 2.1 on, where what naga writes changes.
/// Cooperative matrices are offered from 2.3 on.
const METAL: [(u8, u8); 2] = [(2, 0), (4, 0)];

/// Writes what other compilers are to see: a line of JSON per shader with its texts to `hlsl/NAME.jsonl` and `msl/NAME.jsonl`, and of how many
/// shaders these are to `NAME.count` beside.
pub struct Files {
    hlsl: File,
    msl: File,
}

/// Of the shaders of a stem, in the order in which they come, those count that have a line which none before has had, but for its
/// numbers: thousands differ in nothing but how lines are combined. With `TILELOOM_FULL=1` all count.
struct File {
    lines: BufWriter<std::fs::File>,
    count: PathBuf,
    of: u32,
    full: bool,
    stems: HashMap<&'static str, Stem>,
}

/// What there has been of a stem.
#[derive(Default)]
struct Stem {
    lines: HashSet<String>,
    counted: u32,
}

impl Files {
    pub fn create(dir: &Path, name: &str) -> std::io::Result<Files> {
        Ok(Files { hlsl: File::create(&dir.join("hlsl"), name)?, msl: File::create(&dir.join("msl"), name)? })
    }

    /// The texts of a shader if it counts; `metal`: some device under Metal has it.
    pub fn write(&mut self, valid: &Valid, source: &str, what: &str, metal: bool) -> std::io::Result<()> {
        let (stem, coop) = (valid.shader.stem(), valid.shader.needs_coop());
        // Neither Direct3D nor Metal has cooperative matrices of all sizes.
        if !coop && let Some(checks) = self.hlsl.checks(stem, source) {
            // wgpu asks for the newest model that device and compiler know, and for 16-bit types where the device has them.
            let f16 = valid.shader.needs_f16();
            let oldest = if f16 { ShaderModel::V6_2 } else { ShaderModel::V6_0 };
            let texts: Vec<_> = checks
                .iter()
                .map(|&checked| {
                    let (model, half) = if checked { (oldest, f16) } else { (ShaderModel::V6_7, true) };
                    let (source, entry) = valid.hlsl(model, checked);
                    let profile = format!("cs_{}", model.to_str());
                    json!({ "checked": checked, "entry": entry, "profile": profile, "half": half, "source": source })
                })
                .collect();
            self.hlsl.put(json!({ "what": what, "texts": texts }))?;
        }
        if (!coop || metal)
            && let Some(checks) = self.msl.checks(stem, source)
        {
            let mut texts: Vec<(String, serde_json::Value)> = Vec::new();
            for version in METAL.into_iter().filter(|&version| version >= (2, 3) || !coop) {
                for &checked in checks {
                    let source = valid.msl(version, checked);
                    let body = source.split_once('\n').map_or("", |(_, body)| body); // without the version's name
                    if texts.iter().all(|(other, _)| other != body) {
                        texts.push((body.into(), json!({ "checked": checked, "version": version, "source": source })));
                    }
                }
            }
            let texts: Vec<_> = texts.into_iter().map(|(_, text)| text).collect();
            self.msl.put(json!({ "what": what, "texts": texts }))?;
        }
        Ok(())
    }

    pub fn finish(self) -> std::io::Result<()> {
        self.hlsl.finish()?;
        self.msl.finish()
    }
}

impl File {
    fn create(dir: &Path, name: &str) -> std::io::Result<File> {
        std::fs::create_dir_all(dir)?;
        let lines = BufWriter::new(std::fs::File::create(dir.join(format!("{name}.jsonl")))?);
        let full = std::env::var("TILELOOM_FULL").is_ok_and(|value| value == "1");
        Ok(File { lines, count: dir.join(format!("{name}.count")), of: 0, full, stems: HashMap::new() })
    }

    /// Whether a shader is to be seen without runtime checks, and with them, if it counts: each fourth of a stem with both.
    fn checks(&mut self, stem: &'static str, source: &str) -> Option<&'static [bool]> {
        self.of += 1;
        let stem = self.stems.entry(stem).or_default();
        let before = stem.lines.len();
        stem.lines.extend(source.lines().map(|line| line.replace(|c: char| c.is_ascii_digit(), "")));
        if stem.lines.len() == before && !self.full {
            return None;
        }
        stem.counted += 1;
        Some(if stem.counted % 4 == 1 || self.full { &[false, true] } else { &[false] })
    }

    fn put(&mut self, line: serde_json::Value) -> std::io::Result<()> {
        writeln!(self.lines, "{line}")
    }

    fn finish(mut self) -> std::io::Result<()> {
        self.lines.flush()?;
        std::fs::write(self.count, self.of.to_string())
    }
}
