//! The cached rows of one table in the order of one index, so that a scan sees rows that are not
//! written yet. Made when an index is first scanned, kept up from then on.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::cache::SlotId;

/// Slots by their rows' places: index columns, then key.
#[derive(Debug, Default)]
pub(super) struct Order {
    places: BTreeMap<Box<[u8]>, SlotId>,
}

impl Order {
    pub(super) fn add(&mut self, place: Vec<u8>, slot: SlotId) {
        self.places.insert(place.into(), slot);
    }

    pub(super) fn remove(&mut self, place: &[u8]) {
        self.places.remove(place);
    }

    /// The places under a prefix and after a place, in order.
    pub(super) fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a [u8], SlotId)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.places
            .range::<[u8], _>((from, Bound::Unbounded))
            .map(|(place, slot)| (&**place, *slot))
            .take_while(move |(place, _)| place.starts_with(prefix))
    }
}
