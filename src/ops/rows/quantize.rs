//! Activations in 8 bits, as products of quantised inputs read them: int8 with a scale per token, or e4m3fn with a scale per
//! token and 128 of k (DeepSeek-V3, 2024, section 3.3).
//!
//! `x` is `[rows, cols]`. A line is a row of it, or with [`Along::Columns`] a column: then codes and scales are those of the
//! transposed matrix, by its rows. With `len` elements in a line, the outputs are, contiguous:
//!
//! * `codes`, u32 `[lines, ceil(len / 4)]`: byte `i % 4` (the lowest first) of word `i / 4` is the code of element `i`;
//!   bytes past `len` are 0.
//! * `scales`, f32 `[lines, ceil(len / 128)]` for e4m3, `[lines]` for int8.
//!
//! | format | scale of a group | code |
//! |---|---|---|
//! | int8 | max\|x\| / 127 | x / scale to the nearest, ties to even: -127 to 127, two's complement |
//! | e4m3 | max\|x\| / 448, or the next power of two | x / scale to the nearest e4m3fn, ties to even, at most 448 |
//!
//! A group of zeros has scale 0 and codes 0, and so has one whose scale would be below 2^-126. A group that holds an infinity
//! or NaN has the scale NaN (0x7fc00000) and codes 0: whatever is decoded from it is NaN, and no other group is concerned. With powers of two
//! codes and scales are exact, bit by bit; otherwise the scale is within 2 units of its last place, and a code may be the other
//! neighbour where x / scale is within 1e-6 of the middle.

use super::tile::Reduce;
use crate::ops::prelude::*;

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Problem {
        /// Rows of `x`.
        pub rows: usize = 1,
        /// Columns of `x`.
        pub cols: usize = 1,
        /// Dtype of `x`.
        pub x: Dtype = Dtype::F32,
        /// The stride of a row of `x`.
        pub x_layout: Layout<1> = Layout::default(),
        /// What codes are.
        pub format: Format = Format::Int8,
        /// Scales of e4m3 are powers of two.
        pub power_of_two: bool = false,
        /// Along what a scale holds.
        pub along: Along = Along::Rows,
        /// The first word of the codes in their binding.
        pub codes: usize = 0,
        /// The first element of the scales in their binding.
        pub scales: usize = 0,
    }
}

/// What codes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Whole numbers from -127 to 127, a scale per line.
    #[default]
    Int8,
    /// Floats of 4 bits of exponent and 3 of mantissa, without infinities, a scale per line and [`GROUP`] elements.
    E4m3,
}

/// Along what a scale holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Along {
    /// Along rows of `x`.
    #[default]
    Rows,
    /// Along columns of `x`: outputs are those of its transposed.
    Columns,
}

/// Elements of a line that share a scale of e4m3.
pub const GROUP: usize = 128;

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Invocations that share a group, a power of two that divides `wg_size`.
        pub lanes: u32,
        /// How they combine.
        pub reduce: Reduce,
        /// f16 inputs are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

/// What follows from the Problem and its views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk.
    vec: u32,
    x: Storage,
    e4m3: bool,
    columns: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, grid: [u32; 3]) {
        x: Strides = views.line_element,
        lines: u32 = p.lines() as u32,
        len: u32 = p.len() as u32,
        words: u32 = p.words() as u32,
        groups: u32 = p.groups() as u32,
        group_words: u32 = p.group_words() as u32,
        items: u32 = views.items,
        power_of_two: u32 = p.power_of_two.into(),
        codes_offset: u32 = p.codes as u32,
        scales_offset: u32 = p.scales as u32,
        grid_x: u32 = grid[0],
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    x: View<1>,
    codes: View<1>,
    scales: View<1>,
    /// Where `x` begins, and its strides of line and element.
    line_element: Strides,
    /// Groups of all lines.
    items: u32,
    /// Elements per chunk.
    vec: u32,
}

impl Problem {
    /// Rows of the outputs.
    pub fn lines(&self) -> usize {
        if self.along == Along::Rows { self.rows } else { self.cols }
    }

    /// Elements of a line.
    fn len(&self) -> usize {
        if self.along == Along::Rows { self.cols } else { self.rows }
    }

    /// Words of codes of a line.
    pub fn words(&self) -> usize {
        self.len().div_ceil(4)
    }

    /// Scales of a line.
    pub fn groups(&self) -> usize {
        match self.format {
            Format::Int8 => 1,
            Format::E4m3 => self.len().div_ceil(GROUP),
        }
    }

    fn group_words(&self) -> usize {
        match self.format {
            Format::Int8 => self.words(),
            Format::E4m3 => GROUP / 4,
        }
    }

    fn pass(&self, views: &Views, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let form = Form {
            vec: views.vec,
            x: Storage::held(self.x, config.native_f16),
            e4m3: self.format == Format::E4m3,
            columns: self.along == Along::Columns,
        };
        Pass { stem: "quantize", config: *config, form, writable }
    }
}

/// Invocations of a workgroup, those that share a group of rows, and those that share a whole row, at most. By columns each has a
/// group of its own, so that neighbours read neighbouring columns. Software: as rows of softmax go on lavapipe of Mesa 26.2,
/// a group per invocation. The others are not measured: a group of 128 is 32 loads of 16 bytes.
struct Tiles {
    wg_size: u32,
    group: u32,
    row: u32,
}

const fn tiles(class: Class) -> Tiles {
    match class {
        Class::Software => Tiles { wg_size: 8, group: 1, row: 1 },
        Class::Integrated => Tiles { wg_size: 128, group: 32, row: 128 },
        Class::Discrete => Tiles { wg_size: 256, group: 32, row: 256 },
    }
}

/// Words of a row that an invocation takes at least.
const LEAST_WORDS: u32 = 4;

slots!(X, CODES, SCALES);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, x, e4m3, columns } = self.form;
        let Config { wg_size, lanes, reduce, .. } = self.config;
        self.begin(wg_size, wg_bytes(reduce, wg_size), vec)
            .params::<Params>()
            .constant("LANES", lanes)
            .flag("E4M3", e4m3)
            .flag("COLUMNS", columns)
            .input(X, "x", x)
            .writes(CODES, "codes", "u32")
            .writes(SCALES, "scales", "u32")
            .import(if vec == 4 { "quantize_four4" } else { "quantize_four1" })
            .import(match reduce {
                Reduce::None => "reduce_none",
                Reduce::Shuffle => "reduce_shuffle",
                _ => "reduce_tree",
            })
    }
}

fn wg_bytes(reduce: Reduce, wg_size: u32) -> u32 {
    if reduce == Reduce::Tree { wg_size.saturating_mul(4) } else { 0 }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` is read, `codes` and `scales` are written.
        x, codes, scales;
    }
}

functions!("quantize");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        sizes_fit([("rows", self.rows), ("cols", self.cols)])?;
        if self.power_of_two && self.format == Format::Int8 {
            return Err(ErrorKind::invalid("power_of_two", "scales of int8 are max|x| / 127"));
        }
        let x = self.x_layout.view("x", [self.rows], self.cols)?;
        let [offset, _, _, row] = x.params();
        let along = self.along == Along::Rows;
        let codes = Layout::<1>::at(self.codes).view("codes", [self.lines()], self.words())?;
        let scales = Layout::<1>::at(self.scales).view("scales", [self.lines()], self.groups())?;
        Ok(Views {
            items: product!(self.lines(), self.groups()) as u32,
            line_element: if along { [offset, row, 1, 0] } else { [offset, 1, row, 0] },
            vec: if along && x.multiple_of(4) { 4 } else { 1 },
            x,
            codes,
            scales,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let Tiles { wg_size, group, row } = tiles(caps.class());
        let native_f16 = caps.prefers_native_f16(self.x == Dtype::F16);
        let wg_size = wg_size.min(caps.most_invocations());
        let plain = Config { wg_size, lanes: 1, reduce: Reduce::None, native_f16 };
        let most = if self.format == Format::E4m3 { group } else { row };
        // A software adapter that has few groups shares them, too.
        let few = caps.class() == Class::Software && views.items < 16;
        let words = self.group_words() as u32;
        let wanted = if few { 8 } else { most };
        let lanes = (words / LEAST_WORDS).max(1).next_power_of_two().max(group.min(32)).min(wanted).min(wg_size);
        if self.along == Along::Columns || lanes < 2 || !lanes.is_power_of_two() {
            return vec![plain];
        }
        let with = |reduce| Config { lanes, reduce, ..plain };
        vec![with(Reduce::Shuffle), with(Reduce::Tree), plain]
    }

    fn check(&self, _views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { wg_size, lanes, reduce, native_f16 } = *config;
        caps.check_wg_size(wg_size)?;
        caps.check_native_f16(native_f16, self.x == Dtype::F16)?;
        reduce.check_lanes(caps, wg_size, lanes)?;
        let bytes = wg_bytes(reduce, wg_size);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        let words = Rounds::plain((self.group_words() as u64).div_ceil(lanes.into()));
        caps.check_rounds(words.times(2) + Rounds::plain(lanes.ilog2()).times(2))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(views, config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.write(CODES, "codes", buffers.codes, views.codes.of(WORD))?;
        args.write(SCALES, "scales", buffers.scales, views.scales.of(WORD))?;
        args.check()?;
        // Lines without elements have one scale of int8: that of a group of zeros.
        if views.items == 0 {
            return Ok(Dispatch::default());
        }
        let grid = args.fold(u64::from(views.items).div_ceil((config.wg_size / config.lanes).into()))?;
        let pass = self.pass(views, config, args.writable());
        args.dispatch(&[pass], &Params::of(self, views, grid), grid)
    }
}
