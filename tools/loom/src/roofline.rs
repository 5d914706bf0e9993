//! What an adapter can do at most, measured: bytes copied per second, f32 products added per second.

use std::cell::Cell;

use tileloom::wgpu::{self, util::DeviceExt};

use crate::Gpu;
use crate::pool::Pool;
use crate::stats::median;
use crate::timer::{Source, Timer};
use tileloom::Dtype;
use tileloom::caps::Class;

/// Operations of one round of `fma_chain`.
const ROUND: u64 = 64;

/// A pass to record, and its work: bytes or operations.
pub struct Program {
    pipeline: wgpu::ComputePipeline,
    /// The same on two outputs, by turns: what does not wait for its predecessor overlaps with it, as calls of a
    /// kernel on several input sets do.
    bind_groups: [wgpu::BindGroup; 2],
    turn: Cell<usize>,
    grid: [u32; 2],
    pub work: f64,
    /// How it was built, for the report.
    pub variant: String,
}

impl Program {
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        self.turn.set(1 - self.turn.get());
        pass.set_bind_group(0, &self.bind_groups[self.turn.get()], &[]);
        pass.dispatch_workgroups(self.grid[0], self.grid[1], 1);
    }
}

/// The programs that proved fastest on this adapter, and their rates.
pub struct Roofline {
    pub copy: Program,
    pub fma: Program,
    /// Bytes per second, read and written.
    pub copy_rate: f64,
    /// Operations per second.
    pub fma_rate: f64,
}

/// A vec4 of f32.
const VECTOR: u64 = 16;

struct Builder<'a> {
    gpu: &'a Gpu,
    source: wgpu::Buffer,
    sinks: [wgpu::Buffer; 2],
    vectors: u64,
}

impl Builder<'_> {
    /// `vectors` in all, `per` of them for an invocation; both powers of two.
    fn program(&self, entry: &str, wg_size: u32, vectors: u64, per: u32, fused: bool, rounds: u32) -> Program {
        let device = &self.gpu.device;
        let text = format!(
            "const WG_SIZE: u32 = {wg_size}u;\nconst PER: u32 = {per}u;\nconst FUSED: bool = {fused};\n{}",
            include_str!("roofline.wgsl")
        );
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some("roofline"), source: wgpu::ShaderSource::Wgsl(text.into()) };
        // As the kernels are compiled, which are held against it.
        // SAFETY: the grid is exact and the bindings hold `vectors`, so that no index leaves them; loops are counted.
        let module = unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: None,
            module: &module,
            entry_point: Some(entry),
            compilation_options: Default::default(),
            cache: None,
        });
        let count = device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: Some("rounds"),
            contents: bytemuck::cast_slice(&[rounds, 0, 0, 0]),
            usage: wgpu::BufferUsages::UNIFORM,
        });
        let bytes = wgpu::BufferSize::new(self.vectors * VECTOR);
        let whole = |buffer| wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size: bytes });
        let layout = pipeline.get_bind_group_layout(0);
        let bind_groups = [0, 1].map(|i| {
            let mut entries = vec![
                wgpu::BindGroupEntry { binding: 0, resource: whole(&self.source) },
                wgpu::BindGroupEntry { binding: 1, resource: whole(&self.sinks[i]) },
            ];
            if rounds > 0 {
                entries.push(wgpu::BindGroupEntry { binding: 2, resource: count.as_entire_binding() });
            }
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(entry),
                layout: &layout,
                entries: &entries,
            })
        });
        let workgroups = vectors / (wg_size * per) as u64;
        let fold = workgroups.div_ceil(32768).max(1); // below the 65,535 of every device
        let work = match rounds {
            0 => vectors * VECTOR * 2,
            _ => vectors * rounds as u64 * ROUND,
        };
        let variant = match rounds {
            0 => format!("{wg_size} invocations of {per} vec4"),
            _ => format!("{wg_size} invocations, {}", if fused { "fma" } else { "product and sum" }),
        };
        Program {
            pipeline,
            bind_groups,
            turn: Cell::new(0),
            grid: [(workgroups / fold) as u32, fold as u32],
            work: work as f64,
            variant,
        }
    }
}

impl Roofline {
    /// Builds the programs, and keeps the fastest of their variants. Sees to it that the timer's
    /// timestamps agree with wall time, or makes it go by wall time.
    ///
    /// # Errors
    /// A lost device.
    pub fn of(gpu: &Gpu, pool: &Pool, timer: &mut Timer, quick: bool) -> Result<Roofline, String> {
        let limits = gpu.device.limits();
        // More than a cache holds: 64 MiB, and 256 MiB where last-level caches are that large.
        let aim: u64 = if gpu.kernels.caps().class() == Class::Discrete { 256 << 20 } else { 64 << 20 };
        let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / 2 + 1;
        let bytes = aim.min(most.next_power_of_two());
        let vectors = bytes / VECTOR;
        let source = gpu.buffer(&pool.bytes(Dtype::F32, (bytes / 4) as usize, 0));
        let sinks = [0, 1].map(|_| gpu.buffer(&vec![0; bytes as usize]));
        let builder = Builder { gpu, source, sinks, vectors };

        let (memory, errors) = (gpu.device.push_error_scope(wgpu::ErrorFilter::Validation), 3);
        let copies = [(64, 1), (256, 1), (64, 8), (256, 4)]
            .map(|(wg_size, per)| builder.program("copy", wg_size, vectors, per, false, 0));
        let copy = fastest(timer, copies.into(), if quick { 2 } else { errors })?;
        timer.validate(&|pass| copy.0.record(pass))?;
        // By the clock that has proved right.
        let copy_seconds = time(timer, &copy.0, 3)?;
        let copy = (copy.0, copy_seconds);

        let lanes = if gpu.is_software() { 1 << 13 } else { vectors.min(1 << 20) };
        let aim = if gpu.is_software() { 0.02 } else { 0.005 };
        let mut chains = Vec::new();
        for fused in [true, false] {
            let mut rounds = 16;
            loop {
                let program = builder.program("fma_chain", 64, lanes, 1, fused, rounds);
                let seconds = time(timer, &program, 2)?;
                if seconds > aim || rounds >= 1 << 20 {
                    chains.push(program);
                    break;
                }
                rounds *= ((aim / seconds.max(1e-6)).ceil() as u32).clamp(2, 64).next_power_of_two();
            }
        }
        let fma = fastest(timer, chains, if quick { 2 } else { errors })?;
        if let Some(error) = pollster::block_on(memory.pop()) {
            return Err(format!("the roofline kernels do not run: {error}"));
        }
        Ok(Roofline { copy_rate: copy.0.work / copy.1, fma_rate: fma.0.work / fma.1, copy: copy.0, fma: fma.0 })
    }
}

/// Median seconds of a program, after one pass that does not count.
fn time(timer: &mut Timer, program: &Program, repeats: usize) -> Result<f64, String> {
    let pass: &dyn Fn(&mut wgpu::ComputePass<'_>) = &|pass| program.record(pass);
    timer.sample(&[pass])?;
    let mut samples = Vec::new();
    for _ in 0..repeats {
        samples.extend(timer.sample(&[pass])?);
    }
    Ok(median(&samples))
}

fn fastest(timer: &mut Timer, programs: Vec<Program>, repeats: usize) -> Result<(Program, f64), String> {
    let mut best: Option<(Program, f64)> = None;
    for program in programs {
        let seconds = time(timer, &program, repeats)?;
        let rate = program.work / seconds;
        if best.as_ref().is_none_or(|(program, seconds)| rate > program.work / seconds) {
            best = Some((program, seconds));
        }
    }
    best.ok_or_else(|| "no roofline kernel was given".into())
}

/// How the report names the clock.
pub fn clock(source: &Source) -> String {
    match source {
        Source::Timestamps => "GPU timestamps".into(),
        Source::Wall(reason) => format!("wall time ({reason})"),
    }
}
