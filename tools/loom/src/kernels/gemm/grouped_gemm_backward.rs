//! Gradients of matrices by group, described.

use tileloom::grouped_gemm_backward::Problem;
use tileloom::verify::Describe;
use tileloom::verify::gemm::grouped_gemm_backward::hidden;
use tileloom::{Dtype, Layout};

use super::grouped_gemm::{crowd, drawn, hostile};
use super::{COOP, DIRECT, SHUFFLED, TILED, no_coop, shuffles};
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Entry, Given, List, Listed, Values, affordable};
use crate::kernels::vq::vq_lookup::read_indices;

use Dtype::{Bf16, F16, F32};

/// Both inputs of one dtype.
pub fn of(groups: usize, m: usize, n: usize, k: usize, dtype: Dtype) -> Problem {
    Problem { m, n, k, groups, a: dtype, dd: dtype, ..Problem::default() }
}

/// Offsets that fall, are negative or beyond m.
fn garbage(entry: &mut Entry<Problem>) {
    entry.set(|problem, values| {
        hostile(problem.m, problem.signed, values.get_mut("offsets").expect("there are offsets"));
        hidden(problem, values);
    });
}

/// Every row in group `g`; all others are empty.
fn one_group(entry: &mut Entry<Problem>, g: usize) {
    entry.set(move |problem, values| crowd(problem.m, g, values.get_mut("offsets").expect("there are offsets")));
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const RUNTIME: &'static [&'static str] = &["parts"];

    fn list(list: &mut List<Problem>) {
        for (m, n, k) in [(100, 68, 36), (37, 33, 21), (5, 8, 40), (1, 1, 1)] {
            for add in [false, true] {
                let problem = Problem { signed: add, add, dbias: add.then_some(3), ..of(7, m, n, k, F32) };
                list.narrow("f32, ragged", problem).config(DIRECT).set(hidden);
            }
        }
        for signed in [false, true] {
            let problem = Problem { signed, dbias: Some(0), ..of(15, 61, 36, 20, F32) };
            garbage(list.narrow("garbage offsets, NaN in rows of no group", problem).config(DIRECT));
        }
        list.narrow("as it is chosen", of(4, 190, 68, 132, F32)).seed(3);
        wide(list);
        let moe = |dtype| of(64, 4096, 512, 1024, dtype);
        routed(list.bench("4096 rows of 64, 512x1024 f16", moe(F16)).quick());
        routed(list.bench("4096 rows of 64, 512x1024 f32", moe(F32)));
        half(
            list.bench("4096 rows of 8, half of one, 512x1024 f16", Problem { groups: 8, dbias: Some(0), ..moe(F16) }),
        );
        list.large("16384 rows of 64, 2048x4096 f16", of(64, 16384, 2048, 4096, F16))
            .unless(|caps| caps.loop_rounds().map(|_| "a driver that cuts long loops short"));
        for dtype in Dtype::ALL {
            for (m, n, k) in [(64, 64, 64), (65, 33, 37)] {
                list.compose(of(3, m, n, k, dtype));
                list.compose(Problem { trans_b: false, add: true, dbias: Some(0), ..of(3, m, n, k, dtype) });
            }
        }
    }

    fn cost(&self) -> Cost {
        Cost::of(self.flops(), &self.args())
    }

    fn shared() -> &'static [&'static str] {
        &["offsets"]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("trans_b", &mut self.trans_b)?;
        options.value("add", &mut self.add)?;
        options.value("a_layout", &mut self.a_layout)?;
        options.value("dd_layout", &mut self.dd_layout)?;
        options.value("db_layout", &mut self.db_layout)?;
        options.value("offsets_offset", &mut self.offsets)?;
        let mut bias = self.dbias.is_some();
        options.value("bias", &mut bias)?;
        self.dbias = bias.then(|| self.dbias.unwrap_or(0));
        self.dbias.as_mut().map_or(Ok(()), |offset| options.value("dbias_offset", offset))
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (a, a_dtype) = reader.values("a", "[m, k]")?;
        let (dd, dd_dtype) = reader.values("dd", "[m, n]")?;
        let (offsets, index, numbers) = read_indices(reader, "offsets", "[groups + 1]")?;
        let signed = index == tileloom::vq_lookup::Index::I32;
        let mut problem = Problem { a: a_dtype, dd: dd_dtype, signed, ..Problem::default() };
        problem.options(&mut Options::Read(reader))?;
        let &[m, k] = &a.shape[..] else { return Err(case::bad_shape("a", a, "[m, k]")) };
        let &[_, n] = &dd.shape[..] else { return Err(case::bad_shape("dd", dd, "[m, n]")) };
        let groups = match offsets.shape[..] {
            [items] if items > 1 => items - 1,
            _ => return Err(case::bad_shape("offsets", offsets, "[groups + 1], of at least one group")),
        };
        problem = Problem { m, n, k, groups, ..problem };
        affordable(reader, &problem.args())?;
        let mut values: Values = [("offsets", numbers)].into();
        for arg in problem.args().iter().filter(|arg| arg.access != Access::Write && arg.name != "offsets") {
            let tensor = reader.tensor(arg.name, "")?;
            let want = problem.shape(arg);
            if tensor.shape != want {
                return Err(case::bad_shape(arg.name, tensor, format!("{want:?}")));
            }
            values.insert(arg.name, tensor.numbers().unwrap_or_default());
        }
        let (sizes, cols) = problem.db_sizes();
        let mut outputs = vec![Shown::new("db", [sizes[0], sizes[1], cols])];
        outputs.extend(problem.dbias.map(|_| Shown::new("dbias", [groups, n])));
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "offsets" => vec![self.groups + 1],
            "db" => arg.view.sizes[1..].iter().copied().chain([arg.view.cols]).collect(),
            _ => vec![arg.view.sizes[2], arg.view.cols],
        }
    }
}

fn wide(list: &mut List<Problem>) {
    let base = of(6, 150, 68, 132, F32);
    for g in [0, 3, 5] {
        one_group(list.wide("one group has all rows", base).config(DIRECT), g);
    }
    let odd = Problem { add: true, ..of(6, 150, 37, 53, F16) };
    for problem in [base, Problem { trans_b: false, add: true, ..base }, odd] {
        list.wide("tiles in workgroup memory", problem).seed(2).config(TILED).set(hidden);
        list.wide("rows that are handed round", problem)
            .seed(3)
            .candidate(SHUFFLED)
            .set(hidden)
            .unless(|caps| (!shuffles(caps)).then_some("a software adapter with subgroups of 8"));
    }
    let signed = Problem { signed: true, dbias: Some(1), ..of(20, 131, 37, 20, F16) };
    garbage(list.wide("garbage offsets, as it is chosen", signed));
    for (i, (groups, m)) in [(1, 50), (300, 1000), (700, 300)].into_iter().enumerate() {
        list.wide("one group, many groups", of(groups, m, 20, 12, F32)).seed(5 + i as u64).config(DIRECT).set(hidden);
    }
    let strided = Problem {
        a: Bf16,
        dd: F16,
        a_layout: Layout::strided(3, [41]),
        dd_layout: Layout::strided(1, [43]),
        db_layout: Layout::strided(5, [37 * 40, 39]),
        offsets: 2,
        dbias: Some(3),
        add: true,
        ..of(4, 60, 37, 37, F32)
    };
    list.wide("dtypes, strides and offsets", strided).seed(6).config(DIRECT).set(hidden);
    list.wide("no rows", Problem { dbias: Some(0), ..of(3, 0, 20, 12, F32) }).config(DIRECT);
    list.wide("one buffer for all", of(4, 60, 36, 20, F32)).config(DIRECT).arena();
    list.wide("one buffer for all", Problem { add: true, ..of(4, 60, 36, 20, F16) }).config(TILED).arena();
    list.wide("checked modules give the same bits", of(5, 90, 40, 52, F32)).seed(8).config(DIRECT).checked();
    list.wide("the same bits again", of(5, 90, 40, 52, F32)).seed(8).config(DIRECT).twice();
    for problem in [
        of(5, 200, 72, 64, F16),
        Problem { trans_b: false, ..of(5, 200, 72, 72, F16) },
        Problem { add: true, ..of(5, 200, 136, 64, F16) },
        of(5, 200, 36, 68, F16),
    ] {
        list.wide("cooperative matrices", problem).seed(9).unless(no_coop).candidate(COOP).set(hidden);
        garbage(list.wide("cooperative matrices", problem).unless(no_coop).candidate(COOP));
    }
    for problem in [base, Problem { add: true, ..of(6, 40, 68, 132, F16) }] {
        list.full("every Config", problem).every_candidate();
    }
}

/// Rows of so many experts, each drawn by itself.
fn routed(entry: &mut Entry<Problem>) {
    entry.set(|problem, values| {
        values.insert("offsets", drawn(problem.m, problem.groups));
    });
}

/// The last expert has half of the rows.
fn half(entry: &mut Entry<Problem>) {
    entry.set(|problem, values| {
        let m = problem.m as f64;
        let offsets = values.get_mut("offsets").expect("there are offsets");
        let last = offsets.len() - 1;
        let of = |i: usize| if i == last { m } else { (m / 2.0 * i as f64 / (last - 1) as f64).floor() };
        (0..=last).for_each(|i| offsets[i] = of(i));
    });
}
