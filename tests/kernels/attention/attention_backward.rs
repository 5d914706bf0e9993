//! The gradient of attention on a GPU: what is more than a Problem of the list.

use loom::harness::{Call, Output, same_bits};
use loom::kernel::Values;
use loom::kernels::attention::attention_backward::shape;
use loom::kernels::attention::{packed, segmented};
use tileloom::attention::{self, Paged, Tree};
use tileloom::attention_backward::{Algorithm, Buffers, Problem, prepare, prepare_with, scratch_bytes};
use tileloom::caps::presets;
use tileloom::softmax::{Mask, MaskKind};
use tileloom::verify::attention::attention_backward::of;
use tileloom::{AttentionOptions, AttentionResults, Caps, Context, Dtype, Error, ErrorKind, Layout, Op, wgpu};

use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("attention_backward", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("garbage in sequences stays inside", |gpu| {
        let base = attention::Problem { batch: 3, causal: true, ..shape(9, 40) };
        let words = [0u32, 1, 7, 0xffff_ffff, 0x8000_0000, 0xdead_beef, 0x7fff_ffff, 40].map(f64::from);
        let sequences = packed(&[[9, 40], [3, 5], [0, 1]], base);
        for seed in 0..12 {
            let problem = of(if seed < 6 { sequences } else { segmented(3, false, sequences) });
            let mut values = Call::random(problem, seed as u64).values.clone();
            // What is written is within the gradients whatever the indices say, and the call ends.
            for (i, word) in values.get_mut("indices").into_iter().flatten().enumerate() {
                *word = words[(i * 3 + seed) % 8];
            }
            Call::new(problem, values).run(gpu, &gpu.kernels, None)?;
        }
        Ok(())
    });
    suite.case("a mask may be causal", |gpu| {
        let base = shape(17, 33);
        let kind = MaskKind::Additive(Dtype::F32);
        let causal = Call::random(of(attention::Problem { causal: true, ..base }), 9);
        let mut masked = of(attention::Problem { mask: Some(Mask::shared(kind, 33)), ..base });
        masked.dmask = Some(Layout::default());
        let mut values = causal.values.clone();
        let shown = |i: usize| if i % 33 <= i / 33 + 16 { 0.0 } else { f64::NEG_INFINITY };
        values.insert("mask", (0..17 * 33).map(shown).collect());
        let (causal, _) = causal.check(gpu, &gpu.kernels, None)?;
        let (masked, _) = Call::new(masked, values).check(gpu, &gpu.kernels, None)?;
        for name in ["dq", "dk", "dv"] {
            let far = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-4 * a.abs().max(1.0);
            if causal.values[name].iter().zip(&masked.values[name]).any(far) {
                return Err(format!("{name} differs"));
            }
        }
        Ok(())
    });
    suite.case("a head of k and v for each of q is a group of one", |gpu| {
        // The same k and v twice: the gradients of the heads of a group are those of one, summed.
        let one = attention::Problem { heads: 2, kv_heads: 2, ..shape(9, 20) };
        let grouped = Call::random(of(attention::Problem { kv_heads: 1, ..one }), 4);
        let twice = |values: &Vec<f64>| [&values[..], &values[..]].concat();
        let mut values = grouped.values.clone();
        for name in ["k", "v"] {
            values.insert(name, twice(&grouped.values[name]));
        }
        let (grouped, _) = grouped.check(gpu, &gpu.kernels, None)?;
        let (apart, _) = Call::new(of(one), values).check(gpu, &gpu.kernels, None)?;
        for name in ["dk", "dv"] {
            let (a, b) = apart.values[name].split_at(grouped.values[name].len());
            let near = |i: usize| (a[i] + b[i] - grouped.values[name][i]).abs() < 1e-4;
            if !(0..a.len()).all(near) {
                return Err(format!("{name} is not a sum over heads"));
            }
        }
        let q = |values: &loom::kernel::Values| [("dq", values["dq"].clone())].into();
        same_bits(&q(&grouped.values), &q(&apart.values))
    });
    suite.case("on tensors", |gpu| {
        let run = async || {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let forward = attention::Problem { sinks: Some(0), causal: true, ..shape(17, 33) };
            let call = Call::random(of(forward), 3);
            let f32s = |name| call.values[name].iter().map(|&v| v as f32).collect::<Vec<f32>>();
            let upload = |name, shape: &[usize]| context.upload(&f32s(name), shape);
            let (q, k) = (upload("q", &[1, 6, 17, 32])?, upload("k", &[1, 2, 33, 32])?);
            let (v, d_o) = (upload("v", &[1, 2, 33, 32])?, upload("do", &[1, 6, 17, 32])?);
            let sinks = f32s("tables");
            let options =
                AttentionOptions { causal: true, sinks: Some(&sinks[sinks.len() - 6..]), ..Default::default() };
            let mut batch = context.batch();
            let (o, lse) = batch.attention_with_lse(&q, &k, &v, &options)?;
            let results = AttentionResults { o: &o, lse: &lse, d_o: &d_o };
            let gradients = batch.attention_backward(&q, &k, &v, &results, &options)?;
            batch.submit()?;
            let f64s = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
            let mut values = Values::new();
            let dsinks = gradients.dsinks.expect("sinks");
            for (name, tensor) in
                [("dq", &gradients.dq), ("dk", &gradients.dk), ("dv", &gradients.dv), ("dsinks", &dsinks)]
            {
                values.insert(name, f64s(tensor.read().await?));
            }
            let verdict = call.judge(&Output { values, steps: Vec::new() });
            let bad = q.attention_backward(&k, &v, &AttentionResults { d_o: &k, ..results }, &options);
            Ok::<_, Error>((verdict, matches!(bad, Err(Error { kind: ErrorKind::Shape { arg: "do", .. }, .. }))))
        };
        match pollster::block_on(run()).map_err(|error| error.to_string())? {
            (verdict, true) if verdict.ok() => Ok(()),
            (verdict, refused) => Err(format!("{verdict:?}, refused {refused}")),
        }
    });
    suite.case("scratch is linear", |gpu| {
        let bytes = |seq: usize| {
            let problem = of(attention::Problem { batch: 1, seq_q: seq, seq_kv: seq, ..shape(1, 1) });
            let config = problem.choose(&gpu.kernels.caps()).map_err(|error| error.to_string())?;
            let bytes = scratch_bytes(&problem, &config).map_err(|error| error.to_string())?;
            // A row of 16 bytes, and of each copy of dq one of 8 chunks.
            let copies = if config.algorithm == Algorithm::OneWalk { u64::from(config.parts) } else { 0 };
            Ok::<_, String>((bytes, 16 * (2 + 6 * seq as u64 * (1 + 8 * copies))))
        };
        // Longer ones do not fit where the driver cuts loops short.
        for seq in [16, 64] {
            let (have, want) = bytes(seq)?;
            if have != want {
                return Err(format!("{have} bytes at {seq} tokens, {want} expected"));
            }
        }
        Ok(())
    });
    suite.case("in a browser no output lies in the buffer of scratch", |gpu| {
        let caps = Caps { backend: wgpu::Backend::BrowserWebGpu, ..(*gpu.kernels.caps()).clone() };
        let kernels = gpu.kernels.with_caps(caps.clone());
        let (inputs, arena) = (gpu.buffer(&[0; 4096]), gpu.buffer(&[0; 1 << 16]));
        let [dq, dk, dv] = [(); 3].map(|()| gpu.buffer(&[0; 4096]));
        let part = |from: u64, bytes: u64| wgpu::BufferBinding {
            buffer: &arena,
            offset: from,
            size: wgpu::BufferSize::new(bytes),
        };
        let problem = Problem::new(attention::Problem { lse: Some(0), ..attention::Problem::new(1, 2, 1, 4) });
        // Those of GPUs, too: on a CPU none may have a barrier.
        let all = presets().iter().filter_map(|preset| problem.candidates(preset).ok()).flatten().collect::<Vec<_>>();
        let mut refused = 0;
        for config in all.into_iter().filter(|config| problem.fits(&caps, config).is_ok()) {
            let i = &inputs;
            let apart = Buffers::new(i, i, i, i, i, i, &dq, &dk, &dv).scratch(part(1 << 15, 1 << 15));
            prepare_with(&kernels, &problem, &config, apart).map_err(|error| format!("{config}: {error}"))?;
            let shared = Buffers::new(i, i, i, i, i, i, part(0, 4096), &dk, &dv).scratch(part(1 << 15, 1 << 15));
            match prepare_with(&kernels, &problem, &config, shared) {
                Ok(_) => {}
                Err(Error { kind: ErrorKind::NotUniform { buffer: "scratch" }, .. }) => refused += 1,
                Err(error) => return Err(format!("{config}: {error}")),
            }
            // Elsewhere it is fine.
            let shared = Buffers::new(i, i, i, i, i, i, part(0, 4096), &dk, &dv).scratch(part(1 << 15, 1 << 15));
            prepare_with(&gpu.kernels, &problem, &config, shared).map_err(|error| format!("{config}: {error}"))?;
        }
        if refused > 0 { Ok(()) } else { Err("no candidate has a barrier in a loop".into()) }
    });
    suite.case("errors name what is wrong", |gpu| {
        let (bytes, small) = (gpu.buffer(&[0; 4096]), gpu.buffer(&[0; 16]));
        let outputs = [(); 3].map(|()| gpu.buffer(&[0; 4096]));
        let [dq, dk, dv] = &outputs;
        let b = &bytes;
        let all = || Buffers::new(b, b, b, b, b, b, dq, dk, dv);
        let say = |problem: &Problem, buffers: Buffers| match prepare(&gpu.kernels, problem, buffers) {
            Ok(_) => "nothing".to_string(),
            Err(error) => error.to_string(),
        };
        let forward = attention::Problem { lse: Some(0), ..attention::Problem::new(1, 2, 1, 4) };
        let of = |forward| say(&Problem::new(forward), all());
        let ok = Problem::new(forward);
        let paged = Some(Paged { pages: 1, page_size: 1, block_table: 0, max_pages: 1 });
        let mask = Some(Mask::new(MaskKind::Bytes));
        for (have, want) in [
            (of(attention::Problem { lse: None, ..forward }), "forward.lse: the statistics"),
            (of(attention::Problem { kv_heads: 0, ..forward }), "kv_heads: 0 does not divide 2"),
            (of(attention::Problem { paged, lengths: Some(1), ..forward }), "forward.paged: keys in pages"),
            (of(attention::Problem { tree: Some(Tree { parents: 0, per_batch: false }), ..forward }), "forward.tree"),
            (say(&Problem { dmask: Some(Layout::default()), ..ok }, all()), "dmask: there is no additive mask"),
            (
                say(
                    &Problem { dmask: Some(Layout::default()), ..Problem::new(attention::Problem { mask, ..forward }) },
                    all().mask(b).dmask(&small),
                ),
                "dmask: there is no additive mask",
            ),
            (say(&Problem { dsinks: Some(0), ..ok }, all()), "dsinks: there are no sinks"),
            (say(&Problem { dlse: Some(0), ..ok }, all()), "needs buffer `dlse`"),
            (say(&ok, all().dlse(b)), "`dlse` was given"),
            (say(&Problem { dk_layout: Layout::strided(0, [0; 3]), ..ok }, all()), "nothing"),
            (say(&Problem { dq_layout: Layout::strided(0, [0; 3]), ..ok }, all()), "dq_layout: rows overlap"),
            (say(&ok, Buffers::new(b, b, b, b, b, b, b, dk, dv)), "overlap"),
            (say(&ok, Buffers::new(b, b, b, b, b, b, dq, dq, dv)), "overlap"),
            (say(&ok, Buffers::new(b, b, b, b, b, b, dq, dk, &small)), "nothing"),
            (say(&ok, Buffers::new(b, b, b, b, b, b, &small, dk, dv)), "buffer `dq` is too small"),
            (say(&ok, Buffers::new(b, b, b, b, &small, b, dq, dk, dv)), "buffer `do` is too small"),
        ] {
            if !have.contains(want) {
                return Err(format!("expected `{want}`, heard `{have}`"));
            }
        }
        Ok(())
    });
}
