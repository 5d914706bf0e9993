//! What is told of each pipeline, as JSON, as a table, and against an older report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::loops::Main;
use super::model::Estimate;
use super::program::{Counts, Kind, Space};
use super::targets::Isa;
use crate::table::table;

/// One pipeline on one target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Row {
    pub shader: String,
    pub config: String,
    /// The benchmarks that it is a step of; `#2` stands behind one whose second step it is.
    pub shapes: Vec<String>,
    /// Why there is nothing to tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed: Option<String>,
    #[serde(flatten)]
    pub figures: Option<Figures>,
}

/// What a driver told, and what was counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Invocations.
    pub subgroup: u32,
    /// Per invocation: VGPRs, GPRs, halves of registers on Apple, vectors of four on Adreno.
    pub registers: u32,
    /// Values, or instructions, that go to memory for want of registers.
    pub spills: u32,
    /// Values that go to registers of another kind: scalars to vectors, predicates to registers.
    pub parked: u32,
    /// Bytes per invocation of memory of its own: spills, and arrays that an index moves through.
    pub scratch: u32,
    /// Bytes of workgroup memory.
    pub workgroup: u32,
    /// Subgroups at once, at most: per SIMD on AMD, per SM on NVIDIA, per core on Adreno; invocations of a workgroup on Apple.
    pub occupancy: u32,
    pub instructions: u32,
    /// Clocks that the driver estimates for one subgroup (AMD, NVIDIA).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency: Option<u32>,
    /// Clocks that the driver estimates per subgroup where many run (AMD).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub throughput: Option<u32>,
    /// Of all of it; the baseline has them where there is no main loop.
    #[serde(skip_serializing_if = "Counts::is_empty", default)]
    pub kinds: Counts,
    #[serde(rename = "loop", skip_serializing_if = "Option::is_none", default)]
    pub main: Option<Main>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub estimate: Option<Estimate>,
}

impl Figures {
    /// What a driver's statistics are called here.
    pub fn of(isa: Isa, statistics: &BTreeMap<String, f64>, subgroup: u32, workgroup: u32) -> Figures {
        let told = |name: &str| statistics.get(name).map(|&value| value as u32);
        let sum = |names: &[&str]| names.iter().filter_map(|name| told(name)).sum();
        let one = |name: &str| told(name).unwrap_or(0);
        let plain = Figures { subgroup, workgroup, ..Figures::default() };
        match isa {
            Isa::Aco => Figures {
                registers: one("VGPRs"),
                spills: one("Spilled VGPRs"),
                parked: one("Spilled SGPRs"),
                scratch: one("Scratch size"),
                workgroup: one("LDS size").max(workgroup),
                occupancy: one("Subgroups per SIMD"),
                instructions: one("Instructions"),
                latency: told("Latency"),
                throughput: told("Inverse Throughput"),
                ..plain
            },
            Isa::Nak => Figures {
                registers: one("Number of GPRs"),
                spills: one("Spills to memory"),
                parked: one("Spills to reg"),
                scratch: one("SLM size"),
                occupancy: one("Max warps/SM"),
                instructions: one("Instruction count"),
                latency: told("Static cycle count"),
                ..plain
            },
            Isa::Agx => Figures {
                registers: one("GPRs"),
                spills: one("Spills"),
                scratch: one("Scratch"),
                occupancy: one("Threads"),
                instructions: one("Instructions"),
                ..plain
            },
            Isa::Ir3 => Figures {
                registers: one("Registers used"),
                spills: sum(&["STP Count", "LDP Count"]),
                occupancy: one("Max Waves Per Core"),
                instructions: one("Instruction Count"),
                ..plain
            },
        }
    }

    /// Whether registers did not suffice, or memory of its own is used.
    pub fn spills(&self) -> bool {
        self.spills > 0 || self.scratch > 0
    }

    /// What is counted: the main loop, or all of it where there is none.
    pub fn counted(&self) -> &Counts {
        self.main.as_ref().map_or(&self.kinds, |main| &main.counts)
    }
}

/// All pipelines of one target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    pub target: String,
    pub gpu: String,
    /// What the driver calls itself.
    pub driver: String,
    /// Why rows are missing, or all of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed: Option<String>,
    pub rows: Vec<Row>,
}

impl Report {
    /// A row per line.
    ///
    /// # Panics
    /// Never: what it has can be written as JSON.
    pub fn json(&self) -> String {
        let text = |value: &dyn Fn() -> serde_json::Result<String>| value().expect("is written as JSON");
        let head = Report { rows: Vec::new(), ..self.clone() };
        let head = text(&|| serde_json::to_string(&head));
        let rows: Vec<String> = self.rows.iter().map(|row| text(&|| serde_json::to_string(row))).collect();
        if rows.is_empty() {
            return head;
        }
        format!("{}[\n{}\n]}}", head.trim_end_matches("[]}"), rows.join(",\n"))
    }

    /// What a baseline keeps.
    #[must_use]
    pub fn brief(&self) -> Report {
        let mut brief = self.clone();
        for figures in brief.rows.iter_mut().filter_map(|row| row.figures.as_mut()) {
            if figures.main.is_some() {
                figures.kinds = Counts::default();
            }
            figures.estimate.iter_mut().for_each(|estimate| estimate.clocks.clear());
        }
        brief
    }

    /// Those that spill, with their shapes.
    pub fn spilled(&self) -> impl Iterator<Item = (&Row, &Figures)> {
        self.rows.iter().filter_map(|row| Some((row, row.figures.as_ref()?))).filter(|(_, figures)| figures.spills())
    }

    pub fn render(&self) -> String {
        let mut text = format!("{}: {}, by {}\n", self.target, self.gpu, self.driver);
        if let Some(reason) = &self.failed {
            text += &format!("FAILED: {}\n", reason.trim_end());
        }
        if self.rows.is_empty() {
            return text;
        }
        let rows = self.rows.iter().map(|row| {
            let mut line = vec![row.shader.clone(), shapes(&row.shapes)];
            match &row.figures {
                Some(f) => line.extend([
                    f.registers.to_string(),
                    f.spills.to_string(),
                    f.scratch.to_string(),
                    f.workgroup.to_string(),
                    f.occupancy.to_string(),
                    f.instructions.to_string(),
                    f.latency.map_or(String::new(), |latency| latency.to_string()),
                    f.estimate.as_ref().map_or(String::new(), share),
                    main_loop(f),
                ]),
                None => {
                    line.extend(vec![String::new(); 8]);
                    line.push(format!("FAILED: {}", row.failed.as_deref().unwrap_or("nothing told")));
                }
            }
            line.push(row.config.clone());
            line
        });
        let header = [
            "shader",
            "shape",
            ">registers",
            ">spills",
            ">scratch",
            ">workgroup",
            ">occupancy",
            ">instructions",
            ">latency",
            "estimate: at most",
            "main loop",
            "config",
        ];
        text + &table(&header, rows)
    }
}

/// The first, and how many more.
pub fn shapes(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} +{}", rest.len()),
    }
}

/// `54 % of matrix, by vector`
fn share(estimate: &Estimate) -> String {
    format!("{} % of {}, by {}", estimate.at_most, estimate.of, estimate.limit)
}

/// `431 + 116 rare: matrix 32, fma 4, workgroup 166, global 4 (16 B), float 20, int 90 ..`
fn main_loop(figures: &Figures) -> String {
    let counts = figures.counted();
    let mut text = counts.total().to_string();
    match &figures.main {
        Some(main) => {
            let matrix = counts.of(Kind::Matrix);
            if matrix > 0 {
                text += &format!(" ({:.1} per matrix)", f64::from(counts.total()) / f64::from(matrix));
            }
            if main.rare > 0 {
                text += &format!(" + {} rare", main.rare);
            }
            for (n, what) in [
                (main.conditional, "of these conditional"),
                (main.aside, "on other ways"),
                (main.inner, "loops within"),
            ] {
                if n > 0 {
                    text += &format!(", {n} {what}");
                }
            }
        }
        None => text += " (no loop)",
    }
    text + ": " + &mix(counts)
}

/// Kinds by number, with the widths of global accesses.
pub fn mix(counts: &Counts) -> String {
    let plain = [
        Kind::Matrix,
        Kind::Fma,
        Kind::Float,
        Kind::Special,
        Kind::Convert,
        Kind::Int,
        Kind::Move,
        Kind::Shuffle,
        Kind::Scalar,
        Kind::Constant,
        Kind::Branch,
        Kind::Barrier,
        Kind::Wait,
        Kind::Other,
    ];
    let mut parts = Vec::new();
    for kind in plain {
        if counts.of(kind) > 0 {
            parts.push(format!("{kind} {}", counts.of(kind)));
        }
        if kind == Kind::Fma {
            for (space, name) in
                [(Space::Workgroup, "workgroup"), (Space::Global, "global"), (Space::Scratch, "scratch")]
            {
                if counts.accesses(space) > 0 {
                    parts.push(format!("{name} {}{}", counts.accesses(space), widths(counts, space)));
                }
            }
        }
    }
    parts.join(", ")
}

/// ` (16 B, 2 B)`
fn widths(counts: &Counts, space: Space) -> String {
    let mut all: Vec<u32> = counts
        .0
        .keys()
        .filter_map(|kind| match kind {
            Kind::Load(own, bytes) | Kind::Store(own, bytes) if *own == space => Some(*bytes),
            _ => None,
        })
        .collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all.dedup();
    let all: Vec<String> = all.iter().map(|bytes| format!("{bytes} B")).collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) }
}

/// A file of one report, or of several in a list.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Report>, String> {
    let one = |error: &serde_json::Error| error.to_string();
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| one(&error));
    }
    serde_json::from_str(text).map(|report| vec![report]).map_err(|error| one(&error))
}

/// What has changed, a line each: benchmarks whose change is the same share one. `whole` tells whether a benchmark that is
/// no more there counts.
pub fn changes(old: &Report, new: &Report, whole: bool) -> Vec<String> {
    fn steps(report: &Report) -> Vec<(&str, &Row)> {
        report.rows.iter().flat_map(|row| row.shapes.iter().map(move |shape| (shape.as_str(), row))).collect()
    }
    let before: BTreeMap<&str, &Row> = steps(old).into_iter().collect();
    let after = steps(new);
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    let mut tell = |change: String, shape: &str| match lines.iter_mut().find(|(own, _)| *own == change) {
        Some((_, shapes)) => shapes.push(shape.into()),
        None => lines.push((change, vec![shape.into()])),
    };
    for (shape, row) in &after {
        match before.get(shape) {
            None => tell("is new".into(), shape),
            Some(old) => {
                let change = change(old, row);
                if !change.is_empty() {
                    tell(change.join("; "), shape);
                }
            }
        }
    }
    for shape in before.keys().filter(|shape| whole && !after.iter().any(|(own, _)| own == *shape)) {
        tell("is gone".into(), shape);
    }
    let mut all = Vec::new();
    if old.driver != new.driver {
        all.push(format!("driver: {} -> {}", old.driver, new.driver));
    }
    all.extend(lines.into_iter().map(|(change, names)| format!("{}: {change}", names.join(", "))));
    all
}

fn change(old: &Row, new: &Row) -> Vec<String> {
    let mut all = Vec::new();
    let mut tell = |what: &str, old: String, new: String| {
        if old != new {
            all.push(format!(
                "{what} {} -> {}",
                if old.is_empty() { "-" } else { &old },
                if new.is_empty() { "-" } else { &new }
            ));
        }
    };
    tell("shader", old.shader.clone(), new.shader.clone());
    tell("config", old.config.clone(), new.config.clone());
    tell("failed", old.failed.clone().unwrap_or_default(), new.failed.clone().unwrap_or_default());
    let none = Figures::default();
    let (a, b) = (old.figures.as_ref().unwrap_or(&none), new.figures.as_ref().unwrap_or(&none));
    for (what, get) in [
        ("subgroup", (|f| Some(f.subgroup)) as fn(&Figures) -> Option<u32>),
        ("registers", |f| Some(f.registers)),
        ("spills", |f| Some(f.spills)),
        ("parked", |f| Some(f.parked)),
        ("scratch", |f| Some(f.scratch)),
        ("workgroup", |f| Some(f.workgroup)),
        ("occupancy", |f| Some(f.occupancy)),
        ("instructions", |f| Some(f.instructions)),
        ("latency", |f| f.latency),
        ("throughput", |f| f.throughput),
    ] {
        let told = |f: &Figures| get(f).map_or(String::new(), |n| n.to_string());
        tell(what, told(a), told(b));
    }
    tell("main loop", main_loop(a), main_loop(b));
    let told = |f: &Figures| f.estimate.as_ref().map_or(String::new(), share);
    tell("at most", told(a), told(b));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(registers: u32, shapes: &[&str]) -> Report {
        let kinds = Counts([(Kind::Fma, 8), (Kind::Load(Space::Global, 16), 2)].into_iter().collect());
        let main = Main { counts: kinds.clone(), rare: 3, ..Main::default() };
        let figures =
            Figures { subgroup: 64, registers, instructions: 40, kinds, main: Some(main), ..Figures::default() };
        let shapes = shapes.iter().map(|shape| shape.to_string()).collect();
        let row = Row { shader: "gemm_tiled".into(), shapes, figures: Some(figures), ..Row::default() };
        let failed = Row {
            shader: "rope".into(),
            shapes: vec!["rope 1".into()],
            failed: Some("crashed".into()),
            ..Row::default()
        };
        Report { target: "amd:navi31".into(), driver: "Mesa".into(), rows: vec![row, failed], ..Report::default() }
    }

    #[test]
    fn json_is_read_again() {
        let report = report(96, &["gemm 1", "gemm 2"]);
        let text = report.json();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert_eq!(parse(&text).unwrap(), vec![report.clone()]);
        let brief = report.brief();
        assert_eq!(parse(&brief.json()).unwrap(), vec![brief.clone()]);
        assert!(changes(&brief, &report, true).is_empty());
        assert_eq!(parse(&format!("[{text},{text}]")).unwrap().len(), 2);
        let empty = Report::default();
        assert_eq!(parse(&empty.json()).unwrap(), [empty]);
        assert!(report.render().contains("10 + 3 rare: fma 8, global 2 (16 B)"), "{}", report.render());
    }

    #[test]
    fn changes_are_told_once() {
        let old = report(96, &["gemm 1", "gemm 2", "gemm 3"]);
        assert!(changes(&old, &old, true).is_empty());
        let new = report(80, &["gemm 1", "gemm 2", "gemm 4"]);
        assert_eq!(
            changes(&old, &new, true),
            ["gemm 1, gemm 2: registers 96 -> 80", "gemm 4: is new", "gemm 3: is gone"]
        );
        assert_eq!(changes(&old, &new, false).len(), 2);
    }

    #[test]
    fn statistics_of_each_driver() {
        let told = |pairs: &[(&str, f64)]| pairs.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        let nak =
            told(&[("Number of GPRs", 40.0), ("Spills to memory", 0.0), ("SLM size", 16.0), ("Max warps/SM", 48.0)]);
        let figures = Figures::of(Isa::Nak, &nak, 32, 1024);
        assert_eq!((figures.registers, figures.occupancy, figures.workgroup, figures.spills()), (40, 48, 1024, true));
        let aco = told(&[("VGPRs", 96.0), ("Spilled SGPRs", 2.0), ("Latency", 7.0)]);
        let figures = Figures::of(Isa::Aco, &aco, 64, 0);
        assert_eq!((figures.registers, figures.spills, figures.latency), (96, 0, Some(7)));
        assert_eq!((figures.parked, figures.spills()), (2, false));
    }
}
