//! Training of a codebook on a GPU.

use loom::kernels::vq_train::{Memory, check, f32s, judge, submit, upload};
use loom::random::Random;
use tileloom::reference::vq_assign;
use tileloom::reference::vq_train::gradient;
use tileloom::vq_train::{self, Buffers, Gradient, GradientBuffers, KMeansBuffers, Problem};
use tileloom::{Dtype, Error, ErrorKind};

use crate::Suite;

pub fn cases(suite: &mut Suite) {
    suite.case("moving averages, dead codes, perplexity", |gpu| {
        for (n, books, num_codes, code_dim, least) in [(50, 1, 40, 8, 0.5), (7, 2, 9, 5, 0.3), (1, 1, 1, 1, 0.0)] {
            let base = Problem { n, books, num_codes, code_dim, least, ..Problem::default() };
            check(gpu, &Problem { decay: 0.75, seed: 9, x: Dtype::F16, ..base })?;
        }
        Ok(())
    });
    suite.case("gradients", |gpu| {
        for (elements, dtype) in [(640, Dtype::F32), (37, Dtype::F32), (37, Dtype::Bf16), (64, Dtype::F16)] {
            let mut random = Random::new(5);
            let [x, q, dy] =
                [(); 3].map(|()| (0..elements).map(|_| dtype.round(3.0 * random.normal())).collect::<Vec<f64>>());
            let problem = Gradient { elements, dtype, commit: 0.5, pull: Some(2.0) };
            let inputs = [&x, &q, &dy].map(|values| gpu.buffer(&dtype.encode(values)));
            let poison = [elements * dtype.bytes() as usize, elements * 4].map(|n| vec![0xff; n.next_multiple_of(4)]);
            let [dx, dq] = poison.each_ref().map(|bytes| gpu.buffer(bytes));
            let buffers = GradientBuffers {
                x: (&inputs[0]).into(),
                q: (&inputs[1]).into(),
                dy: (&inputs[2]).into(),
                dx: (&dx).into(),
                dq: Some((&dq).into()),
            };
            submit(gpu, vq_train::prepare_gradient(&gpu.kernels, &problem, buffers))?;
            let (oracle, oracle_dq) = gradient::<f64>(0.5, 2.0, &x, &q, &dy);
            let (low, low_dq) = gradient::<f32>(0.5, 2.0, &x, &q, &dy);
            let out = dtype.decode(&gpu.read(&dx)?)[..elements].to_vec();
            judge("dx", elements, dtype, &oracle, &low, &out)?;
            judge("dq", elements, Dtype::F32, &oracle_dq, &low_dq, &f32s(gpu, &dq)?)?;
        }
        Ok(())
    });
    suite.case("k-means finds clusters", |gpu| {
        // 240 vectors around 6 places far apart: the mean of each is found, whatever is drawn first.
        let (n, num_codes, code_dim) = (240, 12, 4);
        let mut random = Random::new(6);
        let place = |i: usize, d: usize| 100.0 * ((i * 7 + d * 3) % 6) as f64;
        let x: Vec<f64> = (0..n * code_dim)
            .map(|at| Dtype::F32.round(place(at / code_dim % 6, at % code_dim) + random.normal()))
            .collect();
        let problem = Problem { n, num_codes, code_dim, seed: 3, ..Problem::default() };
        let poison = |words: usize| gpu.buffer(&vec![0x7f; words * 4]);
        let memory = Memory {
            counts: poison(num_codes),
            sums: poison(num_codes * code_dim),
            x: upload(gpu, &x),
            // Averages and codes that hold anything: nothing of them may show.
            state: [num_codes, num_codes * code_dim, num_codes * code_dim, 2].map(|n| upload(gpu, &vec![f64::NAN; n])),
        };
        let indices = poison(n);
        let buffers = KMeansBuffers { indices: (&indices).into(), step: memory.buffers() };
        submit(gpu, vq_train::prepare_kmeans(&gpu.kernels, &problem, 8, buffers))?;
        let codebook = f32s(gpu, &memory.state[2])?;
        let spread: f64 = x
            .chunks(code_dim)
            .map(|x| {
                let best = vq_assign::nearest::<f64>(Default::default(), x, &codebook, 1)[0];
                vq_assign::distance::<f64>(Default::default(), x, &codebook[best * code_dim..][..code_dim])
            })
            .sum::<f64>()
            / n as f64;
        // Within a cluster a vector is 4 from the mean, squared.
        if spread < 5.0 { Ok(()) } else { Err(format!("vectors are {spread} from their codes")) }
    });
    suite.case("errors", |gpu| {
        let buffer = gpu.buffer(&[0; 256]);
        let buffers = || Buffers {
            counts: (&buffer).into(),
            sums: (&buffer).into(),
            x: (&buffer).into(),
            ema_counts: (&buffer).into(),
            ema_sums: (&buffer).into(),
            codebook: (&buffer).into(),
            stats: (&buffer).into(),
        };
        let refused = |problem: Problem| vq_train::prepare(&gpu.kernels, &problem, buffers()).map(drop);
        let bad = refused(Problem { decay: 1.5, ..Problem::default() });
        if !matches!(bad, Err(Error { kind: ErrorKind::InvalidProblem { arg: "decay", .. }, .. })) {
            return Err(format!("decay: {bad:?}"));
        }
        let large = refused(Problem { num_codes: 1000, ..Problem::default() });
        if !matches!(large, Err(Error { kind: ErrorKind::BufferTooSmall { buffer: "counts", .. }, .. })) {
            return Err(format!("size: {large:?}"));
        }
        let aliased = refused(Problem::default());
        if matches!(aliased, Err(Error { kind: ErrorKind::Aliased { .. }, .. })) {
            Ok(())
        } else {
            Err(format!("{aliased:?}"))
        }
    });
}
