//! Scalar quantisation on a GPU.

use loom::Gpu;
use loom::memory::{Image, Rows};
use loom::random::Random;
use tileloom::reference::vq_scalar as reference;
use tileloom::vq_scalar::{self, Buffers, Direction, Kind, Problem};
use tileloom::{Dtype, Error, Layout};

use crate::Suite;

const FSQ: &[u32] = &[8, 5, 5, 5];
const ODD: &[u32] = &[7, 3, 2];
const LFQ: &[u32] = &[2; 18];

/// Encodes, and decodes what came out; both must be what the formulas give, bit by bit.
fn check(gpu: &Gpu, problem: &Problem, x: &[f64]) -> Result<(), String> {
    let (n, dims) = (problem.n, problem.levels.len());
    let rows = |layout: Layout<1>, cols, dtype| {
        let layout = Layout { offset: layout.offset, strides: layout.strides.map(|[s]| [0, 0, s]) };
        Rows { layout, sizes: [1, 1, n], cols, dtype }
    };
    let (x_view, y_view) = (rows(problem.x_layout, dims, problem.x), rows(problem.y_layout, dims, problem.y));
    let index_view = rows(Layout::at(problem.indices), 1, Dtype::F32);
    let mut given = Image::with_room(&[x_view]);
    given.scatter(&x_view, x);
    let (indices, y) = (Image::with_room(&[index_view]), Image::with_room(&[y_view]));
    let buffers = [&given, &indices, &y, &y].map(|image| gpu.buffer(&image.bytes));
    let [x_bound, index_bound] = [given.binding(&buffers[0]), indices.binding(&buffers[1])];
    let encode = Buffers::new(index_bound.clone(), y.binding(&buffers[2])).x(x_bound);
    let decode = Buffers::new(index_bound, y.binding(&buffers[3]));
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    for (direction, buffers) in [(Direction::Encode, encode), (Direction::Decode, decode)] {
        let dispatch = vq_scalar::prepare(&gpu.kernels, &Problem { direction, ..*problem }, buffers);
        dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
    }
    gpu.queue.submit([encoder.finish()]);
    let (want, values) = reference::encode(problem, x);
    let values: Vec<f64> = values.into_iter().map(|v| problem.y.round(v)).collect();
    let found = Image { bytes: gpu.read(&buffers[1])? };
    let found: Vec<u32> = found.gather(&index_view).into_iter().map(|v| (v as f32).to_bits()).collect();
    if let Some(i) = (0..n).find(|&i| found[i] != want[i]) {
        return Err(format!("index {i} is {}, expected {}", found[i], want[i]));
    }
    for (name, buffer) in [("encoded", &buffers[2]), ("decoded", &buffers[3])] {
        let after = Image { bytes: gpu.read(buffer)? };
        if let Some(byte) = after.spilled(&y, &y_view) {
            return Err(format!("{name}: byte {byte} outside y was written"));
        }
        if after.gather(&y_view) != values {
            return Err(format!("{name} vectors are wrong"));
        }
    }
    Ok(())
}

pub fn cases(suite: &mut Suite) {
    suite.case("FSQ and LFQ, f32", |gpu| {
        for (kind, levels) in [(Kind::Fsq, FSQ), (Kind::Fsq, ODD), (Kind::Fsq, &[1000][..]), (Kind::Lfq, LFQ)] {
            for n in [1, 130] {
                let mut random = Random::new(n as u64);
                let mut x: Vec<f64> = (0..n * levels.len()).map(|_| Dtype::F32.round(1.5 * random.normal())).collect();
                x[0] = 1e30;
                check(gpu, &Problem { n, kind, levels, ..Problem::default() }, &x)?;
            }
        }
        Ok(())
    });
    suite.case("zeros and signs", |gpu| {
        let problem = Problem { n: 1, kind: Kind::Lfq, levels: &[2; 4], ..Problem::default() };
        check(gpu, &problem, &[0.0, -0.0, 1e-30, -1e-30])
    });
    suite.case("16 bits, odd rows, strides", |gpu| {
        for (x, y, step) in [(Dtype::F16, Dtype::Bf16, 3), (Dtype::Bf16, Dtype::F16, 5)] {
            let layout = Layout::strided(1, [step]);
            let n = 41;
            let problem =
                Problem { n, levels: ODD, x, y, x_layout: layout, y_layout: layout, indices: 2, ..Problem::default() };
            let mut random = Random::new(3);
            let values: Vec<f64> = (0..n * 3).map(|_| x.round(random.normal())).collect();
            check(gpu, &problem, &values)?;
        }
        Ok(())
    });
    suite.case("errors", |gpu| {
        let buffer = gpu.buffer(&[0; 64]);
        let refused = |problem: Problem| {
            vq_scalar::prepare(&gpu.kernels, &problem, Buffers::new(&buffer, &buffer).x(&buffer)).map(drop)
        };
        for levels in [&[][..], &[1], &[4096, 4096, 4096]] {
            let result = refused(Problem { levels, ..Problem::default() });
            if !matches!(result, Err(Error::InvalidProblem { arg: "levels", .. })) {
                return Err(format!("{levels:?}: {result:?}"));
            }
        }
        let result = refused(Problem { direction: Direction::Decode, ..Problem::default() });
        match result {
            Err(Error::UnusedBuffer { buffer: "x", .. }) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}
