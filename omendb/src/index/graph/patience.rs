//! When a search among cells may stop, learned from searches that did not.
//!
//! A search takes the cells in the order of their distance, and stops after so many in a row that held none of the
//! nearest: its *patience*, and a part of as many as there were before. How much recall a patience has depends on the
//! rows and on the queries. So the first searches, and then one in some, look at all cells, and remember where each
//! patience would have stopped them and what it would have found.

/// Cells in a row that held nothing, at least.
const STEPS: [u32; 13] = [2, 3, 5, 8, 12, 18, 27, 40, 60, 90, 135, 200, 300];
/// For so many cells up to the last that held something a search is patient for one more.
const EACH: u32 = 2;
/// Searches of all cells before the first that stops.
const FIRST: f32 = 24.0;
/// Where so many are remembered, each counts for half from then on.
const REMEMBERED: f32 = 128.0;
/// What searches of all cells may cost, as a share of all others; more before as many are remembered as are to be.
const SHARE: f32 = 0.05;
/// How much earlier the next one is where the last would have found less than was asked for, had it stopped: other
/// queries than before may be asked.
const EARLIER: u32 = 16;
/// What is found is held to be less by so many standard errors, and as if so many searches more had found nothing:
/// where all have found everything, there is no error to go by.
const DOUBT: f32 = 1.0;
const IN_VAIN: f32 = 0.5;

/// What each patience would have found, for searches of about as many rows.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// Searches of all cells.
    searches: f32,
    /// The sums of the shares of rows that each patience would have found, and of their squares.
    found: [f32; STEPS.len()],
    squares: [f32; STEPS.len()],
    /// The sums of the rows it would have looked at.
    looked_at: [f32; STEPS.len()],
    /// Searches left until the next one of all cells.
    left: u32,
    /// What the last that stopped was to find, and its patience.
    asked: Option<(f32, usize)>,
}

/// How a search goes through its cells, and where each patience would stop it.
#[derive(Debug)]
pub(super) struct Course {
    /// The patience; `None` looks at all cells.
    step: Option<usize>,
    /// Whether searches usually go so, rather than to learn.
    usual: bool,
    /// The last cell that held something.
    last: u32,
    /// For each patience that was at its end, the cell and the rows looked at until then.
    stops: Vec<(u32, usize)>,
}

impl Learned {
    /// How a search that is to find a share of `recall` goes through all cells, of `rows` rows.
    pub(super) fn choose(&mut self, recall: f32, rows: usize) -> Course {
        if self.searches < FIRST {
            return Course::learning();
        }
        let enough = |(&found, &square): (&f32, &f32)| {
            let mean = found / self.searches;
            let error = ((square / self.searches - mean * mean).max(0.0) / self.searches).sqrt();
            found / (self.searches + IN_VAIN) - DOUBT * error >= recall
        };
        let step = self.found.iter().zip(&self.squares).position(enough);
        if self.left == 0 {
            let looked_at = step.map_or(rows as f32, |step| self.looked_at[step] / self.searches);
            let known = (self.searches / REMEMBERED).min(1.0);
            self.left = (rows as f32 / looked_at.max(1.0) / SHARE * known) as u32;
            return Course::learning();
        }
        self.left -= 1;
        self.asked = step.map(|step| (recall, step));
        Course { usual: true, ..Course::new(step) }
    }

    /// A search of all cells, `rows` rows, found the last of its results in cells of these numbers.
    pub(super) fn learn(&mut self, course: &Course, results: &[u32], rows: usize) {
        if results.is_empty() {
            return;
        }
        if self.searches >= REMEMBERED {
            self.searches /= 2.0;
            let sums = self.found.iter_mut().chain(&mut self.squares).chain(&mut self.looked_at);
            sums.for_each(|sum| *sum /= 2.0);
        }
        self.searches += 1.0;
        if self.asked.is_some_and(|(recall, step)| {
            course.stops.get(step).is_some_and(|(stop, _)| share_of(results, *stop) < recall)
        }) {
            self.left /= EARLIER;
        }
        for step in 0..STEPS.len() {
            let (stop, looked_at) = course.stops.get(step).copied().unwrap_or((u32::MAX, rows));
            let share = share_of(results, stop);
            self.found[step] += share;
            self.squares[step] += share * share;
            self.looked_at[step] += looked_at as f32;
        }
    }
}

/// The share of results in cells up to this one.
fn share_of(results: &[u32], cell: u32) -> f32 {
    results.iter().filter(|other| **other <= cell).count() as f32 / results.len() as f32
}

impl Course {
    /// All cells, for what is to be learned.
    pub(super) fn learning() -> Course {
        Course::new(None)
    }

    fn new(step: Option<usize>) -> Course {
        Course { step, usual: false, last: 0, stops: Vec::new() }
    }

    /// Whether what it costs is what other searches will cost.
    pub(super) fn is_usual(&self) -> bool {
        self.usual
    }

    /// Whether this one looks at all cells.
    pub(super) fn is_whole(&self) -> bool {
        self.step.is_none()
    }

    /// Something was found in the cell of this number.
    pub(super) fn found(&mut self, cell: u32) {
        self.last = cell;
    }

    /// Whether the patience, or one that would be learned, is at its end after the cell of this number.
    #[inline]
    pub(super) fn ends(&self, cell: u32) -> bool {
        let step = self.step.unwrap_or(self.stops.len());
        STEPS.get(step).is_some_and(|patience| cell - self.last >= patience + self.last / EACH)
    }

    /// Remembers that so many rows were looked at until the next patience was at its end.
    pub(super) fn stop(&mut self, cell: u32, rows: usize) {
        while self.step.is_none() && self.ends(cell) {
            self.stops.push((cell, rows));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A search of 400 cells of ten rows that finds something in `near`.
    fn search(learned: &mut Learned, recall: f32, near: &[u32]) -> (usize, usize) {
        let mut course = learned.choose(recall, 4_000);
        let (mut found, mut rows) = (0, 0);
        for cell in 0..400 {
            rows += 10;
            if near.contains(&cell) {
                course.found(cell);
                found += 1;
            }
            if course.ends(cell) {
                if !course.is_whole() {
                    break;
                }
                course.stop(cell, rows);
            }
        }
        if course.is_whole() {
            learned.learn(&course, near, rows);
        }
        (found, rows)
    }

    #[test]
    fn searches_become_as_patient_as_their_recall_needs() {
        let mut learned = Learned::default();
        // One of five results lies twelve cells after the others.
        for _ in 0..FIRST as usize {
            assert_eq!(search(&mut learned, 0.95, &[0, 1, 2, 3, 15]), (5, 4_000));
        }
        let mut patient = |recall: f32, near: &[u32]| {
            let (mut found, mut rows) = (0, 0);
            for _ in 0..1_000 {
                let (more, looked_at) = search(&mut learned, recall, near);
                (found, rows) = (found + more, rows + looked_at);
            }
            (found as f32 / 1_000.0 / near.len() as f32, rows as f32 / 1_000.0)
        };
        let (recall, rows) = patient(0.95, &[0, 1, 2, 3, 15]);
        assert!(recall == 1.0 && rows < 450.0, "{recall}, {rows} rows");
        let (recall, rows) = patient(0.7, &[0, 1, 2, 3, 15]);
        assert!((0.8..0.9).contains(&recall) && rows < 150.0, "{recall}, {rows} rows");
        // Other queries come, whose results lie farther apart.
        let far = [0, 30, 60, 100, 140];
        patient(0.95, &far);
        patient(0.95, &far);
        patient(0.95, &far);
        patient(0.95, &far);
        let (recall, _) = patient(0.95, &far);
        assert!(recall > 0.95, "{recall}");
        let (_, rows) = patient(0.99, &far);
        assert!(rows < 4_000.0);
    }

    #[test]
    fn what_searches_look_at_is_remembered() {
        let mut learned = Learned::default();
        for _ in 0..10 {
            search(&mut learned, 0.9, &[0, 2]);
        }
        assert_eq!(learned.looked_at[..2], [600.0, 700.0]);
    }

    #[test]
    fn few_searches_that_found_everything_are_not_enough_for_much_recall() {
        let mut learned = Learned::default();
        for _ in 0..=FIRST as usize {
            search(&mut learned, 0.95, &[0, 1, 2]);
        }
        assert!(learned.choose(0.99, 4_000).is_whole());
        assert!(!learned.choose(0.95, 4_000).is_whole());
    }
}
