//! Which slot a key has, by the key's hash: a table with open addressing. An entry is found and made
//! in one place of memory, so a key that is looked for ahead costs no wait any more when it comes, new
//! or not; and growing goes over both tables from front to back.

use super::SlotId;

/// A power of two.
const ENTRIES_MIN: usize = 16;
/// Of all entries so many are in use at most.
const LOAD_MAX: (usize, usize) = (2, 3);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct KeyMap {
    /// Each is at its home or behind it, with no empty one in between. A power of two of them.
    entries: Vec<Entry>,
    used: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    half_hash: u32,
    /// The slot's number and one; 0: there is none.
    slot_and_one: u32,
}

impl Entry {
    const EMPTY: Self = Self {
        half_hash: 0,
        slot_and_one: 0,
    };

    fn new(hash: u64, slot: SlotId) -> Self {
        Self {
            half_hash: half_of(hash),
            slot_and_one: slot + 1,
        }
    }

    fn slot(self) -> Option<SlotId> {
        self.slot_and_one.checked_sub(1)
    }
}

fn half_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl KeyMap {
    pub(super) fn new() -> Self {
        Self {
            entries: vec![Entry::EMPTY; ENTRIES_MIN],
            used: 0,
        }
    }

    /// The slot with this hash of which `is_it` holds.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(SlotId) -> bool) -> Option<SlotId> {
        let half_hash = half_of(hash);
        let mut at = self.home(half_hash);
        loop {
            let entry = self.entries[at];
            let slot = entry.slot()?;
            if entry.half_hash == half_hash && is_it(slot) {
                return Some(slot);
            }
            at = self.behind(at);
        }
    }

    /// What is in memory where the slot with this hash is or will be.
    pub(super) fn look(&self, hash: u64) -> u32 {
        self.entries[self.home(half_of(hash))].slot_and_one
    }

    /// Adds a slot, which must not be here.
    pub(super) fn insert(&mut self, hash: u64, slot: SlotId) {
        if (self.used + 1) * LOAD_MAX.1 > self.entries.len() * LOAD_MAX.0 {
            self.grow();
        }
        self.used += 1;
        self.add(Entry::new(hash, slot));
    }

    /// Removes a slot, if it is here.
    pub(super) fn remove(&mut self, hash: u64, slot: SlotId) {
        let wanted = Entry::new(hash, slot);
        let mut hole = self.home(wanted.half_hash);
        while self.entries[hole] != wanted {
            if self.entries[hole] == Entry::EMPTY {
                return;
            }
            hole = self.behind(hole);
        }
        self.used -= 1;
        // Those behind it move up, as far as their homes allow.
        let mut at = hole;
        loop {
            at = self.behind(at);
            let entry = self.entries[at];
            if entry == Entry::EMPTY {
                break;
            }
            let home = self.home(entry.half_hash);
            if self.distance(home, at) >= self.distance(hole, at) {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = Entry::EMPTY;
    }

    fn add(&mut self, entry: Entry) {
        let mut at = self.home(entry.half_hash);
        while self.entries[at] != Entry::EMPTY {
            at = self.behind(at);
        }
        self.entries[at] = entry;
    }

    fn grow(&mut self) {
        // Written now: pages that are zero by themselves and are looked at before they are written
        // would be made twice.
        let twice = vec![Entry::EMPTY; self.entries.len() * 2];
        let old = std::mem::replace(&mut self.entries, twice);
        for entry in old {
            if entry != Entry::EMPTY {
                self.add(entry);
            }
        }
    }

    /// Where an entry is unless others are there: homes are in the order of the hashes.
    fn home(&self, half_hash: u32) -> usize {
        let scaled = (u64::from(half_hash) * self.entries.len() as u64) >> 32;
        usize::try_from(scaled).expect("less than the number of entries")
    }

    fn behind(&self, at: usize) -> usize {
        (at + 1) & (self.entries.len() - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.entries.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Few homes and many of them at the end, so that entries push each other on and around.
    fn hash(key: u8) -> u64 {
        let high = if key.is_multiple_of(3) {
            u64::MAX
        } else {
            u64::from(key) << 61
        };
        high << 32 | u64::from(key)
    }

    proptest! {
        #[test]
        fn it_finds_what_a_map_finds(steps in prop::collection::vec((0..40_u8, any::<bool>()), 0..200)) {
            let mut map = KeyMap::new();
            let mut expected = HashMap::new();
            for (number, (key, is_there)) in (0..).zip(steps) {
                if let Some(slot) = expected.remove(&key) {
                    map.remove(hash(key), slot);
                    map.remove(hash(key), slot);
                }
                if is_there {
                    map.insert(hash(key), number);
                    expected.insert(key, number);
                }
                for key in 0..40 {
                    let wanted = expected.get(&key).copied();
                    prop_assert_eq!(map.find(hash(key), |slot| Some(slot) == wanted), wanted);
                }
            }
        }
    }

    #[test]
    fn it_grows() {
        let mut map = KeyMap::new();
        let hash = |slot: SlotId| u64::from(slot + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for slot in 0..100_000 {
            map.insert(hash(slot), slot);
        }
        for slot in 0..100_000 {
            assert_eq!(map.find(hash(slot), |found| found == slot), Some(slot));
            assert_eq!(map.find(hash(slot + 100_000), |found| found == slot), None);
        }
    }
}
