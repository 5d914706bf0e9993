//! Scalar quantisation: a call with its oracle.

use tileloom::reference::{Verdict, vq_scalar as reference};
use tileloom::vq_scalar::{self, Buffers, Direction, Kind, Problem};
use tileloom::{Dtype, Layout};

use super::{Bench, Check, Checked, Kernel, Replay};
use crate::Gpu;
use crate::case::{Case, Fault};
use crate::memory::{Image, POISON, Rows};
use crate::pool::{Pool, Prepared};
use crate::random::Random;

/// Scalar quantisation, for the commands; case files have no op of it.
pub struct VqScalar;

pub const KERNEL: VqScalar = VqScalar;

/// Encodes, and decodes what came out; both must be what the formulas give, bit by bit.
///
/// # Errors
/// What `prepare` says, a lost device, what spilled where, or what is wrong.
pub fn check(gpu: &Gpu, problem: &Problem, x: &[f64]) -> Result<(), String> {
    let (n, dims) = (problem.n, problem.levels.len());
    let rows = |layout: Layout<1>, cols, dtype| {
        let layout = Layout { offset: layout.offset, strides: layout.strides.map(|[s]| [0, 0, s]) };
        Rows { layout, sizes: [1, 1, n], cols, dtype }
    };
    let (x_view, y_view) = (rows(problem.x_layout, dims, problem.x), rows(problem.y_layout, dims, problem.y));
    let index_view = rows(Layout::at(problem.indices), 1, Dtype::F32);
    let mut given = Image::with_room(&[x_view]);
    given.scatter(&x_view, x);
    let (indices, y) = (Image::with_room(&[index_view]), Image::with_room(&[y_view]));
    let buffers = [&given, &indices, &y, &y].map(|image| gpu.buffer(&image.bytes));
    let [x_bound, index_bound] = [given.binding(&buffers[0]), indices.binding(&buffers[1])];
    let encode = Buffers::new(index_bound.clone(), y.binding(&buffers[2])).x(x_bound);
    let decode = Buffers::new(index_bound, y.binding(&buffers[3]));
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    for (direction, buffers) in [(Direction::Encode, encode), (Direction::Decode, decode)] {
        let dispatch = vq_scalar::prepare(&gpu.kernels, &Problem { direction, ..*problem }, buffers);
        dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
    }
    gpu.queue.submit([encoder.finish()]);
    let (want, values) = reference::encode(problem, x);
    let values: Vec<f64> = values.into_iter().map(|v| problem.y.round(v)).collect();
    let found = Image { bytes: gpu.read(&buffers[1])? };
    let found: Vec<u32> = found.gather(&index_view).into_iter().map(|v| (v as f32).to_bits()).collect();
    if let Some(i) = (0..n).find(|&i| found[i] != want[i]) {
        return Err(format!("index {i} is {}, expected {}", found[i], want[i]));
    }
    for (name, buffer) in [("encoded", &buffers[2]), ("decoded", &buffers[3])] {
        let after = Image { bytes: gpu.read(buffer)? };
        if let Some(byte) = after.spilled(&y, &y_view) {
            return Err(format!("{name}: byte {byte} outside y was written"));
        }
        if after.gather(&y_view) != values {
            return Err(format!("{name} vectors are wrong"));
        }
    }
    Ok(())
}

impl Kernel for VqScalar {
    fn name(&self) -> &'static str {
        "vq_scalar"
    }

    fn ops(&self) -> &'static [&'static str] {
        &[]
    }

    fn checks(&self) -> Vec<Check> {
        let of = |kind, levels, dtype| Problem { n: 100, kind, levels, x: dtype, y: dtype, ..Problem::default() };
        let cases = [
            ("FSQ", of(Kind::Fsq, &[8, 5, 5, 5], Dtype::F32)),
            ("FSQ, f16, odd rows", of(Kind::Fsq, &[7, 3, 2], Dtype::F16)),
            ("LFQ", of(Kind::Lfq, &[2; 18], Dtype::F32)),
        ];
        let check = |(name, problem): (&'static str, Problem<'static>)| {
            let run = move |gpu: &Gpu| {
                let mut random = Random::new(1);
                let elements = problem.n * problem.levels.len();
                let x: Vec<f64> = (0..elements).map(|_| problem.x.round(random.normal())).collect();
                match check(gpu, &problem, &x) {
                    Ok(()) => Checked::Ran(Verdict { checked: 2 * elements + problem.n, ..Verdict::default() }),
                    Err(reason) => Checked::Failed(reason),
                }
            };
            Check { name, run: Box::new(run) }
        };
        cases.into_iter().map(check).collect()
    }

    fn replay(&self, _: &Case) -> Result<Replay, Fault> {
        Err(Fault::NoOp { known: self.ops().to_vec() })
    }

    fn benches(&self) -> Vec<Bench> {
        let problem = Problem { n: 65_536, levels: &[8, 5, 5, 5], ..Problem::default() };
        let elements = problem.n * problem.levels.len();
        vec![Bench {
            shape: "65536 of 8x5x5x5".into(),
            quick: true,
            flops: 0.0,
            bytes: (8 * elements + 4 * problem.n) as f64,
            prepare: Box::new(move |gpu: &Gpu, pool: &Pool, sets: usize| {
                let mut dispatches = Vec::with_capacity(sets);
                let mut first = None;
                for set in 0..sets {
                    let x = gpu.buffer(&pool.bytes(problem.x, elements, set));
                    let y = gpu.buffer(&vec![POISON; 4 * elements]);
                    let indices = gpu.buffer(&vec![POISON; 4 * problem.n]);
                    let dispatch = vq_scalar::prepare(&gpu.kernels, &problem, Buffers::new(&indices, &y).x(&x));
                    dispatches.push(dispatch.map_err(|error| error.to_string())?);
                    first.get_or_insert(y);
                }
                let y = first.ok_or("no input set was asked for")?;
                let (_, want) = reference::encode(&problem, &pool.values(problem.x, elements, 0));
                let want: Vec<f64> = want.into_iter().map(|v| Dtype::F32.round(v)).collect();
                let check = move |gpu: &Gpu| Ok(crate::kernel::exact(&Dtype::F32.decode(&gpu.read(&y)?), &want));
                Ok(Prepared { dispatches, config: "encode".into(), check: Box::new(check) })
            }),
        }]
    }
}
