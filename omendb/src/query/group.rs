//! Groups: the best records of each of the best values of a field.
//!
//! Groups are found by searches in rounds. A round asks for the best candidates outside of the groups that are full;
//! once all groups are known, for those of the groups that are not. So the answer is that of one search over
//! everything, and a group that holds all the nearest records cannot hide the others.

use super::exec::Search;
use super::topk::Candidate;
use crate::error::Result;
use crate::filter::{Field, FieldValue, Filter};
use crate::record::{Hits, SearchOptions, Vectors};
use crate::segment::decode_metadata;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// The records of one value of a field.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The field's value: of the nearest record, where several spellings are one value (1 and 1.0).
    pub value: Value,
    /// Its best records, best first. [`complete`](Hits::complete): there are no more of this value.
    pub hits: Hits,
}

/// The results of a search for groups, that of the nearest record first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Groups {
    /// The groups.
    pub groups: Vec<Group>,
    /// True when fewer groups came back than were asked for because there are no more. False also where that is not
    /// known, as for [`Hits::complete`].
    pub complete: bool,
}

/// A group that is being filled.
struct Building {
    value: Value,
    key: FieldValue,
    members: Vec<Candidate>,
}

/// Finds the `search.options.k` best groups by `field`, `most` records of each.
pub(crate) fn search(search: &Search<'_>, query: &Vectors<'_>, field: &Field, most: usize) -> Result<Groups> {
    let wanted = search.options.k;
    let mut groups: Vec<Building> = Vec::new();
    let mut places: HashMap<FieldValue, usize> = HashMap::new();
    let mut seen = HashSet::new();
    let mut ask = wanted * most;
    let mut filter = search.options.filter.clone();
    let (mut whole, mut exhausted) = (true, false);
    while !exhausted {
        let options = SearchOptions { k: ask, offset: 0, mmr: None, filter, ..search.options.clone() };
        let round = Search { options: &options, ..*search };
        let mut found = round.candidates(query, 0..1, None)?;
        whole &= found.whole;
        let mut candidates = found.candidates.pop().unwrap_or_default();
        round.cut(&mut candidates)?;
        exhausted = candidates.len() < ask;
        let mut news = 0;
        for candidate in candidates {
            if !seen.insert(candidate.row) {
                continue;
            }
            news += 1;
            let (source, row) = round.source(candidate)?;
            let metadata = decode_metadata(source.metadata(row)?)?;
            let Some((key, value)) = metadata.as_ref().and_then(|metadata| field.value(metadata)) else { continue };
            match places.get(&key) {
                Some(place) if groups[*place].members.len() < most => groups[*place].members.push(candidate),
                None if groups.len() < wanted => {
                    places.insert(key.clone(), groups.len());
                    groups.push(Building { value: value.clone(), key, members: vec![candidate] });
                }
                _ => {}
            }
        }
        let (full, filling): (Vec<_>, Vec<_>) = groups.iter().partition(|group| group.members.len() == most);
        if groups.len() == wanted && filling.is_empty() {
            break;
        }
        let keys = |groups: &[&Building]| groups.iter().map(|group| group.key.clone()).collect::<Vec<_>>();
        let condition =
            if groups.len() == wanted { field.is_one_of(keys(&filling)) } else { field.is_none_of(keys(&full)) };
        filter = Some(Filter::both(search.options.filter.as_ref(), condition));
        // With as many as the groups still lack beside those they have, a round fills one or sees the end.
        let had: usize = filling.iter().map(|group| group.members.len()).sum();
        let lack = wanted * most - full.len() * most - had;
        ask = if news == 0 { ask * 2 } else { (had + lack).max(ask) };
    }
    groups.sort_by_key(|group| group.members[0]);
    let complete = whole && groups.len() < wanted;
    let groups = groups.into_iter().map(|group| {
        let hits = group.members.iter().map(|candidate| search.hit(*candidate)).collect::<Result<Vec<_>>>()?;
        Ok(Group { value: group.value, hits: Hits { complete: whole && hits.len() < most, hits } })
    });
    Ok(Groups { groups: groups.collect::<Result<Vec<_>>>()?, complete })
}
