//! Attention on a GPU. Cases share few pipelines: all but head dims, dtypes and what is bound are parameters.

use loom::Gpu;
use loom::kernels::attention::{Call, Output};
use tileloom::attention::{
    self, Algorithm, Alibi, Buffers, Config, Load, Packed, Paged, Problem, Reduce, bshd, candidates, choose, fused,
    prepare, scratch_bytes,
};
use tileloom::softmax::{Mask, MaskKind};
use tileloom::{AttentionOptions, Context, Dtype, Error, ErrorKind, Layout, Op};

use crate::{Depth, Suite};

/// f32, 9 heads over 3 of 64, with LSE.
fn shape(seq_q: usize, seq_kv: usize) -> Problem {
    Problem { seq_q, seq_kv, lse: Some(1), ..Problem::new(1, 9, 3, 64) }
}

/// The first Config of this algorithm.
fn of(gpu: &Gpu, problem: &Problem, algorithm: Algorithm) -> Result<Config, String> {
    let all = candidates(&gpu.kernels.caps(), problem).map_err(|error| error.to_string())?;
    all.into_iter().find(|config| config.algorithm == algorithm).ok_or(format!("no {algorithm:?} fits"))
}

/// Runs `config`, asserts that it is the one that ran, and judges.
fn check(gpu: &Gpu, call: &Call, config: &Config) -> Result<Output, String> {
    let (output, _) = call.check(gpu, &gpu.kernels, Some(config))?;
    let steps = if config.algorithm == Algorithm::Decode { 2 } else { 1 };
    // The number of splits is a parameter.
    let name = Config { splits: 1, ..*config }.to_string();
    match output.steps.len() == steps && output.steps[0].contains(&name) {
        true => Ok(output),
        false => Err(format!("meant to run {config}, ran {:?}", output.steps)),
    }
}

fn tiled(gpu: &Gpu, call: &Call) -> Result<Output, String> {
    check(gpu, call, &of(gpu, &call.problem, Algorithm::Tiled)?)
}

fn decoded(gpu: &Gpu, call: &Call) -> Result<Output, String> {
    check(gpu, call, &of(gpu, &call.problem, Algorithm::Decode)?)
}

/// Within a few units of the last place of values of about 1.
fn near(a: &Output, b: &Output) -> Result<(), String> {
    let lse = |output: &Output| output.lse.clone().unwrap_or_default();
    let all = |output: &Output| output.o.iter().copied().chain(lse(output)).collect::<Vec<_>>();
    let (a, b) = (all(a), all(b));
    let far = |(a, b): (&f64, &f64)| !(a == b || (a - b).abs() <= 2e-5 * (1.0 + b.abs()) || a.is_nan() && b.is_nan());
    match a.len() == b.len() && !a.iter().zip(&b).any(far) {
        true => Ok(()),
        false => Err("results differ".into()),
    }
}

fn same_bits(a: &Output, b: &Output) -> Result<(), String> {
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    match bits(&a.o) == bits(&b.o) {
        true => Ok(()),
        false => Err("bits differ".into()),
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

const PAIRS: [(usize, usize); 11] = [
    (1, 1),
    (1, 239),
    (3, 799),
    (113, 203),
    (128, 217),
    (203, 113),
    (127, 512),
    (127, 513),
    (1023, 1024),
    (1024, 1023),
    (1, 8192),
];

/// About ten pipelines.
fn everywhere(suite: &mut Suite) {
    suite.case("sizes, causal, windows, softcap", |gpu| {
        for (seq_q, seq_kv) in [(1, 1), (2, 0), (1, 39), (3, 79), (33, 65), (40, 23)] {
            for (causal, window, softcap) in [
                (false, [None, None], 0.0),
                (true, [None, None], 0.0),
                (false, [Some(9), Some(2)], 2.0),
                (true, [Some(0), None], 0.3),
                (true, [Some(usize::MAX), Some(usize::MAX)], 0.0),
                (false, [None, Some(5)], 0.0),
            ] {
                let problem = Problem { causal, window, softcap, ..shape(seq_q, seq_kv) };
                tiled(gpu, &Call::random(problem, 7 + seq_kv as u64))?;
            }
        }
        Ok(())
    });
    suite.case("more queries than keys leave dead rows", |gpu| {
        let output = tiled(gpu, &Call::random(Problem { causal: true, ..shape(40, 23) }, 3))?;
        let lse = output.lse.unwrap_or_default();
        let dead = (0..9 * 40).filter(|row| row % 40 < 17);
        match dead.clone().all(|row| lse[row] == f64::NEG_INFINITY && output.o[row * 64..][..64] == [0.0; 64]) {
            true => Ok(()),
            false => Err("a dead row is not 0".into()),
        }
    });
    suite.case("decode is tiled", |gpu| {
        // Few queries over many keys, split; windows leave most splits with nothing to see.
        for (seq_q, seq_kv, window) in [(1, 700, None), (2, 900, None), (1, 600, Some(5)), (1, 1, None)] {
            let problem = Problem { causal: true, window: [window, None], ..shape(seq_q, seq_kv) };
            let call = Call::random(problem, 9);
            near(&decoded(gpu, &call)?, &tiled(gpu, &call)?)?;
        }
        Ok(())
    });
    suite.case("long loops", |gpu| {
        // More rounds than some drivers let an invocation take, were the keys not split.
        let problem = shape(1, 9000);
        let call = Call::random(problem, 11);
        let config = choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
        check(gpu, &call, &config)?;
        // Nor does a Config of the caller's run into them.
        let whole = Config { splits: 1, ..config };
        match problem.fits(&gpu.kernels.caps(), &whole) {
            Ok(()) => check(gpu, &call, &whole).map(drop),
            Err(_) => match call.run(gpu, &gpu.kernels, Some(&whole)) {
                Err(reason) if reason.contains("cuts short") => Ok(()),
                other => Err(format!("{whole} was not refused: {:?}", other.map(|output| output.steps))),
            },
        }
    });
    suite.case("scores of -2e5", |gpu| {
        for shift in [-2e5, 2e5] {
            let base = shape(5, 40);
            let mut call = Call::random(Problem { scale: 1.0, ..base }, 4);
            // The first element of q and k makes the score, the second tells keys apart.
            for (i, v) in call.q.iter_mut().enumerate() {
                *v = [shift, 1.0].get(i % 64).copied().unwrap_or(0.0);
            }
            for (i, v) in call.k.iter_mut().enumerate() {
                *v = [1.0, (i / 64 % 40) as f64 / 8.0].get(i % 64).copied().unwrap_or(0.0);
            }
            tiled(gpu, &call)?;
        }
        Ok(())
    });
    suite.case("alibi and sinks", |gpu| {
        for (batch, per_batch) in [(1, false), (2, true)] {
            let call = Call::random(Problem { batch, causal: true, ..shape(17, 33) }, 5);
            tiled(gpu, &call.clone().with_alibi(per_batch).with_sinks())?;
            // A sink is all that a dead row sees.
            let dead = Call::random(Problem { batch, causal: true, ..shape(33, 17) }, 5).with_sinks();
            tiled(gpu, &dead)?;
            decoded(gpu, &call.with_sinks())?;
        }
        // A sink of minus infinity is none, also where a row's first keys are hidden, or all of them.
        let none = vec![f64::NEG_INFINITY; shape(64, 64).heads];
        let window = Problem { causal: true, window: [Some(4), None], ..shape(64, 64) };
        tiled(gpu, &Call::random(window, 5).with_sinks_of(none.clone()))?;
        tiled(gpu, &Call::random(Problem { causal: true, ..shape(33, 17) }, 5).with_sinks_of(none))?;
        Ok(())
    });
    suite.case("packed is a loop, paged is contiguous", |gpu| {
        let lengths = [[5, 40], [0, 7], [33, 33], [7, 0], [1, 21]];
        let problem = Problem { batch: 5, causal: true, ..shape(33, 40) };
        let call = Call::random(problem, 6);
        let packed = tiled(gpu, &call.clone().packed(&lengths))?;
        for (b, [n_q, n_kv]) in lengths.into_iter().enumerate() {
            if n_q == 0 {
                continue;
            }
            let take = |values: &[f64], heads: usize, all: usize, some: usize| -> Vec<f64> {
                let rows = (0..heads * some).map(|row| (b * heads + row / some.max(1)) * all + row % some.max(1));
                rows.flat_map(|row| values[row * 64..][..64].to_vec()).collect()
            };
            let one = Problem { batch: 1, seq_q: n_q, seq_kv: n_kv, ..problem };
            let (q, k, v) = (take(&call.q, 9, 33, n_q), take(&call.k, 3, 40, n_kv), take(&call.v, 3, 40, n_kv));
            let alone = tiled(gpu, &Call::new(one, q, k, v))?;
            if alone.o != take(&packed.o, 9, 33, n_q) {
                return Err(format!("sequence {b} alone differs"));
            }
        }
        let keys = [40, 1, 17, 0, 33];
        for page_size in [1, 5, 16] {
            let paged = tiled(gpu, &call.clone().paged(page_size, &keys))?;
            same_bits(&paged, &tiled(gpu, &call.clone().with_lengths(&keys))?)?;
            decoded(gpu, &Call::random(Problem { seq_q: 1, ..problem }, 8).paged(page_size, &keys))?;
        }
        // Packed queries over pages.
        tiled(gpu, &call.packed(&lengths).paged(16, &keys)).map(drop)
    });
    suite.case("garbage in sequences, pages and parents stays inside", |gpu| {
        let base = Problem { batch: 3, causal: true, ..shape(9, 40) };
        let words = [0, 1, 7, 0xffff_ffff, 0x8000_0000, 0xdead_beef, 0x7fff_ffff, 40];
        for seed in 0..8usize {
            let parents: Vec<u32> = (0..27).map(|i| words[(i * 5 + seed) % 8]).collect();
            let call = Call::random(base, seed as u64).with_tree(&parents);
            let mut call = match seed % 2 {
                0 => call.packed(&[[9, 40], [3, 5], [0, 1]]),
                _ => call.paged(16, &[40, 40, 40]),
            };
            // All but the parents; what is written is within o whatever they say, and the call ends.
            for (i, word) in call.indices.iter_mut().enumerate().skip(27) {
                *word = words[(i * 3 + seed) % 8];
            }
            call.lengths = if seed % 2 == 0 { call.lengths } else { None };
            let (k, v) = (call.k.len(), call.v.len());
            (call.k, call.v) = (vec![1.0; k], vec![1.0; v]);
            call.run_hostile(gpu)?;
        }
        Ok(())
    });
    suite.case("tree", |gpu| {
        for seq_kv in [9, 30, 70] {
            let mut problem = shape(9, seq_kv);
            problem.batch = 2;
            let parents = [u32::MAX, 0, 0, 1, 1, 2, 5, 6, 99, 0, 0, 1, 2, 3, 4, 5, 6, 7];
            tiled(gpu, &Call::random(problem, 2).with_tree(&parents[..9]))?;
            tiled(gpu, &Call::random(problem, 3).with_tree(&parents))?;
            // A chain is causal.
            let chain: Vec<u32> = (0..9u32).map(|i| i.wrapping_sub(1)).collect();
            let tree = tiled(gpu, &Call::random(problem, 4).with_tree(&chain))?;
            near(&tree, &tiled(gpu, &Call::random(Problem { causal: true, ..problem }, 4))?)?;
        }
        Ok(())
    });
    let kinds = if suite.depth == Depth::Narrow { &MASKS[..1] } else { &MASKS[..] };
    for &kind in kinds {
        suite.case(format!("mask {kind:?}"), move |gpu| {
            for causal in [false, true] {
                let mask = Some(Mask::new(kind));
                let base = Problem { batch: 2, causal, mask, ..shape(17, 33) };
                tiled(gpu, &Call::random(base, 5).with_random_mask(6))?;
                // [sq, skv] for all; [b, 1, 1, skv]; [h, sq, 1].
                let row = if kind == MaskKind::Bits { 64 } else { 33 };
                for (strides, broadcast_cols) in [([0, 0, row], false), ([row, 0, 0], false), ([0, 17, 1], true)] {
                    let mask = Some(Mask { layout: Layout::strided(2, strides), broadcast_cols, ..Mask::new(kind) });
                    tiled(gpu, &Call::random(Problem { mask, ..base }, 5).with_random_mask(8))?;
                }
            }
            // A mask built to equal causal.
            let base = shape(17, 33);
            let mask = Some(Mask::new(kind));
            let mut call = Call::random(Problem { mask, ..base }, 9);
            let sees = |i: usize| i % 33 <= i / 33 % 17 + 16;
            let hide = if matches!(kind, MaskKind::Additive(_)) { [0.0, f64::NEG_INFINITY] } else { [1.0, 0.0] };
            let padded =
                |i: usize| if kind == MaskKind::Bits { (i % 64 < 33, i / 64 * 33 + i % 64) } else { (true, i) };
            let len = if kind == MaskKind::Bits { 9 * 17 * 64 } else { 9 * 17 * 33 };
            let value = |i| match padded(i) {
                (true, i) if sees(i) => hide[0],
                _ => hide[1],
            };
            call.mask = Some((0..len).map(value).collect());
            near(&tiled(gpu, &call)?, &tiled(gpu, &Call::random(Problem { causal: true, ..base }, 9))?)
        });
    }
    suite.case("f16, odd head dim, rows that share words", |gpu| {
        let odd = Problem { x: Dtype::F16, o: Dtype::F16, o_layout: Layout::at(3), ..Problem::new(1, 6, 2, 59) };
        let problem = Problem { seq_q: 9, seq_kv: 20, value_dim: 41, lse: Some(0), ..odd };
        tiled(gpu, &Call::random(problem, 5))?;
        decoded(gpu, &Call::random(Problem { seq_q: 1, seq_kv: 300, ..problem }, 6)).map(drop)
    });
    suite.case("layouts", |gpu| {
        let base = shape(17, 17);
        let call = Call::random(base, 3);
        let whole = tiled(gpu, &call)?;
        let tokens = Problem {
            q_layout: bshd(9, 17, 64),
            k_layout: bshd(3, 17, 64),
            v_layout: bshd(3, 17, 64),
            o_layout: bshd(9, 17, 64),
            ..base
        };
        same_bits(&whole, &tiled(gpu, &Call { problem: tokens, ..call.clone() })?)?;
        // [9 q | 3 k | 3 v] heads per token.
        let width = 15 * 64;
        let qkv = Problem {
            q_layout: fused(0, 17, 64, width),
            k_layout: fused(9, 17, 64, width),
            v_layout: fused(12, 17, 64, width),
            ..base
        };
        same_bits(&whole, &tiled(gpu, &Call { problem: qkv, ..call })?)
    });
    suite.case("on tensors", |gpu| {
        let run = async || {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let upload = |values: &[f64], shape: &[usize]| {
                context.upload(&values.iter().map(|&v| v as f32).collect::<Vec<_>>(), shape)
            };
            let (slopes, sinks) = ([0.5f32; 9], [1.0f32; 9]);
            let f64s = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            let call = Call::random(Problem { causal: true, ..shape(17, 33) }, 3);
            let (q, k, v) = (
                upload(&call.q, &[1, 9, 17, 64])?,
                upload(&call.k, &[1, 3, 33, 64])?,
                upload(&call.v, &[1, 3, 33, 64])?,
            );
            let causal = AttentionOptions { causal: true, ..Default::default() };
            let o = q.attention(&k, &v, &causal)?.read().await?;
            let mut found = vec![call.judge(&Output { o: f64s(&o), lse: None, steps: Vec::new() })];
            let mut batch = context.batch();
            let options = AttentionOptions { slopes: Some(&slopes), sinks: Some(&sinks), ..causal };
            let (o, lse) = batch.attention_with_lse(&q, &k, &v, &options)?;
            // Twice the same part is the part, with an LSE of ln 2 more.
            let (values, lses) = (o.clone(), lse.clone());
            batch.submit()?;
            let (values, lses) = (values.read().await?, lses.read().await?);
            let twice = context.upload(&[&values[..], &values[..]].concat(), &[2, 1, 9, 17, 64])?;
            let lse_twice = context.upload(&[&lses[..], &lses[..]].concat(), &[2, 1, 9, 17])?;
            let (merged, lse_merged) = twice.attention_merge(&lse_twice)?;
            let (merged, lse_merged) = (merged.read().await?, lse_merged.read().await?);
            let lse = Some(lse_merged.iter().map(|&v| f64::from(v) - 2f64.ln()).collect());
            let call = call.with_slopes(f64s(&slopes), false).with_sinks_of(f64s(&sinks));
            found.push(call.judge(&Output { o: f64s(&values), lse: Some(f64s(&lses)), steps: Vec::new() }));
            found.push(call.judge(&Output { o: f64s(&merged), lse, steps: Vec::new() }));
            let bad = q.attention(&k, &q, &causal);
            Ok::<_, Error>((found, matches!(bad, Err(Error { kind: ErrorKind::Shape { arg: "v", .. }, .. }))))
        };
        let (found, refused) = pollster::block_on(run()).map_err(|error| error.to_string())?;
        match (found.iter().find(|verdict| !verdict.ok()), refused) {
            (None, true) => Ok(()),
            (wrong, refused) => Err(format!("{wrong:?}, refused {refused}")),
        }
    });
    suite.case("scratch is linear", |gpu| {
        let bytes = |seq_kv| {
            let problem = Problem { seq_kv, ..shape(1, 1) };
            let config = of(gpu, &problem, Algorithm::Decode)?;
            let bytes = scratch_bytes(&problem, &config).map_err(|error| error.to_string())?;
            Ok::<_, String>((bytes, u64::from(config.parts())))
        };
        let ((small, parts), (large, _)) = (bytes(1 << 16)?, bytes(1 << 20)?);
        if large > small.max(1) * 16 || small > parts * 9 * 65 * 4 + 256 {
            return Err(format!("{small} bytes at 64k tokens in {parts} parts, {large} at 1M"));
        }
        // None, but for the parts of a walk that the driver would cut short.
        let short = gpu.kernels.caps().loop_rounds().is_some();
        let seq_q = if short { 1 << 12 } else { 1 << 16 };
        let prefill = Problem { seq_q, seq_kv: 1 << 16, ..shape(1, 1) };
        let config = choose(&gpu.kernels.caps(), &prefill).map_err(|error| error.to_string())?;
        let parts = if short { u64::from(config.parts()) } else { 0 };
        let bytes = scratch_bytes(&prefill, &config).map_err(|error| error.to_string())?;
        match bytes <= parts * seq_q as u64 * 9 * 65 * 4 + 256 && parts <= 16 {
            true => Ok(()),
            false => Err(format!("{config} needs more than {parts} rows per query")),
        }
    });
    suite.case("nothing to compute", |gpu| {
        for problem in [shape(0, 5), Problem { batch: 0, ..shape(3, 5) }] {
            let call = Call::random(problem, 1);
            if !call.run(gpu, &gpu.kernels, None)?.steps.is_empty() {
                return Err(format!("{problem:?} dispatched"));
            }
        }
        Ok(())
    });
}

const MASKS: [MaskKind; 5] = [
    MaskKind::Bytes,
    MaskKind::Additive(Dtype::F32),
    MaskKind::Bits,
    MaskKind::Additive(Dtype::F16),
    MaskKind::Additive(Dtype::Bf16),
];

/// What one driver is enough for.
fn wide(suite: &mut Suite) {
    suite.case("chosen", |gpu| {
        let software = gpu.kernels.caps().class() == tileloom::caps::Class::Software;
        for (seq_q, seq_kv, algorithm) in [(128, 128, Algorithm::Tiled), (1, 4096, Algorithm::Decode)] {
            let problem = shape(seq_q, seq_kv);
            let config = choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
            if config.algorithm != algorithm {
                return Err(format!("meant to hit {algorithm:?}, {config} was chosen"));
            }
            if software && gpu.kernels.caps().trusted_subgroup_size().is_some() && algorithm == Algorithm::Tiled {
                assert!(matches!(config.load, Load::Broadcast(_)), "{config}");
            }
            check(gpu, &Call::random(problem, 1), &config)?;
        }
        Ok(())
    });
    suite.case("every way of loading and adding up", |gpu| {
        let problem = Problem { causal: true, ..shape(21, 50) };
        let call = Call::random(problem, 4);
        let first = of(gpu, &problem, Algorithm::Tiled)?;
        let whole = check(gpu, &call, &first)?;
        let caps = gpu.kernels.caps();
        for (load, lanes, reduce, rows) in [
            (Load::Direct, 1, Reduce::None, 2),
            (Load::Staged(8), 1, Reduce::None, 1),
            (Load::Staged(16), 4, Reduce::Memory, 1),
            (Load::Direct, 4, Reduce::Shuffle, 2),
        ] {
            let config = Config { load, lanes, reduce, rows, wg_size: 16, ..first };
            if problem.fits(&caps, &config).is_ok() {
                near(&whole, &check(gpu, &call, &config)?).map_err(|error| format!("{config}: {error}"))?;
            }
        }
        let slots = Config { slots: 2, splits: 3, wg_size: 8, lanes: 1, reduce: Reduce::None, rows: 1, ..first };
        let config = Config { algorithm: Algorithm::Decode, load: Load::Direct, ..slots };
        let output = call.check(gpu, &gpu.kernels, Some(&config))?.0;
        near(&whole, &output)
    });
    suite.case("head dims", |gpu| {
        for d in [1, 40, 80, 111, 128, 256] {
            let problem = Problem { seq_q: 9, seq_kv: 33, lse: Some(0), ..Problem::new(1, 4, 2, d) };
            tiled(gpu, &Call::random(problem, d as u64))?;
        }
        // Values of another size than keys, and DeepSeek's absorbed MLA.
        for (d, value_dim, kv_heads) in [(192, 128, 2), (576, 512, 1)] {
            let problem = Problem { seq_q: 3, seq_kv: 33, value_dim, ..Problem::new(1, 4, kv_heads, d) };
            tiled(gpu, &Call::random(problem, d as u64))?;
        }
        Ok(())
    });
    suite.case("dtypes", |gpu| {
        for (x, o) in [(Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::Bf16), (Dtype::F16, Dtype::F32)] {
            tiled(gpu, &Call::random(Problem { x, o, causal: true, ..shape(33, 70) }, 2))?;
        }
        let problem = Problem { x: Dtype::F16, o: Dtype::Bf16, ..shape(1, 2000) };
        decoded(gpu, &Call::random(problem, 3)).map(drop)
    });
    suite.case("a window of full length is none, heads permute", |gpu| {
        let base = shape(33, 40);
        let call = Call::random(base, 5);
        let whole = tiled(gpu, &call)?;
        let window = [Some(40), Some(40)];
        same_bits(&whole, &tiled(gpu, &Call { problem: Problem { window, ..base }, ..call.clone() })?)?;
        // The groups of three query heads in another order.
        let permute = |values: &[f64], each: usize| [2, 0, 1].map(|g| &values[g * each..][..each]).concat();
        let turned = Call::new(base, permute(&call.q, 99 * 64), permute(&call.k, 40 * 64), permute(&call.v, 40 * 64));
        let turned = tiled(gpu, &turned)?;
        match permute(&whole.o, 99 * 64) == turned.o {
            true => Ok(()),
            false => Err("heads do not permute".into()),
        }
    });
    suite.case("checked modules give the same", |gpu| {
        let software = gpu.kernels.caps().class() == tileloom::caps::Class::Software;
        let calls = [
            Call::random(Problem { causal: true, ..shape(17, 33) }, 1),
            Call::random(Problem { batch: 2, ..shape(5, 33) }, 2).with_tree(&[9, 0, 0, 1, 9]).paged(4, &[33, 20]),
        ];
        for call in calls {
            let unchecked = tiled(gpu, &call)?;
            let (checked, _) = call.check(gpu, gpu.checked(), None)?;
            if software {
                same_bits(&unchecked, &checked)?;
            }
        }
        Ok(())
    });
    suite.case("long pairs", |gpu| {
        for (seq_q, seq_kv) in [(113, 203), (127, 513), (1, 8192)] {
            let problem = Problem { causal: true, ..shape(seq_q, seq_kv) };
            let config = choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
            check(gpu, &Call::random(problem, 1), &config)?;
        }
        Ok(())
    });
}

/// FlashAttention's sweep.
fn full(suite: &mut Suite) {
    for d in [32, 40, 59, 64, 80, 96, 111, 128, 160, 192, 224, 256] {
        suite.case(format!("sweep of head dim {d}"), move |gpu| {
            for x in Dtype::ALL {
                for (seq_q, seq_kv) in PAIRS {
                    for causal in [false, true] {
                        // As many heads as keep the oracle's time in bounds.
                        let (heads, kv_heads) = match seq_q * seq_kv {
                            0..=0xffff => (9, 3),
                            0x1_0000..=0x7_ffff => (2, 1),
                            _ => (1, 1),
                        };
                        let base = Problem::new(1, heads, kv_heads, d);
                        let problem = Problem { seq_q, seq_kv, causal, x, o: x, lse: Some(0), ..base };
                        let config = choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
                        check(gpu, &Call::random(problem, 1), &config)?;
                    }
                }
            }
            Ok(())
        });
    }
}

/// Wrong calls, each by name; nothing compiles.
fn errors(suite: &mut Suite) {
    suite.case("errors name what is wrong", |gpu| {
        let bytes = gpu.buffer(&[0; 4096]);
        let small = gpu.buffer(&[0; 16]);
        let ok = Problem::new(1, 2, 1, 4);
        let say = |problem: &Problem, buffers: Buffers| match prepare(&gpu.kernels, problem, buffers) {
            Ok(_) => "nothing".to_string(),
            Err(error) => error.to_string(),
        };
        let o = gpu.buffer(&[0; 4096]);
        let all = || Buffers::new(&bytes, &bytes, &bytes, &o);
        let indices = |problem: Problem| say(&problem, all().indices(&small));
        for (have, want) in [
            (say(&Problem { kv_heads: 0, ..ok }, all()), "kv_heads: 0 does not divide 2"),
            (say(&Problem { heads: 3, kv_heads: 2, ..ok }, all()), "kv_heads: 2 does not divide 3"),
            (say(&Problem { head_dim: 0, ..ok }, all()), "head_dim: 0 is not 1 to 576"),
            (say(&Problem { value_dim: 577, ..ok }, all()), "value_dim: 577"),
            (say(&Problem { scale: f32::NAN, ..ok }, all()), "scale: NaN"),
            (say(&Problem { softcap: -1.0, ..ok }, all()), "softcap: -1"),
            (say(&Problem { seq_kv: 1 << 29, ..ok }, all()), "more than 2^28"),
            (say(&Problem { o_layout: Layout::strided(0, [0, 0, 0]), ..ok }, all()), "o_layout: rows overlap"),
            (say(&ok, Buffers::new(&bytes, &bytes, &bytes, &bytes)), "overlap"),
            (say(&ok, Buffers::new(&bytes, &bytes, &bytes, &small)), "buffer `o` is too small"),
            (say(&Problem { sinks: Some(0), ..ok }, all()), "needs buffer `tables`"),
            (say(&ok, all().mask(&small)), "`mask` was given"),
            (say(&Problem { lse: Some(0), ..ok }, all()), "needs buffer `lse`"),
            (
                say(&Problem { alibi: Some(Alibi { slopes: 9, per_batch: false }), ..ok }, all().tables(&small)),
                "buffer `tables` is too small",
            ),
            (
                indices(Problem { packed: Some(Packed { cu_q: 2, cu_kv: 3, total_q: 1, total_kv: 1 }), ..ok }),
                "buffer `indices` is too small",
            ),
            (
                indices(Problem { paged: Some(Paged { pages: 1, page_size: 1, block_table: 0, max_pages: 1 }), ..ok }),
                "lengths: paged sequences need them",
            ),
            (
                indices(Problem {
                    paged: Some(Paged { pages: 1, page_size: 4, block_table: 0, max_pages: 1 }),
                    lengths: Some(0),
                    seq_kv: 5,
                    ..ok
                }),
                "1 pages of 4 do not hold 5 keys",
            ),
        ] {
            if !have.contains(want) {
                return Err(format!("expected `{want}`, heard `{have}`"));
            }
        }
        let config = Config { lanes: 3, ..choose(&gpu.kernels.caps(), &ok).map_err(|e| e.to_string())? };
        match attention::prepare_with(&gpu.kernels, &ok, &config, all()) {
            Err(Error { kind: ErrorKind::ConfigUnfit { .. }, .. }) => Ok(()),
            other => Err(format!("three lanes gave {other:?}")),
        }
    });
}
