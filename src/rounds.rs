//! [`Rounds`]: what loops cost on a driver that cuts long ones short.

use std::ops::Add;

/// Rounds of the loops of an invocation, at most, as llvmpipe counts them ([`Caps::loop_rounds`](crate::Caps::loop_rounds)).
///
/// It runs the invocations of a vector of its CPU in step, and has one counter for all loops of their shader, which
/// nothing resets. A loop counts one for each of its turns, and one for leaving. Nothing is skipped: while a loop is left, and
/// in a branch that no invocation takes, each loop within is gone through once. So measured on Mesa 22.3, on Vulkan and GL
/// alike, to the round.
///
/// Loops that the compiler unrolls are not counted, but which ones depends on all that is in them: an op takes none for
/// unrolled, but attention its loops of up to four turns with small bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rounds {
    /// All loops taken in full.
    full: u64,
    /// Each loop gone through once.
    idle: u64,
}

impl Rounds {
    /// A loop of at most so many turns, without loops in it.
    pub fn plain(turns: impl Into<u64>) -> Rounds {
        Rounds::nest(turns, Rounds::default())
    }

    /// A loop of at most so many turns, whose body has these loops.
    pub fn nest(turns: impl Into<u64>, body: Rounds) -> Rounds {
        let idle = body.idle.saturating_add(1);
        let turns = turns.into().saturating_mul(body.full.saturating_add(1));
        Rounds { full: turns.saturating_add(idle), idle }
    }

    /// `n` times these loops, one after the other.
    pub fn times(self, n: u64) -> Rounds {
        Rounds { full: self.full.saturating_mul(n), idle: self.idle.saturating_mul(n) }
    }

    /// In all.
    pub fn count(self) -> u64 {
        self.full
    }
}

impl Add for Rounds {
    type Output = Rounds;

    /// One after the other.
    fn add(self, other: Rounds) -> Rounds {
        Rounds { full: self.full.saturating_add(other.full), idle: self.idle.saturating_add(other.idle) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What llvmpipe of Mesa 22.3 was seen to count.
    #[test]
    fn rounds_are_those_of_the_driver() {
        let plain = |n: u32| Rounds::plain(n);
        assert_eq!([0, 10, 40_000].map(|n| plain(n).count()), [1, 11, 40_001]);
        assert_eq!([0, 1, 100, 200].map(|n: u32| Rounds::nest(n, plain(10)).count()), [2, 14, 1202, 2402]);
        let three = |n: u32, m: u32| Rounds::nest(n, Rounds::nest(m, plain(m))).count();
        assert_eq!([three(0, 10), three(10, 0), three(10, 10)], [3, 33, 1233]);
        assert_eq!((plain(3) + plain(4)).times(2).count(), 18);
        assert_eq!(Rounds::nest(u64::MAX, plain(7)).count(), u64::MAX);
    }
}
