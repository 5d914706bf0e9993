//! Convolutions of one picture, x `[1, channels, height, width]`, weights `[outputs, channels / groups, height, width]`; tileloom also with
//! channels last.

use std::rc::Rc;

use burn::tensor::Tensor;
use burn::tensor::module::{conv2d, interpolate};
use burn::tensor::ops::{ConvOptions, InterpolateMode, InterpolateOptions};
use loom::harness::bench;
use tileloom::Dtype;
use tileloom::conv::{Order, Padding, Problem};

use crate::burn_side::{Set, burn};
use crate::candle_side::{Input, candle};
use crate::duel::{Duel, Inputs, Machine, Peer, tileloom};

fn shapes() -> [(&'static str, Problem); 13] {
    [
        ("7 x 7 by 2, 3 to 64 at 224", by(2, shape(3, 64, 224, [7, 7]))),
        ("1 x 1, 256 to 64 at 56", shape(256, 64, 56, [1, 1])),
        ("3 x 3, 64 to 64 at 56", shape(64, 64, 56, [3, 3])),
        ("3 x 3 by 2, 128 to 128 at 56", by(2, shape(128, 128, 56, [3, 3]))),
        ("3 x 3, 512 to 512 at 7", shape(512, 512, 7, [3, 3])),
        ("3 x 3, 128 to 128 at 128", shape(128, 128, 128, [3, 3])),
        ("3 x 3, 512 to 512 at 16", shape(512, 512, 16, [3, 3])),
        ("3 x 3, 256 to 256 at 32, enlarged to 64", Problem { upsample: [2, 2], ..shape(256, 256, 32, [3, 3]) }),
        ("depthwise 3 x 3, 144 at 56", depthwise(144, 56)),
        ("depthwise 3 x 3 by 2, 96 at 112", by(2, depthwise(96, 112))),
        ("15 x 1, 21 to 21 at 16", shape(21, 21, 16, [15, 1])),
        ("1 x 15, 21 to 21 at 16", shape(21, 21, 16, [1, 15])),
        ("3 x 3, 64 to 64 at 64", shape(64, 64, 64, [3, 3])),
    ]
}

/// With as much padding as keeps the size.
fn shape(channels: usize, outputs: usize, size: usize, kernel: [usize; 2]) -> Problem {
    let [y, x] = [kernel[0] / 2, kernel[1] / 2];
    Problem {
        channels,
        outputs,
        size: [size, size],
        kernel,
        padding: Padding::Sides([y, y, x, x]),
        ..Problem::default()
    }
}

fn by(stride: usize, problem: Problem) -> Problem {
    Problem { stride: [stride, stride], ..problem }
}

fn depthwise(channels: usize, size: usize) -> Problem {
    Problem { groups: channels, ..shape(channels, channels, size, [3, 3]) }
}

pub fn duels() -> Vec<Duel> {
    let duel = |(name, problem)| {
        let peers = [channels_last(problem), by_burn(problem)].into_iter().chain(by_candle(problem));
        Duel::new(bench(name, problem), peers.collect())
    };
    shapes().map(duel).into()
}

/// tileloom's, with channels last, on inputs of its own.
fn channels_last(problem: Problem) -> Peer {
    let prepare = move |machine: &Machine, inputs: &Rc<Inputs>| {
        let run = bench("nhwc", Problem { order: Order::Nhwc, ..problem });
        Ok(tileloom(&machine.gpu, None, &*run, &loom::pool::Pool::new(1), inputs.sets())?.1)
    };
    Peer { name: "tileloom NHWC", prepare: Box::new(prepare) }
}

fn by_burn(p: Problem) -> Peer {
    let upload = move |set: &Set| {
        let x = set.upload::<4>("x", Dtype::F32, [1, p.channels, p.size[0], p.size[1]])?;
        let kernel = [p.outputs, p.channels / p.groups, p.kernel[0], p.kernel[1]];
        Ok((x, set.upload::<4>("weight", Dtype::F32, kernel)?))
    };
    let op = move |(x, weight): (Tensor<4>, _)| {
        let enlarged =
            || InterpolateOptions::new(InterpolateMode::Nearest).with_scale_factor(p.upsample.map(|n| n as f32));
        let x = if p.upsample == [1, 1] { x } else { interpolate(x, enlarged()) };
        let padding = [p.kernel[0] / 2, p.kernel[1] / 2];
        conv2d(x, weight, None, ConvOptions::new(p.stride, padding, [1, 1], p.groups))
    };
    burn(upload, op, "y", 0.0)
}

/// candle pads all sides alike.
fn by_candle(p: Problem) -> Option<Peer> {
    let kernel = vec![p.outputs, p.channels / p.groups, p.kernel[0], p.kernel[1]];
    let x = Input::Tensor("x", Dtype::F32, vec![1, p.channels, p.size[0], p.size[1]]);
    let options = format!("{} {} {} {}", p.kernel[0] / 2, p.stride[0], p.groups, p.upsample[0]);
    let inputs = vec![x, Input::Tensor("weight", Dtype::F32, kernel)];
    (p.kernel[0] == p.kernel[1]).then(|| candle("conv2d", &options, inputs, "y"))
}
