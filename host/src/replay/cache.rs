//! The row cache of one table: rows that changed and are not written yet, and rows that were read.
//! It works like a memtable: reads see it first, a flush empties it of changes. It knows nothing of
//! databases; [`tables`](super::tables) fetches what it misses.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// What a slot costs beside its key and row, in bytes.
const SLOT_OVERHEAD_BYTES: usize = 96;

/// Whether the read model's table has a row under the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    Yes,
    No,
    Unknown,
}

/// What is known of one key.
#[derive(Debug)]
struct Slot {
    /// The row as readers must see it; none: there is none.
    row: Option<Box<[u8]>>,
    stored: Stored,
    dirty: bool,
}

/// A changed row on its way to the writer.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirtyRow<'a> {
    pub(super) key: &'a [u8],
    pub(super) row: Option<&'a [u8]>,
    /// The table has no row under this key.
    pub(super) fresh: bool,
}

/// Rows of one table by key.
#[derive(Debug, Default)]
pub(super) struct TableCache {
    slots: HashMap<Box<[u8]>, Slot, BuildHasherDefault<KeyHasher>>,
    bytes: usize,
    dirty_bytes: usize,
}

impl TableCache {
    /// `None`: not known here. `Some(None)`: there is no such row.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.slots.get(key).map(|slot| slot.row.as_deref())
    }

    /// Remembers what the table holds under a key, unless something newer is known.
    pub(super) fn remember(&mut self, key: &[u8], row: Option<&[u8]>) {
        if self.slots.contains_key(key) {
            return;
        }
        self.bytes += cost(key, row);
        let stored = if row.is_some() {
            Stored::Yes
        } else {
            Stored::No
        };
        self.slots.insert(
            key.into(),
            Slot {
                row: row.map(Into::into),
                stored,
                dirty: false,
            },
        );
    }

    /// Changes a row. `absent`: a key that is not known here is not in the table either.
    pub(super) fn change(&mut self, key: &[u8], row: Option<&[u8]>, absent: bool) {
        let now = cost(key, row);
        if let Some(slot) = self.slots.get_mut(key) {
            let before = cost(key, slot.row.as_deref());
            self.bytes = self.bytes + now - before;
            self.dirty_bytes = self.dirty_bytes + now - if slot.dirty { before } else { 0 };
            slot.dirty = true;
            match (&mut slot.row, row) {
                // A hot row mostly keeps its length; its buffer is used again.
                (Some(old), Some(new)) if old.len() == new.len() => old.copy_from_slice(new),
                (old, new) => *old = new.map(Into::into),
            }
        } else {
            let stored = if absent { Stored::No } else { Stored::Unknown };
            self.bytes += now;
            self.dirty_bytes += now;
            self.slots.insert(
                key.into(),
                Slot {
                    row: row.map(Into::into),
                    stored,
                    dirty: true,
                },
            );
        }
    }

    /// Changed rows in key order. Rows that came and went since the last flush are left out.
    pub(super) fn dirty(&self) -> Vec<DirtyRow<'_>> {
        let mut dirty: Vec<DirtyRow<'_>> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.dirty && (slot.row.is_some() || slot.stored != Stored::No))
            .map(|(key, slot)| DirtyRow {
                key,
                row: slot.row.as_deref(),
                fresh: slot.stored == Stored::No,
            })
            .collect();
        dirty.sort_unstable_by_key(|it| it.key);
        dirty
    }

    pub(super) fn has_dirty(&self) -> bool {
        self.dirty_bytes > 0
    }

    /// The changed rows are in the table now.
    pub(super) fn mark_written(&mut self) {
        for slot in self.slots.values_mut().filter(|slot| slot.dirty) {
            slot.dirty = false;
            slot.stored = if slot.row.is_some() {
                Stored::Yes
            } else {
                Stored::No
            };
        }
        self.dirty_bytes = 0;
    }

    /// Forgets everything; nothing may be dirty.
    pub(super) fn clear(&mut self) {
        debug_assert!(!self.has_dirty(), "changes would be lost");
        self.slots.clear();
        self.bytes = 0;
    }

    /// Memory in use, roughly, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory of changed rows, roughly, in bytes.
    pub(super) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }
}

fn cost(key: &[u8], row: Option<&[u8]>) -> usize {
    key.len() + row.map_or(0, <[u8]>::len) + SLOT_OVERHEAD_BYTES
}

/// A fast hash of key bytes. Keys come from events, so somebody may choose them to collide; then
/// the version gets slow, and only that version.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct KeyHasher(u64);

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut state = self.0;
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            state = (state.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(MULTIPLIER);
        }
        let mut tail = [0; 8];
        tail[..rest.len()].copy_from_slice(rest);
        state = (state.rotate_left(23) ^ u64::from_le_bytes(tail)).wrapping_mul(MULTIPLIER);
        self.0 = state ^ (state >> 32);
    }

    fn write_usize(&mut self, length: usize) {
        self.0 = (self.0 ^ length as u64).wrapping_mul(MULTIPLIER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_see_changes_and_flushes_see_them_once() {
        let mut cache = TableCache::default();
        assert_eq!(cache.get(b"a"), None);
        cache.remember(b"a", Some(b"old"));
        cache.change(b"a", Some(b"new"), false);
        cache.change(b"b", Some(b"fresh"), true);
        cache.change(b"c", Some(b"gone soon"), true);
        cache.change(b"c", None, true);
        cache.remember(b"a", Some(b"stale"));
        assert_eq!(cache.get(b"a"), Some(Some(&b"new"[..])));
        assert_eq!(cache.get(b"c"), Some(None));
        let dirty: Vec<_> = cache
            .dirty()
            .iter()
            .map(|it| (it.key.to_vec(), it.fresh))
            .collect();
        assert_eq!(dirty, [(b"a".to_vec(), false), (b"b".to_vec(), true)]);
        cache.mark_written();
        assert!(!cache.has_dirty());
        assert_eq!(cache.dirty().len(), 0);
        cache.change(b"b", None, false);
        assert_eq!(
            cache.dirty().len(),
            1,
            "a stored row's removal must be written"
        );
    }

    #[test]
    fn memory_is_counted_both_ways() {
        let mut cache = TableCache::default();
        cache.change(b"key", Some(&[0; 100]), true);
        let one = cache.bytes();
        cache.change(b"key", Some(&[0; 50]), true);
        assert_eq!(cache.bytes(), one - 50);
        assert_eq!(cache.dirty_bytes(), cache.bytes());
        cache.mark_written();
        cache.clear();
        assert_eq!((cache.bytes(), cache.dirty_bytes()), (0, 0));
    }
}
