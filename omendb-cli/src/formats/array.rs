//! One NumPy array, read a few rows at a time: header, byte order, row order and sizes.

use super::values::{self, Number};
use crate::failure::{Failure, Result, invalid, io};
use omendb::{Id, Vectors};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Longest header that is read; NumPy writes 128 bytes for a plain array.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// The type of an array's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// A number, and whether it is stored big-endian.
    Number(Number, bool),
    /// A byte that is 0 or 1.
    Bool,
    /// So many UTF-32 characters, padded with zeros, and whether they are stored big-endian.
    Utf32(usize, bool),
    /// So many bytes, padded with zeros.
    Bytes(usize),
}

impl Dtype {
    /// Bytes of one item.
    pub fn size(self) -> usize {
        match self {
            Dtype::Number(number, _) => number.size(),
            Dtype::Bool => 1,
            Dtype::Utf32(chars, _) => chars * 4,
            Dtype::Bytes(len) => len,
        }
    }

    /// Reads a `descr` such as `<f4`. `Err` holds what is wrong.
    fn parse(descr: &str) -> std::result::Result<Dtype, String> {
        let fix = "save float32, float16, int8 or uint8 vectors, and integer or string ids, with np.save(..., \
            allow_pickle=False)";
        let unknown = || format!("dtype {descr:?} is not read; {fix}");
        let (order, rest) = match descr.as_bytes().first() {
            Some(b'<' | b'|' | b'=' | b'>') => descr.split_at(1),
            _ => ("<", descr),
        };
        let big_endian = order == ">";
        let Some(kind) = rest.chars().next().filter(char::is_ascii) else { return Err(unknown()) };
        let size: usize = if rest.len() > 1 { rest[1..].parse().map_err(|_| unknown())? } else { 0 };
        Ok(match (kind, size) {
            ('O', _) => {
                return Err(format!(
                    "the array holds Python objects (a pickle), which are never read because they can run code; {fix}"
                ));
            }
            ('f', 2 | 4 | 8) => Dtype::Number(Number::Float(size), big_endian),
            ('i', 1 | 2 | 4 | 8) => Dtype::Number(Number::Int(size), big_endian),
            ('u', 1 | 2 | 4 | 8) => Dtype::Number(Number::Uint(size), big_endian),
            ('b', 1) => Dtype::Bool,
            ('U', 1..=16_777_216) => Dtype::Utf32(size, big_endian),
            ('S', 1..=16_777_216) => Dtype::Bytes(size),
            _ => return Err(unknown()),
        })
    }
}

/// What the header of an array says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The type of the items.
    pub dtype: Dtype,
    /// Whether the first index changes fastest.
    pub fortran: bool,
    /// Items along each axis.
    pub shape: Vec<u64>,
    /// Bytes of the header: where the items begin.
    pub len: u64,
}

impl Header {
    /// Reads the header at the front of `reader`. `name` is for messages.
    pub fn read(name: &str, reader: &mut impl Read) -> Result<Header> {
        let truncated = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                invalid(format!("{name}: the file ends within the npy header; it is truncated: write or copy it again"))
            }
            _ => invalid(format!("{name}: the npy header cannot be read: {e}")),
        };
        let mut fixed = [0u8; 8];
        reader.read_exact(&mut fixed).map_err(truncated)?;
        if &fixed[..6] != b"\x93NUMPY" {
            return Err(invalid(format!(
                "{name}: byte 0: no npy magic; the file is not a NumPy array: check the format"
            )));
        }
        let length_bytes = match fixed[6] {
            1 => 2,
            2 | 3 => 4,
            v => {
                return Err(invalid(format!(
                    "{name}: byte 6: npy version {v}; versions 1 to 3 are read: save it with np.save"
                )));
            }
        };
        let mut length = [0u8; 4];
        reader.read_exact(&mut length[..length_bytes]).map_err(truncated)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_HEADER_BYTES {
            return Err(invalid(format!(
                "{name}: byte 8: an npy header of {length} bytes; at most {MAX_HEADER_BYTES} are expected: the file is \
                    damaged"
            )));
        }
        let mut text = vec![0u8; length];
        reader.read_exact(&mut text).map_err(truncated)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let (dtype, fortran, shape) = Literal(&text).header().map_err(|what| {
            invalid(format!("{name}: npy header {:?}: {what}", crate::output::shorten(text.trim(), 120)))
        })?;
        Ok(Header { dtype, fortran, shape, len: (8 + length_bytes + length) as u64 })
    }

    /// Bytes of all items; `None` if that overflows.
    pub fn body_bytes(&self) -> Option<u64> {
        self.shape.iter().try_fold(self.dtype.size() as u64, |bytes, n| bytes.checked_mul(*n))
    }
}

/// The Python dictionary of a header, parsed and never evaluated.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn header(mut self) -> std::result::Result<(Dtype, bool, Vec<u64>), String> {
        let (mut dtype, mut fortran, mut shape) = (None, None, None);
        self.expect("{")?;
        while !self.take("}") {
            let key = self.string()?;
            self.expect(":")?;
            match key {
                "descr" => {
                    if self.peek("[") {
                        return Err("a structured dtype (named fields); save one plain array a column".to_owned());
                    }
                    dtype = Some(Dtype::parse(self.string()?)?);
                }
                "fortran_order" => {
                    fortran = Some(match (self.take("True"), self.take("False")) {
                        (true, _) => true,
                        (_, true) => false,
                        _ => return Err("fortran_order must be True or False; save the array again".to_owned()),
                    });
                }
                "shape" => shape = Some(self.tuple()?),
                _ => return Err(format!("unexpected key {key:?}; save the array again with np.save")),
            }
            self.take(",");
        }
        match (dtype, fortran, shape) {
            (Some(dtype), Some(fortran), Some(shape)) => Ok((dtype, fortran, shape)),
            _ => Err("descr, fortran_order and shape are expected; save the array again with np.save".to_owned()),
        }
    }

    fn peek(&mut self, token: &str) -> bool {
        self.0 = self.0.trim_start();
        self.0.starts_with(token)
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.peek(token);
        if found {
            self.0 = &self.0[token.len()..];
        }
        found
    }

    fn expect(&mut self, token: &str) -> std::result::Result<(), String> {
        if self.take(token) {
            Ok(())
        } else {
            Err(format!("{token:?} is expected before {:?}", crate::output::shorten(self.0, 20)))
        }
    }

    fn string(&mut self) -> std::result::Result<&'a str, String> {
        let quote = if self.take("'") {
            '\''
        } else {
            self.expect("\"")?;
            '"'
        };
        let (text, rest) = self.0.split_once(quote).ok_or("a string has no end")?;
        self.0 = rest;
        Ok(text)
    }

    fn tuple(&mut self) -> std::result::Result<Vec<u64>, String> {
        self.expect("(")?;
        let mut out = Vec::new();
        while !self.take(")") {
            let digits = self.0.trim_start();
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            out.push(digits[..end].parse().map_err(|_| "shape must be a tuple of sizes".to_owned())?);
            self.0 = &digits[end..];
            self.take("L");
            self.take(",");
            if out.len() > 8 {
                return Err("more than eight axes; a matrix [rows, dim] is expected".to_owned());
            }
        }
        Ok(out)
    }
}

/// Where the bytes of an array's items are.
pub enum Body {
    /// In a file, from this offset.
    File(File, u64),
    /// In a stream that can only be read forwards.
    Stream(Box<dyn Read>),
    /// In memory.
    Memory(Vec<u8>),
}

/// Reads an array by rows (its first axis).
pub struct ArrayReader {
    /// The file, and the array within it, for messages.
    pub name: String,
    path: PathBuf,
    header: Header,
    body: Body,
    next: u64,
}

impl ArrayReader {
    /// `available` is how many bytes there are for the items: exactly as many as the header needs, or the array is
    /// refused.
    pub fn new(path: &Path, name: String, header: Header, body: Body, available: u64) -> Result<Self> {
        let needed = header.body_bytes();
        if needed != Some(available) {
            let needed = needed.map_or("more than 2^64".to_owned(), |n| n.to_string());
            return Err(invalid(format!(
                "{name}: the header says shape {:?} of {}-byte items, {needed} bytes, but {available} bytes follow it; \
                    the file is truncated or damaged: write or copy it again",
                header.shape,
                header.dtype.size()
            )));
        }
        if header.fortran && header.shape.len() > 1 && matches!(body, Body::Stream(_)) {
            return Err(invalid(format!(
                "{name}: a compressed array in Fortran order cannot be read by rows; save np.ascontiguousarray(array), \
                    or without compression"
            )));
        }
        Ok(ArrayReader { name, path: path.to_owned(), header, body, next: 0 })
    }

    /// Opens an npy file that holds this array alone.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| io("open", path, &e))?;
        let length = file.metadata().map_err(|e| io("read", path, &e))?.len();
        let name = path.display().to_string();
        let header = Header::read(&name, &mut file)?;
        let start = header.len;
        ArrayReader::new(path, name, header, Body::File(file, start), length.saturating_sub(start))
    }

    /// The type of the items.
    pub fn dtype(&self) -> Dtype {
        self.header.dtype
    }

    /// Items along each axis.
    pub fn shape(&self) -> &[u64] {
        &self.header.shape
    }

    /// Number of rows: the first axis.
    pub fn rows(&self) -> u64 {
        self.header.shape.first().copied().unwrap_or(0)
    }

    /// Rows read or passed over so far.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Items a row.
    pub fn row_items(&self) -> usize {
        let items = self.header.shape.iter().skip(1).fold(1u64, |items, n| items.saturating_mul(*n));
        usize::try_from(items).unwrap_or(usize::MAX)
    }

    /// Bytes a row.
    pub fn row_bytes(&self) -> usize {
        self.row_items().saturating_mul(self.header.dtype.size())
    }

    /// Passes over `rows` rows.
    pub fn skip(&mut self, rows: u64) -> Result<()> {
        let rows = rows.min(self.rows() - self.next);
        let row_bytes = self.row_bytes() as u64;
        if let Body::Stream(stream) = &mut self.body {
            let bytes = rows * row_bytes;
            let copied = std::io::copy(&mut stream.take(bytes), &mut std::io::sink());
            if !matches!(copied, Ok(n) if n == bytes) {
                return Err(invalid(format!(
                    "{}: the compressed data ends early or is damaged; write or copy it again",
                    self.name
                )));
            }
        }
        self.next += rows;
        Ok(())
    }

    /// The bytes of the next `rows` rows (or as many as are left), row-major.
    pub fn read(&mut self, rows: usize) -> Result<Vec<u8>> {
        let rows = (rows as u64).min(self.rows() - self.next) as usize;
        let mut out = vec![0u8; rows * self.row_bytes()];
        if self.header.fortran && self.header.shape.len() > 1 {
            self.read_columns(rows, &mut out)?;
        } else {
            self.read_at(self.next * self.row_bytes() as u64, &mut out)?;
        }
        self.next += rows as u64;
        Ok(out)
    }

    fn read_columns(&mut self, rows: usize, out: &mut [u8]) -> Result<()> {
        let (size, columns, total) = (self.header.dtype.size(), self.row_items(), self.rows());
        let mut column = vec![0u8; rows * size];
        for c in 0..columns {
            self.read_at((c as u64 * total + self.next) * size as u64, &mut column)?;
            for (r, item) in column.chunks_exact(size).enumerate() {
                let at = (r * columns + c) * size;
                out[at..at + size].copy_from_slice(item);
            }
        }
        Ok(())
    }

    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        match &mut self.body {
            Body::File(file, start) => file
                .seek(SeekFrom::Start(*start + offset))
                .and_then(|_| file.read_exact(out))
                .map_err(|e| io("read", &self.path, &e)),
            Body::Memory(bytes) => {
                let from = offset as usize;
                out.copy_from_slice(&bytes[from..from + out.len()]);
                Ok(())
            }
            Body::Stream(stream) => stream.read_exact(out).map_err(|e| {
                invalid(format!(
                    "{}: row {}: the compressed data ends early or is damaged ({e}); write or copy it again",
                    self.name, self.next
                ))
            }),
        }
    }

    /// The next `rows` rows as vectors.
    pub fn vectors(&mut self, rows: usize) -> Result<Vectors<'static>> {
        let first = self.next;
        let Dtype::Number(number, big_endian) = self.header.dtype else {
            return Err(self.wrong_type("numbers are expected for vectors"));
        };
        let bytes = self.read(rows)?;
        values::decode(&self.path, number, big_endian, &bytes, first, self.row_items())
    }

    fn wrong_type(&self, what: &str) -> Failure {
        invalid(format!("{}: items of {}, but {what}; name another array or file", self.name, self.describe()))
    }

    /// The type of the items, in words.
    pub fn describe(&self) -> String {
        match self.header.dtype {
            Dtype::Number(Number::Float(n), _) => format!("float{}", n * 8),
            Dtype::Number(Number::Int(n), _) => format!("int{}", n * 8),
            Dtype::Number(Number::Uint(n), _) => format!("uint{}", n * 8),
            Dtype::Bool => "bool".to_owned(),
            Dtype::Utf32(n, _) => format!("string of {n} characters"),
            Dtype::Bytes(n) => format!("string of {n} bytes"),
        }
    }

    /// The next `rows` rows as ids; the array must have one item a row.
    pub fn ids(&mut self, rows: usize) -> Result<Vec<Id>> {
        let first = self.next;
        let values = self.json(rows)?;
        let mut out = Vec::with_capacity(values.len());
        for (i, value) in values.into_iter().enumerate() {
            out.push(match value {
                Value::String(s) if !s.is_empty() => Id::Str(s),
                Value::Number(n) if n.is_u64() => Id::U64(n.as_u64().unwrap_or_default()),
                other => {
                    return Err(invalid(format!(
                        "{}: row {}: {other} given as an id; an unsigned integer or a non-empty string is expected",
                        self.name,
                        first + i as u64
                    )));
                }
            });
        }
        Ok(out)
    }

    /// The next `rows` rows as JSON scalars; the array must have one item a row.
    pub fn json(&mut self, rows: usize) -> Result<Vec<Value>> {
        let first = self.next;
        let dtype = self.header.dtype;
        let bytes = self.read(rows)?;
        let mut out = Vec::with_capacity(rows);
        for (i, item) in bytes.chunks_exact(dtype.size()).enumerate() {
            let text = |text: Option<String>| {
                text.map(Value::String).ok_or_else(|| {
                    invalid(format!(
                        "{}: row {}: the string is not valid Unicode; repair it",
                        self.name,
                        first + i as u64
                    ))
                })
            };
            out.push(match dtype {
                Dtype::Number(number, big_endian) => values::json(number, item, big_endian),
                Dtype::Bool => Value::Bool(item[0] != 0),
                Dtype::Utf32(_, big_endian) => text(utf32(item, big_endian))?,
                Dtype::Bytes(_) => {
                    let end = item.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
                    text(std::str::from_utf8(&item[..end]).ok().map(str::to_owned))?
                }
            });
        }
        Ok(out)
    }
}

/// UTF-32 characters up to the padding.
fn utf32(item: &[u8], big_endian: bool) -> Option<String> {
    let from = if big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
    let codes: Vec<u32> = item.as_chunks::<4>().0.iter().map(|c| from(*c)).collect();
    let end = codes.iter().rposition(|c| *c != 0).map_or(0, |i| i + 1);
    codes[..end].iter().map(|c| char::from_u32(*c)).collect()
}
