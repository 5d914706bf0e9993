//! Scalar quantisation on a GPU.

use loom::kernels::vq_scalar::check;
use loom::random::Random;
use tileloom::vq_scalar::{self, Buffers, Direction, Kind, Problem};
use tileloom::{Dtype, Error, ErrorKind, Layout};

use crate::Suite;

const FSQ: &[u32] = &[8, 5, 5, 5];
const ODD: &[u32] = &[7, 3, 2];
const LFQ: &[u32] = &[2; 18];

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
            if !matches!(result, Err(Error { kind: ErrorKind::InvalidProblem { arg: "levels", .. }, .. })) {
                return Err(format!("{levels:?}: {result:?}"));
            }
        }
        let caps = gpu.kernels.caps();
        let problem = Problem { n: 1, levels: FSQ, ..Problem::default() };
        let [indices, x, y] = [4, 16, 16].map(|bytes| gpu.buffer(&vec![0; bytes]));
        let buffers = Buffers::new(&indices, &y).x(&x);
        let config = vq_scalar::choose(&caps, &problem).map_err(|error| error.to_string())?;
        for (wg_size, fits) in [(8, true), (0, false), (caps.most_invocations() + 1, false)] {
            let config = vq_scalar::Config { wg_size, ..config };
            match vq_scalar::prepare_with(&gpu.kernels, &problem, &config, buffers) {
                Ok(_) if fits => {}
                Err(Error { kind: ErrorKind::ConfigUnfit { .. }, .. }) if !fits => {}
                other => return Err(format!("{wg_size} invocations: {:?}", other.map(drop))),
            }
        }
        let result = refused(Problem { direction: Direction::Decode, ..Problem::default() });
        match result {
            Err(Error { kind: ErrorKind::UnusedBuffer { buffer: "x", .. }, .. }) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}
