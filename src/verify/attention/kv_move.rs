//! How a call of kv_move is made and judged.

use crate::kv_move::{Buffers, Problem};
use crate::reference::kv_append::format;
use crate::reference::kv_move::{moves, reference};
use crate::verify::attention::kv_append::{cache_rows, number};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;
use crate::{Dtype, Layout};

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let Problem { batch, len, depth, kv_heads, .. } = *self;
        let cache = self.appended();
        let slot = if self.wide { Number::I64 } else { Number::I32 };
        let mut args = vec![
            Arg::read("slots", Rows::new(self.slots, [batch], len, slot)),
            Arg::read("path", Rows::flat(self.path, batch.saturating_mul(depth), Number::I32)),
            Arg::update("k_cache", cache_rows(&cache, self.k_cache, self.head_dim)),
            Arg::update("v_cache", cache_rows(&cache, self.v_cache, self.value_dim)),
        ];
        if format(self.cache).is_some() {
            let scales = |at| Rows::new(Layout::<2>::at(at), [self.pages, self.page_size], kv_heads, Dtype::F32);
            args.extend([Arg::update("k_scale", scales(self.k_scale)), Arg::update("v_scale", scales(self.v_scale))]);
        }
        args
    }

    /// Slots are apart, and one in seven does not exist; paths go up.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "slots" => {
                let places = self.pages * self.page_size;
                let mut all: Vec<usize> = (0..places).collect();
                for i in (1..places).rev() {
                    all.swap(i, random.below(i + 1));
                }
                let bad = [-1.0, places as f64, if self.wide { 2f64.powi(32) } else { i32::MIN.into() }];
                let one = |i: usize| all.get(i).filter(|_| i % 7 != 3).map_or(bad[i % 3], |&slot| slot as f64);
                (0..len).map(one).collect()
            }
            "path" => {
                let mut path = Vec::new();
                while path.len() < len {
                    let mut node = random.below(3);
                    for _ in 0..self.depth {
                        path.push(if node < self.len { node as f64 } else { -1.0 });
                        node += 1 + random.below(3);
                    }
                }
                path
            }
            "k_cache" | "v_cache" if format(self.cache).is_some() => {
                (0..len).map(|_| number(self.cache).round(random.below(256) as f64)).collect()
            }
            _ => random.outliers(len),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let [k_cache, v_cache, slots, path] = ["k_cache", "v_cache", "slots", "path"].map(|name| bound.get(name));
        let buffers = Buffers::new(k_cache, v_cache, slots, path);
        bound.with(buffers, [("k_scale", Buffers::k_scale), ("v_scale", Buffers::v_scale)])
    }

    /// Bit by bit.
    fn rules(&self, values: &Values, _given: &Values) -> Vec<(&'static str, Rule)> {
        let [slots, path] = ["slots", "path"].map(|name| values[name].iter().map(|&v| v as i64).collect::<Vec<_>>());
        let moves = moves(self, &slots, &path);
        let all = [("k_cache", self.head_dim), ("v_cache", self.value_dim), ("k_scale", 1), ("v_scale", 1)];
        let of = |(name, dim): (&'static str, usize)| {
            let cache = values.get(name)?;
            Some((name, Rule::Exact(reference(cache, self.kv_heads * dim, &moves))))
        };
        all.into_iter().filter_map(of).collect()
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |batch: usize, len: usize, dim: usize| {
            let (batch, len) = (self.batch.min(batch), self.len.min(len));
            let (kv_heads, pages, page_size) = (self.kv_heads.min(3), self.pages.min(5), self.page_size.min(9));
            let of = |layout: Layout<3>, dim: usize| small::laid_by(16, layout, [pages, kv_heads, page_size], dim);
            let [head_dim, value_dim] = [self.head_dim, self.value_dim].map(|own| like(own, dim));
            Problem {
                batch,
                len,
                depth: self.depth.min(len.max(1)),
                kv_heads,
                head_dim,
                value_dim,
                pages,
                page_size,
                cache: self.cache,
                k_cache: of(self.k_cache, head_dim),
                v_cache: of(self.v_cache, value_dim),
                k_scale: self.k_scale % 8,
                v_scale: self.v_scale % 8,
                slots: small::laid(self.slots, [batch], len),
                wide: self.wide,
                path: self.path % 8,
            }
        };
        small::few([small(3, 9, 32), small(1, 6, 96)].map(|p| (p.pages * p.page_size * p.kv_heads * p.head_dim, p)))
    }
}

/// The size of about `small` that has the remainder of `size` by 16, which a unit of bytes goes by.
fn like(size: usize, small: usize) -> usize {
    size.min(small + size % 16)
}
