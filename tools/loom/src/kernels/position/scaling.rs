//! Scalings of rotary frequencies, in the words of Hugging Face.

use serde_json::Value;
use tileloom::rope::{Scaling, Yarn};

use crate::case::{self, Fault};

/// Hugging Face's `rope_scaling`.
pub fn scaling(text: &str, max_position_embeddings: f64) -> Result<Scaling, Fault> {
    let bad = |expected: String| Fault::BadOption { name: "scaling", value: text.into(), expected };
    let json = |error: serde_json::Error| bad(format!("JSON: {error}"));
    if let Some(key) = case::doubled_key(text.as_bytes()).map_err(json)? {
        return Err(bad(format!("`{key}` once")));
    }
    let json: Value = serde_json::from_str(text).map_err(json)?;
    if json.is_null() {
        return Ok(Scaling::None);
    }
    let fields = json.as_object().ok_or_else(|| bad("a JSON object".into()))?;
    let kind = fields.get("rope_type").or_else(|| fields.get("type")).and_then(Value::as_str);
    let known: &[&str] = match kind {
        Some("default") => &[],
        Some("linear") => &["factor"],
        Some("dynamic") => &["factor", "original_max_position_embeddings"],
        Some("yarn") => &[
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
        ],
        Some("llama3") => &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
        Some("longrope") => {
            &["factor", "short_factor", "long_factor", "original_max_position_embeddings", "attention_factor"]
        }
        _ => return Err(bad("rope_type default, linear, dynamic, yarn, llama3 or longrope".into())),
    };
    if let Some(name) = fields.keys().find(|n| !known.contains(&n.as_str()) && *n != "rope_type" && *n != "type") {
        return Err(bad(format!("no field `{name}`, only: {}", known.join(", "))));
    }
    let number = |name: &str| match fields.get(name).filter(|v| !v.is_null()) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| bad(format!("a number as `{name}`"))),
    };
    let needed = |name: &str| number(name)?.ok_or_else(|| bad(format!("a field `{name}`")));
    let list = |name: &str| -> Result<Vec<f64>, Fault> {
        let values = fields.get(name).and_then(Value::as_array);
        let values = values.and_then(|values| values.iter().map(Value::as_f64).collect());
        values.ok_or_else(|| bad(format!("a list of numbers as `{name}`")))
    };
    let longest = || match max_position_embeddings > 0.0 {
        true => Ok(max_position_embeddings),
        false => Err(Fault::BadOption {
            name: "max_position_embeddings",
            value: String::new(),
            expected: "a length, by `scaling`".into(),
        }),
    };
    // The length that the model was trained with, and how far it is stretched.
    let original = || number("original_max_position_embeddings")?.map_or_else(longest, Ok);
    let stretch = || number("factor")?.map_or_else(|| Ok(longest()? / original()?), Ok);
    Ok(match kind {
        Some("linear") => Scaling::Linear { factor: needed("factor")? },
        Some("dynamic") => Scaling::Dynamic { factor: needed("factor")?, max_position_embeddings: original()? },
        Some("yarn") => {
            let plain = Yarn::new(stretch()?, original()?);
            let truncate = match fields.get("truncate") {
                None => true,
                Some(value) => value.as_bool().ok_or_else(|| bad("true or false as `truncate`".into()))?,
            };
            Scaling::Yarn(Yarn {
                beta_fast: number("beta_fast")?.unwrap_or(plain.beta_fast),
                beta_slow: number("beta_slow")?.unwrap_or(plain.beta_slow),
                truncate,
                attention_factor: number("attention_factor")?,
                mscale: number("mscale")?,
                mscale_all_dim: number("mscale_all_dim")?,
                ..plain
            })
        }
        Some("llama3") => Scaling::Llama3 {
            factor: needed("factor")?,
            low_freq_factor: needed("low_freq_factor")?,
            high_freq_factor: needed("high_freq_factor")?,
            original_max_position_embeddings: original()?,
        },
        Some("longrope") => Scaling::LongRope {
            short_factor: list("short_factor")?,
            long_factor: list("long_factor")?,
            original_max_position_embeddings: original()?,
            factor: stretch()?,
            attention_factor: number("attention_factor")?,
        },
        _ => Scaling::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalings_in_the_words_of_hugging_face() {
        let of = |text: &str| scaling(text, 8192.0);
        assert_eq!(of("null").unwrap(), Scaling::None);
        assert_eq!(of(r#"{"type": "linear", "factor": 2}"#).unwrap(), Scaling::Linear { factor: 2.0 });
        let yarn = of(r#"{"rope_type": "yarn", "original_max_position_embeddings": 2048}"#).unwrap();
        assert_eq!(yarn, Scaling::Yarn(Yarn::new(4.0, 2048.0)));
        let dynamic = of(r#"{"rope_type": "dynamic", "factor": 2.0}"#).unwrap();
        assert_eq!(dynamic, Scaling::Dynamic { factor: 2.0, max_position_embeddings: 8192.0 });
        for (text, expected) in [
            ("{", "JSON"),
            ("[]", "a JSON object"),
            (r#"{"rope_type": "su"}"#, "rope_type default, linear"),
            (r#"{"rope_type": "linear"}"#, "a field `factor`"),
            (r#"{"rope_type": "linear", "factor": "2"}"#, "a number as `factor`"),
            (r#"{"rope_type": "linear", "factor": 2, "beta": 1}"#, "no field `beta`"),
            (r#"{"rope_type": "linear", "factor": 2, "factor": 4}"#, "`factor` once"),
            (r#"{"rope_type": "linear", "factor": [{"x": 2, "x": 4}]}"#, "`x` once"),
            (
                r#"{"rope_type": "longrope", "short_factor": 3, "long_factor": []}"#,
                "a list of numbers as `short_factor`",
            ),
        ] {
            assert!(of(text).unwrap_err().to_string().contains(expected), "{text}");
        }
    }
}
