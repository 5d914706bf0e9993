//! The gradients of RMS norm and layer norm over the last axis: of their input, of the weight and of the bias.
//!
//! With `n` the normalised `x` (before weight and bias), `g = dy * (weight + weight_offset)` and means over the columns
//! of a row:
//! * [`Kind::Rms`]: `dx = (g - n * mean(g * n)) * rstd`;
//! * [`Kind::Layer`]: `dx = (g - mean(g) - n * mean(g * n)) * rstd`.
//!
//! `dweight = sum(dy * n)` and `dbias = sum(dy)` over the rows, f32, are written, or added to what is there. Where the forward pass had a residual, `x` is what
//! it normalised, its `sum`, and `dx` the gradient of both.
//!
//! The statistics of a row are worked out anew from `x`, which is read anyway: a mean that was rounded to f32 would
//! lose what a DC offset hides. All that [`norm`](crate::norm) says of offsets and large values holds here. Besides, with
//! the usual eps of 1e-6 the sum of `|x * g|` over a row is at most 3e50, and with one of 0 3e38. Sums are f32 whatever the
//! dtypes.
//!
//! # Algorithms
//! Rows go by those of `norm`:
//! * [`Algorithm::Registers`]: the row stays in registers, `x` and `dy` are read once and `dx` written once.
//! * [`Algorithm::Online`]: one pass for the moments, one that writes.
//! * [`Algorithm::Split`]: few, very long rows; several workgroups per row, two steps, scratch.
//!
//! `dweight` and `dbias` take two steps more: sums over blocks of rows, to scratch; then over the blocks. Both go in a
//! fixed order, without atomics. Where `dx` takes the place of `x` or `dy`, these steps come first.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores, against a vec4 copy in the same run (`loom bench`), 4096 x 4096 f32: `dx` alone
//! 29 ms with RMS norm, 86 % of the copy, and 33 ms with layer norm, 75 %; with `dweight` and `dbias`, which read `x` and
//! `dy` once more, 53 ms, 47 %. f16: 38 ms, 36 %. Four chunks of columns per invocation rather than one took a third off
//! the sums.

use super::norm::{Kind, Vector, check_options, scale, strides};
use super::tile::{self, Rows};
use crate::layout::{chunking, chunks, rows_divide, split_rows};
use crate::ops::prelude::*;

pub use super::tile::{Algorithm, Config, Reduce};

defaults! {
    /// What is computed. `x`, `dy` and `dx` are `[n0, n1, n2, cols]` with `rows = n0 * n1 * n2` and `dims = [n1, n2]`;
    /// the default dims of `[1, 1]` make it `[rows, cols]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Which norm.
        pub kind: Kind = Kind::Rms,
        /// Rows, all outer axes together.
        pub rows: usize = 1,
        /// Elements per row.
        pub cols: usize = 1,
        /// Sizes of the two innermost row axes, for strided layouts.
        pub dims: [usize; 2] = [1, 1],
        /// Dtype of `x`.
        pub x: Dtype = Dtype::F32,
        /// Dtype of `dy`.
        pub dy: Dtype = Dtype::F32,
        /// Where the rows of `x` lie: strides of `n0, n1, n2`.
        pub x_layout: Layout<3> = Layout::default(),
        /// Where the rows of `dy` lie.
        pub dy_layout: Layout<3> = Layout::default(),
        /// What multiplied each column.
        pub weight: Option<Vector> = None,
        /// What was added to the weight.
        pub weight_offset: f32 = 0.0,
        /// What was added to the mean square or the variance.
        pub eps: f32 = Kind::Rms.eps(),
        /// Write the gradient of `x`: its dtype.
        pub dx: Option<Dtype> = Some(Dtype::F32),
        /// Where the rows of `dx` lie. Rows must not overlap.
        pub dx_layout: Layout<3> = Layout::default(),
        /// Write the gradient of the weight, f32 `[cols]`, from this element of its binding.
        pub dweight: Option<usize> = None,
        /// Write the gradient of the bias, f32 `[cols]`, from this element of its binding.
        pub dbias: Option<usize> = None,
        /// `dweight` and `dbias` are added to what is there.
        pub add: bool = false,
    }
}

impl Problem {
    /// `dx` of one row of one f32, without weight: sizes are yours to set. `eps` is the usual one.
    pub fn of(kind: Kind) -> Problem {
        Problem { kind, eps: kind.eps(), ..Problem::default() }
    }
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, inputs: [Strides; 2], grid: [u32; 3], parts: (u32, u32), columns: Columns) {
        x: Strides = inputs[0],
        dy: Strides = inputs[1],
        dx: Strides = strides(&views.dx),
        rows: u32 = p.rows as u32,
        cols: u32 = p.cols as u32,
        n1: u32 = p.dims[0] as u32,
        n2: u32 = p.dims[1] as u32,
        weight_at: u32 = p.weight.map_or(0, |weight| weight.offset as u32),
        dweight_at: u32 = p.dweight.unwrap_or(0) as u32,
        dbias_at: u32 = p.dbias.unwrap_or(0) as u32,
        grid_x: u32 = grid[0],
        parts: u32 = parts.0,
        part_chunks: u32 = parts.1,
        column_lanes: u32 = columns.lanes,
        blocks: u32 = columns.blocks,
        block_rows: u32 = columns.block_rows,
        add: u32 = p.add.into(),
        weight_offset: f32 = p.weight_offset,
        scale: f32 = scale(p.eps),
        eps: f32 = p.eps * scale(p.eps) * scale(p.eps),
    }
}

/// What follows from the Problem, the device and the buffers: of a step that goes by rows, or by columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    kind: Kind,
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    vec: u32,
    x: Storage,
    dy: Storage,
    weight: Option<Storage>,
    dx: Option<Storage>,
    /// Words of a packed `dx` are shared by rows, or with what lies beside them.
    edge: bool,
    /// `x`, `dy` are read from the binding of `dx`.
    in_place: [bool; 2],
    /// Statistics of rows are written, for the steps that go by columns.
    stats: bool,
    dweight: bool,
    dbias: bool,
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    x: View<3>,
    dy: View<3>,
    dx: Option<View<3>>,
    weight: Option<View<1>>,
    dweight: Option<View<1>>,
    dbias: Option<View<1>>,
}

/// The tiles of the steps that go by columns.
#[derive(Debug, Clone, Copy)]
struct Columns {
    /// Neighbouring invocations with neighbouring chunks.
    lanes: u32,
    /// Blocks of rows.
    blocks: u32,
    block_rows: u32,
}

/// Blocks of rows, as long as none is shorter or longer than these.
const BLOCKS: usize = 256;
const BLOCK_ROWS: [usize; 2] = [32, 1 << 12];

/// Chunks of columns of an invocation: neighbouring rows lie far apart, so that more of each is read at a time.
const COLUMNS: u32 = 4;

/// Where a region of scratch starts: a multiple of every alignment.
const ALIGN: u64 = 256;

impl Problem {
    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        split_rows(self.rows, self.dims)
    }

    fn has_columns(&self) -> bool {
        self.dweight.is_some() || self.dbias.is_some()
    }

    /// Of a step that goes by rows, in memory of its own.
    fn form(&self, views: &Views, native_f16: bool) -> Form {
        let held = |dtype| Storage::held(dtype, native_f16);
        let weight = views.weight.map(|view| view.padded());
        let all: Vec<&View<3>> = [&views.x, &views.dy].into_iter().chain(&views.dx).chain(&weight).collect();
        let (vec, edge) = match (&views.dx, self.dx) {
            (Some(view), Some(dtype)) => chunking(&all, view, held(dtype)),
            _ => chunking(&all, &views.x, Storage::F32),
        };
        Form {
            kind: self.kind,
            vec,
            x: held(self.x),
            dy: held(self.dy),
            weight: self.weight.map(|weight| held(weight.dtype)),
            dx: self.dx.map(held),
            edge,
            in_place: [false; 2],
            stats: self.has_columns(),
            dweight: false,
            dbias: false,
        }
    }

    /// What tiles go by.
    fn rows_of(&self, views: &Views, native_f16: bool) -> Rows {
        let dtypes = [Some(self.x), Some(self.dy), self.dx, self.weight.map(|weight| weight.dtype)];
        let more = [self.weight.is_some(), self.dx.is_some(), self.has_columns()];
        Rows {
            rows: self.rows,
            chunks: chunks(self.cols, self.form(views, native_f16).vec),
            arrays: 2,
            buffers: 2 + more.map(u32::from).iter().sum::<u32>(),
            f16: dtypes.contains(&Some(Dtype::F16)),
        }
    }

    /// Elements per chunk of the step that sums over blocks of rows, and of that which sums over the blocks.
    fn column_chunks(&self, views: &Views) -> [u32; 2] {
        let four = |all| if all { 4 } else { 1 };
        let whole = |view: &Option<View<1>>| view.is_none_or(|view| view.multiple_of(4));
        [
            four(views.x.multiple_of(4) && views.dy.multiple_of(4)),
            four(self.cols.is_multiple_of(4) && whole(&views.dweight) && whole(&views.dbias)),
        ]
    }

    fn columns(&self, views: &Views, config: &Config) -> Columns {
        let [least, most] = BLOCK_ROWS;
        let block_rows = self.rows.div_ceil(BLOCKS).clamp(least, most);
        // The largest power of two that divides the workgroup, if a row has as many chunks.
        let lanes = 1u32.checked_shl(config.wg_size.trailing_zeros()).unwrap_or(1);
        let chunks = chunks(self.cols, self.column_chunks(views)[0]).div_ceil(COLUMNS);
        Columns {
            lanes: chunks.checked_next_power_of_two().map_or(lanes, |chunks| chunks.min(lanes)),
            blocks: u32::try_from(self.rows.div_ceil(block_rows)).unwrap_or(u32::MAX),
            block_rows: block_rows as u32,
        }
    }

    /// Bytes of scratch: of parts of rows, of the statistics of rows, of blocks of rows.
    fn regions(&self, views: &Views, config: &Config) -> [u64; 3] {
        let parts = config.scratch(&self.rows_of(views, config.native_f16), 24);
        let blocks = u64::from(self.columns(views, config).blocks);
        let of_columns = |bytes: u64| if self.has_columns() { bytes } else { 0 };
        [parts, of_columns(product!(16u32, self.rows)), of_columns(product!(8u32, blocks, self.cols))]
    }

    /// The steps that go by rows.
    fn row_passes(&self, form: Form, config: &Config, writable: Slots) -> Vec<Pass<Config, Form>> {
        let steps: &[_] = match config.algorithm {
            Algorithm::Registers => &["norm_backward_registers"],
            Algorithm::Online => &["norm_backward_online"],
            Algorithm::Split => &["norm_backward_split_reduce", "norm_backward_split_write"],
        };
        steps.iter().map(|&stem| Pass { stem, config: *config, form, writable }).collect()
    }

    /// The two steps that go by columns.
    fn column_passes(&self, views: &Views, form: Form, config: &Config, writable: Slots) -> [Pass<Config, Form>; 2] {
        let [block_vec, sum_vec] = self.column_chunks(views);
        let bare = Form { weight: None, dx: None, edge: false, in_place: [false; 2], stats: false, ..form };
        let sum = Form { vec: sum_vec, dweight: self.dweight.is_some(), dbias: self.dbias.is_some(), ..bare };
        [("norm_backward_columns", Form { vec: block_vec, ..bare }), ("norm_backward_sum", sum)]
            .map(|(stem, form)| Pass { stem, config: *config, form, writable })
    }
}

slots!(X, DY, WEIGHT, DX, DWEIGHT, DBIAS, PARTS, STATS, SUMS);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let form = self.form;
        let layer = form.kind == Kind::Layer;
        // Regions of scratch are always declared read_write: they share a buffer.
        match self.stem {
            "norm_backward_columns" => self
                .begin(self.config.wg_size, 0, form.vec)
                .params::<Params>()
                .flag("LAYER", layer)
                .constant("COLUMNS", COLUMNS)
                .input(X, "x", form.x)
                .input(DY, "dy", form.dy)
                .writes(STATS, "stats", "vec4<f32>")
                .output(SUMS, "sums", Storage::F32, false),
            "norm_backward_sum" => {
                let shader = self.begin(self.config.wg_size, 0, form.vec).params::<Params>();
                let shader = shader.output(SUMS, "sums", Storage::F32, false);
                [(DWEIGHT, "dweight", form.dweight), (DBIAS, "dbias", form.dbias)].into_iter().fold(
                    shader,
                    |shader, (slot, name, asked)| match asked {
                        true => shader.output(slot, name, Storage::F32, false),
                        false => shader.no_output(name).no_input(name, "0.0"),
                    },
                )
            }
            _ => self.row_shader(),
        }
    }
}

impl Pass<Config, Form> {
    fn row_shader(&self) -> Shader {
        let form = self.form;
        let writes = self.stem != "norm_backward_split_reduce";
        // The second step of split, asked for statistics alone, goes by the parts.
        let reads = self.stem != "norm_backward_split_write" || form.dx.is_some();
        let mut shader = self
            .tile(form.vec)
            .params::<Params>()
            .flag("LAYER", form.kind == Kind::Layer)
            .flag("HIDES", form.edge)
            .flag("HAS_WEIGHT", form.weight.is_some())
            .flag("WRITES_DX", form.dx.is_some() && writes);
        // The step that only sums binds dx where an input is read from it.
        let dx = form.dx.filter(|_| writes || form.in_place.contains(&true));
        shader = match dx {
            Some(dx) => shader.output(DX, "dx", dx, form.edge),
            None => shader.no_output("dx"),
        };
        for (slot, name, storage, in_place) in
            [(X, "x", form.x, form.in_place[0]), (DY, "dy", form.dy, form.in_place[1])]
        {
            shader = match dx {
                _ if !reads => shader.no_input(name, "0.0"),
                Some(dx) if in_place => shader.in_place(name, "dx", dx, form.edge),
                _ => shader.input(slot, name, storage),
            };
        }
        shader = match form.weight.filter(|_| reads) {
            Some(weight) => shader.input(WEIGHT, "weight", weight),
            None => shader.no_input("weight", "0.0"),
        };
        shader = shader.writes_if(form.stats && writes, STATS, "stats", "vec4<f32>", "norm_backward_stats");
        match self.config.algorithm {
            Algorithm::Split => shader.writes(PARTS, "parts", "f32"),
            _ => shader,
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` and `dy` are read.
        x, dy;
        /// The weight that the Problem has.
        weight,
        /// The gradient of `x` that the Problem asks for; it may be the view of `x` or of `dy`, where dtypes and
        /// layouts are equal.
        dx,
        /// The gradient of the weight that the Problem asks for.
        dweight,
        /// The gradient of the bias that the Problem asks for.
        dbias,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("norm_backward");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        rows_divide(self.rows, self.dims)?;
        sizes_fit([("rows", self.rows), ("cols", self.cols)])?;
        check_options(self.eps, self.weight_offset)?;
        let sizes = self.sizes();
        let column = |arg, at: Option<usize>| {
            at.map(|at| Vector { dtype: Dtype::F32, offset: at }.view(arg, self.cols)).transpose()
        };
        let dx = self.dx.map(|_| self.dx_layout.view("dx", sizes, self.cols)?.apart("dx_layout"));
        Ok(Views {
            x: self.x_layout.view("x", sizes, self.cols)?,
            dy: self.dy_layout.view("dy", sizes, self.cols)?,
            dx: dx.transpose()?,
            weight: self.weight.map(|weight| weight.view("weight", self.cols)).transpose()?,
            dweight: column("dweight", self.dweight)?,
            dbias: column("dbias", self.dbias)?,
        })
    }

    fn without_batch(&self) -> Problem {
        Problem { rows: BATCH, dims: [1; 2], ..*self }
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let of = self.rows_of(views, false);
        tile::candidates(caps, &self.rows_of(views, caps.prefers_native_f16(of.f16)))
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, &self.rows_of(views, config.native_f16))?;
        let columns = self.columns(views, config);
        match self.has_columns() {
            true => {
                let each = Rounds::plain(COLUMNS);
                caps.check_rounds(each.times(2) + Rounds::nest(columns.block_rows, each))?;
                caps.check_rounds(Rounds::plain(columns.blocks))
            }
            false => Ok(()),
        }
    }

    /// Pivot, count, means and sums of products per part; statistics of each row; sums of each block of rows.
    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        let align = |end: u64| end.checked_next_multiple_of(ALIGN).unwrap_or(u64::MAX);
        self.regions(views, config).iter().fold(0u64, |end, bytes| align(end).saturating_add(*bytes))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let form = self.form(views, config.native_f16);
        let mut passes = self.row_passes(form, config, writable);
        if self.has_columns() {
            passes.extend(self.row_passes(Form { dx: None, ..form }, config, writable));
            passes.extend(self.column_passes(views, form, config, writable));
        }
        passes.iter().map(Pipeline::shader).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.read(DY, "dy", buffers.dy, views.dy.of(self.dy))?;
        let weight = views.weight.zip(self.weight);
        args.read(WEIGHT, "weight", buffers.weight, weight.map(|(view, weight)| view.of(weight.dtype)))?;
        args.write(DX, "dx", buffers.dx, views.dx.zip(self.dx).map(|(view, dtype)| view.of(dtype)))?;
        args.write(DWEIGHT, "dweight", buffers.dweight, views.dweight.map(|view| view.of(WORD)))?;
        args.write(DBIAS, "dbias", buffers.dbias, views.dbias.map(|view| view.of(WORD)))?;
        if self.cols == 0 || (self.rows == 0 || self.dx.is_none()) && !self.has_columns() {
            return Ok(Dispatch::default());
        }
        if config.algorithm == Algorithm::Split || self.has_columns() {
            let memory = args.scratch_memory(buffers.scratch, self.scratch(views, config))?;
            let mut at = 0u64;
            for (slot, bytes) in [PARTS, STATS, SUMS].into_iter().zip(self.regions(views, config)) {
                at = at.next_multiple_of(ALIGN);
                args.write(slot, "scratch", memory.part(at, bytes), Reach::to(bytes / 4, WORD))?;
                at += bytes;
            }
        }
        let in_place = [X, DY].map(|input| args.in_place(input, DX));
        for input in [X, DY] {
            args.interleave(input, DX);
        }
        args.check()?;

        let of = self.rows_of(views, config.native_f16);
        let columns = self.columns(views, config);
        let form = self.form(views, config.native_f16);
        let writable = args.writable();
        let mut steps = Vec::new();
        let add = |steps: &mut Vec<_>, pass: &Pass<Config, Form>, workgroups: u64| -> Checked {
            let grid = args.fold(workgroups)?;
            // In place, an input is read through the binding of dx.
            let input = |own: &View<3>, in_place| if in_place { strides(&views.dx) } else { own.params() };
            let inputs = [input(&views.x, pass.form.in_place[0]), input(&views.dy, pass.form.in_place[1])];
            let params = Params::of(self, views, inputs, grid, config.parts(&of), columns);
            steps.push(args.step(pass, &params, grid)?);
            Ok(())
        };
        let add_rows = |steps: &mut Vec<_>, form| -> Checked {
            let passes = self.row_passes(form, config, writable);
            passes.iter().filter(|_| self.rows > 0).try_for_each(|pass| add(steps, pass, config.workgroups(&of)))
        };
        // In place, dx comes last: the columns' steps read x and dy.
        let in_turns = self.has_columns() && in_place.contains(&true);
        match in_turns {
            true => add_rows(&mut steps, Form { dx: None, ..form })?,
            false => add_rows(&mut steps, Form { in_place, ..form })?,
        }
        if self.has_columns() {
            let Columns { lanes, blocks, .. } = columns;
            let [by_blocks, sum] = self.column_passes(views, form, config, writable);
            let groups =
                |pass: &Pass<Config, Form>, size: u64| u64::from(chunks(self.cols, pass.form.vec)).div_ceil(size);
            let block_groups = blocks.div_ceil(config.wg_size / lanes);
            if self.rows > 0 {
                let workgroups = product!(groups(&by_blocks, product!(lanes, COLUMNS)), block_groups);
                add(&mut steps, &by_blocks, workgroups)?;
            }
            add(&mut steps, &sum, groups(&sum, config.wg_size.into()))?;
        }
        if in_turns {
            add_rows(&mut steps, Form { in_place, stats: false, ..form })?;
        }
        Ok(Dispatch::of(steps))
    }
}
