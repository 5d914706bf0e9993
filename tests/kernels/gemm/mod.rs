//! The matrix product on a GPU: what is more than a Problem of the list.

mod gemm_quant;
mod grouped_gemm;
mod grouped_gemm_backward;
mod lora;
mod lora_backward;

use loom::Gpu;
use loom::harness::Call;
use loom::kernel::{Describe, Memory, Values};
use loom::kernels::gemm::{DIRECT, along, f32s, plain, whole};
use loom::random::Random;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tileloom::gemm::{
    self, Activation, Along, Buffers, Config, Epilogue, Matrix, Problem, Vector, backward, candidates,
};
use tileloom::{Caps, Context, Dtype, Error, ErrorKind, Kernels, Layout, MatmulOptions};

use crate::{Depth, Suite, refused};

use Dtype::{F16, F32};

/// d by [`DIRECT`], judged.
fn direct(gpu: &Gpu, call: &Call<Problem>) -> Result<Vec<f64>, String> {
    call.check(gpu, &gpu.kernels, Some(&DIRECT)).map(|(output, _)| output.values["d"].clone())
}

fn oracle(call: &Call<Problem>) -> Vec<f64> {
    let rules = call.problem.rules(&call.values, &Values::new());
    rules[0].1.oracle().expect("a product has one answer").to_vec()
}

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("gemm", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("nothing to compute takes no step", |gpu| {
        for (m, n, batch) in [(0, 9, [1, 1]), (5, 0, [1, 1]), (5, 9, [0, 1])] {
            let output = Call::random(Problem { batch, ..f32s(m, n, 7) }, 1).run(gpu, &gpu.kernels, None)?;
            if !output.steps.is_empty() {
                return Err(format!("{:?} ran", output.steps));
            }
        }
        Ok(())
    });
    suite.case("functions over their range", functions);
    suite.case("limits of bindings: several dispatches", limits);
    suite.case("gradients against differences", gradients);
    suite.case("gradients of f32 and f16, added in f32, in place", added_gradients);
    suite.case("gradients of alpha 0 and of an infinity", hidden_gradients);
    errors(suite);
    if suite.depth >= Depth::Wide {
        suite.case("tensors", tensors);
        suite.case("random problems", random_problems);
    }
    if suite.depth >= Depth::Full {
        suite.case("choose against every Config", choices);
    }
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
        // Every scale up to 1e20, both signs; around 0 densely.
        let at = |i: usize, j: usize| match i {
            0 => (j as f64 / n as f64 - 0.5) * 24.0,
            1 => (j as f64 / n as f64 - 0.5) * 250.0,
            2 => 10f64.powf(j as f64 / n as f64 * 60.0 - 40.0),
            3 => -10f64.powf(j as f64 / n as f64 * 60.0 - 40.0),
            _ => (j as f64 / n as f64 - 0.5) * 1e-3,
        };
        let c = (0..5 * n).map(|i| at(i / n, i % n)).collect();
        let call = Call::random(problem, 1).with("c", c).with("bias", vec![0.0; n]);
        let output = call.run(gpu, &gpu.kernels, Some(&DIRECT))?;
        let (mut worst, mut place) = (0f64, 0.0);
        for ((&have, want), &x) in output.values["d"].iter().zip(oracle(&call)).zip(&call.values["c"]) {
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
        let (output, _) = call.check(gpu, &kernels, Some(&DIRECT))?;
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
            direct(gpu, &Call::random(problem, 0).with("a", a.to_vec()).with("b", b.to_vec()))
        };
        let (a, b) = (&call.values["a"], &call.values["b"]);
        let da = if trans_a { run(gradient.da, b, &dd)? } else { run(gradient.da, &dd, b)? };
        let db = if trans_b { run(gradient.db, &dd, a)? } else { run(gradient.db, a, &dd)? };
        let dbias = run(gradient.dbias, &vec![1.0; gradient.dbias.k], &dd)?;
        let loss = |call: &Call<Problem>| oracle(call).iter().zip(&dd).map(|(d, w)| d * w).sum::<f64>();
        // Linear in each: a difference is exact at any step.
        let before = loss(&call);
        for (name, gradient) in [("a", da), ("b", db), ("bias", dbias)] {
            for (i, &have) in gradient.iter().enumerate() {
                let mut moved = call.clone();
                moved.values.get_mut(name).into_iter().for_each(|values| values[i] += 1.0);
                let want = loss(&moved) - before;
                if (have - want).abs() >= 1e-4 * (1.0 + have.abs()) {
                    return Err(format!("d{name}[{i}] of {problem:?}: {have}, {want}"));
                }
            }
        }
    }
    Ok(())
}

/// da, db and dbias in f32, added to what is there by a c that is d: twice the same product on top of it.
fn added_gradients(gpu: &Gpu) -> Result<(), String> {
    for dtype in [F32, Dtype::F16] {
        for (trans_a, trans_b) in [(false, true), (true, false)] {
            let problem = Problem { trans_a, trans_b, ..plain(20, 36, 28, [dtype; 3]) };
            let gradients = backward(&problem).map_err(|error| error.to_string())?;
            for gradient in [gradients.da, gradients.db, gradients.dbias] {
                let f32 = Matrix::new(F32);
                let added = Problem { d: f32, c: Some(f32), ..gradient };
                let in_place = Memory::shared(&[&["c", "d"]]);
                let call = Call::random(added, 5).in_memory(in_place.clone());
                let (first, _) = call.check(gpu, &gpu.kernels, None)?;
                let again = call.with("c", first.values["d"].clone()).in_memory(in_place);
                again.check(gpu, &gpu.kernels, None)?;
            }
        }
    }
    Ok(())
}

/// Gradients where alpha is 0, whatever a and b hold; and where the last gradient of d is infinite: so are the last row of
/// da and the last column of db, and nothing else.
fn hidden_gradients(gpu: &Gpu) -> Result<(), String> {
    for (trans_a, trans_b) in [(false, false), (true, false), (false, true), (true, true)] {
        let (nan, inf) = (vec![f64::NAN; 7 * 6], f64::INFINITY);
        let mut dd = vec![1.0; 6 * 5];
        let of = |alpha, a: &[f64], b: &[f64], dd: &[f64]| -> Result<[Vec<f64>; 2], String> {
            let gradient =
                backward(&Problem { trans_a, trans_b, alpha, ..f32s(6, 5, 7) }).map_err(|e| e.to_string())?;
            let run = |problem, a: &[f64], b: &[f64]| {
                direct(gpu, &Call::random(problem, 0).with("a", a.to_vec()).with("b", b.to_vec()))
            };
            let da = if trans_a { run(gradient.da, b, dd)? } else { run(gradient.da, dd, b)? };
            let db = if trans_b { run(gradient.db, dd, a)? } else { run(gradient.db, a, dd)? };
            Ok([da, db])
        };
        let none = of(0.0, &nan, &nan[..5 * 7], &dd)?;
        if none.iter().flatten().any(|&v| v != 0.0) {
            return Err(format!("alpha 0: {none:?}"));
        }
        dd[6 * 5 - 1] = inf;
        let [da, db] = of(1.0, &[1.0; 7 * 6], &[1.0; 7 * 5], &dd)?;
        // da lies as a does, db as b.
        let want_a = |i: usize| if (if trans_a { i % 6 } else { i / 7 }) == 5 { inf } else { 5.0 };
        let want_b = |i: usize| if (if trans_b { i / 7 } else { i % 5 }) == 4 { inf } else { 6.0 };
        if !(0..7 * 6).all(|i| da[i] == want_a(i)) || !(0..7 * 5).all(|i| db[i] == want_b(i)) {
            return Err(format!("an infinity: {da:?}, {db:?}"));
        }
    }
    Ok(())
}

/// Shapes, strides, batches and epilogues that share two pipelines. What fails is made smaller, and told with its seed.
fn random_problems(gpu: &Gpu) -> Result<(), String> {
    let seed = std::env::var("TILELOOM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1u64);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = ProptestConfig { cases: 24, max_shrink_iters: 300, failure_persistence: None, ..Default::default() };
    let run = |problem| direct(gpu, &Call::random(problem, seed)).map(drop).map_err(TestCaseError::fail);
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
            ..Problem::default()
        }
    })
}

/// Seconds of the best of five runs.
fn time(gpu: &Gpu, problem: &Problem, config: &Config) -> Result<f64, String> {
    let buffers: Vec<_> = problem.args().iter().map(|arg| gpu.buffer(&vec![0x3c; arg.view.bytes()])).collect();
    let [a, b, d] = &buffers[..] else { return Err("a, b and d are all".into()) };
    let dispatch = gemm::prepare_with(&gpu.kernels, problem, config, Buffers::new(a, b, d));
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

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(suite: &mut Suite) {
    suite.case("errors", |gpu| {
        let kernels = &gpu.kernels;
        let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
        let (a, b, d) = (buffer(64), buffer(64), buffer(64));
        let good = f32s(8, 8, 8);
        let all = || Buffers::new(&a, &b, &d);
        let expect = |what: &str, problem: &Problem, buffers: Buffers, meant: fn(&Error) -> bool| {
            refused(what, gemm::prepare(kernels, problem, buffers), meant)
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
        for (what, config) in [
            ("1000 parts", Config { parts: 1000, ..DIRECT }),
            ("a part without k", Config { parts: 3, ..DIRECT }),
            ("no part", Config { parts: 0, ..DIRECT }),
            ("lanes", Config { lanes: 2, ..DIRECT }),
            ("stages", Config { stages: 2, ..DIRECT }),
            ("native f16 without f16", Config { native_f16: true, ..DIRECT }),
            ("a thread of three columns", Config { thread: [8, 3], ..DIRECT }),
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
