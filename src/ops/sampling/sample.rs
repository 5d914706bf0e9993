//! A token of each row of logits: penalties, temperature, top-k, top-p, min-p, and a draw by a uniform number, all on the device.
//!
//! `logits` is `[rows, vocab]`. What is done to a row, in this order, by its [`Settings`]:
//!
//! 1. `repetition_penalty`: `z / it` where `z > 0`, else `z * it`, once for each token of the row's history;
//! 2. `frequency_penalty`: `z` less it times the token's count in the history; `presence_penalty`: less it, where it is there;
//! 3. `temperature`: weights are `exp(z / temperature)`. 0 is arg-max, ties to the lowest, without filters;
//! 4. `top_k`: every token as likely as the k-th stays; 0 is all;
//! 5. `top_p`: of what is left, the fewest most likely tokens whose probabilities reach it, ties to the lowest index, at least one; from 1
//!    on all;
//! 6. `min_p`: tokens of at least this share of the largest probability.
//!
//! `probs`, f32 `[rows, vocab]`, is what is left, normalised, and 0 elsewhere. `token`, u32 `[rows]`, is the first whose running
//! sum of `probs`, by index, exceeds `uniform`: one from a buffer, or Philox4x32-10 (Salmon et al., 2011) of the key
//! `seed` (low word, high word) and the counter `(row, step, 0, 0)`, that is `(x0 >> 8) * 2^-24`. A `step` in a buffer lets one recorded
//! call give another token each time.
//!
//! # What holds
//! * A filter keeps what f64 keeps, where no score, threshold or `uniform` lies within 1e-6 of the border: keys of 32 bits are searched
//!   exactly, and weights are added up as whole numbers of 2^-40 of the largest one. The same input gives the same bits, in whatever order.
//! * A logit of minus infinity or NaN is hidden; plus infinity counts as the largest number. A row of which nothing is visible gives
//!   token 0 and probabilities of 0. Tokens of the history that do not exist are left out. Whatever buffers hold, `token` is below `vocab`.
//! * Settings from a buffer that make no sense are harmless: a temperature of at most 2^-100 is 0, a repetition penalty of
//!   at most 0 is 1, `top_k` is rounded down.
//!
//! # Algorithm
//! Parts of rows are shared out among workgroups. The thresholds of top-k and top-p are each found in four steps of eight bits; without
//! these filters their steps are not there. A row is read once for its largest element, once per step, once for the sum of what is
//! left, and once for `probs`.

use super::tiles::{self, MOST_PARTS, Parts};
use crate::ops::pointwise::{Clear, clear};
use crate::ops::prelude::*;

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows of logits.
        pub rows: usize = 1,
        /// Tokens there are, at most 2^20.
        pub vocab: usize = 1,
        /// Dtype of `logits`.
        pub logits: Dtype = Dtype::F32,
        /// The stride of a row of `logits`.
        pub logits_layout: Layout<1> = Layout::default(),
        /// Tokens before, for the penalties.
        pub history: Option<History> = None,
        /// What all rows have.
        pub settings: Settings = Settings::default(),
        /// Each row has its own settings instead, f32 `[rows, 7]` in the order of [`Settings`], from this element of its binding.
        pub per_row: Option<usize> = None,
        /// Where the uniform number of a row is from.
        pub uniform: Uniform = Uniform::Buffer(0),
        /// Write the probabilities: the stride of a row.
        pub probs: Option<Layout<1>> = None,
        /// Write the tokens, from this element of their binding.
        pub token: Option<usize> = Some(0),
    }
}

/// Tokens before, i32 `[rows, len]`: those that do not exist, such as -1, are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct History {
    /// Tokens of a row.
    pub len: usize,
    /// The stride of a row.
    pub layout: Layout<1>,
}

defaults! {
    /// How a row is sampled.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Settings {
        /// Divides positive logits of tokens of the history, multiplies others; above 0.
        pub repetition_penalty: f32 = 1.0,
        /// Taken off per occurrence in the history.
        pub frequency_penalty: f32 = 0.0,
        /// Taken off once.
        pub presence_penalty: f32 = 0.0,
        /// Divides logits; 0, or at most 2^-100, is arg-max.
        pub temperature: f32 = 1.0,
        /// So many of the most likely tokens stay; 0 is all.
        pub top_k: u32 = 0,
        /// The most likely tokens up to this sum stay; from 1 on all.
        pub top_p: f32 = 1.0,
        /// Tokens of at least this share of the largest probability stay.
        pub min_p: f32 = 0.0,
    }
}

/// Where the uniform number of a row is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Uniform {
    /// f32 `[rows]` in `[0, 1)`, from this element of its binding.
    Buffer(usize),
    /// A generator on the device.
    Philox {
        /// Its key.
        seed: u64,
        /// The second word of its counter.
        step: Step,
    },
}

/// The number of a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// This one.
    At(u32),
    /// A u32, this element of its binding.
    Buffer(usize),
}

/// Tokens there are at most: the error of weights of 2^-40 stays below 1e-6 of their sum.
const MOST_TOKENS: usize = 1 << 20;

impl Settings {
    /// Settings of a row.
    pub const WORDS: usize = 7;

    /// As a row of a buffer.
    pub fn words(&self) -> [f32; Settings::WORDS] {
        let Settings { repetition_penalty, frequency_penalty, presence_penalty, temperature, .. } = *self;
        let penalties = [repetition_penalty, frequency_penalty, presence_penalty];
        let [a, b, c] = penalties;
        [a, b, c, temperature, self.top_k as f32, self.top_p, self.min_p]
    }

    fn greedy(&self) -> bool {
        self.temperature <= LEAST_TEMPERATURE
    }
}

/// 2^-100: at most this is arg-max.
const LEAST_TEMPERATURE: f32 = f32::from_bits((127 - 100) << 23);

pub use super::tiles::Config;

/// What follows from the Problem, for one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Form {
    /// Elements per chunk.
    vec: u32,
    /// How the logits are held that this step reads.
    x: Option<Storage>,
    /// The logits after the penalties are written, or read.
    history: bool,
    /// Settings are each row's own.
    per_row: bool,
    /// The search is that of top_p.
    top_p: bool,
    uniform: bool,
    step: bool,
    token: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, config: &Config, x: Strides, search: u32, grid: [u32; 3]) {
        x: Strides = x,
        tokens: Strides = views.tokens.map_or([0; 4], |tokens| tokens.params()),
        rows: u32 = p.rows as u32,
        vocab: u32 = p.vocab as u32,
        history: u32 = p.history.map_or(0, |history| history.len) as u32,
        stride: u32 = views.stride,
        parts: u32 = config.parts(p.vocab),
        part_chunks: u32 = config.part / views.vec,
        step_of_search: u32 = search,
        repetition: f32 = p.settings.repetition_penalty,
        frequency: f32 = p.settings.frequency_penalty,
        presence: f32 = p.settings.presence_penalty,
        temperature: f32 = p.settings.temperature,
        top_k: u32 = p.settings.top_k,
        top_p: f32 = p.settings.top_p,
        min_p: f32 = p.settings.min_p,
        settings_offset: u32 = p.per_row.unwrap_or(0) as u32,
        uniform_offset: u32 = if let Uniform::Buffer(at) = p.uniform { at } else { 0 } as u32,
        seed_low: u32 = p.seed() as u32,
        seed_high: u32 = (p.seed() >> 32) as u32,
        step: u32 = match p.step() { Some(Step::At(step)) => step, Some(Step::Buffer(at)) => at as u32, None => 0 },
        probs_offset: u32 = views.probs.map_or(0, |probs| probs.offset) as u32,
        probs_stride: u32 = views.probs.map_or(0, |probs| probs.stride(0)),
        token_offset: u32 = p.token.unwrap_or(0) as u32,
        grid_x: u32 = grid[0],
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    logits: View<1>,
    tokens: Option<View<1>>,
    per_row: Option<View<1>>,
    uniform: Option<View<1>>,
    step: Option<View<1>>,
    probs: Option<View<1>>,
    token: Option<View<1>>,
    /// Elements per chunk.
    vec: u32,
    /// Distance of rows of the logits after the penalties.
    stride: u32,
}

/// Words of scratch that a row has besides those of its parts.
const ROW_WORDS: u32 = 4148;
const PART_WORDS: u32 = 4;

slots!(LOGITS, TOKENS, SETTINGS, UNIFORM, STEP, PROBS, TOKEN, STATE, ADJUSTED);

impl Problem {
    fn seed(&self) -> u64 {
        if let Uniform::Philox { seed, .. } = self.uniform { seed } else { 0 }
    }

    fn step(&self) -> Option<Step> {
        if let Uniform::Philox { step, .. } = self.uniform { Some(step) } else { None }
    }

    /// Which searches are recorded: of top_k and of top_p.
    fn searches(&self) -> [bool; 2] {
        let Settings { top_k, top_p, .. } = self.settings;
        let some = |filters: bool| self.per_row.is_some() || (filters && !self.settings.greedy());
        [some(top_k > 0 && (top_k as usize) < self.vocab), some(top_p < 1.0)]
    }

    /// Stems of the steps after the first ones, each with the step of a search that it takes, or that comes after it.
    fn steps(&self) -> Vec<(&'static str, u32)> {
        let [top_k, top_p] = self.searches();
        let search = |on: bool, first: u32| (first..first + 4).filter(move |_| on).map(|step| ("sample_search", step));
        let end = if top_p {
            8
        } else if top_k {
            4
        } else {
            0
        };
        let counts = self.history.map(|_| ("sample_count", 0));
        let probs = self.probs.map(|_| ("sample_probs", 0));
        let head = counts.into_iter().chain([("sample_max", 0)]);
        let found = search(top_k, 0).chain(search(top_p, 4)).chain([("sample_sum", end), ("sample_token", 0)]);
        head.chain(found).chain(probs).collect()
    }

    fn pass(
        &self,
        views: &Views,
        config: &Config,
        (stem, search): (&'static str, u32),
        writable: Slots,
    ) -> Pass<Config, Form> {
        let x = match self.history {
            Some(_) if stem != "sample_max" => Storage::F32,
            _ => Storage::held(self.logits, false),
        };
        let uniform = self.token.is_some() && matches!(self.uniform, Uniform::Buffer(_));
        let step = self.token.is_some() && matches!(self.step(), Some(Step::Buffer(_)));
        let history = self.history.is_some();
        let row = Form { vec: views.vec, x: Some(x), history, per_row: self.per_row.is_some(), ..Form::default() };
        let form = match stem {
            "sample_count" => Form { vec: 1, ..Form::default() },
            "sample_search" => Form { top_p: search >= 4, ..row },
            "sample_token" => Form { uniform, step, token: self.token.is_some(), ..row },
            _ => row,
        };
        Pass { stem, config: Config { part: 0, ..*config }, form, writable }
    }

    /// Words of the state of all rows.
    fn state_words(&self, config: &Config) -> u64 {
        product!(self.rows, u64::from(ROW_WORDS) + product!(PART_WORDS, config.parts(self.vocab)))
    }

    /// Words of the logits after the penalties.
    fn adjusted_words(&self, views: &Views) -> u64 {
        if self.history.is_some() { product!(self.rows, views.stride) } else { 0 }
    }
}

/// Words that a bin of a search has: a count, or limbs of a sum of weights.
const fn limbs(top_p: bool) -> u32 {
    if top_p { 3 } else { 1 }
}

/// Bytes of workgroup memory of a step: bins, sums of 64 and of 32 bits of each invocation, and a few words.
fn wg_bytes(stem: &str, wg_size: u32, top_p: bool) -> u32 {
    let sums = |bytes: u32| wg_size.saturating_mul(bytes);
    match stem {
        "sample_max" => 4,
        "sample_search" => sums(16).saturating_add(256 * 4 * limbs(top_p) + 12),
        "sample_sum" => sums(24).saturating_add(12),
        "sample_token" => sums(24).saturating_add(20),
        _ => 0,
    }
}

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, x, history, per_row, top_p, uniform, step, token } = self.form;
        let shader =
            self.begin(self.config.wg_size, wg_bytes(self.stem, self.config.wg_size, top_p), vec).params::<Params>();
        let Some(x) = x else {
            return shader.reads(TOKENS, "tokens", "i32").writes(ADJUSTED, "adjusted", "atomic<u32>");
        };
        let shader = shader
            .constant("ROW_WORDS", ROW_WORDS)
            .import(tiles::lanes(vec))
            .table(SETTINGS, "settings", "f32", per_row)
            .writes(STATE, "state", "atomic<u32>");
        let first = self.stem == "sample_max";
        // Scratch is one buffer, of which the state is written.
        let shader = match history && !first {
            true => shader.tensor(crate::compose::Tensor {
                binding: ADJUSTED,
                name: "x",
                storage: x,
                writable: true,
                output: false,
                edge: false,
            }),
            false => shader.input(LOGITS, "x", x),
        };
        match self.stem {
            "sample_max" => {
                shader.flag("HISTORY", history).writes_if(history, ADJUSTED, "adjusted", "u32", "sample_adjusted")
            }
            "sample_search" => shader.flag("TOP_P", top_p).constant("LIMBS", limbs(top_p)),
            "sample_token" => shader
                .flag("TOKEN", token)
                .table(UNIFORM, "uniforms", "f32", uniform)
                .table(STEP, "step", "u32", step)
                .writes_if(token, TOKEN, "token", "u32", "sample_store"),
            "sample_probs" => shader.writes(PROBS, "probs", "f32"),
            _ => shader,
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// Read.
        logits;
        /// The history that the Problem asks for.
        tokens,
        /// The settings of each row that the Problem asks for.
        settings,
        /// The uniform numbers that the Problem asks for.
        uniform,
        /// The number of the draw, where it lies in a buffer.
        step,
        /// The probabilities that the Problem asks for.
        probs,
        /// The tokens that the Problem asks for.
        token,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("sample");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        sizes_fit([("rows", self.rows), ("history", self.history.map_or(0, |history| history.len))])?;
        if self.vocab == 0 || self.vocab > MOST_TOKENS {
            return Err(ErrorKind::invalid("vocab", format!("{} is not 1 to 2^20", self.vocab)));
        }
        if self.probs.is_none() && self.token.is_none() {
            return Err(ErrorKind::invalid("token", "neither tokens nor probabilities are asked for"));
        }
        let Settings { repetition_penalty, frequency_penalty, presence_penalty, temperature, top_p, min_p, .. } =
            self.settings;
        for (arg, value, least) in [
            ("repetition_penalty", repetition_penalty, f32::MIN_POSITIVE),
            ("frequency_penalty", frequency_penalty, f32::MIN),
            ("presence_penalty", presence_penalty, f32::MIN),
            ("temperature", temperature, 0.0),
            ("top_p", top_p, 0.0),
            ("min_p", min_p, 0.0),
        ] {
            if !(value >= least && value.is_finite()) {
                return Err(ErrorKind::invalid(arg, format!("{value} is not finite or below {least:e}")));
            }
        }
        let logits = self.logits_layout.view("logits", [self.rows], self.vocab)?;
        let words =
            |arg, at: Option<usize>, inner| at.map(|at| Layout::<1>::at(at).view(arg, [self.rows], inner)).transpose();
        let drawn = self.token.is_some();
        let uniform = if let (Uniform::Buffer(at), true) = (self.uniform, drawn) { Some(at) } else { None };
        let step = if let (Some(Step::Buffer(at)), true) = (self.step(), drawn) { Some(at) } else { None };
        let tokens = self.history.map(|history| history.layout.view("tokens", [self.rows], history.len)).transpose()?;
        let stride = padded(self.vocab, 4);
        if product!(self.rows, stride) > u32::MAX.into() {
            return Err(ErrorKind::IndexOverflow { arg: "rows", last: self.rows as u128 * u128::from(stride) - 1 });
        }
        Ok(Views {
            vec: if logits.multiple_of(4) { 4 } else { 1 },
            logits,
            tokens,
            per_row: words("settings", self.per_row, Settings::WORDS)?,
            uniform: words("uniform", uniform, 1)?,
            step: step.map(|at| Layout::<1>::at(at).view("step", [1], 1)).transpose()?,
            probs: match self.probs {
                Some(layout) => Some(layout.view("probs", [self.rows], self.vocab)?.apart("probs")?),
                None => None,
            },
            token: words("token", self.token, 1)?,
            stride: stride as u32,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let parts = Parts { rows: self.rows as u32, vocab: self.vocab, vec: views.vec };
        vec![parts.choose(caps, |n| rounds(views, &parts.split(caps, n)))]
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, self.vocab, views.vec)?;
        Misfit::at_most("words of scratch", self.state_words(config), u32::MAX)?;
        // With room for the invocations past the last one.
        let len = self.history.map_or(0, |history| history.len);
        Misfit::at_most("places of the history", product!(self.rows, len), u32::MAX - (1 << 24))?;
        let bytes = ["sample_search", "sample_token"].map(|stem| wg_bytes(stem, config.wg_size, true));
        let bytes = bytes[0].max(bytes[1]);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        caps.check_rounds(rounds(views, config))
    }

    /// What is known of rows and parts, and the logits after the penalties.
    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        let state = padded(product!(self.state_words(config), 4u32), BINDINGS);
        state.saturating_add(product!(self.adjusted_words(views), 4u32))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let clears = self.history.map(|_| Clear { slot: ADJUSTED }.shader());
        let steps = self.steps().into_iter().map(|step| self.pass(views, config, step, writable).shader());
        [Clear { slot: STATE }.shader()].into_iter().chain(clears).chain(steps).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        let floats = |view: Option<View<1>>| view.map(|view| view.of(Dtype::F32));
        let words = |view: Option<View<1>>| view.map(|view| view.of(WORD));
        args.read(LOGITS, "logits", buffers.logits, views.logits.of(self.logits))?;
        args.read(TOKENS, "tokens", buffers.tokens, words(views.tokens))?;
        args.read(SETTINGS, "settings", buffers.settings, floats(views.per_row))?;
        args.read(UNIFORM, "uniform", buffers.uniform, floats(views.uniform))?;
        args.read(STEP, "step", buffers.step, words(views.step))?;
        args.write(PROBS, "probs", buffers.probs, floats(views.probs))?;
        args.write(TOKEN, "token", buffers.token, words(views.token))?;
        if self.rows == 0 {
            return Ok(Dispatch::default());
        }
        let (state, adjusted) = (self.state_words(config), self.adjusted_words(views));
        let scratch = args.scratch_memory(buffers.scratch, self.scratch(views, config))?;
        args.write(STATE, "scratch", scratch.part(0, 4 * state), Reach::to(state, WORD))?;
        if adjusted > 0 {
            let from = padded(4 * state, BINDINGS);
            args.write(ADJUSTED, "scratch", scratch.part(from, 4 * adjusted), Reach::to(adjusted, WORD))?;
        }
        args.check()?;

        let writable = args.writable();
        let all = |words: u64| Layout::<1>::at(0).view("scratch", [1], words as usize);
        let mut steps = vec![clear(&args, STATE, &all(state)?)?];
        if adjusted > 0 {
            steps.push(clear(&args, ADJUSTED, &all(adjusted)?)?);
        }
        let own = views.logits.params();
        let penalised = [0, 0, 0, views.stride];
        for (stem, search) in self.steps() {
            let x = if self.history.is_some() && stem != "sample_max" { penalised } else { own };
            let tokens = self.history.map_or(0, |history| history.len);
            let workgroups = match stem {
                "sample_count" => product!(self.rows, tokens).div_ceil(config.wg_size.into()),
                "sample_token" => self.rows as u64,
                _ => product!(self.rows, config.parts(self.vocab)),
            };
            let grid = args.fold(workgroups)?;
            let params = Params::of(self, views, config, x, search, grid);
            steps.push(args.step(&self.pass(views, config, (stem, search), writable), &params, grid)?);
        }
        Ok(Dispatch::of(steps))
    }
}

/// Bindings start at multiples of this on every device.
const BINDINGS: u64 = crate::counting_sort::BINDINGS;

/// Rounds of the longest step: three walks through a part, so many chunks for each invocation.
fn rounds(views: &Views, config: &Config) -> Rounds {
    let chunks = (config.part / views.vec).div_ceil(config.wg_size.max(1));
    let walk = Rounds::nest(chunks, Rounds::plain(views.vec));
    let bins = Rounds::plain(256u32).times(3);
    let parts = Rounds::plain(MOST_PARTS).times(4);
    walk.times(4) + Rounds::plain(chunks.saturating_mul(views.vec)) + bins + parts + Rounds::plain(64u32).times(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_rows_of_any_length() {
        for caps in crate::caps::presets() {
            for (rows, vocab) in [(1, 1), (1, 152_064), (16, 152_064), (3, 50_257), (4096, 32_000), (1, MOST_TOKENS)] {
                let problem = Problem { rows, vocab, ..Problem::default() };
                let config = choose(&caps, &problem).unwrap();
                assert!(product!(config.parts(vocab), config.part) >= vocab as u64, "{}: {config}", caps.name);
            }
        }
    }

    #[test]
    fn searches_are_recorded_where_something_filters() {
        let stems = |settings, per_row| {
            let problem = Problem { vocab: 100, settings, per_row, ..Problem::default() };
            problem.steps().into_iter().filter(|(stem, _)| *stem == "sample_search").count()
        };
        let all = Settings::default();
        assert_eq!(stems(all, None), 0);
        assert_eq!(stems(all, Some(0)), 8);
        assert_eq!(stems(Settings { top_k: 40, ..all }, None), 4);
        assert_eq!(stems(Settings { top_k: 40, top_p: 0.9, ..all }, None), 8);
        assert_eq!(stems(Settings { top_k: 40, temperature: 0.0, ..all }, None), 0);
        assert_eq!(stems(Settings { top_k: 100, ..all }, None), 0);
    }
}
