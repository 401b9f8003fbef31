//! What the tests of the program share: running it, and making files for it.
#![allow(dead_code, reason = "each test uses a part")]

use serde_json::Value;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

pub const OMENDB: &str = env!("CARGO_BIN_EXE_omendb");

/// How a run of the program ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// Ends the test unless the program ended with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// Runs the program in `dir`. Its memory is limited to 4 GB of addresses: no file may make it take more.
pub fn omendb(dir: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 4000000; exec \"$@\"", "sh", OMENDB]).args(args);
    let output = command.current_dir(dir).stdin(Stdio::null()).output().expect("the program starts");
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Numbers that look random and are the same every time (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// A vector of numbers between -1 and 1, none of them 0.
    pub fn vector(&mut self, dim: usize) -> Vec<f32> {
        (0..dim).map(|_| (self.below(1 << 24) as f32 + 0.5) / (1 << 23) as f32 - 1.0).collect()
    }
}

/// `rows` vectors of `dim` dimensions, row-major.
pub fn matrix(seed: u64, rows: usize, dim: usize) -> Vec<f32> {
    Random(seed).vector(rows * dim)
}

pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// An npy file with this dictionary as its header.
pub fn npy_of(header: &str, body: &[u8]) -> Vec<u8> {
    let mut header = header.to_owned();
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend_from_slice(&(header.len() as u16).to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(body);
    out
}

/// An npy file of this type, row order and shape.
pub fn npy(descr: &str, fortran: bool, shape: &str, body: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    npy_of(&format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"), body)
}

/// An npy file of f32 vectors.
pub fn npy_f32(values: &[f32], dim: usize) -> Vec<u8> {
    npy("<f4", false, &format!("({}, {dim})", values.len() / dim), &f32_bytes(values))
}

/// A `<U` array.
pub fn npy_strings(values: &[&str], width: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for value in values {
        let mut codes: Vec<u32> = value.chars().map(u32::from).collect();
        codes.resize(width, 0);
        body.extend(codes.iter().flat_map(|c| c.to_le_bytes()));
    }
    npy(&format!("<U{width}"), false, &format!("({},)", values.len()), &body)
}

/// A zip archive of these entries.
pub fn npz(entries: &[(&str, Vec<u8>)], deflate: bool) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let method = if deflate { CompressionMethod::Deflated } else { CompressionMethod::Stored };
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).expect("zip entry");
        zip.write_all(bytes).expect("zip data");
    }
    zip.finish().expect("zip end").into_inner()
}

/// An fvecs file.
pub fn fvecs(values: &[f32], dim: usize) -> Vec<u8> {
    values.chunks_exact(dim).flat_map(|v| [(dim as u32).to_le_bytes().to_vec(), f32_bytes(v)].concat()).collect()
}

/// A bvecs file.
pub fn bvecs(values: &[u8], dim: usize) -> Vec<u8> {
    values.chunks_exact(dim).flat_map(|v| [(dim as u32).to_le_bytes().to_vec(), v.to_vec()].concat()).collect()
}

/// Gzipped.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("gzip data");
    encoder.finish().expect("gzip end")
}

/// Writes a file and returns its path.
pub fn put(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).expect("the file is written");
    path
}
