//! What ops that go over planes of pictures have in common: the Config and its table, and how invocations share planes and pixels
//! (`planes_walk.wgsl`). A plane is what has one height and width: a channel of a picture, or where channels are last the picture.

use super::Order;
use crate::layout::chunks;
use crate::ops::prelude::*;

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Planes that an invocation takes, one after the other: channels, or where these are last pictures.
        pub planes: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

/// The tile of one class of adapters.
pub(super) struct Row {
    adapters: Adapters,
    wg_size: u32,
    /// At most.
    planes: u32,
    /// Invocations to reach by taking fewer planes.
    fill: u64,
}

/// Not measured yet, on any of them.
const TABLE: [Row; 3] = [
    Row { adapters: Class::Software.any(), wg_size: 64, planes: 16, fill: 1 << 10 },
    Row { adapters: Class::Integrated.any(), wg_size: 128, planes: 4, fill: 1 << 14 },
    Row { adapters: Class::Discrete.any(), wg_size: 256, planes: 4, fill: 1 << 17 },
];

impl Row {
    /// The row of these adapters.
    pub fn of(caps: &Caps) -> &'static Row {
        caps.row(&TABLE, |row| row.adapters)
    }

    /// Invocations of a workgroup, and planes of each, where they fill the adapter.
    pub fn tile(&self, caps: &Caps, area: &Area) -> (u32, u32) {
        let mut planes = self.planes;
        while planes > 1 && area.invocations(planes) < self.fill {
            planes /= 2;
        }
        (self.wg_size.min(caps.most_invocations()), planes)
    }
}

/// What an op goes over: the tensor whose chunks invocations take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub order: Order,
    pub batch: usize,
    pub channels: usize,
    /// Height and width.
    pub size: [usize; 2],
    /// Elements per chunk.
    pub vec: u32,
}

impl Area {
    fn inner(&self) -> usize {
        if self.order == Order::Nhwc { self.channels } else { self.size[1] }
    }

    fn planes(&self) -> u64 {
        if self.order == Order::Nhwc { self.batch as u64 } else { product!(self.batch, self.channels) }
    }

    /// Rows, or where channels are last pixels, of a plane.
    fn sites(&self) -> u64 {
        if self.order == Order::Nhwc { product!(self.size[0], self.size[1]) } else { self.size[0] as u64 }
    }

    /// Invocations of so many planes each.
    pub fn invocations(&self, planes: u32) -> u64 {
        let groups = self.planes().div_ceil(planes.max(1).into());
        product!(chunks(self.inner(), self.vec), self.sites(), groups)
    }

    /// How invocations share it.
    pub fn walk(&self, planes: u32) -> Walk {
        Walk {
            chunks: chunks(self.inner(), self.vec),
            inner: self.inner() as u32,
            sites: self.sites() as u32,
            columns: self.size[1] as u32,
            channels: self.channels as u32,
            planes: self.planes() as u32,
            planes_per: planes,
            groups: self.planes().div_ceil(planes.max(1).into()) as u32,
        }
    }

    /// Every Config of the table, the best first.
    pub fn candidates(&self, caps: &Caps, f16: bool) -> Vec<Config> {
        let (wg_size, planes) = Row::of(caps).tile(caps, self);
        let best = Config { wg_size, planes, native_f16: caps.prefers_native_f16(f16) };
        vec![best, Config { planes: 1, ..best }]
    }

    /// The first thing that does not fit of an op that has these loops for a chunk.
    pub fn check(&self, caps: &Caps, [wg_size, planes]: [u32; 2], chunk: Rounds) -> Result<(), Misfit> {
        caps.check_wg_size(wg_size)?;
        Misfit::unless(planes > 0, "planes must be at least 1", planes)?;
        caps.check_rounds(Rounds::nest(planes, chunk))?;
        // Their numbers are u32, with those past the end of the grid, which are less than 2^16 workgroups.
        let room = u64::from(u32::MAX).saturating_sub(u64::from(wg_size) << 16);
        Misfit::at_most("invocations", self.invocations(planes), room)
    }
}

/// How invocations share an [`Area`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    pub chunks: u32,
    pub inner: u32,
    pub sites: u32,
    pub columns: u32,
    pub channels: u32,
    pub planes: u32,
    pub planes_per: u32,
    pub groups: u32,
}

impl Config {
    /// As the key of a pipeline: planes are a parameter.
    pub(super) fn key(&self) -> Config {
        Config { planes: 1, ..*self }
    }
}

/// Params of views, of what the walk needs, and of what an op has besides.
macro_rules! planes_params {
    (fn of($($arg:ident: $arg_ty:ty),*); [$($view:ident = $at:expr),*] $($field:ident: $ty:tt = $value:expr,)*) => {
        $crate::params! {
            /// What one run tells the shader.
            pub struct Params;
            fn of($($arg: $arg_ty,)* walk: Walk, grid_x: u32) {
                $($view: Strides = $at,)*
                chunks: u32 = walk.chunks,
                inner: u32 = walk.inner,
                sites: u32 = walk.sites,
                columns: u32 = walk.columns,
                channels: u32 = walk.channels,
                planes: u32 = walk.planes,
                planes_per: u32 = walk.planes_per,
                groups: u32 = walk.groups,
                grid_x: u32 = grid_x,
                $($field: $ty = $value,)*
            }
        }
    };
}

pub(super) use planes_params;
