//! VQ lookup on a GPU. Sizes, strides and what an index out of range gives are parameters.

use loom::Gpu;
use loom::kernels::vq_lookup::{Call, Output};
use tileloom::vq_lookup::{self, Buffers, Combine, Config, Index, Order, OutOfRange, Problem};
use tileloom::{Context, Dtype, Error, ErrorKind, Layout};

use crate::{Depth, Suite};

fn shape(batch: usize, spatial: usize, books: usize, num_codes: usize, code_dim: usize) -> Problem {
    Problem { batch, spatial, books, num_codes, code_dim, bad: Some(0), ..Problem::default() }
}

fn typed(dtype: Dtype, problem: Problem) -> Problem {
    Problem { x: dtype, y: dtype, ..problem }
}

/// Runs and judges; the last step must say all of `words`.
fn check(gpu: &Gpu, call: &Call, words: &[&str]) -> Result<Output, String> {
    let (output, _) = call.check(gpu, &gpu.kernels, None)?;
    let step = output.steps.last().map_or("", String::as_str);
    match words.iter().all(|word| step.contains(word)) {
        true => Ok(output),
        false => Err(format!("meant to run {words:?}, ran {step}")),
    }
}

pub fn cases(suite: &mut Suite) {
    suite.case("f32, sizes, books, garbage indices", |gpu| {
        for (batch, spatial, books, num_codes, code_dim) in
            [(1, 1, 1, 1, 4), (2, 9, 1, 13, 64), (1, 300, 3, 1000, 32), (3, 65, 2, 7, 260)]
        {
            for out_of_range in [OutOfRange::Zero, OutOfRange::First] {
                let problem = Problem { out_of_range, ..shape(batch, spatial, books, num_codes, code_dim) };
                check(gpu, &Call::random(problem, 1), &["vec: 4", "count: true"])?;
                check(gpu, &Call::random(Problem { index: Index::I32, ..problem }, 2), &["vec: 4", "count: true"])?;
            }
        }
        Ok(())
    });
    suite.case("f16 and bf16 move in words", |gpu| {
        for dtype in [Dtype::F16, Dtype::Bf16] {
            let problem = typed(dtype, shape(2, 33, 2, 19, 64));
            check(gpu, &Call::random(problem, 3), &["x: F32, y: F32", "vec: 4"])?;
        }
        // Every bit pattern of 16 bits, NaN and subnormals among them, as bytes.
        let problem = Problem { bad: None, ..typed(Dtype::F16, shape(1, 1024, 1, 1024, 64)) };
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let indices: Vec<u8> = (0..1024u32).flat_map(|i| (i * 577 % 1024).to_le_bytes()).collect();
        let (indices, codebook) = (gpu.buffer(&indices), gpu.buffer(&bytes));
        let y = gpu.buffer(&vec![0; bytes.len()]);
        let dispatch = vq_lookup::prepare(&gpu.kernels, &problem, Buffers::new(&indices, &codebook, &y));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let after = gpu.read(&y)?;
        let wrong = (0..1024).find(|i| after[i * 128..][..128] != bytes[i * 577 % 1024 * 128..][..128]);
        wrong.map_or(Ok(()), |row| Err(format!("bits of row {row} differ")))
    });
    suite.case("16-bit rows that share words", |gpu| {
        for (dtype, code_dim, books, offset) in [(Dtype::F16, 7, 1, 1), (Dtype::F16, 5, 3, 0), (Dtype::F16, 1, 1, 0)] {
            let layout = Layout::at(offset);
            let problem = Problem { y_layout: layout, codebook: layout, ..shape(2, 13, books, 11, code_dim) };
            check(gpu, &Call::random(typed(dtype, problem), 5), &["edge: true"])?;
        }
        Ok(())
    });
    suite.case("books added up", |gpu| {
        for out_of_range in [OutOfRange::Zero, OutOfRange::First] {
            let problem = Problem { combine: Combine::Sum, out_of_range, ..shape(2, 21, 5, 40, 48) };
            check(gpu, &Call::random(problem, 6), &["sum: true", "vec: 4"])?;
        }
        Ok(())
    });
    suite.case("channels first", |gpu| {
        for (batch, spatial, books, code_dim) in [(2, 9, 2, 20), (1, 1, 1, 3), (3, 70, 1, 64)] {
            let problem = Problem { order: Order::ChannelsFirst, ..shape(batch, spatial, books, 17, code_dim) };
            check(gpu, &Call::random(problem, 7), &["planes: true"])?;
        }
        Ok(())
    });
    suite.case("strides, a shared book, u16 indices", |gpu| {
        // Books of indices in planes, rows of y apart, every book the same.
        let problem = Problem {
            index: Index::U16,
            indices: Layout::strided(3, [1, 50]),
            codebook: Layout::strided(8, [0, 36]),
            y_layout: Layout::strided(4, [2000, 100]),
            ..shape(2, 17, 3, 29, 32)
        };
        let mut call = Call::random(problem, 8);
        let book = call.codebook[..29 * 32].to_vec();
        call.codebook = book.repeat(3);
        check(gpu, &call, &["short: true", "vec: 4"]).map(drop)
    });
    suite.case("rows longer than a round of turns, batches apart", |gpu| {
        let shared = gpu.is_software();
        for (problem, word) in [
            (shape(2, 9, 1, 13, 1100), "parts: 3,"),
            (Problem { y_layout: Layout::strided(4, [4000, 300]), ..shape(2, 9, 3, 13, 100) }, "parts: 1,"),
            (typed(Dtype::F16, shape(2, 9, 1, 13, 56)), "turns: 1,"),
            (Problem { y: Dtype::Bf16, ..shape(1, 301, 2, 13, 64) }, "turns: 2,"),
        ] {
            // How many turns follows from the subgroup's width; 8 is what the words stand for.
            let eight = shared && gpu.kernels.caps().trusted_subgroup_size().unwrap_or(8) == 8;
            check(gpu, &Call::random(problem, 12), if eight { std::slice::from_ref(&word) } else { &[] })?;
        }
        // Vectors that the rounds of a workgroup do not divide; one book with batches apart.
        let problem = Problem { y_layout: Layout::strided(4, [4000, 100]), ..shape(2, 33, 1, 13, 64) };
        for rows in [1, 5, 7] {
            let config = vq_lookup::choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
            Call::random(problem, 13).check(gpu, &gpu.kernels, Some(&Config { rows, ..config }))?;
        }
        Ok(())
    });
    suite.case("errors", errors);
    if suite.depth >= Depth::Wide {
        wide(suite);
    }
}

fn wide(suite: &mut Suite) {
    suite.case("dtypes", |gpu| {
        for (x, y) in [(Dtype::F16, Dtype::F32), (Dtype::F32, Dtype::Bf16), (Dtype::Bf16, Dtype::Bf16)] {
            for (combine, order) in [(Combine::Sum, Order::ChannelsLast), (Combine::Sum, Order::ChannelsFirst)] {
                for code_dim in [16, 9] {
                    let problem = Problem { x, y, combine, order, ..shape(2, 15, 3, 10, code_dim) };
                    check(gpu, &Call::random(problem, 9), &["count: true"])?;
                }
            }
        }
        Ok(())
    });
    suite.case("every Config of a kind", |gpu| {
        let problem = shape(3, 75, 2, 19, 48);
        let call = Call::random(problem, 10);
        let chosen = vq_lookup::choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
        for (wg_size, lanes, rows) in [(64, 8, 1), (64, 4, 4), (8, 8, 64), (16, 1, 2), (128, 32, 1)] {
            call.check(gpu, &gpu.kernels, Some(&Config { wg_size, lanes, rows, ..chosen }))?;
        }
        Ok(())
    });
    suite.case("checked modules give the same", |gpu| {
        for problem in [shape(2, 33, 2, 19, 64), typed(Dtype::F16, shape(2, 13, 1, 11, 7))] {
            let call = Call::random(problem, 4);
            let (fast, _) = call.check(gpu, &gpu.kernels, None)?;
            let (checked, _) = call.check(gpu, gpu.checked(), None)?;
            if fast.y != checked.y {
                return Err("bits differ".into());
            }
        }
        Ok(())
    });
    suite.case("tensors", |gpu| {
        let run = async {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let book = context.upload(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2])?;
            let indices = context.upload(&[2u16, 0, 9, 1], &[2, 2])?;
            let y = book.vq_lookup(&indices, Combine::Concat)?;
            let books = context.upload(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2, 1])?;
            let sum = books.vq_lookup(&context.upload(&[1, 0, 0, 1], &[2, 2])?, Combine::Sum)?;
            let refused = books.vq_lookup(&context.upload(&[1u32, 0, 0], &[3])?, Combine::Sum);
            assert!(matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "indices", .. }, .. })), "{refused:?}");
            Ok::<_, Error>((y.shape().to_vec(), y.read().await?, sum.read().await?))
        };
        let got = pollster::block_on(run).map_err(|error| error.to_string())?;
        let want = (vec![2, 2, 2], vec![5.0, 6.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0], vec![5.0, 5.0]);
        if got == want { Ok(()) } else { Err(format!("{got:?}")) }
    });
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |words: usize| gpu.buffer(&vec![0; words * 4]);
    let (indices, codebook, y) = (buffer(8), buffer(64), buffer(64));
    let prepare = |problem: &Problem, y| {
        vq_lookup::prepare(&gpu.kernels, problem, Buffers::new(&indices, &codebook, y)).map(drop)
    };
    let good = Problem { bad: None, ..shape(1, 8, 1, 8, 8) };
    prepare(&good, &y).map_err(|error| error.to_string())?;
    let expect = |what: &str, result: Result<(), Error>, ok: fn(&Error) -> bool| match result {
        Err(error) if ok(&error) => Ok(()),
        other => Err(format!("{what}: {other:?}")),
    };
    let invalid = |e: &Error| matches!(e, Error { kind: ErrorKind::InvalidProblem { .. }, .. });
    expect("no books", prepare(&Problem { books: 0, ..good }, &y), invalid)?;
    expect("no codes", prepare(&Problem { num_codes: 0, ..good }, &y), invalid)?;
    expect("overlap", prepare(&Problem { y_layout: Layout::strided(0, [0, 7]), ..good }, &y), invalid)?;
    expect("a large book", prepare(&Problem { num_codes: 9, ..good }, &y), |e| {
        matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "codebook", need: 288, have: 256, .. }, .. })
    })?;
    expect("y is the codebook", prepare(&good, &codebook), |e| {
        matches!(e, Error { kind: ErrorKind::Aliased { .. }, .. })
    })?;
    expect("no count", prepare(&Problem { bad: Some(0), ..good }, &y), |e| {
        matches!(e, Error { kind: ErrorKind::MissingBuffer { buffer: "bad", .. }, .. })
    })?;
    let none = prepare(&Problem { spatial: 0, ..good }, &y);
    none.map_err(|error| format!("nothing to do: {error}"))?;
    gpu.read(&y).map(drop)
}
