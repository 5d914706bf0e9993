//! What ops have in common that make `y` of `x`, or of `x` and another input, element by element.

use super::tile::{self, Area, Config, Walk};
use crate::layout::chunking;
use crate::ops::prelude::*;

slots!(pub(super) X, OTHER, Y, NEXT);

/// Where the elements of an argument lie, and what they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tensor {
    view: View<3>,
    dtype: Dtype,
}

/// The arguments: where all are contiguous, and nothing goes by columns, as one row.
pub(crate) struct Pair {
    x: Tensor,
    /// What it is called.
    name: &'static str,
    other: Option<Tensor>,
    y: Tensor,
    /// What else is gone through by the same chunks.
    along: Vec<View<3>>,
    pub(super) rows: usize,
    /// Something is f16.
    f16: bool,
}

/// What follows from them, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    pub vec: u32,
    /// There is no other row.
    one_row: bool,
    x: Storage,
    other: Option<Storage>,
    y: Storage,
    /// Words of a packed `y` are shared by rows, or with what lies beside them.
    edge: bool,
    /// `x`, and the other input, are read from the binding of `y`.
    in_place: [bool; 2],
}

/// An argument as a Problem has it.
pub(super) type Given = (Dtype, Layout<3>);

/// One value per column.
pub(super) type Column = (View<1>, Dtype);

impl Pair {
    /// Of `[rows, cols]`, with `dims`. `columns` are those biases that there are.
    pub fn resolve(
        (rows, cols, dims): (usize, usize, [usize; 2]),
        x: Given,
        (name, other): (&'static str, Option<Given>),
        y: Given,
        columns: &[Column],
    ) -> Checked<Pair> {
        let sizes = tile::check_sizes(rows, cols, dims)?;
        let tensor =
            |name, (dtype, layout): Given| Ok::<_, ErrorKind>(Tensor { view: layout.view(name, sizes, cols)?, dtype });
        let (x, other, y) = (tensor("x", x)?, other.map(|other| tensor(name, other)).transpose()?, tensor("y", y)?);
        y.view.apart("y_layout")?;
        let along = columns.iter().map(|(view, _)| view.padded()).collect();
        let dtypes = [x, y].into_iter().chain(other).map(|tensor| tensor.dtype);
        let f16 = dtypes.chain(columns.iter().map(|&(_, dtype)| dtype)).any(|dtype| dtype == Dtype::F16);
        let pair = Pair { x, name, other, y, along, rows, f16 };
        Ok(match columns.is_empty() && tile::in_a_row(pair.all().map(|tensor| &tensor.view)) {
            true => pair.flat(),
            false => pair,
        })
    }

    fn all(&self) -> impl Iterator<Item = &Tensor> {
        [&self.x, &self.y].into_iter().chain(&self.other)
    }

    fn flat(self) -> Pair {
        let flat = |tensor: Tensor| Tensor { view: tile::flat(&tensor.view), ..tensor };
        Pair { x: flat(self.x), other: self.other.map(flat), y: flat(self.y), rows: 1, ..self }
    }

    /// What is gone through by the same chunks without being an argument, too.
    pub fn along(mut self, view: View<3>) -> Pair {
        self.along.push(if self.rows == 1 { tile::flat(&view) } else { view });
        self
    }

    pub fn is_empty(&self) -> bool {
        self.y.view.end == 0
    }

    pub fn form(&self, native_f16: bool) -> Form {
        let held = |tensor: Tensor| Storage::held(tensor.dtype, native_f16);
        let inputs = [&self.x].into_iter().chain(&self.other).map(|tensor| &tensor.view).chain(&self.along);
        let all: Vec<&View<3>> = inputs.chain([&self.y.view]).collect();
        let (vec, edge) = chunking(&all, &self.y.view, held(self.y));
        Form {
            vec,
            one_row: self.rows == 1,
            x: held(self.x),
            other: self.other.map(held),
            y: held(self.y),
            edge,
            in_place: [false; 2],
        }
    }

    pub fn area(&self, native_f16: bool) -> Area {
        let vec = self.form(native_f16).vec;
        Area { rows: self.rows, cols: self.y.view.inner, vec, sums: 0, f16: self.f16 }
    }

    /// Every Config of the table, the best first.
    pub fn list(&self, caps: &Caps) -> Vec<Config> {
        tile::candidates(caps, &self.area(caps.prefers_native_f16(self.f16)))
    }

    /// The arguments, in the slots of this module.
    pub fn args(&self, args: &mut Args, x: Binding, other: Option<Binding>, y: Binding) -> Checked {
        let reach = |tensor: &Tensor| tensor.view.of(tensor.dtype);
        args.read(X, "x", x, reach(&self.x))?;
        args.read(OTHER, self.name, other, self.other.as_ref().map(reach))?;
        args.write(Y, "y", y, reach(&self.y))
    }

    /// The Form of these buffers, after they have been checked; and where the shader finds `x`, the other input and `y`.
    pub fn bound(&self, args: &mut Args, native_f16: bool) -> Checked<(Form, [Strides; 3])> {
        let in_place = [X, OTHER].map(|input| args.in_place(input, Y));
        for input in [X, OTHER] {
            args.interleave(input, Y);
        }
        args.check()?;
        let y = self.y.view.params();
        let own = [Some(self.x), self.other].map(|input| input.map_or([0; 4], |input| input.view.params()));
        let [x, other] = [0, 1].map(|i| if in_place[i] { y } else { own[i] });
        Ok((Form { in_place, ..self.form(native_f16) }, [x, other, y]))
    }

    /// The grid of a walk, and the walk.
    pub fn walk(&self, args: &Args, config: &Config) -> Checked<([u32; 3], Walk)> {
        let walk = config.walk(&self.area(config.native_f16));
        Ok((args.fold(walk.workgroups)?, walk))
    }
}

impl Form {
    /// What `pointwise_pair.wgsl` needs.
    pub fn declare(&self, shader: Shader, config: &Config) -> Shader {
        let Form { one_row, x, other, y, edge, in_place, .. } = *self;
        let of = |i: usize| in_place[i].then_some(("y", edge));
        let shader = config.declare(shader, one_row).flag("HAS_OTHER", other.is_some()).output(Y, "y", y, edge);
        let shader = tile::input(shader, (X, "x", x), of(0));
        match other {
            Some(other) => tile::input(shader, (OTHER, "other", other), of(1)),
            None => shader.no_input("other", "0.0"),
        }
    }
}
