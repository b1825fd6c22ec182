//! The row cache of one table. It works like a memtable, in one map: a row is *dirty* (changed since
//! the last freeze), *frozen* (in the writer's hands, not committed yet) or *clean* (as the table has
//! it, and free to be forgotten). Reads see all three alike. It knows nothing of databases;
//! [`tables`](super::tables) fetches what it misses.
//!
//! Keys and rows lie end to end in [`chunks`]. Freezing a lot hands out shares in them and copies
//! nothing; a row that changes while the writer still has a share in its chunk gets a new place.

mod chunks;
mod frozen;
mod key_map;
mod slots;

use super::absence::Absence;
use chunks::{Chunks, Place};
use frozen::Freezing;
pub(super) use frozen::FrozenRows;
use key_map::KeyMap;
use slots::Slots;

/// What a slot costs beside its key and row, in bytes: the slot, its entry in the map, the head
/// before its bytes, and what of its chunk is not in use.
const SLOT_OVERHEAD_BYTES: usize = 96;

/// Keys that are looked at ahead together.
pub(super) const KEYS_AHEAD: usize = 64;

/// Number of a flush, from 1; 0: before the first. After the last one they begin anew.
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

/// Whether the filters over forgotten keys have a key, or take it for one of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noted {
    Yes,
    No,
}

/// What is known of one key.
#[derive(Debug, Clone)]
struct Slot {
    hash: u64,
    /// Of the key, and the row behind it.
    place: Place,
    /// Of both.
    length: u32,
    frozen_in: FlushNumber,
    key_bytes: u16,
    /// Without: there is no row under the key.
    has_row: bool,
    dirty: bool,
    /// Read or changed since it came or the clock hand passed.
    used: bool,
    noted: Noted,
    stored: Stored,
}

/// What a slot was before a change, with its key and row, so that the change can be undone.
#[derive(Debug)]
pub(super) struct Before(Option<(Slot, Vec<u8>)>);

/// Which flushes the writer has in hand.
#[derive(Debug, Clone, Copy, Default)]
struct Flushes {
    /// The last one that is committed.
    committed: FlushNumber,
    /// The last one that froze rows.
    frozen: FlushNumber,
}

/// Rows of one table by key.
#[derive(Debug)]
pub(super) struct TableCache {
    slots: Slots,
    chunks: Chunks,
    by_key: KeyMap,
    /// Slots that became dirty since the last freeze; some of them more than once.
    dirty: Vec<SlotId>,
    bytes: usize,
    dirty_bytes: usize,
    flushes: Flushes,
    /// Where the next look for something to forget begins.
    hand: SlotId,
    absence: Absence,
}

impl Slot {
    fn key<'a>(&self, chunks: &'a Chunks) -> &'a [u8] {
        &self.bytes(chunks)[..usize::from(self.key_bytes)]
    }

    fn row<'a>(&self, chunks: &'a Chunks) -> Option<&'a [u8]> {
        let row = || &self.bytes(chunks)[usize::from(self.key_bytes)..];
        self.has_row.then(row)
    }

    /// Key and row.
    fn bytes<'a>(&self, chunks: &'a Chunks) -> &'a [u8] {
        chunks.get(self.place, self.length())
    }

    fn length(&self) -> usize {
        self.length as usize
    }

    /// Whether the table has it as it is.
    fn is_clean(&self, flushes: Flushes) -> bool {
        !self.dirty && !flushes.are_to_commit(self.frozen_in)
    }

    fn cost(&self) -> usize {
        self.length() + SLOT_OVERHEAD_BYTES
    }
}

impl Flushes {
    /// Whether that one is in hand. One of very long ago may have the same number; then its rows stay a
    /// little longer.
    fn are_to_commit(self, flush: FlushNumber) -> bool {
        let in_hand = self.frozen.wrapping_sub(self.committed);
        (1..=in_hand).contains(&flush.wrapping_sub(self.committed))
    }
}

impl TableCache {
    pub(super) fn new(absence: Absence) -> Self {
        Self {
            slots: Slots::default(),
            chunks: Chunks::default(),
            by_key: KeyMap::new(),
            dirty: Vec::new(),
            bytes: 0,
            dirty_bytes: 0,
            flushes: Flushes::default(),
            hand: 0,
            absence,
        }
    }

    /// `None`: not known here. `Some(None)`: there is no such row.
    pub(super) fn get(&mut self, key: &[u8]) -> Option<Option<&[u8]>> {
        let hash = hash(key);
        let Some(id) = self.find(hash, key) else {
            return self.absence.is_certain(hash).then_some(None);
        };
        let slot = self.slots.get_mut(id).expect("the map names it");
        slot.used = true;
        Some(slot.row(&self.chunks))
    }

    /// The row in a slot that is in use.
    pub(super) fn row_in(&self, id: SlotId) -> Option<&[u8]> {
        self.slots.get(id)?.row(&self.chunks)
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
        let slots = self.slots.iter();
        slots.filter_map(|(id, slot)| Some((id, slot.key(&self.chunks), slot.row(&self.chunks)?)))
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
        Some(self.insert(hash, key, row, stored, self.noted(hash), false))
    }

    /// What is there now, for [`restore`](Self::restore).
    pub(super) fn before(&self, key: &[u8]) -> Before {
        let slot = self.slot_of(key).and_then(|id| self.slots.get(id));
        Before(slot.map(|slot| {
            let bytes = slot.bytes(&self.chunks).to_vec();
            (slot.clone(), bytes)
        }))
    }

    /// Looks at what [`get`](Self::get) and [`change`](Self::change) will look at for the next keys, at
    /// most [`KEYS_AHEAD`]. All that lies far apart, and without a decision in between the processor waits
    /// for much of it at once, instead of for one after the other.
    pub(super) fn look_ahead<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        let mut hashes = [0; KEYS_AHEAD];
        let mut count = 0;
        for (place, key) in hashes.iter_mut().zip(keys) {
            *place = hash(key);
            count += 1;
        }
        let hashes = &hashes[..count];
        let seen = hashes.iter().map(|&hash| self.by_key.look(hash));
        std::hint::black_box(seen.fold(0, |seen, entry| seen ^ entry));
        let mut slots = [None; KEYS_AHEAD];
        for (slot, &hash) in slots.iter_mut().zip(hashes) {
            *slot = self.by_key.find(hash, |_| true);
        }
        let found = slots.iter().flatten();
        let found = found.filter_map(|&id| self.slots.get(id));
        let seen = found.filter_map(|slot| slot.bytes(&self.chunks).first());
        std::hint::black_box(seen.fold(0, |seen, byte| seen ^ byte));
        let missed = hashes.iter().zip(&slots).filter(|(_, slot)| slot.is_none());
        let seen = missed.map(|(&hash, _)| self.absence.look(hash));
        std::hint::black_box(seen.fold(0, |seen, word| seen ^ word));
    }

    /// Changes a row.
    pub(super) fn change(&mut self, key: &[u8], row: Option<&[u8]>) -> SlotId {
        let hash = hash(key);
        let Some(id) = self.find(hash, key) else {
            let noted = self.noted(hash);
            let stored = match noted {
                Noted::Yes => Stored::Unknown,
                Noted::No => Stored::No,
            };
            let id = self.insert(hash, key, row, stored, noted, true);
            self.dirty.push(id);
            return id;
        };
        let slot = self.slots.get_mut(id).expect("the map names it");
        let before = slot.cost();
        slot.used = true;
        let new = row.unwrap_or_default();
        let (old_place, old_length) = (slot.place, slot.length());
        let same_length = old_length == key.len() + new.len();
        let old = same_length.then(|| self.chunks.get_mut(old_place, old_length));
        if let Some(bytes) = old.flatten() {
            // A hot row mostly keeps its length; its place is used again.
            bytes[key.len()..].copy_from_slice(new);
        } else {
            slot.place = self.chunks.add(id, [key, new]);
            slot.length = length_of(key, new);
            self.chunks.remove(old_place, old_length);
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
        self.tidy();
        id
    }

    /// Takes a change back: the slot is what it was.
    pub(super) fn restore(&mut self, key: &[u8], before: Before) {
        let Some(id) = self.slot_of(key) else { return };
        let now = self.slots.get(id).expect("the map names it").clone();
        self.bytes -= now.cost();
        if now.dirty {
            self.dirty_bytes -= now.cost();
        }
        self.chunks.remove(now.place, now.length());
        match before.0 {
            Some((slot, bytes)) => {
                self.bytes += slot.cost();
                if slot.dirty {
                    self.dirty_bytes += slot.cost();
                }
                let place = self.chunks.add(id, [&bytes, &[]]);
                self.slots.set(id, Slot { place, ..slot });
            }
            None => {
                self.by_key.remove(now.hash, id);
                self.slots.remove(id);
            }
        }
        self.tidy();
    }

    /// Hands the dirty rows to the writer; they are frozen until that flush is committed. Rows that
    /// came and went since the last flush are left out.
    pub(super) fn freeze(&mut self, flush: FlushNumber) -> FrozenRows {
        let mut frozen = FrozenRows::new(self.dirty.len(), self.dirty_bytes);
        for id in self.dirty.drain(..) {
            // A slot may be listed twice, or gone, where a change was taken back.
            let Some(slot) = self.slots.get_mut(id).filter(|slot| slot.dirty) else {
                continue;
            };
            if slot.has_row || slot.stored != Stored::No {
                let row = Freezing {
                    place: slot.place,
                    length: slot.length,
                    key_bytes: slot.key_bytes,
                    has_row: slot.has_row,
                    fresh: slot.stored == Stored::No,
                };
                frozen.push(&mut self.chunks, row);
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
        self.flushes.frozen = flush;
        self.dirty_bytes = 0;
        frozen
    }

    /// The flush is committed: what it froze is clean, unless it changed since.
    pub(super) fn committed(&mut self, flush: FlushNumber) {
        self.flushes.committed = flush;
    }

    /// Forgets clean rows that were not used again lately, until at most `bytes_max` are in use or nothing
    /// more is clean. `forget` is told of each slot that goes.
    pub(super) fn evict(&mut self, bytes_max: usize, mut forget: impl FnMut(SlotId, &[u8], &[u8])) {
        // Twice around: the first pass may only take the marks off.
        let mut looks = self.slots.count() * 2;
        let mut looked_ahead = 0;
        while self.bytes > bytes_max && looks > 0 {
            looks -= 1;
            if looked_ahead == 0 {
                self.look_ahead_of_hand();
                looked_ahead = KEYS_AHEAD;
            }
            looked_ahead -= 1;
            let id = self.hand;
            self.hand = (id + 1) % SlotId::try_from(self.slots.count()).expect("they are numbered");
            let Some(slot) = self.slots.get_mut(id) else {
                continue;
            };
            if !slot.is_clean(self.flushes) {
                continue;
            }
            if std::mem::take(&mut slot.used) {
                continue;
            }
            let slot = self.slots.remove(id).expect("seen just above");
            self.by_key.remove(slot.hash, id);
            self.bytes -= slot.cost();
            if let Some(row) = slot.row(&self.chunks) {
                if slot.noted == Noted::No {
                    self.absence.add(slot.hash, self.slots.count());
                }
                forget(id, slot.key(&self.chunks), row);
            }
            self.chunks.remove(slot.place, slot.length());
        }
        // Rows that lie together are often forgotten together: what would move now may be gone then.
        self.tidy();
    }

    /// Looks at what forgetting the slots from the hand on will look at, as
    /// [`look_ahead`](Self::look_ahead) does.
    fn look_ahead_of_hand(&self) {
        let next = (self.hand..).take(KEYS_AHEAD);
        let next = next.filter_map(|id| self.slots.get(id));
        let goes = next.filter(|slot| !slot.used && slot.is_clean(self.flushes));
        let seen =
            goes.map(|&Slot { hash, .. }| self.by_key.look(hash) ^ self.absence.look_to_add(hash));
        std::hint::black_box(seen.fold(0, |seen, word| seen ^ word));
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
        let slot = |id| self.slots.get(id);
        let is_it = |id| slot(id).is_some_and(|slot| slot.key(&self.chunks) == key);
        self.by_key.find(hash, is_it)
    }

    /// Of a key that the cache does not know.
    fn noted(&self, hash: u64) -> Noted {
        if self.absence.is_certain(hash) {
            Noted::No
        } else {
            Noted::Yes
        }
    }

    fn insert(
        &mut self,
        hash: u64,
        key: &[u8],
        row: Option<&[u8]>,
        stored: Stored,
        noted: Noted,
        dirty: bool,
    ) -> SlotId {
        let id = self.slots.take_empty();
        let new = row.unwrap_or_default();
        let slot = Slot {
            hash,
            place: self.chunks.add(id, [key, new]),
            length: length_of(key, new),
            frozen_in: 0,
            key_bytes: u16::try_from(key.len()).expect("keys are limited to far less"),
            has_row: row.is_some(),
            dirty,
            used: false,
            noted,
            stored,
        };
        self.bytes += slot.cost();
        if dirty {
            self.dirty_bytes += slot.cost();
        }
        self.slots.set(id, slot);
        self.by_key.insert(hash, id);
        id
    }

    /// Moves what is left in chunks that are less than half in use.
    #[inline]
    fn tidy(&mut self) {
        while let Some(chunk) = self.chunks.take_sparse() {
            for (id, place, bytes) in chunk.entries() {
                let slot = self.slots.get_mut(id);
                if let Some(slot) = slot.filter(|slot| slot.place == place) {
                    slot.place = self.chunks.add(id, [bytes, &[]]);
                }
            }
            self.chunks.drop(chunk);
        }
    }
}

fn length_of(key: &[u8], row: &[u8]) -> u32 {
    u32::try_from(key.len() + row.len()).expect("rows are limited to far less")
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
    // Put together in a register: a word that was just written in parts can't be read back before
    // all that was written earlier is out of the way.
    let tail = rest.iter().rev();
    mix(tail.fold(0, |word, &byte| word << 8 | u64::from(byte)));
    state.wrapping_mul(MULTIPLIER) ^ (state >> 29)
}

#[cfg(test)]
mod tests;
