//! The one place where a described call is uploaded, run, read and judged.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::rc::Rc;

use tileloom::compose::{Shader, Slots};
use tileloom::reference::{Verdict, Worst};
pub use tileloom::verify::call::Output;
use tileloom::verify::call::{self, Loaded, inputs, judge, rules};
use tileloom::{Caps, Error, ErrorKind, Kernels, wgpu};

use crate::Gpu;
use crate::case::{Case, Expected, Fault, Reader, Shown, Tensor, float};
use crate::commands::run::Finding;
use crate::image::{Image, Number, POISON, Rows};
use crate::kernel::{
    Access, Arg, Bound, Cost, Entry, Held, List, Listed, Memory, Pick, Prepared, Ran, Replay, Rule, Run, Use, Values,
    affordable,
};
use crate::pool::Pool;

/// One call, and the name of the file that a failure leaves.
#[derive(Debug, Clone)]
pub struct Call<D> {
    pub name: String,
    call: call::Call<D>,
}

impl<D> Deref for Call<D> {
    type Target = call::Call<D>;

    fn deref(&self) -> &call::Call<D> {
        &self.call
    }
}

impl<D> DerefMut for Call<D> {
    fn deref_mut(&mut self) -> &mut call::Call<D> {
        &mut self.call
    }
}

impl<D: Listed> Call<D> {
    fn of(call: call::Call<D>) -> Call<D> {
        Call { name: "call".into(), call }
    }

    pub fn named(self, name: &str) -> Call<D> {
        Call { name: name.into(), ..self }
    }

    /// A call on random values in separate memory.
    pub fn random(problem: D, seed: u64) -> Call<D> {
        Call::of(call::Call::random(problem, seed))
    }

    /// A call on these values.
    ///
    /// # Panics
    /// If an input is missing.
    pub fn new(problem: D, values: Values) -> Call<D> {
        Call::of(call::Call::new(problem, values))
    }

    /// Other values of an input: as their view stores them, so that rows of one place are the same.
    ///
    /// # Panics
    /// If there is no such input, or if it has another length.
    pub fn with(self, name: &'static str, values: Vec<f64>) -> Call<D> {
        Call { call: self.call.with(name, values), ..self }
    }

    pub fn in_memory(self, memory: Memory) -> Call<D> {
        Call { call: self.call.in_memory(memory), ..self }
    }

    /// The same values for another Problem.
    pub fn of_problem(mut self, problem: D) -> Call<D> {
        self.problem = problem;
        self
    }

    /// The chosen Config.
    ///
    /// # Errors
    /// Those of the Problem, or that nothing fits.
    pub fn chosen(&self, caps: &Caps) -> Result<D::Config, String> {
        self.call.chosen(caps).map_err(|error| error.to_string())
    }

    /// Runs the call, with the caller's Config or the chosen one: what is written and all that lies between the views is
    /// poisoned before, and bytes outside the outputs must come back as they were.
    ///
    /// # Errors
    /// What `prepare` says, a lost device, or what spilled where.
    pub fn run(&self, gpu: &Gpu, kernels: &Kernels, config: Option<&D::Config>) -> Result<Output, String> {
        let loaded = self.load(kernels, config).map_err(|error| error.to_string())?;
        loaded.submit(&gpu.device, &gpu.queue);
        let bytes = loaded.written().map(|buffer| gpu.read(buffer)).collect::<Result<_, _>>()?;
        loaded.output(bytes)
    }

    /// Runs and judges.
    ///
    /// # Errors
    /// As [`run`](Self::run), and the verdict if anything is wrong, with the case file that reproduces it.
    pub fn check(&self, gpu: &Gpu, kernels: &Kernels, config: Option<&D::Config>) -> Result<(Output, Verdict), String> {
        let failed = |reason: String, output: Option<&Output>| {
            let config = config.copied().or_else(|| self.chosen(&kernels.caps()).ok());
            let config = config.map(|config| config.to_string()).unwrap_or_default();
            let steps = output.map_or(String::new(), |output| output.steps.join("\n  "));
            let file = self.leave(gpu, &config, output);
            format!("{reason}\n  {:?}\n  {config}\n  {steps}\n  {file}", self.problem)
        };
        let output = self.run(gpu, kernels, config).map_err(|reason| failed(reason, None))?;
        let verdict = self.judge_on(&output, gpu.flushes());
        match verdict.ok() {
            true => Ok((output, verdict)),
            false => Err(failed(verdict.to_string(), Some(&output))),
        }
    }

    /// The call as a case file.
    pub fn case(&self) -> Case {
        let case = self.problem.write(&self.values);
        match &self.memory {
            Memory::Separate => case,
            Memory::Arena => case.option("memory", "arena"),
            Memory::Shared(groups) => {
                let groups: Vec<_> = groups.iter().map(|group| group.join(" ")).collect();
                case.option("memory", groups.join("; "))
            }
        }
    }

    /// Writes the case file of a call that failed, with what the oracle expects, and says where it is.
    fn leave(&self, gpu: &Gpu, config: &str, output: Option<&Output>) -> String {
        let mut case = self.case().option("config", config);
        let args = self.problem.args();
        for (name, rule) in output.iter().flat_map(|output| self.problem.rules(&self.values, &output.values)) {
            if let (Some(arg), Some(oracle)) = (args.iter().find(|arg| arg.name == name), rule.oracle()) {
                case = case.tensor(&format!("expected.{name}"), self.problem.tensor(arg, oracle));
            }
        }
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        let clean = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
        let folder = PathBuf::from(target).join("tileloom/failed").join(clean(&gpu.slug));
        let path = folder.join(format!("{}-{}.safetensors", D::NAME, clean(&self.name)));
        let written = std::fs::create_dir_all(&folder).map_err(|error| error.to_string());
        match written.and_then(|()| case.write(&path).map_err(|fault| fault.to_string())) {
            Ok(()) => format!("replay it: loom run --check {}", path.display()),
            Err(reason) => format!("its case file was not written: {reason}"),
        }
    }
}

/// How a test of an entry ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It ran; the verdict tells whether it is right.
    Ran(Verdict),
    /// The device lacks what the entry is about.
    Skipped(String),
    /// It did not run as it was meant, or wrote where it must not.
    Failed(String),
}

/// The [`Run`] of an entry.
pub struct Item<D: Listed>(pub Entry<D>);

impl<D: Listed> Entry<D> {
    /// Its call.
    pub fn call(&self) -> Call<D> {
        let mut call = Call::random(self.problem.clone(), self.seed).named(&self.name);
        if let Some(set) = &self.set {
            let mut values = call.values.clone();
            set(&self.problem, &mut values);
            call = Call::new(self.problem.clone(), values).named(&self.name);
        }
        call.in_memory(self.memory.clone())
    }

    /// The Configs that it means to run, or what the device lacks.
    fn configs(&self, caps: &Caps) -> Result<Result<Vec<D::Config>, String>, String> {
        if let Some(lack) = (self.lack)(caps) {
            return Ok(Err(lack.into()));
        }
        let candidates = || self.problem.candidates(caps).map_err(|error| error.to_string());
        Ok(match &self.pick {
            Pick::Config(config) => match self.problem.fits(caps, config) {
                Ok(()) => Ok(vec![*config]),
                Err(Error { kind: ErrorKind::ConfigUnfit { reason }, .. }) => Err(reason),
                Err(error) => return Err(error.to_string()),
            },
            Pick::Chosen => Ok(vec![self.problem.choose(caps).map_err(|error| error.to_string())?]),
            Pick::Candidate(word) => {
                let said = |config: &D::Config| config.to_string().split_whitespace().any(|have| have == *word);
                let found = candidates()?.into_iter().find(said);
                found.map(|config| vec![config]).ok_or_else(|| format!("no candidate has {word}"))
            }
            Pick::Every => Ok(candidates()?),
        })
    }

    fn tested(&self, gpu: &Gpu, seen: &mut dyn FnMut(&Values)) -> Result<Outcome, String> {
        let configs = match self.configs(&gpu.kernels.caps())? {
            Ok(configs) => configs,
            Err(lack) => return Ok(Outcome::Skipped(lack)),
        };
        let (call, mut all) = (self.call(), Verdict::default());
        for config in &configs {
            let (output, verdict) = call.check(gpu, &gpu.kernels, Some(config))?;
            all.merge(verdict);
            seen(&output.values);
            let said = |word: &&str| output.steps.is_empty() || output.steps.iter().any(|step| step.contains(word));
            let meant = config.to_string();
            // Values of the Config, of which some are parameters of one pipeline.
            let named = |word: &&str| word.split_once('=').is_some_and(|(key, _)| !D::RUNTIME.contains(&key));
            let words = meant.split_whitespace().filter(named).chain(self.says.iter().copied());
            if let Some(word) = words.into_iter().find(|word| !said(word)) {
                return Err(format!("meant to run {word}, ran {:?}", output.steps));
            }
            self.within.map_or(Ok(()), |distance| within(&call, &output, distance))?;
            if self.twice {
                same_bits(&output.values, &call.run(gpu, &gpu.kernels, Some(config))?.values)?;
            }
            if self.checked {
                let (checked, _) = call.check(gpu, gpu.checked(), Some(config))?;
                if gpu.is_software() {
                    let told = |reason| format!("checked modules, {config}: {reason}");
                    same_bits(&output.values, &checked.values).map_err(told)?;
                }
            }
        }
        Ok(Outcome::Ran(all))
    }
}

/// # Errors
/// What is further from the oracle.
fn within<D: Listed>(call: &Call<D>, output: &Output, distance: f64) -> Result<(), String> {
    for (name, rule) in call.problem.rules(&call.values, &output.values) {
        let out = &output.values[name];
        if let Some(i) = rule.beyond(out, distance).map_err(|reason| format!("{name}: {reason}"))? {
            let exact = rule.oracle().map(|oracle| oracle[i]);
            return Err(format!("{name} at {i} is {}, not within {distance} of {exact:?}", out[i]));
        }
    }
    Ok(())
}

/// # Errors
/// Where they differ.
pub fn same_bits(a: &Values, b: &Values) -> Result<(), String> {
    for (name, a) in a {
        let differs = |(a, b): (&f64, &f64)| a.to_bits() != b.to_bits();
        if let Some(i) = a.iter().zip(&b[name]).position(differs) {
            return Err(format!("bits of {name} differ at {i}: {} and {}", a[i], b[name][i]));
        }
    }
    Ok(())
}

impl<D: Listed> Run for Item<D> {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn what(&self) -> Use {
        self.0.what
    }

    fn problem(&self) -> String {
        format!("{:?}", self.0.problem)
    }

    fn cost(&self) -> Cost {
        let cost = self.0.problem.cost();
        Cost { flops: self.0.sees * cost.flops, ..cost }
    }

    fn args(&self) -> Vec<Arg> {
        self.0.problem.args()
    }

    fn candidates(&self, caps: &Caps) -> Result<Vec<String>, String> {
        let candidates = self.0.problem.candidates(caps).map_err(|error| error.to_string())?;
        Ok(candidates.iter().map(D::Config::to_string).collect())
    }

    fn lack(&self, caps: &Caps) -> Result<Option<String>, String> {
        Ok(self.0.configs(caps)?.err())
    }

    fn shaders_of(&self, caps: &Caps, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Vec<(String, Shader)>, String> {
        let problem = &self.0.problem;
        let mut configs = problem.candidates(caps).map_err(|error| error.to_string())?;
        for config in &configs {
            problem.fits(caps, config).map_err(|error| error.to_string())?;
            let text = config.to_string();
            let again = text.parse::<D::Config>()?.to_string();
            if again != text {
                return Err(format!("`{text}` is parsed as `{again}`"));
            }
        }
        if let (Pick::Config(_), Ok(meant)) = (&self.0.pick, self.0.configs(caps)?) {
            configs.retain(|_| !self.0.alone);
            configs.extend(meant);
        }
        configs.retain(|config| wanted(&config.to_string()));
        let mut all = Vec::new();
        for (config, writable) in configs.iter().flat_map(|config| [(config, Slots::NONE), (config, Slots::ALL)]) {
            let shaders = problem.shaders(config, writable).map_err(|error| error.to_string())?;
            all.extend(shaders.into_iter().map(|shader| (config.to_string(), shader)));
        }
        Ok(all)
    }

    fn meant(&self, caps: &Caps) -> Result<Vec<(String, Shader)>, String> {
        let mut all = Vec::new();
        for config in self.0.configs(caps)?.unwrap_or_default() {
            let shaders = self.0.problem.shaders(&config, Slots::NONE).map_err(|error| error.to_string())?;
            all.extend(shaders.into_iter().map(|shader| (config.to_string(), shader)));
        }
        Ok(all)
    }

    fn outputs(&self, gpu: &Gpu) -> Result<Vec<Vec<f64>>, String> {
        let (call, mut all) = (self.0.call(), Vec::new());
        for config in self.0.configs(&gpu.kernels.caps())?.unwrap_or_default() {
            all.extend(call.run(gpu, &gpu.kernels, Some(&config))?.values.into_values());
        }
        Ok(all)
    }

    fn chosen(&self, caps: &Caps) -> Result<(String, Vec<Shader>), String> {
        let problem = &self.0.problem;
        let config = problem.choose(caps).map_err(|error| error.to_string())?;
        let shaders = problem.shaders(&config, Slots::NONE).map_err(|error| error.to_string())?;
        Ok((config.to_string(), shaders))
    }

    fn subject(&self) -> &dyn tileloom::verify::Subject {
        &self.0.problem
    }

    fn test_with(&self, gpu: &Gpu, seen: &mut dyn FnMut(&Values)) -> Outcome {
        self.0.tested(gpu, seen).unwrap_or_else(Outcome::Failed)
    }

    fn load(&self, kernels: &Kernels) -> Result<Result<Vec<Held>, String>, String> {
        let configs = match self.0.configs(&kernels.caps())? {
            Ok(configs) => configs,
            Err(lack) => return Ok(Err(lack)),
        };
        let mut all = Vec::new();
        for config in configs {
            let call = self.0.call();
            let loaded = match call.load(kernels, Some(&config)) {
                Ok(loaded) => loaded,
                Err(error) if refused_in_browsers(&error, &self.0.memory) => return Ok(Err(error.to_string())),
                Err(error) => return Err(error.to_string()),
            };
            let distance = self.0.within;
            let judge = Box::new(move |loaded: &Loaded, bytes, flushes| {
                let output = loaded.output(bytes)?;
                distance.map_or(Ok(()), |distance| within(&call, &output, distance))?;
                Ok(call.judge_on(&output, flushes))
            });
            all.push(Held { config: config.to_string(), loaded, judge });
        }
        Ok(Ok(all))
    }

    fn case(&self) -> Case {
        self.0.call().case()
    }

    fn prepare(&self, gpu: &Gpu, pool: &Pool, sets: usize, config: Option<&str>) -> Result<Prepared, String> {
        let config = match config {
            Some(text) => text.parse()?,
            None => self.0.problem.chosen(&gpu.kernels).map_err(|error| error.to_string())?,
        };
        self.0.loaded(gpu, pool, sets)?.by(gpu, &config)
    }

    fn prepare_each(
        &self,
        gpu: &Gpu,
        pool: &Pool,
        sets: usize,
        configs: &[&str],
        before: &mut dyn FnMut(&str),
    ) -> Result<Vec<Result<Prepared, String>>, String> {
        let loaded = self.0.loaded(gpu, pool, sets)?;
        let prepared = configs.iter().map(|text| {
            before(text);
            loaded.by(gpu, &text.parse()?)
        });
        Ok(prepared.collect())
    }
}

/// The input sets of a benchmark in GPU memory.
struct Sets<D> {
    problem: D,
    all: Vec<Vec<(Arg, wgpu::Buffer)>>,
    /// What is updated, as the first dispatch finds it.
    kept: Rc<Values>,
}

/// The bytes of a binding that holds contiguous values by this view.
fn laid(view: &Rows, values: &[f64]) -> Vec<u8> {
    if view.is_dense() {
        return view.number.encode(values);
    }
    let mut image = Image { bytes: vec![POISON; view.bytes()] };
    image.scatter(0, view, values);
    image.bytes
}

/// The contiguous values of this view of a binding.
fn found(view: &Rows, bytes: Vec<u8>) -> Vec<f64> {
    if !view.is_dense() {
        return Image { bytes }.gather(0, view);
    }
    let mut values = view.number.decode(&bytes);
    values.truncate(view.len());
    values
}

impl<D: Listed> Entry<D> {
    fn loaded(&self, gpu: &Gpu, pool: &Pool, sets: usize) -> Result<Sets<D>, String> {
        let problem = self.problem.clone();
        let args = problem.args();
        let (mut kept, mut all) = (Values::new(), Vec::<Vec<(Arg, wgpu::Buffer)>>::new());
        for set in 0..sets {
            let (mut filled, mut buffers) = (Values::new(), Vec::new());
            for (i, arg) in args.iter().enumerate() {
                if set > 0 && D::shared().contains(&arg.name) {
                    buffers.push((*arg, all[0][i].1.clone()));
                    continue;
                }
                let (len, seed) = (arg.view.len(), set * args.len() + i);
                let mut bytes = match (arg.access, arg.view.number) {
                    (Access::Write, _) => vec![POISON; arg.view.bytes()],
                    (_, Number::F(dtype)) if len > LARGE && !D::follows() && arg.view.is_dense() => {
                        pool.bytes(dtype, len, seed)
                    }
                    (_, Number::F(dtype)) if len > LARGE && !D::follows() => {
                        laid(&arg.view, &pool.values(dtype, len, seed))
                    }
                    _ => {
                        filled.insert(arg.name, problem.fill(arg.name, len, &filled, &mut pool.random(seed)));
                        if let Some(set) = &self.set {
                            set(&problem, &mut filled);
                        }
                        laid(&arg.view, &filled[arg.name])
                    }
                };
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                if set == 0 && arg.access == Access::Update {
                    kept.insert(arg.name, found(&arg.view, bytes.clone()));
                }
                buffers.push((*arg, gpu.buffer(&bytes)));
            }
            all.push(buffers);
        }
        Ok(Sets { problem, all, kept: Rc::new(kept) })
    }
}

impl<D: Listed> Sets<D> {
    /// A dispatch on each of them.
    fn by(&self, gpu: &Gpu, config: &D::Config) -> Result<Prepared, String> {
        let prepare = |buffers: &Vec<(Arg, wgpu::Buffer)>| {
            let bound = Bound(buffers.iter().map(|(arg, buffer)| (arg.name, buffer.into())).collect());
            let dispatch = self.problem.prepare_with(&gpu.kernels, config, self.problem.buffers(&bound));
            dispatch.map_err(|error| error.to_string())
        };
        let dispatches = self.all.iter().map(prepare).collect::<Result<_, _>>()?;
        let (problem, first, kept) = (self.problem.clone(), self.all[0].clone(), self.kept.clone());
        let check = move |gpu: &Gpu, outputs: Option<Values>, widen: (f64, f64)| -> Result<Verdict, String> {
            let (mut values, mut written) = ((*kept).clone(), Values::new());
            for (arg, buffer) in &first {
                if arg.access == Access::Read || outputs.is_none() {
                    let read = found(&arg.view, gpu.read(buffer)?);
                    let to = if arg.access == Access::Read { &mut values } else { &mut written };
                    to.insert(arg.name, read);
                }
            }
            let mut verdict = Verdict::default();
            for (problem, values, outputs) in problem.parts(values, outputs.unwrap_or(written)) {
                verdict.merge(judge(&problem, &values, &outputs, widen, gpu.flushes()));
            }
            Ok(verdict)
        };
        let scratch_bytes = self.problem.scratch_bytes(config).map_err(|error| error.to_string())?;
        let (config, sets) = (config.to_string(), self.all.clone());
        Ok(Prepared { dispatches, config, scratch_bytes, sets, check: Box::new(check) })
    }
}

/// What only browsers refuse: bytes of one buffer that are bound twice and written, and barriers in loops whose bounds may be written.
fn refused_in_browsers(error: &Error, memory: &Memory) -> bool {
    match error.kind {
        ErrorKind::NotUniform { .. } => true,
        ErrorKind::Aliased { .. } => !matches!(memory, Memory::Separate),
        _ => false,
    }
}

/// A benchmark of a Problem that no list has.
pub fn bench<D: Listed>(shape: &str, problem: D) -> Box<dyn Run> {
    let mut list = List(Vec::new());
    list.bench(shape, problem);
    Box::new(Item(list.0.remove(0)))
}

/// Inputs of a benchmark that are longer than this come from the pool.
const LARGE: usize = 1 << 16;

/// The [`Replay`] of a case file.
pub struct Replayed<D> {
    call: Call<D>,
    config: Option<String>,
    expected: Expected,
    outputs: Vec<Shown>,
    known: Values,
}

impl<D: Listed> Replayed<D> {
    /// # Errors
    /// What is wrong with the case.
    pub fn of(case: &Case) -> Result<Replayed<D>, Fault> {
        let mut reader = Reader::new(case);
        let mut given = D::read(&mut reader)?;
        let args = given.problem.args();
        affordable(&reader, &args)?;
        for arg in inputs(&args) {
            let (have, need) = (given.values.entry(arg.name).or_default().len(), arg.view.len());
            if have != need {
                return Err(Fault::BadCount { name: arg.name, have, need });
            }
        }
        let memory = memory(&mut reader, &args)?;
        let config = reader.option::<Option<String>>("config", None)?;
        let shapes: Vec<_> = given.outputs.iter().map(|shown| (shown.name, shown.shape.clone())).collect();
        let expected = reader.finish(&shapes)?;
        for (name, tensor) in &expected.tensors {
            if args.iter().any(|arg| arg.name == *name && matches!(arg.view.number, Number::F(_))) {
                float(&format!("expected.{name}"), tensor)?;
            }
        }
        let call = Call::new(given.problem, given.values).in_memory(memory);
        Ok(Replayed { call, config, expected, outputs: given.outputs, known: given.known })
    }

    fn view(&self, name: &str) -> Option<Rows> {
        self.call.problem.args().into_iter().find(|arg| arg.name == name).map(|arg| arg.view)
    }
}

/// Metadata `memory`: `arena`, or groups of names, as in `x y; k k_y`.
fn memory(reader: &mut Reader, args: &[Arg]) -> Result<Memory, Fault> {
    let text = reader.option("memory", String::new())?;
    if text.is_empty() || text == "arena" {
        return Ok(if text.is_empty() { Memory::Separate } else { Memory::Arena });
    }
    let name = |word: &str| args.iter().find(|arg| arg.name == word).map(|arg| arg.name);
    let group = |group: &str| group.split_whitespace().map(name).collect::<Option<Vec<_>>>();
    let groups = text.split(';').map(group).collect::<Option<Vec<_>>>();
    groups.map(Memory::Shared).ok_or_else(|| {
        let names: Vec<_> = args.iter().map(|arg| arg.name).collect();
        Fault::BadOption { name: "memory", value: text, expected: format!("arena, or groups of {}", names.join(" ")) }
    })
}

impl<D: Listed> Replay for Replayed<D> {
    fn case(&self) -> Case {
        self.call.case()
    }

    fn expected(&self) -> &Expected {
        &self.expected
    }

    fn outputs(&self) -> Vec<&'static str> {
        self.outputs.iter().map(|shown| shown.name).collect()
    }

    fn run(&self, gpu: &Gpu) -> Result<Ran, String> {
        let output = match self.known.is_empty() {
            false => Output { values: self.known.clone(), steps: vec!["nothing to compute".into()] },
            true => {
                let config = self.config.as_ref();
                let config = config.map(|text| text.parse()).transpose()?;
                self.call.run(gpu, &gpu.kernels, config.as_ref())?
            }
        };
        let tensor = |shown: &Shown| {
            let values = output.values.get(shown.name).cloned().unwrap_or_default();
            let view = self.view(shown.name);
            let values = view.filter(|_| shown.swapped).map_or(values.clone(), |view| view.swapped(false, &values));
            let number = view.map_or(Number::F(tileloom::Dtype::F32), |view| view.number);
            (shown.name, Tensor::numbers_of(number, &shown.shape, &values))
        };
        let tensors = self.outputs.iter().map(tensor).collect();
        Ok(Ran { tensors, config: output.steps.join("; "), flushes: gpu.flushes() })
    }

    fn judge(&self, ran: &Ran) -> Vec<Finding> {
        let numbers = |shown: &Shown, tensor: &Tensor| {
            let values = tensor.numbers().expect("outputs and what is expected of them are of known dtypes");
            let view = self.view(shown.name).filter(|_| shown.swapped);
            view.map_or(values.clone(), |view| view.swapped(true, &values))
        };
        let shown = |name: &str| self.outputs.iter().find(|shown| shown.name == name);
        let all = |(name, tensor): (&&'static str, &Tensor)| Some((*name, numbers(shown(name)?, tensor)));
        let out: Values = ran.tensors.iter().filter_map(|(name, tensor)| all((name, tensor))).collect();
        let expected: Values = self.expected.tensors.iter().filter_map(all).collect();
        let given = out.clone().into_iter().chain(expected.clone()).collect();
        let mut findings = Vec::new();
        let mut rules = match self.known.is_empty() {
            true => rules(&self.call.problem, &self.call.values, &given, ran.flushes),
            false => self.known.iter().map(|(name, values)| (*name, Rule::Exact(values.clone()), Vec::new())).collect(),
        };
        rules.sort_by_key(|(name, ..)| self.outputs.iter().position(|shown| shown.name == *name));
        for (name, rule, slack) in rules {
            if let (Some(shown), Some(target)) = (shown(name), expected.get(name)) {
                let mut verdict = rule.judge(&out[name], Some(target), self.expected.widen, &slack);
                if let (true, Some(view), Some(Worst { index, .. })) =
                    (shown.swapped, self.view(name), verdict.worst.as_mut())
                {
                    *index = view.swapped_index(*index);
                }
                let unjudged = target.iter().filter(|v| v.is_nan()).count();
                findings.push(Finding { output: name, shape: shown.shape.clone(), verdict, unjudged });
            }
        }
        findings
    }
}
