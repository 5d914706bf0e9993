//! A kernel, described once: its arguments, its oracle, and the Problems of interest, which `loom check`, `loom bench`,
//! the kernel tests and the composition tests all go through.

use std::marker::PhantomData;

use tileloom::reference::Verdict;
pub use tileloom::verify::Describe;
use tileloom::verify::call::Loaded;
pub use tileloom::verify::call::{Access, Arg, Bound, Memory, Rule, Setter, Values, exact};
use tileloom::{Caps, Dispatch, Kernels, Op, wgpu};

use crate::Gpu;
use crate::case::{Case, Expected, Fault, Options, Reader, Shown, Tensor};
use crate::flush::Flushes;
use crate::harness::{Call, Item, Outcome, Replayed};
use crate::pool::Pool;
use crate::random::Random;

/// Whether no argument of a case takes more than a case may ask for: told before anything of that size is made.
///
/// # Errors
/// The argument that does.
pub fn affordable(reader: &Reader, args: &[Arg]) -> Result<(), Fault> {
    let most = reader.most_bytes();
    let need = |arg: &Arg| {
        let bits = (arg.view.len() as u64).saturating_mul(arg.view.number.bits() as u64);
        (arg.view.bytes() as u64).max(bits / 8)
    };
    match args.iter().find(|arg| need(arg) > most) {
        Some(arg) => Err(Fault::TooLarge { name: arg.name, need: need(arg), most }),
        None => Ok(()),
    }
}

/// How much of the list a run of the tests goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// What every driver must see, and `loom check` runs.
    Narrow,
    /// That, and what one driver is enough for.
    Wide,
    /// The full product.
    Full,
}

/// What an entry of the list is for. All are composed without a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Run and judged.
    Test(Depth),
    /// Measured; the quick ones by `loom bench --quick`, too.
    Bench { quick: bool },
    /// A layer of a model; measured by `loom bench --suite models`.
    Model,
    /// One of a row of sizes; measured by `loom bench --suite sweep`.
    Sweep,
    /// Computed beside others in a browser.
    Beside,
    /// Of a size for large GPUs: what is chosen there is compiled by `loom isa`.
    Large,
    /// Nothing else.
    Compose,
}

/// Which Configs an entry means to run.
#[derive(Debug, Clone, PartialEq)]
pub enum Pick<C> {
    /// The one that is chosen.
    Chosen,
    /// This one; where the device cannot run it, the entry is skipped.
    Config(C),
    /// The best candidate whose text has this word, as in `algorithm=vector`; where there is none, the entry is skipped.
    Candidate(&'static str),
    /// All candidates.
    Every,
}

/// Sets values by hand, after the random ones.
pub type Set<P> = Box<dyn Fn(&P, &mut Values) + Send + Sync>;

/// A Problem of interest.
pub struct Entry<P: Op> {
    /// Entries of one name are one test.
    pub name: String,
    pub what: Use,
    pub problem: P,
    pub memory: Memory,
    pub seed: u64,
    pub pick: Pick<P::Config>,
    /// What the steps must say besides their Config, each at least one of them.
    pub says: Vec<&'static str>,
    /// What the device lacks for it.
    pub lack: fn(&Caps) -> Option<&'static str>,
    /// No output is further from the oracle, rounded to its dtype, than this share of it or of 1, whatever the rule allows.
    pub within: Option<f64>,
    /// Run again, with equal bits.
    pub twice: bool,
    /// Run again with all of wgpu's runtime checks, with equal bits on a software device.
    pub checked: bool,
    pub set: Option<Set<P>>,
    /// Composed with the Config that it means, without the candidates.
    pub alone: bool,
    /// The share of the operations of its cost that its values leave: of segments, those within one.
    pub sees: f64,
}

impl<P: Op> Entry<P> {
    pub fn memory(&mut self, groups: &[&[&'static str]]) -> &mut Self {
        self.memory = Memory::shared(groups);
        self
    }

    pub fn arena(&mut self) -> &mut Self {
        self.memory = Memory::Arena;
        self
    }

    pub fn seed(&mut self, seed: u64) -> &mut Self {
        self.seed = seed;
        self
    }

    pub fn config(&mut self, config: P::Config) -> &mut Self {
        self.pick = Pick::Config(config);
        self
    }

    pub fn candidate(&mut self, word: &'static str) -> &mut Self {
        self.pick = Pick::Candidate(word);
        self
    }

    pub fn every_candidate(&mut self) -> &mut Self {
        self.pick = Pick::Every;
        self
    }

    pub fn says(&mut self, words: &[&'static str]) -> &mut Self {
        self.says.extend(words);
        self
    }

    pub fn unless(&mut self, lack: fn(&Caps) -> Option<&'static str>) -> &mut Self {
        self.lack = lack;
        self
    }

    /// The outputs are the oracle itself, as sums of integers are.
    pub fn exact(&mut self) -> &mut Self {
        self.within(0.0)
    }

    /// No output is further from the oracle than this share of it, or of 1, whatever the rule allows.
    pub fn within(&mut self, distance: f64) -> &mut Self {
        self.within = Some(distance);
        self
    }

    pub fn twice(&mut self) -> &mut Self {
        self.twice = true;
        self
    }

    pub fn checked(&mut self) -> &mut Self {
        self.checked = true;
        self
    }

    /// Sets values by hand, after the random ones. Of a benchmark it sees only those arguments that are filled so far, each time one is.
    pub fn set(&mut self, set: impl Fn(&P, &mut Values) + Send + Sync + 'static) -> &mut Self {
        self.set = Some(Box::new(set));
        self
    }

    /// Its Config is composed without the candidates: others of the list tell what those are.
    pub fn alone(&mut self) -> &mut Self {
        self.alone = true;
        self
    }

    /// Its values leave this share of the operations.
    pub fn sees(&mut self, share: f64) -> &mut Self {
        self.sees = share;
        self
    }

    /// `loom bench --quick` measures it.
    pub fn quick(&mut self) -> &mut Self {
        self.what = Use::Bench { quick: true };
        self
    }
}

/// A kernel's Problems of interest.
pub struct List<P: Op>(pub Vec<Entry<P>>);

impl<P: Op> List<P> {
    fn push(&mut self, what: Use, name: String, problem: P) -> &mut Entry<P> {
        self.0.push(Entry {
            name,
            what,
            problem,
            memory: Memory::Separate,
            seed: 1,
            pick: Pick::Chosen,
            says: Vec::new(),
            lack: |_| None,
            within: None,
            twice: false,
            checked: false,
            set: None,
            alone: false,
            sees: 1.0,
        });
        self.0.last_mut().expect("one was pushed")
    }

    pub fn narrow(&mut self, name: impl Into<String>, problem: P) -> &mut Entry<P> {
        self.push(Use::Test(Depth::Narrow), name.into(), problem)
    }

    pub fn wide(&mut self, name: impl Into<String>, problem: P) -> &mut Entry<P> {
        self.push(Use::Test(Depth::Wide), name.into(), problem)
    }

    pub fn full(&mut self, name: impl Into<String>, problem: P) -> &mut Entry<P> {
        self.push(Use::Test(Depth::Full), name.into(), problem)
    }

    pub fn bench(&mut self, shape: impl Into<String>, problem: P) -> &mut Entry<P> {
        self.push(Use::Bench { quick: false }, shape.into(), problem)
    }

    /// A layer of a model: see [`models`](crate::models).
    pub fn model(&mut self, shape: impl Into<String>, problem: P) -> &mut Entry<P> {
        self.push(Use::Model, shape.into(), problem)
    }

    /// One of a row of sizes, at `n` of a curve.
    pub fn sweep(&mut self, curve: &str, n: usize, problem: P) -> &mut Entry<P> {
        self.push(Use::Sweep, format!("{curve}, n={n}"), problem)
    }

    /// What others compute in a browser, too: see tools/browser/peers.mjs. All inputs are normal numbers: of rows far from 0, and the like,
    /// others lose more digits than the rule allows.
    pub fn beside(&mut self, shape: impl Into<String>, problem: P) -> &mut Entry<P> {
        self.push(Use::Beside, shape.into(), problem).set(|_, values| {
            let mut random = Random::new(1);
            values.values_mut().flatten().for_each(|value| *value = random.normal());
        })
    }

    pub fn large(&mut self, shape: impl Into<String>, problem: P) -> &mut Entry<P> {
        self.push(Use::Large, shape.into(), problem)
    }

    pub fn compose(&mut self, problem: P) -> &mut Entry<P> {
        self.push(Use::Compose, "composed".into(), problem)
    }
}

/// What a call takes at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Operations.
    pub flops: f64,
    /// Each input and output byte once; a gathered row as often as it is read.
    pub bytes: f64,
}

impl Cost {
    /// Of a call that reads and writes each of its arguments once.
    pub fn of(flops: f64, args: &[Arg]) -> Cost {
        let bytes: usize = args.iter().map(|arg| arg.view.len() * arg.view.number.bits() / 8).sum();
        Cost { flops, bytes: bytes as f64 }
    }
}

/// A case file, understood.
pub struct Given<P> {
    pub problem: P,
    pub values: Values,
    /// The outputs as the case has them.
    pub outputs: Vec<Shown>,
    /// Outputs that are known without a run: those of a call without elements that the op refuses.
    pub known: Values,
}

/// What a kernel brings, all of it: implemented for its Problem.
pub trait Listed: Describe {
    /// The ops of its case files.
    const OPS: &'static [&'static str] = &[Self::NAME];
    /// Keys of the Config that are no part of a pipeline: the steps do not say them.
    const RUNTIME: &'static [&'static str] = &[];

    /// The Problems of interest.
    fn list(list: &mut List<Self>);

    /// The op of its case file.
    fn op(&self) -> &'static str {
        Self::NAME
    }

    fn cost(&self) -> Cost;

    /// Words of Configs, as in `algorithm=vector`, each of which some candidate must have on some preset of Caps.
    fn shipped() -> Vec<String> {
        Vec::new()
    }

    /// Inputs that all input sets of a benchmark share.
    fn shared() -> &'static [&'static str] {
        &[]
    }

    /// Whether inputs of a benchmark follow from others: then none of them comes from the pool.
    fn follows() -> bool {
        false
    }

    /// Small calls that a large one consists of, with what they gave: whose oracle is quick enough for a benchmark.
    fn parts(&self, values: Values, outputs: Values) -> Vec<(Self, Values, Values)> {
        vec![(self.clone(), values, outputs)]
    }

    /// The options of a case file, read or written.
    ///
    /// # Errors
    /// What is wrong with one.
    fn options(&mut self, options: &mut Options) -> Result<(), Fault>;

    /// Takes a case file apart.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(reader: &mut Reader) -> Result<Given<Self>, Fault>;

    /// The shape of an argument as a tensor of a case file.
    fn shape(&self, arg: &Arg) -> Vec<usize> {
        arg.view.shape()
    }

    /// Values of an argument as a tensor of a case file.
    fn tensor(&self, arg: &Arg, values: &[f64]) -> Tensor {
        Tensor::numbers_of(arg.view.number, &self.shape(arg), values)
    }

    /// The op and its options as a case file.
    fn header(&self) -> Case {
        let mut case = Case::new(self.op());
        let mut options = Options::Write(&mut case);
        self.clone().options(&mut options).expect("options are written without a fault");
        case
    }

    /// The op, options and inputs as a case file.
    fn write(&self, values: &Values) -> Case {
        let args = self.args();
        let inputs = args.iter().filter(|arg| arg.access != Access::Write);
        inputs.fold(self.header(), |case, arg| case.tensor(arg.name, self.tensor(arg, &values[arg.name])))
    }
}

/// A kernel, whatever its op.
pub trait Kernel: Sync {
    /// Its stem.
    fn name(&self) -> &'static str;

    /// The ops of its case files.
    fn ops(&self) -> &'static [&'static str];

    /// Its Problems of interest.
    fn list(&self) -> Vec<Box<dyn Run>>;

    /// Words of Configs, each of which some candidate must have on some preset of Caps.
    fn shipped(&self) -> Vec<String> {
        Vec::new()
    }

    /// Takes apart a case file of its op; needs no GPU.
    ///
    /// # Errors
    /// What is wrong with the case.
    fn replay(&self, case: &Case) -> Result<Box<dyn Replay>, Fault>;
}

/// An entry of the list, whatever its op.
pub trait Run: Send + Sync {
    fn name(&self) -> &str;

    fn what(&self) -> Use;

    /// The Problem, in a line.
    fn problem(&self) -> String;

    fn cost(&self) -> Cost;

    /// Its arguments.
    fn args(&self) -> Vec<Arg> {
        Vec::new()
    }

    /// Every Config that fits, as text, the chosen one first.
    ///
    /// # Errors
    /// Those of the Problem.
    fn candidates(&self, caps: &Caps) -> Result<Vec<String>, String>;

    /// What the device lacks to run it as it is meant.
    ///
    /// # Errors
    /// Those of the Problem.
    fn lack(&self, caps: &Caps) -> Result<Option<String>, String>;

    /// What each candidate and each Config that is meant compiles, with the Config's text.
    ///
    /// # Errors
    /// Those of the Problem, and a candidate that does not fit, or does not parse back.
    fn shaders(&self, caps: &Caps) -> Result<Vec<(String, tileloom::compose::Shader)>, String> {
        self.shaders_of(caps, &mut |_| true)
    }

    /// The same of those Configs whose text is `wanted`.
    ///
    /// # Errors
    /// Those of [`shaders`](Self::shaders).
    fn shaders_of(
        &self,
        caps: &Caps,
        wanted: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<(String, tileloom::compose::Shader)>, String>;

    /// The shaders of the Configs that it means to run, with the Config's text; none where the device lacks something.
    ///
    /// # Errors
    /// Those of the Problem.
    fn meant(&self, caps: &Caps) -> Result<Vec<(String, tileloom::compose::Shader)>, String>;

    /// What it gives by each Config that it means to run, output by output.
    ///
    /// # Errors
    /// What `prepare` says, a lost device, or what spilled where.
    fn outputs(&self, gpu: &Gpu) -> Result<Vec<Vec<f64>>, String>;

    /// The chosen Config as text, and the shader of each of its steps.
    ///
    /// # Errors
    /// Those of the Problem, and that nothing fits.
    fn chosen(&self, caps: &Caps) -> Result<(String, Vec<tileloom::compose::Shader>), String>;

    /// Its Problem, to be verified.
    fn subject(&self) -> &dyn tileloom::verify::Subject;

    /// Runs it as it is meant, and judges; what fails leaves its case file.
    fn test(&self, gpu: &Gpu) -> Outcome {
        self.test_with(gpu, &mut |_| {})
    }

    /// The same; `seen` gets the outputs that are judged, for each Config that it means to run.
    fn test_with(&self, gpu: &Gpu, seen: &mut dyn FnMut(&Values)) -> Outcome;

    /// Its calls in GPU memory, one by each Config that it means to run, or what the device lacks.
    ///
    /// # Errors
    /// What `prepare` says.
    fn load(&self, kernels: &Kernels) -> Result<Result<Vec<Held>, String>, String>;

    /// The call as a case file.
    fn case(&self) -> Case;

    /// Dispatches on so many input sets, by the Config of this text or the one that `prepare` takes.
    ///
    /// # Errors
    /// What `prepare` says.
    fn prepare(&self, gpu: &Gpu, pool: &Pool, sets: usize, config: Option<&str>) -> Result<Prepared, String>;

    /// The same by each of these Configs, all of them in the same memory; `before` is told each one before its turn.
    ///
    /// # Errors
    /// What keeps them all from it; within, what `prepare` says.
    fn prepare_each(
        &self,
        gpu: &Gpu,
        pool: &Pool,
        sets: usize,
        configs: &[&str],
        before: &mut dyn FnMut(&str),
    ) -> Result<Vec<Result<Prepared, String>>, String> {
        let prepared = configs.iter().map(|config| {
            before(config);
            self.prepare(gpu, pool, sets, Some(config))
        });
        Ok(prepared.collect())
    }
}

/// A call in GPU memory that may run elsewhere.
pub struct Held {
    pub config: String,
    pub loaded: Loaded,
    pub judge: Judge,
}

/// Judges the bytes of what a call [has written](Loaded::written), on an adapter that flushes so.
pub type Judge = Box<dyn Fn(&Loaded, Vec<Vec<u8>>, Flushes) -> Result<Verdict, String>>;

/// A benchmark, ready to run.
pub struct Prepared {
    /// One per input set.
    pub dispatches: Vec<Dispatch>,
    pub config: String,
    /// Bytes of scratch of a call.
    pub scratch_bytes: u64,
    /// The arguments of each input set.
    pub sets: Vec<Vec<(Arg, wgpu::Buffer)>>,
    pub check: Check,
}

/// Judges the outputs of the first input set: these, or if there are none what its dispatch has written. The bound is
/// widened by so much, absolutely and relatively.
pub type Check = Box<dyn Fn(&Gpu, Option<Values>, (f64, f64)) -> Result<Verdict, String>>;

impl Prepared {
    /// The bytes of an argument of an input set, padded to words.
    ///
    /// # Errors
    /// A lost device.
    ///
    /// # Panics
    /// If there is no such argument.
    pub fn bytes(&self, gpu: &Gpu, set: usize, name: &str) -> Result<Vec<u8>, String> {
        let found = self.sets[set].iter().find(|(arg, _)| arg.name == name);
        gpu.read(&found.unwrap_or_else(|| panic!("there is no argument `{name}`")).1)
    }
}

/// A case file, understood, whatever its op.
pub trait Replay {
    /// The call, written as a case file again.
    fn case(&self) -> Case;

    fn expected(&self) -> &Expected;

    /// The outputs that it gives.
    fn outputs(&self) -> Vec<&'static str>;

    /// Runs it: tensors by the name of the output, and what ran.
    ///
    /// # Errors
    /// What `prepare` says, a lost device, or what spilled where.
    fn run(&self, gpu: &Gpu) -> Result<Ran, String>;

    /// Holds what it gave against what the case expects, output by output.
    fn judge(&self, ran: &Ran) -> Vec<crate::commands::run::Finding>;
}

/// What a replay gave.
pub struct Ran {
    pub tensors: Vec<(&'static str, crate::case::Tensor)>,
    /// Shaders and Configs that ran.
    pub config: String,
    /// What the adapter flushes.
    pub flushes: Flushes,
}

/// The [`Kernel`] of a description.
pub struct Of<D>(PhantomData<fn() -> D>);

impl<D> Of<D> {
    pub const KERNEL: Of<D> = Of(PhantomData);
}

impl<D: Listed> Kernel for Of<D> {
    fn name(&self) -> &'static str {
        D::NAME
    }

    fn ops(&self) -> &'static [&'static str] {
        D::OPS
    }

    fn list(&self) -> Vec<Box<dyn Run>> {
        entries::<D>().into_iter().map(|entry| Box::new(Item(entry)) as Box<dyn Run>).collect()
    }

    fn shipped(&self) -> Vec<String> {
        D::shipped()
    }

    fn replay(&self, case: &Case) -> Result<Box<dyn Replay>, Fault> {
        Ok(Box::new(Replayed::<D>::of(case)?))
    }
}

/// The list of a description.
pub fn entries<D: Listed>() -> Vec<Entry<D>> {
    let mut list = List(Vec::new());
    D::list(&mut list);
    list.0
}

/// The first call of this name in a description's list.
///
/// # Panics
/// If there is none.
pub fn call<D: Listed>(name: &str) -> Call<D> {
    let entry = entries::<D>().into_iter().find(|entry| entry.name == name);
    entry.unwrap_or_else(|| panic!("{} lists no `{name}`", D::NAME)).call()
}

/// What a description finds wrong with a case.
#[cfg(test)]
pub fn fault<D: Listed>(case: &Case) -> String {
    Of::<D>::KERNEL.replay(case).err().map_or("understood".into(), |fault| fault.to_string())
}
