//! Read-only mappings of immutable files, bytes that stay in place, and freed memory given back. The only unsafe code
//! of the storage layer.

use super::Bytes;
use stable_deref_trait::StableDeref;
use std::fs::File;
use std::io;
use std::ops::Deref;

/// Bytes for a library that keeps slices of them beside their owner.
#[derive(Debug, Clone)]
pub(crate) struct Pinned(Bytes);

impl Pinned {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Pinned(bytes)
    }
}

impl Deref for Pinned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

// SAFETY: `Bytes` holds its owner in an `Arc`, which does not move it, and whoever makes one promises that its slice
// neither changes nor moves while it lives: in this crate owners are mappings and vectors that are never changed.
unsafe impl StableDeref for Pinned {}

/// Maps the whole of `file`, whose length is taken here and checked against the mapping.
pub(super) fn map_file(file: &File) -> io::Result<Bytes> {
    let len = file.metadata()?.len();
    if len == 0 {
        // An empty mapping is an error to the operating system, not to us.
        return Ok(Bytes::new(Vec::new()));
    }
    let size = usize::try_from(len).map_err(|_| {
        io::Error::new(io::ErrorKind::OutOfMemory, format!("a file of {len} bytes does not fit the address space"))
    })?;
    // SAFETY: the mapping is read-only and private to this process. The engine maps only immutable files (it never
    // writes to, truncates or reuses one after its manifest names it) while it holds the database's lock; a removed
    // file's pages stay valid until the mapping is dropped. Another program that truncates the file breaks this
    // promise, which the documentation says, and `RealStorage::without_mmap` is the way round it.
    let map = unsafe { memmap2::MmapOptions::new().len(size).map(file)? };
    if file.metadata()?.len() != len {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file's length changed while it was mapped"));
    }
    Ok(Bytes::new(map))
}

/// Gives memory that was freed back to the system, as far as the allocator keeps any: glibc keeps what lies below a
/// block in use, which after a flush or a merge may be as much as they took.
pub(crate) fn release_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call takes no pointer, may be made from any thread at any time, and leaves what is in use alone.
    unsafe {
        libc::malloc_trim(0);
    }
}
