//! Sampling on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use tileloom::reference::philox::{philox, uniform};
use tileloom::sample::{self, Buffers, History, Problem, Settings, Step, Uniform};
use tileloom::{Context, Error, ErrorKind, Layout, SampleOptions, wgpu};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("sample", cases);

fn cases(suite: &mut Suite) {
    suite.case("known answers of the generator", known_answers);
    suite.case("one recorded call, another step each time", steps);
    suite.case("tensors", tensors);
    suite.case("errors", errors);
}

/// The file of that name, without its imports.
fn shared(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("#import")).collect::<Vec<_>>().join("\n")
}

/// The generator's file gives what Random123 does, and the reference on other counters.
fn known_answers(gpu: &Gpu) -> Result<(), String> {
    let files = [
        include_str!("../../../shaders/shared/fixed.wgsl"),
        include_str!("../../../shaders/shared/philox.wgsl"),
        include_str!("philox.wgsl"),
    ];
    let source = files.map(shared).join("\n");
    let mut given: Vec<[u32; 6]> =
        vec![[0; 6], [u32::MAX; 6], [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344, 0xa409_3822, 0x299f_31d0]];
    let known = [
        [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
    ];
    given.extend((0..20u32).map(|i| std::array::from_fn(|j| i.wrapping_mul(0x9e37_79b1).rotate_left(5 * j as u32))));
    let right = given.iter().map(|g| philox([g[0], g[1], g[2], g[3]], [g[4], g[5]]));
    let right: Vec<[u32; 4]> = known.into_iter().chain(right.skip(3)).collect();

    let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("philox"),
        source: wgpu::ShaderSource::Wgsl(source.into()),
    });
    let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("philox"),
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let [given, words] = [gpu.buffer(bytemuck::cast_slice(&given)), gpu.buffer(&vec![0; 16 * right.len()])];
    let entries = [&given, &words].map(|buffer| buffer.as_entire_binding());
    let mut entries =
        entries.into_iter().zip(0..).map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource });
    let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[entries.next().expect("two"), entries.next().expect("two")],
    });
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &bind_group, &[]);
    pass.dispatch_workgroups(right.len() as u32, 1, 1);
    drop(pass);
    gpu.queue.submit([encoder.finish()]);
    let out: Vec<[u32; 4]> = bytemuck::pod_collect_to_vec(&gpu.read(&words)?);
    if out == right { Ok(()) } else { Err(format!("{out:x?} instead of {right:x?}")) }
}

/// Equal logits: the token is the uniform number times the tokens there are.
fn steps(gpu: &Gpu) -> Result<(), String> {
    let (rows, vocab, seed) = (3, 64, 0xfeed_0000_beef);
    let problem =
        Problem { rows, vocab, uniform: Uniform::Philox { seed, step: Step::Buffer(1) }, ..Problem::default() };
    let [logits, step, token] = [rows * vocab, 2, rows].map(|words| gpu.buffer(&vec![0; 4 * words]));
    let buffers = Buffers::new(&logits).step(&step).token(&token);
    let dispatch = sample::prepare(&gpu.kernels, &problem, buffers).map_err(|error| error.to_string())?;
    for at in [0u32, 1, 77] {
        gpu.queue.write_buffer(&step, 4, bytemuck::bytes_of(&at));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let out: Vec<u32> = bytemuck::pod_collect_to_vec(&gpu.read(&token)?);
        let right: Vec<u32> = (0..rows as u32).map(|row| (uniform(seed, row, at) * vocab as f64) as u32).collect();
        if out != right {
            return Err(format!("step {at}: {out:?} instead of {right:?}"));
        }
    }
    Ok(())
}

/// Equal logits but one that is hidden, and one that the history makes less likely.
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
    let run = async {
        let logits = context.upload(&[0.0f32, f32::NEG_INFINITY, 0.0, 0.0, 1.0, 1.0, 3.0, 2.0], &[2, 4])?;
        let history = context.upload(&[3, -1, 2, 9], &[2, 2])?;
        let settings = Settings { presence_penalty: 2.0, temperature: 0.0, ..Settings::default() };
        let options = SampleOptions { settings, history: Some(&history), ..SampleOptions::default() };
        let greedy = logits.sample(&options)?.read().await?;
        let settings = Settings { top_k: 1, ..Settings::default() };
        let (token, probs) = logits.sample_with_probs(&SampleOptions { settings, seed: 5, ..options })?;
        let refused = logits.sample(&SampleOptions { history: Some(&context.zeros(&[3, 2])?), ..options }).err();
        Ok((greedy, token.read().await?, probs.read().await?, refused))
    };
    let (greedy, token, probs, refused) = pollster::block_on(run).map_err(|error: Error| error.to_string())?;
    let third = 1.0 / 3.0;
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    let first = (uniform(5, 0, 0) * 3.0) as usize;
    let shape = matches!(refused, Some(Error { kind: ErrorKind::Shape { arg: "history", .. }, .. }));
    let right = greedy == [0, 3]
        && token == [[0, 2, 3][first], 2]
        && near(&probs, &[third, 0.0, third, third, 0.0, 0.0, 1.0, 0.0]);
    if right && shape { Ok(()) } else { Err(format!("{greedy:?} {token:?} {probs:?} {refused:?}")) }
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [logits, row] = [40, 4].map(|words: usize| gpu.buffer(&vec![0; words * 4]));
    let other = gpu.buffer(&[0; 16]);
    let good = Problem { rows: 4, vocab: 10, ..Problem::default() };
    let buffers = Buffers::new(&logits).uniform(&row).token(&other);
    let prepare = |problem: &Problem| sample::prepare(&gpu.kernels, problem, buffers).map(drop);
    prepare(&good).map_err(|error| error.to_string())?;
    let settings = Settings::default();
    for (arg, settings) in [
        ("temperature", Settings { temperature: -1.0, ..settings }),
        ("temperature", Settings { temperature: f32::NAN, ..settings }),
        ("repetition_penalty", Settings { repetition_penalty: 0.0, ..settings }),
        ("frequency_penalty", Settings { frequency_penalty: f32::INFINITY, ..settings }),
        ("presence_penalty", Settings { presence_penalty: f32::NAN, ..settings }),
        ("top_p", Settings { top_p: -0.5, ..settings }),
        ("min_p", Settings { min_p: f32::NAN, ..settings }),
    ] {
        invalid(arg, prepare(&Problem { settings, ..good }))?;
    }
    invalid("vocab", prepare(&Problem { vocab: 0, ..good }))?;
    // Places of histories that share their tokens are more than a u32 counts.
    let history = Some(sample::History { len: 1 << 18, layout: Layout::strided(0, [0]) });
    refused("places", prepare(&Problem { rows: 1 << 14, history, ..good }), |error| {
        matches!(error.kind, ErrorKind::ConfigUnfit { .. })
    })?;
    invalid("vocab", prepare(&Problem { vocab: (1 << 20) + 1, ..good }))?;
    invalid("token", prepare(&Problem { token: None, ..good }))?;
    invalid("probs", prepare(&Problem { probs: Some(Layout::strided(0, [9])), ..good }))?;
    refused("many rows", prepare(&Problem { rows: 5, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "logits", need: 200, have: 160 })
    })?;
    refused("no probabilities", prepare(&Problem { probs: Some(Layout::default()), ..good }), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "probs" })
    })?;
    let history = Some(History { len: 3, layout: Layout::default() });
    refused("no history", prepare(&Problem { history, ..good }), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "tokens" })
    })?;
    let generated = Uniform::Philox { seed: 1, step: Step::At(0) };
    refused("uniform for a generator", prepare(&Problem { uniform: generated, ..good }), |error| {
        matches!(error.kind, ErrorKind::UnusedBuffer { buffer: "uniform" })
    })?;
    refused(
        "few settings",
        sample::prepare(&gpu.kernels, &Problem { per_row: Some(0), ..good }, buffers.settings(&row)),
        |error| matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "settings", need: 112, have: 16 }),
    )?;
    let scratch = gpu.buffer(&[0; 4]);
    refused("little scratch", sample::prepare(&gpu.kernels, &good, buffers.scratch(&scratch)), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "scratch", have: 4, .. })
    })?;
    refused(
        "in place",
        sample::prepare(&gpu.kernels, &good, Buffers::new(&logits).uniform(&row).token(&row)),
        |error| matches!(error.kind, ErrorKind::Aliased { .. }),
    )
}
