//! NumPy archives: which of the arrays in the zip are vectors, ids, text and fields, and the guard against zip bombs.

use super::array::{ArrayReader, Body, Dtype, Header};
use super::npy::NpySource;
use super::{Columns, ID_NAMES, TEXT_NAMES, VECTOR_NAMES, list};
use crate::failure::{Result, invalid, io, limit};
use flate2::{Crc, read::DeflateDecoder};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use zip::{CompressionMethod, ZipArchive};

/// Most entries of an archive.
const MAX_ENTRIES: usize = 10_000;
/// An entry past the first number of bytes may expand by at most the second: more is a bomb, or data with nothing in
/// it.
const FREE_EXPANSION: (u64, u64) = (64 << 20, 200);
/// A compressed array in Fortran order is held in memory up to this size.
const MAX_IN_MEMORY: u64 = 256 << 20;

/// One entry, by what the directory and its header say.
struct Entry {
    name: String,
    start: u64,
    compressed: u64,
    size: u64,
    crc: u32,
    deflated: bool,
    header: Header,
}

impl Entry {
    /// The entry's bytes from its beginning, npy header and all.
    fn bytes(&self, path: &Path) -> Result<Box<dyn Read>> {
        let mut file = File::open(path).map_err(|e| io("open", path, &e))?;
        file.seek(SeekFrom::Start(self.start)).map_err(|e| io("seek", path, &e))?;
        let raw = BufReader::with_capacity(1 << 18, file.take(self.compressed));
        Ok(if self.deflated { Box::new(DeflateDecoder::new(raw)) } else { Box::new(raw) })
    }

    /// Reads the entry once and compares length and checksum, so that nothing of a damaged archive is imported.
    fn verify(&self, path: &Path) -> Result<()> {
        let name = format!("{}, array {:?}", path.display(), self.name);
        let mut stream = self.bytes(path)?.take(self.size.saturating_add(1));
        let (mut crc, mut total, mut buffer) = (Crc::new(), 0u64, vec![0u8; 1 << 18]);
        loop {
            let n = stream.read(&mut buffer).map_err(|e| {
                invalid(format!(
                    "{name}: byte {total}: the compressed data is damaged ({e}); write or copy the file again"
                ))
            })?;
            if n == 0 {
                break;
            }
            crc.update(&buffer[..n]);
            total += n as u64;
        }
        if total != self.size {
            let much = if total > self.size { "more than".to_owned() } else { format!("{total} of") };
            return Err(invalid(format!(
                "{name}: {much} the {} bytes that the archive announces; the file is damaged",
                self.size
            )));
        }
        if crc.sum() != self.crc {
            return Err(invalid(format!(
                "{name}: checksum {:08x} where {:08x} was expected; the file is damaged: write or copy it again",
                crc.sum(),
                self.crc
            )));
        }
        Ok(())
    }

    fn reader(&self, path: &Path) -> Result<ArrayReader> {
        self.verify(path)?;
        let name = format!("{}, array {:?}", path.display(), self.name);
        let available = self.size - self.header.len;
        let body = if !self.deflated {
            Body::File(File::open(path).map_err(|e| io("open", path, &e))?, self.start + self.header.len)
        } else {
            let mut stream = self.bytes(path)?;
            Header::read(&name, &mut stream)?;
            if self.header.fortran && self.header.shape.len() > 1 && available <= MAX_IN_MEMORY {
                let mut bytes = Vec::with_capacity(available as usize);
                stream.take(available).read_to_end(&mut bytes).map_err(|e| io("read", path, &e))?;
                Body::Memory(bytes)
            } else {
                Body::Stream(stream)
            }
        };
        ArrayReader::new(path, name, self.header.clone(), body, available)
    }
}

/// Opens an archive and chooses its arrays.
pub fn open(path: &Path, columns: &Columns) -> Result<NpySource> {
    let entries = read_directory(path)?;
    let names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
    columns.check_asked(path, &names)?;
    let find = |asked: &Option<String>, usual: &[&str]| -> Option<&Entry> {
        match asked {
            Some(name) => entries.iter().find(|e| e.name == *name),
            None => usual.iter().find_map(|name| entries.iter().find(|e| e.name == *name)),
        }
    };
    let vectors = match find(&columns.vector_column, VECTOR_NAMES) {
        Some(entry) => entry,
        None => {
            let matrices: Vec<&Entry> = entries.iter().filter(|e| is_matrix(&e.header)).collect();
            let [only] = matrices[..] else {
                return Err(invalid(format!(
                    "{}: {} matrices of numbers among {}; say which holds the vectors with --vector-column",
                    path.display(),
                    matrices.len(),
                    list(&names)
                )));
            };
            only
        }
    };
    let ids = if columns.ids.is_some() { None } else { find(&columns.id_column, ID_NAMES) };
    let text =
        find(&columns.text_column, TEXT_NAMES).filter(|e| matches!(e.header.dtype, Dtype::Utf32(..) | Dtype::Bytes(_)));
    let mut fields = Vec::new();
    for name in columns.metadata_columns.iter().flatten() {
        if let Some(entry) = entries.iter().find(|e| e.name == *name) {
            fields.push((name.clone(), entry.reader(path)?));
        }
    }
    let ids = ids.map(|e| e.reader(path)).transpose()?;
    let text = text.map(|e| e.reader(path)).transpose()?;
    NpySource::new(path, vectors.reader(path)?, ids, text, fields, columns)
}

fn is_matrix(header: &Header) -> bool {
    header.shape.len() == 2 && matches!(header.dtype, Dtype::Number(..))
}

/// The arrays of an archive; entries that are not `.npy` are passed over.
fn read_directory(path: &Path) -> Result<Vec<Entry>> {
    let file = File::open(path).map_err(|e| io("open", path, &e))?;
    let length = file.metadata().map_err(|e| io("read", path, &e))?.len();
    let damaged = |e: &dyn std::fmt::Display| {
        invalid(format!(
            "{}: not a whole zip archive ({e}); it is truncated or damaged: write or copy it again",
            path.display()
        ))
    };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(&e))?;
    if archive.len() > MAX_ENTRIES {
        return Err(limit(format!("{}: {} entries; at most {MAX_ENTRIES} are read", path.display(), archive.len())));
    }
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(|e| damaged(&e))?;
        let Some(name) = file.name().map_err(|e| damaged(&e))?.strip_suffix(".npy").map(str::to_owned) else {
            continue;
        };
        let place = format!("{}, array {name:?}", path.display());
        let deflated = match file.compression() {
            CompressionMethod::Stored => false,
            CompressionMethod::Deflated => true,
            other => {
                return Err(invalid(format!(
                    "{place}: compression {other:?}; save with np.savez or np.savez_compressed"
                )));
            }
        };
        if file.encrypted() {
            return Err(invalid(format!("{place}: encrypted; save it without a password")));
        }
        let (compressed, size, crc) = (file.compressed_size(), file.size(), file.crc32());
        let start = file.data_start().ok_or_else(|| damaged(&"an entry has no data"))?;
        if start.checked_add(compressed).is_none_or(|end| end > length) {
            return Err(invalid(format!(
                "{place}: {compressed} bytes from byte {start} are announced, but the file ends at {length}; it is \
                    truncated or damaged"
            )));
        }
        if size > FREE_EXPANSION.0 && size / FREE_EXPANSION.1 > compressed {
            return Err(limit(format!(
                "{place}: {compressed} bytes that expand to {size}, more than {} times; if this is no zip bomb, unpack \
                    it and import the .npy",
                FREE_EXPANSION.1
            )));
        }
        drop(file);
        let header = Header { dtype: Dtype::Bool, fortran: false, shape: Vec::new(), len: 0 };
        let mut entry = Entry { name, start, compressed, size, crc, deflated, header };
        match Header::read(&place, &mut entry.bytes(path)?.take(size)) {
            Ok(header) => entry.header = header,
            // An array that cannot be read matters only if it is asked for, and then the reason is given.
            Err(error) if wanted(&entry.name) => return Err(error),
            Err(_) => continue,
        }
        entries.push(entry);
    }
    if entries.is_empty() {
        return Err(invalid(format!(
            "{}: no NumPy array that can be read in the archive; save it with np.savez",
            PathBuf::from(path).display()
        )));
    }
    Ok(entries)
}

fn wanted(name: &str) -> bool {
    [VECTOR_NAMES, ID_NAMES, TEXT_NAMES].iter().any(|names| names.contains(&name))
}
