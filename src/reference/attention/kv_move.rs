//! Keys and values of an accepted path, moved together, by its definition.

use crate::kv_move::Problem;

/// The moves `(from, to)` between places of the cache, in order.
pub fn moves(problem: &Problem, slots: &[i64], path: &[i64]) -> Vec<(usize, usize)> {
    let Problem { batch, len, depth, pages, page_size, .. } = *problem;
    let place = |slot: i64| usize::try_from(slot).ok().filter(|&slot| slot < pages * page_size);
    let of = |b: usize, j: usize| {
        let node = usize::try_from(path[b * depth + j]).ok().filter(|&node| node < len)?;
        Some((place(slots[b * len + node])?, place(slots[b * len + j])?))
    };
    (0..batch).flat_map(|b| (0..depth.min(len)).filter_map(move |j| of(b, j))).collect()
}

/// A cache `[places, inner]`, contiguous, with these moves made.
pub fn reference(cache: &[f64], inner: usize, moves: &[(usize, usize)]) -> Vec<f64> {
    let mut cache = cache.to_vec();
    for &(from, to) in moves {
        cache.copy_within(from * inner..(from + 1) * inner, to * inner);
    }
    cache
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let problem = Problem { len: 4, depth: 3, pages: 2, page_size: 3, ..Problem::default() };
        let of = |slots: [i64; 4], path: [i64; 3]| {
            reference(&[10.0, 11.0, 12.0, 13.0, 14.0, 15.0], 1, &moves(&problem, &slots, &path))
        };
        // Nodes 1 and 3 of slots 4, 2, 0, 5 go to slots 4 and 2.
        assert_eq!(of([4, 2, 0, 5], [1, 3, -1]), [10.0, 11.0, 15.0, 13.0, 12.0, 15.0]);
        // What does not exist: a node, a slot to read, a slot to write.
        assert_eq!(of([0, 6, 1 << 32, 5], [4, 3, 2]), [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]);
        // A path that goes back reads what was written before.
        assert_eq!(of([0, 1, 2, 3], [3, 0, 1]), [13.0, 13.0, 13.0, 13.0, 14.0, 15.0]);
    }
}
