//! Finds the loops of a program, and counts the one where it spends its time.

use serde::{Deserialize, Serialize};

use super::program::{Counts, Kind, Program, Space, sum};

/// Marks a rare path: `if (flag == 0x52415245u) { .. }`, with a flag that is uniform, as `workgroupUniformLoad` gives it.
/// What is in such a branch, in the main loop, is counted apart ("RARE" in ASCII). Compilers keep the number beside the
/// branch, as an operand of its comparison; those of Apple's and Qualcomm's GPUs do not, and count the path with the rest.
pub const RARE: u32 = 0x5241_5245;

/// The main loop: what one trip through each of its blocks issues.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Main {
    /// Without what is marked as rare.
    #[serde(flatten)]
    pub counts: Counts,
    /// Of these, in blocks that some trips pass by: guards of loads, masks of a diagonal tile.
    #[serde(skip_serializing_if = "none", default, rename = "of these conditional")]
    pub conditional: u32,
    /// In branches that are marked.
    #[serde(skip_serializing_if = "none", default)]
    pub rare: u32,
    /// Loops within it: the compiler did not unroll them, and their instructions are counted once.
    #[serde(skip_serializing_if = "none", default, rename = "loops within")]
    pub inner: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn none(n: &u32) -> bool {
    *n == 0
}

/// The main loop of a program, if it has a loop: the one with the most products, the innermost that has nearly all of them.
pub fn main(program: &Program) -> Option<Main> {
    let graph = Graph::of(program);
    let loops = graph.loops();
    let work = |body: &[usize]| {
        let counts = sum(body.iter().map(|&i| &program.blocks[i]));
        let products = (counts.of(Kind::Matrix), counts.of(Kind::Fma));
        // Without products, the loop that moves the most.
        let moved = counts.accesses(Space::Global) + counts.accesses(Space::Workgroup) + counts.of(Kind::Float);
        (products.0, products.1, moved)
    };
    let all: Vec<_> = loops.iter().map(|body| work(body)).collect();
    let most = (
        all.iter().map(|w| w.0).max()?,
        all.iter().map(|w| w.1).max()?,
        all.iter().map(|w| w.2).max()?,
    );
    // An outer loop has all that the inner ones have, so that it wins only by a good deal more.
    let share = |&(matrix, fma, moved): &(u32, u32, u32)| match most {
        (m, ..) if m > 0 => f64::from(matrix) / f64::from(m),
        (_, f, _) if f >= 8 => f64::from(fma) / f64::from(f),
        (_, _, n) => f64::from(moved) / f64::from(n.max(1)),
    };
    let near = (0..loops.len()).filter(|&i| share(&all[i]) >= 0.6);
    let body = &loops[near.min_by_key(|&i| loops[i].len())?];

    let rare = graph.rare(program, body);
    let kept: Vec<usize> = body.iter().copied().filter(|i| !rare.contains(i)).collect();
    let header = body[0];
    let latches: Vec<usize> = body.iter().copied().filter(|&i| program.blocks[i].next.contains(&header)).collect();
    let always = |i: usize| latches.iter().all(|&latch| graph.dominates(i, latch));
    let total = |blocks: &[usize]| sum(blocks.iter().map(|&i| &program.blocks[i])).total();
    let sometimes: Vec<usize> = kept.iter().copied().filter(|&i| !always(i)).collect();
    let inner = loops.iter().filter(|other| other.len() < body.len() && other.iter().all(|i| body.contains(i)));
    Some(Main {
        counts: sum(kept.iter().map(|&i| &program.blocks[i])),
        conditional: total(&sometimes),
        rare: total(&rare),
        inner: inner.count() as u32,
    })
}

/// Who follows whom, and who dominates whom.
struct Graph {
    before: Vec<Vec<usize>>,
    /// Per block, those that every way to it goes through.
    dominators: Vec<Vec<bool>>,
    next: Vec<Vec<usize>>,
}

impl Graph {
    fn of(program: &Program) -> Graph {
        let n = program.blocks.len();
        let next: Vec<Vec<usize>> = program.blocks.iter().map(|block| block.next.clone()).collect();
        let mut before = vec![Vec::new(); n];
        for (i, to) in next.iter().enumerate() {
            to.iter().for_each(|&to| before[to].push(i));
        }
        let mut dominators = vec![vec![true; n]; n];
        if let Some(first) = dominators.first_mut() {
            *first = (0..n).map(|i| i == 0).collect();
        }
        let mut changed = true;
        while changed {
            changed = false;
            for i in 1..n {
                let through = |d: usize| d == i || (!before[i].is_empty() && before[i].iter().all(|&b| dominators[b][d]));
                let now: Vec<bool> = (0..n).map(through).collect();
                changed |= now != dominators[i];
                dominators[i] = now;
            }
        }
        Graph { before, dominators, next }
    }

    fn dominates(&self, i: usize, of: usize) -> bool {
        self.dominators[of][i]
    }

    /// The blocks of each natural loop, its header first.
    fn loops(&self) -> Vec<Vec<usize>> {
        let mut found: Vec<Vec<usize>> = Vec::new();
        for header in 0..self.next.len() {
            let mut body = vec![header];
            let mut open: Vec<usize> =
                self.before[header].iter().copied().filter(|&latch| self.dominates(header, latch)).collect();
            if open.is_empty() {
                continue;
            }
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

    /// The blocks of `body` in branches that are marked.
    fn rare(&self, program: &Program, body: &[usize]) -> Vec<usize> {
        let mut rare = Vec::new();
        for &i in body.iter().filter(|&&i| program.blocks[i].marked) {
            // Of both ways on, the one that only this branch leads to; the other is where they meet again.
            let only = |&&to: &&usize| self.before[to] == [i] && to != body[0];
            let ways: Vec<usize> = self.next[i].iter().filter(only).copied().collect();
            if let [way] = ways[..] {
                rare.extend(body.iter().copied().filter(|&b| self.dominates(way, b)));
            }
        }
        rare.sort_unstable();
        rare.dedup();
        rare
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
        assert_eq!((main.counts.total(), main.rare, main.conditional), (7, 4, 1));
        assert_eq!(main.counts.of(Kind::Matrix), 2);
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
    }
}
