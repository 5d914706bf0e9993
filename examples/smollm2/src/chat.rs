//! A chat on the terminal, the words appearing as they come.

use std::io::{BufRead, Write};
use std::time::Instant;

use crate::Result;
use crate::session::Session;
use crate::speculate::Speculation;
use crate::tokens::Tokens;

/// What a text has cost.
#[derive(Debug, Default, Clone, Copy)]
pub struct Rates {
    pub prompt: usize,
    pub prompt_seconds: f64,
    pub tokens: usize,
    pub seconds: f64,
}

/// One sequence that goes on.
pub struct Talk<'s, 'a> {
    pub session: &'s mut Session<'a>,
    pub speculation: Option<Speculation>,
    /// Tokens per submit.
    pub steps: usize,
    /// All tokens; the last one is not in the cache.
    pub history: Vec<u32>,
}

impl Talk<'_, '_> {
    /// Takes `ids` and goes on until one of `ends`, or `most` tokens; `word` is called with each.
    pub fn say(
        &mut self,
        ids: &[u32],
        most: usize,
        ends: &[u32],
        mut word: impl FnMut(u32) -> Result<()>,
    ) -> Result<Rates> {
        let pending = self.history.len() - self.session.len(0);
        self.history.extend(ids);
        let prompt = &self.history[self.history.len() - ids.len() - pending..];
        let mut rates = Rates { prompt: prompt.len(), ..Rates::default() };
        let start = Instant::now();
        self.session.stop_at(ends);
        let mut next = self.session.prefill(&[prompt])?;
        rates.prompt_seconds = start.elapsed().as_secs_f64();
        let (start, mut said) = (Instant::now(), 0);
        'all: loop {
            for id in next {
                self.history.push(id);
                said += 1;
                if ends.contains(&id) {
                    break 'all;
                }
                word(id)?;
                if said == most || self.history.len() == self.session.options.context {
                    break 'all;
                }
            }
            next = match &mut self.speculation {
                Some(speculation) => speculation.next(self.session, &self.history)?,
                None => {
                    let room = self.session.options.context - self.history.len();
                    self.session.next(self.steps.min(most - said).min(room))?.remove(0)
                }
            };
            rates.tokens += next.len();
            rates.seconds = start.elapsed().as_secs_f64();
        }
        // Of tokens that came together some may lie behind the end.
        self.session.truncate(0, self.history.len() - 1);
        Ok(rates)
    }
}

/// Lines from the terminal are turns of a chat, until they end.
pub fn run(mut talk: Talk, tokens: &Tokens, most: usize, tell: impl Fn(&Rates, &Talk)) -> Result<()> {
    let (mut line, mut first) = (String::new(), true);
    loop {
        eprint!("> ");
        line.clear();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            continue;
        }
        let ids = tokens.turn(line.trim(), first)?;
        first = false;
        let rates = talk.say(&ids, most, &tokens.ends, printed(tokens))?;
        println!();
        tell(&rates, &talk);
    }
}

/// Prints each word as it comes.
pub fn printed(tokens: &Tokens) -> impl FnMut(u32) -> Result<()> {
    let mut words = tokens.words();
    move |id| {
        print!("{}", words(id)?);
        Ok(std::io::stdout().flush()?)
    }
}
