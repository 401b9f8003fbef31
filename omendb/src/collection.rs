//! STUB of the API; the real engine replaces this file.
use crate::*;

/// A collection. Cheap to clone, Send + Sync.
#[derive(Debug, Clone)]
pub struct Collection;
impl Collection {
    pub fn name(&self) -> &str { todo!() }
    pub fn schema(&self) -> &Schema { todo!() }
    /// writes or replaces; returns the number of records written
    pub fn upsert(&self, _batch: Batch<'_>) -> Result<usize> { todo!() }
    /// AlreadyExists (nothing applied) if any id is known
    pub fn add(&self, _batch: Batch<'_>) -> Result<usize> { todo!() }
    /// NotFound if the id is unknown
    pub fn update<'a>(&self, _id: impl Into<IdRef<'a>>, _patch: Patch<'_>) -> Result<()> { todo!() }
    /// returns how many existed
    pub fn delete<'a, I: Into<IdRef<'a>>>(&self, _ids: impl IntoIterator<Item = I>) -> Result<usize> { todo!() }
    pub fn get<'a>(&self, _id: impl Into<IdRef<'a>>) -> Result<Option<Record>> { todo!() }
    pub fn get_many<'a, I: Into<IdRef<'a>>>(&self, _ids: impl IntoIterator<Item = I>) -> Result<Vec<Option<Record>>> { todo!() }
    pub fn contains<'a>(&self, _id: impl Into<IdRef<'a>>) -> Result<bool> { todo!() }
    pub fn count(&self) -> Result<u64> { todo!() }
    /// one consistent view, in storage order
    pub fn iterate(&self) -> Result<Box<dyn Iterator<Item = Result<Record>> + Send>> { todo!() }
    pub fn search<'v>(&self, _vector: impl Into<Vectors<'v>>, _options: &SearchOptions) -> Result<Hits> { todo!() }
    /// one result a row of `vectors`; uses `threads` threads (0 = all cores)
    pub fn search_batch<'v>(&self, _vectors: impl Into<Vectors<'v>>, _options: &SearchOptions, _threads: usize) -> Result<Vec<Hits>> { todo!() }
    pub fn flush(&self) -> Result<()> { todo!() }
    pub fn compact(&self) -> Result<()> { todo!() }
    /// waits until background flush/compaction (later: graph building) has nothing left to do
    pub fn wait_idle(&self) -> Result<()> { todo!() }
    pub fn stats(&self) -> CollectionStats { todo!() }
}
