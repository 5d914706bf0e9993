//! Lookup in a table of packed weights, of every format by one pipeline.

use super::index::Order;
use super::vq_lookup::{BAD, CODEBOOK, Config, INDICES, Problem, SCALES, Views, Y};
use crate::args::Memory;
use crate::ops::pointwise::clear;
use crate::ops::prelude::*;
use crate::weights::{ANY_BYTES, Any, Format, any};

/// What follows from the Problem and its views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// Elements per chunk.
    vec: u32,
    y: Storage,
    /// Indices have 16 bits.
    short: bool,
    /// Indices out of range are counted.
    count: bool,
    /// Words of a packed output are shared by rows, or with what lies beside them.
    edge: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, of: &Any, views: &Views, config: &Config, part: &Part, grid: [u32; 3]) {
        indices: Strides = views.indices.params(),
        y: Strides = views.y.params(),
        words: Strides = of.words,
        n: u32 = p.positions() as u32,
        spatial: u32 = p.spatial as u32,
        rows: u32 = config.rows,
        cols: u32 = p.code_dim as u32,
        num_codes: u32 = p.num_codes as u32,
        out_of_range: u32 = p.out_of_range.code(p.index),
        first: u32 = part.first as u32,
        end: u32 = part.end as u32,
        code: u32 = of.code,
        scales: u32 = of.scales,
        interleave: u32 = of.interleave,
        group: u32 = of.group,
        second: u32 = of.second,
        order: u32 = of.order,
        grid_x: u32 = grid[0],
        bad_offset: u32 = p.bad.unwrap_or(0) as u32,
    }
}

/// Rows of the table that one dispatch looks up.
pub(super) struct Part {
    first: u64,
    end: u64,
}

/// A part starts at a multiple of so many rows, whose words start where every device can bind.
const PART: u64 = 512;

impl Problem {
    /// Refuses what a table of packed weights cannot have; the words of its codes, as a view.
    pub(super) fn packed_codes(&self, format: &Format) -> Checked<View<2>> {
        let invalid = |arg, reason: &str| Err(ErrorKind::invalid(arg, reason));
        if self.books != 1 {
            return invalid("books", "packed weights are one book");
        }
        if self.order != Order::ChannelsLast {
            return invalid("order", "rows of packed weights give channels last");
        }
        if self.codebook != Layout::default() {
            return invalid("codebook", "packed weights lie at the start of their binding");
        }
        let words = format.countable(self.num_codes, self.code_dim, ["codebook", "scales"])?;
        Layout::<2>::default().view("codebook", [1, 1], words[0] as usize)
    }

    pub(super) fn packed_form(&self, views: &Views, native_f16: bool) -> Form {
        let y = Storage::held(self.y, native_f16);
        let vec = if views.y.multiple_of(4) { 4 } else { 1 + u32::from(y.packed()) };
        let edge = vec == 2 && !views.y.multiple_of(2);
        Form { vec, y, short: self.index == super::index::Index::U16, count: self.bad.is_some(), edge }
    }

    pub(super) fn packed_pass(&self, views: &Views, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let form = self.packed_form(views, config.native_f16);
        Pass { stem: "vq_lookup_packed", config: Config { rows: 1, ..*config }, form, writable }
    }

    /// Chunks of a row of y; one that starts within a word has one more.
    pub(super) fn packed_chunks(&self, views: &Views, native_f16: bool) -> u32 {
        let form = self.packed_form(views, native_f16);
        (self.code_dim as u32).div_ceil(form.vec) + u32::from(form.edge)
    }

    pub(super) fn packed_rounds(&self, views: &Views, config: &Config) -> Rounds {
        let chunks = self.packed_chunks(views, config.native_f16).div_ceil(config.lanes);
        Rounds::nest(config.rows, Rounds::plain(chunks)) + Rounds::plain(48u32.div_ceil(config.wg_size))
    }

    /// One dispatch for each part of the table that a binding holds.
    pub(super) fn bind_packed(
        &self,
        format: &Format,
        views: &Views,
        config: &Config,
        kernels: &Kernels,
        [indices, codebook, y]: [Binding; 3],
        [bad, scales]: [Option<Binding>; 2],
    ) -> Checked<Dispatch> {
        let (n, k) = (self.num_codes, self.code_dim);
        let mut args = Args::new(kernels);
        args.write(BAD, "bad", bad, views.bad.map(|bad| bad.of(WORD)))?;
        if !self.empty() {
            args.read(INDICES, "indices", indices, views.indices.of(self.index))?;
            args.write(Y, "y", y, views.y.of(self.y))?;
            args.read(SCALES, "scales", scales, Reach::to(format.scale_bytes(n, k) / 4, WORD))?;
        }
        let mut whole = args.clone();
        if !self.empty() {
            whole.read(CODEBOOK, "codebook", codebook, views.codebook.of(WORD))?;
        }
        whole.check_apart()?;
        args.check()?;
        let cleared = views.bad.map(|bad| clear(&args, BAD, &bad)).transpose()?;
        let mut steps: Vec<_> = cleared.into_iter().collect();
        if self.empty() {
            return Ok(Dispatch::of(steps));
        }
        let pass = self.packed_pass(views, config, whole.writable());
        let row = product!(format.code_words(k), 4u32);
        let limit = args.caps.binding_bytes();
        let rows = match product!(format.rows(n), row) <= limit {
            true => format.rows(n),
            false => limit / row.max(1) / PART * PART,
        };
        if rows == 0 {
            // Not even the least part can be bound.
            return Err(ErrorKind::BindingTooLarge { buffer: "codebook", need: product!(PART, row), limit });
        }
        let grid =
            args.fold((self.positions() as u64).div_ceil(product!(config.wg_size / config.lanes, config.rows)))?;
        let memory = Memory::from(codebook);
        for first in (0..n as u64).step_by(rows as usize) {
            let part = Part { first, end: (first + rows).min(n as u64) };
            let words = product!(format.rows((part.end - first) as usize), format.code_words(k));
            let mut args = args.clone();
            let at = product!(first, row);
            args.read(CODEBOOK, "codebook", memory.part(at, product!(words, 4u32)), Reach::to(words, WORD))?;
            args.check()?;
            steps.push(args.step(&pass, &Params::of(self, &format.any(k), views, config, &part, grid), grid)?);
        }
        Ok(Dispatch::of(steps))
    }
}

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Config { wg_size, lanes, .. } = self.config;
        let form = self.form;
        let shader = self
            .begin(wg_size, ANY_BYTES, form.vec)
            .params::<Params>()
            .code_indices(INDICES, form.short)
            .output(Y, "y", form.y, form.edge)
            .writes_if(form.count, BAD, "bad", "atomic<u32>", "vq_bad")
            .import("vq_find")
            .constant("LANES", lanes);
        any(shader, CODEBOOK, SCALES).gather("value").import(if form.vec == 4 {
            "vq_packed_four"
        } else {
            "vq_packed_one"
        })
    }
}
