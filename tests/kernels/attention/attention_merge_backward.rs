//! The gradient of the merge of partial results on a GPU: what is more than a Problem of the list.

use loom::harness::{Call, Output, same_bits};
use loom::kernels::attention::attention_merge::shape;
use loom::kernels::attention::attention_merge_backward::of;
use tileloom::attention_merge_backward::{Buffers, Problem, prepare};
use tileloom::{Context, Error, ErrorKind, attention_merge};

use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("attention_merge_backward", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("a part that has seen nothing gets 0", |gpu| {
        let one = Call::random(of(shape(1, 9, 8)), 1);
        let (alone, _) = one.check(gpu, &gpu.kernels, None)?;
        // With a part of NaN behind it.
        let mut values = one.values.clone();
        values.insert("parts", [&one.values["parts"][..], &[f64::NAN; 72]].concat());
        values.insert("lse_parts", [&one.values["lse_parts"][..], &[f64::NEG_INFINITY; 9]].concat());
        let (both, _) = Call::new(of(shape(2, 9, 8)), values).check(gpu, &gpu.kernels, None)?;
        let first = [
            ("d_parts", both.values["d_parts"][..72].to_vec()),
            ("dlse_parts", both.values["dlse_parts"][..9].to_vec()),
        ];
        if both.values["d_parts"][72..].iter().chain(&both.values["dlse_parts"][9..]).any(|&v| v != 0.0) {
            return Err("it is not 0".into());
        }
        same_bits(&alone.values, &first.into())
    });
    suite.case("on tensors", |gpu| {
        let run = async || {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let call = Call::random(Problem { dlse: Some(0), ..of(shape(3, 10, 8)) }, 2);
            let upload = |name, shape: &[usize]| {
                context.upload(&call.values[name].iter().map(|&v| v as f32).collect::<Vec<_>>(), shape)
            };
            let (parts, lse) = (upload("parts", &[3, 2, 5, 8])?, upload("lse_parts", &[3, 2, 5])?);
            let (d_o, dlse) = (upload("do", &[2, 5, 8])?, upload("dlse", &[2, 5])?);
            let (d_parts, dlse_parts) = parts.attention_merge_backward(&lse, &d_o, Some(&dlse))?;
            let f64s = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
            let values =
                [("d_parts", f64s(d_parts.read().await?)), ("dlse_parts", f64s(dlse_parts.read().await?))].into();
            let verdict = call.judge(&Output { values, steps: Vec::new() });
            let bad = parts.attention_merge_backward(&lse, &d_o, Some(&lse));
            Ok::<_, Error>((verdict, matches!(bad, Err(Error { kind: ErrorKind::Shape { arg: "dlse", .. }, .. }))))
        };
        match pollster::block_on(run()).map_err(|error| error.to_string())? {
            (verdict, true) if verdict.ok() => Ok(()),
            (verdict, refused) => Err(format!("{verdict:?}, refused {refused}")),
        }
    });
    suite.case("errors name what is wrong", |gpu| {
        let bytes = gpu.buffer(&[0; 1024]);
        let [d_parts, dlse_parts] = [(); 2].map(|()| gpu.buffer(&[0; 1024]));
        let b = &bytes;
        let say = |problem: &Problem| match prepare(&gpu.kernels, problem, Buffers::new(b, b, b, &d_parts, &dlse_parts))
        {
            Ok(_) => "nothing".to_string(),
            Err(error) => error.to_string(),
        };
        let ok = attention_merge::Problem { lse_out: None, ..shape(2, 4, 4) };
        for (have, want) in [
            (say(&of(attention_merge::Problem { splits: 0, ..ok })), "splits: there is nothing to join"),
            (say(&of(attention_merge::Problem { rows: 400, ..ok })), "buffer `o` is too small"),
            (say(&Problem { dlse_parts: 1000, ..of(ok) }), "buffer `dlse_parts` is too small"),
            (say(&Problem { dlse: Some(0), ..of(ok) }), "needs buffer `dlse`"),
        ] {
            if !have.contains(want) {
                return Err(format!("expected `{want}`, heard `{have}`"));
            }
        }
        Ok(())
    });
}
