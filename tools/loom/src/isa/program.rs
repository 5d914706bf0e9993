//! A disassembly as blocks of instructions by kind: what the four readers make of their compiler's text.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    Global,
    Workgroup,
    /// Spilled registers and arrays that an index moves through: memory of one invocation.
    Scratch,
}

/// What an instruction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A product of matrices that a subgroup shares.
    Matrix,
    /// An f32 multiply-add of each invocation.
    Fma,
    /// Another f32 operation, or a multiply-add of less than f32.
    Float,
    /// Integers, addresses, comparisons, selections.
    Int,
    Move,
    Convert,
    /// `exp2`, `log2`, `1/x`, roots, trigonometry.
    Special,
    /// Bytes per invocation.
    Load(Space, u32),
    Store(Space, u32),
    Atomic(Space),
    /// Values from other invocations of the subgroup.
    Shuffle,
    /// Parameters and descriptors.
    Constant,
    /// Once per subgroup.
    Scalar,
    Branch,
    Barrier,
    /// Waits, hints, empty slots.
    Wait,
    Other,
}

impl Kind {
    const PLAIN: [(Kind, &str); 13] = [
        (Kind::Matrix, "matrix"),
        (Kind::Fma, "fma"),
        (Kind::Float, "float"),
        (Kind::Int, "int"),
        (Kind::Move, "move"),
        (Kind::Convert, "convert"),
        (Kind::Special, "special"),
        (Kind::Shuffle, "shuffle"),
        (Kind::Constant, "constant"),
        (Kind::Scalar, "scalar"),
        (Kind::Branch, "branch"),
        (Kind::Barrier, "barrier"),
        (Kind::Wait, "wait"),
    ];

    const SPACES: [(Space, &str); 3] =
        [(Space::Global, "global"), (Space::Workgroup, "workgroup"), (Space::Scratch, "scratch")];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |space: &Space| Kind::SPACES.iter().find(|(own, _)| own == space).map_or("", |(_, name)| name);
        match self {
            Kind::Load(space, bytes) => write!(f, "{} load {bytes}", name(space)),
            Kind::Store(space, bytes) => write!(f, "{} store {bytes}", name(space)),
            Kind::Atomic(space) => write!(f, "{} atomic", name(space)),
            plain => f.write_str(Kind::PLAIN.iter().find(|(own, _)| own == plain).map_or("other", |(_, name)| name)),
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        if let Some((kind, _)) = Kind::PLAIN.iter().find(|(_, name)| *name == text) {
            return Ok(*kind);
        }
        let unknown = || format!("`{text}` is no kind of instruction");
        let mut words = text.split(' ');
        let first = words.next().unwrap_or_default();
        if first == "other" {
            return Ok(Kind::Other);
        }
        let (space, _) = Kind::SPACES.iter().find(|(_, name)| *name == first).ok_or_else(unknown)?;
        let (what, bytes) = (words.next(), words.next().and_then(|bytes| bytes.parse().ok()));
        match (what, bytes) {
            (Some("load"), Some(bytes)) => Ok(Kind::Load(*space, bytes)),
            (Some("store"), Some(bytes)) => Ok(Kind::Store(*space, bytes)),
            (Some("atomic"), None) => Ok(Kind::Atomic(*space)),
            _ => Err(unknown()),
        }
    }
}

/// Instructions by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, u32>", into = "BTreeMap<String, u32>")]
pub struct Counts(pub BTreeMap<Kind, u32>);

impl Counts {
    pub fn add(&mut self, kind: Kind, times: u32) {
        *self.0.entry(kind).or_default() += times;
    }

    pub fn of(&self, kind: Kind) -> u32 {
        self.0.get(&kind).copied().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn total(&self) -> u32 {
        self.0.values().sum()
    }

    /// Of all kinds for which `wanted` holds.
    pub fn sum(&self, wanted: impl Fn(Kind) -> bool) -> u32 {
        self.0.iter().filter(|(kind, _)| wanted(**kind)).map(|(_, n)| n).sum()
    }

    /// Loads, stores and atomics of this memory.
    pub fn accesses(&self, space: Space) -> u32 {
        self.sum(|kind| match kind {
            Kind::Load(own, _) | Kind::Store(own, _) | Kind::Atomic(own) => own == space,
            _ => false,
        })
    }
}

impl From<Counts> for BTreeMap<String, u32> {
    fn from(counts: Counts) -> Self {
        counts.0.iter().map(|(kind, n)| (kind.to_string(), *n)).collect()
    }
}

impl TryFrom<BTreeMap<String, u32>> for Counts {
    type Error = String;

    fn try_from(counts: BTreeMap<String, u32>) -> Result<Counts, String> {
        let parsed: Result<_, String> = counts.iter().map(|(kind, n)| Ok((kind.parse()?, *n))).collect();
        Ok(Counts(parsed?))
    }
}

/// Instructions that run one after the other.
#[derive(Debug, Clone, Default)]
pub struct Block {
    pub counts: Counts,
    /// Blocks that may be next.
    pub next: Vec<usize>,
    /// Ends in a branch on a comparison with [`RARE`](super::loops::RARE).
    pub marked: bool,
}

/// A shader as its compiler prints it.
#[derive(Debug, Clone, Default)]
pub struct Program {
    pub blocks: Vec<Block>,
}

impl Program {
    pub fn counts(&self) -> Counts {
        sum(self.blocks.iter())
    }
}

/// The instructions of these blocks.
pub fn sum<'a>(blocks: impl Iterator<Item = &'a Block>) -> Counts {
    let mut all = Counts::default();
    for (kind, n) in blocks.flat_map(|block| &block.counts.0) {
        all.add(*kind, *n);
    }
    all
}

/// Whether `text` starts with one of these.
pub(super) fn starts(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.starts_with(word))
}

/// Blocks by label while a text is read; jumps name blocks that may come later.
#[derive(Default)]
pub(super) struct Reading {
    blocks: Vec<Block>,
    labels: BTreeMap<String, usize>,
    jumps: Vec<(usize, String)>,
    /// Whether what follows the last instruction belongs to another block.
    closed: bool,
    /// Whether that block is reached without a jump.
    falls: bool,
}

impl Reading {
    /// A block begins.
    pub fn label(&mut self, label: &str) {
        self.begin();
        self.labels.insert(label.to_string(), self.blocks.len() - 1);
    }

    fn begin(&mut self) {
        let new = self.blocks.len();
        if let (true, Some(last)) = (self.falls, self.blocks.last_mut()) {
            last.next.push(new);
        }
        self.blocks.push(Block::default());
        (self.closed, self.falls) = (false, true);
    }

    /// The block that is read.
    pub fn block(&mut self) -> &mut Block {
        if self.blocks.is_empty() || self.closed {
            self.begin();
        }
        self.blocks.last_mut().expect("one was begun")
    }

    /// The block may go on at `label`, and nowhere else if `always`.
    pub fn jump(&mut self, label: &str, always: bool) {
        self.follows(label);
        (self.closed, self.falls) = (true, !always);
    }

    /// `label` may follow the block.
    pub fn follows(&mut self, label: &str) {
        self.block();
        self.jumps.push((self.blocks.len() - 1, label.to_string()));
    }

    /// Nothing follows the block but what is told.
    pub fn alone(&mut self) {
        self.block();
        self.falls = false;
    }

    /// The program ends here.
    pub fn end(&mut self) {
        self.alone();
        self.closed = true;
    }

    pub fn finish(mut self) -> Program {
        for (from, label) in self.jumps {
            if let Some(&to) = self.labels.get(&label) {
                self.blocks[from].next.push(to);
            }
        }
        for block in &mut self.blocks {
            block.next.sort_unstable();
            block.next.dedup();
        }
        Program { blocks: self.blocks }
    }
}
