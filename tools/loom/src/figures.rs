//! Measured figures, as `loom bench --out` writes them. Files of earlier versions lack what has a default.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::roofline::Ceiling;

/// The version of what is written now.
pub const SCHEMA: u32 = 2;

/// One line of the report.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Line {
    pub kernel: String,
    pub shape: String,
    pub config: String,
    /// The result is wrong, or the kernel did not run though it should: why there is no figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The adapter cannot run it, or not in time: why there is no figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    #[serde(flatten)]
    pub figures: Option<Figures>,
}

/// What was measured of one shape.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Figures {
    pub input_sets: usize,
    pub samples: usize,
    pub median_s: f64,
    /// Median by wall time per call, submitting and waiting included.
    pub wall_s: f64,
    pub p10_s: f64,
    pub p90_s: f64,
    pub gflops: f64,
    pub gb_per_s: f64,
    /// The ceiling that bounds this shape on this adapter: its name.
    pub bound: String,
    /// The bound's rate while the shape was measured, in the unit of its ceiling.
    pub roofline: f64,
    /// Of that rate.
    pub share: f64,
    /// Largest error of the check over what is allowed.
    pub error_ratio: f64,
    #[serde(default)]
    pub best_s: Option<f64>,
    #[serde(default)]
    pub worst_s: Option<f64>,
    /// Medians of the first and the last third of the samples: they differ where a clock has moved.
    #[serde(default)]
    pub thirds_s: Option<[f64; 2]>,
    /// Calls in a sample, one after the other between two timestamps.
    #[serde(default)]
    pub calls: Option<usize>,
    /// Shares turn by turn: kernel and ceiling in the same moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<f64>,
    /// Operations per byte.
    #[serde(default)]
    pub intensity: Option<f64>,
    /// `strict`: f32 in all that are floats; `fast`: 16 bits, bytes or cooperative matrices.
    #[serde(default)]
    pub contract: Option<String>,
    /// Bytes of arguments and scratch of one call, all that is alive at once.
    #[serde(default)]
    pub device_bytes: Option<u64>,
    /// What makes the figure doubtful.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

impl Figures {
    /// The relative width of the samples: half the distance of the quantiles over the median.
    pub fn noise(&self) -> f64 {
        (self.p90_s - self.p10_s) / 2.0 / self.median_s
    }
}

/// Where, and of what, figures are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// `linux x86_64`, and what the system calls itself.
    pub os: String,
    /// `Cpu`, `DiscreteGpu` ..
    pub device_type: String,
    pub tileloom: String,
    pub wgpu: String,
    pub naga: String,
    /// Of the source tree that the program was built from, when it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// wgpu's runtime checks.
    pub checks: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<String>,
    /// Processes that ran or waited to run at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// What was typed.
    pub command: String,
    pub suite: String,
    /// Of the inputs.
    pub seed: u64,
    /// Seconds since 1970.
    pub time: u64,
}

impl Facts {
    /// Name and text.
    fn told(&self) -> Vec<(&'static str, String)> {
        let commit = self.commit.as_ref().map_or(String::new(), |commit| format!(", commit {commit}"));
        let Facts { tileloom, wgpu, naga, .. } = self;
        let mut all = vec![
            ("system", self.os.clone()),
            ("kind", self.device_type.clone()),
            ("versions", format!("tileloom {tileloom}{commit}; wgpu {wgpu}, naga {naga}")),
            ("runtime checks", self.checks.clone()),
            ("power", self.power.clone().unwrap_or("not known".into())),
        ];
        all.extend(self.load.map(|load| ("load at the start", format!("{load} processes ran or waited"))));
        all.push(("command", self.command.clone()));
        all.push(("seed", self.seed.to_string()));
        all
    }
}

/// All of one adapter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    #[serde(default)]
    pub schema: u32,
    pub adapter: String,
    pub name: String,
    pub driver: String,
    pub backend: String,
    pub clock: String,
    /// Time by timestamps over wall time, of the copy.
    pub timestamps_to_wall: Option<f64>,
    pub copy_gb_per_s: f64,
    pub copy: String,
    pub fma_gflops: f64,
    pub fma: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ceilings: Vec<Ceiling>,
    /// The smallest difference that the clock tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_s: Option<f64>,
    /// From one tiny dispatch to the next in a pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch_s: Option<f64>,
    /// Wall time from the submission of a tiny dispatch to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submit_s: Option<f64>,
    pub lines: Vec<Line>,
}

impl Report {
    pub fn ok(&self) -> bool {
        self.lines.iter().all(|line| line.failed.is_none())
    }

    /// `31 measured, 2 skipped, 0 failed, 1 doubtful`.
    pub fn counts(&self) -> String {
        let count = |wanted: fn(&Line) -> bool| self.lines.iter().filter(|line| wanted(line)).count();
        format!(
            "{} measured, {} skipped, {} failed, {} doubtful",
            count(|line| line.figures.is_some()),
            count(|line| line.skipped.is_some()),
            count(|line| line.failed.is_some()),
            count(|line| line.figures.as_ref().is_some_and(|f| f.doubt.is_some())),
        )
    }

    /// What is known of the adapter and the run: name and text.
    pub fn told(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("adapter", format!("{}, {}", self.name, self.backend)), ("driver", self.driver.clone())];
        all.extend(self.facts.iter().flat_map(Facts::told));
        let ratio =
            self.timestamps_to_wall.map(|ratio| format!("; {:.0} % of wall time over a long copy", 100.0 * ratio));
        all.push(("clock", self.clock.clone() + &ratio.unwrap_or_default()));
        if let (Some(step), Some(dispatch), Some(submit)) = (self.step_s, self.dispatch_s, self.submit_s) {
            all.push(("step of the clock", duration(step)));
            all.push(("dispatch", format!("{} from one to the next", duration(dispatch))));
            all.push(("submission", format!("{} until its end is seen", duration(submit))));
        }
        all
    }

    /// What measures a line of it again.
    pub fn command(&self, line: &Line) -> String {
        let of = |Facts { suite, seed, .. }: &Facts| {
            let suite = if suite.is_empty() { String::new() } else { format!(" --suite {suite}") };
            format!("{suite} --seed {seed}")
        };
        let seed = self.facts.as_ref().map_or(String::new(), of);
        let config = if line.config.is_empty() { String::new() } else { format!(" --config '{}'", line.config) };
        format!("loom bench {} --adapter {} --shape '{}'{config}{seed}", line.kernel, self.adapter, line.shape)
    }
}

/// tileloom beside others on one adapter, as `peers --out` writes it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Peers {
    #[serde(default)]
    pub schema: u32,
    pub adapter: String,
    pub name: String,
    pub driver: String,
    pub backend: String,
    pub clock: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    /// Who was measured beside tileloom, and as what.
    pub peers: Vec<String>,
    pub lines: Vec<Side>,
}

/// One shape by tileloom or by a peer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Side {
    pub kernel: String,
    pub shape: String,
    pub who: String,
    #[serde(default)]
    pub config: String,
    /// Why there is no figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    #[serde(flatten)]
    pub figures: Option<SideFigures>,
}

/// What one of them achieved.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SideFigures {
    pub samples: usize,
    pub calls_per_sample: usize,
    pub median_s: f64,
    pub p10_s: f64,
    pub p90_s: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gflops: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gb_per_s: Option<f64>,
    /// Of a language model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// The median over tileloom's; none where tileloom has no figure.
    pub times_tileloom: Option<f64>,
    /// The largest error over what is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_ratio: Option<f64>,
    /// tileloom's figure by the method of `loom bench`, each of its samples beside one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bench: Option<ByBench>,
}

/// A call by the method of `loom bench`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ByBench {
    pub median_s: f64,
    /// How much longer a call takes by the method of `peers`, pair by pair: the median.
    pub apart: f64,
    /// The ceiling that bounds it, and the share of it.
    pub bound: String,
    pub share: f64,
}

/// How far figures of one call by two methods may lie apart.
const AGREEMENT: f64 = 0.1;

impl ByBench {
    /// Whether the two methods agree.
    pub fn agrees(&self) -> bool {
        self.apart.abs() <= AGREEMENT
    }
}

impl Peers {
    pub fn ok(&self) -> bool {
        self.lines.iter().all(|line| line.failed.is_none())
    }

    /// The lines of each shape, in their order.
    pub fn shapes(&self) -> Vec<&[Side]> {
        self.lines.chunk_by(|a, b| a.kernel == b.kernel && a.shape == b.shape).collect()
    }

    /// Who computes a shape in less time than tileloom, the fastest of each shape, the largest difference first.
    pub fn losses(&self) -> Vec<&Side> {
        let times = |side: &&Side| side.figures.as_ref().and_then(|f| f.times_tileloom).unwrap_or(f64::INFINITY);
        let fastest = self.shapes().into_iter().filter_map(|sides| {
            let others = sides.iter().filter(|side| !side.who.starts_with("tileloom"));
            others.min_by(|a, b| times(a).total_cmp(&times(b)))
        });
        let mut all: Vec<&Side> = fastest.filter(|side| times(side) < 1.0).collect();
        all.sort_by(|a, b| times(a).total_cmp(&times(b)));
        all
    }

    /// What is known of the adapter and the run: name and text.
    pub fn told(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("adapter", format!("{}, {}", self.name, self.backend)), ("driver", self.driver.clone())];
        all.extend(self.facts.iter().flat_map(Facts::told));
        all.push(("clock", self.clock.clone()));
        all.push(("peers", self.peers.join(", ")));
        all
    }
}

/// What files hold.
#[derive(Debug, Clone, Default)]
pub struct Files {
    pub reports: Vec<Report>,
    pub peers: Vec<Peers>,
}

impl Files {
    /// Adds what a file of `loom bench --out` or of `peers --out` holds.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds something else.
    pub fn add(&mut self, file: &Path) -> Result<(), String> {
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| told(&error))?;
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| told(&error))?;
        let schema = |value: &serde_json::Value| value["schema"].as_u64();
        let schemas = value.as_array().map_or(schema(&value), |reports| reports.iter().filter_map(schema).max());
        if let Some(schema) = schemas.filter(|&schema| schema > SCHEMA.into()) {
            let reason =
                format!("written by a later loom: version {schema} of the format, this one reads up to {SCHEMA}");
            return Err(told(&reason));
        }
        if value.is_array() {
            self.reports.extend(serde_json::from_value::<Vec<Report>>(value).map_err(|error| told(&error))?);
        } else {
            self.peers.push(serde_json::from_value(value).map_err(|error| told(&error))?);
        }
        Ok(())
    }
}

/// The reports of a file of `loom bench --out`.
///
/// # Errors
/// A file that cannot be read, or that holds something else.
pub fn read(file: &Path) -> Result<Vec<Report>, String> {
    let mut files = Files::default();
    files.add(file)?;
    match files.peers.is_empty() {
        true => Ok(files.reports),
        false => Err(format!("{}: figures of `peers`, not of `loom bench`", file.display())),
    }
}

/// `1.23 ms`, in three digits.
pub fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// Three digits, or all before the point.
pub fn digits(value: f64) -> String {
    let places = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}

/// `1.50 MiB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        b if b < 1 << 10 => format!("{b} B"),
        b if b < 1 << 20 => format!("{} KiB", digits(b as f64 / 1024.0)),
        b if b < 1 << 30 => format!("{} MiB", digits(b as f64 / (1 << 20) as f64)),
        b => format!("{} GiB", digits(b as f64 / (1u64 << 30) as f64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits() {
        assert_eq!([1234.5, 99.94, 9.994, 0.001].map(digits), ["1234", "99.9", "9.99", "0.00"]);
        assert_eq!([2e-8, 2.5e-6, 0.0123, 2.0].map(duration), ["20.0 ns", "2.50 µs", "12.3 ms", "2.00 s"]);
        assert_eq!([7, 1536, 3 << 19, 5 << 30].map(bytes), ["7 B", "1.50 KiB", "1.50 MiB", "5.00 GiB"]);
    }

    #[test]
    fn files_of_before_are_read() {
        let old = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bench-of-0.1.json")).unwrap();
        assert!(old[0].facts.is_none() && old[0].ceilings.is_empty() && old[0].ok());
        let figures = old[0].lines[0].figures.as_ref().unwrap();
        assert!(figures.best_s.is_none() && figures.share > 0.0);
        let text = serde_json::to_string(&old).unwrap();
        let again: Vec<Report> = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
    }
}
