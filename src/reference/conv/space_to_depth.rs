//! Blocks of pixels to channels, and back, by definition.

use super::place;
use crate::space_to_depth::{Mode, Problem};

/// Where each element of the contiguous y lies in the contiguous x; `None`: it is 0. `grids` are those of packed patches, `[pictures, 2]`.
///
/// # Panics
/// If the Problem's sizes are not whole blocks, or of packed patches without grids.
pub fn places(problem: &Problem, grids: Option<&[u32]>) -> Vec<Option<usize>> {
    let Problem { batch, channels, size, block: [block_h, block_w], order, inverse, .. } = *problem;
    let elements = block_h * block_w;
    let count = batch * channels * size[0] * size[1];
    let (deep, mut places) = (problem.deep(), vec![None; count]);
    let mut put = |wide: usize, deep: usize| {
        if inverse { places[wide] = Some(deep) } else { places[deep] = Some(wide) }
    };
    if problem.packed.is_some() {
        let (mut start, rows) = (0, size[1]);
        for grid in grids.expect("grids").chunks(2) {
            let [h, w] = [grid[0] as usize, grid[1] as usize];
            if h == 0 || w == 0 {
                continue;
            }
            if h % block_h != 0 || w % block_w != 0 || h > (rows - start) / w {
                break;
            }
            for (i, j) in (0..h).flat_map(|i| (0..w).map(move |j| (i, j))) {
                let row = start / elements + i / block_h * (w / block_w) + j / block_w;
                let element = i % block_h * block_w + j % block_w;
                for c in 0..channels {
                    put((start + i * w + j) * channels + c, (row * elements + element) * channels + c);
                }
            }
            start += h * w;
        }
        return places;
    }
    for n in 0..batch {
        for c in 0..channels {
            for i in 0..size[0] {
                for j in 0..size[1] {
                    let element = i % block_h * block_w + j % block_w;
                    let channel = match problem.mode {
                        Mode::Dcr => element * channels + c,
                        Mode::Crd => c * elements + element,
                    };
                    let to =
                        place(order, [channels * elements, deep[0], deep[1]], [n, channel, i / block_h, j / block_w]);
                    put(place(order, [channels, size[0], size[1]], [n, c, i, j]), to);
                }
            }
        }
    }
    places
}

/// y, of the contiguous x.
///
/// # Panics
/// If `x` has fewer values than its shape, and as [`places`].
pub fn reference(problem: &Problem, x: &[f64], grids: Option<&[u32]>) -> Vec<f64> {
    places(problem, grids).into_iter().map(|place| place.map_or(0.0, |place| x[place])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::Order;
    use crate::space_to_depth::Packed;

    fn numbers(count: usize) -> Vec<f64> {
        (0..count).map(|i| i as f64).collect()
    }

    /// ONNX's examples of DepthToSpace: eight channels of 2 x 3, counted by nines.
    #[test]
    fn as_published() {
        let x: Vec<f64> = (0..8).flat_map(|c| (0..6).map(move |i| f64::from(9 * c + i))).collect();
        let of = |mode| Problem { channels: 2, size: [4, 6], block: [2, 2], mode, inverse: true, ..Problem::default() };
        let dcr = reference(&of(Mode::Dcr), &x, None);
        assert_eq!(dcr[..12], [0.0, 18.0, 1.0, 19.0, 2.0, 20.0, 36.0, 54.0, 37.0, 55.0, 38.0, 56.0]);
        assert_eq!(dcr[24..30], [9.0, 27.0, 10.0, 28.0, 11.0, 29.0]);
        let crd = reference(&of(Mode::Crd), &x, None);
        assert_eq!(crd[..12], [0.0, 9.0, 1.0, 10.0, 2.0, 11.0, 18.0, 27.0, 19.0, 28.0, 20.0, 29.0]);
        assert_eq!(crd[24..30], [36.0, 45.0, 37.0, 46.0, 38.0, 47.0]);
        for mode in [Mode::Dcr, Mode::Crd] {
            let back = Problem { inverse: false, ..of(mode) };
            assert_eq!(reference(&back, &reference(&of(mode), &x, None), None), x);
        }
    }

    /// Pictures of 2 x 4 and 4 x 2 patches of one element.
    #[test]
    fn packed_by_hand() {
        let of = Problem {
            size: [1, 18],
            block: [2, 1],
            order: Order::Nhwc,
            packed: Some(Packed { pictures: 2, grids: 0 }),
            ..Problem::default()
        };
        let x = numbers(18);
        let y = reference(&of, &x, Some(&[2, 4, 4, 2]));
        let first = [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0];
        let second = [8.0, 10.0, 9.0, 11.0, 12.0, 14.0, 13.0, 15.0];
        assert_eq!(y, [&first[..], &second, &[0.0; 2]].concat());
        let back = reference(&Problem { inverse: true, ..of }, &y, Some(&[2, 4, 4, 2]));
        assert_eq!(back, [&x[..16], &[0.0; 2]].concat());
        // No whole blocks, or too many: the sequence ends. A picture without patches is none.
        for grids in [[2, 4, 3, 2], [2, 4, 6, 2], [2, 4, u32::MAX - 1, u32::MAX], [2, 4, 2, u32::MAX]] {
            assert_eq!(reference(&of, &x, Some(&grids)), [&first[..], &[0.0; 10]].concat());
        }
        assert_eq!(reference(&of, &x, Some(&[7, 0, 2, 4]))[..8], first);
    }

    /// One grid: packed patches are pictures with channels last, and 2 x 2 of them are merged as Swin has it.
    #[test]
    fn packed_is_dense() {
        let dense = Problem { channels: 3, size: [4, 6], block: [2, 2], order: Order::Nhwc, ..Problem::default() };
        let packed = Problem { size: [1, 24], packed: Some(Packed { pictures: 1, grids: 0 }), ..dense };
        assert_eq!(places(&dense, None), places(&packed, Some(&[4, 6])));
        assert_eq!(places(&dense, None)[..6], [0, 1, 2, 3, 4, 5].map(Some));
        assert_eq!(places(&dense, None)[6..12], [18, 19, 20, 21, 22, 23].map(Some));
    }
}
