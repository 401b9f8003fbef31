//! The metadata of a segment's rows by path and type, and the rows that pass a filter.
//!
//! A section of columns stands alone: it holds every value of the metadata, so any filter is answered exactly
//! without the records. Nobody declares a field: a tree of the paths met is part of the section.
//!
//! # Layout (little-endian; offsets from the section's start unless told otherwise)
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `OMENCOL1` |
//! | 8 | 4 | number of rows |
//! | 12 | 4 | number of nodes N, at least 1 |
//! | 16 | 8 | length of the section |
//! | 24 | 8 | 0 |
//! | 32 | 32 N | the nodes |
//! | | | for each node its parts, then its part entries, each 8-aligned |
//! | | | the names, UTF-8 |
//!
//! A node: its parent u32, bytes of its name u32, offset of its name u64, offset of its part entries u64, their number
//! u32, 0 u32. A part entry: kind u32, 0 u32, offset u64, length u64.
//!
//! Node 0 is the metadata itself and has no part. Nodes are sorted by parent, then name; a parent comes before its
//! children.
//! Kinds of part: 1 rows where the path reaches anything, 2 null, 3 true, 4 false (roaring bitmaps of the portable
//! format); 5 numbers, 6 texts outside of lists, 7 texts directly in lists (see [`values`](super::values)).

use super::Filter;
use super::ast::{Expr, Path, Scalar, Test};
use super::eval::accepts_missing;
use super::values::{Checked, CodeRanges, Values, array, bitmap, u32_at, u64_at};
use crate::error::{Error, Result};
use crate::storage::Bytes;
use roaring::RoaringBitmap;
use std::ops::Range;
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"OMENCOL1";
const HEADER: usize = 32;
const NODE: usize = 32;
const PART: usize = 24;

/// Most rows of one segment's columns, and most values of one field in them.
pub(crate) const MAX_ROWS: u32 = 1 << 31;

/// What a part of a node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Present = 1,
    Null = 2,
    True = 3,
    False = 4,
    Numbers = 5,
    Texts = 6,
    Elements = 7,
}

/// Puts a section together, node by node.
pub(crate) struct Writer {
    out: Vec<u8>,
    rows: u32,
    nodes: Vec<u8>,
    names: Vec<u8>,
    /// For each node, where in `nodes` the offset of its name belongs, and where in `names` the name is.
    name_slots: Vec<(usize, u64)>,
}

impl Writer {
    /// The section of `nodes` nodes, all of which must be written.
    pub fn new(rows: u32, nodes: usize) -> Writer {
        let out = vec![0; HEADER + nodes * NODE];
        Writer { out, rows, nodes: Vec::with_capacity(nodes * NODE), names: Vec::new(), name_slots: Vec::new() }
    }

    /// Appends a node: the place of its parent among the nodes, its name, its parts.
    pub fn node(&mut self, parent: u32, name: &str, parts: &[(Kind, Vec<u8>)]) {
        let mut entries = Vec::with_capacity(parts.len() * PART);
        for (kind, bytes) in parts {
            let offset = self.append(bytes);
            entries.extend_from_slice(&(u64::from(*kind as u32)).to_le_bytes());
            entries.extend_from_slice(&offset.to_le_bytes());
            entries.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        }
        let entries = self.append(&entries);
        self.nodes.extend_from_slice(&parent.to_le_bytes());
        self.nodes.extend_from_slice(&(name.len() as u32).to_le_bytes());
        self.name_slots.push((self.nodes.len(), self.names.len() as u64));
        self.nodes.extend_from_slice(&[0; 8]);
        self.nodes.extend_from_slice(&entries.to_le_bytes());
        self.nodes.extend_from_slice(&(parts.len() as u64).to_le_bytes());
        self.names.extend_from_slice(name.as_bytes());
    }

    fn append(&mut self, bytes: &[u8]) -> u64 {
        self.out.resize(self.out.len().next_multiple_of(8), 0);
        let offset = self.out.len() as u64;
        self.out.extend_from_slice(bytes);
        offset
    }

    pub fn finish(mut self) -> Vec<u8> {
        let names = std::mem::take(&mut self.names);
        let start = self.append(&names);
        for (slot, place) in &self.name_slots {
            self.nodes[*slot..slot + 8].copy_from_slice(&(start + place).to_le_bytes());
        }
        let length = self.out.len() as u64;
        self.out[..8].copy_from_slice(MAGIC);
        self.out[8..12].copy_from_slice(&self.rows.to_le_bytes());
        self.out[12..16].copy_from_slice(&(self.name_slots.len() as u32).to_le_bytes());
        self.out[16..24].copy_from_slice(&length.to_le_bytes());
        self.out[HEADER..HEADER + self.nodes.len()].copy_from_slice(&self.nodes);
        self.out
    }
}

/// The columns of one segment. Cheap to clone; reads nothing before it is asked.
#[derive(Debug, Clone)]
pub struct Columns {
    bytes: Bytes,
    rows: u32,
    nodes: u32,
    file: Arc<str>,
    offset: u64,
}

impl Columns {
    /// Reads the bytes of [`ColumnsBuilder::finish`](super::ColumnsBuilder::finish) for a segment of `rows` rows;
    /// `file` and `offset` (of the first byte in it) are for errors.
    ///
    /// # Errors
    /// `Corrupt` if the tree of paths is not one, or for another number of rows. The values are checked when they are
    /// read.
    pub fn parse(bytes: Bytes, rows: u32, file: &str, offset: u64) -> Result<Columns> {
        let mut columns = Columns { bytes, rows, nodes: 0, file: file.into(), offset };
        columns.nodes = columns.check().map_err(|what| columns.damaged(what))?;
        Ok(columns)
    }

    /// Number of rows.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// What they were parsed from.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The rows that pass.
    ///
    /// # Errors
    /// `Corrupt` where the bytes are not what was written.
    pub fn eval(&self, filter: &Filter) -> Result<RoaringBitmap> {
        self.rows_where(&filter.root).map_err(|what| self.damaged(what))
    }

    fn damaged(&self, what: &str) -> Error {
        Error::corrupt(&*self.file, self.offset, format!("the metadata columns there: {what}"))
    }

    /// The number of nodes, if they are a tree in order.
    fn check(&self) -> Checked<u32> {
        let head = self.bytes.first_chunk::<HEADER>().ok_or("the section is too short")?;
        if head[..8] != MAGIC[..] {
            return Err("the section does not start with its magic number");
        }
        if u32_at(head, 2)? != self.rows || self.rows > MAX_ROWS {
            return Err("the number of rows is not the segment's");
        }
        if u64_at(head, 2)? != self.bytes.len() as u64 {
            return Err("the section has not the length it gives");
        }
        let nodes = u32_at(head, 3)?;
        array(&self.bytes, HEADER as u64, nodes.into(), NODE as u64)?;
        if nodes == 0 {
            return Err("there is no node");
        }
        let mut last = (0, "");
        for node in 1..nodes {
            let this = self.parent_and_name(node)?;
            if this.0 >= node || (node > 1 && this <= last) {
                return Err("the nodes are not a tree in order");
            }
            self.part_entries(node)?;
            last = this;
        }
        Ok(nodes)
    }

    fn node_bytes(&self, node: u32) -> Checked<&[u8]> {
        array(&self.bytes, HEADER as u64 + u64::from(node) * NODE as u64, 1, NODE as u64)
    }

    fn parent_and_name(&self, node: u32) -> Checked<(u32, &str)> {
        let bytes = self.node_bytes(node)?;
        let name = array(&self.bytes, u64_at(bytes, 1)?, u32_at(bytes, 1)?.into(), 1)?;
        Ok((u32_at(bytes, 0)?, std::str::from_utf8(name).map_err(|_| "a name is not UTF-8")?))
    }

    fn part_entries(&self, node: u32) -> Checked<&[u8]> {
        let bytes = self.node_bytes(node)?;
        array(&self.bytes, u64_at(bytes, 2)?, u64_at(bytes, 3)?, PART as u64)
    }

    /// The node of a path, if any record has it.
    fn find(&self, path: &Path) -> Checked<Option<u32>> {
        let mut node = 0;
        for key in path.keys() {
            let target = (node, key.as_str());
            let (mut low, mut high) = (node + 1, self.nodes);
            while low < high {
                let middle = low + (high - low) / 2;
                if self.parent_and_name(middle)? < target { low = middle + 1 } else { high = middle }
            }
            if low >= self.nodes || self.parent_and_name(low)? != target {
                return Ok(None);
            }
            node = low;
        }
        Ok(Some(node))
    }

    fn part(&self, node: u32, kind: Kind) -> Checked<Option<&[u8]>> {
        for entry in self.part_entries(node)?.as_chunks::<PART>().0 {
            if u64_at(entry, 0)? == kind as u64 {
                return array(&self.bytes, u64_at(entry, 1)?, u64_at(entry, 2)?, 1).map(Some);
            }
        }
        Ok(None)
    }

    fn values(&self, node: u32, kind: Kind) -> Checked<Option<Values<'_>>> {
        self.part(node, kind)?.map(|part| Values::open(part, self.rows)).transpose()
    }

    fn all(&self) -> RoaringBitmap {
        let mut rows = RoaringBitmap::new();
        rows.insert_range(0..self.rows);
        rows
    }

    fn all_but(&self, rows: &RoaringBitmap) -> RoaringBitmap {
        let mut all = self.all();
        // Taking rows out of a run splits it again and again.
        all.remove_run_compression();
        all - rows
    }

    fn rows_where(&self, expr: &Expr) -> Checked<RoaringBitmap> {
        match expr {
            Expr::And(parts) => self.rows_where_all(parts),
            Expr::Or(parts) => {
                parts.iter().try_fold(RoaringBitmap::new(), |rows, part| Ok(rows | self.rows_where(part)?))
            }
            Expr::Not(inner) => Ok(self.all_but(&self.rows_where(inner)?)),
            Expr::Test(path, test) => self.find_values(path, test)?.rows(self),
        }
    }

    /// The most selective conditions first; the others then look only at what is left, where that is less work.
    fn rows_where_all(&self, parts: &[Expr]) -> Checked<RoaringBitmap> {
        let mut leaves: Vec<Leaf<'_>> = Vec::new();
        let mut groups = Vec::new();
        for part in parts {
            let (path, test, keep) = match part {
                Expr::Test(path, test) => (path, test, true),
                Expr::Not(inner) => match &**inner {
                    Expr::Test(path, test) => (path, test, false),
                    _ => {
                        groups.push(part);
                        continue;
                    }
                },
                _ => {
                    groups.push(part);
                    continue;
                }
            };
            let found = self.find_values(path, test)?;
            if keep && leaves.iter_mut().any(|leaf| leaf.keep && leaf.found.intersect(&found)) {
                continue;
            }
            leaves.push(Leaf { found, keep });
        }
        let mut ordered = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            let estimate = leaf.found.estimate(self)?.min(self.rows.into());
            ordered.push((if leaf.keep { estimate } else { u64::from(self.rows) - estimate }, leaf));
        }
        ordered.sort_by_key(|(estimate, _)| *estimate);
        let mut rows: Option<RoaringBitmap> = None;
        for (_, Leaf { found, keep }) in ordered {
            rows = Some(match rows {
                None if keep => found.rows(self)?,
                None => self.all_but(&found.rows(self)?),
                Some(rows) if rows.is_empty() => return Ok(rows),
                Some(rows) => match found.retain(keep, &rows, self.rows) {
                    Some(kept) => kept,
                    None if keep => rows & found.rows(self)?,
                    None => rows - found.rows(self)?,
                },
            });
        }
        let mut rows = rows.unwrap_or_else(|| self.all());
        for group in groups {
            if rows.is_empty() {
                break;
            }
            rows &= self.rows_where(group)?;
        }
        Ok(rows)
    }

    /// Where the rows that pass a test are to be found.
    fn find_values(&self, path: &Path, test: &Test) -> Checked<Found<'_>> {
        let mut found = Found::default();
        let Some(node) = self.find(path)? else {
            found.absent_from = accepts_missing(test).then_some(&[]);
            return Ok(found);
        };
        if accepts_missing(test) {
            found.absent_from = Some(self.part(node, Kind::Present)?.unwrap_or_default());
        }
        match test {
            Test::Exists => found.bitmaps.extend(self.part(node, Kind::Present)?),
            Test::Equal(scalar) => self.add_equal(&mut found, node, std::slice::from_ref(scalar), &ALL)?,
            Test::In(list) => self.add_equal(&mut found, node, list, &ALL)?,
            Test::Order(order, scalar) => {
                self.add(&mut found, node, &ALL, |values| values.ordered(*order, scalar))?;
            }
            Test::Contains(scalar) => {
                self.add_equal(&mut found, node, std::slice::from_ref(scalar), &[Kind::Numbers, Kind::Elements])?;
                if let Scalar::Text(part) = scalar {
                    self.add(&mut found, node, &[Kind::Texts], |values| values.containing(&part.value))?;
                }
            }
            Test::StartsWith(prefix) => self.add(&mut found, node, &TEXTS, |values| values.with_prefix(prefix))?,
            Test::Like(like) => self.add(&mut found, node, &TEXTS, |values| match like.part() {
                Some(part) => values.containing(part),
                None if like.is_prefix() => values.with_prefix(like.prefix()),
                None => values.passing(like.prefix(), |text| like.matches(text)),
            })?,
            Test::Regex(pattern) => {
                self.add(&mut found, node, &TEXTS, |values| values.passing("", |text| pattern.matches(text)))?;
            }
        }
        Ok(found)
    }

    fn add<'s>(
        &'s self,
        found: &mut Found<'s>,
        node: u32,
        kinds: &[Kind],
        codes: impl Fn(&Values<'s>) -> Checked<CodeRanges>,
    ) -> Checked<()> {
        for kind in kinds {
            if let Some(values) = self.values(node, *kind)? {
                let ranges = codes(&values)?;
                if !ranges.is_empty() {
                    found.values.push((values, ranges));
                }
            }
        }
        Ok(())
    }

    fn add_equal<'s>(&'s self, found: &mut Found<'s>, node: u32, scalars: &[Scalar], kinds: &[Kind]) -> Checked<()> {
        for (kind, scalar) in
            [(Kind::Null, Scalar::Null), (Kind::True, Scalar::Bool(true)), (Kind::False, Scalar::Bool(false))]
        {
            if scalars.contains(&scalar) {
                found.bitmaps.extend(self.part(node, kind)?);
            }
        }
        self.add(found, node, kinds, |values| values.equal(scalars))
    }
}

const ALL: [Kind; 3] = [Kind::Numbers, Kind::Texts, Kind::Elements];
const TEXTS: [Kind; 2] = [Kind::Texts, Kind::Elements];

/// A condition of a conjunction, or its opposite.
struct Leaf<'a> {
    found: Found<'a>,
    keep: bool,
}

/// The rows of a condition: those of all of these together.
#[derive(Default)]
struct Found<'a> {
    /// Rows as stored.
    bitmaps: Vec<&'a [u8]>,
    /// The rows not in this bitmap (no bytes: of none).
    absent_from: Option<&'a [u8]>,
    /// The rows of these codes.
    values: Vec<(Values<'a>, CodeRanges)>,
}

impl Found<'_> {
    fn rows(&self, columns: &Columns) -> Checked<RoaringBitmap> {
        let mut rows = match self.absent_from {
            None => RoaringBitmap::new(),
            Some([]) => return Ok(columns.all()),
            Some(present) => columns.all_but(&bitmap(present, columns.rows)?),
        };
        for bytes in &self.bitmaps {
            rows |= bitmap(bytes, columns.rows)?;
        }
        for (values, ranges) in &self.values {
            rows |= values.rows_of(ranges)?;
        }
        Ok(rows)
    }

    /// At least as many rows as there are, roughly.
    fn estimate(&self, columns: &Columns) -> Checked<u64> {
        // Bitmaps are quick to read and say little before: take a half.
        let whole = self.bitmaps.len() + usize::from(self.absent_from.is_some());
        let mut sum = whole as u64 * u64::from(columns.rows / 2);
        for (values, ranges) in &self.values {
            sum += values.estimate(ranges)?;
        }
        Ok(sum)
    }

    /// Whether one column decides alone, in which a row has one value at most.
    fn is_sole(&self) -> bool {
        self.bitmaps.is_empty() && self.absent_from.is_none() && self.values.len() == 1 && self.values[0].0.is_dense()
    }

    /// Takes in another condition on the same sole column, if it is one: `BETWEEN` becomes one range.
    fn intersect(&mut self, other: &Found<'_>) -> bool {
        if !self.is_sole() || !other.is_sole() || !self.values[0].0.is_same(&other.values[0].0) {
            return false;
        }
        self.values[0].1 = intersection(&self.values[0].1, &other.values[0].1);
        true
    }

    /// Looks at `rows` one by one, if that is less work than finding all rows of the condition.
    fn retain(&self, keep: bool, rows: &RoaringBitmap, total: u32) -> Option<RoaringBitmap> {
        if !self.is_sole() || rows.len().saturating_mul(LOOKUP_COST) > total.into() {
            return None;
        }
        let (values, ranges) = &self.values[0];
        values.retain(ranges, keep, rows)
    }
}

/// What one lookup costs, in codes scanned.
const LOOKUP_COST: u64 = 32;

fn intersection(a: &[Range<u32>], b: &[Range<u32>]) -> CodeRanges {
    let mut out = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let both = x.start.max(y.start)..x.end.min(y.end);
        if !both.is_empty() {
            out.push(both);
        }
        if x.end < y.end { i += 1 } else { j += 1 }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::values::push_code;

    /// Every pair of sets of 7 codes.
    #[test]
    fn intersection_of_ranges_is_that_of_sets() {
        let ranges = |bits: u32| {
            let mut ranges = Vec::new();
            (0..7).filter(|code| bits >> code & 1 == 1).for_each(|code| push_code(&mut ranges, code));
            ranges
        };
        for (a, b) in (0..128).flat_map(|a| (0..128).map(move |b| (a, b))) {
            let both = intersection(&ranges(a), &ranges(b));
            assert_eq!(
                both.into_iter().flatten().collect::<Vec<_>>(),
                ranges(a & b).into_iter().flatten().collect::<Vec<_>>()
            );
        }
    }
}
