//! Gradients of slopes and tables of attention biases, described.

use tileloom::attention_bias::Buckets;
use tileloom::attention_bias_backward::{Config, Kind, Problem};
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values, affordable};

pub fn alibi(heads: usize, seq_q: usize, seq_kv: usize) -> Problem {
    Problem { heads, seq_q, seq_kv, ..Problem::default() }
}

pub fn t5(buckets: Buckets, problem: Problem) -> Problem {
    Problem { kind: Kind::T5 { buckets, layout: Layout::default() }, ..problem }
}

const ENCODER: Buckets = Buckets::t5(true);
const DECODER: Buckets = Buckets::t5(false);

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    /// Queries of a block are a parameter.
    const RUNTIME: &'static [&'static str] = &["queries"];

    fn list(list: &mut List<Problem>) {
        let few = Buckets { num_buckets: 6, max_distance: 20, bidirectional: false };
        for (heads, seq_q, seq_kv) in [(1, 1, 1), (12, 40, 40), (3, 1, 300), (5, 133, 8), (2, 150, 300)] {
            list.narrow("alibi", alibi(heads, seq_q, seq_kv));
            for (i, buckets) in [ENCODER, DECODER, few].into_iter().enumerate() {
                let problem = t5(buckets, Problem { add: i == 1, ..alibi(heads, seq_q, seq_kv) });
                list.narrow("t5", problem).seed(2 + i as u64);
            }
        }
        for (heads, seq_q, seq_kv) in [(0, 3, 3), (2, 0, 3), (2, 3, 0)] {
            list.narrow("nothing to add up", alibi(heads, seq_q, seq_kv));
            list.narrow("nothing to add up", t5(few, Problem { add: true, ..alibi(heads, seq_q, seq_kv) }));
        }
        for dbias in [Dtype::F16, Dtype::Bf16] {
            let strided = Problem { dbias, dbias_layout: Layout::strided(3, [21 * 37, 35]), ..alibi(3, 21, 33) };
            list.wide("16 bits, strided, added", Problem { kind: Kind::Alibi { offset: 5 }, add: true, ..strided });
            // Heads first: the table's transpose.
            let layout = Layout::strided(2, [1, 33]);
            list.wide("16 bits, strided", Problem { kind: Kind::T5 { buckets: ENCODER, layout }, ..strided });
        }
        for problem in [alibi(3, 9, 33), t5(ENCODER, alibi(3, 200, 333))] {
            let small = Config { wg_size: 32, queries: 7, native_f16: false };
            list.wide("many blocks, ragged", problem).seed(6).config(small);
            list.wide("checked modules give the same", problem).checked();
            list.wide("the same bits again", problem).twice();
            list.wide("one buffer for all", Problem { add: true, ..problem }).arena();
        }
        list.bench("16x1024x1024 f32 t5", t5(ENCODER, alibi(16, 1024, 1024))).quick();
        list.bench("16x1024x1024 f32 alibi", alibi(16, 1024, 1024));
        for dbias in Dtype::ALL {
            for seq_kv in [64, 7] {
                list.compose(Problem { dbias, ..alibi(8, 9, seq_kv) });
                list.compose(t5(ENCODER, Problem { dbias, ..alibi(8, 9, seq_kv) }));
            }
        }
    }

    fn cost(&self) -> Cost {
        Cost::of((self.heads * self.seq_q * self.seq_kv) as f64, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("add", &mut self.add)?;
        options.value("dbias_layout", &mut self.dbias_layout)?;
        let mut num_buckets = match self.kind {
            Kind::Alibi { .. } => 0,
            Kind::T5 { buckets, .. } => buckets.num_buckets,
        };
        options.value("num_buckets", &mut num_buckets)?;
        if num_buckets > 0 && matches!(self.kind, Kind::Alibi { .. }) {
            self.kind = Kind::T5 { buckets: ENCODER, layout: Layout::default() };
        }
        match &mut self.kind {
            Kind::Alibi { offset } => options.value("dslopes_offset", offset),
            Kind::T5 { buckets, layout } => {
                buckets.num_buckets = num_buckets;
                options.value("bidirectional", &mut buckets.bidirectional)?;
                options.value("max_distance", &mut buckets.max_distance)?;
                options.value("dtable_layout", layout)
            }
        }
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (dbias, dtype) = reader.values("dbias", "[heads, seq_q, seq_kv]")?;
        let &[heads, seq_q, seq_kv] = &dbias.shape[..] else {
            return Err(case::bad_shape("dbias", dbias, "[heads, seq_q, seq_kv]"));
        };
        let mut problem = Problem { dbias: dtype, ..alibi(heads, seq_q, seq_kv) };
        problem.options(&mut Options::Read(reader))?;
        affordable(reader, &problem.args())?;
        let mut values = Values::from([("dbias", dbias.numbers().unwrap_or_default())]);
        let args = problem.args();
        let output = args.iter().find(|arg| arg.name != "dbias").expect("there is an output");
        let shape = problem.shape(output);
        if output.access != Access::Write {
            let tensor = reader.tensor(output.name, "")?;
            if tensor.shape != shape {
                return Err(case::bad_shape(output.name, tensor, format!("{shape:?}")));
            }
            values.insert(output.name, tensor.numbers().unwrap_or_default());
        }
        Ok(Given { problem, values, outputs: vec![Shown::new(output.name, shape)], known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match self.kind {
            _ if arg.name == "dbias" => vec![self.heads, self.seq_q, self.seq_kv],
            Kind::Alibi { .. } => vec![self.heads],
            Kind::T5 { buckets, .. } => vec![buckets.num_buckets, self.heads],
        }
    }
}
