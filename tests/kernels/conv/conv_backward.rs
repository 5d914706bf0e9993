//! Gradients of a convolution on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use loom::kernels::conv::conv_backward::{DIRECT, added, all, sums, through};
use loom::kernels::conv::{conv_transpose as transposed, depthwise, shape};
use tileloom::conv::{self, Activation, Border, Order, Padding};
use tileloom::conv_backward::{self, Buffers, Problem, SUMS_BYTES};
use tileloom::weights::Format;
use tileloom::{Context, ConvOptions, Dtype, Error, ErrorKind, Layout, conv_transpose};

use crate::{Depth, Suite, invalid, refused};

use Dtype::F32;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("conv_backward", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
    suite.case("dx alone", alone);
    suite.case("those of a transposed convolution", of_transposed);
    suite.case("nothing to compute takes no step", nothing);
    if suite.depth >= Depth::Full && suite.gpu.is_software() {
        suite.case("against the convolution", speed);
    }
}

/// Without sums, by the Config that the transposed convolution takes.
fn alone(gpu: &Gpu) -> Result<(), String> {
    for order in [Order::Nchw, Order::Nhwc] {
        let forward = conv::Problem { batch: 2, stride: [2, 1], ..shape(6, 9, 8, 3, order) };
        for problem in [Problem { dx: Some(F32), forward, ..Problem::default() }, added(all(forward))] {
            let problem = Problem { dweight: None, dbias: None, ..problem };
            Call::random(problem, 3).check(gpu, &gpu.kernels, None)?;
        }
    }
    Ok(())
}

/// Whose Problems are those of a convolution the other way.
fn of_transposed(gpu: &Gpu) -> Result<(), String> {
    for order in [Order::Nchw, Order::Nhwc] {
        let problem = conv_transpose::Problem { batch: 2, groups: 2, ..transposed::shape(4, 6, 5, 4, 2, order) };
        let gradients = conv_transpose::backward(&problem).map_err(|error| error.to_string())?;
        assert!(gradients.dz.is_none());
        let through = conv_transpose::Problem { activation: Activation::Relu, ..problem };
        let dz = conv_transpose::backward(&through).map_err(|error| error.to_string())?.dz.expect("an activation");
        Call::random(dz, 4).check(gpu, &gpu.kernels, None)?;
        let count = |(sizes, cols): ([usize; 3], usize)| sizes.iter().product::<usize>() * cols;
        assert_eq!(count(gradients.dx.x_sizes()), count(problem.y_sizes()));
        assert_eq!(count(gradients.dx.y_sizes()), count(problem.x_sizes()));
        assert_eq!(count(gradients.dweight.forward.weight_sizes()), count(problem.weight_sizes()));
        Call::random(gradients.dx, 1).check(gpu, &gpu.kernels, None)?;
        Call::random(gradients.dweight, 2).check(gpu, &gpu.kernels, None)?;
        Call::random(gradients.dbias, 3).check(gpu, &gpu.kernels, None)?;
    }
    let far = conv_transpose::Problem { output_padding: [2, 0], ..transposed::shape(4, 6, 5, 4, 2, Order::Nchw) };
    invalid("output_padding", conv_transpose::backward(&far))
}

/// Times of each gradient against those of the convolution, in turns.
fn speed(gpu: &Gpu) -> Result<(), String> {
    let told = |error: Error| error.to_string();
    let buffers = [(); 3].map(|()| gpu.buffer(&vec![0x3c; 4 << 20]));
    let [a, b, c] = &buffers;
    let mut slow = Vec::new();
    for order in [Order::Nchw, Order::Nhwc] {
        for (name, forward, most) in [
            ("3 x 3, 64 to 64 at 64 x 64", shape(64, 64, 64, 3, order), [1.3, 2.0]),
            ("3 x 3 by 2", conv::Problem { stride: [2, 2], ..shape(64, 64, 64, 3, order) }, [1.5, 2.0]),
            ("depthwise 7 x 7", depthwise(96, 56, 7, order), [1.3, 3.0]),
        ] {
            let dx = Problem { forward, dx: Some(F32), ..Problem::default() };
            let dweight = sums(forward);
            let dispatches = vec![
                conv::prepare(&gpu.kernels, &forward, conv::Buffers::new(a, b, c)).map_err(told)?,
                conv_backward::prepare(&gpu.kernels, &dx, Buffers::new(a).weight(b).dx(c)).map_err(told)?,
                conv_backward::prepare(
                    &gpu.kernels,
                    &dweight,
                    Buffers::new(a).x(b).dweight(c).dbias(&gpu.buffer(&vec![0; 4 * forward.outputs])),
                )
                .map_err(told)?,
            ];
            let best = super::best(gpu, &dispatches, 30)?;
            let shares = [best[1] / best[0], best[2] / best[0]];
            let line = format!(
                "{name} {}: {:.2} ms, dx {:.2}, dweight {:.2}",
                order.name(),
                1e3 * best[0],
                shares[0],
                shares[1]
            );
            super::told_by(gpu, &line);
            if shares[0] > 1.5 * most[0] || shares[1] > 1.5 * most[1] {
                slow.push(line);
            }
        }
    }
    if slow.is_empty() { Ok(()) } else { Err(slow.join("\n")) }
}

fn nothing(gpu: &Gpu) -> Result<(), String> {
    let first = shape(3, 4, 5, 3, Order::Nchw);
    for forward in [
        conv::Problem { outputs: 0, channels: 0, ..first },
        conv::Problem { size: [0, 5], padding: Padding::Sides([0; 4]), outputs: 0, ..first },
    ] {
        let output = Call::random(all(forward), 1).run(gpu, &gpu.kernels, None)?;
        if !output.steps.is_empty() {
            return Err(format!("{:?} ran", output.steps));
        }
    }
    Ok(())
}

/// [1 2; 3 4] by a kernel of 2 x 2; in one dimension.
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let read = |t: &tileloom::Tensor<f32>| pollster::block_on(t.read());
        let x = context.upload(&[1f32, 2.0, 3.0, 4.0], &[1, 1, 2, 2])?;
        let w = context.upload(&[1f32, 10.0, 100.0, 1000.0], &[1, 1, 2, 2])?;
        let dy = context.upload(&[2f32], &[1, 1, 1, 1])?;
        let gradients = x.conv2d_backward(&w, &dy, None, &ConvOptions::default())?;
        assert_eq!((gradients.dx.shape(), read(&gradients.dx)?), (&[1, 1, 2, 2][..], vec![2.0, 20.0, 200.0, 2000.0]));
        assert_eq!(
            (gradients.dweight.shape(), read(&gradients.dweight)?),
            (&[1, 1, 2, 2][..], vec![2.0, 4.0, 6.0, 8.0])
        );
        assert!(gradients.dbias.is_none());
        let sound = context.upload(&[1f32, 2.0, 3.0], &[1, 3, 1])?;
        let kernel = context.upload(&[1f32, 10.0], &[1, 1, 2])?;
        let dy = context.upload(&[1f32, 2.0, 4.0], &[1, 3, 1])?;
        let bias = context.upload(&[5f32], &[1])?;
        let padding = Padding::Sides([7, 7, 1, 0]);
        let causal = ConvOptions { padding, order: Order::Nhwc, bias: Some(&bias), ..Default::default() };
        let gradients = sound.conv1d_backward(&kernel, &dy, None, &causal)?;
        assert_eq!((gradients.dx.shape(), read(&gradients.dx)?), (&[1, 3, 1][..], vec![12.0, 24.0, 40.0]));
        assert_eq!((gradients.dweight.shape(), read(&gradients.dweight)?), (&[1, 1, 2][..], vec![10.0, 17.0]));
        assert_eq!(read(&gradients.dbias.expect("a bias"))?, [7.0]);
        // y = relu(z), of z 3 or -3.
        let relu = ConvOptions { activation: Activation::Relu, ..ConvOptions::default() };
        for (z, of_z) in [(3.0, 2.0), (-3.0, 0.0)] {
            let z = context.upload(&[z], &[1, 1, 1, 1])?;
            let dy = context.upload(&[2f32], &[1, 1, 1, 1])?;
            let gradients = x.conv2d_backward(&w, &dy, Some(&z), &relu)?;
            assert_eq!(read(&gradients.dz.expect("z was given"))?, [of_z]);
            assert_eq!(read(&gradients.dweight)?, [of_z, 2.0 * of_z, 3.0 * of_z, 4.0 * of_z]);
            let error = x.conv2d_backward(&w, &dy, None, &relu).unwrap_err();
            assert!(matches!(error.kind, ErrorKind::InvalidProblem { arg: "activation", .. }), "{error}");
            let error = x.conv2d_backward(&w, &dy, Some(&x), &relu).unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Shape { arg: "z", .. }), "{error}");
        }
        let error = x.conv2d_backward(&w, &x, None, &ConvOptions::default()).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "dy", .. }), "{error}");
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [x, weight, dy, dx, dweight, dbias] = [150, 108, 200, 150, 108, 4].map(|words| gpu.buffer(&vec![0; words * 4]));
    let forward = conv::Problem { batch: 2, ..shape(3, 4, 5, 3, Order::Nchw) };
    let good = all(forward);
    let buffers = Buffers::new(&dy).x(&x).weight(&weight).dx(&dx).dweight(&dweight).dbias(&dbias);
    let prepare = |problem: &Problem| conv_backward::prepare(&gpu.kernels, problem, buffers);
    prepare(&good).map_err(|error| error.to_string())?;
    for (arg, problem) in [
        ("groups", all(conv::Problem { groups: 0, ..forward })),
        ("stride", all(conv::Problem { stride: [1, 0], ..forward })),
        (
            "padding",
            all(conv::Problem { border: Border::Reflect, padding: conv::Padding::Sides([0, 0, 5, 0]), ..forward }),
        ),
        ("dx", Problem { dx_layout: Layout::strided(0, [75, 25, 4]), ..good }),
    ] {
        invalid(arg, prepare(&problem))?;
    }
    let packed = all(conv::Problem { format: Some(Format::Q8_0), ..forward });
    invalid("format", prepare(&packed))?;
    invalid("format", packed.transposed(Dtype::F32))?;
    refused("many pictures", prepare(&all(conv::Problem { batch: 3, ..forward })), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "dy", need: 1200, have: 800 })
    })?;
    refused("dweight", prepare(&Problem { dweight: Some(1), ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "dweight", need: 436, have: 432 })
    })?;
    refused("no dx", prepare(&Problem { dx: None, ..good }), |error| {
        matches!(error.kind, ErrorKind::UnusedBuffer { buffer: "weight" })
    })?;
    let bare = Buffers::new(&dy).x(&x).weight(&weight).dx(&dx).dbias(&dbias);
    refused("no dweight", conv_backward::prepare(&gpu.kernels, &good, bare), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "dweight" })
    })?;
    refused("dx upon x", conv_backward::prepare(&gpu.kernels, &good, buffers.dx(&x)), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })?;
    let [z, dz] = [200, 200].map(|words| gpu.buffer(&vec![0; words * 4]));
    let whole = through(Activation::Silu, forward);
    let apart = buffers.z(&z).dz(&dz);
    for buffers in [apart, apart.dz(&z), apart.dz(&dy)] {
        conv_backward::prepare(&gpu.kernels, &whole, buffers).map_err(|error| error.to_string())?;
    }
    refused("z without dz", conv_backward::prepare(&gpu.kernels, &good, buffers.z(&z)), |error| {
        matches!(error.kind, ErrorKind::UnusedBuffer { buffer: "z" })
    })?;
    refused("dz without a buffer", conv_backward::prepare(&gpu.kernels, &whole, buffers.z(&z)), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "dz" })
    })?;
    refused("dz upon x", conv_backward::prepare(&gpu.kernels, &whole, apart.x(&dz)), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })?;
    refused("short z", conv_backward::prepare(&gpu.kernels, &whole, apart.z(&weight)), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "z", need: 800, have: 432 })
    })?;
    let snake = Problem { forward: conv::Problem { snake: Some(0), ..forward }, dz: Some(F32), ..good };
    invalid("snake", prepare(&snake))?;
    refused("little scratch", conv_backward::prepare(&gpu.kernels, &good, buffers.scratch(&dbias)), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "scratch", .. })
    })?;
    // Sums of many parts.
    let large = sums(conv::Problem { channels: 256, outputs: 256, ..forward });
    let parts = (SUMS_BYTES / (4 * 9 * 256 * 256)) as u32 + 1;
    let many = conv_backward::Config { parts, ..DIRECT };
    refused("parts", conv_backward::prepare_with(&gpu.kernels, &large, &many, buffers), |error| {
        matches!(error.kind, ErrorKind::ConfigUnfit { .. })
    })
}
