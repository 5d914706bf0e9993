//! Attention biases, described.

use tileloom::attention_bias::{Buckets, Kind, Problem};
use tileloom::{Dtype, Layout};

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

pub fn alibi(heads: usize, seq_q: usize, seq_kv: usize) -> Problem {
    Problem { heads, seq_q, seq_kv, ..Problem::default() }
}

pub fn t5(dtype: Dtype, buckets: Buckets, problem: Problem) -> Problem {
    Problem { kind: Kind::T5 { buckets, dtype, layout: Layout::default() }, ..problem }
}

fn typed(bias: Dtype, problem: Problem) -> Problem {
    Problem { bias, ..problem }
}

const ENCODER: Buckets = Buckets::t5(true);
const DECODER: Buckets = Buckets::t5(false);

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    /// Queries per invocation are a parameter.
    const RUNTIME: &'static [&'static str] = &["queries"];

    fn list(list: &mut List<Problem>) {
        for (heads, seq_q, seq_kv) in [(1, 1, 4), (12, 40, 40), (3, 1, 300), (5, 33, 8), (7, 2, 4096)] {
            list.narrow("alibi", alibi(heads, seq_q, seq_kv)).says(&["vec: 4, bias: F32, table: None"]);
            let kind = Kind::Alibi { offset: 3 };
            let bias_layout = Layout::strided(5, [seq_q * (seq_kv + 3), seq_kv + 3]);
            let problem = Problem { kind, bias_layout, ..alibi(heads, seq_q, seq_kv) };
            list.narrow("alibi", problem).says(&["vec: 1, bias: F32, table: None"]);
        }
        let few = Buckets { num_buckets: 6, max_distance: 20, bidirectional: false };
        for buckets in [ENCODER, DECODER, few] {
            for (heads, seq_q, seq_kv) in [(1, 1, 4), (8, 150, 300), (8, 300, 12), (2, 1, 1024)] {
                let problem = t5(Dtype::F32, buckets, alibi(heads, seq_q, seq_kv));
                list.narrow("t5", problem).seed(2).says(&["vec: 4, bias: F32, table: Some(F32)"]);
                // Heads first: the table's transpose.
                let layout = Layout::strided(2, [1, buckets.num_buckets + 1]);
                let kind = Kind::T5 { buckets, dtype: Dtype::F32, layout };
                let entry = list.narrow("t5", Problem { kind, ..problem });
                entry.seed(3).says(&["vec: 4, bias: F32, table: Some(F32)"]);
            }
        }
        let name = "16 bits, rows that share words";
        let odd = alibi(3, 21, 33);
        // Words of its own where f16 is native.
        list.narrow(name, typed(Dtype::F16, t5(Dtype::Bf16, ENCODER, odd))).seed(2).says(&["table: Some(Bf16)"]);
        let bf16 = typed(Dtype::Bf16, t5(Dtype::F16, ENCODER, odd));
        list.narrow(name, bf16).seed(2).says(&["table: Some(F16)", "edge: true"]);
        list.narrow(name, typed(Dtype::F16, alibi(12, 40, 64))).seed(2).says(&["table: None"]);
        for (heads, seq_q, seq_kv) in [(0, 3, 3), (2, 0, 3), (2, 3, 0)] {
            list.narrow("nothing to compute", alibi(heads, seq_q, seq_kv));
        }
        list.narrow("alibi, decode", alibi(12, 1, 300));
        list.narrow("alibi, odd f16", typed(Dtype::F16, alibi(5, 7, 33)));
        list.narrow("t5 encoder", t5(Dtype::F32, ENCODER, alibi(8, 150, 300)));
        list.narrow("t5 decoder", t5(Dtype::F32, DECODER, alibi(8, 300, 300)));
        let more = t5(Dtype::Bf16, ENCODER, alibi(8, 40, 7));
        list.narrow("t5, more queries than keys, odd bf16", typed(Dtype::Bf16, more));
        for problem in [alibi(3, 9, 33), t5(Dtype::F32, ENCODER, alibi(3, 200, 333))] {
            list.wide("checked modules give the same", problem).checked();
        }

        let large = alibi(16, 1024, 1024);
        list.bench("16x1024x1024 f32 alibi", large).quick();
        list.bench("16x1024x1024 f16 alibi", typed(Dtype::F16, large));
        list.bench("16x1024x1024 f32 t5", t5(Dtype::F32, ENCODER, large));
        for (bias, seq_kv) in Dtype::ALL.into_iter().flat_map(|dtype| [(dtype, 64), (dtype, 6), (dtype, 7)]) {
            let problem = typed(bias, alibi(8, 9, seq_kv));
            list.compose(problem);
            for dtype in Dtype::ALL {
                list.compose(t5(dtype, ENCODER, problem));
            }
        }
    }

    /// It only writes: a copy's share is at most 2.
    fn cost(&self) -> Cost {
        let elements = (self.heads * self.seq_q * self.seq_kv) as f64;
        Cost { flops: elements, bytes: elements * self.bias.bytes() as f64 }
    }

    fn shared() -> &'static [&'static str] {
        &["alibi_slopes", "table"]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("out_dtype", &mut self.bias)?;
        options.value("bias_layout", &mut self.bias_layout)?;
        options.value("seq_q", &mut self.seq_q)?;
        options.value("seq_kv", &mut self.seq_kv)?;
        match &mut self.kind {
            Kind::Alibi { offset } => options.value("slopes_offset", offset),
            Kind::T5 { buckets, layout, .. } => {
                options.value("bidirectional", &mut buckets.bidirectional)?;
                options.value("max_distance", &mut buckets.max_distance)?;
                options.value("table_layout", layout)
            }
        }
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (mut problem, name, tensor) = match reader.optional("table") {
            None => {
                let (slopes, _) = reader.values("alibi_slopes", "[heads], or `table` [num_buckets, heads]")?;
                let &[heads] = &slopes.shape[..] else {
                    return Err(case::bad_shape("alibi_slopes", slopes, "[heads]"));
                };
                (alibi(heads, 1, 1), "alibi_slopes", slopes)
            }
            Some(table) => {
                let dtype = case::float("table", table)?;
                let &[num_buckets, heads] = &table.shape[..] else {
                    return Err(case::bad_shape("table", table, "[num_buckets, heads]"));
                };
                let buckets = Buckets { num_buckets, ..ENCODER };
                (typed(dtype, t5(dtype, buckets, alibi(heads, 1, 1))), "table", table)
            }
        };
        problem.options(&mut Options::Read(reader))?;
        Ok(Given {
            problem,
            values: [(name, tensor.numbers().unwrap_or_default())].into(),
            outputs: vec![Shown::new("bias", [problem.heads, problem.seq_q, problem.seq_kv])],
            known: Values::new(),
        })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match self.kind {
            _ if arg.name == "bias" => vec![self.heads, self.seq_q, self.seq_kv],
            Kind::Alibi { .. } => vec![self.heads],
            Kind::T5 { buckets, .. } => vec![buckets.num_buckets, self.heads],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Case, Tensor};

    #[test]
    fn faults_name_what_is_wrong() {
        let of = |name: &str, shape: &[usize]| {
            let values = Tensor::values(Dtype::F32, shape, &vec![0.5; shape.iter().product()]);
            Case::new("attention_bias").tensor(name, values)
        };
        let fault = crate::kernel::fault::<Problem>;
        assert_eq!(fault(&of("alibi_slopes", &[3]).option("seq_q", 2)), "understood");
        assert_eq!(fault(&of("table", &[8, 3]).option("out_dtype", "f16")), "understood");
        assert!(fault(&Case::new("attention_bias")).starts_with("tensor `alibi_slopes` is missing"));
        assert!(fault(&of("alibi_slopes", &[3, 2])).ends_with("expected [heads]"));
        assert!(fault(&of("table", &[8])).ends_with("expected [num_buckets, heads]"));
        assert!(fault(&of("alibi_slopes", &[3]).option("max_distance", 64)).contains("`max_distance` is not known"));
        let both =
            of("table", &[8, 3]).tensor("alibi_slopes", of("alibi_slopes", &[3]).tensors["alibi_slopes"].clone());
        assert!(fault(&both).contains("`alibi_slopes` is not used"), "{}", fault(&both));
    }
}
