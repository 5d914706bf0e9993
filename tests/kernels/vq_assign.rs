//! VQ assign on a GPU. What is asked for beside the indices is in one step only; sizes are parameters.

use loom::Gpu;
use loom::kernels::vq_assign::{Call, Output};
use tileloom::vq_assign::{self, Algorithm, Buffers, Config, Metric, Problem};
use tileloom::{Context, Dtype, Error, ErrorKind, Layout, VqAssignOptions};

use crate::{Depth, Suite};

const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::Dot];

fn shape(n: usize, books: usize, num_codes: usize, code_dim: usize) -> Problem {
    Problem { n, books, num_codes, code_dim, ..Problem::default() }
}

/// Runs and judges; the first search must say all of `words`.
fn check(gpu: &Gpu, call: &Call, words: &[&str]) -> Result<Output, String> {
    let (output, _) = call.check(gpu, &gpu.kernels, None)?;
    let step = output.steps.iter().find(|step| step.starts_with("vq_assign ")).map_or("", String::as_str);
    match words.iter().all(|word| step.contains(word)) {
        true => Ok(output),
        false => Err(format!("meant to run {words:?}, ran {step}")),
    }
}

fn expect_indices(output: &Output, want: &[u32]) -> Result<(), String> {
    if output.indices == want { Ok(()) } else { Err(format!("{:?}, expected {want:?}", output.indices)) }
}

pub fn cases(suite: &mut Suite) {
    for metric in METRICS {
        suite.case(format!("{metric:?}, sizes, duplicates, all outputs"), move |gpu| {
            // One code, fewer vectors than a workgroup has, parts of a book, a tile and one more.
            for (n, num_codes) in [(1, 1), (3, 5), (1, 700), (65, 129), (40, 4)] {
                let problem = Problem { metric, ..shape(n, 1, num_codes, 32) };
                check(gpu, &Call::random(problem, 1).with_everything(), &["keep: 8", "vec: 4", "top: 1,"])?;
            }
            Ok(())
        });
    }
    suite.case("one dim, odd dims", |gpu| {
        for code_dim in [1, 7, 19] {
            let problem = shape(33, 1, 21, code_dim);
            let keep = if code_dim < 16 { format!("keep: {code_dim},") } else { "keep: 0,".into() };
            check(gpu, &Call::random(problem, 2), &[&keep, "vec: 1"])?;
        }
        Ok(())
    });
    suite.case("vectors that registers do not hold", |gpu| {
        for (code_dim, num_codes) in [(260, 37), (2048, 20)] {
            check(gpu, &Call::random(shape(9, 1, num_codes, code_dim), 3), &["reread", "keep: 0,", "vec: 4"])?;
        }
        Ok(())
    });
    suite.case("books, strides, a shared book", |gpu| {
        let problem = Problem {
            x_layout: Layout::strided(4, [100, 32]),
            codebook_layout: Layout::strided(8, [0, 36]),
            ..shape(21, 3, 29, 32)
        };
        let mut call = Call::random(problem, 4);
        call.codebook = call.codebook[..29 * 32].repeat(3);
        check(gpu, &call.with_everything(), &["keep: 8,"])?;
        check(gpu, &Call::random(shape(10, 32, 17, 32), 5).with_everything(), &["keep: 8,"]).map(drop)
    });
    suite.case("residual books", |gpu| {
        for books in [1, 2, 4] {
            let problem = Problem { residual: true, ..shape(43, books, 50, 32) };
            let output = check(gpu, &Call::random(problem, 6).with_everything(), &["keep: 8,"])?;
            // Per book a search and what follows; before, usage is cleared, behind, loss and vectors.
            assert_eq!(output.steps.len(), 2 * books + 3);
        }
        Ok(())
    });
    suite.case("ties go to the lowest index", |gpu| {
        // Codes 1, -1, 1, -1, .. in each element: all as near to 0.
        let codebook: Vec<f64> = (0..70 * 32).map(|i| if i / 32 % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let mut x = vec![0.0; 32];
        x.extend([1.0; 32]);
        x.extend([-1.0; 32]);
        expect_indices(&check(gpu, &Call::new(shape(3, 1, 70, 32), x, codebook), &[])?, &[0, 0, 1])
    });
    suite.case("zeros at right angles", |gpu| {
        let problem = Problem { metric: Metric::Cosine, ..shape(2, 1, 3, 32) };
        let mut x = vec![0.0; 32];
        x.extend([2.0; 32]);
        let mut codebook = vec![-1.0; 32];
        codebook.extend([0.0; 32]);
        codebook.extend([1e-9; 32]);
        let output = check(gpu, &Call::new(problem, x, codebook).with_everything(), &[])?;
        expect_indices(&output, &[0, 2])?;
        let distance = output.distance.unwrap_or_default();
        if distance[0] == 1.0 { Ok(()) } else { Err(format!("{distance:?}")) }
    });
    suite.case("far from the origin", |gpu| {
        // At 4096 a square has 24 bits for 2^24 * 32; neighbours differ by 2^-10: |c|^2 - 2xc knows nothing of them.
        let code = |i: usize| (0..32).map(move |d| 4096.0 + ((i * 37 + d * 11) % 64) as f64 / 1024.0);
        let codebook: Vec<f64> = (0..64).flat_map(code).collect();
        let x: Vec<f64> = (0..64).flat_map(|i| code(63 - i)).collect();
        let naive = |a: &[f64], b: &[f64]| {
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0f32, |s, (&a, &b)| s + a as f32 * b as f32);
            dot(b, b) - 2.0 * dot(a, b)
        };
        let lost = (0..64).filter(|&i| {
            let x = &x[i * 32..][..32];
            let of = |k: usize| naive(x, &codebook[k * 32..][..32]);
            (0..64).min_by(|&a, &b| of(a).total_cmp(&of(b))) != Some(63 - i)
        });
        let lost = lost.count();
        if lost == 0 {
            return Err("the data do not tell".into());
        }
        let want: Vec<u32> = (0..64).rev().collect();
        expect_indices(&check(gpu, &Call::new(shape(64, 1, 64, 32), x, codebook), &[])?, &want)
    });
    suite.case("huge norms beside tiny ones", |gpu| {
        for metric in METRICS {
            let mut call = Call::random(Problem { metric, ..shape(30, 1, 40, 32) }, 7);
            for (i, row) in call.codebook.chunks_mut(32).enumerate() {
                let scale = [1.0, 1e8, 1e-8, 1e15, 1e-15][i % 5];
                row.iter_mut().for_each(|v| *v = f64::from((*v * scale) as f32));
            }
            for (i, row) in call.x.chunks_mut(32).enumerate() {
                let scale = [1.0, 1e8, 1e-8, 1e15, 1e-15][i % 5];
                row.iter_mut().for_each(|v| *v = f64::from((*v * scale) as f32));
            }
            check(gpu, &call, &[])?;
        }
        Ok(())
    });
    suite.case("long loops", |gpu| {
        // More rounds than some drivers let an invocation take, were the book not searched in parts.
        check(gpu, &Call::random(shape(130, 1, 1200, 2048), 13), &["reread", "keep: 0,"]).map(drop)
    });
    suite.case("errors", errors);
    if suite.depth >= Depth::Wide {
        wide(suite);
    }
    if suite.depth >= Depth::Full {
        suite.case("262,144 codes", |gpu| {
            let problem = shape(40, 1, 262_144, 32);
            check(gpu, &Call::random(problem, 12).with_everything(), &["keep: 8,"]).map(drop)
        });
    }
}

fn wide(suite: &mut Suite) {
    suite.case("top 5", |gpu| {
        for (n, num_codes) in [(33, 5), (20, 140), (1, 700)] {
            let problem = Problem { top: 5, ..shape(n, 2, num_codes, 32) };
            check(gpu, &Call::random(problem, 8).with_everything(), &["top: 5,"])?;
        }
        Ok(())
    });
    suite.case("f16 and bf16", |gpu| {
        for (x, codebook) in [(Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::F32)] {
            for code_dim in [32, 7] {
                let problem = Problem { x, codebook, residual: true, ..shape(21, 2, 33, code_dim) };
                check(gpu, &Call::random(problem, 9).with_everything(), &["top: 1,"])?;
            }
        }
        Ok(())
    });
    suite.case("every Config of a kind", |gpu| {
        let problem = shape(70, 1, 133, 32);
        let call = Call::random(problem, 10);
        let chosen = vq_assign::choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
        let want = call.check(gpu, &gpu.kernels, Some(&chosen))?.0.indices;
        for config in [
            Config { algorithm: Algorithm::Staged, wg_size: 64, rows: 1, codes: 4, tile: 16, parts: 1, ..chosen },
            Config { algorithm: Algorithm::Registers, wg_size: 16, rows: 2, codes: 2, tile: 1, parts: 3, ..chosen },
            Config { algorithm: Algorithm::Reread, wg_size: 8, rows: 2, codes: 8, tile: 1, parts: 7, ..chosen },
        ] {
            let (output, _) = call.check(gpu, &gpu.kernels, Some(&config))?;
            if output.indices != want {
                return Err(format!("{config} finds other codes than {chosen}"));
            }
        }
        Ok(())
    });
    suite.case("checked modules give the same", |gpu| {
        let call = Call::random(Problem { residual: true, ..shape(33, 2, 50, 32) }, 11).with_everything();
        let (fast, _) = call.check(gpu, &gpu.kernels, None)?;
        let (checked, _) = call.check(gpu, gpu.checked(), None)?;
        if fast.indices == checked.indices { Ok(()) } else { Err("indices differ".into()) }
    });
    suite.case("tensors", |gpu| {
        let run = async {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let x = context.upload(&[1.0f32, 0.0, 0.0, 3.0], &[2, 2])?;
            let book = context.upload(&[0.0f32, 4.0, 2.0, 0.0, 0.0, 2.5], &[3, 2])?;
            let found = x.vq_assign(&book, &VqAssignOptions::default())?;
            let refused = x.vq_assign(&context.upload(&[0.0f32; 3], &[1, 3])?, &VqAssignOptions::default());
            assert!(
                matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "x", .. }, .. })),
                "{:?}",
                refused.err()
            );
            Ok::<_, Error>((found.indices.read().await?, found.quantized.read().await?, found.loss.read().await?))
        };
        let got = pollster::block_on(run).map_err(|error| error.to_string())?;
        if got == (vec![1, 2], vec![2.0, 0.0, 0.0, 2.5], vec![1.25]) { Ok(()) } else { Err(format!("{got:?}")) }
    });
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |words: usize| gpu.buffer(&vec![0; words * 4]);
    let (x, codebook, indices) = (buffer(64), buffer(64), buffer(8));
    let prepare = |problem: &Problem, indices| {
        vq_assign::prepare(&gpu.kernels, problem, Buffers::new(&x, &codebook, indices)).map(drop)
    };
    let good = shape(2, 1, 2, 32);
    prepare(&good, &indices).map_err(|error| error.to_string())?;
    let expect = |what: &str, result: Result<(), Error>, ok: fn(&Error) -> bool| match result {
        Err(error) if ok(&error) => Ok(()),
        other => Err(format!("{what}: {other:?}")),
    };
    let none = Problem { num_codes: 0, ..good };
    expect("no codes", prepare(&none, &indices), |e| {
        matches!(e, Error { kind: ErrorKind::InvalidProblem { arg: "num_codes", .. }, .. })
    })?;
    let many = Problem { top: 3, ..good };
    expect("top 3 of 2", prepare(&many, &indices), |e| {
        matches!(e, Error { kind: ErrorKind::InvalidProblem { arg: "top", .. }, .. })
    })?;
    let large = Problem { num_codes: 3, ..good };
    expect("a large book", prepare(&large, &indices), |e| {
        matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "codebook", .. }, .. })
    })?;
    expect("indices in x", prepare(&good, &x), |e| matches!(e, Error { kind: ErrorKind::Aliased { .. }, .. }))?;
    let told = Problem { usage: Some(0), ..good };
    expect("no usage", prepare(&told, &indices), |e| {
        matches!(e, Error { kind: ErrorKind::MissingBuffer { buffer: "usage", .. }, .. })
    })?;
    let (quantized, both) = (Some(vq_assign::Quantized { dtype: Dtype::F32, offset: 0 }), buffer(64));
    let over = Buffers::new(&x, &codebook, &indices).quantized(&both).distance(&both);
    let over = vq_assign::prepare(&gpu.kernels, &Problem { quantized, distance: Some(0), ..good }, over).map(drop);
    expect("quantized over distances", over, |e| matches!(e, Error { kind: ErrorKind::Aliased { .. }, .. }))?;
    let small = buffer(1);
    let scratch = Buffers::new(&x, &codebook, &indices).scratch(&small);
    expect("little scratch", vq_assign::prepare(&gpu.kernels, &good, scratch).map(drop), |e| {
        matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "scratch", .. }, .. })
    })?;
    gpu.read(&indices).map(drop)
}
