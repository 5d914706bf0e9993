//! The merge of partial results on a GPU: what is more than a Problem of the list.

use loom::harness::{Call, same_bits};
use loom::kernels::attention::attention_merge::shape;
use tileloom::attention_merge::{Buffers, Problem, prepare};

use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("attention_merge", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("minus infinity is the identity", |gpu| {
        let one = Call::random(shape(1, 9, 8), 1);
        let (alone, _) = one.check(gpu, &gpu.kernels, None)?;
        // With a part of NaN before it that has seen nothing.
        let parts = [&[f64::NAN; 72], &one.values["parts"][..]].concat();
        let lse = [&[f64::NEG_INFINITY; 9], &one.values["lse_parts"][..]].concat();
        let both = Call::new(shape(2, 9, 8), [("parts", parts), ("lse_parts", lse)].into());
        same_bits(&alone.values, &both.check(gpu, &gpu.kernels, None)?.0.values)
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
