//! Which of the waiting changes a simulated crash keeps.

use super::disk::Disk;
use std::sync::Arc;

/// What a stretch of a file holds that a write made longer, where the write's bytes were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fill {
    /// Zeros.
    Zero,
    /// Bytes that nobody wrote.
    Garbage,
    /// The bytes of the file that was removed last.
    Stale,
}

/// What kind of change waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PendingKind {
    /// A directory made.
    MakeDir,
    /// A name made.
    Create,
    /// A name moved.
    Rename,
    /// A name removed.
    Remove,
    /// A file's length.
    Size,
    /// The bytes of one sector.
    Sector,
}

impl PendingKind {
    /// Whether it changes a directory, not a file.
    pub fn is_name(self) -> bool {
        !matches!(self, PendingKind::Size | PendingKind::Sector)
    }
}

/// One change that is not durable yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// When it was asked for; unique, growing.
    pub at: u64,
    /// What it is.
    pub kind: PendingKind,
    /// Whose.
    pub path: Arc<str>,
    /// The sector's place, or the new length.
    pub offset: u64,
}

/// Which waiting changes survive, by their order of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Keep {
    /// None: only what was synced.
    None,
    /// All: the process died, the machine did not.
    All,
    /// Directory changes, no bytes.
    Names,
    /// Directory changes and lengths, no bytes.
    NamesAndSizes,
    /// Bytes and lengths, no directory changes.
    Data,
    /// The first n: an orderly disk that stopped.
    First(usize),
    /// The last n: a disk that reorders.
    Last(usize),
    /// All but the nth: one change torn out of the middle.
    AllBut(usize),
    /// The nth alone.
    Only(usize),
    /// Those whose bit is set.
    Subset(u64),
    /// A random subset.
    Random(u64),
}

/// A crash: what is kept, and what fills the holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Crash {
    /// What survives.
    pub keep: Keep,
    /// What lost bytes read as.
    pub fill: Fill,
}

impl Crash {
    /// A crash with zeros in the holes.
    pub const fn new(keep: Keep) -> Self {
        Crash { keep, fill: Fill::Zero }
    }

    /// A crash that keeps a random subset.
    pub fn random(seed: u64) -> Self {
        let fill = [Fill::Zero, Fill::Garbage, Fill::Stale][(Rng::new(seed ^ 0xF111).next() % 3) as usize];
        Crash { keep: Keep::Random(seed), fill }
    }

    /// Every subset of up to `exhaustive` waiting changes (at most 16); of more, the prefixes, suffixes, single
    /// losses and single survivors, the kinds apart, and `random` random subsets.
    pub fn plans(waiting: usize, exhaustive: usize, random: usize, seed: u64) -> Vec<Crash> {
        let mut plans = vec![Crash::new(Keep::None)];
        if waiting == 0 {
            return plans;
        }
        if waiting <= exhaustive.min(16) {
            plans.extend((1..1u64 << waiting).map(|mask| Crash::new(Keep::Subset(mask))));
        } else {
            plans.extend([Keep::All, Keep::Names, Keep::NamesAndSizes, Keep::Data].map(Crash::new));
            plans.extend((1..waiting).map(|n| Crash::new(Keep::First(n))));
            plans.extend((1..waiting).map(|n| Crash::new(Keep::Last(n))));
            plans.extend((0..waiting).map(|n| Crash::new(Keep::AllBut(n))));
            plans.extend((0..waiting).map(|n| Crash::new(Keep::Only(n))));
            plans.extend((0..random as u64).map(|n| Crash::random(seed.wrapping_mul(0x9E37_79B9).wrapping_add(n))));
        }
        for fill in [Fill::Garbage, Fill::Stale] {
            plans.push(Crash { keep: Keep::NamesAndSizes, fill });
        }
        plans
    }

    pub(super) fn apply(self, disk: &Disk) -> Disk {
        let pending = disk.pending();
        let mut rng = Rng::new(match self.keep {
            Keep::Random(seed) => seed,
            _ => 0,
        });
        let count = pending.len();
        let kept: Vec<u64> = pending
            .iter()
            .enumerate()
            .filter(|(i, p)| match self.keep {
                Keep::None => false,
                Keep::All => true,
                Keep::Names => p.kind.is_name(),
                Keep::NamesAndSizes => p.kind != PendingKind::Sector,
                Keep::Data => !p.kind.is_name(),
                Keep::First(n) => *i < n,
                Keep::Last(n) => i + n >= count,
                Keep::AllBut(n) => *i != n,
                Keep::Only(n) => *i == n,
                Keep::Subset(mask) => *i < 64 && mask >> i & 1 == 1,
                Keep::Random(_) => rng.next() & 1 == 1,
            })
            .map(|(_, p)| p.at)
            .collect();
        disk.crash(&|at| kept.binary_search(&at).is_ok(), self.fill)
    }
}

/// A small seeded generator of random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// 64 random bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}
