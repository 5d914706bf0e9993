//! Speculative decoding by a tree on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use tileloom::speculative_tree::{self, Accept, Buffers, Problem, Sampled, Typical};
use tileloom::{BeamOptions, Context, Error, ErrorKind, Tensor, TreeOptions, speculative_verify};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("speculative_tree", cases);

fn cases(suite: &mut Suite) {
    suite.case("worked out", worked_out);
    suite.case("errors", errors);
    suite.case("tensors", tensors);
    suite.case("a tree of one child each is a chain", chain);
}

/// Chains of a tree have what `speculative_verify` makes of them, where no number lies at a border.
fn chain(gpu: &Gpu) -> Result<(), String> {
    let (batch, len, vocab) = (60, 5, 40);
    let of = speculative_verify::Problem { batch, len, vocab, ..Default::default() };
    let verify = Call::random(of, 11);
    let (verified, _) = verify.check(gpu, &gpu.kernels, None)?;
    let mut values = verify.values.clone();
    values.insert("parents", (0..len).map(|node| node as f64 - 1.0).collect());
    // The draft has no place behind the last node.
    let last = vec![0.0; vocab];
    let draft = values["draft"].chunks(len * vocab).flat_map(|rows| [rows, &last].concat()).collect();
    values.insert("draft", draft);
    let accept = Accept::Sampled(Sampled { vocab, ..Default::default() });
    let tree = Call::new(Problem { batch, len, depth: len, accept, ..Problem::default() }, values);
    let (out, _) = tree.check(gpu, &gpu.kernels, None)?;
    let same = ["accepted", "tokens"].iter().all(|name| out.values[*name] == verified.values[*name]);
    let several = out.values["accepted"].iter().collect::<Vec<_>>().windows(2).any(|pair| pair[0] != pair[1]);
    if same && several { Ok(()) } else { Err(format!("{:?}, {:?}", out.values, verified.values)) }
}

/// What the other ops of this kind have on tensors, too.
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let integers = |t: &Tensor<i32>| pollster::block_on(t.read());
        let parents = context.upload(&[-1i32, -1, 0], &[3])?;
        let proposed = context.upload(&[5i32, 6, 7], &[1, 3])?;
        let drawn = context.upload(&[5u32, 7, 1, 2], &[1, 4])?;
        let out = proposed.speculative_tree(&parents, &drawn, &TreeOptions::default())?;
        assert_eq!(pollster::block_on(out.accepted.read())?, [2]);
        assert_eq!(integers(&out.tokens)?, [5, 7, 2, -1]);
        assert_eq!(integers(&out.path)?, [0, 2, -1]);
        let mut target = [0f32; 4 * 8];
        (target[6], target[2 * 8]) = (1.0, 1.0);
        let target = context.upload(&target, &[1, 4, 8])?;
        let options = TreeOptions { depth: Some(2), typical: Some((0.09, 0.3, &target)) };
        let out = proposed.speculative_tree(&parents, &drawn, &options)?;
        assert_eq!((integers(&out.tokens)?, integers(&out.path)?), (vec![6, 1, -1], vec![1, -1]));
        let error = proposed.speculative_tree(&proposed, &context.upload(&[0u32; 3], &[1, 3])?, &options).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "drawn", .. }), "{error}");

        let draft = context.upload(&[0.5f32, 0.5, 0.0], &[1, 1, 3])?;
        let target = context.upload(&[0.25f32, 0.5, 0.25, 0.0, 0.0, 1.0], &[1, 2, 3])?;
        let given = context.upload(&[1i32], &[1, 1])?;
        let uniform = context.upload(&[0.9f32, 0.5], &[1, 2])?;
        let out = target.speculative_verify(&draft, &given, &uniform)?;
        assert_eq!((pollster::block_on(out.accepted.read())?, integers(&out.tokens)?), (vec![1], vec![1, 2]));
        let error = target.speculative_verify(&draft, &given, &draft).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "uniform", .. }), "{error}");

        let scores = context.upload(&[0f32, -10.0], &[1, 2])?;
        let logits = context.upload(&[1f32, 2.0, 3.0, 9.0, 9.0, 9.0], &[1, 2, 3])?;
        let best = logits.beam_step(&scores, &BeamOptions { top: Some(2), log_softmax: false })?;
        let read = |t: &Tensor<u32>| pollster::block_on(t.read());
        assert_eq!((read(&best.beams)?, read(&best.tokens)?), (vec![0, 0], vec![2, 1]));
        assert_eq!(pollster::block_on(best.scores.read())?, [3.0, 2.0]);
        Ok::<_, Error>(())
    };
    run().map_err(|error| error.to_string())
}

/// The trees of the reference's tests.
fn worked_out(gpu: &Gpu) -> Result<(), String> {
    let run = |problem: &Problem, parents: &[i32], proposed: &[i32], drawn: &[u32], target: Option<&[f32]>| {
        let words = |words: &[i32]| gpu.buffer(bytemuck::cast_slice(words));
        let [parents, proposed] = [parents, proposed].map(words);
        let drawn = gpu.buffer(bytemuck::cast_slice(drawn));
        let [count, tokens, path] = [1, problem.depth + 1, problem.depth].map(|n| gpu.buffer(&vec![0; 4 * n]));
        let target = target.map(|target| gpu.buffer(bytemuck::cast_slice(target)));
        let mut buffers = Buffers::new(&parents, &proposed, &count, &tokens, &path).drawn(&drawn);
        if let Some(target) = &target {
            buffers = buffers.target(target);
        }
        let dispatch = speculative_tree::prepare(&gpu.kernels, problem, buffers).map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let read = |buffer| Ok::<Vec<i32>, String>(bytemuck::pod_collect_to_vec(&gpu.read(buffer)?));
        Ok::<_, String>((read(&count)?[0], read(&tokens)?, read(&path)?))
    };
    let expect = |have, want: (i32, &[i32], &[i32])| match have == (want.0, want.1.to_vec(), want.2.to_vec()) {
        true => Ok(()),
        false => Err(format!("{have:?} instead of {want:?}")),
    };

    let problem = Problem { len: 7, depth: 3, ..Problem::default() };
    let parents = [-1, 9, 0, 0, 1, 2, 6];
    let proposed = [7, 8, 7, 9, 5, 6, 8];
    let matched = |drawn: [u32; 8]| run(&problem, &parents, &proposed, &drawn, None);
    expect(matched([7, 9, 0, 0, 4, 0, 0, 0])?, (2, &[7, 9, 4, -1], &[0, 3, -1]))?;
    expect(matched([7, 7, 0, 6, 0, 0, 3, 0])?, (3, &[7, 7, 6, 3], &[0, 2, 5]))?;
    expect(matched([8, 0, 1, 0, 0, 0, 0, 0])?, (1, &[8, 1, -1, -1], &[1, -1, -1]))?;
    expect(matched([3, 0, 0, 0, 0, 0, 0, 0])?, (0, &[3, -1, -1, -1], &[-1, -1, -1]))?;

    let typical = Typical { vocab: 4, epsilon: 0.3, delta: 0.8, ..Typical::default() };
    let problem = Problem { len: 4, depth: 2, accept: Accept::Typical(typical), ..Problem::default() };
    let target = [[0.5f32, 0.3, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7], [0.25; 4], [0.0; 4], [0.0; 4]];
    let typical =
        |proposed: [i32; 4]| run(&problem, &[-1, -1, 0, 1], &proposed, &[0, 1, 2, 3, 1], Some(target.as_flattened()));
    expect(typical([0, 1, 3, 2])?, (2, &[0, 3, 3], &[0, 2]))?;
    expect(typical([0, 1, 1, 2])?, (2, &[1, 2, 1], &[1, 3]))?;
    expect(typical([1, 0, 1, 9])?, (1, &[0, 2, -1], &[1, -1]))?;
    expect(typical([0, 0, 1, -1])?, (1, &[0, 1, -1], &[0, -1]))?;
    expect(typical([2, 3, 3, 0])?, (0, &[0, -1, -1], &[-1, -1]))
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [parents, proposed, drawn, target, draft, uniform, count, tokens, path] =
        [3, 6, 8, 80, 80, 8, 2, 6, 4].map(|words: usize| gpu.buffer(&vec![0; words * 4]));
    let matched = Problem { batch: 2, len: 3, depth: 2, ..Problem::default() };
    let options = Typical { vocab: 10, ..Typical::default() };
    let with = |options| Problem { accept: Accept::Typical(options), ..matched };
    let good = with(options);
    let tree = Buffers::new(&parents, &proposed, &count, &tokens, &path);
    let buffers = tree.drawn(&drawn);
    let prepare = |problem: &Problem, buffers| speculative_tree::prepare(&gpu.kernels, problem, buffers).map(drop);
    prepare(&matched, buffers).map_err(|error| error.to_string())?;
    prepare(&good, buffers.target(&target)).map_err(|error| error.to_string())?;
    invalid("vocab", prepare(&with(Typical { vocab: 0, ..options }), buffers.target(&target)))?;
    invalid("vocab", prepare(&with(Typical { vocab: (1 << 20) + 1, ..options }), buffers.target(&target)))?;
    invalid("epsilon", prepare(&with(Typical { epsilon: -0.1, ..options }), buffers.target(&target)))?;
    invalid("delta", prepare(&with(Typical { delta: f32::NAN, ..options }), buffers.target(&target)))?;
    refused("no target", prepare(&good, buffers), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "target" })
    })?;
    refused("a target that is not asked for", prepare(&matched, buffers.target(&target)), |error| {
        matches!(error.kind, ErrorKind::UnusedBuffer { buffer: "target" })
    })?;
    let sampled = Problem { accept: Accept::Sampled(Sampled { vocab: 10, ..Default::default() }), ..matched };
    let of_draft = tree.target(&target).draft(&draft).uniform(&uniform);
    prepare(&sampled, of_draft).map_err(|error| error.to_string())?;
    refused("no draft", prepare(&sampled, tree.target(&target).uniform(&uniform)), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "draft" })
    })?;
    refused("drawn beside a draft", prepare(&sampled, of_draft.drawn(&drawn)), |error| {
        matches!(error.kind, ErrorKind::UnusedBuffer { buffer: "drawn" })
    })?;
    refused("nothing drawn", prepare(&matched, tree), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "drawn" })
    })?;
    let per_batch = tileloom::attention::Tree { per_batch: true, ..matched.tree };
    refused("few parents", prepare(&Problem { tree: per_batch, ..matched }, buffers), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "parents", need: 24, have: 12 })
    })?;
    refused("a short path", prepare(&Problem { depth: 3, ..matched }, buffers), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "tokens", need: 32, have: 24 })
    })?;
    let scratch = gpu.buffer(&[0; 4]);
    refused("little scratch", prepare(&good, buffers.target(&target).scratch(&scratch)), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "scratch", have: 4, .. })
    })?;
    let twice = Buffers::new(&parents, &proposed, &count, &tokens, &proposed).drawn(&drawn);
    refused("one buffer twice", prepare(&matched, twice), |error| matches!(error.kind, ErrorKind::Aliased { .. }))
}
