//! The merge of partial results on a GPU.

use loom::Gpu;
use loom::kernels::attention_merge::{Call, Output};
use tileloom::attention_merge::{Buffers, Problem, prepare};
use tileloom::{Dtype, Layout};

use crate::Suite;

fn shape(splits: usize, rows: usize, dim: usize) -> Problem {
    Problem { splits, rows, dim, lse_out: Some(1), ..Problem::default() }
}

fn check(gpu: &Gpu, call: &Call) -> Result<Output, String> {
    call.check(gpu, &gpu.kernels).map(|(output, _)| output)
}

/// Four pipelines.
pub fn cases(suite: &mut Suite) {
    suite.case("sizes, and parts that saw nothing", |gpu| {
        for (splits, rows, dim) in [(1, 1, 4), (2, 7, 64), (5, 33, 128), (3, 1, 12)] {
            check(gpu, &Call::random(shape(splits, rows, dim), 3))?;
        }
        Ok(())
    });
    suite.case("minus infinity is the identity", |gpu| {
        let one = Call::random(shape(1, 9, 8), 1);
        let alone = check(gpu, &one)?;
        // With a part of NaN before it that has seen nothing.
        let mut call = Call { problem: shape(2, 9, 8), ..one.clone() };
        call.o = [vec![f64::NAN; 72], one.o.clone()].concat();
        call.lse = [vec![f64::NEG_INFINITY; 9], one.lse.clone()].concat();
        let both = check(gpu, &call)?;
        match (alone.o == both.o, alone.lse == both.lse) {
            (true, true) => Ok(()),
            _ => Err("a part that saw nothing counts".into()),
        }
    });
    suite.case("f16, odd rows", |gpu| {
        let base = Problem { x: Dtype::F16, y: Dtype::F16, out_layout: Layout::at(3), ..shape(3, 7, 5) };
        check(gpu, &Call::random(base, 2)).map(drop)
    });
    suite.case("a result of another layout", |gpu| {
        // [2, 3, 5] rows, tokens first.
        let out_layout = Layout::strided(4, [5 * 3 * 8, 8, 3 * 8]);
        let problem = Problem { dims: [3, 5], out_layout, y: Dtype::Bf16, lse_out: None, ..shape(4, 30, 8) };
        check(gpu, &Call::random(problem, 2)).map(drop)
    });
    suite.case("errors name what is wrong", |gpu| {
        let (bytes, o) = (gpu.buffer(&[0; 1024]), gpu.buffer(&[0; 1024]));
        let say = |problem: &Problem| match prepare(&gpu.kernels, problem, Buffers::new(&bytes, &bytes, &o)) {
            Ok(_) => "nothing".to_string(),
            Err(error) => error.to_string(),
        };
        let ok = Problem { lse_out: None, ..shape(2, 4, 4) };
        for (have, want) in [
            (say(&Problem { splits: 0, ..ok }), "splits: there is nothing to join"),
            (say(&Problem { dims: [3, 1], ..ok }), "rows: 4 rows are not a multiple"),
            (say(&Problem { rows: 400, ..ok }), "buffer `o` is too small"),
            (say(&Problem { lse: 1000, ..ok }), "buffer `lse` is too small"),
            (say(&shape(2, 4, 4)), "needs buffer `lse_out`"),
        ] {
            if !have.contains(want) {
                return Err(format!("expected `{want}`, heard `{have}`"));
            }
        }
        Ok(())
    });
}
