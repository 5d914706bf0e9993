//! Every shipped shader without a GPU: composed for every Config that the tables give for the Problems of the kernels'
//! lists and every preset of Caps, validated by naga, and translated for the backend of that preset. And what is chosen.
//! With `TILELOOM_SHADERS=DIR` the sources are written to that folder, for `tools/browser/tint`, and what naga makes of them
//! for Direct3D 12 and Metal, for `tools/compilers`.

mod attention;
mod gemm;
mod gradients;
mod operators;
mod position_encoding;
mod rope;
mod softmax;
mod vq_assign;
mod vq_lookup;
mod written;

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use loom::kernel::{Depth, Kernel, Run, Use};
use loom::registry;
use naga::back::hlsl::ShaderModel;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use tileloom::caps::presets;
use tileloom::compose::{PARAMS_BINDING, Shader};
use tileloom::{Caps, wgpu};
use written::{Files, Valid};

/// Sources that naga is to go through: a shader of each, what it is, and the backends and capabilities of its devices.
type Held = HashMap<String, (Shader, String, HashSet<(wgpu::Backend, u64)>)>;

/// A shader that a Config of `caps` names fits the device; its source is held.
fn hold(caps: &Caps, shader: &Shader, what: &str, held: &mut Held) {
    let limits = &caps.limits;
    assert!(
        shader.wg_size() <= limits.max_compute_invocations_per_workgroup,
        "{what}: {} invocations",
        shader.wg_size()
    );
    assert!(shader.wg_bytes() <= limits.max_compute_workgroup_storage_size, "{what}: {} bytes", shader.wg_bytes());
    assert!(shader.bindings().len() as u32 <= limits.max_storage_buffers_per_shader_stage, "{what}: bindings");
    assert!(!shader.needs_f16() || caps.f16, "{what}: f16");

    let immediates = shader.params_bytes() <= caps.immediate_bytes.min(128);
    // unpack2x16float: every device but those of WebGL.
    let mut allowed = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    allowed.set(Capabilities::IMMEDIATES, immediates);
    // What a shader does not use is not allowed it: then presets that differ in nothing else share its validation.
    let source = shader.source(immediates);
    allowed.set(Capabilities::SUBGROUP, source.contains("subgroup") && caps.subgroup.is_some());
    allowed.set(Capabilities::SHADER_FLOAT16, shader.needs_f16() && caps.f16);
    allowed.set(Capabilities::COOPERATIVE_MATRIX, shader.needs_coop() && !caps.coop.is_empty());
    let entry = held.entry(source).or_insert_with(|| (shader.clone(), what.into(), HashSet::new()));
    entry.2.insert((caps.backend, allowed.bits()));
}

/// Each source is parsed once, is valid by each set of capabilities, and translates for each backend.
fn check_sources(held: &Held, mut files: Option<&mut Files>) {
    let mut held: Vec<_> = held.iter().collect();
    held.sort_by_key(|(source, (_, what, _))| (what.as_str(), source.as_str()));
    for (source, (shader, what, devices)) in held {
        let module = naga::front::wgsl::parse_str(source)
            .unwrap_or_else(|error| panic!("{what}: {}\n{source}", error.emit_to_string(source)));
        let validate = |allowed: u64| {
            Validator::new(ValidationFlags::all(), Capabilities::from_bits_retain(allowed))
                .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
                .subgroup_operations(naga::valid::SubgroupOperationSet::all())
                .validate(&module)
                .unwrap_or_else(|error| {
                    let allowed = Capabilities::from_bits_retain(allowed);
                    panic!("{what}, with {allowed:?}: {}\n{source}", error.emit_to_string(source))
                })
        };
        let allowed: HashSet<u64> = devices.iter().map(|(_, allowed)| *allowed).collect();
        let info = allowed.into_iter().map(validate).last().expect("a device");

        assert_eq!(module.entry_points.len(), 1, "{what}");
        let entry = &module.entry_points[0];
        assert_eq!(entry.name, shader.stem(), "{what}: the entry point bears the file's name");
        assert_eq!(entry.workgroup_size, [shader.wg_size(), 1, 1], "{what}");
        assert_eq!(workgroup_bytes(&module, &info), shader.wg_bytes(), "{what}: workgroup memory");
        params_agree(&module, shader, what);
        declared_are_used(&module, &info, shader, what);
        assert_eq!(broken_rule(&module, &info), None, "{what}");
        let valid = Valid { module: &module, info: &info, shader, immediates: source.contains("var<immediate>") };
        let backends: HashSet<_> = devices.iter().map(|(backend, _)| *backend).collect();
        backends.into_iter().for_each(|backend| translate(&valid, backend, &format!("{what}, for {backend:?}")));
        if let Some(files) = files.as_deref_mut() {
            let metal = devices.iter().any(|(backend, _)| *backend == wgpu::Backend::Metal);
            files.write(&valid, source, what, metal).expect("texts are written");
        }
    }
}

/// What tools/browser/tint.mjs reads: a line of JSON per shader, in the dialect of Dawn, or why it has none.
fn write_sources(held: &Held, path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path.parent().expect("a file in a folder"))?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for (source, (shader, what, _)) in held {
        let line = match (shader.dawn_source(source.contains("var<immediate>")), shader.not_uniform()) {
            (Some(source), _) => serde_json::json!({ "what": what, "source": source }),
            (None, Some(argument)) => {
                serde_json::json!({ "what": what, "lacks": format!("`{argument}` that is not written") })
            }
            (None, None) => serde_json::json!({ "what": what, "lacks": "cooperative matrices" }),
        };
        writeln!(file, "{line}")?;
    }
    file.flush()
}

/// What the entry point uses of workgroup memory.
fn workgroup_bytes(module: &naga::Module, info: &ModuleInfo) -> u32 {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).expect("a layout");
    let used = |(handle, variable): (naga::Handle<naga::GlobalVariable>, &naga::GlobalVariable)| {
        let workgroup = variable.space == naga::AddressSpace::WorkGroup && !info.get_entry_point(0)[handle].is_empty();
        workgroup.then(|| layouter[variable.ty].size)
    };
    module.global_variables.iter().filter_map(used).sum()
}

/// Field by field: naga's offsets in the WGSL struct, and Rust's.
fn params_agree(module: &naga::Module, shader: &Shader, what: &str) {
    let ty = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Params"));
    let Some((_, naga::Type { inner: naga::TypeInner::Struct { members, span }, .. })) = ty else {
        panic!("{what}: no struct Params");
    };
    let wgsl: Vec<_> = members.iter().map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize)).collect();
    let rust: Vec<_> = shader.params_fields().iter().map(|&(name, offset)| (name.to_string(), offset)).collect();
    assert_eq!(wgsl, rust, "{what}");
    assert_eq!(*span, shader.params_bytes(), "{what}");
}

/// A binding that a shader does not use costs one of eight.
fn declared_are_used(module: &naga::Module, info: &ModuleInfo, shader: &Shader, what: &str) {
    let mut used = HashSet::new();
    for (handle, variable) in module.global_variables.iter() {
        if let (Some(binding), false) = (&variable.binding, info.get_entry_point(0)[handle].is_empty()) {
            used.insert(binding.binding);
        }
    }
    used.remove(&PARAMS_BINDING);
    let declared: HashSet<u32> = shader.bindings().iter().map(|b| b.binding).collect();
    assert_eq!(declared, used, "{what}");
}

/// What a shader does that some driver is known to get wrong (`tileloom::traps`).
fn broken_rule(module: &naga::Module, info: &ModuleInfo) -> Option<&'static str> {
    use naga::{BuiltIn, Expression, MathFunction, Statement, TypeInner};
    fn statements<'a>(block: &'a naga::Block, found: &mut Vec<&'a Statement>) {
        for statement in block {
            found.push(statement);
            match statement {
                Statement::Block(block) => statements(block, found),
                Statement::If { accept: a, reject: b, .. } | Statement::Loop { body: a, continuing: b, .. } => {
                    statements(a, found);
                    statements(b, found);
                }
                Statement::Switch { cases, .. } => cases.iter().for_each(|case| statements(&case.body, found)),
                _ => (),
            }
        }
    }
    let mut matrices = false;
    let entries = module.entry_points.iter().enumerate().map(|(i, entry)| (&entry.function, info.get_entry_point(i)));
    for (function, info) in module.functions.iter().map(|(handle, function)| (function, &info[handle])).chain(entries) {
        for (_, expression) in function.expressions.iter() {
            match expression {
                Expression::Math { fun: MathFunction::Tanh, .. } => return Some("tanh is called"),
                Expression::Math { fun: MathFunction::Round, .. } => return Some("round is called"),
                _ => {}
            }
        }
        let dots = |e: &Expression| {
            matches!(e, Expression::Math { fun: MathFunction::Dot4I8Packed | MathFunction::Dot4U8Packed, .. })
        };
        if function.expressions.iter().filter(|(_, e)| dots(e)).count() > 1 {
            return Some("two dots of bytes are in one function");
        }
        let half = |e: &Expression| {
            let Expression::Access { base, .. } = *e else { return false };
            matches!(
                function.expressions[base],
                Expression::Math { fun: MathFunction::Unpack2x16float, .. } | Expression::CallResult(_)
            ) && matches!(info[base].ty.inner_with(&module.types), TypeInner::Vector { size: naga::VectorSize::Bi, .. })
        };
        if function.expressions.iter().any(|(_, e)| half(e)) {
            return Some("a half of a word is picked by an index");
        }
        matrices |= function.expressions.iter().any(|(_, e)| matches!(e, Expression::CooperativeLoad { .. }));
        let mut all = Vec::new();
        statements(&function.body, &mut all);
        for statement in all {
            let (Statement::SubgroupGather { argument, .. } | Statement::SubgroupCollectiveOperation { argument, .. }) =
                statement
            else {
                continue;
            };
            if info[*argument].ty.inner_with(&module.types).scalar().is_none_or(|scalar| scalar.width != 4) {
                return Some("something else than 32 bits moves between lanes");
            }
        }
    }
    let of = |binding: &Option<naga::Binding>, all: &[BuiltIn]| matches!(binding, Some(naga::Binding::BuiltIn(b)) if all.contains(b));
    let lane = [BuiltIn::SubgroupInvocationId];
    let subgroup = [BuiltIn::SubgroupInvocationId, BuiltIn::SubgroupId, BuiltIn::NumSubgroups, BuiltIn::SubgroupSize];
    let arguments = || module.entry_points.iter().flat_map(|entry| &entry.function.arguments);
    let alone = |all: &[BuiltIn]| arguments().any(|argument| of(&argument.binding, all));
    let member = |all: &[BuiltIn]| {
        arguments().find_map(|argument| match &module.types[argument.ty].inner {
            TypeInner::Struct { members, .. } => members.iter().find(|member| of(&member.binding, all)),
            _ => None,
        })
    };
    if matrices && (alone(&lane) || member(&lane).is_some()) {
        return Some("a kernel with matrices asks for the number in the subgroup");
    }
    // What naga itself calls `local` counts, too.
    let functions =
        module.functions.iter().map(|(_, f)| f).chain(module.entry_points.iter().map(|entry| &entry.function));
    let mut names: HashSet<&str> = HashSet::from(["local"]);
    for function in functions {
        names.extend(function.arguments.iter().filter_map(|argument| argument.name.as_deref()));
        names.extend(function.local_variables.iter().filter_map(|(_, variable)| variable.name.as_deref()));
        names.extend(function.named_expressions.values().map(String::as_str));
    }
    let index = member(&[BuiltIn::LocalInvocationIndex]).and_then(|member| member.name.as_deref());
    if index.is_some_and(|name| names.contains(name)) {
        return Some("something else has the name of the number in the workgroup");
    }
    (member(&subgroup).is_some() && !alone(&subgroup)).then_some("a struct alone has builtins of subgroups")
}

#[test]
fn broken_rules_are_found() {
    let found = |body: &str, arguments: &str| {
        let local = if arguments.contains("Index") { "" } else { "@builtin(local_invocation_index) local: u32" };
        let source = format!(
            "enable f16;
            @group(0) @binding(0) var<storage, read_write> x: array<f16, 256>;
            fn inner(v: f32) -> f32 {{ return v; }}
            fn pair(v: u32) -> vec2<f32> {{ return vec2(f32(v)); }}
            struct Ids {{ @builtin(subgroup_invocation_id) lane: u32 }}
            struct Index {{ @builtin(local_invocation_index) index: u32 }}
            @compute @workgroup_size(64)
            fn main({local}{arguments}) {{ {body} }}"
        );
        let source = if body.contains("coop") { format!("enable wgpu_cooperative_matrix;{source}") } else { source };
        let module = naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&source)));
        let info = Validator::new(ValidationFlags::all(), Capabilities::all())
            .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
            .subgroup_operations(naga::valid::SubgroupOperationSet::all())
            .validate(&module)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string(&source)));
        broken_rule(&module, &info)
    };
    let lane = ", @builtin(subgroup_invocation_id) lane: u32";
    let matrix = "let m = coopLoadT<coop_mat8x8<f16, A>>(&x[local & 7u], 8u); _ = m;";
    let f16s = Some("something else than 32 bits moves between lanes");
    assert_eq!(found("x[local] = f16(subgroupShuffleXor(f32(x[local]), 1u));", lane), None);
    assert_eq!(found("if local < 8u { x[local] = subgroupShuffleXor(x[local], 1u); }", ""), f16s);
    assert_eq!(found("loop { x[local] = subgroupAdd(vec2(x[local])).y; break; }", ""), f16s);
    assert_eq!(found("x[local] = f16(tanh(inner(3.0 * f32(local))));", ""), Some("tanh is called"));
    assert_eq!(found("x[local] = round(x[local]);", ""), Some("round is called"));
    assert_eq!(found(matrix, ""), None);
    assert_eq!(found(matrix, lane), Some("a kernel with matrices asks for the number in the subgroup"));
    assert_eq!(found("_ = ids.lane;", ", ids: Ids"), Some("a struct alone has builtins of subgroups"));
    assert_eq!(found("_ = ids.lane;", ", ids: Ids, @builtin(subgroup_size) size: u32"), None);
    let renamed = Some("something else has the name of the number in the workgroup");
    assert_eq!(found("let index = ids.index;", "ids: Index"), renamed);
    assert_eq!(found("let other = ids.index;", "ids: Index"), None);
    let half = Some("a half of a word is picked by an index");
    assert_eq!(found("x[local] = f16(unpack2x16float(local)[local & 1u]);", ""), half);
    assert_eq!(found("x[local] = f16(pair(local)[local & 1u]);", ""), half);
    assert_eq!(found("x[local] = f16(unpack2x16float(local >> (local & 16u)).x + pair(local)[1]);", ""), None);
    let dots = "x[local] = f16(dot4I8Packed(local, 1u)";
    assert_eq!(found(&format!("{dots});"), ""), None);
    assert_eq!(
        found(&format!("{dots} + dot4I8Packed(1u, 2u * local));"), ""),
        Some("two dots of bytes are in one function")
    );
}

fn translate(valid: &Valid, backend: wgpu::Backend, what: &str) {
    let Valid { module, info, shader, .. } = *valid;
    let stem = shader.stem();
    match backend {
        wgpu::Backend::Vulkan => {
            let options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
            let words =
                naga::back::spv::write_vec(module, info, &options, None).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(words[0], 0x0723_0203, "{what}");
        }
        wgpu::Backend::Metal => {
            let text = valid.msl((2, 4), false);
            assert!(text.contains(stem), "{what}");
            assert!(text.lines().count() < 4000, "{what} is long");
        }
        wgpu::Backend::Dx12 => assert!(valid.hlsl(ShaderModel::V6_2, false).0.contains(stem), "{what}"),
        wgpu::Backend::Gl => {
            let options =
                naga::back::glsl::Options { version: naga::back::glsl::Version::Desktop(450), ..Default::default() };
            let pipeline = naga::back::glsl::PipelineOptions {
                shader_stage: naga::ShaderStage::Compute,
                entry_point: stem.to_string(),
                multiview: None,
            };
            let mut text = String::new();
            naga::back::glsl::Writer::new(&mut text, module, info, &options, &pipeline, Default::default())
                .and_then(|mut writer| writer.write())
                .unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(text.contains("local_size_x"), "{what}");
        }
        // The browser takes WGSL; naga has validated it against the baseline.
        _ => {}
    }
}

/// Presets beside others of their backend and class: of these the chosen Configs are composed, not all candidates.
const KINDS: [&str; 7] =
    ["AMD RDNA2", "AMD Vega", "AMD RDNA3.5 APU", "NVIDIA on NVK", "Intel Xe2", "Apple on Honeykrisp", "Mali"];

/// Composes what a kernel's list holds, on every preset; gives the stems of what was composed.
fn compose_list(kernel: &dyn Kernel) -> HashSet<&'static str> {
    let uniform = |caps: Caps| Caps { name: format!("{}, no immediates", caps.name), immediate_bytes: 0, ..caps };
    let uniforms = presets().into_iter().filter(|caps| caps.f16).take(3).map(uniform);
    let mut list = kernel.list();
    list.retain(|run| run.what() != Use::Test(Depth::Full));
    let (mut stems, mut words, mut held) = (HashSet::new(), HashSet::new(), Held::new());
    // Of each run, the Configs that were composed for a backend and limits.
    let mut able: Vec<(bool, HashSet<_>)> = vec![(false, HashSet::new()); list.len()];
    for caps in presets().into_iter().chain(uniforms) {
        let limits = &caps.limits;
        let device = [
            caps.immediate_bytes.min(128),
            limits.max_compute_invocations_per_workgroup,
            limits.max_compute_workgroup_storage_size,
            limits.max_storage_buffers_per_shader_stage,
        ];
        for (run, (able, composed)) in list.iter().zip(&mut able) {
            let told = |reason| format!("{} {} on {}: {reason}", kernel.name(), run.problem(), caps.name);
            *able |= run.lack(&caps).map_err(told).unwrap().is_none();
            let mut room = if KINDS.contains(&&*caps.name) { 1 } else { usize::MAX };
            let mut wanted = |config: &str| {
                let first = room > 0;
                room = room.saturating_sub(1);
                first && composed.insert((config.to_string(), caps.backend, device))
            };
            for (config, shader) in run.shaders_of(&caps, &mut wanted).map_err(told).unwrap() {
                words.extend(config.split_whitespace().map(str::to_string));
                stems.insert(shader.stem());
                hold(&caps, &shader, &format!("{} {config} on {}", shader.stem(), caps.name), &mut held);
            }
        }
    }
    if let Some(dir) = std::env::var_os("TILELOOM_SHADERS") {
        let dir = Path::new(&dir);
        let mut files = Files::create(dir, kernel.name()).expect("a folder to write to");
        check_sources(&held, Some(&mut files));
        files.finish().expect("texts are written");
        write_sources(&held, &dir.join(format!("{}.jsonl", kernel.name()))).expect("sources are written");
    } else {
        check_sources(&held, None);
    }
    for (run, (able, _)) in list.iter().zip(able) {
        let what = || format!("{} {}: {}", kernel.name(), run.name(), run.problem());
        assert!(able, "no preset can run {} as it is meant", what());
    }
    for word in kernel.shipped() {
        assert!(words.contains(&word), "no candidate of {} has {word}", kernel.name());
    }
    stems
}

#[test]
fn what_the_lists_hold_composes_on_every_preset() {
    let (kernels, stems) = (Mutex::new(registry::all().into_iter()), Mutex::new(HashSet::new()));
    let next = || kernels.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(kernel) = next() {
                    let own = compose_list(kernel);
                    stems.lock().unwrap().extend(own);
                }
            });
        }
    });
    let mut composed = stems.into_inner().unwrap();
    composed.extend(["flush", "flush_f16"]); // what `verify` asks an adapter first
    let files: HashSet<&str> = tileloom::compose::stems().collect();
    assert_eq!(files, composed);
}

/// Apple's compiler gets matrices of 8 x 8 wrong then.
#[test]
fn no_workgroup_of_32_on_metal() {
    for kernel in registry::all() {
        for run in kernel.list() {
            let mut composed = HashSet::new();
            for caps in presets().into_iter().map(|caps| Caps { backend: wgpu::Backend::Metal, ..caps }) {
                if run.lack(&caps) != Ok(None) {
                    continue;
                }
                let what = || format!("{} {} on {}", kernel.name(), run.problem(), caps.name);
                let shaders = run.shaders_of(&caps, &mut |config| composed.insert(config.to_string()));
                for (config, shader) in shaders.unwrap_or_else(|error| panic!("{}: {error}", what())) {
                    assert_ne!(shader.wg_size(), 32, "{}: {config}", what());
                }
            }
        }
    }
}

/// WebGL has no compute: nothing fits, and nothing is divided by what is not there.
#[test]
fn devices_without_compute_are_refused() {
    let limits = wgpu::Limits::downlevel_webgl2_defaults();
    for run in registry::all().into_iter().flat_map(|kernel| kernel.list()) {
        for caps in presets().into_iter().map(|caps| Caps { limits: limits.clone(), ..caps }) {
            let refused = run.candidates(&caps).is_err_and(|error| error.contains("the device is too small"));
            assert!(refused, "{} on {}", run.problem(), caps.name);
        }
    }
}

/// What `verify` runs for a Problem are the shaders that the Problem runs.
#[test]
fn small_calls_run_the_same_shaders() {
    let (mut none, mut other, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for kernel in registry::all() {
        for run in kernel.list().iter().filter(|run| !run.problem().is_empty()) {
            for caps in presets() {
                let subject = run.subject();
                let Some(config) = subject.configs(&caps).ok().and_then(|all| all.into_iter().next()) else { continue };
                if !seen.insert((subject.op(), subject.problem(), config.clone())) {
                    continue;
                }
                let (small, same) = subject.small(&caps, &config).unwrap();
                let what = || format!("{} {config}: {}", kernel.name(), subject.problem());
                match (small.is_empty(), same) {
                    (true, _) => none.push(what()),
                    (false, false) => other.push(what()),
                    (false, true) => {}
                }
            }
        }
    }
    let told = |all: &[String]| all.iter().take(20).map(|line| format!("\n  {line}")).collect::<String>();
    assert!(other.is_empty(), "{} of {} run other shaders:{}", other.len(), seen.len(), told(&other));
    assert!(none.is_empty(), "{} of {} have no small call:{}", none.len(), seen.len(), told(&none));
}

/// What a failing test leaves says all of the call.
#[test]
fn case_files_read_back_to_what_was_written() {
    for kernel in registry::all() {
        let tested = |run: &dyn Run| matches!(run.what(), Use::Test(Depth::Narrow | Depth::Wide));
        for run in kernel.list().iter().filter(|entry| tested(&***entry) && !entry.problem().is_empty()) {
            let case = run.case();
            let again = kernel.replay(&case).map(|replay| replay.case());
            let same = again.as_ref().is_ok_and(|again| *again == case);
            assert!(same, "{} {}: {:?}", kernel.name(), run.problem(), again.map(|again| again.metadata));
        }
    }
}
