//! Sees to it that whoever searches for a row finds it: the last step of a build.

use super::exact::Kind;
use super::layout::GraphIndex;
use super::parallel::Task;
use super::prune::NO_NEIGHBOUR;
use super::scratch::Scratch;
use super::search::{Effort, SearchStats};
use super::{Rows, signs};
use crate::error::Result;
use std::collections::HashMap;

/// Rounds of giving each stray an edge.
const ROUNDS: usize = 4;
/// The recall whose searches must find every row: that of searches that ask for none. More careful ones follow the same
/// path, and farther.
const RECALL: f32 = 0.95;
/// Nodes that one parallel step looks for.
const CHUNK: usize = 1024;
/// How many rows a search asks for, one after the other, as long as it meets nothing but equal ones.
const WANTED: [usize; 3] = [1, 100, 1000];
/// Neighbours of one node that may give way to strays in one round: the farthest.
const MOST_REPLACED: usize = 4;

impl GraphIndex {
    /// Gives every node that a search for its own row does not find a place among the neighbours of one that this
    /// search comes by. Returns how many are not found even then.
    ///
    /// Under dot products a row need not be nearest to itself, so there is nothing to find.
    pub(super) fn reach_all(&mut self, rows: Rows<'_>, task: &Task<'_>) -> Result<usize> {
        if self.kind == Kind::Product {
            return Ok(0);
        }
        let effort = self.effort_for(RECALL, 1);
        let parts = task.map(self.count.div_ceil(CHUNK), |part| {
            let mut scratch = Scratch::default();
            let nodes = (part * CHUNK..((part + 1) * CHUNK).min(self.count)).map(|node| node as u32);
            Ok(nodes.filter(|&node| !self.finds(rows, node, effort, &mut scratch)).collect::<Vec<_>>())
        })?;
        let mut strays: Vec<u32> = parts.into_iter().flatten().collect();
        for _ in 0..ROUNDS {
            if strays.is_empty() {
                break;
            }
            task.check()?;
            let replaced = self.adopt(rows, effort, &strays)?;
            // An edge that gave way may have been the only path of the node that it led to.
            strays.extend(replaced);
            let mut scratch = Scratch::default();
            strays.retain(|&node| !self.finds(rows, node, effort, &mut scratch));
        }
        Ok(strays.len())
    }

    /// Whether a search for a node's row comes by the node; if not, what it came by is left in `scratch`.
    fn finds(&self, rows: Rows<'_>, node: u32, effort: Effort, scratch: &mut Scratch) -> bool {
        let query = rows.row(self.order()[node as usize] as usize);
        scratch.sought = Some(node);
        let met = WANTED.into_iter().find_map(|k| {
            self.begin(&rows, query, k, effort, scratch, &mut Vec::new()).ok()?;
            let met = self.walk(None, usize::MAX, scratch, &mut SearchStats::default());
            // Among equal rows, only who wants more of them than there are is sure to come by each.
            (met || scratch.nearest_limit() > 0.0).then_some(met)
        });
        scratch.sought = None;
        met.unwrap_or(true)
    }

    /// Makes each stray a neighbour of the nearest node that the search for it came by; returns those that had to give
    /// way.
    fn adopt(&mut self, rows: Rows<'_>, effort: Effort, strays: &[u32]) -> Result<Vec<u32>> {
        let mut gone = Vec::new();
        let mut scratch = Scratch::default();
        let mut replaced: HashMap<u32, usize> = HashMap::new();
        for &stray in strays {
            if self.finds(rows, stray, effort, &mut scratch) {
                // An edge for another stray led here.
                continue;
            }
            let parents = scratch.met_nearest_first();
            let parent = parents.iter().find(|(_, id)| replaced.get(id).is_none_or(|&n| n < MOST_REPLACED));
            let Some(&(_, parent)) = parent else { continue };
            let mut list: Vec<u32> = self.neighbours(parent).collect();
            let place = list.iter().position(|&other| other == NO_NEIGHBOUR).unwrap_or_else(|| {
                let count = replaced.entry(parent).or_default();
                *count += 1;
                self.degree - *count
            });
            let before = std::mem::replace(&mut list[place], stray);
            gone.extend((before != NO_NEIGHBOUR).then_some(before));
            self.write_neighbours(parent, &list);
        }
        Ok(gone)
    }

    fn write_neighbours(&mut self, node: u32, list: &[u32]) {
        let Some(inline) = self.inline else {
            return self.node_mut(node).copy_from_slice(zerocopy::IntoBytes::as_bytes(list));
        };
        let used = list.iter().take_while(|&&other| other != NO_NEIGHBOUR);
        let codes: Vec<u8> = std::iter::once(&node).chain(used).flat_map(|&id| self.code(id)).copied().collect();
        signs::write_one(&codes, list, self.node_mut(node), inline);
    }
}
