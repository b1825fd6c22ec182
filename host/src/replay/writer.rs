//! The writer: takes frozen rows, sorts them by key, and writes them with the checkpoint in one
//! transaction. While replaying it does so on a thread of its own, so that the fold goes on; a
//! version that is followed waits for it, so that a flush is over when it returns.

use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use super::cache::{FlushNumber, FrozenRow};
use super::priority::Priority;
use super::shape::Shape;
use super::tables::SharedModel;
use crate::crash_point::{self, CrashPoint};
use crate::key_prefix;
use crate::read_model::journal::JournalEntry;
use crate::read_model::{self, Checkpoint, ReadModel, ReadModelError, RowChange};

/// Rows written between two looks at whether somebody more urgent waits.
const ROWS_PER_TURN: usize = 4_096;
/// Fewer rows are sorted without the help of another thread.
const ROWS_SORTED_ALONE: usize = 32_768;

/// What changed since the flush before, in the writer's hands.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) number: FlushNumber,
    pub(super) tables: Vec<FrozenTable>,
}

/// The changed rows of one table.
#[derive(Debug)]
pub(super) struct FrozenTable {
    pub(super) number: u16,
    pub(super) shape: Arc<Shape>,
    pub(super) rows: Vec<FrozenRow>,
}

/// What a flush reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) number: FlushNumber,
    /// The stored one, which may be an earlier flush's.
    pub(super) checkpoint: Checkpoint,
}

/// One flush: what to write, and up to where that is everything.
pub(super) struct Flush {
    pub(super) frozen: Frozen,
    /// What changed in the journal.
    pub(super) journal: Vec<JournalEntry>,
    /// The read model is made ready next.
    pub(super) is_last: bool,
    pub(super) checkpoint: Checkpoint,
    pub(super) events_per_s: f64,
}

/// Writes a read model, one flush at a time.
pub(super) struct Writer {
    model: SharedModel,
    priority: Arc<Priority>,
    rewrite_bytes_min: usize,
    running: Option<JoinHandle<Result<Written, ReadModelError>>>,
}

impl Writer {
    pub(super) fn new(
        model: SharedModel,
        priority: Arc<Priority>,
        rewrite_bytes_min: usize,
    ) -> Self {
        Self {
            model,
            priority,
            rewrite_bytes_min,
            running: None,
        }
    }

    /// Writes a flush and waits for it; then it is committed. None may be running.
    pub(super) fn write(&mut self, flush: Flush) -> Result<Written, ReadModelError> {
        write(&self.model, flush, self.rewrite_bytes_min, false, &|| {})
    }

    /// Begins a flush on a thread of its own. It may be committed with a later one. None may be
    /// running.
    pub(super) fn begin(&mut self, flush: Flush) {
        let (model, priority) = (self.model.clone(), self.priority.clone());
        let rewrite_bytes_min = self.rewrite_bytes_min;
        let give_way = move || priority.give_way();
        let run = move || write(&model, flush, rewrite_bytes_min, true, &give_way);
        let thread = std::thread::Builder::new()
            .name("retell-writer".to_owned())
            .spawn(run)
            .expect("a process that can't start a thread can't go on");
        self.running = Some(thread);
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The flush that ended since the last look, if one did.
    pub(super) fn ended(&mut self) -> Option<Result<Written, ReadModelError>> {
        let thread = self.running.take_if(|thread| thread.is_finished())?;
        Some(join(thread))
    }

    /// Waits for the flush that is running, if one is.
    pub(super) fn wait(&mut self) -> Option<Result<Written, ReadModelError>> {
        self.running.take().map(join)
    }
}

impl Drop for Writer {
    /// Nothing of the read model is in use once its writer is gone.
    fn drop(&mut self) {
        if let Some(thread) = self.running.take() {
            let _ = thread.join();
        }
    }
}

fn join(thread: JoinHandle<Result<Written, ReadModelError>>) -> Result<Written, ReadModelError> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn write(
    model: &SharedModel,
    mut flush: Flush,
    rewrite_bytes_min: usize,
    may_wait: bool,
    give_way: &(dyn Fn() + Sync),
) -> Result<Written, ReadModelError> {
    for table in &mut flush.frozen.tables {
        sort(&mut table.rows);
    }
    let mut model = model.lock().unwrap_or_else(PoisonError::into_inner);
    let written = write_all(&mut **model, &flush, rewrite_bytes_min, may_wait, give_way);
    if let Err(error) = written {
        model.rollback();
        return Err(error);
    }
    Ok(Written {
        number: flush.frozen.number,
        checkpoint: model.checkpoint(),
    })
}

fn write_all(
    model: &mut dyn ReadModel,
    flush: &Flush,
    rewrite_bytes_min: usize,
    may_wait: bool,
    give_way: &(dyn Fn() + Sync),
) -> Result<(), ReadModelError> {
    let bytes = flush.frozen.bytes();
    let is_large = bytes >= rewrite_bytes_min || model.has_flushes_aside();
    if bytes > 0 && is_large && model.is_to_be_rewritten(bytes)? {
        return model.rewrite(flush.rows(bytes, may_wait, give_way));
    }
    for table in &flush.frozen.tables {
        write_table(model, table, give_way)?;
    }
    if !flush.journal.is_empty() {
        model.record(&flush.journal)?;
        crash_point::reach(CrashPoint::JournalWritten);
    }
    crash_point::reach(CrashPoint::RowsWritten);
    model.commit(flush.checkpoint, flush.events_per_s)?;
    crash_point::reach(CrashPoint::FlushCommitted);
    Ok(())
}

/// Sorts by key, the one half beside the other where there are many.
fn sort(rows: &mut Vec<FrozenRow>) {
    if rows.len() < ROWS_SORTED_ALONE {
        let sorted = with_first_bytes(std::mem::take(rows));
        rows.extend(sorted.into_iter().map(|(_, row)| row));
        return;
    }
    let others = rows.split_off(rows.len() / 2);
    let some = std::mem::take(rows);
    let (some, others) = std::thread::scope(|scope| {
        let others = scope.spawn(|| with_first_bytes(others));
        let some = with_first_bytes(some);
        let others = others.join();
        (
            some,
            others.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    });
    rows.reserve_exact(some.len() + others.len());
    let mut others = others.into_iter().peekable();
    for row in some {
        while let Some((_, before)) = others.next_if(|other| order(other, &row).is_lt()) {
            rows.push(before);
        }
        rows.push(row.1);
    }
    rows.extend(others.map(|(_, row)| row));
}

fn with_first_bytes(rows: Vec<FrozenRow>) -> Vec<(u128, FrozenRow)> {
    let rows = rows.into_iter();
    let mut rows: Vec<_> = rows.map(|row| (key_prefix::of(row.key()), row)).collect();
    rows.sort_unstable_by(order);
    rows
}

fn order((first, a): &(u128, FrozenRow), (second, b): &(u128, FrozenRow)) -> std::cmp::Ordering {
    first.cmp(second).then_with(|| a.key().cmp(b.key()))
}

impl Frozen {
    /// Of all keys and rows.
    fn bytes(&self) -> usize {
        let rows = self.tables.iter().flat_map(|table| &table.rows);
        rows.map(FrozenRow::bytes).sum()
    }
}

impl Flush {
    /// Everything, sorted, to be written at once.
    fn rows<'a>(
        &'a self,
        bytes: usize,
        may_wait: bool,
        give_way: &'a (dyn Fn() + Sync),
    ) -> read_model::Flush<'a> {
        let tables = self.frozen.tables.iter().map(|table| {
            let changes = table.rows.iter().enumerate().map(move |(number, row)| {
                if number % ROWS_PER_TURN == 0 {
                    give_way();
                }
                table.change(row)
            });
            (table.number, Box::new(changes) as read_model::Changes<'a>)
        });
        read_model::Flush {
            tables: tables.collect(),
            journal: &self.journal,
            bytes,
            is_last: self.is_last,
            may_wait,
            checkpoint: self.checkpoint,
            events_per_s: self.events_per_s,
        }
    }
}

impl FrozenTable {
    fn change<'a>(&self, row: &'a FrozenRow) -> RowChange<'a> {
        RowChange {
            table: self.number,
            key: row.key(),
            row: row.row(),
            fresh: row.fresh,
        }
    }
}

fn write_table(
    model: &mut dyn ReadModel,
    table: &FrozenTable,
    give_way: &(dyn Fn() + Sync),
) -> Result<(), ReadModelError> {
    // Where values are unique the model must see all changes at once: rows may swap theirs.
    let turn = if table.shape.has_unique {
        table.rows.len()
    } else {
        ROWS_PER_TURN
    };
    let mut changes = Vec::with_capacity(turn.min(table.rows.len()));
    for rows in table.rows.chunks(turn) {
        changes.clear();
        for row in rows {
            if let Some(bytes) = row.row() {
                table.shape.check_key(row.key(), bytes)?;
            }
            changes.push(table.change(row));
        }
        model.write(&changes)?;
        give_way();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::absence::Absence;
    use crate::replay::cache::TableCache;

    #[test]
    fn rows_are_sorted_by_their_whole_keys() {
        let mut cache = TableCache::new(Absence::new(true));
        let long = |last: u8| [[7; 20].as_slice(), &[last]].concat();
        let mut keys = vec![
            long(2),
            vec![],
            vec![7; 20],
            vec![7; 16],
            vec![0],
            long(1),
            vec![0, 0],
            vec![255],
        ];
        for key in &keys {
            cache.change(key, Some(b"row"));
        }
        let mut rows = cache.freeze(1);
        sort(&mut rows);
        keys.sort();
        let sorted: Vec<&[u8]> = rows.iter().map(FrozenRow::key).collect();
        assert_eq!(sorted, keys);
    }

    #[test]
    fn many_rows_are_sorted_by_two() {
        let count = 3 * ROWS_SORTED_ALONE;
        let mut cache = TableCache::new(Absence::new(true));
        for number in 0..count {
            let key = (number * 7_919 % count).to_be_bytes();
            cache.change(&key, Some(b"row"));
        }
        let mut rows = cache.freeze(1);
        sort(&mut rows);
        assert_eq!(rows.len(), count);
        assert!(
            rows.iter()
                .zip(0..count)
                .all(|(row, n)| row.key() == n.to_be_bytes())
        );
    }
}
