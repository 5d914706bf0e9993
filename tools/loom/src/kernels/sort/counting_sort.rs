//! A stable sort by small keys, described.

use tileloom::Layout;
use tileloom::counting_sort::{Algorithm, Config, Index, OutOfRange, Problem};
use tileloom::verify::Describe;

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};
use crate::kernels::vq::vq_lookup::{OUT_OF_RANGE, read_indices};

fn shape(n: usize, segments: usize, num_keys: usize) -> Problem {
    Problem { n, segments, num_keys, counts: Some(0), ..Problem::default() }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    // Params of all pipelines, or of those by runs.
    const RUNTIME: &'static [&'static str] = &["part", "digit_bits"];

    fn list(list: &mut List<Problem>) {
        for (n, segments, num_keys) in [(1, 1, 1), (0, 1, 3), (4096, 1, 64), (700, 3, 100), (5000, 1, 3)] {
            for out_of_range in [OutOfRange::Zero, OutOfRange::First, OutOfRange::Nearest] {
                let problem = Problem { out_of_range, ..shape(n, segments, num_keys) };
                list.narrow("sizes, segments, garbage keys", problem).every_candidate();
            }
        }
        let few = Config { algorithm: Algorithm::Tiles, wg_size: 64, digit_bits: 4, part: 128 };
        list.narrow("digits of 4 bits by tiles", shape(3001, 1, 1000)).seed(2).config(few);
        let few = Config { algorithm: Algorithm::Runs, wg_size: 8, digit_bits: 5, part: 40 };
        list.narrow("digits of 5 bits by runs", shape(3001, 2, 20_000)).seed(2).config(few);
        for index in [Index::I32, Index::U16] {
            let strided = Problem {
                index,
                keys: Layout::strided(3, [2, 701]),
                order: 3,
                offsets: 1,
                counts: Some(2),
                ..shape(333, 2, 41)
            };
            list.narrow("signed and 16-bit keys, strided", strided).seed(3).every_candidate();
        }
        list.narrow("one key for all", shape(9000, 1, 300)).every_candidate().set(|_, values| {
            values.entry("keys").and_modify(|keys| keys.fill(299.0));
        });
        list.narrow("every key out of range", shape(777, 1, 5)).every_candidate().set(|_, values| {
            values.entry("keys").and_modify(|keys| keys.fill(5.0));
        });
        list.wide("many keys", shape(50_000, 1, 32_000)).every_candidate().twice();
        list.wide("without counts", Problem { counts: None, ..shape(500, 1, 3000) }).every_candidate();
        list.wide("checked modules give the same", shape(2000, 1, 600)).every_candidate().checked();
        list.full("1 M keys", shape(1 << 20, 1, 32_000)).every_candidate();
        let benches = [
            ("4096 by 64", 4096, 64),
            ("65536 by 1024", 65_536, 1024),
            ("1048576 by 256", 1 << 20, 256),
            ("1048576 by 32000", 1 << 20, 32_000),
        ];
        for (name, n, num_keys) in benches {
            let entry = list.bench(name, Problem { counts: None, ..shape(n, 1, num_keys) });
            if num_keys > 256 {
                entry.quick();
            }
        }
        for n in [1 << 10, 1 << 13, 1 << 16, 1 << 19, 1 << 22] {
            list.sweep("n by 4096", n, Problem { counts: None, ..shape(n, 1, 4096) });
        }
        list.large("16777216 by 32000", Problem { counts: None, ..shape(1 << 24, 1, 32_000) });
        for index in [Index::U32, Index::U16] {
            list.compose(Problem { index, ..shape(100, 2, 3000) });
        }
    }

    fn cost(&self) -> Cost {
        Cost::of(0.0, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("num_keys", &mut self.num_keys)?;
        options.value("segments", &mut self.segments)?;
        options.word("out_of_range", &mut self.out_of_range, &OUT_OF_RANGE)?;
        options.value("keys_layout", &mut self.keys)?;
        options.value("order_offset", &mut self.order)?;
        options.value("offsets_offset", &mut self.offsets)?;
        options.value("counts_offset", &mut self.counts)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (keys, index, numbers) = read_indices(reader, "keys", "[n], with `segments` [n, segments]")?;
        let mut problem = Problem { index, ..shape(1, 1, 1) };
        problem.options(&mut Options::Read(reader))?;
        let segments = reader.option::<Option<usize>>("segments", None)?;
        for (name, value) in [("segments", problem.segments), ("num_keys", problem.num_keys)] {
            if value == 0 {
                return Err(Fault::BadOption { name, value: "0".into(), expected: "a number of at least 1".into() });
            }
        }
        problem.n = match (&keys.shape[..], segments) {
            (&[n], None) => n,
            (&[n, columns], Some(segments)) if columns == segments => n,
            _ => return Err(case::bad_shape("keys", keys, "[n], with `segments` [n, segments]")),
        };
        let codes = problem.segments.saturating_mul(problem.num_keys);
        let total = problem.segments.saturating_mul(problem.n);
        let mut outputs = vec![Shown::new("order", [total]), Shown::new("offsets", [codes.saturating_add(1)])];
        outputs.extend(problem.counts.map(|_| Shown::new("counts", [codes])));
        Ok(Given { problem, values: [("keys", numbers)].into(), outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "keys" => vec![self.n, self.segments],
            _ => vec![arg.view.len()],
        }
    }
}
