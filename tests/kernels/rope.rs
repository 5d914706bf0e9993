//! RoPE on a GPU. Cases share few pipelines: shapes, style, sections and factors are parameters.

use loom::Gpu;
use loom::kernels::rope::{Call, Memory, Output};
use tileloom::rope::{self, Angles, Axes, Buffers, Frequencies, Heads, Positions, Problem, Scaling, Style, Yarn};
use tileloom::{Context, Dtype, Error, ErrorKind, Layout, RopeOptions, RopePositions};

use crate::{Depth, Suite};

const FAR: usize = 1 << 20;

fn plain(rotary_dim: usize) -> Angles {
    Angles::Frequencies(Frequencies::new(rotary_dim, 10_000.0).unwrap())
}

fn read(signed: bool) -> Positions {
    Positions::Buffer { signed, layout: Layout::default() }
}

/// Positions from a buffer.
fn shape(batch: usize, heads: usize, seq: usize, head_dim: usize, rotary_dim: usize) -> Problem {
    let (q, angles, positions) = (Heads::new(heads), plain(rotary_dim), read(false));
    Problem { batch, seq, head_dim, rotary_dim, q, angles, positions, ..Problem::default() }
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
    everywhere(suite);
    errors(suite);
    if suite.depth >= Depth::Wide {
        wide(suite);
    }
    if suite.depth == Depth::Full {
        full(suite);
    }
}

/// About eight pipelines.
fn everywhere(suite: &mut Suite) {
    suite.case("f32, styles, sizes, inverse", |gpu| {
        for (batch, heads, seq, head_dim, rotary_dim) in
            [(1, 1, 1, 8, 8), (2, 9, 7, 64, 64), (1, 3, 130, 40, 24), (3, 32, 1, 128, 128), (2, 5, 33, 96, 32)]
        {
            for style in [Style::Half, Style::Interleaved] {
                for inverse in [false, true] {
                    let problem = Problem { style, inverse, ..shape(batch, heads, seq, head_dim, rotary_dim) };
                    check(gpu, &Call::random(problem, 7, FAR), &["pairs: 4", "positions: true"])?;
                }
            }
        }
        Ok(())
    });
    suite.case("f32, odd sizes and offsets", |gpu| {
        for (head_dim, rotary_dim, offset) in [(2, 2, 0), (59, 10, 0), (80, 20, 0), (64, 64, 1), (7, 6, 3)] {
            for style in [Style::Half, Style::Interleaved] {
                let mut problem = Problem { style, ..shape(2, 3, 5, head_dim, rotary_dim) };
                (problem.q.from, problem.q.to) = (Layout::at(offset), Layout::at(2 * offset));
                check(gpu, &Call::random(problem, 3, FAR), &["pairs: 1"])?;
            }
        }
        Ok(())
    });
    suite.case("positions of every size and sign", |gpu| {
        for (signed, reach) in [(false, 1 << 24), (false, u32::MAX as usize), (true, FAR), (true, u32::MAX as usize)] {
            let problem = Problem { positions: read(signed), ..shape(2, 2, 65, 64, 64) };
            check(gpu, &Call::random(problem, 5, reach), &["pairs: 4"])?;
        }
        Ok(())
    });
    suite.case("sections and two axes", |gpu| {
        for axes in [Axes::Sections([8, 12, 12]), Axes::Sections([0, 31, 1]), Axes::Axial] {
            let mut problem = Problem { axes, ..shape(2, 3, 11, 64, 64) };
            if axes == Axes::Axial {
                problem.angles = Angles::Frequencies(Frequencies::axial(64, 10_000.0).unwrap());
            }
            // Axis and batch strides of their own, batches in the other order.
            let layout = Layout::strided(5, [13, 40]);
            problem.positions = Positions::Buffer { signed: true, layout };
            check(gpu, &Call::random(problem, 2, FAR), &["pairs: 4"])?;
        }
        Ok(())
    });
    suite.case("scalings", |gpu| {
        let llama3 = Scaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192.0,
        };
        let long = Scaling::LongRope {
            short_factor: vec![1.0; 32],
            long_factor: (0..32).map(|i| 1.0 + 0.37 * f64::from(i)).collect(),
            original_max_position_embeddings: 4096.0,
            factor: 32.0,
            attention_factor: None,
        };
        let dynamic = Scaling::Dynamic { factor: 4.0, max_position_embeddings: 2048.0 };
        for scaling in [Scaling::Linear { factor: 3.7 }, dynamic, Scaling::Yarn(Yarn::new(40.0, 4096.0)), llama3, long]
        {
            let frequencies = Frequencies::scaled(64, 500_000.0, &scaling, 131_072).unwrap();
            // Faster than a turn per position: reduced on the host.
            let fast = frequencies.clone().with_factors(&[0.01; 32]).unwrap();
            for frequencies in [frequencies, fast] {
                let problem = Problem { angles: Angles::Frequencies(frequencies), ..shape(1, 2, 70, 64, 64) };
                check(gpu, &Call::random(problem, 9, FAR), &["pairs: 4"]).map_err(|e| format!("{scaling:?}: {e}"))?;
            }
        }
        Ok(())
    });
    suite.case("q and k, in place in one fused buffer", |gpu| {
        // Tokens of [q: 6 | k: 2 | v: 2] heads, and [b, heads, s, d] with 2 heads of k behind 6 of q.
        let fused = |first, heads| Heads::fused(first, heads, 9, 32, 320);
        let stacked = |first: usize, heads| {
            let layout = Layout::strided(first * 288, [8 * 288, 288, 32]);
            Heads { heads, from: layout, to: layout }
        };
        for (q, k) in [(fused(0, 6), fused(6, 2)), (stacked(0, 6), stacked(6, 2))] {
            let problem = Problem { q, k: Some(k), ..shape(2, 6, 9, 32, 24) };
            let call = Call::random(problem, 4, FAR).in_memory(Memory::OneBuffer);
            check(gpu, &call, &["in_place: [true, true]"])?;
        }
        Ok(())
    });
    suite.case("tables, hostile positions", |gpu| {
        for (signed, axes) in [(false, Axes::One), (true, Axes::One), (true, Axes::Sections([4, 4, 8]))] {
            let angles = Angles::Tables { max_pos: 37, cos: 3, sin: 1 };
            let problem = Problem { angles, axes, positions: read(signed), ..shape(2, 3, 21, 40, 32) };
            let mut call = Call::random(problem, 8, 60);
            for (i, p) in call.positions.iter_mut().flatten().enumerate() {
                match i % 5 {
                    0 if signed => *p = i64::from(i32::MIN),
                    1 => *p = if signed { i64::from(i32::MAX) } else { i64::from(u32::MAX) },
                    _ => {}
                }
            }
            check(gpu, &call, &["tables: true"])?;
        }
        Ok(())
    });
    suite.case("f16, counted positions", |gpu| {
        for (offset, seq) in [(0, 17), (1_048_560, 16), (-5, 9), (u32::MAX as i64 - 8, 9)] {
            let base = shape(2, 3, seq, 72, 64);
            let problem = Problem { x: Dtype::F16, y: Dtype::F16, positions: Positions::Offset(offset), ..base };
            check(gpu, &Call::random(problem, 8, FAR), &["pairs: 4"])?;
        }
        Ok(())
    });
    suite.case("bf16 pairs that share words", |gpu| {
        // Seven elements per head vector: every second word has two owners; in place, too.
        for (head_dim, rotary_dim, memory) in [(7, 6, Memory::InPlace), (59, 10, Memory::InPlace)] {
            let problem = Problem { x: Dtype::Bf16, y: Dtype::Bf16, ..shape(2, 3, 5, head_dim, rotary_dim) };
            check(gpu, &Call::random(problem, 3, FAR).in_memory(memory), &["edge: true", "in_place: [true, false]"])?;
        }
        Ok(())
    });
    suite.case("error against position", |gpu| table(gpu).map(drop));
    suite.case("nothing to compute", |gpu| {
        for (batch, seq) in [(0, 8), (8, 0)] {
            let output = Call::new(shape(batch, 2, seq, 8, 8), Vec::new());
            let output = Call { positions: Some(Vec::new()), ..output }.run(gpu, &gpu.kernels, None)?;
            if !output.steps.is_empty() {
                return Err(format!("dispatched {:?}", output.steps));
            }
        }
        Ok(())
    });
}

fn wide(suite: &mut Suite) {
    suite.case("checked modules give the same", |gpu| {
        for (problem, seed) in [(shape(2, 3, 17, 64, 48), 1), (shape(2, 3, 5, 59, 10), 2)] {
            let call = Call::random(problem, seed, FAR);
            let (fast, _) = call.check(gpu, &gpu.kernels, None)?;
            let (checked, _) = call.check(gpu, gpu.checked(), None)?;
            if gpu.is_software() && fast.q != checked.q {
                return Err("bits differ".into());
            }
        }
        Ok(())
    });
    suite.case("dtypes, words, layouts", |gpu| {
        for (x, y) in
            [(Dtype::F16, Dtype::F32), (Dtype::F32, Dtype::Bf16), (Dtype::Bf16, Dtype::F16), (Dtype::F16, Dtype::F16)]
        {
            for (head_dim, rotary_dim) in [(64, 64), (22, 12), (9, 6)] {
                for style in [Style::Half, Style::Interleaved] {
                    let base = shape(2, 4, 6, head_dim, rotary_dim);
                    let (q, k) = (Heads::bshd(4, 6, head_dim), Some(Heads::new(2)));
                    check(gpu, &Call::random(Problem { x, y, style, q, k, ..base }, 6, FAR), &[" k: true"])?;
                }
            }
        }
        Ok(())
    });
    suite.case("tensors", |gpu| {
        let run = async {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let frequencies = Frequencies::new(4, 10_000.0)?;
            let options = RopeOptions { tokens_first: true, ..RopeOptions::new(&frequencies) };
            // [1, 2 tokens, 2 heads, 4] and one head of k; at position 3 cos is -0.98999, sin 0.14112.
            let q = context.upload(&[1.0f32, 0.0, 0.0, 0.0].repeat(4), &[1, 2, 2, 4])?;
            let k = context.upload(&[0.0f32, 0.0, 1.0, 0.0].repeat(2), &[1, 2, 1, 4])?;
            let at = context.upload(&[0, 3], &[1, 2])?;
            let mut batch = context.batch();
            let at3 = RopeOptions { positions: RopePositions::Signed(&at), ..options };
            let (q_out, k_out) = batch.rope_qk(&q, &k, &at3)?;
            let back = batch.rope(&q_out, &RopeOptions { inverse: true, ..at3 })?;
            batch.submit()?;
            let refused = q.rope(&RopeOptions { positions: RopePositions::Signed(&at), axes: Axes::Axial, ..options });
            assert!(
                matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "positions", .. }, .. })),
                "{refused:?}"
            );
            Ok::<_, Error>((q_out.read().await?, k_out.read().await?, back.read().await?))
        };
        let (q, k, back) = pollster::block_on(run).map_err(|error| error.to_string())?;
        let (cos, sin) = (-0.989_992_5, 0.141_120_01);
        let mut want = [1.0, 0.0, 0.0, 0.0].repeat(4);
        let near = |have: &[f32], want: &[f32]| have.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6);
        let ok = near(&back, &want) && near(&k[..4], &[0.0, 0.0, 1.0, 0.0]) && near(&k[4..], &[-sin, 0.0, cos, 0.0]);
        for head in [8, 12] {
            want[head..head + 4].copy_from_slice(&[cos, 0.0, sin, 0.0]);
        }
        if ok && near(&q, &want) { Ok(()) } else { Err(format!("{q:?} {k:?} {back:?}")) }
    });
    suite.case("every angle of a turn", |gpu| {
        // 2^20 positions go once around, at four places between two neighbours; (1, 0) turns to (cos, sin).
        let step = std::f64::consts::TAU / FAR as f64;
        let per_pair: Vec<f64> = (0..4).map(|i| step * (1.0 + f64::from(i) * 2f64.powi(-22))).collect();
        let angles = Angles::Frequencies(Frequencies { per_pair: per_pair.clone(), attention_factor: 1.0 });
        let problem = Problem { positions: Positions::Offset(0), angles, ..shape(1, 1, FAR, 8, 8) };
        let unit = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        let output = Call::new(problem, unit.repeat(FAR)).run(gpu, &gpu.kernels, None)?;
        let mut worst = 0f64;
        for (p, row) in output.q.chunks(8).enumerate() {
            for (i, f) in per_pair.iter().enumerate() {
                let (sin, cos) = (p as f64 * f).sin_cos();
                for (have, want) in [(row[i], cos), (row[4 + i], sin)] {
                    let place = want.abs().max(2f64.powi(-20));
                    worst = worst.max((have - want).abs() / 2f64.powi(place.log2().floor() as i32 - 23));
                }
            }
        }
        println!("{}: sin and cos of a turn within {worst:.2} ULP", gpu.slug);
        if worst <= 3.5 { Ok(()) } else { Err(format!("{worst} ULP")) }
    });
}

/// Dtypes by items' widths, sources of positions and angles, k or not; every candidate.
fn full(suite: &mut Suite) {
    for x in Dtype::ALL {
        for y in Dtype::ALL {
            suite.case(format!("{x} to {y}"), move |gpu| {
                for (head_dim, rotary_dim, offset) in [(64, 48, 0), (22, 12, 2), (9, 6, 1)] {
                    for (k, counted, tables) in
                        [(false, true, false), (true, false, false), (false, false, true), (true, true, true)]
                    {
                        let heads = Heads { from: Layout::at(offset), to: Layout::at(offset), ..Heads::new(5) };
                        let mut problem = Problem { x, y, q: heads, ..shape(2, 5, 7, head_dim, rotary_dim) };
                        problem.k = k.then_some(Heads { heads: 2, ..heads });
                        if counted {
                            problem.positions = Positions::Offset(1_000_003);
                        }
                        if tables {
                            problem.angles = Angles::Tables { max_pos: 37, cos: 3, sin: 1 };
                        }
                        for style in [Style::Half, Style::Interleaved] {
                            let call = Call::random(Problem { style, ..problem.clone() }, 2, FAR);
                            for config in rope::candidates(&gpu.kernels.caps(), &call.problem).unwrap() {
                                call.check(gpu, &gpu.kernels, Some(&config))?;
                            }
                        }
                    }
                }
                Ok(())
            });
        }
    }
}

/// Largest error in ULP of 1 of a turned unit vector near each position, ours and of textbook f32 angles.
fn table(gpu: &Gpu) -> Result<String, String> {
    let (seq, dim) = (16, 128);
    let mut text = String::from("| position | tileloom | f32 angles |\n");
    for power in 0..=20 {
        let first = (1i64 << power).min(FAR as i64 - seq as i64 + 1);
        let positions: Vec<i64> = (first..first + seq as i64).collect();
        let mut call = Call::new(shape(1, 1, seq, dim, dim), {
            let mut unit = vec![1.0; dim / 2];
            unit.resize(dim, 0.0);
            unit.repeat(seq)
        });
        call.positions = Some(positions.clone());
        let output = check(gpu, &call, &["pairs: 4"])?;
        let (mut ours, mut textbook) = (0f64, 0f64);
        for (row, &p) in output.q.chunks(dim).zip(&positions) {
            for i in 0..dim / 2 {
                let exponent = -2.0 * i as f64 / dim as f64;
                let (sin, cos) = (p as f64 * 10_000f64.powf(exponent)).sin_cos();
                let angle = f64::from(p as f32 * 10_000f32.powf(exponent as f32));
                let ulp = 2f64.powi(-24);
                ours = ours.max((row[i] - cos).abs() / ulp).max((row[dim / 2 + i] - sin).abs() / ulp);
                textbook = textbook.max((angle.cos() - cos).abs() / ulp).max((angle.sin() - sin).abs() / ulp);
            }
        }
        text += &format!("| {first} | {ours:.2} | {textbook:.1} |\n");
        if ours > 4.0 {
            return Err(text);
        }
    }
    if std::env::var_os("TILELOOM_PRINT_TABLE").is_some() {
        println!("{}\n{text}", gpu.slug);
    }
    Ok(text)
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(suite: &mut Suite) {
    suite.case("errors", |gpu| {
        let kernels = &gpu.kernels;
        let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
        let (x, y) = (buffer(64), buffer(64));
        let good = Problem { positions: Positions::Offset(0), ..shape(1, 2, 4, 8, 8) };
        let prepare = |problem: &Problem, buffers: Buffers| rope::prepare(kernels, problem, buffers);
        let invalid = |problem: Problem, arg: &'static str| match prepare(&problem, Buffers::new(&x, &y)) {
            Err(Error { kind: ErrorKind::InvalidProblem { arg: have, .. }, .. }) if have == arg => Ok(()),
            other => Err(format!("{arg}: {:?}", other.err())),
        };
        let of = || good.clone();
        invalid(Problem { rotary_dim: 7, ..of() }, "rotary_dim")?;
        invalid(Problem { rotary_dim: 10, ..of() }, "rotary_dim")?;
        invalid(Problem { q: Heads::new(0), ..of() }, "q")?;
        invalid(Problem { axes: Axes::Sections([1, 1, 1]), ..of() }, "axes")?;
        invalid(Problem { rotary_dim: 6, axes: Axes::Axial, angles: plain(6), ..of() }, "axes")?;
        invalid(Problem { angles: plain(6), ..of() }, "frequencies")?;
        invalid(Problem { angles: Angles::Tables { max_pos: 0, cos: 0, sin: 0 }, ..of() }, "max_pos")?;
        invalid(Problem { positions: Positions::Offset(u32::MAX as i64 - 2), ..of() }, "positions")?;
        let overlapping = Heads { to: Layout::strided(0, [0, 7, 16]), ..Heads::new(2) };
        invalid(Problem { q: overlapping, ..of() }, "q_out")?;

        let expect = |what: &str, result: Result<_, Error>, ok: fn(&Error) -> bool| match result {
            Err(error) if ok(&error) => Ok(()),
            Err(error) => Err(format!("{what}: {error:?}")),
            Ok(_) => Err(format!("{what} was accepted")),
        };
        let short = buffer(63);
        expect("a short q", prepare(&good, Buffers::new(&short, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "q", need: 256, have: 252, .. }, .. })
        })?;
        let read = shape(1, 2, 4, 8, 8);
        expect("no positions", prepare(&read, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::MissingBuffer { buffer: "positions", .. }, .. })
        })?;
        let few = buffer(3);
        expect("few positions", prepare(&read, Buffers::new(&x, &y).positions(&few)), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "positions", need: 16, have: 12, .. }, .. })
        })?;
        expect("a k too many", prepare(&good, Buffers::new(&x, &y).k(&x).k_out(&y)), |e| {
            matches!(e, Error { kind: ErrorKind::UnusedBuffer { buffer: "k", .. }, .. })
        })?;
        let large = buffer(256);
        let shifted = Problem { q: Heads { to: Layout::at(8), ..Heads::new(2) }, ..of() };
        expect("views that overlap in part", prepare(&shifted, Buffers::in_place(&large)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "q", second: "q_out", .. }, .. })
        })?;
        let both = Problem { k: Some(Heads::new(2)), ..of() };
        expect("two outputs in one place", prepare(&both, Buffers::new(&x, &y).k(&large).k_out(&y)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "q_out", second: "k_out", .. }, .. })
        })?;
        let far = Problem { q: Heads { from: Layout::at(u32::MAX as usize), ..Heads::new(2) }, ..of() };
        expect("an index past u32", prepare(&far, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::IndexOverflow { arg: "q", .. }, .. })
        })?;
        gpu.read(&x).map(drop)
    });
}
