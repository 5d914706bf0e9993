//! Verdicts on Configs, by adapter and driver, and how they are kept.

use crate::{ErrorKind, Kernels, Result};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A Config of an op, and the hash of the shaders that it compiles.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tried {
    /// The op.
    pub op: String,
    /// The Config, as text.
    pub config: String,
    /// FNV-1a of its sources, 64 bits.
    pub sources: u64,
}

/// What is known of a Config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Its results were right.
    Right,
    /// It is not used, for this reason.
    Banned(String),
    /// A trial of it was not finished: the process ended, or the future was dropped. It is tried once more.
    Suspect,
    /// A trial of it is under way; `again`: its second.
    Running {
        /// It was a suspect.
        again: bool,
    },
}

/// What [`verify`](super::verify()) has found on adapters with their drivers: kept in a file, or as [bytes](Self::to_bytes) by
/// the caller.
///
/// The key has adapter, driver, backend, the crate's version and whether shaders are checked; an entry has the hash of its
/// sources besides. Entries of other keys stay in the file and have no effect. What cannot be read is as if it were not there,
/// with a line in the log. A second trial of a Config that is not finished bans it.
#[derive(Debug, Clone)]
pub struct Verdicts {
    key: String,
    entries: BTreeMap<Tried, Known>,
    /// Sections of other keys, line by line.
    foreign: BTreeMap<String, Vec<String>>,
    #[cfg(not(target_family = "wasm"))]
    path: Option<std::path::PathBuf>,
    /// Held while this process may write marks of what runs.
    #[cfg(not(target_family = "wasm"))]
    lock: Option<std::sync::Arc<std::fs::File>>,
}

const FIRST: &str = "tileloom verdicts 1";
const SECTION: &str = "= ";
const END: &str = "end ";

/// Text in one line, without what separates fields, and not too long.
pub(super) fn line(text: &str) -> String {
    let words = text.split(['\t', '\n', '\r']).map(str::trim).filter(|part| !part.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(400).collect()
}

/// What verdicts and measured choices are kept under: adapter, driver, backend, versions, whether shaders are checked, and `more`.
pub(crate) fn key(kernels: &Kernels, more: &str) -> String {
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
        more,
    ];
    key.map(line).join("; ")
}

impl Verdicts {
    /// None yet, for the adapter of these kernels.
    pub fn new(kernels: &Kernels) -> Verdicts {
        Self::with_key(kernels, "")
    }

    /// None yet, under a key that has `more` besides: in a browser, which does not tell adapter and driver, what it says of
    /// itself.
    pub fn with_key(kernels: &Kernels, more: &str) -> Verdicts {
        Verdicts {
            key: key(kernels, more),
            entries: BTreeMap::new(),
            foreign: BTreeMap::new(),
            #[cfg(not(target_family = "wasm"))]
            path: None,
            #[cfg(not(target_family = "wasm"))]
            lock: None,
        }
    }

    /// Those of a file, which is written again with each change. A file that is not there, or of no use, is made anew.
    /// Processes may share it: each keeps what the others have written.
    #[cfg(not(target_family = "wasm"))]
    pub fn open(kernels: &Kernels, path: impl AsRef<std::path::Path>) -> Verdicts {
        let path = path.as_ref().to_path_buf();
        let mut name = path.clone().into_os_string();
        name.push(".lock");
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(name);
        let lock = file.ok().filter(|file| file.try_lock().is_ok()).map(std::sync::Arc::new);
        let mut verdicts = Verdicts { lock, path: Some(path.clone()), ..Self::new(kernels) };
        match std::fs::read(&path) {
            Ok(bytes) => verdicts.take(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => log::warn!("{}: {error}", path.display()),
        }
        // While another process holds the lock, what is marked may be running there.
        if verdicts.lock.is_some() {
            verdicts.settle();
        }
        verdicts
    }

    /// Those of [bytes](Self::to_bytes) that the caller has kept.
    pub fn from_bytes(kernels: &Kernels, bytes: &[u8]) -> Verdicts {
        Self::new(kernels).and(bytes)
    }

    /// These, and those of bytes that the caller has kept.
    pub fn and(mut self, bytes: &[u8]) -> Verdicts {
        self.take(bytes);
        self.settle();
        self
    }

    fn take(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes).map_err(|_| "no text").and_then(|text| parse(text, &self.key)) {
            Ok((entries, foreign)) => (self.entries, self.foreign) = (entries, foreign),
            Err(reason) => log::warn!("verdicts are not read: {reason}"),
        }
    }

    /// What was running has not been finished.
    fn settle(&mut self) {
        for known in self.entries.values_mut() {
            match known {
                Known::Running { again: false } => *known = Known::Suspect,
                Known::Running { again: true } => *known = Known::Banned("twice not finished".into()),
                _ => {}
            }
        }
    }

    /// As text: a line that says what it is; per key a line, then an entry per line; the number of all lines between.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut sections = self.foreign.clone();
        let entry = |(Tried { op, config, sources }, known): (&Tried, &Known)| {
            let (word, reason) = match known {
                Known::Right => ("right", ""),
                Known::Banned(reason) => ("banned", reason.as_str()),
                Known::Suspect => ("suspect", ""),
                Known::Running { again: false } => ("running", ""),
                Known::Running { again: true } => ("again", ""),
            };
            format!("{op}\t{config}\t{sources:016x}\t{word}\t{}", line(reason))
        };
        sections.insert(self.key.clone(), self.entries.iter().map(entry).collect());
        let (mut text, mut count) = (format!("{FIRST}\n"), 0);
        for (key, lines) in sections {
            let _ = writeln!(text, "{SECTION}{key}");
            lines.iter().for_each(|line| text.extend([line.as_str(), "\n"]));
            count += 1 + lines.len();
        }
        let _ = writeln!(text, "{END}{count}");
        text.into_bytes()
    }

    /// Adapter, driver, versions.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// All entries of this key.
    pub fn iter(&self) -> impl Iterator<Item = (&Tried, &Known)> {
        self.entries.iter()
    }

    /// What is known of a Config.
    pub fn get(&self, tried: &Tried) -> Option<&Known> {
        self.entries.get(tried)
    }

    /// Forgets what is known of an op, so that it is tried again by new `Kernels`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the file cannot be written.
    pub fn forget(&mut self, op: &str) -> Result<()> {
        let own: Vec<Tried> = self.entries.keys().filter(|tried| tried.op == op).cloned().collect();
        own.iter().try_for_each(|tried| self.note(tried, None))
    }

    /// # Errors
    /// Where they are of another adapter, driver or version than these kernels.
    pub(crate) fn check_key(&self, kernels: &Kernels) -> Result<()> {
        let own = Self::new(kernels).key;
        match self.key.starts_with(&own) {
            true => Ok(()),
            false => {
                let reason = format!("they are of `{}`, the kernels of `{own}`", self.key);
                Err(ErrorKind::invalid("verdicts", reason).of(super::OP))
            }
        }
    }

    /// Bans a Config that was found wrong otherwise than by `verify`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the file cannot be written.
    pub fn ban(&mut self, tried: &Tried, reason: &str) -> Result<()> {
        self.note(tried, Some(Known::Banned(line(reason))))
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
        self.save(tried)
    }

    #[cfg(target_family = "wasm")]
    fn save(&mut self, _: &Tried) -> Result<()> {
        Ok(())
    }

    /// Writes the file, with what other processes have written since; of `changed` this one knows.
    #[cfg(not(target_family = "wasm"))]
    fn save(&mut self, changed: &Tried) -> Result<()> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        if let Ok((entries, foreign)) = parse(&written, &self.key) {
            for (tried, known) in entries {
                if tried != *changed {
                    self.entries.entry(tried).or_insert(known);
                }
            }
            self.foreign.extend(foreign);
        }
        let io = |error: std::io::Error| ErrorKind::Io { path: path.display().to_string(), reason: error.to_string() };
        crate::kernels::replace(&path, &self.to_bytes()).map_err(|error| io(error).of(super::OP))
    }
}

/// Entries of a key, and the sections of others.
type Parsed = (BTreeMap<Tried, Known>, BTreeMap<String, Vec<String>>);

fn parse(text: &str, key: &str) -> std::result::Result<Parsed, &'static str> {
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.first() != Some(&FIRST) {
        return Err("they are of another form");
    }
    let count = lines.pop().and_then(|last| last.strip_prefix(END)?.parse::<usize>().ok());
    if count.and_then(|count| count.checked_add(1)) != Some(lines.len()) {
        return Err("lines are missing");
    }
    let (mut entries, mut foreign, mut section) = (BTreeMap::new(), BTreeMap::<String, Vec<String>>::new(), None);
    for line in &lines[1..] {
        match (line.strip_prefix(SECTION), &section) {
            (Some(name), _) => section = Some(name.to_string()),
            (None, None) => return Err("a line belongs to no key"),
            (None, Some(name)) if name == key => entries.extend([entry(line).ok_or("a line is damaged")?]),
            (None, Some(name)) => foreign.entry(name.clone()).or_default().push(line.to_string()),
        }
    }
    Ok((entries, foreign))
}

fn entry(line: &str) -> Option<(Tried, Known)> {
    let mut fields = line.splitn(5, '\t');
    let (op, config) = (fields.next()?.to_string(), fields.next()?.to_string());
    let sources = u64::from_str_radix(fields.next()?, 16).ok()?;
    let known = match (fields.next()?, fields.next()?) {
        ("right", "") => Known::Right,
        ("banned", reason) => Known::Banned(reason.to_string()),
        ("suspect", "") => Known::Suspect,
        ("running", "") => Known::Running { again: false },
        ("again", "") => Known::Running { again: true },
        _ => return None,
    };
    Some((Tried { op, config, sources }, known))
}
