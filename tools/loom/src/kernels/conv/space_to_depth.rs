//! Blocks of pixels to channels, described.

use tileloom::conv::Order;
use tileloom::space_to_depth::{Config, Mode, Packed, Problem};
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::max_pool::strided;
use super::{Pair, axes, words};
use crate::case::{self, Fault, OptionValue, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values, affordable};

use Dtype::{Bf16, F16, F32};
use Mode::{Crd, Dcr};
use Order::{Nchw, Nhwc};

/// Needs no feature.
pub const PLAIN: Config = Config { wg_size: 8, planes: 3, native_f16: false };

/// Of f32: pictures of so many blocks.
pub fn shape(channels: usize, deep: [usize; 2], block: [usize; 2], mode: Mode, order: Order) -> Problem {
    let size = [deep[0] * block[0], deep[1] * block[1]];
    Problem { channels, size, block, mode, order, ..Problem::default() }
}

/// Packed patches of `d` elements, of so many blocks in all.
pub fn packed(pictures: usize, blocks: usize, d: usize, block: [usize; 2]) -> Problem {
    let packed = Some(Packed { pictures, grids: 0 });
    Problem { packed, size: [1, blocks * block[0] * block[1]], ..shape(d, [1, 1], block, Dcr, Nhwc) }
}

/// The way back.
fn back(problem: Problem) -> Problem {
    Problem { inverse: true, x_layout: problem.y_layout, y_layout: problem.x_layout, ..problem }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const RUNTIME: &'static [&'static str] = &["planes"];

    fn list(list: &mut List<Problem>) {
        for order in [Nchw, Nhwc] {
            for mode in [Dcr, Crd] {
                let of = |channels, deep, block| Problem { batch: 2, ..shape(channels, deep, block, mode, order) };
                for problem in [
                    of(1, [1, 1], [1, 1]),
                    of(5, [3, 4], [2, 2]),
                    of(3, [2, 5], [2, 3]),
                    of(8, [3, 3], [4, 2]),
                    of(7, [2, 4], [1, 5]),
                ] {
                    list.narrow("blocks", problem).config(PLAIN).seed(1);
                    list.narrow("the way back", back(problem)).config(PLAIN).seed(2);
                    let halves = Problem { x: F16, ..problem };
                    list.narrow("f16", halves).config(PLAIN).seed(3);
                    list.narrow("f16", back(halves)).config(PLAIN).seed(4);
                }
                list.narrow("as it is chosen", of(16, [7, 9], [2, 2])).seed(5);
                list.narrow("no pictures", Problem { batch: 0, ..of(3, [2, 2], [2, 2]) });
                for (pad, dtype) in [(4, F32), (3, F32), (3, F16), (2, Bf16)] {
                    let (x_layout, y_layout) = (strided(order, pad, 4, [6, 8]), strided(order, pad + 1, 16, [3, 4]));
                    let problem = Problem { x: dtype, x_layout, y_layout, ..of(4, [3, 4], [2, 2]) };
                    list.wide("strides and offsets", problem).seed(6).config(PLAIN);
                    list.wide("strides and offsets", back(problem)).seed(6).config(PLAIN);
                }
                list.wide("one arena", of(8, [3, 4], [2, 2])).seed(7).arena();
                list.wide("checked modules give the same", of(8, [3, 4], [2, 2])).seed(8).checked();
            }
        }
        for (pictures, blocks, d) in [(1, 1, 1), (3, 17, 8), (5, 40, 7), (0, 3, 4), (9, 12, 6)] {
            for (dtype, block) in [(F32, [2, 2]), (F16, [2, 2]), (Bf16, [3, 1])] {
                let problem = Problem { x: dtype, ..packed(pictures, blocks, d, block) };
                list.narrow("packed patches", problem).config(PLAIN).seed(blocks as u64);
                list.narrow("packed patches, back", back(problem)).config(PLAIN).seed(blocks as u64);
            }
        }
        for hostile in [[u32::MAX, 2], [2, u32::MAX], [3, 4], [1 << 31, 1 << 31], [0, u32::MAX], [65536, 65536]] {
            let problem = Problem { packed: Some(Packed { pictures: 4, grids: 3 }), ..packed(4, 20, 8, [2, 2]) };
            for problem in [problem, back(problem)] {
                list.narrow("grids that are none", problem).config(PLAIN).set(move |_, values| {
                    let grids = values.get_mut("grids").expect("there are grids");
                    grids[..4].copy_from_slice(&[4.0, 6.0, 2.0, 4.0]);
                    grids[4..6].copy_from_slice(&hostile.map(f64::from));
                    grids[6..].copy_from_slice(&[2.0, 2.0]);
                });
            }
        }
        list.wide("packed patches in one arena", packed(3, 17, 8, [2, 2])).seed(9).arena();
        list.wide("checked modules give the same", packed(5, 40, 7, [2, 2])).seed(9).checked();
        benches(list);
    }

    fn cost(&self) -> Cost {
        Cost::of(0.0, &self.args())
    }

    fn shared() -> &'static [&'static str] {
        &["grids"]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        let mut block = Pair(self.block);
        options.value("block", &mut block)?;
        self.block = block.0;
        options.value("inverse", &mut self.inverse)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("y_layout", &mut self.y_layout)?;
        match &mut self.packed {
            Some(packed) => options.value("grids_offset", &mut packed.grids),
            None => {
                options.word("mode", &mut self.mode, &words(Mode::ALL, Mode::name))?;
                options.word("layout", &mut self.order, &words(Order::ALL, Order::name))
            }
        }
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (x, dtype) = reader.values("x", "[n, c, h, w], or [rows, d]")?;
        let grids = reader.optional("grids");
        let mut problem = Problem { x: dtype, ..Problem::default() };
        if let Some(grids) = grids {
            let &[pictures, 2] = &grids.shape[..] else {
                return Err(case::bad_shape("grids", grids, "[pictures, 2]"));
            };
            (problem.packed, problem.order) = (Some(Packed { pictures, grids: 0 }), Nhwc);
        }
        problem.options(&mut Options::Read(reader))?;
        let [n, c, h, w] = match (grids, &x.shape[..]) {
            (None, _) => axes("x", x, 2, problem.order)?,
            (Some(_), &[rows, d]) => [1, d, 1, rows],
            (Some(_), _) => return Err(case::bad_shape("x", x, "[rows, d]")),
        };
        let [block_h, block_w] = problem.block;
        let elements = block_h.saturating_mul(block_w);
        (problem.batch, problem.channels, problem.size) = (n, c, [h, w]);
        if problem.inverse {
            if elements == 0 || !c.is_multiple_of(elements) {
                return Err(case::bad_shape("x", x, format!("channels of whole blocks of {elements}")));
            }
            problem.channels = c / elements;
            let [down, across] = if grids.is_some() { [1, elements] } else { [block_h, block_w] };
            problem.size = [h.saturating_mul(down), w.saturating_mul(across)];
        }
        problem.blocks_fit().map_err(|error| Fault::BadOption {
            name: "block",
            value: Pair(problem.block).text(),
            expected: error.to_string(),
        })?;
        affordable(reader, &problem.args())?;
        let mut values: Values = [("x", x.numbers().unwrap_or_default())].into();
        if let Some(grids) = grids {
            let word = |v: i64| u32::try_from(v).unwrap_or(u32::MAX).into();
            values.insert("grids", case::integers("grids", grids)?.into_iter().map(word).collect());
        }
        let args = problem.args();
        let y = args.iter().find(|arg| arg.name == "y").expect("an output");
        let outputs = vec![Shown::new("y", problem.shape(y))];
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match (arg.name, self.packed) {
            ("grids", Some(packed)) => vec![packed.pictures, 2],
            (_, Some(_)) => vec![arg.view.sizes[2], arg.view.cols],
            _ => [&arg.view.sizes[..], &[arg.view.cols]].concat(),
        }
    }
}

fn benches(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let name = order.name();
        for mode in [Dcr, Crd] {
            let problem = shape(64, [112, 112], [2, 2], mode, order);
            let entry = list.bench(format!("2 x 2, 64 channels at 224, {}, {name}", mode.name()), problem);
            if (order, mode) == (Nhwc, Dcr) {
                entry.quick();
            }
            list.bench(format!("back, 2 x 2, 64 channels at 224, {}, {name}", mode.name()), back(problem));
            for dtype in Dtype::ALL {
                for channels in [8, 7] {
                    list.compose(Problem { x: dtype, ..shape(channels, [6, 8], [2, 2], mode, order) });
                    list.compose(back(Problem { x: dtype, ..shape(channels, [6, 9], [2, 3], mode, order) }));
                }
            }
        }
    }
    // Grids of 32 x 32 patches, and so on: 8192 of 1152 elements.
    let patches = packed(8, 2048, 1152, [2, 2]);
    list.bench("2 x 2 of 8192 patches of 8 pictures, 1152 elements", patches).set(|_, values| {
        if let Some(grids) = values.get_mut("grids") {
            grids.fill(32.0);
        }
    });
    list.compose(Problem { x_layout: Layout::at(1), ..patches });
}
