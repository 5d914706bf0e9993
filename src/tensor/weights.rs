//! Packed weights on a context's device.

use super::vq::vq_lookup::VqIndices;
use crate::vq_lookup::{self, Buffers, Problem};
use crate::weights::{Format, Packed};
use crate::{Batch, Context, Element, Result, Tensor};

/// A packed matrix W `[n, k]` on the device.
#[derive(Debug, Clone)]
pub struct Weights {
    /// How both buffers are laid out.
    pub format: Format,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub k: usize,
    /// The words of its codes.
    pub codes: Tensor<u32>,
    /// The words of its scales.
    pub scales: Tensor<u32>,
}

impl Context {
    /// Uploads packed weights.
    ///
    /// # Errors
    /// Those of [`upload`](Context::upload).
    pub fn upload_weights(&self, packed: &Packed) -> Result<Weights> {
        let Packed { format, n, k, codes, scales } = packed;
        let [codes, scales] = [codes, scales].map(|words| self.upload(words, &[words.len()]));
        Ok(Weights { format: *format, n: *n, k: *k, codes: codes?, scales: scales? })
    }
}

impl Weights {
    /// The rows that `indices` name, decoded: `[.., k]` of indices `[..]`. An index of no row gives zeros.
    ///
    /// # Errors
    /// Those of [`vq_lookup::prepare`](crate::vq_lookup::prepare) and [`Batch::submit`].
    pub fn vq_lookup<T: Element, I: VqIndices>(&self, indices: &Tensor<I>) -> Result<Tensor<T>> {
        let mut batch = self.codes.context().batch();
        let y = batch.vq_lookup_weights(self, indices)?;
        batch.submit()?;
        Ok(y)
    }
}

impl Batch {
    /// [`Weights::vq_lookup`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn vq_lookup_weights<T: Element, I: VqIndices>(
        &mut self,
        weights: &Weights,
        indices: &Tensor<I>,
    ) -> Result<Tensor<T>> {
        const OP: &str = "vq_lookup";
        self.own(OP, "codebook", &weights.codes)?;
        self.own(OP, "scales", &weights.scales)?;
        self.own(OP, "indices", indices)?;
        let problem = Problem {
            spatial: indices.len(),
            num_codes: weights.n,
            code_dim: weights.k,
            format: Some(weights.format),
            index: I::INDEX,
            y: T::DTYPE,
            ..Problem::default()
        };
        let shape = [indices.shape(), &[weights.k]].concat();
        let y: Tensor<T> = self.context().allocate(OP, &shape, None)?;
        let buffers =
            Buffers::new(indices.buffer(), weights.codes.buffer(), y.buffer()).scales(weights.scales.buffer());
        let dispatch = vq_lookup::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(y)
    }
}
