//! Sampling, described.

use tileloom::sample::{Config, History, Problem, Settings, Step, Uniform};
use tileloom::verify::Describe;
use tileloom::verify::sampling::sample::filters;
use tileloom::{Dtype, Layout};

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

fn shape(rows: usize, vocab: usize) -> Problem {
    Problem { rows, vocab, ..Problem::default() }
}

/// With probabilities and tokens.
fn both(problem: Problem) -> Problem {
    Problem { probs: Some(Layout::default()), ..problem }
}

fn with_history(len: usize, problem: Problem) -> Problem {
    Problem { history: Some(History { len, layout: Layout::default() }), ..problem }
}

/// The one and only row of each kind: hidden throughout, one visible, infinities, NaN, both zeros, all equal, huge, tiny.
fn hostile(problem: &Problem, values: &mut Values) {
    let vocab = problem.vocab;
    values.entry("logits").and_modify(|logits| {
        for (row, logits) in logits.chunks_mut(vocab).enumerate() {
            match row {
                0 => logits.fill(f64::NEG_INFINITY),
                1 => {
                    logits.fill(f64::NAN);
                    logits[vocab - 1] = -3.0;
                }
                2 => logits[vocab / 2] = f64::INFINITY,
                3 => logits.iter_mut().step_by(3).for_each(|z| *z = f64::NEG_INFINITY),
                4 => logits.iter_mut().enumerate().for_each(|(i, z)| *z = if i % 2 == 0 { 0.0 } else { -0.0 }),
                5 => logits.fill(1.5),
                6 => logits.iter_mut().for_each(|z| *z *= 1e37),
                7 => logits.iter_mut().for_each(|z| *z *= 1e-30),
                8 => logits.iter_mut().for_each(|z| *z = -z.abs() - 50.0),
                _ => {}
            }
        }
    });
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    // Params of all pipelines.
    const RUNTIME: &'static [&'static str] = &["part"];

    fn list(list: &mut List<Problem>) {
        for (name, settings) in filters() {
            for (rows, vocab) in [(1, 1), (3, 2), (5, 257), (2, 5000)] {
                let entry = list.narrow(name, both(Problem { settings, ..shape(rows, vocab) }));
                entry.twice();
            }
            list.narrow("hidden, infinite, equal, huge and tiny logits", both(Problem { settings, ..shape(10, 300) }))
                .seed(2)
                .set(hostile);
        }
        let all = Settings { temperature: 0.9, top_k: 300, top_p: 0.8, min_p: 0.001, ..Settings::default() };
        let penalties =
            Settings { repetition_penalty: 1.3, frequency_penalty: 0.2, presence_penalty: 0.5, top_p: 0.9, ..all };
        for (rows, vocab) in [(4, 300), (3, 257)] {
            let problem = with_history(40, Problem { settings: penalties, ..shape(rows, vocab) });
            list.narrow("penalties, tokens that do not exist", both(problem)).seed(3);
        }
        list.narrow("settings of each row", both(with_history(9, Problem { per_row: Some(3), ..shape(12, 400) })))
            .seed(4);
        let philox = |step| Uniform::Philox { seed: 0x0123_4567_89ab_cdef, step };
        for step in [Step::At(7), Step::Buffer(2)] {
            list.narrow("a generator on the device", Problem { uniform: philox(step), settings: all, ..shape(9, 500) })
                .seed(5);
        }
        for (logits, offset, step) in [(Dtype::F16, 4, 1004), (Dtype::Bf16, 3, 1001), (Dtype::F32, 1, 1003)] {
            let problem = Problem {
                logits,
                logits_layout: Layout::strided(offset, [step]),
                probs: Some(Layout::strided(2, [1001])),
                token: Some(5),
                uniform: Uniform::Buffer(3),
                settings: all,
                ..shape(3, 1000)
            };
            list.narrow("f16 and bf16, strided", problem).seed(6);
        }
        // Ties of 16-bit logits at every threshold.
        for (name, settings) in filters() {
            let problem = both(Problem { logits: Dtype::Bf16, settings, ..shape(2, 20_000) });
            list.wide(format!("ties, {name}"), problem).seed(7);
        }
        let edges = |problem: &Problem, values: &mut Values| {
            let uniforms =
                [0.0, -0.0, 1.0 - 2f64.powi(-24), 1.0, 2.0, -1.0, 2f64.powi(-24), f64::from(f32::MIN_POSITIVE)];
            let at = |row: usize| uniforms[row % uniforms.len()];
            values.insert("uniform", (0..problem.rows).map(at).collect());
        };
        list.narrow("the ends of uniform", Problem { settings: all, ..shape(8, 700) }).seed(8).set(edges);
        list.narrow("tokens alone", Problem { settings: all, ..shape(40, 600) }).seed(9);
        list.narrow("probabilities alone", Problem { token: None, ..both(Problem { settings: all, ..shape(4, 600) }) })
            .seed(9);
        let few = Config { wg_size: 16, part: 64 };
        list.narrow("many small parts", both(Problem { settings: all, ..shape(2, 4000) })).seed(10).config(few);
        list.wide(
            "checked modules give the same",
            both(with_history(8, Problem { settings: penalties, ..shape(2, 900) })),
        )
        .seed(11)
        .checked();
        for (name, settings) in filters().into_iter().filter(|(name, _)| ["top-p", "all filters"].contains(name)) {
            list.wide(format!("152,064 tokens, {name}"), both(Problem { settings, ..shape(2, 152_064) })).seed(12);
        }
        for (name, settings) in [("all", all), ("arg-max", Settings { temperature: 0.0, ..all })] {
            for rows in [1, 16] {
                let entry = list.bench(format!("{rows}x152064 {name}"), Problem { settings, ..shape(rows, 152_064) });
                if name == "all" {
                    entry.quick();
                }
            }
        }
        for (name, settings) in [
            ("top-k", Settings { top_k: 50, ..Settings::default() }),
            ("top-p", Settings { top_p: 0.9, ..Settings::default() }),
        ] {
            list.bench(format!("1x152064 {name}"), Problem { settings, ..shape(1, 152_064) });
        }
        list.large("256x152064 all", Problem { settings: all, ..shape(256, 152_064) });
        for logits in Dtype::ALL {
            list.compose(with_history(3, Problem { logits, per_row: Some(0), ..shape(2, 64) }));
            list.compose(Problem { logits, per_row: Some(0), token: None, ..both(shape(2, 7)) });
        }
    }

    /// Logits are counted once.
    fn cost(&self) -> Cost {
        Cost::of(0.0, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        let s = &mut self.settings;
        options.value("repetition_penalty", &mut s.repetition_penalty)?;
        options.value("frequency_penalty", &mut s.frequency_penalty)?;
        options.value("presence_penalty", &mut s.presence_penalty)?;
        options.value("temperature", &mut s.temperature)?;
        options.value("top_k", &mut s.top_k)?;
        options.value("top_p", &mut s.top_p)?;
        options.value("min_p", &mut s.min_p)?;
        options.value("logits_layout", &mut self.logits_layout)?;
        let mut tokens = self.history.map(|history| history.layout);
        options.value("tokens_layout", &mut tokens)?;
        if let (Some(history), Some(layout)) = (&mut self.history, tokens) {
            history.layout = layout;
        }
        options.value("settings_offset", &mut self.per_row)?;
        options.value("probs_layout", &mut self.probs)?;
        options.value("token_offset", &mut self.token)?;
        let (mut uniform, mut seed, mut at, mut in_buffer) = match self.uniform {
            Uniform::Buffer(at) => (Some(at), None, 0, None),
            Uniform::Philox { seed, step: Step::At(at) } => (None, Some(seed), at, None),
            Uniform::Philox { seed, step: Step::Buffer(offset) } => (None, Some(seed), 0, Some(offset)),
        };
        options.value("uniform_offset", &mut uniform)?;
        options.value("seed", &mut seed)?;
        options.value("step", &mut at)?;
        options.value("step_offset", &mut in_buffer)?;
        self.uniform = match seed {
            None => Uniform::Buffer(uniform.unwrap_or(0)),
            Some(seed) => Uniform::Philox { seed, step: in_buffer.map_or(Step::At(at), Step::Buffer) },
        };
        Ok(())
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (logits, dtype) = reader.values("logits", "[n, vocab]")?;
        let &[rows, vocab] = &logits.shape[..] else {
            return Err(case::bad_shape("logits", logits, "[n, vocab]"));
        };
        let mut values: Values = [("logits", logits.numbers().unwrap_or_default())].into();
        let mut problem = both(Problem { logits: dtype, ..shape(rows, vocab) });
        if let Some(tokens) = reader.optional("tokens") {
            let &[have, len] = &tokens.shape[..] else {
                return Err(case::bad_shape("tokens", tokens, format!("[{rows}, history]")));
            };
            if have != rows {
                return Err(case::bad_shape("tokens", tokens, format!("[{rows}, history]")));
            }
            // What does not fit in 32 bits does not exist either.
            let token = |t: i64| if i32::try_from(t).is_ok() { t as f64 } else { -1.0 };
            values.insert("tokens", case::integers("tokens", tokens)?.into_iter().map(token).collect());
            problem = with_history(len, problem);
        }
        if let Some(settings) = reader.optional("settings") {
            case::float("settings", settings)?;
            if settings.shape != [rows, Settings::WORDS] {
                return Err(case::bad_shape("settings", settings, format!("[{rows}, {}]", Settings::WORDS)));
            }
            values.insert("settings", settings.numbers().unwrap_or_default());
            problem.per_row = Some(0);
        }
        if let Some(step) = reader.optional("step") {
            if step.shape != [1] {
                return Err(case::bad_shape("step", step, "[1]"));
            }
            let numbers = case::integers("step", step)?;
            if numbers.iter().any(|&number| u32::try_from(number).is_err()) {
                return Err(case::bad_shape("step", step, "[1], a number from 0 to 2^32 - 1"));
            }
            values.insert("step", numbers.into_iter().map(|v| v as f64).collect());
            problem.uniform = Uniform::Philox { seed: 0, step: Step::Buffer(0) };
        }
        if let Some(uniform) = reader.optional("uniform") {
            case::float("uniform", uniform)?;
            if uniform.shape != [rows] {
                return Err(case::bad_shape("uniform", uniform, format!("[{rows}]")));
            }
            values.insert("uniform", uniform.numbers().unwrap_or_default());
        }
        problem.options(&mut Options::Read(reader))?;
        if vocab == 0 {
            return Err(case::bad_shape("logits", logits, "[n, vocab] with a token at least"));
        }
        let args = problem.args();
        let outputs = [("probs", vec![rows, vocab]), ("token", vec![rows])];
        let outputs = outputs.into_iter().filter(|(name, _)| args.iter().any(|arg| arg.name == *name));
        let outputs = outputs.map(|(name, shape)| Shown::new(name, shape)).collect();
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "logits" | "probs" => vec![self.rows, self.vocab],
            "tokens" => vec![self.rows, self.history.map_or(0, |history| history.len)],
            "settings" => vec![self.rows, Settings::WORDS],
            "step" => vec![1],
            _ => vec![self.rows],
        }
    }
}
