//! How teams of invocations share a tensor `[a0, a1, a2, cols]`: boxes of lines, and parts of these (`group_norm_walk.wgsl`). What
//! group_norm and its gradient have in common.

use super::Order;
use crate::layout::chunks;
use crate::norm::Vector;
use crate::ops::prelude::*;
use crate::softmax::Reduce;

config! {
    /// How it is computed.
    pub struct Config {
        /// The algorithm.
        pub algorithm: Algorithm,
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Invocations that find the moments or sums of a set, or a part of one, together: a power of two that divides `wg_size`.
        pub lanes: u32,
        /// How these combine: not `subgroup`.
        pub reduce: Reduce,
        /// Chunks that an invocation takes, where it has a part of a set.
        pub run: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

words! {
    /// The algorithm.
    pub enum Algorithm {
        /// A set at a time, in one step; x is read again while it is in a cache.
        Whole = "whole",
        /// Moments or sums of parts of sets, in scratch; then these joined; then what is written.
        Split = "split",
    }
}

/// The tiles of one class of adapters.
struct Row {
    adapters: Adapters,
    wg_size: u32,
    /// Chunks of an invocation, at least and at most.
    run: [u32; 2],
    /// Invocations to reach by taking shorter runs.
    fill: u64,
    /// Bytes of a set, at most, for [`Algorithm::Whole`].
    held: u64,
    /// Invocations that this must keep busy.
    busy: u64,
}

/// Not measured yet, on any of them. By RADV's compiler (navi31) nothing spills: 12 to 72 VGPRs.
const TABLE: [Row; 3] = [
    Row { adapters: Class::Software.any(), wg_size: 8, run: [16, 256], fill: 64, held: 1 << 20, busy: 16 },
    Row { adapters: Class::Integrated.any(), wg_size: 128, run: [4, 32], fill: 1 << 14, held: 1 << 16, busy: 1 << 12 },
    Row { adapters: Class::Discrete.any(), wg_size: 256, run: [4, 32], fill: 1 << 17, held: 1 << 17, busy: 1 << 14 },
];

/// Parts of a set, at most.
pub(super) const PARTS: u64 = 256;

/// Chunks whose moments are found one after the other.
pub(super) const BLOCK: u64 = 128;

/// Chunks of an invocation for which it pays to have fewer lanes.
const FEW: u64 = 4;

/// What statistics are of, and sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Over {
    /// The channels of each of so many groups, and the places of a picture: group norm (Wu and He, 2018). As many groups as channels
    /// make instance norm, one makes layer norm over a picture.
    Group(usize),
    /// The channels of each place: layer norm, as ConvNeXt has it.
    Channels,
    /// The places of all pictures of each channel: batch norm (Ioffe and Szegedy, 2015).
    Batch,
}

/// Running statistics of channels, f32 `[channels]` each: the elements at which they start in their bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Running {
    /// Means.
    pub mean: usize,
    /// Variances.
    pub variance: usize,
}

/// Sizes, and what is normalised over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub batch: usize,
    pub channels: usize,
    pub size: [usize; 2],
    pub order: Order,
    pub over: Over,
}

impl Shape {
    /// Outer sizes and inner size.
    pub fn sizes(&self) -> ([usize; 3], usize) {
        let [height, width] = self.size;
        match self.order {
            Order::Nchw => ([self.batch, self.channels, height], width),
            Order::Nhwc => ([self.batch, height, width], self.channels),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.batch == 0 || self.channels == 0 || self.size.contains(&0)
    }

    pub fn check(&self) -> Checked {
        let Shape { batch, channels, size: [height, width], .. } = *self;
        sizes_fit([("batch", batch), ("channels", channels), ("size", height), ("size", width)])?;
        sizes_fit([("size", usize::try_from(product!(height, width)).unwrap_or(usize::MAX))])?;
        if let Over::Group(groups) = self.over {
            sizes_fit([("over", groups)])?;
            let divides = groups > 0 && channels.is_multiple_of(groups);
            ErrorKind::unless(divides, "over", format_args!("{groups} groups of {channels} channels"))?;
        }
        Ok(())
    }

    fn groups(&self) -> usize {
        if let Over::Group(groups) = self.over { groups } else { 1 }
    }

    pub fn group_channels(&self) -> usize {
        self.channels.checked_div(self.groups()).unwrap_or(0)
    }

    /// How many have a mean and a variance.
    pub fn sets(&self) -> u64 {
        let Shape { batch, channels, size: [height, width], .. } = *self;
        match self.over {
            Over::Group(groups) => product!(batch, groups),
            Over::Channels => product!(batch, height, width),
            Over::Batch => channels as u64,
        }
    }

    /// Elements of each.
    pub fn elements(&self) -> u64 {
        let Shape { batch, channels, size: [height, width], .. } = *self;
        match self.over {
            Over::Group(_) => product!(self.group_channels(), height, width),
            Over::Channels => channels as u64,
            Over::Batch => product!(batch, height, width),
        }
    }

    pub fn last(&self) -> bool {
        self.order == Order::Nhwc
    }
}

/// Whether, in all of `views`, the two axes of a picture's places are one.
pub(super) fn merge(last: bool, views: &mut [&mut View<3>]) {
    let axis = if last { 1 } else { 2 };
    let merges = |view: &View<3>| {
        let next = if last { view.sizes[2].saturating_mul(view.strides[2]) } else { view.inner };
        view.sizes[axis] == 1 || view.strides[axis] == next
    };
    if !views.iter().all(|view| merges(view)) {
        return;
    }
    for view in views {
        let places = view.sizes[axis];
        view.sizes[axis] = 1;
        if last {
            view.sizes[2] *= places;
        } else {
            view.inner *= places;
        }
    }
}

/// The layout of what is [merged](merge) along this axis.
pub(super) fn merged(axis: usize, layout: Layout<3>) -> Layout<3> {
    let strides = layout.strides.map(|mut strides| {
        strides[axis] = 0;
        strides
    });
    Layout { strides, ..layout }
}

/// What the steps go over: a tensor whose places are merged where they can be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub shape: Shape,
    pub sizes: [usize; 3],
    pub cols: usize,
}

/// Boxes of lines, and whether their columns are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Boxes {
    pub lines: [usize; 3],
    pub columns: bool,
    /// Sets side by side in a line of a box: groups of channels.
    pub pieces: usize,
}

impl Area {
    pub fn of(shape: Shape, view: &View<3>) -> Area {
        // The number of pictures by which a Config is chosen may be another one.
        let [_, a1, a2] = view.sizes;
        Area { shape, sizes: [shape.batch, a1, a2], cols: view.inner }
    }

    /// Boxes whose lines, or columns, are each of one set.
    pub fn sets(&self, whole: bool) -> Boxes {
        let [a0, a1, a2] = self.sizes;
        let (columns, lines) = match (self.shape.last(), self.shape.over) {
            (false, Over::Group(_)) => (false, [1, self.shape.group_channels(), a2]),
            (false, Over::Batch) => (false, [a0, 1, a2]),
            (false, Over::Channels) => (true, [1, a1, 1]),
            (true, Over::Channels) => (false, [1, 1, 1]),
            (true, Over::Batch) => (true, [a0, a1, a2]),
            (true, Over::Group(groups)) if whole => {
                return Boxes { lines: [1, a1, a2], columns: false, pieces: groups };
            }
            (true, Over::Group(_)) => (true, [1, a1, a2]),
        };
        Boxes { lines, columns, pieces: 1 }
    }

    /// Boxes whose lines, or columns, are each of one channel of a picture.
    pub fn channels(&self) -> Boxes {
        let [_, a1, a2] = self.sizes;
        match self.shape.last() {
            false => Boxes { lines: [1, 1, a2], columns: false, pieces: 1 },
            true => Boxes { lines: [1, a1, a2], columns: true, pieces: 1 },
        }
    }

    /// Boxes for what is written element by element: what goes by columns is the same in all lines.
    pub fn elements(&self) -> Boxes {
        let [a0, a1, a2] = self.sizes;
        let columns = self.by_column_set() || self.by_column_channel();
        let lines = match (self.shape.last(), self.shape.over) {
            (false, Over::Channels) => [1, a1, 1],
            (true, Over::Group(_)) => [1, a1, a2],
            _ => [a0, a1, a2],
        };
        Boxes { lines, columns, pieces: 1 }
    }

    /// Whether elements of a line are of several sets.
    pub fn by_column_set(&self) -> bool {
        self.shape.last() != (self.shape.over == Over::Channels)
    }

    pub fn by_column_channel(&self) -> bool {
        self.shape.last()
    }

    /// What the axes count of a set's number, and by what the second axis and a column are divided for it.
    pub fn set_places(&self) -> ([u32; 3], [u32; 2]) {
        let ([_, a1, a2], own) = (self.sizes, self.shape.group_channels());
        let (axes, folds) = match (self.shape.last(), self.shape.over) {
            (false, Over::Group(groups)) => ([groups, 1, 0], [own, 1]),
            (true, Over::Group(groups)) => ([groups, 0, 0], [1, own]),
            (false, Over::Channels) => ([a2.wrapping_mul(self.cols), 0, self.cols], [1, 1]),
            (true, Over::Channels) => ([a1.wrapping_mul(a2), a2, 1], [1, 1]),
            (false, Over::Batch) => ([0, 1, 0], [1, 1]),
            (true, Over::Batch) => ([0, 0, 0], [1, 1]),
        };
        (axes.map(|n| n as u32), folds.map(|n| n as u32))
    }

    /// Chunks of a set.
    fn set_chunks(&self, vec: u32) -> u64 {
        self.shape.elements().div_ceil(vec.into())
    }

    /// Teams of `lanes` take items of so many chunks for each, in at most `most` parts of a box; without a run all of what a box or a piece
    /// of it has.
    pub fn walk(&self, boxes: Boxes, vec: u32, lanes: u32, run: Option<u32>, most: u64) -> Walk {
        let wide = |n: usize| n as u64;
        let all = chunks(self.cols, vec);
        let number: [usize; 3] = std::array::from_fn(|axis| self.sizes[axis].div_ceil(boxes.lines[axis].max(1)));
        let lines = product!(boxes.lines[0], boxes.lines[1], boxes.lines[2]);
        // Chunks that an item may have of a line.
        let reach = all.div_ceil(boxes.pieces as u32);
        let across = reach.checked_next_power_of_two().map_or(lanes, |most| most.min(lanes)).max(1);
        let down = u64::from(lanes / across).max(1);
        let (part_chunks, part_lines) = match (boxes.columns, run) {
            (true, None) => (across, lines),
            (true, Some(run)) => (across, down * u64::from(run)),
            (false, None) => (reach, lines),
            (false, Some(run)) => {
                let each = reach.div_ceil(across);
                match each >= run {
                    // No more parts than `most` along a line, either.
                    true => {
                        let run = u64::from(run).max(u64::from(each).div_ceil(most)) as u32;
                        (across.saturating_mul(run), down)
                    }
                    false => (reach, down * u64::from(run / each.max(1))),
                }
            }
        };
        let chunk_parts = all.div_ceil(part_chunks.max(1));
        let most = if boxes.columns { most } else { (most / u64::from(chunk_parts)).max(1) };
        let part_lines = part_lines.max(lines.div_ceil(most).next_multiple_of(down)).clamp(1, lines.max(1));
        let line_parts = lines.div_ceil(part_lines);
        let count = product!(wide(number[0]), wide(number[1]), wide(number[2]));
        Walk {
            boxes,
            number,
            lines,
            part_lines,
            line_parts,
            part_chunks,
            chunk_parts,
            across,
            down,
            lanes,
            items: product!(count, line_parts, chunk_parts),
            results: if boxes.columns { product!(count, self.cols) } else { count },
        }
    }
}

/// How teams share it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    pub boxes: Boxes,
    /// Boxes along each axis.
    pub number: [usize; 3],
    pub lines: u64,
    pub part_lines: u64,
    pub line_parts: u64,
    pub part_chunks: u32,
    pub chunk_parts: u32,
    /// Invocations of a team side by side, and others.
    pub across: u32,
    pub down: u64,
    pub lanes: u32,
    pub items: u64,
    /// What each part of a box leaves, of all boxes.
    pub results: u64,
}

impl Walk {
    /// Parts of a result.
    pub fn parts(&self) -> u64 {
        if self.boxes.columns { self.line_parts } else { product!(self.line_parts, self.chunk_parts) }
    }

    /// Those of an invocation that finds moments, in blocks (`group_norm_own.wgsl`).
    pub fn moment_rounds(&self) -> Rounds {
        let chunks = u64::from(self.part_chunks.div_ceil(self.across)).max(1);
        let lines = (BLOCK / chunks).max(1);
        let block = Rounds::nest(lines, Rounds::plain(chunks.min(BLOCK)));
        let blocks = self.part_lines.div_ceil(self.down).div_ceil(lines);
        Rounds::nest(blocks, Rounds::nest(chunks.div_ceil(BLOCK), block))
    }

    /// Those of an invocation's loops.
    pub fn rounds(&self) -> Rounds {
        let chunks = u64::from(self.part_chunks.div_ceil(self.across));
        Rounds::nest(self.part_lines.div_ceil(self.down), Rounds::plain(chunks))
    }

    pub fn workgroups(&self, wg_size: u32) -> u64 {
        self.items.div_ceil(u64::from((wg_size / self.lanes).max(1)))
    }
}

/// Params of views, of what the walk needs, and of what a step has besides.
macro_rules! walk_params {
    ($(#[$meta:meta])* pub struct $name:ident; fn of($($arg:ident: $arg_ty:ty),*);
        [$($view:ident = $at:expr),*] $($field:ident: $ty:tt = $value:expr,)*) => {
        $crate::params! {
            $(#[$meta])*
            pub struct $name;
            fn of($($arg: $arg_ty,)* area: &Area, walk: &Walk, grid_x: u32) {
                $($view: Strides = $at,)*
                box_0: u32 = walk.boxes.lines[0] as u32,
                box_1: u32 = walk.boxes.lines[1] as u32,
                box_2: u32 = walk.boxes.lines[2] as u32,
                boxes_1: u32 = walk.number[1] as u32,
                boxes_2: u32 = walk.number[2] as u32,
                lines: u32 = walk.lines as u32,
                part_lines: u32 = walk.part_lines as u32,
                line_parts: u32 = walk.line_parts as u32,
                part_chunks: u32 = walk.part_chunks,
                chunk_parts: u32 = walk.chunk_parts,
                items: u32 = walk.items as u32,
                across: u32 = walk.across,
                first_step: u32 = if walk.boxes.columns { walk.across } else { 1 },
                results: u32 = walk.results as u32,
                cols: u32 = area.cols as u32,
                set_0: u32 = area.set_places().0[0],
                set_1: u32 = area.set_places().0[1],
                set_2: u32 = area.set_places().0[2],
                line_fold: u32 = area.set_places().1[0],
                fold: u32 = area.set_places().1[1],
                sets: u32 = area.shape.sets() as u32,
                grid_x: u32 = grid_x,
                $($field: $ty = $value,)*
            }
        }
    };
}

pub(super) use walk_params;

/// Every Config of the table, the best first: what is split goes over `split`, in chunks of `vec`; a set has `bytes` for each element.
pub(super) fn candidates(
    caps: &Caps,
    area: &Area,
    split: Boxes,
    vec: u32,
    bytes: u64,
    f16: bool,
    whole: bool,
) -> Vec<Config> {
    let &Row { wg_size, run: [least, most], fill, held, busy, .. } = caps.row(&TABLE, |row| row.adapters);
    let wg_size = wg_size.min(caps.most_invocations());
    let native_f16 = caps.prefers_native_f16(f16);
    let few = caps.least_subgroup().unwrap_or(1).min(wg_size);
    let software = caps.class() == Class::Software;
    let mut found = Vec::new();
    let algorithms = [(Algorithm::Whole, area.sets(true)), (Algorithm::Split, split)];
    for (algorithm, boxes) in algorithms.into_iter().filter(|&(algorithm, _)| whole || algorithm == Algorithm::Split) {
        let apart = algorithm == Algorithm::Split;
        // Short sets have fewer invocations each.
        let [a, b, c] = boxes.lines;
        let own = area.set_chunks(vec).min(product!(a, b, c, chunks(area.cols, vec)));
        let wanted = own.div_ceil(FEW).max(1).checked_next_power_of_two().unwrap_or(u64::MAX);
        // Neighbours have what lies side by side: other columns, or other sets of a line.
        let apart_by_lane = boxes.columns || boxes.pieces > 1;
        let wanted = if apart_by_lane && software { 1 } else { wanted.min(wg_size.into()) as u32 };
        // A line has one chunk of each set, and the next of these is lines away.
        let thin = boxes.pieces > 1 && chunks(area.cols, vec) as usize <= boxes.pieces;
        let mut tiles = vec![(wanted.min(few), Reduce::Shuffle), (wanted, Reduce::Tree), (1, Reduce::None)];
        if !software && wanted > few {
            tiles.swap(0, 1);
        }
        if software {
            // Whatever waits at a barrier comes last.
            tiles.swap(1, 2);
        }
        for (lanes, reduce) in tiles {
            let reduce = if lanes == 1 { Reduce::None } else { reduce };
            let busy_with = |run| product!(area.walk(boxes, vec, lanes, run, PARTS).items, lanes);
            let mut run = most;
            while apart && run > least && busy_with(Some(run)) < fill {
                run /= 2;
            }
            // What does not fit a cache, leaves the adapter idle, or reads little of a line, comes after what is split.
            let last = !apart && (product!(area.shape.elements(), bytes) > held || busy_with(None) < busy || thin);
            found.push((last, Config { algorithm, wg_size, lanes, reduce, run, native_f16 }));
        }
    }
    found.sort_by_key(|&(last, _)| last);
    found.into_iter().map(|(_, config)| config).collect()
}

impl Config {
    /// The first thing that does not fit this device, whatever the Problem is.
    pub(super) fn check_tile(&self, caps: &Caps, vec: u32, fields: u32, f16: bool) -> Result<(), Misfit> {
        caps.check_wg_size(self.wg_size)?;
        caps.check_native_f16(self.native_f16, f16)?;
        self.reduce.check_lanes(caps, self.wg_size, self.lanes)?;
        Misfit::unless((1..=1 << 16).contains(&self.run), "run must be 1 to 65536", self.run)?;
        let limit = caps.limits.max_compute_workgroup_storage_size;
        Misfit::at_most("bytes of workgroup memory", self.wg_bytes(vec, fields), limit)
    }

    /// Numbers of items are u32, with those past the end of the grid, which are less than 2^16 workgroups.
    pub(super) fn check_items(&self, walk: &Walk) -> Result<(), Misfit> {
        let room = u64::from(u32::MAX).saturating_sub(u64::from(self.wg_size) << 16);
        Misfit::at_most("items", walk.items, room)
    }

    /// Bytes of workgroup memory, where each invocation has so many chunks of `vec` f32 there, the first of which may be a number.
    pub(super) fn wg_bytes(&self, vec: u32, fields: u32) -> u32 {
        match self.reduce {
            Reduce::Tree => self.wg_size.saturating_mul(4 * vec * fields),
            _ => 0,
        }
    }

    /// As the key of a pipeline: runs are a parameter.
    pub(super) fn key(&self) -> Config {
        Config { run: 1, ..*self }
    }

    /// The beginning of a shader whose teams join what they find.
    pub(super) fn reduction(&self, shader: Shader) -> Shader {
        shader.constant("LANES", self.lanes).import(match self.reduce {
            Reduce::Shuffle => "group_norm_reduce_shuffle",
            Reduce::Tree => "group_norm_reduce_tree",
            _ => "group_norm_reduce_none",
        })
    }
}

/// A vector of channels, or none: `HAS_NAME`, and by lines single elements.
pub(super) fn vector(
    shader: Shader,
    slot: u32,
    (name, has): (&'static str, &str),
    storage: Option<Storage>,
    by_column: bool,
) -> Shader {
    let shader = shader.flag(has, storage.is_some());
    match storage {
        Some(storage) if by_column => shader.input(slot, name, storage),
        Some(storage) => shader.scalars(slot, name, storage),
        None if by_column => shader.no_input(name, "0.0"),
        None => shader.no_scalars(name),
    }
}

/// Resolves weight and bias.
pub(super) fn vectors(all: [(&'static str, Option<Vector>); 2], channels: usize) -> Checked<[Option<View<1>>; 2]> {
    let [a, b] = all.map(|(arg, vector)| vector.map(|vector| vector.view(arg, channels)).transpose());
    Ok([a?, b?])
}
