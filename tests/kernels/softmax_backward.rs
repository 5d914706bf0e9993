//! The gradient of softmax on a GPU. Cases share a few pipelines, as those of softmax do.

use loom::Gpu;
use loom::kernels::softmax_backward::{Call, Memory, Output};
use tileloom::softmax_backward::{self, Algorithm, Buffers, Config, Problem, Reduce, candidates, choose};
use tileloom::{Context, Dtype, Error, ErrorKind, Layout, SoftmaxOptions};

use crate::{Depth, Suite};

fn shape(rows: usize, cols: usize) -> Problem {
    Problem { rows, cols, ..Problem::default() }
}

fn typed(dtype: Dtype, problem: Problem) -> Problem {
    Problem { y: dtype, dy: dtype, dx: dtype, ..problem }
}

/// A forced tile, of packed f16.
fn tile(algorithm: Algorithm, wg_size: u32, lanes: u32, keep: u32, reduce: Reduce) -> Config {
    Config { algorithm, wg_size, lanes, keep, reduce, native_f16: false }
}

/// Odd offsets keep a problem from vec4, whatever its columns.
fn odd(problem: Problem) -> Problem {
    Problem { y_layout: Layout::at(1), dy_layout: Layout::at(2), dx_layout: Layout::at(3), ..problem }
}

/// One element at a time, up to 64 columns, a row per workgroup: needs no feature.
fn plain() -> Config {
    tile(Algorithm::Registers, 8, 8, 8, Reduce::Tree)
}

/// Runs with `config` (none: the chosen one), asserts that it is the one that ran and says all of `words`, and judges.
fn check(gpu: &Gpu, call: &Call, config: Option<&Config>, words: &[&str]) -> Result<Output, String> {
    let chosen = choose(&gpu.kernels.caps(), &call.problem).map_err(|error| error.to_string())?;
    let (output, _) = call.check(gpu, &gpu.kernels, config)?;
    let text = config.unwrap_or(&chosen).to_string();
    let tile: Vec<_> = std::iter::once(text.as_str()).chain(words.iter().copied()).collect();
    let ran = |step: &String| tile.iter().all(|word| step.contains(word));
    match output.steps.iter().all(ran) {
        true => Ok(output),
        false => Err(format!("meant to run {tile:?}, ran {:?}", output.steps)),
    }
}

fn same_bits(a: &Output, b: &Output) -> Result<(), String> {
    match a.dx.iter().zip(&b.dx).position(|(a, b)| a.to_bits() != b.to_bits()) {
        None => Ok(()),
        Some(i) => Err(format!("bits differ at {i}")),
    }
}

pub fn cases(suite: &mut Suite) {
    everywhere(suite);
    errors(suite);
    if suite.depth >= Depth::Wide {
        wide(suite);
    }
    if suite.depth == Depth::Full {
        full(suite);
    }
}

/// About ten pipelines.
fn everywhere(suite: &mut Suite) {
    for log in [false, true] {
        suite.case(if log { "log" } else { "plain" }, move |gpu| {
            for (rows, cols) in [(1, 1), (21, 7), (9, 33), (14, 63), (7, 64)] {
                for masked in [false, true] {
                    let problem = odd(Problem { log, scale: 0.37, ..shape(rows, cols) });
                    check(
                        gpu,
                        &Call::random(problem, 7 + cols as u64, masked),
                        Some(&plain()),
                        &["Form { vec: 1, y: F32, dy: F32, dx: F32,"],
                    )?;
                }
            }
            // More rows than a dimension has workgroups, and strided views with NaN between.
            let many = Call::random(odd(Problem { log, ..shape(66_001, 3) }), 2, true);
            let output = check(gpu, &many, Some(&plain()), &[])?;
            if !output.steps[0].contains("[33001, 2, 1]") {
                return Err(format!("the grid did not fold: {}", output.steps[0]));
            }
            let strided = Problem {
                log,
                dims: [2, 5],
                y_layout: Layout::strided(5, [170, 17, 34]),
                dy_layout: Layout::strided(0, [500, 61, 12]),
                dx_layout: Layout::strided(7, [130, 13, 26]),
                ..shape(30, 11)
            };
            check(gpu, &Call::random(strided, 3, true), Some(&plain()), &[]).map(drop)
        });
    }
    suite.case("causal is bottom-right aligned", |gpu| {
        // More queries than keys leaves the first rows dead.
        for (queries, keys) in [(1, 5), (5, 5), (7, 3), (3, 40), (33, 64)] {
            for log in [false, true] {
                let problem = odd(Problem { dims: [1, queries], causal: true, log, ..shape(2 * queries, keys) });
                let mut call = Call::random(problem, 5, true);
                // What lies past the diagonal is not looked at.
                for (i, y) in call.y.iter_mut().enumerate() {
                    if i % keys + queries > i / keys % queries + keys {
                        *y = f64::NAN;
                    }
                }
                check(gpu, &call, Some(&plain()), &["hides"])?;
            }
        }
        Ok(())
    });
    suite.case("chosen for short, long and few very long rows", |gpu| {
        let software = gpu.is_software();
        let cols = if software { 4096 } else { 70_000 };
        for (algorithm, problem) in [
            (Algorithm::Registers, shape(37, 64)),
            (Algorithm::Online, shape(70, cols)),
            // The same pipeline, with a tail behind the full blocks.
            (Algorithm::Online, shape(70, cols + 36)),
            (Algorithm::Split, shape(1, 152_064)),
        ] {
            let call = Call::random(problem, 1, true);
            let config = choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
            if config.algorithm != algorithm {
                return Err(format!("meant to hit {algorithm:?}, {config} was chosen"));
            }
            let first = check(gpu, &call, None, &[])?;
            same_bits(&first, &call.run(gpu, &gpu.kernels, None)?)?;
        }
        Ok(())
    });
    suite.case("log, long rows", |gpu| {
        let config = tile(Algorithm::Online, 8, 1, 4, Reduce::None);
        let problem = Problem { log: true, scale: 2.5, ..shape(70, 1204) };
        check(gpu, &Call::random(problem, 4, true), Some(&config), &["log"]).map(drop)
    });
    suite.case("f16 rows that share words, in place", |gpu| {
        let config = tile(Algorithm::Registers, 8, 1, 32, Reduce::None);
        for cols in [1, 7, 33] {
            let call = Call::random(typed(Dtype::F16, shape(23, cols)), 5, true).in_memory(Memory::OverDy);
            check(gpu, &call, Some(&config), &["edge: true", "in_place: [false, true]"])?;
        }
        Ok(())
    });
    suite.case("bf16, over y", |gpu| {
        let config = tile(Algorithm::Online, 8, 1, 4, Reduce::None);
        let call = Call::random(typed(Dtype::Bf16, shape(70, 1200)), 6, true).in_memory(Memory::OverY);
        check(gpu, &call, Some(&config), &["in_place: [true, false]"]).map(drop)
    });
    suite.case("nothing to compute", |gpu| {
        for (rows, cols) in [(0, 8), (8, 0)] {
            let output = Call::new(shape(rows, cols), Vec::new(), Vec::new()).run(gpu, &gpu.kernels, None)?;
            if !output.steps.is_empty() {
                return Err(format!("{rows} x {cols} dispatched {:?}", output.steps));
            }
        }
        Ok(())
    });
}

/// What one driver is enough for.
fn wide(suite: &mut Suite) {
    let caps = suite.gpu.kernels.caps();
    let no_subgroup = caps.subgroup.is_none().then_some("SUBGROUP");
    suite.case("checked modules give the same", |gpu| {
        let calls = [
            (Call::random(odd(shape(21, 33)), 1, true), plain()),
            (Call::random(shape(2, 20_004), 3, true), tile(Algorithm::Split, 8, 8, 4, Reduce::Tree)),
            (Call::random(typed(Dtype::F16, shape(9, 1201)), 5, true), tile(Algorithm::Online, 8, 1, 4, Reduce::None)),
        ];
        for (call, config) in calls {
            let unchecked = check(gpu, &call, Some(&config), &[])?;
            let (checked, _) = call.check(gpu, gpu.checked(), Some(&config))?;
            if gpu.is_software() {
                same_bits(&unchecked, &checked).map_err(|error| format!("{config}: {error}"))?;
            }
        }
        Ok(())
    });
    suite.case_unless(no_subgroup, "a workgroup per row", |gpu| {
        for reduce in [Reduce::Tree, Reduce::Subgroup] {
            let config = tile(Algorithm::Registers, 64, 64, 4, reduce);
            check(gpu, &Call::random(shape(33, 1000), 12, true), Some(&config), &[])?;
        }
        Ok(())
    });
    suite.case("in place by every algorithm", |gpu| {
        for (memory, word) in [(Memory::OverY, "in_place: [true, false]"), (Memory::OverDy, "in_place: [false, true]")]
        {
            let split = tile(Algorithm::Split, 8, 8, 4, Reduce::Tree);
            let call = Call::random(Problem { log: true, ..shape(2, 20_004) }, 8, true).in_memory(memory);
            check(gpu, &call, Some(&split), &[word, "log"])?;
            let call = Call::random(typed(Dtype::Bf16, shape(9, 1201)), 8, true).in_memory(memory);
            check(gpu, &call, Some(&tile(Algorithm::Online, 8, 1, 4, Reduce::None)), &[word, "edge: true"])?;
        }
        Ok(())
    });
    suite.case("dtypes of their own", |gpu| {
        for (y, dy, dx) in [
            (Dtype::F16, Dtype::F32, Dtype::Bf16),
            (Dtype::Bf16, Dtype::F16, Dtype::F32),
            (Dtype::F32, Dtype::Bf16, Dtype::F16),
        ] {
            for log in [false, true] {
                let problem = Problem { y, dy, dx, log, ..shape(9, 60) };
                let config = tile(Algorithm::Registers, 8, 1, 16, Reduce::None);
                check(gpu, &Call::random(problem, 5, true), Some(&config), &[])?;
            }
        }
        Ok(())
    });
    suite.case("y and dy are one buffer", |gpu| {
        // Both are only read.
        let values = gpu.buffer(&Dtype::F32.encode(&[0.25, 0.75]));
        let dx = gpu.buffer(&[0xff; 8]);
        let dispatch = softmax_backward::prepare(&gpu.kernels, &shape(1, 2), Buffers::new(&values, &values, &dx));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        // The sum is 1/16 + 9/16.
        let dx = Dtype::F32.decode(&gpu.read(&dx)?);
        if dx == [0.25 * (0.25 - 0.625), 0.75 * (0.75 - 0.625)] { Ok(()) } else { Err(format!("{dx:?}")) }
    });
    suite.case("tensors", |gpu| {
        let run = async {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let mut batch = context.batch();
            // Scores 0 and 2 ln 3, halved: y = [1/4, 3/4], once more with the second hidden.
            let x = context.upload(&[0.0f32, 2.0 * 3f32.ln(), 0.0, 1.0], &[2, 2])?;
            let mask = context.upload(&[1u8, 1, 1, 0], &[2, 2])?;
            let dy = context.upload(&[4.0f32, 8.0, 5.0, 6.0], &[2, 2])?;
            let options = SoftmaxOptions { scale: 0.5, mask: Some((&mask).into()), ..Default::default() };
            let y = batch.softmax(&x, &options)?;
            let dx = batch.softmax_backward(&y, &dy, &options)?;
            batch.submit()?;
            let flat = context.upload(&[1.0f32; 4], &[4])?;
            let refused = y.softmax_backward(&flat, &options);
            assert!(matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "dy", .. }, .. })), "{refused:?}");
            dx.read().await
        };
        let dx: Vec<f32> = pollster::block_on(run).map_err(|error: Error| error.to_string())?;
        // sum(y dy) = 7: 1/2 * 1/4 * -3, 1/2 * 3/4 * 1.
        let near = dx.iter().zip([-0.375, 0.375, 0.0, 0.0]).all(|(have, want)| (have - want).abs() < 1e-6);
        if near { Ok(()) } else { Err(format!("{dx:?}")) }
    });
}

/// Forms by tiles, and the whole table.
fn full(suite: &mut Suite) {
    for (algorithm, wg_size, lanes, keep, reduce) in [
        (Algorithm::Registers, 8, 1, 64, Reduce::None),
        (Algorithm::Registers, 32, 4, 16, Reduce::Tree),
        (Algorithm::Online, 8, 1, 2, Reduce::None),
        (Algorithm::Online, 64, 64, 2, Reduce::Tree),
        (Algorithm::Split, 8, 8, 4, Reduce::Tree),
    ] {
        for dtype in Dtype::ALL {
            suite.case(format!("{algorithm:?} wg{wg_size} lanes{lanes} {dtype}"), move |gpu| {
                let config = tile(algorithm, wg_size, lanes, keep, reduce);
                for (cols, offset) in [(1, 0), (63, 0), (59, 1), (60, 0)] {
                    for (log, causal) in [(false, false), (true, false), (false, true), (true, true)] {
                        let (dims, dx_layout) = ([2, 5], Layout::at(offset));
                        let problem = typed(dtype, Problem { dims, log, causal, dx_layout, ..shape(20, cols) });
                        check(gpu, &Call::random(problem, cols as u64, true), Some(&config), &[])?;
                    }
                }
                Ok(())
            });
        }
    }
    suite.case("every candidate of the table", |gpu| {
        for (rows, cols) in [(1, 3), (70, 16), (17, 250), (9, 1024), (70, 4096), (1, 50_257)] {
            for config in candidates(&gpu.kernels.caps(), &shape(rows, cols)).map_err(|error| error.to_string())? {
                check(gpu, &Call::random(shape(rows, cols), 1, true), Some(&config), &[])?;
            }
        }
        Ok(())
    });
}

/// Every way to be refused that is not softmax's; nothing reaches the device's handlers.
fn errors(suite: &mut Suite) {
    suite.case("errors", |gpu| {
        let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
        let (y, dy, dx) = (buffer(64), buffer(64), buffer(64));
        let prepare = |problem: &Problem, buffers: Buffers| softmax_backward::prepare(&gpu.kernels, problem, buffers);
        let expect = |what: &str, result: Result<_, Error>, ok: fn(&Error) -> bool| match result {
            Err(error) if ok(&error) => Ok(()),
            Err(error) => Err(format!("{what}: {error:?}")),
            Ok(_) => Err(format!("{what} was accepted")),
        };
        let good = shape(4, 16);
        let overlapping = Problem { dims: [1, 4], dx_layout: Layout::strided(0, [0, 0, 15]), ..good };
        for (problem, arg) in [
            (Problem { dims: [0, 1], ..good }, "dims"),
            (Problem { dims: [1, 3], ..good }, "rows"),
            (Problem { cols: 1 << 33, ..good }, "cols"),
            (Problem { scale: f32::INFINITY, ..good }, "scale"),
            (overlapping, "dx_layout"),
        ] {
            match prepare(&problem, Buffers::new(&y, &dy, &dx)) {
                Err(Error { kind: ErrorKind::InvalidProblem { arg: have, .. }, .. }) if have == arg => {}
                other => return Err(format!("{arg}: {:?}", other.err())),
            }
        }
        let short = buffer(63);
        expect("a short dy", prepare(&good, Buffers::new(&y, &short, &dx)), |e| {
            matches!(
                e,
                Error {
                    op: "softmax_backward",
                    kind: ErrorKind::BufferTooSmall { buffer: "dy", need: 256, have: 252 }
                }
            )
        })?;
        let large = buffer(256);
        let shifted = Problem { dx_layout: Layout::at(8), ..good };
        expect("views that overlap in part", prepare(&shifted, Buffers::in_place(&y, &large)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "dy", second: "dx", .. }, .. })
        })?;
        let narrowed = Problem { dx: Dtype::F16, ..good };
        expect("in place with two dtypes", prepare(&narrowed, Buffers::in_place(&y, &dy)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { .. }, .. })
        })?;
        let long = tile(Algorithm::Registers, 8, 1, 2, Reduce::None);
        let unfit = softmax_backward::prepare_with(&gpu.kernels, &good, &long, Buffers::new(&y, &dy, &dx));
        expect("a row that the tile does not hold", unfit, |e| {
            matches!(e, Error { kind: ErrorKind::ConfigUnfit { .. }, .. })
        })?;
        gpu.read(&y).map(drop)
    });
}
