//! How a call of attention_merge_backward is made and judged.

use crate::attention_merge_backward::{Buffers, Config, Problem};
use crate::layout::split_rows;
use crate::reference::attention_merge_backward::{Inputs, Output, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small;
use crate::{Dtype, attention_merge};

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let forward = &self.forward;
        let attention_merge::Problem { splits, rows, dim, x, y, .. } = *forward;
        // As the forward call has them, without what it wrote.
        let inputs = attention_merge::Problem { lse_out: None, sum_out: None, ..*forward }.args();
        let mut args: Vec<Arg> = inputs.into_iter().filter(|arg| arg.name != "o").collect();
        args.push(Arg::read("do", Rows::new(self.do_layout, forward.sizes(), dim, y)));
        args.extend(self.dlse.map(|at| Arg::read("dlse", Rows::flat(at, rows, Dtype::F32))));
        args.push(Arg::write("d_parts", Rows::new(self.d_parts_layout, [splits, rows], dim, x)));
        let lse = crate::Layout::<1>::at(self.dlse_parts);
        args.push(Arg::write("dlse_parts", Rows::new(lse, [splits * rows], 1, Dtype::F32)));
        args
    }

    /// NaN in parts that count nothing.
    fn fill(&self, name: &str, len: usize, before: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "do" | "dlse" => random.outliers(len).into_iter().map(|v| 0.25 + v).collect(),
            name => self.forward.fill(name, len, before, random),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let [parts, lse, d_o, d_parts, dlse_parts] =
            ["parts", "lse_parts", "do", "d_parts", "dlse_parts"].map(|name| bound.get(name));
        let buffers = Buffers::new(parts, lse, d_o, d_parts, dlse_parts);
        bound.with(buffers, [("sum_parts", Buffers::sum), ("dlse", Buffers::dlse)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let attention_merge::Problem { splits, rows, dim: cols, x: dtype, .. } = self.forward;
        let given = |name| values.get(name).map(Vec::as_slice);
        let inputs = Inputs {
            o: &values["parts"],
            lse: &values["lse_parts"],
            sum: given("sum_parts"),
            d_o: &values["do"],
            dlse: given("dlse"),
        };
        let own: Output = reference::<f64>([splits, rows, cols], &inputs);
        let low: Output = reference::<f32>([splits, rows, cols], &inputs);
        vec![
            ("d_parts", Rule::Rows { cols, dtype, oracle: own.d_parts, low: low.d_parts, mag: own.mag }),
            (
                "dlse_parts",
                Rule::Rows {
                    cols: 1,
                    dtype: Dtype::F32,
                    oracle: own.dlse_parts,
                    low: low.dlse_parts,
                    mag: own.dlse_mag,
                },
            ),
        ]
    }

    fn telling(&self, _: &Config) -> Vec<Telling<Problem>> {
        let own = &self.forward;
        let small = |splits: usize, most: usize| {
            let (splits, (rows, dims)) = (own.splits.min(splits), small::rows(own.rows, own.dims, most));
            let forward = attention_merge::Problem {
                splits,
                rows,
                dims,
                o_layout: small::laid(own.o_layout, [splits, rows], own.dim),
                out_layout: small::laid(own.out_layout, split_rows(rows, dims), own.dim),
                lse: own.lse % 8,
                sum: own.sum.map(|_| own.lse % 8 + splits * rows),
                lse_out: None,
                sum_out: None,
                ..*own
            };
            Problem {
                forward,
                do_layout: small::laid(self.do_layout, split_rows(rows, dims), own.dim),
                dlse: self.dlse.map(|at| at % 8),
                d_parts_layout: small::laid(self.d_parts_layout, [splits, rows], own.dim),
                dlse_parts: self.dlse_parts % 8,
            }
        };
        small::few(
            [small(5, 21), small(40, 3), small(2, 300)].map(|p| (p.forward.splits * p.forward.rows * p.forward.dim, p)),
        )
    }
}
