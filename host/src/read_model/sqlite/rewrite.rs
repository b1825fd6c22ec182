//! Flushes that lay the file out anew, for builds that begin from nothing. Rows come sorted, so pages
//! are filled one after the other and written once, front to back; what the file held is merged in.
//! Inserting the same rows one by one, or changing pages here and there, costs several times as much.
//!
//! A flush of a large build may wait for others in a [run](super::runs) of its own.
//!
//! The new file takes the old one's place by a rename: whoever opens the path finds the one or the
//! other, each with the checkpoint of its rows. There is no WAL while this goes on, which could be
//! taken for the next file's.

mod encode;
mod fill;
mod old;
mod pieces;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::fault::{Doing, fault, io_fault};
use super::guard::Guard;
use super::page_file::PageFile;
use super::runs::{Run, SortedChanges};
use super::schema::TableSql;
use super::{Aside, SqliteReadModel, journal, modes, open, provenance};
use crate::crash_point::{self, CrashPoint};
use crate::event::Position;
use crate::limits;
use crate::read_model::{Changes, Checkpoint, Flush, ReadModelError};
use crate::sqlite_format::DatabasePages;
use fill::TableFill;
use old::OldRows;

/// How long a note waits for readers of the file.
const NOTE_TIMEOUT: Duration = Duration::from_millis(10);

/// Where the B-trees of a database begin, by name.
type Roots = HashMap<String, u32>;

impl SqliteReadModel {
    /// Whether laying everything out anew is worth it for so many bytes of changed rows. `may_wait`: for
    /// those of later flushes.
    pub(super) fn is_worth_rewriting(
        &self,
        flush_bytes: usize,
        may_wait: bool,
    ) -> Result<bool, ReadModelError> {
        // Entries of other indexes than the key's do not come sorted.
        let has_indexes = self.index_exists.iter().flatten().any(|exists| *exists);
        if self.in_place || self.ready || has_indexes || self.in_transaction {
            return Ok(false);
        }
        if self.aside.is_some() {
            return Ok(true);
        }
        // Somebody else may have given it a journal, which would be taken for the next file's.
        let is_in_place = modes::is_changed_in_place(&self.connection)
            .map_err(|error| self.fault(Doing::Read, error))?;
        if is_in_place || open::has_journal(&self.path) {
            return Ok(false);
        }
        let readable = DatabasePages::are_readable(&self.connection)
            .map_err(|error| self.fault(Doing::Read, error))?;
        if !readable || self.checkpoint == Checkpoint::START {
            return Ok(readable);
        }
        let io = |error| io_fault(&self.path, Doing::Write, error);
        let there = fs::metadata(&self.path).map_err(io)?.len();
        let flush_bytes = flush_bytes as u64;
        // Until it is laid out with as much as is there, that waits in runs, and then both are there twice.
        let needed = flush_bytes
            .saturating_add(there)
            .saturating_mul(3)
            .saturating_add(limits::FREE_DISK_BYTES_MIN);
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut free = fs4::available_space(folder).map_err(io)?;
        if free < needed {
            self.layers.replaced.wait();
            free = fs4::available_space(folder).map_err(io)?;
        }
        let flushes_at_once = if may_wait && self.layers.may_have_runs() {
            limits::REWRITE_RUNS_MAX
        } else {
            1
        };
        let factor = limits::REWRITE_FACTOR_MAX * flushes_at_once as u64;
        Ok(there <= flush_bytes.saturating_mul(factor) && free >= needed)
    }

    pub(super) fn rewrite_with(&mut self, flush: Flush<'_>) -> Result<(), ReadModelError> {
        self.between_commits("rewriting it")?;
        if self.is_to_wait(&flush)? {
            self.keep_aside(flush)
        } else {
            self.lay_out(flush)
        }
    }

    /// Whether a flush is better laid out with later ones: until together they are as much as what is
    /// there, or as many as may be. The very first one waits for the second.
    fn is_to_wait(&self, flush: &Flush<'_>) -> Result<bool, ReadModelError> {
        if !flush.may_wait || !self.layers.may_have_runs() {
            return Ok(false);
        }
        if self.checkpoint == Checkpoint::START {
            return Ok(self.aside.is_none());
        }
        let there = fs::metadata(&self.path)
            .map_err(|error| io_fault(&self.path, Doing::Read, error))?
            .len();
        let (runs, bytes) = self.aside.map_or((0, 0), |it| (it.runs, it.bytes));
        let bytes = (bytes + flush.bytes) as u64;
        Ok(runs + 1 < limits::REWRITE_RUNS_MAX && bytes < there)
    }

    fn keep_aside(&mut self, flush: Flush<'_>) -> Result<(), ReadModelError> {
        debug_assert!(flush.journal.is_empty(), "runs hold rows only");
        let run = Run::write(&self.path, flush.tables)?;
        // Makes sure that this host may still write.
        self.begin()?;
        self.note_flushed(flush.checkpoint.position);
        self.layers.add(run);
        let (runs, bytes) = self.aside.map_or((0, 0), |it| (it.runs, it.bytes));
        self.aside = Some(Aside {
            runs: runs + 1,
            bytes: bytes + flush.bytes,
            checkpoint: flush.checkpoint,
            events_per_s: flush.events_per_s,
        });
        Ok(())
    }

    /// Ends the transaction, and notes for others how far the flushes are, unless one of them reads the
    /// file at this moment: it is only a note.
    fn note_flushed(&mut self, flushed: Position) {
        let noted = self
            .connection
            .busy_timeout(NOTE_TIMEOUT)
            .and_then(|()| provenance::update_flushed(&self.connection, flushed))
            .and_then(|()| self.connection.execute_batch("COMMIT"));
        match noted {
            Ok(()) => self.in_transaction = false,
            Err(_) => self.roll_back(),
        }
        // It can't fail: no statement is running.
        let _ = self
            .connection
            .busy_timeout(limits::READ_MODEL_BUSY_TIMEOUT);
    }

    /// Commits what was kept aside.
    pub(super) fn settle(&mut self) -> Result<(), ReadModelError> {
        let Some(aside) = self.aside else {
            return Ok(());
        };
        self.lay_out(Flush {
            tables: Vec::new(),
            journal: &[],
            bytes: 0,
            is_last: false,
            may_wait: false,
            checkpoint: aside.checkpoint,
            events_per_s: aside.events_per_s,
        })
    }

    /// Forgets what was kept aside.
    pub(super) fn drop_aside(&mut self) {
        if self.aside.take().is_some() {
            self.layers.forget_runs();
        }
    }

    fn lay_out(&mut self, flush: Flush<'_>) -> Result<(), ReadModelError> {
        // Nobody else may write meanwhile, or take over: that is seen in the new file then.
        self.begin()?;
        let (checkpoint, is_last) = (flush.checkpoint, flush.is_last);
        let next = open::unfinished_file(&self.path);
        let written = self.write_next(&next, flush);
        let renamed = written.and_then(|()| self.put_in_place(&next));
        if let Err(error) = renamed {
            // Best effort: the next attempt sweeps it up, too.
            let _ = open::remove_unfinished(&self.path);
            return Err(error);
        }
        // The transaction ends with the connection to the old file.
        let next = open::connect_rewritable(&self.path)?;
        let old = std::mem::replace(&mut self.connection, next);
        let runs = self.layers.begin_anew();
        self.layers.replaced.close((old, runs));
        self.in_transaction = false;
        if is_last {
            // Nobody reads it yet.
            self.change_in_place()?;
        }
        self.guard = Guard::install(&self.connection, &self.tables)
            .map_err(|error| self.fault(Doing::Open, error))?;
        self.checkpoint = checkpoint;
        self.aside = None;
        self.note_indexes()
    }

    /// Gives the next file its name.
    fn put_in_place(&self, next: &Path) -> Result<(), ReadModelError> {
        let fault = |error| io_fault(&self.path, Doing::Commit, error);
        let is_unsafe = open::boot_id().is_none();
        if is_unsafe {
            // Nobody would notice that the machine went down.
            let file = fs::File::open(next).map_err(fault)?;
            file.sync_all().map_err(fault)?;
        }
        if open::has_journal(&self.path) {
            return Err(ReadModelError::Locked {
                model: self.path.as_path().into(),
            });
        }
        crash_point::reach(CrashPoint::FileLaidOut);
        fs::rename(next, &self.path).map_err(fault)?;
        crash_point::reach(CrashPoint::FileInPlace);
        match self.path.parent().filter(|_| is_unsafe) {
            Some(folder) => fs::File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(fault),
            None => Ok(()),
        }
    }

    /// Makes the next file, whole but for its name.
    fn write_next(&self, path: &Path, flush: Flush<'_>) -> Result<(), ReadModelError> {
        open::remove_unfinished(&self.path)
            .and_then(|()| fs::File::create_new(path))
            .map_err(|error| io_fault(path, Doing::Create, error))?;
        let now_us = self.clock.now_us();
        open::fill(path, &self.tables, &self.provenance, self.epoch, now_us)?;
        let (page_bytes, roots) = shape_of(path)?;
        let old_roots =
            roots_of(&self.connection).map_err(|error| self.fault(Doing::Read, error))?;
        let mut file = PageFile::open(path, page_bytes)?;
        let runs = self.layers.now().runs;
        let mut changes: HashMap<u16, Changes<'_>> = flush.tables.into_iter().collect();
        for (number, table) in (0..).zip(self.tables.iter()) {
            let changes = SortedChanges::new(number, changes.remove(&number), &runs)?;
            // Also before the first checkpoint there may be rows: of an event that was retried.
            let mut old = OldRows::open(&self.connection, &self.path, table, &old_roots)?;
            let mut fill = TableFill::new(table, page_bytes);
            pieces::each(table, changes, |change| {
                fill.merge(&mut file, &mut old, change, &self.path)
            })?;
            fill.finish(&mut file, &mut old, &roots)?;
        }
        file.finish()?;
        let role = provenance::read(&self.connection, &self.path)?.status.role;
        let connection = open::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let noted = modes::unfinished_mode(&connection)
            .and_then(|()| connection.execute_batch("BEGIN"))
            .and_then(|()| connection.execute(provenance::UPDATE_ROLE, [role.as_str()]))
            .and_then(|_| {
                let (checkpoint, rate) = (flush.checkpoint, flush.events_per_s);
                provenance::update_checkpoint(&connection, checkpoint, now_us, rate)
            });
        noted.map_err(|error| fault(path, Doing::Commit, error))?;
        let kept =
            journal::read(&self.connection).map_err(|error| self.fault(Doing::Read, error))?;
        journal::write(&connection, &kept)
            .and_then(|()| journal::write(&connection, flush.journal))
            .and_then(|()| connection.execute_batch("COMMIT"))
            .map_err(|error| fault(path, Doing::Commit, error))
    }
}

/// Bytes of a page, and where tables begin.
fn shape_of(path: &Path) -> Result<(usize, Roots), ReadModelError> {
    let connection = open::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let read = connection
        .query_row("PRAGMA page_size", [], |row| row.get(0))
        .and_then(|page_bytes| Ok((page_bytes, roots_of(&connection)?)));
    read.map_err(|error| fault(path, Doing::Read, error))
}

fn roots_of(connection: &Connection) -> rusqlite::Result<Roots> {
    let sql = "SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0";
    let mut statement = connection.prepare(sql)?;
    let roots = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    roots.collect()
}

/// The B-tree of a table itself.
fn root_of_table(roots: &Roots, table: &TableSql) -> u32 {
    roots[&table.name]
}
