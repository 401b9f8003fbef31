//! Lines of text, plain or gzipped, with a limit on their length; and ids and vectors written as text.

use super::{IdType, LINE_BYTES};
use crate::failure::{Failure, Result, invalid, io, limit};
use flate2::read::MultiGzDecoder;
use omendb::Id;
use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Counts the bytes that pass.
struct Counting<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.bytes.set(self.bytes.get() + n as u64);
        Ok(n)
    }
}

/// A file as text, unpacked if it is gzipped, and how far it has been read.
pub struct TextFile {
    /// The text.
    pub reader: Box<dyn BufRead>,
    /// Bytes of the file read so far, as they are on disk.
    pub bytes: Rc<Cell<u64>>,
    /// Bytes of the file.
    pub total: u64,
}

impl TextFile {
    /// Opens a plain or gzipped file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| io("open", path, &e))?;
        let total = file.metadata().map_err(|e| io("read", path, &e))?.len();
        let bytes = Rc::new(Cell::new(0));
        let raw = Counting { inner: file, bytes: bytes.clone() };
        let gzipped = super::magic(path)?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn BufRead> = if gzipped {
            Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(BufReader::with_capacity(1 << 18, raw))))
        } else {
            Box::new(BufReader::with_capacity(1 << 18, raw))
        };
        Ok(TextFile { reader, bytes, total })
    }
}

/// A failure to read text: damaged compression is the file's fault, the rest the operating system's.
pub fn read_failure(path: &Path, place: &str, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error.kind() {
        UnexpectedEof | InvalidData | InvalidInput => invalid(format!(
            "{}: {place}: the gzip data ends early or is damaged ({error}); write or copy the file again",
            path.display()
        )),
        _ => io("read", path, error),
    }
}

/// The lines of a file that are not blank.
pub struct Lines {
    path: PathBuf,
    file: TextFile,
    number: u64,
    buffer: Vec<u8>,
}

impl Lines {
    /// Opens a plain or gzipped file.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Lines { path: path.to_owned(), file: TextFile::open(path)?, number: 0, buffer: Vec::new() })
    }

    /// Bytes read and bytes in all.
    pub fn progress(&self) -> (u64, u64) {
        (self.file.bytes.get(), self.file.total)
    }

    /// The next line that is not blank, and its number from 1.
    pub fn next(&mut self) -> Result<Option<(u64, &str)>> {
        loop {
            self.buffer.clear();
            self.number += 1;
            let place = format!("line {}", self.number);
            let read = self.file.reader.by_ref().take(LINE_BYTES as u64 + 1).read_until(b'\n', &mut self.buffer);
            if read.map_err(|e| read_failure(&self.path, &place, &e))? == 0 {
                return Ok(None);
            }
            if self.buffer.len() > LINE_BYTES {
                return Err(limit(format!(
                    "{}: {place}: longer than {LINE_BYTES} bytes; one record a line is expected: split it",
                    self.path.display()
                )));
            }
            if self.number == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") {
                self.buffer.drain(..3);
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(text) => Ok(Some((self.number, text))),
            Err(e) => Err(invalid(format!(
                "{}: line {}, byte {}: not valid UTF-8; convert the file, for example with iconv -t utf-8",
                self.path.display(),
                self.number,
                e.valid_up_to()
            ))),
        }
    }
}

/// An id written as text. The first one of a file decides whether all are integers, unless `id_type` says so already.
pub fn parse_id(place: &str, text: &str, id_type: &mut Option<IdType>) -> Result<Id> {
    if text.is_empty() {
        return Err(invalid(format!("{place}: an empty id; an unsigned integer or a non-empty string is expected")));
    }
    // "007" and "+7" are names, not numbers: only what prints back the same is an integer.
    let integer = text.parse::<u64>().ok().filter(|n| n.to_string() == text);
    match *id_type.get_or_insert(if integer.is_some() { IdType::Int } else { IdType::String }) {
        IdType::String => Ok(Id::Str(text.to_owned())),
        IdType::Int => integer.map(Id::U64).ok_or_else(|| {
            invalid(format!(
                "{place}: the id {text:?} is no unsigned integer, as those before it are; give --id-type string"
            ))
        }),
    }
}

/// Appends a vector written as text, `[0.1, -2, 3e-4]`, and returns how many elements it has.
/// The brackets may be missing; numbers are separated by commas, semicolons or spaces. `Err` is what is wrong.
pub fn parse_vector(text: &str, out: &mut Vec<f32>) -> std::result::Result<usize, String> {
    let before = out.len();
    let text = text.trim();
    let inner = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or("the list has no closing ]")?,
        None => text,
    };
    if inner.trim().is_empty() {
        return Err("an empty vector".to_owned());
    }
    let separated = inner.contains([',', ';']);
    let is_separator = |c: char| if separated { c == ',' || c == ';' } else { c.is_whitespace() };
    for token in inner.split(is_separator).map(str::trim) {
        if token.is_empty() {
            if separated {
                return Err(format!("element {} is empty", out.len() - before));
            }
            continue;
        }
        let number = token.parse::<f32>().ok().filter(|x| x.is_finite());
        let number = number.ok_or_else(|| {
            format!(
                "element {} is {:?} where a finite 32-bit number was expected",
                out.len() - before,
                crate::output::shorten(token, 40)
            )
        })?;
        out.push(number);
        if out.len() - before > omendb::limits::MAX_DIM {
            return Err(format!("more than {} elements", omendb::limits::MAX_DIM));
        }
    }
    Ok(out.len() - before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_read_exactly_and_bad_ones_refused() {
        let mut out = Vec::new();
        assert_eq!(parse_vector(" [0.1, -2,3e-4] ", &mut out), Ok(3));
        assert_eq!(parse_vector("1 2\t3", &mut out), Ok(3));
        assert_eq!(parse_vector("1;2;3", &mut out), Ok(3));
        assert_eq!(out, [0.1, -2.0, 3e-4, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        for bad in ["", "[]", "[1,2", "[1,,2]", "[1,x]", "[1,NaN]", "[1e39]", "[[1]]"] {
            assert!(parse_vector(bad, &mut Vec::new()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_id_decides() {
        let mut id_type = None;
        assert_eq!(parse_id("f", "7", &mut id_type).ok(), Some(Id::U64(7)));
        assert!(parse_id("f", "007", &mut id_type).is_err());
        let mut id_type = None;
        assert_eq!(parse_id("f", "007", &mut id_type).ok(), Some(Id::from("007")));
        assert_eq!(parse_id("f", "7", &mut id_type).ok(), Some(Id::from("7")));
    }
}
