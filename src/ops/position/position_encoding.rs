//! Absolute position encodings, added to the tokens in one dispatch: `y = scale * x + encoding(position)`.
//!
//! Tokens are `[batch, rows, cols]` of `dim` elements: a picture's patches, or a sequence, which is one row. An
//! [`Encoding`] is sinusoidal (Vaswani et al., "Attention is all you need", 2017; pictures as in MAE, ViT and DETR) or
//! learned: a table by position, or the sum of one by column and one by row. Where a model joins two learned halves
//! instead of adding them (DETR's), each half of the elements is a call of its own, by layout.
//!
//! Angles are exact at any 32-bit position, in the way of [`rope`](crate::rope): frequencies are fractions of a turn
//! in integers, and no driver's `sin` has a say. Positions outside of a table take its first or last row.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores, against a vec4 copy in the same run (`loom bench`): `[8, 1024, 1024]` f32 8.6 ms,
//! 68 % of the copy, f16 10.4 ms, 27 %; of one batch 4.4 ms, 17 %, since nothing shares its angles; learned 8.1 ms, 80 %.

use super::frequencies::turns;
use crate::compose::{Shader, Storage, Tensor, write_flags};
use crate::dispatch::{Arg, check_all, fold, given, read_write};
use crate::kernels::Pipeline;
use crate::layout::chunks;
use crate::layout::{View, check_sizes};
use crate::{Binding, Caps, Dispatch, Dtype, Error, ErrorKind, Kernels, Layout, Misfit, Result, caps::Class};

const OP: &str = "position_encoding";

/// What is computed. `x` and `y` are `[batch, rows, cols, dim]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub batch: usize,
    /// Rows of tokens: 1 for sequences.
    pub rows: usize,
    /// Tokens per row.
    pub cols: usize,
    pub dim: usize,
    /// Dtype of `x`.
    pub x: Dtype,
    /// Dtype of `y`.
    pub y: Dtype,
    /// Strides of batch, row and column.
    pub x_layout: Layout<3>,
    /// Tokens must not overlap.
    pub y_layout: Layout<3>,
    /// Multiplies `x` before the encoding is added: sqrt(dim) in Vaswani's transformer.
    pub scale: f32,
    pub positions: Positions,
    pub encoding: Encoding,
}

/// Where a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Positions {
    /// The token of row `i` and column `j` is at `[col + j, row + i]`: from -2^31, or up to 2^32 - 1.
    From { col: i64, row: i64 },
    /// Read from a buffer of u32, or of i32 where `signed`: `[axes, batch, rows * cols]`, strides of axis and batch.
    Buffer { signed: bool, layout: Layout<2> },
}

impl Default for Positions {
    fn default() -> Self {
        Positions::From { col: 0, row: 0 }
    }
}

/// What is added.
#[derive(Debug, Clone, PartialEq)]
pub enum Encoding {
    /// A wave per element.
    Waves(Vec<Wave>),
    /// Rows of learned tables, by the first position and, where there is a second table, by the second.
    Learned { dtype: Dtype, table: Table, row_table: Option<Table> },
}

/// `sin(frequency * position)`, or the cosine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wave {
    /// Radians per position, from 0 to 65,536.
    pub frequency: f64,
    pub cosine: bool,
    pub axis: Axis,
}

/// The position that a wave goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Axis {
    /// The place along a row, or in a sequence: the first position of a token.
    #[default]
    Col,
    /// The second.
    Row,
}

/// `[len, dim]`, contiguous from element `offset` of its binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Table {
    pub len: usize,
    pub offset: usize,
}

/// How the sines and cosines of one axis stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// sin, cos, sin, cos, .. (Vaswani, DETR).
    #[default]
    Interleaved,
    /// All sines, then all cosines (tensor2tensor, Whisper, MAE, ViT).
    Halves,
}

impl Encoding {
    /// Of a sequence: two elements per frequency. Vaswani's are `Frequencies::new(dim, 10_000.0)` of
    /// [`rope`](crate::rope::Frequencies), interleaved; Whisper's `10000^(-i / (n - 1))` for i below `n = dim / 2`, in
    /// halves.
    pub fn sequence(frequencies: &[f64], order: Order) -> Encoding {
        Encoding::Waves(waves(frequencies, order, Axis::Col))
    }

    /// Of a picture: half of the elements by one axis, `first`, then half by the other; four elements per frequency.
    /// MAE: `Frequencies::new(dim / 2, 10_000.0)`, halves, columns first. ViT (Beyer et al., 2022): the same with
    /// `10000^(-i / (n - 1))`, `n = dim / 4`. DETR: as MAE, but interleaved, rows first, positions from 1; its normalized
    /// form has frequencies times `2 pi / (rows + 1e-6)`.
    pub fn picture(frequencies: &[f64], order: Order, first: Axis) -> Encoding {
        let second = if first == Axis::Col { Axis::Row } else { Axis::Col };
        Encoding::Waves([waves(frequencies, order, first), waves(frequencies, order, second)].concat())
    }

    /// Positions per token.
    pub fn axes(&self) -> usize {
        let two = match self {
            Encoding::Waves(waves) => waves.iter().any(|wave| wave.axis == Axis::Row),
            Encoding::Learned { row_table, .. } => row_table.is_some(),
        };
        1 + usize::from(two)
    }
}

fn waves(frequencies: &[f64], order: Order, axis: Axis) -> Vec<Wave> {
    let wave = |cosine| move |&frequency| Wave { frequency, cosine, axis };
    match order {
        Order::Interleaved => frequencies.iter().flat_map(|f| [wave(false)(f), wave(true)(f)]).collect(),
        Order::Halves => frequencies.iter().map(wave(false)).chain(frequencies.iter().map(wave(true))).collect(),
    }
}

impl Default for Problem {
    /// One token of two elements at position 0: sizes and frequencies are yours to set.
    fn default() -> Self {
        Problem {
            batch: 1,
            rows: 1,
            cols: 1,
            dim: 2,
            x: Dtype::F32,
            y: Dtype::F32,
            x_layout: Layout::default(),
            y_layout: Layout::default(),
            scale: 1.0,
            positions: Positions::default(),
            encoding: Encoding::sequence(&[1.0], Order::Interleaved),
        }
    }
}

/// How it is computed. `batches` is a parameter, the rest names a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Invocations per workgroup.
    pub wg_size: u32,
    /// Tokens at one position, of several batches, that an invocation adds one encoding to.
    pub batches: u32,
    pub form: Form,
}

/// What the Problem, the device and the buffers decide of a Config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    pub vec: u32,
    pub x: Storage,
    pub y: Storage,
    /// Of learned tables.
    pub table: Option<Storage>,
    /// There is a table by row, too.
    pub rows: bool,
    /// Positions come from a buffer.
    pub positions: bool,
    /// Words of a packed `y` are shared by tokens, or with what lies beside them.
    pub edge: bool,
    /// `x` is read from the binding of `y`. This and what follows is set by `prepare`.
    pub in_place: bool,
    /// Inputs that lie in a buffer that is written.
    pub x_writable: bool,
    pub positions_writable: bool,
    pub table_writable: bool,
    pub row_table_writable: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params {
        batches: u32,
        cols: u32,
        tokens: u32,
        dim: u32,
        chunks: u32,
        groups: u32,
        batches_per: u32,
        grid_x: u32,
        flags: u32,
        first_col: u32,
        first_row: u32,
        positions_offset: u32,
        positions_s0: u32,
        positions_s1: u32,
        table_offset: u32,
        row_table_offset: u32,
        max_col: u32,
        max_row: u32,
        x_offset: u32,
        x_s0: u32,
        x_s1: u32,
        x_s2: u32,
        y_offset: u32,
        y_s0: u32,
        y_s1: u32,
        y_s2: u32,
        scale: f32,
    }
}

/// The views that a Problem's layouts resolve to.
struct Views {
    x: View<3>,
    y: View<3>,
    positions: Option<View<2>>,
    table: Option<View<1>>,
    row_table: Option<View<1>>,
}

impl Views {
    fn all_multiple_of(&self, n: usize) -> bool {
        let tables = self.table.iter().chain(&self.row_table);
        self.x.multiple_of(n) && self.y.multiple_of(n) && tables.into_iter().all(|table| table.multiple_of(n))
    }
}

impl Problem {
    /// `[batch, rows, cols]`.
    pub fn sizes(&self) -> [usize; 3] {
        [self.batch, self.rows, self.cols]
    }

    /// The positions of a token, where no buffer tells: by column, by row.
    pub fn counted(&self, row: usize, col: usize) -> [i64; 2] {
        match self.positions {
            Positions::From { col: first, row: top } => {
                [first.saturating_add(col as i64), top.saturating_add(row as i64)]
            }
            Positions::Buffer { .. } => [0; 2],
        }
    }

    /// Whether positions have a sign.
    fn signed(&self) -> bool {
        match self.positions {
            Positions::From { col, row } => col < 0 || row < 0,
            Positions::Buffer { signed, .. } => signed,
        }
    }

    fn is_empty(&self) -> bool {
        self.dim == 0 || self.sizes().contains(&0)
    }

    fn views(&self) -> Result<Views> {
        let invalid = |arg, reason: String| Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg, reason } });
        check_sizes(OP, [("batch", self.batch), ("rows", self.rows), ("cols", self.cols), ("dim", self.dim)])?;
        if !self.scale.is_finite() {
            return invalid("scale", format!("{} is not finite", self.scale));
        }
        let (mut table, mut row_table) = (None, None);
        match &self.encoding {
            Encoding::Waves(waves) => {
                if waves.len() != self.dim {
                    return invalid("encoding", format!("{} waves for {} elements", waves.len(), self.dim));
                }
                if let Some(wave) = waves.iter().find(|wave| !(0.0..=65_536.0).contains(&wave.frequency)) {
                    let reason = format!("{} is not within 0 and 65,536 radians per position", wave.frequency);
                    return invalid("encoding", reason);
                }
            }
            Encoding::Learned { table: first, row_table: second, .. } => {
                let view = |arg: &'static str, table: &Table| match table.len {
                    0 => {
                        Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg, reason: "it has no rows".into() } })
                    }
                    len => Layout::<1>::at(table.offset).resolve(OP, arg, [len], self.dim),
                };
                table = Some(view("table", first)?);
                row_table = second.as_ref().map(|second| view("row_table", second)).transpose()?;
            }
        }
        let positions = match self.positions {
            Positions::From { col, row } => {
                let most = if self.signed() { i32::MAX as i64 } else { u32::MAX as i64 };
                for (first, count) in [(col, self.cols), (row, self.rows)] {
                    let last = first.saturating_add(count.max(1) as i64 - 1);
                    if first < i32::MIN as i64 || last > most {
                        return invalid("positions", format!("{first} to {last} do not fit in 32 bits"));
                    }
                }
                None
            }
            Positions::Buffer { layout, .. } => {
                let tokens = self.rows.saturating_mul(self.cols);
                Some(layout.resolve(OP, "positions", [self.encoding.axes(), self.batch], tokens)?)
            }
        };
        let x = self.x_layout.resolve(OP, "x", self.sizes(), self.dim)?;
        let y = self.y_layout.resolve(OP, "y", self.sizes(), self.dim)?;
        if !self.is_empty() && y.overlaps_itself() {
            return invalid("y_layout", format!("tokens overlap: strides {:?} for sizes {:?}", y.strides, y.sizes));
        }
        Ok(Views { x, y, positions, table, row_table })
    }

    /// The form of the Problem; `wish` may hold a dtype otherwise than is usual on this device.
    fn form(&self, caps: &Caps, views: &Views, wish: Option<Form>) -> Form {
        let storage = |wish, dtype| Storage::wished(wish, dtype, caps);
        let y = storage(wish.map(|f| f.y), self.y);
        let vec = match y {
            _ if views.all_multiple_of(4) => 4,
            y if y.packed() => 2,
            _ => 1,
        };
        Form {
            vec,
            x: storage(wish.map(|f| f.x), self.x),
            y,
            table: match &self.encoding {
                Encoding::Waves(_) => None,
                Encoding::Learned { dtype, .. } => Some(storage(wish.and_then(|f| f.table), *dtype)),
            },
            rows: views.row_table.is_some(),
            positions: views.positions.is_some(),
            edge: vec == 2 && !views.y.multiple_of(2),
            in_place: false,
            x_writable: false,
            positions_writable: false,
            table_writable: false,
            row_table_writable: false,
        }
    }

    /// Whether the tokens of all batches that have one place are at one position.
    fn shares_positions(&self, views: &Views) -> bool {
        views.positions.as_ref().is_none_or(|view| view.stride(1) == 0)
    }
}

/// A row of the table: the tiles of one class of adapters.
struct Row {
    class: Class,
    wg_size: u32,
    /// Batches per invocation, at most.
    batches: u32,
    /// Invocations to reach by giving each fewer batches.
    fill: u64,
}

/// Taken from rope, whose angles cost as much; not measured on GPUs yet.
const TABLE: [Row; 3] = [
    Row { class: Class::Software, wg_size: 64, batches: 16, fill: 256 },
    Row { class: Class::Integrated, wg_size: 128, batches: 4, fill: 1 << 14 },
    Row { class: Class::Discrete, wg_size: 256, batches: 4, fill: 1 << 17 },
];

/// The Config for this Problem on this device.
///
/// # Errors
/// Those of the Problem: sizes, layouts, frequencies.
pub fn choose(caps: &Caps, problem: &Problem) -> Result<Config> {
    let views = problem.views()?;
    let form = problem.form(caps, &views, None);
    let row = TABLE.iter().find(|row| row.class == caps.class()).unwrap_or(&TABLE[0]);
    let most = caps.most_invocations();
    let mut batches = if problem.shares_positions(&views) { row.batches } else { 1 };
    while batches > 1 && invocations(problem, &form, batches) < row.fill {
        batches /= 2;
    }
    let config = Config { wg_size: row.wg_size.min(most), batches, form };
    crate::kernels::print_choice(OP, problem, &config);
    Ok(config)
}

fn invocations(problem: &Problem, form: &Form, batches: u32) -> u64 {
    let tokens = problem.rows as u128 * problem.cols as u128;
    let all = tokens * u128::from(chunks(problem.dim, form.vec)) * problem.batch.div_ceil(batches as usize) as u128;
    all.min(u64::MAX.into()) as u64
}

/// `wg64 batches4 f32>f32x4 waves positions`: what differs, in a line.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { wg_size, batches, form } = self;
        write!(f, "wg{wg_size} ")?;
        if *batches > 0 {
            write!(f, "batches{batches} ")?;
        }
        f.write_str(&format!("{:?}>{:?}x{}", form.x, form.y, form.vec).to_lowercase())?;
        match form.table {
            None => f.write_str(" waves")?,
            Some(storage) => f.write_str(&format!(" table_{storage:?}").to_lowercase())?,
        }
        write_flags(
            f,
            &[
                ("rows", form.rows),
                ("positions", form.positions),
                ("edge", form.edge),
                ("in_place", form.in_place),
                ("x_writable", form.x_writable),
                ("positions_writable", form.positions_writable),
                ("table_writable", form.table_writable),
                ("row_table_writable", form.row_table_writable),
            ],
        )
    }
}

impl Config {
    /// Whether the Config can run this Problem on this device.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn fits(&self, caps: &Caps, problem: &Problem) -> Result<(), Misfit> {
        let most = caps.most_invocations().min(1024);
        let misfit = |what, have, limit| Err(Misfit::old(what, have, limit));
        // Numbers of invocations are u32, those past the end of the grid included.
        let room = u64::from(u32::MAX) - (1 << 26);
        let shares = problem.views().is_ok_and(|views| problem.shares_positions(&views));
        match invocations(problem, &self.form, self.batches.max(1)) {
            _ if self.wg_size == 0 || self.wg_size > most => {
                misfit("wg_size must be at least 1 and at most", self.wg_size, most)
            }
            _ if self.batches == 0 => misfit("batches must be at least", 0, 1),
            _ if self.batches > 1 && !shares => {
                misfit("batches, where each has positions of its own,", self.batches, 1)
            }
            need if need > room => misfit("invocations", need.min(u32::MAX.into()) as u32, room as u32),
            _ => Ok(()),
        }
    }

    /// The pipeline that it names.
    pub fn pass(&self) -> Pass {
        Pass { config: Config { batches: 0, ..*self } }
    }
}

/// The pipeline of a Config.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pass {
    config: Config,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.config)
    }
}

const X: u32 = 0;
const Y: u32 = 1;
const POSITIONS: u32 = 2;
const TABLE_OR_WAVES: u32 = 3;
const ROW_TABLE: u32 = 4;

impl Pipeline for Pass {
    fn shader(&self) -> Shader {
        let Config { wg_size, form, .. } = self.config;
        let mut shader = Shader::new(OP, wg_size, 0, form.vec).params::<Params>().flag("HAS_POSITIONS", form.positions);
        let input =
            |binding, name, storage, writable| Tensor { binding, name, storage, writable, output: false, edge: false };
        let y = Tensor { binding: Y, name: "y", storage: form.y, writable: true, output: true, edge: form.edge };
        shader = match form.in_place {
            true => shader.tensor(y).tensor_in_place("x", y),
            false => shader.tensor(input(X, "x", form.x, form.x_writable)).tensor(y),
        };
        shader = match form.positions {
            true => shader.buffer(POSITIONS, "positions", "u32", form.positions_writable).import("positions"),
            false => shader.import("positions_none"),
        };
        let Some(storage) = form.table else {
            let shader = shader.buffer(TABLE_OR_WAVES, "waves", "vec2<u32>", false);
            return shader.gather("wave").import("position_encoding_waves");
        };
        shader =
            shader.tensor(input(TABLE_OR_WAVES, "table", storage, form.table_writable)).flag("HAS_ROWS", form.rows);
        shader = match form.rows {
            true => shader.tensor(input(ROW_TABLE, "row_table", storage, form.row_table_writable)),
            false => shader.import("position_encoding_rows_none"),
        };
        shader.import("position_encoding_table")
    }
}

/// Which memory.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    x: Binding<'a>,
    y: Binding<'a>,
    positions: Option<Binding<'a>>,
    table: Option<Binding<'a>>,
    row_table: Option<Binding<'a>>,
}

impl<'a> Buffers<'a> {
    /// `x` is read, `y` written; they may be the same view, where dtypes and layouts are equal.
    pub fn new(x: impl Into<Binding<'a>>, y: impl Into<Binding<'a>>) -> Self {
        Buffers { x: x.into(), y: y.into(), positions: None, table: None, row_table: None }
    }

    /// The result takes the place of `x`.
    pub fn in_place(x: impl Into<Binding<'a>>) -> Self {
        let x = x.into();
        Self::new(x, x)
    }

    /// The positions that the Problem asks for.
    pub fn positions(mut self, positions: impl Into<Binding<'a>>) -> Self {
        self.positions = Some(positions.into());
        self
    }

    /// The learned table that the Problem asks for.
    pub fn table(mut self, table: impl Into<Binding<'a>>) -> Self {
        self.table = Some(table.into());
        self
    }

    /// The learned table by row that the Problem asks for.
    pub fn row_table(mut self, table: impl Into<Binding<'a>>) -> Self {
        self.row_table = Some(table.into());
        self
    }
}

prepare_by!(plan);

fn plan(kernels: &Kernels, problem: &Problem, config: Option<&Config>, buffers: &Buffers) -> Result<Dispatch> {
    let caps = kernels.caps();
    let views = problem.views()?;
    given(OP, "positions", views.positions.is_some(), buffers.positions.is_some())?;
    given(OP, "table", views.table.is_some(), buffers.table.is_some())?;
    given(OP, "row_table", views.row_table.is_some(), buffers.row_table.is_some())?;
    if problem.is_empty() {
        return Ok(Dispatch::nothing(OP));
    }
    let mut config = match config {
        Some(config) => Config { form: problem.form(&caps, &views, Some(config.form)), ..*config },
        None => choose(&caps, problem)?,
    };
    config.fits(&caps, problem).map_err(|misfit| misfit.error(OP))?;

    let bits = |dtype: Dtype| 8 * dtype.bytes();
    let mut args = vec![
        Arg::new(X, "x", buffers.x, bits(problem.x), &views.x, false),
        Arg::new(Y, "y", buffers.y, bits(problem.y), &views.y, true),
    ];
    if let (Some(binding), Some(view)) = (buffers.positions, &views.positions) {
        args.push(Arg::new(POSITIONS, "positions", binding, 32, view, false));
    }
    if let Encoding::Learned { dtype, .. } = &problem.encoding {
        for (slot, name, binding, view) in [
            (TABLE_OR_WAVES, "table", buffers.table, &views.table),
            (ROW_TABLE, "row_table", buffers.row_table, &views.row_table),
        ] {
            if let (Some(binding), Some(view)) = (binding, view) {
                args.push(Arg::new(slot, name, binding, bits(*dtype), view, false));
            }
        }
    }
    let same_rows = problem.x == problem.y && views.x.same_rows(&views.y);
    let in_place = same_rows && args[0].same_first(&args[1]);
    // Views that interleave share a bound range, which browsers refuse.
    let interleaved = caps.backend != wgpu::Backend::BrowserWebGpu
        && problem.x == problem.y
        && args[0].same_start(&args[1])
        && views.x.interleaves(&views.y);
    check_all(OP, &caps, &args, |i, j| (i, j) == (0, 1) && (in_place || interleaved))?;
    let form = &mut config.form;
    form.in_place = in_place;
    form.x_writable = !in_place && read_write(&args, X);
    form.positions_writable = read_write(&args, POSITIONS);
    form.table_writable = form.table.is_some() && read_write(&args, TABLE_OR_WAVES);
    form.row_table_writable = read_write(&args, ROW_TABLE);

    let grid = fold(OP, &caps, invocations(problem, form, config.batches).div_ceil(config.wg_size.into()))?;
    let (col, row) = match problem.positions {
        Positions::From { col, row } => (col, row),
        Positions::Buffer { .. } => (0, 0),
    };
    let table = |view: &Option<View<1>>| view.as_ref().map_or((0, 1), |v| (v.offset as u32, v.sizes[0] as u32));
    let ((table_offset, max_col), (row_table_offset, max_row)) = (table(&views.table), table(&views.row_table));
    // In place, x is read through the binding of y.
    let [x, y] = [if in_place { &views.y } else { &views.x }, &views.y];
    let params = Params {
        batches: problem.batch as u32,
        cols: problem.cols as u32,
        tokens: (problem.rows * problem.cols) as u32,
        dim: problem.dim as u32,
        chunks: chunks(problem.dim, form.vec),
        groups: (problem.batch as u32).div_ceil(config.batches),
        batches_per: config.batches,
        grid_x: grid[0],
        flags: problem.signed().into(),
        first_col: col as u32,
        first_row: row as u32,
        positions_offset: views.positions.as_ref().map_or(0, |view| view.offset as u32),
        positions_s0: views.positions.as_ref().map_or(0, |view| view.stride(0)),
        positions_s1: views.positions.as_ref().map_or(0, |view| view.stride(1)),
        table_offset,
        row_table_offset,
        max_col,
        max_row,
        x_offset: x.offset as u32,
        x_s0: x.stride(0),
        x_s1: x.stride(1),
        x_s2: x.stride(2),
        y_offset: y.offset as u32,
        y_s0: y.stride(0),
        y_s1: y.stride(1),
        y_s2: y.stride(2),
        scale: problem.scale,
    };
    let table;
    if let Encoding::Waves(waves) = &problem.encoding {
        table = kernels.table_of(OP, words(waves))?;
        let elements = 0..2 * waves.len() as u64;
        let binding = Binding::from(&table);
        args.push(Arg { slot: TABLE_OR_WAVES, name: "waves", binding, element_bits: 32, elements, writes: false });
    }
    let pass = kernels.pipeline(OP, &config.pass())?;
    Ok(Dispatch::new(OP, kernels, &args, &params, vec![(pass, grid)]))
}

/// Two words per wave: a fraction of a turn to 2^-62, below it whether it is a cosine and its axis.
fn words(waves: &[Wave]) -> Vec<u32> {
    let word = |wave: &Wave| {
        let turns = turns(wave.frequency).wrapping_add(2) & !3;
        [(turns >> 32) as u32, turns as u32 | u32::from(wave.cosine) | u32::from(wave.axis == Axis::Row) << 1]
    };
    waves.iter().flat_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_in_words() {
        let Encoding::Waves(all) = Encoding::picture(&[1.0], Order::Halves, Axis::Row) else { unreachable!() };
        // 1 / 2 pi = 0x28be60db9391054a, rounded to 0x..4c: sine and cosine by row, then by column.
        let (high, low) = (0x28be_60db, 0x9391_054c);
        assert_eq!(words(&all), [high, low | 2, high, low | 3, high, low, high, low | 1]);
    }

    #[test]
    fn orders() {
        let text = |encoding| match encoding {
            Encoding::Waves(all) => all
                .iter()
                .map(|w| format!("{}{}{}", if w.cosine { "c" } else { "s" }, w.frequency, ["x", "y"][w.axis as usize]))
                .collect::<Vec<_>>()
                .join(" "),
            Encoding::Learned { .. } => unreachable!(),
        };
        assert_eq!(text(Encoding::sequence(&[1.0, 2.0], Order::Interleaved)), "s1x c1x s2x c2x");
        assert_eq!(text(Encoding::sequence(&[1.0, 2.0], Order::Halves)), "s1x s2x c1x c2x");
        let mae = Encoding::picture(&[1.0, 2.0], Order::Halves, Axis::Col);
        assert_eq!(text(mae), "s1x s2x c1x c2x s1y s2y c1y c2y");
        let detr = Encoding::picture(&[1.0, 2.0], Order::Interleaved, Axis::Row);
        assert_eq!(text(detr), "s1y c1y s2y c2y s1x c1x s2x c2x");
    }
}
