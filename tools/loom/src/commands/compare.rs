//! `loom compare`: what differs between two runs, or two programs, by more than noise.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::commands::bench::Suite;
use crate::figures::{self, Line, Report, duration};
use crate::stats::{holm, mad, median, normal_quantile, normal_tail, signs};
use crate::table::table;

/// Tell what differs by more than noise; exit code 1 if anything does
///
/// Of two files, shares of ceilings are compared: how far neighbours in time differ, and how far most shapes differ, is taken
/// for noise. With --run two programs measure in turns, and signs of their differences are permuted. The error rate is that of
/// the whole table.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A file of `loom bench --out`; with --run a program
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The other one
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// Start the two programs in turns
    #[arg(long)]
    pub run: bool,
    /// How often, with --run: 6 at least for an error rate of 5 %
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=14))]
    pub pairs: u32,
    /// What they measure, with --run: kernels; all of them if none is named
    #[arg(long, value_name = "KERNEL")]
    pub kernel: Vec<String>,
    /// Of which suite, with --run [default: quick; with --shape any]
    #[arg(long, value_enum)]
    pub suite: Option<Suite>,
    /// Only the shape of this name, with --run
    #[arg(long, value_name = "NAME")]
    pub shape: Option<String>,
    /// Only adapters whose name contains NAME, with --run
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// How probable it may be that a table without differences shows one
    #[arg(long, value_name = "RATE", default_value_t = 0.05)]
    pub error: f64,
}

/// A shape that both have.
struct Row {
    name: String,
    old: [f64; 2],
    new: [f64; 2],
    /// Logarithms of new over old, pair by pair, or one.
    differences: Vec<f64>,
    /// Of the one difference.
    error: f64,
}

/// What is made of a row.
#[derive(Debug, Clone, PartialEq)]
struct Judged {
    /// Of new over old, less 1: shares of the ceiling.
    difference: f64,
    differs: bool,
    /// The least difference that would have been told.
    visible: f64,
}

/// Whether nothing differs, and the table.
///
/// # Errors
/// Files that cannot be read, programs that do not run, and nothing to compare.
pub fn run(options: &Options) -> Result<(bool, String), String> {
    if options.run && 2.0 / 2f64.powi(options.pairs.min(60) as i32) > options.error {
        let reason = "too few pairs: however they came out, chance could have done it at this error rate";
        return Err(format!("--pairs {}: {reason}", options.pairs));
    }
    let (rows, misses) = if options.run { measured(options)? } else { read(&options.old, &options.new)? };
    if rows.is_empty() && misses.is_empty() {
        return Err("there is no shape that both have measured".into());
    }
    let judged = if options.run { permuted(&rows, options.error) } else { alone(&rows, options.error) };
    let percent = |value: f64| format!("{:+.1} %", 100.0 * value);
    let told = rows.iter().zip(&judged).map(|(row, judged)| {
        let word = match (judged.differs, judged.difference > 0.0) {
            (false, _) => "",
            (true, true) => "FASTER",
            (true, false) => "SLOWER",
        };
        let side = |[seconds, share]: [f64; 2]| format!("{}, {:.0} %", duration(seconds), 100.0 * share);
        vec![
            row.name.clone(),
            side(row.old),
            side(row.new),
            percent(judged.difference),
            format!("{:.1} %", 100.0 * judged.visible),
            word.into(),
        ]
    });
    let mut text = table(&["kernel, shape", ">old", ">new", ">share", ">visible from", "verdict"], told);
    for miss in &misses {
        text += &format!("{miss}\n");
    }
    let (differ, visible): (usize, Vec<f64>) =
        (judged.iter().filter(|judged| judged.differs).count(), judged.iter().map(|judged| judged.visible).collect());
    text += &format!(
        "{differ} of {} shapes differ by more than noise, at an error rate of {:.0} % for the whole table; a difference of \
         {:.1} % would have been seen in half of them\n",
        rows.len(),
        100.0 * options.error,
        100.0 * median(&visible)
    );
    Ok((differ == 0 && misses.is_empty(), text))
}

/// Lines of two reports that are about the same, and what only one of them has a figure of.
fn paired<'a>(old: &'a Report, new: &'a Report) -> (Vec<(String, &'a Line, &'a Line)>, Vec<String>) {
    let (mut pairs, mut misses) = (Vec::new(), Vec::new());
    for line in &old.lines {
        let same = |other: &&Line| other.kernel == line.kernel && other.shape == line.shape;
        let Some(other) = new.lines.iter().find(same) else { continue };
        let name = format!("{} {}", line.kernel, line.shape);
        let reason = |line: &Line| line.failed.clone().or(line.skipped.clone()).unwrap_or("no figure".into());
        match (&line.figures, &other.figures) {
            (Some(_), Some(_)) => pairs.push((name, line, other)),
            (Some(_), None) => misses.push(format!("{name}: new has no figure: {}", reason(other))),
            (None, Some(_)) => misses.push(format!("{name}: old has no figure: {}", reason(line))),
            (None, None) => {}
        }
    }
    (pairs, misses)
}

/// Adapters of two files that are compared: those of one name, or the only ones.
fn matched(old: &[Report], new: &[Report]) -> Vec<(usize, usize)> {
    if let ([_], [_]) = (old, new) {
        return vec![(0, 0)];
    }
    let place = |report: &Report| new.iter().position(|other| other.adapter == report.adapter);
    old.iter().enumerate().filter_map(|(i, report)| Some((i, place(report)?))).collect()
}

fn read(old: &Path, new: &Path) -> Result<(Vec<Row>, Vec<String>), String> {
    let (old, new) = (figures::read(old)?, figures::read(new)?);
    let adapters = matched(&old, &new);
    let (mut rows, mut misses) = (Vec::new(), Vec::new());
    for &(i, j) in &adapters {
        let (pairs, more) = paired(&old[i], &new[j]);
        let of = |name: String| if adapters.len() > 1 { format!("{}: {name}", old[i].adapter) } else { name };
        misses.extend(more.into_iter().map(of));
        for (name, a, b) in pairs {
            let (Some(a), Some(b)) = (&a.figures, &b.figures) else { continue };
            rows.push(Row {
                name: of(name),
                old: [a.median_s, a.share],
                new: [b.median_s, b.share],
                differences: vec![difference(a, b)],
                error: error(a).hypot(error(b)),
            });
        }
    }
    Ok((rows, misses))
}

/// The logarithm of a ratio of shares; of speeds, where the ceilings are not those of the same thing, or the work is counted in another way.
fn difference(old: &figures::Figures, new: &figures::Figures) -> f64 {
    let work = |figures: &figures::Figures| [figures.gflops * figures.median_s, figures.gb_per_s * figures.median_s];
    let same = work(old).iter().zip(work(new)).all(|(old, new)| (old - new).abs() <= 1e-3 * old.abs());
    if old.bound == new.bound && same { (new.share / old.share).ln() } else { (old.median_s / new.median_s).ln() }
}

/// The standard error of the logarithm of a share, of medians of some turns in a row: turns that follow each other are alike.
fn error(figures: &figures::Figures) -> f64 {
    const BLOCKS: usize = 5;
    if figures.shares.len() < 2 * BLOCKS {
        // The normal distribution has 80 % within 1.28 of its spread, to each side.
        return figures.noise() / 1.28 / (figures.samples.clamp(1, BLOCKS) as f64).sqrt();
    }
    let blocks = figures.shares.chunks(figures.shares.len().div_ceil(BLOCKS));
    let medians: Vec<f64> = blocks.map(|block| median(block).ln()).collect();
    let mean = medians.iter().sum::<f64>() / medians.len() as f64;
    let squares: f64 = medians.iter().map(|v| (v - mean).powi(2)).sum();
    (squares / (medians.len() - 1) as f64 / medians.len() as f64).sqrt()
}

/// Rows of one difference each. What one run differs from the next by, beyond its own samples, is told by how far the
/// differences of the table lie apart; of a small table it is assumed.
fn alone(rows: &[Row], rate: f64) -> Vec<Judged> {
    const FEW: usize = 5;
    let all: Vec<f64> = rows.iter().map(|row| row.differences[0]).collect();
    let own = median(&rows.iter().map(|row| row.error.powi(2)).collect::<Vec<_>>());
    // Of a normal distribution the spread is 1.4826 times as large; of few values it is found too small as often as not.
    let wider = 1.4826 * (1.0 + 1.0 / (rows.len() as f64).sqrt());
    let (least, apart) = if rows.len() < FEW { (0.03, 0.0) } else { (0.01, wider * mad(&all)) };
    let between = (apart.powi(2) - own).max(f64::powi(least, 2));
    let spread = |row: &Row| (row.error.powi(2) + between).sqrt();
    let tails: Vec<f64> = rows.iter().map(|row| 2.0 * normal_tail(row.differences[0].abs() / spread(row))).collect();
    let wide = normal_quantile(1.0 - rate / 2.0 / rows.len().max(1) as f64);
    let differs = holm(&tails, rate);
    let judged = |(row, differs): (&Row, bool)| Judged {
        difference: row.differences[0].exp_m1(),
        differs,
        visible: (wide * spread(row)).exp_m1(),
    };
    rows.iter().zip(differs).map(judged).collect()
}

/// Rows of several differences. If nothing differs, each pair could have been measured the other way round: so signs of all
/// rows of a pair are changed together, and the largest statistic of the table is what each row is held against.
fn permuted(rows: &[Row], rate: f64) -> Vec<Judged> {
    let Some(pairs) = rows.first().map(|row| row.differences.len()) else { return Vec::new() };
    let n = pairs as f64;
    let squares: Vec<f64> = rows.iter().map(|row| row.differences.iter().map(|d| d * d).sum()).collect();
    // A row whose few differences happen to agree must not pass for one without noise.
    let shared = median(&squares.iter().map(|sum| sum / n / (n - 1.0)).collect::<Vec<_>>());
    let spread = |mean: f64, sum: f64| (((sum - n * mean * mean).max(0.0) / (n - 1.0) / n) + shared).sqrt();
    let statistic = |row: usize, signs: &[f64]| {
        let mean = rows[row].differences.iter().zip(signs).map(|(d, sign)| d * sign).sum::<f64>() / n;
        (mean, mean.abs() / spread(mean, squares[row]).max(1e-12))
    };
    let mut largest: Vec<f64> =
        signs(pairs).map(|signs| (0..rows.len()).map(|row| statistic(row, &signs).1).fold(0.0, f64::max)).collect();
    largest.sort_by(f64::total_cmp);
    let critical = largest[((1.0 - rate) * largest.len() as f64).floor().min(largest.len() as f64 - 1.0) as usize];
    let plain = vec![1.0; pairs];
    let judged = |row: usize| {
        let (mean, own) = statistic(row, &plain);
        let reached = largest.iter().filter(|other| **other >= own - 1e-9).count();
        Judged {
            difference: mean.exp_m1(),
            differs: reached as f64 <= rate * largest.len() as f64,
            visible: (critical * spread(mean, squares[row])).exp_m1(),
        }
    };
    (0..rows.len()).map(judged).collect()
}

/// Starts the programs in turns, each first in every other pair.
fn measured(options: &Options) -> Result<(Vec<Row>, Vec<String>), String> {
    let folder = std::env::temp_dir().join(format!("loom-compare-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (mut rows, mut misses): (Vec<Row>, Vec<String>) = (Vec::new(), Vec::new());
    let result = (0..options.pairs).try_for_each(|pair| {
        let sides = [(0, &options.old), (1, &options.new)];
        let mut found: [Vec<Report>; 2] = Default::default();
        for (side, program) in if pair % 2 == 0 { sides } else { [sides[1], sides[0]] } {
            eprintln!("pair {} of {}: {}", pair + 1, options.pairs, program.display());
            found[side] = once(program, options, &folder, pair)?;
        }
        let [old, new] = &found;
        let adapters = matched(old, new);
        for &(i, j) in &adapters {
            let (pairs, more) = paired(&old[i], &new[j]);
            let of = |name: String| if adapters.len() > 1 { format!("{}: {name}", old[i].adapter) } else { name };
            misses.extend(more.into_iter().map(of));
            for (name, a, b) in pairs {
                let (Some(a), Some(b)) = (&a.figures, &b.figures) else { continue };
                let (name, difference) = (of(name), difference(a, b));
                match rows.iter_mut().find(|row| row.name == name) {
                    Some(row) => row.differences.push(difference),
                    None => rows.push(Row {
                        name,
                        old: [a.median_s, a.share],
                        new: [b.median_s, b.share],
                        differences: vec![difference],
                        error: 0.0,
                    }),
                }
            }
        }
        Ok::<(), String>(())
    });
    let _ = std::fs::remove_dir_all(&folder);
    result?;
    misses.sort();
    misses.dedup();
    rows.retain(|row| row.differences.len() == options.pairs as usize);
    Ok((rows, misses))
}

/// What one program measures; options are those that earlier versions have, too.
fn once(program: &Path, options: &Options, folder: &Path, pair: u32) -> Result<Vec<Report>, String> {
    let out = folder.join("figures.json");
    let _ = std::fs::remove_file(&out);
    // A driver may come with a loader of its own, which has started this process: the words before the program.
    let words = crate::runner::process::own()?;
    let at = words.iter().position(|word| word == "compare").unwrap_or(1);
    let mut all: Vec<OsString> = words[..at.saturating_sub(1)].to_vec();
    let path = std::fs::canonicalize(program).map_err(|error| format!("{}: {error}", program.display()))?;
    all.push(path.into());
    let mut command = Command::new(&all[0]);
    command.args(&all[1..]).arg("bench").args(&options.kernel).arg("--out").arg(&out);
    // The two of a pair have the same inputs.
    command.args(["--seed", &(pair + 1).to_string()]);
    match (&options.suite, &options.shape) {
        (Some(suite), _) => command.args(["--suite", suite.name()]),
        (None, Some(_)) => &mut command,
        (None, None) => command.arg("--quick"),
    };
    if let Some(shape) = &options.shape {
        command.args(["--shape", shape]);
    }
    if let Some(name) = &options.adapter {
        command.args(["--adapter", name]);
    }
    let output = command.output().map_err(|error| format!("{}: {error}", program.display()))?;
    figures::read(&out).map_err(|_| {
        let told = String::from_utf8_lossy(&output.stderr);
        format!("{} gives no figures: {}", program.display(), told.lines().last().unwrap_or("it says nothing"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;
    use crate::random::Random;

    fn row(differences: Vec<f64>, error: f64) -> Row {
        Row { name: "row".into(), old: [1.0; 2], new: [1.0; 2], differences, error }
    }

    /// Tables that show a difference, of `tries`: of any row but the first, and that the first is slower.
    fn shown(tries: u64, judge: impl Fn(&mut Random) -> Vec<Judged>) -> [usize; 2] {
        let mut counts = [0, 0];
        for seed in 0..tries {
            let judged = judge(&mut Random::new(seed + 1));
            counts[0] += usize::from(judged.iter().skip(1).any(|judged| judged.differs));
            counts[1] += usize::from(judged[0].differs && judged[0].difference < 0.0);
        }
        counts
    }

    fn pairs(random: &mut Random, slower: f64, noise: f64) -> Vec<Judged> {
        let shift = |i| if i == 0 { -slower } else { 0.0 };
        let row = |i| {
            // Some shapes are noisier than others, and a pair has noise of its own.
            let own = noise * (1.0 + (i % 3) as f64 / 2.0);
            (0..8).map(|_| shift(i) + own * random.normal()).collect()
        };
        let rows: Vec<Row> = (0..30).map(row).map(|differences| self::row(differences, 0.0)).collect();
        permuted(&rows, 0.05)
    }

    #[test]
    fn programs_that_are_the_same_are_told_so_and_a_slower_one_is_seen() {
        let none = shown(200, |random| pairs(random, 0.0, 0.05));
        assert!(none[0] + none[1] <= 20, "{none:?} of 200 tables show a difference, 10 are expected");
        let slower = shown(50, |random| pairs(random, 0.105, 0.02));
        assert!(slower[1] >= 48 && slower[0] <= 8, "{slower:?} of 50");
    }

    #[test]
    fn files_that_are_the_same_are_told_so_and_a_slower_one_is_seen() {
        let table = |random: &mut Random, slower: f64| {
            // Between runs 2 %, within them 1 %.
            let mut row = |i: usize| {
                let shift = if i == 0 { -slower } else { 0.0 };
                self::row(vec![shift + 0.02 * random.normal() + 0.014 * random.normal()], 0.014)
            };
            alone(&(0..30).map(&mut row).collect::<Vec<_>>(), 0.05)
        };
        let none = shown(200, |random| table(random, 0.0));
        assert!(none[0] + none[1] <= 20, "{none:?} of 200 tables show a difference");
        let slower = shown(50, |random| table(random, 0.25));
        assert!(slower[1] >= 48, "{slower:?} of 50");
    }

    #[test]
    fn too_few_pairs_tell_nothing() {
        let rows = [row(vec![-0.3; 4], 0.0), row(vec![0.0, 0.01, -0.01, 0.0], 0.0)];
        assert!(permuted(&rows, 0.05).iter().all(|judged| !judged.differs));
    }

    #[test]
    fn a_figure_that_is_gone_is_a_difference() {
        let line = |figures: Option<Figures>, failed: Option<&str>| Line {
            kernel: "gemm".into(),
            shape: "1x1".into(),
            figures,
            failed: failed.map(str::to_string),
            ..Line::default()
        };
        let report = |line: Line| Report { lines: vec![line], ..Report::default() };
        let (old, new) = (report(line(Some(Figures::default()), None)), report(line(None, Some("wrong"))));
        let (pairs, misses) = paired(&old, &new);
        assert!(pairs.is_empty());
        assert_eq!(misses, ["gemm 1x1: new has no figure: wrong"]);
    }
}
