//! What a step of generation leaves for the next: lengths, positions and slots moved on by the tokens that were taken, all on the device, so
//! that a [`Sequence`](crate::Sequence) runs step after step without the host.
//!
//! All integers that other kernels read (`lengths` of [`attention`](mod@crate::attention), positions of [`rope`](crate::rope), slots of
//! [`kv_append`](crate::kv_append), the step of [`sample`](crate::sample)) lie in one buffer of u32, `state`, each from the element that
//! the Problem gives on; those that are `None` are not there.
//!
//! A sequence `b` has had `before = lengths[b] - width` tokens when its step began, whose inputs were its next token and `width - 1` that were
//! proposed. `tokens`, i32 `[batch, width]`, are those that follow: the first `taken = 1 + min(accepted[b], width - 1)` of them count, all of which but
//! the last are inputs already. In this order:
//!
//! * a token behind one of `stops`, and one whose place `before + 1 + i` is not below `most`, is not taken;
//! * `history[b][before + 1 + i]`, i32 `[batch, most]`, becomes token `i` of those taken;
//! * `done[b]` becomes 1 where one of them is in `stops`, or where what follows the next step would have no place: from
//!   `before + taken + width = most` on;
//! * `positions`, u32 `[axes, batch, width]`, grow by `taken`, and wrap;
//! * `lengths[b]` becomes `before + taken + width`, `most` at most;
//! * `slots`, u32 `[batch, width]`, become those of the places `before + taken + i`: `page * page_size + place % page_size` with the page
//!   `table[b][place / page_size]`, of `[batch, max_pages]`, or without a table page `b`; where there is no such place or page, or the sequence is done,
//!   2^32 - 1, which `kv_append` skips.
//!
//! A sequence whose `done` is not 0 before stays as it is, with slots of 2^32 - 1. `step` grows by 1 and wraps. A length beyond `most` counts as `most`.

use crate::ops::prelude::*;

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Problem {
        /// Sequences.
        pub batch: usize = 1,
        /// Tokens of a sequence per step, at most [`MOST_WIDTH`].
        pub width: usize = 1,
        /// Places that a sequence has.
        pub most: usize = 1,
        /// Where `lengths` start, `[batch]`.
        pub lengths: usize = 0,
        /// Where positions start.
        pub positions: Option<usize> = None,
        /// Axes of positions.
        pub axes: usize = 1,
        /// Where slots start.
        pub slots: Option<usize> = None,
        /// Pages of the cache, or sequences of a contiguous one.
        pub pages: usize = 1,
        /// Places of a page.
        pub page_size: usize = 1,
        /// Where the table of pages starts.
        pub table: Option<usize> = None,
        /// Entries of the table per sequence.
        pub max_pages: usize = 0,
        /// Where the number of the step is.
        pub step: Option<usize> = None,
        /// Where the tokens that end a sequence start; they need `done`.
        pub stops: Option<usize> = None,
        /// How many there are, at most [`MOST_STOPS`].
        pub num_stops: usize = 0,
        /// Where it is told which sequences are done, `[batch]`.
        pub done: Option<usize> = None,
        /// The first element of `tokens` in its binding.
        pub tokens: usize = 0,
        /// The first element of `accepted`, u32 `[batch]`, in its binding; without it all of `width` count.
        pub accepted: Option<usize> = None,
        /// The stride of a row of `history`; rows must not overlap.
        pub history: Option<Layout<1>> = None,
    }
}

/// Tokens of a sequence per step, at most.
pub const MOST_WIDTH: usize = 1024;

/// Tokens that end a sequence, at most.
pub const MOST_STOPS: usize = 64;

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations of a workgroup, each of which has a sequence.
        pub wg_size: u32,
    }
}

/// What follows from the Problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    accepted: bool,
    history: bool,
}

/// What an element is that is not there.
const NONE: u32 = u32::MAX;

fn at(element: Option<usize>) -> u32 {
    element.map_or(NONE, |at| at as u32)
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, grid: [u32; 3]) {
        batch: u32 = p.batch as u32,
        width: u32 = p.width as u32,
        most: u32 = p.most as u32,
        lengths: u32 = p.lengths as u32,
        positions: u32 = at(p.positions),
        axes: u32 = p.axes as u32,
        slots: u32 = at(p.slots),
        pages: u32 = p.pages as u32,
        page_size: u32 = p.page_size as u32,
        table_at: u32 = at(p.table),
        max_pages: u32 = p.max_pages as u32,
        step_at: u32 = at(p.step),
        stops: u32 = at(p.stops),
        num_stops: u32 = if p.stops.is_some() { p.num_stops } else { 0 } as u32,
        done: u32 = at(p.done),
        tokens_at: u32 = p.tokens as u32,
        accepted_at: u32 = p.accepted.unwrap_or(0) as u32,
        history_at: u32 = views.history.map_or(0, |history| history.offset) as u32,
        history_stride: u32 = views.history.map_or(0, |history| history.stride(0)),
        grid_x: u32 = grid[0],
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    /// One past the last element of `state`.
    state: u64,
    tokens: View<1>,
    accepted: Option<View<1>>,
    history: Option<View<1>>,
}

slots!(STATE, TOKENS, ACCEPTED, HISTORY);

impl Problem {
    /// The parts of `state`: name, first element, elements, whether they are written.
    pub(crate) fn parts(&self) -> Vec<(&'static str, usize, u64, bool)> {
        let (batch, width) = (self.batch as u64, self.width as u64);
        let all = [
            ("lengths", Some(self.lengths), batch, true),
            ("positions", self.positions, product!(self.axes, batch, width), true),
            ("slots", self.slots, product!(batch, width), true),
            ("table", self.table, product!(batch, self.max_pages), false),
            ("step", self.step, 1, true),
            ("stops", self.stops, self.num_stops as u64, false),
            ("done", self.done, batch, true),
        ];
        all.into_iter().filter_map(|(name, at, len, writes)| Some((name, at?, len, writes))).collect()
    }

    fn pass(&self, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let form = Form { accepted: self.accepted.is_some(), history: self.history.is_some() };
        Pass { stem: "advance", config: *config, form, writable }
    }
}

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let shader = self
            .begin(self.config.wg_size, 0, 1)
            .params::<Params>()
            .writes(STATE, "state", "u32")
            .reads(TOKENS, "tokens", "i32")
            .table(ACCEPTED, "accepted", "u32", self.form.accepted)
            .import_if(self.form.history, "advance_history");
        if self.form.history { shader.writes(HISTORY, "history", "i32") } else { shader }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `state` is updated, `tokens` are read.
        state, tokens;
        /// How many of the proposed tokens stand.
        accepted,
        /// Where the tokens of each sequence are kept.
        history,
    }
}

functions!("advance");

impl Plan for Problem {
    type Views = Views;
    const PLACES: &'static [&'static str] = &["tokens"];

    fn resolve(&self) -> Checked<Views> {
        let Problem { batch, width, most, .. } = *self;
        sizes_fit([("batch", batch), ("most", most), ("pages", self.pages), ("axes", self.axes)])?;
        sizes_fit([("page_size", self.page_size), ("max_pages", self.max_pages)])?;
        let few = (1..=MOST_WIDTH).contains(&width);
        ErrorKind::unless(few, "width", format_args!("{width} are not 1 to {MOST_WIDTH}"))?;
        ErrorKind::unless(most >= width, "most", format_args!("{most} places do not hold {width} tokens"))?;
        let few = self.num_stops <= MOST_STOPS;
        ErrorKind::unless(few, "num_stops", format_args!("{} are more than {MOST_STOPS}", self.num_stops))?;
        let told = self.stops.is_none() || self.done.is_some();
        ErrorKind::unless(told, "stops", format_args!("they need `done`"))?;
        if self.slots.is_some() {
            let places = product!(self.pages, self.page_size);
            let fits = self.page_size > 0 && places < u64::from(NONE);
            let (pages, size) = (self.pages, self.page_size);
            ErrorKind::unless(fits, "page_size", format_args!("{pages} pages of {size} are not 1 to 2^32 - 2 places"))?;
            let own = self.table.is_some() || self.pages >= batch;
            ErrorKind::unless(own, "pages", format_args!("{pages} are fewer than {batch} sequences, without a table"))?;
        }
        let parts = self.parts();
        let mut state = 0;
        for (i, &(name, at, len, writes)) in parts.iter().enumerate() {
            let end = (at as u64).saturating_add(len);
            if end >= u64::from(NONE) {
                return Err(ErrorKind::IndexOverflow { arg: name, last: u128::from(end) });
            }
            state = state.max(end);
            for &(other, other_at, other_len, other_writes) in &parts[..i] {
                let apart = end <= other_at as u64 || (other_at as u64).saturating_add(other_len) <= at as u64;
                let fine = apart || len == 0 || other_len == 0 || !(writes || other_writes);
                ErrorKind::unless(fine, name, format_args!("{len} elements from {at} on overlap `{other}`"))?;
            }
        }
        let history = self.history.map(|layout| layout.view("history", [batch], most)?.apart("history"));
        Ok(Views {
            state,
            tokens: Layout::<1>::at(self.tokens).view("tokens", [batch], width)?,
            accepted: self.accepted.map(|at| Layout::<1>::at(at).view("accepted", [batch], 1)).transpose()?,
            history: history.transpose()?,
        })
    }

    fn list(&self, _views: &Views, caps: &Caps) -> Vec<Config> {
        let most = if caps.class() == Class::Software { 8 } else { 64 };
        vec![Config { wg_size: caps.most_invocations().min(most) }]
    }

    fn check(&self, _views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        caps.check_wg_size(config.wg_size)?;
        let stops = Rounds::nest(self.width as u64, Rounds::plain(self.num_stops as u64));
        caps.check_rounds(stops + Rounds::nest(self.axes as u64, Rounds::plain(self.width as u64)))
    }

    fn compose(&self, _views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.write(STATE, "state", buffers.state, Reach::to(views.state, WORD))?;
        args.read(TOKENS, "tokens", buffers.tokens, views.tokens.of(WORD))?;
        args.read(ACCEPTED, "accepted", buffers.accepted, views.accepted.map(|view| view.of(WORD)))?;
        args.write(HISTORY, "history", buffers.history, views.history.map(|view| view.of(WORD)))?;
        args.check()?;
        if self.batch == 0 && self.step.is_none() {
            return Ok(Dispatch::default());
        }
        let grid = args.fold((self.batch as u64).div_ceil(config.wg_size.into()).max(1))?;
        args.dispatch(&[self.pass(config, args.writable())], &Params::of(self, views, grid), grid)
    }
}
