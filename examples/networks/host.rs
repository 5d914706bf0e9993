//! Layers in f64 by their definitions, on the host: what kernels are held against. Nothing here calls the library.

use std::thread;

/// Pictures of one batch entry: `[channels, height, width]`. Sound has a height of 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub values: Vec<f64>,
}

/// Height and width.
pub type Pair = [usize; 2];

/// Weights of a layer: `[outputs, channels, kernel_h, kernel_w]`, and a bias per output.
pub struct Layer {
    pub outputs: usize,
    pub kernel: Pair,
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
}

pub fn relu(x: f64) -> f64 {
    x.max(0.0)
}

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// f32 values, exactly.
pub fn exact(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// The largest distance of two lists, infinite where one is no number or they are not as long.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    let far = |a: f64, b: f64| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() };
    match a.len() == b.len() {
        true => a.iter().zip(b).fold(0.0, |most, (&a, &b)| far(a, b).max(most)),
        false => f64::INFINITY,
    }
}

impl Picture {
    pub fn new([channels, height, width]: [usize; 3], values: Vec<f64>) -> Picture {
        assert_eq!(values.len(), channels * height * width, "values of {channels} x {height} x {width}");
        Picture { channels, height, width, values }
    }

    /// `place(channel, row, column)` of each.
    pub fn of([channels, height, width]: [usize; 3], place: impl Fn(usize, usize, usize) -> f64) -> Picture {
        let mut values = Vec::with_capacity(channels * height * width);
        for c in 0..channels {
            for y in 0..height {
                values.extend((0..width).map(|x| place(c, y, x)));
            }
        }
        Picture { channels, height, width, values }
    }

    pub fn at(&self, channel: usize, row: usize, column: usize) -> f64 {
        self.values[(channel * self.height + row) * self.width + column]
    }

    pub fn map(mut self, f: impl Fn(f64) -> f64) -> Picture {
        self.values.iter_mut().for_each(|value| *value = f(*value));
        self
    }

    pub fn plus(mut self, other: &Picture) -> Picture {
        self.values.iter_mut().zip(&other.values).for_each(|(value, other)| *value += other);
        self
    }

    /// The channels of both.
    pub fn beside(mut self, other: &Picture) -> Picture {
        self.channels += other.channels;
        self.values.extend_from_slice(&other.values);
        self
    }

    /// Each place repeated.
    pub fn enlarged(&self, by: usize) -> Picture {
        Picture::of([self.channels, self.height * by, self.width * by], |c, y, x| self.at(c, y / by, x / by))
    }

    /// Zeros around: top, bottom, left and right.
    pub fn padded(&self, [top, bottom, left, right]: [usize; 4]) -> Picture {
        Picture::of([self.channels, self.height + top + bottom, self.width + left + right], |c, y, x| {
            let (y, x) = (y.wrapping_sub(top), x.wrapping_sub(left));
            if y < self.height && x < self.width { self.at(c, y, x) } else { 0.0 }
        })
    }

    /// Columns mirrored behind the last, without it.
    pub fn mirrored(&self, right: usize) -> Picture {
        let width = self.width;
        Picture::of([self.channels, self.height, width + right], |c, y, x| {
            self.at(c, y, if x < width { x } else { 2 * (width - 1) - x })
        })
    }

    /// Convolution of what is there, by windows that lie in it.
    pub fn conv(&self, layer: &Layer, [down, across]: Pair) -> Picture {
        let (kernel, taps) = (layer.kernel, layer.kernel[0] * layer.kernel[1]);
        assert_eq!(layer.weight.len(), layer.outputs * self.channels * taps, "weights of {} channels", self.channels);
        let (height, width) = ((self.height - kernel[0]) / down + 1, (self.width - kernel[1]) / across + 1);
        let mut values = vec![0.0; layer.outputs * height * width];
        let one = |o: usize, plane: &mut [f64]| {
            plane.fill(layer.bias[o]);
            for (i, weights) in
                layer.weight[o * self.channels * taps..][..self.channels * taps].chunks(taps).enumerate()
            {
                for (y, row) in plane.chunks_mut(width).enumerate() {
                    for (tap, &weight) in weights.iter().enumerate() {
                        let (from_y, from_x) = (y * down + tap / kernel[1], tap % kernel[1]);
                        let from = &self.values[(i * self.height + from_y) * self.width + from_x..];
                        if across == 1 {
                            row.iter_mut().zip(from).for_each(|(sum, x)| *sum += weight * x);
                        } else {
                            row.iter_mut().enumerate().for_each(|(x, sum)| *sum += weight * from[x * across]);
                        }
                    }
                }
            }
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let each = layer.outputs.div_ceil(cores).max(1);
        thread::scope(|scope| {
            for (part, planes) in values.chunks_mut(each * height * width).enumerate() {
                let one = &one;
                scope.spawn(move || {
                    planes.chunks_mut(height * width).enumerate().for_each(|(i, plane)| one(part * each + i, plane));
                });
            }
        });
        Picture { channels: layer.outputs, height, width, values }
    }

    /// Convolution with zeros around, so that the size stays.
    pub fn same(&self, layer: &Layer) -> Picture {
        let [h, w] = layer.kernel.map(|taps| taps - 1);
        self.padded([h / 2, h - h / 2, w / 2, w - w / 2]).conv(layer, [1, 1])
    }
}
