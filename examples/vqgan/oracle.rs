//! The decoder in f64 on the host, by its definition.

use super::host::{self, Layer, Picture};
use super::weights::Weights;
use super::{COARSEST, EPS, Result, Shape};

/// Layers by their names.
struct Host<'a> {
    weights: &'a Weights,
    shape: &'a Shape,
}

impl Host<'_> {
    fn conv(&self, name: &str, x: &Picture) -> Result<Picture> {
        let (weight, shape) = self.weights.any(&format!("{name}.weight"))?;
        let bias = host::exact(self.weights.of(&format!("{name}.bias"), &shape[..1])?);
        Ok(x.same(&Layer { outputs: shape[0], kernel: [shape[2], shape[3]], weight: host::exact(weight), bias }))
    }

    /// Group norm: each group's values less their mean, over their deviation.
    fn norm(&self, name: &str, x: &Picture) -> Result<Picture> {
        let vector = |part: &str| self.weights.of(&format!("{name}.{part}"), &[x.channels]).map(host::exact);
        let (weight, bias, plane) = (vector("weight")?, vector("bias")?, x.height * x.width);
        let own = x.channels / self.shape.groups;
        let each = own * plane;
        let mut y = x.clone();
        for (g, group) in y.values.chunks_mut(each).enumerate() {
            let mean = group.iter().sum::<f64>() / each as f64;
            let variance = group.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / each as f64;
            for (i, x) in group.iter_mut().enumerate() {
                let channel = g * own + i / plane;
                *x = (*x - mean) / (variance + f64::from(EPS)).sqrt() * weight[channel] + bias[channel];
            }
        }
        Ok(y)
    }

    fn active(&self, name: &str, x: &Picture) -> Result<Picture> {
        Ok(self.norm(name, x)?.map(|x| x * host::sigmoid(x)))
    }

    fn block(&self, name: &str, x: &Picture) -> Result<Picture> {
        let h = self.conv(&format!("{name}.conv1"), &self.active(&format!("{name}.norm1"), x)?)?;
        let h = self.conv(&format!("{name}.conv2"), &self.active(&format!("{name}.norm2"), &h)?)?;
        match h.channels == x.channels {
            true => Ok(h.plus(x)),
            false => Ok(h.plus(&self.conv(&format!("{name}.nin_shortcut"), x)?)),
        }
    }

    /// Attention of pixels, in one head.
    fn attention(&self, name: &str, x: &Picture) -> Result<Picture> {
        let n = self.norm(&format!("{name}.norm"), x)?;
        let [q, k, v] = ["q", "k", "v"].map(|part| self.conv(&format!("{name}.{part}"), &n));
        let (q, k, v, places) = (q?, k?, v?, x.height * x.width);
        let mut o = Picture::new([x.channels, x.height, x.width], vec![0.0; x.values.len()]);
        for i in 0..places {
            let dot =
                |j: usize| (0..x.channels).map(|c| q.values[c * places + i] * k.values[c * places + j]).sum::<f64>();
            let scores: Vec<f64> = (0..places).map(|j| dot(j) / (x.channels as f64).sqrt()).collect();
            let most = scores.iter().fold(f64::NEG_INFINITY, |most, &score| most.max(score));
            let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for (c, values) in v.values.chunks(places).enumerate() {
                o.values[c * places + i] = weights.iter().zip(values).map(|(w, v)| w * v).sum::<f64>() / sum;
            }
        }
        Ok(self.conv(&format!("{name}.proj_out"), &o)?.plus(x))
    }
}

/// The picture of these codes, `size` of them.
pub fn decode(weights: &Weights, shape: &Shape, codes: &[u32], [height, width]: [usize; 2]) -> Result<Picture> {
    let host = Host { weights, shape };
    let book = weights.of("quantize.embedding.weight", &[shape.codes, shape.code_dim])?;
    let vector = |c: usize, y: usize, x: usize| f64::from(book[codes[y * width + x] as usize * shape.code_dim + c]);
    let z = host.conv("post_quant_conv", &Picture::of([shape.code_dim, height, width], vector))?;
    let x = host.conv("decoder.conv_in", &z)?;
    let x = host.block("decoder.mid.block_1", &x)?;
    let x = host.attention("decoder.mid.attn_1", &x)?;
    let mut x = host.block("decoder.mid.block_2", &x)?;
    for level in (0..=COARSEST).rev() {
        for block in 0..shape.blocks {
            x = host.block(&format!("decoder.up.{level}.block.{block}"), &x)?;
            if level == COARSEST {
                x = host.attention(&format!("decoder.up.{level}.attn.{block}"), &x)?;
            }
        }
        if level > 0 {
            x = host.conv(&format!("decoder.up.{level}.upsample.conv"), &x.enlarged(2))?;
        }
    }
    host.conv("decoder.conv_out", &host.active("decoder.norm_out", &x)?)
}
