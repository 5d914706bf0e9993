//! A stable sort by small keys, by its definition.

use crate::counting_sort::Problem;

/// What counting_sort gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// `[segments * n]`.
    pub order: Vec<u32>,
    /// `[segments * num_keys + 1]`.
    pub offsets: Vec<u32>,
    /// `[segments * num_keys]`.
    pub counts: Vec<u32>,
}

/// The elements `segment * n + position`, sorted by segment and key; those that are out of range stand behind all others, or
/// count for key 0.
///
/// `keys` is contiguous `[n, segments]`.
pub fn reference(problem: &Problem, keys: &[i64]) -> Output {
    let Problem { n, segments, num_keys, out_of_range, .. } = *problem;
    let codes = segments * num_keys;
    let bucket = |e: usize| {
        let (segment, position) = (e / n, e % n);
        let key = out_of_range.find(keys[position * segments + segment], num_keys);
        key.map_or(codes, |key| segment * num_keys + key)
    };
    let mut runs = vec![Vec::new(); codes + 1];
    for e in 0..segments * n {
        runs[bucket(e)].push(e as u32);
    }
    let counts: Vec<u32> = runs[..codes].iter().map(|run| run.len() as u32).collect();
    let mut offsets = vec![0];
    offsets.extend(counts.iter().scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    }));
    Output { order: runs.concat(), offsets, counts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counting_sort::OutOfRange;

    #[test]
    fn by_hand() {
        let problem = Problem { n: 6, num_keys: 3, ..Problem::default() };
        let keys = [2, 0, 9, 2, -1, 0];
        let out = reference(&problem, &keys);
        assert_eq!(out, Output { order: vec![1, 5, 0, 3, 2, 4], offsets: vec![0, 2, 2, 4], counts: vec![2, 0, 2] });
        let first = reference(&Problem { out_of_range: OutOfRange::First, ..problem }, &keys);
        assert_eq!((first.order, first.offsets), (vec![1, 2, 4, 5, 0, 3], vec![0, 4, 4, 6]));
        let nearest = reference(&Problem { out_of_range: OutOfRange::Nearest, ..problem }, &keys);
        assert_eq!((nearest.order, nearest.offsets), (vec![1, 4, 5, 0, 2, 3], vec![0, 3, 3, 6]));
        // Position 0 has keys 1 and 0, position 1 has 0 and 7.
        let two = reference(&Problem { n: 2, segments: 2, num_keys: 2, ..Problem::default() }, &[1, 0, 0, 7]);
        assert_eq!(two, Output { order: vec![1, 0, 2, 3], offsets: vec![0, 1, 2, 3, 3], counts: vec![1, 1, 1, 0] });
    }
}
