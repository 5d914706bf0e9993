//! VQ scatter, described.

use tileloom::verify::Describe;
use tileloom::vq_lookup::{self, Combine, Index, Order, OutOfRange};
use tileloom::vq_scatter::Problem;
use tileloom::{Dtype, Layout};

use super::vq_lookup::{COMBINE, ORDER, OUT_OF_RANGE, read_indices};
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values};

fn shape(batch: usize, spatial: usize, books: usize, num_codes: usize, code_dim: usize) -> Problem {
    Problem { batch, spatial, books, num_codes, code_dim, counts: Some(0), ..Problem::default() }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    // Of the sort, and Params.
    const RUNTIME: &'static [&'static str] = &["sort", "each", "block_bits"];

    fn list(list: &mut List<Problem>) {
        for (batch, spatial, books, num_codes, code_dim) in
            [(1, 1, 1, 1, 4), (2, 50, 1, 13, 64), (1, 500, 3, 300, 32), (3, 65, 2, 7, 260), (1, 0, 1, 3, 4)]
        {
            for out_of_range in [OutOfRange::Zero, OutOfRange::First, OutOfRange::Nearest] {
                let problem = Problem { out_of_range, ..shape(batch, spatial, books, num_codes, code_dim) };
                list.narrow("f32, sizes, books, garbage indices", problem).says(&["vec: 4", "count: true"]);
            }
        }
        list.narrow("the same bits again", shape(1, 3000, 1, 5, 64)).seed(2).twice().says(&["vec: 4"]);
        for (spatial, dim) in [(500, 32), (33, 7), (0, 4)] {
            let problem = Problem { add: true, ..shape(1, spatial, 2, 13, dim) };
            list.narrow("added to what is there", problem).seed(6);
        }
        for combine in [Combine::Concat, Combine::Sum] {
            let (batch, spatial, books, num_codes, code_dim) = (2, 19, 3, 11, 6);
            let of = vq_lookup::Problem { batch, spatial, books, num_codes, code_dim, combine, ..Default::default() };
            let of = Problem::gradient(&vq_lookup::Problem { order: Order::ChannelsFirst, ..of });
            let entry = list.narrow("channels first, the gradient of a sum", Problem { counts: Some(0), ..of });
            entry.seed(3).says(&["vec: 1", "count: true"]);
        }
        for x in [Dtype::F16, Dtype::Bf16] {
            let problem = Problem {
                x,
                index: Index::U16,
                indices: Layout::strided(1, [1, 70]),
                x_layout: Layout::strided(3, [900, 25]),
                sums: 5,
                counts: Some(2),
                ..shape(2, 33, 2, 9, 7)
            };
            list.narrow("f16 and bf16, odd, strided", problem).seed(4).says(&["short: true", "vec: 1"]);
        }
        // Runs of several blocks, of which some begin and some end within one.
        for (name, index) in [("one code for all", 0.0), ("the last code for all", 6.0)] {
            list.narrow(name, shape(1, 3000, 1, 7, 8)).every_candidate().set(move |_, values| {
                values.entry("indices").and_modify(|indices| indices.fill(index));
            });
        }
        list.wide("many positions and codes", shape(3, 7001, 1, 900, 20)).every_candidate().seed(5).twice();
        let base = shape(2, 90, 1, 30, 32);
        list.narrow("f32", base);
        list.narrow("two books", Problem { books: 2, ..base });
        list.narrow("f16, odd", Problem { code_dim: 7, x: Dtype::F16, index: Index::U16, ..base });
        list.narrow("channels first", Problem { order: Order::ChannelsFirst, books: 2, ..base });
        list.wide("checked modules give the same", shape(2, 60, 2, 19, 12)).seed(4).checked();
        let benches = [
            ("4096 to 8192x64 f32", 4096, 8192, 64),
            ("65536 to 1024x64 f32", 65_536, 1024, 64),
            ("1048576 to 32000x32 f32", 1 << 20, 32_000, 32),
        ];
        for (name, spatial, num_codes, code_dim) in benches {
            let entry = list.bench(name, Problem { counts: None, ..shape(1, spatial, 1, num_codes, code_dim) });
            if num_codes < 32_000 {
                entry.quick();
            }
        }
        let skewed = Problem { counts: None, ..shape(1, 65_536, 1, 1024, 64) };
        list.bench("65536 to one of 1024x64 f32", skewed).set(|_, values| {
            values.entry("indices").and_modify(|indices| indices.fill(700.0));
        });
        for x in Dtype::ALL {
            for (code_dim, index, counts) in [(64, Index::U32, None), (7, Index::U16, Some(0))] {
                list.compose(Problem { x, index, counts, ..shape(1, 9, 1, 5, code_dim) });
            }
        }
    }

    fn cost(&self) -> Cost {
        let elements = self.positions() * self.books * self.code_dim;
        Cost::of(elements as f64, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("num_codes", &mut self.num_codes)?;
        options.value("books", &mut self.books)?;
        options.word("combine", &mut self.combine, &COMBINE)?;
        options.word("out_of_range", &mut self.out_of_range, &OUT_OF_RANGE)?;
        options.word("order", &mut self.order, &ORDER)?;
        options.value("batch", &mut self.batch)?;
        options.value("indices_layout", &mut self.indices)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("add", &mut self.add)?;
        options.value("sums_offset", &mut self.sums)?;
        options.value("counts_offset", &mut self.counts)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (indices, index, numbers) = read_indices(reader, "indices", "[..], with `books` [.., books]")?;
        let (x, dtype) = reader.values("x", "[.., channels]")?;
        let mut problem = Problem { index, x: dtype, ..shape(1, 1, 1, 1, 1) };
        problem.options(&mut Options::Read(reader))?;
        let books = reader.option::<Option<usize>>("books", None)?;
        let Problem { batch, num_codes, combine, order, .. } = problem;
        for (name, value) in [("books", problem.books), ("num_codes", num_codes), ("batch", batch)] {
            if value == 0 {
                return Err(Fault::BadOption { name, value: "0".into(), expected: "a number of at least 1".into() });
            }
        }
        let mut outer = indices.shape.clone();
        if books.is_some() && outer.pop() != books {
            let expected = format!("[.., {}], one index per book", problem.books);
            return Err(case::bad_shape("indices", indices, expected));
        }
        let positions: usize = outer.iter().product();
        if !positions.is_multiple_of(batch) {
            let expected = format!("a divisor of {positions}");
            return Err(Fault::BadOption { name: "batch", value: batch.to_string(), expected });
        }
        problem.spatial = positions / batch;
        let channels = match (order, &x.shape[..]) {
            (Order::ChannelsLast, [all @ .., channels]) if *all == outer => Some(*channels),
            (Order::ChannelsFirst, &[b, channels, s]) if [b, s] == [batch, problem.spatial] => Some(channels),
            _ => None,
        };
        let parts = if combine == Combine::Concat { problem.books } else { 1 };
        match channels.filter(|channels| *channels > 0 && channels.is_multiple_of(parts)) {
            Some(channels) => problem.code_dim = channels / parts,
            None => {
                let expected = format!("{outer:?} and channels, a multiple of {parts}");
                return Err(case::bad_shape("x", x, expected));
            }
        }
        let sums: Vec<usize> = books.into_iter().chain([num_codes, problem.code_dim]).collect();
        let counts = problem.counts.map(|_| Shown::new("counts", &sums[..sums.len() - 1]));
        let outputs = [Shown::new("sums", sums.clone())].into_iter().chain(counts).collect();
        let mut values: Values = [("indices", numbers), ("x", x.numbers().unwrap_or_default())].into();
        for arg in problem.args().iter().filter(|arg| arg.access == Access::Update) {
            let before = reader.tensor(arg.name, "as the output of its name")?;
            let want = if arg.name == "sums" { &sums[..] } else { &sums[..sums.len() - 1] };
            if before.shape != want {
                return Err(case::bad_shape(arg.name, before, format!("{want:?}")));
            }
            let have = before.dtype.to_string();
            let bad = Fault::BadDtype { name: arg.name.into(), have, expected: "as the output of its name" };
            values.insert(arg.name, before.numbers().ok_or(bad)?);
        }
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        let Problem { books, num_codes, code_dim, .. } = *self;
        match arg.name {
            "indices" => vec![self.positions(), books],
            "x" if self.order == Order::ChannelsFirst => {
                let ([batch, channels], spatial) = self.x_shape();
                vec![batch, channels, spatial]
            }
            "x" => vec![self.positions(), self.x_shape().1],
            "sums" => vec![books, num_codes, code_dim],
            _ => vec![books, num_codes],
        }
    }
}
