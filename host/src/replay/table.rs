//! One table of a build: its cached rows, their orders for the indexes that are scanned, and who
//! holds which unique value. It asks nobody; [`tables`](super::tables) fetches what is missing here.

use std::collections::HashMap;
use std::sync::Arc;

use super::absence::Absence;
use super::cache::{Before, FlushNumber, FrozenRows, SlotId, TableCache};
use super::order::Order;
use super::shape::Shape;
use crate::read_model::ReadModelError;

/// A value of a unique index: the index's number and the encoded columns.
pub(super) type UniqueValue = (u16, Vec<u8>);

/// Who holds a unique value: a key, or nobody.
type Owners = HashMap<UniqueValue, Option<Vec<u8>>>;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) shape: Arc<Shape>,
    pub(super) cache: TableCache,
    /// By index; the key's own is among them once it is scanned.
    orders: HashMap<u16, Order>,
    /// Unique values that changed since they were last known from the read model.
    owners: Owners,
    /// How many of them became nobody's since those were looked for, roughly.
    released: usize,
    /// Those of them that the writer has in its hands.
    frozen_owners: Owners,
    /// Indexes that the read model has for certain.
    built: Vec<u16>,
}

impl Table {
    /// `from_nothing`: the read model's table is empty.
    pub(super) fn new(shape: Shape, from_nothing: bool) -> Self {
        Self {
            shape: Arc::new(shape),
            cache: TableCache::new(Absence::new(from_nothing)),
            orders: HashMap::new(),
            owners: Owners::new(),
            released: 0,
            frozen_owners: Owners::new(),
            built: Vec::new(),
        }
    }

    /// Whether rows are kept in some index's order, and must be rows for that.
    pub(super) fn is_ordered(&self) -> bool {
        !self.orders.is_empty()
    }

    /// Changes a row.
    pub(super) fn change(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<(), ReadModelError> {
        if self.orders.is_empty() {
            self.cache.change(key, row);
            return Ok(());
        }
        // What can fail comes first.
        let mut places = Vec::with_capacity(self.orders.len());
        for &index in self.orders.keys() {
            let place = row.map(|row| self.shape.place_of(index, row, key));
            places.push((index, place.transpose()?));
        }
        self.leave_orders(key)?;
        let slot = self.cache.change(key, row);
        for (index, place) in places {
            if let (Some(order), Some(place)) = (self.orders.get_mut(&index), place) {
                order.add(place, slot);
            }
        }
        Ok(())
    }

    /// Takes a change back.
    pub(super) fn restore(&mut self, key: &[u8], before: Before) {
        // Rows that are in the orders had their places computed before.
        let _ = self.leave_orders(key);
        self.cache.restore(key, before);
        if let Some(slot) = self.cache.slot_of(key) {
            let _ = self.enter_orders(slot, key);
        }
    }

    /// Remembers what the read model holds under a key, unless something newer is known.
    pub(super) fn remember(
        &mut self,
        key: &[u8],
        row: Option<&[u8]>,
    ) -> Result<(), ReadModelError> {
        match self.cache.remember(key, row) {
            Some(slot) => self.enter_orders(slot, key),
            None => Ok(()),
        }
    }

    /// Brings the cached rows into the order of an index, unless they are.
    pub(super) fn order(&mut self, index: u16) -> Result<(), ReadModelError> {
        if !self.orders.contains_key(&index) {
            let mut order = Order::default();
            for (slot, key, row) in self.cache.rows() {
                order.add(self.shape.place_of(index, row, key)?, slot);
            }
            self.orders.insert(index, order);
        }
        Ok(())
    }

    /// The cached rows, and the order that [`order`](Self::order) brought them into.
    pub(super) fn in_order(&self, index: u16) -> (&TableCache, &Order) {
        (&self.cache, &self.orders[&index])
    }

    /// Whether [`note_index`](Self::note_index) noted it.
    pub(super) fn has_index(&self, index: u16) -> bool {
        self.built.contains(&index)
    }

    /// The read model has this index.
    pub(super) fn note_index(&mut self, index: u16) {
        self.built.push(index);
    }

    /// Who holds a unique value; none if it is not known here.
    pub(super) fn owner(&self, value: &UniqueValue) -> Option<Option<Vec<u8>>> {
        let known = self.owners.get(value);
        let known = known.or_else(|| self.frozen_owners.get(value));
        // While every row is known here, nobody else holds anything.
        let nobody = || self.cache.is_complete().then_some(None);
        known.cloned().or_else(nobody)
    }

    /// Notes who holds a unique value, or takes such a note back. Gives what was noted before.
    pub(super) fn set_owner(
        &mut self,
        value: UniqueValue,
        owner: Option<Option<Vec<u8>>>,
    ) -> Option<Option<Vec<u8>>> {
        self.released += usize::from(owner == Some(None));
        match owner {
            Some(owner) => self.owners.insert(value, owner),
            None => self.owners.remove(&value),
        }
    }

    /// Values of unique indexes that are noted.
    #[cfg(test)]
    pub(super) fn owners_noted(&self) -> usize {
        self.owners.len()
    }

    /// Hands the changed rows to the writer.
    pub(super) fn freeze(&mut self, flush: FlushNumber) -> FrozenRows {
        // As long as every row is known here, nobody else knows who holds a value.
        if !self.cache.is_complete() {
            self.frozen_owners = std::mem::take(&mut self.owners);
        } else if self.released > self.owners.len() / 2 {
            // And what is not noted is nobody's.
            self.owners.retain(|_, owner| owner.is_some());
            self.released = 0;
        }
        self.cache.freeze(flush)
    }

    /// The flush is committed.
    pub(super) fn committed(&mut self, flush: FlushNumber) {
        self.frozen_owners.clear();
        self.cache.committed(flush);
    }

    /// Forgets clean rows until at most `bytes_max` are in use, as far as possible.
    pub(super) fn evict(&mut self, bytes_max: usize) {
        let Self {
            cache,
            orders,
            shape,
            ..
        } = self;
        cache.evict(bytes_max, |_, key, row| {
            for (&index, order) in &mut *orders {
                // It was computed before, when the row came.
                if let Ok(place) = shape.place_of(index, row, key) {
                    order.remove(&place);
                }
            }
        });
    }

    fn enter_orders(&mut self, slot: SlotId, key: &[u8]) -> Result<(), ReadModelError> {
        let Some(row) = self.cache.row_in(slot) else {
            return Ok(());
        };
        for (&index, order) in &mut self.orders {
            order.add(self.shape.place_of(index, row, key)?, slot);
        }
        Ok(())
    }

    fn leave_orders(&mut self, key: &[u8]) -> Result<(), ReadModelError> {
        let Some(row) = self
            .cache
            .slot_of(key)
            .and_then(|slot| self.cache.row_in(slot))
        else {
            return Ok(());
        };
        for (&index, order) in &mut self.orders {
            order.remove(&self.shape.place_of(index, row, key)?);
        }
        Ok(())
    }
}
