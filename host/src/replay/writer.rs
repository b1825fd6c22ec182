//! The writer: takes frozen rows, sorts them by key, and writes them with the checkpoint in one
//! transaction. While replaying it does so on a thread of its own, so that the fold goes on; a
//! version that is followed waits for it, so that a flush is over when it returns.

use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use super::cache::{FlushNumber, FrozenRows};
use super::priority::Priority;
use super::shape::Shape;
use super::tables::SharedModel;
use crate::crash_point::{self, CrashPoint};
use crate::read_model::journal::JournalEntry;
use crate::read_model::{self, Checkpoint, ReadModel, ReadModelError, RowChange};

/// Rows written between two looks at whether somebody more urgent waits.
const ROWS_PER_TURN: usize = 4_096;

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
    pub(super) rows: FrozenRows,
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
    /// running. Where there is no thread to be had, the flush is lost.
    pub(super) fn begin(&mut self, flush: Flush) -> std::io::Result<()> {
        let (model, priority) = (self.model.clone(), self.priority.clone());
        let rewrite_bytes_min = self.rewrite_bytes_min;
        let give_way = move || priority.give_way();
        let run = move || write(&model, flush, rewrite_bytes_min, true, &give_way);
        let thread = std::thread::Builder::new().name("retell-writer".to_owned());
        self.running = Some(thread.spawn(run)?);
        Ok(())
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
        table.rows.sort();
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
    let may_wait = may_wait && flush.journal.is_empty();
    if bytes > 0 && is_large && model.is_to_be_rewritten(bytes, may_wait)? {
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

impl Frozen {
    /// Of all keys and rows.
    fn bytes(&self) -> usize {
        self.tables.iter().map(|table| table.rows.bytes()).sum()
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
            let changes = table.changes().enumerate().map(|(number, change)| {
                if number % ROWS_PER_TURN == 0 {
                    give_way();
                }
                change
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
    /// All changes, in the order of their keys.
    fn changes(&self) -> impl Iterator<Item = RowChange<'_>> {
        self.rows.iter().map(|change| RowChange {
            table: self.number,
            key: change.key,
            row: change.row,
            fresh: change.fresh,
        })
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
    let mut rest = table.changes();
    let mut changes = Vec::with_capacity(turn.min(table.rows.len()));
    loop {
        changes.clear();
        changes.extend(rest.by_ref().take(turn));
        if changes.is_empty() {
            return Ok(());
        }
        for change in &changes {
            if let Some(bytes) = change.row {
                table.shape.check_key(change.key, bytes)?;
            }
        }
        model.write(&changes)?;
        give_way();
    }
}
