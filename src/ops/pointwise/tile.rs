//! What ops on elements have in common: the Config and its table, and how invocations share rows and columns.

use crate::layout::{chunks, rows_divide, split_rows};
use crate::ops::prelude::*;

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Chunks of a row that an invocation takes.
        pub columns: u32,
        /// These lie next to each other; else neighbouring invocations have neighbouring chunks.
        pub adjacent: bool,
        /// Rows that it takes, one after the other.
        pub rows: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

/// The tile of one class of adapters.
struct Row {
    adapters: Adapters,
    wg_size: u32,
    columns: u32,
    adjacent: bool,
    /// Rows at most, where none are summed.
    rows: u32,
    /// Invocations to reach by taking fewer rows.
    fill: u64,
}

/// Not measured yet on GPUs. On a CPU, adjacent chunks lie in one line of its cache (relu of 1024x1024 on Mesa 26.2 lavapipe: 1.3 to 1.6
/// times as fast).
const TABLE: [Row; 3] = [
    Row { adapters: Class::Software.any(), wg_size: 64, columns: 4, adjacent: true, rows: 64, fill: 1 << 13 },
    Row { adapters: Class::Integrated.any(), wg_size: 128, columns: 4, adjacent: false, rows: 8, fill: 1 << 14 },
    Row { adapters: Class::Discrete.any(), wg_size: 256, columns: 4, adjacent: false, rows: 8, fill: 1 << 17 },
];

/// Blocks of rows whose sums are added up in a step of their own, as long as none is shorter or longer than these.
const BLOCKS: usize = 256;
const BLOCK_ROWS: [usize; 2] = [32, 1 << 12];

/// What an op goes over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub rows: usize,
    pub cols: usize,
    /// Elements per chunk.
    pub vec: u32,
    /// Sums over rows that are taken of each column.
    pub sums: u32,
    /// Some tensor is f16.
    pub f16: bool,
}

/// How invocations share it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    pub rows: u32,
    pub cols: u32,
    /// Neighbouring invocations with neighbouring chunks.
    pub lanes: u32,
    /// Runs of `lanes * columns` chunks in a row.
    pub groups: u32,
    /// Blocks of rows.
    pub blocks: u32,
    /// Rows of a block.
    pub block_rows: u32,
    /// Workgroups.
    pub workgroups: u64,
}

/// Params of views, of what the walk needs, and of what an op has besides. In place, an input is read through the binding of an output.
macro_rules! walk_params {
    (fn of($($arg:ident: $arg_ty:ty),*); [$($view:ident = $at:expr),*] $($field:ident: $ty:tt = $value:expr,)*) => {
        $crate::params! {
            /// What one run tells the shader.
            pub struct Params;
            fn of($($arg: $arg_ty,)* dims: [usize; 2], walk: Walk, grid_x: u32) {
                $($view: Strides = $at,)*
                rows: u32 = walk.rows,
                cols: u32 = walk.cols,
                n1: u32 = dims[0] as u32,
                n2: u32 = dims[1] as u32,
                lanes: u32 = walk.lanes,
                groups: u32 = walk.groups,
                blocks: u32 = walk.blocks,
                block_rows: u32 = walk.block_rows,
                grid_x: u32 = grid_x,
                $($field: $ty = $value,)*
            }
        }
    };
}

pub(super) use walk_params;

/// Every Config of the table, the best first.
pub(super) fn candidates(caps: &Caps, of: &Area) -> Vec<Config> {
    let &Row { wg_size, columns, adjacent, rows, fill, .. } = caps.row(&TABLE, |row| row.adapters);
    let native_f16 = caps.prefers_native_f16(of.f16);
    let one = Config { wg_size: wg_size.min(caps.most_invocations()), columns, adjacent, rows: 1, native_f16 };
    let rows = match of.sums > 0 {
        true => of.rows.div_ceil(BLOCKS).clamp(BLOCK_ROWS[0], BLOCK_ROWS[1]) as u32,
        false => {
            let walk = one.walk(of);
            let invocations = product!(walk.groups, walk.lanes, walk.blocks);
            (invocations / fill).clamp(1, rows.into()) as u32
        }
    };
    let best = Config { rows, ..one };
    vec![best, Config { adjacent: !adjacent, ..best }, Config { columns: 1, adjacent: false, ..best }]
}

impl Config {
    pub(super) fn walk(&self, of: &Area) -> Walk {
        let Config { wg_size, columns, rows, .. } = *self;
        // The largest power of two that divides the workgroup, if a row has as many chunks.
        let lanes = 1u32.checked_shl(wg_size.trailing_zeros()).unwrap_or(1);
        let chunks = chunks(of.cols, of.vec);
        let needed = chunks.div_ceil(columns.max(1)).checked_next_power_of_two();
        let lanes = needed.map_or(lanes, |needed| needed.min(lanes));
        let groups = chunks.div_ceil(lanes.saturating_mul(columns).max(1));
        let blocks = u32::try_from(of.rows.div_ceil(rows.max(1) as usize)).unwrap_or(u32::MAX);
        let workgroups = product!(groups, blocks.div_ceil((wg_size / lanes).max(1)));
        Walk { rows: of.rows as u32, cols: of.cols as u32, lanes, groups, blocks, block_rows: rows, workgroups }
    }

    /// The first thing that does not fit this device.
    pub(super) fn check(&self, caps: &Caps, of: &Area) -> Result<(), Misfit> {
        let Config { wg_size, columns, adjacent, rows, native_f16 } = *self;
        caps.check_wg_size(wg_size)?;
        caps.check_native_f16(native_f16, of.f16)?;
        Misfit::unless((1..=64).contains(&columns), "columns must be 1 to 64", columns)?;
        Misfit::unless(
            !adjacent || columns > 1,
            "adjacent chunks are more than one: columns must be 2 or more",
            columns,
        )?;
        Misfit::unless((1..=1 << 16).contains(&rows), "rows must be 1 to 65536", rows)?;
        let each = Rounds::plain(columns);
        caps.check_rounds(each.times(2 * u64::from(of.sums)) + Rounds::nest(rows, each))?;
        if of.sums > 0 {
            caps.check_rounds(Rounds::plain(self.walk(of).blocks))?;
        }
        Misfit::at_most("words of scratch, which shaders must count", self.sums_bytes(of) / 4, u64::from(u32::MAX))
    }

    /// Bytes of the sums of all blocks.
    pub(super) fn sums_bytes(&self, of: &Area) -> u64 {
        product!(4u32, of.sums, self.walk(of).blocks, of.cols)
    }

    /// What `pointwise_walk.wgsl` needs; `one_row`: there is no other row.
    pub(super) fn declare(&self, shader: Shader, one_row: bool) -> Shader {
        shader.constant("COLUMNS", self.columns).flag("ADJACENT", self.adjacent).flag("ONE_ROW", one_row)
    }

    /// As the key of a pipeline: rows are a parameter.
    pub(super) fn key(&self) -> Config {
        Config { rows: 1, ..*self }
    }
}

/// Checks sizes; `[n0, n1, n2]` of rows.
pub(super) fn check_sizes(rows: usize, cols: usize, dims: [usize; 2]) -> Checked<[usize; 3]> {
    rows_divide(rows, dims)?;
    sizes_fit([("rows", rows), ("cols", cols)])?;
    Ok(split_rows(rows, dims))
}

/// Whether tensors of these views, which have elements, can be gone through as one row.
pub(super) fn in_a_row<'a>(mut views: impl Iterator<Item = &'a View<3>>) -> bool {
    views.all(|view| view.end > 0 && view.is_contiguous() && flat(view).inner <= i32::MAX as usize)
}

/// `view` as one row, which those of a contiguous tensor make together.
pub(super) fn flat(view: &View<3>) -> View<3> {
    let inner = view.sizes.iter().fold(view.inner, |all, &n| all.saturating_mul(n));
    View { sizes: [1; 3], strides: [0; 3], inner, ..*view }
}

/// An input, or where it is in place the output that it is read from, and whether words of that are shared.
pub(super) fn input(
    shader: Shader,
    (slot, name, storage): (u32, &'static str, Storage),
    output: Option<(&'static str, bool)>,
) -> Shader {
    match output {
        Some((of, edge)) => shader.in_place(name, of, storage, edge),
        None => shader.input(slot, name, storage),
    }
}
