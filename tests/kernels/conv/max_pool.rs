//! Max pooling on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::kernels::conv::max_pool::shape;
use tileloom::conv::Order;
use tileloom::max_pool::{self, Buffers, Problem};
use tileloom::{Context, Error, ErrorKind, Layout, MaxPoolOptions};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("max_pool", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
}

fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let read = |t: &tileloom::Tensor<f32>| pollster::block_on(t.read());
        let x = context.upload(&[3f32, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0], &[1, 1, 2, 4])?;
        let by_two = MaxPoolOptions::by(2);
        let (y, places) = x.max_pool_indices(&by_two)?;
        assert_eq!((y.shape(), read(&y)?), (&[1, 1, 1, 2][..], vec![9.0, 6.0]));
        assert_eq!(pollster::block_on(places.read())?, [5, 7]);
        // One dimension, channels last: what is said of height does not count.
        let sound = x.reshape(&[1, 4, 2])?;
        let last = MaxPoolOptions { kernel: [7, 2], padding: [9, 9, 1, 0], order: Order::Nhwc, ..Default::default() };
        let y = sound.max_pool(&last)?;
        assert_eq!((y.shape(), read(&y)?), (&[1, 4, 2][..], vec![3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 5.0, 9.0]));
        let error = x.reshape(&[8])?.max_pool(&by_two).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "x", .. }), "{error}");
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let [x, y, indices] = [64, 64, 64].map(buffer);
    let buffers = Buffers::new(&x, &y).indices(&indices);
    let prepare = |problem: &Problem| max_pool::prepare(&gpu.kernels, problem, buffers);
    let good = shape(2, [4, 4], 3, 1, Order::Nchw);
    prepare(&good).map_err(|error| error.to_string())?;
    for (arg, problem) in [
        ("kernel", Problem { kernel: [0, 3], ..good }),
        ("stride", Problem { stride: [1, 0], ..good }),
        ("dilation", Problem { dilation: [1 << 21, 1], ..good }),
        ("padding", Problem { padding: [2, 0, 0, 0], ..good }),
        ("padding", Problem { kernel: [1, 1], padding: [0, 0, 0, 1], ..good }),
        ("size", Problem { kernel: [1 << 30, 1 << 30], dilation: [2, 2], ..good }),
        (
            "size",
            Problem { size: [1 << 17, 1 << 16], stride: [1 << 12; 2], x_layout: Layout::strided(0, [0; 3]), ..good },
        ),
        ("kernel", Problem { size: [1, 4], dilation: [2, 1], kernel: [2, 3], ..good }),
        ("kernel", Problem { size: [0, 4], kernel: [2, 3], ..good }),
        ("channels", Problem { channels: 1 << 32, ..good }),
        ("y", Problem { y_layout: Layout::strided(0, [32, 16, 3]), ..good }),
        ("indices", Problem { indices: Some(Layout::strided(0, [32, 16, 3])), ..good }),
    ] {
        invalid(arg, prepare(&problem))?;
    }
    refused("many channels", prepare(&Problem { channels: 5, ..good }), |e| {
        matches!(e, Error { op: "max_pool", kind: ErrorKind::BufferTooSmall { buffer: "x", need: 320, have: 256 } })
    })?;
    refused("indices that nobody wants", prepare(&Problem { indices: None, ..good }), |e| {
        matches!(e.kind, ErrorKind::UnusedBuffer { buffer: "indices" })
    })?;
    refused("y in x", max_pool::prepare(&gpu.kernels, &good, Buffers::new(&x, &x).indices(&indices)), |e| {
        matches!(e.kind, ErrorKind::Aliased { first: "x", second: "y", .. })
    })?;
    gpu.read(&y).map(drop)
}
