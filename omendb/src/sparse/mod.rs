//! Sparse vectors: weights of a few of 2^32 dimensions.

pub(crate) mod index;

use crate::codec::{Reader, u32_at};
use crate::error::{Error, Result};
use crate::schema::MAX_SPARSE_ENTRIES;
use crate::validate::MAX_ABS;

/// A sparse vector: weights by id, each id at most once; what is not there weighs 0.
///
/// Two are compared by their dot product. Its terms are added in f64 in the order of the ids, and the sum is rounded to
/// f32 once, so that a score depends on the two vectors alone.
///
/// ```
/// # use omendb::Sparse;
/// let a = Sparse::new([(7, 0.5), (4_000_000_000, 2.0)])?;
/// let b = Sparse::new([(4_000_000_000, 3.0), (12, 1.0)])?;
/// assert_eq!(a.dot(&b), 6.0);
/// assert_eq!(b.iter().collect::<Vec<_>>(), [(12, 1.0), (4_000_000_000, 3.0)]);
/// # Ok::<(), omendb::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sparse {
    ids: Vec<u32>,
    weights: Vec<f32>,
}

impl Sparse {
    /// Entries in any order.
    ///
    /// # Errors
    /// `InvalidInput` for an id that comes twice or a weight that is no number or beyond 1e15; `LimitExceeded` for more
    /// than [`MAX_SPARSE_ENTRIES`] entries.
    pub fn new(entries: impl IntoIterator<Item = (u32, f32)>) -> Result<Self> {
        let mut entries: Vec<(u32, f32)> = entries.into_iter().collect();
        if entries.len() > MAX_SPARSE_ENTRIES {
            return Err(Error::LimitExceeded(format!(
                "a sparse vector of {} entries was given; the limit is {MAX_SPARSE_ENTRIES}: keep those of the largest \
                    weights",
                entries.len()
            )));
        }
        entries.sort_unstable_by_key(|(id, _)| *id);
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::invalid(format!(
                "id {} comes twice in a sparse vector; add its weights up or drop one",
                pair[0].0
            )));
        }
        if let Some((id, weight)) = entries.iter().find(|(_, weight)| !is_weight(*weight)) {
            return Err(Error::invalid(format!(
                "the weight of id {id} in a sparse vector is {weight}; it must be a number of at most 1e15"
            )));
        }
        Ok(Sparse {
            ids: entries.iter().map(|(id, _)| *id).collect(),
            weights: entries.iter().map(|(_, w)| *w).collect(),
        })
    }

    /// The entries, by id.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f32)> {
        self.ids.iter().copied().zip(self.weights.iter().copied())
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The dot product with another.
    pub fn dot(&self, other: &Sparse) -> f32 {
        let (mut at, mut sum) = (0, 0.0);
        for (id, weight) in self.iter() {
            at += other.ids[at..].partition_point(|other| *other < id);
            if other.ids.get(at) == Some(&id) {
                sum += f64::from(weight) * f64::from(other.weights[at]);
            }
        }
        sum as f32
    }

    /// As stored: the number of entries, the ids, the weights.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + 8 * self.len());
        out.extend_from_slice(&(self.len() as u32).to_le_bytes());
        self.ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
        self.weights.iter().for_each(|weight| out.extend_from_slice(&weight.to_le_bytes()));
        out
    }

    /// Reads a stored value; `None` if it is not one.
    pub(crate) fn decode(stored: &[u8]) -> Option<Sparse> {
        let stored = Stored::parse(stored)?;
        let (ids, weights): (Vec<u32>, Vec<f32>) = stored.iter().unzip();
        let valid = ids.len() <= MAX_SPARSE_ENTRIES
            && ids.windows(2).all(|pair| pair[0] < pair[1])
            && weights.iter().all(|weight| is_weight(*weight));
        valid.then_some(Sparse { ids, weights })
    }
}

fn is_weight(weight: f32) -> bool {
    weight.abs() <= MAX_ABS
}

/// A stored value, in place.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'a> {
    ids: &'a [[u8; 4]],
    weights: &'a [[u8; 4]],
}

impl<'a> Stored<'a> {
    /// Looks at the length alone: what the bytes say is taken as it is.
    pub(crate) fn parse(stored: &'a [u8]) -> Option<Self> {
        let len = u32_at(stored, 0)? as usize;
        let mut r = Reader::new(&stored[4..]);
        let (ids, weights) = (r.take(len.checked_mul(4)?)?, r.take(len * 4)?);
        r.is_empty().then_some(Stored { ids: ids.as_chunks().0, weights: weights.as_chunks().0 })
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = (u32, f32)> + use<'a> {
        let ids = self.ids.iter().map(|bytes| u32::from_le_bytes(*bytes));
        ids.zip(self.weights.iter().map(|bytes| f32::from_le_bytes(*bytes)))
    }
}

/// A query, ready to be compared with many stored values.
pub(crate) struct SparseQuery {
    entries: Sparse,
    /// Its entries by the hash of their ids; at most a quarter of the places is taken.
    table: Vec<Option<(u32, f32)>>,
}

impl SparseQuery {
    pub(crate) fn new(entries: &Sparse) -> Self {
        let mut query =
            SparseQuery { table: vec![None; (entries.len() * 4).next_power_of_two()], entries: entries.clone() };
        for (id, weight) in entries.iter() {
            let mut place = query.place(id);
            while query.table[place].is_some() {
                place = (place + 1) % query.table.len();
            }
            query.table[place] = Some((id, weight));
        }
        query
    }

    pub(crate) fn entries(&self) -> &Sparse {
        &self.entries
    }

    /// Where the search for an id begins.
    fn place(&self, id: u32) -> usize {
        // Fibonacci hashing: the upper half of the product is mixed well.
        (u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (self.table.len() - 1)
    }

    /// The dot product with a stored value: that of [`Sparse::dot`], to the bit.
    pub(crate) fn score(&self, stored: Stored<'_>) -> f32 {
        let mut sum = 0.0;
        for (id, weight) in stored.iter() {
            let mut place = self.place(id);
            while let Some((other, query)) = self.table[place] {
                if other == id {
                    sum += f64::from(weight) * f64::from(query);
                    break;
                }
                place = (place + 1) & (self.table.len() - 1);
            }
        }
        sum as f32
    }
}

/// Reads the stored value of a field.
pub(crate) fn stored(bytes: &[u8], row: u32) -> Result<Option<Stored<'_>>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let damaged = || Error::corrupt("record", u64::from(row), "a sparse vector does not decode");
    Stored::parse(bytes).map(Some).ok_or_else(damaged)
}
