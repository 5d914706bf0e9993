//! A picture in twice its size: UpscalerJS's ESRGAN-slim (npm's @upscalerjs/esrgan-slim, MIT), a residual dense network (Zhang et al., 2018).
//!
//! ```text
//! x -> F_m1 -> F_0 = L_0              3 x 3
//! L_d = L_(d-1) + LFF_d [L_(d-1), relu(F_d_1 L_(d-1))]        3 x 3, then 1 x 1 of both
//! z = F_m1 + GFF_2 GFF_1 [L_1, L_2, ..]                       1 x 1 of all, then 3 x 3
//! y = SR enlarge(UPN3 relu(UPN2 relu(UPN1 z)))                5 x 5, 3 x 3, 3 x 3, each place repeated, 3 x 3
//! ```
//!
//! Everything is a convolution: relu, sums and the enlargement are parts of them, the weights are read as they lie in the package (HWIO),
//! and what is joined lies in one buffer, channels first, as views. Their number is the package's, so that its relatives (x3, x4, esrgan-medium)
//! work, too.

use std::path::Path;

use tileloom::activation::Activation;
use tileloom::conv::{self, Bias, Padding, Residual, WeightOrder};
use tileloom::{Context, Dispatch, Dtype, Layout, Tensor, axpby};

use super::host::{self, Layer, Picture};
use super::weights::Weights;
use super::{Agreement, Result, run};

/// A tensor's channels from this one on.
type Part<'a> = (&'a Tensor<f32>, usize);

struct Generator<'a> {
    context: &'a Context,
    weights: &'a Weights,
    /// Height and width of the picture.
    size: [usize; 2],
    steps: Vec<Dispatch>,
}

impl Generator<'_> {
    fn room(&self, channels: usize) -> Result<Tensor<f32>> {
        Ok(self.context.zeros(&[channels, self.size[0], self.size[1]])?)
    }

    /// The convolution of this name: of as many channels of `x` as it takes, to `y`, which has the size of `x` times `upsample`.
    fn conv(
        &mut self,
        name: &str,
        x: Part,
        y: Part,
        residual: Option<Part>,
        activation: Activation,
        upsample: usize,
    ) -> Result<()> {
        let (weight, shape) = self.weights.any(&format!("{name}/kernel"))?;
        let &[height, width, channels, outputs] = shape else { return Err(format!("{name}: {shape:?}").into()) };
        let bias = self.weights.of(&format!("{name}/bias"), &[outputs])?;
        let plane = self.size[0] * self.size[1];
        let at = |(_, channel): Part| Layout::at(channel * plane);
        let problem = conv::Problem {
            channels,
            outputs,
            size: self.size,
            kernel: [height, width],
            upsample: [upsample; 2],
            padding: Padding::Same,
            x_layout: at(x),
            weight_order: WeightOrder::Hwio,
            y_layout: at(y),
            bias: Some(Bias::of(Dtype::F32)),
            residual: residual.map(|part| Residual { layout: at(part), ..Residual::of(Dtype::F32) }),
            activation,
            ..Default::default()
        };
        let (weight, bias) = (self.context.upload(weight, shape)?, self.context.upload(bias, &[outputs])?);
        let mut buffers = conv::Buffers::new(x.0.buffer(), weight.buffer(), y.0.buffer()).bias(bias.buffer());
        if let Some((residual, _)) = residual {
            buffers = buffers.residual(residual.buffer());
        }
        self.steps.push(conv::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(())
    }

    /// `channels` from one tensor to another.
    fn copy(&mut self, x: Part, y: &Tensor<f32>, channels: usize) -> Result<()> {
        let plane = self.size[0] * self.size[1];
        let problem =
            axpby::Problem { cols: channels * plane, x_layout: Layout::at(x.1 * plane), ..Default::default() };
        let buffers = axpby::Buffers::new(x.0.buffer(), y.buffer());
        self.steps.push(axpby::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(())
    }

    /// Channels that the convolution of this name gives.
    fn outputs(&self, name: &str) -> Result<usize> {
        Ok(self.weights.any(&format!("{name}/bias"))?.0.len())
    }

    /// The picture `[3, height, width]`, enlarged.
    fn enlarge(&mut self, x: &Tensor<f32>) -> Result<Tensor<f32>> {
        use Activation::{None as Plain, Relu};
        let (wide, hidden, blocks) = (self.outputs("F_0")?, self.outputs("F_1_1")?, blocks(self.weights));
        let (first, fused, z) = (self.room(wide)?, self.room(wide)?, self.room(wide)?);
        let up1 = self.room(self.outputs("UPN1")?)?;
        let up2 = self.room(self.outputs("UPN2")?)?;
        let up3 = self.room(self.outputs("UPN3")?)?;
        let scale = (up3.shape()[0] / 3).isqrt();
        // A block's input with room behind it for what is joined to it; what all blocks give.
        let inputs: Vec<_> = (0..blocks).map(|_| self.room(wide + hidden)).collect::<Result<_>>()?;
        let all = self.room(wide * blocks)?;

        self.conv("F_m1", (x, 0), (&first, 0), None, Plain, 1)?;
        self.conv("F_0", (&first, 0), (&inputs[0], 0), None, Plain, 1)?;
        for (d, input) in inputs.iter().enumerate() {
            let (block, y) = (d + 1, (&all, d * wide));
            self.conv(&format!("F_{block}_1"), (input, 0), (input, wide), None, Relu, 1)?;
            self.conv(&format!("LFF_{block}"), (input, 0), y, Some((input, 0)), Plain, 1)?;
            if let Some(next) = inputs.get(block) {
                self.copy(y, next, wide)?;
            }
        }
        self.conv("GFF_1", (&all, 0), (&fused, 0), None, Plain, 1)?;
        self.conv("GFF_2", (&fused, 0), (&z, 0), Some((&first, 0)), Plain, 1)?;
        self.conv("UPN1", (&z, 0), (&up1, 0), None, Relu, 1)?;
        self.conv("UPN2", (&up1, 0), (&up2, 0), None, Relu, 1)?;
        self.conv("UPN3", (&up2, 0), (&up3, 0), None, Plain, 1)?;
        let y = self.context.zeros(&[3, scale * self.size[0], scale * self.size[1]])?;
        self.conv("SR", (&up3, 0), (&y, 0), None, Plain, scale)?;
        Ok(y)
    }
}

/// Residual dense blocks.
fn blocks(weights: &Weights) -> usize {
    (1..).take_while(|block| weights.any(&format!("LFF_{block}/kernel")).is_ok()).count()
}

/// The network in f64.
fn enlarged(weights: &Weights, x: &Picture) -> Result<Picture> {
    let conv = |name: &str, x: &Picture| -> Result<Picture> {
        let (values, shape) = weights.any(&format!("{name}/kernel"))?;
        let &[height, width, channels, outputs] = shape else { return Err(format!("{name}: {shape:?}").into()) };
        let mut weight = vec![0.0; values.len()];
        for (at, &value) in values.iter().enumerate() {
            let (tap, i, o) = (at / outputs / channels, at / outputs % channels, at % outputs);
            weight[(o * channels + i) * height * width + tap] = f64::from(value);
        }
        let bias = host::exact(weights.of(&format!("{name}/bias"), &[outputs])?);
        Ok(x.same(&Layer { outputs, kernel: [height, width], weight, bias }))
    };
    let first = conv("F_m1", x)?;
    let mut x = conv("F_0", &first)?;
    let mut all = Picture::new([0, x.height, x.width], Vec::new());
    for block in 1..=blocks(weights) {
        let hidden = conv(&format!("F_{block}_1"), &x)?.map(host::relu);
        x = conv(&format!("LFF_{block}"), &x.clone().beside(&hidden))?.plus(&x);
        all = all.beside(&x);
    }
    let z = conv("GFF_2", &conv("GFF_1", &all)?)?.plus(&first);
    let up = conv("UPN2", &conv("UPN1", &z)?.map(host::relu))?.map(host::relu);
    let up = conv("UPN3", &up)?;
    conv("SR", &up.enlarged((up.channels / 3).isqrt()))
}

/// Values 0 to 1: waves of colour, a disc and stripes.
fn drawn(height: usize, width: usize) -> Picture {
    Picture::of([3, height, width], |c, y, x| {
        let (fy, fx) = (y as f64 / height as f64, x as f64 / width as f64);
        let disc = (fx - 0.4).hypot(fy - 0.5) < 0.25;
        match (disc, (x + 2 * y) % 9 < 3 && fy > 0.7) {
            (true, _) => [0.9, 0.25, 0.1][c],
            (_, true) => [0.95, 0.9, 0.3][c],
            _ => 0.5 + 0.4 * (5.0 * fx + 3.0 * fy + 2.0 * c as f64).sin(),
        }
    })
}

/// The network on a drawn picture of 24 x 20, beside f64.
///
/// # Errors
/// Those of the kernels, and weights that are not there.
pub fn check(context: &Context, folder: &Path) -> Result<Agreement> {
    let weights = Weights::tfjs(&folder.join("esrgan_slim"))?;
    let size = [20, 24];
    let pixels: Vec<f32> = drawn(size[0], size[1]).values.iter().map(|&value| value as f32).collect();
    let x = context.upload(&pixels, &[3, size[0], size[1]])?;
    let mut generator = Generator { context, weights: &weights, size, steps: Vec::new() };
    let y = generator.enlarge(&x)?;
    let mut encoder = context.device().create_command_encoder(&Default::default());
    run(&mut encoder, &generator.steps);
    context.queue().submit([encoder.finish()]);
    let found = pollster::block_on(y.read())?;
    let expected = enlarged(&weights, &Picture::new([3, size[0], size[1]], host::exact(&pixels)))?;
    Ok(Agreement::new("esrgan_slim: pixels in twice the size", &found, &expected.values, 1e-4))
}
