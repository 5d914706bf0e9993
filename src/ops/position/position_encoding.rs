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
//! # Gradients
//! dx is `scale * dy` ([`axpby`](crate::axpby)). That of a table is dy summed by position: [`vq_scatter`](crate::vq_scatter) of the positions of
//! its axis, with [`OutOfRange::Nearest`](crate::vq_lookup::OutOfRange::Nearest), f32, written or added; where positions of sequences are
//! counted and none is outside, [`column_sums`](crate::column_sums) over the batches.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores, against a vec4 copy in the same run (`loom bench`): `[8, 1024, 1024]` f32 8.6 ms,
//! 68 % of the copy, f16 10.4 ms, 27 %; of one batch 4.4 ms, 17 %, since nothing shares its angles; learned 8.1 ms, 80 %.

use super::frequencies::{check_frequency, turns};
use super::tile;
use crate::layout::chunks;
use crate::ops::prelude::*;

pub use super::tile::Config;

defaults! {
    /// What is computed. `x` and `y` are `[batch, rows, cols, dim]`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Problem {
        /// Pictures or sequences.
        pub batch: usize = 1,
        /// Rows of tokens: 1 for sequences.
        pub rows: usize = 1,
        /// Tokens per row.
        pub cols: usize = 1,
        /// Elements per token.
        pub dim: usize = 2,
        /// Dtype of `x`.
        pub x: Dtype = Dtype::F32,
        /// Dtype of `y`.
        pub y: Dtype = Dtype::F32,
        /// Where the tokens of `x` lie: strides of batch, row and column.
        pub x_layout: Layout<3> = Layout::default(),
        /// Where those of `y` lie. Tokens must not overlap.
        pub y_layout: Layout<3> = Layout::default(),
        /// Multiplies `x` before the encoding is added: sqrt(dim) in Vaswani's transformer.
        pub scale: f32 = 1.0,
        /// Where the tokens are.
        pub positions: Positions = Positions::default(),
        /// What is added.
        pub encoding: Encoding = Encoding::sequence(&[1.0], Order::Interleaved),
    }
}

/// Where a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Positions {
    /// The token of row `i` and column `j` is at `[col + j, row + i]`: from -2^31, or up to 2^32 - 1.
    From {
        /// The position of the first column.
        col: i64,
        /// The position of the first row.
        row: i64,
    },
    /// Read from a buffer `[axes, batch, rows * cols]`.
    Buffer {
        /// Of i32 rather than u32.
        signed: bool,
        /// Strides of axis and batch.
        layout: Layout<2>,
    },
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
    Learned {
        /// Dtype of the tables.
        dtype: Dtype,
        /// By the first position.
        table: Table,
        /// By the second.
        row_table: Option<Table>,
    },
}

/// `sin(frequency * position)`, or the cosine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wave {
    /// Radians per position, from 0 to 65,536.
    pub frequency: f64,
    /// The cosine rather than the sine.
    pub cosine: bool,
    /// The position that it goes by.
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
    /// Rows.
    pub len: usize,
    /// The element of its binding at which it starts.
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

crate::params! {
    /// What one run tells the shader. In place, x is read through the binding of y.
    pub struct Params;
    fn of(problem: &Problem, views: &Views, config: &Config, form: &Form, grid_x: u32) {
        x: Strides = if form.in_place { views.y.params() } else { views.x.params() },
        y: Strides = views.y.params(),
        positions: Strides = views.positions.map_or([0; 4], |view| view.params()),
        batches: u32 = problem.batch as u32,
        cols: u32 = problem.cols as u32,
        tokens: u32 = product!(problem.rows, problem.cols) as u32,
        dim: u32 = problem.dim as u32,
        chunks: u32 = chunks(problem.dim, form.vec),
        groups: u32 = (problem.batch as u32).div_ceil(config.share),
        batches_per: u32 = config.share,
        grid_x: u32 = grid_x,
        signed: u32 = problem.signed().into(),
        first_col: u32 = problem.counted(0, 0)[0] as u32,
        first_row: u32 = problem.counted(0, 0)[1] as u32,
        table_offset: u32 = views.table.map_or(0, |table| table.offset as u32),
        row_table_offset: u32 = views.row_table.map_or(0, |table| table.offset as u32),
        max_col: u32 = views.table.map_or(1, |table| table.sizes[0] as u32),
        max_row: u32 = views.row_table.map_or(1, |table| table.sizes[0] as u32),
        scale: f32 = problem.scale,
    }
}

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    vec: u32,
    x: Storage,
    y: Storage,
    /// Of learned tables.
    table: Option<Storage>,
    /// There is a table by row, too.
    rows: bool,
    /// Positions come from a buffer.
    positions: bool,
    /// Words of a packed `y` are shared by tokens, or with what lies beside them.
    edge: bool,
    /// `x` is read from the binding of `y`.
    in_place: bool,
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    x: View<3>,
    y: View<3>,
    positions: Option<View<2>>,
    table: Option<View<1>>,
    row_table: Option<View<1>>,
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

    /// Dtype of the learned tables.
    fn learned(&self) -> Option<Dtype> {
        match self.encoding {
            Encoding::Waves(_) => None,
            Encoding::Learned { dtype, .. } => Some(dtype),
        }
    }

    fn has_f16(&self) -> bool {
        [Some(self.x), Some(self.y), self.learned()].contains(&Some(Dtype::F16))
    }

    fn form(&self, views: &Views, config: &Config) -> Form {
        let held = |dtype| Storage::held(dtype, config.native_f16);
        let mut tables = views.table.iter().chain(&views.row_table);
        let vec = match held(self.y) {
            _ if views.x.multiple_of(4) && views.y.multiple_of(4) && tables.all(|table| table.multiple_of(4)) => 4,
            y if y.packed() => 2,
            _ => 1,
        };
        Form {
            vec,
            x: held(self.x),
            y: held(self.y),
            table: self.learned().map(held),
            rows: views.row_table.is_some(),
            positions: views.positions.is_some(),
            edge: vec == 2 && !views.y.multiple_of(2),
            in_place: false,
        }
    }

    /// The pipeline: its key knows no share, which is a parameter.
    fn pass(&self, views: &Views, config: &Config, writable: Slots, in_place: bool) -> Pass<Config, Form> {
        let form = Form { in_place, ..self.form(views, config) };
        Pass { stem: "position_encoding", config: Config { share: 1, ..*config }, form, writable }
    }

    fn invocations(&self, form: &Form, config: &Config) -> u64 {
        let groups = self.batch.div_ceil(config.share as usize);
        product!(self.rows, self.cols, chunks(self.dim, form.vec), groups)
    }
}

slots!(X, Y, POSITIONS, TABLE_OR_WAVES, ROW_TABLE);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, x, y, table, rows, positions, edge, in_place } = self.form;
        let shader = self.begin(self.config.wg_size, 0, vec).params::<Params>();
        let shader = tile::in_out(shader, (X, "x", x), (Y, "y", y), edge, in_place);
        let shader = shader.table(POSITIONS, "positions", "u32", positions);
        let Some(storage) = table else {
            let shader = shader.reads(TABLE_OR_WAVES, "waves", "vec2<u32>").constants(WAVE_BITS).lanes(1);
            return shader.gather("wave").import("position_encoding_waves");
        };
        let shader = shader.input(TABLE_OR_WAVES, "table", storage).flag("HAS_ROWS", rows);
        let shader = match rows {
            true => shader.input(ROW_TABLE, "row_table", storage),
            false => shader.no_input("row_table", "0.0"),
        };
        shader.import("position_encoding_table")
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` is read, `y` written; they may be the same view, where dtypes and layouts are equal.
        x, y;
        /// The positions that the Problem asks for.
        positions,
        /// The learned table that the Problem asks for.
        table,
        /// The learned table by row that the Problem asks for.
        row_table,
    }
}

impl<'a> Buffers<'a> {
    /// The result takes the place of `x`.
    pub fn in_place(x: impl Into<Binding<'a>>) -> Self {
        let x = x.into();
        Self::new(x, x)
    }
}

functions!("position_encoding");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let Problem { batch, rows, cols, dim, scale, .. } = *self;
        sizes_fit([("batch", batch), ("rows", rows), ("cols", cols), ("dim", dim)])?;
        if !scale.is_finite() {
            return Err(ErrorKind::invalid("scale", format!("{scale} is not finite")));
        }
        let (mut table, mut row_table) = (None, None);
        match &self.encoding {
            Encoding::Waves(waves) if waves.len() != dim => {
                return Err(ErrorKind::invalid("encoding", format!("{} waves for {dim} elements", waves.len())));
            }
            Encoding::Waves(waves) => {
                waves.iter().try_for_each(|wave| check_frequency("encoding", wave.frequency))?;
            }
            Encoding::Learned { table: first, row_table: second, .. } => {
                let view = |arg, table: &Table| match table.len {
                    0 => Err(ErrorKind::invalid(arg, "it has no rows")),
                    len => Layout::<1>::at(table.offset).view(arg, [len], dim),
                };
                table = Some(view("table", first)?);
                row_table = second.as_ref().map(|second| view("row_table", second)).transpose()?;
            }
        }
        let positions = match self.positions {
            Positions::From { col, row } => {
                tile::check_counted(&[(col, cols), (row, rows)])?;
                None
            }
            Positions::Buffer { layout, .. } => {
                Some(layout.view("positions", [self.encoding.axes(), batch], rows.saturating_mul(cols))?)
            }
        };
        let x = self.x_layout.view("x", self.sizes(), dim)?;
        let y = self.y_layout.view("y", self.sizes(), dim)?.apart("y_layout")?;
        Ok(Views { x, y, positions, table, row_table })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        tile::candidates(caps, self.has_f16(), |config| self.invocations(&self.form(views, config), config))
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, self.has_f16(), |config| self.invocations(&self.form(views, config), config))?;
        let shared = views.positions.is_none_or(|view| view.stride(1) == 0);
        Misfit::unless(
            shared || config.share == 1,
            "share must be 1 where batches have their own positions",
            config.share,
        )
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(views, config, writable, false).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        let table_of = |view: Option<View<1>>| view.zip(self.learned()).map(|(view, dtype)| view.of(dtype));
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.write(Y, "y", buffers.y, views.y.of(self.y))?;
        args.read(POSITIONS, "positions", buffers.positions, views.positions.map(|view| view.of(WORD)))?;
        args.read(TABLE_OR_WAVES, "table", buffers.table, table_of(views.table))?;
        args.read(ROW_TABLE, "row_table", buffers.row_table, table_of(views.row_table))?;
        if self.dim == 0 || self.sizes().contains(&0) {
            return Ok(Dispatch::default());
        }
        let in_place = args.in_place(X, Y);
        args.interleave(X, Y);
        args.check()?;

        let pass = self.pass(views, config, args.writable(), in_place);
        if let Encoding::Waves(waves) = &self.encoding {
            args.table(TABLE_OR_WAVES, "waves", &words(waves))?;
        }
        let grid = args.fold(self.invocations(&pass.form, config).div_ceil(config.wg_size.into()))?;
        args.dispatch(&[pass], &Params::of(self, views, config, &pass.form, grid[0]), grid)
    }
}

/// The two lowest bits of a wave: it is a cosine, it goes by the second position.
const WAVE_BITS: [(&str, u32); 2] = [("COSINE", 1), ("SECOND", 2)];

/// Two words per wave: a fraction of a turn to 2^-62, and [`WAVE_BITS`] below it.
fn words(waves: &[Wave]) -> Vec<u32> {
    let [(_, cosine), (_, second)] = WAVE_BITS;
    let word = |wave: &Wave| {
        let turns = turns(wave.frequency).wrapping_add(2) & !3;
        let set = |bit, on| if on { bit } else { 0 };
        [(turns >> 32) as u32, turns as u32 | set(cosine, wave.cosine) | set(second, wave.axis == Axis::Row)]
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
