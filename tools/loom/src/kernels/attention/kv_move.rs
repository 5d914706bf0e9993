//! Keys and values of an accepted path, moved together, described.

use tileloom::kv_append::Cache;
use tileloom::kv_move::Problem;
use tileloom::{Dtype, Layout};

use super::kv_append::read_cache;
use crate::case::{self, Case, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

/// Vectors of `dim` elements in pages of 16 places, four times as many as nodes.
fn shape(batch: usize, len: usize, depth: usize, kv_heads: usize, dim: usize) -> Problem {
    let pages = (4 * batch * len).div_ceil(16).max(1);
    let (head_dim, value_dim) = (dim, dim);
    Problem { batch, len, depth, kv_heads, head_dim, value_dim, pages, page_size: 16, ..Problem::default() }
}

/// Paths that go back, that name what is no node, and all nodes.
fn hostile(problem: &Problem, values: &mut Values) {
    let Problem { len, depth, .. } = *problem;
    values.entry("path").and_modify(|path| {
        path[..depth].iter_mut().enumerate().for_each(|(i, node)| *node = (len - 1 - i % len) as f64);
        let odd = [-7.0, len as f64, i32::MIN.into(), i32::MAX.into(), 1.0];
        path[depth..2 * depth].iter_mut().enumerate().for_each(|(i, node)| *node = odd[i % 5]);
        path[2 * depth..3 * depth].iter_mut().enumerate().for_each(|(i, node)| *node = i as f64);
    });
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

const CACHES: [Cache; 5] =
    [Cache::Float(Dtype::F32), Cache::Float(Dtype::F16), Cache::Float(Dtype::Bf16), Cache::Int8, Cache::E4m3];

impl Listed for Problem {
    fn list(list: &mut List<Problem>) {
        for cache in CACHES {
            for (batch, len, depth, kv_heads, dim) in [(3, 26, 5, 2, 64), (1, 7, 7, 3, 7), (2, 9, 4, 1, 36)] {
                list.narrow("dtypes", Problem { cache, ..shape(batch, len, depth, kv_heads, dim) }).seed(2);
            }
        }
        for (batch, len, depth) in [(1, 1, 1), (2, 0, 3), (2, 3, 0), (2, 3, 9)] {
            list.narrow("sizes", shape(batch, len, depth, 2, 8)).seed(3);
        }
        for cache in [Cache::Float(Dtype::F16), Cache::Int8] {
            let problem = Problem { cache, value_dim: 5, wide: true, ..shape(3, 8, 6, 2, 12) };
            list.narrow("hostile", problem).seed(4).set(hostile);
        }
        // A contiguous cache, heads before places; the root's slots in front of those of the nodes.
        let contiguous = Problem {
            pages: 3,
            page_size: 40,
            k_cache: Layout::strided(8, [2 * 40 * 24 + 8, 40 * 24, 24]),
            slots: Layout::strided(1, [10]),
            path: 3,
            ..shape(3, 9, 4, 2, 24)
        };
        list.narrow("strided", contiguous).seed(5);
        list.wide("checked modules give the same", Problem { cache: Cache::E4m3, ..contiguous }).seed(6).checked();
        let f16 = |batch: usize| Problem { cache: Cache::Float(Dtype::F16), ..shape(batch, 64, 5, 8, 128) };
        list.bench("1x64x5, 8 of 128, f16", f16(1)).quick();
        list.large("64x64x5, 8 of 128, f16", f16(64));
    }

    /// What may move is read and written.
    fn cost(&self) -> Cost {
        let moves = self.batch * self.depth.min(self.len) * self.kv_heads;
        let vector = (self.head_dim + self.value_dim) * self.cache.bytes() as usize;
        let scales = if matches!(self.cache, Cache::Float(_)) { 0 } else { 8 };
        Cost { flops: 0.0, bytes: (2 * moves * (vector + scales)) as f64 }
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("k_cache_layout", &mut self.k_cache)?;
        options.value("v_cache_layout", &mut self.v_cache)?;
        options.value("k_scale_offset", &mut self.k_scale)?;
        options.value("v_scale_offset", &mut self.v_scale)?;
        options.value("slots_layout", &mut self.slots)?;
        options.value("path_offset", &mut self.path)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let mut values = Values::new();
        let (k, v) = (reader.tensor("k_cache", CACHE)?, reader.tensor("v_cache", CACHE)?);
        let (&[_, _, kv_heads, head_dim], &[.., value_dim]) = (&k.shape[..], &v.shape[..]) else {
            return Err(case::bad_shape("k_cache", k, CACHE));
        };
        let of = Problem { kv_heads, head_dim, value_dim, ..Problem::default() };
        let mut cache = of.appended();
        read_cache(reader, &mut cache, &mut values)?;
        let slots = reader.tensor("slots", "[batch, n]")?;
        let &[batch, len] = &slots.shape[..] else {
            return Err(case::bad_shape("slots", slots, "[batch, n]"));
        };
        let path = reader.tensor("path", "[batch, depth]")?;
        let depth = match path.shape[..] {
            [have, depth] if have == batch => depth,
            _ => return Err(case::bad_shape("path", path, format!("[{batch}, depth]"))),
        };
        let wide = slots.dtype.to_string() == "I64";
        values.insert("slots", case::integers("slots", slots)?.into_iter().map(|slot| slot as f64).collect());
        let node = |v: i64| if i32::try_from(v).is_ok() { v as f64 } else { -1.0 };
        values.insert("path", case::integers("path", path)?.into_iter().map(node).collect());
        let (pages, page_size) = (cache.pages, cache.page_size);
        let mut problem = Problem { batch, len, depth, pages, page_size, cache: cache.cache, wide, ..of };
        problem.options(&mut Options::Read(reader))?;
        let shape = |dim| vec![pages, page_size, kv_heads, dim];
        let mut outputs = vec![Shown::new("k_cache", shape(head_dim)), Shown::new("v_cache", shape(value_dim))];
        if !matches!(cache.cache, Cache::Float(_)) {
            outputs.extend(["k_scale", "v_scale"].map(|name| Shown::new(name, [pages, page_size, kv_heads])));
        }
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        let Problem { batch, len, depth, kv_heads, pages, page_size, .. } = *self;
        match arg.name {
            "slots" => vec![batch, len],
            "path" => vec![batch, depth],
            "k_scale" | "v_scale" => vec![pages, page_size, kv_heads],
            _ => vec![pages, page_size, kv_heads, arg.view.cols],
        }
    }

    fn header(&self) -> Case {
        let mut case = Case::new(self.op());
        self.clone().options(&mut Options::Write(&mut case)).expect("options are written without a fault");
        if self.cache == Cache::E4m3 { case.option("cache", "e4m3") } else { case }
    }
}

const CACHE: &str = "[pages, page_size, hkv, d]";
