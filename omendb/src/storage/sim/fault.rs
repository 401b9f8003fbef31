//! What can be made to go wrong: failing calls, a full disk, and deliberately broken behaviour.

use std::io;

/// The kinds of call that [`super::SimFs`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// [`crate::storage::Storage::create_dir`].
    CreateDir,
    /// [`crate::storage::Storage::open`] of an existing file.
    Open,
    /// [`crate::storage::Storage::open`] of a new file.
    Create,
    /// [`crate::storage::Storage::list`].
    List,
    /// [`crate::storage::Storage::rename`].
    Rename,
    /// [`crate::storage::Storage::remove`].
    Remove,
    /// [`crate::storage::Storage::sync_dir`].
    SyncDir,
    /// [`crate::storage::Storage::lock`].
    Lock,
    /// [`crate::storage::Storage::map`].
    Map,
    /// [`crate::storage::File::read_at`].
    Read,
    /// [`crate::storage::File::write_at`].
    Write,
    /// [`crate::storage::File::sync_data`].
    SyncData,
    /// [`crate::storage::File::set_len`].
    SetLen,
    /// [`crate::storage::File::len`].
    Len,
}

impl Op {
    /// Whether the call can change what a crash leaves behind.
    pub fn changes(self) -> bool {
        !matches!(self, Op::Open | Op::List | Op::Map | Op::Read | Op::Len)
    }

    /// Whether the call can need space on the device.
    pub fn takes_space(self) -> bool {
        matches!(
            self,
            Op::CreateDir | Op::Create | Op::Rename | Op::SyncDir | Op::Lock | Op::Write | Op::SyncData | Op::SetLen
        )
    }
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The device reports an error.
    Eio,
    /// The device is full; only calls that take space fail.
    Enospc,
    /// A read ends early; only reads fail.
    ShortRead,
}

impl FaultKind {
    pub(super) fn applies(self, op: Op) -> bool {
        match self {
            FaultKind::Eio => true,
            FaultKind::Enospc => op.takes_space(),
            FaultKind::ShortRead => matches!(op, Op::Read | Op::Map),
        }
    }

    pub(super) fn error(self) -> io::Error {
        match self {
            FaultKind::Eio => io::Error::from_raw_os_error(5),
            FaultKind::Enospc => io::Error::from(io::ErrorKind::StorageFull),
            FaultKind::ShortRead => io::Error::from(io::ErrorKind::UnexpectedEof),
        }
    }
}

/// A planned failure: calls from number `at` on (the first call is 0), one or all of those that `kind` applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault {
    /// The first call that fails.
    pub at: u64,
    /// How.
    pub kind: FaultKind,
    /// Whether every later call fails too.
    pub forever: bool,
    /// Whether a failing sync leaves the lost bytes readable (until a crash) or drops them at once.
    pub readable_after_failed_sync: bool,
    /// Whether a failing write leaves its first half behind.
    pub torn_write: bool,
}

impl Fault {
    /// One failing call; a failed sync drops what it should have stored.
    pub const fn once(at: u64, kind: FaultKind) -> Self {
        Fault { at, kind, forever: false, readable_after_failed_sync: false, torn_write: true }
    }

    /// Every call from `at` on fails.
    pub const fn forever(at: u64, kind: FaultKind) -> Self {
        Fault { forever: true, ..Fault::once(at, kind) }
    }
}

/// A deliberate defect of the storage, standing for an engine that forgets or misorders a call. A test programme
/// that does not notice it proves nothing. `path` selects files or directories whose path contains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// `sync_data` does nothing.
    SkipSync {
        /// Which files.
        path: &'static str,
    },
    /// The nth (from 0) `sync_data` does nothing.
    SkipNthSync {
        /// Which files.
        path: &'static str,
        /// Which call.
        nth: u64,
    },
    /// `sync_dir` does nothing.
    SkipDirSync {
        /// Which directories; "" is all of them.
        path: &'static str,
    },
    /// A file's bytes are synced only after its rename has become durable.
    RenameBeforeSync {
        /// Which files, by the name before the rename.
        path: &'static str,
    },
    /// A removal is durable at once, and the directory syncs that should have come before it only come after it.
    RemoveBeforeDirSync {
        /// Which removed files.
        path: &'static str,
    },
    /// The nth write is lost, and its sync succeeds.
    LoseWrite {
        /// Which files.
        path: &'static str,
        /// Which write.
        nth: u64,
    },
    /// A write lands one sector too far.
    MisdirectWrite {
        /// Which files.
        path: &'static str,
        /// Which write.
        nth: u64,
    },
}
