//! Case files whose right answer is known, on every driver.

use loom::case::{Case, Tensor};
use loom::registry;
use tileloom::Dtype;

use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("case files", cases);

fn cases(suite: &mut Suite) {
    suite.case("packed keys of which a part is used", |gpu| {
        // Keys of one element, v counts from 1, and all weights of a query are equal.
        for (causal, cu_q, cu_k, used, o) in [
            (false, [0, 1, 2], [0, 2, 4], [1, 1], [1.0, 3.0]),
            (false, [0, 1, 2], [0, 3, 4], [2, 1], [1.5, 4.0]),
            (false, [0, 1, 2], [0, 1, 4], [0, 3], [0.0, 3.0]),
            // The last query stands at the last key that is used.
            (true, [0, 2, 2], [0, 4, 4], [3, 0], [1.5, 2.0]),
        ] {
            let values = |shape: &[usize], values: &[f64]| Tensor::values(Dtype::F32, shape, values);
            let starts = |starts: &[u32]| Tensor::indices(&[starts.len()], starts);
            let case = Case::new("attention")
                .option("causal", causal)
                .tensor("q", values(&[2, 1, 1], &[0.0; 2]))
                .tensor("k", values(&[4, 1, 1], &[0.0; 4]))
                .tensor("v", values(&[4, 1, 1], &[1.0, 2.0, 3.0, 4.0]))
                .tensor("cu_seqlens_q", starts(&cu_q))
                .tensor("cu_seqlens_k", starts(&cu_k))
                .tensor("seqused_k", starts(&used))
                .tensor("expected.o", values(&[2, 1, 1], &o));
            let case = Case::parse(&case.to_bytes().map_err(|fault| fault.to_string())?);
            let replay = case.and_then(|case| registry::replay(&case)).map_err(|fault| fault.to_string())?;
            let findings = replay.judge(&replay.run(gpu)?);
            if let Some(finding) = findings.iter().find(|finding| !finding.ok()) {
                return Err(format!("{cu_k:?}, {used:?}: {finding}"));
            }
        }
        Ok(())
    });
}
