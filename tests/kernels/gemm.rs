//! The matrix product on a GPU. Cases share few pipelines: shapes, strides, batches and epilogues are parameters.

use loom::Gpu;
use loom::kernels::gemm::{Call, Output, plain};
use loom::random::Random;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tileloom::gemm::{
    self, Activation, Algorithm, Along, Buffers, Config, Epilogue, Matrix, Problem, Vector, backward, candidates,
};
use tileloom::{Caps, Context, Dtype, Error, ErrorKind, Kernels, Layout, MatmulOptions};

use crate::{Depth, Suite};

use Dtype::{Bf16, F16, F32};

fn f32s(m: usize, n: usize, k: usize) -> Problem {
    plain(m, n, k, [F32; 3])
}

/// The candidate of this algorithm with the smallest tile, so that shapes share pipelines, or what the adapter lacks.
fn of(gpu: &Gpu, problem: &Problem, algorithm: Algorithm) -> Result<Config, String> {
    let found = candidates(&gpu.kernels.caps(), problem).map_err(|error| error.to_string())?;
    let wanted = found.into_iter().filter(|c| c.algorithm == algorithm && c.parts == 1);
    wanted.min_by_key(|c| c.tile[0] * c.tile[1]).ok_or_else(|| format!("no {algorithm:?} for {problem:?}"))
}

/// Runs and judges by an algorithm; its shader must have run.
fn check(gpu: &Gpu, call: &Call, algorithm: Algorithm) -> Result<Output, String> {
    let config = of(gpu, &call.problem, algorithm)?;
    let (output, _) = call.check(gpu, &gpu.kernels, Some(&config))?;
    let stem = format!("gemm_{algorithm:?} ").to_lowercase();
    match output.steps.len() == 1 && output.steps[0].starts_with(&stem) {
        true => Ok(output),
        false => Err(format!("meant to run {stem}, ran {:?}", output.steps)),
    }
}

/// The same with k in three parts, which a second step must have joined.
fn split(gpu: &Gpu, call: &Call, algorithm: Algorithm) -> Result<(), String> {
    let config = Config { parts: 3, ..of(gpu, &call.problem, algorithm)? };
    let (output, _) = call.check(gpu, &gpu.kernels, Some(&config))?;
    match output.steps.len() == 2 && output.steps[1].starts_with("gemm_split_k") {
        true => Ok(()),
        false => Err(format!("meant to split k, ran {:?}", output.steps)),
    }
}

/// Exact sums: every element is as the oracle has it.
fn exact(gpu: &Gpu, problem: Problem, seed: u64, sparse: bool, algorithm: Algorithm) -> Result<(), String> {
    let call = Call::integers(problem, seed, sparse);
    let output = check(gpu, &call, algorithm)?;
    let [oracle, _] = call.references();
    match output.d == oracle.d {
        true => Ok(()),
        false => Err(format!("{problem:?} is not exact")),
    }
}

pub fn cases(suite: &mut Suite) {
    everywhere(suite);
    errors(suite);
    if suite.depth >= Depth::Wide {
        wide(suite);
    }
    if suite.depth >= Depth::Full {
        full(suite);
    }
}

fn along(along: Along, dtype: Dtype, offset: usize) -> Option<Vector> {
    Some(Vector { dtype, along, offset })
}

/// c, scale, bias, activation and residual.
fn whole(activation: Activation) -> Epilogue {
    Epilogue {
        scale: along(Along::Rows, F32, 1),
        bias: along(Along::Columns, F32, 2),
        activation,
        gate: None,
        residual: Some(Matrix::new(F32)),
    }
}

/// About twenty pipelines.
fn everywhere(suite: &mut Suite) {
    suite.case("direct, integers are exact", |gpu| {
        for (m, n, k) in [(16, 32, 4), (17, 36, 8), (100, 68, 516), (15, 28, 12), (64, 96, 128)] {
            exact(gpu, f32s(m, n, k), 3, m == 64, Algorithm::Direct)?;
        }
        // As it is chosen.
        Call::random(f32s(100, 140, 516), 3).check(gpu, &gpu.kernels, None).map(drop)
    });
    suite.case("direct, primes, ones and every transpose", |gpu| {
        for (m, n, k) in [(37, 101, 53), (1, 1, 1), (1, 31, 7), (33, 1, 5), (16, 33, 1)] {
            for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
                // Aligned forms of n or m of 1 have pipelines of their own.
                let layout = |rows: usize, cols: usize| Matrix::strided(F32, 1, [rows * (cols + 3), 0, cols + 3]);
                let a = if trans_a { layout(k, m) } else { layout(m, k) };
                let b = if trans_b { layout(n, k) } else { layout(k, n) };
                exact(gpu, Problem { a, b, trans_a, trans_b, ..f32s(m, n, k) }, 4, false, Algorithm::Direct)?;
            }
        }
        Ok(())
    });
    suite.case("direct, leading dimensions, offsets and batches", |gpu| {
        // [2, 3] batches: a of its own, b shared by the first axis, d by columns of a wider matrix.
        let (m, n, k) = (18, 20, 24);
        let problem = Problem {
            batch: [2, 3],
            a: Matrix::strided(F32, 8, [3 * m * 32, m * 32, 32]),
            b: Matrix::strided(F32, 4, [0, k * 28, 28]),
            d: Matrix::strided(F32, 12, [m * 120, 40, 120]),
            ..f32s(m, n, k)
        };
        exact(gpu, problem, 5, false, Algorithm::Direct)?;
        let shared = Problem { a: Matrix::strided(F32, 0, [m * k, 0, k]), ..problem };
        exact(gpu, shared, 6, false, Algorithm::Direct)
    });
    suite.case("epilogue, every activation, c and residual in place", |gpu| {
        for &activation in Activation::ALL {
            let problem = Problem {
                alpha: 0.3,
                beta: -1.5,
                c: Some(Matrix::new(F32)),
                epilogue: whole(activation),
                ..f32s(19, 36, 40)
            };
            check(gpu, &Call::random(problem, 7), Algorithm::Direct)?;
            check(gpu, &Call::random(problem, 8).in_place(), Algorithm::Direct)?;
        }
        // Vectors the other way; a c of NaN that beta 0 hides.
        let scale = along(Along::Columns, F16, 3);
        let bias = along(Along::Rows, Bf16, 1);
        let epilogue = Epilogue { scale, bias, residual: Some(Matrix::new(F16)), ..Epilogue::default() };
        let problem = Problem { beta: 0.0, c: Some(Matrix::new(Bf16)), epilogue, ..f32s(19, 36, 40) };
        let mut call = Call::random(problem, 9);
        call.c = Some(vec![f64::NAN; 19 * 36]);
        check(gpu, &call, Algorithm::Direct).map(drop)
    });
    suite.case("no k, no rows, no columns", |gpu| {
        let problem = Problem { c: Some(Matrix::new(F32)), epilogue: whole(Activation::Relu), ..f32s(5, 9, 0) };
        check(gpu, &Call::random(problem, 1), Algorithm::Direct)?;
        for (m, n, batch) in [(0, 9, [1, 1]), (5, 0, [1, 1]), (5, 9, [0, 1])] {
            let output = Call::random(Problem { batch, ..f32s(m, n, 7) }, 1).run(gpu, &gpu.kernels, None)?;
            if !output.steps.is_empty() {
                return Err(format!("{:?} ran", output.steps));
            }
        }
        Ok(())
    });
    suite.case("SwiGLU and GeGLU", |gpu| {
        let bias = along(Along::Columns, F32, 0);
        for activation in [Activation::Silu, Activation::GeluTanh] {
            // b and b2 as columns of one matrix would lie: by rows of 2 n.
            let epilogue = Epilogue { gate: Some(8), activation, bias, ..Epilogue::default() };
            let problem = Problem { b: Matrix::strided(F32, 4, [0, 0, 40]), epilogue, ..f32s(21, 20, 36) };
            check(gpu, &Call::random(problem, 2), Algorithm::Direct)?;
        }
        // Decode: one row, both weights along k; and in parts.
        let epilogue = Epilogue { gate: Some(8), activation: Activation::Silu, bias, ..Epilogue::default() };
        let b = Matrix::strided(F32, 4, [0, 0, 520]);
        check(gpu, &Call::random(Problem { trans_b: true, b, epilogue, ..f32s(1, 68, 516) }, 3), Algorithm::Vector)?;
        let call = Call::random(Problem { epilogue, ..f32s(9, 20, 1028) }, 4);
        split(gpu, &call, Algorithm::Direct)
    });
    suite.case("f16, columns that share words", |gpu| {
        exact(gpu, plain(33, 64, 48, [F16; 3]), 1, false, Algorithm::Direct)?;
        for (n, offset) in [(37, 0), (37, 1), (36, 1)] {
            let d = Matrix::strided(F16, offset, [0, 0, n]);
            check(gpu, &Call::random(Problem { d, ..plain(19, n, 23, [F16; 3]) }, 5), Algorithm::Direct)?;
        }
        Ok(())
    });
    suite.case("tiled", |gpu| {
        for (m, n, k) in [(64, 64, 16), (65, 68, 20), (130, 60, 132), (3, 4, 8)] {
            exact(gpu, f32s(m, n, k), 3, false, Algorithm::Tiled)?;
        }
        Ok(())
    });
    suite.case("few rows, few columns", |gpu| {
        // Weights along k, as the right side and as the left.
        for (n, k) in [(260, 516), (33, 64), (36, 64), (12, 4), (4, 4)] {
            exact(gpu, Problem { trans_b: true, ..f32s(1, n, k) }, 2, false, Algorithm::Vector)?;
            exact(gpu, f32s(n + 1, 1, k), 3, false, Algorithm::Vector)?;
        }
        // Across k.
        exact(gpu, f32s(1, 260, 516), 2, false, Algorithm::Vector)?;
        exact(gpu, f32s(1, 37, 53), 2, false, Algorithm::Vector)
    });
    suite.case("split k, the same bits twice", |gpu| {
        let call = Call::random(Problem { batch: [1, 2], ..f32s(18, 36, 4100) }, 2);
        let config = of(gpu, &call.problem, Algorithm::Direct)?;
        let config = Config { parts: 5, ..config };
        let (first, _) = call.check(gpu, &gpu.kernels, Some(&config))?;
        let (second, _) = call.check(gpu, &gpu.kernels, Some(&config))?;
        match first.d == second.d && first.steps.len() == 2 && first.steps[1].starts_with("gemm_split_k") {
            true => Ok(()),
            false => Err(format!("{:?}", first.steps)),
        }
    });
    let lack = coop_lack(&suite.gpu);
    suite.case_unless(lack.as_deref(), "cooperative matrices", |gpu| {
        pollster::block_on(gpu.kernels.probe(&gpu.queue)).map_err(|error| error.to_string())?;
        for (m, n, k) in [(32, 32, 16), (68, 100, 72), (3, 4, 4), (33, 40, 132)] {
            exact(gpu, plain(m, n, k, [F16, F16, F32]), 3, false, Algorithm::Coop)?;
        }
        // Asymmetric values, batches, an epilogue, k split.
        let epilogue = whole(Activation::Silu);
        let problem = Problem { batch: [2, 1], epilogue, ..plain(35, 36, 40, [F16, F16, F32]) };
        check(gpu, &Call::random(problem, 3), Algorithm::Coop)?;
        let call = Call::random(plain(36, 40, 1028, [F16, F16, F32]), 4);
        split(gpu, &call, Algorithm::Coop)?;
        let epilogue = Epilogue { gate: Some(0), activation: Activation::Silu, ..Epilogue::default() };
        let problem = Problem { epilogue, ..plain(35, 68, 72, [F16, F16, F32]) };
        check(gpu, &Call::random(problem, 5), Algorithm::Coop).map(drop)
    });
    suite.case("functions over their range", functions);
    suite.case("limits of bindings: several dispatches", limits);
    suite.case("gradients against differences", gradients);
}

/// Why there are no cooperative matrices here.
fn coop_lack(gpu: &Gpu) -> Option<String> {
    let caps = gpu.kernels.caps();
    let reason = caps.coop_denied.unwrap_or("the device has no cooperative matrices");
    caps.coop.is_empty().then(|| reason.to_string())
}

/// The high level: shared weights, batches, a gate, and gradients of ones.
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let read = |t: &tileloom::Tensor<f32>| pollster::block_on(t.read());
        let a = context.upload(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &[2, 2, 2])?;
        let b = context.upload(&[1f32, 0.0, -1.0, 2.0, 1.0, 3.0], &[2, 3])?;
        let bias = context.upload(&[0f32, 0.5, -100.0], &[3])?;
        let options = MatmulOptions { bias: Some(&bias), activation: Activation::Relu, ..Default::default() };
        let d = a.matmul(&b, &options)?;
        assert_eq!(d.shape(), [2, 2, 3]);
        assert_eq!(read(&d)?, [5.0, 2.5, 0.0, 11.0, 4.5, 0.0, 17.0, 6.5, 0.0, 23.0, 8.5, 0.0]);
        // a a^T by batches: [[5, 11], [11, 25]], [[61, 83], [83, 113]].
        let turned = MatmulOptions { trans_b: true, ..Default::default() };
        assert_eq!(read(&a.matmul(&a, &turned)?)?, [5.0, 11.0, 11.0, 25.0, 61.0, 83.0, 83.0, 113.0]);
        // Gated by itself without an activation: squares.
        let gated = MatmulOptions { gate: Some(&b), ..Default::default() };
        assert_eq!(read(&a.matmul(&b, &gated)?)?[..3], [25.0, 4.0, 25.0]);

        let ones = context.upload(&[1f32; 12], &[2, 2, 3])?;
        let mut batch = context.batch();
        let gradients = batch.matmul_backward(&a, &b, &ones, &MatmulOptions::default())?;
        batch.submit()?;
        assert_eq!(read(&gradients.a)?, [0.0, 6.0, 0.0, 6.0, 0.0, 6.0, 0.0, 6.0]);
        assert_eq!(read(&gradients.b)?, [16.0, 16.0, 16.0, 20.0, 20.0, 20.0]);
        assert_eq!(read(&gradients.bias)?, [4.0; 3]);
        for (a, b) in [(&a, &bias), (&b, &b), (&ones, &a)] {
            assert!(matches!(a.matmul(b, &MatmulOptions::default()), Err(Error { kind: ErrorKind::Shape { .. }, .. })));
        }
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Activations of every magnitude, as a product of one column; against f64.
fn functions(gpu: &Gpu) -> Result<(), String> {
    let n = 4096;
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
        let epilogue = Epilogue { activation, ..whole(activation) };
        let problem =
            Problem { c: Some(Matrix::new(F32)), epilogue: Epilogue { residual: None, ..epilogue }, ..f32s(5, n, 0) };
        let mut call = Call::random(problem, 1);
        // Every scale up to 1e20, both signs; around 0 densely.
        let at = |i: usize, j: usize| match i {
            0 => (j as f64 / n as f64 - 0.5) * 24.0,
            1 => (j as f64 / n as f64 - 0.5) * 250.0,
            2 => 10f64.powf(j as f64 / n as f64 * 60.0 - 40.0),
            3 => -10f64.powf(j as f64 / n as f64 * 60.0 - 40.0),
            _ => (j as f64 / n as f64 - 0.5) * 1e-3,
        };
        call.c = Some((0..5 * n).map(|i| F32.round(at(i / n, i % n))).collect());
        call.bias = Some(vec![0.0; n]);
        let config = of(gpu, &problem, Algorithm::Direct)?;
        let output = call.run(gpu, &gpu.kernels, Some(&config))?;
        let [oracle, _] = call.references();
        let (mut worst, mut place) = (0f64, 0.0);
        for (i, (&have, &want)) in output.d.iter().zip(&oracle.d).enumerate() {
            let x = call.c.as_ref().map_or(0.0, |c| c[i]);
            // Of the value; below 1e-3 of x, where the function all but vanishes, of that.
            let error = (have - want).abs() / want.abs().max(1e-3 * x.abs()).max(1e-30);
            if error > worst || error.is_nan() {
                (worst, place) = (error, x);
            }
        }
        if std::env::var_os("TILELOOM_PRINT_TABLE").is_some() {
            println!("{} {activation:?}: {:.2} ULP (2^-24) at {place}", gpu.slug, worst * 2f64.powi(24));
        }
        if worst.is_nan() || worst > 24.0 * 2f64.powi(-24) {
            return Err(format!("{activation:?}: {worst:e} at {place}"));
        }
    }
    Ok(())
}

/// A device that binds 64 KiB: rows, columns and batches are halved until they fit; what k makes large is refused.
fn limits(gpu: &Gpu) -> Result<(), String> {
    let mut caps: Caps = (*gpu.kernels.caps()).clone();
    caps.limits.max_storage_buffer_binding_size = 1 << 16;
    let kernels = Kernels::new(&gpu.device, caps);
    for problem in [
        f32s(300, 64, 64),
        Problem { trans_b: true, ..f32s(48, 640, 63) },
        Problem { batch: [2, 12], ..f32s(40, 64, 48) },
    ] {
        let call = Call::random(problem, 4);
        let config = of(gpu, &problem, Algorithm::Direct)?;
        let (output, _) = call.check(gpu, &kernels, Some(&config))?;
        if output.steps.len() < 2 {
            return Err(format!("{problem:?} ran in one piece"));
        }
    }
    match Call::random(f32s(4, 64, 1024), 1).run(gpu, &kernels, None) {
        Err(error) if error.contains("`b` needs a binding of 262144 bytes, the device binds at most 65536") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// da, db and dbias of the sum of d * w, against differences of the oracle.
fn gradients(gpu: &Gpu) -> Result<(), String> {
    for (trans_a, trans_b, batch) in
        [(false, false, [1, 1]), (true, false, [1, 2]), (false, true, [2, 1]), (true, true, [1, 1])]
    {
        let bias = along(Along::Columns, F32, 0);
        let problem = Problem {
            trans_a,
            trans_b,
            batch,
            alpha: 0.5,
            epilogue: Epilogue { bias, ..Epilogue::default() },
            ..f32s(6, 5, 7)
        };
        let call = Call::random(problem, 3);
        let mut random = Random::new(8);
        let dd: Vec<f64> = (0..batch[0] * batch[1] * 30).map(|_| F32.round(random.normal())).collect();
        let gradient = backward(&problem).map_err(|error| error.to_string())?;
        let run = |problem: Problem, a: &[f64], b: &[f64]| {
            let call = Call { a: a.to_vec(), b: b.to_vec(), ..Call::random(problem, 0) };
            check(gpu, &call, Algorithm::Direct).map(|output| output.d)
        };
        let da = if trans_a { run(gradient.da, &call.b, &dd)? } else { run(gradient.da, &dd, &call.b)? };
        let db = if trans_b { run(gradient.db, &dd, &call.a)? } else { run(gradient.db, &call.a, &dd)? };
        let ones = vec![1.0; gradient.dbias.k];
        let dbias = Call { a: ones, b: dd.clone(), ..Call::random(gradient.dbias, 0) };
        let dbias = check(gpu, &dbias, Algorithm::Direct)?.d;
        let loss = |call: &Call| call.references()[0].d.iter().zip(&dd).map(|(d, w)| d * w).sum::<f64>();
        // Linear in each: a difference is exact at any step.
        let before = loss(&call);
        let near = |what: &str, i: usize, have: f64, after: f64| match (have - (after - before)).abs()
            < 1e-4 * (1.0 + have.abs())
        {
            true => Ok(()),
            false => Err(format!("{what}[{i}] of {problem:?}: {have}, {}", after - before)),
        };
        for (i, &have) in da.iter().enumerate() {
            let mut moved = call.clone();
            moved.a[i] += 1.0;
            near("da", i, have, loss(&moved))?;
        }
        for (i, &have) in db.iter().enumerate() {
            let mut moved = call.clone();
            moved.b[i] += 1.0;
            near("db", i, have, loss(&moved))?;
        }
        for (i, &have) in dbias.iter().enumerate() {
            let mut moved = call.clone();
            moved.bias.iter_mut().for_each(|bias| bias[i] += 1.0);
            near("dbias", i, have, loss(&moved))?;
        }
    }
    Ok(())
}

/// What one driver is enough for.
fn wide(suite: &mut Suite) {
    suite.case("tensors", tensors);
    suite.case("aligned transposes", |gpu| {
        for (trans_a, trans_b) in [(false, true), (true, false), (true, true)] {
            for (m, n, k) in [(20, 36, 40), (64, 32, 16)] {
                exact(gpu, Problem { trans_a, trans_b, ..f32s(m, n, k) }, 4, false, Algorithm::Direct)?;
                exact(gpu, Problem { trans_a, trans_b, ..f32s(m, n, k) }, 4, true, Algorithm::Tiled)?;
            }
        }
        Ok(())
    });
    suite.case("[1, 257, 384] x [384, 1152], and 66,000 columns", |gpu| {
        check(gpu, &Call::random(f32s(257, 1152, 384), 1), Algorithm::Direct)?;
        check(gpu, &Call::random(f32s(3, 66_000, 20), 1), Algorithm::Direct).map(drop)
    });
    suite.case("a and b of other dtypes", |gpu| {
        for [a, b, d] in [[F32, F16, F32], [Bf16, F16, F32], [F16, F32, Bf16]] {
            check(gpu, &Call::random(plain(19, 37, 23, [a, b, d]), 5), Algorithm::Direct)?;
        }
        Ok(())
    });
    suite.case("tiled, primes, split, SwiGLU", |gpu| {
        exact(gpu, f32s(67, 71, 37), 3, false, Algorithm::Tiled)?;
        let epilogue = Epilogue { gate: Some(0), activation: Activation::Silu, ..Epilogue::default() };
        check(gpu, &Call::random(Problem { epilogue, ..f32s(70, 68, 36) }, 3), Algorithm::Tiled)?;
        let call = Call::random(f32s(40, 44, 2052), 3);
        split(gpu, &call, Algorithm::Tiled)
    });
    suite.case("eight rows, eight columns", |gpu| {
        for (m, n) in [(5, 36), (8, 36), (132, 7)] {
            for trans_b in [false, true] {
                let epilogue = whole(Activation::Silu);
                let call = Call::random(Problem { trans_b, epilogue, ..f32s(m, n, 132) }, 2);
                check(gpu, &call, Algorithm::Vector)?;
            }
        }
        check(gpu, &Call::random(plain(3, 37, 132, [F16, Bf16, F16]), 3), Algorithm::Vector).map(drop)
    });
    suite.case("gated, few rows and few columns", |gpu| {
        let epilogue = Epilogue { gate: Some(1), ..whole(Activation::GeluTanh) };
        // Along k, across k, and by the left side, aligned and not.
        for (m, n, k, trans_b) in [
            (5, 36, 132, true),
            (5, 36, 132, false),
            (132, 4, 64, false),
            (132, 3, 64, true),
            (3, 37, 53, true),
            (37, 2, 53, false),
        ] {
            let epilogue = Epilogue { gate: Some(if k % 4 == 0 { 4 } else { 1 }), ..epilogue };
            check(gpu, &Call::random(Problem { trans_b, epilogue, ..f32s(m, n, k) }, 2), Algorithm::Vector)?;
        }
        let left = Problem { trans_a: true, epilogue: Epilogue { gate: Some(4), ..epilogue }, ..f32s(132, 4, 64) };
        check(gpu, &Call::random(left, 4), Algorithm::Vector)?;
        let epilogue = Epilogue { gate: Some(0), activation: Activation::Silu, ..Epilogue::default() };
        let problem = Problem { trans_b: true, epilogue, ..plain(1, 68, 132, [F16; 3]) };
        check(gpu, &Call::random(problem, 3), Algorithm::Vector).map(drop)
    });
    suite.case("checked modules give the same bits", |gpu| {
        let call = Call::random(f32s(37, 40, 52), 6);
        let config = of(gpu, &call.problem, Algorithm::Direct)?;
        let plain = call.run(gpu, &gpu.kernels, Some(&config))?;
        match plain.d == call.run(gpu, gpu.checked(), Some(&config))?.d {
            true => Ok(()),
            false => Err("other bits".into()),
        }
    });
    suite.case("random problems", random_problems);
}

/// Shapes, strides, batches and epilogues that share two pipelines. What fails is made smaller, and told with its seed.
fn random_problems(gpu: &Gpu) -> Result<(), String> {
    let seed = std::env::var("TILELOOM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1u64);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = ProptestConfig { cases: 24, max_shrink_iters: 300, failure_persistence: None, ..Default::default() };
    let run = |problem| {
        let failed = |error: String| TestCaseError::fail(error);
        check(gpu, &Call::random(problem, seed), Algorithm::Direct).map(drop).map_err(failed)
    };
    let result = TestRunner::new_with_rng(config, rng).run(&problems(), run);
    result.map_err(|error| format!("TILELOOM_SEED={seed}: {error}"))
}

/// A matrix's padding between rows, its offset in pairs, and whether it is shared by a batch axis.
fn place() -> impl Strategy<Value = (usize, usize, [bool; 2])> {
    (0..5usize, 0..3usize, [prop::bool::weighted(0.3), prop::bool::weighted(0.3)])
}

fn vector() -> impl Strategy<Value = Option<Vector>> {
    let side = prop_oneof![Just(Along::Rows), Just(Along::Columns)];
    prop::option::of((side, 0..4usize).prop_map(|(along, offset)| Vector { dtype: F32, along, offset }))
}

fn problems() -> impl Strategy<Value = Problem> {
    let sizes = (1..=40usize, 1..=70usize, 0..90usize, [1..=2usize, 1..=3usize]);
    let transposes = (any::<bool>(), any::<bool>());
    let matrices = (place(), place(), place(), prop::option::of(place()), prop::option::of(place()));
    let factors = (0..9u8, 0..3u8);
    let last = (prop::sample::select(Activation::ALL), vector(), vector());
    (sizes, transposes, matrices, factors, last).prop_map(|(sizes, transposes, matrices, factors, last)| {
        let ((m, n, k, batch), (trans_a, trans_b), (activation, scale, bias)) = (sizes, transposes, last);
        let (a, b, d, c, residual) = matrices;
        // Odd offsets keep to single loads.
        let matrix = |(pad, offset, shared): (usize, usize, [bool; 2]), rows: usize, cols: usize| {
            let ld = cols + pad;
            let s1 = if shared[1] { 0 } else { rows * ld + pad };
            let s0 = if shared[0] { 0 } else { batch[1] * (rows * ld + pad) };
            Matrix::strided(F32, 2 * offset + 1, [s0, s1, ld])
        };
        let epilogue =
            Epilogue { scale, bias, activation, gate: None, residual: residual.map(|place| matrix(place, m, n)) };
        Problem {
            m,
            n,
            k,
            batch,
            trans_a,
            trans_b,
            a: if trans_a { matrix(a, k, m) } else { matrix(a, m, k) },
            b: if trans_b { matrix(b, n, k) } else { matrix(b, k, n) },
            d: matrix((d.0, d.1, [false; 2]), m, n),
            alpha: f32::from(factors.0) * 0.25 - 1.0,
            beta: f32::from(factors.1) - 1.0,
            c: c.map(|place| matrix(place, m, n)),
            epilogue,
        }
    })
}

/// Seconds of the best of five runs.
fn time(gpu: &Gpu, problem: &Problem, config: &Config) -> Result<f64, String> {
    let of = |m: Matrix, (sizes, cols): ([usize; 3], usize)| {
        sizes.iter().product::<usize>() * cols * m.dtype.bytes() as usize
    };
    let bytes = [of(problem.a, problem.a_sizes()), of(problem.b, problem.b_sizes()), of(problem.d, problem.d_sizes())];
    let [a, b, d] = bytes.map(|n| gpu.buffer(&vec![0x3c; n.next_multiple_of(4)]));
    let dispatch = gemm::prepare_with(&gpu.kernels, problem, config, Buffers::new(&a, &b, &d));
    let dispatch = dispatch.map_err(|error| format!("{config}: {error}"))?;
    let mut best = f64::INFINITY;
    for _ in 0..6 {
        let start = std::time::Instant::now();
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        gpu.wait()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// The chosen Config against the best of all candidates, on 20 shapes: the geometric mean is at most `1.1`.
fn choices(gpu: &Gpu) -> Result<(), String> {
    let few = [
        (1, 1024, 1024),
        (4, 1024, 512),
        (1024, 1, 1024),
        (16, 16, 8192),
        (32, 512, 512),
        (128, 512, 512),
        (64, 64, 64),
    ];
    let many = [(256, 256, 256), (384, 128, 256), (100, 300, 200), (17, 1000, 96), (300, 20, 400)];
    let mut problems: Vec<Problem> = few.into_iter().chain(many).map(|(m, n, k)| f32s(m, n, k)).collect();
    for (m, n, k) in [(1, 1024, 1024), (8, 512, 512), (128, 512, 512), (96, 96, 96)] {
        problems.push(Problem { trans_b: true, ..f32s(m, n, k) });
        problems.push(Problem { trans_b: true, ..plain(m, n, k, [F16; 3]) });
    }
    let (mut logs, mut text) = (0.0, String::new());
    for problem in &problems {
        let mut times = Vec::new();
        for config in candidates(&gpu.kernels.caps(), problem).map_err(|error| error.to_string())? {
            times.push((time(gpu, problem, &config)?, config));
        }
        let (chosen, best) = (times[0], times.iter().copied().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or(times[0]));
        logs += (chosen.0 / best.0).ln();
        text += &format!(
            "{}x{}x{} {:.2}: {}, best {}\n",
            problem.m,
            problem.n,
            problem.k,
            chosen.0 / best.0,
            chosen.1,
            best.1
        );
    }
    let mean = (logs / problems.len() as f64).exp();
    println!("{}: chosen over best {mean:.3} on {} shapes\n{text}", gpu.slug, problems.len());
    if mean <= 1.1 { Ok(()) } else { Err(format!("{mean:.3}\n{text}")) }
}

/// Every candidate of every dtype pair and transpose.
fn full(suite: &mut Suite) {
    suite.case("choose against every Config", choices);
    suite.case("every Config, dtype and transpose", |gpu| {
        pollster::block_on(gpu.kernels.probe(&gpu.queue)).map_err(|error| error.to_string())?;
        for dtypes in
            [[F32, F32, F32], [F16, F16, F16], [F16, Bf16, F32], [Bf16, Bf16, Bf16], [F32, Bf16, F16], [Bf16, F32, F32]]
        {
            for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
                for (m, n, k) in [(72, 68, 132), (37, 41, 29), (4, 68, 1100)] {
                    let problem = Problem { trans_a, trans_b, ..plain(m, n, k, dtypes) };
                    let call = Call::random(problem, 5);
                    for config in candidates(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())? {
                        call.check(gpu, &gpu.kernels, Some(&config))?;
                    }
                }
            }
        }
        Ok(())
    });
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(suite: &mut Suite) {
    suite.case("errors", |gpu| {
        let kernels = &gpu.kernels;
        let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
        let (a, b, d) = (buffer(64), buffer(64), buffer(64));
        let good = f32s(8, 8, 8);
        let all = || Buffers::new(&a, &b, &d);
        let expect = |what: &str, problem: &Problem, buffers: Buffers, ok: fn(&Error) -> bool| match gemm::prepare(
            kernels, problem, buffers,
        ) {
            Err(error) if ok(&error) => Ok(()),
            Err(error) => Err(format!("{what}: {error:?}")),
            Ok(_) => Err(format!("{what} was accepted")),
        };
        let invalid = |e: &Error| matches!(e, Error { kind: ErrorKind::InvalidProblem { .. }, .. });
        expect("alpha", &Problem { alpha: f32::NAN, ..good }, all(), invalid)?;
        expect("a large k", &Problem { k: 1 << 31, ..good }, all(), invalid)?;
        let over = Problem { d: Matrix::strided(F32, 0, [0, 0, 7]), ..good };
        expect("rows that overlap", &over, all(), invalid)?;
        let gate = Epilogue { gate: Some(0), ..Epilogue::default() };
        let both = Problem { c: Some(Matrix::new(F32)), epilogue: gate, ..good };
        expect("a gate with c", &both, all().b2(&b).c(&d), invalid)?;
        let missing = |e: &Error| matches!(e, Error { kind: ErrorKind::MissingBuffer { .. }, .. });
        expect("no b2", &Problem { epilogue: gate, ..good }, all(), missing)?;
        expect("no c", &Problem { c: Some(Matrix::new(F32)), ..good }, all(), missing)?;
        expect("a bias too many", &good, all().bias(&b), |e| {
            matches!(e, Error { kind: ErrorKind::UnusedBuffer { buffer: "bias", .. }, .. })
        })?;
        let short = buffer(63);
        expect("a short b", &good, Buffers::new(&a, &short, &d), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "b", need: 256, have: 252, .. }, .. })
        })?;
        expect("d in place of a", &good, Buffers::new(&d, &b, &d), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "a", second: "d", .. }, .. })
        })?;
        let turned = Problem { c: Some(Matrix::strided(F32, 0, [0, 0, 9])), m: 7, ..good };
        expect("c in place by other rows", &turned, all().c(&d), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { .. }, .. })
        })?;
        let far = Problem { a: Matrix { dtype: F32, layout: Layout::at(u32::MAX as usize) }, ..good };
        expect("an index past u32", &far, all(), |e| {
            matches!(e, Error { kind: ErrorKind::IndexOverflow { arg: "a", .. }, .. })
        })?;
        let direct = of(gpu, &good, Algorithm::Direct)?;
        for (what, config) in [
            ("1000 parts", Config { parts: 1000, ..direct }),
            ("a part without k", Config { parts: 3, ..direct }),
            ("no part", Config { parts: 0, ..direct }),
            ("lanes", Config { lanes: 2, ..direct }),
            ("stages", Config { stages: 2, ..direct }),
            ("native f16 without f16", Config { native_f16: true, ..direct }),
            ("a thread of three columns", Config { thread: [direct.thread[0], 3], ..direct }),
        ] {
            match gemm::prepare_with(kernels, &good, &config, all()) {
                Err(Error { kind: ErrorKind::ConfigUnfit { .. }, .. }) => {}
                other => return Err(format!("{what}: {:?}", other.err())),
            }
        }
        gpu.read(&d).map(drop)
    });
    // What shares a buffer with d is declared read_write, and nothing else: b and bias share one that is only read.
    // wgpu finds nothing to complain of.
    suite.case("bindings that share buffers", |gpu| {
        let ones = gpu.buffer(bytemuck::cast_slice(&[1.0f32; 64]));
        let weights = gpu.buffer(bytemuck::cast_slice(&[1.0f32; 128]));
        let d = gpu.buffer(bytemuck::cast_slice(&[5.0f32; 64]));
        let bias = Some(Vector { dtype: F32, along: Along::Columns, offset: 64 });
        let epilogue = Epilogue { bias, residual: Some(Matrix::new(F32)), ..Epilogue::default() };
        let buffers = Buffers::new(&ones, &weights, &d).bias(&weights).residual(&d);
        let problem = Problem { epilogue, ..f32s(8, 8, 8) };
        let dispatch = gemm::prepare(&gpu.kernels, &problem, buffers).map_err(|e| e.to_string())?;
        let labels: Vec<&str> = dispatch.steps().map(|(label, _)| label).collect();
        if !matches!(labels[..], [label] if label.ends_with(" writable [5]")) {
            return Err(format!("the residual, and only it, shares a buffer that is written: {labels:?}"));
        }
        let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(error.to_string());
        }
        // 8 ones, a bias of 1, a residual of 5.
        let out: Vec<f32> = bytemuck::pod_collect_to_vec(&gpu.read(&d)?);
        if out == [14.0; 64] { Ok(()) } else { Err(format!("{out:?}")) }
    });
}
