//! The update of a bias on tensors.

use crate::moe_bias::{self, Buffers, Problem};
use crate::{Batch, ErrorKind, Result, Tensor};

const OP: &str = "moe_bias";

impl Tensor<f32> {
    /// Moves this bias, `[experts]` or `[layers, experts]`, by `gamma`: up where the count is below the mean, down where it is above.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for counts of another shape, and those of [`moe_bias::prepare`](crate::moe_bias::prepare) and [`Batch::submit`].
    pub fn moe_bias(&self, counts: &Tensor<u32>, gamma: f32) -> Result<()> {
        self.at_once(|batch| batch.moe_bias(self, counts, gamma))
    }
}

impl Batch {
    /// [`Tensor::moe_bias`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn moe_bias(&mut self, bias: &Tensor<f32>, counts: &Tensor<u32>, gamma: f32) -> Result<()> {
        self.own(OP, "bias", bias)?;
        self.own(OP, "counts", counts)?;
        let (rows, experts) = match *bias.shape() {
            [experts] => (1, experts),
            [rows, experts] => (rows, experts),
            _ => return Err(ErrorKind::shape("bias", bias.shape(), "[experts] or [layers, experts]").of(OP)),
        };
        if counts.shape() != bias.shape() {
            return Err(ErrorKind::shape("counts", counts.shape(), format!("{:?}", bias.shape())).of(OP));
        }
        let problem = Problem { rows, experts, gamma, ..Problem::default() };
        let buffers = Buffers::new(counts.buffer(), bias.buffer());
        let dispatch = moe_bias::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(())
    }
}
