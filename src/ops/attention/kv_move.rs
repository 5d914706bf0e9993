//! Keys and values of the accepted path of a tree, moved together in their cache, in place: what
//! [`speculative_tree`](crate::speculative_tree) has accepted then lies as if it had been a chain.
//!
//! `slots` `[batch, len]` are those of the nodes of each batch's tree, as [`kv_append`](crate::kv_append) has taken them, `path`, i32 `[batch, depth]`,
//! their accepted ones. For `j` from 0 on, in this order, the keys and values of all heads at `slots[path[j]]` go to `slots[j]`, bit by bit, and
//! their scales where the cache has such. A `path[j]` that is no node, such as -1, moves nothing, nor does a slot that does not
//! exist, in all its bits; `slots[j]` is one up to `len`. Two batches must not have a slot in common.
//!
//! Each move sees what those before have written. A path as `speculative_tree` gives it has `path[j] >= j` and goes up: then no
//! move overwrites what a later one reads. Any other moves are made by slots `[to.., from..]` and a path of `n, n + 1, ..`.
//!
//! Keys of a tree are rotated by their depth in it, which is their place on the path: they need no other rotation.
//!
//! The cache is that of `kv_append`: pages, or sequences of a contiguous one, with the same layouts.

use crate::args::Element;
use crate::caps::LEAST_INVOCATIONS;
use crate::kv_append::{self, Cache};
use crate::ops::prelude::*;

defaults! {
    /// What is moved.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Problem {
        /// Batches.
        pub batch: usize = 1,
        /// Nodes of a batch's tree.
        pub len: usize = 1,
        /// Entries of a path.
        pub depth: usize = 1,
        /// Heads of k and v.
        pub kv_heads: usize = 1,
        /// Elements of a vector of k.
        pub head_dim: usize = 1,
        /// Elements of a vector of v.
        pub value_dim: usize = 1,
        /// Pages of the cache, or sequences of a contiguous one.
        pub pages: usize = 1,
        /// Places of a page.
        pub page_size: usize = 1,
        /// What the cache holds.
        pub cache: Cache = Cache::Float(Dtype::F32),
        /// Where the cache of k lies, as in [`kv_append`]. Vectors must not overlap.
        pub k_cache: Layout<3> = Layout::default(),
        /// The same of v.
        pub v_cache: Layout<3> = Layout::default(),
        /// The first element of the scales of k in their binding, where the cache has such.
        pub k_scale: usize = 0,
        /// The same of v.
        pub v_scale: usize = 0,
        /// Where the slots lie: the stride of a batch.
        pub slots: Layout<1> = Layout::default(),
        /// Slots are i64; else they are i32 or u32.
        pub wide: bool = false,
        /// The first element of `path` in its binding.
        pub path: usize = 0,
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup.
        pub wg_size: u32,
    }
}

/// What an invocation moves at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Unit {
    /// Four words, or one.
    Words(u32),
    /// An element of so many bits.
    Part(u32),
}

/// What follows from the Problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    unit: Unit,
    /// There are scales.
    codes: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, grid: [u32; 3]) {
        k_cache: Strides = views.k_cache.params().map(|n| n / views.per_unit),
        v_cache: Strides = views.v_cache.params().map(|n| n / views.per_unit),
        items: u32 = p.items(views) as u32,
        len: u32 = p.len as u32,
        depth: u32 = p.depth as u32,
        moves: u32 = p.depth.min(p.len) as u32,
        kv_heads: u32 = p.kv_heads as u32,
        k_units: u32 = p.head_dim as u32 / views.per_unit,
        v_units: u32 = p.value_dim as u32 / views.per_unit,
        places: u32 = product!(p.pages, p.page_size) as u32,
        page_size: u32 = p.page_size as u32,
        wide: u32 = p.wide.into(),
        slots_offset: u32 = p.slots.offset as u32,
        slots_step: u32 = views.slots.stride(0),
        path_offset: u32 = p.path as u32,
        k_scale_offset: u32 = p.k_scale as u32,
        v_scale_offset: u32 = p.v_scale as u32,
        grid_x: u32 = grid[0],
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    k_cache: View<3>,
    v_cache: View<3>,
    scales: Option<[View<1>; 2]>,
    slots: View<1>,
    path: View<1>,
    unit: Unit,
    /// Elements of a unit.
    per_unit: u32,
}

slots!(K_CACHE, V_CACHE, K_SCALE, V_SCALE, SLOTS, PATH);

impl Problem {
    /// The cache as kv_append has it.
    pub fn appended(&self) -> kv_append::Problem {
        let Problem { kv_heads, head_dim, value_dim, pages, page_size, cache, k_cache, v_cache, .. } = *self;
        kv_append::Problem {
            kv_heads,
            head_dim,
            value_dim,
            pages,
            page_size,
            cache,
            k_cache,
            v_cache,
            k_scale: self.k_scale,
            v_scale: self.v_scale,
            ..Default::default()
        }
    }

    /// Units of all heads and batches.
    fn items(&self, views: &Views) -> u64 {
        let units = (self.head_dim as u64 + self.value_dim as u64) / u64::from(views.per_unit);
        product!(self.batch, self.kv_heads, units)
    }

    fn pass(&self, views: &Views, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let form = Form { unit: views.unit, codes: views.scales.is_some() };
        Pass { stem: "kv_move", config: *config, form, writable }
    }
}

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { unit, codes } = self.form;
        let shader = self.begin(self.config.wg_size, 0, 1).params::<Params>();
        let (shader, element) = match unit {
            Unit::Words(4) => (shader.import("kv_move_words"), "vec4<u32>"),
            Unit::Words(_) => (shader.import("kv_move_words"), "u32"),
            Unit::Part(bits) => (shader.constant("BITS", bits).import("kv_move_parts"), "atomic<u32>"),
        };
        let shader = shader.writes(K_CACHE, "k_cache", element).writes(V_CACHE, "v_cache", element);
        let shader = match codes {
            true => shader.writes(K_SCALE, "k_scale", "u32").writes(V_SCALE, "v_scale", "u32"),
            false => shader,
        };
        shader.import_if(codes, "kv_move_scales").reads(SLOTS, "slots", "u32").reads(PATH, "path", "i32")
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// The caches are updated, `slots` and `path` are read.
        k_cache, v_cache, slots, path;
        /// The scales of k of a cache of 8 bits.
        k_scale,
        /// The scales of v of a cache of 8 bits.
        v_scale,
    }
}

functions!("kv_move");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let Problem { batch, len, depth, kv_heads, head_dim, value_dim, pages, page_size, .. } = *self;
        sizes_fit([("batch", batch), ("len", len), ("depth", depth), ("kv_heads", kv_heads)])?;
        sizes_fit([("head_dim", head_dim), ("value_dim", value_dim)])?;
        let unless = ErrorKind::unless;
        unless(page_size > 0, "page_size", format_args!("pages have no places"))?;
        let places = product!(pages, page_size);
        // No slot of 32 bits that is negative is one of them.
        unless(places < 1 << 31, "pages", format_args!("{places} places in all pages are more than 2^31 - 1"))?;
        let of = self.appended();
        let cache = |arg, layout, dim| -> Checked<View<3>> {
            of.cache_layout(layout, dim).view(arg, of.cache_sizes(), dim)?.apart(arg)
        };
        let scale = |arg, at: usize| Layout::<1>::at(at).view(arg, [pages.saturating_mul(page_size)], kv_heads);
        let scales = || Ok::<_, ErrorKind>([scale("k_scale", self.k_scale)?, scale("v_scale", self.v_scale)?]);
        let (k_cache, v_cache) =
            (cache("k_cache", self.k_cache, head_dim)?, cache("v_cache", self.v_cache, value_dim)?);
        let bits = 8 * self.cache.bytes() as u32;
        let whole = |words: u32| {
            let elements = (32 * words / bits) as usize;
            [&k_cache, &v_cache].iter().all(|view| view.multiple_of(elements)).then_some(Unit::Words(words))
        };
        let unit = whole(4).or_else(|| whole(1)).unwrap_or(Unit::Part(bits));
        Ok(Views {
            per_unit: match unit {
                Unit::Words(words) => 32 * words / bits,
                Unit::Part(_) => 1,
            },
            unit,
            k_cache,
            v_cache,
            scales: (!matches!(self.cache, Cache::Float(_))).then(scales).transpose()?,
            slots: self.slots.view("slots", [batch], len)?,
            path: Layout::<1>::at(self.path).view("path", [batch], depth)?,
        })
    }

    fn list(&self, _views: &Views, caps: &Caps) -> Vec<Config> {
        vec![Config { wg_size: caps.most_invocations().min(LEAST_INVOCATIONS) }]
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        caps.check_wg_size(config.wg_size)?;
        Misfit::at_most("invocations", self.items(views), u32::MAX - config.wg_size.saturating_mul(1 << 16))?;
        caps.check_rounds(Rounds::plain(self.depth.min(self.len) as u64))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(views, config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        let element = match self.cache {
            Cache::Float(dtype) => dtype.into(),
            _ => Element { bits: 8, dtype: None },
        };
        let slot = Element { bits: if self.wide { 64 } else { 32 }, dtype: None };
        let [k_scale, v_scale] = [0, 1].map(|i| views.scales.map(|scales| scales[i].of(WORD)));
        args.write(K_CACHE, "k_cache", buffers.k_cache, views.k_cache.of(element))?;
        args.write(V_CACHE, "v_cache", buffers.v_cache, views.v_cache.of(element))?;
        args.write(K_SCALE, "k_scale", buffers.k_scale, k_scale)?;
        args.write(V_SCALE, "v_scale", buffers.v_scale, v_scale)?;
        args.read(SLOTS, "slots", buffers.slots, views.slots.of(slot))?;
        args.read(PATH, "path", buffers.path, views.path.of(WORD))?;
        // Caches may lie side by side in one buffer.
        args.interleave(K_CACHE, V_CACHE);
        args.check()?;
        if self.items(views) == 0 || self.len == 0 || self.depth == 0 {
            return Ok(Dispatch::default());
        }
        let grid = args.fold(self.items(views).div_ceil(config.wg_size.into()))?;
        args.dispatch(&[self.pass(views, config, args.writable())], &Params::of(self, views, grid), grid)
    }
}
