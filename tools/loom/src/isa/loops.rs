//! Finds the loops of a program, and counts the one where it spends its time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::program::{Counts, Kind, Program, Space, sum};

/// Marks a rare path: `if (flag == 0x52415245u) { .. }`, with a flag that is uniform, as `workgroupUniformLoad` gives it.
/// What is in such a branch, in the main loop, is counted apart ("RARE" in ASCII). Compilers keep the number beside the
/// branch, as an operand of its comparison; those of Apple's and Qualcomm's GPUs do not, and count the path with the rest.
pub const RARE: u32 = 0x5241_5245;

/// The main loop: what its longest way from the header back to it issues.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Main {
    #[serde(flatten)]
    pub counts: Counts,
    /// Of these, in blocks that some trips pass by: guards of loads, a tile's masks.
    #[serde(skip_serializing_if = "none", default, rename = "of these conditional")]
    pub conditional: u32,
    /// On other ways, as those of a tile without masks.
    #[serde(skip_serializing_if = "none", default, rename = "on other ways")]
    pub aside: u32,
    /// In branches that are marked, on no way that is counted.
    #[serde(skip_serializing_if = "none", default)]
    pub rare: u32,
    /// Loops on that way: the compiler did not unroll them, and their instructions are counted once.
    #[serde(skip_serializing_if = "none", default, rename = "loops within")]
    pub inner: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn none(n: &u32) -> bool {
    *n == 0
}

/// How much of an outer loop's work an inner one must have to be the main one.
const NEARLY_ALL: f64 = 0.6;

/// How much of a program without products a loop must have at least: others are those of a shuffle.
const LEAST: f64 = 0.05;

fn moved(counts: &Counts) -> u32 {
    counts.accesses(Space::Global) + counts.accesses(Space::Workgroup) + counts.of(Kind::Float)
}

/// The main loop of a program, if it has one: the one with the most products, the innermost that has nearly all of them.
pub fn main(program: &Program) -> Option<Main> {
    let graph = Graph::of(program);
    let loops = graph.loops();
    let ways: Vec<Vec<usize>> = loops.iter().map(|body| graph.way(body, &loops)).collect();
    let all: Vec<Counts> = ways.iter().map(|way| graph.sum(way)).collect();
    let most = |kind| all.iter().map(|counts| counts.of(kind)).max().unwrap_or(0);
    let (matrix, fma) = (most(Kind::Matrix) > 0, most(Kind::Fma) >= 8);
    let work = |i: usize| {
        let counts = &all[i];
        match () {
            () if matrix => counts.of(Kind::Matrix),
            () if fma => counts.of(Kind::Fma),
            // Without products, the loop that moves the most.
            () => moved(counts),
        }
    };
    let mut main = (0..loops.len()).max_by_key(|&i| (work(i), std::cmp::Reverse(loops[i].len())))?;
    while let Some(inner) = children(&loops[main], &loops)
        .into_iter()
        .filter(|&i| f64::from(work(i)) >= NEARLY_ALL * f64::from(work(main)))
        .max_by_key(|&i| work(i))
    {
        main = inner;
    }

    if !matrix && !fma && f64::from(work(main)) < LEAST * f64::from(moved(&program.counts())) {
        return None;
    }
    let (body, way) = (&loops[main], &ways[main]);
    let rare: Vec<usize> = body.iter().copied().filter(|&i| graph.rare[i]).collect();
    let latches: Vec<usize> = body.iter().copied().filter(|&i| graph.next[i].contains(&body[0])).collect();
    let always = |i: usize| latches.iter().all(|&latch| graph.dominates(i, latch));
    let total = |blocks: &[usize]| graph.sum(blocks).total();
    let sometimes: Vec<usize> = way.iter().copied().filter(|&i| !always(i)).collect();
    let within = children(body, &loops).into_iter().filter(|&i| way.contains(&loops[i][0]));
    Some(Main {
        conditional: total(&sometimes),
        aside: total(body) - total(way) - total(&rare),
        rare: total(&rare),
        inner: within.count() as u32,
        counts: all[main].clone(),
    })
}

/// The loops within `body` that are in no other loop within it.
fn children(body: &[usize], loops: &[Vec<usize>]) -> Vec<usize> {
    let within = |inner: &[usize], outer: &[usize]| inner.len() < outer.len() && outer.contains(&inner[0]);
    let all: Vec<usize> = (0..loops.len()).filter(|&i| within(&loops[i], body)).collect();
    all.iter().copied().filter(|&i| !all.iter().any(|&other| within(&loops[i], &loops[other]))).collect()
}

/// Who follows whom, and who dominates whom.
struct Graph<'a> {
    program: &'a Program,
    next: Vec<Vec<usize>>,
    before: Vec<Vec<usize>>,
    /// Per block, those that every way to it goes through.
    dominators: Vec<Vec<bool>>,
    /// Blocks in branches that are marked.
    rare: Vec<bool>,
}

impl<'a> Graph<'a> {
    fn of(program: &'a Program) -> Graph<'a> {
        let n = program.blocks.len();
        let next: Vec<Vec<usize>> = program.blocks.iter().map(|block| block.next.clone()).collect();
        let mut reached = vec![false; n];
        let mut open: Vec<usize> = (0..n.min(1)).collect();
        while let Some(i) = open.pop() {
            if !std::mem::replace(&mut reached[i], true) {
                open.extend(&next[i]);
            }
        }
        let mut before = vec![Vec::new(); n];
        for (i, to) in next.iter().enumerate().filter(|(i, _)| reached[*i]) {
            to.iter().for_each(|&to| before[to].push(i));
        }
        let mut dominators = vec![vec![true; n]; n];
        if let Some(first) = dominators.first_mut() {
            *first = (0..n).map(|i| i == 0).collect();
        }
        let mut changed = true;
        while changed {
            changed = false;
            for i in (1..n).filter(|&i| reached[i]) {
                let through = |d: usize| d == i || before[i].iter().all(|&b| dominators[b][d]);
                let now: Vec<bool> = (0..n).map(through).collect();
                changed |= now != dominators[i];
                dominators[i] = now;
            }
        }
        let mut graph = Graph { program, next, before, dominators, rare: vec![false; n] };
        for i in (0..n).filter(|&i| reached[i] && program.blocks[i].marked) {
            // Of both ways on, the one that only this branch leads to; the other is where they meet again.
            let only: Vec<usize> = graph.next[i].iter().copied().filter(|&to| graph.before[to] == [i]).collect();
            if let [way] = only[..] {
                (0..n).filter(|&b| reached[b] && graph.dominators[b][way]).for_each(|b| graph.rare[b] = true);
            }
        }
        graph
    }

    fn dominates(&self, i: usize, of: usize) -> bool {
        self.dominators[of][i]
    }

    fn sum(&self, blocks: &[usize]) -> Counts {
        sum(blocks.iter().map(|&i| &self.program.blocks[i]))
    }

    /// The blocks of each natural loop, its header first.
    fn loops(&self) -> Vec<Vec<usize>> {
        let mut found: Vec<Vec<usize>> = Vec::new();
        for header in 0..self.next.len() {
            let latches = self.before[header].iter().copied().filter(|&latch| self.dominates(header, latch));
            let mut open: Vec<usize> = latches.collect();
            if open.is_empty() {
                continue;
            }
            let mut body = vec![header];
            while let Some(i) = open.pop() {
                if !body.contains(&i) {
                    body.push(i);
                    open.extend(&self.before[i]);
                }
            }
            found.push(body);
        }
        found
    }

    /// The longest way through a loop, without rare blocks; loops within it are gone through once.
    fn way(&self, body: &[usize], loops: &[Vec<usize>]) -> Vec<usize> {
        // A loop within is one place: where it is entered.
        let inner: Vec<(usize, Vec<usize>)> =
            children(body, loops).into_iter().map(|i| (i, self.way(&loops[i], loops))).collect();
        let place = |block: usize| {
            let within = inner.iter().find(|(i, _)| loops[*i].contains(&block));
            within.map_or(block, |(i, _)| loops[*i][0])
        };
        let blocks_of = |place: usize| match inner.iter().find(|(i, _)| loops[*i][0] == place) {
            Some((i, way)) => (loops[*i].clone(), way.clone()),
            None => (vec![place], vec![place]),
        };
        let mut found: BTreeMap<usize, Option<(u32, Vec<usize>)>> = BTreeMap::new();
        self.longest(body, body[0], &place, &blocks_of, &mut found).map_or_else(|| vec![body[0]], |(_, way)| way)
    }

    /// The longest way from `at` back to the header; none where it leaves the loop.
    fn longest(
        &self,
        body: &[usize],
        at: usize,
        place: &dyn Fn(usize) -> usize,
        blocks_of: &dyn Fn(usize) -> (Vec<usize>, Vec<usize>),
        found: &mut BTreeMap<usize, Option<(u32, Vec<usize>)>>,
    ) -> Option<(u32, Vec<usize>)> {
        if let Some(known) = found.get(&at) {
            return known.clone();
        }
        found.insert(at, None); // a way that comes back here is none
        let (blocks, way) = blocks_of(at);
        let mut rest: Option<(u32, Vec<usize>)> = None;
        for to in blocks.iter().flat_map(|&block| &self.next[block]).copied() {
            let on = match () {
                () if to == body[0] => Some((0, Vec::new())),
                () if !body.contains(&to) || self.rare[to] || place(to) == at => None,
                () => self.longest(body, place(to), place, blocks_of, found),
            };
            if on.as_ref().is_some_and(|(length, _)| rest.as_ref().is_none_or(|(most, _)| length > most)) {
                rest = on;
            }
        }
        let whole = rest.map(|(length, rest)| (length + self.sum(&way).total(), [way, rest].concat()));
        found.insert(at, whole.clone());
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::Block;
    use super::*;

    /// Blocks of these instructions that lead there; a `!` marks the branch.
    fn program(blocks: &[(&str, &[usize])]) -> Program {
        let block = |(text, next): &(&str, &[usize])| {
            let mut block = Block { next: next.to_vec(), marked: text.contains('!'), ..Block::default() };
            for word in text.trim_end_matches('!').split(", ").filter(|word| !word.is_empty()) {
                block.counts.add(word.parse().unwrap(), 1);
            }
            block
        };
        Program { blocks: blocks.iter().map(block).collect() }
    }

    #[test]
    fn shaders_mark_rare_paths_by_this_number() {
        let shader = include_str!("../../../../shaders/attention/attention_coop.wgsl");
        assert!(shader.contains(&format!("const RARE: u32 = {RARE:#x}u;")));
    }

    #[test]
    fn the_loop_with_the_products_is_the_main_one() {
        // 1: a loop that copies; 2 to 5: an outer loop round 3, 4, which multiplies.
        let program = program(&[
            ("int", &[1]),
            ("global load 16, workgroup store 16, branch", &[1, 2]),
            ("int, int", &[3]),
            ("matrix, matrix, workgroup load 8, branch", &[4, 5]),
            ("int, branch", &[3]),
            ("scalar, branch", &[2, 6]),
            ("global store 4", &[]),
        ]);
        let main = main(&program).unwrap();
        assert_eq!((main.counts.total(), main.counts.of(Kind::Matrix), main.inner), (6, 2, 0));
        assert_eq!((main.conditional, main.rare), (0, 0));
    }

    #[test]
    fn rare_paths_are_counted_apart_and_conditional_ones_told() {
        let program = program(&[
            ("int", &[1]),
            ("matrix, int, branch!", &[2, 4]),
            ("workgroup store 4, workgroup store 4, branch", &[3]),
            ("float", &[4]),
            ("branch", &[5, 6]),
            ("global load 4", &[6]),
            ("matrix, branch", &[1, 7]),
            ("global store 4", &[]),
        ]);
        let main = main(&program).unwrap();
        assert_eq!((main.counts.total(), main.rare, main.conditional, main.aside), (7, 4, 1, 0));
        assert_eq!(main.counts.of(Kind::Matrix), 2);
    }

    #[test]
    fn of_two_ways_the_longer_counts() {
        let program = program(&[
            ("int", &[1]),
            ("branch, fma, fma, fma, fma, fma, fma, fma, fma", &[2, 3]),
            ("fma, fma, branch", &[4]),
            ("fma, int, int, int", &[4]),
            ("branch", &[1, 5]),
            ("", &[]),
        ]);
        let main = main(&program).unwrap();
        assert_eq!((main.counts.total(), main.conditional, main.aside), (14, 4, 3));
    }

    #[test]
    fn an_outer_loop_that_does_more_is_the_main_one() {
        let program = program(&[
            ("int", &[1]),
            ("fma, fma, fma, fma, fma, fma, fma, fma, fma, fma, fma, fma", &[2]),
            ("fma, fma, branch", &[2, 3]),
            ("branch", &[1, 4]),
            ("", &[]),
        ]);
        let main = main(&program).unwrap();
        assert_eq!((main.counts.of(Kind::Fma), main.inner), (14, 1));
    }

    #[test]
    fn a_program_without_a_loop_has_no_main_loop() {
        assert_eq!(main(&program(&[("int", &[1]), ("float", &[])])), None);
        assert_eq!(main(&Program::default()), None);
        // Nor one with the loop of a shuffle.
        let loads = "global load 16, float";
        assert_eq!(main(&program(&[(loads, &[1]), ("int, branch", &[1, 2]), (loads, &[])])), None);
    }
}
