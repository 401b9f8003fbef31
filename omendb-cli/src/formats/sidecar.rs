//! Where ids come from when they are not a column beside the vectors: row numbers, or a file of their own.

use super::IdType;
use super::array::ArrayReader;
use super::text::{Lines, parse_id};
use crate::failure::{Result, invalid, io};
use omendb::Id;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// A stream of ids.
pub enum IdReader {
    /// Consecutive numbers; this is the next.
    Numbered(u64),
    /// An array with one item a row.
    Array(ArrayReader),
    /// An ivecs file.
    Ivecs(Ivecs),
    /// A text file with one id a line.
    Lines(IdLines),
}

impl IdReader {
    /// Numbers from `first`.
    pub fn numbered(first: u64) -> Self {
        IdReader::Numbered(first)
    }

    /// Whether the ids are row numbers.
    pub fn is_numbered(&self) -> bool {
        matches!(self, IdReader::Numbered(_))
    }

    /// Refuses a file of ids that has not one id for each of `rows` vectors.
    pub fn check_rows(&self, path: &Path, rows: u64) -> Result<()> {
        let (name, ids) = match self {
            IdReader::Numbered(first) => match first.checked_add(rows) {
                Some(_) => return Ok(()),
                None => {
                    return Err(invalid(format!(
                        "--first-id {first}: {rows} rows do not fit above it; give a smaller number"
                    )));
                }
            },
            IdReader::Array(array) => (array.name.clone(), array.rows()),
            IdReader::Ivecs(file) => (file.path.display().to_string(), file.total),
            IdReader::Lines(file) => (file.path.display().to_string(), file.total),
        };
        if ids == rows {
            return Ok(());
        }
        Err(invalid(format!(
            "{name}: {ids} ids for the {rows} vectors of {}; one id a vector is expected",
            path.display()
        )))
    }

    /// Passes over `rows` ids.
    pub fn skip(&mut self, rows: u64) -> Result<()> {
        match self {
            IdReader::Numbered(next) => {
                *next += rows;
                Ok(())
            }
            IdReader::Array(array) => array.skip(rows),
            IdReader::Ivecs(file) => (0..rows).try_for_each(|_| file.next().map(drop)),
            IdReader::Lines(file) => (0..rows).try_for_each(|_| file.next().map(drop)),
        }
    }

    /// The next `rows` ids.
    pub fn take(&mut self, rows: usize) -> Result<Vec<Id>> {
        match self {
            IdReader::Numbered(next) => {
                let first = *next;
                *next += rows as u64;
                Ok((first..*next).map(Id::U64).collect())
            }
            IdReader::Array(array) => array.ids(rows),
            IdReader::Ivecs(file) => (0..rows).map(|_| file.next()).collect(),
            IdReader::Lines(file) => (0..rows).map(|_| file.next()).collect(),
        }
    }
}

/// Opens a file of ids by its first bytes or its extension.
pub fn open_ids(path: &Path, id_type: Option<IdType>) -> Result<IdReader> {
    if super::magic(path)?.starts_with(b"\x93NUMPY") {
        let array = ArrayReader::open(path)?;
        if array.row_items() != 1 {
            return Err(invalid(format!(
                "{}: shape {:?}; one id a row, shape [rows], is expected",
                array.name,
                array.shape()
            )));
        }
        return Ok(IdReader::Array(array));
    }
    match path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).as_deref() {
        Some("ivecs") => Ok(IdReader::Ivecs(Ivecs::open(path)?)),
        Some("txt" | "ids" | "csv" | "tsv") | None => Ok(IdReader::Lines(IdLines::open(path, id_type)?)),
        Some(other) => {
            Err(invalid(format!("{}: a file of ids ends in .npy, .ivecs or .txt, not .{other}", path.display())))
        }
    }
}

/// Ids in an ivecs file: lists of 32-bit integers, each behind its length, taken one after the other.
pub struct Ivecs {
    path: PathBuf,
    file: BufReader<File>,
    total: u64,
    list: u32,
    left_in_list: u32,
    offset: u64,
}

impl Ivecs {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| io("open", path, &e))?;
        let length = file.metadata().map_err(|e| io("read", path, &e))?.len();
        let mut ivecs =
            Ivecs { path: path.to_owned(), file: BufReader::new(file), total: 0, list: 0, left_in_list: 0, offset: 0 };
        if length > 0 {
            let list = if length < 4 { 0 } else { u64::from(ivecs.word()?) };
            let bytes = (list + 1) * 4;
            if list == 0 || !length.is_multiple_of(bytes) {
                return Err(invalid(format!(
                    "{}: byte 0: lists of {list} ids take {bytes} bytes each, which does not divide the file's \
                        {length}; it is truncated or no ivecs file",
                    path.display()
                )));
            }
            ivecs.total = length / bytes * list;
            ivecs.list = list as u32;
            ivecs.left_in_list = ivecs.list;
        }
        Ok(ivecs)
    }

    fn word(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        self.file.read_exact(&mut bytes).map_err(|e| io("read", &self.path, &e))?;
        self.offset += 4;
        Ok(u32::from_le_bytes(bytes))
    }

    fn next(&mut self) -> Result<Id> {
        if self.left_in_list == 0 {
            let at = self.offset;
            self.left_in_list = self.word()?;
            if self.left_in_list != self.list {
                return Err(invalid(format!(
                    "{}: byte {at}: a list of {} ids where {} were expected, as in the first; the file is damaged or \
                        no ivecs file",
                    self.path.display(),
                    self.left_in_list,
                    self.list
                )));
            }
        }
        let at = self.offset;
        let id = self.word()?;
        self.left_in_list -= 1;
        if id > i32::MAX as u32 {
            return Err(invalid(format!(
                "{}: byte {at}: the negative number {} given as an id",
                self.path.display(),
                id as i32
            )));
        }
        Ok(Id::U64(u64::from(id)))
    }
}

/// Ids in a text file, one a line.
pub struct IdLines {
    path: PathBuf,
    lines: Lines,
    id_type: Option<IdType>,
    total: u64,
}

impl IdLines {
    fn open(path: &Path, id_type: Option<IdType>) -> Result<Self> {
        let mut counter = Lines::open(path)?;
        let mut total = 0;
        while counter.next()?.is_some() {
            total += 1;
        }
        Ok(IdLines { path: path.to_owned(), lines: Lines::open(path)?, id_type, total })
    }

    fn next(&mut self) -> Result<Id> {
        match self.lines.next()? {
            Some((number, line)) => {
                let place = format!("{}: line {number}", self.path.display());
                parse_id(&place, line.trim(), &mut self.id_type)
            }
            None => Err(invalid(format!("{}: the file ends before the vectors do", self.path.display()))),
        }
    }
}
