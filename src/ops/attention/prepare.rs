//! Checks of an attention Problem and of its buffers, and its Dispatch.

use super::choose::{FAR, MOST_DIM};
use super::pipeline::SUMS;
use super::pipeline::{INDICES, K, LSE, MASK, O, Q, TABLES, V};
use super::{
    Algorithm, Alibi, Buffers, Codes, Config, Packed, Paged, Problem, Segments, Tree, attention_merge, choose,
    statistics,
};
use crate::args::{Args, Element, Reach, WORD};
use crate::compose::{Shader, Slots, Strides};
use crate::error::Checked;
use crate::kernels::Pipeline;
use crate::layout::{View, product};
use crate::mask::MaskView;
use crate::ops::{self, BATCH, Plan};
use crate::{Caps, Dispatch, Dtype, ErrorKind, Kernels, Layout, Misfit};

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, config: &Config, flags: u32, tiles: u32, grid: [u32; 3]) {
        q: Strides = views.q.params(),
        k: Strides = views.k.params(),
        v: Strides = views.v.params(),
        k_scale: Strides = views.scales.map_or([0; 4], |scales| scales[0].params()),
        v_scale: Strides = views.scales.map_or([0; 4], |scales| scales[1].params()),
        o: Strides = views.o.params(),
        mask: Strides = views.mask.map_or([0; 4], |mask| mask.view.params()),
        mask_step: u32 = views.mask.map_or(0, |mask| mask.step),
        batch: u32 = p.batch as u32,
        kv_heads: u32 = p.kv_heads as u32,
        group: u32 = p.group() as u32,
        seq_q: u32 = p.seq_q as u32,
        seq_kv: u32 = p.seq_kv as u32,
        head_dim: u32 = p.head_dim as u32,
        value_dim: u32 = p.value_dim as u32,
        flags: u32 = flags,
        scale: f32 = p.scale,
        softcap: f32 = p.softcap,
        neg_inf: f32 = f32::NEG_INFINITY,
        lowest: f32 = f32::MIN,
        left: i32 = p.reach()[0],
        right: i32 = p.reach()[1],
        tiles: u32 = tiles,
        splits: u32 = config.splits,
        split_keys: u32 = config.split_keys(p),
        grid_x: u32 = grid[0],
        o_part: u32 = 0,
        lse_offset: u32 = p.lse.unwrap_or(0) as u32,
        lse_part: u32 = 0,
        sums: u32 = (p.sum.unwrap_or(0) as u32).wrapping_sub(p.lse.unwrap_or(0) as u32),
        lse_s0: u32 = views.lse.stride(0),
        lse_s1: u32 = views.lse.stride(1),
        alibi: u32 = p.alibi.map_or(0, |alibi| alibi.slopes) as u32,
        alibi_s0: u32 = p.alibi.map_or(0, |alibi| u32::from(alibi.per_batch) * p.heads as u32),
        sinks: u32 = p.sinks.unwrap_or(0) as u32,
        cu_q: u32 = views.packed.cu_q as u32,
        cu_kv: u32 = views.packed.cu_kv as u32,
        total_q: u32 = views.packed.total_q as u32,
        total_kv: u32 = views.packed.total_kv as u32,
        lengths: u32 = p.lengths.unwrap_or(0) as u32,
        block_table: u32 = views.paged.block_table as u32,
        max_pages: u32 = views.paged.max_pages as u32,
        pages: u32 = views.paged.pages as u32,
        page_size: u32 = views.paged.page_size as u32,
        parents: u32 = p.tree.map_or(0, |tree| tree.parents) as u32,
        parents_s0: u32 = p.tree.map_or(0, |tree| u32::from(tree.per_batch) * p.seq_q as u32),
        segments: u32 = views.segments.numbers as u32,
        segments_s0: u32 = if p.segment_numbers()[0] > 1 { p.seq_kv as u32 } else { 0 },
        segment_flags: u32 = views.segments.flags as u32,
        segment_count: u32 = views.segments.count as u32,
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    pub q: View<3>,
    pub k: View<3>,
    pub v: View<3>,
    pub o: View<3>,
    /// Of k and v, in the tables.
    scales: Option<[View<3>; 2]>,
    pub mask: Option<MaskView>,
    /// Of the result, or of one part.
    pub lse: View<3>,
    /// What is reached of the LSE's binding.
    statistics: Option<Reach>,
    pub tables: Option<Reach>,
    pub indices: Option<Reach>,
    packed: Packed,
    paged: Paged,
    segments: Segments,
}

/// Scratch among the arguments of the whole call. No shader declares it: the walk has its parts as o and LSE, whose bindings they are.
const SCRATCH: u32 = 8;

/// Stands for pages where there are none.
const NO_PAGES: Paged = Paged { pages: 1, page_size: 1, block_table: 0, max_pages: 0 };
/// Stands for packed sequences where there are none.
const NOT_PACKED: Packed = Packed { cu_q: 0, cu_kv: 0, total_q: 0, total_kv: 0 };

/// Stands for segments where there are none.
const NO_SEGMENTS: Segments = Segments { numbers: 0, per_batch: false, flags: 0, count: 1, ordered: true };

/// What is reached of small tables that share the binding `arg`: each has a first element and sizes.
fn reach(arg: &'static str, tables: &[Option<(usize, [usize; 2])>]) -> Checked<Option<Reach>> {
    let mut end = 0;
    for &(offset, sizes) in tables.iter().flatten() {
        end = end.max(Layout::at(offset).view(arg, sizes, 1)?.end);
    }
    Ok(tables.iter().any(Option::is_some).then(|| Reach::to(end, WORD)))
}

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let Problem { batch, heads, kv_heads, seq_q, seq_kv, head_dim, value_dim, scale, softcap, .. } = *self;
        let paged @ Paged { pages, page_size, max_pages, .. } = self.paged.unwrap_or(NO_PAGES);
        let packed @ Packed { total_q, total_kv, .. } = self.packed.unwrap_or(NOT_PACKED);
        let segments = self.segments.unwrap_or(NO_SEGMENTS);
        let unless = ErrorKind::unless;
        for (arg, sizes) in [
            ("batch", &[batch][..]),
            ("heads", &[heads]),
            ("seq_q", &[seq_q]),
            ("seq_kv", &[seq_kv]),
            ("paged", &[pages, page_size, max_pages]),
            ("packed", &[total_q, total_kv]),
            ("segments", &[segments.count]),
        ] {
            sizes.iter().try_for_each(|n| unless(*n <= FAR, arg, format_args!("{n} is more than 2^28")))?;
        }
        unless(segments.count > 0, "segments", format_args!("there are none"))?;
        let divides = kv_heads > 0 && heads.is_multiple_of(kv_heads);
        unless(divides, "kv_heads", format_args!("{kv_heads} does not divide {heads} heads"))?;
        for (arg, n) in [("head_dim", head_dim), ("value_dim", value_dim)] {
            unless((1..=MOST_DIM).contains(&n), arg, format_args!("{n} is not 1 to {MOST_DIM}"))?;
        }
        unless(scale.is_finite(), "scale", format_args!("{scale} is not finite"))?;
        // Drivers may flush subnormal numbers to 0.
        let fits = softcap == 0.0 || (softcap.is_normal() && softcap > 0.0);
        unless(fits, "softcap", format_args!("{softcap} is not 0, and not a positive normal number"))?;
        unless(self.paged.is_none() || self.lengths.is_some(), "lengths", format_args!("paged sequences need them"))?;
        unless(seq_kv == 0 || pages > 0, "paged", format_args!("there are no pages"))?;
        let room = page_size > 0 && seq_kv <= max_pages.saturating_mul(page_size);
        let reason = format_args!("{max_pages} pages of {page_size} do not hold {seq_kv} keys");
        unless(self.paged.is_none() || room, "paged", reason)?;
        let (q_sizes, kv_sizes) = (self.q_sizes(), self.kv_sizes());
        let per = |per_batch: bool, n: usize| [if per_batch { batch } else { 1 }, n];
        let scale = |layout| self.kv_strides(layout, 1).view("tables", kv_sizes, 1);
        let scales = |codes: Codes| Ok::<_, ErrorKind>([scale(codes.k_scale)?, scale(codes.v_scale)?]);
        let scales = self.codes.map(scales).transpose()?;
        let tables = reach(
            "tables",
            &[
                self.alibi.map(|Alibi { slopes, per_batch }| (slopes, per(per_batch, heads))),
                self.sinks.map(|sinks| (sinks, [1, heads])),
            ],
        )?;
        let tables = tables.into_iter().chain(scales.iter().flatten().map(|view| view.of(WORD))).reduce(Reach::and);
        Ok(Views {
            scales,
            q: self.q_strides(self.q_layout, head_dim).view("q", q_sizes, head_dim)?,
            k: self.kv_strides(self.k_layout, head_dim).view("k", kv_sizes, head_dim)?,
            v: self.kv_strides(self.v_layout, value_dim).view("v", kv_sizes, value_dim)?,
            o: self.q_strides(self.o_layout, value_dim).view("o", q_sizes, value_dim)?.apart("o_layout")?,
            mask: self.mask.map(|mask| mask.view([batch, heads, seq_q], seq_kv)).transpose()?,
            lse: Layout::at(self.lse.unwrap_or(0)).view("lse", q_sizes, 1)?,
            statistics: statistics(["lse", "sum"], q_sizes, self.lse, self.sum)?,
            tables,
            indices: reach(
                "indices",
                &[
                    self.packed.map(|packed| (packed.cu_q, [1, batch + 1])),
                    self.packed.filter(|_| self.paged.is_none()).map(|packed| (packed.cu_kv, [1, batch + 1])),
                    self.lengths.map(|lengths| (lengths, [1, batch])),
                    self.paged.map(|paged| (paged.block_table, [batch, max_pages])),
                    self.tree.map(|Tree { parents, per_batch }| (parents, per(per_batch, seq_q))),
                    self.segments.map(|segments| (segments.numbers, self.segment_numbers())),
                    self.segments.map(|segments| (segments.flags, [1, segments.count])),
                ],
            )?,
            packed,
            paged,
            segments,
        })
    }

    /// Keys are split as for a few sequences. Packed ones share a Problem with whatever is beside them, so that these have a fixed length, too.
    fn without_batch(&self) -> Problem {
        let (seq_q, seq_kv) = if self.packed.is_some() { (BATCH, 4 * BATCH) } else { (self.seq_q, self.seq_kv) };
        Problem { batch: 8, seq_q, seq_kv, ..*self }
    }

    fn list(&self, _: &Views, caps: &Caps) -> Vec<Config> {
        let mut found = choose::candidates(caps, self);
        // How long a part is follows from the longest sequence.
        found
            .retain(|config| !(caps.batch_invariant && self.packed.is_some() && config.algorithm == Algorithm::Decode));
        found
    }

    fn check(&self, _: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        choose::check(caps, self, config)
    }

    fn scratch(&self, _: &Views, config: &Config) -> u64 {
        let [o, lse] = config.scratch_parts(self);
        o.saturating_add(lse)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let mut shaders = vec![self.pass(views, config, writable).shader()];
        if config.algorithm == Algorithm::Decode {
            let (join, choice) = self.join(config);
            shaders.extend(join.resolve().iter().flat_map(|views| join.compose(views, &choice, writable)));
        }
        shaders
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut walk = Args::new(kernels);
        walk.read(Q, "q", buffers.q, views.q.of(self.x))?;
        let kv: Element = self.codes.map_or(self.x.into(), |_| Element { bits: 8, dtype: None });
        walk.read(K, "k", buffers.k, views.k.of(kv))?;
        walk.read(V, "v", buffers.v, views.v.of(kv))?;
        walk.read(MASK, "mask", buffers.mask, views.mask.map(|mask| mask.reach()))?;
        walk.read(TABLES, "tables", buffers.tables, views.tables.clone())?;
        walk.read(INDICES, "indices", buffers.indices, views.indices.clone())?;
        let mut call = walk.clone();
        call.write(O, "o", buffers.o, views.o.of(self.o))?;
        call.write(LSE, "lse", buffers.lse, views.statistics.clone())?;
        if self.is_empty() {
            return Ok(Dispatch::default());
        }

        let tiles = product!(self.group(), self.seq_q).div_ceil(config.tile_rows().into());
        let grid = call.fold(product!(tiles, self.kv_heads, self.batch, config.splits))?;
        let params = Params::of(self, views, config, self.flags(), tiles as u32, grid);
        if config.algorithm != Algorithm::Decode {
            call.check()?;
            return call.dispatch(&[self.pass(views, config, call.writable())], &params, grid);
        }

        // The walk leaves o, maximum and sum of each part in scratch, one part after the other.
        let [o_bytes, part_bytes] = config.scratch_parts(self);
        let scratch = call.scratch_memory(buffers.scratch, o_bytes + part_bytes)?;
        call.write(SCRATCH, "scratch", scratch.clone(), Reach::to((o_bytes + part_bytes) / 4, WORD))?;
        call.check()?;
        let (o, parts) = (scratch.part(0, o_bytes), scratch.part(o_bytes, part_bytes));
        walk.write(O, "o", o.clone(), Reach::to(o_bytes / 4, WORD))?;
        walk.write(LSE, "lse", parts.clone(), Reach::to(part_bytes / 4, WORD))?;
        let sizes = self.q_sizes();
        let rows = product!(sizes[0], sizes[1], sizes[2]);
        let params = Params {
            flags: self.flags() | SUMS,
            o: Layout::at(0).view("scratch", sizes, self.value_dim)?.params(),
            o_part: product!(rows, self.value_dim) as u32,
            lse_offset: 0,
            lse_part: rows as u32,
            sums: product!(rows, config.parts()) as u32,
            ..params
        };
        let walked = walk.step(&self.pass(views, config, walk.writable()), &params, grid)?;

        let (join, choice) = self.join(config);
        let mut joined = attention_merge::Buffers::new(&o, &parts, buffers.o).sum(&parts);
        if let Some(lse) = buffers.lse {
            joined = joined.lse_out(lse);
        }
        // Another one where its own is banned.
        let choice = kernels.ban(&join, &choice).is_none().then_some(&choice);
        let joined = ops::plan(kernels, &join, choice, &joined)?.into_steps();
        Ok(Dispatch::of([walked].into_iter().chain(joined).collect()))
    }
}

impl Problem {
    /// The second step of `Decode`, and its Config.
    fn join(&self, config: &Config) -> (attention_merge::Problem, attention_merge::Config) {
        let [n0, n1, n2] = self.q_sizes();
        let join = attention_merge::Problem {
            splits: config.parts() as usize,
            rows: n0.saturating_mul(n1).saturating_mul(n2),
            dim: self.value_dim,
            dims: [n1, n2],
            y: self.o,
            out_layout: self.q_strides(self.o_layout, self.value_dim),
            sum: Some(product!(config.parts(), n0, n1, n2).min(usize::MAX as u64) as usize),
            lse_out: self.lse,
            sum_out: self.sum,
            ..Default::default()
        };
        let native_f16 = config.native_f16 && self.o == Dtype::F16;
        (join, attention_merge::Config { wg_size: config.wg_size, native_f16 })
    }
}
