//! [`Kernels`]: the compiled pipelines of one device.

use std::any::{Any, TypeId};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use crate::compose::{Declared, MAX_IMMEDIATES, PARAMS_BINDING, Params, Shader, Slots};
use crate::error::Checked;
use crate::poll::Poller;
use crate::scopes::{fault, guarded, lock, scoped};
use crate::tune::{Choices, Table};
use crate::verify::{Known, Subject, Tried, Verdicts};
use crate::{Caps, Error, ErrorKind, Misfit, Op, Result};

/// What names a pipeline: equal values compile to the same shader.
pub trait Pipeline: Hash + Eq + Clone + Debug + Send + Sync + 'static {
    /// Its shader.
    fn shader(&self) -> Shader;
}

/// The key of an op's pipelines: what a Config chose, and what follows from the Problem and the buffers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pass<C, F> {
    /// The shader file and its entry point.
    pub stem: &'static str,
    /// The choice.
    pub config: C,
    /// What follows from the Problem and the buffers.
    pub form: F,
    /// Inputs that share their buffer with something that is written.
    pub writable: Slots,
}

impl<C: Copy, F: Copy> Pass<C, F> {
    /// A step; `prepare` tells what is writable.
    pub fn new(stem: &'static str, config: C, form: F) -> Self {
        Pass { stem, config, form, writable: Slots::NONE }
    }

    /// The beginning of its shader.
    pub fn begin(&self, wg_size: u32, wg_bytes: u32, vec: u32) -> Shader {
        Shader::new(self.stem, wg_size, wg_bytes, vec).writable(self.writable)
    }
}

impl<C: Debug, F: Debug> Debug for Pass<C, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.config, self.form)?;
        if self.writable != Slots::NONE {
            write!(f, " writable {:?}", self.writable)?;
        }
        Ok(())
    }
}

/// How [`Kernels`] compiles.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Compile with all of wgpu's runtime checks (bounds, loop bounding) and with zeroed workgroup
    /// memory. Slower; the results are the same, and tests compare.
    pub checked: bool,
    /// A folder for wgpu's pipeline cache, read now and written by [`Kernels::save_pipeline_cache`].
    /// Without effect on backends that have none (all but Vulkan).
    pub cache_dir: Option<PathBuf>,
    /// `prepare_with` takes Configs that [`verify`](crate::verify) has banned.
    pub allow_banned: bool,
    /// Takes Configs that do not depend on the batch, so that a row's bits are the same whoever it shares a batch with: rows of
    /// products (m), of norms and softmaxes, sequences of attention. It costs speed, above all where a batch has few rows.
    ///
    /// What it holds for: rows with the same alignment (a row's stride is a multiple of four elements, or of none of them), a
    /// that is not transposed, attention of the same [`seq_kv`](crate::attention::Problem::seq_kv), which is to be the room for keys, and not the
    /// most that some sequence has; packed sequences may be as long as they like. A batch for which the Config has no room is refused.
    /// Sums over a batch, such as the gradients of weights, depend on it whatever the Config.
    pub batch_invariant: bool,
    /// Choices that were measured on this adapter, which are taken before the candidates: see [`tune`](crate::tune).
    pub table: Option<Table>,
    /// Configs that are taken before all others, each as `OP=CONFIG`, such as `"norm=algorithm=online wg_size=64 .."`; where one does
    /// not fit, the log says so, and it counts for nothing.
    pub pins: Vec<String>,
    /// Changes sources before they are compiled: for tools that inject faults.
    #[doc(hidden)]
    pub rewrite: Option<Rewrite>,
    /// Dispatches keep what they were made of ([`Dispatch::kept`](crate::Dispatch::kept)): for tools that write calls down.
    #[doc(hidden)]
    pub keep: bool,
    /// Binds all of what the caller gives, not only what is reached of it: for tests of what is, since drivers hide what reaches past a
    /// binding.
    #[doc(hidden)]
    pub wide: bool,
}

/// From a shader's stem and source to the source that is compiled.
type Change = dyn Fn(&str, String) -> String + Send + Sync;

/// A change of sources.
#[doc(hidden)]
#[derive(Clone)]
pub struct Rewrite(pub Arc<Change>);

impl Debug for Rewrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rewrite")
    }
}

/// A compiled pipeline.
#[derive(Debug)]
pub struct Compiled {
    label: String,
    built: Built,
    shader: Shader,
}

/// What a driver made of a source.
#[derive(Debug, Clone)]
struct Built {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    /// The device has said nothing against it: natively at once, on the web once scopes have answered.
    proven: Arc<AtomicBool>,
}

impl Compiled {
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn pipeline(&self) -> &wgpu::ComputePipeline {
        &self.built.pipeline
    }

    pub(crate) fn layout(&self) -> &wgpu::BindGroupLayout {
        &self.built.layout
    }

    pub(crate) fn shader(&self) -> &Shader {
        &self.shader
    }
}

#[cfg(not(target_arch = "wasm32"))]
type AnyMap = Box<dyn Any + Send + Sync>;
#[cfg(target_arch = "wasm32")]
type AnyMap = Box<dyn Any>;

/// Made once, by whoever comes first; others wait for it.
type Slot<T> = Arc<Mutex<Option<T>>>;

/// What is in `slot`, made now if it is empty or does not do.
fn once<T: Clone>(slot: &Slot<T>, does: impl Fn(&T) -> bool, make: impl FnOnce() -> Checked<T>) -> Checked<T> {
    let mut slot = lock(slot);
    match &*slot {
        Some(made) if does(made) => Ok(made.clone()),
        _ => Ok(slot.insert(make()?).clone()),
    }
}

/// The pipelines of one device, compiled on first use. Cheap to clone, and shared by its clones;
/// any thread may use it.
#[derive(Clone)]
pub struct Kernels {
    inner: Arc<Inner>,
    caps: Arc<RwLock<Arc<Caps>>>,
}

struct Inner {
    device: wgpu::Device,
    /// No other `Kernels` of this process have it.
    number: u64,
    options: Options,
    /// By the type of the pipeline's name, a `HashMap<P, Slot<Arc<Compiled>>>`.
    pipelines: Mutex<HashMap<TypeId, AnyMap>>,
    /// By two hashes of what the driver gets: passes with equal sources share a pipeline.
    built: Mutex<HashMap<[u64; 2], Slot<Built>>>,
    /// On the web, while a plan of [`Kernels::later`] runs: `proven` of what it has compiled.
    fresh: Mutex<Option<Vec<Arc<AtomicBool>>>>,
    compiled: AtomicUsize,
    cache: Option<(wgpu::PipelineCache, PathBuf)>,
    /// Configs that are not used, and why.
    bans: RwLock<HashMap<Tried, String>>,
    /// What is taken before the candidates.
    choices: OnceLock<Choices>,
    /// One buffer serves every dispatch: a dispatch writes its scratch before it reads it, its steps
    /// are recorded without a gap, and a queue runs what is recorded in order.
    scratch: Mutex<Option<wgpu::Buffer>>,
    /// Small tables and Params, and their buffers; the last used ones, the newest last.
    constants: Mutex<VecDeque<Constant>>,
    poller: Poller,
}

/// Words that are never rewritten, and their buffer.
type Constant = (wgpu::BufferUsages, Vec<u32>, wgpu::Buffer);

/// How many constants are kept.
const CONSTANTS: usize = 64;

impl Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernels")
            .field("caps", &self.caps().label())
            .field("pipelines", &self.pipeline_count())
            .field("options", &self.inner.options)
            .finish()
    }
}

impl Kernels {
    /// Kernels for `device`, compiled without runtime checks; see the crate's ARCHITECTURE.md for why
    /// that is sound. `caps` can only take from what the device has: see [`Kernels::caps`].
    pub fn new(device: &wgpu::Device, caps: Caps) -> Kernels {
        Self::with_options(device, caps, Options::default())
    }

    /// Kernels with [`Options`].
    pub fn with_options(device: &wgpu::Device, caps: Caps, options: Options) -> Kernels {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let caps = Caps { batch_invariant: options.batch_invariant, ..caps.on(device) };
        let cache = options.cache_dir.as_deref().and_then(|dir| open_cache(device, &caps, dir));
        Kernels {
            caps: Arc::new(RwLock::new(Arc::new(caps))),
            inner: Arc::new(Inner {
                device: device.clone(),
                number: NUMBER.fetch_add(1, Ordering::Relaxed),
                options,
                pipelines: Mutex::default(),
                built: Mutex::default(),
                fresh: Mutex::new(None),
                compiled: AtomicUsize::new(0),
                cache,
                bans: RwLock::default(),
                choices: OnceLock::new(),
                scratch: Mutex::default(),
                constants: Mutex::default(),
                poller: Poller::default(),
            }),
        }
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// The same for all clones, and for no other `Kernels`.
    pub(crate) fn number(&self) -> u64 {
        self.inner.number
    }

    /// What these kernels use of the device: what is in the [`Caps`] that they were made with and on the device, and of
    /// cooperative matrices what their own probe has found.
    pub fn caps(&self) -> Arc<Caps> {
        self.caps.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_caps(&self, caps: Caps) {
        *self.caps.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(caps);
    }

    /// The same kernels with other Caps: pipelines, scratch and bans are shared. Nothing is probed. Pipelines do not tell how
    /// Params travel, so that `immediate_bytes` is not to change once there are some.
    #[doc(hidden)]
    pub fn with_caps(&self, caps: Caps) -> Kernels {
        Kernels { inner: self.inner.clone(), caps: Arc::new(RwLock::new(Arc::new(caps))) }
    }

    /// Whether these kernels compile with all of wgpu's runtime checks.
    pub fn is_checked(&self) -> bool {
        self.inner.options.checked
    }

    /// Does not choose what these verdicts ban, from now on. Those of another adapter, driver or version have no effect.
    pub fn add_verdicts(&self, verdicts: &Verdicts) {
        if let Err(error) = verdicts.check_key(self) {
            return log::warn!("{error}");
        }
        let banned = verdicts.iter().filter_map(|(tried, known)| match known {
            Known::Banned(reason) => Some((tried.clone(), reason.clone())),
            _ => None,
        });
        self.inner.bans.write().unwrap_or_else(PoisonError::into_inner).extend(banned);
    }

    /// Why a Config is not used, if it is banned for this Problem.
    pub(crate) fn ban<P: Op>(&self, problem: &P, config: &P::Config) -> Option<String> {
        let bans = self.inner.bans.read().unwrap_or_else(PoisonError::into_inner);
        if bans.is_empty() {
            return None;
        }
        let text = config.to_string();
        if !bans.keys().any(|tried| tried.op == P::NAME && tried.config == text) {
            return None;
        }
        let sources = crate::verify::subject::sources(problem, config).ok()?;
        bans.get(&Tried { op: P::NAME.into(), config: text, sources }).cloned()
    }

    /// What is taken before the candidates.
    pub(crate) fn choices(&self) -> &Choices {
        let Options { table, pins, .. } = &self.inner.options;
        self.inner.choices.get_or_init(|| Choices::of(self, table.as_ref(), pins))
    }

    pub(crate) fn keeps(&self) -> bool {
        self.inner.options.keep
    }

    /// See [`Options::wide`].
    pub(crate) fn binds_wide(&self) -> bool {
        self.inner.options.wide
    }

    pub(crate) fn allows_banned(&self) -> bool {
        self.inner.options.allow_banned
    }

    /// How many pipelines have been compiled.
    pub fn pipeline_count(&self) -> usize {
        self.inner.compiled.load(Ordering::Relaxed)
    }

    /// Whether parameters of this size travel as immediates.
    pub(crate) fn immediates_hold(&self, bytes: u32) -> bool {
        bytes <= self.caps().immediate_bytes.min(MAX_IMMEDIATES as u32)
    }

    /// Compiles the pipelines of these Problems, several at a time, each by the Config that [`Op::chosen`] says; `prepare` then
    /// finds them. What has been compiled is not compiled again. Calls whose inputs and outputs share a buffer have pipelines of their own,
    /// which `prepare` compiles: any thread may call it.
    ///
    /// On the web one thread compiles all.
    ///
    /// On 2 cores the pipelines of the quick benchmarks (72 to 83) take, one after another, together, and from the cache on disk: 0.53, 0.33 and 0.03 s
    /// by the compiler of RADV (RDNA3), 2.2, 1.4 and 0.03 by NVK's (Ada), 2.1, 1.7 and 1.7 by SwiftShader; `benches/host.rs` measures it.
    ///
    /// # Errors
    /// The first of what `prepare` would say of the Problems and their pipelines; the others are compiled nevertheless.
    pub fn compile(&self, problems: &[&dyn Subject]) -> Result<()> {
        let shaders: Vec<Result<Vec<Shader>>> = problems.iter().map(|problem| problem.chosen_shaders(self)).collect();
        let mut known = HashSet::new();
        let mut jobs = Vec::new();
        let mut first = Ok(());
        for (problem, shaders) in problems.iter().zip(shaders) {
            match shaders {
                Err(error) => first = first.and(Err(error)),
                Ok(shaders) => {
                    let new = shaders.into_iter().map(|shader| (problem.op(), Source::of(self, shader)));
                    jobs.extend(new.filter(|(_, source)| known.insert(source.key)));
                }
            }
        }
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            let mut first = Ok(());
            while let Some((op, source)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let label = source.shader.stem();
                first = first.and(self.built(source, label).map(drop).map_err(|kind| kind.of(op)));
            }
            first
        };
        first.and(on_threads(jobs.len(), work))
    }

    /// The pipeline of this name, compiled now if it is new.
    pub(crate) fn compiled<P: Pipeline>(&self, name: &P) -> Checked<Arc<Compiled>> {
        let slot: Slot<Arc<Compiled>> = {
            let mut maps = lock(&self.inner.pipelines);
            let map = maps
                .entry(TypeId::of::<P>())
                .or_insert_with(|| Box::new(HashMap::<P, Slot<Arc<Compiled>>>::new()))
                .downcast_mut::<HashMap<P, Slot<Arc<Compiled>>>>()
                .expect("the map under a TypeId has that type");
            match map.get(name) {
                Some(slot) => slot.clone(),
                None => map.entry(name.clone()).or_default().clone(),
            }
        };
        once(
            &slot,
            |compiled| self.does(&compiled.built),
            || {
                let source = Source::of(self, name.shader());
                let label = format!("{} {name:?}", source.shader.stem());
                let built = self.built(&source, &label)?;
                Ok(Arc::new(Compiled { label, built, shader: source.shader }))
            },
        )
    }

    /// What the driver makes of a source; now if it is new.
    fn built(&self, source: &Source, label: &str) -> Checked<Built> {
        let slot = lock(&self.inner.built).entry(source.key).or_default().clone();
        once(
            &slot,
            |built| self.does(built),
            || {
                let built = self.build(source, label)?;
                if let Some(fresh) = &mut *lock(&self.inner.fresh) {
                    fresh.push(built.proven.clone());
                }
                self.inner.compiled.fetch_add(1, Ordering::Relaxed);
                Ok(built)
            },
        )
    }

    /// Whether it can be used as it is. A plan of [`later`](Self::later) compiles what nothing has answered for once more, in its own scopes.
    fn does(&self, built: &Built) -> bool {
        let own = |fresh: &Vec<_>| fresh.iter().any(|proven| Arc::ptr_eq(proven, &built.proven));
        built.proven.load(Ordering::Relaxed) || lock(&self.inner.fresh).as_ref().is_none_or(own)
    }

    fn build(&self, source: &Source, label: &str) -> Checked<Built> {
        let Source { shader, text, immediates, .. } = source;
        let immediates = *immediates;
        check_limits(shader, &self.caps())?;
        let device = &self.inner.device;
        log::debug!("compiling {label}");
        let checked = self.inner.options.checked;

        let built = guarded(device, || {
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(shader.stem()),
                source: wgpu::ShaderSource::Wgsl(text.as_str().into()),
            };
            let module = if checked {
                device.create_shader_module(descriptor)
            } else {
                // SAFETY: `prepare` proves every affine index below the end of its binding, the shaders
                // clamp every index and every loop bound that they read from a buffer, no loop is endless
                // and no divisor is zero. Tests run the same calls with all checks on and compare.
                unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
            };
            let storage = |declared: &Declared| wgpu::BindGroupLayoutEntry {
                binding: declared.binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: !declared.writable },
                    has_dynamic_offset: false,
                    min_binding_size: wgpu::BufferSize::new(declared.least_bytes),
                },
                count: None,
            };
            let mut entries: Vec<_> = shader.bindings().iter().map(storage).collect();
            if !immediates && shader.params_bytes() > 0 {
                entries.push(wgpu::BindGroupLayoutEntry {
                    binding: PARAMS_BINDING,
                    visibility: wgpu::ShaderStages::COMPUTE,
                    ty: wgpu::BindingType::Buffer {
                        ty: wgpu::BufferBindingType::Uniform,
                        has_dynamic_offset: false,
                        min_binding_size: None,
                    },
                    count: None,
                });
            }
            let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(shader.stem()),
                entries: &entries,
            });
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(shader.stem()),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: if immediates { shader.params_bytes() } else { 0 },
            });
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(label),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(shader.stem()),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    zero_initialize_workgroup_memory: checked,
                },
                cache: self.inner.cache.as_ref().map(|(cache, _)| cache),
            });
            Built { pipeline, layout, proven: Arc::new(AtomicBool::new(!cfg!(target_arch = "wasm32"))) }
        });
        built.map_err(fault)
    }

    /// Makes the scratch that Dispatches share at least so large: those that are prepared from now on have the same buffer, as long as
    /// none needs more. See [`Sequence::scratch_bytes`](crate::Sequence::scratch_bytes).
    ///
    /// # Errors
    /// More than a buffer may hold, and a lack of memory.
    pub fn reserve_scratch(&self, bytes: u64) -> Result<()> {
        self.now("scratch", || self.scratch(bytes).map(drop).map_err(|kind| kind.of("scratch")))
    }

    /// Scratch memory of at least `bytes`, shared by all dispatches.
    pub(crate) fn scratch(&self, bytes: u64) -> Checked<wgpu::Buffer> {
        let mut held = lock(&self.inner.scratch);
        if let Some(buffer) = held.as_ref().filter(|buffer| buffer.size() >= bytes) {
            return Ok(buffer.clone());
        }
        let limit = self.inner.device.limits().max_buffer_size;
        if bytes > limit {
            return Err(ErrorKind::BindingTooLarge { buffer: "scratch", need: bytes, limit });
        }
        let size = bytes.max(4096).checked_next_power_of_two().filter(|&size| size <= limit).unwrap_or(bytes);
        let buffer = guarded(&self.inner.device, || {
            self.inner.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("tileloom scratch"),
                size,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            })
        });
        match buffer {
            Err(wgpu::Error::OutOfMemory { .. }) => Err(ErrorKind::OutOfMemory { bytes: Some(size) }),
            Err(error) => Err(fault(error)),
            Ok(buffer) => {
                *held = Some(buffer.clone());
                Ok(buffer)
            }
        }
    }

    /// A buffer of these words, which no kernel writes: one for equal words, as long as it is among the last used.
    pub(crate) fn table(&self, words: &[u32]) -> Checked<wgpu::Buffer> {
        self.constant(wgpu::BufferUsages::STORAGE, words)
    }

    /// A uniform buffer of these Params: one for equal ones, as long as it is among the last used.
    pub(crate) fn uniform<P: Params>(&self, params: &P) -> Checked<wgpu::Buffer> {
        let mut words: Vec<u32> = bytemuck::pod_collect_to_vec(bytemuck::bytes_of(params));
        words.resize(P::BYTES.div_ceil(4), 0);
        self.constant(wgpu::BufferUsages::UNIFORM, &words)
    }

    fn constant(&self, usage: wgpu::BufferUsages, words: &[u32]) -> Checked<wgpu::Buffer> {
        let mut held = lock(&self.inner.constants);
        let found = held.iter().position(|(used, have, _)| *used == usage && have == words);
        let entry = match found.and_then(|at| held.remove(at)) {
            Some(entry) => entry,
            None => {
                let buffer = guarded(&self.inner.device, || {
                    // Filled while mapped: no queue is needed.
                    let buffer = self.inner.device.create_buffer(&wgpu::BufferDescriptor {
                        label: Some("tileloom constant"),
                        size: size_of_val(words) as u64,
                        usage,
                        mapped_at_creation: true,
                    });
                    if let Ok(mut view) = buffer.slice(..).get_mapped_range_mut() {
                        view.copy_from_slice(bytemuck::cast_slice(words));
                    }
                    buffer.unmap();
                    buffer
                });
                (usage, words.to_vec(), buffer.map_err(fault)?)
            }
        };
        if held.len() == CONSTANTS {
            held.pop_front();
        }
        let buffer = entry.2.clone();
        held.push_back(entry);
        Ok(buffer)
    }

    /// The words of a constant, as long as it is among the last used.
    pub(crate) fn words(&self, buffer: &wgpu::Buffer) -> Option<Vec<u32>> {
        lock(&self.inner.constants).iter().find(|(.., have)| have == buffer).map(|(_, words, _)| words.clone())
    }

    /// Runs `plan` under error scopes. On the web they would answer later than this returns: there the device's own handler hears of
    /// errors; use [`later`](Self::later).
    pub(crate) fn now<T>(&self, op: &'static str, plan: impl FnOnce() -> Result<T>) -> Result<T> {
        guarded(&self.inner.device, plan).unwrap_or_else(|error| Err(fault(error).of(op)))
    }

    /// Runs `plan` under error scopes and waits for them.
    pub(crate) async fn later<T>(&self, op: &'static str, plan: impl FnOnce() -> Result<T>) -> Result<T> {
        if cfg!(target_arch = "wasm32") {
            *lock(&self.inner.fresh) = Some(Vec::new());
        }
        let (result, errors) = scoped(&self.inner.device, plan);
        let fresh = lock(&self.inner.fresh).take();
        match errors.await {
            Some(error) => {
                // A buffer or a pipeline that was made may be none.
                lock(&self.inner.scratch).take();
                lock(&self.inner.constants).clear();
                if cfg!(target_arch = "wasm32") {
                    lock(&self.inner.pipelines).clear();
                    let proven = |slot: &Slot<Built>| {
                        lock(slot).as_ref().is_some_and(|built| built.proven.load(Ordering::Relaxed))
                    };
                    lock(&self.inner.built).retain(|_, slot| proven(slot));
                }
                Err(fault(error).of(op))
            }
            None => {
                fresh.iter().flatten().for_each(|proven| proven.store(true, Ordering::Relaxed));
                result
            }
        }
    }

    /// The first `bytes` of `buffer` (a multiple of 4), once what was submitted before has run.
    pub(crate) async fn read(&self, queue: &wgpu::Queue, buffer: &wgpu::Buffer, bytes: u64) -> Checked<Vec<u8>> {
        self.inner.poller.read(self.device(), queue, buffer, bytes).await
    }

    /// Writes wgpu's pipeline cache into [`Options::cache_dir`], so that the next process compiles
    /// less. Does nothing where there is no cache.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be written.
    pub fn save_pipeline_cache(&self) -> Result<()> {
        let Some((cache, path)) = &self.inner.cache else {
            return Ok(());
        };
        let Some(data) = cache.get_data() else {
            return Ok(());
        };
        let io = |error: std::io::Error| Error {
            op: "context",
            kind: ErrorKind::Io { path: path.display().to_string(), reason: error.to_string() },
        };
        replace(path, &data).map_err(io)
    }
}

/// Writes a file beside and moves it into place, so that a reader never sees half of it.
pub(crate) fn replace(path: &Path, data: &[u8]) -> std::io::Result<()> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let mut part = path.as_os_str().to_os_string();
    part.push(format!(".{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    let part = PathBuf::from(part);
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(&part, data)?;
    std::fs::rename(&part, path)
}

fn open_cache(device: &wgpu::Device, caps: &Caps, dir: &Path) -> Option<(wgpu::PipelineCache, PathBuf)> {
    if !caps.pipeline_cache {
        return None;
    }
    let key = wgpu::util::pipeline_cache_key(&device.adapter_info())?;
    let path = dir.join(key);
    let data = std::fs::read(&path).ok();
    // SAFETY: the data was written by `save_pipeline_cache` from `get_data` under the same key; wgpu and
    // the driver check a header and fall back to an empty cache if it is not theirs.
    let cache = guarded(device, || unsafe {
        device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
            label: Some("tileloom"),
            data: data.as_deref(),
            fallback: true,
        })
    });
    match cache {
        Ok(cache) => Some((cache, path)),
        Err(error) => {
            log::warn!("{}: no pipeline cache: {error}", caps.label());
            None
        }
    }
}

/// What a driver gets.
struct Source {
    shader: Shader,
    text: String,
    /// Params travel as immediates.
    immediates: bool,
    key: [u64; 2],
}

impl Source {
    fn of(kernels: &Kernels, shader: Shader) -> Source {
        let immediates = kernels.immediates_hold(shader.params_bytes());
        let text = shader.source(immediates);
        let text = match &kernels.inner.options.rewrite {
            Some(Rewrite(rewrite)) => rewrite(shader.stem(), text),
            None => text,
        };
        let key = [0u8, 1].map(|salt| {
            let mut hasher = DefaultHasher::new();
            (salt, &text, immediates, shader.params_bytes()).hash(&mut hasher);
            for Declared { binding, writable, least_bytes, .. } in shader.bindings() {
                (binding, writable, least_bytes).hash(&mut hasher);
            }
            hasher.finish()
        });
        Source { shader, text, immediates, key }
    }
}

/// Runs `work` on as many threads as this machine runs at once, `jobs` at most; the first error.
#[cfg(not(target_arch = "wasm32"))]
fn on_threads(jobs: usize, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(&work)).collect();
        let first = work();
        others.into_iter().fold(first, |first, other| match other.join() {
            Ok(result) => first.and(result),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// The same, by the one thread that there is.
#[cfg(target_arch = "wasm32")]
fn on_threads(_jobs: usize, work: impl Fn() -> Result<()>) -> Result<()> {
    work()
}

/// wgpu 30 checks an invocation count and sizes per dimension, but no workgroup memory.
fn check_limits(shader: &Shader, caps: &Caps) -> Checked {
    let limits = &caps.limits;
    Misfit::at_most("invocations per workgroup", shader.wg_size(), caps.most_invocations())?;
    Misfit::at_most("bytes of workgroup memory", shader.wg_bytes(), limits.max_compute_workgroup_storage_size)?;
    if shader.needs_f16() && !caps.f16 {
        let reason = format!("{} needs SHADER_F16, which the device lacks", shader.stem());
        return Err(ErrorKind::ConfigUnfit { reason });
    }
    if let (wgpu::Backend::BrowserWebGpu, Some(buffer)) = (caps.backend, shader.not_uniform()) {
        return Err(ErrorKind::NotUniform { buffer });
    }
    let limit = limits.max_storage_buffers_per_shader_stage;
    if shader.bindings().len() as u32 > limit {
        return Err(ErrorKind::TooManyBindings { names: shader.bindings().iter().map(|b| b.name).collect(), limit });
    }
    Ok(())
}

/// With `TILELOOM_PRINT_CONFIG=1`, prints each choice once.
pub(crate) fn print_choice(op: &str, problem: &dyn Debug, config: &dyn Debug) {
    static PRINTED: OnceLock<Option<Mutex<HashSet<String>>>> = OnceLock::new();
    let wanted = || std::env::var_os("TILELOOM_PRINT_CONFIG").is_some_and(|v| v == "1").then(Mutex::default);
    if let Some(printed) = PRINTED.get_or_init(wanted) {
        let line = format!("{op}: {problem:?} -> {config:?}");
        if lock(printed).insert(line.clone()) {
            eprintln!("{line}");
        }
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn kernels_cross_threads() {
        fn assert<T: Send + Sync + Clone>() {}
        assert::<Kernels>();
    }
}
