//! The row cache of one table. It works like a memtable, in one map: a row is *dirty* (changed since
//! the last freeze), *frozen* (in the writer's hands, not committed yet) or *clean* (as the table has
//! it, and free to be forgotten). Reads see all three alike. It knows nothing of databases;
//! [`tables`](super::tables) fetches what it misses.
//!
//! Key and row lie in one shared buffer. Freezing hands out clones of it and copies nothing; a row
//! that changes while the writer still has it gets a new buffer.

use std::sync::Arc;

use hashbrown::HashTable;

use super::absence::Absence;

/// What a slot costs beside its key and row, in bytes: the slot, its entry in the map, the buffer's
/// header, and what the allocator adds.
const SLOT_OVERHEAD_BYTES: usize = 96;

/// Number of a flush, from 1; 0: before the first.
pub(super) type FlushNumber = u32;

/// Where a row is in the cache, until it is forgotten.
pub(super) type SlotId = u32;

/// Whether the read model's table has a row under the key, once everything frozen is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Yes,
    No,
    Unknown,
}

/// What is known of one key.
#[derive(Debug, Clone)]
struct Slot {
    /// The key, then the row.
    bytes: Arc<[u8]>,
    hash: u64,
    key_bytes: u32,
    /// Without: there is no row under the key.
    has_row: bool,
    dirty: bool,
    /// Read or changed since the clock hand passed.
    used: bool,
    stored: Stored,
    frozen_in: FlushNumber,
}

/// A slot in the map, with half of its key's hash, so that most of what the map does is done without a
/// look at the slot.
#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u32,
    id: SlotId,
}

impl Entry {
    fn new(hash: u64, id: SlotId) -> Self {
        let tag = (hash >> 32) as u32;
        Self { tag, id }
    }

    /// The hash that the map goes by. It takes the lowest bits and the highest ones.
    fn hash(self) -> u64 {
        u64::from(self.tag) << 32 | u64::from(self.tag)
    }
}

/// What a slot was before a change, so that the change can be undone.
#[derive(Debug)]
pub(super) struct Before(Option<Slot>);

/// A changed row in the writer's hands.
#[derive(Debug)]
pub(super) struct FrozenRow {
    bytes: Arc<[u8]>,
    key_bytes: u32,
    has_row: bool,
    /// The table has no row under this key.
    pub(super) fresh: bool,
}

/// Rows of one table by key.
#[derive(Debug)]
pub(super) struct TableCache {
    slots: Vec<Option<Slot>>,
    by_key: HashTable<Entry>,
    free: Vec<SlotId>,
    /// Slots that became dirty since the last freeze; some of them more than once.
    dirty: Vec<SlotId>,
    bytes: usize,
    dirty_bytes: usize,
    /// The last flush that is committed.
    committed: FlushNumber,
    /// Where the next look for something to forget begins.
    hand: usize,
    absence: Absence,
    scratch: Vec<u8>,
}

impl Slot {
    fn key(&self) -> &[u8] {
        &self.bytes[..self.key_bytes as usize]
    }

    fn row(&self) -> Option<&[u8]> {
        self.has_row.then(|| &self.bytes[self.key_bytes as usize..])
    }

    fn cost(&self) -> usize {
        self.bytes.len() + SLOT_OVERHEAD_BYTES
    }
}

impl FrozenRow {
    pub(super) fn key(&self) -> &[u8] {
        &self.bytes[..self.key_bytes as usize]
    }

    /// Of key and row.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The whole row, or none to delete it.
    pub(super) fn row(&self) -> Option<&[u8]> {
        self.has_row.then(|| &self.bytes[self.key_bytes as usize..])
    }
}

impl TableCache {
    pub(super) fn new(absence: Absence) -> Self {
        Self {
            slots: Vec::new(),
            by_key: HashTable::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            bytes: 0,
            dirty_bytes: 0,
            committed: 0,
            hand: 0,
            absence,
            scratch: Vec::new(),
        }
    }

    /// `None`: not known here. `Some(None)`: there is no such row.
    pub(super) fn get(&mut self, key: &[u8]) -> Option<Option<&[u8]>> {
        let hash = hash(key);
        let Some(id) = self.find(hash, key) else {
            return self.absence.is_certain(hash).then_some(None);
        };
        let slot = self.slots[id as usize].as_mut().expect("the map names it");
        slot.used = true;
        Some(slot.row())
    }

    /// The row in a slot that is in use.
    pub(super) fn row_in(&self, id: SlotId) -> Option<&[u8]> {
        self.slots.get(id as usize)?.as_ref()?.row()
    }

    /// Whether there is a slot for the key.
    pub(super) fn knows(&self, key: &[u8]) -> bool {
        self.slot_of(key).is_some()
    }

    /// The slot of a key that has one.
    pub(super) fn slot_of(&self, key: &[u8]) -> Option<SlotId> {
        self.find(hash(key), key)
    }

    /// All rows that are known here.
    pub(super) fn rows(&self) -> impl Iterator<Item = (SlotId, &[u8], &[u8])> {
        (0..).zip(&self.slots).filter_map(|(id, slot)| {
            let slot = slot.as_ref()?;
            Some((id, slot.key(), slot.row()?))
        })
    }

    /// Whether every row of the table is known here.
    pub(super) fn is_complete(&self) -> bool {
        self.absence.is_total()
    }

    /// Remembers what the table holds under a key, unless something newer is known. Gives the slot
    /// where it did.
    pub(super) fn remember(&mut self, key: &[u8], row: Option<&[u8]>) -> Option<SlotId> {
        let hash = hash(key);
        if self.find(hash, key).is_some() {
            return None;
        }
        let stored = if row.is_some() {
            Stored::Yes
        } else {
            Stored::No
        };
        Some(self.insert(hash, key, row, stored, false))
    }

    /// What is there now, for [`restore`](Self::restore).
    pub(super) fn before(&self, key: &[u8]) -> Before {
        Before(
            self.slot_of(key)
                .and_then(|id| self.slots[id as usize].clone()),
        )
    }

    /// Changes a row.
    pub(super) fn change(&mut self, key: &[u8], row: Option<&[u8]>) -> SlotId {
        let hash = hash(key);
        let Some(id) = self.find(hash, key) else {
            let stored = if self.absence.is_certain(hash) {
                Stored::No
            } else {
                Stored::Unknown
            };
            let id = self.insert(hash, key, row, stored, true);
            self.dirty.push(id);
            return id;
        };
        let slot = self.slots[id as usize].as_mut().expect("the map names it");
        let before = slot.cost();
        slot.used = true;
        match (Arc::get_mut(&mut slot.bytes), row) {
            // A hot row mostly keeps its length; its buffer is used again.
            (Some(bytes), Some(row)) if bytes.len() == key.len() + row.len() => {
                bytes[key.len()..].copy_from_slice(row);
            }
            _ => slot.bytes = join(&mut self.scratch, key, row),
        }
        slot.has_row = row.is_some();
        let now = slot.cost();
        self.bytes = self.bytes + now - before;
        if slot.dirty {
            self.dirty_bytes = self.dirty_bytes + now - before;
        } else {
            slot.dirty = true;
            self.dirty_bytes += now;
            self.dirty.push(id);
        }
        id
    }

    /// Takes a change back: the slot is what it was.
    pub(super) fn restore(&mut self, key: &[u8], before: Before) {
        let Some(id) = self.slot_of(key) else { return };
        let now = self.slots[id as usize].take().expect("the map names it");
        self.bytes -= now.cost();
        if now.dirty {
            self.dirty_bytes -= now.cost();
        }
        match before.0 {
            Some(slot) => {
                self.bytes += slot.cost();
                if slot.dirty {
                    self.dirty_bytes += slot.cost();
                }
                self.slots[id as usize] = Some(slot);
            }
            None => self.unlink(id, now.hash),
        }
    }

    /// Hands the dirty rows to the writer; they are frozen until that flush is committed. Rows that
    /// came and went since the last flush are left out.
    pub(super) fn freeze(&mut self, flush: FlushNumber) -> Vec<FrozenRow> {
        let mut frozen = Vec::with_capacity(self.dirty.len());
        for id in self.dirty.drain(..) {
            // A slot may be listed twice, or gone, where a change was taken back.
            let Some(slot) = self.slots[id as usize].as_mut().filter(|slot| slot.dirty) else {
                continue;
            };
            if slot.has_row || slot.stored != Stored::No {
                frozen.push(FrozenRow {
                    bytes: slot.bytes.clone(),
                    key_bytes: slot.key_bytes,
                    has_row: slot.has_row,
                    fresh: slot.stored == Stored::No,
                });
            }
            slot.dirty = false;
            slot.frozen_in = flush;
            // Flushes are written in order, or everything here is dropped.
            slot.stored = if slot.has_row {
                Stored::Yes
            } else {
                Stored::No
            };
        }
        self.dirty_bytes = 0;
        frozen
    }

    /// The flush is committed: what it froze is clean, unless it changed since.
    pub(super) fn committed(&mut self, flush: FlushNumber) {
        self.committed = flush;
    }

    /// Forgets clean rows that were not used lately, until at most `bytes_max` are in use or nothing
    /// more is clean. `forget` is told of each slot that goes.
    pub(super) fn evict(&mut self, bytes_max: usize, mut forget: impl FnMut(SlotId, &[u8], &[u8])) {
        // Twice around: the first pass may only take the marks off.
        let mut looks = self.slots.len() * 2;
        while self.bytes > bytes_max && looks > 0 {
            looks -= 1;
            let at = self.hand;
            self.hand = (at + 1) % self.slots.len();
            let committed = self.committed;
            let Some(slot) = &mut self.slots[at] else {
                continue;
            };
            if slot.dirty || slot.frozen_in > committed {
                continue;
            }
            if std::mem::take(&mut slot.used) {
                continue;
            }
            let slot = self.slots[at].take().expect("seen just above");
            self.bytes -= slot.cost();
            if let Some(row) = slot.row() {
                self.absence.add(slot.hash);
                forget(slot_id(at), slot.key(), row);
            }
            self.unlink(slot_id(at), slot.hash);
        }
    }

    /// Memory in use, roughly, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory of dirty rows, roughly, in bytes.
    pub(super) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<SlotId> {
        let wanted = Entry::new(hash, 0);
        let is_it = |entry: &Entry| {
            entry.tag == wanted.tag
                && self.slots[entry.id as usize]
                    .as_ref()
                    .is_some_and(|slot| slot.key() == key)
        };
        let found = self.by_key.find(wanted.hash(), is_it);
        found.map(|entry| entry.id)
    }

    fn insert(
        &mut self,
        hash: u64,
        key: &[u8],
        row: Option<&[u8]>,
        stored: Stored,
        dirty: bool,
    ) -> SlotId {
        let slot = Slot {
            bytes: join(&mut self.scratch, key, row),
            hash,
            key_bytes: u32::try_from(key.len()).expect("keys are limited to far less"),
            has_row: row.is_some(),
            dirty,
            used: true,
            stored,
            frozen_in: 0,
        };
        self.bytes += slot.cost();
        if dirty {
            self.dirty_bytes += slot.cost();
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            slot_id(self.slots.len() - 1)
        });
        self.slots[id as usize] = Some(slot);
        let entry = Entry::new(hash, id);
        self.by_key
            .insert_unique(entry.hash(), entry, |entry| entry.hash());
        id
    }

    /// The slot is empty: nobody finds it any more, and another key may have it.
    fn unlink(&mut self, id: SlotId, hash: u64) {
        let wanted = Entry::new(hash, id).hash();
        if let Ok(entry) = self.by_key.find_entry(wanted, |known| known.id == id) {
            entry.remove();
        }
        self.free.push(id);
    }
}

fn slot_id(at: usize) -> SlotId {
    SlotId::try_from(at).expect("the budget is far below so many rows")
}

fn join(scratch: &mut Vec<u8>, key: &[u8], row: Option<&[u8]>) -> Arc<[u8]> {
    scratch.clear();
    scratch.extend_from_slice(key);
    scratch.extend_from_slice(row.unwrap_or_default());
    Arc::from(scratch.as_slice())
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// A fast hash of key bytes. Keys come from events, so somebody may choose them to collide; then
/// the version gets slow, and only that version.
fn hash(bytes: &[u8]) -> u64 {
    let mut state = bytes.len() as u64;
    let mut mix = |word: u64| {
        state = (state.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER);
        state ^= state >> 32;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        mix(u64::from_le_bytes(*word));
    }
    let mut tail = [0; 8];
    tail[..rest.len()].copy_from_slice(rest);
    mix(u64::from_le_bytes(tail));
    state.wrapping_mul(MULTIPLIER) ^ (state >> 29)
}

#[cfg(test)]
mod tests;
