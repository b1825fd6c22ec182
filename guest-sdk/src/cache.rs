//! The rows of one table that a batch has touched, decoded.
//!
//! A hot key crosses the boundary once a batch each way: it is fetched when first asked for,
//! changed in place, and encoded once when the changes are handed over. Tables with a unique index
//! are the exception: there every change is noted in order, because the host checks uniqueness
//! change by change and blames the event.

use hashbrown::HashTable;

use crate::changes::{ChangeSet, end};
use crate::db::{Host, read_row};
use crate::hash::{hash_bytes, same_bytes};
use crate::table::Table;

/// The number that no entry has.
pub(crate) const NO_ENTRY: u32 = u32::MAX;
/// Rows that are fetched with one call: a call has a limit of bytes, and rows can be long.
const ROWS_AT_ONCE: usize = 128;

pub(crate) struct Cache<T> {
    /// The number of the table in the manifest.
    pub(crate) table: u16,
    /// Room for so many is made with the first one.
    rows_expected: usize,
    /// The entries by key.
    places: HashTable<u32>,
    /// In the order of first touch.
    entries: Vec<Entry<T>>,
    /// The keys of the entries, end to end.
    keys: Vec<u8>,
    /// Entries that changed since the last hand-over, in the order of their first change since.
    changed: Vec<u32>,
    /// For a table with a unique index: every change since the last hand-over.
    log: ChangeSet,
    /// Entries whose rows are still to be fetched.
    wanted: Vec<u32>,
    /// By shape and row of its block: the entry whose key the event probably asks for, or none.
    /// Empty if nothing is known.
    hinted: Vec<Vec<u32>>,
}

struct Entry<T> {
    hash: u64,
    key_start: u32,
    key_end: u32,
    row: Option<T>,
    /// The last event that changed the row since the last hand-over.
    changed_by: Option<u32>,
}

impl<T> Entry<T> {
    /// `keys`: of all entries.
    fn key<'k>(&self, keys: &'k [u8]) -> &'k [u8] {
        &keys[self.key_start as usize..self.key_end as usize]
    }
}

/// An event of the batch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct At {
    /// Which one of the batch.
    pub(crate) event: u32,
    pub(crate) shape: usize,
    /// In the block of its shape.
    pub(crate) row: usize,
}

/// The place of an entry, good as long as the cache.
#[derive(Clone, Copy)]
pub(crate) struct Place(usize);

impl<T: Table> Cache<T> {
    /// For a batch of so many events.
    pub(crate) fn new(table: u16, events: usize) -> Self {
        Self {
            table,
            rows_expected: events,
            places: HashTable::new(),
            entries: Vec::new(),
            keys: Vec::new(),
            changed: Vec::new(),
            log: ChangeSet::default(),
            wanted: Vec::new(),
            hinted: Vec::new(),
        }
    }

    pub(crate) fn row(&self, place: Place) -> Option<&T> {
        self.entries[place.0].row.as_ref()
    }

    /// The row, to be changed in place. Call [`changed`](Self::changed) afterwards.
    pub(crate) fn row_mut(&mut self, place: Place) -> &mut Option<T> {
        &mut self.entries[place.0].row
    }

    pub(crate) fn set(&mut self, place: Place, row: Option<T>) {
        self.entries[place.0].row = row;
    }

    /// The entry that is probably the one the event asks for, if it is and has its row.
    #[inline]
    pub(crate) fn hinted(&self, event: At, key: T::Key<'_>) -> Option<Place> {
        let at = *self.hinted.get(event.shape)?.get(event.row)? as usize;
        // An event that names no key has the number of no entry.
        let row = self.entries.get(at)?.row.as_ref()?;
        row.has_key(key).then_some(Place(at))
    }

    /// Finds the entry of a key, or makes one with what `row` says.
    pub(crate) fn find_or_insert(&mut self, key: &[u8], row: impl FnOnce() -> Option<T>) -> Place {
        let hash = hash_bytes(key);
        if let Some(place) = self.find_hashed(hash, key) {
            return place;
        }
        let row = row();
        let place = self.entries.len();
        if place == 0 {
            self.make_room();
        }
        let number = u32::try_from(place).expect("a batch touches less than 4 billion rows");
        let key_start = end(&self.keys);
        self.keys.extend_from_slice(key);
        self.entries.push(Entry {
            hash,
            key_start,
            key_end: end(&self.keys),
            row,
            changed_by: None,
        });
        let entries = &self.entries;
        self.places
            .insert_unique(hash, number, |&at| entries[at as usize].hash);
        Place(place)
    }

    /// Notes that an event changed the row (or deleted it).
    pub(crate) fn changed(&mut self, place: Place, event: u32) {
        let entry = &mut self.entries[place.0];
        if T::UNIQUE {
            let key = entry.key(&self.keys);
            let write = entry
                .row
                .as_ref()
                .map(|row| |out: &mut Vec<u8>| row.write(out));
            self.log.push(event, self.table, key, write);
        } else if entry.changed_by.replace(event).is_none() {
            let number = u32::try_from(place.0).expect("checked when it was inserted");
            self.changed.push(number);
        }
    }

    /// Most events change a row that no other one of the batch does, or there are few of them.
    fn make_room(&mut self) {
        self.entries.reserve(self.rows_expected);
        // Nothing is in it yet that would have to be hashed again.
        self.places.reserve(self.rows_expected, |_| 0);
    }

    fn find_hashed(&self, hash: u64, key: &[u8]) -> Option<Place> {
        let found = self.places.find(hash, |&at| {
            self.entries[at as usize].hash == hash && same_bytes(self.key(at), key)
        });
        found.map(|&at| Place(at as usize))
    }

    fn key(&self, at: u32) -> &[u8] {
        self.entries[at as usize].key(&self.keys)
    }
}

/// A cache whose table is known by its number only.
pub(crate) trait AnyCache {
    /// Makes an entry for the key, to be filled by [`fetch_wanted`](Self::fetch_wanted); says which.
    fn want(&mut self, key: &[u8]) -> u32;

    /// Takes note, by shape and row, of the entries whose keys events probably ask for.
    fn hint(&mut self, entries: Vec<Vec<u32>>);

    /// Fills the entries that were made for it, with few calls.
    fn fetch_wanted(&mut self, host: &mut dyn Host);

    /// Moves the changes since the last hand-over behind those of `out`.
    fn hand_over(&mut self, out: &mut ChangeSet);
}

impl<T: Table> AnyCache for Cache<T> {
    fn want(&mut self, key: &[u8]) -> u32 {
        let known = self.entries.len();
        let Place(place) = self.find_or_insert(key, || None);
        let number = u32::try_from(place).expect("checked when it was inserted");
        if place == known {
            self.wanted.push(number);
        }
        number
    }

    fn hint(&mut self, entries: Vec<Vec<u32>>) {
        self.hinted = entries;
    }

    fn fetch_wanted(&mut self, host: &mut dyn Host) {
        let wanted = std::mem::take(&mut self.wanted);
        for wanted in wanted.chunks(ROWS_AT_ONCE) {
            let (mut keys, mut ends) = (Vec::new(), Vec::new());
            for &at in wanted {
                keys.extend_from_slice(self.key(at));
                ends.push(end(&keys));
            }
            let packed = host.get_many(self.table, &keys, &ends);
            for (&at, row) in wanted.iter().zip(packed.iter()) {
                self.entries[at as usize].row = (!row.is_empty()).then(|| read_row::<T>(row));
            }
        }
    }

    fn hand_over(&mut self, out: &mut ChangeSet) {
        out.append(&mut self.log);
        out.reserve(self.changed.len(), self.keys.len());
        for at in self.changed.drain(..) {
            let entry = &mut self.entries[at as usize];
            let event = entry
                .changed_by
                .take()
                .expect("a changed entry knows its event");
            let key = entry.key(&self.keys);
            let write = entry
                .row
                .as_ref()
                .map(|row| |out: &mut Vec<u8>| row.write(out));
            out.push(event, self.table, key, write);
        }
    }
}
