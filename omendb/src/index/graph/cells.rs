//! Cells: near codes around a centre, by two levels of k-means.
//!
//! The first level parts all codes by centres that a sample gives, the second each part by its own codes. At the end
//! each code goes to the nearest cell of its part and of those beside it. So it is compared with a part of all cells
//! only.

use crate::distance::codes;
use crate::distance::gemm::{self, KeyBits, RowBlock, TILE, Tile};

/// How often the centres of each level become the means of what is nearest to them.
const ROUNDS: (usize, usize) = (4, 3);
/// Of how many parts the cells are looked through for each code: of fewer, cells overlap more.
const BESIDE: usize = 16;
/// Codes that are asked for ahead of their use.
const AHEAD: usize = 8;
/// Codes of the sample for each centre of the first level.
const SAMPLED: usize = 64;

/// Which codes make up which cell.
pub(super) struct Cells {
    /// Numbers of codes, cell by cell.
    pub members: Vec<u32>,
    /// How many codes each cell has; none is empty.
    pub sizes: Vec<usize>,
    /// A code of `width` bytes for each cell: the mean of its own.
    pub centres: Vec<u8>,
}

/// Parts `count` codes of `width` bytes, a multiple of 64, into cells of about `size`.
pub(super) fn part<'c>(count: usize, width: usize, size: usize, code: impl Fn(u32) -> &'c [u8]) -> Cells {
    let parts = (count as f64 / size as f64).sqrt().ceil().max(1.0) as usize;
    let sample: Vec<u32> = spread(count, parts * SAMPLED).map(|at| at as u32).collect();
    let mut parts = Means::of(width, parts, sample.len(), ROUNDS.0, |at| code(sample[at as usize]));
    parts.assign(count, &code);
    let members = parts.members();
    let local = |part: &[u32]| -> Vec<u8> {
        let mut own = Vec::with_capacity(part.len() * width);
        for (at, &member) in part.iter().enumerate() {
            if let Some(&ahead) = part.get(at + AHEAD) {
                codes::prefetch(code(ahead), width);
            }
            own.extend_from_slice(code(member));
        }
        own
    };
    // The cells of each part, one after the other.
    let mut cells = Means::new(width);
    let mut ends = Vec::with_capacity(members.len());
    for part in &members {
        let own = local(part);
        let own = |at: u32| &own[at as usize * width..][..width];
        let means = Means::of(width, part.len().div_ceil(size), part.len(), ROUNDS.1, own);
        cells.centres.extend_from_slice(&means.centres);
        ends.push(cells.count());
    }
    // A code may be nearer to a cell of another part than to those of its own.
    cells.nearest.resize(count, 0);
    let mut sums = Sums::new(width, cells.count());
    for (part, members) in members.iter().enumerate() {
        let (mut near, mut numbers) = (Means::new(width), Vec::new());
        for other in parts.nearest_to(part).into_iter().take(BESIDE) {
            let own = if other == 0 { 0 } else { ends[other - 1] }..ends[other];
            near.centres.extend_from_slice(&cells.centres[own.start * width..own.end * width]);
            numbers.extend(own);
        }
        let own = local(members);
        let own = |at: u32| &own[at as usize * width..][..width];
        near.assign(members.len(), own);
        for ((at, &member), &nearest) in (0..).zip(members).zip(&near.nearest) {
            let cell = numbers[nearest as usize];
            cells.nearest[member as usize] = cell as u32;
            sums.add(cell, own(at));
        }
    }
    sums.write_means(&mut cells.centres);
    let mut made = Cells { members: Vec::with_capacity(count), sizes: Vec::new(), centres: Vec::new() };
    for (cell, centre) in cells.members().iter().zip(cells.centres.chunks_exact(width)) {
        if !cell.is_empty() {
            made.members.extend_from_slice(cell);
            made.sizes.push(cell.len());
            made.centres.extend_from_slice(centre);
        }
    }
    made
}

/// At most `wanted` of the numbers below `count`, at even distances.
fn spread(count: usize, wanted: usize) -> impl Iterator<Item = usize> {
    let wanted = wanted.min(count);
    (0..wanted).map(move |at| (at as u128 * count as u128 / wanted as u128) as usize)
}

/// Centres, and which of them is the nearest of each code.
struct Means {
    width: usize,
    centres: Vec<u8>,
    nearest: Vec<u32>,
}

impl Means {
    fn new(width: usize) -> Means {
        Means { width, centres: Vec::new(), nearest: Vec::new() }
    }

    /// Begins with some of `count` codes and moves them to the means of what is nearest to them.
    fn of<'c>(width: usize, centres: usize, count: usize, rounds: usize, code: impl Fn(u32) -> &'c [u8]) -> Means {
        let mut means = Means::new(width);
        spread(count, centres).for_each(|at| means.centres.extend_from_slice(code(at as u32)));
        for _ in 0..rounds {
            means.assign(count, &code);
            let mut sums = Sums::new(width, means.count());
            (0..).zip(&means.nearest).for_each(|(at, &nearest)| sums.add(nearest as usize, code(at)));
            sums.write_means(&mut means.centres);
        }
        means
    }

    fn count(&self) -> usize {
        self.centres.len() / self.width
    }

    /// Finds the nearest centre of each code.
    fn assign<'c>(&mut self, count: usize, code: impl Fn(u32) -> &'c [u8]) {
        let signed: Vec<u8> = self.centres.iter().map(|byte| byte ^ 0x80).collect();
        let terms: Vec<u32> = self.centres.chunks_exact(self.width).map(|centre| codes::row_terms(centre).1).collect();
        let (block, bits) = (RowBlock { signed: &signed, terms: &terms }, KeyBits::new(self.width, terms.len()));
        let (mut tile, mut best) = (Tile::default(), Vec::new());
        self.nearest.clear();
        for first in (0..count).step_by(TILE) {
            let lanes = first as u32..(first + TILE).min(count) as u32;
            (lanes.end..(lanes.end + TILE as u32).min(count as u32)).for_each(|at| codes::prefetch(code(at), 256));
            tile.pack(self.width, lanes.clone().map(&code), lanes.clone().map(|at| codes::row_terms(code(at)).0));
            gemm::nearest_rows(&tile, block, bits, 1, &mut best);
            self.nearest.extend(best.iter().take(lanes.len()).map(|&key| bits.index(key) as u32));
        }
    }

    /// The codes of each centre.
    fn members(&self) -> Vec<Vec<u32>> {
        let mut members = vec![Vec::new(); self.count()];
        (0u32..).zip(&self.nearest).for_each(|(at, &nearest)| members[nearest as usize].push(at));
        members
    }

    /// All centres by their distance from one of them.
    fn nearest_to(&self, one: usize) -> Vec<usize> {
        let mut squares = Vec::new();
        codes::squared_l2_run(&self.centres[one * self.width..][..self.width], &self.centres, &mut squares);
        let mut order: Vec<usize> = (0..self.count()).collect();
        order.sort_by_key(|&other| squares[other]);
        order
    }
}

/// Codes of each centre, added up.
struct Sums {
    width: usize,
    sums: Vec<u32>,
    sizes: Vec<u32>,
}

impl Sums {
    fn new(width: usize, centres: usize) -> Sums {
        Sums { width, sums: vec![0; centres * width], sizes: vec![0; centres] }
    }

    fn add(&mut self, centre: usize, code: &[u8]) {
        let sums = &mut self.sums[centre * self.width..][..self.width];
        codes::with_avx2(|| sums.iter_mut().zip(code).for_each(|(sum, &byte)| *sum += u32::from(byte)));
        self.sizes[centre] += 1;
    }

    /// Centres without codes stay where they are.
    fn write_means(&self, centres: &mut [u8]) {
        let means = self.sums.chunks_exact(self.width).zip(&self.sizes);
        for (centre, (sums, &size)) in centres.chunks_exact_mut(self.width).zip(means).filter(|(_, mean)| *mean.1 > 0) {
            centre.iter_mut().zip(sums).for_each(|(out, sum)| *out = ((sum + size / 2) / size) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::graph::mix;

    #[test]
    fn every_code_is_in_one_cell_and_most_are_nearest_to_its_centre() {
        // Forty places, and codes around them.
        let byte = |a: u64, b: u64| mix(a, b) as u8;
        let all: Vec<Vec<u8>> = (0..2_000u64)
            .map(|at| (0..64).map(|d| byte(at % 40, d) / 2 + 60 + byte(at + 1_000, d) / 16).collect())
            .collect();
        for (count, size) in [(0, 10), (1, 10), (7, 10), (2_000, 20), (2_000, 5_000)] {
            let cells = part(count, 64, size, |at| &all[at as usize]);
            let mut members = cells.members.clone();
            members.sort_unstable();
            assert!(members.iter().copied().eq(0..count as u32));
            assert_eq!(cells.sizes.iter().sum::<usize>(), count);
            assert_eq!(cells.centres.len(), cells.sizes.len() * 64);
            assert!(cells.sizes.iter().all(|size| *size > 0) && cells.sizes.len() <= 2 * count.div_ceil(size) + 3);
            let mut members = cells.members.iter();
            let distance = |cell: usize, code: &[u8]| codes::squared_l2(&cells.centres[cell * 64..][..64], code);
            let mut nearest = 0;
            for (cell, &size) in cells.sizes.iter().enumerate() {
                for &member in members.by_ref().take(size) {
                    let code = &all[member as usize];
                    let own = distance(cell, code);
                    nearest += usize::from((0..cells.sizes.len()).all(|other| own <= distance(other, code)));
                }
            }
            assert!(nearest * 10 >= count * 8, "{nearest} of {count}");
        }
    }
}
