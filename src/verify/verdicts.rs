//! Verdicts on Configs, by adapter and driver, and how they are kept.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Kernels, Result};

/// A Config of an op, and the hash of the shaders that it compiles.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tried {
    /// The op.
    pub op: String,
    /// The Config, as text.
    pub config: String,
    /// FNV-1a of its sources.
    pub sources: u64,
}

/// What is known of a Config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Its results were right.
    Right,
    /// It is not used, for this reason.
    Banned(String),
    /// It was running when this was written.
    Running,
}

/// What [`verify`](super::verify) has found on an adapter with a driver: kept in a file, or as [bytes](Self::to_bytes) by
/// the caller.
///
/// The key has adapter, driver, backend, the crate's version and whether shaders are checked; an entry has the hash of its
/// sources besides. What belongs to another key, or cannot be read, is as if it were not there, with a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdicts {
    key: String,
    entries: BTreeMap<Tried, Known>,
    path: Option<PathBuf>,
}

const FIRST: &str = "tileloom verdicts 1";

/// Text without what separates fields.
fn line(text: &str) -> String {
    text.split(['\t', '\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

impl Verdicts {
    /// None yet, for the adapter of these kernels.
    pub fn new(kernels: &Kernels) -> Verdicts {
        let info = kernels.device().adapter_info();
        let checked = if kernels.is_checked() { "checked" } else { "unchecked" };
        let key = [
            &info.name,
            &format!("{:04x}:{:04x}", info.vendor, info.device),
            &format!("{:?}", info.backend),
            &info.driver,
            &info.driver_info,
            concat!("tileloom ", env!("CARGO_PKG_VERSION"), ", wgpu 30"),
            checked,
        ];
        Verdicts { key: key.map(|part| line(part)).join("; "), entries: BTreeMap::new(), path: None }
    }

    /// Those of a file, which is written again with each change. A file that is not there, or of no use, is made anew.
    pub fn open(kernels: &Kernels, path: impl AsRef<Path>) -> Verdicts {
        let path = path.as_ref();
        let verdicts = match std::fs::read(path) {
            Ok(bytes) => Self::from_bytes(kernels, &bytes),
            Err(_) => Self::new(kernels),
        };
        Verdicts { path: Some(path.into()), ..verdicts }
    }

    /// Those of [bytes](Self::to_bytes) that the caller has kept.
    pub fn from_bytes(kernels: &Kernels, bytes: &[u8]) -> Verdicts {
        let mut verdicts = Self::new(kernels);
        match std::str::from_utf8(bytes).map_err(|_| "no text").and_then(|text| parse(text, &verdicts.key)) {
            Ok(entries) => verdicts.entries = entries,
            Err(reason) => log::warn!("verdicts are not read: {reason}"),
        }
        verdicts
    }

    /// As text: a line that says what it is, the key, the number of entries, then an entry per line.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{FIRST}\n{}\n{}\n", self.key, self.entries.len());
        for (Tried { op, config, sources }, known) in &self.entries {
            let (word, reason) = match known {
                Known::Right => ("right", ""),
                Known::Banned(reason) => ("banned", reason.as_str()),
                Known::Running => ("running", ""),
            };
            let _ = writeln!(text, "{op}\t{config}\t{sources:016x}\t{word}\t{}", line(reason));
        }
        text.into_bytes()
    }

    /// Adapter, driver, versions.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// All entries. One that was running when the process ended is banned.
    pub fn iter(&self) -> impl Iterator<Item = (&Tried, &Known)> {
        self.entries.iter()
    }

    /// What is known of a Config.
    pub fn get(&self, tried: &Tried) -> Option<&Known> {
        self.entries.get(tried)
    }

    /// Notes what is known now, in the file, too.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the file cannot be written.
    pub(crate) fn note(&mut self, tried: &Tried, known: Option<Known>) -> Result<()> {
        match known {
            Some(known) => drop(self.entries.insert(tried.clone(), known)),
            None => drop(self.entries.remove(tried)),
        }
        self.save()
    }

    fn save(&self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        crate::kernels::replace(path, &self.to_bytes()).map_err(|error| Error {
            op: super::OP,
            kind: ErrorKind::Io { path: path.display().to_string(), reason: error.to_string() },
        })
    }
}

fn parse(text: &str, key: &str) -> std::result::Result<BTreeMap<Tried, Known>, &'static str> {
    let mut lines = text.lines();
    if lines.next() != Some(FIRST) {
        return Err("they are of another form");
    }
    if lines.next() != Some(key) {
        return Err("they are of another adapter, driver or version");
    }
    let count = lines.next().and_then(|count| count.parse::<usize>().ok()).ok_or("their number is missing")?;
    let entry = |line: &str| {
        let mut fields = line.splitn(5, '\t');
        let (op, config) = (fields.next()?.to_string(), fields.next()?.to_string());
        let sources = u64::from_str_radix(fields.next()?, 16).ok()?;
        let known = match (fields.next()?, fields.next()?) {
            ("right", "") => Known::Right,
            ("banned", reason) => Known::Banned(reason.to_string()),
            ("running", "") => Known::Banned("the process ended while it ran".into()),
            _ => return None,
        };
        Some((Tried { op, config, sources }, known))
    };
    let entries = lines.map(entry).collect::<Option<BTreeMap<_, _>>>().ok_or("a line is damaged")?;
    if entries.len() == count { Ok(entries) } else { Err("lines are missing") }
}
