//! The caches of a projection's tables, found by the type of their rows.

use std::any::TypeId;

use crate::cache::{AnyCache, Cache};
use crate::table::Table;

/// In the order of the manifest.
#[derive(Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
}

struct Slot {
    row_type: TypeId,
    /// A [`Cache`] of rows of this type.
    cache: Box<dyn AnyCache>,
}

impl Slots {
    /// Adds the next table, for a batch of so many events.
    pub(crate) fn add<T: Table>(&mut self, events: usize) {
        let number = u16::try_from(self.slots.len()).expect("there are at most 64 tables");
        self.slots.push(Slot {
            row_type: TypeId::of::<T>(),
            cache: Box::new(Cache::<T>::new(number, events)),
        });
    }

    /// The cache for rows of this type.
    #[allow(
        unsafe_code,
        clippy::cast_ptr_alignment,
        reason = "every call of `Db` asks for a cache, and a checked cast would ask it for its type"
    )]
    pub(crate) fn of<T: Table>(&mut self) -> Option<&mut Cache<T>> {
        let row_type = TypeId::of::<T>();
        let slot = self
            .slots
            .iter_mut()
            .find(|slot| slot.row_type == row_type)?;
        let cache = std::ptr::from_mut(&mut *slot.cache).cast::<Cache<T>>();
        // SAFETY: only `add` makes slots, and there the cache has rows of the type that the slot
        // remembers. The reference to the cache is as long and as exclusive as the one to the slot.
        Some(unsafe { &mut *cache })
    }

    pub(crate) fn nth(&mut self, table: usize) -> &mut dyn AnyCache {
        &mut *self.slots[table].cache
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut dyn AnyCache> {
        self.slots.iter_mut().map(|slot| &mut *slot.cache as _)
    }
}
