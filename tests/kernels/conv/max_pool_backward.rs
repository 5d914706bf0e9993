//! The gradient of max pooling on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use loom::kernel::Values;
use loom::kernels::conv::max_pool::shape;
use loom::kernels::conv::max_pool_backward::of;
use tileloom::conv::Order;
use tileloom::max_pool_backward::{Buffers, Problem, prepare};
use tileloom::{Context, Dtype, Error, ErrorKind, Layout, MaxPoolOptions, max_pool};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("max_pool_backward", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
    suite.case("garbage for places counts for nothing", garbage);
}

/// Windows overlap, and have gaps; x is no square.
fn pooling(order: Order) -> max_pool::Problem {
    max_pool::Problem { dilation: [2, 1], ..shape(3, [9, 6], 3, 2, order) }
}

/// Words that are no place of a window: dx is 0, or what it was.
fn garbage(gpu: &Gpu) -> Result<(), String> {
    for order in [Order::Nchw, Order::Nhwc] {
        for add in [false, true] {
            let problem = Problem { add, ..of(pooling(order), Dtype::F32, Dtype::F32) };
            let mut values: Values = Call::random(problem, 5).values.clone();
            let words = [54u32, 0x7fff_ffff, 0x8000_0000, 0xdead_beef, u32::MAX].map(f64::from);
            let indices = values.get_mut("indices").expect("there are indices");
            indices.iter_mut().enumerate().for_each(|(i, place)| *place = words[i % words.len()]);
            let before = values.get("dx").cloned();
            let (found, _) = Call::new(problem, values).check(gpu, &gpu.kernels, None)?;
            let dx = &found.values["dx"];
            let same = before.map_or(dx.iter().all(|v| *v == 0.0), |before| before == *dx);
            if !same || dx.len() != 3 * 9 * 6 {
                return Err(format!("{order:?}, add {add}: {dx:?}"));
            }
        }
    }
    Ok(())
}

fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let x = context.upload(&[3f32, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0], &[1, 1, 2, 4])?;
        let by_two = MaxPoolOptions::by(2);
        let (y, places) = x.max_pool_indices(&by_two)?;
        let dx = y.max_pool_backward(&places, x.shape(), &by_two)?;
        let values = pollster::block_on(dx.read())?;
        assert_eq!((dx.shape(), values), (x.shape(), vec![0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 6.0]));
        let error = x.max_pool_backward(&places, x.shape(), &by_two).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "dy", .. }), "{error}");
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let [dy, indices, dx] = [64, 64, 64].map(buffer);
    let good = Problem { forward: shape(2, [4, 4], 3, 1, Order::Nchw), ..Problem::default() };
    let run = |problem: &Problem| prepare(&gpu.kernels, problem, Buffers::new(&dy, &indices, &dx));
    run(&good).map_err(|error| error.to_string())?;
    let without = max_pool::Problem { indices: None, ..good.forward };
    invalid("indices", run(&Problem { forward: without, ..good }))?;
    invalid("dx", run(&Problem { dx_layout: Layout::strided(0, [32, 16, 3]), ..good }))?;
    let padded = max_pool::Problem { padding: [2, 0, 0, 0], ..good.forward };
    invalid("padding", run(&Problem { forward: padded, ..good }))?;
    let many = max_pool::Problem { channels: 5, ..good.forward };
    refused("many channels", run(&Problem { forward: many, ..good }), |e| {
        matches!(e, Error { op: "max_pool_backward", kind: ErrorKind::BufferTooSmall { buffer: "dy", .. } })
    })?;
    refused("dx in dy", prepare(&gpu.kernels, &good, Buffers::new(&dy, &indices, &dy)), |e| {
        matches!(e.kind, ErrorKind::Aliased { first: "dy", second: "dx", .. })
    })?;
    gpu.read(&dx).map(drop)
}
