//! Softmax on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::{Call, Output, same_bits};
use loom::kernels::rows::softmax::{odd, shape};
use loom::kernels::rows::{plain, tile};
use tileloom::softmax::{self, Algorithm, Buffers, Mask, MaskKind, Problem, Reduce, prepare_with};
use tileloom::{Caps, Dtype, Error, ErrorKind, Kernels, Layout, wgpu};

use crate::{Depth, Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("softmax", cases);

pub fn cases(suite: &mut Suite) {
    everywhere(suite);
    errors(suite);
    if suite.depth >= Depth::Wide {
        wide(suite);
    }
}

fn everywhere(suite: &mut Suite) {
    suite.case("two sizes in one encoder", |gpu| {
        // Parameters of the first must survive the second.
        let shapes = [(9, 17), (4, 33)];
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let mut calls = Vec::new();
        for (rows, cols) in shapes {
            let mask = Some(Mask::new(MaskKind::Bytes));
            let problem = odd(Problem { mask, lse: Some(0), ..shape(rows, cols) });
            let call = Call::random(problem, cols as u64).with("mask", vec![1.0; rows * cols]);
            let x = [&[0.0], &call.values["x"][..]].concat();
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
            let values = [("y", y), ("lse", Dtype::F32.decode(&gpu.read(&lse)?))].into();
            let verdict = call.judge(&Output { values, steps: Vec::new() });
            if !verdict.ok() {
                return Err(verdict.to_string());
            }
        }
        Ok(())
    });
    suite.case("what the adapter flushes is allowed, and needs it", |gpu| {
        let flushes = gpu.flushes();
        // Scores 0.5 and 0, or 0 and 0.
        let problem = odd(Problem { scale: 1e38, lse: Some(0), ..shape(1, 2) });
        let call = Call::new(problem, [("x", vec![5e-39, 0.0])].into());
        let (output, _) = call.check(gpu, &gpu.kernels, Some(&plain()))?;
        let kept = call.judge(&output).ok();
        // A GPU may flush at other places.
        match gpu.is_software() && kept == flushes.f32 {
            true => Err(format!("{flushes:?}, and the scores are kept: {kept}")),
            false => Ok(()),
        }
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
}

/// What one driver is enough for.
fn wide(suite: &mut Suite) {
    let caps = suite.gpu.kernels.caps();
    let no_subgroup = caps.subgroup.is_none().then_some("SUBGROUP");
    let no_trust = caps.trusted_subgroup_size().is_none().then_some("a subgroup size that can be trusted");
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
                let [with, without] = [reduce, Reduce::Tree].map(|reduce| {
                    let config = tile(algorithm, wg_size, lanes, keep, reduce);
                    call.check(gpu, &gpu.kernels, Some(&config)).map(|(output, _)| output.values["y"].clone())
                });
                let (with, without) = (with?, without?);
                let far = with.iter().zip(&without).position(|(a, b)| (a - b).abs() > 1e-6 * b.abs() + 1e-12);
                if let Some(i) = far {
                    return Err(format!("element {i}: {} with, {} without", with[i], without[i]));
                }
            }
            Ok(())
        });
    }
    suite.case("parameters in a uniform buffer", |gpu| {
        let caps = Caps { immediate_bytes: 0, ..(*gpu.kernels.caps()).clone() };
        let kernels = Kernels::new(&gpu.device, caps);
        let call = Call::random(Problem { lse: Some(0), ..shape(37, 64) }, 1);
        let (uniform, _) = call.check(gpu, &kernels, None)?;
        same_bits(&uniform.values, &call.run(gpu, &gpu.kernels, None)?.values)
    });
    suite.case("pooled scratch", |gpu| {
        let problem = shape(1, 20_000);
        let call = Call::random(problem, 1);
        let config = tile(Algorithm::Split, 8, 8, 4, Reduce::Tree);
        let (x, y) = (gpu.buffer(&Dtype::F32.encode(&call.values["x"])), gpu.buffer(&vec![0xff; 80_000]));
        let buffers = Buffers::new(&x, &y);
        let dispatch = prepare_with(&gpu.kernels, &problem, &config, buffers).map_err(|e| e.to_string())?;
        for _ in 0..2 {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            dispatch.record(&mut encoder);
            gpu.queue.submit([encoder.finish()]);
        }
        let values = [("y", Dtype::F32.decode(&gpu.read(&y)?))].into();
        let output = Output { values, steps: Vec::new() };
        let verdict = call.judge(&output);
        if verdict.ok() { Ok(()) } else { Err(verdict.to_string()) }
    });
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(suite: &mut Suite) {
    suite.case("errors", |gpu| {
        let kernels = &gpu.kernels;
        let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
        let (x, y) = (buffer(64), buffer(64));
        let good = shape(4, 16);
        let prepare = |problem: &Problem, buffers: Buffers| softmax::prepare(kernels, problem, buffers);
        let overlapping = Problem { dims: [1, 4], y_layout: Layout::strided(0, [0, 0, 15]), ..good };
        for (problem, arg) in [
            (Problem { dims: [0, 1], ..good }, "dims"),
            (Problem { dims: [1, 3], ..good }, "rows"),
            (Problem { cols: 1 << 33, ..good }, "cols"),
            (Problem { scale: f32::NAN, ..good }, "scale"),
            (Problem { cols: 0, lse: Some(0), ..good }, "lse"),
            (overlapping, "y_layout"),
        ] {
            invalid(arg, prepare(&problem, Buffers::new(&x, &y)))?;
        }
        let short = buffer(63);
        refused("a short x", prepare(&good, Buffers::new(&short, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "x", need: 256, have: 252, .. }, .. })
        })?;
        let half = |p| Problem { x: Dtype::F16, y: Dtype::F16, ..p };
        refused("an odd f16 row in 6 bytes of 8", prepare(&half(shape(1, 129)), Buffers::new(&y, &short)), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "x", need: 260, have: 256, .. }, .. })
        })?;
        let masked = Problem { mask: Some(Mask::new(MaskKind::Bits)), ..good };
        refused("no mask", prepare(&masked, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::MissingBuffer { buffer: "mask", .. }, .. })
        })?;
        refused("an lse too many", prepare(&good, Buffers::new(&x, &y).lse(&short)), |e| {
            matches!(e, Error { kind: ErrorKind::UnusedBuffer { buffer: "lse", .. }, .. })
        })?;
        let plain = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 256,
            usage: wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        refused("a buffer without STORAGE", prepare(&good, Buffers::new(&x, &plain)), |e| {
            matches!(e, Error { kind: ErrorKind::MissingUsage { buffer: "y", .. }, .. })
        })?;
        let align = kernels.caps().limits.min_storage_buffer_offset_alignment as u64;
        let large = buffer(256);
        let at = |offset| wgpu::BufferBinding { buffer: &large, offset, size: None };
        refused("a misaligned binding", prepare(&good, Buffers::new(at(align + 4), &y)), |e| {
            matches!(e, Error { kind: ErrorKind::Misaligned { buffer: "x", element_offset: 1, .. }, .. })
                && e.to_string().contains("add 1 elements")
        })?;
        let shifted = Problem { y_layout: Layout::at(8), ..good };
        refused("views that overlap in part", prepare(&shifted, Buffers::new(&large, &large)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "x", second: "y", .. }, .. })
        })?;
        let widened = Problem { y: Dtype::F16, ..good };
        refused("in place with two dtypes", prepare(&widened, Buffers::in_place(&x)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { .. }, .. })
        })?;
        let lse = Problem { lse: Some(0), ..good };
        refused("lse in y", prepare(&lse, Buffers::new(&x, &y).lse(&y)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "y", second: "lse", .. }, .. })
        })?;
        let far = Problem { x_layout: Layout::at(u32::MAX as usize), ..good };
        refused("an index past u32", prepare(&far, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::IndexOverflow { arg: "x", last: 0x1_0000_003e, .. }, .. })
        })?;
        let long = tile(Algorithm::Registers, 8, 1, 2, Reduce::None);
        refused("a row that the tile does not hold", prepare_with(kernels, &good, &long, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::ConfigUnfit { .. }, .. })
                && e.to_string().contains("chunks of a row, which lanes * keep hold: 4, at most 2 fit")
        })?;
        let three = tile(Algorithm::Online, 9, 3, 2, Reduce::Tree);
        refused("three lanes", prepare_with(kernels, &good, &three, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::ConfigUnfit { .. }, .. })
        })?;

        // Devices that allow less, by way of Caps.
        let limited = |change: fn(&mut wgpu::Limits)| {
            let mut caps = (*kernels.caps()).clone();
            change(&mut caps.limits);
            Kernels::new(&gpu.device, caps)
        };
        let kernels = limited(|limits| limits.max_storage_buffer_binding_size = 128);
        refused("a binding past the limit", softmax::prepare(&kernels, &good, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::BindingTooLarge { buffer: "x", need: 256, limit: 128, .. }, .. })
        })?;
        let kernels = limited(|limits| limits.max_storage_buffers_per_shader_stage = 2);
        refused("three buffers of two", softmax::prepare(&kernels, &lse, Buffers::new(&x, &y).lse(&large)), |e| {
            matches!(e, Error { kind: ErrorKind::TooManyBindings { limit: 2, .. }, .. })
                && e.to_string().contains("(x, y, lse)")
        })?;
        let kernels = limited(|limits| limits.max_compute_workgroups_per_dimension = 1);
        let many = tile(Algorithm::Online, 1, 1, 1, Reduce::None);
        refused("too many workgroups", prepare_with(&kernels, &good, &many, Buffers::new(&x, &y)), |e| {
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
