//! The slots of a table by their numbers.

use super::{Slot, SlotId};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Vec<Option<Slot>>,
    free: Vec<SlotId>,
}

impl Slots {
    /// How many there are, empty ones included.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, id: SlotId) -> Option<&Slot> {
        self.all.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: SlotId) -> Option<&mut Slot> {
        self.all.get_mut(id as usize)?.as_mut()
    }

    /// All that are in use.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        let all = (0..).zip(&self.all);
        all.filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
    }

    /// The number of a slot that is empty; [`set`](Self::set) is to follow.
    pub(super) fn take_empty(&mut self) -> SlotId {
        self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            SlotId::try_from(self.all.len() - 1).expect("the budget is far below so many rows")
        })
    }

    pub(super) fn set(&mut self, id: SlotId, slot: Slot) {
        self.all[id as usize] = Some(slot);
    }

    /// Empties a slot, if it is in use, for another key.
    pub(super) fn remove(&mut self, id: SlotId) -> Option<Slot> {
        let slot = self.all.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(slot)
    }
}
