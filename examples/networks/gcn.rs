//! GCN's blocks (Peng et al., "Large Kernel Matters", 2017), with random weights: a global convolutional network, whose windows of 15 x 15
//! are two branches of 15 x 1 and 1 x 15 without anything between them, and a boundary refinement.
//!
//! ```text
//! s = row(column(x)) + column'(row'(x))           512 channels to 21 classes
//! y = s + conv(relu(conv(s)))                     3 x 3
//! ```
//!
//! Sums are the residuals of convolutions: four for the branches, two for the refinement, and no other op.

use std::path::Path;

use tileloom::activation::Activation;
use tileloom::conv::Padding;
use tileloom::verify::random::Random;
use tileloom::{Batch, Context, ConvOptions, Tensor};

use super::host::{self, Layer, Picture};
use super::{Agreement, Result};

/// What a ResNet-34 gives at its end for a picture of 512 x 512.
const CHANNELS: usize = 512;
const SIZE: usize = 16;
const CLASSES: usize = 21;
const LARGE: usize = 15;

/// Kernel and channels of the convolutions: a column and a row, a row and a column, the refinement.
const LAYERS: [([usize; 2], usize); 6] = [
    ([LARGE, 1], CHANNELS),
    ([1, LARGE], CLASSES),
    ([1, LARGE], CHANNELS),
    ([LARGE, 1], CLASSES),
    ([3, 3], CLASSES),
    ([3, 3], CLASSES),
];

/// Two branches, added, then refined, by weights and biases: `x` is `[n, CHANNELS, h, w]`.
fn forward(batch: &mut Batch, layers: &[[Tensor<f32>; 2]], x: &Tensor<f32>) -> Result<Tensor<f32>> {
    let mut conv = |layer: usize, x: &Tensor<f32>, residual: Option<&Tensor<f32>>, activation| {
        let [weight, bias] = &layers[layer];
        let options =
            ConvOptions { padding: Padding::Same, bias: Some(bias), residual, activation, ..Default::default() };
        batch.conv2d(x, weight, &options)
    };
    let left = conv(0, x, None, Activation::None)?;
    let left = conv(1, &left, None, Activation::None)?;
    let right = conv(2, x, None, Activation::None)?;
    let sum = conv(3, &right, Some(&left), Activation::None)?;
    let refined = conv(4, &sum, None, Activation::Relu)?;
    Ok(conv(5, &refined, Some(&sum), Activation::None)?)
}

/// The blocks on two random pictures, beside f64; `_` is for what has weights to read.
///
/// # Errors
/// Those of the kernels.
pub fn check(context: &Context, _: &Path) -> Result<Agreement> {
    let mut random = Random::new(15);
    let mut normal = |n: usize, scale: f64| -> Vec<f32> { (0..n).map(|_| (scale * random.normal()) as f32).collect() };
    let (mut layers, mut host) = (Vec::new(), Vec::new());
    for (kernel, channels) in LAYERS {
        let inputs = channels * kernel[0] * kernel[1];
        let weight = normal(CLASSES * inputs, 1.0 / (inputs as f64).sqrt());
        let bias = normal(CLASSES, 0.3);
        let shape = [CLASSES, channels, kernel[0], kernel[1]];
        layers.push([context.upload(&weight, &shape)?, context.upload(&bias, &[CLASSES])?]);
        host.push(Layer { outputs: CLASSES, kernel, weight: host::exact(&weight), bias: host::exact(&bias) });
    }
    let each = CHANNELS * SIZE * SIZE;
    let x = normal(2 * each, 1.0);

    let mut batch = context.batch();
    let y = forward(&mut batch, &layers, &context.upload(&x, &[2, CHANNELS, SIZE, SIZE])?)?;
    batch.submit()?;
    let found = pollster::block_on(y.read())?;

    let expected = x.chunks(each).flat_map(|x| {
        let x = Picture::new([CHANNELS, SIZE, SIZE], host::exact(x));
        let sum = x.same(&host[0]).same(&host[1]).plus(&x.same(&host[2]).same(&host[3]));
        sum.same(&host[4]).map(host::relu).same(&host[5]).plus(&sum).values
    });
    Ok(Agreement::new("gcn: scores of classes", &found, &expected.collect::<Vec<_>>(), 5e-5))
}
