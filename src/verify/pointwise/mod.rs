//! How calls of the family `pointwise` are made and judged.

pub mod activation;
pub mod activation_backward;
pub mod axpby;
pub mod column_sums;
pub mod dropout;

use crate::Layout;
use crate::layout::split_rows;
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like};

/// Values of rows of `cols`, some rows with an offset, some large, some small.
fn rows(len: usize, cols: usize, random: &mut Random) -> Vec<f64> {
    const ROWS: [(f64, f64); 4] = [(1.0, 0.3), (0.01, 3.0), (1.0, 0.0), (3.0, -4.0)];
    let values = random.outliers(len);
    let at = |(i, v): (usize, f64)| {
        let (spread, shift) = ROWS[i / cols.max(1) % 4];
        shift + spread * v
    };
    values.into_iter().enumerate().map(at).collect()
}

/// What a Problem goes over.
#[derive(Debug, Clone, Copy)]
struct Area {
    rows: usize,
    cols: usize,
    dims: [usize; 2],
}

/// A Problem of fewer rows and columns that runs the same shaders; of one that is gone through as one row (`in_a_row`), one that is,
/// too, with the alignment of that. `problem` makes it of an area and layouts, of which those of the output come last.
fn smaller<P, const N: usize>(
    of: Area,
    layouts: [Layout<3>; N],
    one: bool,
    [most, cols]: [usize; 2],
    problem: impl Fn(Area, [Layout<3>; N]) -> P,
    in_a_row: impl Fn(&P) -> bool,
) -> P {
    if one {
        let cols = like(of.rows.saturating_mul(of.cols), cols);
        return problem(Area { rows: 1, cols, dims: [1, 1] }, layouts.map(|layout| Layout::at(layout.offset % 8)));
    }
    let (area, mut layouts) = fewer(of, layouts, [most, cols]);
    let (sizes, cols) = (split_rows(area.rows, area.dims), area.cols);
    let found = problem(area, layouts);
    if !in_a_row(&found) {
        return found;
    }
    // Rows that do not follow each other, with the same alignment.
    let step = cols + 8;
    layouts[N - 1].strides = Some([sizes[1] * sizes[2] * step, sizes[2] * step, step]);
    problem(area, layouts)
}

/// The same of one that goes by columns.
fn smaller_columns<P, const N: usize>(
    of: Area,
    layouts: [Layout<3>; N],
    size: [usize; 2],
    problem: impl Fn(Area, [Layout<3>; N]) -> P,
) -> P {
    let (area, layouts) = fewer(of, layouts, size);
    problem(area, layouts)
}

/// Fewer rows and columns, with layouts of the same alignment.
fn fewer<const N: usize>(of: Area, layouts: [Layout<3>; N], [most, cols]: [usize; 2]) -> (Area, [Layout<3>; N]) {
    let (rows, dims) = small::rows(of.rows, of.dims, most);
    let (sizes, cols) = (split_rows(rows, dims), like(of.cols, cols));
    (Area { rows, cols, dims }, layouts.map(|layout| laid(layout, sizes, cols)))
}
