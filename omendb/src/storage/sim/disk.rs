//! The simulated disk: what is durable, and what still waits to become so.
//!
//! A write is split into 512-byte sectors; each sector, each change of a file's length and each change of a name
//! waits on its own. Syncing a file makes its bytes and length durable, but not its name; syncing a directory makes
//! its names durable, but no file's bytes. A crash keeps any part of what waited.

use super::{Fill, Pending, PendingKind};
use crate::storage::mem::{fail, parent, write_end};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// Bytes that reach the disk together or not at all.
pub const SECTOR: usize = 512;

/// What fills a stretch of a file that grew before its bytes arrived, where it is not zeros.
const GARBAGE: u8 = 0xA5;

/// Identifies a file apart from its name.
pub(super) type NodeId = u64;

#[derive(Debug, Clone)]
pub(super) enum DataChange {
    /// The file's length; `written` where a write made it grow, not a `set_len`.
    Size { len: usize, written: bool },
    /// Bytes `from..to` of one write, within one sector, at `offset` of the file.
    Sector { offset: usize, bytes: Arc<Vec<u8>>, from: usize, to: usize },
}

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    MakeDir(Arc<str>),
    Link(Arc<str>, NodeId),
    Rename(Arc<str>, Arc<str>, NodeId),
    Unlink(Arc<str>),
}

impl NameChange {
    /// Whether syncing `dir` makes this change durable.
    fn belongs_to(&self, dir: &str) -> bool {
        match self {
            NameChange::MakeDir(path) | NameChange::Link(path, _) | NameChange::Unlink(path) => parent(path) == dir,
            NameChange::Rename(from, to, _) => parent(from) == dir || parent(to) == dir,
        }
    }
}

/// One file's bytes: as the program sees them, as they are on the disk, and the steps between.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) data: Arc<Vec<u8>>,
    pub(super) durable: Arc<Vec<u8>>,
    pub(super) pending: Vec<(u64, DataChange)>,
    /// Whether a failed sync left bytes that can be read but will never be written by themselves.
    pub(super) unbacked: bool,
    /// A deliberately late sync: done by the next sync of a directory.
    pub(super) deferred: bool,
}

/// Names of files and directories.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) files: BTreeMap<Arc<str>, NodeId>,
    pub(super) dirs: BTreeSet<Arc<str>>,
}

impl Names {
    pub(super) fn has_dir(&self, dir: &str) -> bool {
        dir.is_empty() || self.dirs.contains(dir)
    }

    fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::MakeDir(path) => {
                self.dirs.insert(path.clone());
            }
            NameChange::Link(path, node) => {
                self.files.insert(path.clone(), *node);
            }
            NameChange::Rename(from, to, node) => {
                // The source may have been lost or have become another file.
                if self.files.get(from) == Some(node) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *node);
            }
            NameChange::Unlink(path) => {
                self.files.remove(path);
            }
        }
    }
}

/// A disk. Cloning it is cheap: contents are shared until written.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) names: Names,
    durable: Names,
    pending: Vec<(u64, NameChange)>,
    /// The bytes of the file removed last: what a lost write may show in a new file.
    stale: Arc<Vec<u8>>,
    next: u64,
}

impl Disk {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn rename_now(&mut self, change: NameChange) {
        self.names.apply(&change);
        let at = self.tick();
        self.pending.push((at, change));
    }

    pub(super) fn node(&self, id: NodeId) -> io::Result<&Node> {
        self.nodes.get(&id).map_or_else(|| fail(io::ErrorKind::NotFound, "the file is gone"), Ok)
    }

    pub(super) fn find(&self, path: &str) -> io::Result<NodeId> {
        self.names.files.get(path).copied().map_or_else(|| fail(io::ErrorKind::NotFound, path), Ok)
    }

    /// Bytes of all files.
    pub(super) fn used(&self) -> u64 {
        self.names.files.values().filter_map(|id| self.nodes.get(id)).map(|n| n.data.len() as u64).sum()
    }

    pub(super) fn create_dir(&mut self, path: &str) -> io::Result<()> {
        let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
        for prefix in ends.map(|end| &path[..end]).filter(|p| !p.is_empty()) {
            if self.names.files.contains_key(prefix) {
                return fail(io::ErrorKind::AlreadyExists, prefix);
            }
            if !self.names.has_dir(prefix) {
                self.rename_now(NameChange::MakeDir(prefix.into()));
            }
        }
        Ok(())
    }

    pub(super) fn create(&mut self, path: &str) -> io::Result<NodeId> {
        if !self.names.has_dir(parent(path)) {
            return fail(io::ErrorKind::NotFound, path);
        }
        if self.names.has_dir(path) || self.names.files.contains_key(path) {
            return fail(io::ErrorKind::AlreadyExists, path);
        }
        let id = self.tick();
        self.nodes.insert(id, Node::default());
        self.rename_now(NameChange::Link(path.into(), id));
        Ok(id)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let id = self.find(from)?;
        if !self.names.has_dir(parent(to)) || self.names.has_dir(to) {
            return fail(io::ErrorKind::NotFound, to);
        }
        self.rename_now(NameChange::Rename(from.into(), to.into(), id));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        let id = self.find(path)?;
        self.stale = self.node(id)?.data.clone();
        self.rename_now(NameChange::Unlink(path.into()));
        Ok(())
    }

    /// Makes the newest change of a name durable at once, before everything that was asked for earlier.
    pub(super) fn hurry_last_name(&mut self) {
        if let Some((_, change)) = self.pending.pop() {
            self.durable.apply(&change);
        }
    }

    pub(super) fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        if !self.names.has_dir(dir) {
            return fail(io::ErrorKind::NotFound, dir);
        }
        for (at, change) in std::mem::take(&mut self.pending) {
            if change.belongs_to(dir) {
                self.durable.apply(&change);
            } else {
                self.pending.push((at, change));
            }
        }
        let late: Vec<NodeId> = self.nodes.iter().filter(|(_, n)| n.deferred).map(|(id, _)| *id).collect();
        late.into_iter().try_for_each(|id| self.sync_data(id))
    }

    fn node_mut(&mut self, id: NodeId) -> io::Result<&mut Node> {
        self.nodes.get_mut(&id).map_or_else(|| fail(io::ErrorKind::NotFound, "the file is gone"), Ok)
    }

    pub(super) fn write(&mut self, id: NodeId, buf: &[u8], offset: u64) -> io::Result<()> {
        let end = write_end(offset, buf.len())?;
        let start = end - buf.len();
        if buf.is_empty() {
            return Ok(());
        }
        let bytes = Arc::new(buf.to_vec());
        let mut at = self.tick();
        let node = self.node_mut(id)?;
        let data = Arc::make_mut(&mut node.data);
        if end > data.len() {
            data.resize(end, 0);
            node.pending.push((at, DataChange::Size { len: end, written: true }));
        }
        data[start..end].copy_from_slice(buf);
        let mut from = 0;
        while from < buf.len() {
            let to = ((start + from) / SECTOR * SECTOR + SECTOR - start).min(buf.len());
            at += 1;
            node.pending.push((at, DataChange::Sector { offset: start + from, bytes: bytes.clone(), from, to }));
            from = to;
        }
        self.next = at;
        Ok(())
    }

    pub(super) fn set_len(&mut self, id: NodeId, len: u64) -> io::Result<()> {
        let len = write_end(len, 0)?;
        let at = self.tick();
        let node = self.node_mut(id)?;
        Arc::make_mut(&mut node.data).resize(len, 0);
        node.pending.push((at, DataChange::Size { len, written: false }));
        Ok(())
    }

    pub(super) fn sync_data(&mut self, id: NodeId) -> io::Result<()> {
        let node = self.node_mut(id)?;
        node.durable =
            if node.unbacked { crashed_content(node, &|_| true, Fill::Zero, &[]) } else { node.data.clone() };
        node.pending.clear();
        node.deferred = false;
        Ok(())
    }

    pub(super) fn defer_sync(&mut self, id: NodeId) -> io::Result<()> {
        self.node_mut(id)?.deferred = true;
        Ok(())
    }

    /// A failed sync: what waited never becomes durable unless it is written again. `readable` says whether it can
    /// be read until the crash.
    pub(super) fn lose_pending(&mut self, id: NodeId, readable: bool) -> io::Result<()> {
        let node = self.node_mut(id)?;
        node.pending.clear();
        if readable {
            node.unbacked = true;
        } else {
            node.data = node.durable.clone();
        }
        Ok(())
    }

    /// Changes a byte on the disk and in memory, as bit rot does.
    pub(super) fn damage(&mut self, path: &str, offset: usize, mask: u8) -> io::Result<()> {
        let id = self.find(path)?;
        let node = self.node_mut(id)?;
        for bytes in [&mut node.data, &mut node.durable] {
            if let Some(byte) = Arc::make_mut(bytes).get_mut(offset) {
                *byte ^= mask;
            }
        }
        Ok(())
    }

    /// Everything that waits, oldest first.
    pub(super) fn pending(&self) -> Vec<Pending> {
        let name = |id: NodeId| {
            self.names
                .files
                .iter()
                .find(|(_, n)| **n == id)
                .map_or_else(|| "(removed)".into(), |(path, _)| path.clone())
        };
        let mut all: Vec<Pending> = self
            .pending
            .iter()
            .map(|(at, change)| {
                let (kind, path) = match change {
                    NameChange::MakeDir(path) => (PendingKind::MakeDir, path),
                    NameChange::Link(path, _) => (PendingKind::Create, path),
                    NameChange::Rename(_, path, _) => (PendingKind::Rename, path),
                    NameChange::Unlink(path) => (PendingKind::Remove, path),
                };
                Pending { at: *at, kind, path: path.clone(), offset: 0 }
            })
            .collect();
        for (id, node) in &self.nodes {
            if node.pending.is_empty() {
                continue;
            }
            let path = name(*id);
            all.extend(node.pending.iter().map(|(at, change)| {
                let (kind, offset) = match change {
                    DataChange::Size { len, .. } => (PendingKind::Size, *len),
                    DataChange::Sector { offset, .. } => (PendingKind::Sector, *offset),
                };
                Pending { at: *at, kind, path: path.clone(), offset: offset as u64 }
            }));
        }
        all.sort_by_key(|p| p.at);
        all
    }

    /// The disk after a crash that kept the waiting changes that `keep` names.
    pub(super) fn crash(&self, keep: &dyn Fn(u64) -> bool, fill: Fill) -> Disk {
        let mut names = self.durable.clone();
        for (_, change) in self.pending.iter().filter(|(at, _)| keep(*at)) {
            names.apply(change);
        }
        // A name in a directory that was never made durable is lost with it.
        let has_parents = |path: &str, dirs: &BTreeSet<Arc<str>>| {
            let mut dir = parent(path);
            while !dir.is_empty() && dirs.contains(dir) {
                dir = parent(dir);
            }
            dir.is_empty()
        };
        let dirs: BTreeSet<Arc<str>> = names.dirs.iter().filter(|d| has_parents(d, &names.dirs)).cloned().collect();
        names.files.retain(|path, _| has_parents(path, &dirs));
        names.dirs = dirs;
        let mut nodes = BTreeMap::new();
        for id in names.files.values() {
            if let Some(node) = self.nodes.get(id) {
                let data = crashed_content(node, keep, fill, &self.stale);
                nodes.insert(*id, Node { durable: data.clone(), data, ..Node::default() });
            }
        }
        Disk { nodes, durable: names.clone(), names, pending: Vec::new(), stale: self.stale.clone(), next: self.next }
    }
}

/// A file's bytes after a crash.
fn crashed_content(node: &Node, keep: &dyn Fn(u64) -> bool, fill: Fill, stale: &[u8]) -> Arc<Vec<u8>> {
    if !node.pending.iter().any(|(at, _)| keep(*at)) {
        return node.durable.clone();
    }
    // Sectors may reach the disk before the length that shows them, so the buffer and the length grow apart.
    let mut data = node.durable.to_vec();
    let mut len = data.len();
    let mut filled = data.len();
    for (_, change) in node.pending.iter().filter(|(at, _)| keep(*at)) {
        match change {
            DataChange::Size { len: new, written } => {
                if *new < len {
                    data.truncate(*new);
                    filled = filled.min(*new);
                }
                if data.len() < *new {
                    data.resize(*new, 0);
                }
                if *written && fill != Fill::Zero {
                    for (i, byte) in data.iter_mut().enumerate().take(*new).skip(filled) {
                        *byte = if fill == Fill::Garbage { GARBAGE } else { stale.get(i).copied().unwrap_or(GARBAGE) };
                    }
                }
                len = *new;
                filled = filled.max(*new);
            }
            DataChange::Sector { offset, bytes, from, to } => {
                let end = offset + (to - from);
                if data.len() < end {
                    data.resize(end, 0);
                }
                data[*offset..end].copy_from_slice(&bytes[*from..*to]);
                if *offset <= filled {
                    filled = filled.max(end);
                }
            }
        }
    }
    data.truncate(len);
    Arc::new(data)
}
