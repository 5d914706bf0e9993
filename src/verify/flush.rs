//! Which adapters take subnormal numbers for 0.

use super::OP;
use super::image::Number;
use crate::{Dtype, Kernels, Result};

/// What an adapter flushes: numbers below the dtype's smallest normal one become 0 as they are read, written or worked
/// with, at least in some places. bf16 goes as f32, which it is worked with as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushes {
    pub f32: bool,
    pub f16: bool,
    /// Exponentials that are subnormal, where f32 is kept elsewhere, too.
    pub exp: bool,
}

impl Flushes {
    /// The smallest number of this dtype that the adapter is sure to keep; 0 where it keeps all.
    pub fn below(self, dtype: Dtype) -> f64 {
        match dtype {
            Dtype::F16 if self.f16 => dtype.smallest_normal(),
            _ if self.f32 || self.exp => Dtype::F32.smallest_normal(),
            _ => 0.0,
        }
    }

    /// What may become of a number that is stored so.
    pub fn value(self, number: Number, value: f64) -> f64 {
        match number {
            Number::F(dtype) if value.abs() < (Flushes { exp: false, ..self }).below(dtype) => 0.0_f64.copysign(value),
            _ => value,
        }
    }

    /// `kept`, or what is flushed.
    pub fn word(self) -> &'static str {
        match (self.f32, self.f16) {
            (false, false) if self.exp => "kept but by exp",
            (false, false) => "kept",
            (true, false) => "f32 flushed",
            (false, true) => "f16 flushed",
            (true, true) => "flushed",
        }
    }

    /// Asks the adapter.
    ///
    /// # Errors
    /// What it refuses, or a lost device.
    pub async fn of(kernels: &Kernels, queue: &wgpu::Queue) -> Result<Flushes> {
        let mut flushes = Flushes::default();
        for question in Question::all(kernels.caps().f16) {
            let found = run(kernels, queue, question.source, &question.given, question.bytes).await?;
            flushes = (question.told)(flushes, &found);
        }
        Ok(flushes)
    }
}

/// What an adapter is asked: one invocation of `flush`, which reads binding 0 and writes binding 1.
pub struct Question {
    pub source: &'static str,
    pub given: Vec<u8>,
    /// Bytes of the answer.
    pub bytes: u64,
    /// Adds what an answer tells.
    pub told: fn(Flushes, &[u8]) -> Flushes,
}

fn power(exponent: i32) -> f64 {
    2f64.powi(exponent)
}

impl Question {
    /// Those of f32 and packed halves, and on devices that have them of native halves.
    pub fn all(f16: bool) -> Vec<Question> {
        let words = [power(-130), power(-126), 0.5, power(24)];
        let halves = [power(-16), power(-14)];
        let mut all = vec![Question {
            source: include_str!("../../shaders/verify/flush.wgsl"),
            given: [Dtype::F32.encode(&words), Dtype::F16.encode(&halves)].concat(),
            bytes: 24,
            told: |flushes, bytes| {
                let want = [power(-106), power(-127), power(-103), power(-129), power(8)];
                let found = Dtype::F32.decode(bytes);
                let exp = (found[5] / power(-130) - 1.0).abs() > 0.01;
                Flushes { f32: found[..4] != want[..4], f16: flushes.f16 || found[4] != want[4], exp }
            },
        }];
        if f16 {
            all.push(Question {
                source: include_str!("../../shaders/verify/flush_f16.wgsl"),
                given: Dtype::F16.encode(&[power(-16), power(-14), 0.5, 1024.0]),
                bytes: 12,
                told: |flushes, bytes| {
                    let want = [power(-6), power(-15), power(-5), power(-15), power(-6), power(-15)];
                    Flushes { f16: flushes.f16 || Dtype::F16.decode(bytes) != want, ..flushes }
                },
            });
        }
        all
    }
}

/// One invocation of `flush`, on these bytes; so many come back.
async fn run(kernels: &Kernels, queue: &wgpu::Queue, source: &str, given: &[u8], bytes: u64) -> Result<Vec<u8>> {
    let device = kernels.device();
    let buffer = |size: u64| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("flush"),
            size,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    };
    let submit = || {
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("flush"),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("flush"),
            layout: None,
            module: &module,
            entry_point: Some("flush"),
            compilation_options: Default::default(),
            cache: None,
        });
        let (from, found) = (buffer(given.len() as u64), buffer(bytes));
        queue.write_buffer(&from, 0, given);
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("flush"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: from.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: found.as_entire_binding() },
            ],
        });
        let mut encoder = device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        }
        queue.submit([encoder.finish()]);
        Ok(found)
    };
    let found = kernels.later(OP, submit).await?;
    kernels.read(queue, &found, bytes).await.map_err(|kind| kind.of(OP))
}
