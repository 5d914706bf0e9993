//! The programs that ceilings are measured by, and what each must compute.

use std::cell::Cell;
use std::fmt::Write;

use tileloom::Dtype;
use tileloom::caps::{Class, CoopScalar, CoopShape};
use tileloom::wgpu;

use crate::Gpu;
use crate::pool::Pool;

/// Rounds of a loop, below what drivers are known to cut loops at.
pub const MOST_ROUNDS: u32 = 1 << 15;
/// A vec4 of words.
const VECTOR: u64 = 16;
/// Steps of each chain in a round: even, so that only the number of rounds is not told by the result.
const STEPS: u32 = 8;
/// Vectors of the tile in workgroup memory: 16 KiB.
const TILE: u32 = 1024;
/// Elements before the sums of matrices.
const COUNT: u32 = 64;
/// Elements of other sinks.
const WORDS: &str = "vec4<u32>";
/// Bytes of a sink that are read back at most.
const READ_BACK: u64 = 4 << 20;

/// What a sink must hold, first words first; `None` where nothing is written. `rounds` as they ran.
type Expect = Box<dyn Fn(u32) -> Vec<(usize, u32)>>;

/// A pass to record, and its work: bytes or operations.
pub struct Program {
    pipeline: wgpu::ComputePipeline,
    /// The same on two outputs, by turns: what does not wait for its predecessor overlaps with it, as calls of a
    /// kernel on several input sets do.
    bind_groups: [wgpu::BindGroup; 2],
    sinks: [wgpu::Buffer; 2],
    count: wgpu::Buffer,
    turn: Cell<usize>,
    grid: [u32; 2],
    /// Dispatches of a pass.
    times: u32,
    pub work: f64,
    /// How it was built, for the report.
    pub variant: String,
    rounds: u32,
    /// Work without rounds, and per round.
    per_round: [f64; 2],
    expect: Expect,
    /// The first element of the sink tells how many subgroups a workgroup has, in f16 or not: the work is as many times as
    /// large.
    subgroups: Option<bool>,
}

impl Program {
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        for _ in 0..self.times {
            self.turn.set(1 - self.turn.get());
            pass.set_bind_group(0, &self.bind_groups[self.turn.get()], &[]);
            pass.dispatch_workgroups(self.grid[0], self.grid[1], 1);
        }
    }

    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    pub fn set_rounds(&mut self, builder: &Builder, rounds: u32) {
        self.rounds = rounds;
        self.work = self.per_round[0] + self.per_round[1] * rounds as f64;
        builder.gpu.queue.write_buffer(&self.count, 0, bytemuck::bytes_of(&rounds));
    }

    /// Overwrites what a run must write.
    pub fn poison(&self, gpu: &Gpu) {
        for sink in &self.sinks {
            gpu.queue.write_buffer(sink, 0, &vec![0xa5; sink.size().min(READ_BACK) as usize]);
        }
    }

    /// Whether the last runs computed what they must.
    ///
    /// # Errors
    /// What they did not, or a lost device.
    pub fn check(&mut self, gpu: &Gpu) -> Result<(), String> {
        for sink in &self.sinks {
            let words = read_front(gpu, sink)?;
            for (at, expected) in (self.expect)(self.rounds) {
                if words[at] != expected {
                    return Err(format!("word {at} is {:#010x}, not {expected:#010x}", words[at]));
                }
            }
            if let Some(half) = self.subgroups.take() {
                let told = if half { half::f16::from_bits(words[0] as u16).to_f32() } else { f32::from_bits(words[0]) };
                if !(1.0..=128.0).contains(&told) {
                    return Err(format!("a workgroup has {told} subgroups"));
                }
                self.per_round = self.per_round.map(|work| work * told as f64);
                self.work *= told as f64;
            }
        }
        Ok(())
    }
}

/// The first words of a buffer.
fn read_front(gpu: &Gpu, buffer: &wgpu::Buffer) -> Result<Vec<u32>, String> {
    let bytes = buffer.size().min(READ_BACK);
    let front = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("roofline read back"),
        size: bytes,
        usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &front, 0, bytes);
    gpu.queue.submit([encoder.finish()]);
    Ok(gpu.read(&front)?.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
}

/// Chains of products and sums: of vectors of this many numbers, so many of them.
#[derive(Debug, Clone, Copy)]
pub struct Chain {
    pub wg: u32,
    pub width: u32,
    pub chains: u32,
    /// `fma`, else a product and a sum.
    pub fused: bool,
    /// In f16.
    pub half: bool,
}

/// What programs are built of.
pub struct Builder<'a> {
    gpu: &'a Gpu,
    source: wgpu::Buffer,
    /// The first words of the source, as many as are read back.
    words: Vec<u32>,
    sinks: [wgpu::Buffer; 2],
    vectors: u64,
    lanes: u64,
    /// Seconds of a sample, at least.
    pub aim: f64,
}

/// A program before it is compiled.
struct Plan {
    entry: &'static str,
    text: String,
    workgroups: u64,
    variant: String,
    rounds: u32,
    per_round: [f64; 2],
    expect: Expect,
    subgroups: Option<bool>,
}

impl<'a> Builder<'a> {
    pub fn new(gpu: &'a Gpu, pool: &Pool) -> Builder<'a> {
        let limits = gpu.device.limits();
        // More than a cache holds: 64 MiB, and 256 MiB where last-level caches are that large.
        let aim: u64 = if gpu.kernels.caps().class() == Class::Discrete { 256 << 20 } else { 64 << 20 };
        let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / 2 + 1;
        let bytes = aim.min(most.next_power_of_two());
        let vectors = bytes / VECTOR;
        let values = pool.bytes(Dtype::F32, (bytes / 4) as usize, 0);
        let front = &values[..values.len().min(READ_BACK as usize * 4)];
        let words =
            front.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
        let source = gpu.buffer(&values);
        let sinks = [0, 1].map(|_| gpu.buffer(&vec![0; bytes as usize]));
        let software = gpu.is_software();
        let lanes = if software { 1 << 13 } else { vectors.min(1 << 20) };
        Builder { gpu, source, words, sinks, vectors, lanes, aim: if software { 0.02 } else { 0.005 } }
    }

    fn build(&self, plan: Plan) -> Result<Program, String> {
        use wgpu::util::DeviceExt;
        let device = &self.gpu.device;
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some("roofline"),
            source: wgpu::ShaderSource::Wgsl(plan.text.into()),
        };
        // As the kernels are compiled, which are held against it.
        // SAFETY: the grid is exact and the bindings hold `vectors`, so that no index leaves them; loops are counted.
        let module = unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
        let storage = |read_only| wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only },
            has_dynamic_offset: false,
            min_binding_size: None,
        };
        let uniform = wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Uniform,
            has_dynamic_offset: false,
            min_binding_size: None,
        };
        let entries: Vec<_> = [storage(true), storage(false), uniform]
            .into_iter()
            .enumerate()
            .map(|(i, ty)| wgpu::BindGroupLayoutEntry {
                binding: i as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty,
                count: None,
            })
            .collect();
        let layout =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(plan.entry),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(plan.entry),
            // What is read of workgroup memory is written before.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        // Rounds; -1 and 3, which nobody may know when compiling.
        let count = device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: Some("rounds"),
            contents: bytemuck::cast_slice(&[plan.rounds, (-1f32).to_bits(), 3f32.to_bits(), 0]),
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        });
        let bytes = wgpu::BufferSize::new(self.vectors * VECTOR);
        let whole = |buffer| wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size: bytes });
        let bind_groups = [0, 1].map(|i| {
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(plan.entry),
                layout: &layout,
                entries: &[
                    wgpu::BindGroupEntry { binding: 0, resource: whole(&self.source) },
                    wgpu::BindGroupEntry { binding: 1, resource: whole(&self.sinks[i]) },
                    wgpu::BindGroupEntry { binding: 2, resource: count.as_entire_binding() },
                ],
            })
        });
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(format!("{}: {error}", plan.variant));
        }
        let fold = plan.workgroups.div_ceil(32768).max(1); // below the 65,535 of every device
        Ok(Program {
            pipeline,
            bind_groups,
            sinks: self.sinks.clone(),
            count,
            turn: Cell::new(0),
            grid: [(plan.workgroups / fold) as u32, fold as u32],
            times: 1,
            work: plan.per_round[0] + plan.per_round[1] * plan.rounds as f64,
            variant: plan.variant,
            rounds: plan.rounds,
            per_round: plan.per_round,
            expect: plan.expect,
            subgroups: plan.subgroups,
        })
    }

    /// Bytes read and written; powers of two.
    pub fn copy(&self, wg: u32, per: u32) -> Result<Program, String> {
        let front: Vec<_> = (0..4096)
            .chain((READ_BACK as usize / 4) - 4096..READ_BACK as usize / 4)
            .map(|i| (i, self.words[i]))
            .collect();
        self.build(Plan {
            entry: "copy",
            text: memory(wg, per),
            workgroups: self.vectors / (wg * per) as u64,
            variant: format!("{wg} invocations of {per} vec4"),
            rounds: 0,
            per_round: [(self.vectors * VECTOR * 2) as f64, 0.0],
            expect: Box::new(move |_| front.clone()),
            subgroups: None,
        })
    }

    /// Bytes read; their sums are written.
    pub fn read(&self, wg: u32, per: u32) -> Result<Program, String> {
        let mut sums = Vec::new();
        for lane in (0..(2 * wg) as usize).step_by(7) {
            let (number, lane) = (lane / wg as usize, lane % wg as usize);
            for c in 0..4 {
                let at = |i| ((number * per as usize + i) * wg as usize + lane) * 4 + c;
                let sum = (0..per as usize).fold(0u32, |sum, i| sum.wrapping_add(self.words[at(i)]));
                sums.push(((number * wg as usize + lane) * 4 + c, sum));
            }
        }
        let bytes = self.vectors * VECTOR;
        self.build(Plan {
            entry: "take",
            text: memory(wg, per),
            workgroups: self.vectors / (wg * per) as u64,
            variant: format!("{wg} invocations of {per} vec4"),
            rounds: 0,
            per_round: [(bytes + bytes / per as u64) as f64, 0.0],
            expect: Box::new(move |_| sums.clone()),
            subgroups: None,
        })
    }

    /// So many dispatches of one workgroup, which copies 64 vec4.
    pub fn touch(&self, times: u32) -> Result<Program, String> {
        let first: Vec<_> = (0..256).map(|i| (i, self.words[i])).collect();
        let program = self.copy(64, 1)?;
        let (work, variant) = (times.into(), format!("{times} of a workgroup each"));
        Ok(Program { grid: [1, 1], times, work, variant, expect: Box::new(move |_| first.clone()), ..program })
    }

    /// Lanes whose results are checked.
    fn some_lanes(&self) -> impl Iterator<Item = usize> + use<> {
        let last = self.lanes.min(READ_BACK / VECTOR) as usize;
        (0..128).chain(last - 128..last)
    }

    /// Loads of vectors of `width` words from workgroup memory, summed up.
    pub fn tile(&self, wg: u32, width: u32, rounds: u32) -> Result<Program, String> {
        let (ty, size) = (vector("u32", width), TILE * 4 / width);
        let mut text = head(wg, WORDS);
        let _ = writeln!(text, "var<workgroup> tile: array<{ty}, {size}>;");
        let loads: String = (0..STEPS).map(|j| format!(" sum += tile[(at + {}u) & {}u];", j * wg, size - 1)).collect();
        let element = match width {
            4 => "source[i]".to_string(),
            2 => "vec2<u32>(source[i / 2u][i % 2u * 2u], source[i / 2u][i % 2u * 2u + 1u])".into(),
            _ => "source[i / 4u][i % 4u]".into(),
        };
        let out = match width {
            4 => "sum".to_string(),
            2 => "vec4<u32>(sum, 0u, 0u)".into(),
            _ => "vec4<u32>(sum, 0u, 0u, 0u)".into(),
        };
        let _ = write!(
            text,
            "{}for (var i = lane; i < {size}u; i += WG_SIZE) {{ tile[i] = {element}; }}\nworkgroupBarrier();\n\
             var sum = {ty}();\nfor (var i = 0u; i < rounds.x; i++) {{ let at = lane + i;{loads} }}\n\
             sink[id] = {out};\n}}\n",
            main("")
        );
        let words = self.words[..(TILE * 4) as usize].to_vec();
        let lanes: Vec<usize> = self.some_lanes().step_by(8).collect();
        let expect = move |rounds: u32| {
            let mut all = Vec::new();
            for &id in &lanes {
                let lane = id as u32 % wg;
                let mut sums = vec![0u32; width as usize];
                for (i, j) in (0..rounds).flat_map(|i| (0..STEPS).map(move |j| (i, j))) {
                    let at = ((lane + i + j * wg) & (size - 1)) * width;
                    for c in 0..width {
                        sums[c as usize] = sums[c as usize].wrapping_add(words[(at + c) as usize]);
                    }
                }
                all.extend(sums.into_iter().enumerate().map(|(c, sum)| (id * 4 + c, sum)));
            }
            all
        };
        self.build(Plan {
            entry: "main",
            text,
            workgroups: self.lanes / wg as u64,
            variant: format!("{wg} invocations, loads of {} bytes", 4 * width),
            rounds,
            per_round: [0.0, (self.lanes * (STEPS * width * 4) as u64) as f64],
            expect: Box::new(expect),
            subgroups: None,
        })
    }

    /// Each step takes a to 3 - a, by -1 and 3 that come in at run time: exact in f32 and f16, and never at rest. The rounds
    /// are even in steps and one more step follows, so that the result is 3 - a; the loop's counter is stored beside it.
    pub fn chain(&self, shape: Chain, rounds: u32) -> Result<Program, String> {
        let Chain { wg, width, chains, fused, half } = shape;
        let number = if half { "f16" } else { "f32" };
        let ty = vector(number, width);
        let mut text = if half { "enable f16;\n".to_string() } else { String::new() };
        text += &head(wg, WORDS);
        let first = match width {
            4 => "words",
            2 => "words.xy",
            _ => "words.x",
        };
        let step = |i: u32| match fused {
            true => format!(" a{i} = fma(a{i}, factor, shift);"),
            false => format!(" a{i} = a{i} * factor + shift;"),
        };
        let shifts = |i: u32| splat("u32", width, &format!("{}u", i % 20));
        let masks = splat("u32", width, "1023u");
        let starts: String = (0..chains)
            .map(|i| {
                let start = format!("{ty}(({first} >> {}) & {masks})", shifts(i));
                format!("var a{i} = {start} / {} + {};\n", splat(number, width, "1024.0"), splat(number, width, "1.0"))
            })
            .collect();
        let steps: String = (0..STEPS).flat_map(|_| (0..chains).map(step)).collect();
        // Bits, since sums would round.
        let bits = |a: String| match (half, width) {
            (false, 4) => format!("bitcast<vec4<u32>>({a})"),
            (false, 2) => format!("vec4<u32>(bitcast<vec2<u32>>({a}), 0u, 0u)"),
            (false, _) => format!("vec4<u32>(bitcast<u32>({a}), 0u, 0u, 0u)"),
            (true, 4) => {
                let half = |part: &str| format!("pack2x16float(vec2<f32>({a}.{part}))");
                format!("vec4<u32>({}, {}, 0u, 0u)", half("xy"), half("zw"))
            }
            (true, 2) => format!("vec4<u32>(pack2x16float(vec2<f32>({a})), 0u, 0u, 0u)"),
            (true, _) => format!("vec4<u32>(pack2x16float(vec2<f32>(f32({a}), 0.0)), 0u, 0u, 0u)"),
        };
        let ends: String = (0..chains).map(|i| format!("{}\nall ^= {};\n", step(i), bits(format!("a{i}")))).collect();
        let _ = write!(
            text,
            "{}let words = source[id];\nlet factor = {ty}({number}(bitcast<f32>(rounds.y)));\n\
             let shift = {ty}({number}(bitcast<f32>(rounds.z)));\n{starts}var i = 0u;\n\
             for (; i < rounds.x; i++) {{{steps} }}\nvar all = vec4<u32>(0u);\n{ends}all.w ^= i;\nsink[id] = all;\n}}\n",
            main("")
        );
        let words = self.words[..(READ_BACK / 4) as usize].to_vec();
        let lanes: Vec<usize> = self.some_lanes().collect();
        let expect = move |rounds: u32| {
            let mut all = Vec::new();
            for &id in &lanes {
                let mut bits = [0u32; 4];
                for i in 0..chains {
                    let number = |c: u32| {
                        let word = words[id * 4 + c as usize];
                        3.0 - (1.0 + ((word >> (i % 20)) & 1023) as f32 / 1024.0)
                    };
                    for c in 0..width {
                        match half {
                            false => bits[c as usize] ^= number(c).to_bits(),
                            true => {
                                let half = half::f16::from_f32(number(c)).to_bits() as u32;
                                bits[c as usize / 2] ^= half << (16 * (c % 2));
                            }
                        }
                    }
                }
                bits[3] ^= rounds;
                all.extend((0..4).map(|c| (id * 4 + c, bits[c])));
            }
            all
        };
        let flops = (self.lanes * (2 * width * chains) as u64) as f64;
        let word = if fused { "fma" } else { "product and sum" };
        self.build(Plan {
            entry: "main",
            text,
            workgroups: self.lanes / wg as u64,
            variant: format!("{wg} invocations, {chains} chains of {ty}, {word}"),
            rounds,
            per_round: [flops, flops * STEPS as f64],
            expect: Box::new(expect),
            subgroups: None,
        })
    }

    /// Dots of four bytes, each of the sum before.
    pub fn dot(&self, wg: u32, chains: u32, rounds: u32) -> Result<Program, String> {
        let mut text = head(wg, WORDS);
        let step = |i: u32| format!(" a{i} += dot4I8Packed(bitcast<u32>(a{i}), factor);");
        let starts: String = (0..chains).map(|i| format!("var a{i} = bitcast<i32>(words.x >> {i}u);\n")).collect();
        let steps: String = (0..STEPS).flat_map(|_| (0..chains).map(step)).collect();
        let ends: String = (0..chains).map(|i| format!("all ^= bitcast<u32>(a{i});\n")).collect();
        let _ = write!(
            text,
            "{}let words = source[id];\nlet factor = words.y;\n{starts}\
             for (var i = 0u; i < rounds.x; i++) {{{steps} }}\nvar all = 0u;\n{ends}\
             sink[id] = vec4<u32>(all, 0u, 0u, 0u);\n}}\n",
            main("")
        );
        let words = self.words[..(READ_BACK / 4) as usize].to_vec();
        let lanes: Vec<usize> = self.some_lanes().step_by(64).collect();
        let expect = move |rounds: u32| {
            let of = |id: usize| {
                let factor = words[id * 4 + 1].to_le_bytes().map(|b| b as i8 as i32);
                (0..chains).fold(0u32, |all, i| {
                    let mut a = (words[id * 4] >> i) as i32;
                    for _ in 0..rounds * STEPS {
                        let bytes = a.to_le_bytes().map(|b| b as i8 as i32);
                        let dot: i32 = bytes.iter().zip(&factor).map(|(a, b)| a * b).sum();
                        a = a.wrapping_add(dot);
                    }
                    all ^ a as u32
                })
            };
            lanes.iter().map(|&id| (id * 4, of(id))).collect()
        };
        self.build(Plan {
            entry: "main",
            text,
            workgroups: self.lanes / wg as u64,
            variant: format!("{wg} invocations, {chains} chains"),
            rounds,
            per_round: [0.0, (self.lanes * (8 * chains * STEPS) as u64) as f64],
            expect: Box::new(expect),
            subgroups: None,
        })
    }

    /// Products of cooperative matrices, added to and taken from sums that differ, so that none is computed for another.
    /// Every subgroup of a workgroup does the same, and stores it at the same place.
    pub fn matrix(&self, shape: CoopShape, wg: u32, chains: u32, rounds: u32) -> Result<Program, String> {
        let CoopShape { m: size, ab, acc, .. } = shape;
        let name = |scalar| if scalar == CoopScalar::F16 { "f16" } else { "f32" };
        let (half, ab, acc) = (acc == CoopScalar::F16, name(ab), name(acc));
        let square = size * size;
        let sums = chains * square;
        let bytes = if half { 2 } else { 4 };
        let most = (self.vectors * VECTOR / bytes - COUNT as u64) / sums as u64;
        let aim = if self.gpu.is_software() { 16 } else { 8192 / (wg as u64 / 64) };
        let workgroups = aim.min(most).max(1);
        let matrix = |scalar: &str, role: &str| format!("coop_mat{size}x{size}<{scalar}, {role}>");
        let (left, right, sum) = (matrix(ab, "A"), matrix(ab, "B"), matrix(acc, "C"));
        let mut text = "enable f16;\nenable wgpu_cooperative_matrix;\n".to_string();
        text += &head(wg, acc);
        let _ = write!(
            text,
            "var<workgroup> factors: array<{ab}, {}>;\nvar<workgroup> starts: array<{acc}, {sums}>;\n{}\
             for (var i = lane; i < {square}u; i += WG_SIZE) {{\n\
             let b = {ab}(i32(i * 5u % 7u) - 3);\nfactors[i] = {ab}(i32(i * 7u % 9u) - 4);\n\
             factors[{square}u + i] = b;\nfactors[{}u + i] = -b;\n}}\n\
             for (var i = lane; i < {sums}u; i += WG_SIZE) {{ starts[i] = {acc}(i32(i * 3u % 11u) - 5); }}\n\
             workgroupBarrier();\nlet place = {COUNT}u + id / WG_SIZE * {sums}u;\n\
             let x = coopLoadT<{left}>(&factors[0], {size}u);\n\
             let w = coopLoad<{right}>(&factors[{square}u], {size}u);\n\
             let v = coopLoad<{right}>(&factors[{}u], {size}u);\n",
            3 * square,
            main(", @builtin(num_subgroups) subgroups: u32"),
            2 * square,
            2 * square,
        );
        let product = |i: u32, by: &str| format!("a{i} = coopMultiplyAdd(x, {by}, a{i});");
        for i in 0..chains {
            let _ = writeln!(text, "var a{i} = coopLoadT<{sum}>(&starts[{}], {size}u);", i * square);
        }
        text += "for (var i = 0u; i < rounds.x; i++) {\n";
        for by in ["w", "v"].into_iter().cycle().take(STEPS as usize) {
            text += &(0..chains).map(|i| product(i, by) + "\n").collect::<String>();
        }
        text += "}\n";
        for i in 0..chains {
            let store = format!("coopStoreT(a{i}, &sink[place + {}u], {size}u);", i * square);
            let _ = writeln!(text, "{}\n{store}", product(i, "w"));
        }
        let _ = writeln!(text, "if id == 0u {{ sink[0] = {acc}(subgroups); }}\n}}");
        let expect = move |_: u32| {
            let int = |i: u32, by: u32, of: u32| (i * by % of) as i32 - of as i32 / 2;
            let of = |i: u32| {
                let (row, col) = (i % square / size, i % size);
                let dot: i32 = (0..size).map(|k| int(row * size + k, 7, 9) * int(col * size + k, 5, 7)).sum();
                (int(i, 3, 11) + dot) as f32
            };
            let bits = |v: f32| half::f16::from_f32(v).to_bits() as u32;
            match half {
                false => (0..sums).map(|i| ((COUNT + i) as usize, of(i).to_bits())).collect(),
                true => {
                    let pair = |i: u32| bits(of(2 * i)) | bits(of(2 * i + 1)) << 16;
                    (0..sums / 2).map(|i| ((COUNT / 2 + i) as usize, pair(i))).collect()
                }
            }
        };
        let flops = (workgroups * chains as u64 * 2) as f64 * (size as f64).powi(3);
        self.build(Plan {
            entry: "main",
            text,
            workgroups,
            variant: format!("{wg} invocations, {chains} sums"),
            rounds,
            per_round: [flops, flops * STEPS as f64],
            expect: Box::new(expect),
            subgroups: Some(half),
        })
    }
}

/// `vec4<f32>`, or `f32`.
fn vector(number: &str, width: u32) -> String {
    if width == 1 { number.into() } else { format!("vec{width}<{number}>") }
}

fn splat(number: &str, width: u32, value: &str) -> String {
    format!("{}({value})", vector(number, width))
}

/// Size and bindings; the sink is of these elements.
fn head(wg: u32, sink: &str) -> String {
    format!(
        "const WG_SIZE: u32 = {wg}u;\n\
         @group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;\n\
         @group(0) @binding(1) var<storage, read_write> sink: array<{sink}>;\n\
         @group(0) @binding(2) var<uniform> rounds: vec4<u32>;\n"
    )
}

/// The entry point's head, with more of its arguments.
fn main(arguments: &str) -> String {
    format!(
        "@compute @workgroup_size(WG_SIZE)\n\
         fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,\n\
         @builtin(local_invocation_index) lane: u32{arguments}) {{\n\
         let id = (workgroup.y * grid.x + workgroup.x) * WG_SIZE + lane;\n"
    )
}

fn memory(wg: u32, per: u32) -> String {
    format!("{}const PER: u32 = {per}u;\n{}", head(wg, WORDS), include_str!("memory.wgsl"))
}
