//! One case: a Problem, its Config and Buffers, held against what an op promises.

use std::fmt::Debug;

use tileloom::{Binding, Caps, Dispatch, Error, ErrorKind, Kernels, Op, Result};

use crate::data;
use crate::dice::Dice;
use crate::gpu::Gpu;

/// Gives the binding of the argument of this name, if it has one.
pub type Get<'g, 'a> = &'g mut dyn FnMut(&'static str) -> Option<Binding<'a>>;

/// An op, or what is prepared as one.
pub trait Target: Clone + Debug {
    /// The arguments that every call has, then those that some have.
    const ARGS: [&'static [&'static str]; 2];

    /// Any Problem.
    fn any(dice: &mut Dice) -> Self;

    /// Draws some fields anew.
    fn vary_one(&mut self, dice: &mut Dice);

    /// Every Config that fits, as text.
    ///
    /// # Errors
    /// Those of the Problem.
    fn candidates(&self, caps: &Caps) -> Result<Vec<String>>;

    /// Whether this Config, told in text, fits; nothing where it is none.
    ///
    /// # Errors
    /// Those of the Problem, and what does not fit.
    fn fits(&self, caps: &Caps, config: &str) -> Option<Result<()>>;

    /// # Errors
    /// What the op says.
    fn prepare(&self, kernels: &Kernels, config: Option<&str>, get: Get) -> Result<Dispatch>;
}

/// What [`Target`] has of every op.
pub fn candidates<P: Op>(problem: &P, caps: &Caps) -> Result<Vec<String>> {
    problem.choose(caps).map(drop).or_else(|error| match error.kind {
        ErrorKind::ConfigUnfit { .. } => Ok(()),
        _ => Err(error),
    })?;
    Ok(problem.candidates(caps)?.iter().map(P::Config::to_string).collect())
}

/// The same.
pub fn fits<P: Op>(problem: &P, caps: &Caps, config: &str) -> Option<Result<()>> {
    let config = config.parse().ok()?;
    // Any Config may be asked this.
    let _ = problem.scratch_bytes(&config);
    let fits = problem.fits(caps, &config);
    if fits.is_ok() {
        problem.shaders(&config, Default::default()).map_err(|error| error.to_string()).expect("it fits");
    }
    Some(fits)
}

/// What a case has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Refused,
    Recorded,
}

/// How often `prepare` was called, and how often its dispatch was recorded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub prepared: u64,
    pub recorded: u64,
}

/// Where an argument lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Of its own, or an odd one.
    own: bool,
    buffer: usize,
    offset: u64,
    size: Option<u64>,
    /// Bytes that are bound behind these, and that the call must leave alone.
    slack: u64,
}

impl Place {
    fn any(dice: &mut Dice, gpu: &Gpu, arg: usize, careful: bool) -> Place {
        match careful {
            // Nothing, so that an error tells how much is needed.
            true if gpu.runs => {
                Place { own: true, buffer: arg, offset: 256 * dice.below(3) as u64, size: Some(4), slack: 0 }
            }
            true => Place { own: true, buffer: arg, offset: 0, size: Some(4 * dice.below(64) as u64), slack: 0 },
            false => {
                // The data of the odd ones are not looked at.
                let own = gpu.runs || dice.one_in(2);
                let buffer = dice.below(if own { arg + 1 } else { gpu.odd.len() });
                let size = if dice.one_in(2) { None } else { Some(dice.bytes()) };
                Place { own, buffer, offset: dice.bytes(), size, slack: 0 }
            }
        }
    }

    /// The same with its place or its size changed.
    fn altered(self, dice: &mut Dice, gpu: &Gpu, arg: usize) -> Place {
        match dice.below(4) {
            0 => Place { size: Some(self.size.unwrap_or(0).saturating_sub(4).max(4)), slack: 0, ..self },
            1 => Place { offset: dice.bytes(), ..self },
            2 => Place { own: true, buffer: dice.below(gpu.own.len()), ..self },
            _ => Place::any(dice, gpu, arg, false),
        }
    }

    fn binding<'a>(&self, gpu: &'a Gpu) -> Binding<'a> {
        let buffer = if self.own { &gpu.own[self.buffer] } else { &gpu.odd[self.buffer] };
        match (self.offset, self.size) {
            (0, None) => buffer.into(),
            (offset, size) => {
                let size = size.and_then(|size| wgpu::BufferSize::new(size.saturating_add(self.slack)));
                wgpu::BufferBinding { buffer, offset, size }.into()
            }
        }
    }

    /// Binds so much more than is needed, if it is there.
    fn widen(&mut self, slack: u64, room: u64) {
        let end = self.size.and_then(|size| self.offset.checked_add(size)?.checked_add(slack));
        if self.own && end.is_some_and(|end| end <= room) {
            self.slack = slack;
        }
    }

    /// What the call may touch of a buffer of `room` bytes, if it is one of its own.
    fn view(&self, name: &'static str, room: u64) -> Option<data::View> {
        let size = self.size.filter(|size| size.saturating_add(self.slack) > 0);
        let end = size.map_or(room, |size| self.offset.saturating_add(size).min(room));
        self.own.then_some(data::View { name, buffer: self.buffer, bytes: self.offset.min(end)..end })
    }
}

/// Any call, refused or recorded.
///
/// # Errors
/// What is wrong with it.
pub fn case<T: Target>(
    dice: &mut Dice,
    gpu: &Gpu,
    kernels: &Kernels,
    tally: &mut Tally,
) -> std::result::Result<End, String> {
    if gpu.runs {
        dice.small();
    }
    let problem = T::any(dice);
    let caps = kernels.caps();
    if !gpu.runs && dice.one_in(4) {
        let presets = tileloom::caps::presets();
        let preset = &presets[dice.below(presets.len())];
        if let Ok(found) = problem.candidates(preset) {
            for config in found.iter().take(2) {
                let _ = problem.fits(&caps, config);
            }
        }
    }
    let config = match dice.one_in(4) {
        true => problem.candidates(&caps).ok().filter(|all| !all.is_empty()).map(|all| {
            let config = all[dice.below(all.len())].clone();
            if dice.one_in(2) { config } else { altered(dice, &config) }
        }),
        false => None,
    };
    let meant = match &config {
        Some(config) => match problem.fits(&caps, config) {
            None => return Ok(End::Refused),
            Some(fits) => fits.is_ok(),
        },
        None => false,
    };

    let careful = gpu.runs || !dice.one_in(4);
    let arg_names: Vec<&'static str> = T::ARGS.concat();
    let places = (0..arg_names.len())
        .map(|arg| (arg < T::ARGS[0].len() || dice.one_in(4)).then(|| Place::any(dice, gpu, arg, careful)))
        .collect();
    let mut call = Call { problem, config, meant, names: arg_names, places };
    let end = call.until_recorded(dice, gpu, kernels, tally)?;
    // The same with one thing changed, for which there is a pipeline already.
    for _ in 0..VARIANTS {
        let mut call = call.clone();
        match dice.below(3) {
            0 => {
                call.problem.vary_one(dice);
                call.meant = false;
                if gpu.runs {
                    // What is needed is told anew.
                    let own = call.places.iter_mut().flatten().filter(|place| place.own);
                    own.for_each(|place| (place.size, place.slack) = (Some(4), 0));
                    call.until_recorded(dice, gpu, kernels, tally)?;
                    continue;
                }
            }
            _ => {
                let arg = dice.below(call.names.len());
                call.places[arg] = call.places[arg].map(|place| place.altered(dice, gpu, arg));
            }
        }
        if let Ok(dispatch) = call.once(gpu, kernels, tally)? {
            call.record(dice, gpu, kernels, &dispatch, tally)?;
        }
    }
    Ok(end)
}

/// Calls that each case is varied to.
const VARIANTS: usize = 12;

/// A Problem with its Config, and where its arguments lie.
#[derive(Debug, Clone)]
struct Call<T> {
    problem: T,
    config: Option<String>,
    /// The Config is said to fit.
    meant: bool,
    names: Vec<&'static str>,
    places: Vec<Option<Place>>,
}

impl<T: Target> Call<T> {
    /// `what` is wrong, with all that it takes to see it.
    fn told(&self, gpu: &Gpu, kernels: &Kernels, what: String) -> String {
        let Call { problem, config, places, .. } = self;
        let config = config.as_deref().unwrap_or("chosen");
        format!("{what}\n  {problem:?}\n  {config}\n  {places:?}\n  on {}, {}", gpu.name, kernels.caps().label())
    }

    /// `prepare`, once.
    fn once(&self, gpu: &Gpu, kernels: &Kernels, tally: &mut Tally) -> std::result::Result<Result<Dispatch>, String> {
        tally.prepared += 1;
        let mut get = |name: &'static str| {
            let arg = self.names.iter().position(|have| *have == name)?;
            Some(self.places[arg]?.binding(gpu))
        };
        let prepared = self.problem.prepare(kernels, self.config.as_deref(), &mut get);
        if let Some(error) = gpu.heard() {
            return Err(self.told(gpu, kernels, format!("nothing caught: {error}")));
        }
        let wrong = match prepared.as_ref().map_err(|error| (&error.kind, error)) {
            Err((ErrorKind::ConfigUnfit { .. }, error)) if self.meant => format!("it fits, and is refused: {error}"),
            Err((ErrorKind::BufferTooSmall { need, have, .. }, error)) if need <= have => {
                format!("too small without being so: {error}")
            }
            Err((ErrorKind::Gpu { .. } | ErrorKind::DeviceLost { .. }, error)) => {
                format!("an error that it should not come to: {error}")
            }
            _ => return Ok(prepared),
        };
        Err(self.told(gpu, kernels, wrong))
    }

    /// `prepare` until it can be recorded, doing what each error says.
    fn until_recorded(
        &mut self,
        dice: &mut Dice,
        gpu: &Gpu,
        kernels: &Kernels,
        tally: &mut Tally,
    ) -> std::result::Result<End, String> {
        let (mut before, mut slack) = (String::new(), false);
        for _ in 0..24 {
            let error = match self.once(gpu, kernels, tally)? {
                Ok(_) if gpu.runs && !slack => {
                    slack = true;
                    for place in self.places.iter_mut().flatten() {
                        place.widen(dice.of_these(&[0, 4, 12, 256, 4096]), gpu.room);
                    }
                    continue;
                }
                Ok(dispatch) => {
                    self.record(dice, gpu, kernels, &dispatch, tally)?;
                    return Ok(End::Recorded);
                }
                Err(error) => error,
            };
            let text = error.to_string();
            if text == before {
                return Err(self.told(gpu, kernels, format!("refused again once its word was followed: {text}")));
            }
            before = text;
            if !self.follow(&error, gpu.room).map_err(|what| self.told(gpu, kernels, what))? {
                return Ok(End::Refused);
            }
        }
        Err(self.told(gpu, kernels, format!("no end to what is refused, at last: {before}")))
    }

    /// Does what an error says, if there is anything to do.
    fn follow(&mut self, error: &Error, room: u64) -> std::result::Result<bool, String> {
        let find = |name: &str| {
            // A field cannot have this name.
            let name = if name == "do" { "d_o" } else { name };
            let found = self.names.iter().position(|have| *have == name);
            found.ok_or_else(|| format!("an error of `{name}`, which is no argument: {error}"))
        };
        let places = &mut self.places;
        match &error.kind {
            ErrorKind::MissingBuffer { buffer } => {
                let arg = find(buffer)?;
                places[arg] = Some(Place { own: true, buffer: arg, offset: 0, size: Some(4), slack: 0 });
            }
            ErrorKind::UnusedBuffer { buffer } => places[find(buffer)?] = None,
            ErrorKind::BufferTooSmall { buffer, need, .. } if *need <= room => {
                let arg = find(buffer)?;
                let offset = places[arg].map_or(0, |place| place.offset);
                let offset = if offset.saturating_add(*need) <= room { offset } else { 0 };
                places[arg] = Some(Place { own: true, buffer: arg, offset, size: Some(*need), slack: 0 });
            }
            ErrorKind::MissingUsage { buffer, .. } => {
                let arg = find(buffer)?;
                places[arg] = places[arg].map(|place| Place { own: true, buffer: arg, ..place });
            }
            ErrorKind::Misaligned { buffer, offset, align, .. } => {
                let arg = find(buffer)?;
                places[arg] = places[arg].map(|place| Place { offset: offset - offset % align, ..place });
            }
            ErrorKind::Aliased { first, second, .. } => {
                for arg in [find(first)?, find(second)?] {
                    places[arg] = places[arg].map(|place| Place { own: true, buffer: arg, ..place });
                }
            }
            ErrorKind::BufferTooSmall { .. }
            | ErrorKind::ConfigUnfit { .. }
            | ErrorKind::InvalidProblem { .. }
            | ErrorKind::BindingTooLarge { .. }
            | ErrorKind::IndexOverflow { .. }
            | ErrorKind::TooManyBindings { .. }
            | ErrorKind::TooManyWorkgroups { .. }
            | ErrorKind::DeviceTooSmall { .. }
            | ErrorKind::OutOfMemory { .. } => return Ok(false),
            _ => return Err(format!("an error that it should not come to: {error}")),
        }
        Ok(true)
    }

    /// Records and submits; on a device that runs, with data of all kinds.
    fn record(
        &self,
        dice: &mut Dice,
        gpu: &Gpu,
        kernels: &Kernels,
        dispatch: &Dispatch,
        tally: &mut Tally,
    ) -> std::result::Result<(), String> {
        tally.recorded += 1;
        let ran = match gpu.runs {
            false => gpu.submit(dispatch),
            true => {
                let args = self.names.iter().zip(&self.places);
                let views: Vec<_> = args.filter_map(|(&name, place)| (*place)?.view(name, gpu.room)).collect();
                data::rounds(dice, gpu, dispatch, &views)
            }
        };
        ran.map_err(|what| self.told(gpu, kernels, what))
    }
}

/// The Config with one of its values changed.
fn altered(dice: &mut Dice, config: &str) -> String {
    let words = ["none", "tree", "shuffle", "subgroup", "memory", "registers", "online", "split", "direct", "tiled"];
    let more = [
        "vector",
        "coop",
        "decode",
        "branch",
        "apart",
        "select",
        "staged",
        "reread",
        "staged(4)",
        "staged(64)",
        "broadcast(8)",
        "broadcast(0)",
    ];
    let at = dice.below(config.split(' ').count());
    let changed = config.split(' ').enumerate().map(|(i, field)| match field.split_once('=') {
        Some((key, value)) if i == at => {
            let value = match value {
                "true" | "false" => dice.of_these(&["true", "false"]).to_string(),
                value if value.starts_with(|c: char| c.is_ascii_digit()) => {
                    let one = dice.below(value.split('x').count());
                    let size = |dice: &mut Dice| dice.size() as u32;
                    let parts = value.split('x').enumerate();
                    let parts = parts.map(|(i, n)| if i == one { size(dice).to_string() } else { n.to_string() });
                    parts.collect::<Vec<_>>().join("x")
                }
                _ => {
                    let all: Vec<&str> = words.into_iter().chain(more).collect();
                    dice.of_these(&all).to_string()
                }
            };
            format!("{key}={value}")
        }
        _ => field.to_string(),
    });
    changed.collect::<Vec<_>>().join(" ")
}
