//! The tables of one build as its module sees them: the row cache over the read model. What the
//! current call stages goes into the cache at once, with a journal to take it back.
//!
//! Tables with a unique index take each change by itself, in order, so that a duplicate is the
//! doing of one event whatever the cut into batches was.

mod scan;

use std::sync::{Arc, Mutex, PoisonError};

use retell_contract::manifest::Manifest;

use super::cache::{Before, FlushNumber, KEYS_AHEAD};
use super::changes::{Change, Changes, MergeError, Packed};
use super::shape::Shape;
use super::table::{Table, UniqueValue};
use super::writer::{Frozen, FrozenTable};
use crate::error_chain;
use crate::read_model::{ReadModel, ReadModelError, RowReader};
use crate::wasm::{ChangeSet, PackedRows, RowSource, RowSourceError};

/// Rows that are fetched at once, at first; twice as many each time. More than a call may carry can be in
/// the way then, and no multiple of it.
const ROWS_AT_FIRST: usize = 64;
/// Keys of one table that a rehearsal notes; what it asks for beyond that, it is told.
const NOTED_KEYS_MAX: usize = 16_384;
const NOTED_KEYS_AT_ONCE: usize = 4_096;
/// What a row takes in the cache beside its bytes, roughly.
const SLOT_BYTES: usize = 96;

/// The writer's end of a read model. The module's end reads beside it.
pub(super) type SharedModel = Arc<Mutex<Box<dyn ReadModel>>>;

/// A change of the current call, and how to take it back.
#[derive(Debug)]
enum Undo {
    Row {
        table: usize,
        key: Vec<u8>,
        before: Before,
    },
    Owner {
        table: usize,
        value: UniqueValue,
        before: Option<Option<Vec<u8>>>,
    },
}

/// See the module's documentation.
pub(super) struct Tables {
    all: Vec<Table>,
    model: SharedModel,
    /// Reads what is committed; opened by the first miss.
    reader: Option<Box<dyn RowReader>>,
    /// The current call's changes; they count only if it succeeds.
    journal: Vec<Undo>,
    has_unique: bool,
    /// Each fetch costs a round trip.
    is_remote: bool,
    /// Keys that a rehearsal asked for in vain, by table; none: this is no rehearsal.
    noted: Option<Vec<Vec<Vec<u8>>>>,
    cache_bytes_max: usize,
    /// Bytes of rows in one answer to the module, and of those that are fetched for one call.
    call_bytes_max: usize,
    /// With so many bytes there is something to forget between two commits, too.
    room_needed_at: usize,
    events_in_call: usize,
    /// Keys and rows that were fetched during this call.
    fetched_bytes: usize,
}

impl Tables {
    /// `from_nothing`: the read model is empty.
    pub(super) fn new(
        manifest: &Manifest,
        model: SharedModel,
        cache_bytes_max: usize,
        call_bytes_max: usize,
        from_nothing: bool,
    ) -> Self {
        let shapes = manifest.tables.iter().map(Shape::new);
        let tables: Vec<Table> = shapes.map(|it| Table::new(it, from_nothing)).collect();
        let is_remote = {
            let model = model.lock().unwrap_or_else(PoisonError::into_inner);
            model.is_remote()
        };
        Self {
            is_remote,
            noted: None,
            has_unique: tables.iter().any(|it| it.shape.has_unique),
            all: tables,
            model,
            reader: None,
            journal: Vec::new(),
            cache_bytes_max,
            call_bytes_max,
            room_needed_at: cache_bytes_max.saturating_add(cache_bytes_max / 4),
            events_in_call: 0,
            fetched_bytes: 0,
        }
    }

    /// Memory of changed rows, roughly, in bytes.
    pub(super) fn dirty_bytes(&self) -> usize {
        self.all.iter().map(|it| it.cache.dirty_bytes()).sum()
    }

    /// A call into the module begins, with a batch of so many events.
    pub(super) fn begin_call(&mut self, events: usize) {
        self.events_in_call = events;
        self.fetched_bytes = 0;
    }

    /// Forgets what the calls before have read and did not change, if it became too much. Changed rows
    /// go once they are committed.
    pub(super) fn make_room(&mut self) {
        if self.bytes() > self.room_needed_at {
            self.evict();
        }
    }

    /// The call is a rehearsal if rows may be missing here and are far away: it is told that there
    /// are none, and what it asked for is fetched at once when it is over.
    pub(super) fn begin_rehearsal(&mut self) {
        let is_one = self.is_remote && !self.all.iter().all(|it| it.cache.is_complete());
        self.noted = is_one.then(|| vec![Vec::new(); self.all.len()]);
    }

    /// Fetches what the rehearsal asked for in vain. True if there was anything: then nothing that
    /// it did counts.
    pub(super) fn end_rehearsal(&mut self) -> Result<bool, ReadModelError> {
        let mut was_one = false;
        for (table, keys) in self.noted.take().into_iter().flatten().enumerate() {
            if !keys.is_empty() {
                was_one = true;
                let mut keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                keys.sort_unstable();
                keys.dedup();
                for keys in keys.chunks(NOTED_KEYS_AT_ONCE) {
                    // The rest is asked for by the call that counts.
                    if self.fetched_bytes <= self.call_bytes_max {
                        self.fetch(table, keys)?;
                    }
                }
            }
        }
        Ok(was_one)
    }

    /// The call failed: what it changed does not count.
    pub(super) fn take_back(&mut self) {
        while let Some(undo) = self.journal.pop() {
            match undo {
                Undo::Row { table, key, before } => self.all[table].restore(&key, before),
                Undo::Owner {
                    table,
                    value,
                    before,
                } => {
                    self.all[table].set_owner(value, before);
                }
            }
        }
    }

    /// The call succeeded: what it staged counts, and so does what it returned, all or nothing.
    pub(super) fn merge(&mut self, changes: &ChangeSet, events: usize) -> Result<(), MergeError> {
        let changes = Changes::check(changes, self.all.len(), events)?;
        // Only a duplicate can stop it half way, or a row that is none in a table that is scanned.
        let may_fail = self.has_unique || self.all.iter().any(Table::is_ordered);
        let mut next = 0;
        while next < changes.len() {
            let table = usize::from(changes.get(next).table);
            let same_table = changes.same_table(next, KEYS_AHEAD);
            let keys = same_table.clone().map(|number| changes.get(number).key);
            self.all[table].cache.look_ahead(keys);
            next = same_table.end;
            for change in same_table.map(|number| changes.get(number)) {
                if may_fail {
                    self.change_for_now(&change)?;
                } else {
                    self.all[table].change(change.key, change.row)?;
                }
            }
        }
        self.journal.clear();
        Ok(())
    }

    /// Hands everything that changed to the writer. The flush before must be committed.
    pub(super) fn freeze(&mut self, flush: FlushNumber) -> Frozen {
        let frozen = (0..).zip(&mut self.all).map(|(number, table)| FrozenTable {
            number,
            shape: table.shape.clone(),
            rows: table.freeze(flush),
        });
        Frozen {
            number: flush,
            tables: frozen.filter(|table| !table.rows.is_empty()).collect(),
        }
    }

    /// Keeps nothing that flushes have replaced.
    pub(super) fn let_go(&mut self) -> Result<(), ReadModelError> {
        self.reader.as_mut().map_or(Ok(()), |it| it.let_go())
    }

    /// A flush is committed: its rows are clean, and may be forgotten to stay within the budget.
    pub(super) fn committed(&mut self, flush: FlushNumber) {
        for table in &mut self.all {
            table.committed(flush);
        }
        if self.bytes() > self.cache_bytes_max {
            self.evict();
        }
    }

    fn bytes(&self) -> usize {
        self.all.iter().map(|it| it.cache.bytes()).sum()
    }

    fn evict(&mut self) {
        let bytes = self.bytes();
        // A little more than needed, so that it is not needed again at once; from each its share.
        let goal = self.cache_bytes_max / 8 * 7;
        for table in &mut self.all {
            let share = table.cache.bytes() as u128 * goal as u128 / bytes as u128;
            table.evict(usize::try_from(share).expect("less than a usize before"));
        }
        // What is left may all be changed: then there is nothing to look for before there is more.
        let left = self.bytes().max(self.cache_bytes_max);
        self.room_needed_at = left.saturating_add(self.cache_bytes_max / 4);
    }

    /// Takes one change of the current call in a way that it can be taken back, and checks unique
    /// values.
    fn change_for_now(&mut self, change: &Change<'_>) -> Result<(), MergeError> {
        let table = usize::from(change.table);
        if self.all[table].shape.has_unique {
            self.fetch(table, &[change.key])?;
            let old = self.all[table].cache.get(change.key).flatten();
            let old = old.map(<[u8]>::to_vec);
            let shape = self.all[table].shape.clone();
            for (number, index) in (0..).zip(&shape.indexes) {
                if index.unique {
                    self.move_unique_value(change, number, old.as_deref())?;
                }
            }
        }
        let before = self.all[table].cache.before(change.key);
        self.all[table].change(change.key, change.row)?;
        self.journal.push(Undo::Row {
            table,
            key: change.key.to_vec(),
            before,
        });
        Ok(())
    }

    /// A row's value in a unique index changes from its old row's to its new row's.
    fn move_unique_value(
        &mut self,
        change: &Change<'_>,
        index: u16,
        old: Option<&[u8]>,
    ) -> Result<(), MergeError> {
        let table = usize::from(change.table);
        let shape = self.all[table].shape.clone();
        let value = |row: &[u8]| shape.unique_value(index, row);
        let before = old.map(value).transpose()?.flatten();
        let after = change.row.map(value).transpose()?.flatten();
        if before == after {
            return Ok(());
        }
        if let Some(value) = &after {
            let owner = self.owner(table, &(index, value.clone()))?;
            if owner.is_some_and(|owner| owner != change.key) {
                return Err(MergeError::Duplicate {
                    event: change.event,
                    message: format!(
                        "table `{}`: another row has the same value in the unique index `{}`",
                        shape.name,
                        shape.indexes[usize::from(index)].name
                    ),
                });
            }
        }
        if let Some(value) = before {
            self.note_owner(table, (index, value), None);
        }
        if let Some(value) = after {
            self.note_owner(table, (index, value), Some(change.key.to_vec()));
        }
        Ok(())
    }

    fn note_owner(&mut self, table: usize, value: UniqueValue, owner: Option<Vec<u8>>) {
        let before = self.all[table].set_owner(value.clone(), Some(owner));
        self.journal.push(Undo::Owner {
            table,
            value,
            before,
        });
    }

    /// Who holds a unique value, as the current call must see it.
    fn owner(
        &mut self,
        table: usize,
        value: &UniqueValue,
    ) -> Result<Option<Vec<u8>>, ReadModelError> {
        match self.all[table].owner(value) {
            Some(owner) => Ok(owner),
            None => {
                let (index, bytes) = value;
                self.reader()?.owner(table_number(table), *index, bytes)
            }
        }
    }

    /// Makes sure that the cache knows each of these keys.
    fn fetch(&mut self, table: usize, keys: &[&[u8]]) -> Result<(), ReadModelError> {
        let cache = &mut self.all[table].cache;
        let is_missing = |key: &&&[u8]| cache.get(key).is_none();
        let missing: Vec<&[u8]> = keys.iter().filter(is_missing).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let found = self.reader()?.get_many(table_number(table), &missing)?;
        for (key, row) in missing.iter().zip(found) {
            self.fetched_bytes += key.len() + row.as_ref().map_or(0, Vec::len) + SLOT_BYTES;
            self.all[table].remember(key, row.as_deref())?;
        }
        Ok(())
    }

    fn reader(&mut self) -> Result<&mut dyn RowReader, ReadModelError> {
        if self.reader.is_none() {
            let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
            self.reader = Some(model.reader()?);
        }
        Ok(&mut **self.reader.as_mut().expect("opened just above"))
    }

    fn answer(&self, rows: usize) -> Answer {
        Answer {
            packed: PackedRows {
                row_ends: Vec::with_capacity(rows),
                rows: Vec::new(),
            },
            bytes_max: self.call_bytes_max,
        }
    }

    fn known_table(&self, table: u16) -> Result<usize, RowSourceError> {
        let known = usize::from(table);
        if known < self.all.len() {
            return Ok(known);
        }
        Err(broken(format!("table {table} is not in the manifest")))
    }
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
        let table = self.known_table(table)?;
        let keys = Packed::check(keys, key_ends)
            .ok_or_else(|| broken("the ends of the keys make no sense"))?
            .as_keys()
            .map_err(broken)?;
        let mut answer = self.answer(keys.len());
        let mut step = ROWS_AT_FIRST;
        let keys_from = |first: usize| (first..keys.len()).map(|number| keys.get(number));
        for (number, key) in keys_from(0).enumerate() {
            if number % KEYS_AHEAD == 0 {
                let next = keys_from(number).take(KEYS_AHEAD);
                self.all[table].cache.look_ahead(next);
            }
            if let Some(row) = self.all[table].cache.get(key) {
                answer.push(row.unwrap_or_default())?;
                continue;
            }
            let noted = self.noted.as_mut();
            let has_room = |noted: &&mut Vec<_>| noted.len() < NOTED_KEYS_MAX;
            if let Some(noted) = noted.and_then(|it| Some(&mut it[table]).filter(has_room)) {
                noted.push(key.to_vec());
                answer.push(&[])?;
                continue;
            }
            // With the first one that is missing come those after it.
            let next: Vec<&[u8]> = keys_from(number).take(step).collect();
            self.fetch(table, &next).map_err(sort_error)?;
            step *= 2;
            // What was fetched is not forgotten before the call is over.
            if self.fetched_bytes > self.call_bytes_max {
                return Err(RowSourceError::TooMuch);
            }
            let row = self.all[table].cache.get(key).flatten();
            answer.push(row.unwrap_or_default())?;
        }
        Ok(answer.packed)
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
        let mut answer = self.answer(0);
        if limit > 0 {
            self.scan_merged(table, index, prefix, after, limit, &mut answer)?;
        }
        Ok(answer.packed)
    }

    fn stage(&mut self, changes: ChangeSet) -> Result<(), RowSourceError> {
        let staged = Changes::check(&changes, self.all.len(), self.events_in_call)
            .and_then(|changes| changes.iter().try_for_each(|it| self.change_for_now(&it)));
        staged.map_err(|error| match error {
            MergeError::Contract { message } => broken(message),
            MergeError::ReadModel(error) => sort_error(error),
            MergeError::Duplicate { event, message } => RowSourceError::Refused { event, message },
        })
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

/// An answer in the making.
struct Answer {
    packed: PackedRows,
    bytes_max: usize,
}

impl Answer {
    fn push(&mut self, row: &[u8]) -> Result<(), RowSourceError> {
        let bytes = self.packed.rows.len() + row.len();
        let end = u32::try_from(bytes).ok();
        let end = end.filter(|_| bytes <= self.bytes_max);
        self.packed
            .row_ends
            .push(end.ok_or(RowSourceError::TooMuch)?);
        self.packed.rows.extend_from_slice(row);
        Ok(())
    }

    fn rows(&self) -> usize {
        self.packed.row_ends.len()
    }
}

#[cfg(test)]
mod tests;
