//! A described call: its arguments, uploaded, run, read and judged.

use std::collections::BTreeMap;

use super::flush::Flushes;
use super::image::{Image, Number, Rows};
use super::random::Random;
pub use super::rule::{Rule, exact};
use crate::reference::Verdict;
use crate::{Binding, Caps, Dispatch, Error, Kernels, Op};

/// Numbers by the name of the argument, contiguous in the order of its view.
pub type Values = BTreeMap<&'static str, Vec<f64>>;

/// What a kernel does with an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    /// Read, then written.
    Update,
}

/// One argument of a call: its name and where its numbers lie in their binding.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    pub name: &'static str,
    pub view: Rows,
    pub access: Access,
}

impl Arg {
    pub fn read(name: &'static str, view: Rows) -> Arg {
        Arg { name, view, access: Access::Read }
    }

    pub fn write(name: &'static str, view: Rows) -> Arg {
        Arg { name, view, access: Access::Write }
    }

    pub fn update(name: &'static str, view: Rows) -> Arg {
        Arg { name, view, access: Access::Update }
    }
}

/// Where the arguments lie relative to each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Memory {
    /// A buffer for each.
    #[default]
    Separate,
    /// The arguments of each group share a buffer and the start of their bindings: in place by equal layouts, side by
    /// side by others.
    Shared(Vec<Vec<&'static str>>),
    /// One buffer for all, in bindings of their own.
    Arena,
}

impl Memory {
    pub fn shared(groups: &[&[&'static str]]) -> Memory {
        Memory::Shared(groups.iter().map(|group| group.to_vec()).collect())
    }
}

/// The bindings of a call, by name; `scratch` is there where the Config asks for it.
pub struct Bound<'a>(pub Vec<(&'static str, Binding<'a>)>);

/// Gives Buffers one more binding.
pub type Setter<'a, B> = fn(B, Binding<'a>) -> B;

impl<'a> Bound<'a> {
    pub fn find(&self, name: &str) -> Option<Binding<'a>> {
        self.0.iter().find(|(have, _)| *have == name).map(|(_, binding)| *binding)
    }

    /// # Panics
    /// If the description has no argument of this name.
    pub fn get(&self, name: &str) -> Binding<'a> {
        self.find(name).unwrap_or_else(|| panic!("there is no argument `{name}`"))
    }

    /// `buffers` with what is bound of these arguments, each with its setter.
    pub fn with<B, const N: usize>(&self, buffers: B, setters: [(&str, Setter<'a, B>); N]) -> B {
        setters.into_iter().fold(buffers, |buffers, (name, set)| match self.find(name) {
            Some(binding) => set(buffers, binding),
            None => buffers,
        })
    }
}

/// How a call of an op is made and judged: implemented for its Problem.
pub trait Describe: Op + Send + Sync + 'static {
    /// The arguments, inputs first, in an order in which random values of one may follow from those before.
    fn args(&self) -> Vec<Arg>;

    /// Random values of an input that hide nothing, of which `len` are wanted; they are rounded as stored.
    fn fill(&self, _name: &str, len: usize, _before: &Values, random: &mut Random) -> Vec<f64> {
        random.outliers(len)
    }

    /// Names to Buffers.
    fn buffers<'a>(&self, bound: &Bound<'a>) -> Self::Buffers<'a>;

    /// The Problem with 0 for its subnormal parameters, if it has any.
    fn flushed(&self) -> Option<Self> {
        None
    }

    /// By what each output is judged, those first on which others depend: `given` is what the kernel, or a case file,
    /// says of the outputs.
    fn rules(&self, values: &Values, given: &Values) -> Vec<(&'static str, Rule)>;

    /// Problems of other ops that this one is built on, by whatever Config these take.
    fn inner(&self) -> Vec<Box<dyn super::Subject>> {
        Vec::new()
    }

    /// Small calls of Problems like this one, for which `config` runs the same shaders: what comes out of them tells
    /// whether it is right here.
    fn telling(&self, config: &Self::Config) -> Vec<Telling<Self>>;
}

/// A small call: random values of this seed, then those that are set by hand.
pub struct Telling<P> {
    pub problem: P,
    pub seed: u64,
    pub set: Option<fn(&P, &mut Values)>,
}

impl<P> Telling<P> {
    pub fn new(problem: P, seed: u64) -> Telling<P> {
        Telling { problem, seed, set: None }
    }

    pub fn set(self, set: fn(&P, &mut Values)) -> Telling<P> {
        Telling { set: Some(set), ..self }
    }
}

/// One call: a Problem, and what its arguments hold.
#[derive(Debug, Clone)]
pub struct Call<D> {
    pub problem: D,
    /// As stored.
    pub values: Values,
    pub memory: Memory,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub values: Values,
    /// What ran: shader and Config per step.
    pub steps: Vec<String>,
}

impl<D: Describe> Call<D> {
    /// A call on random values in separate memory.
    pub fn random(problem: D, seed: u64) -> Call<D> {
        let mut call = Call { problem, values: Values::new(), memory: Memory::Separate };
        for (i, arg) in inputs(&call.problem.args()).enumerate() {
            let mut random = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(i as u64));
            let values = call.problem.fill(arg.name, arg.view.len(), &call.values, &mut random);
            call = call.with(arg.name, values);
        }
        call
    }

    /// A call on these values.
    ///
    /// # Panics
    /// If an input is missing.
    pub fn new(problem: D, mut values: Values) -> Call<D> {
        let call = Call { problem, values: Values::new(), memory: Memory::Separate };
        let take = |call: Call<D>, arg: &Arg| {
            let values = values.remove(arg.name).unwrap_or_else(|| panic!("`{}` has no values", arg.name));
            call.with(arg.name, values)
        };
        inputs(&call.problem.args()).fold(call, take)
    }

    /// Other values of an input: as their view stores them, so that rows of one place are the same.
    ///
    /// # Panics
    /// If there is no such input, or if it has another length.
    pub fn with(mut self, name: &'static str, values: Vec<f64>) -> Call<D> {
        let args = self.problem.args();
        let arg = inputs(&args).find(|arg| arg.name == name).unwrap_or_else(|| panic!("there is no input `{name}`"));
        assert_eq!(values.len(), arg.view.len(), "values of `{name}`");
        let (mut image, at) = Image::with_room([arg.view.bytes()]);
        image.scatter(at[0], &arg.view, &values);
        self.values.insert(name, image.gather(at[0], &arg.view));
        self
    }

    pub fn in_memory(mut self, memory: Memory) -> Call<D> {
        self.memory = memory;
        self
    }

    /// The chosen Config.
    ///
    /// # Errors
    /// Those of the Problem, or that nothing fits.
    pub fn chosen(&self, caps: &Caps) -> Result<D::Config, Error> {
        self.problem.choose(caps)
    }

    /// The call in GPU memory, with the caller's Config or the chosen one.
    ///
    /// # Errors
    /// What `prepare` says.
    pub fn load(&self, kernels: &Kernels, config: Option<&D::Config>) -> Result<Loaded, Error> {
        let config = config.map_or_else(|| self.chosen(&kernels.caps()), |config| Ok(*config))?;
        let mut args = self.problem.args();
        let scratch = self.problem.scratch_bytes(&config)? as usize;
        if scratch > 0 {
            args.push(Arg::write(SCRATCH, Rows::flat(0, scratch, Number::U8)));
        }
        let upload = Upload::new(kernels.device(), args, &self.values, &self.memory);
        let dispatch = self.problem.prepare_with(kernels, &config, self.problem.buffers(&upload.bound()))?;
        Ok(Loaded { upload, dispatch })
    }

    /// Holds an output against the oracle.
    pub fn judge(&self, output: &Output) -> Verdict {
        self.judge_on(output, Flushes::default())
    }

    /// The same of an adapter that flushes, which is allowed for.
    pub fn judge_on(&self, output: &Output, flushes: Flushes) -> Verdict {
        judge(&self.problem, &self.values, &output.values, (0.0, 0.0), flushes)
    }
}

/// A call in GPU memory, ready to run, as often as need be.
pub struct Loaded {
    upload: Upload,
    dispatch: Dispatch,
}

impl Loaded {
    /// Writes inputs and poison, then runs.
    pub fn submit(&self, device: &wgpu::Device, queue: &wgpu::Queue) {
        for (buffer, image) in &self.upload.buffers {
            queue.write_buffer(buffer, 0, &image.bytes);
        }
        let mut encoder = device.create_command_encoder(&Default::default());
        self.dispatch.record(&mut encoder);
        queue.submit([encoder.finish()]);
    }

    /// What is recorded.
    pub fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }

    /// All buffers of the arguments, with what they hold before.
    pub fn buffers(&self) -> impl Iterator<Item = (&wgpu::Buffer, &[u8])> {
        self.upload.buffers.iter().map(|(buffer, image)| (buffer, &image.bytes[..]))
    }

    /// The buffers that it writes.
    pub fn written(&self) -> impl Iterator<Item = &wgpu::Buffer> {
        self.upload.written().map(|(_, (buffer, _))| buffer)
    }

    /// What it gave, of the bytes of what it has [written](Self::written).
    ///
    /// # Errors
    /// What was written where nothing may be.
    pub fn output(&self, bytes: Vec<Vec<u8>>) -> Result<Output, String> {
        let steps = self.dispatch.steps().map(|(label, grid)| format!("{label} on {grid:?}")).collect();
        Ok(Output { values: self.upload.gather(bytes)?, steps })
    }
}

/// The rules of a call, and what an adapter that flushes adds to the bounds of each.
pub fn rules<D: Describe>(
    problem: &D,
    values: &Values,
    given: &Values,
    flushes: Flushes,
) -> Vec<(&'static str, Rule, Vec<f64>)> {
    let rules = problem.rules(values, given);
    if flushes == Flushes::default() {
        return rules.into_iter().map(|(name, rule)| (name, rule, Vec::new())).collect();
    }
    let (mut flushed, mut same) = (values.clone(), true);
    for arg in inputs(&problem.args()) {
        for value in flushed.get_mut(arg.name).into_iter().flatten() {
            let before = std::mem::replace(value, flushes.value(arg.view.number, *value));
            same &= value.to_bits() == before.to_bits();
        }
    }
    let other = problem.flushed().filter(|_| flushes.f32);
    // Most calls have nothing to flush: then the oracle is the same.
    let others = (!same || other.is_some()).then(|| other.as_ref().unwrap_or(problem).rules(&flushed, given));
    let slack = |i: usize, rule: &Rule| rule.slack(others.as_ref().map_or(rule, |others| &others[i].1), flushes);
    let with = |(i, (name, rule))| {
        let slack = slack(i, &rule);
        (name, rule, slack)
    };
    rules.into_iter().enumerate().map(with).collect()
}

/// The verdict on all outputs of a call.
pub fn judge<D: Describe>(
    problem: &D,
    values: &Values,
    outputs: &Values,
    widen: (f64, f64),
    flushes: Flushes,
) -> Verdict {
    let mut verdict = Verdict::default();
    for (name, rule, slack) in rules(problem, values, outputs, flushes) {
        verdict.merge(rule.judge(&outputs[name], None, widen, &slack));
    }
    verdict
}

pub fn inputs(args: &[Arg]) -> impl Iterator<Item = &Arg> {
    args.iter().filter(|arg| arg.access != Access::Write)
}

/// The name of scratch among the arguments.
const SCRATCH: &str = "scratch";

/// The arguments of a call in GPU memory.
struct Upload {
    /// With the buffer, and the byte at which its binding starts.
    args: Vec<(Arg, usize, usize)>,
    buffers: Vec<(wgpu::Buffer, Image)>,
}

impl Upload {
    fn new(device: &wgpu::Device, args: Vec<Arg>, values: &Values, memory: &Memory) -> Upload {
        // Arguments that share a binding's start, by their numbers.
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (i, arg) in args.iter().enumerate() {
            let shares = |group: &Vec<usize>| match memory {
                Memory::Shared(names) => {
                    names.iter().any(|names| names.contains(&args[group[0]].name) && names.contains(&arg.name))
                }
                _ => false,
            };
            match groups.iter_mut().find(|group| shares(group)) {
                Some(group) => group.push(i),
                None => groups.push(vec![i]),
            }
        }
        let room = |group: &Vec<usize>| group.iter().map(|&i| args[i].view.bytes()).max().unwrap_or(0);
        let buffers: Vec<&[Vec<usize>]> = match memory {
            Memory::Arena => vec![&groups],
            _ => groups.chunks(1).collect(),
        };
        let mut upload = Upload { args: Vec::new(), buffers: Vec::new() };
        for groups in buffers {
            let (mut image, starts) = Image::with_room(groups.iter().map(room));
            for (group, &start) in groups.iter().zip(&starts) {
                for &i in group {
                    if let (true, Some(values)) = (args[i].access != Access::Write, values.get(args[i].name)) {
                        image.scatter(start, &args[i].view, values);
                    }
                    upload.args.push((args[i], upload.buffers.len(), start));
                }
            }
            let buffer = device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("tileloom verify"),
                size: image.bytes.len() as u64,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            upload.buffers.push((buffer, image));
        }
        upload
    }

    fn bound(&self) -> Bound<'_> {
        let binding = |&(arg, buffer, start): &(Arg, usize, usize)| {
            let binding = wgpu::BufferBinding { buffer: &self.buffers[buffer].0, offset: start as u64, size: None };
            (arg.name, binding.into())
        };
        Bound(self.args.iter().map(binding).collect())
    }

    /// The buffers that are written.
    fn written(&self) -> impl Iterator<Item = (usize, &(wgpu::Buffer, Image))> {
        let own = |i: usize| self.args.iter().any(|(arg, buffer, _)| *buffer == i && arg.access != Access::Read);
        self.buffers.iter().enumerate().filter(move |(i, _)| own(*i))
    }

    /// The outputs, of the bytes of what is written.
    fn gather(&self, bytes: Vec<Vec<u8>>) -> Result<Values, String> {
        let mut values = Values::new();
        for ((i, (_, before)), bytes) in self.written().zip(bytes) {
            let own = self.args.iter().filter(|(arg, buffer, _)| *buffer == i && arg.access != Access::Read);
            let after = Image { bytes };
            let views: Vec<_> = own.clone().map(|(arg, _, start)| (*start, arg.view)).collect();
            if let Some(byte) = after.spilled(before, &views) {
                let names: Vec<_> = own.map(|(arg, ..)| arg.name).collect();
                let byte = byte as i64 - views[0].0 as i64;
                return Err(format!("byte {byte} outside {} was written", names.join(", ")));
            }
            // What lies in scratch is nobody's.
            let outputs = own.filter(|(arg, ..)| arg.name != SCRATCH);
            values.extend(outputs.map(|(arg, _, start)| (arg.name, after.gather(*start, &arg.view))));
        }
        Ok(values)
    }
}
