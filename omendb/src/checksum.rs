//! The two checksums of the format: CRC32C for frames and blocks, XXH3-128 for whole structures named by a parent.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC32C (Castagnoli), as in RFC 3720, of several parts in a row.
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = Crc32c::new();
    for part in parts {
        digest.update(part);
    }
    digest.finish()
}

/// CRC32C fed piece by piece.
pub(crate) struct Crc32c(Digest);

impl Crc32c {
    pub(crate) fn new() -> Self {
        Crc32c(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(&self) -> u32 {
        // The CRC32C parameters produce 32 bits; the library's result type is wider.
        (self.0.finalize() & 0xffff_ffff) as u32
    }
}

/// XXH3-128.
pub(crate) fn xxh3_128(parts: &[&[u8]]) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.digest128()
}

/// The keyed 64-bit hash of an encoded id.
pub(crate) fn id_hash(encoded: &[u8], seed: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(encoded, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_gives_the_published_check_value() {
        assert_eq!(crc32c(&[b"123456789"]), 0xE306_9283);
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xE306_9283);
        assert_eq!(crc32c(&[]), 0);
    }

    #[test]
    fn xxh3_gives_the_published_values() {
        assert_eq!(xxh3_128(&[b""]), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
        assert_eq!(xxh3_128(&[b"ab", b"c"]), xxhash_rust::xxh3::xxh3_128(b"abc"));
    }
}
