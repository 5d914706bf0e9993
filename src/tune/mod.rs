//! Choices that were measured on the user's adapter.
//!
//! `loom tune` measures, and writes a [`Table`]; [`Kernels`] that are made with one
//! ([`Options::table`](crate::KernelsOptions::table)) take its Configs before the candidates. The library never measures by itself.
//!
//! * **The key** of a table's section is the adapter (name, vendor, device), backend, driver, the versions of tileloom and wgpu,
//!   whether shaders are checked, and [`POLICY`], how it was measured. Sections of other keys have no effect.
//! * **An entry** is of an op and a class of Problems ([`Op::class`](crate::Op::class)): it has a Config in full, and the hash of
//!   the shaders that this compiles. Where the shaders are others by now, or the Config is none, does not fit or is banned, the
//!   entry counts for nothing, with a line in the log, and the candidates are taken.
//! * **A class** is the Problem with each size rounded up to a power of two (16 and less, and the lengths of vectors, as they are; what is
//!   no multiple of 8 with its remainder), each offset and stride by what divides it, dtypes and options as they are. What only a run
//!   reads is not in it: factors (but whether they are 0), seeds, places where an argument starts.
//! * **`batch_invariant`** Kernels ask no table: its choices depend on the batch.
//!
//! The environment overrides both: `TILELOOM_TUNE=off` (no table, no pins of the options), and `TILELOOM_TUNE=pin:OP=CONFIG` as
//! [`Options::pins`](crate::KernelsOptions::pins); several parts by commas.
//!
//! ```no_run
//! use tileloom::tune::Table;
//! use tileloom::{Caps, Kernels, KernelsOptions, wgpu};
//!
//! fn kernels(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Kernels {
//!     let table = Some(Table::read("tuned.txt")); // what cannot be read is an empty table
//!     Kernels::with_options(device, Caps::of(adapter, device), KernelsOptions { table, ..Default::default() })
//! }
//! ```

mod class;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, OnceLock};

pub(crate) use class::class;

use crate::ops::Plan;
use crate::scopes::lock;
use crate::verify::subject::sources;
use crate::{Caps, Kernels};

/// How entries were measured: tables of another policy have no effect.
pub const POLICY: &str = "blocks of 1 ms in turns, warm, paired with the shipped choice, 1";

/// What a table says of a class of Problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The op.
    pub op: String,
    /// The class, as [`Op::class`](crate::Op::class) tells it.
    pub class: String,
    /// The Config that was measured to be the best, as text; none where the shipped choices stand.
    pub config: Option<String>,
    /// The hash of its shaders' sources ([`Subject::sources`](crate::verify::Subject::sources)); without a Config that of the
    /// shipped choice.
    pub sources: u64,
    /// What was measured, for people.
    pub facts: String,
}

/// Measured choices, by adapter and driver: see the [module](self).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// By key, then by op and class.
    sections: BTreeMap<String, BTreeMap<(String, String), Entry>>,
}

const FIRST: &str = "tileloom table 1";
const SECTION: &str = "= ";

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: usize = self.sections.values().map(BTreeMap::len).sum();
        write!(f, "Table({entries} entries of {} keys)", self.sections.len())
    }
}

/// FNV-1a, 64 bits.
fn fnv(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Text without what separates fields.
fn clean(text: &str) -> String {
    text.split(['\t', '\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

impl Entry {
    /// Its line: five fields and a checksum of these and the key.
    fn line(&self, key: &str) -> String {
        let Entry { op, class, config, sources, facts } = self;
        let config = config.as_deref().unwrap_or("-");
        let fields = format!("{op}\t{class}\t{config}\t{sources:016x}\t{facts}");
        let sum = fnv(&[key, &fields]);
        format!("{fields}\t{sum:016x}")
    }

    fn parse(key: &str, line: &str) -> Option<Entry> {
        let (fields, sum) = line.rsplit_once('\t')?;
        if u64::from_str_radix(sum, 16).ok()? != fnv(&[key, fields]) {
            return None;
        }
        let fields: Vec<&str> = fields.split('\t').collect();
        let [op, class, config, sources, facts] = fields[..] else { return None };
        Some(Entry {
            op: op.into(),
            class: class.into(),
            config: (config != "-").then(|| config.into()),
            sources: u64::from_str_radix(sources, 16).ok()?,
            facts: facts.into(),
        })
    }
}

impl Table {
    /// A table of [bytes](Self::to_bytes). What is damaged is left out, with a line in the log.
    pub fn from_bytes(bytes: &[u8]) -> Table {
        let mut table = Table::default();
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        if lines.next() != Some(FIRST) {
            log::warn!("a table of measured choices is not read: it is of another form");
            return table;
        }
        let (mut key, mut damaged) = (None, 0);
        for line in lines.filter(|line| !line.is_empty()) {
            match (line.strip_prefix(SECTION), key) {
                (Some(own), _) => key = Some(own),
                (None, Some(key)) => match Entry::parse(key, line) {
                    Some(entry) => table.insert(key, entry),
                    None => damaged += 1,
                },
                (None, None) => damaged += 1,
            }
        }
        if damaged > 0 {
            log::warn!("a table of measured choices has {damaged} damaged lines, which count for nothing");
        }
        table
    }

    /// That of a file; empty where it cannot be read, with a line in the log.
    #[cfg(not(target_family = "wasm"))]
    pub fn read(path: impl AsRef<std::path::Path>) -> Table {
        match std::fs::read(path.as_ref()) {
            Ok(bytes) => Self::from_bytes(&bytes),
            Err(error) => {
                log::warn!("{}: {error}", path.as_ref().display());
                Table::default()
            }
        }
    }

    /// Writes the file beside and moves it into place, so that a reader never sees half of it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where it cannot be written.
    #[cfg(not(target_family = "wasm"))]
    pub fn write(&self, path: impl AsRef<std::path::Path>) -> crate::Result<()> {
        let path = path.as_ref();
        let io = |error: std::io::Error| crate::ErrorKind::Io {
            path: path.display().to_string(),
            reason: error.to_string(),
        };
        crate::kernels::replace(path, &self.to_bytes()).map_err(|error| io(error).of("tune"))
    }

    /// As text: a line that says what it is; per key a line, then an entry per line.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{FIRST}\n");
        for (key, entries) in &self.sections {
            text.extend([SECTION, key, "\n"]);
            entries.values().for_each(|entry| text.extend([&entry.line(key), "\n"]));
        }
        text.into_bytes()
    }

    /// The key of what is measured by these kernels.
    pub fn key(kernels: &Kernels) -> String {
        crate::verify::key(kernels, POLICY)
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().map(String::as_str)
    }

    /// The entries of a key, by op and class.
    pub fn entries(&self, key: &str) -> impl Iterator<Item = &Entry> {
        self.sections.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// What is said of a class.
    pub fn get(&self, key: &str, op: &str, class: &str) -> Option<&Entry> {
        self.sections.get(key)?.get(&(op.to_string(), class.to_string()))
    }

    /// Adds an entry, or replaces that of its op and class.
    pub fn insert(&mut self, key: &str, entry: Entry) {
        let entry = Entry {
            op: clean(&entry.op),
            class: clean(&entry.class),
            config: entry.config.as_deref().map(clean),
            facts: clean(&entry.facts),
            ..entry
        };
        let section = self.sections.entry(clean(key)).or_default();
        section.insert((entry.op.clone(), entry.class.clone()), entry);
    }
}

/// What the environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Overrides {
    off: bool,
    pins: Vec<(String, String)>,
}

/// An op and a Config of `OP=CONFIG`.
fn pin(text: &str) -> Option<(String, String)> {
    let (op, config) = text.split_once('=')?;
    (!op.trim().is_empty() && config.contains('=')).then(|| (op.trim().into(), config.trim().into()))
}

impl Overrides {
    const VARIABLE: &str = "TILELOOM_TUNE";

    /// Of a text such as `off,pin:softmax=algorithm=online wg_size=64 ..`, and the parts that are not understood.
    fn parse(text: &str) -> (Overrides, Vec<&str>) {
        let (mut overrides, mut unknown) = (Overrides::default(), Vec::new());
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match (part, part.strip_prefix("pin:").and_then(pin)) {
                ("off", _) => overrides.off = true,
                (_, Some(pin)) => overrides.pins.push(pin),
                _ => unknown.push(part),
            }
        }
        (overrides, unknown)
    }

    /// Those of the environment, which is read once.
    fn of_environment() -> &'static Overrides {
        static READ: OnceLock<Overrides> = OnceLock::new();
        READ.get_or_init(|| {
            let text = std::env::var_os(Self::VARIABLE).unwrap_or_default();
            let text = text.to_string_lossy();
            let (overrides, unknown) = Self::parse(&text);
            for part in unknown {
                log::warn!("{}: `{part}` is not known; known are off and pin:OP=CONFIG", Self::VARIABLE);
            }
            overrides
        })
    }
}

/// What Kernels take before the candidates.
#[derive(Default)]
pub(crate) struct Choices {
    /// The first of an op counts.
    pins: Vec<(String, String)>,
    /// By op and class; those without a Config are there, too.
    entries: HashMap<(String, String), Entry>,
    /// By op and Problem, what the table says: a Config.
    known: Mutex<HashMap<(&'static str, String), Option<String>>>,
    /// What is in the log.
    told: Mutex<HashSet<String>>,
}

/// Problems that are remembered, and lines that are told once.
const MOST_KNOWN: usize = 1024;

impl Choices {
    pub fn of(kernels: &Kernels, table: Option<&Table>, pins: &[String]) -> Choices {
        Self::with(kernels, table, pins, Overrides::of_environment())
    }

    fn with(kernels: &Kernels, table: Option<&Table>, pins: &[String], overrides: &Overrides) -> Choices {
        let mut choices = Choices { pins: overrides.pins.clone(), ..Choices::default() };
        if overrides.off {
            return choices;
        }
        for text in pins {
            match pin(text) {
                Some(pin) => choices.pins.push(pin),
                None => log::warn!("the pin `{text}` is not OP=CONFIG"),
            }
        }
        if let Some(table) = table {
            let key = Table::key(kernels);
            let own = table.entries(&key).map(|entry| ((entry.op.clone(), entry.class.clone()), entry.clone()));
            choices.entries.extend(own);
            if choices.entries.is_empty() {
                log::warn!("the table of measured choices has nothing for `{key}`");
            }
        }
        choices
    }

    /// A line of the log, once.
    fn tell(&self, level: log::Level, line: String) {
        let mut told = lock(&self.told);
        if told.len() < MOST_KNOWN && told.insert(line.clone()) {
            log::log!(level, "{line}");
        }
    }

    /// What the table says of a Problem: a Config that fits, whose shaders are those that were measured.
    fn entry<P: Plan>(&self, problem: &P, usable: impl Fn(&str) -> Result<P::Config, String>) -> Option<P::Config> {
        if self.entries.is_empty() {
            return None;
        }
        let at = (P::NAME, format!("{problem:?}"));
        let known = lock(&self.known).get(&at).cloned();
        if let Some(text) = known {
            // Caps and bans may have changed since.
            return usable(&text?).ok();
        }
        let class = problem.class();
        let found = self.found(problem, &class, usable);
        let (text, config) = match found {
            Ok(Some((text, config))) => (Some(text), Some(config)),
            Ok(None) => {
                self.tell(log::Level::Debug, format!("{}: no measured choice for {class}", P::NAME));
                (None, None)
            }
            Err(reason) => {
                self.tell(log::Level::Warn, format!("{}: no measured choice for {class}: {reason}", P::NAME));
                (None, None)
            }
        };
        let mut known = lock(&self.known);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(at, text);
        config
    }

    /// # Errors
    /// Why an entry that is there does not count.
    fn found<P: Plan>(
        &self,
        problem: &P,
        class: &str,
        usable: impl Fn(&str) -> Result<P::Config, String>,
    ) -> Result<Option<(String, P::Config)>, String> {
        let Some(entry) = self.entries.get(&(P::NAME.to_string(), class.to_string())) else { return Ok(None) };
        let Some(text) = &entry.config else { return Ok(None) };
        let config = usable(text).map_err(|reason| format!("{text}: {reason}"))?;
        match sources(problem, &config) {
            Ok(now) if now == entry.sources => Ok(Some((text.clone(), config))),
            Ok(_) => Err(format!("{text}: its shaders are others by now")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What is taken before the candidates: a pinned Config, or a measured one.
pub(crate) fn taken<P: Plan>(problem: &P, views: &P::Views, kernels: &Kernels, caps: &Caps) -> Option<P::Config> {
    let choices = kernels.choices();
    let usable = |text: &str| -> Result<P::Config, String> {
        let config: P::Config = text.parse()?;
        problem.check(views, caps, &config).map_err(|misfit| misfit.to_string())?;
        match kernels.ban(problem, &config) {
            Some(reason) => Err(format!("it is banned: {reason}")),
            None => Ok(config),
        }
    };
    if let Some((_, text)) = choices.pins.iter().find(|(op, _)| op == P::NAME) {
        match usable(text) {
            Ok(config) => return Some(config),
            Err(reason) => {
                choices.tell(log::Level::Warn, format!("{}: the pinned {text} is not taken: {reason}", P::NAME))
            }
        }
    }
    if caps.batch_invariant { None } else { choices.entry(problem, usable) }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::*;

    const KEY: &str = "an adapter; 10005:0000; Vulkan";

    fn entry(class: &str, config: Option<&str>) -> Entry {
        Entry {
            op: "softmax".into(),
            class: class.into(),
            config: config.map(str::to_string),
            sources: 0x1234,
            facts: "4096x1024 f32: 2 ms, not 3 ms".into(),
        }
    }

    fn table() -> Table {
        let mut table = Table::default();
        table.insert(KEY, entry("rows=4096 cols=1024", Some("algorithm=online wg_size=64")));
        table.insert(KEY, entry("rows=1 cols=1024", None));
        table.insert("another", entry("rows=4096 cols=1024", Some("algorithm=split wg_size=64")));
        table
    }

    #[test]
    fn what_is_written_is_read() {
        let table = table();
        assert_eq!(Table::from_bytes(&table.to_bytes()), table);
        assert_eq!(table.keys().collect::<Vec<_>>(), [KEY, "another"]);
        let found = table.get(KEY, "softmax", "rows=4096 cols=1024").unwrap();
        assert_eq!(found.config.as_deref(), Some("algorithm=online wg_size=64"));
        assert_eq!(table.entries(KEY).count(), 2);
        assert_eq!(format!("{table:?}"), "Table(3 entries of 2 keys)");
        let mut dirty = Table::default();
        dirty.insert("a\nkey", entry("a\tclass", Some("x=1\n= y")));
        assert_eq!(Table::from_bytes(&dirty.to_bytes()), dirty);
        assert!(dirty.get("a key", "softmax", "a class").is_some());
    }

    #[test]
    fn what_is_damaged_counts_for_nothing() {
        let bytes = table().to_bytes();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(Table::from_bytes(b""), Table::default());
        assert_eq!(Table::from_bytes(&[0xff; 100]), Table::default());
        assert_eq!(Table::from_bytes(text.replacen("table 1", "table 2", 1).as_bytes()), Table::default());
        // Each entry that is left is one that was there, wherever a byte is changed or the file ends.
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            for damaged in [&changed[..], &bytes[..at]] {
                let damaged = Table::from_bytes(damaged);
                for key in damaged.keys() {
                    for entry in damaged.entries(key) {
                        assert_eq!(table().get(key, &entry.op, &entry.class), Some(entry), "byte {at}");
                    }
                }
            }
        }
        // One that has lost the line of its key is of no other.
        let lost = text.replace("= another\n", "");
        assert_eq!(Table::from_bytes(lost.as_bytes()).entries(KEY).count(), 2);
    }

    #[test]
    fn the_environment_is_understood() {
        let (found, unknown) =
            Overrides::parse("pin:softmax=algorithm=online wg_size=64, off,on, pin:gemm, pin:norm=x=1");
        assert!(found.off);
        let pins = [("softmax", "algorithm=online wg_size=64"), ("norm", "x=1")];
        assert_eq!(found.pins, pins.map(|(op, config)| (op.to_string(), config.to_string())));
        assert_eq!(unknown, ["on", "pin:gemm"]);
        assert_eq!(Overrides::parse("  "), (Overrides::default(), Vec::new()));
    }
}
