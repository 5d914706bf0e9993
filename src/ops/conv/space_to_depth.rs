//! Blocks of pixels to channels and back: each `block` of a wide picture `[batch, channels, height, width]` is one pixel of a deep one,
//! `[batch, channels block_h block_w, height / block_h, width / block_w]`; channels first or last. Elements are moved bit by bit.
//!
//! The channel of element (`i`, `j`) of a block, of channel `c`, is by [`Mode`] `(i block_w + j) channels + c` or
//! `(c block_h + i) block_w + j`. [`Problem::inverse`] is the way back, and the gradient: a permutation's is its inverse.
//!
//! | elsewhere | here |
//! |---|---|
//! | ONNX's SpaceToDepth | `Mode::Dcr` |
//! | ONNX's DepthToSpace | `inverse`, `Mode::Dcr` or `Mode::Crd` |
//! | PyTorch's `pixel_unshuffle`, `pixel_shuffle` | `Mode::Crd`, without and with `inverse` |
//! | patch merging of Swin, Qwen2-VL, MoonViT: 2 x 2 patches of one grid `[h, w, d]` to `[h / 2, w / 2, 4 d]` | `Mode::Dcr`, channels last |
//! | the same of many pictures in one sequence | [`Problem::packed`] |
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores shared with other work, 2 x 2, 64 channels at 224 x 224, f32, `Dcr`, NHWC: 0.33 of copy in the same turns. Nothing else is measured.
//!
//! # Packed patches
//! Rows of patches of many pictures, `[rows, d]`, of which each has a grid `[h, w]` of its own and its patches row by row, follow each other. Blocks become
//! rows of `[rows / (block_h block_w), block_h block_w d]`, picture after picture, in each row by row. Grids are read from a buffer. A picture
//! whose grid is not whole blocks, or has more patches than are left, ends the sequence: rows of y from there on, or behind the
//! last picture, are 0. A video of `t` frames is `t` pictures. Where grids are known to the host and few, a dense call for each picture, whose layouts begin at
//! its rows, gives the same.

use super::planes::{Area, Walk, planes_params};
use super::{MOST, Order};
use crate::layout::chunking;
use crate::ops::prelude::*;

pub use super::planes::Config;

defaults! {
    /// What is computed. Pairs are of height and width.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Pictures.
        pub batch: usize = 1,
        /// Channels of the wide pictures.
        pub channels: usize = 1,
        /// Height and width of the wide pictures, multiples of `block`. Of packed patches 1 and all rows.
        pub size: [usize; 2] = [1, 1],
        /// Height and width of a block.
        pub block: [usize; 2] = [1, 1],
        /// The order of channels of the deep pictures.
        pub mode: Mode = Mode::Dcr,
        /// From deep to wide: `x` is deep and `y` is wide; else the other way round.
        pub inverse: bool = false,
        /// Patches of many pictures in one sequence: a batch of 1, channels last, [`Mode::Dcr`].
        pub packed: Option<Packed> = None,
        /// The order of the axes of x and y.
        pub order: Order = Order::Nchw,
        /// Dtype of x and y, of which only the width counts: f32 stands for anything of 32 bits.
        pub x: Dtype = Dtype::F32,
        /// Strides of the three outer axes of x.
        pub x_layout: Layout<3> = Layout::default(),
        /// Strides of the three outer axes of y. Rows must not overlap.
        pub y_layout: Layout<3> = Layout::default(),
    }
}

words! {
    /// Where the channels of a block's elements stand; as ONNX names them.
    #[derive(Default)]
    pub enum Mode {
        /// The element in its block, then the channel.
        #[default]
        Dcr = "dcr",
        /// The channel, then the element in its block.
        Crd = "crd",
    }
}

/// Pictures whose patches follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packed {
    /// How many.
    pub pictures: usize,
    /// The first element of their grids, u32 `[pictures, 2]`, height and width in patches, in the binding.
    pub grids: usize,
}

planes_params! {
    fn of(p: &Problem, views: &Views);
    [x = views.x.params(), y = views.y.params()]
    x_channel: u32 = p.order.strides(&views.x)[1],
    block_h: u32 = p.block[0] as u32,
    block_w: u32 = p.block[1] as u32,
    inverse: u32 = p.inverse.into(),
    crd: u32 = (p.mode == Mode::Crd).into(),
    pictures: u32 = p.packed.map_or(0, |packed| packed.pictures) as u32,
    grids: u32 = p.packed.map_or(0, |packed| packed.grids) as u32,
    rows: u32 = p.size[1] as u32,
}

/// What invocations take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Walks {
    /// Rows of a channel.
    Rows,
    /// Pixels, whose channels come from several pixels of x, or from every so manyth channel.
    Pixels,
    /// All channels of an element of a block, which lie side by side on both sides.
    Runs,
    /// The same of packed patches.
    Packed,
}

/// What follows from the Problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    walks: Walks,
    vec: u32,
    storage: Storage,
    /// Words of a packed y are shared.
    edge: bool,
}

/// What a Problem's layouts resolve to.
pub(crate) struct Views {
    x: View<3>,
    y: View<3>,
    grids: Option<View<1>>,
}

impl Problem {
    /// Elements of a block.
    fn elements(&self) -> usize {
        self.block[0].saturating_mul(self.block[1])
    }

    /// Height and width of the deep pictures.
    pub fn deep(&self) -> [usize; 2] {
        match self.packed {
            Some(_) => [self.size[0], self.size[1] / self.elements().max(1)],
            None => std::array::from_fn(|axis| self.size[axis] / self.block[axis].max(1)),
        }
    }

    /// Outer sizes and inner size of the wide and of the deep pictures.
    fn both(&self) -> [([usize; 3], usize); 2] {
        let deep_channels = self.channels.saturating_mul(self.elements());
        [
            self.order.sizes(self.batch, self.channels, self.size),
            self.order.sizes(self.batch, deep_channels, self.deep()),
        ]
    }

    /// Outer sizes and inner size of x.
    pub fn x_sizes(&self) -> ([usize; 3], usize) {
        self.both()[usize::from(self.inverse)]
    }

    /// Outer sizes and inner size of y.
    pub fn y_sizes(&self) -> ([usize; 3], usize) {
        self.both()[usize::from(!self.inverse)]
    }

    /// Whether sizes are such as this takes.
    ///
    /// # Errors
    /// What is wrong, with the numbers.
    pub fn blocks_fit(&self) -> Result<()> {
        crate::ops::named::<Self, _>(|| self.check_sizes())
    }

    fn check_sizes(&self) -> Checked {
        let Problem { batch, channels, size: [height, width], block, .. } = *self;
        sizes_fit([("batch", batch), ("channels", channels), ("size", height), ("size", width)])?;
        if block.contains(&0) || block[0].max(block[1]) > MOST || self.elements() > MOST {
            let reason = format!("{}, {}: from 1 on, and at most {MOST} elements", block[0], block[1]);
            return Err(ErrorKind::invalid("block", reason));
        }
        sizes_fit([("channels", channels.saturating_mul(self.elements()))])?;
        let Some(packed) = self.packed else {
            let whole = height.is_multiple_of(block[0]) && width.is_multiple_of(block[1]);
            let reason = format_args!("{height}, {width} are not whole blocks of {}, {}", block[0], block[1]);
            return ErrorKind::unless(whole, "size", reason);
        };
        sizes_fit([("packed", packed.pictures)])?;
        let elements = self.elements();
        let plain = batch == 1 && height == 1 && self.order == Order::Nhwc && self.mode == Mode::Dcr;
        let reason = format_args!("patches take a batch and a height of 1, channels last, and `dcr`");
        ErrorKind::unless(plain, "packed", reason)?;
        ErrorKind::unless(
            width.is_multiple_of(elements),
            "size",
            format_args!("{width} patches are not whole blocks of {elements}"),
        )
    }

    fn is_empty(&self) -> bool {
        self.batch == 0 || self.channels == 0 || self.size.contains(&0)
    }

    fn walks(&self) -> Walks {
        match (self.packed, self.order, self.mode) {
            (Some(_), ..) => Walks::Packed,
            (None, Order::Nchw, _) => Walks::Rows,
            (None, Order::Nhwc, Mode::Dcr) => Walks::Runs,
            (None, Order::Nhwc, Mode::Crd) => Walks::Pixels,
        }
    }

    fn form(&self, views: &Views) -> Form {
        let (walks, storage) = (self.walks(), if self.x == Dtype::F32 { Storage::F32 } else { Storage::Halves });
        // A pixel of the deep picture as so many rows of the wide one's channels.
        let run = |view: &View<3>| View { inner: self.channels, ..*view };
        let (x, y) = (run(&views.x), run(&views.y));
        let (vec, edge) = match walks {
            Walks::Runs | Walks::Packed => chunking(&[&x, &y], &y, storage),
            Walks::Rows | Walks::Pixels if storage.packed() => (2, !views.y.multiple_of(2)),
            Walks::Rows | Walks::Pixels => (1, false),
        };
        Form { walks, vec, storage, edge }
    }

    /// Of runs a plane is an element of the blocks of a picture, and a site a block.
    fn area(&self, form: &Form) -> Area {
        let (order, vec) = (self.order, form.vec);
        let [wide, deep] = [self.size, self.deep()];
        match form.walks {
            Walks::Runs | Walks::Packed => {
                let batch = self.batch.saturating_mul(self.elements());
                Area { order, batch, channels: self.channels, size: deep, vec }
            }
            Walks::Rows | Walks::Pixels if self.inverse => {
                Area { order, batch: self.batch, channels: self.channels, size: wide, vec }
            }
            Walks::Rows | Walks::Pixels => {
                let channels = self.channels.saturating_mul(self.elements());
                Area { order, batch: self.batch, channels, size: deep, vec }
            }
        }
    }
}

slots!(X, Y, GRIDS);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { walks, vec, storage, edge } = self.form;
        let shader = self
            .begin(self.config.wg_size, 0, vec)
            .params::<Params>()
            .input(X, "x", storage)
            .output(Y, "y", storage, edge);
        match walks {
            Walks::Rows => shader.gather("column").import("space_to_depth_rows"),
            Walks::Pixels => shader.gather("channel").import("space_to_depth_pixels"),
            Walks::Runs => shader.import("space_to_depth_runs").import("space_to_depth_dense"),
            Walks::Packed => {
                shader.reads(GRIDS, "grids", "u32").import("space_to_depth_runs").import("space_to_depth_packed")
            }
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` is read, `y` is written.
        x, y;
        /// The grids of packed patches.
        grids,
    }
}

functions!("space_to_depth");

impl Plan for Problem {
    type Views = Views;

    const PLACES: &'static [&'static str] = &["grids"];

    fn resolve(&self) -> Checked<Views> {
        self.check_sizes()?;
        let ((x_sizes, x_inner), (y_sizes, y_inner)) = (self.x_sizes(), self.y_sizes());
        let grids = self
            .packed
            .map(|Packed { pictures, grids }| Layout::<1>::at(grids).view("grids", [1], pictures.saturating_mul(2)));
        Ok(Views {
            x: self.x_layout.view("x", x_sizes, x_inner)?,
            y: self.y_layout.view("y", y_sizes, y_inner)?.apart("y")?,
            grids: grids.transpose()?,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        // Halves are moved as words.
        self.area(&self.form(views)).candidates(caps, false)
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        caps.check_native_f16(config.native_f16, false)?;
        let area = self.area(&self.form(views));
        let pictures = self.packed.map_or(0, |packed| packed.pictures as u64);
        caps.check_rounds(Rounds::plain(pictures) + Rounds::plain(config.planes))?;
        area.check(caps, [config.wg_size, config.planes], Rounds::default())
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![pass(config, self.form(views), writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.write(Y, "y", buffers.y, views.y.of(self.x))?;
        args.read(GRIDS, "grids", buffers.grids, views.grids.map(|view| view.of(WORD)))?;
        args.check()?;
        if self.is_empty() {
            return Ok(Dispatch::default());
        }
        let form = self.form(views);
        let area = self.area(&form);
        let grid = args.fold(area.invocations(config.planes).div_ceil(config.wg_size.into()))?;
        let params = Params::of(self, views, area.walk(config.planes), grid[0]);
        args.dispatch(&[pass(config, form, args.writable())], &params, grid)
    }
}

fn pass(config: &Config, form: Form, writable: Slots) -> Pass<Config, Form> {
    Pass { stem: "space_to_depth", config: config.key(), form, writable }
}
