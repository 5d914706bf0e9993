//! What rope chooses.

use tileloom::Op;
use tileloom::caps::presets;
use tileloom::compose::Slots;
use tileloom::rope::{Angles, Frequencies, Heads, Problem, choose};

#[test]
fn few_invocations_get_fewer_heads_each() {
    for caps in presets() {
        let problem = |batch, seq| Problem {
            batch,
            seq,
            head_dim: 128,
            rotary_dim: 128,
            q: Heads::new(32),
            angles: Angles::Frequencies(Frequencies::new(128, 10_000.0).unwrap()),
            ..Problem::default()
        };
        let problems = [problem(1, 1), problem(4, 512)];
        let [decode, prefill] = problems.each_ref().map(|problem| choose(&caps, problem).unwrap());
        assert!(decode.share < prefill.share, "{}: {decode}, {prefill}", caps.name);
        // One pipeline serves both.
        let [decode, prefill] = [decode, prefill].map(|config| {
            let shaders = problems[0].shaders(&config, Slots::NONE).unwrap();
            shaders.iter().map(|shader| shader.source(true)).collect::<Vec<_>>()
        });
        assert_eq!(decode, prefill, "{}", caps.name);
    }
}
