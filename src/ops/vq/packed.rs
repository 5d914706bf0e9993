//! Lookup in a table of packed weights, of every format by one pipeline.

use super::index::Order;
use super::vq_lookup::{BAD, CODEBOOK, Config, INDICES, Problem, SCALES, Views, Y};
use crate::args::Memory;
use crate::ops::pointwise::clear;
use crate::ops::prelude::*;
use crate::weights::{Code, E2M1, Format, IQ4_NL, NF4, Scales};

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
    fn of(p: &Problem, format: &Format, views: &Views, config: &Config, part: &Part, grid: [u32; 3]) {
        indices: Strides = views.indices.params(),
        y: Strides = views.y.params(),
        words: Strides = words(format, p.code_dim),
        n: u32 = p.positions() as u32,
        spatial: u32 = p.spatial as u32,
        rows: u32 = config.rows,
        cols: u32 = p.code_dim as u32,
        num_codes: u32 = p.num_codes as u32,
        out_of_range: u32 = p.out_of_range as u32,
        first: u32 = part.first as u32,
        end: u32 = part.end as u32,
        code: u32 = format.code as u32,
        scales: u32 = format.scales as u32,
        interleave: u32 = format.interleave,
        group: u32 = if format.group == 0 { u32::MAX } else { format.group },
        second: u32 = second(format, p.code_dim),
        order: u32 = if format.order == 0 { 0 } else { format.packed_k(p.code_dim) as u32 },
        grid_x: u32 = grid[0],
        bad_offset: u32 = p.bad.unwrap_or(0) as u32,
    }
}

/// Words of a row of codes, of scales, words in front of the scales, K / 8.
fn words(format: &Format, k: usize) -> Strides {
    let words = [format.code_words(k), format.scale_words(k), format.order_words(k), format.packed_k(k) / 8];
    words.map(|words| words as u32)
}

/// Words of a row in front of its second kind of scales.
fn second(format: &Format, k: usize) -> u32 {
    match format.scales {
        Scales::HalfZero => format.groups(k).div_ceil(2) as u32,
        Scales::K6 => (k as u64).div_ceil(256) as u32 * 4,
        _ => 0,
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
        format.check(self.code_dim)?;
        if self.books != 1 {
            return invalid("books", "packed weights are one book");
        }
        if self.order != Order::ChannelsLast {
            return invalid("order", "rows of packed weights give channels last");
        }
        if self.codebook != Layout::default() {
            return invalid("codebook", "packed weights lie at the start of their binding");
        }
        let (n, k) = (self.num_codes, self.code_dim);
        let words = [("codebook", format.code_bytes(n, k) / 4), ("scales", format.scale_bytes(n, k) / 4)];
        if let Some((arg, words)) = words.into_iter().find(|&(_, words)| words > u64::from(u32::MAX)) {
            return Err(ErrorKind::IndexOverflow { arg, last: u128::from(words) - 1 });
        }
        // A scale by the place in the matrix counts elements.
        if format.scales == Scales::Flat && product!(n, k) > u64::from(u32::MAX) {
            return Err(ErrorKind::IndexOverflow { arg: "codebook", last: n as u128 * k as u128 - 1 });
        }
        Layout::<2>::default().view("codebook", [1, 1], words[0].1 as usize)
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
            steps.push(args.step(&pass, &Params::of(self, format, views, config, &part, grid), grid)?);
        }
        Ok(Dispatch::of(steps))
    }
}

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Config { wg_size, lanes, .. } = self.config;
        let form = self.form;
        let tables: Vec<f32> = [IQ4_NL, E2M1, NF4].concat();
        self.begin(wg_size, 48 * 4, form.vec)
            .params::<Params>()
            .code_indices(INDICES, form.short)
            .reads(CODEBOOK, "codebook", "u32")
            .output(Y, "y", form.y, form.edge)
            .writes_if(form.count, BAD, "bad", "atomic<u32>", "vq_bad")
            .reads(SCALES, "scales", "u32")
            .import("vq_find")
            .constant("LANES", lanes)
            .constants([
                ("CODE_BITS4", Code::Bits4 as u32),
                ("CODE_BITS5", Code::Bits5 as u32),
                ("CODE_BITS6", Code::Bits6 as u32),
                ("CODE_INT8", Code::Int8 as u32),
                ("CODE_E4M3", Code::E4m3 as u32),
                // The others follow, in the order of the tables.
                ("CODE_IQ4_NL", Code::Iq4Nl as u32),
                ("SCALES_HALF_LESS_8", Scales::HalfLess8 as u32),
                ("SCALES_HALF_LESS_16", Scales::HalfLess16 as u32),
                ("SCALES_HALF", Scales::Half as u32),
                ("SCALES_HALF_OFFSET", Scales::HalfOffset as u32),
                ("SCALES_HALF_ZERO", Scales::HalfZero as u32),
                ("SCALES_FLOAT", Scales::Float as u32),
                ("SCALES_EXPONENT", Scales::Exponent as u32),
                ("SCALES_K", Scales::K as u32),
                ("SCALES_K6", Scales::K6 as u32),
                ("SCALES_BLOCK", Scales::Block as u32),
                ("SCALES_FLAT", Scales::Flat as u32),
            ])
            .floats("TABLES", &tables)
            .gather("value")
            .import(if form.vec == 4 { "vq_packed_four" } else { "vq_packed_one" })
    }
}
