//! Softmax on a GPU.
//!
//! Pipelines are what costs time on a software driver, so that cases share a few: `plain` reads and
//! masks everything with one pipeline, and the others add one form each.

use loom::Gpu;
use loom::kernels::softmax::{Call, Memory, Output};
use tileloom::softmax::{
    self, Algorithm, Buffers, Config, Mask, MaskKind, Problem, Reduce, candidates, choose, prepare_with,
};
use tileloom::{Caps, Dtype, Error, ErrorKind, Kernels, Layout, Op, wgpu};

use crate::{Depth, Suite};

/// A forced tile, of packed f16.
fn tile(algorithm: Algorithm, wg_size: u32, lanes: u32, keep: u32, reduce: Reduce) -> Config {
    Config { algorithm, wg_size, lanes, keep, reduce, native_f16: false }
}

/// Masked, one element at a time, up to 64 columns, a row per workgroup: needs no feature.
fn plain() -> Config {
    tile(Algorithm::Registers, 8, 8, 8, Reduce::Tree)
}

/// Odd offsets keep a problem from vec4, whatever its columns.
fn odd(problem: Problem) -> Problem {
    Problem { x_layout: Layout::at(1), y_layout: Layout::at(3), ..problem }
}

fn shape(rows: usize, cols: usize) -> Problem {
    Problem { rows, cols, ..Default::default() }
}

/// Runs with `config`, asserts that it is the one that ran, and judges.
fn check(gpu: &Gpu, call: &Call, config: &Config) -> Result<Output, String> {
    let (output, _) = call.check(gpu, &gpu.kernels, Some(config))?;
    let tile = config.to_string();
    match output.steps.iter().all(|step| step.contains(&tile)) {
        true => Ok(output),
        false => Err(format!("meant to run {tile}, ran {:?}", output.steps)),
    }
}

/// Runs with the chosen Config, which must be of `algorithm`, and judges.
fn check_chosen(gpu: &Gpu, call: &Call, algorithm: Algorithm) -> Result<Output, String> {
    let config = choose(&gpu.kernels.caps(), &call.problem).map_err(|error| error.to_string())?;
    if config.algorithm != algorithm {
        return Err(format!("meant to hit {algorithm:?}, {config} was chosen"));
    }
    let output = check(gpu, call, &config)?;
    // To the letter: dtypes, chunks, what is bound.
    match output.steps.iter().all(|step| step.contains(&config.to_string().as_str())) {
        true => Ok(output),
        false => Err(format!("meant to run {config}, ran {:?}", output.steps)),
    }
}

fn same_bits(a: &Output, b: &Output) -> Result<(), String> {
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let differ = |a: &[f64], b: &[f64]| bits(a).iter().zip(bits(b)).position(|(a, b)| *a != b);
    match (differ(&a.y, &b.y), differ(a.lse.as_deref().unwrap_or(&[]), b.lse.as_deref().unwrap_or(&[]))) {
        (None, None) => Ok(()),
        (y, lse) => Err(format!("bits differ at y {y:?}, lse {lse:?}")),
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

const MASKS: [MaskKind; 5] = [
    MaskKind::Bytes,
    MaskKind::Additive(Dtype::F32),
    MaskKind::Bits,
    MaskKind::Additive(Dtype::F16),
    MaskKind::Additive(Dtype::Bf16),
];

/// About ten pipelines.
fn everywhere(suite: &mut Suite) {
    // A pipeline per kind of mask: f32, one element per chunk.
    let kinds = if suite.depth == Depth::Narrow { &MASKS[..2] } else { &MASKS[..] };
    for &kind in kinds {
        suite.case(format!("mask {kind:?}"), move |gpu| {
            for (rows, cols) in [(1, 1), (21, 7), (9, 33), (14, 63), (7, 64)] {
                for log in [false, true] {
                    let mask = Some(Mask::new(kind));
                    let problem = odd(Problem { mask, log, lse: Some(2), scale: 0.37, ..shape(rows, cols) });
                    let call = Call::random(problem, 7 + cols as u64).with_random_mask(3);
                    check(gpu, &call, &plain())?;
                }
            }
            Ok(())
        });
    }
    let depth = suite.depth;
    suite.case("mask broadcast", move |gpu| {
        // x [2, 3, 5, 9]; masks [5, 9], [2, 1, 1, 9], [2, 3, 5, 1], [3, 1, 9], [1].
        for &kind in if depth == Depth::Narrow { &MASKS[..2] } else { &MASKS[..3] } {
            for mask_shape in [&[5, 9][..], &[2, 1, 1, 9], &[2, 3, 5, 1], &[3, 1, 9], &[1]] {
                let (dims, mask) = softmax::broadcast(kind, mask_shape, &[2, 3, 5, 9]).ok_or("broadcast")?;
                let problem = odd(Problem { dims, mask: Some(mask), lse: Some(0), ..shape(30, 9) });
                check(gpu, &Call::random(problem, 11).with_random_mask(5), &plain())
                    .map_err(|error| format!("{kind:?} {mask_shape:?}: {error}"))?;
            }
        }
        Ok(())
    });
    suite.case("causal is bottom-right aligned", |gpu| {
        // More queries than keys leaves the first rows dead.
        for (queries, keys) in [(1, 5), (5, 5), (7, 3), (3, 40), (33, 64)] {
            for log in [false, true] {
                let mask = Some(Mask::new(MaskKind::Bytes));
                let base = Problem { dims: [1, queries], causal: true, log, lse: Some(1), ..shape(2 * queries, keys) };
                let problem = odd(Problem { mask, ..base });
                let mut call = Call::random(problem, 5);
                call.mask = Some(vec![1.0; 2 * queries * keys]);
                check(gpu, &call, &plain())?;
            }
        }
        Ok(())
    });
    suite.case("extreme scores", |gpu| {
        let mask = Some(Mask::new(MaskKind::Additive(Dtype::F32)));
        let rows = [
            vec![-2e5, -2e5 - 1.0, -2e5 - 3.0, -2.1e5],
            vec![1e30, 1e30, -1e30, 0.0],
            vec![f64::NEG_INFINITY, 1.0, 2.0, f64::NEG_INFINITY],
            vec![f64::NEG_INFINITY; 4],
            vec![-3e38, -3e38, -3e38, -3e38],
            vec![3e38, -3e38, 0.0, 3e38],
            vec![0.0, -0.0, 1e-40, -1e-40],
        ];
        for log in [false, true] {
            let problem = odd(Problem { mask, log, lse: Some(0), ..shape(rows.len(), 4) });
            let mut call = Call::new(problem, rows.concat());
            call.mask = Some(vec![0.0; rows.len() * 4]);
            check(gpu, &call, &plain())?;
            // A finite mask value is a number, however low: the row is uniform, not dead.
            call = Call::new(problem, vec![1.0; rows.len() * 4]);
            for low in [-1e9, f64::from(f32::MIN)] {
                call.mask = Some(vec![low; rows.len() * 4]);
                let y = check(gpu, &call, &plain())?.y;
                let uniform = if log { 0.25f64.ln() } else { 0.25 };
                if y.iter().any(|v| (v - uniform).abs() > 1e-6) {
                    return Err(format!("a row of {low} is uniform: {y:?}"));
                }
            }
        }
        Ok(())
    });
    suite.case("more than 65,535 workgroups", |gpu| {
        let mask = Some(Mask::shared(MaskKind::Bytes, 3));
        let problem = odd(Problem { dims: [1, 66_001], mask, lse: Some(0), ..shape(66_001, 3) });
        let call = Call::random(problem, 2).with_random_mask(9);
        let output = check(gpu, &call, &plain())?;
        match output.steps[0].contains("[33001, 2, 1]") {
            true => Ok(()),
            false => Err(format!("the grid did not fold: {}", output.steps[0])),
        }
    });
    suite.case("strided views with NaN between", |gpu| {
        // [3, 2, 5, 11] within rows of 17 and 13, axes in another order; x broadcast along the first axis.
        let mask = Some(Mask::shared(MaskKind::Bytes, 11));
        let problem = Problem {
            dims: [2, 5],
            mask,
            lse: Some(0),
            x_layout: Layout::strided(5, [0, 17, 34]),
            y_layout: Layout::strided(7, [130, 13, 26]),
            ..shape(30, 11)
        };
        let mut call = Call::random(problem, 3).with_random_mask(4);
        let (first, rest) = call.x.split_at_mut(110);
        rest.iter_mut().enumerate().for_each(|(i, v)| *v = first[i % 110]);
        check(gpu, &call, &plain()).map(drop)
    });
    suite.case("two sizes in one encoder", |gpu| {
        // Parameters of the first must survive the second.
        let shapes = [(9, 17), (4, 33)];
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let mut calls = Vec::new();
        for (rows, cols) in shapes {
            let mask = Some(Mask::new(MaskKind::Bytes));
            let problem = odd(Problem { mask, lse: Some(0), ..shape(rows, cols) });
            let mut call = Call::random(problem, cols as u64);
            call.mask = Some(vec![1.0; rows * cols]);
            let mut x = vec![0.0];
            x.extend(&call.x);
            let (x, mask) =
                (gpu.buffer(&Dtype::F32.encode(&x)), gpu.buffer(&vec![1; (rows * cols).next_multiple_of(4)]));
            let (y, lse) = (gpu.buffer(&vec![0xff; (rows * cols + 3) * 4]), gpu.buffer(&vec![0xff; rows * 4]));
            let buffers = Buffers::new(&x, &y).mask(&mask).lse(&lse);
            let dispatch = prepare_with(&gpu.kernels, &problem, &plain(), buffers).map_err(|e| e.to_string())?;
            dispatch.record(&mut encoder);
            calls.push((call, y, lse));
        }
        gpu.queue.submit([encoder.finish()]);
        for (call, y, lse) in calls {
            let y = Dtype::F32.decode(&gpu.read(&y)?)[3..].to_vec();
            let lse = Some(Dtype::F32.decode(&gpu.read(&lse)?));
            let verdict = call.judge(&Output { y, lse, steps: Vec::new() });
            if !verdict.ok() {
                return Err(verdict.to_string());
            }
        }
        Ok(())
    });
    // A pipeline each.
    suite.case("chosen for short rows, repeated with equal bits", |gpu| {
        let call = Call::random(Problem { lse: Some(0), ..shape(37, 64) }, 1);
        let first = check_chosen(gpu, &call, Algorithm::Registers)?;
        for _ in 0..3 {
            same_bits(&first, &call.run(gpu, &gpu.kernels, None)?)?;
        }
        Ok(())
    });
    suite.case("chosen for long rows", |gpu| {
        let software = gpu.kernels.caps().class() == tileloom::caps::Class::Software;
        let cols = if software { 4096 } else { 70_000 };
        check_chosen(gpu, &Call::random(shape(70, cols), 3), Algorithm::Online)?;
        // The same pipeline, with a tail behind the full blocks.
        check_chosen(gpu, &Call::random(shape(70, cols + 36), 3), Algorithm::Online)?;
        check_chosen(gpu, &Call::random(Problem { log: true, ..shape(65, cols) }, 4), Algorithm::Online).map(drop)
    });
    suite.case("chosen for few very long rows", |gpu| {
        for (rows, cols, log) in [(1, 152_064, false), (3, 20_004, true)] {
            let problem = Problem { log, lse: Some(0), ..shape(rows, cols) };
            check_chosen(gpu, &Call::random(problem, 3), Algorithm::Split)?;
        }
        Ok(())
    });
    suite.case("f16 rows that share words", |gpu| {
        for (cols, offset) in [(1, 0), (7, 0), (7, 1), (16, 1), (33, 3)] {
            for log in [false, true] {
                let problem = Problem {
                    x: Dtype::F16,
                    y: Dtype::F16,
                    x_layout: Layout::at(offset + 1),
                    y_layout: Layout::at(offset),
                    log,
                    lse: Some(0),
                    ..shape(23, cols)
                };
                let call = Call::random(problem, 5);
                let config = tile(Algorithm::Registers, 8, 1, 32, Reduce::None);
                let output = check(gpu, &call, &config)?;
                if !output.steps[0].contains("edge: true") && cols % 2 == 1 {
                    return Err(format!("meant to hit shared words: {}", output.steps[0]));
                }
            }
        }
        Ok(())
    });
    suite.case("bf16, long rows", |gpu| {
        let problem = Problem { x: Dtype::Bf16, y: Dtype::Bf16, ..shape(70, 1200) };
        let config = tile(Algorithm::Online, 8, 1, 4, Reduce::None);
        check(gpu, &Call::random(problem, 6), &config).map(drop)
    });
    suite.case("in place", |gpu| {
        for (rows, cols) in [(5, 64), (70, 60)] {
            let call = Call::random(shape(rows, cols), 8).in_memory(Memory::InPlace);
            let output = check(gpu, &call, &tile(Algorithm::Registers, 8, 1, 16, Reduce::None))?;
            if !output.steps[0].contains("in_place: true") {
                return Err(format!("meant to run in place: {}", output.steps[0]));
            }
        }
        Ok(())
    });
    suite.case("record_in allocates nothing of its own", |gpu| {
        let problem = Problem { lse: Some(0), ..shape(1, 64) };
        let (x, y, lse) = (gpu.buffer(&[0; 256]), gpu.buffer(&[0; 256]), gpu.buffer(&[0; 4]));
        let buffers = Buffers::new(&x, &y).lse(&lse);
        let dispatch = softmax::prepare(&gpu.kernels, &problem, buffers).map_err(|e| e.to_string())?;
        // The same calls of wgpu by hand: a pipeline, a bind group, immediates, a dispatch.
        let source = "struct P { at: u32 } var<immediate> p: P;\n@group(0) @binding(0) var<storage, read_write> y: array<u32>;\n\
             @compute @workgroup_size(1) fn main() { y[p.at] = 1u; }";
        let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: y.as_entire_binding() }],
        });
        let by_hand = |pass: &mut wgpu::ComputePass| {
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            pass.set_immediates(0, &[0; 4]);
            pass.dispatch_workgroups(1, 1, 1);
        };
        let count = |record: &dyn Fn(&mut wgpu::ComputePass)| {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            record(&mut pass);
            crate::allocations::count(|| (0..200).for_each(|_| record(&mut pass)))
        };
        let (ours, theirs) = (count(&|pass| dispatch.record_in(pass)), count(&by_hand));
        // wgpu's own lists grow with what is recorded: immediates are kept there, and ours are longer.
        match ours <= theirs + 8 {
            true => Ok(()),
            false => Err(format!("200 calls made {ours} allocations, {theirs} by hand")),
        }
    });
    suite.case("nothing to compute", |gpu| {
        for (rows, cols) in [(0, 8), (8, 0)] {
            let output = Call::new(shape(rows, cols), Vec::new()).run(gpu, &gpu.kernels, None)?;
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
    let most = caps.limits.max_compute_invocations_per_workgroup;
    let no_subgroup = caps.subgroup.is_none().then_some("SUBGROUP");
    let no_trust = caps.trusted_subgroup_size().is_none().then_some("a subgroup size that can be trusted");
    let no_f16 = (!caps.f16).then_some("SHADER_F16");

    suite.case("checked modules give the same", |gpu| {
        let software = gpu.kernels.caps().class() == tileloom::caps::Class::Software;
        let mask = Some(Mask::new(MaskKind::Additive(Dtype::F32)));
        let calls = [
            (Call::random(odd(Problem { mask, lse: Some(0), ..shape(21, 33) }), 1).with_random_mask(2), plain()),
            (
                Call::random(Problem { x: Dtype::F16, y: Dtype::F16, ..shape(9, 7) }, 5),
                tile(Algorithm::Registers, 8, 1, 32, Reduce::None),
            ),
            (Call::random(shape(2, 20_004), 3), tile(Algorithm::Split, 8, 8, 4, Reduce::Tree)),
            (Call::random(shape(70, 1100), 3), tile(Algorithm::Online, 8, 1, 4, Reduce::None)),
        ];
        for (call, config) in calls {
            let unchecked = check(gpu, &call, &config)?;
            let (checked, _) = call.check(gpu, gpu.checked(), Some(&config))?;
            if software {
                same_bits(&unchecked, &checked).map_err(|error| format!("{config}: {error}"))?;
            }
        }
        Ok(())
    });
    for (name, lack, reduce) in [("shuffle", no_trust, Reduce::Shuffle), ("subgroup", no_subgroup, Reduce::Subgroup)] {
        suite.case_unless(lack, format!("{name} against tree"), move |gpu| {
            let size = gpu.kernels.caps().trusted_subgroup_size().unwrap_or(4);
            let (wg_size, lanes) = match reduce {
                Reduce::Shuffle => (2 * size, size),
                _ => (64, 64),
            };
            let keep = 1024 / lanes;
            let call = Call::random(Problem { lse: Some(0), ..shape(33, 1000) }, 12);
            for algorithm in [Algorithm::Registers, Algorithm::Online] {
                let keep = if algorithm == Algorithm::Registers { keep } else { 4 };
                let with = check(gpu, &call, &tile(algorithm, wg_size, lanes, keep, reduce))?;
                let without = check(gpu, &call, &tile(algorithm, wg_size, lanes, keep, Reduce::Tree))?;
                let far = with.y.iter().zip(&without.y).position(|(a, b)| (a - b).abs() > 1e-6 * b.abs() + 1e-12);
                if let Some(i) = far {
                    return Err(format!("element {i}: {} with, {} without", with.y[i], without.y[i]));
                }
            }
            Ok(())
        });
    }
    let small = (most < 256).then_some("workgroups of 256");
    suite.case_unless(small, "a workgroup per row", |gpu| {
        for (rows, cols) in [(3, 4096), (5, 3000), (2, 1028)] {
            check(gpu, &Call::random(shape(rows, cols), 2), &tile(Algorithm::Registers, 256, 256, 4, Reduce::Tree))?;
        }
        Ok(())
    });
    suite.case_unless(no_f16, "native f16", |gpu| {
        for (cols, offset) in [(64, 0), (7, 1)] {
            let (x, y) = (Dtype::F16, Dtype::F16);
            let problem = Problem { x, y, y_layout: Layout::at(offset), ..shape(23, cols) };
            let config = Config { native_f16: true, ..tile(Algorithm::Registers, 8, 1, 16, Reduce::None) };
            let output = check(gpu, &Call::random(problem, 5), &config)?;
            if !output.steps[0].contains("x: F16, y: F16,") {
                return Err(format!("meant to hit native f16: {}", output.steps[0]));
            }
        }
        Ok(())
    });
    suite.case("log-softmax in f16 overflows to infinity", |gpu| {
        let problem = Problem { x: Dtype::F32, y: Dtype::F16, log: true, ..shape(4, 8) };
        let x: Vec<f64> = (0..32).map(|i| if i % 8 == 0 { 0.0 } else { -65_500.0 - 10.0 * (i % 8) as f64 }).collect();
        for native_f16 in [false, true] {
            let config = Config { native_f16, ..tile(Algorithm::Registers, 8, 1, 16, Reduce::None) };
            if !native_f16 || gpu.kernels.caps().f16 {
                check(gpu, &Call::new(problem, Vec::clone(&x)), &config)?;
            }
        }
        Ok(())
    });
    suite.case("in place by every algorithm and storage", |gpu| {
        let f16 = |problem| Problem { x: Dtype::F16, y: Dtype::F16, ..problem };
        for (problem, config) in [
            (shape(9, 1100), tile(Algorithm::Online, 8, 1, 4, Reduce::None)),
            (shape(2, 20_004), tile(Algorithm::Split, 8, 8, 4, Reduce::Tree)),
            (f16(shape(23, 7)), tile(Algorithm::Registers, 8, 1, 16, Reduce::None)),
            (f16(shape(9, 1201)), tile(Algorithm::Online, 8, 1, 4, Reduce::None)),
        ] {
            let output = check(gpu, &Call::random(problem, 8).in_memory(Memory::InPlace), &config)?;
            let shared = problem.cols % 2 == 1;
            if output.steps.iter().any(|step| !step.contains("in_place: true") || shared != step.contains("edge: true"))
            {
                return Err(format!("meant to run in place: {:?}", output.steps));
            }
        }
        // The same view, said in two ways: strides of axes of size 1 do not count.
        let strides = Layout::strided(0, [999, 999, 16]);
        let problem = Problem { dims: [1, 4], y_layout: strides, ..shape(4, 16) };
        let output = check(
            gpu,
            &Call::random(problem, 1).in_memory(Memory::InPlace),
            &tile(Algorithm::Registers, 8, 1, 16, Reduce::None),
        )?;
        match output.steps[0].contains("in_place: true") {
            true => Ok(()),
            false => Err(format!("meant to run in place: {:?}", output.steps)),
        }
    });
    suite.case("x and y interleaved in one buffer", |gpu| {
        // The fused QKV layout: rows of 3 * 20, x in the first third, y in the second.
        let strides = [0, 0, 60];
        let problem = Problem {
            dims: [1, 13],
            x_layout: Layout::strided(0, strides),
            y_layout: Layout::strided(20, strides),
            ..shape(13, 20)
        };
        let call = Call::random(problem, 4).in_memory(Memory::OneBuffer);
        let output = check(gpu, &call, &tile(Algorithm::Registers, 8, 1, 16, Reduce::None))?;
        match output.steps[0].contains("writable [0]") {
            true => Ok(()),
            false => Err(format!("x shares a buffer that is written: {}", output.steps[0])),
        }
    });
    suite.case("an arena: x, mask, y and lse in one buffer", |gpu| {
        let (rows, cols) = (6, 8);
        let problem = Problem { mask: Some(Mask::new(MaskKind::Bytes)), lse: Some(0), ..shape(rows, cols) };
        let call = Call::random(problem, 4).with_random_mask(1);
        let mut bytes = vec![0xff; 2048];
        bytes[..192].copy_from_slice(&Dtype::F32.encode(&call.x));
        for (i, &shown) in call.mask.iter().flatten().enumerate() {
            bytes[512 + i] = shown as u8;
        }
        let arena = gpu.buffer(&bytes);
        let at = |offset| wgpu::BufferBinding { buffer: &arena, offset, size: wgpu::BufferSize::new(256) };
        let buffers = Buffers::new(at(0), at(1024)).mask(at(512)).lse(at(1536));
        let dispatch = softmax::prepare(&gpu.kernels, &problem, buffers).map_err(|e| e.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let after = gpu.read(&arena)?;
        let output = Output {
            y: Dtype::F32.decode(&after[1024..1024 + 192]),
            lse: Some(Dtype::F32.decode(&after[1536..1536 + 24])),
            steps: Vec::new(),
        };
        let verdict = call.judge(&output);
        let untouched = after[..1024] == bytes[..1024] && after[1216..1536] == bytes[1216..1536];
        match verdict.ok() && untouched {
            true => Ok(()),
            false => Err(format!("{verdict}; the rest of the arena untouched: {untouched}")),
        }
    });
    suite.case("parameters in a uniform buffer", |gpu| {
        let caps = Caps { immediate_bytes: 0, ..(*gpu.kernels.caps()).clone() };
        let kernels = Kernels::new(&gpu.device, caps);
        let call = Call::random(Problem { lse: Some(0), ..shape(37, 64) }, 1);
        let (uniform, _) = call.check(gpu, &kernels, None)?;
        same_bits(&uniform, &call.run(gpu, &gpu.kernels, None)?)
    });
    suite.case("pooled scratch", |gpu| {
        let problem = shape(1, 20_000);
        let call = Call::random(problem, 1);
        let config = tile(Algorithm::Split, 8, 8, 4, Reduce::Tree);
        let (x, y) = (gpu.buffer(&Dtype::F32.encode(&call.x)), gpu.buffer(&vec![0xff; 80_000]));
        let buffers = Buffers::new(&x, &y);
        let dispatch = prepare_with(&gpu.kernels, &problem, &config, buffers).map_err(|e| e.to_string())?;
        for _ in 0..2 {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            dispatch.record(&mut encoder);
            gpu.queue.submit([encoder.finish()]);
        }
        let output = Output { y: Dtype::F32.decode(&gpu.read(&y)?), lse: None, steps: Vec::new() };
        let verdict = call.judge(&output);
        if verdict.ok() { Ok(()) } else { Err(verdict.to_string()) }
    });
    suite.case("a million columns", |gpu| {
        let config = tile(Algorithm::Split, 8, 8, 4, Reduce::Tree);
        check(gpu, &Call::random(shape(1, 1_000_000), 2), &config).map(drop)
    });
}

/// Every form by every tile: what CI samples.
fn full(suite: &mut Suite) {
    let caps = suite.gpu.kernels.caps();
    let reductions = [Reduce::None, Reduce::Shuffle, Reduce::Subgroup, Reduce::Tree];
    let tiles = [
        (Algorithm::Registers, 8, 1, 64),
        (Algorithm::Registers, 32, 4, 16),
        (Algorithm::Registers, 64, 64, 4),
        (Algorithm::Registers, 256, 256, 1),
        (Algorithm::Online, 8, 1, 2),
        (Algorithm::Online, 8, 8, 8),
        (Algorithm::Online, 128, 128, 4),
        (Algorithm::Split, 8, 8, 4),
        (Algorithm::Split, 64, 64, 2),
    ];
    for (algorithm, wg_size, lanes, keep) in tiles {
        for reduce in reductions {
            let config = tile(algorithm, wg_size, lanes, keep, reduce);
            let fits = shape(1, 60).fits(&caps, &config).map_err(|error| error.to_string());
            for (x, y) in [
                (Dtype::F32, Dtype::F32),
                (Dtype::F16, Dtype::F16),
                (Dtype::Bf16, Dtype::Bf16),
                (Dtype::F16, Dtype::F32),
                (Dtype::F32, Dtype::Bf16),
                (Dtype::Bf16, Dtype::F16),
            ] {
                let name = format!("{algorithm:?} wg{wg_size} lanes{lanes} keep{keep} {reduce:?} {x}>{y}");
                match &fits {
                    // What no device can have is no case.
                    Err(misfit) if misfit.contains("lanes") && reduce != Reduce::Shuffle => {}
                    Err(misfit) => suite.case_unless(Some(misfit), name, |_| Ok(())),
                    Ok(()) => suite.case(name, move |gpu| product(gpu, x, y, &config)),
                }
            }
        }
    }
    suite.case("every candidate of the table", |gpu| {
        for (rows, cols) in [(1, 3), (70, 16), (33, 64), (17, 250), (9, 1024), (70, 4096), (1, 50_257), (2, 131_072)] {
            let problem = Problem { lse: Some(0), ..shape(rows, cols) };
            for config in candidates(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())? {
                check(gpu, &Call::random(problem, cols as u64), &config)?;
            }
        }
        Ok(())
    });
}

fn product(gpu: &Gpu, x: Dtype, y: Dtype, config: &Config) -> Result<(), String> {
    for mask in [None, Some(MaskKind::Bits)] {
        for (cols, offset) in [(1, 0), (63, 0), (59, 1), (40, 1), (60, 0)] {
            for (log, causal) in [(false, false), (true, false), (false, true), (true, true)] {
                let problem = Problem {
                    dims: [2, 5],
                    x,
                    y,
                    x_layout: Layout::at(2 * offset),
                    y_layout: Layout::at(offset),
                    log,
                    causal,
                    mask: mask.map(Mask::new),
                    lse: Some(1),
                    ..shape(20, cols)
                };
                let mut call = Call::random(problem, cols as u64);
                if mask.is_some() {
                    call = call.with_random_mask(1);
                }
                check(gpu, &call, config)?;
            }
        }
    }
    Ok(())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(suite: &mut Suite) {
    suite.case("errors", |gpu| {
        let kernels = &gpu.kernels;
        let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
        let (x, y) = (buffer(64), buffer(64));
        let good = shape(4, 16);
        let prepare = |problem: &Problem, buffers: Buffers| softmax::prepare(kernels, problem, buffers);
        let expect = |what: &str, result: Result<_, Error>, ok: fn(&Error) -> bool| match result {
            Err(error) if ok(&error) => Ok(()),
            Err(error) => Err(format!("{what}: {error:?}")),
            Ok(_) => Err(format!("{what} was accepted")),
        };
        let invalid = |what, problem: &Problem, arg: &'static str| match prepare(problem, Buffers::new(&x, &y)) {
            Err(Error { kind: ErrorKind::InvalidProblem { arg: have, .. }, .. }) if have == arg => Ok(()),
            other => Err(format!("{what}: {:?}", other.err())),
        };
        invalid("dims of 0", &Problem { dims: [0, 1], ..good }, "dims")?;
        invalid("rows that dims do not divide", &Problem { dims: [1, 3], ..good }, "rows")?;
        invalid("too many columns", &Problem { cols: 1 << 33, ..good }, "cols")?;
        invalid("scale", &Problem { scale: f32::NAN, ..good }, "scale")?;
        invalid("lse without columns", &Problem { cols: 0, lse: Some(0), ..good }, "lse").or_else(|error| {
            let lse = buffer(4);
            match prepare(&Problem { cols: 0, lse: Some(0), ..good }, Buffers::new(&x, &y).lse(&lse)) {
                Err(Error { kind: ErrorKind::InvalidProblem { arg: "lse", .. }, .. }) => Ok(()),
                _ => Err(error),
            }
        })?;
        let overlapping = Problem { dims: [1, 4], y_layout: Layout::strided(0, [0, 0, 15]), ..good };
        invalid("rows of y that overlap", &overlapping, "y_layout")?;

        let short = buffer(63);
        expect("a short x", prepare(&good, Buffers::new(&short, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "x", need: 256, have: 252, .. }, .. })
        })?;
        let half = |p| Problem { x: Dtype::F16, y: Dtype::F16, ..p };
        expect("an odd f16 row in 6 bytes of 8", prepare(&half(shape(1, 129)), Buffers::new(&y, &short)), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "x", need: 260, have: 256, .. }, .. })
        })?;
        let masked = Problem { mask: Some(Mask::new(MaskKind::Bits)), ..good };
        expect("no mask", prepare(&masked, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::MissingBuffer { buffer: "mask", .. }, .. })
        })?;
        expect("an lse too many", prepare(&good, Buffers::new(&x, &y).lse(&short)), |e| {
            matches!(e, Error { kind: ErrorKind::UnusedBuffer { buffer: "lse", .. }, .. })
        })?;
        let plain = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 256,
            usage: wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        expect("a buffer without STORAGE", prepare(&good, Buffers::new(&x, &plain)), |e| {
            matches!(e, Error { kind: ErrorKind::MissingUsage { buffer: "y", .. }, .. })
        })?;
        let align = kernels.caps().limits.min_storage_buffer_offset_alignment as u64;
        let large = buffer(256);
        let at = |offset| wgpu::BufferBinding { buffer: &large, offset, size: None };
        expect("a misaligned binding", prepare(&good, Buffers::new(at(align + 4), &y)), |e| {
            matches!(e, Error { kind: ErrorKind::Misaligned { buffer: "x", element_offset: 1, .. }, .. })
                && e.to_string().contains("add 1 elements")
        })?;
        let shifted = Problem { y_layout: Layout::at(8), ..good };
        expect("views that overlap in part", prepare(&shifted, Buffers::new(&large, &large)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "x", second: "y", .. }, .. })
        })?;
        let widened = Problem { y: Dtype::F16, ..good };
        expect("in place with two dtypes", prepare(&widened, Buffers::in_place(&x)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { .. }, .. })
        })?;
        let lse = Problem { lse: Some(0), ..good };
        expect("lse in y", prepare(&lse, Buffers::new(&x, &y).lse(&y)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "y", second: "lse", .. }, .. })
        })?;
        let far = Problem { x_layout: Layout::at(u32::MAX as usize), ..good };
        expect("an index past u32", prepare(&far, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::IndexOverflow { arg: "x", last: 0x1_0000_003e, .. }, .. })
        })?;
        let long = tile(Algorithm::Registers, 8, 1, 2, Reduce::None);
        expect("a row that the tile does not hold", prepare_with(kernels, &good, &long, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::ConfigUnfit { .. }, .. })
                && e.to_string().contains("chunks of a row, which lanes * keep hold: 4, at most 2 fit")
        })?;
        let three = tile(Algorithm::Online, 9, 3, 2, Reduce::Tree);
        expect("three lanes", prepare_with(kernels, &good, &three, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::ConfigUnfit { .. }, .. })
        })?;

        // Devices that allow less, by way of Caps.
        let limited = |change: fn(&mut wgpu::Limits)| {
            let mut caps = (*kernels.caps()).clone();
            change(&mut caps.limits);
            Kernels::new(&gpu.device, caps)
        };
        let kernels = limited(|limits| limits.max_storage_buffer_binding_size = 128);
        expect("a binding past the limit", softmax::prepare(&kernels, &good, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::BindingTooLarge { buffer: "x", need: 256, limit: 128, .. }, .. })
        })?;
        let kernels = limited(|limits| limits.max_storage_buffers_per_shader_stage = 2);
        expect("three buffers of two", softmax::prepare(&kernels, &lse, Buffers::new(&x, &y).lse(&large)), |e| {
            matches!(e, Error { kind: ErrorKind::TooManyBindings { limit: 2, .. }, .. })
                && e.to_string().contains("(x, y, lse)")
        })?;
        let kernels = limited(|limits| limits.max_compute_workgroups_per_dimension = 1);
        let many = tile(Algorithm::Online, 1, 1, 1, Reduce::None);
        expect("too many workgroups", prepare_with(&kernels, &good, &many, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::TooManyWorkgroups { need: 4, limit: 1, .. }, .. })
        })?;
        // A read reports what no scope has caught.
        gpu.read(&x).map(drop)
    });
    suite.case("a buffer of another device", |gpu| {
        let other = Gpu::open(&gpu.adapter)?;
        let (x, y, lse) = (gpu.buffer(&[0; 256]), other.buffer(&[0; 256]), gpu.buffer(&[0; 4]));
        let problem = Problem { lse: Some(0), ..shape(1, 64) };
        match softmax::prepare(&gpu.kernels, &problem, Buffers::new(&x, &y).lse(&lse)) {
            Err(Error { op: "softmax", kind: ErrorKind::Gpu { .. } }) => gpu.read(&x).map(drop),
            other => Err(format!("{other:?}")),
        }
    });
}
