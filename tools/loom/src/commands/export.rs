//! `loom export` and `loom judge`: calls of each kernel as files that a browser runs without Rust, and the judgement of what it
//! gave. The calls are prepared on wgpu's noop backend, with the limits of WebGPU and the rules of browsers.
//!
//! A call `ID` is `calls/ID.json` (steps: shader, entry point, bindings, parameters, grid; buffers; shape, Config, what it costs) and `calls/ID.bin` (what the
//! buffers hold before, poison included, one after the other). Its answer is `answers/ID.bin`: the buffers that are written, one
//! after the other; or `answers/ID.txt`: why there is none. `index.json` lists the calls, and what the browser must have.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tileloom::caps::presets;
use tileloom::compose::PARAMS_BINDING;
use tileloom::reference::Verdict;
use tileloom::{Caps, Kernels, KernelsOptions, caps, wgpu};

use super::check::{self, Tally};
use crate::flush::{Flushes, Question};
use crate::harness::Outcome as Ended;
use crate::kernel::{Cost, Depth, Held, Kernel, Run, Use};
use crate::registry;
use crate::report::append;
use crate::runner::listed::{groups, judged_by};

/// Write telling calls of each kernel as files that a page runs in a browser; needs no GPU
#[derive(clap::Args)]
pub struct Options {
    /// The folder: index.json, calls/, shaders/
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    device: Device,
}

/// Judge what a browser answered to the calls of `loom export`
#[derive(clap::Args)]
pub struct Judge {
    /// The folder, with answers/
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// What the adapter is called in records
    #[arg(long, value_name = "NAME", default_value = "browser")]
    adapter: String,
    /// Append a record per case to FILE, as JSON lines for `loom matrix`
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What the browser's device has, and which calls are wanted.
#[derive(Debug, Clone, clap::Args, Serialize, Deserialize)]
struct Device {
    /// Kernels to export; all of them if none is named
    #[arg(value_name = "KERNEL")]
    kernels: Vec<String>,
    /// It has f16
    #[arg(long)]
    f16: bool,
    /// It has subgroups of MIN to MAX invocations
    #[arg(long, value_name = "MIN:MAX", value_parser = sizes)]
    subgroups: Option<(u32, u32)>,
    /// Parameters travel as immediates of so many bytes at most
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    immediates: u32,
    /// Of each case the smallest Problem alone, and none of more than 2^18 operations and bytes
    #[arg(long)]
    quick: bool,
    /// Only calls of shaders that enable f16 or subgroups
    #[arg(long)]
    enabled: bool,
    /// In place of cases what others compute in a browser, too: see tools/browser/peers.mjs
    #[arg(long)]
    beside: bool,
    /// Its shaders run on the CPU
    #[arg(long)]
    cpu: bool,
}

/// Operations and bytes of a Problem, at most, where it is to be quick.
const QUICK: f64 = (1 << 18) as f64;

fn sizes(text: &str) -> Result<(u32, u32), String> {
    let sizes = text.split_once(':').and_then(|(min, max)| Some((min.parse().ok()?, max.parse().ok()?)));
    sizes.ok_or_else(|| format!("`{text}` is not MIN:MAX"))
}

#[derive(Serialize, Deserialize)]
struct Index {
    device: Device,
    features: Vec<String>,
    /// Cheap ones last, so that a long one does not end alone.
    calls: Vec<String>,
}

impl Device {
    /// Kernels that compile for the noop backend, with the Caps of such a device in a browser.
    fn open(&self) -> Result<Kernels, String> {
        let noop =
            wgpu::NoopBackendOptions { limits: Some(wgpu::Limits::unlimited()), ..wgpu::NoopBackendOptions::enabled() };
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::NOOP,
            backend_options: wgpu::BackendOptions { noop, ..Default::default() },
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let adapter = pollster::block_on(instance.request_adapter(&Default::default())).map_err(|e| e.to_string())?;
        let descriptor = Caps::device_descriptor(&adapter);
        let (device, _) = pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| error.to_string())?;
        let options = KernelsOptions { keep: true, ..Default::default() };
        let own = Caps::of(&adapter, &device);
        let kernels = Kernels::with_options(&device, own.clone(), options);
        let browser = |caps: &Caps| caps.backend == wgpu::Backend::BrowserWebGpu;
        let baseline = presets().into_iter().find(browser).ok_or("there is no preset of a browser")?;
        Ok(kernels.with_caps(Caps {
            f16: self.f16,
            subgroup: self.subgroups.map(|(min, max)| caps::Subgroup { min, max }),
            immediate_bytes: self.immediates,
            overrides: own.overrides,
            device_type: if self.cpu { wgpu::DeviceType::Cpu } else { baseline.device_type },
            ..baseline
        }))
    }

    /// Cases by name, with their entries.
    fn groups(&self, kernel: &dyn Kernel, gpu: &Kernels) -> Vec<(String, Vec<Box<dyn Run>>)> {
        if self.beside {
            let list = kernel.list().into_iter().filter(|run| run.what() == Use::Beside);
            return list.map(|run| (run.name().to_string(), vec![run])).collect();
        }
        let mut groups = groups(kernel, Depth::Narrow);
        if self.quick {
            groups.iter_mut().for_each(|(_, runs)| drop(runs.drain(..runs.len() - 1)));
        }
        if self.enabled {
            // What fails stays, and is told.
            let wanted = |run: &dyn Run| {
                self.load(run, gpu).map_or(true, |held| held.is_ok_and(|held| held.iter().any(enables)))
            };
            groups.iter_mut().for_each(|(_, runs)| runs.retain(|run| wanted(&**run)));
            groups.retain(|(_, runs)| !runs.is_empty());
        }
        groups
    }

    /// What an entry runs, or why it does not.
    fn load(&self, run: &dyn Run, gpu: &Kernels) -> Result<Result<Vec<Held>, String>, String> {
        match self.quick && cost(run) > QUICK {
            true => Ok(Err("more than 2^18 operations and bytes: not among the quick ones".into())),
            false => run.load(gpu),
        }
    }
}

/// Whether a shader of the call enables anything.
fn enables(held: &Held) -> bool {
    let mut sources = held.loaded.dispatch().kept().filter_map(|kept| kept.shader.dawn_source(kept.immediates));
    sources.any(|source| source.starts_with("enable "))
}

fn cost(run: &dyn Run) -> f64 {
    run.cost().flops + run.cost().bytes
}

/// The names of the calls of one entry.
fn ids<'a>(kernel: &'a dyn Kernel, case: &'a str, at: usize) -> impl Fn(usize) -> String + 'a {
    let case: String = case.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    move |config| format!("{}.{case}.{at}.{config}", kernel.name())
}

/// Does `work` for each kernel, several at a time; what each gave, in order.
fn each<T: Send>(
    kernels: &[&dyn Kernel],
    work: impl Fn(&dyn Kernel) -> Result<T, String> + Sync,
) -> Result<Vec<T>, String> {
    let (next, done) = (Mutex::new(kernels.iter().enumerate()), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some((i, kernel)) = next.lock().expect("no thread panics with it").next() else { break };
                    let result = work(*kernel);
                    done.lock().expect("no thread panics with it").insert(i, result);
                }
            });
        }
    });
    done.into_inner().expect("no thread panics with it").into_values().collect()
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes the files, and tells how many calls there are.
///
/// # Errors
/// A kernel that is not known, and what cannot be prepared or written.
pub fn export(options: &Options) -> Result<String, String> {
    let Options { dir, device } = options;
    let kernels = registry::named(&device.kernels)?;
    for folder in ["calls", "shaders", "answers"] {
        let folder = dir.join(folder);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let told = each(&kernels, |kernel| {
        // Of its own: other threads would drive tables out of what is kept.
        let gpu = device.open()?;
        let (mut calls, mut bytes) = (Vec::new(), 0);
        for (case, runs) in device.groups(kernel, &gpu) {
            for (at, run) in runs.iter().enumerate() {
                let id = ids(kernel, &case, at);
                // What cannot be prepared is told by `judge`.
                let Ok(Ok(held)) = device.load(&**run, &gpu) else { continue };
                for (config, held) in held.iter().enumerate() {
                    bytes += written(dir, &id(config), held, &**run)?;
                    calls.push((cost(&**run), id(config)));
                }
            }
        }
        Ok((calls, bytes))
    })?;
    for (i, question) in Question::all(device.f16).iter().enumerate() {
        flush(dir, &format!("flush.{i}"), question)?;
    }
    let bytes: usize = told.iter().map(|(_, bytes)| bytes).sum();
    let mut calls: Vec<_> = told.into_iter().flat_map(|(calls, _)| calls).collect();
    calls.sort_by(|a, b| b.0.total_cmp(&a.0));
    let flush = (0..Question::all(device.f16).len()).map(|i| format!("flush.{i}"));
    let calls: Vec<String> = flush.chain(calls.into_iter().map(|(_, id)| id)).collect();
    let mut features = Vec::new();
    features.extend(device.f16.then_some("shader-f16".into()));
    features.extend(device.subgroups.map(|_| "subgroups".into()));
    let count = calls.len();
    let index = Index { device: device.clone(), features, calls };
    write(&dir.join("index.json"), serde_json::to_string(&index).map_err(|error| error.to_string())?)?;
    Ok(format!("{count} calls, {:.1} MB\n", bytes as f64 / 1e6))
}

/// Writes a shader once, under a name that follows from it.
fn shader(dir: &Path, source: &str) -> Result<String, String> {
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    let name = format!("{:016x}", hasher.finish());
    write(&dir.join(format!("shaders/{name}.wgsl")), source)?;
    Ok(name)
}

/// Writes one call; how many bytes its buffers have.
fn written(dir: &Path, id: &str, Held { config, loaded, .. }: &Held, run: &dyn Run) -> Result<usize, String> {
    let (mut places, mut bytes, mut buffers) = (HashMap::new(), Vec::new(), Vec::new());
    for (buffer, before) in loaded.buffers() {
        places.insert(buffer.clone(), buffers.len());
        buffers.push(json!({ "bytes": before.len(), "written": loaded.written().any(|written| written == buffer) }));
        bytes.extend_from_slice(before);
    }
    let mut steps = Vec::new();
    for kept in loaded.dispatch().kept() {
        let source = kept.shader.dawn_source(kept.immediates);
        let source = source.ok_or_else(|| format!("{id}: cooperative matrices in a browser"))?;
        let mut bindings = Vec::new();
        for bound in &kept.bindings {
            let place = match (places.get(&bound.buffer), &bound.words) {
                (Some(place), _) => *place,
                (None, None) => return Err(format!("{id}: nothing is known of the buffer of binding {}", bound.slot)),
                (None, Some(words)) => {
                    places.insert(bound.buffer.clone(), buffers.len());
                    buffers.push(json!({ "bytes": 4 * words.len(), "written": false }));
                    bytes.extend_from_slice(bytemuck::cast_slice(words));
                    buffers.len() - 1
                }
            };
            let declared = kept.shader.bindings().iter().find(|declared| declared.binding == bound.slot);
            let access = if declared.is_some_and(|declared| declared.writable) { "read_write" } else { "read" };
            bindings.push(json!({
                "slot": bound.slot, "name": declared.map(|declared| declared.name), "access": access,
                "buffer": place, "offset": bound.offset, "bytes": bound.bytes,
            }));
        }
        steps.push(json!({
            "shader": shader(dir, &source)?, "entry": kept.shader.stem(), "bindings": bindings, "grid": kept.grid,
            "params": kept.params, "params_binding": (!kept.immediates).then_some(PARAMS_BINDING),
        }));
    }
    let Cost { flops, bytes: moved } = run.cost();
    let call = json!({ "steps": steps, "buffers": buffers, "shape": run.name(), "config": config, "flops": flops, "bytes": moved });
    write(&dir.join(format!("calls/{id}.json")), call.to_string())?;
    write(&dir.join(format!("calls/{id}.bin")), &bytes)?;
    Ok(bytes.len())
}

/// Writes a question after what an adapter flushes.
fn flush(dir: &Path, id: &str, question: &Question) -> Result<(), String> {
    let binding = |slot: u32, access: &str, bytes: u64| json!({ "slot": slot, "access": access, "buffer": slot, "offset": 0, "bytes": bytes });
    let given = question.given.len() as u64;
    let step = json!({
        "shader": shader(dir, question.source)?, "entry": "flush", "grid": [1, 1, 1], "params": [],
        "bindings": [binding(0, "read", given), binding(1, "read_write", question.bytes)],
    });
    let buffers = json!([{ "bytes": given, "written": false }, { "bytes": question.bytes, "written": true }]);
    write(&dir.join(format!("calls/{id}.json")), json!({ "steps": [step], "buffers": buffers }).to_string())?;
    let zeros = vec![0; question.bytes as usize];
    write(&dir.join(format!("calls/{id}.bin")), [&question.given[..], &zeros].concat())
}

/// The bytes of an answer.
fn answer(dir: &Path, id: &str) -> Result<Vec<u8>, String> {
    let path = |suffix: &str| dir.join(format!("answers/{id}.{suffix}"));
    match fs::read_to_string(path("txt")) {
        Ok(reason) => Err(reason),
        Err(_) => fs::read(path("bin")).map_err(|error| format!("there is no answer to {id}: {error}")),
    }
}

/// How an entry ended.
fn ended(
    Judge { dir, .. }: &Judge,
    device: &Device,
    gpu: &Kernels,
    flushes: Flushes,
    run: &dyn Run,
    id: impl Fn(usize) -> String,
) -> Ended {
    let held = match device.load(run, gpu) {
        Ok(Ok(held)) => held,
        Ok(Err(lack)) => return Ended::Skipped(lack),
        Err(reason) => return Ended::Failed(reason),
    };
    let mut all = Verdict::default();
    for (i, Held { config, loaded, judge }) in held.iter().enumerate() {
        let verdict = answer(dir, &id(i)).and_then(|bytes| {
            let (mut rest, mut parts) = (&bytes[..], Vec::new());
            for buffer in loaded.written() {
                let (own, others) = rest.split_at_checked(buffer.size() as usize).ok_or("the answer is too short")?;
                parts.push(own.to_vec());
                rest = others;
            }
            judge(loaded, parts, flushes)
        });
        match verdict {
            Ok(verdict) if verdict.ok() => all.merge(verdict),
            Ok(verdict) => return Ended::Failed(format!("{verdict}\n  {}\n  {config}", run.problem())),
            Err(reason) => return Ended::Failed(format!("{reason}\n  {}\n  {config}", run.problem())),
        }
    }
    Ended::Ran(all)
}

/// Judges the answers: whether all is right, and a table.
///
/// # Errors
/// A folder that is not of `loom export`, no answer to what the adapter flushes, and records that cannot be written.
pub fn judge(options: &Judge) -> Result<(bool, String), String> {
    let Judge { dir, adapter, report } = options;
    let path = dir.join("index.json");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let Index { device, .. } = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let (kernels, gpu) = (registry::named(&device.kernels)?, device.open()?);
    let mut flushes = Flushes::default();
    for (i, question) in Question::all(device.f16).iter().enumerate() {
        flushes = (question.told)(flushes, &answer(dir, &format!("flush.{i}"))?);
    }
    let tallies = each(&kernels, |kernel| {
        let groups = device.groups(kernel, &gpu);
        let tally = Tally::elsewhere(kernel, adapter, &groups, |case, runs, verdict| {
            let mut at = 0;
            judged_by(runs, Depth::Narrow, verdict, |run, _| {
                at += 1;
                ended(options, &device, &gpu, flushes, run, ids(kernel, case, at - 1))
            })
        });
        Ok((!groups.is_empty()).then_some(tally))
    })?;
    let tallies: Vec<Tally> = tallies.into_iter().flatten().collect();
    if let Some(file) = report {
        let records: Vec<_> = tallies.iter().flat_map(|tally| tally.records.clone()).collect();
        append(file, &records).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let text = format!("{adapter}: subnormal numbers are {}\n{}", flushes.word(), check::render(&tallies));
    Ok((tallies.iter().all(Tally::ok), text))
}
