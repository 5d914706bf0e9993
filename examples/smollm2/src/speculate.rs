//! Speculative decoding without a second model: what followed the same words before is proposed (prompt lookup; Saxena, 2023), and
//! [`speculative_verify`] lets stand what the model would have said.

use tileloom::wgpu::Buffer;
use tileloom::{Dispatch, speculative_verify};

use crate::Result;
use crate::session::{Options, Session};
use crate::step::{Heads, Pick};

/// Proposals for one sequence.
pub struct Speculation {
    len: usize,
    /// Probabilities of the proposals, `[len, vocab]`: 1 at what is proposed.
    draft: Buffer,
    proposed: Buffer,
    uniform: Buffer,
    accepted: Buffer,
    tokens: Buffer,
    verify: Dispatch,
    random: u64,
    /// What was proposed last.
    last: Vec<u32>,
    /// Tokens that were proposed.
    pub tried: usize,
    /// Those that stood.
    pub stood: usize,
}

impl Speculation {
    /// Options of a session that verifies `len` tokens at a time.
    pub fn options(options: Options, len: usize) -> Options {
        Options { logits: len + 1, probs: len + 1, ..options }
    }

    /// Proposals of `len` tokens.
    pub fn new(session: &Session, len: usize) -> Result<Speculation> {
        let (gpu, vocab) = (session.gpu, session.model.sizes.vocab);
        let draft = gpu.zeros(len * vocab)?;
        let [proposed, uniform, accepted, tokens] = [len, len + 1, 1, len + 1].map(|words| gpu.zeros(words));
        let (proposed, uniform, accepted, tokens) = (proposed?, uniform?, accepted?, tokens?);
        let problem = speculative_verify::Problem { len, vocab, ..Default::default() };
        let target = &session.memory.probs;
        let buffers = speculative_verify::Buffers::new(&draft, target, &proposed, &uniform, &accepted, &tokens);
        let verify = speculative_verify::prepare(gpu.kernels(), &problem, buffers)?;
        let (random, last) = (session.options.seed, Vec::new());
        Ok(Speculation { len, draft, proposed, uniform, accepted, tokens, verify, random, last, tried: 0, stood: 0 })
    }

    /// What comes after `history`, whose last token is not in the cache yet: at least one token.
    pub fn next(&mut self, session: &mut Session, history: &[u32]) -> Result<Vec<u32>> {
        let room = session.options.context.saturating_sub(session.len(0) + 2);
        let guess = lookup(history, self.len.min(room));
        if guess.len() < self.len {
            session.force(&history[history.len() - 1..]);
            return Ok(session.next(1)?.remove(0));
        }
        let (gpu, vocab, len) = (session.gpu, session.model.sizes.vocab, session.len(0));
        for (i, &id) in self.last.iter().enumerate() {
            gpu.write_at(&self.draft, i * vocab + id as usize, &[0.0f32]);
        }
        for (i, &id) in guess.iter().enumerate() {
            gpu.write_at(&self.draft, i * vocab + id as usize, &[1.0f32]);
        }
        let uniform: Vec<f32> = (0..=self.len).map(|_| self.draw()).collect();
        gpu.write(&self.uniform, &uniform);
        gpu.write(&self.proposed, &guess);
        let ids: Vec<u32> = history[history.len() - 1..].iter().chain(&guess).copied().collect();
        session.pass(&[&ids], Heads::All, Some(Pick::Probs(session.options.settings)))?;
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        self.verify.record(&mut encoder);
        gpu.queue().submit([encoder.finish()]);
        let accepted = session.read::<u32>(1, &self.accepted)?[0] as usize;
        let tokens = session.read::<u32>(self.len + 1, &self.tokens)?;
        session.truncate(0, len + 1 + accepted);
        self.tried += self.len;
        self.stood += accepted;
        self.last = guess;
        Ok(tokens[..=accepted].to_vec())
    }

    /// A number in `[0, 1)` (SplitMix64; Steele et al., 2014).
    fn draw(&mut self) -> f32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// The tokens, at most `len`, that followed the last three, two or one tokens where these stood before, lately.
pub fn lookup(history: &[u32], len: usize) -> Vec<u32> {
    for n in (1..=3.min(history.len().saturating_sub(1))).rev() {
        let (end, before) = (&history[history.len() - n..], &history[..history.len() - 1]);
        if let Some(at) = before.windows(n).rposition(|window| window == end) {
            let rest = &history[at + n..];
            // What repeats goes on repeating.
            return rest.iter().cycle().take(len).copied().collect();
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::lookup;

    #[test]
    fn what_followed_is_proposed() {
        assert_eq!(lookup(&[1, 2, 3, 4, 5, 1, 2, 3], 2), [4, 5]);
        assert_eq!(lookup(&[7, 9, 1, 9, 2, 7, 9], 3), [1, 9, 2]);
        assert_eq!(lookup(&[5, 6, 5, 6], 4), [5, 6, 5, 6]);
        assert!(lookup(&[1, 2, 3], 2).is_empty());
        assert!(lookup(&[1], 2).is_empty());
    }
}
