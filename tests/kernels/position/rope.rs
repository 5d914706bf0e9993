//! RoPE on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use loom::kernels::position::rope::{plain, shape};
use tileloom::rope::{self, Angles, Axes, Buffers, Frequencies, Heads, Positions, Problem};
use tileloom::{Context, Error, ErrorKind, Layout, RopeOptions, RopePositions};

use crate::{Depth, Suite, invalid, refused};

const FAR: usize = 1 << 20;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("rope", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("error against position", table);
    errors(suite);
    if suite.depth >= Depth::Wide {
        wide(suite);
    }
}

/// What the unit vector (1, 0) of each pair becomes, by halves.
fn turn(gpu: &Gpu, problem: Problem, positions: &[f64]) -> Result<Vec<f64>, String> {
    let half = problem.head_dim / 2;
    let unit = [vec![1.0; half], vec![0.0; half]].concat().repeat(problem.seq);
    let call = Call::new(problem, [("x", unit), ("positions", positions.to_vec())].into());
    Ok(call.run(gpu, &gpu.kernels, None)?.values.remove("y").unwrap_or_default())
}

fn wide(suite: &mut Suite) {
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
        let mut worst = 0f64;
        for (p, row) in turn(gpu, problem, &[])?.chunks(8).enumerate() {
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

/// Largest error in ULP of 1 of a turned unit vector near each position, ours and of textbook f32 angles.
fn table(gpu: &Gpu) -> Result<(), String> {
    let (seq, dim) = (16, 128);
    let mut text = String::from("| position | tileloom | f32 angles |\n");
    for power in 0..=20 {
        let first = (1i64 << power).min(FAR as i64 - seq as i64 + 1);
        let positions: Vec<f64> = (first..first + seq as i64).map(|p| p as f64).collect();
        let turned = turn(gpu, shape(1, 1, seq, dim, dim), &positions)?;
        let (mut ours, mut textbook) = (0f64, 0f64);
        for (row, &p) in turned.chunks(dim).zip(&positions) {
            for i in 0..dim / 2 {
                let exponent = -2.0 * i as f64 / dim as f64;
                let (sin, cos) = (p * 10_000f64.powf(exponent)).sin_cos();
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
    Ok(())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(suite: &mut Suite) {
    suite.case("errors", |gpu| {
        let kernels = &gpu.kernels;
        let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
        let (x, y) = (buffer(64), buffer(64));
        let good = Problem { positions: Positions::Offset(0), ..shape(1, 2, 4, 8, 8) };
        let prepare = |problem: &Problem, buffers: Buffers| rope::prepare(kernels, problem, buffers);
        let of = || good.clone();
        let overlapping = Heads { to: Layout::strided(0, [0, 7, 16]), ..Heads::new(2) };
        for (problem, arg) in [
            (Problem { rotary_dim: 7, ..of() }, "rotary_dim"),
            (Problem { rotary_dim: 10, ..of() }, "rotary_dim"),
            (Problem { q: Heads::new(0), ..of() }, "q"),
            (Problem { axes: Axes::Sections([1, 1, 1]), ..of() }, "axes"),
            (Problem { rotary_dim: 6, axes: Axes::Axial, angles: plain(6), ..of() }, "axes"),
            (Problem { angles: plain(6), ..of() }, "frequencies"),
            (Problem { angles: Angles::Tables { max_pos: 0, cos: 0, sin: 0 }, ..of() }, "max_pos"),
            (Problem { positions: Positions::Offset(u32::MAX as i64 - 2), ..of() }, "positions"),
            (Problem { q: overlapping, ..of() }, "q_out"),
        ] {
            invalid(arg, prepare(&problem, Buffers::new(&x, &y)))?;
        }
        let short = buffer(63);
        refused("a short q", prepare(&good, Buffers::new(&short, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "q", need: 256, have: 252, .. }, .. })
        })?;
        let read = shape(1, 2, 4, 8, 8);
        refused("no positions", prepare(&read, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::MissingBuffer { buffer: "positions", .. }, .. })
        })?;
        let few = buffer(3);
        refused("few positions", prepare(&read, Buffers::new(&x, &y).positions(&few)), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "positions", need: 16, have: 12, .. }, .. })
        })?;
        refused("a k too many", prepare(&good, Buffers::new(&x, &y).k(&x).k_out(&y)), |e| {
            matches!(e, Error { kind: ErrorKind::UnusedBuffer { buffer: "k", .. }, .. })
        })?;
        let large = buffer(256);
        let shifted = Problem { q: Heads { to: Layout::at(8), ..Heads::new(2) }, ..of() };
        refused("views that overlap in part", prepare(&shifted, Buffers::in_place(&large)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "q", second: "q_out", .. }, .. })
        })?;
        let both = Problem { k: Some(Heads::new(2)), ..of() };
        refused("two outputs in one place", prepare(&both, Buffers::new(&x, &y).k(&large).k_out(&y)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "q_out", second: "k_out", .. }, .. })
        })?;
        let far = Problem { q: Heads { from: Layout::at(u32::MAX as usize), ..Heads::new(2) }, ..of() };
        refused("an index past u32", prepare(&far, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::IndexOverflow { arg: "q", .. }, .. })
        })?;
        gpu.read(&x).map(drop)
    });
}
