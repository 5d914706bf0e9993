//! Attention on a GPU: what is more than a Problem of the list.

pub mod attention_backward;
pub mod attention_bias;
pub mod attention_bias_backward;
pub mod attention_merge;
pub mod attention_merge_backward;
pub mod kv_append;
pub mod kv_move;

use loom::Gpu;
use loom::harness::{Call, Output, same_bits};
use loom::kernel::{Memory, Values};
use loom::kernels::attention::list::{KEYS, LENGTHS, MASKS, RUNS, shape};
use loom::kernels::attention::{
    alibi_and_sinks, cut, packed, paged, parents, relaid, runs, segmented, sequences, tree,
};
use tileloom::attention::{
    self, Algorithm, Alibi, Buffers, Config, Packed, Paged, Problem, Segments, bshd, choose, fused, prepare,
    scratch_bytes,
};
use tileloom::softmax::{Mask, MaskKind};
use tileloom::{AttentionOptions, Context, Error, ErrorKind, Layout, Op};

use crate::{Depth, Suite};

/// The first Config of this algorithm.
fn of(gpu: &Gpu, problem: &Problem, algorithm: Algorithm) -> Result<Config, String> {
    let all = problem.candidates(&gpu.kernels.caps()).map_err(|error| error.to_string())?;
    all.into_iter().find(|config| config.algorithm == algorithm).ok_or(format!("no {algorithm:?} fits"))
}

/// Runs by tiles, and judges.
fn tiled(gpu: &Gpu, call: &Call<Problem>) -> Result<Values, String> {
    let config = of(gpu, &call.problem, Algorithm::Tiled)?;
    call.check(gpu, &gpu.kernels, Some(&config)).map(|(output, _)| output.values)
}

/// A call on random values, some of which are set.
fn call(problem: Problem, seed: u64, set: impl Fn(&Problem, &mut Values)) -> Call<Problem> {
    let mut call = Call::random(problem, seed);
    set(&problem, &mut call.values);
    Call::new(problem, call.values.clone())
}

/// Within a few units of the last place of values of about 1.
fn near(a: &Values, b: &Values) -> Result<(), String> {
    let far = |(a, b): (&f64, &f64)| !(a == b || (a - b).abs() <= 2e-5 * (1.0 + b.abs()) || a.is_nan() && b.is_nan());
    match ["o", "lse"].into_iter().find(|&name| a[name].iter().zip(&b[name]).any(far)) {
        None => Ok(()),
        Some(name) => Err(format!("results differ in {name}")),
    }
}

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("attention", cases);

pub fn cases(suite: &mut Suite) {
    everywhere(suite);
    errors(suite);
    if suite.depth >= Depth::Wide {
        wide(suite);
    }
}

fn everywhere(suite: &mut Suite) {
    suite.case("a Config that a driver would cut short is refused", |gpu| {
        let problem = shape(1, 9000);
        let config = choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
        let whole = Config { splits: 1, ..config };
        let call = Call::random(problem, 11);
        match problem.fits(&gpu.kernels.caps(), &whole) {
            Ok(()) => call.check(gpu, &gpu.kernels, Some(&whole)).map(drop),
            Err(_) => match call.run(gpu, &gpu.kernels, Some(&whole)) {
                Err(reason) if reason.contains("cuts short") => Ok(()),
                other => Err(format!("{whole} was not refused: {:?}", other.map(|output| output.steps))),
            },
        }
    });
    suite.case("packed is a loop, paged is contiguous", |gpu| {
        let base = Problem { batch: 5, causal: true, ..shape(33, 40) };
        let whole = call(packed(&LENGTHS, base), 6, sequences(&LENGTHS));
        let output = tiled(gpu, &whole)?;
        let mut starts = [0, 0];
        for (b, [seq_q, seq_kv]) in LENGTHS.into_iter().enumerate() {
            let [q_start, kv_start] = starts;
            starts = [q_start + seq_q, kv_start + seq_kv];
            if seq_q == 0 {
                continue;
            }
            // Tokens of one sequence.
            let take = |values: &[f64], heads: usize, start: usize, len: usize| -> Vec<f64> {
                let each = values.len() / heads;
                (0..heads).flat_map(|h| values[h * each + start * 64..][..len * 64].to_vec()).collect()
            };
            let kv = |name| (name, take(&whole.values[name], 3, kv_start, seq_kv));
            let q = ("q", take(&whole.values["q"], 9, q_start, seq_q));
            let one = Problem { batch: 1, seq_q, seq_kv, ..base };
            let alone = tiled(gpu, &Call::new(one, [q, kv("k"), kv("v")].into()))?;
            if alone["o"] != take(&output["o"], 9, q_start, seq_q) {
                return Err(format!("sequence {b} alone differs"));
            }
        }
        let dense = Call::random(base, 6);
        let lengths = KEYS.map(|keys| [33, keys]);
        let of = |problem| {
            let call = call(problem, 6, |p, values| {
                sequences(&lengths)(p, values);
                relaid(&dense, p, values);
            });
            tiled(gpu, &call)
        };
        let contiguous = of(cut(base))?;
        [1, 5, 16].into_iter().try_for_each(|size| same_bits(&contiguous, &of(paged(size, &lengths, base))?))
    });
    suite.case("garbage in sequences, pages and parents stays inside", |gpu| {
        let base = tree(true, Problem { batch: 3, causal: true, ..shape(9, 40) });
        let words = [0u32, 1, 7, 0xffff_ffff, 0x8000_0000, 0xdead_beef, 0x7fff_ffff, 40].map(f64::from);
        for seed in 0..8 {
            let problem = match seed % 2 {
                0 => packed(&[[9, 40], [3, 5], [0, 1]], base),
                _ => paged(16, &[[9, 40]; 3], base),
            };
            // What is written is within o whatever the indices say, and the call ends.
            let call = call(problem, seed as u64, |_, values| {
                for name in ["k", "v"] {
                    values.get_mut(name).into_iter().flatten().for_each(|v| *v = 1.0);
                }
                // The parents, and all that follows them.
                for (i, word) in values.get_mut("indices").into_iter().flatten().enumerate() {
                    *word = words[(i * if i < 27 { 5 } else { 3 } + seed) % 8];
                }
            });
            call.run(gpu, &gpu.kernels, None)?;
        }
        Ok(())
    });
    suite.case("garbage in segments stays inside", |gpu| {
        let words = [0u32, 1, 7, 0xffff_ffff, 0x8000_0000, 3, 0x7fff_ffff, 2].map(f64::from);
        for seed in 0..8 {
            let base = segmented(if seed % 3 == 0 { 1 } else { 5 }, true, Problem { batch: 3, ..shape(9, 300) });
            let problem = match seed % 4 {
                0 => packed(&[[9, 300], [3, 5], [0, 1]], base),
                1 => paged(16, &[[9, 300]; 3], base),
                2 => Problem { seq_q: 1, ..base },
                _ => base,
            };
            let call = call(problem, seed, |_, values| {
                for name in ["k", "v"] {
                    values.get_mut(name).into_iter().flatten().for_each(|v| *v = 1.0);
                }
                for (i, word) in values.get_mut("indices").into_iter().flatten().enumerate() {
                    *word = words[(i * 3 + i / 8 + seed as usize) % 8];
                }
            });
            for config in call.problem.candidates(&gpu.kernels.caps()).map_err(|error| error.to_string())? {
                call.run(gpu, &gpu.kernels, Some(&config))?;
            }
        }
        Ok(())
    });
    suite.case("two documents are two calls", |gpu| {
        let base = Problem { lse: None, ..shape(61, 61) };
        let whole = call(segmented(2, false, base), 4, runs(&[(37, Segments::PRIVATE), (0, 0)]));
        let output = tiled(gpu, &whole)?;
        for (start, len) in [(0, 37), (37, 24)] {
            let take = |values: &[f64]| -> Vec<f64> {
                values.chunks_exact(61 * 64).flat_map(|head| head[start * 64..][..len * 64].to_vec()).collect()
            };
            let own = ["q", "k", "v"].map(|name| (name, take(&whole.values[name]))).into();
            let alone = tiled(gpu, &Call::new(Problem { causal: true, seq_q: len, seq_kv: len, ..base }, own))?;
            let far = take(&output["o"]).iter().zip(&alone["o"]).any(|(a, b)| (a - b).abs() > 2e-5 * (1.0 + b.abs()));
            if far {
                return Err(format!("the document of {len} tokens alone differs"));
            }
        }
        Ok(())
    });
    suite.case("segments are boolean masks", |gpu| {
        let base = shape(50, 70);
        for all in RUNS {
            let by_segment = call(segmented(9, false, base), 9, runs(all));
            // As the rule reads, from the runs alone.
            let of = |j: usize| {
                let ends = all.iter().scan(0, |end, (keys, _)| Some(*end + keys).inspect(|to| *end = *to));
                ends.into_iter().position(|end| j < end).unwrap_or(all.len() - 1)
            };
            let seen = |i: usize, j: usize| match (of(i + 20), of(j)) {
                (a, b) if a == b => j <= i + 20 || all[a].1 & Segments::FULL != 0,
                (a, b) => b < a && all[b].1 & Segments::PRIVATE == 0,
            };
            let mask = (0..50 * 70).map(|at| f64::from(seen(at / 70, at % 70))).collect();
            let shared = Mask { layout: Layout::strided(0, [0, 0, 70]), ..Mask::new(MaskKind::Bytes) };
            let masked = call(Problem { mask: Some(shared), ..base }, 9, |_, values| {
                values.extend(
                    by_segment.values.iter().filter(|(name, _)| **name != "indices").map(|(n, v)| (*n, v.clone())),
                );
            });
            near(&tiled(gpu, &by_segment)?, &tiled(gpu, &masked.with("mask", mask))?)?;
        }
        Ok(())
    });
    suite.case("a chain of parents is causal", |gpu| {
        let chain: Vec<u32> = (0..9u32).map(|i| i.wrapping_sub(1)).collect();
        for seq_kv in [9, 30, 70] {
            let problem = Problem { batch: 2, ..shape(9, seq_kv) };
            let causal = Call::random(Problem { causal: true, ..problem }, 4);
            let tree = call(tree(false, problem), 4, |p, values| {
                values.extend(causal.values.clone());
                parents(&chain)(p, values);
            });
            near(&tiled(gpu, &tree)?, &tiled(gpu, &causal)?)?;
        }
        Ok(())
    });
    let kinds = if suite.depth == Depth::Narrow { &MASKS[..1] } else { &MASKS[..] };
    for &kind in kinds {
        suite.case(format!("a mask {kind:?} may be causal"), move |gpu| {
            let base = shape(17, 33);
            let masked = Call::random(Problem { mask: Some(Mask::new(kind)), ..base }, 9);
            let row = if kind == MaskKind::Bits { 64 } else { 33 };
            let [shown, hidden] =
                if matches!(kind, MaskKind::Additive(_)) { [0.0, f64::NEG_INFINITY] } else { [1.0, 0.0] };
            let value = |i: usize| if i % row <= i / row % 17 + 16 { shown } else { hidden };
            let mask = (0..masked.values["mask"].len()).map(value).collect();
            let causal = Call::random(Problem { causal: true, ..base }, 9);
            near(&tiled(gpu, &masked.with("mask", mask))?, &tiled(gpu, &causal)?)
        });
    }
    suite.case("layouts", |gpu| {
        let base = shape(17, 17);
        let call = Call::random(base, 3);
        let whole = tiled(gpu, &call)?;
        let [q, kv] = [bshd(9, 17, 64), bshd(3, 17, 64)];
        let tokens = Problem { q_layout: q, k_layout: kv, v_layout: kv, o_layout: q, ..base };
        same_bits(&whole, &tiled(gpu, &call.clone().of_problem(tokens))?)?;
        // [9 q | 3 k | 3 v] heads per token, in one buffer.
        let fused = |first| fused(first, 17, 64, 15 * 64);
        let qkv = Problem { q_layout: fused(0), k_layout: fused(9), v_layout: fused(12), ..base };
        let memory = Memory::shared(&[&["q", "k", "v"]]);
        same_bits(&whole, &tiled(gpu, &call.of_problem(qkv).in_memory(memory))?)
    });
    suite.case("on tensors", |gpu| {
        let f64s = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let run = async || {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let problem = Problem { causal: true, ..shape(17, 33) };
            let plain = Call::random(Problem { lse: None, ..problem }, 3);
            let upload = |name, shape: &[usize]| {
                context.upload(&plain.values[name].iter().map(|&v| v as f32).collect::<Vec<_>>(), shape)
            };
            let (q, k, v) =
                (upload("q", &[1, 9, 17, 64])?, upload("k", &[1, 3, 33, 64])?, upload("v", &[1, 3, 33, 64])?);
            let (slopes, sinks) = ([0.5f32; 9], [1.0f32; 9]);
            let causal = AttentionOptions { causal: true, ..Default::default() };
            let o = q.attention(&k, &v, &causal)?.read().await?;
            let judge = |call: &Call<Problem>, values: &[(&'static str, Vec<f64>)]| {
                call.judge(&Output { values: values.iter().cloned().collect(), steps: Vec::new() })
            };
            let mut found = vec![judge(&plain, &[("o", f64s(&o))])];
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
            let halved = lse_merged.iter().map(|&v| f64::from(v) - 2f64.ln()).collect();
            let all = call(alibi_and_sinks(false, problem), 3, |_, own| {
                own.extend(plain.values.clone());
                own.insert("tables", f64s(&[slopes, sinks].concat()));
            });
            found.push(judge(&all, &[("o", f64s(&values)), ("lse", f64s(&lses))]));
            found.push(judge(&all, &[("o", f64s(&merged)), ("lse", halved)]));
            let (numbers, flags) = ([vec![0u32; 20], vec![1; 13]].concat(), [1u32, 0]);
            let by_segment = AttentionOptions { segments: Some([&numbers, &flags]), ..Default::default() };
            let o = q.attention(&k, &v, &by_segment)?.read().await?;
            let all = call(segmented(2, false, Problem { lse: None, causal: false, ..problem }), 3, |p, own| {
                own.extend(plain.values.clone());
                runs(&[(20, 1), (0, 0)])(p, own);
            });
            found.push(judge(&all, &[("o", f64s(&o))]));
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
        if large > small.max(1) * 16 || small > parts * 9 * 66 * 4 + 256 {
            return Err(format!("{small} bytes at 64k tokens in {parts} parts, {large} at 1M"));
        }
        // None, but for the parts of a walk that the driver would cut short.
        let short = gpu.kernels.caps().loop_rounds().is_some();
        let seq_q = if short { 1 << 12 } else { 1 << 16 };
        let prefill = Problem { seq_q, seq_kv: 1 << 16, ..shape(1, 1) };
        let config = choose(&gpu.kernels.caps(), &prefill).map_err(|error| error.to_string())?;
        let parts = if short { u64::from(config.parts()) } else { 0 };
        let bytes = scratch_bytes(&prefill, &config).map_err(|error| error.to_string())?;
        match bytes <= parts * seq_q as u64 * 9 * 66 * 4 + 256 && parts <= 16 {
            true => Ok(()),
            false => Err(format!("{config} needs more than {parts} rows per query")),
        }
    });
}

/// What one driver is enough for.
fn wide(suite: &mut Suite) {
    suite.case("a window of full length is none, heads permute", |gpu| {
        let base = shape(33, 40);
        let call = Call::random(base, 5);
        let whole = tiled(gpu, &call)?;
        let window = [Some(40), Some(40)];
        same_bits(&whole, &tiled(gpu, &call.clone().of_problem(Problem { window, ..base }))?)?;
        // The groups of three query heads in another order.
        let permuted = |values: &[f64]| {
            let each = values.len() / 3;
            [2, 0, 1].map(|g| &values[g * each..][..each]).concat()
        };
        let turned = call.values.iter().map(|(name, values)| (*name, permuted(values))).collect();
        match permuted(&whole["o"]) == tiled(gpu, &Call::new(base, turned))?["o"] {
            true => Ok(()),
            false => Err("heads do not permute".into()),
        }
    });
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
            (say(&Problem { softcap: 1e-40, ..ok }, all()), "softcap: 0.0000"),
            (say(&Problem { sum: Some(0), ..ok }, all()), "sums go with maxima"),
            (say(&Problem { lse: Some(1), sum: Some(2), ..ok }, all().lse(&small)), "2 sums from 2 on overlap"),
            (say(&Problem { lse: Some(0), sum: Some(3), ..ok }, all().lse(&small)), "buffer `lse` is too small"),
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
            (indices(segmented(0, false, ok)), "segments: there are none"),
            (indices(Problem { seq_kv: 5, ..segmented(2, false, ok) }), "buffer `indices` is too small"),
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
