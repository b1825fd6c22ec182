//! The tables of one build as its module sees them: what the current call has staged, over the row
//! cache, over the read model. Also the writer: it flushes changed rows, sorted, with the
//! checkpoint, in one transaction.
//!
//! Tables with a unique index take each change by itself, in order, so that a duplicate is the
//! doing of one event whatever the cut into batches was.

use std::collections::HashMap;

use retell_contract::manifest::Manifest;

use super::cache::TableCache;
use super::changes::{Change, Changes, MergeError, unpack};
use super::shape::Shape;
use crate::error_chain;
use crate::limits;
use crate::read_model::{Checkpoint, KeyedRow, ReadModel, ReadModelError, RowChange};
use crate::wasm::{ChangeSet, PackedRows, RowSource, RowSourceError};

/// Who holds a unique value: a key, or nobody.
type Owners = HashMap<(u16, Vec<u8>), Option<Vec<u8>>>;

/// Changes of the current call that count only if it succeeds.
#[derive(Debug, Default)]
struct Overlay {
    rows: Vec<HashMap<Vec<u8>, Option<Vec<u8>>>>,
    owners: Vec<Owners>,
    is_empty: bool,
}

impl Overlay {
    fn new(tables: usize) -> Self {
        Self {
            rows: (0..tables).map(|_| HashMap::new()).collect(),
            owners: (0..tables).map(|_| HashMap::new()).collect(),
            is_empty: true,
        }
    }

    fn clear(&mut self) {
        if !self.is_empty {
            self.rows.iter_mut().for_each(HashMap::clear);
            self.owners.iter_mut().for_each(HashMap::clear);
            self.is_empty = true;
        }
    }
}

/// See the module's documentation.
pub(super) struct Tables {
    model: Box<dyn ReadModel>,
    shapes: Vec<Shape>,
    caches: Vec<TableCache>,
    /// Unique values that changed since they were last known from the read model.
    owners: Vec<Owners>,
    overlay: Overlay,
    /// The caches hold every row there is, so a key that is not in them does not exist.
    complete: bool,
    cache_bytes_max: usize,
    events_in_call: usize,
}

impl Tables {
    /// `fresh`: the read model is empty.
    pub(super) fn new(
        manifest: &Manifest,
        model: Box<dyn ReadModel>,
        cache_bytes_max: usize,
        fresh: bool,
    ) -> Self {
        let shapes: Vec<Shape> = manifest.tables.iter().map(Shape::new).collect();
        Self {
            model,
            caches: shapes.iter().map(|_| TableCache::default()).collect(),
            owners: shapes.iter().map(|_| Owners::new()).collect(),
            overlay: Overlay::new(shapes.len()),
            shapes,
            complete: fresh,
            cache_bytes_max,
            events_in_call: 0,
        }
    }

    pub(super) fn model(&mut self) -> &mut dyn ReadModel {
        &mut *self.model
    }

    pub(super) fn into_model(self) -> Box<dyn ReadModel> {
        self.model
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        self.model.checkpoint()
    }

    /// Memory of changed rows, roughly, in bytes.
    pub(super) fn dirty_bytes(&self) -> usize {
        self.caches.iter().map(TableCache::dirty_bytes).sum()
    }

    /// A call into the module begins, with a batch of so many events.
    pub(super) fn begin_call(&mut self, events: usize) {
        self.overlay.clear();
        self.events_in_call = events;
    }

    /// The call failed: what it staged does not count.
    pub(super) fn forget_staged(&mut self) {
        self.overlay.clear();
    }

    /// The call succeeded: takes what it staged and what it returned, whole or not at all.
    pub(super) fn merge(&mut self, changes: &ChangeSet, events: usize) -> Result<(), MergeError> {
        let changes = Changes::check(changes, self.shapes.len(), events)?;
        // First what can fail.
        for change in changes.iter() {
            if self.shapes[usize::from(change.table)].has_unique {
                self.put_in_overlay(&change)?;
            }
        }
        let complete = self.complete;
        if !self.overlay.is_empty {
            for (table, rows) in self.overlay.rows.iter_mut().enumerate() {
                for (key, row) in rows.drain() {
                    self.caches[table].change(&key, row.as_deref(), complete);
                }
                self.owners[table].extend(self.overlay.owners[table].drain());
            }
            self.overlay.is_empty = true;
        }
        for change in changes
            .iter()
            .filter(|it| !self.shapes[usize::from(it.table)].has_unique)
        {
            self.caches[usize::from(change.table)].change(change.key, change.row, complete);
        }
        Ok(())
    }

    /// Writes all changed rows with the checkpoint, in one transaction, and keeps within the
    /// cache's budget.
    pub(super) fn flush(
        &mut self,
        checkpoint: Checkpoint,
        events_per_s: f64,
    ) -> Result<(), ReadModelError> {
        for table in 0..self.shapes.len() {
            self.write(table)?;
        }
        self.model.commit(checkpoint, events_per_s)?;
        let bytes: usize = self.caches.iter().map(TableCache::bytes).sum();
        if bytes > self.cache_bytes_max {
            self.caches.iter_mut().for_each(TableCache::clear);
            self.complete = false;
        }
        // While the caches are complete nobody else knows who holds a value.
        if !self.complete {
            self.owners.iter_mut().for_each(HashMap::clear);
        }
        Ok(())
    }

    /// Writes a table's changed rows, sorted by key, into the open transaction.
    fn write(&mut self, table: usize) -> Result<(), ReadModelError> {
        let cache = &mut self.caches[table];
        if !cache.has_dirty() {
            return Ok(());
        }
        let shape = &self.shapes[table];
        let dirty = cache.dirty();
        let mut changes = Vec::with_capacity(dirty.len());
        for row in dirty {
            if let Some(bytes) = row.row {
                shape.check_key(row.key, bytes)?;
            }
            changes.push(RowChange {
                table: table_number(table),
                key: row.key,
                row: row.row,
                fresh: row.fresh,
            });
        }
        self.model.write(&changes)?;
        drop(changes);
        cache.mark_written();
        Ok(())
    }

    /// The row under a key, as the current call must see it.
    fn current(&mut self, table: usize, key: &[u8]) -> Result<Option<Vec<u8>>, ReadModelError> {
        if let Some(row) = self.overlay.rows[table].get(key) {
            return Ok(row.clone());
        }
        if let Some(row) = self.caches[table].get(key) {
            return Ok(row.map(<[u8]>::to_vec));
        }
        if self.complete {
            return Ok(None);
        }
        let row = self
            .model
            .get_many(table_number(table), &[key])?
            .pop()
            .flatten();
        self.caches[table].remember(key, row.as_deref());
        Ok(row)
    }

    /// Takes one change of the current call, checking unique values.
    fn put_in_overlay(&mut self, change: &Change<'_>) -> Result<(), MergeError> {
        let table = usize::from(change.table);
        self.overlay.is_empty = false;
        if self.shapes[table].has_unique {
            let old = self.current(table, change.key)?;
            for index in 0..self.shapes[table].indexes.len() {
                if self.shapes[table].indexes[index].unique {
                    self.move_unique_value(change, index, old.as_deref())?;
                }
            }
        }
        self.overlay.rows[table].insert(change.key.to_vec(), change.row.map(<[u8]>::to_vec));
        Ok(())
    }

    /// A row's value in a unique index changes from its old row's to its new row's.
    fn move_unique_value(
        &mut self,
        change: &Change<'_>,
        index: usize,
        old: Option<&[u8]>,
    ) -> Result<(), MergeError> {
        let table = usize::from(change.table);
        let shape = &self.shapes[table];
        let value = |row: &[u8]| shape.unique_value(index, row);
        let before = old.map(value).transpose()?.flatten();
        let after = change.row.map(value).transpose()?.flatten();
        if before == after {
            return Ok(());
        }
        let number = table_number(index);
        if let Some(value) = &after {
            let owner = self.owner(table, number, value)?;
            if owner.is_some_and(|owner| owner != change.key) {
                let shape = &self.shapes[table];
                return Err(MergeError::Duplicate {
                    event: change.event,
                    message: format!(
                        "table `{}`: another row has the same value in the unique index `{}`",
                        shape.name, shape.indexes[index].name
                    ),
                });
            }
        }
        let owners = &mut self.overlay.owners[table];
        if let Some(value) = before {
            owners.insert((number, value), None);
        }
        if let Some(value) = after {
            owners.insert((number, value), Some(change.key.to_vec()));
        }
        Ok(())
    }

    /// Who holds a unique value, as the current call must see it.
    fn owner(
        &mut self,
        table: usize,
        index: u16,
        value: &[u8],
    ) -> Result<Option<Vec<u8>>, ReadModelError> {
        let known = (index, value.to_vec());
        if let Some(owner) = self.overlay.owners[table]
            .get(&known)
            .or_else(|| self.owners[table].get(&known))
        {
            return Ok(owner.clone());
        }
        if self.complete {
            return Ok(None);
        }
        self.model.owner(table_number(table), index, value)
    }

    /// One page of a scan: the read model's rows, with the current call's changes over them.
    fn scan_merged(
        &mut self,
        table: usize,
        index: u16,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, ReadModelError> {
        // Rows of earlier batches are written first; they are committed with the next checkpoint.
        self.write(table)?;
        let shape = &self.shapes[table];
        let staged = staged_places(shape, index, prefix, after, &self.overlay.rows[table])?;
        let changed = &self.overlay.rows[table];
        let mut staged = staged.into_iter().peekable();
        let mut page = Vec::new();
        let mut from = after.map(<[u8]>::to_vec);
        loop {
            let wanted = limit - page.len();
            let asked = u32::try_from(wanted).unwrap_or(u32::MAX);
            let rows =
                self.model
                    .scan(table_number(table), index, prefix, from.as_deref(), asked)?;
            let last_page = rows.len() < wanted;
            for KeyedRow { key, row } in rows {
                let place = shape.place_of(index, &row, &key)?;
                while page.len() < limit
                    && let Some(earlier) = staged.next_if(|it| it.place < place)
                {
                    page.push(earlier.row.to_vec());
                }
                if page.len() < limit && !changed.contains_key(&key) {
                    page.push(row);
                }
                from = Some(place);
            }
            if last_page {
                page.extend(staged.map(|it| it.row.to_vec()).take(limit - page.len()));
                return Ok(page);
            }
            if page.len() >= limit {
                return Ok(page);
            }
        }
    }
}

/// A staged row and where it stands in a scan's order.
struct StagedRow<'a> {
    place: Vec<u8>,
    row: &'a [u8],
}

/// The staged rows that a scan must show, in its order.
fn staged_places<'a>(
    shape: &Shape,
    index: u16,
    prefix: &[u8],
    after: Option<&[u8]>,
    changed: &'a HashMap<Vec<u8>, Option<Vec<u8>>>,
) -> Result<Vec<StagedRow<'a>>, ReadModelError> {
    let mut staged = Vec::new();
    for (key, row) in changed {
        let Some(row) = row else { continue };
        let place = shape.place_of(index, row, key)?;
        if place.starts_with(prefix) && after.is_none_or(|after| place.as_slice() > after) {
            staged.push(StagedRow { place, row });
        }
    }
    staged.sort_by(|a, b| a.place.cmp(&b.place));
    Ok(staged)
}

fn table_number(table: usize) -> u16 {
    u16::try_from(table).expect("the manifest check limits tables and indexes")
}

impl RowSource for Tables {
    fn get_many(
        &mut self,
        table: u16,
        keys: &[u8],
        key_ends: &[u32],
    ) -> Result<PackedRows, RowSourceError> {
        let number = table;
        let table = self.known_table(table)?;
        let keys =
            unpack(keys, key_ends).ok_or_else(|| broken("the ends of the keys make no sense"))?;
        let missing: Vec<&[u8]> = if self.complete {
            Vec::new()
        } else {
            let known = |key: &[u8]| {
                self.overlay.rows[table].contains_key(key) || self.caches[table].get(key).is_some()
            };
            keys.iter().copied().filter(|key| !known(key)).collect()
        };
        if !missing.is_empty() {
            let found = self.model.get_many(number, &missing).map_err(sort_error)?;
            for (key, row) in missing.iter().zip(found) {
                self.caches[table].remember(key, row.as_deref());
            }
        }
        let mut packed = PackedRows {
            row_ends: Vec::with_capacity(keys.len()),
            rows: Vec::new(),
        };
        for key in keys {
            let row = match self.overlay.rows[table].get(key) {
                Some(row) => row.as_deref(),
                None => self.caches[table].get(key).flatten(),
            };
            push_packed(&mut packed, row.unwrap_or_default())?;
        }
        Ok(packed)
    }

    fn scan(
        &mut self,
        table: u16,
        index: u16,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<PackedRows, RowSourceError> {
        let table = self.known_table(table)?;
        let limit = usize::try_from(limit).expect("a usize holds a u32 here");
        let rows = if limit == 0 {
            Vec::new()
        } else {
            self.scan_merged(table, index, prefix, after, limit)
                .map_err(sort_error)?
        };
        let mut packed = PackedRows {
            row_ends: Vec::with_capacity(rows.len()),
            rows: Vec::new(),
        };
        for row in rows {
            push_packed(&mut packed, &row)?;
        }
        Ok(packed)
    }

    fn stage(&mut self, changes: ChangeSet) -> Result<(), RowSourceError> {
        let staged = Changes::check(&changes, self.shapes.len(), self.events_in_call)
            .and_then(|changes| changes.iter().try_for_each(|it| self.put_in_overlay(&it)));
        staged.map_err(|error| match error {
            MergeError::Contract { message } => broken(message),
            MergeError::ReadModel(error) => sort_error(error),
            MergeError::Duplicate { event, message } => RowSourceError::Refused { event, message },
        })
    }
}

impl Tables {
    fn known_table(&self, table: u16) -> Result<usize, RowSourceError> {
        let known = usize::from(table);
        if known < self.shapes.len() {
            return Ok(known);
        }
        Err(broken(format!("table {table} is not in the manifest")))
    }
}

fn broken(message: impl Into<String>) -> RowSourceError {
    RowSourceError::Contract {
        message: message.into(),
    }
}

/// What the module asked wrongly is its own fault, the rest is the host's.
fn sort_error(error: ReadModelError) -> RowSourceError {
    if error.is_the_modules_fault() {
        broken(error_chain(&error))
    } else {
        RowSourceError::Host {
            source: Box::new(error),
        }
    }
}

fn push_packed(packed: &mut PackedRows, row: &[u8]) -> Result<(), RowSourceError> {
    if packed.rows.len() + row.len() > limits::GUEST_CALL_BYTES_MAX {
        let bytes_max = limits::GUEST_CALL_BYTES_MAX;
        return Err(broken(format!(
            "it asks for more than {bytes_max} bytes of rows at once"
        )));
    }
    packed.rows.extend_from_slice(row);
    let end = u32::try_from(packed.rows.len()).expect("limited to less just above");
    packed.row_ends.push(end);
    Ok(())
}

#[cfg(test)]
mod tests;
