//! The runner on adapters that are made up: this program is what runs, and what is run.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libtest_mimic::{Arguments, Failed, Trial};
use loom::report::{Outcome, Record};
use loom::runner::{self, Case, Part, Site, Tested, Tests, Waiver};

/// The folder of a run that this program is to be.
const FOLDER: &str = "TILELOOM_TEST_RUNNER";

fn main() -> ExitCode {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return runner::main(Arc::new(Made(folder.into())));
    }
    let trials = vec![
        Trial::test("each case gets its outcome, whatever the others do", outcomes),
        Trial::test("a process that dies at once hides no other adapter", broken),
        Trial::test("what runs beside a crash is not blamed", together),
        Trial::test("a process that is started again with other cases is ended", changed),
        Trial::test("a closed stdout hides no answer", unread),
        Trial::test("one process runs the same", here),
        Trial::test("processes share the cases of an adapter", shared),
        Trial::test("cases that no time is left for say so, and kernels take turns", limited),
        Trial::test("names are chosen by regular expressions", filter),
        Trial::test("a waiver cites a thread", waivers),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Adapters that are made up. Files of the folder are what processes know of earlier ones.
struct Made(PathBuf);

impl Tests for Made {
    fn adapters(&self) -> Vec<String> {
        let all = ["sound", "unopened", "crashes", "changes", "shared"].map(String::from);
        let many = self.0.join("many").exists();
        all[..if many { 5 } else { 1 }].to_vec()
    }

    fn open(&self, index: usize, _: Option<&Path>) -> Result<Box<dyn Site>, String> {
        match index {
            0 => Ok(Box::new(Sound::new(self.0.clone()))),
            1 => Err("no device".into()),
            2 => std::process::abort(),
            4 => Ok(Box::new(Shared::new(&self.0))),
            _ => {
                let mut sound = Sound::new(self.0.clone());
                let own = std::process::id().to_string();
                // Where it was open before: whether that process lives.
                if let Ok(before) = std::fs::read_to_string(self.0.join("open")) {
                    sound.cases.pop();
                    if Path::new("/proc").join(before).exists() {
                        std::fs::write(self.0.join("two"), "").expect("it can be written");
                    }
                    std::fs::write(self.0.join("again"), &own).expect("it can be written");
                }
                std::fs::write(self.0.join("open"), own).expect("it can be written");
                Ok(Box::new(sound))
            }
        }
    }

    fn waivers(&self) -> &[Waiver] {
        const KNOWN: Waiver = Waiver {
            adapter: "sound",
            kernel: "k",
            case: "waived",
            thread: "owner/repo#7",
            reason: "a known defect",
            flaky: false,
        };
        &[KNOWN, Waiver { case: "mended", ..KNOWN }, Waiver { case: "mended at times", flaky: true, ..KNOWN }]
    }
}

struct Sound {
    cases: Vec<Case>,
    lost: Arc<AtomicBool>,
}

impl Site for Sound {
    fn cases(&self) -> &[Case] {
        &self.cases
    }

    fn lost(&self) -> Option<String> {
        self.lost.load(Ordering::Relaxed).then(|| "unplugged".into())
    }

    fn closing(&self) -> String {
        "the end".into()
    }
}

fn part(dtype: &str, outcome: Outcome, bits: u64) -> Part {
    Part { dtype: dtype.into(), shape: "odd".into(), outcome, bits: Some(bits) }
}

fn passed() -> Tested {
    Tested { parts: vec![part("f32", Outcome::Passed, 1)], ..Tested::new(Outcome::Passed, "") }
}

fn failed() -> Tested {
    let parts = vec![part("f16", Outcome::Failed, 2), part("f32", Outcome::Passed, 3)];
    Tested { parts, ..Tested::new(Outcome::Failed, "1 of 2 Problems fail") }
}

impl Sound {
    fn new(folder: PathBuf) -> Sound {
        let lost: Arc<AtomicBool> = Arc::default();
        let losing = lost.clone();
        // Whether this is the first time, in all processes.
        let first = move |name: &str| {
            let file = std::fs::OpenOptions::new().write(true).create_new(true).open(folder.join(name));
            file.is_ok()
        };
        let (to_lose, to_crash, to_fail) = (first.clone(), first.clone(), first);
        let runs = AtomicU64::new(0);
        type Test = Box<dyn Fn() -> Tested + Send + Sync>;
        let tests: Vec<(&str, Test)> = vec![
            ("right", Box::new(passed)),
            ("aborts", Box::new(|| std::process::abort())),
            ("right behind it", Box::new(passed)),
            (
                "hangs",
                Box::new(|| {
                    loop {
                        std::thread::park()
                    }
                }),
            ),
            ("panics", Box::new(|| panic!("on purpose"))),
            ("wrong", Box::new(failed)),
            ("wrong once", Box::new(move || if to_fail("failed") { failed() } else { passed() })),
            ("aborts once", Box::new(move || if to_crash("crashed") { std::process::abort() } else { passed() })),
            (
                "loses the device once",
                Box::new(move || {
                    losing.fetch_or(to_lose("lost"), Ordering::Relaxed);
                    passed()
                }),
            ),
            ("lacks", Box::new(|| Tested::new(Outcome::Skipped, "no such feature"))),
            ("waived", Box::new(failed)),
            ("mended", Box::new(passed)),
            ("mended at times", Box::new(passed)),
            (
                "drifts",
                Box::new(move || {
                    let bits = runs.fetch_add(1, Ordering::Relaxed) / 2; // the third run differs
                    Tested { parts: vec![part("bf16", Outcome::Passed, bits)], ..passed() }
                }),
            ),
            (
                "prints",
                Box::new(|| {
                    print!("words of a driver");
                    passed()
                }),
            ),
        ];
        let case = |(name, test): (&str, Test)| Case { kernel: "k".into(), name: name.into(), test, again: None };
        Sound { cases: tests.into_iter().map(case).collect(), lost }
    }
}

/// An adapter of two processes, each with one case at a time.
struct Shared(Vec<Case>);

impl Site for Shared {
    fn cases(&self) -> &[Case] {
        &self.0
    }

    fn alone(&self) -> bool {
        true
    }

    fn processes(&self) -> usize {
        2
    }
}

impl Shared {
    /// Each case appends a line to `shared` of the folder: its number and its process.
    fn new(folder: &Path) -> Shared {
        let running = Arc::new(AtomicBool::new(false));
        let case = |number: usize| {
            let (running, log) = (running.clone(), folder.join("shared"));
            let test = move || {
                if running.swap(true, Ordering::SeqCst) {
                    return failed();
                }
                std::thread::sleep(std::time::Duration::from_millis(30));
                let line = format!("{number} {}\n", std::process::id());
                let file = std::fs::OpenOptions::new().append(true).create(true).open(&log);
                file.and_then(|mut file| file.write_all(line.as_bytes())).expect("it can be written");
                running.store(false, Ordering::SeqCst);
                passed()
            };
            let kernel = if number < 6 { "k" } else { "l" }.into();
            Case { kernel, name: format!("turn {number}"), test: Box::new(test), again: None }
        };
        Shared((0..8).map(case).collect())
    }
}

/// A folder of one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Result<Folder, Failed> {
        let path = std::env::temp_dir().join(format!("loom-runner-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output, Failed> {
        Ok(self.command(arguments, variables)?.output()?)
    }

    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Command, Failed> {
        let mut command = Command::new(std::env::current_exe()?);
        for name in ["TILELOOM_REPORT", "TILELOOM_JUNIT", "TILELOOM_CHILD", "TILELOOM_FULL", "TILELOOM_SECONDS"] {
            command.env_remove(name);
        }
        command.args(arguments).env(FOLDER, &self.0).env("TILELOOM_PATIENCE", "10").env("CARGO_TARGET_DIR", &self.0);
        command.env("TILELOOM_REPORT", self.0.join("report")).env("TILELOOM_JUNIT", self.0.join("junit"));
        command.envs(variables.iter().copied());
        Ok(command)
    }

    /// The records by case, of one adapter.
    fn records(&self, adapter: &str) -> Result<BTreeMap<String, Record>, Failed> {
        let text = std::fs::read_to_string(self.0.join("report"))?;
        let records = loom::commands::matrix::parse(&text)?;
        let own = records.into_iter().filter(|record| record.adapter == adapter);
        Ok(own.map(|record| (record.case.clone(), record)).collect())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// One at a time, so that it is known who ends a process.
fn outcomes() -> Result<(), Failed> {
    let folder = Folder::new("outcomes")?;
    let output = folder.run(&["--test-threads", "1"], &[])?;
    let said = text(&output);
    assert_eq!(output.status.code(), Some(101), "{said}");
    let records = folder.records("sound")?;
    let crash = if cfg!(unix) { "signal: 6" } else { "exit code" };
    for (case, outcome, reason) in [
        ("right", Outcome::Passed, ""),
        ("aborts", Outcome::Failed, crash),
        ("right behind it", Outcome::Passed, ""),
        ("hangs", Outcome::Failed, "hung: no answer in 10 s"),
        ("panics", Outcome::Failed, "panicked: on purpose"),
        ("wrong", Outcome::Failed, "1 of 2 Problems fail"),
        ("wrong once", Outcome::Flaky, "failed, then not: 1 of 2 Problems fail"),
        ("aborts once", Outcome::Flaky, crash),
        ("loses the device once", Outcome::Flaky, "the device is lost: unplugged"),
        ("lacks", Outcome::Skipped, "no such feature"),
        ("waived", Outcome::Waived, "a known defect (owner/repo#7)"),
        ("mended", Outcome::Failed, "passes, so that its waiver must go"),
        ("mended at times", Outcome::Passed, ""),
        ("drifts", Outcome::Passed, ""),
        ("drifts, run 3", Outcome::Failed, "1 of 1 Problems have other bits in run 3"),
        ("prints", Outcome::Passed, ""),
    ] {
        let record = records.get(case).ok_or(format!("no record of {case}: {said}"))?;
        assert_eq!(record.outcome, outcome, "{record:?}\n{said}");
        assert!(record.reason.contains(reason), "{record:?}");
    }
    assert_eq!(records.len(), 16, "{said}");
    assert_eq!((records["wrong"].dtype.as_str(), records["right"].dtype.as_str()), ("f16", "f32"));
    for part in [
        "| sound   | k      | f16   | odd   |      2 |  3 |",
        "words of a driver",
        "cases differ",
        "FAILED sound::k::drifts, run 3",
        "the end since the last of 5 restarts of its process",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let report = quick_junit::Report::deserialize_from_str(&std::fs::read_to_string(folder.0.join("junit"))?)?;
    assert_eq!((report.tests, report.failures), (16, 9), "{report:?}");
    Ok(())
}

fn broken() -> Result<(), Failed> {
    let folder = Folder::new("broken")?;
    std::fs::write(folder.0.join("many"), "")?;
    let output = folder.run(&["--filter", "::device$|right$"], &[])?;
    let said = text(&output);
    assert_eq!(output.status.code(), Some(101), "{said}");
    assert_eq!(folder.records("sound")?["right"].outcome, Outcome::Passed, "{said}");
    assert_eq!(folder.records("unopened")?["open"].reason, "no device", "{said}");
    let crash = &folder.records("crashes")?["open"].reason;
    assert!(crash.starts_with("the process ended: "), "{crash}");
    let output = folder.run(&["--filter", "unopened::device", "--partition", "2/2"], &[])?;
    assert_eq!(output.status.code(), Some(101), "{}", text(&output));
    Ok(())
}

/// Cases that run at the same time as one that ends their process.
fn together() -> Result<(), Failed> {
    let folder = Folder::new("together")?;
    let output = folder.run(&["--test-threads", "4", "--filter", "right|aborts$|hangs|panics|drifts"], &[])?;
    let said = text(&output);
    assert_eq!(output.status.code(), Some(101), "{said}");
    let failed: Vec<_> = folder.records("sound")?.into_values().filter(|record| record.outcome.fails()).collect();
    let names: Vec<_> = failed.iter().map(|record| record.case.as_str()).collect();
    assert!(names.starts_with(&["aborts"]) && names.contains(&"hangs") && names.contains(&"panics"), "{failed:?}");
    assert!(!names.iter().any(|name| name.starts_with("right")), "{failed:?}");
    Ok(())
}

fn changed() -> Result<(), Failed> {
    let folder = Folder::new("changed")?;
    std::fs::write(folder.0.join("many"), "")?;
    let filter = "changes::k::(aborts$|right)";
    let said = text(&folder.run(&["--test-threads", "1", "--filter", filter], &[])?);
    let records = folder.records("changes")?;
    assert!(records["aborts"].outcome.fails(), "{said}");
    let reason = &records["right behind it"].reason;
    assert!(reason.contains("has other cases"), "{reason}\n{said}");
    assert!(folder.0.join("again").exists() && !folder.0.join("two").exists(), "{said}");
    Ok(())
}

/// What a driver prints is passed on to nobody.
fn unread() -> Result<(), Failed> {
    let folder = Folder::new("unread")?;
    let log = folder.0.join("log");
    let mut command = folder.command(&["--test-threads", "1", "--filter", "prints", "--logfile"], &[])?;
    let mut child = command.arg(&log).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    drop(child.stdout.take());
    child.wait()?;
    assert_eq!(folder.records("sound")?["prints"].outcome, Outcome::Passed);
    Ok(())
}

fn here() -> Result<(), Failed> {
    let folder = Folder::new("here")?;
    let output = folder.run(&["--test-threads", "1", "--filter", "right|wrong"], &[("TILELOOM_CHILD", "0")])?;
    assert_eq!(output.status.code(), Some(101), "{}", text(&output));
    let outcomes: Vec<_> = folder.records("sound")?.into_values().map(|record| (record.case, record.outcome)).collect();
    let want = [
        ("right", Outcome::Passed),
        ("right behind it", Outcome::Passed),
        ("wrong", Outcome::Failed),
        ("wrong once", Outcome::Flaky),
    ];
    assert_eq!(outcomes, want.map(|(case, outcome)| (case.to_string(), outcome)), "{}", text(&output));
    Ok(())
}

fn shared() -> Result<(), Failed> {
    let folder = Folder::new("shared")?;
    std::fs::write(folder.0.join("many"), "")?;
    let output = folder.run(&["--test-threads", "4", "--filter", "shared::"], &[])?;
    assert!(output.status.success(), "{}", text(&output));
    let lines = std::fs::read_to_string(folder.0.join("shared"))?;
    let mut processes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (number, process) in lines.lines().filter_map(|line| line.split_once(' ')) {
        processes.entry(number).or_default().push(process);
    }
    assert_eq!(processes.len(), 8, "{lines}");
    assert!(processes.values().all(|of| of.len() == 3 && of.iter().all(|process| *process == of[0])), "{lines}");
    let firsts: std::collections::BTreeSet<_> = processes.values().map(|of| of[0]).collect();
    assert_eq!(firsts.len(), 2, "{lines}");
    Ok(())
}

fn limited() -> Result<(), Failed> {
    let folder = Folder::new("limited")?;
    std::fs::write(folder.0.join("many"), "")?;
    let arguments = ["--test-threads", "1", "--filter", "shared::"];
    let output = folder.run(&arguments, &[("TILELOOM_SECONDS", "0")])?;
    let said = text(&output);
    assert!(output.status.success() && !folder.0.join("shared").exists(), "{said}");
    assert!(said.contains("Skipped shared::l::turn 7: no time was left: TILELOOM_SECONDS"), "{said}");
    let records = folder.records("shared")?;
    assert!(records.len() == 8 && records.values().all(|record| record.outcome == Outcome::Skipped), "{records:?}");
    let forever = u64::MAX.to_string();
    assert!(folder.run(&["--list"], &[("TILELOOM_SECONDS", &forever)])?.status.success());
    folder.run(&arguments, &[("TILELOOM_SECONDS", "600")])?;
    assert!(folder.records("shared")?.values().all(|record| record.outcome == Outcome::Passed));
    let lines = std::fs::read_to_string(folder.0.join("shared"))?;
    let order: Vec<_> = lines.lines().filter_map(|line| line.split(' ').next()).take(8).collect();
    assert_eq!(order, ["0", "6", "1", "7", "2", "3", "4", "5"], "{lines}");
    Ok(())
}

fn filter() -> Result<(), Failed> {
    let folder = Folder::new("filter")?;
    let list = |arguments: &[&str]| folder.run(&[&["--list"], arguments].concat(), &[]).map(|output| text(&output));
    let said = list(&["--filter", "^sound::k::(wrong|right)$"])?;
    assert_eq!(said.matches(": test").count(), 2, "{said}");
    assert!(said.contains("sound::k::wrong: test") && said.contains("sound::k::right: test"), "{said}");
    let said = list(&["once", "--filter", "wrong"])?;
    assert_eq!(said.matches(": test").count(), 1, "{said}");
    let parts = [["--partition", "1/2"], ["--partition", "2/2"]].map(|part| list(&part));
    let all = list(&[])?;
    let named = |text: &str| text.lines().filter(|line| line.ends_with(": test")).map(String::from).collect::<Vec<_>>();
    let mut joined = Vec::new();
    for part in parts {
        let part = named(&part?);
        assert!(part.len() >= 7, "{part:?}");
        joined.extend(part);
    }
    joined.sort();
    let mut all = named(&all);
    all.sort();
    assert_eq!(joined, all);
    for wrong in ["0/2", "3/2", "1", "a/b"] {
        assert_eq!(folder.run(&["--partition", wrong], &[])?.status.code(), Some(2), "{wrong}");
    }
    assert!(!folder.0.join("report").exists());
    let output = folder.run(&["--filter", "("], &[])?;
    assert!(output.status.code() == Some(2) && text(&output).contains("regex parse error"), "{}", text(&output));
    for name in ["TILELOOM_PATIENCE", "TILELOOM_SECONDS"] {
        let output = folder.run(&[], &[(name, "long")])?;
        let wrong = format!("{name} is `long`, no number of seconds");
        assert!(output.status.code() == Some(2) && text(&output).contains(&wrong), "{}", text(&output));
    }
    Ok(())
}

fn waivers() -> Result<(), Failed> {
    let made = Made(PathBuf::new());
    let known = made.waivers()[0];
    known.check()?;
    for thread in ["", "7", "repo#7", "owner/repo", "owner/repo#", "see owner/repo#7"] {
        assert!(Waiver { thread, ..known }.check().is_err(), "{thread}");
    }
    assert!(Waiver { reason: " ", ..known }.check().is_err());
    Ok(())
}
