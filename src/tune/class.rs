//! The class of a Problem, of its `Debug` text.

use std::fmt::Write;

/// Names of numbers and flags that tell where an argument starts, or that only a run reads.
const PLACES: &[&str] = &[
    // Outputs and inputs of their own.
    "bias",
    "chosen",
    "codes",
    "counts",
    "da",
    "db",
    "dbias",
    "distance",
    "dlse",
    "dlse_parts",
    "dsinks",
    "dup_bias",
    "dweight",
    "gate",
    "indices",
    "kept_weights",
    "loss",
    "lse",
    "lse_out",
    "order",
    "path",
    "q_weight",
    "k_weight",
    "q_bias",
    "k_bias",
    "scales",
    "skipped",
    "slots",
    "stats",
    "sum",
    "sum_out",
    "sums",
    "usage",
    "weights",
    "y",
    "bad",
    "k_scale",
    "v_scale",
    "adapter",
    // In tables and indices that several share.
    "block_table",
    "cu_kv",
    "cu_q",
    "cos",
    "done",
    "flags",
    "lengths",
    "numbers",
    "offsets",
    "parents",
    "positions",
    "sin",
    "sinks",
    "slopes",
    "starts",
    "step",
    "stops",
    "table",
    "row_table",
    // Of sampling.
    "accepted",
    "drawn",
    "out_beams",
    "out_scores",
    "out_tokens",
    "per_row",
    "proposed",
    "scores",
    "token",
    "uniform",
    // Read by a run only.
    "offset",
    "seed",
];

/// Sizes up to this are told as they are.
const SMALL: u64 = 16;

/// What loads and stores go by: more does not matter.
const ALIGNED: u64 = 8;

/// What `Debug` writes of a value.
enum Value<'a> {
    /// A name, with fields or values or none.
    Named(&'a str, Vec<(&'a str, Value<'a>)>),
    List(Vec<Value<'a>>),
    Whole(u64),
    /// A number that is none of these.
    Float(bool),
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn takes(&mut self, mark: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A name or a number.
    fn word(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start();
        let part = |(at, c): (usize, char)| {
            let exponent = at > 0 && matches!(c, '-' | '+') && self.rest[..at].ends_with('e');
            !(c.is_alphanumeric() || matches!(c, '_' | '.') || exponent || (at == 0 && c == '-'))
        };
        let end = self.rest.char_indices().find(|&at| part(at)).map_or(self.rest.len(), |(at, _)| at);
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn values(&mut self, end: char) -> Option<Vec<Value<'a>>> {
        let mut all = Vec::new();
        while !self.takes(end) {
            all.push(self.value()?);
            self.takes(',');
        }
        Some(all)
    }

    fn value(&mut self) -> Option<Value<'a>> {
        if self.takes('[') {
            return self.values(']').map(Value::List);
        }
        if self.takes('(') {
            return self.values(')').map(Value::List);
        }
        let word = self.word()?;
        if word.starts_with(|c: char| c.is_ascii_digit() || c == '-') || matches!(word, "inf" | "NaN") {
            return Some(match word.parse::<u64>() {
                Ok(whole) => Value::Whole(whole),
                Err(_) => Value::Float(word.parse::<f64>() == Ok(0.0)),
            });
        }
        if self.takes('(') {
            let values = self.values(')')?;
            return Some(Value::Named(word, values.into_iter().map(|value| ("", value)).collect()));
        }
        let mut fields = Vec::new();
        if self.takes('{') {
            while !self.takes('}') {
                let name = self.word()?;
                if !self.takes(':') {
                    return None;
                }
                fields.push((name, self.value()?));
                self.takes(',');
            }
        }
        Some(Value::Named(word, fields))
    }
}

/// The largest power of two, up to [`ALIGNED`], that divides `n`.
fn alignment(n: u64) -> u64 {
    1 << n.trailing_zeros().min(ALIGNED.trailing_zeros())
}

/// A size: as it is where it is small, else the power of two that holds it, and its alignment where that is less than whole.
fn size(n: u64) -> String {
    if n <= SMALL {
        return n.to_string();
    }
    let up = n.checked_next_power_of_two().unwrap_or(u64::MAX);
    match alignment(n) {
        ALIGNED => up.to_string(),
        part => format!("{up}/{part}"),
    }
}

/// What tells classes apart, of a value of the field `name` within a value called `of`; empty where nothing does.
fn told(value: &Value, name: &str, of: &str, places: &[&str]) -> String {
    let place = || PLACES.contains(&name) || places.contains(&name);
    match value {
        Value::Whole(n) if name == "offset" && matches!(of, "Layout" | "Vector") => match alignment(*n) {
            ALIGNED => String::new(),
            part => part.to_string(),
        },
        Value::Whole(n) if of == "strides" => if *n == 0 { 0 } else { alignment(*n) }.to_string(),
        Value::Whole(_) | Value::Float(_) | Value::Named("true", _) if place() => String::new(),
        // The length of a vector is a constant of most shaders.
        Value::Whole(n) if name.ends_with("_dim") => n.to_string(),
        Value::Whole(n) => size(*n),
        Value::Float(zero) => if *zero { "0" } else { "x" }.into(),
        Value::List(values) if values.iter().all(|value| matches!(value, Value::Float(_))) => {
            format!("[{}]", size(values.len() as u64))
        }
        Value::List(values) => {
            let all: Vec<_> = values.iter().map(|value| told(value, name, of, places)).collect();
            format!("[{}]", all.join(","))
        }
        Value::Named("None" | "false", fields) if fields.is_empty() => String::new(),
        Value::Named("Some", fields) if name == "strides" => told(&fields[0].1, name, "strides", places),
        Value::Named("Some", fields) => match told(&fields[0].1, name, "", places) {
            text if text.is_empty() => "some".into(),
            text => text,
        },
        Value::Named(word, fields) => {
            let text = fields_of(word, fields, name, places);
            match (*word, text.is_empty()) {
                // A whole layout is aligned and contiguous.
                ("Layout", true) => String::new(),
                (_, true) => word.to_string(),
                ("Layout", false) => format!("({text})"),
                (_, false) => format!("{word}({text})"),
            }
        }
    }
}

fn fields_of(word: &str, fields: &[(&str, Value)], name: &str, places: &[&str]) -> String {
    let mut text = String::new();
    for (field, value) in fields {
        // What an enum holds is of the field that has the enum.
        let told = told(value, if field.is_empty() { name } else { field }, word, places);
        if !told.is_empty() {
            let space = if text.is_empty() { "" } else { " " };
            let equals = if field.is_empty() { "" } else { "=" };
            let _ = write!(text, "{space}{field}{equals}{told}");
        }
    }
    text
}

/// The class of a Problem of this `Debug` text; numbers of these names tell places, too. A text that is not understood is a class of its own.
pub(crate) fn class(problem: &str, places: &[&str]) -> String {
    let mut reader = Reader { rest: problem };
    match reader.value() {
        Some(Value::Named(word, fields)) if reader.rest.trim().is_empty() => fields_of(word, &fields, "", places),
        _ => problem.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Layout, Mask, MaskKind, Op, attention, conv, gemm, norm, rope, sample, softmax, vq_scalar};

    #[test]
    fn sizes_and_alignments() {
        assert_eq!([0, 1, 16, 17, 24, 1000, 1024].map(size), ["0", "1", "16", "32/1", "32", "1024", "1024"]);
        assert_eq!([4094, 4092, 4095, u64::MAX].map(size)[..3], ["4096/2", "4096/4", "4096/1"]);
        assert_eq!([0, 1, 2, 12, 24].map(alignment), [8, 1, 2, 4, 8]);
    }

    #[test]
    fn a_class_by_hand() {
        let problem = softmax::Problem { rows: 4000, cols: 1023, ..Default::default() };
        assert_eq!(problem.class(), "rows=4096 cols=1024/1 dims=[1,1] x=F32 y=F32 scale=x");
        let mask = Some(Mask::shared(MaskKind::Additive(Dtype::F16), 1023));
        let more = softmax::Problem {
            mask,
            causal: true,
            lse: Some(3),
            x_layout: Layout::at(12),
            y_layout: Layout::strided(2, [0, 8, 6]),
            ..problem
        };
        assert_eq!(
            more.class(),
            "rows=4096 cols=1024/1 dims=[1,1] x=F32 y=F32 x_layout=(offset=4) y_layout=(offset=2 strides=[0,8,2]) scale=x \
             causal=true mask=Mask(kind=Additive(F16) layout=(strides=[0,0,1])) lse=some"
        );
        assert_eq!(class("what is (this", &[]), "what is (this");
    }

    /// What only a run reads, or nothing, makes no class of its own.
    #[test]
    fn a_class_holds_nothing_that_the_choice_does_not_depend_on() {
        let softmax = softmax::Problem { rows: 4000, cols: 1000, lse: Some(0), scale: 0.125, ..Default::default() };
        for other in [
            softmax::Problem { scale: 2.0, ..softmax },
            softmax::Problem { lse: Some(4001), ..softmax },
            softmax::Problem { rows: 4088, ..softmax },
            softmax::Problem { x_layout: Layout::at(64), ..softmax },
        ] {
            assert_eq!(other.class(), softmax.class(), "{other:?}");
        }
        for other in [
            softmax::Problem { cols: 1001, ..softmax },
            softmax::Problem { cols: 2000, ..softmax },
            softmax::Problem { lse: None, ..softmax },
            softmax::Problem { y: Dtype::F16, ..softmax },
            softmax::Problem { x_layout: Layout::at(1), ..softmax },
            softmax::Problem { log: true, ..softmax },
        ] {
            assert_ne!(other.class(), softmax.class(), "{other:?}");
        }

        let conv = conv::Problem { outputs: 64, ..Default::default() };
        assert_eq!(conv::Problem { kept_weights: true, ..conv }.class(), conv.class());
        let gemm = gemm::Problem { m: 100, n: 1000, k: 1000, alpha: 0.5, ..Default::default() };
        assert_eq!(gemm::Problem { alpha: 3.0, beta: 2.0, ..gemm }.class(), gemm.class());
        assert_ne!(gemm::Problem { alpha: 0.0, ..gemm }.class(), gemm.class());
        assert_ne!(gemm::Problem { trans_b: true, ..gemm }.class(), gemm.class());

        let of = |eps, stats| norm::Problem { rows: 64, cols: 512, eps, stats, ..norm::Problem::of(norm::Kind::Rms) };
        assert_eq!(of(1e-5, Some(0)).class(), of(1e-6, Some(77)).class());

        let keys = |lengths, sinks| attention::Problem {
            heads: 8,
            kv_heads: 8,
            seq_kv: 1000,
            head_dim: 80,
            value_dim: 80,
            lengths,
            sinks,
            scale: 0.1,
            ..Default::default()
        };
        assert_eq!(keys(Some(0), Some(0)).class(), keys(Some(12), Some(5)).class());
        assert_ne!(keys(None, None).class(), keys(Some(0), None).class());
        assert!(keys(None, None).class().contains("head_dim=80"));

        let drawn = |seed, step| sample::Problem {
            rows: 4,
            vocab: 32000,
            uniform: sample::Uniform::Philox { seed, step: sample::Step::At(step) },
            ..Default::default()
        };
        assert_eq!(drawn(1, 2).class(), drawn(77, 3).class());

        let rotated = |at, base: f64| rope::Problem {
            seq: 16,
            positions: rope::Positions::Offset(at),
            angles: rope::Angles::Frequencies(rope::Frequencies { per_pair: vec![base; 32], attention_factor: 1.0 }),
            ..Default::default()
        };
        assert_eq!(rotated(0, 1.0).class(), rotated(-5, 0.5).class());
        assert!(rotated(0, 1.0).class().contains("per_pair=[32]"), "{}", rotated(0, 1.0).class());

        let digits = vq_scalar::Problem { n: 100, levels: &[8, 5, 5, 5], ..Default::default() };
        assert!(digits.class().contains("levels=[8,5,5,5]"), "{}", digits.class());
    }
}
