//! Blocks of pixels to channels on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::kernels::conv::space_to_depth::{PLAIN, packed, shape};
use tileloom::conv::Order;
use tileloom::space_to_depth::{self, Buffers, Mode, Problem};
use tileloom::{Context, Error, ErrorKind, Layout};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("space_to_depth", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
    suite.case("bits of integers and of NaN", bits);
}

fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let read = |t: &tileloom::Tensor<f32>| pollster::block_on(t.read());
        let numbers: Vec<f32> = (0..16).map(|i| i as f32).collect();
        // PyTorch's pixel_unshuffle by 2 of one channel, and pixel_shuffle.
        let x = context.upload(&numbers, &[1, 1, 4, 4])?;
        let deep = x.space_to_depth([2, 2], Mode::Crd, Order::Nchw)?;
        let want = [0.0, 2.0, 8.0, 10.0, 1.0, 3.0, 9.0, 11.0, 4.0, 6.0, 12.0, 14.0, 5.0, 7.0, 13.0, 15.0];
        assert_eq!((deep.shape(), read(&deep)?), (&[1, 4, 2, 2][..], want.to_vec()));
        let wide = deep.depth_to_space([2, 2], Mode::Crd, Order::Nchw)?;
        assert_eq!((wide.shape(), read(&wide)?), (x.shape(), numbers.clone()));
        // Pictures of 2 x 2 and 2 x 4 patches of one element, and four patches of none.
        let patches = x.reshape(&[16, 1])?;
        let grids = context.upload(&[2u32, 2, 2, 4], &[2, 2])?;
        let merged = patches.merge_patches(&grids, [2, 2])?;
        let want = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 9.0, 6.0, 7.0, 10.0, 11.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!((merged.shape(), read(&merged)?), (&[4, 4][..], want.to_vec()));
        let split = merged.split_patches(&grids, [2, 2])?;
        assert_eq!((split.shape(), &read(&split)?[..12]), (&[16, 1][..], &numbers[..12]));
        for error in [
            patches.space_to_depth([2, 2], Mode::Dcr, Order::Nchw).unwrap_err(),
            x.depth_to_space([2, 2], Mode::Dcr, Order::Nchw).unwrap_err(),
            patches.merge_patches(&grids, [3, 1]).unwrap_err(),
        ] {
            assert!(matches!(error.kind, ErrorKind::Shape { arg: "x", .. }), "{error}");
        }
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Words that are no numbers, or small ones, are moved as they are.
fn bits(gpu: &Gpu) -> Result<(), String> {
    for (channels, order) in [(1, Order::Nchw), (4, Order::Nhwc)] {
        let problem = shape(channels, [2, 2], [2, 2], Mode::Dcr, order);
        let words: Vec<u32> =
            (0..channels * 16).map(|i| [i as u32, 0x7fa0_0001, u32::MAX, 0x8000_0003][i % 4]).collect();
        let (x, y) = (gpu.buffer(bytemuck::cast_slice(&words)), gpu.buffer(&vec![0; words.len() * 4]));
        let told = |error: Error| error.to_string();
        let forward =
            space_to_depth::prepare_with(&gpu.kernels, &problem, &PLAIN, Buffers::new(&x, &y)).map_err(told)?;
        let turned = Problem { inverse: true, ..problem };
        let back = space_to_depth::prepare_with(&gpu.kernels, &turned, &PLAIN, Buffers::new(&y, &x)).map_err(told)?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        forward.record(&mut encoder);
        encoder.clear_buffer(&x, 0, None);
        back.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let out = gpu.read(&x)?;
        if bytemuck::cast_slice::<u8, u32>(&out) != words {
            return Err(format!("{problem:?} changes bits"));
        }
    }
    Ok(())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let [x, y, grids] = [64, 64, 4].map(buffer);
    let prepare = |problem: &Problem| space_to_depth::prepare(&gpu.kernels, problem, Buffers::new(&x, &y));
    let good = shape(4, [2, 2], [2, 2], Mode::Dcr, Order::Nchw);
    prepare(&good).map_err(|error| error.to_string())?;
    let patches = packed(2, 4, 4, [2, 2]);
    let buffers = Buffers::new(&x, &y).grids(&grids);
    space_to_depth::prepare(&gpu.kernels, &patches, buffers).map_err(|error| error.to_string())?;
    for (arg, problem) in [
        ("block", Problem { block: [0, 2], ..good }),
        ("block", Problem { block: [1 << 16, 1 << 16], size: [1 << 16, 1 << 16], ..good }),
        ("size", Problem { size: [4, 5], ..good }),
        ("size", Problem { size: [1, 18], ..patches }),
        ("packed", Problem { mode: Mode::Crd, ..patches }),
        ("packed", Problem { order: Order::Nchw, ..patches }),
        ("packed", Problem { batch: 2, ..patches }),
        ("channels", Problem { channels: 1 << 30, ..good }),
        ("y", Problem { y_layout: Layout::strided(0, [64, 4, 1]), ..good }),
    ] {
        invalid(arg, prepare(&problem))?;
    }
    refused("many channels", prepare(&Problem { channels: 5, ..good }), |e| {
        matches!(
            e,
            Error { op: "space_to_depth", kind: ErrorKind::BufferTooSmall { buffer: "x", need: 320, have: 256 } }
        )
    })?;
    refused("no grids", prepare(&patches), |e| matches!(e.kind, ErrorKind::MissingBuffer { buffer: "grids" }))?;
    refused("grids of nobody", space_to_depth::prepare(&gpu.kernels, &good, buffers), |e| {
        matches!(e.kind, ErrorKind::UnusedBuffer { buffer: "grids" })
    })?;
    refused("many grids", space_to_depth::prepare(&gpu.kernels, &packed(3, 4, 4, [2, 2]), buffers), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "grids", need: 24, have: 16 })
    })?;
    refused("in place", space_to_depth::prepare(&gpu.kernels, &good, Buffers::new(&x, &x)), |e| {
        matches!(e.kind, ErrorKind::Aliased { first: "x", second: "y", .. })
    })?;
    gpu.read(&y).map(drop)
}
