//! The tests, tested: faults that drivers and authors are known for are put into composed shaders, one at a time, and the
//! kernels' lists are run on them. A fault that changes a result must be caught.

mod edit;
mod table;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use tileloom::compose::Shader;
use tileloom::kernels::Rewrite;
use tileloom::verify::attempt;
use tileloom::wgpu::naga;
use tileloom::{ErrorKind, KernelsOptions};

use crate::Gpu;
use crate::harness::Outcome;
use crate::kernel::{Depth, Kernel, Run, Use};
use crate::runner::caught;

pub use edit::Edit;
pub use table::{FAULTS, WITHIN};

/// A way in which a shader, or what compiles and runs it, goes wrong.
pub struct Fault {
    /// What goes wrong.
    pub name: &'static str,
    /// The public bug, or the slip, that it is modelled on.
    pub after: &'static str,
    pub edits: &'static [Edit],
}

/// Where a fault is put: one place of one shader file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    pub fault: String,
    pub kernel: String,
    /// The entry point.
    pub stem: String,
    /// The edit of the fault, and which of its places.
    pub edit: usize,
    pub place: usize,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// By the case of this name.
    Caught(String),
    /// All outputs have the bits that they had without it.
    SameBits,
    /// Some outputs differ, and all of them are within the rule.
    Within,
    /// The shader is none any more: the table is to be mended.
    Invalid(String),
}

/// A site and what became of it: a line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    #[serde(flatten)]
    pub site: Site,
    pub found: Found,
    /// By which call `verify` has caught it, of those Problems that run the shader; asked where results change.
    pub verified: Option<String>,
}

/// A Problem of a kernel's list, and the shaders that it runs by each Config.
struct Case {
    run: Box<dyn Run>,
    shaders: Vec<(String, Shader)>,
    /// What it gives without a fault.
    bits: OnceLock<Vec<u64>>,
}

/// What a Problem gives by each Config that it means, as bits.
fn bits(run: &dyn Run, gpu: &Gpu) -> Result<Vec<u64>, String> {
    Ok(run.outputs(gpu)?.into_iter().flatten().map(f64::to_bits).collect())
}

impl Case {
    /// Its shaders of this stem with an edit, where that changes them.
    fn changed<'a>(&'a self, stem: &'a str, edit: &'a Edit, place: usize) -> impl Iterator<Item = (&'a str, String)> {
        let own = self.shaders.iter().filter(move |(_, shader)| shader.stem() == stem);
        own.filter_map(move |(config, shader)| {
            let source = shader.source(false);
            let changed = edit.apply(&source, place).filter(|changed| *changed != source)?;
            Some((config.as_str(), changed))
        })
    }
}

/// Puts each fault whose name contains `wanted` into `kernel`, place by place, and tells each `line`. Where
/// `most` of the Problems that a place touches give the same bits, the others are not run.
///
/// # Errors
/// A Problem that is none, or a device that is lost.
pub fn inject(
    kernel: &dyn Kernel,
    gpu: &Gpu,
    depth: Depth,
    wanted: &str,
    most: usize,
    mut line: impl FnMut(Line),
) -> Result<(), String> {
    let caps = gpu.kernels.caps();
    let whole = gpu.with_options(KernelsOptions { checked: true, ..Default::default() });
    let (mut cases, mut programs) = (Vec::new(), Vec::new());
    for run in kernel.list() {
        let to = match run.what() {
            Use::Test(own) if own <= depth => &mut cases,
            Use::Bench { .. } => &mut programs,
            _ => continue,
        };
        let shaders = run.meant(&caps)?;
        to.push(Case { run, shaders, bits: OnceLock::new() });
    }
    let stems: BTreeSet<&str> = cases.iter().flat_map(|case| &case.shaders).map(|(_, shader)| shader.stem()).collect();
    for fault in FAULTS.iter().filter(|fault| fault.name.contains(wanted)) {
        for (number, edit) in fault.edits.iter().enumerate() {
            for stem in stems.iter().copied().filter(|stem| edit.is_of(stem)) {
                let sources = cases.iter().flat_map(|case| &case.shaders).filter(|(_, shader)| shader.stem() == stem);
                let places = sources.map(|(_, shader)| edit.places(&shader.source(false))).max().unwrap_or(0);
                for place in 0..places {
                    if let Some((found, verified)) = injected([&cases, &programs], &whole, stem, edit, place, most)? {
                        let site = Site {
                            fault: fault.name.into(),
                            kernel: kernel.name().into(),
                            stem: stem.into(),
                            edit: number,
                            place,
                        };
                        line(Line { site, found, verified });
                    }
                }
            }
        }
    }
    Ok(())
}

/// What becomes of one edit in one place, and what `verify` says; nothing where it changes no shader.
fn injected(
    [cases, programs]: [&[Case]; 2],
    whole: &Gpu,
    stem: &str,
    edit: &'static Edit,
    place: usize,
    most: usize,
) -> Result<Option<(Found, Option<String>)>, String> {
    let touched = cases.iter().filter(|case| case.changed(stem, edit, place).next().is_some());
    let touched: Vec<&Case> = touched.collect();
    let Some((_, first)) = touched.iter().find_map(|case| case.changed(stem, edit, place).next()) else {
        return Ok(None);
    };
    if let Err(reason) = valid(&first) {
        return Ok(Some((Found::Invalid(reason), None)));
    }
    let own = stem.to_string();
    let rewrite = move |stem: &str, source: String| match stem == own {
        true => edit.apply(&source, place).unwrap_or(source),
        false => source,
    };
    // With all of wgpu's checks: a wrong index must not reach what is not its own.
    let options = KernelsOptions { checked: true, rewrite: Some(Rewrite(Arc::new(rewrite))), ..Default::default() };
    let broken = whole.with_options(options);
    let mut found = caught_by(&touched, most, &broken, whole);
    // A loop that could be cut is compiled otherwise, and may round otherwise.
    if let (Found::Within, Edit::Cut(prefix, _)) = (&found, edit) {
        let own = stem.to_string();
        let uncut = move |stem: &str, source: String| match stem == own {
            true => Edit::Cut(prefix, u32::MAX).apply(&source, place).unwrap_or(source),
            false => source,
        };
        let rewrite = Some(Rewrite(Arc::new(uncut)));
        let uncut = whole.with_options(KernelsOptions { checked: true, rewrite, ..Default::default() });
        let same = |case: &&Case| caught(|| bits(&*case.run, &uncut)) == caught(|| bits(&*case.run, &broken));
        if touched.iter().all(same) {
            found = Found::SameBits;
        }
    }
    if found == Found::SameBits {
        return Ok(Some((found, None)));
    }
    let subjects = programs.iter().chain(touched.iter().copied());
    let verified = verified(subjects, &broken, |case| {
        case.changed(stem, edit, place).map(|(config, _)| config.to_string()).collect()
    });
    Ok(Some((found, verified)))
}

/// What the lists make of broken kernels: only what has other bits than without the fault is judged. If `most` Problems,
/// spread over the list, have the same bits, the others are not run.
fn caught_by(touched: &[&Case], most: usize, broken: &Gpu, whole: &Gpu) -> Found {
    let mut found = Found::SameBits;
    let step = touched.len().div_ceil(most.max(1)).max(1);
    let (first, rest): (Vec<_>, Vec<_>) = touched.iter().enumerate().partition(|(i, _)| i % step == 0);
    let (some, all) = (first.len(), first.into_iter().chain(rest));
    for (number, (_, case)) in all.enumerate() {
        if number == some && found == Found::SameBits {
            return found;
        }
        let right = case.bits.get_or_init(|| bits(&*case.run, whole).unwrap_or_default());
        if caught(|| bits(&*case.run, broken)).is_ok_and(|bits| bits.is_ok_and(|bits| bits == *right)) {
            continue;
        }
        found = Found::Within;
        if let Outcome::Failed(_) = caught(|| case.run.test(broken)).unwrap_or_else(Outcome::Failed) {
            return Found::Caught(case.run.name().into());
        }
    }
    found
}

/// Of so many Problems with a broken shader `verify` is asked: as many as a program might have.
const PROGRAM: usize = 12;

/// The Problem for which `verify` finds one of the broken Configs wrong.
fn verified<'a>(
    cases: impl Iterator<Item = &'a Case>,
    broken: &Gpu,
    configs: impl Fn(&Case) -> BTreeSet<String>,
) -> Option<String> {
    let mut asked = BTreeSet::new();
    for case in cases {
        let subject = case.run.subject();
        for config in configs(case) {
            let Ok(sources) = subject.sources(&config) else { continue };
            if asked.len() == PROGRAM || !asked.insert((config.clone(), sources)) {
                continue;
            }
            let tried = attempt(&broken.kernels, &broken.queue, subject, &config, broken.flushes());
            let seen = match caught(|| pollster::block_on(tried)) {
                Ok(Ok(attempt)) => attempt.wrong.is_some(),
                // This is banned, too.
                Ok(Err(error)) => matches!(error.kind, ErrorKind::Gpu { .. }),
                Err(_) => false,
            };
            if seen {
                return Some(subject.problem());
            }
        }
    }
    None
}

/// # Errors
/// What naga says of it.
fn valid(source: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let mut validator =
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
    validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
    validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
    validator.validate(&module).map(|_| ()).map_err(|error| error.emit_to_string(source))
}

#[cfg(test)]
mod tests {
    use tileloom::caps::presets;

    use super::*;
    use crate::registry;

    /// An edit that finds nothing to change tests nothing.
    #[test]
    fn every_edit_changes_a_shader() {
        let all = presets();
        let mut sources: BTreeSet<(&str, String)> = BTreeSet::new();
        for run in registry::all().iter().flat_map(|kernel| kernel.list()) {
            if !matches!(run.what(), Use::Test(Depth::Narrow | Depth::Wide)) {
                continue;
            }
            for caps in &all {
                for (_, shader) in run.meant(caps).unwrap_or_default() {
                    sources.insert((shader.stem(), shader.source(false)));
                }
            }
        }
        let mut idle = Vec::new();
        for fault in FAULTS {
            for (number, edit) in fault.edits.iter().enumerate() {
                let changes = |(stem, source): &(&str, String)| edit.is_of(stem) && edit.places(source) > 0;
                if !sources.iter().any(changes) {
                    idle.push(format!("{}, edit {number}", fault.name));
                }
            }
        }
        assert!(idle.is_empty(), "{}", idle.join("\n"));
    }
}
