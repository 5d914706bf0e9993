//! VQ scatter on a GPU.

use loom::Gpu;
use loom::kernels::vq_scatter::{Call, Output};
use tileloom::vq_lookup::{self, Combine, Index, Order, OutOfRange};
use tileloom::vq_scatter::{self, Buffers, Problem};
use tileloom::{Dtype, Error, ErrorKind, Layout};

use crate::{Depth, Suite};

fn shape(batch: usize, spatial: usize, books: usize, num_codes: usize, code_dim: usize) -> Problem {
    Problem { batch, spatial, books, num_codes, code_dim, counts: Some(0), ..Problem::default() }
}

/// Runs and judges; the step must say all of `words`.
fn check(gpu: &Gpu, call: &Call, words: &[&str]) -> Result<Output, String> {
    let (output, _) = call.check(gpu, &gpu.kernels, None)?;
    match words.iter().all(|word| output.steps[0].contains(word)) {
        true => Ok(output),
        false => Err(format!("meant to run {words:?}, ran {}", output.steps[0])),
    }
}

pub fn cases(suite: &mut Suite) {
    suite.case("f32, sizes, books, garbage indices", |gpu| {
        for (batch, spatial, books, num_codes, code_dim) in
            [(1, 1, 1, 1, 4), (2, 50, 1, 13, 64), (1, 500, 3, 300, 32), (3, 65, 2, 7, 260), (1, 0, 1, 3, 4)]
        {
            for out_of_range in [OutOfRange::Zero, OutOfRange::First] {
                let problem = Problem { out_of_range, ..shape(batch, spatial, books, num_codes, code_dim) };
                check(gpu, &Call::random(problem, 1), &["vec: 4", "count: true"])?;
            }
        }
        Ok(())
    });
    suite.case("the same bits again", |gpu| {
        let call = Call::random(shape(1, 3000, 1, 5, 64), 2);
        let [first, again] = [(); 2].map(|()| check(gpu, &call, &["vec: 4"]));
        if first?.sums == again?.sums { Ok(()) } else { Err("bits differ".into()) }
    });
    suite.case("more positions of one code than an invocation may loop over everywhere", |gpu| {
        let call = Call::random(shape(2, 3001, 1, 1, 64), 6);
        let output = check(gpu, &call, &["vec: 4", "count: true"])?;
        let runs =
            gpu.kernels.caps().loop_rounds().map_or(1, |limit| 6002usize.div_ceil((limit as usize - 16) / 18 / 4 * 4));
        match output.steps.len() == runs {
            true => Ok(()),
            false => Err(format!("{} runs, not {runs}", output.steps.len())),
        }
    });
    suite.case("channels first, the gradient of a sum", |gpu| {
        for combine in [Combine::Concat, Combine::Sum] {
            let of = vq_lookup::Problem {
                batch: 2,
                spatial: 19,
                books: 3,
                num_codes: 11,
                code_dim: 6,
                combine,
                order: Order::ChannelsFirst,
                ..Default::default()
            };
            let problem = Problem { counts: Some(0), ..Problem::gradient(&of) };
            check(gpu, &Call::random(problem, 3), &["vec: 1", "count: true"])?;
        }
        Ok(())
    });
    suite.case("f16 and bf16, odd, strided", |gpu| {
        for x in [Dtype::F16, Dtype::Bf16] {
            let problem = Problem {
                x,
                index: Index::U16,
                indices: Layout::strided(1, [1, 70]),
                x_layout: Layout::strided(3, [900, 25]),
                sums: 5,
                counts: Some(2),
                ..shape(2, 33, 2, 9, 7)
            };
            check(gpu, &Call::random(problem, 4), &["short: true", "vec: 1"])?;
        }
        Ok(())
    });
    suite.case("errors", |gpu| {
        let buffer = |words: usize| gpu.buffer(&vec![0; words * 4]);
        let (indices, x, sums) = (buffer(8), buffer(64), buffer(64));
        let good = Problem { counts: None, ..shape(1, 8, 1, 8, 8) };
        let prepare =
            |problem: &Problem| vq_scatter::prepare(&gpu.kernels, problem, Buffers::new(&indices, &x, &sums)).map(drop);
        prepare(&good).map_err(|error| error.to_string())?;
        let expect = |what: &str, result: Result<(), Error>, ok: fn(&Error) -> bool| match result {
            Err(error) if ok(&error) => Ok(()),
            other => Err(format!("{what}: {other:?}")),
        };
        let none = Problem { num_codes: 0, ..good };
        expect("no codes", prepare(&none), |e| {
            matches!(e, Error { kind: ErrorKind::InvalidProblem { arg: "num_codes", .. }, .. })
        })?;
        let large = Problem { num_codes: 9, ..good };
        expect("large sums", prepare(&large), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "sums", .. }, .. })
        })?;
        let counted = Problem { counts: Some(0), ..good };
        expect("no counts", prepare(&counted), |e| {
            matches!(e, Error { kind: ErrorKind::MissingBuffer { buffer: "counts", .. }, .. })
        })
    });
    if suite.depth >= Depth::Wide {
        suite.case("checked modules give the same", |gpu| {
            let call = Call::random(shape(2, 60, 2, 19, 12), 4);
            let (fast, _) = call.check(gpu, &gpu.kernels, None)?;
            let (checked, _) = call.check(gpu, gpu.checked(), None)?;
            if fast.sums == checked.sums { Ok(()) } else { Err("bits differ".into()) }
        });
    }
}
