//! New keys and values into a cache on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use tileloom::attention::{self, Codes};
use tileloom::kv_append::{self, Buffers, Cache, Norm, Problem, Query, Rotation};
use tileloom::norm::Kind;
use tileloom::quantize::Format;
use tileloom::rope::{Angles, Axes, Frequencies, Style};
use tileloom::{AttentionOptions, Caps, Context, Error, ErrorKind, Kernels, KvAppendOptions, KvCache, KvRope, Layout};

use crate::{Depth, Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("kv_append", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("no tokens: none is skipped", no_tokens);
    suite.case("attention reads what is appended", appended);
    if suite.depth >= Depth::Wide {
        suite.case("tensors", tensors);
        suite.case("eight storage buffers: a step for each of q, k and v", few_buffers);
    }
}

fn rotation(rotary_dim: usize) -> Option<Rotation> {
    let angles = Angles::Frequencies(Frequencies::new(rotary_dim, 10_000.0).expect("an even number"));
    let (positions, axes, style) = (Layout::default(), Axes::One, Style::Half);
    Some(Rotation { rotary_dim, style, signed: true, positions, axes, angles })
}

fn no_tokens(gpu: &Gpu) -> Result<(), String> {
    let shape = Problem { tokens: 0, head_dim: 8, value_dim: 8, skipped: Some(0), ..Problem::default() };
    let problem = Problem { rotation: rotation(8), ..shape };
    Call::random(problem, 1).check(gpu, &gpu.kernels, None).map(drop)
}

/// Codes and scales as they lie in a contiguous cache of one sequence, read by attention: near to what it gives for k and v.
fn appended(gpu: &Gpu) -> Result<(), String> {
    let (seq, heads, dim) = (21, 2, 16);
    let attend = attention::Problem { seq_q: 9, seq_kv: seq, ..attention::Problem::new(1, 4, heads, dim) };
    // `[seq, heads, dim]`, as it is written, and `[heads, seq, dim]`, as attention has its arguments.
    let by_head = |all: &[f64]| -> Vec<f64> {
        let at = |i: usize| (i / dim % seq * heads + i / dim / seq) * dim + i % dim;
        (0..all.len()).map(|i| all[at(i)]).collect()
    };
    // By how much the whole may be off: an element of e4m3 is, by 2^-4 of itself, in v and in the scores; one of int8 by 2^-8 of the largest.
    for (cache, format, share) in [(Cache::Int8, Format::Int8, 0.05), (Cache::E4m3, Format::E4m3, 0.125f64)] {
        let sizes = Problem { tokens: seq, kv_heads: heads, head_dim: dim, value_dim: dim, ..Problem::default() };
        let append = Problem { page_size: seq, cache, ..sizes };
        let append = Call::random(append, 2).with("slots", (0..seq).map(|slot| slot as f64).collect());
        let (written, _) = append.check(gpu, &gpu.kernels, None)?;

        let tokens_first = Layout::strided(0, [seq * heads * dim, dim, heads * dim]);
        let scales = |at| Layout::strided(at, [seq * heads, 1, heads]);
        let codes = Some(Codes { format, k_scale: scales(0), v_scale: scales(seq * heads) });
        let problem = attention::Problem { k_layout: tokens_first, v_layout: tokens_first, codes, ..attend };
        let mut values = Call::random(problem, 3).values.clone();
        let whole = Call::random(attend, 3).with("q", values["q"].clone());
        let whole = whole.with("k", by_head(&append.values["k"])).with("v", by_head(&append.values["v"]));
        let (whole, _) = whole.check(gpu, &gpu.kernels, None)?;
        values.insert("k", by_head(&written.values["k_cache"]));
        values.insert("v", by_head(&written.values["v_cache"]));
        values.insert("tables", [&written.values["k_scale"][..], &written.values["v_scale"]].concat());
        let (read, _) = Call::new(problem, values).check(gpu, &gpu.kernels, None)?;
        let pairs = || read.values["o"].iter().zip(&whole.values["o"]);
        let (error, size) = pairs().fold((0.0, 0.0), |(e, s), (a, b)| (e + (a - b).powi(2), s + b * b));
        if error > share.powi(2) * size {
            return Err(format!("{format:?}: {error:e} of {size:e}"));
        }
    }
    Ok(())
}

/// Two tokens of one head of two: to place 2, and to none. A quarter turn at position 1.
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let read = |t: &tileloom::Tensor<f32>| pollster::block_on(t.read());
        let k = context.upload(&[1f32, 2.0, 3.0, 4.0], &[2, 1, 2])?;
        let v = context.upload(&[5f32, -10.0, 7.0, 8.0], &[2, 1, 2])?;
        let slots = context.upload(&[2i32, -1], &[2])?;
        let positions = context.upload(&[1i32, 0], &[2])?;
        let [k_cache, v_cache] = [context.zeros::<f32>(&[2, 2, 1, 2])?, context.zeros::<f32>(&[2, 2, 1, 2])?];
        let quarter = Frequencies { per_pair: vec![std::f64::consts::FRAC_PI_2], attention_factor: 1.0 };
        let rope = Some(KvRope { frequencies: &quarter, style: Style::Half, positions: &positions });
        let options = KvAppendOptions { q: Some(&k), rope, qk_norm: None };
        let mut batch = context.batch();
        let cache = KvCache::Float { k: &k_cache, v: &v_cache };
        let q = batch.kv_append(&k, &v, &slots, cache, &options)?.expect("there are queries");
        batch.submit()?;
        assert_eq!(read(&k_cache)?, [0.0, 0.0, 0.0, 0.0, -2.0, 1.0, 0.0, 0.0]);
        assert_eq!(read(&v_cache)?, [0.0, 0.0, 0.0, 0.0, 5.0, -10.0, 0.0, 0.0]);
        assert_eq!(read(&q)?, [-2.0, 1.0, 3.0, 4.0]);

        let [k_codes, v_codes] = [context.zeros::<u8>(&[2, 2, 1, 2])?, context.zeros::<u8>(&[2, 2, 1, 2])?];
        let scales = context.zeros::<f32>(&[2, 2, 2, 1])?;
        let cache = KvCache::Codes { e4m3: false, k: &k_codes, v: &v_codes, scales: &scales };
        let mut batch = context.batch();
        batch.kv_append(&k, &v, &slots, cache, &KvAppendOptions::default())?;
        batch.submit()?;
        let codes = |t: &tileloom::Tensor<u8>| pollster::block_on(t.read());
        // 1 / (2 / 127) is 63.5, which goes either way in f32; 5 / (10 / 127) as well.
        let (k_read, v_read) = (codes(&k_codes)?, codes(&v_codes)?);
        assert!([63, 64].contains(&k_read[4]) && k_read[5] == 127 && v_read[5] == 129, "{k_read:?} {v_read:?}");
        assert!((read(&scales)?[4 + 2] - 10.0 / 127.0).abs() < 1e-7);

        // Attention over it: of two sequences the first has no key, the other one; of pages the second.
        let two = context.upload(&[1f32, 2.0, 3.0, 4.0], &[2, 1, 1, 2])?;
        let one = context.upload(&[1f32, 2.0], &[1, 1, 1, 2])?;
        let mut batch = context.batch();
        let lengths = AttentionOptions { lengths: Some(&[0, 1]), ..Default::default() };
        let sequences = batch.attention_cached(&two, cache, &lengths)?;
        let paged = AttentionOptions { block_table: Some(&[1]), lengths: Some(&[1]), ..Default::default() };
        let pages = batch.attention_cached(&one, cache, &paged)?;
        // Slot 2 is that of the second node, and goes to the first one's.
        let (nodes, path) = (context.upload(&[1i32, 2], &[1, 2])?, context.upload(&[1i32], &[1, 1])?);
        batch.kv_move(cache, &nodes, &path)?;
        batch.submit()?;
        let near = |o: &[f32]| (o[0] - 5.0).abs() < 0.05 && (o[1] + 10.0).abs() < 1e-4;
        let (sequences, pages) = (read(&sequences)?, read(&pages)?);
        assert!(sequences[..2] == [0.0, 0.0] && near(&sequences[2..]) && near(&pages), "{sequences:?} {pages:?}");
        assert_eq!(codes(&v_codes)?[2..4], v_read[4..6]);
        assert_eq!(read(&scales)?[4 + 1], read(&scales)?[4 + 2]);
        let sinks = AttentionOptions { sinks: Some(&[0.0]), ..lengths };
        let error = context.batch().attention_cached(&two, cache, &sinks).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::InvalidProblem { arg: "codes", .. }), "{error}");
        let few = context.upload(&[0i32], &[1])?;
        let cache = KvCache::Float { k: &k_cache, v: &v_cache };
        let error = context.batch().kv_append(&k, &v, &few, cache, &options).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "slots", .. }));
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// With norm, rotation, scales and q there are 13 buffers.
fn few_buffers(gpu: &Gpu) -> Result<(), String> {
    let mut caps: Caps = (*gpu.kernels.caps()).clone();
    caps.limits.max_storage_buffers_per_shader_stage = 8;
    let kernels = Kernels::new(&gpu.device, caps);
    let norm = Norm { q_weight: Some(0), k_weight: Some(16), ..Norm::of(Kind::Rms) };
    let problem = Problem {
        tokens: 9,
        kv_heads: 2,
        head_dim: 16,
        value_dim: 12,
        pages: 3,
        page_size: 5,
        cache: Cache::Int8,
        skipped: Some(0),
        q: Some(Query { heads: 4, from: Layout::default(), to: Layout::default() }),
        norm: Some(norm),
        rotation: rotation(16),
        ..Problem::default()
    };
    let (output, _) = Call::random(problem, 4).check(gpu, &kernels, None)?;
    match output.steps.len() {
        4 => Ok(()),
        _ => Err(format!("{:?}", output.steps)),
    }
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [k, v, k_cache, v_cache, slots] = [24, 24, 64, 64, 3].map(|words| gpu.buffer(&vec![0; words * 4]));
    let shape = Problem { tokens: 3, kv_heads: 2, head_dim: 4, value_dim: 4, pages: 2, ..Problem::default() };
    let good = Problem { page_size: 4, ..shape };
    let buffers = Buffers::new(&k, &v, &k_cache, &v_cache, &slots);
    let prepare = |problem: &Problem| kv_append::prepare(&gpu.kernels, problem, buffers);
    prepare(&good).map_err(|error| error.to_string())?;
    let q = Some(Query { heads: 0, from: Layout::default(), to: Layout::default() });
    let norm = Norm::of(Kind::Rms);
    let turned = |rotation: Option<Rotation>| Problem { rotation, ..good.clone() };
    let half = |of: Rotation| Some(Rotation { rotary_dim: 6, ..of });
    for (arg, problem) in [
        ("head_dim", Problem { head_dim: 0, ..good.clone() }),
        ("value_dim", Problem { value_dim: 4097, ..good.clone() }),
        ("kv_heads", Problem { kv_heads: 0, ..good.clone() }),
        ("q", Problem { q, ..good.clone() }),
        ("page_size", Problem { page_size: 0, ..good.clone() }),
        ("pages", Problem { pages: 1 << 16, page_size: 1 << 16, ..good.clone() }),
        ("eps", Problem { norm: Some(Norm { eps: -1.0, ..norm }), ..good.clone() }),
        ("norm", Problem { norm: Some(Norm { q_bias: Some(0), ..norm }), ..good.clone() }),
        ("k_cache", Problem { k_cache: Layout::strided(0, [32, 4, 4]), ..good.clone() }),
        ("rotary_dim", turned(rotation(4).and_then(half))),
        ("frequencies", turned(rotation(4).map(|of| Rotation { rotary_dim: 2, ..of }))),
    ] {
        invalid(arg, prepare(&problem))?;
    }
    refused("many tokens", prepare(&Problem { tokens: 4, ..good.clone() }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "k", need: 128, have: 96 })
    })?;
    refused("wide slots", prepare(&Problem { wide: true, ..good.clone() }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "slots", need: 24, have: 12 })
    })?;
    refused("many pages", prepare(&Problem { pages: 3, ..good.clone() }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "k_cache", need: 384, have: 256 })
    })?;
    refused("no scales", prepare(&Problem { cache: Cache::E4m3, ..good.clone() }), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "k_scale" })
    })?;
    refused("no positions", prepare(&turned(rotation(4))), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "positions" })
    })?;
    refused("no count", prepare(&Problem { skipped: Some(0), ..good.clone() }), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "skipped" })
    })?;
    let aliased = Buffers::new(&k, &v, &k_cache, &k_cache, &slots);
    refused("one cache for both", kv_append::prepare(&gpu.kernels, &good, aliased), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })
}
